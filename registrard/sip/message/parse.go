package message

import (
	"bytes"
	"unsafe"

	"sipha/registrard/location"
)

// Parse reads the message in buf, which it changes where lines are folded: their line ends become spaces. The error is the first thing
// found wrong; the rest is still read, so that Answerable can tell whether it can be answered.
func (m *Message) Parse(buf []byte, framing Framing) *Error {
	m.Reset()
	if len(buf) > MaxMessageBytes {
		return m.fail(errTooLarge)
	}
	skip := 0
	for skip+1 < len(buf) && buf[skip] == '\r' && buf[skip+1] == '\n' { // RFC 3261 section 7.5
		skip += 2
	}
	buf = buf[skip:]
	m.buf, m.end = buf, len(buf)

	line, next := cutLine(buf)
	if next == 0 {
		return m.fail(errNotSIP)
	}
	if len(line) > 0 && line[len(line)-1] == '\r' {
		line = line[:len(line)-1]
	} else {
		m.fail(errLineEnd)
	}
	if !m.parseStartLine(line) {
		return m.err
	}
	body, ok := m.parseHeaders(next)
	if !ok {
		return m.err
	}
	m.parseBody(body, framing)
	m.checkPresence(framing)
	m.parseLists()
	return m.err
}

// fail keeps the first error and returns it.
func (m *Message) fail(e *Error) *Error {
	if m.err == nil {
		m.err = e
	}
	return m.err
}

// cutLine returns the bytes up to the first LF, and where the next line starts; 0 when there is no LF.
func cutLine(b []byte) (line []byte, next int) {
	i := bytes.IndexByte(b, '\n')
	if i < 0 {
		return nil, 0
	}
	return b[:i], i + 1
}

// parseStartLine reads request line or status line. It is false for what is no SIP message at all.
func (m *Message) parseStartLine(line []byte) bool {
	if len(line) >= 4 && fold(line[:4], "sip/") {
		return m.parseStatusLine(line)
	}
	sp := bytes.IndexByte(line, ' ')
	last := trimRight(line)
	version := last[bytes.LastIndexByte(last, ' ')+1:]
	if sp < 0 || !all(line[:sp], isToken) || len(version) < 4 || !fold(version[:4], "sip/") {
		m.fail(errNotSIP)
		return false
	}
	m.MethodName = line[:sp]
	m.Method = identifyMethod(m.MethodName)
	uri := last[sp+1 : len(last)-len(version)]
	if len(uri) > 0 {
		uri = uri[:len(uri)-1]
	}
	if v := version[4:]; !isVersion(v) {
		m.fail(errStartLine)
	} else if string(v) != "2.0" {
		m.fail(errVersion)
	}
	if len(last) != len(line) {
		m.fail(errStartLine)
	}
	m.parseRequestURI(uri)
	return true
}

func (m *Message) parseRequestURI(uri []byte) {
	m.RequestURI = uri
	if len(uri) > MaxURIBytes {
		m.fail(errURITooLong)
		return
	}
	switch schemeOf(uri) {
	case schemeNone:
		m.fail(errRequestURI)
	case schemeOther:
		m.fail(errScheme)
	case schemeSIP:
		var err error
		if m.Target, err = location.ParseURI(view(uri)); err != nil || m.Target.Headers != "" {
			m.fail(errRequestURI) // headers are not allowed here (RFC 3261 section 19.1.1)
		}
	}
}

// isVersion matches 1*DIGIT "." 1*DIGIT.
func isVersion(b []byte) bool {
	i := bytes.IndexByte(b, '.')
	if i < 0 {
		return false
	}
	_, major := number(b[:i], 1)
	_, minor := number(b[i+1:], 1)
	return major && minor
}

func (m *Message) parseStatusLine(line []byte) bool {
	version, rest, ok := bytes.Cut(line, []byte(" "))
	if !ok || len(rest) < 4 || rest[3] != ' ' {
		m.fail(errStatusLine)
		return false
	}
	status, ok := number(rest[:3], 999)
	if !ok || status < 100 || status > 699 {
		m.fail(errStatusLine)
		return false
	}
	m.Status = int(status)
	if string(version[4:]) != "2.0" {
		m.fail(errVersion)
	}
	return true
}

// parseHeaders reads the headers that start at pos and returns where the body starts. It is false when the headers have no end.
func (m *Message) parseHeaders(pos int) (int, bool) {
	head := m.buf[:min(len(m.buf), MaxHeaderBytes)]
	for {
		end, next, err := headerLineAt(head, pos)
		if err == errUnterminated && len(m.buf) > MaxHeaderBytes {
			err = errTooLarge
		}
		if err != nil {
			m.fail(err)
		}
		switch {
		case next == 0:
			return 0, false
		case end == pos && err == nil:
			return next, true
		case len(m.headers) == MaxHeaders:
			m.fail(errTooManyHeaders)
			return 0, false
		}
		unfold(head[pos:end])
		m.parseHeader(pos, end)
		pos = next
	}
}

// parseHeader reads one header line.
func (m *Message) parseHeader(start, end int) {
	line := m.buf[start:end]
	nameLen := span(line, isToken)
	colon := nameLen + space(line[nameLen:])
	if nameLen == 0 || colon == len(line) || line[colon] != ':' {
		m.fail(errHeaderLine)
		return
	}
	name := line[:nameLen]
	value := trim(line[colon+1:])
	if !isClean(value) {
		m.fail(errControl)
		return
	}
	valueStart := start + colon + 1 + space(line[colon+1:])
	id := identify(name)
	m.headers = append(m.headers, headerLine{
		id:    id,
		name:  extent{uint16(start), uint16(start + nameLen)},
		value: extent{uint16(valueStart), uint16(valueStart + len(value))},
	})
	again := m.has(id)
	m.seen |= 1 << id
	m.parseValue(id, value, again)
}

// isClean tells whether a value is free of control characters. A quoted-pair may hold one (RFC 3261 section 25.1), but CR or LF.
func isClean(value []byte) bool {
	for i, c := range value {
		if classes[c]&isText == 0 && (c == '\r' || c == '\n' || !escaped(value, i)) {
			return false
		}
	}
	return true
}

// escaped tells whether an odd number of backslashes stands before value[i].
func escaped(value []byte, i int) bool {
	n := 0
	for i > n && value[i-n-1] == '\\' {
		n++
	}
	return n%2 == 1
}

// parseValue reads the headers that every message is judged by. again says that one of this name was read before.
func (m *Message) parseValue(id HeaderID, value []byte, again bool) {
	switch id {
	case HeaderVia:
		m.parseVia(value, again)
	case HeaderFrom:
		m.parseOne(&m.From, value, again, errFrom, errTwoFrom)
	case HeaderTo:
		m.parseOne(&m.To, value, again, errTo, errTwoTo)
	case HeaderCallID:
		m.parseCallID(value, again)
	case HeaderCSeq:
		m.parseCSeq(value, again)
	case HeaderMaxForwards:
		n, ok := number(value, MaxForwardsMax+1)
		switch {
		case again:
			m.fail(errTwoForwards)
		case !ok || n > MaxForwardsMax:
			m.fail(errMaxForwards)
		default:
			m.MaxForwards = int(n)
		}
	case HeaderExpires:
		if again {
			m.fail(errTwoExpires)
			return
		}
		m.Expires = expires(value)
	case HeaderContentLength:
		if again {
			m.fail(errTwoLength)
		} else if _, ok := number(value, MaxMessageBytes+1); !ok {
			m.fail(errLength)
		}
	case HeaderRequire, HeaderProxyRequire, HeaderSupported:
		// Supported alone may be empty.
		for rest := value; len(rest) > 0 || id != HeaderSupported; {
			var item []byte
			item, rest = nextItem(rest)
			if !all(item, isToken) {
				m.fail(errOptionTag)
				return
			}
			if rest == nil {
				return
			}
		}
	}
}

// expires reads delta-seconds.
func expires(value []byte) int64 {
	n, ok := number(value, MaxExpires)
	if !ok {
		return MalformedExpires
	}
	return n
}

func (m *Message) parseOne(a *Address, value []byte, again bool, malformed, two *Error) {
	if again {
		m.fail(two)
		return
	}
	var rest []byte
	var ok bool
	if *a, rest, ok = parseAddress(value); !ok || len(rest) > 0 || !validURI(a.URI) {
		m.fail(malformed)
		return
	}
	for p := a.Params; len(p) > 0; {
		var param param
		param, p, _ = nextParam(p)
		if fold(param.name, "tag") {
			if !all(param.value, isToken) {
				m.fail(malformed)
				return
			}
			a.Tag = param.value
		}
	}
}

// parseCallID matches word [ "@" word ].
func (m *Message) parseCallID(value []byte, again bool) {
	if again {
		m.fail(errTwoCallID)
		return
	}
	m.CallID = value
	first, second, at := bytes.Cut(value, []byte("@"))
	if len(value) > MaxCallIDBytes || !all(first, isWord) || at && !all(second, isWord) {
		m.fail(errCallID)
	}
}

// parseCSeq matches 1*DIGIT LWS Method.
func (m *Message) parseCSeq(value []byte, again bool) {
	if again {
		m.fail(errTwoCSeq)
		return
	}
	m.cseq = value
	i := 0
	for i < len(value) && value[i] != ' ' && value[i] != '\t' {
		i++
	}
	n, ok := number(value[:i], MaxCSeq+1)
	method := trimLeft(value[i:])
	if !ok || n > MaxCSeq || !all(method, isToken) {
		m.fail(errCSeq)
		return
	}
	m.CSeq = uint32(n)
	if m.Status != 0 {
		m.MethodName, m.Method = method, identifyMethod(method)
	} else if !bytes.Equal(method, m.MethodName) {
		m.fail(errCSeqMethod)
	}
}

func (m *Message) parseBody(start int, framing Framing) {
	m.Body = m.buf[start:]
	if !m.has(HeaderContentLength) {
		return
	}
	n, ok := number(m.Header(HeaderContentLength), MaxMessageBytes+1)
	if !ok {
		return // reported already
	}
	if int(n) > len(m.Body) || framing == Stream && int(n) < len(m.Body) {
		m.fail(errBodyLength)
		return
	}
	m.end = start + int(n)
	m.Body = m.buf[start:m.end]
}

// checkPresence finds what is missing. Max-Forwards and the From tag may be: RFC 2543 knew neither.
func (m *Message) checkPresence(framing Framing) {
	for _, p := range [...]struct {
		id  HeaderID
		err *Error
	}{
		{HeaderVia, errMissingVia}, {HeaderFrom, errMissingFrom}, {HeaderTo, errMissingTo},
		{HeaderCallID, errMissingCallID}, {HeaderCSeq, errMissingCSeq}, {HeaderContentLength, errMissingLength},
	} {
		if !m.has(p.id) && (p.id != HeaderContentLength || framing == Stream) {
			m.fail(p.err)
		}
	}
}

// view lets the bytes be read as a string without a copy. The string changes with the buffer: it must not outlive the Message's use.
func view(b []byte) string { return unsafe.String(unsafe.SliceData(b), len(b)) }
