package replica

import "sipha/registrard/location"

// tellDiffers reports that our content is not what the log says: this member receipts nothing any more, until the voters have judged.
func (c *Core) tellDiffers() {
	c.dirty = true
	c.multicast(&Receipt{
		Epoch: c.follow.epoch, Disk: c.cfg.Disk, Seq: c.follow.seq, Ring: c.view.ring, Applied: c.differsAt.Index,
		Digest: c.differsAt.Digest, Differs: true,
	})
}

// judge decides between two contents at the same index. The log's digest is the primary's word; a voter that has applied the entry and
// goes on receipting vouches for it. The majority's digest stands, the primary's in a tie; only the outvoted set their database aside.
func (c *Core) judge() {
	at := c.differsAt
	if !c.differs {
		p := c.firstDiffering()
		if c.lead == nil || p == nil {
			return
		}
		at = location.Position{Index: p.applied, Digest: p.digest}
	}
	vouch, against := 0, 0
	for _, v := range c.voters() {
		p := c.peers[v.Node]
		switch {
		case p == nil || p.disk != v.Disk:
		case v.Node == c.cfg.Self.Node:
			if c.differs {
				against++
			} else {
				vouch++
			}
		case v.Node == c.follow.epoch.Node && !p.differs && !c.leaderGone():
			vouch++ // the primary, whose word the log's digest is
		case p.differs && p.applied == at.Index && p.digest == at.Digest:
			against++
		case !p.differs && p.epoch == c.follow.epoch && p.applied >= at.Index:
			vouch++
		}
	}
	n := len(c.voters())
	switch {
	case c.lead != nil && against >= majority(n):
		c.note(levelError, "outvoted: the majority holds another content", "index", at.Index)
		c.stepDown()
		c.wanted = false
		c.emit(SetAside{Reason: "outvoted as the primary"})
	case c.differs && c.lead == nil && (vouch >= majority(n) || vouch+against == n && vouch >= against):
		c.emit(SetAside{Reason: "outvoted: the majority holds another content"})
	case c.differs && c.lead == nil && against >= majority(n):
		// The primary is the one that is wrong. What we hold stands once it has stepped down.
		c.differs = false
	}
}

// firstDiffering returns the first peer that has reported another content.
func (c *Core) firstDiffering() *peer {
	for _, p := range c.sortedPeers() {
		if p.differs && c.isVoter(p.Node, p.disk) {
			return p
		}
	}
	return nil
}
