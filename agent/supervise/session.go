package supervise

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

const (
	sigTerm = unix.SIGTERM
	sigKill = unix.SIGKILL

	// recordPatience is how long a living waiter is given to record the end of a daemon that is just gone.
	recordPatience = 3 * time.Second
	// waiterPatience is how long a waiter may take to end by itself after its daemon was stopped.
	waiterPatience = 500 * time.Millisecond

	reportFD       = 3 // the waiter's end of the pipe on which it tells its starter how it went
	reportMaxBytes = 4096
	reportOK       = "started"
)

// Session runs the daemon without a service manager: in a session of its own, in a cgroup of its own where the host allows it, below
// a waiter that outlives the agent.
type Session struct {
	Dir    Directory
	Waiter []string // command line that runs Wait; "--attach" is appended to it where the daemon is there already
	Log    *slog.Logger
}

// Find looks for the process on record.
func (s *Session) Find(ctx context.Context) (State, error) {
	p, err := s.Dir.Process()
	if err != nil {
		return State{}, err
	}
	switch {
	case p == Process{}:
		return State{Phase: Absent}, nil
	case p.Alive():
		return State{Phase: Running, Process: p}, nil
	}
	exit := s.exit(ctx, p)
	return State{Phase: Exited, Exit: exit.Exit, Words: exit.Words}, nil
}

// exit gives the record of the daemon's end, and waits a moment for a waiter that has yet to write it.
func (s *Session) exit(ctx context.Context, p Process) exitRecord {
	ctx, cancel := context.WithTimeout(ctx, recordPatience)
	defer cancel()
	for {
		e := s.Dir.exit(p)
		if e.Known {
			return e
		}
		if w, err := s.Dir.Waiter(); err != nil || !w.Alive() || !pause(ctx, pollInterval) {
			return s.Dir.exit(p) // it may have been written just before the waiter went
		}
	}
}

// Start starts a waiter, which starts the daemon.
func (s *Session) Start(ctx context.Context, command Command) error {
	if err := s.Dir.Create(); err != nil {
		return err
	}
	if err := s.Dir.Clear(); err != nil {
		return err
	}
	if err := s.Dir.SetCommand(command); err != nil {
		return err
	}
	return s.wait(ctx, command.Log, nil)
}

// Guard starts a new waiter for a daemon whose waiter has died.
func (s *Session) Guard(ctx context.Context) error {
	if w, err := s.Dir.Waiter(); err == nil && w.Alive() {
		return nil
	}
	command, err := s.Dir.Command()
	if err != nil {
		return err
	}
	return s.wait(ctx, command.Log, []string{attachFlag})
}

// wait starts a waiter and returns its report.
func (s *Session) wait(ctx context.Context, logPath string, more []string) error {
	report, theirs, err := os.Pipe()
	if err != nil {
		return fmt.Errorf("start waiter: %w", err)
	}
	defer report.Close()
	out, err := openLog(logPath, s.Dir)
	if err != nil {
		_ = theirs.Close() // err says more
		return fmt.Errorf("start waiter: %w", err)
	}
	defer out.Close()
	cmd := exec.Command(s.Waiter[0], append(s.Waiter[1:len(s.Waiter):len(s.Waiter)], more...)...)
	cmd.Dir = "/"
	cmd.Stdout, cmd.Stderr = out, out
	cmd.ExtraFiles = []*os.File{theirs} // becomes reportFD
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	err = cmd.Start()
	_ = theirs.Close() // the waiter has its own
	if err != nil {
		return fmt.Errorf("start waiter: %w", err)
	}
	// Nobody waits for it here: it outlives us, and is init's child then.
	stop := context.AfterFunc(ctx, func() { _ = report.SetReadDeadline(time.Unix(1, 0)) })
	defer stop()
	line, err := bufio.NewReader(io.LimitReader(report, reportMaxBytes)).ReadString('\n')
	switch line = strings.TrimSpace(line); {
	case line == reportOK:
		return nil
	case line != "":
		return errors.New(line)
	case ctx.Err() != nil:
		return fmt.Errorf("start waiter: %w", ctx.Err())
	default:
		return fmt.Errorf("start waiter: it died at once (%w); see %s", err, out.Name())
	}
}

// Stop ends the daemon and its waiter.
func (s *Session) Stop(ctx context.Context, grace time.Duration) error {
	p, err := s.Dir.Process()
	if err != nil {
		s.Log.Warn("process on record is not readable", "error", err)
	}
	if p != (Process{}) {
		if err := s.Dir.SetStopping(true); err != nil {
			s.Log.Warn("the waiter will not know that this end is wanted", "error", err)
		}
	}
	if err := end(ctx, s.Log, p, s.Dir.cgroup(), grace); err != nil {
		return err
	}
	s.endWaiter(ctx)
	return nil
}

// endWaiter sees to it that no waiter acts later on the end that was brought about. It ends by itself; if not, it is ended.
func (s *Session) endWaiter(ctx context.Context) {
	w, err := s.Dir.Waiter()
	if err != nil {
		return
	}
	h, err := w.Open()
	if err != nil {
		return
	}
	defer h.Close()
	patience, cancel := context.WithTimeout(ctx, waiterPatience)
	defer cancel()
	if h.Wait(patience) == nil {
		return
	}
	if err := h.Signal(sigKill); err != nil {
		s.Log.Warn("end waiter", "error", err)
		return
	}
	if err := h.Wait(ctx); err != nil {
		s.Log.Warn("end waiter", "error", err)
	}
}

// openLog opens the file that the daemon's output goes to; where that cannot be, such as on a full disk, one in the instance's
// directory takes its place, since the last words of a daemon that cannot start are worth having.
func openLog(path string, d Directory) (*os.File, error) {
	const flags = os.O_WRONLY | os.O_APPEND | os.O_CREATE
	err := os.MkdirAll(filepath.Dir(path), 0o750)
	if err == nil {
		var f *os.File
		if f, err = os.OpenFile(path, flags, 0o640); err == nil {
			return f, nil
		}
	}
	f, second := os.OpenFile(filepath.Join(d.Path, "log"), flags, 0o640)
	if second != nil {
		return nil, fmt.Errorf("open log: %w", err)
	}
	return f, nil
}
