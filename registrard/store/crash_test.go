package store_test

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"sipha/registrard/location"
	"sipha/registrard/store"
)

// TestMain lets the test binary be the process that is killed.
func TestMain(m *testing.M) {
	if dir := os.Getenv("STORE_TEST_WRITER"); dir != "" {
		os.Exit(writer(dir, os.Getenv("STORE_TEST_LIMIT")))
	}
	goleak.VerifyTestMain(m)
}

// entryOf is the n-th entry of a log that everybody can make for himself: the digest of entry n is that of the content after it.
func entriesOf(o *location.Overlay, prev location.Position, n int) (location.Entry, []location.Change) {
	aor := location.AOR(fmt.Sprintf("sip:u%d@example.org", n%50))
	changes := []location.Change{putContact(aor, fmt.Sprintf("sip:c%d@192.0.2.1", n%3), uint32(n))}
	if n%7 == 0 {
		changes = []location.Change{
			&location.BindingsChange{AOR: aor, Remove: []string{"sip:c0@192.0.2.1"}, Bury: []location.Tombstone{{Contact: "x", CallID: "y", CSeq: uint32(n)}}},
			&location.TimeChange{Added: 1},
		}
	}
	e := location.Entry{
		Position: location.Position{Epoch: location.Epoch{Number: 1}, Index: prev.Index + 1, Digest: o.Stage(changes)},
		Prev:     prev, Time: location.Time(n), Kind: location.KindChanges, Payload: location.AppendChanges(nil, changes),
	}
	return e, changes
}

// writer writes entries until it is killed or fails, and prints the index of each that is stored. Every entry is applied when the next
// one is logged, some with it and some later.
func writer(dir, limit string) int {
	if size, ok := strings.CutPrefix(limit, "tmpfs:"); ok {
		if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size="+size); err != nil {
			fmt.Println(err)
			return 2
		}
	} else if limit != "" {
		n, _ := strconv.ParseUint(limit, 10, 64)
		if err := syscall.Setrlimit(syscall.RLIMIT_FSIZE, &syscall.Rlimit{Cur: n, Max: n}); err != nil {
			fmt.Println(err)
			return 2
		}
	}
	s, rec, err := store.Open(dir, store.Options{Durable: true})
	if err != nil {
		fmt.Println(err)
		return 1
	}
	state, overlay := rec.State, location.NewOverlay(rec.State)
	last := rec.Applied
	var batch store.Batch
	for _, e := range rec.Log {
		if e.Position.Index <= rec.Applied.Index {
			continue
		}
		changes, err := location.DecodeChanges(e.Payload)
		if err != nil {
			fmt.Println(err)
			return 1
		}
		state.Apply(e.Time, changes)
		overlay.Reset()
		batch.Apply = append(batch.Apply, store.Committed{Position: e.Position, Time: e.Time, Changes: changes})
		last = e.Position
	}
	for n := int(last.Index) + 1; ; n++ {
		e, changes := entriesOf(overlay, last, n)
		batch.Append = []location.Entry{e}
		if err := s.Write(batch); err != nil {
			fmt.Println(err)
			return 1
		}
		fmt.Println(n)
		batch.Apply = batch.Apply[:0:0]
		batch.Apply = append(batch.Apply, store.Committed{Position: e.Position, Time: e.Time, Changes: changes})
		state.Apply(e.Time, changes)
		overlay.Committed()
		last = e.Position
	}
}

// startWriter runs the writer; the channel gives the lines that it prints, and is closed at its end.
func startWriter(t *testing.T, dir, limit string) (*exec.Cmd, <-chan string) {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(exe)
	cmd.Env = append(os.Environ(), "STORE_TEST_WRITER="+dir, "STORE_TEST_LIMIT="+limit)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if strings.HasPrefix(limit, "tmpfs:") { // a mount of its own, which goes with it
		cmd.SysProcAttr = &syscall.SysProcAttr{Unshareflags: syscall.CLONE_NEWNS}
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill() // it may have ended
		_ = cmd.Wait()
	})
	lines := make(chan string, 1024)
	go func() {
		defer close(lines)
		for in := bufio.NewScanner(out); in.Scan(); {
			lines <- in.Text()
		}
	}()
	return cmd, lines
}

// next is the next line within a deadline; "" at the end.
func next(t *testing.T, lines <-chan string) string {
	t.Helper()
	select {
	case line := <-lines:
		return line
	case <-time.After(time.Minute):
		t.Fatal("the writer is silent")
		return ""
	}
}

// model is the content after n entries.
func model(n uint64) (*location.State, location.Position) {
	s := location.NewState()
	o := location.NewOverlay(s)
	var last location.Position
	for i := range int(n) {
		e, changes := entriesOf(o, last, i+1)
		s.Apply(e.Time, changes)
		o.Committed()
		last = e.Position
	}
	return s, last
}

// checkWritten opens the database and compares it with the model. It must have at least what the writer told.
func checkWritten(t *testing.T, dir string, told uint64) {
	t.Helper()
	s, rec, err := store.Open(dir, store.Options{Durable: true})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := s.Close(true); err != nil {
			t.Error(err)
		}
	}()
	_, last, _ := s.Position()
	if last.Index < told || last.Index > told+1 {
		t.Fatalf("the log ends at %d, and the writer had told of %d", last.Index, told)
	}
	want, wantLast := model(last.Index)
	if last != wantLast {
		t.Fatalf("the log ends at %s, want %s", last, wantLast)
	}
	if at, _ := model(rec.Applied.Index); rec.State.Digest() != at.Digest() {
		t.Fatalf("the tables are not what they must be at %d", rec.Applied.Index)
	}
	for _, e := range rec.Log {
		if e.Position.Index > rec.Applied.Index {
			changes, err := location.DecodeChanges(e.Payload)
			if err != nil {
				t.Fatal(err)
			}
			rec.State.Apply(e.Time, changes)
		}
	}
	sameContent(t, want, rec.State)
}

func TestKilledWhileWriting(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	told := uint64(0)
	for round := range 6 {
		cmd, lines := startWriter(t, dir, "")
		for range 100 + 70*round {
			n, err := strconv.ParseUint(next(t, lines), 10, 64)
			if err != nil {
				t.Fatal(err)
			}
			told = n
		}
		if err := cmd.Process.Signal(syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
		for line := range lines { // what it had told before it died
			told, _ = strconv.ParseUint(line, 10, 64)
		}
		_ = cmd.Wait() // killed
		checkWritten(t, dir, told)
	}
}

// A limit of the file size does to a process what a full disk does, at every place where a file can grow.
func TestDiskFull(t *testing.T) {
	t.Parallel()
	for _, limit := range []int{50_000, 200_000, 1_000_000} {
		dir := t.TempDir()
		_, lines := startWriter(t, dir, strconv.Itoa(limit))
		told, last := uint64(0), ""
		for line := next(t, lines); line != ""; line = next(t, lines) {
			if n, err := strconv.ParseUint(line, 10, 64); err == nil {
				told = n
			}
			last = line
		}
		if !strings.Contains(last, "the disk is full") || !strings.Contains(last, "free some space") {
			t.Errorf("with %d bytes it ends with: %s", limit, last)
		}
		if told == 0 && limit > 200_000 {
			t.Errorf("with %d bytes nothing was written", limit)
		}
		checkWritten(t, dir, told)
	}
}

func TestFileSystemFull(t *testing.T) {
	t.Parallel()
	if os.Getuid() != 0 {
		t.Skip("only root may mount a small file system")
	}
	for _, size := range []string{"40k", "200k", "1m"} {
		_, lines := startWriter(t, t.TempDir(), "tmpfs:"+size)
		last := ""
		for line := next(t, lines); line != ""; line = next(t, lines) {
			last = line
		}
		if !strings.Contains(last, "the disk is full") || !strings.Contains(last, "free some space") {
			t.Errorf("in %s it ends with: %s", size, last)
		}
	}
}

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

// What a write-ahead log loses at its end is a suffix: tables, log and position are those of an earlier moment.
func TestTruncatedWAL(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	cmd, lines := startWriter(t, dir, "")
	for range 300 {
		next(t, lines)
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	for range lines { // to its end
	}
	_ = cmd.Wait() // killed
	wal, err := os.ReadFile(filepath.Join(dir, "location.db-wal"))
	if err != nil {
		t.Fatal(err)
	}
	lengths := []uint64{}
	for part := range 8 {
		again := t.TempDir()
		if err := os.CopyFS(filepath.Join(again, "db"), os.DirFS(dir)); err != nil {
			t.Fatal(err)
		}
		path := filepath.Join(again, "db", "location.db-wal")
		if err := os.WriteFile(path, wal[:len(wal)*(part+1)/9+part], 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Remove(filepath.Join(again, "db", "location.db-shm")); err != nil { // it is that of the running system
			t.Fatal(err)
		}
		s, rec, err := store.Open(filepath.Join(again, "db"), store.Options{Durable: true})
		if err != nil {
			t.Fatal(err)
		}
		_, last, _ := s.Position()
		if want, wantLast := model(last.Index); last != wantLast || rec.SetAside != "" {
			t.Errorf("it ends at %s, want %s with %+v; set aside %q", last, wantLast, want.Counts(), rec.SetAside)
		}
		if at, _ := model(rec.Applied.Index); at.Digest() != rec.State.Digest() {
			t.Errorf("the tables are not those of %d", rec.Applied.Index)
		}
		lengths = append(lengths, last.Index)
		if err := s.Close(true); err != nil {
			t.Fatal(err)
		}
	}
	if lengths[0] >= lengths[len(lengths)-1] {
		t.Errorf("nothing was lost: %v", lengths)
	}
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

// Only the youngest of what was set aside is kept.
func TestSetAside(t *testing.T) {
	t.Parallel()
	r := newReplica(t, true)
	disks := map[location.DiskID]bool{r.rec.Disk: true}
	for range 5 {
		r.do(putContact(alice, "sip:a@192.0.2.1", 1))
		r.now = r.now.Add(time.Second)
		path, rec, err := r.store.SetAside("outvoted")
		if err != nil {
			t.Fatal(err)
		}
		if disks[rec.Disk] || rec.Disk != r.store.Disk() || rec.Applied.Index != 0 || rec.SetAside != path {
			t.Errorf("after it was set aside: %+v", rec)
		}
		disks[rec.Disk] = true
		if reason, err := os.ReadFile(path + "-reason"); err != nil || string(reason) != "outvoted\n" {
			t.Errorf("reason is %q, %v", reason, err)
		}
		r.rec, r.state, r.log, r.last, r.applied = rec, rec.State, nil, location.Position{}, 0
	}
	files, err := filepath.Glob(filepath.Join(r.dir, "location.db.damaged-*Z"))
	if err != nil || len(files) != 3 {
		t.Errorf("kept are %v, %v", files, err)
	}
	if len(files) > 0 && strings.Contains(files[0], "T221320") {
		t.Error("the oldest is kept")
	}
	r.do(putContact(alice, "sip:a@192.0.2.1", 1))
	r.close(false)
	r.open()
	r.check()
}

// A crash at any moment of the exchange of the database for a snapshot leaves the one or the other.
func TestCrashWhileInstalling(t *testing.T) {
	t.Parallel()
	donor, joiner := newReplica(t, true), newReplica(t, true)
	donor.do(everything()...)
	joiner.do(putContact(alice, "sip:old@192.0.2.1", 1))
	staging := stage(t, donor, joiner)
	before := joiner.dir + ".before"
	if err := os.CopyFS(before, os.DirFS(joiner.dir)); err != nil {
		t.Fatal(err)
	}
	end := snapshotEnd(t, donor)
	if _, err := staging.Finish(end); err != nil {
		t.Fatal(err)
	}
	joiner.close(true)

	// The staged file was complete, the identity said so, and then the power went: the old files are still there.
	swapping := joiner.dir + ".swapping"
	if err := os.CopyFS(swapping, os.DirFS(before)); err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(filepath.Join(joiner.dir, "location.db"))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(swapping, "location.db.staging"), b, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := store.MarkSwapping(swapping); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]*location.State{swapping: donor.state, before: joiner.state} {
		for _, stale := range []string{"", "location.db-wal"} {
			dir := name + ".copy" + stale
			if err := os.CopyFS(dir, os.DirFS(name)); err != nil {
				t.Fatal(err)
			}
			if stale != "" && name == swapping {
				if err := os.Remove(filepath.Join(dir, stale)); err != nil { // the exchange had come a step further
					t.Fatal(err)
				}
			} else if stale != "" {
				continue
			}
			s, rec, err := store.Open(dir, store.Options{Durable: true})
			if err != nil {
				t.Fatal(err)
			}
			if rec.SetAside != "" || rec.New != "" {
				t.Errorf("%s: set aside %q, new %q", filepath.Base(dir), rec.SetAside, rec.New)
			}
			for _, e := range rec.Log[min(len(rec.Log), int(rec.Applied.Index)):] {
				changes, err := location.DecodeChanges(e.Payload)
				if err != nil {
					t.Fatal(err)
				}
				rec.State.Apply(e.Time, changes)
			}
			sameContent(t, want, rec.State)
			if err := s.Close(true); err != nil {
				t.Fatal(err)
			}
			if names := listing(t, dir); strings.Contains(names, "staging") {
				t.Errorf("left over: %s", names)
			}
		}
	}
}

func stage(t *testing.T, donor, joiner *replica) *store.Staging {
	t.Helper()
	snapshot, err := donor.store.Snapshot()
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := snapshot.Close(); err != nil {
			t.Error(err)
		}
	}()
	staging, err := joiner.store.Stage()
	if err != nil {
		t.Fatal(err)
	}
	for {
		chunk, err := snapshot.Next(store.ChunkBytesMax)
		if errors.Is(err, io.EOF) {
			return staging
		}
		if err == nil {
			err = staging.Write(chunk)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

func snapshotEnd(t *testing.T, donor *replica) store.SnapshotEnd {
	t.Helper()
	snapshot, err := donor.store.Snapshot()
	if err != nil {
		t.Fatal(err)
	}
	end := snapshot.End()
	if err := snapshot.Close(); err != nil {
		t.Fatal(err)
	}
	return end
}
