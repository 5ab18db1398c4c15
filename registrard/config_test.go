package main

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"sipha/registrard/location"
)

// from is a configSource out of maps.
func from(file string, flags, environment map[string]string) configSource {
	return configSource{
		file: file,
		flag: func(name string) (string, bool) { v, ok := flags[name]; return v, ok },
		environment: func(name string) (string, bool) {
			v, ok := environment[name]
			return v, ok
		},
	}
}

func writeFile(t *testing.T, content string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "r.conf")
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// TestSettings sets every key, by each of the three ways, to a value that is not its default, and reads it back.
func TestSettings(t *testing.T) {
	t.Parallel()
	values := map[string]string{
		"registrard.instance": `"voice"`, "registrard.domains": `["a.example", "b.example"]`, "registrard.database": `"/srv/r"`, "registrard.expected_nodes": "3",
		"registrard.durable": "false", "sip.listen": `["udp:[::]:5070"]`, "sip.trusted": `["192.0.2.0/24", "2001:db8::1/128"]`, "sip.connections_max": "7",
		"sip.connections_per_source_max": "6", "sip.idle_timeout": `"5s"`, "registration.expires_min": `"2m"`, "registration.expires_max": `"30m"`,
		"registration.expires_default": `"10m"`, "registration.contacts_max": "3", "registration.grace": `"1m"`, "registration.outage_max": `"1h"`,
		"auth.realms": `["a.example=A"]`, "auth.algorithms": `["MD5"]`, "auth.nonce_life": `"1m"`, "auth.third_party": "true", "control.directory": `"/run/x"`,
		"control.group": `"wheel"`, "control.dbus": "false", "log.level": `"debug"`, "log.format": `"json"`, "http.listen": `""`,
	}
	var file strings.Builder
	flags, environment := map[string]string{}, map[string]string{}
	section := ""
	for _, s := range settings() {
		value, ok := values[s.key()]
		if !ok {
			t.Errorf("%s: no value here", s.key())
			continue
		}
		if value == formatValue(s.at(newConfig())) {
			t.Errorf("%s: the value here is the default", s.key())
		}
		if s.section != section {
			section = s.section
			fmt.Fprintf(&file, "[%s]\n", section)
		}
		fmt.Fprintf(&file, "%s = %s\n", s.name, value)
		text := strings.NewReplacer(`["`, "", `"]`, "", `"`, "").Replace(value)
		flags[s.flagName()], environment[s.variable()] = text, text
	}
	for name, src := range map[string]configSource{
		"File":        from(writeFile(t, file.String()), nil, nil),
		"Flags":       from(writeFile(t, ""), flags, nil),
		"Environment": from(writeFile(t, ""), nil, environment),
	} {
		t.Run(name, func(t *testing.T) {
			c, err := loadConfig(src)
			if err != nil {
				t.Fatal(err)
			}
			got := make(map[string]string)
			for _, s := range c.list() {
				got[s.Key] = s.Value
				if s.Origin == originDefault {
					t.Errorf("%s: origin %s", s.Key, s.Origin)
				}
			}
			if d := cmp.Diff(values, got); d != "" {
				t.Errorf("(-want +got):\n%s", d)
			}
		})
	}
}

// TestValidate has one wrong value each.
func TestValidate(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ name, file, want string }{
		{"Instance", `[registrard]` + "\ninstance = \"a b\"", `registrard.instance: instance "a b": must be letters`},
		{"DomainPort", `[registrard]` + "\ndomains = [\"a.example:5060\"]", `"a.example:5060" is no domain`},
		{"DomainURI", `[registrard]` + "\ndomains = [\"sip:a.example\"]", `is no domain`},
		{"DomainTwice", `[registrard]` + "\ndomains = [\"a.example\", \"A.example\"]", `"a.example" is there twice`},
		{"Database", `[registrard]` + "\ndatabase = \"lib\"", `"lib": must be an absolute path`},
		{"DatabaseEmpty", `[registrard]` + "\ndatabase = \"\"", `no directory`},
		{"Nodes", `[registrard]` + "\nexpected_nodes = 17", `17: must be 0 to 16`},
		{"NodesText", `[registrard]` + "\nexpected_nodes = \"3\"", `must be a whole number`},
		{"ListenPort", `[sip]` + "\nlisten = [\"udp:0.0.0.0\"]", `listening address "udp:0.0.0.0"`},
		{"ListenTwice", `[sip]` + "\nlisten = [\"udp:0.0.0.0:5060\", \"UDP:0.0.0.0:5060\"]", `is there twice`},
		{"Trusted", `[sip]` + "\ntrusted = [\"proxy.example\"]", `neither an address nor a network`},
		{"TrustedBits", `[sip]` + "\ntrusted = [\"192.0.2.1/24\"]", `did you mean 192.0.2.0/24?`},
		{"Connections", `[sip]` + "\nconnections_max = 0", `0: must be 1 to 1048576`},
		{"Idle", `[sip]` + "\nidle_timeout = 0", `0s: must be 1s to 24h`},
		{"ExpiresOrder", `[registration]` + "\nexpires_min = \"3h\"", `2h is less than expires_min, which is 3h`},
		{"ExpiresDefault", `[registration]` + "\nexpires_default = \"3h\"", `expires_default, which is 3h, is not between`},
		{"Negative", `[registration]` + "\ngrace = \"-1s\"", `must be whole seconds`},
		{"Huge", `[registration]` + "\ngrace = 99999999999", `must be 0 to`},
		{"Contacts", `[registration]` + "\ncontacts_max = 257", `257: must be 1 to 256`},
		{"RealmDomain", `[auth]` + "\nrealms = [\"b.example=B\"]", `"b.example" is none of the domains`},
		{"RealmForm", `[auth]` + "\nrealms = [\"B\"]", `write it as "DOMAIN=REALM"`},
		{"RealmQuote", `[auth]` + "\nrealms = ['a.example=\"']", `the realm has one of`},
		{"Algorithm", `[auth]` + "\nalgorithms = [\"SHA-1\"]", `"SHA-1" is none of`},
		{"NoAlgorithm", `[auth]` + "\nalgorithms = []", `none: offer at least one`},
		{"Nonce", `[auth]` + "\nnonce_life = 1", `1s: must be 10s to 24h`},
		{"Level", `[log]` + "\nlevel = \"trace\"", `"trace" is none of debug`},
		{"Format", `[log]` + "\nformat = \"xml\"", `neither text nor json`},
		{"HTTP", `[http]` + "\nlisten = \"localhost:9650\"", `write it as ADDRESS:PORT`},
		{"NoSection", `level = "info"`, `key "level" stands outside of a section; it belongs to [log]`},
		{"NotUTF8", "[log]\nlevel = \"\xff\"", `is not UTF-8`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			path := writeFile(t, tt.file)
			flags := map[string]string{}
			if !strings.Contains(tt.file, "domains") {
				flags["domains"] = "a.example"
			}
			_, err := loadConfig(from(path, flags, nil))
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Fatalf("error %v, want one with %q", err, tt.want)
			}
			if exitCode(err) != exitConfig {
				t.Errorf("exit code %d, want %d", exitCode(err), exitConfig)
			}
			if !strings.HasPrefix(err.Error(), path) && !strings.HasPrefix(err.Error(), "default: registration.expires_max") {
				t.Errorf("error %q does not say where", err)
			}
		})
	}
}

func TestHash(t *testing.T) {
	t.Parallel()
	base := newConfig()
	for _, s := range settings() {
		c := newConfig()
		switch p := s.at(c).(type) {
		case *string:
			*p += "x"
		case *bool:
			*p = !*p
		case *int:
			*p++
		case *time.Duration:
			*p += time.Second
		case *[]string:
			*p = append(slices.Clone(*p), "x")
		}
		if changed := c.Hash() != base.Hash(); changed != s.equal {
			t.Errorf("%s: hash changed: %v, want %v", s.key(), changed, s.equal)
		}
	}
	// Text must not be able to look like another value.
	a, b := newConfig(), newConfig()
	a.Domains, b.Domains = []string{"a", "b"}, []string{`a", "b`}
	if a.Hash() == b.Hash() {
		t.Error("two domains hash as one with a quote in it")
	}
}

func TestReload(t *testing.T) {
	t.Parallel()
	c, next := newConfig(), newConfig()
	next.LogLevel, next.Grace, next.Domains = "debug", time.Minute, []string{"x.example"}
	next.origins["log.level"] = "r.conf:1"
	restart := c.reload(next)
	if c.LogLevel != "debug" || c.origin("log.level") != "r.conf:1" || c.Grace != defaultGrace {
		t.Errorf("level %q from %s, grace %s", c.LogLevel, c.origin("log.level"), c.Grace)
	}
	if d := cmp.Diff([]string{"registrard.domains", "registration.grace"}, restart); d != "" {
		t.Errorf("need a restart (-want +got):\n%s", d)
	}
}

func TestConfigFileProblems(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	big := writeFile(t, "#"+strings.Repeat("x", configFileBytes))
	for name, tt := range map[string]struct {
		path string
		code int
		want string
	}{
		"Missing":   {filepath.Join(dir, "none"), exitConfig, "no configuration at"},
		"Directory": {dir, exitConfig, "is a directory"},
		"Big":       {big, exitConfig, "has more than"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := loadConfig(from(tt.path, nil, nil))
			if exitCode(err) != tt.code || !strings.Contains(fmt.Sprint(err), tt.want) {
				t.Errorf("%v with exit code %d", err, exitCode(err))
			}
		})
	}
}

func TestRealm(t *testing.T) {
	t.Parallel()
	c := Config{Realms: []string{"a.example=A=B"}}
	if c.realm("a.example") != "A=B" || c.realm("b.example") != "b.example" {
		t.Errorf("realms %q, %q", c.realm("a.example"), c.realm("b.example"))
	}
}

func TestPolicy(t *testing.T) {
	t.Parallel()
	want := location.Policy{ExpiresMin: 60, ExpiresMax: 7200, ExpiresDefault: 3600, ContactsMax: 10, TombstoneLife: 332_000}
	if d := cmp.Diff(want, newConfig().policy()); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
}

func TestSuggest(t *testing.T) {
	t.Parallel()
	for word, want := range map[string]string{
		"domain": `; did you mean "domains"?`, "instnce": `; did you mean "instance"?`, "durability": `; did you mean "durable"?`, "duration": "", "x": "", "": "",
	} {
		if got := suggest(word, []string{"instance", "domains", "durable"}, "%q"); got != want {
			t.Errorf("%q: %q, want %q", word, got, want)
		}
	}
}

// FuzzConfigFile has any file: it is read, or told what is wrong on one line each, and what is read is written back the same.
func FuzzConfigFile(f *testing.F) {
	f.Add("[registrard]\ndomains = [\"example.org\"]\n")
	f.Add("[registrard]\ndomains = [\"a\"]\n[registration]\ngrace = 90\nexpires_min = \"1m\"\n[log]\nlevel=\"warn\"\n")
	f.Add("[sip]\nlisten = [\"udp:0.0.0.0:5060\", 3]\n")
	f.Add("a.b.c = 1\n[[registrard]]\n")
	f.Fuzz(func(t *testing.T, text string) {
		c := newConfig()
		errs := append(c.decode("f", []byte(text)), c.validate()...)
		for _, err := range errs {
			if line := lastLine(err); line == "" || strings.ContainsAny(line, "\n\r\x1b") {
				t.Errorf("error %q", line)
			}
		}
		if len(errs) > 0 {
			return
		}
		var b strings.Builder
		if err := writeConfig(&b, c.list()); err != nil {
			t.Fatal(err)
		}
		again := newConfig()
		if errs := append(again.decode("f", []byte(b.String())), again.validate()...); len(errs) > 0 {
			t.Fatalf("%v in\n%s", errs, b.String())
		}
		if again.Hash() != c.Hash() {
			t.Errorf("came back different:\n%s", b.String())
		}
	})
}

func rewrite(t *testing.T, path, content string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
}
