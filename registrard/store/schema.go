package store

import (
	"database/sql/driver"
	"errors"
	"fmt"

	"sipha/registrard/location"
)

const (
	// schemaVersion is PRAGMA user_version.
	schemaVersion = 1
	// applicationID is PRAGMA application_id: "SIPr".
	applicationID = 0x53495072
)

// schema makes the tables. Keys are natural, so that the content does not depend on the order in which rows came; times are ordered
// time in milliseconds; until is in tombstone time, which is ordered time less meta.added. Path is a line for each value. 64-bit
// unsigned numbers are stored as SQLite's signed ones. The digest covers the rows of the content; a row of the log has a CRC32C.
// While meta.flushing is not 0, the tables are somewhere between meta.idx and it, and the log has all that lies between.
var schema = [...]string{
	`CREATE TABLE meta (
		id INTEGER PRIMARY KEY CHECK (id = 1),
		epoch_number INTEGER NOT NULL, epoch_node INTEGER NOT NULL, epoch_incarnation INTEGER NOT NULL,
		idx INTEGER NOT NULL, digest BLOB NOT NULL, time INTEGER NOT NULL, grace INTEGER NOT NULL, added INTEGER NOT NULL, flushing INTEGER NOT NULL)`,
	`CREATE TABLE log (
		idx INTEGER PRIMARY KEY, epoch_number INTEGER NOT NULL, epoch_node INTEGER NOT NULL, epoch_incarnation INTEGER NOT NULL,
		digest BLOB NOT NULL, prev BLOB NOT NULL, time INTEGER NOT NULL, kind INTEGER NOT NULL, payload BLOB NOT NULL,
		crc INTEGER NOT NULL, wall INTEGER NOT NULL)`,
	`CREATE TABLE binding (
		aor TEXT NOT NULL, contact TEXT NOT NULL, expires INTEGER NOT NULL, cseq INTEGER NOT NULL, params TEXT NOT NULL, q INTEGER NOT NULL,
		call_id TEXT NOT NULL, path TEXT NOT NULL, received TEXT NOT NULL, socket TEXT NOT NULL, user_agent TEXT NOT NULL,
		instance TEXT NOT NULL, reg_id INTEGER NOT NULL, created INTEGER NOT NULL, PRIMARY KEY (aor, contact)) WITHOUT ROWID`,
	`CREATE TABLE tombstone (
		aor TEXT NOT NULL, contact TEXT NOT NULL, call_id TEXT NOT NULL, cseq INTEGER NOT NULL, until INTEGER NOT NULL,
		PRIMARY KEY (aor, contact, call_id)) WITHOUT ROWID`,
	`CREATE TABLE user (
		aor TEXT NOT NULL PRIMARY KEY, username TEXT NOT NULL, realm TEXT NOT NULL, md5 BLOB, sha256 BLOB, sha512_256 BLOB) WITHOUT ROWID`,
	`CREATE TABLE nonce_key (id INTEGER PRIMARY KEY, secret BLOB NOT NULL, created INTEGER NOT NULL)`,
	`CREATE TABLE voter (node INTEGER PRIMARY KEY, disk INTEGER NOT NULL)`,
	`CREATE TABLE outcome (
		node INTEGER NOT NULL, incarnation INTEGER NOT NULL, number INTEGER NOT NULL, status INTEGER NOT NULL, detail TEXT NOT NULL,
		until INTEGER NOT NULL, PRIMARY KEY (node, incarnation, number)) WITHOUT ROWID`,
	`INSERT INTO meta VALUES (1, 0, 0, 0, 0, zeroblob(16), 0, 0, 0, 0)`,
	fmt.Sprintf("PRAGMA application_id = %d", applicationID),
	fmt.Sprintf("PRAGMA user_version = %d", schemaVersion),
}

// create makes the tables in an empty database.
func create(db *conn) error {
	return db.transaction(func() error {
		for _, sql := range schema {
			if err := db.exec(sql); err != nil {
				return err
			}
		}
		return nil
	})
}

// version checks that the file is a database of ours that this program understands. A file with nothing in it is version 0.
func version(db *conn) (int64, error) {
	row, err := db.one("SELECT (SELECT user_version FROM pragma_user_version), (SELECT application_id FROM pragma_application_id)," +
		" (SELECT count(*) FROM sqlite_schema)")
	if err != nil {
		return 0, err
	}
	user, application, tables := integer(row[0]), integer(row[1]), integer(row[2])
	switch {
	case user == 0 && application == 0 && tables == 0:
		return 0, nil
	case application != applicationID:
		return 0, fmt.Errorf("%w: not written by registrard", ErrDamaged)
	case user > schemaVersion:
		return 0, fmt.Errorf("%w: schema version %d, this program knows %d", ErrFuture, user, schemaVersion)
	case user != schemaVersion:
		return 0, fmt.Errorf("%w: schema version %d", ErrDamaged, user)
	}
	return user, nil
}

// meta is the row of that name: where the tables stand.
type meta struct {
	applied location.Position
	time    location.Time
	grace   location.Time
	added   int64
	// flushing is 0, or the index up to which entries may already be in the tables, in part.
	flushing uint64
}

func readMeta(db *conn) (meta, error) {
	row, err := db.one("SELECT epoch_number, epoch_node, epoch_incarnation, idx, digest, time, grace, added, flushing FROM meta")
	if err != nil {
		return meta{}, err
	}
	m := meta{
		time: location.Time(integer(row[5])), grace: location.Time(integer(row[6])), added: integer(row[7]), flushing: uint64(integer(row[8])),
	}
	m.applied.Epoch = epochOf(row[0:3])
	m.applied.Index = uint64(integer(row[3]))
	m.applied.Digest, err = digestOf(row[4])
	return m, err
}

const updateMeta = "UPDATE meta SET epoch_number=?, epoch_node=?, epoch_incarnation=?, idx=?, digest=?, time=?, grace=?, added=?, flushing=?"

func (m *meta) values() []driver.Value {
	e := m.applied.Epoch
	return []driver.Value{
		int64(e.Number), int64(e.Node), int64(e.Incarnation), int64(m.applied.Index), m.applied.Digest[:],
		int64(m.time), int64(m.grace), m.added, int64(m.flushing),
	}
}

var errColumn = errors.New("column of another type")

func integer(v driver.Value) int64 {
	n, _ := v.(int64) // strict types are checked where it matters: the digest covers the content
	return n
}

func text(v driver.Value) string {
	switch v := v.(type) {
	case string:
		return v
	case []byte:
		return string(v)
	}
	return ""
}

func blob(v driver.Value) []byte {
	b, _ := v.([]byte)
	return b
}

func digestOf(v driver.Value) (location.Digest, error) {
	b := blob(v)
	if len(b) != len(location.Digest{}) {
		return location.Digest{}, fmt.Errorf("%w: digest: %w", ErrDamaged, errColumn)
	}
	return location.Digest(b), nil
}

func epochOf(v []driver.Value) location.Epoch {
	return location.Epoch{
		Number: uint64(integer(v[0])), Node: location.NodeID(integer(v[1])), Incarnation: location.Incarnation(integer(v[2])),
	}
}
