package control

import (
	"fmt"
	"path/filepath"
)

const (
	// DefaultInstance is the name of an instance that was given none.
	DefaultInstance = "registrard"
	// DefaultRunDirectory holds a directory for each instance, with its control socket.
	DefaultRunDirectory = "/run/registrard"
	// SocketName is the name of the control socket in its instance's directory.
	SocketName = "control.sock"
	// instanceMax is the longest name of an instance, in bytes; it is part of the names of a CPG group, a bus name and a socket.
	instanceMax = 32
)

// SocketPath returns where the control socket of an instance is.
func SocketPath(instance string) string {
	return filepath.Join(DefaultRunDirectory, instance, SocketName)
}

// BusName returns the name of an instance on the system bus.
func BusName(instance string) string {
	if instance == DefaultInstance {
		return busName
	}
	return busName + "." + instance
}

// CheckInstance says what is wrong with the name of an instance: it is 1 to 32 letters, digits, '_' and '-', and begins with a
// letter or '_', so that it can stand in a bus name and in a path.
func CheckInstance(name string) error {
	if name == "" || len(name) > instanceMax {
		return fmt.Errorf("instance %q: must have 1 to %d characters", name, instanceMax)
	}
	for i, c := range []byte(name) {
		letter := c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c == '_'
		if !letter && (i == 0 || c != '-' && (c < '0' || c > '9')) {
			return fmt.Errorf("instance %q: must be letters, digits, '_' and '-', and begin with a letter or '_'", name)
		}
	}
	return nil
}
