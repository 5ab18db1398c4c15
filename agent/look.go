package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"sipha/agent/supervise"
	"sipha/registrard/control"
)

const (
	// busPatience is how long the daemon is asked over the system bus before the control socket is tried.
	busPatience = time.Second
	// socketPatience is how long it is asked over the control socket: mute for longer, it is as good as dead.
	socketPatience = 4 * time.Second
)

// sight is what an action finds of the instance.
type sight struct {
	state  supervise.State
	daemon daemon         // nil: it does not answer
	status control.Status // where it answers
	mute   error          // why it does not answer, though it runs
	bus    string         // why the bus hangs, though the daemon answers; "": it does not
}

// promoted tells whether the daemon says that it is primary, or about to be.
func (s *sight) promoted() bool {
	return s.daemon != nil && (s.status.Role == control.RolePrimary || s.status.State == control.StateClaiming)
}

func (s *sight) close() {
	if s.daemon != nil {
		_ = s.daemon.Close() // nothing is under way on it
	}
}

// look finds the daemon: by its process, and by asking it over the bus, then over its socket. One that answers though there is no
// process on record was started by somebody else; it is taken over.
func (r *resource) look(ctx context.Context) *sight {
	ctx, cancel := context.WithTimeout(ctx, r.env.Budget()/2) // what is seen must leave time to act upon it
	defer cancel()
	var s sight
	var err error
	if s.state, err = r.supervisor.Find(ctx); err != nil {
		r.log.Warn("find the daemon", "error", err)
	}
	if s.state.Phase == supervise.Running && r.bus {
		if s.daemon, s.status, err = r.askBus(ctx); err != nil {
			if errors.Is(err, control.ErrTimeout) { // what else is wrong there, the daemon sees for itself
				s.bus = "D-Bus: " + err.Error()
			}
			r.log.Debug("no answer over D-Bus, asking the control socket", "error", err)
		}
	}
	if s.daemon == nil {
		s.daemon, s.status, s.mute = r.askSocket(ctx)
	}
	if s.daemon != nil && s.state.Phase != supervise.Running {
		r.takeOver(&s)
	}
	return &s
}

func (r *resource) askBus(ctx context.Context) (daemon, control.Status, error) {
	ctx, cancel := context.WithTimeout(ctx, busPatience)
	defer cancel()
	client, err := control.DialBus(ctx, r.params.instance)
	if err != nil {
		return nil, control.Status{}, err
	}
	return r.ask(ctx, client)
}

func (r *resource) askSocket(ctx context.Context) (daemon, control.Status, error) {
	ctx, cancel := context.WithTimeout(ctx, socketPatience)
	defer cancel()
	client, err := control.Dial(ctx, r.params.socket())
	if err != nil {
		return nil, control.Status{}, err
	}
	return r.ask(ctx, client)
}

// ask fetches the status, and keeps the client only if it comes.
func (r *resource) ask(ctx context.Context, client *control.Client) (daemon, control.Status, error) {
	status, err := client.Status(ctx)
	if err == nil && status.Instance != r.params.instance {
		err = fmt.Errorf("instance %q answers instead of %q", status.Instance, r.params.instance)
	}
	if err != nil {
		_ = client.Close() // err says more
		return nil, control.Status{}, err
	}
	return client, status, nil
}

// takeOver records the process of a daemon that we have not started, so that it can be watched and stopped.
func (r *resource) takeOver(s *sight) {
	p, err := supervise.Identify(s.status.PID)
	if err == nil {
		err = errors.Join(r.dir.Create(), r.dir.SetCommand(r.command()), r.dir.SetProcess(p))
	}
	if err != nil {
		r.log.Warn("a daemon that was not started by this agent is running, and cannot be taken over", "pid", s.status.PID, "error", err)
		return
	}
	r.log.Info("taking over a daemon that was not started by this agent", "pid", s.status.PID)
	s.state = supervise.State{Phase: supervise.Running, Process: p}
}
