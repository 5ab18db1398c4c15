package location_test

import (
	"encoding/hex"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"sipha/registrard/location"
)

var update = flag.Bool("update", false, "write the golden files anew: only with a new version of the encoding")

// goldenChanges is one of everything.
func goldenChanges() []location.Change {
	user := location.User{
		AOR: alice, Username: "alice", Realm: "example.org",
		Has: 1<<location.MD5 | 1<<location.SHA256 | 1<<location.SHA512256,
	}
	user.MD5[0], user.SHA256[1], user.SHA512256[31] = 1, 2, 3
	full := location.Binding{
		Contact: "sip:alice@192.0.2.1:5060;transport=tcp", Params: `;+sip.instance="<urn:uuid:1>";reg-id=1`, Q: 700, Expires: 1_700_000_060_000,
		CallID: "a84b4c76e66710@pc33", CSeq: 4_294_967_295, Path: []string{"<sip:edge1.example.org;lr>", "<sip:edge2.example.org;lr>"},
		Received: "tcp:192.0.2.1:33001", Socket: "tcp:192.0.2.9:5060", UserAgent: "phone/1.0", Instance: "urn:uuid:1", RegID: 1,
		Created: 1_700_000_000_000,
	}
	plain := location.Binding{Contact: "sip:alice@192.0.2.2", Q: -1, Expires: 1_700_000_060_000, CallID: "b", CSeq: 1, Created: 1_700_000_000_001}
	id := location.RequestID{Node: 3, Incarnation: 0xfedcba9876543210, Number: 300}
	return []location.Change{
		&location.TimeChange{Grace: 1_700_000_030_000, Added: 90_000},
		&location.VotersChange{Voters: []location.Voter{{Node: 1, Disk: 0x1111}, {Node: 300, Disk: 0xffffffffffffffff}}},
		&location.KeyChange{Key: location.Key{ID: 1, Secret: [32]byte{1, 2, 3}, Created: 1_700_000_000_000}},
		&location.KeyChange{Key: location.Key{ID: 2, Secret: [32]byte{4, 5, 6}, Created: 1_700_000_000_000}},
		&location.KeyChange{Remove: true, Key: location.Key{ID: 1}},
		&location.OutcomeChange{Outcome: location.Outcome{ID: id, Status: 404, Detail: "no such user", Until: 1_700_000_300_000}},
		&location.OutcomeChange{Remove: true, Outcome: location.Outcome{ID: location.RequestID{Node: 1}}},
		&location.UserChange{User: user},
		&location.UserChange{Remove: true, User: location.User{AOR: "sip:bob@example.org"}},
		&location.BindingsChange{
			AOR: alice, Cause: location.CauseRegister, Put: []location.Binding{full, plain},
			Bury: []location.Tombstone{{Contact: location.StarContact, CallID: "c", CSeq: 9, Until: 1_700_000_300_000}, {Contact: "x", CallID: "y", CSeq: 1, Until: 5}},
		},
		&location.BindingsChange{
			AOR: alice, Cause: location.CauseExpired, Remove: []string{"sip:gone@192.0.2.1"},
			Refresh: []location.Refresh{{Contact: plain.Contact, Expires: 1_700_000_090_000, CSeq: 2}},
			Forget:  []location.TombstoneKey{{Contact: "x", CallID: "y"}},
		},
	}
}

// golden compares with the file, in lines of hexadecimal.
func golden(t *testing.T, name string, got []byte) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		var b strings.Builder
		for i := 0; i < len(got); i += 32 {
			fmt.Fprintln(&b, hex.EncodeToString(got[i:min(i+32, len(got))]))
		}
		if err := os.WriteFile(path, []byte(b.String()), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	want, err := hex.DecodeString(strings.Join(strings.Fields(string(text)), ""))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("%s differs; nodes of two versions would no longer understand each other:\n%s", path, diff)
	}
}

// The bytes of changes and the digest of content are agreed between nodes of different versions.
func TestGolden(t *testing.T) {
	t.Parallel()
	changes := goldenChanges()
	encoded := location.AppendChanges(nil, changes)
	golden(t, "changes-1.hex", encoded)
	decoded, err := location.DecodeChanges(encoded)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(changes, decoded); diff != "" {
		t.Errorf("decoded differs:\n%s", diff)
	}
	s := location.NewState()
	s.Apply(1_700_000_000_000, decoded)
	digest := s.Digest()
	golden(t, "digest-1.hex", digest[:])
	want := location.Counts{Bindings: 2, AORs: 1, Users: 1, Tombstones: 1, Outcomes: 1}
	if got := s.Counts(); got != want {
		t.Errorf("counts are %+v, want %+v", got, want)
	}
	if s.Now() != 1_700_000_000_000 || s.Added() != 90_000 || len(s.Voters()) != 2 {
		t.Errorf("time %d, added %d, voters %v", s.Now(), s.Added(), s.Voters())
	}
}

// Every encoding cut short, and every byte changed, is refused or decodes to what encodes to the same bytes.
func TestDecodeChangesRefuses(t *testing.T) {
	t.Parallel()
	encoded := location.AppendChanges(nil, goldenChanges())
	for n := range encoded {
		if _, err := location.DecodeChanges(encoded[:n]); err == nil {
			t.Fatalf("the first %d bytes are taken", n)
		}
		for _, flip := range []byte{0x01, 0x80, 0xff} {
			broken := append([]byte(nil), encoded...)
			broken[n] ^= flip
			if changes, err := location.DecodeChanges(broken); err == nil {
				if again := location.AppendChanges(nil, changes); !cmp.Equal(again, broken) {
					t.Fatalf("with byte %d changed it decodes to what encodes otherwise", n)
				}
			}
		}
	}
	for name, payload := range map[string][]byte{
		"version":           {2, 0},
		"bytes after":       {1, 0, 0},
		"kind":              {1, 1, 9},
		"count":             {1, 0xff, 0xff, 0x3f},
		"count beyond":      {1, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01},
		"integer too long":  {1, 1, 6, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x02, 0},
		"integer not least": {1, 1, 6, 0x80, 0x00, 0},
		"empty list":        {1, 1, 1, 0x21, 0, 0},
		"voters twice":      {1, 1, 4, 2, 1, 0, 0, 0, 0, 0, 0, 0, 1, 1, 0, 0, 0, 0, 0, 0, 0, 2},
		"flag":              {1, 1, 2, 2, 0},
		"string too long":   append([]byte{1, 1, 1, 0x20, 0x81, 0x80, 0x01}, make([]byte, location.StringBytesMax+1)...),
		"too long":          make([]byte, location.PayloadBytesMax+1),
	} {
		if changes, err := location.DecodeChanges(payload); err == nil {
			t.Errorf("%s is taken: %+v", name, changes)
		}
	}
}
