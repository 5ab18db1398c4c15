package cpgtest

import (
	"fmt"

	"sipha/registrard/cpg"
)

// StepKind is what a Step moves.
type StepKind uint8

const (
	// StepForm makes a ring of nodes that hear each other.
	StepForm StepKind = iota + 1
	// StepSend brings the token to a node, which orders messages from its outbox
	// and delivers them to its own processes before anybody else has them.
	StepSend
	// StepReceive brings one message of the ring's order to a node, whose
	// Corosync delivers what it now has without a gap.
	StepReceive
	// StepDispatch hands one event to a process.
	StepDispatch
)

// String returns the kind's name.
func (k StepKind) String() string {
	switch k {
	case StepForm:
		return "form"
	case StepSend:
		return "send"
	case StepReceive:
		return "receive"
	case StepDispatch:
		return "dispatch"
	}
	return fmt.Sprintf("step(%d)", uint8(k))
}

// Source is one of a process's two connections to Corosync. Each keeps its
// order; between them there is none.
type Source uint8

const (
	// FromGroup brings Message, ConfChange and RingChange, and a failure.
	FromGroup Source = iota
	// FromQuorum brings Quorum.
	FromQuorum
)

// String returns "group" or "quorum".
func (s Source) String() string {
	if s == FromQuorum {
		return "quorum"
	}
	return "group"
}

// Step is one thing that can happen next. A Step is good until the World changes.
type Step struct {
	Kind StepKind
	// Node is who sends, receives or dispatches, or one node of the ring to form.
	Node cpg.NodeID
	// Process and Source say, for StepDispatch, who gets an event and from where.
	Process *Process
	Source  Source
	// Count says, for StepSend, how many entries of the outbox.
	Count int
	// Position says, for StepReceive, which entry of the ring's order.
	Position int

	ring nodeSet
	w    *World
}

// Nodes returns, for StepForm, the nodes of the ring to form.
func (s Step) Nodes() []cpg.NodeID {
	if s.w == nil {
		return nil
	}
	return s.w.ids(s.ring)
}

// String returns the step as a line of a trace.
func (s Step) String() string {
	switch s.Kind {
	case StepForm:
		return fmt.Sprintf("form %v", s.Nodes())
	case StepSend:
		return fmt.Sprintf("send %d x%d", s.Node, s.Count)
	case StepReceive:
		return fmt.Sprintf("receive %d @%d", s.Node, s.Position)
	case StepDispatch:
		return fmt.Sprintf("dispatch %v %v", s.Process.self, s.Source)
	}
	return s.Kind.String()
}

// Delivery is what a StepDispatch hands to a process: an Event or, last, an Err.
// Of the other steps it is zero.
type Delivery struct {
	Process *Process
	Event   cpg.Event
	Err     error
}

// Rand is where choices come from; *math/rand/v2.Rand is one.
type Rand interface {
	// IntN returns a number in [0, n).
	IntN(n int) int
}

// Enabled appends to dst what can happen next, in an order that depends on the
// World alone, and returns it: the largest ring of each component that wants a
// new one, each sender with all it may send, each receiver's first missing
// entry, each process's connection with something queued.
func (w *World) Enabled(dst []Step) []Step {
	var formed nodeSet
	for i, n := range w.nodes {
		if w.unsettled(n) && !formed.has(i) {
			c := w.component(i)
			formed |= c
			dst = append(dst, Step{Kind: StepForm, Node: n.id, ring: c, w: w})
		}
		if w.canSend(i) {
			count := min(len(n.outbox), w.cfg.VisitMessages)
			dst = append(dst, Step{Kind: StepSend, Node: n.id, Count: count, w: w})
		}
		if pos, some := w.missing(i); some && n.runs() && w.canReceive(i, pos) {
			dst = append(dst, Step{Kind: StepReceive, Node: n.id, Position: pos, w: w})
		}
		for _, p := range n.procs {
			for s := FromGroup; s <= FromQuorum; s++ {
				if p.ready(s) {
					dst = append(dst, Step{Kind: StepDispatch, Node: n.id, Process: p, Source: s, w: w})
				}
			}
		}
	}
	return dst
}

// Do does a step. It fails on one that cannot happen, which is the test's mistake.
func (w *World) Do(s Step) (Delivery, error) {
	impossible := func(why string) (Delivery, error) {
		return Delivery{}, fmt.Errorf("cpgtest: %v: %s", s, why)
	}
	switch s.Kind {
	case StepForm:
		if s.ring == 0 || s.ring&^w.component(w.node(s.Node).idx) != 0 {
			return impossible("the nodes do not hear each other")
		}
		w.form(s.ring)
	case StepSend:
		if i := w.node(s.Node).idx; !w.canSend(i) || s.Count < 1 {
			return impossible("nothing to send, or the token cannot come")
		}
		w.send(w.node(s.Node).idx, s.Count)
	case StepReceive:
		i := w.node(s.Node).idx
		if !w.nodes[i].runs() || !w.canReceive(i, s.Position) {
			return impossible("nobody to receive it from")
		}
		w.receive(i, s.Position)
	case StepDispatch:
		if !s.Process.ready(s.Source) {
			return impossible("nothing queued")
		}
		e, err := s.Process.dispatch(s.Source)
		return Delivery{Process: s.Process, Event: e, Err: err}, nil
	default:
		return impossible("unknown step")
	}
	return Delivery{}, nil
}

// Odds of Step's less likely choices: one in so many.
const (
	oddsSmallerRing = 8
	oddsOutOfOrder  = 8
)

// Step does one of the things that can happen next, chosen by rng, and returns
// it; false when nothing can. Beyond Enabled it also forms rings of fewer nodes
// than hear each other, sends a part of an outbox, and receives out of order.
func (w *World) Step(rng Rand) (Step, Delivery, bool) {
	w.steps = w.Enabled(w.steps[:0])
	if len(w.steps) == 0 {
		return Step{}, Delivery{}, false
	}
	s := w.steps[rng.IntN(len(w.steps))]
	switch s.Kind {
	case StepForm:
		if rng.IntN(oddsSmallerRing) == 0 {
			for i := range w.nodes {
				if s.ring.has(i) && w.nodes[i].id != s.Node && rng.IntN(2) == 0 {
					s.ring &^= 1 << i
				}
			}
		}
	case StepSend:
		s.Count = 1 + rng.IntN(s.Count)
	case StepReceive:
		if rng.IntN(oddsOutOfOrder) == 0 {
			i := w.node(s.Node).idx
			r := w.nodes[i].ring
			if pos := s.Position + rng.IntN(r.end()-s.Position); pos >= syncEntries && w.canReceive(i, pos) {
				s.Position = pos
			}
		}
	}
	d, err := w.Do(s)
	if err != nil {
		panic(err) // Enabled and Do disagree: a defect of this package
	}
	return s, d, true
}

// maxSettleSteps bounds Settle: more means that a handler answers every event
// with another message.
const maxSettleSteps = 10_000_000

// Settle does what can happen, without chance, until nothing can, and calls
// deliver with every event; with a nil deliver events stay queued. deliver may
// send.
func (w *World) Settle(deliver func(Delivery)) {
	for range maxSettleSteps {
		w.steps = w.Enabled(w.steps[:0])
		did := false
		for _, s := range w.steps {
			if s.Kind == StepDispatch && deliver == nil {
				continue
			}
			// An earlier one may have made this one impossible: then it comes again.
			d, err := w.Do(s)
			if err != nil {
				continue
			}
			did = true
			if s.Kind == StepDispatch {
				deliver(d)
			}
			if s.Kind == StepForm {
				break
			}
		}
		if !did {
			return
		}
	}
	panic("cpgtest: the world does not settle")
}

// Form makes one ring of the nodes named.
func (w *World) Form(nodes ...cpg.NodeID) error {
	if len(nodes) == 0 {
		return fmt.Errorf("cpgtest: a ring of no nodes")
	}
	_, err := w.Do(Step{Kind: StepForm, Node: nodes[0], ring: w.set(nodes), w: w})
	return err
}

// Send brings the token to a node, which sends up to count messages.
func (w *World) Send(node cpg.NodeID, count int) error {
	_, err := w.Do(Step{Kind: StepSend, Node: node, Count: count, w: w})
	return err
}

// Receive brings a node the first entry of its ring's order that it misses.
func (w *World) Receive(node cpg.NodeID) error {
	pos, some := w.missing(w.node(node).idx)
	if !some {
		return fmt.Errorf("cpgtest: receive %d: nothing missing", node)
	}
	_, err := w.Do(Step{Kind: StepReceive, Node: node, Position: pos, w: w})
	return err
}

// Dispatch hands a process its next event from one of its connections.
func (w *World) Dispatch(p *Process, s Source) (Delivery, error) {
	return w.Do(Step{Kind: StepDispatch, Node: p.self.Node, Process: p, Source: s, w: w})
}
