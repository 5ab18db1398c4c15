package lab

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"sync"

	"golang.org/x/sys/unix"
)

// reaper starts processes and collects them and every orphan, as PID 1 must.
type reaper struct {
	mu      sync.Mutex // held from fork to registration, so that no exit is missed
	waiters map[int]chan int
	names   map[int]string
	chld    chan os.Signal
}

func newReaper() *reaper {
	r := &reaper{waiters: make(map[int]chan int), names: make(map[int]string), chld: make(chan os.Signal, 1)}
	signal.Notify(r.chld, unix.SIGCHLD)
	return r
}

// start runs a program; its exit status (128 plus the signal, if one killed it) comes
// through the channel.
func (r *reaper) start(name string, args ...string) (<-chan int, error) {
	return r.fork(name, args, os.Stdout)
}

// ask is start for a program whose exit status is all that matters.
func (r *reaper) ask(name string, args ...string) (<-chan int, error) {
	return r.fork(name, args, nil)
}

// fork registers the name only of a program with output: its end is worth a line.
func (r *reaper) fork(name string, args []string, output *os.File) (<-chan int, error) {
	path, err := exec.LookPath(name)
	if err != nil {
		return nil, err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	p, err := os.StartProcess(path, append([]string{name}, args...), &os.ProcAttr{
		Dir:   "/",
		Files: []*os.File{nil, output, output},
		Sys:   &unix.SysProcAttr{Setsid: true},
	})
	if err != nil {
		return nil, fmt.Errorf("start %s: %w", name, err)
	}
	done := make(chan int, 1)
	r.waiters[p.Pid] = done
	if output != nil {
		r.names[p.Pid] = name
	}
	return done, p.Release()
}

// run collects children until ctx ends.
func (r *reaper) run(ctx context.Context) error {
	for {
		if err := r.collect(); err != nil {
			return err
		}
		select {
		case <-r.chld:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func (r *reaper) collect() error {
	for {
		var ws unix.WaitStatus
		r.mu.Lock()
		pid, err := unix.Wait4(-1, &ws, unix.WNOHANG, nil)
		done, name := r.waiters[pid], r.names[pid]
		delete(r.waiters, pid)
		delete(r.names, pid)
		r.mu.Unlock()
		switch {
		case errors.Is(err, unix.EINTR):
			continue
		case errors.Is(err, unix.ECHILD) || err == nil && pid == 0:
			return nil
		case err != nil:
			return fmt.Errorf("wait4: %w", err)
		}
		status := ws.ExitStatus()
		if ws.Signaled() {
			status = 128 + int(ws.Signal())
		}
		if done != nil {
			done <- status
			if name != "" {
				fmt.Printf("%s ended with status %d\n", name, status)
			}
		}
	}
}
