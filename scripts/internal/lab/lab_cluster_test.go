//go:build cluster

package lab_test

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

	"sipha/scripts/internal/lab"
	"sipha/scripts/internal/labtest"
)

// leftoversMax is how long what a killed up has started may take to end.
const leftoversMax = 2 * time.Second

func TestMain(m *testing.M) {
	os.Exit(labtest.Run(m, labtest.Options{Bare: true}))
}

// A power cut loses what was not synced, and keeps what was: on the node's own disk and
// in its configuration.
func TestPowerCutKeepsWhatWasSynced(t *testing.T) {
	c := labtest.Whole(t)
	const node = "node2"
	c.Exec(t, node, "sh", "-c", "echo synced >/var/lib/registrard/synced && sync /var/lib/registrard/synced /var/lib/registrard")
	c.Exec(t, node, "sh", "-c", "mkdir -p /etc/registrard && echo synced >/etc/registrard/synced && sync /etc/registrard/synced /etc/registrard")
	c.Exec(t, node, "sh", "-c", "echo lost >/var/lib/registrard/lost; echo more >>/var/lib/registrard/synced")
	c.PowerOff(t, node)
	c.Await(t, 20*time.Second, func(s *lab.Status) string {
		if s.Node(node).Pacemaker != "offline" {
			return "the loss has not been noticed"
		}
		return ""
	})
	c.PowerOn(t, node)
	c.Await(t, time.Minute, (*lab.Status).Missing)
	if got := c.Exec(t, node, "cat", "/var/lib/registrard/synced", "/etc/registrard/synced"); got != "synced\nsynced\n" {
		t.Errorf("after the power cut: %q", got)
	}
	if got := c.Exec(t, node, "ls", "/var/lib/registrard"); strings.Contains(got, "lost") {
		t.Errorf("a file that was never synced survived: %q", got)
	}
}

// Nothing that a dying process does is seen outside: a TCP peer gets no FIN and no RST.
func TestPowerCutIsSilent(t *testing.T) {
	c := labtest.Whole(t)
	const node = "node3"
	listener := fmt.Sprintf(`import socket
s = socket.create_server((%q, 7000)); print("ready", flush=True)
c, _ = s.accept(); c.recv(1); s.recv(1)`, lab.Addr(node))
	cmd, release, err := c.Command(t.Context(), node, "python3", "-c", listener)
	if err != nil {
		t.Fatal(err)
	}
	defer release()
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	release()
	if _, err := out.Read(make([]byte, 16)); err != nil {
		t.Fatal(err)
	}
	conn, err := c.DialTCP(lab.Client, netip.AddrPortFrom(lab.Addr(node), 7000))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	c.PowerOff(t, node)
	if err := conn.SetReadDeadline(time.Now().Add(2 * time.Second)); err != nil {
		t.Fatal(err)
	}
	if _, err := conn.Read(make([]byte, 1)); !os.IsTimeout(err) {
		t.Errorf("read from a node without power: %v, want a timeout", err)
	}
	if err := cmd.Wait(); err == nil {
		t.Error("the command in the node outlived its power")
	}
}

func TestFailover(t *testing.T) {
	for _, tc := range []struct {
		name  string
		fault func(t *testing.T, c *labtest.Cluster, primary string)
		role  string // of the old primary, in the end
	}{
		{"PowerOff", func(t *testing.T, c *labtest.Cluster, p string) { c.PowerOff(t, p) }, "off"},
		{"Cut", func(t *testing.T, c *labtest.Cluster, p string) { c.Cut(t, p) }, "off"},
		{"OneWayIn", func(t *testing.T, c *labtest.Cluster, p string) { c.Link(t, p, lab.Faults{OneWay: lab.In}) }, "off"},
		{"OneWayOut", func(t *testing.T, c *labtest.Cluster, p string) { c.Link(t, p, lab.Faults{OneWay: lab.Out}) }, "off"},
		{"CorosyncKilled", func(t *testing.T, c *labtest.Cluster, p string) { c.Exec(t, p, "pkill", "-KILL", "-x", "corosync") }, "off"},
		{"Move", func(t *testing.T, c *labtest.Cluster, p string) {
			c.Exec(t, p, "crm_resource", "--ban", "--promoted", "-r", "cl_registrar", "-N", p)
		}, "replica"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			c := labtest.Whole(t)
			was := c.Primary(t)
			start := time.Now()
			tc.fault(t, c, was)
			c.Await(t, 20*time.Second, func(s *lab.Status) string {
				switch p := s.Primary(); {
				case p == "" || p == was:
					return "no new primary"
				case s.VIPNode != p:
					return "the virtual address has not followed"
				case s.Node(was).Role != tc.role:
					return fmt.Sprintf("%s is %s", was, s.Node(was).Role)
				}
				return ""
			})
			t.Logf("%s to %s in %v", was, c.Primary(t), time.Since(start).Round(10*time.Millisecond))
			if tc.name == "Move" {
				c.Exec(t, was, "crm_resource", "--clear", "-r", "cl_registrar")
			}
		})
	}
}

// A cut node keeps its interface and its address: only its frames are gone.
func TestCutIsNoIfdown(t *testing.T) {
	c := labtest.Whole(t)
	c.Cut(t, lab.Client)
	defer c.Heal(t, lab.Client)
	if got := c.Exec(t, lab.Client, "cat", "/sys/class/net/eth0/operstate"); got != "up\n" {
		t.Errorf("the interface of a cut machine is %q", got)
	}
	ping := []string{"ping", "-q", "-c", "1", "-W", "1", lab.Addr("node1").String()}
	if _, err := c.Lab.Exec(t.Context(), lab.Client, ping...); err == nil {
		t.Error("a cut machine reaches another one")
	}
	c.Heal(t, lab.Client)
	c.Exec(t, lab.Client, ping...)
}

// up that is killed at any moment leaves something that down removes without a trace.
func TestDownAfterKilledUp(t *testing.T) {
	binary := filepath.Join(t.TempDir(), "lab")
	if out, err := exec.Command("go", "build", "-o", binary, "../../cmd/lab").CombinedOutput(); err != nil {
		t.Fatalf("build: %v: %s", err, out)
	}
	for _, after := range []time.Duration{5, 10, 20, 30, 50, 80, 120, 200, 500, 1000, 3000, 6500} {
		l, err := lab.Open("killed")
		if err != nil {
			t.Fatal(err)
		}
		cmd := exec.Command(binary, "up", "--bare", "--nodes", "2")
		cmd.Env = append(os.Environ(), "LAB="+l.Name())
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		time.AfterFunc(after*time.Millisecond, func() { _ = cmd.Process.Kill() })
		_ = cmd.Wait() // killed
		if err := l.Down(context.Background()); err != nil {
			t.Fatalf("down after %v: %v", after, err)
		}
		// A command that up had begun to start in a node ends by itself, a moment after, for want of its cgroup.
		left := leftovers(t, l.Name())
		for deadline := time.Now().Add(leftoversMax); len(left) > 0 && time.Now().Before(deadline); {
			left = leftovers(t, l.Name())
		}
		if len(left) > 0 {
			t.Errorf("up killed after %v ms: left %v", int(after), left)
		}
	}
}

// leftovers looks for anything of a lab: processes by their arguments and environment,
// loop devices, mounts, cgroups, directories.
func leftovers(t *testing.T, name string) (left []string) {
	t.Helper()
	for _, pattern := range []string{
		"/run/registrard-lab/" + name, "/var/lib/registrard-lab/" + name,
		"/sys/fs/cgroup/registrard-lab/" + name, "/sys/fs/cgroup/*/registrard-lab/" + name,
	} {
		paths, err := filepath.Glob(pattern)
		if err != nil {
			t.Fatal(err)
		}
		left = append(left, paths...)
	}
	for pattern, what := range map[string]string{"/sys/block/loop*/loop/backing_file": "loop", "/proc/[0-9]*/cmdline": "process", "/proc/[0-9]*/environ": "process", "/proc/self/mountinfo": "mount"} {
		paths, err := filepath.Glob(pattern)
		if err != nil {
			t.Fatal(err)
		}
		for _, p := range paths {
			raw, err := os.ReadFile(p)
			if err == nil && (strings.Contains(string(raw), "registrard-lab/"+name+"/") || strings.Contains(string(raw), "LAB="+name+"\x00")) {
				left = append(left, what+" "+p)
			}
		}
	}
	return left
}
