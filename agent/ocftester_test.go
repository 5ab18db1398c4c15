//go:build integration

package main

import (
	"os"
	"os/exec"
	"strings"
	"testing"
)

// TestOCFTester lets ocf-tester of resource-agents go through the agent, with a fake daemon and a fake cluster.
func TestOCFTester(t *testing.T) {
	tester, err := exec.LookPath("ocf-tester")
	if err != nil {
		t.Skip("ocf-tester is not installed (package resource-agents-dev)")
	}
	if os.Geteuid() != 0 {
		t.Skip("ocf-tester runs meta-data as nobody, which takes root")
	}
	s := newStage(t)
	open(t, s.dir) // nobody must be able to run the agent
	agent := s.path("bin", "registrard")
	if out, err := exec.Command("go", "build", "-o", agent, ".").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	args := []string{"-v", "-n", "registrard"}
	for name, value := range s.env {
		if param, ok := strings.CutPrefix(name, "OCF_RESKEY_"); ok && !strings.HasPrefix(param, "CRM_meta") {
			args = append(args, "-o", param+"="+value)
		}
	}
	cmd := exec.Command(tester, append(args, agent)...)
	cmd.Env = append(os.Environ(), "PATH="+s.env["PATH"], "FAKE_DIR="+s.dir, "DBUS_SYSTEM_BUS_ADDRESS=")
	out, err := cmd.CombinedOutput()
	if err != nil || !strings.Contains(string(out), "passed all tests") {
		t.Fatalf("%v\n%s", err, out)
	}
	t.Logf("%s", out)
}
