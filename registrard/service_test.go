package main

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"

	"sipha/registrard/control"
	"sipha/registrard/location"
	"sipha/registrard/node"
	"sipha/registrard/replica"
)

func TestStatusOfNode(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name   string
		change func(*node.Status)
		role   control.Role
		state  control.State
	}{
		{"Serving", func(*node.Status) {}, control.RolePrimary, control.StatePrimary},
		{"Suspended", func(s *node.Status) { s.State, s.Serving = replica.StateSuspended, false }, control.RolePrimary, control.StateSuspended},
		{"Claiming", func(s *node.Status) { s.State = replica.StateClaiming }, control.RoleReplica, control.StateClaiming},
		{"Failed", func(s *node.Status) { s.State = replica.StateFailed }, control.RolePrimary, control.StateFailed},
		{"Synced", func(s *node.Status) { s.State = replica.StateSynced }, control.RoleReplica, control.StateSynced},
		{"Behind", func(s *node.Status) { s.State = replica.StateBehind }, control.RoleReplica, control.StateBehind},
		{"Differs", func(s *node.Status) { s.State = replica.StateDiffers }, control.RoleReplica, control.StateBehind},
		{"Syncing", func(s *node.Status) { s.State = replica.StateSyncing }, control.RoleReplica, control.StateSyncing},
		{"Waiting", func(s *node.Status) { s.State = replica.StateWaiting }, control.RoleReplica, control.StateWaiting},
		{"Alone", func(s *node.Status) { s.State = replica.StateAlone }, control.RoleReplica, control.StateSuspended},
		{"Starting", func(s *node.Status) { s.State = "" }, control.RoleReplica, control.StateJoining},
		{"Disconnected", func(s *node.Status) { *s = node.Status{Link: node.LinkDisconnected} }, control.RoleReplica, control.StateDisconnected},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			n := newFakeNode()
			tt.change(&n.status)
			s := newTestService(n, newConfig()).Status()
			if s.Role != tt.role || s.State != tt.state {
				t.Errorf("%s, %s, want %s, %s", s.Role, s.State, tt.role, tt.state)
			}
		})
	}
}

func TestStatusFields(t *testing.T) {
	t.Parallel()
	n := newFakeNode()
	s := newTestService(n, newConfig())
	s.bus = func() bool { return false }
	s.restart = []string{"sip.listen"}
	got := s.Status()
	score := 1000
	want := control.Status{
		Node: "node1", NodeID: 1, Instance: "registrard", Role: control.RolePrimary, State: control.StatePrimary, Epoch: "7.1", Index: 42, Committed: 42,
		Digest: "00000000000000000000000000000000", Synced: true, Complete: true, Serving: true, Quorate: true, Ring: "1.5c",
		Voters: []control.Voter{{NodeID: 1, Name: "node1", Here: true}, {NodeID: 2, Name: "node2", Here: true}, {NodeID: 3, Name: "node3"}},
		Members: []control.Member{
			{NodeID: 1, Name: "node1", Role: control.RolePrimary, Index: 42, Synced: true}, {NodeID: 2, Name: "node2", Role: control.RoleReplica, Index: 42, Synced: true, ConfigDiffers: true},
		},
		Score:    &score,
		Degraded: []string{"not on the system bus", "sip.listen has changed in the configuration: restart to put it in force"},
		PID:      got.PID, Version: "1.0-test", Durable: true, ConfigHash: fmt.Sprintf("%016x", newConfig().Hash()),
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
	n.status.State, n.status.Progress, n.status.Total, n.status.Score = replica.StateSyncing, 41, 100, replica.ScoreNone
	if got := s.Status(); got.Progress != "syncing 41 %" || got.Score != nil {
		t.Errorf("progress %q, score %v", got.Progress, got.Score)
	}
}

func TestNodeErrors(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ err, want error }{
		{node.ErrNotServing, control.ErrNotPrimary},
		{fmt.Errorf("%w (%w)", node.ErrNoPrimary, node.ErrOverloaded), control.ErrNotPrimary},
		{node.ErrOverloaded, control.ErrBusy},
		{node.ErrUnknown, control.ErrTimeout},
		{node.ErrTimeout, control.ErrTimeout},
		{node.ErrClosed, control.ErrShuttingDown},
		{context.DeadlineExceeded, context.DeadlineExceeded},
	} {
		n := newFakeNode()
		n.err = fmt.Errorf("promote: %w", tt.err)
		s := newTestService(n, newConfig())
		first := newFakeNode()
		first.err, first.status.State = n.err, replica.StateWaiting
		waiting := newTestService(first, newConfig())
		for what, err := range map[string]error{
			"promote": s.Promote(t.Context()), "demote": s.Demote(t.Context()), "bootstrap": waiting.Bootstrap(t.Context()), "put": s.PutUsers(t.Context(), make([]location.User, 1), true),
		} {
			if !errors.Is(err, tt.want) {
				t.Errorf("%s after %v: %v, want %v", what, tt.err, err, tt.want)
			}
		}
	}
}

// TestPages lists many AORs, most of which have no contact or no user, by small pages: nothing is left out or told twice.
func TestPages(t *testing.T) {
	t.Parallel()
	n := newFakeNode()
	s := newTestService(n, newConfig())
	const count = 97
	var users, contacts []location.AOR
	for i := range count {
		aor := location.AOR(fmt.Sprintf("sip:u%02d@example.org", i))
		if i%3 == 0 {
			n.apply(&location.UserChange{User: location.User{AOR: aor, Username: "u", Realm: "r", Has: 2}})
			users = append(users, aor)
		}
		if i%5 == 0 || i%3 != 0 {
			expires := fakeNow + 1000
			if i%7 == 0 {
				expires = fakeNow // has run out
			} else {
				contacts = append(contacts, aor)
			}
			n.apply(&location.BindingsChange{AOR: aor, Put: []location.Binding{{Contact: "sip:x@y", Expires: expires, CallID: "c"}}})
		}
	}
	for _, limit := range []int{1, 7, 1000} {
		var gotUsers, gotContacts []location.AOR
		for after := location.AOR(""); ; {
			page, err := s.Users(t.Context(), after, limit)
			if err != nil {
				t.Fatal(err)
			}
			for _, u := range page {
				gotUsers = append(gotUsers, u.AOR)
			}
			if len(page) < limit {
				break
			}
			after = page[len(page)-1].AOR
		}
		for after := location.AOR(""); ; {
			page, err := s.Contacts(t.Context(), after, limit)
			if err != nil {
				t.Fatal(err)
			}
			for _, r := range page {
				gotContacts = append(gotContacts, r.AOR)
			}
			if len(page) < limit {
				break
			}
			after = page[len(page)-1].AOR
		}
		if d := cmp.Diff(users, gotUsers); d != "" {
			t.Errorf("users by %d (-want +got):\n%s", limit, d)
		}
		if d := cmp.Diff(contacts, gotContacts); d != "" {
			t.Errorf("contacts by %d (-want +got):\n%s", limit, d)
		}
	}
}

func TestServiceReload(t *testing.T) {
	t.Parallel()
	s := newTestService(newFakeNode(), newConfig())
	level := ""
	s.level = func(c *Config) error { level = c.LogLevel; return nil }
	s.load = func() (*Config, error) {
		c := newConfig()
		c.LogLevel, c.ContactsMax = "debug", 3
		return c, nil
	}
	if err := s.Reload(t.Context()); err != nil {
		t.Fatal(err)
	}
	if level != "debug" || s.config.LogLevel != "debug" || s.config.ContactsMax != defaultContactsMax {
		t.Errorf("level %q, in force %q, contacts_max %d", level, s.config.LogLevel, s.config.ContactsMax)
	}
	if d := cmp.Diff([]string{"registration.contacts_max"}, s.restart); d != "" {
		t.Errorf("need a restart (-want +got):\n%s", d)
	}
	s.load = func() (*Config, error) { return nil, errors.New("r.conf:1: nonsense") }
	if err := s.Reload(t.Context()); !errors.Is(err, &control.Error{Code: control.CodeInvalid}) || s.config.LogLevel != "debug" {
		t.Errorf("reload of nonsense: %v", err)
	}
}

func TestPutManyUsers(t *testing.T) {
	t.Parallel()
	n := newFakeNode()
	s := newTestService(n, newConfig())
	users := make([]location.User, 3*node.UsersPerCommand+1)
	for i := range users {
		users[i] = location.User{AOR: location.AOR(fmt.Sprintf("sip:u%04d@example.org", i)), Username: "u", Realm: "r", Has: 2}
	}
	if err := s.PutUsers(t.Context(), users, false); !errors.Is(err, control.ErrTooLarge) {
		t.Errorf("many without replace: %v: they would not be all or none", err)
	}
	if err := s.PutUsers(t.Context(), users, true); err != nil {
		t.Fatal(err)
	}
	if got := n.Status().Counts.Users; got != len(users) {
		t.Errorf("%d users stored, want %d", got, len(users))
	}
}
