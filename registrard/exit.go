package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"syscall"

	"sipha/registrard/control"
	"sipha/registrard/store"
)

// Exit codes: those of sysexits.h where it has one; docs/cli.md lists them.
const (
	exitOK          = 0
	exitRefused     = 1  // what was asked for is not there, or is there already
	exitUsage       = 64 // EX_USAGE: the command line is wrong
	exitData        = 65 // EX_DATAERR: input, or a database, that this version cannot read
	exitUnavailable = 69 // EX_UNAVAILABLE: what is needed is not to be had: Corosync, a port, the daemon
	exitInternal    = 70 // EX_SOFTWARE: a fault of this program
	exitCreate      = 73 // EX_CANTCREAT: a file, directory or socket cannot be made
	exitIO          = 74 // EX_IOERR: the disk is full, or fails
	exitTryAgain    = 75 // EX_TEMPFAIL: no primary, no quorum, or too busy: the same may succeed later
	exitPermission  = 77 // EX_NOPERM: the user may not do this
	exitConfig      = 78 // EX_CONFIG: the configuration is missing or wrong
)

// failure is an error with the exit code that it ends the program with.
type failure struct {
	code int
	err  error
}

func (f *failure) Error() string { return f.err.Error() }
func (f *failure) Unwrap() error { return f.err }

// fail gives err an exit code; nil stays nil.
func fail(code int, err error) error {
	if err == nil {
		return nil
	}
	return &failure{code, err}
}

// failf is fail with an error of its own.
func failf(code int, format string, a ...any) error {
	return &failure{code, fmt.Errorf(format, a...)}
}

// exitCode tells what to exit with after err.
func exitCode(err error) int {
	var f *failure
	var e *control.Error
	switch {
	case err == nil:
		return exitOK
	case errors.As(err, &f):
		return f.code
	case errors.As(err, &e):
		return controlExitCode(e.Code)
	case errors.Is(err, store.ErrFuture):
		return exitData
	case errors.Is(err, store.ErrFull), errors.Is(err, store.ErrDamaged), errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT), errors.Is(err, syscall.EIO):
		return exitIO
	case errors.Is(err, fs.ErrPermission), errors.Is(err, store.ErrPermission):
		return exitPermission
	case errors.Is(err, syscall.EADDRINUSE), errors.Is(err, syscall.EADDRNOTAVAIL), errors.Is(err, control.ErrInUse), errors.Is(err, store.ErrLocked):
		return exitUnavailable
	case errors.Is(err, syscall.EROFS), errors.Is(err, fs.ErrExist), errors.Is(err, syscall.ENOTDIR):
		return exitCreate
	case errors.Is(err, context.DeadlineExceeded):
		return exitTryAgain
	default:
		return exitInternal
	}
}

func controlExitCode(code control.Code) int {
	switch code {
	case control.CodeNotFound, control.CodeExists:
		return exitRefused
	case control.CodeInvalid, control.CodeTooLarge:
		return exitData
	case control.CodePermission:
		return exitPermission
	case control.CodeUnavailable:
		return exitUnavailable
	case control.CodeNotPrimary, control.CodeNotQuorate, control.CodeNotSynced, control.CodeNewerPeer, control.CodeBusy, control.CodeTimeout,
		control.CodeShuttingDown:
		return exitTryAgain
	case control.CodeUnknownMethod:
		return exitUnavailable
	default:
		return exitInternal
	}
}

// lastLine is the one line on stderr that says what was wrong and what to do.
func lastLine(err error) string {
	return printable(strings.Join(strings.Fields(err.Error()), " "))
}
