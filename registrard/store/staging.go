package store

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"

	"sipha/registrard/location"
)

// Staging is a database that grows out of a snapshot beside the one in use. Nothing of it counts until Finish; a crash leaves a file
// that the next Open removes. It is for one goroutine; the Store goes on meanwhile.
type Staging struct {
	store  *Store
	db     *conn
	tables *tables
	log    *logTable
	state  *location.State
	meta   meta
	tail   []location.Entry
	rows   uint64
	buffer []byte
	headed bool
}

// Stage begins a staging database. There can be one at a time: an older one is lost.
func (s *Store) Stage() (*Staging, error) {
	path := s.path(stagingFile)
	if err := removeDatabase(path); err != nil {
		return nil, wrap("stage", path, err)
	}
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_EXCL, fileMode)
	if err == nil {
		err = f.Close()
	}
	if err != nil {
		return nil, wrap("stage", path, err)
	}
	g := &Staging{store: s, state: location.NewState()}
	if g.db, err = openConn(path, modeWrite); err != nil {
		return nil, wrap("stage", path, err)
	}
	if err = g.prepare(); err != nil {
		return nil, wrap("stage", path, errors.Join(err, g.Discard()))
	}
	return g, nil
}

// prepare makes the tables and leaves a transaction open. There is no journal: what is half done is thrown away.
func (g *Staging) prepare() error {
	for _, pragma := range []string{"PRAGMA journal_mode=OFF", "PRAGMA synchronous=OFF", "PRAGMA locking_mode=EXCLUSIVE"} {
		if _, err := g.db.one(pragma + "; SELECT 1"); err != nil {
			return err
		}
	}
	err := create(g.db)
	if err == nil {
		g.tables, err = newTables(g.db)
	}
	if err == nil {
		g.log, err = newLogTable(g.db)
	}
	if err == nil {
		err = g.db.exec("BEGIN")
	}
	return err
}

// Write takes the next chunk. After an error the staging database is of no use.
func (g *Staging) Write(chunk []byte) error {
	if g.db == nil {
		return g.wrap("stage", ErrClosed)
	}
	if len(chunk) > ChunkBytesMax {
		return g.wrap("stage", fmt.Errorf("%w: chunk of %d bytes", errRecord, len(chunk)))
	}
	g.buffer = append(g.buffer, chunk...)
	rest := g.buffer
	for len(rest) > 0 {
		size, n := binary.Uvarint(rest)
		if n < 0 || size > recordBytesMax || n > 0 && size == 0 {
			return g.wrap("stage", errRecord)
		}
		if n == 0 || uint64(len(rest)-n) < size {
			break
		}
		if err := g.record(rest[n], rest[n+1:n+int(size)]); err != nil {
			return g.wrap("stage", err)
		}
		rest = rest[n+int(size):]
	}
	g.buffer = append(g.buffer[:0], rest...)
	return nil
}

// record takes one record: the head, then changes, then entries.
func (g *Staging) record(tag byte, body []byte) error {
	switch {
	case tag == recordHead && !g.headed:
		m, err := decodeHead(body)
		g.meta, g.headed = m, true
		return err
	case tag == recordChanges && g.headed && len(g.tail) == 0:
		changes, err := location.DecodeChanges(body)
		if err != nil {
			return err
		}
		for _, c := range changes {
			if t, ok := c.(*location.TimeChange); ok {
				g.meta.grace, g.meta.added = max(g.meta.grace, t.Grace), g.meta.added+t.Added
			}
			if err := g.tables.apply(c, g.meta.added); err != nil {
				return err
			}
			g.rows += rows(c)
		}
		g.state.Apply(g.meta.time, changes)
		return nil
	case tag == recordEntry && g.headed:
		e, err := decodeEntry(body)
		if err != nil {
			return err
		}
		g.tail = append(g.tail, e)
		return g.log.add(&e, g.store.wall())
	}
	return errRecord
}

// Finish verifies what was staged against what the donor says that the whole comes to, stores it durably, and puts it in the place of
// the database, which it returns as an Open would. After an error that wraps ErrSequence or ErrDamaged the snapshot was of no use and
// the database is what it was.
func (g *Staging) Finish(end SnapshotEnd) (*Recovered, error) {
	if g.db == nil {
		return nil, g.wrap("stage", ErrClosed)
	}
	ends, err := g.verify(&end)
	if err == nil {
		err = g.seal()
	}
	if err != nil {
		return nil, g.wrap("verify snapshot", errors.Join(err, g.Discard()))
	}
	s := g.store
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.db == nil {
		return nil, g.wrap("install", ErrClosed)
	}
	if err := s.install(); err != nil {
		return nil, g.wrap("install", err)
	}
	s.meta, s.log, s.pending, s.flushing, s.failed = g.meta, ends, pending{meta: g.meta}, flushing{}, nil
	if err := s.beginWAL(); err != nil {
		return nil, err
	}
	id := s.identity
	if id.state = stateOpen; !s.opts.Durable {
		id.state = stateVolatile
	}
	if err := s.saveIdentity(id); err != nil {
		return nil, err
	}
	rec := &Recovered{Disk: id.disk, Promised: id.promised, Seen: id.seen}
	rec.fill(&g.meta, g.state, g.tail, s.wall())
	return rec, nil
}

func (g *Staging) verify(end *SnapshotEnd) (logEnds, error) {
	var ends logEnds
	applied := end.Applied
	switch digest := g.state.Digest(); {
	case !g.headed || len(g.buffer) > 0:
		return ends, fmt.Errorf("%w: it is cut short", errRecord)
	case g.meta.applied != applied:
		return ends, fmt.Errorf("%w: it is of %s and not of %s", errRecord, g.meta.applied, applied)
	case digest != applied.Digest:
		return ends, fmt.Errorf("%w: the content's digest is %s and must be %s", ErrDamaged, digest, applied.Digest)
	case g.rows != end.Rows:
		return ends, fmt.Errorf("%w: %d rows came, and %d were sent", errRecord, g.rows, end.Rows)
	}
	ends, err := checkLog(g.tail, applied)
	if err == nil && ends.last != end.Last {
		err = fmt.Errorf("%w: the log ends at %s and not at %s", errRecord, ends.last, end.Last)
	}
	return ends, err
}

// seal ends the transaction and syncs the file.
func (g *Staging) seal() error {
	if err := g.tables.positionUpdate.run(g.meta.values()...); err != nil {
		return err
	}
	if err := g.db.exec("COMMIT"); err != nil {
		return err
	}
	err := g.db.close()
	g.db = nil
	if err != nil {
		return err
	}
	f, err := os.OpenFile(g.store.path(stagingFile), os.O_RDWR, 0)
	if err != nil {
		return err
	}
	err = f.Sync()
	if e := f.Close(); err == nil {
		err = e
	}
	return err
}

// Discard throws the staging database away. After Finish it does nothing.
func (g *Staging) Discard() error {
	if g.db == nil {
		return nil
	}
	err := g.db.close()
	g.db = nil
	if e := removeDatabase(g.store.path(stagingFile)); err == nil {
		err = e
	}
	return g.wrap("stage", err)
}

func (g *Staging) wrap(op string, err error) error { return wrap(op, g.store.path(stagingFile), err) }

// install puts the staged file in the place of the database. From the moment that the identity says so, a crash is followed by the
// same at the next Open.
func (s *Store) install() error {
	id := s.identity
	id.state = stateSwapping
	if err := s.saveIdentity(id); err != nil {
		return err
	}
	_ = s.closeDatabase() // nothing of it is wanted any more
	if err := s.swap(); err != nil {
		return err
	}
	db, err := openConn(s.path(databaseFile), modeWrite)
	if err != nil {
		return err
	}
	s.db = db
	err = s.configure()
	if err == nil {
		s.tables, err = newTables(db)
	}
	if err == nil {
		s.logTable, err = newLogTable(db)
	}
	return err
}

// swap renames the staged file. The old write-ahead log goes first: SQLite would play it into the new file.
func (s *Store) swap() error {
	for _, suffix := range []string{"-wal", "-shm"} {
		if err := os.Remove(s.path(databaseFile + suffix)); err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
	}
	if err := syncDir(s.dir); err != nil {
		return err
	}
	if err := os.Rename(s.path(stagingFile), s.path(databaseFile)); err != nil {
		return err
	}
	return syncDir(s.dir)
}
