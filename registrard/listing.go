package main

import (
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/urfave/cli/v2"

	"sipha/registrard/control"
)

// tableRowsMax is how many rows of a table are measured together: more of them are written in tables of their own width, so that a list
// of a million contacts needs no memory.
const tableRowsMax = 10_000

// listing writes a list that comes in pages: as a table, as CSV, or as a JSON array.
type listing struct {
	w       io.Writer
	columns []string
	json    bool
	csv     *csv.Writer // nil: a table
	table   table
	objects int
}

// newListing takes the form from the flags --json and --csv.
func newListing(c *cli.Context, w io.Writer, columns []string) (*listing, error) {
	l := &listing{w: w, columns: columns, json: c.Bool("json")}
	if c.Bool("csv") {
		if l.json {
			return nil, failf(exitUsage, "either --json or --csv")
		}
		l.csv = csv.NewWriter(w)
		return l, l.csv.Write(columns)
	}
	if !l.json {
		l.head()
	}
	return l, nil
}

func (l *listing) head() {
	names := make([]string, 0, len(l.columns))
	for _, c := range l.columns {
		names = append(names, strings.ToUpper(c))
	}
	l.table.add(names...)
}

// object adds one record in JSON; row adds the same for people and spreadsheets.
func (l *listing) object(v any) error {
	if !l.json {
		return nil
	}
	lead := ",\n"
	if l.objects == 0 {
		lead = "[\n"
	}
	l.objects++
	b, err := marshalPlain(v)
	if err == nil {
		_, err = fmt.Fprintf(l.w, "%s%s", lead, b)
	}
	return err
}

func (l *listing) row(cells ...string) error {
	switch {
	case l.json:
		return nil
	case l.csv != nil:
		for i, c := range cells {
			cells[i] = spreadsheetSafe(c)
		}
		return l.csv.Write(cells)
	}
	for i, c := range cells {
		cells[i] = orDash(c)
	}
	l.table.add(cells...)
	if len(l.table.rows) < tableRowsMax {
		return nil
	}
	err := l.table.write(l.w)
	l.table.rows = nil
	l.head()
	return err
}

func (l *listing) close() error {
	switch {
	case l.json && l.objects == 0:
		_, err := fmt.Fprintln(l.w, "[]")
		return err
	case l.json:
		_, err := fmt.Fprintln(l.w, "\n]")
		return err
	case l.csv != nil:
		l.csv.Flush()
		return l.csv.Error()
	}
	return l.table.write(l.w)
}

// spreadsheetSafe keeps a spreadsheet from taking what a phone sent for a formula: such a cell begins with an apostrophe (CWE-1236).
// Control characters come out as escapes.
func spreadsheetSafe(s string) string {
	if strings.HasPrefix(s, "=") || strings.HasPrefix(s, "+") || strings.HasPrefix(s, "-") || strings.HasPrefix(s, "@") ||
		strings.HasPrefix(s, "\t") || strings.HasPrefix(s, "\r") {
		s = "'" + s
	}
	return printable(s)
}

// marshalPlain is JSON on one line, with HTML's special characters as they are.
func marshalPlain(v any) ([]byte, error) {
	var b strings.Builder
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		return nil, err
	}
	return []byte(strings.TrimSuffix(b.String(), "\n")), nil
}

func writeJSONLine(w io.Writer, v any) error {
	b, err := marshalPlain(v)
	if err == nil {
		_, err = fmt.Fprintf(w, "%s\n", b)
	}
	return err
}

// notFound puts ErrNotFound into words that fit what was asked for; other errors stay.
func notFound(err error, format string, a ...any) error {
	if errors.Is(err, control.ErrNotFound) {
		return failf(exitRefused, format, a...)
	}
	return err
}
