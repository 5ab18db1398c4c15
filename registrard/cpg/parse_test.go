package cpg

import (
	"bytes"
	"encoding/binary"
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// rec builds a record of the shim's from 32-bit words and a tail.
func rec(kind uint32, tail []byte, words ...uint32) []byte {
	var body []byte
	for _, w := range words {
		body = binary.NativeEndian.AppendUint32(body, w)
	}
	body = append(body, tail...)
	out := binary.NativeEndian.AppendUint32(nil, kind)
	out = binary.NativeEndian.AppendUint32(out, uint32(len(body)))
	out = append(out, body...)
	return append(out, make([]byte, (8-len(body)%8)%8)...)
}

// seq returns a ring's number as two words in the machine's order.
func seq(n uint64) (a, b uint32) {
	raw := binary.NativeEndian.AppendUint64(nil, n)
	return binary.NativeEndian.Uint32(raw), binary.NativeEndian.Uint32(raw[4:])
}

func batch() []byte {
	a, b := seq(0x1_0000_0004)
	return bytes.Join([][]byte{
		rec(recordConfChange, nil, 2, 1, 1, 2, 20, 0, 1, 10, 0, 3, 30, 3, 2, 20, 4),
		rec(recordRing, nil, 1, 2, a, b, 2, 1),
		rec(recordMessage, []byte("hello"), 1, 10),
		rec(recordMessage, nil, 2, 20),
		rec(recordQuorum, nil, 1, 2, a, b, 1, 1, 2),
	}, nil)
}

func TestParseBatch(t *testing.T) {
	t.Parallel()
	ring := RingID{Node: 1, Seq: 0x1_0000_0004}
	want := []Event{
		ConfChange{
			Members: []Member{{1, 10}, {2, 20}},
			Left:    []Change{{Member{3, 30}, ReasonNodeDown}},
			Joined:  []Change{{Member{2, 20}, ReasonNodeUp}},
		},
		RingChange{Ring: ring, Nodes: []NodeID{1, 2}},
		Message{From: Member{1, 10}, Data: []byte("hello")},
		Message{From: Member{2, 20}, Data: []byte{}},
		Quorum{Quorate: true, Ring: ring, Nodes: []NodeID{1, 2}},
	}
	buf := batch()
	got, err := parse(buf)
	clear(buf) // events must not share memory with it
	if diff := cmp.Diff(want, got); diff != "" || err != nil {
		t.Errorf("%v\n%s", err, diff)
	}
}

func TestParseRefuses(t *testing.T) {
	t.Parallel()
	tests := map[string][]byte{
		"ErrHead":          {1, 2, 3},
		"ErrLength":        rec(recordMessage, make([]byte, 64), 1, 1)[:40],
		"ErrKind":          rec(9, nil, 1, 2),
		"ErrMessageHead":   rec(recordMessage, nil, 1),
		"ErrRingHead":      rec(recordRing, nil, 1, 0, 0),
		"ErrRingNodes":     rec(recordRing, nil, 1, 2, 0, 0, 7),
		"ErrQuorumHead":    rec(recordQuorum, nil, 1, 0, 0, 0),
		"ErrQuorumNodes":   rec(recordQuorum, nil, 1, 1<<30, 0, 0, 1),
		"ErrConfHead":      rec(recordConfChange, nil, 1, 1),
		"ErrConfMembers":   rec(recordConfChange, nil, 1, 0, 0, 1, 2),
		"ErrConfOverflow":  rec(recordConfChange, nil, 0x5555_5556, 0xAAAA_AAAA, 0, 1, 2, 3),
		"ErrMemberTooMany": rec(recordConfChange, nil, 0, 0, 0, 1, 2, 3),
	}
	for name, buf := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			good := rec(recordMessage, nil, 1, 1)
			got, err := parse(append(good, buf...))
			if !errors.Is(err, ErrCorrupt) || len(got) != 1 {
				t.Errorf("%d events, %v", len(got), err)
			}
		})
	}
}

func TestIntegers(t *testing.T) {
	t.Parallel()
	n := uint64(7)
	raw := binary.NativeEndian.AppendUint64(nil, n)
	for _, b := range [][]byte{{7}, binary.NativeEndian.AppendUint16(nil, 7), binary.NativeEndian.AppendUint32(nil, 7), raw} {
		if got := integer(b); got != n {
			t.Errorf("%d bytes: %d", len(b), got)
		}
	}
	if got := integer(raw[:3]); got != 0 {
		t.Errorf("3 bytes: %d", got)
	}
	if got := trimNUL([]byte("name\x00rest")); got != "name" {
		t.Errorf("%q", got)
	}
}

func FuzzParse(f *testing.F) {
	f.Add(batch())
	f.Add(rec(recordRing, nil, 1, 2, 0, 0, 7))
	f.Add(rec(recordConfChange, nil, 1, 0, 0, 1, 2, 3))
	f.Add(rec(recordMessage, []byte{0xff}, 1, 1)[:10])
	f.Fuzz(func(t *testing.T, buf []byte) {
		before := bytes.Clone(buf)
		events, err := parse(buf)
		if err != nil && !errors.Is(err, ErrCorrupt) {
			t.Errorf("an error of another kind: %v", err)
		}
		if len(events)*8 > len(buf) {
			t.Errorf("%d events in %d bytes", len(events), len(buf))
		}
		if !bytes.Equal(before, buf) {
			t.Error("the buffer was changed")
		}
	})
}
