package node

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"sipha/registrard/cpg"
	"sipha/registrard/location"
	"sipha/registrard/replica"
	"sipha/registrard/store"
)

// Errors that a caller can tell apart. All of them mean 503 with Retry-After to a phone.
var (
	// ErrNotServing: this is not the primary of a standing epoch.
	ErrNotServing = errors.New("not the primary of a standing epoch")
	// ErrOverloaded: too much is waiting.
	ErrOverloaded = errors.New("too many requests are waiting")
	// ErrUnknown: what was decided may or may not become committed; this node will not learn it as a primary.
	ErrUnknown = errors.New("the outcome is not known: this node is no longer the primary")
	// ErrTimeout: no majority has answered in time.
	ErrTimeout = errors.New("no majority of the voters has answered in time")
	// ErrClosed: the daemon is shutting down.
	ErrClosed = errors.New("shutting down")
	// ErrNoPrimary: there is no primary to forward to, or it did not answer in time.
	ErrNoPrimary = errors.New("no primary has answered in time")
)

// Limits and times of the shell.
const (
	// RequestsMax is how many requests may wait for the loop.
	RequestsMax = 1 << 14
	// DrainMax is how many requests are decided before the loop looks at other events.
	DrainMax = 512
	// WaitingMax is how many decided requests may wait for their answer.
	WaitingMax = 1 << 16
	// BatchBytes and BatchAge bound what is collected into one entry.
	BatchBytes = replica.AppendSize - 8<<10
	BatchAge   = 2 * time.Millisecond
	// ChangesPerTick is how many removals of what has run out one tick carries.
	ChangesPerTick = 256
	// TickInterval is how often ordered time moves when nothing else moves it; ExpiryInterval how often it is looked for what has run
	// out, so that a binding goes at most a second late.
	TickInterval   = time.Second
	ExpiryInterval = 200 * time.Millisecond
	// AnswerTimeout is how long a request may wait for its commit, from when it was decided.
	AnswerTimeout = 4 * time.Second
	// DrainTimeout is how long a demotion waits for what is in flight.
	DrainTimeout = time.Second
	// OutQueueMax is how many messages may wait for the group.
	OutQueueMax = 1 << 12
	// RedialPause is the pause between attempts to reach the group again.
	RedialPause = 500 * time.Millisecond
	// DiskQueueMax is how many writes may wait for the disk.
	DiskQueueMax = 1 << 14
	// KeyLife is how long a nonce key is the newest.
	KeyLife = time.Hour
	// ForwardRetry is how often a forwarded request is sent again; ForwardMax bounds those under way, ForwardBytesMax each of them.
	ForwardRetry    = 500 * time.Millisecond
	ForwardMax      = 1024
	ForwardBytesMax = 40 << 10
	// OutcomeLife is how long an outcome is remembered: longer than any request's deadline.
	OutcomeLife = 2 * time.Minute
	// ServeTimeout is how long a snapshot's donor waits for a chunk to be delivered.
	ServeTimeout = 10 * time.Second
)

// Group is the group that a node takes part in: *cpg.Group, *local.Group or *cpgtest.Group.
type Group interface {
	Self() cpg.Member
	// Next returns what has happened, in order, at least one event.
	Next(context.Context) ([]cpg.Event, error)
	// TryMulticast sends, or tells with cpg.ErrTryAgain to come again.
	TryMulticast(parts ...[]byte) error
	Close() error
}

// requerier is a group whose quorum service can be asked again.
type requerier interface{ RequeryQuorum(context.Context) error }

// Options is what a Node is made with.
type Options struct {
	Node       location.NodeID
	Name       string // node name as Corosync has it
	Version    string // of the daemon, for status
	ConfigHash uint64
	Expected   int           // nodes that the first bootstrap waits for
	Grace      time.Duration // after a promotion nothing runs out for this long
	AddedMax   time.Duration // bound of the time that a promotion adds
	NonceLife  time.Duration // how long an old nonce key is kept
	Policy     location.Policy

	Store *store.Store
	Boot  *store.Recovered
	// Dial joins the group. It is called again when the group is lost.
	Dial func(context.Context) (Group, error)
	// WallOffset is added to the wall clock, for tests.
	WallOffset time.Duration

	Log *slog.Logger
	// Observe is told about each committed batch and each answer, for metrics; its methods must not block. Nil: nobody.
	Observe Observer
}

// Observer is told what happens, for metrics. Its methods are called from the loop.
type Observer interface {
	// Committed: a batch of so many changes was committed this long after it was proposed.
	Committed(changes int, took time.Duration)
	// Synced: a write to disk took this long.
	Synced(took time.Duration)
	// SetAside: the database was set aside.
	SetAside()
}
