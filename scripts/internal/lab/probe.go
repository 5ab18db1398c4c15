package lab

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// SIPPort is where the virtual address answers SIP.
const SIPPort = 5060

// probeRetransmit is RFC 3261's T1: the probe is a client transaction in miniature.
const probeRetransmit = 500 * time.Millisecond

// Probe sends OPTIONS over UDP from the client to addr until an answer comes, and
// returns its status line. An ICMP "port unreachable" is syscall.ECONNREFUSED.
func (l *Lab) Probe(ctx context.Context, addr netip.AddrPort) (string, error) {
	var conn *net.UDPConn
	err := l.InNetwork(Client, func() (err error) {
		conn, err = net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(addr))
		return err
	})
	if err != nil {
		return "", err
	}
	defer conn.Close()
	id := rand.Text()
	local := conn.LocalAddr().String()
	msg := fmt.Sprintf("OPTIONS sip:%s SIP/2.0\r\n"+
		"Via: SIP/2.0/UDP %s;branch=z9hG4bK%s;rport\r\n"+
		"Max-Forwards: 70\r\n"+
		"From: <sip:probe@%s>;tag=%s\r\n"+
		"To: <sip:%s>\r\n"+
		"Call-ID: %s\r\n"+
		"CSeq: 1 OPTIONS\r\n"+
		"Content-Length: 0\r\n\r\n", addr, local, id, local, id[:8], addr, id)
	buf := make([]byte, 4096)
	for {
		if err := ctx.Err(); err != nil {
			return "", fmt.Errorf("no answer to OPTIONS from %s: %w", addr, err)
		}
		if _, err := conn.Write([]byte(msg)); err != nil && !unreachable(err) {
			return "", fmt.Errorf("OPTIONS to %s: %w", addr, err)
		}
		until := time.Now().Add(probeRetransmit)
		if d, ok := ctx.Deadline(); ok && d.Before(until) {
			until = d
		}
		if err := conn.SetReadDeadline(until); err != nil {
			return "", err
		}
		n, err := conn.Read(buf)
		switch {
		case err == nil && strings.Contains(string(buf[:n]), id):
			line, _, _ := strings.Cut(string(buf[:n]), "\r\n")
			return line, nil
		case err == nil, errors.Is(err, unix.EHOSTUNREACH):
		case errors.Is(err, unix.ECONNREFUSED):
			return "", fmt.Errorf("OPTIONS to %s: %w", addr, err)
		default:
			var timeout net.Error
			if !errors.As(err, &timeout) || !timeout.Timeout() {
				return "", fmt.Errorf("OPTIONS to %s: %w", addr, err)
			}
		}
	}
}

// unreachable tells errors that say the address is (still) nowhere.
func unreachable(err error) bool {
	return errors.Is(err, unix.EHOSTUNREACH) || errors.Is(err, unix.ECONNREFUSED) || errors.Is(err, unix.ENETUNREACH)
}
