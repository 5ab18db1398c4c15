package location

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
)

// ErrEncoding is what every error of DecodeChanges wraps.
var ErrEncoding = errors.New("malformed changes")

// changesVersion is the first byte of an encoding.
const changesVersion = 1

// The tags of changes in an encoding.
const (
	tagBindingsChange byte = 1 + iota
	tagUserChange
	tagKeyChange
	tagVotersChange
	tagOutcomeChange
	tagTimeChange
)

// The lower bits of a BindingsChange's second byte tell which lists follow; the upper ones are its cause.
const (
	hasRemove byte = 1 << iota
	hasPut
	hasRefresh
	hasBury
	hasForget
	causeShift = 5
)

// AppendChanges appends the encoding of the changes to dst. Equal changes have equal encodings. Integers are LEB128 as in
// encoding/binary, strings carry their length before them.
func AppendChanges(dst []byte, changes []Change) []byte {
	dst = AppendHead(dst, len(changes))
	for _, c := range changes {
		dst = AppendChange(dst, c)
	}
	return dst
}

// HeadBytesMax is the longest head of an encoding.
const HeadBytesMax = 1 + 3

// AppendHead appends what AppendChanges puts before so many changes.
func AppendHead(dst []byte, changes int) []byte {
	return binary.AppendUvarint(append(dst, changesVersion), uint64(changes))
}

// AppendChange appends one change as AppendChanges encodes it, without the head: for who collects a batch and counts its bytes.
func AppendChange(dst []byte, c Change) []byte {
	switch c := c.(type) {
	case *BindingsChange:
		return appendBindingsChange(dst, c)
	case *UserChange:
		dst = append(dst, tagUserChange, flag(c.Remove))
		dst = appendString(dst, string(c.User.AOR))
		if !c.Remove {
			dst = appendUserPart(dst, &c.User)
		}
	case *KeyChange:
		dst = append(dst, tagKeyChange, flag(c.Remove))
		if c.Remove {
			return binary.AppendUvarint(dst, uint64(c.Key.ID))
		}
		dst = appendKey(dst, &c.Key)
	case *VotersChange:
		dst = binary.AppendUvarint(append(dst, tagVotersChange), uint64(len(c.Voters)))
		for _, v := range c.Voters {
			dst = appendVoter(dst, v)
		}
	case *OutcomeChange:
		dst = append(dst, tagOutcomeChange, flag(c.Remove))
		if c.Remove {
			return appendRequestID(dst, c.Outcome.ID)
		}
		dst = appendOutcome(dst, &c.Outcome)
	case *TimeChange:
		dst = binary.AppendVarint(append(dst, tagTimeChange), int64(c.Grace))
		dst = binary.AppendVarint(dst, c.Added)
	default:
		panic(fmt.Sprintf("location: %T is no change", c))
	}
	return dst
}

func appendBindingsChange(dst []byte, c *BindingsChange) []byte {
	head := byte(c.Cause)<<causeShift | flag(len(c.Remove) > 0)*hasRemove | flag(len(c.Put) > 0)*hasPut |
		flag(len(c.Refresh) > 0)*hasRefresh | flag(len(c.Bury) > 0)*hasBury | flag(len(c.Forget) > 0)*hasForget
	dst = append(dst, tagBindingsChange, head)
	dst = appendString(dst, string(c.AOR))
	dst = appendCount(dst, len(c.Remove))
	for _, contact := range c.Remove {
		dst = appendString(dst, contact)
	}
	dst = appendCount(dst, len(c.Put))
	for i := range c.Put {
		dst = appendFixedPart(dst, &c.Put[i])
		dst = appendMoving(dst, c.Put[i].Expires, c.Put[i].CSeq)
	}
	dst = appendCount(dst, len(c.Refresh))
	for i := range c.Refresh {
		dst = appendString(dst, c.Refresh[i].Contact)
		dst = appendMoving(dst, c.Refresh[i].Expires, c.Refresh[i].CSeq)
	}
	dst = appendCount(dst, len(c.Bury))
	for i := range c.Bury {
		dst = appendString(dst, c.Bury[i].Contact)
		dst = appendString(dst, c.Bury[i].CallID)
		dst = appendMoving(dst, c.Bury[i].Until, c.Bury[i].CSeq)
	}
	dst = appendCount(dst, len(c.Forget))
	for i := range c.Forget {
		dst = appendString(dst, c.Forget[i].Contact)
		dst = appendString(dst, c.Forget[i].CallID)
	}
	return dst
}

// appendCount leaves out the count of an empty list: the head tells.
func appendCount(dst []byte, n int) []byte {
	if n == 0 {
		return dst
	}
	return binary.AppendUvarint(dst, uint64(n))
}

func appendMoving(dst []byte, t Time, cseq uint32) []byte {
	return binary.AppendUvarint(binary.AppendVarint(dst, int64(t)), uint64(cseq))
}

func appendString(dst []byte, s string) []byte {
	return append(binary.AppendUvarint(dst, uint64(len(s))), s...)
}

func flag(b bool) byte {
	if b {
		return 1
	}
	return 0
}

// DecodeChanges undoes AppendChanges. It takes nothing that AppendChanges would not have written, nor what passes a limit of this
// package, so that what it returns can be applied and encodes to the same bytes. The changes share one copy of the payload.
func DecodeChanges(payload []byte) ([]Change, error) {
	if len(payload) > PayloadBytesMax {
		return nil, fmt.Errorf("%w: %d bytes, more than %d", ErrEncoding, len(payload), PayloadBytesMax)
	}
	d := decoder{rest: string(payload)}
	if v := d.byte(); d.err == nil && v != changesVersion {
		return nil, fmt.Errorf("%w: version %d is not known; this node may be older than the one that wrote it", ErrEncoding, v)
	}
	n := d.count(ChangesMax)
	changes := make([]Change, 0, min(n, 1024))
	for i := 0; i < n && d.err == nil; i++ {
		changes = append(changes, d.change())
	}
	if d.rest != "" {
		d.fail("bytes after the last change")
	}
	if d.err != nil {
		return nil, d.err
	}
	return changes, nil
}

// decoder reads a string from its front. After the first error it returns zeros; the error stays.
type decoder struct {
	rest string
	err  error
}

func (d *decoder) fail(what string) {
	if d.err == nil {
		d.err = fmt.Errorf("%w: %s", ErrEncoding, what)
	}
	d.rest = ""
}

func (d *decoder) take(n int) string {
	if n > len(d.rest) {
		d.fail("cut short")
		return ""
	}
	s := d.rest[:n]
	d.rest = d.rest[n:]
	return s
}

func (d *decoder) byte() byte {
	if s := d.take(1); s != "" {
		return s[0]
	}
	return 0
}

func (d *decoder) bool() bool {
	b := d.byte()
	if b > 1 {
		d.fail("flag that is neither 0 nor 1")
	}
	return b == 1
}

func (d *decoder) uvarint() uint64 {
	var x uint64
	for i := 0; i < len(d.rest) && i < binary.MaxVarintLen64; i++ {
		c := d.rest[i]
		if c >= 0x80 {
			x |= uint64(c&0x7f) << (7 * i)
			continue
		}
		if i > 0 && c == 0 || i == binary.MaxVarintLen64-1 && c > 1 {
			break
		}
		d.rest = d.rest[i+1:]
		return x | uint64(c)<<(7*i)
	}
	d.fail("integer")
	return 0
}

func (d *decoder) varint() int64 {
	u := d.uvarint()
	return int64(u>>1) ^ -int64(u&1)
}

func (d *decoder) uint64() uint64 {
	s := d.take(8)
	if s == "" {
		return 0
	}
	return binary.BigEndian.Uint64([]byte(s))
}

func (d *decoder) uint32() uint32 {
	u := d.uvarint()
	if u > math.MaxUint32 {
		d.fail("integer beyond 32 bits")
		return 0
	}
	return uint32(u)
}

func (d *decoder) q() int16 {
	q := d.varint()
	if q < -1 || q > 1000 {
		d.fail("q out of range")
		return 0
	}
	return int16(q)
}

func (d *decoder) string() string {
	n := d.uvarint()
	if n > StringBytesMax {
		d.fail("string too long")
		return ""
	}
	return d.take(int(n))
}

// count reads how many elements follow. Each takes a byte at least, so that a lie cannot make us reserve memory.
func (d *decoder) count(most int) int {
	n := d.uvarint()
	if n > uint64(most) || n > uint64(len(d.rest)) {
		d.fail("count too high")
		return 0
	}
	return int(n)
}

// some reads the count of a list that is there, and so is not empty.
func (d *decoder) some(there bool, most int) int {
	if !there {
		return 0
	}
	n := d.count(most)
	if n == 0 {
		d.fail("empty list")
	}
	return n
}

func (d *decoder) change() Change {
	switch tag := d.byte(); tag {
	case tagBindingsChange:
		return d.bindingsChange()
	case tagUserChange:
		c := &UserChange{Remove: d.bool()}
		aor := AOR(d.string())
		if !c.Remove {
			c.User = d.userPart()
		}
		c.User.AOR = aor
		return c
	case tagKeyChange:
		c := &KeyChange{Remove: d.bool()}
		c.Key.ID = d.uint32()
		if !c.Remove {
			copy(c.Key.Secret[:], d.take(len(c.Key.Secret)))
			c.Key.Created = Time(d.varint())
		}
		return c
	case tagVotersChange:
		return d.votersChange()
	case tagOutcomeChange:
		c := &OutcomeChange{Remove: d.bool()}
		c.Outcome.ID = RequestID{Node: NodeID(d.uint32()), Incarnation: Incarnation(d.uint64()), Number: d.uvarint()}
		if !c.Remove {
			status := d.uvarint()
			if status > math.MaxUint16 {
				d.fail("status beyond 16 bits")
			}
			c.Outcome.Status = uint16(status)
			c.Outcome.Detail = d.string()
			c.Outcome.Until = Time(d.varint())
		}
		return c
	case tagTimeChange:
		return &TimeChange{Grace: Time(d.varint()), Added: d.varint()}
	default:
		d.fail(fmt.Sprintf("change of unknown kind %d", tag))
		return nil
	}
}

func (d *decoder) votersChange() *VotersChange {
	n := d.count(VotersMax)
	c := &VotersChange{Voters: make([]Voter, n)}
	for i := range c.Voters {
		c.Voters[i] = Voter{Node: NodeID(d.uint32()), Disk: DiskID(d.uint64())}
	}
	for i := 1; i < n; i++ {
		if c.Voters[i].Node <= c.Voters[i-1].Node {
			d.fail("voters not in order")
		}
	}
	return c
}

func (d *decoder) bindingsChange() *BindingsChange {
	head := d.byte()
	c := &BindingsChange{Cause: Cause(head >> causeShift), AOR: AOR(d.string())}
	if n := d.some(head&hasRemove != 0, BindingsMax); n > 0 {
		c.Remove = make([]string, n)
		for i := range c.Remove {
			c.Remove[i] = d.string()
		}
	}
	if n := d.some(head&hasPut != 0, BindingsMax); n > 0 {
		c.Put = make([]Binding, n)
		for i := range c.Put {
			c.Put[i] = d.fixedPart()
			c.Put[i].Expires, c.Put[i].CSeq = d.moving()
		}
	}
	if n := d.some(head&hasRefresh != 0, BindingsMax); n > 0 {
		c.Refresh = make([]Refresh, n)
		for i := range c.Refresh {
			c.Refresh[i].Contact = d.string()
			c.Refresh[i].Expires, c.Refresh[i].CSeq = d.moving()
		}
	}
	if n := d.some(head&hasBury != 0, buryMax); n > 0 {
		c.Bury = make([]Tombstone, n)
		for i := range c.Bury {
			c.Bury[i].Contact = d.string()
			c.Bury[i].CallID = d.string()
			c.Bury[i].Until, c.Bury[i].CSeq = d.moving()
		}
	}
	if n := d.some(head&hasForget != 0, buryMax); n > 0 {
		c.Forget = make([]TombstoneKey, n)
		for i := range c.Forget {
			c.Forget[i].Contact = d.string()
			c.Forget[i].CallID = d.string()
		}
	}
	return c
}

// buryMax bounds a change's tombstones: those of an AOR, and those that one REGISTER or the expiry of every binding adds.
const buryMax = TombstonesMax + BindingsMax

func (d *decoder) moving() (Time, uint32) {
	t := Time(d.varint())
	return t, d.uint32()
}
