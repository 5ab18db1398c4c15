package supervise

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// Names of the files in a Directory. The daemon keeps its control socket beside them.
const (
	pidFile      = "pid"      // the daemon, as Process.String
	waiterFile   = "waiter"   // its waiter, as Process.String
	cgroupFile   = "cgroup"   // path of its cgroup
	exitFile     = "exit"     // how it ended: Exit as JSON
	commandFile  = "command"  // how it was started: Command as JSON
	promotedFile = "promoted" // there while the daemon is promoted, or was when it died
	stoppingFile = "stopping" // there while it is being stopped on purpose
	demotedFile  = "demoted"  // there once a daemon that was dead, or was killed for it, has been demoted

	fileMaxBytes = 64 << 10
)

// Directory is where what is known about one instance lies between two runs of the agent, such as /run/registrard/registrard. It is
// on a file system that a boot empties.
type Directory struct{ Path string }

// Create makes the directory.
func (d Directory) Create() error {
	if err := os.MkdirAll(d.Path, 0o755); err != nil {
		return fmt.Errorf("make directory: %w", err)
	}
	return nil
}

// Clear forgets the instance: first its process, so that half a Clear leaves no trace of a crash.
func (d Directory) Clear() error {
	for _, name := range []string{pidFile, exitFile, promotedFile, demotedFile, commandFile, cgroupFile, waiterFile, stoppingFile} {
		if err := d.remove(name); err != nil {
			return err
		}
	}
	return nil
}

// Promoted tells whether the instance is promoted as far as the agent has brought about.
func (d Directory) Promoted() bool { return d.has(promotedFile) }

// SetPromoted remembers or forgets that the instance is promoted.
func (d Directory) SetPromoted(promoted bool) error { return d.mark(promotedFile, promoted) }

// PromotedFor tells for how long the instance has been promoted; a long time when it is not, or the clock was set back.
func (d Directory) PromotedFor() time.Duration { return d.age(promotedFile) }

// SetDemotedDead remembers that a dead daemon has been demoted.
func (d Directory) SetDemotedDead() error { return d.mark(demotedFile, true) }

// DemotedDeadFor tells how long ago a dead daemon was demoted; a long time when none was, or the clock was set back.
func (d Directory) DemotedDeadFor() time.Duration { return d.age(demotedFile) }

// age tells how old a mark is.
func (d Directory) age(name string) time.Duration {
	info, err := os.Lstat(filepath.Join(d.Path, name))
	if err != nil {
		return math.MaxInt64
	}
	if age := time.Since(info.ModTime()); age >= 0 {
		return age
	}
	return math.MaxInt64
}

// Stopping tells whether the end of the daemon is wanted.
func (d Directory) Stopping() bool { return d.has(stoppingFile) }

// SetStopping remembers or forgets that the end of the daemon is wanted.
func (d Directory) SetStopping(stopping bool) error { return d.mark(stoppingFile, stopping) }

// Process gives the daemon's process; the zero Process when there was none.
func (d Directory) Process() (Process, error) { return d.process(pidFile) }

// SetProcess remembers the daemon's process.
func (d Directory) SetProcess(p Process) error { return d.write(pidFile, []byte(p.String()+"\n")) }

// Waiter gives the waiter's process; the zero Process when there was none.
func (d Directory) Waiter() (Process, error) { return d.process(waiterFile) }

func (d Directory) process(name string) (Process, error) {
	b, err := d.read(name)
	if errors.Is(err, os.ErrNotExist) {
		return Process{}, nil
	}
	if err != nil {
		return Process{}, err
	}
	p, err := ParseProcess(string(b))
	if err != nil {
		return Process{}, fmt.Errorf("%s: %w", filepath.Join(d.Path, name), err)
	}
	return p, nil
}

// Exit is how a daemon ended.
type Exit struct {
	Process Process `json:"process"`
	Code    int     `json:"code"`   // -1 after a signal
	Signal  int     `json:"signal"` // 0: none
	Known   bool    `json:"known"`  // false: nobody was there to see it
}

// Clean tells whether the daemon ended of its own will and without complaint.
func (e Exit) Clean() bool { return e.Known && e.Code == 0 && e.Signal == 0 }

// String says how it ended, for an operator.
func (e Exit) String() string {
	switch {
	case !e.Known:
		return "ended, nobody saw how"
	case e.Signal != 0:
		return fmt.Sprintf("was killed by signal %d", e.Signal)
	default:
		return fmt.Sprintf("ended with exit code %d", e.Code)
	}
}

// exit gives how the process ended, where that is on record.
func (d Directory) exit(p Process) exitRecord {
	e := exitRecord{Exit: Exit{Process: p}}
	var seen exitRecord
	if d.readJSON(exitFile, &seen) == nil && seen.Process == p {
		return seen
	}
	return e
}

// Command gives how the daemon was started; an error when that is not on record.
func (d Directory) Command() (Command, error) {
	var c Command
	if err := d.readJSON(commandFile, &c); err != nil {
		return Command{}, err
	}
	return c, nil
}

// SetCommand remembers how the daemon was, or would have been, started.
func (d Directory) SetCommand(c Command) error { return d.writeJSON(commandFile, c) }

// cgroup gives the daemon's cgroup, where it has one.
func (d Directory) cgroup() cgroup {
	b, err := d.read(cgroupFile)
	if err != nil {
		return cgroup{}
	}
	return openCgroup(strings.TrimSpace(string(b)))
}

func (d Directory) readJSON(name string, v any) error {
	b, err := d.read(name)
	if err != nil {
		return fmt.Errorf("read %s: %w", name, err)
	}
	if err := json.Unmarshal(b, v); err != nil {
		return fmt.Errorf("read %s: %w", name, err)
	}
	return nil
}

func (d Directory) writeJSON(name string, v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("encode %s: %w", name, err)
	}
	return d.write(name, append(b, '\n'))
}

// write replaces a file whole, so that a reader never sees half of it.
func (d Directory) write(name string, b []byte) error {
	path := filepath.Join(d.Path, name)
	if err := os.WriteFile(path+".new", b, 0o644); err != nil {
		return fmt.Errorf("write %s: %w", name, err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		return fmt.Errorf("write %s: %w", name, err)
	}
	return nil
}

func (d Directory) read(name string) ([]byte, error) {
	path := filepath.Join(d.Path, name)
	info, err := os.Lstat(path)
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() || info.Size() > fileMaxBytes {
		return nil, fmt.Errorf("%s: not a small regular file", path)
	}
	return os.ReadFile(path)
}

func (d Directory) has(name string) bool {
	_, err := os.Lstat(filepath.Join(d.Path, name))
	return err == nil
}

func (d Directory) mark(name string, there bool) error {
	if there {
		return d.write(name, nil)
	}
	return d.remove(name)
}

func (d Directory) remove(name string) error {
	err := os.Remove(filepath.Join(d.Path, name))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("remove %s: %w", name, err)
	}
	return nil
}
