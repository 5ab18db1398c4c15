package sip

import (
	"sync"
	"time"
)

// transactions bounds the transactions that gosip holds alive: each costs memory, goroutines and timers for up to 32 s after its answer
// (RFC 3261 section 17.2), so anybody who may open one could otherwise open too many.
type transactions struct {
	max int

	mu   sync.Mutex
	live map[string]*slot
}

// slot is a living transaction's place.
type slot struct {
	tag     []byte // of our responses
	began   time.Duration
	started bool // gosip has made the transaction and its handler runs
}

// unstartedMax is how long a request may be on its way to its handler. A request that gosip took for a retransmission, of a transaction that
// it was just ending, never gets there.
const unstartedMax = 5 * time.Second

func newTransactions(limit int) *transactions {
	return &transactions{max: limit, live: make(map[string]*slot)}
}

// tag returns the To tag of a living transaction's responses; false when there is no such transaction.
func (t *transactions) tag(key string) ([]byte, bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	s, ok := t.live[key]
	if !ok {
		return nil, false
	}
	return s.tag, true
}

// begin takes a place for a request, unless its transaction has one.
func (t *transactions) begin(key string, tag []byte, now time.Duration) admission {
	t.mu.Lock()
	defer t.mu.Unlock()
	if _, ok := t.live[key]; ok {
		return retransmitted
	}
	if len(t.live) >= t.max {
		return refused
	}
	t.live[key] = &slot{tag: tag, began: now}
	return admitted
}

// start marks that the handler runs; it takes a place beyond the limit where there is none, since the transaction is there already.
func (t *transactions) start(key string, tag []byte, now time.Duration) {
	t.mu.Lock()
	defer t.mu.Unlock()
	s, ok := t.live[key]
	if !ok {
		s = &slot{tag: tag, began: now}
		t.live[key] = s
	}
	s.started = true
}

func (t *transactions) end(key string) {
	t.mu.Lock()
	delete(t.live, key)
	t.mu.Unlock()
}

// sweep frees the places of requests that never got to their handler.
func (t *transactions) sweep(now time.Duration) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for key, s := range t.live {
		if !s.started && now-s.began > unstartedMax {
			delete(t.live, key)
		}
	}
}

func (t *transactions) len() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return len(t.live)
}
