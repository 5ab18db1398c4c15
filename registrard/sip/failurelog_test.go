package sip

import (
	"bytes"
	"log/slog"
	"net/netip"
	"strings"
	"testing"

	"sipha/registrard/sip/message"
)

func TestFailureLogHoldsNoPassword(t *testing.T) {
	t.Parallel()
	w := &work{remote: netip.MustParseAddrPort("192.0.2.1:5060")}
	w.msg.Parse([]byte("REGISTER sip:example.org SIP/2.0\r\nVia: SIP/2.0/UDP a;branch=z9hG4bK1\r\nFrom: <sip:a@b>\r\n"+
		"To: <sip:alice:hunter2@example.org>\r\nCall-ID: 1\r\nCSeq: 1 REGISTER\r\n\r\n"), message.Datagram)
	var out bytes.Buffer
	newFailureLog().log(slog.New(slog.NewTextHandler(&out, nil)), RejectedCredentials, w)
	if line := out.String(); strings.Contains(line, "hunter2") || !strings.Contains(line, "aor=sip:alice@example.org") {
		t.Errorf("logged %q", line)
	}
}
