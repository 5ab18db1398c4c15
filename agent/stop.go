package main

import (
	"context"
	"fmt"
	"time"

	"sipha/agent/supervise"
	"sipha/ocf"
)

const (
	// killAfterPercent of stop's budget a daemon that has not ended is killed.
	killAfterPercent = 60
	// handOver is how long a primary may take to step down before it is told to end.
	handOver = 2 * time.Second
)

// stop ends the daemon and forgets it. It needs neither valid parameters nor a daemon that answers, nor bus nor systemd; it fails only
// when something of the daemon is left in spite of SIGKILL.
func (r *resource) stop(ctx context.Context) (ocf.ExitCode, error) {
	if err := r.params.checkPlace(); err != nil {
		r.log.Error("nothing can have been started with these parameters", "error", err)
		return ocf.Success, nil
	}
	killAt := time.Now().Add(r.env.Budget() * killAfterPercent / 100)
	s := r.look(ctx)
	if s.daemon != nil && s.promoted() {
		demoting, cancel := context.WithTimeout(ctx, min(handOver, time.Until(killAt)/2))
		if err := s.daemon.Demote(demoting); err != nil {
			r.log.Warn("the primary did not step down before its end", "error", err)
		}
		cancel()
	}
	s.close()
	if err := r.supervisor.Stop(ctx, max(0, time.Until(killAt))); err != nil {
		return ocf.ErrGeneric, fmt.Errorf("stop: the daemon is still there: %w", err)
	}
	if s.state.Phase == supervise.Exited {
		r.log.Info("the daemon had ended already", "how", death(s.state))
	}
	r.setScore(ctx, nil)
	if err := r.dir.Clear(); err != nil {
		return ocf.ErrGeneric, fmt.Errorf("stop: %w", err)
	}
	return ocf.Success, nil
}
