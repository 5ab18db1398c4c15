package node

import (
	"errors"
	"fmt"
	"log/slog"
	"testing"
	"testing/synctest"
	"time"

	"sipha/registrard/location"
	"sipha/registrard/replica"
	"sipha/registrard/store"
)

// gatedStore is a database that a test holds up.
type gatedStore struct {
	Store
	gate    chan struct{} // one for each write; nil: none waits
	batches []store.Batch
	err     error
}

func (s *gatedStore) Write(b store.Batch) error {
	if s.gate != nil {
		<-s.gate
	}
	s.batches = append(s.batches, b)
	return s.err
}

func (s *gatedStore) SavePromise(location.Epoch) error { return nil }

func testDisk(s Store) *disk {
	return newDisk(New(Options{Store: s, Boot: &store.Recovered{State: location.NewState()}, Log: slog.New(slog.DiscardHandler)}))
}

func writeOp(seq uint64, cut uint64, payload int) diskOp {
	return diskOp{write: &replica.Write{Seq: seq, Cut: cut, Entries: []location.Entry{{Payload: make([]byte, payload)}}}}
}

// The queue takes no more than its limits; who wants to put something into it waits, and goes on when there is room.
func TestDiskQueueIsBounded(t *testing.T) {
	for name, test := range map[string]struct {
		payload, fit int
	}{
		"Operations": {0, DiskQueueMax},
		"Bytes":      {1 << 20, DiskQueueBytes >> 20},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				d := testDisk(&gatedStore{})
				for n := range test.fit {
					if !d.offer(writeOp(uint64(n+1), 0, test.payload)) {
						t.Fatalf("operation %d does not fit", n)
					}
				}
				put := make(chan error, 1)
				go func() { put <- d.put(writeOp(uint64(test.fit+1), 0, 0)) }()
				synctest.Wait()
				select {
				case err := <-put:
					t.Fatalf("put: %v", err)
				default:
				}
				go func() { _ = d.run() }()
				if err := <-put; err != nil {
					t.Fatal(err)
				}
				d.close()
				<-d.ended
				if rs, err := d.take(); err != nil || len(rs) != 1 || rs[0].stored != uint64(test.fit+1) {
					t.Fatalf("told %+v, %v", rs, err)
				}
			})
		})
	}
}

// What waits goes into one transaction, up to the next cut and the next promise; nothing is left out, and the order stays.
func TestDiskPutsTogetherWhatWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &gatedStore{gate: make(chan struct{}, 100)}
		d := testDisk(s)
		ops := []diskOp{
			writeOp(1, 0, 1), writeOp(2, 0, 1), {entries: make([]location.Entry, 1), changes: make([][]location.Change, 1)}, writeOp(3, 0, 1),
			writeOp(4, 7, 1), writeOp(5, 0, 1),
			{promise: &replica.Promise{Seq: 6}}, writeOp(7, 0, 1),
		}
		for _, op := range ops {
			if err := d.put(op); err != nil {
				t.Fatal(err)
			}
		}
		go func() { _ = d.run() }()
		for range ops {
			s.gate <- struct{}{}
		}
		done := make(chan struct{})
		if err := d.put(diskOp{settle: done}); err != nil {
			t.Fatal(err)
		}
		<-done
		d.close()
		<-d.ended
		got := ""
		for _, b := range s.batches {
			got += fmt.Sprintf("%d+%d cut %d;", len(b.Append), len(b.Apply), b.Cut)
		}
		if want := "3+1 cut 0;2+0 cut 7;1+0 cut 0;"; got != want {
			t.Fatalf("transactions %s; want %s", got, want)
		}
		if rs, err := d.take(); err != nil || len(rs) != 1 || rs[0].stored != 7 {
			t.Fatalf("told %+v, %v", rs, err)
		}
	})
}

// Nobody waits for a disk that has failed, has ended, or does not come back.
func TestDiskEnds(t *testing.T) {
	full := func(d *disk) {
		for n := 0; d.offer(writeOp(uint64(n+1), 0, 1)); n++ {
		}
	}
	t.Run("Failed", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			d := testDisk(&gatedStore{err: store.ErrFull})
			full(d)
			if err := d.run(); !errors.Is(err, errDisk) || !errors.Is(err, store.ErrFull) {
				t.Fatalf("ended with %v", err)
			}
			if err := d.put(writeOp(1, 0, 1)); !errors.Is(err, store.ErrFull) {
				t.Fatalf("put: %v", err)
			}
			if _, err := d.settle(); !errors.Is(err, store.ErrFull) {
				t.Fatalf("settle: %v", err)
			}
			if _, err := d.setAside("test"); !errors.Is(err, store.ErrFull) {
				t.Fatalf("set aside: %v", err)
			}
			if rs, err := d.take(); len(rs) > 0 || err == nil {
				t.Fatalf("told %+v, %v", rs, err)
			}
		})
	})
	t.Run("Stalled", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			s := &gatedStore{gate: make(chan struct{})}
			d := testDisk(s)
			full(d)
			go func() { _ = d.run() }()
			begin := time.Now()
			if _, err := d.settle(); !errors.Is(err, errStalled) {
				t.Fatalf("settle: %v", err)
			}
			if took := time.Since(begin); took > DiskStallMax+2*diskLookInterval {
				t.Fatalf("took %s", took)
			}
			close(s.gate)
			d.close()
			<-d.ended
		})
	})
	t.Run("Closed", func(t *testing.T) {
		d := testDisk(&gatedStore{})
		d.close()
		if err := d.run(); err != nil {
			t.Fatal(err)
		}
		if err := d.put(writeOp(1, 0, 1)); !errors.Is(err, ErrClosed) {
			t.Fatalf("put: %v", err)
		}
	})
}
