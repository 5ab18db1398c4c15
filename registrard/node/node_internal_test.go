package node

import (
	"errors"
	"log/slog"
	"testing"

	"sipha/registrard/cpg"
	"sipha/registrard/location"
	"sipha/registrard/store"
)

func testNode() *Node {
	return New(Options{Boot: &store.Recovered{State: location.NewState()}, Log: slog.New(slog.DiscardHandler)})
}

// What is in the queue when everything ends is answered, and nothing is taken any more.
func TestShutAnswersWhatIsQueued(t *testing.T) {
	n := testNode()
	told := 0
	ask := func() error {
		return n.ask(&registerReq{done: func(_ location.Answer, err error) {
			if !errors.Is(err, ErrClosed) {
				t.Errorf("told %v", err)
			}
			told++
		}})
	}
	for range RequestsMax {
		if err := ask(); err != nil {
			t.Fatal(err)
		}
	}
	if err := ask(); !errors.Is(err, ErrOverloaded) {
		t.Fatalf("one too many: %v", err)
	}
	n.shut()
	if told != RequestsMax {
		t.Fatalf("%d of %d told", told, RequestsMax)
	}
	if err := ask(); !errors.Is(err, ErrClosed) {
		t.Fatalf("after the end: %v", err)
	}
}

// A batch that the core has no room for does not wake the loop: something else will.
func TestNoFlushWithoutRoom(t *testing.T) {
	n := testNode()
	l := newLoop(n, fakeGroup{}, newDisk(n), n.boot)
	l.primary.open = append(l.primary.open, &location.TimeChange{})
	if due := l.flushDue(); due != 0 {
		t.Fatalf("due in %s", due)
	}
}

type fakeGroup struct{ Group }

func (fakeGroup) Self() cpg.Member { return cpg.Member{Node: 1, PID: 1} }
