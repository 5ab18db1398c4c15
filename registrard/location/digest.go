package location

import (
	"crypto/sha256"
	"encoding/binary"
	"math/bits"
)

// sum is a Digest that rows are added to and taken from: a number modulo 2^128, so that the order of rows does not count.
type sum struct{ high, low uint64 }

func (s *sum) add(d Digest) {
	var carry uint64
	s.low, carry = bits.Add64(s.low, binary.BigEndian.Uint64(d[8:]), 0)
	s.high, _ = bits.Add64(s.high, binary.BigEndian.Uint64(d[:8]), carry)
}

func (s *sum) sub(d Digest) {
	var borrow uint64
	s.low, borrow = bits.Sub64(s.low, binary.BigEndian.Uint64(d[8:]), 0)
	s.high, _ = bits.Sub64(s.high, binary.BigEndian.Uint64(d[:8]), borrow)
}

func (s sum) digest() Digest {
	var d Digest
	binary.BigEndian.PutUint64(d[:8], s.high)
	binary.BigEndian.PutUint64(d[8:], s.low)
	return d
}

// Hasher adds up the Digest of content that stands somewhere else than in a State, such as a database's tables: Add it as the changes
// that Rebuild gives. The zero Hasher has seen nothing.
type Hasher struct {
	general
	sum sum
}

// Add adds the rows that the change puts. A change that takes rows away is none of Rebuild's.
func (h *Hasher) Add(c Change) {
	switch c := c.(type) {
	case *BindingsChange:
		for i := range c.Put {
			r := newRow(c.AOR, &c.Put[i])
			h.sum.add(r.hash())
		}
		for i := range c.Bury {
			t := newTomb(&c.Bury[i], h.added)
			h.sum.add(hashTombstone(c.AOR, &t))
		}
	case *UserChange:
		h.sum.add(hashUser(c.User.AOR, packUser(&c.User)))
	case *KeyChange:
		h.setKey(&h.sum, c)
	case *VotersChange:
		h.setVoters(&h.sum, c)
	case *OutcomeChange:
		o := keptOutcome(c, h.added)
		h.sum.add(hashOutcome(&o))
	case *TimeChange:
		h.setTime(&h.sum, c)
	}
}

// Digest returns the digest of what was added.
func (h *Hasher) Digest() Digest { return h.sum.digest() }

// The tables, as tags of the rows that are hashed: the first byte of every hashed encoding. Changing an encoding changes every
// digest, so that nodes of two versions would take each other for diverged: it needs a new version of the group's protocol.
const (
	tagBindingFixed byte = 'B'
	tagBinding      byte = 'b'
	tagTombstone    byte = 't'
	tagUser         byte = 'u'
	tagKey          byte = 'k'
	tagVoter        byte = 'v'
	tagOutcome      byte = 'o'
	tagTime         byte = 'g'
)

// hashBytes is how much of SHA-256 a row's hash keeps.
const hashBytes = len(Digest{})

func hashRow(encoded []byte) Digest {
	full := sha256.Sum256(encoded)
	return Digest(full[:hashBytes])
}

// scratch is room for a row's encoding on the stack: most rows fit.
type scratch [512]byte

// hashFixed hashes what a refresh leaves alone, so that a refresh hashes one block instead of the whole row.
func hashFixed(aor AOR, data string) Digest {
	var room scratch
	b := append(room[:0], tagBindingFixed)
	b = appendString(b, string(aor))
	b = append(b, data...)
	return hashRow(b)
}

func hashBinding(fixed Digest, expires Time, cseq uint32) Digest {
	var b [1 + len(fixed) + 8 + 4]byte
	b[0] = tagBinding
	copy(b[1:], fixed[:])
	binary.BigEndian.PutUint64(b[1+len(fixed):], uint64(expires))
	binary.BigEndian.PutUint32(b[1+len(fixed)+8:], cseq)
	return hashRow(b[:])
}

func hashTombstone(aor AOR, t *tomb) Digest {
	var room scratch
	b := append(room[:0], tagTombstone)
	b = appendString(b, string(aor))
	b = appendString(b, t.contact)
	b = appendString(b, t.callID)
	b = binary.AppendUvarint(b, uint64(t.cseq))
	return hashRow(binary.AppendVarint(b, int64(t.until)))
}

func hashUser(aor AOR, packed string) Digest {
	var room scratch
	b := append(room[:0], tagUser)
	b = appendString(b, string(aor))
	return hashRow(append(b, packed...))
}

func hashKey(k *Key) Digest {
	var room scratch
	return hashRow(appendKey(append(room[:0], tagKey), k))
}

func hashVoter(v Voter) Digest {
	var room scratch
	return hashRow(appendVoter(append(room[:0], tagVoter), v))
}

// hashOutcome wants Until as it is kept, in tombstone time.
func hashOutcome(o *Outcome) Digest {
	var room scratch
	return hashRow(appendOutcome(append(room[:0], tagOutcome), o))
}

// hashTime hashes the row of the time; before anything has been ordered about it there is no such row.
func hashTime(grace Time, added int64) Digest {
	if grace == 0 && added == 0 {
		return Digest{}
	}
	var room scratch
	b := binary.AppendVarint(append(room[:0], tagTime), int64(grace))
	return hashRow(binary.AppendVarint(b, added))
}
