package lab

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// UpMax is how long Up may take.
	UpMax = 2 * time.Minute

	superviseMax = 20 * time.Second
	upPoll       = 200 * time.Millisecond
	probeMax     = 2 * time.Second

	// DiskMiBDefault is the size of a node's disk; the image is sparse.
	DiskMiBDefault = 4096
	logTailLines   = 8
)

// UpOptions says what to bring up.
type UpOptions struct {
	Nodes       int    // 0: NodesDefault
	FenceAction string // "off" (the default) or "reboot"
	DiskMiB     int    // 0: DiskMiBDefault
	Bare        bool   // a cluster without the product
	Product     Product
	Progress    io.Writer // one line a step
}

// Product is where the built product is; the zero Product makes a cluster without it.
type Product struct {
	Registrard string   // the daemon
	Agent      string   // the resource agent
	Config     string   // registrard.conf for the nodes
	DBusPolicy string   // org.sipha.Registrard1.conf; may be missing
	CRM        []string // crmsh files, in the order in which they are loaded
}

// Up brings the lab up and returns when it is whole: one instance is promoted, all
// others are in sync, and the virtual address answers OPTIONS. A lab that is up already
// keeps its options and its programs; what was done to its hardware is undone.
func (l *Lab) Up(ctx context.Context, o UpOptions) error {
	ctx, cancel := context.WithTimeout(ctx, UpMax)
	defer cancel()
	p := NewSteps(o.Progress)
	if cfg, err := l.Config(); err == nil && l.Supervised() {
		if o.Nodes != 0 && o.Nodes != cfg.Nodes {
			return fmt.Errorf("lab %s is up with %d nodes: take it down first", l.name, cfg.Nodes)
		}
		p.Say("lab %s is there already", l.name)
		if l.outdated(&o.Product) {
			p.Say("its programs are older than what has been built meanwhile: scripts/lab down, then up, takes the new ones")
		}
		return l.explain(l.form(ctx, cfg, p, l.mending(p)))
	}
	cfg, err := l.prepare(ctx, &o)
	if err != nil {
		return err
	}
	p.Say("lab %s: %d nodes, fencing action %s", l.name, cfg.Nodes, cfg.FenceAction)
	if err := l.startSupervisor(ctx); err != nil {
		return err
	}
	p.Say("power is on")
	return l.explain(l.form(ctx, cfg, p, func() error { return nil }))
}

// prepare checks the options and makes the lab's directories.
func (l *Lab) prepare(ctx context.Context, o *UpOptions) (*Config, error) {
	if os.Geteuid() != 0 {
		return nil, errors.New("the lab makes namespaces and mounts: run it as root")
	}
	if o.Bare {
		o.Product = Product{}
	} else if o.Product.Registrard == "" || o.Product.Agent == "" || o.Product.Config == "" || len(o.Product.CRM) == 0 {
		return nil, errors.New("no product given: start the lab with scripts/lab, or with --bare")
	}
	cfg := &Config{Name: l.name, Nodes: o.Nodes, FenceAction: o.FenceAction, DiskMiB: o.DiskMiB, CRM: o.Product.CRM, Product: o.Product.Registrard != ""}
	if cfg.Nodes == 0 {
		cfg.Nodes = NodesDefault
	}
	if cfg.DiskMiB == 0 {
		cfg.DiskMiB = DiskMiBDefault
	}
	if cfg.FenceAction == "" {
		cfg.FenceAction = "off"
	}
	if cfg.Nodes < NodesMin || cfg.Nodes > NodesMax {
		return nil, fmt.Errorf("%d nodes: use %d to %d", cfg.Nodes, NodesMin, NodesMax)
	}
	if cfg.FenceAction != "off" && cfg.FenceAction != "reboot" {
		return nil, fmt.Errorf("fencing action %q: use off or reboot", cfg.FenceAction)
	}
	for _, tool := range []string{"corosync", "pacemakerd", "crm", "dbus-daemon", "ip", "mkfs.ext4", "nsenter"} {
		if _, err := exec.LookPath(tool); err != nil {
			return nil, fmt.Errorf("%s is missing: run scripts/install", tool)
		}
	}
	if err := l.Down(ctx); err != nil {
		return nil, fmt.Errorf("clear away what an earlier lab left: %w", err)
	}
	for _, dir := range []string{l.binDir(), l.fenceDir()} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return nil, err
		}
	}
	if err := l.copyFiles(&o.Product); err != nil {
		return nil, err
	}
	if err := os.WriteFile(l.lockPath(), nil, 0o600); err != nil {
		return nil, err
	}
	return cfg, l.writeConfig(cfg)
}

// copyFiles takes what the nodes run into the lab, so that a later build does not
// change a running cluster.
func (l *Lab) copyFiles(p *Product) error {
	type source struct {
		path string
		mode os.FileMode
	}
	files := map[string]source{
		"lab":             {"/proc/self/exe", 0o755},
		"registrard":      {p.Registrard, 0o755},
		"agent":           {p.Agent, 0o755},
		"registrard.conf": {p.Config, 0o644},
		"dbus.conf":       {p.DBusPolicy, 0o644},
	}
	for i, path := range p.CRM {
		files[crmFile(i)] = source{path, 0o644}
	}
	for name, f := range files {
		if f.path == "" {
			continue
		}
		if err := copyFile(filepath.Join(l.binDir(), name), f.path, f.mode); err != nil {
			return err
		}
	}
	return nil
}

// outdated reports whether the nodes run other programs than the ones given.
func (l *Lab) outdated(p *Product) bool {
	for name, path := range map[string]string{"registrard": p.Registrard, "agent": p.Agent} {
		if path == "" {
			continue
		}
		ours, err := os.ReadFile(filepath.Join(l.binDir(), name))
		theirs, err2 := os.ReadFile(path)
		if err != nil || err2 != nil || !bytes.Equal(ours, theirs) {
			return true
		}
	}
	return false
}

func copyFile(to, from string, mode os.FileMode) error {
	src, err := os.Open(from)
	if err != nil {
		return err
	}
	defer src.Close()
	dst, err := os.OpenFile(to, os.O_CREATE|os.O_EXCL|os.O_WRONLY, mode)
	if err != nil {
		return err
	}
	_, err = io.Copy(dst, src)
	return errors.Join(err, dst.Close())
}

// startSupervisor starts PID 1 of the lab and waits until it answers.
func (l *Lab) startSupervisor(ctx context.Context) error {
	log, err := os.OpenFile(l.logPath(), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	defer log.Close()
	cmd := exec.Command(filepath.Join(l.binDir(), "lab"), "supervise")
	cmd.Dir = "/"
	cmd.Env = append(os.Environ(), "LAB="+l.name)
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = &unix.SysProcAttr{Setsid: true, Cloneflags: unix.CLONE_NEWPID | unix.CLONE_NEWNS | unix.CLONE_NEWNET}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start the supervisor: %w", err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	ctx, cancel := context.WithTimeout(ctx, superviseMax)
	defer cancel()
	for !l.Supervised() {
		select {
		case err := <-ended:
			return fmt.Errorf("the supervisor ended (%w): %s", err, tail(l.logPath(), logTailLines))
		case <-ctx.Done():
			return fmt.Errorf("the supervisor does not answer: %w: %s", ctx.Err(), tail(l.logPath(), logTailLines))
		case <-time.After(killPoll):
		}
	}
	return nil
}

// form waits for the cluster, gives it its configuration, and waits until it is whole. It
// calls mend before each look.
func (l *Lab) form(ctx context.Context, cfg *Config, p *Steps, mend func() error) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	fresh := !l.loaded()
	compiled := make(chan error, 1)
	if fresh {
		go func() { compiled <- l.compileCRM(ctx, cfg) }()
	}
	if err := l.await(ctx, first(mend, func(ctx context.Context) string { return l.online(ctx, cfg) })); err != nil {
		return err
	}
	p.Say("corosync and pacemaker: %d nodes online", cfg.Nodes)
	if fresh {
		if err := errors.Join(<-compiled, ctx.Err()); err != nil {
			return err
		}
		if err := l.loadCRM(ctx, cfg); err != nil {
			return err
		}
		p.Say("configuration loaded")
	}
	status, err := l.awaitWhole(ctx, mend)
	if err != nil {
		return err
	}
	p.Say("%s is promoted, all others are in sync", status.Primary())
	err = l.await(ctx, func(ctx context.Context) string { return l.vipAnswers(ctx, cfg) })
	if err != nil {
		return err
	}
	p.Say("the virtual address %s answers", VIP())
	return nil
}

// MakeWhole undoes what was done to the hardware and waits until nothing is Missing; it
// returns that status. A node that the cluster had still to fence when it got its power
// back loses it once more, and gets it back once more. The error names what was missing
// when ctx ended.
func (l *Lab) MakeWhole(ctx context.Context, p *Steps) (*Status, error) {
	return l.awaitWhole(ctx, l.mending(p))
}

func (l *Lab) awaitWhole(ctx context.Context, mend func() error) (status *Status, err error) {
	err = l.await(ctx, first(mend, func(ctx context.Context) string {
		s, err := l.Status(ctx)
		if err != nil {
			return err.Error()
		}
		status = s
		return s.Missing()
	}))
	return status, err
}

// first mends before it looks what is missing.
func first(mend func() error, missing func(context.Context) string) func(context.Context) string {
	return func(ctx context.Context) string {
		if err := mend(); err != nil {
			return err.Error()
		}
		return missing(ctx)
	}
}

func (l *Lab) mending(p *Steps) func() error { return func() error { return l.Mend(p) } }

// Mend undoes what was done to the hardware: it gives every node power, plugs cables in
// and makes links as good as new. It returns when the nodes have begun to start.
func (l *Lab) Mend(p *Steps) error {
	machines, err := l.Machines()
	if err != nil {
		return err
	}
	for _, m := range machines {
		if m.Link != (Faults{}) {
			p.Say("%s: mending its link", m.Name)
			err = errors.Join(err, l.Link(m.Name, Faults{}))
		}
		if m.Cut {
			p.Say("%s: bringing it back on the network", m.Name)
			err = errors.Join(err, l.Heal(m.Name))
		}
		if !m.Power {
			p.Say("%s: giving it power", m.Name)
			err = errors.Join(err, l.PowerOn(m.Name))
		}
	}
	return err
}

// booted says what keeps a node from running commands.
func (l *Lab) booted(node string) string {
	machines, err := l.Machines()
	if err != nil {
		return err.Error()
	}
	for _, m := range machines {
		if m.Name == node && (m.Phase == phaseBooted || m.Phase == phaseCorosync || m.Phase == phasePacemaker) {
			return ""
		}
	}
	return node + " has not booted"
}

// online says what keeps the nodes from being online in one quorate cluster.
func (l *Lab) online(ctx context.Context, cfg *Config) string {
	machines, err := l.Machines()
	if err != nil {
		return err.Error()
	}
	for _, m := range machines {
		if m.Name != Client && m.Phase != phasePacemaker {
			return fmt.Sprintf("%s: its start is at %q", m.Name, m.Phase)
		}
	}
	v, err := l.crmMon(ctx, cfg.NodeNames()[0])
	if err != nil {
		return err.Error()
	}
	if !v.Summary.DC.Present || !v.Summary.DC.Quorum {
		return "pacemaker has no quorate controller yet"
	}
	for _, n := range cfg.NodeNames() {
		if state := v.node(n); state != "stopped" && state != "promoted" && state != "unpromoted" {
			return fmt.Sprintf("%s: pacemaker says %s", n, state)
		}
	}
	return ""
}

func (l *Lab) vipAnswers(ctx context.Context, cfg *Config) string {
	ctx, cancel := context.WithTimeout(ctx, probeMax)
	defer cancel()
	line, err := l.Probe(ctx, netip.AddrPortFrom(VIP(), SIPPort))
	switch {
	case err == nil && strings.HasPrefix(line, "SIP/2.0 200"):
		return ""
	case err == nil:
		return fmt.Sprintf("the virtual address answers OPTIONS with %q", line)
	case !cfg.Product && errors.Is(err, unix.ECONNREFUSED):
		return "" // the address is there; nobody is meant to answer
	}
	return err.Error()
}

// await polls until missing returns "". The error names what was missing last.
func (l *Lab) await(ctx context.Context, missing func(context.Context) string) error {
	for {
		last := missing(ctx)
		if last == "" {
			return nil
		}
		if machines, err := l.Machines(); err == nil {
			for _, m := range machines {
				if m.Phase == phaseEnded || m.Phase == phaseFailed {
					return fmt.Errorf("the start of %s %s", m.Name, m.Phase)
				}
			}
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%s (%w)", last, context.Cause(ctx))
		case <-time.After(upPoll):
		}
		if !l.Supervised() {
			return errors.New("the lab went away: " + tail(l.logPath(), logTailLines))
		}
	}
}

// explain adds to an error what the nodes' consoles said last.
func (l *Lab) explain(err error) error {
	if err == nil {
		return nil
	}
	cfg, cerr := l.Config()
	if cerr != nil {
		return err
	}
	lines := []string{err.Error()}
	for _, n := range cfg.NodeNames() {
		if t := tail(filepath.Join(l.LogDir(n), "console.log"), logTailLines); t != "" {
			lines = append(lines, n+": "+t)
		}
	}
	return errors.New(strings.Join(lines, "\n"))
}

// tail returns the last lines of a file, or "".
func tail(path string, lines int) string {
	raw, err := os.ReadFile(path)
	if err != nil {
		return ""
	}
	all := strings.Split(strings.TrimSpace(string(raw)), "\n")
	return strings.Join(all[max(0, len(all)-lines):], "\n")
}
