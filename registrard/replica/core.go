package replica

import (
	"time"

	"sipha/registrard/location"
)

// Core is one member's part in the replication. It is not safe for concurrent use.
type Core struct {
	cfg Config
	now Now
	out []Action

	// The log, and what the disk holds of it.
	log     window
	marks   []votersMark // voters by index, the oldest that can still count first
	seq     uint64       // of the last Write or Promise
	pending []pendingWrite
	durable uint64 // the log is stored up to this index
	commit  uint64
	matched uint64 // the log is known to be that of follow.epoch's primary up to this index
	applied uint64
	digest  location.Digest // of the content at applied

	promised      location.Epoch // binds from the moment it is made
	promiseStored location.Epoch
	seen          location.Epoch // the highest epoch that any message has named

	// Ordered time as a follower counts it: lastTime when the clock said lastMono.
	lastTime location.Time
	lastMono time.Duration
	stepMono time.Duration // of the Step before

	view   view
	peers  map[location.NodeID]*peer
	follow follow
	claim  claim
	lead   *lead // nil unless this is the primary of epoch promised, START committed or not
	wanted bool  // Pacemaker has it promoted
	join   *join // a snapshot on its way here
	serves map[location.NodeID]uint64
	sess   uint64 // the last snapshot session asked for

	differs    bool // the content differs from the log's word in the running epoch
	bootstrap  bool // an operator's order
	helloDue   bool
	helloBack  bool // our last one has come back
	helloMono  time.Duration
	dirty      bool // Status may have changed
	lastStatus changedStatus
}

// New returns the core of a member that has just opened its database and is about to join the group.
func New(cfg Config, boot Boot, now Now) *Core {
	c := &Core{cfg: cfg, now: now, peers: map[location.NodeID]*peer{}, serves: map[location.NodeID]uint64{}}
	c.stepMono = now.Mono
	c.load(boot)
	return c
}

// load takes over what the database holds.
func (c *Core) load(b Boot) {
	c.cfg.Disk = b.Disk
	c.log = window{base: b.Applied}
	c.marks = []votersMark{{b.Applied.Index, b.Voters}}
	if len(b.Log) > 0 {
		c.log.base = b.Log[0].Prev
		c.log.append(b.Log)
		for i := range b.Log {
			if b.Log[i].Position.Index <= b.Applied.Index {
				continue
			}
			if v, ok := votersIn(&b.Log[i]); ok {
				c.marks = append(c.marks, votersMark{b.Log[i].Position.Index, v})
			}
		}
	}
	c.commit, c.applied, c.digest = b.Applied.Index, b.Applied.Index, b.Applied.Digest
	c.durable = c.log.last().Index
	c.promised, c.promiseStored = maxEpoch(c.promised, b.Promised), b.Promised
	c.seen = maxEpoch(c.seen, maxEpoch(c.promised, c.log.last().Epoch))
	c.lastTime = b.Time
	if n := len(c.log.entries); n > 0 {
		c.lastTime = max(c.lastTime, c.log.entries[n-1].Time)
	}
	c.lastMono = c.now.Mono - min(max(b.StoredAgo, 0), c.cfg.AddedMax)
	c.matched, c.follow.ok = 0, false
}

func maxEpoch(a, b location.Epoch) location.Epoch {
	if a.Compare(b) < 0 {
		return b
	}
	return a
}

// Step takes in one event and returns what to do about it, in order. The Actions, and what they point to, are the caller's.
func (c *Core) Step(now Now, ev Event) []Action {
	if now.Mono < c.now.Mono {
		now.Mono = c.now.Mono
	}
	c.now, c.out = now, nil
	switch ev := ev.(type) {
	case Deliver:
		c.onDeliver(ev)
	case Membership:
		c.onMembership(ev)
	case Ring:
		c.onRing(ev)
	case Quorum:
		c.onQuorum(ev)
	case Promote:
		c.onPromote()
	case Demote:
		c.onDemote()
	case Bootstrap:
		c.bootstrap, c.dirty = true, true
	case Propose:
		c.onPropose(ev)
	case Read:
		c.onRead(ev)
	case Stored:
		c.onStored(ev)
	case Applied:
		c.onApplied(ev)
	case Installed:
		c.onInstalled(ev)
	case StagingFailed:
		c.onStagingFailed(ev)
	case Timer:
		c.onTimer()
	}
	c.pump()
	if c.helloDue && c.view.joined {
		c.hello()
	}
	c.changed()
	return c.out
}

func (c *Core) emit(a Action) { c.out = append(c.out, a) }

func (c *Core) multicast(m Message) { c.emit(Multicast{m}) }

func (c *Core) note(level int, message string, attrs ...any) {
	c.emit(Note{Level: level, Message: message, Attrs: attrs})
}

// Levels of a Note, as slog counts them.
const (
	levelInfo  = 0
	levelWarn  = 4
	levelError = 8
)

// onDeliver sorts a message of the group.
func (c *Core) onDeliver(ev Deliver) {
	if h, ok := ev.Message.(*Hello); ok {
		c.onHello(ev.From, h)
		return
	}
	p := c.peers[ev.From.Node]
	if p == nil || p.Member != ev.From.Member || p.incarnation != ev.From.Incarnation {
		return // it has not said hello in this life, or it is what a dead one left on its way
	}
	switch m := ev.Message.(type) {
	case *Claim:
		c.onClaim(p, m)
	case *Grant:
		c.onGrant(p, m)
	case *Refuse:
		c.onRefuse(p, m)
	case *Append:
		c.onAppend(p, m)
	case *Receipt:
		c.onReceipt(p, m)
	case *Need:
		c.onNeed(p, m)
	case *Behind:
		c.onBehind(p, m)
	case *Pull:
		c.onPull(p, m)
	case *Tail:
		c.onTail(p, m)
	case *SnapshotRequest:
		c.onSnapshotRequest(p, m)
	case *SnapshotChunk:
		c.onSnapshotChunk(p, m)
	case *SnapshotAbort:
		c.onSnapshotAbort(p, m)
	case *Forward:
		if c.serving() {
			c.emit(Forwarded{From: ev.From, Forward: m})
		}
	}
}

// onTimer does what is due.
func (c *Core) onTimer() {
	gap := c.now.Mono - c.stepMono
	c.stepMono = c.now.Mono
	c.settleTimer()
	c.claimTimer()
	c.leadTimer(gap)
	c.followTimer()
	c.joinTimer()
	if since := c.now.Mono - c.helloMono; since >= RehelloInterval || since >= HelloInterval && (c.leaderGone() || !c.helloBack) {
		c.helloDue = true
	}
	c.dirty = true
}

// onApplied takes the content's digest and holds it against the log's word.
func (c *Core) onApplied(ev Applied) {
	if ev.Index <= c.applied {
		return
	}
	c.applied, c.digest = ev.Index, ev.Digest
	if pos, ok := c.log.at(ev.Index); ok {
		c.compare(pos)
	}
	c.log.trim(c.applied)
	c.dropMarks()
}

// dropMarks forgets voters that a newer, committed set has replaced.
func (c *Core) dropMarks() {
	for len(c.marks) > 1 && c.marks[1].index <= c.commit {
		c.marks = c.marks[1:]
	}
}

// setCommit applies what is committed, up to index.
func (c *Core) setCommit(index uint64) {
	if index <= c.commit {
		return
	}
	entries := c.log.span(c.commit, index)
	c.commit = index
	c.emit(Commit{Entries: entries})
}

// OrderedTime returns the time of the group as this member counts it now: what a primary gives to its entries, and what hides from a
// lookup what has run out.
func (c *Core) OrderedTime(now Now) location.Time {
	if c.lead != nil {
		return c.lead.time(now.Mono)
	}
	passed := min(max(now.Mono-c.lastMono, 0), c.cfg.AddedMax)
	return c.lastTime + location.Time(passed/time.Millisecond)
}

// Boot returns what a new Core of the same database would be told, once all its writes are done: for a member that has lost the group
// and joins it again.
func (c *Core) Boot(now Now) Boot {
	applied, _ := c.log.at(c.applied)
	applied.Digest = c.digest
	b := Boot{
		Disk: c.cfg.Disk, Promised: c.promised, Applied: applied, Time: c.lastTime, Log: c.log.entries,
		StoredAgo: now.Mono - c.lastMono,
	}
	for _, m := range c.marks {
		if m.index <= c.applied || len(b.Voters) == 0 {
			b.Voters = m.voters
		}
	}
	return b
}
