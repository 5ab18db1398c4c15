package node

import (
	"crypto/rand"
	"slices"
	"time"

	"sipha/registrard/location"
	"sipha/registrard/replica"
)

// primary is what the loop holds while this node is the primary: the batch that is being collected, and those that are in flight.
type primary struct {
	epoch    location.Epoch // for which the overlay holds what is in flight; zero: none
	open     []location.Change
	size     int       // of open, encoded
	since    time.Time // since when open collects
	answers  []answer  // decided on what is open
	inFlight []batch   // oldest first; those of START's tail have no answers
	held     []any     // requests that wait for room

	token    uint64
	reads    map[uint64]*pendingRead
	lastTick time.Time
	lastLook time.Time
	statusAt time.Time
	scratch  []byte
}

// batch is an entry that was proposed.
type batch struct {
	changes  []location.Change
	answers  []answer
	proposed time.Time
}

// answer is what somebody is told once everything that it was decided on is committed.
type answer struct {
	tell     func(error)
	deadline time.Time
}

// pendingRead is an answer that changes nothing: it rests on a marker that was sent after its request came in, and on the commit of
// what was in flight.
type pendingRead struct {
	answer
	behind int // batches that were in flight or open when it was decided, and are not yet committed
	ok     bool
}

// empty tells whether nobody waits for an answer.
func (p *primary) empty() bool {
	if len(p.answers) > 0 || len(p.reads) > 0 || len(p.held) > 0 {
		return false
	}
	return !slices.ContainsFunc(p.inFlight, func(b batch) bool { return len(b.answers) > 0 })
}

// registerReq is a REGISTER on its way through the loop.
type registerReq struct {
	req  *location.Request
	done func(location.Answer, error)
}

// lookupReq is a question for an AOR's bindings.
type lookupReq struct {
	aor  location.AOR
	done func(location.Lookup, error)
}

// Register decides a REGISTER. done is called once, from the loop, when the answer rests on a majority: it must not block. Any error
// means 503. The request must not be changed until then.
func (n *Node) Register(req *location.Request, done func(location.Answer, error)) {
	n.ask(&registerReq{req, done}, func(err error) { done(location.Answer{}, err) })
}

// Lookup reads an AOR's bindings as they are committed at some moment between this call and done's.
func (n *Node) Lookup(aor location.AOR, done func(location.Lookup, error)) {
	n.ask(&lookupReq{aor, done}, func(err error) { done(location.Lookup{}, err) })
}

// ask hands a request to the loop, or fails it at once.
func (n *Node) ask(r any, failed func(error)) {
	if !n.Serving() {
		failed(ErrNotServing)
		return
	}
	select {
	case n.inbox <- r:
	case <-n.closed:
		failed(ErrClosed)
	default:
		failed(ErrOverloaded)
	}
}

// fail tells a request that it is not decided.
func fail(r any, err error) {
	switch r := r.(type) {
	case *registerReq:
		r.done(location.Answer{}, err)
	case *lookupReq:
		r.done(location.Lookup{}, err)
	case *commandReq:
		r.finish(location.Outcome{}, err)
	}
}

// request decides a request, or holds it until there is room.
func (l *loop) request(r any) {
	p := &l.primary
	if c, ok := r.(*commandReq); ok && !l.leading() {
		l.forwardOut(c)
		return
	}
	switch {
	case !l.core.Accepting() || !l.leading() || l.node.draining.Load():
		fail(r, ErrNotServing)
	case !l.core.Room():
		if len(p.held) >= WaitingMax {
			fail(r, ErrOverloaded)
			return
		}
		p.held = append(p.held, r)
	default:
		l.decide(r)
	}
}

// leading tells whether the overlay stands for the epoch that the core leads.
func (l *loop) leading() bool { return l.primary.epoch != (location.Epoch{}) }

// decide decides a request on the content with what is in flight on top.
func (l *loop) decide(r any) {
	now := l.core.OrderedTime(l.node.now())
	switch r := r.(type) {
	case *registerReq:
		change, ans := location.Decide(l.overlay, r.req, now, &l.node.opts.Policy)
		tell := func(err error) {
			if err != nil {
				r.done(location.Answer{}, err)
				return
			}
			r.done(ans, nil)
		}
		if change != nil {
			l.add(tell, change)
		} else {
			l.rest(tell)
		}
	case *lookupReq:
		l.rest(func(err error) {
			if err != nil {
				r.done(location.Lookup{}, err)
				return
			}
			r.done(location.Find(l.node.state, r.aor, now), nil)
		})
	case *commandReq:
		l.command(r)
	}
}

// add puts changes into the open batch, and an answer that waits for its commit.
func (l *loop) add(tell func(error), changes ...location.Change) {
	p := &l.primary
	if len(p.open) == 0 && len(p.answers) == 0 {
		p.since = time.Now()
	}
	for _, c := range changes {
		l.overlay.Add(c)
		p.scratch = location.AppendChange(p.scratch[:0], c)
		p.size += len(p.scratch)
		p.open = append(p.open, c)
	}
	if tell != nil {
		p.answers = append(p.answers, answer{tell, time.Now().Add(AnswerTimeout)})
	}
	if p.size >= BatchBytes {
		l.closeBatch()
	}
}

// rest answers without a change. A batch that is open goes out after the request came in, so that its commit is enough; else a marker
// is asked for, and what is in flight is waited for too.
func (l *loop) rest(tell func(error)) {
	p := &l.primary
	a := answer{tell, time.Now().Add(AnswerTimeout)}
	if len(p.open) > 0 {
		p.answers = append(p.answers, a)
		return
	}
	p.token++
	p.reads[p.token] = &pendingRead{answer: a, behind: len(p.inFlight)}
	l.step(replica.Read{Token: p.token})
}

// readDone lets a read go, or leaves it to the commit that it still waits for.
func (l *loop) readDone(a replica.ReadDone) {
	p := &l.primary
	r := p.reads[a.Token]
	if r == nil {
		return
	}
	switch {
	case !a.OK:
		delete(p.reads, a.Token)
		r.tell(ErrNotServing)
	case r.behind > 0:
		r.ok = true
	default:
		delete(p.reads, a.Token)
		r.tell(nil)
	}
}

// flushDue returns in how long the open batch must go out; 0: there is none.
func (l *loop) flushDue() time.Duration {
	if len(l.primary.open) == 0 {
		return 0
	}
	return max(time.Until(l.primary.since.Add(BatchAge)), time.Microsecond)
}

// flush closes the open batch when it is old, or when nothing else keeps the group busy.
func (l *loop) flush() {
	p := &l.primary
	if len(p.held) > 0 && l.core.Room() {
		l.release()
	}
	if len(p.open) > 0 && l.core.Room() && (len(p.inFlight) < 2 || time.Since(p.since) >= BatchAge) {
		l.closeBatch()
	}
}

// release decides what was held, as far as there is room.
func (l *loop) release() {
	p := &l.primary
	held := p.held
	p.held = nil
	for i, r := range held {
		if !l.core.Room() {
			p.held = append(p.held, held[i:]...)
			return
		}
		l.request(r)
	}
}

// closeBatch proposes what is open.
func (l *loop) closeBatch() {
	l.propose(location.KindChanges, l.core.OrderedTime(l.node.now()))
}

// propose closes the open batch as an entry of this kind.
func (l *loop) propose(kind location.Kind, t location.Time) {
	ev := l.proposal(kind, t)
	l.step(ev)
}

// proposal turns the open batch into an event for the core.
func (l *loop) proposal(kind location.Kind, t location.Time) replica.Propose {
	p := &l.primary
	ev := replica.Propose{
		Epoch: p.epoch, Kind: kind, Time: t, Payload: location.AppendChanges(nil, p.open), Digest: l.overlay.Close(),
	}
	p.inFlight = append(p.inFlight, batch{changes: p.open, answers: p.answers, proposed: time.Now()})
	p.open, p.answers, p.size = nil, nil, 0
	p.lastTick = time.Now()
	return ev
}

// compose makes an entry of the core's own: START, a change of the voters, a grace.
func (l *loop) compose(a replica.Compose) []replica.Event {
	p := &l.primary
	if a.Kind == location.KindStart {
		l.overlay.Reset()
		p.epoch, p.inFlight = a.Epoch, nil
		for i := range a.Tail {
			changes, err := location.DecodeChanges(a.Tail[i].Payload)
			if err != nil {
				l.err = err
				return nil
			}
			l.overlay.Stage(changes)
			p.inFlight = append(p.inFlight, batch{changes: changes})
		}
	} else if a.Epoch != p.epoch {
		return nil
	}
	var events []replica.Event
	if len(p.open) > 0 {
		events = append(events, l.proposal(location.KindChanges, a.Time))
	}
	for _, c := range a.Changes {
		l.overlay.Add(c)
	}
	p.open = append(p.open, a.Changes...)
	return append(events, l.proposal(a.Kind, a.Time))
}

// commit applies entries to the content, answers those who waited for them, and leaves the tables to the disk.
func (l *loop) commit(entries []location.Entry) []replica.Event {
	p := &l.primary
	n := l.node
	changes := make([][]location.Change, len(entries))
	mine := min(len(p.inFlight), len(entries))
	if !l.leading() {
		mine = 0
	}
	for i := range entries {
		if i < mine {
			changes[i] = p.inFlight[i].changes
			continue
		}
		var err error
		if changes[i], err = location.DecodeChanges(entries[i].Payload); err != nil {
			l.err = err
			return nil
		}
	}
	n.mu.Lock()
	for i := range entries {
		n.state.Apply(entries[i].Time, changes[i])
		if i < mine {
			l.overlay.Committed()
		}
	}
	digest := n.state.Digest()
	n.mu.Unlock()
	l.disk.apply(entries, changes)
	for i := range changes {
		l.outcomes(changes[i])
	}
	if mine > 0 {
		done := slices.Clone(p.inFlight[:mine])
		p.inFlight = slices.Delete(p.inFlight, 0, mine)
		l.answer(done)
	}
	return []replica.Event{replica.Applied{Index: entries[len(entries)-1].Position.Index, Digest: digest}}
}

// answer tells those who waited for these batches.
func (l *loop) answer(done []batch) {
	for _, b := range done {
		for _, a := range b.answers {
			a.tell(nil)
		}
		if o := l.node.opts.Observe; o != nil && len(b.answers) > 0 {
			o.Committed(len(b.changes), time.Since(b.proposed))
		}
	}
	for token, r := range l.primary.reads {
		if r.behind = max(r.behind-len(done), 0); r.behind == 0 && r.ok {
			delete(l.primary.reads, token)
			r.tell(nil)
		}
	}
}

// abandon fails everybody who waits: what was in flight may or may not become committed.
func (l *loop) abandon() {
	p := &l.primary
	for _, b := range p.inFlight {
		for _, a := range b.answers {
			a.tell(ErrUnknown)
		}
	}
	for _, a := range p.answers {
		a.tell(ErrNotServing)
	}
	for _, r := range p.reads {
		r.tell(ErrNotServing)
	}
	for _, r := range p.held {
		fail(r, ErrNotServing)
	}
	p.epoch, p.open, p.answers, p.size, p.inFlight, p.held = location.Epoch{}, nil, nil, 0, nil, nil
	clear(p.reads)
	l.overlay.Reset()
}

// primaryTick moves ordered time, takes away what has run out, keeps a nonce key, and fails what has waited too long.
func (l *loop) primaryTick() {
	p := &l.primary
	if !l.leading() {
		return
	}
	l.expireAnswers()
	if !l.core.Accepting() || !l.core.Room() || l.node.draining.Load() {
		return
	}
	if time.Since(p.lastLook) >= ExpiryInterval {
		p.lastLook = time.Now()
		now := l.core.OrderedTime(l.node.now())
		changes := l.keys(now)
		l.node.mu.Lock() // the expiry index lies in the content
		changes = append(changes, l.overlay.Expired(now, &l.node.opts.Policy, ChangesPerTick)...)
		l.node.mu.Unlock()
		if len(changes) > 0 {
			l.add(nil, changes...)
		}
	}
	if len(p.open) == 0 && time.Since(p.lastTick) >= TickInterval {
		l.propose(location.KindTick, l.core.OrderedTime(l.node.now()))
	}
}

// expireAnswers fails what no majority has confirmed in time.
func (l *loop) expireAnswers() {
	now := time.Now()
	p := &l.primary
	late := func(answers []answer) []answer {
		n := 0
		for n < len(answers) && now.After(answers[n].deadline) {
			answers[n].tell(ErrTimeout)
			n++
		}
		return answers[n:]
	}
	for i := range p.inFlight {
		p.inFlight[i].answers = late(p.inFlight[i].answers)
	}
	p.answers = late(p.answers)
	for token, r := range p.reads {
		if now.After(r.deadline) {
			delete(p.reads, token)
			r.tell(ErrTimeout)
		}
	}
}

// keys returns the changes that keep a young nonce key: a new one when the newest is old, and without those whose nonces have all run
// out. A key is used once it is committed.
func (l *loop) keys(now location.Time) []location.Change {
	ks := l.overlay.Keys()
	life := location.Time(KeyLife / time.Millisecond)
	keep := life + location.Time(l.node.opts.NonceLife/time.Millisecond)
	var changes []location.Change
	var id uint32
	for _, k := range ks {
		id = max(id, k.ID)
		if k.Created+keep < now && len(ks) > 1 {
			changes = append(changes, &location.KeyChange{Remove: true, Key: location.Key{ID: k.ID}})
		}
	}
	if len(ks) == 0 || ks[len(ks)-1].Created+life < now {
		k := location.Key{ID: id + 1, Created: now}
		if _, err := rand.Read(k.Secret[:]); err != nil {
			panic("crypto/rand: " + err.Error())
		}
		changes = append(changes, &location.KeyChange{Key: k})
	}
	return changes
}
