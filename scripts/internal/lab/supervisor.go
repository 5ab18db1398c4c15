package lab

import (
	"bufio"
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/signal"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// authKeyBytes is the size of Corosync's key (corosync-keygen(8) makes 256).
const authKeyBytes = 256

// supervisor is PID 1 of the lab: it holds the switch, and does what the lab's commands
// and the nodes' fence agents ask.
type supervisor struct {
	lab      *Lab
	cfg      *Config
	log      *slog.Logger
	machines []*machine
	fencing  sync.Mutex // one fencing after the other
}

// Supervise runs the supervisor; the process must be PID 1 of a PID namespace and have
// network and mount namespaces of its own. It returns only on errors.
func Supervise(ctx context.Context, l *Lab, log *slog.Logger) error {
	if os.Getpid() != 1 {
		return errors.New("the supervisor is started by up")
	}
	signal.Ignore(unix.SIGHUP, unix.SIGINT, unix.SIGTERM)
	if err := l.takeLock(); err != nil {
		return err
	}
	cfg, err := l.Config()
	if err != nil {
		return err
	}
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_SLAVE, ""); err != nil {
		return fmt.Errorf("mount propagation: %w", err)
	}
	if err := unix.Mount("proc", "/proc", "proc", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, ""); err != nil {
		return fmt.Errorf("mount /proc: %w", err)
	}
	if err := startSwitch(); err != nil {
		return err
	}
	s := &supervisor{lab: l, cfg: cfg, log: log}
	if err := s.makeMachines(); err != nil {
		return err
	}
	for _, m := range s.machines {
		if err := m.on(); err != nil {
			return err
		}
	}
	return s.serve(ctx)
}

// takeLock marks the lab as supervised. The lock names this process to down; a lab
// directory that down has begun to remove is given up.
func (l *Lab) takeLock() error {
	// A bare descriptor, never closed: the lock lives as long as the process.
	fd, err := unix.Open(l.lockPath(), unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("open %s: %w", l.lockPath(), err)
	}
	lock := unix.Flock_t{Type: unix.F_WRLCK}
	if err := unix.FcntlFlock(uintptr(fd), unix.F_SETLK, &lock); err != nil {
		return fmt.Errorf("lock %s: %w", l.lockPath(), err)
	}
	return nil
}

func (s *supervisor) makeMachines() error {
	key := make([]byte, authKeyBytes)
	if _, err := rand.Read(key); err != nil {
		return err
	}
	for _, n := range append(s.cfg.NodeNames(), Client) {
		for _, d := range []string{s.lab.nodeDir(n), s.lab.LogDir(n), s.lab.path(n, "run")} {
			if err := os.MkdirAll(d, 0o755); err != nil {
				return err
			}
		}
		m := &machine{name: n, lab: s.lab, log: s.log, port: port{node: n, log: s.log}}
		m.spec = spec{
			Lab: s.lab.name, Node: n, Nodes: s.cfg.Nodes, Dir: s.lab.nodeDir(n), BinDir: s.lab.binDir(),
			Fence: s.lab.fenceDir(), AuthKey: hex.EncodeToString(key), Product: s.cfg.Product,
		}
		if n != Client {
			m.spec.Image = s.lab.imagePath(n)
			if err := makeImage(m.spec.Image, s.cfg.DiskMiB); err != nil {
				return err
			}
		}
		s.machines = append(s.machines, m)
	}
	return nil
}

// serve answers on two sockets: one for the lab's commands, one that the nodes see, on
// which only fencing can be asked for.
func (s *supervisor) serve(ctx context.Context) error {
	failed := make(chan error, 2)
	for path, handle := range map[string]func(*request, *net.UnixConn) (*answer, []*os.File, error){
		s.lab.fencePath():   s.fence,
		s.lab.controlPath(): s.control,
	} {
		listener, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
		if err != nil {
			return err
		}
		go func() {
			for {
				conn, err := listener.AcceptUnix()
				if err != nil {
					failed <- err
					return
				}
				go s.handle(conn, handle)
			}
		}()
	}
	s.log.Info("the lab is supervised", "lab", s.lab.name)
	select {
	case err := <-failed:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (s *supervisor) handle(conn *net.UnixConn, do func(*request, *net.UnixConn) (*answer, []*os.File, error)) {
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(controlMax)); err != nil {
		s.log.Error("deadline", "err", err)
		return
	}
	line, err := bufio.NewReader(io.LimitReader(conn, controlBytesMax)).ReadBytes('\n')
	if err != nil {
		s.log.Warn("request", "err", err)
		return
	}
	req, a := new(request), new(answer)
	var files []*os.File
	if err = json.Unmarshal(line, req); err == nil {
		a, files, err = do(req, conn)
	}
	if err != nil {
		a = &answer{Error: err.Error()}
	}
	raw, err := json.Marshal(a)
	if err != nil {
		s.log.Error("answer", "err", err)
		return
	}
	var oob []byte
	if len(files) > 0 {
		fds := make([]int, len(files))
		for i, f := range files {
			fds[i] = int(f.Fd())
		}
		oob = unix.UnixRights(fds...)
	}
	if _, _, err := conn.WriteMsgUnix(append(raw, '\n'), oob, nil); err != nil {
		s.log.Warn("answer", "op", req.Op, "err", err)
	}
	for _, f := range files {
		if err := f.Close(); err != nil {
			s.log.Error("close namespace", "err", err)
		}
	}
}

func (s *supervisor) machine(name string) (*machine, error) {
	for _, m := range s.machines {
		if m.name == name {
			return m, nil
		}
	}
	return nil, fmt.Errorf("no node %q in this lab (node1 to node%d, client)", name, s.cfg.Nodes)
}

// control does what the lab's commands ask.
func (s *supervisor) control(req *request, _ *net.UnixConn) (*answer, []*os.File, error) {
	if req.Op == "machines" {
		a := new(answer)
		for _, m := range s.machines {
			a.Machines = append(a.Machines, m.snapshot())
		}
		return a, nil, nil
	}
	m, err := s.machine(req.Node)
	if err != nil {
		return nil, nil, err
	}
	if m.name == Client && (req.Op == "poweroff" || req.Op == "poweron") {
		return nil, nil, errors.New("the client has no power switch")
	}
	switch req.Op {
	case "poweroff":
		err = m.off(true)
	case "poweron":
		err = m.on()
	case "cut":
		err = m.setCut(true)
	case "heal":
		err = m.setCut(false)
	case "link":
		err = m.setLink(req.Link)
	case "namespaces":
		files, err := m.namespaces()
		return new(answer), files, err
	default:
		err = fmt.Errorf("unknown operation %q", req.Op)
	}
	return new(answer), nil, err
}
