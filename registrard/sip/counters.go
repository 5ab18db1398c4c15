package sip

import (
	"strconv"
	"sync/atomic"
)

// Outcome is what became of a message that was read, in four classes: received = accepted + rejected + ignored + invalid.
type Outcome uint8

const (
	// AcceptedRegister is a REGISTER that was handed to the Registrar.
	AcceptedRegister Outcome = iota
	// AcceptedTransaction is a request that the transaction layer was given.
	AcceptedTransaction
	// AcceptedOptions is an OPTIONS to this server, which was answered.
	AcceptedOptions
	// AcceptedCancel is a CANCEL of a living transaction.
	AcceptedCancel
	// AcceptedAck is an ACK of a living transaction.
	AcceptedAck

	// RejectedChallenge is a request that was asked for credentials, 401.
	RejectedChallenge
	// RejectedStale is the same for good credentials with a nonce too old.
	RejectedStale
	// RejectedCredentials is the same for wrong credentials.
	RejectedCredentials
	// RejectedIdentity is an authenticated user at somebody else's address-of-record, 403.
	RejectedIdentity
	// RejectedDomain is an address of no domain of ours, 404.
	RejectedDomain
	// RejectedScheme is a Request-URI with a scheme that is not ours, 416.
	RejectedScheme
	// RejectedExtension is a Require that we do not know, 420.
	RejectedExtension
	// RejectedMethod is a method that is not allowed here, 405, or not known, 501.
	RejectedMethod
	// RejectedDialog is a request or CANCEL for a dialog or transaction that does not exist, 481.
	RejectedDialog
	// RejectedContact is a REGISTER with a contact that nobody may register, 403.
	RejectedContact
	// RejectedStandby is a request to a node that does not serve, 503.
	RejectedStandby
	// RejectedBusy is a request over a limit of ours, 503.
	RejectedBusy

	// IgnoredSource is a message from a source that has failed too often.
	IgnoredSource
	// IgnoredRetransmission is a request whose answer is on its way.
	IgnoredRetransmission
	// IgnoredAck is an ACK for a response that needed no transaction.
	IgnoredAck
	// IgnoredResponse is a response: we send no requests.
	IgnoredResponse

	// InvalidMalformed is a message that is no SIP, or breaks its rules; it got 400 where it could be answered.
	InvalidMalformed
	// InvalidPanic is a message that made a handler panic.
	InvalidPanic

	outcomeCount
)

var outcomeNames = [outcomeCount]struct{ class, reason string }{
	{"accepted", "register"}, {"accepted", "transaction"}, {"accepted", "options"}, {"accepted", "cancel"}, {"accepted", "ack"},
	{"rejected", "challenge"}, {"rejected", "stale"}, {"rejected", "credentials"}, {"rejected", "identity"}, {"rejected", "domain"},
	{"rejected", "scheme"}, {"rejected", "extension"}, {"rejected", "method"}, {"rejected", "dialog"},
	{"rejected", "contact"}, {"rejected", "standby"}, {"rejected", "busy"},
	{"ignored", "source"}, {"ignored", "retransmission"}, {"ignored", "ack"}, {"ignored", "response"},
	{"invalid", "malformed"}, {"invalid", "panic"},
}

// Class gives "accepted", "rejected", "ignored" or "invalid".
func (o Outcome) Class() string { return outcomeNames[o].class }

// String gives the reason within the class.
func (o Outcome) String() string { return outcomeNames[o].reason }

const (
	statusMin = 100
	statusMax = 699
)

// Counters are the counts of one Server. The zero value is ready; all methods may be called from any goroutine.
type Counters struct {
	received  atomic.Uint64
	outcomes  [outcomeCount]atomic.Uint64
	responses [statusMax - statusMin + 1]atomic.Uint64
	late      atomic.Uint64
	unsent    atomic.Uint64
	panics    atomic.Uint64
}

// Received returns how many messages were read.
func (c *Counters) Received() uint64 { return c.received.Load() }

// Outcome returns how many messages ended so.
func (c *Counters) Outcome(o Outcome) uint64 { return c.outcomes[o].Load() }

// Late returns how many answers of the Registrar came after their deadline.
func (c *Counters) Late() uint64 { return c.late.Load() }

// Unsent returns how many responses could not be queued.
func (c *Counters) Unsent() uint64 { return c.unsent.Load() }

// Panics returns how many panics were caught.
func (c *Counters) Panics() uint64 { return c.panics.Load() }

// Responses returns how many responses with this status were sent.
func (c *Counters) Responses(status int) uint64 {
	if status < statusMin || status > statusMax {
		return 0
	}
	return c.responses[status-statusMin].Load()
}

// EachOutcome calls f with every outcome, in a fixed order.
func (c *Counters) EachOutcome(f func(class, reason string, value uint64)) {
	for i := range c.outcomes {
		f(Outcome(i).Class(), Outcome(i).String(), c.outcomes[i].Load())
	}
}

// EachResponse calls f with every status that was sent, in rising order.
func (c *Counters) EachResponse(f func(status string, value uint64)) {
	for i := range c.responses {
		if n := c.responses[i].Load(); n > 0 {
			f(strconv.Itoa(statusMin+i), n)
		}
	}
}

func (c *Counters) ended(o Outcome) { c.outcomes[o].Add(1) }

func (c *Counters) responded(status int) {
	if status >= statusMin && status <= statusMax {
		c.responses[status-statusMin].Add(1)
	}
}
