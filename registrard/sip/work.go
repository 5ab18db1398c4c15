package sip

import (
	"errors"
	"net/netip"
	"sync/atomic"
	"time"

	"sipha/registrard/location"
	"sipha/registrard/sip/message"
	"sipha/registrard/sip/transport"
)

const (
	workBufferMin = 2 << 10
	// workBufferKeep is the largest buffer that goes back to the pool: most messages are short, and thousands of works wait at a time.
	workBufferKeep = 8 << 10
)

// work is one message on its way through the server, with all memory that it needs. Works are pooled.
type work struct {
	s        *Server
	msg      message.Message // points into buf
	buf      []byte
	protocol transport.Protocol
	local    netip.AddrPort
	remote   netip.AddrPort
	sender   transport.Sender

	out     []byte // the response
	headers []byte // further headers of the response
	tag     []byte // for To

	// The way of a REGISTER through the Registrar.
	request location.Request
	key     uint64 // in Server.inflight
	began   time.Duration
	state   atomic.Uint32 // waiting, completed or abandoned
	answer  location.Answer
	err     error
	done    func(location.Answer, error) // w.complete, made once
}

const (
	waiting uint32 = iota
	completed
	abandoned
)

func (s *Server) newWork() any {
	w := &work{s: s, buf: make([]byte, 0, workBufferMin)}
	w.done = w.complete
	return w
}

// take gets a work from the pool and fills it with a packet.
func (s *Server) take(p *transport.Packet) *work {
	w := s.works.Get().(*work)
	w.buf = append(w.buf[:0], p.Data...)
	w.protocol, w.local, w.remote, w.sender = p.Protocol, p.Local, p.Remote, p.Sender
	return w
}

// give puts a work back. Nothing may refer to it any more.
func (s *Server) give(w *work) {
	if cap(w.buf) > workBufferKeep || cap(w.out) > workBufferKeep {
		return
	}
	w.sender = nil
	w.answer, w.err = location.Answer{}, nil
	s.works.Put(w)
}

// complete is what the Registrar calls. The rest is done by the server's own goroutines: the caller has better things to do.
func (w *work) complete(a location.Answer, err error) {
	w.answer, w.err = a, err
	if !w.state.CompareAndSwap(waiting, completed) {
		w.s.counters.late.Add(1)
		return
	}
	w.s.completions.put(w)
}

// abandon takes a REGISTER back from the Registrar that has not answered; false if it has.
func (w *work) abandon() bool { return w.state.CompareAndSwap(waiting, abandoned) }

// respond sends a response. The request must be answerable.
func (w *work) respond(r *message.Response) {
	s := w.s
	r.Source = w.remote
	if len(r.Tag) == 0 {
		w.tag = s.tagger.AppendTag(w.tag[:0], &w.msg)
		r.Tag = w.tag
	}
	out, err := w.msg.AppendResponse(w.out[:0], r)
	if errors.Is(err, message.ErrTooLarge) {
		*r = message.TooLarge(r)
		out, err = w.msg.AppendResponse(w.out[:0], r)
	}
	w.out = out
	if err == nil {
		err = w.send(out)
	}
	if err != nil {
		s.counters.unsent.Add(1)
		return
	}
	s.counters.responded(r.Status)
}

// send queues b to where responses to the request go.
func (w *work) send(b []byte) error {
	to := w.remote
	if w.protocol == transport.UDP {
		to = w.msg.ResponseAddr(w.remote)
	}
	return w.sender.Send(b, w.local, to)
}
