package control

import (
	"context"

	"sipha/registrard/location"
)

// Service is what the server and the bus object ask of the daemon. Its methods may be called concurrently; they return by the end
// of their context. Those that write may be called on every node: a replica forwards them to the primary. Errors that the caller
// should tell apart are *Error.
type Service interface {
	RoleService
	ContactService
	UserService
}

// RoleService is what the cluster asks.
type RoleService interface {
	// Status is local and does not block.
	Status() Status
	// Promote returns once this instance is primary with a committed epoch; at once when it is that already.
	Promote(ctx context.Context) error
	// Demote returns once this instance decides nothing any more; at once when it is a replica.
	Demote(ctx context.Context) error
	// Reload reads the configuration again and puts in force what can be changed while running; an error leaves all as it was.
	Reload(ctx context.Context) error
	// Bootstrap lets the cluster's first log start with those nodes that are here, without waiting for the others that are expected. It
	// is an error where this node has a log.
	Bootstrap(ctx context.Context) error
	// Config returns what is in force, in the order of the documentation.
	Config() []Setting
}

// ContactService is about bindings. Reads are of the local replica.
type ContactService interface {
	// Contacts returns up to limit AORs after the given one, by rising AOR, those without bindings left out.
	Contacts(ctx context.Context, after location.AOR, limit int) ([]Registration, error)
	// Registration returns the bindings of one AOR; ErrNotFound when it has none.
	Registration(ctx context.Context, aor location.AOR) (Registration, error)
	// RemoveContact removes one contact, or all of the AOR where contact is "", and returns how many; ErrNotFound when there was none.
	RemoveContact(ctx context.Context, aor location.AOR, contact string) (int, error)
}

// UserService is about who may register.
type UserService interface {
	// Users returns up to limit users after the given AOR, by rising AOR, from the local replica.
	Users(ctx context.Context, after location.AOR, limit int) ([]location.User, error)
	// PutUsers stores users. Without replace it stores none and returns ErrExists when one of them is there already. After another
	// error some may have been stored; to put them again does no harm.
	PutUsers(ctx context.Context, users []location.User, replace bool) error
	// RemoveUser removes a user; its bindings run out by themselves. ErrNotFound when there is none.
	RemoveUser(ctx context.Context, aor location.AOR) error
}

// Setting is one value of the configuration that is in force. Secrets do not appear in the configuration.
type Setting struct {
	Key    string `json:"key"`    // such as "registration.expires_min"
	Value  string `json:"value"`  // as it would be written in the file
	Origin string `json:"origin"` // "default", "flag", "environment", or the file's name with the line
}

// Registration is an address-of-record with its bindings, as an operator sees it.
type Registration struct {
	AOR      location.AOR `json:"aor"`
	Contacts []Contact    `json:"contacts"`
}

// Contact is one binding, as an operator sees it.
type Contact struct {
	URI       string   `json:"uri"`
	Params    string   `json:"params,omitempty"`
	Q         *float64 `json:"q,omitempty"`
	ExpiresS  int64    `json:"expires_s"` // seconds from now
	CallID    string   `json:"call_id"`
	CSeq      uint32   `json:"cseq"`
	Path      []string `json:"path,omitempty"`
	Received  string   `json:"received"`
	Socket    string   `json:"socket"`
	UserAgent string   `json:"user_agent,omitempty"`
	Instance  string   `json:"instance,omitempty"`
	RegID     uint32   `json:"reg_id,omitempty"`
	CreatedMS int64    `json:"created_ms"` // ordered time, milliseconds since 1970
}

// NewRegistration shows bindings as they are at the ordered time now; what has run out is left out.
func NewRegistration(aor location.AOR, bindings []location.Binding, now location.Time) Registration {
	r := Registration{AOR: aor, Contacts: make([]Contact, 0, len(bindings))}
	for _, b := range bindings {
		if b.Expires <= now {
			continue
		}
		c := Contact{
			URI: b.Contact, Params: b.Params, ExpiresS: (int64(b.Expires-now) + 999) / 1000, CallID: b.CallID, CSeq: b.CSeq, Path: b.Path,
			Received: b.Received, Socket: b.Socket, UserAgent: b.UserAgent, Instance: b.Instance, RegID: b.RegID, CreatedMS: int64(b.Created),
		}
		if b.Q >= 0 {
			q := float64(b.Q) / 1000
			c.Q = &q
		}
		r.Contacts = append(r.Contacts, c)
	}
	return r
}
