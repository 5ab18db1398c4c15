package store

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"time"

	"sipha/registrard/location"
)

// Options of Open.
type Options struct {
	// Durable makes Write return only when what it wrote survives a power cut. Without it, what a power cut or a crash of the
	// process loses is a suffix of what was written, and the database has another DiskID after one.
	Durable bool
	// Now is the wall clock that is stored and that names what is set aside; nil: time.Now.
	Now func() time.Time

	manual bool // tests flush by hand
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
	flushing flushing
	readers  int
	failed   error // of the flusher; every later Write gives it
	flusher  *flusher

	checkpointMu sync.Mutex // after mu where both are taken
	checkpointer *conn
}

// Write stores a batch. After an error nothing of it is stored. What is applied reaches the tables a little later, in the background;
// after a crash it is read from the log. A batch that only applies needs no transaction.
func (s *Store) Write(b Batch) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.usable(); err != nil {
		return s.wrap("write", err)
	}
	last := s.log.last.Index
	if n := len(b.Append); n > 0 {
		last = b.Append[n-1].Position.Index
	}
	next, held := s.pending, len(s.pending.changes)
	err := next.add(b.Apply, last, time.Now())
	ends := s.log
	if err == nil && (b.Cut != 0 || len(b.Append) > 0) {
		err = s.db.transaction(func() error { return s.change(&b, &ends, s.wall()) })
	}
	if err != nil {
		clear(next.changes[held:])
		s.pending.changes = next.changes[:held]
		return s.wrap("write", err)
	}
	s.log, s.pending = ends, next
	return s.afterWrite()
}

// usable tells why nothing can be written.
func (s *Store) usable() error {
	if s.db == nil {
		return ErrClosed
	}
	return s.failed
}

// change cuts and appends, and keeps the log's ends.
func (s *Store) change(b *Batch, ends *logEnds, wall int64) error {
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
		if err := s.logTable.add(e, wall); err != nil {
			return err
		}
		ends.last = e.Position
		ends.bytes += int64(len(e.Payload))
	}
	return nil
}

// ReadLog returns at most most entries of the log, from the index on. Those before the log's first are gone (Position).
func (s *Store) ReadLog(from uint64, most int) ([]location.Entry, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.db == nil {
		return nil, s.wrap("read log", ErrClosed)
	}
	var entries []location.Entry
	err := readLog(s.db, from, most, func(e location.Entry, _ int64) error {
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
	s.flusher.stop()
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
	if err := s.flushAll(); err != nil {
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
	s.pending, s.flushing = pending{}, flushing{}
	s.checkpointMu.Lock()
	defer s.checkpointMu.Unlock()
	var err error
	if s.checkpointer != nil {
		err = s.checkpointer.close()
		s.checkpointer = nil
	}
	return errors.Join(err, db.close())
}

func (s *Store) wall() int64 { return s.opts.Now().UnixMilli() }

func (s *Store) path(name string) string { return filepath.Join(s.dir, name) }

func (s *Store) wrap(op string, err error) error { return wrap(op, s.path(databaseFile), err) }
