//go:build integration

package main

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"

	"sipha/ocf"
)

const busConfig = `<!DOCTYPE busconfig PUBLIC "-//freedesktop//DTD D-Bus Bus Configuration 1.0//EN"
 "http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd">
<busconfig>
  <type>system</type>
  <listen>unix:path=%s</listen>
  <policy context="default"><allow user="*"/><allow own="*"/><allow send_type="method_call"/><allow send_type="signal"/>
    <allow send_requested_reply="true" send_type="method_return"/><allow send_requested_reply="true" send_type="error"/>
    <allow receive_type="method_call"/><allow receive_type="method_return"/><allow receive_type="error"/><allow receive_type="signal"/></policy>
</busconfig>
`

// TestRealBus takes the control socket away, so that the answers must come over the bus; then the bus, so that they must come over the
// socket; and then both.
func TestRealBus(t *testing.T) {
	if _, err := exec.LookPath("dbus-daemon"); err != nil {
		t.Skip("dbus-daemon is not installed")
	}
	s := newRealStage(t, buildDaemon(t))
	s.env["OCF_RESKEY_args"] = strings.Replace(s.env["OCF_RESKEY_args"], "--control-dbus=false", "--control-dbus=true", 1)
	s.env["DBUS_SYSTEM_BUS_ADDRESS"] = "unix:path=" + s.path("bus")
	bus := startBus(t, s)
	s.must("start", ocf.Success)
	s.settle()

	socket, aside := s.path("run", "test", "control.sock"), s.path("run", "test", "aside")
	if err := os.Rename(socket, aside); err != nil {
		t.Fatal(err)
	}
	s.must("monitor", ocf.RunningPromoted, "OCF_CHECK_LEVEL=10")
	s.must("demote", ocf.Success)
	s.must("monitor", ocf.Success)
	s.must("promote", ocf.Success)
	s.must("reload", ocf.Success)
	if err := os.Rename(aside, socket); err != nil {
		t.Fatal(err)
	}

	if err := bus.Process.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	if r := s.must("monitor", ocf.DegradedPromoted); !strings.Contains(r.reason, "D-Bus: ") {
		t.Errorf("reason %q", r.reason)
	}
	s.must("demote", ocf.Success)
	s.must("promote", ocf.Success)
	if err := os.Remove(socket); err != nil {
		t.Fatal(err)
	}
	s.must("monitor", ocf.FailedPromoted) // it runs, and nobody can reach it
	s.must("demote", ocf.Success)
	s.must("stop", ocf.Success)
}

// startBus starts a system bus of the test's own.
func startBus(t *testing.T, s *stage) *exec.Cmd {
	t.Helper()
	s.write("bus.conf", fmt.Sprintf(busConfig, s.path("bus")), 0o644)
	bus := exec.Command("dbus-daemon", "--nofork", "--nosyslog", "--print-address", "--config-file="+s.path("bus.conf"))
	out, err := bus.StdoutPipe()
	if err == nil {
		err = bus.Start()
	}
	if err == nil {
		_, err = bufio.NewReader(out).ReadString('\n') // it listens once it prints its address
	}
	if err != nil {
		t.Fatalf("dbus-daemon: %v", err)
	}
	t.Cleanup(func() {
		_ = bus.Process.Kill()
		_ = bus.Wait() // "signal: killed"
	})
	return bus
}
