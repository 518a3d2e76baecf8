package app_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/imdsctl/imdsctl/internal/app"
	"github.com/imdsctl/imdsctl/internal/clock"
	"github.com/imdsctl/imdsctl/internal/fleet"
	"github.com/imdsctl/imdsctl/internal/imds"
	"github.com/imdsctl/imdsctl/internal/tracer"
)

// feed is a Tracer that tells what a test has it tell.
type feed struct {
	tier             tracer.Tier
	partial, notices []string
	run              func(sink tracer.Sink, tick func(time.Time)) error
	lost             uint64
	refuse           error
}

func (f *feed) Probe() []app.TraceTier { return []app.TraceTier{{Tier: tracer.TierFull, Works: true}} }

func (f *feed) Start(_ context.Context, _ tracer.Tier, tick func(time.Time), sink tracer.Sink) (app.TraceCapture, error) {
	if f.refuse != nil {
		return nil, f.refuse
	}
	c := &fed{feed: f, ended: make(chan struct{})}
	go func() {
		defer close(c.ended)
		c.err = f.run(sink, tick)
	}()
	return c, nil
}

type fed struct {
	*feed
	ended chan struct{}
	err   error
}

func (f *fed) Tier() tracer.Tier     { return f.tier }
func (f *fed) Partial() []string     { return f.partial }
func (f *fed) Notices() []string     { return f.notices }
func (f *fed) Done() <-chan struct{} { return f.ended }
func (f *fed) Stop() (uint64, error) { <-f.ended; return f.lost, f.err }

// ask sends a request from a program, at a time.
func ask(sink tracer.Sink, socket uint64, at time.Time, from tracer.Process, request string) {
	sink.Connected(tracer.Connect{Socket: socket, Time: at, From: from})
	sink.Sent(tracer.Segment{Socket: socket, Time: at, Seq: 1})
	sink.Sent(tracer.Segment{Socket: socket, Time: at, Seq: 1, Bytes: []byte(request)})
}

const (
	byV1 = "GET /latest/meta-data/iam/security-credentials/ HTTP/1.1\r\nUser-Agent: Boto3/1.9.2 Botocore/1.12.2\r\n\r\n"
	byV2 = "GET /latest/meta-data/ HTTP/1.1\r\nX-aws-ec2-metadata-token: a\r\n\r\n"
)

var billing = tracer.Process{PID: 7, Comm: "python3", Exe: "/usr/bin/python3", Args: []string{"python3", "billing.py", "--token=hunter2"},
	Cgroup: "/system.slice/billing.service"}

// tracing is an App on a clock that stands, which traces what a test feeds it.
func tracing(t *testing.T, f *feed) *app.App {
	t.Helper()
	if f.tier == "" {
		f.tier = tracer.TierFull
	}
	a, err := app.New(app.Options{Clock: clock.NewManual(start), Version: "test", Tracer: f})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { a.Close() })
	return a
}

var tracedHost = app.TraceHost{InstanceID: "i-0123456789abcdef0", Account: payments, Region: ireland}

// readTraceFile reads a trace file whole.
func readTraceFile(t *testing.T, path string) (tracer.Header, []tracer.Line) {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	h, lines, err := tracer.Read(f, path)
	if err != nil {
		t.Fatal(err)
	}
	var out []tracer.Line
	for l, err := range lines {
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, l)
	}
	return h, out
}

// TestATraceEndsWhenItsTimeIsOver: what was seen is in the file, in the lines and in the summary, without secrets.
func TestATraceEndsWhenItsTimeIsOver(t *testing.T) {
	stop := make(chan struct{})
	f := &feed{notices: []string{"a notice"}}
	f.run = func(sink tracer.Sink, tick func(time.Time)) error {
		ask(sink, 1, start, billing, byV1)
		ask(sink, 2, start.Add(time.Minute), billing, byV2)
		tick(start.Add(59 * time.Minute))
		tick(start.Add(time.Hour))
		<-stop // the trace ends, and the capture does not by itself
		return nil
	}
	a := tracing(t, f)
	path := filepath.Join(t.TempDir(), "web.imds.jsonl")
	var lines bytes.Buffer
	var seen []tracer.Line
	sum, err := a.Trace(t.Context(), app.TraceOptions{For: time.Hour, File: app.TraceFile{Path: path}, Lines: &lines, Host: tracedHost,
		Seen: func(l tracer.Line) {
			if seen = append(seen, l); len(seen) == 2 {
				close(stop)
			}
		}})
	if err != nil {
		t.Fatal(err)
	}
	if sum.V1 != 1 || sum.V2 != 1 || sum.Verdict != tracer.VerdictCalls || len(sum.Doubts) > 0 || len(seen) != 2 || sum.Callers[0].Program != "/usr/bin/python3 billing.py" {
		t.Errorf("%+v", sum)
	}
	h, all := readTraceFile(t, path)
	if h.InstanceID != tracedHost.InstanceID || h.Seconds != 3600 || h.Tier != tracer.TierFull || !h.Started.Equal(start) || h.Trace == "" || len(h.Notices) != 1 {
		t.Errorf("%+v", h)
	}
	if len(all) != 3 || all[2].End == nil || all[2].End.Reason != tracer.EndTime || all[0].Call.Place.Unit != "billing.service" {
		t.Errorf("%+v", all)
	}
	file, err := os.ReadFile(path)
	if err != nil || string(file) != lines.String() || strings.Contains(string(file), "hunter2") {
		t.Errorf("the file and the lines: %v\n%s\n%s", err, file, lines.String())
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v %v", info.Mode(), err)
	}
	if _, err := a.Trace(t.Context(), app.TraceOptions{File: app.TraceFile{Path: path}}); err == nil || !strings.Contains(err.Error(), "is there already") {
		t.Errorf("a file that is there: %v", err)
	}
}

// TestInterruptsFailuresAndLosses: each ends the trace with what was seen, and nothing is called clean that is not.
func TestInterruptsFailuresAndLosses(t *testing.T) {
	broken := errors.New("the ring is gone")
	tests := map[string]struct {
		feed   *feed
		cancel bool
		reason string
		doubt  string
		err    error
	}{
		"interrupted":  {&feed{}, true, tracer.EndAsked, "", nil},
		"broken off":   {&feed{}, false, tracer.EndFailed, "the capture broke off", broken},
		"losses":       {&feed{lost: 5}, true, tracer.EndAsked, "5 events were lost: the capture counted more than it could tell", nil},
		"a part of it": {&feed{partial: []string{"only this container"}}, true, tracer.EndAsked, "only this container", nil},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			test.feed.run = func(sink tracer.Sink, _ func(time.Time)) error {
				ask(sink, 1, start, billing, byV2)
				if test.cancel {
					cancel()
				}
				return test.err
			}
			path := filepath.Join(t.TempDir(), "a.imds.jsonl")
			sum, err := tracing(t, test.feed).Trace(ctx, app.TraceOptions{File: app.TraceFile{Path: path}, Host: tracedHost})
			if !errors.Is(err, test.err) || sum.V2 != 1 {
				t.Fatalf("%v, %+v", err, sum)
			}
			_, lines := readTraceFile(t, path)
			if end := lines[len(lines)-1].End; end == nil || end.Reason != test.reason {
				t.Errorf("it ends with %+v", lines[len(lines)-1])
			}
			if clean := sum.Verdict == tracer.VerdictClean; clean != (test.doubt == "") || !strings.Contains(strings.Join(sum.Doubts, ";"), test.doubt) {
				t.Errorf("%s, %q", sum.Verdict, sum.Doubts)
			}
		})
	}
	if _, err := tracing(t, &feed{refuse: errors.New("no eBPF")}).Trace(t.Context(), app.TraceOptions{File: app.TraceFile{Path: filepath.Join(t.TempDir(), "b")}}); err == nil {
		t.Error("a capture that cannot begin is no error")
	}
}

// TestAWriteThatFailsEndsTheTrace, and does not hang.
// TestTheTimeOfDayIsSet: calls come with the time of day, which may leap while a trace lasts; how long it lasts does not depend on it.
func TestTheTimeOfDayIsSet(t *testing.T) {
	f := &feed{}
	f.run = func(sink tracer.Sink, tick func(time.Time)) error {
		ask(sink, 1, start.Add(365*24*time.Hour), billing, byV2)
		tick(start.Add(time.Second))
		return nil
	}
	sum, err := tracing(t, f).Trace(t.Context(), app.TraceOptions{For: time.Hour, Host: tracedHost})
	if err != nil || sum.V2 != 1 {
		t.Fatalf("%v %+v", err, sum)
	}
	path := filepath.Join(t.TempDir(), "a.imds.jsonl")
	if _, err := tracing(t, f).Trace(t.Context(), app.TraceOptions{For: time.Hour, File: app.TraceFile{Path: path}}); err != nil {
		t.Fatal(err)
	}
	if _, lines := readTraceFile(t, path); lines[1].End == nil || lines[1].End.Reason != tracer.EndAsked {
		t.Errorf("after a second of an hour it ends with %+v", lines[len(lines)-1])
	}
}

func TestAWriteThatFailsEndsTheTrace(t *testing.T) {
	f := &feed{}
	f.run = func(sink tracer.Sink, tick func(time.Time)) error {
		for i := range uint64(20_000) {
			ask(sink, i, start, billing, byV1)
		}
		return nil
	}
	_, err := tracing(t, f).Trace(t.Context(), app.TraceOptions{Lines: failing{3}})
	if err == nil || !strings.Contains(err.Error(), "the pipe is closed") {
		t.Errorf("%v", err)
	}
}

type failing struct{ after int }

func (f failing) Write(p []byte) (int, error) {
	if bytes.Contains(p, []byte(`"call"`)) {
		return 0, errors.New("the pipe is closed")
	}
	return len(p), nil
}

// TestParts: a trace goes on in files of bounded size, each complete in itself, of which the newest are kept.
func TestParts(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "web.imds.jsonl")
	many := func(n int, every time.Duration) *feed {
		f := &feed{}
		f.run = func(sink tracer.Sink, tick func(time.Time)) error {
			for i := range n {
				at := start.Add(time.Duration(i) * every)
				ask(sink, uint64(i), at, billing, byV1)
				tick(at)
			}
			return nil
		}
		return f
	}
	sum, err := tracing(t, many(2000, time.Second)).Trace(t.Context(), app.TraceOptions{File: app.TraceFile{Path: path, MaxSize: 100_000}, Host: tracedHost})
	if err != nil || sum.V1 != 2000 {
		t.Fatalf("%v %+v", err, sum)
	}
	names := list(t, dir)
	if len(names) < 4 || !strings.HasPrefix(names[0], "web-20260302T090000Z-0001.imds.jsonl") {
		t.Fatalf("%q", names)
	}
	var calls, parts int
	for _, name := range names {
		h, lines := readTraceFile(t, filepath.Join(dir, name))
		info, err := os.Stat(filepath.Join(dir, name))
		if err != nil || info.Size() > 103_000 || h.Part != parts+1 || lines[len(lines)-1].End == nil || h.InstanceID == "" {
			t.Errorf("%s: %d bytes, part %d, %v", name, info.Size(), h.Part, err)
		}
		calls, parts = calls+len(lines)-1, parts+1
	}
	if calls != 2000 {
		t.Errorf("%d calls in all parts", calls)
	}
	all, err := tracing(t, many(0, 0)).TraceSummary(t.Context(), []string{dir})
	if err != nil || all.V1 != 2000 || len(all.Doubts) > 0 || all.Traces[0].Parts != parts {
		t.Errorf("summed up: %v %+v", err, all)
	}
	// Later, by time, with few that are kept: what others have put there stays.
	if err := os.WriteFile(filepath.Join(dir, "web-notes.imds.jsonl"), []byte("mine"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := tracing(t, many(10, time.Hour)).Trace(t.Context(), app.TraceOptions{File: app.TraceFile{Path: path, Every: time.Hour, Keep: 3}, Host: tracedHost}); err != nil {
		t.Fatal(err)
	}
	if names := list(t, dir); len(names) != 4 || names[3] != "web-notes.imds.jsonl" || !strings.HasPrefix(names[2], "web-20260302T") {
		t.Errorf("%q", names)
	}
}

func list(t *testing.T, dir string) (names []string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

// TestWhatAKilledTraceLeft gets its name with the next one, and is cut off; while another process writes it, nobody touches it.
func TestWhatAKilledTraceLeft(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "web.imds.jsonl")
	var left bytes.Buffer
	w, err := tracer.NewWriter(&left, tracer.Header{Trace: "OLD", Part: 3, Tier: tracer.TierFull, Started: start.Add(-time.Hour)})
	if err != nil {
		t.Fatal(err)
	}
	if err := w.Call(tracer.Call{Time: start.Add(-time.Hour), Version: tracer.V2}); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path+".part", left.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	f := &feed{run: func(sink tracer.Sink, _ func(time.Time)) error {
		if _, err := tracing(t, &feed{}).Trace(t.Context(), app.TraceOptions{File: app.TraceFile{Path: path, Every: time.Hour}}); err == nil ||
			!strings.Contains(err.Error(), "another imdsctl writes") {
			t.Errorf("a second one: %v", err)
		}
		return nil
	}}
	if _, err := tracing(t, f).Trace(t.Context(), app.TraceOptions{File: app.TraceFile{Path: path}}); err == nil || !strings.Contains(err.Error(), "is left of a trace that was killed") {
		t.Errorf("one file: %v", err)
	}
	if _, err := tracing(t, f).Trace(t.Context(), app.TraceOptions{File: app.TraceFile{Path: path, Every: time.Hour}}); err != nil {
		t.Fatal(err)
	}
	names := list(t, dir)
	if len(names) != 2 || names[0] != "web-20260302T080000Z-0003.imds.jsonl" {
		t.Fatalf("%q", names)
	}
	sum, err := tracing(t, f).TraceSummary(t.Context(), []string{filepath.Join(dir, names[0])})
	if err != nil || sum.Verdict != tracer.VerdictOpen || !slices.Contains(sum.Doubts, "part 3 was cut off: it has no end") {
		t.Errorf("%v %+v", err, sum)
	}
	if _, err := tracing(t, f).TraceSummary(t.Context(), []string{t.TempDir()}); err == nil {
		t.Error("an empty folder has a summary")
	}
}

// hostFiles writes files of a host below a folder.
// TestWhatIsInTheWayStays: a file that has the name of one that is written, and is none that this program knows, is nobody's to remove.
func TestWhatIsInTheWayStays(t *testing.T) {
	header := `{"format":"imdsctl-trace","version":1,"trace":"OLD","part":1,"tier":"full","started":"2026-03-02T09:00:00Z"`
	for name, test := range map[string]struct {
		left  string
		stays bool
	}{
		"nothing":             {"", false},
		"part of a header":    {header[:30], false},
		"the rest of a line":  {header, false},
		"somebody's notes":    {"mine\n", true},
		"notes, one line":     {"mine", true},
		"a later format":      {strings.Replace(header, `"version":1`, `"version":2`, 1) + "}\n", true},
		"a later header":      {header + `,"more":1}` + "\n", true},
		"a header like ours ": {`{"format":"imdsctl-findings","version":1}`, true},
	} {
		dir := t.TempDir()
		path := filepath.Join(dir, "web.imds.jsonl")
		if err := os.WriteFile(path+".part", []byte(test.left), 0o600); err != nil {
			t.Fatal(err)
		}
		f := &feed{run: func(tracer.Sink, func(time.Time)) error { return nil }}
		_, err := tracing(t, f).Trace(t.Context(), app.TraceOptions{File: app.TraceFile{Path: path, Every: time.Hour}})
		if refused := err != nil && strings.Contains(err.Error(), "is in the way"); refused != test.stays || !refused && err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if left, err := os.ReadFile(path + ".part"); test.stays != (err == nil) || string(left) != test.left && test.stays {
			t.Errorf("%s: %q %v", name, left, err)
		}
	}
}

// TestPartsThatAreThereTwice count once, and the better copy does; what cannot be read in a folder is a doubt, and keeps no other out.
func TestPartsThatAreThereTwice(t *testing.T) {
	dir := t.TempDir()
	a := tracing(t, &feed{})
	whole, cut := traced(t, "A", id(1), 1, 3, start, true), traced(t, "A", id(1), 1, 1, start, false)
	first := put(t, dir, "a.imds.jsonl", cut)
	second := put(t, dir, "b.imds.jsonl.gz", zipped(t, whole))
	for _, paths := range [][]string{{dir}, {first, second}, {second, first}, {dir, first, second, dir}} {
		if sum, err := a.TraceSummary(t.Context(), paths); err != nil || sum.V1 != 3 || len(sum.Doubts) > 0 || sum.Traces[0].Parts != 1 || sum.Callers[0].V1 != 3 {
			t.Errorf("%q: %v %+v", paths, err, sum)
		}
	}
	packed := zipped(t, traced(t, "B", id(2), 1, 0, start, true))
	third := put(t, dir, "c.imds.jsonl.gz", packed[:len(packed)-30])
	if sum, err := a.TraceSummary(t.Context(), []string{third}); err != nil || sum.Verdict != tracer.VerdictOpen || !slices.Contains(sum.Doubts, "part 1 was cut off: it has no end") {
		t.Errorf("a compressed file that was cut off: %v %+v", err, sum)
	}
	quiet := t.TempDir()
	put(t, quiet, "good.imds.jsonl", traced(t, "C", id(3), 1, 0, start, true))
	for i := range 5 {
		put(t, quiet, fmt.Sprintf("bad-%d.imds.jsonl", i), []byte("nonsense\n"))
	}
	sum, err := a.TraceSummary(t.Context(), []string{quiet})
	if err != nil || sum.Verdict != tracer.VerdictOpen || len(sum.Doubts) != 4 || !strings.Contains(sum.Says(), "bad-0.imds.jsonl is no trace file") ||
		!strings.Contains(sum.Says(), "2 more files could not be read") {
		t.Errorf("%v %+v", err, sum)
	}
	if _, err := a.TraceSummary(t.Context(), []string{quiet, filepath.Join(quiet, "bad-1.imds.jsonl")}); err == nil || strings.Count(err.Error(), "bad-1.imds.jsonl") > 2 {
		t.Errorf("a bad file that was given by its name: %v", err)
	}
}

func hostFiles(t *testing.T, files map[string]string) string {
	t.Helper()
	root := t.TempDir()
	for name, text := range files {
		path := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return root
}

// headerOf traces nothing, and gives the header.
func headerOf(t *testing.T, host app.TraceHost) (h tracer.Header) {
	t.Helper()
	f := &feed{run: func(tracer.Sink, func(time.Time)) error { return nil }}
	if _, err := tracing(t, f).Trace(t.Context(), app.TraceOptions{Host: host, Begun: func(begun tracer.Header) { h = begun }}); err != nil {
		t.Fatal(err)
	}
	return h
}

// TestWhoseHostItIs is found in the hardware, in cloud-init's files, and by version 2 of the metadata service; flags go over it, and what
// was left of another machine does not count.
func TestWhoseHostItIs(t *testing.T) {
	const id, otherID = "i-0123456789abcdef0", "i-0fedcba9876543210"
	var calls []imds.Call
	service, err := imds.New(imds.Config{State: imds.State{Options: fleet.Options{Tokens: fleet.TokensRequired}, InstanceID: id, Account: payments, Region: ireland},
		Now: func() time.Time { return start }, Observe: func(c imds.Call) { calls = append(calls, c) }})
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(service)
	defer server.Close()
	cloudInit := func(id string) string {
		return fmt.Sprintf(`{"v1": {"cloud_name": "aws", "instance_id": %q, "region": "eu-west-1"}, "ds": {"dynamic": {"instance-identity": {"document":
			{"accountId": "222222222222", "instanceId": %q, "region": "eu-west-1"}}}}}`, id, id)
	}
	const hardware, data, old = "sys/devices/virtual/dmi/id/board_asset_tag", "run/cloud-init/instance-data.json", "var/lib/cloud/data/instance-id"
	tests := map[string]struct {
		files   map[string]string
		host    app.TraceHost
		id      string
		account fleet.AccountID
	}{
		"nothing":                {nil, app.TraceHost{}, "", ""},
		"Nitro":                  {map[string]string{hardware: id + "\n"}, app.TraceHost{}, id, ""},
		"other hardware":         {map[string]string{hardware: "Not Specified\n"}, app.TraceHost{}, "", ""},
		"cloud-init":             {map[string]string{data: cloudInit(id)}, app.TraceHost{}, id, payments},
		"cloud-init elsewhere":   {map[string]string{data: strings.Replace(cloudInit(id), `"aws"`, `"azure"`, 1)}, app.TraceHost{}, "", ""},
		"an image's cloud-init":  {map[string]string{hardware: id, data: cloudInit(otherID), old: otherID}, app.TraceHost{}, id, ""},
		"an old cloud-init":      {map[string]string{old: id + "\n"}, app.TraceHost{}, id, ""},
		"redacted":               {map[string]string{data: strings.Replace(cloudInit(id), `{"accountId"`, `"redacted for non-root user", "x": {"accountId"`, 1)}, app.TraceHost{}, id, ""},
		"broken":                 {map[string]string{data: "{", hardware: "i-xyz"}, app.TraceHost{}, "", ""},
		"the service":            {nil, app.TraceHost{Metadata: server.URL}, id, payments},
		"the service of another": {map[string]string{hardware: otherID}, app.TraceHost{Metadata: server.URL}, otherID, ""},
		"flags":                  {map[string]string{hardware: id}, app.TraceHost{InstanceID: otherID, Account: shop, Region: virginia, Metadata: server.URL}, otherID, shop},
	}
	for name, test := range tests {
		test.host.Root = hostFiles(t, test.files)
		h := headerOf(t, test.host)
		if h.InstanceID != test.id || h.Account != test.account || h.Region == "" && h.Account != "" {
			t.Errorf("%s: %q %q %q", name, h.InstanceID, h.Account, h.Region)
		}
	}
	if len(calls) != 4 || slices.ContainsFunc(calls, func(c imds.Call) bool { return c.Version != imds.V2 }) {
		t.Errorf("the service was asked %+v", calls)
	}
	h := headerOf(t, app.TraceHost{Root: hostFiles(t, map[string]string{"proc/stat": "cpu 1 2\nbtime 1772440000\n", "proc/sys/kernel/osrelease": "6.12.0\n",
		"proc/sys/kernel/random/boot_id": "b-1\n"})})
	if h.Kernel != "6.12.0" || h.BootID != "b-1" || h.Booted.Unix() != 1772440000 {
		t.Errorf("%+v", h)
	}
}

// TestNamesOfPodsAndTasks are those that this host knows.
func TestNamesOfPodsAndTasks(t *testing.T) {
	const pod, task = "5c9f9e38-1d2a-4b6c-8e0f-112233445566", "d9f3c1a2b4e5468797a0b1c2d3e4f506"
	asked := 0
	agent := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked++
		io.WriteString(w, `{"Tasks": [{"Arn": "arn:aws:ecs:eu-west-1:222222222222:task/blue/`+task+`", "Family": "billing", "Version": "7"}]}`)
	}))
	defer agent.Close()
	root := hostFiles(t, map[string]string{"var/log/pods/shop_web-7d9f8_" + pod + "/app/0.log": ""})
	in := func(cgroup string) tracer.Process { return tracer.Process{PID: 1, Cgroup: cgroup} }
	f := &feed{}
	f.run = func(sink tracer.Sink, _ func(time.Time)) error {
		ask(sink, 1, start, in("/kubepods/burstable/pod"+pod+"/"+strings.Repeat("a", 64)), byV1)
		ask(sink, 2, start, in("/kubepods/burstable/pod00000000-1d2a-4b6c-8e0f-112233445566/"+strings.Repeat("b", 64)), byV1)
		for i := range uint64(5) {
			ask(sink, 3+i, start.Add(time.Duration(i)*time.Second), in("/ecs/"+task+"/"+strings.Repeat("c", 64)), byV1)
			ask(sink, 13+i, start.Add(time.Duration(i)*time.Second), in("/ecs/e"+task[1:]+"/"+strings.Repeat("d", 64)), byV1)
		}
		return nil
	}
	sum, err := tracing(t, f).Trace(t.Context(), app.TraceOptions{Host: app.TraceHost{Root: root, ECSAgent: agent.URL}})
	if err != nil {
		t.Fatal(err)
	}
	var places []string
	for _, c := range sum.Callers {
		places = append(places, c.Place.String())
	}
	slices.Sort(places)
	want := []string{"pod 00000000-1d2a-4b6c-8e0f-112233445566", "pod shop/web-7d9f8", "task billing:7", "task e" + task[1:]}
	if !slices.Equal(places, want) || asked != 1 {
		t.Errorf("%q, the agent was asked %d times", places, asked)
	}
}
