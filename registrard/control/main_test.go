package control

import (
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"sipha/registrard/location"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// patience is how long a test waits for what must happen.
const patience = 10 * time.Second

// eventually waits until ok says so.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	deadline := time.Now().Add(patience)
	for !ok() {
		if time.Now().After(deadline) {
			t.Fatalf("%s: not within %s", what, patience)
		}
		time.Sleep(time.Millisecond)
	}
}

// service is a Service in memory.
type service struct {
	mu       sync.Mutex
	status   Status
	users    map[location.AOR]location.User
	contacts map[location.AOR][]Contact
	writes   []string
	block    bool // writing calls wait for the end of their context
	fail     error
}

func newService() *service {
	return &service{
		status:   Status{Node: "node1", NodeID: 1, Instance: DefaultInstance, Role: RoleReplica, State: StateSynced, Voters: []Voter{}, Members: []Member{}, Degraded: []string{}},
		users:    make(map[location.AOR]location.User),
		contacts: make(map[location.AOR][]Contact),
	}
}

func (s *service) change(f func(*Status)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f(&s.status)
}

func (s *service) written() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.writes)
}

// write counts a writing call in; the mutex is held when it returns nil.
func (s *service) write(ctx context.Context, what string) error {
	s.mu.Lock()
	s.writes = append(s.writes, what)
	block, fail := s.block, s.fail
	if !block && fail == nil {
		return nil
	}
	s.mu.Unlock()
	if block {
		<-ctx.Done()
		return ctx.Err()
	}
	return fail
}

func (s *service) Status() Status {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.status
}

func (s *service) Config() []Setting {
	return []Setting{{Key: "registrard.durable", Value: "true", Origin: "default"}}
}

func (s *service) Promote(ctx context.Context) error {
	if err := s.write(ctx, "promote"); err != nil {
		return err
	}
	defer s.mu.Unlock()
	s.status.Role, s.status.State = RolePrimary, StatePrimary
	score := ScorePromoted
	s.status.Score = &score
	return nil
}

func (s *service) Bootstrap(ctx context.Context) error {
	if err := s.write(ctx, "bootstrap"); err != nil {
		return err
	}
	defer s.mu.Unlock()
	return nil
}

func (s *service) Demote(ctx context.Context) error {
	if err := s.write(ctx, "demote"); err != nil {
		return err
	}
	defer s.mu.Unlock()
	s.status.Role, s.status.State, s.status.Score = RoleReplica, StateSynced, nil
	return nil
}

func (s *service) Reload(ctx context.Context) error {
	if err := s.write(ctx, "reload"); err != nil {
		return err
	}
	s.mu.Unlock()
	return nil
}

func (s *service) Contacts(_ context.Context, after location.AOR, limit int) ([]Registration, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var found []Registration
	for aor, contacts := range s.contacts {
		if aor > after {
			found = append(found, Registration{AOR: aor, Contacts: contacts})
		}
	}
	slices.SortFunc(found, func(a, b Registration) int { return strings.Compare(string(a.AOR), string(b.AOR)) })
	return found[:min(limit, len(found))], nil
}

func (s *service) Registration(_ context.Context, aor location.AOR) (Registration, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	contacts, ok := s.contacts[aor]
	if !ok {
		return Registration{}, ErrNotFound
	}
	return Registration{AOR: aor, Contacts: contacts}, nil
}

func (s *service) RemoveContact(ctx context.Context, aor location.AOR, contact string) (int, error) {
	if err := s.write(ctx, "remove contact"); err != nil {
		return 0, err
	}
	defer s.mu.Unlock()
	before := len(s.contacts[aor])
	s.contacts[aor] = slices.DeleteFunc(s.contacts[aor], func(c Contact) bool { return contact == "" || c.URI == contact })
	if before == len(s.contacts[aor]) {
		return 0, ErrNotFound
	}
	return before - len(s.contacts[aor]), nil
}

func (s *service) Users(_ context.Context, after location.AOR, limit int) ([]location.User, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var found []location.User
	for aor, u := range s.users {
		if aor > after {
			found = append(found, u)
		}
	}
	slices.SortFunc(found, func(a, b location.User) int { return strings.Compare(string(a.AOR), string(b.AOR)) })
	return found[:min(limit, len(found))], nil
}

func (s *service) PutUsers(ctx context.Context, users []location.User, replace bool) error {
	if err := s.write(ctx, "put users"); err != nil {
		return err
	}
	defer s.mu.Unlock()
	for _, u := range users {
		if _, ok := s.users[u.AOR]; ok && !replace {
			return &Error{Code: CodeExists, Message: string(u.AOR) + " exists already", Hint: "use --replace"}
		}
	}
	for _, u := range users {
		s.users[u.AOR] = u
	}
	return nil
}

func (s *service) RemoveUser(ctx context.Context, aor location.AOR) error {
	if err := s.write(ctx, "remove user"); err != nil {
		return err
	}
	defer s.mu.Unlock()
	if _, ok := s.users[aor]; !ok {
		return ErrNotFound
	}
	delete(s.users, aor)
	return nil
}

var _ Service = (*service)(nil)

func testLog(t *testing.T) *slog.Logger {
	return slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelDebug}))
}

// shared returns a directory that other users may enter, unlike t.TempDir.
func shared(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "control")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	return dir
}

// serve starts a server and returns its socket's path; stop ends it and reports what Run returned.
func serve(t *testing.T, s Service, group string) (path string, stop func()) {
	t.Helper()
	path = filepath.Join(shared(t), "run", SocketName)
	server, err := Listen(ServerConfig{Path: path, Group: group, Service: s, Log: testLog(t)})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- server.Run(ctx) }()
	stop = sync.OnceFunc(func() {
		cancel()
		select {
		case err := <-done:
			if err != nil {
				t.Errorf("Run: %v", err)
			}
		case <-time.After(patience):
			t.Errorf("Run: not back within %s", patience)
		}
	})
	t.Cleanup(stop)
	return path, stop
}

func dial(t *testing.T, path string) *Client {
	t.Helper()
	c, err := Dial(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// as runs f as another user, on a thread of its own: credentials are those of a thread in Linux. Needs root.
func as(t *testing.T, uid, gid int, groups []int, f func()) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("must be root to act as another user")
	}
	done := make(chan syscall.Errno)
	go func() {
		runtime.LockOSThread() // and never unlocked: the thread ends with this goroutine
		errno := become(uid, gid, groups)
		if errno == 0 {
			f()
		}
		done <- errno
	}()
	if errno := <-done; errno != 0 {
		t.Fatalf("become uid %d gid %d: %v", uid, gid, errno)
	}
}
