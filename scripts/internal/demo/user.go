package demo

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"sipha/scripts/internal/lab"
	"sipha/scripts/internal/sipload"
)

// The demo user's phone.
const (
	phonePort    = 5062
	phoneExpires = 3600 // s
	// UserMax is how long User may take.
	UserMax = time.Minute
)

// Alice is the user that User makes. Her password is no secret: nothing outside the lab can reach her registrar.
func Alice() sipload.Account {
	return sipload.Account{User: "alice", Domain: Domain, Password: "wonderland"}
}

// User makes alice a user, at a node's command line, and registers a phone of hers through the virtual address. Doing it again
// refreshes the phone's registration.
func User(ctx context.Context, l *lab.Lab, out io.Writer) error {
	ctx, cancel := context.WithTimeoutCause(ctx, UserMax, fmt.Errorf("not within %v", UserMax))
	defer cancel()
	s, err := l.Status(ctx)
	if err != nil {
		return err
	}
	node := replica(s)
	if node == "" {
		return fmt.Errorf("no node can add a user: see scripts/lab status")
	}
	alice := Alice()
	address := alice.User + "@" + alice.Domain
	if _, err := l.ExecInput(ctx, strings.NewReader(alice.Password+"\n"), node, "registrard", "users", "add", "--replace", address); err != nil {
		return fmt.Errorf("add the user %s: %w", address, err)
	}
	if _, err := fmt.Fprintf(out, "user %s, password %s (added on %s)\n", address, alice.Password, node); err != nil {
		return err
	}
	client, err := crowd(l)
	if err != nil {
		return err
	}
	defer func() { _ = client.Close() }() // everything is answered
	phone := sipload.Contact{URI: fmt.Sprintf("sip:%s@%s:%d", alice.User, lab.Addr(lab.Client), phonePort), Expires: phoneExpires}
	a, err := client.Register(ctx, sipload.Registration{Account: alice, Contacts: []sipload.Contact{phone}})
	if err != nil {
		return err
	}
	if !a.OK() {
		return fmt.Errorf("register %s: %d %s", address, a.Status, a.Reason)
	}
	granted := slices.IndexFunc(a.Contacts, func(c sipload.Contact) bool { return c.URI == phone.URI })
	if granted < 0 {
		return fmt.Errorf("register %s: the 200 does not list %s: %+v", address, phone.URI, a.Contacts)
	}
	nodes, err := holders(ctx, l)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(out, "phone <%s> registered through %s for %d s, answered in %s; on %s\n", phone.URI, lab.VIP(), a.Contacts[granted].Expires,
		milliseconds(a.Received.Sub(a.Sent)), and(nodes))
	return err
}

// holders waits until all nodes that are in sync have applied the same, and returns them: a replica that has stored an entry
// learns only with the next one, or a tick, that it is committed.
func holders(ctx context.Context, l *lab.Lab) ([]string, error) {
	for {
		s, err := l.Status(ctx)
		if err != nil {
			return nil, err
		}
		s.Nodes = slices.DeleteFunc(s.Nodes, func(n lab.NodeStatus) bool { return !n.Synced })
		var names []string
		for _, n := range s.Nodes {
			names = append(names, n.Name)
		}
		if sameDigest(s) {
			return names, nil
		}
		if err := wait(ctx, pollReturn); err != nil {
			return nil, fmt.Errorf("%s do not show the same content: %w", and(names), err)
		}
	}
}
