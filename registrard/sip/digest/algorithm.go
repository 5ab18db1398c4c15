package digest

import (
	"crypto/md5" // RFC 8760 keeps it for old phones; SHA-256 is offered first
	"crypto/sha256"
	"crypto/sha512"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"

	"sipha/registrard/location"
)

// sizeMax is the length of the longest hash.
const sizeMax = 32

// ParseAlgorithm reads the name of an algorithm in any case (RFC 7616 section 6.1), 0 for one that we do not have.
func ParseAlgorithm(name []byte) location.Algorithm {
	switch {
	case foldEqual(name, "md5"):
		return location.MD5
	case foldEqual(name, "sha-256"):
		return location.SHA256
	case foldEqual(name, "sha-512-256"):
		return location.SHA512256
	}
	return 0
}

// AlgorithmName gives the name that goes over the wire.
func AlgorithmName(a location.Algorithm) string {
	switch a {
	case location.MD5:
		return "MD5"
	case location.SHA256:
		return "SHA-256"
	case location.SHA512256:
		return "SHA-512-256"
	}
	return fmt.Sprintf("algorithm(%d)", uint8(a))
}

// size returns the length of an algorithm's hash in bytes.
func size(a location.Algorithm) int {
	if a == location.MD5 {
		return md5.Size
	}
	return sha256.Size
}

// appendHash appends the hash of b in hexadecimal.
func appendHash(dst []byte, a location.Algorithm, b []byte) []byte {
	switch a {
	case location.MD5:
		sum := md5.Sum(b)
		return hex.AppendEncode(dst, sum[:])
	case location.SHA512256:
		sum := sha512.Sum512_256(b)
		return hex.AppendEncode(dst, sum[:])
	}
	sum := sha256.Sum256(b)
	return hex.AppendEncode(dst, sum[:])
}

// SetPassword sets the hashes of all algorithms from the user's Username and Realm and a password, which is kept nowhere.
func SetPassword(u *location.User, password string) error {
	if err := checkNames(u); err != nil {
		return err
	}
	a1 := []byte(u.Username + ":" + u.Realm + ":" + password)
	u.MD5 = md5.Sum(a1)
	u.SHA256 = sha256.Sum256(a1)
	u.SHA512256 = sha512.Sum512_256(a1)
	u.Has = 1<<location.MD5 | 1<<location.SHA256 | 1<<location.SHA512256
	return nil
}

// SetHA1 sets the hash of one algorithm: H(username:realm:password) in hexadecimal, as other registrars store it.
func SetHA1(u *location.User, a location.Algorithm, ha1 string) error {
	if err := checkNames(u); err != nil {
		return err
	}
	sum, err := hex.DecodeString(ha1)
	if err != nil || len(sum) != size(a) {
		return fmt.Errorf("hash for %s: want %d hexadecimal digits", AlgorithmName(a), 2*size(a))
	}
	switch a {
	case location.MD5:
		copy(u.MD5[:], sum)
	case location.SHA256:
		copy(u.SHA256[:], sum)
	case location.SHA512256:
		copy(u.SHA512256[:], sum)
	default:
		return fmt.Errorf("hash for %s: no such algorithm", AlgorithmName(a))
	}
	u.Has |= 1 << a
	return nil
}

// errNames says what a username and a realm may not hold.
var errNames = errors.New(`username and realm must be 1 to 256 bytes, without quotes, backslashes and control characters, the username without a colon`)

func checkNames(u *location.User) error {
	bad := func(r rune) bool { return r < ' ' || r == 0x7f || r == '"' || r == '\\' }
	for _, s := range [...]string{u.Username, u.Realm} {
		if s == "" || len(s) > MaxFieldBytes || strings.ContainsFunc(s, bad) {
			return errNames
		}
	}
	if strings.Contains(u.Username, ":") { // it would make two splits of username:realm:password one (RFC 7616 section 3.4.4)
		return errNames
	}
	return nil
}

// ha1 returns the user's hash for an algorithm; false when there is none.
func ha1(u *location.User, a location.Algorithm) ([]byte, bool) {
	has := u.Has&(1<<a) != 0
	switch a {
	case location.MD5:
		return u.MD5[:], has
	case location.SHA512256:
		return u.SHA512256[:], has
	}
	return u.SHA256[:], has
}
