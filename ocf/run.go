package ocf

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"runtime/debug"
	"sync"
	"time"
)

// hangGraceMax is how long after its budget an action that does not heed its context is waited for.
const hangGraceMax = 500 * time.Millisecond

// Handler does one action. The context ends when the action's budget does. The error, if any, becomes the exit reason; with an error
// of type *Error the code is taken from there, and Success beside an error becomes ErrGeneric.
type Handler func(ctx context.Context) (ExitCode, error)

// Run does one action and returns the exit code for the cluster. It returns by the end of the action's budget whatever the handler
// does, and turns a panic into ErrGeneric: left alone it would exit with 2, which bans the node. The caller exits at once after it,
// since a handler that was given up may still be running.
//
// A panic in a goroutine that the handler starts cannot be caught here; debug.SetTraceback("crash"), first in main, makes it a death
// by signal, which the cluster takes for a soft error.
func Run(ctx context.Context, env Env, log *slog.Logger, stderr io.Writer, do Handler) ExitCode {
	budget := env.Budget()
	ctx, cancel := context.WithTimeout(ctx, budget)
	defer cancel()

	type outcome struct {
		code ExitCode
		err  error
	}
	done := make(chan outcome, 1)
	go func() {
		defer func() {
			if r := recover(); r != nil {
				log.Error("panic", "value", fmt.Sprint(r), "stack", string(debug.Stack()))
				done <- outcome{ErrGeneric, fmt.Errorf("internal error of the agent: %v", r)}
			}
		}()
		code, err := do(ctx)
		done <- outcome{code, err}
	}()

	hung := time.NewTimer(budget + min(hangGraceMax, (env.Timeout()-budget)/2))
	defer hung.Stop()
	var out outcome
	select {
	case out = <-done:
	case <-hung.C:
		out = outcome{ErrGeneric, fmt.Errorf("hung: not done in %v", env.Timeout())}
	}
	return finish(env, stderr, out.code, out.err)
}

// finish settles the code and writes the exit reason.
func finish(env Env, stderr io.Writer, code ExitCode, err error) ExitCode {
	if err == nil {
		return code
	}
	var e *Error
	switch {
	case errors.As(err, &e):
		code = e.Code
	case code == Success:
		code = ErrGeneric
	}
	WriteReason(stderr, env.ReasonPrefix, err.Error())
	return code
}

// LockedWriter makes a writer safe for a log and an exit reason at the same time.
type LockedWriter struct {
	mu sync.Mutex
	w  io.Writer
}

// NewLockedWriter wraps w.
func NewLockedWriter(w io.Writer) *LockedWriter { return &LockedWriter{w: w} }

// Write writes p whole, or not at all while another write goes on.
func (l *LockedWriter) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.w.Write(p)
}
