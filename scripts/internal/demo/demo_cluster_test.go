//go:build cluster

package demo_test

import (
	"os"
	"strings"
	"testing"

	"sipha/scripts/internal/demo"
	"sipha/scripts/internal/lab"
	"sipha/scripts/internal/labtest"
)

func TestMain(m *testing.M) { os.Exit(labtest.Run(m, labtest.Options{Nodes: 3})) }

// The story is told twice, and the second time after one that ended with a node off and another cut.
func TestStory(t *testing.T) {
	c := labtest.Whole(t)
	const phones = 500
	for i := range 2 {
		var out strings.Builder
		if err := demo.Story(t.Context(), c.Lab, phones, &out); err != nil {
			t.Fatalf("telling %d: %v\n%s", i+1, err, &out)
		}
		t.Log("\n" + out.String())
		s, err := c.Status(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if n := s.Nodes[0]; s.Missing() != "" || n.Users != phones || n.Bindings != phones-phones/10 {
			t.Errorf("telling %d left %d users and %d bindings: %s", i+1, n.Users, n.Bindings, s.Missing())
		}
		c.PowerOff(t, s.Primary())
		c.Link(t, "node2", lab.Faults{Loss: 1})
	}
}

// A newcomer's user is there, with her phone, however often she is asked for.
func TestUser(t *testing.T) {
	c := labtest.Whole(t)
	for range 2 {
		var out strings.Builder
		if err := demo.User(t.Context(), c.Lab, &out); err != nil {
			t.Fatalf("%v\n%s", err, &out)
		}
	}
	if got := c.Exec(t, c.Primary(t), "registrard", "contacts", "show", "alice@example.org"); strings.Count(got, "Contact:") != 1 {
		t.Errorf("alice has not one contact:\n%s", got)
	}
}

func TestFailovers(t *testing.T) {
	c := labtest.Whole(t)
	var out strings.Builder
	if err := demo.Failovers(t.Context(), c.Lab, 1, []string{"kill"}, &out); err != nil {
		t.Fatalf("%v\n%s", err, &out)
	}
	t.Log("\n" + out.String())
	if !strings.Contains(out.String(), "kill -9") || strings.Contains(out.String(), " 0.00 s") {
		t.Errorf("no time for it:\n%s", &out)
	}
}
