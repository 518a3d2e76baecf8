package lab

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"time"

	"github.com/imdsctl/imdsctl/internal/clock"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Where the service is on EC2.
const (
	service4 = "169.254.169.254"
	service6 = "fd00:ec2::254"
)

// The links' own addresses, of ranges that are for tests of networks alone and routed nowhere: RFC 2544 and RFC 5180.
// The outside's are of the second half; see claim.
var (
	nearService = segment{"198.18.0.1/24", "198.18.0.2/24", "2001:2:0:1::1/64", "2001:2:0:1::2/64"}
	nearCommand = segment{"198.18.1.1/24", "198.18.1.2/24", "2001:2:0:2::1/64", "2001:2:0:2::2/64"}
)

// segment is the addresses of a link: of the end nearer to the service, and of the other.
type segment struct{ near4, far4, near6, far6 string }

// space is a network namespace, with a thread that is always in it.
type space struct {
	*netlink.Handle
	ns   *os.File
	call chan func()
}

// newSpace makes a network namespace. It is gone when its last user is: a socket, the file ns, or the thread, which lasts as long as
// this process.
func newSpace() (*space, error) {
	return enter(func() error {
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			return fmt.Errorf("make a network namespace: %w", err)
		}
		return nil
	})
}

// ownSpace is the network namespace in which this process started.
func ownSpace() (*space, error) { return enter(func() error { return nil }) }

func enter(prepare func() error) (*space, error) {
	s, entered := &space{call: make(chan func())}, make(chan error)
	var thread func()
	thread = func() {
		// Never unlocked, so that the thread is nobody else's. The process's first thread stands for the process in /proc and stays
		// where it is.
		runtime.LockOSThread()
		if unix.Gettid() == unix.Getpid() {
			go thread()
			select {}
		}
		err := prepare()
		if err == nil {
			err = s.open()
		}
		entered <- err
		for f := range s.call {
			f()
		}
	}
	go thread()
	if err := <-entered; err != nil {
		close(s.call)
		return nil, err
	}
	return s, nil
}

func (s *space) open() (err error) {
	if s.ns, err = os.Open("/proc/thread-self/ns/net"); err != nil {
		return err
	}
	if s.Handle, err = netlink.NewHandle(unix.NETLINK_ROUTE); err != nil {
		return fmt.Errorf("ask the kernel about a network namespace: %w", err)
	}
	return nil
}

// in runs f on the namespace's thread, where sockets and /proc/sys/net are the namespace's.
func (s *space) in(f func() error) error {
	done := make(chan error)
	s.call <- func() { done <- f() }
	return <-done
}

// has6 tells whether there is IPv6, and turns it on where it is only turned off. The addresses that the kernel makes up for links can
// be used at once, too: a router asks for its neighbours from these, and would ask in vain for two seconds.
func (s *space) has6() bool {
	return s.in(func() error {
		for _, s := range []struct{ of, value string }{
			{"all/disable_ipv6", "0"}, {"default/disable_ipv6", "0"}, {"lo/disable_ipv6", "0"},
			{"all/accept_dad", "0"}, {"default/accept_dad", "0"}, {"default/addr_gen_mode", "0"},
		} {
			if err := sysctl("net/ipv6/conf/"+s.of, s.value); err != nil {
				return err
			}
		}
		return nil
	}) == nil
}

// sysctl sets a setting of the kernel, unless it is so already: /proc/sys may be read-only, as it is in containers.
func sysctl(name, value string) error {
	path := filepath.Join("/proc/sys", name)
	if now, err := os.ReadFile(path); err == nil && string(now) == value+"\n" {
		return nil
	}
	if err := os.WriteFile(path, []byte(value), 0); err != nil {
		return fmt.Errorf("set %s to %s: %w", name, value, err)
	}
	return nil
}

// forward makes it a router.
func (s *space) forward(ipv6 bool) error {
	return s.in(func() error {
		if err := sysctl("net/ipv4/ip_forward", "1"); err != nil || !ipv6 {
			return err
		}
		return sysctl("net/ipv6/conf/all/forwarding", "1")
	})
}

// join puts a link between two namespaces, s's end nearer to the service.
func (s *space) join(name string, other *space, otherName string, at segment, ipv6 bool) error {
	veth := netlink.NewVeth(netlink.LinkAttrs{Name: name})
	veth.PeerName, veth.PeerNamespace = otherName, netlink.NsFd(int(other.ns.Fd()))
	if err := s.LinkAdd(veth); err != nil {
		return fmt.Errorf("make a veth link: %w", err)
	}
	ends := []struct {
		in             *space
		name, ip4, ip6 string
	}{{s, name, at.near4, at.near6}, {other, otherName, at.far4, at.far6}}
	for _, e := range ends {
		addresses := []string{e.ip4}
		if ipv6 {
			addresses = append(addresses, e.ip6)
		}
		if err := e.in.up(e.name, addresses...); err != nil {
			return err
		}
	}
	return errors.Join(s.carries(name, ipv6), other.carries(otherName, ipv6))
}

// carries waits until a link carries packets, which it does a moment after both ends are on, and its addresses are in use. Else the
// first packet, or the question for a neighbour, would be lost, and repeated only after a second.
func (s *space) carries(name string, ipv6 bool) error {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	for {
		link, err := s.LinkByName(name)
		if err != nil {
			return fmt.Errorf("look at the link %s: %w", name, err)
		}
		loopback := link.Attrs().Flags&net.FlagLoopback != 0 // its state is unknown for good
		if (loopback || link.Attrs().OperState == netlink.OperUp) && (!ipv6 || s.settled6(link, !loopback)) {
			return nil
		}
		if err := clock.System().Sleep(ctx, time.Millisecond); err != nil {
			return fmt.Errorf("the link %s does not come up: %w", name, err)
		}
	}
}

// settled6 tells that all IPv6 addresses of a link are the host's, and where routers ask from it, the link-local one among them.
func (s *space) settled6(link netlink.Link, asks bool) bool {
	addresses, err := s.AddrList(link, netlink.FAMILY_V6)
	if err != nil {
		return false
	}
	local := false
	for _, a := range addresses {
		local = local || a.IP.IsLinkLocalUnicast()
		routes, err := s.RouteGetWithOptions(a.IP, &netlink.RouteGetOptions{OifIndex: link.Attrs().Index})
		if a.Flags&unix.IFA_F_TENTATIVE != 0 || err != nil || len(routes) == 0 || routes[0].Type != unix.RTN_LOCAL {
			return false
		}
	}
	return local || !asks
}

// up gives a link addresses and turns it on.
func (s *space) up(name string, addresses ...string) error {
	link, err := s.LinkByName(name)
	if err != nil {
		return fmt.Errorf("find the link %s: %w", name, err)
	}
	for _, text := range addresses {
		a, err := netlink.ParseAddr(text)
		if err != nil {
			return err
		}
		a.Flags = unix.IFA_F_NODAD // nobody else is here, and an address in doubt cannot be used for a second
		if err := s.AddrAdd(link, a); err != nil && !errors.Is(err, fs.ErrExist) {
			return fmt.Errorf("give %s the address %s: %w", name, text, err)
		}
	}
	if err := s.LinkSetUp(link); err != nil {
		return fmt.Errorf("turn on %s: %w", name, err)
	}
	return nil
}

// route sends what is for a network ("" is all that has no other route) by a router's address.
func (s *space) route(to, via string) error {
	r := &netlink.Route{Gw: net.ParseIP(via)}
	if to != "" {
		network, err := netlink.ParseIPNet(to)
		if err != nil {
			return err
		}
		r.Dst = network
	} else if r.Gw.To4() != nil {
		r.Dst = &net.IPNet{IP: net.IPv4zero, Mask: net.CIDRMask(0, 32)}
	} else {
		r.Dst = &net.IPNet{IP: net.IPv6zero, Mask: net.CIDRMask(0, 128)}
	}
	if err := s.RouteAdd(r); err != nil {
		return fmt.Errorf("route %s by %s: %w", r.Dst, via, err)
	}
	return nil
}

// listen opens a TCP socket in the namespace, for one version of IP alone.
func (s *space) listen(network, ip, port string) (l *net.TCPListener, err error) {
	err = s.in(func() error {
		var config net.ListenConfig
		config.SetMultipathTCP(false) // its subflows would keep hop limits of their own
		socket, err := config.Listen(context.Background(), network, net.JoinHostPort(ip, port))
		if err != nil {
			return err
		}
		l, _ = socket.(*net.TCPListener)
		return nil
	})
	return l, err
}

// laid is the network of a run.
type laid struct {
	command *space
	service *space
	router  *space // nil where there is no hop
	ipv6    bool
	sockets []*net.TCPListener
}

// lay makes the network of a run. This process started in the command's namespace.
//
//	service 169.254.169.254 ── command          service 169.254.169.254 ── router ── command
func lay(routed bool) (*laid, error) {
	n := &laid{}
	var err error
	if n.command, err = ownSpace(); err != nil {
		return nil, err
	}
	if n.service, err = newSpace(); err != nil {
		return nil, err
	}
	n.ipv6 = n.command.has6() && n.service.has6()
	near := n.command
	if routed {
		if n.router, err = newSpace(); err != nil {
			return nil, err
		}
		n.ipv6 = n.ipv6 && n.router.has6()
		if err := n.router.forward(n.ipv6); err != nil {
			return nil, err
		}
		near = n.router
	}
	if err := n.command.up("lo"); err != nil {
		return nil, err
	}
	own := []string{service4 + "/32"}
	if n.ipv6 {
		own = append(own, service6+"/128")
	}
	if err := errors.Join(n.service.up("lo", own...), n.service.carries("lo", n.ipv6)); err != nil {
		return nil, err
	}
	first := "eth0"
	if routed {
		first = "up0"
	}
	if err := n.service.join("down0", near, first, nearService, n.ipv6); err != nil {
		return nil, err
	}
	if routed {
		if err := n.router.join("down0", n.command, "eth0", nearCommand, n.ipv6); err != nil {
			return nil, err
		}
	}
	if err := n.routes(); err != nil {
		return nil, err
	}
	if err := n.listen(); err != nil {
		return nil, err
	}
	return n, nil
}

// routes makes the service known to the command, and the command to the service.
func (n *laid) routes() error {
	type route struct {
		in      *space
		to, via string
	}
	routes := []route{{n.command, service4 + "/32", "198.18.0.1"}}
	if n.router != nil {
		routes = []route{
			{n.router, service4 + "/32", "198.18.0.1"}, {n.command, service4 + "/32", "198.18.1.1"}, {n.service, "198.18.1.0/24", "198.18.0.2"},
		}
	}
	if n.ipv6 && n.router != nil {
		routes = append(routes, route{n.router, service6 + "/128", "2001:2:0:1::1"}, route{n.command, service6 + "/128", "2001:2:0:2::1"},
			route{n.service, "2001:2:0:2::/64", "2001:2:0:1::2"})
	} else if n.ipv6 {
		routes = append(routes, route{n.command, service6 + "/128", "2001:2:0:1::1"})
	}
	for _, r := range routes {
		if err := r.in.route(r.to, r.via); err != nil {
			return err
		}
	}
	return nil
}

// listen opens the service's sockets when a connection has come through: what neighbours must ask each other first is asked then, and
// no time that it takes is counted as the command's.
func (n *laid) listen() error {
	type socket struct{ network, ip string }
	sockets := []socket{{"tcp4", service4}}
	if n.ipv6 {
		sockets = append(sockets, socket{"tcp6", service6})
	}
	for _, s := range sockets {
		if err := n.try(s.network, s.ip); err != nil {
			return fmt.Errorf("nothing comes through to %s: %w", s.ip, err)
		}
		l, err := n.service.listen(s.network, s.ip, "80")
		if err != nil {
			return fmt.Errorf("listen at %s, port 80: %w", s.ip, err)
		}
		n.sockets = append(n.sockets, l)
	}
	return nil
}

// try makes a connection to another port of the service's address, and closes it.
func (n *laid) try(network, ip string) error {
	l, err := n.service.listen(network, ip, "0")
	if err != nil {
		return err
	}
	defer l.Close()
	return n.command.in(func() error {
		c, err := net.DialTimeout(network, l.Addr().String(), patience)
		if err != nil {
			return err
		}
		return c.Close()
	})
}
