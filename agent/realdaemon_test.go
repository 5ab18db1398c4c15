//go:build integration

package main

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"sipha/ocf"
)

const nobody = 65534

// newRealStage is a node with the real daemon, standalone, so that it needs no Corosync.
func newRealStage(t *testing.T, daemon string) *stage {
	t.Helper()
	s := newStage(t)
	s.write("registrard.conf", "[registrard]\ndomains = [\"example.org\"]\n", 0o644)
	s.env["OCF_RESKEY_binary"] = daemon
	s.listen(freePort(t, "udp"))
	return s
}

// listen says where the daemon listens for SIP.
func (s *stage) listen(address string) {
	s.env["OCF_RESKEY_args"] = fmt.Sprintf("--standalone --database %s --sip-listen udp:%s --http-listen= --control-dbus=false", s.path("db"), address)
}

// settle lets a standalone daemon, which promotes itself a moment after its start, be done with that.
func (s *stage) settle() {
	s.t.Helper()
	s.eventually("the daemon has promoted itself", func() bool { return s.run("monitor").code == ocf.RunningPromoted })
	s.must("promote", ocf.Success)
}

func buildDaemon(t *testing.T) string {
	t.Helper()
	daemon := filepath.Join(t.TempDir(), "registrard")
	if out, err := exec.Command("go", "build", "-o", daemon, "../registrard").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return daemon
}

func TestRealDaemon(t *testing.T) {
	daemon := buildDaemon(t)
	s := newRealStage(t, daemon)
	s.must("validate-all", ocf.Success, "OCF_CHECK_LEVEL=10")
	s.must("monitor", ocf.NotRunning, probe)
	s.must("start", ocf.Success)
	s.settle()
	s.must("demote", ocf.Success)
	s.must("monitor", ocf.Success)
	s.must("monitor", ocf.Success, "OCF_CHECK_LEVEL=10")
	s.must("promote", ocf.Success)
	s.must("monitor", ocf.RunningPromoted)
	s.age("promoted")
	s.must("monitor", ocf.RunningPromoted, "OCF_CHECK_LEVEL=20")
	if s.score() != "1000" {
		t.Errorf("score %q", s.score())
	}
	s.must("reload", ocf.Success)
	if err := syscall.Kill(s.pid().PID, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	s.eventually("the score is deleted", func() bool { return s.score() == "" })
	s.must("monitor", ocf.FailedPromoted)
	s.must("demote", ocf.Success)
	s.must("stop", ocf.Success)
	s.must("start", ocf.Success)
	p := s.pid()
	s.must("stop", ocf.Success)
	if p.Alive() {
		t.Error("alive after stop")
	}
	s.must("monitor", ocf.NotRunning)
}

// TestRealStartFails has the daemon fail in every way that an operator can bring about, and looks at what the cluster is told.
func TestRealStartFails(t *testing.T) {
	daemon := buildDaemon(t)
	open(t, filepath.Dir(daemon))
	for _, tc := range []struct {
		name    string
		prepare func(t *testing.T, s *stage)
		want    ocf.ExitCode
		reason  string // must be in it
	}{
		{"wrong configuration", func(t *testing.T, s *stage) {
			s.write("registrard.conf", "[registrard]\ndomainz = [\"example.org\"]\n", 0o644)
		}, ocf.ErrArgs, "domainz"},
		{"no configuration", func(t *testing.T, s *stage) {
			s.env["OCF_RESKEY_config"] = s.path("none.conf")
		}, ocf.ErrArgs, "no configuration here"},
		{"unknown argument", func(t *testing.T, s *stage) { s.env["OCF_RESKEY_args"] += " --nonsense" }, ocf.ErrArgs, "nonsense"},
		{"port in use", func(t *testing.T, s *stage) {
			c, err := net.ListenPacket("udp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = c.Close() })
			s.listen(c.LocalAddr().String())
		}, ocf.ErrGeneric, "address already in use"},
		{"no corosync", func(t *testing.T, s *stage) {
			s.env["OCF_RESKEY_args"] = strings.Replace(s.env["OCF_RESKEY_args"], "--standalone", "", 1)
			s.wrap = []string{"unshare", "--net"} // Corosync's sockets belong to a network namespace
		}, ocf.ErrGeneric, "corosync"},
		{"database from the future", func(t *testing.T, s *stage) {
			s.must("start", ocf.Success)
			s.must("stop", ocf.Success)
			fromTheFuture(t, s.path("db"))
		}, ocf.ErrInstalled, ""},
		{"disk full", func(t *testing.T, s *stage) {
			s.wrap = []string{"unshare", "--mount", "--propagation", "private", "sh", "-c", `mkdir -p "$DB" && mount -t tmpfs -o size=8k tmpfs "$DB" && exec "$@"`, "sh"}
			s.env["DB"] = s.path("db")
		}, ocf.ErrGeneric, ""},
		{"no rights", func(t *testing.T, s *stage) {
			if err := errors.Join(os.Mkdir(s.path("db"), 0o700), os.Mkdir(s.path("run"), 0o777), os.Chmod(s.path("run"), 0o777)); err != nil {
				t.Fatal(err)
			}
			open(t, s.dir)
			if err := os.Chmod(s.dir, 0o777); err != nil { // the log, and the fake cluster's files
				t.Fatal(err)
			}
			s.wrap = []string{"setpriv", fmt.Sprintf("--reuid=%d", nobody), fmt.Sprintf("--regid=%d", nobody), "--clear-groups"}
		}, ocf.ErrPerm, ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if os.Geteuid() != 0 {
				t.Skip("takes root")
			}
			s := newRealStage(t, daemon)
			tc.prepare(t, s)
			r := s.must("start", tc.want)
			if !strings.Contains(r.reason, tc.reason) || r.reason == "" {
				t.Errorf("reason %q", r.reason)
			}
			t.Logf("%v: %s", r.code, r.reason)
			s.must("stop", ocf.Success)
		})
	}
}

// open lets everybody into a test's directory.
func open(t *testing.T, dir string) {
	t.Helper()
	for ; dir != os.TempDir() && dir != "/"; dir = filepath.Dir(dir) {
		if err := os.Chmod(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
}

// fromTheFuture gives every database below dir a schema version that nobody has yet (SQLite file format, offset 60: user version).
func fromTheFuture(t *testing.T, dir string) {
	t.Helper()
	found := 0
	err := filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		f, err := os.OpenFile(path, os.O_RDWR, 0)
		if err != nil {
			return err
		}
		defer f.Close()
		magic := make([]byte, 16)
		if _, err := f.ReadAt(magic, 0); err != nil || string(magic) != "SQLite format 3\x00" {
			return nil
		}
		found++
		_, err = f.WriteAt([]byte{0x7f, 0xff, 0xff, 0xff}, 60)
		return err
	})
	if err != nil || found == 0 {
		t.Fatalf("%d databases, %v", found, err)
	}
}
