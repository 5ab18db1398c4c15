package control

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"sipha/registrard/location"
)

const nobody = 65534

func TestClient(t *testing.T) {
	t.Parallel()
	s := newService()
	path, _ := serve(t, s, "")
	exercise(t, s, dial(t, path))
}

// exercise calls every method through c, and compares with what s holds.
func exercise(t *testing.T, s *service, c *Client) {
	ctx := t.Context()
	check := func(what string, err error) {
		t.Helper()
		if err != nil {
			t.Fatalf("%s: %v", what, err)
		}
	}
	check("ping", c.Ping(ctx))

	score := ScoreSynced
	s.change(func(st *Status) {
		*st = Status{
			Node: "node2", NodeID: 2, Instance: DefaultInstance, Role: RoleReplica, State: StateSynced, Epoch: "7.2", Index: 1 << 40, Committed: 41,
			Digest: "00ff", Synced: true, Complete: true, Serving: true, Quorate: true, Ring: "1.5c",
			Voters:   []Voter{{1, "node1", true}, {2, "node2", false}},
			Members:  []Member{{1, "node1", RolePrimary, 42, true, false}, {2, "node2", RoleReplica, 40, false, false}},
			Bindings: 3, AORs: 2, Users: 1, Score: &score, Degraded: []string{"not durable"}, Progress: "syncing 41 %",
			PID: 4711, Version: "1.0", UptimeS: 17, LastError: "x", Durable: true, Standalone: true, ConfigHash: "abcd",
		}
	})
	got, err := c.Status(ctx)
	check("status", err)
	if d := cmp.Diff(s.Status(), got); d != "" {
		t.Errorf("status (-want +got):\n%s", d)
	}
	n, err := c.Score(ctx)
	check("score", err)
	if n == nil || *n != ScoreSynced {
		t.Errorf("score = %v, want %d", n, ScoreSynced)
	}

	check("bootstrap", c.Bootstrap(ctx))
	check("promote", c.Promote(ctx))
	if got, err = c.Status(ctx); err != nil || got.Role != RolePrimary {
		t.Errorf("after promote: role %q, %v", got.Role, err)
	}
	check("demote", c.Demote(ctx))
	if n, err = c.Score(ctx); err != nil || n != nil {
		t.Errorf("score after demote = %v, %v, want null", n, err)
	}
	check("reload", c.Reload(ctx))
	settings, err := c.Config(ctx)
	check("config", err)
	if d := cmp.Diff(s.Config(), settings); d != "" {
		t.Errorf("config (-want +got):\n%s", d)
	}
	exerciseUsers(t, s, c)
	exerciseContacts(t, s, c)
}

func exerciseUsers(t *testing.T, s *service, c *Client) {
	ctx := t.Context()
	alice := location.User{AOR: "sip:alice@example.org", Username: "alice", Realm: "example.org", Has: 1<<location.MD5 | 1<<location.SHA256 | 1<<location.SHA512256}
	alice.MD5[0], alice.SHA256[31], alice.SHA512256[5] = 1, 2, 3
	if err := c.AddUser(ctx, NewUser(alice), false); err != nil {
		t.Fatalf("add: %v", err)
	}
	if d := cmp.Diff(alice, s.users[alice.AOR]); d != "" {
		t.Errorf("stored user (-want +got):\n%s", d)
	}
	err := c.AddUser(ctx, NewUser(alice), false)
	if !errors.Is(err, ErrExists) || !strings.Contains(err.Error(), "use --replace") {
		t.Errorf("add again: %v, want ErrExists with its hint", err)
	}
	if err := c.AddUser(ctx, NewUser(alice), true); err != nil {
		t.Errorf("replace: %v", err)
	}
	var more []User
	for i := range 3 {
		name := fmt.Sprintf("bob%d", i)
		u := location.User{AOR: location.AOR("sip:" + name + "@example.org"), Username: name, Realm: "example.org", Has: 1 << location.SHA256}
		more = append(more, NewUser(u))
	}
	if err := c.ImportUsers(ctx, more); err != nil {
		t.Fatalf("import: %v", err)
	}
	var listed []User
	for after := location.AOR(""); ; {
		users, next, err := c.Users(ctx, after, 3)
		if err != nil {
			t.Fatalf("list: %v", err)
		}
		listed = append(listed, users...)
		if after = next; next == "" {
			break
		}
	}
	want := []User{{AOR: alice.AOR, Username: "alice", Realm: "example.org", Algorithms: []string{"MD5", "SHA-256", "SHA-512-256"}}}
	for _, u := range more {
		want = append(want, User{AOR: u.AOR, Username: u.Username, Realm: u.Realm, Algorithms: []string{"SHA-256"}})
	}
	if d := cmp.Diff(want, listed); d != "" {
		t.Errorf("list (-want +got):\n%s", d)
	}
	if err := c.RemoveUser(ctx, alice.AOR); err != nil {
		t.Errorf("remove: %v", err)
	}
	if err := c.RemoveUser(ctx, alice.AOR); !errors.Is(err, ErrNotFound) {
		t.Errorf("remove again: %v, want ErrNotFound", err)
	}
}

func exerciseContacts(t *testing.T, s *service, c *Client) {
	ctx := t.Context()
	q := 0.5
	s.mu.Lock()
	s.contacts["sip:alice@example.org"] = []Contact{{URI: "sip:a@192.0.2.1", Q: &q, ExpiresS: 60, CallID: "x", CSeq: 1, Path: []string{"<sip:p;lr>"}}, {URI: "sip:b@192.0.2.1"}}
	s.contacts["sip:bob@example.org"] = []Contact{{URI: "sip:c@192.0.2.1"}}
	want := Registration{AOR: "sip:alice@example.org", Contacts: s.contacts["sip:alice@example.org"]}
	s.mu.Unlock()
	page, next, err := c.Contacts(ctx, "", 1)
	if err != nil || next != "sip:alice@example.org" {
		t.Fatalf("list: next %q, %v", next, err)
	}
	if d := cmp.Diff([]Registration{want}, page); d != "" {
		t.Errorf("first page (-want +got):\n%s", d)
	}
	if page, next, err = c.Contacts(ctx, next, 2); err != nil || next != "" || len(page) != 1 {
		t.Errorf("second page: %v, next %q, %v", page, next, err)
	}
	one, err := c.Registration(ctx, want.AOR)
	if d := cmp.Diff(want, one); err != nil || d != "" {
		t.Errorf("show: %v (-want +got):\n%s", err, d)
	}
	if other, err := c.Registration(ctx, "SIP:alice@EXAMPLE.org"); err != nil || other.AOR != want.AOR {
		t.Errorf("show by another spelling: %q, %v", other.AOR, err)
	}
	if _, err = c.Registration(ctx, "sip:carol@example.org"); !errors.Is(err, ErrNotFound) {
		t.Errorf("show of nobody: %v, want ErrNotFound", err)
	}
	if n, err := c.RemoveContact(ctx, want.AOR, "sip:b@192.0.2.1"); err != nil || n != 1 {
		t.Errorf("remove one: %d, %v", n, err)
	}
	if n, err := c.RemoveContact(ctx, want.AOR, ""); err != nil || n != 1 {
		t.Errorf("remove the rest: %d, %v", n, err)
	}
}

func TestTimeout(t *testing.T) {
	t.Parallel()
	s := newService()
	s.block = true
	path, _ := serve(t, s, "")
	c := dial(t, path)
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
	defer cancel()
	err := c.Promote(ctx)
	if !errors.Is(err, ErrTimeout) {
		t.Fatalf("promote: %v, want ErrTimeout", err)
	}
	if ctx.Err() != nil {
		t.Error("the daemon's own answer came too late: it says more than the client's timeout")
	}
	if err := c.Ping(t.Context()); err != nil {
		t.Errorf("ping on the same connection: %v", err)
	}
}

// TestMute has a listener that never answers.
func TestMute(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "s")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	c := dial(t, path)
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if err := c.Ping(ctx); !errors.Is(err, ErrTimeout) {
		t.Errorf("ping: %v, want ErrTimeout", err)
	}
	if err := c.Ping(t.Context()); !errors.Is(err, ErrTimeout) {
		t.Errorf("ping after a broken exchange: %v, want the same error at once", err)
	}
}

func TestShutdown(t *testing.T) {
	t.Parallel()
	s := newService()
	s.block = true
	path, stop := serve(t, s, "")
	busy, idle := dial(t, path), dial(t, path)
	if err := idle.Ping(t.Context()); err != nil {
		t.Fatal(err)
	}
	answered := make(chan error, 1)
	go func() { answered <- busy.Promote(t.Context()) }()
	eventually(t, "promote under way", func() bool { return len(s.written()) == 1 })
	stop()
	if err := <-answered; !errors.Is(err, ErrShuttingDown) {
		t.Errorf("promote: %v, want ErrShuttingDown", err)
	}
	if err := idle.Ping(t.Context()); !errors.Is(err, ErrUnavailable) {
		t.Errorf("ping: %v, want ErrUnavailable", err)
	}
	if _, err := Dial(t.Context(), path); !errors.Is(err, ErrUnavailable) {
		t.Errorf("dial: %v, want ErrUnavailable", err)
	}
}

func TestListen(t *testing.T) {
	t.Parallel()
	config := func(t *testing.T) ServerConfig {
		return ServerConfig{Path: filepath.Join(t.TempDir(), SocketName), Service: newService(), Log: testLog(t)}
	}
	t.Run("ErrInUse", func(t *testing.T) {
		t.Parallel()
		c := config(t)
		first, err := Listen(c)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := Listen(c); !errors.Is(err, ErrInUse) {
			t.Errorf("second: %v, want ErrInUse", err)
		}
		if err := first.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
		again, err := Listen(c)
		if err != nil {
			t.Fatalf("after close: %v", err)
		}
		_ = again.Close()
	})
	t.Run("Stale", func(t *testing.T) {
		t.Parallel()
		c := config(t)
		dead, err := net.ListenUnix("unix", &net.UnixAddr{Name: c.Path, Net: "unix"})
		if err != nil {
			t.Fatal(err)
		}
		dead.SetUnlinkOnClose(false)
		_ = dead.Close()
		if _, err := Dial(t.Context(), c.Path); !errors.Is(err, ErrUnavailable) || !strings.Contains(err.Error(), "has died") {
			t.Errorf("dial a stale socket: %v", err)
		}
		s, err := Listen(c)
		if err != nil {
			t.Fatal(err)
		}
		info, err := os.Stat(c.Path)
		if err != nil || info.Mode() != os.ModeSocket|0o660 {
			t.Errorf("mode %v, %v, want socket 0660", info.Mode(), err)
		}
		_ = s.Close()
	})
	t.Run("ErrNoSocket", func(t *testing.T) {
		t.Parallel()
		c := config(t)
		if err := os.WriteFile(c.Path, []byte("precious"), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := Listen(c); err == nil || !strings.Contains(err.Error(), "move it away") {
			t.Errorf("over a file: %v", err)
		}
		if b, _ := os.ReadFile(c.Path); string(b) != "precious" {
			t.Error("the file is gone")
		}
	})
	t.Run("ErrPathTooLong", func(t *testing.T) {
		t.Parallel()
		c := config(t)
		c.Path = "/tmp/" + strings.Repeat("x", 200) + "/s"
		if _, err := Listen(c); err == nil || !strings.Contains(err.Error(), "shorter") {
			t.Errorf("long path: %v", err)
		}
	})
}

func TestPermission(t *testing.T) {
	t.Parallel()
	const group = 1 // "daemon" wherever there is one
	s := newService()
	path, _ := serve(t, s, "daemon")
	if os.Geteuid() == 0 {
		if err := os.Chmod(path, 0o666); err != nil { // so that the server, not the file's mode, says no
			t.Fatal(err)
		}
	}
	if groupID("daemon") != group {
		t.Skip("no group daemon with number 1")
	}
	for _, tt := range []struct {
		name        string
		uid, gid    int
		groups      []int
		read, write bool
	}{
		{"Root", 0, 0, nil, true, true},
		{"Group", nobody, group, nil, true, false},
		{"SupplementaryGroup", nobody, nobody, []int{7, group}, true, false},
		{"ManyGroups", nobody, nobody, append(manyGroups(200), group), true, false},
		{"RootsGroup", nobody, 0, nil, false, false},
		{"Nobody", nobody, nobody, nil, false, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			as(t, tt.uid, tt.gid, tt.groups, func() {
				before := len(s.written())
				for method, want := range map[string]bool{methodStatus: tt.read, methodUsersList: tt.read, methodPromote: tt.write, methodUsersRemove: tt.write} {
					c, err := Dial(t.Context(), path)
					if err != nil {
						t.Errorf("dial: %v", err)
						return
					}
					err = c.transport.call(t.Context(), method, nil, nil)
					if want == errors.Is(err, ErrPermission) {
						t.Errorf("%s: %v, want allowed: %v", method, err, want)
					}
					_ = c.Close()
				}
				if !tt.write && len(s.written()) != before {
					t.Errorf("%d writes got through", len(s.written())-before)
				}
			})
		})
	}
}

func manyGroups(n int) []int {
	var g []int
	for i := range n {
		g = append(g, 1000+i)
	}
	return g
}

// TestModeKeepsOthersOut shows that the socket's mode alone keeps out who is not of the group.
func TestModeKeepsOthersOut(t *testing.T) {
	t.Parallel()
	path, _ := serve(t, newService(), "daemon")
	as(t, nobody, nobody, nil, func() {
		if _, err := Dial(t.Context(), path); !errors.Is(err, ErrPermission) {
			t.Errorf("dial: %v, want ErrPermission", err)
		}
	})
}

func TestConnectionLimits(t *testing.T) {
	t.Parallel()
	path, _ := serve(t, newService(), "daemon")
	if groupID("daemon") != 1 {
		t.Skip("no group daemon with number 1")
	}
	as(t, nobody, 1, nil, func() {
		for i := range readerConnectionsMax + 1 {
			c, err := Dial(t.Context(), path)
			if err != nil {
				t.Errorf("dial %d: %v", i, err)
				return
			}
			t.Cleanup(func() { _ = c.Close() })
			err = c.Ping(t.Context())
			if i < readerConnectionsMax && err != nil || i == readerConnectionsMax && !errors.Is(err, ErrBusy) {
				t.Errorf("reader %d: %v", i, err)
			}
		}
	})
	for i := range connectionsMax - readerConnectionsMax + 1 {
		err := dial(t, path).Ping(t.Context())
		if i < connectionsMax-readerConnectionsMax && err != nil || i == connectionsMax-readerConnectionsMax && !errors.Is(err, ErrBusy) {
			t.Errorf("root %d: %v", i, err)
		}
	}
}

func TestWire(t *testing.T) {
	t.Parallel()
	s := newService()
	path, _ := serve(t, s, "")
	for _, tt := range []struct{ name, line, want string }{
		{"OK", `{"id":7,"method":"score"}`, `{"id":7,"result":{"score":null}}`},
		{"ErrUnknownMethod", `{"id":7,"method":"x"}`, `{"id":7,"error":{"code":"unknown_method","message":"unknown method \"x\"","hint":"is the daemon older than its client?"}}`},
		{"ErrNoJSON", `hello`, `{"id":0,"error":{"code":"invalid","message":"no request: invalid character 'h' looking for beginning of value"}}`},
		{"ErrUnknownParam", `{"id":7,"method":"contacts.remove","params":{"aor":"sip:a@x","contcat":"sip:b@y"}}`, `{"id":7,"error":{"code":"invalid","message":"params: unknown field \"contcat\""}}`},
		{"ErrNoAOR", `{"id":7,"method":"contacts.remove"}`, `{"id":7,"error":{"code":"invalid","message":"aor is needed"}}`},
		{"ErrAOR", `{"id":7,"method":"contacts.show","params":{"aor":"alice"}}`, `{"id":7,"error":{"code":"invalid","message":"aor: malformed SIP URI: scheme is neither sip nor sips in \"alice\""}}`},
		{"ErrNoHash", `{"id":7,"method":"users.add","params":{"users":[{"aor":"sip:a@x","username":"a","realm":"x"}]}}`, `{"id":7,"error":{"code":"invalid","message":"user 1 (\"sip:a@x\"): at least one hash is needed"}}`},
		{"ErrShortHash", `{"id":7,"method":"users.add","params":{"users":[{"aor":"sip:a@x","username":"a","realm":"x","md5":"00"}]}}`, `{"id":7,"error":{"code":"invalid","message":"user 1 (\"sip:a@x\"): md5 must be 32 hexadecimal digits"}}`},
		{"ErrLimit", `{"id":7,"method":"users.list","params":{"limit":-1}}`, `{"id":7,"error":{"code":"invalid","message":"limit is negative"}}`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := ask(t, path, tt.line+"\n"); got != tt.want {
				t.Errorf("answer\n%s\nwant\n%s", got, tt.want)
			}
		})
	}
	t.Run("ErrTooLarge", func(t *testing.T) {
		got := ask(t, path, strings.Repeat(" ", lineMaxBytes+2))
		if want := `{"id":0,"error":{"code":"too_large","message":"line of more than 1048576 bytes"}}`; got != want {
			t.Errorf("answer %s, want %s", got, want)
		}
	})
	t.Run("Longest", func(t *testing.T) {
		line := `{"id":7,"method":"score"}`
		if got := ask(t, path, strings.Repeat(" ", lineMaxBytes-len(line))+line+"\n"); got != `{"id":7,"result":{"score":null}}` {
			t.Errorf("answer %s", got)
		}
	})
	t.Run("HalfClosed", func(t *testing.T) {
		// As `echo ... | nc -U` does.
		if got := ask(t, path, `{"id":1,"method":"ping"}`+"\n"+`{"id":2,"method":"ping"}`); got != `{"id":1,"result":{}}` {
			t.Errorf("answer %s", got)
		}
	})
	if w := s.written(); len(w) > 0 {
		t.Errorf("writes %v got through", w)
	}
}

// ask sends bytes and returns the first line of the answer.
func ask(t *testing.T, path, send string) string {
	t.Helper()
	conn, err := net.Dial("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	_ = conn.SetDeadline(time.Now().Add(patience))
	if _, err := conn.Write([]byte(send)); err != nil {
		t.Fatal(err)
	}
	_ = conn.(*net.UnixConn).CloseWrite()
	line, err := bufio.NewReader(conn).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSuffix(line, "\n")
}

// TestPageFitsLine has more in a page than an answer may hold.
func TestPageFitsLine(t *testing.T) {
	t.Parallel()
	s := newService()
	const aors = 200
	for i := range aors {
		s.contacts[location.AOR(fmt.Sprintf("sip:u%03d@example.org", i))] = []Contact{{URI: "sip:x", UserAgent: strings.Repeat("a", 16<<10)}}
	}
	path, _ := serve(t, s, "")
	c := dial(t, path)
	seen, pages := 0, 0
	for after := location.AOR(""); ; {
		page, next, err := c.Contacts(t.Context(), after, 0)
		if err != nil {
			t.Fatal(err)
		}
		if b, err := json.Marshal(page); err != nil || len(b) > pageMaxBytes+(1<<10) {
			t.Errorf("page of %d bytes, %v", len(b), err)
		}
		seen, pages = seen+len(page), pages+1
		if after = next; next == "" {
			break
		}
	}
	if seen != aors || pages < 4 {
		t.Errorf("%d AORs in %d pages, want %d in more than 4", seen, pages, aors)
	}
}
