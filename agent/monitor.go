package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"sipha/agent/supervise"
	"sipha/ocf"
	"sipha/registrard/control"
)

// Check levels (OCF 1.1); one that is not known counts as the next lower.
const (
	levelQuick = 10 // asks the listeners, too
	levelHeavy = 20 // and waits for a commit
)

// mercy is how long after the demotion of a dead primary its death counts as degraded only. The first monitor after a demote runs in the
// transition that promotes another: its failure would abort that, and the next transition would stop and start this instance before it
// promotes. The next monitor, an interval later, tells the death. Ten times what a promotion took in the lab.
const mercy = 3 * time.Second

// verdict is what a monitor makes of what it sees.
type verdict struct {
	code     ocf.ExitCode
	reason   string // "": all is well
	score    *int   // promotion score that should be; nil: none
	promoted bool   // the role to remember
}

// monitor tells how the instance is. A failed primary loses its promotion score before the cluster learns of the failure, or else the
// cluster would promote the same one again. Scores are looked at in probes, too: one that was wiped is put back before it is missed.
func (r *resource) monitor(ctx context.Context) (ocf.ExitCode, error) {
	if err := r.params.checkPlace(); err != nil {
		r.log.Error("nothing can have been started with these parameters", "error", err)
		return ocf.NotRunning, nil
	}
	s := r.look(ctx)
	defer s.close()
	v := judge(s, r.dir.Promoted(), r.env.Probe())
	if s.state.Phase == supervise.Exited && !v.promoted && !r.env.Probe() && r.dir.DemotedDeadFor() < mercy {
		// Mercy: a failure now would abort the very transition that promotes another. Not 190, see complaints.
		v.code, v.reason = ocf.Success, ""
	}
	if healthy(v.code) && r.env.CheckLevel >= levelQuick {
		v = r.deepen(ctx, s, v)
	}
	if s.state.Phase == supervise.Running {
		r.setPromoted(v.promoted)
		if err := r.supervisor.Guard(ctx); err != nil {
			r.log.Warn("nobody waits for the daemon's end; a monitor will have to find it", "error", err)
		}
	}
	switch {
	case s.state.Phase == supervise.Absent && r.env.Probe():
	case v.promoted && healthy(v.code):
		r.raiseScore(ctx, v.score)
	default:
		r.setScore(ctx, v.score)
	}
	if v.reason == "" {
		return v.code, nil
	}
	return v.code, errors.New(v.reason)
}

func healthy(c ocf.ExitCode) bool {
	return c == ocf.Success || c == ocf.RunningPromoted || c == ocf.Degraded || c == ocf.DegradedPromoted
}

// failed is the verdict on an instance that does not do what it should.
func failed(promoted bool, format string, args ...any) verdict {
	v := verdict{code: ocf.ErrGeneric, reason: fmt.Sprintf(format, args...), promoted: promoted}
	if promoted {
		v.code = ocf.FailedPromoted
	}
	return v
}

// judge weighs what was seen. wasPromoted is the role that the agent has brought about; a probe asks what is there, whatever was.
func judge(s *sight, wasPromoted, probe bool) verdict {
	if s.daemon == nil {
		return judgeSilent(s, wasPromoted)
	}
	st := &s.status
	promoted := s.promoted()
	switch {
	case st.State == control.StateFailed:
		return failed(promoted || wasPromoted, "failed: %s", st.LastError)
	case st.State == control.StateLeaving:
		return failed(promoted || wasPromoted, "the daemon is shutting down")
	case wasPromoted && !promoted && !probe:
		return failed(true, "deposed: it is a replica now, %s", strings.TrimSpace(string(st.State)+" "+st.LastError))
	}
	v := verdict{code: ocf.Success, score: st.Score, promoted: promoted}
	if promoted {
		v.code = ocf.RunningPromoted
	}
	return v.degrade(complaints(s)...)
}

// judgeSilent weighs an instance that does not answer. One that has ended properly is not running; one that died, or is mute, has
// failed.
func judgeSilent(s *sight, wasPromoted bool) verdict {
	switch s.state.Phase {
	case supervise.Absent:
		return verdict{code: ocf.NotRunning}
	case supervise.Exited:
		if s.state.Exit.Clean() {
			return verdict{code: ocf.NotRunning, reason: death(s.state)}
		}
		return failed(wasPromoted, "%s", death(s.state))
	default:
		return failed(wasPromoted, "the daemon does not answer: %v", s.mute)
	}
}

// degrade adds what is not as it should be though the instance does its work.
func (v verdict) degrade(complaints ...string) verdict {
	complaints = slices.DeleteFunc(complaints, func(s string) bool { return s == "" })
	if len(complaints) == 0 {
		return v
	}
	switch v.code {
	case ocf.Success:
		v.code = ocf.Degraded
	case ocf.RunningPromoted:
		v.code = ocf.DegradedPromoted
	}
	if v.reason != "" {
		complaints = append([]string{v.reason}, complaints...)
	}
	v.reason = strings.Join(complaints, "; ")
	return v
}

// complaints lists what is not as it should be on this node. What passes by itself, or is so on every node, is not among it (behind,
// claiming, no quorum, no replica in sync): status and the promotion score tell that. A monitor's 190 or 191 may stay in the cluster's
// history in the place of a success, and a DC that takes over then waits 75 s for the monitor's cancellation before it promotes
// (Pacemaker 2.1.5).
func complaints(s *sight) []string {
	var list []string
	if s.status.State == control.StateDisconnected {
		list = append(list, "no connection to Corosync")
	}
	return append(append(list, s.status.Degraded...), s.bus)
}

// deepen adds what the check levels above 0 find.
func (r *resource) deepen(ctx context.Context, s *sight, v verdict) verdict {
	total, dead, err := r.askListeners(ctx, s)
	switch {
	case err != nil:
		v = v.degrade(err.Error())
	case total > 0 && len(dead) == total:
		return failed(v.promoted, "no SIP listener answers: %s", dead[0])
	case len(dead) > 0:
		v = v.degrade(dead...)
	}
	if r.env.CheckLevel >= levelHeavy {
		if err := untilCommitted(ctx, s.daemon); err != nil {
			if v.promoted {
				return failed(true, "%v", err)
			}
			v = v.degrade(err.Error())
		}
	}
	return v
}

const (
	commitPatience = 5 * time.Second
	commitPoll     = 100 * time.Millisecond
)

// untilCommitted waits until what is the last entry of the log now is committed: the group's receipts and the database are at work.
func untilCommitted(ctx context.Context, d daemon) error {
	ctx, cancel := context.WithTimeout(ctx, commitPatience)
	defer cancel()
	first, err := d.Status(ctx)
	if err != nil {
		return fmt.Errorf("commit: %w", err)
	}
	for now := first; now.Committed < first.Index; {
		select {
		case <-ctx.Done():
			return fmt.Errorf("no commit: entry %d of %d after %v", now.Committed, first.Index, commitPatience)
		case <-time.After(commitPoll):
		}
		next, err := d.Status(ctx)
		if err != nil && ctx.Err() == nil {
			return fmt.Errorf("commit: %w", err)
		}
		if err == nil {
			now = next
		}
	}
	return nil
}
