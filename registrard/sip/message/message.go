package message

import (
	"net/netip"

	"sipha/registrard/location"
)

// Framing tells how the end of a message was found.
type Framing uint8

const (
	// Datagram is one message in one datagram or WebSocket message: Content-Length may be missing, and what follows the body is
	// dropped (RFC 3261 section 18.3).
	Datagram Framing = 1 + iota
	// Stream is a message cut from a TCP or TLS stream by Frame: Content-Length is required, and the body is as long as it says.
	Stream
)

// Message is a parsed request or response. Its slices, and the strings of Target, point into the buffer that was parsed: copy what is
// to outlive it. A Message is made to be used again; one that was refused holds what could be read up to then.
type Message struct {
	Method      Method
	MethodName  []byte       // as sent; of a response, the method of its CSeq
	RequestURI  []byte       // as sent
	Target      location.URI // RequestURI in its parts, when it is a SIP or SIPS URI
	Status      int          // of a response; 0 for a request
	Via         ViaValue     // the topmost
	From, To    Address
	CallID      []byte
	CSeq        uint32
	MaxForwards int   // -1 when there is none
	Expires     int64 // seconds of the Expires header, at most MaxExpires; -1 when there is none
	Body        []byte

	buf      []byte
	end      int // of the body in buf
	err      *Error
	seen     uint32 // bit 1<<HeaderID of the headers that were read
	headers  []headerLine
	contacts []contact
	star     bool
	paths    []extent
	cseq     []byte
	texts    texts
}

// extent is a part of the buffer.
type extent struct{ start, end uint16 }

type headerLine struct {
	id          HeaderID
	name, value extent
}

// ViaValue is one Via value (RFC 3261 section 20.42).
type ViaValue struct {
	Transport []byte // "UDP", "TCP" ... as sent
	Host      []byte // of sent-by; an IPv6 address with its brackets
	Port      uint16 // of sent-by; 0 when none was sent
	Branch    []byte
	Received  []byte
	MAddr     []byte
	RPort     bool // the rport parameter is there (RFC 3581)

	malformed bool // beyond sent-by: goes into a response as it came
	version   []byte
	offset    int       // of tail in the header's value
	tail      []byte    // the parameters, from their first semicolon on
	drop      [2]extent // received and rport within tail, semicolon included: a response sets them anew
}

// Address is the value of a From, To, Contact, Path or Route header (RFC 3261 section 20.10).
type Address struct {
	Display []byte // as sent, quotes included; empty when there is none
	URI     []byte // addr-spec without angle brackets
	Params  []byte // header parameters from their first semicolon on; empty when there are none
	Tag     []byte // tag parameter
}

// contact is one Contact value.
type contact struct {
	uri      []byte
	params   []byte // all of them, from the first semicolon on
	drop     [2]extent
	q        int16
	expires  int64
	instance []byte
	regID    uint32
}

// Reset forgets the message and its buffer, and keeps the memory for the next.
func (m *Message) Reset() {
	*m = Message{
		MaxForwards: -1, Expires: -1,
		headers: m.headers[:0], contacts: m.contacts[:0], paths: m.paths[:0], texts: m.texts,
	}
}

// Bytes returns the message as it was parsed, with folded lines made plain and without what followed the body.
func (m *Message) Bytes() []byte { return m.buf[:m.end] }

// Answerable tells whether a response can be formed, and may be: it is a request other than ACK whose Via, From, To, Call-ID and CSeq
// could be read. What cannot be answered is to be dropped.
func (m *Message) Answerable() bool {
	return m.Status == 0 && len(m.MethodName) > 0 && m.Method != MethodAck && len(m.Via.Host) > 0 &&
		m.has(HeaderFrom) && m.has(HeaderTo) && m.has(HeaderCallID) && len(m.cseq) > 0
}

// IsResponse tells responses from requests.
func (m *Message) IsResponse() bool { return m.Status != 0 }

// Star tells whether the request carries "Contact: *".
func (m *Message) Star() bool { return m.star }

// Contacts tells how many Contact values there are, the star not counted.
func (m *Message) Contacts() int { return len(m.contacts) }

func (m *Message) has(id HeaderID) bool { return m.seen&(1<<id) != 0 }

func (m *Message) at(e extent) []byte { return m.buf[e.start:e.end] }

// Header returns the value of the first header of this name, nil when there is none.
func (m *Message) Header(id HeaderID) []byte { return m.HeaderAt(id, 0) }

// HeaderAt returns the value of the header of this name that follows n others of it, nil when there are no more.
func (m *Message) HeaderAt(id HeaderID, n int) []byte {
	if !m.has(id) {
		return nil
	}
	for i := range m.headers {
		if m.headers[i].id != id {
			continue
		}
		if n == 0 {
			return m.at(m.headers[i].value)
		}
		n--
	}
	return nil
}

// Lookup returns the value of the first header with this name, in any case or in its compact form, nil when there is none.
func (m *Message) Lookup(name string) []byte {
	if id := identify([]byte(name)); id != HeaderUnknown {
		return m.Header(id)
	}
	for i := range m.headers {
		if m.headers[i].id == HeaderUnknown && foldEqual(m.at(m.headers[i].name), []byte(name)) {
			return m.at(m.headers[i].value)
		}
	}
	return nil
}

// HasOption tells whether an option tag stands in a Require, Proxy-Require or Supported header.
func (m *Message) HasOption(id HeaderID, tag string) bool {
	for n := 0; ; n++ {
		v := m.HeaderAt(id, n)
		if v == nil {
			return false
		}
		for len(v) > 0 {
			var item []byte
			item, v = nextItem(v)
			if fold(item, tag) {
				return true
			}
		}
	}
}

// AppendUnsupported appends the option tags of Require that are not among those supported, with commas between: the value of the
// Unsupported header of a 420 (RFC 3261 section 8.2.2.3). It appends nothing when all are supported.
func (m *Message) AppendUnsupported(dst []byte, supported ...string) []byte {
	first := true
	for n := 0; ; n++ {
		v := m.HeaderAt(HeaderRequire, n)
		if v == nil {
			return dst
		}
		for len(v) > 0 {
			var item []byte
			item, v = nextItem(v)
			if isOneOf(item, supported) {
				continue
			}
			if !first {
				dst = append(dst, ", "...)
			}
			first = false
			dst = append(dst, item...)
		}
	}
}

func isOneOf(item []byte, tags []string) bool {
	for _, t := range tags {
		if fold(item, t) {
			return true
		}
	}
	return false
}

// nextItem cuts the first item off a comma-separated list of tokens.
func nextItem(v []byte) (item, rest []byte) {
	for i, c := range v {
		if c == ',' {
			return trim(v[:i]), v[i+1:]
		}
	}
	return trim(v), nil
}

// ResponseAddr returns where the responses to this request go over UDP, for a request that came from source: back to the source's
// address, at the source's port if it asked so with rport (RFC 3581 section 4), else at the port of its Via (RFC 3261 section 18.2.2).
// A maddr parameter is not followed: it would let anybody point our answers at anybody.
func (m *Message) ResponseAddr(source netip.AddrPort) netip.AddrPort {
	switch {
	case m.Via.RPort:
		return source
	case m.Via.Port != 0:
		return netip.AddrPortFrom(source.Addr(), m.Via.Port)
	}
	return netip.AddrPortFrom(source.Addr(), DefaultPort)
}

// IsKeepAlive tells a datagram that only keeps a NAT binding open: nothing but CR, LF, SP and NUL (RFC 5626 section 4.4 and habit).
func IsKeepAlive(b []byte) bool {
	for _, c := range b {
		if c != '\r' && c != '\n' && c != ' ' && c != 0 {
			return false
		}
	}
	return true
}
