package demo

import (
	"bytes"
	"context"
	"fmt"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"sipha/scripts/internal/lab"
	"sipha/scripts/internal/sipload"
)

const (
	// Domain is the one that the lab's registrard.conf serves.
	Domain = "example.org"

	// wholeMax is how long a lab that is up may take to become whole.
	wholeMax = 90 * time.Second
	// commandMax bounds one command in a node.
	commandMax = 2 * time.Minute
	// poll is how often the lab's status is looked at. Looking costs a dozen processes.
	poll = 500 * time.Millisecond
	// watchInterval is how often a Watch asks: the resolution of the times shown.
	watchInterval = 20 * time.Millisecond
)

// crowd opens a client for phones on the lab's client machine; the caller closes it.
func crowd(l *lab.Lab) (*sipload.Client, error) {
	conn, err := l.ListenUDP(lab.Client, netip.AddrPortFrom(lab.Addr(lab.Client), 0))
	if err != nil {
		return nil, fmt.Errorf("open the phones' socket: %w", err)
	}
	return sipload.NewClient(sipload.Options{Conn: conn, Target: netip.AddrPortFrom(lab.VIP(), lab.SIPPort)}), nil
}

// whole undoes what was done to the lab and waits until it is whole.
func whole(ctx context.Context, l *lab.Lab, steps *lab.Steps) (*lab.Status, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, wholeMax, fmt.Errorf("not within %v", wholeMax))
	defer cancel()
	s, err := l.MakeWhole(ctx, steps)
	if err != nil {
		return nil, fmt.Errorf("the lab does not become whole: %w", err)
	}
	return s, nil
}

// importUsers makes the accounts users of the registrar, from any node.
func importUsers(ctx context.Context, l *lab.Lab, node string, accounts []sipload.Account) error {
	ctx, cancel := context.WithTimeout(ctx, commandMax)
	defer cancel()
	var list bytes.Buffer
	if err := sipload.WriteCSV(&list, accounts); err != nil {
		return err
	}
	_, err := l.ExecInput(ctx, &list, node, "registrard", "users", "import", "--timeout", commandMax.String(), "-")
	return err
}

// replica returns a node that is a replica in sync; without one, the primary.
func replica(s *lab.Status) string {
	for i := range s.Nodes {
		if n := &s.Nodes[i]; n.Role == "replica" && n.Synced {
			return n.Name
		}
	}
	return s.Primary()
}

// others lists the nodes but one, for people.
func others(s *lab.Status, not string) string {
	var names []string
	for i := range s.Nodes {
		if s.Nodes[i].Name != not {
			names = append(names, s.Nodes[i].Name)
		}
	}
	return and(names)
}

// and joins words as people do.
func and(words []string) string {
	if len(words) < 2 {
		return strings.Join(words, "")
	}
	return strings.Join(words[:len(words)-1], ", ") + " and " + words[len(words)-1]
}

// thousands writes a number with its thousands apart: 10,000.
func thousands(n int) string {
	s := strconv.Itoa(n)
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}

// seconds writes a time for people: 3.4 s.
func seconds(d time.Duration) string { return fmt.Sprintf("%.1f s", d.Seconds()) }

// milliseconds writes a short time for people: 12 ms.
func milliseconds(d time.Duration) string {
	return fmt.Sprintf("%.0f ms", float64(d)/float64(time.Millisecond))
}

// wait is one turn of a loop that polls.
func wait(ctx context.Context, d time.Duration) error {
	select {
	case <-time.After(d):
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
