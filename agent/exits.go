package main

import (
	"errors"
	"fmt"
	"strings"

	"sipha/agent/supervise"
	"sipha/ocf"
)

// Exit codes of the daemon: sysexits.h, as docs/cli.md lists them.
const (
	exitUsage       = 64 // EX_USAGE: arguments it does not know
	exitData        = 65 // EX_DATAERR: a database from the future
	exitUnavailable = 69 // EX_UNAVAILABLE: no Corosync, a port in use
	exitInternal    = 70 // EX_SOFTWARE
	exitCantCreate  = 73 // EX_CANTCREAT: disk full
	exitIO          = 74 // EX_IOERR
	exitTemporary   = 75 // EX_TEMPFAIL
	exitPermission  = 77 // EX_NOPERM
	exitConfig      = 78 // EX_CONFIG
)

// codeOf maps how a daemon ended to what the cluster is told. Never OCF_ERR_CONFIGURED: that stops the resource on every node, and what
// a daemon finds wrong is wrong on its own node only, for all that anybody knows.
func codeOf(e supervise.Exit) ocf.ExitCode {
	if !e.Known || e.Signal != 0 {
		return ocf.ErrGeneric
	}
	switch e.Code {
	case exitUsage, exitConfig:
		return ocf.ErrArgs
	case exitData:
		return ocf.ErrInstalled
	case exitPermission:
		return ocf.ErrPerm
	case exitUnavailable, exitInternal, exitCantCreate, exitIO, exitTemporary:
		return ocf.ErrGeneric // may pass: the cluster tries again, here or elsewhere
	default:
		return ocf.ErrGeneric
	}
}

// exitError says why a daemon ended, in its own last words where there are any, with the code for the cluster.
func exitError(s supervise.State) error {
	return &ocf.Error{Code: codeOf(s.Exit), Err: errors.New(death(s))}
}

// death says how a daemon ended: its last words first, since an exit reason has room for little more.
func death(s supervise.State) string {
	words := strings.TrimPrefix(s.Words, agentName+": ")
	switch {
	case s.Exit.Known && s.Exit.Signal == 0 && s.Exit.Code != 0 && words != "":
		return fmt.Sprintf("%s (exit code %d)", words, s.Exit.Code)
	case s.Exit.Clean():
		return "the daemon ended by itself"
	default:
		return "the daemon " + s.Exit.String()
	}
}
