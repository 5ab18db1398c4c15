package node_test

import (
	"context"
	"strings"
	"sync"
	"testing"
	"time"

	"sipha/registrard/cpg"
	"sipha/registrard/cpg/cpgtest"
	"sipha/registrard/location"
	"sipha/registrard/node"
	"sipha/registrard/replica"
)

func user(aor string) location.User {
	return location.User{AOR: location.AOR(aor), Username: "alice", Realm: "example.org", Has: 1 << location.SHA256, SHA256: [32]byte{1, 2, 3}}
}

// Commands have the same outcome on the primary and on a replica, and everybody has their effect.
func TestCommands(t *testing.T) {
	for _, at := range []location.NodeID{1, 3} {
		t.Run(map[location.NodeID]string{1: "Primary", 3: "Replica"}[at], func(t *testing.T) {
			inCluster(t, 3, func(c *cluster) {
				p := started(c)
				i := c.nodes[at]
				put := &node.Command{PutUsers: &node.PutUsers{Users: []location.User{user(alice)}}}
				if o := i.do(put, 200); o.Detail != "1" {
					t.Fatalf("detail %q", o.Detail)
				}
				i.do(put, 409)
				put.PutUsers.Replace = true
				i.do(put, 200)
				c.eventually("user everywhere", func() bool {
					for _, n := range c.nodes {
						if u, ok := n.User(alice); !ok || u != user(alice) {
							return false
						}
					}
					return true
				})
				p.registered(phone(alice, aliceDesk, expires, 1))
				p.registered(phone(alice, aliceOther, expires, 1))
				remove := &node.Command{RemoveContact: &node.RemoveContact{AOR: alice, Contact: aliceDesk}}
				if o := i.do(remove, 200); o.Detail != "1" {
					t.Fatalf("detail %q", o.Detail)
				}
				i.do(remove, 404)
				// What was removed does not come back with a late duplicate of its REGISTER (P2).
				if a, err := p.register(phone(alice, aliceDesk, expires, 1)); err != nil || a.Status == 200 || p.has(alice, aliceDesk) {
					t.Fatalf("a duplicate was answered %d, %v", a.Status, err)
				}
				remove.RemoveContact.Contact = ""
				i.do(remove, 200)
				gone := location.AOR(alice)
				i.do(&node.Command{RemoveUser: &gone}, 200)
				i.do(&node.Command{RemoveUser: &gone}, 404)
				i.do(&node.Command{Probe: &gone}, 200)
				i.do(&node.Command{}, 400)
				i.do(&node.Command{Probe: &gone, RemoveUser: &gone}, 400)
				c.eventually("gone everywhere", func() bool {
					_, ok := c.nodes[2].User(alice)
					return !ok && len(c.nodes[2].bindings(alice)) == 0
				})
				c.same()
			})
		})
	}
}

// No command may leave in every log what no replica can take in.
func TestCommandThatCannotBeStored(t *testing.T) {
	inCluster(t, 3, func(c *cluster) {
		p := started(c)
		bad := user(strings.Repeat("a", location.StringBytesMax+1))
		for _, i := range []*instance{p, c.nodes[2]} {
			i.do(&node.Command{PutUsers: &node.PutUsers{Users: []location.User{bad}}}, 400)
		}
		p.registered(phone(alice, aliceDesk, expires, 1))
		c.same()
		if s := p.Status(); !s.Serving {
			t.Fatalf("%+v", s)
		}
	})
}

// A command is tried again over a failover, and done once: the second primary finds the first one's outcome.
func TestCommandOverFailover(t *testing.T) {
	inCluster(t, 3, func(c *cluster) {
		p := started(c)
		// The primary's outcome is committed, and node 3 does not hear of it: only the commit index is missing there.
		c.fault(func(w *cpgtest.World) { w.Partition([]cpg.NodeID{3}) })
		c.eventually("node 3 is cut off", func() bool { return !c.nodes[3].Status().Quorate })
		outcome := make(chan location.Outcome, 1)
		var once sync.WaitGroup
		once.Go(func() {
			o, err := c.nodes[3].Do(context.Background(), &node.Command{PutUsers: &node.PutUsers{Users: []location.User{user(alice)}}})
			if err != nil {
				t.Error(err)
			}
			outcome <- o
		})
		<-time.After(time.Second)
		p.crash()
		c.fault(heal)
		q := c.promoted(2)
		once.Wait()
		if o := <-outcome; o.Status != 200 {
			t.Fatalf("outcome %+v", o)
		}
		if _, ok := q.User(alice); !ok {
			t.Fatal("no user")
		}
	})
}

// The primary dies between carrying a command out and telling: it is sent again, and not done again. A second time would be a 409.
func TestCommandIsDoneOnce(t *testing.T) {
	inCluster(t, 3, func(c *cluster) {
		forwards := 0
		var mu sync.Mutex
		c.nodes[3].onSend(func(m replica.Message) error {
			if _, ok := m.(*replica.Forward); ok {
				mu.Lock()
				defer mu.Unlock()
				forwards++
			}
			return nil
		})
		p := started(c)
		// The primary's Appends reach node 2 and not node 3, which therefore has no outcome: only after the failover.
		c.net.Hold()
		done := make(chan location.Outcome, 1)
		go func() {
			o, err := c.nodes[3].Do(context.Background(), &node.Command{PutUsers: &node.PutUsers{Users: []location.User{user(alice)}}})
			if err != nil {
				t.Error(err)
			}
			done <- o
		}()
		c.eventually("primary has the command", func() bool {
			c.fault(func(w *cpgtest.World) { deliverExcept(w, 3) })
			_, ok := p.User(alice)
			return ok
		})
		if _, ok := c.nodes[3].User(alice); ok {
			t.Fatal("node 3 has it already")
		}
		p.crash()
		c.net.Release()
		c.eventually("node 2 is alone with node 3", func() bool { return c.nodes[2].Status().Primary == 0 })
		c.promoted(2)
		if o := <-done; o.Status != 200 {
			t.Fatalf("outcome %+v", o)
		}
		mu.Lock()
		defer mu.Unlock()
		if forwards < 1 {
			t.Fatalf("forwarded %d times", forwards)
		}
		c.same()
	})
}

// A command comes twice to the primary that carries it out, since its outcome took long: the second time does nothing.
func TestCommandComesTwice(t *testing.T) {
	for name, at := range map[string]location.NodeID{"Forwarded": 3, "Own": 1} {
		t.Run(name, func(t *testing.T) {
			inCluster(t, 3, func(c *cluster) {
				p := started(c)
				c.net.Hold()
				done := make(chan location.Outcome, 1)
				go func() {
					o, err := c.nodes[at].Do(context.Background(), &node.Command{PutUsers: &node.PutUsers{Users: []location.User{user(alice)}}})
					if err != nil {
						t.Error(err)
					}
					done <- o
				}()
				<-time.After(node.AnswerTimeout + time.Second) // its own try is out of time, or it is forwarded again
				c.net.Release()
				if o := <-done; o.Status != 200 {
					t.Fatalf("outcome %+v", o)
				}
				c.same()
				p.View(func(s *location.State) {
					for change := range s.Rebuild() {
						if o, ok := change.(*location.OutcomeChange); ok && o.Outcome.Status != 200 {
							t.Errorf("kept: %+v", o.Outcome)
						}
					}
				})
			})
		})
	}
}

// A command that nobody can carry out ends with its caller's time.
func TestCommandWithoutPrimary(t *testing.T) {
	inCluster(t, 3, func(c *cluster) {
		for _, i := range c.nodes {
			i.start()
		}
		ctx, cancel := context.WithTimeout(context.Background(), 3*time.Second)
		defer cancel()
		begin := time.Now()
		_, err := c.nodes[2].Do(ctx, &node.Command{Probe: new(location.AOR)})
		c.mustBe(err, node.ErrNoPrimary)
		if took := time.Since(begin); took > 4*time.Second {
			t.Fatalf("took %s", took)
		}
		_, err = c.nodes[2].Do(context.Background(), &node.Command{Probe: new(location.AOR)})
		c.mustBe(err, node.ErrNoPrimary)
		if took := time.Since(begin); took > node.CommandTimeout+5*time.Second {
			t.Fatalf("took %s", took)
		}
	})
}

func TestCommandTooLarge(t *testing.T) {
	inCluster(t, 1, func(c *cluster) {
		p := started(c)
		users := make([]location.User, 4*node.UsersPerCommand)
		if _, err := p.Do(context.Background(), &node.Command{PutUsers: &node.PutUsers{Users: users}}); err == nil {
			t.Fatal("taken")
		}
		for n := range users[:node.UsersPerCommand] {
			users[n] = user(aor(n))
		}
		p.do(&node.Command{PutUsers: &node.PutUsers{Users: users[:node.UsersPerCommand]}}, 200)
	})
}
