package cpg

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"
)

// Bounds of the wait between two tries of what Corosync refuses for now.
const (
	retryMin = time.Millisecond
	retryMax = 16 * time.Millisecond
)

// Retry calls try until its error is not ErrTryAgain, or ctx is done: then the
// error is both the context's and ErrTryAgain. It waits 1 to 16 ms in between,
// doubling, with half of it left to chance. Do not call it where events are
// handled: what lifts the refusal may be among them.
func Retry(ctx context.Context, try func() error) error {
	return retry(ctx, retryMin, retryMax, try)
}

func retry(ctx context.Context, wait, longest time.Duration, try func() error) error {
	for {
		err := try()
		if !errors.Is(err, ErrTryAgain) {
			return err
		}
		timer := time.NewTimer(wait/2 + rand.N(wait/2+1))
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return fmt.Errorf("%w: %w", err, context.Cause(ctx))
		}
		wait = min(2*wait, longest)
	}
}

// size returns the length of a message of these parts, or ErrTooBig.
func size(op string, parts [][]byte) (int, error) {
	n := 0
	for _, p := range parts {
		n += len(p)
	}
	if n > MaxMessage || len(parts) > MaxParts {
		return 0, &Error{Op: op, Code: ErrTooBig}
	}
	return n, nil
}

// Gather puts the parts of a message together in memory of its own, or says
// ErrTooBig. It is for other implementations of a group.
func Gather(op string, parts ...[]byte) ([]byte, error) {
	n, err := size(op, parts)
	if err != nil {
		return nil, err
	}
	data := make([]byte, 0, n)
	for _, p := range parts {
		data = append(data, p...)
	}
	return data, nil
}
