package replica

import (
	"slices"
	"time"

	"sipha/registrard/location"
)

// join is a snapshot on its way here.
type join struct {
	donor    location.NodeID
	session  uint64
	next     uint32
	moved    time.Duration // when the last chunk came
	progress uint64
	total    uint64
	staged   bool // the last chunk has been handed over
	failed   map[location.NodeID]bool
}

// onBehind starts a snapshot: the primary's log (or that of a voter which is ahead of this claimant) no longer reaches back to ours.
func (c *Core) onBehind(p *peer, m *Behind) {
	if m.To != c.cfg.Self.Node || c.lead != nil || c.join != nil {
		return
	}
	if m.Epoch != c.follow.epoch && c.claim.pulling != p.Node {
		return
	}
	c.note(levelWarn, "too far behind for the log's tail; asking for a snapshot", "position", c.log.last())
	c.ask(map[location.NodeID]bool{}, p.Node)
}

// ask chooses a donor: a synced replica rather than the primary, and nobody that has failed before while there are others.
func (c *Core) ask(failed map[location.NodeID]bool, fallback location.NodeID) {
	donor := fallback
	for _, p := range c.sortedPeers() {
		good := p.Member != c.cfg.Self && c.here(p.Node) && !failed[p.Node] && !p.differs && p.epoch == c.follow.epoch &&
			p.index > 0 && p.Node != c.follow.epoch.Node
		if good {
			donor = p.Node
			break
		}
	}
	c.sess++
	c.join = &join{donor: donor, session: c.sess, moved: c.now.Mono, failed: failed}
	c.dirty = true
	c.multicast(&SnapshotRequest{Donor: donor, Session: c.sess})
}

// restartJoin asks another donor, or the primary again.
func (c *Core) restartJoin(reason string) {
	j := c.join
	c.note(levelWarn, "snapshot failed", "donor", uint32(j.donor), "reason", reason)
	c.multicast(&SnapshotAbort{Peer: j.donor, Session: j.session, Reason: reason})
	c.join = nil
	if c.leaderGone() {
		c.dirty = true
		return // whoever comes next will tell us that we are behind
	}
	j.failed[j.donor] = true
	if j.failed[c.follow.epoch.Node] {
		clear(j.failed)
	}
	c.ask(j.failed, c.follow.epoch.Node)
}

// joinTimer gives up on a donor that has fallen silent.
func (c *Core) joinTimer() {
	if j := c.join; j != nil && !j.staged && c.now.Mono-j.moved >= SnapshotTimeout {
		c.restartJoin("no chunk came")
	}
}

// onSnapshotRequest serves a joiner, unless this node has nothing to give.
func (c *Core) onSnapshotRequest(p *peer, m *SnapshotRequest) {
	if m.Donor != c.cfg.Self.Node || p.Member == c.cfg.Self {
		return
	}
	if c.join != nil || c.differs || c.applied == 0 {
		c.multicast(&SnapshotAbort{Peer: p.Node, Session: m.Session, Reason: "the donor has no complete content"})
		return
	}
	if s, ok := c.serves[p.Node]; ok {
		c.emit(StopServing{To: p.Node, Session: s})
	}
	c.serves[p.Node] = m.Session
	c.emit(Serve{To: p.Node, Session: m.Session})
}

// onSnapshotChunk takes in a piece, or learns that one of ours has been delivered.
func (c *Core) onSnapshotChunk(p *peer, m *SnapshotChunk) {
	if p.Member == c.cfg.Self {
		if s, ok := c.serves[m.To]; ok && s == m.Session {
			c.emit(ChunkDelivered{To: m.To, Session: m.Session, Seq: m.Seq})
			if m.End {
				delete(c.serves, m.To)
			}
		}
		return
	}
	j := c.join
	if m.To != c.cfg.Self.Node || j == nil || j.donor != p.Node || j.session != m.Session || j.staged {
		return
	}
	if m.Seq != j.next {
		c.restartJoin("a chunk is missing")
		return
	}
	if m.End && m.Last.Compare(c.log.last()) < 0 {
		c.restartJoin("the snapshot is behind our own log")
		return
	}
	j.next, j.moved, j.staged = j.next+1, c.now.Mono, m.End
	j.progress, j.total = j.progress+uint64(len(m.Data)), max(m.Total, j.progress)
	c.emit(Stage{Session: m.Session, Chunk: m})
}

// onSnapshotAbort ends a session from the other side.
func (c *Core) onSnapshotAbort(p *peer, m *SnapshotAbort) {
	if m.Peer != c.cfg.Self.Node {
		return
	}
	if s, ok := c.serves[p.Node]; ok && s == m.Session {
		delete(c.serves, p.Node)
		c.emit(StopServing{To: p.Node, Session: s})
	}
	if c.join != nil && c.join.donor == p.Node && c.join.session == m.Session && !c.join.staged {
		c.restartJoin(m.Reason)
	}
}

// onInstalled goes on from the content that has replaced ours.
func (c *Core) onInstalled(ev Installed) {
	c.join = nil
	c.pending = slices.DeleteFunc(c.pending, func(p pendingWrite) bool { return p.promise == (location.Epoch{}) })
	c.follow.stage, c.follow.stageCut = nil, 0
	c.differs = false
	promised, stored := c.promised, c.promiseStored
	c.load(ev.Boot)
	c.promised, c.promiseStored = maxEpoch(promised, c.promised), maxEpoch(stored, c.promiseStored)
	c.lastMono = c.now.Mono
	c.helloDue, c.dirty = true, true
	c.note(levelInfo, "snapshot installed", "position", c.log.last())
	if !c.leaderGone() {
		c.need(false)
	}
	c.claim.pulling = 0
}

// onStagingFailed asks again.
func (c *Core) onStagingFailed(ev StagingFailed) {
	if c.join != nil && c.join.session == ev.Session {
		c.restartJoin("what came does not add up")
	}
}
