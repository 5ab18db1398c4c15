//go:build integration

package sip

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"sipha/registrard/location"
)

// sippTimeout bounds one scenario.
const sippTimeout = 30 * time.Second

// TestSIPp runs the scenarios of testdata/sipp, each over UDP and over TCP with a user of its own, against a server with a registrar in memory.
func TestSIPp(t *testing.T) {
	sipp, err := exec.LookPath("sipp")
	if err != nil {
		t.Skip("sipp is not installed (package sip-tester)")
	}
	scenarios, err := filepath.Glob("testdata/sipp/*.xml")
	if err != nil || len(scenarios) == 0 {
		t.Fatalf("no scenarios: %v", err)
	}
	s := startServer(t, func(cfg *Config, m *memoryRegistrar) {
		cfg.Trusted = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}
		cfg.Algorithms = []location.Algorithm{location.MD5} // all that this SIPp knows
		m.policy.ContactsMax = 5
	})
	for i, scenario := range scenarios {
		name := strings.TrimSuffix(filepath.Base(scenario), ".xml")
		for mode, to := range map[string]netip.AddrPort{"u1": s.udp, "t1": s.tcp} {
			user := fmt.Sprintf("sipp%d%s", i, mode)
			addUserWithPassword(t, s.registrar, user, "secret")
			t.Run(name+"/"+mode, func(t *testing.T) {
				runSIPp(t, sipp, scenario, mode, user, to)
			})
		}
	}
}

func runSIPp(t *testing.T, sipp, scenario, mode, user string, to netip.AddrPort) {
	t.Helper()
	path, err := filepath.Abs(scenario)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), sippTimeout)
	defer cancel()
	dir := t.TempDir()
	cmd := exec.CommandContext(ctx, sipp, to.String(), "-sf", path, "-t", mode, "-s", user, "-au", user, "-ap", "secret", "-auth_uri", "example.org", "-i", "127.0.0.1",
		"-m", "1", "-nostdin", "-timeout", "20s", "-timeout_error", "-trace_err", "-trace_msg",
		"-error_file", filepath.Join(dir, "errors"), "-message_file", filepath.Join(dir, "messages"))
	cmd.Dir = dir
	if out, err := cmd.CombinedOutput(); err != nil {
		for _, name := range []string{"errors", "messages"} {
			text, _ := os.ReadFile(filepath.Join(dir, name)) // it may not have been written
			t.Logf("%s:\n%s", name, text)
		}
		t.Fatalf("sipp: %v\n%s", err, out)
	}
}
