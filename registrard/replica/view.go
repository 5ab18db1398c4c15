package replica

import (
	"slices"
	"time"

	"sipha/registrard/location"
)

// view is what Corosync says of the group, paired by ring: events of CPG and of the quorum service come on two sockets, in any order.
type view struct {
	joined   bool // our own join has been delivered
	members  []Member
	nodes    []location.NodeID // of the ring
	ring     RingID            // of the last Ring event
	pending  bool              // a Ring event is to follow
	quorum   Quorum
	changed  time.Duration // when the members last changed
	unpaired time.Duration // since when ring and quorum differ; 0: they do not
}

// peer is what a member knows of a node's daemon since its Hello; itself is among the peers once its own Hello came back.
type peer struct {
	Member
	incarnation location.Incarnation
	disk        location.DiskID
	name        string
	hello       Hello
	helloMono   time.Duration
	index       uint64 // receipted in the running epoch
	epoch       location.Epoch
	seq         uint64 // the highest Append of the epoch that it had accepted
	ring        RingID // in which it sent that receipt
	applied     uint64
	digest      location.Digest
	differs     bool
	joined      uint64 // the commit index when it came
}

// settled tells whether ring and quorum news match, and there is a quorum: nothing is promised, granted or committed otherwise.
func (c *Core) settled() bool {
	return c.view.joined && !c.view.pending && c.view.quorum.ID == c.view.ring && c.view.quorum.Quorate
}

// here tells whether the node's daemon is in the group and in the ring. The ring's list counts too, since corosync up to 3.1.10 can
// leave a ghost in the group for ever (corosync commit 2ab885ab).
func (c *Core) here(n location.NodeID) bool {
	if !slices.Contains(c.view.nodes, n) {
		return false
	}
	return slices.ContainsFunc(c.view.members, func(m Member) bool { return m.Node == n })
}

// onMembership takes in who is in the group.
func (c *Core) onMembership(ev Membership) {
	c.view.members = ev.Members
	c.view.joined = slices.Contains(ev.Members, c.cfg.Self)
	c.view.changed = c.now.Mono
	if ev.RingChanges {
		c.view.pending = true
	}
	for _, p := range c.sortedPeers() {
		if !slices.Contains(ev.Members, p.Member) {
			c.forget(p)
		}
	}
	c.viewChanged()
}

// forget drops a peer that has left the group.
func (c *Core) forget(p *peer) {
	delete(c.peers, p.Node)
	if s, ok := c.serves[p.Node]; ok {
		delete(c.serves, p.Node)
		c.emit(StopServing{To: p.Node, Session: s})
	}
	if c.join != nil && c.join.donor == p.Node && !c.join.staged {
		c.restartJoin("the donor has left")
	}
}

// sortedPeers returns the peers by node, so that nothing depends on the order of a map.
func (c *Core) sortedPeers() []*peer {
	ps := make([]*peer, 0, len(c.peers))
	for _, p := range c.peers {
		ps = append(ps, p)
	}
	slices.SortFunc(ps, func(a, b *peer) int { return int(a.Node) - int(b.Node) })
	return ps
}

// onRing ends a change of the ring.
func (c *Core) onRing(ev Ring) {
	c.view.ring, c.view.nodes, c.view.pending = ev.ID, ev.Nodes, false
	c.view.changed = c.now.Mono
	c.pair()
	c.viewChanged()
}

// onQuorum takes in the quorum service's word; it counts only for the ring it names.
func (c *Core) onQuorum(ev Quorum) {
	was := c.settled()
	c.view.quorum = ev
	c.pair()
	if c.settled() != was {
		c.viewChanged()
	}
}

// pair notes since when ring and quorum differ.
func (c *Core) pair() {
	if c.view.quorum.ID == c.view.ring && !c.view.pending {
		c.view.unpaired = 0
	} else if c.view.unpaired == 0 {
		c.view.unpaired = c.now.Mono + 1
	}
}

// settleTimer asks again for quorum news that have not come.
func (c *Core) settleTimer() {
	if c.view.pending && c.view.unpaired == 0 {
		c.view.unpaired = c.now.Mono + 1
	}
	if c.view.unpaired > 0 && c.now.Mono-c.view.unpaired >= SettleTimeout {
		c.view.unpaired = c.now.Mono + 1
		c.emit(RequeryQuorum{})
	}
}

// viewChanged is called whenever the members, the ring or the quorum have changed: everybody introduces itself again, and an epoch
// stands again only once a majority has answered a marker sent from here on.
func (c *Core) viewChanged() {
	c.helloDue, c.dirty = c.helloDue || !c.view.pending, true
	if c.lead != nil {
		c.suspend()
	}
	if c.settled() {
		c.claim.at = c.now.Mono
	}
}

// hello introduces this member.
func (c *Core) hello() {
	c.helloDue, c.helloBack, c.helloMono = false, false, c.now.Mono
	c.multicast(&Hello{
		VersionMin: c.cfg.VersionMin, VersionMax: c.cfg.VersionMax, Name: c.cfg.Name, Disk: c.cfg.Disk, ConfigHash: c.cfg.ConfigHash,
		Expected: uint16(c.cfg.Expected), Ring: c.view.ring, Last: c.log.last(), Committed: c.commit, Promised: c.promised,
		Voters: c.voters(), Primary: c.lead != nil, Wall: c.now.Wall,
	})
}

// onHello takes in an introduction.
func (c *Core) onHello(from Sender, h *Hello) {
	if !slices.Contains(c.view.members, from.Member) {
		return
	}
	p := c.peers[from.Node]
	if p == nil || p.Member != from.Member || p.incarnation != from.Incarnation || p.disk != h.Disk {
		p = &peer{Member: from.Member, incarnation: from.Incarnation, disk: h.Disk, joined: c.commit}
		c.peers[from.Node] = p
		c.welcome(p, h)
	}
	c.helloBack = c.helloBack || from.Member == c.cfg.Self && from.Incarnation == c.cfg.Incarnation
	p.name, p.hello, p.helloMono = h.Name, *h, c.now.Mono
	c.seen = maxEpoch(c.seen, h.Promised)
	c.dirty = true
	if c.lead == nil {
		return
	}
	c.lead.markDue = true
	if h.Promised.Compare(c.lead.epoch) > 0 {
		// It can follow no older epoch, however its promise came about: only a claim above it brings it back.
		c.depose(h.Name + " has promised epoch " + h.Promised.String())
		c.claim.tries, c.claim.at = 0, c.now.Mono
	}
}

// welcome warns of what a newcomer brings that it should not.
func (c *Core) welcome(p *peer, h *Hello) {
	if h.VersionMax < c.cfg.VersionMin || h.VersionMin > c.cfg.VersionMax {
		c.note(levelError, "node speaks no wire version of ours; upgrade it", "node", h.Name, "its_min", h.VersionMin, "its_max", h.VersionMax)
	}
	if h.ConfigHash != c.cfg.ConfigHash {
		c.note(levelWarn, "node has another configuration; make the files the same", "node", h.Name)
	}
	if p.Member != c.cfg.Self {
		c.note(levelInfo, "member said hello", "node", h.Name, "position", h.Last, "disk", h.Disk)
	}
}

// compatible tells whether the peer speaks a wire version of ours.
func (c *Core) compatible(p *peer) bool {
	return p.hello.VersionMax >= c.cfg.VersionMin && p.hello.VersionMin <= c.cfg.VersionMax
}

// leaderGone tells whether there is no primary here that this member follows or is.
func (c *Core) leaderGone() bool {
	if c.lead != nil {
		return false
	}
	e := c.follow.epoch
	p := c.peers[e.Node]
	return e == (location.Epoch{}) || p == nil || p.incarnation != e.Incarnation || !p.hello.Primary || !c.here(e.Node)
}
