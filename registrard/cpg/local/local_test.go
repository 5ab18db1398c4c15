package local_test

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"sipha/registrard/cpg"
	"sipha/registrard/cpg/local"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestGroupBeginsLikeAnyOther(t *testing.T) {
	t.Parallel()
	g := local.Join(local.Options{Node: 7})
	events, err := g.Next(t.Context())
	if err != nil || len(events) != 3 {
		t.Fatalf("first events: %v, %v", events, err)
	}
	self := g.Self()
	if self.Node != 7 || self.PID == 0 {
		t.Errorf("self: %v", self)
	}
	ring := events[1].(cpg.RingChange).Ring
	want := []cpg.Event{
		cpg.ConfChange{Members: []cpg.Member{self}, Joined: []cpg.Change{{Member: self, Reason: cpg.ReasonJoin}}},
		cpg.RingChange{Ring: ring, Nodes: []cpg.NodeID{7}},
		cpg.Quorum{Quorate: true, Ring: ring, Nodes: []cpg.NodeID{7}},
	}
	if diff := cmp.Diff(want, events); diff != "" {
		t.Error(diff)
	}
	if ring.Node != 7 || ring.Seq == 0 {
		t.Errorf("ring %v", ring)
	}
}

func TestGroupDeliversItsOwnMessagesInOrder(t *testing.T) {
	t.Parallel()
	g := local.Join(local.Options{})
	const messages = 5000
	done := make(chan error, 1)
	go func() {
		for i := range messages {
			if err := g.Multicast(t.Context(), []byte("m"), []byte(fmt.Sprint(i))); err != nil {
				done <- err
				return
			}
		}
		done <- nil
	}()
	for next := 0; next < messages; {
		events, err := g.Next(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range events {
			m, ok := e.(cpg.Message)
			if !ok {
				continue
			}
			if want := fmt.Sprint("m", next); string(m.Data) != want || m.From != g.Self() {
				t.Fatalf("%v from %v, want %v", string(m.Data), m.From, want)
			}
			next++
		}
	}
	if err := <-done; err != nil {
		t.Error(err)
	}
}

func TestGroupIsAskedForQuorum(t *testing.T) {
	t.Parallel()
	g := local.Join(local.Options{})
	if err := g.RequeryQuorum(t.Context()); err != nil {
		t.Fatal(err)
	}
	events, err := g.Next(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(events[2], events[3]); diff != "" {
		t.Error(diff)
	}
}

func TestGroupCopiesWhatIsSent(t *testing.T) {
	t.Parallel()
	g := local.Join(local.Options{})
	data := []byte("before")
	if err := g.TryMulticast(data); err != nil {
		t.Fatal(err)
	}
	copy(data, "after!")
	events, err := g.Next(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if got := string(events[3].(cpg.Message).Data); got != "before" {
		t.Errorf("got %q", got)
	}
}

func TestGroupErrors(t *testing.T) {
	t.Parallel()
	small := local.Options{QueueEvents: 4, QueueBytes: 100}
	tests := []struct {
		name string
		o    local.Options
		do   func(*local.Group) error
		want error
	}{
		{"OKLargest", local.Options{}, func(g *local.Group) error { return g.TryMulticast(make([]byte, cpg.MaxMessage)) }, nil},
		{"ErrTooBig", local.Options{}, func(g *local.Group) error { return g.TryMulticast(make([]byte, cpg.MaxMessage), []byte{0}) }, cpg.ErrTooBig},
		{"ErrTooManyParts", local.Options{}, func(g *local.Group) error { return g.TryMulticast(make([][]byte, cpg.MaxParts+1)...) }, cpg.ErrTooBig},
		{"ErrTryAgainBytes", small, func(g *local.Group) error { return g.TryMulticast(make([]byte, 101)) }, cpg.ErrTryAgain},
		{"ErrTryAgainEvents", small, func(g *local.Group) error {
			return errors.Join(g.TryMulticast(nil), g.TryMulticast(nil))
		}, cpg.ErrTryAgain},
		{"ErrClosed", small, func(g *local.Group) error { return errors.Join(g.Close(), g.TryMulticast(nil)) }, cpg.ErrClosed},
		{"ErrClosedNext", small, func(g *local.Group) error {
			_, err := g.Next(context.Background())
			if err != nil {
				return fmt.Errorf("first: %s", err)
			}
			_ = g.Close() // never fails
			_, err = g.Next(context.Background())
			return err
		}, cpg.ErrClosed},
		{"ErrContext", small, func(g *local.Group) error {
			ctx, cancel := context.WithCancel(context.Background())
			cancel()
			return g.Multicast(ctx, make([]byte, 101))
		}, context.Canceled},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			if err := tt.do(local.Join(tt.o)); !errors.Is(err, tt.want) {
				t.Errorf("%v, want %v", err, tt.want)
			}
		})
	}
}
