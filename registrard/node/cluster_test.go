package node_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"sipha/registrard/cpg"
	"sipha/registrard/cpg/cpgtest"
	"sipha/registrard/location"
	"sipha/registrard/node"
	"sipha/registrard/replica"
	"sipha/registrard/store"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// Times of the tests, on the bubble's clock.
const (
	// waitMax is how long something may take that a test waits for.
	waitMax = 30 * time.Second
	// pollInterval is how often it looks.
	pollInterval = time.Millisecond
	// expires is what phones ask for.
	expires = 600
)

// cluster is a group in memory and the nodes in it. Everything runs on a clock that moves when nobody has anything to do: a test of
// minutes takes no longer than its work.
type cluster struct {
	*testing.T
	net   *cpgtest.Cluster
	nodes map[location.NodeID]*instance
	pid   uint32

	mu    sync.Mutex
	asked int
	told  int
}

// instance is a daemon's node, with its database.
type instance struct {
	*node.Node
	c    *cluster
	id   location.NodeID
	dir  string
	pid  uint32
	tune func(*node.Options) // before New; nil: as they are
	disk faults

	chunks  atomic.Int32 // of snapshots that it has sent
	tapping sync.Mutex
	tap     func(replica.Message) error // sees what is sent, which it is not with an error; nil: nobody

	db   *store.Store
	stop context.CancelFunc
	done chan error
}

// inCluster runs a test in a bubble with a cluster of so many nodes, which are not started yet.
func inCluster(t *testing.T, size int, test func(c *cluster)) {
	t.Helper()
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		cfg := cpgtest.Config{}
		for id := 1; id <= size; id++ {
			cfg.Nodes = append(cfg.Nodes, cpg.NodeID(id))
		}
		c := &cluster{T: t, net: cpgtest.NewCluster(cfg), nodes: map[location.NodeID]*instance{}}
		for _, id := range cfg.Nodes {
			n := location.NodeID(id)
			c.nodes[n] = &instance{c: c, id: n, dir: filepath.Join(dir, fmt.Sprintf("node%d", id))}
			if err := os.Mkdir(c.nodes[n].dir, 0o700); err != nil {
				t.Fatal(err)
			}
		}
		defer c.end()
		test(c)
	})
}

// end stops everything, and holds the nodes to one answer for each question.
func (c *cluster) end() {
	for _, i := range c.nodes {
		if i.stop != nil {
			if err := i.halt(); err != nil {
				c.Errorf("node %d ended with: %v", i.id, err)
			}
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.asked != c.told {
		c.Errorf("%d questions, %d answers", c.asked, c.told)
	}
}

// policy is what the operator has decided.
func policy() location.Policy {
	return location.Policy{ExpiresMin: 1, ExpiresMax: 7200, ExpiresDefault: 3600, ContactsMax: 10, TombstoneLife: 64_000}
}

// start opens the database and runs the node.
func (i *instance) start() *instance {
	i.c.Helper()
	db, found, err := store.Open(i.dir, store.Options{})
	if err != nil {
		i.c.Fatal(err)
	}
	i.c.pid++
	i.pid = i.c.pid
	i.db = db
	opts := node.Options{
		Node: i.id, Name: fmt.Sprintf("node%d", i.id), Version: "test", ConfigHash: 1, Expected: len(i.c.nodes), Grace: time.Second,
		AddedMax: 2 * time.Hour, NonceLife: 5 * time.Minute, Policy: policy(), Store: &checkedStore{Store: db, i: i}, Boot: found, Log: i.c.logger(i.id),
		Dial: func(context.Context) (node.Group, error) {
			g, err := i.c.net.Join(cpg.NodeID(i.id), i.pid)
			if err != nil {
				return nil, err
			}
			return &checkedGroup{Group: g, i: i}, nil
		},
	}
	if i.tune != nil {
		i.tune(&opts)
	}
	ctx, cancel := context.WithCancel(context.Background())
	i.Node, i.stop, i.done = node.New(opts), cancel, make(chan error, 1)
	n, done := i.Node, i.done
	go func() { done <- n.Run(ctx) }()
	return i
}

// halt stops the node as a clean end of the daemon does, and returns what Run has returned.
func (i *instance) halt() error {
	i.stop()
	return i.reap(true)
}

// reap waits for the node's end and closes its database.
func (i *instance) reap(clean bool) error {
	var err error
	select {
	case err = <-i.done:
	case <-time.After(waitMax):
		i.c.Fatalf("node %d does not end", i.id)
	}
	i.stop()
	i.stop = nil
	if cerr := i.db.Close(clean); cerr != nil {
		i.c.Error(cerr)
	}
	return err
}

// wipe takes the database of a node that is not running.
func (i *instance) wipe() {
	entries, err := os.ReadDir(i.dir)
	if err != nil {
		i.c.Fatal(err)
	}
	for _, e := range entries {
		if err := os.RemoveAll(filepath.Join(i.dir, e.Name())); err != nil {
			i.c.Fatal(err)
		}
	}
}

// logger writes to the test's log.
func (c *cluster) logger(id location.NodeID) *slog.Logger {
	return slog.New(slog.NewTextHandler(testWriter{c.T}, &slog.HandlerOptions{Level: slog.LevelInfo})).With("n", uint32(id))
}

type testWriter struct{ t *testing.T }

func (w testWriter) Write(b []byte) (int, error) {
	w.t.Log(strings.TrimSuffix(string(b), "\n"))
	return len(b), nil
}

var _ io.Writer = testWriter{}

// fault does something to the network.
func (c *cluster) fault(f func(w *cpgtest.World)) { c.net.Do(f) }

// kill ends a node's connection to its group, as a Corosync that goes away does.
func (i *instance) kill() {
	i.c.fault(func(w *cpgtest.World) {
		for _, p := range w.Processes(cpg.NodeID(i.id)) {
			p.Fail()
		}
	})
}

// eventually waits until a condition holds.
func (c *cluster) eventually(what string, holds func() bool) {
	c.Helper()
	poll := time.NewTicker(pollInterval)
	defer poll.Stop()
	late := time.After(waitMax)
	for !holds() {
		select {
		case <-poll.C:
		case <-late:
			c.show()
			c.Fatalf("%s: not within %s", what, waitMax)
		}
	}
}

// show writes to the log how everybody is.
func (c *cluster) show() {
	for id := 1; id <= len(c.nodes); id++ {
		if i := c.nodes[location.NodeID(id)]; i.Node != nil {
			c.Logf("node %d: %+v", id, i.Status())
		}
	}
}

// started starts all nodes, and promotes the first one once it may be.
func started(c *cluster) (primary *instance) {
	c.Helper()
	for _, i := range c.nodes {
		i.start()
	}
	return c.promoted(1)
}

// promoted promotes a node once its score says that it may be, as Pacemaker does.
func (c *cluster) promoted(id location.NodeID) *instance {
	c.Helper()
	i := c.nodes[id]
	c.eventually(fmt.Sprintf("node %d's score", id), func() bool { return i.Status().Score >= replica.ScoreSynced })
	ctx, cancel := context.WithTimeout(context.Background(), waitMax)
	defer cancel()
	if err := i.Promote(ctx); err != nil {
		c.show()
		c.Fatalf("promote node %d: %v", id, err)
	}
	return i
}

// answer is what somebody was told.
type answer[T any] struct {
	value T
	err   error
}

// asking makes a callback that counts, and the channel that it answers to.
func asking[T any](c *cluster) (func(T, error), <-chan answer[T]) {
	ch := make(chan answer[T], 2)
	c.mu.Lock()
	c.asked++
	c.mu.Unlock()
	return func(v T, err error) {
		c.mu.Lock()
		c.told++
		c.mu.Unlock()
		ch <- answer[T]{v, err}
	}, ch
}

// wait returns an answer.
func wait[T any](c *cluster, ch <-chan answer[T]) (T, error) {
	c.Helper()
	select {
	case a := <-ch:
		return a.value, a.err
	case <-time.After(waitMax):
		c.Fatal("no answer")
		panic("unreachable")
	}
}

// register asks a node for a REGISTER and waits for the answer.
func (i *instance) register(req *location.Request) (location.Answer, error) {
	i.c.Helper()
	return wait(i.c, i.registering(req))
}

// registering asks, and does not wait.
func (i *instance) registering(req *location.Request) <-chan answer[location.Answer] {
	done, ch := asking[location.Answer](i.c)
	i.Register(req, done)
	return ch
}

// registered registers a phone, and wants a 200.
func (i *instance) registered(req *location.Request) location.Answer {
	i.c.Helper()
	a, err := i.register(req)
	if err != nil || a.Status != 200 {
		i.c.Fatalf("register %s at node %d: %d %s, %v", req.AOR, i.id, a.Status, a.Reason, err)
	}
	return a
}

// lookup reads an AOR.
func (i *instance) lookup(aor location.AOR) (location.Lookup, error) {
	i.c.Helper()
	done, ch := asking[location.Lookup](i.c)
	i.Lookup(aor, done)
	return wait(i.c, ch)
}

// do carries out a command, and wants a status.
func (i *instance) do(cmd *node.Command, status uint16) location.Outcome {
	i.c.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), waitMax)
	defer cancel()
	o, err := i.Do(ctx, cmd)
	if err != nil || o.Status != status {
		i.c.Fatalf("command at node %d: %d %s, %v; want %d", i.id, o.Status, o.Detail, err, status)
	}
	return o
}

// bindings returns what a node's own content has of an AOR.
func (i *instance) bindings(aor location.AOR) (bs []location.Binding) {
	i.View(func(s *location.State) { bs = s.Bindings(aor) })
	return bs
}

// has tells whether a node's own content has a contact.
func (i *instance) has(aor location.AOR, contact string) bool {
	for _, b := range i.bindings(aor) {
		if b.Contact == contact {
			return true
		}
	}
	return false
}

// digest is that of a node's content, as it is now.
func (i *instance) digest() (d location.Digest) {
	i.View(func(s *location.State) { d = s.Digest() })
	return d
}

// counts is how much a node's content holds.
func (i *instance) counts() (n location.Counts) {
	i.View(func(s *location.State) { n = s.Counts() })
	return n
}

// same waits until all that run have the same content.
func (c *cluster) same() location.Digest {
	c.Helper()
	var first location.Digest
	c.eventually("equal contents", func() bool {
		first = location.Digest{}
		for _, i := range c.nodes {
			if i.stop == nil {
				continue
			}
			now := i.digest()
			if now == (location.Digest{}) || first != (location.Digest{}) && now != first {
				return false
			}
			first = now
		}
		return true
	})
	return first
}

// phone is a REGISTER of one contact.
func phone(aor string, contact string, seconds int64, cseq uint32) *location.Request {
	return &location.Request{
		AOR: location.AOR(aor), CallID: "call-" + contact, CSeq: cseq, Expires: -1, Received: "udp:192.0.2.7:5060", Socket: "udp:192.0.2.1:5060",
		Contacts: []location.Contact{{URI: contact, Q: -1, Expires: seconds}}, UserAgent: "Example Phone/1",
	}
}

const (
	alice      = "sip:alice@example.org"
	aliceDesk  = "sip:alice@192.0.2.7:5060"
	aliceOther = "sip:alice@192.0.2.8:5060"
)

// mustBe fails the test unless the error is one of those.
func (c *cluster) mustBe(err error, wants ...error) {
	c.Helper()
	for _, want := range wants {
		if errors.Is(err, want) {
			return
		}
	}
	c.Fatalf("error %v; want one of %v", err, wants)
}
