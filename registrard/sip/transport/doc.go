// Package transport owns the sockets that phones and edge proxies talk to: it reads complete, size-checked SIP messages from UDP and
// TCP, hands them to a Handler, and sends what the Handler answers from the address that was asked.
//
// It promises that nothing here waits for ever or grows without bound: every queue, size and time is a field of Limits, and every
// message or connection that is turned away is counted. It knows no SIP beyond where a message on a stream ends (Framer) and the
// keep-alives between messages (RFC 5626 section 4.4.1). It imports nothing else of this module.
package transport
