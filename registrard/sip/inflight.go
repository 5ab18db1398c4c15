package sip

import (
	"hash/maphash"
	"sync"
	"time"
)

// inflight remembers the REGISTERs that were handed to the Registrar and are not answered yet. A retransmission of one of them is
// dropped: its answer is on its way. It also bounds how many there are.
type inflight struct {
	seed maphash.Seed
	max  int

	mu   sync.Mutex
	keys map[uint64]*work
}

func newInflight(limit int) *inflight {
	return &inflight{seed: maphash.MakeSeed(), max: limit, keys: make(map[uint64]*work)}
}

// key names a request: a retransmission has the same Call-ID, CSeq, branch and source (RFC 3261 section 17.2.3).
func (f *inflight) key(callID, branch []byte, cseq uint32, source sourceKey) uint64 {
	var h maphash.Hash
	h.SetSeed(f.seed)
	_, _ = h.Write(callID) // a hash does not fail
	_ = h.WriteByte(0)
	_, _ = h.Write(branch)
	_ = h.WriteByte(0)
	maphash.WriteComparable(&h, cseq)
	maphash.WriteComparable(&h, source)
	return h.Sum64()
}

// proofKey names a whole message and its source: a retransmission is the same to the last byte (RFC 3261 section 17.1.2).
func (f *inflight) proofKey(msg []byte, source sourceKey) uint64 {
	var h maphash.Hash
	h.SetSeed(f.seed)
	_, _ = h.Write(msg) // a hash does not fail
	maphash.WriteComparable(&h, source)
	return h.Sum64()
}

// admission is what a bounded table says to a request.
type admission uint8

const (
	admitted admission = iota
	retransmitted
	refused
)

func (f *inflight) begin(key uint64, w *work) admission {
	f.mu.Lock()
	defer f.mu.Unlock()
	if _, ok := f.keys[key]; ok {
		return retransmitted
	}
	if len(f.keys) >= f.max {
		return refused
	}
	f.keys[key] = w
	return admitted
}

func (f *inflight) end(key uint64) {
	f.mu.Lock()
	delete(f.keys, key)
	f.mu.Unlock()
}

func (f *inflight) len() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.keys)
}

// overdue removes the REGISTERs that began before a time, and returns those that nobody has answered yet.
func (f *inflight) overdue(before time.Duration) []*work {
	f.mu.Lock()
	defer f.mu.Unlock()
	var late []*work
	for key, w := range f.keys {
		if w.began < before && w.abandon() {
			delete(f.keys, key)
			late = append(late, w)
		}
	}
	return late
}
