package node

import (
	"fmt"

	"sipha/registrard/replica"
)

// order passes Pacemaker's or an operator's word on. Promote is answered when the epoch stands; Demote when nothing is in flight.
func (l *loop) order(o order) {
	l.look()
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
			l.drainTill = l.now.Mono + DrainTimeout
		}
		l.demoting = append(l.demoting, o)
	default:
		l.step(o.event)
		o.done <- nil
	}
	l.carryOut()
}

// carryOut answers those orders that are carried out, or out of time.
func (l *loop) carryOut() {
	if l.err != nil {
		return // end answers them
	}
	l.promoted()
	if len(l.demoting) == 0 || !l.primary.empty() && l.now.Mono < l.drainTill {
		return
	}
	l.step(replica.Demote{})
	l.changed() // who is told it must find it so
	l.publish()
	for _, o := range l.demoting {
		o.done <- nil
	}
	l.demoting = nil
}

// promoted answers those who have had this node promoted.
func (l *loop) promoted() {
	if len(l.promoting) == 0 {
		return
	}
	l.changed() // who is told it must find it so
	l.publish()
	s := l.core.Status()
	done := s.Serving && l.keyed()
	keep := l.promoting[:0]
	for _, o := range l.promoting {
		switch {
		case done:
			o.done <- nil
		case o.ctx.Err() != nil:
			o.done <- fmt.Errorf("not promoted in time: %s", s.Reason)
		default:
			keep = append(keep, o)
		}
	}
	if l.promoting = keep; len(keep) == 0 && !done {
		l.step(replica.Demote{})
	}
}
