package transport

import "time"

// Limits bounds everything that a peer could make grow. The zero value of a field means its default.
type Limits struct {
	MessageSizeMax          int           // bytes of one message; a longer datagram is dropped, a longer message on a stream closes it
	UDPReceiveBuffer        int           // bytes that the kernel is asked to queue for a UDP socket
	UDPQueueMax             int           // responses waiting for a UDP socket; further ones are dropped
	ConnectionsMax          int           // TCP connections in all
	ConnectionsPerSourceMax int           // TCP connections from one source: an IPv4 address or an IPv6 /64
	MessageTimeout          time.Duration // from the first byte of a message on a stream to its last
	IdleTimeout             time.Duration // without a message, until a connection is closed
	KeepAliveIdleTimeout    time.Duration // the same, once the peer has sent a keep-alive (RFC 5626)
	WriteTimeout            time.Duration // for a write to a connection to make progress
	PendingOutputMax        int           // bytes waiting for a connection; one that reads no slower is closed
}

const (
	messageSizeMax          = 16 << 10
	udpReceiveBuffer        = 8 << 20
	udpQueueMax             = 16384
	connectionsMax          = 8192
	connectionsPerSourceMax = 128
	messageTimeout          = 10 * time.Second
	idleTimeout             = 120 * time.Second
	// RFC 5626 section 4.4.1: a client sends a keep-alive over TCP at least every 840 s.
	keepAliveIdleTimeout = 900 * time.Second
	writeTimeout         = 10 * time.Second
	pendingOutputMax     = 64 << 10
)

// WithDefaults returns the limits with every zero field at its default.
func (l Limits) WithDefaults() Limits {
	or(&l.MessageSizeMax, messageSizeMax)
	or(&l.UDPReceiveBuffer, udpReceiveBuffer)
	or(&l.UDPQueueMax, udpQueueMax)
	or(&l.ConnectionsMax, connectionsMax)
	or(&l.ConnectionsPerSourceMax, connectionsPerSourceMax)
	or(&l.MessageTimeout, messageTimeout)
	or(&l.IdleTimeout, idleTimeout)
	or(&l.KeepAliveIdleTimeout, keepAliveIdleTimeout)
	or(&l.WriteTimeout, writeTimeout)
	or(&l.PendingOutputMax, pendingOutputMax)
	return l
}

func or[T comparable](field *T, def T) {
	var zero T
	if *field == zero {
		*field = def
	}
}
