package procfs

import (
	"fmt"
	"iter"
	"net"
	"net/netip"
	"os"
	"strconv"

	"github.com/prometheus/procfs"
)

// Owner is the first process among those given that has a socket open, by the socket's inode. Several may: a socket is inherited
// and passed on.
func Owner(inode uint64, among iter.Seq[int]) (pid int, ok bool) {
	if inode == 0 {
		return 0, false // a socket that nobody holds has none
	}
	for pid := range among {
		if holds(pid, inode) {
			return pid, true
		}
	}
	return 0, false
}

func holds(pid int, inode uint64) bool {
	want := "socket:[" + strconv.FormatUint(inode, 10) + "]"
	dir, err := os.Open(path(pid, "fd"))
	if err != nil {
		return false
	}
	defer dir.Close()
	names, err := dir.Readdirnames(-1)
	if err != nil {
		return false
	}
	for _, name := range names {
		if link, err := os.Readlink(path(pid, "fd/"+name)); err == nil && link == want {
			return true
		}
	}
	return false
}

// Inode is that of a TCP socket, by its two addresses, in the network namespace of a process. An IPv4 address and the IPv6 address that
// stands for it (::ffff:192.0.2.1) are the same.
func Inode(pid int, local, remote netip.AddrPort) (uint64, bool) {
	fs, err := procfs.NewFS(fmt.Sprintf("/proc/%d", pid))
	if err != nil {
		return 0, false
	}
	local, remote = unmap(local), unmap(remote)
	//nolint:staticcheck // deprecated in favour of netlink, which knows the own namespace alone and takes a module that may be missing
	for _, read := range []func() (procfs.NetTCP, error){fs.NetTCP, fs.NetTCP6} {
		lines, err := read()
		if err != nil {
			continue // no IPv6, say
		}
		for _, line := range lines {
			if line.Inode != 0 && local == address(line.LocalAddr, line.LocalPort) && remote == address(line.RemAddr, line.RemPort) {
				return line.Inode, true
			}
		}
	}
	return 0, false
}

func address(ip net.IP, port uint64) netip.AddrPort {
	a, _ := netip.AddrFromSlice(ip)
	return netip.AddrPortFrom(a.Unmap(), uint16(port))
}

func unmap(a netip.AddrPort) netip.AddrPort {
	return netip.AddrPortFrom(a.Addr().Unmap().WithZone(""), a.Port())
}
