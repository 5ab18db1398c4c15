package supervise_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"sipha/agent/supervise"
)

// TestMain lets the test binary play the waiter and the daemon as well.
func TestMain(m *testing.M) {
	if len(os.Args) > 2 {
		switch os.Args[1] {
		case "play-waiter":
			os.Exit(playWaiter(os.Args[2], slices.Contains(os.Args, "--attach")))
		case "play-daemon":
			os.Exit(playDaemon(os.Args[2]))
		}
	}
	os.Exit(m.Run())
}

func playWaiter(dir string, attach bool) int {
	w := supervise.Waiter{
		Dir: supervise.Directory{Path: dir}, Log: slog.New(slog.NewTextHandler(os.Stderr, nil)),
		Died: func(c supervise.Command, e supervise.Exit) {
			text := fmt.Sprintf("%s: %s\n", c.Labels["resource"], e)
			if err := os.WriteFile(c.Labels["died"], []byte(text), 0o600); err != nil {
				panic(err)
			}
		},
	}
	if err := w.Run(attach); err != nil {
		return 1
	}
	return 0
}

// playDaemon does what its name says: stays, exits, dies, is deaf to SIGTERM, or leaves a child behind.
func playDaemon(part string) int {
	term := make(chan os.Signal, 1)
	signal.Notify(term, syscall.SIGTERM)
	switch part {
	case "deaf":
		signal.Ignore(syscall.SIGTERM)
		fmt.Println("deaf")
		<-make(chan int) // the signal handler keeps this from being a deadlock
	case "exit":
		fmt.Fprintln(os.Stderr, "starting")
		fmt.Fprintln(os.Stderr, "registrard: no corosync here: start it first")
		return 69
	case "panic":
		panic("at the disco")
	case "parent":
		child := exec.Command(os.Args[0], "play-daemon", "deaf")
		child.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
		if err := child.Start(); err != nil {
			return 1
		}
		if err := os.WriteFile(os.Getenv("CHILD"), []byte(strconv.Itoa(child.Process.Pid)), 0o600); err != nil {
			return 1
		}
	}
	fmt.Println("ready")
	<-term
	return 0
}

type stage struct {
	session *supervise.Session
	dir     supervise.Directory
	command supervise.Command
	died    string
}

// newStage prepares a session whose daemon plays a part; whatever is left of it is ended with the test.
func newStage(t *testing.T, part string) *stage {
	t.Helper()
	base := t.TempDir()
	dir := supervise.Directory{Path: filepath.Join(base, "run")}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	s := &stage{
		session: &supervise.Session{Dir: dir, Waiter: []string{self, "play-waiter", dir.Path}, Log: slog.New(slog.DiscardHandler)},
		dir:     dir, died: filepath.Join(base, "died"),
		command: supervise.Command{
			Instance: "test", Path: self, Args: []string{"play-daemon", part}, Log: filepath.Join(base, "log", "daemon.log"),
			Env: append(os.Environ(), "CHILD="+filepath.Join(base, "child")),
		},
	}
	s.command.Labels = map[string]string{"resource": "registrard", "died": s.died}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		if err := s.session.Stop(ctx, 0); err != nil {
			t.Errorf("clean up: %v", err)
		}
	})
	return s
}

func (s *stage) start(t *testing.T) supervise.State {
	t.Helper()
	if err := s.session.Start(t.Context(), s.command); err != nil {
		t.Fatal(err)
	}
	return s.find(t)
}

// says waits until the daemon's log has a word.
func (s *stage) says(t *testing.T, word string) {
	t.Helper()
	eventually(t, "the log says "+word, func() bool {
		b, _ := os.ReadFile(s.command.Log)
		return strings.Contains(string(b), word)
	})
}

func (s *stage) find(t *testing.T) supervise.State {
	t.Helper()
	state, err := s.session.Find(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return state
}

func (s *stage) stop(t *testing.T, grace time.Duration) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	if err := s.session.Stop(ctx, grace); err != nil {
		t.Fatal(err)
	}
}

// eventually polls until ok, for at most ten seconds.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	deadline := time.Now().Add(10 * time.Second)
	for !ok() {
		if time.Now().After(deadline) {
			t.Fatalf("not in ten seconds: %s", what)
		}
		time.Sleep(5 * time.Millisecond)
	}
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

func TestSessionStartAndStop(t *testing.T) {
	t.Parallel()
	s := newStage(t, "stay")
	if got := s.find(t); got.Phase != supervise.Absent {
		t.Fatalf("before: %+v", got)
	}
	got := s.start(t)
	if got.Phase != supervise.Running || !got.Process.Alive() {
		t.Fatalf("started: %+v", got)
	}
	if sid, err := syscall.Getpgid(got.Process.PID); err != nil || sid != got.Process.PID {
		t.Errorf("not a session of its own: group %d, %v", sid, err)
	}
	s.says(t, "ready")
	s.stop(t, 5*time.Second)
	if got.Process.Alive() {
		t.Error("alive after stop")
	}
	if w, err := s.dir.Waiter(); err != nil || w.Alive() {
		t.Errorf("the waiter is alive after stop: %v, %v", w, err)
	}
	if exists(s.died) {
		t.Error("a wanted end was acted upon")
	}
	if after := s.find(t); after.Phase != supervise.Exited || !after.Exit.Clean() {
		t.Errorf("after stop: %+v", after)
	}
	if err := s.dir.Clear(); err != nil {
		t.Fatal(err)
	}
	if after := s.find(t); after.Phase != supervise.Absent {
		t.Errorf("after clear: %+v", after)
	}
	s.stop(t, time.Second) // of nothing
}

func TestSessionStopKills(t *testing.T) {
	t.Parallel()
	s := newStage(t, "deaf")
	got := s.start(t)
	s.says(t, "deaf")
	began := time.Now()
	s.stop(t, 100*time.Millisecond)
	if got.Process.Alive() {
		t.Error("alive after stop")
	}
	if took := time.Since(began); took < 100*time.Millisecond {
		t.Errorf("took %v", took)
	}
	if after := s.find(t); after.Exit.Signal != int(syscall.SIGKILL) {
		t.Errorf("after: %+v", after)
	}
}

// TestSessionStopReachesChildren needs a cgroup: without one, a child in a session of its own cannot be found.
func TestSessionStopReachesChildren(t *testing.T) {
	t.Parallel()
	s := newStage(t, "parent")
	s.start(t)
	if !exists(filepath.Join(s.dir.Path, "cgroup")) {
		t.Skip("this host lets us have no cgroup")
	}
	childFile := filepath.Join(filepath.Dir(s.died), "child")
	var child supervise.Process
	eventually(t, "the daemon has a child", func() bool {
		b, _ := os.ReadFile(childFile)
		pid, _ := strconv.Atoi(string(b))
		p, err := supervise.Identify(pid)
		child = p
		return err == nil
	})
	s.stop(t, 5*time.Second)
	if child.Alive() {
		t.Error("the daemon's child is alive after stop")
	}
}

func TestSessionRecordsTheEnd(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		part, words string
		ok          func(supervise.Exit) bool
	}{
		{"exit", "registrard: no corosync here: start it first", func(e supervise.Exit) bool { return e.Known && e.Code == 69 && e.Signal == 0 && !e.Clean() }},
		{"panic", "panic: at the disco", func(e supervise.Exit) bool { return e.Known && e.Code == 2 }},
	} {
		t.Run(tc.part, func(t *testing.T) {
			t.Parallel()
			s := newStage(t, tc.part)
			s.start(t)
			var got supervise.State
			eventually(t, "the daemon has ended", func() bool { got = s.find(t); return got.Phase == supervise.Exited })
			if !tc.ok(got.Exit) || got.Words != tc.words {
				t.Errorf("%+v", got)
			}
			eventually(t, "the end is acted upon", func() bool { return exists(s.died) })
		})
	}
}

func TestSessionKilled(t *testing.T) {
	t.Parallel()
	s := newStage(t, "stay")
	got := s.start(t)
	if err := syscall.Kill(got.Process.PID, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the end is acted upon", func() bool { return exists(s.died) })
	b, err := os.ReadFile(s.died)
	if err != nil || string(b) != "registrard: was killed by signal 9\n" {
		t.Errorf("%q, %v", b, err)
	}
	if after := s.find(t); after.Phase != supervise.Exited || after.Exit.Signal != 9 {
		t.Errorf("after: %+v", after)
	}
}

// TestSessionGuard kills the waiter, too, and expects a new one to take its place.
func TestSessionGuard(t *testing.T) {
	t.Parallel()
	s := newStage(t, "stay")
	got := s.start(t)
	first, err := s.dir.Waiter()
	if err != nil {
		t.Fatal(err)
	}
	if err := syscall.Kill(first.PID, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the waiter is gone", func() bool { return !first.Alive() })
	if !got.Process.Alive() {
		t.Fatal("the daemon went with its waiter")
	}
	if err := s.session.Guard(t.Context()); err != nil {
		t.Fatal(err)
	}
	second, err := s.dir.Waiter()
	if err != nil || !second.Alive() || second == first {
		t.Fatalf("new waiter: %v, %v", second, err)
	}
	if err := s.session.Guard(t.Context()); err != nil {
		t.Fatal(err)
	}
	if third, err := s.dir.Waiter(); err != nil || third != second {
		t.Errorf("a living waiter was replaced: %v, %v", third, err)
	}
	if err := syscall.Kill(got.Process.PID, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the end is acted upon", func() bool { return exists(s.died) })
	if after := s.find(t); after.Phase != supervise.Exited || after.Exit.Known {
		t.Errorf("after: %+v", after)
	}
}

// TestSessionForeignPID puts a living process on record under a start time that is not its own, as after a reuse of the pid.
func TestSessionForeignPID(t *testing.T) {
	t.Parallel()
	s := newStage(t, "stay")
	bystander := exec.Command(s.command.Path, "play-daemon", "stay")
	if err := bystander.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		_ = bystander.Process.Kill()
		_ = bystander.Wait()
	}()
	p, err := supervise.Identify(bystander.Process.Pid)
	if err != nil {
		t.Fatal(err)
	}
	p.Start--
	if err := errors.Join(s.dir.Create(), s.dir.SetProcess(p)); err != nil {
		t.Fatal(err)
	}
	if got := s.find(t); got.Phase != supervise.Exited {
		t.Errorf("found: %+v", got)
	}
	s.stop(t, 0)
	if _, err := supervise.Identify(bystander.Process.Pid); err != nil {
		t.Error("stop killed a bystander")
	}
}

func TestSessionStartFails(t *testing.T) {
	t.Parallel()
	s := newStage(t, "stay")
	s.command.Path = "/nonexistent/registrard"
	err := s.session.Start(t.Context(), s.command)
	if err == nil || !strings.Contains(err.Error(), "start /nonexistent/registrard") {
		t.Errorf("error %v", err)
	}
	if got := s.find(t); got.Phase == supervise.Running {
		t.Errorf("found: %+v", got)
	}
	s.session.Waiter = []string{"/bin/false"}
	if err := s.session.Start(t.Context(), s.command); err == nil {
		t.Error("a waiter that does not start is no error")
	}
}

// TestSessionLogElsewhere has no directory for the log: the daemon starts all the same, and its words are found.
func TestSessionLogElsewhere(t *testing.T) {
	t.Parallel()
	s := newStage(t, "exit")
	s.command.Log = "/proc/none/daemon.log"
	s.start(t)
	var got supervise.State
	eventually(t, "the daemon has ended", func() bool { got = s.find(t); return got.Phase == supervise.Exited })
	if got.Words != "registrard: no corosync here: start it first" {
		t.Errorf("%+v", got)
	}
}

func TestSessionUnreadableRecord(t *testing.T) {
	t.Parallel()
	s := newStage(t, "stay")
	if err := s.dir.Create(); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(s.dir.Path, "pid"), []byte("rubbish"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := s.session.Find(t.Context()); err == nil {
		t.Error("rubbish passes for a process")
	}
	s.stop(t, time.Second) // must not fail on it
}
