package cpgtest

import (
	"slices"

	"sipha/registrard/cpg"
)

type processState uint8

const (
	stateJoining processState = iota
	stateJoined
	stateLeaving // asked to leave; still gets what the group gets, up to that
	stateEnded
)

// Process is one process connected to its node's Corosync. It is used up when
// it has ended or failed: what comes after it is another Process, also where it
// has the same node and pid.
type Process struct {
	w      *World
	n      *node
	self   cpg.Member
	state  processState
	paused bool
	// failed is why nothing will come after what is queued.
	failed error
	// groups and quorums are the two sockets' queues.
	groups  []cpg.Event
	quorums []cpg.Quorum
	bytes   int
}

// Start connects a process to its node's Corosync and asks to join the group;
// it is a member when its own ConfChange comes. The errors are those of cpg_join
// and of connecting: cpg.ErrLibrary without a Corosync, cpg.ErrTryAgain while it
// is in no ring or still lists an earlier process of the same pid, cpg.ErrExist
// where such a process is connected.
func (w *World) Start(id cpg.NodeID, pid uint32) (*Process, error) {
	n := w.node(id)
	self := cpg.Member{Node: id, PID: pid}
	switch {
	case !n.power || !n.corosync:
		return nil, &cpg.Error{Op: "cpg_model_initialize", Code: cpg.ErrLibrary}
	case n.ring == nil || n.frozen:
		return nil, &cpg.Error{Op: "cpg_model_initialize", Code: cpg.ErrTryAgain}
	case slices.ContainsFunc(n.procs, func(p *Process) bool { return p.self == self && p.failed == nil }):
		return nil, &cpg.Error{Op: "cpg_join", Code: cpg.ErrExist}
	case n.knows(self):
		return nil, &cpg.Error{Op: "cpg_join", Code: cpg.ErrTryAgain}
	}
	p := &Process{w: w, n: n, self: self}
	n.procs = append(n.procs, p)
	n.outbox = append(n.outbox, entry{kind: entryJoin, from: self, reason: cpg.ReasonJoin})
	if n.hasQuorum {
		p.pushQuorum()
	}
	return p, nil
}

// Self returns the process's node and pid.
func (p *Process) Self() cpg.Member { return p.self }

// Joined reports whether the process's own join has been ordered, and its leave
// not been asked for.
func (p *Process) Joined() bool { return p.state == stateJoined }

// Err returns why nothing more comes to the process; nil while it lives. What is
// queued still comes first, except after cpg.ErrSlowConsumer, which drops it.
func (p *Process) Err() error { return p.failed }

// Queued returns how many events wait on a socket.
func (p *Process) Queued(s Source) int {
	if s == FromQuorum {
		return len(p.quorums)
	}
	return len(p.groups)
}

// TryMulticast hands a message to Corosync. The parts are copied. A nil error
// promises nothing. The errors: cpg.ErrTooBig; cpg.ErrNotExist outside the
// group; cpg.ErrTryAgain while the membership synchronises, the outbox is full,
// or World.TryAgain says so; cpg.ErrLibrary and cpg.ErrSlowConsumer for ever after
// the process failed; cpg.ErrClosed after it ended.
func (p *Process) TryMulticast(parts ...[]byte) error {
	const op = "cpg_mcast_joined"
	size := 0
	for _, part := range parts {
		size += len(part)
	}
	n := p.n
	switch {
	case p.failed != nil:
		return p.failed
	case size > cpg.MaxMessage || len(parts) > cpg.MaxParts:
		return &cpg.Error{Op: op, Code: cpg.ErrTooBig}
	case p.state == stateLeaving:
		return &cpg.Error{Op: op, Code: cpg.ErrNotExist}
	case n.tryAgain || !n.synced() || len(n.outbox) >= p.w.cfg.OutboxMessages:
		return &cpg.Error{Op: op, Code: cpg.ErrTryAgain}
	case n.drop > 0:
		n.drop--
		return nil
	}
	data := make([]byte, 0, size)
	for _, part := range parts {
		data = append(data, part...)
	}
	n.outbox = append(n.outbox, entry{kind: entryMessage, from: p.self, data: data})
	return nil
}

// Leave asks to leave the group. The last event is the ConfChange that says so,
// then comes cpg.ErrClosed. Before its join is ordered the error is
// cpg.ErrTryAgain.
func (p *Process) Leave() error {
	if p.failed != nil {
		return p.failed
	}
	if p.state == stateJoining {
		return &cpg.Error{Op: "cpg_leave", Code: cpg.ErrTryAgain}
	}
	if p.state != stateLeaving {
		p.state = stateLeaving
		p.n.outbox = append(p.n.outbox, entry{kind: entryLeave, from: p.self, reason: cpg.ReasonLeave})
	}
	return nil
}

// Kill ends the process without a word; its Corosync tells the others, once
// their messages that it took before are sent. Nothing more comes to it.
func (p *Process) Kill() {
	if p.state == stateEnded {
		return
	}
	if p.failed == nil {
		p.disconnect(cpg.ErrClosed)
	}
	p.end(cpg.ErrClosed)
}

// Pause stops the process's dispatching, as SIGSTOP does; Resume lets it go on.
// What comes in between queues.
func (p *Process) Pause() { p.paused = true }

// Resume ends a Pause.
func (p *Process) Resume() { p.paused = false }

// Fail breaks the process's connection to Corosync, which goes on without it:
// its last event is followed by cpg.ErrLibrary.
func (p *Process) Fail() {
	if p.failed == nil {
		p.disconnect(&cpg.Error{Op: "cpg_dispatch", Code: cpg.ErrLibrary})
	}
}

// RequeryQuorum makes the quorum service say again what it said last, as
// connecting to it anew does, with nothing late or lost.
func (p *Process) RequeryQuorum() {
	if p.failed == nil && p.n.hasQuorum {
		p.quorums = nil
		p.n.lateQuorum = false
		p.pushQuorum()
	}
}

// disconnect makes Corosync see the end of the process, for the reason given.
func (p *Process) disconnect(why error) {
	p.failed = why
	n := p.n
	if n.corosync && n.power && !p.w.ghosts[p.self] {
		n.outbox = append(n.outbox, entry{kind: entryLeave, from: p.self, reason: cpg.ReasonProcDown})
	}
}

// forget drops what is queued.
func (p *Process) forget() { p.groups, p.quorums, p.bytes = nil, nil, 0 }

// end makes the process disappear.
func (p *Process) end(why error) {
	p.forget()
	p.state, p.failed = stateEnded, why
	p.n.procs = slices.DeleteFunc(p.n.procs, func(o *Process) bool { return o == p })
}

// inGroup reports whether the process is told of the group.
func (p *Process) inGroup() bool {
	return p.failed == nil && (p.state == stateJoined || p.state == stateLeaving)
}

func (p *Process) push(e cpg.Event) {
	if p.failed != nil {
		return
	}
	p.groups = append(p.groups, e)
	if m, ok := e.(cpg.Message); ok {
		p.bytes += len(m.Data)
	}
	p.checkQueue()
}

func (p *Process) pushQuorum() {
	if p.failed != nil {
		return
	}
	q := p.n.quorum
	q.Nodes = slices.Clone(q.Nodes)
	p.quorums = append(p.quorums, q)
	p.checkQueue()
}

func (p *Process) checkQueue() {
	if len(p.groups)+len(p.quorums) <= p.w.cfg.QueueEvents && p.bytes <= p.w.cfg.QueueBytes {
		return
	}
	p.disconnect(&cpg.Error{Op: "cpg_dispatch", Code: cpg.ErrSlowConsumer})
	p.forget()
}

// ready reports whether the process can dispatch from a socket.
func (p *Process) ready(s Source) bool {
	if p.paused || p.state == stateEnded {
		return false
	}
	if s == FromQuorum {
		return len(p.quorums) > 0 && !p.n.lateQuorum
	}
	return len(p.groups) > 0 || p.failed != nil && (len(p.quorums) == 0 || p.n.lateQuorum)
}

// dispatch takes the next event of a socket; once the process has failed and
// nothing is left, the error, and the process has ended.
func (p *Process) dispatch(s Source) (cpg.Event, error) {
	if s == FromQuorum {
		q := p.quorums[0]
		p.quorums = p.quorums[1:]
		return q, nil
	}
	if len(p.groups) == 0 {
		err := p.failed
		p.end(err)
		return nil, err
	}
	e := p.groups[0]
	p.groups[0] = nil
	p.groups = p.groups[1:]
	if m, ok := e.(cpg.Message); ok {
		p.bytes -= len(m.Data)
	}
	return e, nil
}
