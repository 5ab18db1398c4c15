package sip

import (
	"errors"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	stack "github.com/ghettovoice/gosip"
	gosip "github.com/ghettovoice/gosip/sip"
	"github.com/ghettovoice/gosip/transaction"

	"sipha/registrard/location"
	"sipha/registrard/sip/message"
	"sipha/registrard/sip/transport"
)

const (
	// allowed is what may be sent to an address-of-record or to us. What only a dialog knows, nobody can send here: we hold none.
	allowed = "REGISTER, OPTIONS, INVITE, ACK, CANCEL, MESSAGE, SUBSCRIBE, NOTIFY, PUBLISH, REFER"
	// layerQueueMax is how many requests may be on their way to gosip.
	layerQueueMax = 1024
	// gosipHost is where gosip believes to be. It opens no socket and writes no message, so it does not matter.
	gosipHost = "127.0.0.1"
)

// startStack starts gosip on our layer.
func (s *Server) startStack() {
	s.stack = stack.NewServer(stack.ServerConfig{Host: gosipHost}, s.newLayer, nil, gosipLogger{s.log})
	for _, method := range []gosip.RequestMethod{
		gosip.INVITE, gosip.OPTIONS, gosip.MESSAGE, gosip.SUBSCRIBE, gosip.NOTIFY, gosip.PUBLISH, gosip.REFER,
	} {
		_ = s.stack.OnRequest(method, s.serve) // it only stores the handler, and returns nil always
	}
}

// request takes everything but REGISTER, ACK and CANCEL.
func (s *Server) request(w *work) (o Outcome, keep bool) {
	m := &w.msg
	switch m.Method {
	case message.MethodInvite, message.MethodOptions, message.MethodMessage, message.MethodSubscribe, message.MethodNotify,
		message.MethodPublish, message.MethodRefer:
	case message.MethodBye, message.MethodInfo, message.MethodUpdate, message.MethodPrack:
		return s.refuse(w, RejectedDialog, &message.Response{Status: 481}), false
	default:
		return s.refuse(w, RejectedMethod, &message.Response{Status: 501}), false
	}
	if len(m.To.Tag) > 0 {
		return s.refuse(w, RejectedDialog, &message.Response{Status: 481}), false
	}
	if m.Target.User == "" {
		return s.toSelf(w), false
	}
	aor, err := location.ParseAOR(string(m.RequestURI))
	if err != nil {
		return s.refuse(w, InvalidMalformed, &message.Response{Status: 400, Reason: "Malformed Request-URI"}), false
	}
	realm, ok := s.domains[aor.Host()]
	if !ok {
		return s.refuse(w, RejectedDomain, &message.Response{Status: 404}), false
	}
	// Whom we do not know learns nothing: one and the same answer for every address.
	if !s.guard.isTrusted(w.remote.Addr()) {
		if outcome, ok := s.authenticate(w, "", realm); !ok {
			return outcome, false
		}
		s.guard.succeed(w.remote.Addr(), s.now())
	}
	return s.transact(w, aor)
}

// toSelf answers what is addressed to this server and not to a user: OPTIONS, by which peers find out whether it serves (RFC 3261 section
// 11.2). That needs no transaction: a repeated one gets the same answer.
func (s *Server) toSelf(w *work) Outcome {
	m := &w.msg
	w.headers = message.AppendHeader(w.headers[:0], "Allow", allowed)
	switch {
	case !s.isSelf(w):
		return s.refuse(w, RejectedDomain, &message.Response{Status: 404})
	case m.Method != message.MethodOptions:
		return s.refuse(w, RejectedMethod, &message.Response{Status: 405, Headers: w.headers})
	}
	if unsupported := s.unsupported(w); unsupported != nil {
		return s.refuse(w, RejectedExtension, unsupported)
	}
	if !s.guard.fail(w.remote.Addr(), s.now(), 1) { // nobody has proved who he is
		return IgnoredSource
	}
	w.headers = message.AppendHeader(w.headers[:0], "Allow", allowed)
	w.headers = message.AppendHeader(w.headers, "Accept", "*/*")
	w.headers = message.AppendHeader(w.headers, "Supported", supported)
	w.respond(&message.Response{Status: 200, Headers: w.headers})
	return AcceptedOptions
}

// transactionState is one request that gosip holds a transaction for.
type transactionState struct {
	w   *work // not changed any more, but for out under mu
	key string
	aor location.AOR
	tag []byte

	mu    sync.Mutex
	final []byte // the final response
}

// transact hands the request to gosip.
func (s *Server) transact(w *work, aor location.AOR) (o Outcome, keep bool) {
	t := &transactionState{w: w, key: w.transactionKey(), aor: aor}
	t.tag = s.tagger.AppendTag(nil, &w.msg)
	req := w.gosipRequest(t.key)
	req.WithFields(map[string]any{flowField: t})
	switch s.transactions.begin(t.key, t.tag, s.now()) {
	case retransmitted:
		// gosip sends its answer again, if it has one. The new work is not needed: gosip keeps the first.
		_ = s.layer.deliver(req) // a lost retransmission is repeated
		return IgnoredRetransmission, true
	case refused:
		s.unavailable(w)
		return RejectedBusy, false
	}
	if !s.layer.deliver(req) {
		s.transactions.end(t.key)
		s.unavailable(w)
		return RejectedBusy, false
	}
	return AcceptedTransaction, true
}

// ack passes an ACK to its transaction. An ACK for a response that needed none ends here: it may not be answered.
func (s *Server) ack(w *work) Outcome {
	if len(w.msg.Via.Host) == 0 {
		return InvalidMalformed
	}
	key := w.transactionKey()
	if _, ok := s.transactions.tag(key); !ok {
		return IgnoredAck
	}
	_ = s.layer.deliver(w.gosipRequest(key)) // a lost ACK is asked for again by the response's retransmission
	return AcceptedAck
}

// cancel answers a CANCEL (RFC 3261 section 9.2) and passes it on to the transaction that it means. gosip leaves the answer to its user, and
// gives none once the transaction has its final response; so it is given here.
func (s *Server) cancel(w *work) Outcome {
	key := w.transactionKey()
	tag, ok := s.transactions.tag(key)
	if !ok {
		return s.refuse(w, RejectedDialog, &message.Response{Status: 481})
	}
	_ = s.layer.deliver(w.gosipRequest(key)) // a lookup that is not cancelled is answered
	w.respond(&message.Response{Status: 200, Tag: tag})
	return AcceptedCancel
}

// serve is gosip's handler: it runs in a goroutine of its own for as long as the transaction lives.
func (s *Server) serve(req gosip.Request, tx gosip.ServerTransaction) {
	if tx == nil {
		return // an ACK of a 2xx, which we never send
	}
	t, ok := req.Fields()[flowField].(*transactionState)
	if !ok {
		return // cannot happen: gosip gets requests from transact alone
	}
	s.transactions.start(t.key, t.tag, s.now())
	defer s.transactions.end(t.key)
	defer func() {
		if r := recover(); r != nil {
			s.panicked(r)
		}
	}()
	if r := s.redirect(t, tx); r != nil {
		if err := t.answer(r); err == nil {
			// Its text does not matter: the layer sends t's. An error is the socket's, and ends the transaction.
			_ = tx.Respond(gosip.NewResponseFromRequest("", req, gosip.StatusCode(r.Status), "", ""))
		}
	}
	if t.w.protocol.Reliable() && !req.IsInvite() {
		// RFC 3261 section 17.2.2: over a reliable transport nothing is repeated, timer J is zero. gosip lets it run for 32 s.
		if tx, ok := tx.(transaction.ServerTx); ok {
			tx.Terminate()
		}
	}
	// gosip's own goroutine stands still when nobody reads these.
	for {
		select {
		case <-tx.Done():
			return
		case <-tx.Acks():
		case <-tx.Cancels():
		case <-tx.Errors():
		}
	}
}

// redirect looks the address up and returns the response; nil when the transaction has ended meanwhile.
func (s *Server) redirect(t *transactionState, tx gosip.ServerTransaction) *message.Response {
	type result struct {
		found location.Lookup
		err   error
	}
	results := make(chan result, 1)
	s.registrar.Lookup(t.aor, func(l location.Lookup, err error) { results <- result{l, err} })
	timeout := time.NewTimer(s.limits.AnswerTimeout)
	defer timeout.Stop()
	select {
	case <-tx.Done():
		return nil
	case <-tx.Cancels():
		return &message.Response{Status: 487, Reason: "Request Terminated"}
	case <-timeout.C:
		return &message.Response{Status: 503, RetryAfter: s.retryAfter()}
	case r := <-results:
		switch {
		case r.err != nil:
			return &message.Response{Status: 503, RetryAfter: s.retryAfter()}
		case !r.found.Known:
			return &message.Response{Status: 404}
		case len(r.found.Bindings) == 0:
			return &message.Response{Status: 480}
		}
		return &message.Response{Status: 302, Bindings: preferred(r.found.Bindings), Now: r.found.Now}
	}
}

// preferred sorts by falling q (RFC 3261 section 20.10); no q counts as 1.
func preferred(bindings []location.Binding) []location.Binding {
	q := func(b *location.Binding) int16 {
		if b.Q < 0 {
			return 1000
		}
		return b.Q
	}
	slices.SortStableFunc(bindings, func(a, b location.Binding) int { return int(q(&b)) - int(q(&a)) })
	return bindings
}

// answer writes the final response.
func (t *transactionState) answer(r *message.Response) error {
	r.Source, r.Tag = t.w.remote, t.tag
	out, err := t.w.msg.AppendResponse(nil, r)
	if errors.Is(err, message.ErrTooLarge) {
		// Without a final response, gosip would hold the transaction for ever.
		*r = message.TooLarge(r)
		out, err = t.w.msg.AppendResponse(nil, r)
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.final = out
	return err
}

// send sends what gosip wants sent: 100 when the answer takes its time, else the final response, and that again.
func (t *transactionState) send(status int) error {
	s := t.w.s
	t.mu.Lock()
	b := t.final
	t.mu.Unlock()
	if status < 200 {
		var err error
		if b, err = t.w.msg.AppendResponse(nil, &message.Response{Status: status, Source: t.w.remote}); err != nil {
			return err
		}
	}
	if len(b) == 0 {
		return errNoFlow
	}
	if err := t.w.send(b); err != nil {
		s.counters.unsent.Add(1)
		return err
	}
	s.counters.responded(status)
	return nil
}

// transactionKey names the transaction that a request belongs to (RFC 3261 section 17.2.3): an ACK and a CANCEL have that of their INVITE.
func (w *work) transactionKey() string {
	m := &w.msg
	method := string(m.MethodName)
	if m.Method == message.MethodAck || m.Method == message.MethodCancel {
		method = "INVITE"
	}
	var b strings.Builder
	part := func(p []byte) {
		b.WriteString(strconv.Itoa(len(p)))
		b.WriteByte('.')
		b.Write(p)
	}
	b.WriteString("z9hG4bK")
	b.WriteString(method)
	if branch := string(m.Via.Branch); len(branch) > len(magicCookie) && strings.EqualFold(branch[:len(magicCookie)], magicCookie) {
		part(m.Via.Branch)
	} else {
		// A peer of RFC 2543. Its ACK has the To tag of our response, so To does not count.
		b.WriteByte('-')
		part(m.CallID)
		part(m.From.Tag)
		part(m.RequestURI)
		b.WriteString(strconv.FormatUint(uint64(m.CSeq), 10))
	}
	part(m.Via.Host)
	b.WriteString(strconv.Itoa(int(m.Via.Port)))
	return b.String()
}

const magicCookie = "z9hG4bK"

// gosipRequest makes the request that gosip sees: enough of it to tell transactions apart. The transaction's key is its branch, so that gosip matches
// as we do.
func (w *work) gosipRequest(key string) gosip.Request {
	m := &w.msg
	method := gosip.RequestMethod(m.MethodName)
	port := gosip.Port(message.DefaultPort)
	callID := gosip.CallID(m.CallID)
	nobody := &gosip.SipUri{FHost: gosipHost}
	req := gosip.NewRequest("", method, nobody, "SIP/2.0", []gosip.Header{
		gosip.ViaHeader{&gosip.ViaHop{
			ProtocolName: "SIP", ProtocolVersion: "2.0", Transport: w.protocol.Via(), Host: gosipHost, Port: &port,
			Params: gosip.NewParams().Add("branch", gosip.String{Str: key}),
		}},
		&gosip.FromHeader{Address: nobody, Params: gosip.NewParams()},
		&gosip.ToHeader{Address: nobody, Params: gosip.NewParams()},
		&callID,
		&gosip.CSeq{SeqNo: m.CSeq, MethodName: method},
	}, "", nil)
	req.SetTransport(w.protocol.Via())
	req.SetSource(w.remote.String())
	req.SetDestination(w.local.String())
	return req
}

var _ transport.Handler = (*Server)(nil)
