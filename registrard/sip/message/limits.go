package message

// What a message may hold. A message above one of these is answered with an Error, or dropped where it cannot be answered.
const (
	// MaxMessageBytes bounds a whole message, body included.
	MaxMessageBytes = 16 << 10
	// MaxHeaderBytes bounds start line and headers.
	MaxHeaderBytes = 8 << 10
	// MaxHeaders bounds the header lines; a folded line counts once.
	MaxHeaders = 100
	// MaxContacts bounds the Contact values of one request, in one header or in many.
	MaxContacts = 32
	// MaxContactParamsBytes bounds the parameters of one Contact value: they are repeated in every answer that lists it.
	MaxContactParamsBytes = 1024
	// MaxPaths bounds the Path values of one request.
	MaxPaths = 10
	// MaxURIBytes bounds the URI of the request line and of each Contact and Path.
	MaxURIBytes = 512
	// MaxCallIDBytes bounds a Call-ID.
	MaxCallIDBytes = 256
	// MaxParams bounds the parameters of one header value.
	MaxParams = 32
	// MaxUserAgentBytes is where a User-Agent is cut before it is kept.
	MaxUserAgentBytes = 128
	// MaxResponseBytes bounds a response: the most that a UDP datagram over IPv4 carries. A response over 1,300 bytes may be fragmented
	// on its way (RFC 3261 section 18.1.1 lets only requests change to TCP).
	MaxResponseBytes = 65507

	// MaxCSeq is the highest sequence number (RFC 3261 section 8.1.1.5: less than 2**31).
	MaxCSeq = 1<<31 - 1
	// MaxForwardsMax is the highest Max-Forwards (RFC 3261 section 20.22).
	MaxForwardsMax = 255
	// MaxExpires is what a longer time than 2**32-1 seconds is taken for (RFC 3261 section 10.2.1.1: may be treated so).
	MaxExpires = 1<<32 - 1
	// MalformedExpires is what an expiry that is no number is taken for, in seconds (RFC 3261 sections 10.2.1.1 and 20.10: should be; it
	// was a date in RFC 2543).
	MalformedExpires = 3600
	// DefaultPort is the port of UDP and TCP where a Via names none (RFC 3261 section 18.2.2).
	DefaultPort = 5060
)
