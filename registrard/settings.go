package main

import (
	"slices"
	"time"
)

// Defaults of the configuration.
const (
	defaultConfigFile  = "/etc/registrard/registrard.conf"
	defaultDatabase    = "/var/lib/registrard"
	defaultGroup       = "haclient"
	defaultHTTPListen  = "127.0.0.1:9650"
	defaultExpiresMin  = time.Minute
	defaultExpiresMax  = 2 * time.Hour
	defaultExpires     = time.Hour
	defaultContactsMax = 10
	defaultGrace       = 30 * time.Second
	defaultOutageMax   = 24 * time.Hour
	defaultNonceLife   = 5 * time.Minute

	defaultConnectionsMax          = 8192
	defaultConnectionsPerSourceMax = 128
	defaultIdleTimeout             = 2 * time.Minute
)

// Bounds of the configuration; docs/configuration.md gives them with each key.
const (
	nodesMax        = 16
	domainsMax      = 1000
	listenMax       = 64
	trustedMax      = 1000
	contactsMaxMax  = 256
	connectionsTop  = 1 << 20
	expiresTop      = 30 * 24 * time.Hour
	graceTop        = time.Hour
	outageTop       = 30 * 24 * time.Hour
	nonceLifeMin    = 10 * time.Second
	nonceLifeTop    = 24 * time.Hour
	idleTimeoutMin  = time.Second
	idleTimeoutTop  = 24 * time.Hour
	configFileBytes = 1 << 20
)

// Config is what the daemon runs with. Each field is a row of settings, which says what it is.
type Config struct {
	Instance      string
	Domains       []string
	Database      string
	ExpectedNodes int
	Durable       bool

	Listen                  []string
	Trusted                 []string
	ConnectionsMax          int
	ConnectionsPerSourceMax int
	IdleTimeout             time.Duration

	ExpiresMin     time.Duration
	ExpiresMax     time.Duration
	ExpiresDefault time.Duration
	ContactsMax    int
	Grace          time.Duration
	OutageMax      time.Duration

	Realms     []string
	Algorithms []string
	NonceLife  time.Duration
	ThirdParty bool

	ControlDirectory string
	ControlGroup     string
	ControlDBus      bool

	LogLevel  string
	LogFormat string

	HTTPListen string

	// Standalone is set by the flag of run alone.
	Standalone bool
	// origins tells where each value comes from, by key.
	origins map[string]string
}

// setting is a key of the configuration: a row of its documentation as well.
type setting struct {
	section, name string
	at            func(*Config) any // pointer to the field: *string, *bool, *int, *time.Duration (whole seconds) or *[]string
	equal         bool              // must be the same on every node; part of the configuration's hash
	reload        bool              // a reload puts a new value in force
	doc           string
	check         func(*Config) error
}

func (s setting) key() string { return s.section + "." + s.name }

// settings is the one table that file, environment, flags, `registrard config` and docs/configuration.md come from.
func settings() []setting {
	return slices.Concat(clusterSettings(), registrationSettings(), localSettings())
}

func clusterSettings() []setting {
	return []setting{
		{section: "registrard", name: "instance", at: func(c *Config) any { return &c.Instance }, equal: true, check: checkInstance,
			doc: "Name of the instance: of its group, its control socket and its D-Bus name. Instances of different names run side by side."},
		{section: "registrard", name: "domains", at: func(c *Config) any { return &c.Domains }, equal: true, check: checkDomains,
			doc: "Domains whose users may register. At least one is needed."},
		{section: "registrard", name: "database", at: func(c *Config) any { return &c.Database }, check: checkDatabase,
			doc: "Directory of the database, on a local disk. It is made where it is missing."},
		{section: "registrard", name: "expected_nodes", at: func(c *Config) any { return &c.ExpectedNodes }, check: checkRange(0, nodesMax, func(c *Config) int { return c.ExpectedNodes }),
			doc: "How many nodes the very first start of the cluster waits for. 0: as many as Corosync's node list has."},
		{section: "registrard", name: "durable", at: func(c *Config) any { return &c.Durable }, equal: true,
			doc: "Whether a registration is on disk, synced, on a majority of the nodes before it is answered. Without it, a power cut of all nodes can lose answered registrations."},

		{section: "sip", name: "listen", at: func(c *Config) any { return &c.Listen }, check: checkListen,
			doc: "Where to listen for phones: `udp:ADDRESS:PORT` or `tcp:ADDRESS:PORT`. Wildcard addresses serve a virtual address whenever it comes."},
		{section: "sip", name: "trusted", at: func(c *Config) any { return &c.Trusted }, equal: true, check: checkTrusted,
			doc: "Addresses and networks of edge proxies that may look users up without credentials, such as `192.0.2.0/24`."},
		{section: "sip", name: "connections_max", at: func(c *Config) any { return &c.ConnectionsMax }, check: checkRange(1, connectionsTop, func(c *Config) int { return c.ConnectionsMax }),
			doc: "How many TCP connections are held at a time."},
		{section: "sip", name: "connections_per_source_max", at: func(c *Config) any { return &c.ConnectionsPerSourceMax }, check: checkRange(1, connectionsTop, func(c *Config) int { return c.ConnectionsPerSourceMax }),
			doc: "How many of them one source may have: an IPv4 address, or an IPv6 /64. Trusted peers are not bound by it."},
		{section: "sip", name: "idle_timeout", at: func(c *Config) any { return &c.IdleTimeout }, check: checkDuration(idleTimeoutMin, idleTimeoutTop, func(c *Config) time.Duration { return c.IdleTimeout }),
			doc: "How long a TCP connection may be silent before it is closed."},
	}
}

func registrationSettings() []setting {
	return []setting{
		{section: "registration", name: "expires_min", at: func(c *Config) any { return &c.ExpiresMin }, equal: true, check: checkDuration(time.Second, expiresTop, func(c *Config) time.Duration { return c.ExpiresMin }),
			doc: "Shortest time that a phone may register for; less is answered 423."},
		{section: "registration", name: "expires_max", at: func(c *Config) any { return &c.ExpiresMax }, equal: true, check: checkExpires,
			doc: "Longest time that a phone is given; more is cut to it."},
		{section: "registration", name: "expires_default", at: func(c *Config) any { return &c.ExpiresDefault }, equal: true, check: checkDuration(time.Second, expiresTop, func(c *Config) time.Duration { return c.ExpiresDefault }),
			doc: "Time that a phone is given which asks for none."},
		{section: "registration", name: "contacts_max", at: func(c *Config) any { return &c.ContactsMax }, equal: true, check: checkRange(1, contactsMaxMax, func(c *Config) int { return c.ContactsMax }),
			doc: "How many contacts a user may have registered at a time; more are answered 403."},
		{section: "registration", name: "grace", at: func(c *Config) any { return &c.Grace }, equal: true, check: checkDuration(0, graceTop, func(c *Config) time.Duration { return c.Grace }),
			doc: "How long after a failover no registration runs out, so that phones can come back."},
		{section: "registration", name: "outage_max", at: func(c *Config) any { return &c.OutageMax }, equal: true, check: checkDuration(0, outageTop, func(c *Config) time.Duration { return c.OutageMax }),
			doc: "The time without a primary is added to every registration, but no more than this."},

		{section: "auth", name: "realms", at: func(c *Config) any { return &c.Realms }, equal: true, check: checkRealms,
			doc: "Digest realms that differ from their domain, as `DOMAIN=REALM`. A change makes the passwords of that domain's users useless: they are stored as hashes over the realm."},
		{section: "auth", name: "algorithms", at: func(c *Config) any { return &c.Algorithms }, equal: true, check: checkAlgorithms,
			doc: "Digest algorithms that phones are offered, best first: `SHA-512-256`, `SHA-256`, `MD5`."},
		{section: "auth", name: "nonce_life", at: func(c *Config) any { return &c.NonceLife }, equal: true, check: checkDuration(nonceLifeMin, nonceLifeTop, func(c *Config) time.Duration { return c.NonceLife }),
			doc: "How long a phone may use a challenge before it gets a new one."},
		{section: "auth", name: "third_party", at: func(c *Config) any { return &c.ThirdParty }, equal: true,
			doc: "Whether the From of a REGISTER may differ from its To, as with a secretary who registers somebody else's phone."},
	}
}

func localSettings() []setting {
	return []setting{
		{section: "control", name: "directory", at: func(c *Config) any { return &c.ControlDirectory }, check: checkControlDirectory,
			doc: "Directory with a directory for each instance, with its control socket."},
		{section: "control", name: "group", at: func(c *Config) any { return &c.ControlGroup },
			doc: "Group whose members may ask for status and lists; empty for nobody but root and the daemon's own user."},
		{section: "control", name: "dbus", at: func(c *Config) any { return &c.ControlDBus },
			doc: "Whether to be on the system bus. The control socket is there in any case."},

		{section: "log", name: "level", at: func(c *Config) any { return &c.LogLevel }, reload: true, check: checkLogLevel,
			doc: "Least level that is logged: `debug`, `info`, `warn` or `error`."},
		{section: "log", name: "format", at: func(c *Config) any { return &c.LogFormat }, check: checkLogFormat,
			doc: "`text` or `json`."},

		{section: "http", name: "listen", at: func(c *Config) any { return &c.HTTPListen }, check: checkHTTPListen,
			doc: "Where to serve `/metrics` and `/healthz`, as `ADDRESS:PORT`; empty for nowhere."},
	}
}

// newConfig returns the defaults.
func newConfig() *Config {
	return &Config{
		Instance: "registrard", Database: defaultDatabase, Durable: true,
		Listen:         []string{"udp:0.0.0.0:5060", "tcp:0.0.0.0:5060"},
		ConnectionsMax: defaultConnectionsMax, ConnectionsPerSourceMax: defaultConnectionsPerSourceMax, IdleTimeout: defaultIdleTimeout,
		ExpiresMin: defaultExpiresMin, ExpiresMax: defaultExpiresMax, ExpiresDefault: defaultExpires,
		ContactsMax: defaultContactsMax, Grace: defaultGrace, OutageMax: defaultOutageMax,
		Algorithms: []string{"SHA-256", "MD5"}, NonceLife: defaultNonceLife,
		ControlDirectory: "/run/registrard", ControlGroup: defaultGroup, ControlDBus: true,
		LogLevel: "info", LogFormat: "text", HTTPListen: defaultHTTPListen,
		origins: make(map[string]string),
	}
}
