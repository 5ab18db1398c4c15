package ocf_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"testing"

	"sipha/ocf"
)

func env(timeoutMS int) ocf.Env {
	return ocf.ParseEnv([]string{fmt.Sprintf("OCF_RESKEY_CRM_meta_timeout=%d", timeoutMS)})
}

func TestRun(t *testing.T) {
	t.Parallel()
	deadlocked := make(chan struct{})
	defer close(deadlocked)
	for _, tc := range []struct {
		name   string
		do     ocf.Handler
		code   ocf.ExitCode
		reason string
	}{
		{"OK", func(context.Context) (ocf.ExitCode, error) { return ocf.RunningPromoted, nil }, ocf.RunningPromoted, ""},
		{"code and reason", func(context.Context) (ocf.ExitCode, error) { return ocf.FailedPromoted, errors.New("dead") },
			ocf.FailedPromoted, "ocf-exit-reason:dead\n"},
		{"error without code", func(context.Context) (ocf.ExitCode, error) { return ocf.Success, errors.New("odd") },
			ocf.ErrGeneric, "ocf-exit-reason:odd\n"},
		{"typed", func(context.Context) (ocf.ExitCode, error) {
			return ocf.Success, fmt.Errorf("start: %w", ocf.Errorf(ocf.ErrInstalled, "no %s", "binary"))
		}, ocf.ErrInstalled, "ocf-exit-reason:start: no binary\n"},
		{"panic", func(context.Context) (ocf.ExitCode, error) { panic("boom") },
			ocf.ErrGeneric, "ocf-exit-reason:internal error of the agent: boom\n"},
		{"nil dereference", func(context.Context) (ocf.ExitCode, error) {
			var e *ocf.Env
			return ocf.Success, errors.New(e.Instance)
		},
			ocf.ErrGeneric, "ocf-exit-reason:internal error of the agent: runtime error: invalid memory address or nil pointer dereference\n"},
		{"heeds its context", func(ctx context.Context) (ocf.ExitCode, error) {
			<-ctx.Done()
			return ocf.ErrGeneric, fmt.Errorf("monitor: %w", ctx.Err())
		}, ocf.ErrGeneric, "ocf-exit-reason:monitor: context deadline exceeded\n"},
		{"hangs", func(context.Context) (ocf.ExitCode, error) { <-deadlocked; return ocf.Success, nil },
			ocf.ErrGeneric, "ocf-exit-reason:hung: not done in 400ms\n"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			var stderr bytes.Buffer
			code := ocf.Run(t.Context(), env(400), slog.New(slog.DiscardHandler), &stderr, tc.do)
			if code != tc.code || stderr.String() != tc.reason {
				t.Errorf("%v %q, want %v %q", code, stderr.String(), tc.code, tc.reason)
			}
		})
	}
}

func TestExitCodeNames(t *testing.T) {
	t.Parallel()
	for code, want := range map[ocf.ExitCode]string{
		0: "OCF_SUCCESS", 1: "OCF_ERR_GENERIC", 2: "OCF_ERR_ARGS", 3: "OCF_ERR_UNIMPLEMENTED", 4: "OCF_ERR_PERM", 5: "OCF_ERR_INSTALLED",
		6: "OCF_ERR_CONFIGURED", 7: "OCF_NOT_RUNNING", 8: "OCF_RUNNING_PROMOTED", 9: "OCF_FAILED_PROMOTED", 190: "OCF_DEGRADED",
		191: "OCF_DEGRADED_PROMOTED", 42: "OCF_42",
	} {
		if got := code.String(); got != want {
			t.Errorf("%d: %s, want %s", int(code), got, want)
		}
	}
}
