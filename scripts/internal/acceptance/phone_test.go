//go:build cluster

package acceptance

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"sipha/scripts/internal/lab"
	"sipha/scripts/internal/sipload"
)

const (
	ringMax     = 20 * time.Second
	registerMax = 30 * time.Second
	// onlyMD5 is for phones that give up on a challenge as soon as it offers another algorithm beside MD5: baresip up to 2.0 does.
	onlyMD5    = "\n[auth]\nalgorithms = [\"MD5\"]\n"
	configFile = "/etc/registrard/registrard.conf"
)

// baresipConfig keeps the phone from the machine's sound and screen.
const baresipConfig = `sip_listen %s:0
net_interface eth0
module_path /usr/lib/baresip/modules
module stdio.so
module g711.so
module aubridge.so
module_tmp account.so
module_app menu.so
audio_player aubridge,phone
audio_source aubridge,phone
audio_alert aubridge,phone
`

// phone is a baresip with one account.
type phone struct {
	account   sipload.Account
	transport string
	log       string
}

// A real phone registers over UDP, another over TCP. Both survive the loss of the primary's node without registering anew: they are
// found through the virtual address, and they ring.
func TestPhonesSurvive(t *testing.T) {
	c := enter(t)
	c.configure(t, onlyMD5)
	users := []sipload.Account{{User: "alice", Domain: domain, Password: "secret-a"}, {User: "bob", Domain: domain, Password: "secret-b"}}
	c.importUsers(t, c.replica(t), users)
	phones := []*phone{c.startPhone(t, users[0], "udp"), c.startPhone(t, users[1], "tcp")}
	before := make(map[string]row)
	for _, p := range phones {
		before[p.account.AOR()] = c.awaitRegistered(t, p)
	}

	was := c.Primary(t)
	start := time.Now()
	c.PowerOff(t, was)
	c.awaitServing(t, c.others(t, was))
	c.awaitOnePrimary(t, was)
	for _, p := range phones {
		c.call(t, p, before[p.account.AOR()].Contact)
	}
	t.Logf("measured: two phones found and ringing %v after their primary lost power", time.Since(start).Round(time.Millisecond))
	c.Mend(t)
	c.awaitTables(t)
	for _, n := range c.nodes(t) {
		for _, p := range phones {
			rows := c.rows(t, n, fmt.Sprintf("WHERE aor = '%s'", p.account.AOR()))
			if len(rows) != 1 || rows[0] != before[p.account.AOR()] {
				t.Errorf("%s: %s was %+v, is %+v", n, p.account.AOR(), before[p.account.AOR()], rows)
			}
		}
	}
}

// configure adds lines to every node's configuration and restarts the group, as an operator would; the end of the test undoes it.
func (c stage) configure(t *testing.T, lines string) {
	t.Helper()
	// Synced, since the next power cut loses what is not.
	const save, add, restore = `cp -a "$1" "$1.saved"`, `printf %s "$2" >>"$1"; sync "$1" "$1.saved"`, `mv "$1.saved" "$1"; sync "$1"`
	for _, n := range c.nodes(t) {
		c.Exec(t, n, "sh", "-ec", save+"; "+add, "sh", configFile, lines)
	}
	restart := []string{"crm_resource", "--restart", "--resource", group}
	c.Exec(t, c.nodes(t)[0], restart...)
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), failoverMax)
		defer cancel()
		for _, n := range c.nodes(t) {
			if _, err := c.Lab.Exec(ctx, n, "sh", "-ec", restore, "sh", configFile); err != nil {
				t.Error(err)
			}
		}
		if _, err := c.Lab.Exec(ctx, c.nodes(t)[0], restart...); err != nil {
			t.Error(err)
		}
	})
	c.Mend(t)
}

// startPhone starts a baresip on the client; the end of the test pulls its plug.
func (c stage) startPhone(t *testing.T, a sipload.Account, transport string) *phone {
	t.Helper()
	dir := t.TempDir()
	account := fmt.Sprintf("<%s;transport=%s>;auth_pass=%s;outbound=\"sip:%s;transport=%s\";regint=3600;answermode=manual\n",
		a.AOR(), transport, a.Password, lab.VIP(), transport)
	for name, text := range map[string]string{
		"config": fmt.Sprintf(baresipConfig, lab.Addr(lab.Client)), "accounts": account, "contacts": "",
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	p := &phone{account: a, transport: transport, log: filepath.Join(dir, "log")}
	out, err := os.Create(p.log)
	if err != nil {
		t.Fatal(err)
	}
	// It reads its commands from standard input, and would take the end of that for one to quit.
	quiet, open, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd, release, err := c.Command(context.Background(), lab.Client, "baresip", "-v", "-s", "-f", dir)
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stdin, cmd.Stdout, cmd.Stderr = quiet, out, out
	err = cmd.Start()
	release()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.pullPlug(t, cmd, quiet, open, out) })
	return p
}

func (p *phone) pullPlug(t *testing.T, cmd *exec.Cmd, files ...*os.File) {
	_ = cmd.Process.Kill() // it may be gone
	_ = cmd.Wait()         // killed
	for _, f := range files {
		_ = f.Close() // nothing is lost with it
	}
	if t.Failed() {
		t.Logf("the phone of %s said:\n%s", p.account.AOR(), tail(p.log))
	}
}

// awaitRegistered waits until the phone's binding is in the first node's database, and returns it.
func (c stage) awaitRegistered(t *testing.T, p *phone) row {
	t.Helper()
	for deadline := time.Now().Add(registerMax); time.Now().Before(deadline); wait(t, poll) {
		if rows := c.rows(t, c.nodes(t)[0], fmt.Sprintf("WHERE aor = '%s'", p.account.AOR())); len(rows) == 1 {
			if want := p.transport + ":" + lab.Addr(lab.Client).String(); !strings.HasPrefix(rows[0].Received, want) {
				t.Errorf("%s was received from %s, want %s", p.account.AOR(), rows[0].Received, want)
			}
			return rows[0]
		}
	}
	t.Fatalf("%s has not registered in %v", p.account.AOR(), registerMax)
	return row{}
}

var contactLine = regexp.MustCompile(`(?mi)^(?:contact|m)\s*:\s*<([^>]*)>`)

// call looks for the phone with an INVITE to the virtual address, wants to be redirected to the contact, and makes it ring there.
func (c stage) call(t *testing.T, p *phone, contact string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), ringMax)
	defer cancel()
	redirect, err := invite(ctx, c.dial, "udp", vip(), p.account.AOR())
	if err != nil {
		t.Fatalf("look for %s: %v", p.account.AOR(), err)
	}
	where := contactLine.FindStringSubmatch(redirect)
	if !strings.HasPrefix(redirect, "SIP/2.0 302 ") || len(where) != 2 || where[1] != contact {
		t.Fatalf("look for %s: want 302 to %s, got\n%s", p.account.AOR(), contact, redirect)
	}
	to, err := netip.ParseAddrPort(hostOf(contact))
	if err != nil {
		t.Fatal(err)
	}
	ringing, err := invite(ctx, c.dial, p.transport, to, contact)
	if err != nil || !strings.HasPrefix(ringing, "SIP/2.0 180 ") {
		t.Fatalf("call %s: %v, want 180, got\n%s", contact, err, ringing)
	}
}

// hostOf returns host and port of a SIP URI.
func hostOf(uri string) string {
	_, rest, _ := strings.Cut(uri, "@")
	host, _, _ := strings.Cut(rest, ";")
	return host
}

// dial opens a connection from the client.
func (c stage) dial(network string, to netip.AddrPort) (conn net.Conn, err error) {
	err = c.InNetwork(lab.Client, func() (err error) {
		if network == "tcp" {
			conn, err = net.DialTCP("tcp", nil, net.TCPAddrFromAddrPort(to))
		} else {
			conn, err = net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(to))
		}
		return err
	})
	return conn, err
}
