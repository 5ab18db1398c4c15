// Package sip is the registrar as phones and edge proxies see it (RFC 3261 section 10): it takes what transport reads, turns away what
// must not cost more, authenticates, asks the Registrar, and answers.
//
// REGISTER has a path of its own, without transactions: the answer to a repeated Call-ID and CSeq is the same, so nothing has to be
// remembered of a request once it is answered (RFC 3261 section 8.2.7). The rest of SIP, redirection above all, runs on gosip's
// transactions; gosip sees only what the codec in message has accepted, and sends only what that codec has written.
//
// Order of defence, cheapest first: size, the source's bucket, start line, raw headers, stateless challenge, validation, authorisation,
// replication. Every message ends in exactly one Outcome. Nothing waits: the Registrar answers through callbacks, responses are queued.
//
// The package imports location, its own sub-packages and gosip.
package sip
