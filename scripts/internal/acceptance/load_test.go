//go:build cluster || integration

package acceptance

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"sipha/scripts/internal/sipload"
)

// expiresOf is what a phone asks for, in seconds: long enough for no binding to run out meanwhile, and not the same for all.
func expiresOf(i int) int { return 3600 + i%10*360 }

// phoneOf returns the registration of device n of account number i behind host. What a binding may hold comes in all combinations.
func phoneOf(i int, a sipload.Account, host string, n int) sipload.Registration {
	c := sipload.Phone(a, host, n, expiresOf(i))
	switch i % 4 {
	case 1:
		c.Q = "0.5"
	case 2:
		c.Q = "0.25"
	}
	if i%5 == 0 {
		c.Params = fmt.Sprintf(`;+sip.instance="<urn:uuid:00000000-0000-4000-8000-%012d>";reg-id=%d`, i, n+1)
	}
	if i%7 == 0 {
		c.Params += `;audio;methods="INVITE,BYE"`
	}
	r := sipload.Registration{Account: a, Contacts: []sipload.Contact{c}}
	if i%6 == 0 {
		r.Headers = []string{"Supported: path", "Path: <sip:edge1.example.org;lr>", "Path: <sip:edge2.example.org;lr>"}
	}
	return r
}

// removal returns the registration that removes what r puts.
func removal(r sipload.Registration) sipload.Registration {
	r.Contacts = slices.Clone(r.Contacts)
	r.Contacts[0].Expires = 0
	return r
}

// crowd is many accounts' phones behind one socket, and the book of what was answered to them.
type crowd struct {
	client   *sipload.Client
	host     string
	accounts []sipload.Account
	book     *book
}

func newCrowd(client *sipload.Client, accounts []sipload.Account) *crowd {
	return &crowd{client: client, host: client.Local(), accounts: accounts, book: newBook()}
}

// each runs the registrations that work makes of accounts [from, to), and records what was answered.
func (c *crowd) each(ctx context.Context, from, to int, work func(i int, a sipload.Account) sipload.Registration) *sipload.Stats {
	return c.client.Load(ctx, 0, func(yield func(sipload.Registration) bool) {
		for i := from; i < to; i++ {
			if !yield(work(i, c.accounts[i])) {
				return
			}
		}
	}, c.book.record)
}

// answer is an answer under load.
type answer struct {
	sent, received time.Time
	status         int // 0: none
}

// load is phones that go on registering at a steady pace, whatever becomes of the registrar: each as soon as it is its turn and its
// last registration has come to an end.
type load struct {
	crowd  *crowd
	stop   context.CancelFunc
	done   chan struct{}
	served atomic.Int64 // 2xx

	mu      sync.Mutex
	answers []answer
}

// start begins a load of rate registrations a second.
func (c *crowd) start(ctx context.Context, rate int) *load {
	run, stop := context.WithCancel(ctx)
	l := &load{crowd: c, stop: stop, done: make(chan struct{})}
	go l.run(ctx, run, rate)
	return l
}

// run starts registrations until run ends, and returns when they have all ended; ctx is theirs.
func (l *load) run(ctx, run context.Context, rate int) {
	defer close(l.done)
	ticker := time.NewTicker(time.Second / time.Duration(rate))
	defer ticker.Stop()
	idle := make(chan int, len(l.crowd.accounts))
	for i := range l.crowd.accounts {
		idle <- i
	}
	var phones sync.WaitGroup
	defer phones.Wait()
	for n := 0; ; n++ {
		var i int
		select {
		case <-run.Done():
			return
		case <-ticker.C:
		}
		select {
		case <-run.Done():
			return
		case i = <-idle:
		}
		r := l.next(i, n)
		phones.Go(func() {
			a, err := l.crowd.client.Register(ctx, r)
			l.crowd.book.record(r, a, err)
			l.note(a, err)
			idle <- i
		})
	}
}

// next decides what an account's phones do at turn n: most refresh; some come and go.
func (l *load) next(i, n int) sipload.Registration {
	a := l.crowd.accounts[i]
	device := 0
	if n%8 == 6 {
		device = 1
	}
	r := phoneOf(i, a, l.crowd.host, device)
	if n%8 >= 6 && l.crowd.book.present(a, r.Contacts[0].URI) {
		return removal(r)
	}
	return r
}

func (l *load) note(a *sipload.Answer, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if err != nil {
		l.answers = append(l.answers, answer{received: time.Now()})
		return
	}
	l.answers = append(l.answers, answer{sent: a.Sent, received: a.Received, status: a.Status})
	if a.OK() {
		l.served.Add(1)
	}
}

// end stops the load and waits until every registration has ended.
func (l *load) end() []answer {
	l.stop()
	<-l.done
	l.mu.Lock()
	defer l.mu.Unlock()
	slices.SortFunc(l.answers, func(a, b answer) int { return a.received.Compare(b.received) })
	return l.answers
}

// outage finds in a load's answers, in order, the longest time without a 200 that ended after from: how long after from that was, and
// how long it had been.
func outage(answers []answer, from time.Time) (firstOK, silence time.Duration) {
	last := from
	for _, a := range answers {
		if a.status != 200 {
			continue
		}
		if a.received.Before(from) {
			last = a.received
			continue
		}
		if gap := a.received.Sub(last); gap > silence {
			firstOK, silence = a.received.Sub(from), gap
		}
		last = a.received
	}
	return firstOK, silence
}

// byStatus counts answers.
func byStatus(answers []answer) map[int]int {
	n := make(map[int]int)
	for _, a := range answers {
		n[a.status]++
	}
	return n
}
