package demo

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"slices"
	"sync"
	"time"

	"sipha/scripts/internal/lab"
	"sipha/scripts/internal/sipload"
)

const (
	// PhonesDefault is how many phones the story has, PhonesMin and PhonesMax bound them.
	PhonesDefault = 10_000
	PhonesMin     = 10
	PhonesMax     = 100_000
	// StoryMax is how long it may take.
	StoryMax = 6 * time.Minute

	// Contacts last this long at first, after a refresh, and after a refresh while the power goes: each can be told
	// from the other.
	expiresFirst   = 3600 // s
	expiresRefresh = 3000
	expiresCut     = 2400

	// refreshShare and removeShare of the phones refresh and remove their contact before the power cut.
	refreshShare = 5
	removeShare  = 10
	// cutInterval is how often a phone refreshes while the power goes, and cutWindow how many may wait for an answer.
	cutInterval = 5 * time.Millisecond
	cutWindow   = 32
	// beforeCut and afterCut is how long phones refresh before the power goes, and after the first answer behind it.
	beforeCut = time.Second
	afterCut  = time.Second

	// pollReturn is how often a node is looked at that comes back: often enough to see how.
	pollReturn = 200 * time.Millisecond

	failoverMax = 30 * time.Second
	returnMax   = 90 * time.Second
	// restored is what a promotion may add to expiries beside the time without a primary: [registration] grace in
	// registrard.conf, whose default the lab keeps, and a second for its rounding.
	restored = 31 * time.Second
	// brokenShown is how many broken promises are shown.
	brokenShown = 10
)

// ErrBroken reports that a promise was broken.
var ErrBroken = errors.New("a promise was broken")

// story is the demo, told once.
type story struct {
	lab      *lab.Lab
	out      io.Writer
	steps    *lab.Steps
	accounts []sipload.Account
	client   *sipload.Client
	ledger   *sipload.Ledger

	was     *lab.Status   // before the power cut
	now     *lab.Status   // after the failover
	end     *lab.Status   // in the end
	outage  time.Duration // nobody was served
	back    time.Duration // from power to sync
	answers int           // 2xx to changes
	queries int           // bindings asked for
	broken  []string
}

// Story registers phones, takes the power from the primary's node, checks every answered binding and removal, and
// brings the node back. It fails with ErrBroken when something that was answered is not so.
func Story(ctx context.Context, l *lab.Lab, phones int, out io.Writer) error {
	if phones < PhonesMin || phones > PhonesMax {
		return fmt.Errorf("%d phones: use %d to %d", phones, PhonesMin, PhonesMax)
	}
	ctx, cancel := context.WithTimeoutCause(ctx, StoryMax, fmt.Errorf("the demo took longer than %v", StoryMax))
	defer cancel()
	s := &story{lab: l, out: out, steps: lab.NewSteps(out), accounts: sipload.Accounts(phones, Domain), ledger: sipload.NewLedger()}
	var err error
	if s.was, err = whole(ctx, l, s.steps); err != nil {
		return err
	}
	s.steps.Say("the cluster is whole: %s is the primary, %s hold the same", s.was.Primary(), others(s.was, s.was.Primary()))
	if s.client, err = crowd(l); err != nil {
		return err
	}
	defer func() { _ = s.client.Close() }() // everything is answered, or given up
	for _, part := range []func(context.Context) error{s.users, s.register, s.powerCut, s.check, s.comeBack} {
		if err := part(ctx); err != nil {
			return err
		}
	}
	return s.summary()
}

func (s *story) users(ctx context.Context) error {
	node := replica(s.was)
	if err := importUsers(ctx, s.lab, node, s.accounts); err != nil {
		return fmt.Errorf("import users: %w", err)
	}
	s.steps.Say("%s users imported on %s, and replicated", thousands(len(s.accounts)), node)
	return nil
}

// contact is an account's phone; the same in every telling, so that one replaces what another has left.
func contact(a sipload.Account, expires int) []sipload.Contact {
	return []sipload.Contact{sipload.Phone(a, lab.Addr(lab.Client).String(), 0, expires)}
}

// each is one registration for each of the accounts.
func each(accounts []sipload.Account, registration func(i int, a sipload.Account) sipload.Registration) iter.Seq[sipload.Registration] {
	return func(yield func(sipload.Registration) bool) {
		for i, a := range accounts {
			if !yield(registration(i, a)) {
				return
			}
		}
	}
}

// refreshed, removed and busy are the phones that refresh, that go away, and that refresh while the power goes.
func (s *story) refreshed() []sipload.Account { return s.accounts[:len(s.accounts)/refreshShare] }
func (s *story) removed() []sipload.Account {
	from := len(s.accounts) / refreshShare
	return s.accounts[from : from+len(s.accounts)/removeShare]
}
func (s *story) busy() []sipload.Account { return s.accounts[len(s.accounts)/2:] }

func (s *story) register(ctx context.Context) error {
	s.steps.Say("%s phones register through %s, with digest ...", thousands(len(s.accounts)), lab.VIP())
	err := s.load(ctx, "registered", each(s.accounts, func(_ int, a sipload.Account) sipload.Registration {
		return sipload.Registration{Account: a, Contacts: contact(a, expiresFirst)}
	}), len(s.accounts))
	if err != nil {
		return err
	}
	err = s.load(ctx, "refreshed", each(s.refreshed(), func(_ int, a sipload.Account) sipload.Registration {
		return sipload.Registration{Account: a, Contacts: contact(a, expiresRefresh)}
	}), len(s.refreshed()))
	if err != nil {
		return err
	}
	return s.load(ctx, "removed", each(s.removed(), func(i int, a sipload.Account) sipload.Registration {
		if i%2 == 0 {
			return sipload.Registration{Account: a, Star: true}
		}
		return sipload.Registration{Account: a, Contacts: contact(a, 0)}
	}), len(s.removed()))
}

// load does registrations that must all be answered with a 2xx.
func (s *story) load(ctx context.Context, what string, work iter.Seq[sipload.Registration], n int) error {
	stats := s.client.Load(ctx, 0, work, s.record)
	s.steps.Say("%s %s: %s a second; median %s, 99 %% within %s", thousands(stats.OK()), what, thousands(int(stats.Rate())),
		milliseconds(stats.Latency(0.5)), milliseconds(stats.Latency(0.99)))
	if stats.OK() != n {
		return fmt.Errorf("only %d of %d were %s; answers by status, 0 for none: %v", stats.OK(), n, what, stats.ByStatus)
	}
	return nil
}

// record enters what was answered. It is called by one at a time.
func (s *story) record(r sipload.Registration, a *sipload.Answer, err error) {
	s.ledger.Record(r, a, err)
	if err == nil && a.OK() {
		s.answers++
		s.broken = append(s.broken, sipload.Granted(r, a)...)
	}
}

// powerCut takes the power from the primary's node while phones refresh, and measures for how long nobody is served.
func (s *story) powerCut(ctx context.Context) error {
	watch := s.client.NewWatch(ctx, sipload.Registration{Account: s.accounts[0]}, watchInterval)
	defer watch.Stop()
	if err := watch.OKAfter(ctx, time.Now()); err != nil {
		return err
	}
	stop := make(chan struct{})
	stats := make(chan *sipload.Stats, 1)
	go func() { stats <- s.client.Load(ctx, cutWindow, s.paced(ctx, stop), s.record) }()
	over := sync.OnceFunc(func() { close(stop) })
	defer over()
	if err := wait(ctx, beforeCut); err != nil {
		return err
	}
	was := s.was.Primary()
	begin := time.Now()
	if err := s.lab.PowerOff(was); err != nil {
		return fmt.Errorf("take the power from %s: %w", was, err)
	}
	s.steps.Say("%s, the primary, LOSES POWER, while phones refresh: what it had not synced to its disk is gone", was)
	waiting, cancel := context.WithTimeoutCause(ctx, failoverMax, fmt.Errorf("nobody answered within %v", failoverMax))
	defer cancel()
	if err := watch.OKAfter(waiting, begin); err != nil {
		return s.without(was, err)
	}
	s.outage = watch.Gap(begin)
	s.steps.Say("the first 200 again, after %s without", seconds(s.outage))
	err := s.tookOver(waiting)
	if err != nil {
		return s.without(was, err)
	}
	n := s.now.Node(s.now.Primary())
	s.steps.Say("%s has taken over, in epoch %s, with %s users and %s bindings", n.Name, n.Epoch, thousands(n.Users), thousands(n.Bindings))
	if err := wait(ctx, afterCut); err != nil {
		return s.without(was, err)
	}
	over()
	done := <-stats
	s.steps.Say("%s phones refreshed before, during and after; the longest wait for a 200 was %s", thousands(done.OK()), seconds(done.Latency(1)))
	return nil
}

// paced lets the busy phones refresh, one after the other, until stop is closed.
func (s *story) paced(ctx context.Context, stop <-chan struct{}) iter.Seq[sipload.Registration] {
	return func(yield func(sipload.Registration) bool) {
		ticker := time.NewTicker(cutInterval)
		defer ticker.Stop()
		for _, a := range s.busy() {
			if !yield(sipload.Registration{Account: a, Contacts: contact(a, expiresCut)}) {
				return
			}
			select {
			case <-ticker.C:
			case <-stop:
				return
			case <-ctx.Done():
				return
			}
		}
	}
}

// tookOver waits until another node is the primary, for Pacemaker, too.
func (s *story) tookOver(ctx context.Context) (err error) {
	for {
		if s.now, err = s.lab.Status(ctx); err != nil {
			return err
		}
		p := s.now.Primary()
		if p != "" && p != s.was.Primary() && s.now.VIPNode == p && s.now.Node(p).Pacemaker == "promoted" {
			return nil
		}
		if err := wait(ctx, poll); err != nil {
			return err
		}
	}
}

// without adds to an error that a node is still without power.
func (s *story) without(node string, err error) error {
	return fmt.Errorf("%w\n%s is without power: scripts/lab up, or another demo, gives it back", err, node)
}

// check asks for every phone's bindings and compares them with what was answered.
func (s *story) check(ctx context.Context) error {
	stats := s.client.Load(ctx, 0, each(s.accounts, func(_ int, a sipload.Account) sipload.Registration {
		return sipload.Registration{Account: a}
	}), func(r sipload.Registration, a *sipload.Answer, err error) {
		if err != nil {
			s.broken = append(s.broken, fmt.Sprintf("%s: the query was not answered: %v", r.Account.AOR(), err))
			return
		}
		s.queries++
		s.broken = append(s.broken, s.ledger.Check(r.Account, a, s.outage+restored)...)
	})
	s.steps.Say("the bindings of %s phones asked for through %s, in %s: %s", thousands(s.queries), lab.VIP(), seconds(stats.Elapsed), verdict(len(s.broken)))
	return nil
}

// verdict tells how many promises were broken.
func verdict(broken int) string {
	if broken == 0 {
		return "all as answered"
	}
	return fmt.Sprintf("%d NOT AS ANSWERED", broken)
}

// comeBack gives the old primary power and shows how it catches up.
func (s *story) comeBack(ctx context.Context) error {
	node := s.was.Primary()
	if err := s.lab.PowerOn(node); err != nil {
		return fmt.Errorf("give %s power: %w", node, err)
	}
	begin := time.Now()
	s.steps.Say("%s has power again", node)
	ctx, cancel := context.WithTimeoutCause(ctx, returnMax, fmt.Errorf("%s was not back within %v", node, returnMax))
	defer cancel()
	told := ""
	for {
		now, err := s.lab.Status(ctx)
		if err != nil {
			return err
		}
		n := now.Node(node)
		if line := stage(n); line != told {
			told = line
			s.steps.Say("%s %s", node, line)
		}
		if n.Synced && s.back == 0 {
			s.back = time.Since(begin)
		}
		if now.Missing() == "" && sameDigest(now) {
			s.end = now
			return nil
		}
		if err := wait(ctx, pollReturn); err != nil {
			return fmt.Errorf("%w: %s", err, now.Missing())
		}
	}
}

// stage says how far a node is on its way back.
func stage(n *lab.NodeStatus) string {
	switch {
	case n.Starting():
		return "starts, and joins the cluster"
	case n.Role == "down", n.State == "disconnected":
		return "starts registrard"
	case n.Synced:
		return fmt.Sprintf("is in sync: a replica, at index %s", thousands(int(n.Index)))
	case n.Progress != "":
		return n.Progress
	}
	return "is " + n.State
}

// sameDigest reports that all nodes hold the same content.
func sameDigest(s *lab.Status) bool {
	return len(slices.CompactFunc(slices.Clone(s.Nodes), func(a, b lab.NodeStatus) bool { return a.Digest == b.Digest })) == 1
}

// summary ends the story.
func (s *story) summary() error {
	present, removed, doubtful := s.ledger.Count()
	was, now := s.was.Primary(), s.end.Primary()
	lines := []string{
		fmt.Sprintf("%s phones registered, %s refreshed, %s removed: %s changes were answered with 200.",
			thousands(len(s.accounts)), thousands(len(s.refreshed())), thousands(len(s.removed())), thousands(s.answers)),
		fmt.Sprintf("%s lost its power; %s served after %s.", was, now, seconds(s.outage)),
		fmt.Sprintf("%s answered bindings and %s answered removals checked: %s.", thousands(present), thousands(removed), verdict(len(s.broken))),
	}
	if doubtful > 0 {
		lines = append(lines, fmt.Sprintf("%s phones got no answer when the power went: nobody promised them anything.", thousands(doubtful)))
	}
	lines = append(lines, fmt.Sprintf("%s was back in sync %s after it got power; all %d nodes hold the same: digest %.12s.",
		was, seconds(s.back), len(s.end.Nodes), s.end.Nodes[0].Digest))
	text := "\n"
	for _, line := range lines {
		text += "  " + line + "\n"
	}
	if _, err := io.WriteString(s.out, text); err != nil {
		return err
	}
	if len(s.broken) == 0 {
		return nil
	}
	err := ErrBroken
	for _, b := range s.broken[:min(brokenShown, len(s.broken))] {
		err = fmt.Errorf("%w\n%s", err, b)
	}
	return err
}
