package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"sipha/agent/supervise"
	"sipha/ocf"
	"sipha/registrard/control"
)

const (
	readyPoll = 50 * time.Millisecond
	// settleMax is how long an instance that has joined is given to catch up before its first promotion score: a score that changes a
	// moment later makes the cluster think twice.
	settleMax = time.Second
	// cleanShare is the part of start's budget that is kept to clear away what did not become ready.
	cleanShare = 4
	// cleanGraceMax is how long a daemon that did not become ready may take to end when asked.
	cleanGraceMax = time.Second
)

// start starts the daemon as a replica and returns when it has joined its group; it may still be syncing, with no promotion score yet.
func (r *resource) start(ctx context.Context) (ocf.ExitCode, error) {
	if err := r.params.check(); err != nil {
		return ocf.ErrConfigured, err
	}
	if err := r.params.checkNode(); err != nil {
		return ocf.ErrInstalled, err
	}
	ready, cancel := context.WithTimeout(ctx, r.env.Budget()*(cleanShare-1)/cleanShare)
	defer cancel()
	if err := r.launch(ready); err != nil {
		r.clean(ctx)
		return ocf.ErrGeneric, fmt.Errorf("start: %w", err)
	}
	status, err := r.untilJoined(ready)
	if err != nil {
		r.clean(ctx)
		return ocf.ErrGeneric, err
	}
	r.setScore(ctx, status.Score)
	r.log.Info("started", "state", string(status.State), "progress", status.Progress)
	return ocf.Success, nil
}

// launch brings it about that a daemon is running as a replica. One that runs already is as good, once it is none but that.
func (r *resource) launch(ctx context.Context) error {
	s := r.look(ctx)
	defer s.close()
	if s.daemon != nil {
		if !s.promoted() {
			return nil
		}
		if err := s.daemon.Demote(ctx); err != nil {
			return fmt.Errorf("demote a primary that runs already: %w", err)
		}
		r.setPromoted(false)
		return nil
	}
	if s.state.Phase != supervise.Absent {
		r.log.Warn("clearing away a daemon that has died or does not answer", "why", s.mute)
		if err := r.supervisor.Stop(ctx, cleanGrace(ctx)); err != nil {
			return fmt.Errorf("clear away the old daemon: %w", err)
		}
	}
	return r.supervisor.Start(ctx, r.command())
}

// untilJoined waits until the daemon answers and is in its group. The error says why it does not come to that, with the code that the
// daemon's own exit code stands for.
func (r *resource) untilJoined(ctx context.Context) (control.Status, error) {
	var last sight
	var since time.Time // joined
	for {
		s := r.look(ctx)
		s.close()
		switch {
		case s.daemon == nil && s.state.Phase == supervise.Exited:
			return control.Status{}, exitError(s.state)
		case s.daemon == nil:
		case s.status.State == control.StateFailed:
			return control.Status{}, fmt.Errorf("start: the daemon has failed: %s", s.status.LastError)
		case joined(s.status.State):
			if since.IsZero() {
				since = time.Now()
			}
			if settled(&s.status) || time.Since(since) >= settleMax || ctx.Err() != nil {
				return s.status, nil
			}
		}
		last.better(s)
		select {
		case <-ctx.Done():
			return control.Status{}, lateError(&last)
		case <-time.After(readyPoll):
		}
	}
}

// settled tells whether there is no better score to wait for.
func settled(s *control.Status) bool { return s.Score != nil && *s.Score >= control.ScoreSynced }

// better replaces what was seen before by what is seen now, if that says more: an answer says more than none, and any reason for
// silence more than that time was up.
func (s *sight) better(now *sight) {
	nothing := s.daemon == nil && s.mute == nil
	if nothing || now.daemon != nil || s.daemon == nil && !errors.Is(now.mute, control.ErrTimeout) {
		*s = *now
	}
}

// joined tells whether an instance is in its group, however far behind.
func joined(s control.State) bool {
	return s != control.StateDisconnected && s != control.StateJoining && s != control.StateLeaving && s != control.StateFailed && s != ""
}

// lateError says what a daemon was doing when its time was up.
func lateError(last *sight) error {
	switch {
	case last.daemon == nil && last.mute != nil:
		return fmt.Errorf("start: the daemon does not answer: %w", last.mute)
	case last.daemon == nil:
		return errors.New("start: the daemon does not answer")
	case last.status.State == control.StateDisconnected:
		return fmt.Errorf("start: no connection to Corosync in time; %s", last.status.LastError)
	default:
		return fmt.Errorf("start: not in its group in time: %s %s", last.status.State, last.status.Progress)
	}
}

// clean removes what a failed start has left. The error of the start itself is what counts.
func (r *resource) clean(ctx context.Context) {
	if err := r.supervisor.Stop(ctx, cleanGrace(ctx)); err != nil {
		r.log.Warn("clear away what did not start", "error", err)
		return
	}
	if err := r.dir.Clear(); err != nil {
		r.log.Warn("clear away what did not start", "error", err)
	}
}

// cleanGrace is a third of what is left of the context at the most, so that there is time to kill.
func cleanGrace(ctx context.Context) time.Duration {
	deadline, ok := ctx.Deadline()
	if !ok {
		return cleanGraceMax
	}
	return max(0, min(cleanGraceMax, time.Until(deadline)/3))
}
