package sip

import (
	"bytes"
	"context"
	"log/slog"
	"net/netip"
	"testing"
	"time"

	"sipha/registrard/sip/message"
	"sipha/registrard/sip/transport"
)

// collector is a Sender that keeps what is sent.
type collector struct{ sent chan []byte }

func (c *collector) Send(b []byte, _, _ netip.AddrPort) error {
	select {
	case c.sent <- bytes.Clone(b):
		return nil
	default:
		return transport.ErrQueueFull
	}
}

// FuzzHandle feeds the server any bytes as a datagram and as what a stream's framer has cut. Nothing may make it panic, every message has one
// Outcome, and what it answers is a response to the request that came.
func FuzzHandle(f *testing.F) {
	for _, method := range []string{"REGISTER", "OPTIONS", "INVITE", "CANCEL", "ACK", "FROBNICATE"} {
		f.Add([]byte(method + " sip:alice@example.org SIP/2.0\r\nVia: SIP/2.0/UDP 192.0.2.1;rport;branch=z9hG4bK1\r\nFrom: <sip:alice@example.org>;tag=1\r\n" +
			"To: <sip:alice@example.org>\r\nCall-ID: 1@192.0.2.1\r\nCSeq: 1 " + method + "\r\nContact: <sip:alice@192.0.2.1>;expires=600\r\n" +
			"Authorization: Digest username=\"alice\", realm=\"example.org\", nonce=\"x\", uri=\"sip:example.org\", response=\"" +
			"00000000000000000000000000000000\", cnonce=\"1\", qop=auth, nc=00000001\r\nContent-Length: 0\r\n\r\n"))
	}
	f.Add([]byte("SIP/2.0 200 OK\r\n\r\n"))
	f.Add([]byte("\x16\x03\x01"))

	m := newMemoryRegistrar()
	f.Cleanup(m.close)
	s, err := New(context.Background(), Config{
		Listen:  []transport.Address{{Protocol: transport.UDP, AddrPort: netip.MustParseAddrPort("127.0.0.1:0")}},
		Domains: []string{"example.org"}, Registrar: m, Log: slog.New(slog.DiscardHandler),
		Trusted: []netip.Prefix{netip.MustParsePrefix("192.0.2.1/32")},
	})
	if err != nil {
		f.Fatal(err)
	}
	s.startStack()
	f.Cleanup(func() {
		s.layer.quiesce(time.Second)
		s.stack.Shutdown()
		if err := s.transport.Close(context.Background()); err != nil {
			f.Error(err)
		}
	})
	c := &collector{sent: make(chan []byte, 64)}
	f.Fuzz(func(t *testing.T, data []byte) {
		before := s.Counters().Received()
		for _, p := range []transport.Packet{
			{Protocol: transport.UDP, Remote: netip.MustParseAddrPort("192.0.2.1:5060")}, // trusted
			{Protocol: transport.TCP, Remote: netip.MustParseAddrPort("192.0.2.2:5060")},
		} {
			p.Data, p.Sender, p.Local = bytes.Clone(data), c, netip.MustParseAddrPort("192.0.2.9:5060")
			s.Handle(&p)
		}
		var sum uint64
		s.Counters().EachOutcome(func(_, _ string, n uint64) { sum += n })
		if received := s.Counters().Received(); sum != received || received != before+2 {
			t.Errorf("%d were received, %d before, %d have an outcome", received, before, sum)
		}
		if s.Counters().Panics() > 0 {
			t.Fatal("a panic was caught")
		}
		for {
			select {
			case b := <-c.sent:
				checkAnswer(t, data, b)
				continue
			default:
			}
			break
		}
	})
}

// checkAnswer wants a response that a peer can read, as far as it is made of what the peer itself has sent well.
func checkAnswer(t *testing.T, request, b []byte) {
	t.Helper()
	if !bytes.HasPrefix(b, []byte("SIP/2.0 ")) || bytes.Index(b, []byte("\r\n\r\n")) != len(b)-4 || bytes.Count(b, []byte("\n")) != bytes.Count(b, []byte("\r\n")) {
		t.Errorf("answered with %q", b)
	}
	var m message.Message
	if m.Parse(bytes.Clone(request), message.Datagram) != nil {
		return
	}
	if err := m.Parse(b, message.Datagram); err != nil || !m.IsResponse() {
		t.Errorf("answered with %q: %v", b, err)
	}
}
