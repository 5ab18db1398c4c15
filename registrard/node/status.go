package node

import (
	"fmt"
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

// statusInterval is how old a Status gets while the loop turns.
const statusInterval = 100 * time.Millisecond

// Status is what a node tells of itself. It is at most statusInterval old while the loop turns.
type Status struct {
	replica.Status
	Link        Link
	Counts      location.Counts
	At          time.Time
	BadMessages uint64 // dropped since the group was joined: damaged, foreign, or of a version that is not spoken here
	LastError   string
}

// Status returns the last one published; it does not block. When the loop has stood still for LoopStallMax, its State is failed.
func (n *Node) Status() Status {
	s := *n.status.Load()
	if age := time.Since(s.At); s.Link == LinkJoined && age >= LoopStallMax {
		s.State, s.Serving, s.Synced, s.Score = replica.StateFailed, false, false, replica.ScoreNone
		s.Reason = fmt.Sprintf("the daemon has stood still for %s", age.Round(time.Second))
	}
	return s
}

// changed publishes the status.
func (l *loop) changed() {
	l.primary.statusAt = l.now.Mono
	l.mark() // a new role counts anew
	s := l.core.Status()
	s.Serving = s.Serving && l.keyed()
	counts := l.node.state.Counts() // the loop alone writes it
	l.node.status.Store(&Status{Status: s, Link: LinkJoined, Counts: counts, At: time.Now(), BadMessages: l.badMessages.Load()})
	l.ordersDue = true
}

// publish tells the SIP side whether to ask: not before there is a nonce key, without which nobody can be challenged. The first one is
// made with the first entries of the first epoch.
func (l *loop) publish() { l.node.serving.Store(l.core.Accepting() && l.keyed()) }

func (l *loop) keyed() bool { return len(l.node.state.Keys()) > 0 }
