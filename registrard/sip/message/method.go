package message

// Method is the method of a request.
type Method uint8

// The methods that are recognised; a request with another one is answered 501 (RFC 3261 section 21.5.2).
const (
	MethodUnknown Method = iota
	MethodRegister
	MethodOptions
	MethodInvite
	MethodAck
	MethodCancel
	MethodBye
	MethodSubscribe
	MethodNotify
	MethodPublish
	MethodRefer
	MethodInfo
	MethodUpdate
	MethodPrack
	MethodMessage
)

// identifyMethod reads a method; case counts (RFC 3261 section 7.1).
func identifyMethod(b []byte) Method {
	switch string(b) {
	case "REGISTER":
		return MethodRegister
	case "OPTIONS":
		return MethodOptions
	case "INVITE":
		return MethodInvite
	case "ACK":
		return MethodAck
	case "CANCEL":
		return MethodCancel
	case "BYE":
		return MethodBye
	case "SUBSCRIBE":
		return MethodSubscribe
	case "NOTIFY":
		return MethodNotify
	case "PUBLISH":
		return MethodPublish
	case "REFER":
		return MethodRefer
	case "INFO":
		return MethodInfo
	case "UPDATE":
		return MethodUpdate
	case "PRACK":
		return MethodPrack
	case "MESSAGE":
		return MethodMessage
	}
	return MethodUnknown
}
