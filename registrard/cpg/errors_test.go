package cpg_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"sipha/registrard/cpg"
)

func TestErrorsAreTheirCodes(t *testing.T) {
	t.Parallel()
	codes := []cpg.Code{
		cpg.ErrLibrary, cpg.ErrTimeout, cpg.ErrTryAgain, cpg.ErrInvalidParam, cpg.ErrNoMemory, cpg.ErrBadHandle,
		cpg.ErrAccess, cpg.ErrNotExist, cpg.ErrExist, cpg.ErrTooBig, cpg.ErrSecurity, cpg.ErrClosed, cpg.ErrSlowConsumer,
		cpg.ErrUntrusted, cpg.ErrNoQuorumProvider, cpg.ErrCorrupt, cpg.ErrEvicted, cpg.ErrNoStack, cpg.ErrNotBuilt,
	}
	texts := map[string]cpg.Code{}
	for _, c := range codes {
		err := fmt.Errorf("outer: %w", &cpg.Error{Op: "cpg_join", Code: c})
		for _, other := range codes {
			if errors.Is(err, other) != (c == other) {
				t.Errorf("%v is %v: %v", err, other, c != other)
			}
		}
		if !strings.HasPrefix(err.Error(), "outer: cpg_join: "+c.Error()) {
			t.Errorf("%q does not say what failed and why", err)
		}
		if before, twice := texts[c.Error()]; twice || strings.Contains(c.Error(), "corosync error") {
			t.Errorf("%q stands for %d and %d", c.Error(), before, c)
		}
		texts[c.Error()] = c
	}
	if got := cpg.Code(77).Error(); got != "corosync error 77" {
		t.Errorf("an unknown code is %q", got)
	}
	if err := (&cpg.Error{Op: "x", Code: cpg.ErrAccess}).Error(); !strings.Contains(err, "uidgid") {
		t.Errorf("%q does not say what to do", err)
	}
}

func TestRetryGoesOnUntilItWorks(t *testing.T) {
	t.Parallel()
	again := &cpg.Error{Op: "x", Code: cpg.ErrTryAgain}
	for _, want := range []error{nil, cpg.ErrLibrary} {
		tries := 0
		err := cpg.Retry(t.Context(), func() error {
			if tries++; tries < 4 {
				return again
			}
			return want
		})
		if tries != 4 || !errors.Is(err, want) {
			t.Errorf("%d tries, %v, want %v", tries, err, want)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	tries := 0
	err := cpg.Retry(ctx, func() error {
		if tries++; tries == 2 {
			cancel()
		}
		return again
	})
	if !errors.Is(err, context.Canceled) || !errors.Is(err, cpg.ErrTryAgain) || tries != 2 {
		t.Errorf("%d tries, %v", tries, err)
	}
}

func TestGather(t *testing.T) {
	t.Parallel()
	got, err := cpg.Gather("x", []byte("a"), nil, []byte("bc"))
	if err != nil || string(got) != "abc" {
		t.Errorf("%q, %v", got, err)
	}
	if _, err := cpg.Gather("x", make([]byte, cpg.MaxMessage), []byte{1}); !errors.Is(err, cpg.ErrTooBig) {
		t.Errorf("too many bytes: %v", err)
	}
}

func TestWordsForOperators(t *testing.T) {
	t.Parallel()
	m := cpg.Member{Node: 12, PID: 345}
	for got, want := range map[string]string{
		m.String(): "12/345",
		cpg.Change{Member: m, Reason: cpg.ReasonNodeUp}.String(): "12/345 nodeup",
		cpg.RingID{Node: 26, Seq: 255}.String():                  "1a.ff", // as corosync-quorumtool prints it
		cpg.Reason(9).String():                                   "reason(9)",
	} {
		if got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}
