package message

// HeaderID names a header field that this package knows, in its full and in its compact form.
type HeaderID uint8

// The header fields that are known by number.
const (
	HeaderUnknown HeaderID = iota
	HeaderAccept
	HeaderAcceptEncoding
	HeaderAcceptLanguage
	HeaderAllow
	HeaderAllowEvents
	HeaderAuthorization
	HeaderCallID
	HeaderContact
	HeaderContentDisposition
	HeaderContentEncoding
	HeaderContentLength
	HeaderContentType
	HeaderCSeq
	HeaderDate
	HeaderEvent
	HeaderExpires
	HeaderFrom
	HeaderMaxForwards
	HeaderPath
	HeaderProxyAuthorization
	HeaderProxyRequire
	HeaderRecordRoute
	HeaderRequire
	HeaderRoute
	HeaderSubject
	HeaderSupported
	HeaderTo
	HeaderUserAgent
	HeaderVia
)

// identify reads a header's name, in any case.
func identify(name []byte) HeaderID {
	switch len(name) {
	case 1:
		return identifyCompact(name[0])
	case 2:
		return only(name, "to", HeaderTo)
	case 3:
		return only(name, "via", HeaderVia)
	case 4:
		switch {
		case fold(name, "from"):
			return HeaderFrom
		case fold(name, "cseq"):
			return HeaderCSeq
		case fold(name, "path"):
			return HeaderPath
		}
		return only(name, "date", HeaderDate)
	case 5:
		switch {
		case fold(name, "route"):
			return HeaderRoute
		case fold(name, "allow"):
			return HeaderAllow
		}
		return only(name, "event", HeaderEvent)
	case 6:
		return only(name, "accept", HeaderAccept)
	case 7:
		switch {
		case fold(name, "contact"):
			return HeaderContact
		case fold(name, "call-id"):
			return HeaderCallID
		case fold(name, "expires"):
			return HeaderExpires
		case fold(name, "require"):
			return HeaderRequire
		}
		return only(name, "subject", HeaderSubject)
	case 9:
		return only(name, "supported", HeaderSupported)
	case 10:
		return only(name, "user-agent", HeaderUserAgent)
	}
	return identifyLong(name)
}

func identifyLong(name []byte) HeaderID {
	switch len(name) {
	case 12:
		switch {
		case fold(name, "max-forwards"):
			return HeaderMaxForwards
		case fold(name, "content-type"):
			return HeaderContentType
		case fold(name, "record-route"):
			return HeaderRecordRoute
		}
		return only(name, "allow-events", HeaderAllowEvents)
	case 13:
		if fold(name, "authorization") {
			return HeaderAuthorization
		}
		return only(name, "proxy-require", HeaderProxyRequire)
	case 14:
		return only(name, "content-length", HeaderContentLength)
	case 15:
		if fold(name, "accept-encoding") {
			return HeaderAcceptEncoding
		}
		return only(name, "accept-language", HeaderAcceptLanguage)
	case 16:
		return only(name, "content-encoding", HeaderContentEncoding)
	case 19:
		if fold(name, "proxy-authorization") {
			return HeaderProxyAuthorization
		}
		return only(name, "content-disposition", HeaderContentDisposition)
	}
	return HeaderUnknown
}

func only(name []byte, s string, id HeaderID) HeaderID {
	if fold(name, s) {
		return id
	}
	return HeaderUnknown
}

// identifyCompact reads a compact form (RFC 3261 section 7.3.3, RFC 6665 section 8.4).
func identifyCompact(c byte) HeaderID {
	switch c | 0x20 {
	case 'c':
		return HeaderContentType
	case 'e':
		return HeaderContentEncoding
	case 'f':
		return HeaderFrom
	case 'i':
		return HeaderCallID
	case 'k':
		return HeaderSupported
	case 'l':
		return HeaderContentLength
	case 'm':
		return HeaderContact
	case 'o':
		return HeaderEvent
	case 's':
		return HeaderSubject
	case 't':
		return HeaderTo
	case 'u':
		return HeaderAllowEvents
	case 'v':
		return HeaderVia
	}
	return HeaderUnknown
}
