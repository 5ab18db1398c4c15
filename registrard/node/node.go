package node

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"sipha/registrard/cpg"
	"sipha/registrard/location"
	"sipha/registrard/replica"
	"sipha/registrard/store"
)

// Node is one instance's part in the group. Its methods are safe for concurrent use while Run runs.
type Node struct {
	opts        Options
	start       time.Time
	self        location.NodeID
	incarnation location.Incarnation // names this daemon's own commands; a session in the group has one of its own

	inbox    chan any // *registerReq, *lookupReq, *commandReq
	orders   chan order
	serving  atomic.Bool
	status   atomic.Pointer[Status]
	clock    atomic.Pointer[clockMark]
	closed   chan struct{}
	nextID   atomic.Uint64
	draining atomic.Bool

	boot  replica.Boot // what the next session starts from; of the goroutine that runs the sessions
	mu    sync.RWMutex // guards state: the loop writes, everybody reads
	state *location.State
}

// clockMark is ordered time as the loop last counted it.
type clockMark struct {
	ordered location.Time
	mono    time.Duration
}

// order is Pacemaker's or an operator's word to the core.
type order struct {
	event replica.Event
	done  chan error
	ctx   context.Context
}

// New returns a Node; Run makes it work.
func New(opts Options) *Node {
	n := &Node{
		opts: opts, start: time.Now(), self: opts.Node, incarnation: newIncarnation(), inbox: make(chan any, RequestsMax), orders: make(chan order), closed: make(chan struct{}),
		state: opts.Boot.State,
	}
	n.boot = boot(opts.Boot, n.now().Wall)
	n.clock.Store(&clockMark{ordered: n.boot.Time})
	n.status.Store(&Status{Link: LinkDisconnected})
	return n
}

func (n *Node) now() replica.Now {
	return replica.Now{Mono: time.Since(n.start), Wall: time.Now().Add(n.opts.WallOffset).UnixMilli()}
}

// Run takes part in the group until ctx is done or the disk fails. When the group is lost it answers nothing, and joins again.
func (n *Node) Run(ctx context.Context) error {
	defer close(n.closed)
	disk := newDisk(n)
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return disk.run(ctx) })
	g.Go(func() error { return n.sessions(ctx, disk) })
	err := g.Wait()
	n.serving.Store(false)
	if errors.Is(err, context.Canceled) {
		return nil
	}
	return err
}

// sessions is in the group, again and again.
func (n *Node) sessions(ctx context.Context, disk *disk) error {
	for ctx.Err() == nil {
		err := n.session(ctx, disk)
		n.serving.Store(false)
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case errors.Is(err, errDisk):
			return err
		case errors.Is(err, errSetAside):
			if err := disk.setAside(ctx, err.Error()); err != nil {
				return fmt.Errorf("set the database aside: %w", err)
			}
			if n.opts.Observe != nil {
				n.opts.Observe.SetAside()
			}
			continue
		}
		n.opts.Log.Error("lost the group; joining again", "error", err)
		n.status.Store(&Status{Link: LinkDisconnected, LastError: err.Error()})
		n.refuse(ctx, RedialPause)
	}
	return ctx.Err()
}

// refuse answers those who ask while there is no group.
func (n *Node) refuse(ctx context.Context, pause time.Duration) {
	t := time.NewTimer(pause)
	defer t.Stop()
	for {
		select {
		case r := <-n.inbox:
			fail(r, ErrNotServing)
		case o := <-n.orders:
			if _, ok := o.event.(replica.Demote); ok {
				o.done <- nil
			} else {
				o.done <- fmt.Errorf("not in the group: %w", ErrNotServing)
			}
		case <-t.C:
			return
		case <-ctx.Done():
			return
		}
	}
}

var (
	errDisk     = errors.New("disk")
	errSetAside = errors.New("database set aside")
)

// session joins the group and works in it until it is lost.
func (n *Node) session(ctx context.Context, disk *disk) error {
	group, err := n.opts.Dial(ctx)
	if err != nil {
		return fmt.Errorf("join the group: %w", err)
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	l := newLoop(n, group, disk, n.boot)
	var wg sync.WaitGroup
	wg.Add(2)
	go func() { defer wg.Done(); cancel(l.read(ctx)) }()
	go func() { defer wg.Done(); cancel(l.sender.run(ctx)) }()
	err = l.run(ctx)
	cancel(err)
	if cerr := group.Close(); cerr != nil {
		n.opts.Log.Warn("leaving the group", "error", cerr)
	}
	wg.Wait()
	l.servings.Wait()
	disk.settle(ctx)
	n.boot = l.core.Boot(n.now())
	return err
}

// install takes over the content of a database that has replaced ours.
func (n *Node) install(r *store.Recovered) {
	n.mu.Lock()
	n.state = r.State
	n.mu.Unlock()
}

// read hands the group's events to the loop, decoded.
func (l *loop) read(ctx context.Context) error {
	for {
		events, err := l.group.Next(ctx)
		if err != nil {
			return fmt.Errorf("read from the group: %w", err)
		}
		batch := make([]replica.Event, 0, len(events))
		for _, ev := range events {
			if e := l.translate(ev); e != nil {
				batch = append(batch, e)
			}
		}
		select {
		case l.events <- batch:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// newIncarnation returns a random number that is not 0.
func newIncarnation() location.Incarnation {
	var b [8]byte
	for {
		if _, err := rand.Read(b[:]); err != nil {
			panic("crypto/rand: " + err.Error()) // the kernel's source of random numbers never fails
		}
		if i := binary.BigEndian.Uint64(b[:]); i != 0 {
			return location.Incarnation(i)
		}
	}
}

// Serving tells whether requests are decided here: this is the primary, and its epoch stands or has only just been suspended.
func (n *Node) Serving() bool { return n.serving.Load() && !n.draining.Load() }

// Now returns the group's ordered time, as far as this node can tell.
func (n *Node) Now() location.Time {
	m := n.clock.Load()
	return m.ordered + location.Time((time.Since(n.start)-m.mono)/time.Millisecond)
}

// User returns the user with this AOR from the local content.
func (n *Node) User(aor location.AOR) (location.User, bool) {
	n.mu.RLock()
	defer n.mu.RUnlock()
	return n.state.User(aor)
}

// Keys returns the nonce keys of the local content, by rising ID.
func (n *Node) Keys() []location.Key {
	n.mu.RLock()
	defer n.mu.RUnlock()
	return n.state.Keys()
}

// View calls f with the local content, which does not change while f runs. f must be short, and keep nothing.
func (n *Node) View(f func(*location.State)) {
	n.mu.RLock()
	defer n.mu.RUnlock()
	f(n.state)
}

// Promote returns once this node is the primary of a standing epoch; at once when it is already. When ctx is done first, it is
// demoted again.
func (n *Node) Promote(ctx context.Context) error { return n.order(ctx, replica.Promote{}) }

// Demote returns once this node decides nothing any more: what is in flight is waited for up to DrainTimeout. At once when it is a
// replica.
func (n *Node) Demote(ctx context.Context) error { return n.order(ctx, replica.Demote{}) }

// Bootstrap starts the first log with those members that are here, at the next Promote: for an operator who knows that the others are
// not to come.
func (n *Node) Bootstrap(ctx context.Context) error { return n.order(ctx, replica.Bootstrap{}) }

func (n *Node) order(ctx context.Context, ev replica.Event) error {
	o := order{event: ev, done: make(chan error, 1), ctx: ctx}
	select {
	case n.orders <- o:
	case <-n.closed:
		return ErrClosed
	case <-ctx.Done():
		return fmt.Errorf("order the node: %w", context.Cause(ctx))
	}
	select {
	case err := <-o.done:
		return err
	case <-n.closed:
		return ErrClosed
	}
}

// translate turns an event of the group into one of the core; nil where it is of no use.
func (l *loop) translate(ev cpg.Event) replica.Event {
	switch ev := ev.(type) {
	case cpg.Message:
		return l.decode(ev)
	case cpg.ConfChange:
		m := replica.Membership{Members: make([]replica.Member, 0, len(ev.Members))}
		for _, x := range ev.Members {
			m.Members = append(m.Members, member(x))
		}
		for _, changes := range [][]cpg.Change{ev.Left, ev.Joined} {
			for _, c := range changes {
				m.RingChanges = m.RingChanges || c.Reason == cpg.ReasonNodeDown || c.Reason == cpg.ReasonNodeUp
			}
		}
		return m
	case cpg.RingChange:
		r := replica.Ring{ID: ringID(ev.Ring)}
		for _, x := range ev.Nodes {
			r.Nodes = append(r.Nodes, location.NodeID(x))
		}
		return r
	case cpg.Quorum:
		return replica.Quorum{ID: ringID(ev.Ring), Quorate: ev.Quorate}
	}
	return nil
}

func member(m cpg.Member) replica.Member {
	return replica.Member{Node: location.NodeID(m.Node), PID: m.PID}
}

func ringID(r cpg.RingID) replica.RingID {
	return replica.RingID{Node: location.NodeID(r.Node), Seq: r.Seq}
}

// note writes a line of the core's to the log.
func (n *Node) note(a replica.Note) {
	n.opts.Log.Log(context.Background(), slog.Level(a.Level), a.Message, a.Attrs...)
}
