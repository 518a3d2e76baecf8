//go:build linux

package imds

import (
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"sync/atomic"
	"testing"
)

// network is three network namespaces in a row: the service, a host next to it, and a container that the host routes for.
//
//	service 169.254.169.254 ── host (forwards) ── container
type network struct{ service, host, container string }

// needNamespaces leaves a test out where network namespaces cannot be made; where IMDSCTL_CI_ROOT=1 says that it must run it fails.
func needNamespaces(t *testing.T) {
	t.Helper()
	switch _, err := exec.LookPath("ip"); {
	case os.Geteuid() != 0:
		leaveOut(t, "network namespaces take root: run `go test ./test/imds/` as root")
	case err != nil:
		leaveOut(t, "the test makes network namespaces with ip, of the package iproute2: %v", err)
	}
}

func leaveOut(t *testing.T, format string, args ...any) {
	t.Helper()
	if os.Getenv("IMDSCTL_CI_ROOT") == "1" {
		t.Fatalf(format, args...)
	}
	t.Skipf(format, args...)
}

// names tells the network namespaces of a run from each other.
var names atomic.Int64

// namespace makes a network namespace for one test, with its loopback interface up.
func namespace(t *testing.T, part string) string {
	t.Helper()
	name := fmt.Sprintf("imdsctl-%d-%s%d", os.Getpid(), part, names.Add(1))
	if out, err := exec.Command("ip", "netns", "add", name).CombinedOutput(); err != nil {
		leaveOut(t, "this kernel or container makes no network namespaces: %v: %s", err, out)
	}
	t.Cleanup(func() {
		if out, err := exec.Command("ip", "netns", "delete", name).CombinedOutput(); err != nil {
			t.Errorf("delete the network namespace %s: %v: %s", name, err, out)
		}
	})
	if out, err := exec.Command("ip", "-n", name, "link", "set", "lo", "up").CombinedOutput(); err != nil {
		t.Fatalf("bring up the loopback interface of %s: %v: %s", name, err, out)
	}
	return name
}

// alone makes a network namespace that has the service's addresses and reaches nothing else.
func alone(t *testing.T) string {
	t.Helper()
	ns := namespace(t, "a")
	for _, address := range []string{"169.254.169.254/32", "fd00:ec2::254/128"} {
		if out, err := exec.Command("ip", "-n", ns, "address", "add", address, "dev", "lo").CombinedOutput(); err != nil {
			t.Fatalf("give %s to %s: %v: %s", address, ns, err, out)
		}
	}
	return ns
}

// lay makes the network for one test. It needs root; elsewhere the test is skipped.
func lay(t *testing.T) network {
	t.Helper()
	needNamespaces(t)
	n := network{namespace(t, "s"), namespace(t, "h"), namespace(t, "c")}
	for _, line := range []string{
		"ip link add s0 netns S type veth peer name h0 netns H", "ip link add h1 netns H type veth peer name c0 netns C",
		"ip -n S address add 10.213.1.1/24 dev s0", "ip -n S address add 169.254.169.254/32 dev lo",
		"ip -n S address add fd00:213:1::1/64 dev s0 nodad", "ip -n S address add fd00:ec2::254/128 dev lo nodad",
		"ip -n H address add 10.213.1.2/24 dev h0", "ip -n H address add 10.213.2.1/24 dev h1",
		"ip -n H address add fd00:213:1::2/64 dev h0 nodad", "ip -n H address add fd00:213:2::1/64 dev h1 nodad",
		"ip -n C address add 10.213.2.2/24 dev c0", "ip -n C address add fd00:213:2::2/64 dev c0 nodad",
		"ip -n S link set s0 up", "ip -n H link set h0 up", "ip -n H link set h1 up", "ip -n C link set c0 up",
		"ip -n S route add 10.213.2.0/24 via 10.213.1.2", "ip -n S -6 route add fd00:213:2::/64 via fd00:213:1::2",
		"ip -n H route add 169.254.169.254/32 via 10.213.1.1", "ip -n H -6 route add fd00:ec2::254/128 via fd00:213:1::1",
		"ip -n C route add default via 10.213.2.1", "ip -n C -6 route add default via fd00:213:2::1",
		"ip netns exec H sh -c 'echo 1 > /proc/sys/net/ipv4/ip_forward; echo 1 > /proc/sys/net/ipv6/conf/all/forwarding'",
	} {
		line = strings.NewReplacer(" S ", " "+n.service+" ", " H ", " "+n.host+" ", " C ", " "+n.container+" ").Replace(line + " ")
		if out, err := exec.Command("sh", "-ec", line).CombinedOutput(); err != nil {
			t.Fatalf("%s: %v: %s", line, err, out)
		}
	}
	return n
}

func in(ns string) []string { return []string{"ip", "netns", "exec", ns} }

// The clients wait so long, in seconds, for an answer that cannot arrive. One that can is there at once.
const patience = "4"

// TestHopLimit asks from the host and from the container, over IPv4 and IPv6, at hop limit 1 and 2: a token crosses no more hops than
// the limit says, and what is no token crosses as many as it likes.
func TestHopLimit(t *testing.T) {
	n := lay(t)
	for _, limit := range []int{1, 2} {
		t.Run(fmt.Sprintf("limit %d", limit), func(t *testing.T) {
			s := start(t, in(n.service), "--listen", "169.254.169.254:80", "--listen", "[fd00:ec2::254]:80", "--ipv6", "--hop-limit", fmt.Sprint(limit))
			for _, url := range []string{"http://169.254.169.254", "http://[fd00:ec2::254]"} {
				put := []string{"-g", "--max-time", patience, "-X", "PUT", url + "/latest/api/token", "-H", ttlHeader + "60"}
				direct, err := curl(t, in(n.host), put...)
				if err != nil || len(direct.Body) != 56 {
					t.Errorf("%s: the host gets no token: %v %+v", url, err, direct)
				}
				routed, err := curl(t, in(n.container), put...)
				lost := err != nil && timedOut(err)
				if limit == 1 && !lost {
					t.Errorf("%s: a token crossed a hop at limit 1, or failed otherwise: %v %+v", url, err, routed)
				}
				if limit == 2 && (err != nil || len(routed.Body) != 56) {
					t.Errorf("%s: no token crossed one hop at limit 2: %v %+v", url, err, routed)
				}
				get := []string{"-g", "--max-time", "20", url + "/latest/meta-data/instance-id"}
				if v1, err := curl(t, in(n.container), get...); err != nil || v1.Body != "i-0123456789abcdef0" {
					t.Errorf("%s: v1 does not cross the hop: %v %+v", url, err, v1)
				}
				session := append(get, "-H", "X-aws-ec2-metadata-token: "+direct.Body)
				if v2, err := curl(t, in(n.container), session...); err != nil || v2.Body != "i-0123456789abcdef0" {
					t.Errorf("%s: a GET with the host's token does not cross the hop: %v %+v", url, err, v2)
				}
				// One connection: the limit is the token's alone, and what follows it travels as far as before.
				both := append(append([]string{"-H", "Connection: keep-alive"}, put...), "--next", "-sS", "-i", "-g", "-H", "Connection: keep-alive", get[3])
				if kept, err := curl(t, in(n.host), both...); err != nil || !strings.Contains(kept.Body, "i-0123456789abcdef0") {
					t.Errorf("%s: behind a token on one connection: %v %+v", url, err, kept)
				}
			}
			s.end(t)
			answered := 0
			for _, c := range s.calls {
				if c.Method == http.MethodPut && c.Status == 200 && c.HopLimit == limit {
					answered++
				}
			}
			if answered != 6 {
				t.Errorf("the service gave %d tokens at hop limit %d, want 6: it must not refuse what the network loses", answered, limit)
			}
		})
	}
}

// timedOut tells that curl gave up waiting: 28.
func timedOut(err error) bool {
	exit, ok := errors.AsType[*exec.ExitError](err)
	return ok && exit.ExitCode() == 28
}

// TestHopLimitChanges hangs the service up while it runs: the file says another limit, and the next token has it.
func TestHopLimitChanges(t *testing.T) {
	n := lay(t)
	state := writeState(t, "", "hop_limit: 1\n")
	s := start(t, in(n.service), "--listen", "169.254.169.254:80", "--state", state)
	ask := []string{"--max-time", patience, "-X", "PUT", "http://169.254.169.254/latest/api/token", "-H", ttlHeader + "60"}
	if r, err := curl(t, in(n.container), ask...); err == nil || !timedOut(err) {
		t.Errorf("at limit 1: %v %+v", err, r)
	}
	writeState(t, state, "hop_limit: 2\n")
	s.reload(t, "hop limit 2")
	if r, err := curl(t, in(n.container), ask...); err != nil || len(r.Body) != 56 {
		t.Errorf("at limit 2: %v %+v", err, r)
	}
}

// pipelined sends two requests at once and writes what comes back within the time that is given: curl sends one after the other.
const pipelined = `
import socket, sys, time
c = socket.create_connection(("169.254.169.254", 80), timeout=float(sys.argv[1]))
c.sendall(sys.argv[2].encode())
try:
    while got := c.recv(65536):
        sys.stdout.write(got.decode())
except TimeoutError:
    pass
`

// TestHopLimitOfPipelinedRequests asks for something else right behind a token, on one connection: the token must not come along, sent
// again under the limit of the other answer.
func TestHopLimitOfPipelinedRequests(t *testing.T) {
	n := lay(t)
	s := start(t, in(n.service), "--listen", "169.254.169.254:80", "--hop-limit", "1")
	both := "PUT /latest/api/token HTTP/1.1\r\nHost: x\r\nConnection: keep-alive\r\n" + ttlHeader + "60\r\n\r\n" +
		"GET /latest/meta-data/instance-id HTTP/1.1\r\nHost: x\r\n\r\n"
	ask := func(from string) string {
		line := append(in(from), "python3", "-c", pipelined, patience, both)
		cmd := exec.CommandContext(t.Context(), line[0], line[1:]...)
		out, err := cmd.Output()
		if err != nil {
			t.Fatalf("%v: %v", line[:5], err)
		}
		return string(out)
	}
	if got := ask(n.container); got != "" {
		t.Errorf("behind a hop, at limit 1, arrives %q", got)
	}
	if got := ask(n.host); strings.Count(got, "200 OK") != 2 || !strings.Contains(got, "i-0123456789abcdef0") {
		t.Errorf("the host gets %q", got)
	}
	s.end(t)
	if len(s.calls) != 4 {
		t.Errorf("the service saw %d calls, want 4: %+v", len(s.calls), s.calls)
	}
}
