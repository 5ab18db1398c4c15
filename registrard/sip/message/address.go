package message

import (
	"bytes"

	"sipha/registrard/location"
)

// parseAddress reads name-addr or addr-spec with its header parameters off the front of b (RFC 3261 sections 20.10 and 25.1). rest is
// empty or starts with a comma. The URI's own syntax is not looked at.
func parseAddress(b []byte) (a Address, rest []byte, ok bool) {
	b = trimLeft(b)
	if n := displayName(b); n > 0 {
		a.Display, b = trimRight(b[:n]), b[n:]
	}
	if len(b) > 0 && b[0] == '<' {
		end := bytes.IndexByte(b, '>')
		if end < 0 {
			return a, nil, false
		}
		a.URI, b = b[1:end], b[end+1:]
	} else {
		if len(a.Display) > 0 {
			return a, nil, false
		}
		// Without brackets a comma, semicolon or question mark ends the URI; what follows the first two belongs to the header, and the
		// third needs brackets (section 20.10).
		n := 0
		for n < len(b) && is(b[n], isVisible) && b[n] != ',' && b[n] != ';' && b[n] != '?' {
			n++
		}
		a.URI, b = b[:n], b[n:]
	}
	size, ok := checkParams(b)
	if !ok || len(a.URI) == 0 {
		return a, nil, false
	}
	a.Params, rest = trim(b[:size]), b[size:]
	if len(rest) > 0 && rest[0] != ',' {
		return a, nil, false
	}
	return a, rest, true
}

// displayName returns how long the display name at the front of b is, white space after it included; 0 when a URI stands there.
// Outside quotes the grammar wants tokens; UTF-8 is let through too, as phones send it and nothing rests on it.
func displayName(b []byte) int {
	if n := quoted(b); n > 0 {
		return n + space(b[n:])
	}
	for i, c := range b {
		switch {
		case c == '<':
			return i
		case !is(c, isToken) && c != ' ' && c != '\t' && c < 0x80:
			return 0
		}
	}
	return 0
}

// param is one header parameter.
type param struct {
	name  []byte
	value []byte // quotes included; nil when there is none
}

// nextParam cuts generic-param and the semicolon before it off b, which starts with that semicolon after any white space. rest is what
// follows, from the next semicolon, the comma or the end on.
func nextParam(b []byte) (p param, rest []byte, ok bool) {
	b = trimLeft(b)
	if len(b) == 0 || b[0] != ';' {
		return p, nil, false
	}
	b = trimLeft(b[1:])
	n := span(b, isToken)
	if n == 0 {
		return p, nil, false
	}
	p.name, b = b[:n], trimLeft(b[n:])
	if len(b) == 0 || b[0] != '=' {
		return p, b, true
	}
	b = trimLeft(b[1:])
	if n = quoted(b); n == 0 {
		n = span(b, isValue)
	}
	if n == 0 {
		return p, nil, false
	}
	p.value, b = b[:n], trimLeft(b[n:])
	return p, b, true
}

// checkParams returns how many bytes the parameters at the front of b take, up to a comma or the end. It is false when they are
// malformed, too many, or one stands twice (RFC 3261 section 7.3.1).
func checkParams(b []byte) (size int, ok bool) {
	var names [MaxParams][]byte
	n := 0
	for p := b; ; {
		p = trimLeft(p)
		if len(p) == 0 || p[0] == ',' {
			return len(b) - len(p), true
		}
		var param param
		if param, p, ok = nextParam(p); !ok || n == MaxParams {
			return 0, false
		}
		for _, name := range names[:n] {
			if foldEqual(name, param.name) {
				return 0, false
			}
		}
		names[n] = param.name
		n++
	}
}

type scheme uint8

const (
	schemeNone  scheme = iota // not a URI
	schemeSIP                 // sip or sips
	schemeOther               // any other
)

// schemeOf reads the scheme of a URI: ALPHA *( ALPHA / DIGIT / "+" / "-" / "." ) ":".
func schemeOf(uri []byte) scheme {
	i := bytes.IndexByte(uri, ':')
	if i <= 0 || uri[0]|0x20 < 'a' || uri[0]|0x20 > 'z' {
		return schemeNone
	}
	for _, c := range uri[:i] {
		if !is(c, isToken) || !is(c, isURI) && c != '+' || c == '_' || c == '!' || c == '~' || c == '*' || c == '\'' || c == '%' {
			return schemeNone
		}
	}
	if fold(uri[:i], "sip") || fold(uri[:i], "sips") {
		return schemeSIP
	}
	return schemeOther
}

// validURI tells whether b is a SIP or SIPS URI, or has the outer form of another one.
func validURI(b []byte) bool {
	switch schemeOf(b) {
	case schemeSIP:
		_, err := location.ParseURI(view(b))
		return err == nil
	case schemeOther:
		return all(b, isURI)
	}
	return false
}

// validHost tells whether b may be the host of a Via. Nothing resolves it: it needs only to be harmless. Underscores are no part of a
// host name, but of the names of many machines that phones run on.
func validHost(b []byte) bool {
	if len(b) > 255 {
		return false
	}
	if b[0] == '[' {
		b = b[1 : len(b)-1]
		for _, c := range b {
			if !(c >= '0' && c <= '9' || c|0x20 >= 'a' && c|0x20 <= 'f' || c == ':' || c == '.') {
				return false
			}
		}
		return len(b) > 0
	}
	for _, c := range b {
		if !(c >= '0' && c <= '9' || c|0x20 >= 'a' && c|0x20 <= 'z' || c == '-' || c == '.' || c == '_') {
			return false
		}
	}
	return true
}
