package replicatest

import (
	"time"

	"sipha/registrard/cpg"
	"sipha/registrard/location"
)

// faults breaks things at random, and repairs them after a while.
type faults struct {
	s        *Sim
	calm     bool
	calmFrom time.Duration
	wiped    bool
}

// faultTick is how often chance is asked.
const faultTick = 50 * time.Millisecond

// repairMax is how long a fault lasts at the most.
const repairMax = 3 * time.Second

func newFaults(s *Sim) *faults { return &faults{s: s} }

// start begins to break things.
func (f *faults) start() {
	f.s.after(faultTick, func() {
		if !f.calm {
			f.tick()
			f.start()
		}
	})
}

func (f *faults) tick() {
	o := &f.s.opts.Faults
	for _, kind := range []struct {
		rate float64
		do   func(*machine)
	}{
		{o.PowerCut, f.powerCut}, {o.PowerCutAll, f.powerCutAll}, {o.Kill, f.kill}, {o.Partition, f.partition}, {o.LoseToken, f.loseToken},
		{o.Corosync, f.corosync}, {o.Freeze, f.freeze}, {o.Pause, f.pause}, {o.Drop, f.drop}, {o.TryAgain, f.tryAgain},
		{o.QuorumLate, f.quorumLate}, {o.SlowDisk, f.slowDisk}, {o.ClockStep, f.clockStep}, {o.Corrupt, f.corrupt}, {o.Wipe, f.wipe},
		{o.Ghost, f.ghost}, {o.Lag, f.lag}, {o.Strike, f.strike}, {o.Promoter, f.promoter},
	} {
		if f.s.chance(kind.rate * faultTick.Seconds()) {
			kind.do(pick(f.s.rng, f.s.machines))
		}
	}
}

// later repairs something, long after the fault or soon.
func (f *faults) later(do func()) {
	d := f.s.between(faultTick, repairMax)
	if f.s.chance(0.5) {
		d /= 20
	}
	f.s.after(d, func() {
		if !f.calm {
			do()
		}
	})
}

func (f *faults) powerCut(m *machine) {
	m.cutPower()
	f.later(m.powerOn)
}

func (f *faults) powerCutAll(*machine) {
	for _, m := range f.s.machines {
		m.cutPower()
		f.later(m.powerOn)
	}
}

func (f *faults) kill(m *machine) { m.kill("killed") }

func (f *faults) partition(*machine) {
	sides := make([][]cpg.NodeID, 1+f.s.rng.IntN(2))
	for _, id := range f.s.world.Nodes() {
		if k := f.s.rng.IntN(len(sides) + 1); k < len(sides) {
			sides[k] = append(sides[k], id)
		}
	}
	f.s.trace("net   parts: %v", sides)
	f.s.world.Partition(sides...)
	f.later(func() {
		f.s.trace("net   heals")
		f.s.world.Heal()
	})
}

func (f *faults) loseToken(m *machine) { f.s.world.LoseToken(cpg.NodeID(m.id)) }

func (f *faults) corosync(m *machine) {
	if !m.power {
		return
	}
	f.s.trace("%-5s corosync ends", m)
	f.s.world.StopCorosync(cpg.NodeID(m.id), f.s.rng.IntN(4))
	f.later(func() { f.s.world.StartCorosync(cpg.NodeID(m.id)) })
}

// freeze stops Corosync, and half of the time the whole machine with it.
func (f *faults) freeze(m *machine) {
	f.s.trace("%-5s corosync stands still", m)
	f.s.world.Freeze(cpg.NodeID(m.id))
	if f.s.chance(0.5) {
		f.pause(m)
	}
	f.later(func() { f.s.world.Thaw(cpg.NodeID(m.id)) })
}

func (f *faults) pause(m *machine) {
	p := m.shell
	if p == nil || p.paused {
		return
	}
	f.s.trace("%-5s stands still", m)
	p.pause()
	f.later(func() {
		if !p.dead && p.paused {
			f.s.trace("%-5s goes on", m)
			p.resume()
		}
	})
}

func (f *faults) drop(m *machine) { f.s.world.Drop(cpg.NodeID(m.id), 1+f.s.rng.IntN(3)) }

func (f *faults) tryAgain(m *machine) {
	f.s.world.TryAgain(cpg.NodeID(m.id), true)
	f.later(func() { f.s.world.TryAgain(cpg.NodeID(m.id), false) })
}

func (f *faults) quorumLate(m *machine) {
	id := cpg.NodeID(m.id)
	switch f.s.rng.IntN(3) {
	case 0:
		f.s.world.DelayQuorum(id, true)
		f.later(func() { f.s.world.DelayQuorum(id, false) })
	case 1:
		f.s.world.LoseQuorum(id, 1)
	case 2:
		f.s.world.SetQuorate(id, false)
		f.later(func() {
			if _, nodes, ok := f.s.world.Ring(id); ok && (len(nodes) > len(f.s.machines)/2 || len(f.s.machines) == 2) {
				f.s.world.SetQuorate(id, true)
			}
		})
	}
}

func (f *faults) slowDisk(m *machine) {
	d := m.disk
	d.slow = f.s.between(0, 400*time.Millisecond)
	f.later(func() { d.slow = 0 })
}

func (f *faults) clockStep(m *machine) {
	m.wallStep = int64(f.s.between(-time.Hour, time.Hour) / time.Millisecond)
}

// spare tells whether a machine's content can be lost without a loss of what was promised: everybody is a voter that holds all.
func (f *faults) spare(m *machine) bool {
	if len(f.s.machines) < 3 {
		return false
	}
	n := uint64(len(f.s.oracle.log))
	for _, o := range f.s.machines {
		p := o.shell
		if p == nil || p.paused || o.disk.corrupt || !p.status.Voter || o.disk.synced.applied.Index+8 < n {
			return false
		}
	}
	return n > 0
}

// corrupt changes a content by itself, where no phone sees it.
func (f *faults) corrupt(m *machine) {
	if !f.spare(m) {
		return
	}
	f.s.trace("%-5s content changes by itself", m)
	m.disk.corrupt, f.s.oracle.corrupted = true, true
	bad := []location.Change{&location.BindingsChange{AOR: "sip:nobody@example.org", Put: []location.Binding{{
		Contact: "sip:nobody@192.0.2.99", Q: -1, Expires: 1 << 60, CallID: "x", CSeq: 1,
	}}}}
	m.shell.state.Apply(0, bad)
	m.disk.write(0, func(d *disk) { d.synced.content.Apply(0, bad) })
}

// wipe takes a machine's disk away, once.
func (f *faults) wipe(m *machine) {
	if f.wiped || !f.spare(m) {
		return
	}
	f.wiped = true
	f.s.trace("%-5s loses its disk", m)
	m.cutPower()
	m.disk.setAside()
	m.disk.promised = location.Epoch{}
	f.later(m.powerOn)
}

func (f *faults) ghost(m *machine) {
	if p := m.shell; p != nil {
		f.s.world.Ghost(p.proc.Self())
	}
}

// lagMax is how long a node lags at the most.
const lagMax = 100 * time.Millisecond

func (f *faults) lag(m *machine) { m.lags = f.s.now + f.s.between(0, lagMax) }

// strike keeps what the primary sends from some of the others, and then does something to the primary: what it has written and they
// have not is what a new primary must do without.
func (f *faults) strike(*machine) {
	s := f.s
	for _, m := range s.machines {
		if m.shell == nil || !m.shell.status.Serving {
			continue
		}
		d := s.between(0, lagMax)
		for _, other := range s.machines {
			if other != m && s.chance(0.7) {
				other.lags = s.now + d + s.between(0, lagMax/4)
			}
		}
		do := pick(s.rng, []func(*machine){f.powerCut, f.powerCut, f.cutOff, f.cutOff, f.kill, f.freeze, f.corosync, f.powerCutAll})
		s.after(d, func() {
			if !f.calm {
				do(m)
			}
		})
		return
	}
}

// struckTransfer strikes one end of a snapshot's way, at times.
func (f *faults) struckTransfer(donor, joiner *machine) {
	s := f.s
	if f.calm || !s.chance(s.opts.Faults.Strike/4) {
		return
	}
	m := pick(s.rng, []*machine{donor, donor, joiner})
	do := pick(s.rng, []func(*machine){f.powerCut, f.kill, f.kill, f.cutOff, f.pause, f.drop, f.drop})
	joiner.lags = s.now + s.between(0, lagMax)
	s.after(s.between(0, lagMax/2), func() {
		if !f.calm {
			do(m)
		}
	})
}

// cutOff parts one node from all others.
func (f *faults) cutOff(m *machine) {
	f.s.trace("net   parts: %s from the rest", m)
	f.s.world.Partition([]cpg.NodeID{cpg.NodeID(m.id)})
	f.later(func() {
		f.s.trace("net   heals")
		f.s.world.Heal()
	})
}

func (f *faults) promoter(*machine) { f.s.promoter.err() }

// end repairs everything.
func (f *faults) end() {
	s := f.s
	f.calm, f.calmFrom = true, s.now
	s.trace("net   all is well from here")
	s.world.Heal()
	for _, m := range s.machines {
		id := cpg.NodeID(m.id)
		m.disk.slow = 0
		m.powerOn()
		s.world.StartCorosync(id)
		s.world.Thaw(id)
		s.world.TryAgain(id, false)
		s.world.DelayQuorum(id, false)
		s.world.LoseQuorum(id, 0)
		s.world.Drop(id, 0)
		if _, nodes, ok := s.world.Ring(id); ok && (len(nodes) > len(s.machines)/2 || len(s.machines) == 2) {
			s.world.SetQuorate(id, true)
		}
		if p := m.shell; p != nil && p.paused {
			p.resume()
		}
	}
	s.promoter.calm = true
}
