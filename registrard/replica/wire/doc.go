// Package wire is the codec of the messages that members multicast to each other.
//
// A frame is a prefix of PrefixSize bytes and a body. All numbers are big endian. The prefix never changes:
//
//	 0  magic              4  "RGL1"
//	 4  prefix version     1  1
//	 5  type               1
//	 6  flags              2  bit 0: must understand
//	 8  length of the body 4
//	12  CRC32C             4  of the frame with these four bytes left out
//	16  incarnation        8  of the sender
//	24  wire version       2  of the body
//	26  reserved           2  0
//
// A body is its message's fields in the order of package replica; what is counted carries its count or length before it, and every
// count and length is checked against a named limit before anything is allocated. Bytes after the last field are skipped: they are
// fields that a newer release has added to the same wire version. The fields of a Hello stand in every wire version as they do in
// this one, so that members of any two releases can tell each other why they cannot work together.
//
// An Entry carries its epoch, index, digest, time, kind and payload. Its Prev is not sent: it is the position of the entry before it,
// or the message's Prev for the first.
package wire
