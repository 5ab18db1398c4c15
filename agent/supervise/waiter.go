package supervise

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

const (
	attachFlag = "--attach"
	// wordsMaxBytes is how much of the end of a log is searched for the daemon's last words.
	wordsMaxBytes = 16 << 10
)

// exitRecord is what the waiter leaves behind.
type exitRecord struct {
	Exit
	Words string `json:"words,omitempty"`
}

// Waiter waits for the end of one daemon. It runs in a process of its own, started by a Session.
type Waiter struct {
	Dir Directory
	Log *slog.Logger
	// Died is called when the daemon has ended though nobody wanted it to, with what the Command was started with. It bounds its own time.
	Died func(command Command, exit Exit)
}

// Run starts the daemon on record, or attaches to the one that is running, reports to the Session, and returns when the daemon has
// ended and that has been acted upon.
func (w *Waiter) Run(attach bool) error {
	daemon, err := w.begin(attach)
	if err != nil {
		report(strings.ReplaceAll(err.Error(), "\n", " "))
		return err
	}
	report(reportOK)

	record := daemon.wait()
	if err := w.Dir.writeJSON(exitFile, record); err != nil {
		w.Log.Error("record the end of the daemon", "error", err)
	}
	if w.Dir.Stopping() {
		return nil
	}
	w.Log.Warn("the daemon has ended", "how", record.Exit.String())
	w.Died(daemon.command, record.Exit)
	return nil
}

// report tells the starter how it went, where there is one: run by hand, the descriptor is somebody else's.
func report(line string) {
	var stat unix.Stat_t
	if err := unix.Fstat(reportFD, &stat); err != nil || stat.Mode&unix.S_IFMT != unix.S_IFIFO {
		return
	}
	f := os.NewFile(reportFD, "report")
	_, _ = fmt.Fprintln(f, line) // a starter that is gone needs no report
	_ = f.Close()
}

// watched is a daemon that is waited for: a child, or a process that is somebody else's child.
type watched struct {
	command Command
	process Process
	child   *exec.Cmd // nil when attached
	handle  *Handle   // nil for a child
	log     *os.File  // what the daemon says; nil when attached
	offset  int64     // where in it the daemon began
}

func (w *Waiter) begin(attach bool) (*watched, error) {
	self, err := Identify(os.Getpid())
	if err != nil {
		return nil, err
	}
	if err := w.Dir.write(waiterFile, []byte(self.String()+"\n")); err != nil {
		return nil, err
	}
	command, err := w.Dir.Command()
	if err != nil {
		return nil, err
	}
	if attach {
		return w.attach(command)
	}
	return w.start(command)
}

func (w *Waiter) attach(command Command) (*watched, error) {
	p, err := w.Dir.Process()
	if err != nil {
		return nil, err
	}
	h, err := p.Open()
	if err != nil {
		return nil, fmt.Errorf("attach to daemon: %w", err)
	}
	return &watched{command: command, process: p, handle: h}, nil
}

// start starts the daemon, in a cgroup where that can be had.
func (w *Waiter) start(command Command) (*watched, error) {
	out, err := openLog(command.Log, w.Dir)
	if err != nil {
		return nil, err
	}
	d := &watched{command: command, log: out}
	if info, err := out.Stat(); err == nil {
		d.offset = info.Size()
	}
	group, err := newCgroup(command.Instance)
	if err != nil {
		w.Log.Info("no cgroup for the daemon; its process alone is watched", "reason", err)
	}
	if d.child, err = spawn(command, out, group); err != nil && group.v2 {
		w.Log.Info("the daemon does not start in a cgroup of its own; trying without", "reason", err)
		_ = group.remove(context.Background()) // empty, so it goes at once
		group = cgroup{}
		d.child, err = spawn(command, out, group)
	}
	if err != nil {
		return nil, fmt.Errorf("start %s: %w", command.Path, err)
	}
	if err := w.record(d, group); err != nil {
		_ = d.child.Process.Kill() // what is not on record must not run
		_ = d.child.Wait()
		return nil, err
	}
	return d, nil
}

// record writes down which process the daemon is.
func (w *Waiter) record(d *watched, group cgroup) error {
	var err error
	pid := d.child.Process.Pid
	if err = group.add(pid); err != nil {
		w.Log.Info("the daemon stays in our cgroup", "reason", err)
	} else if group.path != "" {
		if err := w.Dir.write(cgroupFile, []byte(group.path+"\n")); err != nil {
			return err
		}
	}
	d.process, _, err = identify(pid) // it may have ended already, but the pid is its own until it is reaped
	if err != nil {
		return err
	}
	return w.Dir.SetProcess(d.process)
}

func spawn(command Command, out *os.File, group cgroup) (*exec.Cmd, error) {
	cmd := exec.Command(command.Path, command.Args...)
	cmd.Env = command.Env
	cmd.Dir = "/"
	cmd.Stdout, cmd.Stderr = out, out
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if group.v2 {
		dir, err := os.Open(group.path)
		if err != nil {
			return nil, err
		}
		defer dir.Close()
		cmd.SysProcAttr.UseCgroupFD, cmd.SysProcAttr.CgroupFD = true, int(dir.Fd())
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	return cmd, nil
}

// wait returns when the daemon has ended. Waiting, however long, is what this process is for.
func (d *watched) wait() exitRecord {
	if d.child == nil {
		defer d.handle.Close()
		for d.handle.Wait(context.Background()) != nil && d.process.Alive() {
			pause(context.Background(), pollInterval)
		}
		return exitRecord{Exit: Exit{Process: d.process}}
	}
	_ = d.child.Wait() // an exit status other than 0 is what is told below
	record := exitRecord{Exit: Exit{Process: d.process, Code: d.child.ProcessState.ExitCode(), Known: true}}
	if s, ok := d.child.ProcessState.Sys().(syscall.WaitStatus); ok && s.Signaled() {
		record.Signal = int(s.Signal())
	}
	record.Words = LastWords(tail(d.log.Name(), d.offset))
	return record
}

// tail gives the end of a file, nothing before offset.
func tail(path string, offset int64) string {
	f, err := os.Open(path)
	if err != nil {
		return ""
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return ""
	}
	if info.Size() < offset { // cut by log rotation
		offset = 0
	}
	from := max(offset, info.Size()-wordsMaxBytes)
	b, err := io.ReadAll(io.NewSectionReader(f, from, wordsMaxBytes))
	if err != nil {
		return ""
	}
	return string(b)
}

// LastWords picks the line that says why a daemon ended: of a crash of the Go runtime its headline, else the last line.
func LastWords(text string) string {
	var last, crash string
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		switch {
		case line == "":
		case crash == "" && (strings.HasPrefix(line, "panic: ") || strings.HasPrefix(line, "fatal error: ")):
			crash = line
		default:
			last = line
		}
	}
	if crash != "" {
		return crash
	}
	return last
}
