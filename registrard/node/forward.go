package node

import (
	"encoding/json"
	"time"

	"sipha/registrard/location"
	"sipha/registrard/replica"
)

// forwards are the commands of this node that wait for the primary, and those of others that have come here.
type forwards struct {
	waiting map[location.RequestID]*commandReq
	came    []replica.Forwarded
}

// forwardOut sends a command to the primary, and again until its outcome comes back as a committed row.
func (l *loop) forwardOut(r *commandReq) {
	if o, done := l.node.state.Outcome(r.id); done { // it came back between two tries
		r.outcome = o
		r.end(nil)
		return
	}
	if len(l.forward.waiting) >= ForwardMax {
		r.end(ErrOverloaded)
		return
	}
	l.forward.waiting[r.id] = r
	l.sendForward(r)
}

func (l *loop) sendForward(r *commandReq) {
	r.sent = l.now.Mono
	if len(l.sender.queue) > OutQueueMax/2 {
		return // the group stands still: more of it would help nobody, and push out what must go
	}
	left := location.Time(time.Until(r.deadline) / time.Millisecond)
	l.multicast(&replica.Forward{ID: r.id, Deadline: l.ordered() + left, Request: r.encoded})
}

// forwardTick sends again what has no outcome yet, and forgets what nobody waits for any more.
func (l *loop) forwardTick() {
	for id, r := range l.forward.waiting {
		switch {
		case r.ctx.Err() != nil:
			delete(l.forward.waiting, id)
			r.end(ErrNoPrimary)
		case l.now.Mono-r.sent >= ForwardRetry:
			l.sendForward(r)
		}
	}
}

// outcomes tells those of our commands whose outcome was just committed.
func (l *loop) outcomes(batches [][]location.Change) {
	if len(l.forward.waiting) == 0 {
		return
	}
	for _, changes := range batches {
		for _, c := range changes {
			if o, ok := c.(*location.OutcomeChange); ok && !o.Remove {
				l.outcome(o.Outcome)
			}
		}
	}
}

func (l *loop) outcome(o location.Outcome) {
	if r := l.forward.waiting[o.ID]; r != nil {
		delete(l.forward.waiting, o.ID)
		r.outcome = o
		r.end(nil)
	}
}

// outcomesInstalled tells those whose outcome has come with a snapshot.
func (l *loop) outcomesInstalled() {
	for id := range l.forward.waiting {
		if o, done := l.node.state.Outcome(id); done {
			l.outcome(o)
		}
	}
}

// forwarded decides what other nodes have sent, once.
func (l *loop) forwarded() {
	came := l.forward.came
	l.forward.came = nil
	for _, f := range came {
		now := l.ordered()
		if _, done := l.overlay.Outcome(f.Forward.ID); done || !l.accepting() || !l.core.Room() || now > f.Forward.Deadline {
			continue // it is sent again where that may help
		}
		cmd, err := decodeCommand(f.Forward.Request)
		if err != nil {
			l.node.opts.Log.Warn("forwarded command dropped", "node", uint32(f.From.Node), "error", err)
			continue
		}
		changes, o := l.effects(cmd, now)
		l.add(waiter{}, l.withOutcome(f.Forward.ID, changes, &o)...)
	}
}

// decodeCommand reads a command as another node has sent it. Parts that this version does not know are skipped.
func decodeCommand(b []byte) (*Command, error) {
	cmd := new(Command)
	if err := json.Unmarshal(b, cmd); err != nil {
		return nil, err
	}
	return cmd, nil
}
