package supervise

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os/exec"
	"strings"
	"time"

	systemd "github.com/coreos/go-systemd/v22/dbus"
)

const (
	// argumentsVariable carries the daemon's arguments to a unit file's ExecStart.
	argumentsVariable = "REGISTRARD_ARGS"
	// environmentFile is read by the unit file (EnvironmentFile=-/run/registrard/%i/environment).
	environmentFile = "environment"

	journalTimeout  = time.Second
	managerTimeout  = 5 * time.Second
	jobMode         = "replace"
	cldExited       = 1 // CLD_EXITED of waitid(2), in ExecMainCode
	journalMaxBytes = 16 << 10
)

// Manager is what a Unit asks of systemd; *dbus.Conn of go-systemd has it.
type Manager interface {
	GetAllPropertiesContext(ctx context.Context, unit string) (map[string]any, error)
	StartUnitContext(ctx context.Context, name, mode string, done chan<- string) (int, error)
	StartTransientUnitContext(ctx context.Context, name, mode string, properties []systemd.Property, done chan<- string) (int, error)
	StopUnitContext(ctx context.Context, name, mode string, done chan<- string) (int, error)
	KillUnitWithTarget(ctx context.Context, name string, target systemd.Who, signal int32) error
	ResetFailedUnitContext(ctx context.Context, name string) error
	Close()
}

// DialManager connects to systemd itself, so that no D-Bus daemon is needed, or over the system bus where that cannot be.
func DialManager(ctx context.Context) (Manager, error) {
	conn, err := systemd.NewSystemdConnectionContext(ctx)
	if err == nil {
		return conn, nil
	}
	if conn, second := systemd.NewSystemConnectionContext(ctx); second == nil {
		return conn, nil
	}
	return nil, fmt.Errorf("connect to systemd: %w", err)
}

// Unit runs the daemon as a unit of systemd: its unit file where one is installed, else a transient unit of the same properties.
type Unit struct {
	Name  string // such as "registrard@registrard.service"
	Dir   Directory
	After []string // command line to run once the daemon has ended (ExecStopPost=) of a transient unit
	Dial  func(context.Context) (Manager, error)
	Log   *slog.Logger
	// Foreign tells that the binary is not the one that the unit file starts, so that a transient unit is wanted in any case.
	Foreign bool
}

// unitState is what counts of a unit's properties (org.freedesktop.systemd1(5)).
type unitState struct {
	load, active, result string
	transient            bool
	mainPID              int
	code, status         int
	ranOnce              bool
}

// Find asks systemd; where it does not answer, the process on record is what there is.
func (u *Unit) Find(ctx context.Context) (State, error) {
	asking, cancel := context.WithTimeout(ctx, managerTimeout)
	defer cancel()
	s, err := u.state(asking)
	if err != nil {
		u.Log.Warn("systemd does not answer; looking at the process on record", "error", err)
		return u.findRecorded()
	}
	switch s.active {
	case "active", "activating", "reloading", "deactivating":
		return u.running(s.mainPID)
	}
	if p, err := u.Dir.Process(); err == nil && p.Alive() {
		return State{Phase: Running, Process: p}, nil // started by hand, and taken over
	}
	if s.active != "failed" && (!s.ranOnce || s.load == "not-found") {
		return State{Phase: Absent}, nil
	}
	if !u.Dir.has(commandFile) {
		return State{Phase: Absent}, nil // it ran for somebody else, or was stopped by us and forgotten
	}
	exit := Exit{Known: true, Code: s.status}
	if s.code != cldExited && s.result != "success" {
		exit.Code, exit.Signal = -1, s.status
	}
	return State{Phase: Exited, Exit: exit, Words: u.words(ctx)}, nil
}

// running records the main process, so that it can be found without systemd.
func (u *Unit) running(pid int) (State, error) {
	p, err := Identify(pid)
	if err != nil {
		return State{Phase: Running}, nil // between two processes: the next look will tell
	}
	if recorded, err := u.Dir.Process(); err != nil || recorded != p {
		if err := u.Dir.Create(); err != nil {
			return State{}, err
		}
		if err := u.Dir.SetProcess(p); err != nil {
			return State{}, err
		}
	}
	return State{Phase: Running, Process: p}, nil
}

func (u *Unit) findRecorded() (State, error) {
	p, err := u.Dir.Process()
	switch {
	case err != nil:
		return State{}, err
	case p == Process{}:
		return State{Phase: Absent}, nil
	case p.Alive():
		return State{Phase: Running, Process: p}, nil
	default:
		return State{Phase: Exited, Exit: Exit{Process: p}}, nil
	}
}

func (u *Unit) state(ctx context.Context) (unitState, error) {
	m, err := u.Dial(ctx)
	if err != nil {
		return unitState{}, err
	}
	defer m.Close()
	return askState(ctx, m, u.Name)
}

func askState(ctx context.Context, m Manager, name string) (unitState, error) {
	props, err := m.GetAllPropertiesContext(ctx, name)
	if err != nil {
		return unitState{}, fmt.Errorf("ask systemd for %s: %w", name, err)
	}
	s := unitState{
		load: text(props["LoadState"]), active: text(props["ActiveState"]), result: text(props["Result"]),
		transient: props["Transient"] == true, mainPID: whole(props["MainPID"]),
		code: whole(props["ExecMainCode"]), status: whole(props["ExecMainStatus"]),
	}
	since, _ := props["ExecMainExitTimestamp"].(uint64)
	s.ranOnce = since != 0
	return s, nil
}

func text(v any) string {
	s, _ := v.(string)
	return s
}

func whole(v any) int {
	switch n := v.(type) {
	case uint32:
		return int(n)
	case int32:
		return int(n)
	}
	return 0
}

// Start asks systemd to start the unit.
func (u *Unit) Start(ctx context.Context, command Command) error {
	if err := u.prepare(command); err != nil {
		return err
	}
	m, err := u.Dial(ctx)
	if err != nil {
		return err
	}
	defer m.Close()
	s, err := askState(ctx, m, u.Name)
	if err != nil {
		return err
	}
	if s.active == "failed" {
		if err := m.ResetFailedUnitContext(ctx, u.Name); err != nil { // a failed transient unit would be in the way
			u.Log.Warn("reset failed unit", "unit", u.Name, "error", err)
		}
	}
	if s.load == "loaded" && !s.transient && !u.Foreign {
		_, err = m.StartUnitContext(ctx, u.Name, jobMode, nil)
	} else {
		_, err = m.StartTransientUnitContext(ctx, u.Name, jobMode, u.properties(command), nil)
	}
	if err != nil {
		return fmt.Errorf("start %s: %w", u.Name, err)
	}
	return nil
}

// prepare leaves what the unit file and the command after the end read.
func (u *Unit) prepare(command Command) error {
	if err := u.Dir.Create(); err != nil {
		return err
	}
	if err := u.Dir.Clear(); err != nil {
		return err
	}
	if err := u.Dir.SetCommand(command); err != nil {
		return err
	}
	line := argumentsVariable + "=\"" + strings.Join(command.Args, " ") + "\"\n"
	return u.Dir.write(environmentFile, []byte(line))
}

// properties are those of the unit file that is shipped (packaging/systemd), for a host where it is not installed. go-systemd makes
// values of a few properties only; others of the same D-Bus type are made from them under another name.
func (u *Unit) properties(command Command) []systemd.Property {
	argv := append([]string{command.Path}, command.Args...)
	props := []systemd.Property{
		systemd.PropDescription("SIP registrar " + command.Instance),
		systemd.PropType("notify"),
		systemd.PropExecStart(argv, false),
		systemd.PropBefore("pacemaker.service"), // so that at shutdown the cluster stops it, and nobody else before
		named("KillMode", systemd.PropType("mixed")),
		named("Restart", systemd.PropType("no")),
	}
	if len(u.After) > 0 {
		props = append(props, named("ExecStopPost", systemd.PropExecStart(u.After, true)))
	}
	return props
}

func named(name string, p systemd.Property) systemd.Property {
	p.Name = name
	return p
}

// Stop asks systemd to stop the unit, and sees to the process itself when that does not come about.
func (u *Unit) Stop(ctx context.Context, grace time.Duration) error {
	if err := u.Dir.Create(); err == nil {
		err = u.Dir.SetStopping(true)
		if err != nil {
			u.Log.Warn("ExecStopPost will not know that this end is wanted", "error", err)
		}
	}
	found, err := u.Find(ctx)
	if err != nil {
		u.Log.Warn("find the daemon", "error", err)
	}
	m, err := u.Dial(ctx)
	if err != nil {
		u.Log.Warn("stopping without systemd", "error", err)
		return end(ctx, u.Log, found.Process, cgroup{}, grace)
	}
	defer m.Close()
	if grace > 0 && found.Phase == Running {
		u.ask(ctx, m, grace)
	}
	if s, err := askState(ctx, m, u.Name); err == nil && s.active != "inactive" && s.active != "failed" {
		u.Log.Warn("killing the daemon, which did not end in time", "unit", u.Name, "grace", grace)
		if err := m.KillUnitWithTarget(ctx, u.Name, systemd.All, int32(sigKill)); err != nil {
			u.Log.Warn("kill unit", "unit", u.Name, "error", err)
		}
	}
	if err := end(ctx, u.Log, found.Process, cgroup{}, grace); err != nil { // only one that is not the unit's is there still
		return err
	}
	if s, err := askState(ctx, m, u.Name); err == nil && s.active == "failed" {
		if err := m.ResetFailedUnitContext(ctx, u.Name); err != nil {
			u.Log.Warn("reset failed unit", "unit", u.Name, "error", err)
		}
	}
	return nil
}

// ask lets systemd stop the unit, and waits for grace.
func (u *Unit) ask(ctx context.Context, m Manager, grace time.Duration) {
	ctx, cancel := context.WithTimeout(ctx, grace)
	defer cancel()
	done := make(chan string, 1)
	if _, err := m.StopUnitContext(ctx, u.Name, jobMode, done); err != nil {
		u.Log.Warn("stop unit", "unit", u.Name, "error", err)
		return
	}
	select {
	case result := <-done:
		if result != "done" {
			u.Log.Warn("stop unit", "unit", u.Name, "result", result)
		}
	case <-ctx.Done():
	}
}

// Guard has nothing to do: systemd runs ExecStopPost itself.
func (u *Unit) Guard(context.Context) error { return nil }

// words asks the journal for the last words of the unit's processes, without what systemd itself says about them.
func (u *Unit) words(ctx context.Context) string {
	ctx, cancel := context.WithTimeout(ctx, journalTimeout)
	defer cancel()
	cmd := exec.CommandContext(ctx, "journalctl", "--quiet", "--no-pager", "--output=cat", "--lines=50", "_SYSTEMD_UNIT="+u.Name)
	cmd.WaitDelay = pollInterval
	out, err := cmd.Output()
	if err != nil && !errors.Is(err, exec.ErrWaitDelay) {
		return ""
	}
	return LastWords(string(out[max(0, len(out)-journalMaxBytes):]))
}
