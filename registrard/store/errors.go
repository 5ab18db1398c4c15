package store

import (
	"errors"
	"fmt"
	"io/fs"
	"syscall"

	"github.com/mattn/go-sqlite3"
)

// What is wrong, for errors.Is. The text of an error says what to do about it.
var (
	// ErrLocked is a directory that another process has.
	ErrLocked = errors.New("another registrard uses this database")
	// ErrFuture is a database or identity of a later version.
	ErrFuture = errors.New("the database is of a later version")
	// ErrFull is a disk, quota or file size that is used up.
	ErrFull = errors.New("the disk is full")
	// ErrPermission is a file that may not be read or written.
	ErrPermission = errors.New("permission denied")
	// ErrDamaged is a database that cannot be trusted.
	ErrDamaged = errors.New("the database is damaged")
	// ErrSequence is a batch or chunk that does not follow what is stored: a fault of the caller or of the node that sent it.
	ErrSequence = errors.New("does not follow what is stored")
	// ErrClosed is a Store or reader that is closed.
	ErrClosed = errors.New("the database is closed")
)

// hints say what an operator can do.
var hints = map[error]string{
	ErrLocked:     "stop the other one, or give each instance a database of its own",
	ErrFuture:     "install the version of registrard that wrote it or a later one, or move the directory away to start with an empty one",
	ErrFull:       "free some space, or move the database",
	ErrPermission: "give the directory to the user that registrard runs as, and mount it for writing",
}

// Error is an operation that went wrong. It wraps one of the package's errors where one fits.
type Error struct {
	Op   string
	Path string
	Err  error
}

// Error says what went wrong, and what to do where that is known.
func (e *Error) Error() string {
	text := fmt.Sprintf("%s %s: %v", e.Op, e.Path, e.Err)
	if hint := e.Hint(); hint != "" {
		text += "; " + hint
	}
	return text
}

// Unwrap returns what went wrong.
func (e *Error) Unwrap() error { return e.Err }

// Hint says what to do, or is empty.
func (e *Error) Hint() string {
	for is, hint := range hints {
		if errors.Is(e.Err, is) {
			return hint
		}
	}
	return ""
}

// wrap names the operation and the kind of an error of the system's or SQLite's.
func wrap(op, path string, err error) error {
	if err == nil {
		return nil
	}
	var already *Error
	if errors.As(err, &already) {
		return err
	}
	if kind := kindOf(err); kind != nil && !errors.Is(err, kind) {
		err = fmt.Errorf("%w: %w", kind, err)
	}
	return &Error{Op: op, Path: path, Err: err}
}

func kindOf(err error) error {
	var errno syscall.Errno
	var lite sqlite3.Error
	if errors.As(err, &lite) {
		errno = lite.SystemErrno
		switch lite.Code {
		case sqlite3.ErrFull:
			return ErrFull
		case sqlite3.ErrPerm, sqlite3.ErrReadonly, sqlite3.ErrAuth:
			return ErrPermission
		case sqlite3.ErrCorrupt, sqlite3.ErrNotADB, sqlite3.ErrFormat, sqlite3.ErrSchema, sqlite3.ErrMismatch, sqlite3.ErrTooBig:
			return ErrDamaged
		case sqlite3.ErrError:
			return ErrDamaged // our statements are right: the schema is not what it was
		}
	} else if !errors.As(err, &errno) {
		errno = 0
	}
	switch errno {
	case syscall.ENOSPC, syscall.EDQUOT, syscall.EFBIG:
		return ErrFull
	case syscall.EACCES, syscall.EPERM, syscall.EROFS:
		return ErrPermission
	}
	if errors.Is(err, fs.ErrPermission) {
		return ErrPermission
	}
	return nil
}
