package node

import (
	"time"

	"sipha/registrard/location"
	"sipha/registrard/replica"
	"sipha/registrard/replica/wire"
)

const (
	wireVersionMin = wire.VersionMin
	wireVersionMax = wire.VersionMax
)

// Link tells whether the node is in its group.
type Link string

const (
	// LinkDisconnected: no connection to Corosync.
	LinkDisconnected Link = "disconnected"
	// LinkJoined: in the group.
	LinkJoined Link = "joined"
)

// Status is what a node tells of itself. It is at most statusInterval old while the loop turns.
type Status struct {
	replica.Status
	Link        Link
	Counts      location.Counts
	At          time.Time
	BadMessages uint64 // dropped since the group was joined: damaged, or of no known kind
	LastError   string
}

// Status returns the last one published; it does not block.
func (n *Node) Status() Status { return *n.status.Load() }
