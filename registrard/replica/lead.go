package replica

import (
	"slices"
	"time"

	"sipha/registrard/location"
)

// lead is the part of the primary of an epoch.
type lead struct {
	epoch    location.Epoch
	started  bool   // START is committed
	start    uint64 // index of START; 0 until it is proposed
	composed bool   // a Compose for voters or a pause is under way

	baseTime location.Time // ordered time at baseMono
	baseMono time.Duration

	seq   uint64            // of the last Append
	ahead []location.Entry  // proposed and not yet in our own log: log.last() is before ahead[0]
	sent  int               // how many of them have been sent
	tip   location.Position // of the last one proposed

	inFlight []flight // Appends with new entries, sent and not yet delivered, oldest first
	sentMono time.Duration
	moved    time.Duration // when delivery last made progress

	markDue  bool
	marks    int    // markers for reads on their way
	told     uint64 // the commit index that the last Append told
	standSeq uint64 // a majority must have accepted this Append, in this ring, for the epoch to stand; 0: not yet sent
	standing bool
	fell     time.Duration // since when it does not stand

	reads []read
}

type flight struct {
	seq  uint64
	last uint64
}

type read struct {
	token uint64
	seq   uint64
}

func (l *lead) time(mono time.Duration) location.Time {
	return l.baseTime + location.Time(max(mono-l.baseMono, 0)/time.Millisecond)
}

// start makes a claimant with its grants the primary: it asks for START, an entry of the log, which is all that commits what older
// epochs have left.
func (c *Core) start() {
	l := &lead{epoch: c.claim.epoch, tip: c.log.last(), fell: c.claim.since, moved: c.now.Mono, sentMono: c.now.Mono}
	passed := min(max(c.now.Mono-c.lastMono, 0), c.cfg.AddedMax)
	added := int64(passed / time.Millisecond)
	if c.claim.bootstrap {
		l.baseTime, added = location.Time(c.now.Wall), 0
	} else {
		l.baseTime = c.lastTime + location.Time(added)
	}
	l.baseMono = c.now.Mono
	changes := []location.Change{&location.TimeChange{Grace: l.baseTime + location.Time(c.cfg.Grace/time.Millisecond), Added: added}}
	if c.claim.bootstrap {
		changes = append(changes, &location.VotersChange{Voters: c.claim.voters})
	}
	c.lead, c.helloDue, c.dirty = l, true, true
	c.claim.epoch = location.Epoch{}
	c.follow = follow{epoch: l.epoch}
	c.matched = c.log.last().Index // our own log is the primary's
	for _, p := range c.sortedPeers() {
		p.index, p.seq, p.epoch = 0, 0, l.epoch
	}
	c.emit(Compose{
		Epoch: l.epoch, Kind: location.KindStart, Time: l.baseTime, Tail: c.log.span(c.commit, c.log.last().Index), Changes: changes,
	})
}

// onPropose puts a batch at the end of the log: it is sent at once, or when there is room.
func (c *Core) onPropose(ev Propose) {
	l := c.lead
	if l == nil || l.epoch != ev.Epoch || (ev.Kind == location.KindStart) != (l.start == 0) {
		return
	}
	e := location.Entry{
		Position: location.Position{Epoch: l.epoch, Index: l.tip.Index + 1, Digest: ev.Digest}, Prev: l.tip,
		Time: ev.Time, Kind: ev.Kind, Payload: ev.Payload,
	}
	if ev.Kind == location.KindStart {
		l.start = e.Position.Index
	}
	if ev.Kind == location.KindVoters {
		l.composed = false
	}
	l.tip = e.Position
	l.ahead = append(l.ahead, e)
}

// Room tells whether the primary takes another batch now.
func (c *Core) Room() bool {
	return c.lead != nil && c.lead.tip.Index-c.commit < UncommittedMax && len(c.lead.ahead)-c.lead.sent < InFlightMax
}

// pump sends what there is to send.
func (c *Core) pump() {
	l := c.lead
	if l == nil || l.start == 0 {
		return
	}
	for l.sent < len(l.ahead) && len(l.inFlight) < InFlightMax {
		n := fits(l.ahead[l.sent:])
		c.send(&Append{Prev: l.ahead[l.sent].Prev, Entries: slices.Clone(l.ahead[l.sent : l.sent+n])})
		l.sent += n
		l.inFlight = append(l.inFlight, flight{l.seq, l.ahead[l.sent-1].Position.Index})
		if l.standSeq == 0 && c.settled() {
			l.standSeq = l.seq
		}
	}
	if l.markDue || l.standSeq == 0 && c.settled() || len(l.reads) > 0 && l.reads[len(l.reads)-1].seq > l.seq && l.marks < 2 {
		c.mark()
	}
}

// send multicasts an Append of this epoch.
func (c *Core) send(a *Append) {
	l := c.lead
	l.seq++
	a.Epoch, a.Seq, a.Commit = l.epoch, l.seq, c.commit
	l.told, l.sentMono = c.commit, c.now.Mono
	c.multicast(a)
}

// mark sends an Append without entries.
func (c *Core) mark() {
	l := c.lead
	prev := c.log.last()
	if l.sent > 0 {
		prev = l.ahead[l.sent-1].Position
	}
	c.send(&Append{Prev: prev})
	l.markDue = false
	l.marks++
	if l.standSeq == 0 && c.settled() {
		l.standSeq = l.seq
	}
}

// delivered counts our own Appends as they come back. Messages of one sender are never reordered: one that is missing was dropped, and
// everything from it on is sent again.
func (c *Core) delivered(a *Append) {
	l := c.lead
	l.moved = c.now.Mono
	if a.To != 0 {
		return
	}
	if len(a.Entries) == 0 {
		l.marks = max(l.marks-1, 0)
	}
	for len(l.inFlight) > 0 && l.inFlight[0].seq < a.Seq {
		if l.inFlight[0].last > c.log.last().Index {
			c.rewind()
			return
		}
		l.inFlight = l.inFlight[1:]
	}
	if len(l.inFlight) > 0 && l.inFlight[0].seq == a.Seq {
		l.inFlight = l.inFlight[1:]
	}
}

// settleAhead forgets what has come back into our own log.
func (c *Core) settleAhead() {
	l := c.lead
	for len(l.ahead) > 0 && l.ahead[0].Position.Index <= c.log.last().Index {
		l.ahead, l.sent = l.ahead[1:], max(l.sent-1, 0)
	}
}

// rewind sends again what has not come back.
func (c *Core) rewind() {
	l := c.lead
	l.inFlight, l.sent, l.moved = nil, 0, c.now.Mono
	l.markDue = true
}

// leadTimer does what a primary has to do as time passes.
func (c *Core) leadTimer(gap time.Duration) {
	l := c.lead
	if l == nil {
		return
	}
	if len(l.inFlight) > 0 && c.now.Mono-l.moved >= ResendAfter {
		c.rewind()
	}
	if l.marks > 0 && c.now.Mono-l.moved >= ResendAfter {
		l.marks, l.markDue = 0, true
	}
	silent := c.now.Mono - l.sentMono
	if l.start != 0 && (silent >= IdleInterval || silent >= MarkInterval && l.told < c.commit) {
		l.markDue = true
	}
	if c.serving() && gap >= PauseMax {
		c.regrace(gap)
	}
	c.moveVoters()
}

// regrace gives phones time to come back in, after a primary stood still or was without a quorum.
func (c *Core) regrace(gap time.Duration) {
	l := c.lead
	t := l.time(c.now.Mono)
	c.note(levelWarn, "the primary stood still; nothing runs out for a while", "for", gap)
	c.emit(Compose{Epoch: l.epoch, Kind: location.KindTick, Time: t, Changes: []location.Change{
		&location.TimeChange{Grace: t + location.Time(c.cfg.Grace/time.Millisecond), Added: int64(gap / time.Millisecond)},
	}})
}

// serving tells whether this is the primary of a standing epoch.
func (c *Core) serving() bool {
	return c.lead != nil && c.lead.started && c.lead.standing && c.settled()
}

// suspend ends the standing of the epoch until a majority has answered a marker that is sent from now on.
func (c *Core) suspend() {
	l := c.lead
	if l.standing {
		l.standing, l.fell = false, c.now.Mono
	}
	l.standSeq = 0
}

// stepDown ends the primary's part. What is in flight may still be committed by the next one.
func (c *Core) stepDown() {
	for _, r := range c.lead.reads {
		c.emit(ReadDone{Token: r.token})
	}
	if c.lead.epoch == c.promised {
		c.matched = min(c.matched, c.log.last().Index)
	}
	// Time goes on from what the entries say, as for everybody else.
	c.lead = nil
	c.helloDue, c.dirty = true, true
	c.emit(Abandon{})
}

// depose ends it against Pacemaker's will: as long as that has this node promoted, it claims again.
func (c *Core) depose(reason string) {
	c.note(levelWarn, "no longer the primary", "epoch", c.lead.epoch, "reason", reason)
	c.stepDown()
	c.claim = claim{since: c.now.Mono, reason: reason, tries: 4}
	c.backoff()
}

// onReceipt counts.
func (c *Core) onReceipt(p *peer, m *Receipt) {
	if m.Disk != p.disk || m.Epoch != c.follow.epoch {
		return
	}
	if p.epoch != m.Epoch {
		p.epoch, p.index, p.seq = m.Epoch, 0, 0
	}
	p.differs, p.applied, p.digest = m.Differs, m.Applied, m.Digest
	if !m.Differs {
		p.index, p.seq, p.ring = max(p.index, m.Index), max(p.seq, m.Seq), m.Ring
		if c.lead != nil {
			c.advance()
		}
	}
	if c.differs || c.lead != nil && c.stanceOf(p) == against {
		c.judge()
	}
}

// receipted is the primary's word to itself.
func (c *Core) receipted(index uint64) {
	p := c.peers[c.cfg.Self.Node]
	if p == nil {
		return
	}
	p.epoch, p.index, p.seq, p.ring = c.lead.epoch, max(p.index, index), max(p.seq, c.follow.seq), c.view.ring
	p.applied, p.digest = c.applied, c.digest
	c.advance()
}

// advance looks what the receipts allow: the epoch to stand, entries to be committed, reads to be answered.
func (c *Core) advance() {
	l := c.lead
	if !c.settled() {
		return
	}
	if !l.standing && l.standSeq != 0 && c.agreed(func(p *peer) uint64 { return c.seqHere(p) }) >= l.standSeq {
		l.standing, c.dirty = true, true
		if fell := c.now.Mono - l.fell; l.started && fell >= PauseMax {
			c.regrace(fell)
		}
	}
	if !l.standing {
		return
	}
	index := c.agreed(func(p *peer) uint64 { return p.index })
	if pos, ok := c.log.at(index); ok && pos.Epoch == l.epoch && index > c.commit {
		c.setCommit(index)
		if !l.started && l.start != 0 && index >= l.start {
			l.started, c.dirty, l.markDue = true, true, true
			c.claim.tries = 0
			c.note(levelInfo, "primary", "epoch", l.epoch, "position", pos)
		}
	}
	c.answerReads()
}

// seqHere is the Append that a peer has accepted, where it said so in the present ring.
func (c *Core) seqHere(p *peer) uint64 {
	if p.ring != c.view.ring || !c.here(p.Node) {
		return 0
	}
	return p.seq
}

// agreed returns the highest value that a majority of the voters has reached.
func (c *Core) agreed(value func(*peer) uint64) uint64 {
	vs := c.voters()
	if len(vs) == 0 {
		return 0
	}
	reached := make([]uint64, 0, VotersMax)
	for _, v := range vs {
		if p := c.peers[v.Node]; p != nil && p.disk == v.Disk && p.epoch == c.lead.epoch && !p.differs {
			reached = append(reached, value(p))
		} else {
			reached = append(reached, 0)
		}
	}
	slices.Sort(reached)
	return reached[len(reached)-majority(len(reached))]
}

// Accepting tells whether requests may be decided here: this is the primary, and its epoch stands, or has not stood for less than
// SuspendMax. What is decided meanwhile is answered once the epoch stands again, or not at all.
func (c *Core) Accepting() bool {
	l := c.lead
	return l != nil && l.started && (c.serving() || c.now.Mono-l.fell < SuspendMax)
}

// onRead waits for a marker that is sent from here on: receipts that name an older one do not count.
func (c *Core) onRead(ev Read) {
	if !c.Accepting() || len(c.lead.reads) >= ReadsMax {
		c.emit(ReadDone{Token: ev.Token})
		return
	}
	c.lead.reads = append(c.lead.reads, read{ev.Token, c.lead.seq + 1})
}

// answerReads lets go the reads whose marker a majority has accepted.
func (c *Core) answerReads() {
	l := c.lead
	if len(l.reads) == 0 || !l.started {
		return
	}
	seq := c.agreed(func(p *peer) uint64 { return c.seqHere(p) })
	n := 0
	for n < len(l.reads) && l.reads[n].seq <= seq {
		c.emit(ReadDone{Token: l.reads[n].token, OK: true})
		n++
	}
	l.reads = slices.Delete(l.reads, 0, n)
}

// moveVoters changes the voters by one node at a time: a node that has another database than the one that counts leaves them, and a
// node that has caught up with this epoch becomes one. They count from the moment they are logged, and the next change waits until
// this one, and START, are committed.
func (c *Core) moveVoters() {
	l := c.lead
	if !c.serving() || l.composed || c.votersIndex() > c.commit {
		return
	}
	vs := slices.Clone(c.voters())
	for i, v := range vs {
		if p := c.peers[v.Node]; p != nil && p.disk != v.Disk && len(vs) > 1 {
			c.composeVoters(slices.Delete(vs, i, i+1), "a voter has lost its database", p)
			return
		}
	}
	limit := VotersMax
	if c.cfg.Expected > 0 {
		limit = min(limit, c.cfg.Expected)
	}
	for _, p := range c.sortedPeers() {
		known := slices.ContainsFunc(vs, func(v location.Voter) bool { return v.Node == p.Node })
		if known || len(vs) >= limit || !c.here(p.Node) || p.epoch != l.epoch || p.differs || p.index == 0 ||
			p.index < p.joined || p.index+VoterLagMax < c.commit {
			continue
		}
		vs = append(vs, location.Voter{Node: p.Node, Disk: p.disk})
		slices.SortFunc(vs, func(a, b location.Voter) int { return int(a.Node) - int(b.Node) })
		c.composeVoters(vs, "a node has caught up", p)
		return
	}
}

func (c *Core) composeVoters(vs []location.Voter, reason string, p *peer) {
	l := c.lead
	l.composed = true
	c.note(levelWarn, "voters change", "reason", reason, "node", p.name, "voters", len(vs))
	c.emit(Compose{
		Epoch: l.epoch, Kind: location.KindVoters, Time: l.time(c.now.Mono), Changes: []location.Change{&location.VotersChange{Voters: vs}},
	})
}

// onNeed hands a follower what its log lacks.
func (c *Core) onNeed(p *peer, m *Need) {
	l := c.lead
	if l == nil || m.Epoch != l.epoch || p.Member == c.cfg.Self {
		return
	}
	prev, entries, ok := c.after(m.Last, m.Committed)
	if !ok {
		c.multicast(&Behind{Epoch: l.epoch, To: p.Node})
		return
	}
	entries = append(slices.Clone(entries), l.ahead[:l.sent]...)
	for n := 0; n < TailBurst; n++ {
		k := fits(entries)
		more := k < len(entries) && n == TailBurst-1
		c.send(&Append{To: p.Node, Prev: prev, Entries: entries[:k:k], More: more})
		if k == len(entries) {
			return
		}
		prev, entries = entries[k-1].Position, entries[k:]
	}
}
