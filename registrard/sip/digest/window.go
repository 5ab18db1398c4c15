package digest

import (
	"hash/maphash"
	"sync"
)

// Window is a Counter in memory: for the nonces that were used last, it remembers which of the last 64 counts were.
type Window struct {
	max  int
	seed maphash.Seed

	mu       sync.Mutex
	current  map[uint64]counts
	previous map[uint64]counts // before current was last full: what is not used again is forgotten with it
}

// counts is what one nonce's user has used.
type counts struct {
	highest uint32
	used    uint64 // bit n: highest-n was used
	request uint64 // that used highest
}

// NewWindow returns a Window that remembers at least max nonces, and at most twice as many.
func NewWindow(max int) *Window {
	return &Window{max: max, seed: maphash.MakeSeed(), current: make(map[uint64]counts)}
}

// Use implements Counter. A count more than 63 below the highest is not new.
func (w *Window) Use(nonce []byte, count uint32, request uint64) bool {
	key := maphash.Bytes(w.seed, nonce)
	w.mu.Lock()
	defer w.mu.Unlock()
	c, ok := w.current[key]
	if !ok {
		c, ok = w.previous[key]
	}
	switch {
	case !ok:
		c = counts{highest: count, used: 1, request: request}
	case count > c.highest:
		c.used = c.used<<(count-c.highest) | 1
		c.highest, c.request = count, request
	case count == c.highest:
		return request == c.request
	case c.highest-count > 63 || c.used&(1<<(c.highest-count)) != 0:
		return false
	default:
		c.used |= 1 << (c.highest - count)
	}
	w.current[key] = c
	if len(w.current) >= w.max {
		w.previous, w.current = w.current, make(map[uint64]counts)
	}
	return true
}

var _ Counter = (*Window)(nil)
