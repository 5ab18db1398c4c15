package replicatest

import (
	"slices"
	"time"

	"sipha/registrard/location"
	"sipha/registrard/replica"
)

// logFile is the log as a disk has it: entries without a gap after base.
type logFile struct {
	base    location.Position
	entries []location.Entry
}

func (l *logFile) last() location.Position {
	if n := len(l.entries); n > 0 {
		return l.entries[n-1].Position
	}
	return l.base
}

// at returns the position of the entry with an index.
func (l *logFile) at(index uint64) (location.Position, bool) {
	if index <= l.base.Index || index > l.last().Index {
		return l.base, index == l.base.Index && index > 0
	}
	return l.entries[index-l.base.Index-1].Position, true
}

// cut removes the entries with index and above.
func (l *logFile) cut(index uint64) {
	if index > 0 && index <= l.last().Index {
		l.entries = slices.Clone(l.entries[:index-l.base.Index-1])
	}
}

// trim drops entries up to index, oldest first.
func (l *logFile) trim(index uint64) {
	if index > l.base.Index {
		n := index - l.base.Index
		l.base = l.entries[n-1].Position
		l.entries = slices.Clone(l.entries[n:])
	}
}

// clone is for readers that must not see later changes.
func (l *logFile) clone() logFile { return logFile{l.base, slices.Clone(l.entries)} }

// database is the file that a snapshot swaps: the log, and the content with its position.
type database struct {
	log     logFile
	content *location.State
	applied location.Position
	stored  int64 // the wall clock when an entry was last stored
}

// disk keeps what a machine has stored. What is written survives the process, what is synced survives the power. Promise and identity
// lie in a file of their own, outside the one that a snapshot swaps.
type disk struct {
	m        *machine
	id       location.DiskID
	promised location.Epoch // synced
	synced   database
	written  logFile // the log with what is written and not synced
	// What is written and not synced, oldest first; the two files' writes reach the platter independently of each other.
	promises []write
	writes   []write
	slow     time.Duration // what a sync takes more
	syncing  bool
	corrupt  bool // the content has changed by itself
	life     int  // counts the disks of a machine, so that nothing planned for one happens to the next
}

// write is one transaction.
type write struct {
	seq uint64 // of the Action that Stored answers; 0: none
	do  func(*disk)
}

func newDisk(m *machine) *disk {
	return &disk{m: m, id: location.DiskID(m.s.name()), synced: database{content: location.NewState()}}
}

// append writes to the log: what lies at cut and above goes, then the entries come, in one transaction.
func (d *disk) append(seq, cut uint64, entries []location.Entry) {
	d.checkWrite(cut, entries)
	d.written.cut(cut)
	d.written.entries = append(d.written.entries, entries...)
	wall := d.m.wall()
	d.write(seq, func(d *disk) {
		d.synced.log.cut(cut)
		d.synced.log.entries = append(d.synced.log.entries, entries...)
		d.synced.stored = wall
	})
}

// checkWrite holds a Write to what it must be: without a gap, never below what is applied, and never for a lower position.
func (d *disk) checkWrite(cut uint64, entries []location.Entry) {
	s, last := d.m.s, d.written.last()
	if cut > 0 {
		if len(entries) == 0 || entries[len(entries)-1].Position.Compare(last) <= 0 {
			s.fail("node %d cuts its log at %d, from %s, for nothing higher", d.m.id, cut, last)
		}
		if p := d.m.shell; p != nil && cut <= p.applied {
			s.fail("node %d cuts its log at %d, though it has applied %d", d.m.id, cut, p.applied)
		}
		prev, ok := d.written.at(cut - 1)
		if !ok && cut-1 != d.written.base.Index {
			s.fail("node %d cuts its log at %d, outside of it (%s to %s)", d.m.id, cut, d.written.base, last)
		}
		last = prev
	}
	for i := range entries {
		if entries[i].Prev != last || entries[i].Position.Index != last.Index+1 {
			s.fail("node %d writes %s after %s, which it must follow", d.m.id, entries[i].Position, last)
		}
		last = entries[i].Position
	}
}

// apply moves the content on, with its position in the same transaction.
func (d *disk) apply(entries []location.Entry) {
	keep := d.m.s.opts.LogKeep
	last := entries[len(entries)-1].Position.Index
	if last > uint64(keep) && d.written.base.Index < last-uint64(keep) {
		d.written.trim(last - uint64(keep))
	}
	d.write(0, func(d *disk) {
		for i := range entries {
			d.synced.content.Apply(entries[i].Time, d.m.s.oracle.changes(&entries[i]))
			d.synced.applied = entries[i].Position
		}
		if last > uint64(keep) {
			d.synced.log.trim(last - uint64(keep))
		}
	})
}

// install swaps the database for a staged one.
func (d *disk) install(db database, done func()) {
	d.written = db.log.clone()
	d.write(0, func(d *disk) {
		d.synced = db
		if done != nil {
			done()
		}
	})
}

// promise stores an epoch.
func (d *disk) promise(seq uint64, e location.Epoch) {
	do := func(d *disk) { d.promised = e }
	if d.m.s.opts.Break.ForgetPromise {
		do = func(*disk) {}
	}
	d.promises = append(d.promises, write{seq, do})
	d.sync()
}

func (d *disk) write(seq uint64, do func(*disk)) {
	d.writes = append(d.writes, write{seq, do})
	d.sync()
}

// syncUsual is what a sync takes.
const syncUsual = 3 * time.Millisecond

// sync starts a sync of what is written by now, unless one is under way: the next one follows it.
func (d *disk) sync() {
	if d.syncing || len(d.writes)+len(d.promises) == 0 {
		return
	}
	d.syncing = true
	writes, promises, life := len(d.writes), len(d.promises), d.life
	shell := d.m.shell
	d.m.s.after(d.m.s.between(syncUsual/30, syncUsual)+d.slow, func() {
		if d.life != life || d.m.shell != shell || shell == nil {
			return // the power went, or the process
		}
		shell.whenAwake(func() {
			d.syncing = false
			seq := d.settle(writes, promises)
			if seq > 0 {
				shell.step(replica.Stored{Seq: seq})
			}
			d.sync()
		})
	})
}

// settle moves the first writes of both files to the platter, and returns the highest Seq among them.
func (d *disk) settle(writes, promises int) uint64 {
	var seq uint64
	for _, w := range d.promises[:promises] {
		w.do(d)
		seq = max(seq, w.seq)
	}
	d.promises = slices.Delete(d.promises, 0, promises)
	done := d.writes[:writes:writes]
	d.writes = slices.Clone(d.writes[writes:])
	for _, w := range done {
		w.do(d)
		seq = max(seq, w.seq)
	}
	return seq
}

// powerCut leaves of what is not synced as much as the platter happened to get, of each file a beginning.
func (d *disk) powerCut() {
	d.life++
	d.syncing = false
	rng := d.m.s.rng
	d.settle(rng.IntN(len(d.writes)+1), rng.IntN(len(d.promises)+1))
	d.writes, d.promises = nil, nil
	d.written = d.synced.log.clone()
}

// open is what a process finds. What an earlier one has written and not synced is synced before anything is told of it: else this
// process would receipt what a power cut could still take back.
func (d *disk) open() replica.Boot {
	d.life++
	d.syncing = false
	if d.m.s.opts.Break.UnsyncedBoot {
		return d.bootUnsynced()
	}
	d.settle(len(d.writes), len(d.promises))
	d.written = d.synced.log.clone()
	return d.boot()
}

// bootUnsynced is Break.UnsyncedBoot: the writes stay unsynced, and nobody syncs them before the next write does.
func (d *disk) bootUnsynced() replica.Boot {
	after := *d
	after.synced.content = rebuild(d.synced.content)
	after.synced.log = d.synced.log.clone()
	after.writes, after.promises = slices.Clone(d.writes), slices.Clone(d.promises)
	after.settle(len(after.writes), len(after.promises))
	d.written = after.synced.log.clone()
	return after.boot()
}

// boot tells what is synced.
func (d *disk) boot() replica.Boot {
	b := replica.Boot{
		Disk: d.id, Promised: d.promised, Applied: d.synced.applied, Time: d.synced.content.Now(), Voters: d.synced.content.Voters(),
		Log: slices.Clone(d.synced.log.entries),
	}
	b.Applied.Digest = d.synced.content.Digest()
	if d.synced.stored > 0 {
		b.StoredAgo = time.Duration(max(d.m.wall()-d.synced.stored, 0)) * time.Millisecond
	}
	return b
}

// setAside gives the machine an empty database with another name. The promise stays: it lies outside.
func (d *disk) setAside() {
	gone := *d
	d.m.s.oracle.lost[d.id] = &gone
	d.life++
	d.id = location.DiskID(d.m.s.name())
	d.synced, d.written = database{content: location.NewState()}, logFile{}
	d.writes, d.promises, d.syncing, d.corrupt = nil, nil, false, false
}

// holds tells whether the platter has an entry, in the log or in the content.
func (d *disk) holds(p location.Position) bool {
	if p.Index <= d.synced.applied.Index {
		return true
	}
	have, ok := d.synced.log.at(p.Index)
	return ok && have == p
}

// rebuild copies a content the way a snapshot does.
func rebuild(s *location.State) *location.State {
	c := location.NewState()
	for change := range s.Rebuild() {
		c.Apply(s.Now(), []location.Change{change})
	}
	return c
}
