package lab

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// controlMax is the longest a request to the supervisor may take.
	controlMax = 45 * time.Second
	// controlBytesMax bounds a request and an answer.
	controlBytesMax = 64 << 10
)

// nsOrder is the order in which a machine's namespaces are passed.
var nsOrder = [...]string{"mnt", "uts", "ipc", "net", "pid", "cgroup"}

// request is what the lab's commands and the fence agents ask of the supervisor: one
// line of JSON, answered by one line.
type request struct {
	Op   string `json:"op"`
	Node string `json:"node,omitempty"`
	Link Faults `json:"link"`
}

type answer struct {
	Error    string    `json:"error,omitempty"`
	Machines []Machine `json:"machines,omitempty"`
	PID      int       `json:"pid,omitempty"`
}

// call asks the supervisor at a socket. files, if not nil, receives the descriptors
// that came with the answer.
func call(path string, req request, files *[]*os.File) (*answer, error) {
	conn, err := net.DialUnix("unix", nil, &net.UnixAddr{Name: path, Net: "unix"})
	if errors.Is(err, os.ErrNotExist) || errors.Is(err, unix.ECONNREFUSED) {
		return nil, ErrDown
	}
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(controlMax)); err != nil {
		return nil, err
	}
	raw, err := json.Marshal(req)
	if err != nil {
		return nil, err
	}
	if _, err := conn.Write(append(raw, '\n')); err != nil {
		return nil, err
	}
	body := make([]byte, controlBytesMax)
	oob := make([]byte, unix.CmsgSpace(4*len(nsOrder)))
	n, oobn, _, _, err := conn.ReadMsgUnix(body, oob)
	if err != nil {
		return nil, fmt.Errorf("the lab's supervisor did not answer: %w", err)
	}
	if oobn > 0 && files != nil {
		if *files, err = receivedFiles(oob[:oobn]); err != nil {
			return nil, err
		}
	}
	rest, err := io.ReadAll(io.LimitReader(conn, controlBytesMax))
	if err != nil {
		return nil, err
	}
	a := new(answer)
	if err := json.Unmarshal(append(body[:n], rest...), a); err != nil {
		return nil, fmt.Errorf("answer of the lab's supervisor: %w", err)
	}
	if a.Error != "" {
		return nil, errors.New(a.Error)
	}
	return a, nil
}

func receivedFiles(oob []byte) ([]*os.File, error) {
	messages, err := unix.ParseSocketControlMessage(oob)
	if err != nil {
		return nil, err
	}
	var files []*os.File
	for i := range messages {
		fds, err := unix.ParseUnixRights(&messages[i])
		if err != nil {
			return nil, err
		}
		for _, fd := range fds {
			unix.CloseOnExec(fd)
			files = append(files, os.NewFile(uintptr(fd), "namespace"))
		}
	}
	return files, nil
}

// PowerOff takes the power from a node, which stays off until PowerOn.
func (l *Lab) PowerOff(node string) error { return l.ask("poweroff", node) }

// PowerOn gives a node power; it returns when the node has begun to start.
func (l *Lab) PowerOn(node string) error { return l.ask("poweron", node) }

// Cut takes a node off the network, at the switch: its interface stays up.
func (l *Lab) Cut(node string) error { return l.ask("cut", node) }

// Heal ends a Cut.
func (l *Lab) Heal(node string) error { return l.ask("heal", node) }

// Link sets the faults of a node's link; the zero Faults end them.
func (l *Lab) Link(node string, f Faults) error {
	_, err := call(l.controlPath(), request{Op: "link", Node: node, Link: f}, nil)
	return err
}

// Machines reports on every node and the client.
func (l *Lab) Machines() ([]Machine, error) {
	a, err := call(l.controlPath(), request{Op: "machines"}, nil)
	if err != nil {
		return nil, err
	}
	return a.Machines, nil
}

func (l *Lab) ask(op, node string) error {
	_, err := call(l.controlPath(), request{Op: op, Node: node}, nil)
	return err
}

// namespaces returns the namespaces of a node, in the order of nsOrder. The caller
// closes them: as long as they are open, parts of the node outlive its power.
func (l *Lab) namespaces(node string) ([]*os.File, error) {
	var files []*os.File
	_, err := call(l.controlPath(), request{Op: "namespaces", Node: node}, &files)
	if err == nil && len(files) != len(nsOrder) {
		err = fmt.Errorf("namespaces of %s: got %d of %d", node, len(files), len(nsOrder))
	}
	return files, err
}
