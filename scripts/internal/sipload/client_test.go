package sipload

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// registrar is the least that answers a REGISTER: digest with one nonce, bindings in a
// map, and faults that the tests set.
type registrar struct {
	conn *net.UDPConn

	mu       sync.Mutex
	nonce    string
	bindings map[string]map[string]Contact // by AOR and URI
	last     map[string]string             // the answer to each Call-ID and CSeq
	drop     int                           // requests to ignore
	status   int                           // if not 0, what every REGISTER is answered
	seen     int
}

func startRegistrar(t *testing.T) *registrar {
	t.Helper()
	conn, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	r := &registrar{conn: conn, nonce: "first", bindings: make(map[string]map[string]Contact), last: make(map[string]string)}
	var done sync.WaitGroup
	done.Go(func() {
		buf := make([]byte, datagramMax)
		for {
			n, from, err := conn.ReadFromUDPAddrPort(buf)
			if err != nil {
				return
			}
			if reply := r.answer(string(buf[:n])); reply != "" {
				if _, err := conn.WriteToUDPAddrPort([]byte(reply), from); err != nil {
					return
				}
			}
		}
	})
	t.Cleanup(func() {
		_ = conn.Close() // its reader has nothing left to say
		done.Wait()
	})
	return r
}

func (r *registrar) answer(request string) string {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.seen++
	if r.drop > 0 {
		r.drop--
		return ""
	}
	h, err := parseResponse([]byte("SIP/2.0 200 OK\r\n" + request[strings.Index(request, "\r\n")+2:]))
	if err != nil {
		return ""
	}
	id := h.first("call-id") + h.cseq
	if r.last[id] == "" {
		r.last[id] = r.decide(h)
	}
	return r.last[id]
}

func (r *registrar) decide(h *response) string {
	reply := func(status int, more string) string {
		return fmt.Sprintf("SIP/2.0 %d X\r\nVia: %s\r\nCSeq: %s\r\n%s\r\n", status, h.first("via"), h.cseq, more)
	}
	if r.status != 0 {
		return reply(r.status, "")
	}
	auth := h.first("authorization")
	if !strings.Contains(auth, `nonce="`+r.nonce+`"`) {
		stale := ""
		if auth != "" {
			stale = ", stale=true"
		}
		return reply(401, fmt.Sprintf("WWW-Authenticate: Digest realm=\"r\", nonce=%q, algorithm=SHA-256, qop=\"auth\"%s\r\n", r.nonce, stale))
	}
	aor := strings.Trim(h.first("to"), "<>")
	user := strings.TrimPrefix(strings.Split(aor, "@")[0], "sip:")
	c := challenge{realm: "r", nonce: r.nonce, algorithm: SHA256, qop: true}
	nc, err := strconv.ParseUint(param(strings.ReplaceAll(auth, ",", ";"), "nc"), 16, 32)
	if err != nil || !strings.Contains(auth, c.authorization(Account{User: user, Password: "secret-" + user[1:]}, "REGISTER", "sip:example.org", param(strings.ReplaceAll(auth, ",", ";"), "cnonce"), uint32(nc))) {
		return reply(403, "")
	}
	if r.bindings[aor] == nil || h.first("contact") == "*" {
		r.bindings[aor] = make(map[string]Contact)
	}
	if h.first("contact") != "*" {
		asked, err := h.contacts()
		if err != nil {
			return reply(400, "")
		}
		for _, c := range asked {
			if c.Expires == 0 {
				delete(r.bindings[aor], c.URI)
			} else {
				r.bindings[aor][c.URI] = c
			}
		}
	}
	list := ""
	for _, c := range r.bindings[aor] {
		list += fmt.Sprintf("Contact: <%s>;q=%s;expires=%d\r\n", c.URI, c.Q, c.Expires)
	}
	return reply(200, list)
}

func (r *registrar) set(f func()) {
	r.mu.Lock()
	defer r.mu.Unlock()
	f()
}

func startClient(t *testing.T, r *registrar, o Options) *Client {
	t.Helper()
	conn, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	o.Conn, o.Target = conn, r.conn.LocalAddr().(*net.UDPAddr).AddrPort()
	o.Target = netip.AddrPortFrom(o.Target.Addr().Unmap(), o.Target.Port())
	c := NewClient(o)
	t.Cleanup(func() { _ = c.Close() }) // some tests close it themselves
	return c
}

func TestLoadAndLedger(t *testing.T) {
	t.Parallel()
	for _, share := range []bool{false, true} {
		r := startRegistrar(t)
		c := startClient(t, r, Options{ShareNonce: share})
		ledger := NewLedger()
		accounts := Accounts(200, "example.org")
		work := func(yield func(Registration) bool) {
			for _, a := range accounts {
				contact := Phone(a, c.Local(), 0, 600)
				contact.Q = "0.5"
				if !yield(Registration{Account: a, Contacts: []Contact{contact}}) {
					return
				}
			}
		}
		stats := c.Load(t.Context(), 16, work, ledger.Record)
		if stats.OK() != len(accounts) {
			t.Fatalf("share %t: %d of %d answered: %v", share, stats.OK(), len(accounts), stats.ByStatus)
		}
		if stats.Latency(0.5) <= 0 || stats.Latency(1) < stats.Latency(0.5) {
			t.Errorf("latency %v, %v", stats.Latency(0.5), stats.Latency(1))
		}
		// Half of them go away, and a nonce becomes stale on the way.
		r.set(func() { r.nonce = "second" })
		c.Load(t.Context(), 16, func(yield func(Registration) bool) {
			for i, a := range accounts[:100] {
				reg := Registration{Account: a, Star: i%2 == 0}
				if !reg.Star {
					reg.Contacts = []Contact{Phone(a, c.Local(), 0, 0)}
				}
				if !yield(reg) {
					return
				}
			}
		}, ledger.Record)
		if present, removed, doubtful := ledger.Count(); present != 100 || removed != 100 || doubtful != 0 {
			t.Errorf("share %t: ledger has %d, %d, %d", share, present, removed, doubtful)
		}
		for _, a := range accounts {
			shown, err := c.Register(t.Context(), Registration{Account: a})
			if err != nil {
				t.Fatal(err)
			}
			for _, b := range ledger.Check(a, shown, 0) {
				t.Error(b)
			}
		}
	}
}

func TestRegisterSendsAgain(t *testing.T) {
	t.Parallel()
	r := startRegistrar(t)
	c := startClient(t, r, Options{})
	r.set(func() { r.drop = 1 })
	a := Accounts(1, "example.org")[0]
	got, err := c.Register(t.Context(), Registration{Account: a, Contacts: []Contact{Phone(a, c.Local(), 0, 60)}})
	if err != nil || !got.OK() || c.Retransmitted.Load() != 1 {
		t.Errorf("%+v, %v, %d retransmissions", got, err, c.Retransmitted.Load())
	}
}

func TestRegisterGivesUp(t *testing.T) {
	t.Parallel()
	r := startRegistrar(t)
	c := startClient(t, r, Options{Timeout: 20 * time.Millisecond})
	r.set(func() { r.drop = 1000 })
	a := Accounts(1, "example.org")[0]
	if _, err := c.Register(t.Context(), Registration{Account: a}); !errors.Is(err, ErrTimeout) {
		t.Errorf("error %v, want %v", err, ErrTimeout)
	}
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Register(t.Context(), Registration{Account: a}); !errors.Is(err, net.ErrClosed) {
		t.Errorf("error %v, want %v", err, net.ErrClosed)
	}
}

func TestRegisterWrongPassword(t *testing.T) {
	t.Parallel()
	r := startRegistrar(t)
	c := startClient(t, r, Options{})
	got, err := c.Register(t.Context(), Registration{Account: Account{User: "u1", Domain: "example.org", Password: "wrong"}})
	if err != nil || got.Status != 403 {
		t.Errorf("%+v, %v", got, err)
	}
}

func TestFirstOK(t *testing.T) {
	t.Parallel()
	r := startRegistrar(t)
	c := startClient(t, r, Options{})
	r.set(func() { r.status = 503 })
	const outage = 50 * time.Millisecond
	time.AfterFunc(outage, func() { r.set(func() { r.status = 0 }) })
	took, a, err := c.FirstOK(t.Context(), Registration{Account: Accounts(1, "example.org")[0]}, 2*time.Millisecond)
	if err != nil || !a.OK() || took < outage {
		t.Errorf("first 200 after %v: %+v, %v", took, a, err)
	}
}
