package store

import (
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"sipha/registrard/location"
)

// Options of Open.
type Options struct {
	// Durable makes Write return only when what it wrote survives a power cut. Without it, what a power cut or a crash of the
	// process loses is a suffix of what was written, and the database has another DiskID after one.
	Durable bool
	// Now is the wall clock; nil: time.Now.
	Now func() time.Time
}

// Batch is what one Write stores, in one transaction with at most one sync: first Cut, then Append, then Apply.
type Batch struct {
	// Cut is the index from which on the log is cut off; 0: nothing is.
	Cut uint64
	// Append are the log's next entries.
	Append []location.Entry
	// Apply are committed entries, the next ones after those applied before. They must be in the log.
	Apply []Committed
}

// Committed is a committed entry with its payload decoded. The Store keeps the changes for a while: they must not be written to.
type Committed struct {
	Position location.Position
	Time     location.Time
	Changes  []location.Change
}

// Store is an open database. Its methods are safe for concurrent use; those that write wait for one another.
type Store struct {
	dir  string
	opts Options
	lock *os.File

	mu       sync.Mutex
	db       *conn // nil when closed
	tables   *tables
	logTable *logTable
	identity identity
	meta     meta // as in the database
	log      logEnds
	pending  pending
	readers  int
}

// pending is what is committed and not yet in the tables. The log has it, so that it may wait: the tables take many entries at once,
// in the order of their keys, which touches each page once instead of once a row.
type pending struct {
	meta    meta // as it will be
	changes []pendingChange
	entries int
	since   int64 // wall clock of the oldest, in milliseconds
}

type pendingChange struct {
	aor    location.AOR
	change location.Change
	added  int64
}

// Write stores a batch. After an error nothing of it is stored. What is applied may reach the tables with a later Write or Flush; until
// then it is read from the log after a restart. A batch that only applies needs no sync, and mostly no transaction.
func (s *Store) Write(b Batch) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.db == nil {
		return s.wrap("write", ErrClosed)
	}
	wall := s.wall()
	ends, next, held := s.log, s.pending, len(s.pending.changes)
	err := s.queue(&next, &b, wall)
	flush := next.due(wall)
	if err == nil && (flush || b.Cut != 0 || len(b.Append) > 0) {
		err = s.commit(&ends, &next, &b, flush, wall)
	}
	if err != nil {
		clear(next.changes[held:])
		s.pending.changes = next.changes[:held]
		return s.wrap("write", err)
	}
	s.log, s.pending = ends, next
	if flush {
		s.pending.reset()
	}
	return nil
}

// queue adds what the batch applies to what is pending.
func (s *Store) queue(next *pending, b *Batch, wall int64) error {
	last := s.log.last.Index
	if n := len(b.Append); n > 0 {
		last = b.Append[n-1].Position.Index
	}
	if len(b.Apply) > 0 && next.entries == 0 {
		next.since = wall
	}
	for i := range b.Apply {
		if err := next.add(&b.Apply[i], last); err != nil {
			return err
		}
	}
	return nil
}

// commit does the transaction: the log, the tables when it is time, and the position.
func (s *Store) commit(ends *logEnds, next *pending, b *Batch, flush bool, wall int64) error {
	at := s.meta
	err := s.db.transaction(func() error {
		if err := s.change(b, ends); err != nil {
			return err
		}
		if flush {
			if err := s.applyPending(next); err != nil {
				return err
			}
			at = next.meta
		}
		if err := s.trim(ends, at.applied.Index); err != nil {
			return err
		}
		at.wall = wall
		return s.tables.positionUpdate.run(at.values()...)
	})
	if err == nil {
		s.meta = at
	}
	return err
}

func (s *Store) wall() int64 { return s.opts.Now().UnixMilli() }

// Flush puts everything that is applied into the tables. A caller that has nothing to write calls it, so that who reads the database
// file sees what is current.
func (s *Store) Flush() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.flush()
}

func (s *Store) flush() error {
	if s.db == nil {
		return s.wrap("flush", ErrClosed)
	}
	if s.pending.entries == 0 {
		return nil
	}
	ends, next := s.log, s.pending
	if err := s.commit(&ends, &next, &Batch{}, true, s.meta.wall); err != nil {
		return s.wrap("flush", err)
	}
	s.log = ends
	s.pending.reset()
	return nil
}

// add queues a committed entry. It must follow what is applied, and be in the log, which ends at last.
func (p *pending) add(c *Committed, last uint64) error {
	if c.Position.Index != p.meta.applied.Index+1 || c.Position.Index > last {
		return fmt.Errorf("apply entry %d where %d is applied and the log ends at %d: %w",
			c.Position.Index, p.meta.applied.Index, last, ErrSequence)
	}
	for _, change := range c.Changes {
		one := pendingChange{change: change}
		switch change := change.(type) {
		case *location.BindingsChange:
			one.aor = change.AOR
		case *location.UserChange:
			one.aor = change.User.AOR
		case *location.TimeChange:
			p.meta.grace = max(p.meta.grace, change.Grace)
			p.meta.added += change.Added
		}
		one.added = p.meta.added
		p.changes = append(p.changes, one)
	}
	p.meta.applied = c.Position
	p.meta.time = max(p.meta.time, c.Time)
	p.entries++
	return nil
}

// due tells whether it has waited enough. A wall clock that steps makes it wait shorter or longer, within the other bounds.
func (p *pending) due(wall int64) bool {
	return p.entries > 0 && (p.entries >= flushEntriesMax || len(p.changes) >= flushChangesMax || wall-p.since >= flushAgeMS || wall < p.since)
}

func (p *pending) reset() {
	clear(p.changes)
	*p = pending{meta: p.meta, changes: p.changes[:0]}
}

// applyPending puts the queued changes into the tables: for each AOR in the order they came, the AORs in that of the tables.
func (s *Store) applyPending(p *pending) error {
	sorted := slices.Clone(p.changes) // as long as the transaction may fail, the queue stays as it is
	slices.SortStableFunc(sorted, func(a, b pendingChange) int { return strings.Compare(string(a.aor), string(b.aor)) })
	for i := range sorted {
		if err := s.tables.apply(sorted[i].change, sorted[i].added); err != nil {
			return err
		}
	}
	return nil
}

// change cuts and appends, and keeps the log's ends.
func (s *Store) change(b *Batch, ends *logEnds) error {
	if b.Cut != 0 && b.Cut <= ends.last.Index {
		if b.Cut <= s.pending.meta.applied.Index {
			return fmt.Errorf("cut at %d what is applied up to %d: %w", b.Cut, s.pending.meta.applied.Index, ErrSequence)
		}
		if err := s.cut(b.Cut, ends); err != nil {
			return err
		}
	}
	for i := range b.Append {
		e := &b.Append[i]
		if e.Prev != ends.last || e.Position.Index != ends.last.Index+1 {
			return fmt.Errorf("append %s after %s: %w", e.Position, ends.last, ErrSequence)
		}
		if err := s.logTable.add(e); err != nil {
			return err
		}
		ends.last = e.Position
		ends.bytes += int64(len(e.Payload))
	}
	return nil
}

func (s *Store) cut(at uint64, ends *logEnds) error {
	row, err := s.db.one("SELECT coalesce(sum(length(payload)), 0), (SELECT prev FROM log WHERE idx = ?1) FROM log WHERE idx >= ?1", int64(at))
	if err != nil {
		return err
	}
	last, err := decodePosition(blob(row[1]))
	if err != nil {
		return err
	}
	ends.bytes -= integer(row[0])
	ends.last = last
	return s.logTable.cut.run(int64(at))
}

// trim keeps the log within its bounds. It takes an eighth at once, so that few Writes have to.
func (s *Store) trim(ends *logEnds, applied uint64) error {
	if ends.entries() <= LogEntriesMax && ends.bytes <= LogBytesMax {
		return nil
	}
	keep := uint64(0) // the first that stays
	if n := ends.entries(); n > LogEntriesMax {
		keep = ends.first + n - LogEntriesMax*7/8
	}
	if ends.bytes > LogBytesMax {
		row, err := s.db.one("SELECT coalesce(min(idx), ?2) FROM (SELECT idx, sum(length(payload)) OVER (ORDER BY idx) AS upto FROM log) WHERE upto > ?1",
			ends.bytes-LogBytesMax*7/8, int64(math.MaxInt64))
		if err != nil {
			return err
		}
		keep = max(keep, uint64(integer(row[0]))+1)
	}
	if keep = min(keep, applied); keep <= ends.first {
		return nil
	}
	row, err := s.db.one("SELECT coalesce(sum(length(payload)), 0) FROM log WHERE idx < ?", int64(keep))
	if err != nil {
		return err
	}
	ends.first = keep
	ends.bytes -= integer(row[0])
	return s.logTable.trim.run(int64(keep))
}

// ReadLog returns at most most entries of the log, from the index on. Entries before First are gone.
func (s *Store) ReadLog(from uint64, most int) ([]location.Entry, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.db == nil {
		return nil, s.wrap("read log", ErrClosed)
	}
	var entries []location.Entry
	err := readLog(s.db, from, most, func(e location.Entry) error {
		entries = append(entries, e)
		return nil
	})
	return entries, s.wrap("read log", err)
}

// Position tells the index of the log's first entry, its last position, and up to where entries are applied. The log is empty when
// first is last.Index+1.
func (s *Store) Position() (first uint64, last, applied location.Position) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.log.first, s.log.last, s.pending.meta.applied
}

// Disk tells which database this is.
func (s *Store) Disk() location.DiskID {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.identity.disk
}

// SavePromise stores durably that the epoch is promised. A lower one than before changes nothing.
func (s *Store) SavePromise(e location.Epoch) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.db == nil {
		return s.wrap("promise", ErrClosed)
	}
	if e.Compare(s.identity.promised) <= 0 {
		return nil
	}
	id := s.identity
	id.promised = e
	id.seen = max(id.seen, e.Number)
	return s.saveIdentity(id)
}

// SaveSeen stores durably the number of an epoch that was met, so that a later promotion here claims above it.
func (s *Store) SaveSeen(number uint64) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.db == nil {
		return s.wrap("note epoch", ErrClosed)
	}
	if number <= s.identity.seen {
		return nil
	}
	id := s.identity
	id.seen = number
	return s.saveIdentity(id)
}

func (s *Store) saveIdentity(id identity) error {
	if err := writeIdentity(s.dir, &id); err != nil {
		return err
	}
	s.identity = id
	return nil
}

// Close closes the database. Clean says that every Write and promise that was begun has ended well; it matters with Options.Durable
// off, where the next Open gives another DiskID without it. Closing twice is fine.
func (s *Store) Close(clean bool) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.db == nil {
		return nil
	}
	var err error
	if clean {
		err = s.markClosed()
	} else if s.opts.Durable {
		_ = s.markClosed() // what was written is stored all the same; without the mark the next Open is careful
	}
	err = errors.Join(err, s.wrap("close", s.closeDatabase()))
	return errors.Join(err, s.wrap("close", unlockDir(s.lock)))
}

// markClosed stores everything, and then that it is stored.
func (s *Store) markClosed() error {
	if err := s.flush(); err != nil {
		return err
	}
	if _, err := s.db.one("PRAGMA wal_checkpoint(TRUNCATE)"); err != nil {
		return s.wrap("close", err)
	}
	id := s.identity
	id.state, id.last = stateClosed, s.log.last
	return s.saveIdentity(id)
}

func (s *Store) closeDatabase() error {
	db := s.db
	s.db, s.tables, s.logTable = nil, nil, nil
	return db.close()
}

func (s *Store) path(name string) string { return filepath.Join(s.dir, name) }

func (s *Store) wrap(op string, err error) error { return wrap(op, s.path(databaseFile), err) }
