package main

import (
	"errors"
	"net/netip"
	"slices"
	"testing"

	"sipha/agent/supervise"
	"sipha/ocf"
	"sipha/registrard/control"
)

// TestJudge is the table of docs/agent.md: every state that a daemon may be in, and what the cluster is told.
func TestJudge(t *testing.T) {
	t.Parallel()
	client := &control.Client{} // never asked
	status := func(change func(*control.Status)) *sight {
		s := synced()
		s.State, s.Role = control.StateSynced, control.RoleReplica
		change(&s)
		return &sight{state: supervise.State{Phase: supervise.Running}, daemon: client, status: s}
	}
	replica := func(state control.State) *sight { return status(func(s *control.Status) { s.State = state }) }
	primary := func(change func(*control.Status)) *sight {
		return status(func(s *control.Status) {
			s.Role, s.State = control.RolePrimary, control.StatePrimary
			n := control.ScorePromoted
			s.Score = &n
			change(s)
		})
	}
	same := func(*control.Status) {}
	silent := func(state supervise.State) *sight { return &sight{state: state, mute: errors.New("timed out")} }
	exited := func(code, signal int, known bool) *sight {
		return silent(supervise.State{Phase: supervise.Exited, Exit: supervise.Exit{Code: code, Signal: signal, Known: known}, Words: "registrard: bad day"})
	}
	for _, tc := range []struct {
		name        string
		sight       *sight
		promoted    bool // before
		probe       bool
		code        ocf.ExitCode
		reason      string
		score       int // -1: none
		remembersIt bool
	}{
		{"synced replica", replica(control.StateSynced), false, false, 0, "", 100, false},
		{"joining", replica(control.StateJoining), false, false, 0, "", 100, false},
		{"syncing", replica(control.StateSyncing), false, false, 0, "", 100, false},
		{"behind", status(func(s *control.Status) { s.State, s.Progress = control.StateBehind, "by 12" }), false, false, 0, "", 100, false},
		{"no score", status(func(s *control.Status) { s.Score = nil }), false, false, 0, "", -1, false},
		{"disconnected", replica(control.StateDisconnected), false, false, 190, "no connection to Corosync", 100, false},
		{"replica without quorum", status(func(s *control.Status) { s.Quorate = false }), false, false, 0, "", 100, false},
		{"standalone", status(func(s *control.Status) { s.Quorate, s.Standalone = false, true }), false, false, 0, "", 100, false},
		{"degraded by its own word", status(func(s *control.Status) { s.Degraded = []string{"disk slow", "no fencing"} }), false, false, 190, "disk slow; no fencing", 100, false},
		{"another node is away", status(func(s *control.Status) {
			s.Voters[1] = control.Voter{NodeID: 2, Name: "node2"}
		}), false, false, 0, "", 100, false},
		{"another node is away, and more", status(func(s *control.Status) {
			s.Voters[1] = control.Voter{NodeID: 2, Name: "node2"}
			s.Degraded = []string{"disk slow"}
		}), false, false, 190, "disk slow", 100, false},
		{"failed replica", status(func(s *control.Status) { s.State, s.LastError = control.StateFailed, "disk full" }), false, false, 1, "failed: disk full", -1, false},
		{"leaving replica", replica(control.StateLeaving), false, false, 1, "the daemon is shutting down", -1, false},

		{"primary", primary(same), true, false, 8, "", 1000, true},
		{"primary nobody has told us of", primary(same), false, false, 8, "", 1000, true},
		{"claiming", primary(func(s *control.Status) { s.Role, s.State = control.RoleReplica, control.StateClaiming }), true, false, 8, "", 1000, true},
		{"primary suspended", primary(func(s *control.Status) { s.State, s.Quorate, s.Serving = control.StateSuspended, false, false }), true, false, 8, "", 1000, true},
		{"primary not serving", primary(func(s *control.Status) { s.Serving = false }), true, false, 8, "", 1000, true},
		{"primary alone", primary(func(s *control.Status) { s.Members = s.Members[:1] }), true, false, 8, "", 1000, true},
		{"primary with one voter", primary(func(s *control.Status) { s.Voters, s.Members = s.Voters[:1], s.Members[:1] }), true, false, 8, "", 1000, true},
		{"primary disconnected", primary(func(s *control.Status) { s.State = control.StateDisconnected }), true, false, 191, "no connection to Corosync", 1000, true},
		{"failed primary", primary(func(s *control.Status) { s.State, s.LastError = control.StateFailed, "no commit" }), true, false, 9, "failed: no commit", -1, true},
		{"failed while claiming", status(func(s *control.Status) { s.State, s.LastError = control.StateFailed, "no grants" }), true, false, 9, "failed: no grants", -1, true},
		{"leaving primary", primary(func(s *control.Status) { s.State = control.StateLeaving }), true, false, 9, "the daemon is shutting down", -1, true},
		{"deposed", replica(control.StateSynced), true, false, 9, "deposed: it is a replica now, synced", -1, true},
		{"deposed, seen by a probe", replica(control.StateSynced), true, true, 0, "", 100, false},

		{"never started", silent(supervise.State{}), false, true, 7, "", -1, false},
		{"mute replica", silent(supervise.State{Phase: supervise.Running}), false, false, 1, "the daemon does not answer: timed out", -1, false},
		{"mute primary", silent(supervise.State{Phase: supervise.Running}), true, false, 9, "the daemon does not answer: timed out", -1, true},
		{"ended properly", exited(0, 0, true), false, false, 7, "the daemon ended by itself", -1, false},
		{"primary ended properly", exited(0, 0, true), true, false, 7, "the daemon ended by itself", -1, false},
		{"died with a word", exited(70, 0, true), false, false, 1, "bad day (exit code 70)", -1, false},
		{"primary died with a word", exited(70, 0, true), true, false, 9, "bad day (exit code 70)", -1, true},
		{"primary killed", exited(-1, 9, true), true, false, 9, "the daemon was killed by signal 9", -1, true},
		{"primary died unseen", exited(0, 0, false), true, true, 9, "the daemon ended, nobody saw how", -1, true},
	} {
		v := judge(tc.sight, tc.promoted, tc.probe)
		score := -1
		if v.score != nil {
			score = *v.score
		}
		if v.code != tc.code || v.reason != tc.reason || score != tc.score || v.promoted != tc.remembersIt {
			t.Errorf("%s: %v %q score %d promoted %v", tc.name, v.code, v.reason, score, v.promoted)
		}
	}
}

// TestCodeOf: no end of a daemon may stop the resource on every node.
func TestCodeOf(t *testing.T) {
	t.Parallel()
	for code := range 256 {
		for _, e := range []supervise.Exit{{Code: code, Known: true}, {Code: code}, {Code: -1, Signal: code, Known: true}} {
			if got := codeOf(e); got == ocf.ErrConfigured || got == ocf.Success || got > ocf.ErrInstalled {
				t.Errorf("%+v: %v", e, got)
			}
		}
	}
}

func TestParseListeners(t *testing.T) {
	t.Parallel()
	got, err := parseListeners(`["udp:0.0.0.0:5060", "TCP:[::]:5060", "tls:192.0.2.1:5061"]`)
	want := []listener{
		{"udp", netip.MustParseAddrPort("0.0.0.0:5060")}, {"tcp", netip.MustParseAddrPort("[::]:5060")}, {"tls", netip.MustParseAddrPort("192.0.2.1:5061")},
	}
	if err != nil || !slices.Equal(got, want) {
		t.Errorf("%v, %v", got, err)
	}
	for _, bad := range []string{"", "x", `["udp"]`, `["udp:host:5060"]`, `["udp:1.2.3.4:99999"]`, `[1]`} {
		if got, err := parseListeners(bad); err == nil {
			t.Errorf("%q: %v", bad, got)
		}
	}
}

func FuzzParseListeners(f *testing.F) {
	f.Add(`["udp:0.0.0.0:5060", "tcp:[::1%eth0]:5060"]`)
	f.Add(`null`)
	f.Fuzz(func(t *testing.T, value string) {
		list, err := parseListeners(value)
		if err != nil && list != nil {
			t.Errorf("%q: %v with %v", value, list, err)
		}
		for _, l := range list {
			if !l.address.IsValid() {
				t.Errorf("%q: %v", value, l)
			}
		}
	})
}

func TestReachable(t *testing.T) {
	t.Parallel()
	local := []netip.Addr{netip.MustParseAddr("192.0.2.11"), netip.MustParseAddr("2001:db8::11")}
	for _, tc := range []struct{ listen, want string }{
		{"0.0.0.0:5060", "127.0.0.1:5060"},
		{"[::]:5060", "[::1]:5060"},
		{"127.0.0.2:5060", "127.0.0.2:5060"},
		{"192.0.2.11:5060", "192.0.2.11:5060"},
		{"[2001:db8::11]:5060", "[2001:db8::11]:5060"},
		{"192.0.2.100:5060", "invalid AddrPort"}, // the virtual address, elsewhere
	} {
		if got := reachable(netip.MustParseAddrPort(tc.listen), local); got.String() != tc.want {
			t.Errorf("%s: %s, want %s", tc.listen, got, tc.want)
		}
	}
}
