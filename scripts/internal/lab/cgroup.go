package lab

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// cgroupParent is the directory of all labs' cgroups in each hierarchy.
const cgroupParent = "registrard-lab"

const (
	cgroupRemoveMax  = 5 * time.Second
	cgroupRemovePoll = 10 * time.Millisecond
)

// cgroupMount is one hierarchy that the nodes get a part of.
type cgroupMount struct {
	name    string // below /sys/fs/cgroup in a node
	dir     string // where the machine has it
	fstype  string
	options string // "" for the unified hierarchy alone
}

// cgroupMounts finds the hierarchies that matter: the unified one, and of version 1
// those that only account. The cpu controller of version 1 is left out, because a group
// there without real-time budget keeps Corosync from its scheduling class.
func cgroupMounts() ([]cgroupMount, error) {
	raw, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return nil, err
	}
	var found []cgroupMount
	seen := make(map[string]bool)
	for _, line := range strings.Split(string(raw), "\n") {
		before, after, ok := strings.Cut(line, " - ")
		left, right := strings.Fields(before), strings.Fields(after)
		if !ok || len(left) < 5 || len(right) < 3 || !strings.HasPrefix(left[4], "/sys/fs/cgroup") {
			continue
		}
		c := cgroupMount{dir: left[4], fstype: right[0], name: filepath.Base(left[4])}
		switch {
		case right[0] == "cgroup2":
		case right[0] == "cgroup" && strings.Contains(","+right[2]+",", ",cpuacct,") && !strings.Contains(","+right[2]+",", ",cpu,"):
			c.options = "cpuacct"
		default:
			continue
		}
		if unix.Access(c.dir, unix.W_OK) != nil || seen[c.dir] {
			continue
		}
		seen[c.dir] = true
		found = append(found, c)
	}
	return found, nil
}

// joinCgroup puts a process into the cgroup of its node.
func joinCgroup(lab, node string, pid int) error {
	found, err := cgroupMounts()
	if err != nil {
		return err
	}
	for _, c := range found {
		dir := filepath.Join(c.dir, cgroupParent, lab, node)
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(dir, "cgroup.procs"), []byte(strconv.Itoa(pid)), 0o644); err != nil {
			return fmt.Errorf("join cgroup %s: %w", dir, err)
		}
	}
	return nil
}

// removeCgroups deletes the cgroups of a lab, whose processes are all gone.
func removeCgroups(lab string) error {
	found, err := cgroupMounts()
	if err != nil {
		return err
	}
	for _, c := range found {
		if err := removeTree(filepath.Join(c.dir, cgroupParent, lab)); err != nil {
			return err
		}
		// Other labs may still be there.
		_ = os.Remove(filepath.Join(c.dir, cgroupParent))
	}
	return nil
}

// removeTree removes a cgroup and those below it. A killed process leaves its cgroup a
// moment after it is gone.
func removeTree(dir string) error {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	for _, e := range entries {
		if e.IsDir() {
			if err := removeTree(filepath.Join(dir, e.Name())); err != nil {
				return err
			}
		}
	}
	deadline := time.Now().Add(cgroupRemoveMax)
	for {
		err := unix.Rmdir(dir)
		if err == nil || errors.Is(err, unix.ENOENT) {
			return nil
		}
		if !errors.Is(err, unix.EBUSY) || time.Now().After(deadline) {
			return fmt.Errorf("remove cgroup %s: %w", dir, err)
		}
		time.Sleep(cgroupRemovePoll)
	}
}
