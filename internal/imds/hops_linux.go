package imds

import (
	"fmt"
	"net"
	"syscall"
)

// HopLimits tells whether this system lets the hop limit of an answer be set.
const HopLimits = true

// setHopLimit sets the TTL (IPv4) or hop limit (IPv6) of what a connection sends from now on; 0 is the system's default.
func setHopLimit(c net.Conn, limit int) error {
	tcp, ok := c.(syscall.Conn)
	if !ok {
		return fmt.Errorf("%T is no socket", c)
	}
	raw, err := tcp.SyscallConn()
	if err != nil {
		return err
	}
	level, option := syscall.IPPROTO_IP, syscall.IP_TTL
	if local, ok := c.LocalAddr().(*net.TCPAddr); ok && local.IP.To4() == nil {
		level, option = syscall.IPPROTO_IPV6, syscall.IPV6_UNICAST_HOPS
	}
	if limit == 0 {
		limit = -1 // of ip(7) and ipv6(7): the default
	}
	var set error
	err = raw.Control(func(fd uintptr) { set = syscall.SetsockoptInt(int(fd), level, option, limit) })
	if err != nil {
		return err
	}
	return set
}
