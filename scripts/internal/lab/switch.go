package lab

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os/exec"
	"strings"

	"golang.org/x/sys/unix"
)

const bridge = "lab"

// port is a node's place at the switch. The switch is a bridge in the supervisor's
// network namespace; a port is the bridge's side of a veth pair whose other side is
// the node's eth0.
//
// With a link set, the veth goes to a small bridge of its own, which a userspace link
// joins to the switch: veth - bridge "l-node" - TAP "a-node" | queue | TAP "b-node" - switch.
type port struct {
	node string
	log  *slog.Logger
	cut  bool
	wire *wire // nil: the veth is a port of the switch itself
}

func (p *port) veth() string   { return "v-" + p.node }
func (p *port) little() string { return "l-" + p.node }
func (p *port) tapA() string   { return "a-" + p.node }
func (p *port) tapB() string   { return "b-" + p.node }

// startSwitch makes the bridge in the calling process's network namespace.
func startSwitch() error {
	return ip(
		"link set lo up",
		"link add "+bridge+" type bridge stp_state 0 forward_delay 0 mcast_snooping 0",
		"link set "+bridge+" up",
	)
}

// plug joins the network namespace of process pid to the port.
func (p *port) plug(pid int) error {
	err := ip(
		fmt.Sprintf("link add %s type veth peer name eth0 address %s netns %d", p.veth(), mac(p.node), pid),
	)
	if err != nil {
		return err
	}
	return p.attach()
}

// attach gives the veth the place that the port's state asks for.
func (p *port) attach() error {
	master := bridge
	if p.wire != nil {
		master = p.little()
	}
	if p.cut {
		// Nothing takes up what arrives at a veth without a master, and the node keeps its
		// carrier and its address: Corosync must not see an interface go down.
		return ip("link set "+p.veth()+" nomaster", "link set "+p.veth()+" up")
	}
	return ip("link set "+p.veth()+" master "+master, "link set "+p.veth()+" up")
}

// unplug takes the link away at once: first the interface, by one system call, then
// what is queued, then the pair.
func (p *port) unplug() error {
	if err := setDown(p.veth()); err != nil && !errors.Is(err, unix.ENODEV) {
		return err
	}
	if p.wire != nil {
		p.wire.discard()
	}
	return nil
}

// remove deletes the veth pair. The kernel may do that by itself at the same time, since
// the node's network namespace is going away.
func (p *port) remove() error {
	err := ip("link del " + p.veth())
	if err == nil {
		return nil
	}
	if _, lookup := net.InterfaceByName(p.veth()); lookup != nil {
		return nil
	}
	return err
}

// setWire puts a userspace link with these faults between the node and the switch, or
// takes it out when the faults are none. plugged says whether the veth is there.
func (p *port) setWire(f Faults, plugged bool) error {
	if f.none() {
		if p.wire == nil {
			return nil
		}
		err := p.wire.close()
		p.wire = nil
		if plugged {
			err = errors.Join(err, p.attach())
		}
		return errors.Join(err, ip("link del "+p.little()))
	}
	if p.wire != nil {
		p.wire.set(f)
		return nil
	}
	w, err := newWire(p.tapA(), p.tapB(), f, p.log)
	if err != nil {
		return err
	}
	err = ip(
		"link add "+p.little()+" type bridge stp_state 0 forward_delay 0 mcast_snooping 0",
		"link set "+p.little()+" up",
		"link set "+p.tapA()+" master "+p.little(), "link set "+p.tapA()+" up",
		"link set "+p.tapB()+" master "+bridge, "link set "+p.tapB()+" up",
	)
	if err != nil {
		return errors.Join(err, w.close())
	}
	p.wire = w
	if plugged {
		return p.attach()
	}
	return nil
}

// ip runs commands of ip(8) in one batch.
func ip(commands ...string) error {
	cmd := exec.Command("ip", "-batch", "-")
	cmd.Stdin = strings.NewReader(strings.Join(commands, "\n") + "\n")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("ip %s: %w: %s", strings.Join(commands, "; "), err, strings.TrimSpace(string(out)))
	}
	return nil
}

// setDown takes an interface down without starting a process: a power cut is quick.
func setDown(name string) error {
	s, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(s)
	req, err := unix.NewIfreq(name)
	if err != nil {
		return err
	}
	if err := unix.IoctlIfreq(s, unix.SIOCGIFFLAGS, req); err != nil {
		return fmt.Errorf("flags of %s: %w", name, err)
	}
	req.SetUint16(req.Uint16() &^ unix.IFF_UP)
	if err := unix.IoctlIfreq(s, unix.SIOCSIFFLAGS, req); err != nil {
		return fmt.Errorf("set %s down: %w", name, err)
	}
	return nil
}
