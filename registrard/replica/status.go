package replica

import "sipha/registrard/location"

// State is what a member is doing, as status shows it.
type State string

const (
	// StateAlone: not in a ring that has quorum.
	StateAlone State = "no-quorum"
	// StateWaiting: it has no log, and the first bootstrap waits for nodes or an operator.
	StateWaiting State = "waiting"
	// StateBehind: it has a log, or none, and is not at the primary's end.
	StateBehind State = "behind"
	// StateSyncing: a snapshot is on its way.
	StateSyncing State = "syncing"
	// StateSynced: it holds the primary's log, or there is no primary and it has what it had.
	StateSynced State = "synced"
	// StateClaiming: promoted, and not yet the primary.
	StateClaiming State = "claiming"
	// StateServing: the primary of a standing epoch.
	StateServing State = "serving"
	// StateSuspended: the primary, until a majority has answered a marker in the new view.
	StateSuspended State = "suspended"
	// StateFailed: promoted, and without a standing epoch for StandTimeout.
	StateFailed State = "failed"
	// StateDiffers: its content differs from the log's word, and it waits for the majority's.
	StateDiffers State = "differs"
)

// Promotion scores (DESIGN: few, coarse buckets; the agent adds 1000 for the promoted one).
const (
	ScoreNone    = 0 // unset: it must not be promoted
	ScoreBehind  = 10
	ScoreSynced  = 100
	ScorePrimary = 1000
)

// MemberStatus is what a member knows of another.
type MemberStatus struct {
	Member
	Incarnation location.Incarnation
	Disk        location.DiskID
	Name        string
	Voter       bool
	Here        bool
	Last        location.Position
	Index       uint64 // receipted, as far as it has told
	Differs     bool
}

// Status is what a Core tells of itself.
type Status struct {
	State     State
	Promoted  bool           // Pacemaker has it promoted
	Epoch     location.Epoch // the running one, as primary or follower; zero when there is none
	Primary   location.NodeID
	Serving   bool
	Quorate   bool
	Ring      RingID
	Last      location.Position
	Committed uint64
	Applied   uint64
	Digest    location.Digest // of the content at Applied
	Promised  location.Epoch
	Voters    []location.Voter
	Voter     bool
	Synced    bool // it holds the primary's log up to the last marker it saw, or is among the highest where there is no primary
	Score     int
	Time      location.Time
	Members   []MemberStatus
	Progress  uint64 // bytes of a snapshot that have come
	Total     uint64 // bytes of it in all
	Reason    string // why State is what it is, for people; "" when that goes without saying
}
