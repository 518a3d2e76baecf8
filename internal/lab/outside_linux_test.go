package lab_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/imdsctl/imdsctl/internal/lab"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// inHost runs a test again in a network namespace that is the host for it, with a resolv.conf of its own. Nothing there leads to a real
// network.
func inHost(t *testing.T, f func(t *testing.T)) {
	t.Helper()
	if os.Geteuid() != 0 {
		give(t, "the outside takes root: run `go test ./internal/lab/` as root")
	}
	if os.Getenv("LAB_HOST") == "1" {
		layHost(t)
		f(t)
		return
	}
	cmd := exec.CommandContext(t.Context(), "/proc/self/exe", "-test.run", "^"+t.Name()+"$", "-test.v")
	cmd.Env = append(os.Environ(), "LAB_HOST=1")
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWNET | unix.CLONE_NEWNS}
	out, err := cmd.CombinedOutput()
	t.Logf("in a host of its own:\n%s", out)
	if err != nil {
		t.Fatal(err)
	}
}

// layHost makes the internet, another namespace with an address beside this one's and no route back to anywhere else, and has the
// host's own nameserver listen on its loopback interface.
func layHost(t *testing.T) {
	t.Helper()
	conf := filepath.Join(t.TempDir(), "resolv.conf")
	steps := func(errs ...error) {
		t.Helper()
		if err := errors.Join(errs...); err != nil {
			t.Fatal(err)
		}
	}
	steps(unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""), os.WriteFile(conf, []byte("nameserver 127.0.0.53\n"), 0o644),
		unix.Mount(conf, "/etc/resolv.conf", "", unix.MS_BIND, ""))
	up := func(name string, addresses ...string) error {
		link, err := netlink.LinkByName(name)
		if err != nil {
			return err
		}
		for _, text := range addresses {
			a, err := netlink.ParseAddr(text)
			if err != nil {
				return err
			}
			a.Flags = unix.IFA_F_NODAD
			if err := netlink.AddrAdd(link, a); err != nil {
				return err
			}
		}
		return netlink.LinkSetUp(link)
	}
	steps(up("lo"), netlink.LinkAdd(&netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: "uplink"}, PeerName: "inet"}),
		up("uplink", "192.0.2.1/24", "2001:db8::1/64"))
	inet, err := netlink.LinkByName("inet")
	steps(err)
	listening := make(chan error)
	go func() {
		runtime.LockOSThread()
		ready := func() error {
			if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
				return err
			}
			ns, err := os.Open("/proc/thread-self/ns/net")
			if err != nil {
				return err
			}
			defer ns.Close()
			outside <- ns
			<-moved
			if err := errors.Join(up("lo", "169.254.169.254/32"), up("inet", "192.0.2.2/24", "2001:db8::2/64")); err != nil {
				return err
			}
			for _, address := range []string{"192.0.2.2:80", "[2001:db8::2]:80", "169.254.169.254:80"} {
				l, err := net.Listen("tcp", address)
				if err != nil {
					return err
				}
				go tellWho(l)
			}
			return nil
		}
		listening <- ready()
		select {}
	}()
	ns := <-outside
	steps(netlink.LinkSetNsFd(inet, int(ns.Fd())))
	moved <- struct{}{}
	steps(<-listening)
	name, err := net.ListenPacket("udp", "127.0.0.53:53")
	steps(err)
	go answerNames(name)
}

var outside, moved = make(chan *os.File), make(chan struct{})

// tellWho tells each client the address that it comes from.
func tellWho(l net.Listener) {
	for {
		c, err := l.Accept()
		if err != nil {
			return
		}
		host, _, _ := net.SplitHostPort(c.RemoteAddr().String())
		fmt.Fprint(c, "you are ", host)
		c.Close()
	}
}

// answerNames is a nameserver that has the address 192.0.2.2 for each question about IPv4, and nothing else.
func answerNames(c net.PacketConn) {
	question := make([]byte, 512)
	for {
		n, from, err := c.ReadFrom(question)
		if err != nil {
			return
		}
		end := 12 + bytes.IndexByte(question[12:n], 0) + 5
		answer := append([]byte{}, question[:end]...)
		answer[2], answer[3] = 0x81, 0x80
		copy(answer[4:12], []byte{0, 1, 0, 0, 0, 0, 0, 0})
		if question[end-3] == 1 { // A
			answer[7] = 1
			answer = append(answer, 0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 192, 0, 2, 2)
		}
		_, _ = c.WriteTo(answer, from)
	}
}

func set(t *testing.T, name, value string) {
	t.Helper()
	if err := os.WriteFile("/proc/sys/net/"+name, []byte(value), 0); err != nil {
		t.Fatal(err)
	}
}

// TestOutside: a command reaches the host's network under the host's address, directly and behind a hop, and names by the host's own
// nameserver; the metadata service is ours all the same, and the host's settings are as they were.
func TestOutside(t *testing.T) {
	inHost(t, func(t *testing.T) {
		before := hostState(t)
		if _, _, err := try0(t, lab.Options{Outside: true}, self("exit", "0")...); !errors.Is(err, lab.ErrForbidden) ||
			!strings.Contains(err.Error(), "net.ipv4.ip_forward") {
			t.Fatalf("on a host that forwards nothing: %v", err)
		}
		if after := hostState(t); after != before {
			t.Errorf("the host was\n%s and is\n%s", before, after)
		}
		set(t, "ipv4/ip_forward", "1")
		set(t, "ipv6/conf/all/forwarding", "1")
		before = hostState(t)
		for _, routed := range []bool{false, true} {
			for argument, want := range map[string]string{
				"192.0.2.2:80": "you are 192.0.2.1", "[2001:db8::2]:80": "you are 2001:db8::1", "name.test": "[192.0.2.2] <nil>\n",
			} {
				program := "dial"
				if argument == "name.test" {
					program = "resolve"
				}
				result, out, err := try(t, lab.Options{Outside: true, Routed: routed}, self(program, argument)...)
				if err != nil || out != want {
					t.Errorf("%s, routed %v: %+v %v %q", argument, routed, result, err, out)
				}
			}
			peers := &lab.Peers{}
			s, seen := service(t, 2, peers)
			_, out, err := try(t, lab.Options{Outside: true, Routed: routed, Serve: s.Serve, Peers: peers}, self("token", over4)...)
			if err != nil || out != "200 56 <nil>" || len(seen.seen) != 1 || !seen.seen[0].known {
				t.Errorf("the service, routed %v: %v %s %+v", routed, err, out, seen.seen)
			}
		}
		var group sync.WaitGroup
		for range 3 {
			group.Go(func() {
				if result, out, err := try(t, lab.Options{Outside: true, Routed: true}, self("dial", "192.0.2.2:80")...); err != nil || out != "you are 192.0.2.1" {
					t.Errorf("three at a time: %+v %v %q", result, err, out)
				}
			})
		}
		group.Wait()
		if after := hostState(t); after != before {
			t.Errorf("the host was\n%s and is\n%s", before, after)
		}
	})
}

// try0 is try where ErrForbidden is wanted.
func try0(t *testing.T, o lab.Options, argv ...string) (lab.Result, string, error) {
	t.Helper()
	o.Serve = idle
	result, err := lab.Run(context.Background(), o, argv)
	return result, "", err
}

// TestOutsideKilled: neither links nor tables of nf_tables are left on the host of a runner that was killed.
func TestOutsideKilled(t *testing.T) {
	inHost(t, func(t *testing.T) {
		set(t, "ipv4/ip_forward", "1")
		before := hostState(t)
		cmd := exec.CommandContext(t.Context(), "/proc/self/exe", "program", "runner", "routed", "outside")
		kill(t, cmd, false)
		for eventually(t, func() bool { return hostState(t) != before }) {
		}
	})
}

// TestOutsideInARoot: the command of a file system of its own finds the host's nameserver.
func TestOutsideInARoot(t *testing.T) {
	inHost(t, func(t *testing.T) {
		set(t, "ipv4/ip_forward", "1")
		dir := filesystem(t, probe(t))
		s, _ := service(t, 1, &lab.Peers{})
		result, out, err := try(t, lab.Options{Outside: true, Root: &lab.RootFS{Dir: dir}, Serve: s.Serve}, "/bin/probe")
		if err != nil || result.ExitCode != 0 {
			t.Fatalf("%+v %v %s", result, err, out)
		}
		if text, err := os.ReadFile(filepath.Join(dir, "etc/resolv.conf")); err != nil || string(text) != "nameserver 127.0.0.53\n" {
			t.Errorf("%q %v", text, err)
		}
	})
}

// hostState is what a run might leave changed: links, addresses, routes, tables and the settings of forwarding.
func hostState(t *testing.T) string {
	t.Helper()
	var state strings.Builder
	links, err := netlink.LinkList()
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range links {
		fmt.Fprintln(&state, "link", l.Attrs().Name)
	}
	routes, err := netlink.RouteList(nil, netlink.FAMILY_ALL)
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range routes {
		if r.Dst != nil && r.Dst.IP.IsLinkLocalUnicast() {
			continue // the kernel's own, some time after a link came up
		}
		fmt.Fprintln(&state, "route", r)
	}
	for _, name := range []string{"ipv4/ip_forward", "ipv4/conf/all/forwarding", "ipv4/conf/uplink/forwarding", "ipv6/conf/all/forwarding"} {
		text, err := os.ReadFile("/proc/sys/net/" + name)
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintln(&state, name, string(text))
	}
	fmt.Fprintln(&state, "tables:", tables(t))
	return state.String()
}

// tables counts the tables of nf_tables.
func tables(t *testing.T) (n int) {
	t.Helper()
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_NETFILTER)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	// A header of 16 bytes, and nfgenmsg's 4: list the tables of all families.
	list := []byte{20, 0, 0, 0, unix.NFT_MSG_GETTABLE, unix.NFNL_SUBSYS_NFTABLES, 1, 3, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}
	if err := unix.Sendto(fd, list, 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		t.Fatal(err)
	}
	buffer := make([]byte, 1<<16)
	for {
		size, _, err := unix.Recvfrom(fd, buffer, 0)
		if err != nil {
			t.Fatal(err)
		}
		messages, err := syscall.ParseNetlinkMessage(buffer[:size])
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range messages {
			if m.Header.Type == unix.NLMSG_DONE || m.Header.Type == unix.NLMSG_ERROR {
				return n
			}
			n++
		}
	}
}
