package main

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"sipha/agent/supervise"
	"sipha/ocf"
)

const (
	// dropAttemptsMax and dropPause bound how long a score is tried to be deleted: a cluster that does not take it for so long is not
	// running here, and the next monitor finds the daemon dead in any case.
	dropAttemptsMax = 10
	dropPause       = 500 * time.Millisecond
	dropPatience    = 3 * time.Second // of one attempt
)

// wait is the waiter of a daemon without systemd. It returns when the daemon has ended.
func wait(dir supervise.Directory, attach bool, log *slog.Logger) error {
	w := supervise.Waiter{Dir: dir, Log: log, Died: func(command supervise.Command, exit supervise.Exit) {
		drop(context.Background(), dir, command, log)
	}}
	return w.Run(attach)
}

// gone is what a systemd unit runs once the daemon has ended, for whatever reason.
func gone(ctx context.Context, dir supervise.Directory, log *slog.Logger) error {
	if dir.Stopping() {
		return nil
	}
	command, err := dir.Command()
	if err != nil {
		return fmt.Errorf("not started by the agent: %w", err)
	}
	drop(ctx, dir, command, log)
	return nil
}

// drop deletes the promotion score of a daemon that has died. That alone makes the cluster demote it, and promote the best replica,
// without waiting for a monitor. It gives up when somebody stops the instance meanwhile: what comes after may have a score again.
func drop(ctx context.Context, dir supervise.Directory, command supervise.Command, log *slog.Logger) {
	p := ocf.Promotion{
		Resource: command.Labels[labelResource], Node: command.Labels[labelNode], FeatureSet: command.Labels[labelFeatureSet],
	}
	if p.Resource == "" {
		log.Info("no promotion score to delete: the daemon was not started by a cluster")
		return
	}
	for attempt := 1; attempt <= dropAttemptsMax && !dir.Stopping(); attempt++ {
		ctx, cancel := context.WithTimeout(ctx, dropPatience)
		err := p.Delete(ctx)
		cancel()
		if err == nil {
			log.Info("promotion score deleted", "resource", p.Resource, "node", p.Node)
			return
		}
		log.Warn("promotion score not deleted", "attempt", attempt, "error", err)
		time.Sleep(dropPause)
	}
}
