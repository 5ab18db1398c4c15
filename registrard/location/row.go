package location

import "encoding/binary"

// row is a binding as it is kept: what a refresh moves, and the rest in one string (appendFixedPart), so that a million of them are
// few objects. Strings that leave it share its memory; data is never written to.
type row struct {
	data    string
	expires Time
	fixed   Digest // hashFixed of data
	cseq    uint32
}

func newRow(aor AOR, b *Binding) row {
	var room scratch
	data := string(appendFixedPart(room[:0], b))
	return row{data: data, expires: b.Expires, fixed: hashFixed(aor, data), cseq: b.CSeq}
}

func (r *row) hash() Digest { return hashBinding(r.fixed, r.expires, r.cseq) }

// contact is the first field of data.
func (r *row) contact() string {
	d := decoder{rest: r.data}
	return d.string()
}

// created is the second field of data.
func (r *row) created() Time {
	d := decoder{rest: r.data}
	_ = d.string()
	return Time(d.varint())
}

func (r *row) binding() Binding {
	d := decoder{rest: r.data}
	b := d.fixedPart()
	b.Expires, b.CSeq = r.expires, r.cseq
	return b
}

// before is the order of registration. Contacts of one REGISTER share their time, so that the contact decides; nothing else would be
// the same on a replica that has its rows from a snapshot.
func (r *row) before(s *row) bool {
	a, b := r.created(), s.created()
	return a < b || a == b && r.contact() < s.contact()
}

// tomb is a tombstone as it is kept. Its end is in tombstone time: ordered time without what outages have added to it, so that an
// addition moves no row.
type tomb struct {
	contact string
	callID  string
	until   Time
	cseq    uint32
}

// newTomb copies the strings, which share the memory of a whole batch, into one.
func newTomb(t *Tombstone, added int64) tomb {
	both := t.Contact + t.CallID
	return tomb{contact: both[:len(t.Contact)], callID: both[len(t.Contact):], cseq: t.CSeq, until: t.Until - Time(added)}
}

func (t *tomb) tombstone(added int64) Tombstone {
	return Tombstone{Contact: t.contact, CallID: t.callID, CSeq: t.cseq, Until: t.until + Time(added)}
}

// appendFixedPart encodes what a refresh leaves alone.
func appendFixedPart(dst []byte, b *Binding) []byte {
	dst = appendString(dst, b.Contact)
	dst = binary.AppendVarint(dst, int64(b.Created))
	dst = appendString(dst, b.Params)
	dst = binary.AppendVarint(dst, int64(b.Q))
	dst = appendString(dst, b.CallID)
	dst = binary.AppendUvarint(dst, uint64(len(b.Path)))
	for _, p := range b.Path {
		dst = appendString(dst, p)
	}
	dst = appendString(dst, b.Received)
	dst = appendString(dst, b.Socket)
	dst = appendString(dst, b.UserAgent)
	dst = appendString(dst, b.Instance)
	return binary.AppendUvarint(dst, uint64(b.RegID))
}

func (d *decoder) fixedPart() Binding {
	var b Binding
	b.Contact = d.string()
	b.Created = Time(d.varint())
	b.Params = d.string()
	b.Q = d.q()
	b.CallID = d.string()
	if n := d.count(PathMax); n > 0 {
		b.Path = make([]string, n)
		for i := range b.Path {
			if b.Path[i] = d.string(); !validPath(b.Path[i]) {
				d.fail("path value")
			}
		}
	}
	b.Received = d.string()
	b.Socket = d.string()
	b.UserAgent = d.string()
	b.Instance = d.string()
	b.RegID = d.uint32()
	return b
}

// appendUserPart encodes a user without its AOR. Hashes that it does not have are left out.
func appendUserPart(dst []byte, u *User) []byte {
	dst = appendString(dst, u.Username)
	dst = appendString(dst, u.Realm)
	dst = append(dst, u.Has)
	if u.Has&(1<<MD5) != 0 {
		dst = append(dst, u.MD5[:]...)
	}
	if u.Has&(1<<SHA256) != 0 {
		dst = append(dst, u.SHA256[:]...)
	}
	if u.Has&(1<<SHA512256) != 0 {
		dst = append(dst, u.SHA512256[:]...)
	}
	return dst
}

// hasKnown are the bits of User.Has that mean something.
const hasKnown = 1<<MD5 | 1<<SHA256 | 1<<SHA512256

func (d *decoder) userPart() User {
	var u User
	u.Username = d.string()
	u.Realm = d.string()
	u.Has = d.byte()
	if u.Has&^uint8(hasKnown) != 0 {
		d.fail("unknown digest algorithm")
	}
	if u.Has&(1<<MD5) != 0 {
		copy(u.MD5[:], d.take(len(u.MD5)))
	}
	if u.Has&(1<<SHA256) != 0 {
		copy(u.SHA256[:], d.take(len(u.SHA256)))
	}
	if u.Has&(1<<SHA512256) != 0 {
		copy(u.SHA512256[:], d.take(len(u.SHA512256)))
	}
	return u
}

func packUser(u *User) string {
	var room scratch
	return string(appendUserPart(room[:0], u))
}

// unpackUser undoes packUser; a packed user is never empty.
func unpackUser(aor AOR, packed string) (User, bool) {
	if packed == "" {
		return User{}, false
	}
	d := decoder{rest: packed}
	u := d.userPart()
	u.AOR = aor
	return u, true
}

func appendKey(dst []byte, k *Key) []byte {
	dst = binary.AppendUvarint(dst, uint64(k.ID))
	dst = append(dst, k.Secret[:]...)
	return binary.AppendVarint(dst, int64(k.Created))
}

func appendVoter(dst []byte, v Voter) []byte {
	dst = binary.AppendUvarint(dst, uint64(v.Node))
	return binary.BigEndian.AppendUint64(dst, uint64(v.Disk))
}

func appendRequestID(dst []byte, id RequestID) []byte {
	dst = binary.AppendUvarint(dst, uint64(id.Node))
	dst = binary.BigEndian.AppendUint64(dst, uint64(id.Incarnation))
	return binary.AppendUvarint(dst, id.Number)
}

func appendOutcome(dst []byte, o *Outcome) []byte {
	dst = appendRequestID(dst, o.ID)
	dst = binary.AppendUvarint(dst, uint64(o.Status))
	dst = appendString(dst, o.Detail)
	return binary.AppendVarint(dst, int64(o.Until))
}
