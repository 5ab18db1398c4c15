package message

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"sipha/registrard/location"
)

// with changes one thing in the typical REGISTER.
func with(t testing.TB, old, replacement string) string {
	t.Helper()
	if strings.Count(typical, old) != 1 {
		t.Fatalf("%q is not in the typical REGISTER once", old)
	}
	return strings.Replace(typical, old, replacement, 1)
}

func TestRefused(t *testing.T) {
	const (
		answer = true
		drop   = false
	)
	contact := "<sip:alice@10.0.0.5:5060;transport=udp>;q=0.7;+sip.instance=\"<urn:uuid:00000000-0000-1000-8000-000A95A0E128>\";reg-id=1;expires=3600"
	for name, tt := range map[string]struct {
		message    string
		want       string
		answerable bool
	}{
		"no line end":             {"REGISTER sip:example.org SIP/2.0", "400 Not SIP", drop},
		"nothing":                 {"", "400 Not SIP", drop},
		"HTTP":                    {"GET / HTTP/1.1\r\nHost: a\r\n\r\n", "400 Not SIP", drop},
		"bad method":              {with(t, "REGISTER sip:", "REGI(STER sip:"), "400 Not SIP", drop},
		"no Request-URI":          {with(t, "REGISTER sip:example.org SIP", "REGISTER SIP"), "400 Malformed Request-URI", answer},
		"Request-URI too long":    {with(t, "sip:example.org SIP", "sip:"+strings.Repeat("a", MaxURIBytes)+"@example.org SIP"), "414 Request-URI Too Long", answer},
		"telephone number":        {with(t, "sip:example.org SIP", "tel:+1 SIP"), "416 Unsupported URI Scheme", answer},
		"version":                 {with(t, " SIP/2.0\r\nVia", " SIP/2.1\r\nVia"), "505 Version Not Supported", answer},
		"no version":              {with(t, " SIP/2.0\r\nVia", " SIP/2\r\nVia"), "400 Malformed Request-Line", answer},
		"Via version":             {with(t, "Via: SIP/2.0", "Via: SIP/2.1"), "400 Malformed Via", answer},
		"Via protocol":            {with(t, "Via: SIP/2.0", "Via: HTTP/2.0"), "400 Malformed Via", drop},
		"Via without sent-by":     {with(t, "UDP 10.0.0.5:5060;", "UDP;"), "400 Malformed Via", drop},
		"Via port":                {with(t, "UDP 10.0.0.5:5060;", "UDP 10.0.0.5:65536;"), "400 Malformed Via", drop},
		"Via twice rport":         {with(t, ";rport", ";rport;rport"), "400 Malformed Via", answer},
		"Via rport":               {with(t, ";rport", ";rport=x"), "400 Malformed Via", answer},
		"second Via":              {with(t, ";rport", ";rport, SIP/2.0/UDP"), "400 Malformed Via", answer},
		"Contact parameters":      {with(t, contact, "<sip:a@b.example>;x="+strings.Repeat("a", MaxContactParamsBytes)), "400 Contact Parameters Too Long", answer},
		"no Via":                  {with(t, "Via:", "X-Via:"), "400 Missing Via", drop},
		"no From":                 {with(t, "From:", "X-From:"), "400 Missing From", drop},
		"no To":                   {with(t, "To:", "X-To:"), "400 Missing To", drop},
		"no Call-ID":              {with(t, "Call-ID:", "X-Call-ID:"), "400 Missing Call-ID", drop},
		"no CSeq":                 {with(t, "CSeq:", "X-CSeq:"), "400 Missing CSeq", drop},
		"two From":                {with(t, "Expires: 7200", "f: <sip:a@b>"), "400 Duplicate From", answer},
		"two To":                  {with(t, "Expires: 7200", "t: <sip:a@b>"), "400 Duplicate To", answer},
		"two Call-ID":             {with(t, "Expires: 7200", "i: 1"), "400 Duplicate Call-ID", answer},
		"two CSeq":                {with(t, "Expires: 7200", "CSeq: 4711 REGISTER"), "400 Duplicate CSeq", answer},
		"two Max-Forwards":        {with(t, "Expires: 7200", "Max-Forwards: 70"), "400 Duplicate Max-Forwards", answer},
		"two Content-Length":      {with(t, "Expires: 7200", "l: 0"), "400 Duplicate Content-Length", answer},
		"two Expires":             {with(t, "Max-Forwards: 70", "Expires: 7200"), "400 Duplicate Expires", answer},
		"Max-Forwards":            {with(t, "Max-Forwards: 70", "Max-Forwards: 256"), "400 Malformed Max-Forwards", answer},
		"negative Max-Forwards":   {with(t, "Max-Forwards: 70", "Max-Forwards: -1"), "400 Malformed Max-Forwards", answer},
		"From in quotes":          {with(t, "From: \"Alice\" <", "From: \"Alice <"), "400 Malformed From", answer},
		"From tag":                {with(t, "tag=9fxced76sl", "tag=\"x\""), "400 Malformed From", answer},
		"From two tags":           {with(t, "tag=9fxced76sl", "tag=x;Tag=y"), "400 Malformed From", answer},
		"two values of To":        {with(t, "To: ", "To: <sip:bob@example.org>, "), "400 Malformed To", answer},
		"To without brackets":     {with(t, "To: \"Alice\" <sip:alice@example.org>", "To: \"Alice\" sip:alice@example.org"), "400 Malformed To", answer},
		"To with spaces":          {with(t, "To: \"Alice\" <sip:", "To: \"Alice\" < sip:"), "400 Malformed To", answer},
		"To with text after":      {with(t, "To: \"Alice\" <sip:alice@example.org>", "To: <sip:alice@example.org> x"), "400 Malformed To", answer},
		"To without user":         {with(t, "To: \"Alice\" <sip:alice@example.org>", "To: <sip:example.org>"), "400 To Is No Address-of-Record", answer},
		"Call-ID":                 {with(t, "1j9FpLxk3uxtm8tn@10.0.0.5", "a b"), "400 Malformed Call-ID", answer},
		"Call-ID with two ats":    {with(t, "1j9FpLxk3uxtm8tn@10.0.0.5", "a@b@c"), "400 Malformed Call-ID", answer},
		"Call-ID too long":        {with(t, "1j9FpLxk3uxtm8tn@10.0.0.5", strings.Repeat("a", MaxCallIDBytes+1)), "400 Malformed Call-ID", answer},
		"CSeq":                    {with(t, "4711 REGISTER", "REGISTER 4711"), "400 Malformed CSeq", answer},
		"CSeq too high":           {with(t, "4711 REGISTER", "2147483648 REGISTER"), "400 Malformed CSeq", answer},
		"CSeq method":             {with(t, "4711 REGISTER", "4711 register"), "400 CSeq Method Mismatch", answer},
		"Content-Length":          {with(t, "Content-Length: 0", "Content-Length: 0x0"), "400 Malformed Content-Length", answer},
		"negative Content-Length": {with(t, "Content-Length: 0", "Content-Length: -1"), "400 Malformed Content-Length", answer},
		"empty Content-Length":    {with(t, "Content-Length: 0", "Content-Length:"), "400 Malformed Content-Length", answer},
		"huge Content-Length":     {with(t, "Content-Length: 0", "Content-Length: 99999999999999999999"), "400 Content-Length Mismatch", answer},
		"long Content-Length":     {with(t, "Content-Length: 0", "Content-Length: 1"), "400 Content-Length Mismatch", answer},
		"header without colon":    {with(t, "Expires: 7200", "Expires 7200"), "400 Malformed Header", answer},
		"header without name":     {with(t, "Expires: 7200", ": 7200"), "400 Malformed Header", answer},
		"space in a name":         {with(t, "Expires: 7200", "Exp ires: 7200"), "400 Malformed Header", answer},
		"fold at the start":       {with(t, "Via: ", " Via: "), "400 Malformed Header", drop},
		"bare LF":                 {with(t, "Expires: 7200\r\n", "Expires: 7200\n"), "400 Malformed Line End", answer},
		"bare LF in a value":      {with(t, "Expires: 7200\r\n", "X: a\nTo: <sip:b@c>\r\n"), "400 Malformed Line End", answer},
		"bare LF in a fold":       {with(t, "Expires: 7200\r\n", "X: a\n b\r\n"), "400 Malformed Line End", answer},
		"bare CR":                 {with(t, "Expires: 7200", "X: a\rb"), "400 Control Character", answer},
		"NUL":                     {with(t, "Expires: 7200", "X: a\x00b"), "400 Control Character", answer},
		"NUL in Call-ID":          {with(t, "1j9FpLxk3uxtm8tn@10.0.0.5", "a\x00"), "400 Control Character", drop},
		"escaped CR":              {with(t, "\"Alice\" <sip:alice@example.org>;tag", "\"\\\r\" <sip:alice@example.org>;tag"), "400 Control Character", drop},
		"unterminated":            {strings.TrimSuffix(typical, "\r\n"), "400 Unterminated Headers", answer},
		"unterminated in a line":  {strings.TrimSuffix(typical, "\r\n\r\n"), "400 Unterminated Headers", answer},
		"too many headers":        {with(t, "Expires: 7200\r\n", strings.Repeat("X: y\r\n", MaxHeaders)), "400 Too Many Headers", answer},
		"too long headers":        {with(t, "Expires: 7200\r\n", "X: "+strings.Repeat("y", MaxHeaderBytes)+"\r\n"), "513 Message Too Large", answer},
		"too long a message":      {typical + strings.Repeat("x", MaxMessageBytes), "513 Message Too Large", drop},
		"empty Require":           {with(t, "Expires: 7200", "Require:"), "400 Malformed Option Tag", answer},
		"Require":                 {with(t, "Expires: 7200", "Require: a,,b"), "400 Malformed Option Tag", answer},
		"Supported":               {with(t, "path, outbound", "path outbound"), "400 Malformed Option Tag", answer},
		"Contact":                 {with(t, contact, ""), "400 Malformed Contact", answer},
		"Contact parameter":       {with(t, "5060;transport=udp>", "5060transport=udp>"), "400 Malformed Contact", answer},
		"Contact, one of two":     {with(t, contact, contact+", <bad>"), "400 Malformed Contact", answer},
		"Contact, no bracket":     {with(t, contact, "<sip:a@b"), "400 Malformed Contact", answer},
		"Contact, trailing comma": {with(t, contact, contact+","), "400 Malformed Contact", answer},
		"Contact with headers":    {with(t, contact, "sip:a@b?c=d"), "400 Malformed Contact", answer},
		"Contact too long":        {with(t, contact, "<sip:"+strings.Repeat("a", MaxURIBytes)+"@b>"), "400 Contact URI Too Long", answer},
		"too many Contacts":       {with(t, contact, strings.Repeat("<sip:a@b>,", MaxContacts)+"<sip:a@b>"), "400 Too Many Contacts", answer},
		"q":                       {with(t, "q=0.7", "q=1.001"), "400 Malformed Contact", answer},
		"q without a value":       {with(t, "q=0.7", "q"), "400 Malformed Contact", answer},
		"q twice":                 {with(t, "q=0.7", "q=0.7;Q=0.7"), "400 Malformed Contact", answer},
		"reg-id":                  {with(t, "reg-id=1", "reg-id=0"), "400 Malformed Contact", answer},
		"instance":                {with(t, "\"<urn:uuid:00000000-0000-1000-8000-000A95A0E128>\"", "abc"), "400 Malformed Contact", answer},
		"Contact not UTF-8":       {with(t, "reg-id=1", "x=\"\xff\""), "400 Malformed Contact", answer},
		"Contact with a NUL":      {with(t, "reg-id=1", "x=\"\\\x00\""), "400 Malformed Contact", answer},
		"Path with a NUL":         {with(t, "<sip:edge2.example.org;lr>", "\"\\\x00\" <sip:edge2.example.org>"), "400 Malformed Path", answer},
		"too many parameters":     {with(t, contact, "<sip:a@b>"+manyParams(MaxParams+1)), "400 Malformed Contact", answer},
		"star with contact":       {with(t, contact, contact+"\r\nContact: *"), "400 Malformed Contact Wildcard", answer},
		"star with Expires":       {with(t, contact, "*"), "400 Malformed Contact Wildcard", answer},
		"star twice":              {with(t, contact, "*\r\nm: *"), "400 Malformed Contact Wildcard", answer},
		"star with parameter":     {with(t, contact, "*;expires=0"), "400 Malformed Contact", answer},
		"Path without brackets":   {with(t, "<sip:edge2.example.org;lr>", "sip:edge2.example.org"), "400 Malformed Path", answer},
		"Path":                    {with(t, "<sip:edge2.example.org;lr>", "<sip:edge2.example.org;lr>, "), "400 Malformed Path", answer},
		"Path not UTF-8":          {with(t, "<sip:edge2.example.org;lr>", "\"\xff\" <sip:edge2.example.org>"), "400 Malformed Path", answer},
		"too many Path values":    {with(t, "<sip:edge2.example.org;lr>", strings.Repeat("<sip:a>,", MaxPaths)+"<sip:a>"), "400 Too Many Path Values", answer},
		"Route":                   {with(t, "Expires: 7200", "Route: <bad>"), "400 Malformed Route", answer},
		"Record-Route":            {with(t, "Expires: 7200", "Record-Route: x"), "400 Malformed Record-Route", answer},
	} {
		t.Run(name, func(t *testing.T) {
			m, err := parse(tt.message, Datagram)
			if err == nil {
				err = m.ToRequest(new(location.Request), "udp", phone, server)
			}
			if err == nil || err.Error() != tt.want || m.Answerable() != tt.answerable {
				t.Errorf("got %v, answerable %t; want %s, answerable %t", err, m.Answerable(), tt.want, tt.answerable)
			}
			checkAnswer(t, m)
		})
	}
}

func manyParams(n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, ";p%d=v", i)
	}
	return b.String()
}

// checkAnswer sees to it that whatever can be answered gets a response that is one message, which nobody can take for two.
func checkAnswer(t *testing.T, m *Message) {
	t.Helper()
	if !m.Answerable() {
		return
	}
	b, err := m.AppendResponse(nil, &Response{Status: 400, Tag: []byte("t"), Source: phone})
	if err != nil {
		t.Fatal(err)
	}
	s := string(b)
	if strings.Index(s, "\r\n\r\n") != len(s)-4 || strings.Contains(strings.ReplaceAll(s, "\r\n", ""), "\n") || strings.Contains(strings.ReplaceAll(s, "\r\n", ""), "\r") {
		t.Errorf("response is not one message:\n%q", s)
	}
	if n, err := Frame(b); n != len(b) {
		t.Errorf("response of %d bytes frames as %d, %v:\n%q", len(b), n, err, s)
	}
}

func TestStreamNeedsContentLength(t *testing.T) {
	m, err := parse(with(t, "Content-Length: 0\r\n", ""), Stream)
	if err == nil || err.Reason != "Missing Content-Length" || !m.Answerable() {
		t.Errorf("got %v", err)
	}
	if _, err = parse(typical+"x", Stream); err == nil || err.Reason != "Content-Length Mismatch" {
		t.Errorf("with more than it says: got %v", err)
	}
	m, err = parse(typical+"x", Datagram)
	if err != nil || len(m.Body) != 0 || len(m.Bytes()) != len(typical) {
		t.Errorf("in a datagram: got %v, body %q", err, m.Body)
	}
	m, err = parse(with(t, "Content-Length: 0\r\n", "")+"body", Datagram)
	if err != nil || string(m.Body) != "body" {
		t.Errorf("without length in a datagram: got %v, body %q", err, m.Body)
	}
}

// TestACKIsNotAnswered holds RFC 3261 section 17: no response is ever sent to an ACK.
func TestACKIsNotAnswered(t *testing.T) {
	s := strings.ReplaceAll(typical, "REGISTER", "ACK")
	if m, err := parse(s, Datagram); err != nil || m.Answerable() {
		t.Errorf("got %v, answerable %t", err, m.Answerable())
	}
}

func TestExpires(t *testing.T) {
	for in, want := range map[string]int64{
		"0": 0, "60": 60, "007": 7, "4294967295": MaxExpires, "4294967296": MaxExpires, "99999999999999999999999": MaxExpires,
		"-1": MalformedExpires, "1.5": MalformedExpires, "soon": MalformedExpires, "": MalformedExpires, "Thu, 01 Dec 1994 16:00:00 GMT": MalformedExpires,
	} {
		m, err := parse(with(t, "Expires: 7200", "Expires: "+in), Datagram)
		if err != nil || m.Expires != want {
			t.Errorf("Expires: %s: got %d, %v, want %d", in, m.Expires, err, want)
		}
		m, err = parse(with(t, "expires=3600", `expires="`+in+`"`), Datagram)
		if in == "" || in[0] < '0' || in[0] > '9' || strings.Contains(in, ".") {
			if err != nil || m.contacts[0].expires != MalformedExpires {
				t.Errorf("expires=%q: got %d, %v", in, m.contacts[0].expires, err)
			}
			continue
		}
		if m, err = parse(with(t, "expires=3600", `expires=`+in), Datagram); err != nil || m.contacts[0].expires != want {
			t.Errorf("expires=%s: got %d, %v, want %d", in, m.contacts[0].expires, err, want)
		}
	}
}

func TestResponseAddr(t *testing.T) {
	for name, tt := range map[string]struct{ old, replacement, want string }{
		"rport":     {";rport", ";rport", "192.0.2.7:40001"},
		"port":      {"10.0.0.5:5060;branch=z9hG4bK-524287-1;rport", "10.0.0.5:5070;branch=z9hG4bK1", "192.0.2.7:5070"},
		"none":      {"10.0.0.5:5060;branch=z9hG4bK-524287-1;rport", "phone.example.org;branch=z9hG4bK1", "192.0.2.7:5060"},
		"maddr":     {"10.0.0.5:5060;branch=z9hG4bK-524287-1;rport", "10.0.0.5;branch=z9hG4bK1;maddr=198.51.100.1", "192.0.2.7:5060"},
		"malformed": {"10.0.0.5:5060;branch=z9hG4bK-524287-1;rport", "10.0.0.5:5070;;rport", "192.0.2.7:5070"},
	} {
		m, _ := parse(with(t, tt.old, tt.replacement), Datagram)
		if got := m.ResponseAddr(phone); got != netip.MustParseAddrPort(tt.want) {
			t.Errorf("%s: got %s, want %s", name, got, tt.want)
		}
	}
}

func TestKeepAlive(t *testing.T) {
	for s, want := range map[string]bool{"": true, "\r\n": true, "\r\n\r\n": true, "\x00\x00\x00\x00": true, "\r\nREGISTER": false, typical: false} {
		if got := IsKeepAlive([]byte(s)); got != want {
			t.Errorf("%.20q: got %t", s, got)
		}
	}
}

func TestUserAgentIsFitToShow(t *testing.T) {
	m, err := parse(with(t, "Example Phone/1.2.3", "T\xe9l\xc3\xa9phone\\\x07"+strings.Repeat("\xc3\xa9", MaxUserAgentBytes)), Datagram)
	if err != nil {
		t.Fatal(err)
	}
	got := mustRequest(t, m).UserAgent
	if want := "Tl\xc3\xa9phone\\" + strings.Repeat("\xc3\xa9", 59); got != want || len(got) > MaxUserAgentBytes {
		t.Errorf("got %q, %d bytes", got, len(got))
	}
}
