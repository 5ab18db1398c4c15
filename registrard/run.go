package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"
	"github.com/urfave/cli/v2"
	"golang.org/x/sync/errgroup"

	"sipha/registrard/control"
	"sipha/registrard/node"
	"sipha/registrard/sip"
	"sipha/registrard/sip/digest"
	"sipha/registrard/sip/transport"
	"sipha/registrard/store"
)

// Times of the daemon's end and of its word to systemd.
const (
	// demoteTimeout is how long the end of a primary waits for what is in flight.
	demoteTimeout = 3 * time.Second
	// notifyInterval is how often systemd is told the status, when it has changed, and that the node's loop turns.
	notifyInterval = time.Second
	// aliveAge is how old the node's status may be before systemd is not told any more that the daemon lives: its loop stands still.
	aliveAge = 5 * time.Second
)

func (p *program) runCommand() *cli.Command {
	return &cli.Command{
		Name: "run", Usage: "run the daemon, in the foreground",
		Flags: configFlags(),
		Action: func(c *cli.Context) error {
			if err := noArguments(c); err != nil {
				return err
			}
			config, err := p.loadConfig(c)
			if err != nil {
				return err
			}
			_, journal := p.environment("JOURNAL_STREAM")
			log, level, err := newLog(config, p.err, journal)
			if err != nil {
				return err
			}
			d := &registrard{config: config, log: log, level: level, load: func() (*Config, error) { return loadConfig(p.source(c)) }}
			return d.run(c.Context)
		},
	}
}

// registrard is the daemon: what it is made of, in the order in which it is made.
type registrard struct {
	config *Config
	log    *slog.Logger
	level  *slog.LevelVar
	load   func() (*Config, error)

	group   *membership
	metrics *metrics
	db      *store.Store
	node    *node.Node
	service *service
	control *control.Server
	bus     *control.Bus // nil: not to be on the bus
	sip     *sip.Server
	http    *httpServer // nil: not to serve metrics
}

// run makes the daemon, and serves until ctx ends or a part fails.
func (d *registrard) run(ctx context.Context) error {
	if d.config.Standalone {
		d.log.Warn("standalone: nothing is replicated, and what this machine loses is lost", "database", d.config.databaseDirectory(), "control", d.config.controlSocket())
	}
	if err := d.open(ctx); err != nil {
		return errors.Join(err, d.discard())
	}
	return d.serve(ctx)
}

// open takes everything that can fail at a start. The control socket comes first: its lock keeps a second daemon from the database.
func (d *registrard) open(ctx context.Context) error {
	d.service = &service{version: buildVersion(), started: time.Now(), config: d.config, load: d.load, level: d.setLevel}
	var err error
	d.control, err = control.Listen(control.ServerConfig{Path: d.config.controlSocket(), Group: d.config.ControlGroup, Service: d.service, Log: d.log})
	if errors.Is(err, fs.ErrPermission) {
		return fmt.Errorf("%w: run as a user that may write there, or set [control] directory", err)
	}
	if err != nil {
		return err
	}
	if d.group, err = join(ctx, d.config); err != nil {
		return err
	}
	if d.config.ControlDBus {
		d.bus = control.NewBus(control.BusConfig{Instance: d.config.Instance, Service: d.service, Log: d.log})
		d.service.bus = d.bus.Connected
	}
	d.metrics = newMetrics(d.sources(), buildVersion())
	d.service.counts, d.service.node0, d.service.names = d.metrics, d.group.self, d.group.names
	if d.node, d.db, err = openNode(d.config, d.group, d.metrics, d.log); err != nil {
		return err
	}
	d.service.node = d.node
	if d.config.HTTPListen != "" {
		if d.http, err = listenHTTP(d.config.HTTPListen, d.metrics, d.service.Status, d.log); err != nil {
			return err
		}
	}
	d.sip, err = sip.New(ctx, sipConfig(d.config, measured{d.node, d.metrics}, d.log)) // last: it has nothing to give up unless it runs
	return err
}

// sources tells the metrics where to look. Parts that are made later are looked for at the scrape, which comes later still.
func (d *registrard) sources() sources {
	s := sources{
		status:       d.service.Status,
		storeBytes:   func() (int64, error) { return directoryBytes(d.config.databaseDirectory()) },
		outcomes:     func(f func(class, reason string, value uint64)) { d.sip.Counters().EachOutcome(f) },
		responses:    func(f func(status string, value uint64)) { d.sip.Counters().EachResponse(f) },
		sockets:      func(f func(event string, value uint64)) { d.sip.TransportCounters().Each(f) },
		inFlight:     func() int { return d.sip.InFlight() },
		transactions: func() int { return d.sip.Transactions() },
		connections:  func() int { return d.sip.Connections() },
	}
	if d.bus != nil {
		s.busConnected = d.bus.Connected
	}
	return s
}

// discard gives back what a start has taken that did not succeed.
func (d *registrard) discard() error {
	var errs []error
	if d.http != nil {
		errs = append(errs, d.http.listener.Close())
	}
	if d.db != nil {
		errs = append(errs, d.db.Close(true))
	}
	if d.group != nil {
		errs = append(errs, d.group.close())
	}
	if d.control != nil {
		errs = append(errs, d.control.Close())
	}
	return errors.Join(errs...)
}

// part is a part of the daemon that runs until it is stopped.
type part struct {
	name string
	stop context.CancelFunc
	done chan struct{}
}

// serve runs all parts until ctx ends or one of them fails, then stops them in the order that keeps the promise: first nothing is
// decided any more, then phones get their last answers, then the group and the database, and the control socket last.
func (d *registrard) serve(ctx context.Context) error {
	parts, failed := errgroup.WithContext(context.WithoutCancel(ctx))
	start := func(name string, run func(context.Context) error) *part {
		own, stop := context.WithCancel(context.WithoutCancel(ctx))
		p := &part{name: name, stop: stop, done: make(chan struct{})}
		parts.Go(func() error {
			defer close(p.done)
			err := run(own)
			if err == nil && own.Err() == nil {
				err = errors.New("ended by itself")
			}
			if err != nil {
				return fmt.Errorf("%s: %w", name, err)
			}
			return nil
		})
		return p
	}
	running := []*part{start("control", d.control.Run)}
	if d.bus != nil {
		running = append(running, start("bus", d.bus.Run))
	}
	if d.http != nil {
		running = append(running, start("metrics", d.http.Run))
	}
	running = append(running, start("node", d.node.Run), start("sip", d.sip.Run), start("signals", d.signals), start("notify", d.notify))
	if d.config.Standalone {
		running = append(running, start("promote", d.promoteAlone))
	}
	d.log.Info("started", "node", d.group.self.name, "instance", d.config.Instance, "version", buildVersion(), "listen", fmt.Sprint(d.sip.Addresses()))

	select {
	case <-ctx.Done():
		d.log.Info("stopping")
	case <-failed.Done():
	}
	_, _ = daemon.SdNotify(false, daemon.SdNotifyStopping) // whether systemd hears it changes nothing
	d.demote(ctx, failed)
	for i := len(running) - 1; i >= 0; i-- {
		running[i].stop()
		<-running[i].done
	}
	err := parts.Wait()
	return errors.Join(err, d.db.Close(err == nil), d.group.close())
}

// demote ends a primary's work, unless a part has failed: then there is nothing to wait for.
func (d *registrard) demote(ctx, failed context.Context) {
	if failed.Err() != nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), demoteTimeout)
	defer cancel()
	if err := d.node.Demote(ctx); err != nil {
		d.log.Warn("demote at the end", "err", err)
	}
}

// promoteAlone makes a standalone node the primary of itself: there is no Pacemaker to do it.
func (d *registrard) promoteAlone(ctx context.Context) error {
	for ctx.Err() == nil {
		err := d.node.Promote(ctx)
		if err == nil {
			break
		}
		d.log.Debug("not primary yet", "err", err)
		select {
		case <-time.After(node.RedialPause):
		case <-ctx.Done():
		}
	}
	<-ctx.Done()
	return nil
}

// signals reloads the configuration at SIGHUP.
func (d *registrard) signals(ctx context.Context) error {
	hangup := make(chan os.Signal, 1)
	signal.Notify(hangup, syscall.SIGHUP)
	defer signal.Stop(hangup)
	for {
		select {
		case <-hangup:
			if err := d.service.Reload(ctx); err != nil {
				d.log.Error("reload", "err", err)
			}
		case <-ctx.Done():
			return nil
		}
	}
}

// notify tells systemd that the daemon is ready, what it does, and that it lives.
func (d *registrard) notify(ctx context.Context) error {
	_, _ = daemon.SdNotify(false, daemon.SdNotifyReady) // without systemd there is nobody to tell
	tick := time.NewTicker(notifyInterval)
	defer tick.Stop()
	told := ""
	for {
		message := ""
		if s := d.node.Status(); s.Link == node.LinkDisconnected || time.Since(s.At) < aliveAge {
			message = daemon.SdNotifyWatchdog + "\n"
		}
		if line, _ := health(d.service.Status()); line != told {
			message += "STATUS=" + line + "\n"
			told = line
		}
		if message != "" {
			_, _ = daemon.SdNotify(false, message) // as above
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil
		}
	}
}

func (d *registrard) setLevel(c *Config) error {
	level, err := parseLevel(c.LogLevel)
	if err == nil {
		d.level.Set(level)
	}
	return err
}

// sipConfig is the part of the configuration that phones see.
func sipConfig(c *Config, registrar sip.Registrar, log *slog.Logger) sip.Config {
	out := sip.Config{
		TransportLimits: transport.Limits{ConnectionsMax: c.ConnectionsMax, ConnectionsPerSourceMax: c.ConnectionsPerSourceMax, IdleTimeout: c.IdleTimeout},
		Domains:         c.Domains, Realms: make(map[string]string), NonceLife: c.NonceLife, Trusted: c.trusted(), ThirdParty: c.ThirdParty,
		Registrar: registrar, Log: log,
	}
	for _, l := range c.Listen {
		if a, err := transport.ParseAddress(l); err == nil { // validate has refused the others
			out.Listen = append(out.Listen, a)
		}
	}
	for _, d := range c.Domains {
		out.Realms[d] = c.realm(d)
	}
	for _, a := range c.Algorithms {
		out.Algorithms = append(out.Algorithms, digest.ParseAlgorithm([]byte(a)))
	}
	return out
}

// directoryBytes is the size of the files in a directory.
func directoryBytes(dir string) (int64, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return 0, err
	}
	var sum int64
	for _, e := range entries {
		if info, err := e.Info(); err == nil && info.Mode().IsRegular() { // one that has gone meanwhile counts nothing
			sum += info.Size()
		}
	}
	return sum, nil
}
