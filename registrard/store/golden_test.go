package store_test

import (
	"errors"
	"flag"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"

	"sipha/registrard/location"
	"sipha/registrard/store"
)

var update = flag.Bool("update", false, "write the golden database anew: only for a new version, in a directory of its own")

// golden is a directory as this version of the schema leaves it; every later version must be able to open it.
var golden = filepath.Join("testdata", "v1")

func TestGoldenDatabase(t *testing.T) {
	t.Parallel()
	r := newReplica(t, true)
	r.do(everything()...)
	r.append(putContact(alice, "sip:uncommitted@192.0.2.1", 7))
	if err := r.store.SavePromise(location.Epoch{Number: 3, Node: 2, Incarnation: 1}); err != nil {
		t.Fatal(err)
	}
	r.close(true)
	if *update {
		for _, name := range []string{"location.db", "identity"} {
			b, err := os.ReadFile(filepath.Join(r.dir, name))
			if err == nil {
				err = errors.Join(os.MkdirAll(golden, 0o755), os.WriteFile(filepath.Join(golden, name), b, 0o644))
			}
			if err != nil {
				t.Fatal(err)
			}
		}
	}
	dir := filepath.Join(t.TempDir(), "db")
	if err := os.CopyFS(dir, os.DirFS(golden)); err != nil {
		t.Fatal(err)
	}
	s, rec, err := store.Open(dir, store.Options{Durable: true})
	if err != nil {
		t.Fatal(err)
	}
	if rec.New != "" || rec.Promised.Number != 3 || rec.Seen != 3 || rec.Time != location.Time(r.now.UnixMilli()) || !rec.StoredAt.Equal(r.now) {
		t.Errorf("recovered: %+v", rec)
	}
	if diff := cmp.Diff(r.log, rec.Log); diff != "" {
		t.Errorf("log differs:\n%s", diff)
	}
	sameContent(t, r.state, rec.State)
	if err := s.Close(true); err != nil {
		t.Fatal(err)
	}
}

func FuzzIdentity(f *testing.F) {
	b, err := os.ReadFile(filepath.Join(golden, "identity"))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Add(b[:20])
	f.Fuzz(func(t *testing.T, b []byte) {
		id, err := store.DecodeIdentity(b)
		if err == nil && string(store.EncodeIdentity(&id)) != string(b) {
			t.Fatalf("%x decodes to what encodes otherwise", b)
		}
	})
}

// FuzzRecord decodes the records of a snapshot that are not changes, which package location decodes.
func FuzzRecord(f *testing.F) {
	e := location.Entry{Position: location.Position{Index: 2}, Prev: location.Position{Index: 1}, Time: 9, Kind: location.KindTick, Payload: []byte("x")}
	f.Add(store.AppendEntry(nil, &e))
	f.Fuzz(func(t *testing.T, b []byte) {
		if e, err := store.DecodeEntry(b); err == nil && string(store.AppendEntry(nil, &e)) != string(b) {
			t.Fatalf("entry %x decodes to what encodes otherwise", b)
		}
		if m, err := store.DecodeHead(b); err == nil && len(store.EncodeHead(&m)) > len(b) {
			t.Fatalf("head %x decodes to what encodes longer", b)
		}
	})
}

// FuzzSnapshot feeds a staging database; what it takes must be what it says that it is.
func FuzzSnapshot(f *testing.F) {
	donor := newReplica(f, false)
	donor.do(everything()...)
	donor.append(putContact(alice, "sip:tail@192.0.2.1", 1))
	snapshot, err := donor.store.Snapshot()
	if err != nil {
		f.Fatal(err)
	}
	chunk, err := snapshot.Next(store.ChunkBytesMax)
	if err != nil {
		f.Fatal(err)
	}
	end := snapshot.End()
	if err := snapshot.Close(); err != nil {
		f.Fatal(err)
	}
	f.Add(chunk)
	f.Add(chunk[:100])
	joiner := newReplica(f, false)
	f.Fuzz(func(t *testing.T, b []byte) {
		staging, err := joiner.store.Stage()
		if err != nil {
			t.Fatal(err)
		}
		half := len(b) / 2
		if err = staging.Write(b[:half]); err == nil {
			err = staging.Write(b[half:])
		}
		if err == nil {
			var rec *store.Recovered
			if rec, err = staging.Finish(end); err == nil && rec.State.Digest() != end.Applied.Digest {
				t.Fatal("it is installed with another digest")
			}
		}
		if err != nil && !errors.Is(err, store.ErrSequence) && !errors.Is(err, store.ErrDamaged) && !errors.Is(err, store.ErrFuture) &&
			!errors.Is(err, location.ErrEncoding) {
			t.Fatal(err)
		}
		if err := staging.Discard(); err != nil {
			t.Fatal(err)
		}
	})
}

func TestLogIsBounded(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		entries, size int
	}{"bytes": {60, 1 << 20}, "entries": {3*store.LogEntriesMax/2 + 5, 0}} {
		r := newReplica(t, false)
		payload := make([]byte, test.size)
		last := location.Position{}
		var b store.Batch
		for n := range test.entries {
			// The payload is no encoding: the log does not care.
			e := location.Entry{Position: location.Position{Index: last.Index + 1}, Prev: last, Kind: location.KindTick, Payload: payload}
			if test.size == 0 {
				e.Payload = nil
			}
			last = e.Position
			b.Append = append(b.Append, e)
			if n < test.entries-10 {
				b.Apply = append(b.Apply, store.Committed{Position: e.Position})
			}
			if len(b.Append) == 20 || n == test.entries-1 {
				if err := r.store.Write(b); err != nil {
					t.Fatal(err)
				}
				if err := r.store.Flush(); err != nil {
					t.Fatal(err)
				}
				b = store.Batch{}
			}
		}
		first, end, applied := r.store.Position()
		if end != last || applied.Index != uint64(test.entries-10) {
			t.Errorf("%s: the log ends at %s, and %s is applied", name, end, applied)
		}
		kept := int(end.Index - first + 1)
		if kept > store.LogEntriesMax || kept*test.size > store.LogBytesMax || kept*test.size < store.LogBytesMax*3/4 && kept < store.LogEntriesMax*3/4 {
			t.Errorf("%s: %d entries are kept", name, kept)
		}
		got, err := r.store.ReadLog(0, 3)
		if err != nil || got[0].Position.Index != first {
			t.Errorf("%s: the log begins at %d, %v, want %d", name, got[0].Position.Index, err, first)
		}
		r.close(true)
		r.open()
		if first2, end2, _ := r.store.Position(); first2 != first || end2 != end || len(r.rec.Log) != kept {
			t.Errorf("%s: opened again it has %d to %s, %d entries", name, first2, end2, len(r.rec.Log))
		}
	}
}

// What is not applied stays in the log, whatever its size.
func TestLogKeepsWhatIsNotApplied(t *testing.T) {
	t.Parallel()
	r := newReplica(t, false)
	payload := make([]byte, 1<<20)
	last := location.Position{}
	for range store.LogBytesMax>>20 + 5 {
		e := location.Entry{Position: location.Position{Index: last.Index + 1}, Prev: last, Kind: location.KindTick, Payload: payload}
		if err := r.store.Write(store.Batch{Append: []location.Entry{e}}); err != nil {
			t.Fatal(err)
		}
		last = e.Position
	}
	if first, _, _ := r.store.Position(); first != 1 {
		t.Errorf("the log begins at %d", first)
	}
}
