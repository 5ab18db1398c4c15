package transport

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
)

const testDeadline = 10 * time.Second

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// frame is a Framer for tests: a header section that ends with an empty line, and a body as long as "Content-Length: " says.
func frame(b []byte) (int, error) {
	if b[0] == 0x16 {
		return 0, errors.New("not SIP")
	}
	end := bytes.Index(b, []byte("\r\n\r\n"))
	if end < 0 {
		return 0, nil
	}
	size := end + 4
	if _, after, ok := bytes.Cut(b[:end], []byte("Content-Length: ")); ok {
		digits, _, _ := bytes.Cut(after, []byte("\r\n"))
		n, err := strconv.Atoi(string(digits))
		if err != nil {
			return 0, err
		}
		size += n
	}
	return size, nil
}

// handlerFunc adapts a function.
type handlerFunc func(*Packet)

func (f handlerFunc) Handle(p *Packet) { f(p) }

// echo answers every message with "re:" and the message.
var echo = handlerFunc(func(p *Packet) { _ = p.Sender.Send(append([]byte("re:"), p.Data...), p.Local, p.Remote) })

func address(t *testing.T, s string) Address {
	t.Helper()
	a, err := ParseAddress(s)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// start listens, handles with h and closes at the end of the test.
func start(t *testing.T, h Handler, limits Limits, listen ...string) *Transport {
	t.Helper()
	tr := open(t, limits, listen...)
	tr.Start(h)
	return tr
}

func open(t *testing.T, limits Limits, listen ...string) *Transport {
	t.Helper()
	cfg := Config{Limits: limits, Frame: frame, Log: slog.New(slog.DiscardHandler)}
	for _, s := range listen {
		cfg.Addresses = append(cfg.Addresses, address(t, s))
	}
	tr, err := Listen(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), testDeadline)
		defer cancel()
		if err := tr.Close(ctx); err != nil {
			t.Error(err)
		}
	})
	return tr
}

func dial(t *testing.T, network string, to netip.AddrPort) net.Conn {
	t.Helper()
	c, err := net.Dial(network, to.String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	if err := c.SetDeadline(time.Now().Add(testDeadline)); err != nil {
		t.Fatal(err)
	}
	return c
}

func send(t *testing.T, c net.Conn, s string) {
	t.Helper()
	if _, err := c.Write([]byte(s)); err != nil {
		t.Fatal(err)
	}
}

func wantRead(t *testing.T, c net.Conn, want string) {
	t.Helper()
	b := make([]byte, len(want)+1)
	var n int
	var err error
	if _, ok := c.(*net.UDPConn); ok {
		n, err = c.Read(b)
	} else {
		n, err = io.ReadFull(c, b[:len(want)])
	}
	if err != nil || string(b[:n]) != want {
		t.Fatalf("read %q, %v, want %q", b[:n], err, want)
	}
}

// wantClosed reads until the peer has closed.
func wantClosed(t *testing.T, c net.Conn) {
	t.Helper()
	_, err := io.Copy(io.Discard, c)
	var nerr net.Error
	if errors.As(err, &nerr) && nerr.Timeout() {
		t.Fatal("connection is still open")
	}
}

func wantCount(t *testing.T, tr *Transport, name Counter, want uint64) {
	t.Helper()
	eventually(t, func() bool { return tr.Counters().Value(name) == want }, func() string {
		return name.String() + " is " + strconv.FormatUint(tr.Counters().Value(name), 10) + ", want " + strconv.FormatUint(want, 10)
	})
}

func eventually(t *testing.T, ok func() bool, complaint func() string) {
	t.Helper()
	for end := time.Now().Add(testDeadline); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal(complaint())
		}
	}
}

func TestParseAddress(t *testing.T) {
	t.Parallel()
	tests := []struct{ in, want string }{
		{"udp:0.0.0.0:5060", "udp:0.0.0.0:5060"},
		{"TCP:[::]:5060", "tcp:[::]:5060"},
		{"udp:[::ffff:192.0.2.1]:5060", "udp:192.0.2.1:5060"},
		{"udp:example.org:5060", ""},
		{"sctp:0.0.0.0:5060", ""},
		{"udp:0.0.0.0", ""},
		{"5060", ""},
		{"", ""},
	}
	for _, tt := range tests {
		got, err := ParseAddress(tt.in)
		if tt.want == "" {
			if err == nil {
				t.Errorf("ParseAddress(%q) = %v, want an error", tt.in, got)
			}
			continue
		}
		if err != nil || got.String() != tt.want {
			t.Errorf("ParseAddress(%q) = %v, %v, want %v", tt.in, got, err, tt.want)
		}
	}
}

func TestUDPAnswersFromTheAddressAsked(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	var locals []netip.AddrPort
	tr := start(t, handlerFunc(func(p *Packet) {
		mu.Lock()
		locals = append(locals, p.Local)
		mu.Unlock()
		echo(p)
	}), Limits{}, "udp:0.0.0.0:0")
	port := tr.Addresses()[0].AddrPort.Port()
	for _, to := range []string{"127.0.0.1", "127.0.0.2", "127.1.2.3"} {
		ap := netip.AddrPortFrom(netip.MustParseAddr(to), port)
		c := dial(t, "udp", ap) // a connected socket takes answers from that address alone
		send(t, c, "hello "+to)
		wantRead(t, c, "re:hello "+to)
		mu.Lock()
		if last := locals[len(locals)-1]; last != ap {
			t.Errorf("local address %v, want %v", last, ap)
		}
		mu.Unlock()
	}
	wantCount(t, tr, UDPSent, 3)
}

func TestUDP6(t *testing.T) {
	t.Parallel()
	if l, err := net.ListenPacket("udp6", "[::1]:0"); err != nil {
		t.Skip("no IPv6 here:", err)
	} else {
		_ = l.Close()
	}
	tr := start(t, echo, Limits{}, "udp:[::]:0", "udp:[::1]:0", "tcp:[::1]:0")
	for i, a := range tr.Addresses() {
		to := netip.AddrPortFrom(netip.IPv6Loopback(), a.AddrPort.Port())
		c := dial(t, a.Protocol.String(), to)
		send(t, c, "hello\r\n\r\n")
		wantRead(t, c, "re:hello\r\n\r\n")
		_ = i
	}
}

func TestListenAtAnAddressThatIsNotThereYet(t *testing.T) {
	t.Parallel()
	open(t, Limits{}, "udp:192.0.2.77:0", "tcp:192.0.2.77:0")
}

func TestUDPDropsWhatIsNoMessage(t *testing.T) {
	t.Parallel()
	sizes := make(chan int, 8)
	tr := start(t, handlerFunc(func(p *Packet) { sizes <- len(p.Data) }), Limits{MessageSizeMax: 4096}, "udp:127.0.0.1:0")
	c := dial(t, "udp", tr.Addresses()[0].AddrPort)
	send(t, c, strings.Repeat("x", 4097))
	send(t, c, "\r\n\r\n")
	send(t, c, "\x00")
	send(t, c, strings.Repeat("x", 4096))
	send(t, c, "\r\nabc")
	if a, b := <-sizes, <-sizes; a+b != 4096+3 {
		t.Errorf("sizes %d and %d, want 4096 and 3", a, b)
	}
	wantCount(t, tr, UDPReceived, 5)
	wantCount(t, tr, UDPOversize, 1)
	wantCount(t, tr, UDPKeepAlives, 2)
}

func TestUDPQueueIsBounded(t *testing.T) {
	t.Parallel()
	tr := open(t, Limits{UDPQueueMax: 2}, "udp:127.0.0.1:0") // not started: nothing is written
	s := tr.udp[0]
	to := netip.MustParseAddrPort("127.0.0.1:9")
	for range 2 {
		if err := s.Send([]byte("x"), s.bound, to); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Send([]byte("x"), s.bound, to); !errors.Is(err, ErrQueueFull) {
		t.Errorf("third send: %v, want %v", err, ErrQueueFull)
	}
	wantCount(t, tr, UDPQueueDropped, 1)
}

func TestUDPSendErrorSparesTheRest(t *testing.T) {
	t.Parallel()
	tr := start(t, echo, Limits{}, "udp:0.0.0.0:0")
	s := tr.udp[0]
	peer, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = peer.Close() }()
	if err := peer.SetDeadline(time.Now().Add(testDeadline)); err != nil {
		t.Fatal(err)
	}
	to := localAddr(peer.LocalAddr())
	gone := netip.MustParseAddrPort("192.0.2.55:5060") // an address of ours that has moved to another node
	for range 3 {
		if err := s.Send([]byte("lost"), gone, to); err != nil {
			t.Fatal(err)
		}
		if err := s.Send([]byte("kept"), netip.MustParseAddrPort("127.0.0.1:5060"), to); err != nil {
			t.Fatal(err)
		}
	}
	for range 3 {
		b := make([]byte, 16)
		n, err := peer.Read(b)
		if err != nil || string(b[:n]) != "kept" {
			t.Fatalf("read %q, %v", b[:n], err)
		}
	}
	wantCount(t, tr, UDPSendErrors, 3)
}

func TestKernelDropsAreCounted(t *testing.T) {
	t.Parallel()
	release := make(chan struct{})
	tr := start(t, handlerFunc(func(*Packet) { <-release }), Limits{UDPReceiveBuffer: 1}, "udp:127.0.0.1:0")
	c := dial(t, "udp", tr.Addresses()[0].AddrPort)
	for range 1000 {
		send(t, c, strings.Repeat("x", 1000))
	}
	close(release)
	eventually(t, func() bool {
		send(t, c, "one more") // the count travels with the next datagram
		return tr.Counters().Value(UDPKernelDropped) > 0
	}, func() string { return "no drop was counted" })
}

func TestPortInUse(t *testing.T) {
	t.Parallel()
	for _, protocol := range []string{"udp", "tcp"} {
		first := open(t, Limits{}, protocol+":127.0.0.1:0")
		a := first.Addresses()[0]
		_, err := Listen(t.Context(), Config{Addresses: []Address{a}, Frame: frame, Log: slog.New(slog.DiscardHandler)})
		if err == nil {
			t.Fatalf("%s: a second listener at the same port was opened", protocol)
		}
		for _, want := range []string{a.String(), "another program", "ss -ln", "[sip] listen"} {
			if !strings.Contains(err.Error(), want) {
				t.Errorf("%s: error %q does not mention %q", protocol, err, want)
			}
		}
	}
}

func TestListenOpensAllOrNothing(t *testing.T) {
	t.Parallel()
	taken := open(t, Limits{}, "tcp:127.0.0.1:0").Addresses()[0]
	free := open(t, Limits{}, "udp:127.0.0.1:0")
	a := free.Addresses()[0]
	if err := free.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	cfg := Config{Addresses: []Address{a, taken}, Frame: frame, Log: slog.New(slog.DiscardHandler)}
	if _, err := Listen(t.Context(), cfg); err == nil {
		t.Fatal("listened at a port in use")
	}
	l, err := net.ListenPacket("udp4", a.AddrPort.String())
	if err != nil {
		t.Fatalf("the first socket was left open: %v", err)
	}
	_ = l.Close()
}

func TestCloseSendsWhatIsQueued(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	var kept []Packet
	tr := start(t, handlerFunc(func(p *Packet) {
		mu.Lock()
		defer mu.Unlock()
		kept = append(kept, *p)
	}), Limits{}, "udp:127.0.0.1:0", "tcp:127.0.0.1:0")
	u := dial(t, "udp", tr.Addresses()[0].AddrPort)
	c := dial(t, "tcp", tr.Addresses()[1].AddrPort)
	send(t, u, "one")
	send(t, c, "two\r\n\r\n")
	eventually(t, func() bool { mu.Lock(); defer mu.Unlock(); return len(kept) == 2 }, func() string { return "messages did not arrive" })
	tr.StopReceiving()
	send(t, u, "three") // is not read any more
	for _, p := range kept {
		if err := p.Sender.Send([]byte("late answer"), p.Local, p.Remote); err != nil {
			t.Fatal(err)
		}
	}
	if err := tr.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	wantRead(t, u, "late answer")
	wantRead(t, c, "late answer")
	wantClosed(t, c)
	for _, p := range kept {
		if err := p.Sender.Send([]byte("too late"), p.Local, p.Remote); !errors.Is(err, ErrClosed) {
			t.Errorf("send after close: %v, want %v", err, ErrClosed)
		}
	}
	if len(kept) != 2 {
		t.Errorf("%d messages were handled, want 2", len(kept))
	}
}
