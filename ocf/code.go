package ocf

import "fmt"

// ExitCode is what an action ends with. How Pacemaker takes each one: soft means "recover, perhaps here", hard means "not on this
// node until somebody cleans up", fatal means "stop it on every node".
type ExitCode int

// The exit codes of OCF 1.1.
const (
	Success          ExitCode = 0   // done; for monitor: running, unpromoted
	ErrGeneric       ExitCode = 1   // soft
	ErrArgs          ExitCode = 2   // hard: the parameters do not fit this node
	ErrUnimplemented ExitCode = 3   // hard
	ErrPerm          ExitCode = 4   // hard: lacks rights
	ErrInstalled     ExitCode = 5   // hard: something is not installed; a probe that says so is fine
	ErrConfigured    ExitCode = 6   // fatal: the parameters can be right nowhere
	NotRunning       ExitCode = 7   // cleanly stopped
	RunningPromoted  ExitCode = 8   // monitor only
	FailedPromoted   ExitCode = 9   // monitor only; soft
	Degraded         ExitCode = 190 // monitor only: running, shown as not quite right, no recovery
	DegradedPromoted ExitCode = 191 // the same for a promoted instance
)

// String gives the name that OCF 1.1 has for the code.
func (c ExitCode) String() string {
	switch c {
	case Success:
		return "OCF_SUCCESS"
	case ErrGeneric:
		return "OCF_ERR_GENERIC"
	case ErrArgs:
		return "OCF_ERR_ARGS"
	case ErrUnimplemented:
		return "OCF_ERR_UNIMPLEMENTED"
	case ErrPerm:
		return "OCF_ERR_PERM"
	case ErrInstalled:
		return "OCF_ERR_INSTALLED"
	case ErrConfigured:
		return "OCF_ERR_CONFIGURED"
	case NotRunning:
		return "OCF_NOT_RUNNING"
	case RunningPromoted:
		return "OCF_RUNNING_PROMOTED"
	case FailedPromoted:
		return "OCF_FAILED_PROMOTED"
	case Degraded:
		return "OCF_DEGRADED"
	case DegradedPromoted:
		return "OCF_DEGRADED_PROMOTED"
	default:
		return fmt.Sprintf("OCF_%d", int(c))
	}
}

// Error is an error that knows the exit code it asks for. Its text becomes the exit reason.
type Error struct {
	Code ExitCode
	Err  error
}

// Errorf makes an Error; the format is that of fmt.Errorf, %w included.
func Errorf(code ExitCode, format string, args ...any) *Error {
	return &Error{Code: code, Err: fmt.Errorf(format, args...)}
}

// Error gives the reason without the code.
func (e *Error) Error() string { return e.Err.Error() }

// Unwrap gives the cause.
func (e *Error) Unwrap() error { return e.Err }
