package store

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"iter"

	"sipha/registrard/location"
)

// A snapshot is a stream of records, cut into chunks wherever one is full. A record is its length as a uvarint, its tag, and its body:
// first a head, then the content as changes that make it out of nothing, then the entries of the log above it.
const (
	snapshotVersion = 1

	recordHead    byte = 'h' // version, position, ordered time
	recordChanges byte = 'c' // location.AppendChanges of one change
	recordEntry   byte = 'e' // position, predecessor, time, kind, payload
)

// Snapshot streams a database as it stood at one moment, without stopping who writes it. It is for one goroutine. As long as it is
// open the write-ahead log grows, so it must be closed.
type Snapshot struct {
	store *Store
	db    *conn
	meta  meta
	end   SnapshotEnd
	rest  []byte // of what next gave
	next  func() ([]byte, error, bool)
	stop  func()
}

// SnapshotEnd is what a snapshot comes to.
type SnapshotEnd struct {
	Applied location.Position // of the content
	Last    location.Position // of the log, whose tail comes with it
	Rows    uint64
	Bytes   uint64 // of all chunks, estimated, for showing progress
}

// Snapshot begins a snapshot.
func (s *Store) Snapshot() (*Snapshot, error) {
	r := &Snapshot{store: s}
	target := uint64(0)
	err := s.whenFlushed(&target, func() error {
		if s.readers >= readersMax {
			return s.wrap("read snapshot", fmt.Errorf("%d snapshots are being read", readersMax))
		}
		var err error
		if r.db, r.meta, err = s.beginRead(); err != nil {
			return s.wrap("read snapshot", err)
		}
		s.readers++
		r.end.Applied, r.end.Last = r.meta.applied, s.log.last
		return nil
	})
	if err != nil {
		return nil, err
	}
	r.next, r.stop = iter.Pull2(r.pieces())
	if err := r.measure(); err != nil {
		return nil, errors.Join(s.wrap("read snapshot", err), r.Close())
	}
	return r, nil
}

// measure counts the rows and guesses the bytes.
func (r *Snapshot) measure() error {
	row, err := r.db.one("SELECT (SELECT count(*) FROM binding) + (SELECT count(*) FROM tombstone) + (SELECT count(*) FROM user) +" +
		" (SELECT count(*) FROM nonce_key) + (SELECT count(*) FROM voter) + (SELECT count(*) FROM outcome)," +
		" ((SELECT page_count FROM pragma_page_count) - (SELECT freelist_count FROM pragma_freelist_count)) * (SELECT page_size FROM pragma_page_size)")
	if err == nil {
		r.end.Rows, r.end.Bytes = uint64(integer(row[0])), uint64(integer(row[1]))
	}
	return err
}

// beginRead opens a connection with a read transaction; reading the position in it fixes the moment.
func (s *Store) beginRead() (*conn, meta, error) {
	db, err := openConn(s.path(databaseFile), modeRead)
	if err != nil {
		return nil, meta{}, err
	}
	var m meta
	if err = db.exec("BEGIN"); err == nil {
		m, err = readMeta(db)
	}
	if err != nil {
		return nil, meta{}, errors.Join(err, db.close())
	}
	return db, m, nil
}

// End says what the whole comes to.
func (r *Snapshot) End() SnapshotEnd { return r.end }

// Next returns the next chunk, of at most size bytes, the caller's own; io.EOF after the last.
func (r *Snapshot) Next(size int) ([]byte, error) {
	if r.db == nil {
		return nil, r.store.wrap("read snapshot", ErrClosed)
	}
	chunk := make([]byte, 0, size)
	for len(chunk) < size {
		if len(r.rest) == 0 {
			piece, err, ok := r.next()
			if err != nil {
				return nil, r.store.wrap("read snapshot", err)
			}
			if !ok {
				break
			}
			r.rest = piece
		}
		n := min(size-len(chunk), len(r.rest))
		chunk = append(chunk, r.rest[:n]...)
		r.rest = r.rest[n:]
	}
	if len(chunk) == 0 {
		return nil, io.EOF
	}
	return chunk, nil
}

// Close ends the reading. Closing twice is fine.
func (r *Snapshot) Close() error {
	if r.db == nil {
		return nil
	}
	r.stop()
	err := r.db.close()
	r.db = nil
	r.store.mu.Lock()
	r.store.readers--
	r.store.mu.Unlock()
	return r.store.wrap("read snapshot", err)
}

// errStop is what a consumer that wants no more makes the reading of rows return.
var errStop = errors.New("stopped")

// pieces gives the records, each valid until the next is asked for. An error is the last thing it yields.
func (r *Snapshot) pieces() iter.Seq2[[]byte, error] {
	return func(yield func([]byte, error) bool) {
		var record, payload []byte
		emit := func(tag byte, body []byte) error {
			record = binary.AppendUvarint(record[:0], uint64(len(body)+1))
			record = append(append(record, tag), body...)
			if !yield(record, nil) {
				return errStop
			}
			return nil
		}
		one := make([]location.Change, 1)
		err := emit(recordHead, encodeHead(&r.meta))
		if err == nil {
			err = read(r.db, &r.meta, func(c location.Change) error {
				one[0] = c
				payload = location.AppendChanges(payload[:0], one)
				return emit(recordChanges, payload)
			})
		}
		if err == nil {
			err = readLog(r.db, r.meta.applied.Index+1, maxRows, func(e location.Entry, _ int64) error {
				payload = appendEntry(payload[:0], &e)
				return emit(recordEntry, payload)
			})
		}
		if err != nil && !errors.Is(err, errStop) {
			yield(nil, err)
		}
	}
}

func encodeHead(m *meta) []byte {
	b := append([]byte{snapshotVersion}, encodePosition(m.applied)...)
	return binary.AppendVarint(b, int64(m.time))
}

func decodeHead(b []byte) (meta, error) {
	var m meta
	if len(b) < 1 || b[0] > snapshotVersion {
		return m, fmt.Errorf("%w: snapshot of another version", ErrFuture)
	}
	if len(b) < 1+positionSize {
		return m, errRecord
	}
	var err error
	if m.applied, err = decodePosition(b[1 : 1+positionSize]); err != nil {
		return m, err
	}
	t, n := binary.Varint(b[1+positionSize:])
	if n <= 0 || 1+positionSize+n != len(b) {
		return m, errRecord
	}
	m.time = location.Time(t)
	return m, nil
}

// errRecord is a record of a snapshot that is none.
var errRecord = fmt.Errorf("%w: malformed snapshot", ErrSequence)

func appendEntry(b []byte, e *location.Entry) []byte {
	return append(appendEntryHead(b, e), e.Payload...)
}

func decodeEntry(b []byte) (location.Entry, error) {
	var e location.Entry
	if len(b) < 2*positionSize+9 {
		return e, errRecord
	}
	var err error
	if e.Position, err = decodePosition(b[:positionSize]); err != nil {
		return e, err
	}
	if e.Prev, err = decodePosition(b[positionSize : 2*positionSize]); err != nil {
		return e, err
	}
	b = b[2*positionSize:]
	e.Time = location.Time(binary.BigEndian.Uint64(b))
	e.Kind = location.Kind(b[8])
	if len(b) > 9 {
		e.Payload = append([]byte(nil), b[9:]...)
	}
	return e, nil
}

// Verify reads the tables again and compares them with the digest that is stored with them: for bits that have rotted since. It
// returns the position at which it did. It reads as long as ctx lasts and disturbs nobody who writes.
func (s *Store) Verify(ctx context.Context) (location.Position, error) {
	db, m, err := s.reader()
	if err != nil {
		return location.Position{}, err
	}
	var hasher location.Hasher
	err = read(db, &m, func(c location.Change) error {
		hasher.Add(c)
		return ctx.Err()
	})
	if got := hasher.Digest(); err == nil && got != m.applied.Digest {
		err = fmt.Errorf("%w: the content's digest is %s, and must be %s", ErrDamaged, got, m.applied.Digest)
	}
	return m.applied, s.wrap("verify", errors.Join(err, db.close()))
}

// Backup writes a copy of the database as it stands to a file that must not exist.
func (s *Store) Backup(path string) error {
	db, _, err := s.reader()
	if err != nil {
		return err
	}
	if err = db.exec("COMMIT"); err == nil {
		err = db.exec("VACUUM INTO ?", path)
	}
	return wrap("back up to", path, errors.Join(err, db.close()))
}

// reader opens a connection that sees the tables at one position.
func (s *Store) reader() (*conn, meta, error) {
	var db *conn
	var m meta
	target := uint64(0)
	err := s.whenFlushed(&target, func() error {
		var err error
		db, m, err = s.beginRead()
		return s.wrap("read", err)
	})
	return db, m, err
}
