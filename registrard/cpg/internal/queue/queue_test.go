package queue_test

import (
	"context"
	"errors"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"sipha/registrard/cpg/internal/queue"
)

var errEnd = errors.New("end")

func TestQueueKeepsOrderAndEndsWithItsError(t *testing.T) {
	t.Parallel()
	q := queue.New[int](10, 100)
	if !q.Put(1, 1, 2) || !q.Put(1, 3) {
		t.Fatal("a put within the limits is refused")
	}
	q.Fail(errEnd)
	q.Fail(errors.New("another"))
	if q.Put(1, 4) {
		t.Error("a put after the end is taken")
	}
	got, err := q.Next(t.Context())
	if diff := cmp.Diff([]int{1, 2, 3}, got); diff != "" || err != nil {
		t.Errorf("next: %v %s", err, diff)
	}
	for range 2 {
		if got, err := q.Next(t.Context()); !errors.Is(err, errEnd) || got != nil {
			t.Errorf("after the end: %v, %v", got, err)
		}
	}
}

func TestQueueHoldsItsLimits(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name  string
		bytes int
		items []int
		want  bool
	}{
		{"OK", 9, []int{2}, true},
		{"ErrItems", 1, []int{2, 3, 4}, false},
		{"ErrBytes", 10, []int{2}, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			q := queue.New[int](3, 10)
			q.Put(1, 1)
			if got := q.Put(tt.bytes, tt.items...); got != tt.want {
				t.Errorf("put: %v, want %v", got, tt.want)
			}
			q2, err := q.Next(t.Context())
			if err != nil || len(q2) != map[bool]int{true: 2, false: 1}[tt.want] {
				t.Errorf("next: %v %v", q2, err)
			}
			if !q.Put(10, 1, 2, 3) {
				t.Error("an emptied queue is still full")
			}
		})
	}
}

func TestQueueCloseDropsWhatIsInIt(t *testing.T) {
	t.Parallel()
	q := queue.New[int](3, 10)
	q.Put(1, 1)
	q.Fail(errors.New("before"))
	q.Close(errEnd)
	if got, err := q.Next(t.Context()); !errors.Is(err, errEnd) || got != nil {
		t.Errorf("next: %v, %v", got, err)
	}
	if !errors.Is(q.Err(), errEnd) {
		t.Errorf("err: %v", q.Err())
	}
}

func TestQueueWaitsNoLongerThanItsContext(t *testing.T) {
	t.Parallel()
	q := queue.New[int](3, 10)
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(errEnd)
	if _, err := q.Next(ctx); !errors.Is(err, errEnd) {
		t.Errorf("next: %v", err)
	}
}

func TestQueueWakesEveryReaderAtItsEnd(t *testing.T) {
	t.Parallel()
	q := queue.New[int](1000, 1000)
	var wg sync.WaitGroup
	var mu sync.Mutex
	seen := 0
	for range 8 {
		wg.Go(func() {
			for {
				items, err := q.Next(t.Context())
				if err != nil {
					return
				}
				mu.Lock()
				seen += len(items)
				mu.Unlock()
			}
		})
	}
	for i := range 1000 {
		if !q.Put(1, i) {
			t.Error("full")
		}
	}
	q.Fail(errEnd)
	wg.Wait()
	if seen != 1000 {
		t.Errorf("%d items came out, want 1000", seen)
	}
}
