package sip

import (
	"bufio"
	"context"
	"crypto/md5"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"sipha/registrard/location"
	"sipha/registrard/sip/digest"
	"sipha/registrard/sip/transport"
)

const testDeadline = 10 * time.Second

func TestMain(m *testing.M) {
	if os.Getenv(benchServerEnv) != "" {
		if err := serveBench(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	goleak.VerifyTestMain(m)
}

// testServer is a Server on loopback with a memoryRegistrar behind it.
type testServer struct {
	*Server
	registrar *memoryRegistrar
	udp, tcp  netip.AddrPort
}

func startServer(t testing.TB, change func(*Config, *memoryRegistrar)) *testServer {
	t.Helper()
	m := newMemoryRegistrar()
	for _, name := range []string{"alice", "bob"} {
		addUser(t, m, name)
	}
	cfg := Config{Domains: []string{"example.org"}, Registrar: m, Log: slog.New(slog.DiscardHandler)}
	for _, s := range []string{"udp:127.0.0.1:0", "tcp:127.0.0.1:0"} {
		a, err := transport.ParseAddress(s)
		if err != nil {
			t.Fatal(err)
		}
		cfg.Listen = append(cfg.Listen, a)
	}
	if change != nil {
		change(&cfg, m)
	}
	s, err := New(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	finished := make(chan error, 1)
	go func() { finished <- s.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-finished; err != nil && !t.Failed() {
			t.Error(err)
		}
		m.close()
		checkIdentity(t, s)
	})
	return &testServer{Server: s, registrar: m, udp: s.Addresses()[0].AddrPort, tcp: s.Addresses()[1].AddrPort}
}

// checkIdentity tests that every message that was read ended in exactly one Outcome.
func checkIdentity(t testing.TB, s *Server) {
	t.Helper()
	var sum uint64
	s.Counters().EachOutcome(func(_, _ string, n uint64) { sum += n })
	if received := s.Counters().Received(); sum != received {
		t.Errorf("%d messages were received, %d have an outcome", received, sum)
	}
	if n := s.Counters().Panics(); n != 0 {
		t.Errorf("%d panics", n)
	}
}

func password(name string) string { return "secret of " + name }

func addUser(t testing.TB, m *memoryRegistrar, name string) {
	t.Helper()
	addUserWithPassword(t, m, name, password(name))
}

func addUserWithPassword(t testing.TB, m *memoryRegistrar, name, secret string) {
	t.Helper()
	u := location.User{AOR: location.AOR("sip:" + name + "@example.org"), Username: name, Realm: "example.org"}
	if err := digest.SetPassword(&u, secret); err != nil {
		t.Fatal(err)
	}
	m.addUser(u)
}

// response is a response as a phone reads it.
type response struct {
	status  int
	reason  string
	headers []string // whole lines
	text    string
}

func (r *response) all(name string) []string {
	var values []string
	for _, line := range r.headers {
		n, v, _ := strings.Cut(line, ":")
		if strings.EqualFold(strings.TrimSpace(n), name) {
			values = append(values, strings.TrimSpace(v))
		}
	}
	return values
}

func (r *response) get(name string) string {
	if all := r.all(name); len(all) > 0 {
		return all[0]
	}
	return ""
}

// phone sends requests and reads responses over one socket.
type phone struct {
	t       testing.TB
	conn    net.Conn
	reader  *bufio.Reader
	network string
	name    string
	callID  string
	cseq    int
	count   int
	nonce   string
	from    string // "" : the same as To
	extra   string // further headers
	method  string
	uri     string // Request-URI
	to      string
	branch  string // "" : a new one each time
	sha     bool
	expires string // Expires header
}

func newPhone(t testing.TB, s *testServer, network, name string) *phone {
	t.Helper()
	to := s.udp
	if network == "tcp" {
		to = s.tcp
	}
	c, err := net.Dial(network, to.String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	if err := c.SetDeadline(time.Now().Add(testDeadline)); err != nil {
		t.Fatal(err)
	}
	return &phone{
		t: t, conn: c, reader: bufio.NewReaderSize(c, 64<<10), network: network, name: name, callID: "call-" + name + "-" + t.Name(),
		method: "REGISTER", uri: "sip:example.org", to: "sip:" + name + "@example.org", sha: true,
	}
}

var branches atomic.Int64

// text writes a request. contacts are Contact header values.
func (p *phone) text(authorization string, contacts ...string) string {
	from := p.from
	if from == "" {
		from = p.to
	}
	branch := p.branch
	if branch == "" {
		branch = "z9hG4bK" + strconv.FormatInt(branches.Add(1), 10)
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%s %s SIP/2.0\r\n", p.method, p.uri)
	fmt.Fprintf(&b, "Via: SIP/2.0/%s %s;rport;branch=%s\r\n", strings.ToUpper(p.network), p.conn.LocalAddr(), branch)
	fmt.Fprintf(&b, "Max-Forwards: 70\r\nFrom: <%s>;tag=1928301774\r\nTo: <%s>\r\nCall-ID: %s\r\nCSeq: %d %s\r\n", from, p.to, p.callID, p.cseq, p.method)
	for _, c := range contacts {
		fmt.Fprintf(&b, "Contact: %s\r\n", c)
	}
	if p.expires != "" {
		fmt.Fprintf(&b, "Expires: %s\r\n", p.expires)
	}
	if authorization != "" {
		fmt.Fprintf(&b, "Authorization: %s\r\n", authorization)
	}
	b.WriteString(p.extra)
	b.WriteString("Content-Length: 0\r\n\r\n")
	return b.String()
}

func (p *phone) send(text string) {
	p.t.Helper()
	if _, err := p.conn.Write([]byte(text)); err != nil {
		p.t.Fatal(err)
	}
}

// read reads one response.
func (p *phone) read() *response {
	p.t.Helper()
	var text string
	if p.network == "udp" {
		b := make([]byte, 64<<10)
		n, err := p.conn.Read(b)
		if err != nil {
			p.t.Fatalf("no response: %v", err)
		}
		text = string(b[:n])
	} else {
		for !strings.HasSuffix(text, "\r\n\r\n") {
			line, err := p.reader.ReadString('\n')
			if err != nil {
				p.t.Fatalf("no response: %v", err)
			}
			text += line
		}
	}
	return parseResponse(p.t, text)
}

func parseResponse(t testing.TB, text string) *response {
	t.Helper()
	head, body, ok := strings.Cut(text, "\r\n\r\n")
	lines := strings.Split(head, "\r\n")
	first := strings.SplitN(lines[0], " ", 3)
	if !ok || body != "" || len(first) != 3 || first[0] != "SIP/2.0" {
		t.Fatalf("malformed response %q", text)
	}
	status, err := strconv.Atoi(first[1])
	if err != nil {
		t.Fatalf("malformed response %q", text)
	}
	return &response{status: status, reason: first[2], headers: lines[1:], text: text}
}

// ask sends one request and reads its response.
func (p *phone) ask(authorization string, contacts ...string) *response {
	p.t.Helper()
	p.cseq++
	p.send(p.text(authorization, contacts...))
	return p.final()
}

// final reads the next final response. On a busy machine a 100 may come before it.
func (p *phone) final() *response {
	p.t.Helper()
	r := p.read()
	for r.status < 200 {
		r = p.read()
	}
	return r
}

// register asks, and once more with credentials when it is challenged, as phones do. A nonce that works is used again.
func (p *phone) register(contacts ...string) *response {
	p.t.Helper()
	authorization := ""
	if p.nonce != "" {
		authorization = p.credentials(p.name, password(p.name))
	}
	r := p.ask(authorization, contacts...)
	if r.status != 401 {
		return r
	}
	p.challenged(r)
	return p.ask(p.credentials(p.name, password(p.name)), contacts...)
}

// challenged takes the nonce of a 401.
func (p *phone) challenged(r *response) {
	p.t.Helper()
	_, after, ok := strings.Cut(r.get("WWW-Authenticate"), `nonce="`)
	if r.status != 401 || !ok {
		p.t.Fatalf("no challenge in %q", r.text)
	}
	p.nonce, _, _ = strings.Cut(after, `"`)
	p.count = 0
}

// credentials computes an Authorization value (RFC 7616 section 3.4), on its own so that it checks the server's.
func (p *phone) credentials(name, secret string) string {
	h := func(s string) string { sum := md5.Sum([]byte(s)); return hex.EncodeToString(sum[:]) }
	algorithm := "MD5"
	if p.sha {
		h = func(s string) string { sum := sha256.Sum256([]byte(s)); return hex.EncodeToString(sum[:]) }
		algorithm = "SHA-256"
	}
	p.count++
	nc := fmt.Sprintf("%08x", p.count)
	ha1 := h(name + ":example.org:" + secret)
	ha2 := h(p.method + ":" + p.uri)
	answer := h(ha1 + ":" + p.nonce + ":" + nc + ":0a4f113b:auth:" + ha2)
	return fmt.Sprintf(`Digest username="%s", realm="example.org", nonce="%s", uri="%s", response="%s", algorithm=%s, cnonce="0a4f113b", qop=auth, nc=%s`,
		name, p.nonce, p.uri, answer, algorithm, nc)
}

func wantStatus(t testing.TB, r *response, want int) {
	t.Helper()
	if r.status != want {
		t.Fatalf("status %d %s, want %d\n%s", r.status, r.reason, want, r.text)
	}
}

// wantNext reads the next final response.
func (p *phone) wantNext(status int) *response {
	p.t.Helper()
	r := p.final()
	wantStatus(p.t, r, status)
	return r
}

func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(testDeadline); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("not in time: " + what)
		}
	}
}

// wantOutcome waits until so many messages have ended so: a message is counted once its answer is on its way.
func wantOutcome(t testing.TB, s *testServer, o Outcome, want uint64) {
	t.Helper()
	eventually(t, fmt.Sprintf("%d %s %v, there are %d", want, o.Class(), o, s.Counters().Outcome(o)), func() bool {
		return s.Counters().Outcome(o) == want
	})
}
