package lab

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"sync"

	"golang.org/x/sys/unix"
)

// machine is one node, or the client, as hardware: power, disk and cable.
type machine struct {
	name string
	lab  *Lab
	spec spec
	log  *slog.Logger

	mu   sync.Mutex // serialises what is done to the hardware
	port port
	proc *exec.Cmd // nil: no power
	held bool      // an operator took the power: fencing does not give it back

	stateMu sync.Mutex // guards what the init reports
	phase   string
	gone    chan struct{} // closed when the present init has ended
}

// on gives the machine power; it returns when its init has been told what it is.
func (m *machine) on() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.onLocked()
}

// onUnlessHeld gives the machine power, except when an operator took it.
func (m *machine) onUnlessHeld() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.held {
		return nil
	}
	return m.onLocked()
}

func (m *machine) onLocked() error {
	if m.proc != nil && !m.ended() {
		return nil
	}
	if m.proc != nil {
		// Its init died by itself: clear away what is left first.
		if err := m.cutPower(); err != nil {
			return err
		}
	}
	if m.spec.Image != "" {
		if err := awaitRelease(context.Background(), m.spec.Image); err != nil {
			return err
		}
		if _, err := os.Stat(m.spec.Image); errors.Is(err, os.ErrNotExist) {
			return fmt.Errorf("disk of %s: %w", m.name, err)
		}
	}
	m.held = false
	return m.boot()
}

func (m *machine) boot() (err error) {
	specR, specW, err := os.Pipe()
	if err != nil {
		return err
	}
	defer specW.Close()
	phaseR, phaseW, err := os.Pipe()
	if err != nil {
		return errors.Join(err, specR.Close())
	}
	console, err := os.OpenFile(filepath.Join(m.lab.LogDir(m.name), "console.log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return errors.Join(err, specR.Close(), phaseR.Close(), phaseW.Close())
	}
	cmd := exec.Command("/proc/self/exe", "node-init")
	cmd.Args[0] = "lab"
	cmd.Dir = "/"
	cmd.Env = []string{
		"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
		"LANG=C.UTF-8", "HOME=/root", "LAB_SELF=" + filepath.Join(m.spec.BinDir, "lab"),
		"PCMK_logfile=/var/log/pacemaker/pacemaker.log",
	}
	cmd.Stdout, cmd.Stderr = console, console
	cmd.ExtraFiles = []*os.File{specR, phaseW}
	cmd.SysProcAttr = &unix.SysProcAttr{
		Setsid:     true,
		Cloneflags: unix.CLONE_NEWPID | unix.CLONE_NEWNS | unix.CLONE_NEWNET | unix.CLONE_NEWUTS | unix.CLONE_NEWIPC,
	}
	err = cmd.Start()
	err = errors.Join(err, specR.Close(), phaseW.Close(), console.Close())
	if err != nil {
		return errors.Join(err, phaseR.Close())
	}
	m.proc = cmd
	m.watch(phaseR)
	if err := m.wireUp(specW); err != nil {
		return errors.Join(fmt.Errorf("boot %s: %w", m.name, err), m.cutPower())
	}
	m.log.Info("power on", "node", m.name)
	return nil
}

// wireUp gives the new init its cgroup, its cable and its spec.
func (m *machine) wireUp(specW *os.File) error {
	if err := joinCgroup(m.lab.name, m.name, m.proc.Process.Pid); err != nil {
		return err
	}
	if err := m.port.plug(m.proc.Process.Pid); err != nil {
		return err
	}
	if _, err := specW.Write([]byte{'\n'}); err != nil {
		return err
	}
	return json.NewEncoder(specW).Encode(&m.spec)
}

// watch follows the phases that the init reports, until it ends.
func (m *machine) watch(phases *os.File) {
	gone := make(chan struct{})
	m.stateMu.Lock()
	m.gone, m.phase = gone, "booting"
	m.stateMu.Unlock()
	go func() {
		defer close(gone)
		defer phases.Close()
		lines := bufio.NewScanner(phases)
		for lines.Scan() {
			m.stateMu.Lock()
			m.phase = lines.Text()
			m.stateMu.Unlock()
			m.log.Info("phase", "node", m.name, "phase", lines.Text())
		}
		// The pipe ends with the init: nobody else holds its other end.
	}()
}

func (m *machine) ended() bool {
	select {
	case <-m.gone:
		return true
	default:
		return false
	}
}

// off cuts the power. hold says that only on gives it back.
func (m *machine) off(hold bool) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.held = m.held || hold
	if m.proc == nil {
		return nil
	}
	err := m.cutPower()
	m.log.Info("power off", "node", m.name, "held", m.held, "err", err)
	return err
}

// cutPower ends the machine as losing power does. The cable first: nothing that the
// dying processes do (closing a TCP connection, say) may be seen outside, and what is
// still queued is lost. Then the processes, all at once, then the disk, before any of
// its dirty pages is written back.
func (m *machine) cutPower() error {
	var errs []error
	disk, err := m.openDisk()
	if err != nil {
		errs = append(errs, err)
	}
	errs = append(errs, m.port.unplug())
	errs = append(errs, unix.Kill(m.proc.Process.Pid, unix.SIGKILL))
	if disk != nil {
		errs = append(errs, cutDisk(disk), disk.Close())
	}
	_ = m.proc.Wait() // it was killed; that is no error
	m.proc = nil
	errs = append(errs, m.port.remove())
	if m.spec.Image != "" {
		errs = append(errs, awaitRelease(context.Background(), m.spec.Image))
	}
	return errors.Join(errs...)
}

// openDisk opens the root of the machine's mounted disk; nil when it has none, or has
// not mounted it yet.
func (m *machine) openDisk() (*os.File, error) {
	if m.spec.Image == "" {
		return nil, nil
	}
	root := fmt.Sprintf("/proc/%d/root", m.proc.Process.Pid)
	if _, err := os.Stat(root + nodeDisk + "/lost+found"); err != nil {
		return nil, nil
	}
	return os.Open(root + nodeDisk)
}

// namespaces opens the init's namespaces, in the order of nsFlags.
func (m *machine) namespaces() ([]*os.File, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.proc == nil || m.ended() {
		return nil, fmt.Errorf("%s is off", m.name)
	}
	var files []*os.File
	for _, ns := range nsOrder {
		f, err := os.Open(fmt.Sprintf("/proc/%d/ns/%s", m.proc.Process.Pid, ns))
		if err != nil {
			for _, f := range files {
				err = errors.Join(err, f.Close())
			}
			return nil, err
		}
		files = append(files, f)
	}
	return files, nil
}

func (m *machine) setCut(cut bool) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.port.cut = cut
	if m.proc == nil {
		return nil
	}
	err := m.port.attach()
	m.log.Info("cable", "node", m.name, "cut", cut, "err", err)
	return err
}

func (m *machine) setLink(f Faults) error {
	if err := f.Validate(); err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	err := m.port.setWire(f, m.proc != nil)
	m.log.Info("link", "node", m.name, "faults", fmt.Sprintf("%+v", f), "err", err)
	return err
}

// Machine is what the supervisor knows of a node.
type Machine struct {
	Name  string `json:"name"`
	Power bool   `json:"power"`
	Phase string `json:"phase"` // how far its start came; "" without power
	Held  bool   `json:"held"`  // an operator took the power
	Cut   bool   `json:"cut"`
	Link  Faults `json:"link"`
}

func (m *machine) snapshot() Machine {
	m.mu.Lock()
	defer m.mu.Unlock()
	s := Machine{Name: m.name, Held: m.held, Cut: m.port.cut, Power: m.proc != nil && !m.ended()}
	if m.port.wire != nil {
		s.Link = m.port.wire.faults()
	}
	m.stateMu.Lock()
	defer m.stateMu.Unlock()
	switch {
	case s.Power:
		s.Phase = m.phase
	case m.proc != nil:
		s.Phase = phaseEnded
	}
	return s
}
