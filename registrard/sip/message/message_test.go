package message

import (
	"errors"
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"sipha/registrard/location"
)

// typical is a REGISTER as phones send it.
const typical = "REGISTER sip:example.org SIP/2.0\r\n" +
	"Via: SIP/2.0/UDP 10.0.0.5:5060;branch=z9hG4bK-524287-1;rport\r\n" +
	"Max-Forwards: 70\r\n" +
	"Contact: <sip:alice@10.0.0.5:5060;transport=udp>;q=0.7;+sip.instance=\"<urn:uuid:00000000-0000-1000-8000-000A95A0E128>\";reg-id=1;expires=3600\r\n" +
	"To: \"Alice\" <sip:alice@example.org>\r\n" +
	"From: \"Alice\" <sip:alice@example.org>;tag=9fxced76sl\r\n" +
	"Call-ID: 1j9FpLxk3uxtm8tn@10.0.0.5\r\n" +
	"CSeq: 4711 REGISTER\r\n" +
	"Expires: 7200\r\n" +
	"Allow: INVITE, ACK, CANCEL, BYE, NOTIFY, REFER, MESSAGE, OPTIONS\r\n" +
	"Supported: path, outbound\r\n" +
	"User-Agent: Example Phone/1.2.3\r\n" +
	"Path: <sip:edge1.example.org;lr;ob>, <sip:edge2.example.org;lr>\r\n" +
	"Content-Length: 0\r\n\r\n"

var (
	phone   = netip.MustParseAddrPort("192.0.2.7:40001")
	server  = netip.MustParseAddrPort("192.0.2.1:5060")
	netipV6 = netip.MustParseAddrPort("[2001:db8::9]:5062")
)

// parse parses a copy, since Parse may change its buffer.
func parse(s string, framing Framing) (*Message, *Error) {
	var m Message
	err := m.Parse([]byte(s), framing)
	return &m, err
}

func TestParseTypical(t *testing.T) {
	m, err := parse(typical, Datagram)
	if err != nil {
		t.Fatal(err)
	}
	if m.Method != MethodRegister || m.CSeq != 4711 || m.MaxForwards != 70 || m.Expires != 7200 || !m.Answerable() {
		t.Errorf("got %+v", m)
	}
	if got := string(m.Via.Host); got != "10.0.0.5" || m.Via.Port != 5060 || !m.Via.RPort || string(m.Via.Branch) != "z9hG4bK-524287-1" {
		t.Errorf("Via: got %+v", m.Via)
	}
	if string(m.From.Tag) != "9fxced76sl" || string(m.From.Display) != `"Alice"` || string(m.To.URI) != "sip:alice@example.org" {
		t.Errorf("From, To: got %+v, %+v", m.From, m.To)
	}
	if !m.HasOption(HeaderSupported, "path") || m.HasOption(HeaderSupported, "gruu") || m.HasOption(HeaderRequire, "path") {
		t.Error("option tags")
	}
}

func TestToRequest(t *testing.T) {
	m, err := parse(typical, Datagram)
	if err != nil {
		t.Fatal(err)
	}
	var got location.Request
	if err := m.ToRequest(&got, "udp", phone, server); err != nil {
		t.Fatal(err)
	}
	for i := range m.buf {
		m.buf[i] = 'X' // the request must not share it
	}
	want := location.Request{
		AOR: "sip:alice@example.org", CallID: "1j9FpLxk3uxtm8tn@10.0.0.5", CSeq: 4711, Expires: 7200,
		Contacts: []location.Contact{{
			URI:      "sip:alice@10.0.0.5:5060;transport=udp",
			Params:   `;+sip.instance="<urn:uuid:00000000-0000-1000-8000-000A95A0E128>";reg-id=1`,
			Q:        700,
			Expires:  3600,
			Instance: "urn:uuid:00000000-0000-1000-8000-000A95A0E128",
			RegID:    1,
		}},
		Path:     []string{"<sip:edge1.example.org;lr;ob>", "<sip:edge2.example.org;lr>"},
		Received: "udp:192.0.2.7:40001", Socket: "udp:192.0.2.1:5060", UserAgent: "Example Phone/1.2.3",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("request (-want +got):\n%s", diff)
	}
}

func TestResponse(t *testing.T) {
	m, err := parse(typical, Datagram)
	if err != nil {
		t.Fatal(err)
	}
	got, tooLarge := m.AppendResponse(nil, &Response{
		Status: 200, Tag: []byte("t1"), Source: phone, Now: 1000,
		Bindings: []location.Binding{
			{Contact: "sip:alice@10.0.0.5:5060;transport=udp", Params: ";reg-id=1", Q: 700, Expires: 3601000},
			{Contact: "sip:alice@10.0.0.6", Q: -1, Expires: 1999},
			{Contact: "sip:alice@10.0.0.7", Q: -1, Expires: 1000},
		},
		Headers: AppendHeader(nil, "Supported", "path"),
	})
	if tooLarge != nil {
		t.Fatal(tooLarge)
	}
	want := strings.Join([]string{
		"SIP/2.0 200 OK",
		"Via: SIP/2.0/UDP 10.0.0.5:5060;branch=z9hG4bK-524287-1;received=192.0.2.7;rport=40001",
		`From: "Alice" <sip:alice@example.org>;tag=9fxced76sl`,
		`To: "Alice" <sip:alice@example.org>;tag=t1`,
		"Call-ID: 1j9FpLxk3uxtm8tn@10.0.0.5",
		"CSeq: 4711 REGISTER",
		"Contact: <sip:alice@10.0.0.5:5060;transport=udp>;reg-id=1;q=0.7;expires=3600",
		"Contact: <sip:alice@10.0.0.6>;expires=1",
		"Path: <sip:edge1.example.org;lr;ob>",
		"Path: <sip:edge2.example.org;lr>",
		"Supported: path",
		"Content-Length: 0", "", "",
	}, "\r\n")
	if diff := cmp.Diff(want, string(got)); diff != "" {
		t.Errorf("response (-want +got):\n%s", diff)
	}
	if r, err := parse(string(got), Stream); err != nil || r.Status != 200 || r.Method != MethodRegister || r.Answerable() {
		t.Errorf("own response: got %v, %+v", err, r)
	}
}

func TestResponseTooLarge(t *testing.T) {
	m, err := parse(typical, Datagram)
	if err != nil {
		t.Fatal(err)
	}
	r := Response{Status: 200, Source: phone, Bindings: make([]location.Binding, 200)}
	for i := range r.Bindings {
		r.Bindings[i] = location.Binding{Contact: "sip:" + strings.Repeat("a", MaxURIBytes), Q: -1, Expires: 5000}
	}
	got, tooLarge := m.AppendResponse([]byte("before"), &r)
	if !errors.Is(tooLarge, ErrTooLarge) || string(got) != "before" {
		t.Errorf("got %d bytes, %v", len(got), tooLarge)
	}
}

// TestTag sees to it that a retransmission gets the answer of the first request, and that other requests get another tag.
func TestTag(t *testing.T) {
	tagger := NewTagger()
	tag := func(s string) string {
		m, err := parse(s, Datagram)
		if err != nil {
			t.Fatal(err)
		}
		return string(tagger.AppendTag(nil, m))
	}
	first := tag(typical)
	if len(first) != 16 || tag(typical) != first {
		t.Errorf("tags %s and %s", first, tag(typical))
	}
	for _, other := range []string{
		with(t, "4711 REGISTER", "4712 REGISTER"), with(t, "1j9FpLxk3uxtm8tn@", "1j9FpLxk3uxtm8to@"), with(t, "tag=9fxced76sl", "tag=9fxced76sm"),
	} {
		if tag(other) == first {
			t.Error("another request has the same tag")
		}
	}
	if NewTagger() == tagger {
		t.Error("two processes have one secret")
	}
}

func TestLookup(t *testing.T) {
	m, err := parse(with(t, "Expires: 7200", "x-Thing : a\r\n\tb\r\nX-THING: c\r\nk: gruu"), Datagram)
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{"X-Thing": "a  \tb", "v": string(m.Header(HeaderVia)), "CALL-ID": "1j9FpLxk3uxtm8tn@10.0.0.5", "X-Other": "", "Expires": ""} {
		if got := m.Lookup(name); string(got) != want || (got == nil) != (want == "") {
			t.Errorf("%s: got %q, want %q", name, got, want)
		}
	}
	if !m.HasOption(HeaderSupported, "gruu") || string(m.HeaderAt(HeaderSupported, 1)) != "gruu" && string(m.HeaderAt(HeaderSupported, 0)) != "gruu" {
		t.Error("second Supported header")
	}
}
