package lab

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"time"

	"golang.org/x/sys/unix"
)

// nsenterOptions are nsenter(1)'s names for nsOrder.
var nsenterOptions = [len(nsOrder)]string{"mount", "uts", "ipc", "net", "pid", "cgroup"}

// firstNamespaceFD is where Command passes the namespaces: behind the standard files.
const firstNamespaceFD = 3

const (
	// execWaitDelay is how long Exec waits for output after its command has ended.
	execWaitDelay = time.Second
	// runWaitDelay is how long Run's command has to end after it was told to.
	runWaitDelay = 5 * time.Second
)

// outerScript joins the node's cgroups, which are the arguments before "--", and goes on
// to nsenter(1). It must happen outside: a cgroup namespace may be a wall.
const outerScript = `while [ "$1" != -- ]; do echo $$ >"$1/cgroup.procs" || exit 1; shift; done
shift
exec nsenter "$@"`

// enterScript closes the namespaces' descriptors, goes back to the caller's directory
// where the node has it too, and becomes the command.
const enterScript = `exec 3<&- 4<&- 5<&- 6<&- 7<&- 8<&-
dir=$1; shift
cd "$dir" 2>/dev/null || cd /
exec "$@"`

// Command returns a command that runs in a node (or the client): in all its namespaces,
// and with the machine's files below it. Whoever starts it must call release after
// Start, or at the latest after Wait.
func (l *Lab) Command(ctx context.Context, node string, args ...string) (cmd *exec.Cmd, release func(), err error) {
	if len(args) == 0 {
		return nil, nil, errors.New("no command given")
	}
	files, err := l.namespaces(node)
	if err != nil {
		return nil, nil, err
	}
	full, err := l.enterArgs(node, args)
	if err != nil {
		for _, f := range files {
			err = errors.Join(err, f.Close())
		}
		return nil, nil, err
	}
	cmd = exec.CommandContext(ctx, full[0], full[1:]...)
	cmd.ExtraFiles = files
	return cmd, func() {
		for _, f := range files {
			_ = f.Close() // a second release closes nothing
		}
	}, nil
}

// enterArgs returns the whole command line: join the node's cgroups, enter its
// namespaces, run args.
func (l *Lab) enterArgs(node string, args []string) ([]string, error) {
	found, err := cgroupMounts()
	if err != nil {
		return nil, err
	}
	full := []string{"/bin/sh", "-c", outerScript, "sh"}
	for _, c := range found {
		full = append(full, filepath.Join(c.dir, cgroupParent, l.name, node))
	}
	full = append(full, "--")
	for i, o := range nsenterOptions {
		full = append(full, fmt.Sprintf("--%s=/proc/self/fd/%d", o, firstNamespaceFD+i))
	}
	dir, err := os.Getwd()
	if err != nil {
		dir = "/"
	}
	return append(append(full, "--", "/bin/sh", "-c", enterScript, "sh", dir), args...), nil
}

// Exec runs a command in a node and returns what it wrote to its standard output; the
// error carries what it wrote to its standard error.
func (l *Lab) Exec(ctx context.Context, node string, args ...string) ([]byte, error) {
	return l.ExecInput(ctx, nil, node, args...)
}

// ExecInput is Exec with a standard input for the command.
func (l *Lab) ExecInput(ctx context.Context, input io.Reader, node string, args ...string) ([]byte, error) {
	cmd, release, err := l.Command(ctx, node, args...)
	if err != nil {
		return nil, err
	}
	defer release()
	// What the command left running may hold its output open.
	cmd.WaitDelay = execWaitDelay
	cmd.Stdin = input
	out, err := cmd.Output()
	var exit *exec.ExitError
	if errors.As(err, &exit) && len(exit.Stderr) > 0 {
		return out, fmt.Errorf("%s: %v: %w: %s", node, args, err, exit.Stderr)
	}
	if err != nil {
		return out, fmt.Errorf("%s: %v: %w", node, args, err)
	}
	return out, nil
}

// Run runs a command in a node with the caller's own input and output. When ctx ends it is told to, by SIGTERM. The
// error is an *exec.ExitError where the command ended with another status than 0.
func (l *Lab) Run(ctx context.Context, node string, args ...string) error {
	cmd, release, err := l.Command(ctx, node, args...)
	if err != nil {
		return err
	}
	defer release()
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.Cancel = func() error { return cmd.Process.Signal(unix.SIGTERM) }
	cmd.WaitDelay = runWaitDelay
	if err := cmd.Start(); err != nil {
		return err
	}
	release()
	return cmd.Wait()
}

// InNetwork runs f on a thread that is in a node's network namespace; sockets that f
// itself opens belong there and stay usable afterwards. f must not start goroutines
// that open sockets.
func (l *Lab) InNetwork(node string, f func() error) error {
	files, err := l.namespaces(node)
	if err != nil {
		return err
	}
	defer func() {
		for _, f := range files {
			_ = f.Close() // read-only descriptors of /proc
		}
	}()
	done := make(chan error, 1)
	go func() {
		// The thread is never unlocked, so it ends with the goroutine, and no other
		// goroutine runs in the wrong network.
		runtime.LockOSThread()
		for i, ns := range nsOrder {
			if ns == "net" {
				if err := unix.Setns(int(files[i].Fd()), unix.CLONE_NEWNET); err != nil {
					done <- fmt.Errorf("enter the network of %s: %w", node, err)
					return
				}
			}
		}
		done <- f()
	}()
	return <-done
}

// ListenUDP opens a UDP socket in a node's network.
func (l *Lab) ListenUDP(node string, addr netip.AddrPort) (conn *net.UDPConn, err error) {
	err = l.InNetwork(node, func() error {
		conn, err = net.ListenUDP("udp", net.UDPAddrFromAddrPort(addr))
		return err
	})
	return conn, err
}

// DialTCP opens a TCP connection from a node's network.
func (l *Lab) DialTCP(node string, to netip.AddrPort) (conn *net.TCPConn, err error) {
	err = l.InNetwork(node, func() error {
		conn, err = net.DialTCP("tcp", nil, net.TCPAddrFromAddrPort(to))
		return err
	})
	return conn, err
}
