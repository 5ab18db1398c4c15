//go:build linux && cgo

package cpg

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"
)

// Bounds of the wait between two tries to connect while Corosync starts.
const (
	dialRetryMin = 20 * time.Millisecond
	dialRetryMax = 500 * time.Millisecond
)

// Dialer connects to Corosync. It exists beside Dial for callers that try again
// and again: connecting to a Corosync that hangs (SIGSTOP, a full disk under its
// log) blocks a thread until Corosync goes on or ends, and a Dialer never blocks
// more than one.
type Dialer struct {
	Options Options

	once    sync.Once
	turn    chan struct{}
	mu      sync.Mutex
	pending chan dialed
}

// dialed is how an attempt to connect ended.
type dialed struct {
	link *link
	err  error
}

// Dial connects, repeating what Corosync refuses while it starts, until ctx is
// done. The errors: ErrLibrary without a Corosync, ErrAccess, ErrUntrusted,
// ErrNoQuorumProvider, ErrNoStack, and the context's with ErrTimeout or
// ErrTryAgain.
func (d *Dialer) Dial(ctx context.Context) (*Conn, error) {
	d.once.Do(func() { d.turn = make(chan struct{}, 1) })
	select {
	case d.turn <- struct{}{}:
		defer func() { <-d.turn }()
	case <-ctx.Done():
		return nil, timeout(ctx, "connect")
	}
	var l *link
	err := retry(ctx, dialRetryMin, dialRetryMax, func() (err error) {
		l, err = d.attempt(ctx)
		return err
	})
	if err != nil {
		return nil, err
	}
	return newConn(l, d.Options), nil
}

// attempt connects once, or waits for the attempt that still goes on.
func (d *Dialer) attempt(ctx context.Context) (*link, error) {
	d.mu.Lock()
	if d.pending == nil {
		d.pending = make(chan dialed, 1)
		go func(done chan<- dialed) {
			l, err := connect()
			done <- dialed{l, err}
		}(d.pending)
	}
	pending := d.pending
	d.mu.Unlock()
	select {
	case got := <-pending:
		d.mu.Lock()
		d.pending = nil
		d.mu.Unlock()
		return got.link, got.err
	case <-ctx.Done():
		return nil, timeout(ctx, "connect")
	}
}

// Close gives up an attempt that still goes on. Conns that Dial has returned
// live on. It does not wait.
func (d *Dialer) Close() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.pending != nil {
		go func(done <-chan dialed) {
			if got := <-done; got.link != nil {
				got.link.close()
			}
		}(d.pending)
		d.pending = nil
	}
	return nil
}

// Dial connects to Corosync: Dialer.Dial, once.
func Dial(ctx context.Context, o Options) (*Conn, error) {
	d := Dialer{Options: o}
	c, err := d.Dial(ctx)
	if err != nil {
		_ = d.Close() // never fails
	}
	return c, err
}

// timeout is the error of an operation whose context ended it.
func timeout(ctx context.Context, op string) error {
	return errors.Join(&Error{Op: op, Code: ErrTimeout}, fmt.Errorf("%s: %w", op, context.Cause(ctx)))
}
