// Package labtest runs tests against a lab: one cluster for a test binary, brought up
// before its first test and removed after its last.
//
//	func TestMain(m *testing.M) { os.Exit(labtest.Run(m, labtest.Options{Nodes: 3})) }
//
//	func TestPowerCut(t *testing.T) {
//		c := labtest.Whole(t)
//		was := c.Primary(t)
//		c.PowerOff(t, was)
//		c.Await(t, 10*time.Second, func(s *lab.Status) string { ... })
//	}
//
// Tests that share a cluster must not run in parallel.
package labtest

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"sipha/scripts/internal/lab"
)

const (
	// WholeMax is how long Whole waits for all nodes to be back in sync.
	WholeMax = 90 * time.Second
	// execMax bounds a command in a node.
	execMax = time.Minute

	upMax      = 3 * time.Minute // with the builds
	downMax    = time.Minute
	awaitPoll  = 100 * time.Millisecond
	namePrefix = "t-"
)

// Options says what the tests of a binary need.
type Options struct {
	Nodes       int    // 0: three
	FenceAction string // "off" (the default) or "reboot"
	Bare        bool   // a cluster without the product
}

// Cluster is the lab of the test binary.
type Cluster struct {
	*lab.Lab
}

// name is the test binary's lab; the process id lets a later run find what a killed
// one has left.
func name() string { return namePrefix + strconv.Itoa(os.Getpid()) }

// Run brings the lab up, runs the tests and takes the lab down; the result is for
// os.Exit. With LAB_KEEP=1 a failed run leaves the lab, to look at.
func Run(m *testing.M, o Options) int {
	removeStale()
	l, err := lab.Open(name())
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	if err := up(l, o); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return finish(l, 1)
	}
	return finish(l, m.Run())
}

func up(l *lab.Lab, o Options) error {
	script, err := script()
	if err != nil {
		return err
	}
	args := []string{"up"}
	if o.Nodes != 0 {
		args = append(args, "--nodes", strconv.Itoa(o.Nodes))
	}
	if o.FenceAction != "" {
		args = append(args, "--fence-action", o.FenceAction)
	}
	if o.Bare {
		args = append(args, "--bare")
	}
	ctx, cancel := context.WithTimeout(context.Background(), upMax)
	defer cancel()
	cmd := exec.CommandContext(ctx, script, args...)
	cmd.Env = append(os.Environ(), "LAB="+l.Name())
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	return cmd.Run()
}

// script finds scripts/lab above the test's directory.
func script() (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for ; dir != "/"; dir = filepath.Dir(dir) {
		path := filepath.Join(dir, "scripts", "lab")
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return path, nil
		}
	}
	return "", fmt.Errorf("no go.mod above the test's directory")
}

func finish(l *lab.Lab, code int) int {
	if code != 0 && os.Getenv("LAB_KEEP") != "" {
		fmt.Fprintf(os.Stderr, "the lab stays: LAB=%s scripts/lab status; LAB=%s scripts/lab down\n", l.Name(), l.Name())
		return code
	}
	ctx, cancel := context.WithTimeout(context.Background(), downMax)
	defer cancel()
	if err := l.Down(ctx); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return code
}

// removeStale removes labs of test binaries that are no more, except kept ones.
func removeStale() {
	names, err := lab.Names()
	if err != nil || os.Getenv("LAB_KEEP") != "" {
		return
	}
	for _, n := range names {
		pid, ok := strings.CutPrefix(n, namePrefix)
		if !ok {
			continue
		}
		if _, err := os.Stat(filepath.Join("/proc", pid)); err == nil {
			continue
		}
		if l, err := lab.Open(n); err == nil {
			finish(l, 0)
		}
	}
}

// Open returns the binary's lab as it is.
func Open(tb testing.TB) *Cluster {
	tb.Helper()
	l, err := lab.Open(name())
	if err != nil {
		tb.Fatal(err)
	}
	return &Cluster{l}
}

// Whole undoes what earlier tests did to the hardware (power, cables, links) and waits
// until one instance is promoted, all others are in sync and fencing is ready.
func Whole(tb testing.TB) *Cluster {
	tb.Helper()
	c := Open(tb)
	c.Mend(tb)
	return c
}

// Mend does for this cluster what Whole does.
func (c *Cluster) Mend(tb testing.TB) {
	tb.Helper()
	ctx, cancel := context.WithTimeout(tb.Context(), WholeMax)
	defer cancel()
	if _, err := c.MakeWhole(ctx, lab.NewSteps(nil)); err != nil {
		tb.Fatalf("the lab does not become whole: %v", err)
	}
}

// Await polls the lab's status until missing returns "", and returns that status. It
// fails the test with what was missing last.
func (c *Cluster) Await(tb testing.TB, within time.Duration, missing func(*lab.Status) string) *lab.Status {
	tb.Helper()
	ctx, cancel := context.WithTimeout(tb.Context(), within)
	defer cancel()
	for {
		s, err := c.Status(tb.Context())
		if err != nil {
			tb.Fatal(err)
		}
		last := missing(s)
		if last == "" {
			return s
		}
		select {
		case <-ctx.Done():
			tb.Fatalf("not within %v: %s\nstatus: %+v", within, last, *s)
		case <-time.After(awaitPoll):
		}
	}
}

// AwaitRole waits until a node has a role: primary, replica, down or off.
func (c *Cluster) AwaitRole(tb testing.TB, node, role string, within time.Duration) {
	tb.Helper()
	c.Await(tb, within, func(s *lab.Status) string {
		if n := s.Node(node); n == nil || n.Role != role {
			return fmt.Sprintf("%s is not %s: %+v", node, role, n)
		}
		return ""
	})
}

// Primary returns the node that is primary now; there must be exactly one.
func (c *Cluster) Primary(tb testing.TB) string {
	tb.Helper()
	s, err := c.Status(tb.Context())
	if err != nil {
		tb.Fatal(err)
	}
	p := s.Primary()
	if p == "" {
		tb.Fatalf("not exactly one primary: %+v", s.Nodes)
	}
	return p
}

// Exec runs a command in a node (or the client) and returns its output; it must succeed.
func (c *Cluster) Exec(tb testing.TB, node string, args ...string) string {
	tb.Helper()
	ctx, cancel := context.WithTimeout(tb.Context(), execMax)
	defer cancel()
	out, err := c.Lab.Exec(ctx, node, args...)
	if err != nil {
		tb.Fatal(err)
	}
	return string(out)
}

// PowerOff takes a node's power; PowerOn gives it back.
func (c *Cluster) PowerOff(tb testing.TB, node string) { tb.Helper(); must(tb, c.Lab.PowerOff(node)) }

// PowerOn gives a node power.
func (c *Cluster) PowerOn(tb testing.TB, node string) { tb.Helper(); must(tb, c.Lab.PowerOn(node)) }

// Cut takes a node off the network.
func (c *Cluster) Cut(tb testing.TB, node string) { tb.Helper(); must(tb, c.Lab.Cut(node)) }

// Heal ends a cut.
func (c *Cluster) Heal(tb testing.TB, node string) { tb.Helper(); must(tb, c.Lab.Heal(node)) }

// Link sets the faults of a node's link; the zero Faults end them.
func (c *Cluster) Link(tb testing.TB, node string, f lab.Faults) {
	tb.Helper()
	must(tb, c.Lab.Link(node, f))
}

// ListenUDP opens a UDP socket on the client; it is closed with the test.
func (c *Cluster) ListenUDP(tb testing.TB) *net.UDPConn {
	tb.Helper()
	conn, err := c.Lab.ListenUDP(lab.Client, netip.AddrPortFrom(lab.Addr(lab.Client), 0))
	must(tb, err)
	tb.Cleanup(func() { _ = conn.Close() }) // the test may have closed it
	return conn
}

func must(tb testing.TB, err error) {
	tb.Helper()
	if err != nil {
		tb.Fatal(err)
	}
}
