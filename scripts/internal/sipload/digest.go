package sipload

import (
	"crypto/md5" //nolint:gosec // RFC 7616 keeps MD5 for old phones
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"hash"
	"strings"
)

// Digest algorithms (RFC 8760).
const (
	SHA256 = "SHA-256"
	MD5    = "MD5"
)

// challenge is one WWW-Authenticate header.
type challenge struct {
	realm, nonce, opaque, algorithm string
	qop                             bool // "auth" is offered
	stale                           bool
}

// parseChallenge reads a WWW-Authenticate value of the Digest scheme.
func parseChallenge(value string) (challenge, error) {
	scheme, rest, _ := strings.Cut(strings.TrimSpace(value), " ")
	if !strings.EqualFold(scheme, "Digest") {
		return challenge{}, fmt.Errorf("challenge of scheme %.20q", scheme)
	}
	c := challenge{algorithm: MD5}
	for _, p := range splitOutside(rest, ',') {
		key, v, _ := strings.Cut(strings.TrimSpace(p), "=")
		v = strings.Trim(strings.TrimSpace(v), `"`)
		switch strings.ToLower(strings.TrimSpace(key)) {
		case "realm":
			c.realm = v
		case "nonce":
			c.nonce = v
		case "opaque":
			c.opaque = v
		case "algorithm":
			c.algorithm = strings.ToUpper(v)
		case "stale":
			c.stale = strings.EqualFold(v, "true")
		case "qop":
			for _, q := range strings.Split(v, ",") {
				c.qop = c.qop || strings.TrimSpace(q) == "auth"
			}
		}
	}
	if c.nonce == "" {
		return challenge{}, fmt.Errorf("challenge without nonce: %.80q", value)
	}
	return c, nil
}

// choose returns the challenge of the wanted algorithm, or the first of a known one: the
// server lists them in its order of preference (RFC 8760 section 2.4).
func choose(values []string, want string) (challenge, error) {
	var known []challenge
	for _, v := range values {
		c, err := parseChallenge(v)
		if err != nil {
			return challenge{}, err
		}
		if c.algorithm == want {
			return c, nil
		}
		if newHash(c.algorithm) != nil {
			known = append(known, c)
		}
	}
	if len(known) == 0 || want != "" {
		return challenge{}, fmt.Errorf("no challenge of algorithm %q among %q", want, values)
	}
	return known[0], nil
}

func newHash(algorithm string) hash.Hash {
	switch algorithm {
	case SHA256:
		return sha256.New()
	case MD5:
		return md5.New()
	}
	return nil
}

// authorization answers a challenge (RFC 7616 section 3.4); nc counts the requests with
// its nonce from 1.
func (c *challenge) authorization(a Account, method, uri, cnonce string, nc uint32) string {
	h := func(s string) string {
		d := newHash(c.algorithm)
		d.Write([]byte(s))
		return hex.EncodeToString(d.Sum(nil))
	}
	ha1 := h(a.User + ":" + c.realm + ":" + a.Password)
	ha2 := h(method + ":" + uri)
	var b strings.Builder
	fmt.Fprintf(&b, `Digest username="%s", realm="%s", nonce="%s", uri="%s", algorithm=%s`, a.User, c.realm, c.nonce, uri, c.algorithm)
	if c.qop {
		count := fmt.Sprintf("%08x", nc)
		fmt.Fprintf(&b, `, qop=auth, nc=%s, cnonce="%s", response="%s"`, count, cnonce,
			h(ha1+":"+c.nonce+":"+count+":"+cnonce+":auth:"+ha2))
	} else {
		fmt.Fprintf(&b, `, response="%s"`, h(ha1+":"+c.nonce+":"+ha2))
	}
	if c.opaque != "" {
		fmt.Fprintf(&b, `, opaque="%s"`, c.opaque)
	}
	return b.String()
}
