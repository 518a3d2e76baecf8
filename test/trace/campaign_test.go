//go:build linux

package trace

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/imdsctl/imdsctl/internal/tracer"
	"github.com/imdsctl/imdsctl/internal/tracer/capture"
	"github.com/imdsctl/imdsctl/test/python"
)

// secret is the token in the argument of a command. It must appear nowhere.
const secret = "AQAEAIxnq7sJ0f3kqVbZ8yHn0aTraceSecretOfTheCampaign2xTg=="

// want is a call that must be in the trace.
type want struct {
	path    string // "" for a program that asks for what it likes
	version tracer.Version
	times   int
}

// trial is one program that calls, in one form.
type trial struct {
	name string
	// argv is the command; nil is the program of the forms with the trial's name.
	argv []string
	// container runs it as one.
	container bool
	wants     []want
	// brief programs end as soon as they have sent: a tier that reads /proc may come too late for them.
	brief bool
	// other is who sends: another process than the one that was started, as it says itself.
	other bool
	// older programs connect before the trace begins.
	older bool
	// inherits: another program of the same process connected.
	inherits bool
}

// base is the path that all calls of a trial have.
func base(tier tracer.Tier, name string) string { return "/campaign-" + string(tier) + "/" + name }

// formsOf are the trials that the program of the forms makes, and whether they are v2.
var formsOf = []trial{
	{name: "plain"}, {name: "plainv2"}, {name: "v6"}, {name: "v6v2"}, {name: "mapped"}, {name: "mappedv2"}, {name: "mptcp"},
	{name: "bytes"}, {name: "bytesv2"}, {name: "splitbytes"}, {name: "splitbytesv2"}, {name: "slowbytesv2"},
	{name: "writev"}, {name: "sendmsg"}, {name: "sendmmsg"}, {name: "sendfile"}, {name: "splice"}, {name: "vmsplice"}, {name: "zerocopy"},
	{name: "fastopen"}, {name: "nonblock"}, {name: "fork", other: true}, {name: "orphan", other: true}, {name: "passed", other: true},
	{name: "thread"}, {name: "fast", brief: true}, {name: "dup"}, {name: "keptv2"},
	{name: "uring"}, {name: "uringpoll"}, {name: "uringzerocopy"}, {name: "uringwritev"},
	{name: "6kv2"}, {name: "64k"}, {name: "64kv2"}, {name: "before", older: true}, {name: "beforev2", older: true},
	// Made to mislead.
	{name: "url"}, {name: "agent"}, {name: "within"}, {name: "longer"}, {name: "lower"}, {name: "folded"}, {name: "pipelined"},
	{name: "putbody"}, {name: "chunked"}, {name: "exec", inherits: true},
}

// trials are all of a tier.
func trials(t *testing.T, tier tracer.Tier, program string) []trial {
	t.Helper()
	v := func(name string) tracer.Version {
		if strings.Contains(name, "v2") || name == "lower" || name == "folded" {
			return tracer.V2
		}
		return tracer.V1
	}
	var all []trial
	for _, f := range formsOf {
		path := base(tier, f.name)
		switch f.name {
		case "url":
			f.wants = []want{{path + "/X-aws-ec2-metadata-token", tracer.V1, 1}}
		case "pipelined", "putbody", "chunked":
			f.wants = []want{{path + "/first", tracer.V2, 1}, {path, tracer.V1, 1}}
		case "keptv2":
			f.wants = []want{{path, tracer.V2, 3}}
		default:
			f.wants = []want{{path, v(f.name), 1}}
		}
		f.argv = []string{program, f.name, path}
		if f.inherits {
			f.argv = append(f.argv, program)
		}
		all = append(all, f)
	}
	for _, name := range []string{"plain", "plainv2", "v6", "bytesv2"} {
		path := base(tier, "container-"+name)
		all = append(all, trial{name: "container-" + name, container: true, argv: []string{"/bin/forms", name, path}, wants: []want{{path, v(name), 1}}})
	}
	return append(all, clients(t, tier)...)
}

// clients are programs of other people.
func clients(t *testing.T, tier tracer.Tier) []trial {
	t.Helper()
	interpreter := python.Need(t, "python")
	four, six := "http://169.254.169.254", "http://[fd00:ec2::254]"
	one := func(name, url string, v tracer.Version, argv ...string) trial {
		path := base(tier, name)
		return trial{name: name, argv: append(argv, url+path), wants: []want{{path, v, 1}}}
	}
	curl := []string{"curl", "-gsS", "-o", "/dev/null", "--max-time", "20"}
	const requests = "import requests, sys; requests.get(sys.argv[1], timeout=20)"
	const token = "import requests, sys; requests.get(sys.argv[1], headers={'X-aws-ec2-metadata-token': 'T'}, timeout=20)"
	const boto3 = "import boto3; assert boto3.Session().get_credentials().access_key"
	return []trial{
		one("curl", four, tracer.V1, curl...),
		one("curl-v2", four, tracer.V2, append(curl, "-H", "X-aws-ec2-metadata-token: T")...),
		one("curl-v6", six, tracer.V1, curl...),
		one("curl-v6-v2", six, tracer.V2, append(curl, "-H", "X-aws-ec2-metadata-token: T")...),
		one("curl-secret", four, tracer.V2, append(curl, "-H", "X-aws-ec2-metadata-token: "+secret)...),
		one("requests", four, tracer.V1, interpreter, "-c", requests),
		one("requests-v2", four, tracer.V2, interpreter, "-c", token),
		{name: "boto3", argv: []string{interpreter, "-c", boto3}, wants: []want{
			{"/latest/api/token", tracer.V2, 1}, {"/latest/meta-data/iam/security-credentials/", tracer.V2, 1},
			{"/latest/meta-data/iam/security-credentials/web", tracer.V2, 1}}},
	}
}

// ran is a trial that was run.
type ran struct {
	trial
	pids []int  // of who may have sent
	exe  string // of who sends
}

// recording is a capture whose calls are kept.
type recording struct {
	*capture.Capture
	assembler *tracer.Assembler
	mu        sync.Mutex
	calls     []tracer.Call
	inodes    map[uint64]string
}

func record(t testing.TB, tier tracer.Tier, n network) *recording {
	t.Helper()
	r := &recording{inodes: n.inodes}
	r.assembler = tracer.NewAssembler(tracer.AssemblerOptions{}, func(c tracer.Call) {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.calls = append(r.calls, c)
	})
	var err error
	r.Capture, err = capture.Start(t.Context(), capture.Options{Tier: tier, Tick: r.assembler.Flush}, r.assembler)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _, _ = r.Stop() })
	return r
}

// end stops the capture once a call to a last path was told, and gives the calls of the test's namespaces.
func (r *recording) end(t testing.TB, last string) []tracer.Call {
	t.Helper()
	seen := func() bool {
		r.mu.Lock()
		defer r.mu.Unlock()
		return slices.ContainsFunc(r.calls, func(c tracer.Call) bool { return c.Path == last })
	}
	for deadline := time.Now().Add(30 * time.Second); !seen() && time.Now().Before(deadline); {
		time.Sleep(20 * time.Millisecond)
	}
	stats, err := r.Stop()
	if err != nil {
		t.Errorf("the capture ended with an error: %v", err)
	}
	r.assembler.Close()
	t.Logf("%s: %+v", r.Tier(), stats)
	if losses := r.assembler.Losses(); len(losses) > 0 || stats.Lost > 0 {
		t.Errorf("lost: %+v", losses)
	}
	if !seen() {
		t.Errorf("the last call, %s, is not there", last)
	}
	return slices.DeleteFunc(r.calls, func(c tracer.Call) bool {
		return r.inodes[c.Process.NetNS] == "" && !strings.HasPrefix(c.Path, "/campaign-")
	})
}

func TestCampaign(t *testing.T) {
	need(t)
	program, err := forms()
	if err != nil {
		t.Fatal(err)
	}
	n := lay(t)
	startService(t, n)
	group, id := makeCgroup(t)
	for _, tier := range []tracer.Tier{tracer.TierFull, tracer.TierNoProbe, tracer.TierPackets} {
		t.Run(string(tier), func(t *testing.T) {
			all := trials(t, tier, program)
			older := map[string]*waiting{}
			for _, trial := range all {
				if trial.older {
					older[trial.name] = connectEarly(t, n, trial)
				}
			}
			r := record(t, tier, n)
			t.Logf("notices: %q", r.Notices())
			var done []ran
			for _, trial := range all {
				if trial.older {
					done = append(done, older[trial.name].finish(t))
				} else {
					done = append(done, run(t, n, trial, group))
				}
			}
			last := base(tier, "last")
			if out, err := in(t, n.host, "curl", "-gsS", "-o", "/dev/null", "http://169.254.169.254"+last).CombinedOutput(); err != nil {
				t.Fatalf("%v: %s", err, out)
			}
			judge(t, tier, done, r.end(t, last), id)
		})
	}
}

// run runs a trial to its end.
func run(t *testing.T, n network, trial trial, group string) ran {
	t.Helper()
	cmd := in(t, n.host, trial.argv...)
	if trial.container {
		own, err := os.Executable()
		if err != nil {
			t.Fatal(err)
		}
		folderOfGroup, err := os.Open(group)
		if err != nil {
			t.Fatal(err)
		}
		defer folderOfGroup.Close()
		cmd = in(t, n.container, append([]string{own}, trial.argv...)...)
		cmd.ExtraFiles = []*os.File{folderOfGroup}
		cmd.Env = append(os.Environ(), roleVariable+"=container", "IMDSCTL_TRACE_ROOT="+filepath.Join(folder, "root"))
	}
	cmd.Env = append(environment(cmd.Env), "AWS_EC2_METADATA_DISABLED=false", "HOME="+folder, "AWS_CONFIG_FILE=/nonexistent", "AWS_SHARED_CREDENTIALS_FILE=/nonexistent")
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err != nil {
		t.Fatalf("%s: %v: %s", trial.name, err, out.String())
	}
	done := ran{trial: trial, pids: []int{cmd.Process.Pid}, exe: trial.argv[0]}
	for line := range strings.Lines(out.String()) {
		if said, ok := strings.CutPrefix(strings.TrimSpace(line), "pid "); ok {
			pid, err := strconv.Atoi(said)
			if err != nil {
				t.Fatalf("%s: %s", trial.name, line)
			}
			done.pids = append([]int{pid}, done.pids...)
		}
	}
	if !trial.container {
		path, err := exec.LookPath(trial.argv[0])
		if err == nil {
			done.exe, err = filepath.EvalSymlinks(path)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return done
}

// environment is what a command is given, or this test's own.
func environment(env []string) []string {
	if env == nil {
		return os.Environ()
	}
	return env
}

// waiting is a program that has connected and sends later.
type waiting struct {
	trial
	cmd *exec.Cmd
	in  io.WriteCloser
}

// connectEarly has a program connect.
func connectEarly(t *testing.T, n network, trial trial) *waiting {
	t.Helper()
	w := &waiting{trial: trial, cmd: in(t, n.host, trial.argv...)}
	var err error
	if w.in, err = w.cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	out, err := w.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := w.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	b := make([]byte, 64)
	if k, err := out.Read(b); err != nil || string(b[:k]) != "connected\n" {
		t.Fatalf("%s: %q %v", trial.name, b[:k], err)
	}
	return w
}

// finish has it send.
func (w *waiting) finish(t *testing.T) ran {
	t.Helper()
	fmt.Fprintln(w.in)
	if err := w.cmd.Wait(); err != nil {
		t.Fatalf("%s: %v", w.name, err)
	}
	return ran{trial: w.trial, pids: []int{w.cmd.Process.Pid}, exe: w.argv[0]}
}

// judge holds the calls of a tier against the trials.
func judge(t *testing.T, tier tracer.Tier, done []ran, calls []tracer.Call, container string) {
	t.Helper()
	text, err := json.Marshal(calls)
	if err != nil {
		t.Fatal(err)
	}
	if bytes.Contains(text, []byte(secret[:20])) {
		t.Error("the token of a command line is in the trace")
	}
	expected := 1 // the last
	for _, d := range done {
		t.Run(d.name, func(t *testing.T) {
			for _, w := range d.wants {
				var found []tracer.Call
				for _, c := range calls {
					if c.Path == w.path && (w.path[:4] == "/cam" || slices.Contains(d.pids, c.Process.PID) || c.Process.PID == 0) {
						found = append(found, c)
					}
				}
				if len(found) != w.times {
					t.Errorf("%s is there %d times, want %d: %+v", w.path, len(found), w.times, found)
				}
				for _, c := range found {
					d.judge(t, tier, w, c, container)
				}
			}
		})
		for _, w := range d.wants {
			expected += w.times
		}
	}
	named := 0
	for _, c := range calls {
		if c.Process.PID != 0 && c.Process.Exe != "" {
			named++
		}
	}
	t.Logf("%d of %d calls are with a program", named, len(calls))
	if len(calls) != expected {
		t.Errorf("there are %d calls, want %d", len(calls), expected)
		for _, c := range calls {
			t.Logf("%s %s %s pid %d %s", c.Version, c.Method, c.Path, c.Process.PID, c.Why)
		}
	}
}

// judge holds one call against its trial. What a tier cannot know it may leave empty, but not make up.
func (d ran) judge(t *testing.T, tier tracer.Tier, w want, c tracer.Call, container string) {
	t.Helper()
	p := c.Process
	if c.Version != w.version {
		t.Errorf("%s is told as %s (%s), want %s", w.path, c.Version, c.Why, w.version)
	}
	if late := strings.Contains(c.Why, "older than the trace"); late && !d.older {
		t.Errorf("%s: %s", w.path, c.Why)
	}
	exact := tier == tracer.TierFull
	if exact && (p.PID != d.pids[0] || p.Guessed) || p.PID != 0 && !slices.Contains(d.pids, p.PID) || tier == tracer.TierNoProbe && !d.older && p.PID == 0 {
		t.Errorf("%s: process %d (guessed: %v), want of %v", w.path, p.PID, p.Guessed, d.pids)
	}
	if tier == tracer.TierPackets && !p.Guessed {
		t.Errorf("%s: who calls is not said to be guessed: %+v", w.path, p)
	}
	if exe := d.exe; p.Exe != exe && (exact || p.Exe != "") {
		t.Errorf("%s: program %q, want %q", w.path, p.Exe, exe)
	}
	if d.container && (exact || p.Exe != "") {
		if c.Place.Container != container || p.UID == nil || *p.UID != containerUser {
			t.Errorf("%s: in container %q, cgroup %q, of user %v", w.path, c.Place.Container, p.Cgroup, p.UID)
		}
	}
	if exact {
		d.judgeFull(t, w, c)
	}
}

func (d ran) judgeFull(t *testing.T, w want, c tracer.Call) {
	t.Helper()
	p := c.Process
	if len(p.Args) < 2 || p.Comm == "" || p.NetNS == 0 || p.Cgroup == "" || p.UID == nil {
		t.Errorf("%s: lacks something: %+v", w.path, p)
	}
	family := slices.ContainsFunc(p.Parents, func(o tracer.Parent) bool { return o.PID == os.Getpid() && o.Comm != "" })
	if orphan := d.name == "orphan"; family == orphan {
		t.Errorf("%s: parents %+v, this test is %d", w.path, p.Parents, os.Getpid())
	}
	if d.other {
		if c.Connected == nil || c.Connected.PID != d.pids[1] {
			t.Errorf("%s: who connected is %+v, want process %d", w.path, c.Connected, d.pids[1])
		}
	} else if c.Connected != nil {
		t.Errorf("%s: connected by %+v", w.path, c.Connected)
	}
	if d.inherits && (len(p.Args) < 2 || p.Args[1] != "inherited") {
		t.Errorf("%s: the program that sends is told as %q", w.path, p.Args)
	}
}

// TestFireAndForget starts 800 clients that send and exit at once: none may be without its program and its parents.
func TestFireAndForget(t *testing.T) {
	need(t)
	program, err := forms()
	if err != nil {
		t.Fatal(err)
	}
	n := lay(t)
	startService(t, n)
	const clients = 800
	for _, tier := range []tracer.Tier{tracer.TierFull, tracer.TierNoProbe, tracer.TierPackets} {
		t.Run(string(tier), func(t *testing.T) {
			r := record(t, tier, n)
			path, last := base(tier, "swarm"), base(tier, "last")
			swarm := in(t, n.host, program, "swarm", path, strconv.Itoa(clients), program)
			if out, err := swarm.CombinedOutput(); err != nil {
				t.Fatalf("%v: %s", err, out)
			}
			if out, err := in(t, n.host, "curl", "-gsS", "-o", "/dev/null", "http://169.254.169.254"+last).CombinedOutput(); err != nil {
				t.Fatalf("%v: %s", err, out)
			}
			seen, nameless, pids := map[string]int{}, 0, map[int]bool{}
			for _, c := range r.end(t, last) {
				if !strings.HasPrefix(c.Path, path+"/") {
					continue
				}
				seen[c.Path]++
				p := c.Process
				pids[p.PID] = true
				if p.Exe != program || len(p.Parents) == 0 || p.Parents[0].PID != swarm.Process.Pid {
					nameless++
				}
				if c.Version != tracer.V1 {
					t.Errorf("%s is told as %s", c.Path, c.Version)
				}
			}
			for i := range clients {
				if one := path + "/" + strconv.Itoa(i); seen[one] != 1 {
					t.Errorf("%s was seen %d times", one, seen[one])
				}
			}
			t.Logf("%d of %d without program or parents, %d process ids", nameless, clients, len(pids))
			if tier == tracer.TierFull && (nameless > 0 || len(pids) != clients) {
				t.Errorf("%d of %d are without program or parents, and %d process ids are told", nameless, clients, len(pids))
			}
			if tier == tracer.TierNoProbe && len(pids) != clients {
				t.Errorf("%d process ids are told for %d clients", len(pids), clients)
			}
		})
	}
}

// TestNewNamespace makes its network when the capture has begun: the packets of it are seen all the same.
func TestNewNamespace(t *testing.T) {
	need(t)
	r := record(t, tracer.TierPackets, network{inodes: map[uint64]string{}})
	n := lay(t)
	startService(t, n)
	var last string
	for _, ns := range []string{n.host, n.container} {
		last = base(tracer.TierPackets, "new-"+ns)
		if out, err := in(t, ns, "curl", "-gsS", "-o", "/dev/null", "http://169.254.169.254"+last).CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
	}
	calls := r.end(t, last)
	for _, ns := range []string{n.host, n.container} {
		path, times := base(tracer.TierPackets, "new-"+ns), 0
		for _, c := range calls {
			if c.Path == path {
				times++
			}
		}
		if times != 1 {
			t.Errorf("%s was seen %d times", path, times)
		}
	}
}
