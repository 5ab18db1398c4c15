package main

import (
	"context"
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"strings"
	"time"

	"sipha/agent/supervise"
	"sipha/ocf"
	"sipha/registrard/control"
)

const (
	systemdDirectory = "/run/systemd/system" // there when systemd is the service manager (sd_booted(3))
	busSocket        = "/run/dbus/system_bus_socket"
	busVariable      = "DBUS_SYSTEM_BUS_ADDRESS"

	// scorePatience bounds a read and a write of the promotion score together.
	scorePatience = 2 * time.Second

	// raiseDelay is how long after a promotion the score is left as it is: the address comes in that time.
	raiseDelay = 2 * time.Second

	// Labels of the daemon's command, from which waiter and unit know whose score to delete.
	labelResource   = "resource"
	labelNode       = "node"
	labelFeatureSet = "feature_set"

	pathDefault = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
)

// daemon is what the agent asks of the daemon; *control.Client has it.
type daemon interface {
	Status(ctx context.Context) (control.Status, error)
	Config(ctx context.Context) ([]control.Setting, error)
	Promote(ctx context.Context) error
	Demote(ctx context.Context) error
	Reload(ctx context.Context) error
	Close() error
}

var _ daemon = (*control.Client)(nil)

// scorer is the promotion score in the cluster; ocf.Promotion has it.
type scorer interface {
	Score(ctx context.Context) (*int, error)
	Update(ctx context.Context, want *int) (wrote bool, err error)
}

// resource is one instance on this node, during one action.
type resource struct {
	env        ocf.Env
	params     parameters
	dir        supervise.Directory
	supervisor supervise.Supervisor
	promotion  scorer
	environ    []string // what the daemon is given
	bus        bool     // whether this host has a system bus
	log        *slog.Logger
}

func newResource(env ocf.Env, environ []string, log *slog.Logger) *resource {
	r := &resource{env: env, params: parametersOf(env), promotion: ocf.PromotionOf(env), environ: daemonEnvironment(environ), log: log}
	r.dir = supervise.Directory{Path: r.params.directory()}
	r.bus = hasBus()
	self, err := os.Executable()
	if err != nil {
		self = os.Args[0]
	}
	if _, err := os.Stat(systemdDirectory); err == nil {
		r.supervisor = &supervise.Unit{
			Name: "registrard@" + r.params.instance + ".service", Dir: r.dir, After: []string{self, "gone", "--directory", r.dir.Path},
			Dial: supervise.DialManager, Foreign: r.params.binary != binaryDefault, Log: log,
		}
	} else {
		r.supervisor = &supervise.Session{Dir: r.dir, Waiter: []string{self, "wait", "--directory", r.dir.Path}, Log: log}
	}
	return r
}

// hasBus tells whether there should be a system bus on this host.
func hasBus() bool {
	if os.Getenv(busVariable) != "" {
		return true
	}
	_, err := os.Stat(busSocket)
	return err == nil
}

// command says how the daemon is started on this node.
func (r *resource) command() supervise.Command {
	return supervise.Command{
		Instance: r.params.instance, Path: r.params.binary, Args: r.params.runArgs(r.env.CloneMax()), Env: r.environ, Log: r.params.log,
		Labels: map[string]string{labelResource: r.env.Instance, labelNode: r.env.Node(), labelFeatureSet: r.env.FeatureSet},
	}
}

// daemonEnvironment leaves out what is meant for the agent, for Pacemaker or for Pacemaker's unit.
func daemonEnvironment(environ []string) []string {
	out := []string{}
	path := false
	for _, e := range environ {
		name, _, _ := strings.Cut(e, "=")
		switch {
		case strings.HasPrefix(name, "OCF_"), strings.HasPrefix(name, "__OCF_"), strings.HasPrefix(name, "PCMK_"), strings.HasPrefix(name, "HA_"):
		case name == "NOTIFY_SOCKET", name == "INVOCATION_ID", strings.HasPrefix(name, "WATCHDOG_"), strings.HasPrefix(name, "LISTEN_"):
		default:
			path = path || name == "PATH"
			out = append(out, e)
		}
	}
	if !path {
		out = append(out, "PATH="+pathDefault)
	}
	return out
}

// raiseScore is setScore for a primary. The transition that has promoted it still has to bring the address, and a change of the score
// would abort it: the first monitor comes in between, so it is left to the next. Until then stickiness holds the primary in its place.
func (r *resource) raiseScore(ctx context.Context, want *int) {
	if r.dir.PromotedFor() < raiseDelay {
		asking, cancel := context.WithTimeout(ctx, scorePatience)
		defer cancel()
		if have, err := r.promotion.Score(asking); err == nil && have != nil {
			return
		}
	}
	r.setScore(ctx, want)
}

// setScore makes the promotion score what it should be; nil means none. A cluster that cannot be asked is no failure of the resource:
// the next monitor tries again.
func (r *resource) setScore(ctx context.Context, want *int) {
	ctx, cancel := context.WithTimeout(ctx, scorePatience)
	defer cancel()
	wrote, err := r.promotion.Update(ctx, want)
	switch {
	case err != nil:
		r.log.Warn("promotion score not written", "error", err)
	case wrote && want == nil:
		r.log.Info("promotion score deleted")
	case wrote:
		r.log.Info("promotion score written", "score", *want)
	}
}

// setPromoted remembers the role. It is the difference between exit codes 1 and 9 after a crash, so a failure is told, and no more.
func (r *resource) setPromoted(promoted bool) {
	if r.dir.Promoted() == promoted {
		return
	}
	if err := r.dir.SetPromoted(promoted); err != nil && !errors.Is(err, fs.ErrNotExist) {
		r.log.Warn("role not recorded", "error", err)
	}
}
