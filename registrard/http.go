package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"syscall"
	"time"

	"github.com/prometheus/client_golang/prometheus/promhttp"
	"golang.org/x/net/netutil"

	"sipha/registrard/control"
)

// Limits of the HTTP server.
const (
	httpConnectionsMax  = 64
	httpHeaderBytesMax  = 8 << 10
	httpReadTimeout     = 5 * time.Second
	httpWriteTimeout    = 10 * time.Second
	httpIdleTimeout     = 2 * time.Minute
	httpShutdownTimeout = time.Second
	scrapesMax          = 4
	scrapeTimeout       = 5 * time.Second
)

// httpServer serves /metrics and /healthz.
type httpServer struct {
	listener net.Listener
	server   *http.Server
}

// listenHTTP takes the address. The error says what to do.
func listenHTTP(address string, m *metrics, status func() control.Status, log *slog.Logger) (*httpServer, error) {
	l, err := net.Listen("tcp", address)
	if errors.Is(err, syscall.EADDRINUSE) {
		return nil, failf(exitUnavailable, "metrics: %s is in use: choose another in [http] listen, or empty for none", address)
	}
	if err != nil {
		return nil, fail(exitUnavailable, fmt.Errorf("metrics: %w: correct [http] listen", err))
	}
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{
		ErrorLog: slog.NewLogLogger(log.Handler(), slog.LevelWarn), ErrorHandling: promhttp.ContinueOnError, MaxRequestsInFlight: scrapesMax, Timeout: scrapeTimeout,
	}))
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		w.Header().Set("Cache-Control", "no-store")
		reason, ok := health(status())
		if !ok {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
		_, _ = fmt.Fprintln(w, reason) // the client has gone, which is its business
	})
	return &httpServer{
		listener: netutil.LimitListener(l, httpConnectionsMax),
		server: &http.Server{
			Handler: mux, MaxHeaderBytes: httpHeaderBytesMax, ReadTimeout: httpReadTimeout, WriteTimeout: httpWriteTimeout, IdleTimeout: httpIdleTimeout,
			ErrorLog: slog.NewLogLogger(log.Handler(), slog.LevelDebug),
		},
	}, nil
}

// health tells whether the instance does what its role asks, and in which words.
func health(s control.Status) (string, bool) {
	switch {
	case s.Role == control.RolePrimary && s.Serving:
		return "primary, serving", true
	case s.Role == control.RoleReplica && s.Synced && s.State == control.StateSynced:
		return "replica, synced", true
	}
	reason := fmt.Sprintf("%s, %s", s.Role, s.State)
	for _, more := range []string{s.Progress, s.LastError} {
		if more != "" {
			reason += ": " + printable(more)
		}
	}
	return reason, false
}

// Run serves until ctx ends.
func (h *httpServer) Run(ctx context.Context) error {
	stopped := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(stopped)
		closing, cancel := context.WithTimeout(context.WithoutCancel(ctx), httpShutdownTimeout)
		defer cancel()
		if err := h.server.Shutdown(closing); err != nil {
			_ = h.server.Close() // those that are left have had their time
		}
	})
	err := h.server.Serve(h.listener)
	if !stop() {
		<-stopped
	}
	if errors.Is(err, http.ErrServerClosed) {
		return nil
	}
	return fmt.Errorf("metrics: %w", err)
}
