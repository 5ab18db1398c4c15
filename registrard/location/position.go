package location

import (
	"cmp"
	"encoding/hex"
	"fmt"
)

// NodeID is the number that Corosync gives a node (nodelist.node.N.nodeid).
type NodeID uint32

// Incarnation tells one start of a daemon from every other: a random number that is never 0.
type Incarnation uint64

// DiskID tells one database from every other, also on the same node: a random number that is never 0. A database that is set aside
// or wiped is followed by one with another DiskID, so that a voter is never mistaken for what it was before it lost its memory.
type DiskID uint64

// Time is ordered time: milliseconds since 1970-01-01T00:00:00Z as the group counts them. It never runs backwards and is moved by
// entries of the log alone; it may differ from any wall clock.
type Time int64

// Epoch names one promotion. Epochs are ordered by number, then node, then incarnation; the zero Epoch is before all others.
type Epoch struct {
	Number      uint64
	Node        NodeID
	Incarnation Incarnation
}

// Compare returns -1, 0 or 1 as e is before, equal to or after f.
func (e Epoch) Compare(f Epoch) int {
	return cmp.Or(cmp.Compare(e.Number, f.Number), cmp.Compare(e.Node, f.Node), cmp.Compare(e.Incarnation, f.Incarnation))
}

// String gives number.node, the form that status and logs show.
func (e Epoch) String() string { return fmt.Sprintf("%d.%d", e.Number, e.Node) }

// Digest is the rolling, order-free hash of a State's content: the sum of its rows' hashes modulo 2^128, big endian.
type Digest [16]byte

// String gives the digest in hexadecimal.
func (d Digest) String() string { return hex.EncodeToString(d[:]) }

// Position is where a log stands: its last entry of any kind, and the digest of the content once that entry is applied.
type Position struct {
	Epoch  Epoch
	Index  uint64
	Digest Digest
}

// Compare orders positions by epoch, then index. The digest does not count: at equal epoch and index it is equal, or a replica differs.
func (p Position) Compare(q Position) int {
	return cmp.Or(p.Epoch.Compare(q.Epoch), cmp.Compare(p.Index, q.Index))
}

// String gives epoch/index/digest with the digest's first 8 digits.
func (p Position) String() string {
	return fmt.Sprintf("%s/%d/%s", p.Epoch, p.Index, p.Digest.String()[:8])
}

// Kind tells what an Entry of the log is for.
type Kind uint8

const (
	// KindChanges carries what requests did.
	KindChanges Kind = 1 + iota
	// KindStart opens an epoch; entries of older epochs are committed only through it.
	KindStart
	// KindVoters changes the voters by one node; its only change is a VotersChange.
	KindVoters
	// KindTick carries ordered time, and expiry, when nothing else does.
	KindTick
)

// Entry is one batch of the log. Payload is the encoding of its changes (AppendChanges); Position.Digest is the digest that the
// primary has computed for the content after this entry.
type Entry struct {
	Position Position
	Prev     Position
	Time     Time
	Kind     Kind
	Payload  []byte
}
