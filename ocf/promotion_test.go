package ocf_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"sipha/ocf"
)

// attribute is a stand-in for crm_attribute that keeps the value in a file and logs how it was called. FAIL is its exit code, if any.
const attribute = `#!/bin/sh
cd "$(dirname "$0")" || exit 1
echo "$*" >>calls
[ -f fail ] && { echo "crm_attribute: Could not connect to the CIB" >&2; exit "$(cat fail)"; }
[ -f hang ] && exec sleep 600
case "$*" in
*--query*) [ -f value ] || { echo "No such device or address" >&2; exit 105; }; cat value ;;
*--update*) for v; do :; done; echo "$v" >value ;;
*--delete*) rm -f value; echo "Deleted status attribute" ;;
esac
`

func promotion(t *testing.T) (ocf.Promotion, string) {
	t.Helper()
	dir := t.TempDir()
	command := filepath.Join(dir, "crm_attribute")
	if err := os.WriteFile(command, []byte(attribute), 0o755); err != nil {
		t.Fatal(err)
	}
	return ocf.Promotion{Resource: "registrard", Node: "node1", Command: command}, dir
}

func calls(t *testing.T, dir string) []string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(dir, "calls"))
	if err != nil {
		t.Fatal(err)
	}
	return strings.Split(strings.TrimSpace(string(b)), "\n")
}

func TestPromotionUpdate(t *testing.T) {
	t.Parallel()
	score := func(n int) *int { return &n }
	for _, tc := range []struct {
		name  string
		have  string
		want  *int
		wrote bool
		after string
	}{
		{"none to none", "", nil, false, ""},
		{"none to 100", "", score(100), true, "100"},
		{"the same", "100", score(100), false, "100"},
		{"another", "100", score(1000), true, "1000"},
		{"gone", "1000", nil, true, ""},
		{"infinity is a million", "INFINITY", score(ocf.ScoreInfinity), false, "INFINITY"},
		{"negative infinity", "-INFINITY", score(10), true, "10"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			p, dir := promotion(t)
			if tc.have != "" {
				if err := os.WriteFile(filepath.Join(dir, "value"), []byte(tc.have+"\n"), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			wrote, err := p.Update(t.Context(), tc.want)
			if err != nil || wrote != tc.wrote {
				t.Errorf("wrote %v, %v", wrote, err)
			}
			b, _ := os.ReadFile(filepath.Join(dir, "value"))
			if got := strings.TrimSpace(string(b)); got != tc.after {
				t.Errorf("value %q, want %q", got, tc.after)
			}
			if n := len(calls(t, dir)); tc.wrote != (n == 2) {
				t.Errorf("%d calls", n)
			}
		})
	}
}

func TestPromotionArguments(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct{ feature, node, want string }{
		{"", "node1", "--promotion=registrard --node node1 --delete"},
		{"3.16.2", "", "--promotion=registrard --delete"},
		{"3.10.0", "", "--promotion=registrard --delete"},
		{"3.9.0", "node1", "--name master-registrard --lifetime reboot --node node1 --delete"},
		{"2.19", "", "--name master-registrard --lifetime reboot --delete"},
	} {
		p, dir := promotion(t)
		p.FeatureSet, p.Node = tc.feature, tc.node
		if err := p.Delete(t.Context()); err != nil {
			t.Fatal(err)
		}
		if got := calls(t, dir); got[0] != tc.want {
			t.Errorf("feature set %q: %q, want %q", tc.feature, got[0], tc.want)
		}
	}
}

func TestPromotionErrors(t *testing.T) {
	t.Parallel()
	write := func(dir, name, text string) {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	t.Run("no cluster", func(t *testing.T) {
		t.Parallel()
		p, dir := promotion(t)
		write(dir, "fail", "102")
		_, err := p.Update(t.Context(), nil)
		if err == nil || !strings.Contains(err.Error(), "Could not connect to the CIB") {
			t.Errorf("error %v does not say what crm_attribute said", err)
		}
	})
	t.Run("delete of nothing", func(t *testing.T) {
		t.Parallel()
		p, dir := promotion(t)
		write(dir, "fail", "105")
		if err := p.Delete(t.Context()); err != nil {
			t.Error(err)
		}
	})
	t.Run("not a number", func(t *testing.T) {
		t.Parallel()
		p, dir := promotion(t)
		write(dir, "value", "12 apples")
		if _, err := p.Score(t.Context()); err == nil {
			t.Error("taken")
		}
	})
	t.Run("hangs", func(t *testing.T) {
		t.Parallel()
		p, dir := promotion(t)
		write(dir, "hang", "")
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		defer cancel()
		if err := p.Set(ctx, 1); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("error %v", err)
		}
	})
	t.Run("no resource", func(t *testing.T) {
		t.Parallel()
		if err := (ocf.Promotion{}).Set(t.Context(), 1); err == nil {
			t.Error("written for nobody")
		}
	})
	t.Run("not installed", func(t *testing.T) {
		t.Parallel()
		p := ocf.Promotion{Resource: "x", Command: filepath.Join(t.TempDir(), "none")}
		if err := p.Set(t.Context(), 1); !errors.Is(err, os.ErrNotExist) {
			t.Error(fmt.Sprint(err))
		}
	})
}
