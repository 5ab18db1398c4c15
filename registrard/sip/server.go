package sip

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/netip"
	"runtime"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	gosip "github.com/ghettovoice/gosip"

	"sipha/registrard/location"
	"sipha/registrard/sip/digest"
	"sipha/registrard/sip/message"
	"sipha/registrard/sip/transport"
)

// sweepInterval is how often what has waited too long is looked for.
const sweepInterval = time.Second

// Server is the registrar on the wire. Make it with New, which opens the sockets, then Run it once.
type Server struct {
	limits     Limits
	domains    domains
	thirdParty bool
	registrar  Registrar
	log        *slog.Logger
	began      time.Time

	counters     Counters
	transport    *transport.Transport
	guard        *guard
	tagger       message.Tagger
	verifier     *digest.Verifier
	failures     *failureLog
	dated        atomic.Pointer[dateLine]
	inflight     *inflight
	completions  *completions
	works        sync.Pool
	transactions *transactions
	layer        *layer
	stack        gosip.Server
}

// New opens the listeners. Its errors say what to do about them.
func New(ctx context.Context, cfg Config) (*Server, error) {
	ds, err := newDomains(cfg.Domains, cfg.Realms)
	if err != nil {
		return nil, err
	}
	limits := cfg.Limits.WithDefaults()
	s := &Server{
		limits: limits, domains: ds, thirdParty: cfg.ThirdParty, registrar: cfg.Registrar, log: cfg.Log, began: time.Now(),
		guard:        newGuard(limits, cfg.Trusted),
		tagger:       message.NewTagger(),
		verifier:     newVerifier(&cfg),
		failures:     newFailureLog(),
		inflight:     newInflight(limits.InFlightMax),
		completions:  newCompletions(),
		transactions: newTransactions(limits.TransactionsMax),
	}
	s.works.New = s.newWork
	cfg.TransportLimits.MessageSizeMax = message.MaxMessageBytes
	s.transport, err = transport.Listen(ctx, transport.Config{
		Addresses: cfg.Listen, Limits: cfg.TransportLimits, Trusted: cfg.Trusted, Frame: message.Frame, Log: cfg.Log,
	})
	if err != nil {
		return nil, err
	}
	return s, nil
}

// Addresses returns what is listened at.
func (s *Server) Addresses() []transport.Address { return s.transport.Addresses() }

// Counters returns the counts of messages.
func (s *Server) Counters() *Counters { return &s.counters }

// TransportCounters returns the counts of the sockets.
func (s *Server) TransportCounters() *transport.Counters { return s.transport.Counters() }

// InFlight returns how many REGISTERs wait for the Registrar.
func (s *Server) InFlight() int { return s.inflight.len() }

// Transactions returns how many transactions are alive.
func (s *Server) Transactions() int { return s.transactions.len() }

// Connections returns how many connections are open.
func (s *Server) Connections() int { return s.transport.Connections() }

// Run serves until ctx ends. Then it reads no more, gives REGISTERs in flight a little time to be answered, and closes the sockets.
func (s *Server) Run(ctx context.Context) error {
	s.startStack()
	var workers sync.WaitGroup
	for range runtime.GOMAXPROCS(0) {
		workers.Go(s.answerCompleted)
	}
	s.transport.Start(s)
	sweep := time.NewTicker(sweepInterval)
	defer sweep.Stop()
	for running := true; running; {
		select {
		case <-ctx.Done():
			running = false
		case <-sweep.C:
			s.sweep()
		}
	}

	s.transport.StopReceiving()
	drained := s.drain()
	s.completions.close()
	workers.Wait()
	s.layer.quiesce(s.limits.DrainTimeout)
	s.stack.Shutdown()
	closing, cancel := context.WithTimeout(context.WithoutCancel(ctx), s.limits.DrainTimeout)
	defer cancel()
	return errors.Join(drained, s.transport.Close(closing))
}

// drain waits until no REGISTER is in flight, for as long as the limit allows.
func (s *Server) drain() error {
	deadline := time.Now().Add(s.limits.DrainTimeout)
	poll := time.NewTicker(time.Millisecond)
	defer poll.Stop()
	for s.inflight.len() > 0 {
		if time.Now().After(deadline) {
			return fmt.Errorf("%d REGISTERs are left unanswered after %v", s.inflight.len(), s.limits.DrainTimeout)
		}
		<-poll.C
	}
	return nil
}

// sweep answers REGISTERs that the Registrar has kept too long, and frees what nobody will come back for.
func (s *Server) sweep() {
	now := s.now()
	for _, w := range s.inflight.overdue(now - s.limits.AnswerTimeout) {
		s.unavailable(w) // w is not used again: the Registrar may still hold its request
	}
	s.transactions.sweep(now)
}

// now is the time that limits are measured in.
func (s *Server) now() time.Duration { return time.Since(s.began) }

// Handle implements transport.Handler.
func (s *Server) Handle(p *transport.Packet) {
	s.counters.received.Add(1)
	if !s.guard.admit(p.Remote.Addr(), s.now()) {
		s.counters.ended(IgnoredSource)
		return
	}
	w := s.take(p)
	outcome, keep := s.handle(w)
	s.counters.ended(outcome)
	if !keep {
		s.give(w)
	}
}

// handle decides about one message; keep means that the work is needed after its return.
func (s *Server) handle(w *work) (o Outcome, keep bool) {
	defer func() {
		if r := recover(); r != nil {
			s.panicked(r)
			o, keep = InvalidPanic, true // who knows what still refers to it
		}
	}()
	framing := message.Datagram
	if w.protocol.Reliable() {
		framing = message.Stream
	}
	malformed := w.msg.Parse(w.buf, framing)
	m := &w.msg
	switch {
	case m.IsResponse():
		return IgnoredResponse, false
	case malformed != nil:
		return s.malformed(w, malformed), false
	case m.Method == message.MethodAck:
		return s.ack(w), false
	case m.Method == message.MethodCancel:
		return s.cancel(w), false
	case !s.registrar.Serving():
		s.unavailable(w)
		return RejectedStandby, false
	case m.Method == message.MethodRegister:
		return s.register(w)
	}
	return s.request(w)
}

func (s *Server) panicked(reason any) {
	s.counters.panics.Add(1)
	s.log.Error("panic while handling a message: please report it", slog.Any("panic", reason), slog.String("stack", string(debug.Stack())))
}

func (s *Server) malformed(w *work, e *message.Error) Outcome {
	outcome := InvalidMalformed
	switch e.Status {
	case 416:
		outcome = RejectedScheme
	case 501, 405:
		outcome = RejectedMethod
	}
	if !w.msg.Answerable() {
		s.guard.fail(w.remote.Addr(), s.now(), 1)
		return InvalidMalformed
	}
	return s.refuse(w, outcome, &message.Response{Status: e.Status, Reason: e.Reason})
}

// guessCost is how many tokens a wrong password takes: guessing is what a source must not be able to do often.
const guessCost = 10

// refuse answers a failure, as long as its source has not failed too often.
func (s *Server) refuse(w *work, o Outcome, r *message.Response) Outcome {
	cost := 1
	if o == RejectedCredentials || o == RejectedIdentity {
		cost = guessCost
		s.failures.log(s.log, o, w)
	}
	if !s.guard.fail(w.remote.Addr(), s.now(), cost) {
		return IgnoredSource
	}
	w.respond(r)
	return o
}

// unavailable answers 503. The times are spread, so that phones do not come back all at once.
func (s *Server) unavailable(w *work) {
	w.respond(&message.Response{Status: 503, RetryAfter: s.retryAfter()})
}

func (s *Server) retryAfter() uint32 {
	low, high := s.limits.RetryAfterMin, max(s.limits.RetryAfterMin, s.limits.RetryAfterMax)
	d := low + rand.N(high-low+time.Second)
	return uint32(max(d/time.Second, 1))
}

// answerCompleted writes the responses to REGISTERs that the Registrar has answered.
func (s *Server) answerCompleted() {
	var batch []*work
	for {
		if batch = s.completions.get(batch); len(batch) == 0 {
			return
		}
		for i, w := range batch {
			batch[i] = nil
			s.finish(w)
		}
	}
}

// isSelf tells whether a Request-URI without a user names this server: one of its domains, or the address that was asked.
func (s *Server) isSelf(w *work) bool {
	host := w.msg.Target.Host
	if len(host) > 2 && host[0] == '[' {
		host = host[1 : len(host)-1]
	}
	if a, err := netip.ParseAddr(host); err == nil && a == w.local.Addr().WithZone("") {
		return true
	}
	aor, err := location.ParseAOR("sip:user@" + w.msg.Target.Host)
	if err != nil {
		return false
	}
	_, ok := s.domains[aor.Host()]
	return ok
}
