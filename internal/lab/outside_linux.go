package lab

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strings"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// runs is how many runs with an uplink one host may have at a time.
const runs = 256

// connectHost puts a link between a run's network, whose edge the file is, and the host's, and translates addresses on the way out.
// What it makes on the host is a link and a table of nf_tables; both are gone with this process, however it ends. The host's settings
// stay as they are, so it must forward already.
func connectHost(up *uplink, edge *os.File, note func(string, ...any)) (end func(), err error) {
	if on("net/ipv4/ip_forward") {
		up.Present = true
	} else {
		return nil, fmt.Errorf("%w: this host forwards no packets, so a command in a namespace cannot reach the outside: "+
			"set net.ipv4.ip_forward to 1 (sysctl -w net.ipv4.ip_forward=1), or run it without the outside", ErrForbidden)
	}
	ipv6 := on("net/ipv6/conf/all/forwarding")
	if !ipv6 {
		note("The outside is there over IPv4 alone: this host does not forward IPv6 (net.ipv6.conf.all.forwarding).")
	}
	if firewallDrops() {
		note("This host's firewall drops what it forwards unless a rule says otherwise (Docker sets that): if the command does not reach the " +
			"outside, allow it while it runs, as with `iptables -I FORWARD -i 'imdsctl+' -j ACCEPT` and the same with -o.")
	}
	n, claimed, err := claim()
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			claimed.Close()
		}
	}()
	at := uplinkSegment(n)
	host, link := fmt.Sprintf("imdsctl%d", n), "out0"
	tables, err := masquerade(host, at, "", ipv6)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrForbidden, err)
	}
	unlink, err := hostLink(host, link, edge, at, ipv6)
	if err != nil {
		tables.Close()
		return nil, err
	}
	up.Link, up.IPv4, up.Via4 = link, at.far4, bare(at.near4)
	if ipv6 {
		up.IPv6, up.Via6 = at.far6, bare(at.near6)
	}
	return func() {
		unlink()
		tables.Close()
		claimed.Close()
	}, nil
}

func bare(address string) string {
	ip, _, _ := strings.Cut(address, "/")
	return ip
}

// on tells that a setting is 1.
func on(setting string) bool {
	text, err := os.ReadFile("/proc/sys/" + setting)
	return err == nil && strings.TrimSpace(string(text)) != "0"
}

// uplinkSegment is the addresses of a run's uplink. The host's end is the near one.
func uplinkSegment(n int) segment {
	return segment{
		fmt.Sprintf("198.19.%d.1/24", n), fmt.Sprintf("198.19.%d.2/24", n),
		fmt.Sprintf("2001:2:0:%x::1/64", 0x100+n), fmt.Sprintf("2001:2:0:%x::2/64", 0x100+n),
	}
}

// claim takes the first number that no other run on this host has and whose addresses the host does not use. A socket's name holds
// it, which is the network namespace's own and goes with the process.
func claim() (int, net.Listener, error) {
	routes, err := netlink.RouteList(nil, netlink.FAMILY_V4)
	if err != nil {
		return 0, nil, fmt.Errorf("read the host's routes: %w", err)
	}
	for n := range runs {
		network := netip.MustParsePrefix(uplinkSegment(n).near4)
		if taken(routes, network.Masked()) {
			continue
		}
		l, err := net.Listen("unix", fmt.Sprintf("@imdsctl-lab-%d", n))
		if err == nil {
			return n, l, nil
		}
		if !errors.Is(err, unix.EADDRINUSE) {
			return 0, nil, fmt.Errorf("claim addresses for the way to the outside: %w", err)
		}
	}
	return 0, nil, fmt.Errorf("the host uses all of 198.19.0.0/16: there are no addresses left for the way to the outside")
}

// taken tells that a route other than the default one leads to a network.
func taken(routes []netlink.Route, network netip.Prefix) bool {
	for _, r := range routes {
		if r.Dst == nil {
			continue
		}
		address, ok := netip.AddrFromSlice(r.Dst.IP)
		bits, _ := r.Dst.Mask.Size()
		if to := netip.PrefixFrom(address.Unmap(), bits); ok && bits > 0 && to.Overlaps(network) {
			return true
		}
	}
	return false
}

// hostLink makes the link and the host's end of it.
func hostLink(name, peer string, edge *os.File, at segment, ipv6 bool) (unlink func(), err error) {
	handle, err := netlink.NewHandle(unix.NETLINK_ROUTE)
	if err != nil {
		return nil, fmt.Errorf("ask the kernel about the host's network: %w", err)
	}
	defer handle.Close()
	veth := netlink.NewVeth(netlink.LinkAttrs{Name: name})
	veth.PeerName, veth.PeerNamespace = peer, netlink.NsFd(int(edge.Fd()))
	if err := handle.LinkAdd(veth); err != nil {
		return nil, fmt.Errorf("make the link %s between the host and the command: %w", name, err)
	}
	unlink = func() {
		if link, err := netlink.LinkByName(name); err == nil {
			_ = netlink.LinkDel(link) // it may have gone with the other end in between
		}
	}
	addresses := []string{at.near4}
	if ipv6 {
		addresses = append(addresses, at.near6)
	}
	near := &space{Handle: handle}
	if err = near.up(name, addresses...); err == nil {
		err = near.meets(name, peer, edge)
	}
	if err != nil {
		unlink()
		return nil, err
	}
	return unlink, nil
}

// meets turns on the other end of a link, in another namespace, and waits until both ends carry packets: the answer to the command's first
// one would be lost here, too.
func (s *space) meets(name, peer string, other *os.File) error {
	far, err := enter(func() error { return unix.Setns(int(other.Fd()), unix.CLONE_NEWNET) })
	if err != nil {
		return fmt.Errorf("enter the command's network: %w", err)
	}
	defer func() {
		close(far.call)
		far.Close()
		far.ns.Close()
	}()
	if err := far.up(peer); err != nil {
		return err
	}
	return errors.Join(s.carries(name, false), far.carries(peer, false))
}
