package sip

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"sipha/registrard/location"
)

func trusting(cfg *Config, _ *memoryRegistrar) {
	cfg.Trusted = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}
}

// caller is a phone that sends another request than REGISTER to somebody.
func caller(t testing.TB, s *testServer, network, method, callee string) *phone {
	p := newPhone(t, s, network, "bob")
	p.method, p.uri = method, "sip:"+callee+"@example.org"
	p.to, p.from = p.uri, "sip:bob@example.org"
	return p
}

func (p *phone) ack(r *response) {
	ack := *p
	ack.method = "ACK"
	text := ack.text("")
	to := "To: <" + p.to + ">"
	p.send(strings.Replace(text, to, "To: "+r.get("To"), 1))
}

func TestInvite(t *testing.T) {
	t.Parallel()
	networks(t, func(t *testing.T, network string) {
		s := startServer(t, trusting)
		alice := newPhone(t, s, "udp", "alice")
		wantStatus(t, alice.register("<sip:alice@192.0.2.10>;q=0.2", "<sip:alice@192.0.2.11>", "<sip:alice@192.0.2.12;transport=tcp>;q=0.7"), 200)
		p := caller(t, s, network, "INVITE", "alice")
		p.branch = "z9hG4bKinvite"
		r := p.ask("")
		wantStatus(t, r, 302)
		var got []string
		for _, c := range r.all("Contact") {
			uri, _, _ := strings.Cut(c, ">")
			got = append(got, uri)
		}
		if want := "<sip:alice@192.0.2.11 <sip:alice@192.0.2.12;transport=tcp <sip:alice@192.0.2.10"; strings.Join(got, " ") != want {
			t.Errorf("contacts %q, want %q", got, want)
		}
		if network == "udp" {
			again := p.final() // timer G, until the ACK
			if again.text != r.text {
				t.Errorf("the repeated response differs:\n%s\n%s", r.text, again.text)
			}
		}
		p.ack(r)
		wantOutcome(t, s, AcceptedAck, 1)
		if n := s.Transactions(); n != 1 {
			t.Errorf("%d transactions, want 1", n)
		}
	})
}

func TestRedirectStatuses(t *testing.T) {
	t.Parallel()
	s := startServer(t, trusting)
	alice := newPhone(t, s, "udp", "alice")
	wantStatus(t, alice.register(deskPhone), 200)
	tests := []struct {
		name, method, uri string
		want              int
	}{
		{"InviteRegistered", "INVITE", "sip:alice@example.org", 302},
		{"InviteWithEscapes", "INVITE", "sip:%61lice@EXAMPLE.org;user=phone", 302},
		{"MessageRegistered", "MESSAGE", "sip:alice@example.org", 302},
		{"SubscribeRegistered", "SUBSCRIBE", "sip:alice@example.org", 302},
		{"OptionsRegistered", "OPTIONS", "sip:alice@example.org", 302},
		{"ErrNotRegistered", "INVITE", "sip:bob@example.org", 480},
		{"ErrUnknownUser", "INVITE", "sip:nobody@example.org", 404},
		{"ErrUnknownDomain", "INVITE", "sip:alice@example.com", 404},
		{"ErrScheme", "INVITE", "tel:+4930123456", 416},
		{"ErrNoUser", "INVITE", "sip:example.org", 405},
		{"ErrNoDialog", "BYE", "sip:alice@example.org", 481},
		{"ErrCancelOfNothing", "CANCEL", "sip:alice@example.org", 481},
		{"ErrUnknownMethod", "FROBNICATE", "sip:alice@example.org", 501},
		{"OptionsDomain", "OPTIONS", "sip:example.org", 200},
		{"OptionsAddress", "OPTIONS", "sip:127.0.0.1:5060", 200},
		{"ErrOptionsElsewhere", "OPTIONS", "sip:192.0.2.99", 404},
	}
	for _, network := range []string{"udp", "tcp"} {
		for _, tt := range tests {
			t.Run(network+"/"+tt.name, func(t *testing.T) {
				p := caller(t, s, network, tt.method, "alice")
				p.uri = tt.uri
				r := p.ask("")
				wantStatus(t, r, tt.want)
				if tt.method == "INVITE" {
					p.ack(r)
				}
				if tt.want == 405 && r.get("Allow") == "" {
					t.Error("no Allow")
				}
				if tt.name == "OptionsDomain" {
					for _, name := range []string{"Allow", "Accept", "Supported"} {
						if r.get(name) == "" {
							t.Errorf("no %s", name)
						}
					}
				}
			})
		}
	}
}

// A peer that is not trusted must authenticate, and gets the same challenge for every address until then.
func TestLookupNeedsTrustOrCredentials(t *testing.T) {
	t.Parallel()
	s := startServer(t, nil)
	alice := newPhone(t, s, "udp", "alice")
	wantStatus(t, alice.register(deskPhone), 200)
	for _, callee := range []string{"alice", "bob", "nobody"} {
		p := caller(t, s, "udp", "INVITE", callee)
		r := p.ask("")
		wantStatus(t, r, 401)
		p.ack(r)
		p.challenged(r)
		r = p.ask(p.credentials("bob", "wrong"))
		wantStatus(t, r, 401)
		p.challenged(r)
		r = p.ask(p.credentials("bob", password("bob")))
		want := map[string]int{"alice": 302, "bob": 480, "nobody": 404}[callee]
		wantStatus(t, r, want)
		p.ack(r)
	}
	wantOutcome(t, s, AcceptedTransaction, 3)
}

func TestCancel(t *testing.T) {
	t.Parallel()
	networks(t, func(t *testing.T, network string) {
		release := make(chan struct{})
		s := startServer(t, func(cfg *Config, m *memoryRegistrar) {
			trusting(cfg, m)
			m.requests <- func() { <-release } // lookups wait
		})
		p := caller(t, s, network, "INVITE", "alice")
		p.branch = "z9hG4bKtobecancelled"
		p.cseq++
		p.send(p.text(""))
		wantStatus(t, p.read(), 100) // since the answer takes its time
		cancel := *p
		cancel.method = "CANCEL"
		cancel.send(cancel.text(""))
		statuses := map[int]string{}
		for len(statuses) < 2 {
			r := p.final()
			statuses[r.status] = r.get("To")
			if r.status == 487 {
				p.ack(r)
			}
		}
		if statuses[200] == "" || statuses[487] == "" || statuses[200] != statuses[487] {
			t.Errorf("answers %v, want 200 and 487 with one To", statuses)
		}
		// Now the transaction has its final response: a CANCEL changes nothing, but is answered.
		cancel.send(cancel.text(""))
		for r := p.final(); r.status != 200; r = p.final() {
			p.ack(r)
		}
		close(release)
	})
}

func TestTransactionLimit(t *testing.T) {
	t.Parallel()
	s := startServer(t, func(cfg *Config, m *memoryRegistrar) {
		trusting(cfg, m)
		cfg.Limits.TransactionsMax = 2
	})
	p := caller(t, s, "udp", "MESSAGE", "nobody")
	for range 2 {
		wantStatus(t, p.ask(""), 404)
	}
	r := p.ask("")
	wantStatus(t, r, 503)
	if r.get("Retry-After") == "" {
		t.Error("no Retry-After")
	}
	wantOutcome(t, s, RejectedBusy, 1)
	p.method = "OPTIONS"
	p.uri = "sip:example.org"
	wantStatus(t, p.ask(""), 200) // a health check needs no transaction
}

// Bindings that fit into no response leave nobody waiting, and no transaction behind.
func TestResponseTooLarge(t *testing.T) {
	t.Parallel()
	networks(t, func(t *testing.T, network string) {
		s := startServer(t, trusting)
		m := s.registrar
		change := &location.BindingsChange{AOR: testUserAOR}
		for i := range location.BindingsMax {
			change.Put = append(change.Put, location.Binding{
				Contact: fmt.Sprintf("sip:%d@192.0.2.1", i), Params: ";x=" + strings.Repeat("a", 1024), Q: -1, Expires: m.now() + 60_000,
			})
		}
		m.mu.Lock()
		m.state.Apply(m.now(), []location.Change{change})
		m.mu.Unlock()
		for _, method := range []string{"INVITE", "MESSAGE"} {
			p := caller(t, s, network, method, "alice")
			p.branch = "z9hG4bK" + method
			r := p.ask("")
			wantStatus(t, r, 500)
			if r.get("Contact") != "" || r.get("To") == "" {
				t.Errorf("answer %q", r.text)
			}
			if method == "INVITE" {
				p.ack(r)
				wantOutcome(t, s, AcceptedAck, 1)
			}
		}
		wantStatus(t, newPhone(t, s, network, "alice").register(), 500)
	})
}

// A retransmission gets the first answer and no transaction of its own.
func TestRetransmittedRequest(t *testing.T) {
	t.Parallel()
	for name, branch := range map[string]string{"Branch": "z9hG4bKsame", "RFC2543": "1"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := startServer(t, trusting)
			p := caller(t, s, "udp", "MESSAGE", "bob")
			p.branch = branch
			p.cseq++
			p.send(p.text(""))
			first := p.wantNext(480)
			p.send(p.text(""))
			if again := p.wantNext(480); again.text != first.text {
				t.Errorf("answers differ:\n%s\n%s", first.text, again.text)
			}
			wantOutcome(t, s, AcceptedTransaction, 1)
		})
	}
}

// Over a reliable transport a transaction other than INVITE ends with its response.
func TestTransactionEndsOverTCP(t *testing.T) {
	t.Parallel()
	s := startServer(t, trusting)
	p := caller(t, s, "tcp", "MESSAGE", "bob")
	for range 10 {
		wantStatus(t, p.ask(""), 480)
	}
	eventually(t, "the transactions end", func() bool { return s.Transactions() == 0 })
}

func TestLookupFails(t *testing.T) {
	t.Parallel()
	block := make(chan struct{})
	s := startServer(t, func(cfg *Config, m *memoryRegistrar) {
		trusting(cfg, m)
		cfg.Limits.AnswerTimeout = time.Millisecond
		m.requests <- func() { <-block }
	})
	p := caller(t, s, "udp", "INVITE", "bob")
	r := p.ask("")
	wantStatus(t, r, 503)
	p.ack(r)
	close(block)
}

func TestPanicIsCaught(t *testing.T) {
	t.Parallel()
	s := startServer(t, func(cfg *Config, m *memoryRegistrar) {
		trusting(cfg, m)
		cfg.Registrar = panicking{m}
	})
	p := caller(t, s, "udp", "MESSAGE", "bob")
	p.cseq++
	p.send(p.text(""))
	eventually(t, "the panic is counted", func() bool { return s.Counters().Panics() == 1 })
	p.method, p.uri = "OPTIONS", "sip:example.org"
	wantStatus(t, p.ask(""), 200)
	s.Counters().panics.Store(0) // it was wanted
}

// panicking panics on lookups.
type panicking struct{ *memoryRegistrar }

func (panicking) Lookup(aor location.AOR, _ func(location.Lookup, error)) {
	panic(fmt.Sprintf("no lookup of %s", aor))
}

func TestSweepFreesWhatNeverStarted(t *testing.T) {
	t.Parallel()
	tx := newTransactions(1)
	if a := tx.begin("a", nil, 0); a != admitted {
		t.Fatal(a)
	}
	tx.sweep(unstartedMax)
	if a := tx.begin("b", nil, 0); a != refused {
		t.Errorf("got %v, want refused: its time is not over", a)
	}
	tx.sweep(unstartedMax + 1)
	if a := tx.begin("b", nil, 0); a != admitted {
		t.Fatalf("got %v, want admitted", a)
	}
	tx.start("b", nil, 0)
	tx.sweep(time.Hour)
	if n := tx.len(); n != 1 {
		t.Errorf("%d places, want 1: a living transaction keeps its own", n)
	}
}
