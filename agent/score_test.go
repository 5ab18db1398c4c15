package main

import (
	"context"
	"os"
	"path/filepath"
	"testing"
	"time"

	"sipha/agent/supervise"
	"sipha/ocf"
)

// scores is a promotion score in memory.
type scores struct {
	score  *int
	writes int
}

func (s *scores) Score(context.Context) (*int, error) { return s.score, nil }

func (s *scores) Update(_ context.Context, want *int) (bool, error) {
	s.score = want
	s.writes++
	return true, nil
}

func newScored(t *testing.T, score *int) (*resource, *scores) {
	t.Helper()
	s := &scores{score: score}
	return &resource{env: ocf.ParseEnv(nil), dir: supervise.Directory{Path: t.TempDir()}, promotion: s, log: discard()}, s
}

// TestRaiseScore: just after a promotion the score stays as it is, if there is one.
func TestRaiseScore(t *testing.T) {
	t.Parallel()
	ten, thousand := 10, 1000
	long := time.Now().Add(-time.Hour)
	for _, tc := range []struct {
		name     string
		have     *int
		promoted bool
		since    time.Time
		writes   int
	}{
		{"just promoted", &ten, true, time.Now(), 0},
		{"just promoted, without a score", nil, true, time.Now(), 1},
		{"promoted for long", &ten, true, long, 1},
		{"promoted by a clock that was set back", &ten, true, time.Now().Add(time.Hour), 1},
		{"promoted by somebody else", &ten, false, long, 1},
	} {
		r, s := newScored(t, tc.have)
		if tc.promoted {
			if err := r.dir.SetPromoted(true); err != nil {
				t.Fatal(err)
			}
			if err := os.Chtimes(filepath.Join(r.dir.Path, "promoted"), tc.since, tc.since); err != nil {
				t.Fatal(err)
			}
		}
		r.raiseScore(t.Context(), &thousand)
		if s.writes != tc.writes {
			t.Errorf("%s: %d writes", tc.name, s.writes)
		}
	}
}

// TestHoldBack: the death of a primary that was just demoted is told late, but not for ever, and only that.
func TestHoldBack(t *testing.T) {
	t.Parallel()
	r, _ := newScored(t, nil)
	took := func() time.Duration {
		began := time.Now()
		r.holdBack(t.Context())
		return time.Since(began)
	}
	if d := took(); d > holdBack/2 {
		t.Errorf("nothing was demoted, and it took %v", d)
	}
	r.demotedDead() // it was no primary
	if d := took(); d > holdBack/2 {
		t.Errorf("a replica was demoted, and it took %v", d)
	}
	r.setPromoted(true)
	r.demotedDead()
	took()
	if age := r.dir.DemotedDeadFor(); age < holdBack || age > time.Minute {
		t.Errorf("told %v after the demotion", age)
	}
	if d := took(); d > holdBack/2 {
		t.Errorf("held back again for %v", d)
	}
	r.env = ocf.ParseEnv([]string{"OCF_RESKEY_CRM_meta_timeout=300"})
	r.demotedDead()
	if d := took(); d > 200*time.Millisecond {
		t.Errorf("held back for %v of 300 ms", d)
	}
}
