package cpg

import (
	"fmt"
)

// Code says what went wrong. Every Code is an error, so that
// errors.Is(err, cpg.ErrTryAgain) holds for whatever wraps it.
type Code int

// Codes of Corosync (cs_error_t in corosync/corotypes.h).
const (
	// ErrLibrary: Corosync is not there, or went away. The connection is lost.
	ErrLibrary Code = 2
	// ErrTimeout: Corosync did not answer in time.
	ErrTimeout Code = 5
	// ErrTryAgain: not now. Corosync starts, its membership changes, or its send
	// queue is full. Nothing was sent.
	ErrTryAgain Code = 6
	// ErrInvalidParam: an argument that Corosync does not take.
	ErrInvalidParam Code = 7
	// ErrNoMemory: out of memory, here or in Corosync.
	ErrNoMemory Code = 8
	// ErrBadHandle: the connection is gone.
	ErrBadHandle Code = 9
	// ErrAccess: this user may not talk to Corosync.
	ErrAccess Code = 11
	// ErrNotExist: not in the group, or no such key.
	ErrNotExist Code = 12
	// ErrExist: this process is in the group already.
	ErrExist Code = 14
	// ErrTooBig: more than MaxMessage bytes or MaxParts parts.
	ErrTooBig Code = 26
	// ErrSecurity: Corosync's word for a refusal by its own policy.
	ErrSecurity Code = 100
)

// Codes of this package.
const (
	// ErrClosed: Close was called, or the group was left on request.
	ErrClosed Code = 1000 + iota
	// ErrSlowConsumer: Next was not called for so long that the events waiting
	// for it went over a limit. They are dropped and the group is left.
	ErrSlowConsumer
	// ErrUntrusted: who listens on Corosync's socket is not root.
	ErrUntrusted
	// ErrNoQuorumProvider: corosync.conf has no quorum provider.
	ErrNoQuorumProvider
	// ErrCorrupt: an event that cannot be read. It is a defect, not a state.
	ErrCorrupt
	// ErrEvicted: Corosync has removed this process from the group unasked.
	ErrEvicted
	// ErrNoStack: threads have less stack than Corosync's libraries need.
	ErrNoStack
	// ErrNotBuilt: built without cgo, or not for Linux.
	ErrNotBuilt
)

// Error returns the code's meaning.
func (c Code) Error() string {
	switch c {
	case ErrLibrary:
		return "no connection to corosync"
	case ErrTimeout:
		return "timeout"
	case ErrTryAgain:
		return "try again"
	case ErrInvalidParam:
		return "invalid argument"
	case ErrNoMemory:
		return "out of memory"
	case ErrBadHandle:
		return "bad handle"
	case ErrAccess:
		return "access denied by corosync"
	case ErrNotExist:
		return "does not exist"
	case ErrExist:
		return "exists already"
	case ErrTooBig:
		return "message too big"
	case ErrSecurity:
		return "refused by corosync's policy"
	case ErrClosed:
		return "closed"
	case ErrSlowConsumer:
		return "consumer too slow"
	case ErrUntrusted:
		return "the peer of corosync's socket is not root"
	case ErrNoQuorumProvider:
		return "corosync has no quorum provider"
	case ErrCorrupt:
		return "unreadable event"
	case ErrEvicted:
		return "evicted from the group"
	case ErrNoStack:
		return "stack of threads too small"
	case ErrNotBuilt:
		return "built without cgo"
	}
	return fmt.Sprintf("corosync error %d", int(c))
}

// hint says what an operator can do, or nothing.
func (c Code) hint() string {
	switch c {
	case ErrLibrary:
		return "start corosync and see that it stays up"
	case ErrAccess:
		return "name this user in a file under uidgid.d beside corosync.conf, see corosync.conf(5)"
	case ErrNoStack:
		return "raise the limit of the stack (LimitSTACK, ulimit -s) to 2 MiB or more"
	case ErrNoQuorumProvider:
		return "set quorum.provider: corosync_votequorum in corosync.conf"
	}
	return ""
}

// Error is a failed operation on Corosync.
type Error struct {
	// Op is the operation, in the library's own words, such as "cpg_join".
	Op string
	// Code is why.
	Code Code
}

// Error returns the operation, why it failed and, where there is something an
// operator can do, what.
func (e *Error) Error() string {
	if h := e.Code.hint(); h != "" {
		return e.Op + ": " + e.Code.Error() + " (" + h + ")"
	}
	return e.Op + ": " + e.Code.Error()
}

// Unwrap returns the Code, for errors.Is.
func (e *Error) Unwrap() error { return e.Code }

// closed returns the error of an operation on what was closed.
func closed(op string) error { return &Error{Op: op, Code: ErrClosed} }
