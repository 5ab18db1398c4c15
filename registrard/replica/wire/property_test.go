package wire_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"pgregory.net/rapid"

	"sipha/registrard/location"
	"sipha/registrard/replica"
	"sipha/registrard/replica/wire"
)

// generator draws messages within the limits.
type generator struct{ *rapid.T }

func (g generator) u64() uint64           { return rapid.Uint64().Draw(g.T, "u64") }
func (g generator) bool() bool            { return rapid.Bool().Draw(g.T, "bool") }
func (g generator) node() location.NodeID { return location.NodeID(rapid.Uint32().Draw(g.T, "node")) }
func (g generator) ring() replica.RingID  { return replica.RingID{Node: g.node(), Seq: g.u64()} }
func (g generator) time() location.Time   { return location.Time(rapid.Int64().Draw(g.T, "time")) }
func (g generator) disk() location.DiskID { return location.DiskID(g.u64()) }
func (g generator) bytes(max int) []byte {
	return rapid.SliceOfN(rapid.Byte(), 0, max).Draw(g.T, "bytes")
}
func (g generator) epoch() location.Epoch {
	return location.Epoch{Number: g.u64(), Node: g.node(), Incarnation: location.Incarnation(g.u64())}
}

func (g generator) digest() location.Digest {
	return location.Digest(rapid.SliceOfN(rapid.Byte(), 16, 16).Draw(g.T, "digest"))
}

func (g generator) position() location.Position {
	return location.Position{Epoch: g.epoch(), Index: g.u64(), Digest: g.digest()}
}

func (g generator) voters() []location.Voter {
	n := rapid.IntRange(0, replica.VotersMax).Draw(g.T, "voters")
	var out []location.Voter
	for range n {
		out = append(out, location.Voter{Node: g.node(), Disk: g.disk()})
	}
	return out
}

func (g generator) entries(prev location.Position) []location.Entry {
	n := rapid.IntRange(0, 6).Draw(g.T, "entries")
	var out []location.Entry
	for range n {
		e := location.Entry{
			Position: g.position(),
			Prev:     prev,
			Time:     g.time(),
			Kind:     location.Kind(rapid.Uint8Range(uint8(location.KindChanges), uint8(location.KindTick)).Draw(g.T, "kind")),
			Payload:  g.bytes(40),
		}
		out = append(out, e)
		prev = e.Position
	}
	return out
}

func (g generator) message() replica.Message {
	prev := g.position()
	switch rapid.IntRange(0, 13).Draw(g.T, "type") {
	case 0:
		return &replica.Hello{VersionMin: uint16(g.u64()), VersionMax: uint16(g.u64()), Name: rapid.StringN(0, 60, wire.NameMax).Draw(g.T, "name"),
			Disk: g.disk(), ConfigHash: g.u64(), Expected: uint16(g.u64()), Ring: g.ring(), Last: prev, Committed: g.u64(),
			Promised: g.epoch(), Voters: g.voters(), Primary: g.bool(), Wall: int64(g.time())}
	case 1:
		return &replica.Claim{Epoch: g.epoch(), Last: prev, Voters: g.voters(), Bootstrap: g.bool()}
	case 2:
		return &replica.Grant{Epoch: g.epoch(), Disk: g.disk()}
	case 3:
		return &replica.Refuse{Epoch: g.epoch(), Reason: replica.Reason(g.u64()), Promised: g.epoch(), Last: prev}
	case 4:
		return &replica.Append{Epoch: g.epoch(), Seq: g.u64(), To: g.node(), Commit: g.u64(), Prev: prev, Entries: g.entries(prev), More: g.bool()}
	case 5:
		return &replica.Receipt{Epoch: g.epoch(), Disk: g.disk(), Index: g.u64(), Seq: g.u64(), Ring: g.ring(), Applied: g.u64(),
			Digest: g.digest(), Differs: g.bool()}
	case 6:
		return &replica.Need{Epoch: g.epoch(), Last: prev, Committed: g.position()}
	case 7:
		return &replica.Behind{Epoch: g.epoch(), To: g.node()}
	case 8:
		return &replica.Pull{From: g.node(), Last: prev, Committed: g.position()}
	case 9:
		return &replica.Tail{To: g.node(), Prev: prev, Entries: g.entries(prev), More: g.bool()}
	case 10:
		return &replica.SnapshotRequest{Donor: g.node(), Session: g.u64()}
	case 11:
		return &replica.SnapshotChunk{To: g.node(), Session: g.u64(), Seq: uint32(g.u64()), Data: g.bytes(200), Total: g.u64(), End: g.bool(),
			Applied: prev, Last: g.position(), Rows: g.u64()}
	case 12:
		return &replica.SnapshotAbort{Peer: g.node(), Session: g.u64(), Reason: rapid.StringN(0, 60, wire.ReasonMax).Draw(g.T, "reason")}
	}
	return &replica.Forward{ID: location.RequestID{Node: g.node(), Incarnation: location.Incarnation(g.u64()), Number: g.u64()},
		Deadline: g.time(), Request: g.bytes(200)}
}

func TestRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		g := generator{t}
		m, from := g.message(), location.Incarnation(g.u64())
		prefix := g.bytes(8)
		b, err := wire.Encode(prefix, from, m)
		if err != nil {
			t.Fatal(err)
		}
		gotFrom, got, err := wire.Decode(b[len(prefix):])
		if err != nil {
			t.Fatal(err)
		}
		if gotFrom != from {
			t.Errorf("incarnation %x became %x", from, gotFrom)
		}
		if diff := cmp.Diff(m, got, cmpopts.EquateEmpty()); diff != "" {
			t.Errorf("(-sent +got):\n%s", diff)
		}
	})
}

// Any one byte changed in a frame is noticed.
func TestDamageIsNoticed(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		b, err := wire.Encode(nil, 1, generator{t}.message())
		if err != nil {
			t.Fatal(err)
		}
		at := rapid.IntRange(0, len(b)-1).Draw(t, "at")
		b[at] ^= rapid.ByteRange(1, 255).Draw(t, "flip")
		if _, m, err := wire.Decode(b); err == nil {
			t.Errorf("byte %d of %T changed and not noticed", at, m)
		}
	})
}

func FuzzDecode(f *testing.F) {
	for _, m := range samples() {
		b, err := wire.Encode(nil, self, m)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		// Most of what the fuzzer makes fails on the checksum: look behind it, too.
		for _, frame := range [][]byte{b, resealed(b)} {
			from, m, err := wire.Decode(frame)
			if err != nil {
				continue
			}
			again, err := wire.Encode(nil, from, m)
			if err != nil {
				t.Fatalf("decoded %#v, which cannot be encoded: %v", m, err)
			}
			_, m2, err := wire.Decode(again)
			if err != nil {
				t.Fatalf("encoded %#v, which cannot be decoded: %v", m, err)
			}
			if diff := cmp.Diff(m, m2); diff != "" {
				t.Fatalf("(-first +second):\n%s", diff)
			}
		}
	})
}

func resealed(b []byte) []byte {
	if len(b) < wire.PrefixSize {
		return nil
	}
	return seal(append([]byte(nil), b...))
}
