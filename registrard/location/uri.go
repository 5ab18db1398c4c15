package location

import (
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"strings"
)

// ErrURI is what every error of ParseURI and ParseAOR wraps.
var ErrURI = errors.New("malformed SIP URI")

// URIBytesMax is the longest SIP URI that is parsed.
const URIBytesMax = 1024

// URIPartsMax is how many parameters a URI has at the most, and how many headers. Each is compared with each, here and when two URIs are:
// hundreds of short ones would make one message cost as much as thousands do.
const URIPartsMax = 16

// URI is a SIP or SIPS URI in its parts (RFC 3261 section 19.1.1), each as it was sent: escapes stay escaped and letters keep their
// case, but for Scheme. It shares the memory of the string that it was parsed from.
type URI struct {
	Scheme      string // "sip" or "sips"
	User        string // "" when there is none: the grammar knows no empty user
	Password    string
	HasPassword bool
	Host        string // name, IPv4 address, or IPv6 address in brackets
	Port        uint16 // 0 when none was sent
	Params      string // without the first semicolon
	Headers     string // without the question mark
}

// ParseURI parses a SIP or SIPS URI as RFC 3261 section 25.1 writes it, with one liberty: a uri-parameter's value may be empty.
func ParseURI(s string) (URI, error) {
	var u URI
	if len(s) > URIBytesMax {
		return u, uriError("longer than "+strconv.Itoa(URIBytesMax)+" bytes", s[:32])
	}
	rest := s
	switch {
	case hasPrefixFold(s, "sip:"):
		u.Scheme, rest = "sip", s[len("sip:"):]
	case hasPrefixFold(s, "sips:"):
		u.Scheme, rest = "sips", s[len("sips:"):]
	default:
		return u, uriError("scheme is neither sip nor sips", s)
	}
	if at := strings.IndexByte(rest, '@'); at >= 0 {
		if err := u.parseUser(rest[:at]); err != nil {
			return u, err
		}
		rest = rest[at+1:]
	}
	rest, err := u.parseHost(rest)
	if err != nil {
		return u, err
	}
	if strings.HasPrefix(rest, ";") {
		end := strings.IndexByte(rest, '?')
		if end < 0 {
			end = len(rest)
		}
		u.Params, rest = rest[1:end], rest[end:]
		if err := checkParams(u.Params); err != nil {
			return u, err
		}
	}
	if strings.HasPrefix(rest, "?") {
		u.Headers, rest = rest[1:], ""
		if err := checkHeaders(u.Headers); err != nil {
			return u, err
		}
	}
	if rest != "" {
		return u, uriError("text after the host", rest)
	}
	return u, nil
}

func uriError(what, text string) error {
	return fmt.Errorf("%w: %s in %q", ErrURI, what, text)
}

// parseUser takes the part before the at sign.
func (u *URI) parseUser(s string) error {
	u.User = s
	if colon := strings.IndexByte(s, ':'); colon >= 0 {
		u.User, u.Password, u.HasPassword = s[:colon], s[colon+1:], true
	}
	if u.User == "" {
		return uriError("empty user", s)
	}
	if !allOf(u.User, classUser) {
		return uriError("character that a user must escape", u.User)
	}
	if !allOf(u.Password, classPassword) {
		return uriError("character that a password must escape", s)
	}
	return nil
}

// parseHost takes host and port from the front of s and returns what follows them.
func (u *URI) parseHost(s string) (string, error) {
	end := strings.IndexAny(s, ":;?")
	if strings.HasPrefix(s, "[") {
		end = strings.IndexByte(s, ']') + 1
		if end == 0 {
			return s, uriError("open bracket", s)
		}
	}
	if end < 0 {
		end = len(s)
	}
	u.Host = s[:end]
	if !validHost(u.Host) {
		return s, uriError("host", u.Host)
	}
	s = s[end:]
	if !strings.HasPrefix(s, ":") {
		return s, nil
	}
	end = strings.IndexAny(s, ";?")
	if end < 0 {
		end = len(s)
	}
	port, ok := parsePort(s[1:end])
	if !ok {
		return s, uriError("port", s[:end])
	}
	u.Port = port
	return s[end:], nil
}

func parsePort(s string) (uint16, bool) {
	if s == "" || len(s) > 5 {
		return 0, false
	}
	n := 0
	for i := range len(s) {
		if s[i] < '0' || s[i] > '9' {
			return 0, false
		}
		n = n*10 + int(s[i]-'0')
	}
	return uint16(n), n > 0 && n <= 65535
}

// validHost follows hostname, IPv4address and IPv6reference of RFC 3261 section 25.1; a zone is none of them.
func validHost(s string) bool {
	if strings.HasPrefix(s, "[") {
		a, err := netip.ParseAddr(s[1 : len(s)-1])
		return err == nil && a.Is6() && a.Zone() == ""
	}
	if s == "" || len(s) > 255 {
		return false
	}
	last, numeric := 0, true
	for i := 0; i < len(s); i++ {
		c := s[i]
		switch {
		case c == '.':
			if i == last || s[i-1] == '-' {
				return false
			}
			last = i + 1
		case c == '-':
			if i == last {
				return false
			}
			numeric = false
		case c >= '0' && c <= '9':
		case lower(c) >= 'a' && lower(c) <= 'z':
			numeric = false
		default:
			return false
		}
	}
	if numeric {
		a, err := netip.ParseAddr(s)
		return err == nil && a.Is4()
	}
	top := strings.TrimSuffix(s, ".")
	top = top[strings.LastIndexByte(top, '.')+1:]
	return top != "" && lower(top[0]) >= 'a' && lower(top[0]) <= 'z' && s[len(s)-1] != '-' && top[len(top)-1] != '-'
}

// nextParam cuts the first parameter off s; ok is false at the end.
func nextParam(s string, separator byte) (name, value string, hasValue bool, rest string) {
	p := s
	if i := strings.IndexByte(s, separator); i >= 0 {
		p, rest = s[:i], s[i+1:]
	}
	name, value, hasValue = strings.Cut(p, "=")
	return name, value, hasValue, rest
}

// checkParams checks uri-parameters; each name may stand only once (RFC 3261 section 19.1.1).
func checkParams(s string) error {
	if s == "" || s[len(s)-1] == ';' {
		return uriError("empty parameter", s)
	}
	if strings.Count(s, ";") >= URIPartsMax {
		return uriError("more than "+strconv.Itoa(URIPartsMax)+" parameters", s)
	}
	for rest := s; rest != ""; {
		var name, value string
		name, value, _, rest = nextParam(rest, ';')
		if name == "" {
			return uriError("empty parameter", s)
		}
		if !allOf(name, classParam) || !allOf(value, classParam) {
			return uriError("character that a parameter must escape", s)
		}
		for later := rest; later != ""; {
			var other string
			other, _, _, later = nextParam(later, ';')
			if equalEscaped(name, other, true) {
				return uriError("parameter that stands twice", name)
			}
		}
	}
	return nil
}

func checkHeaders(s string) error {
	if s == "" || s[len(s)-1] == '&' {
		return uriError("empty header", s)
	}
	if strings.Count(s, "&") >= URIPartsMax {
		return uriError("more than "+strconv.Itoa(URIPartsMax)+" headers", s)
	}
	for rest := s; rest != ""; {
		var name, value string
		var has bool
		name, value, has, rest = nextParam(rest, '&')
		if name == "" || !has {
			return uriError("header without name or value", s)
		}
		if !allOf(name, classHeader) || !allOf(value, classHeader) {
			return uriError("character that a header must escape", s)
		}
	}
	return nil
}

// EqualURI tells whether two URIs are equivalent by RFC 3261 section 19.1.4. What is no SIP URI equals only the very same string.
func EqualURI(a, b string) bool {
	if a == b {
		return true
	}
	u, err := ParseURI(a)
	if err != nil {
		return false
	}
	w, err := ParseURI(b)
	if err != nil {
		return false
	}
	return u.Equal(&w)
}

// Equal tells whether two URIs are equivalent by RFC 3261 section 19.1.4. The relation is not transitive: a parameter that only one
// of them has does not count, so that ";a=1" and ";a=2" both equal no parameter at all, but not each other.
func (u *URI) Equal(w *URI) bool {
	return u.Scheme == w.Scheme && u.Port == w.Port && u.HasPassword == w.HasPassword &&
		equalEscaped(u.User, w.User, false) && equalEscaped(u.Password, w.Password, false) &&
		equalHost(u.Host, w.Host) && equalParams(u.Params, w.Params) && equalHeaders(u.Headers, w.Headers)
}

// equalHost compares IPv6 addresses as addresses (RFC 5954 section 4.2); of an IPv4 address the grammar knows one form.
func equalHost(a, b string) bool {
	if !strings.HasPrefix(a, "[") || !strings.HasPrefix(b, "[") {
		return strings.EqualFold(a, b)
	}
	x, err := netip.ParseAddr(a[1 : len(a)-1])
	if err != nil {
		return false
	}
	y, err := netip.ParseAddr(b[1 : len(b)-1])
	return err == nil && x == y
}

func equalParams(a, b string) bool {
	return paramsMatch(a, b) && paramsMatch(b, a)
}

// paramsMatch tells whether each parameter of a has its like in b, or none and may be missing.
func paramsMatch(a, b string) bool {
	for rest := a; rest != ""; {
		var name, value string
		var has bool
		name, value, has, rest = nextParam(rest, ';')
		found := false
		for other := b; other != ""; {
			var n, v string
			var h bool
			n, v, h, other = nextParam(other, ';')
			if !equalEscaped(name, n, true) {
				continue
			}
			if h != has || !equalEscaped(value, v, true) {
				return false
			}
			found = true
			break
		}
		if !found && mustMatch(name) {
			return false
		}
	}
	return true
}

// mustMatch names the parameters that make URIs differ when only one has them, even with their default value.
func mustMatch(name string) bool {
	for _, n := range [...]string{"user", "ttl", "method", "maddr", "transport"} {
		if equalEscaped(name, n, true) {
			return true
		}
	}
	return false
}

// equalHeaders wants each header as often in b as in a. Values are compared with their case: many header fields ignore it, but a
// binding too many is a smaller fault than one that replaces another.
func equalHeaders(a, b string) bool {
	if (a == "") != (b == "") {
		return false
	}
	return headersMatch(a, b) && headersMatch(b, a)
}

func headersMatch(a, b string) bool {
	for rest := a; rest != ""; {
		var name, value string
		name, value, _, rest = nextParam(rest, '&')
		if countHeader(a, name, value) != countHeader(b, name, value) {
			return false
		}
	}
	return true
}

func countHeader(s, name, value string) int {
	n := 0
	for s != "" {
		var other, v string
		other, v, _, s = nextParam(s, '&')
		if equalEscaped(name, other, true) && equalEscaped(value, v, false) {
			n++
		}
	}
	return n
}
