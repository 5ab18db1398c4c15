package sipload

import (
	"context"
	"errors"
	"testing"
	"time"
)

func TestGap(t *testing.T) {
	t.Parallel()
	start := time.Unix(1000, 0)
	var answers []served
	for _, ms := range []int{0, 900, 920, 940, 2000, 2020, 2500} {
		at := start.Add(time.Duration(ms) * time.Millisecond)
		answers = append(answers, served{at, at})
	}
	for _, tc := range []struct{ fromMS, wantMS int }{
		{0, 1060},     // from 940 to 2000
		{950, 1060},   // it began before, and ended after
		{2000, 480},   // it is over
		{2500, 0},     // nothing came since
		{-1000, 1060}, // the time before the first answer does not count
	} {
		got := gap(answers, start.Add(time.Duration(tc.fromMS)*time.Millisecond))
		if got != time.Duration(tc.wantMS)*time.Millisecond {
			t.Errorf("from %d ms: %v, want %d ms", tc.fromMS, got, tc.wantMS)
		}
	}
	if gap(nil, start) != 0 {
		t.Error("a gap between no answers")
	}
}

func TestWatch(t *testing.T) {
	t.Parallel()
	r := startRegistrar(t)
	c := startClient(t, r, Options{})
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	w := c.NewWatch(ctx, Registration{Account: Accounts(1, "example.org")[0]}, 5*time.Millisecond)
	defer w.Stop()
	if err := w.OKAfter(ctx, time.Now()); err != nil {
		t.Fatal(err)
	}
	// Nobody serves from here on, until 300 ms later.
	r.set(func() { r.status = 503 })
	begin := time.Now()
	time.AfterFunc(300*time.Millisecond, func() { r.set(func() { r.status = 0 }) })
	if err := w.GapAfter(ctx, begin, 250*time.Millisecond); err != nil {
		t.Fatal(err)
	}
	if got := w.Gap(begin); got < 250*time.Millisecond {
		t.Errorf("nobody was served for %v, not longer", got)
	}
	short, cancel := context.WithTimeout(ctx, 20*time.Millisecond)
	defer cancel()
	if err := w.GapAfter(short, time.Now(), time.Hour); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("waiting for ever: %v", err)
	}
	w.Stop()
	if err := w.OKAfter(ctx, time.Now()); !errors.Is(err, context.Canceled) {
		t.Errorf("after its end: %v", err)
	}
}
