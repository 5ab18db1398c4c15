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

// Trimming of the log, for tests that cannot wait for a real one.
var (
	DecodeIdentity = decodeIdentity
	EncodeIdentity = (*identity).encode
)
