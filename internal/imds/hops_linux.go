package imds

import (
	"fmt"
	"net"
	"syscall"

	"golang.org/x/sys/unix"
)

// HopLimits tells whether this system lets the hop limit of an answer be set.
const HopLimits = true

// setHopLimit sets the TTL (IPv4) or hop limit (IPv6) of what a connection sends from now on; 0 is the system's default.
func setHopLimit(c net.Conn, limit int) error {
	level, option := syscall.IPPROTO_IP, syscall.IP_TTL
	if local, ok := c.LocalAddr().(*net.TCPAddr); ok && local.IP.To4() == nil {
		level, option = syscall.IPPROTO_IPV6, syscall.IPV6_UNICAST_HOPS
	}
	if limit == 0 {
		limit = -1 // of ip(7) and ipv6(7): the default
	}
	return onSocket(c, func(fd uintptr) error { return syscall.SetsockoptInt(int(fd), level, option, limit) })
}

// unconfirmed tells whether bytes were written to a connection that the other side has yet to confirm: tcp(7), SIOCOUTQ.
func unconfirmed(c net.Conn) (bool, error) {
	waiting := 0
	err := onSocket(c, func(fd uintptr) (err error) {
		waiting, err = unix.IoctlGetInt(int(fd), unix.SIOCOUTQ)
		return err
	})
	return waiting > 0, err
}

// onSocket does something with the socket of a connection.
func onSocket(c net.Conn, do func(fd uintptr) error) error {
	tcp, ok := c.(syscall.Conn)
	if !ok {
		return fmt.Errorf("%T is no socket", c)
	}
	raw, err := tcp.SyscallConn()
	if err != nil {
		return err
	}
	var done error
	if err := raw.Control(func(fd uintptr) { done = do(fd) }); err != nil {
		return err
	}
	return done
}
