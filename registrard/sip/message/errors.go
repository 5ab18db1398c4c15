package message

import "strconv"

// Error is why a message is refused: the status and reason phrase of the response to send, if one may be sent (Message.Answerable).
type Error struct {
	Status int    // 400 to 699
	Reason string // reason phrase, names the header where there is one
}

// Error gives status and reason phrase.
func (e *Error) Error() string { return strconv.Itoa(e.Status) + " " + e.Reason }

// The verdicts are made once: refusing a message must cost no more than accepting it.
var (
	errNotSIP         = &Error{400, "Not SIP"}
	errStartLine      = &Error{400, "Malformed Request-Line"}
	errStatusLine     = &Error{400, "Malformed Status-Line"}
	errRequestURI     = &Error{400, "Malformed Request-URI"}
	errURITooLong     = &Error{414, "Request-URI Too Long"}
	errScheme         = &Error{416, "Unsupported URI Scheme"}
	errVersion        = &Error{505, "Version Not Supported"}
	errTooLarge       = &Error{513, "Message Too Large"}
	errTooManyHeaders = &Error{400, "Too Many Headers"}
	errHeaderLine     = &Error{400, "Malformed Header"}
	errLineEnd        = &Error{400, "Malformed Line End"}
	errUnterminated   = &Error{400, "Unterminated Headers"}
	errControl        = &Error{400, "Control Character"}

	errMissingVia    = &Error{400, "Missing Via"}
	errMissingFrom   = &Error{400, "Missing From"}
	errMissingTo     = &Error{400, "Missing To"}
	errMissingCallID = &Error{400, "Missing Call-ID"}
	errMissingCSeq   = &Error{400, "Missing CSeq"}
	errMissingLength = &Error{400, "Missing Content-Length"}

	errTwoFrom     = &Error{400, "Duplicate From"}
	errTwoTo       = &Error{400, "Duplicate To"}
	errTwoCallID   = &Error{400, "Duplicate Call-ID"}
	errTwoCSeq     = &Error{400, "Duplicate CSeq"}
	errTwoForwards = &Error{400, "Duplicate Max-Forwards"}
	errTwoLength   = &Error{400, "Duplicate Content-Length"}
	errTwoExpires  = &Error{400, "Duplicate Expires"}

	errVia         = &Error{400, "Malformed Via"}
	errFrom        = &Error{400, "Malformed From"}
	errTo          = &Error{400, "Malformed To"}
	errCallID      = &Error{400, "Malformed Call-ID"}
	errCSeq        = &Error{400, "Malformed CSeq"}
	errCSeqMethod  = &Error{400, "CSeq Method Mismatch"}
	errMaxForwards = &Error{400, "Malformed Max-Forwards"}
	errLength      = &Error{400, "Malformed Content-Length"}
	errBodyLength  = &Error{400, "Content-Length Mismatch"}
	errContact     = &Error{400, "Malformed Contact"}
	errContactLong = &Error{400, "Contact URI Too Long"}
	errContactWide = &Error{400, "Contact Parameters Too Long"}
	errContactMany = &Error{400, "Too Many Contacts"}
	errStar        = &Error{400, "Malformed Contact Wildcard"}
	errPath        = &Error{400, "Malformed Path"}
	errPathMany    = &Error{400, "Too Many Path Values"}
	errRoute       = &Error{400, "Malformed Route"}
	errRecordRoute = &Error{400, "Malformed Record-Route"}
	errOptionTag   = &Error{400, "Malformed Option Tag"}
	errAOR         = &Error{400, "To Is No Address-of-Record"}
	errNotRegister = &Error{400, "Not a REGISTER"}
)
