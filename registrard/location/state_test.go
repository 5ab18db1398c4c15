package location_test

import (
	"fmt"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"sipha/registrard/location"
)

// drawChange draws any change over few names, so that changes meet.
func drawChange(t *rapid.T) location.Change {
	small := func(label string) int { return rapid.IntRange(0, 2).Draw(t, label) }
	when := func() location.Time { return location.Time(rapid.Int64Range(0, 20_000).Draw(t, "when")) }
	aor := location.AOR(fmt.Sprintf("sip:u%d@example.org", small("aor")))
	contact := func() string { return fmt.Sprintf("sip:c%d@192.0.2.1", small("contact")) }
	cseq := func() uint32 { return uint32(rapid.IntRange(0, 5).Draw(t, "cseq")) }
	key := func() location.TombstoneKey {
		return location.TombstoneKey{Contact: contact(), CallID: fmt.Sprint("call", small("call"))}
	}
	switch rapid.IntRange(0, 9).Draw(t, "kind") {
	case 0:
		u := location.User{AOR: aor, Username: "u", Realm: "example.org", Has: 1 << location.SHA256}
		u.SHA256[0] = byte(small("hash"))
		if rapid.Bool().Draw(t, "remove") {
			return &location.UserChange{Remove: true, User: location.User{AOR: aor}}
		}
		return &location.UserChange{User: u}
	case 1:
		k := location.Key{ID: uint32(small("id"))}
		if rapid.Bool().Draw(t, "remove") {
			return &location.KeyChange{Remove: true, Key: k}
		}
		k.Secret[0], k.Created = byte(small("secret")), when()
		return &location.KeyChange{Key: k}
	case 2:
		c := &location.VotersChange{Voters: []location.Voter{}}
		for n := range small("voters") {
			c.Voters = append(c.Voters, location.Voter{Node: location.NodeID(n + 1), Disk: location.DiskID(small("disk") + 1)})
		}
		return c
	case 3:
		o := location.Outcome{ID: location.RequestID{Node: 1, Incarnation: 7, Number: uint64(small("number"))}}
		if rapid.Bool().Draw(t, "remove") {
			return &location.OutcomeChange{Remove: true, Outcome: o}
		}
		o.Status, o.Detail, o.Until = 200, "done", when()
		return &location.OutcomeChange{Outcome: o}
	case 4:
		return &location.TimeChange{Grace: when(), Added: int64(when())}
	}
	c := &location.BindingsChange{AOR: aor, Cause: location.CauseRegister}
	switch small("bindings") {
	case 0:
		b := location.Binding{Contact: contact(), Q: -1, Expires: when(), CallID: "call", CSeq: cseq(), Created: when()}
		if rapid.Bool().Draw(t, "path") {
			b.Path = []string{"<sip:edge.example.org;lr>"}
		}
		c.Put = []location.Binding{b}
	case 1:
		c.Refresh = []location.Refresh{{Contact: contact(), Expires: when(), CSeq: cseq()}}
	default:
		c.Remove = []string{contact()}
	}
	if k := key(); rapid.Bool().Draw(t, "bury") {
		c.Bury = []location.Tombstone{{Contact: k.Contact, CallID: k.CallID, CSeq: cseq(), Until: when()}}
	}
	if rapid.Bool().Draw(t, "forget") {
		c.Forget = []location.TombstoneKey{key()}
	}
	return c
}

func drawBatch(t *rapid.T) []location.Change {
	return rapid.SliceOfN(rapid.Custom(drawChange), 0, 6).Draw(t, "batch")
}

// rebuilt makes a State anew from another's content.
func rebuilt(s *location.State) *location.State {
	fresh := location.NewState()
	fresh.Apply(s.Now(), slices.Collect(s.Rebuild()))
	return fresh
}

// hashed adds another's content up without a State.
func hashed(s *location.State) location.Digest {
	var h location.Hasher
	for c := range s.Rebuild() {
		h.Add(c)
	}
	return h.Digest()
}

// content is everything that a View and a State show.
func content(s *location.State) []location.Change { return slices.Collect(s.Rebuild()) }

func TestOverlayAgreesWithState(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		state := location.NewState()
		overlay := location.NewOverlay(state)
		var inFlight [][]location.Change
		var digests []location.Digest
		ahead := location.NewState() // what the overlay shows
		now := location.Time(0)
		commit := func() {
			now++
			state.Apply(now, inFlight[0])
			overlay.Committed()
			if state.Digest() != digests[0] {
				t.Fatalf("digest after the batch is %s, the overlay said %s", state.Digest(), digests[0])
			}
			inFlight, digests = inFlight[1:], digests[1:]
		}
		for range rapid.IntRange(1, 30).Draw(t, "steps") {
			if len(inFlight) > 0 && rapid.Bool().Draw(t, "commit") {
				commit()
			} else {
				batch := drawBatch(t)
				digests = append(digests, overlay.Stage(batch))
				inFlight = append(inFlight, batch)
				ahead.Apply(0, batch)
			}
			if overlay.InFlight() != len(inFlight) {
				t.Fatalf("%d batches in flight, want %d", overlay.InFlight(), len(inFlight))
			}
			compareViews(t, overlay, ahead)
			if !slices.Equal(overlay.Voters(), ahead.Voters()) || overlay.Added() != ahead.Added() {
				t.Fatalf("the overlay's voters or added time differ")
			}
			if overlay.Digest() != ahead.Digest() {
				t.Fatalf("the overlay's digest differs")
			}
		}
		overlay.Reset()
		compareViews(t, overlay, state)
		if got := hashed(state); got != state.Digest() {
			t.Fatalf("hashed without a State: %s, want %s", got, state.Digest())
		}
		if fresh := rebuilt(state); fresh.Digest() != state.Digest() || fresh.Counts() != state.Counts() {
			t.Fatalf("rebuilt: digest %s, counts %+v; want %s, %+v", fresh.Digest(), fresh.Counts(), state.Digest(), state.Counts())
		}
	})
}

// compareViews compares all that drawChange can reach.
func compareViews(t *rapid.T, got, want location.View) {
	t.Helper()
	for n := range 3 {
		aor := location.AOR(fmt.Sprintf("sip:u%d@example.org", n))
		if diff := cmp.Diff(want.Bindings(aor), got.Bindings(aor)); diff != "" {
			t.Fatalf("bindings of %s differ:\n%s", aor, diff)
		}
		if diff := cmp.Diff(want.Tombstones(aor), got.Tombstones(aor)); diff != "" {
			t.Fatalf("tombstones of %s differ:\n%s", aor, diff)
		}
		wu, wok := want.User(aor)
		if gu, gok := got.User(aor); wu != gu || wok != gok {
			t.Fatalf("user %s differs", aor)
		}
		id := location.RequestID{Node: 1, Incarnation: 7, Number: uint64(n)}
		wo, wok := want.Outcome(id)
		if g, gok := got.Outcome(id); wo != g || wok != gok {
			t.Fatalf("outcome %d is %+v, %t; want %+v, %t", n, g, gok, wo, wok)
		}
	}
	if diff := cmp.Diff(want.Keys(), got.Keys()); diff != "" && len(want.Keys())+len(got.Keys()) > 0 {
		t.Fatalf("keys differ:\n%s", diff)
	}
	if want.Grace() != got.Grace() {
		t.Fatalf("grace is %d, want %d", got.Grace(), want.Grace())
	}
}

func TestDigestTellsContentAlone(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		a, b := location.NewState(), location.NewState()
		for range rapid.IntRange(0, 10).Draw(t, "steps") {
			a.Apply(location.Time(rapid.Int64Range(0, 9).Draw(t, "now")), drawBatch(t))
			b.Apply(0, drawBatch(t))
		}
		same := cmp.Equal(content(a), content(b))
		if (a.Digest() == b.Digest()) != same {
			t.Fatalf("digests %s and %s, yet equal content is %t", a.Digest(), b.Digest(), same)
		}
		if a.Digest() == (location.Digest{}) != (len(content(a)) == 0) {
			t.Fatalf("digest %s with %d rows", a.Digest(), len(content(a)))
		}
	})
}

func TestEncodingRoundTrip(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		batch := drawBatch(t)
		encoded := location.AppendChanges(nil, batch)
		decoded, err := location.DecodeChanges(encoded)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(batch, decoded); diff != "" && len(batch) > 0 {
			t.Fatalf("decoded differs:\n%s", diff)
		}
	})
}

func FuzzDecodeChanges(f *testing.F) {
	f.Add([]byte{1, 0})
	f.Add([]byte{1, 1, 6, 2, 4})
	f.Fuzz(func(t *testing.T, payload []byte) {
		changes, err := location.DecodeChanges(payload)
		if err != nil {
			return
		}
		if again := location.AppendChanges(nil, changes); !slices.Equal(again, payload) {
			t.Fatalf("%x decodes to what encodes as %x", payload, again)
		}
		location.NewOverlay(location.NewState()).Stage(changes)
		location.NewState().Apply(0, changes)
	})
}
