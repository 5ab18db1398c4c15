package replicatest

import (
	"fmt"
	"slices"
	"time"

	"sipha/registrard/location"
	"sipha/registrard/replica"
)

// oracle sees all machines at once and holds them to what they promise.
type oracle struct {
	s *Sim
	// entries are all that were ever written, by epoch and index: no two with the same name may differ (log matching).
	entries map[entryKey]*location.Entry
	// log is what is committed, and digests the content after each entry.
	log     []location.Entry
	digests []location.Digest
	// reigns are the epochs that have committed something, in the order of their first commit.
	reigns []reign
	// grants are the highest epochs that disks have granted.
	grants  map[location.DiskID]location.Epoch
	decoded map[entryKey][]location.Change
	history []record       // of every 2xx, for the check of linearizability
	counts  map[string]int // of what has happened, to see that a simulation plays all of the protocol
	ahead   location.Time  // how far ordered time was ahead of the simulation's at the last entry, or the first where clocks are right
	// lost are the databases that are gone: who wiped it had held what it held.
	lost map[location.DiskID]*disk
	// corrupted: a content has changed by itself. If it was the primary's, the log's digests are wrong from there on.
	corrupted bool
}

type entryKey struct {
	epoch location.Epoch
	index uint64
}

// reign is an epoch with a commit: when the first was, and on which node.
type reign struct {
	epoch location.Epoch
	at    time.Duration
	node  location.NodeID
}

// record is an answered op.
type record struct {
	op       *op
	invoked  time.Duration
	returned time.Duration
	bindings []location.Binding
}

func newOracle(s *Sim) *oracle {
	return &oracle{
		s: s, entries: map[entryKey]*location.Entry{},
		grants: map[location.DiskID]location.Epoch{}, lost: map[location.DiskID]*disk{}, counts: map[string]int{}, decoded: map[entryKey][]location.Change{},
	}
}

func keyOf(p location.Position) entryKey { return entryKey{p.Epoch, p.Index} }

// changes returns an entry's changes.
func (o *oracle) changes(e *location.Entry) []location.Change {
	k := keyOf(e.Position)
	if c, ok := o.decoded[k]; ok {
		return c
	}
	c, err := location.DecodeChanges(e.Payload)
	if err != nil {
		o.s.fail("entry %s: %v", e.Position, err)
	}
	o.decoded[k] = c
	return c
}

// booted checks that a disk has not forgotten what it promised.
func (o *oracle) booted(p *shell, b replica.Boot) {
	if g := o.grants[b.Disk]; b.Promised.Compare(g) < 0 {
		o.s.fail("P1: node %d starts with promise %s, and has granted %s", p.m.id, b.Promised, g)
	}
	o.contentAt(p, b.Applied)
}

// installed checks a snapshot that has been swapped in.
func (o *oracle) installed(p *shell, b replica.Boot) {
	o.counts["snapshot installed"]++
	o.contentAt(p, b.Applied)
}

// contentAt checks a content whose position is known against what is committed.
func (o *oracle) contentAt(p *shell, at location.Position) {
	switch {
	case at.Index == 0 || p.m.disk.corrupt:
	case at.Index > uint64(len(o.log)):
		o.s.fail("P1: node %d holds content at %s, and only %d entries are committed", p.m.id, short(at), len(o.log))
	case o.digests[at.Index-1] != at.Digest:
		o.s.fail("P3: node %d holds content at %s with digest %s, not %s", p.m.id, short(at), at.Digest, o.digests[at.Index-1])
	}
}

// wrote checks that entries of one name are one entry.
func (o *oracle) wrote(p *shell, w replica.Write) {
	for i := range w.Entries {
		e := &w.Entries[i]
		k := keyOf(e.Position)
		known := o.entries[k]
		if known == nil {
			o.entries[k] = e
			continue
		}
		if known.Position != e.Position || known.Prev != e.Prev || known.Kind != e.Kind || known.Time != e.Time ||
			!slices.Equal(known.Payload, e.Payload) {
			o.s.fail("log matching: node %d writes another entry %s", p.m.id, short(e.Position))
		}
	}
	if w.Cut > 0 {
		o.counts["log cut"]++
	}
	if w.Cut > 0 && w.Cut <= uint64(len(o.log)) {
		o.checkCut(p, w)
	}
}

// checkCut sees to it that no voter cuts what is committed.
func (o *oracle) checkCut(p *shell, w replica.Write) {
	for i := w.Cut; i <= uint64(len(o.log)); i++ {
		have, ok := p.m.disk.written.at(i)
		if !ok || have != o.log[i-1].Position {
			return
		}
		if int(i-w.Cut) >= len(w.Entries) || w.Entries[i-w.Cut].Position != have {
			o.s.fail("P1: node %d cuts off the committed entry %s", p.m.id, short(have))
			return
		}
	}
}

// committing checks entries that a node takes for committed.
func (o *oracle) committing(p *shell, entries []location.Entry) {
	for i := range entries {
		e := &entries[i]
		index := e.Position.Index
		switch {
		case index <= uint64(len(o.log)):
			if o.log[index-1].Position != e.Position {
				o.s.fail("P1: node %d commits %s where %s is committed", p.m.id, short(e.Position), short(o.log[index-1].Position))
				return
			}
		case index == uint64(len(o.log))+1:
			o.firstCommit(p, e)
		default:
			o.s.fail("node %d commits %s, and %d entries are committed", p.m.id, short(e.Position), len(o.log))
		}
	}
}

// firstCommit checks what is committed for the first time: by the primary of a running epoch, on the disks of a majority.
func (o *oracle) firstCommit(p *shell, e *location.Entry) {
	o.log = append(o.log, *e)
	o.digests = append(o.digests, location.Digest{})
	st := p.core.Status()
	if st.Epoch.Node != p.m.id || st.Epoch.Incarnation != p.self.Incarnation {
		o.s.fail("node %d commits %s before the primary of %s does", p.m.id, short(e.Position), st.Epoch)
	}
	last := reign{}
	if n := len(o.reigns); n > 0 {
		last = o.reigns[n-1]
	}
	switch c := st.Epoch.Compare(last.epoch); {
	case c < 0:
		o.s.fail("P4: node %d commits %s in epoch %s, after %s has committed", p.m.id, short(e.Position), st.Epoch, last.epoch)
	case c == 0 && last.node != p.m.id:
		o.s.fail("nodes %d and %d commit in epoch %s", last.node, p.m.id, st.Epoch)
	case c > 0:
		o.reigns = append(o.reigns, reign{st.Epoch, o.s.now, p.m.id})
	}
	o.counts["committed "+kindName(e.Kind)]++
	o.checkTime(e)
	if have, of := o.holders(e.Position, st.Voters); have < of/2+1 {
		o.s.fail("P1: node %d commits %s, which %d of %d voters hold", p.m.id, short(e.Position), have, of)
	}
}

// By how much ordered time may be ahead of the simulation's: for rounding, and at once where wall clocks are wrong. An entry is
// looked at when it is committed, which may be a while after its time was given to it.
const (
	timeSlack = 10
	timeLeap  = location.Time((addedMax + 5*time.Second) / time.Millisecond)
)

// checkTime sees to it that ordered time never runs backwards, and no faster than time does: but for the bounded step of a promotion
// where wall clocks are wrong (P5).
func (o *oracle) checkTime(e *location.Entry) {
	ahead := e.Time - wallStart - location.Time(o.s.now/time.Millisecond)
	switch n := len(o.log); {
	case n == 1:
		o.ahead = max(0, ahead) // a first log takes its time from a wall clock
	case e.Time < o.log[n-2].Time:
		o.s.fail("P5: ordered time goes back from %d to %d at %s", o.log[n-2].Time, e.Time, short(e.Position))
	case o.s.opts.Faults.ClockStep == 0 && ahead > timeSlack:
		o.s.fail("P5: ordered time is %d ms ahead at %s", ahead, short(e.Position))
	case ahead > o.ahead+timeLeap:
		o.s.fail("P5: ordered time leaps %d ms at %s", ahead-o.ahead, short(e.Position))
	}
	o.ahead = max(o.ahead, ahead)
}

// applying looks at an entry before it changes the content: nothing may run out before its time, nor within the grace (P5).
func (o *oracle) applying(p *shell, e *location.Entry) {
	for _, c := range o.changes(e) {
		b, ok := c.(*location.BindingsChange)
		if !ok || b.Cause != location.CauseExpired {
			continue
		}
		for _, old := range p.state.Bindings(b.AOR) {
			if end := max(old.Expires, p.state.Grace()); slices.Contains(b.Remove, old.Contact) && end > e.Time {
				o.s.fail("P5: %s runs out at %s, %d ms early", old.Contact, short(e.Position), end-e.Time)
			}
		}
	}
}

// holders counts the voters on whose platters an entry lies.
func (o *oracle) holders(at location.Position, voters []location.Voter) (have, of int) {
	for _, v := range voters {
		d := o.s.machine(v.Node).disk
		if d.id != v.Disk {
			d = o.lost[v.Disk]
		}
		if d != nil && d.holds(at) {
			have++
		}
	}
	return have, len(voters)
}

// applied checks that equal positions have equal digests, and that nothing runs out early.
func (o *oracle) applied(p *shell, e *location.Entry) {
	if p.m.disk.corrupt {
		return
	}
	digest := p.state.Digest()
	known := &o.digests[e.Position.Index-1]
	if *known == (location.Digest{}) {
		*known = digest
	}
	if *known != digest {
		o.s.fail("P3: node %d has digest %s at %s, not %s", p.m.id, digest, short(e.Position), *known)
	}
	if digest != e.Position.Digest && !o.corrupted {
		o.s.fail("P3: node %d has digest %s at %s, and the log says %s", p.m.id, digest, short(e.Position), e.Position.Digest)
	}
}

// sending checks what a node is about to say.
func (o *oracle) sending(p *shell, m replica.Message) {
	d := p.m.disk
	o.counts[fmt.Sprintf("%T", m)]++
	switch m := m.(type) {
	case *replica.Refuse:
		o.counts["refused: "+reasonName(m.Reason)]++
	case *replica.Grant:
		if m.Epoch.Compare(o.grants[m.Disk]) < 0 {
			o.s.fail("node %d grants %s after %s", p.m.id, m.Epoch, o.grants[m.Disk])
		}
		if d.promised.Compare(m.Epoch) < 0 && !o.s.opts.Break.ForgetPromise && !o.s.opts.Break.EarlyStored {
			o.s.fail("P1: node %d grants %s, and has stored %s", p.m.id, m.Epoch, d.promised)
		}
		o.grants[m.Disk] = m.Epoch
	case *replica.Receipt:
		if g := o.grants[m.Disk]; m.Epoch.Compare(g) < 0 && !m.Differs {
			o.s.fail("P1: node %d gives a receipt for %s after it granted %s", p.m.id, m.Epoch, g)
		}
		if at, ok := d.written.at(m.Index); !m.Differs && ok && !d.holds(at) && !o.s.opts.Break.EarlyStored && !o.s.opts.Break.UnsyncedBoot {
			o.s.fail("P1: node %d gives a receipt for %s, which is not on its platter", p.m.id, short(at))
		}
	}
}

// answered checks a 2xx when it leaves: no newer primary may have begun to commit before the request came in (P4).
func (o *oracle) answered(p *shell, a *attempt, arrived time.Duration, ans location.Answer) {
	epoch := p.status.Epoch
	if p.lead != nil {
		epoch = p.lead.epoch
	}
	for _, r := range slices.Backward(o.reigns) {
		if r.epoch.Compare(epoch) <= 0 {
			break
		}
		if r.at < arrived {
			o.s.fail("P4: node %d answers %v in epoch %s, and %s had committed before it came in", p.m.id, a.op, epoch, r.epoch)
			return
		}
	}
	o.counts["answered"]++
	o.checkBindings(fmt.Sprintf("answer of node %d", p.m.id), a.op.phone.aor, a.sent, ans.Bindings)
}

// acked notes that a client knows the outcome.
func (o *oracle) acked(a *attempt, ans location.Answer) {
	o.history = append(o.history, record{a.op, a.sent, o.s.now, ans.Bindings})
}

// checkBindings holds bindings of an address-of-record against what was answered before asked: nothing answered may be missing (P1,
// P5), nothing removed may be back (P2), nothing may be there that nobody asked for.
func (o *oracle) checkBindings(where string, aor location.AOR, asked time.Duration, got []location.Binding) {
	owners := 0
	for _, ph := range o.s.phones {
		if ph.aor != aor {
			continue
		}
		i := slices.IndexFunc(got, func(b location.Binding) bool { return b.Contact == ph.contact })
		if i < 0 {
			o.checkAbsent(where, ph, asked)
			continue
		}
		owners++
		o.checkPresent(where, ph, asked, &got[i])
	}
	if owners != len(got) {
		o.s.fail("%s: %s has %d bindings, and %d of them are known", where, aor, len(got), owners)
	}
}

// surely returns the last op of a phone that was answered before a time: what is seen later is that or something newer.
func (ph *phone) surely(before time.Duration) uint32 {
	for i := len(ph.ops) - 1; i >= 0; i-- {
		if o := ph.ops[i]; o.acked > 0 && o.acked < before {
			return o.cseq
		}
	}
	return 0
}

func (o *oracle) checkPresent(where string, ph *phone, asked time.Duration, b *location.Binding) {
	sure := ph.surely(asked)
	switch {
	case b.CSeq < sure && ph.ops[sure-1].kind == opRemove:
		o.s.fail("P2: %s: %s is back with cseq %d, and its removal with cseq %d was answered", where, ph.contact, b.CSeq, sure)
	case b.CSeq < sure:
		o.s.fail("P1: %s: %s has cseq %d, and cseq %d was answered", where, ph.contact, b.CSeq, sure)
	case int(b.CSeq) > len(ph.ops):
		o.s.fail("%s: %s has cseq %d, which was never sent", where, ph.contact, b.CSeq)
	case ph.ops[b.CSeq-1].kind != opPut || b.UserAgent != ph.ops[b.CSeq-1].agent || b.CallID != ph.callID:
		o.s.fail("%s: %s is not what cseq %d asked for", where, ph.contact, b.CSeq)
	}
}

// earlySlack is by how much ordered time and the simulation's may differ, for rounding.
const earlySlack = 50 * time.Millisecond

func (o *oracle) checkAbsent(where string, ph *phone, asked time.Duration) {
	sure := ph.surely(asked)
	if sure == 0 {
		return
	}
	for _, op := range ph.ops[sure-1:] {
		ends := op.sent + time.Duration(op.expires)*time.Second - earlySlack
		if op.kind == opRemove || ph.brief && (o.s.now >= ends || o.s.opts.Faults.ClockStep > 0) {
			return
		}
	}
	o.s.fail("P1, P5: %s: %s is missing, and cseq %d was answered", where, ph.contact, sure)
}

// setAside notes that a machine gives up its database.
func (o *oracle) setAside(p *shell, reason string) {
	o.counts["set aside"]++
	o.s.trace("%-5s sets its database aside: %s", p.m, reason)
	if !p.m.disk.corrupt {
		o.s.fail("P3: node %d sets a sound database aside: %s", p.m.id, reason)
	}
}

// stepped checks a node after each of its steps.
func (o *oracle) stepped(p *shell) {
	if l := p.lead; l != nil && len(l.flown) > flownMax {
		o.s.fail("node %d has %d batches in flight", p.m.id, len(l.flown))
	}
}

// flownMax bounds what a primary has in flight: what waits for receipts, and what a log's tail adds to it.
const flownMax = 2*replica.UncommittedMax + replica.InFlightMax
