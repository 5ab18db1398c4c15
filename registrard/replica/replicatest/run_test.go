package replicatest_test

import (
	"bytes"
	"errors"
	"flag"
	"os"
	"testing"
	"time"

	"sipha/registrard/replica/replicatest"
)

var (
	seedFlag     = flag.Uint64("seed", 0, "play this one seed of -scenario with its whole transcript on standard output")
	scenarioFlag = flag.String("scenario", "", "with -seed: which scenario; with -seeds: the only one")
	seedsFlag    = flag.Int("seeds", 0, "how many seeds of each scenario to play; 0: the usual number")
	firstFlag    = flag.Uint64("first", 1, "the first of them")
	allFlag      = flag.Bool("all", false, "go on after a failure, and show only what went wrong")
)

// scenarios are kinds of trouble, each with a share of the seeds.
var scenarios = []struct {
	name  string
	seeds int
	opts  replicatest.Options
}{
	{"fair", 60, replicatest.Options{}},
	{"crash", 240, replicatest.Options{Faults: replicatest.Faults{Kill: 0.8, PowerCut: 0.6, Promoter: 0.2}}},
	{"power", 240, replicatest.Options{Faults: replicatest.Faults{PowerCut: 0.8, PowerCutAll: 0.3, SlowDisk: 0.6}}},
	{"partition", 240, replicatest.Options{Nodes: 3, Faults: replicatest.Faults{Partition: 1, LoseToken: 0.5, QuorumLate: 0.4, Promoter: 0.2}}},
	{"five", 120, replicatest.Options{Nodes: 5, Faults: replicatest.Faults{Partition: 0.8, Kill: 0.4, PowerCut: 0.4, Pause: 0.4, Promoter: 0.4}}},
	{"two", 160, replicatest.Options{Nodes: 2, Faults: replicatest.Faults{Partition: 0.5, Kill: 0.4, PowerCut: 0.3, Pause: 0.3, Promoter: 0.2}}},
	{"pause", 240, replicatest.Options{Faults: replicatest.Faults{Pause: 0.8, Freeze: 0.6, Promoter: 0.6, SlowDisk: 0.3}}},
	{"pacemaker", 240, replicatest.Options{Faults: replicatest.Faults{Promoter: 3}}},
	{"corosync", 200, replicatest.Options{Faults: replicatest.Faults{Corosync: 0.6, Drop: 1, TryAgain: 1, QuorumLate: 0.5, Ghost: 0.3, Kill: 0.3, LoseToken: 0.5}}},
	{"snapshot", 200, replicatest.Options{Phones: 8, LogKeep: 4, ChunkSize: 150, Faults: replicatest.Faults{
		Kill: 0.6, PowerCut: 0.6, Partition: 0.3, Wipe: 0.3, Drop: 0.2, Promoter: 0.2}}},
	{"content", 120, replicatest.Options{LogKeep: 8, ChunkSize: 300, Faults: replicatest.Faults{Corrupt: 0.5, Wipe: 0.2, Kill: 0.3, ClockStep: 0.3}}},
	{"strike", 300, replicatest.Options{Faults: replicatest.Faults{Strike: 1.5, Lag: 1, Kill: 0.1, Promoter: 0.2, SlowDisk: 0.2}}},
	{"strike5", 120, replicatest.Options{Nodes: 5, LogKeep: 12, ChunkSize: 300, Faults: replicatest.Faults{Strike: 1.5, Lag: 2, PowerCut: 0.2,
		Partition: 0.3, Promoter: 0.2}}},
	{"chaos", 240, replicatest.Options{Nodes: 4, LogKeep: 16, ChunkSize: 300, Rough: 8 * time.Second, Faults: replicatest.Faults{
		PowerCut: 0.3, PowerCutAll: 0.05, Kill: 0.3, Partition: 0.4, LoseToken: 0.2, Corosync: 0.2, Freeze: 0.2, Pause: 0.3, Drop: 0.3, TryAgain: 0.3,
		QuorumLate: 0.2, SlowDisk: 0.3, ClockStep: 0.1, Corrupt: 0.1, Wipe: 0.1, Ghost: 0.1, Strike: 0.4, Lag: 0.5, Promoter: 0.4}}},
}

// shortShare is the part of the seeds that -short plays.
const shortShare = 10

func TestSeeds(t *testing.T) {
	for _, sc := range scenarios {
		if *scenarioFlag != "" && *scenarioFlag != sc.name {
			continue
		}
		t.Run(sc.name, func(t *testing.T) {
			if *seedFlag != 0 {
				sc.opts.Transcript = os.Stdout
				if err := replicatest.Run(*seedFlag, sc.opts); err != nil {
					t.Fatal(err)
				}
				return
			}
			n := sc.seeds
			switch {
			case *seedsFlag > 0:
				n = *seedsFlag
			case testing.Short():
				n /= shortShare
			}
			t.Parallel()
			for seed := *firstFlag; seed < *firstFlag+uint64(n); seed++ {
				err := replicatest.Run(seed, sc.opts)
				if err != nil && *allFlag {
					t.Errorf("%s seed %d: %v", sc.name, seed, errors.Unwrap(err))
				} else if err != nil {
					t.Fatal(err)
				}
			}
		})
	}
}

// The same seed goes the same way, to the last line: else no failure could be played again.
func TestSeedDecidesEverything(t *testing.T) {
	t.Parallel()
	for _, sc := range scenarios {
		var first, second bytes.Buffer
		for _, b := range []*bytes.Buffer{&first, &second} {
			opts := sc.opts
			opts.Transcript = b
			_ = replicatest.Run(7, opts) // how it ends is not asked here
		}
		if first.Len() == 0 || !bytes.Equal(first.Bytes(), second.Bytes()) {
			t.Errorf("%s: two plays of one seed differ (%d and %d bytes)", sc.name, first.Len(), second.Len())
		}
	}
}
