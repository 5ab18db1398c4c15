package main

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"sipha/registrard/control"
)

// runPatience is how long a test waits for the daemon.
const runPatience = 30 * time.Second

// command is this program with a command line: TestMain runs it under the name registrard.
func command(ctx context.Context, args ...string) *exec.Cmd {
	c := exec.CommandContext(ctx, "/proc/self/exe", args...)
	c.Args[0] = "registrard"
	c.Env = []string{"HOME=/nonexistent"}
	return c
}

// runOnce runs a command to its end, and returns what it wrote and its exit code.
func runOnce(t *testing.T, stdin string, args ...string) (string, int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), runPatience)
	defer cancel()
	c := command(ctx, args...)
	c.Stdin = strings.NewReader(stdin)
	out, err := c.CombinedOutput()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return string(out), c.ProcessState.ExitCode()
}

// running is a standalone daemon.
type running struct {
	t       *testing.T
	sip     string // where it listens for phones
	socket  string
	process *exec.Cmd
	ended   chan struct{} // closed when its log is read to the end
	log     bytes.Buffer  // valid then
}

// startStandalone runs one with its database in dir.
func startStandalone(t *testing.T, dir string, more ...string) *running {
	t.Helper()
	args := append([]string{"run", "--standalone", "--database", dir, "--sip-listen", "udp:127.0.0.1:0", "--http-listen", "", "--log-format", "json"}, more...)
	r := &running{
		t: t, socket: filepath.Join(dir, standaloneRun, control.DefaultInstance, control.SocketName),
		process: command(context.WithoutCancel(t.Context()), args...), ended: make(chan struct{}),
	}
	log, err := r.process.StderrPipe()
	if err == nil {
		err = r.process.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	started := make(chan string, 1)
	go func() {
		defer close(r.ended)
		defer close(started)
		for lines := bufio.NewScanner(log); lines.Scan(); {
			r.log.Write(append(lines.Bytes(), '\n'))
			var entry struct{ Msg, Listen string }
			if json.Unmarshal(lines.Bytes(), &entry) == nil && entry.Msg == "started" {
				started <- strings.TrimSuffix(strings.TrimPrefix(entry.Listen, "[udp:"), "]")
			}
		}
	}()
	t.Cleanup(func() {
		_ = r.process.Process.Kill() // it has ended, where the test went well
		<-r.ended
		_ = r.process.Wait()
	})
	select {
	case r.sip = <-started:
	case <-time.After(runPatience):
		t.Fatal("the daemon does not start")
	}
	if r.sip == "" {
		<-r.ended
		t.Fatalf("the daemon does not start:\n%s", r.log.String())
	}
	return r
}

// stop ends it as a service manager does.
func (r *running) stop() {
	r.t.Helper()
	if err := r.process.Process.Signal(syscall.SIGTERM); err != nil {
		r.t.Fatal(err)
	}
	select {
	case <-r.ended:
	case <-time.After(runPatience):
		r.t.Fatal("the daemon does not end")
	}
	if err := r.process.Wait(); err != nil {
		r.t.Errorf("the daemon's end: %v:\n%s", err, r.log.String())
	}
}

// do runs one of the operator's commands against it.
func (r *running) do(stdin string, args ...string) (string, int) {
	r.t.Helper()
	return runOnce(r.t, stdin, append(args, "--socket", r.socket)...)
}

func (r *running) must(stdin string, args ...string) string {
	r.t.Helper()
	out, code := r.do(stdin, args...)
	if code != exitOK {
		r.t.Fatalf("%v: exit code %d: %s", args, code, out)
	}
	return out
}

func (r *running) untilServing() {
	r.t.Helper()
	deadline := time.Now().Add(runPatience)
	for {
		var s control.Status
		if err := json.Unmarshal([]byte(r.must("", "status", "--json")), &s); err != nil {
			r.t.Fatal(err)
		}
		if s.Serving {
			return
		}
		if time.Now().After(deadline) {
			r.t.Fatalf("not serving: %+v", s)
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// phone is alice's, over UDP.
type phone struct {
	t    *testing.T
	conn net.Conn
	cseq int
}

func newPhone(t *testing.T, address string) *phone {
	t.Helper()
	conn, err := net.Dial("udp", address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return &phone{t: t, conn: conn}
}

// request sends a request without a body and returns the final response.
func (p *phone) request(method, uri, headers string) string {
	p.t.Helper()
	p.cseq++
	local := p.conn.LocalAddr()
	text := fmt.Sprintf("%s %s SIP/2.0\r\nVia: SIP/2.0/UDP %s;branch=z9hG4bK%d;rport\r\nMax-Forwards: 70\r\nFrom: <sip:alice@localhost>;tag=1\r\nTo: <sip:alice@localhost>\r\n"+
		"Call-ID: phone-%s\r\nCSeq: %d %s\r\nContact: <sip:alice@%s>\r\n%sContent-Length: 0\r\n\r\n", method, uri, local, p.cseq, local, p.cseq, method, local, headers)
	if _, err := p.conn.Write([]byte(text)); err != nil {
		p.t.Fatal(err)
	}
	_ = p.conn.SetReadDeadline(time.Now().Add(runPatience))
	buf := make([]byte, 64<<10)
	for {
		n, err := p.conn.Read(buf)
		if err != nil {
			p.t.Fatal(err)
		}
		if answer := string(buf[:n]); !strings.HasPrefix(answer, "SIP/2.0 1") {
			return answer
		}
	}
}

var nonceOf = regexp.MustCompile(`algorithm=SHA-256.*nonce="([^"]*)"|nonce="([^"]*)".*algorithm=SHA-256`)

// register registers alice with digest, SHA-256 and qop=auth (RFC 7616 section 3.4.1).
func (p *phone) register(password string) string {
	p.t.Helper()
	const uri = "sip:localhost"
	challenge := p.request("REGISTER", uri, "")
	m := nonceOf.FindStringSubmatch(challenge)
	if m == nil {
		p.t.Fatalf("no challenge for SHA-256:\n%s", challenge)
	}
	nonce := m[1] + m[2]
	h := func(s string) string { return fmt.Sprintf("%x", sha256.Sum256([]byte(s))) }
	response := h(h("alice:localhost:"+password) + ":" + nonce + ":00000001:c:auth:" + h("REGISTER:"+uri))
	return p.request("REGISTER", uri, fmt.Sprintf("Authorization: Digest username=\"alice\",realm=\"localhost\",nonce=\"%s\",uri=\"%s\",algorithm=SHA-256,qop=auth,nc=00000001,cnonce=\"c\",response=\"%s\"\r\n",
		nonce, uri, response))
}

// TestStandalone is the main job on one node: a user is added, a phone registers, and is still registered after the daemon was started anew.
func TestStandalone(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	d := startStandalone(t, dir)
	d.untilServing()
	d.must("secret\n", "users", "add", "alice@localhost")
	p := newPhone(t, d.sip)
	if answer := p.register("wrong"); !strings.HasPrefix(answer, "SIP/2.0 401") {
		t.Errorf("with a wrong password:\n%s", answer)
	}
	if answer := p.register("secret"); !strings.HasPrefix(answer, "SIP/2.0 200") {
		t.Fatalf("not registered:\n%s", answer)
	}
	contact := fmt.Sprintf("sip:alice@%s", p.conn.LocalAddr())
	if out := d.must("", "contacts", "list"); !strings.Contains(out, contact) {
		t.Errorf("contacts list lacks %s:\n%s", contact, out)
	}
	d.stop()

	d = startStandalone(t, dir)
	d.untilServing()
	if out := d.must("", "contacts", "show", "alice@localhost"); !strings.Contains(out, contact) {
		t.Errorf("after a restart %s is gone:\n%s", contact, out)
	}
	if out := d.must("", "contacts", "remove", "alice@localhost", contact); out != "removed 1\n" {
		t.Errorf("remove: %s", out)
	}
	if out, code := d.do("", "contacts", "show", "alice@localhost"); code != exitRefused {
		t.Errorf("show what was removed: %d %s", code, out)
	}
	d.stop()
	if strings.Contains(d.log.String(), "secret") {
		t.Error("the password is in the log")
	}
}

// TestSecondDaemon starts a second one on the same database and socket.
func TestSecondDaemon(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	d := startStandalone(t, dir)
	out, code := runOnce(t, "", "run", "--standalone", "--database", dir, "--sip-listen", "udp:127.0.0.1:0", "--http-listen", "")
	if code != exitUnavailable || !strings.Contains(out, control.ErrInUse.Error()) {
		t.Errorf("exit code %d: %s", code, out)
	}
	d.untilServing() // the first one goes on
	d.stop()
}

// TestReloadRunning changes what can be changed, and tells what cannot.
func TestReloadRunning(t *testing.T) {
	t.Parallel()
	file := writeFile(t, "[log]\nlevel = \"info\"\n")
	d := startStandalone(t, t.TempDir(), "--config", file)
	d.untilServing()
	client, err := control.Dial(t.Context(), d.socket)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = client.Close() }()
	rewrite(t, file, "[log]\nlevel = \"debug\"\n[registration]\ncontacts_max = 3\n")
	if err := client.Reload(t.Context()); err != nil {
		t.Fatal(err)
	}
	if out := d.must("", "config", "--running"); !strings.Contains(out, `level = "debug"`) || !strings.Contains(out, "contacts_max = 10") {
		t.Errorf("in force after a reload:\n%s", out)
	}
	if out := d.must("", "status"); !strings.Contains(out, "registration.contacts_max has changed in the configuration: restart") {
		t.Errorf("status:\n%s", out)
	}
	rewrite(t, file, "[log]\nlvel = \"warn\"\n")
	if err := client.Reload(t.Context()); err == nil || !strings.Contains(err.Error(), `:2: unknown key "lvel"`) {
		t.Errorf("reload of nonsense: %v", err)
	}
	d.stop()
}

// TestFutureDatabase starts on a database that a later version has written: SQLite keeps its version at byte 60 of the file
// (https://www.sqlite.org/fileformat.html, section 1.3).
func TestFutureDatabase(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	d := startStandalone(t, dir)
	d.untilServing()
	d.stop()
	files, err := filepath.Glob(filepath.Join(dir, control.DefaultInstance, "*.db"))
	if err != nil || len(files) != 1 {
		t.Fatalf("databases %v, %v", files, err)
	}
	f, err := os.OpenFile(files[0], os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err = f.WriteAt([]byte{0, 0, 0x7f, 0xff}, 60); err == nil {
		err = f.Close()
	}
	if err != nil {
		t.Fatal(err)
	}
	out, code := runOnce(t, "", "run", "--standalone", "--database", dir, "--sip-listen", "udp:127.0.0.1:0", "--http-listen", "")
	lines := strings.Split(strings.TrimSpace(out), "\n")
	last := lines[len(lines)-1]
	if code != exitData || !strings.HasPrefix(last, "registrard: database: ") || !strings.Contains(last, "install the version of registrard that wrote it") {
		t.Errorf("exit code %d: %s", code, out)
	}
}
