package wire

import (
	"errors"
	"fmt"
)

// What Decode and Encode can find wrong, for errors.Is.
var (
	// ErrForeign: the bytes do not begin as one of our frames does. Somebody else multicasts to our group.
	ErrForeign = errors.New("not a frame of this group")
	// ErrCorrupt: the frame is cut short, its checksum is wrong, or a field has a value that it cannot have.
	ErrCorrupt = errors.New("damaged frame")
	// ErrVersion: the frame is of a version that this release does not speak.
	ErrVersion = errors.New("unknown wire version")
	// ErrSkip: the message is of a type that this release does not know and need not know.
	ErrSkip = errors.New("unknown message, may be skipped")
	// ErrUnknown: the message is, or holds, something that this release does not know and must not skip.
	ErrUnknown = errors.New("unknown message, must not be skipped")
	// ErrTooBig: the message to encode is over one of the limits.
	ErrTooBig = errors.New("message over the limit")
	// ErrInvalid: the message to encode contradicts itself. It is a defect of the caller.
	ErrInvalid = errors.New("invalid message")
)

// VersionError is an ErrVersion that says what to do.
type VersionError struct {
	What     string // what has the version: "prefix" or "message"
	Version  uint16
	Min, Max uint16 // what this release speaks
}

// Error names the versions and which side to upgrade.
func (e *VersionError) Error() string {
	hint := "upgrade registrard on this node"
	if e.Version < e.Min {
		hint = "upgrade registrard on the node that sent it"
	}
	return fmt.Sprintf("%s of wire version %d, this node speaks %d to %d (%s)", e.What, e.Version, e.Min, e.Max, hint)
}

// Is makes errors.Is(err, ErrVersion) hold.
func (e *VersionError) Is(target error) bool { return target == ErrVersion }
