package location_test

import (
	"fmt"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"sipha/registrard/location"
)

// primary is what a primary does with requests: it decides on an Overlay with batches in flight, and a replica follows.
type primary struct {
	t        *rapid.T
	state    *location.State
	overlay  *location.Overlay
	replica  *location.State
	open     []location.Change
	inFlight [][]byte
	now      location.Time
	p        location.Policy
}

func newPrimary(t *rapid.T, p location.Policy) *primary {
	s := location.NewState()
	return &primary{t: t, state: s, overlay: location.NewOverlay(s), replica: location.NewState(), now: start, p: p}
}

func (p *primary) add(c location.Change) {
	p.overlay.Add(c)
	p.open = append(p.open, c)
}

func (p *primary) close() {
	p.overlay.Close()
	p.inFlight = append(p.inFlight, location.AppendChanges(nil, p.open))
	p.open = nil
}

func (p *primary) commit() {
	for _, s := range []*location.State{p.state, p.replica} {
		changes, err := location.DecodeChanges(p.inFlight[0])
		if err != nil {
			p.t.Fatal(err)
		}
		s.Apply(p.now, changes)
	}
	p.overlay.Committed()
	p.inFlight = p.inFlight[1:]
	if p.state.Digest() != p.replica.Digest() {
		p.t.Fatal("primary and replica differ")
	}
}

// settle commits whatever there is.
func (p *primary) settle() {
	p.close()
	for len(p.inFlight) > 0 {
		p.commit()
	}
	if p.overlay.Digest() != p.state.Digest() {
		p.t.Fatal("overlay and state differ with nothing in flight")
	}
}

func (p *primary) register(r *location.Request) location.Answer {
	change, answer := location.Decide(p.overlay, r, p.now, &p.p)
	if change != nil {
		p.add(change)
	}
	return answer
}

func (p *primary) expire(limit int) int {
	changes := p.overlay.Expired(p.now, &p.p, limit)
	if len(changes) > limit {
		p.t.Fatalf("%d changes, more than %d", len(changes), limit)
	}
	for _, c := range changes {
		p.add(c)
	}
	return len(changes)
}

func drawRequest(t *rapid.T, cseqs map[string]uint32) *location.Request {
	callID := fmt.Sprint("call", rapid.IntRange(0, 2).Draw(t, "call"))
	cseqs[callID]++
	aor := location.AOR(fmt.Sprintf("sip:u%d@example.org", rapid.IntRange(0, 1).Draw(t, "aor")))
	r := &location.Request{AOR: aor, CallID: callID, CSeq: cseqs[callID], Expires: -1}
	if rapid.IntRange(0, 5).Draw(t, "star") == 0 {
		r.Star, r.Expires = true, 0
		return r
	}
	for range rapid.IntRange(1, 2).Draw(t, "contacts") {
		c := location.Contact{Q: -1, Expires: rapid.SampledFrom([]int64{0, 20, 40}).Draw(t, "expires")}
		c.URI = rapid.SampledFrom([]string{
			"sip:a@192.0.2.1", "sip:%61@192.0.2.1", "sip:a@192.0.2.1;x=1", "sip:a@192.0.2.1;x=2", "sip:a@192.0.2.2",
		}).Draw(t, "uri")
		if rapid.Bool().Draw(t, "outbound") {
			c.Instance, c.RegID = "urn:uuid:1", uint32(rapid.IntRange(1, 2).Draw(t, "reg-id"))
		}
		r.Contacts = append(r.Contacts, c)
	}
	return r
}

// Whatever happened since, an accepted REGISTER that comes again within a tombstone's life changes nothing (P2).
func TestNothingComesBack(t *testing.T) {
	t.Parallel()
	p2 := location.Policy{ExpiresMin: 10, ExpiresMax: 60, ContactsMax: 4, TombstoneLife: 30_000}
	rapid.Check(t, func(t *rapid.T) {
		p := newPrimary(t, p2)
		type accepted struct {
			request *location.Request
			at      location.Time
		}
		var history []accepted
		cseqs := make(map[string]uint32)
		for range rapid.IntRange(1, 40).Draw(t, "steps") {
			switch rapid.IntRange(0, 6).Draw(t, "step") {
			case 0:
				p.now += location.Time(rapid.Int64Range(1, 15_000).Draw(t, "pass"))
			case 1:
				p.close()
			case 2:
				if len(p.inFlight) > 0 {
					p.commit()
				}
			case 3:
				p.expire(rapid.IntRange(0, 3).Draw(t, "limit"))
			case 4:
				aor := location.AOR("sip:u0@example.org")
				if c := location.Remove(p.overlay, aor, location.StarContact, p.now, &p.p); c != nil {
					p.add(c)
				}
			default:
				r := drawRequest(t, cseqs)
				if p.register(r).Status == 200 {
					history = append(history, accepted{r, p.now})
				}
			}
			for _, h := range history {
				if h.at+location.Time(p2.TombstoneLife) <= p.now {
					continue
				}
				if c, a := location.Decide(p.overlay, h.request, p.now, &p.p); c != nil {
					t.Fatalf("%+v comes again after %d ms, is answered %d, and makes %+v", h.request, p.now-h.at, a.Status, c)
				}
			}
		}
		p.settle()
	})
}

// Expired takes away what has run out, all of it and nothing else, also while part of it is in flight or a batch is lost.
func TestExpiredFindsAll(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		p := newPrimary(t, location.Policy{TombstoneLife: 1000})
		for range rapid.IntRange(1, 30).Draw(t, "steps") {
			switch rapid.IntRange(0, 5).Draw(t, "step") {
			case 0:
				p.now += location.Time(rapid.Int64Range(1, 5000).Draw(t, "pass"))
			case 1:
				p.close()
				p.commit()
			case 2:
				p.expire(rapid.IntRange(0, 3).Draw(t, "limit"))
			case 3: // deposed
				p.overlay.Reset()
				p.open, p.inFlight = nil, nil
			default:
				for _, c := range drawBatch(t) {
					p.add(later(c, p.now))
				}
			}
		}
		p.settle()
		p.now += 256 // what the index may be late
		for rounds := 0; p.expire(2) > 0; rounds++ {
			if rounds > 100 {
				t.Fatal("expiry finds no end")
			}
			p.settle()
		}
		checkNothingDue(t, p)
		// Nothing is taken away early: what is left is still there after another look.
		digest := p.state.Digest()
		p.expire(100)
		p.settle()
		if p.state.Digest() != digest {
			t.Fatal("something is left to expire")
		}
	})
}

// later moves the ends of what drawChange draws to after now.
func later(c location.Change, now location.Time) location.Change {
	switch c := c.(type) {
	case *location.BindingsChange:
		for i := range c.Put {
			c.Put[i].Expires += now
		}
		for i := range c.Refresh {
			c.Refresh[i].Expires += now
		}
		for i := range c.Bury {
			c.Bury[i].Until += now
		}
	case *location.OutcomeChange:
		c.Outcome.Until = now + 3000 // all outcomes live equally long
	case *location.TimeChange:
		c.Grace, c.Added = c.Grace+now, c.Added/100
	}
	return c
}

func checkNothingDue(t *rapid.T, p *primary) {
	late := p.now - 256
	for _, aor := range p.state.AORs("", 100) {
		for _, b := range p.state.Bindings(aor) {
			if max(b.Expires, p.state.Grace()) <= late {
				t.Fatalf("%s of %s ran out at %d, and is there at %d", b.Contact, aor, b.Expires, p.now)
			}
		}
		for _, b := range p.state.Tombstones(aor) {
			if b.Until <= late {
				t.Fatalf("tombstone of %s ran out at %d, and is there at %d", aor, b.Until, p.now)
			}
		}
	}
	for n := range 3 {
		id := location.RequestID{Node: 1, Incarnation: 7, Number: uint64(n)}
		if o, ok := p.state.Outcome(id); ok && o.Until <= late {
			t.Fatalf("outcome %d ran out at %d, and is there at %d", n, o.Until, p.now)
		}
	}
}

// Expired must not take away what has not run out.
func TestExpiredTakesNothingEarly(t *testing.T) {
	t.Parallel()
	p := location.Policy{ExpiresMin: 60, TombstoneLife: 300_000}
	s := location.NewState()
	o := location.NewOverlay(s)
	put := func(contact string, expires location.Time) {
		s.Apply(start, []location.Change{&location.BindingsChange{AOR: alice, Put: []location.Binding{
			{Contact: contact, CallID: "a", CSeq: 7, Expires: expires, Created: start},
		}}})
		o.Reset()
	}
	put(desk, start+10_000)
	put(mobile, start+20_000)
	if c := o.Expired(start+9_999, &p, 10); len(c) != 0 {
		t.Fatalf("early: %+v", c)
	}
	changes := o.Expired(start+10_256, &p, 10)
	if len(changes) != 1 {
		t.Fatalf("changes are %+v", changes)
	}
	c := changes[0].(*location.BindingsChange)
	// 60 s is less than a tombstone's life: the REGISTER that made it may yet come again.
	want := location.Tombstone{Contact: desk, CallID: "a", CSeq: 7, Until: start + 10_256 + 300_000}
	if c.Cause != location.CauseExpired || !slices.Equal(c.Remove, []string{desk}) || !slices.Equal(c.Bury, []location.Tombstone{want}) {
		t.Errorf("the change is %+v", c)
	}
	p.ExpiresMin = 300
	if c := o.Expired(start+10_256, &p, 10)[0].(*location.BindingsChange); c.Bury != nil {
		t.Errorf("buried without need: %+v", c)
	}
	if c := o.Expired(start+10_256, &p, 0); len(c) != 0 {
		t.Errorf("a limit of 0 gives %+v", c)
	}
	s.Apply(start+10_300, []location.Change{&location.TimeChange{Grace: start + 60_000}})
	o.Reset()
	if c := o.Expired(start+59_000, &p, 10); len(c) != 0 {
		t.Errorf("within the grace: %+v", c)
	}
	if c := o.Expired(start+60_256, &p, 10)[0].(*location.BindingsChange); len(c.Remove) != 2 {
		t.Errorf("after the grace: %+v", c)
	}
}

func TestRemove(t *testing.T) {
	t.Parallel()
	r := newRegistrar(t)
	r.want(register("a", 1, desk, mobile), 200, desk, mobile)
	if c := location.Remove(r.state, alice, laptop, r.now, &r.p); c != nil {
		t.Errorf("nothing to remove makes %+v", c)
	}
	r.apply(location.Remove(r.state, alice, "sip:%61lice@192.0.2.1", r.now, &r.p))
	r.bound(mobile)
	r.want(register("a", 1, desk), 500)
	r.apply(location.Remove(r.state, alice, location.StarContact, r.now, &r.p))
	r.bound()
	r.want(register("a", 1, mobile), 500)
}
