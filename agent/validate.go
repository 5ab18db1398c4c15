package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os/exec"
	"syscall"
	"time"

	"sipha/agent/supervise"
	"sipha/ocf"
)

// validateKillDelay is how long the output of a check that was killed is waited for.
const validateKillDelay = 100 * time.Millisecond

// validateAll checks the parameters; from level 10 on this node, too, and what the daemon makes of its configuration here (OCF 1.1).
func (r *resource) validateAll(ctx context.Context) (ocf.ExitCode, error) {
	if err := r.params.check(); err != nil {
		return ocf.ErrConfigured, err
	}
	if r.env.CheckLevel < levelQuick {
		return ocf.Success, nil
	}
	if err := r.params.checkNode(); err != nil {
		return ocf.ErrInstalled, err
	}
	return ocf.Success, r.checkConfiguration(ctx)
}

// checkConfiguration lets the daemon's binary read its configuration ("registrard config"); what it says and its exit code are those of
// a daemon that does not start.
func (r *resource) checkConfiguration(ctx context.Context) error {
	cmd := exec.CommandContext(ctx, r.params.binary, append([]string{"config"}, r.params.configArgs(r.env.CloneMax())...)...)
	cmd.Env = r.environ
	cmd.WaitDelay = validateKillDelay
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	err := cmd.Run()
	var exit *exec.ExitError
	switch {
	case err == nil:
		return nil
	case ctx.Err() != nil:
		return fmt.Errorf("check of the configuration: %w", ctx.Err())
	case !errors.As(err, &exit):
		return ocf.Errorf(ocf.ErrInstalled, "check of the configuration: %w", err)
	}
	state := supervise.State{Phase: supervise.Exited, Exit: supervise.Exit{Known: true, Code: exit.ExitCode()}, Words: supervise.LastWords(stderr.String())}
	if status, ok := exit.Sys().(syscall.WaitStatus); ok && status.Signaled() {
		state.Exit.Signal = int(status.Signal())
	}
	return exitError(state)
}
