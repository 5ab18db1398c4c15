package control

// Role is what an instance is for the cluster: Pacemaker's Promoted role or Unpromoted role.
type Role string

const (
	// RolePrimary decides REGISTERs and answers them.
	RolePrimary Role = "primary"
	// RoleReplica holds a copy, and answers 503.
	RoleReplica Role = "replica"
)

// State tells how far an instance has got within its role.
type State string

const (
	// StateDisconnected has no connection to Corosync.
	StateDisconnected State = "disconnected"
	// StateJoining waits for the first view of its group.
	StateJoining State = "joining"
	// StateWaiting has no log yet: the first start of a cluster waits for its nodes, or for an operator.
	StateWaiting State = "waiting"
	// StateSyncing receives a snapshot or the tail of the log.
	StateSyncing State = "syncing"
	// StateBehind knows that it lacks entries, and is not receiving them yet.
	StateBehind State = "behind"
	// StateSynced is a complete replica at the group's position.
	StateSynced State = "synced"
	// StateClaiming has been told to promote, and gathers grants.
	StateClaiming State = "claiming"
	// StatePrimary has an epoch of its own.
	StatePrimary State = "primary"
	// StateSuspended is a primary or replica in a view without quorum.
	StateSuspended State = "suspended"
	// StateFailed cannot go on by itself; Status.LastError says why.
	StateFailed State = "failed"
	// StateLeaving is shutting down.
	StateLeaving State = "leaving"
)

// Promotion scores, as written into the cluster by the agent: coarse on purpose, since every change makes the cluster think anew.
const (
	ScoreBehind   = 10   // behind, or degraded
	ScoreSynced   = 100  // a complete replica, or the highest where there is no primary
	ScorePromoted = 1000 // the primary
)

// Voter is a node whose receipts and votes count.
type Voter struct {
	NodeID uint32 `json:"node_id"`
	Name   string `json:"name"`
	Here   bool   `json:"here"` // a member of the present view
}

// Member is an instance in the present view.
type Member struct {
	NodeID uint32 `json:"node_id"`
	Name   string `json:"name"`
	Role   Role   `json:"role"`
	Index  uint64 `json:"index"` // last log entry that it has receipted
	Synced bool   `json:"synced"`
	// ConfigDiffers: what must be equal on every node of its configuration is not as here.
	ConfigDiffers bool `json:"config_differs,omitempty"`
}

// Status is what an instance knows of itself and its group, at one moment.
type Status struct {
	Node     string `json:"node"`
	NodeID   uint32 `json:"node_id"`
	Instance string `json:"instance"`
	Role     Role   `json:"role"`
	State    State  `json:"state"`

	Epoch     string `json:"epoch"`     // "number.node" of the epoch of the last log entry; "" before the first
	Index     uint64 `json:"index"`     // last log entry
	Committed uint64 `json:"committed"` // last entry that is applied
	Digest    string `json:"digest"`    // of the content at Committed, in hexadecimal
	Synced    bool   `json:"synced"`    // complete and at the group's position
	Complete  bool   `json:"complete"`  // log and promise are intact, so that it may vote
	Serving   bool   `json:"serving"`   // a primary with a standing epoch: REGISTERs are decided here

	Quorate bool     `json:"quorate"`
	Ring    string   `json:"ring"` // ring id of the present view, "node.sequence"
	Voters  []Voter  `json:"voters"`
	Members []Member `json:"members"`

	Bindings uint64 `json:"bindings"`
	AORs     uint64 `json:"aors"` // with at least one binding
	Users    uint64 `json:"users"`

	Score    *int     `json:"score"`    // promotion score that the agent should write; null: none
	Degraded []string `json:"degraded"` // what is not as it should be though the role is served, a phrase each
	Progress string   `json:"progress"` // such as "syncing 41 %"; "" when there is nothing to wait for

	PID        int    `json:"pid"`
	Version    string `json:"version"`
	UptimeS    uint64 `json:"uptime_s"`
	LastError  string `json:"last_error"`
	Durable    bool   `json:"durable"`     // receipts follow a sync to disk
	Standalone bool   `json:"standalone"`  // a group of one: nothing is replicated
	ConfigHash string `json:"config_hash"` // of what must be equal on every node, in hexadecimal
}
