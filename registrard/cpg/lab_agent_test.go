//go:build integration

package cpg_test

import (
	"context"
	"encoding/gob"
	"errors"
	"fmt"
	"io"
	"net/rpc"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"sipha/registrard/cpg"
)

// roleEnv makes this test binary an agent inside a node's namespaces.
const roleEnv = "CPG_TEST_ROLE"

func TestMain(m *testing.M) {
	for _, e := range []cpg.Event{cpg.Message{}, cpg.ConfChange{}, cpg.RingChange{}, cpg.Quorum{}} {
		gob.Register(e)
	}
	if os.Getenv(roleEnv) != "" {
		os.Exit(serveAgent())
	}
	goleak.VerifyTestMain(m)
}

// stdio is an agent's connection to the test.
type stdio struct {
	io.Reader
	io.Writer
}

func (stdio) Close() error { return nil }

// serveAgent runs until the test closes its end.
func serveAgent() int {
	a := &Agent{conns: map[string]*recorder{}}
	s := rpc.NewServer()
	if err := s.RegisterName("Agent", a); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	s.ServeConn(stdio{os.Stdin, os.Stdout})
	return 0
}

// Agent does a test's bidding inside a node's namespaces.
type Agent struct {
	mu       sync.Mutex
	corosync *exec.Cmd
	conns    map[string]*recorder
}

// Shell runs a script and returns what it printed.
func (a *Agent) Shell(script string, out *string) error {
	b, err := exec.Command("sh", "-c", script).CombinedOutput()
	*out = string(b)
	return err
}

// recorder is a connection and all that came out of it.
type recorder struct {
	dialer cpg.Dialer
	conn   *cpg.Conn
	group  *cpg.Group

	mu     sync.Mutex
	events []cpg.Event
	own    int // messages of this process's own that came back
	err    error
	more   chan struct{} // closed and replaced when something was added
}

// Outcome is an error on its way to the test.
type Outcome struct {
	Code cpg.Code
	Text string
	Took time.Duration
}

func (o Outcome) ok() bool { return o.Text == "" }

func outcome(start time.Time, err error) Outcome {
	o := Outcome{Took: time.Since(start)}
	if err != nil {
		o.Text = err.Error()
		errors.As(err, &o.Code)
	}
	return o
}

// Empty is no argument, or no result.
type Empty struct{}

// Setup is what a node needs before its Corosync.
type Setup struct {
	Config string
	Key    []byte
	Addr   string // with the length of the prefix
}

// Setup gives the node its private directories and its configuration.
func (a *Agent) Setup(s Setup, _ *Empty) error {
	if err := syscall.Mount("", "/", "", syscall.MS_REC|syscall.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("make mounts private: %w", err)
	}
	if err := syscall.Mount("proc", "/proc", "proc", 0, ""); err != nil {
		return fmt.Errorf("mount /proc: %w", err)
	}
	for _, dir := range []string{"/run", "/dev/shm", "/etc/corosync", "/var/lib/corosync", "/var/log/corosync"} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return err
		}
		if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "mode=0755"); err != nil {
			return fmt.Errorf("mount %s: %w", dir, err)
		}
	}
	for name, data := range map[string][]byte{"corosync.conf": []byte(s.Config), "authkey": s.Key} {
		if err := os.WriteFile(filepath.Join("/etc/corosync", name), data, 0o400); err != nil {
			return err
		}
	}
	return a.Run([]string{
		"ip link set lo up",
		"ip addr add " + s.Addr + " dev eth0",
		"ip link set eth0 up",
	}, nil)
}

// Run runs commands, words divided by blanks.
func (a *Agent) Run(lines []string, _ *Empty) error {
	for _, line := range lines {
		words := strings.Fields(line)
		if out, err := exec.Command(words[0], words[1:]...).CombinedOutput(); err != nil {
			return fmt.Errorf("%s: %w: %s", line, err, out)
		}
	}
	return nil
}

// Corosync starts the node's Corosync, or sends it a signal; SIGKILL and SIGTERM
// wait for its end.
func (a *Agent) Corosync(action string, _ *Empty) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if action == "start" {
		cmd := exec.Command("corosync", "-f")
		cmd.Stderr, cmd.Stdout = os.Stderr, os.Stderr
		a.corosync = cmd
		return cmd.Start()
	}
	sig, ok := map[string]syscall.Signal{
		"SIGSTOP": syscall.SIGSTOP, "SIGCONT": syscall.SIGCONT,
		"SIGKILL": syscall.SIGKILL, "SIGTERM": syscall.SIGTERM,
	}[action]
	if !ok {
		return fmt.Errorf("unknown action %q", action)
	}
	if err := a.corosync.Process.Signal(sig); err != nil {
		return err
	}
	if sig == syscall.SIGKILL || sig == syscall.SIGTERM {
		_ = a.corosync.Wait() // says how it died, which is known
	}
	return nil
}

// DialArgs names a new connection.
type DialArgs struct {
	Conn    string
	Options cpg.Options
	Timeout time.Duration
	// Wait also waits for a Corosync that is not there yet.
	Wait bool
}

// Dial connects. A name can be used again.
func (a *Agent) Dial(args DialArgs, out *Outcome) error {
	start := time.Now()
	ctx, cancel := context.WithTimeout(context.Background(), args.Timeout)
	defer cancel()
	a.mu.Lock()
	r := a.conns[args.Conn]
	if r == nil || r.conn != nil {
		r = &recorder{dialer: cpg.Dialer{Options: args.Options}, more: make(chan struct{})}
		a.conns[args.Conn] = r
	}
	a.mu.Unlock()
	var err error
	for {
		r.conn, err = r.dialer.Dial(ctx)
		if !args.Wait || !errors.Is(err, cpg.ErrLibrary) || ctx.Err() != nil {
			break
		}
		runtime.Gosched()
	}
	*out = outcome(start, err)
	return nil
}

// JoinArgs says which group.
type JoinArgs struct {
	Conn, Group string
	Timeout     time.Duration
	// Deaf leaves what comes unread until Listen.
	Deaf bool
}

// Join joins and starts to record.
func (a *Agent) Join(args JoinArgs, out *Outcome) error {
	start := time.Now()
	ctx, cancel := context.WithTimeout(context.Background(), args.Timeout)
	defer cancel()
	r := a.recorder(args.Conn)
	g, err := r.conn.Join(ctx, args.Group)
	if err == nil {
		r.group = g
	}
	if err == nil && !args.Deaf {
		go r.record()
	}
	*out = outcome(start, err)
	return nil
}

// Listen starts to record a group that was joined deaf.
func (a *Agent) Listen(conn string, _ *Empty) error {
	go a.recorder(conn).record()
	return nil
}

func (a *Agent) recorder(conn string) *recorder {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.conns[conn]
}

func (r *recorder) record() {
	for {
		events, err := r.group.Next(context.Background())
		r.mu.Lock()
		r.events = append(r.events, events...)
		for _, e := range events {
			if m, ok := e.(cpg.Message); ok && m.From == r.group.Self() {
				r.own++
			}
		}
		r.err = err
		close(r.more)
		r.more = make(chan struct{})
		r.mu.Unlock()
		if err != nil {
			return
		}
	}
}

// EventsArgs asks for what came after the first From events.
type EventsArgs struct {
	Conn    string
	From    int
	Timeout time.Duration
}

// Events is what came, and the end if that came too.
type Events struct {
	Self   cpg.Member
	Events []cpg.Event
	End    Outcome
}

// Events waits for more events than From, for the end, or for the time given.
func (a *Agent) Events(args EventsArgs, out *Events) error {
	r := a.recorder(args.Conn)
	timeout := time.After(args.Timeout)
	out.Self = r.group.Self()
	for {
		r.mu.Lock()
		more := r.more
		out.Events = append([]cpg.Event(nil), r.events[min(args.From, len(r.events)):]...)
		out.End = outcome(time.Now(), r.err)
		r.mu.Unlock()
		if len(out.Events) > 0 || !out.End.ok() {
			return nil
		}
		select {
		case <-more:
		case <-timeout:
			return nil
		}
	}
}

// PumpArgs says what to send.
type PumpArgs struct {
	Conn        string
	Count, Size int
	// Window is how many messages may be on their way; 0 is no limit.
	Window  int
	Timeout time.Duration
}

// Pump sends numbered messages.
func (a *Agent) Pump(args PumpArgs, out *Outcome) error {
	start := time.Now()
	ctx, cancel := context.WithTimeout(context.Background(), args.Timeout)
	defer cancel()
	r := a.recorder(args.Conn)
	body := make([]byte, args.Size)
	var err error
	for i := 0; i < args.Count && err == nil; i++ {
		if args.Window > 0 {
			err = r.awaitOwn(ctx, i-args.Window+1)
		}
		if err == nil {
			head := fmt.Sprintf("%-12d", i)
			err = r.group.Multicast(ctx, []byte(head), body[:max(0, args.Size-len(head))])
		}
	}
	if err == nil && args.Window > 0 {
		err = r.awaitOwn(ctx, args.Count)
	}
	*out = outcome(start, err)
	return nil
}

// awaitOwn waits until n own messages have come back.
func (r *recorder) awaitOwn(ctx context.Context, n int) error {
	for {
		r.mu.Lock()
		own, more := r.own, r.more
		r.mu.Unlock()
		if own >= n {
			return nil
		}
		select {
		case <-more:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// TryArgs is one message.
type TryArgs struct {
	Conn string
	Size int
	// Parts makes it many small parts instead.
	Parts int
	// Times repeats it until an error comes.
	Times int
}

// Try sends without a retry. Took is the longest single call.
func (a *Agent) Try(args TryArgs, out *Outcome) error {
	r := a.recorder(args.Conn)
	parts := [][]byte{make([]byte, args.Size)}
	if args.Parts > 0 {
		parts = make([][]byte, args.Parts)
		for i := range parts {
			parts[i] = []byte{byte(i)}
		}
	}
	longest := time.Duration(0)
	for range max(1, args.Times) {
		start := time.Now()
		err := r.group.TryMulticast(parts...)
		*out = outcome(start, err)
		longest = max(longest, out.Took)
		if err != nil {
			break
		}
	}
	out.Took = longest
	return nil
}

// CallArgs names one of a connection's simple calls.
type CallArgs struct {
	Conn, What string
	Timeout    time.Duration
}

// Call leaves, closes or asks for quorum.
func (a *Agent) Call(args CallArgs, out *Outcome) error {
	start := time.Now()
	ctx, cancel := context.WithTimeout(context.Background(), args.Timeout)
	defer cancel()
	r := a.recorder(args.Conn)
	var err error
	switch args.What {
	case "leave":
		err = r.group.Leave(ctx)
	case "close":
		err = r.conn.Close()
	case "requery":
		err = r.group.RequeryQuorum(ctx)
	case "config":
		_, err = r.conn.Config(ctx)
	default:
		return fmt.Errorf("unknown call %q", args.What)
	}
	*out = outcome(start, err)
	return nil
}

// Config reads Corosync's configuration.
func (a *Agent) Config(conn string, out *cpg.Config) error {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	c, err := a.recorder(conn).conn.Config(ctx)
	*out = c
	return err
}

// Resources is what the agent's process holds.
type Resources struct{ Goroutines, Threads, Descriptors int }

// Resources counts them.
func (a *Agent) Resources(_ Empty, out *Resources) error {
	out.Goroutines = runtime.NumGoroutine()
	for dir, n := range map[string]*int{"task": &out.Threads, "fd": &out.Descriptors} {
		list, err := os.ReadDir("/proc/self/" + dir)
		if err != nil {
			return err
		}
		*n = len(list)
	}
	return nil
}
