package supervise

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func TestParseStat(t *testing.T) {
	t.Parallel()
	const rest = " 14388 14382 10946 0 -1 4194304 205 0 0 0 0 0 0 0 20 0 4 0 126107 1256366080 514"
	for _, tc := range []struct {
		name, stat string
		state      byte
		start      uint64
		bad        bool
	}{
		{"OK", "14416 (pf) R" + rest, 'R', 126107, false},
		{"name with a parenthesis", "14416 (a) Z (b)) S" + rest, 'S', 126107, false},
		{"cut", "14416 (pf) R 1 2 3", 0, 0, true},
		{"empty", "", 0, 0, true},
		{"no number", strings.Replace("1 (pf) R"+rest, "126107", "x", 1), 0, 0, true},
	} {
		state, start, err := parseStat([]byte(tc.stat))
		if state != tc.state && !tc.bad || start != tc.start || (err != nil) != tc.bad {
			t.Errorf("%s: %c %d %v", tc.name, state, start, err)
		}
	}
}

func TestProcessRoundTrip(t *testing.T) {
	t.Parallel()
	p, err := Identify(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	back, err := ParseProcess(p.String() + "\n")
	if err != nil || back != p || !back.Alive() {
		t.Errorf("%v, %v", back, err)
	}
	other := p
	other.Boot = "another"
	if other.Alive() {
		t.Error("a process of another boot is alive")
	}
	if _, err := Identify(0); !errors.Is(err, ErrGone) {
		t.Errorf("pid 0: %v", err)
	}
}

// TestHandleWithoutPidfd is what kernels before 5.3 do.
func TestHandleWithoutPidfd(t *testing.T) {
	t.Parallel()
	cmd := exec.Command("sleep", "600")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	p, err := Identify(cmd.Process.Pid)
	if err != nil {
		t.Fatal(err)
	}
	h := &Handle{process: p, fd: -1}
	short, cancel := context.WithTimeout(t.Context(), 30*time.Millisecond)
	defer cancel()
	if err := h.Wait(short); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("while it lives: %v", err)
	}
	if err := h.Signal(unix.SIGKILL); err != nil {
		t.Error(err)
	}
	long, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	if err := h.Wait(long); err != nil { // a zombie has ended
		t.Error(err)
	}
	if err := h.Signal(unix.SIGKILL); err != nil {
		t.Errorf("signal to one that is gone: %v", err)
	}
	_ = cmd.Wait()
	if _, err := p.Open(); !errors.Is(err, ErrGone) {
		t.Errorf("open of one that is gone: %v", err)
	}
}

func FuzzParseProcess(f *testing.F) {
	f.Add("1 2 3")
	f.Add("-1 18446744073709551615 x")
	f.Fuzz(func(t *testing.T, text string) {
		p, err := ParseProcess(text)
		if err != nil {
			return
		}
		if back, err := ParseProcess(p.String()); err != nil || back != p || p.PID <= 0 {
			t.Errorf("%q: %v, %v", text, back, err)
		}
	})
}

func FuzzParseStat(f *testing.F) {
	f.Add([]byte("14416 (a) R 1 1 1 0 -1 4194304 205 0 0 0 0 0 0 0 20 0 4 0 126107 1256366080 514"))
	f.Add([]byte("1 (\x00)) "))
	f.Fuzz(func(t *testing.T, stat []byte) {
		state, _, err := parseStat(stat)
		if err == nil && state == 0 {
			t.Errorf("%q: no state", stat)
		}
	})
}

func TestOwnCgroup(t *testing.T) {
	t.Parallel()
	const (
		v1    = "31 24 0:27 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu\n32 24 0:28 / /sys/fs/cgroup/pids rw - cgroup cgroup rw,pids\n"
		v2    = "30 24 0:26 / /sys/fs/cgroup/unified rw shared:9 - cgroup2 cgroup2 rw\n"
		noise = "24 1 254:0 / / rw - ext4 /dev/root rw\nnonsense\n"
	)
	for _, tc := range []struct {
		name, mounts, groups, path string
		v2                         bool
	}{
		{"version 2", noise + v2, "0::/system.slice/pacemaker.service\n", "/sys/fs/cgroup/unified/system.slice/pacemaker.service", true},
		{"version 1", noise + v1, "8:pids:/a\n7:cpu,cpuacct:/b\n", "/sys/fs/cgroup/pids/a", false},
		{"both", noise + v1 + v2, "8:pids:/a\n0::/\n", "/sys/fs/cgroup/unified", true},
		{"a part of the hierarchy", strings.Replace(v2, " / /sys", " /docker/x /sys", 1), "0::/docker/x/y\n", "/sys/fs/cgroup/unified/y", true},
		{"above the namespace", v2, "0::/../other\n", "/sys/fs/cgroup/unified/other", true},
		{"none", noise, "0::/\n", "", false},
	} {
		dir := t.TempDir()
		mounts, groups := filepath.Join(dir, "mountinfo"), filepath.Join(dir, "cgroup")
		if err := errors.Join(os.WriteFile(mounts, []byte(tc.mounts), 0o600), os.WriteFile(groups, []byte(tc.groups), 0o600)); err != nil {
			t.Fatal(err)
		}
		path, isV2, err := ownCgroup(mounts, groups)
		if path != tc.path || isV2 != tc.v2 || (err == nil) != (tc.path != "") {
			t.Errorf("%s: %q %v %v", tc.name, path, isV2, err)
		}
	}
}

// TestOpenCgroup must not trust a record that names a group of somebody else: everything in it would be killed.
func TestOpenCgroup(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	make := func(name string, files ...string) string {
		path := filepath.Join(dir, name)
		if err := os.Mkdir(path, 0o755); err != nil {
			t.Fatal(err)
		}
		for _, f := range files {
			if err := os.WriteFile(filepath.Join(path, f), nil, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		return path
	}
	ours := make("registrard-a-12", "cgroup.procs", "cgroup.type")
	old := make("registrard-b-34", "cgroup.procs")
	foreign := make("system.slice", "cgroup.procs", "cgroup.type")
	noGroup := make("registrard-c-56")
	if g := openCgroup(ours); g.path != ours || !g.v2 {
		t.Errorf("ours: %+v", g)
	}
	if g := openCgroup(old); g.path != old || g.v2 {
		t.Errorf("version 1: %+v", g)
	}
	for _, path := range []string{foreign, noGroup, "", "/", "registrard-x", "/sys/fs/cgroup"} {
		if g := openCgroup(path); g != (cgroup{}) {
			t.Errorf("%q: %+v", path, g)
		}
	}
}

// TestSweep removes what is empty and old, and nothing else.
func TestSweep(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	old := time.Now().Add(-2 * sweepAge)
	left := func(name string, age time.Time, full bool) {
		path := filepath.Join(dir, name)
		if err := os.Mkdir(path, 0o755); err != nil {
			t.Fatal(err)
		}
		if full {
			if err := os.WriteFile(filepath.Join(path, "process"), nil, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		if err := os.Chtimes(path, age, age); err != nil {
			t.Fatal(err)
		}
	}
	left("registrard-a-old", old, false)
	left("registrard-a-used", old, true)
	left("registrard-a-young", time.Now(), false)
	left("registrard-b-old", old, false)
	sweep(filepath.Join(dir, "registrard-a-"))
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	if got, want := strings.Join(names, " "), "registrard-a-used registrard-a-young registrard-b-old"; got != want {
		t.Errorf("left: %s, want %s", got, want)
	}
}

func TestLastWords(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct{ name, text, want string }{
		{"last line", "a\nb\n", "b"},
		{"no newline", "a\nb", "b"},
		{"blank end", "a\n\n  \n", "a"},
		{"nothing", "", ""},
		{"crash", "start\npanic: x\n\ngoroutine 1 [running]:\nmain.main()\n\t/x.go:3 +0x1\n", "panic: x"},
		{"runtime", "fatal error: all goroutines are asleep - deadlock!\n\ngoroutine 1\n", "fatal error: all goroutines are asleep - deadlock!"},
	} {
		if got := LastWords(tc.text); got != tc.want {
			t.Errorf("%s: %q", tc.name, got)
		}
	}
	path := filepath.Join(t.TempDir(), "log")
	if err := os.WriteFile(path, []byte("old\nnew\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if got := tail(path, 4); got != "new\n" {
		t.Errorf("tail: %q", got)
	}
	if got := tail(path, 400); got != "old\nnew\n" {
		t.Errorf("tail of a log that was cut: %q", got)
	}
}
