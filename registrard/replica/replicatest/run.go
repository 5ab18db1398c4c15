package replicatest

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"time"

	"sipha/registrard/location"
	"sipha/registrard/replica"
)

// Failure is a simulation that went wrong. The same seed and options play it again.
type Failure struct {
	Seed uint64
	Step int           // of the simulation
	Time time.Duration // simulated
	Err  error
	Tail string // the end of the transcript
}

// Error names the seed, and shows what happened last.
func (f *Failure) Error() string {
	return fmt.Sprintf("seed %d, step %d, after %v: %v\n%s", f.Seed, f.Step, f.Time, f.Err, f.Tail)
}

// Unwrap returns what went wrong.
func (f *Failure) Unwrap() error { return f.Err }

// tailLines is how much of a transcript a Failure carries.
const tailLines = 60

// Run plays one seed. The error is a *Failure.
func Run(seed uint64, opts Options) error {
	s := play(seed, opts)
	if s.err == nil {
		return nil
	}
	f := &Failure{Seed: seed, Step: s.steps, Time: s.now, Err: s.err}
	if opts.Transcript == nil {
		// Played again, it goes the same way, and tells how.
		t := &tail{}
		opts.Transcript = t
		play(seed, opts)
		f.Tail = t.String()
	}
	return f
}

// tail keeps the last lines written to it; each Write is a line.
type tail struct{ lines []string }

// Write implements io.Writer.
func (t *tail) Write(b []byte) (int, error) {
	if len(t.lines) >= 2*tailLines {
		t.lines = append(t.lines[:0], t.lines[len(t.lines)-tailLines:]...)
	}
	t.lines = append(t.lines, string(b))
	return len(b), nil
}

// String returns the last lines.
func (t *tail) String() string {
	return strings.Join(t.lines[max(0, len(t.lines)-tailLines):], "")
}

func play(seed uint64, opts Options) *Sim {
	s := newSim(rand.New(rand.NewPCG(seed, 0)), opts)
	for _, m := range s.machines {
		m.startSoon(s.between(0, startUsual))
	}
	s.newPhones(max(s.opts.Phones, 0))
	s.promoter.start()
	s.faults.start()
	s.runUntil(s.opts.Rough, nil)
	if s.err != nil {
		return s
	}
	s.faults.end()
	whole := false
	s.watch(func() { whole = s.unwhole() == "" })
	s.runUntil(s.now+s.opts.Calm, func() bool { return whole })
	if s.err == nil && !whole {
		s.fail("liveness: %v after the last fault: %s", s.opts.Calm, s.unwhole())
	}
	if s.err == nil {
		s.runUntil(s.now+lateMost+time.Second, nil)
	}
	if s.err == nil {
		s.finalCheck()
	}
	return s
}

// watchEvery is how often the cluster is asked whether it is whole.
const watchEvery = 50 * time.Millisecond

func (s *Sim) watch(do func()) {
	s.after(watchEvery, func() {
		do()
		s.watch(do)
	})
}

// unwhole says what the cluster lacks to be as it should be: one primary that serves, every machine a synced voter, every phone answered, and nothing under way.
func (s *Sim) unwhole() string {
	serving := 0
	for _, m := range s.machines {
		p := m.shell
		if p == nil {
			return fmt.Sprintf("%s does not run", m)
		}
		st := p.core.Status()
		switch {
		case !st.Voter || !st.Synced || st.Applied != uint64(len(s.oracle.log)) || st.Last.Index != st.Applied:
			return fmt.Sprintf("%s is %s (%s), voter %v, synced %v, applied %d of %d, log to %d", m, st.State, st.Reason, st.Voter, st.Synced,
				st.Applied, len(s.oracle.log), st.Last.Index)
		case st.Serving:
			serving++
		}
		if p.lead != nil && len(p.lead.flown)+len(p.lead.reads)+len(p.lead.open.changes) > 0 {
			return fmt.Sprintf("%s has something in flight", m)
		}
	}
	if serving != 1 {
		return fmt.Sprintf("%d nodes serve", serving)
	}
	for _, ph := range s.phones {
		if !ph.manual && !ph.answeredSince(s.faults.calmFrom) {
			return fmt.Sprintf("phone %d has had no answer", ph.index)
		}
	}
	return ""
}

// answeredSince tells whether an op that was sent since then has been answered.
func (ph *phone) answeredSince(t time.Duration) bool {
	for i := len(ph.ops) - 1; i >= 0 && ph.ops[i].sent >= t; i-- {
		if ph.ops[i].acked > 0 {
			return true
		}
	}
	return false
}

// lateMost is how late a binding may run out while there is a primary (P5).
const lateMost = time.Second

// finalCheck looks at what every machine holds in the end.
func (s *Sim) finalCheck() {
	var first *shell
	for _, m := range s.machines {
		p := m.shell
		if p == nil {
			s.fail("%s does not run, though nothing was done to it", m)
			return
		}
		if first == nil || p.applied > first.applied {
			first = p
		}
	}
	for _, m := range s.machines {
		p := m.shell
		if p.applied == first.applied && p.state.Digest() != first.state.Digest() {
			s.fail("P3: nodes %d and %d differ at %d", m.id, first.m.id, p.applied)
		}
		now := p.core.OrderedTime(p.clock())
		for _, ph := range s.phones {
			found := location.Find(p.state, ph.aor, now)
			if p.applied == first.applied {
				s.oracle.checkBindings("content of "+m.String(), ph.aor, s.now, found.Bindings)
			}
			for _, b := range p.state.Bindings(ph.aor) {
				if end := max(b.Expires, p.state.Grace()); p.status.State == replica.StateServing && end < now-location.Time(lateMost/time.Millisecond) {
					s.fail("P5: %s of %s should have run out %d ms ago", b.Contact, ph.aor, now-end)
				}
			}
		}
	}
}
