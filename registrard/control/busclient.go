package control

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/godbus/dbus/v5"
)

const (
	// busAddressDefault is where the system bus listens (D-Bus specification, "System message bus").
	busAddressDefault = "unix:path=/run/dbus/system_bus_socket"
	// busAddressVariable overrides it, by the same specification.
	busAddressVariable = "DBUS_SYSTEM_BUS_ADDRESS"
	// busWriteTimeout ends a connection whose other side takes nothing any more.
	busWriteTimeout = 5 * time.Second
)

// DialBus connects to an instance over the system bus (DBUS_SYSTEM_BUS_ADDRESS, or its well-known address). The error is
// ErrUnavailable when there is no bus, or the instance is not on it; the bus is never asked to start it.
func DialBus(ctx context.Context, instance string) (*Client, error) {
	return dialBusAt(ctx, systemBusAddress(), instance)
}

func dialBusAt(ctx context.Context, address, instance string) (*Client, error) {
	conn, err := dialBus(ctx, address)
	if err != nil {
		return nil, busDialError(ctx, err)
	}
	b := &bus{conn: conn, name: BusName(instance)}
	var owned bool
	err = conn.BusObject().CallWithContext(ctx, busDaemon+".NameHasOwner", 0, b.name).Store(&owned)
	if err == nil && !owned {
		err = &Error{Code: CodeUnavailable, Message: fmt.Sprintf("%s is not on the system bus", b.name), Hint: "is registrard running? ask its control socket"}
	}
	if err != nil {
		_ = conn.Close() // the error says it all
		return nil, busDialError(ctx, err)
	}
	return &Client{transport: b}, nil
}

// bus is the transport over D-Bus.
type bus struct {
	conn *busConn
	name string
}

func (b *bus) close() error { return b.conn.Close() }

func (b *bus) call(ctx context.Context, method string, params, result any) error {
	ctx, cancel := withDefaultTimeout(ctx)
	defer cancel()
	object := b.conn.Object(b.name, busPath)
	var err error
	switch method {
	case methodPing:
		err = object.CallWithContext(ctx, busPeer+".Ping", dbus.FlagNoAutoStart).Err
	case methodStatus, methodScore:
		err = b.status(ctx, object, result)
	case methodPromote:
		err = object.CallWithContext(ctx, busManager+".Promote", dbus.FlagNoAutoStart, uint32(timeoutMS(ctx))).Err
	case methodDemote:
		err = object.CallWithContext(ctx, busManager+".Demote", dbus.FlagNoAutoStart, uint32(timeoutMS(ctx))).Err
	case methodReload:
		err = object.CallWithContext(ctx, busManager+".Reload", dbus.FlagNoAutoStart).Err
	default:
		err = b.any(ctx, object, method, params, result)
	}
	return busError(ctx, method, err)
}

// status fetches all properties at once.
func (b *bus) status(ctx context.Context, object dbus.BusObject, result any) error {
	var values map[string]dbus.Variant
	if err := object.CallWithContext(ctx, busProperties+".GetAll", dbus.FlagNoAutoStart, busInterface).Store(&values); err != nil {
		return err
	}
	s, err := statusOf(values)
	if err != nil {
		return &Error{Code: CodeInternal, Message: err.Error(), Hint: "are client and daemon of one version?"}
	}
	switch r := result.(type) {
	case *Status:
		*r = s
	case *scoreResult:
		r.Score = s.Score
	}
	return nil
}

// any goes through Manager.Call, which takes and returns JSON as the socket does.
func (b *bus) any(ctx context.Context, object dbus.BusObject, method string, params, result any) error {
	p := []byte("{}")
	if params != nil {
		var err error
		if p, err = json.Marshal(params); err != nil {
			return fmt.Errorf("encode %s: %w", method, err)
		}
	}
	var answer string
	if err := object.CallWithContext(ctx, busManager+".Call", dbus.FlagNoAutoStart, method, string(p), uint32(timeoutMS(ctx))).Store(&answer); err != nil {
		return err
	}
	if result == nil {
		return nil
	}
	if err := json.Unmarshal([]byte(answer), result); err != nil {
		return &Error{Code: CodeInternal, Message: fmt.Sprintf("answer to %s: %v", method, err), Hint: "are client and daemon of one version?"}
	}
	return nil
}

// busError makes an *Error of what a call over D-Bus came to; nil stays nil.
func busError(ctx context.Context, method string, err error) error {
	if err == nil {
		return nil
	}
	var own *Error
	if errors.As(err, &own) {
		return own
	}
	if ctx.Err() != nil {
		return asError(context.Cause(ctx))
	}
	var e dbus.Error
	if !errors.As(err, &e) {
		return &Error{Code: CodeUnavailable, Message: fmt.Sprintf("%s over D-Bus: %v", method, err), Hint: "ask the control socket"}
	}
	message, hint := e.Error(), ""
	if len(e.Body) > 0 {
		message, _ = e.Body[0].(string)
	}
	if code, ok := errorCode(e.Name); ok {
		if len(e.Body) > 1 {
			hint, _ = e.Body[1].(string)
		}
		return &Error{Code: code, Message: message, Hint: hint}
	}
	code := CodeInternal
	switch e.Name {
	case busDaemon + ".Error.ServiceUnknown", busDaemon + ".Error.NameHasNoOwner", busDaemon + ".Error.Disconnected":
		code, hint = CodeUnavailable, "is registrard running? ask its control socket"
	case busDaemon + ".Error.NoReply", busDaemon + ".Error.Timeout":
		code, hint = CodeUnavailable, "the daemon has gone, or does not answer; ask its control socket"
	case busDaemon + ".Error.AccessDenied":
		code, hint = CodePermission, "be root, or a member of group haclient to read"
	case busDaemon + ".Error.UnknownMethod", busDaemon + ".Error.UnknownInterface":
		code = CodeUnknownMethod
	case busDaemon + ".Error.LimitsExceeded":
		code = CodeBusy
	}
	return &Error{Code: code, Message: fmt.Sprintf("%s over D-Bus: %s", method, message), Hint: hint}
}

func busDialError(ctx context.Context, err error) error {
	var own *Error
	switch {
	case errors.As(err, &own):
		return own
	case ctx.Err() != nil:
		return &Error{Code: CodeTimeout, Message: "connect to the system bus: timed out", Hint: "ask the control socket"}
	default:
		return &Error{Code: CodeUnavailable, Message: fmt.Sprintf("connect to the system bus: %v", err), Hint: "ask the control socket"}
	}
}

func systemBusAddress() string {
	if a := os.Getenv(busAddressVariable); a != "" {
		return a
	}
	return busAddressDefault
}

// busConn is a connection to the bus that can be ended while it is blocked: godbus' own Close waits for a write that never returns
// when the bus is stopped and the socket's buffer is full.
type busConn struct {
	*dbus.Conn
	raw net.Conn
}

// Close ends the connection, whatever it is doing.
func (c *busConn) Close() error {
	err := c.raw.Close()
	_ = c.Conn.Close() // closes raw again, which is an error by then
	return err
}

// deadlineConn gives every write a deadline.
type deadlineConn struct{ net.Conn }

func (c deadlineConn) Write(b []byte) (int, error) {
	if err := c.SetWriteDeadline(time.Now().Add(busWriteTimeout)); err != nil {
		return 0, err
	}
	return c.Conn.Write(b)
}

// dialBus connects, authenticates and says hello, all by the end of ctx. address is a list as in the D-Bus specification, "Server
// addresses", of which unix:path and unix:abstract are tried.
func dialBus(ctx context.Context, address string, options ...dbus.ConnOption) (*busConn, error) {
	raw, err := dialAddresses(ctx, address)
	if err != nil {
		return nil, err
	}
	stop := context.AfterFunc(ctx, func() { _ = raw.Close() })
	conn, err := dbus.NewConn(deadlineConn{raw}, options...)
	if err != nil {
		_ = raw.Close()
		return nil, err
	}
	c := &busConn{Conn: conn, raw: raw}
	if err = conn.Auth(nil); err == nil {
		err = conn.Hello()
	}
	if !stop() && err == nil {
		err = context.Cause(ctx)
	}
	if err != nil {
		_ = c.Close() // err says more
		return nil, err
	}
	return c, nil
}

func dialAddresses(ctx context.Context, list string) (net.Conn, error) {
	err := fmt.Errorf("no usable address in %q", list)
	for address := range strings.SplitSeq(list, ";") {
		name, ok := unixAddress(address)
		if !ok {
			continue
		}
		var d net.Dialer
		conn, dialErr := d.DialContext(ctx, "unix", name)
		if dialErr == nil {
			return conn, nil
		}
		err = dialErr
	}
	return nil, err
}

// unixAddress takes the path, or the abstract name after '@', from an address such as "unix:path=/run/dbus/system_bus_socket,guid=...".
func unixAddress(address string) (string, bool) {
	keys, ok := strings.CutPrefix(address, "unix:")
	if !ok {
		return "", false
	}
	for pair := range strings.SplitSeq(keys, ",") {
		key, value, _ := strings.Cut(pair, "=")
		value, err := url.PathUnescape(value)
		if err != nil || value == "" {
			continue
		}
		switch key {
		case "path":
			return value, true
		case "abstract":
			return "@" + value, true
		}
	}
	return "", false
}
