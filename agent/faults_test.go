package main

import (
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"sipha/ocf"
	"sipha/registrard/control"
)

// TestPrimaryKilled is the main fault: the score goes at once, by the waiter; the monitor says 9; demote says 0.
func TestPrimaryKilled(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	s.must("start", ocf.Success)
	s.must("promote", ocf.Success)
	killed := time.Now()
	if err := syscall.Kill(s.pid().PID, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	s.eventually("the score is deleted", func() bool { return s.score() == "" })
	t.Logf("score deleted %v after the kill", time.Since(killed))
	if got := s.read("writes"); !strings.HasSuffix(got, "delete --promotion=registrard --node node1 --delete\n") {
		t.Errorf("writes: %q", got)
	}
	if r := s.must("monitor", ocf.FailedPromoted); r.reason != "the daemon was killed by signal 9" {
		t.Errorf("reason %q", r.reason)
	}
	s.must("demote", ocf.Success)
	if r := s.run("monitor"); s.runtime().DemotedDeadFor() < mercy && r.code != ocf.Success {
		t.Errorf("%v just after the demotion, in the middle of the promotion elsewhere", r.code)
	}
	s.must("monitor", ocf.ErrGeneric, probe) // a probe asks what is there
	s.age("demoted")
	s.must("monitor", ocf.ErrGeneric) // dead, and a replica now
	s.must("stop", ocf.Success)
	s.must("start", ocf.Success)
	s.must("monitor", ocf.Success)
}

func TestReplicaKilled(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	s.must("start", ocf.Success)
	if err := syscall.Kill(s.pid().PID, syscall.SIGSEGV); err != nil {
		t.Fatal(err)
	}
	s.eventually("the score is deleted", func() bool { return s.score() == "" })
	s.must("monitor", ocf.ErrGeneric)
	s.must("promote", ocf.ErrGeneric)
	s.must("reload", ocf.ErrGeneric)
	s.must("start", ocf.Success) // also without a stop before it
	s.must("monitor", ocf.Success)
}

// TestWipedAfterPromotion: a score that is not there is put back at once, also just after a promotion.
func TestWipedAfterPromotion(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	s.must("start", ocf.Success)
	s.must("promote", ocf.Success)
	if err := os.Remove(s.path("score")); err != nil {
		t.Fatal(err)
	}
	s.must("monitor", ocf.RunningPromoted)
	if s.score() != "100" {
		t.Errorf("score %q", s.score())
	}
}

// TestStartSettles: an instance that catches up at once gets one score, not two.
func TestStartSettles(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	behind := synced()
	ten := control.ScoreBehind
	behind.State, behind.Score = control.StateBehind, &ten
	s.play(script{Status: behind})
	go func() {
		s.eventually("the daemon runs", func() bool { return strings.Contains(s.read("diary"), "running") })
		s.play(script{Status: synced()})
	}()
	s.must("start", ocf.Success)
	if s.score() != "100" || s.writes() != 1 {
		t.Errorf("score %q after %d writes", s.score(), s.writes())
	}
}

// TestEndedByItself: 7 is for what has ended properly.
func TestEndedByItself(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	s.must("start", ocf.Success)
	s.must("promote", ocf.Success)
	if err := syscall.Kill(s.pid().PID, syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	s.eventually("the score is deleted", func() bool { return s.score() == "" })
	s.must("monitor", ocf.NotRunning)
}

// TestWaiterKilled: a monitor starts a new waiter, and that one does the same.
func TestWaiterKilled(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	s.must("start", ocf.Success)
	s.must("promote", ocf.Success)
	w, err := s.runtime().Waiter()
	if err != nil {
		t.Fatal(err)
	}
	if err := syscall.Kill(w.PID, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	s.eventually("the waiter is gone", func() bool { return !w.Alive() })
	s.must("monitor", ocf.RunningPromoted)
	if err := syscall.Kill(s.pid().PID, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	s.eventually("the score is deleted", func() bool { return s.score() == "" })
	s.must("monitor", ocf.FailedPromoted)
}

// TestFrozenPrimary stops the daemon in its tracks: the score must be gone when the monitor says 9, and demote ends it.
func TestFrozenPrimary(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	s.must("start", ocf.Success)
	s.must("promote", ocf.Success)
	p := s.pid()
	s.freeze(p.PID)
	r := s.must("monitor", ocf.FailedPromoted, "OCF_RESKEY_CRM_meta_timeout=8000")
	if !strings.HasPrefix(r.reason, "the daemon does not answer: ") || s.score() != "" {
		t.Errorf("reason %q, score %q", r.reason, s.score())
	}
	s.must("demote", ocf.Success, "OCF_RESKEY_CRM_meta_timeout=8000")
	if p.Alive() {
		t.Error("alive after demote")
	}
	s.age("demoted")
	s.must("monitor", ocf.ErrGeneric)
}

func TestFrozenReplica(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	s.must("start", ocf.Success)
	p := s.pid()
	s.freeze(p.PID)
	s.must("monitor", ocf.ErrGeneric, "OCF_RESKEY_CRM_meta_timeout=8000")
	s.must("stop", ocf.Success, "OCF_RESKEY_CRM_meta_timeout=8000")
	if p.Alive() {
		t.Error("alive after stop")
	}
}

func TestStopOfADeafDaemon(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	s.play(script{Status: synced(), Deaf: true})
	s.must("start", ocf.Success)
	p := s.pid()
	r := s.must("stop", ocf.Success, "OCF_RESKEY_CRM_meta_timeout=8000")
	if p.Alive() {
		t.Error("alive after stop")
	}
	if due := 7 * time.Second * killAfterPercent / 100; r.took < due {
		t.Errorf("killed after %v; it had %v", r.took, due)
	}
}

func TestDemoteOfAStubbornPrimary(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	s.play(script{Status: synced(), Stubborn: true})
	s.must("start", ocf.Success)
	s.must("promote", ocf.Success)
	p := s.pid()
	s.must("demote", ocf.Success, "OCF_RESKEY_CRM_meta_timeout=8000")
	if p.Alive() {
		t.Error("a primary that does not step down is alive after demote")
	}
}

// TestGone is what systemd runs once the daemon has ended (ExecStopPost=): it deletes the score, unless the end was wanted.
func TestGone(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	s.must("start", ocf.Success)
	gone := func() { s.must("gone", ocf.Success) }
	s.arguments = []string{"--directory", s.runtime().Path}
	if err := s.runtime().SetStopping(true); err != nil {
		t.Fatal(err)
	}
	gone()
	if s.score() != "100" {
		t.Errorf("score %q, though the end was wanted", s.score())
	}
	if err := s.runtime().SetStopping(false); err != nil {
		t.Fatal(err)
	}
	gone()
	if s.score() != "" {
		t.Errorf("score %q", s.score())
	}
}
