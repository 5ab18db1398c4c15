package replica

import (
	"strconv"
	"time"

	"sipha/registrard/location"
)

// State is what a member is doing, as status shows it.
type State string

const (
	// StateAlone: not in a ring that has quorum.
	StateAlone State = "no-quorum"
	// StateWaiting: it has no log, and the first bootstrap waits for nodes or an operator.
	StateWaiting State = "waiting"
	// StateBehind: it has a log, or none, and is not at the primary's end.
	StateBehind State = "behind"
	// StateSyncing: a snapshot is on its way.
	StateSyncing State = "syncing"
	// StateSynced: it holds the primary's log, or there is no primary and it has what it had.
	StateSynced State = "synced"
	// StateClaiming: promoted, and not yet the primary.
	StateClaiming State = "claiming"
	// StateServing: the primary of a standing epoch.
	StateServing State = "serving"
	// StateSuspended: the primary, until a majority has answered a marker in the new view.
	StateSuspended State = "suspended"
	// StateFailed: promoted, and without a standing epoch for StandTimeout.
	StateFailed State = "failed"
	// StateDiffers: its content differs from the log's word, and it waits for the majority's.
	StateDiffers State = "differs"
)

// Promotion scores (DESIGN: few, coarse buckets; the agent adds 1000 for the promoted one).
const (
	ScoreNone    = 0 // unset: it must not be promoted
	ScoreBehind  = 10
	ScoreSynced  = 100
	ScorePrimary = 1000
)

// MemberStatus is what a member knows of another.
type MemberStatus struct {
	Member
	Incarnation location.Incarnation
	Disk        location.DiskID
	Name        string
	Voter       bool
	Here        bool
	Last        location.Position
	Index       uint64 // receipted, as far as it has told
	Differs     bool
	ConfigHash  uint64 // of its configuration
}

// Status is what a Core tells of itself.
type Status struct {
	State     State
	Promoted  bool           // Pacemaker has it promoted
	Epoch     location.Epoch // the running one, as primary or follower; zero when there is none
	Primary   location.NodeID
	Serving   bool
	Quorate   bool
	Ring      RingID
	Last      location.Position
	Committed uint64
	Applied   uint64
	Digest    location.Digest // of the content at Applied
	Promised  location.Epoch
	Voters    []location.Voter
	Voter     bool
	Synced    bool // it holds the primary's log up to the last marker it saw, or is among the highest where there is no primary
	Score     int
	Time      location.Time
	Members   []MemberStatus
	Progress  uint64 // bytes of a snapshot that have come
	Total     uint64 // bytes of it in all
	Reason    string // why State is what it is, for people; "" when that goes without saying
}

// changedStatus is the part of Status whose change is an Action.
type changedStatus struct {
	state   State
	epoch   location.Epoch
	serving bool
	score   int
	voters  uint64
}

// changed tells the caller when what it shows has changed.
func (c *Core) changed() {
	if !c.dirty {
		return
	}
	c.dirty = false
	state, _ := c.state()
	s := changedStatus{state: state, epoch: c.runningEpoch(), serving: c.serving(), score: c.score(), voters: c.votersIndex()}
	if s != c.lastStatus {
		c.lastStatus = s
		c.emit(Changed{})
	}
}

// runningEpoch is the one this member leads or follows.
func (c *Core) runningEpoch() location.Epoch {
	if c.lead != nil {
		return c.lead.epoch
	}
	if c.leaderGone() {
		return location.Epoch{}
	}
	return c.follow.epoch
}

// synced tells whether this member has all that there is to have, as far as anybody here knows.
func (c *Core) synced() bool {
	switch {
	case c.differs || c.join != nil || !c.settled() || !c.selfVoter():
		return false
	case c.lead != nil:
		return c.lead.started
	case !c.leaderGone():
		return c.follow.ok && c.follow.seq > 0
	}
	return c.highest()
}

// highest tells whether nobody here holds more, where there is no primary to ask.
func (c *Core) highest() bool {
	for _, p := range c.sortedPeers() {
		if c.here(p.Node) && c.isVoter(p.Node, p.disk) && p.Member != c.cfg.Self && p.hello.Last.Compare(c.log.last()) > 0 {
			return false
		}
	}
	return true
}

// exchanged tells whether every voter that is here has told its position in this view, or has had the time to.
func (c *Core) exchanged() bool {
	if c.now.Mono-c.view.changed >= HelloTimeout {
		return true
	}
	for _, m := range c.view.members {
		p := c.peers[m.Node]
		if c.here(m.Node) && (p == nil || p.hello.Ring != c.view.ring || p.helloMono < c.view.changed) {
			return false
		}
	}
	return true
}

// score is the promotion score that the agent should write. It keeps what it was while positions are exchanged in a new view.
func (c *Core) score() int {
	switch {
	case c.lead != nil && c.lead.started:
		return ScorePrimary
	case c.virgin():
		if c.settled() && c.firstVoters() != nil {
			return ScoreSynced
		}
		return ScoreNone
	case !c.selfVoter() || c.join != nil || c.differs:
		return ScoreNone
	case !c.settled() || c.leaderGone() && !c.exchanged():
		return max(min(c.lastStatus.score, ScoreSynced), ScoreBehind)
	case c.synced():
		return ScoreSynced
	}
	return ScoreBehind
}

// state says what this member is doing, and why, for people.
func (c *Core) state() (State, string) {
	switch {
	case c.serving():
		return StateServing, ""
	case c.wanted && c.now.Mono-c.standless() >= StandTimeout:
		return StateFailed, c.claim.reason
	case c.differs:
		return StateDiffers, "content differs from the log's digest"
	case c.lead != nil && c.lead.started:
		return StateSuspended, "waiting for a majority of the voters"
	case c.wanted:
		return StateClaiming, c.claim.reason
	case !c.settled():
		return StateAlone, "no quorum"
	case c.join != nil:
		return StateSyncing, "snapshot from node " + c.nodeName(c.join.donor)
	case c.virgin() && c.leaderGone():
		return StateWaiting, "waiting for all expected nodes, or for an operator's bootstrap"
	case c.synced():
		return StateSynced, ""
	}
	return StateBehind, ""
}

// standless is since when a promoted member has been without a standing epoch.
func (c *Core) standless() time.Duration {
	if c.lead != nil {
		return c.lead.fell
	}
	return c.claim.since
}

func (c *Core) nodeName(n location.NodeID) string {
	if p := c.peers[n]; p != nil && p.name != "" {
		return p.name
	}
	return strconv.FormatUint(uint64(n), 10)
}

// Status returns what the member tells of itself.
func (c *Core) Status() Status {
	state, reason := c.state()
	s := Status{
		State: state, Reason: reason, Promoted: c.wanted, Epoch: c.runningEpoch(), Serving: c.serving(), Quorate: c.settled(),
		Ring: c.view.ring, Last: c.log.last(), Committed: c.commit, Applied: c.applied, Digest: c.digest, Promised: c.promised,
		Voters: c.voters(), Voter: c.selfVoter(), Synced: c.synced(), Score: c.score(), Time: c.OrderedTime(c.now),
	}
	s.Primary = s.Epoch.Node
	if c.join != nil {
		s.Progress, s.Total = c.join.progress, c.join.total
	}
	for _, p := range c.sortedPeers() {
		index := p.index
		if p.Node == s.Primary {
			index = c.log.last().Index // it tells nobody else; its log is what the others follow
		}
		s.Members = append(s.Members, MemberStatus{
			Member: p.Member, Incarnation: p.incarnation, Disk: p.disk, Name: p.name, Voter: c.isVoter(p.Node, p.disk), Here: c.here(p.Node),
			Last: p.hello.Last, Index: index, Differs: p.differs,
			ConfigHash: p.hello.ConfigHash,
		})
	}
	return s
}
