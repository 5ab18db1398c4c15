package message

import (
	"errors"
	"hash/maphash"
	"net/netip"
	"strconv"

	"sipha/registrard/location"
)

// ErrTooLarge says that a response would be longer than MaxResponseBytes.
var ErrTooLarge = errors.New("response too large for a datagram")

// Response is what to answer a request with. The zero value of a field leaves its header out.
type Response struct {
	Status     int
	Reason     string             // reason phrase; "" for the status' own
	Tag        []byte             // for To, where the request has none there; not for 100
	Source     netip.AddrPort     // where the request came from, for the Via's received and rport
	Bindings   []location.Binding // Contact headers, with what remains until they run out
	Now        location.Time      // what remains counts from here
	RetryAfter uint32             // seconds
	MinExpires uint32             // seconds
	Headers    []byte             // further headers, each a whole line with its CRLF: challenges, Allow, Date, Unsupported ...
}

// AppendResponse appends the response to this request, which must be Answerable, and returns the longer slice, or dst as it was with
// ErrTooLarge. The headers that RFC 3261 section 8.2.6.2 asks for come from the request as they were sent; the topmost Via gets received
// and rport (RFC 3261 section 18.2.1, RFC 3581 section 4); a 2xx to a REGISTER repeats its Path (RFC 3327 section 5.3).
func (m *Message) AppendResponse(dst []byte, r *Response) ([]byte, error) {
	start := len(dst)
	dst = append(dst, "SIP/2.0 "...)
	dst = strconv.AppendInt(dst, int64(r.Status), 10)
	dst = append(dst, ' ')
	if r.Reason != "" {
		dst = append(dst, r.Reason...)
	} else {
		dst = append(dst, reason(r.Status)...)
	}
	dst = append(dst, "\r\n"...)
	dst = m.appendVias(dst, r.Source)
	dst = append(dst, "From: "...)
	dst = append(dst, m.Header(HeaderFrom)...)
	dst = append(dst, "\r\nTo: "...)
	dst = append(dst, m.Header(HeaderTo)...)
	if len(m.To.Tag) == 0 && len(r.Tag) > 0 {
		dst = append(dst, ";tag="...)
		dst = append(dst, r.Tag...)
	}
	dst = append(dst, "\r\nCall-ID: "...)
	dst = append(dst, m.Header(HeaderCallID)...)
	dst = append(dst, "\r\nCSeq: "...)
	dst = append(dst, m.cseq...)
	dst = append(dst, "\r\n"...)
	for i := range r.Bindings {
		dst = appendContact(dst, &r.Bindings[i], r.Now)
	}
	if r.Status/100 == 2 && m.Method == MethodRegister {
		for _, p := range m.paths {
			dst = append(dst, "Path: "...)
			dst = append(dst, m.at(p)...)
			dst = append(dst, "\r\n"...)
		}
	}
	dst = appendSeconds(dst, "Retry-After: ", r.RetryAfter)
	dst = appendSeconds(dst, "Min-Expires: ", r.MinExpires)
	dst = append(dst, r.Headers...)
	dst = append(dst, "Content-Length: 0\r\n\r\n"...)
	if len(dst)-start > MaxResponseBytes {
		return dst[:start], ErrTooLarge
	}
	return dst, nil
}

// appendVias copies every Via in order.
func (m *Message) appendVias(dst []byte, source netip.AddrPort) []byte {
	top := true
	for i := range m.headers {
		if m.headers[i].id != HeaderVia {
			continue
		}
		dst = append(dst, "Via: "...)
		value := m.at(m.headers[i].value)
		if top {
			dst = m.Via.appendTop(dst, value, source)
			top = false
		} else {
			dst = append(dst, value...)
		}
		dst = append(dst, "\r\n"...)
	}
	return dst
}

// appendTop appends a Via header's value with received and rport of its first value set anew.
func (v *ViaValue) appendTop(dst, value []byte, source netip.AddrPort) []byte {
	if !source.IsValid() || v.malformed {
		return append(dst, value...)
	}
	// The first value ends where its parameters do.
	front := v.offset + len(v.tail)
	dst = append(dst, value[:v.offset]...)
	dst = appendWithout(dst, v.tail, v.drop)
	host := len(dst)
	dst = append(dst, ";received="...)
	address := len(dst)
	dst = source.Addr().AppendTo(dst)
	if !v.RPort && sameHost(v.Host, dst[address:]) {
		dst = dst[:host]
	}
	if v.RPort {
		dst = append(dst, ";rport="...)
		dst = strconv.AppendUint(dst, uint64(source.Port()), 10)
	}
	return append(dst, value[front:]...)
}

// sameHost tells whether sent-by names this address in the same form. A received too many does no harm.
func sameHost(host, address []byte) bool {
	if len(host) > 2 && host[0] == '[' {
		host = host[1 : len(host)-1]
	}
	return foldEqual(host, address)
}

// appendContact appends one Contact header. What has run out is left out.
func appendContact(dst []byte, b *location.Binding, now location.Time) []byte {
	left := int64(b.Expires - now)
	if left <= 0 {
		return dst
	}
	dst = append(dst, "Contact: <"...)
	dst = append(dst, b.Contact...)
	dst = append(dst, '>')
	dst = append(dst, b.Params...)
	if b.Q >= 0 {
		dst = append(dst, ";q="...)
		dst = appendQ(dst, b.Q)
	}
	dst = append(dst, ";expires="...)
	// Rounded down, so that the phone comes back in time; but 0 would mean that it is gone.
	dst = strconv.AppendInt(dst, max(1, left/1000), 10)
	return append(dst, "\r\n"...)
}

// appendQ appends a qvalue of thousandths.
func appendQ(dst []byte, q int16) []byte {
	if q >= 1000 {
		return append(dst, '1')
	}
	dst = append(dst, '0')
	if q == 0 {
		return dst
	}
	dst = append(dst, '.')
	for unit := int16(100); q > 0; unit /= 10 {
		dst = append(dst, '0'+byte(q/unit))
		q %= unit
	}
	return dst
}

func appendSeconds(dst []byte, name string, seconds uint32) []byte {
	if seconds == 0 {
		return dst
	}
	dst = append(dst, name...)
	dst = strconv.AppendUint(dst, uint64(seconds), 10)
	return append(dst, "\r\n"...)
}

// TooLarge is what to answer where the bindings do not fit into a response: they are left out, and the peer is not left waiting.
func TooLarge(r *Response) Response {
	return Response{Status: 500, Reason: "Response Too Large", Tag: r.Tag, Source: r.Source}
}

// AppendHeader appends a header line for Response.Headers.
func AppendHeader(dst []byte, name, value string) []byte {
	dst = append(dst, name...)
	dst = append(dst, ": "...)
	dst = append(dst, value...)
	return append(dst, "\r\n"...)
}

// Tagger makes To tags without keeping state: the same request gets the same tag for the life of the process (RFC 3261 section 8.2.7).
type Tagger struct{ seed maphash.Seed }

// NewTagger returns a Tagger with a secret of its own.
func NewTagger() Tagger { return Tagger{maphash.MakeSeed()} }

// Sum returns a hash of the request's Call-ID, From tag and CSeq: the same for a retransmission, another for any other request.
func (t Tagger) Sum(m *Message) uint64 {
	var h maphash.Hash
	h.SetSeed(t.seed)
	for _, b := range [...][]byte{m.CallID, m.From.Tag, m.cseq} {
		_, _ = h.Write(b) // never fails
		_ = h.WriteByte(0)
	}
	return h.Sum64()
}

// AppendTag appends the tag for this request's To: 16 hexadecimal digits.
func (t Tagger) AppendTag(dst []byte, m *Message) []byte {
	const digits = "0123456789abcdef"
	sum := t.Sum(m)
	for shift := 60; shift >= 0; shift -= 4 {
		dst = append(dst, digits[sum>>shift&15])
	}
	return dst
}

// reason gives a status' own phrase (RFC 3261 section 21 and the RFCs that added to it).
func reason(status int) string {
	switch status {
	case 100:
		return "Trying"
	case 200:
		return "OK"
	case 302:
		return "Moved Temporarily"
	case 400:
		return "Bad Request"
	case 401:
		return "Unauthorized"
	case 403:
		return "Forbidden"
	case 404:
		return "Not Found"
	case 405:
		return "Method Not Allowed"
	case 406:
		return "Not Acceptable"
	case 413:
		return "Request Entity Too Large"
	case 414:
		return "Request-URI Too Long"
	case 415:
		return "Unsupported Media Type"
	case 416:
		return "Unsupported URI Scheme"
	case 420:
		return "Bad Extension"
	case 421:
		return "Extension Required"
	case 423:
		return "Interval Too Brief"
	case 439:
		return "First Hop Lacks Outbound Support"
	case 480:
		return "Temporarily Unavailable"
	case 481:
		return "Call/Transaction Does Not Exist"
	case 482:
		return "Loop Detected"
	case 483:
		return "Too Many Hops"
	case 489:
		return "Bad Event"
	case 500:
		return "Server Internal Error"
	case 501:
		return "Not Implemented"
	case 503:
		return "Service Unavailable"
	case 505:
		return "Version Not Supported"
	case 513:
		return "Message Too Large"
	}
	return "Unknown"
}
