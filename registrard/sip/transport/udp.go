package transport

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/net/ipv4"
	"golang.org/x/net/ipv6"
	"golang.org/x/sys/unix"
)

const (
	udpBatch       = 32 // datagrams that one system call reads or writes
	udpBufferKeep  = 8 << 10
	readErrorPause = 10 * time.Millisecond
)

// batchConn is what ipv4.PacketConn and ipv6.PacketConn share; their Message is one and the same type.
type batchConn interface {
	ReadBatch(ms []ipv4.Message, flags int) (int, error)
	WriteBatch(ms []ipv4.Message, flags int) (int, error)
}

// udpSocket is one listener. A few goroutines read it in turns, each handling what it has read, so that the kernel's queue is the only one
// between the wire and the Handler; one goroutine writes.
type udpSocket struct {
	t        *Transport
	conn     *net.UDPConn
	batch    batchConn
	bound    netip.AddrPort
	wildcard bool
	stopping atomic.Bool
	overflow atomic.Uint32 // the kernel's own count of what it dropped, modulo 2^32

	mu     sync.Mutex
	queue  []*datagram
	closed bool
	wake   chan struct{} // capacity 1: the writer has something to do
}

// datagram is one message on its way out; they are pooled.
type datagram struct {
	data   []byte
	local  netip.Addr
	remote net.UDPAddr
	ip     [16]byte // what remote.IP points to
}

var datagrams = sync.Pool{New: func() any { return new(datagram) }}

func listenUDP(ctx context.Context, t *Transport, ap netip.AddrPort) (*udpSocket, error) {
	network := "udp4"
	if ap.Addr().Is6() {
		network = "udp6"
	}
	wildcard := ap.Addr().IsUnspecified()
	lc := net.ListenConfig{Control: socketControl(ap.Addr(), wildcard)}
	pc, err := lc.ListenPacket(ctx, network, ap.String())
	if err != nil {
		return nil, err
	}
	conn, ok := pc.(*net.UDPConn)
	if !ok {
		_ = pc.Close() // cannot happen: "udp4" and "udp6" give a UDPConn
		return nil, fmt.Errorf("listen gave a %T", pc)
	}
	s := &udpSocket{t: t, conn: conn, bound: localAddr(conn.LocalAddr()), wildcard: wildcard, wake: make(chan struct{}, 1)}
	if ap.Addr().Is6() {
		s.batch = ipv6.NewPacketConn(conn)
	} else {
		s.batch = ipv4.NewPacketConn(conn)
	}
	s.growBuffer()
	return s, nil
}

// growBuffer asks for a receive buffer beyond net.core.rmem_max where we may, since it is what absorbs a burst of phones.
func (s *udpSocket) growBuffer() {
	size := s.t.limits.UDPReceiveBuffer
	raw, err := s.conn.SyscallConn()
	if err == nil {
		cerr := raw.Control(func(fd uintptr) { err = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, size) })
		err = errors.Join(err, cerr)
	}
	if err != nil {
		err = s.conn.SetReadBuffer(size)
	}
	if err != nil {
		s.t.log.Warn("udp receive buffer stays at its default", slog.String("address", s.bound.String()), slog.Any("error", err))
	}
}

func (s *udpSocket) start(h Handler) {
	for range runtime.GOMAXPROCS(0) {
		s.t.readers.Add(1)
		go func() {
			defer s.t.readers.Done()
			s.read(h)
		}()
	}
	s.t.writers.Add(1)
	go func() {
		defer s.t.writers.Done()
		s.write()
	}()
}

func (s *udpSocket) stopReceiving() {
	s.stopping.Store(true)
	_ = s.conn.SetReadDeadline(time.Unix(1, 0)) // fails only on a closed socket, which ends the readers as well
}

func (s *udpSocket) read(h Handler) {
	ms := make([]ipv4.Message, udpBatch)
	for i := range ms {
		// One byte more than the limit tells a message of just that length from a longer one.
		ms[i].Buffers = [][]byte{make([]byte, s.t.limits.MessageSizeMax+1)}
		ms[i].OOB = make([]byte, oobSize)
	}
	var p Packet
	for !s.stopping.Load() {
		n, err := s.batch.ReadBatch(ms, 0)
		if err != nil {
			if errors.Is(err, net.ErrClosed) || errors.Is(err, os.ErrDeadlineExceeded) {
				return
			}
			s.t.counters.add(UDPReadErrors, 1)
			time.Sleep(readErrorPause) // an error that stays must not spin
			continue
		}
		s.t.counters.add(UDPReceived, n)
		for i := range ms[:n] {
			s.handle(h, &ms[i], &p)
		}
	}
}

func (s *udpSocket) handle(h Handler, m *ipv4.Message, p *Packet) {
	if m.N > s.t.limits.MessageSizeMax || m.Flags&unix.MSG_TRUNC != 0 {
		s.t.counters.add(UDPOversize, 1)
		return
	}
	// RFC 3261 section 7.5: CRLF before a message is ignored. Phones also send it, or a NUL, to keep a NAT open.
	data := bytes.TrimLeft(m.Buffers[0][:m.N], "\r\n\x00")
	if len(data) == 0 {
		s.t.counters.add(UDPKeepAlives, 1)
		return
	}
	from, ok := m.Addr.(*net.UDPAddr)
	if !ok {
		s.t.counters.add(UDPReadErrors, 1)
		return
	}
	remote := from.AddrPort()
	local := s.bound
	if m.NN > 0 {
		addr, overflow, overflowed := parseControl(m.OOB[:m.NN])
		if s.wildcard && addr.IsValid() {
			local = netip.AddrPortFrom(addr, s.bound.Port())
		}
		if overflowed {
			s.countOverflow(overflow)
		}
	}
	*p = Packet{Data: data, Protocol: UDP, Local: local, Remote: netip.AddrPortFrom(remote.Addr().Unmap(), remote.Port()), Sender: s}
	h.Handle(p)
}

// countOverflow takes the kernel's running count, which readers may see out of order.
func (s *udpSocket) countOverflow(now uint32) {
	for {
		last := s.overflow.Load()
		more := int32(now - last)
		if more <= 0 {
			return
		}
		if s.overflow.CompareAndSwap(last, now) {
			s.t.counters.add(UDPKernelDropped, int(more))
			return
		}
	}
}

// Send implements Sender.
func (s *udpSocket) Send(b []byte, local, remote netip.AddrPort) error {
	d := datagrams.Get().(*datagram)
	d.data = append(d.data[:0], b...)
	d.local = local.Addr()
	d.remote.IP = appendIP(d.ip[:0], remote.Addr(), s.bound.Addr().Is6())
	d.remote.Port = int(remote.Port())
	d.remote.Zone = remote.Addr().Zone()

	s.mu.Lock()
	switch {
	case s.closed:
		s.mu.Unlock()
		d.free()
		return ErrClosed
	case len(s.queue) >= s.t.limits.UDPQueueMax:
		s.mu.Unlock()
		d.free()
		s.t.counters.add(UDPQueueDropped, 1)
		return ErrQueueFull
	}
	s.queue = append(s.queue, d)
	first := len(s.queue) == 1
	s.mu.Unlock()
	if first {
		s.wakeWriter()
	}
	return nil
}

func (s *udpSocket) wakeWriter() {
	select {
	case s.wake <- struct{}{}:
	default: // it is awake already
	}
}

// finish lets the writer end once the queue is empty.
func (s *udpSocket) finish() {
	s.mu.Lock()
	s.closed = true
	s.mu.Unlock()
	s.wakeWriter()
}

func (s *udpSocket) write() {
	ms := make([]ipv4.Message, udpBatch)
	for i := range ms {
		ms[i].Buffers = make([][]byte, 1)
	}
	sources := make(sourceControl)
	var batch []*datagram
	for range s.wake {
		for {
			s.mu.Lock()
			batch, s.queue = s.queue, batch[:0]
			closed := s.closed
			s.mu.Unlock()
			if len(batch) == 0 {
				if closed {
					return
				}
				break
			}
			s.writeAll(ms, batch, sources)
			for i, d := range batch {
				d.free()
				batch[i] = nil
			}
		}
	}
}

func (s *udpSocket) writeAll(ms []ipv4.Message, batch []*datagram, sources sourceControl) {
	for len(batch) > 0 {
		k := min(len(batch), len(ms))
		for i, d := range batch[:k] {
			ms[i].Buffers[0] = d.data
			ms[i].Addr = &d.remote
			ms[i].OOB = nil
			if s.wildcard {
				ms[i].OOB = sources.get(d.local)
			}
		}
		_ = s.conn.SetWriteDeadline(time.Now().Add(s.t.limits.WriteTimeout)) // fails only on a closed socket, as the write then does
		n, err := s.batch.WriteBatch(ms[:k], 0)
		s.t.counters.add(UDPSent, max(n, 0))
		if err != nil {
			// The error is that of the first message that was not sent. Its route or our address may have gone; the next may well do.
			n = max(n, 0) + 1
			s.t.counters.add(UDPSendErrors, 1)
			s.t.log.Debug("udp send", slog.String("remote", batch[n-1].remote.String()), slog.Any("error", err))
		}
		batch = batch[n:]
	}
}

// free gives the datagram back, unless a rare long message has made it big.
func (d *datagram) free() {
	if cap(d.data) <= udpBufferKeep {
		datagrams.Put(d)
	}
}
