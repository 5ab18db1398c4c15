//go:build linux && cgo

package cpg

import "context"

// Group is this process's membership in a group. It is safe for concurrent use;
// events are in order for one reader at a time.
type Group struct{ c *Conn }

// Self returns this process as the members see it.
func (g *Group) Self() Member { return g.c.self }

// Next returns all events that wait, in order, at least one, and waits for it
// until ctx is done. The slice and what is in it belong to the caller. Once the
// connection has ended and everything is read, it returns why, for ever:
// ErrLibrary when Corosync went away, ErrClosed after Leave or Close,
// ErrSlowConsumer, which drops what was waiting, ErrEvicted, ErrCorrupt. The
// group is left by then; connect anew.
func (g *Group) Next(ctx context.Context) ([]Event, error) { return g.c.queue.Next(ctx) }

// TryMulticast hands Corosync one message made of parts, at most MaxParts and
// MaxMessage bytes together, and does not wait. It may be called at any time, not
// only by one goroutine. A nil error promises nothing: a message can still get
// lost. The errors: ErrTooBig; ErrTryAgain, while the membership changes, too
// much is under way, Corosync is stopped, or Join or Leave runs; what Next says
// at the end.
func (g *Group) TryMulticast(parts ...[]byte) error {
	const op = "cpg_mcast_joined"
	if _, err := size(op, parts); err != nil {
		return err
	}
	c := g.c
	if err := c.enter(); err != nil {
		return err
	}
	defer c.users.Done()
	c.send.Lock()
	defer c.send.Unlock()
	if c.busy {
		return &Error{Op: op, Code: ErrTryAgain}
	}
	return c.link.multicast(parts)
}

// Multicast is TryMulticast, repeated while it says ErrTryAgain, until ctx is
// done. Do not call it where Next's events are handled.
func (g *Group) Multicast(ctx context.Context, parts ...[]byte) error {
	return Retry(ctx, func() error { return g.TryMulticast(parts...) })
}

// RequeryQuorum is Conn.RequeryQuorum.
func (g *Group) RequeryQuorum(ctx context.Context) error { return g.c.RequeryQuorum(ctx) }

// Leave leaves the group in order: when it returns, the ConfChange that says so
// is the last event but for Quorum, and then Next says ErrClosed.
func (g *Group) Leave(ctx context.Context) error {
	const op = "cpg_leave"
	c := g.c
	c.mu.Lock()
	c.leaving = true
	group := c.group
	c.mu.Unlock()
	err := Retry(ctx, func() error {
		return c.call(ctx, op, true, func() error { return c.link.leave(group) })
	})
	if err != nil {
		return err
	}
	return c.await(ctx, op, c.left)
}

// Close closes the connection, see Conn.Close.
func (g *Group) Close() error { return g.c.Close() }
