package store_test

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"sipha/registrard/location"
	"sipha/registrard/store"
)

func benchBinding(n int) (location.AOR, location.Binding) {
	aor := location.AOR(fmt.Sprintf("sip:user%07d@example.org", n))
	return aor, location.Binding{
		Contact: fmt.Sprintf("sip:user%07d@192.0.2.1:5062;transport=udp", n), Q: -1, Expires: 1_700_003_600_000,
		CallID: fmt.Sprintf("%08x-4e1c-9a3b@192.0.2.1", n), CSeq: 1, Received: "udp:192.0.2.1:5062", Socket: "udp:192.0.2.9:5060",
		UserAgent: "Example Phone/1.2.3", Created: 1_700_000_000_000,
	}
}

// filled is a Store with n bindings, closed and opened again.
func filled(b *testing.B, dir string, n int, opts store.Options) (*store.Store, *store.Recovered) {
	b.Helper()
	s, rec, err := store.Open(dir, opts)
	if err != nil {
		b.Fatal(err)
	}
	overlay := location.NewOverlay(rec.State)
	last := location.Position{Epoch: location.Epoch{Number: 1}}
	for i := 0; i < n; {
		var changes []location.Change
		for ; len(changes) < 500 && i < n; i++ {
			aor, binding := benchBinding(i * 7919 % n)
			changes = append(changes, &location.BindingsChange{AOR: aor, Cause: location.CauseRegister, Put: []location.Binding{binding}})
		}
		last = benchWrite(b, s, rec.State, overlay, last, changes)
	}
	if err := s.Flush(); err != nil {
		b.Fatal(err)
	}
	rec.Applied = last
	return s, rec
}

// benchWrite logs, stores and applies a batch.
func benchWrite(b *testing.B, s *store.Store, state *location.State, o *location.Overlay, last location.Position, changes []location.Change) location.Position {
	e := location.Entry{Prev: last, Time: 1_700_000_000_000, Kind: location.KindChanges, Payload: location.AppendChanges(nil, changes)}
	if last.Index == 0 {
		e.Prev = location.Position{}
	}
	e.Position = location.Position{Epoch: last.Epoch, Index: last.Index + 1, Digest: o.Stage(changes)}
	if err := s.Write(store.Batch{
		Append: []location.Entry{e}, Apply: []store.Committed{{Position: e.Position, Time: e.Time, Changes: changes}},
	}); err != nil {
		b.Fatal(err)
	}
	state.Apply(e.Time, changes)
	o.Committed()
	return e.Position
}

// BenchmarkWrite stores entries of 100 refreshes, each with its own sync, over 250,000 bindings.
func BenchmarkWrite(b *testing.B) {
	const users, perEntry = 250_000, 100
	for _, durable := range []bool{true, false} {
		b.Run(fmt.Sprintf("durable=%t", durable), func(b *testing.B) {
			dir := b.TempDir()
			s, rec := filled(b, dir, users, store.Options{Durable: durable})
			overlay := location.NewOverlay(rec.State)
			last, n := rec.Applied, 0
			var longest time.Duration
			before := cpuTime(b)
			b.ReportAllocs()
			b.ResetTimer()
			for b.Loop() {
				changes := make([]location.Change, perEntry)
				for i := range changes {
					aor, binding := benchBinding(n * 7919 % users)
					changes[i] = &location.BindingsChange{AOR: aor, Cause: location.CauseRegister, Refresh: []location.Refresh{
						{Contact: binding.Contact, Expires: binding.Expires + location.Time(n), CSeq: uint32(2 + n/users)},
					}}
					n++
				}
				begin := time.Now()
				last = benchWrite(b, s, rec.State, overlay, last, changes)
				longest = max(longest, time.Since(begin))
			}
			b.ReportMetric(float64((cpuTime(b)-before).Nanoseconds())/float64(n), "cpu-ns/refresh")
			b.ReportMetric(float64(longest.Microseconds())/1000, "longest-ms")
			size(b, dir, "location.db-wal", "wal-MB")
			if err := s.Close(true); err != nil {
				b.Fatal(err)
			}
		})
	}
}

// cpuTime is what this process has used of the processors: other work on the machine does not count.
func cpuTime(b *testing.B) time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

func size(b *testing.B, dir, name, unit string) {
	if info, err := os.Stat(filepath.Join(dir, name)); err == nil {
		b.ReportMetric(float64(info.Size())/1e6, unit)
	}
}

// BenchmarkMillion opens a database with a million bindings, and takes a snapshot of it into another.
func BenchmarkMillion(b *testing.B) {
	const users = 1_000_000
	dir := b.TempDir()
	s, _ := filled(b, dir, users, store.Options{})
	size(b, dir, "location.db", "db-MB")
	if err := s.Close(true); err != nil {
		b.Fatal(err)
	}
	var opened, streamed, finished time.Duration
	var bytes int
	for b.Loop() {
		begin := cpuTime(b)
		s, rec, err := store.Open(dir, store.Options{})
		if err != nil || rec.New != "" || rec.State.Counts().Bindings != users {
			b.Fatal(err, rec.New, rec.State.Counts())
		}
		opened += cpuTime(b) - begin
		begin = cpuTime(b)
		joiner, _, err := store.Open(b.TempDir(), store.Options{})
		if err != nil {
			b.Fatal(err)
		}
		snapshot, err := s.Snapshot()
		if err != nil {
			b.Fatal(err)
		}
		staging, err := joiner.Stage()
		if err != nil {
			b.Fatal(err)
		}
		for {
			chunk, err := snapshot.Next(store.ChunkBytesMax)
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				b.Fatal(err)
			}
			if err := staging.Write(chunk); err != nil {
				b.Fatal(err)
			}
			bytes += len(chunk)
		}
		streamed += cpuTime(b) - begin
		begin = cpuTime(b)
		if _, err := staging.Finish(snapshot.End()); err != nil {
			b.Fatal(err)
		}
		finished += cpuTime(b) - begin
		if err := errors.Join(snapshot.Close(), joiner.Close(true), s.Close(true)); err != nil {
			b.Fatal(err)
		}
	}
	n := float64(b.N)
	b.ReportMetric(opened.Seconds()/n, "open-cpu-s")
	b.ReportMetric(streamed.Seconds()/n, "stream-cpu-s")
	b.ReportMetric(finished.Seconds()/n, "finish-cpu-s")
	b.ReportMetric(float64(bytes)/n/1e6, "stream-MB")
}
