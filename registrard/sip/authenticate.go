package sip

import (
	"math/rand/v2"
	"strings"
	"time"

	"sipha/registrard/location"
	"sipha/registrard/sip/digest"
	"sipha/registrard/sip/message"
)

const (
	// nonceLife is how long a nonce is good for: phones that refresh more often than that are not challenged again.
	nonceLife = 5 * time.Minute
	// noncesMax is how many nonces' counts are remembered, twice at the most.
	noncesMax = 1 << 17
	// authorizationsMax is how many Authorization headers of one request are looked at for one with our realm.
	authorizationsMax = 4
)

// newVerifier makes the judge of credentials.
func newVerifier(cfg *Config) *digest.Verifier {
	v := &digest.Verifier{
		Algorithms: cfg.Algorithms, Life: cfg.NonceLife, Users: cfg.Registrar, Counter: digest.NewWindow(noncesMax),
	}
	if len(v.Algorithms) == 0 {
		v.Algorithms = []location.Algorithm{location.SHA256, location.MD5}
	}
	or(&v.Life, nonceLife)
	return v
}

// authenticate tells whether the request comes from the user with this address-of-record. If not, it has been answered, and the Outcome says how.
func (s *Server) authenticate(w *work, to location.AOR, realm string) (Outcome, bool) {
	keys := s.registrar.Keys()
	if len(keys) == 0 {
		s.unavailable(w) // no key is committed yet: nothing could be proved
		return RejectedStandby, false
	}
	credentials, found, err := w.credentials(realm)
	if err != nil {
		return s.refuse(w, InvalidMalformed, &message.Response{Status: 400, Reason: "Malformed Authorization"}), false
	}
	if !found {
		return s.challenge(w, realm, keys, RejectedChallenge), false
	}
	if to == "" {
		to = credentialsAOR(&credentials, realm, s.domains)
	}
	verdict := s.verifier.Verify(&credentials, &digest.Request{
		Method: w.msg.MethodName, URI: w.msg.RequestURI, Realm: realm, To: to, ID: w.proofKey(),
	}, keys, s.registrar.Now())
	switch verdict {
	case digest.Accepted:
		return 0, true
	case digest.Stale:
		return s.challenge(w, realm, keys, RejectedStale), false
	case digest.Forbidden:
		return s.refuse(w, RejectedIdentity, &message.Response{Status: 403}), false
	case digest.Mismatched:
		return s.refuse(w, InvalidMalformed, &message.Response{Status: 400, Reason: "Authorization for Another Request"}), false
	}
	return s.challenge(w, realm, keys, RejectedCredentials), false
}

// challenge asks for credentials (RFC 3261 section 22.1), with a nonce that is kept nowhere.
func (s *Server) challenge(w *work, realm string, keys []location.Key, o Outcome) Outcome {
	stale := o == RejectedStale
	w.headers = digest.AppendChallenge(
		w.headers[:0], realm, s.verifier.Algorithms, &keys[len(keys)-1], s.registrar.Now(), rand.Uint64(), stale)
	r := message.Response{Status: 401, Headers: w.headers}
	if stale {
		// The password was right. It is no failure: the guard would shut out a phone whose address somebody forges, once its nonce is old.
		w.respond(&r)
		return o
	}
	return s.refuse(w, o, &r)
}

// credentials finds the Digest credentials for our realm. Those of other realms and schemes are for others.
func (w *work) credentials(realm string) (c digest.Credentials, found bool, err error) {
	for n := range authorizationsMax {
		value := w.msg.HeaderAt(message.HeaderAuthorization, n)
		if value == nil {
			return c, false, nil
		}
		c, err = digest.Parse(value)
		switch {
		case err == digest.ErrScheme:
		case err != nil:
			return c, false, err
		case string(c.Realm) == realm:
			return c, true, nil
		}
	}
	return c, false, nil
}

// credentialsAOR guesses whose credentials these are, where any user will do: the username is the user part of an address-of-record
// in the realm's domain, or all of it.
func credentialsAOR(c *digest.Credentials, realm string, ds domains) location.AOR {
	name := string(c.Username)
	if strings.Contains(name, "@") {
		return location.AOR("sip:" + name)
	}
	for domain, r := range ds {
		if r == realm {
			return location.AOR("sip:" + name + "@" + domain)
		}
	}
	return location.AOR("sip:" + name + "@" + realm)
}

// proofKey names the request with all that it asks for. Credentials cover neither contacts nor expiry: whoever has seen a REGISTER must not
// get others carried out with them as its retransmissions.
func (w *work) proofKey() uint64 {
	return w.s.inflight.proofKey(w.msg.Bytes(), sourceOf(w.remote.Addr()))
}

// requestKey names the request: a retransmission has the same.
func (w *work) requestKey() uint64 {
	return w.s.inflight.key(w.msg.CallID, w.msg.Via.Branch, w.msg.CSeq, sourceOf(w.remote.Addr()))
}
