package main

import (
	"bufio"
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"
)

const (
	listenSetting  = "sip.listen"
	listenersMax   = 64 // asked in one monitor
	optionsMax     = time.Second
	optionsResends = 2 // over UDP
	responseMax    = 16 << 10
)

// listener is one address that the daemon listens on for SIP.
type listener struct {
	transport string // "udp", "tcp", "tls", "ws", "wss"
	address   netip.AddrPort
}

// String gives the listener as the configuration writes it.
func (l listener) String() string { return l.transport + ":" + l.address.String() }

// askListeners sends OPTIONS (RFC 3261 section 11) to each of the daemon's listeners that is at home on this node, and gives how many
// it asked and what is wrong with those that did not answer. Any answer will do: a replica says 503. Addresses that are not on this
// node, such as the virtual one on a replica, would lead elsewhere and are left out.
func (r *resource) askListeners(ctx context.Context, s *sight) (total int, dead []string, err error) {
	settings, err := s.daemon.Config(ctx)
	if err != nil {
		return 0, nil, fmt.Errorf("ask for the listeners: %w", err)
	}
	var listeners []listener
	for _, setting := range settings {
		if setting.Key == listenSetting {
			if listeners, err = parseListeners(setting.Value); err != nil {
				return 0, nil, err
			}
		}
	}
	local, err := localAddresses()
	if err != nil {
		return 0, nil, err
	}
	var asked []listener
	for _, l := range listeners[:min(len(listeners), listenersMax)] {
		if l.address = reachable(l.address, local); l.address.IsValid() {
			asked = append(asked, l)
		}
	}
	failures := make([]error, len(asked))
	var wait sync.WaitGroup
	for i, l := range asked {
		wait.Go(func() { failures[i] = options(ctx, l) })
	}
	wait.Wait()
	for i, err := range failures {
		if err != nil {
			dead = append(dead, fmt.Sprintf("%s: %v", asked[i], err))
		}
	}
	return len(asked), dead, nil
}

// parseListeners reads the value of the setting, a list of strings such as ["udp:0.0.0.0:5060", "tcp:[::]:5060"]; a list of strings of
// TOML is one of JSON as well.
func parseListeners(value string) ([]listener, error) {
	var texts []string
	if err := json.Unmarshal([]byte(value), &texts); err != nil {
		return nil, fmt.Errorf("%s: %w", listenSetting, err)
	}
	var list []listener
	for _, text := range texts {
		transport, rest, ok := strings.Cut(text, ":")
		if !ok {
			return nil, fmt.Errorf("%s: %q has no transport", listenSetting, text)
		}
		address, err := netip.ParseAddrPort(rest)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", listenSetting, err)
		}
		list = append(list, listener{strings.ToLower(transport), address})
	}
	return list, nil
}

func localAddresses() ([]netip.Addr, error) {
	addrs, err := net.InterfaceAddrs()
	if err != nil {
		return nil, fmt.Errorf("addresses of this node: %w", err)
	}
	var local []netip.Addr
	for _, a := range addrs {
		if n, ok := a.(*net.IPNet); ok {
			if ip, ok := netip.AddrFromSlice(n.IP); ok {
				local = append(local, ip.Unmap())
			}
		}
	}
	return local, nil
}

// reachable gives where a listener can be asked on this node: a wildcard by loopback, a local address as it is, others not at all.
func reachable(a netip.AddrPort, local []netip.Addr) netip.AddrPort {
	ip := a.Addr()
	switch {
	case ip == netip.IPv4Unspecified():
		return netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), a.Port())
	case ip == netip.IPv6Unspecified():
		return netip.AddrPortFrom(netip.IPv6Loopback(), a.Port())
	case ip.IsLoopback() || slices.Contains(local, ip.WithZone("").Unmap()):
		return a
	default:
		return netip.AddrPort{}
	}
}

// options asks one listener. Of TLS, WS and WSS it is only seen whether they take a connection.
func options(ctx context.Context, l listener) error {
	ctx, cancel := context.WithTimeout(ctx, optionsMax)
	defer cancel()
	network := "tcp"
	if l.transport == "udp" {
		network = "udp"
	}
	var d net.Dialer
	conn, err := d.DialContext(ctx, network, l.address.String())
	if err != nil {
		return noAnswer(err)
	}
	defer conn.Close()
	deadline, _ := ctx.Deadline()
	if err := conn.SetDeadline(deadline); err != nil {
		return err
	}
	switch l.transport {
	case "udp":
		return optionsUDP(conn, deadline)
	case "tcp":
		return optionsTCP(conn)
	default:
		return nil
	}
}

// optionsUDP sends the request up to three times, as RFC 3261 section 17.1.2 has a client do, only faster: it does not leave the node.
func optionsUDP(conn net.Conn, deadline time.Time) error {
	request, branch := optionsRequest(conn, "UDP")
	buffer := make([]byte, responseMax)
	part := time.Until(deadline) / (optionsResends + 1)
	for i := range optionsResends + 1 {
		if _, err := conn.Write(request); err != nil {
			return noAnswer(err)
		}
		until := deadline
		if i < optionsResends {
			until = time.Now().Add(part)
		}
		if err := conn.SetReadDeadline(until); err != nil {
			return err
		}
		for {
			n, err := conn.Read(buffer)
			if err != nil {
				var timeout net.Error
				if errors.As(err, &timeout) && timeout.Timeout() {
					break
				}
				return noAnswer(err)
			}
			if answers(string(buffer[:n]), branch) {
				return nil
			}
		}
	}
	return errors.New("no answer to OPTIONS")
}

func optionsTCP(conn net.Conn) error {
	request, branch := optionsRequest(conn, "TCP")
	if _, err := conn.Write(request); err != nil {
		return noAnswer(err)
	}
	in := bufio.NewReader(io.LimitReader(conn, responseMax))
	var head strings.Builder
	for {
		line, err := in.ReadString('\n')
		if err != nil {
			return noAnswer(err)
		}
		if strings.TrimSpace(line) == "" {
			break
		}
		head.WriteString(line)
	}
	if !answers(head.String(), branch) {
		return errors.New("answer to OPTIONS is not SIP")
	}
	return nil
}

// optionsRequest makes an OPTIONS request (RFC 3261 section 11.1) and the branch by which its answer is known.
func optionsRequest(conn net.Conn, transport string) (request []byte, branch string) {
	var unique [8]byte
	_, _ = rand.Read(unique[:]) // never fails (crypto/rand)
	id := hex.EncodeToString(unique[:])
	branch = "z9hG4bK" + id
	local, remote := conn.LocalAddr(), conn.RemoteAddr()
	return fmt.Appendf(nil, "OPTIONS sip:%s SIP/2.0\r\nVia: SIP/2.0/%s %s;rport;branch=%s\r\nMax-Forwards: 70\r\n"+
		"From: <sip:monitor@%s>;tag=%s\r\nTo: <sip:%s>\r\nCall-ID: %s\r\nCSeq: 1 OPTIONS\r\nContact: <sip:monitor@%s>\r\n"+
		"Accept: application/sdp\r\nContent-Length: 0\r\n\r\n",
		remote, transport, local, branch, local, id, remote, id, local), branch
}

// answers tells whether a message is a SIP response to the request with this branch.
func answers(message, branch string) bool {
	return strings.HasPrefix(message, "SIP/2.0 ") && strings.Contains(message, branch)
}

// noAnswer shortens what the net package says to what counts.
func noAnswer(err error) error {
	var op *net.OpError
	if errors.As(err, &op) {
		err = op.Err
	}
	return fmt.Errorf("no answer to OPTIONS: %w", err)
}
