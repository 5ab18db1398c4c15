package node_test

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"syscall"
	"testing"
	"time"

	"sipha/registrard/cpg/local"
	"sipha/registrard/location"
	"sipha/registrard/node"
	"sipha/registrard/store"
)

// benchPhones is how many phones are registered.
const benchPhones = 50_000

// benchNode is a node alone in its group, primary, with a durable database and its phones registered.
func benchNode(b *testing.B) *node.Node {
	b.Helper()
	db, found, err := store.Open(b.TempDir(), store.Options{Durable: true})
	if err != nil {
		b.Fatal(err)
	}
	n := node.New(node.Options{
		Node: 1, Name: "node1", Expected: 1, Grace: time.Second, AddedMax: time.Hour, NonceLife: 5 * time.Minute, Policy: policy(),
		Store: db, Boot: found, Log: slog.New(slog.DiscardHandler),
		Dial: func(context.Context) (node.Group, error) { return local.Join(local.Options{}), nil },
	})
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- n.Run(ctx) }()
	b.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			b.Error(err)
		}
		if err := db.Close(true); err != nil {
			b.Error(err)
		}
	})
	if err := n.Promote(ctx); err != nil {
		b.Fatal(err)
	}
	drive(b, n, 512, benchPhones, func(k int) *location.Request { return phone(aor(k), contactOf(k), 3600, 1) })
	return n
}

// drive keeps so many requests outstanding until all are answered, and returns how long each took.
func drive(b *testing.B, n *node.Node, outstanding, total int, request func(int) *location.Request) []time.Duration {
	b.Helper()
	type done struct {
		took time.Duration
		err  error
	}
	answers := make(chan done, outstanding)
	took := make([]time.Duration, 0, total)
	collect := func() {
		d := <-answers
		if d.err != nil {
			b.Fatal(d.err)
		}
		took = append(took, d.took)
	}
	for k := range total {
		if k >= outstanding {
			collect()
		}
		begin := time.Now()
		n.Register(request(k), func(a location.Answer, err error) {
			if err == nil && a.Status != 200 {
				err = fmt.Errorf("answered %d %s", a.Status, a.Reason)
			}
			answers <- done{time.Since(begin), err}
		})
	}
	for len(took) < total {
		collect()
	}
	return took
}

// BenchmarkRegister refreshes bindings on a durable node alone in its group.
func BenchmarkRegister(b *testing.B) {
	for _, outstanding := range []int{1, 64, 512} {
		b.Run(fmt.Sprintf("outstanding=%d", outstanding), func(b *testing.B) {
			n := benchNode(b)
			requests := make([]*location.Request, b.N)
			for k := range requests {
				requests[k] = phone(aor(k%benchPhones), contactOf(k%benchPhones), 3600, uint32(2+k/benchPhones))
			}
			b.ReportAllocs()
			before := cpuTime(b)
			b.ResetTimer()
			took := drive(b, n, outstanding, b.N, func(k int) *location.Request { return requests[k] })
			b.StopTimer()
			b.ReportMetric(float64((cpuTime(b)-before).Nanoseconds())/float64(b.N), "cpu-ns/op")
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "refreshes/s")
			slices.Sort(took)
			b.ReportMetric(float64(took[len(took)/2].Microseconds()), "median-us")
			b.ReportMetric(float64(took[len(took)*99/100].Microseconds()), "p99-us")
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
