package transport

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"
)

const (
	acceptPauseMin = 5 * time.Millisecond
	acceptPauseMax = time.Second
	// tcpKeepAlive finds peers that have gone without a word.
	tcpKeepAlive = 60 * time.Second
)

// tcpListener takes connections; each is read by a goroutine of its own.
type tcpListener struct {
	t        *Transport
	listener net.Listener
	bound    netip.AddrPort
}

func listenTCP(ctx context.Context, t *Transport, ap netip.AddrPort) (*tcpListener, error) {
	if t.frame == nil {
		return nil, errors.New("no framer: messages on a stream cannot be told apart")
	}
	network := "tcp4"
	if ap.Addr().Is6() {
		network = "tcp6"
	}
	lc := net.ListenConfig{Control: socketControl(ap.Addr(), ap.Addr().IsUnspecified()), KeepAlive: tcpKeepAlive}
	l, err := lc.Listen(ctx, network, ap.String())
	if err != nil {
		return nil, err
	}
	bound := localAddr(l.Addr())
	if !bound.IsValid() {
		_ = l.Close() // cannot happen: "tcp4" and "tcp6" give a TCPAddr
		return nil, fmt.Errorf("listen gave a %T", l.Addr())
	}
	return &tcpListener{t: t, listener: l, bound: bound}, nil
}

func (l *tcpListener) accept(h Handler) {
	pause := acceptPauseMin
	for {
		nc, err := l.listener.Accept()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			// Out of file descriptors, most likely: connections wait in the backlog until some have closed.
			l.t.counters.add(TCPAcceptErrors, 1)
			l.t.log.Warn("tcp accept", slog.String("address", l.bound.String()), slog.Any("error", err))
			time.Sleep(pause)
			pause = min(2*pause, acceptPauseMax)
			continue
		}
		pause = acceptPauseMin
		c := newTCPConn(l.t, nc)
		if refused := l.t.table.add(c); refused != nil {
			l.t.counters.add(*refused, 1)
			_ = nc.Close() // nothing was sent on it
			continue
		}
		l.t.counters.add(TCPAccepted, 1)
		l.t.readers.Add(1)
		go func() {
			defer l.t.readers.Done()
			c.read(h)
		}()
	}
}

// connectionTable counts the connections, in all and by source.
type connectionTable struct {
	max, perSource int
	trusted        []netip.Prefix

	mu       sync.Mutex
	stopping bool
	all      map[*tcpConn]struct{}
	bySource map[netip.Addr]int
	count    atomic.Int64
}

func (ct *connectionTable) init(l Limits, trusted []netip.Prefix) {
	ct.max, ct.perSource, ct.trusted = l.ConnectionsMax, l.ConnectionsPerSourceMax, trusted
	ct.all = make(map[*tcpConn]struct{})
	ct.bySource = make(map[netip.Addr]int)
}

func (ct *connectionTable) len() int { return int(ct.count.Load()) }

// add takes the connection in, or returns the counter of the limit that forbids it.
func (ct *connectionTable) add(c *tcpConn) *Counter {
	trusted := false
	for _, p := range ct.trusted {
		trusted = trusted || p.Contains(c.remote.Addr())
	}
	refused := TCPRefusedLimit
	ct.mu.Lock()
	defer ct.mu.Unlock()
	if ct.stopping || len(ct.all) >= ct.max {
		return &refused
	}
	if !trusted && ct.bySource[c.source] >= ct.perSource {
		refused = TCPRefusedSource
		return &refused
	}
	ct.all[c] = struct{}{}
	ct.bySource[c.source]++
	ct.count.Add(1)
	return nil
}

// remove forgets the connection; it may be called twice.
func (ct *connectionTable) remove(c *tcpConn) {
	ct.mu.Lock()
	defer ct.mu.Unlock()
	if _, ok := ct.all[c]; !ok {
		return
	}
	delete(ct.all, c)
	ct.count.Add(-1)
	if ct.bySource[c.source]--; ct.bySource[c.source] == 0 {
		delete(ct.bySource, c.source)
	}
}

func (ct *connectionTable) each(f func(*tcpConn)) {
	ct.mu.Lock()
	all := make([]*tcpConn, 0, len(ct.all))
	for c := range ct.all {
		all = append(all, c)
	}
	ct.mu.Unlock()
	for _, c := range all {
		f(c)
	}
}

func (ct *connectionTable) stopReceiving() {
	ct.mu.Lock()
	ct.stopping = true
	ct.mu.Unlock()
	ct.each((*tcpConn).stopReceiving)
}

func (ct *connectionTable) finish()   { ct.each((*tcpConn).finish) }
func (ct *connectionTable) closeAll() { ct.each((*tcpConn).close) }
