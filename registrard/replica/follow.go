package replica

import (
	"slices"
	"time"

	"sipha/registrard/location"
)

// follow is a member's part as a follower of an epoch's primary; the primary follows itself, on the same path.
type follow struct {
	epoch    location.Epoch // whose Appends are accepted: promised, once one of them has come
	ok       bool           // the last Append was accepted: no gap
	seq      uint64         // the highest Append that was accepted
	lastMono time.Duration  // when that was
	needMono time.Duration  // when a Need was last sent
	needs    bool           // a Need is due or without an answer

	// What has been receipted last.
	sentIndex uint64
	sentSeq   uint64
	sentRing  RingID

	// Entries that replace the log from stageCut on, held back until they leave a higher position.
	stage    []location.Entry
	stageCut uint64
}

// onAppend takes in the primary's log.
func (c *Core) onAppend(p *peer, a *Append) {
	c.seen = maxEpoch(c.seen, a.Epoch)
	if a.Epoch.Node != p.Node || a.Epoch.Incarnation != p.incarnation || !c.compatible(p) {
		return
	}
	switch cmp := a.Epoch.Compare(c.promised); {
	case cmp < 0:
		return // whoever has promised an epoch takes no batch of an older one
	case cmp > 0:
		if !c.settled() {
			return // nothing is promised without quorum
		}
		c.promise(a.Epoch, false)
	}
	if c.follow.epoch != a.Epoch {
		c.follow = follow{epoch: a.Epoch}
		c.matched = 0
		c.differs = false // from an older primary; the new one's START tells anew
		c.dirty = true
	}
	if c.lead != nil {
		c.delivered(a)
	}
	if a.To != 0 && a.To != c.cfg.Self.Node || c.join != nil {
		return // not for us, or our log is about to be replaced
	}
	ok := c.accept(a.Prev, a.Entries, true)
	if c.lead != nil {
		c.settleAhead()
	}
	if !ok {
		c.follow.ok = false
		c.need(true)
		return
	}
	if !c.follow.ok {
		c.follow.ok, c.dirty = true, true
	}
	c.follow.needs = a.To != 0 && a.More
	c.follow.seq, c.follow.lastMono = max(c.follow.seq, a.Seq), c.now.Mono
	c.setCommit(min(a.Commit, c.matched))
	if c.follow.needs {
		c.need(false)
	}
	c.receipt()
}

// accept takes entries that follow prev into the log; false where they do not fit, so that a gap must be asked for. What is committed
// is never touched: by the argument of docs/protocol.md the primary has it too. Only what comes from the primary of the epoch is known
// to match its log: what a claimant pulls from a voter does not raise matched.
func (c *Core) accept(prev location.Position, entries []location.Entry, primary bool) bool {
	if len(c.follow.stage) > 0 {
		if last := c.follow.stage[len(c.follow.stage)-1].Position; last == prev {
			return c.extendStage(entries, primary)
		}
		if prev.Index >= c.follow.stageCut {
			return false
		}
		c.follow.stage = nil
	}
	for len(entries) > 0 && prev.Index < c.commit {
		prev, entries = entries[0].Position, entries[1:]
	}
	if prev.Index < c.commit {
		return true // nothing in it is news
	}
	if mine, ok := c.log.at(prev.Index); !ok || mine != prev {
		return false
	}
	for len(entries) > 0 {
		mine, ok := c.log.at(entries[0].Position.Index)
		if !ok || mine != entries[0].Position {
			break
		}
		prev, entries = mine, entries[1:]
	}
	if primary {
		c.matched = max(c.matched, prev.Index)
	}
	if len(entries) == 0 {
		return true
	}
	if prev.Index == c.log.last().Index {
		c.write(0, entries)
		if primary {
			c.matched = c.log.last().Index
		}
		return true
	}
	c.follow.stage, c.follow.stageCut = nil, entries[0].Position.Index
	return c.extendStage(entries, primary)
}

// extendStage holds entries that replace a part of the log back until they leave it at a higher position than it has now: no log is
// cut but by one that is ahead of it.
func (c *Core) extendStage(entries []location.Entry, primary bool) bool {
	c.follow.stage = append(c.follow.stage, entries...)
	last := c.follow.stage[len(c.follow.stage)-1].Position
	if last.Compare(c.log.last()) <= 0 {
		return len(c.follow.stage) <= WindowEntries
	}
	stage, cut := c.follow.stage, c.follow.stageCut
	c.follow.stage, c.follow.stageCut = nil, 0
	c.note(levelInfo, "log cut back to what the primary holds", "from", cut, "last", c.log.last(), "now", last)
	c.write(cut, stage)
	if primary {
		c.matched = c.log.last().Index
	}
	return true
}

// need asks the primary for what is missing: at once when something new has shown the gap, else every NeedInterval.
func (c *Core) need(fresh bool) {
	if c.join != nil || c.lead != nil {
		return
	}
	c.follow.needs = true
	if fresh && c.follow.needMono != 0 && c.now.Mono-c.follow.needMono < NeedInterval {
		return
	}
	c.follow.needMono = c.now.Mono
	committed, _ := c.log.at(c.commit)
	c.multicast(&Need{Epoch: c.follow.epoch, Last: c.tip(), Committed: committed})
}

// tip is where the follower's log ends for the primary: what is staged counts.
func (c *Core) tip() location.Position {
	if n := len(c.follow.stage); n > 0 {
		return c.follow.stage[n-1].Position
	}
	return c.log.last()
}

// followTimer repeats a Need without an answer.
func (c *Core) followTimer() {
	if c.follow.needs && c.now.Mono-c.follow.needMono >= NeedInterval && !c.leaderGone() {
		c.need(false)
	}
}

// receipt tells what this member holds, when there is news, and nothing that is on its way to the disk would be news at once.
func (c *Core) receipt() {
	f := &c.follow
	if f.epoch == (location.Epoch{}) || f.epoch != c.promised || c.promiseStored != c.promised || c.differs {
		return
	}
	index := min(c.durable, c.matched)
	if c.lead != nil {
		c.receipted(index)
		return
	}
	news := index > f.sentIndex
	if !news && c.durable >= c.matched {
		news = f.seq > f.sentSeq || f.sentRing != c.view.ring && f.seq > 0
	}
	if !news || !c.settled() {
		return
	}
	f.sentIndex, f.sentSeq, f.sentRing = index, f.seq, c.view.ring
	c.multicast(&Receipt{
		Epoch: f.epoch, Disk: c.cfg.Disk, Index: index, Seq: f.seq, Ring: c.view.ring, Applied: c.applied, Digest: c.digest,
	})
}

// onPull hands the log's tail to a claimant that is behind.
func (c *Core) onPull(p *peer, m *Pull) {
	if m.From != c.cfg.Self.Node || p.Member == c.cfg.Self {
		return
	}
	prev, entries, ok := c.after(m.Last, m.Committed)
	if !ok {
		c.multicast(&Behind{To: p.Node})
		return
	}
	for n := 0; len(entries) > 0 && n < TailBurst; n++ {
		k := fits(entries)
		c.multicast(&Tail{To: p.Node, Prev: prev, Entries: slices.Clone(entries[:k]), More: k < len(entries) && n == TailBurst-1})
		prev, entries = entries[k-1].Position, entries[k:]
	}
}

// after returns the entries that a log ending at last, and committed up to committed, lacks; false where the window does not reach
// back to them.
func (c *Core) after(last, committed location.Position) (location.Position, []location.Entry, bool) {
	prev := last
	if mine, ok := c.log.at(last.Index); !ok || mine != last {
		if prev, ok = c.log.at(committed.Index); !ok {
			return prev, nil, false
		}
	}
	entries, ok := c.log.from(prev.Index + 1)
	return prev, entries, ok
}

// onTail takes in what a claimant has pulled from a voter that is ahead.
func (c *Core) onTail(p *peer, m *Tail) {
	if m.To != c.cfg.Self.Node || c.claim.pulling != p.Node || c.lead != nil {
		return
	}
	if !c.accept(m.Prev, m.Entries, false) {
		return // claimTimer claims anew, and is told anew
	}
	if m.More {
		c.pull(p.Node)
		return
	}
	if c.log.last().Compare(c.claim.ahead) >= 0 {
		c.claim.pulling, c.claim.at = 0, c.now.Mono
	}
}
