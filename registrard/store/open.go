package store

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"sipha/registrard/location"
)

// Recovered is what a database held when it was opened, or after a snapshot was installed.
type Recovered struct {
	Disk     location.DiskID
	Promised location.Epoch    // the highest epoch that was promised
	Seen     uint64            // the highest epoch number that was met (SaveSeen, SavePromise)
	Applied  location.Position // of the content, with its digest
	Time     location.Time     // ordered time of the content
	Voters   []location.Voter  // of the content
	Log      []location.Entry  // what the log holds, as far as it is kept, without a gap; what is above Applied is not in State
	StoredAt time.Time         // wall clock of the last Write of the log; zero: never
	State    *location.State   // the content, verified; the caller's own

	// New is why the database has another DiskID than before, or none before it: "" when it is the one that it was.
	New string
	// SetAside is where a damaged database or identity was moved; "" when none was.
	SetAside string
}

// Open opens the database in the directory, or makes one. A damaged one is set aside and followed by an empty one with another
// DiskID; Recovered tells. The errors that it gives are those that an operator has to see to: ErrLocked, ErrFuture, ErrFull,
// ErrPermission, and errors of the disk.
func Open(dir string, opts Options) (*Store, *Recovered, error) {
	if err := os.MkdirAll(dir, dirMode); err != nil {
		return nil, nil, wrap("make directory", dir, err)
	}
	lock, err := lockDir(dir)
	if err != nil {
		return nil, nil, err
	}
	if opts.Now == nil {
		opts.Now = time.Now
	}
	s := &Store{dir: dir, opts: opts, lock: lock}
	rec, err := s.open()
	if err != nil {
		if s.db != nil {
			err = errors.Join(err, s.closeDatabase())
		}
		return nil, nil, errors.Join(err, unlockDir(lock))
	}
	s.startFlusher()
	return s, rec, nil
}

// lockDir takes the directory's lock, which goes with the process.
func lockDir(dir string) (*os.File, error) {
	path := filepath.Join(dir, lockFile)
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, fileMode)
	if err != nil {
		return nil, wrap("lock", path, err)
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		if errors.Is(err, syscall.EWOULDBLOCK) {
			err = ErrLocked
		}
		return nil, errors.Join(wrap("lock", path, err), f.Close())
	}
	return f, nil
}

// unlockDir gives the lock up in so many words: closing alone would leave it with a child that was just being forked.
func unlockDir(lock *os.File) error {
	return errors.Join(syscall.Flock(int(lock.Fd()), syscall.LOCK_UN), lock.Close())
}

// open finds out what the directory holds and brings the Store up.
func (s *Store) open() (*Recovered, error) {
	rec := new(Recovered)
	if err := s.openIdentity(rec); err != nil {
		return nil, err
	}
	if err := s.finishSwap(); err != nil {
		return nil, err
	}
	if err := s.judgeFiles(rec); err != nil {
		return nil, err
	}
	err := s.load(rec)
	if errors.Is(err, ErrDamaged) {
		if s.db != nil {
			_ = s.closeDatabase() // it is damaged, and on its way out
		}
		if rec.SetAside, err = s.moveAside(err.Error()); err != nil {
			return nil, err
		}
		rec.New = "the database was damaged"
		err = s.load(rec)
	}
	if err != nil {
		return nil, err
	}
	s.judgeEnd(rec)
	if err := s.begin(rec); err != nil {
		return nil, err
	}
	return rec, nil
}

// begin marks the database as in use, as another one where it has lost something. The write-ahead log is there before the identity
// says that it must be.
func (s *Store) begin(rec *Recovered) error {
	if rec.New != "" {
		s.identity.disk = newDiskID()
	}
	s.identity.last = location.Position{}
	if s.identity.state = stateOpen; !s.opts.Durable {
		s.identity.state = stateVolatile
	}
	if err := s.beginWAL(); err != nil {
		return err
	}
	if err := s.saveIdentity(s.identity); err != nil {
		return err
	}
	rec.Disk, rec.Promised, rec.Seen = s.identity.disk, s.identity.promised, s.identity.seen
	return nil
}

// openIdentity reads the identity, or begins one. One that cannot be read is set aside: the promise in it is lost, and so the database
// must not count as what it was.
func (s *Store) openIdentity(rec *Recovered) error {
	id, err := readIdentity(s.dir)
	switch {
	case err == nil:
		s.identity = id
		return nil
	case errors.Is(err, fs.ErrNotExist):
		rec.New = "there was no identity"
		return nil
	case errors.Is(err, errIdentity):
		rec.New = "the identity was damaged"
		path := s.path(identityFile)
		rec.SetAside = path + asideMark + s.stamp()
		return wrap("set aside", path, os.Rename(path, rec.SetAside))
	}
	return wrap("read", s.path(identityFile), err)
}

// finishSwap ends what a power cut may have interrupted: a verified snapshot that was taking the place of the database.
func (s *Store) finishSwap() error {
	staging := s.path(stagingFile)
	if s.identity.state != stateSwapping {
		return wrap("remove", staging, removeDatabase(staging))
	}
	if _, err := os.Stat(staging); err == nil {
		return s.swap()
	} else if !errors.Is(err, fs.ErrNotExist) {
		return wrap("install", staging, err)
	}
	return nil
}

// judgeFiles finds out whether files are missing that ought to be there. SQLite would not notice: without the write-ahead log a
// database is only older, and with one that is not its own it is wrong.
func (s *Store) judgeFiles(rec *Recovered) error {
	wasOpen := s.identity.state == stateOpen || s.identity.state == stateVolatile
	_, err := os.Stat(s.path(databaseFile))
	switch {
	case errors.Is(err, fs.ErrNotExist):
		if rec.New == "" {
			rec.New = "the database file was missing"
		}
		if _, err := os.Stat(s.path(databaseFile + "-wal")); err == nil {
			aside, err := s.moveAside(rec.New)
			rec.SetAside = aside
			return err
		}
		return nil
	case err != nil:
		return s.wrap("open", err)
	}
	if wal, err := os.Stat(s.path(databaseFile + "-wal")); wasOpen && (err != nil || wal.Size() == 0) && rec.New == "" {
		rec.New = "the write-ahead log was missing"
	}
	if s.identity.state == stateVolatile && rec.New == "" {
		rec.New = "it was not closed, and durable was off"
	}
	return nil
}

// judgeEnd notices an older copy of the file in the place of the one that was closed.
func (s *Store) judgeEnd(rec *Recovered) {
	last := s.identity.last
	if s.identity.state == stateClosed && rec.New == "" && (last.Epoch != s.log.last.Epoch || last.Index != s.log.last.Index) {
		rec.New = fmt.Sprintf("it ends at %s/%d, and ended at %s/%d when it was closed",
			s.log.last.Epoch, s.log.last.Index, last.Epoch, last.Index)
	}
}

// load opens the database file and reads it. An error that is not ErrDamaged is none of the file's content.
func (s *Store) load(rec *Recovered) error {
	path := s.path(databaseFile)
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, fileMode) // for its mode, and for a plain error
	if err != nil {
		return s.wrap("open", err)
	}
	if err := f.Close(); err != nil {
		return s.wrap("open", err)
	}
	if s.db, err = openConn(path, modeWrite); err != nil {
		return s.wrap("open", err)
	}
	v, err := version(s.db)
	if err != nil {
		return s.wrap("open", err)
	}
	if v == 0 {
		if err := create(s.db); err != nil {
			return s.wrap("create", err)
		}
	}
	if err := s.configure(); err != nil {
		return s.wrap("open", err)
	}
	if err := quickCheck(s.db); err != nil {
		return s.wrap("check", err)
	}
	if err := s.loadContent(rec); err != nil {
		return s.wrap("load", err)
	}
	if s.tables, err = newTables(s.db); err == nil {
		s.logTable, err = newLogTable(s.db)
	}
	return s.wrap("open", err)
}

// configure sets what only the writer needs.
func (s *Store) configure() error {
	synchronous := "NORMAL"
	if s.opts.Durable {
		synchronous = "FULL"
	}
	row, err := s.db.one("PRAGMA journal_mode=WAL")
	if err != nil {
		return err
	}
	if mode := text(row[0]); mode != "wal" {
		return fmt.Errorf("the file system allows no write-ahead log: journal mode is %q", mode)
	}
	for _, pragma := range []string{
		"PRAGMA synchronous=" + synchronous,
		"PRAGMA wal_autocheckpoint=0", // the flusher does it
		fmt.Sprintf("PRAGMA journal_size_limit=%d", walKeepBytes),
	} {
		if err := s.db.exec(pragma); err != nil {
			return err
		}
	}
	s.checkpointMu.Lock()
	defer s.checkpointMu.Unlock()
	s.checkpointer, err = openConn(s.path(databaseFile), modeWrite)
	return err
}

// quickCheck lets SQLite look for damage in the file's structure; what is in the rows the digest tells.
func quickCheck(db *conn) error {
	row, err := db.one("PRAGMA quick_check(1)")
	if err != nil {
		return err
	}
	if result := text(row[0]); result != "ok" {
		return fmt.Errorf("%w: %s", ErrDamaged, result)
	}
	return nil
}

// loadContent reads the tables and the log and checks that they agree with the position.
func (s *Store) loadContent(rec *Recovered) error {
	m, err := readMeta(s.db)
	if err != nil {
		return err
	}
	state := location.NewState()
	one := make([]location.Change, 1)
	err = read(s.db, &m, func(c location.Change) error {
		one[0] = c
		state.Apply(m.time, one)
		return nil
	})
	if err != nil {
		return err
	}
	var log []location.Entry
	var wall int64
	err = readLog(s.db, 0, maxRows, func(e location.Entry, at int64) error {
		log, wall = append(log, e), at
		return nil
	})
	if err != nil {
		return err
	}
	ends, err := checkLog(log, m.applied)
	if err != nil {
		return err
	}
	s.meta, s.log, s.pending, s.flushing = m, ends, pending{meta: m}, flushing{}
	if m.flushing != 0 {
		if err := s.redo(state, log); err != nil {
			return err
		}
	}
	if got := state.Digest(); got != s.pending.meta.applied.Digest {
		return fmt.Errorf("%w: the content's digest is %s, and it was %s when it was stored", ErrDamaged, got, s.pending.meta.applied.Digest)
	}
	rec.fill(&s.pending.meta, state, log, wall)
	return nil
}

// redo applies once more what a flush that was interrupted had begun to bring into the tables. The next flush does the same there.
func (s *Store) redo(state *location.State, log []location.Entry) error {
	for i := range log {
		e := &log[i]
		if e.Position.Index <= s.meta.applied.Index || e.Position.Index > s.meta.flushing {
			continue
		}
		changes, err := location.DecodeChanges(e.Payload)
		if err != nil {
			return fmt.Errorf("%w: entry %d of the log: %w", ErrDamaged, e.Position.Index, err)
		}
		state.Apply(e.Time, changes)
		one := []Committed{{Position: e.Position, Time: e.Time, Changes: changes}}
		if err := s.pending.add(one, s.log.last.Index, time.Now()); err != nil {
			return fmt.Errorf("%w: %w", ErrDamaged, err)
		}
	}
	if s.pending.meta.applied.Index != s.meta.flushing {
		return fmt.Errorf("%w: the log does not reach to %d", ErrDamaged, s.meta.flushing)
	}
	s.pending.meta.flushing = 0
	return nil
}

func (r *Recovered) fill(m *meta, state *location.State, log []location.Entry, wall int64) {
	r.Applied, r.Time, r.State, r.Voters, r.Log = m.applied, m.time, state, state.Voters(), log
	if wall != 0 {
		r.StoredAt = time.UnixMilli(wall)
	}
}

// maxRows is no limit to SQLite; the log is bounded by itself.
const maxRows = 1 << 30

// beginWAL makes sure that the write-ahead log exists and its name is stored.
func (s *Store) beginWAL() error {
	err := s.db.transaction(func() error { return s.tables.positionUpdate.run(s.meta.values()...) })
	if err == nil {
		err = syncDir(s.dir)
	}
	return s.wrap("open", err)
}

// SetAside moves the database out of the way, for study, and goes on with an empty one with another DiskID. It returns where the old
// one went; the reason is noted beside it.
func (s *Store) SetAside(reason string) (string, *Recovered, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.db == nil {
		return "", nil, s.wrap("set aside", ErrClosed)
	}
	_ = s.closeDatabase() // it is on its way out, whatever is wrong with it
	s.failed = nil
	path, err := s.moveAside(reason)
	if err != nil {
		return "", nil, err
	}
	rec := &Recovered{New: reason, SetAside: path}
	if err = s.load(rec); err == nil {
		err = s.begin(rec)
	}
	if err != nil && s.db != nil {
		err = errors.Join(err, s.closeDatabase())
	}
	return path, rec, err
}

// moveAside renames the database's files, the main one first: without it the others count for nothing.
func (s *Store) moveAside(reason string) (string, error) {
	to := s.path(databaseFile) + asideMark + s.stamp()
	for _, suffix := range databaseSuffixes {
		err := os.Rename(s.path(databaseFile+suffix), to+suffix)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return "", s.wrap("set aside", err)
		}
	}
	_ = os.WriteFile(to+reasonSuffix, []byte(reason+"\n"), fileMode) // a help for who studies it, and no more
	if err := s.dropOldAsides(); err != nil {
		return "", s.wrap("set aside", err)
	}
	return to, s.wrap("set aside", syncDir(s.dir))
}

// databaseSuffixes are those of the files that make up a database.
var databaseSuffixes = [...]string{"", "-wal", "-shm"}

// reasonSuffix is that of the note beside a database that was set aside.
const reasonSuffix = "-reason"

// stamp is a time for a file's name that sorts as the time does.
func (s *Store) stamp() string { return s.opts.Now().UTC().Format("20060102T150405.000000000Z") }

// dropOldAsides keeps the youngest asideMax.
func (s *Store) dropOldAsides() error {
	entries, err := os.ReadDir(s.dir)
	if err != nil {
		return err
	}
	var kept []string
	for _, e := range entries {
		name := e.Name()
		for _, suffix := range [...]string{"-wal", "-shm", reasonSuffix} {
			name = strings.TrimSuffix(name, suffix)
		}
		if strings.HasPrefix(name, databaseFile+asideMark) && !slices.Contains(kept, name) {
			kept = append(kept, name)
		}
	}
	slices.Sort(kept)
	for len(kept) > asideMax {
		if err := removeDatabase(s.path(kept[0])); err != nil {
			return err
		}
		kept = kept[1:]
	}
	return nil
}

func removeDatabase(path string) error {
	for _, suffix := range [...]string{"", "-wal", "-shm", reasonSuffix} {
		if err := os.Remove(path + suffix); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}
