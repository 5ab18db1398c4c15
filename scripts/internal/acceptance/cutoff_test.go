//go:build cluster

package acceptance

import (
	"context"
	"net/netip"
	"sync"
	"testing"
	"time"

	"sipha/scripts/internal/lab"
	"sipha/scripts/internal/sipload"
)

const (
	// tokenTimeout is Corosync's in the lab: before it has passed, a node cannot know that it is cut off.
	tokenTimeout = time.Second
	// lateMax is how much later than that an answer may come.
	lateMax = 200 * time.Millisecond

	cutPhones = 1000
	cutPace   = 250 // registrations a second
	// cutOffMax bounds the time that the node keeps its power after it is cut off.
	cutOffMax = 20 * time.Second
)

// attempt is a registration that was sent to the primary that is cut off.
type attempt struct {
	registration sipload.Registration
	begun        time.Time
	answer       *sipload.Answer // nil: none
}

// ok reports an answer with a 2xx.
func (a *attempt) ok() bool { return a.answer != nil && a.answer.OK() }

// A primary that is cut off decides nothing more (P4): phones that still reach it get no 2xx once the token timeout has passed, and
// nothing that it took after the cut is acknowledged, then or later.
func TestCutOffPrimaryAnswersNobody(t *testing.T) {
	c := enter(t)
	was := c.Primary(t)
	accounts := sipload.Accounts(cutPhones, domain)
	for i := range accounts {
		accounts[i].User = "cut-" + accounts[i].User
	}
	c.importUsers(t, c.replica(t), accounts)

	// Phones inside the node: they reach it whatever becomes of its cable.
	own := lab.Addr(was)
	conn, err := c.Lab.ListenUDP(was, netip.AddrPortFrom(own, 0))
	if err != nil {
		t.Fatal(err)
	}
	client := sipload.NewClient(sipload.Options{Conn: conn, Target: netip.AddrPortFrom(own, lab.SIPPort)})
	defer func() { _ = client.Close() }() // the end of the test
	inside := newCrowd(client, accounts)
	first := func(i int, a sipload.Account) sipload.Registration { return phoneOf(i, a, inside.host, 0) }
	if stats := inside.each(t.Context(), 0, len(accounts), first); stats.OK() != len(accounts) {
		t.Fatalf("before the cut, answered by status: %v", stats.ByStatus)
	}

	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	run := startAttempts(ctx, inside)
	run.awaitOK(t, cutPace)
	c.Cut(t, was)
	cut := time.Now()
	c.awaitServing(t, c.others(t, was))
	c.AwaitRole(t, was, "off", cutOffMax) // fenced
	stop()
	attempts := run.wait()

	after := judgeAttempts(t, attempts, cut)
	c.awaitOnePrimary(t, was)
	c.Mend(t)
	c.awaitTables(t)
	c.checkAttempts(t, inside, attempts, after)
}

// attempts are registrations of second phones, one after the other, each account's once.
type attempts struct {
	done chan struct{}

	mu   sync.Mutex
	all  []*attempt
	good int
}

func startAttempts(ctx context.Context, c *crowd) *attempts {
	run := &attempts{done: make(chan struct{})}
	go func() {
		defer close(run.done)
		var phones sync.WaitGroup
		defer phones.Wait()
		ticker := time.NewTicker(time.Second / cutPace)
		defer ticker.Stop()
		for n := 0; ; n++ {
			select {
			case <-ctx.Done():
				return
			case <-ticker.C:
			}
			// The accounts take turns, and each turn is another phone, so that every attempt is told from the others by its contact.
			i := n % len(c.accounts)
			r := phoneOf(i, c.accounts[i], c.host, 1+n/len(c.accounts))
			r.CallID = r.Contacts[0].URI
			phones.Go(func() { run.try(ctx, c.client, r) })
		}
	}()
	return run
}

func (run *attempts) try(ctx context.Context, client *sipload.Client, r sipload.Registration) {
	a := &attempt{registration: r, begun: time.Now()}
	answer, err := client.Register(ctx, r)
	if err == nil {
		a.answer = answer
	}
	run.mu.Lock()
	defer run.mu.Unlock()
	run.all = append(run.all, a)
	if a.ok() {
		run.good++
	}
}

// awaitOK waits until n attempts have been answered with a 2xx.
func (run *attempts) awaitOK(t *testing.T, n int) {
	t.Helper()
	for deadline := time.Now().Add(steadyMax); ; wait(t, poll) {
		run.mu.Lock()
		good := run.good
		run.mu.Unlock()
		if good >= n {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%d of %d answered 2xx in %v", good, n, steadyMax)
		}
	}
}

// wait returns the attempts once all have ended.
func (run *attempts) wait() []*attempt {
	<-run.done
	return run.all
}

// judgeAttempts checks what was answered after the cut, and returns the attempts that were begun after it.
func judgeAttempts(t *testing.T, all []*attempt, cut time.Time) map[*attempt]bool {
	t.Helper()
	after := make(map[*attempt]bool)
	var lastOK time.Time
	refused := 0
	for _, a := range all {
		if a.begun.After(cut) {
			after[a] = true
			if a.ok() {
				t.Errorf("%s, sent %v after the cut, was answered %d", a.registration.Contacts[0].URI, a.begun.Sub(cut), a.answer.Status)
			}
		}
		if a.ok() && a.answer.Received.After(lastOK) {
			lastOK = a.answer.Received
		}
		if after[a] && a.answer != nil {
			refused++
		}
	}
	if late := lastOK.Sub(cut); late > tokenTimeout+lateMax {
		t.Errorf("the last 2xx came %v after the cut", late)
	}
	if len(after) < cutPace {
		t.Errorf("only %d registrations were sent after the cut", len(after))
	}
	t.Logf("measured: cut-off primary: last 2xx %v after the cut; of %d registrations sent after it, %d were refused, the others not answered",
		lastOK.Sub(cut).Round(time.Millisecond), len(after), refused)
	return after
}

// checkAttempts looks into every database: what was answered is there, and what the primary took while it was cut off is not.
func (c stage) checkAttempts(t *testing.T, inside *crowd, all []*attempt, after map[*attempt]bool) {
	t.Helper()
	for _, n := range c.nodes(t) {
		there := make(map[string]bool)
		for _, r := range c.rows(t, n, "WHERE aor LIKE 'sip:cut-%'") {
			there[r.Contact] = true
		}
		var broken []string
		for _, a := range all {
			switch uri := a.registration.Contacts[0].URI; {
			case a.ok() && !there[uri]:
				broken = append(broken, uri+" is lost")
			case after[a] && there[uri]:
				broken = append(broken, uri+" is there, though only the primary that was cut off heard of it")
			}
		}
		complain(t, n+"'s database", broken)
	}
}
