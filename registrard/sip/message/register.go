package message

import (
	"net/netip"
	"strings"
	"unicode/utf8"

	"sipha/registrard/location"
)

// ToRequest fills r from a REGISTER that Parse has accepted, with copies of what it needs: r stays valid when the buffer is used again,
// and keeps the memory of its slices. remote and local are the two ends that the REGISTER came between, over protocol ("udp", "tcp", ...).
// The contacts are not compared with one another; whether the AOR is one of ours is not looked at.
func (m *Message) ToRequest(r *location.Request, protocol string, remote, local netip.AddrPort) *Error {
	switch {
	case m.err != nil:
		return m.err
	case m.Method != MethodRegister || m.Status != 0:
		return errNotRegister
	case schemeOf(m.To.URI) != schemeSIP:
		return errAOR // RFC 3261 section 10.3 step 5
	case m.star && m.Expires != 0:
		return errStar // section 10.3 step 6
	}
	aor, err := location.ParseAOR(view(m.To.URI))
	if err != nil {
		return errAOR
	}
	for i := range m.contacts {
		if !isPlain(m.contacts[i].params) {
			return errContact
		}
	}
	for _, p := range m.paths {
		if !isPlain(m.at(p)) {
			return errPath
		}
	}
	m.copyText(aor, protocol, remote, local)
	m.fill(r)
	return nil
}

// isPlain tells whether text is fit to be kept, shown and sent to others: UTF-8 without control characters, escaped ones included.
func isPlain(b []byte) bool { return utf8.Valid(b) && span(b, isText) == len(b) }

// texts is a list of strings with one piece of memory, so that a REGISTER costs one allocation for its text.
type texts struct {
	bytes []byte
	ends  []int // of each string in bytes

	all  string
	next int // index in ends
	at   int // where the next string starts in all
}

// end ends a string that was appended to bytes.
func (t *texts) end() { t.ends = append(t.ends, len(t.bytes)) }

// cut returns the strings one after the other.
func (t *texts) cut() string {
	s := t.all[t.at:t.ends[t.next]]
	t.at = t.ends[t.next]
	t.next++
	return s
}

// copyText lists the strings of a request, in the order in which fill takes them.
func (m *Message) copyText(aor location.AOR, protocol string, remote, local netip.AddrPort) {
	t := &m.texts
	*t = texts{bytes: t.bytes[:0], ends: t.ends[:0]}
	t.bytes = append(t.bytes, aor...)
	t.end()
	t.bytes = append(t.bytes, m.CallID...)
	t.end()
	t.bytes = appendProduct(t.bytes, m.Header(HeaderUserAgent))
	t.end()
	for _, end := range [...]netip.AddrPort{remote, local} {
		t.bytes = append(t.bytes, protocol...)
		t.bytes = append(t.bytes, ':')
		t.bytes = end.AppendTo(t.bytes)
		t.end()
	}
	for i := range m.contacts {
		c := &m.contacts[i]
		t.bytes = append(t.bytes, c.uri...)
		t.end()
		t.bytes = appendWithout(t.bytes, c.params, c.drop)
		t.end()
	}
	for _, p := range m.paths {
		t.bytes = append(t.bytes, m.at(p)...)
		t.end()
	}
	t.all = string(t.bytes)
}

// fill sets r from the texts and the numbers.
func (m *Message) fill(r *location.Request) {
	t := &m.texts
	contacts, paths := r.Contacts[:0], r.Path[:0]
	*r = location.Request{
		CSeq: m.CSeq, Star: m.star, Expires: m.Expires,
		AOR: location.AOR(t.cut()), CallID: t.cut(), UserAgent: t.cut(), Received: t.cut(), Socket: t.cut(),
	}
	for i := range m.contacts {
		c := &m.contacts[i]
		k := location.Contact{URI: t.cut(), Params: t.cut(), Q: c.q, Expires: c.expires, RegID: c.regID}
		if n := len(c.instance); n > 0 {
			at := strings.Index(k.Params, view(c.instance)) // it is one of the parameters
			k.Instance = k.Params[at : at+n]
		}
		contacts = append(contacts, k)
	}
	for range m.paths {
		paths = append(paths, t.cut())
	}
	r.Contacts, r.Path = contacts, paths
	t.all = "" // r alone decides how long it lives
}

// appendWithout appends b without two parts of it, in either order.
func appendWithout(dst, b []byte, drop [2]extent) []byte {
	if drop[0].start > drop[1].start {
		drop[0], drop[1] = drop[1], drop[0]
	}
	dst = append(dst, b[:drop[0].start]...)
	dst = append(dst, b[drop[0].end:max(drop[0].end, drop[1].start)]...)
	return append(dst, b[max(drop[0].end, drop[1].end):]...)
}

// appendProduct appends a User-Agent fit to be kept and shown: short, valid UTF-8 and without control characters.
func appendProduct(dst, b []byte) []byte {
	most := len(dst) + MaxUserAgentBytes
	for len(b) > 0 {
		r, n := utf8.DecodeRune(b)
		if len(dst)+n > most {
			break
		}
		if r >= ' ' && r != 0x7f && (r != utf8.RuneError || n > 1) {
			dst = append(dst, b[:n]...)
		}
		b = b[n:]
	}
	return dst
}
