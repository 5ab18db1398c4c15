package main

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"sipha/registrard/control"
	"sipha/registrard/location"
	"sipha/registrard/node"
	"sipha/registrard/replica"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"registrard": main})
}

// TestScript runs the command lines of testdata/script. Its own commands are
//
//	daemon [replica|failing]   serves the control API at $REGISTRARD_SOCKET out of memory
//
// which is what the commands that ask a daemon are tried on, and
//
//	cpbin                      copies the program to $BIN, where other users reach it
//	exits CODE COMMAND...      runs a command that must end with this exit code
func TestScript(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir: "testdata/script",
		Setup: func(e *testscript.Env) error {
			// A Unix socket's path is short, and $WORK is not.
			dir, err := os.MkdirTemp("", "registrard")
			if err != nil {
				return err
			}
			e.Defer(func() { _ = os.RemoveAll(dir) })
			e.Setenv("REGISTRARD_SOCKET", filepath.Join(dir, control.SocketName))
			e.Setenv("SHORT", dir)
			e.Setenv("BIN", filepath.Join(dir, "registrard")) // where other users reach it
			if err := os.Chmod(dir, 0o755); err != nil {
				return err
			}
			e.Setenv("HOME", e.WorkDir)
			return nil
		},
		Cmds:                map[string]func(*testscript.TestScript, bool, []string){"daemon": cmdDaemon, "exits": cmdExits, "cpbin": cmdCopy},
		Condition:           func(name string) (bool, error) { return name == "root" && os.Geteuid() == 0, nil },
		RequireExplicitExec: true,
		UpdateScripts:       os.Getenv("UPDATE_SCRIPTS") != "",
	})
}

func cmdCopy(ts *testscript.TestScript, _ bool, _ []string) {
	self, err := os.ReadFile("/proc/self/exe")
	ts.Check(err)
	ts.Check(os.WriteFile(ts.Getenv("BIN"), self, 0o755)) //nolint:gosec // it is to be run
}

func cmdExits(ts *testscript.TestScript, _ bool, args []string) {
	if len(args) < 2 {
		ts.Fatalf("usage: exits CODE COMMAND...")
	}
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	got := 0
	var exit *exec.ExitError
	if err := ts.Exec(args[1], args[2:]...); errors.As(err, &exit) {
		got = exit.ExitCode()
	} else {
		ts.Check(err)
	}
	if got != want {
		ts.Fatalf("exit code %d, want %d", got, want)
	}
}

func cmdDaemon(ts *testscript.TestScript, _ bool, args []string) {
	n := newFakeNode()
	if len(args) == 1 {
		n.mode = args[0]
	}
	config := newConfig()
	config.Domains = []string{"example.org", "example.net"}
	config.Realms = []string{"example.net=Example Net"}
	s := newTestService(n, config)
	server, err := control.Listen(control.ServerConfig{Path: ts.Getenv("REGISTRARD_SOCKET"), Service: s, Log: slog.New(slog.DiscardHandler)})
	ts.Check(err)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- server.Run(ctx) }()
	ts.Defer(func() {
		cancel()
		ts.Check(<-done)
	})
}

// fakeNode is a replicaNode whose group is a map.
type fakeNode struct {
	mode string // "": primary; "replica": nobody to forward to

	mu     sync.Mutex
	state  *location.State
	status node.Status
	err    error
}

const fakeNow = location.Time(1_800_000_000_000)

func newFakeNode() *fakeNode {
	n := &fakeNode{state: location.NewState()}
	n.status = node.Status{Link: node.LinkJoined, Status: replica.Status{
		State: replica.StateServing, Promoted: true, Epoch: location.Epoch{Number: 7, Node: 1}, Primary: 1, Serving: true, Quorate: true,
		Ring: replica.RingID{Node: 1, Seq: 0x5c}, Last: location.Position{Epoch: location.Epoch{Number: 7, Node: 1}, Index: 42}, Committed: 42,
		Voters: []location.Voter{{Node: 1}, {Node: 2}, {Node: 3}}, Voter: true, Synced: true, Score: replica.ScorePrimary,
		Members: []replica.MemberStatus{
			{Member: replica.Member{Node: 2}, Name: "node2", Voter: true, Here: true, Index: 42},
			{Member: replica.Member{Node: 1}, Name: "node1", Voter: true, Here: true, Index: 42, ConfigHash: newConfig().Hash()},
			{Member: replica.Member{Node: 3}, Name: "", Voter: true},
		},
	}}
	return n
}

func newTestService(n *fakeNode, c *Config) *service {
	s := &service{
		node: n, node0: nodeIdentity{1, "node1"}, version: "1.0-test", started: time.Now(), names: map[location.NodeID]string{3: "node3"}, config: c,
		load: func() (*Config, error) { next := *c; return &next, nil }, level: func(*Config) error { return nil },
	}
	s.counts = newMetrics(sources{}, "1.0-test")
	return s
}

func (n *fakeNode) Status() node.Status {
	n.mu.Lock()
	defer n.mu.Unlock()
	s := n.status
	s.Counts = n.state.Counts()
	return s
}

func (n *fakeNode) Promote(context.Context) error   { return n.err }
func (n *fakeNode) Bootstrap(context.Context) error { return n.err }
func (n *fakeNode) Demote(context.Context) error    { return n.err }
func (n *fakeNode) Now() location.Time              { return fakeNow }

func (n *fakeNode) View(f func(*location.State)) {
	n.mu.Lock()
	defer n.mu.Unlock()
	f(n.state)
}

func (n *fakeNode) apply(changes ...location.Change) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.state.Apply(fakeNow, changes)
}

// Do does at once what the primary would decide.
func (n *fakeNode) Do(_ context.Context, cmd *node.Command) (location.Outcome, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.err != nil {
		return location.Outcome{}, n.err
	}
	if n.mode == "replica" {
		return location.Outcome{}, node.ErrNoPrimary
	}
	switch {
	case cmd.PutUsers != nil:
		for _, u := range cmd.PutUsers.Users {
			if _, ok := n.state.User(u.AOR); ok && !cmd.PutUsers.Replace {
				return location.Outcome{Status: 409, Detail: string(u.AOR) + " is there already"}, nil
			}
		}
		for _, u := range cmd.PutUsers.Users {
			n.state.Apply(fakeNow, []location.Change{&location.UserChange{User: u}})
			n.register(u.AOR)
		}
		return location.Outcome{Status: 200, Detail: strconv.Itoa(len(cmd.PutUsers.Users))}, nil
	case cmd.RemoveUser != nil:
		if _, ok := n.state.User(*cmd.RemoveUser); !ok {
			return location.Outcome{Status: 404, Detail: "no such user"}, nil
		}
		n.state.Apply(fakeNow, []location.Change{&location.UserChange{Remove: true, User: location.User{AOR: *cmd.RemoveUser}}})
		return location.Outcome{Status: 200}, nil
	case cmd.RemoveContact != nil:
		change := &location.BindingsChange{AOR: cmd.RemoveContact.AOR, Cause: location.CauseOperator}
		for _, b := range n.state.Bindings(cmd.RemoveContact.AOR) {
			if cmd.RemoveContact.Contact == "" || cmd.RemoveContact.Contact == b.Contact {
				change.Remove = append(change.Remove, b.Contact)
			}
		}
		if len(change.Remove) == 0 {
			return location.Outcome{Status: 404, Detail: "no such contact"}, nil
		}
		n.state.Apply(fakeNow, []location.Change{change})
		return location.Outcome{Status: 200, Detail: strconv.Itoa(len(change.Remove))}, nil
	}
	return location.Outcome{Status: 400, Detail: "unknown command"}, nil
}

// register gives every new user two phones, one of them with a hostile User-Agent.
func (n *fakeNode) register(aor location.AOR) {
	n.state.Apply(fakeNow, []location.Change{&location.BindingsChange{AOR: aor, Cause: location.CauseRegister, Put: []location.Binding{
		{Contact: "sip:" + aor.User() + "@192.0.2.7:5060", Q: 500, Expires: fakeNow + 3_600_000, CallID: "a", CSeq: 1, Received: "udp:192.0.2.7:5060",
			Socket: "udp:192.0.2.1:5060", UserAgent: "desk phone", Created: fakeNow},
		{Contact: "sip:" + aor.User() + "@192.0.2.8;transport=tcp", Params: ";+sip.instance=\"<urn:x>\"", Q: -1, Expires: fakeNow + 60_000, CallID: "b", CSeq: 7,
			Received: "tcp:192.0.2.8:40000", Socket: "tcp:192.0.2.1:5060", UserAgent: "=HYPERLINK(\"http://example.com\")\x1b[31m", Instance: "urn:x", RegID: 1,
			Path: []string{"<sip:edge.example.org;lr>"}, Created: fakeNow},
	}}})
}
