package transport

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"
)

// Protocol is a transport protocol of SIP.
type Protocol uint8

const (
	// UDP carries one message in a datagram (RFC 3261 section 18).
	UDP Protocol = 1 + iota
	// TCP carries messages one after the other, each with its Content-Length (RFC 3261 section 18.3).
	TCP
)

// String gives the protocol as it stands in configuration and in bindings: "udp", "tcp".
func (p Protocol) String() string {
	switch p {
	case UDP:
		return "udp"
	case TCP:
		return "tcp"
	}
	return fmt.Sprintf("protocol(%d)", uint8(p))
}

// Via gives the protocol as it stands in a Via header: "UDP", "TCP".
func (p Protocol) Via() string {
	switch p {
	case UDP:
		return "UDP"
	case TCP:
		return "TCP"
	}
	return strings.ToUpper(p.String())
}

// Reliable tells whether the protocol retransmits by itself, so that transactions need not.
func (p Protocol) Reliable() bool { return p == TCP }

// Address is a place to listen at.
type Address struct {
	Protocol Protocol
	AddrPort netip.AddrPort
}

// String gives "protocol:address:port", such as "udp:192.0.2.7:5060" or "tcp:[2001:db8::1]:5060".
func (a Address) String() string { return a.Protocol.String() + ":" + a.AddrPort.String() }

// Form gives "protocol:address:port" of one end of a message, as bindings keep it.
func Form(p Protocol, ap netip.AddrPort) string {
	b := make([]byte, 0, len("udp:")+len("[ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff]:65535"))
	b = append(b, p.String()...)
	b = append(b, ':')
	return string(ap.AppendTo(b))
}

// errAddress says what a listening address looks like.
var errAddress = errors.New(`want "udp:ADDRESS:PORT" or "tcp:ADDRESS:PORT", such as "udp:0.0.0.0:5060" or "tcp:[::]:5060"`)

// ParseAddress parses "udp:0.0.0.0:5060" or "tcp:[::]:5060". Names are not resolved: a listener must not depend on DNS.
func ParseAddress(s string) (Address, error) {
	name, rest, ok := strings.Cut(s, ":")
	if !ok {
		return Address{}, fmt.Errorf("listening address %q: %w", s, errAddress)
	}
	var p Protocol
	switch strings.ToLower(name) {
	case "udp":
		p = UDP
	case "tcp":
		p = TCP
	default:
		return Address{}, fmt.Errorf("listening address %q: protocol %q is not supported: %w", s, name, errAddress)
	}
	ap, err := netip.ParseAddrPort(rest)
	if err != nil {
		return Address{}, fmt.Errorf("listening address %q: %w", s, errAddress)
	}
	return Address{Protocol: p, AddrPort: netip.AddrPortFrom(ap.Addr().Unmap(), ap.Port())}, nil
}
