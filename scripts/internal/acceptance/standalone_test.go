//go:build integration

package acceptance

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"sipha/scripts/internal/sipload"
)

const (
	aloneUsers = 200
	aloneMax   = 20 * time.Second
	alonePoll  = 20 * time.Millisecond
)

const aloneConfig = `[registrard]
domains = ["example.org"]
database = "DIR/db"
[sip]
listen = ["udp:127.0.0.1:PORT", "tcp:127.0.0.1:PORT"]
trusted = ["127.0.0.0/8"]
[control]
directory = "DIR/run"
group = ""
dbus = false
[http]
listen = ""
`

// alone is a registrard run --standalone.
type alone struct {
	binary, dir, config string
	sip                 netip.AddrPort
	cmd                 *exec.Cmd
	stderr              *bytes.Buffer
}

// Without Corosync and without rights, registrard registers, redirects, and keeps what it has answered through a kill and a restart.
func TestStandalone(t *testing.T) {
	d := newAlone(t)
	d.start(t)
	accounts := sipload.Accounts(aloneUsers, "example.org")
	var users bytes.Buffer
	if err := sipload.WriteCSV(&users, accounts); err != nil {
		t.Fatal(err)
	}
	d.command(t, &users, "users", "import", "-")

	conn, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	client := sipload.NewClient(sipload.Options{Conn: conn, Target: d.sip})
	defer func() { _ = client.Close() }() // the end of the test
	crowd := newCrowd(client, accounts)
	put := func(i int, a sipload.Account) sipload.Registration { return phoneOf(i, a, crowd.host, 0) }
	for what, stats := range map[string]*sipload.Stats{
		"registered": crowd.each(t.Context(), 0, aloneUsers, put),
		"refreshed":  crowd.each(t.Context(), 0, aloneUsers/2, put),
		"removed": crowd.each(t.Context(), 0, aloneUsers/4, func(i int, a sipload.Account) sipload.Registration {
			return removal(put(i, a))
		}),
	} {
		if len(stats.ByStatus) != 1 || stats.ByStatus[200] == 0 {
			t.Errorf("%s: answered by status: %v", what, stats.ByStatus)
		}
	}
	d.check(t, crowd)

	d.kill(t)
	d.start(t)
	d.check(t, crowd)

	last := accounts[aloneUsers-1]
	d.expectInvite(t, last, "SIP/2.0 302 ", put(aloneUsers-1, last).Contacts[0].URI)
	d.expectInvite(t, accounts[0], "SIP/2.0 480 ", "")
	if out := d.command(t, nil, "status"); !strings.Contains(out, "standalone") {
		t.Errorf("status does not say that nothing is replicated:\n%s", out)
	}
	d.stop(t)
}

// newAlone builds the daemon and gives it a directory and a free port.
func newAlone(t *testing.T) *alone {
	t.Helper()
	// A control socket's path must be short.
	dir, err := os.MkdirTemp("", "alone")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) }) // only scratch
	d := &alone{binary: filepath.Join(dir, "registrard"), dir: dir, config: filepath.Join(dir, "registrard.conf")}
	if out, err := exec.Command("go", "build", "-o", d.binary, "sipha/registrard").CombinedOutput(); err != nil {
		t.Fatalf("build: %v: %s", err, out)
	}
	d.sip = freePort(t)
	text := strings.NewReplacer("DIR", dir, "PORT", fmt.Sprint(d.sip.Port())).Replace(aloneConfig)
	if err := os.WriteFile(d.config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if d.cmd != nil {
			_ = d.cmd.Process.Kill() // a test that failed left it
			_ = d.cmd.Wait()
		}
		if t.Failed() {
			t.Logf("the daemon said:\n%s", d.stderr)
		}
	})
	return d
}

// freePort finds a port that is free for UDP and TCP.
func freePort(t *testing.T) netip.AddrPort {
	t.Helper()
	conn, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }() // given back
	addr := netip.MustParseAddrPort(conn.LocalAddr().String())
	listener, err := net.Listen("tcp", addr.String())
	if err != nil {
		t.Fatal(err)
	}
	_ = listener.Close() // given back
	return addr
}

// start starts the daemon and waits until it serves.
func (d *alone) start(t *testing.T) {
	t.Helper()
	d.stderr = new(bytes.Buffer)
	d.cmd = exec.Command(d.binary, "run", "--standalone", "--config", d.config)
	d.cmd.Stderr = d.stderr
	if err := d.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(aloneMax); ; {
		out, err := d.try(t.Context(), nil, "status", "--json")
		if err == nil && strings.Contains(out, `"serving": true`) {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("does not serve after %v: %v: %s", aloneMax, err, out)
		}
		select {
		case <-t.Context().Done():
			t.Fatal(t.Context().Err())
		case <-time.After(alonePoll):
		}
	}
}

// kill ends the daemon without a warning.
func (d *alone) kill(t *testing.T) {
	t.Helper()
	if err := d.cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = d.cmd.Wait() // killed
	d.cmd = nil
}

// stop ends the daemon as an operator does, and wants it to end well. It has warned that nothing is replicated.
func (d *alone) stop(t *testing.T) {
	t.Helper()
	if err := d.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := d.cmd.Wait(); err != nil {
		t.Errorf("the end: %v", err)
	}
	d.cmd = nil
	if !strings.Contains(d.stderr.String(), "nothing is replicated") {
		t.Errorf("there was no warning that nothing is replicated:\n%s", d.stderr)
	}
}

// command runs an operator's command; it must succeed.
func (d *alone) command(t *testing.T, in *bytes.Buffer, args ...string) string {
	t.Helper()
	out, err := d.try(t.Context(), in, args...)
	if err != nil {
		t.Fatalf("registrard %v: %v: %s", args, err, out)
	}
	return out
}

func (d *alone) try(ctx context.Context, in *bytes.Buffer, args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, aloneMax)
	defer cancel()
	cmd := exec.CommandContext(ctx, d.binary, args...)
	cmd.Env = append(os.Environ(), "REGISTRARD_SOCKET="+filepath.Join(d.dir, "run", "registrard", "control.sock"))
	if in != nil {
		cmd.Stdin = in
	}
	out, err := cmd.Output()
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		out = append(out, exit.Stderr...)
	}
	return string(out), err
}

// check holds the daemon to the book: what phones can see, and what its database holds.
func (d *alone) check(t *testing.T, c *crowd) {
	t.Helper()
	var broken []string
	c.client.Load(t.Context(), 0, func(yield func(sipload.Registration) bool) {
		for _, a := range c.accounts {
			if !yield(sipload.Registration{Account: a}) {
				return
			}
		}
	}, func(r sipload.Registration, a *sipload.Answer, err error) {
		if err != nil {
			broken = append(broken, err.Error())
			return
		}
		broken = append(broken, c.book.ledger.Check(r.Account, a, clockSlack)...)
		broken = append(broken, c.book.checkShown(r.Account, a)...)
	})
	broken = append(broken, c.book.oddities()...)
	if len(broken) > 0 {
		t.Errorf("%d promises are broken, such as: %s", len(broken), broken[0])
	}
}

// expectInvite looks for a user and wants the answer to begin so, and to name the contact.
func (d *alone) expectInvite(t *testing.T, a sipload.Account, status, contact string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), aloneMax)
	defer cancel()
	for _, network := range []string{"udp", "tcp"} {
		got, err := invite(ctx, func(network string, to netip.AddrPort) (net.Conn, error) { return net.Dial(network, to.String()) }, network, d.sip, a.AOR())
		if err != nil || !strings.HasPrefix(got, status) || !strings.Contains(got, contact) {
			t.Errorf("look for %s over %s: %v, want %s%s, got\n%s", a.AOR(), network, err, status, contact, got)
		}
	}
}
