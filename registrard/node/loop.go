package node

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"sipha/registrard/location"
	"sipha/registrard/replica"
	"sipha/registrard/store"
)

// loop is one session in the group. What is in it belongs to the goroutine that calls run, but for what read and the snapshots use.
type loop struct {
	node   *Node
	group  Group
	disk   *disk
	core   *replica.Core
	sender *sender
	now    replica.Now // when the loop last looked: before each step, and after each wait

	incarnation location.Incarnation
	events      chan []replica.Event
	badMessages atomic.Uint64
	beside      sync.WaitGroup // goroutines that a session starts as it goes
	serves      map[serveKey]*serve

	overlay *location.Overlay
	primary primary
	forward forwards

	promoting []order
	demoting  []order
	drainTill time.Duration
	ordersDue bool

	err    error            // ends the session
	stuck  bool             // an entry could not be applied: none after it may be
	missed *store.Recovered // what has replaced the database after the session's end
}

func newLoop(n *Node, group Group, d *disk, boot replica.Boot) *loop {
	l := &loop{
		node: n, group: group, disk: d, incarnation: newIncarnation(), events: make(chan []replica.Event, 4), now: n.at(time.Now()),
		serves: map[serveKey]*serve{}, overlay: location.NewOverlay(n.state),
	}
	l.forward.waiting = map[location.RequestID]*commandReq{}
	l.sender = &sender{group: group, incarnation: l.incarnation, queue: make(chan replica.Message, OutQueueMax)}
	l.core = replica.New(replica.Config{
		Self: member(group.Self()), Name: n.opts.Name, Incarnation: l.incarnation, Disk: boot.Disk,
		VersionMin: wireVersionMin, VersionMax: wireVersionMax, ConfigHash: n.opts.ConfigHash, Expected: n.opts.Expected,
		Grace: n.opts.Grace, AddedMax: n.opts.AddedMax,
	}, boot, l.now)
	return l
}

// look looks at the clock.
func (l *loop) look() {
	l.now = l.node.at(time.Now())
	l.node.turned.Store(int64(l.now.Mono))
}

// run is the loop. It ends with the session.
func (l *loop) run(ctx context.Context) error {
	defer l.end()
	timer := time.NewTicker(replica.TimerInterval)
	defer timer.Stop()
	flush := time.NewTimer(time.Hour)
	defer flush.Stop()
	l.changed()
	for _, o := range l.node.promoting {
		if o.ctx.Err() == nil {
			l.order(o)
		} else {
			o.done <- fmt.Errorf("not in the group in time: %w", ErrNotServing)
		}
	}
	l.node.promoting = nil
	for l.err == nil {
		if due := l.flushDue(); due > 0 {
			flush.Reset(due)
		}
		select {
		case batch := <-l.events:
			for _, ev := range batch {
				l.step(ev)
			}
		case <-l.disk.told:
			l.stored()
		case r := <-l.node.inbox:
			l.look()
			l.request(r)
			l.drain()
		case o := <-l.node.orders:
			l.order(o)
		case <-timer.C:
			l.tick()
		case <-flush.C:
			l.look()
		case <-ctx.Done():
			return context.Cause(ctx)
		}
		if l.err != nil {
			break
		}
		l.forwarded()
		l.flush()
		if l.ordersDue {
			l.ordersDue = false
			l.carryOut()
		}
		l.publish()
	}
	return l.err
}

// end fails everybody who waits.
func (l *loop) end() {
	l.node.serving.Store(false)
	l.abandon()
	for _, o := range l.promoting {
		o.done <- ErrNotServing
	}
	for _, o := range l.demoting {
		o.done <- nil
	}
	for _, s := range l.serves {
		s.stop()
	}
	for id, r := range l.forward.waiting {
		delete(l.forward.waiting, id)
		r.end(ErrNotServing) // it is tried again in the next session
	}
}

// drain decides what else is waiting, before the batch is closed.
func (l *loop) drain() {
	for i := 1; i < DrainMax; i++ {
		select {
		case r := <-l.node.inbox:
			l.request(r)
		default:
			return
		}
	}
}

// step feeds the core and carries out what it wants, in order. Commit and Compose are answered before anything else happens. A step
// that has begun is gone through with, whatever fails: what the core believes of the log, the disk and the content stays true, and the
// next session starts from it.
func (l *loop) step(ev replica.Event) {
	if l.err != nil {
		return
	}
	l.look()
	pending := []replica.Event{ev}
	for len(pending) > 0 {
		actions := l.core.Step(l.now, pending[0])
		pending = pending[1:]
		for _, a := range actions {
			pending = append(pending, l.act(a)...)
		}
	}
}

// fail ends the session.
func (l *loop) fail(err error) {
	if l.err == nil {
		l.err = err
	}
}

// act carries out one action; what it returns is fed to the core next.
func (l *loop) act(a replica.Action) []replica.Event {
	switch a := a.(type) {
	case replica.Multicast:
		l.multicast(a.Message)
	case replica.Write:
		l.write(diskOp{write: &a})
	case replica.Promise:
		l.write(diskOp{promise: &a})
	case replica.Commit:
		return l.commit(a.Entries)
	case replica.Compose:
		return l.compose(a)
	case replica.ReadDone:
		l.readDone(a)
	case replica.Abandon:
		l.abandon()
	case replica.Stage:
		l.write(diskOp{stage: &a})
	case replica.Serve:
		l.serve(a)
	case replica.ChunkDelivered:
		l.chunkDelivered(a)
	case replica.StopServing:
		l.stopServing(serveKey{a.To, a.Session})
	case replica.RequeryQuorum:
		l.requery()
	case replica.SetAside:
		l.fail(fmt.Errorf("%w: %s", errSetAside, a.Reason))
	case replica.Forwarded:
		l.forward.came = append(l.forward.came, a)
	case replica.Changed:
		l.changed()
	case replica.Note:
		l.node.opts.Log.Log(context.Background(), slog.Level(a.Level), a.Message, a.Attrs...)
	}
	return nil
}

// multicast queues a message for the group.
func (l *loop) multicast(m replica.Message) {
	select {
	case l.sender.queue <- m:
	default:
		l.fail(errors.New("the queue to the group is full"))
	}
}

// write queues an operation for the disk.
func (l *loop) write(op diskOp) {
	if err := l.disk.put(op); err != nil {
		l.fail(err)
	}
}

// stored tells the core how far the disk has come.
func (l *loop) stored() {
	results, err := l.disk.take()
	for _, r := range results {
		switch {
		case r.installed != nil:
			if l.err != nil {
				l.missed = r.installed
				continue
			}
			l.abandon() // the overlay's ground is taken away
			l.node.install(r.installed)
			l.overlay = location.NewOverlay(l.node.state)
			l.step(replica.Installed{Boot: boot(r.installed, l.now.Wall)})
			l.outcomesInstalled()
		case r.failed > 0:
			l.step(replica.StagingFailed{Session: r.failed})
		default:
			l.step(replica.Stored{Seq: r.stored})
		}
	}
	if err != nil {
		l.fail(err)
	}
}

// requery asks the quorum service again, beside the loop.
func (l *loop) requery() {
	q, ok := l.group.(requerier)
	if !ok {
		return
	}
	l.beside.Go(func() {
		ctx, cancel := context.WithTimeout(context.Background(), replica.SettleTimeout)
		defer cancel()
		if err := q.RequeryQuorum(ctx); err != nil {
			l.node.opts.Log.Warn("asking the quorum service again", "error", err)
		}
	})
}

// tick does what is due as time passes.
func (l *loop) tick() {
	l.step(replica.Timer{})
	if err := l.disk.stalled(); err != nil {
		l.fail(err)
	}
	l.primaryTick()
	l.forwardTick()
	l.carryOut()
	l.mark()
	if l.now.Mono-l.primary.statusAt >= statusInterval {
		l.changed()
	}
}

// mark notes ordered time for those who ask beside the loop.
func (l *loop) mark() { l.node.clock.Store(&clockMark{ordered: l.ordered(), mono: l.now.Mono}) }
