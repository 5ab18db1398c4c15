package transport

import "sync/atomic"

// Counter names something that is counted; its String is stable and fit for the name of a metric.
type Counter uint8

const (
	// UDPReceived counts datagrams that were read.
	UDPReceived Counter = iota
	// UDPOversize counts datagrams dropped because they were longer than Limits.MessageSizeMax.
	UDPOversize
	// UDPKernelDropped counts datagrams that the kernel dropped because its queue for a socket was full.
	UDPKernelDropped
	// UDPReadErrors counts failed reads.
	UDPReadErrors
	// UDPKeepAlives counts datagrams of nothing but CR, LF or NUL.
	UDPKeepAlives
	// UDPSent counts datagrams that were sent.
	UDPSent
	// UDPQueueDropped counts responses dropped because the socket's queue was full.
	UDPQueueDropped
	// UDPSendErrors counts datagrams that could not be sent.
	UDPSendErrors
	// TCPAccepted counts connections that were taken.
	TCPAccepted
	// TCPRefusedLimit counts connections closed at once because Limits.ConnectionsMax was reached.
	TCPRefusedLimit
	// TCPRefusedSource counts connections closed at once because Limits.ConnectionsPerSourceMax was reached.
	TCPRefusedSource
	// TCPAcceptErrors counts failed accepts.
	TCPAcceptErrors
	// TCPClosed counts connections that have ended, for whatever reason.
	TCPClosed
	// TCPReceived counts messages that were read.
	TCPReceived
	// TCPKeepAlives counts keep-alives that were answered.
	TCPKeepAlives
	// TCPUnframed counts connections closed because no message could be told from what came.
	TCPUnframed
	// TCPOversize counts connections closed because a message was longer than Limits.MessageSizeMax.
	TCPOversize
	// TCPSlowMessage counts connections closed because a message was not complete in time.
	TCPSlowMessage
	// TCPIdle counts connections closed because nothing came.
	TCPIdle
	// TCPSlowPeer counts connections closed because the peer did not read its responses.
	TCPSlowPeer
	// TCPWriteErrors counts connections closed because a write failed.
	TCPWriteErrors
	// TCPSent counts messages that were written.
	TCPSent

	counterCount
)

var counterNames = [counterCount]string{
	"udp_received", "udp_oversize", "udp_kernel_dropped", "udp_read_errors", "udp_keepalives", "udp_sent", "udp_queue_dropped",
	"udp_send_errors", "tcp_accepted", "tcp_refused_limit", "tcp_refused_source", "tcp_accept_errors", "tcp_closed", "tcp_received",
	"tcp_keepalives", "tcp_unframed", "tcp_oversize", "tcp_slow_message", "tcp_idle", "tcp_slow_peer", "tcp_write_errors", "tcp_sent",
}

// String gives the counter's name in snake case.
func (c Counter) String() string { return counterNames[c] }

// Counters are the counts of one Transport. The zero value is ready; all methods may be called from any goroutine.
type Counters struct{ n [counterCount]atomic.Uint64 }

// Value returns one count.
func (c *Counters) Value(name Counter) uint64 { return c.n[name].Load() }

// Each calls f with every count, in a fixed order.
func (c *Counters) Each(f func(name string, value uint64)) {
	for i := range c.n {
		f(Counter(i).String(), c.n[i].Load())
	}
}

func (c *Counters) add(name Counter, n int) { c.n[name].Add(uint64(n)) }
