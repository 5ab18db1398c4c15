package store_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"sipha/registrard/location"
	"sipha/registrard/store"
)

// background opens a Store whose flusher runs.
func background(t *testing.T) *replica {
	t.Helper()
	r := newReplica(t, true)
	r.close(true)
	r.opts = store.Options{Durable: true}
	r.open()
	return r
}

// eventually polls until fn is true.
func eventually(t *testing.T, what string, fn func() bool) {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); time.Now().Before(deadline); {
		if fn() {
			return
		}
		time.Sleep(time.Millisecond) // between two looks
	}
	t.Fatal("never: " + what)
}

// The flusher brings what is committed into the tables by itself, for who reads the file.
func TestFlusher(t *testing.T) {
	t.Parallel()
	r := background(t)
	r.do(everything()...)
	eventually(t, "the tables have the entry", func() bool {
		index, err := store.Applied(filepath.Join(r.dir, "location.db"))
		if err != nil {
			t.Fatal(err)
		}
		return index == 1
	})
}

// Snapshots, verification, backups and readings of the log go on beside Writes and the flusher, and each sees one position.
func TestConcurrentUse(t *testing.T) {
	t.Parallel()
	r := background(t)
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	beside := func(fn func(n int) error) {
		wg.Add(1)
		go func() {
			defer wg.Done()
			for n := 0; ctx.Err() == nil; n++ {
				if err := fn(n); err != nil {
					t.Error(err)
					return
				}
			}
		}()
	}
	beside(func(int) error {
		_, err := r.store.Verify(context.Background())
		return err
	})
	beside(func(int) error { return readSnapshot(r.store) })
	beside(func(int) error {
		_, err := r.store.ReadLog(0, 10)
		return err
	})
	beside(func(n int) error { return r.store.SavePromise(location.Epoch{Number: uint64(n)}) })
	beside(func(n int) error {
		path := filepath.Join(r.dir, fmt.Sprint("backup", n))
		return errors.Join(r.store.Backup(path), os.Remove(path))
	})
	for n := range 60 {
		changes := make([]location.Change, 40)
		for i := range changes {
			changes[i] = putContact(location.AOR(fmt.Sprintf("sip:u%d@example.org", (n*40+i)*7919%1000)), "sip:c@192.0.2.1", uint32(n))
		}
		r.do(changes...)
	}
	cancel()
	wg.Wait()
	if _, err := r.store.Verify(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("verified for a caller who is gone: %v", err)
	}
	r.close(true)
	r.open()
	r.check()
}

// readSnapshot reads a snapshot and checks what it comes to.
func readSnapshot(s *store.Store) error {
	snapshot, err := s.Snapshot()
	if err != nil {
		return err
	}
	bytes := 0
	for err == nil {
		var chunk []byte
		chunk, err = snapshot.Next(512)
		bytes += len(chunk)
	}
	if !errors.Is(err, io.EOF) {
		return errors.Join(err, snapshot.Close())
	}
	if end := snapshot.End(); end.Rows > 0 && bytes == 0 || end.Last.Index < end.Applied.Index {
		return errors.Join(fmt.Errorf("%d bytes for %+v", bytes, end), snapshot.Close())
	}
	return snapshot.Close()
}

func TestSnapshotsAreLimited(t *testing.T) {
	t.Parallel()
	r := newReplica(t, false)
	r.do(everything()...)
	var open []*store.Snapshot
	for {
		snapshot, err := r.store.Snapshot()
		if err != nil {
			break
		}
		if open = append(open, snapshot); len(open) > 10 {
			t.Fatal("there is no limit")
		}
	}
	for _, s := range open {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}
	if err := readSnapshot(r.store); err != nil {
		t.Error(err)
	}
}

// The write-ahead log starts again from its beginning, however long the Writes go on.
func TestWALIsBounded(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("it writes 200 MB")
	}
	r := background(t)
	payload := make([]byte, 200<<10)
	last := location.Position{}
	for n := range 1000 {
		e := location.Entry{Position: location.Position{Index: last.Index + 1}, Prev: last, Kind: location.KindTick, Payload: payload}
		if err := r.store.Write(store.Batch{Append: []location.Entry{e}, Apply: []store.Committed{{Position: e.Position}}}); err != nil {
			t.Fatal(err)
		}
		last = e.Position
		if n%50 == 49 { // a flush has ended, and the flusher has looked at the write-ahead log
			eventually(t, "the flush ends", func() bool {
				index, err := store.Applied(filepath.Join(r.dir, "location.db"))
				if err != nil {
					t.Fatal(err)
				}
				return index == last.Index
			})
		}
	}
	wal, err := os.Stat(filepath.Join(r.dir, "location.db-wal"))
	if err != nil {
		t.Fatal(err)
	}
	if wal.Size() > 150<<20 {
		t.Errorf("the write-ahead log has %d MB", wal.Size()>>20)
	}
}

// An error in the background is told to who writes next.
func TestFlusherFails(t *testing.T) {
	t.Parallel()
	r := background(t)
	r.do(putContact(alice, "sip:a@192.0.2.1", 1))
	if err := store.Exec(filepath.Join(r.dir, "location.db"), "PRAGMA busy_timeout=10000; DROP TABLE binding"); err != nil {
		t.Fatal(err)
	}
	eventually(t, "a Write fails", func() bool {
		e := r.entryWith(location.Digest{}, putContact(alice, "sip:a@192.0.2.1", 2))
		b := store.Batch{Append: []location.Entry{e}}
		if last := r.last.Index; r.applied < last {
			b.Apply = []store.Committed{r.committed(r.at(r.applied + 1))}
		}
		err := r.store.Write(b)
		if err == nil {
			r.wrote(b)
		} else if !errors.Is(err, store.ErrDamaged) {
			t.Fatal(err)
		}
		return err != nil
	})
	path, rec, err := r.store.SetAside("a table is gone")
	if err != nil || rec.New == "" {
		t.Fatal(path, err)
	}
	r.rec, r.state, r.log, r.last, r.applied = rec, rec.State, nil, location.Position{}, 0
	r.do(putContact(alice, "sip:a@192.0.2.1", 1))
}
