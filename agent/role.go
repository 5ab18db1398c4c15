package main

import (
	"context"
	"errors"
	"fmt"

	"sipha/agent/supervise"
	"sipha/ocf"
	"sipha/registrard/control"
)

// demotePercent of its budget the daemon has to step down; the rest is for ending it.
const demotePercent = 60

// promote makes the instance primary. Nothing is done to promotion scores here, which would only disturb the cluster at it, but for
// one case: a peer that holds more must be promoted instead.
func (r *resource) promote(ctx context.Context) (ocf.ExitCode, error) {
	if err := r.params.check(); err != nil {
		return ocf.ErrConfigured, err
	}
	s := r.look(ctx)
	defer s.close()
	switch {
	case s.daemon != nil:
	case s.state.Phase == supervise.Absent:
		return ocf.NotRunning, errors.New("promote: the daemon is not running")
	case s.state.Phase == supervise.Exited:
		return ocf.ErrGeneric, fmt.Errorf("promote: %s", death(s.state))
	default:
		return ocf.ErrGeneric, fmt.Errorf("promote: the daemon does not answer: %w", s.mute)
	}
	r.setPromoted(true) // before it is so: one that dies on the way has died as a primary
	err := s.daemon.Promote(ctx)
	switch {
	case err == nil:
		return ocf.Success, nil
	case errors.Is(err, control.ErrNewerPeer), errors.Is(err, control.ErrNotSynced):
		r.setPromoted(false)
		r.setScore(ctx, nil)
	case errors.Is(err, control.ErrTimeout), errors.Is(err, control.ErrUnavailable):
		// It may be primary yet, or dead; the cluster demotes it next.
	default:
		r.setPromoted(false)
	}
	return ocf.ErrGeneric, fmt.Errorf("promote: %w", err)
}

// demote makes the instance a replica. A dead daemon is none but that: to say otherwise would keep the cluster from promoting another
// until this one is stopped and started. One that does not step down is killed.
func (r *resource) demote(ctx context.Context) (ocf.ExitCode, error) {
	if err := r.params.checkPlace(); err != nil {
		r.log.Error("nothing can have been promoted with these parameters", "error", err)
		return ocf.Success, nil
	}
	stepping, cancel := context.WithTimeout(ctx, r.env.Budget()*demotePercent/100)
	defer cancel()
	s := r.look(stepping)
	defer s.close()
	if s.daemon != nil {
		err := s.daemon.Demote(stepping)
		if err == nil {
			r.setPromoted(false)
			return ocf.Success, nil
		}
		r.log.Warn("the daemon does not step down; killing it", "error", err)
	}
	if s.state.Phase == supervise.Running {
		return r.kill(ctx, s)
	}
	if s.state.Phase == supervise.Exited {
		r.log.Info("nothing to demote", "why", death(s.state))
		r.demotedDead()
	}
	r.setPromoted(false)
	return ocf.Success, nil
}

// demotedDead remembers when a primary was demoted that is dead, for the monitor to come.
func (r *resource) demotedDead() {
	if !r.dir.Promoted() {
		return
	}
	if err := r.dir.SetDemotedDead(); err != nil {
		r.log.Warn("demotion not recorded", "error", err)
	}
}

// kill ends a daemon that cannot be demoted otherwise. The next monitor finds it dead, and the cluster restarts it.
func (r *resource) kill(ctx context.Context, s *sight) (ocf.ExitCode, error) {
	if s.daemon == nil {
		r.log.Warn("the daemon does not answer; killing it", "error", s.mute)
	}
	if err := r.supervisor.Stop(ctx, 0); err != nil {
		return ocf.ErrGeneric, fmt.Errorf("demote: %w", err)
	}
	r.demotedDead()
	r.setPromoted(false)
	r.setScore(ctx, nil)
	return ocf.Success, nil
}

// notify has nothing to do: the group's total order tells every instance of the others. The cluster ignores its result.
func (r *resource) notify(context.Context) (ocf.ExitCode, error) { return ocf.Success, nil }

// reload makes the daemon read its configuration again.
func (r *resource) reload(ctx context.Context) (ocf.ExitCode, error) {
	if err := r.params.check(); err != nil {
		return ocf.ErrConfigured, err
	}
	s := r.look(ctx)
	defer s.close()
	switch {
	case s.daemon == nil && s.state.Phase == supervise.Absent:
		return ocf.NotRunning, errors.New("reload: the daemon is not running")
	case s.daemon == nil:
		return ocf.ErrGeneric, fmt.Errorf("reload: the daemon does not answer: %w", s.mute)
	}
	if err := s.daemon.Reload(ctx); err != nil {
		return ocf.ErrGeneric, fmt.Errorf("reload: %w", err)
	}
	return ocf.Success, nil
}
