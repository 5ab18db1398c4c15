package lab

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// ext4IocShutdown is EXT4_IOC_SHUTDOWN, _IOR('X', 125, __u32) (fs/ext4/ext4.h).
	ext4IocShutdown = 0x8004587d
	// ext4NoLogFlush is EXT4_GOING_FLAGS_NOLOGFLUSH: what the journal has not written
	// is lost, as when the power goes.
	ext4NoLogFlush = 2

	diskReleaseMax  = 10 * time.Second
	diskReleasePoll = 5 * time.Millisecond
)

// makeImage creates a node's disk: a sparse file with an ext4 file system.
func makeImage(path string, sizeMiB int) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_RDWR, 0o600)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := f.Truncate(int64(sizeMiB) << 20); err != nil {
		return err
	}
	out, err := exec.Command("mkfs.ext4", "-q", "-F", "-E", "lazy_itable_init=1,lazy_journal_init=1", path).CombinedOutput()
	if err != nil {
		return fmt.Errorf("mkfs.ext4 %s: %w: %s", path, err, strings.TrimSpace(string(out)))
	}
	return nil
}

// cutDisk takes the power from a mounted ext4 file system: from now on every access
// fails, and what was not yet synced never reaches the image.
func cutDisk(dir *os.File) error {
	if err := unix.IoctlSetPointerInt(int(dir.Fd()), ext4IocShutdown, ext4NoLogFlush); err != nil {
		return fmt.Errorf("EXT4_IOC_SHUTDOWN %s: %w", dir.Name(), err)
	}
	return nil
}

// loopsUnder returns the loop devices whose image lies below dir, with their images.
func loopsUnder(dir string) (map[string]string, error) {
	files, err := filepath.Glob("/sys/block/loop*/loop/backing_file")
	if err != nil {
		return nil, err
	}
	loops := make(map[string]string)
	for _, f := range files {
		raw, err := os.ReadFile(f)
		if err != nil {
			continue // the device was released between the two calls
		}
		image := strings.TrimSuffix(strings.TrimSpace(string(raw)), " (deleted)")
		if strings.HasPrefix(image, dir) {
			loops["/dev/"+strings.Split(f, "/")[3]] = image
		}
	}
	return loops, nil
}

// awaitRelease waits until no loop device uses an image whose path starts with prefix.
// The kernel releases the device when the node's mount namespace is gone.
func awaitRelease(ctx context.Context, prefix string) error {
	ctx, cancel := context.WithTimeout(ctx, diskReleaseMax)
	defer cancel()
	for {
		loops, err := loopsUnder(prefix)
		if err != nil || len(loops) == 0 {
			return err
		}
		select {
		case <-ctx.Done():
			return errors.Join(fmt.Errorf("loop devices still in use: %v", loops), ctx.Err())
		case <-time.After(diskReleasePoll):
		}
	}
}
