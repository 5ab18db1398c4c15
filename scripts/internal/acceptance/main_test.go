//go:build cluster

package acceptance

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"sipha/scripts/internal/lab"
	"sipha/scripts/internal/labtest"
	"sipha/scripts/internal/sipload"
)

const (
	domain = "example.org"
	// group is the promotable clone in crm-config/registrard.crm.
	group = "registrard-clone"

	askMax      = 3 * time.Second // a question to one node
	failoverMax = 30 * time.Second
	importMax   = time.Minute
	poll        = 50 * time.Millisecond
	logLines    = 60
)

func TestMain(m *testing.M) {
	os.Exit(labtest.Run(m, labtest.Options{Nodes: 3}))
}

// stage is the lab, whole, for one test.
type stage struct{ *labtest.Cluster }

// enter mends the lab and waits until it is whole. A test that fails shows what the cluster looked like then.
func enter(t *testing.T) stage {
	t.Helper()
	c := stage{labtest.Open(t)}
	t.Cleanup(func() {
		if t.Failed() {
			c.dump(t)
		}
	})
	c.Mend(t)
	return c
}

// dump logs the state of the cluster, and what the daemons said last.
func (c stage) dump(t *testing.T) {
	ctx, cancel := context.WithTimeout(context.Background(), failoverMax)
	defer cancel()
	var b bytes.Buffer
	if s, err := c.Status(ctx); err != nil {
		fmt.Fprintln(&b, err)
	} else if err := s.Print(&b); err != nil {
		fmt.Fprintln(&b, err)
	}
	for _, n := range c.nodes(t) {
		ask, cancel := context.WithTimeout(ctx, askMax)
		out, err := c.Lab.Exec(ask, n, "crm_mon", "--one-shot", "--inactive", "--failcounts", "--show-node-attributes")
		cancel()
		if err == nil {
			fmt.Fprintf(&b, "crm_mon on %s:\n%s\n", n, out)
			break
		}
		fmt.Fprintln(&b, err)
	}
	for _, n := range c.nodes(t) {
		logs, err := filepath.Glob(filepath.Join(c.LogDir(n), "registrard", "*"))
		if err != nil {
			fmt.Fprintln(&b, err)
		}
		for _, path := range logs {
			fmt.Fprintf(&b, "%s: %s\n%s\n", n, filepath.Base(path), tail(path))
		}
	}
	t.Logf("the cluster now:\n%s", &b)
}

// tail returns the last lines of a file.
func tail(path string) string {
	raw, err := os.ReadFile(path)
	if err != nil {
		return err.Error()
	}
	lines := strings.Split(strings.TrimSpace(string(raw)), "\n")
	return strings.Join(lines[max(0, len(lines)-logLines):], "\n")
}

// nodes returns the names of the cluster's nodes.
func (c stage) nodes(t *testing.T) []string {
	cfg, err := c.Config()
	if err != nil {
		t.Fatal(err)
	}
	return cfg.NodeNames()
}

// others returns all nodes but one.
func (c stage) others(t *testing.T, not string) []string {
	var names []string
	for _, n := range c.nodes(t) {
		if n != not {
			names = append(names, n)
		}
	}
	return names
}

// said is what a test needs of registrard status --json.
type said struct {
	Role, State, Epoch, Digest string
	Committed                  uint64
	Bindings, Users            int
	PID                        int
	Serving, Synced            bool
}

// ask asks one node's daemon.
func (c stage) ask(ctx context.Context, node string) (said, error) {
	ctx, cancel := context.WithTimeout(ctx, askMax)
	defer cancel()
	var s said
	out, err := c.Lab.Exec(ctx, node, "registrard", "status", "--json")
	if err != nil {
		return s, err
	}
	return s, json.Unmarshal(out, &s)
}

// awaitServing waits until one of the nodes decides REGISTERs, and returns it. It asks little, so as not to slow down what it waits for.
func (c stage) awaitServing(t *testing.T, nodes []string) string {
	t.Helper()
	var last []string
	deadline := time.Now().Add(failoverMax)
	for time.Now().Before(deadline) {
		last = nil
		for _, n := range nodes {
			s, err := c.ask(t.Context(), n)
			switch {
			case err != nil:
				last = append(last, err.Error())
			case s.Role == "primary" && s.Serving:
				return n
			default:
				last = append(last, fmt.Sprintf("%s is %s, %s", n, s.Role, s.State))
			}
		}
		wait(t, poll)
	}
	t.Fatalf("no new primary after %v: %q", failoverMax, last)
	return ""
}

// wait is one turn of a loop that polls.
func wait(t *testing.T, d time.Duration) {
	t.Helper()
	select {
	case <-time.After(d):
	case <-t.Context().Done():
		t.Fatal(t.Context().Err())
	}
}

// awaitOnePrimary waits until exactly one node is primary, for itself and for Pacemaker, and holds the virtual address.
func (c stage) awaitOnePrimary(t *testing.T, not string) string {
	t.Helper()
	s := c.Await(t, failoverMax, func(s *lab.Status) string {
		promoted := 0
		for i := range s.Nodes {
			if s.Nodes[i].Pacemaker == "promoted" {
				promoted++
			}
		}
		switch p := s.Primary(); {
		case p == "":
			return "not exactly one primary"
		case p == not:
			return p + " is still the primary"
		case promoted != 1 || s.Node(p).Pacemaker != "promoted":
			return fmt.Sprintf("Pacemaker has promoted %d, the primary %s is %s", promoted, p, s.Node(p).Pacemaker)
		case s.VIPNode != p:
			return fmt.Sprintf("the virtual address is on %q, the primary is %s", s.VIPNode, p)
		}
		return ""
	})
	return s.Primary()
}

// importUsers makes users as an operator does, at one node's command line.
func (c stage) importUsers(t *testing.T, node string, accounts []sipload.Account) time.Duration {
	t.Helper()
	path := filepath.Join(t.TempDir(), "users.csv")
	var b bytes.Buffer
	if err := sipload.WriteCSV(&b, accounts); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, b.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), importMax)
	defer cancel()
	start := time.Now()
	out, err := c.Lab.Exec(ctx, node, "registrard", "users", "import", path)
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return time.Since(start)
}

// vip is where phones register.
func vip() netip.AddrPort { return netip.AddrPortFrom(lab.VIP(), lab.SIPPort) }

// phones returns a crowd of phones on the client that talks to the virtual address.
func (c stage) phones(t *testing.T) *sipload.Client {
	t.Helper()
	client := sipload.NewClient(sipload.Options{Conn: c.ListenUDP(t), Target: vip()})
	t.Cleanup(func() { _ = client.Close() }) // its socket is closed with the test
	return client
}

// replica returns a node that is not the primary.
func (c stage) replica(t *testing.T) string {
	t.Helper()
	return c.others(t, c.Primary(t))[0]
}
