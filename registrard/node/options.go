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
	// ErrNoPrimary: there is no primary to forward to, or it did not answer in time. A command may have been carried out all the same.
	ErrNoPrimary = errors.New("no primary has answered in time")
)

// Limits and times of the shell.
const (
	// RequestsMax is how many requests may wait for the loop.
	RequestsMax = 1 << 14
	// DrainMax is how many requests are decided before the loop looks at other events.
	DrainMax = 512
	// WaitingMax is how many requests that the loop has taken may wait for their answer.
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
	// AnswerTimeout is how long a request may wait for its answer, from when the loop took it.
	AnswerTimeout = 4 * time.Second
	// DrainTimeout is how long a demotion waits for what is in flight.
	DrainTimeout = time.Second
	// OutQueueMax is how many messages may wait for the group.
	OutQueueMax = 1 << 12
	// RedialPause is the pause between attempts to reach the group again.
	RedialPause = 500 * time.Millisecond
	// DiskQueueMax is how many operations may wait for the disk, DiskQueueBytes how many bytes of theirs: with one more, the loop waits.
	DiskQueueMax   = 1 << 12
	DiskQueueBytes = 64 << 20
	// DiskStallMax is how long one operation on the database may take before the daemon ends, DiskInstallMax the same for one of a
	// snapshot's, whose last one verifies and syncs it all.
	DiskStallMax   = 20 * time.Second
	DiskInstallMax = 5 * time.Minute
	// diskLookInterval is how often who waits for the disk looks whether it stands still.
	diskLookInterval = time.Second
	// LoopStallMax is how long the loop may stand still before Serving and Status tell.
	LoopStallMax = 2 * time.Second
	// OrderGrace is how long an order that is out of time waits for the loop's word on it.
	OrderGrace = time.Second
	// KeyLife is how long a nonce key is the newest.
	KeyLife = time.Hour
	// ForwardRetry is how often a forwarded command is sent again; ForwardMax bounds those under way, ForwardBytesMax each of them.
	ForwardRetry    = 500 * time.Millisecond
	ForwardMax      = 1024
	ForwardBytesMax = 40 << 10
	// CommandTimeout is how long a command is tried at the most. OutcomeLife is how long an outcome is remembered: longer than that, so
	// that no try of a command comes after its outcome is forgotten.
	CommandTimeout = time.Minute
	OutcomeLife    = 2 * time.Minute
	// DetailMax is the longest detail of an outcome, in bytes.
	DetailMax = 512
	// StreamRate is how many bytes of a snapshot a donor sends in a second: so many that a million bindings take a quarter of a minute,
	// and no more than a joiner stages, since what waits there is bounded and nobody holds the donor up.
	StreamRate = 12 << 20
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

// Store is the database: *store.Store. Its methods are called by one goroutine, but for Snapshot.
type Store interface {
	Write(store.Batch) error
	SavePromise(location.Epoch) error
	Stage() (*store.Staging, error)
	SetAside(reason string) (string, *store.Recovered, error)
	Snapshot() (*store.Snapshot, error)
}

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

	Store Store
	Boot  *store.Recovered // what Store held when it was opened; the Node's from now on
	// Dial joins the group. It is called again when the group is lost, and returns when its context is done.
	Dial func(context.Context) (Group, error)
	// WallOffset is added to the wall clock, for tests.
	WallOffset time.Duration

	Log *slog.Logger
	// Observe is told about each committed batch and each answer, for metrics; its methods must not block. Nil: nobody.
	Observe Observer
}

// Observer is told what happens, for metrics. Its methods are called from several goroutines.
type Observer interface {
	// Committed: a batch of so many changes was committed this long after it was proposed.
	Committed(changes int, took time.Duration)
	// Synced: a write to disk took this long.
	Synced(took time.Duration)
	// SetAside: the database was set aside.
	SetAside()
}
