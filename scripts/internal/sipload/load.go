package sipload

import (
	"context"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"iter"
	"slices"
	"sync"
	"time"
)

// WindowDefault is how many registrations Load keeps outstanding unless told otherwise.
const WindowDefault = 64

// firstTryMax is how long each try of FirstOK is kept up.
const firstTryMax = 2 * time.Second

// Accounts makes n accounts of a domain; the same n are always the same.
func Accounts(n int, domain string) []Account {
	accounts := make([]Account, n)
	for i := range accounts {
		accounts[i] = Account{User: fmt.Sprintf("u%06d", i), Domain: domain, Password: fmt.Sprintf("secret-%06d", i)}
	}
	return accounts
}

// WriteCSV writes accounts as registrard users import reads them: user, domain, password.
func WriteCSV(w io.Writer, accounts []Account) error {
	c := csv.NewWriter(w)
	for _, a := range accounts {
		if err := c.Write([]string{a.User, a.Domain, a.Password}); err != nil {
			return err
		}
	}
	c.Flush()
	return c.Error()
}

// Phone returns the contact of an account's device number n behind host (host:port).
func Phone(a Account, host string, n, expires int) Contact {
	return Contact{URI: fmt.Sprintf("sip:%s-%d@%s", a.User, n, host), Expires: expires}
}

// Stats sums up a load.
type Stats struct {
	ByStatus map[int]int // final responses; 0 counts requests without one
	Elapsed  time.Duration
	latency  []time.Duration // of 2xx, sorted
}

// OK returns the number of 2xx.
func (s *Stats) OK() int {
	n := 0
	for status, count := range s.ByStatus {
		if status/100 == 2 {
			n += count
		}
	}
	return n
}

// Rate returns 2xx per second.
func (s *Stats) Rate() float64 { return float64(s.OK()) / s.Elapsed.Seconds() }

// Latency returns a quantile (0 to 1) of the time from a request to its 2xx; 0 without any.
func (s *Stats) Latency(q float64) time.Duration {
	if len(s.latency) == 0 {
		return 0
	}
	return s.latency[min(len(s.latency)-1, int(q*float64(len(s.latency))))]
}

// Load runs registrations with at most window outstanding, 0 for WindowDefault, until
// they are all answered or given up, or ctx ends. each sees every outcome, one at a
// time; it may be nil.
func (c *Client) Load(ctx context.Context, window int, work iter.Seq[Registration], each func(Registration, *Answer, error)) *Stats {
	if window <= 0 {
		window = WindowDefault
	}
	s := &Stats{ByStatus: make(map[int]int)}
	start := time.Now()
	jobs := make(chan Registration)
	var mu sync.Mutex
	var workers sync.WaitGroup
	for range window {
		workers.Go(func() {
			for r := range jobs {
				a, err := c.Register(ctx, r)
				mu.Lock()
				s.add(a, err)
				if each != nil {
					each(r, a, err)
				}
				mu.Unlock()
			}
		})
	}
	for r := range work {
		select {
		case jobs <- r:
			continue
		case <-ctx.Done():
		}
		break
	}
	close(jobs)
	workers.Wait()
	s.Elapsed = time.Since(start)
	slices.Sort(s.latency)
	return s
}

func (s *Stats) add(a *Answer, err error) {
	if err != nil {
		s.ByStatus[0]++
		return
	}
	s.ByStatus[a.Status]++
	if a.OK() {
		s.latency = append(s.latency, a.Received.Sub(a.Sent))
	}
}

// FirstOK sends registrations of r, a new one every interval and each of them for
// itself, until one is answered with a 2xx; it returns how long that took. It measures
// how long nobody was served, finer than a retransmission timer would. r's contacts
// must be harmless to register again and again; a query is.
func (c *Client) FirstOK(ctx context.Context, r Registration, interval time.Duration) (time.Duration, *Answer, error) {
	ctx, cancel := context.WithCancel(ctx)
	start := time.Now()
	first := make(chan *Answer, 1)
	var tries sync.WaitGroup
	defer tries.Wait()
	defer cancel()
	ticker := time.NewTicker(interval)
	defer ticker.Stop()
	for n := 0; ; n++ {
		try := r
		try.CallID = fmt.Sprintf("%s-first-%d", c.prefix, n)
		tries.Go(func() {
			ctx, cancel := context.WithTimeout(ctx, firstTryMax)
			defer cancel()
			a, err := c.Register(ctx, try)
			if err != nil || !a.OK() {
				return // another one will do
			}
			select {
			case first <- a:
			default:
			}
		})
		select {
		case a := <-first:
			return a.Received.Sub(start), a, nil
		case <-ctx.Done():
			return time.Since(start), nil, errors.Join(errors.New("nobody answered 200"), ctx.Err())
		case <-ticker.C:
		}
	}
}
