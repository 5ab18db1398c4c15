package location

import (
	"slices"
	"strings"
)

// content is what one AOR holds. The zero content holds nothing.
type content struct {
	rows  []row  // by before
	tombs []tomb // by contact, then Call-ID
	user  string // packUser, or "" when there is none
}

func (c *content) empty() bool { return len(c.rows) == 0 && len(c.tombs) == 0 && c.user == "" }

// clone makes a content of its own; strings are shared, as they never change.
func (c *content) clone() content {
	return content{rows: slices.Clone(c.rows), tombs: slices.Clone(c.tombs), user: c.user}
}

func (c *content) find(contact string) int {
	for i := range c.rows {
		if c.rows[i].contact() == contact {
			return i
		}
	}
	return -1
}

func (c *content) remove(s *sum, contact string) {
	if i := c.find(contact); i >= 0 {
		s.sub(c.rows[i].hash())
		c.rows = slices.Delete(c.rows, i, i+1)
	}
}

func (c *content) put(s *sum, aor AOR, b *Binding) {
	c.remove(s, b.Contact)
	r := newRow(aor, b)
	s.add(r.hash())
	i := len(c.rows)
	for i > 0 && r.before(&c.rows[i-1]) {
		i--
	}
	if c.rows == nil {
		c.rows = make([]row, 0, 1) // most AORs have one binding
	}
	c.rows = slices.Insert(c.rows, i, r)
}

func (c *content) refresh(s *sum, f *Refresh) {
	if i := c.find(f.Contact); i >= 0 {
		r := &c.rows[i]
		s.sub(r.hash())
		r.expires, r.cseq = f.Expires, f.CSeq
		s.add(r.hash())
	}
}

func (c *content) findTomb(contact, callID string) (int, bool) {
	return slices.BinarySearchFunc(c.tombs, TombstoneKey{contact, callID}, func(t tomb, k TombstoneKey) int {
		if n := strings.Compare(t.contact, k.Contact); n != 0 {
			return n
		}
		return strings.Compare(t.callID, k.CallID)
	})
}

func (c *content) forget(s *sum, aor AOR, contact, callID string) {
	if i, ok := c.findTomb(contact, callID); ok {
		s.sub(hashTombstone(aor, &c.tombs[i]))
		c.tombs = slices.Delete(c.tombs, i, i+1)
	}
}

func (c *content) bury(s *sum, aor AOR, t *Tombstone, added int64) {
	c.forget(s, aor, t.Contact, t.CallID)
	i, _ := c.findTomb(t.Contact, t.CallID)
	c.tombs = slices.Insert(c.tombs, i, newTomb(t, added))
	s.add(hashTombstone(aor, &c.tombs[i]))
}

// change applies a BindingsChange in the order that its type promises.
func (c *content) change(s *sum, aor AOR, ch *BindingsChange, added int64) {
	for _, contact := range ch.Remove {
		c.remove(s, contact)
	}
	for i := range ch.Put {
		c.put(s, aor, &ch.Put[i])
	}
	for i := range ch.Refresh {
		c.refresh(s, &ch.Refresh[i])
	}
	for i := range ch.Bury {
		c.bury(s, aor, &ch.Bury[i], added)
	}
	for i := range ch.Forget {
		c.forget(s, aor, ch.Forget[i].Contact, ch.Forget[i].CallID)
	}
	if len(c.tombs) == 0 {
		c.tombs = nil
	}
}

func (c *content) setUser(s *sum, aor AOR, ch *UserChange) {
	if c.user != "" {
		s.sub(hashUser(aor, c.user))
		c.user = ""
	}
	if !ch.Remove {
		c.user = packUser(&ch.User)
		s.add(hashUser(aor, c.user))
	}
}

func (c *content) appendBindings(dst []Binding) []Binding {
	for i := range c.rows {
		dst = append(dst, c.rows[i].binding())
	}
	return dst
}

func (c *content) bindings() []Binding {
	if len(c.rows) == 0 {
		return nil
	}
	return c.appendBindings(make([]Binding, 0, len(c.rows)))
}

func (c *content) tombstones(added int64) []Tombstone {
	if len(c.tombs) == 0 {
		return nil
	}
	out := make([]Tombstone, len(c.tombs))
	for i := range c.tombs {
		out[i] = c.tombs[i].tombstone(added)
	}
	return out
}

// due returns the ordered time at which something of this AOR runs out, and whether anything ever does.
func (c *content) due(grace Time, added int64) (Time, bool) {
	var first Time
	found := false
	consider := func(t Time) {
		if !found || t < first {
			first, found = t, true
		}
	}
	for i := range c.rows {
		consider(max(c.rows[i].expires, grace))
	}
	for i := range c.tombs {
		consider(c.tombs[i].until + Time(added))
	}
	return first, found
}

// expired returns the change that takes away what has run out, as far as it fits into one, or nil. A binding that may have run out
// within a tombstone's life of the REGISTER that set it is buried.
func (c *content) expired(aor AOR, now, grace Time, added int64, p *Policy) *BindingsChange {
	ch := BindingsChange{AOR: aor, Cause: CauseExpired}
	size := len(aor) + rowHead
	for i := range c.rows {
		r := &c.rows[i]
		if max(r.expires, grace) > now {
			continue
		}
		b := r.binding()
		if size += removing(b.Contact, b.CallID); size > ChangeBytesMax {
			break
		}
		ch.Remove = append(ch.Remove, b.Contact)
		if p.TombstoneLife > int64(p.ExpiresMin)*1000 {
			t := Tombstone{Contact: b.Contact, CallID: b.CallID, CSeq: r.cseq, Until: now + Time(p.TombstoneLife)}
			ch.Bury = append(ch.Bury, t)
		}
	}
	for i := range c.tombs {
		t := &c.tombs[i]
		buried := slices.ContainsFunc(ch.Bury, func(b Tombstone) bool { return b.Contact == t.contact && b.CallID == t.callID })
		if t.until+Time(added) > now || buried {
			continue
		}
		if size += removing(t.contact, t.callID); size > ChangeBytesMax {
			break
		}
		ch.Forget = append(ch.Forget, TombstoneKey{Contact: t.contact, CallID: t.callID})
	}
	if ch.Remove == nil && ch.Forget == nil {
		return nil
	}
	return &ch
}

// general is what is not of one AOR. Its slices are never written to, so that a copy of it is a copy.
type general struct {
	keys   []Key // by ID
	voters []Voter
	grace  Time
	added  int64 // milliseconds that outages have added to ordered time
}

func (g *general) setKey(s *sum, c *KeyChange) {
	i, found := slices.BinarySearchFunc(g.keys, c.Key.ID, func(k Key, id uint32) int {
		switch {
		case k.ID < id:
			return -1
		case k.ID > id:
			return 1
		}
		return 0
	})
	g.keys = slices.Clone(g.keys)
	if found {
		s.sub(hashKey(&g.keys[i]))
		g.keys = slices.Delete(g.keys, i, i+1)
	}
	if !c.Remove {
		g.keys = slices.Insert(g.keys, i, c.Key)
		s.add(hashKey(&c.Key))
	}
}

func (g *general) setVoters(s *sum, c *VotersChange) {
	for _, v := range g.voters {
		s.sub(hashVoter(v))
	}
	g.voters = slices.Clone(c.Voters)
	for _, v := range g.voters {
		s.add(hashVoter(v))
	}
}

func (g *general) setTime(s *sum, c *TimeChange) {
	s.sub(hashTime(g.grace, g.added))
	g.grace = max(g.grace, c.Grace)
	g.added += c.Added
	s.add(hashTime(g.grace, g.added))
}
