package main

import (
	"bytes"
	"context"
	"encoding/csv"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"

	"sipha/registrard/control"
	"sipha/registrard/store"
)

func TestExitCodes(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		err  error
		want int
	}{
		{nil, 0},
		{failf(exitConfig, "x"), 78},
		{fmt.Errorf("database: %w", store.ErrFuture), 65},
		{fmt.Errorf("database: %w", store.ErrLocked), 69},
		{fmt.Errorf("database: %w", store.ErrFull), 74},
		{fmt.Errorf("database: %w", store.ErrPermission), 77},
		{fmt.Errorf("write: %w", syscall.ENOSPC), 74},
		{fmt.Errorf("open: %w", fs.ErrPermission), 77},
		{fmt.Errorf("listen: %w", syscall.EADDRINUSE), 69},
		{fmt.Errorf("control: %w", control.ErrInUse), 69},
		{fmt.Errorf("mkdir: %w", syscall.ENOTDIR), 73},
		{context.DeadlineExceeded, 75},
		{control.ErrNotFound, 1},
		{control.ErrInvalid, 65},
		{control.ErrNotQuorate, 75},
		{control.ErrPermission, 77},
		{control.ErrUnavailable, 69},
		{control.ErrInternal, 70},
		{errors.New("x"), 70},
	} {
		if got := exitCode(tt.err); got != tt.want {
			t.Errorf("%v: exit code %d, want %d", tt.err, got, tt.want)
		}
	}
}

func TestPrintable(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		"plain ä €": "plain ä €", "a\x1b[31mb": `a\u001b[31mb`, "a\r\nb": `a\u000d\u000ab`, "a\xffb": `a\xffb`, "a\u202eb": `a\u202eb`, "\u2028": `\u2028`, "": "",
		"\x7f\u0085": `\u007f\u0085`,
	} {
		if got := printable(in); got != want {
			t.Errorf("%q: %q, want %q", in, got, want)
		}
	}
}

// FuzzCell writes any text as a cell: a terminal has nothing to act upon, and a spreadsheet no formula.
func FuzzCell(f *testing.F) {
	f.Add("=cmd|' /C calc'!A0")
	f.Add("\x1b]0;title\x07")
	f.Add("\t=1+1")
	f.Fuzz(func(t *testing.T, s string) {
		for _, r := range printable(s) {
			if isUnsafe(r) {
				t.Errorf("%q shows as %q", s, printable(s))
			}
		}
		var b bytes.Buffer
		l := listing{w: &b, csv: csv.NewWriter(&b)}
		if err := l.row("x", s); err != nil {
			t.Fatal(err)
		}
		if err := l.close(); err != nil {
			t.Fatal(err)
		}
		row, err := csv.NewReader(&b).Read()
		if err != nil || len(row) != 2 {
			t.Fatalf("%q reads back as %q, %v", s, row, err)
		}
		if row[1] != "" && strings.ContainsAny(row[1][:1], "=+-@\t\r\n") {
			t.Errorf("%q is the cell %q", s, row[1])
		}
	})
}

// FuzzImport reads any CSV: users that can register, or an error that gives nothing of a row away.
func FuzzImport(f *testing.F) {
	f.Add("alice,example.org,secret\n")
	f.Add("\xef\xbb\xbfuser,domain,password\nalice,example.org,md5:00112233445566778899aabbccddeeff,sha-256:00\n")
	f.Add("a%41 b,example.org,x\n\"q\"\"\",example.org,y")
	f.Fuzz(func(t *testing.T, text string) {
		policy := userPolicy{domains: []string{"example.org"}}
		err := readUsers("f", strings.NewReader(text), policy, func(users []control.User) error {
			if len(users) == 0 || len(users) > importChunk {
				t.Errorf("a chunk of %d", len(users))
			}
			for _, u := range users {
				if u.AOR.Host() != "example.org" || u.Username == "" || u.Realm != "example.org" || u.MD5+u.SHA256+u.SHA512256 == "" {
					t.Errorf("user %+v", u)
				}
			}
			return nil
		})
		if err != nil && exitCode(err) != exitData {
			t.Errorf("%v ends with %d", err, exitCode(err))
		}
	})
}

func TestImportChunks(t *testing.T) {
	t.Parallel()
	var text strings.Builder
	for i := range 2*importChunk + 1 {
		fmt.Fprintf(&text, "u%d,example.org,secret\n", i)
	}
	var sizes []int
	err := readUsers("f", strings.NewReader(text.String()), userPolicy{domains: []string{"example.org"}}, func(users []control.User) error {
		sizes = append(sizes, len(users))
		return nil
	})
	if d := cmp.Diff([]int{importChunk, importChunk, 1}, sizes); err != nil || d != "" {
		t.Errorf("%v (-want +got):\n%s", err, d)
	}
}

func TestListingInParts(t *testing.T) {
	t.Parallel()
	var b bytes.Buffer
	l := listing{w: &b, columns: []string{"n"}}
	l.head()
	for i := range tableRowsMax + 5 {
		if err := l.row(fmt.Sprint(i)); err != nil {
			t.Fatal(err)
		}
	}
	if b.Len() == 0 {
		t.Error("nothing written before the end: all of it is kept")
	}
	if err := l.close(); err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSpace(b.String()), "\n")
	rows := 0
	for _, line := range lines {
		if line == fmt.Sprint(rows) {
			rows++
		}
	}
	if rows != tableRowsMax+5 {
		t.Errorf("%d rows in order, want %d", rows, tableRowsMax+5)
	}
}

func TestLog(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		format, level string
		journal       bool
		want          string
	}{
		{"text", "info", true, "level=INFO msg=x a=1\n"},
		{"json", "warn", true, ""},
		{"json", "info", true, `{"level":"INFO","msg":"x","a":1}` + "\n"},
	} {
		var b bytes.Buffer
		c := newConfig()
		c.LogFormat, c.LogLevel = tt.format, tt.level
		log, level, err := newLog(c, &b, tt.journal)
		if err != nil {
			t.Fatal(err)
		}
		log.Info("x", "a", 1)
		if b.String() != tt.want {
			t.Errorf("%+v: %q", tt, b.String())
		}
		level.Set(slog.LevelDebug)
		b.Reset()
		log.Debug("y")
		if b.Len() == 0 {
			t.Errorf("%+v: the level does not change", tt)
		}
	}
}

func TestOptionsFirst(t *testing.T) {
	t.Parallel()
	app := (&program{}).app()
	for in, want := range map[string]string{
		"r users add a@b --json --password x":      "r users add --json --password x a@b",
		"r users add --password x a@b":             "r users add --password x a@b",
		"r users add a@b -- --json":                "r users add -- a@b --json",
		"r users import - --timeout 5s":            "r users import --timeout 5s -",
		"r contacts remove a@b --all":              "r contacts remove --all a@b",
		"r contacts remove a@b --socket=x c --all": "r contacts remove --socket=x --all a@b c",
		"r nonsense --x y":                         "r --x nonsense y",
		"r":                                        "r",
	} {
		if got := strings.Join(optionsFirst(app, strings.Fields(in)), " "); got != want {
			t.Errorf("%q: %q, want %q", in, got, want)
		}
	}
}
