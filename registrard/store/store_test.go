package store_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"sipha/registrard/location"
	"sipha/registrard/store"
)

func TestReopen(t *testing.T) {
	t.Parallel()
	for _, clean := range []bool{true, false} {
		r := newReplica(t, true)
		if r.rec.New == "" || r.rec.Disk == 0 || r.rec.SetAside != "" || !r.rec.StoredAt.IsZero() || r.rec.State.Digest() != (location.Digest{}) {
			t.Errorf("a new database is recovered as %+v", r.rec)
		}
		disk := r.rec.Disk
		if disk != r.store.Disk() {
			t.Error("the Store names another disk")
		}
		r.do(everything()...)
		r.do(
			&location.KeyChange{Remove: true, Key: location.Key{ID: 1}},
			&location.UserChange{Remove: true, User: location.User{AOR: "sip:bob@example.org"}},
			&location.TimeChange{Grace: 5, Added: 10},
			&location.BindingsChange{AOR: alice, Remove: []string{""}, Forget: []location.TombstoneKey{{Contact: "*"}}},
			&location.BindingsChange{AOR: "sip:bob@example.org", Refresh: []location.Refresh{{Contact: "sip:bob@192.0.2.1", Expires: 9, CSeq: 2}}},
		)
		r.append(putContact(alice, "sip:a@192.0.2.1", 1)) // not committed
		stored := r.now
		r.now = r.now.Add(time.Hour)
		r.close(clean)
		r.open()
		r.check()
		if clean && r.rec.Applied.Index != 2 {
			t.Errorf("after a clean end the tables stand at %d", r.rec.Applied.Index)
		}
		if r.rec.New != "" || r.rec.Disk != disk || !r.rec.StoredAt.Equal(stored) {
			t.Errorf("clean %t: recovered as %q, disk %x, stored at %s", clean, r.rec.New, r.rec.Disk, r.rec.StoredAt)
		}
		if diff := cmp.Diff(r.state.Voters(), r.rec.Voters); clean && diff != "" {
			t.Errorf("voters differ:\n%s", diff)
		}
		if p, err := r.store.Verify(context.Background()); err != nil || p != r.rec.Applied {
			t.Errorf("verified at %s, %v", p, err)
		}
	}
}

func TestPromise(t *testing.T) {
	t.Parallel()
	r := newReplica(t, false)
	promise := func(n uint64) {
		t.Helper()
		if err := r.store.SavePromise(location.Epoch{Number: n, Node: 1, Incarnation: 1<<64 - 1}); err != nil {
			t.Fatal(err)
		}
	}
	promise(7)
	promise(6)
	if err := r.store.SaveSeen(9); err != nil {
		t.Fatal(err)
	}
	r.close(false)
	r.open()
	if want := (location.Epoch{Number: 7, Node: 1, Incarnation: 1<<64 - 1}); r.rec.Promised != want || r.rec.Seen != 9 {
		t.Errorf("promised is %+v, seen %d", r.rec.Promised, r.rec.Seen)
	}
	promise(12)
	if _, rec, err := r.store.SetAside("test"); err != nil || rec.Promised.Number != 12 || rec.Seen != 12 {
		t.Errorf("after it was set aside: %+v, %v", rec, err)
	}
}

// Without durable, what was receipted may be lost with the process: such a database must not count as the one that it was.
func TestDiskID(t *testing.T) {
	t.Parallel()
	remove := func(name string) func(*replica) {
		return func(r *replica) {
			if err := os.Remove(filepath.Join(r.dir, name)); err != nil {
				r.t.Fatal(err)
			}
		}
	}
	nothing := func(*replica) {}
	for name, test := range map[string]struct {
		durable, clean, again bool
		between               func(*replica)
		same                  bool
	}{
		"clean, durable":                        {true, true, true, nothing, true},
		"clean, not durable":                    {false, true, false, nothing, true},
		"unclean, durable":                      {true, false, true, nothing, true},
		"unclean, durable, no longer":           {true, false, false, nothing, true},
		"unclean, not durable":                  {false, false, false, nothing, false},
		"unclean, not durable, durable now":     {false, false, true, nothing, false},
		"without identity":                      {true, true, true, remove("identity"), false},
		"without the file":                      {true, true, true, remove("location.db"), false},
		"without the file, unclean":             {true, false, true, remove("location.db"), false},
		"without the write-ahead log":           {true, false, true, remove("location.db-wal"), false},
		"without the shared memory":             {true, false, true, remove("location.db-shm"), true},
		"with an older file, closed":            {true, true, true, (*replica).restoreBackup, false},
		"with half a new identity written":      {true, true, true, (*replica).halfIdentity, true},
		"with half a snapshot, and not swapped": {true, false, true, (*replica).halfSnapshot, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newReplica(t, test.durable)
			disk := r.rec.Disk
			r.do(putContact(alice, "sip:a@192.0.2.1", 1))
			if err := r.store.Backup(filepath.Join(r.dir, "backup")); err != nil {
				t.Fatal(err)
			}
			r.do(putContact(alice, "sip:a@192.0.2.1", 2))
			r.crash(test.clean)
			test.between(r)
			r.opts.Durable = test.again
			r.open()
			if (r.rec.Disk == disk) != test.same || (r.rec.New == "") != test.same {
				t.Errorf("same disk is %t, want %t (%q)", r.rec.Disk == disk, test.same, r.rec.New)
			}
			if test.same {
				r.check()
			}
		})
	}
}

// crash ends the Store; unclean, it leaves the files as a killed process does.
func (r *replica) crash(clean bool) {
	r.t.Helper()
	if clean {
		r.close(true)
		return
	}
	copied := r.dir + ".crashed"
	if err := os.CopyFS(copied, os.DirFS(r.dir)); err != nil {
		r.t.Fatal(err)
	}
	r.close(false)
	r.dir = copied
}

func (r *replica) restoreBackup() {
	if err := os.Rename(filepath.Join(r.dir, "backup"), filepath.Join(r.dir, "location.db")); err != nil {
		r.t.Fatal(err)
	}
}

func (r *replica) halfIdentity() { r.plant("identity.new", "registrard") }

func (r *replica) halfSnapshot() { r.plant("location.db.staging", "SQLite format 3") }

func (r *replica) plant(name, content string) {
	if err := os.WriteFile(filepath.Join(r.dir, name), []byte(content), 0o600); err != nil {
		r.t.Fatal(err)
	}
}

func TestSequence(t *testing.T) {
	t.Parallel()
	r := newReplica(t, false)
	r.do(putContact(alice, "sip:a@192.0.2.1", 1))
	r.append(putContact(alice, "sip:a@192.0.2.1", 2))
	second := r.at(2)
	gap := r.entry()
	gap.Position.Index++
	stranger := r.entry()
	stranger.Prev.Digest[0] ^= 1
	for name, b := range map[string]store.Batch{
		"gap in the log":          {Append: []location.Entry{gap}},
		"other predecessor":       {Append: []location.Entry{stranger}},
		"twice":                   {Append: []location.Entry{second}},
		"cut of what is applied":  {Cut: 1},
		"applied twice":           {Apply: []store.Committed{r.committed(r.at(1))}},
		"applied before":          {Apply: []store.Committed{r.committed(second), r.committed(second)}},
		"applied what is not log": {Apply: []store.Committed{r.committed(second), r.committed(gap)}},
		"good and bad":            {Append: []location.Entry{r.entry(), gap}, Apply: []store.Committed{r.committed(second)}},
	} {
		if err := r.store.Write(b); !errors.Is(err, store.ErrSequence) {
			t.Errorf("%s: error is %v", name, err)
		}
	}
	first, last, applied := r.store.Position()
	if first != 1 || last != r.last || applied != r.at(1).Position {
		t.Errorf("after refused batches it stands at %d, %s, %s", first, last, applied)
	}
	r.commit()
	r.do(putContact(alice, "sip:a@192.0.2.1", 3))
	r.close(true)
	r.open()
	r.check()
	if err := r.store.Close(true); err != nil {
		t.Fatal(err)
	}
	for name, err := range map[string]error{
		"write": r.store.Write(store.Batch{}), "flush": r.store.Flush(), "promise": r.store.SavePromise(location.Epoch{Number: 1}),
		"seen": r.store.SaveSeen(1), "backup": r.store.Backup(filepath.Join(r.dir, "b")),
	} {
		if !errors.Is(err, store.ErrClosed) {
			t.Errorf("%s of a closed Store: %v", name, err)
		}
	}
}

func TestLocked(t *testing.T) {
	t.Parallel()
	r := newReplica(t, true)
	_, _, err := store.Open(r.dir, store.Options{})
	var e *store.Error
	if !errors.Is(err, store.ErrLocked) || !errors.As(err, &e) || e.Hint() == "" {
		t.Errorf("a second Open gives %v", err)
	}
}

func TestReadLog(t *testing.T) {
	t.Parallel()
	r := newReplica(t, false)
	for n := range 5 {
		r.do(putContact(alice, "sip:a@192.0.2.1", uint32(n)))
	}
	got, err := r.store.ReadLog(2, 3)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(r.log[1:4], got); diff != "" {
		t.Errorf("entries differ:\n%s", diff)
	}
}
