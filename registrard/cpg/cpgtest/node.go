package cpgtest

import (
	"slices"

	"sipha/registrard/cpg"
)

// node is one machine with its Corosync.
type node struct {
	id       cpg.NodeID
	idx      int
	power    bool
	corosync bool
	frozen   bool
	side     int
	ringSeq  uint64 // on disk

	// Totem.
	ring     *ring
	cursor   int     // position in ring's order, delivered up to here
	together nodeSet // who came along from the ring before
	outbox   []entry // taken from processes, not sent

	// The CPG service: known is the membership it last synchronised with, active
	// that ring's id; members are all processes of the group it knows.
	known       nodeSet
	active      cpg.RingID
	activeNodes []cpg.NodeID
	members     []cpg.Member

	// The quorum service.
	quorum    cpg.Quorum
	hasQuorum bool
	seenAll   bool

	procs []*Process

	// Faults, see fault.go.
	tryAgain    bool
	drop        int
	lateQuorum  bool
	loseQuorums int
}

// runs reports whether the node's Corosync takes part in anything.
func (n *node) runs() bool { return n.power && n.corosync && !n.frozen }

// synced reports whether all services have synchronised in the present ring.
func (n *node) synced() bool { return n.ring != nil && n.cursor >= syncEntries }

// reset forgets all that a Corosync keeps in memory.
func (n *node) reset() {
	n.ring, n.cursor, n.together, n.outbox = nil, 0, 0, nil
	n.known, n.active, n.activeNodes, n.members = 0, cpg.RingID{}, nil, nil
	n.quorum, n.hasQuorum, n.seenAll = cpg.Quorum{}, false, false
	n.frozen, n.tryAgain, n.drop, n.lateQuorum, n.loseQuorums = false, false, 0, false, 0
}

// knows reports whether the CPG service lists m.
func (n *node) knows(m cpg.Member) bool {
	_, found := slices.BinarySearchFunc(n.members, m, cpg.Member.Compare)
	return found
}

func (n *node) add(m cpg.Member) {
	i, found := slices.BinarySearchFunc(n.members, m, cpg.Member.Compare)
	if !found {
		n.members = slices.Insert(n.members, i, m)
	}
}

// remove removes the members that gone picks and returns them as changes.
func (n *node) remove(reason cpg.Reason, gone func(cpg.Member) bool) []cpg.Change {
	var left []cpg.Change
	n.members = slices.DeleteFunc(n.members, func(m cpg.Member) bool {
		if !gone(m) {
			return false
		}
		left = append(left, cpg.Change{Member: m, Reason: reason})
		return true
	})
	return left
}

// deliver lets the node's services act on the entry at pos of its ring's order.
func (w *World) deliver(n *node, r *ring, pos int) {
	if w.observe != nil {
		w.observe(n, r, pos)
	}
	e := *r.at(pos)
	switch e.kind {
	case entryGroups:
		w.syncGroups(n, r, e)
	case entryQuorum:
		w.syncQuorum(n, r)
	case entryJoin:
		w.deliverJoin(n, e)
	case entryLeave:
		left := n.remove(e.reason, func(m cpg.Member) bool { return m == e.from })
		w.confChange(n, left, nil)
		for _, p := range n.procs {
			if p.self == e.from && p.state == stateLeaving && e.reason == cpg.ReasonLeave && p.failed == nil {
				p.disconnect(&cpg.Error{Op: "cpg_dispatch", Code: cpg.ErrClosed})
			}
		}
	case entryMessage:
		w.deliverMessage(n, e)
	}
}

// syncGroups is cpg_sync_activate of exec/cpg.c: up to three changes of the
// group, then the ring. Who did not come along from the ring before is reported
// as gone even where it is in this one. Conversely, nodes that parted and met
// again before either synchronised are reported neither as gone nor as back.
func (w *World) syncGroups(n *node, r *ring, e entry) {
	down := n.known &^ n.together
	n.known = r.set
	w.confChange(n, n.remove(cpg.ReasonNodeDown, func(m cpg.Member) bool {
		return down.has(w.index[m.Node]) && !w.ghosts[m]
	}), nil)
	var up []cpg.Change
	for _, m := range e.lists {
		if !n.knows(m) {
			n.add(m)
			up = append(up, cpg.Change{Member: m, Reason: cpg.ReasonNodeUp})
		}
	}
	w.confChange(n, nil, up)
	w.confChange(n, n.remove(cpg.ReasonProcDown, func(m cpg.Member) bool {
		return !slices.Contains(e.lists, m) && !w.ghosts[m]
	}), nil)
	n.active, n.activeNodes = r.id, w.ids(r.set)
	for _, p := range n.procs {
		if p.inGroup() {
			p.push(cpg.RingChange{Ring: n.active, Nodes: slices.Clone(n.activeNodes)})
		}
	}
}

func (w *World) syncQuorum(n *node, r *ring) {
	nodes := w.ids(r.set)
	if len(nodes) == len(w.nodes) {
		n.seenAll = true
	}
	quorate := len(nodes) > len(w.nodes)/2
	if w.cfg.TwoNode {
		quorate = n.seenAll
	}
	w.notifyQuorum(n, cpg.Quorum{Quorate: quorate, Ring: r.id, Nodes: nodes})
}

func (w *World) notifyQuorum(n *node, q cpg.Quorum) {
	n.quorum, n.hasQuorum = q, true
	if n.loseQuorums > 0 {
		n.loseQuorums--
		return
	}
	for _, p := range n.procs {
		p.pushQuorum()
	}
}

func (w *World) deliverJoin(n *node, e entry) {
	if n.knows(e.from) {
		return // do_proc_join says nothing of a member it lists already
	}
	n.add(e.from)
	var self *Process
	for _, p := range n.procs {
		if p.self == e.from && p.state == stateJoining {
			self = p
			p.state = stateJoined
		}
	}
	w.confChange(n, nil, []cpg.Change{{Member: e.from, Reason: e.reason}})
	if self != nil {
		self.push(cpg.RingChange{Ring: n.active, Nodes: slices.Clone(n.activeNodes)})
	}
}

// deliverMessage drops, as Corosync does, what comes from a node without a
// member of the group.
func (w *World) deliverMessage(n *node, e entry) {
	known := slices.ContainsFunc(n.members, func(m cpg.Member) bool { return m.Node == e.from.Node })
	if !known {
		return
	}
	for _, p := range n.procs {
		if p.inGroup() {
			p.push(cpg.Message{From: e.from, Data: slices.Clone(e.data)})
		}
	}
}

// confChange tells the node's processes, unless there is nothing to tell.
func (w *World) confChange(n *node, left, joined []cpg.Change) {
	if len(left)+len(joined) == 0 {
		return
	}
	for _, p := range n.procs {
		if p.inGroup() {
			p.push(cpg.ConfChange{
				Members: slices.Clone(n.members),
				Left:    slices.Clone(left),
				Joined:  slices.Clone(joined),
			})
		}
	}
}
