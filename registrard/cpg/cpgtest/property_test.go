package cpgtest

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"sipha/registrard/cpg"
)

// life is what one process saw.
type life struct {
	p      *Process
	events []cpg.Event
	err    error
}

// history drives a World by chance and records what it does.
type history struct {
	t      *testing.T
	w      *World
	rng    *rand.Rand
	lives  []*life
	live   map[*Process]*life
	sent   uint64
	pids   uint32
	trace  strings.Builder
	orders map[*node]map[*ring][]int // delivered positions
}

func newHistory(t *testing.T, seed uint64, cfg Config) *history {
	h := &history{
		t:      t,
		w:      NewWorld(cfg),
		rng:    rand.New(rand.NewPCG(seed, 1)),
		live:   map[*Process]*life{},
		pids:   100,
		orders: map[*node]map[*ring][]int{},
	}
	h.w.observe = h.observe
	h.w.reformed = h.reformed
	return h
}

// observe checks that a node delivers a ring's entries in order and once.
func (h *history) observe(n *node, r *ring, pos int) {
	if h.orders[n] == nil {
		h.orders[n] = map[*ring][]int{}
	}
	seen := h.orders[n][r]
	if len(seen) > 0 && seen[len(seen)-1] >= pos {
		h.t.Fatalf("node %d delivers @%d after @%d of ring %v", n.id, pos, seen[len(seen)-1], r.id)
	}
	h.orders[n][r] = append(seen, pos)
}

// reformed checks virtual synchrony: who leaves a ring together has delivered
// the same of it.
func (h *history) reformed(old *ring, together nodeSet) {
	var want []int
	first := true
	for i, n := range h.w.nodes {
		if !together.has(i) {
			continue
		}
		got := h.orders[n][old]
		if first {
			want, first = got, false
		} else if !slices.Equal(got, want) {
			h.t.Fatalf("leaving ring %v together, node %d delivered %v, another %v", old.id, n.id, got, want)
		}
	}
}

func (h *history) logf(format string, args ...any) { fmt.Fprintf(&h.trace, format+"\n", args...) }

func (h *history) start(id cpg.NodeID) {
	pid := h.pids
	if h.rng.IntN(2) == 0 {
		pid = 100 // again and again
	} else {
		h.pids++
	}
	p, err := h.w.Start(id, pid)
	h.logf("start %d %d: %v", id, pid, err)
	if err == nil {
		l := &life{p: p}
		h.lives = append(h.lives, l)
		h.live[p] = l
	}
}

func (h *history) multicast(p *Process) {
	head := binary.BigEndian.AppendUint64(nil, h.sent)
	err := p.TryMulticast(head, []byte("body"))
	h.logf("multicast %v %d: %v", p.self, h.sent, err)
	h.sent++
}

func (h *history) anyProcess() *Process {
	var all []*Process
	for _, n := range h.w.nodes {
		all = append(all, n.procs...)
	}
	if len(all) == 0 {
		return nil
	}
	return all[h.rng.IntN(len(all))]
}

func (h *history) anyNode() cpg.NodeID { return h.w.nodes[h.rng.IntN(len(h.w.nodes))].id }

// fault injects one fault, or undoes one.
func (h *history) fault() {
	id := h.anyNode()
	kind := h.rng.IntN(17)
	h.logf("fault %d node %d", kind, id)
	p := h.anyProcess()
	switch kind {
	case 0, 1:
		var side []cpg.NodeID
		for _, n := range h.w.nodes {
			if h.rng.IntN(2) == 0 {
				side = append(side, n.id)
			}
		}
		h.w.Partition(side)
	case 2, 3:
		h.w.Heal()
	case 4:
		h.w.PowerOff(id)
	case 5:
		h.w.PowerOn(id)
	case 6:
		h.w.StopCorosync(id, h.rng.IntN(4))
	case 7:
		h.w.StartCorosync(id)
	case 8:
		h.w.Freeze(id)
	case 9:
		h.w.Thaw(id)
	case 10:
		h.w.LoseToken(id)
	case 11:
		h.w.TryAgain(id, h.rng.IntN(2) == 0)
	case 12:
		h.w.Drop(id, h.rng.IntN(3))
	case 13:
		h.w.DelayQuorum(id, h.rng.IntN(2) == 0)
	default:
		if p == nil {
			return
		}
		switch kind {
		case 14:
			p.Kill()
		case 15:
			_ = p.Leave() // an early one is refused, which is fine here
		case 16:
			p.Fail()
		}
	}
}

func (h *history) take(d Delivery) {
	l := h.live[d.Process]
	if l == nil {
		return
	}
	if d.Err != nil {
		l.err = d.Err
		return
	}
	l.events = append(l.events, d.Event)
}

func (h *history) run(steps int) {
	h.w.Settle(nil)
	for range steps {
		switch h.rng.IntN(40) {
		case 0, 1:
			h.start(h.anyNode())
		case 2, 3, 4, 5, 6, 7, 8:
			if p := h.anyProcess(); p != nil {
				h.multicast(p)
			}
		case 9:
			if h.rng.IntN(4) == 0 {
				h.fault()
			}
		default:
			if s, d, ok := h.w.Step(h.rng); ok {
				h.logf("%v %v %v", s, d.Event, d.Err)
				h.take(d)
			}
		}
	}
}

// mend undoes every fault and lets the world come to rest.
func (h *history) mend() {
	h.w.Heal()
	for _, n := range h.w.nodes {
		h.w.PowerOn(n.id)
		h.w.Thaw(n.id)
		h.w.TryAgain(n.id, false)
		h.w.DelayQuorum(n.id, false)
	}
	h.w.Settle(h.take)
}

// checkLife checks what one process saw by itself.
func checkLife(t *testing.T, l *life) {
	t.Helper()
	self := l.p.self
	var members []cpg.Member
	joined := false
	var ring cpg.RingID
	last := map[cpg.Member]uint64{}
	for i, e := range l.events {
		switch e := e.(type) {
		case cpg.ConfChange:
			if !joined {
				if len(e.Joined) != 1 || e.Joined[0] != (cpg.Change{Member: self, Reason: cpg.ReasonJoin}) {
					t.Fatalf("%v: first change is %+v", self, e)
				}
				joined = true
				members = e.Members
				break
			}
			for _, c := range e.Left {
				members = slices.DeleteFunc(slices.Clone(members), func(m cpg.Member) bool { return m == c.Member })
			}
			for _, c := range e.Joined {
				members = append(slices.Clone(members), c.Member)
			}
			slices.SortFunc(members, cpg.Member.Compare)
			if !slices.Equal(members, e.Members) {
				t.Fatalf("%v: event %d: members %v, the changes give %v", self, i, e.Members, members)
			}
		case cpg.RingChange:
			if e.Ring.Seq < ring.Seq {
				t.Fatalf("%v: ring %v after %v", self, e.Ring, ring)
			}
			ring = e.Ring
		case cpg.Message:
			if !joined {
				t.Fatalf("%v: a message before its own join", self)
			}
			if seq := binary.BigEndian.Uint64(e.Data); seq <= last[e.From] && last[e.From] > 0 {
				t.Fatalf("%v: message %d of %v after %d", self, seq, e.From, last[e.From])
			} else {
				last[e.From] = seq
			}
		}
	}
}

// checkOrder checks that two processes saw the messages that both saw in one order.
func checkOrder(t *testing.T, a, b *life) {
	t.Helper()
	at := map[uint64]int{}
	for i, e := range a.events {
		if m, ok := e.(cpg.Message); ok {
			at[binary.BigEndian.Uint64(m.Data)] = i
		}
	}
	last := -1
	for _, e := range b.events {
		m, ok := e.(cpg.Message)
		if !ok {
			continue
		}
		if i, both := at[binary.BigEndian.Uint64(m.Data)]; both {
			if i < last {
				t.Fatalf("%v and %v saw messages in different orders", a.p.self, b.p.self)
			}
			last = i
		}
	}
}

// checkRest checks a world at rest: one ring, one list of members, one quorum.
func (h *history) checkRest() {
	t, w := h.t, h.w
	ring, nodes, ok := w.Ring(w.nodes[0].id)
	if !ok || len(nodes) != len(w.nodes) {
		t.Fatalf("at rest the ring is %v of %v", ring, nodes)
	}
	for _, n := range w.nodes {
		if n.ring != w.nodes[0].ring || !n.synced() {
			t.Fatalf("node %d is in ring %v", n.id, n.ring.id)
		}
		if !slices.Equal(n.members, w.nodes[0].members) {
			t.Fatalf("node %d lists %v, node %d %v", n.id, n.members, w.nodes[0].id, w.nodes[0].members)
		}
		if q, ok := w.Quorum(n.id); !ok || !q.Quorate || q.Ring != ring {
			t.Fatalf("node %d has %+v in ring %v", n.id, q, ring)
		}
		if len(n.outbox) != 0 {
			t.Fatalf("node %d still has %d to send", n.id, len(n.outbox))
		}
		for _, p := range n.procs {
			if p.state != stateJoined {
				continue // has left, and is told of the group all the same
			}
			if !slices.Contains(n.members, p.self) {
				t.Fatalf("%v is connected and not a member of %v", p.self, n.members)
			}
		}
	}
	for _, m := range w.nodes[0].members {
		if !slices.ContainsFunc(w.node(m.Node).procs, func(p *Process) bool { return p.self == m && p.failed == nil }) {
			t.Fatalf("%v is a member and not there", m)
		}
	}
	for _, l := range h.lives {
		if l.p.failed != nil {
			continue
		}
		for i := len(l.events) - 1; i >= 0; i-- {
			if r, ok := l.events[i].(cpg.RingChange); ok {
				if r.Ring != ring || !slices.Equal(r.Nodes, nodes) {
					t.Fatalf("%v was told last of ring %+v, not %v", l.p.self, r, ring)
				}
				break
			}
		}
	}
}

const (
	propertySteps = 2000
	// comparedLives is with how many earlier processes each one is compared.
	comparedLives = 12
)

func TestWorldKeepsOrderAndSets(t *testing.T) {
	t.Parallel()
	seeds := 24
	if testing.Short() {
		seeds = 12
	}
	messages := 0
	for seed := range uint64(seeds) {
		ids := []cpg.NodeID{1, 2, 3, 4, 5}[:2+seed%4]
		h := newHistory(t, seed, Config{Nodes: ids})
		h.run(propertySteps)
		h.mend()
		if t.Failed() {
			t.Fatalf("seed %d", seed)
		}
		h.checkRest()
		for i, a := range h.lives {
			checkLife(t, a)
			for _, b := range h.lives[max(0, i-comparedLives):i] {
				checkOrder(t, a, b)
			}
			for _, e := range a.events {
				if _, ok := e.(cpg.Message); ok {
					messages++
				}
			}
		}
		if t.Failed() {
			t.Fatalf("seed %d", seed)
		}
	}
	if messages < 1000*seeds/20 {
		t.Errorf("only %d messages in %d runs: the test tests nothing", messages, seeds)
	}
}

func TestWorldIsDeterministic(t *testing.T) {
	t.Parallel()
	run := func() string {
		h := newHistory(t, 7, Config{Nodes: []cpg.NodeID{1, 2, 3}})
		h.run(propertySteps)
		return h.trace.String()
	}
	if diff := cmp.Diff(run(), run()); diff != "" {
		t.Errorf("two runs of one seed differ:\n%s", diff)
	}
}
