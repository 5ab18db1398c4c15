package transport

import (
	"bytes"
	"log/slog"
	"net"
	"net/netip"
	"testing"
	"time"
)

// scriptConn is a net.Conn that gives out its pieces, one a Read, and keeps what is written.
type scriptConn struct {
	net.Conn
	pieces [][]byte
}

func (c *scriptConn) Read(b []byte) (int, error) {
	if len(c.pieces) == 0 {
		return 0, net.ErrClosed
	}
	n := copy(b, c.pieces[0])
	if c.pieces[0] = c.pieces[0][n:]; len(c.pieces[0]) == 0 {
		c.pieces = c.pieces[1:]
	}
	return n, nil
}

func (c *scriptConn) Write(b []byte) (int, error)      { return len(b), nil }
func (c *scriptConn) Close() error                     { return nil }
func (c *scriptConn) SetReadDeadline(time.Time) error  { return nil }
func (c *scriptConn) SetWriteDeadline(time.Time) error { return nil }
func (c *scriptConn) LocalAddr() net.Addr {
	return net.TCPAddrFromAddrPort(netip.MustParseAddrPort("192.0.2.1:5060"))
}
func (c *scriptConn) RemoteAddr() net.Addr {
	return net.TCPAddrFromAddrPort(netip.MustParseAddrPort("192.0.2.2:5060"))
}

// FuzzStream reads the same bytes whole and in pieces: the messages must be the same, and none longer than the limit.
func FuzzStream(f *testing.F) {
	f.Add([]byte("A\r\nContent-Length: 5\r\n\r\nabcde\r\n\r\nB\r\n\r\n"), uint8(1))
	f.Add([]byte("\r\n\r\n\r\n\x16"), uint8(3))
	f.Add([]byte("A\r\nContent-Length: 4294967295\r\n\r\n"), uint8(7))
	f.Fuzz(func(t *testing.T, data []byte, size uint8) {
		whole := readScript(t, [][]byte{data})
		var pieces [][]byte
		for rest := data; len(rest) > 0; {
			n := min(len(rest), int(size)+1)
			pieces = append(pieces, rest[:n])
			rest = rest[n:]
		}
		if split := readScript(t, pieces); !bytes.Equal(bytes.Join(whole, []byte("|")), bytes.Join(split, []byte("|"))) {
			t.Errorf("whole %q, in pieces %q", whole, split)
		}
	})
}

func readScript(t *testing.T, pieces [][]byte) (messages [][]byte) {
	t.Helper()
	tr := &Transport{limits: Limits{MessageSizeMax: 4096}.WithDefaults(), frame: frame, log: slog.New(slog.DiscardHandler)}
	tr.table.init(tr.limits, nil)
	own := make([][]byte, len(pieces))
	copy(own, pieces)
	c := newTCPConn(tr, &scriptConn{pieces: own})
	if refused := tr.table.add(c); refused != nil {
		t.Fatal("refused")
	}
	c.read(handlerFunc(func(p *Packet) {
		if len(p.Data) > 4096 {
			t.Errorf("message of %d bytes", len(p.Data))
		}
		messages = append(messages, bytes.Clone(p.Data))
	}))
	tr.writers.Wait()
	if n := tr.table.len(); n != 0 {
		t.Errorf("%d connections are left", n)
	}
	return messages
}
