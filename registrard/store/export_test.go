package store

import "errors"

// Exec runs statements on a database file behind the Store's back.
func Exec(path, sql string) error {
	db, err := openConn(path, modeWrite)
	if err != nil {
		return err
	}
	return errors.Join(db.exec(sql), db.close())
}

// MarkSwapping makes the identity say that a staged file is complete.
func MarkSwapping(dir string) error {
	id, err := readIdentity(dir)
	if err != nil {
		return err
	}
	id.state = stateSwapping
	return writeIdentity(dir, &id)
}

// Manual makes a Store flush by hand alone.
func Manual(o Options) Options {
	o.manual = true
	return o
}

// FlushStep takes a flush a slice further.
func FlushStep(s *Store, most int) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.flushStep(most)
}

// What the fuzz targets reach.
var (
	DecodeHead     = decodeHead
	EncodeHead     = encodeHead
	DecodeEntry    = decodeEntry
	AppendEntry    = appendEntry
	DecodeIdentity = decodeIdentity
	EncodeIdentity = (*identity).encode
)

// Applied reads from the file up to where the tables are.
func Applied(path string) (uint64, error) {
	db, err := openConn(path, modeRead)
	if err != nil {
		return 0, err
	}
	m, err := readMeta(db)
	return m.applied.Index, errors.Join(err, db.close())
}
