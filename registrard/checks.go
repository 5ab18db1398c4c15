package main

import (
	"cmp"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"sipha/registrard/control"
	"sipha/registrard/location"
	"sipha/registrard/sip/digest"
	"sipha/registrard/sip/transport"
)

// validate returns what is wrong with the values, one error for each, which names the value's origin.
func (c *Config) validate() []error {
	var errs []error
	for _, s := range settings() {
		if s.check == nil {
			continue
		}
		if err := s.check(c); err != nil {
			errs = append(errs, fmt.Errorf("%s: %s: %w", c.origin(s.key()), s.key(), err))
		}
	}
	return errs
}

func checkInstance(c *Config) error {
	return control.CheckInstance(c.Instance)
}

func checkDomains(c *Config) error {
	if len(c.Domains) == 0 {
		return errors.New(`no domain: name at least one, such as domains = ["example.org"]`)
	}
	if len(c.Domains) > domainsMax {
		return fmt.Errorf("%d domains, over %d", len(c.Domains), domainsMax)
	}
	for i, d := range c.Domains {
		host, err := canonicalDomain(d)
		if err != nil {
			return err
		}
		c.Domains[i] = host
	}
	return checkTwice(c.Domains)
}

// canonicalDomain gives a domain as it stands in an AOR.
func canonicalDomain(d string) (string, error) {
	aor, err := location.ParseAOR("sip:x@" + d)
	if err != nil || strings.ContainsAny(d, ";?@") || !strings.HasPrefix(d, "[") && strings.Contains(d, ":") || strings.HasPrefix(d, "[") && !strings.HasSuffix(d, "]") {
		return "", fmt.Errorf("%q is no domain: write a host name or address without port, such as \"example.org\"", d)
	}
	return strings.TrimPrefix(string(aor), "sip:x@"), nil
}

func checkTwice(list []string) error {
	sorted := slices.Sorted(slices.Values(list))
	for i := 1; i < len(sorted); i++ {
		if sorted[i-1] == sorted[i] {
			return fmt.Errorf("%q is there twice", sorted[i])
		}
	}
	return nil
}

func checkDatabase(c *Config) error {
	if c.Database == "" {
		return errors.New("no directory: name one on a local disk, such as " + defaultDatabase)
	}
	if !filepath.IsAbs(c.Database) {
		return fmt.Errorf("%q: must be an absolute path", c.Database)
	}
	return nil
}

func checkControlDirectory(c *Config) error {
	if !filepath.IsAbs(c.ControlDirectory) {
		return fmt.Errorf("%q: must be an absolute path", c.ControlDirectory)
	}
	return nil
}

func checkListen(c *Config) error {
	if len(c.Listen) == 0 {
		return errors.New(`nowhere: name at least one address, such as "udp:0.0.0.0:5060"`)
	}
	if len(c.Listen) > listenMax {
		return fmt.Errorf("%d addresses, over %d", len(c.Listen), listenMax)
	}
	for i, l := range c.Listen {
		a, err := transport.ParseAddress(l)
		if err != nil {
			return err
		}
		c.Listen[i] = a.String()
	}
	return checkTwice(c.Listen)
}

func checkTrusted(c *Config) error {
	if len(c.Trusted) > trustedMax {
		return fmt.Errorf("%d networks, over %d", len(c.Trusted), trustedMax)
	}
	for i, t := range c.Trusted {
		p, err := parsePrefix(t)
		if err != nil {
			return err
		}
		c.Trusted[i] = p.String()
	}
	return nil
}

// parsePrefix takes a network, or an address for a network of one.
func parsePrefix(s string) (netip.Prefix, error) {
	if a, err := netip.ParseAddr(s); err == nil && a.Zone() == "" {
		a = a.Unmap()
		return netip.PrefixFrom(a, a.BitLen()), nil
	}
	p, err := netip.ParsePrefix(s)
	if err != nil {
		return p, fmt.Errorf("%q is neither an address nor a network such as 192.0.2.0/24", s)
	}
	if p != p.Masked() {
		return p, fmt.Errorf("%q has bits beyond its length: did you mean %s?", s, p.Masked())
	}
	return p, nil
}

// trusted are the networks of [sip] trusted, which checkTrusted has accepted.
func (c *Config) trusted() []netip.Prefix {
	var list []netip.Prefix
	for _, t := range c.Trusted {
		if p, err := parsePrefix(t); err == nil {
			list = append(list, p)
		}
	}
	return list
}

func checkExpires(c *Config) error {
	if c.ExpiresMax < c.ExpiresMin {
		return fmt.Errorf("%s is less than expires_min, which is %s", formatDuration(c.ExpiresMax), formatDuration(c.ExpiresMin))
	}
	if c.ExpiresDefault < c.ExpiresMin || c.ExpiresDefault > c.ExpiresMax {
		return fmt.Errorf("expires_default, which is %s, is not between expires_min and expires_max", formatDuration(c.ExpiresDefault))
	}
	return checkDuration(time.Second, expiresTop, func(c *Config) time.Duration { return c.ExpiresMax })(c)
}

func checkRealms(c *Config) error {
	var domains []string
	for _, r := range c.Realms {
		domain, realm, ok := strings.Cut(r, "=")
		if !ok {
			return fmt.Errorf(`%q: write it as "DOMAIN=REALM"`, r)
		}
		if !slices.Contains(c.Domains, domain) {
			return fmt.Errorf("%q: %q is none of the domains", r, domain)
		}
		if err := control.CheckDigestText(realm, `"\`); err != nil {
			return fmt.Errorf("%q: the realm %w", r, err)
		}
		domains = append(domains, domain)
	}
	return checkTwice(domains)
}

// realm is the digest realm of a domain.
func (c *Config) realm(domain string) string {
	for _, r := range c.Realms {
		if d, realm, _ := strings.Cut(r, "="); d == domain {
			return realm
		}
	}
	return domain
}

func checkAlgorithms(c *Config) error {
	if len(c.Algorithms) == 0 {
		return errors.New(`none: offer at least one, such as "SHA-256"`)
	}
	for _, a := range c.Algorithms {
		if digest.ParseAlgorithm([]byte(a)) == 0 {
			return fmt.Errorf("%q is none of SHA-512-256, SHA-256, MD5", a)
		}
	}
	return checkTwice(c.Algorithms)
}

func checkLogLevel(c *Config) error {
	_, err := parseLevel(c.LogLevel)
	return err
}

func parseLevel(s string) (slog.Level, error) {
	switch s {
	case "debug":
		return slog.LevelDebug, nil
	case "info":
		return slog.LevelInfo, nil
	case "warn":
		return slog.LevelWarn, nil
	case "error":
		return slog.LevelError, nil
	}
	return 0, fmt.Errorf("%q is none of debug, info, warn, error", s)
}

func checkLogFormat(c *Config) error {
	if c.LogFormat != "text" && c.LogFormat != "json" {
		return fmt.Errorf("%q is neither text nor json", c.LogFormat)
	}
	return nil
}

func checkHTTPListen(c *Config) error {
	if c.HTTPListen == "" {
		return nil
	}
	if _, err := netip.ParseAddrPort(c.HTTPListen); err != nil {
		return fmt.Errorf("%q: write it as ADDRESS:PORT, such as %s", c.HTTPListen, defaultHTTPListen)
	}
	return nil
}

func checkRange[T cmp.Ordered](low, high T, value func(*Config) T) func(*Config) error {
	return func(c *Config) error {
		if v := value(c); v < low || v > high {
			return fmt.Errorf("%v: must be %v to %v", v, low, high)
		}
		return nil
	}
}

func checkDuration(low, high time.Duration, value func(*Config) time.Duration) func(*Config) error {
	return func(c *Config) error {
		if v := value(c); v < low || v > high {
			return fmt.Errorf("%s: must be %s to %s", formatDuration(v), formatDuration(low), formatDuration(high))
		}
		return nil
	}
}
