package cpgtest_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"

	"go.uber.org/goleak"

	"sipha/registrard/cpg"
	"sipha/registrard/cpg/cpgtest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func join(t *testing.T, c *cpgtest.Cluster, id cpg.NodeID) *cpgtest.Group {
	t.Helper()
	g, err := c.Join(id, 100)
	if err != nil {
		t.Fatal(err)
	}
	return g
}

func TestGroupsSeeOneOrder(t *testing.T) {
	t.Parallel()
	c := cpgtest.NewCluster(three())
	const each = 500
	var groups []*cpgtest.Group
	for id := cpg.NodeID(1); id <= 3; id++ {
		groups = append(groups, join(t, c, id))
	}
	var wg sync.WaitGroup
	seen := make([][]string, len(groups))
	for i, g := range groups {
		wg.Go(func() {
			for k := range each {
				if err := g.Multicast(t.Context(), []byte(g.Self().String()), []byte(fmt.Sprint(" ", k))); err != nil {
					t.Errorf("multicast: %v", err)
					return
				}
			}
		})
		wg.Go(func() {
			for len(seen[i]) < each*len(groups) {
				events, err := g.Next(t.Context())
				if err != nil {
					t.Errorf("next: %v", err)
					return
				}
				for _, e := range events {
					if m, ok := e.(cpg.Message); ok {
						seen[i] = append(seen[i], string(m.Data))
					}
				}
			}
		})
	}
	wg.Wait()
	for i := range seen {
		for k := range seen[i] {
			if seen[i][k] != seen[0][k] {
				t.Fatalf("message %d is %q on one and %q on another", k, seen[i][k], seen[0][k])
			}
		}
	}
}

func TestGroupEnds(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name string
		end  func(c *cpgtest.Cluster, g *cpgtest.Group)
		want error
	}{
		{"ErrClosed", func(_ *cpgtest.Cluster, g *cpgtest.Group) { _ = g.Close() }, cpg.ErrClosed},
		{"ErrLibrary", func(c *cpgtest.Cluster, _ *cpgtest.Group) {
			c.Do(func(w *cpgtest.World) { w.StopCorosync(1, 100) })
		}, cpg.ErrLibrary},
		{"ErrPower", func(c *cpgtest.Cluster, _ *cpgtest.Group) {
			c.Do(func(w *cpgtest.World) { w.PowerOff(1) })
		}, cpg.ErrClosed},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			c := cpgtest.NewCluster(three())
			g := join(t, c, 1)
			failed := make(chan error, 1)
			go func() {
				for {
					if _, err := g.Next(t.Context()); err != nil {
						failed <- err
						return
					}
				}
			}()
			tt.end(c, g)
			if err := <-failed; !errors.Is(err, tt.want) {
				t.Errorf("next: %v, want %v", err, tt.want)
			}
			if _, err := g.Next(t.Context()); !errors.Is(err, tt.want) {
				t.Errorf("next again: %v, want %v", err, tt.want)
			}
			if err := g.TryMulticast(nil); !errors.Is(err, tt.want) {
				t.Errorf("multicast: %v, want %v", err, tt.want)
			}
		})
	}
}

func TestGroupWaitsNoLongerThanItsContext(t *testing.T) {
	t.Parallel()
	c := cpgtest.NewCluster(three())
	g := join(t, c, 1)
	if _, err := g.Next(t.Context()); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := g.Next(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("next: %v", err)
	}
	c.Do(func(w *cpgtest.World) { w.TryAgain(1, true) })
	err := g.Multicast(ctx, []byte("m"))
	if !errors.Is(err, context.Canceled) || !errors.Is(err, cpg.ErrTryAgain) {
		t.Errorf("multicast: %v", err)
	}
}

func TestHeldClusterGoesNowhere(t *testing.T) {
	t.Parallel()
	c := cpgtest.NewCluster(three())
	one, two := join(t, c, 1), join(t, c, 2)
	for _, g := range []*cpgtest.Group{one, two} {
		if _, err := g.Next(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	c.Hold()
	if err := one.TryMulticast([]byte("m")); err != nil {
		t.Fatal(err)
	}
	var err error
	c.Do(func(w *cpgtest.World) { err = w.Send(1, 1) })
	if err != nil {
		t.Fatal(err)
	}
	events, err := one.Next(t.Context())
	if err != nil || len(events) != 1 {
		t.Fatalf("%v, %v", events, err)
	}
	done, cancel := context.WithCancel(t.Context())
	cancel()
	if events, err := two.Next(done); err == nil {
		t.Fatalf("a held network delivered %v", events)
	}
	c.Release()
	if events, err := two.Next(t.Context()); err != nil || len(events) != 1 {
		t.Fatalf("%v, %v", events, err)
	}
}

func TestGroupLeavesAndAsksForQuorum(t *testing.T) {
	t.Parallel()
	c := cpgtest.NewCluster(three())
	g := join(t, c, 1)
	if _, err := g.Next(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := g.RequeryQuorum(t.Context()); err != nil {
		t.Fatal(err)
	}
	events, err := g.Next(t.Context())
	if q, ok := events[0].(cpg.Quorum); err != nil || !ok || !q.Quorate {
		t.Fatalf("%v, %v", events, err)
	}
	if err := g.Leave(t.Context()); err != nil {
		t.Fatal(err)
	}
	events, err = g.Next(t.Context())
	if e, ok := events[0].(cpg.ConfChange); err != nil || !ok || len(e.Members) != 0 || e.Left[0].Reason != cpg.ReasonLeave {
		t.Fatalf("%v, %v", events, err)
	}
}
