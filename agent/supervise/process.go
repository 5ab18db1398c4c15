package supervise

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

const (
	bootIDFile = "/proc/sys/kernel/random/boot_id"
	// pollInterval is how often a process is looked at where the kernel has no pidfd (before Linux 5.3), or a file is waited for.
	pollInterval = 20 * time.Millisecond
)

// ErrGone tells that a process is not there any more.
var ErrGone = errors.New("process is gone")

// Process is one process, once and for all: a pid is used again, a pid with its start time and the boot it belongs to is not. The zero
// value is no process.
type Process struct {
	PID   int
	Start uint64 // in clock ticks since boot (proc(5), field 22 of /proc/PID/stat)
	Boot  string // boot_id of the kernel (random(4))
}

// Identify gives the process that has this pid now. ErrGone when there is none, or only a zombie.
func Identify(pid int) (Process, error) {
	p, state, err := identify(pid)
	if err == nil && (state == 'Z' || state == 'X') {
		return Process{}, ErrGone
	}
	return p, err
}

// identify gives the process that has this pid, also when it is a zombie, and its state (proc(5), field 3 of /proc/PID/stat).
func identify(pid int) (Process, byte, error) {
	if pid <= 0 {
		return Process{}, 0, ErrGone
	}
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if errors.Is(err, os.ErrNotExist) || errors.Is(err, unix.ESRCH) {
		return Process{}, 0, ErrGone
	}
	if err != nil {
		return Process{}, 0, fmt.Errorf("identify process %d: %w", pid, err)
	}
	state, start, err := parseStat(b)
	if err != nil {
		return Process{}, 0, fmt.Errorf("identify process %d: %w", pid, err)
	}
	boot, err := os.ReadFile(bootIDFile)
	if err != nil {
		return Process{}, 0, fmt.Errorf("identify process %d: %w", pid, err)
	}
	return Process{PID: pid, Start: start, Boot: strings.TrimSpace(string(boot))}, state, nil
}

// parseStat takes the state and the start time from /proc/PID/stat. The name in it may hold anything, so the fields are counted from
// its last closing parenthesis.
func parseStat(stat []byte) (state byte, start uint64, err error) {
	const stateField, startField = 3, 22
	end := bytes.LastIndexByte(stat, ')')
	if end < 0 {
		return 0, 0, errors.New("stat: no name")
	}
	fields := strings.Fields(string(stat[end+1:]))
	if len(fields) <= startField-stateField {
		return 0, 0, errors.New("stat: too few fields")
	}
	start, err = strconv.ParseUint(fields[startField-stateField], 10, 64)
	if err != nil {
		return 0, 0, fmt.Errorf("stat: start time: %w", err)
	}
	return fields[0][0], start, nil
}

// Alive tells whether the process is still there; a zombie is not.
func (p Process) Alive() bool {
	now, err := Identify(p.PID)
	return err == nil && now == p
}

// String writes the process as it stands in a file: pid, start time and boot.
func (p Process) String() string { return fmt.Sprintf("%d %d %s", p.PID, p.Start, p.Boot) }

// ParseProcess reads what String writes.
func ParseProcess(text string) (Process, error) {
	fields := strings.Fields(text)
	if len(fields) != 3 {
		return Process{}, fmt.Errorf("process %.80q: not pid, start time and boot", text)
	}
	pid, err := strconv.Atoi(fields[0])
	if err != nil || pid <= 0 {
		return Process{}, fmt.Errorf("process %.80q: no pid", text)
	}
	start, err := strconv.ParseUint(fields[1], 10, 64)
	if err != nil {
		return Process{}, fmt.Errorf("process %.80q: no start time", text)
	}
	return Process{PID: pid, Start: start, Boot: fields[2]}, nil
}

// Handle holds on to a process, so that a signal cannot hit another one that has come by its pid.
type Handle struct {
	process Process
	fd      int // pidfd; -1 where the kernel has none
}

// Open takes hold of the process. ErrGone when it is not there any more.
func (p Process) Open() (*Handle, error) {
	fd, err := unix.PidfdOpen(p.PID, 0)
	switch {
	case errors.Is(err, unix.ESRCH), errors.Is(err, unix.EINVAL): // no such process; or a pid that is none
		return nil, ErrGone
	case errors.Is(err, unix.ENOSYS), errors.Is(err, unix.EPERM): // an old kernel; or a sandbox that does not know the call
		fd = -1
	case err != nil:
		return nil, fmt.Errorf("open process %d: %w", p.PID, err)
	}
	h := &Handle{process: p, fd: fd}
	if !p.Alive() { // looked at after the open: what is held is what was looked at
		h.Close()
		return nil, ErrGone
	}
	return h, nil
}

// Close lets go of the process.
func (h *Handle) Close() {
	if h.fd >= 0 {
		_ = unix.Close(h.fd) // a pidfd has nothing to lose
		h.fd = -1
	}
}

// Signal sends a signal; a process that is gone is no error.
func (h *Handle) Signal(signal unix.Signal) error {
	var err error
	switch {
	case h.fd >= 0:
		err = unix.PidfdSendSignal(h.fd, signal, nil, 0)
	case h.process.Alive():
		err = unix.Kill(h.process.PID, signal)
	}
	if err != nil && !errors.Is(err, unix.ESRCH) {
		return fmt.Errorf("signal %v to process %d: %w", signal, h.process.PID, err)
	}
	return nil
}

// Wait returns nil once the process has ended, or the error of the context. It does not reap it.
func (h *Handle) Wait(ctx context.Context) error {
	for {
		ended, err := h.poll(pollInterval)
		if err != nil {
			return fmt.Errorf("wait for process %d: %w", h.process.PID, err)
		}
		if ended {
			return nil
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
	}
}

// poll waits for the end of the process for as long as timeout; the pidfd is readable then (pidfd_open(2)).
func (h *Handle) poll(timeout time.Duration) (ended bool, err error) {
	if h.fd < 0 {
		time.Sleep(timeout)
		return !h.process.Alive(), nil
	}
	fds := []unix.PollFd{{Fd: int32(h.fd), Events: unix.POLLIN}}
	n, err := unix.Poll(fds, int(timeout.Milliseconds()))
	if errors.Is(err, unix.EINTR) {
		return false, nil
	}
	return n > 0, err
}
