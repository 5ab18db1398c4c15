package lab

import (
	"fmt"
	"log/slog"
	"testing"
	"time"
)

func TestFaultsPlan(t *testing.T) {
	t.Parallel()
	const d = 20 * time.Millisecond
	for _, tc := range []struct {
		name      string
		faults    Faults
		direction string
		u, v      float64
		pass      bool
		hold      time.Duration
	}{
		{"Clean", Faults{}, In, 0, 0, true, 0},
		{"Delay", Faults{Delay: d}, Out, 0, 0.5, true, d},
		{"Lost", Faults{Loss: 10}, In, 0.09, 0.5, false, 0},
		{"NotLost", Faults{Loss: 10}, In, 0.1, 0.5, true, 0},
		{"AllLost", Faults{Loss: 100}, In, 0.999, 0.5, false, 0},
		{"Reordered", Faults{Delay: d, Reorder: 50}, In, 0.5, 0.49, true, 2 * d},
		{"ReorderedWithoutDelay", Faults{Reorder: 50}, In, 0.5, 0.49, true, reorderHoldMin},
		{"NotReordered", Faults{Delay: d, Reorder: 50}, In, 0.5, 0.5, true, d},
		{"OneWayCutHere", Faults{OneWay: In}, In, 0.5, 0.5, false, 0},
		{"OneWayCutThere", Faults{OneWay: In}, Out, 0.5, 0.5, true, 0},
		{"OneWayDelayHere", Faults{OneWay: Out, Delay: d}, Out, 0.5, 0.5, true, d},
		{"OneWayDelayThere", Faults{OneWay: Out, Delay: d}, In, 0.5, 0.5, true, 0},
	} {
		if pass, hold := tc.faults.plan(tc.direction, tc.u, tc.v); pass != tc.pass || hold != tc.hold {
			t.Errorf("%s: %t, %v, want %t, %v", tc.name, pass, hold, tc.pass, tc.hold)
		}
	}
}

func TestFaultsValidate(t *testing.T) {
	t.Parallel()
	for _, f := range []Faults{{Delay: -1}, {Delay: DelayMax + 1}, {Loss: -1}, {Loss: 101}, {Reorder: 101}, {OneWay: "up"}} {
		if f.Validate() == nil {
			t.Errorf("%+v was taken", f)
		}
	}
	if err := (Faults{Delay: time.Second, Loss: 1.5, Reorder: 100, OneWay: Out}).Validate(); err != nil {
		t.Error(err)
	}
}

func testLane(f Faults) *lane {
	return &lane{direction: In, faults: f, wake: make(chan struct{}, 1), log: slog.New(slog.DiscardHandler)}
}

// Frames leave in the order in which they came when their delay is the same, each not
// before its time.
func TestLaneKeepsOrderAndTime(t *testing.T) {
	t.Parallel()
	const d = 10 * time.Millisecond
	l := testLane(Faults{Delay: d})
	start := time.Now()
	for i := range 100 {
		l.push(fmt.Append(nil, i), start)
	}
	if data, wait, _ := l.next(start.Add(d - 1)); data != nil || wait != 1 {
		t.Errorf("before its time: %q, wait %v", data, wait)
	}
	for i := range 100 {
		if data, _, _ := l.next(start.Add(d)); string(data) != fmt.Sprint(i) {
			t.Fatalf("frame %d is %q", i, data)
		}
	}
	if data, wait, closed := l.next(start.Add(d)); data != nil || wait != 0 || closed {
		t.Errorf("empty lane: %q, %v, %t", data, wait, closed)
	}
}

func TestLaneDiscardsAndLimits(t *testing.T) {
	t.Parallel()
	l := testLane(Faults{Delay: time.Second})
	now := time.Now()
	for range wireQueueMax + 3 {
		l.push([]byte{1}, now)
	}
	if len(l.queue) != wireQueueMax || l.dropped != 3 {
		t.Errorf("%d queued, %d dropped", len(l.queue), l.dropped)
	}
	l.discard()
	if data, wait, _ := l.next(now.Add(time.Hour)); data != nil || wait != 0 {
		t.Errorf("after the power went: %q, %v", data, wait)
	}
	l.close()
	if _, _, closed := l.next(now); !closed {
		t.Error("a closed lane goes on")
	}
}
