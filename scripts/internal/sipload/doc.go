// Package sipload is a crowd of phones: it registers, refreshes, removes and queries
// bindings over UDP with digest authentication (RFC 3261 section 10, RFC 7616), with a
// window of transactions outstanding, and keeps a Ledger of what was answered, against
// which the registrar can be held to account after any fault.
//
// It is written apart from the registrar, from the RFCs alone, so that the two do not
// share mistakes.
package sipload
