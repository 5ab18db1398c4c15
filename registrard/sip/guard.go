package sip

import (
	"encoding/binary"
	"net/netip"
	"sync"
	"time"
)

// guard keeps sources that fail from using us up. A failure is a message that was answered with an error before it proved who it is from; each takes
// a token from its source's bucket, and a request that then succeeds gives it back, so that phones which are challenged on every refresh
// stay at zero however many share an address. A source without tokens is not read any more, unless it has succeeded lately: then it
// is read, and only its failures go unanswered. Addresses in UDP can be forged; so nobody can shut out a phone that works.
//
// x/time/rate has no way to give a token back; this is the same bucket as a virtual schedule (GCRA), in 8 bytes a source.
type guard struct {
	interval time.Duration // that a token takes to come back
	burst    time.Duration // that a source may be ahead: its tokens times interval
	trusted  []netip.Prefix

	mu     sync.Mutex
	failed generations[time.Duration] // when each source's bucket will be full again
	known  generations[struct{}]      // sources that have succeeded
}

// sourceKey is what a guard counts by: an IPv4 address, or the upper half of an IPv6 address, since a host owns all of its /64.
type sourceKey uint64

func sourceOf(a netip.Addr) sourceKey {
	a = a.Unmap()
	if a.Is4() {
		b := a.As4()
		return sourceKey(binary.BigEndian.Uint32(b[:]))
	}
	b := a.As16()
	return sourceKey(binary.BigEndian.Uint64(b[:8]))
}

func newGuard(l Limits, trusted []netip.Prefix) *guard {
	interval := time.Duration(float64(time.Second) / l.FailuresPerSecond)
	return &guard{
		interval: interval,
		burst:    interval * time.Duration(l.FailuresBurst),
		trusted:  trusted,
		failed:   generations[time.Duration]{max: l.SourcesMax},
		known:    generations[struct{}]{max: l.SourcesMax},
	}
}

func (g *guard) isTrusted(a netip.Addr) bool {
	for _, p := range g.trusted {
		if p.Contains(a) {
			return true
		}
	}
	return false
}

// admit tells whether a message from this source is read at all. now is any clock that does not go backwards.
func (g *guard) admit(a netip.Addr, now time.Duration) bool {
	key := sourceOf(a)
	g.mu.Lock()
	defer g.mu.Unlock()
	full, ok := g.failed.get(key)
	if !ok || full-now+g.interval <= g.burst {
		return true
	}
	_, known := g.known.get(key)
	return known || g.isTrusted(a)
}

// fail takes cost tokens; it tells whether there were as many, so that the failure may be answered.
func (g *guard) fail(a netip.Addr, now time.Duration, cost int) bool {
	if g.isTrusted(a) {
		return true
	}
	key := sourceOf(a)
	g.mu.Lock()
	defer g.mu.Unlock()
	full, _ := g.failed.get(key)
	full = max(full, now) + time.Duration(cost)*g.interval
	if full-now > g.burst {
		return false
	}
	g.failed.put(key, full)
	return true
}

// succeed gives a token back and remembers the source.
func (g *guard) succeed(a netip.Addr, now time.Duration) {
	key := sourceOf(a)
	g.mu.Lock()
	defer g.mu.Unlock()
	if full, ok := g.failed.get(key); ok && full > now {
		g.failed.put(key, full-g.interval)
	}
	if _, ok := g.known.get(key); !ok {
		g.known.put(key, struct{}{})
	}
}

// generations is a map that forgets what was not used lately: when the younger of two maps is full, the older one goes.
type generations[V any] struct {
	max          int // entries of each map
	young, older map[sourceKey]V
}

func (g *generations[V]) get(k sourceKey) (V, bool) {
	v, ok := g.young[k]
	if ok {
		return v, true
	}
	if v, ok = g.older[k]; ok {
		g.put(k, v)
	}
	return v, ok
}

func (g *generations[V]) put(k sourceKey, v V) {
	if g.young == nil || len(g.young) >= g.max {
		if _, ok := g.young[k]; !ok {
			g.older, g.young = g.young, make(map[sourceKey]V)
		}
	}
	g.young[k] = v
}
