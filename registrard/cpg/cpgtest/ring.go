package cpgtest

import (
	"slices"

	"sipha/registrard/cpg"
)

// entryKind is what an entry of a ring's order does.
type entryKind uint8

const (
	// entryGroups ends the synchronisation of the CPG service: the last of the
	// barrier's messages, which every node acts on at its place in the order.
	entryGroups entryKind = iota
	// entryQuorum ends the synchronisation of the quorum service, after it.
	entryQuorum
	entryJoin
	entryLeave
	entryMessage
)

// syncEntries is how many entries at the head of a ring's log are its
// synchronisation; messages come after them.
const syncEntries = 2

// entry is one place in a ring's total order.
type entry struct {
	kind   entryKind
	sender int // index of the node; meaningless for the synchronisation
	from   cpg.Member
	reason cpg.Reason
	data   []byte
	// lists, of entryGroups: every node's local members when the ring formed.
	lists []cpg.Member
	// held is who has received it.
	held nodeSet
}

// ring is one membership and its total order.
type ring struct {
	id  cpg.RingID
	set nodeSet
	log []entry
	// base is the position of log[0]; what is before it everybody has delivered.
	base int
	// token is the index of the node that holds the token, -1 once it is lost.
	token int
	// visited says that the holder has sent on this visit.
	visited bool
}

func (r *ring) end() int            { return r.base + len(r.log) }
func (r *ring) at(pos int) *entry   { return &r.log[pos-r.base] }
func (r *ring) has(pos, i int) bool { return pos < r.base || r.at(pos).held.has(i) }

// next returns the member after i in the token's order.
func (r *ring) next(i int) int {
	for {
		i = (i + 1) % MaxNodes
		if r.set.has(i) {
			return i
		}
	}
}

// form makes a ring of the nodes in set, which must run and hear each other.
// First every node delivers what is left of its old ring, together with those
// that come with it from there.
func (w *World) form(set nodeSet) {
	var done nodeSet
	var seq uint64
	for i, n := range w.nodes {
		if !set.has(i) {
			continue
		}
		seq = max(seq, n.ringSeq)
		if done.has(i) {
			continue
		}
		var together nodeSet
		together.add(i)
		if n.ring != nil {
			for j, o := range w.nodes {
				if set.has(j) && o.ring == n.ring {
					together.add(j)
				}
			}
			w.recover(n.ring, together)
			if w.reformed != nil {
				w.reformed(n.ring, together)
			}
		}
		done |= together
		for j, o := range w.nodes {
			if together.has(j) {
				o.together = together
			}
		}
	}
	w.rings++
	r := &ring{set: set, token: -1}
	r.id.Seq = seq + ringSeqStep
	var lists []cpg.Member
	for i, n := range w.nodes {
		if !set.has(i) {
			continue
		}
		if r.token < 0 {
			r.token, r.id.Node = i, n.id
		}
		n.ringSeq, n.ring, n.cursor = r.id.Seq, r, 0
		for _, m := range n.members {
			if m.Node == n.id {
				lists = append(lists, m)
			}
		}
	}
	r.log = []entry{{kind: entryGroups, lists: lists}, {kind: entryQuorum}}
}

// recover delivers the rest of a ring's messages to the nodes that leave it
// together: all that one of them has, up to the first that none has; after that
// only what came from one of them (totemsrp.c, memb_state_operational_enter).
func (w *World) recover(r *ring, together nodeSet) {
	hole := r.end()
	for pos := r.base; pos < r.end(); pos++ {
		if r.at(pos).held&together == 0 {
			hole = pos
			break
		}
	}
	for i, n := range w.nodes {
		if !together.has(i) {
			continue
		}
		for pos := n.cursor; pos < r.end(); pos++ {
			e := r.at(pos)
			if e.held&together == 0 || pos > hole && !together.has(e.sender) {
				continue
			}
			e.held.add(i)
			w.deliver(n, r, pos)
		}
		n.cursor = r.end()
	}
}

// canSend reports whether the token can reach node i, so that it may send.
func (w *World) canSend(i int) bool {
	n := w.nodes[i]
	r := n.ring
	if r == nil || r.token < 0 || len(n.outbox) == 0 || !n.runs() || !n.synced() {
		return false
	}
	hears := w.component(i)
	passable := func(j int) bool { return hears.has(j) && w.nodes[j].ring == r }
	at := r.token
	if !passable(at) {
		return false
	}
	if at == i && !r.visited {
		return true
	}
	for {
		at = r.next(at)
		if at == i {
			return true // it runs, in this ring
		}
		if at == r.token || !passable(at) {
			return false
		}
	}
}

// send lets node i, which canSend, order up to count entries of its outbox. It
// has them itself at once, and delivers them unless it misses something before.
func (w *World) send(i, count int) {
	n := w.nodes[i]
	r := n.ring
	r.token, r.visited = i, true
	count = min(count, len(n.outbox), w.cfg.VisitMessages)
	for k := range count {
		e := n.outbox[k]
		e.sender, e.held = i, 1<<i
		r.log = append(r.log, e)
	}
	n.outbox = slices.Delete(n.outbox, 0, count)
	w.advance(n)
}

// canReceive reports whether node i misses the entry at pos and can get it.
func (w *World) canReceive(i, pos int) bool {
	n := w.nodes[i]
	r := n.ring
	if r == nil || pos < r.base || pos >= r.end() || r.has(pos, i) {
		return false
	}
	hears := w.component(i)
	if r.at(pos).held&hears != 0 {
		return true
	}
	if pos >= syncEntries {
		return false
	}
	// The barrier falls when every member has come to it.
	for j, o := range w.nodes {
		if !r.set.has(j) {
			continue
		}
		if !hears.has(j) || o.ring != r || pos > 0 && !r.has(pos-1, j) {
			return false
		}
	}
	return true
}

// missing returns the first position that node i has not received; false when
// it has all.
func (w *World) missing(i int) (int, bool) {
	n := w.nodes[i]
	r := n.ring
	if r == nil {
		return 0, false
	}
	for pos := max(n.cursor, r.base); pos < r.end(); pos++ {
		if !r.has(pos, i) {
			return pos, true
		}
	}
	return 0, false
}

func (w *World) receive(i, pos int) {
	n := w.nodes[i]
	n.ring.at(pos).held.add(i)
	w.advance(n)
}

// advance delivers what node n has without a gap.
func (w *World) advance(n *node) {
	r := n.ring
	for n.cursor < r.end() && r.has(n.cursor, n.idx) {
		w.deliver(n, r, n.cursor)
		n.cursor++
	}
	if len(r.log) > trimEntries {
		w.trim(r)
	}
}

// trim forgets what every node that is still in the ring has delivered.
func (w *World) trim(r *ring) {
	low := r.end()
	for _, n := range w.nodes {
		if n.ring == r {
			low = min(low, n.cursor)
		}
	}
	if low-r.base < trimEntries/2 {
		return
	}
	r.log = slices.Delete(r.log, 0, low-r.base)
	r.base = low
}
