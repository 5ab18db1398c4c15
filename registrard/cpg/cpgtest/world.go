package cpgtest

import (
	"fmt"
	"slices"

	"sipha/registrard/cpg"
)

// Limits of a World, which are Corosync's own where it has them.
const (
	// MaxNodes is the largest number of nodes: a set of nodes is one word.
	MaxNodes = 64
	// DefaultVisitMessages is how many messages a node may send on one visit of
	// the token (max_messages of corosync.conf(5)).
	DefaultVisitMessages = 17
	// DefaultOutboxMessages is how many messages Corosync takes before the token
	// comes (4 MiB of frames of 64 KiB).
	DefaultOutboxMessages = 64
	// ringSeqStep is what Totem adds to a ring's sequence number.
	ringSeqStep = 4
	// trimEntries is how long a ring's log grows before what everybody has is cut.
	trimEntries = 256
)

// Config describes a cluster. The zero value of every field but Nodes is a
// sensible default.
type Config struct {
	// Nodes are the configured nodes, one vote each: 1 to MaxNodes, no doubles.
	Nodes []cpg.NodeID
	// TwoNode makes a quorum of one, once the node has seen all nodes since it
	// started (two_node and wait_for_all of votequorum(5)).
	TwoNode bool
	// VisitMessages, OutboxMessages: see the Default constants.
	VisitMessages  int
	OutboxMessages int
	// QueueEvents and QueueBytes bound what waits for a process that does not
	// dispatch. Over it, the process fails with cpg.ErrSlowConsumer.
	QueueEvents int
	QueueBytes  int
}

// World is a cluster in memory. It is not safe for concurrent use; Cluster is.
type World struct {
	cfg    Config
	nodes  []*node // sorted by id
	index  map[cpg.NodeID]int
	ghosts map[cpg.Member]bool
	rings  int // formed so far
	steps  []Step
	// observe, where set, sees every entry that a node's Corosync delivers to its
	// CPG service, before the service acts on it. For this package's own tests.
	observe func(n *node, r *ring, pos int)
	// reformed, where set, sees every set of nodes that goes together from one
	// ring to the next, after the old ring's last messages were delivered.
	reformed func(old *ring, together nodeSet)
}

// NewWorld returns a cluster with all nodes powered on, none of them in a ring,
// without processes. It panics when cfg is wrong, which is the test's mistake.
func NewWorld(cfg Config) *World {
	if len(cfg.Nodes) == 0 || len(cfg.Nodes) > MaxNodes {
		panic(fmt.Sprintf("cpgtest: %d nodes, want 1 to %d", len(cfg.Nodes), MaxNodes))
	}
	setDefault(&cfg.VisitMessages, DefaultVisitMessages)
	setDefault(&cfg.OutboxMessages, DefaultOutboxMessages)
	setDefault(&cfg.QueueEvents, cpg.DefaultQueueEvents)
	setDefault(&cfg.QueueBytes, cpg.DefaultQueueBytes)
	ids := slices.Clone(cfg.Nodes)
	slices.Sort(ids)
	cfg.Nodes = ids
	w := &World{cfg: cfg, index: make(map[cpg.NodeID]int, len(ids)), ghosts: map[cpg.Member]bool{}}
	for i, id := range ids {
		if _, twice := w.index[id]; twice {
			panic(fmt.Sprintf("cpgtest: node %d twice", id))
		}
		w.index[id] = i
		w.nodes = append(w.nodes, &node{id: id, idx: i, power: true, corosync: true})
	}
	return w
}

func setDefault(v *int, d int) {
	if *v <= 0 {
		*v = d
	}
}

// Nodes returns the configured nodes, sorted.
func (w *World) Nodes() []cpg.NodeID { return slices.Clone(w.cfg.Nodes) }

// Ring returns the ring that a node is in and its nodes; false while it is in
// none. The node's processes may not have been told yet.
func (w *World) Ring(id cpg.NodeID) (cpg.RingID, []cpg.NodeID, bool) {
	n := w.node(id)
	if n.ring == nil {
		return cpg.RingID{}, nil, false
	}
	return n.ring.id, w.ids(n.ring.set), true
}

// Synced reports whether a node has taken in its ring whole, so that messages
// can be sent from it.
func (w *World) Synced(id cpg.NodeID) bool { return w.node(id).synced() }

// Members returns the group's members as a node's Corosync lists them, sorted,
// ghosts and all.
func (w *World) Members(id cpg.NodeID) []cpg.Member { return slices.Clone(w.node(id).members) }

// Quorum returns a node's last quorum notification; false before the first.
func (w *World) Quorum(id cpg.NodeID) (cpg.Quorum, bool) {
	n := w.node(id)
	q := n.quorum
	q.Nodes = slices.Clone(q.Nodes)
	return q, n.hasQuorum
}

// Processes returns the processes connected on a node, in order of their start.
func (w *World) Processes(id cpg.NodeID) []*Process { return slices.Clone(w.node(id).procs) }

// Outbox returns how many messages, joins and leaves a node's Corosync has taken
// and not sent.
func (w *World) Outbox(id cpg.NodeID) int { return len(w.node(id).outbox) }

func (w *World) node(id cpg.NodeID) *node {
	i, ok := w.index[id]
	if !ok {
		panic(fmt.Sprintf("cpgtest: no node %d", id))
	}
	return w.nodes[i]
}

// nodeSet is a set of indices into World.nodes.
type nodeSet uint64

func (s nodeSet) has(i int) bool { return s&(1<<i) != 0 }
func (s *nodeSet) add(i int)     { *s |= 1 << i }

func (w *World) ids(s nodeSet) []cpg.NodeID {
	var out []cpg.NodeID
	for i, n := range w.nodes {
		if s.has(i) {
			out = append(out, n.id)
		}
	}
	return out
}

func (w *World) set(ids []cpg.NodeID) nodeSet {
	var s nodeSet
	for _, id := range ids {
		s.add(w.node(id).idx)
	}
	return s
}

// component returns the nodes that hear from i now, i among them; empty when i
// is down or frozen.
func (w *World) component(i int) nodeSet {
	var s nodeSet
	if !w.nodes[i].runs() {
		return s
	}
	for j, n := range w.nodes {
		if n.runs() && n.side == w.nodes[i].side {
			s.add(j)
		}
	}
	return s
}

// unsettled reports whether the node's ring is not what it hears.
func (w *World) unsettled(n *node) bool {
	if !n.runs() {
		return false
	}
	if n.ring == nil || n.ring.token < 0 {
		return true
	}
	c := w.component(n.idx)
	if c != n.ring.set {
		return true
	}
	for i, o := range w.nodes {
		if c.has(i) && o.ring != n.ring {
			return true
		}
	}
	return false
}
