package control

import (
	"fmt"
	"net"
	"slices"
	"unsafe"

	"golang.org/x/sys/unix"
)

// peerGroupsMax is the most supplementary groups that a peer is asked for (NGROUPS_MAX, linux/limits.h).
const peerGroupsMax = 65536

// peer is who is on the other end of a Unix socket, as of when it connected (unix(7), SO_PEERCRED and SO_PEERGROUPS).
type peer struct {
	pid    int32
	uid    uint32
	groups []uint32 // primary and supplementary
}

func peerOf(conn *net.UnixConn) (peer, error) {
	raw, err := conn.SyscallConn()
	if err != nil {
		return peer{}, fmt.Errorf("peer credentials: %w", err)
	}
	var p peer
	var peerErr error
	err = raw.Control(func(fd uintptr) {
		var cred *unix.Ucred
		if cred, peerErr = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED); peerErr != nil {
			return
		}
		p = peer{pid: cred.Pid, uid: cred.Uid, groups: []uint32{cred.Gid}}
		var groups []uint32
		if groups, peerErr = peerGroups(fd); peerErr == nil {
			p.groups = append(p.groups, groups...)
		}
	})
	if err == nil {
		err = peerErr
	}
	if err != nil {
		return peer{}, fmt.Errorf("peer credentials: %w", err)
	}
	return p, nil
}

// peerGroups asks for the supplementary groups; x/sys/unix has the option's number, but no call that returns a list.
func peerGroups(fd uintptr) ([]uint32, error) {
	groups := make([]uint32, 64)
	for {
		size := uint32(len(groups) * 4)
		_, _, errno := unix.Syscall6(unix.SYS_GETSOCKOPT, fd, unix.SOL_SOCKET, unix.SO_PEERGROUPS,
			uintptr(unsafe.Pointer(&groups[0])), uintptr(unsafe.Pointer(&size)), 0)
		n := int(size / 4)
		switch {
		case errno == 0:
			return groups[:n], nil
		case errno == unix.ERANGE && n > len(groups) && n <= peerGroupsMax:
			groups = make([]uint32, n)
		case errno == unix.ENOPROTOOPT: // Linux before 4.13
			return nil, nil
		default:
			return nil, errno
		}
	}
}

// access tells what the peer may do: root and the daemon's own user everything, members of the reading group read.
func (p peer) access(own uint32, readers int) access {
	switch {
	case p.uid == 0 || p.uid == own:
		return accessWrite
	case readers >= 0 && slices.Contains(p.groups, uint32(readers)):
		return accessRead
	default:
		return accessNone
	}
}
