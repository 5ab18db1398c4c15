package store

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"sipha/registrard/location"
)

// pending is what is committed and not yet in the tables. The log has it, so that it may wait: the tables take many entries at once,
// in the order of their keys, which touches each page once instead of once a row.
type pending struct {
	meta    meta // as it will be
	changes []pendingChange
	entries int
	since   time.Time // of the oldest
	touched time.Time // of the youngest
}

type pendingChange struct {
	aor    location.AOR
	change location.Change
	added  int64
}

// add queues committed entries at a monotonic time. They must follow what is applied, and be in the log, which ends at last.
func (p *pending) add(entries []Committed, last uint64, now time.Time) error {
	if len(entries) == 0 {
		return nil
	}
	if p.entries == 0 {
		p.since = now
	}
	p.touched = now
	for i := range entries {
		c := &entries[i]
		if c.Position.Index != p.meta.applied.Index+1 || c.Position.Index > last {
			return fmt.Errorf("apply entry %d where %d is applied and the log ends at %d: %w",
				c.Position.Index, p.meta.applied.Index, last, ErrSequence)
		}
		p.addChanges(c.Changes)
		p.meta.applied = c.Position
		p.meta.time = max(p.meta.time, c.Time)
		p.entries++
	}
	return nil
}

func (p *pending) addChanges(changes []location.Change) {
	for _, change := range changes {
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
}

// flushing is a part of what was pending on its way into the tables: in slices, each a transaction of its own, so that no Write waits
// long. Until the last slice the tables are between two positions, and the row of the position says which: then what the log has
// between them is applied once more when the database is opened. That comes to the same, since every change sets or removes rows
// whatever they were before.
type flushing struct {
	target  meta
	changes []pendingChange // what is left, by AOR; for each AOR in the order they came
	active  bool
}

// flushStep begins a flush when none is under way and something waits, and takes it a slice of at most most changes further.
func (s *Store) flushStep(most int) error {
	if !s.flushing.active {
		if s.pending.entries == 0 {
			return nil
		}
		s.flushing = flushing{target: s.pending.meta, changes: s.pending.changes, active: true}
		slices.SortStableFunc(s.flushing.changes, func(a, b pendingChange) int { return strings.Compare(string(a.aor), string(b.aor)) })
		s.pending = pending{meta: s.pending.meta}
	}
	f := &s.flushing
	n := min(most, len(f.changes))
	at, ends := s.meta, s.log
	if n == len(f.changes) {
		at = f.target
	} else {
		at.flushing = f.target.applied.Index
	}
	err := s.relaxed(func() error {
		for i := range f.changes[:n] {
			if err := s.tables.apply(f.changes[i].change, f.changes[i].added); err != nil {
				return err
			}
		}
		if err := s.trim(&ends, at.applied.Index); err != nil {
			return err
		}
		return s.tables.positionUpdate.run(at.values()...)
	})
	if err != nil {
		return s.wrap("flush", err)
	}
	s.meta, s.log = at, ends
	clear(f.changes[:n])
	f.changes = f.changes[n:]
	if at.flushing == 0 {
		*f = flushing{}
	}
	return nil
}

// relaxed runs a transaction that need not be synced: the log has what it writes, and the next Write's sync covers it too.
func (s *Store) relaxed(fn func() error) error {
	if s.opts.Durable {
		if err := s.db.exec("PRAGMA synchronous=NORMAL"); err != nil {
			return err
		}
	}
	err := s.db.transaction(fn)
	if s.opts.Durable {
		if e := s.db.exec("PRAGMA synchronous=FULL"); err == nil {
			err = e
		}
	}
	return err
}

// flushed tells whether the tables have everything that is applied.
func (s *Store) flushed() bool { return !s.flushing.active && s.pending.entries == 0 }

// flushAll flushes everything at once.
func (s *Store) flushAll() error {
	for !s.flushed() {
		if err := s.flushStep(len(s.flushing.changes) + len(s.pending.changes)); err != nil {
			return err
		}
	}
	return nil
}

// Flush puts everything that is applied by now into the tables. There is no need to call it, but for who wants to read them.
func (s *Store) Flush() error {
	target := uint64(0)
	return s.whenFlushed(&target, func() error { return nil })
}

// whenFlushed flushes up to what is applied at the time of the call, and calls fn when the tables are at one position. Others get at
// the Store between the slices. Target remembers up to where; 0 at first.
func (s *Store) whenFlushed(target *uint64, fn func() error) error {
	for {
		done, err := s.flushTowards(target, fn)
		if done || err != nil {
			return err
		}
	}
}

func (s *Store) flushTowards(target *uint64, fn func() error) (bool, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.usable(); err != nil {
		return false, s.wrap("flush", err)
	}
	if *target == 0 {
		*target = s.pending.meta.applied.Index
	}
	if s.flushing.active || s.meta.applied.Index < *target {
		if err := s.flushStep(flushSlice); err != nil {
			return false, err
		}
	}
	if s.flushing.active || s.meta.applied.Index < *target {
		return false, nil
	}
	return true, fn()
}

// afterWrite lets the flusher know, and helps it when it cannot keep up: what waits is bounded.
func (s *Store) afterWrite() error {
	for len(s.pending.changes)+len(s.flushing.changes) > pendingMax {
		if err := s.flushStep(flushSlice); err != nil {
			return err
		}
	}
	if s.pending.entries > 0 {
		s.flusher.wake()
	}
	return nil
}

// flusher is the goroutine that brings the tables up to date and moves what is in the write-ahead log into the database file.
type flusher struct {
	cancel context.CancelFunc
	woken  chan struct{}
	done   chan struct{}
}

// startFlusher starts the goroutine. Stop ends it.
func (s *Store) startFlusher() {
	ctx, cancel := context.WithCancel(context.Background())
	s.flusher = &flusher{cancel: cancel, woken: make(chan struct{}, 1), done: make(chan struct{})}
	if s.opts.manual {
		close(s.flusher.done)
		return
	}
	go func() {
		defer close(s.flusher.done)
		s.flusher.run(ctx, s)
	}()
}

func (f *flusher) stop() {
	f.cancel()
	<-f.done
}

func (f *flusher) wake() {
	select {
	case f.woken <- struct{}{}:
	default:
	}
}

// run flushes when what waits is old or much, or when nothing has come for a moment.
func (f *flusher) run(ctx context.Context, s *Store) {
	timer := time.NewTimer(flushQuiet)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-f.woken:
		case <-timer.C:
		}
		for ctx.Err() == nil {
			wait, err := s.flushDue()
			if err != nil {
				return // it is kept for the next Write
			}
			if wait > 0 {
				timer.Reset(wait)
				break
			}
		}
	}
}

// flushDue takes the flush a slice further if it is time. It returns how long nothing need be done.
func (s *Store) flushDue() (time.Duration, error) {
	s.mu.Lock()
	if s.usable() != nil {
		s.mu.Unlock()
		return flushAge, nil
	}
	if wait := s.pending.wait(time.Now()); !s.flushing.active && wait > 0 {
		s.mu.Unlock()
		return wait, nil
	}
	err := s.flushStep(flushSlice)
	ended := !s.flushing.active
	if err != nil {
		s.failed = err
	}
	s.mu.Unlock()
	if err == nil && ended {
		err = s.checkpoint()
	}
	return 0, err
}

// wait is how long the flush of what is pending may wait.
func (p *pending) wait(now time.Time) time.Duration {
	switch {
	case p.entries == 0:
		return flushAge
	case p.entries >= flushEntriesMax || len(p.changes) >= flushChangesMax:
		return 0
	}
	wait := min(flushAge-now.Sub(p.since), flushQuiet-now.Sub(p.touched))
	return min(max(wait, 0), flushQuiet)
}

// checkpoint moves the write-ahead log into the database file. It does so beside the Writes; only a log that has grown too long is
// ended while they wait, which is short then, as little is left to move.
func (s *Store) checkpoint() error {
	frames, err := s.moveFrames()
	if err == nil && frames > walFramesMax {
		s.mu.Lock()
		_, err = s.moveFrames()
		s.mu.Unlock()
	}
	if err != nil {
		s.mu.Lock()
		s.failed = s.wrap("checkpoint", err)
		s.mu.Unlock()
	}
	return err
}

// moveFrames moves what it can, and returns how many frames the log has.
func (s *Store) moveFrames() (int64, error) {
	s.checkpointMu.Lock()
	defer s.checkpointMu.Unlock()
	if s.checkpointer == nil {
		return 0, nil
	}
	row, err := s.checkpointer.one("PRAGMA wal_checkpoint(PASSIVE)")
	if err != nil {
		return 0, err
	}
	return integer(row[1]), nil
}
