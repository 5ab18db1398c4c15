package supervise

import (
	"context"
	"errors"
	"log/slog"
	"time"
)

// Command says how the daemon is started.
type Command struct {
	Instance string            `json:"instance"`
	Path     string            `json:"path"`             // absolute path of the binary
	Args     []string          `json:"args"`             // without the binary's own name
	Env      []string          `json:"env"`              // whole environment, NAME=VALUE
	Log      string            `json:"log"`              // file that stdout and stderr are appended to
	Labels   map[string]string `json:"labels,omitempty"` // what the starter wants to know again when the daemon ends
}

// Phase is how far a daemon is in its life.
type Phase int

// The phases.
const (
	Absent  Phase = iota // never started, or stopped and forgotten
	Running              // there is a process
	Exited               // started by us, and ended without having been stopped
)

// State is what a Supervisor finds.
type State struct {
	Phase   Phase
	Process Process // while Running; may be the zero value for a moment while a unit starts
	Exit    Exit    // once Exited
	Words   string  // once Exited: the last that the daemon said on stderr, "" when that is not known
}

// Supervisor is one way of running a daemon.
type Supervisor interface {
	// Find tells what there is.
	Find(ctx context.Context) (State, error)
	// Start starts the daemon and returns once it has a process, or it is on its way to one; whether it becomes ready is up to the caller.
	Start(ctx context.Context, command Command) error
	// Stop ends the daemon, asking first, and by force when it is still there after grace. It returns nil only when nothing of it is left,
	// also when nothing was there; an error, at the latest at the end of the context, when something remains. It needs no manager that
	// answers. What is recorded in the Directory stays, for Directory.Clear.
	Stop(ctx context.Context, grace time.Duration) error
	// Guard sees to it that the end of a running daemon is acted upon, in case whoever should do so has died.
	Guard(ctx context.Context) error
}

var (
	_ Supervisor = (*Session)(nil)
	_ Supervisor = (*Unit)(nil)
)

// end ends a process: asks it, waits for grace, then kills it with its group, and waits for the rest of the context.
func end(ctx context.Context, log *slog.Logger, p Process, group cgroup, grace time.Duration) error {
	h, err := p.Open()
	if err == nil {
		defer h.Close()
		err = endProcess(ctx, log, h, group, grace)
	}
	if err != nil && !errors.Is(err, ErrGone) {
		return err
	}
	if err := group.kill(); err != nil { // what the daemon may have left behind
		return err
	}
	return group.remove(ctx)
}

func endProcess(ctx context.Context, log *slog.Logger, h *Handle, group cgroup, grace time.Duration) error {
	if grace > 0 {
		if err := h.Signal(sigTerm); err != nil {
			return err
		}
		patience, cancel := context.WithTimeout(ctx, grace)
		err := h.Wait(patience)
		cancel()
		if err == nil {
			return nil
		}
		log.Warn("killing the daemon, which did not end in time", "pid", h.process.PID, "grace", grace)
	}
	if err := group.kill(); err != nil {
		log.Warn("kill cgroup", "error", err)
	}
	if err := h.Signal(sigKill); err != nil {
		return err
	}
	return h.Wait(ctx)
}
