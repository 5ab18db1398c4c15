package digest

import (
	"bytes"
	"crypto/subtle"
	"encoding/hex"
	"slices"
	"time"

	"sipha/registrard/location"
)

// Verdict is what becomes of credentials.
type Verdict uint8

const (
	// Denied asks for a new challenge: the user, the password or the nonce is not right. Which of them is not told.
	Denied Verdict = iota
	// Stale asks for a new challenge with stale=true: all is right but the nonce's age or count.
	Stale
	// Accepted means that the user is who the To header names.
	Accepted
	// Forbidden means that the user is known, and is somebody else than the To header names (RFC 3261 section 10.3 step 4): 403.
	Forbidden
	// Mismatched means that the credentials were made for another Request-URI (RFC 7616 section 3.4.6): 400.
	Mismatched
)

// Users finds who may register.
type Users interface {
	// User returns the user with this AOR.
	User(location.AOR) (location.User, bool)
}

// Counter remembers the nonce counts that were used.
type Counter interface {
	// Use tells whether this count of a nonce, which is valid, is new, or was used by the same request before: a retransmission.
	// What is not remembered, as after a failover, is new.
	Use(nonce []byte, count uint32, request uint64) bool
}

// Verifier checks credentials. It is safe for concurrent use if Users and Counter are.
type Verifier struct {
	Algorithms []location.Algorithm // those that are offered; others are Denied
	Life       time.Duration        // of a nonce
	Users      Users
	Counter    Counter // nil: counts are not checked
}

// Request is what the credentials must fit.
type Request struct {
	Method []byte
	URI    []byte       // Request-URI
	Realm  string       // that was put into the challenge
	To     location.AOR // who is to be registered
	ID     uint64       // the same for a retransmission, else another: a hash of the whole request
}

// Verify judges credentials at an ordered time. keys are those that are committed. It does the same work for a user that does not exist.
func (v *Verifier) Verify(c *Credentials, r *Request, keys []location.Key, now location.Time) Verdict {
	switch {
	case string(c.Realm) != r.Realm:
		return Denied // they are for somebody else; a request may carry several (RFC 3261 section 22.3)
	case !sameTarget(c.URI, r.URI):
		return Mismatched
	}
	user, known := v.find(c, r)
	stored, has := ha1(&user, c.Algorithm)
	right := matches(c, r.Method, stored)
	state := checkNonce(c.Nonce, c.Realm, keys, now, v.Life)
	switch {
	case !right || !known || !has || state == nonceForeign || !slices.Contains(v.Algorithms, c.Algorithm):
		return Denied
	case user.AOR != r.To:
		return Forbidden
	case state == nonceStale:
		return Stale
	case v.Counter != nil && !v.Counter.Use(c.Nonce, c.Count, r.ID):
		return Stale
	}
	return Accepted
}

// find returns the user whom the credentials name: the one of the To header, or else whoever has that name, so that a right password for
// the wrong address-of-record is told from a wrong password. How many look-ups that takes depends on the request alone. A user who is not
// there has hashes of zeros, which no password is known for.
func (v *Verifier) find(c *Credentials, r *Request) (location.User, bool) {
	user, known := v.Users.User(r.To)
	if known = known && fits(&user, c); namesAOR(c.Username, r.To) {
		return user, known
	}
	name := make([]byte, 0, len("sip:@")+len(c.Username)+len(r.To))
	name = append(append(name, "sip:"...), c.Username...)
	if bytes.IndexByte(c.Username, '@') < 0 {
		name = append(append(name, '@'), r.To.Host()...)
	}
	other, otherKnown := v.Users.User(location.AOR(view(name)))
	switch {
	case known:
		return user, true
	case otherKnown && fits(&other, c):
		return other, true
	}
	return location.User{}, false
}

// namesAOR tells whether a username is the user part or all of an address-of-record, which it usually is.
func namesAOR(username []byte, aor location.AOR) bool {
	user, host, at := bytes.Cut(username, []byte("@"))
	return string(user) == aor.User() && (!at || string(host) == aor.Host())
}

func fits(u *location.User, c *Credentials) bool {
	return u.Username == string(c.Username) && u.Realm == string(c.Realm)
}

// matches computes the response (RFC 7616 section 3.4.1) and compares it in constant time.
func matches(c *Credentials, method, stored []byte) bool {
	var room [2 * MaxURIBytes]byte
	var hashes [4 * sizeMax]byte
	b := append(room[:0], method...)
	b = append(b, ':')
	b = append(b, c.URI...)
	ha2 := appendHash(hashes[:0], c.Algorithm, b)

	b = hex.AppendEncode(room[:0], stored)
	for _, part := range [...][]byte{c.Nonce, c.NC, c.CNonce} {
		b = append(b, ':')
		b = append(b, part...)
	}
	b = append(b, ":auth:"...)
	b = append(b, ha2...)
	want := appendHash(hashes[2*sizeMax:2*sizeMax], c.Algorithm, b)

	var got [2 * sizeMax]byte
	n := copy(got[:], c.Response)
	for i := range n { // we compare in lower case, as RFC 7616 section 3.3 writes hashes
		if got[i] >= 'A' && got[i] <= 'F' {
			got[i] += 'a' - 'A'
		}
	}
	return subtle.ConstantTimeCompare(got[:n], want) == 1
}

// sameTarget tells whether the uri parameter names what the Request-URI does. Phones disagree on whether it has the port and parameters:
// only scheme, user and host count, which is what the challenge was for.
func sameTarget(uri, requestURI []byte) bool {
	if bytes.Equal(uri, requestURI) {
		return true
	}
	a, err := location.ParseURI(view(uri))
	if err != nil {
		return false
	}
	b, err := location.ParseURI(view(requestURI))
	if err != nil {
		return false
	}
	a.Port, a.Params, a.Headers = 0, "", ""
	b.Port, b.Params, b.Headers = 0, "", ""
	return a.Equal(&b)
}
