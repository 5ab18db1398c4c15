package node

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"sipha/registrard/cpg"
	"sipha/registrard/location"
	"sipha/registrard/replica"
	"sipha/registrard/store"
)

// errSetAside ends a session whose content is outvoted.
var errSetAside = errors.New("database set aside")

// sessions is in the group, again and again. It returns nil when ctx is done, and what the disk has failed with.
func (n *Node) sessions(ctx context.Context, d *disk) error {
	defer n.unpromote(ErrClosed)
	last := ""
	for ctx.Err() == nil {
		err := n.session(ctx, d)
		switch {
		case ctx.Err() != nil:
			return nil
		case errors.Is(err, errDisk):
			return err
		case errors.Is(err, errSetAside):
			if err := n.setAside(d, err.Error()); err != nil {
				return fmt.Errorf("set the database aside: %w", err)
			}
			continue
		}
		if text := err.Error(); text != last { // a Corosync that is away says the same twice a second
			n.opts.Log.Error("not in the group; joining again", "error", err)
			last = text
		}
		n.status.Store(&Status{Link: LinkDisconnected, LastError: err.Error(), At: time.Now()})
		n.meanwhile(func() {
			pause := time.NewTimer(RedialPause)
			defer pause.Stop()
			select {
			case <-pause.C:
			case <-ctx.Done():
			}
		})
	}
	return nil
}

// meanwhile runs f while there is no session: those who ask are refused, and who promotes waits for the next one. f may do what only the
// goroutine of the sessions may.
func (n *Node) meanwhile(f func()) {
	done := make(chan struct{})
	go func() { defer close(done); f() }()
	for {
		select {
		case r := <-n.inbox:
			r.end(ErrNotServing)
		case o := <-n.orders:
			n.outside(o)
		case <-done:
			return
		}
	}
}

// outside takes an order while there is no session.
func (n *Node) outside(o order) {
	switch o.event.(type) {
	case replica.Promote:
		n.promoting = append(n.promoting, o)
	case replica.Demote:
		n.unpromote(ErrNotServing)
		o.done <- nil
	default:
		o.done <- fmt.Errorf("not in the group: %w", ErrNotServing)
	}
}

// unpromote refuses those whose order to promote waits for a session.
func (n *Node) unpromote(err error) {
	for _, o := range n.promoting {
		o.done <- err
	}
	n.promoting = nil
}

// session joins the group and works in it until it is lost.
func (n *Node) session(ctx context.Context, d *disk) error {
	var group Group
	var err error
	n.meanwhile(func() { group, err = n.opts.Dial(ctx) })
	if err != nil {
		return fmt.Errorf("join the group: %w", err)
	}
	ours, cancel := context.WithCancelCause(ctx)
	l := newLoop(n, group, d, n.boot)
	var wg sync.WaitGroup
	wg.Go(func() { cancel(l.read(ours)) })
	wg.Go(func() { cancel(l.sender.run(ours)) })
	err = l.run(ours)
	cancel(err)
	n.meanwhile(func() {
		if cerr := group.Close(); cerr != nil {
			n.opts.Log.Warn("leaving the group", "error", cerr)
		}
		wg.Wait()
		l.beside.Wait()
		if serr := n.settle(d, l); serr != nil {
			err = serr
		}
	})
	return err
}

// settle waits for the disk, so that the next session starts from what is stored.
func (n *Node) settle(d *disk, l *loop) error {
	installed, err := d.settle()
	if err != nil {
		return fmt.Errorf("end the session: %w", err)
	}
	if installed == nil {
		installed = l.missed
	}
	now := n.at(time.Now())
	n.boot = l.core.Boot(now)
	if installed != nil {
		// A snapshot has replaced the database, and the core was not told any more. What it has promised since lies outside of that.
		promised := n.boot.Promised
		n.install(installed)
		if n.boot = boot(installed, now.Wall); n.boot.Promised.Compare(promised) < 0 {
			n.boot.Promised = promised
		}
	}
	return nil
}

// setAside sets the database aside between two sessions.
func (n *Node) setAside(d *disk, reason string) error {
	var r *store.Recovered
	var err error
	n.meanwhile(func() { r, err = d.setAside(reason) })
	if err != nil {
		return err
	}
	n.install(r)
	n.boot = boot(r, n.at(time.Now()).Wall)
	if n.opts.Observe != nil {
		n.opts.Observe.SetAside()
	}
	return nil
}

// install takes over the content of a database that has replaced ours.
func (n *Node) install(r *store.Recovered) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.state = r.State
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
				// A Ring event follows our own join, too.
				m.RingChanges = m.RingChanges || c.Reason == cpg.ReasonNodeDown || c.Reason == cpg.ReasonNodeUp ||
					c.Reason == cpg.ReasonJoin && c.Member == l.group.Self()
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
