package wire

import (
	"encoding/binary"
	"fmt"

	"sipha/registrard/location"
	"sipha/registrard/replica"
)

// codec walks a body's fields, writing them to buf or reading them from it, so that a message's layout is written down once. The
// first error stands. Writing leaves the message as it is: it may be shared.
type codec struct {
	buf     []byte
	reading bool
	err     error
}

func (c *codec) fail(err error) {
	if c.err == nil {
		c.err = err
	}
}

// take returns the next n bytes to be read, nil after an error.
func (c *codec) take(n int) []byte {
	if c.err != nil {
		return nil
	}
	if len(c.buf) < n {
		c.fail(fmt.Errorf("%w: %d bytes where %d are named", ErrCorrupt, len(c.buf), n))
		return nil
	}
	b := c.buf[:n:n]
	c.buf = c.buf[n:]
	return b
}

func (c *codec) u8(v *uint8) {
	if !c.reading {
		c.buf = append(c.buf, *v)
	} else if b := c.take(1); b != nil {
		*v = b[0]
	}
}

func (c *codec) u16(v *uint16) {
	if !c.reading {
		c.buf = binary.BigEndian.AppendUint16(c.buf, *v)
	} else if b := c.take(2); b != nil {
		*v = binary.BigEndian.Uint16(b)
	}
}

func (c *codec) u32(v *uint32) {
	if !c.reading {
		c.buf = binary.BigEndian.AppendUint32(c.buf, *v)
	} else if b := c.take(4); b != nil {
		*v = binary.BigEndian.Uint32(b)
	}
}

func (c *codec) u64(v *uint64) {
	if !c.reading {
		c.buf = binary.BigEndian.AppendUint64(c.buf, *v)
	} else if b := c.take(8); b != nil {
		*v = binary.BigEndian.Uint64(b)
	}
}

func (c *codec) i64(v *int64) {
	u := uint64(*v)
	c.u64(&u)
	if c.reading {
		*v = int64(u)
	}
}

func (c *codec) bool(v *bool) {
	var u uint8
	if *v {
		u = 1
	}
	c.u8(&u)
	if u > 1 {
		c.fail(fmt.Errorf("%w: %d for a truth value", ErrCorrupt, u))
	}
	if c.reading {
		*v = u == 1
	}
}

// count checks a count or length against its limit, before anything is allocated for it.
func (c *codec) count(v *uint32, limit int, what string) {
	if !c.reading && int64(*v) > int64(limit) {
		c.fail(fmt.Errorf("%w: %d %s, at most %d", ErrTooBig, *v, what, limit))
	}
	c.u32(v)
	if c.reading && int64(*v) > int64(limit) {
		c.fail(fmt.Errorf("%w: %d %s, at most %d", ErrCorrupt, *v, what, limit))
	}
}

// bytes reads a slice of the frame itself; no bytes are nil.
func (c *codec) bytes(v *[]byte, limit int, what string) {
	n := uint32(min(len(*v), 1<<31))
	c.count(&n, limit, what)
	if c.err != nil {
		return
	}
	if !c.reading {
		c.buf = append(c.buf, *v...)
		return
	}
	*v = nil
	if n > 0 {
		*v = c.take(int(n))
	}
}

func (c *codec) string(v *string, limit int, what string) {
	b := []byte(*v)
	c.bytes(&b, limit, what)
	if c.reading {
		*v = string(b)
	}
}

func (c *codec) node(v *location.NodeID)             { c.u32((*uint32)(v)) }
func (c *codec) disk(v *location.DiskID)             { c.u64((*uint64)(v)) }
func (c *codec) incarnation(v *location.Incarnation) { c.u64((*uint64)(v)) }
func (c *codec) time(v *location.Time)               { c.i64((*int64)(v)) }
func (c *codec) ring(v *replica.RingID)              { c.node(&v.Node); c.u64(&v.Seq) }

func (c *codec) epoch(v *location.Epoch) {
	c.u64(&v.Number)
	c.node(&v.Node)
	c.incarnation(&v.Incarnation)
}

func (c *codec) digest(v *location.Digest) {
	if !c.reading {
		c.buf = append(c.buf, v[:]...)
	} else if b := c.take(len(v)); b != nil {
		copy(v[:], b)
	}
}

func (c *codec) position(v *location.Position) {
	c.epoch(&v.Epoch)
	c.u64(&v.Index)
	c.digest(&v.Digest)
}

func (c *codec) voters(v *[]location.Voter) {
	n := uint32(len(*v))
	c.count(&n, replica.VotersMax, "voters")
	if c.err != nil {
		return
	}
	if c.reading {
		*v = nil
		if n > 0 {
			*v = make([]location.Voter, n)
		}
	}
	for i := range *v {
		c.node(&(*v)[i].Node)
		c.disk(&(*v)[i].Disk)
	}
}

// entries carries a run of the log that follows prev.
func (c *codec) entries(v *[]location.Entry, prev location.Position) {
	n := uint32(len(*v))
	c.count(&n, EntriesMax, "entries")
	if c.err != nil {
		return
	}
	if c.reading {
		if int(n)*entrySize > len(c.buf) {
			c.fail(fmt.Errorf("%w: %d entries in %d bytes", ErrCorrupt, n, len(c.buf)))
			return
		}
		*v = nil
		if n > 0 {
			*v = make([]location.Entry, n)
		}
	}
	size := 0
	for i := range *v {
		e := &(*v)[i]
		if c.reading {
			e.Prev = prev
		} else if e.Prev != prev {
			c.fail(fmt.Errorf("%w: entry %s follows %s, not %s", ErrInvalid, e.Position, e.Prev, prev))
		}
		c.entry(e)
		prev = e.Position
		size += len(e.Payload)
	}
	if !c.reading && size > replica.AppendSize {
		c.fail(fmt.Errorf("%w: %d bytes of payload, at most %d", ErrTooBig, size, replica.AppendSize))
	}
}

// entrySize is what an entry without payload takes.
const entrySize = 20 + 8 + 16 + 8 + 1 + 4

func (c *codec) entry(e *location.Entry) {
	c.position(&e.Position)
	c.time(&e.Time)
	kind := uint8(e.Kind)
	c.u8(&kind)
	if c.reading {
		e.Kind = location.Kind(kind)
	}
	if c.err == nil && (kind < uint8(location.KindChanges) || kind > uint8(location.KindTick)) {
		c.fail(fmt.Errorf("%w: entry of kind %d (upgrade registrard on this node)", ErrUnknown, kind))
	}
	c.bytes(&e.Payload, replica.AppendSize, "bytes of payload")
}
