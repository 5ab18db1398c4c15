package message

import "bytes"

// parseVia reads every value of a Via header. The first value of the first header is kept; without its sent-by nothing can be answered.
func (m *Message) parseVia(value []byte, again bool) {
	for rest := value; ; again = true {
		at := len(value) - len(rest)
		v, more, ok := parseViaValue(rest)
		if !again {
			m.Via = v
			m.Via.offset += at
			m.Via.malformed = !ok
		}
		if !ok {
			m.fail(errVia)
			return
		}
		if string(v.version) != "2.0" {
			m.fail(errVia)
		}
		if len(more) == 0 {
			return
		}
		rest = more[1:] // without the comma
	}
}

// parseViaValue matches via-parm. rest is empty or starts with a comma.
func parseViaValue(b []byte) (v ViaValue, rest []byte, ok bool) {
	whole := len(b)
	var protocol []byte
	if protocol, b, ok = cutToken(b, '/'); !ok || !fold(protocol, "sip") {
		return v, nil, false
	}
	if v.version, b, ok = cutToken(b, '/'); !ok || !isVersion(v.version) {
		return v, nil, false
	}
	n := span(b, isToken)
	v.Transport = b[:n]
	b = b[n:]
	gap := space(b)
	if n == 0 || gap == 0 {
		return v, nil, false
	}
	if b, ok = v.parseSentBy(b[gap:]); !ok {
		return v, nil, false
	}
	size, ok := checkParams(b)
	if !ok {
		return v, nil, false
	}
	v.offset = whole - len(b)
	v.tail, rest = trimRight(b[:size]), b[size:]
	if !v.parseParams() {
		return v, nil, false
	}
	if len(rest) > 0 && rest[0] != ',' {
		return v, nil, false
	}
	return v, rest, true
}

// cutToken cuts a token and the separator after it, with white space around both.
func cutToken(b []byte, separator byte) (token, rest []byte, ok bool) {
	b = trimLeft(b)
	n := span(b, isToken)
	token = b[:n]
	b = trimLeft(b[n:])
	if n == 0 || len(b) == 0 || b[0] != separator {
		return nil, nil, false
	}
	return token, trimLeft(b[1:]), true
}

// parseSentBy matches host [ COLON port ] and returns what follows, without white space.
func (v *ViaValue) parseSentBy(b []byte) ([]byte, bool) {
	n := 0
	if len(b) > 0 && b[0] == '[' {
		n = bytes.IndexByte(b, ']') + 1
	} else {
		for n < len(b) && is(b[n], isVisible) && b[n] != ':' && b[n] != ';' && b[n] != ',' {
			n++
		}
	}
	host := b[:n]
	if n == 0 || !validHost(host) {
		return nil, false
	}
	b = trimLeft(b[n:])
	if len(b) > 0 && b[0] == ':' {
		b = trimLeft(b[1:])
		n = 0
		for n < len(b) && b[n] >= '0' && b[n] <= '9' {
			n++
		}
		port, ok := number(b[:n], 65536)
		if !ok || port < 1 || port > 65535 {
			return nil, false
		}
		v.Port = uint16(port)
		b = trimLeft(b[n:])
	}
	v.Host = host
	return b, true
}

func (v *ViaValue) parseParams() bool {
	for p := v.tail; len(p) > 0; {
		before := len(v.tail) - len(p)
		var param param
		param, p, _ = nextParam(p)
		at := extent{uint16(before), uint16(len(v.tail) - len(p))}
		switch {
		case fold(param.name, "branch"):
			// The magic cookie alone names no transaction (RFC 3261 section 8.1.1.7, RFC 4475 section 3.2.1).
			if !all(param.value, isToken) || fold(param.value, "z9hg4bk") {
				return false
			}
			v.Branch = param.value
		case fold(param.name, "received"):
			v.Received, v.drop[0] = param.value, at
		case fold(param.name, "rport"):
			if _, ok := number(param.value, 65535); len(param.value) > 0 && !ok {
				return false
			}
			v.RPort, v.drop[1] = true, at
		case fold(param.name, "maddr"):
			v.MAddr = param.value
		}
	}
	return true
}
