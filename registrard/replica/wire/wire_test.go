package wire_test

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"flag"
	"hash/crc32"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"sipha/registrard/location"
	"sipha/registrard/replica"
	"sipha/registrard/replica/wire"
)

var update = flag.Bool("update", false, "write the golden files anew")

const self location.Incarnation = 0x1122334455667788

func epoch(n uint64) location.Epoch {
	return location.Epoch{Number: n, Node: 2, Incarnation: 0xa1a2a3a4a5a6a7a8}
}

func position(n, index uint64) location.Position {
	return location.Position{Epoch: epoch(n), Index: index, Digest: location.Digest{0xd0, byte(index), 15: 0xdf}}
}

// entries returns a run of the log after prev, with these payloads.
func entries(prev location.Position, payloads ...string) []location.Entry {
	var out []location.Entry
	for i, p := range payloads {
		e := location.Entry{
			Position: position(prev.Epoch.Number, prev.Index+1),
			Prev:     prev,
			Time:     location.Time(1_700_000_000_000 + int64(i)),
			Kind:     location.KindChanges + location.Kind(i%4),
			Payload:  []byte(p),
		}
		out = append(out, e)
		prev = e.Position
	}
	return out
}

// samples holds a message of each type with every field set; the name is that of its golden file.
func samples() map[string]replica.Message {
	ring := replica.RingID{Node: 1, Seq: 0x1234}
	voters := []location.Voter{{Node: 1, Disk: 0x11}, {Node: 2, Disk: 0x22}, {Node: 3, Disk: 0x33}}
	prev := position(7, 41)
	return map[string]replica.Message{
		"hello": &replica.Hello{VersionMin: 1, VersionMax: 2, Name: "node2", Disk: 0x22, ConfigHash: 0xc0ffee, Expected: 3, Ring: ring,
			Last: prev, Committed: 40, Promised: epoch(7), Voters: voters, Primary: true, Wall: 1_700_000_000_123},
		"claim":         &replica.Claim{Epoch: epoch(8), Last: prev, Voters: voters, Bootstrap: true},
		"grant":         &replica.Grant{Epoch: epoch(8), Disk: 0x22},
		"refuse":        &replica.Refuse{Epoch: epoch(8), Reason: replica.ReasonAhead, Promised: epoch(9), Last: position(7, 43)},
		"append":        &replica.Append{Epoch: epoch(7), Seq: 99, To: 3, Commit: 40, Prev: prev, Entries: entries(prev, "change", "", "x"), More: true},
		"append-marker": &replica.Append{Epoch: epoch(7), Seq: 100, Commit: 41, Prev: prev},
		"receipt": &replica.Receipt{Epoch: epoch(7), Disk: 0x22, Index: 41, Seq: 99, Ring: ring, Applied: 40, Digest: location.Digest{1, 2, 3},
			Differs: true},
		"need":             &replica.Need{Epoch: epoch(7), Last: prev, Committed: position(6, 30)},
		"behind":           &replica.Behind{Epoch: epoch(7), To: 3},
		"pull":             &replica.Pull{From: 3, Last: prev, Committed: position(6, 30)},
		"tail":             &replica.Tail{To: 2, Prev: prev, Entries: entries(prev, "tail"), More: true},
		"snapshot-request": &replica.SnapshotRequest{Donor: 1, Session: 5},
		"snapshot-chunk": &replica.SnapshotChunk{To: 3, Session: 5, Seq: 6, Data: []byte("rows"), Total: 1 << 20, End: true, Applied: prev,
			Last: position(7, 43), Rows: 1000},
		"snapshot-abort": &replica.SnapshotAbort{Peer: 1, Session: 5, Reason: "disk full"},
		"forward": &replica.Forward{ID: location.RequestID{Node: 3, Incarnation: 0x77, Number: 12}, Deadline: 1_700_000_005_000,
			Request: []byte("request")},
	}
}

// allSet fails the test where a field of m is zero, so that a field that is added later cannot be left out of the samples.
func allSet(t *testing.T, name string, m replica.Message) {
	t.Helper()
	v := reflect.ValueOf(m).Elem()
	for i := range v.NumField() {
		if v.Field(i).IsZero() && name != "append-marker" {
			t.Errorf("%s: field %s of the sample is not set", name, v.Type().Field(i).Name)
		}
	}
}

func TestGolden(t *testing.T) {
	types := map[byte]bool{}
	for name, m := range samples() {
		allSet(t, name, m)
		got, err := wire.Encode(nil, self, m)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		types[got[5]] = true
		path := filepath.Join("testdata", "golden", name+".hex")
		if *update {
			if err := os.WriteFile(path, []byte(dump(got)), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		want, err := hex.DecodeString(strings.Join(strings.Fields(string(text)), ""))
		if err != nil {
			t.Fatalf("%s: %v", path, err)
		}
		if !bytes.Equal(got, want) {
			t.Errorf("%s: encoded as\n%sgolden\n%s", name, dump(got), dump(want))
		}
		from, back, err := wire.Decode(want)
		if err != nil || from != self {
			t.Fatalf("%s: decode: incarnation %x, %v", name, from, err)
		}
		if diff := cmp.Diff(m, back, cmpopts.EquateEmpty()); diff != "" {
			t.Errorf("%s: decoded differs (-sent +got):\n%s", name, diff)
		}
	}
	if len(types) != 14 {
		t.Errorf("%d types of message in the samples, want 14", len(types))
	}
}

// dump writes 32 bytes a line.
func dump(b []byte) string {
	var s strings.Builder
	for len(b) > 0 {
		n := min(32, len(b))
		s.WriteString(hex.EncodeToString(b[:n]) + "\n")
		b = b[n:]
	}
	return s.String()
}

func encode(t *testing.T, m replica.Message) []byte {
	t.Helper()
	b, err := wire.Encode(nil, self, m)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// seal makes a frame's length and checksum right again after a test has changed it. The checksum is computed here a second time,
// with the polynomial's bits as RFC 3720 section 12.1 has them, so that a wrong one in the codec is not taken for right.
func seal(frame []byte) []byte {
	binary.BigEndian.PutUint32(frame[8:], uint32(len(frame)-wire.PrefixSize))
	rest := append(bytes.Clone(frame[:12]), frame[16:]...)
	binary.BigEndian.PutUint32(frame[12:], crc32.Checksum(rest, crc32.MakeTable(0x82f63b78)))
	return frame
}

func TestDecodeRefuses(t *testing.T) {
	change := func(m replica.Message, f func([]byte) []byte) []byte { return f(encode(t, m)) }
	sealed := func(m replica.Message, f func([]byte)) []byte {
		b := encode(t, m)
		f(b)
		return seal(b)
	}
	body := wire.PrefixSize
	grant := &replica.Grant{Epoch: epoch(8), Disk: 0x22}
	for _, tt := range []struct {
		name  string
		frame []byte
		want  error
		text  string
	}{
		{"ErrForeignEmpty", nil, wire.ErrForeign, ""},
		{"ErrForeignShort", []byte("RGL1"), wire.ErrForeign, ""},
		{"ErrForeignMagic", change(grant, func(b []byte) []byte { b[0] = 'X'; return b }), wire.ErrForeign, ""},
		{"ErrVersionPrefix", sealed(grant, func(b []byte) { b[4] = 2 }), wire.ErrVersion, "upgrade registrard on this node"},
		{"ErrVersionNewer", sealed(grant, func(b []byte) { b[25] = 2 }), wire.ErrVersion, "upgrade registrard on this node"},
		{"ErrVersionOlder", sealed(grant, func(b []byte) { b[25] = 0 }), wire.ErrVersion, "upgrade registrard on the node that sent it"},
		{"ErrSkip", sealed(grant, func(b []byte) { b[5] = 200 }), wire.ErrSkip, ""},
		{"ErrUnknown", sealed(grant, func(b []byte) { b[5], b[7] = 200, 1 }), wire.ErrUnknown, "upgrade"},
		{"ErrCorruptBit", change(grant, func(b []byte) []byte { b[body+3] ^= 4; return b }), wire.ErrCorrupt, "checksum"},
		{"ErrCorruptIncarnation", change(grant, func(b []byte) []byte { b[20] ^= 1; return b }), wire.ErrCorrupt, "checksum"},
		{"ErrCorruptCut", change(grant, func(b []byte) []byte { return b[:len(b)-1] }), wire.ErrCorrupt, ""},
		{"ErrCorruptLong", change(grant, func(b []byte) []byte { return append(b, 0) }), wire.ErrCorrupt, ""},
		{"ErrCorruptShortBody", seal(encode(t, grant)[:body+27]), wire.ErrCorrupt, ""},
		{"ErrCorruptFrameMax", seal(append(encode(t, grant), make([]byte, wire.FrameMax)...)), wire.ErrCorrupt, ""},
		{"ErrCorruptBool", sealed(&replica.Tail{To: 2}, func(b []byte) { b[len(b)-1] = 2 }), wire.ErrCorrupt, "truth"},
		{"ErrCorruptVoters", sealed(&replica.Claim{}, func(b []byte) { b[body+64+3] = replica.VotersMax + 1 }), wire.ErrCorrupt, "voters"},
		{"ErrCorruptEntries", sealed(&replica.Tail{}, func(b []byte) { b[len(b)-2] = 100 }), wire.ErrCorrupt, "entries"},
		{"ErrCorruptEntriesMax", sealed(&replica.Tail{}, func(b []byte) { b[len(b)-4] = 9 }), wire.ErrCorrupt, "at most 768"},
		{"ErrUnknownKind", sealed(&replica.Tail{Entries: entries(location.Position{}, "x")}, func(b []byte) { b[len(b)-7] = 9 }), wire.ErrUnknown, "kind 9"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, m, err := wire.Decode(tt.frame)
			if !errors.Is(err, tt.want) || !strings.Contains(err.Error(), tt.text) {
				t.Errorf("got %v, %v; want %v with %q", m, err, tt.want, tt.text)
			}
		})
	}
}

// A newer release may add fields at the end of a body of the same version, and may speak its Hello in any version.
func TestDecodeNewer(t *testing.T) {
	for name, m := range samples() {
		_, got, err := wire.Decode(seal(append(encode(t, m), 0xee, 0xee, 0xee)))
		if err != nil {
			t.Errorf("%s with more fields: %v", name, err)
		}
		if diff := cmp.Diff(m, got, cmpopts.EquateEmpty()); diff != "" {
			t.Errorf("%s with more fields (-sent +got):\n%s", name, diff)
		}
	}
	hello := encode(t, samples()["hello"])
	hello[25] = 9
	if _, _, err := wire.Decode(seal(hello)); err != nil {
		t.Errorf("hello of wire version 9: %v", err)
	}
}

func TestEncodeRefuses(t *testing.T) {
	big := strings.Repeat("x", replica.AppendSize/2+1)
	stray := entries(location.Position{}, "a", "b")
	stray[1].Prev.Index++
	for _, tt := range []struct {
		name string
		m    replica.Message
		want error
	}{
		{"ErrTooBigName", &replica.Hello{Name: strings.Repeat("n", wire.NameMax+1)}, wire.ErrTooBig},
		{"ErrTooBigVoters", &replica.Claim{Voters: make([]location.Voter, replica.VotersMax+1)}, wire.ErrTooBig},
		{"ErrTooBigEntries", &replica.Append{Entries: entries(location.Position{}, make([]string, wire.EntriesMax+1)...)}, wire.ErrTooBig},
		{"ErrTooBigPayload", &replica.Append{Entries: entries(location.Position{}, big, big)}, wire.ErrTooBig},
		{"ErrTooBigChunk", &replica.SnapshotChunk{Data: make([]byte, replica.ChunkSize+1)}, wire.ErrTooBig},
		{"ErrTooBigRequest", &replica.Forward{Request: make([]byte, wire.RequestMax+1)}, wire.ErrTooBig},
		{"ErrInvalidPrev", &replica.Tail{Entries: stray}, wire.ErrInvalid},
		{"ErrUnknownKind", &replica.Tail{Entries: []location.Entry{{}}}, wire.ErrUnknown},
		{"ErrInvalidNil", nil, wire.ErrInvalid},
	} {
		t.Run(tt.name, func(t *testing.T) {
			dst := []byte("before")
			got, err := wire.Encode(dst, self, tt.m)
			if !errors.Is(err, tt.want) {
				t.Errorf("got %v, want %v", err, tt.want)
			}
			if string(got) != "before" {
				t.Errorf("dst became %q", got)
			}
		})
	}
}

// What the limits allow together fits a frame.
func TestLimitsFitFrame(t *testing.T) {
	payloads := make([]string, wire.EntriesMax/4)
	for i := range payloads {
		payloads[i] = strings.Repeat("x", replica.AppendSize/len(payloads)-64)
	}
	voters := make([]location.Voter, replica.VotersMax)
	for _, m := range []replica.Message{
		&replica.Append{Entries: entries(location.Position{}, payloads...)},
		&replica.Append{Entries: entries(location.Position{}, strings.Repeat("x", replica.AppendSize))},
		&replica.Tail{Entries: entries(location.Position{}, payloads...)},
		&replica.SnapshotChunk{Data: make([]byte, replica.ChunkSize)},
		&replica.Forward{Request: make([]byte, wire.RequestMax)},
		&replica.Hello{Name: strings.Repeat("n", wire.NameMax), Voters: voters},
		&replica.SnapshotAbort{Reason: strings.Repeat("r", wire.ReasonMax)},
	} {
		if b := encode(t, m); len(b) > wire.FrameMax {
			t.Errorf("%T: %d bytes, at most %d", m, len(b), wire.FrameMax)
		}
	}
}

func TestAbortReasonIsCut(t *testing.T) {
	long := strings.Repeat("é", wire.ReasonMax)
	_, m, err := wire.Decode(encode(t, &replica.SnapshotAbort{Reason: long}))
	if err != nil {
		t.Fatal(err)
	}
	if got, want := m.(*replica.SnapshotAbort).Reason, strings.Repeat("é", wire.ReasonMax/2); got != want {
		t.Errorf("reason became %q, want %q", got, want)
	}
}

func BenchmarkDecode(b *testing.B) {
	payloads := make([]string, 100)
	for i := range payloads {
		payloads[i] = strings.Repeat("x", 400)
	}
	frame, err := wire.Encode(nil, self, &replica.Append{Entries: entries(location.Position{}, payloads...)})
	if err != nil {
		b.Fatal(err)
	}
	b.SetBytes(int64(len(frame)))
	b.ReportAllocs()
	for b.Loop() {
		if _, _, err := wire.Decode(frame); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkEncode(b *testing.B) {
	m := &replica.Append{Entries: entries(location.Position{}, strings.Repeat("x", 40_000))}
	var buf []byte
	b.ReportAllocs()
	for b.Loop() {
		var err error
		if buf, err = wire.Encode(buf[:0], self, m); err != nil {
			b.Fatal(err)
		}
	}
	b.SetBytes(int64(len(buf)))
}
