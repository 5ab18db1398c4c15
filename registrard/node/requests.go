package node

import (
	"time"

	"sipha/registrard/location"
	"sipha/registrard/replica"
)

// registerReq is a REGISTER on its way through the loop.
type registerReq struct {
	req    *location.Request
	done   func(location.Answer, error)
	answer location.Answer // once it is decided
}

func (r *registerReq) end(err error) {
	if err != nil {
		r.answer = location.Answer{}
	}
	r.done(r.answer, err)
}

// lookupReq is a question for an AOR's bindings.
type lookupReq struct {
	aor   location.AOR
	done  func(location.Lookup, error)
	now   location.Time // once the loop has taken it
	state *location.State
}

func (r *lookupReq) end(err error) {
	if err != nil {
		r.done(location.Lookup{}, err)
		return
	}
	r.done(location.Find(r.state, r.aor, r.now), nil)
}

// Register decides a REGISTER. done is called once, mostly from the loop, when the answer rests on a majority: it must not block. Any
// error means 503. The request must not be changed until then.
func (n *Node) Register(req *location.Request, done func(location.Answer, error)) {
	n.askPrimary(&registerReq{req: req, done: done})
}

// Lookup reads an AOR's bindings as they are committed at some moment between this call and done's, which is as Register's.
func (n *Node) Lookup(aor location.AOR, done func(location.Lookup, error)) {
	n.askPrimary(&lookupReq{aor: aor, done: done})
}

// askPrimary hands a request to the loop, or fails it at once.
func (n *Node) askPrimary(r request) {
	if !n.Serving() {
		r.end(ErrNotServing)
		return
	}
	if err := n.ask(r); err != nil {
		r.end(err)
	}
}

// waiter is a request that the loop has taken, with the time by which it has its answer.
type waiter struct {
	request
	deadline time.Duration
}

// waiter makes one of a request.
func (l *loop) waiter(r request) waiter {
	l.primary.waiting++
	return waiter{r, l.now.Mono + AnswerTimeout}
}

// tell ends a request.
func (l *loop) tell(w waiter, err error) {
	l.primary.waiting--
	w.end(err)
}

// reading is a request that changes nothing: its answer rests on a marker that was sent after it came in, and on the commit of what
// was in flight.
type reading struct {
	waiter
	batch uint64 // that must be committed
	ok    bool   // the marker has a majority
	ended bool
}

// request decides a request, or holds it until there is room.
func (l *loop) request(r request) {
	p := &l.primary
	if c, ok := r.(*commandReq); ok {
		switch {
		case c.ctx.Err() != nil:
			c.end(ErrNoPrimary) // nobody waits for it any more
			return
		case !l.leading():
			l.forwardOut(c)
			return
		}
	}
	switch {
	case !l.accepting():
		r.end(ErrNotServing)
	case p.waiting >= WaitingMax:
		r.end(ErrOverloaded)
	case len(p.held) > 0 || !l.core.Room():
		p.held = append(p.held, l.waiter(r))
	default:
		l.decide(l.waiter(r))
	}
}

// leading tells whether the overlay stands for the epoch that the core leads.
func (l *loop) leading() bool { return l.primary.epoch != (location.Epoch{}) }

// accepting tells whether requests are decided.
func (l *loop) accepting() bool { return l.leading() && l.core.Accepting() && !l.node.draining.Load() }

// ordered is ordered time. It never goes back within an epoch, and is never past what the next entry carries.
func (l *loop) ordered() location.Time { return l.core.OrderedTime(l.now) }

// decide decides a request on the content with what is in flight on top.
func (l *loop) decide(w waiter) {
	switch r := w.request.(type) {
	case *registerReq:
		change, answer := location.Decide(l.overlay, r.req, l.ordered(), &l.node.opts.Policy)
		r.answer = answer
		if change == nil {
			l.rest(w)
			return
		}
		l.add(w, change)
	case *lookupReq:
		r.now, r.state = l.ordered(), l.node.state
		l.rest(w)
	case *commandReq:
		l.command(r, w)
	}
}

// rest answers without a change. A batch that is open goes out after the request came in, so that its commit is enough; else a marker
// is asked for, and what is in flight is waited for too.
func (l *loop) rest(w waiter) {
	p := &l.primary
	if len(p.open) > 0 {
		p.answers = append(p.answers, w)
		return
	}
	p.token++
	p.reads = append(p.reads, reading{waiter: w, batch: p.proposed})
	l.step(replica.Read{Token: p.token})
}

// readDone takes the core's word on a read.
func (l *loop) readDone(a replica.ReadDone) {
	p := &l.primary
	first := p.token - uint64(len(p.reads)) + 1
	if a.Token < first || a.Token > p.token {
		return // out of time, or of an epoch that is over
	}
	r := &p.reads[a.Token-first]
	switch {
	case r.ended:
	case a.OK:
		r.ok = true
	default:
		r.ended = true
		l.tell(r.waiter, ErrNotServing)
	}
	l.answerReads()
}

// answerReads lets those reads go, oldest first, that rest on what is known and committed by now.
func (l *loop) answerReads() {
	p := &l.primary
	for len(p.reads) > 0 {
		r := p.reads[0]
		if !r.ended && (!r.ok || r.batch > p.committed) {
			return
		}
		p.reads[0] = reading{}
		p.reads = p.reads[1:]
		if !r.ended {
			l.tell(r.waiter, nil)
		}
	}
}

// hold decides what was held, as far as there is room, and gives up on it where nothing is decided any more.
func (l *loop) release() {
	p := &l.primary
	for len(p.held) > 0 {
		w := p.held[0]
		switch {
		case !l.accepting():
			l.tell(w, ErrNotServing)
		case !l.core.Room():
			return
		default:
			l.decide(w)
		}
		if len(p.held) == 0 {
			return // what was decided has ended the epoch, and with it all who were held
		}
		p.held[0] = waiter{}
		p.held = p.held[1:]
	}
	p.held = nil
}

// expireAnswers fails what has waited too long.
func (l *loop) expireAnswers() {
	p := &l.primary
	for i := range p.inFlight {
		p.inFlight[i].answers = l.late(p.inFlight[i].answers)
	}
	p.answers = l.late(p.answers)
	p.held = l.late(p.held)
	for i := range p.reads {
		r := &p.reads[i]
		if r.deadline > l.now.Mono {
			break
		}
		if !r.ended {
			r.ended = true
			l.tell(r.waiter, ErrTimeout)
		}
	}
	l.answerReads()
}

// late fails those that are out of time, and returns the others. They are in the order of their deadlines.
func (l *loop) late(ws []waiter) []waiter {
	for len(ws) > 0 && ws[0].deadline <= l.now.Mono {
		l.tell(ws[0], ErrTimeout)
		ws = ws[1:]
	}
	return ws
}
