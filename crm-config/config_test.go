//go:build integration

package crmconfig_test

import (
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

func TestLoad(t *testing.T) {
	s := newShop(t)
	crmsh, pcs := s.byCrmsh(), s.byPcs()
	s.verify(crmsh)
	s.verify(pcs)
	a, b := meaning(t, crmsh), meaning(t, pcs)
	for _, line := range a {
		if !slices.Contains(b, line) {
			t.Errorf("only with crmsh: %s", line)
		}
	}
	for _, line := range b {
		if !slices.Contains(a, line) {
			t.Errorf("only with pcs: %s", line)
		}
	}
	if len(a) < 60 {
		t.Errorf("the comparison sees %d facts only:\n%s", len(a), strings.Join(a, "\n"))
	}
}

func TestVerifyCanFail(t *testing.T) {
	s := newShop(t)
	cib := s.empty("bad.xml")
	s.crm(cib, "fencing.crm")
	b, err := os.ReadFile(cib)
	text := strings.Replace(string(b), "</primitive>", "<oddity/></primitive>", 1)
	if err := errors.Join(err, os.WriteFile(cib, []byte(text), 0o600)); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("crm_verify", "--xml-file", cib).CombinedOutput(); err == nil && len(out) == 0 {
		t.Error("crm_verify takes anything")
	}
}

// meaning reduces a configuration to sorted facts in which it does not matter who wrote it: without ids of things that nobody refers
// to, defaults spelled out, and the order of what has none.
func meaning(t *testing.T, path string) []string {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var facts, where []string
	for d := xml.NewDecoder(f); ; {
		token, err := d.Token()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		switch e := token.(type) {
		case xml.StartElement:
			where = append(where, element(e))
			facts = append(facts, strings.Join(where, " / "))
		case xml.EndElement:
			where = where[:len(where)-1]
		}
	}
	facts = slices.DeleteFunc(facts, func(f string) bool { return !strings.Contains(f, "configuration / ") })
	slices.Sort(facts)
	return facts
}

// element writes an element with those of its attributes that mean something.
func element(e xml.StartElement) string {
	named := []string{"primitive", "clone", "rsc_colocation", "rsc_order", "rsc_location", "node"}
	var attributes []string
	for _, a := range e.Attr {
		switch {
		case e.Name.Local == "cib", a.Name.Local == "id" && !slices.Contains(named, e.Name.Local):
		case a.Name.Local == "rsc-role" && a.Value == "Started", a.Name.Local == "kind" && a.Value == "Mandatory": // the defaults
		case a.Name.Local == "interval" && a.Value == "0s":
			attributes = append(attributes, "interval=0")
		default:
			attributes = append(attributes, fmt.Sprintf("%s=%s", a.Name.Local, a.Value))
		}
	}
	slices.Sort(attributes)
	return strings.TrimSpace(e.Name.Local + " " + strings.Join(attributes, " "))
}

// TestFailover asks the scheduler what comes of each failure. The four actions of a failover are what the agent's exit codes and scores
// are made for (the address leaves, the old primary is demoted, a new one promoted, the address comes): nothing else stands in the way.
func TestFailover(t *testing.T) {
	s := newShop(t)
	base := s.byCrmsh()
	started := s.simulate(base)
	slices.Sort(started)
	if want := []string{"start registrard node1", "start registrard node2", "start registrard node3"}; !slices.Equal(started, want) {
		t.Fatalf("start: %q; nobody has a score, so nobody is promoted", started)
	}
	for node := 1; node <= nodes; node++ {
		s.attribute(base, node, "master-registrard", "100")
	}
	if got, want := s.simulate(base), []string{"promote registrard node1", "start registrard-ip node1"}; !slices.Equal(got, want) {
		t.Fatalf("promotion: %q, want %q", got, want)
	}
	s.attribute(base, 1, "master-registrard", "1000")
	if got := s.simulate(base); len(got) != 0 {
		t.Fatalf("at rest: %q", got)
	}
	failover := []string{"stop registrard-ip node1", "demote registrard node1", "promote registrard node2", "start registrard-ip node2"}
	down := failover[:2]
	const failedPromoted = "registrard_monitor_3000@node1=9"
	for _, tc := range []struct {
		name   string
		change func(cib string)
		more   []string
		want   []string
	}{
		{"the waiter has deleted the score of a dead primary", func(cib string) { s.attribute(cib, 1, "master-registrard", "") }, nil, failover},
		{"the monitor has deleted it and says 9", func(cib string) { s.attribute(cib, 1, "master-registrard", "") }, []string{"--op-inject", failedPromoted}, failover},
		{"9 alone would promote the same again", func(string) {}, []string{"--op-inject", failedPromoted},
			[]string{"stop registrard-ip node1", "demote registrard node1", "promote registrard node1", "start registrard-ip node1"}},
		{"the node has lost power", func(string) {}, []string{"--node-fail", "node1"},
			[]string{"fence node1", "promote registrard node2", "start registrard-ip node2"}},
		{"a better score elsewhere does not move a primary", func(cib string) { s.attribute(cib, 2, "master-registrard", "1000") }, nil, nil},
		{"promoted elsewhere, its score not yet raised", func(cib string) {
			s.attribute(cib, 1, "master-registrard", "")
			s.simulate(cib)
			s.attribute(cib, 1, "master-registrard", "100")
		}, nil, nil},
		{"degraded", func(cib string) { s.replace(cib, `"0:8;`, `"0:191;`, `rc-code="8"`, `rc-code="191"`) }, nil, nil},
		{"no quorum", func(cib string) { s.replace(cib, `have-quorum="1"`, `have-quorum="0"`) }, nil, down},
		{"failed three times as primary: a replica from now on", func(cib string) {
			s.attribute(cib, 1, "fail-count-registrard#monitor_3000", "3")
		}, nil, failover},
		{"failed five times: not here", func(cib string) { s.attribute(cib, 1, "fail-count-registrard#monitor_3000", "5") }, nil,
			[]string{"stop registrard-ip node1", "demote registrard node1", "stop registrard node1", "promote registrard node2", "start registrard-ip node2"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			cib := s.copy(base, "case.xml")
			tc.change(cib)
			if got := s.simulate(cib, tc.more...); !slices.Equal(got, tc.want) {
				t.Errorf("%q, want %q", got, tc.want)
			}
		})
	}
}

// replace changes the text of a cluster; each of the old strings must be there.
func (s *shop) replace(cib string, pairs ...string) {
	s.t.Helper()
	b, err := os.ReadFile(cib)
	if err != nil {
		s.t.Fatal(err)
	}
	for i := 0; i < len(pairs); i += 2 {
		if !strings.Contains(string(b), pairs[i]) {
			s.t.Fatalf("no %s in the cluster", pairs[i])
		}
	}
	if err := os.WriteFile(cib, []byte(strings.NewReplacer(pairs...).Replace(string(b))), 0o600); err != nil {
		s.t.Fatal(err)
	}
}
