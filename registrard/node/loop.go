package node

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"sipha/registrard/location"
	"sipha/registrard/replica"
)

// loop is one session in the group.
type loop struct {
	node   *Node
	group  Group
	disk   *disk
	core   *replica.Core
	sender *sender

	incarnation location.Incarnation
	events      chan []replica.Event
	badMessages atomic.Uint64
	servings    sync.WaitGroup
	serves      map[serveKey]*serve

	overlay *location.Overlay
	primary primary
	forward forwards

	promoting []order
	demoting  []order
	drainTill time.Time
	ordersDue bool

	err error // ends the session
}

func newLoop(n *Node, group Group, d *disk, boot replica.Boot) *loop {
	l := &loop{
		node: n, group: group, disk: d, incarnation: newIncarnation(), events: make(chan []replica.Event, 4),
		serves: map[serveKey]*serve{}, overlay: location.NewOverlay(n.state),
	}
	l.primary.reads = map[uint64]*pendingRead{}
	l.forward.waiting = map[location.RequestID]*commandReq{}
	l.sender = &sender{group: group, incarnation: l.incarnation, queue: make(chan replica.Message, OutQueueMax)}
	l.core = replica.New(replica.Config{
		Self: member(group.Self()), Name: n.opts.Name, Incarnation: l.incarnation, Disk: boot.Disk,
		VersionMin: wireVersionMin, VersionMax: wireVersionMax, ConfigHash: n.opts.ConfigHash, Expected: n.opts.Expected,
		Grace: n.opts.Grace, AddedMax: n.opts.AddedMax,
	}, boot, n.now())
	return l
}

// run is the loop. It ends with the session.
func (l *loop) run(ctx context.Context) error {
	defer l.end()
	timer := time.NewTicker(replica.TimerInterval)
	defer timer.Stop()
	flush := time.NewTimer(time.Hour)
	defer flush.Stop()
	for l.err == nil {
		if due := l.flushDue(); due > 0 {
			flush.Reset(due)
		}
		select {
		case batch := <-l.events:
			for _, ev := range batch {
				l.step(ev)
			}
		case done := <-l.disk.done:
			l.stored(done)
		case r := <-l.node.inbox:
			l.request(r)
			l.drain()
		case o := <-l.node.orders:
			l.order(o)
		case <-timer.C:
			l.tick()
		case <-flush.C:
		case err := <-l.disk.failed:
			return fmt.Errorf("%w: %w", errDisk, err)
		case <-ctx.Done():
			return context.Cause(ctx)
		}
		l.forwarded()
		l.flush()
		if l.ordersDue {
			l.ordersDue = false
			l.orders()
		}
		l.publish()
	}
	return l.err
}

// end fails everybody who waits.
func (l *loop) end() {
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
		r.finish(location.Outcome{}, ErrNoPrimary)
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

// step feeds the core and carries out what it wants, in order. Commit and Compose are answered before anything else happens.
func (l *loop) step(ev replica.Event) {
	pending := []replica.Event{ev}
	for len(pending) > 0 && l.err == nil {
		actions := l.core.Step(l.node.now(), pending[0])
		pending = pending[1:]
		for _, a := range actions {
			pending = append(pending, l.act(a)...)
		}
	}
}

// act carries out one action; what it returns is fed to the core next.
func (l *loop) act(a replica.Action) []replica.Event {
	switch a := a.(type) {
	case replica.Multicast:
		select {
		case l.sender.queue <- a.Message:
		default:
			l.err = errors.New("the queue to the group is full")
		}
	case replica.Write:
		l.disk.write(a)
	case replica.Promise:
		l.disk.promise(a)
	case replica.Commit:
		return l.commit(a.Entries)
	case replica.Compose:
		return l.compose(a)
	case replica.ReadDone:
		l.readDone(a)
	case replica.Abandon:
		l.abandon()
	case replica.Stage:
		l.disk.stage(a)
	case replica.Serve:
		l.serve(a)
	case replica.ChunkDelivered:
		l.chunkDelivered(a)
	case replica.StopServing:
		l.stopServing(serveKey{a.To, a.Session})
	case replica.RequeryQuorum:
		l.requery()
	case replica.SetAside:
		l.err = fmt.Errorf("%w: %s", errSetAside, a.Reason)
	case replica.Forwarded:
		l.forward.came = append(l.forward.came, a)
	case replica.Changed:
		l.changed()
	case replica.Note:
		l.node.note(a)
	}
	return nil
}

// requery asks the quorum service again, beside the loop.
func (l *loop) requery() {
	q, ok := l.group.(requerier)
	if !ok {
		return
	}
	l.servings.Add(1)
	go func() {
		defer l.servings.Done()
		ctx, cancel := context.WithTimeout(context.Background(), replica.SettleTimeout)
		defer cancel()
		if err := q.RequeryQuorum(ctx); err != nil {
			l.node.opts.Log.Warn("asking the quorum service again", "error", err)
		}
	}()
}

// order passes Pacemaker's or an operator's word on. Promote is answered when the epoch stands; Demote when nothing is in flight.
func (l *loop) order(o order) {
	switch o.event.(type) {
	case replica.Promote:
		l.node.draining.Store(false)
		for _, d := range l.demoting {
			d.done <- nil
		}
		l.demoting = nil
		l.step(replica.Promote{})
		l.promoting = append(l.promoting, o)
	case replica.Demote:
		for _, p := range l.promoting {
			p.done <- ErrNotServing
		}
		l.promoting = nil
		l.node.draining.Store(true)
		if len(l.demoting) == 0 {
			l.drainTill = time.Now().Add(DrainTimeout)
		}
		l.demoting = append(l.demoting, o)
	default:
		l.step(o.event)
		o.done <- nil
	}
	l.orders()
}

// orders answers those orders that are carried out, or out of time.
func (l *loop) orders() {
	if len(l.promoting) > 0 {
		s := l.core.Status()
		keep := l.promoting[:0]
		for _, o := range l.promoting {
			switch {
			case s.Serving:
				o.done <- nil
			case o.ctx.Err() != nil:
				o.done <- fmt.Errorf("not promoted in time: %s", s.Reason)
			default:
				keep = append(keep, o)
			}
		}
		if l.promoting = keep; len(keep) == 0 && !s.Serving {
			l.step(replica.Demote{})
		}
	}
	if len(l.demoting) == 0 {
		return
	}
	if l.primary.empty() || time.Now().After(l.drainTill) {
		l.step(replica.Demote{})
		for _, o := range l.demoting {
			o.done <- nil
		}
		l.demoting = nil
	}
}

// tick does what is due as time passes.
func (l *loop) tick() {
	l.step(replica.Timer{})
	l.primaryTick()
	l.forwardTick()
	l.orders()
	now := l.node.now()
	l.node.clock.Store(&clockMark{ordered: l.core.OrderedTime(now), mono: now.Mono})
	if time.Since(l.primary.statusAt) >= statusInterval {
		l.changed()
	}
}

// statusInterval is how old a Status gets.
const statusInterval = 100 * time.Millisecond

// changed publishes the status.
func (l *loop) changed() {
	l.primary.statusAt = time.Now()
	s := l.core.Status()
	l.node.mu.RLock()
	counts := l.node.state.Counts()
	l.node.mu.RUnlock()
	l.node.status.Store(&Status{Status: s, Link: LinkJoined, Counts: counts, At: time.Now(), BadMessages: l.badMessages.Load()})
	l.ordersDue = true
}

// publish tells the SIP side whether to ask.
func (l *loop) publish() { l.node.serving.Store(l.core.Accepting()) }
