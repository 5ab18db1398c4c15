package store

import (
	"database/sql/driver"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"math"

	"sipha/registrard/location"
)

// logEnds is what is kept in memory of the log. An empty log has first == last.Index+1.
type logEnds struct {
	first uint64
	last  location.Position
	bytes int64 // of the payloads
}

func (l *logEnds) entries() uint64 { return l.last.Index + 1 - l.first }

// logTable are the statements of the log.
type logTable struct {
	append, cut, trim *statement
}

func newLogTable(db *conn) (*logTable, error) {
	t := new(logTable)
	for _, s := range []struct {
		to  **statement
		sql string
	}{
		{&t.append, "INSERT INTO log VALUES (?,?,?,?,?,?,?,?,?,?,?)"},
		{&t.cut, "DELETE FROM log WHERE idx >= ?"},
		{&t.trim, "DELETE FROM log WHERE idx < ?"},
	} {
		var err error
		if *s.to, err = db.prepare(s.sql); err != nil {
			return nil, err
		}
	}
	return t, nil
}

func (t *logTable) add(e *location.Entry, wall int64) error {
	p := e.Position
	payload := e.Payload
	if payload == nil {
		payload = []byte{}
	}
	return t.append.run(int64(p.Index), int64(p.Epoch.Number), int64(p.Epoch.Node), int64(p.Epoch.Incarnation), p.Digest[:],
		encodePosition(e.Prev), int64(e.Time), int64(e.Kind), payload, entrySum(e), wall)
}

// entrySum is the CRC32C of all that an entry is.
func entrySum(e *location.Entry) int64 {
	var room [2*positionSize + 9]byte
	sum := crc32.Checksum(appendEntryHead(room[:0], e), castagnoli)
	return int64(crc32.Update(sum, castagnoli, e.Payload))
}

// appendEntryHead encodes an entry without its payload.
func appendEntryHead(b []byte, e *location.Entry) []byte {
	b = appendPosition(b, e.Position)
	b = appendPosition(b, e.Prev)
	b = binary.BigEndian.AppendUint64(b, uint64(e.Time))
	return append(b, byte(e.Kind))
}

const positionSize = epochSize + 8 + len(location.Digest{})

func encodePosition(p location.Position) []byte {
	return appendPosition(make([]byte, 0, positionSize), p)
}

func appendPosition(b []byte, p location.Position) []byte {
	b = appendEpoch(b, p.Epoch)
	b = binary.BigEndian.AppendUint64(b, p.Index)
	return append(b, p.Digest[:]...)
}

func decodePosition(b []byte) (location.Position, error) {
	if len(b) != positionSize {
		return location.Position{}, fmt.Errorf("%w: position: %w", ErrDamaged, errColumn)
	}
	p := location.Position{Epoch: epochAt(b), Index: binary.BigEndian.Uint64(b[epochSize:])}
	copy(p.Digest[:], b[epochSize+8:])
	return p, nil
}

// readLog calls fn with the entries from the index on, in order, and the wall clock at which each was stored. The payload is the
// entry's own.
func readLog(db *conn, from uint64, most int, fn func(location.Entry, int64) error) error {
	const entries = "SELECT idx, epoch_number, epoch_node, epoch_incarnation, digest, prev, time, kind, payload, crc, wall FROM log" +
		" WHERE idx >= ? ORDER BY idx LIMIT ?"
	return db.each(entries, func(r []driver.Value) error {
		e := location.Entry{Time: location.Time(integer(r[6])), Kind: location.Kind(integer(r[7]))}
		e.Position.Index, e.Position.Epoch = uint64(integer(r[0])), epochOf(r[1:4])
		var err error
		if e.Position.Digest, err = digestOf(r[4]); err != nil {
			return err
		}
		if e.Prev, err = decodePosition(blob(r[5])); err != nil {
			return err
		}
		if e.Payload = blob(r[8]); len(e.Payload) == 0 {
			e.Payload = nil
		}
		if entrySum(&e) != integer(r[9]) {
			return fmt.Errorf("%w: checksum of entry %d of the log", ErrDamaged, e.Position.Index)
		}
		return fn(e, integer(r[10]))
	}, int64(from), int64(most))
}

// checkLog checks that the entries follow one another and meet the tables' position, and returns the log's ends.
func checkLog(entries []location.Entry, applied location.Position) (logEnds, error) {
	ends := logEnds{first: applied.Index + 1, last: applied}
	if len(entries) == 0 {
		return ends, nil
	}
	ends.first = entries[0].Position.Index
	ends.last = entries[len(entries)-1].Position
	for i := range entries {
		e := &entries[i]
		ends.bytes += int64(len(e.Payload))
		if i > 0 && e.Prev != entries[i-1].Position || e.Position.Index != e.Prev.Index+1 {
			return ends, fmt.Errorf("%w: entry %d of the log does not follow the one before it", ErrDamaged, e.Position.Index)
		}
		if e.Position.Index == applied.Index && e.Position != applied || e.Prev.Index == applied.Index && e.Prev != applied {
			return ends, fmt.Errorf("%w: the tables stand at %s, and the log has %s", ErrDamaged, applied, e.Position)
		}
	}
	if ends.first > applied.Index+1 || ends.last.Index < applied.Index {
		return ends, fmt.Errorf("%w: the log has entries %d to %d, and the tables stand at %d",
			ErrDamaged, ends.first, ends.last.Index, applied.Index)
	}
	return ends, nil
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

// trim keeps the log within its bounds, but for what the tables do not have. It takes an eighth at once, so that it is rare.
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
