//go:build linux

package trace

import (
	"bufio"
	"context"
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
	"time"

	"github.com/imdsctl/imdsctl/internal/fleet"
	"github.com/imdsctl/imdsctl/internal/imds"
	"github.com/imdsctl/imdsctl/test/python"
)

// roleVariable makes this test binary something else than a test: the service, or what starts a container.
const roleVariable = "IMDSCTL_TRACE_ROLE"

// folder is where the program of the forms is built.
var folder string

func TestMain(m *testing.M) {
	switch os.Getenv(roleVariable) {
	case "service":
		exit(serve())
	case "container":
		exit(contain())
	}
	os.Exit(func() int {
		var err error
		if folder, err = os.MkdirTemp("", "imdsctl-trace-"); err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		defer os.RemoveAll(folder)
		return m.Run()
	}())
}

func exit(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(0)
}

// serve is a metadata service that ends with its standard input.
func serve() error {
	service, err := imds.New(imds.Config{
		State: imds.State{Role: "web", Options: fleet.Options{IPv6: fleet.Enabled}},
		Now:   time.Now,
	})
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(context.Background())
	var listeners []net.Listener
	for _, address := range []string{imds.AddressIPv4, imds.AddressIPv6} {
		l, err := imds.Listen(ctx, address)
		if err != nil {
			cancel()
			return err
		}
		listeners = append(listeners, l)
	}
	go func() {
		_, _ = os.Stdin.Read(make([]byte, 1))
		cancel()
	}()
	fmt.Println("ready")
	return service.Serve(ctx, listeners...)
}

// contain starts a command as a container has it: with PID, mount and cgroup namespaces of its own, a root of its own, a cgroup and another
// user. The network namespace is that of this process. It says the command's process id, as the host has it.
func contain() error {
	const group = 3 // the cgroup's folder, which the test opened: in here /sys is another
	cmd := exec.Command(os.Args[1], os.Args[2:]...)
	cmd.Stdout, cmd.Stderr, cmd.Dir = os.Stdout, os.Stderr, "/"
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Chroot: os.Getenv("IMDSCTL_TRACE_ROOT"), Cloneflags: syscall.CLONE_NEWPID | syscall.CLONE_NEWNS | syscall.CLONE_NEWCGROUP,
		UseCgroupFD: true, CgroupFD: group, Credential: &syscall.Credential{Uid: containerUser, Gid: containerUser},
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	fmt.Printf("pid %d\n", cmd.Process.Pid)
	return cmd.Wait()
}

const containerUser = 1234

// forms is the program of testdata, built once.
var forms = sync.OnceValues(func() (string, error) {
	interpreter, err := python.Find("python")
	if err != nil {
		return "", err
	}
	machine, ok := map[string]string{"amd64": "x86_64", "arm64": "aarch64"}[runtime.GOARCH]
	if !ok {
		return "", fmt.Errorf("no compiler for %s", runtime.GOARCH)
	}
	path := filepath.Join(folder, "root", "bin", "forms")
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return "", err
	}
	build := exec.Command(interpreter, "-m", "ziglang", "cc", "-target", machine+"-linux-musl", "-static", "-O1", "-Wall", "-Wextra", "-Werror",
		"-o", path, "testdata/forms.c")
	if out, err := build.CombinedOutput(); err != nil {
		return "", fmt.Errorf("building the program of the forms: %w\n%s", err, out)
	}
	return path, os.Chmod(folder, 0o755) // the container's user goes through it
})

// need leaves a test out, and says why; where everything must run it fails.
func need(t testing.TB) {
	t.Helper()
	if os.Getenv("IMDSCTL_CI_ROOT") == "1" {
		if os.Geteuid() != 0 {
			t.Fatal("IMDSCTL_CI_ROOT=1, but this is not root")
		}
		return
	}
	if testing.Short() {
		t.Skip("left out by -short: it needs the environment of `make test`, and root")
	}
	if os.Geteuid() != 0 {
		t.Skip("capturing and network namespaces take root: run `go test ./test/trace/` as root")
	}
}

// network is three network namespaces in a row: the service, a host next to it, and a container that the host routes for.
type network struct {
	service, host, container string
	inodes                   map[uint64]string // of the host's and the container's
}

func lay(t testing.TB) network {
	t.Helper()
	name := func(part string) string { return fmt.Sprintf("imdsctl-t%d-%s", os.Getpid(), part) }
	n := network{service: name("s"), host: name("h"), container: name("c"), inodes: map[uint64]string{}}
	for _, ns := range []string{n.service, n.host, n.container} {
		if out, err := exec.Command("ip", "netns", "add", ns).CombinedOutput(); err != nil {
			t.Fatalf("making the network namespace %s: %v: %s", ns, err, out)
		}
		t.Cleanup(func() {
			if out, err := exec.Command("ip", "netns", "delete", ns).CombinedOutput(); err != nil {
				t.Errorf("delete the network namespace %s: %v: %s", ns, err, out)
			}
		})
	}
	for _, line := range []string{
		"ip -n S link set lo up", "ip -n H link set lo up", "ip -n C link set lo up",
		"ip link add s0 netns S type veth peer name h0 netns H", "ip link add h1 netns H type veth peer name c0 netns C",
		"ip -n S address add 10.214.1.1/24 dev s0", "ip -n S address add 169.254.169.254/32 dev lo",
		"ip -n S address add fd00:214:1::1/64 dev s0 nodad", "ip -n S address add fd00:ec2::254/128 dev lo nodad",
		"ip -n H address add 10.214.1.2/24 dev h0", "ip -n H address add 10.214.2.1/24 dev h1",
		"ip -n H address add fd00:214:1::2/64 dev h0 nodad", "ip -n H address add fd00:214:2::1/64 dev h1 nodad",
		"ip -n C address add 10.214.2.2/24 dev c0", "ip -n C address add fd00:214:2::2/64 dev c0 nodad",
		"ip -n S link set s0 up", "ip -n H link set h0 up", "ip -n H link set h1 up", "ip -n C link set c0 up",
		"ip -n S route add 10.214.2.0/24 via 10.214.1.2", "ip -n S -6 route add fd00:214:2::/64 via fd00:214:1::2",
		"ip -n H route add 169.254.169.254/32 via 10.214.1.1", "ip -n H -6 route add fd00:ec2::254/128 via fd00:214:1::1",
		"ip -n C route add default via 10.214.2.1", "ip -n C -6 route add default via fd00:214:2::1",
		"ip netns exec H sh -c 'echo 1 > /proc/sys/net/ipv4/ip_forward; echo 1 > /proc/sys/net/ipv6/conf/all/forwarding'",
		"ip netns exec H sh -c 'echo 1 > /proc/sys/net/ipv4/tcp_fastopen'",
	} {
		line = strings.NewReplacer(" S ", " "+n.service+" ", " H ", " "+n.host+" ", " C ", " "+n.container+" ").Replace(line + " ")
		if out, err := exec.Command("sh", "-ec", line).CombinedOutput(); err != nil {
			t.Fatalf("%s: %v: %s", line, err, out)
		}
	}
	for _, ns := range []string{n.host, n.container} {
		info, err := os.Stat("/run/netns/" + ns)
		if err != nil {
			t.Fatal(err)
		}
		n.inodes[info.Sys().(*syscall.Stat_t).Ino] = ns
	}
	return n
}

// in is a command in one of the namespaces.
func in(t testing.TB, ns string, argv ...string) *exec.Cmd {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	t.Cleanup(cancel)
	return exec.CommandContext(ctx, "ip", append([]string{"netns", "exec", ns}, argv...)...)
}

// startService has the service run until the test ends.
func startService(t testing.TB, n network) {
	t.Helper()
	own, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("ip", "netns", "exec", n.service, own)
	cmd.Env = append(os.Environ(), roleVariable+"=service")
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		in.Close()
		_ = cmd.Wait()
	})
	if line, err := bufio.NewReader(out).ReadString('\n'); err != nil || line != "ready\n" {
		t.Fatalf("the service says %q: %v", line, err)
	}
}

// makeCgroup makes a container's cgroup, in version 2, and gives its folder and the container's id.
func makeCgroup(t testing.TB) (dir, id string) {
	t.Helper()
	mounts, err := os.ReadFile("/proc/self/mounts")
	if err != nil {
		t.Fatal(err)
	}
	root := ""
	for line := range strings.Lines(string(mounts)) {
		if f := strings.Fields(line); f[2] == "cgroup2" {
			root = f[1]
			break
		}
	}
	if root == "" {
		t.Fatal("no cgroup of version 2 is mounted: the test's container needs one")
	}
	id = fmt.Sprintf("%064x", os.Getpid())
	parent := filepath.Join(root, fmt.Sprintf("imdsctl-trace-%d", os.Getpid()))
	dir = filepath.Join(parent, "docker-"+id+".scope")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		for _, d := range []string{dir, parent} {
			if err := os.Remove(d); err != nil {
				t.Error(err)
			}
		}
	})
	return dir, id
}
