package node

import (
	"crypto/rand"
	"fmt"
	"time"

	"sipha/registrard/location"
	"sipha/registrard/replica"
)

// primary is what the loop holds while this node is the primary: the batch that is being collected, and those that are in flight.
type primary struct {
	epoch    location.Epoch // for which the overlay holds what is in flight; zero: none
	open     []location.Change
	body     []byte        // of open, encoded; its bytes are used again
	since    time.Duration // since when open collects
	answers  []waiter      // decided on what is open
	inFlight []batch       // oldest first; those of START's tail have no answers
	held     []waiter      // requests that wait for room, not yet decided

	proposed  uint64 // batches ever put in flight
	committed uint64 // and of them, those that are not in flight any more
	waiting   int    // requests that are not yet answered

	token    uint64    // of the last of reads
	reads    []reading // oldest first, by rising token without a gap
	lastTick time.Duration
	lastLook time.Duration
	statusAt time.Duration
}

// batch is an entry that was proposed.
type batch struct {
	changes  []location.Change
	answers  []waiter
	proposed time.Duration
}

// empty tells whether nobody waits for an answer.
func (p *primary) empty() bool { return p.waiting == 0 }

// fly puts a batch in flight.
func (p *primary) fly(b batch) {
	p.inFlight = append(p.inFlight, b)
	p.proposed++
}

// add puts changes into the open batch, all into one, and an answer that waits for its commit.
func (l *loop) add(w waiter, changes ...location.Change) {
	p := &l.primary
	start := len(p.body)
	p.body = appendAll(p.body, changes)
	if start > 0 && len(p.body) > BatchBytes {
		p.body = p.body[:start]
		l.closeBatch()
		if !l.leading() {
			if w.request != nil {
				l.tell(w, ErrNotServing)
			}
			return
		}
		p.body = appendAll(p.body, changes)
	}
	if len(p.open) == 0 {
		p.since = l.now.Mono
	}
	for _, c := range changes {
		l.overlay.Add(c)
		p.open = append(p.open, c)
	}
	if w.request != nil {
		p.answers = append(p.answers, w)
	}
	if len(p.body) >= BatchBytes {
		l.closeBatch()
	}
}

func appendAll(dst []byte, changes []location.Change) []byte {
	for _, c := range changes {
		dst = location.AppendChange(dst, c)
	}
	return dst
}

// flushDue returns in how long the open batch must go out; 0: there is none, or no room for it: then something else will wake the loop.
func (l *loop) flushDue() time.Duration {
	p := &l.primary
	if len(p.open) == 0 || !l.core.Room() {
		return 0
	}
	return max(p.since+BatchAge-l.now.Mono, time.Microsecond)
}

// flush closes the open batch when it is old, or when nothing else keeps the group busy.
func (l *loop) flush() {
	p := &l.primary
	if len(p.held) > 0 {
		l.release()
	}
	if len(p.open) > 0 && l.core.Room() && (len(p.inFlight) < 2 || l.now.Mono-p.since >= BatchAge) {
		l.closeBatch()
	}
}

// closeBatch proposes what is open.
func (l *loop) closeBatch() { l.propose(location.KindChanges) }

// propose closes the open batch as an entry of this kind.
func (l *loop) propose(kind location.Kind) {
	ev := l.proposal(kind, l.ordered())
	l.step(ev)
}

// proposal turns the open batch into an event for the core.
func (l *loop) proposal(kind location.Kind, t location.Time) replica.Propose {
	p := &l.primary
	payload := make([]byte, 0, location.HeadBytesMax+len(p.body)) // it stays in the core's window of the log
	payload = append(location.AppendHead(payload, len(p.open)), p.body...)
	ev := replica.Propose{Epoch: p.epoch, Kind: kind, Time: t, Payload: payload, Digest: l.overlay.Close()}
	p.fly(batch{changes: p.open, answers: p.answers, proposed: l.now.Mono})
	// The next batch is likely to be as long.
	p.open, p.answers, p.body = make([]location.Change, 0, len(p.open)), make([]waiter, 0, len(p.answers)), p.body[:0]
	p.lastTick = l.now.Mono
	return ev
}

// compose makes an entry of the core's own: START, a change of the voters, a grace.
func (l *loop) compose(a replica.Compose) []replica.Event {
	p := &l.primary
	if a.Kind == location.KindStart {
		l.abandon()
		p.epoch, p.lastLook = a.Epoch, l.now.Mono-ExpiryInterval // the first epoch needs a key before it can serve
		for i := range a.Tail {
			changes, err := location.DecodeChanges(a.Tail[i].Payload)
			if err != nil {
				l.fail(fmt.Errorf("read entry %s: %w", a.Tail[i].Position, err))
				return nil
			}
			l.overlay.Stage(changes)
			p.fly(batch{changes: changes})
		}
	} else if a.Epoch != p.epoch {
		return nil
	}
	var events []replica.Event
	if len(p.open) > 0 {
		events = append(events, l.proposal(location.KindChanges, a.Time))
	}
	p.body = appendAll(p.body, a.Changes)
	for _, c := range a.Changes {
		l.overlay.Add(c)
		p.open = append(p.open, c)
	}
	return append(events, l.proposal(a.Kind, a.Time))
}

// commit applies entries to the content, answers those who waited for them, and leaves the tables to the disk.
func (l *loop) commit(entries []location.Entry) []replica.Event {
	if l.stuck {
		return nil
	}
	p := &l.primary
	changes := make([][]location.Change, len(entries))
	mine := min(len(p.inFlight), len(entries)) // in the order in which they were proposed, and nobody else's between them
	for i := range entries {
		if i < mine {
			changes[i] = p.inFlight[i].changes
			continue
		}
		var err error
		if changes[i], err = location.DecodeChanges(entries[i].Payload); err != nil {
			l.stuck = true
			l.fail(fmt.Errorf("apply entry %s: %w", entries[i].Position, err))
			return nil
		}
	}
	digest := l.apply(entries, changes, mine)
	l.write(diskOp{entries: entries, changes: changes})
	l.outcomes(changes)
	l.answer(mine)
	return []replica.Event{replica.Applied{Index: entries[len(entries)-1].Position.Index, Digest: digest}}
}

// apply applies entries to the content, the first ones being the oldest in flight.
func (l *loop) apply(entries []location.Entry, changes [][]location.Change, mine int) location.Digest {
	n := l.node
	n.mu.Lock()
	defer n.mu.Unlock()
	for i := range entries {
		n.state.Apply(entries[i].Time, changes[i])
		if i < mine {
			l.overlay.Committed()
		}
	}
	return n.state.Digest()
}

// answer tells those who waited for the oldest batches in flight.
func (l *loop) answer(batches int) {
	p := &l.primary
	done := p.inFlight[:batches]
	p.inFlight = p.inFlight[batches:]
	p.committed += uint64(batches)
	for i := range done {
		if o := l.node.opts.Observe; o != nil && len(done[i].answers) > 0 {
			o.Committed(len(done[i].changes), l.now.Mono-done[i].proposed)
		}
		for _, w := range done[i].answers {
			l.tell(w, nil)
		}
		done[i] = batch{}
	}
	l.answerReads()
}

// abandon fails everybody who waits: what was in flight may or may not become committed.
func (l *loop) abandon() {
	p := &l.primary
	for i := range p.inFlight {
		for _, w := range p.inFlight[i].answers {
			l.tell(w, ErrUnknown)
		}
	}
	for _, w := range p.answers {
		l.tell(w, ErrNotServing)
	}
	for i := range p.reads {
		if !p.reads[i].ended {
			l.tell(p.reads[i].waiter, ErrNotServing)
		}
	}
	for _, w := range p.held {
		l.tell(w, ErrNotServing)
	}
	p.committed = p.proposed
	p.epoch, p.open, p.answers, p.body, p.inFlight, p.held, p.reads = location.Epoch{}, nil, nil, p.body[:0], nil, nil, nil
	l.overlay.Reset()
}

// primaryTick moves ordered time, takes away what has run out, keeps a nonce key, and fails what has waited too long.
func (l *loop) primaryTick() {
	p := &l.primary
	l.expireAnswers()
	if !l.accepting() || !l.core.Room() {
		return
	}
	if l.now.Mono-p.lastLook >= ExpiryInterval {
		p.lastLook = l.now.Mono
		l.expire()
	}
	if len(p.open) == 0 && l.now.Mono-p.lastTick >= TickInterval {
		l.propose(location.KindTick)
	}
}

// expire takes away what has run out. What does not fit now is found again.
func (l *loop) expire() {
	now := l.ordered()
	changes := l.keys(now)
	l.node.mu.Lock() // the expiry index lies in the content
	changes = append(changes, l.overlay.Expired(now, &l.node.opts.Policy, ChangesPerTick)...)
	l.node.mu.Unlock()
	for _, c := range changes {
		if !l.leading() || !l.core.Room() {
			return
		}
		l.add(waiter{}, c)
	}
}

// keys returns the changes that keep a young nonce key: a new one when the newest is old, then without those whose nonces have all run
// out. A key is used once it is committed.
func (l *loop) keys(now location.Time) []location.Change {
	ks := l.overlay.Keys()
	life := location.Time(KeyLife / time.Millisecond)
	var changes []location.Change
	if len(ks) == 0 || ks[len(ks)-1].Created+life < now {
		k := location.Key{ID: 1, Created: now}
		if len(ks) > 0 {
			k.ID += ks[len(ks)-1].ID
		}
		if _, err := rand.Read(k.Secret[:]); err != nil {
			panic("crypto/rand: " + err.Error()) // the kernel's source of random numbers never fails
		}
		changes = append(changes, &location.KeyChange{Key: k})
	}
	keep := life + location.Time(l.node.opts.NonceLife/time.Millisecond)
	for i := 0; i < len(ks)-1; i++ {
		if ks[i].Created+keep < now {
			changes = append(changes, &location.KeyChange{Remove: true, Key: location.Key{ID: ks[i].ID}})
		}
	}
	return changes
}
