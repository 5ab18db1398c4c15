package lab

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// File descriptors that a node's init inherits from the supervisor.
const (
	initSpecFD  = 3 // one byte "the cgroup is set", then the spec as JSON until EOF
	initPhaseFD = 4 // the init's reports, one word a line
)

// Phases that an init reports.
const (
	phaseBooted    = "booted"    // file systems and network are there
	phaseCorosync  = "corosync"  // Corosync answers
	phasePacemaker = "pacemaker" // pacemakerd has been started
	phaseFailed    = "failed"    // a daemon did not start
	phaseEnded     = "ended"     // the init ended by itself (the supervisor's own finding)
)

const (
	corosyncStartMax  = 30 * time.Second
	corosyncStartPoll = 50 * time.Millisecond

	// filesSoft and filesHard limit open files as systemd does for a service.
	filesSoft = 1024
	filesHard = 524288

	nodeDisk = "/run/lab/disk"
	nodeRun  = "/run/lab"
)

// NodeInitStage1 waits until the supervisor has put the process into its cgroup, takes
// that cgroup as the root of a cgroup namespace, and executes the second stage: only a
// fresh process image has all its threads in the new namespace.
func NodeInitStage1(self string) error {
	runtime.LockOSThread()
	one := make([]byte, 1)
	if n, err := unix.Read(initSpecFD, one); err != nil || n != 1 {
		return fmt.Errorf("wait for the supervisor: %d bytes, %w", n, err)
	}
	if err := unix.Unshare(unix.CLONE_NEWCGROUP); err != nil {
		return fmt.Errorf("unshare cgroup namespace: %w", err)
	}
	return unix.Exec(self, []string{self, "node-init2"}, os.Environ())
}

// NodeInit is PID 1 of a node: it builds the node's view of the machine, starts the
// cluster's daemons, and reaps. It returns only on errors.
func NodeInit(ctx context.Context) error {
	s := new(spec)
	if err := json.NewDecoder(os.NewFile(initSpecFD, "spec")).Decode(s); err != nil {
		return fmt.Errorf("read spec: %w", err)
	}
	unix.CloseOnExec(initPhaseFD)
	b := &boot{spec: s, phase: os.NewFile(initPhaseFD, "phase")}
	if err := b.system(); err != nil {
		return err
	}
	b.report(phaseBooted)
	r := newReaper()
	if s.Image != "" {
		go func() {
			if err := b.daemons(ctx, r); err != nil {
				fmt.Fprintln(os.Stderr, err)
				b.report(phaseFailed)
			}
		}()
	}
	return r.run(ctx)
}

type boot struct {
	spec  *spec
	phase io.Writer
}

func (b *boot) report(word string) {
	// The supervisor may be gone; then this process is about to be.
	_, _ = fmt.Fprintln(b.phase, word)
}

// system makes the node's view: host name, mounts, disk, configuration, network.
func (b *boot) system() error {
	limit := unix.Rlimit{Cur: filesSoft, Max: filesHard}
	err := unix.Setrlimit(unix.RLIMIT_NOFILE, &limit)
	if err != nil && !errors.Is(err, unix.EPERM) { // in a container the limit may be fixed
		return fmt.Errorf("set the limit of open files: %w", err)
	}
	if err := unix.Sethostname([]byte(b.spec.Node)); err != nil {
		return fmt.Errorf("set host name: %w", err)
	}
	for _, step := range []struct {
		what string
		do   func() error
	}{
		{"kernel file systems", b.mountKernel},
		{"disk", b.mountDisk},
		{"own directories", b.mountOwn},
		{"configuration", b.configure},
		{"network", b.network},
	} {
		if err := step.do(); err != nil {
			return fmt.Errorf("%s: %s: %w", b.spec.Node, step.what, err)
		}
	}
	return nil
}

// mountKernel gives the node /proc, /sys, /dev/shm and /run of its own. Its /run is
// prepared at another place first, since what is bound into it lies below the host's.
func (b *boot) mountKernel() error {
	run := filepath.Join(b.spec.Dir, "run")
	m := &mounts{}
	m.mount("", "/", "", unix.MS_REC|unix.MS_SLAVE, "")
	m.mount("proc", "/proc", "proc", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, "")
	m.mount("tmpfs", run, "tmpfs", unix.MS_NOSUID|unix.MS_NODEV, "mode=0755")
	for _, d := range []string{"lab/fence", "lab/bin", "lab/log", "lab/disk", "lab/image", "lab/over", "lab/sys", "lock"} {
		m.mkdir(filepath.Join(run, d))
	}
	m.bind(b.spec.Fence, filepath.Join(run, "lab/fence"))
	m.bind(b.spec.BinDir, filepath.Join(run, "lab/bin"))
	m.bind(filepath.Join(b.spec.Dir, "log"), filepath.Join(run, "lab/log"))
	if b.spec.Image != "" {
		m.bind(filepath.Dir(b.spec.Image), filepath.Join(run, "lab/image"))
	}
	m.mount(run, "/run", "", unix.MS_BIND|unix.MS_REC, "")
	m.mount("tmpfs", "/dev/shm", "tmpfs", unix.MS_NOSUID|unix.MS_NODEV, "mode=1777")
	if _, err := os.Stat("/proc/sysrq-trigger"); err == nil {
		// Pacemaker's panic writes there, and that would restart the real machine.
		m.bind("/dev/null", "/proc/sysrq-trigger")
	}
	m.do(b.mountSys)
	return m.err
}

// mountSys mounts a /sys that shows the node's own network and cgroups. Where the
// machine forbids it, the node goes without.
func (b *boot) mountSys() error {
	cgroups, err := cgroupMounts()
	if err != nil {
		return err
	}
	m := &mounts{}
	m.mount("sysfs", "/sys", "sysfs", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, "")
	if len(cgroups) == 0 {
		return m.err
	}
	if len(cgroups) == 1 && cgroups[0].options == "" {
		m.mount("cgroup2", "/sys/fs/cgroup", "cgroup2", 0, "")
		return m.err
	}
	m.mount("tmpfs", "/sys/fs/cgroup", "tmpfs", 0, "mode=0755")
	for _, c := range cgroups {
		dir := filepath.Join("/sys/fs/cgroup", c.name)
		m.mkdir(dir)
		m.mount(c.fstype, dir, c.fstype, 0, c.options)
	}
	return m.err
}

// mountDisk mounts the node's disk and gives it, once, the directories that a node
// keeps there.
func (b *boot) mountDisk() error {
	if b.spec.Image == "" {
		return os.MkdirAll(filepath.Join(nodeDisk, "etc"), 0o755)
	}
	image := filepath.Join(nodeRun, "image", filepath.Base(b.spec.Image))
	if out, err := exec.Command("mount", "-o", "loop", image, nodeDisk).CombinedOutput(); err != nil {
		return fmt.Errorf("mount %s: %w: %s", image, err, strings.TrimSpace(string(out)))
	}
	return nil
}

// diskDirs are the directories on the node's disk, with the owner that their package gives them.
var diskDirs = []struct{ path, user, group string }{
	{"var/lib/corosync", "", ""},
	{"var/lib/registrard", "", ""},
	{"var/lib/pacemaker", "hacluster", "haclient"},
	{"var/lib/pacemaker/cib", "hacluster", "haclient"},
	{"var/lib/pacemaker/cores", "hacluster", "haclient"},
	{"var/lib/pacemaker/pengine", "hacluster", "haclient"},
	{"var/lib/pacemaker/blackbox", "hacluster", "haclient"},
}

// mountOwn lays the node's directories over the machine's: the machine's files stay
// visible, what the node writes there is its own.
func (b *boot) mountOwn() error {
	m := &mounts{}
	over := func(dir, upper string) {
		work := upper + ".work"
		m.mkdir(upper)
		m.mkdir(work)
		m.mount("overlay", dir, "overlay", 0, fmt.Sprintf("lowerdir=%s,upperdir=%s,workdir=%s", dir, upper, work))
	}
	over("/etc", filepath.Join(nodeDisk, "etc"))
	scratch := filepath.Join(nodeRun, "over")
	over("/usr/sbin", filepath.Join(scratch, "sbin"))
	if b.spec.Image == "" {
		m.bind(filepath.Join(nodeRun, "log"), "/var/log")
		b.binaries(m)
		return m.err
	}
	over("/usr/lib/ocf/resource.d", filepath.Join(scratch, "ocf"))
	over("/var/lib", filepath.Join(scratch, "lib"))
	for _, d := range diskDirs {
		dir := filepath.Join(nodeDisk, d.path)
		m.mkdir(dir)
		m.chown(dir, d.user, d.group)
	}
	for _, d := range []string{"corosync", "pacemaker", "registrard"} {
		m.mkdir(filepath.Join("/var/lib", d))
		m.bind(filepath.Join(nodeDisk, "var/lib", d), filepath.Join("/var/lib", d))
	}
	logs := filepath.Join(nodeRun, "log")
	for _, d := range []string{"corosync", "cluster", "crmsh", "pacemaker", "registrard"} {
		m.mkdir(filepath.Join(logs, d))
	}
	m.chown(filepath.Join(logs, "pacemaker"), "hacluster", "haclient")
	m.bind(logs, "/var/log")
	b.binaries(m)
	return m.err
}

// binaries puts the lab's and the product's programs where a package would.
func (b *boot) binaries(m *mounts) {
	files := map[string]string{"lab": "/usr/sbin/" + FenceAgent}
	if b.spec.Product {
		files["registrard"] = "/usr/sbin/registrard"
		if b.spec.Image != "" {
			m.mkdir("/usr/lib/ocf/resource.d/sipha")
			files["agent"] = "/usr/lib/ocf/resource.d/sipha/registrard"
		}
	}
	for name, path := range files {
		m.write(path, nil, 0o755)
		m.bind(filepath.Join(nodeRun, "bin", name), path)
	}
}

// configure writes, at the first boot only, the files of a freshly installed node.
func (b *boot) configure() error {
	m := &mounts{}
	m.mkdir("/etc")
	m.write("/etc/hosts", []byte(b.spec.hosts()), 0o644)
	m.write("/etc/hostname", []byte(b.spec.Node+"\n"), 0o644)
	marker := filepath.Join(nodeDisk, "installed")
	if _, err := os.Stat(marker); err == nil || b.spec.Image == "" || m.err != nil {
		return m.err
	}
	key, err := b.spec.authKey()
	if err != nil {
		return fmt.Errorf("auth key: %w", err)
	}
	empty, err := exec.Command("cibadmin", "--empty").Output()
	if err != nil {
		return fmt.Errorf("cibadmin --empty: %w", err)
	}
	seed, err := seedCIB(string(empty))
	if err != nil {
		return err
	}
	m.mkdir("/etc/corosync")
	m.write("/etc/corosync/corosync.conf", []byte(b.spec.corosyncConf()), 0o644)
	m.write("/etc/corosync/authkey", key, 0o400)
	const cib = "/var/lib/pacemaker/cib/cib.xml"
	m.write(cib, []byte(seed), 0o600)
	m.chown(cib, "hacluster", "haclient")
	for _, f := range []struct{ name, path string }{
		{"registrard.conf", "/etc/registrard/registrard.conf"},
		{"dbus.conf", "/etc/dbus-1/system.d/org.sipha.Registrard1.conf"},
	} {
		raw, err := os.ReadFile(filepath.Join(nodeRun, "bin", f.name))
		if errors.Is(err, os.ErrNotExist) {
			continue // a lab without the product
		}
		m.do(func() error { return err })
		m.mkdir(filepath.Dir(f.path))
		m.write(f.path, raw, 0o644)
	}
	m.write(marker, nil, 0o644)
	m.do(func() error { unix.Sync(); return nil })
	return m.err
}

func (b *boot) network() error {
	n := b.spec.Node
	commands := []string{
		"link set lo up",
		fmt.Sprintf("addr add %s/%d brd + dev eth0", Addr(n), prefixBits4),
		"link set eth0 up",
	}
	if _, err := os.Stat("/proc/sys/net/ipv6"); err == nil {
		commands = append(commands, fmt.Sprintf("addr add %s/%d dev eth0 nodad", Addr6(n), prefixBits6))
	}
	return ip(commands...)
}

// daemons starts dbus-daemon, Corosync, and, when Corosync answers, Pacemaker.
func (b *boot) daemons(ctx context.Context, r *reaper) error {
	if err := os.MkdirAll("/run/dbus", 0o755); err != nil {
		return err
	}
	if _, err := r.start("dbus-daemon", "--system", "--nofork", "--nopidfile", "--nosyslog"); err != nil {
		return err
	}
	corosync, err := r.start("corosync", "-f")
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, corosyncStartMax)
	defer cancel()
	for {
		ask, err := r.ask("corosync-cmapctl", "-q", "-g", "runtime.votequorum.this_node_id")
		if err != nil {
			return err
		}
		select {
		case status := <-ask:
			if status == 0 {
				b.report(phaseCorosync)
				_, err := r.start("pacemakerd")
				if err == nil {
					b.report(phasePacemaker)
				}
				return err
			}
		case status := <-corosync:
			return fmt.Errorf("corosync ended with status %d: see corosync/corosync.log", status)
		case <-ctx.Done():
			return fmt.Errorf("corosync does not answer after %v", corosyncStartMax)
		}
		select {
		case <-time.After(corosyncStartPoll):
		case <-ctx.Done():
		}
	}
}

// mounts does file system steps until one fails.
type mounts struct{ err error }

func (m *mounts) do(step func() error) {
	if m.err == nil {
		m.err = step()
	}
}

func (m *mounts) mount(source, target, fstype string, flags uintptr, data string) {
	m.do(func() error {
		if err := unix.Mount(source, target, fstype, flags, data); err != nil {
			return fmt.Errorf("mount %s %s on %s: %w", fstype, source, target, err)
		}
		return nil
	})
}

func (m *mounts) bind(source, target string) { m.mount(source, target, "", unix.MS_BIND, "") }

func (m *mounts) mkdir(dir string) {
	m.do(func() error { return os.MkdirAll(dir, 0o755) })
}

func (m *mounts) write(path string, data []byte, mode os.FileMode) {
	m.do(func() error {
		if err := os.WriteFile(path, data, mode); err != nil {
			return err
		}
		return os.Chmod(path, mode)
	})
}

func (m *mounts) chown(path, owner, group string) {
	if owner == "" {
		return
	}
	m.do(func() error {
		u, err := user.Lookup(owner)
		if err != nil {
			return err
		}
		g, err := user.LookupGroup(group)
		if err != nil {
			return err
		}
		uid, err := strconv.Atoi(u.Uid)
		if err != nil {
			return err
		}
		gid, err := strconv.Atoi(g.Gid)
		if err != nil {
			return err
		}
		return os.Chown(path, uid, gid)
	})
}
