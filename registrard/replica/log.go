package replica

import (
	"slices"

	"sipha/registrard/location"
)

// window is the log's end, kept in memory: entries without a gap after base. Its front is trimmed to WindowBytes and WindowEntries,
// and never above the commit index.
type window struct {
	base    location.Position // of the entry before entries[0]
	entries []location.Entry
	bytes   int
}

func (w *window) last() location.Position {
	if n := len(w.entries); n > 0 {
		return w.entries[n-1].Position
	}
	return w.base
}

// at returns the position of the entry with this index, as far as the window reaches back (base included).
func (w *window) at(index uint64) (location.Position, bool) {
	switch {
	case index == w.base.Index:
		return w.base, true
	case index < w.base.Index || index > w.last().Index:
		return location.Position{}, false
	}
	return w.entries[index-w.base.Index-1].Position, true
}

// from returns the entries with index and above; false where the window does not reach back that far.
func (w *window) from(index uint64) ([]location.Entry, bool) {
	if index <= w.base.Index {
		return nil, false
	}
	if index > w.last().Index {
		return nil, true
	}
	return w.entries[index-w.base.Index-1:], true
}

// span returns the entries above lo up to hi.
func (w *window) span(lo, hi uint64) []location.Entry {
	return slices.Clone(w.entries[lo-w.base.Index : hi-w.base.Index])
}

func (w *window) append(entries []location.Entry) {
	for i := range entries {
		w.bytes += len(entries[i].Payload)
	}
	w.entries = append(w.entries, entries...)
}

// cut removes the entries with index and above.
func (w *window) cut(index uint64) {
	n := int(index - w.base.Index - 1)
	for i := n; i < len(w.entries); i++ {
		w.bytes -= len(w.entries[i].Payload)
	}
	clear(w.entries[n:])
	w.entries = w.entries[:n]
}

// trim drops entries up to index, oldest first, when the window exceeds its limits: down to seven eighths of them, so that the rest
// is not moved for every entry.
func (w *window) trim(index uint64) {
	if w.bytes <= WindowBytes && len(w.entries) <= WindowEntries {
		return
	}
	n := 0
	for n < len(w.entries) && w.entries[n].Position.Index <= index &&
		(w.bytes > WindowBytes/8*7 || len(w.entries)-n > WindowEntries/8*7) {
		w.bytes -= len(w.entries[n].Payload)
		n++
	}
	if n > 0 {
		w.base = w.entries[n-1].Position
		w.entries = slices.Delete(w.entries, 0, n)
	}
}

// fits tells how many of the entries go into one Append: at least one, and no more than AppendSize bytes of payload.
func fits(entries []location.Entry) int {
	size := 0
	for i := range entries {
		size += len(entries[i].Payload) + entryOverhead
		if i > 0 && size > AppendSize {
			return i
		}
	}
	return len(entries)
}

// entryOverhead is what an entry takes in an Append beside its payload, in bytes, rounded up.
const entryOverhead = 64

// votersMark is the voters that hold from an index of the log on.
type votersMark struct {
	index  uint64
	voters []location.Voter
}

// votersIn returns the voters that an entry sets; false where it sets none.
func votersIn(e *location.Entry) ([]location.Voter, bool) {
	if e.Kind != location.KindStart && e.Kind != location.KindVoters {
		return nil, false
	}
	changes, err := location.DecodeChanges(e.Payload)
	if err != nil {
		return nil, false
	}
	for _, ch := range changes {
		if v, ok := ch.(*location.VotersChange); ok {
			return v.Voters, true
		}
	}
	return nil, false
}

// voters returns those that count now: the last ones logged, committed or not.
func (c *Core) voters() []location.Voter { return c.marks[len(c.marks)-1].voters }

// votersIndex returns the index of the entry that set them.
func (c *Core) votersIndex() uint64 { return c.marks[len(c.marks)-1].index }

// isVoter tells whether the node counts with this disk.
func (c *Core) isVoter(n location.NodeID, d location.DiskID) bool {
	return slices.Contains(c.voters(), location.Voter{Node: n, Disk: d})
}

func (c *Core) selfVoter() bool { return c.isVoter(c.cfg.Self.Node, c.cfg.Disk) }

// majority returns how many of n are a majority.
func majority(n int) int { return n/2 + 1 }

// write changes the log in memory and asks for the same on disk. The caller has checked that it may: nothing is cut but for what
// leaves a higher position.
func (c *Core) write(cut uint64, entries []location.Entry) {
	if cut > 0 {
		c.log.cut(cut)
		c.durable = min(c.durable, cut-1)
		c.matched = min(c.matched, cut-1)
		for len(c.marks) > 1 && c.votersIndex() >= cut {
			c.marks = c.marks[:len(c.marks)-1]
		}
	}
	c.log.append(entries)
	for i := range entries {
		if v, ok := votersIn(&entries[i]); ok {
			c.marks = append(c.marks, votersMark{entries[i].Position.Index, v})
		}
	}
	if n := len(entries); n > 0 {
		c.lastTime, c.lastMono = entries[n-1].Time, c.now.Mono
	}
	c.seq++
	c.pending = append(c.pending, pendingWrite{seq: c.seq, last: c.log.last().Index, floor: cut})
	c.emit(Write{Seq: c.seq, Cut: cut, Entries: entries})
	c.log.trim(c.applied)
}

// pendingWrite is a Write or a Promise that is not yet stored.
type pendingWrite struct {
	seq     uint64
	last    uint64         // of the log, for a Write
	floor   uint64         // index from which a Write cuts, 0 for none
	promise location.Epoch // for a Promise
	grant   bool           // a Grant follows
}

// onStored moves on what waited for the disk.
func (c *Core) onStored(ev Stored) {
	for len(c.pending) > 0 && c.pending[0].seq <= ev.Seq {
		p := c.pending[0]
		c.pending = c.pending[1:]
		if p.promise != (location.Epoch{}) {
			c.promiseStored = p.promise
			if p.grant && c.promised == p.promise {
				c.multicast(&Grant{Epoch: p.promise, Disk: c.cfg.Disk})
			}
			continue
		}
		// A cut that was asked for since has taken back what lies above it.
		c.durable = max(c.durable, c.pendingCutFloor(p.last))
	}
	c.receipt()
}

// pendingCutFloor returns the highest index up to last that no pending write has cut off.
func (c *Core) pendingCutFloor(last uint64) uint64 {
	for i := range c.pending {
		if f := c.pending[i].floor; f > 0 {
			last = min(last, f-1)
		}
	}
	return last
}
