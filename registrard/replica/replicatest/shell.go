package replicatest

import (
	"fmt"
	"slices"
	"time"

	"sipha/registrard/cpg"
	"sipha/registrard/cpg/cpgtest"
	"sipha/registrard/location"
	"sipha/registrard/replica"
	"sipha/registrard/replica/wire"
)

// shell is a process: the core, and around it what package node does.
type shell struct {
	s     *Sim
	m     *machine
	proc  *cpgtest.Process
	self  replica.Sender
	core  *replica.Core
	start time.Duration // of the process: its monotonic clock begins here

	state   *location.State // the committed content, in memory
	applied uint64
	lead    *primary // while the core has asked for an epoch's batches; see primary.go

	inbox    []replica.Event
	stepping bool
	sendq    [][]byte
	sending  bool // a retry is planned
	paused   bool
	late     []func() // what waits for the end of a pause
	dead     bool

	status replica.Status // as of the last Changed

	streams  map[location.NodeID]*stream // snapshots on their way out
	staging  *staging                    // one on its way in
	swapping bool                        // a staged snapshot is being swapped in
}

// Limits that a shell keeps; the oracle holds it to them.
const (
	// sendMax is how many messages may wait for Corosync to take them.
	sendMax = 4096
	// retryUsual is how long a shell waits after a refusal; never inside a callback, never in a loop.
	retryUsual = 5 * time.Millisecond
)

func newShell(m *machine, proc *cpgtest.Process) *shell {
	self := proc.Self()
	return &shell{
		s: m.s, m: m, proc: proc, start: m.s.now, streams: map[location.NodeID]*stream{},
		self: replica.Sender{
			Member:      replica.Member{Node: location.NodeID(self.Node), PID: self.PID},
			Incarnation: location.Incarnation(m.s.name()),
		},
	}
}

// boot opens the database and makes the core.
func (p *shell) boot() {
	b := p.m.disk.open()
	p.state = rebuild(p.m.disk.synced.content)
	if p.s.opts.Break.UnsyncedBoot {
		p.state = p.replay(b.Applied.Index)
	}
	p.applied = b.Applied.Index
	p.s.oracle.booted(p, b)
	n := p.s.opts.Nodes
	p.core = replica.New(replica.Config{
		Self: p.self.Member, Name: p.m.String(), Incarnation: p.self.Incarnation, Disk: b.Disk,
		VersionMin: wire.VersionMin, VersionMax: wire.VersionMax, Expected: n,
		Grace: graceUsual, AddedMax: addedMax,
	}, b, p.clock())
	p.status = p.core.Status()
	p.s.trace("%-5s process starts: pid %d incarnation %d disk %d applied %s log %s promised %s", p.m, p.self.PID, p.self.Incarnation,
		b.Disk, short(b.Applied), short(p.m.disk.written.last()), b.Promised)
	p.timer()
	p.tick()
}

// Parts of the configuration.
const (
	graceUsual = 2 * time.Second
	addedMax   = 20 * time.Second
)

// clock is the time as the process sees it.
func (p *shell) clock() replica.Now {
	return replica.Now{Mono: p.s.now - p.start, Wall: p.m.wall()}
}

// whenAwake does something now, or when the process goes on after a pause, or never when it has ended.
func (p *shell) whenAwake(do func()) {
	switch {
	case p.dead:
	case p.paused:
		p.late = append(p.late, do)
	default:
		do()
	}
}

// after plans something for this process.
func (p *shell) after(d time.Duration, do func()) {
	p.s.after(d, func() { p.whenAwake(do) })
}

// pause stops the process where it is; resume lets it go on, with all that has come in the meantime.
func (p *shell) pause() {
	p.paused = true
	p.proc.Pause()
}

func (p *shell) resume() {
	p.paused = false
	p.proc.Resume()
	late := p.late
	p.late = nil
	for _, do := range late {
		p.whenAwake(do)
	}
}

// timer sends the core its Timer.
func (p *shell) timer() {
	p.after(p.s.between(replica.TimerInterval, 2*replica.TimerInterval), func() {
		p.step(replica.Timer{})
		p.timer()
	})
}

// receive takes an event of the group.
func (p *shell) receive(e cpg.Event, err error) {
	if err != nil {
		// The connection is lost: nothing that this process believes of the group is true any more. It starts anew.
		p.s.trace("%-5s process ends: %v", p.m, err)
		p.m.stopped(p.s.between(startUsual/10, startUsual))
		return
	}
	switch e := e.(type) {
	case cpg.Message:
		p.receiveMessage(e)
	case cpg.ConfChange:
		p.step(membership(p.self.Member, e))
	case cpg.RingChange:
		ring := replica.Ring{ID: ringID(e.Ring)}
		for _, n := range e.Nodes {
			ring.Nodes = append(ring.Nodes, location.NodeID(n))
		}
		p.step(ring)
	case cpg.Quorum:
		p.step(replica.Quorum{ID: ringID(e.Ring), Quorate: e.Quorate})
	}
}

// membership tells the core of a change of members. A Ring follows a change that a node's coming or going has brought, and our own
// join (cpg.md section 1.1).
func membership(self replica.Member, e cpg.ConfChange) replica.Membership {
	ev := replica.Membership{}
	for _, m := range e.Members {
		ev.Members = append(ev.Members, member(m))
	}
	for _, c := range slices.Concat(e.Left, e.Joined) {
		if c.Reason == cpg.ReasonNodeDown || c.Reason == cpg.ReasonNodeUp {
			ev.RingChanges = true
		}
	}
	for _, c := range e.Joined {
		if member(c.Member) == self {
			ev.RingChanges = true
		}
	}
	return ev
}

func member(m cpg.Member) replica.Member {
	return replica.Member{Node: location.NodeID(m.Node), PID: m.PID}
}

func ringID(r cpg.RingID) replica.RingID {
	return replica.RingID{Node: location.NodeID(r.Node), Seq: r.Seq}
}

func (p *shell) receiveMessage(m cpg.Message) {
	inc, msg, err := wire.Decode(m.Data)
	if err != nil {
		p.s.fail("node %d cannot decode what %v sent: %v", p.m.id, m.From, err)
		return
	}
	p.step(replica.Deliver{From: replica.Sender{Member: member(m.From), Incarnation: inc}, Message: msg})
}

// step gives the core an event and carries its actions out; events that come out of that follow at once.
func (p *shell) step(ev replica.Event) {
	p.inbox = append(p.inbox, ev)
	if p.stepping {
		return
	}
	p.stepping = true
	for len(p.inbox) > 0 && !p.dead && p.s.err == nil {
		ev, p.inbox = p.inbox[0], p.inbox[1:]
		p.traceEvent(ev)
		for _, a := range p.core.Step(p.clock(), ev) {
			if p.dead || p.s.err != nil {
				break
			}
			p.carryOut(a)
		}
	}
	p.stepping = false
	if !p.dead && p.s.err == nil {
		p.flush()
		p.s.oracle.stepped(p)
	}
}

// carryOut does what an action asks for.
func (p *shell) carryOut(a replica.Action) {
	p.traceAction(a)
	switch a := a.(type) {
	case replica.Multicast:
		p.multicast(a.Message)
	case replica.Write:
		p.s.oracle.wrote(p, a)
		if p.swapping {
			p.s.fail("node %d writes to a log that a snapshot is about to replace", p.m.id)
		}
		p.m.disk.append(a.Seq, a.Cut, a.Entries)
		p.storedEarly(a.Seq)
	case replica.Promise:
		p.m.disk.promise(a.Seq, a.Epoch)
		p.storedEarly(a.Seq)
	case replica.Commit:
		p.commit(a.Entries)
	case replica.Compose:
		p.compose(a)
	case replica.ReadDone:
		p.readDone(a)
	case replica.Abandon:
		p.abandon()
	case replica.Changed:
		p.status = p.core.Status()
	case replica.Stage:
		p.stage(a)
	case replica.Serve:
		p.serve(a)
	case replica.ChunkDelivered:
		p.chunkDelivered(a)
	case replica.StopServing:
		if st := p.streams[a.To]; st != nil && st.session == a.Session {
			delete(p.streams, a.To)
		}
	case replica.RequeryQuorum:
		p.after(0, p.proc.RequeryQuorum)
	case replica.SetAside:
		p.setAside(a)
	case replica.Forwarded, replica.Note:
	default:
		p.s.fail("no shell carries out %T", a)
	}
}

// storedEarly is Break.EarlyStored.
func (p *shell) storedEarly(seq uint64) {
	if p.s.opts.Break.EarlyStored {
		p.step(replica.Stored{Seq: seq})
	}
}

// commit applies entries to the content in memory, answers those who waited for them, and has the same done in the database.
func (p *shell) commit(entries []location.Entry) {
	if len(entries) == 0 {
		p.s.fail("node %d is to commit nothing", p.m.id)
		return
	}
	if p.swapping {
		p.s.fail("node %d applies to a content that a snapshot is about to replace", p.m.id)
		return
	}
	p.s.oracle.committing(p, entries)
	for i := range entries {
		e := &entries[i]
		if e.Position.Index != p.applied+1 {
			p.s.fail("node %d applies entry %d after %d", p.m.id, e.Position.Index, p.applied)
			return
		}
		p.s.oracle.applying(p, e)
		p.state.Apply(e.Time, p.s.oracle.changes(e))
		p.applied++
		p.s.oracle.applied(p, e)
		if p.lead != nil {
			p.committed(e)
		}
	}
	p.m.disk.apply(entries)
	digest := p.state.Digest()
	if p.s.opts.Break.IgnoreDigest {
		digest = entries[len(entries)-1].Position.Digest
	}
	p.step(replica.Applied{Index: p.applied, Digest: digest})
}

// setAside takes the database away and starts anew.
func (p *shell) setAside(a replica.SetAside) {
	p.s.oracle.setAside(p, a.Reason)
	p.m.disk.setAside()
	p.m.kill("set aside: " + a.Reason)
}

// multicast hands a message to Corosync after those before it.
func (p *shell) multicast(m replica.Message) {
	p.s.oracle.sending(p, m)
	b, err := wire.Encode(nil, p.self.Incarnation, m)
	if err != nil {
		p.s.fail("node %d: %v", p.m.id, err)
		return
	}
	p.sendq = append(p.sendq, b)
	if len(p.sendq) > sendMax {
		p.s.fail("node %d has %d messages waiting to be sent", p.m.id, len(p.sendq))
	}
}

// flush sends what waits, as far as Corosync takes it.
func (p *shell) flush() {
	for len(p.sendq) > 0 && !p.sending {
		if err := p.proc.TryMulticast(p.sendq[0]); err != nil {
			// TRY_AGAIN is normal. Any other error comes with the events, too.
			p.sending = true
			p.after(p.s.between(retryUsual/5, retryUsual), func() {
				p.sending = false
				p.flush()
			})
			return
		}
		p.sendq = p.sendq[1:]
	}
}

// replay makes a content out of the oracle's knowledge, for Break.UnsyncedBoot.
func (p *shell) replay(index uint64) *location.State {
	s := location.NewState()
	for i := range p.s.oracle.log[:index] {
		e := &p.s.oracle.log[i]
		s.Apply(e.Time, p.s.oracle.changes(e))
	}
	return s
}

// short writes a position briefly.
func short(p location.Position) string {
	return fmt.Sprintf("%s/%d", p.Epoch, p.Index)
}
