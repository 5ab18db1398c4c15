package imports

import (
	"encoding/json"
	"errors"
	"io"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

// may lists what each package below registrard, agent and ocf may import of ours. A name stands for the package and what is below it;
// what is below a package may import the package itself and what the package may.
var may = map[string][]string{
	"ocf":                            {},
	"agent":                          {"ocf", "registrard/control"},
	"registrard":                     {"registrard"},
	"registrard/location":            {},
	"registrard/replica":             {"registrard/location"},
	"registrard/replica/replicatest": {"registrard/replica", "registrard/location", "registrard/cpg", "registrard/store"},
	"registrard/node":                {"registrard/location", "registrard/replica", "registrard/store", "registrard/cpg"},
	"registrard/cpg":                 {},
	"registrard/store":               {"registrard/location"},
	"registrard/sip":                 {"registrard/location"},
	"registrard/control":             {"registrard/location"},
}

// only lists where a third party is allowed, by the start of its import path.
var only = map[string][]string{
	"github.com/urfave/cli":        {"agent", "registrard", "scripts"},
	"github.com/mattn/go-sqlite3":  {"registrard/store"},
	"github.com/ghettovoice/gosip": {"registrard/sip"},
	"github.com/godbus/dbus":       {"registrard/control"},
	"github.com/prometheus":        {"registrard"},
	"github.com/coreos/go-systemd": {"registrard", "agent", "agent/supervise"},
	"github.com/BurntSushi/toml":   {"registrard"},
}

// pure packages import nothing that has a clock, chance, goroutines, logs or I/O, and no third party.
var pure = map[string]bool{"registrard/location": true, "registrard/replica": true}

var impure = []string{"C", "context", "io", "log", "log/slog", "math/rand", "math/rand/v2", "crypto/rand", "net", "os", "sync", "sync/atomic", "syscall"}

type pkg struct {
	ImportPath string
	Imports    []string
	Standard   bool
}

func list(t *testing.T) []pkg {
	t.Helper()
	cmd := exec.Command("go", "list", "-json=ImportPath,Imports,Standard", "sipha/...")
	out, err := cmd.Output()
	if err != nil {
		var exit *exec.ExitError
		if errors.As(err, &exit) {
			t.Fatalf("go list: %v\n%s", err, exit.Stderr)
		}
		t.Fatalf("go list: %v", err)
	}
	var pkgs []pkg
	dec := json.NewDecoder(strings.NewReader(string(out)))
	for {
		var p pkg
		if err := dec.Decode(&p); errors.Is(err, io.EOF) {
			return pkgs
		} else if err != nil {
			t.Fatal(err)
		}
		pkgs = append(pkgs, p)
	}
}

// rule returns the longest name in may that the package is, or is below.
func rule(path string) (string, bool) {
	for p := path; p != "."; {
		if _, ok := may[p]; ok {
			return p, true
		}
		i := strings.LastIndexByte(p, '/')
		if i < 0 {
			break
		}
		p = p[:i]
	}
	return "", false
}

func under(path, root string) bool { return path == root || strings.HasPrefix(path, root+"/") }

func TestImports(t *testing.T) {
	pkgs := list(t)
	if len(pkgs) < 10 {
		t.Fatalf("go list found only %d packages", len(pkgs))
	}
	for _, p := range pkgs {
		name := strings.TrimPrefix(p.ImportPath, "sipha/")
		for _, imp := range p.Imports {
			if bad := verdict(name, imp); bad != "" {
				t.Errorf("%s imports %s: %s", name, imp, bad)
			}
		}
	}
}

// verdict says what is wrong with an import; "" where it is allowed.
func verdict(name, imp string) string {
	if ours, ok := strings.CutPrefix(imp, "sipha/"); ok {
		r, bound := rule(name)
		if !bound || under(ours, r) {
			return ""
		}
		if slices.ContainsFunc(may[r], func(m string) bool { return under(ours, m) }) {
			return ""
		}
		return "not in the import table"
	}
	if imp == "C" && !under(name, "registrard/cpg") {
		return "cgo belongs to registrard/cpg"
	}
	for prefix, where := range only {
		if !strings.HasPrefix(imp, prefix) {
			continue
		}
		// A main package's allowance does not extend to the packages below it.
		if !slices.ContainsFunc(where, func(w string) bool {
			return name == w || w != "registrard" && w != "agent" && under(name, w)
		}) {
			return "this third party is allowed only in " + strings.Join(where, ", ")
		}
	}
	if pure[name] && (slices.Contains(impure, imp) || strings.Contains(imp, ".")) {
		return "the package is pure"
	}
	return ""
}

func TestVerdictCanFail(t *testing.T) {
	for _, c := range []struct {
		name, imp string
		ok        bool
	}{
		{"registrard/location", "sipha/registrard/replica", false},
		{"registrard/replica", "sipha/registrard/location", true},
		{"registrard/replica/wire", "sipha/registrard/replica", true},
		{"registrard/replica", "sync", false},
		{"registrard/node", "sipha/registrard/sip", false},
		{"registrard/sip/message", "sipha/registrard/location", true},
		{"registrard/control", "github.com/mattn/go-sqlite3", false},
		{"registrard/store", "github.com/mattn/go-sqlite3", true},
		{"registrard/node", "github.com/prometheus/client_golang/prometheus", false},
		{"ocf", "sipha/registrard/control", false},
	} {
		if got := verdict(c.name, c.imp) == ""; got != c.ok {
			t.Errorf("verdict(%s, %s): allowed %v, want %v", c.name, c.imp, got, c.ok)
		}
	}
}
