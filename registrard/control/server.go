package control

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// Limits of the server.
const (
	// connectionsMax is the most connections at a time; what comes beyond is told "busy".
	connectionsMax = 64
	// readerConnectionsMax is the most of them by those who may only read, so that they cannot keep the agent out.
	readerConnectionsMax = 32
	// idleTimeout ends a connection that asks nothing.
	idleTimeout = 2 * time.Minute
	// lineTimeout is the time for a request's line to come in whole, once it has begun, and for an answer to be taken.
	lineTimeout = 10 * time.Second
	// acceptPause is the wait after an accept that failed, such as for want of file descriptors.
	acceptPause = 100 * time.Millisecond
	// socketPathMax is the longest path of a Unix socket, in bytes (unix(7)).
	socketPathMax = 107
)

// ErrInUse is returned by Listen when another daemon holds the socket.
var ErrInUse = errors.New("another registrard of this name is running")

// ServerConfig says where and for whom a Server listens.
type ServerConfig struct {
	Path    string // of the socket; its directory is made where it is missing
	Group   string // whose members may read, such as "haclient"; "" or a group that does not exist: nobody
	Service Service
	Log     *slog.Logger
}

// Server answers on the Unix socket.
type Server struct {
	config   ServerConfig
	listener *net.UnixListener
	lock     *os.File
	readers  int // gid of the reading group, -1: none
	methods  map[string]method

	mu    sync.Mutex
	conns map[*net.UnixConn]access
}

// Listen takes the socket. A socket that a dead daemon has left is replaced: a lock on a file beside it, held as long as the daemon
// lives, tells the two apart. The socket has mode 0660 and belongs to the reading group, where this process may give it away.
func Listen(config ServerConfig) (*Server, error) {
	if len(config.Path) > socketPathMax {
		return nil, fmt.Errorf("control socket %s: path of %d bytes, over %d: choose a shorter directory", config.Path, len(config.Path), socketPathMax)
	}
	s := &Server{config: config, readers: groupID(config.Group), methods: methods(), conns: make(map[*net.UnixConn]access)}
	dir := filepath.Dir(config.Path)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, fmt.Errorf("control socket: %w", err)
	}
	var err error
	if s.lock, err = lockFile(config.Path + ".lock"); err != nil {
		return nil, err
	}
	if err := s.listen(); err != nil {
		_ = s.lock.Close() // err says more
		return nil, err
	}
	return s, nil
}

func (s *Server) listen() error {
	path := s.config.Path
	switch info, err := os.Lstat(path); {
	case errors.Is(err, os.ErrNotExist):
	case err != nil:
		return fmt.Errorf("control socket: %w", err)
	case info.Mode().Type() != os.ModeSocket:
		return fmt.Errorf("control socket %s: there is something else of this name: move it away", path)
	default:
		if err := os.Remove(path); err != nil {
			return fmt.Errorf("control socket: remove what a dead daemon has left: %w", err)
		}
	}
	// Bound under another name and renamed once its mode is right: nobody finds it half made.
	fresh := path + ".new"
	if len(fresh) > socketPathMax {
		fresh = filepath.Join(filepath.Dir(path), ".s")
	}
	_ = os.Remove(fresh) // left by a daemon that died just here; the bind reports what is in its way
	listener, err := net.ListenUnix("unix", &net.UnixAddr{Name: fresh, Net: "unix"})
	if err != nil {
		return fmt.Errorf("control socket: %w", err)
	}
	listener.SetUnlinkOnClose(false)
	err = os.Chmod(fresh, 0o660)
	if err == nil && s.readers >= 0 && os.Geteuid() == 0 {
		err = os.Chown(fresh, -1, s.readers)
	}
	if err == nil {
		err = os.Rename(fresh, path)
	}
	if err != nil {
		_ = listener.Close() // err says more
		return fmt.Errorf("control socket: %w", err)
	}
	s.listener = listener
	return nil
}

// Run serves until ctx ends, then ends what is under way and removes the socket. It returns nil when ctx has ended.
func (s *Server) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var serving sync.WaitGroup
	stop := context.AfterFunc(ctx, func() {
		_ = s.listener.Close() // ends Accept
		s.mu.Lock()
		defer s.mu.Unlock()
		for conn := range s.conns {
			// Wakes those that wait for a request; those that serve one see their context end, and still get to answer.
			_ = conn.SetReadDeadline(time.Unix(1, 0))
		}
	})
	defer stop()
	for {
		conn, err := s.listener.AcceptUnix()
		if err == nil {
			serving.Go(func() { s.serve(ctx, conn) })
			continue
		}
		if ctx.Err() != nil {
			serving.Wait()
			return s.close()
		}
		s.config.Log.Warn("control socket: accept failed", "err", err)
		select {
		case <-time.After(acceptPause):
		case <-ctx.Done():
		}
	}
}

// Close gives the socket up when Run was never called.
func (s *Server) Close() error {
	_ = s.listener.Close() // an error of a listener that is closed already is none
	return s.close()
}

func (s *Server) close() error {
	err := os.Remove(s.config.Path)
	return errors.Join(err, s.lock.Close())
}

// serve answers the requests of one connection, one after the other.
func (s *Server) serve(ctx context.Context, conn *net.UnixConn) {
	defer func() { _ = conn.Close() }()
	allowed, refusal := s.admit(ctx, conn)
	if refusal != nil {
		_ = s.write(conn, &response{Error: refusal}) // it is leaving anyway
		return
	}
	defer s.forget(conn)
	in := bufio.NewReaderSize(conn, 16<<10)
	for ctx.Err() == nil {
		line, err := s.nextLine(ctx, conn, in)
		var tooLarge *Error
		if errors.As(err, &tooLarge) {
			_ = s.write(conn, &response{Error: tooLarge}) // what follows on this connection has no beginning
			return
		}
		if err != nil {
			if !errors.Is(err, io.EOF) && !errors.Is(err, os.ErrDeadlineExceeded) {
				s.config.Log.Debug("control socket: read failed", "err", err)
			}
			return
		}
		if err := s.write(conn, s.answer(ctx, line, allowed)); err != nil {
			s.config.Log.Debug("control socket: write failed", "err", err)
			return
		}
	}
}

// admit counts the connection in, or says why not.
func (s *Server) admit(ctx context.Context, conn *net.UnixConn) (access, *Error) {
	p, err := peerOf(conn)
	if err != nil {
		s.config.Log.Warn("control socket: caller unknown", "err", err)
		return accessNone, &Error{Code: CodePermission, Message: "caller unknown"}
	}
	allowed := p.access(uint32(os.Geteuid()), s.readers)
	if allowed == accessNone {
		s.config.Log.Warn("control socket: caller refused", "uid", p.uid, "pid", p.pid)
		return accessNone, &Error{Code: CodePermission, Message: "permission denied", Hint: "be root, or a member of the reading group"}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	readers := 0
	for _, a := range s.conns {
		if a == accessRead {
			readers++
		}
	}
	if len(s.conns) >= connectionsMax || allowed == accessRead && readers >= readerConnectionsMax {
		return accessNone, &Error{Code: CodeBusy, Message: "too many control connections", Hint: "try again"}
	}
	s.conns[conn] = allowed
	if ctx.Err() != nil {
		_ = conn.SetReadDeadline(time.Unix(1, 0)) // it came in after the others were woken
	}
	return allowed, nil
}

func (s *Server) forget(conn *net.UnixConn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.conns, conn)
}

// nextLine waits for a request: long for its first byte, short for the rest.
func (s *Server) nextLine(ctx context.Context, conn *net.UnixConn, in *bufio.Reader) ([]byte, error) {
	if err := s.readUntil(ctx, conn, idleTimeout); err != nil {
		return nil, err
	}
	if _, err := in.Peek(1); err != nil {
		return nil, err
	}
	if err := s.readUntil(ctx, conn, lineTimeout); err != nil {
		return nil, err
	}
	return readLine(in, lineMaxBytes)
}

// readUntil sets the read deadline, unless the server is stopping: then it would undo the one that wakes this connection.
func (s *Server) readUntil(ctx context.Context, conn *net.UnixConn, d time.Duration) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if ctx.Err() != nil {
		return os.ErrDeadlineExceeded
	}
	return conn.SetReadDeadline(time.Now().Add(d))
}

func (s *Server) write(conn *net.UnixConn, r *response) error {
	line, err := json.Marshal(r)
	if err != nil {
		return err
	}
	if err := conn.SetWriteDeadline(time.Now().Add(lineTimeout)); err != nil {
		return err
	}
	_, err = conn.Write(append(line, '\n'))
	return err
}

// answer serves one line.
func (s *Server) answer(ctx context.Context, line []byte, allowed access) *response {
	var r request
	if err := json.Unmarshal(line, &r); err != nil {
		return &response{ID: r.ID, Error: invalid("no request: %v", err)}
	}
	result, err := call(ctx, s.config.Service, s.methods, r, allowed)
	if err != nil {
		if err.Code == CodeInternal {
			s.config.Log.Error("control request failed", "method", r.Method, "err", err)
		}
		return &response{ID: r.ID, Error: err}
	}
	return &response{ID: r.ID, Result: result}
}

// call does what a request asks, within its time.
func call(ctx context.Context, service Service, methods map[string]method, r request, allowed access) (json.RawMessage, *Error) {
	m, ok := methods[r.Method]
	if !ok {
		return nil, &Error{Code: CodeUnknownMethod, Message: fmt.Sprintf("unknown method %q", r.Method), Hint: "is the daemon older than its client?"}
	}
	if allowed < m.needs {
		return nil, &Error{Code: CodePermission, Message: fmt.Sprintf("%s: permission denied", r.Method), Hint: "be root, or the user that registrard runs as"}
	}
	timeout := timeoutDefault
	if r.TimeoutMS > 0 {
		timeout = min(time.Duration(min(r.TimeoutMS, timeoutMax.Milliseconds()))*time.Millisecond, timeoutMax)
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	result, err := m.do(ctx, service, r.Params)
	if err != nil {
		return nil, asError(err)
	}
	b, err := json.Marshal(result)
	if err != nil {
		return nil, asError(fmt.Errorf("encode the answer to %s: %w", r.Method, err))
	}
	return b, nil
}

// lockFile takes an exclusive lock; the kernel gives it back when this process ends, however it does (flock(2)).
func lockFile(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("control socket: %w", err)
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		_ = f.Close() // err says more
		if errors.Is(err, unix.EWOULDBLOCK) {
			return nil, fmt.Errorf("control socket: %s is locked: %w", path, ErrInUse)
		}
		return nil, fmt.Errorf("control socket: lock %s: %w", path, err)
	}
	return f, nil
}

// groupID returns the number of a group, -1 when there is none of that name.
func groupID(name string) int {
	if name == "" {
		return -1
	}
	g, err := user.LookupGroup(name)
	if err != nil {
		return -1
	}
	id, err := strconv.Atoi(g.Gid)
	if err != nil {
		return -1
	}
	return id
}
