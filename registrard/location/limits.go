package location

// Limits of what a State and an encoded batch hold. Decide refuses a REGISTER that would pass them, DecodeChanges a batch that does.
const (
	// StringBytesMax is the longest string of a row: no field of a SIP message of 16 KiB is longer.
	StringBytesMax = 16 << 10
	// ChangesMax is how many changes a batch has at the most.
	ChangesMax = 1 << 16
	// PayloadBytesMax is the longest encoding of a batch's changes.
	PayloadBytesMax = 4 << 20
	// BindingsMax is how many bindings an AOR has at the most, whatever the policy says.
	BindingsMax = 64
	// TombstonesMax is how many tombstones an AOR has at the most; who needs more gets 503 until some are forgotten.
	TombstonesMax = 256
	// CallIDBytesMax is the longest Call-ID of a REGISTER.
	CallIDBytesMax = 512
	// RowBytesMax bounds what one binding takes, encoded.
	RowBytesMax = 24 << 10
	// ChangeBytesMax bounds a BindingsChange, encoded, so that it fits into one message of the group. Decide refuses a REGISTER that
	// does more, or after which "Contact: *" would.
	ChangeBytesMax = 40 << 10
	// PathMax is how many Path values a binding has at the most.
	PathMax = 16
	// RequestContactsMax is how many contacts one REGISTER names at the most.
	RequestContactsMax = 32
	// VotersMax is how many voters there are at the most.
	VotersMax = 64
)
