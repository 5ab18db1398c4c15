//go:build cluster || integration

package acceptance

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"time"
)

// sessionOffer is what the caller offers to talk (RFC 4566).
const sessionOffer = "v=0\r\no=- 1 1 IN IP4 %[1]s\r\ns=-\r\nc=IN IP4 %[1]s\r\nt=0 0\r\nm=audio 40000 RTP/AVP 0\r\n"

// retransmit is RFC 3261's T1.
const retransmit = 500 * time.Millisecond

// dialer opens a connection to a phone or a registrar.
type dialer func(network string, to netip.AddrPort) (net.Conn, error)

// invite sends an INVITE and returns the first response that tells more than that it is on its way: a final one, which it acknowledges,
// or that the phone is ringing.
func invite(ctx context.Context, dial dialer, network string, to netip.AddrPort, uri string) (string, error) {
	conn, err := dial(network, to)
	if err != nil {
		return "", err
	}
	defer func() { _ = conn.Close() }() // the caller hangs up
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
	defer stop()
	tag, branch := rand.Text(), "z9hG4bK"+rand.Text()
	local := conn.LocalAddr().String()
	host, _, err := net.SplitHostPort(local)
	if err != nil {
		return "", err
	}
	head := func(method string) string {
		return fmt.Sprintf("%[1]s %[2]s SIP/2.0\r\nVia: SIP/2.0/%[3]s %[4]s;branch=%[5]s;rport\r\nMax-Forwards: 70\r\n"+
			"From: <sip:caller@example.org>;tag=%[6]s\r\nCall-ID: %[6]s\r\nCSeq: 1 %[1]s\r\nContact: <sip:caller@%[4]s;transport=%[7]s>\r\n",
			method, uri, strings.ToUpper(network), local, branch, tag, network)
	}
	offer := fmt.Sprintf(sessionOffer, host)
	request := fmt.Sprintf("%sTo: <%s>\r\nContent-Type: application/sdp\r\nContent-Length: %d\r\n\r\n%s", head("INVITE"), uri, len(offer), offer)
	response, err := converse(ctx, conn, network, request, branch)
	if err != nil {
		return "", err
	}
	if !strings.HasPrefix(response, "SIP/2.0 1") {
		ack := fmt.Sprintf("%s%sContent-Length: 0\r\n\r\n", head("ACK"), headerLine(response, "To"))
		if _, err := conn.Write([]byte(ack)); err != nil {
			return "", err
		}
	}
	return response, nil
}

// headerLine returns a header of a message as it stands there, with its end of line.
func headerLine(message, name string) string {
	for line := range strings.SplitAfterSeq(message, "\r\n") {
		if n, _, ok := strings.Cut(line, ":"); ok && (strings.EqualFold(n, name) || strings.EqualFold(n, name[:1])) {
			return line
		}
	}
	return ""
}

// converse sends a request, over UDP again and again, until a response with the branch comes that is not 100 Trying.
func converse(ctx context.Context, conn net.Conn, network, request, branch string) (string, error) {
	buf := make([]byte, 65536)
	held := ""
	if _, err := conn.Write([]byte(request)); err != nil {
		return "", err
	}
	for {
		if network == "udp" {
			if err := conn.SetReadDeadline(time.Now().Add(retransmit)); err != nil {
				return "", err
			}
		}
		n, err := conn.Read(buf)
		var timeout net.Error
		switch {
		case ctx.Err() != nil:
			return "", fmt.Errorf("no response to INVITE: %w", ctx.Err())
		case errors.As(err, &timeout) && timeout.Timeout():
			if _, err := conn.Write([]byte(request)); err != nil {
				return "", err
			}
			continue
		case err != nil:
			return "", err
		case network == "udp":
			held = string(buf[:n])
		default:
			held += string(buf[:n])
		}
		for {
			message, rest, whole := strings.Cut(held, "\r\n\r\n") // no response here has a body
			if !whole {
				break
			}
			held = rest
			if message += "\r\n\r\n"; strings.Contains(message, branch) && !strings.HasPrefix(message, "SIP/2.0 100 ") {
				return message, nil
			}
		}
	}
}
