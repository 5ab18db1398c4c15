package replicatest

import (
	"testing"
	"time"
)

const coverageSeeds = 60

// The simulations play all of the protocol: a part of it that never runs would not be tested by them.
func TestSimulationsCoverTheProtocol(t *testing.T) {
	if testing.Short() {
		t.Skip("needs many seeds")
	}
	t.Parallel()
	opts := Options{Nodes: 4, LogKeep: 4, ChunkSize: 150, Rough: 10 * time.Second, Faults: Faults{
		PowerCut: 0.4, Kill: 0.4, Partition: 0.5, Freeze: 0.2, Pause: 0.2, Drop: 0.3, QuorumLate: 0.3, Corrupt: 0.3, Wipe: 0.3, Strike: 1, Lag: 1, Promoter: 0.6}}
	counts := map[string]int{}
	for seed := uint64(1); seed <= coverageSeeds; seed++ {
		s := play(seed, opts)
		for what, n := range s.oracle.counts {
			counts[what] += n
		}
	}
	for _, what := range []string{
		"*replica.Hello", "*replica.Claim", "*replica.Grant", "*replica.Refuse", "*replica.Append", "*replica.Receipt", "*replica.Need",
		"*replica.Behind", "*replica.Pull", "*replica.Tail", "*replica.SnapshotRequest", "*replica.SnapshotChunk", "*replica.SnapshotAbort",
		"refused: promised", "refused: ahead", "refused: no quorum", "committed changes", "committed START", "committed voters",
		"committed tick", "log cut", "snapshot installed", "set aside", "answered",
	} {
		t.Logf("%6d %s", counts[what], what)
		if counts[what] == 0 {
			t.Errorf("%s: never in %d seeds", what, coverageSeeds)
		}
	}
}
