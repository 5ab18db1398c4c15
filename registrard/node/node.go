package node

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"sipha/registrard/location"
	"sipha/registrard/replica"
)

// Node is one instance's part in the group. Its methods are safe for concurrent use while Run runs.
type Node struct {
	opts        Options
	start       time.Time
	self        location.NodeID
	incarnation location.Incarnation // names this daemon's own commands; a session in the group has one of its own

	inbox    chan request
	orders   chan order
	serving  atomic.Bool
	draining atomic.Bool
	turned   atomic.Int64 // when the loop last looked at the clock, as a time.Duration since start
	status   atomic.Pointer[Status]
	clock    atomic.Pointer[clockMark]
	nextID   atomic.Uint64

	gate   sync.RWMutex // held for reading by who puts something into inbox
	ended  bool         // nothing may be put into it any more
	closed chan struct{}

	// Of the goroutine that runs the sessions.
	boot      replica.Boot // what the next session starts from
	promoting []order      // what waits for it

	mu    sync.RWMutex // guards state: the loop writes, everybody reads
	state *location.State
}

// clockMark is ordered time as the loop last counted it.
type clockMark struct {
	ordered location.Time
	mono    time.Duration
}

// request is what waits for the loop, and then for its answer: *registerReq, *lookupReq or *commandReq.
type request interface {
	// end tells who asked: nil that what was decided holds. It is called once.
	end(error)
}

// order is Pacemaker's or an operator's word to the core.
type order struct {
	event replica.Event
	done  chan error // takes one error without blocking
	ctx   context.Context
}

// New returns a Node; Run makes it work.
func New(opts Options) *Node {
	n := &Node{
		opts: opts, start: time.Now(), self: opts.Node, incarnation: newIncarnation(),
		inbox: make(chan request, RequestsMax), orders: make(chan order), closed: make(chan struct{}), state: opts.Boot.State,
	}
	n.boot = boot(opts.Boot, n.at(time.Now()).Wall)
	n.clock.Store(&clockMark{ordered: n.boot.Time})
	n.status.Store(&Status{Link: LinkDisconnected})
	return n
}

// mono is this daemon's monotonic clock.
func (n *Node) mono() time.Duration { return time.Since(n.start) }

// at is a moment as the core counts it.
func (n *Node) at(t time.Time) replica.Now {
	return replica.Now{Mono: t.Sub(n.start), Wall: t.Add(n.opts.WallOffset).UnixMilli()}
}

// Run takes part in the group until ctx is done or the disk fails: then it returns an error that says so. When the group is lost it
// answers nothing, and joins again. It is called once.
func (n *Node) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	d := newDisk(n)
	go func() {
		if err := d.run(); err != nil {
			cancel(err)
		}
	}()
	err := n.sessions(ctx, d)
	n.status.Store(&Status{Link: LinkDisconnected, At: time.Now()})
	n.shut()
	d.close()
	if werr := d.wait(d.ended); werr != nil {
		return werr
	}
	if _, derr := d.take(); derr != nil {
		return derr
	}
	return err
}

// shut fails everybody who has asked and is not answered, and whoever asks from now on.
func (n *Node) shut() {
	n.gate.Lock()
	n.ended = true
	n.gate.Unlock()
	close(n.closed)
	for {
		select {
		case r := <-n.inbox:
			r.end(ErrClosed)
		default:
			return
		}
	}
}

// ask hands a request to the loop. With an error it was not taken, and is not ended.
func (n *Node) ask(r request) error {
	n.gate.RLock()
	defer n.gate.RUnlock()
	if n.ended {
		return ErrClosed
	}
	select {
	case n.inbox <- r:
		return nil
	default:
		return ErrOverloaded
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
func (n *Node) Serving() bool {
	return n.serving.Load() && !n.draining.Load() && n.mono()-time.Duration(n.turned.Load()) < LoopStallMax
}

// Now returns the group's ordered time, as far as this node can tell.
func (n *Node) Now() location.Time {
	m := n.clock.Load()
	return m.ordered + location.Time((n.mono()-m.mono)/time.Millisecond)
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

// order hands the loop an order and waits for its word: OrderGrace longer than ctx, since it has to take back what is out of time.
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
	case <-ctx.Done():
	}
	late := time.NewTimer(OrderGrace)
	defer late.Stop()
	select {
	case err := <-o.done:
		return err
	case <-late.C:
		return fmt.Errorf("order the node: it stands still: %w", context.Cause(ctx))
	}
}
