package store_test

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"sipha/registrard/location"
	"sipha/registrard/store"
)

func TestSnapshotWhileWriting(t *testing.T) {
	t.Parallel()
	donor, joiner := newReplica(t, true), newReplica(t, true)
	for n := range 300 {
		donor.do(putContact(location.AOR(fmt.Sprintf("sip:u%d@example.org", n)), "sip:c@192.0.2.1", 1))
	}
	donor.do(everything()...)
	donor.append(putContact(alice, "sip:uncommitted@192.0.2.1", 1))
	donor.append(putContact(alice, "sip:uncommitted@192.0.2.1", 2))
	want, wantLog := location.NewState(), slices.Clone(donor.log[len(donor.log)-2:])
	want.Apply(donor.state.Now(), slices.Collect(donor.state.Rebuild()))

	snapshot, err := donor.store.Snapshot()
	if err != nil {
		t.Fatal(err)
	}
	joiner.do(putContact(alice, "sip:old@192.0.2.1", 1))
	if err := joiner.store.SavePromise(location.Epoch{Number: 5}); err != nil {
		t.Fatal(err)
	}
	staging, err := joiner.store.Stage()
	if err != nil {
		t.Fatal(err)
	}
	chunks := 0
	for {
		chunk, err := snapshot.Next(1000)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil || len(chunk) > 1000 {
			t.Fatal(len(chunk), err)
		}
		if err := staging.Write(chunk); err != nil {
			t.Fatal(err)
		}
		if chunks++; chunks%10 == 0 { // both live on meanwhile
			donor.do(putContact(alice, "sip:new@192.0.2.1", uint32(chunks)))
			joiner.do(putContact(alice, "sip:old@192.0.2.1", uint32(chunks)))
		}
	}
	if chunks < 20 {
		t.Fatalf("%d chunks are too few to tell anything", chunks)
	}
	rec, err := staging.Finish(snapshot.End())
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(snapshot.Close(), snapshot.Close(), staging.Discard()); err != nil {
		t.Fatal(err)
	}
	if _, err := snapshot.Next(1000); !errors.Is(err, store.ErrClosed) {
		t.Errorf("a closed snapshot goes on: %v", err)
	}
	checkInstalled(t, rec, want, wantLog)
	joiner.close(false)
	disk := joiner.rec.Disk
	joiner.open()
	checkInstalled(t, joiner.rec, want, wantLog)
	if joiner.rec.Disk != disk || rec.Disk != disk || rec.Promised.Number != 5 || joiner.rec.Promised.Number != 5 {
		t.Errorf("installed: %+v; opened again: %+v", rec, joiner.rec)
	}

	// It goes on from there.
	joiner.state, joiner.log, joiner.last, joiner.applied = joiner.rec.State, donor.log[:303], wantLog[1].Position, 301
	joiner.commit()
	joiner.commit()
	joiner.do(putContact(alice, "sip:next@192.0.2.1", 1))
	joiner.close(true)
	joiner.open()
	joiner.check()
}

func checkInstalled(t *testing.T, rec *store.Recovered, want *location.State, wantLog []location.Entry) {
	t.Helper()
	sameContent(t, want, rec.State)
	if rec.Applied.Index != 301 {
		t.Errorf("applied is %s", rec.Applied)
	}
	if diff := cmp.Diff(wantLog, rec.Log); diff != "" {
		t.Errorf("the log's tail differs:\n%s", diff)
	}
}

func TestSnapshotRefused(t *testing.T) {
	t.Parallel()
	donor := newReplica(t, false)
	donor.do(everything()...)
	donor.append(putContact(alice, "sip:tail@192.0.2.1", 1))
	snapshot, err := donor.store.Snapshot()
	if err != nil {
		t.Fatal(err)
	}
	var whole []byte
	for {
		chunk, err := snapshot.Next(100)
		if errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		whole = append(whole, chunk...)
	}
	end := snapshot.End()
	if err := snapshot.Close(); err != nil {
		t.Fatal(err)
	}
	joiner := newReplica(t, true)
	joiner.do(putContact(alice, "sip:old@192.0.2.1", 1))
	edit := func(fn func(e *store.SnapshotEnd)) store.SnapshotEnd {
		e := end
		fn(&e)
		return e
	}
	for name, test := range map[string]struct {
		chunk []byte
		end   store.SnapshotEnd
	}{
		"nothing":          {nil, end},
		"cut short":        {whole[:len(whole)-1], end},
		"without its tail": {whole[:len(whole)-300], end},
		"other rows":       {whole, edit(func(e *store.SnapshotEnd) { e.Rows++ })},
		"other index":      {whole, edit(func(e *store.SnapshotEnd) { e.Applied.Index++ })},
		"other digest":     {whole, edit(func(e *store.SnapshotEnd) { e.Applied.Digest[0]++ })},
		"other end":        {whole, edit(func(e *store.SnapshotEnd) { e.Last.Index++ })},
		"one bit":          {flipped(whole, 150), end},
	} {
		staging, err := joiner.store.Stage()
		if err != nil {
			t.Fatal(err)
		}
		if err = staging.Write(test.chunk); err == nil {
			_, err = staging.Finish(test.end)
		}
		if !errors.Is(err, store.ErrSequence) && !errors.Is(err, store.ErrDamaged) {
			t.Errorf("%s: error is %v", name, err)
		}
		if err := staging.Discard(); err != nil {
			t.Error(err)
		}
	}
	joiner.do(putContact(alice, "sip:old@192.0.2.1", 2))
	joiner.close(true)
	joiner.open()
	joiner.check()
}

func flipped(b []byte, bit int) []byte {
	b = slices.Clone(b)
	b[bit/8] ^= 1 << (bit % 8)
	return b
}
