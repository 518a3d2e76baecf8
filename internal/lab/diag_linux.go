package lab

import (
	"encoding/binary"
	"errors"
	"net/netip"
	"os"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// diag asks the kernel for single sockets of the command's network namespace, in which it was opened. A look into /proc/net/tcp would read
// the whole system's table of connections each time, which takes milliseconds: the client would wait for them.
type diag struct {
	mu   sync.Mutex
	file *os.File // nil where the kernel has no such thing
}

// openDiag opens one in the calling thread's network namespace.
func openDiag() (*os.File, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_INET_DIAG)
	if err != nil {
		return nil, err
	}
	return os.NewFile(uintptr(fd), fileDiag), nil
}

func (d *diag) close() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.file.Close()
	d.file = nil
}

// The sizes, in bytes, of <linux/inet_diag.h>: struct inet_diag_req_v2, and where struct inet_diag_msg has the inode.
const (
	diagRequest = 56
	diagInode   = 68
)

// inode is that of a TCP socket, by its two addresses, of which IPv4's may be an IPv6 socket's.
func (d *diag) inode(local, remote netip.AddrPort) (inode uint64, ok bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.file == nil {
		return 0, false
	}
	const byFamily, anyState = 20, 0xffffffff // SOCK_DIAG_BY_FAMILY
	family := byte(unix.AF_INET)
	if local.Addr().Is6() {
		family = unix.AF_INET6
	}
	m := binary.NativeEndian.AppendUint32(nil, unix.NLMSG_HDRLEN+diagRequest)
	m = binary.NativeEndian.AppendUint16(m, byFamily)
	m = binary.NativeEndian.AppendUint16(m, unix.NLM_F_REQUEST)
	m = append(m, make([]byte, 8)...)
	m = append(m, family, unix.IPPROTO_TCP, 0, 0)
	m = binary.NativeEndian.AppendUint32(m, anyState)
	m = binary.BigEndian.AppendUint16(m, local.Port())
	m = binary.BigEndian.AppendUint16(m, remote.Port())
	for _, a := range []netip.Addr{local.Addr(), remote.Addr()} {
		m = append(m, a.AsSlice()...)
		m = append(m, make([]byte, 16-a.BitLen()/8)...)
	}
	m = append(m, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff) // any interface, any cookie
	fd := int(d.file.Fd())
	if unix.Sendto(fd, m, 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}) != nil {
		return 0, false
	}
	answer := make([]byte, 1<<12)
	n, _, err := unix.Recvfrom(fd, answer, 0)
	for errors.Is(err, unix.EINTR) {
		n, _, err = unix.Recvfrom(fd, answer, 0)
	}
	if err != nil {
		return 0, false
	}
	messages, err := syscall.ParseNetlinkMessage(answer[:n])
	if err != nil || len(messages) == 0 || messages[0].Header.Type != byFamily || len(messages[0].Data) < diagInode+4 {
		return 0, false
	}
	inode = uint64(binary.NativeEndian.Uint32(messages[0].Data[diagInode:]))
	return inode, inode != 0
}
