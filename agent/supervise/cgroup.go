package supervise

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

const (
	cgroupPrefix = "registrard-"
	// killRoundsMax bounds how often the processes of a group are killed one by one where the kernel cannot kill it at once; a group
	// that forks faster than that is left to the caller's error.
	killRoundsMax = 50
	// sweepMax is how many groups are looked at in one start; sweepAge is how old one must be to be removed.
	sweepMax = 256
	sweepAge = time.Minute
)

// cgroup is a control group of the daemon's own, so that its end is the end of everything it has started. The zero value is none: a
// host may not let us have one, and then the daemon's process alone counts.
type cgroup struct {
	path string
	v2   bool
}

// newCgroup makes a group below the one this process is in, so that what limits us limits the daemon: of version 2 where there is
// one, else of version 1 (pids). Its name is unique on the machine: several nodes of a cluster may share one kernel.
func newCgroup(instance string) (cgroup, error) {
	parent, v2, err := ownCgroup("/proc/self/mountinfo", "/proc/self/cgroup")
	if err != nil {
		return cgroup{}, err
	}
	sweep(filepath.Join(parent, cgroupPrefix+instance+"-"))
	var unique [8]byte
	_, _ = rand.Read(unique[:]) // never fails (crypto/rand)
	path := filepath.Join(parent, cgroupPrefix+instance+"-"+hex.EncodeToString(unique[:]))
	if err := os.Mkdir(path, 0o755); err != nil {
		return cgroup{}, fmt.Errorf("make cgroup: %w", err)
	}
	return cgroup{path: path, v2: v2}, nil
}

// sweep removes empty groups that instances of this name have left, on nodes that lost their power while the kernel stayed, as containers
// and namespaces do. Young ones are spared: a daemon may be about to start in one.
func sweep(prefix string) {
	found, err := filepath.Glob(prefix + "*")
	if err != nil {
		return
	}
	for _, path := range found[:min(len(found), sweepMax)] {
		if info, err := os.Stat(path); err == nil && info.IsDir() && time.Since(info.ModTime()) > sweepAge {
			_ = unix.Rmdir(path) // fails where a process is in it
		}
	}
}

// openCgroup gives the group of a path from the record; the zero value when it is not there, or not one of ours.
func openCgroup(path string) cgroup {
	if !strings.HasPrefix(filepath.Base(path), cgroupPrefix) || !filepath.IsAbs(path) {
		return cgroup{}
	}
	if _, err := os.Stat(filepath.Join(path, "cgroup.procs")); err != nil {
		return cgroup{}
	}
	_, err := os.Stat(filepath.Join(path, "cgroup.type")) // version 2 has it in every group but the root
	return cgroup{path: path, v2: err == nil}
}

// ownCgroup finds the directory of the group that this process is in (cgroups(7), /proc/PID/cgroup; proc(5), mountinfo).
func ownCgroup(mountinfo, self string) (path string, v2 bool, err error) {
	mounts, err := os.ReadFile(mountinfo)
	if err != nil {
		return "", false, fmt.Errorf("find cgroup: %w", err)
	}
	groups, err := os.ReadFile(self)
	if err != nil {
		return "", false, fmt.Errorf("find cgroup: %w", err)
	}
	own := parseGroups(string(groups))
	var v1 string
	for line := range strings.Lines(string(mounts)) {
		kind, root, point, options, ok := parseMount(line)
		if !ok {
			continue
		}
		switch {
		case kind == "cgroup2" && own[""] != "":
			return below(point, root, own[""]), true, nil
		case kind == "cgroup" && v1 == "" && hasOption(options, "pids") && own["pids"] != "":
			v1 = below(point, root, own["pids"])
		}
	}
	if v1 == "" {
		return "", false, errors.New("find cgroup: no cgroup file system is mounted")
	}
	return v1, false, nil
}

// parseGroups reads /proc/PID/cgroup: "hierarchy:controllers:path"; version 2 has no controllers and is found under "".
func parseGroups(text string) map[string]string {
	own := map[string]string{}
	for line := range strings.Lines(text) {
		fields := strings.SplitN(strings.TrimSuffix(line, "\n"), ":", 3)
		if len(fields) != 3 {
			continue
		}
		for controller := range strings.SplitSeq(fields[1], ",") {
			own[controller] = fields[2]
		}
	}
	return own
}

// parseMount takes the type, root, mount point and super options from a line of mountinfo.
func parseMount(line string) (kind, root, point, options string, ok bool) {
	before, after, found := strings.Cut(line, " - ")
	first, second := strings.Fields(before), strings.Fields(after)
	if !found || len(first) < 5 || len(second) < 3 {
		return "", "", "", "", false
	}
	return second[0], first[3], first[4], second[2], true
}

// below gives the directory of a group in a mount that shows the hierarchy from root on.
func below(point, root, group string) string {
	if root != "/" {
		group = strings.TrimPrefix(group, root)
	}
	return filepath.Join(point, filepath.Join("/", group))
}

func hasOption(options, name string) bool {
	for o := range strings.SplitSeq(options, ",") {
		if o == name {
			return true
		}
	}
	return false
}

// add moves a process into the group; version 2 does it at the fork instead.
func (g cgroup) add(pid int) error {
	if g.path == "" || g.v2 {
		return nil
	}
	if err := os.WriteFile(filepath.Join(g.path, "cgroup.procs"), []byte(strconv.Itoa(pid)), 0); err != nil {
		return fmt.Errorf("add to cgroup: %w", err)
	}
	return nil
}

// kill kills everything in the group: at once where the kernel can (cgroup.kill, Linux 5.14), else one after the other until none is
// left.
func (g cgroup) kill() error {
	if g.path == "" {
		return nil
	}
	err := os.WriteFile(filepath.Join(g.path, "cgroup.kill"), []byte("1"), 0)
	if err == nil || !errors.Is(err, os.ErrNotExist) && !errors.Is(err, os.ErrPermission) {
		return err
	}
	for range killRoundsMax {
		pids, err := g.pids()
		if err != nil || len(pids) == 0 {
			return err
		}
		for _, pid := range pids {
			if err := unix.Kill(pid, unix.SIGKILL); err != nil && !errors.Is(err, unix.ESRCH) {
				return fmt.Errorf("kill process %d: %w", pid, err)
			}
		}
	}
	return nil
}

// pids gives the processes in the group as this process sees them; a group that is gone has none.
func (g cgroup) pids() ([]int, error) {
	if g.path == "" {
		return nil, nil
	}
	b, err := os.ReadFile(filepath.Join(g.path, "cgroup.procs"))
	if errors.Is(err, os.ErrNotExist) || errors.Is(err, unix.ENODEV) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read cgroup: %w", err)
	}
	var pids []int
	for field := range strings.FieldsSeq(string(b)) {
		if pid, err := strconv.Atoi(field); err == nil && pid > 0 { // 0 is a process outside of our PID namespace
			pids = append(pids, pid)
		}
	}
	return pids, nil
}

// remove waits until the group is empty and removes it; what remains in it at the end of the context is an error.
func (g cgroup) remove(ctx context.Context) error {
	if g.path == "" {
		return nil
	}
	for {
		err := unix.Rmdir(g.path)
		if err == nil || errors.Is(err, unix.ENOENT) {
			return nil
		}
		if !errors.Is(err, unix.EBUSY) {
			return fmt.Errorf("remove cgroup: %w", err)
		}
		if !pause(ctx, pollInterval) {
			return fmt.Errorf("remove cgroup %s: processes remain: %w", g.path, ctx.Err())
		}
	}
}

// pause waits, and tells whether the context still stands.
func pause(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
		return true
	}
}
