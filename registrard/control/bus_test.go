package control

import (
	"bufio"
	"context"
	"encoding/xml"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/godbus/dbus/v5"
	"github.com/godbus/dbus/v5/introspect"
	"github.com/google/go-cmp/cmp"
)

var update = flag.Bool("update", false, "write golden files anew")

const policyFile = "../../packaging/dbus/org.sipha.Registrard1.conf"

// busDefaults are the policies that every system bus begins with (dbus' own system.conf).
const busDefaults = `<!DOCTYPE busconfig PUBLIC "-//freedesktop//DTD D-BUS Bus Configuration 1.0//EN" "http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd">
<busconfig>
  <type>system</type>
  <auth>EXTERNAL</auth>
  <listen>unix:path=%s</listen>
  <policy context="default">
    <allow user="*"/>
    <deny own="*"/>
    <deny send_type="method_call"/>
    <allow send_type="signal"/>
    <allow send_requested_reply="true" send_type="method_return"/>
    <allow send_requested_reply="true" send_type="error"/>
    <allow receive_type="method_call"/>
    <allow receive_type="method_return"/>
    <allow receive_type="error"/>
    <allow receive_type="signal"/>
    <allow send_destination="org.freedesktop.DBus" send_interface="org.freedesktop.DBus"/>
  </policy>
  <includedir>%s</includedir>
</busconfig>
`

// privateBus is a dbus-daemon of a test's own, under the packaged policy with group haclient renamed to one that exists.
type privateBus struct {
	t       *testing.T
	dir     string
	address string
	process *exec.Cmd
}

func newPrivateBus(t *testing.T) *privateBus {
	t.Helper()
	if _, err := exec.LookPath("dbus-daemon"); err != nil {
		t.Skip("no dbus-daemon here")
	}
	if os.Geteuid() != 0 {
		t.Skip("must be root: the policy lets nobody else own the name")
	}
	b := &privateBus{t: t, dir: shared(t)}
	policy, err := os.ReadFile(policyFile)
	if err != nil {
		t.Fatal(err)
	}
	policies := filepath.Join(b.dir, "system.d")
	socket := filepath.Join(b.dir, "bus")
	for name, content := range map[string]string{
		filepath.Join(policies, filepath.Base(policyFile)): strings.ReplaceAll(string(policy), `group="haclient"`, `group="daemon"`),
		filepath.Join(b.dir, "system.conf"):                fmt.Sprintf(busDefaults, socket, policies),
	} {
		if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	b.address = "unix:path=" + socket
	b.start()
	t.Cleanup(func() { b.kill() })
	return b
}

// start returns when the daemon listens: it prints its address then.
func (b *privateBus) start() {
	b.t.Helper()
	b.process = exec.Command("dbus-daemon", "--nofork", "--nosyslog", "--print-address", "--config-file="+filepath.Join(b.dir, "system.conf"))
	b.process.Stderr = b.t.Output()
	out, err := b.process.StdoutPipe()
	if err == nil {
		err = b.process.Start()
	}
	if err == nil {
		_, err = bufio.NewReader(out).ReadString('\n')
	}
	if err != nil {
		b.t.Fatalf("dbus-daemon: %v", err)
	}
}

func (b *privateBus) signal(s syscall.Signal) {
	b.t.Helper()
	if err := b.process.Process.Signal(s); err != nil {
		b.t.Fatal(err)
	}
}

func (b *privateBus) kill() {
	_ = b.process.Process.Kill()
	_ = b.process.Wait() // "signal: killed"
}

// export puts s on the bus, and returns how to take it off again.
func (b *privateBus) export(s Service, instance string) (o *Bus, stop func()) {
	b.t.Helper()
	o = NewBus(BusConfig{Instance: instance, Address: b.address, Service: s, Log: testLog(b.t)})
	ctx, cancel := context.WithCancel(b.t.Context())
	done := make(chan error, 1)
	go func() { done <- o.Run(ctx) }()
	stop = sync.OnceFunc(func() {
		cancel()
		select {
		case err := <-done:
			if err != nil {
				b.t.Errorf("Run: %v", err)
			}
		case <-time.After(patience):
			b.t.Errorf("Run: not back within %s", patience)
		}
	})
	b.t.Cleanup(stop)
	eventually(b.t, "object on the bus", o.Connected)
	return o, stop
}

// client is DialBus with an address.
func (b *privateBus) client(ctx context.Context, instance string) (*Client, error) {
	return dialBusAt(ctx, b.address, instance)
}

func (b *privateBus) dial(instance string) *Client {
	b.t.Helper()
	c, err := b.client(b.t.Context(), instance)
	if err != nil {
		b.t.Fatal(err)
	}
	b.t.Cleanup(func() { _ = c.Close() })
	return c
}

func TestBusClient(t *testing.T) {
	t.Parallel()
	b := newPrivateBus(t)
	s := newService()
	b.export(s, DefaultInstance)
	exercise(t, s, b.dial(DefaultInstance))
}

func TestBusInstances(t *testing.T) {
	t.Parallel()
	b := newPrivateBus(t)
	one, two := newService(), newService()
	two.status.Node = "another"
	b.export(one, DefaultInstance)
	_, stop := b.export(two, "voice-2")
	got, err := b.dial("voice-2").Status(t.Context())
	if err != nil || got.Node != "another" {
		t.Errorf("status of voice-2: %q, %v", got.Node, err)
	}
	gone := b.dial("voice-2")
	stop()
	if _, err := gone.Status(t.Context()); !errors.Is(err, ErrUnavailable) {
		t.Errorf("status of one that has gone: %v, want ErrUnavailable", err)
	}
	if _, err := b.client(t.Context(), "voice-2"); !errors.Is(err, ErrUnavailable) {
		t.Errorf("dial one that has gone: %v, want ErrUnavailable", err)
	}
	other := NewBus(BusConfig{Instance: DefaultInstance, Address: b.address, Service: two, Log: testLog(t)})
	if _, err := other.setUp(t.Context()); err == nil || !strings.Contains(err.Error(), "belongs to another process") {
		t.Errorf("a second of the same name: %v", err)
	}
}

func TestBusErrors(t *testing.T) {
	t.Parallel()
	b := newPrivateBus(t)
	s := newService()
	b.export(s, DefaultInstance)
	c := b.dial(DefaultInstance)
	for _, want := range []*Error{ErrNotPrimary, ErrNotQuorate, ErrNewerPeer, ErrNotSynced, ErrBusy, ErrShuttingDown} {
		s.mu.Lock()
		s.fail = &Error{Code: want.Code, Message: "no; because", Hint: "do this"}
		s.mu.Unlock()
		err := c.Promote(t.Context())
		if d := cmp.Diff(s.fail.Error(), fmt.Sprint(err)); d != "" || !errors.Is(err, want) {
			t.Errorf("%s: %v", want.Code, err)
		}
	}
	s.mu.Lock()
	s.fail, s.block = nil, true
	s.mu.Unlock()
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
	defer cancel()
	if err := c.Promote(ctx); !errors.Is(err, ErrTimeout) || ctx.Err() != nil {
		t.Errorf("promote: %v, want the daemon's own ErrTimeout", err)
	}
	if err := c.transport.call(t.Context(), "nonsense", nil, nil); !errors.Is(err, ErrUnknownMethod) {
		t.Errorf("unknown method: %v", err)
	}
}

// TestBusPolicy runs against the packaged policy: root does everything, the group reads, others nothing, and only root owns the name.
func TestBusPolicy(t *testing.T) {
	t.Parallel()
	b := newPrivateBus(t)
	if groupID("daemon") < 0 {
		t.Skip("no group daemon")
	}
	s := newService()
	b.export(s, DefaultInstance)
	b.export(newService(), "second")
	for _, tt := range []struct {
		name        string
		uid, gid    int
		groups      []int
		read, write bool
	}{
		{"Root", 0, 0, nil, true, true},
		{"Group", nobody, groupID("daemon"), nil, true, false},
		{"SupplementaryGroup", nobody, nobody, []int{groupID("daemon")}, true, false},
		{"Nobody", nobody, nobody, nil, false, false},
	} {
		for _, instance := range []string{DefaultInstance, "second"} {
			t.Run(tt.name+"/"+instance, func(t *testing.T) {
				as(t, tt.uid, tt.gid, tt.groups, func() { checkPolicy(t, b, instance, tt.read, tt.write) })
			})
		}
	}
	if w := s.written(); !slices.Equal(w, []string{"promote"}) {
		t.Errorf("writes that got through: %v, want root's only", w)
	}
	for _, uid := range []int{0, nobody} {
		as(t, uid, uid, nil, func() {
			conn, err := dialBus(t.Context(), b.address)
			if err != nil {
				t.Errorf("uid %d: %v", uid, err)
				return
			}
			defer func() { _ = conn.Close() }()
			reply, err := conn.RequestName(BusName("third"), dbus.NameFlagDoNotQueue)
			if owns := err == nil && reply == dbus.RequestNameReplyPrimaryOwner; owns != (uid == 0) {
				t.Errorf("uid %d owns the name: %v, %v", uid, owns, err)
			}
		})
	}
}

func checkPolicy(t *testing.T, b *privateBus, instance string, read, write bool) {
	c, err := b.client(t.Context(), instance)
	if err != nil {
		t.Errorf("dial: %v", err)
		return
	}
	defer func() { _ = c.Close() }()
	object := c.transport.(*bus).conn.Object(BusName(instance), busPath)
	for what, call := range map[string]func() error{
		"status": func() error { _, err := c.Status(t.Context()); return err },
		"ping":   func() error { return c.Ping(t.Context()) },
		"Get": func() error {
			_, err := object.GetProperty(busInterface + ".Role")
			return busError(t.Context(), "Get", err)
		},
		"Introspect": func() error {
			_, err := introspect.Call(object)
			return busError(t.Context(), "Introspect", err)
		},
	} {
		if err := call(); read == errors.Is(err, ErrPermission) || read && err != nil {
			t.Errorf("%s: %v, want allowed: %v", what, err, read)
		}
	}
	for what, call := range map[string]func() error{
		"promote": func() error { return c.Promote(t.Context()) },
		"users":   func() error { _, _, err := c.Users(t.Context(), "", 0); return err },
	} {
		if err := call(); write == errors.Is(err, ErrPermission) || write && err != nil {
			t.Errorf("%s: %v, want allowed: %v", what, err, write)
		}
	}
}

// TestBusManagerChecksCaller has a bus without the policy's protection.
func TestBusManagerChecksCaller(t *testing.T) {
	t.Parallel()
	b := newPrivateBus(t)
	lax := `<!DOCTYPE busconfig PUBLIC "-//freedesktop//DTD D-BUS Bus Configuration 1.0//EN" "http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd">
<busconfig><policy context="mandatory"><allow send_destination="*"/></policy></busconfig>`
	if err := os.WriteFile(filepath.Join(b.dir, "system.d", "zz.conf"), []byte(lax), 0o644); err != nil {
		t.Fatal(err)
	}
	b.kill()
	b.start()
	s := newService()
	b.export(s, DefaultInstance)
	as(t, nobody, nobody, nil, func() {
		c, err := b.client(t.Context(), DefaultInstance)
		if err != nil {
			t.Error(err)
			return
		}
		defer func() { _ = c.Close() }()
		if _, err := c.Status(t.Context()); err != nil {
			t.Errorf("status: %v: the bus is not lax, so this test shows nothing", err)
		}
		if err := c.Promote(t.Context()); !errors.Is(err, ErrPermission) || len(s.written()) > 0 {
			t.Errorf("promote: %v, want ErrPermission", err)
		}
	})
}

func TestBusComesAndGoes(t *testing.T) {
	t.Parallel()
	b := newPrivateBus(t)
	o, _ := b.export(newService(), DefaultInstance)
	c := b.dial(DefaultInstance)
	b.kill()
	eventually(t, "loss noticed", func() bool { return !o.Connected() })
	if _, err := c.Status(t.Context()); !errors.Is(err, ErrUnavailable) {
		t.Errorf("status without a bus: %v, want ErrUnavailable", err)
	}
	if _, err := b.client(t.Context(), DefaultInstance); !errors.Is(err, ErrUnavailable) {
		t.Errorf("dial without a bus: %v, want ErrUnavailable", err)
	}
	b.start()
	eventually(t, "back on the bus", o.Connected)
	if _, err := b.dial(DefaultInstance).Status(t.Context()); err != nil {
		t.Errorf("status on the new bus: %v", err)
	}
}

// TestBusSilent has a bus that takes connections and answers nothing.
func TestBusSilent(t *testing.T) {
	t.Parallel()
	b := newPrivateBus(t)
	s := newService()
	_, stop := b.export(s, DefaultInstance)
	c := b.dial(DefaultInstance)
	b.signal(syscall.SIGSTOP)
	defer b.signal(syscall.SIGCONT)
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if _, err := c.Status(ctx); !errors.Is(err, ErrTimeout) {
		t.Errorf("status: %v, want ErrTimeout", err)
	}
	ctx, cancel = context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if _, err := b.client(ctx, DefaultInstance); !errors.Is(err, ErrTimeout) {
		t.Errorf("dial: %v, want ErrTimeout", err)
	}
	stop() // fails the test when Run does not come back
}

func TestBusSignals(t *testing.T) {
	t.Parallel()
	b := newPrivateBus(t)
	s := newService()
	b.export(s, DefaultInstance)
	root, _ := b.listen(0, 0, nil)
	member, _ := b.listen(nobody, groupID("daemon"), nil)
	var heard atomic.Int32
	_, other := b.listen(nobody, nobody, func(m *dbus.Message) {
		if m.Headers[dbus.FieldPath].Value() == dbus.ObjectPath(busPath) {
			heard.Add(1)
		}
	})
	s.change(func(st *Status) { st.Role, st.Epoch, st.Index = RolePrimary, "8.1", 5 })
	for name, ch := range map[string]chan *dbus.Signal{"root": root, "group": member} {
		for range 2 {
			select {
			case got := <-ch:
				switch got.Name {
				case busInterface + ".RoleChanged":
					if d := cmp.Diff([]any{"replica", "primary", "8.1"}, got.Body); d != "" {
						t.Errorf("%s: RoleChanged (-want +got):\n%s", name, d)
					}
				case busProperties + ".PropertiesChanged":
					changed := got.Body[1].(map[string]dbus.Variant)
					if len(changed) != 2 || changed["Role"].Value() != "primary" || changed["Epoch"].Value() != "8.1" {
						t.Errorf("%s: PropertiesChanged %v, want Role and Epoch", name, changed)
					}
				default:
					t.Errorf("%s: signal %s", name, got.Name)
				}
			case <-time.After(patience):
				t.Fatalf("%s: no signal", name)
			}
		}
	}
	// The bus handles one message after the other: what was for this connection has come before the answer to this.
	if err := other.BusObject().CallWithContext(t.Context(), busDaemon+".GetId", 0).Err; err != nil {
		t.Fatal(err)
	}
	if n := heard.Load(); n != 0 {
		t.Errorf("others hear %d signals", n)
	}
}

// listen returns what a user hears of the object's signals; intercept sees every message that comes in.
func (b *privateBus) listen(uid, gid int, intercept func(*dbus.Message)) (ch chan *dbus.Signal, conn *busConn) {
	b.t.Helper()
	ch = make(chan *dbus.Signal, 16)
	as(b.t, uid, gid, nil, func() {
		options := []dbus.ConnOption{dbus.WithSignalHandler(dbus.NewSequentialSignalHandler())}
		if intercept != nil {
			options = append(options, dbus.WithIncomingInterceptor(intercept))
		}
		var err error
		if conn, err = dialBus(b.t.Context(), b.address, options...); err == nil {
			err = conn.AddMatchSignal(dbus.WithMatchObjectPath(busPath))
		}
		if err != nil {
			b.t.Error(err)
			return
		}
		conn.Signal(ch)
		b.t.Cleanup(func() { _ = conn.Close() })
	})
	return ch, conn
}

// describe gives interfaces in the form of a file for other programs (D-Bus specification, "Introspection Data Format").
func describe(list []introspect.Interface) []byte {
	b, err := xml.MarshalIndent(introspect.Node{Name: busPath, Interfaces: list}, "", "  ")
	if err != nil {
		panic(err) // these types always marshal
	}
	return append([]byte(strings.TrimSpace(introspect.IntrospectDeclarationString)+"\n"), append(b, '\n')...)
}

func TestSignals(t *testing.T) {
	t.Parallel()
	base := Status{Role: RoleReplica, State: StateSynced, Synced: true, Quorate: true}
	for _, tt := range []struct {
		name   string
		change func(*Status)
		want   []string
	}{
		{"Nothing", func(*Status) {}, nil},
		{"Counters", func(s *Status) { s.Index, s.Committed, s.Bindings, s.UptimeS, s.Digest = 1, 2, 3, 4, "5" }, nil},
		{"Role", func(s *Status) { s.Role = RolePrimary }, []string{"RoleChanged", "PropertiesChanged"}},
		{"State", func(s *Status) { s.State = StateBehind }, []string{"StateChanged", "PropertiesChanged"}},
		{"Synced", func(s *Status) { s.Synced = false }, []string{"SyncedChanged", "PropertiesChanged"}},
		{"Quorate", func(s *Status) { s.Quorate = false }, []string{"QuorateChanged", "PropertiesChanged"}},
		{"Voters", func(s *Status) { s.Voters = []Voter{{1, "a", true}} }, []string{"PropertiesChanged"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			next := base
			tt.change(&next)
			var got []string
			for _, s := range signals(base, next) {
				got = append(got, s.name[strings.LastIndex(s.name, ".")+1:])
			}
			if d := cmp.Diff(tt.want, got); d != "" {
				t.Errorf("signals (-want +got):\n%s", d)
			}
		})
	}
}

// TestIntrospection keeps the description that is packaged for other programs as it is on the bus.
func TestIntrospection(t *testing.T) {
	t.Parallel()
	b := newPrivateBus(t)
	b.export(newService(), DefaultInstance)
	c := b.dial(DefaultInstance)
	conn := c.transport.(*bus).conn
	node, err := introspect.Call(conn.Object(busName, busPath))
	if err != nil {
		t.Fatal(err)
	}
	var own []introspect.Interface
	for _, i := range node.Interfaces {
		if strings.HasPrefix(i.Name, busName) {
			own = append(own, i)
		}
	}
	got := describe(own)
	const golden = "../../packaging/dbus/org.sipha.Registrard1.xml"
	if *update {
		if err := os.WriteFile(golden, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(string(want), string(got)); d != "" {
		t.Errorf("%s is not what is on the bus; run the test with -update (-file +bus):\n%s", golden, d)
	}
	if root, err := introspect.Call(conn.Object(busName, "/")); err != nil || len(root.Children) != 1 || root.Children[0].Name != "org" {
		t.Errorf("introspection of /: %+v, %v", root, err)
	}
	var values map[string]dbus.Variant
	if err := conn.Object(busName, busPath).Call(busProperties+".GetAll", 0, busInterface).Store(&values); err != nil {
		t.Fatal(err)
	}
	for _, p := range own[0].Properties {
		if _, ok := values[p.Name]; !ok {
			t.Errorf("property %s is described, but not on the bus", p.Name)
		}
	}
	if len(values) != len(own[0].Properties) {
		t.Errorf("%d properties on the bus, %d described", len(values), len(own[0].Properties))
	}
	err = conn.Object(busName, busPath).SetProperty(busInterface+".Role", dbus.MakeVariant("primary"))
	if err == nil || !strings.Contains(err.Error(), "read-only") {
		t.Errorf("set a property: %v", err)
	}
}
