package capture

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/imdsctl/imdsctl/internal/procfs"
	"github.com/imdsctl/imdsctl/internal/tracer"
	"github.com/imdsctl/imdsctl/internal/tracer/capture/bpf"
)

// roleVariable makes this test binary something else than a test.
const roleVariable = "IMDSCTL_CAPTURE_ROLE"

func TestMain(m *testing.M) {
	switch os.Getenv(roleVariable) {
	case "probe":
		for _, a := range Probe() {
			fmt.Printf("%s: %v\n", a.Tier, a.Err)
		}
		_, err := Start(context.Background(), Options{}, nobody{})
		fmt.Println("start:", err)
		os.Exit(0)
	case "packets":
		c, err := Start(context.Background(), Options{Tier: tracer.TierPackets}, nobody{})
		if err == nil {
			fmt.Printf("%q\n", c.Partial())
			_, err = c.Stop()
		}
		fmt.Println(err)
		os.Exit(0)
	case "container":
		os.Exit(inContainer())
	}
	os.Exit(m.Run())
}

// need leaves a test out where it is not root, unless everything must run.
func need(t *testing.T) {
	t.Helper()
	give := t.Skip
	if os.Getenv("IMDSCTL_CI_ROOT") == "1" {
		give = t.Fatal
	}
	if os.Geteuid() != 0 {
		give("capturing takes root: run `go test ./internal/tracer/...` as root")
	}
}

func TestProbe(t *testing.T) {
	need(t)
	c, err := Start(t.Context(), Options{}, nobody{})
	if err != nil {
		t.Fatal(err)
	}
	if c.Tier() != tracer.TierFull || len(c.Partial()) != 0 {
		t.Errorf("the best tier here is %s, %q", c.Tier(), c.Notices())
	}
	if _, err := c.Stop(); err != nil {
		t.Error(err)
	}
	for i, a := range Probe() {
		if a.Tier != tiers[i] || a.Err != nil {
			t.Errorf("%s: %v", a.Tier, a.Err)
		}
	}
}

func TestUnknownTier(t *testing.T) {
	if _, err := Start(t.Context(), Options{Tier: "best"}, nobody{}); err == nil || !strings.Contains(err.Error(), "no-probe") {
		t.Errorf("%v does not say which tiers there are", err)
	}
}

// TestWithoutRights tries as nobody: every tier says why it does not work, and what it takes.
func TestWithoutRights(t *testing.T) {
	need(t)
	own, err := os.ReadFile("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	dir, err := os.MkdirTemp("", "imdsctl-capture-")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	program := filepath.Join(dir, "probe")
	if err := errors.Join(os.WriteFile(program, own, 0o755), os.Chmod(dir, 0o755)); err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), program)
	cmd.Dir, cmd.Env = "/", append(os.Environ(), roleVariable+"=probe", "TMPDIR="+dir)
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	said := string(out)
	for _, want := range []string{"full: loading", "no-probe: loading", "CAP_BPF", "packets: ", "CAP_NET_RAW", "start: nothing can be captured on this host"} {
		if !strings.Contains(said, want) {
			t.Errorf("it does not say %q:\n%s", want, said)
		}
	}
}

// TestPacketsOfOneNamespace listens with the rights for its own network namespace alone, and says so.
func TestPacketsOfOneNamespace(t *testing.T) {
	need(t)
	cmd := exec.CommandContext(t.Context(), "/proc/self/exe")
	cmd.Env = append(os.Environ(), roleVariable+"=packets")
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}, AmbientCaps: []uintptr{unix.CAP_NET_RAW, unix.CAP_NET_ADMIN}}
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	if said := string(out); !strings.Contains(said, "Some network namespaces may not be listened to") || !strings.HasSuffix(said, "<nil>\n") {
		t.Errorf("%s", out)
	}
}

func TestHierarchy(t *testing.T) {
	need(t)
	h, err := findHierarchy()
	if err != nil {
		t.Fatal(err)
	}
	defer h.close()
	if !h.whole {
		t.Fatalf("%s is a part of the host's cgroups", h.mounted)
	}
	dir := filepath.Join(h.mounted, fmt.Sprintf("imdsctl-capture-%d", os.Getpid()))
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	defer os.Remove(dir)
	info, err := os.Stat(dir)
	if err != nil {
		t.Fatal(err)
	}
	id := info.Sys().(*syscall.Stat_t).Ino
	before, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		t.Fatal(err)
	}
	own := mountedForUs()
	if len(own) != 1 || !own[0].whole {
		t.Fatalf("mounted for us: %+v", own)
	}
	defer own[0].close()
	if after, err := os.ReadFile("/proc/self/mountinfo"); err != nil || len(after) != len(before) {
		t.Errorf("a mount was left: %v\n%s", err, after)
	}
	if _, err := os.Stat(own[0].mounted); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("its folder %s was left: %v", own[0].mounted, err)
	}
	for _, in := range []*hierarchy{h, own[0]} {
		if path, ok := in.cgroup(id); !ok || path != "/"+filepath.Base(dir) {
			t.Errorf("cgroup %d in %s: %q %v", id, in.mounted, path, ok)
		}
		if path, ok := in.cgroup(1 << 60); ok {
			t.Errorf("a cgroup that is not there: %q", path)
		}
	}
}

// TestPrivateNamespace captures within cgroup and PID namespaces, as in a container: that only a part is seen is said.
func TestPrivateNamespace(t *testing.T) {
	need(t)
	h, err := findHierarchy()
	if err != nil {
		t.Fatal(err)
	}
	defer h.close()
	group := filepath.Join(h.mounted, fmt.Sprintf("imdsctl-capture-%d", os.Getpid()))
	if err := os.Mkdir(group, 0o755); err != nil {
		t.Fatal(err)
	}
	defer os.Remove(group)
	dir, err := os.Open(group)
	if err != nil {
		t.Fatal(err)
	}
	defer dir.Close()
	cmd := exec.CommandContext(t.Context(), "/proc/self/exe")
	cmd.Env = append(os.Environ(), roleVariable+"=container")
	cmd.SysProcAttr = &syscall.SysProcAttr{UseCgroupFD: true, CgroupFD: int(dir.Fd()),
		Cloneflags: syscall.CLONE_NEWNS | syscall.CLONE_NEWCGROUP | syscall.CLONE_NEWPID | syscall.CLONE_NEWNET}
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	for _, want := range []string{"full: This program is in a cgroup namespace of its own", "full: This program is in a PID namespace", "no-probe: This program is in a cgroup",
		"packets: This program is in a PID namespace"} {
		if !strings.Contains(string(out), want) {
			t.Errorf("%q is not said:\n%s", want, out)
		}
	}
}

// inContainer sees nothing of the host but its kernel.
func inContainer() int {
	fail := errors.Join(
		unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""),
		unix.Mount("none", "/sys/fs/cgroup", "tmpfs", 0, ""),
		unix.Mount("proc", "/proc", "proc", 0, ""),
		os.Mkdir("/sys/fs/cgroup/own", 0o755),
		unix.Mount("none", "/sys/fs/cgroup/own", "cgroup2", 0, ""),
	)
	for _, tier := range tiers {
		c, err := Start(context.Background(), Options{Tier: tier}, nobody{})
		if err != nil {
			fail = errors.Join(fail, err)
			continue
		}
		for _, n := range c.Notices() {
			fmt.Printf("%s: %s\n", tier, n)
		}
		if p := c.Partial(); len(p) != 1 {
			fail = errors.Join(fail, fmt.Errorf("%s: only a part is seen, because %q", tier, p))
		}
		_, err = c.Stop()
		fail = errors.Join(fail, err)
	}
	if fail != nil {
		fmt.Println(fail)
		return 1
	}
	return 0
}

// kept is a sink that keeps what it is told.
type kept struct {
	connects []tracer.Connect
	lost     map[string]uint64
}

func (k *kept) Connected(c tracer.Connect) { k.connects = append(k.connects, c) }
func (k *kept) Sent(tracer.Segment)        {}
func (k *kept) Lost(n uint64, why string) {
	if k.lost == nil {
		k.lost = map[string]uint64{}
	}
	k.lost[why] += n
}

// TestLossIsTold connects more often than the buffer has room for, while nobody reads. The network is one without any way out.
func TestLossIsTold(t *testing.T) {
	need(t)
	s, err := openPrograms(tracer.TierFull, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	const connects = 2000
	before := time.Now()
	netns := make(chan uint64)
	go func() {
		runtime.LockOSThread() // not unlocked: the thread ends with the goroutine, and its network with it
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			t.Error(err)
			close(netns)
			return
		}
		for range connects {
			fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
			if err != nil {
				t.Error(err)
				break
			}
			if err := unix.Connect(fd, &unix.SockaddrInet4{Addr: [4]byte{169, 254, 169, 254}, Port: 80}); !errors.Is(err, unix.ENETUNREACH) {
				t.Errorf("connecting without a network: %v", err)
			}
			unix.Close(fd)
		}
		link, err := os.Readlink("/proc/thread-self/ns/net")
		if err != nil {
			t.Error(err)
		}
		var inode uint64
		fmt.Sscanf(link, "net:[%d]", &inode)
		netns <- inode
	}()
	space := <-netns
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	var sink kept
	if err := s.run(ctx, &sink, func(time.Time) {}); err != nil {
		t.Fatal(err)
	}
	var told, lost uint64
	for _, c := range sink.connects {
		if c.From.NetNS != space {
			continue // another's, on this machine
		}
		told++
		if c.From.PID != os.Getpid() || c.From.Exe != ownProgram(t) || c.Time.Before(before.Add(-time.Second)) || c.Time.After(time.Now().Add(time.Second)) {
			t.Fatalf("%+v", c)
		}
	}
	for why, n := range sink.lost {
		lost += n
		if !strings.Contains(why, "who called is not known") {
			t.Errorf("lost, because %s", why)
		}
	}
	if told == 0 || lost == 0 || told+lost < connects {
		t.Errorf("%d connects were told and %d lost, of %d", told, lost, connects)
	}
}

func ownProgram(t *testing.T) string {
	t.Helper()
	path, err := os.Readlink("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// TestDescribe completes what the kernel told from /proc, if that is still of the same process.
func TestDescribe(t *testing.T) {
	now, err := procfs.Read(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	p := newPeople(slog.New(slog.DiscardHandler), nil, nil)
	p.elsewhere = false
	args := os.Args
	half := bpf.Caller{PID: os.Getpid(), Full: true, Started: now.Started * 1e7, Exe: filepath.Base(now.Exe), Args: []string{args[0], "-tes"}, Comm: "thread"}
	got := p.describe(&half)
	if got.Exe != now.Exe || !slices.Equal(got.Args, now.Args) || len(got.Parents) != 0 && got.Parents[0].PID != os.Getppid() {
		t.Errorf("it is not completed: %+v, of %+v", got, now)
	}
	another := half
	another.Args, another.Started = []string{args[0], "-tes"}, half.Started-1e8
	if got := p.describe(&another); got.Exe != half.Exe || !slices.Equal(got.Args, []string{args[0], cutArg}) {
		t.Errorf("an earlier process of this id was completed: %+v", got)
	}
	other := half
	other.Args, other.Exe = []string{args[0], "-tes"}, "usr/bin/curl"
	if got := p.describe(&other); got.Exe != "usr/bin/curl" || len(got.Args) != 2 {
		t.Errorf("a process that has begun another program since was completed: %+v", got)
	}
	whole := bpf.Caller{PID: os.Getpid(), Full: true, WholeExe: true, WholeArgs: true, Exe: "/bin/x", Args: []string{"x"}, Cgroup2: "/", Cgroup1: "/docker/a"}
	if got := p.describe(&whole); got.Exe != "/bin/x" || got.Cgroup != "/docker/a" || len(got.Parents) != 0 {
		t.Errorf("what was whole was changed: %+v", got)
	}
	head := bpf.Caller{PID: os.Getpid(), Comm: "thread", Time: uint64(nanoseconds(unix.CLOCK_MONOTONIC))}
	if got := p.describe(&head); got.Exe != now.Exe || got.Comm != "thread" || got.NetNS != now.NetNS || len(got.Parents) != len(now.Parents) {
		t.Errorf("without more than a head: %+v", got)
	}
	suspended := uint64(nanoseconds(unix.CLOCK_BOOTTIME) - nanoseconds(unix.CLOCK_MONOTONIC))
	head.Time = (now.Started-100)*1e7 - suspended // a second before it began
	if got := p.describe(&head); got.Exe != "" {
		t.Errorf("this process began after the call: %+v", got)
	}
}

// TestSender tells who sends only where that is sure, or a guess where nobody else can be.
func TestSender(t *testing.T) {
	p := newPeople(slog.New(slog.DiscardHandler), nil, map[uint64]tracer.Process{7: {PID: 70, Guessed: true}})
	p.elsewhere = true
	p.meet(&bpf.Caller{Socket: 1, PID: 10, Execs: 3, Full: true, WholeExe: true, WholeArgs: true, Exe: "/bin/x"})
	for _, c := range []struct {
		piece bpf.Piece
		want  *tracer.Process
	}{
		{bpf.Piece{Socket: 1, PID: 10, Execs: 3}, &tracer.Process{PID: 10, Exe: "/bin/x"}},
		{bpf.Piece{Socket: 1}, nil},
		{bpf.Piece{Socket: 1, PID: 11, Execs: 3}, &tracer.Process{PID: 11}},
		{bpf.Piece{Socket: 1, PID: 10, Execs: 4}, &tracer.Process{PID: 10}},
		{bpf.Piece{Socket: 2}, nil},
		{bpf.Piece{Socket: 7}, &tracer.Process{PID: 70, Guessed: true}},
		{bpf.Piece{Socket: 7, PID: 71}, &tracer.Process{PID: 71}},
	} {
		got := p.sender(&c.piece)
		if (got == nil) != (c.want == nil) || got != nil && (got.PID != c.want.PID || got.Exe != c.want.Exe || got.Guessed != c.want.Guessed) {
			t.Errorf("%+v: %+v, want %+v", c.piece, got, c.want)
		}
	}
}
