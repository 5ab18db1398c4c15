package node_test

import (
	"context"
	"errors"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"sipha/registrard/location"
	"sipha/registrard/node"
	"sipha/registrard/replica"
	"sipha/registrard/store"
)

// A disk that is slow makes its own node late and nobody else.
func TestSlowDisk(t *testing.T) {
	inCluster(t, 3, func(c *cluster) {
		p := started(c)
		slow := c.nodes[3]
		slow.disk.onWrite(func(store.Batch) error { <-time.After(2 * time.Second); return nil })
		begin := time.Now()
		const phones = 500
		for n := range phones {
			p.registered(phone(aor(n), contactOf(n), expires, 1))
		}
		if took := time.Since(begin); took > time.Second {
			t.Fatalf("%d phones took %s", phones, took)
		}
		if s := slow.Status(); time.Since(s.At) > time.Second {
			t.Fatalf("its loop stands still: %+v", s)
		}
		slow.disk.onWrite(nil)
		c.same()
		c.eventually("stored", func() bool {
			_, last, applied := slow.db.Position()
			return applied.Index > 0 && last.Index >= p.Status().Committed-1
		})
	})
}

// A disk that does not come back ends the daemon, which says why: a replica's, and a primary's that others have kept committing.
func TestDiskThatHangs(t *testing.T) {
	for name, id := range map[string]location.NodeID{"Replica": 3, "Primary": 1} {
		t.Run(name, func(t *testing.T) {
			inCluster(t, 3, func(c *cluster) {
				p := started(c)
				release := make(chan struct{})
				hung := c.nodes[id]
				hung.disk.onWrite(func(store.Batch) error { <-release; return nil })
				p.registered(phone(alice, aliceDesk, expires, 1))
				begin := time.Now()
				err := <-hung.done
				if err == nil || !strings.Contains(err.Error(), "disk") {
					t.Fatalf("ended with %v", err)
				}
				if took := time.Since(begin); took > node.DiskStallMax+5*time.Second {
					t.Fatalf("took %s", took)
				}
				close(release)
				hung.done <- nil
				hung.reap(false)
				if id == 1 {
					p = c.promoted(2)
				}
				p.registered(phone(alice, aliceOther, expires, 1))
			})
		})
	}
}

// When the disk fails nothing is receipted any more, and the daemon ends with an error that says what failed. What was answered is
// with the others (P1).
func TestDiskFails(t *testing.T) {
	for name, id := range map[string]location.NodeID{"Replica": 3, "Primary": 1} {
		t.Run(name, func(t *testing.T) {
			inCluster(t, 3, func(c *cluster) {
				p := started(c)
				broken := c.nodes[id]
				p.registered(phone(alice, aliceDesk, expires, 1))
				broken.disk.onWrite(func(store.Batch) error { return &store.Error{Op: "write", Path: "location.db", Err: store.ErrFull} })
				pending := p.registering(phone(alice, aliceOther, expires, 1))
				err := <-broken.done
				if !errors.Is(err, store.ErrFull) || !strings.Contains(err.Error(), "write to the database") || !strings.Contains(err.Error(), "free some space") {
					t.Fatalf("ended with %v", err)
				}
				broken.done <- nil
				broken.reap(false)
				a, err := wait(c, pending)
				if id == 1 {
					p = c.promoted(2)
				} else if err != nil {
					t.Fatal(err)
				}
				l, lerr := p.lookup(alice)
				if lerr != nil || len(l.Bindings) < 1 || err == nil && len(l.Bindings) != len(a.Bindings) {
					t.Fatalf("answered %+v, %v; found %+v, %v", a, err, l, lerr)
				}
				broken.disk.onWrite(nil)
				broken.start()
				c.same()
			})
		})
	}
}

func TestPromiseCannotBeStored(t *testing.T) {
	inCluster(t, 3, func(c *cluster) {
		started(c)
		c.nodes[1].crash()
		c.nodes[3].disk.promise = store.ErrPermission
		c.nodes[3].onSend(func(m replica.Message) error {
			if _, ok := m.(*replica.Grant); ok {
				t.Error("granted")
			}
			return nil
		})
		go func() { _ = c.nodes[2].Promote(context.Background()) }()
		err := <-c.nodes[3].done
		if !errors.Is(err, store.ErrPermission) || !strings.Contains(err.Error(), "promise") {
			t.Fatalf("ended with %v", err)
		}
		c.nodes[3].done <- nil
		c.nodes[3].reap(false)
		c.nodes[3].disk.promise = nil
	})
}

// The group is lost while the disk has work to do: the next session begins when that is done, and believes nothing to be stored that
// is not. checkedGroup sees to the receipts.
func TestGroupLostBeforeTheDiskHasWritten(t *testing.T) {
	inCluster(t, 3, func(c *cluster) {
		p := started(c)
		behind := c.nodes[2]
		gate := make(chan struct{})
		behind.disk.onWrite(func(store.Batch) error { <-gate; return nil })
		for n := range 50 {
			p.registered(phone(aor(n), contactOf(n), expires, 1))
		}
		synctest.Wait()
		_, stored, _ := behind.db.Position()
		behind.kill()
		<-time.After(3 * node.RedialPause)
		if s := behind.Status(); s.Link == node.LinkJoined && s.Last.Index > stored.Index && incarnationOf(c, 1, 2) != 0 {
			t.Fatalf("joined again with a log up to %d, of which %d are stored", s.Last.Index, stored.Index)
		}
		close(gate)
		p.registered(phone(alice, aliceDesk, expires, 1))
		c.eventually("back", func() bool { return behind.Status().Synced })
		c.same()
	})
}

// A replica whose content differs is outvoted: its database is set aside, and the node comes back as another voter with the right
// content (P3).
func TestSetAside(t *testing.T) {
	inCluster(t, 3, func(c *cluster) {
		p := started(c)
		for n := range 20 {
			p.registered(phone(aor(n), contactOf(n), expires, 1))
		}
		c.same()
		wrong := c.nodes[3]
		was, aside := wrong.spoil()
		p.registered(phone(alice, aliceOther, expires, 1))
		c.eventually("set aside", func() bool { return aside.Load() == 1 })
		c.same()
		if wrong.has(alice, aliceDesk) {
			t.Fatal("the wrong binding is still there")
		}
		if wrong.db.Disk() == was {
			t.Fatal("the database has the same name as before")
		}
		c.eventually("a voter again", func() bool { return wrong.Status().Voter && wrong.Status().Synced })
	})
}

// A primary whose content differs from that of the majority steps down, and sets its database aside.
func TestSetAsideAsPrimary(t *testing.T) {
	inCluster(t, 3, func(c *cluster) {
		p := started(c)
		p.registered(phone(alice, aliceOther, expires, 1))
		c.same()
		was, aside := p.spoil()
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		c.eventually("score", func() bool { return p.Status().Score == replica.ScoreSynced })
		_ = p.Promote(ctx) // it may serve for a moment
		c.eventually("set aside", func() bool { return aside.Load() == 1 })
		c.eventually("no primary any more", func() bool { return !p.Serving() && !p.Status().Promoted })
		if wrong := p.db.Disk(); wrong == was {
			t.Fatal("the database has the same name as before")
		}
		for _, id := range []location.NodeID{2, 3} {
			if i := c.nodes[id]; !i.has(alice, aliceOther) || i.has(alice, aliceDesk) || i.digest() != c.nodes[2].digest() {
				t.Fatalf("node %d has %+v", id, i.bindings(alice))
			}
		}
	})
}

// spoil starts a node anew with a binding in its content that nobody has made. It returns how its database was called, and counts how
// often one is set aside.
func (i *instance) spoil() (was location.DiskID, aside *atomic.Int32) {
	i.c.Helper()
	if err := i.halt(); err != nil {
		i.c.Fatal(err)
	}
	was, aside = i.db.Disk(), new(atomic.Int32)
	i.tune = func(o *node.Options) {
		o.Boot.State.Apply(o.Boot.Time, []location.Change{&location.BindingsChange{
			AOR: alice, Put: []location.Binding{{Contact: aliceDesk, Q: -1, Expires: o.Boot.Time + 1e9, CallID: "bits", Created: o.Boot.Time}},
		}})
		o.Observe = &observer{setAside: func() { aside.Add(1) }}
	}
	i.start()
	i.c.eventually("primary", func() bool { return i.Status().Primary == 1 || i.id == 1 })
	return was, aside
}

type observer struct {
	committed func()
	setAside  func()
}

func (o *observer) Committed(int, time.Duration) {
	if o.committed != nil {
		o.committed()
	}
}
func (o *observer) Synced(time.Duration) {}
func (o *observer) SetAside() {
	if o.setAside != nil {
		o.setAside()
	}
}

// A loop that stands still shows: in Status, in Serving, and to who gives orders.
func TestLoopStandsStill(t *testing.T) {
	inCluster(t, 3, func(c *cluster) {
		release, stopped := make(chan struct{}), make(chan struct{})
		var stop atomic.Bool
		c.nodes[1].tune = func(o *node.Options) {
			o.Observe = &observer{committed: func() {
				if stop.CompareAndSwap(true, false) {
					close(stopped)
					<-release
				}
			}}
		}
		p := started(c)
		stop.Store(true)
		pending := p.registering(phone(alice, aliceDesk, expires, 1))
		<-stopped
		c.eventually("shown", func() bool { return p.Status().State == replica.StateFailed })
		if s := p.Status(); s.Serving || s.Score != replica.ScoreNone || !strings.Contains(s.Reason, "stood still") {
			t.Fatalf("%+v", s)
		}
		_, err := p.register(phone(alice, aliceOther, expires, 1))
		c.mustBe(err, node.ErrNotServing)
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		if err := p.Demote(ctx); err == nil {
			t.Fatal("demoted")
		}
		close(release)
		if _, err := wait(c, pending); err != nil {
			t.Fatal(err)
		}
		c.eventually("goes on", func() bool { return p.Serving() && p.Status().Serving })
	})
}
