package sip

import (
	"bytes"
	"net/netip"
	"strings"
	"time"

	"sipha/registrard/location"
	"sipha/registrard/sip/message"
)

// supported are the option tags that a REGISTER may require.
const supported = "path"

// register takes a REGISTER through the steps of RFC 3261 section 10.3. keep means that the work is the Registrar's until it answers.
func (s *Server) register(w *work) (o Outcome, keep bool) {
	m := &w.msg
	// Steps 1 and 5: the address-of-record is in a domain of ours, and the Request-URI names that domain.
	aor, err := location.ParseAOR(string(m.To.URI))
	if err != nil {
		return s.refuse(w, InvalidMalformed, &message.Response{Status: 400, Reason: "To Is No Address-of-Record"}), false
	}
	realm, ok := s.domains[aor.Host()]
	if !ok || !sameHost(m.Target.Host, aor.Host()) {
		return s.refuse(w, RejectedDomain, &message.Response{Status: 404}), false
	}
	// Step 2: extensions.
	if unsupported := s.unsupported(w); unsupported != nil {
		return s.refuse(w, RejectedExtension, unsupported), false
	}
	// Steps 3 and 4: who is it, and may he?
	if outcome, ok := s.authenticate(w, aor, realm); !ok {
		return outcome, false
	}
	if !s.thirdParty && !bytes.Equal(m.From.URI, m.To.URI) && !sameAOR(m.From.URI, aor) {
		return s.refuse(w, RejectedIdentity, &message.Response{Status: 403, Reason: "Third-Party Registration"}), false
	}
	if bad := m.ToRequest(&w.request, w.protocol.String(), w.remote, w.local); bad != nil {
		return s.refuse(w, InvalidMalformed, &message.Response{Status: bad.Status, Reason: bad.Reason}), false
	}
	if !s.contactsAllowed(w) {
		return s.refuse(w, RejectedContact, &message.Response{Status: 403, Reason: "Contact Not Allowed"}), false
	}
	s.guard.succeed(w.remote.Addr(), s.now())

	// Steps 6 to 8 are the Registrar's.
	w.key, w.began = w.requestKey(), s.now()
	w.state.Store(waiting)
	switch s.inflight.begin(w.key, w) {
	case retransmitted:
		return IgnoredRetransmission, false
	case refused:
		s.unavailable(w)
		return RejectedBusy, false
	}
	s.registrar.Register(&w.request, w.done)
	return AcceptedRegister, true
}

// unsupported returns the 420 for a Require that asks too much, nil when it does not (RFC 3261 section 8.2.2.3).
func (s *Server) unsupported(w *work) *message.Response {
	const name = "Unsupported: "
	w.headers = append(w.headers[:0], name...)
	w.headers = w.msg.AppendUnsupported(w.headers, supported)
	if len(w.headers) == len(name) {
		return nil
	}
	w.headers = append(w.headers, "\r\n"...)
	return &message.Response{Status: 420, Headers: w.headers}
}

// finish answers a REGISTER that the Registrar has decided.
func (s *Server) finish(w *work) {
	defer func() {
		if r := recover(); r != nil {
			s.panicked(r) // the work is not used again
		}
	}()
	a := &w.answer
	switch {
	case w.err != nil:
		s.unavailable(w)
	case a.Status == 503:
		w.respond(&message.Response{Status: 503, Reason: a.Reason, RetryAfter: s.retryAfter()})
	default:
		r := message.Response{Status: a.Status, Reason: a.Reason, MinExpires: a.MinExpires}
		if a.Status == 200 {
			r.Bindings, r.Now = a.Bindings, a.Time
			r.Headers = s.date()
		}
		w.respond(&r)
	}
	s.inflight.end(w.key)
	s.give(w)
}

// dateLine is a Date header as of one second.
type dateLine struct {
	second int64
	line   []byte
}

// date returns the Date header: phones without a clock of their own set theirs by it (RFC 3261 section 10.3 step 8).
func (s *Server) date() []byte {
	now := time.Now()
	if d := s.dated.Load(); d != nil && d.second == now.Unix() {
		return d.line
	}
	d := &dateLine{second: now.Unix()}
	d.line = append(d.line, "Date: "...)
	d.line = now.UTC().AppendFormat(d.line, "Mon, 02 Jan 2006 15:04:05 GMT")
	d.line = append(d.line, "\r\n"...)
	s.dated.Store(d)
	return d.line
}

// contactsAllowed turns away contacts that nobody can be reached at, or that would have us send to ourselves or to everybody (RFC 5393).
// One that is to be removed may be anything.
func (s *Server) contactsAllowed(w *work) bool {
	for i := range w.request.Contacts {
		c := &w.request.Contacts[i]
		if c.Expires == 0 || c.Expires < 0 && w.request.Expires == 0 {
			continue
		}
		u, err := location.ParseURI(c.URI)
		if err != nil {
			return true // Decide says 400
		}
		port := u.Port
		if port == 0 {
			port = message.DefaultPort
		}
		if !s.hostAllowed(u.Host, port, w) || !s.hostAllowed(maddr(u.Params), port, w) {
			return false
		}
	}
	return true
}

// maddr returns the address that stands for the host of a URI when a request is sent to it (RFC 3261 section 19.1.1), "" when there is none.
func maddr(params string) string {
	for param := range strings.SplitSeq(params, ";") {
		if name, value, _ := strings.Cut(param, "="); strings.EqualFold(name, "maddr") {
			return value
		}
	}
	return ""
}

func (s *Server) hostAllowed(host string, port uint16, w *work) bool {
	host = strings.Trim(host, "[]")
	if host == "" || host[0] > '9' && !strings.Contains(host, ":") {
		return true // a name
	}
	a, err := netip.ParseAddr(host)
	return err != nil || s.reachable(a.Unmap(), port, w)
}

func (s *Server) reachable(a netip.Addr, port uint16, w *work) bool {
	switch {
	case a.IsUnspecified(), a.IsMulticast(), a == netip.AddrFrom4([4]byte{255, 255, 255, 255}):
		return false
	case a.IsLoopback() && !w.remote.Addr().IsLoopback():
		return false
	case port == w.local.Port() && a == w.local.Addr().WithZone(""):
		return false
	}
	return true
}

// sameHost compares a host as it was sent with one in canonical form.
func sameHost(sent, canonical string) bool {
	if strings.EqualFold(sent, canonical) {
		return true
	}
	aor, err := location.ParseAOR("sip:user@" + sent)
	return err == nil && aor.Host() == canonical
}

// sameAOR tells whether a URI as it was sent has this address-of-record. sip and sips do not count as two users here.
func sameAOR(sent []byte, aor location.AOR) bool {
	other, err := location.ParseAOR(string(sent))
	return err == nil && other.User() == aor.User() && other.Host() == aor.Host()
}
