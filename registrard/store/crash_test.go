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
	} else if limit != "" && limit != manual {
		n, _ := strconv.ParseUint(limit, 10, 64)
		if err := syscall.Setrlimit(syscall.RLIMIT_FSIZE, &syscall.Rlimit{Cur: n, Max: n}); err != nil {
			fmt.Println(err)
			return 2
		}
	}
	opts := store.Options{Durable: true}
	if limit == manual {
		opts = store.Manual(opts)
	}
	s, rec, err := store.Open(dir, opts)
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

// manual is the limit of a writer whose flusher does not run.
const manual = "manual"

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

// What a write-ahead log loses at its end is a suffix: tables, log and position are those of an earlier moment. Where part of what is
// lost had been moved into the file already, they are of no moment at all, and that must be noticed.
func TestTruncatedWAL(t *testing.T) {
	t.Parallel()
	for _, limit := range []string{manual, ""} {
		dir := killedAfter(t, limit, 300)
		wal, err := os.ReadFile(filepath.Join(dir, "location.db-wal"))
		if err != nil {
			t.Fatal(err)
		}
		kept := map[uint64]bool{}
		for part := range 8 {
			again := filepath.Join(t.TempDir(), "db")
			if err := os.CopyFS(again, os.DirFS(dir)); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(filepath.Join(again, "location.db-wal"), wal[:len(wal)*(part+1)/9+part], 0o600); err != nil {
				t.Fatal(err)
			}
			if err := os.Remove(filepath.Join(again, "location.db-shm")); err != nil { // it is that of the running system
				t.Fatal(err)
			}
			kept[openEarlier(t, again, limit == "")] = true
		}
		if limit == manual && len(kept) < 4 {
			t.Errorf("hardly anything was lost: %v", kept)
		}
	}
}

// killedAfter is the directory of a writer that was killed after so many entries.
func killedAfter(t *testing.T, limit string, entries int) string {
	t.Helper()
	dir := t.TempDir()
	cmd, lines := startWriter(t, dir, limit)
	for range entries {
		next(t, lines)
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	for range lines { // to its end
	}
	_ = cmd.Wait() // killed
	return dir
}

// openEarlier opens a database that may have lost its end, and returns where its log ends.
func openEarlier(t *testing.T, dir string, mayBeAside bool) uint64 {
	t.Helper()
	s, rec, err := store.Open(dir, store.Manual(store.Options{Durable: true}))
	if err != nil {
		t.Fatal(err)
	}
	_, last, _ := s.Position()
	if rec.SetAside != "" {
		if !mayBeAside || rec.New == "" || last.Index != 0 {
			t.Errorf("set aside is %q, and it ends at %s", rec.SetAside, last)
		}
	} else if want, wantLast := model(last.Index); last != wantLast {
		t.Errorf("it ends at %s, want %s with %+v", last, wantLast, want.Counts())
	} else if at, _ := model(rec.Applied.Index); at.Digest() != rec.State.Digest() {
		t.Errorf("the tables are not those of %d", rec.Applied.Index)
	}
	if err := s.Close(true); err != nil {
		t.Fatal(err)
	}
	return last.Index
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
