package location

import (
	"cmp"
	"slices"
)

// Overlay is the primary's view: the committed State with the batches that are in flight on top, and the one that is being collected.
// It changes nothing in the State. A change is visible as soon as it is added, so that the next request is decided on it; whoever
// answers a request has to wait until the batch that was open when it was decided is committed.
//
//	overlay.Add(change)        // as each request is decided
//	digest := overlay.Close()  // the batch is multicast; the next Add opens another
//	state.Apply(now, changes)  // the oldest closed batch is committed
//	overlay.Committed()
//
// An Overlay is not safe for concurrent use with changes of itself or of its State.
type Overlay struct {
	general
	base     *State
	sum      sum
	accounts map[AOR]*layered[content]
	outcomes map[RequestID]*layered[Outcome]
	closed   []touched // oldest first
	open     touched
	batch    uint64 // number of the open batch
}

var _ View = (*Overlay)(nil)

// layered is a value as the newest batch leaves it. It goes when the last batch that touched it is in the State.
type layered[T any] struct {
	value   T
	gone    bool
	batches int
	newest  uint64
}

// touched is what one batch has changed.
type touched struct {
	aors     []AOR
	outcomes []RequestID
}

// NewOverlay returns an Overlay with nothing in flight.
func NewOverlay(base *State) *Overlay {
	o := &Overlay{base: base}
	o.Reset()
	return o
}

// Reset drops everything that is in flight or collected. It must be called when the State was changed by anything but the batches
// that this Overlay has closed.
func (o *Overlay) Reset() {
	o.general = o.base.general
	o.sum = o.base.sum
	o.accounts = make(map[AOR]*layered[content])
	o.outcomes = make(map[RequestID]*layered[Outcome])
	o.closed, o.open, o.batch = nil, touched{}, 1
}

// Add adds a change to the open batch.
func (o *Overlay) Add(c Change) {
	switch c := c.(type) {
	case *BindingsChange:
		o.account(c.AOR).value.change(&o.sum, c.AOR, c, o.added)
	case *UserChange:
		o.account(c.User.AOR).value.setUser(&o.sum, c.User.AOR, c)
	case *KeyChange:
		o.setKey(&o.sum, c)
	case *VotersChange:
		o.setVoters(&o.sum, c)
	case *OutcomeChange:
		o.setOutcome(c)
	case *TimeChange:
		o.setTime(&o.sum, c)
	}
}

// Close closes the open batch, which may be empty, and returns the digest of the content after it: what State.Digest returns once
// this batch and those before it are applied.
func (o *Overlay) Close() Digest {
	o.closed = append(o.closed, o.open)
	o.open = touched{}
	o.batch++
	return o.sum.digest()
}

// Stage adds a whole batch and closes it.
func (o *Overlay) Stage(changes []Change) Digest {
	for _, c := range changes {
		o.Add(c)
	}
	return o.Close()
}

// Committed tells that the State has just applied the oldest closed batch.
func (o *Overlay) Committed() {
	oldest := o.closed[0]
	o.closed = slices.Delete(o.closed, 0, 1)
	for _, aor := range oldest.aors {
		if l := o.accounts[aor]; l.batches > 1 {
			l.batches--
		} else {
			delete(o.accounts, aor)
		}
	}
	for _, id := range oldest.outcomes {
		if l := o.outcomes[id]; l.batches > 1 {
			l.batches--
		} else {
			delete(o.outcomes, id)
		}
	}
}

// InFlight returns how many batches are closed and not committed.
func (o *Overlay) InFlight() int { return len(o.closed) }

// Digest returns the digest of the content with everything that was added.
func (o *Overlay) Digest() Digest { return o.sum.digest() }

// touch notes that the open batch changes the value.
func (l *layered[T]) touch(batch uint64) bool {
	if l.newest == batch {
		return false
	}
	l.newest = batch
	l.batches++
	return true
}

func (o *Overlay) account(aor AOR) *layered[content] {
	l := o.accounts[aor]
	if l == nil {
		l = new(layered[content])
		if c := o.base.content(aor); c != nil {
			l.value = c.clone()
		}
		o.accounts[aor] = l
	}
	if l.touch(o.batch) {
		o.open.aors = append(o.open.aors, aor)
	}
	return l
}

func (o *Overlay) setOutcome(c *OutcomeChange) {
	id := c.Outcome.ID
	l := o.outcomes[id]
	if l == nil {
		old, ok := o.base.outcomes[id]
		l = &layered[Outcome]{value: old, gone: !ok}
		o.outcomes[id] = l
	}
	if l.touch(o.batch) {
		o.open.outcomes = append(o.open.outcomes, id)
	}
	if !l.gone {
		o.sum.sub(hashOutcome(&l.value))
	}
	if l.gone = c.Remove; !c.Remove {
		l.value = keptOutcome(c, o.added)
		o.sum.add(hashOutcome(&l.value))
	}
}

func (o *Overlay) content(aor AOR) *content {
	if l := o.accounts[aor]; l != nil {
		return &l.value
	}
	return o.base.content(aor)
}

// Bindings implements View.
func (o *Overlay) Bindings(aor AOR) []Binding {
	if c := o.content(aor); c != nil {
		return c.bindings()
	}
	return nil
}

// Tombstones implements View; they are sorted by contact and Call-ID.
func (o *Overlay) Tombstones(aor AOR) []Tombstone {
	if c := o.content(aor); c != nil {
		return c.tombstones(o.added)
	}
	return nil
}

// User implements View.
func (o *Overlay) User(aor AOR) (User, bool) {
	if c := o.content(aor); c != nil {
		return unpackUser(aor, c.user)
	}
	return User{}, false
}

// Outcome implements View.
func (o *Overlay) Outcome(id RequestID) (Outcome, bool) {
	kept, ok := o.base.outcomes[id]
	if l := o.outcomes[id]; l != nil {
		kept, ok = l.value, !l.gone
	}
	if !ok {
		return Outcome{}, false
	}
	kept.Until += Time(o.added)
	return kept, true
}

// Grace implements View.
func (o *Overlay) Grace() Time { return o.grace }

// Added is State.Added with what is in flight.
func (o *Overlay) Added() int64 { return o.added }

// Keys implements View.
func (o *Overlay) Keys() []Key { return o.keys }

// Voters is State.Voters with what is in flight.
func (o *Overlay) Voters() []Voter { return o.voters }

// Expired returns up to limit changes that take away what has run out by now and is not yet taken away by a batch in flight:
// bindings, tombstones and outcomes. Its cost is that of what has run out, not that of what there is.
func (o *Overlay) Expired(now Time, p *Policy, limit int) []Change {
	var changes []Change
	s, e := o.base, &o.base.expiry
	e.advance(s, now)
	keep := e.out[:0]
	for i, id := range e.out {
		if len(changes) >= limit {
			keep = append(keep, e.out[i:]...)
			break
		}
		a := s.account(id)
		if c := o.content(a.aor); c != nil {
			if change := c.expired(a.aor, now, o.grace, o.added, p); change != nil {
				changes = append(changes, change)
				keep = append(keep, id)
				continue
			}
		}
		if !e.unlist(s, id, now) { // a batch in flight takes it away, and may yet be lost
			keep = append(keep, id)
		}
	}
	e.out = keep
	return o.expiredOutcomes(changes, now, limit)
}

// expiredOutcomes appends the removals of outcomes that have run out.
func (o *Overlay) expiredOutcomes(changes []Change, now Time, limit int) []Change {
	for _, end := range o.base.expiry.endedOutcomes(now, o.added) {
		if len(changes) >= limit {
			break
		}
		if kept, ok := o.Outcome(end.id); ok && kept.Until == end.until+Time(o.added) {
			changes = append(changes, &OutcomeChange{Remove: true, Outcome: Outcome{ID: end.id}})
		}
	}
	return changes
}

// Compare orders RequestIDs by node, then incarnation, then number.
func (id RequestID) Compare(other RequestID) int {
	return cmp.Or(cmp.Compare(id.Node, other.Node), cmp.Compare(id.Incarnation, other.Incarnation), cmp.Compare(id.Number, other.Number))
}
