package cpgtest

import (
	"context"
	"sync"

	"sipha/registrard/cpg"
)

// Cluster is a World behind a lock, for tests of code with goroutines. After
// every call it lets happen what can happen in the network; Group.Next takes the
// events. It is safe for concurrent use.
type Cluster struct {
	mu     sync.Mutex
	w      *World
	held   bool
	groups []*Group
}

// NewCluster returns a cluster whose nodes are all up and in one ring.
func NewCluster(cfg Config) *Cluster {
	c := &Cluster{w: NewWorld(cfg)}
	c.w.Settle(nil)
	return c
}

// Do calls f with the World, for faults and for looking at it, and then lets
// happen what can. f must keep neither the World nor a Process.
func (c *Cluster) Do(f func(w *World)) {
	c.mu.Lock()
	defer c.mu.Unlock()
	f(c.w)
	c.settle()
}

// Hold stops the network until Release: messages are taken and go nowhere, rings
// do not change, unless Do does it step by step.
func (c *Cluster) Hold() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.held = true
}

// Release ends Hold.
func (c *Cluster) Release() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.held = false
	c.settle()
}

// Join starts a process on a node and joins the group; its first event is its
// own ConfChange. The errors are those of World.Start.
func (c *Cluster) Join(node cpg.NodeID, pid uint32) (*Group, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	p, err := c.w.Start(node, pid)
	if err != nil {
		return nil, err
	}
	g := &Group{c: c, p: p, wake: make(chan struct{}, 1)}
	c.groups = append(c.groups, g)
	c.settle()
	return g, nil
}

// settle moves the network and wakes who has something to read. c.mu is held.
func (c *Cluster) settle() {
	if !c.held {
		c.w.Settle(nil)
	}
	for _, g := range c.groups {
		if g.readable() {
			g.signal()
		}
	}
}

// Group is one process's membership. Its methods are those of cpg.Group, with
// the same meaning.
type Group struct {
	c    *Cluster
	p    *Process
	err  error // after the last event; guarded by c.mu
	wake chan struct{}
}

// Self returns the process's node and pid.
func (g *Group) Self() cpg.Member { return g.p.self }

// Next returns all events that wait, at least one: those of the group, then
// those of the quorum service. It waits until there is one, the group has failed
// or ctx is done.
func (g *Group) Next(ctx context.Context) ([]cpg.Event, error) {
	for {
		if events, err := g.take(); len(events) > 0 || err != nil {
			return events, err
		}
		select {
		case <-g.wake:
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
}

func (g *Group) take() ([]cpg.Event, error) {
	g.c.mu.Lock()
	defer g.c.mu.Unlock()
	var events []cpg.Event
	for s := FromGroup; s <= FromQuorum; s++ {
		for g.err == nil && g.p.ready(s) {
			e, err := g.p.dispatch(s)
			if err != nil {
				g.err = err
				break
			}
			events = append(events, e)
		}
	}
	if g.err == nil && g.p.state == stateEnded {
		g.err = g.p.failed
	}
	if len(events) > 0 || g.err == nil {
		if g.readable() {
			g.signal()
		}
		return events, nil
	}
	g.signal() // for whoever else waits
	return nil, g.err
}

// readable reports whether Next would return. c.mu is held.
func (g *Group) readable() bool {
	return g.err != nil || g.p.state == stateEnded || g.p.ready(FromGroup) || g.p.ready(FromQuorum)
}

func (g *Group) signal() {
	select {
	case g.wake <- struct{}{}:
	default:
	}
}

// TryMulticast is Process.TryMulticast.
func (g *Group) TryMulticast(parts ...[]byte) error {
	g.c.mu.Lock()
	defer g.c.mu.Unlock()
	err := g.p.TryMulticast(parts...)
	g.c.settle()
	return err
}

// Multicast is TryMulticast, repeated while it says cpg.ErrTryAgain.
func (g *Group) Multicast(ctx context.Context, parts ...[]byte) error {
	return cpg.Retry(ctx, func() error { return g.TryMulticast(parts...) })
}

// RequeryQuorum brings a new Quorum event with what the service thinks now.
func (g *Group) RequeryQuorum(context.Context) error {
	g.c.mu.Lock()
	defer g.c.mu.Unlock()
	g.p.RequeryQuorum()
	g.c.settle()
	return nil
}

// Leave asks to leave the group; the ConfChange that says so comes from Next.
func (g *Group) Leave(ctx context.Context) error {
	return cpg.Retry(ctx, func() error {
		g.c.mu.Lock()
		defer g.c.mu.Unlock()
		err := g.p.Leave()
		g.c.settle()
		return err
	})
}

// Close ends the process as far as the group goes. Next says cpg.ErrClosed.
func (g *Group) Close() error {
	g.c.mu.Lock()
	defer g.c.mu.Unlock()
	g.p.Kill()
	g.err = &cpg.Error{Op: "group", Code: cpg.ErrClosed}
	g.c.settle()
	return nil
}
