package replica

import (
	"slices"
	"time"

	"sipha/registrard/location"
)

// claim is a member's part as a claimant: promoted by Pacemaker, and not yet the primary.
type claim struct {
	epoch     location.Epoch // claimed; zero: none is under way
	voters    []location.Voter
	bootstrap bool
	grants    map[location.NodeID]bool
	sent      time.Duration
	at        time.Duration // when to claim (again)
	tries     uint
	since     time.Duration     // since when it is promoted without a standing epoch
	pulling   location.NodeID   // whose log's tail is being pulled; 0: nobody's
	ahead     location.Position // to which
	reason    string            // of the last refusal, for people
	told      string            // the reason that was last noted
}

// promise binds this member to an epoch, from now on, and stores it. With grant, its claimant is told once it is stored.
func (c *Core) promise(e location.Epoch, grant bool) {
	c.promised = e
	if c.lead != nil && c.lead.epoch != e {
		c.depose("another node has claimed epoch " + e.String())
	}
	if c.claim.epoch != e {
		c.claim.epoch = location.Epoch{}
	}
	c.seq++
	c.pending = append(c.pending, pendingWrite{seq: c.seq, promise: e, grant: grant})
	c.emit(Promise{Seq: c.seq, Epoch: e})
	c.dirty = true
}

// onPromote is Pacemaker's order.
func (c *Core) onPromote() {
	if c.wanted {
		return
	}
	c.wanted, c.dirty = true, true
	c.claim = claim{at: c.now.Mono, since: c.now.Mono}
	c.tryClaim()
}

// onDemote is Pacemaker's order.
func (c *Core) onDemote() {
	c.wanted, c.dirty = false, true
	c.claim = claim{}
	if c.lead != nil {
		c.mark() // the commit index, for those who follow
		c.stepDown()
		c.note(levelInfo, "demoted")
	}
}

// claimTimer claims again when a claim has had no answer, or its pause is over.
func (c *Core) claimTimer() {
	if !c.wanted || c.lead != nil {
		return
	}
	if c.claim.epoch != (location.Epoch{}) && c.now.Mono-c.claim.sent >= ClaimTimeout {
		c.claim.reason = "no majority of the voters has granted"
		c.backoff()
	}
	if c.claim.pulling != 0 && c.now.Mono-c.claim.sent >= ClaimTimeout {
		c.claim.pulling = 0
		c.backoff()
	}
	c.tryClaim()
}

// backoff waits before the next claim: longer each time, and differently on each node, so that two claimants do not go on for ever
// outbidding each other.
func (c *Core) backoff() {
	if c.claim.told != c.claim.reason {
		c.claim.told = c.claim.reason
		c.note(levelWarn, "promoted, and not yet the primary", "reason", c.claim.reason)
	}
	c.claim.epoch = location.Epoch{}
	pause := min(ClaimBackoff<<min(c.claim.tries, 16), ClaimBackoffMax)
	pause += pause * time.Duration(c.cfg.Self.Node%MembersMax) / MembersMax
	c.claim.tries++
	c.claim.at = c.now.Mono + pause
}

// tryClaim multicasts a claim when it is time and there is a point.
func (c *Core) tryClaim() {
	cl := &c.claim
	if !c.wanted || c.lead != nil || cl.epoch != (location.Epoch{}) || cl.pulling != 0 || c.now.Mono < cl.at {
		return
	}
	if !c.settled() {
		cl.reason = "no quorum"
		return
	}
	if c.differs {
		cl.reason = "content differs from the log's digest"
		return
	}
	voters, boot := c.voters(), false
	if len(voters) == 0 {
		if voters = c.firstVoters(); voters == nil {
			cl.reason = "the first start waits for all expected nodes, or for an operator's bootstrap"
			return
		}
		boot = true
	}
	if !slices.Contains(voters, location.Voter{Node: c.cfg.Self.Node, Disk: c.cfg.Disk}) {
		cl.reason = "this node is not complete: it must first catch up with a primary"
		return
	}
	c.seen = maxEpoch(c.seen, c.promised)
	cl.epoch = location.Epoch{Number: c.seen.Number + 1, Node: c.cfg.Self.Node, Incarnation: c.cfg.Incarnation}
	c.seen = cl.epoch
	cl.voters, cl.bootstrap, cl.sent, cl.grants = voters, boot, c.now.Mono, map[location.NodeID]bool{}
	c.multicast(&Claim{Epoch: cl.epoch, Last: c.log.last(), Voters: voters, Bootstrap: boot})
}

// virgin tells whether this member has never had a log.
func (c *Core) virgin() bool { return len(c.voters()) == 0 && c.log.last() == (location.Position{}) }

// firstVoters returns whom a first log starts with: all that are here, once they are as many as expected (or an operator has ordered
// it), and none of them has a log.
func (c *Core) firstVoters() []location.Voter {
	if !c.virgin() {
		return nil
	}
	var vs []location.Voter
	for _, n := range c.view.nodes {
		if !c.here(n) {
			continue
		}
		p := c.peers[n] // a ghost beside it says no hello, and does not count
		if p == nil || len(p.hello.Voters) > 0 || p.hello.Last != (location.Position{}) {
			return nil
		}
		vs = append(vs, location.Voter{Node: n, Disk: p.disk})
	}
	if len(vs) == 0 || len(vs) > VotersMax || !c.bootstrap && (c.cfg.Expected == 0 || len(vs) < c.cfg.Expected) {
		return nil
	}
	slices.SortFunc(vs, func(a, b location.Voter) int { return int(a.Node) - int(b.Node) })
	return vs
}

// onClaim grants or refuses. "Ahead" counts every entry delivered before the claim, stored or not.
func (c *Core) onClaim(p *peer, m *Claim) {
	c.seen = maxEpoch(c.seen, m.Epoch)
	if m.Epoch.Node != p.Node || m.Epoch.Incarnation != p.incarnation || !c.compatible(p) ||
		!slices.Contains(m.Voters, location.Voter{Node: c.cfg.Self.Node, Disk: c.cfg.Disk}) {
		return // not ours to grant: this node does not count, or not with this database
	}
	refuse := func(r Reason) {
		c.multicast(&Refuse{Epoch: m.Epoch, Reason: r, Promised: maxEpoch(c.promised, c.log.last().Epoch), Last: c.log.last()})
	}
	switch {
	case !c.settled():
		refuse(ReasonQuorum)
	case m.Epoch.Compare(c.promised) <= 0:
		refuse(ReasonPromised)
	case m.Bootstrap && !c.virgin():
		refuse(ReasonBootstrap)
	case c.log.last().Compare(m.Last) > 0:
		refuse(ReasonAhead)
	default:
		c.promise(m.Epoch, true)
	}
}

// onRefuse learns what stood against the claim.
func (c *Core) onRefuse(p *peer, m *Refuse) {
	c.seen = maxEpoch(c.seen, m.Promised)
	if m.Epoch != c.claim.epoch || c.claim.epoch == (location.Epoch{}) || c.lead != nil {
		return
	}
	switch m.Reason {
	case ReasonAhead:
		c.claim.reason = p.name + " is ahead"
		c.claim.epoch = location.Epoch{}
		c.claim.ahead, c.claim.sent = m.Last, c.now.Mono
		c.follow.stage = nil
		c.pull(p.Node)
		return
	case ReasonPromised:
		c.claim.reason = p.name + " has promised epoch " + m.Promised.String()
	case ReasonQuorum:
		c.claim.reason = p.name + " sees no quorum"
	case ReasonBootstrap:
		c.claim.reason = p.name + " has a log already"
	}
	// One voter's no does not end it where the others are a majority; a claim that cannot win any more is claimed again.
	c.claim.grants[p.Node] = false
	left := 0
	for _, v := range c.claim.voters {
		if yes, told := c.claim.grants[v.Node]; c.here(v.Node) && (yes || !told) {
			left++
		}
	}
	if left < c.needed() {
		c.backoff()
	}
}

// needed returns how many grants the claim needs: a majority, and all of them where a first log starts.
func (c *Core) needed() int {
	if c.claim.bootstrap {
		return len(c.claim.voters)
	}
	return majority(len(c.claim.voters))
}

// pull asks a voter that is ahead for its log's tail.
func (c *Core) pull(n location.NodeID) {
	c.claim.pulling = n
	committed, _ := c.log.at(c.commit)
	c.multicast(&Pull{From: n, Last: c.tip(), Committed: committed})
}

// onGrant counts.
func (c *Core) onGrant(p *peer, m *Grant) {
	if m.Epoch != c.claim.epoch || c.claim.epoch == (location.Epoch{}) || c.lead != nil || c.promised != m.Epoch || !c.settled() ||
		p.disk != m.Disk || !slices.Contains(c.claim.voters, location.Voter{Node: p.Node, Disk: p.disk}) {
		return
	}
	c.claim.grants[p.Node] = true
	yes := 0
	for _, g := range c.claim.grants {
		if g {
			yes++
		}
	}
	if yes >= c.needed() {
		c.start()
	}
}
