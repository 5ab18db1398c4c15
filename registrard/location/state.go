package location

import (
	"iter"
	"slices"
	"strings"
)

// accountsPerChunk is how many accounts are allocated at once: growing never copies them.
const accountsPerChunk = 1024

// account is the place of one AOR.
type account struct {
	content
	aor    AOR   // "" when the place is free
	slot   int64 // of the expiry index: an entry in another slot is out of date
	listed bool  // in the expiry index' list of what has run out
}

// State is the committed content of a replica. It is changed by Apply alone, with the committed entries in their order, so that
// States with the same entries behind them have the same content and Digest. Any number of goroutines may read it as long as none
// changes it. What it returns stays valid and unchanged.
type State struct {
	general
	index    map[AOR]uint32
	chunks   [][]account
	places   uint32 // handed out ever
	free     []uint32
	outcomes map[RequestID]Outcome // Until in tombstone time
	sum      sum
	counts   Counts
	now      Time
	expiry   expiry
}

var _ View = (*State)(nil)

// Counts is how much a State holds.
type Counts struct {
	Bindings   int // those that have run out but are not yet removed included
	AORs       int // with a binding
	Users      int
	Tombstones int
	Outcomes   int
}

// NewState returns an empty State. Its Digest is zero.
func NewState() *State {
	return &State{index: make(map[AOR]uint32), outcomes: make(map[RequestID]Outcome)}
}

// Apply applies the changes of one committed entry, which carries the ordered time now. It cannot fail: a change that names what is
// not there does nothing, on all replicas alike.
func (s *State) Apply(now Time, changes []Change) {
	s.now = max(s.now, now)
	for _, c := range changes {
		switch c := c.(type) {
		case *BindingsChange:
			s.with(c.AOR, len(c.Put) > 0 || len(c.Bury) > 0, func(a *account) { a.change(&s.sum, a.aor, c, s.added) })
		case *UserChange:
			s.with(c.User.AOR, !c.Remove, func(a *account) { a.setUser(&s.sum, a.aor, c) })
		case *KeyChange:
			s.setKey(&s.sum, c)
		case *VotersChange:
			s.setVoters(&s.sum, c)
		case *OutcomeChange:
			s.setOutcome(c)
		case *TimeChange:
			s.setTime(&s.sum, c)
		}
	}
	s.expiry.advance(s, s.now)
}

// with lets change work on the AOR's account, and keeps counts, places and the expiry index in step.
func (s *State) with(aor AOR, create bool, change func(*account)) {
	id, ok := s.index[aor]
	if !ok {
		if !create {
			return
		}
		id = s.place()
		aor = AOR(strings.Clone(string(aor)))
		s.account(id).aor = aor
		s.index[aor] = id
	}
	a := s.account(id)
	s.count(&a.content, -1)
	change(a)
	s.count(&a.content, +1)
	if a.empty() {
		delete(s.index, a.aor)
		// slot and listed stay: the expiry index still names this place.
		a.content, a.aor = content{}, ""
		s.free = append(s.free, id)
		return
	}
	s.expiry.schedule(s, id)
}

func (s *State) count(c *content, sign int) {
	s.counts.Bindings += sign * len(c.rows)
	s.counts.Tombstones += sign * len(c.tombs)
	if len(c.rows) > 0 {
		s.counts.AORs += sign
	}
	if c.user != "" {
		s.counts.Users += sign
	}
}

func (s *State) place() uint32 {
	if n := len(s.free); n > 0 {
		id := s.free[n-1]
		s.free = s.free[:n-1]
		return id
	}
	id := s.places
	s.places++
	if id%accountsPerChunk == 0 {
		s.chunks = append(s.chunks, make([]account, accountsPerChunk))
	}
	s.account(id).slot = slotNone
	return id
}

func (s *State) account(id uint32) *account {
	return &s.chunks[id/accountsPerChunk][id%accountsPerChunk]
}

func (s *State) setOutcome(c *OutcomeChange) {
	if old, ok := s.outcomes[c.Outcome.ID]; ok {
		s.sum.sub(hashOutcome(&old))
		delete(s.outcomes, old.ID)
	}
	if !c.Remove {
		o := keptOutcome(c, s.added)
		s.sum.add(hashOutcome(&o))
		s.outcomes[o.ID] = o
		s.expiry.addOutcome(&o)
	}
	s.expiry.trimOutcomes(s)
}

// keptOutcome is an outcome as it is kept: its end in tombstone time, its strings its own.
func keptOutcome(c *OutcomeChange, added int64) Outcome {
	o := c.Outcome
	o.Detail = strings.Clone(o.Detail)
	o.Until -= Time(added)
	return o
}

// content returns what the AOR holds, nil when nothing.
func (s *State) content(aor AOR) *content {
	if id, ok := s.index[aor]; ok {
		return &s.account(id).content
	}
	return nil
}

// Digest returns the digest of the content.
func (s *State) Digest() Digest { return s.sum.digest() }

// Counts returns how much there is.
func (s *State) Counts() Counts {
	c := s.counts
	c.Outcomes = len(s.outcomes)
	return c
}

// Now returns the ordered time of the last entry that was applied.
func (s *State) Now() Time { return s.now }

// Bindings implements View.
func (s *State) Bindings(aor AOR) []Binding {
	if c := s.content(aor); c != nil {
		return c.bindings()
	}
	return nil
}

// Tombstones implements View; they are sorted by contact and Call-ID.
func (s *State) Tombstones(aor AOR) []Tombstone {
	if c := s.content(aor); c != nil {
		return c.tombstones(s.added)
	}
	return nil
}

// User implements View.
func (s *State) User(aor AOR) (User, bool) {
	if c := s.content(aor); c != nil {
		return unpackUser(aor, c.user)
	}
	return User{}, false
}

// Outcome implements View.
func (s *State) Outcome(id RequestID) (Outcome, bool) {
	o, ok := s.outcomes[id]
	if !ok {
		return Outcome{}, false
	}
	o.Until += Time(s.added)
	return o, true
}

// Grace implements View.
func (s *State) Grace() Time { return s.grace }

// Added returns the milliseconds that outages have added to ordered time: ordered time less Added is the clock of tombstones and
// outcomes.
func (s *State) Added() int64 { return s.added }

// Keys implements View.
func (s *State) Keys() []Key { return s.keys }

// Voters returns the voters by rising node.
func (s *State) Voters() []Voter { return s.voters }

// AORs returns, in rising order, the first limit AORs after the given one that have a binding, a tombstone or a user. It reads the
// whole index: it is for lists that people ask for.
func (s *State) AORs(after AOR, limit int) []AOR {
	var page []AOR
	room := max(2*limit, 1024)
	for i := range s.places {
		aor := s.account(i).aor
		if aor == "" || aor <= after {
			continue
		}
		page = append(page, aor)
		if len(page) >= room {
			slices.Sort(page)
			page = page[:limit]
		}
	}
	slices.Sort(page)
	return page[:min(limit, len(page))]
}

// Rebuild yields changes that make this content out of an empty State, AORs and requests in rising order, one AOR or row a change: it
// is for snapshots and comparisons.
func (s *State) Rebuild() iter.Seq[Change] {
	return func(yield func(Change) bool) {
		if s.grace != 0 || s.added != 0 {
			if !yield(&TimeChange{Grace: s.grace, Added: s.added}) {
				return
			}
		}
		if len(s.voters) > 0 && !yield(&VotersChange{Voters: s.voters}) {
			return
		}
		for _, k := range s.keys {
			if !yield(&KeyChange{Key: k}) {
				return
			}
		}
		for _, id := range sortedOutcomes(s.outcomes) {
			o, _ := s.Outcome(id)
			if !yield(&OutcomeChange{Outcome: o}) {
				return
			}
		}
		for _, aor := range s.AORs("", len(s.index)) {
			if u, ok := s.User(aor); ok && !yield(&UserChange{User: u}) {
				return
			}
			c := &BindingsChange{AOR: aor, Put: s.Bindings(aor), Bury: s.Tombstones(aor)}
			if (c.Put != nil || c.Bury != nil) && !yield(c) {
				return
			}
		}
	}
}

func sortedOutcomes(m map[RequestID]Outcome) []RequestID {
	ids := make([]RequestID, 0, len(m))
	for id := range m {
		ids = append(ids, id)
	}
	slices.SortFunc(ids, RequestID.Compare)
	return ids
}
