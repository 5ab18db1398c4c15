package control

import (
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"

	"sipha/registrard/location"
)

// User is a user on the wire. The hashes are H(username:realm:password) in hexadecimal (RFC 7616 section 3.4.2); they travel to the
// daemon and never back.
type User struct {
	AOR       location.AOR `json:"aor"`
	Username  string       `json:"username"`
	Realm     string       `json:"realm"`
	MD5       string       `json:"md5,omitempty"`
	SHA256    string       `json:"sha256,omitempty"`
	SHA512256 string       `json:"sha512_256,omitempty"`
	// Algorithms are those that a hash is known for, by their names in RFC 7616; only in answers.
	Algorithms []string `json:"algorithms,omitempty"`
}

// NewUser puts a user into its form for the wire, with its hashes.
func NewUser(u location.User) User {
	w := User{AOR: u.AOR, Username: u.Username, Realm: u.Realm}
	if u.Has&(1<<location.MD5) != 0 {
		w.MD5 = hex.EncodeToString(u.MD5[:])
	}
	if u.Has&(1<<location.SHA256) != 0 {
		w.SHA256 = hex.EncodeToString(u.SHA256[:])
	}
	if u.Has&(1<<location.SHA512256) != 0 {
		w.SHA512256 = hex.EncodeToString(u.SHA512256[:])
	}
	return w
}

// shownUser is NewUser without the hashes, for answers.
func shownUser(u location.User) User {
	w := User{AOR: u.AOR, Username: u.Username, Realm: u.Realm, Algorithms: []string{}}
	for _, a := range []struct {
		algorithm location.Algorithm
		name      string
	}{{location.MD5, "MD5"}, {location.SHA256, "SHA-256"}, {location.SHA512256, "SHA-512-256"}} {
		if u.Has&(1<<a.algorithm) != 0 {
			w.Algorithms = append(w.Algorithms, a.name)
		}
	}
	return w
}

// user takes a user from the wire. At least one hash must be there.
func (w User) user() (location.User, error) {
	u := location.User{Username: w.Username, Realm: w.Realm}
	if w.AOR == "" || w.Username == "" || w.Realm == "" {
		return u, errors.New("aor, username and realm are needed")
	}
	for _, f := range []struct{ name, value, not string }{{"username", w.Username, `:"\`}, {"realm", w.Realm, `"\`}} {
		if err := CheckDigestText(f.value, f.not); err != nil {
			return u, fmt.Errorf("%s: %w", f.name, err)
		}
	}
	var err error
	if u.AOR, err = location.ParseAOR(string(w.AOR)); err != nil {
		return u, fmt.Errorf("aor: %w", err)
	}
	for _, h := range []struct {
		algorithm location.Algorithm
		name, hex string
		to        []byte
	}{
		{location.MD5, "md5", w.MD5, u.MD5[:]},
		{location.SHA256, "sha256", w.SHA256, u.SHA256[:]},
		{location.SHA512256, "sha512_256", w.SHA512256, u.SHA512256[:]},
	} {
		if h.hex == "" {
			continue
		}
		b, err := hex.DecodeString(h.hex)
		if err != nil || len(b) != len(h.to) {
			return u, fmt.Errorf("%s must be %d hexadecimal digits", h.name, 2*len(h.to))
		}
		copy(h.to, b)
		u.Has |= 1 << h.algorithm
	}
	if u.Has == 0 {
		return u, errors.New("at least one hash is needed")
	}
	return u, nil
}

// digestTextMax is the longest username or realm, in bytes.
const digestTextMax = 255

// CheckDigestText says what is wrong with a username or realm: it is 1 to 255 bytes of UTF-8 without control characters, and without
// those in not. What a username and a realm may not have follows from how they are quoted and hashed (RFC 7616 sections 3.4 and 3.4.4).
func CheckDigestText(s, not string) error {
	switch {
	case s == "" || len(s) > digestTextMax:
		return fmt.Errorf("must have 1 to %d bytes", digestTextMax)
	case !utf8.ValidString(s):
		return errors.New("is not UTF-8")
	case strings.ContainsFunc(s, unicode.IsControl):
		return errors.New("has a control character")
	case not != "" && strings.ContainsAny(s, not):
		return fmt.Errorf("has one of %q", not)
	}
	return nil
}
