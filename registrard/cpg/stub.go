//go:build !linux || !cgo

package cpg

import "context"

// Without cgo there is no connection to Corosync; the types remain for tools and
// for the other kinds of group.

// Dialer is what it is with cgo, but never connects.
type Dialer struct{ Options Options }

// Dial returns ErrNotBuilt.
func (d *Dialer) Dial(ctx context.Context) (*Conn, error) { return Dial(ctx, d.Options) }

// Close does nothing.
func (d *Dialer) Close() error { return nil }

// Dial returns ErrNotBuilt.
func Dial(context.Context, Options) (*Conn, error) {
	return nil, &Error{Op: "connect", Code: ErrNotBuilt}
}

// Conn never exists.
type Conn struct{}

// LocalNode returns 0.
func (c *Conn) LocalNode() NodeID { return 0 }

// Join returns ErrNotBuilt.
func (c *Conn) Join(context.Context, string) (*Group, error) { return nil, ErrNotBuilt }

// RequeryQuorum returns ErrNotBuilt.
func (c *Conn) RequeryQuorum(context.Context) error { return ErrNotBuilt }

// Config returns ErrNotBuilt.
func (c *Conn) Config(context.Context) (Config, error) { return Config{}, ErrNotBuilt }

// Close does nothing.
func (c *Conn) Close() error { return nil }

// Group never exists.
type Group struct{}

// Self returns no member.
func (g *Group) Self() Member { return Member{} }

// Next returns ErrNotBuilt.
func (g *Group) Next(context.Context) ([]Event, error) { return nil, ErrNotBuilt }

// TryMulticast returns ErrNotBuilt.
func (g *Group) TryMulticast(...[]byte) error { return ErrNotBuilt }

// Multicast returns ErrNotBuilt.
func (g *Group) Multicast(context.Context, ...[]byte) error { return ErrNotBuilt }

// RequeryQuorum returns ErrNotBuilt.
func (g *Group) RequeryQuorum(context.Context) error { return ErrNotBuilt }

// Leave returns ErrNotBuilt.
func (g *Group) Leave(context.Context) error { return ErrNotBuilt }

// Close does nothing.
func (g *Group) Close() error { return nil }
