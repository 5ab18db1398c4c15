package node_test

import (
	"context"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"sipha/registrard/cpg"
	"sipha/registrard/location"
	"sipha/registrard/node"
	"sipha/registrard/replica"
	"sipha/registrard/store"
)

// Content and log of the tests with snapshots: the content takes a hundred chunks, the log more than is kept.
const (
	bulkPhones = 300
	bulkBytes  = 15 << 10
	bulkRounds = 1 + store.LogBytesMax/(bulkPhones*bulkBytes)
)

// bulk fills content and log.
func bulk(c *cluster, p *instance) {
	c.Helper()
	for round := range bulkRounds {
		for n := range bulkPhones {
			req := phone(aor(n), contactOf(n), expires, 1)
			req.CallID, req.UserAgent = strings.Repeat("c", round+1), strings.Repeat(string(rune('a'+round)), bulkBytes)
			p.registered(req)
		}
	}
}

// withSnapshot starts a cluster in which the third node needs a snapshot, does something about that, starts it, does something more, and
// registers phones until it has caught up.
func withSnapshot(t *testing.T, empty bool, before func(c *cluster), after ...func(c *cluster)) {
	t.Helper()
	inCluster(t, 3, func(c *cluster) {
		p := started(c)
		p.registered(phone(alice, aliceDesk, expires, 1))
		late := c.nodes[3]
		c.eventually("first binding", func() bool { return late.has(alice, aliceDesk) })
		if err := late.halt(); err != nil {
			t.Fatal(err)
		}
		bulk(c, p)
		c.eventually("the log is trimmed, so that a snapshot is needed", func() bool { first, _, _ := p.db.Position(); return first > 2 })
		if empty {
			late.wipe()
		}
		before(c)
		late.start()
		for _, f := range after {
			f(c)
		}
		n := 0
		c.eventually("caught up under load", func() bool {
			p.registered(phone(aor(1000+n), contactOf(1000+n), expires, 1))
			n++
			return late.Status().Synced
		})
		if chunks := c.nodes[1].chunks.Load() + c.nodes[2].chunks.Load(); chunks < 50 {
			t.Fatalf("%d chunks came", chunks)
		}
		c.same()
		c.eventually("a voter", func() bool { return late.Status().Voter && late.Status().Score == replica.ScoreSynced })
	})
}

func TestSnapshot(t *testing.T) {
	t.Run("Empty", func(t *testing.T) { withSnapshot(t, true, func(*cluster) {}) })
	t.Run("Behind", func(t *testing.T) { withSnapshot(t, false, func(*cluster) {}) })
}

// The donor, which is the replica, loses its group in the middle: the primary goes on.
func TestSnapshotDonorLost(t *testing.T) {
	withSnapshot(t, true, func(c *cluster) {
		donor := c.nodes[2]
		var sent atomic.Int32
		donor.onSend(func(m replica.Message) error {
			if _, ok := m.(*replica.SnapshotChunk); ok && sent.Add(1) == 30 {
				return &cpg.Error{Op: "cpg_mcast_joined", Code: cpg.ErrLibrary}
			}
			return nil
		})
	})
}

// The joiner loses its group when all has come and nothing is installed: what is installed after the end of its session is what the
// next one starts from.
func TestSnapshotInstalledBetweenSessions(t *testing.T) {
	withSnapshot(t, true, func(c *cluster) {
		late := c.nodes[3]
		var once atomic.Bool
		late.disk.stage = func() {
			if !once.CompareAndSwap(false, true) {
				t.Error("staged again")
				return
			}
			<-time.After(time.Second) // the chunks come meanwhile
			if s := late.Status(); s.State != replica.StateSyncing {
				t.Errorf("state %s", s.State)
			}
			late.kill()
			<-time.After(time.Second)
		}
	})
}

// The outcome of a command comes back in a snapshot: whoever has sent it is told all the same.
func TestOutcomeComesWithSnapshot(t *testing.T) {
	done := make(chan location.Outcome, 1)
	withSnapshot(t, false, func(c *cluster) {
		late, p := c.nodes[3], c.nodes[1]
		late.onSend(func(m replica.Message) error {
			_, asks := m.(*replica.SnapshotRequest)
			if _, there := p.User(alice); asks && !there {
				return errLost // it is asked for again when the outcome is committed
			}
			return nil
		})
	}, func(c *cluster) {
		late := c.nodes[3]
		go func() {
			o, err := late.Do(context.Background(), &node.Command{PutUsers: &node.PutUsers{Users: []location.User{user(alice)}}})
			if err != nil {
				t.Error(err)
			}
			done <- o
		}()
	})
	if o := <-done; o.Status != 200 {
		t.Fatalf("outcome %+v", o)
	}
}
