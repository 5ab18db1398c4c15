package node_test

import (
	"context"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"sipha/registrard/cpg"
	"sipha/registrard/cpg/cpgtest"
	"sipha/registrard/location"
	"sipha/registrard/node"
	"sipha/registrard/replica"
)

// The primary's process dies; another node is promoted, and has what was answered (P1).
func TestPrimaryDies(t *testing.T) {
	inCluster(t, 3, func(c *cluster) {
		p := started(c)
		for n := range 100 {
			p.registered(phone(aor(n), contactOf(n), expires, 1))
		}
		p.crash()
		q := c.promoted(2)
		for n := range 100 {
			if l, err := q.lookup(location.AOR(aor(n))); err != nil || len(l.Bindings) != 1 {
				t.Fatalf("after the failover phone %d has %+v, %v", n, l, err)
			}
		}
		q.registered(phone(alice, aliceDesk, expires, 1))
		p.start()
		c.eventually("the first is a replica with everything", func() bool { return p.has(alice, aliceDesk) && p.Status().Synced })
		c.same()
	})
}

// Corosync goes away and comes back, under a primary with requests in flight: they are answered, the node joins again under another
// incarnation, and catches up.
func TestGroupLost(t *testing.T) {
	inCluster(t, 3, func(c *cluster) {
		p := started(c)
		p.registered(phone(alice, aliceDesk, expires, 1))
		was := incarnationOf(c, 2, 1)
		c.net.Hold()
		var pending []<-chan answer[location.Answer]
		for n := range 10 {
			pending = append(pending, p.registering(phone(aor(n), contactOf(n), expires, 1)))
		}
		synctest.Wait()
		p.kill()
		for _, ch := range pending {
			_, err := wait(c, ch)
			c.mustBe(err, node.ErrUnknown, node.ErrNotServing)
		}
		c.net.Release()
		if p.Serving() {
			t.Fatal("serves without a group")
		}
		c.eventually("back, as somebody else", func() bool {
			now := incarnationOf(c, 2, 1)
			return p.Status().Link == node.LinkJoined && now != was && now != 0
		})
		if s := p.Status(); s.Promoted {
			t.Fatal("still promoted: Pacemaker has not said so since")
		}
		q := c.promoted(3)
		q.registered(phone(alice, aliceOther, expires, 2))
		c.same()
		if !p.has(alice, aliceOther) {
			t.Fatal("the first is not up to date")
		}
	})
}

// incarnationOf is what a node knows of another's.
func incarnationOf(c *cluster, at, of location.NodeID) location.Incarnation {
	for _, m := range c.nodes[at].Status().Members {
		if m.Node == of {
			return m.Incarnation
		}
	}
	return 0
}

// A primary in the minority answers nothing with success (P4), is deposed when the others are back, and takes over what they have.
func TestPartition(t *testing.T) {
	inCluster(t, 3, func(c *cluster) {
		p := started(c)
		p.registered(phone(alice, aliceDesk, expires, 1))
		c.fault(partition(1))
		cut := time.Now()
		// It takes what comes for a second, in case the majority comes back; no answer of it is a success.
		var pending []<-chan answer[location.Answer]
		var asked int
		for asked = 0; time.Since(cut) < 2*time.Second; asked++ {
			pending = append(pending, p.registering(phone(aor(asked), contactOf(asked), expires, 1)))
			<-time.After(50 * time.Millisecond)
		}
		_, err := p.lookup(alice)
		c.mustBe(err, node.ErrNotServing, node.ErrTimeout)
		q := c.promoted(2)
		q.registered(phone(alice, aliceOther, expires, 1))
		for _, ch := range pending {
			_, err := wait(c, ch)
			c.mustBe(err, node.ErrTimeout, node.ErrNotServing, node.ErrUnknown)
		}
		c.fault(heal)
		c.eventually("deposed", func() bool { return p.Status().Epoch.Node != 1 })
		if err := p.Demote(context.Background()); err != nil { // so does its monitor
			t.Fatal(err)
		}
		if err := q.Promote(context.Background()); err != nil {
			t.Fatal(err)
		}
		c.eventually("resynced", func() bool { return p.Status().Synced && p.has(alice, aliceOther) })
		for n := range asked {
			if len(p.bindings(location.AOR(aor(n)))) > 0 {
				t.Fatalf("phone %d of the minority's has come through", n)
			}
		}
		c.same()
	})
}

// A short loss of the quorum suspends: what was asked meanwhile is answered when it is back.
func TestShortSuspension(t *testing.T) {
	inCluster(t, 3, func(c *cluster) {
		p := started(c)
		c.fault(partition(1))
		c.eventually("suspended", func() bool { return !p.Status().Serving })
		pending := p.registering(phone(alice, aliceDesk, expires, 1))
		done, read := asking[location.Lookup](c)
		p.Lookup(alice, done)
		synctest.Wait()
		<-time.After(100 * time.Millisecond)
		c.fault(heal)
		if a, err := wait(c, pending); err != nil || a.Status != 200 {
			t.Fatalf("%d, %v", a.Status, err)
		}
		if l, err := wait(c, read); err != nil || len(l.Bindings) != 1 {
			t.Fatalf("%+v, %v", l, err)
		}
		c.same()
	})
}

// More comes in than may be in flight while the group stands still: what is held is answered in time, one way or the other.
func TestHeldRequests(t *testing.T) {
	inCluster(t, 3, func(c *cluster) {
		p := started(c)
		c.net.Hold()
		begin := time.Now()
		var pending []<-chan answer[location.Answer]
		for n := range 600 {
			req := phone(aor(n), contactOf(n), expires, 1)
			req.UserAgent = strings.Repeat("x", bulkBytes) // few go into an entry, and one entry into a message
			pending = append(pending, p.registering(req))
		}
		for _, ch := range pending {
			_, err := wait(c, ch)
			c.mustBe(err, node.ErrTimeout, node.ErrNotServing, node.ErrUnknown)
		}
		if took := time.Since(begin); took > node.AnswerTimeout+3*time.Second {
			t.Fatalf("took %s", took)
		}
		c.net.Release()
		p.registered(phone(alice, aliceDesk, expires, 1)) // and it goes on
		c.same()
	})
}

// What is held is refused at once where nothing is decided any more.
func TestHeldRequestsAtDemotion(t *testing.T) {
	inCluster(t, 3, func(c *cluster) {
		p := started(c)
		c.net.Hold()
		const phones = 600
		var pending []<-chan answer[location.Answer]
		for n := range phones {
			req := phone(aor(n), contactOf(n), expires, 1)
			req.UserAgent = strings.Repeat("x", bulkBytes)
			pending = append(pending, p.registering(req))
		}
		synctest.Wait()
		demoted := make(chan error, 1)
		go func() { demoted <- p.Demote(context.Background()) }()
		synctest.Wait() // no time has passed
		refused := 0
		for _, ch := range pending {
			if len(ch) > 0 {
				_, err := wait(c, ch)
				c.mustBe(err, node.ErrNotServing)
				refused++
			} else {
				defer func() {
					_, err := wait(c, ch)
					c.mustBe(err, node.ErrUnknown, node.ErrNotServing)
				}()
			}
		}
		if refused == 0 || refused == phones {
			t.Fatalf("%d of %d refused", refused, phones)
		}
		if err := <-demoted; err != nil {
			t.Fatal(err)
		}
		c.net.Release()
	})
}

// More wait than may: who comes then is told at once.
func TestOverload(t *testing.T) {
	inCluster(t, 3, func(c *cluster) {
		p := started(c)
		c.net.Hold()
		query := &location.Request{AOR: alice, CallID: "q", CSeq: 1, Expires: -1}
		var pending []<-chan answer[location.Answer]
		for n := range node.WaitingMax {
			pending = append(pending, p.registering(query))
			if n%(node.RequestsMax/2) == 0 {
				synctest.Wait() // the loop has taken them
			}
		}
		synctest.Wait()
		begin := time.Now()
		_, err := p.register(query)
		c.mustBe(err, node.ErrOverloaded)
		if took := time.Since(begin); took > 0 {
			t.Fatalf("told after %s", took)
		}
		c.net.Release()
		for _, ch := range pending {
			if a, err := wait(c, ch); err != nil || a.Status != 200 {
				t.Fatalf("%d, %v", a.Status, err)
			}
		}
		p.registered(query)
	})
}

// The daemon ends with questions on their way: everybody is told.
func TestEndWithQuestions(t *testing.T) {
	inCluster(t, 3, func(c *cluster) {
		p := started(c)
		c.net.Hold()
		var pending []<-chan answer[location.Answer]
		for n := range 1000 {
			pending = append(pending, p.registering(phone(aor(n), contactOf(n), expires, 1)))
			if n == 500 {
				p.stop()
			}
		}
		for _, ch := range pending {
			_, err := wait(c, ch)
			c.mustBe(err, node.ErrUnknown, node.ErrNotServing, node.ErrClosed, node.ErrTimeout)
		}
		if err := p.halt(); err != nil {
			t.Fatal(err)
		}
		_, err := p.register(phone(alice, aliceDesk, expires, 1))
		c.mustBe(err, node.ErrNotServing, node.ErrClosed)
		c.mustBe(p.Promote(context.Background()), node.ErrClosed)
		c.mustBe(p.Demote(context.Background()), node.ErrClosed)
		_, err = p.Do(context.Background(), &node.Command{Probe: new(location.AOR)})
		c.mustBe(err, node.ErrClosed)
		if s := p.Status(); s.Link != node.LinkDisconnected {
			t.Fatalf("after its end: %+v", s)
		}
		c.net.Release()
	})
}

// Without a Corosync a node says so, refuses what it is asked, and joins when there is one.
func TestNoCorosync(t *testing.T) {
	inCluster(t, 1, func(c *cluster) {
		c.fault(func(w *cpgtest.World) { w.StopCorosync(1, 0) })
		p := c.nodes[1].start()
		c.eventually("told", func() bool { return p.Status().LastError != "" })
		if err := p.Demote(context.Background()); err != nil {
			t.Fatalf("demote: %v", err)
		}
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		if err := p.Promote(ctx); err == nil {
			t.Fatal("promoted without a group")
		}
		if _, err := p.Do(ctx, &node.Command{Probe: new(location.AOR)}); err == nil {
			t.Fatal("done without a group")
		}
		c.fault(func(w *cpgtest.World) { w.StartCorosync(1) })
		if err := p.Promote(context.Background()); err != nil { // it waits for the group
			t.Fatal(err)
		}
		p.registered(phone(alice, aliceDesk, expires, 1))
	})
}

// crash ends a node as SIGKILL does: the group is told, nothing is closed in order.
func (i *instance) crash() {
	i.c.Helper()
	i.c.fault(func(w *cpgtest.World) {
		for _, p := range w.Processes(cpg.NodeID(i.id)) {
			p.Kill()
		}
	})
	i.stop()
	if err := i.reap(false); err != nil {
		i.c.Fatalf("node %d: %v", i.id, err)
	}
}

// Corosync takes nothing from a replica for so long that its queue is full: it joins again, from what it has stored and applied.
func TestQueueToGroupFull(t *testing.T) {
	inCluster(t, 3, func(c *cluster) {
		p := started(c)
		stuck := c.nodes[2]
		was := incarnationOf(c, 1, 2)
		c.fault(func(w *cpgtest.World) { w.TryAgain(2, true) })
		for n := range node.OutQueueMax - 300 { // a receipt for each
			p.registered(phone(aor(n), contactOf(n), expires, 1))
		}
		n := node.OutQueueMax
		c.eventually("queue full", func() bool {
			// Alone, so that its commit comes in a marker, which brings something to be applied and a receipt at once.
			p.registered(phone(aor(n), contactOf(n), expires, 1))
			n++
			<-time.After(2 * replica.MarkInterval)
			return stuck.Status().LastError != ""
		})
		if s := stuck.Status(); !strings.Contains(s.LastError, "queue to the group is full") {
			t.Fatalf("%+v", s)
		}
		c.fault(func(w *cpgtest.World) { w.TryAgain(2, false) })
		c.eventually("back", func() bool {
			now := incarnationOf(c, 1, 2)
			return now != was && now != 0 && stuck.Status().Synced
		})
		c.same()
	})
}
