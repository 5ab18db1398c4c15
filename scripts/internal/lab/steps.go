package lab

import (
	"fmt"
	"io"
	"time"
)

// Steps tells people what happens, one line a step, each with the time since the first.
type Steps struct {
	w     io.Writer
	start time.Time
}

// NewSteps starts to count time. w may be nil: then nothing is told.
func NewSteps(w io.Writer) *Steps { return &Steps{w: w, start: time.Now()} }

// Say tells one step.
func (s *Steps) Say(format string, args ...any) {
	if s.w != nil {
		// A lost line is no reason to stop.
		_, _ = fmt.Fprintf(s.w, "%6.1f s  %s\n", time.Since(s.start).Seconds(), fmt.Sprintf(format, args...))
	}
}
