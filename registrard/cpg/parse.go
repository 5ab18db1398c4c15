package cpg

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"slices"
)

// Kinds of records in the shim's buffer: enum shim_kind of shim.h, which also
// says how they are laid out.
const (
	recordMessage    = 1
	recordConfChange = 2
	recordRing       = 3
	recordQuorum     = 4
)

// record is one record of the shim's buffer.
type record struct {
	kind uint32
	body []byte
}

// cutRecord takes the first record off buf.
func cutRecord(buf []byte) (record, []byte, error) {
	if len(buf) < 8 {
		return record{}, nil, fmt.Errorf("%w: %d bytes of a record's head", ErrCorrupt, len(buf))
	}
	r := record{kind: binary.NativeEndian.Uint32(buf)}
	n := uint64(binary.NativeEndian.Uint32(buf[4:]))
	padded := (n + 7) &^ 7
	if padded > uint64(len(buf)-8) {
		return record{}, nil, fmt.Errorf("%w: a record of %d bytes in %d", ErrCorrupt, n, len(buf)-8)
	}
	r.body = buf[8 : 8+n]
	return r, buf[8+padded:], nil
}

// parse turns the shim's buffer into events, which share no memory with it. It
// returns what it read before an error.
func parse(buf []byte) ([]Event, error) {
	var events []Event
	for len(buf) > 0 {
		var r record
		var err error
		if r, buf, err = cutRecord(buf); err != nil {
			return events, err
		}
		e, err := r.event()
		if err != nil {
			return events, err
		}
		events = append(events, e)
	}
	return events, nil
}

func (r record) event() (Event, error) {
	u32 := func(at int) uint32 { return binary.NativeEndian.Uint32(r.body[at:]) }
	need := func(n int) error {
		if len(r.body) < n {
			return fmt.Errorf("%w: record %d of %d bytes", ErrCorrupt, r.kind, len(r.body))
		}
		return nil
	}
	switch r.kind {
	case recordMessage:
		if err := need(8); err != nil {
			return nil, err
		}
		return Message{
			From: Member{Node: NodeID(u32(0)), PID: u32(4)},
			Data: append([]byte{}, r.body[8:]...),
		}, nil
	case recordConfChange:
		return r.confChange()
	case recordRing:
		if err := need(16); err != nil {
			return nil, err
		}
		ring := RingID{Node: NodeID(u32(0)), Seq: binary.NativeEndian.Uint64(r.body[8:])}
		nodes, err := r.nodes(16, u32(4))
		return RingChange{Ring: ring, Nodes: nodes}, err
	case recordQuorum:
		if err := need(20); err != nil {
			return nil, err
		}
		ring := RingID{Node: NodeID(u32(0)), Seq: binary.NativeEndian.Uint64(r.body[8:])}
		nodes, err := r.nodes(20, u32(4))
		return Quorum{Quorate: u32(16) != 0, Ring: ring, Nodes: nodes}, err
	}
	return nil, fmt.Errorf("%w: record of kind %d", ErrCorrupt, r.kind)
}

// nodes reads the list of nodes that ends the record.
func (r record) nodes(at int, count uint32) ([]NodeID, error) {
	list := r.body[at:]
	if uint64(len(list)) != 4*uint64(count) {
		return nil, fmt.Errorf("%w: %d bytes of %d nodes", ErrCorrupt, len(list), count)
	}
	nodes := make([]NodeID, count)
	for i := range nodes {
		nodes[i] = NodeID(binary.NativeEndian.Uint32(list[4*i:]))
	}
	slices.Sort(nodes)
	return nodes, nil
}

func (r record) confChange() (Event, error) {
	const head, entry = 12, 12
	if len(r.body) < head {
		return nil, fmt.Errorf("%w: record %d of %d bytes", ErrCorrupt, r.kind, len(r.body))
	}
	var counts [3]uint64
	total := uint64(0)
	for i := range counts {
		counts[i] = uint64(binary.NativeEndian.Uint32(r.body[4*i:]))
		total += counts[i]
	}
	list := r.body[head:]
	if uint64(len(list)) != entry*total {
		return nil, fmt.Errorf("%w: %d bytes of %d members", ErrCorrupt, len(list), total)
	}
	cut := func(n uint64) []Change {
		var out []Change
		for range n {
			out = append(out, Change{
				Member: Member{
					Node: NodeID(binary.NativeEndian.Uint32(list)),
					PID:  binary.NativeEndian.Uint32(list[4:]),
				},
				Reason: Reason(min(binary.NativeEndian.Uint32(list[8:]), 255)),
			})
			list = list[entry:]
		}
		return out
	}
	var e ConfChange
	for _, m := range cut(counts[0]) {
		e.Members = append(e.Members, m.Member)
	}
	slices.SortFunc(e.Members, Member.Compare)
	e.Left = cut(counts[1])
	e.Joined = cut(counts[2])
	return e, nil
}

// cost is what an event counts for in the queue, in bytes.
func cost(e Event) int {
	const fixed = 64
	if m, ok := e.(Message); ok {
		return fixed + len(m.Data)
	}
	return fixed
}

// trimNUL cuts a C string at its end.
func trimNUL(b []byte) string {
	s, _, _ := bytes.Cut(b, []byte{0})
	return string(s)
}

// integer reads an integer of 1, 2, 4 or 8 bytes; of any other size it is zero.
func integer(b []byte) uint64 {
	switch len(b) {
	case 1:
		return uint64(b[0])
	case 2:
		return uint64(binary.NativeEndian.Uint16(b))
	case 4:
		return uint64(binary.NativeEndian.Uint32(b))
	case 8:
		return binary.NativeEndian.Uint64(b)
	}
	return 0
}
