package lab

import (
	"bytes"
	"encoding/json"
	"encoding/xml"
	"net"
	"path/filepath"
	"strings"
	"testing"
)

func TestOpen(t *testing.T) {
	for _, name := range []string{"a", "default", "t-123", "0"} {
		if l, err := Open(name); err != nil || l.Name() != name {
			t.Errorf("%q: %v", name, err)
		}
	}
	for _, name := range []string{"-a", "A", "../a", "a/b", "a b", strings.Repeat("a", 25)} {
		if _, err := Open(name); err == nil {
			t.Errorf("%q was taken", name)
		}
	}
	t.Setenv("LAB", "other")
	if l, err := Open(""); err != nil || l.Name() != "other" {
		t.Errorf("LAB=other: %v, %v", l, err)
	}
}

func TestAddresses(t *testing.T) {
	t.Parallel()
	seen := map[string]string{VIP().String(): "vip"}
	for _, n := range []string{"node1", "node2", "node3", "node4", "node5", Client} {
		for _, a := range []string{Addr(n).String(), Addr6(n).String(), mac(n)} {
			if seen[a] != "" {
				t.Errorf("%s and %s share %s", n, seen[a], a)
			}
			seen[a] = n
		}
	}
	for _, n := range []string{"", "node0", "node6", "vip"} {
		if Addr(n).IsValid() || Addr6(n).IsValid() {
			t.Errorf("%q has an address", n)
		}
	}
}

func TestCorosyncConf(t *testing.T) {
	t.Parallel()
	for nodes := NodesMin; nodes <= NodesMax; nodes++ {
		s := spec{Lab: "x", Nodes: nodes}
		conf := s.corosyncConf()
		if got := strings.Count(conf, "ring0_addr:"); got != nodes {
			t.Errorf("%d nodes: %d addresses", nodes, got)
		}
		if strings.Count(conf, "{") != strings.Count(conf, "}") {
			t.Errorf("%d nodes: braces do not match", nodes)
		}
		if got := strings.Contains(conf, "two_node: 1"); got != (nodes == 2) {
			t.Errorf("%d nodes: two_node %t", nodes, got)
		}
	}
}

func TestSeedCIB(t *testing.T) {
	t.Parallel()
	seed, err := seedCIB(`<cib epoch="1"><configuration><crm_config/></configuration></cib>`)
	if err != nil || !strings.Contains(seed, `name="dc-deadtime" value="2s"`) {
		t.Errorf("%q, %v", seed, err)
	}
	if err := xml.Unmarshal([]byte(seed), new(struct{})); err != nil {
		t.Error(err)
	}
	if _, err := seedCIB("<cib/>"); err == nil {
		t.Error("a CIB without crm_config was taken")
	}
}

func TestFenceMetadata(t *testing.T) {
	t.Parallel()
	var out, errs bytes.Buffer
	if status := FenceMain(nil, strings.NewReader("action=metadata\n"), &out, &errs); status != 0 {
		t.Fatalf("status %d: %s", status, &errs)
	}
	var meta struct {
		Name    string `xml:"name,attr"`
		Actions []struct {
			Name string `xml:"name,attr"`
		} `xml:"actions>action"`
	}
	if err := xml.Unmarshal(out.Bytes(), &meta); err != nil || meta.Name != FenceAgent {
		t.Fatalf("%+v, %v", meta, err)
	}
	for _, a := range meta.Actions {
		if strings.HasPrefix(a.Name, "metadata") || a.Name == "validate-all" {
			continue
		}
		// Outside a node there is no power switch: a known action fails at that.
		errs.Reset()
		if status := FenceMain([]string{"--action=" + a.Name, "-n", "node1"}, nil, &out, &errs); status != 1 || strings.Contains(errs.String(), "unknown action") {
			t.Errorf("%s: status %d: %s", a.Name, status, &errs)
		}
	}
	if status := FenceMain([]string{"-o", "explode"}, nil, &out, &errs); status != 1 {
		t.Errorf("an unknown action returned %d", status)
	}
}

// A request that is no JSON, or whose asker has gone, is not acted on.
func TestAlive(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "s")
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	near, err := net.Dial("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	far, err := l.AcceptUnix()
	if err != nil {
		t.Fatal(err)
	}
	defer far.Close()
	if !alive(far) {
		t.Error("a waiting asker counts as gone")
	}
	if err := near.Close(); err != nil {
		t.Fatal(err)
	}
	if alive(far) {
		t.Error("an asker that is gone counts as waiting")
	}
}

const monitorXML = `<pacemaker-result api-version="2.25" request="crm_mon"><summary>
<current_dc present="true" version="2.1.5" name="node2" id="2" with_quorum="true"/></summary>
<nodes><node name="node1" online="true" unclean="false" pending="false"/><node name="node2" online="true"/><node name="node3" online="false" unclean="true"/><node name="node4" online="false"/></nodes>
<resources><resource id="p_vip" resource_agent="ocf:heartbeat:IPaddr2" role="Started" active="true"><node name="node2"/></resource>
<resource id="fencing" resource_agent="stonith:fence_lab" role="Started" active="true"><node name="node1"/></resource>
<clone id="cl" multi_state="true"><resource id="p" resource_agent="ocf:sipha:registrard" role="Promoted" active="true"><node name="node2"/></resource>
<resource id="p" role="Unpromoted" active="true"><node name="node1"/></resource><resource id="p" role="Stopped" active="false"/></clone></resources>
<failures><failure op_key="p_start_0" node="node4" exitstatus="error" exitcode="1" exitreason="no"/>
<failure op_key="p_monitor_3000" node="node2" exitstatus="promoted (degraded)" exitcode="191"/></failures></pacemaker-result>`

func TestView(t *testing.T) {
	t.Parallel()
	v := new(view)
	if err := xml.Unmarshal([]byte(monitorXML), v); err != nil {
		t.Fatal(err)
	}
	for node, want := range map[string]string{"node1": "unpromoted", "node2": "promoted", "node3": "unclean", "node4": "offline", "node9": "unknown"} {
		if got := v.node(node); got != want {
			t.Errorf("%s is %s, want %s", node, got, want)
		}
	}
	if v.vip() != "node2" || !v.fencing() || len(v.failures()) != 1 || !v.Summary.DC.Quorum {
		t.Errorf("vip %q, fencing %t, failures %q", v.vip(), v.fencing(), v.failures())
	}
}

func TestMissing(t *testing.T) {
	t.Parallel()
	whole := func() *Status {
		s := &Status{Quorate: true, Fencing: true, VIPNode: "node1"}
		for i, role := range []string{"primary", "replica"} {
			n := NodeStatus{Name: []string{"node1", "node2"}[i], Role: role, Synced: true, Pacemaker: []string{"promoted", "unpromoted"}[i]}
			n.Power, n.Phase = true, phasePacemaker
			s.Nodes = append(s.Nodes, n)
		}
		return s
	}
	if got := whole().Missing(); got != "" {
		t.Fatalf("a whole lab misses %q", got)
	}
	for name, spoil := range map[string]func(*Status){
		"power":     func(s *Status) { s.Nodes[1].Power = false },
		"start":     func(s *Status) { s.Nodes[1].Phase = phaseBooted },
		"pacemaker": func(s *Status) { s.Nodes[1].Pacemaker = "offline" },
		"daemon":    func(s *Status) { s.Nodes[1].Role = "down" },
		"sync":      func(s *Status) { s.Nodes[1].Synced = false },
		"quorum":    func(s *Status) { s.Quorate = false },
		"primaries": func(s *Status) { s.Nodes[1].Role = "primary" },
		"fencing":   func(s *Status) { s.Fencing = false },
		"address":   func(s *Status) { s.VIPNode = "node2" },
	} {
		s := whole()
		spoil(s)
		if s.Missing() == "" {
			t.Errorf("%s: nothing is missing", name)
		}
	}
}

// The fields that scripts rely on.
func TestStatusJSON(t *testing.T) {
	t.Parallel()
	n := NodeStatus{Name: "node1", Role: "primary"}
	n.Machine.Name = "node1"
	raw, err := json.Marshal(Status{Nodes: []NodeStatus{n}})
	if err != nil {
		t.Fatal(err)
	}
	var got struct{ Nodes []map[string]any }
	if err := json.Unmarshal(raw, &got); err != nil {
		t.Fatal(err)
	}
	for _, field := range []string{"name", "role", "epoch", "index", "digest", "synced", "power", "cut", "held", "pacemaker"} {
		if _, ok := got.Nodes[0][field]; !ok {
			t.Errorf("no field %q in %s", field, raw)
		}
	}
}
