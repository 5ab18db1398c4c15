package store_test

import (
	"fmt"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"sipha/registrard/location"
	"sipha/registrard/store"
)

// replica is a Store with what it must hold beside it.
type replica struct {
	t     testing.TB
	dir   string
	opts  store.Options
	now   time.Time
	store *store.Store
	rec   *store.Recovered

	state   *location.State // what is applied
	log     []location.Entry
	applied uint64 // index
	last    location.Position
	epoch   location.Epoch
}

func newReplica(t testing.TB, durable bool) *replica {
	r := &replica{
		t: t, dir: filepath.Join(t.TempDir(), "db"), state: location.NewState(), now: time.UnixMilli(1_700_000_000_000),
		epoch: location.Epoch{Number: 1, Node: 2, Incarnation: 1 << 63},
	}
	r.opts = store.Manual(store.Options{Durable: durable, Now: func() time.Time { return r.now }})
	r.open()
	return r
}

func (r *replica) open() {
	r.t.Helper()
	var err error
	if r.store, r.rec, err = store.Open(r.dir, r.opts); err != nil {
		r.t.Fatal(err)
	}
	s := r.store
	r.t.Cleanup(func() {
		if err := s.Close(false); err != nil {
			r.t.Error(err)
		}
	})
}

func (r *replica) close(clean bool) {
	r.t.Helper()
	if err := r.store.Close(clean); err != nil {
		r.t.Fatal(err)
	}
}

// entry makes the next entry of the log; its digest is that of the content after it.
func (r *replica) entry(changes ...location.Change) location.Entry {
	ahead := location.NewOverlay(r.state)
	for i := r.applied; i < r.last.Index; i++ {
		ahead.Stage(r.decode(r.at(i + 1)))
	}
	return r.entryWith(ahead.Stage(changes), changes...)
}

func (r *replica) entryWith(digest location.Digest, changes ...location.Change) location.Entry {
	return location.Entry{
		Position: location.Position{Epoch: r.epoch, Index: r.last.Index + 1, Digest: digest}, Prev: r.last,
		Time: location.Time(r.now.UnixMilli()), Kind: location.KindChanges, Payload: location.AppendChanges(nil, changes),
	}
}

func (r *replica) at(index uint64) location.Entry { return r.log[index-1] }

func (r *replica) decode(e location.Entry) []location.Change {
	changes, err := location.DecodeChanges(e.Payload)
	if err != nil {
		r.t.Fatal(err)
	}
	return changes
}

// committed is the next entry to apply.
func (r *replica) committed(e location.Entry) store.Committed {
	return store.Committed{Position: e.Position, Time: e.Time, Changes: r.decode(e)}
}

func (r *replica) write(b store.Batch) {
	r.t.Helper()
	if err := r.store.Write(b); err != nil {
		r.t.Fatal(err)
	}
	r.wrote(b)
}

// wrote makes the model follow.
func (r *replica) wrote(b store.Batch) {
	if b.Cut != 0 && b.Cut <= r.last.Index {
		r.log = r.log[:b.Cut-1]
		r.last = location.Position{}
		if b.Cut > 1 {
			r.last = r.at(b.Cut - 1).Position
		}
	}
	for _, e := range b.Append {
		r.log = append(r.log, e)
		r.last = e.Position
	}
	for _, c := range b.Apply {
		r.state.Apply(c.Time, c.Changes)
		r.applied = c.Position.Index
	}
}

// append logs an entry and leaves it uncommitted.
func (r *replica) append(changes ...location.Change) {
	r.t.Helper()
	r.write(store.Batch{Append: []location.Entry{r.entry(changes...)}})
}

// commit applies the next entry.
func (r *replica) commit() {
	r.t.Helper()
	r.write(store.Batch{Apply: []store.Committed{r.committed(r.at(r.applied + 1))}})
}

// do logs and applies.
func (r *replica) do(changes ...location.Change) {
	r.t.Helper()
	r.append(changes...)
	r.commit()
}

// check compares what a reopened Store holds with what it must: the tables may be behind what was applied, and the log has the rest.
func (r *replica) check() {
	r.t.Helper()
	rec := r.rec
	if err := sameLog(r.log, rec); err != nil {
		r.t.Fatal(err)
	}
	if rec.Applied.Index > r.applied {
		r.t.Fatalf("applied is %d, and only %d was", rec.Applied.Index, r.applied)
	}
	for i := rec.Applied.Index; i < r.applied; i++ {
		rec.State.Apply(r.at(i+1).Time, r.decode(r.at(i+1)))
	}
	sameContent(r.t, r.state, rec.State)
}

// sameLog compares the log with the end of what was logged.
func sameLog(want []location.Entry, rec *store.Recovered) error {
	got := rec.Log
	if len(got) > len(want) {
		return fmt.Errorf("the log has %d entries, want %d", len(got), len(want))
	}
	if diff := cmp.Diff(want[len(want)-len(got):], got); diff != "" && len(got) > 0 {
		return fmt.Errorf("the log differs:\n%s", diff)
	}
	if first := uint64(len(want)-len(got)) + 1; first > rec.Applied.Index+1 {
		return fmt.Errorf("the log begins at %d, and the tables end at %d", first, rec.Applied.Index)
	}
	return nil
}

func sameContent(t testing.TB, want, got *location.State) {
	t.Helper()
	if want.Digest() == got.Digest() && want.Counts() == got.Counts() {
		return
	}
	t.Fatalf("the content differs (digest %s and %s):\n%s", want.Digest(), got.Digest(),
		cmp.Diff(slices.Collect(want.Rebuild()), slices.Collect(got.Rebuild())))
}

const alice = location.AOR("sip:alice@example.org")

func putContact(aor location.AOR, contact string, cseq uint32) *location.BindingsChange {
	return &location.BindingsChange{AOR: aor, Cause: location.CauseRegister, Put: []location.Binding{{
		Contact: contact, Q: -1, Expires: 1_700_000_060_000, CallID: "call", CSeq: cseq, Created: 1_700_000_000_000,
		Received: "udp:192.0.2.1:5060", Socket: "udp:192.0.2.9:5060", UserAgent: "phone",
	}}}
}

// everything is a change of each kind, with strings that a database could trip over.
func everything() []location.Change {
	odd := "sip:'; DROP TABLE binding; --\x00\xff\xfe%s@example.org"
	user := location.User{AOR: alice, Username: odd, Realm: "example.org", Has: 1<<location.MD5 | 1<<location.SHA512256}
	user.MD5[0], user.SHA512256[31] = 1, 255
	full := location.Binding{
		Contact: odd, Params: ";x=\"\\\"\"", Q: 1000, Expires: -5, CallID: odd, CSeq: 1<<32 - 1, Path: []string{"<sip:a;lr>", "<sip:b;lr>"},
		Received: "r", Socket: "s", UserAgent: odd, Instance: "i", RegID: 1<<32 - 1, Created: -1 << 62,
	}
	return []location.Change{
		&location.TimeChange{Grace: 77, Added: 1000},
		&location.VotersChange{Voters: []location.Voter{{Node: 1, Disk: 1<<64 - 1}, {Node: 1<<32 - 1, Disk: 1}}},
		&location.KeyChange{Key: location.Key{ID: 1<<32 - 1, Secret: [32]byte{0, 1}, Created: 5}},
		&location.KeyChange{Key: location.Key{ID: 1}},
		&location.OutcomeChange{Outcome: location.Outcome{
			ID: location.RequestID{Node: 1, Incarnation: 1<<64 - 1, Number: 1<<64 - 1}, Status: 65535, Detail: odd, Until: 9999,
		}},
		&location.UserChange{User: user},
		&location.UserChange{User: location.User{AOR: "sip:bob@example.org"}},
		&location.BindingsChange{
			AOR: alice, Put: []location.Binding{full, {Contact: "", Q: -1}},
			Bury: []location.Tombstone{{Contact: odd, CallID: odd, CSeq: 1<<32 - 1, Until: 5000}, {Contact: "*"}},
		},
		putContact("sip:bob@example.org", "sip:bob@192.0.2.1", 1),
	}
}

// Whatever is logged, cut, applied and flushed, a Store that is opened again holds it, also after a crash of the process.
func TestStoreFollowsModel(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(rt *rapid.T) {
		r := newReplica(t, rapid.Bool().Draw(rt, "durable"))
		for range rapid.IntRange(1, 25).Draw(rt, "steps") {
			switch rapid.IntRange(0, 9).Draw(rt, "step") {
			case 0:
				r.crash(rapid.Bool().Draw(rt, "clean"))
				r.open()
				r.check()
				r.reapply()
			case 1:
				if err := r.store.Flush(); err != nil {
					rt.Fatal(err)
				}
			case 3, 4:
				if err := store.FlushStep(r.store, rapid.IntRange(0, 3).Draw(rt, "slice")); err != nil {
					rt.Fatal(err)
				}
			case 2:
				r.now = r.now.Add(time.Duration(rapid.IntRange(-2000, 2000).Draw(rt, "pass")) * time.Millisecond)
			default:
				b := r.drawBatch(rt)
				if err := r.store.Write(b); err != nil {
					rt.Fatal(err)
				}
				r.wrote(b)
			}
		}
		r.close(true)
		r.open()
		r.check()
	})
}

// reapply queues for the tables what they do not have of what was applied, as the daemon does when an epoch starts.
func (r *replica) reapply() {
	for index := r.rec.Applied.Index + 1; index <= r.applied; index++ {
		if err := r.store.Write(store.Batch{Apply: []store.Committed{r.committed(r.at(index))}}); err != nil {
			r.t.Fatal(err)
		}
	}
}

func (r *replica) drawBatch(t *rapid.T) store.Batch {
	var b store.Batch
	last, log := r.last, r.log
	defer func() { r.last, r.log = last, log }()
	if r.last.Index > r.applied && rapid.IntRange(0, 3).Draw(t, "cut") == 0 {
		b.Cut = uint64(rapid.IntRange(int(r.applied)+1, int(r.last.Index)).Draw(t, "at"))
		r.wrote(store.Batch{Cut: b.Cut})
		r.epoch.Number++
	}
	for range rapid.IntRange(0, 3).Draw(t, "entries") {
		e := r.entry(rapid.SliceOfN(rapid.Custom(drawChange), 0, 4).Draw(t, "changes")...)
		b.Append = append(b.Append, e)
		r.log, r.last = append(slices.Clip(r.log), e), e.Position
	}
	for range rapid.IntRange(0, 3).Draw(t, "apply") {
		if next := r.applied + uint64(len(b.Apply)) + 1; next <= r.last.Index {
			b.Apply = append(b.Apply, r.committed(r.at(next)))
		}
	}
	return b
}

// drawChange draws any change over few names, so that changes meet.
func drawChange(t *rapid.T) location.Change {
	n := rapid.IntRange(0, 2).Draw(t, "n")
	when := location.Time(rapid.Int64Range(0, 20_000).Draw(t, "when"))
	aor := location.AOR(fmt.Sprintf("sip:u%d@example.org", rapid.IntRange(0, 2).Draw(t, "aor")))
	contact := fmt.Sprintf("sip:c%d@192.0.2.1", n)
	remove := rapid.Bool().Draw(t, "remove")
	switch rapid.IntRange(0, 8).Draw(t, "kind") {
	case 0:
		return &location.UserChange{Remove: remove, User: location.User{AOR: aor}}
	case 1:
		return &location.KeyChange{Remove: remove, Key: location.Key{ID: uint32(n), Created: when * location.Time(1-number(remove))}}
	case 2:
		return &location.VotersChange{Voters: []location.Voter{{Node: location.NodeID(n), Disk: location.DiskID(when)}}}
	case 3:
		o := location.Outcome{ID: location.RequestID{Number: uint64(n)}}
		if !remove {
			o.Status, o.Until = 200, when
		}
		return &location.OutcomeChange{Remove: remove, Outcome: o}
	case 4:
		return &location.TimeChange{Grace: when, Added: int64(when)}
	case 5:
		return &location.BindingsChange{AOR: aor, Refresh: []location.Refresh{{Contact: contact, Expires: when, CSeq: 9}}}
	case 6:
		return &location.BindingsChange{AOR: aor, Remove: []string{contact}, Bury: []location.Tombstone{{Contact: contact, CallID: "call", Until: when}}}
	case 7:
		return &location.BindingsChange{AOR: aor, Forget: []location.TombstoneKey{{Contact: contact, CallID: "call"}}}
	}
	c := putContact(aor, contact, uint32(n))
	c.Put[0].Created = when
	return c
}

func number(b bool) int {
	if b {
		return 1
	}
	return 0
}
