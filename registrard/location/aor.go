package location

import (
	"net/netip"
	"strings"
)

// ParseAOR makes the canonical address-of-record of a SIP or SIPS URI, as a To header or a Request-URI carries it (RFC 3261 section
// 10.3 step 5): scheme and host in lower case, without a host's trailing dot, an IPv6 address in its shortest form, the user with
// escapes resolved where its grammar lets the character stand plain, and in upper-case hexadecimal elsewhere; no password, port,
// parameters or headers. A URI without a user is no address-of-record.
func ParseAOR(uri string) (AOR, error) {
	u, err := ParseURI(uri)
	if err != nil {
		return "", err
	}
	if u.User == "" {
		return "", uriError("no user", uri)
	}
	host := canonicalHost(u.Host)
	if strings.IndexByte(u.User, '%') < 0 {
		n := len(u.Scheme) + 1 + len(u.User) + 1 + len(u.Host)
		if n == len(uri) && host == u.Host && strings.HasPrefix(uri, u.Scheme) {
			return AOR(uri), nil
		}
		return AOR(u.Scheme + ":" + u.User + "@" + host), nil
	}
	var b strings.Builder
	b.Grow(len(uri))
	b.WriteString(u.Scheme)
	b.WriteByte(':')
	writeCanonicalUser(&b, u.User)
	b.WriteByte('@')
	b.WriteString(host)
	return AOR(b.String()), nil
}

// User returns the address-of-record's user part, in canonical form.
func (a AOR) User() string {
	user, _, _ := strings.Cut(a.afterScheme(), "@")
	return user
}

// Host returns the address-of-record's host: its domain.
func (a AOR) Host() string {
	_, host, _ := strings.Cut(a.afterScheme(), "@")
	return host
}

func (a AOR) afterScheme() string {
	_, rest, _ := strings.Cut(string(a), ":")
	return rest
}

func canonicalHost(s string) string {
	if strings.HasPrefix(s, "[") {
		if a, err := netip.ParseAddr(s[1 : len(s)-1]); err == nil {
			return "[" + a.String() + "]"
		}
	}
	return strings.ToLower(strings.TrimSuffix(s, "."))
}

func writeCanonicalUser(b *strings.Builder, user string) {
	const hexDigits = "0123456789ABCDEF"
	for i := 0; i < len(user); i++ {
		c, ok := escape(user, i)
		switch {
		case !ok:
			b.WriteByte(user[i])
			continue
		case classUser.in(c):
			b.WriteByte(c)
		default:
			b.WriteByte('%')
			b.WriteByte(hexDigits[c>>4])
			b.WriteByte(hexDigits[c&15])
		}
		i += 2
	}
}
