package replicatest

import (
	"slices"
	"time"

	"sipha/registrard/cpg"
	"sipha/registrard/replica"
)

// promoter stands for Pacemaker: on each side of the network that has a quorum it promotes the node with the highest score, and
// demotes who is one too many. It sees late, acts late, and makes mistakes when told to.
type promoter struct {
	s        *Sim
	promoted []bool // by machine: ordered and not taken back, as Pacemaker knows it
	busy     bool   // a promotion is under way
	calm     bool
}

// Habits of the promoter.
const (
	pollUsual   = 200 * time.Millisecond
	actionUsual = 300 * time.Millisecond
	// distrustOdds is how often, at a poll, a process that stands still is given up.
	distrustOdds = 0.15
)

func newPromoter(s *Sim) *promoter {
	return &promoter{s: s, promoted: make([]bool, len(s.machines))}
}

// start begins to poll.
func (pr *promoter) start() {
	pr.s.after(pr.s.between(pollUsual/2, pollUsual), func() {
		pr.poll()
		pr.start()
	})
}

// gone takes note that a process has ended: whatever comes after it is not promoted.
func (pr *promoter) gone(m *machine) { pr.promoted[m.id-1] = false }

// sides groups the machines by ring.
func (pr *promoter) sides() [][]*machine {
	var sides [][]*machine
	var rings []cpg.RingID
	for _, m := range pr.s.machines {
		ring, _, ok := pr.s.world.Ring(cpg.NodeID(m.id))
		if !ok {
			continue
		}
		i := slices.Index(rings, ring)
		if i < 0 {
			i = len(rings)
			rings, sides = append(rings, ring), append(sides, nil)
		}
		sides[i] = append(sides[i], m)
	}
	return sides
}

func (pr *promoter) poll() {
	n := len(pr.s.machines)
	for _, side := range pr.sides() {
		if len(side) > n/2 || n == 2 {
			pr.govern(side)
			continue
		}
		for _, m := range side { // no-quorum-policy=stop
			if pr.promoted[m.id-1] && pr.s.chance(0.3) {
				pr.demote(m)
			}
		}
	}
}

// govern sees to it that one of a side is promoted.
func (pr *promoter) govern(side []*machine) {
	var kept *machine
	for _, m := range side {
		p := m.shell
		if p == nil || !pr.promoted[m.id-1] {
			continue
		}
		switch {
		case p.paused && pr.s.chance(distrustOdds), !p.paused && p.core.Status().State == replica.StateFailed, kept != nil && (pr.calm || pr.s.chance(0.5)):
			pr.demote(m)
		default:
			kept = m
		}
	}
	if kept != nil || pr.busy {
		return
	}
	if best := pr.best(side); best != nil {
		pr.busy = true
		pr.s.after(pr.s.between(actionUsual/10, actionUsual), func() {
			pr.busy = false
			pr.promote(best)
		})
	}
}

// best returns the machine with the highest score, the lowest of equals; nil when none may be promoted.
func (pr *promoter) best(side []*machine) *machine {
	var best *machine
	score := replica.ScoreNone
	for _, m := range side {
		if p := m.shell; p != nil && !p.paused && p.status.Score > score {
			best, score = m, p.status.Score
		}
	}
	return best
}

func (pr *promoter) promote(m *machine) {
	p := m.shell
	if p == nil || pr.promoted[m.id-1] {
		return
	}
	pr.promoted[m.id-1] = true
	p.whenAwake(func() { p.step(replica.Promote{}) })
}

func (pr *promoter) demote(m *machine) {
	pr.promoted[m.id-1] = false
	if p := m.shell; p != nil {
		p.whenAwake(func() { p.step(replica.Demote{}) })
	}
}

// err makes a mistake, or does what an operator tells it.
func (pr *promoter) err() {
	m := pick(pr.s.rng, pr.s.machines)
	switch pr.s.rng.IntN(4) {
	case 0: // one too many, or the wrong one
		pr.promote(m)
	case 1:
		pr.demote(m)
	case 2: // a move
		for _, other := range pr.s.machines {
			if other != m && pr.promoted[other.id-1] {
				pr.demote(other)
			}
		}
		pr.promote(m)
	case 3: // stop and start
		m.kill("stopped by pacemaker")
	}
}
