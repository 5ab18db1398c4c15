// Package message is the codec of the registrar's own path through SIP: it reads a request far enough to register, to answer and to
// turn away, and writes responses, both into memory that the caller owns.
//
// Parse is strict. What RFC 3261 calls malformed is an Error with the status to send, never a header that silently vanishes; what may
// not be answered at all is told by Message.Answerable. Everything else of SIP is served by a full stack behind this package, which
// therefore sees only messages that have passed here.
//
// A Message points into the buffer that it was parsed from. Nothing here starts a goroutine, reads a clock or keeps a reference to a
// buffer after the call, and no length that a peer claims is ever allocated.
package message
