package replica

import (
	"time"

	"sipha/registrard/location"
)

// Now is the time as a value: Mono is a monotonic clock of the caller's, Wall its wall clock in milliseconds since 1970.
type Now struct {
	Mono time.Duration
	Wall int64
}

// Member is a process in the group.
type Member struct {
	Node location.NodeID
	PID  uint32
}

// Sender is a member with the incarnation that its message names.
type Sender struct {
	Member
	Incarnation location.Incarnation
}

// Event is what happens to a Core. It is one of Deliver, Membership, Ring, Quorum, Promote, Demote, Bootstrap, Propose, Read, Stored,
// Applied, Installed, StagingFailed, Timer.
type Event interface{ event() }

// Deliver is a message of the group, in its total order.
type Deliver struct {
	From    Sender
	Message Message
}

// Membership is a change of the group's members. RingChanges says that a node left or joined the ring, so that a Ring event follows.
type Membership struct {
	Members     []Member
	RingChanges bool
}

// Ring ends a change of the ring, after its Membership events.
type Ring struct {
	ID    RingID
	Nodes []location.NodeID
}

// Quorum is the quorum service's word on a ring.
type Quorum struct {
	ID      RingID
	Quorate bool
}

// Promote is Pacemaker's order to become the primary; it holds until Demote.
type Promote struct{}

// Demote is Pacemaker's order to stop being the primary.
type Demote struct{}

// Bootstrap is an operator's order to start the first log with those members that are here.
type Bootstrap struct{}

// Propose hands the primary a batch: its changes, and the digest that the content has after them. It is ignored when the core is not
// the primary of the epoch that it was made in.
type Propose struct {
	Epoch   location.Epoch
	Kind    location.Kind
	Time    location.Time
	Payload []byte
	Digest  location.Digest
}

// Read asks for a moment at which everything committed before it is applied here and this is still the primary. Token is the
// caller's.
type Read struct{ Token uint64 }

// Stored says that the writes up to Seq (Write, Promise) are done: durably, where durable is on.
type Stored struct{ Seq uint64 }

// Applied says that the entries up to Index are applied to the content, which has this digest now.
type Applied struct {
	Index  uint64
	Digest location.Digest
}

// Installed says that the staged snapshot has replaced the database: what a Boot would tell now.
type Installed struct{ Boot Boot }

// StagingFailed says that the snapshot being staged is of no use; the core asks another donor.
type StagingFailed struct{ Session uint64 }

// Timer says that time has passed: the caller sends it every TimerInterval, and whenever it likes.
type Timer struct{}

func (Deliver) event()       {}
func (Membership) event()    {}
func (Ring) event()          {}
func (Quorum) event()        {}
func (Promote) event()       {}
func (Demote) event()        {}
func (Bootstrap) event()     {}
func (Propose) event()       {}
func (Read) event()          {}
func (Stored) event()        {}
func (Applied) event()       {}
func (Installed) event()     {}
func (StagingFailed) event() {}
func (Timer) event()         {}

// Action is what the caller must do, in the order given. It is one of Multicast, Write, Promise, Commit, Compose, ReadDone, Abandon,
// Changed, Stage, Serve, ChunkDelivered, StopServing, RequeryQuorum, SetAside, Forwarded, Note.
type Action interface{ action() }

// Multicast sends a message to the group, after those before it.
type Multicast struct{ Message Message }

// Write changes the log: first it cuts off what lies at Cut and above (0: nothing), then it appends, in one transaction. Stored
// answers once it, and every write before it, is done.
type Write struct {
	Seq     uint64
	Cut     uint64
	Entries []location.Entry
}

// Promise stores the promised epoch durably, whatever durable says, and the wall clock. Stored answers.
type Promise struct {
	Seq   uint64
	Epoch location.Epoch
}

// Commit applies entries to the content, in memory now, and in the database with a later write. Applied answers each Commit.
type Commit struct{ Entries []location.Entry }

// Compose asks for a Propose of Epoch with these changes, after what has been proposed before. With Tail set, at the start of an
// epoch, the entries in it lie in the log above what is applied, and the digest counts from there.
type Compose struct {
	Epoch   location.Epoch
	Kind    location.Kind
	Time    location.Time
	Tail    []location.Entry
	Changes []location.Change
}

// ReadDone answers a Read: OK, or this is no longer (or not yet) a primary that can tell.
type ReadDone struct {
	Token uint64
	OK    bool
}

// Abandon says that what has been proposed and is not committed has an outcome that this core will not learn as a primary.
type Abandon struct{}

// Changed says that Status has changed in role, epoch, serving, state or score.
type Changed struct{}

// Stage hands over a chunk of a snapshot: Seq 0 begins it; End finishes it, with what the whole must come to. Installed or
// StagingFailed answers the end.
type Stage struct {
	Session uint64
	Chunk   *SnapshotChunk
}

// Serve asks for a snapshot to be streamed to a joiner, in chunks of at most ChunkSize, with at most ChunkWindow not yet delivered.
type Serve struct {
	To      location.NodeID
	Session uint64
}

// ChunkDelivered tells that a chunk of ours has come back in the total order.
type ChunkDelivered struct {
	To      location.NodeID
	Session uint64
	Seq     uint32
}

// StopServing ends a stream.
type StopServing struct {
	To      location.NodeID
	Session uint64
}

// RequeryQuorum asks the quorum service again: its news of the ring has not come.
type RequeryQuorum struct{}

// SetAside says that the content is outvoted: the database must be set aside for study, and the daemon start anew with an empty one.
type SetAside struct{ Reason string }

// Forwarded hands the primary a request that another node's operator made.
type Forwarded struct {
	From    Sender
	Forward *Forward
}

// Note is a line for the log. Level is slog's.
type Note struct {
	Level   int
	Message string
	Attrs   []any
}

func (Multicast) action()      {}
func (Write) action()          {}
func (Promise) action()        {}
func (Commit) action()         {}
func (Compose) action()        {}
func (ReadDone) action()       {}
func (Abandon) action()        {}
func (Changed) action()        {}
func (Stage) action()          {}
func (Serve) action()          {}
func (ChunkDelivered) action() {}
func (StopServing) action()    {}
func (RequeryQuorum) action()  {}
func (SetAside) action()       {}
func (Forwarded) action()      {}
func (Note) action()           {}
