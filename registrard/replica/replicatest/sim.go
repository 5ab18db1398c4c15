package replicatest

import (
	"container/heap"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"sipha/registrard/cpg"
	"sipha/registrard/cpg/cpgtest"
	"sipha/registrard/location"
)

// wallStart is what the wall clocks say when a simulation begins, in milliseconds since 1970.
const wallStart = 1_700_000_000_000

// Sim is one simulation.
type Sim struct {
	opts     Options
	rng      *rand.Rand
	world    *cpgtest.World
	now      time.Duration
	steps    int
	agenda   agenda
	machines []*machine
	shells   map[*cpgtest.Process]*shell
	oracle   *oracle
	promoter *promoter
	phones   []*phone
	faults   *faults
	enabled  []cpgtest.Step
	think    time.Duration // of the phones
	names    uint64        // incarnations, disks and pids handed out
	err      error
}

// newSim builds a cluster whose machines are on and whose processes are about to start.
func newSim(rng *rand.Rand, opts Options) *Sim {
	opts = opts.withDefaults()
	var ids []cpg.NodeID
	for i := range opts.Nodes {
		ids = append(ids, cpg.NodeID(i+1))
	}
	s := &Sim{opts: opts, rng: rng, shells: map[*cpgtest.Process]*shell{}}
	s.world = cpgtest.NewWorld(cpgtest.Config{Nodes: ids, TwoNode: opts.Nodes == 2})
	s.think = pick(rng, []time.Duration{thinkUsual / 16, thinkUsual / 4, thinkUsual / 4, thinkUsual, thinkUsual})
	s.oracle = newOracle(s)
	for _, id := range ids {
		m := &machine{s: s, id: location.NodeID(id), power: true}
		m.disk = newDisk(m)
		s.machines = append(s.machines, m)
	}
	s.promoter = newPromoter(s)
	s.faults = newFaults(s)
	return s
}

// name returns a number that is handed out once: an incarnation, a disk, a pid.
func (s *Sim) name() uint64 {
	s.names++
	return s.names
}

func (s *Sim) machine(id location.NodeID) *machine { return s.machines[id-1] }

// event is something that happens at a time.
type event struct {
	at  time.Duration
	seq int
	do  func()
}

// agenda is a heap of events, by time, then in order of their planning.
type agenda struct {
	events []event
	seq    int
}

func (a *agenda) Len() int { return len(a.events) }
func (a *agenda) Less(i, j int) bool {
	x, y := &a.events[i], &a.events[j]
	return x.at < y.at || x.at == y.at && x.seq < y.seq
}
func (a *agenda) Swap(i, j int) { a.events[i], a.events[j] = a.events[j], a.events[i] }

// Push implements heap.Interface.
func (a *agenda) Push(x any) { a.events = append(a.events, x.(event)) }

// Pop implements heap.Interface.
func (a *agenda) Pop() any {
	n := len(a.events) - 1
	e := a.events[n]
	a.events[n] = event{}
	a.events = a.events[:n]
	return e
}

// after plans something.
func (s *Sim) after(d time.Duration, do func()) {
	s.agenda.seq++
	heap.Push(&s.agenda, event{s.now + d, s.agenda.seq, do})
}

// chance is true with probability p.
func (s *Sim) chance(p float64) bool { return p > 0 && s.rng.Float64() < p }

// between draws a duration.
func (s *Sim) between(lo, hi time.Duration) time.Duration {
	return lo + time.Duration(s.rng.Int64N(int64(hi-lo)+1))
}

// runUntil lets things happen until a time, or until done says so, or something is wrong.
func (s *Sim) runUntil(end time.Duration, done func() bool) {
	for s.err == nil && s.now < end && (done == nil || !done()) {
		s.step(end)
	}
}

// step does the next thing of the world, or what is next on the agenda.
func (s *Sim) step(end time.Duration) {
	s.steps++
	next := s.now + s.pace()
	if len(s.agenda.events) > 0 && s.agenda.events[0].at <= next {
		e := heap.Pop(&s.agenda).(event)
		s.now = max(s.now, e.at)
		e.do()
		return
	}
	step, delivery, ok := s.worldStep()
	if !ok {
		if len(s.agenda.events) == 0 {
			s.now = end
			return
		}
		e := heap.Pop(&s.agenda).(event)
		s.now = max(s.now, e.at)
		e.do()
		return
	}
	s.now = next
	if step.Kind == cpgtest.StepForm {
		s.trace("      ring %v", step.Nodes())
	}
	if delivery.Process != nil {
		s.deliver(delivery)
	}
}

// Odds and lengths of the pauses between two things that happen in the world: mostly short, at times a hiccup.
const (
	paceUsual  = 60 * time.Microsecond
	paceHiccup = 4 * time.Millisecond
	paceOdds   = 200
)

func (s *Sim) pace() time.Duration {
	if s.rng.IntN(paceOdds) == 0 {
		return time.Duration(s.rng.Int64N(int64(paceHiccup)))
	}
	return time.Duration(s.rng.Int64N(int64(paceUsual)))
}

// Odds of worldStep's less likely choices: one in so many.
const (
	oddsSmallerRing = 8
	oddsOutOfOrder  = 8
)

// worldStep does one of the things that can happen in the world, as World.Step does, but for what is kept from nodes that lag.
func (s *Sim) worldStep() (cpgtest.Step, cpgtest.Delivery, bool) {
	s.enabled = slices.DeleteFunc(s.world.Enabled(s.enabled[:0]), func(st cpgtest.Step) bool {
		return st.Kind == cpgtest.StepReceive && s.machine(location.NodeID(st.Node)).lags > s.now
	})
	if len(s.enabled) == 0 {
		return cpgtest.Step{}, cpgtest.Delivery{}, false
	}
	st := s.enabled[s.rng.IntN(len(s.enabled))]
	switch st.Kind {
	case cpgtest.StepSend:
		st.Count = 1 + s.rng.IntN(st.Count)
	case cpgtest.StepForm:
		if nodes := st.Nodes(); s.rng.IntN(oddsSmallerRing) == 0 {
			some := slices.DeleteFunc(nodes, func(n cpg.NodeID) bool { return n != st.Node && s.rng.IntN(2) == 0 })
			if err := s.world.Form(some...); err != nil {
				s.fail("%v", err)
			}
			return st, cpgtest.Delivery{}, true
		}
	case cpgtest.StepReceive:
		if s.rng.IntN(oddsOutOfOrder) == 0 {
			later := st
			later.Position += s.rng.IntN(oddsOutOfOrder)
			if d, err := s.world.Do(later); err == nil {
				return later, d, true // it was there
			}
		}
	}
	d, err := s.world.Do(st)
	if err != nil {
		s.fail("%v", err)
	}
	return st, d, true
}

// deliver hands an event of the group to the shell whose process got it.
func (s *Sim) deliver(d cpgtest.Delivery) {
	if p := s.shells[d.Process]; p != nil {
		p.receive(d.Event, d.Err)
	}
}

// fail ends the simulation: something is not as it must be.
func (s *Sim) fail(format string, args ...any) {
	if s.err == nil {
		s.err = fmt.Errorf(format, args...)
		s.trace("FAIL  %v", s.err)
	}
}

// trace writes a line of the transcript.
func (s *Sim) trace(format string, args ...any) {
	if s.opts.Transcript == nil {
		return
	}
	line := fmt.Sprintf(format, args...)
	switch {
	case !s.opts.Plain:
		fmt.Fprintf(s.opts.Transcript, "%9.3fms %s\n", float64(s.now)/float64(time.Millisecond), line)
	case !isTrifle(line):
		fmt.Fprintln(s.opts.Transcript, strings.TrimRight(line, " "))
	}
}
