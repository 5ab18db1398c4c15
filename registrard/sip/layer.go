package sip

import (
	"errors"
	"fmt"
	"net"
	"sync"
	"time"

	gosiplog "github.com/ghettovoice/gosip/log"
	gosip "github.com/ghettovoice/gosip/sip"
	gosiptransport "github.com/ghettovoice/gosip/transport"
)

// layer is the transport that gosip's transactions sit on. It opens no socket and parses nothing from a socket: it passes up requests that
// our own codec has accepted whole, and for every response that gosip wants sent it sends ours. gosip drops headers that it does not
// understand and writes others anew; the bytes on the wire are our codec's, made from the request as it came. gosip contributes what it is here for:
// the states and timers of RFC 3261 section 17.2.
type layer struct {
	messages   chan gosip.Message
	errs       chan error
	cancelOnce sync.Once
	canceled   chan struct{}
}

var _ gosiptransport.Layer = (*layer)(nil)

// flowField is the key under which a gosip message carries its transaction; gosip copies it from a request into its responses.
const flowField = "flow"

var (
	errNoListen = errors.New("gosip opens no socket here")
	errNoFlow   = errors.New("message belongs to no transaction of ours")
)

// newLayer is gosip's TransportLayerFactory.
func (s *Server) newLayer(net.IP, *net.Resolver, gosip.MessageMapper, gosiplog.Logger) gosiptransport.Layer {
	s.layer = &layer{messages: make(chan gosip.Message, layerQueueMax), errs: make(chan error), canceled: make(chan struct{})}
	return s.layer
}

// deliver passes a request up without waiting; false means that gosip does not keep up.
func (l *layer) deliver(req gosip.Request) bool {
	select {
	case <-l.canceled:
		return false
	default:
	}
	select {
	case l.messages <- req:
		return true
	default:
		return false
	}
}

// barrier is a response to nothing that tells when gosip looks at it.
type barrier struct {
	gosip.Response
	once    sync.Once
	reached chan struct{}
}

// Fields is the first thing that gosip asks a message for.
func (b *barrier) Fields() gosiplog.Fields {
	b.once.Do(func() { close(b.reached) })
	return b.Response.Fields()
}

// quiesce waits, for as long as the limit, until gosip has done with everything that was delivered: it takes one message after the
// other, so it has when it takes one more. Nothing may be delivered any more. Shut down in the midst of a message, gosip closes
// channels that it is sending on.
func (l *layer) quiesce(limit time.Duration) {
	timeout := time.NewTimer(limit)
	defer timeout.Stop()
	b := &barrier{Response: gosip.NewResponse("", "SIP/2.0", 200, "", nil, "", nil), reached: make(chan struct{})}
	select {
	case l.messages <- b:
	case <-timeout.C:
		return
	}
	select {
	case <-b.reached:
	case <-timeout.C:
	}
}

// Send implements transport.Layer: it sends the response of the transaction with this status.
func (l *layer) Send(msg gosip.Message) error {
	res, ok := msg.(gosip.Response)
	if !ok {
		return errNoFlow
	}
	tx, ok := res.Fields()[flowField].(*transactionState)
	if !ok {
		return errNoFlow
	}
	if err := tx.send(int(res.StatusCode())); err != nil {
		return fmt.Errorf("send %d: %w", res.StatusCode(), err)
	}
	return nil
}

// Cancel implements transport.Layer.
func (l *layer) Cancel() { l.cancelOnce.Do(func() { close(l.canceled) }) }

// Done implements transport.Layer.
func (l *layer) Done() <-chan struct{} { return l.canceled }

// Messages implements transport.Layer.
func (l *layer) Messages() <-chan gosip.Message { return l.messages }

// Errors implements transport.Layer.
func (l *layer) Errors() <-chan error { return l.errs }

// Listen implements transport.Layer by refusing.
func (l *layer) Listen(string, string, ...gosiptransport.ListenOption) error { return errNoListen }

// String implements transport.Layer.
func (l *layer) String() string { return "registrard/sip.layer" }

// IsReliable implements transport.Layer (RFC 3261 section 17).
func (l *layer) IsReliable(network string) bool { return network != "UDP" && network != "udp" }

// IsStreamed implements transport.Layer.
func (l *layer) IsStreamed(network string) bool { return l.IsReliable(network) }
