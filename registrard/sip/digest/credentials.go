package digest

import (
	"errors"

	"sipha/registrard/location"
)

// ErrScheme says that an Authorization header is not of the Digest scheme. Such a header counts as none (RFC 4475 section 3.3.7).
var ErrScheme = errors.New("authorization scheme is not Digest")

// ErrMalformed says that a Digest Authorization header breaks its grammar, lacks what we asked for (RFC 7616 section 3.4: 400), names an
// algorithm that we do not have, or exceeds a limit.
var ErrMalformed = errors.New("malformed digest credentials")

const (
	// MaxParams bounds the parameters of an Authorization header.
	MaxParams = 24
	// MaxFieldBytes bounds each parameter's value but the URI's.
	MaxFieldBytes = 256
	// MaxURIBytes bounds the URI.
	MaxURIBytes = 512
)

// Credentials is a parsed Digest Authorization header. Its slices point into the header's value.
type Credentials struct {
	Username  []byte
	Realm     []byte
	Nonce     []byte
	URI       []byte
	Response  []byte // in hexadecimal, of the algorithm's length
	CNonce    []byte
	NC        []byte // as sent: 8 hexadecimal digits
	Count     uint32 // NC as a number
	Algorithm location.Algorithm
}

// Parse reads the value of an Authorization header. Only qop=auth is taken: every challenge asks for it. A quoted-pair has no place in
// any of these fields, since implementations do not agree whether the hash covers its backslash.
func Parse(value []byte) (Credentials, error) {
	var c Credentials
	n := tokenLen(value)
	if n == 0 || n == len(value) || value[n] != ' ' && value[n] != '\t' {
		return c, ErrMalformed
	}
	if !foldEqual(value[:n], "digest") {
		return c, ErrScheme
	}
	p := parser{c: Credentials{Algorithm: location.MD5}} // RFC 7616 section 3.4: MD5 where none is named
	rest := value[n:]
	for i := 0; ; i++ {
		name, field, more, ok := nextField(rest)
		if !ok || i == MaxParams || !p.set(name, field) {
			return c, ErrMalformed
		}
		if len(more) == 0 {
			break
		}
		rest = more[1:]
	}
	if p.seen&required != required || len(p.c.Response) != 2*size(p.c.Algorithm) {
		return c, ErrMalformed
	}
	return p.c, nil
}

// nextField cuts one name=value off b, with the white space around. more is empty or starts with a comma.
func nextField(b []byte) (name, value, more []byte, ok bool) {
	b = b[spaceLen(b):]
	n := tokenLen(b)
	name, b = b[:n], b[n:]
	b = b[spaceLen(b):]
	if n == 0 || len(b) == 0 || b[0] != '=' {
		return nil, nil, nil, false
	}
	b = b[1:]
	b = b[spaceLen(b):]
	if len(b) > 0 && b[0] == '"' {
		n = quotedLen(b)
		if n == 0 {
			return nil, nil, nil, false
		}
		value, b = b[1:n-1], b[n:]
	} else {
		n = tokenLen(b)
		if n == 0 {
			return nil, nil, nil, false
		}
		value, b = b[:n], b[n:]
	}
	b = b[spaceLen(b):]
	if len(b) > 0 && b[0] != ',' {
		return nil, nil, nil, false
	}
	return name, value, b, true
}

const (
	seenUsername = 1 << iota
	seenRealm
	seenNonce
	seenURI
	seenResponse
	seenCNonce
	seenNC
	seenQOP
	seenAlgorithm
	seenOpaque
	seenUserhash

	required = seenUsername | seenRealm | seenNonce | seenURI | seenResponse | seenCNonce | seenNC | seenQOP
)

type parser struct {
	c    Credentials
	seen uint
}

// set takes one field. It is false when the field is malformed or stands twice.
func (p *parser) set(name, value []byte) bool {
	most, bit := MaxFieldBytes, uint(0)
	switch {
	case foldEqual(name, "username"):
		bit, p.c.Username = seenUsername, value
	case foldEqual(name, "realm"):
		bit, p.c.Realm = seenRealm, value
	case foldEqual(name, "nonce"):
		bit, p.c.Nonce = seenNonce, value
	case foldEqual(name, "uri"):
		bit, p.c.URI, most = seenURI, value, MaxURIBytes
	case foldEqual(name, "response"):
		bit, p.c.Response = seenResponse, value
	case foldEqual(name, "cnonce"):
		bit, p.c.CNonce = seenCNonce, value
	case foldEqual(name, "nc"):
		bit, p.c.NC = seenNC, value
		var ok bool
		if p.c.Count, ok = hexCount(value); !ok {
			return false
		}
	case foldEqual(name, "qop"):
		bit = seenQOP
		if !foldEqual(value, "auth") {
			return false
		}
	case foldEqual(name, "algorithm"):
		bit = seenAlgorithm
		if p.c.Algorithm = ParseAlgorithm(value); p.c.Algorithm == 0 {
			return false
		}
	case foldEqual(name, "opaque"):
		bit = seenOpaque // none is ever sent; what comes back is of no use
	case foldEqual(name, "userhash"):
		bit = seenUserhash // never offered
		if foldEqual(value, "true") {
			return false
		}
	}
	again := p.seen&bit != 0
	p.seen |= bit
	return !again && len(value) <= most && (len(value) > 0 || bit&required == 0)
}

// hexCount reads 8LHEX.
func hexCount(b []byte) (uint32, bool) {
	if len(b) != 8 {
		return 0, false
	}
	n := uint32(0)
	for _, c := range b {
		d, ok := hexDigit(c)
		if !ok {
			return 0, false
		}
		n = n<<4 | uint32(d)
	}
	return n, true
}

func hexDigit(c byte) (byte, bool) {
	switch {
	case c >= '0' && c <= '9':
		return c - '0', true
	case c|0x20 >= 'a' && c|0x20 <= 'f':
		return c | 0x20 - 'a' + 10, true
	}
	return 0, false
}

// tokenLen returns how long the token at the front of b is (RFC 3261 section 25.1).
func tokenLen(b []byte) int {
	for i, c := range b {
		switch {
		case c >= '0' && c <= '9', c|0x20 >= 'a' && c|0x20 <= 'z':
		case c == '-', c == '.', c == '!', c == '%', c == '*', c == '_', c == '+', c == '`', c == '\'', c == '~':
		default:
			return i
		}
	}
	return len(b)
}

func spaceLen(b []byte) int {
	i := 0
	for i < len(b) && (b[i] == ' ' || b[i] == '\t') {
		i++
	}
	return i
}

// quotedLen returns the length of the quoted-string at the front of b with its quotes, 0 when there is none without a quoted-pair.
func quotedLen(b []byte) int {
	for i := 1; i < len(b); i++ {
		switch c := b[i]; {
		case c == '"':
			return i + 1
		case c == '\\', c < ' ' && c != '\t', c == 0x7f:
			return 0
		}
	}
	return 0
}

// foldEqual tells whether b equals s, which is in lower case, without regard to case.
func foldEqual(b []byte, s string) bool {
	if len(b) != len(s) {
		return false
	}
	for i := range len(s) {
		c := b[i]
		if c >= 'A' && c <= 'Z' {
			c += 'a' - 'A'
		}
		if c != s[i] {
			return false
		}
	}
	return true
}
