package location

import (
	"cmp"
	"math"
	"slices"
	"strings"
)

// Statuses of an Answer.
const (
	statusOK            = 200
	statusBadRequest    = 400
	statusForbidden     = 403
	statusIntervalBrief = 423
	statusOutOfOrder    = 500
	statusUnavailable   = 503
)

// StarContact is the Contact of a tombstone that a REGISTER with "Contact: *" leaves: it stands for every contact.
const StarContact = "*"

// hour is one hour in seconds: an interval as long is never too brief (RFC 3261 section 10.3 step 7).
const hour uint32 = 3600

// Decide tells what a REGISTER does to the bindings of its AOR, and how it is answered: RFC 3261 section 10.3, steps 6 to 8. The
// change is nil when there is none to make: for a query, a refusal, and a retransmission of what is already done. The answer to a
// change holds only once the change is committed, and the answer without one once everything that v shows is.
func Decide(v View, r *Request, now Time, p *Policy) (*BindingsChange, Answer) {
	d := decision{v: v, r: r, p: p, now: now}
	if refusal, ok := d.refuse(); ok {
		return nil, refusal
	}
	d.held = v.Bindings(r.AOR)
	if r.IsQuery() {
		return nil, d.answer()
	}
	d.tombs = v.Tombstones(r.AOR)
	d.change = &BindingsChange{AOR: r.AOR, Cause: CauseRegister}
	var refusal Answer
	if r.Star {
		refusal = d.star()
	} else {
		refusal = d.contacts()
	}
	switch {
	case refusal.Status != 0:
		refusal.Time = now
		return nil, refusal
	case d.done > 0:
		return nil, d.answer() // a retransmission
	case d.change.large() || len(d.change.Put) > 0 && d.clearing() > ChangeBytesMax:
		return nil, Answer{Status: statusForbidden, Reason: "Too Many Long Contacts", Time: now}
	}
	return d.change, d.answer()
}

// decision is a REGISTER on its way through section 10.3.
type decision struct {
	v      View
	r      *Request
	p      *Policy
	now    Time
	held   []Binding // the bindings, as they are after what has been decided so far
	tombs  []Tombstone
	change *BindingsChange
	done   int // contacts for which this very request has already been carried out
	more   int // bindings more than before
}

func refusal(status int, reason string) Answer { return Answer{Status: status, Reason: reason} }

// refuse finds what is wrong with the request whatever the bindings are.
func (d *decision) refuse() (Answer, bool) {
	r := d.r
	var a Answer
	switch {
	case r.Star && (len(r.Contacts) > 0 || r.Expires != 0):
		a = refusal(statusBadRequest, "Contact * Needs Expires 0 and No Other Contact")
	case len(r.Contacts) > RequestContactsMax:
		a = refusal(statusForbidden, "Too Many Contacts")
	case !r.bounded():
		a = refusal(statusBadRequest, "Header Field Too Long")
	case r.repeats():
		a = refusal(statusBadRequest, "Contact Named Twice")
	default:
		return a, false
	}
	a.Time = d.now
	return a, true
}

// bounded tells whether the rows that the request makes keep to the limits.
func (r *Request) bounded() bool {
	shared := len(r.AOR) + len(r.CallID) + len(r.Received) + len(r.Socket) + len(r.UserAgent)
	for _, p := range r.Path {
		if !validPath(p) {
			return false
		}
		shared += len(p)
	}
	for i := range r.Contacts {
		c := &r.Contacts[i]
		if c.Q < -1 || c.Q > 1000 || shared+len(c.URI)+len(c.Params)+len(c.Instance) > rowTextMax {
			return false
		}
	}
	return len(r.CallID) <= CallIDBytesMax && len(r.Path) <= PathMax && shared <= rowTextMax
}

// rowTextMax leaves room for the lengths and numbers of an encoded row, and keeps every string below StringBytesMax.
const rowTextMax = StringBytesMax

// validPath wants what a list of lines can hold, so that a database may keep Path as one.
func validPath(p string) bool { return p != "" && strings.IndexByte(p, '\n') < 0 }

// large tells whether the change is too large for one message of the group.
func (c *BindingsChange) large() bool {
	n := len(c.AOR)
	for _, contact := range c.Remove {
		n += len(contact)
	}
	for i := range c.Put {
		b := &c.Put[i]
		n += len(b.Contact) + len(b.Params) + len(b.CallID) + len(b.Received) + len(b.Socket) + len(b.UserAgent) + len(b.Instance) + rowHead
		for _, p := range b.Path {
			n += len(p) + rowHead/PathMax
		}
	}
	for i := range c.Bury {
		n += len(c.Bury[i].Contact) + len(c.Bury[i].CallID) + rowHead
	}
	for i := range c.Forget {
		n += len(c.Forget[i].Contact) + len(c.Forget[i].CallID) + rowHead
	}
	return n > ChangeBytesMax
}

// clearing is at least what the change takes that removes all that is held.
func (d *decision) clearing() int {
	n := len(d.r.AOR) + len(StarContact) + CallIDBytesMax + rowHead
	for i := range d.held {
		n += removing(d.held[i].Contact, d.held[i].CallID)
	}
	return n
}

// removing is at least what it takes to remove and bury a binding.
func removing(contact, callID string) int { return 2*len(contact) + len(callID) + rowHead }

// rowHead is more than the lengths and numbers of any row take.
const rowHead = 64

// repeats tells whether two contacts of the request would stand for the same binding, so that their order decided.
func (r *Request) repeats() bool {
	for i := range r.Contacts {
		for j := range i {
			a, b := &r.Contacts[i], &r.Contacts[j]
			if sameFlow(a.Instance, a.RegID, b.Instance, b.RegID) || EqualURI(a.URI, b.URI) {
				return true
			}
		}
	}
	return false
}

// sameFlow tells whether both are the same flow of the same instance: then one replaces the other (RFC 5626 section 6).
func sameFlow(instance string, regID uint32, other string, otherID uint32) bool {
	return instance != "" && regID != 0 && regID == otherID && strings.EqualFold(instance, other)
}

// star removes every binding (RFC 3261 section 10.3 step 6).
func (d *decision) star() Answer {
	r := d.r
	for i := range d.tombs {
		if t := &d.tombs[i]; t.CallID == r.CallID && t.Contact == StarContact && t.Until > d.now {
			if r.CSeq < t.CSeq {
				return refusal(statusOutOfOrder, "CSeq Out of Order")
			}
			if r.CSeq == t.CSeq {
				d.done++
				return Answer{}
			}
		}
	}
	for i := range d.held {
		b := &d.held[i]
		if b.CallID == r.CallID && r.CSeq <= b.CSeq {
			return refusal(statusOutOfOrder, "CSeq Out of Order")
		}
		d.change.Remove = append(d.change.Remove, b.Contact)
		if b.CallID != r.CallID {
			d.bury(b.Contact, b.CallID, b.CSeq)
		}
	}
	d.held = nil
	d.bury(StarContact, r.CallID, r.CSeq)
	return d.overBuried()
}

// contacts carries out each contact of the request, or finds why none may be (RFC 3261 section 10.3 step 7).
func (d *decision) contacts() Answer {
	for i := range d.r.Contacts {
		c := &d.r.Contacts[i]
		seconds, brief := d.interval(c)
		if brief {
			a := refusal(statusIntervalBrief, "")
			a.MinExpires = d.p.ExpiresMin
			return a
		}
		var a Answer
		if seconds == 0 {
			a = d.removeContact(c)
		} else {
			a = d.putContact(c, d.now+Time(seconds*1000))
		}
		if a.Status != 0 {
			return a
		}
	}
	if d.done > 0 && d.done < len(d.r.Contacts) {
		return refusal(statusOutOfOrder, "CSeq Out of Order") // an old CSeq on a new request
	}
	if d.more > 0 && d.live() > cmp.Or(d.p.ContactsMax, BindingsMax) || len(d.held) > BindingsMax {
		return refusal(statusForbidden, "Too Many Contacts")
	}
	if len(d.change.Put) > 0 {
		slices.SortStableFunc(d.held, registrationOrder)
	}
	return d.overBuried()
}

// interval is how long the contact asks to be bound, in seconds, within what the policy allows; brief when it must ask for more.
func (d *decision) interval(c *Contact) (seconds int64, brief bool) {
	seconds = c.Expires
	if seconds < 0 {
		seconds = d.r.Expires
	}
	if seconds < 0 {
		seconds = int64(cmp.Or(d.p.ExpiresDefault, hour))
	}
	if seconds > 0 && seconds < int64(hour) && seconds < int64(d.p.ExpiresMin) {
		return 0, true
	}
	return min(seconds, int64(cmp.Or(d.p.ExpiresMax, math.MaxUint32))), false
}

// matches returns where the contact's bindings are: the one with the very same URI, else those with an equal URI, and those of the
// same flow.
func (d *decision) matches(c *Contact) []int {
	var room [4]int
	found := room[:0]
	same := slices.IndexFunc(d.held, func(b Binding) bool { return b.Contact == c.URI })
	for i := range d.held {
		b := &d.held[i]
		equal := i == same || same < 0 && EqualURI(b.Contact, c.URI)
		if equal || sameFlow(b.Instance, b.RegID, c.Instance, c.RegID) {
			found = append(found, i)
		}
	}
	return found
}

// buried returns the highest CSeq of the request's Call-ID that a tombstone knows for the contact.
func (d *decision) buried(c *Contact) (cseq uint32, star, ok bool) {
	for i := range d.tombs {
		t := &d.tombs[i]
		if t.CallID != d.r.CallID || t.Until <= d.now || t.Contact != StarContact && !EqualURI(t.Contact, c.URI) {
			continue
		}
		if !ok || t.CSeq > cseq {
			cseq, star, ok = t.CSeq, t.Contact == StarContact, true
		}
	}
	return cseq, star, ok
}

// removeContact removes the contact's bindings. That there is none is no error, but remembered: the REGISTER that would have made
// it may still be on its way.
func (d *decision) removeContact(c *Contact) Answer {
	r := d.r
	if !validContact(c.URI) {
		return refusal(statusBadRequest, "Bad Contact")
	}
	found := d.matches(c)
	if cseq, star, ok := d.buried(c); ok && r.CSeq <= cseq {
		if r.CSeq < cseq || star || len(found) > 0 && d.ours(found) {
			return refusal(statusOutOfOrder, "CSeq Out of Order")
		}
		d.done++
		return Answer{}
	}
	for _, i := range found {
		b := &d.held[i]
		if b.CallID == r.CallID && r.CSeq <= b.CSeq {
			return refusal(statusOutOfOrder, "CSeq Out of Order")
		}
		d.change.Remove = append(d.change.Remove, b.Contact)
		if b.CallID == r.CallID {
			d.bury(b.Contact, b.CallID, r.CSeq)
		} else {
			d.bury(b.Contact, b.CallID, b.CSeq)
		}
	}
	d.bury(c.URI, r.CallID, r.CSeq)
	d.drop(found)
	return Answer{}
}

// ours tells whether one of the bindings was set by the request's Call-ID.
func (d *decision) ours(found []int) bool {
	return slices.ContainsFunc(found, func(i int) bool { return d.held[i].CallID == d.r.CallID })
}

// putContact binds the contact until expires.
func (d *decision) putContact(c *Contact, expires Time) Answer {
	r := d.r
	found := d.matches(c)
	if cseq, _, ok := d.buried(c); ok && r.CSeq <= cseq {
		return refusal(statusOutOfOrder, "CSeq Out of Order")
	}
	b := Binding{
		Contact: c.URI, Params: c.Params, Q: c.Q, Expires: expires, CallID: r.CallID, CSeq: r.CSeq, Path: r.Path,
		Received: r.Received, Socket: r.Socket, UserAgent: r.UserAgent, Instance: c.Instance, RegID: c.RegID, Created: d.now,
	}
	if len(found) == 1 && d.held[found[0]].Contact == c.URI && d.held[found[0]].CallID == r.CallID {
		old := &d.held[found[0]]
		same := unchanged(old, &b)
		switch {
		case r.CSeq == old.CSeq && same && old.Expires > d.now && old.Expires <= expires:
			d.done++
			return Answer{}
		case r.CSeq > old.CSeq && same:
			d.change.Refresh = append(d.change.Refresh, Refresh{Contact: old.Contact, Expires: expires, CSeq: r.CSeq})
			old.Expires, old.CSeq = expires, r.CSeq
			d.outlive(c.URI)
			return Answer{}
		}
	} else if len(found) == 0 && !validContact(c.URI) {
		return refusal(statusBadRequest, "Bad Contact")
	}
	for _, i := range found {
		old := &d.held[i]
		if old.CallID == r.CallID && r.CSeq <= old.CSeq {
			return refusal(statusOutOfOrder, "CSeq Out of Order")
		}
		b.Created = min(b.Created, old.Created)
		if old.Contact != b.Contact {
			d.change.Remove = append(d.change.Remove, old.Contact)
		}
		if old.Contact != b.Contact || old.CallID != b.CallID {
			d.bury(old.Contact, old.CallID, old.CSeq)
		}
	}
	d.change.Put = append(d.change.Put, b)
	d.outlive(c.URI)
	d.drop(found)
	d.held = append(d.held, b)
	d.more++
	return Answer{}
}

// unchanged tells whether only expiry and CSeq differ, and when the binding was made.
func unchanged(a, b *Binding) bool {
	return a.Params == b.Params && a.Q == b.Q && a.Received == b.Received && a.Socket == b.Socket && a.UserAgent == b.UserAgent &&
		a.Instance == b.Instance && a.RegID == b.RegID && slices.Equal(a.Path, b.Path)
}

// validContact wants a SIP or SIPS URI: nothing else can be called back, and what is stored goes into the answers to others.
func validContact(uri string) bool {
	_, err := ParseURI(uri)
	return err == nil
}

// drop takes bindings out of held.
func (d *decision) drop(found []int) {
	for _, i := range slices.Backward(found) {
		d.held = slices.Delete(d.held, i, i+1)
		d.more--
	}
}

// bury adds a tombstone to the change; of two with the same key the higher CSeq stays.
func (d *decision) bury(contact, callID string, cseq uint32) {
	for i := range d.change.Bury {
		if t := &d.change.Bury[i]; t.Contact == contact && t.CallID == callID {
			t.CSeq = max(t.CSeq, cseq)
			return
		}
	}
	for i := range d.tombs {
		if t := &d.tombs[i]; t.Contact == contact && t.CallID == callID && t.Until > d.now {
			cseq = max(cseq, t.CSeq)
		}
	}
	d.change.Bury = append(d.change.Bury, Tombstone{
		Contact: contact, CallID: callID, CSeq: cseq, Until: d.now + Time(d.p.TombstoneLife),
	})
}

// outlive forgets the tombstone that a binding with a higher CSeq stands for from now on.
func (d *decision) outlive(contact string) {
	for i := range d.tombs {
		if t := &d.tombs[i]; t.CallID == d.r.CallID && t.Contact == contact {
			d.change.Forget = append(d.change.Forget, TombstoneKey{Contact: contact, CallID: t.CallID})
		}
	}
}

// overBuried refuses what would leave more tombstones than the limit. It passes by itself, as they are forgotten.
func (d *decision) overBuried() Answer {
	n := len(d.tombs)
	for i := range d.change.Bury {
		b := &d.change.Bury[i]
		if !slices.ContainsFunc(d.tombs, func(t Tombstone) bool { return t.Contact == b.Contact && t.CallID == b.CallID }) {
			n++
		}
	}
	if len(d.change.Bury) > 0 && n-len(d.change.Forget) > TombstonesMax {
		return refusal(statusUnavailable, "Too Many Removed Contacts")
	}
	return Answer{}
}

// live counts the bindings that have not run out.
func (d *decision) live() int {
	n := 0
	for i := range d.held {
		if max(d.held[i].Expires, d.v.Grace()) > d.now {
			n++
		}
	}
	return n
}

// answer is the 200 with the bindings (RFC 3261 section 10.3 step 8).
func (d *decision) answer() Answer {
	return Answer{Status: statusOK, Bindings: current(d.held, d.v.Grace(), d.now), Time: d.now}
}

// current leaves those that have not run out, in place, with an expiry that is no earlier than the grace.
func current(held []Binding, grace, now Time) []Binding {
	live := held[:0]
	for i := range held {
		if b := &held[i]; max(b.Expires, grace) > now {
			b.Expires = max(b.Expires, grace)
			live = append(live, *b)
		}
	}
	return live
}

// registrationOrder is row.before for bindings.
func registrationOrder(a, b Binding) int {
	switch {
	case a.Created < b.Created:
		return -1
	case a.Created > b.Created:
		return 1
	}
	return strings.Compare(a.Contact, b.Contact)
}

// Find looks an AOR up.
func Find(v View, aor AOR, now Time) Lookup {
	_, known := v.User(aor)
	bindings := current(v.Bindings(aor), v.Grace(), now)
	return Lookup{Known: known || len(bindings) > 0, Bindings: bindings, Now: now}
}

// Remove is the change by which an operator removes a contact of the AOR, or all of them with StarContact. It is nil when there is
// nothing to remove. What is removed is buried, as after a REGISTER.
func Remove(v View, aor AOR, contact string, now Time, p *Policy) *BindingsChange {
	d := decision{v: v, p: p, now: now, held: v.Bindings(aor), tombs: v.Tombstones(aor)}
	d.change = &BindingsChange{AOR: aor, Cause: CauseOperator}
	for i := range d.held {
		b := &d.held[i]
		if contact == StarContact || EqualURI(b.Contact, contact) {
			d.change.Remove = append(d.change.Remove, b.Contact)
			d.bury(b.Contact, b.CallID, b.CSeq)
		}
	}
	if d.change.Remove == nil {
		return nil
	}
	return d.change
}
