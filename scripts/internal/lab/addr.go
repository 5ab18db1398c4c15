package lab

import (
	"fmt"
	"net/netip"
)

// The lab's addresses exist only inside its namespaces, so every lab uses the same:
// the documentation prefixes of RFC 5737 and RFC 3849.
const (
	prefixBits4 = 24
	prefixBits6 = 64

	clientHost = 200
	vipHost    = 100
	nodeHost   = 10 // node1 is .11
)

// VIP returns the virtual address that follows the primary.
func VIP() netip.Addr { return addr4(vipHost) }

// Addr returns a node's own IPv4 address; the zero Addr for a name that no lab has.
func Addr(node string) netip.Addr {
	if h := hostNumber(node); h != 0 {
		return addr4(h)
	}
	return netip.Addr{}
}

// Addr6 returns a node's own IPv6 address; the zero Addr for a name that no lab has.
func Addr6(node string) netip.Addr {
	if h := hostNumber(node); h != 0 {
		return netip.MustParseAddr(fmt.Sprintf("2001:db8::%d", h))
	}
	return netip.Addr{}
}

func addr4(host int) netip.Addr { return netip.AddrFrom4([4]byte{192, 0, 2, byte(host)}) }

// hostNumber returns the last part of a node's address, or 0.
func hostNumber(node string) int {
	if node == Client {
		return clientHost
	}
	for i := 1; i <= NodesMax; i++ {
		if node == fmt.Sprintf("node%d", i) {
			return nodeHost + i
		}
	}
	return 0
}

// mac returns a fixed hardware address, so that a node comes back with the one that
// its neighbours remember.
func mac(node string) string { return fmt.Sprintf("02:00:c0:00:02:%02x", hostNumber(node)) }
