package control

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"reflect"
	"sync/atomic"
	"time"

	"github.com/godbus/dbus/v5"
)

// Limits of the bus object.
const (
	// busSetupTimeout is the time to connect, export and take the name.
	busSetupTimeout = 5 * time.Second
	// busBackoffMin and busBackoffMax bound the wait before the bus is tried again; it doubles each time.
	busBackoffMin = 100 * time.Millisecond
	busBackoffMax = 5 * time.Second
	// busCallsMax is the most calls served at a time; godbus starts a goroutine for each that arrives.
	busCallsMax = 32
	// busPollInterval is how often the status is looked at for what signals tell.
	busPollInterval = 250 * time.Millisecond
)

// Flags and answers of org.freedesktop.DBus.RequestName (D-Bus specification, "org.freedesktop.DBus.RequestName").
const (
	busDoNotQueue   = uint32(4)
	busPrimaryOwner = uint32(1)
)

// BusConfig says what is put on the bus.
type BusConfig struct {
	Instance string // see BusName
	Address  string // of the bus, as in DBUS_SYSTEM_BUS_ADDRESS; "": the system bus
	Service  Service
	Log      *slog.Logger
}

// Bus is the daemon's object on the system bus. It comes and goes with the bus; the daemon does not depend on it.
type Bus struct {
	config    BusConfig
	methods   map[string]method
	calls     chan struct{} // a token for each call under way
	connected atomic.Bool
}

// NewBus returns a Bus that is not on the bus yet.
func NewBus(config BusConfig) *Bus {
	if config.Address == "" {
		config.Address = systemBusAddress()
	}
	return &Bus{config: config, methods: methods(), calls: make(chan struct{}, busCallsMax)}
}

// Connected tells whether the object is on the bus.
func (b *Bus) Connected() bool { return b.connected.Load() }

// Run keeps the object on the bus until ctx ends, and returns nil then. Whatever happens to the bus is logged when it changes.
func (b *Bus) Run(ctx context.Context) error {
	wait := busBackoffMin
	told := false
	for ctx.Err() == nil {
		conn, err := b.setUp(ctx)
		if err == nil {
			b.config.Log.Info("on the system bus", "name", BusName(b.config.Instance))
			wait, told = busBackoffMin, false
			b.connected.Store(true)
			err = b.tell(ctx, conn)
			b.connected.Store(false)
			_ = conn.Close() // it is of no use any more
		}
		if ctx.Err() != nil {
			break
		}
		if !told {
			b.config.Log.Warn("not on the system bus; the control socket answers all the same", "err", err)
			told = true
		}
		select {
		case <-time.After(wait):
			wait = min(2*wait, busBackoffMax)
		case <-ctx.Done():
		}
	}
	return nil
}

// setUp connects, exports the object, and takes the name last, so that whoever sees the name finds the object.
func (b *Bus) setUp(ctx context.Context) (*busConn, error) {
	ctx2, cancel := context.WithTimeout(ctx, busSetupTimeout)
	defer cancel()
	conn, err := dialBus(ctx2, b.config.Address)
	if err != nil {
		return nil, err
	}
	o := &object{bus: b, conn: conn, ctx: ctx}
	if err = o.export(); err == nil {
		var reply uint32
		name := BusName(b.config.Instance)
		err = conn.BusObject().CallWithContext(ctx2, busDaemon+".RequestName", 0, name, busDoNotQueue).Store(&reply)
		if err == nil && reply != busPrimaryOwner {
			err = fmt.Errorf("%s belongs to another process", name)
		}
	}
	if err != nil {
		_ = conn.Close() // err says more
		return nil, err
	}
	return conn, nil
}

// tell sends signals about what changes, until the connection or ctx ends.
func (b *Bus) tell(ctx context.Context, conn *busConn) error {
	tick := time.NewTicker(busPollInterval)
	defer tick.Stop()
	old := b.config.Service.Status()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-conn.Context().Done():
			return errors.New("the bus has closed the connection")
		case <-tick.C:
		}
		status := b.config.Service.Status()
		for _, s := range signals(old, status) {
			if err := conn.Emit(busPath, s.name, s.values...); err != nil {
				return fmt.Errorf("emit %s: %w", s.name, err)
			}
		}
		old = status
	}
}

// signal is one that is due.
type signal struct {
	name   string
	values []any
}

// signals returns what is to be told when the status goes from old to status.
func signals(old, status Status) []signal {
	var due []signal
	if old.Role != status.Role {
		due = append(due, signal{busInterface + ".RoleChanged", []any{string(old.Role), string(status.Role), status.Epoch}})
	}
	if old.State != status.State {
		due = append(due, signal{busInterface + ".StateChanged", []any{string(old.State), string(status.State)}})
	}
	if old.Synced != status.Synced {
		due = append(due, signal{busInterface + ".SyncedChanged", []any{status.Synced}})
	}
	if old.Quorate != status.Quorate {
		due = append(due, signal{busInterface + ".QuorateChanged", []any{status.Quorate}})
	}
	before, after := statusValues(old), statusValues(status)
	changed := make(map[string]dbus.Variant)
	for _, p := range properties() {
		if p.told && !reflect.DeepEqual(before[p.name].Value(), after[p.name].Value()) {
			changed[p.name] = after[p.name]
		}
	}
	if len(changed) > 0 {
		due = append(due, signal{busProperties + ".PropertiesChanged", []any{busInterface, changed, []string{}}})
	}
	return due
}

// object is the object on one connection. The exported methods of its parts are what callers on the bus see.
type object struct {
	bus  *Bus
	conn *busConn
	// ctx is that of Bus.Run: godbus hands a method none.
	ctx context.Context
}

func (o *object) export() error {
	for _, e := range []struct {
		name  string
		value any
	}{
		{busManager, (*busManagerMethods)(o)},
		{busProperties, (*busPropertyMethods)(o)},
	} {
		if err := o.conn.Export(e.value, busPath, e.name); err != nil {
			return fmt.Errorf("export %s: %w", e.name, err)
		}
	}
	return exportIntrospection(o.conn.Conn)
}

// serve does what a call asks. Those who may write are root and the daemon's own user; the bus' policy keeps everybody else away from
// the Manager already, where it is installed.
func (o *object) serve(sender dbus.Sender, r request) (json.RawMessage, *dbus.Error) {
	select {
	case o.bus.calls <- struct{}{}:
		defer func() { <-o.bus.calls }()
	default:
		return nil, toBus(&Error{Code: CodeBusy, Message: "too many calls", Hint: "try again"})
	}
	ctx, cancel := context.WithTimeout(o.ctx, busSetupTimeout)
	defer cancel()
	var uid uint32
	err := o.conn.BusObject().CallWithContext(ctx, busDaemon+".GetConnectionUnixUser", 0, string(sender)).Store(&uid)
	if err != nil || uid != 0 && uid != uint32(os.Geteuid()) {
		return nil, toBus(&Error{Code: CodePermission, Message: r.Method + ": permission denied", Hint: "be root, or the user that registrard runs as"})
	}
	result, fault := call(o.ctx, o.bus.config.Service, o.bus.methods, r, accessWrite)
	if fault != nil {
		return nil, toBus(fault)
	}
	return result, nil
}

// busManagerMethods is the interface org.sipha.Registrard1.Manager.
type busManagerMethods object

// Promote makes the instance primary within timeoutMS milliseconds; 0: the default.
func (m *busManagerMethods) Promote(sender dbus.Sender, timeoutMS uint32) *dbus.Error {
	_, err := (*object)(m).serve(sender, request{Method: methodPromote, TimeoutMS: int64(timeoutMS)})
	return err
}

// Demote makes the instance a replica within timeoutMS milliseconds; 0: the default.
func (m *busManagerMethods) Demote(sender dbus.Sender, timeoutMS uint32) *dbus.Error {
	_, err := (*object)(m).serve(sender, request{Method: methodDemote, TimeoutMS: int64(timeoutMS)})
	return err
}

// Reload reads the configuration again.
func (m *busManagerMethods) Reload(sender dbus.Sender) *dbus.Error {
	_, err := (*object)(m).serve(sender, request{Method: methodReload})
	return err
}

// Call calls any method of the control API: params and result are JSON, as on the socket.
func (m *busManagerMethods) Call(sender dbus.Sender, method, params string, timeoutMS uint32) (string, *dbus.Error) {
	if len(params) > lineMaxBytes {
		return "", toBus(&Error{Code: CodeTooLarge, Message: fmt.Sprintf("params of more than %d bytes", lineMaxBytes)})
	}
	if !json.Valid([]byte(params)) {
		return "", toBus(invalid("params is no JSON"))
	}
	result, err := (*object)(m).serve(sender, request{Method: method, Params: json.RawMessage(params), TimeoutMS: int64(timeoutMS)})
	return string(result), err
}

// busPropertyMethods is the interface org.freedesktop.DBus.Properties. Values are those of the moment.
type busPropertyMethods object

// Get returns one property.
func (m *busPropertyMethods) Get(iface, name string) (dbus.Variant, *dbus.Error) {
	values, err := m.GetAll(iface)
	if err != nil {
		return dbus.Variant{}, err
	}
	v, ok := values[name]
	if !ok {
		return dbus.Variant{}, dbus.NewError(busDaemon+".Error.UnknownProperty", []any{fmt.Sprintf("no property %q", name)})
	}
	return v, nil
}

// GetAll returns all properties.
func (m *busPropertyMethods) GetAll(iface string) (map[string]dbus.Variant, *dbus.Error) {
	if iface != busInterface && iface != "" {
		return nil, dbus.NewError(busDaemon+".Error.UnknownInterface", []any{fmt.Sprintf("no properties in %q", iface)})
	}
	return statusValues(m.bus.config.Service.Status()), nil
}

// Set refuses: all properties are read-only.
func (m *busPropertyMethods) Set(_, name string, _ dbus.Variant) *dbus.Error {
	return dbus.NewError(busDaemon+".Error.PropertyReadOnly", []any{fmt.Sprintf("property %q is read-only", name)})
}

func toBus(e *Error) *dbus.Error {
	return dbus.NewError(errorName(e.Code), []any{e.Message, e.Hint})
}
