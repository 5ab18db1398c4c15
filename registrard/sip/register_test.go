package sip

import (
	"errors"
	"net/netip"
	"regexp"
	"strings"
	"testing"
	"time"

	"sipha/registrard/location"
)

const deskPhone = "<sip:alice@192.0.2.10:5060>"

func networks(t *testing.T, f func(t *testing.T, network string)) {
	t.Helper()
	for _, network := range []string{"udp", "tcp"} {
		t.Run(network, func(t *testing.T) {
			t.Parallel()
			f(t, network)
		})
	}
}

func TestRegister(t *testing.T) {
	t.Parallel()
	networks(t, func(t *testing.T, network string) {
		s := startServer(t, nil)
		p := newPhone(t, s, network, "alice")
		p.extra = "Path: <sip:edge.example.org;lr>\r\nUser-Agent: desk\r\n"
		p.expires = "600"
		r := p.ask("", deskPhone)
		wantStatus(t, r, 401)
		if got := r.all("WWW-Authenticate"); len(got) != 2 || !strings.Contains(got[0], "SHA-256") || !strings.Contains(got[1], "MD5") {
			t.Errorf("challenges %q, want SHA-256 first, then MD5", got)
		}
		p.challenged(r)
		r = p.ask(p.credentials("alice", password("alice")), deskPhone)
		wantStatus(t, r, 200)
		if want := regexp.MustCompile(`^<sip:alice@192\.0\.2\.10:5060>;expires=(600|599)$`); !want.MatchString(r.get("Contact")) {
			t.Errorf("Contact %q, want %v", r.get("Contact"), want)
		}
		if got := r.get("Path"); got != "<sip:edge.example.org;lr>" {
			t.Errorf("Path %q", got)
		}
		if _, err := time.Parse(time.RFC1123, r.get("Date")); err != nil {
			t.Errorf("Date: %v", err)
		}
		if !strings.Contains(r.get("To"), ";tag=") {
			t.Errorf("To %q has no tag", r.get("To"))
		}
		held := s.registrar.bindings(testUserAOR)
		if len(held) != 1 {
			t.Fatalf("%d bindings, want 1", len(held))
		}
		b, own := held[0], s.udp
		if network == "tcp" {
			own = s.tcp
		}
		if want := network + ":" + p.conn.LocalAddr().String(); b.Received != want {
			t.Errorf("received %q, want %q", b.Received, want)
		}
		if want := network + ":" + own.String(); b.Socket != want {
			t.Errorf("socket %q, want %q", b.Socket, want)
		}
		if b.CallID != p.callID || b.CSeq != 2 || b.UserAgent != "desk" || len(b.Path) != 1 {
			t.Errorf("binding %+v", b)
		}
		r = p.register() // a query, with the same nonce and the next count
		wantStatus(t, r, 200)
		if len(r.all("Contact")) != 1 || p.cseq != 3 {
			t.Errorf("query gave %q after %d requests", r.all("Contact"), p.cseq)
		}
		p.expires = "0"
		r = p.register("*")
		wantStatus(t, r, 200)
		if len(r.all("Contact")) != 0 || len(s.registrar.bindings(testUserAOR)) != 0 {
			t.Errorf("bindings are left: %q", r.text)
		}
		wantOutcome(t, s, AcceptedRegister, 3)
	})
}

func TestRegisterMD5(t *testing.T) {
	t.Parallel()
	p := newPhone(t, startServer(t, nil), "udp", "alice")
	p.sha = false
	wantStatus(t, p.register(deskPhone), 200)
}

// A REGISTER with an old CSeq changes nothing (RFC 3261 section 10.3 step 7).
func TestRegisterOutOfOrder(t *testing.T) {
	t.Parallel()
	s := startServer(t, nil)
	p := newPhone(t, s, "udp", "alice")
	p.expires = "600"
	p.cseq = 100
	wantStatus(t, p.register(deskPhone), 200)
	p.cseq, p.expires = 50, "7200"
	wantStatus(t, p.register(deskPhone), 500)
	if held := s.registrar.bindings(testUserAOR); len(held) != 1 || held[0].CSeq != 102 {
		t.Errorf("bindings %+v", held)
	}
}

// What must not be registered, and how each is answered. Each case begins with credentials that are right for alice.
func TestRegisterRefusals(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name     string
		change   func(p *phone)
		contacts []string
		want     int
		header   string // one that must be there, with this text
		outcome  Outcome
	}{
		{"ErrForeignDomain", func(p *phone) { p.to, p.uri = "sip:alice@example.com", "sip:example.com" }, nil, 404, "", RejectedDomain},
		{"ErrRequestURIOfAnotherDomain", func(p *phone) { p.uri = "sip:example.com" }, nil, 404, "", RejectedDomain},
		{"ErrRequire", func(p *phone) { p.extra = "Require: path, frobnicate\r\n" }, nil, 420, "Unsupported: frobnicate", RejectedExtension},
		{"ErrOtherUser", func(p *phone) { p.to = "sip:bob@example.org" }, nil, 403, "", RejectedIdentity},
		{"ErrThirdParty", func(p *phone) { p.from = "sip:bob@example.org" }, nil, 403, "", RejectedIdentity},
		{"ErrWrongPassword", func(p *phone) { p.extra = "X-Secret: wrong\r\n" }, nil, 401, "", RejectedCredentials},
		{"ErrStarWithContact", func(p *phone) { p.expires = "0" }, []string{"*", deskPhone}, 400, "", InvalidMalformed},
		{"ErrStarWithoutExpires", func(p *phone) {}, []string{"*"}, 400, "", InvalidMalformed},
		{"ErrMalformedContact", func(p *phone) {}, []string{"<sip:alice@192.0.2.10:5060transport=udp>"}, 400, "", InvalidMalformed},
		{"ErrMulticastContact", func(p *phone) {}, []string{"<sip:alice@224.0.1.75>"}, 403, "", RejectedContact},
		{"ErrUnspecifiedContact", func(p *phone) {}, []string{"<sip:alice@[::]:5060>"}, 403, "", RejectedContact},
		{"ErrMulticastMaddr", func(p *phone) {}, []string{"<sip:alice@192.0.2.10;lr;MAddr=224.0.1.75>"}, 403, "", RejectedContact},
		{"ErrUnspecifiedMaddr", func(p *phone) {}, []string{"<sip:alice@desk.example;maddr=[::]>"}, 403, "", RejectedContact},
		{"ErrBrief", func(p *phone) { p.expires = "30" }, []string{deskPhone}, 423, "Min-Expires: 60", AcceptedRegister},
		{"ErrToScheme", func(p *phone) { p.to = "tel:+4930123456"; p.from = "sip:alice@example.org" }, nil, 400, "", InvalidMalformed},
	}
	s := startServer(t, nil)
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			p := newPhone(t, s, "udp", "alice")
			p.challenged(p.ask(""))
			tt.change(p)
			before := s.Counters().Outcome(tt.outcome)
			secret := password("alice")
			if strings.Contains(p.extra, "wrong") {
				secret = "wrong"
			}
			r := p.ask(p.credentials("alice", secret), tt.contacts...)
			wantStatus(t, r, tt.want)
			if !strings.Contains(r.text, tt.header) {
				t.Errorf("%q is not in %q", tt.header, r.text)
			}
			eventually(t, "the outcome is counted", func() bool { return s.Counters().Outcome(tt.outcome) == before+1 })
			for _, aor := range []location.AOR{testUserAOR, "sip:bob@example.org"} {
				if held := s.registrar.bindings(aor); len(held) != 0 {
					t.Errorf("%s has bindings: %v", aor, held)
				}
			}
		})
	}
}

// Nobody can tell a user who is there from one who is not.
func TestRegisterDoesNotTellUsers(t *testing.T) {
	t.Parallel()
	s := startServer(t, nil)
	shape := func(name string, authorized bool) string {
		p := newPhone(t, s, "udp", name)
		p.callID = "same" // the tag is made from it
		r := p.ask("", deskPhone)
		if authorized {
			p.challenged(r)
			r = p.ask(p.credentials(name, "wrong"), deskPhone)
		}
		text := strings.NewReplacer(name, "NAME", p.conn.LocalAddr().String(), "ADDR").Replace(r.text)
		text = regexp.MustCompile(`nonce="[^"]*"|branch=\S+|tag=\S+|rport=\d+`).ReplaceAllString(text, "-")
		return text
	}
	for _, authorized := range []bool{false, true} {
		if a, b := shape("alice", authorized), shape("nobody", authorized); a != b {
			t.Errorf("answers differ:\n%s\n%s", a, b)
		}
	}
}

func TestRegisterStaleNonce(t *testing.T) {
	t.Parallel()
	s := startServer(t, nil)
	p := newPhone(t, s, "udp", "alice")
	wantStatus(t, p.register(deskPhone), 200)
	p.count = 0 // the count was used
	p.callID = "another"
	r := p.ask(p.credentials("alice", password("alice")), deskPhone)
	wantStatus(t, r, 401)
	if !strings.Contains(r.get("WWW-Authenticate"), "stale=true") {
		t.Errorf("challenge %q is not stale", r.get("WWW-Authenticate"))
	}
	wantOutcome(t, s, RejectedStale, 1)
}

// A retransmission while the first is with the Registrar is dropped, one after it gets the same answer.
func TestRegisterRetransmission(t *testing.T) {
	t.Parallel()
	s := startServer(t, func(_ *Config, m *memoryRegistrar) {
		m.faults = func(r *location.Request) fault { return fault{hold: r.CSeq == 2} }
	})
	p := newPhone(t, s, "udp", "alice")
	p.challenged(p.ask(""))
	p.cseq++
	text := p.text(p.credentials("alice", password("alice")), deskPhone)
	p.send(text)
	eventually(t, "the first is with the registrar", func() bool { return s.InFlight() == 1 })
	for range 3 {
		p.send(text)
	}
	wantOutcome(t, s, IgnoredRetransmission, 3)
	s.registrar.release()
	first := p.wantNext(200)
	eventually(t, "it is not in flight any more", func() bool { return s.InFlight() == 0 })
	s.registrar.requests <- func() { s.registrar.faults = nil }
	p.send(text)
	again := p.wantNext(200)
	// What remains may be a second less, and the Date later.
	same := func(r *response) string {
		return regexp.MustCompile(`expires=\d+|Date: .*`).ReplaceAllString(r.text, "-")
	}
	if same(first) != same(again) {
		t.Errorf("answers differ:\n%s\n%s", first.text, again.text)
	}
	if held := s.registrar.bindings(testUserAOR); len(held) != 1 || held[0].CSeq != 2 {
		t.Errorf("bindings %+v", held)
	}
	wantOutcome(t, s, RejectedStale, 0)
}

// The digest covers neither contacts nor expiry. What differs from the message that used a nonce count is no retransmission of it.
func TestRegisterReplayedWithOtherContact(t *testing.T) {
	t.Parallel()
	s := startServer(t, nil)
	p := newPhone(t, s, "udp", "alice")
	p.challenged(p.ask(""))
	p.branch = "z9hG4bKseen"
	p.cseq++
	seen := p.text(p.credentials("alice", password("alice")), deskPhone)
	p.send(seen)
	p.wantNext(200)
	for name, forged := range map[string]string{
		"contact": strings.Replace(seen, deskPhone, "<sip:mallory@192.0.2.66>", 1),
		"star":    strings.Replace(seen, "Contact: "+deskPhone, "Contact: *\r\nExpires: 0", 1),
	} {
		p.send(forged)
		if r := p.final(); r.status != 401 || !strings.Contains(r.get("WWW-Authenticate"), "stale=true") {
			t.Errorf("%s: %s", name, r.text)
		}
	}
	p.send(seen)
	p.wantNext(200)
	if held := s.registrar.bindings(testUserAOR); len(held) != 1 || strings.Contains(held[0].Contact, "mallory") {
		t.Errorf("bindings %+v", held)
	}
}

func TestRegisterRegistrarFails(t *testing.T) {
	t.Parallel()
	t.Run("ErrAnswer", func(t *testing.T) {
		t.Parallel()
		s := startServer(t, func(_ *Config, m *memoryRegistrar) {
			m.faults = func(*location.Request) fault { return fault{err: errors.New("suspended")} }
		})
		r := newPhone(t, s, "udp", "alice").register(deskPhone)
		wantStatus(t, r, 503)
		if r.get("Retry-After") == "" {
			t.Error("no Retry-After")
		}
	})
	t.Run("ErrOutOfOrder", func(t *testing.T) {
		t.Parallel()
		s := startServer(t, func(_ *Config, m *memoryRegistrar) {
			m.faults = func(*location.Request) fault { return fault{hold: true} }
		})
		const phones = 20
		var all []*phone
		for range phones {
			p := newPhone(t, s, "udp", "alice")
			p.callID += p.conn.LocalAddr().String()
			p.challenged(p.ask(""))
			p.cseq++
			p.send(p.text(p.credentials("alice", password("alice")), "<sip:alice@"+p.conn.LocalAddr().String()+">"))
			all = append(all, p)
			if len(all) == 10 {
				break // the limit of contacts
			}
		}
		eventually(t, "all are with the registrar", func() bool { return s.InFlight() == len(all) })
		s.registrar.release()
		for i, p := range all {
			r := p.wantNext(200)
			if got := r.get("Call-ID"); got != p.callID {
				t.Errorf("phone %d got the answer of another: %q", i, got)
			}
			if n := len(r.all("Contact")); n != i+1 {
				t.Errorf("phone %d sees %d contacts, want %d", i, n, i+1)
			}
		}
	})
	t.Run("ErrLate", func(t *testing.T) {
		t.Parallel()
		s := startServer(t, func(cfg *Config, m *memoryRegistrar) {
			cfg.Limits.AnswerTimeout = time.Millisecond
			m.faults = func(*location.Request) fault { return fault{hold: true} }
		})
		p := newPhone(t, s, "udp", "alice")
		wantStatus(t, p.register(deskPhone), 503)
		if s.InFlight() != 0 {
			t.Error("it is still in flight")
		}
		s.registrar.release()
		eventually(t, "the late answer is counted", func() bool { return s.Counters().Late() == 1 })
		p.method = "OPTIONS"
		wantStatus(t, p.ask(""), 200) // and nothing was sent for it
	})
	t.Run("ErrNever", func(t *testing.T) {
		t.Parallel()
		s := startServer(t, func(cfg *Config, m *memoryRegistrar) {
			cfg.Limits.AnswerTimeout = time.Millisecond
			m.faults = func(*location.Request) fault { return fault{silent: true} }
		})
		wantStatus(t, newPhone(t, s, "tcp", "alice").register(deskPhone), 503)
	})
	t.Run("ErrTooMany", func(t *testing.T) {
		t.Parallel()
		s := startServer(t, func(cfg *Config, m *memoryRegistrar) {
			cfg.Limits.InFlightMax = 1
			m.faults = func(*location.Request) fault { return fault{hold: true} }
		})
		first, second := newPhone(t, s, "udp", "alice"), newPhone(t, s, "udp", "bob")
		first.challenged(first.ask(""))
		first.cseq++
		first.send(first.text(first.credentials("alice", password("alice")), deskPhone))
		eventually(t, "the first is with the registrar", func() bool { return s.InFlight() == 1 })
		wantStatus(t, second.register("<sip:bob@192.0.2.11>"), 503)
		wantOutcome(t, s, RejectedBusy, 1)
		s.registrar.release()
		first.wantNext(200)
	})
}

// A node that does not serve says so to everything, and spreads the phones' return.
func TestStandby(t *testing.T) {
	t.Parallel()
	s := startServer(t, func(_ *Config, m *memoryRegistrar) { m.serving.Store(false) })
	p := newPhone(t, s, "udp", "alice")
	seen := map[string]bool{}
	for _, method := range []string{"REGISTER", "OPTIONS", "INVITE", "SUBSCRIBE"} {
		for range 20 {
			p.method = method
			r := p.ask("")
			wantStatus(t, r, 503)
			seen[r.get("Retry-After")] = true
		}
	}
	if len(seen) < 5 || seen[""] || seen["0"] || seen["1"] || seen["13"] {
		t.Errorf("Retry-After %v, want values from 2 to 12", seen)
	}
	s.registrar.serving.Store(true)
	p.method = "OPTIONS"
	wantStatus(t, p.ask(""), 200)
}

// Run answers what is in flight before it ends.
func TestRunDrains(t *testing.T) {
	t.Parallel()
	s := startServer(t, func(_ *Config, m *memoryRegistrar) {
		m.faults = func(*location.Request) fault { return fault{hold: true} }
	})
	p := newPhone(t, s, "tcp", "alice")
	p.challenged(p.ask(""))
	p.cseq++
	p.send(p.text(p.credentials("alice", password("alice")), deskPhone))
	eventually(t, "it is with the registrar", func() bool { return s.InFlight() == 1 })
	s.transport.StopReceiving()
	s.registrar.release()
	p.wantNext(200)
}

func TestSourceLimit(t *testing.T) {
	t.Parallel()
	s := startServer(t, func(cfg *Config, _ *memoryRegistrar) {
		cfg.Limits.FailuresPerSecond, cfg.Limits.FailuresBurst = 0.001, 5
	})
	good := newPhone(t, s, "udp", "alice")
	wantStatus(t, good.register(deskPhone), 200)
	bad := newPhone(t, s, "udp", "mallory")
	for range 5 {
		wantStatus(t, bad.ask(""), 401)
	}
	for range 5 {
		bad.cseq++
		bad.send(bad.text(""))
	}
	wantOutcome(t, s, IgnoredSource, 5)
	// The same address has succeeded before: a phone behind it that needs no challenge is not punished.
	wantStatus(t, good.register(deskPhone), 200)
}

// Anybody can fail in another's name over UDP. A phone that works keeps its service when its nonce is used up, too.
func TestSourceLimitSparesStaleNonces(t *testing.T) {
	t.Parallel()
	s := startServer(t, func(cfg *Config, _ *memoryRegistrar) {
		cfg.Limits.FailuresPerSecond, cfg.Limits.FailuresBurst = 0.001, 5
	})
	good := newPhone(t, s, "udp", "alice")
	wantStatus(t, good.register(deskPhone), 200)
	bad := newPhone(t, s, "udp", "mallory")
	for range 5 {
		wantStatus(t, bad.ask(""), 401)
	}
	bad.send(bad.text(""))
	wantOutcome(t, s, IgnoredSource, 1)
	for range 3 {
		good.count = 0 // the count was used: the nonce is as good as too old
		wantStatus(t, good.register(deskPhone), 200)
	}
	wantOutcome(t, s, RejectedStale, 3)
}

func TestSourceLimitShutsOutStrangers(t *testing.T) {
	t.Parallel()
	s := startServer(t, func(cfg *Config, _ *memoryRegistrar) {
		cfg.Limits.FailuresPerSecond, cfg.Limits.FailuresBurst = 0.001, 3
	})
	p := newPhone(t, s, "udp", "mallory")
	for range 3 {
		wantStatus(t, p.ask(""), 401)
	}
	p.send("garbage")
	p.send("garbage")
	wantOutcome(t, s, IgnoredSource, 2)
	wantOutcome(t, s, InvalidMalformed, 0)
}

func TestTrustedPeerIsNotLimited(t *testing.T) {
	t.Parallel()
	s := startServer(t, func(cfg *Config, _ *memoryRegistrar) {
		cfg.Limits.FailuresPerSecond, cfg.Limits.FailuresBurst = 0.001, 3
		cfg.Trusted = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}
	})
	p := newPhone(t, s, "udp", "alice")
	for range 20 {
		wantStatus(t, p.ask(""), 401)
	}
}

func TestMalformed(t *testing.T) {
	t.Parallel()
	s := startServer(t, nil)
	p := newPhone(t, s, "udp", "alice")
	p.send("this is not SIP\r\n\r\n")
	p.send("SIP/2.0 200 OK\r\nVia: SIP/2.0/UDP 192.0.2.1;branch=z9hG4bK1\r\nFrom: <sip:a@b.c>;tag=1\r\nTo: <sip:a@b.c>;tag=2\r\nCall-ID: 1\r\nCSeq: 1 REGISTER\r\n\r\n")
	p.method = "ACK"
	p.send(p.text(""))
	p.method, p.extra = "REGISTER", "Content-Length: 0\r\n" // twice
	wantStatus(t, p.ask(""), 400)
	want := map[Outcome]uint64{InvalidMalformed: 2, IgnoredResponse: 1, IgnoredAck: 1}
	for o, n := range want {
		wantOutcome(t, s, o, n)
	}
}

func TestUnknownMethod(t *testing.T) {
	t.Parallel()
	p := newPhone(t, startServer(t, nil), "udp", "alice")
	p.method = "FROBNICATE"
	wantStatus(t, p.ask(""), 501)
	p.method = "BYE"
	wantStatus(t, p.ask(""), 481)
}

func TestConfigErrors(t *testing.T) {
	t.Parallel()
	for name, cfg := range map[string]Config{
		"ErrNoDomain":  {},
		"ErrDomain":    {Domains: []string{"example.org:5060"}},
		"ErrDomainURI": {Domains: []string{"sip:example.org"}},
		"ErrRealm":     {Domains: []string{"example.org"}, Realms: map[string]string{"example.org": `a"b`}},
		"ErrNoListen":  {Domains: []string{"example.org"}},
	} {
		if _, err := New(t.Context(), cfg); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}
