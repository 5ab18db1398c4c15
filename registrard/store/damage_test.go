package store_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"sipha/registrard/location"
	"sipha/registrard/store"
)

// damaged opens a database after its files were tampered with: nothing false may be served.
func damaged(t *testing.T, name string, tamper func(dir string)) {
	t.Helper()
	r := newReplica(t, true)
	r.do(everything()...)
	for n := range 200 {
		r.do(putContact(location.AOR(fmt.Sprintf("sip:u%d@example.org", n)), "sip:c@192.0.2.1", 1))
	}
	disk := r.rec.Disk
	if err := r.store.SavePromise(location.Epoch{Number: 4}); err != nil {
		t.Fatal(err)
	}
	r.close(true)
	tamper(r.dir)
	r.open()
	if r.rec.SetAside == "" || r.rec.New == "" || r.rec.Disk == disk {
		t.Errorf("%s: it is opened as %q, aside %q", name, r.rec.New, r.rec.SetAside)
		return
	}
	if r.rec.State.Digest() != (location.Digest{}) || len(r.rec.Log) != 0 || r.rec.Applied.Index != 0 {
		t.Errorf("%s: something of it is served: %+v", name, r.rec)
	}
	if _, err := os.Stat(r.rec.SetAside); err != nil {
		t.Errorf("%s: it is not kept: %v", name, err)
	}
	if r.rec.Promised.Number != 4 && !strings.Contains(r.rec.SetAside, "identity") {
		t.Errorf("%s: the promise is forgotten", name)
	}
	r.state, r.log, r.last, r.applied = r.rec.State, nil, location.Position{}, 0
	r.do(putContact(alice, "sip:new@192.0.2.1", 1)) // it can be used
	r.close(true)
	r.open()
	r.check()
}

func edit(t *testing.T, path string, fn func([]byte) []byte) {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, fn(b), 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestDamaged(t *testing.T) {
	t.Parallel()
	file := func(fn func([]byte) []byte) func(string) {
		return func(dir string) { edit(t, filepath.Join(dir, "location.db"), fn) }
	}
	sql := func(statements string) func(string) {
		return func(dir string) {
			if err := store.Exec(filepath.Join(dir, "location.db"), statements); err != nil {
				t.Fatal(err)
			}
		}
	}
	for name, tamper := range map[string]func(string){
		"head":             file(func(b []byte) []byte { b[3] ^= 1; return b }),
		"page of a table":  file(func(b []byte) []byte { clear(b[len(b)/2 : len(b)/2+4096]); return b }),
		"cut short":        file(func(b []byte) []byte { return b[:len(b)/2] }),
		"garbage":          file(func([]byte) []byte { return []byte(strings.Repeat("garbage ", 2000)) }),
		"a letter, first":  file(func(b []byte) []byte { i := strings.Index(string(b), "sip:u77@"); b[i+5] = '8'; return b }),
		"a letter, last":   file(func(b []byte) []byte { i := strings.LastIndex(string(b), "sip:u77@"); b[i+5] = '8'; return b }),
		"row gone":         sql("DELETE FROM binding WHERE aor='sip:u7@example.org'"),
		"row changed":      sql("UPDATE binding SET expires=expires+1 WHERE aor='sip:u7@example.org'"),
		"user added":       sql("INSERT INTO user VALUES ('sip:eve@example.org','eve','example.org',NULL,NULL,NULL)"),
		"time changed":     sql("UPDATE meta SET added=added+1"),
		"position changed": sql("UPDATE meta SET idx=idx+1"),
		"digest of a type": sql("UPDATE meta SET digest='x'"),
		"log with a gap":   sql("DELETE FROM log WHERE idx=200"),
		"log of another":   sql("UPDATE log SET epoch_number=9 WHERE idx=200"),
		"log ends early":   sql("DELETE FROM log WHERE idx>200"),
		"table gone":       sql("DROP TABLE tombstone"),
		"meta gone":        sql("DELETE FROM meta"),
		"of another kind":  sql("PRAGMA application_id=1"),
		"version 0":        sql("PRAGMA user_version=0"),
		"identity": func(dir string) {
			edit(t, filepath.Join(dir, "identity"), func(b []byte) []byte { b[20] ^= 1; return b })
		},
		"identity empty": func(dir string) { edit(t, filepath.Join(dir, "identity"), func([]byte) []byte { return nil }) },
	} {
		if strings.HasPrefix(name, "identity") {
			damagedIdentity(t, name, tamper)
			continue
		}
		damaged(t, name, tamper)
	}
}

// damagedIdentity loses the promise, not the content.
func damagedIdentity(t *testing.T, name string, tamper func(string)) {
	t.Helper()
	r := newReplica(t, true)
	r.do(everything()...)
	disk := r.rec.Disk
	r.close(true)
	tamper(r.dir)
	r.open()
	if r.rec.Disk == disk || r.rec.New == "" || !strings.Contains(r.rec.SetAside, "identity.damaged-") {
		t.Errorf("%s: it is opened as %q, aside %q", name, r.rec.New, r.rec.SetAside)
	}
	r.check()
}

func TestFuture(t *testing.T) {
	t.Parallel()
	for name, tamper := range map[string]func(dir string) error{
		"schema": func(dir string) error { return store.Exec(filepath.Join(dir, "location.db"), "PRAGMA user_version=2") },
		"identity": func(dir string) error {
			b, err := os.ReadFile(filepath.Join(dir, "identity"))
			if err == nil {
				b[len("registrard-id\r\n\x1a")+1]++
				err = os.WriteFile(filepath.Join(dir, "identity"), b, 0o600)
			}
			return err
		},
	} {
		r := newReplica(t, true)
		r.do(everything()...)
		r.close(true)
		if err := tamper(r.dir); err != nil {
			t.Fatal(err)
		}
		before := listing(t, r.dir)
		_, _, err := store.Open(r.dir, store.Options{})
		var e *store.Error
		if !errors.Is(err, store.ErrFuture) || !errors.As(err, &e) || !strings.Contains(err.Error(), "install the version") {
			t.Errorf("%s: error is %v", name, err)
		}
		if after := listing(t, r.dir); before != after {
			t.Errorf("%s: the directory was changed from %s to %s", name, before, after)
		}
	}
}

func listing(t *testing.T, dir string) string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return strings.Join(names, " ")
}

func TestPermission(t *testing.T) {
	t.Parallel()
	if os.Getuid() == 0 {
		t.Skip("root may do everything")
	}
	for name, path := range map[string]string{"directory": "", "database": "location.db", "identity": "identity"} {
		r := newReplica(t, true)
		r.close(true)
		if err := os.Chmod(filepath.Join(r.dir, path), 0); err != nil {
			t.Fatal(err)
		}
		if _, _, err := store.Open(r.dir, store.Options{}); !errors.Is(err, store.ErrPermission) {
			t.Errorf("%s: error is %v", name, err)
		}
		if err := os.Chmod(filepath.Join(r.dir, path), 0o700); err != nil {
			t.Fatal(err)
		}
	}
}

func TestNotADirectory(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, _, err := store.Open(path, store.Options{}); err == nil {
		t.Error("a file is opened as a directory")
	}
}
