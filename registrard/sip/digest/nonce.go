package digest

import (
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/binary"
	"time"

	"sipha/registrard/location"
)

// A nonce is the base64 of: version (1 byte), key's ID (4), ordered time in milliseconds (8), random (7), MAC (16). The MAC is
// HMAC-SHA-256 over what stands before it and the realm, cut to 128 bits.
const (
	nonceVersion = 1
	nonceHead    = 1 + 4 + 8 + 7
	nonceMAC     = 16
	nonceBytes   = nonceHead + nonceMAC
	nonceText    = nonceBytes / 3 * 4

	// AheadMax is how far ahead of our ordered time a nonce's may be: a new primary's time can lag a little behind the one that made it.
	AheadMax = time.Minute
)

// nonceEncoding has no character that a quoted-string would have to escape.
var nonceEncoding = base64.RawURLEncoding

// appendNonce appends a new nonce. random need only differ from nonce to nonce.
func appendNonce(dst []byte, realm string, key *location.Key, now location.Time, random uint64) []byte {
	var n [nonceBytes]byte
	n[0] = nonceVersion
	binary.BigEndian.PutUint32(n[1:], key.ID)
	binary.BigEndian.PutUint64(n[5:], uint64(now))
	random <<= 8 // 7 bytes of it
	for i := 13; i < nonceHead; i++ {
		n[i] = byte(random >> 56)
		random <<= 8
	}
	sum := mac(&key.Secret, n[:nonceHead], realm)
	copy(n[nonceHead:], sum[:nonceMAC])
	return nonceEncoding.AppendEncode(dst, n[:])
}

// nonceState tells what a nonce is worth.
type nonceState uint8

const (
	nonceForeign nonceState = iota // not ours, or made for another realm
	nonceStale                     // ours, or of a key that is gone; its time is over
	nonceGood
)

// checkNonce tells what a nonce is worth. One of a key that is not known any more counts as stale: it may have been ours.
func checkNonce(nonce, realm []byte, keys []location.Key, now location.Time, life time.Duration) nonceState {
	var n [nonceBytes]byte
	if len(nonce) != nonceText {
		return nonceForeign
	}
	if _, err := nonceEncoding.Strict().Decode(n[:], nonce); err != nil || n[0] != nonceVersion {
		return nonceForeign
	}
	id := binary.BigEndian.Uint32(n[1:])
	made := location.Time(binary.BigEndian.Uint64(n[5:]))
	for i := range keys {
		if keys[i].ID != id {
			continue
		}
		sum := mac(&keys[i].Secret, n[:nonceHead], view(realm))
		if subtle.ConstantTimeCompare(sum[:nonceMAC], n[nonceHead:]) != 1 {
			return nonceForeign
		}
		age := int64(now) - int64(made)
		if age > life.Milliseconds() || age < -AheadMax.Milliseconds() {
			return nonceStale
		}
		return nonceGood
	}
	return nonceStale
}

// mac is HMAC-SHA-256 (RFC 2104) of head and realm. It is written out because crypto/hmac allocates for each use, and this runs for
// every request; a test compares the two.
func mac(secret *[32]byte, head []byte, realm string) [sha256.Size]byte {
	const block = sha256.BlockSize
	buf := make([]byte, block, block+nonceHead+MaxFieldBytes)
	copy(buf, secret[:])
	for i := range block {
		buf[i] ^= 0x36
	}
	buf = append(buf, head...)
	buf = append(buf, realm...)
	inner := sha256.Sum256(buf)
	var outer [block + sha256.Size]byte
	copy(outer[:], secret[:])
	for i := range block {
		outer[i] ^= 0x5c
	}
	copy(outer[block:], inner[:])
	return sha256.Sum256(outer[:])
}
