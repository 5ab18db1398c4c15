package control

import (
	"fmt"
	"path"
	"strings"

	"github.com/godbus/dbus/v5"
	"github.com/godbus/dbus/v5/introspect"
)

// emitsChanged is the annotation that tells whether PropertiesChanged carries a property (D-Bus specification,
// "org.freedesktop.DBus.Properties").
const emitsChanged = "org.freedesktop.DBus.Property.EmitsChangedSignal"

// interfaces describes the two interfaces of the object.
func interfaces() []introspect.Interface {
	status := introspect.Interface{
		Name: busInterface,
		Signals: []introspect.Signal{
			{Name: "RoleChanged", Args: []introspect.Arg{{Name: "old", Type: "s"}, {Name: "new", Type: "s"}, {Name: "epoch", Type: "s"}}},
			{Name: "StateChanged", Args: []introspect.Arg{{Name: "old", Type: "s"}, {Name: "new", Type: "s"}}},
			{Name: "SyncedChanged", Args: []introspect.Arg{{Name: "synced", Type: "b"}}},
			{Name: "QuorateChanged", Args: []introspect.Arg{{Name: "quorate", Type: "b"}}},
		},
	}
	values := statusValues(Status{})
	for _, p := range properties() {
		told := "false"
		if p.told {
			told = "true"
		}
		status.Properties = append(status.Properties, introspect.Property{
			Name: p.name, Type: values[p.name].Signature().String(), Access: "read",
			Annotations: []introspect.Annotation{{Name: emitsChanged, Value: told}},
		})
	}
	timeout := introspect.Arg{Name: "timeout_ms", Type: "u", Direction: "in"}
	manager := introspect.Interface{
		Name: busManager,
		Methods: []introspect.Method{
			{Name: "Promote", Args: []introspect.Arg{timeout}},
			{Name: "Demote", Args: []introspect.Arg{timeout}},
			{Name: "Reload"},
			{Name: "Call", Args: []introspect.Arg{
				{Name: "method", Type: "s", Direction: "in"}, {Name: "params_json", Type: "s", Direction: "in"}, timeout,
				{Name: "result_json", Type: "s", Direction: "out"},
			}},
		},
	}
	return []introspect.Interface{status, manager}
}

// exportIntrospection describes the object, and the way to it from the root, for tools such as busctl and gdbus.
func exportIntrospection(conn *dbus.Conn) error {
	node := &introspect.Node{Name: busPath}
	node.Interfaces = append(node.Interfaces, introspect.IntrospectData, introspect.Interface{
		Name: busProperties,
		Methods: []introspect.Method{
			{Name: "Get", Args: []introspect.Arg{{Name: "interface", Type: "s", Direction: "in"}, {Name: "property", Type: "s", Direction: "in"}, {Name: "value", Type: "v", Direction: "out"}}},
			{Name: "GetAll", Args: []introspect.Arg{{Name: "interface", Type: "s", Direction: "in"}, {Name: "properties", Type: "a{sv}", Direction: "out"}}},
			{Name: "Set", Args: []introspect.Arg{{Name: "interface", Type: "s", Direction: "in"}, {Name: "property", Type: "s", Direction: "in"}, {Name: "value", Type: "v", Direction: "in"}}},
		},
		Signals: []introspect.Signal{{Name: "PropertiesChanged", Args: []introspect.Arg{{Name: "interface", Type: "s"}, {Name: "changed_properties", Type: "a{sv}"}, {Name: "invalidated_properties", Type: "as"}}}},
	})
	node.Interfaces = append(node.Interfaces, interfaces()...)
	for at := busPath; ; at = path.Dir(at) {
		if err := conn.Export(introspect.NewIntrospectable(node), dbus.ObjectPath(at), "org.freedesktop.DBus.Introspectable"); err != nil {
			return fmt.Errorf("export introspection of %s: %w", at, err)
		}
		if at == "/" {
			return nil
		}
		node = &introspect.Node{Name: path.Dir(at), Children: []introspect.Node{{Name: strings.TrimPrefix(path.Base(at), "/")}}, Interfaces: []introspect.Interface{introspect.IntrospectData}}
	}
}
