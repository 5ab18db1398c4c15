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
