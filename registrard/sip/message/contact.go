package message

import "bytes"

// parseLists reads the Contact, Path, Route and Record-Route headers.
func (m *Message) parseLists() {
	for i := range m.headers {
		h := &m.headers[i]
		switch h.id {
		case HeaderContact:
			m.parseContacts(m.at(h.value))
		case HeaderPath:
			m.parseRoutes(h.value, errPath)
		case HeaderRoute:
			m.parseRoutes(h.value, errRoute)
		case HeaderRecordRoute:
			m.parseRoutes(h.value, errRecordRoute)
		}
	}
	if m.star && len(m.contacts) > 0 {
		m.fail(errStar) // RFC 3261 section 10.3 step 6
	}
}

func (m *Message) parseContacts(value []byte) {
	if string(value) == "*" {
		if m.star {
			m.fail(errStar)
		}
		m.star = true
		return
	}
	for rest := value; ; {
		a, more, ok := parseAddress(rest)
		switch {
		case !ok:
			m.fail(errContact)
			return
		case len(a.URI) > MaxURIBytes:
			m.fail(errContactLong)
			return
		case len(a.Params) > MaxContactParamsBytes:
			m.fail(errContactWide)
			return
		case len(m.contacts) == MaxContacts:
			m.fail(errContactMany)
			return
		}
		c, ok := newContact(&a)
		if !ok || !validURI(a.URI) {
			m.fail(errContact)
			return
		}
		m.contacts = append(m.contacts, c)
		if len(more) == 0 {
			return
		}
		rest = more[1:]
	}
}

// newContact reads the parameters that a registrar knows.
func newContact(a *Address) (contact, bool) {
	c := contact{uri: a.URI, params: a.Params, q: -1, expires: -1}
	for p := a.Params; len(p) > 0; {
		start := len(a.Params) - len(p)
		var param param
		param, p, _ = nextParam(p)
		at := extent{uint16(start), uint16(len(a.Params) - len(p))}
		switch {
		case fold(param.name, "q"):
			q, ok := qvalue(param.value)
			if !ok {
				return c, false
			}
			c.q, c.drop[0] = q, at
		case fold(param.name, "expires"):
			c.expires, c.drop[1] = expires(param.value), at
		case fold(param.name, "+sip.instance"):
			instance, ok := instanceID(param.value)
			if !ok {
				return c, false
			}
			c.instance = instance
		case fold(param.name, "reg-id"):
			// RFC 5626 section 4.2: between 1 and 2**31-1.
			n, ok := number(param.value, MaxCSeq+1)
			if !ok || n < 1 || n > MaxCSeq {
				return c, false
			}
			c.regID = uint32(n)
		}
	}
	return c, true
}

// qvalue reads ( "0" [ "." 0*3DIGIT ] ) / ( "1" [ "." 0*3("0") ] ) in thousandths.
func qvalue(b []byte) (int16, bool) {
	if len(b) == 0 || len(b) > 5 || b[0] != '0' && b[0] != '1' || len(b) > 1 && b[1] != '.' {
		return 0, false
	}
	q, unit := int16(b[0]-'0')*1000, int16(100)
	for _, c := range b[min(2, len(b)):] {
		if c < '0' || c > '9' {
			return 0, false
		}
		q += int16(c-'0') * unit
		unit /= 10
	}
	return q, q <= 1000
}

// instanceID takes the URN out of "<urn:...>" (RFC 5626 section 4.1).
func instanceID(b []byte) ([]byte, bool) {
	if len(b) < len(`"<x>"`) || b[0] != '"' || b[1] != '<' || b[len(b)-2] != '>' {
		return nil, false
	}
	b = b[2 : len(b)-2]
	return b, all(b, isVisible) && !bytes.ContainsAny(b, `<>"\`)
}

// parseRoutes reads values of name-addr form; those of Path are kept.
func (m *Message) parseRoutes(at extent, malformed *Error) {
	value := m.at(at)
	for rest := trimLeft(value); ; {
		start := len(value) - len(rest)
		a, more, ok := parseAddress(rest)
		if !ok || rest[len(a.Display)+space(rest[len(a.Display):])] != '<' || !validURI(a.URI) || len(a.URI) > MaxURIBytes {
			m.fail(malformed)
			return
		}
		if malformed == errPath {
			if len(m.paths) == MaxPaths {
				m.fail(errPathMany)
				return
			}
			end := start + len(trimRight(rest[:len(rest)-len(more)]))
			m.paths = append(m.paths, extent{at.start + uint16(start), at.start + uint16(end)})
		}
		if len(more) == 0 {
			return
		}
		rest = trimLeft(more[1:])
	}
}
