// Package location is the domain: addresses-of-record and their bindings, users, nonce keys, voters and outcomes; the changes that
// move them; and Decide, what a REGISTER does (RFC 3261 section 10.3).
//
// The package is pure. It holds no goroutine, clock, random number, log line or I/O, and nothing in it depends on the order of a
// map: time enters as a value, so that every replica that applies the same entries holds the same content and the same Digest.
// It imports nothing of ours.
package location
