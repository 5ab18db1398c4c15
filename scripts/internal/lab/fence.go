package lab

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// FenceAgent is the name of the lab's fence agent inside the nodes.
const FenceAgent = "fence_lab"

// nodeFencePath is where a node finds the power switch, as if by a management network
// that no cable fault touches.
const nodeFencePath = nodeRun + "/fence/fence.sock"

func (l *Lab) fencePath() string { return l.path("fence", "fence.sock") }

// fence does what a fence agent asks. A request whose agent is gone is dropped: of two
// nodes that shoot at each other, the one that was hit must not hit back.
func (s *supervisor) fence(req *request, conn *net.UnixConn) (*answer, []*os.File, error) {
	if req.Op == "monitor" {
		return new(answer), nil, nil
	}
	if req.Op == "list" {
		a := new(answer)
		for _, m := range s.machines {
			if m.name != Client {
				a.Machines = append(a.Machines, Machine{Name: m.name})
			}
		}
		return a, nil, nil
	}
	m, err := s.machine(req.Node)
	if err != nil || m.name == Client {
		return nil, nil, fmt.Errorf("no plug %q", req.Node)
	}
	if req.Op == "status" {
		return &answer{Machines: []Machine{m.snapshot()}}, nil, nil
	}
	s.fencing.Lock()
	defer s.fencing.Unlock()
	if !alive(conn) {
		return nil, nil, errors.New("the asking node is gone")
	}
	s.log.Info("fence", "node", m.name, "action", req.Op)
	switch req.Op {
	case "off":
		err = m.off(false)
	case "on":
		err = m.onUnlessHeld()
	case "reboot":
		if err = m.off(false); err == nil {
			err = m.onUnlessHeld()
		}
	default:
		err = fmt.Errorf("unknown action %q", req.Op)
	}
	return new(answer), nil, err
}

// alive reports whether the other end of a connection still exists.
func alive(conn *net.UnixConn) bool {
	raw, err := conn.SyscallConn()
	if err != nil {
		return false
	}
	open := false
	err = raw.Control(func(fd uintptr) {
		n, _, err := unix.Recvfrom(int(fd), make([]byte, 1), unix.MSG_PEEK|unix.MSG_DONTWAIT)
		open = errors.Is(err, unix.EAGAIN) || err == nil && n > 0
	})
	return err == nil && open
}

// FenceMain is the fence agent: options on standard input, key=value a line (FenceAgentAPI.md
// of fence-agents), or --action and --plug. The exit status is 0 for done, or for a plug that is on;
// 2 for a plug that is off; 1 for an error.
func FenceMain(args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	options := map[string]string{"action": "reboot"}
	for i := 0; i < len(args); i++ {
		key, value, ok := strings.Cut(strings.TrimLeft(args[i], "-"), "=")
		switch {
		case key == "o" && i+1 < len(args):
			i++
			options["action"] = args[i]
		case key == "n" && i+1 < len(args):
			i++
			options["plug"] = args[i]
		case ok:
			options[key] = value
		}
	}
	if len(args) == 0 {
		lines := bufio.NewScanner(stdin)
		for lines.Scan() {
			if key, value, ok := strings.Cut(strings.TrimSpace(lines.Text()), "="); ok {
				options[key] = value
			}
		}
	}
	status, err := fenceAction(options, stdout)
	if err != nil {
		fmt.Fprintln(stderr, err)
	}
	return status
}

func fenceAction(options map[string]string, stdout io.Writer) (int, error) {
	plug := options["plug"]
	if plug == "" {
		plug = options["port"]
	}
	if plug == "" {
		plug = options["nodename"]
	}
	action := options["action"]
	switch action {
	case "metadata", "meta-data":
		_, err := io.WriteString(stdout, fenceMetadata)
		return 0, err
	case "validate-all":
		return 0, nil
	case "list", "list-status", "monitor", "status", "on", "off", "reboot":
	default:
		return 1, fmt.Errorf("unknown action %q", action)
	}
	a, err := call(nodeFencePath, request{Op: strings.TrimSuffix(action, "-status"), Node: plug}, nil)
	if err != nil {
		return 1, fmt.Errorf("%s %s: %w", action, plug, err)
	}
	switch action {
	case "list", "list-status":
		for _, m := range a.Machines {
			fmt.Fprintf(stdout, "%s,\n", m.Name)
		}
	case "status":
		if len(a.Machines) != 1 || !a.Machines[0].Power {
			return 2, nil
		}
	}
	return 0, nil
}

const fenceMetadata = `<?xml version="1.0" ?>
<resource-agent name="fence_lab" shortdesc="Power switch of the lab's nodes">
<longdesc>Takes the power from a node of the lab, and gives it back, through the lab's supervisor.</longdesc>
<vendor-url>https://www.example.org/</vendor-url>
<parameters>
	<parameter name="action" unique="0" required="1">
		<getopt mixed="-o, --action=[action]" />
		<content type="string" default="reboot" />
		<shortdesc lang="en">Fencing action</shortdesc>
	</parameter>
	<parameter name="plug" unique="0" required="1" obsoletes="port">
		<getopt mixed="-n, --plug=[id]" />
		<content type="string" />
		<shortdesc lang="en">Name of the node</shortdesc>
	</parameter>
	<parameter name="port" unique="0" required="1" deprecated="1">
		<getopt mixed="-n, --plug=[id]" />
		<content type="string" />
		<shortdesc lang="en">Name of the node</shortdesc>
	</parameter>
</parameters>
<actions>
	<action name="on" automatic="0" />
	<action name="off" />
	<action name="reboot" />
	<action name="status" />
	<action name="list" />
	<action name="list-status" />
	<action name="monitor" />
	<action name="metadata" />
	<action name="validate-all" />
</actions>
</resource-agent>
`
