package transport

import (
	"context"
	"net"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"
)

func startTCP(t *testing.T, h Handler, limits Limits) (*Transport, netip.AddrPort) {
	t.Helper()
	tr := start(t, h, limits, "tcp:127.0.0.1:0")
	return tr, tr.Addresses()[0].AddrPort
}

func TestTCPFraming(t *testing.T) {
	t.Parallel()
	_, to := startTCP(t, echo, Limits{})
	const first, second = "A\r\nContent-Length: 5\r\n\r\nabcde", "B\r\n\r\n"
	t.Run("BytewiseIsOneMessage", func(t *testing.T) {
		c := dial(t, "tcp", to)
		for i := range first {
			send(t, c, first[i:i+1])
		}
		wantRead(t, c, "re:"+first)
	})
	t.Run("TwoInOneWrite", func(t *testing.T) {
		c := dial(t, "tcp", to)
		send(t, c, first+second+first)
		wantRead(t, c, "re:"+first+"re:"+second+"re:"+first)
	})
	t.Run("GrowsToTheLimit", func(t *testing.T) {
		c := dial(t, "tcp", to)
		long := "A\r\n" + strings.Repeat("x", 16<<10-len("A\r\n\r\n\r\n")) + "\r\n\r\n"
		send(t, c, long+second)
		wantRead(t, c, "re:"+long+"re:"+second)
	})
}

func TestTCPKeepAlive(t *testing.T) {
	t.Parallel()
	tr, to := startTCP(t, echo, Limits{})
	c := dial(t, "tcp", to)
	send(t, c, "\r\n\r\n")
	wantRead(t, c, "\r\n")
	send(t, c, "\r\nA\r\n\r\n\r\n") // a lone CRLF on each side of a message is no keep-alive
	wantRead(t, c, "re:A\r\n\r\n")
	send(t, c, "\r\n\r\n\r\n")
	wantRead(t, c, "\r\n\r\n")
	wantCount(t, tr, TCPKeepAlives, 3)
}

func TestTCPLimits(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name   string
		limits Limits
		send   string
		want   Counter
	}{
		{"ErrSlowMessage", Limits{MessageTimeout: 50 * time.Millisecond}, "REGISTER", TCPSlowMessage},
		{"ErrSlowBody", Limits{MessageTimeout: 50 * time.Millisecond}, "A\r\nContent-Length: 5\r\n\r\nab", TCPSlowMessage},
		{"ErrSilent", Limits{IdleTimeout: 50 * time.Millisecond}, "", TCPIdle},
		{"ErrSilentAfterMessage", Limits{IdleTimeout: 50 * time.Millisecond}, "A\r\n\r\n", TCPIdle},
		{"ErrSilentAfterKeepAlive", Limits{KeepAliveIdleTimeout: 50 * time.Millisecond}, "\r\n\r\n", TCPIdle},
		{"ErrOversizeHeaders", Limits{MessageSizeMax: 4096}, strings.Repeat("x", 5000), TCPOversize},
		{"ErrOversizeBody", Limits{MessageSizeMax: 4096}, "A\r\nContent-Length: 4294967295\r\n\r\n", TCPOversize},
		{"ErrUnframed", Limits{}, "\x16\x03\x01", TCPUnframed},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			tr, to := startTCP(t, echo, tt.limits)
			c := dial(t, "tcp", to)
			send(t, c, tt.send)
			wantClosed(t, c)
			wantCount(t, tr, tt.want, 1)
			wantCount(t, tr, TCPClosed, 1)
		})
	}
}

// A peer that sends a byte now and then must not hold a connection for longer than MessageTimeout.
func TestTCPTrickle(t *testing.T) {
	t.Parallel()
	tr, to := startTCP(t, echo, Limits{MessageTimeout: 200 * time.Millisecond})
	c := dial(t, "tcp", to)
	begin := time.Now()
	eventually(t, func() bool {
		_, err := c.Write([]byte("x"))
		return err != nil
	}, func() string { return "the connection is still open" })
	if took := time.Since(begin); took < 200*time.Millisecond {
		t.Errorf("closed after %v, before its time", took)
	}
	wantCount(t, tr, TCPSlowMessage, 1)
}

func TestTCPKeepAliveProlongs(t *testing.T) {
	t.Parallel()
	tr, to := startTCP(t, echo, Limits{IdleTimeout: 100 * time.Millisecond})
	quiet, alive := dial(t, "tcp", to), dial(t, "tcp", to)
	send(t, alive, "\r\n\r\n")
	wantRead(t, alive, "\r\n")
	wantClosed(t, quiet)
	send(t, alive, "A\r\n\r\n")
	wantRead(t, alive, "re:A\r\n\r\n")
	wantCount(t, tr, TCPIdle, 1)
}

func TestTCPConnectionLimits(t *testing.T) {
	t.Parallel()
	t.Run("PerSource", func(t *testing.T) {
		t.Parallel()
		tr, to := startTCP(t, echo, Limits{ConnectionsPerSourceMax: 2})
		a := dial(t, "tcp", to)
		dial(t, "tcp", to)
		eventually(t, func() bool { return tr.Connections() == 2 }, func() string { return "not connected" })
		wantClosed(t, dial(t, "tcp", to))
		wantCount(t, tr, TCPRefusedSource, 1)
		other := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, 9)}}
		c, err := other.DialContext(t.Context(), "tcp", to.String())
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = c.Close() }()
		send(t, c, "A\r\n\r\n")
		wantRead(t, c, "re:A\r\n\r\n")
		_ = a.Close()
		eventually(t, func() bool { return tr.Connections() == 2 }, func() string { return "a closed connection is still counted" })
		again := dial(t, "tcp", to)
		send(t, again, "A\r\n\r\n")
		wantRead(t, again, "re:A\r\n\r\n")
	})
	t.Run("InAll", func(t *testing.T) {
		t.Parallel()
		tr, to := startTCP(t, echo, Limits{ConnectionsMax: 1})
		dial(t, "tcp", to)
		eventually(t, func() bool { return tr.Connections() == 1 }, func() string { return "not connected" })
		wantClosed(t, dial(t, "tcp", to))
		wantCount(t, tr, TCPRefusedLimit, 1)
	})
	t.Run("TrustedAreFree", func(t *testing.T) {
		t.Parallel()
		tr := open(t, Limits{ConnectionsPerSourceMax: 1}, "tcp:127.0.0.1:0")
		tr.table.trusted = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}
		tr.Start(echo)
		for range 3 {
			c := dial(t, "tcp", tr.Addresses()[0].AddrPort)
			send(t, c, "A\r\n\r\n")
			wantRead(t, c, "re:A\r\n\r\n")
		}
	})
}

// A peer that does not read its responses is closed instead of holding memory, and holds up nobody.
func TestTCPSlowPeer(t *testing.T) {
	t.Parallel()
	tr, to := startTCP(t, handlerFunc(func(p *Packet) {
		_ = p.Sender.Send(make([]byte, 8<<10), p.Local, p.Remote)
	}), Limits{})
	c := dial(t, "tcp", to)
	eventually(t, func() bool {
		_, err := c.Write([]byte("A\r\n\r\n"))
		return err != nil
	}, func() string { return "the connection is still open" })
	wantCount(t, tr, TCPSlowPeer, 1)
	wantCount(t, tr, TCPClosed, 1)
}

// Answers come from other goroutines than the reader, and after it.
func TestTCPAnswersLater(t *testing.T) {
	t.Parallel()
	var wg sync.WaitGroup
	release := make(chan struct{})
	_, to := startTCP(t, handlerFunc(func(p *Packet) {
		sender, local, remote := p.Sender, p.Local, p.Remote
		wg.Go(func() {
			<-release
			_ = sender.Send([]byte("x"), local, remote)
		})
	}), Limits{})
	c := dial(t, "tcp", to)
	send(t, c, strings.Repeat("A\r\n\r\n", 100))
	close(release)
	wantRead(t, c, strings.Repeat("x", 100))
	wg.Wait()
}

// Close gives up on a peer that does not read, when its deadline comes.
func TestCloseHasADeadline(t *testing.T) {
	t.Parallel()
	const answer = 48 << 10
	asked := make(chan Packet, 1)
	tr := open(t, Limits{}, "tcp:127.0.0.1:0")
	tr.Start(handlerFunc(func(p *Packet) { asked <- *p }))
	c := dial(t, "tcp", tr.Addresses()[0].AddrPort)
	send(t, c, "A\r\n\r\n")
	p := <-asked
	// Fill the kernel's buffers until the writer stands still.
	stuck := func() bool {
		conn := p.Sender.(*tcpConn)
		conn.mu.Lock()
		defer conn.mu.Unlock()
		return len(conn.pending) > 0
	}
	eventually(t, func() bool {
		if !stuck() {
			_ = p.Sender.Send(make([]byte, answer), p.Local, p.Remote)
			return false
		}
		before := tr.Counters().Value(TCPSent)
		time.Sleep(20 * time.Millisecond) // stuck is a state that lasts, not one that passes
		return stuck() && before == tr.Counters().Value(TCPSent)
	}, func() string { return "the kernel takes everything" })
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if err := tr.Close(ctx); err == nil {
		t.Error("close reports nothing left unsent")
	}
}
