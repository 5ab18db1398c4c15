package replicatest

import (
	"time"

	"sipha/registrard/location"
	"sipha/registrard/replica"
)

// primary is the part of a shell whose core leads an epoch: what is decided and not yet committed, and who waits for it.
type primary struct {
	epoch   location.Epoch
	overlay *location.Overlay
	time    location.Time // of the last proposal
	open    batch
	planned bool    // the open batch is to be proposed soon
	flown   []batch // proposed, oldest first, one to each of the overlay's closed batches
	done    uint64  // batches that are committed
	reads   []*reading
	token   uint64
}

// batch is the changes that become one entry.
type batch struct {
	changes []location.Change
	waiting []func() // answers that its commit lets go
}

// reading is an answer that rests on no change of its own.
type reading struct {
	token  uint64
	number uint64 // of the batch that must be committed first
	known  bool   // the core has said that this is still the primary
	reply  func(ok bool)
}

// Limits and times of the primary's batches.
const (
	batchDelay = 2 * time.Millisecond
	batchMax   = 64 // changes; more requests than that are refused while the core has no room
	// tickUsual is how often the primary looks for what has run out.
	tickUsual = 250 * time.Millisecond
	expireMax = 256
)

// policy is what the operator has decided.
func policy() *location.Policy {
	return &location.Policy{
		ExpiresMin: 1, ExpiresMax: 7200, ExpiresDefault: 3600, ContactsMax: 10, TombstoneLife: int64(tombstoneLife / time.Millisecond),
	}
}

// tombstoneLife is longer than any duplicate of a request is under way.
const tombstoneLife = 60 * time.Second

// compose makes a proposal out of what the core asks for. START begins an epoch: what lies in the log above the content comes first.
func (p *shell) compose(a replica.Compose) {
	if a.Kind == location.KindStart {
		p.abandon()
		p.lead = &primary{epoch: a.Epoch, overlay: location.NewOverlay(p.state)}
		for i := range a.Tail {
			// What a Commit before this has applied already is not in flight any more.
			if e := &a.Tail[i]; e.Position.Index > p.applied {
				p.lead.overlay.Stage(p.s.oracle.changes(e))
				p.lead.flown = append(p.lead.flown, batch{})
			}
		}
	}
	if p.lead == nil || p.lead.epoch != a.Epoch {
		return // an epoch that is over
	}
	p.close(location.KindChanges)
	for _, c := range a.Changes {
		p.add(c, nil)
	}
	p.lead.time = max(p.lead.time, a.Time)
	p.propose(a.Kind)
}

// add puts a change into the open batch.
func (p *shell) add(c location.Change, reply func()) {
	l := p.lead
	l.overlay.Add(c)
	l.open.changes = append(l.open.changes, c)
	if reply != nil {
		l.open.waiting = append(l.open.waiting, reply)
	}
}

// close proposes the open batch, if there is something in it.
func (p *shell) close(kind location.Kind) {
	if p.lead != nil && len(p.lead.open.changes) > 0 {
		p.propose(kind)
	}
}

// propose hands the open batch to the core, with the digest that the content has after it.
func (p *shell) propose(kind location.Kind) {
	l := p.lead
	l.time = max(l.time, p.core.OrderedTime(p.clock()))
	digest := l.overlay.Close()
	l.flown = append(l.flown, l.open)
	p.step(replica.Propose{
		Epoch: l.epoch, Kind: kind, Time: l.time, Payload: location.AppendChanges(nil, l.open.changes), Digest: digest,
	})
	l.open = batch{}
}

// closeSoon proposes the open batch once it has had time to fill, and the core has room.
func (p *shell) closeSoon() {
	l := p.lead
	if l.planned {
		return
	}
	l.planned = true
	p.after(p.s.between(0, batchDelay), func() {
		if p.lead != l {
			return
		}
		l.planned = false
		if !p.core.Room() {
			p.closeSoon()
			return
		}
		p.close(location.KindChanges)
	})
}

// committed lets go who waited for the oldest batch.
func (p *shell) committed(e *location.Entry) {
	l := p.lead
	if len(l.flown) == 0 {
		p.s.fail("node %d commits %s as the primary of %s, and has not proposed it", p.m.id, e.Position, l.epoch)
		return
	}
	l.overlay.Committed()
	b := l.flown[0]
	l.flown = l.flown[1:]
	l.done++
	for _, reply := range b.waiting {
		reply()
	}
	l.answerReads()
}

// answerReads lets go the reads that the core has confirmed and whose batches are committed.
func (l *primary) answerReads() {
	keep := l.reads[:0]
	for _, r := range l.reads {
		if r.known && r.number <= l.done {
			r.reply(true)
		} else {
			keep = append(keep, r)
		}
	}
	l.reads = keep
}

// number is that of the last batch that has something in it.
func (l *primary) number() uint64 {
	n := l.done + uint64(len(l.flown))
	if len(l.open.changes) > 0 {
		n++
	}
	return n
}

// readDone takes the core's word on a read.
func (p *shell) readDone(a replica.ReadDone) {
	if p.lead == nil {
		return
	}
	for i, r := range p.lead.reads {
		if r.token != a.Token {
			continue
		}
		if a.OK {
			r.known = true
			p.lead.answerReads()
			return
		}
		p.lead.reads = append(p.lead.reads[:i:i], p.lead.reads[i+1:]...)
		r.reply(false)
		return
	}
}

// abandon drops what has been decided and not committed. Who waits for it learns nothing: it may have been done.
func (p *shell) abandon() {
	if p.lead == nil {
		return
	}
	reads := p.lead.reads
	p.lead = nil
	for _, r := range reads {
		r.reply(false)
	}
}

// tick looks for what has run out.
func (p *shell) tick() {
	p.after(p.s.between(tickUsual/2, tickUsual), func() {
		p.expire()
		p.tick()
	})
}

func (p *shell) expire() {
	if p.lead == nil || !p.status.Serving || !p.core.Room() {
		return
	}
	now := max(p.core.OrderedTime(p.clock()), p.lead.time)
	changes := p.lead.overlay.Expired(now, policy(), expireMax)
	if len(changes) == 0 {
		return
	}
	p.close(location.KindChanges)
	if p.lead == nil {
		return
	}
	for _, c := range changes {
		p.add(c, nil)
	}
	p.lead.time = now
	p.propose(location.KindTick)
}

// register decides a REGISTER; reply is called once, with ok false for a 503, or never when the process ends before.
func (p *shell) register(req *location.Request, reply func(a location.Answer, ok bool)) {
	l := p.lead
	if l == nil || !p.status.Serving || len(l.open.changes) >= batchMax {
		reply(location.Answer{}, false)
		return
	}
	now := max(p.core.OrderedTime(p.clock()), l.time)
	change, answer := location.Decide(l.overlay, req, now, policy())
	switch {
	case change != nil:
		done := func() { reply(answer, true) }
		if p.s.opts.Break.EarlyAnswer {
			reply(answer, true)
			done = nil
		}
		p.add(change, done)
		p.closeSoon()
	case answer.Status != statusOK:
		reply(answer, true) // a refusal says nothing that a newer primary could contradict
	case p.s.opts.Break.BlindReads:
		reply(answer, true)
	default:
		l.token++
		r := &reading{token: l.token, number: l.number(), reply: func(ok bool) { reply(answer, ok) }}
		l.reads = append(l.reads, r)
		p.step(replica.Read{Token: r.token})
	}
}

const statusOK = 200
