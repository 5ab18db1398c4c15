package replica

import "sipha/registrard/location"

// Message is what members multicast to the group. It is one of *Hello, *Claim, *Grant, *Refuse, *Append, *Receipt, *Need, *Behind,
// *Pull, *Tail, *SnapshotRequest, *SnapshotChunk, *SnapshotAbort, *Forward. Package wire encodes it. The sender (node and pid as
// Corosync tells them, and its incarnation) comes beside it.
type Message interface{ message() }

// RingID names a ring of Corosync: the node that formed it and a number that rises for ever (cpg_model_initialize(3), totem_confchg).
type RingID struct {
	Node location.NodeID
	Seq  uint64
}

// Hello is a member's introduction: multicast when the membership changes, when what it says of the sender has changed, and every
// HelloInterval while there is no primary.
type Hello struct {
	VersionMin, VersionMax uint16 // wire versions it speaks
	Name                   string // node name as Corosync has it
	Disk                   location.DiskID
	ConfigHash             uint64 // hash of the configuration that should be the same everywhere
	Expected               uint16 // nodes that the first bootstrap waits for; 0 when it does not know
	Ring                   RingID // the ring that the sender was in
	Last                   location.Position
	Committed              uint64
	Promised               location.Epoch
	Voters                 []location.Voter // as in the sender's log, empty when it has none
	Primary                bool             // it is the primary of epoch Promised
	Wall                   int64            // its wall clock, milliseconds since 1970: for a warning when clocks are apart
}

// Claim asks for a new epoch. Its place in the total order is where a grant's promise binds.
type Claim struct {
	Epoch     location.Epoch
	Last      location.Position // the claimant's log
	Voters    []location.Voter  // whom the claimant counts; at a bootstrap, all that the first log starts with
	Bootstrap bool              // nobody has a log yet
}

// Grant says that its sender has durably promised Epoch: it takes part in no older one.
type Grant struct {
	Epoch location.Epoch
	Disk  location.DiskID
}

// Reason tells why a claim was refused.
type Reason uint8

const (
	// ReasonPromised: a higher epoch has been promised or seen.
	ReasonPromised Reason = 1 + iota
	// ReasonAhead: the voter's log is ahead of the claimant's.
	ReasonAhead
	// ReasonQuorum: the voter sees no quorum yet, or its ring and its quorum news do not match yet.
	ReasonQuorum
	// ReasonBootstrap: the claim would start a first log, and the voter has one, or does not stand in it.
	ReasonBootstrap
)

// Refuse answers a Claim that its sender cannot grant.
type Refuse struct {
	Epoch    location.Epoch // the claim's
	Reason   Reason
	Promised location.Epoch // the highest that the sender has promised or seen
	Last     location.Position
}

// Append carries the primary's log: new entries for everybody (To is 0), entries that one node has asked for, or none at all, as a
// marker. Seq rises with each Append of an epoch; a receipt that names it was sent after it.
type Append struct {
	Epoch   location.Epoch
	Seq     uint64
	To      location.NodeID
	Commit  uint64            // commit index
	Prev    location.Position // of the entry before Entries[0]; of the primary's last entry where there are none
	Entries []location.Entry
	More    bool // with To: there is more to ask for
}

// Receipt is a member's word: it holds the log of Epoch up to Index (durably, where durable is on).
type Receipt struct {
	Epoch   location.Epoch
	Disk    location.DiskID
	Index   uint64
	Seq     uint64 // the highest Append of the epoch that it had seen when it sent this
	Ring    RingID // the ring that it was in
	Applied uint64 // what it has applied, and the digest of its content there
	Digest  location.Digest
	// Differs: its content differs from what the log says at Applied; Index counts for nothing.
	Differs bool
}

// Need asks the primary for the entries that follow the sender's log.
type Need struct {
	Epoch     location.Epoch
	Last      location.Position
	Committed location.Position
}

// Behind tells node To that the log no longer reaches back to what it needs: it must take a snapshot.
type Behind struct {
	Epoch location.Epoch
	To    location.NodeID
}

// Pull asks node From, which is ahead of the claimant, for its log's tail.
type Pull struct {
	From      location.NodeID
	Last      location.Position
	Committed location.Position
}

// Tail answers a Pull.
type Tail struct {
	To      location.NodeID
	Prev    location.Position
	Entries []location.Entry
	More    bool
}

// SnapshotRequest asks node Donor for its content. Session is unique to the sender's incarnation and rises.
type SnapshotRequest struct {
	Donor   location.NodeID
	Session uint64
}

// SnapshotChunk is a piece of a snapshot, in order of Seq from 0. The last one has End set and says what the whole must come to.
type SnapshotChunk struct {
	To      location.NodeID
	Session uint64
	Seq     uint32
	Data    []byte
	Total   uint64 // bytes in all as far as the donor knows, for the progress shown
	End     bool
	Applied location.Position // with End: of the content
	Last    location.Position // with End: of the log whose tail comes with it
	Rows    uint64            // with End
}

// SnapshotAbort ends a session from either side.
type SnapshotAbort struct {
	Peer    location.NodeID
	Session uint64
	Reason  string
}

// Forward carries a request of an operator (later: of a phone) from the node that has it to the primary. The outcome comes back as a
// replicated row, so that a retry after a failover is not done twice.
type Forward struct {
	ID       location.RequestID
	Deadline location.Time
	Request  []byte // encoded by package node
}

func (*Hello) message()           {}
func (*Claim) message()           {}
func (*Grant) message()           {}
func (*Refuse) message()          {}
func (*Append) message()          {}
func (*Receipt) message()         {}
func (*Need) message()            {}
func (*Behind) message()          {}
func (*Pull) message()            {}
func (*Tail) message()            {}
func (*SnapshotRequest) message() {}
func (*SnapshotChunk) message()   {}
func (*SnapshotAbort) message()   {}
func (*Forward) message()         {}
