package replicatest

import (
	"io"
	"time"
)

// Options say what a simulation is like. The zero value is three nodes, some clients and no faults.
type Options struct {
	// Nodes is the number of machines, 2 to 5; 0 is 3.
	Nodes int
	// Rough is how long faults happen, Calm how long the cluster may take to become whole after them, in simulated time; 0 is a default.
	Rough, Calm time.Duration
	// Phones is how many phones register, two to an AOR; 0 is a default, less than 0 none.
	Phones int
	// LogKeep is how many applied entries a disk's log keeps; 0 is plenty. A low number makes snapshots frequent.
	LogKeep int
	// ChunkSize is the size of a snapshot's chunks, in bytes; 0 is replica.ChunkSize.
	ChunkSize int
	// Faults says what goes wrong, and how often.
	Faults Faults
	// Break makes the shell do wrong on purpose, so that a test can show that the oracle finds it.
	Break Break
	// Plain leaves the time out of the transcript, and what says little: deliveries, greetings, markers.
	Plain bool
	// Transcript, where set, gets a line for everything that happens.
	Transcript io.Writer
}

// Faults are how often things go wrong: each the mean number a simulated second, over all nodes.
type Faults struct {
	PowerCut    float64 // a machine loses power, and all that is not synced
	PowerCutAll float64 // all at once
	Kill        float64 // a process dies; what it has written stays
	Partition   float64 // the network falls apart
	LoseToken   float64 // a ring forms anew
	Corosync    float64 // a Corosync stops
	Freeze      float64 // a Corosync stands still
	Pause       float64 // a process stands still, its Corosync not
	Drop        float64 // messages are lost after they were taken
	TryAgain    float64 // messages are refused
	QuorumLate  float64 // news of the quorum comes late, or never
	SlowDisk    float64 // a disk's syncs take long
	ClockStep   float64 // a wall clock steps
	Corrupt     float64 // a replica's content changes by itself
	Wipe        float64 // a machine loses its disk; at most once
	Ghost       float64 // a member stays listed after its end
	Lag         float64 // a node receives nothing for a while
	Strike      float64 // the primary is struck while others lag behind it
	Promoter    float64 // Pacemaker moves, demotes, or promotes the wrong one or one too many
}

// Break switches the shell's mistakes on.
type Break struct {
	EarlyStored   bool // writes are called stored before they are synced
	ForgetPromise bool // promises are called stored and not stored at all
	IgnoreDigest  bool // the log's digest is passed off as the content's
	UnsyncedBoot  bool // what a dead process wrote is taken for stored without another sync
	EarlyAnswer   bool // requests are answered when they are decided, not when they are committed
	BlindReads    bool // queries are answered without asking whether this is still the primary
}

// Defaults of Options.
const (
	defaultNodes  = 3
	defaultRough  = 6 * time.Second
	defaultCalm   = 60 * time.Second
	defaultPhones = 6
	defaultKeep   = 1 << 20
)

func (o Options) withDefaults() Options {
	set(&o.Nodes, defaultNodes)
	set(&o.Rough, defaultRough)
	set(&o.Calm, defaultCalm)
	set(&o.Phones, defaultPhones)
	set(&o.LogKeep, defaultKeep)
	return o
}

func set[T int | time.Duration](v *T, d T) {
	if *v == 0 {
		*v = d
	}
}
