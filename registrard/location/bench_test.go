package location_test

import (
	"fmt"
	"runtime"
	"testing"

	"sipha/registrard/location"
)

// benchRequest is a REGISTER as a phone sends it.
func benchRequest(n int, cseq uint32) location.Request {
	return location.Request{
		AOR: location.AOR(fmt.Sprintf("sip:user%07d@example.org", n)), CallID: fmt.Sprintf("%08x-4e1c-9a3b@192.0.2.1", n), CSeq: cseq, Expires: 3600,
		Contacts: []location.Contact{{URI: fmt.Sprintf("sip:user%07d@192.0.2.1:5062;transport=udp", n), Q: -1, Expires: -1}},
		Received: "udp:192.0.2.1:5062", Socket: "udp:192.0.2.9:5060", UserAgent: "Example Phone/1.2.3",
	}
}

func fill(b *testing.B, n int) *location.State {
	b.Helper()
	s := location.NewState()
	for i := range n {
		r := benchRequest(i, 1)
		change, answer := location.Decide(s, &r, start, &policy)
		if answer.Status != 200 {
			b.Fatal(answer)
		}
		s.Apply(start, []location.Change{change})
	}
	return s
}

// BenchmarkRefresh is the primary's whole work on a REGISTER that refreshes, in batches of 100: Decide, stage, encode, apply.
func BenchmarkRefresh(b *testing.B) {
	const users, perBatch = 10_000, 100
	s := fill(b, users)
	o := location.NewOverlay(s)
	requests := make([]location.Request, users)
	for i := range requests {
		requests[i] = benchRequest(i, 1)
	}
	var payload []byte
	var open []location.Change
	b.ReportAllocs()
	b.ResetTimer()
	for i := range b.N {
		r := &requests[i%users]
		r.CSeq++
		now := start + location.Time(i/100)
		change, answer := location.Decide(o, r, now, &policy)
		if answer.Status != 200 || len(change.Refresh) != 1 {
			b.Fatal(answer, change)
		}
		o.Add(change)
		open = append(open, change)
		if len(open) == perBatch {
			digest := o.Close()
			payload = location.AppendChanges(payload[:0], open)
			s.Apply(now, open)
			o.Committed()
			open = open[:0]
			if s.Digest() != digest {
				b.Fatal("digests differ")
			}
		}
	}
	b.ReportMetric(float64(len(payload))/perBatch, "payload-B/op")
}

// BenchmarkReplicaRefresh is a replica's: decode and apply.
func BenchmarkReplicaRefresh(b *testing.B) {
	const users = 100
	s := fill(b, users)
	var changes []location.Change
	for i := range users {
		r := benchRequest(i, 2)
		change, _ := location.Decide(s, &r, start, &policy)
		changes = append(changes, change)
	}
	payload := location.AppendChanges(nil, changes)
	b.ReportAllocs()
	b.ResetTimer()
	for range b.N/users + 1 {
		decoded, err := location.DecodeChanges(payload)
		if err != nil {
			b.Fatal(err)
		}
		s.Apply(start, decoded)
	}
}

// BenchmarkMemory tells what a binding takes.
func BenchmarkMemory(b *testing.B) {
	const users = 250_000
	for range b.N {
		var before, after runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&before)
		s := fill(b, users)
		runtime.GC()
		runtime.ReadMemStats(&after)
		b.ReportMetric(float64(after.HeapAlloc-before.HeapAlloc)/users, "heap-B/binding")
		runtime.KeepAlive(s)
	}
}

// BenchmarkTick is a tick with a million bindings of which none has run out.
func BenchmarkTick(b *testing.B) {
	s := fill(b, 1_000_000)
	o := location.NewOverlay(s)
	b.ReportAllocs()
	b.ResetTimer()
	for i := range b.N {
		if c := o.Expired(start+location.Time(i%1000), &policy, 100); len(c) > 0 {
			b.Fatal(c)
		}
	}
}
