package replica

import (
	"time"

	"sipha/registrard/location"
)

// Limits and times of the protocol.
const (
	// InFlightMax is how many Appends the primary sends ahead of its own delivery.
	InFlightMax = 32
	// UncommittedMax is how many entries may wait for receipts; above it the primary takes no more.
	UncommittedMax = 512
	// ReadsMax is how many Reads may wait.
	ReadsMax = 65536
	// AppendSize bounds the payload of one Append, in bytes.
	AppendSize = 48 << 10
	// TailBurst is how many Appends answer one Need, and Tails one Pull.
	TailBurst = 16
	// WindowBytes and WindowEntries bound the log that is kept in memory for those that need its tail.
	WindowBytes   = 16 << 20
	WindowEntries = 1 << 16
	// ChunkSize and ChunkWindow bound a snapshot's chunks, in bytes and in those not yet delivered.
	ChunkSize   = 48 << 10
	ChunkWindow = 4
	// MembersMax is how many members a group may have.
	MembersMax = 16
	// VotersMax is how many voters there may be.
	VotersMax = 9

	// TimerInterval is how often the caller sends a Timer.
	TimerInterval = 10 * time.Millisecond
	// HelloInterval is how often a Hello is repeated while there is no primary.
	HelloInterval = time.Second
	// RehelloInterval is how often it is repeated all the same: a hello can be lost on its way, and who has not heard it takes nothing
	// from its sender.
	RehelloInterval = 3 * time.Second
	// MarkInterval is how long the primary is silent before it sends a marker with the commit index.
	MarkInterval = 20 * time.Millisecond
	// IdleInterval is how long the primary is silent where there is nothing new to say.
	IdleInterval = 500 * time.Millisecond
	// ResendAfter is how long the primary waits for its own Appends to come back before it sends them again.
	ResendAfter = time.Second
	// NeedInterval is how long a Need may stay without an answer before it is repeated.
	NeedInterval = 200 * time.Millisecond
	// ClaimTimeout is how long a claimant waits for grants before it claims again.
	ClaimTimeout = time.Second
	// ClaimBackoff is the first pause after a refusal; it doubles up to ClaimBackoffMax.
	ClaimBackoff    = 20 * time.Millisecond
	ClaimBackoffMax = time.Second
	// SettleTimeout is how long ring and quorum news may differ before the quorum service is asked again.
	SettleTimeout = 2 * time.Second
	// HelloTimeout is how long members are waited for before a promotion score is given without them.
	HelloTimeout = time.Second
	// StandTimeout is how long a primary may be without a standing epoch before its state is failed.
	StandTimeout = 10 * time.Second
	// PauseMax is how long a primary may stand still before phones are given a grace to come back in.
	PauseMax = 2 * time.Second
	// SuspendMax is how long a primary whose epoch does not stand goes on taking requests, to answer them when it stands again.
	SuspendMax = time.Second
	// VoterLagMax is how many entries behind a node may be to be made a voter.
	VoterLagMax = 64
	// SnapshotTimeout is how long a joiner waits for the next chunk before it asks another donor.
	SnapshotTimeout = 5 * time.Second
)

// Config is what a Core is told at its start.
type Config struct {
	Self        Member
	Name        string
	Incarnation location.Incarnation
	Disk        location.DiskID
	VersionMin  uint16
	VersionMax  uint16
	ConfigHash  uint64
	Expected    int           // nodes that the first bootstrap waits for; 0: only an operator's order starts it
	Grace       time.Duration // after a promotion nothing runs out for this long
	AddedMax    time.Duration // bound of the time that a promotion adds for a time without a primary
}

// Boot is what the database held when it was opened.
type Boot struct {
	Disk      location.DiskID
	Promised  location.Epoch    // the highest that was promised
	Applied   location.Position // of the content, with its digest
	Time      location.Time     // ordered time of the content
	Voters    []location.Voter  // of the content
	Log       []location.Entry  // what the log holds, above and below Applied, without a gap
	StoredAgo time.Duration     // how long ago, by the wall clock, the last entry was stored; 0 when that cannot be told
}
