package transport

import (
	"encoding/binary"
	"net"
	"net/netip"
	"syscall"

	"golang.org/x/sys/unix"
)

const (
	oobSize = 128 // bytes: IPV6_PKTINFO (40) and SO_RXQ_OVFL (24), with room
	// sourcesMax bounds how many of our own addresses the writer keeps control messages for.
	sourcesMax = 64
)

// socketControl sets what has to be set before bind. IP_FREEBIND lets us listen at an address that is not there yet: a virtual address
// comes after its services (ip(7)). IP_PKTINFO tells which address was asked, since on a wildcard address the answer would otherwise leave from whichever
// the route prefers, and be dropped by the phone or its NAT.
func socketControl(addr netip.Addr, wildcard bool) func(network, address string, c syscall.RawConn) error {
	return func(_, _ string, c syscall.RawConn) error {
		var err error
		cerr := c.Control(func(fd uintptr) { err = setSocket(int(fd), addr, wildcard) })
		if cerr != nil {
			return cerr
		}
		return err
	}
}

func setSocket(fd int, addr netip.Addr, wildcard bool) error {
	kind, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_TYPE)
	if err != nil {
		return err
	}
	datagram := kind == unix.SOCK_DGRAM
	if datagram {
		if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RXQ_OVFL, 1); err != nil {
			return err
		}
	}
	switch {
	case !wildcard && addr.Is6():
		return unix.SetsockoptInt(fd, unix.SOL_IPV6, unix.IPV6_FREEBIND, 1)
	case !wildcard:
		return unix.SetsockoptInt(fd, unix.SOL_IP, unix.IP_FREEBIND, 1)
	case datagram && addr.Is6():
		return unix.SetsockoptInt(fd, unix.SOL_IPV6, unix.IPV6_RECVPKTINFO, 1)
	case datagram:
		return unix.SetsockoptInt(fd, unix.SOL_IP, unix.IP_PKTINFO, 1)
	}
	return nil
}

// parseControl reads the control messages of one datagram: the address that it was sent to, and how many datagrams the kernel has dropped
// on this socket so far (SO_RXQ_OVFL, which it sends once there is one).
func parseControl(b []byte) (local netip.Addr, dropped uint32, overflowed bool) {
	for len(b) > 0 {
		h, data, rest, err := unix.ParseOneSocketControlMessage(b)
		if err != nil {
			return local, dropped, overflowed
		}
		b = rest
		switch {
		case h.Level == unix.SOL_IP && h.Type == unix.IP_PKTINFO && len(data) >= unix.SizeofInet4Pktinfo:
			// struct in_pktinfo: int ipi_ifindex; struct in_addr ipi_spec_dst, ipi_addr. spec_dst is ours even when addr is a broadcast address.
			local = netip.AddrFrom4([4]byte(data[4:8]))
		case h.Level == unix.SOL_IPV6 && h.Type == unix.IPV6_PKTINFO && len(data) >= unix.SizeofInet6Pktinfo:
			// struct in6_pktinfo: struct in6_addr ipi6_addr; unsigned int ipi6_ifindex.
			local = netip.AddrFrom16([16]byte(data[:16]))
			if local.IsLinkLocalUnicast() {
				local = local.WithZone(zoneName(binary.NativeEndian.Uint32(data[16:20])))
			}
		case h.Level == unix.SOL_SOCKET && h.Type == unix.SO_RXQ_OVFL && len(data) >= 4:
			dropped, overflowed = binary.NativeEndian.Uint32(data), true
		}
	}
	return local, dropped, overflowed
}

// sourceControl holds the control message for each of our addresses that answers leave from. One goroutine's own.
type sourceControl map[netip.Addr][]byte

func (c sourceControl) get(a netip.Addr) []byte {
	b, ok := c[a]
	if !ok {
		if len(c) >= sourcesMax {
			clear(c)
		}
		b = pktinfo(a)
		c[a] = b
	}
	return b
}

// pktinfo builds the control message that makes a datagram leave from a; nil when a is no address to leave from.
func pktinfo(a netip.Addr) []byte {
	switch {
	case !a.IsValid() || a.IsUnspecified() || a.IsMulticast():
		return nil
	case a.Is4():
		info := unix.Inet4Pktinfo{Spec_dst: a.As4()}
		return unix.PktInfo4(&info)
	}
	info := unix.Inet6Pktinfo{Addr: a.As16()}
	if zone := a.Zone(); zone != "" {
		info.Ifindex = zoneIndex(zone)
	}
	return unix.PktInfo6(&info)
}

// zoneName turns an interface's index into the zone of a link-local address.
func zoneName(index uint32) string {
	if ifi, err := net.InterfaceByIndex(int(index)); err == nil {
		return ifi.Name
	}
	return ""
}

func zoneIndex(name string) uint32 {
	if ifi, err := net.InterfaceByName(name); err == nil {
		return uint32(ifi.Index)
	}
	return 0
}

// appendIP appends a in the form that its socket's family wants.
func appendIP(b []byte, a netip.Addr, v6 bool) net.IP {
	a = a.Unmap()
	if a.Is4() && !v6 {
		ip := a.As4()
		return append(b, ip[:]...)
	}
	ip := a.As16()
	return append(b, ip[:]...)
}
