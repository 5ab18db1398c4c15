package node_test

import (
	"context"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"sipha/registrard/location"
	"sipha/registrard/node"
	"sipha/registrard/replica"
)

func TestRegisterIsOnAllNodesBeforeLong(t *testing.T) {
	inCluster(t, 3, func(c *cluster) {
		p := started(c)
		a := p.registered(phone(alice, aliceDesk, expires, 1))
		if len(a.Bindings) != 1 || a.Bindings[0].Contact != aliceDesk {
			t.Fatalf("answered with %+v", a.Bindings)
		}
		if !p.has(alice, aliceDesk) {
			t.Fatal("answered before it was committed")
		}
		c.eventually("binding on all nodes", func() bool { return c.nodes[2].has(alice, aliceDesk) && c.nodes[3].has(alice, aliceDesk) })
		c.same()
		c.eventually("counts", func() bool { return c.nodes[3].Status().Counts.Bindings == 1 })
	})
}

func TestQueriesAndRefusals(t *testing.T) {
	inCluster(t, 3, func(c *cluster) {
		p := started(c)
		p.registered(phone(alice, aliceDesk, expires, 1))
		query := &location.Request{AOR: alice, CallID: "q", CSeq: 1, Expires: -1}
		if a := p.registered(query); len(a.Bindings) != 1 {
			t.Fatalf("query answered with %+v", a.Bindings)
		}
		bad := phone(alice, aliceDesk, expires, 2)
		bad.Star = true
		if a, err := p.register(bad); err != nil || a.Status != 400 {
			t.Fatalf("answered %d, %v", a.Status, err)
		}
		l, err := p.lookup(alice)
		if err != nil || !l.Known || len(l.Bindings) != 1 || l.Now == 0 {
			t.Fatalf("lookup %+v, %v", l, err)
		}
		if l, err = p.lookup("sip:nobody@example.org"); err != nil || l.Known {
			t.Fatalf("lookup %+v, %v", l, err)
		}
	})
}

func TestReplicaDoesNotServe(t *testing.T) {
	inCluster(t, 3, func(c *cluster) {
		p := started(c)
		if !p.Serving() {
			t.Fatal("the primary does not serve")
		}
		for _, id := range []location.NodeID{2, 3} {
			i := c.nodes[id]
			if i.Serving() {
				t.Fatalf("node %d serves", id)
			}
			_, err := i.register(phone(alice, aliceDesk, expires, 1))
			c.mustBe(err, node.ErrNotServing)
			_, err = i.lookup(alice)
			c.mustBe(err, node.ErrNotServing)
		}
	})
}

// A burst fills several entries, and everybody in it is answered.
func TestBurst(t *testing.T) {
	inCluster(t, 3, func(c *cluster) {
		p := started(c)
		const phones = 2000
		var answers []<-chan answer[location.Answer]
		var lookups []<-chan answer[location.Lookup]
		for n := range phones {
			answers = append(answers, p.registering(phone(aor(n), contactOf(n), expires, 1)))
			if n%10 == 0 {
				done, ch := asking[location.Lookup](c)
				p.Lookup(location.AOR(aor(n)), done)
				lookups = append(lookups, ch)
			}
		}
		for n, ch := range answers {
			if a, err := wait(c, ch); err != nil || a.Status != 200 {
				t.Fatalf("phone %d: %d, %v", n, a.Status, err)
			}
		}
		for n, ch := range lookups {
			if l, err := wait(c, ch); err != nil || len(l.Bindings) != 1 {
				t.Fatalf("lookup %d, asked after its REGISTER: %+v, %v", n, l, err)
			}
		}
		c.same()
		if got := c.nodes[2].counts().Bindings; got != phones {
			t.Fatalf("%d bindings", got)
		}
	})
}

// What has run out is gone on all nodes within a second, and a nonce key is there all the time.
func TestExpiry(t *testing.T) {
	inCluster(t, 3, func(c *cluster) {
		p := started(c)
		c.eventually("key", func() bool { return len(c.nodes[2].Keys()) == 1 && len(p.Keys()) == 1 })
		const brief = 10
		p.registered(phone(alice, aliceDesk, brief, 1))
		begin := time.Now()
		c.eventually("gone everywhere", func() bool {
			for _, i := range c.nodes {
				if len(i.bindings(alice)) > 0 {
					return false
				}
			}
			return true
		})
		if took := time.Since(begin); took < brief*time.Second || took > (brief+1)*time.Second {
			t.Fatalf("gone after %s", took)
		}
		c.same()
	})
}

// Many contacts of many phones run out at once: that is more than one message of the group takes.
func TestExpiryOfMany(t *testing.T) {
	inCluster(t, 3, func(c *cluster) {
		p := started(c)
		const phones, contacts = 300, 8
		for n := range phones {
			req := phone(aor(n), contactOf(n), 5, 1)
			for k := 1; k < contacts; k++ {
				req.Contacts = append(req.Contacts, location.Contact{URI: contactOf(n*contacts+k) + ";a-rather-long-parameter=" + strings.Repeat("x", 200), Q: -1, Expires: 5})
			}
			p.registered(req)
		}
		was := c.nodes[1].Status()
		if got := p.counts().Bindings; got != phones*contacts {
			t.Fatalf("%d bindings", got)
		}
		c.eventually("gone", func() bool { return p.counts().Bindings == 0 })
		c.same()
		if now := c.nodes[1].Status(); now.Epoch != was.Epoch || !now.Serving {
			t.Fatalf("from %s to %+v", was.Epoch, now)
		}
	})
}

// The key is a new one after an hour, and the old one goes when its nonces have run out.
func TestKeyRotation(t *testing.T) {
	inCluster(t, 1, func(c *cluster) {
		p := started(c)
		c.eventually("key", func() bool { return len(p.Keys()) == 1 })
		first := p.Keys()[0]
		if err := p.halt(); err != nil {
			t.Fatal(err)
		}
		<-time.After(node.KeyLife + time.Second) // it counts as ordered time, up to AddedMax
		p.start()
		c.promoted(1)
		c.eventually("second key", func() bool { return len(p.Keys()) == 2 })
		if ks := p.Keys(); ks[0] != first || ks[1].ID != first.ID+1 || ks[1].Secret == first.Secret {
			t.Fatalf("keys %v after %v", ks, first)
		}
		if err := p.halt(); err != nil {
			t.Fatal(err)
		}
		<-time.After(10 * time.Minute) // more than a nonce's life
		p.start()
		c.promoted(1)
		c.eventually("first key gone", func() bool { return len(p.Keys()) == 1 })
		if ks := p.Keys(); ks[0].ID != first.ID+1 {
			t.Fatalf("keys %v", ks)
		}
	})
}

// Ordered time goes on through an outage, and is nobody's wall clock.
func TestOrderedTime(t *testing.T) {
	inCluster(t, 3, func(c *cluster) {
		p := started(c)
		before := p.Now()
		p.View(func(s *location.State) {
			if since := before - s.Now(); since < 0 || since > 1000 {
				t.Fatalf("%d ms after the first entry", since)
			}
		})
		begin := time.Now()
		p.halt()
		c.eventually("others notice", func() bool { return c.nodes[2].Status().Primary == 0 })
		<-time.After(20 * time.Second)
		p = c.promoted(2)
		c.eventually("time goes on", func() bool {
			passed, counted := time.Since(begin), time.Duration(p.Now()-before)*time.Millisecond
			return counted > passed-time.Second && counted < passed+time.Second
		})
	})
}

func TestDemoteWaitsForWhatIsInFlight(t *testing.T) {
	inCluster(t, 3, func(c *cluster) {
		p := started(c)
		c.net.Hold() // what is proposed goes nowhere
		pending := p.registering(phone(alice, aliceDesk, expires, 1))
		synctest.Wait() // it is decided
		demoted := make(chan error, 1)
		go func() { demoted <- p.Demote(context.Background()) }()
		c.eventually("draining", func() bool { return !p.Serving() })
		select {
		case err := <-demoted:
			t.Fatalf("demoted at once, with a request in flight: %v", err)
		default:
		}
		_, err := p.register(phone(alice, aliceOther, expires, 1))
		c.mustBe(err, node.ErrNotServing)
		c.net.Release()
		if err := <-demoted; err != nil {
			t.Fatal(err)
		}
		if a, err := wait(c, pending); err != nil || a.Status != 200 {
			t.Fatalf("in flight at the demotion: %d, %v", a.Status, err)
		}
		if s := p.Status(); s.Promoted || s.Serving {
			t.Fatalf("after the demotion: %+v", s)
		}
		if err := p.Demote(context.Background()); err != nil {
			t.Fatalf("second demotion: %v", err)
		}
	})
}

// What cannot be committed does not hold a demotion up for ever.
func TestDemoteGivesUpOnWhatIsInFlight(t *testing.T) {
	inCluster(t, 3, func(c *cluster) {
		p := started(c)
		c.net.Hold()
		pending := p.registering(phone(alice, aliceDesk, expires, 1))
		synctest.Wait() // it is decided
		begin := time.Now()
		if err := p.Demote(context.Background()); err != nil {
			t.Fatal(err)
		}
		if took := time.Since(begin); took < node.DrainTimeout || took > 2*node.DrainTimeout {
			t.Fatalf("took %s", took)
		}
		_, err := wait(c, pending)
		c.mustBe(err, node.ErrUnknown)
		c.net.Release()
	})
}

func TestPromoteHasADeadline(t *testing.T) {
	inCluster(t, 3, func(c *cluster) {
		c.nodes[1].start() // alone of three, without quorum
		c.fault(partition(1))
		ctx, cancel := context.WithTimeout(context.Background(), 3*time.Second)
		defer cancel()
		begin := time.Now()
		if err := c.nodes[1].Promote(ctx); err == nil {
			t.Fatal("promoted without a quorum")
		}
		if took := time.Since(begin); took < 3*time.Second || took > 3*time.Second+node.OrderGrace {
			t.Fatalf("took %s", took)
		}
		c.eventually("demoted again", func() bool { return !c.nodes[1].Status().Promoted })
	})
}

// A later word takes back an earlier one that is not carried out.
func TestDemoteEndsPromote(t *testing.T) {
	inCluster(t, 3, func(c *cluster) {
		i := c.nodes[1].start()
		promoted := make(chan error, 1)
		go func() { promoted <- i.Promote(context.Background()) }()
		c.eventually("claiming", func() bool { return i.Status().Promoted })
		if err := i.Demote(context.Background()); err != nil {
			t.Fatal(err)
		}
		c.mustBe(<-promoted, node.ErrNotServing)
		if s := i.Status(); s.State == replica.StateClaiming {
			t.Fatalf("still %s", s.State)
		}
	})
}

func TestBootstrapByOrder(t *testing.T) {
	inCluster(t, 3, func(c *cluster) {
		c.nodes[1].start()
		c.nodes[2].start()
		c.eventually("quorum", func() bool { return c.nodes[1].Status().Quorate && c.nodes[2].Status().Quorate })
		if s := c.nodes[1].Status(); s.Score != replica.ScoreNone {
			t.Fatalf("score %d without all expected nodes", s.Score)
		}
		if err := c.nodes[1].Bootstrap(context.Background()); err != nil {
			t.Fatal(err)
		}
		p := c.promoted(1)
		p.registered(phone(alice, aliceDesk, expires, 1))
	})
}
