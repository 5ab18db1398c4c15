package sipload

import (
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"
)

// expirySlack is by how much an answered expiry may be off, because the messages carry
// whole seconds and a binding may live a second too long.
const expirySlack = time.Second

// Ledger records what the registrar answered, and what it was asked without an answer,
// so that its bindings can be compared with its promises at any time. It is safe for
// concurrent use, as long as the registrations of one address-of-record come one after
// the other.
type Ledger struct {
	mu   sync.Mutex
	aors map[string]map[string]*entry // by AOR and contact
}

// entry is one contact of one AOR.
type entry struct {
	answered bool // the registrar has said something about it
	present  bool // what it said
	binding  Contact
	earliest time.Time // when the binding may expire
	latest   time.Time // when it must have expired
	doubts   []Contact // asked since then, without a word; Expires 0 for a removal
}

// NewLedger returns an empty ledger.
func NewLedger() *Ledger { return &Ledger{aors: make(map[string]map[string]*entry)} }

// Record enters a registration and its outcome. A 2xx is a promise; a 4xx or 6xx changed
// nothing; anything else (5xx, no answer) leaves it open whether the change happened.
func (l *Ledger) Record(r Registration, a *Answer, err error) {
	if r.Query() {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	contacts := l.aors[r.Account.AOR()]
	if contacts == nil {
		contacts = make(map[string]*entry)
		l.aors[r.Account.AOR()] = contacts
	}
	changes := r.Contacts
	if r.Star {
		changes = nil
		for uri := range contacts {
			changes = append(changes, Contact{URI: uri})
		}
	}
	for _, change := range changes {
		e := contacts[change.URI]
		if e == nil {
			e = new(entry)
			contacts[change.URI] = e
		}
		switch {
		case err != nil || a.Status >= 500 && a.Status < 600:
			e.doubts = append(e.doubts, change)
		case a.OK():
			e.promise(change, a)
		}
	}
}

// promise enters what a 2xx said about one contact.
func (e *entry) promise(change Contact, a *Answer) {
	*e = entry{answered: true, present: change.Expires > 0, binding: change}
	for _, granted := range a.Contacts {
		if granted.URI == change.URI {
			e.binding.Expires = granted.Expires
		}
	}
	life := time.Duration(e.binding.Expires) * time.Second
	e.earliest, e.latest = a.Sent.Add(life-expirySlack), a.Received.Add(life+expirySlack)
}

// Granted reports what is wrong with a 2xx in itself: contacts that were asked for and
// are not listed, or removed ones that are.
func Granted(r Registration, a *Answer) []string {
	var wrong []string
	listed := make(map[string]bool, len(a.Contacts))
	for _, c := range a.Contacts {
		listed[c.URI] = true
	}
	for _, c := range r.Contacts {
		if listed[c.URI] != (c.Expires > 0) {
			wrong = append(wrong, fmt.Sprintf("%s: 200 lists %s: %t, asked for expires=%d", r.Account.AOR(), c.URI, listed[c.URI], c.Expires))
		}
	}
	return wrong
}

// Check compares the bindings that the registrar shows for an AOR with what it has
// answered; each string is one broken promise. added is the time by which expiries may
// have been prolonged because there was no primary.
func (l *Ledger) Check(a Account, shown *Answer, added time.Duration) []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !shown.OK() {
		return []string{fmt.Sprintf("%s: the query was answered %d %s", a.AOR(), shown.Status, shown.Reason)}
	}
	var broken []string
	rest := make(map[string]Contact, len(shown.Contacts))
	for _, c := range shown.Contacts {
		if _, twice := rest[c.URI]; twice {
			broken = append(broken, fmt.Sprintf("%s: %s is listed twice", a.AOR(), c.URI))
		}
		rest[c.URI] = c
	}
	contacts := l.aors[a.AOR()]
	for _, uri := range slices.Sorted(maps.Keys(contacts)) {
		got, there := rest[uri]
		delete(rest, uri)
		if why := contacts[uri].judge(got, there, shown, added); why != "" {
			broken = append(broken, fmt.Sprintf("%s: %s %s", a.AOR(), uri, why))
		}
	}
	for _, uri := range slices.Sorted(maps.Keys(rest)) {
		broken = append(broken, fmt.Sprintf("%s: %s is there, but nobody registered it", a.AOR(), uri))
	}
	return broken
}

// judge returns what is wrong with one contact, or "".
func (e *entry) judge(got Contact, there bool, shown *Answer, added time.Duration) string {
	for _, d := range e.doubts {
		if (d.Expires > 0) == there {
			return "" // a change without an answer may have happened
		}
	}
	switch {
	case !e.answered:
		if there {
			return "is there, though its only change was refused"
		}
		return ""
	case !e.present:
		if there {
			return "is there, though its removal was answered"
		}
		return ""
	case !there:
		if shown.Received.After(e.earliest) {
			return "" // it may have run out
		}
		return fmt.Sprintf("is lost; it was granted until %s", e.earliest.Format(time.TimeOnly))
	}
	if shown.Sent.After(e.latest.Add(added)) {
		return fmt.Sprintf("is still there; it ran out at %s", e.latest.Format(time.TimeOnly))
	}
	if got.Q != e.binding.Q && len(e.doubts) == 0 {
		return fmt.Sprintf("has q=%q, was registered with %q", got.Q, e.binding.Q)
	}
	left := time.Duration(got.Expires) * time.Second
	if len(e.doubts) > 0 {
		return ""
	}
	if shown.Received.Add(left + expirySlack).Before(e.earliest) {
		return fmt.Sprintf("has %v left, too little", left)
	}
	if shown.Sent.Add(left - expirySlack).After(e.latest.Add(added)) {
		return fmt.Sprintf("has %v left, too much", left)
	}
	return ""
}

// Count returns how many bindings were promised, how many removals, and how many
// contacts are in doubt.
func (l *Ledger) Count() (present, removed, doubtful int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, contacts := range l.aors {
		for _, e := range contacts {
			switch {
			case len(e.doubts) > 0:
				doubtful++
			case e.present:
				present++
			case e.answered:
				removed++
			}
		}
	}
	return present, removed, doubtful
}
