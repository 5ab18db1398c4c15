package main

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"sipha/registrard/control"
)

// Origins of values that come from no file.
const (
	originDefault    = "default"
	originStandalone = "standalone"
)

// environmentPrefix begins the variable of every key: REGISTRARD_DATABASE, REGISTRARD_SIP_LISTEN.
const environmentPrefix = "REGISTRARD_"

// flagName is the flag of a key: keys of [registrard] stand alone, the others behind their section.
func (s setting) flagName() string {
	name := strings.ReplaceAll(s.name, "_", "-")
	if s.section == "registrard" {
		return name
	}
	return s.section + "-" + name
}

// variable is the environment variable of a key.
func (s setting) variable() string {
	return environmentPrefix + strings.ToUpper(strings.ReplaceAll(s.flagName(), "-", "_"))
}

// configSource is what a configuration is read from.
type configSource struct {
	file       string // path; "": the default file
	standalone bool   // a missing default file is no error then
	// flag returns the value of a flag that was given.
	flag func(name string) (string, bool)
	// environment returns the value of a variable that is set, as os.LookupEnv.
	environment func(name string) (string, bool)
}

// configErrors are all errors of a configuration.
type configErrors []error

// Error gives the first one, and how many there are beside it, on one line.
func (e configErrors) Error() string {
	if len(e) == 1 {
		return e[0].Error()
	}
	return fmt.Sprintf("%v (and %d more)", e[0], len(e)-1)
}

// loadConfig reads defaults, file, environment and flags, each above the one before. The error is of configErrors with exit code 78, or
// what kept the file from being read.
func loadConfig(src configSource) (*Config, error) {
	c := newConfig()
	c.Standalone = src.standalone
	if c.Standalone {
		c.standaloneDefaults(src.environment)
	}
	errs, err := c.readFile(src)
	if err != nil {
		return nil, err
	}
	for _, s := range settings() {
		for _, from := range []struct {
			origin string
			lookup func() (string, bool)
		}{
			{s.variable(), func() (string, bool) { return src.environment(s.variable()) }},
			{"--" + s.flagName(), func() (string, bool) { return src.flag(s.flagName()) }},
		} {
			value, ok := from.lookup()
			if !ok {
				continue
			}
			if err := setText(s.at(c), value); err != nil {
				errs = append(errs, fmt.Errorf("%s: %w", from.origin, err))
			}
			c.origins[s.key()] = from.origin
		}
	}
	if len(errs) == 0 {
		c.finish()
		errs = c.validate()
	}
	if len(errs) > 0 {
		return nil, fail(exitConfig, configErrors(errs))
	}
	return c, nil
}

// readFile reads the file, if there has to be one.
func (c *Config) readFile(src configSource) ([]error, error) {
	path := src.file
	if path == "" {
		path = defaultConfigFile
	}
	data, err := readConfigFile(path)
	switch {
	case errors.Is(err, os.ErrNotExist) && src.file == "" && src.standalone:
		return nil, nil
	case errors.Is(err, os.ErrNotExist):
		return nil, failf(exitConfig, "no configuration at %s: write one (docs/configuration.md has an example), name it with --config, or try registrard run --standalone", path)
	case errors.Is(err, os.ErrPermission):
		return nil, failf(exitPermission, "configuration %s: permission denied: run as a user that may read it", path)
	case err != nil:
		return nil, failf(exitConfig, "configuration: %v", err)
	}
	return c.decode(path, data), nil
}

func readConfigFile(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }() // only read
	data, err := io.ReadAll(io.LimitReader(f, configFileBytes+1))
	if err == nil && len(data) > configFileBytes {
		err = fmt.Errorf("%s has more than %d bytes", path, configFileBytes)
	}
	return data, err
}

// standaloneDefaults are those of one node by itself, which needs neither root nor Corosync.
func (c *Config) standaloneDefaults(environment func(string) (string, bool)) {
	set := func(key string) { c.origins[key] = originStandalone }
	c.Listen = []string{"udp:127.0.0.1:5060", "tcp:127.0.0.1:5060"}
	set("sip.listen")
	c.Domains = []string{"localhost", "127.0.0.1"}
	set("registrard.domains")
	c.ControlDBus = false
	set("control.dbus")
	c.Database = standaloneDatabase(environment)
	set("registrard.database")
	c.ControlDirectory = "" // finish knows
	set("control.directory")
}

// finish sets what depends on other values, and makes what is relative to the working directory absolute.
func (c *Config) finish() {
	for _, p := range []*string{&c.Database, &c.ControlDirectory} {
		if *p == "" {
			continue
		}
		if abs, err := filepath.Abs(*p); err == nil && c.Standalone {
			*p = abs
		}
	}
	if c.Standalone && c.ControlDirectory == "" {
		c.ControlDirectory = filepath.Join(c.Database, standaloneRun)
	}
	if c.Standalone && c.ExpectedNodes == 0 {
		c.ExpectedNodes = 1
		c.origins["registrard.expected_nodes"] = originStandalone
	}
}

// standaloneRun is the directory under a standalone database that holds the control sockets.
const standaloneRun = "run"

// standaloneDatabase follows the XDG Base Directory Specification: state that persists is under XDG_STATE_HOME.
func standaloneDatabase(environment func(string) (string, bool)) string {
	if dir, ok := environment("XDG_STATE_HOME"); ok && filepath.IsAbs(dir) {
		return filepath.Join(dir, "registrard")
	}
	if home, ok := environment("HOME"); ok && filepath.IsAbs(home) {
		return filepath.Join(home, ".local", "state", "registrard")
	}
	return filepath.Join(os.TempDir(), "registrard")
}

func (c *Config) origin(key string) string {
	if o, ok := c.origins[key]; ok {
		return o
	}
	return originDefault
}

// controlSocket is the path of the instance's control socket.
func (c *Config) controlSocket() string {
	return filepath.Join(c.ControlDirectory, c.Instance, control.SocketName)
}

// Hash is over all that must be equal on every node.
func (c *Config) Hash() uint64 {
	h := sha256.New()
	for _, s := range settings() {
		if s.equal {
			fmt.Fprintf(h, "%s = %s\n", s.key(), formatValue(s.at(c))) // a hash never fails to be written to
		}
	}
	return binary.BigEndian.Uint64(h.Sum(nil))
}

// list gives what is in force, in the order of the documentation.
func (c *Config) list() []control.Setting {
	var out []control.Setting
	for _, s := range settings() {
		out = append(out, control.Setting{Key: s.key(), Value: formatValue(s.at(c)), Origin: c.origin(s.key())})
	}
	return out
}

// reload puts in force what next has for the keys that can be changed while running, and returns the keys that differ but need a restart.
func (c *Config) reload(next *Config) (needRestart []string) {
	for _, s := range settings() {
		if formatValue(s.at(c)) == formatValue(s.at(next)) {
			continue
		}
		if !s.reload {
			needRestart = append(needRestart, s.key())
			continue
		}
		setSame(s.at(c), s.at(next))
		c.origins[s.key()] = next.origin(s.key())
	}
	return needRestart
}

// formatValue writes a value as it stands in the file.
func formatValue(at any) string {
	switch p := at.(type) {
	case *string:
		return quoteTOML(*p)
	case *bool:
		return strconv.FormatBool(*p)
	case *int:
		return strconv.Itoa(*p)
	case *time.Duration:
		return quoteTOML(formatDuration(*p))
	case *[]string:
		quoted := make([]string, 0, len(*p))
		for _, v := range *p {
			quoted = append(quoted, quoteTOML(v))
		}
		return "[" + strings.Join(quoted, ", ") + "]"
	}
	panic(fmt.Sprintf("setting of type %T", at))
}

// formatDuration leaves out what is zero: "1h", not "1h0m0s".
func formatDuration(d time.Duration) string {
	s := d.String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return s
}

// quoteTOML writes a basic string (TOML 1.0, "String").
func quoteTOML(s string) string {
	var b strings.Builder
	b.WriteByte('"')
	for _, r := range s {
		switch {
		case r == '"' || r == '\\':
			b.WriteByte('\\')
			b.WriteRune(r)
		case r < ' ' || r == 0x7f:
			fmt.Fprintf(&b, "\\u%04X", r)
		default:
			b.WriteRune(r)
		}
	}
	b.WriteByte('"')
	return b.String()
}

// setText takes a value from a flag or an environment variable; lists are separated by commas.
func setText(at any, text string) error {
	switch p := at.(type) {
	case *string:
		*p = text
	case *bool:
		v, err := strconv.ParseBool(text)
		if err != nil {
			return fmt.Errorf("%q is neither true nor false", text)
		}
		*p = v
	case *int:
		v, err := strconv.Atoi(text)
		if err != nil {
			return fmt.Errorf("%q is no whole number", text)
		}
		*p = v
	case *time.Duration:
		v, err := parseDuration(text)
		if err != nil {
			return err
		}
		*p = v
	case *[]string:
		*p = []string{}
		for v := range strings.SplitSeq(text, ",") {
			if v = strings.TrimSpace(v); v != "" {
				*p = append(*p, v)
			}
		}
	default:
		panic(fmt.Sprintf("setting of type %T", at))
	}
	return nil
}

// parseDuration takes "90s", "5m", "1h30m", or a number of seconds; fractions of a second are refused.
func parseDuration(text string) (time.Duration, error) {
	if n, err := strconv.ParseInt(text, 10, 64); err == nil {
		if n < 0 || n > int64(outageTop/time.Second) {
			return 0, fmt.Errorf("%d seconds: must be 0 to %d", n, int64(outageTop/time.Second))
		}
		return time.Duration(n) * time.Second, nil
	}
	d, err := time.ParseDuration(text)
	if err != nil {
		return 0, fmt.Errorf("%q is no duration: write it as 90s, 5m, 1h30m, or in seconds", text)
	}
	if d < 0 || d%time.Second != 0 {
		return 0, fmt.Errorf("%q: must be whole seconds", text)
	}
	return d, nil
}

// setSame copies the value at from to the one at to, which has its type.
func setSame(to, from any) {
	switch p := to.(type) {
	case *string:
		*p = *from.(*string)
	case *bool:
		*p = *from.(*bool)
	case *int:
		*p = *from.(*int)
	case *time.Duration:
		*p = *from.(*time.Duration)
	case *[]string:
		*p = slices.Clone(*from.(*[]string))
	default:
		panic(fmt.Sprintf("setting of type %T", to))
	}
}
