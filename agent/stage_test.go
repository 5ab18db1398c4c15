package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"sipha/agent/supervise"
	"sipha/ocf"
	"sipha/registrard/control"
)

// Names under which the test binary is installed; it plays the part that its name says.
const (
	agentPart  = "agent"
	daemonPart = "registrard-fake"
)

func TestMain(m *testing.M) {
	switch filepath.Base(os.Args[0]) {
	case agentPart:
		main()
	case daemonPart:
		os.Exit(playDaemon(os.Args))
	}
	flag.Parse()
	if err := flag.Set("test.parallel", "8"); err != nil { // most of them wait, whatever the number of processors
		panic(err)
	}
	os.Exit(m.Run())
}

// busy is how much longer than its timeout an action may seem to take, since a machine under load may take seconds to start a process.
// An action that hangs takes for ever; that the dispatcher ends one in time is tested in package ocf, within one process.
const busy = 10 * time.Second

// fakeAttribute stands in for crm_attribute: the score is in a file, and every write is logged before it is done.
const fakeAttribute = `#!/bin/sh
cd "$FAKE_DIR" || exit 1
case "$*" in
*--query*) [ -f score ] || exit 105; cat score ;;
*--update*) for v; do :; done; [ -f cluster-down ] && exit 102; echo "set $v" >>writes; echo "$v" >score ;;
*--delete*) [ -f cluster-down ] && exit 102; echo "delete $*" >>writes; rm -f score ;;
esac
`

// stage is one node without systemd: the agent, a fake daemon, a fake cluster.
type stage struct {
	t      *testing.T
	dir    string
	env    map[string]string
	wrap   []string // command line that the agent's is appended to; nil: none
	script script

	arguments []string // after the action
}

// result is what one action came to.
type result struct {
	code   ocf.ExitCode
	reason string // last exit reason
	stdout string
	stderr string
	took   time.Duration
}

func newStage(t *testing.T) *stage {
	t.Helper()
	s := &stage{t: t, dir: t.TempDir()}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	for _, part := range []string{agentPart, daemonPart} {
		install(t, self, s.path("bin", part))
	}
	s.write("bin/crm_attribute", fakeAttribute, 0o755)
	s.write("registrard.conf", "", 0o600)
	s.env = map[string]string{
		"PATH": s.path("bin") + ":" + os.Getenv("PATH"), "FAKE_DIR": s.dir, "OCF_ROOT": "/usr/lib/ocf",
		"OCF_RESOURCE_INSTANCE": "registrard:1", "OCF_RESKEY_config": s.path("registrard.conf"), "OCF_RESKEY_instance": "test",
		"OCF_RESKEY_binary": s.path("bin", daemonPart), "OCF_RESKEY_rundir": s.path("run"), "OCF_RESKEY_log": s.path("log"),
		"OCF_RESKEY_CRM_meta_timeout": "20000", "OCF_RESKEY_CRM_meta_on_node": "node1", "OCF_RESKEY_CRM_meta_clone_max": "3",
		"OCF_RESKEY_CRM_meta_interval": "3000", "DBUS_SYSTEM_BUS_ADDRESS": "", "NOTIFY_SOCKET": "/run/pacemaker's",
	}
	s.play(script{Status: synced()})
	t.Cleanup(s.clear)
	return s
}

// synced is the status of a replica that is as it should be.
func synced() control.Status {
	score := control.ScoreSynced
	return control.Status{
		Node: "node1", NodeID: 1, Quorate: true, Serving: true, Synced: true, Complete: true, Score: &score, Index: 7, Committed: 7,
		Voters:  []control.Voter{{NodeID: 1, Here: true}, {NodeID: 2, Here: true}},
		Members: []control.Member{{NodeID: 1, Synced: true}, {NodeID: 2, Synced: true}},
	}
}

// install makes a second name of a file; a copy where that cannot be.
func install(t *testing.T, from, to string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
		t.Fatal(err)
	}
	if os.Link(from, to) == nil {
		return
	}
	src, err := os.Open(from)
	if err != nil {
		t.Fatal(err)
	}
	defer src.Close()
	dst, err := os.OpenFile(to, os.O_CREATE|os.O_WRONLY, 0o755)
	if err != nil {
		t.Fatal(err)
	}
	_, err = io.Copy(dst, src)
	if err := errors.Join(err, dst.Close()); err != nil {
		t.Fatal(err)
	}
}

func (s *stage) path(parts ...string) string {
	return filepath.Join(append([]string{s.dir}, parts...)...)
}

func (s *stage) write(name, text string, mode os.FileMode) {
	s.t.Helper()
	if err := os.WriteFile(s.path(name)+".new", []byte(text), mode); err != nil {
		s.t.Fatal(err)
	}
	if err := os.Rename(s.path(name)+".new", s.path(name)); err != nil {
		s.t.Fatal(err)
	}
}

// play gives the daemon its script.
func (s *stage) play(to script) {
	s.t.Helper()
	s.script = to
	b, err := json.Marshal(to)
	if err != nil {
		s.t.Fatal(err)
	}
	s.write("script.json", string(b), 0o600)
}

// change changes the script.
func (s *stage) change(how func(*script)) {
	s.t.Helper()
	next := s.script
	how(&next)
	s.play(next)
}

// run runs the agent, and holds it to its time: the cluster would kill it at its timeout.
func (s *stage) run(action string, more ...string) result {
	s.t.Helper()
	env := map[string]string{}
	for k, v := range s.env {
		env[k] = v
	}
	for _, m := range more {
		k, v, _ := strings.Cut(m, "=")
		env[k] = v
	}
	argv := append(slices.Clone(s.wrap), s.path("bin", agentPart), action)
	argv = append(argv, s.arguments...)
	cmd := exec.Command(argv[0], argv[1:]...)
	for k, v := range env {
		cmd.Env = append(cmd.Env, k+"="+v)
	}
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	began := time.Now()
	err := cmd.Run()
	r := result{took: time.Since(began), stdout: stdout.String(), stderr: stderr.String()}
	var exit *exec.ExitError
	switch {
	case errors.As(err, &exit):
		r.code = ocf.ExitCode(exit.ExitCode())
	case err != nil:
		s.t.Fatal(err)
	}
	for line := range strings.Lines(r.stderr) {
		if reason, ok := strings.CutPrefix(line, ocf.DefaultReasonPrefix); ok {
			r.reason = strings.TrimSpace(reason)
		}
	}
	if timeout := ocf.ParseEnv(cmd.Env).Timeout(); r.took >= timeout+busy {
		s.t.Errorf("%s took %v of %v: the cluster would have killed it", action, r.took, timeout)
	}
	if len(r.reason) > ocf.ReasonMaxBytes {
		s.t.Errorf("%s: exit reason of %d bytes", action, len(r.reason))
	}
	return r
}

// must runs an action and expects an exit code.
func (s *stage) must(action string, want ocf.ExitCode, more ...string) result {
	s.t.Helper()
	r := s.run(action, more...)
	if r.code != want {
		s.t.Fatalf("%s: %v, want %v; stderr:\n%s\ndiary:\n%s", action, r.code, want, r.stderr, s.read("diary"))
	}
	return r
}

func (s *stage) read(name string) string {
	b, err := os.ReadFile(s.path(name))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		s.t.Fatal(err)
	}
	return string(b)
}

// score gives the promotion score in the cluster, "" where there is none.
func (s *stage) score() string { return strings.TrimSpace(s.read("score")) }

// writes gives how often the score was written or deleted.
func (s *stage) writes() int { return strings.Count(s.read("writes"), "\n") }

func (s *stage) runtime() supervise.Directory {
	return supervise.Directory{Path: s.path("run", "test")}
}

// pid gives the daemon's process on record.
func (s *stage) pid() supervise.Process {
	s.t.Helper()
	p, err := s.runtime().Process()
	if err != nil {
		s.t.Fatal(err)
	}
	return p
}

// eventually polls until ok, for at most ten seconds.
func (s *stage) eventually(what string, ok func() bool) {
	s.t.Helper()
	deadline := time.Now().Add(10 * time.Second)
	for !ok() {
		if time.Now().After(deadline) {
			s.t.Fatalf("not in ten seconds: %s\ndiary:\n%s\nlog:\n%s", what, s.read("diary"), s.read("log"))
		}
		time.Sleep(5 * time.Millisecond)
	}
}

// age makes one of the instance's runtime files an hour old.
func (s *stage) age(name string) {
	s.t.Helper()
	then := time.Now().Add(-time.Hour)
	if err := os.Chtimes(filepath.Join(s.runtime().Path, name), then, then); err != nil {
		s.t.Fatal(err)
	}
}

// freeze stops a process, and returns when all of its threads stand still.
func (s *stage) freeze(pid int) {
	s.t.Helper()
	if err := syscall.Kill(pid, syscall.SIGSTOP); err != nil {
		s.t.Fatal(err)
	}
	s.eventually("the daemon stands still", func() bool {
		stats, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/stat", pid))
		if err != nil || len(stats) == 0 {
			return false
		}
		for _, path := range stats {
			b, err := os.ReadFile(path)
			if err != nil || !strings.Contains(string(b), ") T ") {
				return false
			}
		}
		return true
	})
}

// clear ends what a test has left.
func (s *stage) clear() {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	session := supervise.Session{Dir: s.runtime(), Log: discard()}
	if err := session.Stop(ctx, 0); err != nil {
		s.t.Errorf("clean up: %v", err)
	}
	if s.t.Failed() {
		s.t.Logf("log:\n%s", s.read("log"))
	}
}
