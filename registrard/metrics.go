package main

import (
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"sipha/registrard/control"
	"sipha/registrard/location"
	"sipha/registrard/sip"
)

// metrics is what the daemon counts. docs/metrics.md describes every name; a test holds the two together. Its methods do not block, and
// are safe for concurrent use.
type metrics struct {
	registry *prometheus.Registry

	answers   *prometheus.CounterVec
	latency   prometheus.Histogram
	changes   prometheus.Counter
	commit    prometheus.Histogram
	sync      prometheus.Histogram
	setAside  prometheus.Counter
	reloads   *prometheus.CounterVec
	collector *collector
}

// sources are what is read at each scrape. The nil ones are left out.
type sources struct {
	status func() control.Status
	// storeBytes is the size of the database on disk.
	storeBytes func() (int64, error)
	// outcomes, responses and sockets call back with every count of the SIP server.
	outcomes  func(func(class, reason string, value uint64))
	responses func(func(status string, value uint64))
	sockets   func(func(event string, value uint64))
	// inFlight, transactions and connections are what the SIP server holds now.
	inFlight, transactions, connections func() int
	// busConnected tells whether the daemon is on the system bus.
	busConnected func() bool
}

// newMetrics returns metrics that read from s.
func newMetrics(s sources, version string) *metrics {
	seconds := []float64{.0005, .001, .002, .005, .01, .02, .05, .1, .2, .5, 1, 2, 5, 10}
	m := &metrics{
		registry: prometheus.NewRegistry(),
		answers: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "registrard_register_answers_total", Help: "REGISTERs that were decided, by the status of the answer."}, []string{"status"}),
		latency: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "registrard_register_seconds", Help: "Time from a REGISTER's authentication to its answer.", Buckets: seconds}),
		changes: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "registrard_committed_changes_total", Help: "Changes that this node has committed as the primary."}),
		commit: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "registrard_commit_seconds", Help: "Time from a batch's proposal to its commit.", Buckets: seconds}),
		sync: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "registrard_store_sync_seconds", Help: "Time of a write to disk, with its sync where durable is on.", Buckets: seconds}),
		setAside: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "registrard_store_set_aside_total", Help: "Times that the database was set aside since it could not be trusted."}),
		reloads: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "registrard_config_reloads_total", Help: "Reloads of the configuration, by result."}, []string{"result"}),
		collector: newCollector(s, version),
	}
	m.registry.MustRegister(m.answers, m.latency, m.changes, m.commit, m.sync, m.setAside, m.reloads, m.collector,
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return m
}

// Registered tells of a REGISTER that was answered with this status, this long after it was asked.
func (m *metrics) Registered(status int, took time.Duration) {
	m.answers.WithLabelValues(strconv.Itoa(status)).Inc()
	m.latency.Observe(took.Seconds())
}

// Committed tells of a batch of so many changes that was committed this long after it was proposed.
func (m *metrics) Committed(changes int, took time.Duration) {
	m.changes.Add(float64(changes))
	m.commit.Observe(took.Seconds())
}

// Synced tells of a write to disk that took this long.
func (m *metrics) Synced(took time.Duration) { m.sync.Observe(took.Seconds()) }

// SetAside tells of a database that was set aside.
func (m *metrics) SetAside() { m.setAside.Inc() }

// Reloaded tells of a reload.
func (m *metrics) Reloaded(err error) {
	result := "ok"
	if err != nil {
		result = "error"
	}
	m.reloads.WithLabelValues(result).Inc()
}

// measured is a registrar whose answers are counted and timed.
type measured struct {
	sip.Registrar
	metrics *metrics
}

// statusUnavailable is what a phone gets when nothing was decided.
const statusUnavailable = 503

// Register passes r on.
func (m measured) Register(r *location.Request, done func(location.Answer, error)) {
	began := time.Now()
	m.Registrar.Register(r, func(a location.Answer, err error) {
		status := a.Status
		if err != nil {
			status = statusUnavailable
		}
		m.metrics.Registered(status, time.Since(began))
		done(a, err)
	})
}

// collector reads its sources at each scrape.
type collector struct {
	sources sources
	version string

	info, role, state, epoch, index, committed, synced, complete, serving, quorate, score, voters, votersHere, members, membersSynced,
	receipts, bindings, aors, users, uptime, degraded, storeBytes, messages, responses, sockets, inFlight, transactions, connections, bus *prometheus.Desc
}

func newCollector(s sources, version string) *collector {
	desc := func(name, help string, labels ...string) *prometheus.Desc {
		return prometheus.NewDesc("registrard_"+name, help, labels, nil)
	}
	return &collector{
		sources: s, version: version,
		info:          desc("info", "Always 1; the version and the hash of the configuration are in its labels.", "version", "config_hash"),
		role:          desc("role", "1 for the role of this instance, 0 for the other.", "role"),
		state:         desc("state", "1 for the state of this instance; other states are left out.", "state"),
		epoch:         desc("epoch", "Number of the epoch of the last log entry."),
		index:         desc("log_index", "Index of the last log entry."),
		committed:     desc("log_committed_index", "Index of the last log entry that is committed and applied."),
		synced:        desc("synced", "1 while this replica is complete and at the group's position."),
		complete:      desc("complete", "1 while this replica may vote."),
		serving:       desc("serving", "1 while REGISTERs are decided here."),
		quorate:       desc("quorate", "1 while the node is in a partition with quorum."),
		score:         desc("promotion_score", "Promotion score; 0 where there is none."),
		voters:        desc("voters", "Nodes whose receipts and votes count."),
		votersHere:    desc("voters_here", "Voters in the present view."),
		members:       desc("members", "Members in the present view."),
		membersSynced: desc("members_synced", "Members in the present view that are synced."),
		receipts:      desc("receipt_index", "Last log entry that a member has receipted.", "node"),
		bindings:      desc("bindings", "Contacts that are registered."),
		aors:          desc("aors", "Addresses-of-record with a contact."),
		users:         desc("users", "Users who may register."),
		uptime:        desc("uptime_seconds", "Time since the daemon's start."),
		degraded:      desc("degraded", "How many things are not as they should be; status names them."),
		storeBytes:    desc("store_bytes", "Size of the database on disk."),
		messages:      desc("sip_messages_total", "SIP messages that were read, by what became of them.", "class", "reason"),
		responses:     desc("sip_responses_total", "SIP responses that were sent, by status.", "status"),
		sockets:       desc("sip_socket_events_total", "What happened at the SIP sockets.", "event"),
		inFlight:      desc("sip_registers_in_flight", "REGISTERs that wait for their decision."),
		transactions:  desc("sip_transactions", "SIP transactions that are alive."),
		connections:   desc("sip_connections", "SIP connections that are open."),
		bus:           desc("dbus_connected", "1 while the daemon is on the system bus."),
	}
}

// Describe sends nothing: which metrics there are depends on the sources.
func (c *collector) Describe(chan<- *prometheus.Desc) {}

// Collect reads the sources.
func (c *collector) Collect(ch chan<- prometheus.Metric) {
	gauge := func(d *prometheus.Desc, v float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
	}
	counter := func(d *prometheus.Desc, v uint64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(v), labels...)
	}
	if c.sources.status != nil {
		c.collectStatus(c.sources.status(), gauge)
	}
	if c.sources.storeBytes != nil {
		if n, err := c.sources.storeBytes(); err == nil {
			gauge(c.storeBytes, float64(n))
		}
	}
	if c.sources.outcomes != nil {
		c.sources.outcomes(func(class, reason string, v uint64) { counter(c.messages, v, class, reason) })
	}
	if c.sources.responses != nil {
		c.sources.responses(func(status string, v uint64) { counter(c.responses, v, status) })
	}
	if c.sources.sockets != nil {
		c.sources.sockets(func(event string, v uint64) { counter(c.sockets, v, event) })
	}
	for _, g := range []struct {
		desc *prometheus.Desc
		read func() int
	}{{c.inFlight, c.sources.inFlight}, {c.transactions, c.sources.transactions}, {c.connections, c.sources.connections}} {
		if g.read != nil {
			gauge(g.desc, float64(g.read()))
		}
	}
	if c.sources.busConnected != nil {
		gauge(c.bus, oneIf(c.sources.busConnected()))
	}
}

func (c *collector) collectStatus(s control.Status, gauge func(*prometheus.Desc, float64, ...string)) {
	gauge(c.info, 1, c.version, s.ConfigHash)
	for _, r := range []control.Role{control.RolePrimary, control.RoleReplica} {
		gauge(c.role, oneIf(s.Role == r), string(r))
	}
	gauge(c.state, 1, string(s.State))
	gauge(c.epoch, epochNumber(s.Epoch))
	gauge(c.index, float64(s.Index))
	gauge(c.committed, float64(s.Committed))
	gauge(c.synced, oneIf(s.Synced))
	gauge(c.complete, oneIf(s.Complete))
	gauge(c.serving, oneIf(s.Serving))
	gauge(c.quorate, oneIf(s.Quorate))
	score := 0
	if s.Score != nil {
		score = *s.Score
	}
	gauge(c.score, float64(score))
	here, synced := 0, 0
	for _, v := range s.Voters {
		if v.Here {
			here++
		}
	}
	told := make(map[uint32]bool, len(s.Members))
	for _, m := range s.Members {
		if m.Synced {
			synced++
		}
		if !told[m.NodeID] { // two daemons on one node are a fault, but no reason to tell nothing
			gauge(c.receipts, float64(m.Index), strconv.FormatUint(uint64(m.NodeID), 10))
		}
		told[m.NodeID] = true
	}
	gauge(c.voters, float64(len(s.Voters)))
	gauge(c.votersHere, float64(here))
	gauge(c.members, float64(len(s.Members)))
	gauge(c.membersSynced, float64(synced))
	gauge(c.bindings, float64(s.Bindings))
	gauge(c.aors, float64(s.AORs))
	gauge(c.users, float64(s.Users))
	gauge(c.uptime, float64(s.UptimeS))
	gauge(c.degraded, float64(len(s.Degraded)))
}

// epochNumber is the number of an epoch such as "7.2"; 0 before the first.
func epochNumber(epoch string) float64 {
	for i := range len(epoch) {
		if epoch[i] == '.' {
			n, err := strconv.ParseUint(epoch[:i], 10, 64)
			if err != nil {
				return 0
			}
			return float64(n)
		}
	}
	return 0
}

func oneIf(b bool) float64 {
	if b {
		return 1
	}
	return 0
}
