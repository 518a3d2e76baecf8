package lab_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/imdsctl/imdsctl/internal/clock"
	"github.com/imdsctl/imdsctl/internal/fleet"
	"github.com/imdsctl/imdsctl/internal/imds"
	"github.com/imdsctl/imdsctl/internal/lab"
	"github.com/imdsctl/imdsctl/internal/procfs"
)

// TestMain lets the test binary be a run's first process, and the command that is run.
func TestMain(m *testing.M) {
	lab.Inside()
	if len(os.Args) > 2 && os.Args[1] == "program" {
		os.Exit(program(os.Args[2], os.Args[3:]))
	}
	os.Exit(m.Run())
}

// self is this test's program, wherever it lies and whoever runs it.
func self(args ...string) []string { return append([]string{"/proc/self/exe", "program"}, args...) }

// The addresses that programs ask.
const (
	over4 = "169.254.169.254:80"
	over6 = "[fd00:ec2::254]:80"
)

// program is what the commands of these tests do.
func program(name string, args []string) int {
	switch name {
	case "token":
		return printToken(args[0])
	case "exit":
		code, _ := strconv.Atoi(args[0])
		return code
	case "kill":
		number, _ := strconv.Atoi(args[0])
		_ = syscall.Kill(os.Getpid(), syscall.Signal(number))
		hang()
	case "say":
		fmt.Println("out")
		fmt.Fprintln(os.Stderr, "err")
		_, _ = io.Copy(os.Stdout, os.Stdin)
	case "trap":
		caught := make(chan os.Signal, 1)
		signal.Notify(caught, syscall.SIGTERM, syscall.SIGINT)
		fmt.Println("ready")
		fmt.Println(<-caught)
		return 3
	case "hang":
		fmt.Println("ready")
		hang()
	case "daemon":
		child := exec.Command("/proc/self/exe", "program", "hang")
		child.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
		out, _ := child.StdoutPipe()
		if err := child.Start(); err != nil {
			return 9
		}
		_, _ = out.Read(make([]byte, 1))
		if len(args) > 0 {
			fmt.Println("ready")
			hang()
		}
	case "mutiny":
		for _, s := range []syscall.Signal{syscall.SIGKILL, syscall.SIGTERM, syscall.SIGINT, syscall.SIGSTOP} {
			_ = syscall.Kill(1, s)
		}
		if os.Geteuid() != 0 {
			fmt.Println(ptrace(1))
		}
		return 5
	case "rights":
		return printRights()
	case "dial":
		c, err := net.DialTimeout("tcp", args[0], time.Minute)
		if err != nil {
			fmt.Println(err)
			return 1
		}
		_, _ = io.Copy(os.Stdout, c)
	case "runner":
		return runner(args)
	case "client", "mapped", "forget":
		return client(args[0], name == "mapped", name == "forget")
	case "many":
		count, _ := strconv.Atoi(args[1])
		return many(args[0], count)
	case "resolve":
		found, err := (&net.Resolver{PreferGo: true}).LookupHost(context.Background(), args[0])
		fmt.Println(found, err)
	}
	return 0
}

func hang() { _ = clock.System().Sleep(context.Background(), 24*time.Hour) }

// stuck never has anything to read.
type stuck struct{}

func (stuck) Read([]byte) (int, error) { select {} }

// impatient is a client that gives up early. What arrives at all is there at once.
var impatient = &http.Client{Timeout: 3 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}

func printToken(address string) int {
	request, _ := http.NewRequest(http.MethodPut, "http://"+address+"/latest/api/token", nil)
	request.Header.Set("X-aws-ec2-metadata-token-ttl-seconds", "60")
	answer, err := impatient.Do(request)
	if failed, ok := errors.AsType[net.Error](err); ok && failed.Timeout() {
		fmt.Print("timed out")
		return 0
	}
	if err != nil {
		fmt.Print(err)
		return 1
	}
	defer answer.Body.Close()
	body, err := io.ReadAll(answer.Body)
	fmt.Print(answer.StatusCode, len(body), err)
	return 0
}

// ptrace tries to take a process over.
func ptrace(pid int) error {
	runtime.LockOSThread()
	return syscall.PtraceAttach(pid)
}

func printRights() int {
	status, _ := os.ReadFile("/proc/self/status")
	for line := range strings.Lines(string(status)) {
		if strings.HasPrefix(line, "CapEff") || strings.HasPrefix(line, "CapPrm") || strings.HasPrefix(line, "Uid") {
			fmt.Print(line)
		}
	}
	return 0
}

// give skips a test that cannot run here, or fails it where it must run.
func give(t *testing.T, format string, args ...any) {
	t.Helper()
	if os.Getenv("IMDSCTL_CI_ROOT") == "1" {
		t.Fatalf(format, args...)
	}
	t.Skipf(format, args...)
}

// asBoth runs a test as who runs the tests and, where that is root, as nobody.
func asBoth(t *testing.T, f func(t *testing.T)) {
	t.Helper()
	if os.Geteuid() != 0 {
		f(t)
		return
	}
	t.Run("root", f)
	t.Run("nobody", func(t *testing.T) {
		name, _, _ := strings.Cut(t.Name(), "/")
		asNobody(t, name)
	})
}

func asNobody(t *testing.T, name string) {
	t.Helper()
	const nobody = 65534
	dir, err := os.MkdirTemp("", "lab")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	if err := os.Chown(dir, nobody, nobody); err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), "/proc/self/exe", "-test.run", "^"+name+"$", "-test.v")
	cmd.Dir, cmd.Env = dir, append(os.Environ(), "TMPDIR="+dir)
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}}
	out, err := cmd.CombinedOutput()
	t.Logf("as user %d:\n%s", nobody, out)
	if err != nil {
		t.Fatal(err)
	}
}

// calls are what a service was asked, with who asked.
type calls struct {
	mu   sync.Mutex
	seen []call
}

type call struct {
	imds.Call
	who   lab.Peer
	known bool
}

// service is a real one, with an observer that asks who calls.
func service(t *testing.T, hopLimit int, peers *lab.Peers) (*imds.Service, *calls) {
	t.Helper()
	all := &calls{}
	s, err := imds.New(imds.Config{
		Now:   clock.System().Now,
		State: imds.State{Options: fleet.Options{HopLimit: hopLimit, IPv6: fleet.Enabled}},
		Observe: func(c imds.Call) {
			who, known := peers.Of(c.Remote)
			all.mu.Lock()
			defer all.mu.Unlock()
			all.seen = append(all.seen, call{c, who, known})
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	return s, all
}

// try runs a command in a lab where all is allowed, or leaves the test where this system forbids it.
func try(t *testing.T, o lab.Options, argv ...string) (lab.Result, string, error) {
	t.Helper()
	var out bytes.Buffer
	if o.Stdout == nil {
		o.Stdout, o.Stderr = &out, &out
	}
	if o.Serve == nil {
		o.Serve = idle
	}
	result, err := lab.Run(t.Context(), o, argv)
	if errors.Is(err, lab.ErrForbidden) {
		give(t, "%v", err)
	}
	for _, n := range result.Notes {
		t.Log("note:", n)
		if strings.Contains(n, "no IPv6") && slices.Contains(argv, over6) {
			give(t, "it takes IPv6")
		}
	}
	return result, out.String(), err
}

// idle serves nobody.
func idle(ctx context.Context, _ ...net.Listener) error {
	<-ctx.Done()
	return nil
}

// TestHopLimit asks directly and from behind a hop, over IPv4 and IPv6, at hop limit 1 and 2: a token crosses no more hops than its
// limit says.
func TestHopLimit(t *testing.T) {
	asBoth(t, func(t *testing.T) {
		for _, routed := range []bool{false, true} {
			for _, limit := range []int{1, 2} {
				for _, address := range []string{over4, over6} {
					t.Run(fmt.Sprintf("routed %v, limit %d, %s", routed, limit, address), func(t *testing.T) {
						t.Parallel()
						peers := &lab.Peers{}
						s, seen := service(t, limit, peers)
						result, out, err := try(t, lab.Options{Serve: s.Serve, Peers: peers, Routed: routed}, self("token", address)...)
						want := "200 56 <nil>"
						if routed && limit == 1 {
							want = "timed out"
						}
						if err != nil || result.ExitCode != 0 || out != want {
							t.Errorf("%+v, %v: %s, want %s", result, err, out, want)
						}
						if len(seen.seen) != 1 || !seen.seen[0].known || seen.seen[0].Status != 200 {
							t.Errorf("the service saw %+v", seen.seen)
						}
						if result.Unprivileged != (os.Geteuid() != 0) {
							t.Errorf("unprivileged: %v", result.Unprivileged)
						}
					})
				}
			}
		}
	})
}

// TestHowACommandEnds: its exit code or signal, and those that shells have for what could not be executed.
func TestHowACommandEnds(t *testing.T) {
	asBoth(t, func(t *testing.T) {
		dir := t.TempDir()
		plain, script := filepath.Join(dir, "plain"), filepath.Join(dir, "script")
		if err := errors.Join(os.WriteFile(plain, nil, 0o644), os.WriteFile(script, []byte("#!/no/such/shell\n"), 0o755)); err != nil {
			t.Fatal(err)
		}
		for _, c := range []struct {
			argv    []string
			exit    int
			signal  syscall.Signal
			started bool
		}{
			{self("exit", "0"), 0, 0, true},
			{self("exit", "42"), 42, 0, true},
			{self("kill", "9"), 137, syscall.SIGKILL, true},
			{self("kill", "15"), 143, syscall.SIGTERM, true},
			{[]string{"no-such-command-anywhere"}, 127, 0, false},
			{[]string{filepath.Join(dir, "none")}, 127, 0, false},
			{[]string{script}, 127, 0, false},
			{[]string{plain}, 126, 0, false},
			{[]string{dir}, 126, 0, false},
			{[]string{""}, 127, 0, false},
			{nil, 127, 0, false},
		} {
			result, _, err := try(t, lab.Options{}, c.argv...)
			if (err == nil) != c.started || !c.started && !errors.Is(err, lab.ErrNotStarted) {
				t.Errorf("%q: %v", c.argv, err)
			}
			if result.ExitCode != c.exit || result.Signal != c.signal || len(result.Left) != 0 {
				t.Errorf("%q: %+v, want exit code %d, signal %d", c.argv, result, c.exit, c.signal)
			}
		}
	})
}

// TestWhereACommandIsFound: in the PATH of its own environment, from its own folder, past what cannot be executed.
func TestWhereACommandIsFound(t *testing.T) {
	dir := t.TempDir()
	program := filepath.Join(dir, "bin", "it")
	if err := errors.Join(os.Mkdir(filepath.Dir(program), 0o755), os.Mkdir(filepath.Join(dir, "it"), 0o755),
		os.WriteFile(program, []byte("#!/bin/sh\npwd; echo $NAME\n"), 0o755)); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ name, path, dir, want string }{
		{"it", dir + "/bin", "/", "/\nvalue\n"},
		{"it", "/nowhere:" + dir + ":" + dir + "/bin", dir, dir + "\nvalue\n"},
		{"it", "", dir + "/bin", dir + "/bin\nvalue\n"},
		{"bin/it", "", dir, dir + "\nvalue\n"},
		{"../bin/it", "", dir + "/bin", dir + "/bin\nvalue\n"},
	} {
		result, out, err := try(t, lab.Options{Dir: c.dir, Env: []string{"PATH=" + c.path, "NAME=value"}}, c.name)
		if c.path == "" && c.name == "it" { // an empty PATH has no folders
			if !errors.Is(err, lab.ErrNotStarted) {
				t.Errorf("%+v: %v", c, err)
			}
			continue
		}
		if err != nil || result.ExitCode != 0 || out != c.want {
			t.Errorf("%+v: %+v %v %q", c, result, err, out)
		}
	}
	if _, _, err := try(t, lab.Options{Dir: filepath.Join(dir, "none")}, "/bin/true"); !errors.Is(err, lab.ErrNotStarted) {
		t.Errorf("a folder that is not there: %v", err)
	}
}

// TestStreams: what goes in comes out, apart, be the streams files or not.
func TestStreams(t *testing.T) {
	asBoth(t, func(t *testing.T) {
		var out, errs bytes.Buffer
		o := lab.Options{Stdin: strings.NewReader("in\n"), Stdout: &out, Stderr: &errs}
		if result, _, err := try(t, o, self("say")...); err != nil || out.String() != "out\nin\n" || errs.String() != "err\n" {
			t.Errorf("%+v %v %q %q", result, err, out.String(), errs.String())
		}
		dir := t.TempDir()
		in, file := filepath.Join(dir, "in"), filepath.Join(dir, "out")
		if err := os.WriteFile(in, []byte("file\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		stdin, err := os.Open(in)
		if err != nil {
			t.Fatal(err)
		}
		defer stdin.Close()
		stdout, err := os.Create(file)
		if err != nil {
			t.Fatal(err)
		}
		defer stdout.Close()
		if _, _, err := try(t, lab.Options{Stdin: stdin, Stdout: stdout}, self("say")...); err != nil {
			t.Error(err)
		}
		if got, err := os.ReadFile(file); err != nil || string(got) != "out\nfile\n" {
			t.Errorf("%q %v", got, err)
		}
		// A reader that never ends does not keep a run from ending.
		if _, _, err := try(t, lab.Options{Stdin: stuck{}, Stdout: io.Discard}, self("exit", "0")...); err != nil {
			t.Error(err)
		}
	})
}

// TestRights: a user's command is that user without rights; root's is root.
func TestRights(t *testing.T) {
	asBoth(t, func(t *testing.T) {
		_, out, err := try(t, lab.Options{}, self("rights")...)
		uid := fmt.Sprintf("Uid:\t%d\t", os.Geteuid())
		if err != nil || !strings.HasPrefix(out, uid) {
			t.Errorf("%v: %s", err, out)
		}
		if none := "CapPrm:\t0000000000000000\nCapEff:\t0000000000000000\n"; os.Geteuid() != 0 && !strings.Contains(out, none) {
			t.Errorf("it has rights: %s", out)
		}
	})
}

// lines tells when a command has said a word.
type lines struct {
	mu   sync.Mutex
	text strings.Builder
	said chan struct{}
	word string
}

func waitFor(word string) *lines { return &lines{said: make(chan struct{}), word: word} }

// Write implements io.Writer.
func (l *lines) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	before := strings.Contains(l.text.String(), l.word)
	l.text.Write(b)
	if !before && strings.Contains(l.text.String(), l.word) {
		close(l.said)
	}
	return len(b), nil
}

// TestSignals: what is sent reaches the command, which ends as it likes.
func TestSignals(t *testing.T) {
	asBoth(t, func(t *testing.T) {
		out, signals := waitFor("ready"), make(chan os.Signal, 1)
		go func() { <-out.said; signals <- syscall.SIGTERM; close(signals) }()
		result, _, err := try(t, lab.Options{Stdout: out, Signals: signals}, self("trap")...)
		if err != nil || result.ExitCode != 3 || !strings.HasSuffix(out.text.String(), "terminated\n") {
			t.Errorf("%+v %v %s", result, err, out.text.String())
		}
	})
}

// TestTheContextEnds: everybody is killed, a daemon in a session of its own as well; with a grace the command may say goodbye.
func TestTheContextEnds(t *testing.T) {
	asBoth(t, func(t *testing.T) {
		for _, c := range []struct {
			program []string
			grace   time.Duration
			exit    int
		}{
			{[]string{"trap"}, 0, 137}, {[]string{"trap"}, time.Hour, 3}, {[]string{"daemon", "too"}, 0, 137},
		} {
			out := waitFor("ready")
			ctx, cancel := context.WithCancel(t.Context())
			go func() { <-out.said; cancel() }()
			result, err := lab.Run(ctx, lab.Options{Serve: idle, Stdout: out, Grace: c.grace}, self(c.program...))
			cancel()
			if errors.Is(err, lab.ErrForbidden) {
				give(t, "%v", err)
			}
			if !errors.Is(err, context.Canceled) || result.ExitCode != c.exit {
				t.Errorf("%v, grace %v: %+v %v", c.program, c.grace, result, err)
			}
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if _, err := lab.Run(ctx, lab.Options{Serve: idle}, self("exit", "0")); !errors.Is(err, context.Canceled) {
			t.Errorf("before it began: %v", err)
		}
	})
}

// TestWhoStays: what a command leaves behind is told and ended, at once or, where it may linger, when its time has come.
func TestWhoStays(t *testing.T) {
	asBoth(t, func(t *testing.T) {
		result, _, err := try(t, lab.Options{}, self("daemon")...)
		if err != nil || result.ExitCode != 0 || len(result.Left) != 1 || !slices.Contains(result.Left[0].Args, "hang") {
			t.Fatalf("%+v %v", result, err)
		}
		if err := syscall.Kill(result.Left[0].PID, 0); !errors.Is(err, syscall.ESRCH) {
			t.Errorf("process %d, which was left, is there: %v", result.Left[0].PID, err)
		}
		slept := &sleeper{Clock: clock.NewManual(time.Unix(0, 0))}
		result, _, err = try(t, lab.Options{Linger: time.Hour, Clock: slept}, self("daemon")...)
		if err != nil || len(result.Left) != 1 || slept.longest != time.Hour {
			t.Errorf("%+v %v, after %v", result, err, slept.longest)
		}
		// Who ends in that time ends the run.
		script := "(read x; echo late) <&3 & echo early"
		r, w, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		out := waitFor("early")
		go func() { <-out.said; r.Close(); w.Close() }()
		result, _, err = try(t, lab.Options{Linger: time.Hour, Stdin: r, Stdout: out}, "/bin/sh", "-c", "exec 3<&0; "+script)
		if err != nil || out.text.String() != "early\nlate\n" {
			t.Errorf("%+v %v %q", result, err, out.text.String())
		}
	})
}

// sleeper notes the longest sleep.
type sleeper struct {
	clock.Clock
	longest time.Duration
}

func (s *sleeper) Sleep(ctx context.Context, d time.Duration) error {
	s.longest = max(s.longest, d)
	return s.Clock.Sleep(ctx, d)
}

// TestTheServiceEnds: a service that gives up ends the run, with its error.
func TestTheServiceEnds(t *testing.T) {
	broken, out := errors.New("broken"), waitFor("ready")
	serve := func(context.Context, ...net.Listener) error { <-out.said; return broken }
	if _, _, err := try(t, lab.Options{Serve: serve, Stdout: out}, self("hang")...); !errors.Is(err, broken) {
		t.Errorf("%v", err)
	}
	if _, err := lab.Run(t.Context(), lab.Options{}, self("exit", "0")); err == nil {
		t.Error("a lab without a service")
	}
}

// TestTheFirstProcess: a command cannot end the process that holds the lab together, nor, without rights, take it over. Where somebody
// else kills it, the run ends and says so.
func TestTheFirstProcess(t *testing.T) {
	asBoth(t, func(t *testing.T) {
		result, out, err := try(t, lab.Options{}, self("mutiny")...)
		if err != nil || result.ExitCode != 5 || os.Geteuid() != 0 && out != "operation not permitted\n" {
			t.Errorf("%+v %v %s", result, err, out)
		}
		said := waitFor("ready")
		go func() {
			<-said.said
			for _, pid := range procfs.Children(os.Getpid()) {
				if p, err := procfs.Read(pid); err == nil && slices.Equal(p.Args, []string{"imdsctl-lab"}) {
					_ = syscall.Kill(pid, syscall.SIGKILL)
				}
			}
		}()
		if result, _, err := try(t, lab.Options{Stdout: said}, self("daemon", "too")...); err == nil || !strings.Contains(err.Error(), "killed") {
			t.Errorf("%+v %v", result, err)
		}
	})
}

// TestNothingElseIsThere: in the lab there is the service, and no network besides.
func TestNothingElseIsThere(t *testing.T) {
	asBoth(t, func(t *testing.T) {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		for address, want := range map[string]string{l.Addr().String(): "connection refused", "192.0.2.1:80": "network is unreachable"} {
			result, out, err := try(t, lab.Options{}, self("dial", address)...)
			if err != nil || result.ExitCode != 1 || !strings.Contains(out, want) {
				t.Errorf("%s: %+v %v %s", address, result, err, out)
			}
		}
	})
}
