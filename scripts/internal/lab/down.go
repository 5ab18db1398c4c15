package lab

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

const (
	killMax  = 20 * time.Second
	killPoll = 10 * time.Millisecond
)

// Down removes the lab, whatever state it is in; it is no error if there is none.
func (l *Lab) Down(ctx context.Context) error {
	lock, err := l.killSupervisor(ctx)
	if err != nil {
		return err
	}
	if lock != nil {
		defer lock.Close()
	}
	// Its processes are gone, and with them their namespaces; the kernel may still be
	// busy unmounting.
	err = awaitRelease(ctx, l.disks()+"/")
	err = errors.Join(err, removeCgroups(l.name), os.RemoveAll(l.disks()), os.RemoveAll(l.dir()))
	// Other labs may still be there.
	_ = os.Remove(diskRoot)
	_ = os.Remove(runRoot)
	return err
}

// killSupervisor ends the lab's process tree and returns the lab's lock, which it then
// holds itself, so that no supervisor starts in a directory that is being removed. The
// lock is nil when there is no lab.
func (l *Lab) killSupervisor(ctx context.Context) (io.Closer, error) {
	ctx, cancel := context.WithTimeout(ctx, killMax)
	defer cancel()
	lock, err := os.OpenFile(l.lockPath(), os.O_RDWR, 0)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	for {
		want := unix.Flock_t{Type: unix.F_WRLCK}
		err := unix.FcntlFlock(lock.Fd(), unix.F_SETLK, &want)
		if err == nil {
			return lock, nil
		}
		if !errors.Is(err, unix.EAGAIN) && !errors.Is(err, unix.EACCES) {
			return nil, errors.Join(fmt.Errorf("lock %s: %w", l.lockPath(), err), lock.Close())
		}
		holder := unix.Flock_t{Type: unix.F_WRLCK}
		if err := unix.FcntlFlock(lock.Fd(), unix.F_GETLK, &holder); err != nil {
			return nil, errors.Join(err, lock.Close())
		}
		if holder.Type != unix.F_UNLCK && holder.Pid > 0 {
			if err := unix.Kill(int(holder.Pid), unix.SIGKILL); err != nil && !errors.Is(err, unix.ESRCH) {
				return nil, errors.Join(fmt.Errorf("kill supervisor %d: %w", holder.Pid, err), lock.Close())
			}
		}
		select {
		case <-ctx.Done():
			return nil, errors.Join(fmt.Errorf("supervisor %d does not end: %w", holder.Pid, ctx.Err()), lock.Close())
		case <-time.After(killPoll):
		}
	}
}

// Supervised reports whether the lab's supervisor is alive.
func (l *Lab) Supervised() bool {
	_, err := l.Machines()
	return err == nil
}
