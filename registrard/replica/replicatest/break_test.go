package replicatest_test

import (
	"errors"
	"strings"
	"testing"

	"sipha/registrard/replica/replicatest"
)

// breakSeeds is how many seeds a shell's mistake may take to be found.
const breakSeeds = 2000

// A shell that does wrong is found out: else the oracle would prove nothing.
func TestMistakesAreFound(t *testing.T) {
	power := replicatest.Faults{PowerCut: 0.8, PowerCutAll: 0.5, Kill: 0.5, SlowDisk: 0.6, Promoter: 0.5}
	split := replicatest.Faults{Partition: 1, Pause: 0.6, Freeze: 0.3, Promoter: 0.6}
	for _, tt := range []struct {
		name string
		opts replicatest.Options
		want string // what the oracle must say
	}{
		{"EarlyStored", replicatest.Options{Faults: power, Break: replicatest.Break{EarlyStored: true}}, "P1"},
		{"ForgetPromise", replicatest.Options{Faults: power, Break: replicatest.Break{ForgetPromise: true}}, "P1"},
		{"IgnoreDigest", replicatest.Options{Faults: replicatest.Faults{Corrupt: 1}, Break: replicatest.Break{IgnoreDigest: true}}, "P3"},
		{"UnsyncedBoot", replicatest.Options{Faults: power, Break: replicatest.Break{UnsyncedBoot: true}}, "P1"},
		{"EarlyAnswer", replicatest.Options{Faults: split, Break: replicatest.Break{EarlyAnswer: true}}, "P"},
		{"BlindReads", replicatest.Options{Faults: split, Break: replicatest.Break{BlindReads: true}}, "P"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			for seed := uint64(1); seed <= breakSeeds; seed++ {
				err := replicatest.Run(seed, tt.opts)
				if err == nil {
					continue
				}
				t.Logf("found with seed %d: %v", seed, errors.Unwrap(err))
				if got := errors.Unwrap(err).Error(); !strings.HasPrefix(got, tt.want) {
					t.Errorf("found as %q, want %s", got, tt.want)
				}
				return
			}
			t.Errorf("not found within %d seeds", breakSeeds)
		})
	}
}
