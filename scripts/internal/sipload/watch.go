package sipload

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"
)

// answersMax bounds what a Watch remembers: more than an hour of a query every 20 ms.
const answersMax = 200_000

// served is a query that was answered with a 2xx.
type served struct{ sent, received time.Time }

// Watch asks for the same bindings again and again, from beginning to end of whatever
// is done to the registrar meanwhile, and knows afterwards for how long nobody was
// served: finer than a phone's own retransmissions would tell.
type Watch struct {
	cancel context.CancelFunc
	ended  chan struct{}

	mu      sync.Mutex
	answers []served
	changed chan struct{} // closed with every answer
}

// NewWatch begins to send r, a query, every interval, each for itself, until Stop is
// called or ctx ends. The caller must Stop it before it closes the client.
func (c *Client) NewWatch(ctx context.Context, r Registration, interval time.Duration) *Watch {
	ctx, cancel := context.WithCancel(ctx)
	w := &Watch{cancel: cancel, ended: make(chan struct{}), changed: make(chan struct{})}
	go func() {
		defer close(w.ended)
		var asked sync.WaitGroup
		defer asked.Wait()
		ticker := time.NewTicker(interval)
		defer ticker.Stop()
		for n := 0; n < answersMax; n++ {
			one := r
			one.CallID = fmt.Sprintf("%s-watch-%p-%d", c.prefix, w, n)
			asked.Go(func() {
				ctx, cancel := context.WithTimeout(ctx, firstTryMax)
				defer cancel()
				if a, err := c.Register(ctx, one); err == nil && a.OK() {
					w.add(served{a.Sent, a.Received})
				}
			})
			select {
			case <-ticker.C:
			case <-ctx.Done():
				return
			}
		}
	}()
	return w
}

// Stop ends the queries, and forgets those that are not answered yet.
func (w *Watch) Stop() {
	w.cancel()
	<-w.ended
}

func (w *Watch) add(s served) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.answers = append(w.answers, s)
	close(w.changed)
	w.changed = make(chan struct{})
}

// OKAfter waits for a 2xx to a query that was sent at t or later.
func (w *Watch) OKAfter(ctx context.Context, t time.Time) error {
	return w.await(ctx, func(answers []served) bool {
		return slices.ContainsFunc(answers, func(s served) bool { return !s.sent.Before(t) })
	})
}

// GapAfter waits for a 2xx that comes at least min after the one before it, and later
// than t: the end of an interruption.
func (w *Watch) GapAfter(ctx context.Context, t time.Time, min time.Duration) error {
	return w.await(ctx, func(answers []served) bool { return gap(answers, t) >= min })
}

func (w *Watch) await(ctx context.Context, there func([]served) bool) error {
	for {
		w.mu.Lock()
		done, changed := there(w.answers), w.changed
		w.mu.Unlock()
		if done {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return fmt.Errorf("wait for a 200: %w", context.Cause(ctx))
		case <-w.ended:
			return fmt.Errorf("wait for a 200: %w", context.Canceled)
		}
	}
}

// Gap returns the longest time between two 2xx of which the second came later than t: for how
// long nobody was served.
func (w *Watch) Gap(t time.Time) time.Duration {
	w.mu.Lock()
	defer w.mu.Unlock()
	return gap(w.answers, t)
}

func gap(answers []served, t time.Time) (longest time.Duration) {
	for i := 1; i < len(answers); i++ {
		if at := answers[i].received; at.After(t) {
			longest = max(longest, at.Sub(answers[i-1].received))
		}
	}
	return longest
}
