package sip

import (
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"strings"
	"time"

	"sipha/registrard/location"
	"sipha/registrard/sip/transport"
)

// Registrar decides about REGISTERs and knows the bindings. The callbacks are called once each, from any goroutine, and do not block; an error
// means that nothing is known of the outcome, and is answered with 503. User, Keys, Now and Serving are cheap.
type Registrar interface {
	// Register decides r. It may keep r until it calls done, which comes once the answer holds: after the commit.
	Register(r *location.Request, done func(location.Answer, error))
	// Lookup reads the bindings of an AOR as they were at some time after the call.
	Lookup(aor location.AOR, done func(location.Lookup, error))
	// User returns the user with this AOR.
	User(aor location.AOR) (location.User, bool)
	// Keys returns the keys of the nonces by rising ID; it is not written to.
	Keys() []location.Key
	// Now returns ordered time.
	Now() location.Time
	// Serving tells whether this node answers at all: whether it is the primary and its epoch stands.
	Serving() bool
}

// Limits bounds what peers can make the server hold or do. The zero value of a field means its default.
type Limits struct {
	InFlightMax       int           // REGISTERs that wait for the Registrar; above it 503
	AnswerTimeout     time.Duration // that a REGISTER or lookup waits for the Registrar; after it 503
	TransactionsMax   int           // transactions alive for requests other than REGISTER; above it 503
	SourcesMax        int           // sources remembered for their failures, and as many for their successes (twice each at the most)
	FailuresPerSecond float64       // failures of one source that are answered, in the long run
	FailuresBurst     int           // failures of one source that are answered in a row
	RetryAfterMin     time.Duration // what a 503 asks for at the least, in whole seconds
	RetryAfterMax     time.Duration // what it asks for at the most; phones are spread over the time between
	DrainTimeout      time.Duration // for REGISTERs in flight when the server stops
}

const (
	inFlightMax       = 16384
	answerTimeout     = 8 * time.Second
	transactionsMax   = 4096
	sourcesMax        = 65536
	failuresPerSecond = 50
	failuresBurst     = 400
	retryAfterMin     = 2 * time.Second
	retryAfterMax     = 12 * time.Second
	drainTimeout      = 3 * time.Second
)

// WithDefaults returns the limits with every zero field at its default.
func (l Limits) WithDefaults() Limits {
	or(&l.InFlightMax, inFlightMax)
	or(&l.AnswerTimeout, answerTimeout)
	or(&l.TransactionsMax, transactionsMax)
	or(&l.SourcesMax, sourcesMax)
	or(&l.FailuresPerSecond, failuresPerSecond)
	or(&l.FailuresBurst, failuresBurst)
	or(&l.RetryAfterMin, retryAfterMin)
	or(&l.RetryAfterMax, retryAfterMax)
	or(&l.DrainTimeout, drainTimeout)
	return l
}

func or[T comparable](field *T, def T) {
	var zero T
	if *field == zero {
		*field = def
	}
}

// Config is what a Server is made from.
type Config struct {
	Listen          []transport.Address
	TransportLimits transport.Limits
	Limits          Limits

	Domains    []string             // whose registrar this is: host names or addresses
	Realms     map[string]string    // digest realm of a domain; the domain itself where there is none
	Algorithms []location.Algorithm // offered for digest, in this order; SHA-256 and MD5 where there are none
	NonceLife  time.Duration        // 0: digest's default
	Trusted    []netip.Prefix       // peers that may look up anybody, and fail as often as they like
	ThirdParty bool                 // whether From may differ from To in a REGISTER

	Registrar Registrar
	Log       *slog.Logger
}

// domains are the configured domains, canonical, with their realms.
type domains map[string]string

func newDomains(names []string, realms map[string]string) (domains, error) {
	if len(names) == 0 {
		return nil, errors.New("no domain: set [registrard] domains to the domains whose registrar this is")
	}
	d := make(domains, len(names))
	for _, name := range names {
		aor, err := location.ParseAOR("sip:user@" + name)
		if err != nil || strings.ContainsAny(name, ":;?@") && !strings.HasPrefix(name, "[") {
			return nil, fmt.Errorf("domain %q: want a host name or an address, such as \"example.org\"", name)
		}
		realm, ok := realms[name]
		if !ok {
			realm = aor.Host()
		}
		if strings.ContainsAny(realm, "\"\\\r\n") {
			return nil, fmt.Errorf("realm %q of domain %q: quotes, backslashes and line ends are not allowed", realm, name)
		}
		d[aor.Host()] = realm
	}
	return d, nil
}
