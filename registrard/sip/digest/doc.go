// Package digest authenticates SIP requests with HTTP Digest (RFC 7616, RFC 8760, RFC 3261 section 22): challenges, nonces without state,
// and the verification of responses.
//
// A nonce carries its time and proof that one of us made it: any node that knows the replicated key takes it, so that no failover makes
// every phone ask anew. Known and unknown users cost the same work and get the same bytes. Keys, users and time come from the caller;
// nothing here is kept but what a Window remembers of nonce counts.
package digest
