package sip

import (
	"log/slog"
	"sync/atomic"

	"golang.org/x/time/rate"

	"sipha/registrard/location"
)

const (
	failureLogPerSecond = 10
	failureLogBurst     = 100
)

// failureLog writes one line for each failed authentication, for people and for programs that block sources. A flood does not flood the log: what
// is left out is counted on the next line.
type failureLog struct {
	limit   *rate.Limiter
	omitted atomic.Int64
}

func newFailureLog() *failureLog {
	return &failureLog{limit: rate.NewLimiter(failureLogPerSecond, failureLogBurst)}
}

func (l *failureLog) log(log *slog.Logger, o Outcome, w *work) {
	if !l.limit.Allow() {
		l.omitted.Add(1)
		return
	}
	aor, _ := location.ParseAOR(string(w.msg.To.URI)) // a URI may hold a password, which an address-of-record does not; "" where it is none
	log.Info("authentication failed", slog.String("src", w.remote.Addr().String()), slog.String("reason", o.String()),
		slog.String("aor", string(aor)), slog.Int64("omitted", l.omitted.Swap(0)))
}
