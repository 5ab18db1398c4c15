package supervise_test

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	systemd "github.com/coreos/go-systemd/v22/dbus"

	"sipha/agent/supervise"
)

// manager plays systemd with one unit and, where it has been told to, a real process.
type manager struct {
	mu     sync.Mutex
	props  map[string]any
	calls  []string
	deaf   bool // StopUnit does not come to an end
	silent bool // nothing is answered
	starts []systemd.Property
	daemon *exec.Cmd
	part   string
}

func (m *manager) dial(context.Context) (supervise.Manager, error) {
	if m.silent {
		return nil, errors.New("connection refused")
	}
	return m, nil
}

func (m *manager) did(call string) { m.calls = append(m.calls, call) }

func (m *manager) GetAllPropertiesContext(context.Context, string) (map[string]any, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	props := map[string]any{}
	for k, v := range m.props {
		props[k] = v
	}
	return props, nil
}

func (m *manager) run() error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	m.daemon = exec.Command(self, "play-daemon", m.part)
	if err := m.daemon.Start(); err != nil {
		return err
	}
	m.props["ActiveState"], m.props["MainPID"] = "active", uint32(m.daemon.Process.Pid)
	return nil
}

func (m *manager) StartUnitContext(_ context.Context, name, mode string, _ chan<- string) (int, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.did("start " + name + " " + mode)
	return 1, m.run()
}

func (m *manager) StartTransientUnitContext(_ context.Context, name, mode string, p []systemd.Property, _ chan<- string) (int, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.did("transient " + name + " " + mode)
	m.starts = p
	m.props["LoadState"], m.props["Transient"] = "loaded", true
	return 1, m.run()
}

func (m *manager) StopUnitContext(_ context.Context, name, mode string, done chan<- string) (int, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.did("stop " + name + " " + mode)
	if m.deaf {
		m.props["ActiveState"] = "deactivating"
		return 1, nil
	}
	m.over("inactive", "success", 1, 0)
	done <- "done"
	return 1, nil
}

// over ends the process, and leaves the properties that systemd leaves.
func (m *manager) over(active, result string, code, status int32) {
	if m.daemon != nil {
		_ = m.daemon.Process.Kill()
		_ = m.daemon.Wait()
		m.daemon = nil
	}
	m.props["ActiveState"], m.props["Result"], m.props["MainPID"] = active, result, uint32(0)
	m.props["ExecMainCode"], m.props["ExecMainStatus"], m.props["ExecMainExitTimestamp"] = code, status, uint64(1)
}

func (m *manager) KillUnitWithTarget(_ context.Context, name string, who systemd.Who, signal int32) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.did("kill " + name + " " + string(who))
	if signal != 9 {
		return errors.New("not SIGKILL")
	}
	m.over("failed", "signal", 2, 9)
	return nil
}

func (m *manager) ResetFailedUnitContext(_ context.Context, name string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.did("reset " + name)
	m.props["ActiveState"] = "inactive"
	return nil
}

func (m *manager) Close() {}

const unitName = "registrard@test.service"

func newUnit(t *testing.T, m *manager) (*supervise.Unit, supervise.Command) {
	t.Helper()
	base := t.TempDir()
	if m.props == nil {
		m.props = map[string]any{"LoadState": "not-found", "ActiveState": "inactive"}
	}
	if m.part == "" {
		m.part = "stay"
	}
	t.Cleanup(func() {
		m.mu.Lock()
		defer m.mu.Unlock()
		m.over("inactive", "success", 1, 0)
	})
	u := &supervise.Unit{
		Name: unitName, Dir: supervise.Directory{Path: filepath.Join(base, "run")}, After: []string{"/agent", "gone"}, Dial: m.dial,
		Log: slog.New(slog.DiscardHandler),
	}
	return u, supervise.Command{Instance: "test", Path: "/usr/sbin/registrard", Args: []string{"run", "--config", "/etc/x.conf"}}
}

func TestUnitLife(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name, want string
		props      map[string]any
		foreign    bool
	}{
		{"unit file", "start", map[string]any{"LoadState": "loaded", "ActiveState": "inactive"}, false},
		{"no unit file", "transient", nil, false},
		{"another binary", "transient", map[string]any{"LoadState": "loaded", "ActiveState": "inactive"}, true},
		{"a failed transient unit lingers", "reset " + unitName + ", transient", map[string]any{"LoadState": "loaded", "ActiveState": "failed", "Transient": true}, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			m := &manager{props: tc.props}
			u, command := newUnit(t, m)
			u.Foreign = tc.foreign
			if err := u.Start(t.Context(), command); err != nil {
				t.Fatal(err)
			}
			if got, want := strings.Join(m.calls, ", "), tc.want+" "+unitName+" replace"; got != want {
				t.Errorf("calls: %s, want %s", got, want)
			}
			b, err := os.ReadFile(filepath.Join(u.Dir.Path, "environment"))
			if err != nil || string(b) != "REGISTRARD_ARGS=\"run --config /etc/x.conf\"\n" {
				t.Errorf("environment %q, %v", b, err)
			}
			got, err := u.Find(t.Context())
			if err != nil || got.Phase != supervise.Running || !got.Process.Alive() {
				t.Fatalf("running: %+v, %v", got, err)
			}
			if recorded, err := u.Dir.Process(); err != nil || recorded != got.Process {
				t.Errorf("on record: %v, %v", recorded, err)
			}
			if err := u.Stop(t.Context(), time.Second); err != nil {
				t.Fatal(err)
			}
			if got.Process.Alive() || !u.Dir.Stopping() {
				t.Errorf("after stop: alive %v, stopping %v", got.Process.Alive(), u.Dir.Stopping())
			}
		})
	}
}

func TestUnitTransientProperties(t *testing.T) {
	t.Parallel()
	m := &manager{}
	u, command := newUnit(t, m)
	if err := u.Start(t.Context(), command); err != nil {
		t.Fatal(err)
	}
	got := map[string]string{}
	for _, p := range m.starts {
		got[p.Name] = p.Value.String()
	}
	for name, want := range map[string]string{
		"Type": `"notify"`, "KillMode": `"mixed"`, "Restart": `"no"`, "Before": `["pacemaker.service"]`, "Description": `"SIP registrar test"`,
		"ExecStart":    `[("/usr/sbin/registrard", ["/usr/sbin/registrard", "run", "--config", "/etc/x.conf"], false,)]`,
		"ExecStopPost": `[("/agent", ["/agent", "gone"], true,)]`,
	} {
		if got[name] != want {
			t.Errorf("%s = %s, want %s", name, got[name], want)
		}
	}
}

func TestUnitStopKills(t *testing.T) {
	t.Parallel()
	m := &manager{deaf: true}
	u, command := newUnit(t, m)
	if err := u.Start(t.Context(), command); err != nil {
		t.Fatal(err)
	}
	got, err := u.Find(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := u.Stop(t.Context(), 50*time.Millisecond); err != nil {
		t.Fatal(err)
	}
	if got.Process.Alive() {
		t.Error("alive after stop")
	}
	if got, want := strings.Join(m.calls[1:], ", "), "stop "+unitName+" replace, kill "+unitName+" all, reset "+unitName; got != want {
		t.Errorf("calls: %s, want %s", got, want)
	}
}

// TestUnitWithoutSystemd takes systemd away from a daemon that is running: it is found and stopped by its process on record.
func TestUnitWithoutSystemd(t *testing.T) {
	t.Parallel()
	m := &manager{}
	u, command := newUnit(t, m)
	if err := u.Start(t.Context(), command); err != nil {
		t.Fatal(err)
	}
	if _, err := u.Find(t.Context()); err != nil {
		t.Fatal(err)
	}
	m.silent = true
	got, err := u.Find(t.Context())
	if err != nil || got.Phase != supervise.Running {
		t.Fatalf("found: %+v, %v", got, err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	if err := u.Stop(ctx, 5*time.Second); err != nil {
		t.Fatal(err)
	}
	if got.Process.Alive() {
		t.Error("alive after stop")
	}
	if err := u.Start(t.Context(), command); err == nil {
		t.Error("started without systemd")
	}
}

// TestUnitTakesOver finds and stops a daemon that somebody has started by hand, beside systemd.
func TestUnitTakesOver(t *testing.T) {
	t.Parallel()
	m := &manager{}
	u, _ := newUnit(t, m)
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	byHand := exec.Command(self, "play-daemon", "stay")
	if err := byHand.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- byHand.Wait() }()
	p, err := supervise.Identify(byHand.Process.Pid)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(u.Dir.Create(), u.Dir.SetProcess(p)); err != nil {
		t.Fatal(err)
	}
	got, err := u.Find(t.Context())
	if err != nil || got.Phase != supervise.Running || got.Process != p {
		t.Errorf("found: %+v, %v", got, err)
	}
	if err := u.Stop(t.Context(), time.Second); err != nil {
		t.Fatal(err)
	}
	<-ended
}

func TestUnitFindEnded(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name           string
		active, result string
		code, status   int32
		forgotten      bool
		phase          supervise.Phase
		ok             func(supervise.Exit) bool
	}{
		{"exit code", "failed", "exit-code", 1, 69, false, supervise.Exited, func(e supervise.Exit) bool { return e.Known && e.Code == 69 && e.Signal == 0 }},
		{"killed", "failed", "signal", 2, 9, false, supervise.Exited, func(e supervise.Exit) bool { return e.Known && e.Code == -1 && e.Signal == 9 }},
		{"clean", "inactive", "success", 1, 0, false, supervise.Exited, supervise.Exit.Clean},
		{"forgotten", "failed", "signal", 2, 9, true, supervise.Absent, func(supervise.Exit) bool { return true }},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			m := &manager{}
			u, command := newUnit(t, m)
			if err := u.Start(t.Context(), command); err != nil {
				t.Fatal(err)
			}
			m.mu.Lock() // nobody has looked at it while it ran
			m.over(tc.active, tc.result, tc.code, tc.status)
			m.mu.Unlock()
			if tc.forgotten {
				if err := u.Dir.Clear(); err != nil {
					t.Fatal(err)
				}
			}
			got, err := u.Find(t.Context())
			if err != nil || got.Phase != tc.phase || !tc.ok(got.Exit) {
				t.Errorf("%+v, %v", got, err)
			}
		})
	}
}
