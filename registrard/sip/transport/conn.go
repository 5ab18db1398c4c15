package transport

import (
	"errors"
	"net"
	"net/netip"
	"os"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// tcpBufferMin is what an idle connection holds; it grows to the size of a message when one comes.
	tcpBufferMin = 2 << 10
	pong         = "\r\n"
	// pongsPerReadMax is how many keep-alives that came at once are answered: who waits for each sends them one by one.
	pongsPerReadMax = 4
)

var longAgo = time.Unix(1, 0)

// tcpConn is one connection. One goroutine reads it and calls the Handler; another runs only while something is to be written.
type tcpConn struct {
	t             *Transport
	conn          net.Conn
	local, remote netip.AddrPort
	source        netip.Addr
	stopping      atomic.Bool

	mu        sync.Mutex
	pending   []byte // not yet written
	writing   bool   // a writer runs
	finishing bool   // closes once nothing is pending
	closed    bool
}

func newTCPConn(t *Transport, nc net.Conn) *tcpConn {
	c := &tcpConn{t: t, conn: nc, local: localAddr(nc.LocalAddr()), remote: localAddr(nc.RemoteAddr())}
	c.source = source(c.remote.Addr())
	return c
}

// stopReceiving ends the reader; what was read can still be answered.
func (c *tcpConn) stopReceiving() {
	c.stopping.Store(true)
	_ = c.conn.SetReadDeadline(longAgo) // fails only on a closed connection
}

// close ends the connection at once; it may be called twice.
func (c *tcpConn) close() {
	c.mu.Lock()
	already := c.closed
	c.closed = true
	c.pending = nil
	c.mu.Unlock()
	if already {
		return
	}
	_ = c.conn.Close() // the peer learns of it or not; we are done with it
	c.t.table.remove(c)
	c.t.counters.add(TCPClosed, 1)
}

// finish takes no more to send, and closes the connection when nothing is left to write.
func (c *tcpConn) finish() {
	c.mu.Lock()
	c.finishing = true
	writing := c.writing
	c.mu.Unlock()
	if !writing {
		c.close()
	}
}

// read runs until the connection ends or reading is to stop. It closes the connection in the first case only.
func (c *tcpConn) read(h Handler) {
	r := streamReader{c: c, handler: h, buf: make([]byte, tcpBufferMin), idle: c.t.limits.IdleTimeout, since: time.Now()}
	reason := r.run()
	if c.stopping.Load() {
		return
	}
	if reason != nil {
		c.t.counters.add(*reason, 1)
	}
	c.close()
}

// streamReader cuts what comes on a connection into messages.
type streamReader struct {
	c       *tcpConn
	handler Handler
	buf     []byte
	n       int           // bytes in buf
	idle    time.Duration // how long nothing may come
	since   time.Time     // when the last message or keep-alive ended, or when the first byte of the next one came
	partial bool          // buf holds the beginning of a message
	fresh   bool          // keep-alive state: a CRLF was seen and waits for its second
	pongs   int           // sent for what the last read brought
}

// run returns the counter of what ended the stream, or nil for an ordinary end.
func (r *streamReader) run() *Counter {
	limits := &r.c.t.limits
	for {
		deadline := r.since.Add(r.idle)
		if r.partial {
			deadline = r.since.Add(limits.MessageTimeout)
		}
		_ = r.c.conn.SetReadDeadline(deadline) // fails only on a closed connection, as the read then does
		if r.c.stopping.Load() {               // checked after the deadline was set, so that stopReceiving cannot be overwritten unseen
			return nil
		}
		if r.n == len(r.buf) {
			r.grow(limits.MessageSizeMax)
		}
		k, err := r.c.conn.Read(r.buf[r.n:])
		r.n += k
		if k > 0 {
			if reason := r.take(); reason != nil {
				return reason
			}
		}
		if err != nil {
			return r.ended(err)
		}
	}
}

func (r *streamReader) ended(err error) *Counter {
	if !errors.Is(err, os.ErrDeadlineExceeded) {
		return nil
	}
	reason := TCPIdle
	if r.partial {
		reason = TCPSlowMessage
	}
	return &reason
}

// take handles every complete message in the buffer.
func (r *streamReader) take() *Counter {
	limits := &r.c.t.limits
	r.pongs = 0
	used := 0
	for {
		used += r.keepAlives(r.buf[used:r.n])
		rest := r.buf[used:r.n]
		if len(rest) == 0 {
			break
		}
		size, err := r.c.t.frame(rest)
		if reason := judge(size, len(rest), err, limits.MessageSizeMax); reason != nil {
			return reason
		}
		if size == 0 || size > len(rest) {
			break
		}
		r.c.t.counters.add(TCPReceived, 1)
		r.handler.Handle(&Packet{Data: rest[:size:size], Protocol: TCP, Local: r.c.local, Remote: r.c.remote, Sender: r.c})
		used += size
		r.since, r.partial = time.Now(), false
	}
	r.n = copy(r.buf, r.buf[used:r.n])
	if r.n > 0 && !r.partial {
		r.since, r.partial = time.Now(), true
	}
	if r.n == 0 && len(r.buf) > tcpBufferMin {
		r.buf = make([]byte, tcpBufferMin)
	}
	return nil
}

func judge(size, have int, err error, sizeMax int) *Counter {
	reason := TCPUnframed
	switch {
	case err != nil:
	case size > sizeMax, size <= 0 && have >= sizeMax:
		reason = TCPOversize
	default:
		return nil
	}
	return &reason
}

// keepAlives skips CR and LF before a message and answers each double CRLF with one (RFC 5626 section 4.4.1). It returns what it skipped.
func (r *streamReader) keepAlives(b []byte) int {
	i := 0
	for i < len(b) && (b[i] == '\r' || b[i] == '\n') {
		if b[i] == '\n' {
			if r.fresh {
				r.c.t.counters.add(TCPKeepAlives, 1)
				r.idle = r.c.t.limits.KeepAliveIdleTimeout
				if r.pongs++; r.pongs <= pongsPerReadMax {
					_ = r.c.Send([]byte(pong), r.c.local, r.c.remote) // a connection that cannot take two bytes closes itself
				}
			}
			r.fresh = !r.fresh
			r.since = time.Now()
		}
		i++
	}
	if i < len(b) {
		r.fresh = false
	}
	return i
}

func (r *streamReader) grow(sizeMax int) {
	size := min(2*len(r.buf), sizeMax)
	if size <= len(r.buf) {
		size = len(r.buf) + 1 // cannot happen: a full buffer of the largest size was judged
	}
	b := make([]byte, size)
	copy(b, r.buf[:r.n])
	r.buf = b
}

// Send implements Sender.
func (c *tcpConn) Send(b []byte, _, _ netip.AddrPort) error {
	c.mu.Lock()
	if c.closed || c.finishing {
		c.mu.Unlock()
		return ErrClosed
	}
	if len(c.pending)+len(b) > c.t.limits.PendingOutputMax {
		c.mu.Unlock()
		c.t.counters.add(TCPSlowPeer, 1)
		c.close()
		return ErrQueueFull
	}
	c.pending = append(c.pending, b...)
	start := !c.writing
	if start {
		c.writing = true
		c.t.writers.Add(1)
	}
	c.mu.Unlock()
	c.t.counters.add(TCPSent, 1)
	if start {
		go func() {
			defer c.t.writers.Done()
			c.write()
		}()
	}
	return nil
}

// write runs until nothing is pending.
func (c *tcpConn) write() {
	var out []byte
	for {
		c.mu.Lock()
		if len(c.pending) == 0 || c.closed {
			c.writing = false
			c.pending = nil
			finishing := c.finishing
			c.mu.Unlock()
			if finishing {
				c.close()
			}
			return
		}
		out, c.pending = c.pending, out[:0]
		c.mu.Unlock()
		_ = c.conn.SetWriteDeadline(time.Now().Add(c.t.limits.WriteTimeout)) // fails only on a closed connection, as the write then does
		if _, err := c.conn.Write(out); err != nil {
			c.failed(err)
			return
		}
	}
}

func (c *tcpConn) failed(err error) {
	c.mu.Lock()
	c.writing = false
	closed := c.closed
	c.mu.Unlock()
	switch {
	case closed: // by ourselves
	case errors.Is(err, os.ErrDeadlineExceeded):
		c.t.counters.add(TCPSlowPeer, 1)
	default:
		c.t.counters.add(TCPWriteErrors, 1)
	}
	c.close()
}
