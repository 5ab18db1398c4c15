//go:build cluster

package acceptance

import (
	"slices"
	"strconv"
	"testing"
	"time"

	"sipha/scripts/internal/sipload"
)

const (
	bindings = 10_000
	devices  = 2 // of an account, at the most
	// pace is the light load during a fault, in registrations a second.
	pace = 150
	// steady is how many answers show that the registrar serves.
	steady    = pace
	steadyMax = 20 * time.Second
	// addedSlack is what rounding may add to the outages by which expiries may have been prolonged.
	addedSlack = 2 * time.Second
)

// fault is something that ends a primary's time.
type fault struct {
	name string
	do   func(t *testing.T, c stage, primary string)
	undo func(t *testing.T, c stage, primary string) // beyond power and cables
}

func faults() []fault {
	nothing := func(*testing.T, stage, string) {}
	return []fault{
		{"DaemonKilled", killDaemon, nothing},
		{"PowerOff", func(t *testing.T, c stage, p string) { c.PowerOff(t, p) }, nothing},
		{"Cut", func(t *testing.T, c stage, p string) { c.Cut(t, p) }, nothing},
		{"Move", func(t *testing.T, c stage, p string) {
			to := c.others(t, p)[0]
			c.Exec(t, to, "crm_resource", "--move", "--promoted", "--resource", group, "--node", to)
		}, func(t *testing.T, c stage, p string) {
			c.Exec(t, p, "crm_resource", "--clear", "--resource", group)
		}},
		{"CorosyncKilled", func(t *testing.T, c stage, p string) { c.Exec(t, p, "pkill", "-KILL", "-x", "corosync") }, nothing},
	}
}

func killDaemon(t *testing.T, c stage, node string) {
	s, err := c.ask(t.Context(), node)
	if err != nil || s.PID == 0 {
		t.Fatalf("the daemon's process on %s: %d, %v", node, s.PID, err)
	}
	c.Exec(t, node, "kill", "-9", strconv.Itoa(s.PID))
}

// Registrations survive the loss of their primary, whatever the loss (P1 to P3, P5), and the first 200 after it comes soon (P6).
func TestRegistrationsSurvive(t *testing.T) {
	c := enter(t)
	crowd := newCrowd(c.phones(t), sipload.Accounts(bindings, domain))
	c.settleIn(t, crowd)
	var added time.Duration
	for _, f := range faults() {
		t.Run(f.name, func(t *testing.T) {
			c := enter(t)
			added += c.survive(t, crowd, f, added)
		})
	}
}

// settleIn makes the users at a replica's command line, and registers, refreshes and removes.
func (c stage) settleIn(t *testing.T, crowd *crowd) {
	t.Helper()
	took := c.importUsers(t, c.replica(t), crowd.accounts)
	t.Logf("measured: %d users imported on a replica in %v", len(crowd.accounts), took.Round(time.Millisecond))
	first := func(i int, a sipload.Account) sipload.Registration { return phoneOf(i, a, crowd.host, 0) }
	second := func(i int, a sipload.Account) sipload.Registration { return phoneOf(i, a, crowd.host, 1) }
	for _, step := range []struct {
		what     string
		from, to int
		work     func(int, sipload.Account) sipload.Registration
	}{
		{"registered", 0, bindings, first},
		{"registered a second phone", 0, bindings / 20, second},
		{"refreshed", 0, bindings / 5, first},
		{"removed", bindings / 5, bindings / 4, func(i int, a sipload.Account) sipload.Registration { return removal(first(i, a)) }},
		{"removed all", bindings / 50, bindings / 40, func(i int, a sipload.Account) sipload.Registration {
			return sipload.Registration{Account: a, Star: true}
		}},
	} {
		stats := crowd.each(t.Context(), step.from, step.to, step.work)
		if stats.OK() != step.to-step.from {
			t.Fatalf("%s: of %d, answered by status: %v", step.what, step.to-step.from, stats.ByStatus)
		}
		t.Logf("measured: %d %s with digest in %v, %.0f/s, p99 %v", stats.OK(), step.what, stats.Elapsed.Round(time.Millisecond), stats.Rate(), stats.Latency(0.99).Round(time.Millisecond))
	}
	complain(t, "answers", crowd.book.oddities())
	checkPhones(t, crowd, 0)
	c.checkTables(t, crowd)
}

// survive brings a fault about under a light load, and holds the cluster to what it has answered. It returns how long nobody was
// served.
func (c stage) survive(t *testing.T, crowd *crowd, f fault, added time.Duration) time.Duration {
	t.Helper()
	was := c.Primary(t)
	load := crowd.start(t.Context(), pace)
	defer load.end()
	load.awaitServed(t, steady)

	at := time.Now()
	f.do(t, c, was)
	is := c.awaitServing(t, c.others(t, was))
	load.awaitServed(t, steady)
	answers := load.end()
	firstOK, silence := outage(answers, at)
	t.Logf("measured: %s: nobody served for %v; first 200 by the new primary %v after the command; %s to %s",
		f.name, silence.Round(time.Millisecond), firstOK.Round(time.Millisecond), was, is)
	_, _, doubtful := crowd.book.ledger.Count()
	t.Logf("answers under load, by status: %v; contacts in doubt: %d", byStatus(answers), doubtful)

	if p := c.awaitOnePrimary(t, was); p != is {
		t.Errorf("%s served first, the primary is %s", is, p)
	}
	added += silence + addedSlack
	complain(t, "answers", crowd.book.oddities())
	checkPhones(t, crowd, added)

	f.undo(t, c, was)
	rejoin := time.Now()
	c.Mend(t)
	t.Logf("measured: %s: %s is back in sync %v after it was given back what it lost", f.name, was, time.Since(rejoin).Round(time.Millisecond))
	c.checkTables(t, crowd)
	crowd.settle(t)
	return silence + addedSlack
}

// awaitServed waits until so many more registrations were answered 200.
func (l *load) awaitServed(t *testing.T, more int64) {
	t.Helper()
	want := l.served.Load() + more
	for deadline := time.Now().Add(steadyMax); l.served.Load() < want; wait(t, poll) {
		if time.Now().After(deadline) {
			t.Fatalf("only %d of %d registrations answered 200 in %v", more-(want-l.served.Load()), more, steadyMax)
		}
	}
}

// settle registers anew what is in doubt, a contact of each account at a time.
func (c *crowd) settle(t *testing.T) {
	t.Helper()
	for range devices {
		work := c.book.doubtful()
		stats := c.client.Load(t.Context(), 0, slices.Values(work), c.book.record)
		if stats.OK() != len(work) {
			t.Errorf("registered anew: %d, answered by status: %v", len(work), stats.ByStatus)
		}
	}
	if left := c.book.doubtful(); len(left) > 0 {
		t.Errorf("%d accounts are still in doubt", len(left))
	}
	complain(t, "answers", c.book.oddities())
}
