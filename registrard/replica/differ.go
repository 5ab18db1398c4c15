package replica

import "sipha/registrard/location"

// tellDiffers reports that our content is not what the log says: this member receipts nothing any more, until the voters have judged.
func (c *Core) tellDiffers() {
	c.dirty = true
	c.multicast(&Receipt{
		Epoch: c.follow.epoch, Disk: c.cfg.Disk, Seq: c.follow.seq, Ring: c.view.ring, Applied: c.applied, Digest: c.digest, Differs: true,
	})
}

// stance is what a voter's receipts say of the log's digest.
type stance int

const (
	unknown stance = iota
	vouches        // its content is what the log says
	against        // it is not
)

// stanceOf holds a peer's content against the log, at the index that it has told, where that entry is of the running epoch: an older
// epoch's primary may have been the wrong one.
func (c *Core) stanceOf(p *peer) stance {
	pos, ok := c.log.at(p.applied)
	switch {
	case !ok || pos.Epoch != c.follow.epoch || p.epoch != c.follow.epoch:
		return unknown
	case pos.Digest == p.digest:
		return vouches
	}
	return against
}

// judge decides between two contents. The log's digest is the primary's word; a voter whose content is equal to it vouches. The
// majority's content stands, the primary's in a tie; only the outvoted set their database aside, never a majority.
func (c *Core) judge() {
	if c.lead != nil {
		c.judgePrimary()
		return
	}
	if !c.differs {
		return
	}
	vouch, with := 0, 0
	for _, v := range c.voters() {
		p := c.peers[v.Node]
		switch {
		case v.Node == c.cfg.Self.Node && v.Disk == c.cfg.Disk:
			with++
		case p == nil || p.disk != v.Disk:
		case v.Node == c.follow.epoch.Node:
			if !c.leaderGone() {
				vouch++ // the log's digest is its own
			}
		case c.stanceOf(p) == vouches:
			vouch++
		case c.stanceOf(p) == against && p.applied == c.applied && p.digest == c.digest:
			with++
		}
	}
	n := len(c.voters())
	switch {
	case vouch >= majority(n) || vouch+with == n && vouch >= with:
		c.emit(SetAside{Reason: "outvoted: the majority holds another content"})
	case with >= majority(n):
		c.differs, c.dirty = false, true // the primary is the one that is wrong; it will learn that too
	}
}

// judgePrimary steps down where a majority holds one other content.
func (c *Core) judgePrimary() {
	for _, q := range c.sortedPeers() {
		if c.stanceOf(q) != against {
			continue
		}
		same := 0
		for _, v := range c.voters() {
			p := c.peers[v.Node]
			if p != nil && p.disk == v.Disk && c.stanceOf(p) == against && p.applied == q.applied && p.digest == q.digest {
				same++
			}
		}
		if same >= majority(len(c.voters())) {
			c.note(levelError, "outvoted: the majority holds another content", "index", q.applied)
			c.stepDown()
			c.wanted = false
			c.emit(SetAside{Reason: "outvoted as the primary"})
			return
		}
	}
}

// compare holds the content at an applied entry against the log's word.
func (c *Core) compare(pos location.Position) {
	switch {
	case pos.Digest == c.digest:
		c.differs = false // the sums are over all content: equal once is equal
	case pos.Epoch == c.follow.epoch && !c.differs:
		c.differs = true
		c.note(levelError, "content differs from the log's digest", "index", pos.Index, "ours", c.digest, "log", pos.Digest)
		if c.lead != nil {
			c.depose("our content differs from our own log")
		}
		c.tellDiffers()
	case c.differs:
		c.tellDiffers()
	}
}
