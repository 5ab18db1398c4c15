package location

import (
	"cmp"
	"container/heap"
	"math"
	"slices"
)

const (
	// slotMS is how finely the expiry index tells times apart; what runs out is found that much late at the most.
	slotMS = 256
	// slotNone is the slot of an account that the index does not name.
	slotNone = math.MaxInt64
	// advanceMax is how many entries one Apply takes out of the index, so that none takes long when time leaps.
	advanceMax = 4096
)

// expiry finds the accounts with something that has run out. It is an index over the content and no part of it. An account has one
// entry that counts, in a slot no later than its first end: a refresh leaves the entry where it is, and it is moved on when its slot
// comes up, so that most changes cost nothing here.
type expiry struct {
	slots    map[int64][]uint32
	order    slotHeap
	out      []uint32 // accounts taken from slots that have come up
	outcomes []outcomeEnd
	unsorted bool // outcomes
}

// outcomeEnd names an outcome that ends at until, in tombstone time; it is out of date when that outcome is gone or ends elsewhere.
type outcomeEnd struct {
	until Time
	id    RequestID
}

// slotOf is the first slot whose beginning is not before t.
func slotOf(t Time) int64 {
	slot := int64(t) / slotMS
	if int64(t)%slotMS > 0 {
		slot++
	}
	return slot
}

// schedule sees to it that the account's entry is early enough.
func (e *expiry) schedule(s *State, id uint32) {
	a := s.account(id)
	due, ok := a.due(s.grace, s.added)
	if !ok || a.listed {
		return
	}
	slot := slotOf(due)
	if slot >= a.slot {
		return
	}
	a.slot = slot
	if e.slots == nil {
		e.slots = make(map[int64][]uint32)
	}
	if _, ok := e.slots[slot]; !ok {
		heap.Push(&e.order, slot)
	}
	e.slots[slot] = append(e.slots[slot], id)
}

// advance lists the accounts whose slot has come up by now.
func (e *expiry) advance(s *State, now Time) {
	for budget := advanceMax; len(e.order) > 0 && budget > 0; {
		slot := e.order[0]
		if slot*slotMS > int64(now) {
			return
		}
		ids := e.slots[slot]
		take := min(budget, len(ids))
		for _, id := range ids[len(ids)-take:] {
			if a := s.account(id); a.slot == slot {
				a.slot = slotNone
				e.list(s, id, now)
			}
		}
		budget -= take
		if take < len(ids) {
			e.slots[slot] = ids[:len(ids)-take]
			return
		}
		delete(e.slots, slot)
		heap.Pop(&e.order)
	}
}

// list puts the account into the list when something of it has run out, else back into a slot.
func (e *expiry) list(s *State, id uint32, now Time) {
	a := s.account(id)
	if due, ok := a.due(s.grace, s.added); a.listed || !ok {
		return
	} else if due > now {
		e.schedule(s, id)
		return
	}
	a.listed = true
	e.out = append(e.out, id)
}

// unlist takes the account out of the list's reckoning, to be found again when its next end comes, unless something has run out.
func (e *expiry) unlist(s *State, id uint32, now Time) bool {
	a := s.account(id)
	if due, ok := a.due(s.grace, s.added); ok && due <= now {
		return false
	}
	a.listed = false
	e.schedule(s, id)
	return true
}

// addOutcome notes when an outcome ends. Mostly they come in the order of their ends.
func (e *expiry) addOutcome(o *Outcome) {
	if n := len(e.outcomes); n > 0 && o.Until < e.outcomes[n-1].until {
		e.unsorted = true
	}
	e.outcomes = append(e.outcomes, outcomeEnd{until: o.Until, id: o.ID})
}

// trimOutcomes drops what is out of date from the front.
func (e *expiry) trimOutcomes(s *State) {
	for len(e.outcomes) > 0 {
		first := e.outcomes[0]
		if o, ok := s.outcomes[first.id]; ok && o.Until == first.until {
			return
		}
		e.outcomes = e.outcomes[1:]
	}
}

// endedOutcomes returns the ends up to now.
func (e *expiry) endedOutcomes(now Time, added int64) []outcomeEnd {
	if e.unsorted {
		slices.SortFunc(e.outcomes, func(a, b outcomeEnd) int {
			return cmp.Or(cmp.Compare(a.until, b.until), a.id.Compare(b.id))
		})
		e.unsorted = false
	}
	n := 0
	for n < len(e.outcomes) && e.outcomes[n].until+Time(added) <= now {
		n++
	}
	return e.outcomes[:n]
}

// slotHeap is a heap of slots, the earliest first.
type slotHeap []int64

func (h slotHeap) Len() int           { return len(h) }
func (h slotHeap) Less(i, j int) bool { return h[i] < h[j] }
func (h slotHeap) Swap(i, j int)      { h[i], h[j] = h[j], h[i] }

// Push implements heap.Interface.
func (h *slotHeap) Push(x any) { *h = append(*h, x.(int64)) }

// Pop implements heap.Interface.
func (h *slotHeap) Pop() any {
	old := *h
	last := old[len(old)-1]
	*h = old[:len(old)-1]
	return last
}
