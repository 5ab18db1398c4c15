package main

import (
	"fmt"
	"os"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/urfave/cli/v2"
)

// TestConfigurationDocumented holds docs/configuration.md and the table of settings together.
func TestConfigurationDocumented(t *testing.T) {
	t.Parallel()
	defaults := newConfig()
	var rows []string
	for _, s := range settings() {
		var marks []string
		if s.equal {
			marks = append(marks, "equal")
		}
		if s.reload {
			marks = append(marks, "reload")
		}
		rows = append(rows, fmt.Sprintf("| `%s` | `%s` | %s | %s |", s.key(), formatValue(s.at(defaults)), strings.Join(marks, ", "), s.doc))
	}
	checkDocument(t, "../docs/configuration.md", rows)
}

// TestConfigurationExample reads the example of the documentation.
func TestConfigurationExample(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("../docs/configuration.md")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, ok := strings.Cut(string(text), "```toml\n")
	example, _, ok2 := strings.Cut(rest, "```")
	if !ok || !ok2 {
		t.Fatal("no example")
	}
	if _, err := loadConfig(from(writeFile(t, example), nil, nil)); err != nil {
		t.Error(err)
	}
}

// TestCommandsDocumented holds docs/cli.md and the commands together.
func TestCommandsDocumented(t *testing.T) {
	t.Parallel()
	var rows []string
	var walk func(prefix string, commands []*cli.Command)
	walk = func(prefix string, commands []*cli.Command) {
		for _, c := range commands {
			name := prefix + " " + c.Name
			if len(c.Subcommands) > 0 {
				walk(name, c.Subcommands)
				continue
			}
			rows = append(rows, fmt.Sprintf("| `%s` | %s |", strings.TrimSpace(name+" "+c.ArgsUsage), c.Usage))
			if c.Name != "run" && !hasFlag(c, "json") {
				t.Errorf("%s has no --json", name)
			}
		}
	}
	walk("registrard", (&program{}).app().Commands)
	checkDocument(t, "../docs/cli.md", rows)
}

func hasFlag(c *cli.Command, name string) bool {
	for _, f := range c.Flags {
		for _, n := range f.Names() {
			if n == name {
				return true
			}
		}
	}
	return false
}

// TestExitCodesDocumented holds the table of exit codes in docs/cli.md and the constants together.
func TestExitCodesDocumented(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("../docs/cli.md")
	if err != nil {
		t.Fatal(err)
	}
	got := make(map[int]bool)
	for _, m := range regexp.MustCompile(`(?m)^\| (\d+) \|`).FindAllStringSubmatch(string(text), -1) {
		n, err := strconv.Atoi(m[1])
		if err != nil {
			t.Fatal(err)
		}
		got[n] = true
	}
	source, err := os.ReadFile("exit.go")
	if err != nil {
		t.Fatal(err)
	}
	want := 0
	for _, m := range regexp.MustCompile(`(?m)^\texit\w+ += (\d+)`).FindAllStringSubmatch(string(source), -1) {
		n, err := strconv.Atoi(m[1])
		if err != nil {
			t.Fatal(err)
		}
		if want++; !got[n] {
			t.Errorf("exit code %d is not in docs/cli.md", n)
		}
	}
	if want != len(got) || want == 0 {
		t.Errorf("%d exit codes in docs/cli.md, %d in exit.go", len(got), want)
	}
}
