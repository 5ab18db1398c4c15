//go:build cluster

package acceptance

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"sipha/scripts/internal/sipload"
)

const (
	// database is where the lab's configuration has it.
	database = "/var/lib/registrard/registrard/location.db"
	// tablesMax is how long the tables may take to hold what is committed; the log has it before.
	tablesMax = 15 * time.Second
	readMax   = 30 * time.Second

	complaintsMax = 10
)

// sqlite asks a node's database, as an operator could.
func (c stage) sqlite(t *testing.T, node, query string) []byte {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), readMax)
	defer cancel()
	out, err := c.Lab.Exec(ctx, node, "sqlite3", "-readonly", "-json", "-cmd", ".timeout 5000", database, query)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// awaitTables waits until every node's daemon names the same digest of its content, and every node's database holds it.
func (c stage) awaitTables(t *testing.T) {
	t.Helper()
	var last string
	for deadline := time.Now().Add(tablesMax); time.Now().Before(deadline); wait(t, poll) {
		if last = c.differing(t); last == "" {
			return
		}
	}
	t.Fatalf("the nodes' content is not the same after %v: %s", tablesMax, last)
}

// differing says what is not the same on all nodes.
func (c stage) differing(t *testing.T) string {
	t.Helper()
	var digests []string
	for _, n := range c.nodes(t) {
		s, err := c.ask(t.Context(), n)
		if err != nil {
			return err.Error()
		}
		var meta []struct{ Digest string }
		if err := json.Unmarshal(c.sqlite(t, n, "SELECT lower(hex(digest)) AS digest FROM meta"), &meta); err != nil || len(meta) != 1 {
			t.Fatalf("%s: %v, %d rows of meta", n, err, len(meta))
		}
		digests = append(digests, s.Digest, meta[0].Digest)
	}
	if len(slices.Compact(slices.Clone(digests))) != 1 {
		return fmt.Sprintf("digests, as each node's daemon says and its database: %q", digests)
	}
	return ""
}

// checkTables compares every node's database with the promises, and with each other.
func (c stage) checkTables(t *testing.T, crowd *crowd) {
	t.Helper()
	c.awaitTables(t)
	var first []row
	for i, n := range c.nodes(t) {
		rows := c.rows(t, n, "WHERE aor LIKE 'sip:u%'")
		if i == 0 {
			first = rows
		} else if !slices.Equal(rows, first) {
			t.Errorf("%s: the table binding differs from the first node's, though the digests are equal", n)
		}
		complain(t, n+"'s database", crowd.book.checkRows(rows, flow{received: "udp:" + crowd.host, socket: "udp:" + vip().String()}))
	}
}

// rows reads a node's bindings.
func (c stage) rows(t *testing.T, node, where string) []row {
	t.Helper()
	out := c.sqlite(t, node, "SELECT * FROM binding "+where+" ORDER BY aor, contact")
	var rows []row
	if err := json.Unmarshal(out, &rows); err != nil && len(out) > 0 {
		t.Fatalf("%s: %v", node, err)
	}
	return rows
}

// complain reports broken promises, the first of them in full.
func complain(t *testing.T, where string, broken []string) {
	t.Helper()
	if len(broken) > 0 {
		t.Errorf("%s: %d promises are broken:\n%s", where, len(broken), strings.Join(broken[:min(len(broken), complaintsMax)], "\n"))
	}
}

// checkPhones asks for every account's bindings through the virtual address and compares them with the promises.
func checkPhones(t *testing.T, crowd *crowd, added time.Duration) {
	t.Helper()
	var broken []string
	stats := crowd.client.Load(t.Context(), 0, func(yield func(sipload.Registration) bool) {
		for _, a := range crowd.accounts {
			if !yield(sipload.Registration{Account: a}) {
				return
			}
		}
	}, func(r sipload.Registration, a *sipload.Answer, err error) {
		if err != nil {
			broken = append(broken, err.Error())
			return
		}
		broken = append(broken, crowd.book.ledger.Check(r.Account, a, added)...)
		broken = append(broken, crowd.book.checkShown(r.Account, a)...)
	})
	complain(t, "through SIP", broken)
	t.Logf("%d queries in %v: %v", len(crowd.accounts), stats.Elapsed.Round(time.Millisecond), stats.ByStatus)
}
