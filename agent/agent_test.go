package main

import (
	"fmt"
	"log/slog"
	"net"
	"os"
	"strings"
	"testing"

	"sipha/ocf"
	"sipha/registrard/control"
)

const probe = "OCF_RESKEY_CRM_meta_interval=0"

func discard() *slog.Logger { return slog.New(slog.DiscardHandler) }

func TestLife(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	s.must("monitor", ocf.NotRunning, probe)
	if s.writes() != 0 {
		t.Error("a probe of nothing wrote a score")
	}
	s.must("start", ocf.Success)
	if got := s.read("diary"); !strings.HasPrefix(got, "args run --config "+s.path("registrard.conf")+" --instance test --control-directory "+
		s.path("run")+" --expected-nodes 3\n") {
		t.Errorf("started with %q", got)
	}
	if s.score() != "100" {
		t.Errorf("score after start: %q", s.score())
	}
	s.must("monitor", ocf.Success)
	s.must("start", ocf.Success) // again
	s.must("promote", ocf.Success)
	s.must("promote", ocf.Success) // again
	if s.writes() != 1 {
		t.Errorf("promote touched the score: %q", s.read("writes"))
	}
	s.change(func(d *script) { n := control.ScorePromoted; d.Status.Score = &n })
	s.age("promoted")
	s.must("monitor", ocf.RunningPromoted)
	s.must("monitor", ocf.RunningPromoted)
	if s.score() != "1000" || s.writes() != 2 {
		t.Errorf("score %q after %d writes: %q", s.score(), s.writes(), s.read("writes"))
	}
	s.must("notify", ocf.Success)
	s.must("reload", ocf.Success)
	s.must("reload-agent", ocf.Success)
	s.must("demote", ocf.Success)
	s.must("demote", ocf.Success) // again
	s.must("monitor", ocf.Success)
	p := s.pid()
	s.must("stop", ocf.Success)
	if p.Alive() || s.score() != "" {
		t.Errorf("after stop: alive %v, score %q", p.Alive(), s.score())
	}
	s.must("stop", ocf.Success) // again
	s.must("monitor", ocf.NotRunning, probe)
	s.must("monitor", ocf.NotRunning)
	s.must("demote", ocf.Success) // of nothing
	s.must("promote", ocf.NotRunning)
	s.must("reload", ocf.NotRunning)
}

// TestStartEnvironment: the daemon must not speak to Pacemaker's unit, nor know of Pacemaker.
func TestStartEnvironment(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	s.must("start", ocf.Success)
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/environ", s.pid().PID))
	if err != nil {
		t.Fatal(err)
	}
	if env := string(b); strings.Contains(env, "OCF_") || strings.Contains(env, "NOTIFY_SOCKET") || !strings.Contains(env, "PATH=") {
		t.Errorf("environment: %q", env)
	}
}

// TestStartFails maps every way in which the daemon may end to what the cluster is told.
func TestStartFails(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		exit   int
		words  string
		want   ocf.ExitCode
		reason string
	}{
		{64, "unknown flag --expected-nodes", ocf.ErrArgs, "unknown flag --expected-nodes (exit code 64)"},
		{65, "database is of schema 9, this is 3: upgrade registrard", ocf.ErrInstalled, "database is of schema 9, this is 3: upgrade registrard (exit code 65)"},
		{69, "no corosync: start it first", ocf.ErrGeneric, "no corosync: start it first (exit code 69)"},
		{70, "bug", ocf.ErrGeneric, "bug (exit code 70)"},
		{73, "disk full", ocf.ErrGeneric, "disk full (exit code 73)"},
		{74, "disk broken", ocf.ErrGeneric, "disk broken (exit code 74)"},
		{77, "no rights on /var/lib/registrard", ocf.ErrPerm, "no rights on /var/lib/registrard (exit code 77)"},
		{78, "/etc/x.conf:3: unknown key", ocf.ErrArgs, "/etc/x.conf:3: unknown key (exit code 78)"},
		{2, "panic", ocf.ErrGeneric, "panic (exit code 2)"},
		{1, "odd", ocf.ErrGeneric, "odd (exit code 1)"},
	} {
		t.Run(fmt.Sprint(tc.exit), func(t *testing.T) {
			t.Parallel()
			s := newStage(t)
			s.play(script{Exit: tc.exit, Words: tc.words})
			r := s.must("start", tc.want)
			if r.reason != tc.reason {
				t.Errorf("reason %q, want %q", r.reason, tc.reason)
			}
			s.must("monitor", ocf.NotRunning) // cleared away
			s.must("stop", ocf.Success)
		})
	}
}

func TestStartOnThisNode(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name, set string
		want      ocf.ExitCode
		reason    string
	}{
		{"no binary", "OCF_RESKEY_binary=/nonexistent", ocf.ErrInstalled, "daemon is not installed here: stat /nonexistent: no such file or directory"},
		{"binary is a directory", "OCF_RESKEY_binary=/tmp", ocf.ErrInstalled, "daemon is not installed here: /tmp is not an executable file"},
		{"no configuration", "OCF_RESKEY_config=/nonexistent", ocf.ErrArgs, "no configuration here: open /nonexistent: no such file or directory"},
		{"bad instance", "OCF_RESKEY_instance=a/b", ocf.ErrConfigured, `parameter instance "a/b": must be letters, digits, '_' and '-', and begin with a letter or '_'`},
		{"relative configuration", "OCF_RESKEY_config=x.conf", ocf.ErrConfigured, `parameter config: "x.conf" must be an absolute path`},
		{"relative runtime directory", "OCF_RESKEY_rundir=run", ocf.ErrConfigured, `parameter rundir: "run" must be an absolute path`},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			s := newStage(t)
			if r := s.must("start", tc.want, tc.set); r.reason != tc.reason {
				t.Errorf("reason %q, want %q", r.reason, tc.reason)
			}
			level10 := tc.want
			if tc.want == ocf.ErrConfigured {
				s.must("validate-all", ocf.ErrConfigured, tc.set)
			} else {
				s.must("validate-all", ocf.Success, tc.set) // level 0 does not look at this node
			}
			s.must("validate-all", level10, tc.set, "OCF_CHECK_LEVEL=10")
			s.must("monitor", ocf.NotRunning, tc.set, probe)
			s.must("monitor", ocf.NotRunning, tc.set)
			s.must("demote", ocf.Success, tc.set)
			s.must("stop", ocf.Success, tc.set) // never needs valid parameters
		})
	}
}

// TestValidateConfiguration lets the daemon itself look at its configuration.
func TestValidateConfiguration(t *testing.T) {
	t.Parallel()
	const level10 = "OCF_CHECK_LEVEL=10"
	s := newStage(t)
	s.must("validate-all", ocf.Success, level10)
	if got, want := s.read("diary"), "args config --config "+s.path("registrard.conf")+" --instance test"; !strings.HasPrefix(got, want) {
		t.Errorf("asked with %q", got)
	}
	s.play(script{Exit: 78, Words: "registrard.conf:3: unknown key"})
	if r := s.must("validate-all", ocf.ErrArgs, level10); r.reason != "registrard.conf:3: unknown key (exit code 78)" {
		t.Errorf("reason %q", r.reason)
	}
	s.must("validate-all", ocf.Success) // level 0 does not look
	s.play(script{Hangs: true})
	s.must("validate-all", ocf.ErrGeneric, level10, "OCF_RESKEY_CRM_meta_timeout=3000")
}

// TestStopWithBrokenParameters stops a running daemon though its configuration and binary are gone.
func TestStopWithBrokenParameters(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	s.must("start", ocf.Success)
	p := s.pid()
	s.must("stop", ocf.Success, "OCF_RESKEY_binary=/nonexistent", "OCF_RESKEY_config=nonsense")
	if p.Alive() {
		t.Error("alive after stop")
	}
}

func TestStartNotReady(t *testing.T) {
	t.Parallel()
	const short = "OCF_RESKEY_CRM_meta_timeout=8000"
	for _, tc := range []struct {
		name   string
		play   script
		reason string
	}{
		{"never joins", script{Status: control.Status{State: control.StateJoining, Progress: "waiting for node2"}}, "start: not in its group in time: joining waiting for node2"},
		{"no corosync", script{Status: control.Status{State: control.StateDisconnected, LastError: "cpg: CS_ERR_LIBRARY"}}, "start: no connection to Corosync in time; cpg: CS_ERR_LIBRARY"},
		{"failed", script{Status: control.Status{State: control.StateFailed, LastError: "disk full"}}, "start: the daemon has failed: disk full"},
		{"no socket", script{Socket: "none"}, "start: the daemon does not answer: no control socket at"},
		{"silent", script{Socket: "silent"}, "start: the daemon does not answer: "},
		{"garbage", script{Socket: "garbage"}, "start: the daemon does not answer: "},
		{"hangs up", script{Socket: "closes"}, "start: the daemon does not answer: "},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			s := newStage(t)
			s.play(tc.play)
			r := s.must("start", ocf.ErrGeneric, short)
			if !strings.HasPrefix(r.reason, tc.reason) {
				t.Errorf("reason %q, want %q", r.reason, tc.reason)
			}
			if p := s.pid(); p.Alive() {
				t.Error("what did not start is still there")
			}
			if s.score() != "" {
				t.Errorf("score %q", s.score())
			}
		})
	}
}

// TestStartStillSyncing: joined is enough; the score comes when it is synced.
func TestStartStillSyncing(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	s.play(script{Status: control.Status{State: control.StateSyncing, Progress: "syncing 41 %", Quorate: true}})
	s.must("start", ocf.Success)
	s.must("monitor", ocf.Success)
	if s.score() != "" {
		t.Errorf("score %q while syncing", s.score())
	}
	s.play(script{Status: synced()})
	s.must("monitor", ocf.Success)
	if s.score() != "100" {
		t.Errorf("score %q once synced", s.score())
	}
}

// TestScorePutBack is what a wiped score comes to: the next monitor, or probe, writes it again.
func TestScorePutBack(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	s.must("start", ocf.Success)
	for _, more := range []string{probe, "OCF_RESKEY_CRM_meta_interval=5000"} {
		if err := os.Remove(s.path("score")); err != nil {
			t.Fatal(err)
		}
		s.must("monitor", ocf.Success, more)
		if s.score() != "100" {
			t.Errorf("%s: score %q", more, s.score())
		}
	}
}

// TestClusterDown: a cluster that does not take a score is no failure of the resource.
func TestClusterDown(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	s.write("cluster-down", "", 0o600)
	s.must("start", ocf.Success)
	s.must("monitor", ocf.Success)
	s.must("stop", ocf.Success)
}

func TestStartOfARunningPrimary(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	s.must("start", ocf.Success)
	s.must("promote", ocf.Success)
	s.must("start", ocf.Success) // must end as a replica
	s.must("monitor", ocf.Success)
}

func TestPromoteFails(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name, reason string
		play         script
		score        string // afterwards
		promoted     bool   // what a later crash counts as
	}{
		{"newer peer", "promote: refused by the script", script{Refuses: control.CodeNewerPeer}, "", false},
		{"not synced", "promote: refused by the script", script{Refuses: control.CodeNotSynced}, "", false},
		{"not quorate", "promote: refused by the script", script{Refuses: control.CodeNotQuorate}, "100", false},
		{"hangs", "promote: not done in time", script{Hangs: true}, "100", true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			s := newStage(t)
			s.must("start", ocf.Success)
			tc.play.Status = synced()
			s.play(tc.play)
			r := s.must("promote", ocf.ErrGeneric, "OCF_RESKEY_CRM_meta_timeout=8000")
			if !strings.HasPrefix(r.reason, tc.reason) || s.score() != tc.score {
				t.Errorf("reason %q, score %q", r.reason, s.score())
			}
			if got := s.runtime().Promoted(); got != tc.promoted {
				t.Errorf("remembered as promoted: %v", got)
			}
			s.must("demote", ocf.Success)
			s.must("stop", ocf.Success)
		})
	}
	t.Run("dies", func(t *testing.T) {
		t.Parallel()
		s := newStage(t)
		s.play(script{Status: synced(), Dies: true})
		s.must("start", ocf.Success)
		s.must("promote", ocf.ErrGeneric)
		s.must("monitor", ocf.FailedPromoted)
		s.must("demote", ocf.Success)
	})
}

func TestReloadFails(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	s.must("start", ocf.Success)
	s.play(script{Status: synced(), Reload: control.CodeInvalid})
	if r := s.must("reload-agent", ocf.ErrGeneric); r.reason != "reload: unknown key sip.lissen in line 3" {
		t.Errorf("reason %q", r.reason)
	}
	s.must("monitor", ocf.Success)
}

// TestTakeOver meets a daemon that somebody has started by hand.
func TestTakeOver(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	s.must("start", ocf.Success)
	if err := s.runtime().Clear(); err != nil { // as if it had been started by hand
		t.Fatal(err)
	}
	s.must("monitor", ocf.Success, probe)
	p := s.pid()
	if !p.Alive() {
		t.Fatal("not taken over")
	}
	s.must("start", ocf.Success)
	s.must("stop", ocf.Success)
	if p.Alive() {
		t.Error("alive after stop")
	}
}

func TestDeposed(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	s.must("start", ocf.Success)
	s.must("promote", ocf.Success)
	s.change(func(d *script) { d.Status.Role = control.RoleReplica })
	s.must("monitor", ocf.FailedPromoted)
	if s.score() != "" {
		t.Errorf("score %q", s.score())
	}
	s.must("monitor", ocf.Success, probe) // a probe asks what is there
	s.must("monitor", ocf.Success)
}

func TestMonitorListeners(t *testing.T) {
	t.Parallel()
	const level10 = "OCF_CHECK_LEVEL=10"
	udp, tcp, dead := freePort(t, "udp"), freePort(t, "tcp"), freePort(t, "tcp")
	s := newStage(t)
	s.play(script{Status: synced(), Listen: []string{"udp:" + udp, "tcp:" + tcp, "udp:192.0.2.77:5060"}, Answer: true})
	s.must("start", ocf.Success)
	s.must("monitor", ocf.Success, level10)
	s.must("monitor", ocf.Success, "OCF_CHECK_LEVEL=15")
	s.must("promote", ocf.Success)
	s.must("monitor", ocf.RunningPromoted, level10)
	s.change(func(d *script) { d.Listen = append(d.Listen, "tcp:"+dead) })
	if r := s.must("monitor", ocf.DegradedPromoted, level10); !strings.HasPrefix(r.reason, "tcp:"+dead+": no answer to OPTIONS") {
		t.Errorf("reason %q", r.reason)
	}
	s.must("monitor", ocf.RunningPromoted) // level 0 does not ask
	s.change(func(d *script) { d.Listen = []string{"tcp:" + dead, "udp:" + dead} })
	if r := s.must("monitor", ocf.FailedPromoted, level10); s.score() != "" || !strings.HasPrefix(r.reason, "no SIP listener answers: ") {
		t.Errorf("reason %q, score %q", r.reason, s.score())
	}
	s.must("demote", ocf.Success)
	s.must("monitor", ocf.ErrGeneric, level10)
}

// freePort gives an address of loopback that nobody listens on at the moment.
func freePort(t *testing.T, network string) string {
	t.Helper()
	if network == "udp" {
		c, err := net.ListenPacket("udp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		return c.LocalAddr().String()
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

func TestMonitorCommits(t *testing.T) {
	t.Parallel()
	const level20 = "OCF_CHECK_LEVEL=20"
	s := newStage(t)
	s.must("start", ocf.Success)
	s.must("monitor", ocf.Success, level20)
	s.change(func(d *script) { d.Status.Index = 9 })
	s.must("monitor", ocf.Degraded, level20)
	s.must("promote", ocf.Success)
	if r := s.must("monitor", ocf.FailedPromoted, level20); r.reason != "no commit: entry 7 of 9 after 5s" {
		t.Errorf("reason %q", r.reason)
	}
}

// TestDeadBus has a bus address where nobody listens, and one that takes connections and says nothing: the socket answers in both cases.
func TestDeadBus(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name                 string
		hangs                bool
		unpromoted, promoted ocf.ExitCode
	}{
		{"dead", false, ocf.Success, ocf.RunningPromoted},
		{"hangs", true, ocf.Degraded, ocf.DegradedPromoted},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			s := newStage(t)
			s.env["DBUS_SYSTEM_BUS_ADDRESS"] = "unix:path=" + s.path("bus")
			if tc.hangs {
				l, err := net.Listen("unix", s.path("bus")) // the kernel takes connections, and nobody ever answers
				if err != nil {
					t.Fatal(err)
				}
				t.Cleanup(func() { _ = l.Close() })
			}
			s.must("start", ocf.Success)
			if r := s.must("monitor", tc.unpromoted); tc.hangs != strings.HasPrefix(r.reason, "D-Bus: ") {
				t.Errorf("reason %q", r.reason)
			}
			s.must("promote", ocf.Success)
			s.must("monitor", tc.promoted)
			s.must("demote", ocf.Success)
			s.must("stop", ocf.Success)
		})
	}
}

func TestCommandLine(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	if r := s.must("meta-data", ocf.Success); !strings.Contains(r.stdout, `<resource-agent name="registrard"`) {
		t.Errorf("%s", r.stdout)
	}
	for _, action := range []string{"migrate_to", "status", "recover", "x"} {
		s.must(action, ocf.ErrUnimplemented)
	}
	s.must("--nonsense", ocf.ErrArgs)
	if r := s.must("--help", ocf.Success); !strings.Contains(r.stdout, "promote") || strings.Contains(r.stdout, "attach") {
		t.Errorf("%s", r.stdout)
	}
	s.must("validate-all", ocf.Success)
}
