package control

import (
	"context"
	"errors"
)

// Code names a kind of error on the wire; codes are stable.
type Code string

// The codes of this API.
const (
	CodeNotPrimary    Code = "not_primary"    // there is no primary to do it, or it is another node
	CodeNotQuorate    Code = "not_quorate"    // the partition has no quorum
	CodeNotSynced     Code = "not_synced"     // this replica is not complete
	CodeNewerPeer     Code = "newer_peer"     // another node holds more, and should be promoted instead
	CodeBusy          Code = "busy"           // a limit is reached; try again
	CodeTimeout       Code = "timeout"        // not done in time; it may still be done
	CodeShuttingDown  Code = "shutting_down"  // the daemon is leaving
	CodeNotFound      Code = "not_found"      // no such user, address-of-record or contact
	CodeExists        Code = "exists"         // there is one already
	CodeInvalid       Code = "invalid"        // the request makes no sense as it is
	CodePermission    Code = "permission"     // the caller may not do this
	CodeUnknownMethod Code = "unknown_method" // no such method: an older daemon?
	CodeTooLarge      Code = "too_large"      // a line, or a list in it, is over its limit
	CodeUnavailable   Code = "unavailable"    // the daemon cannot be reached this way
	CodeInternal      Code = "internal"       // a fault of the daemon; its log says more
)

// Errors to compare with by errors.Is; only the code counts.
var (
	ErrNotPrimary    = &Error{Code: CodeNotPrimary, Message: "not primary"}
	ErrNotQuorate    = &Error{Code: CodeNotQuorate, Message: "not quorate"}
	ErrNotSynced     = &Error{Code: CodeNotSynced, Message: "not synced"}
	ErrNewerPeer     = &Error{Code: CodeNewerPeer, Message: "another node holds more"}
	ErrBusy          = &Error{Code: CodeBusy, Message: "busy"}
	ErrTimeout       = &Error{Code: CodeTimeout, Message: "timed out"}
	ErrShuttingDown  = &Error{Code: CodeShuttingDown, Message: "shutting down"}
	ErrNotFound      = &Error{Code: CodeNotFound, Message: "not found"}
	ErrExists        = &Error{Code: CodeExists, Message: "exists already"}
	ErrInvalid       = &Error{Code: CodeInvalid, Message: "invalid request"}
	ErrPermission    = &Error{Code: CodePermission, Message: "permission denied"}
	ErrUnknownMethod = &Error{Code: CodeUnknownMethod, Message: "unknown method"}
	ErrTooLarge      = &Error{Code: CodeTooLarge, Message: "too large"}
	ErrUnavailable   = &Error{Code: CodeUnavailable, Message: "daemon not reachable"}
	ErrInternal      = &Error{Code: CodeInternal, Message: "internal error"}
)

// Error is an answer that says no. Hint tells an operator what to do; it may be empty.
type Error struct {
	Code    Code   `json:"code"`
	Message string `json:"message"`
	Hint    string `json:"hint,omitempty"`
}

// Error gives the message and, after a semicolon, the hint.
func (e *Error) Error() string {
	if e.Hint == "" {
		return e.Message
	}
	return e.Message + "; " + e.Hint
}

// Is tells whether target is an *Error of the same code.
func (e *Error) Is(target error) bool {
	var t *Error
	return errors.As(target, &t) && t.Code == e.Code
}

// asError turns what a Service returned into what goes over the wire: an *Error as it is, a context's end by its kind, and
// everything else as internal.
func asError(err error) *Error {
	var e *Error
	switch {
	case errors.As(err, &e):
		if e.Error() == err.Error() {
			return e
		}
		return &Error{Code: e.Code, Message: err.Error()} // keeps what wrapped it
	case errors.Is(err, context.DeadlineExceeded):
		return &Error{Code: CodeTimeout, Message: "not done in time", Hint: "it may still be done: look at the status, then try again"}
	case errors.Is(err, context.Canceled):
		return &Error{Code: CodeShuttingDown, Message: "the daemon is shutting down"}
	default:
		return &Error{Code: CodeInternal, Message: err.Error(), Hint: "see the daemon's log"}
	}
}
