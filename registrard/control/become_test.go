package control

import (
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// become changes the credentials of this thread only: raw system calls, since those of package syscall change all threads.
func become(uid, gid int, groups []int) syscall.Errno {
	list := make([]uint32, 1, 1+len(groups))
	list[0] = uint32(gid)
	for _, g := range groups {
		list = append(list, uint32(g))
	}
	if _, _, errno := unix.RawSyscall(unix.SYS_SETGROUPS, uintptr(len(list)), uintptr(unsafe.Pointer(&list[0])), 0); errno != 0 {
		return errno
	}
	if _, _, errno := unix.RawSyscall(unix.SYS_SETRESGID, uintptr(gid), uintptr(gid), uintptr(gid)); errno != 0 {
		return errno
	}
	_, _, errno := unix.RawSyscall(unix.SYS_SETRESUID, uintptr(uid), uintptr(uid), uintptr(uid))
	return errno
}
