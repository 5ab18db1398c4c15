package lab

import (
	"strings"
	"testing"
)

// healthy is a lab of three whose second node is the primary.
func healthy() *Status {
	s := &Status{Lab: nameDefault, VIP: VIP(), VIPNode: "node2", DC: "node1", Quorate: true, Fencing: true}
	for _, name := range []string{"node1", "node2", "node3"} {
		n := NodeStatus{
			Name: name, Role: "replica", State: "synced", Epoch: "3.2", Index: 42, Committed: 41, Digest: "4f175eae60a6ffff", Synced: true, Bindings: 1, Users: 10001,
			Pacemaker: "unpromoted", Address: Addr(name).String(), Machine: Machine{Name: name, Power: true, Phase: phasePacemaker},
		}
		if name == "node2" {
			n.Role, n.State, n.Pacemaker, n.Serving = "primary", "primary", "promoted", true
		}
		s.Nodes = append(s.Nodes, n)
	}
	return s
}

// off takes a node's power, as the status shows it after the cluster has noticed.
func (s *Status) off(name string, held bool) {
	n := s.Node(name)
	*n = NodeStatus{Name: name, Role: "off", Pacemaker: "offline", Address: n.Address, Machine: Machine{Name: name, Held: held}}
}

func TestPrint(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name   string
		change func(*Status)
		want   string
	}{
		{"whole", func(*Status) {}, `
NODE   ADDRESS     ROLE     STATE    EPOCH  COMMITTED  DIGEST        IN SYNC  PACEMAKER   NOTE
node1  192.0.2.11  replica  synced   3.2    41         4f175eae60a6  yes      unpromoted
node2  192.0.2.12  primary  primary  3.2    41         4f175eae60a6  yes      promoted
node3  192.0.2.13  replica  synced   3.2    41         4f175eae60a6  yes      unpromoted

Phones are served at 192.0.2.100 by node2, the primary; 3 of 3 nodes are in sync.
Content: 10001 users, 1 binding.
`},
		{"no power", func(s *Status) { s.off("node3", true) }, `
NODE   ADDRESS     ROLE     STATE    EPOCH  COMMITTED  DIGEST        IN SYNC  PACEMAKER   NOTE
node1  192.0.2.11  replica  synced   3.2    41         4f175eae60a6  yes      unpromoted
node2  192.0.2.12  primary  primary  3.2    41         4f175eae60a6  yes      promoted
node3  192.0.2.13  off      -        -      -          -             -        offline     no power; scripts/lab poweron node3

Phones are served at 192.0.2.100 by node2, the primary; 2 of 3 nodes are in sync.
node3 is off.
Content: 10001 users, 1 binding.
`},
		{"fenced, another name, a failure", func(s *Status) {
			s.Lab = "other"
			s.off("node1", false)
			s.Failures = []string{"registrard_monitor_3000 on node1: not running"}
		}, `
NODE   ADDRESS     ROLE     STATE    EPOCH  COMMITTED  DIGEST        IN SYNC  PACEMAKER   NOTE
node1  192.0.2.11  off      -        -      -          -             -        offline     fenced; LAB=other scripts/lab poweron node1
node2  192.0.2.12  primary  primary  3.2    41         4f175eae60a6  yes      promoted
node3  192.0.2.13  replica  synced   3.2    41         4f175eae60a6  yes      unpromoted

Phones are served at 192.0.2.100 by node2, the primary; 2 of 3 nodes are in sync.
node1 is off.
Content: 10001 users, 1 binding.
Failed earlier, as Pacemaker remembers: registrard_monitor_3000 on node1: not running
`},
		{"one starts, one catches up", func(s *Status) {
			s.off("node1", false)
			n := s.Node("node1")
			n.Power, n.Phase, n.Role, n.State = true, phaseCorosync, "down", "no answer"
			n = s.Node("node3")
			n.State, n.Synced, n.Progress = "syncing", false, "syncing 41 %"
		}, `
NODE   ADDRESS     ROLE      STATE         EPOCH  COMMITTED  DIGEST        IN SYNC  PACEMAKER   NOTE
node1  192.0.2.11  starting  -             -      -          -             -        offline
node2  192.0.2.12  primary   primary       3.2    41         4f175eae60a6  yes      promoted
node3  192.0.2.13  replica   syncing 41 %  3.2    41         4f175eae60a6  no       unpromoted

Phones are served at 192.0.2.100 by node2, the primary; 1 of 3 nodes are in sync.
node1 is starting, node3 is not in sync.
Content: 10001 users, 1 binding.
`},
		{"the primary is cut off, and its daemon is dead elsewhere", func(s *Status) {
			s.Node("node2").Cut = true
			s.Node("node2").Role, s.Node("node2").State, s.Node("node2").Synced = "replica", "suspended", false
			s.Node("node3").Role, s.Node("node3").State, s.Node("node3").Synced = "down", "no answer", false
			s.VIPNode = ""
		}, `
NODE   ADDRESS     ROLE     STATE      EPOCH  COMMITTED  DIGEST        IN SYNC  PACEMAKER   NOTE
node1  192.0.2.11  replica  synced     3.2    41         4f175eae60a6  yes      unpromoted
node2  192.0.2.12  replica  suspended  3.2    41         4f175eae60a6  no       promoted    cut off; scripts/lab heal node2
node3  192.0.2.13  down     no answer  -      -          -             -        unpromoted

Phones are not served at 192.0.2.100 at the moment: there is not exactly one primary.
node2 is not in sync, node3 does not answer.
`},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			s := healthy()
			tc.change(s)
			var b strings.Builder
			if err := s.Print(&b); err != nil {
				t.Fatal(err)
			}
			if got := "\n" + b.String(); got != tc.want {
				t.Errorf("got:%s\nwant:%s", got, tc.want)
			}
		})
	}
}
