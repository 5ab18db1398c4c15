package digest

import (
	"unsafe"

	"sipha/registrard/location"
)

// AppendChallenge appends one WWW-Authenticate header line for each algorithm, in the order given, which is the order of preference
// (RFC 8760 section 2.4): SHA-256 before MD5. The realm has passed SetPassword or is a domain: it needs no escapes. key is the newest one
// that is committed, random differs from call to call, stale says that only the nonce was too old.
func AppendChallenge(dst []byte, realm string, algorithms []location.Algorithm, key *location.Key, now location.Time, random uint64, stale bool) []byte {
	var text [nonceText]byte
	nonce := appendNonce(text[:0], realm, key, now, random)
	for _, a := range algorithms {
		dst = append(dst, `WWW-Authenticate: Digest realm="`...)
		dst = append(dst, realm...)
		dst = append(dst, `", nonce="`...)
		dst = append(dst, nonce...)
		dst = append(dst, `", algorithm=`...)
		dst = append(dst, AlgorithmName(a)...)
		dst = append(dst, `, qop="auth"`...)
		if stale {
			dst = append(dst, `, stale=true`...)
		}
		dst = append(dst, "\r\n"...)
	}
	return dst
}

// view lets bytes be read as a string without a copy, for the time of a call.
func view(b []byte) string { return unsafe.String(unsafe.SliceData(b), len(b)) }
