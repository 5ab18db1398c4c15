package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"

	"sipha/registrard/control"
	"sipha/registrard/location"
	"sipha/registrard/sip"
)

// fullSources has every source say something.
func fullSources() sources {
	status := newTestService(newFakeNode(), newConfig()).Status()
	return sources{
		status:       func() control.Status { return status },
		storeBytes:   func() (int64, error) { return 4096, nil },
		outcomes:     func(f func(class, reason string, value uint64)) { f("accepted", "register", 5) },
		responses:    func(f func(status string, value uint64)) { f("200", 4) },
		sockets:      func(f func(event string, value uint64)) { f("udp_received", 3) },
		inFlight:     func() int { return 1 },
		transactions: func() int { return 2 },
		connections:  func() int { return 3 },
		busConnected: func() bool { return true },
	}
}

func gather(t *testing.T, m *metrics) map[string]*dto.MetricFamily {
	t.Helper()
	pedantic := prometheus.NewPedanticRegistry()
	pedantic.MustRegister(m.collector, m.answers, m.latency, m.changes, m.commit, m.sync, m.setAside, m.reloads)
	families, err := pedantic.Gather()
	if err != nil {
		t.Fatal(err)
	}
	byName := make(map[string]*dto.MetricFamily)
	for _, f := range families {
		byName[f.GetName()] = f
	}
	return byName
}

// TestMetricsDocumented holds docs/metrics.md and the metrics together: every name, with its type, its labels and its words.
func TestMetricsDocumented(t *testing.T) {
	t.Parallel()
	m := newMetrics(fullSources(), "1.0")
	m.Registered(200, time.Millisecond)
	m.Committed(3, time.Millisecond)
	m.Synced(time.Millisecond)
	m.SetAside()
	m.Reloaded(nil)
	var rows []string
	for name, f := range gather(t, m) {
		var labels []string
		for _, l := range f.GetMetric()[0].GetLabel() {
			labels = append(labels, "`"+l.GetName()+"`")
		}
		rows = append(rows, fmt.Sprintf("| `%s` | %s | %s | %s |", name, strings.ToLower(f.GetType().String()), strings.Join(labels, " "), f.GetHelp()))
	}
	slices.Sort(rows)
	checkDocument(t, "../docs/metrics.md", rows)
}

// checkDocument compares the rows of a table of a document with what they should be; with UPDATE_DOCS set it writes them.
func checkDocument(t *testing.T, path string, want []string) {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	const begin, end = "<!-- table: checked by a test, do not edit by hand -->\n", "<!-- end of table -->\n"
	before, rest, ok := strings.Cut(string(text), begin)
	table, after, ok2 := strings.Cut(rest, end)
	if !ok || !ok2 {
		t.Fatalf("%s: no table between %q and %q", path, begin, end)
	}
	head, rule, rows := "", "", []string(nil)
	for i, line := range strings.Split(strings.TrimSuffix(table, "\n"), "\n") {
		switch i {
		case 0:
			head = line
		case 1:
			rule = line
		default:
			rows = append(rows, line)
		}
	}
	if os.Getenv("UPDATE_DOCS") != "" {
		text := before + begin + head + "\n" + rule + "\n" + strings.Join(want, "\n") + "\n" + end + after
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if d := cmp.Diff(want, rows); d != "" {
		t.Errorf("%s is not what the program does; run the test with UPDATE_DOCS=1 (-program +document):\n%s", path, d)
	}
}

func TestMetricsValues(t *testing.T) {
	t.Parallel()
	m := newMetrics(fullSources(), "1.0")
	m.Registered(503, time.Second)
	m.Reloaded(errors.New("x"))
	families := gather(t, m)
	for _, tt := range []struct {
		name, label string
		want        float64
	}{
		{"registrard_info", "1.0", 1},
		{"registrard_role", "primary", 1},
		{"registrard_role", "replica", 0},
		{"registrard_state", "primary", 1},
		{"registrard_epoch", "", 7},
		{"registrard_log_index", "", 42},
		{"registrard_promotion_score", "", 1000},
		{"registrard_voters", "", 3},
		{"registrard_voters_here", "", 2},
		{"registrard_members", "", 2},
		{"registrard_receipt_index", "2", 42},
		{"registrard_degraded", "", 0},
		{"registrard_store_bytes", "", 4096},
		{"registrard_sip_responses_total", "200", 4},
		{"registrard_register_answers_total", "503", 1},
		{"registrard_config_reloads_total", "error", 1},
	} {
		if got, ok := value(families[tt.name], tt.label); !ok || got != tt.want {
			t.Errorf("%s{%s} = %v, %v, want %v", tt.name, tt.label, got, ok, tt.want)
		}
	}
}

// value finds the sample with a label of this value.
func value(f *dto.MetricFamily, label string) (float64, bool) {
	for _, m := range f.GetMetric() {
		if label != "" && !slices.ContainsFunc(m.GetLabel(), func(l *dto.LabelPair) bool { return l.GetValue() == label }) {
			continue
		}
		return m.GetGauge().GetValue() + m.GetCounter().GetValue(), true
	}
	return 0, false
}

// TestMetricsWithoutSources scrapes a daemon that has next to nothing yet.
func TestMetricsWithoutSources(t *testing.T) {
	t.Parallel()
	m := newMetrics(sources{storeBytes: func() (int64, error) { return 0, errors.New("gone") }}, "1.0")
	families := gather(t, m)
	if _, ok := families["registrard_store_bytes"]; ok {
		t.Error("a size that is not known is told")
	}
}

// answering is a sip.Registrar that answers at once.
type answering struct {
	sip.Registrar
	answer location.Answer
	err    error
}

func (a answering) Register(_ *location.Request, done func(location.Answer, error)) {
	done(a.answer, a.err)
}

func TestMeasured(t *testing.T) {
	t.Parallel()
	m := newMetrics(sources{}, "")
	for _, a := range []answering{{answer: location.Answer{Status: 200}}, {answer: location.Answer{Status: 423}}, {err: errors.New("no")}} {
		got := 0
		measured{a, m}.Register(nil, func(answer location.Answer, err error) {
			if got++; answer.Status != a.answer.Status || err != a.err { //nolint:errorlint // it must be the very same
				t.Errorf("answer %v, %v", answer, err)
			}
		})
		if got != 1 {
			t.Errorf("done called %d times", got)
		}
	}
	families := gather(t, m)
	for status, want := range map[string]float64{"200": 1, "423": 1, "503": 1} {
		if got, _ := value(families["registrard_register_answers_total"], status); got != want {
			t.Errorf("%s answered %v times, want %v", status, got, want)
		}
	}
	if n := families["registrard_register_seconds"].GetMetric()[0].GetHistogram().GetSampleCount(); n != 3 {
		t.Errorf("%d times measured", n)
	}
}

func TestHealth(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		status control.Status
		want   string
		ok     bool
	}{
		{control.Status{Role: control.RolePrimary, State: control.StatePrimary, Serving: true}, "primary, serving", true},
		{control.Status{Role: control.RolePrimary, State: control.StateSuspended}, "primary, suspended", false},
		{control.Status{Role: control.RoleReplica, State: control.StateSynced, Synced: true}, "replica, synced", true},
		{control.Status{Role: control.RoleReplica, State: control.StateSyncing, Progress: "syncing 41 %"}, "replica, syncing: syncing 41 %", false},
		{control.Status{Role: control.RoleReplica, State: control.StateFailed, LastError: "disk\x1b"}, `replica, failed: disk\u001b`, false},
		{control.Status{Role: control.RoleReplica, State: control.StateClaiming, Synced: true}, "replica, claiming", false},
	} {
		if got, ok := health(tt.status); got != tt.want || ok != tt.ok {
			t.Errorf("%+v: %q, %v, want %q, %v", tt.status, got, ok, tt.want, tt.ok)
		}
	}
}

func TestHTTP(t *testing.T) {
	t.Parallel()
	status := control.Status{Role: control.RolePrimary, State: control.StatePrimary, Serving: true}
	h, err := listenHTTP("127.0.0.1:0", newMetrics(fullSources(), "1.0"), func() control.Status { return status }, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	address := h.listener.Addr().String()
	if _, err := listenHTTP(address, nil, nil, nil); exitCode(err) != exitUnavailable || !strings.Contains(err.Error(), "in use") {
		t.Errorf("a second at %s: %v", address, err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- h.Run(ctx) }()
	client := &http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	get := func(path string) (int, string) {
		t.Helper()
		r, err := client.Get("http://" + address + path)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = r.Body.Close() }()
		b, err := io.ReadAll(r.Body)
		if err != nil {
			t.Fatal(err)
		}
		return r.StatusCode, string(b)
	}
	if code, body := get("/healthz"); code != 200 || body != "primary, serving\n" {
		t.Errorf("/healthz: %d %q", code, body)
	}
	status.Serving, status.State = false, control.StateSuspended
	if code, body := get("/healthz"); code != 503 || body != "primary, suspended\n" {
		t.Errorf("/healthz: %d %q", code, body)
	}
	if code, body := get("/metrics"); code != 200 || !strings.Contains(body, "registrard_epoch 7\n") || !strings.Contains(body, "go_goroutines") {
		t.Errorf("/metrics: %d", code)
	}
	if code, _ := get("/debug/pprof/"); code != 404 {
		t.Errorf("/debug/pprof/: %d", code)
	}
	cancel()
	select {
	case err := <-done:
		if err != nil {
			t.Errorf("Run: %v", err)
		}
	case <-time.After(10 * time.Second):
		t.Error("Run does not come back")
	}
}
