package transport

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"syscall"
)

// Packet is one SIP message as it came.
type Packet struct {
	Data     []byte         // the whole message, body included; valid only until Handle returns
	Protocol Protocol       // what it came over
	Local    netip.AddrPort // our address that it was sent to
	Remote   netip.AddrPort // where it came from
	Sender   Sender         // where its responses go; may be kept and used later
}

// Sender sends messages through the socket that a Packet came from.
type Sender interface {
	// Send queues a copy of b for remote, from our address local, and never blocks: it fails with ErrQueueFull or ErrClosed instead.
	// On a connection both addresses are ignored, b goes to the connection's peer. May be called from any goroutine.
	Send(b []byte, local, remote netip.AddrPort) error
}

// Handler takes the messages that were read. Handle is called from several goroutines at once and must not block: while it runs, one of
// the readers of that socket does not read. It may change p.Data, and must copy what it needs later.
type Handler interface {
	Handle(p *Packet)
}

// Framer finds the end of a message on a stream: it returns the length of the first message in b, with its body, 0 when b holds only
// the beginning of one, or an error when b cannot be the beginning of a SIP message. b begins with no CR or LF.
type Framer func(b []byte) (n int, err error)

// ErrQueueFull says that a response was dropped because too many wait already.
var ErrQueueFull = errors.New("send queue full")

// ErrClosed says that the socket or connection is gone.
var ErrClosed = errors.New("connection closed")

// Config tells what to listen at.
type Config struct {
	Addresses []Address
	Limits    Limits
	Trusted   []netip.Prefix // peers that ConnectionsPerSourceMax does not bind
	Frame     Framer
	Log       *slog.Logger
}

// Transport holds the listeners. Make it with Listen, which opens the sockets, then Start it once and Close it once.
type Transport struct {
	limits    Limits
	frame     Framer
	log       *slog.Logger
	counters  Counters
	addresses []Address

	udp   []*udpSocket
	tcp   []*tcpListener
	table connectionTable

	readers sync.WaitGroup // everything that calls the Handler
	writers sync.WaitGroup
}

// Listen opens all sockets, or none: its error names the address and what to do. Messages that come before Start wait in the kernel.
func Listen(ctx context.Context, cfg Config) (*Transport, error) {
	if len(cfg.Addresses) == 0 {
		return nil, errors.New("no listening address: set [sip] listen")
	}
	t := &Transport{limits: cfg.Limits.WithDefaults(), frame: cfg.Frame, log: cfg.Log}
	t.table.init(t.limits, cfg.Trusted)
	for _, a := range cfg.Addresses {
		if err := t.open(ctx, a); err != nil {
			t.closeSockets()
			return nil, err
		}
	}
	return t, nil
}

func (t *Transport) open(ctx context.Context, a Address) error {
	var bound netip.AddrPort
	switch a.Protocol {
	case UDP:
		s, err := listenUDP(ctx, t, a.AddrPort)
		if err != nil {
			return listenError(a, err)
		}
		t.udp = append(t.udp, s)
		bound = s.bound
	case TCP:
		l, err := listenTCP(ctx, t, a.AddrPort)
		if err != nil {
			return listenError(a, err)
		}
		t.tcp = append(t.tcp, l)
		bound = l.bound
	default:
		return fmt.Errorf("listen at %s: %w", a, errAddress)
	}
	t.addresses = append(t.addresses, Address{Protocol: a.Protocol, AddrPort: bound})
	return nil
}

// listenError says what stands in the way at an address, and what to do.
func listenError(a Address, err error) error {
	port := a.AddrPort.Port()
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		flag := "u"
		if a.Protocol != UDP {
			flag = "t"
		}
		return fmt.Errorf("listen at %s: %w: another program holds the port; find it with \"ss -ln%sp sport = :%d\", or choose another in [sip] listen",
			a, syscall.EADDRINUSE, flag, port)
	case errors.Is(err, syscall.EACCES):
		return fmt.Errorf("listen at %s: %w: ports below 1024 need CAP_NET_BIND_SERVICE", a, syscall.EACCES)
	case errors.Is(err, syscall.EADDRNOTAVAIL):
		return fmt.Errorf("listen at %s: %w: no such address can be bound here; use a wildcard address in [sip] listen", a, syscall.EADDRNOTAVAIL)
	case errors.Is(err, syscall.EAFNOSUPPORT):
		return fmt.Errorf("listen at %s: %w: this machine has no such address family; remove it from [sip] listen", a, syscall.EAFNOSUPPORT)
	}
	return fmt.Errorf("listen at %s: %w", a, err)
}

// Addresses returns what is listened at, in the order of the configuration, with the port that was given where it asked for port 0.
func (t *Transport) Addresses() []Address { return t.addresses }

// Counters returns the counts.
func (t *Transport) Counters() *Counters { return &t.counters }

// Connections returns how many connections are open.
func (t *Transport) Connections() int { return t.table.len() }

// Start begins to read. Handle is called until StopReceiving has returned.
func (t *Transport) Start(h Handler) {
	for _, s := range t.udp {
		s.start(h)
	}
	for _, l := range t.tcp {
		t.readers.Add(1)
		go func() {
			defer t.readers.Done()
			l.accept(h)
		}()
	}
}

// StopReceiving ends reading and accepting, and waits until the last Handle has returned. What was handled can still be answered.
func (t *Transport) StopReceiving() {
	for _, s := range t.udp {
		s.stopReceiving()
	}
	for _, l := range t.tcp {
		_ = l.listener.Close() // it is closed for good; there is nothing else to do about an error
	}
	t.table.stopReceiving()
	t.readers.Wait()
}

// Close stops receiving, sends what is queued as far as ctx allows, and closes every socket and connection. It returns ctx's error when
// something was left unsent.
func (t *Transport) Close(ctx context.Context) error {
	t.StopReceiving()
	for _, s := range t.udp {
		s.finish()
	}
	t.table.finish()
	flushed := make(chan struct{})
	go func() {
		t.writers.Wait()
		close(flushed)
	}()
	var err error
	select {
	case <-flushed:
	case <-ctx.Done():
		err = fmt.Errorf("send what is queued: %w", context.Cause(ctx))
	}
	t.closeSockets()
	<-flushed // closing the sockets ends every write
	return err
}

func (t *Transport) closeSockets() {
	for _, s := range t.udp {
		_ = s.conn.Close() // nothing is left to send or to read
	}
	for _, l := range t.tcp {
		_ = l.listener.Close() // likewise
	}
	t.table.closeAll()
}

// source is what limits count by: an IPv4 address, or the /64 of an IPv6 address, since a host owns all of that.
func source(a netip.Addr) netip.Addr {
	a = a.Unmap()
	if a.Is4() {
		return a
	}
	p, err := a.WithZone("").Prefix(64)
	if err != nil {
		return a
	}
	return p.Addr()
}

// localAddr turns what a socket says of itself into a netip.AddrPort.
func localAddr(a net.Addr) netip.AddrPort {
	var ap netip.AddrPort
	switch a := a.(type) {
	case *net.UDPAddr:
		ap = a.AddrPort()
	case *net.TCPAddr:
		ap = a.AddrPort()
	}
	return netip.AddrPortFrom(ap.Addr().Unmap(), ap.Port())
}
