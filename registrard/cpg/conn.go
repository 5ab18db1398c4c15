//go:build linux && cgo

package cpg

import (
	"context"
	"errors"
	"os"
	"slices"
	"sync"
	"time"

	"sipha/registrard/cpg/internal/queue"
)

// closeWait is how long Close waits at most. What is left then goes on behind it
// and ends by itself: libqb takes up to two seconds to notice a hangup.
const closeWait = time.Second

// stage is how far the one group of a connection is.
type stage uint8

const (
	stageOutside stage = iota
	stageJoined
	stageLeft
)

// Conn is a connection to Corosync. It carries one group, once. It is safe for
// concurrent use.
type Conn struct {
	link  *link
	self  Member
	queue *queue.Queue[Event]

	// send is held for one message; busy says that a synchronous call has the CPG
	// connection, which libqb lets nobody else send on meanwhile.
	send sync.Mutex
	busy bool

	// syncing has room for the one synchronous call at a time.
	syncing chan struct{}

	// joined and left are closed when this process's own change is in the stream.
	joined, left chan struct{}
	stage        stage // of the dispatching goroutine alone

	mu      sync.Mutex
	group   string
	leaving bool
	err     error          // why the connection ended
	users   sync.WaitGroup // of link; none is added after err
	torn    chan struct{}  // closed when link is freed
	ended   chan struct{}  // closed when err is set
}

func newConn(l *link, o Options) *Conn {
	c := &Conn{
		link:    l,
		self:    Member{Node: l.node, PID: uint32(os.Getpid())},
		queue:   queue.New[Event](o.queueEvents(), o.queueBytes()),
		syncing: make(chan struct{}, 1),
		joined:  make(chan struct{}),
		left:    make(chan struct{}),
		torn:    make(chan struct{}),
		ended:   make(chan struct{}),
	}
	c.users.Add(1)
	go c.dispatch()
	return c
}

// LocalNode returns the id of this node.
func (c *Conn) LocalNode() NodeID { return c.self.Node }

// dispatch moves events from the libraries to the queue. It runs no code of the
// reader's and waits for nobody.
func (c *Conn) dispatch() {
	defer c.users.Done()
	for {
		events, woken, err := c.link.wait()
		if woken {
			return
		}
		events = c.follow(events)
		bytes := 0
		for _, e := range events {
			bytes += cost(e)
		}
		if len(events) > 0 && !c.queue.Put(bytes, events...) {
			c.end(&Error{Op: "cpg_dispatch", Code: ErrSlowConsumer}, true)
			return
		}
		c.announce()
		if err != nil {
			c.end(err, false)
			return
		}
		if c.stage == stageLeft {
			c.end(c.whyLeft(), false)
			return
		}
	}
}

// follow keeps what lies between this process's own join and its leave, and all
// about quorum.
func (c *Conn) follow(events []Event) []Event {
	return slices.DeleteFunc(events, func(e Event) bool {
		if _, ok := e.(Quorum); ok {
			return false
		}
		change, ok := e.(ConfChange)
		self := func(ch Change) bool { return ch.Member == c.self }
		switch {
		case c.stage == stageOutside && ok && slices.ContainsFunc(change.Joined, self):
			c.stage = stageJoined
			return false
		case c.stage == stageJoined && ok && !slices.Contains(change.Members, c.self):
			c.stage = stageLeft
			return false
		}
		return c.stage != stageJoined
	})
}

// announce tells Join and Leave that what they wait for is in the queue.
func (c *Conn) announce() {
	closeOnce := func(ch chan struct{}) {
		select {
		case <-ch:
		default:
			close(ch)
		}
	}
	if c.stage >= stageJoined {
		closeOnce(c.joined)
	}
	if c.stage == stageLeft {
		closeOnce(c.left)
	}
}

func (c *Conn) whyLeft() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.leaving {
		return closed("cpg_dispatch")
	}
	return &Error{Op: "cpg_dispatch", Code: ErrEvicted}
}

// enter keeps the link from being freed until users.Done; not after the end.
func (c *Conn) enter() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.err == nil {
		c.users.Add(1)
	}
	return c.err
}

// end ends the connection: the queue gets the error, at once or after what is in
// it, and the link is freed when its last user is done with it.
func (c *Conn) end(err error, drop bool) {
	c.mu.Lock()
	first := c.err == nil
	if first {
		c.err = err
		close(c.ended)
	}
	c.mu.Unlock()
	if drop {
		c.queue.Close(err)
	} else {
		c.queue.Fail(err)
	}
	if first {
		go c.teardown(errors.Is(err, ErrLibrary))
	}
}

// teardown frees the link. Of a Corosync that is lost it takes no leave: one that
// is just dying may still take the goodbye, and not answer.
func (c *Conn) teardown(lost bool) {
	defer close(c.torn)
	c.link.wake()
	if lost {
		c.link.hangup()
	}
	timer := time.AfterFunc(hangupAfter, c.link.hangup)
	c.users.Wait()
	timer.Stop()
	c.link.close()
}

// Close ends the connection, and with it the membership: the others see the
// process go, and Next says ErrClosed. It takes no longer than a moment, also
// when Corosync hangs.
func (c *Conn) Close() error {
	c.end(closed("close"), true)
	timer := time.NewTimer(closeWait)
	defer timer.Stop()
	select {
	case <-c.torn:
	case <-timer.C:
	}
	return nil
}

// call runs a synchronous call of the libraries on a goroutine of its own, since
// it can block for as long as Corosync hangs, and waits for it until ctx is done.
// It then goes on behind the caller's back, until Close. One runs at a time.
func (c *Conn) call(ctx context.Context, op string, onGroup bool, f func() error) error {
	select {
	case c.syncing <- struct{}{}:
	case <-ctx.Done():
		return timeout(ctx, op)
	}
	if err := c.enter(); err != nil {
		<-c.syncing
		return err
	}
	c.setBusy(onGroup)
	done := make(chan error, 1)
	go func() {
		err := f()
		c.setBusy(false)
		c.users.Done()
		<-c.syncing
		done <- err
	}()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return timeout(ctx, op)
	}
}

func (c *Conn) setBusy(busy bool) {
	c.send.Lock()
	defer c.send.Unlock()
	c.busy = busy
}

// await waits until ch is closed, the connection has ended or ctx is done.
func (c *Conn) await(ctx context.Context, op string, ch <-chan struct{}) error {
	select {
	case <-ch:
		return nil
	case <-c.ended:
		select {
		case <-ch:
			return nil
		default:
			return c.failure()
		}
	case <-ctx.Done():
		return timeout(ctx, op)
	}
}

func (c *Conn) failure() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.err
}

// Join joins a group, whose name is 1 to MaxGroupName bytes. When it returns,
// this process's own ConfChange is in the stream: it is the first event but for
// Quorum. A Conn joins one group, once; another Join says ErrExist. While an
// earlier membership of this process is still ending, Join waits. After an error
// the Conn is good for Close.
func (c *Conn) Join(ctx context.Context, group string) (*Group, error) {
	const op = "cpg_join"
	if len(group) == 0 || len(group) > MaxGroupName {
		return nil, &Error{Op: op, Code: ErrInvalidParam}
	}
	c.mu.Lock()
	taken := c.group != ""
	if !taken {
		c.group = group
	}
	c.mu.Unlock()
	if taken {
		return nil, &Error{Op: op, Code: ErrExist}
	}
	err := Retry(ctx, func() error {
		return c.call(ctx, op, true, func() error { return c.link.join(group) })
	})
	if err == nil {
		err = c.await(ctx, op, c.joined)
	}
	if err != nil {
		return nil, err
	}
	return &Group{c: c}, nil
}

// RequeryQuorum brings a Quorum event with what the quorum service thinks now,
// for when one seems to be missing.
func (c *Conn) RequeryQuorum(ctx context.Context) error {
	return Retry(ctx, func() error {
		return c.call(ctx, "quorum_trackstart", false, c.link.requery)
	})
}
