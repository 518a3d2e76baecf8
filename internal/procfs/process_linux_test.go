package procfs

import (
	"bufio"
	"context"
	"errors"
	"io"
	"math"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// shell starts a script that says a word and then waits for the end of its standard input. It returns once the word was said.
func shell(t *testing.T, script string, args ...string) (cmd *exec.Cmd, said string, end func()) {
	t.Helper()
	cmd = exec.CommandContext(t.Context(), "sh", append([]string{"-c", script, "name of the script"}, args...)...)
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
	end = func() {
		in.Close()
		_, _ = io.Copy(io.Discard, out) // until the script is at its end
	}
	t.Cleanup(func() {
		end()
		_ = cmd.Wait()
	})
	said, err = bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	return cmd, strings.TrimSpace(said), end
}

func TestReadChild(t *testing.T) {
	args := []string{"", "two words", "--token=AQA\nB"}
	cmd, _, _ := shell(t, "echo ready; read line", args...)
	p, err := Read(cmd.Process.Pid)
	if err != nil {
		t.Fatal(err)
	}
	sh, err := filepath.EvalSymlinks(cmd.Path)
	if err != nil {
		t.Fatal(err)
	}
	if p.PID != cmd.Process.Pid || p.Comm != "sh" || p.Exe != sh || p.UID != os.Getuid() || p.Started == 0 {
		t.Errorf("%+v; its program is %s", p, sh)
	}
	if want := append([]string{"sh", "-c", "echo ready; read line", "name of the script"}, args...); !slices.Equal(p.Args, want) {
		t.Errorf("arguments %q, want %q", p.Args, want)
	}
	if len(p.Parents) == 0 || p.Parents[0].PID != os.Getpid() {
		t.Errorf("parents %+v, the first should be this process, %d", p.Parents, os.Getpid())
	}
	for _, parent := range p.Parents {
		if parent.PID <= 1 || parent.Comm == "" {
			t.Errorf("parents %+v: the first process of the host is none, and all have names", p.Parents)
		}
	}
	self, err := Read(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	if p.NetNS == 0 || p.NetNS != self.NetNS || p.Cgroup == "" || p.Cgroup != self.Cgroup {
		t.Errorf("a child is in its parent's namespace and cgroup: %+v, %+v", p, self)
	}
	if !slices.Equal(p.Parents[1:], self.Parents) || self.Started > p.Started {
		t.Errorf("the child's parents above this one are this one's: %+v, %+v", p, self)
	}
}

func TestReadGone(t *testing.T) {
	if p, err := Read(math.MaxInt32); !errors.Is(err, ErrGone) || p.PID != math.MaxInt32 || p.UID != -1 {
		t.Errorf("no such process: %+v %v", p, err)
	}
	cmd, _, end := shell(t, "echo ready; read line")
	end()
	// It ended, and waits to be reaped, which is ours to do.
	for state := ""; state != "Z"; {
		stat, err := os.ReadFile(path(cmd.Process.Pid, "stat"))
		if err != nil {
			t.Fatal(err)
		}
		_, rest, _ := strings.Cut(string(stat), ") ")
		state = rest[:1]
	}
	p, err := Read(cmd.Process.Pid)
	if !errors.Is(err, ErrGone) || p.Comm != "sh" || p.Exe != "" || len(p.Parents) == 0 || p.Parents[0].PID != os.Getpid() {
		t.Errorf("a process that ended still has a name and parents: %+v %v", p, err)
	}
	_ = cmd.Wait()
	if p, err := Read(cmd.Process.Pid); !errors.Is(err, ErrGone) {
		t.Errorf("a process that was reaped: %+v %v", p, err)
	}
}

func TestReadKernelThread(t *testing.T) {
	stat, err := os.ReadFile("/proc/2/comm")
	if err != nil || string(stat) != "kthreadd\n" || os.Geteuid() != 0 {
		t.Skip("no threads of the kernel are seen in this PID namespace, or this is not root")
	}
	if p, err := Read(2); err != nil || p.Comm != "kthreadd" || p.Exe != "" || len(p.Args) != 0 || len(p.Parents) != 0 {
		t.Errorf("%+v %v", p, err)
	}
}

func TestChildren(t *testing.T) {
	cmd, said, _ := shell(t, "sh -c 'echo $$; read line; true'; true")
	grandchild, err := strconv.Atoi(said)
	if err != nil {
		t.Fatal(err)
	}
	if got, want := Children(cmd.Process.Pid), []int{cmd.Process.Pid, grandchild}; !slices.Equal(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
	all := Children(os.Getpid())
	if !slices.Contains(all, cmd.Process.Pid) || !slices.Contains(all, grandchild) || all[0] != os.Getpid() {
		t.Errorf("%v lacks %d or %d", all, cmd.Process.Pid, grandchild)
	}
	if got := Children(math.MaxInt32); got != nil {
		t.Errorf("children of nobody: %v", got)
	}
}

func TestAll(t *testing.T) {
	pids := slices.Collect(All())
	if !slices.Contains(pids, os.Getpid()) || !slices.IsSortedFunc(pids, func(a, b int) int { return b - a }) {
		t.Errorf("%v: this process is %d, and the newest is first", pids, os.Getpid())
	}
}

// TestSocket finds who is at the other end of a connection, over IPv4, IPv6, and an IPv6 socket to an IPv4 address.
func TestSocket(t *testing.T) {
	for _, c := range []struct{ name, network, listen string }{
		{"IPv4", "tcp4", "127.0.0.1:0"},
		{"IPv6", "tcp6", "[::1]:0"},
		{"a listener of both", "tcp", ":0"},
	} {
		t.Run(c.name, func(t *testing.T) {
			var lc net.ListenConfig
			l, err := lc.Listen(t.Context(), c.network, c.listen)
			if err != nil && c.name != "IPv6" {
				t.Fatal(err)
			}
			if err != nil {
				t.Skipf("this machine has no IPv6: %v", err)
			}
			defer l.Close()
			_, port, _ := net.SplitHostPort(l.Addr().String())
			host := map[string]string{"tcp4": "127.0.0.1", "tcp6": "::1", "tcp": "127.0.0.1"}[c.network]
			client, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", net.JoinHostPort(host, port))
			if err != nil {
				t.Fatal(err)
			}
			defer client.Close()
			server, err := l.Accept()
			if err != nil {
				t.Fatal(err)
			}
			defer server.Close()
			near, far := endpoint(client.LocalAddr()), endpoint(client.RemoteAddr())
			inode, ok := Inode(os.Getpid(), near, far)
			if !ok || inode == 0 {
				t.Fatalf("no socket %s to %s", near, far)
			}
			back, ok := Inode(os.Getpid(), far, near)
			if !ok || back == inode {
				t.Errorf("the server's end of it: %d, the client's %d", back, inode)
			}
			mapped := netip.AddrPortFrom(netip.AddrFrom16(near.Addr().As16()), near.Port())
			if same, ok := Inode(os.Getpid(), mapped, far); !ok || same != inode {
				t.Errorf("by %s: %d %v, want %d", mapped, same, ok, inode)
			}
			other := netip.AddrPortFrom(near.Addr(), near.Port()+1)
			if found, ok := Inode(os.Getpid(), other, far); ok {
				t.Errorf("by another port: %d", found)
			}
			if pid, ok := Owner(inode, All()); !ok || pid != os.Getpid() {
				t.Errorf("owner %d %v, want %d", pid, ok, os.Getpid())
			}
		})
	}
}

func endpoint(a net.Addr) netip.AddrPort { return a.(*net.TCPAddr).AddrPort() }

// TestOwnerPassed finds a socket that only a child has.
func TestOwnerPassed(t *testing.T) {
	l, err := (&net.ListenConfig{}).Listen(context.Background(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	f, err := l.(*net.TCPListener).File()
	if err != nil {
		t.Fatal(err)
	}
	link, err := os.Readlink("/proc/self/fd/" + strconv.Itoa(int(f.Fd())))
	if err != nil {
		t.Fatal(err)
	}
	inode, ok := bracketed(link, "socket:[")
	if !ok {
		t.Fatal(link)
	}
	cmd := exec.CommandContext(t.Context(), "sh", "-c", "read line")
	cmd.ExtraFiles = []*os.File{f}
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		in.Close()
		_ = cmd.Wait()
	}()
	f.Close()
	l.Close()
	if pid, ok := Owner(inode, All()); !ok || pid != cmd.Process.Pid {
		t.Errorf("owner %d %v, want %d", pid, ok, cmd.Process.Pid)
	}
	if pid, ok := Owner(inode, slices.Values([]int{os.Getpid(), math.MaxInt32})); ok {
		t.Errorf("%d holds it no more", pid)
	}
	if pid, ok := Owner(0, All()); ok {
		t.Errorf("%d holds no socket", pid)
	}
}

func TestBracketed(t *testing.T) {
	for link, want := range map[string]uint64{
		"socket:[4026531833]": 4026531833, "socket:[0]": 0, "socket:[]": 0, "socket:[1": 0, "socket:[-1]": 0, "pipe:[1]": 0, "": 0,
		"socket:[18446744073709551616]": 0,
	} {
		n, ok := bracketed(link, "socket:[")
		if good := link == "socket:[4026531833]" || link == "socket:[0]"; ok != good || good && n != want {
			t.Errorf("%q: %d %v", link, n, ok)
		}
	}
}
