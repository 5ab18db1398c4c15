//go:build cluster

package acceptance

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"sipha/scripts/internal/lab"
)

const (
	// probe is an instance beside the lab's own.
	probe = "probe"
	// agentPath is where the resource agent is on every machine of the lab.
	agentPath = "/run/lab/bin/agent"
	startMax  = 40 * time.Second

	// Exit codes of the daemon (sysexits.h), and what the agent makes of them (OCF 1.1).
	exitData, exitUnavailable, exitIO, exitPermission, exitConfig = 65, 69, 74, 77, 78
	ocfGeneric, ocfArgs, ocfPermission, ocfInstalled, ocfNot      = 1, 2, 4, 5, 7
	// exitReasonMax is how much of an exit reason Pacemaker shows.
	exitReasonMax = 128
)

// probeConfig is a configuration that has nothing wrong with it. PROBE is the instance's directory.
const probeConfig = `[registrard]
domains = ["example.org"]
database = "PROBE/db"
[sip]
listen = ["udp:0.0.0.0:5070", "tcp:0.0.0.0:5070"]
[control]
directory = "PROBE/run"
dbus = false
[http]
listen = ""
`

// refusal is a start that cannot come to anything.
type refusal struct {
	name  string
	node  string                               // where; "": a node of the cluster
	as    string                               // user; "": root
	spoil func(t *testing.T, c stage, p place) // what is wrong
	// What the daemon and the agent exit with.
	daemon, agent int
	// What the daemon's last line must tell: what is wrong, and what to do.
	wrong, remedy string
}

// place is where a probe lives.
type place struct{ node, dir, config string }

// edit replaces text in the probe's configuration.
func (p place) edit(t *testing.T, old, text string) {
	raw, err := os.ReadFile(p.config)
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(raw), old) {
		t.Fatalf("%q is not in the configuration", old)
	}
	if err := os.WriteFile(p.config, []byte(strings.Replace(string(raw), old, text, 1)), 0o644); err != nil {
		t.Fatal(err)
	}
}

func refusals() []refusal {
	nothing := func(*testing.T, stage, place) {}
	return []refusal{
		{name: "WrongConfiguration", daemon: exitConfig, agent: ocfArgs, wrong: `unknown key "domians"`, remedy: `did you mean "domains"?`,
			spoil: func(t *testing.T, _ stage, p place) { p.edit(t, "domains", "domians") }},
		{name: "MissingConfiguration", daemon: exitConfig, agent: ocfArgs, wrong: "no configuration at", remedy: "write one",
			spoil: func(t *testing.T, _ stage, p place) {
				if err := os.Remove(p.config); err != nil {
					t.Fatal(err)
				}
			}},
		{name: "PortInUse", daemon: exitUnavailable, agent: ocfGeneric, wrong: "listen at udp:0.0.0.0:5060: address already in use", remedy: "choose another in [sip] listen",
			spoil: func(t *testing.T, _ stage, p place) { p.edit(t, "udp:0.0.0.0:5070", "udp:0.0.0.0:5060") }},
		{name: "TCPPortInUse", daemon: exitUnavailable, agent: ocfGeneric, wrong: "listen at tcp:0.0.0.0:5060: address already in use", remedy: "choose another in [sip] listen",
			spoil: func(t *testing.T, _ stage, p place) { p.edit(t, "tcp:0.0.0.0:5070", "tcp:0.0.0.0:5060") }},
		{name: "DatabaseFromTheFuture", daemon: exitData, agent: ocfInstalled, wrong: "the database is of a later version", remedy: "install the version of registrard that wrote it",
			spoil: func(t *testing.T, c stage, p place) {
				c.Exec(t, p.node, "mkdir", "-p", filepath.Join(p.dir, "db", probe))
				c.Exec(t, p.node, "sqlite3", filepath.Join(p.dir, "db", probe, "location.db"),
					"PRAGMA application_id=0x53495072; PRAGMA user_version=1000000; CREATE TABLE later (x);")
			}},
		{name: "FullDisk", daemon: exitIO, agent: ocfGeneric, wrong: "the disk is full", remedy: "free some space",
			spoil: func(t *testing.T, c stage, p place) {
				db := filepath.Join(p.dir, "db")
				c.Exec(t, p.node, "mkdir", "-p", db)
				c.Exec(t, p.node, "mount", "-t", "tmpfs", "-o", "size=32k", "full", db)
				t.Cleanup(func() {
					if _, err := c.Lab.Exec(context.Background(), p.node, "umount", db); err != nil {
						t.Error(err)
					}
				})
			}},
		{name: "NoCorosync", node: lab.Client, daemon: exitUnavailable, agent: ocfGeneric, wrong: "no connection to corosync", remedy: "start corosync", spoil: nothing},
		{name: "NoRights", as: "nobody", daemon: exitPermission, agent: ocfPermission, wrong: "access denied by corosync", remedy: "uidgid.d",
			spoil: func(t *testing.T, c stage, p place) { c.Exec(t, p.node, "chmod", "0777", filepath.Join(p.dir, "run")) }},
	}
}

// A daemon that cannot start says so in one line, with what is wrong and what to do, and the agent tells the cluster what kind of fault
// it is; afterwards nothing is left of it.
func TestStartRefused(t *testing.T) {
	c := enter(t)
	for _, r := range refusals() {
		t.Run(r.name, func(t *testing.T) {
			p := c.place(t, r)
			r.spoil(t, c, p)
			code, out := c.probe(t, p, r.as, "/usr/sbin/registrard", "run", "--config", p.config, "--instance", probe)
			lines := strings.Split(strings.TrimSpace(out), "\n")
			last := lines[len(lines)-1]
			if code != r.daemon || len(lines) != 1 || !strings.HasPrefix(last, "registrard: ") || !strings.Contains(last, r.wrong) || !strings.Contains(last, r.remedy) {
				t.Errorf("the daemon exits with %d, want %d with one line that tells %q and %q; it says:\n%s", code, r.daemon, r.wrong, r.remedy, out)
			}
			code, out = c.agent(t, p, r.as, "start")
			if reason := exitReason(out); code != r.agent || !strings.Contains(reason, r.wrong) && r.name != "MissingConfiguration" {
				t.Errorf("the agent's start exits with %d, want %d and a reason that tells %q; it says:\n%s", code, r.agent, r.wrong, out)
			}
			if code, out = c.agent(t, p, r.as, "monitor"); code != ocfNot {
				t.Errorf("monitor after it: %d, want %d; it says:\n%s", code, ocfNot, out)
			}
			if code, out = c.agent(t, p, r.as, "stop"); code != 0 {
				t.Errorf("stop after it: %d; it says:\n%s", code, out)
			}
		})
	}
	c.Await(t, failoverMax, (*lab.Status).Missing) // the cluster's own instance has not been disturbed
}

// The probe starts when nothing is wrong with it: the refusals above are for their reasons.
func TestStartAllowed(t *testing.T) {
	c := enter(t)
	p := c.place(t, refusal{})
	if code, out := c.agent(t, p, "", "start"); code != 0 {
		t.Errorf("start: %d:\n%s", code, out)
	}
	if code, out := c.agent(t, p, "", "monitor"); code != 0 && code != 190 { // OCF_DEGRADED: it waits for the other nodes
		t.Errorf("monitor: %d:\n%s", code, out)
	}
	if code, out := c.agent(t, p, "", "stop"); code != 0 {
		t.Errorf("stop: %d:\n%s", code, out)
	}
	if code, out := c.agent(t, p, "", "monitor"); code != ocfNot {
		t.Errorf("monitor after stop: %d:\n%s", code, out)
	}
}

// place prepares a probe.
func (c stage) place(t *testing.T, r refusal) place {
	t.Helper()
	p := place{node: r.node}
	if p.node == "" {
		p.node = c.nodes(t)[0]
	}
	// No longer than where a real one is, since it takes its share of an exit reason.
	var err error
	if p.dir, err = os.MkdirTemp("", "probe"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(p.dir); err != nil {
			t.Error(err)
		}
	})
	if err := os.Chmod(p.dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(filepath.Join(p.dir, "run"), 0o755); err != nil {
		t.Fatal(err)
	}
	p.config = filepath.Join(p.dir, "registrard.conf")
	if err := os.WriteFile(p.config, []byte(strings.ReplaceAll(probeConfig, "PROBE", p.dir)), 0o644); err != nil {
		t.Fatal(err)
	}
	return p
}

// agent runs the resource agent by hand, with what Pacemaker would set.
func (c stage) agent(t *testing.T, p place, as, action string) (int, string) {
	t.Helper()
	return c.probe(t, p, as, "env", "OCF_ROOT=/usr/lib/ocf", "OCF_RA_VERSION_MAJOR=1", "OCF_RA_VERSION_MINOR=1", "OCF_RESOURCE_TYPE=registrard",
		"OCF_RESOURCE_PROVIDER=sipha", "OCF_RESOURCE_INSTANCE="+probe, "OCF_RESKEY_CRM_meta_timeout=20000", "OCF_RESKEY_instance="+probe,
		"OCF_RESKEY_config="+p.config, "OCF_RESKEY_rundir="+filepath.Join(p.dir, "run"), "OCF_RESKEY_log="+filepath.Join(p.dir, "run", "log"),
		agentPath, action)
}

// probe runs a command as a user, and returns its exit code and what it wrote.
func (c stage) probe(t *testing.T, p place, as string, command ...string) (int, string) {
	t.Helper()
	if as != "" {
		command = append([]string{"setpriv", "--reuid", as, "--regid", "nogroup", "--clear-groups"}, command...)
	}
	ctx, cancel := context.WithTimeout(t.Context(), startMax)
	defer cancel()
	cmd, release, err := c.Command(ctx, p.node, command...)
	if err != nil {
		t.Fatal(err)
	}
	defer release()
	cmd.WaitDelay = time.Second // what the agent left running may hold its output open
	out, err := cmd.CombinedOutput()
	var exit *exec.ExitError
	switch {
	case err == nil, errors.Is(err, exec.ErrWaitDelay):
		return 0, string(out)
	case errors.As(err, &exit) && exit.Exited():
		return exit.ExitCode(), string(out)
	}
	t.Fatalf("%v: %v: %s", command, err, out)
	return 0, ""
}

// exitReason finds what Pacemaker would show of why an action has failed.
func exitReason(out string) string {
	for line := range strings.Lines(out) {
		if reason, ok := strings.CutPrefix(line, "ocf-exit-reason:"); ok {
			return reason[:min(len(reason), exitReasonMax)]
		}
	}
	return ""
}
