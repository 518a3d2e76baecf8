package tracer_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/imdsctl/imdsctl/internal/evidence"
	"github.com/imdsctl/imdsctl/internal/inventory"
	"github.com/imdsctl/imdsctl/internal/tracer"
)

// web is the header of a trace of one host.
func web() tracer.Header {
	return tracer.Header{Trace: "T1", Part: 1, Host: "web-1", InstanceID: "i-0123456789abcdef0", Account: "111122223333", Region: "eu-west-1",
		Tier: tracer.TierFull, Started: noon, Booted: noon.Add(-time.Minute), Seconds: 3600}
}

func call(v tracer.Version, minutes int, path string, p tracer.Process, agent ...string) *tracer.Call {
	c := &tracer.Call{Time: noon.Add(time.Duration(minutes) * time.Minute), Version: v, Method: "GET", Path: path, Process: p,
		Place: tracer.Locate(p.Cgroup)}
	if len(agent) > 0 {
		c.UserAgent, c.Product, c.ProductVersion = agent[0], agent[1], agent[2]
	}
	return c
}

// written is a trace file of calls and losses, ended unless the reason is empty.
func written(t fataler, h tracer.Header, reason string, lines ...any) []byte {
	var b bytes.Buffer
	w, err := tracer.NewWriter(&b, h)
	for _, l := range lines {
		switch l := l.(type) {
		case *tracer.Call:
			err = errors.Join(err, w.Call(*l))
		case tracer.Loss:
			err = errors.Join(err, w.Loss(l))
		}
	}
	if reason != "" {
		err = errors.Join(err, w.Close(noon.Add(time.Hour), reason))
	}
	if err != nil {
		t.Fatal(err)
	}
	if w.Size() != int64(b.Len()) {
		t.Fatal("it says", w.Size(), "bytes, and wrote", b.Len())
	}
	return b.Bytes()
}

// readAll reads a trace file whole.
func readAll(data []byte) (h tracer.Header, lines []tracer.Line, err error) {
	h, all, err := tracer.Read(bytes.NewReader(data), "web.imds.jsonl")
	if err != nil {
		return h, nil, err
	}
	for l, err := range all {
		if err != nil {
			return h, lines, err
		}
		lines = append(lines, l)
	}
	return h, lines, nil
}

func TestFilesAreReadAsWritten(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		h := web()
		h.V1Only, h.Notices = rapid.Bool().Draw(t, "v1 only"), []string{"<a> & b"}
		var lines []any
		want := []tracer.Line{}
		for range rapid.IntRange(0, 20).Draw(t, "lines") {
			if rapid.IntRange(0, 9).Draw(t, "loss") == 0 {
				l := tracer.Loss{Time: noon, Events: rapid.Uint64().Draw(t, "events"), Why: "full"}
				lines, want = append(lines, l), append(want, tracer.Line{Loss: &l})
				continue
			}
			p := python
			p.UID, p.Args, p.Parents = new(1000), []string{rapid.StringMatching(`[ -~äö\t]{0,9}`).Draw(t, "arg")}, []tracer.Parent{{PID: 1, Comm: "x"}}
			c := call(rapid.SampledFrom([]tracer.Version{tracer.V1, tracer.V2, tracer.Unknown, tracer.NotHTTP}).Draw(t, "version"), 1, "/é", p)
			if rapid.Bool().Draw(t, "connected") {
				c.Connected, c.Why = new(python), "x"
			}
			lines = append(lines, c)
			if !h.V1Only || c.Version == tracer.V1 || c.Version == tracer.Unknown {
				want = append(want, tracer.Line{Call: c})
			}
		}
		data := written(t, h, tracer.EndTime, lines...)
		got, all, err := readAll(data)
		if err != nil {
			t.Fatal(err)
		}
		h.Format, h.Version = tracer.Format, 1
		if len(all) != len(want)+1 || all[len(all)-1].End == nil || toJSON(got) != toJSON(h) || toJSON(all[:len(want)]) != toJSON(want) {
			t.Fatalf("%s\n became %s\n and %s", data, toJSON(got), toJSON(all))
		}
		// Cut anywhere behind the header it is a trace without an end, and no error.
		first := bytes.IndexByte(data, '\n') + 1
		at := rapid.IntRange(first, len(data)-2).Draw(t, "cut")
		_, part, err := readAll(data[:at])
		if err != nil || len(part) > 0 && part[len(part)-1].End != nil {
			t.Fatalf("cut at %d: %v, %s", at, err, toJSON(part))
		}
	})
}

func toJSON(v any) string {
	b, err := json.Marshal(v)
	if err != nil {
		return err.Error()
	}
	return string(b)
}

// fataler is a test, or a case of rapid.
type fataler interface{ Fatal(args ...any) }

// TestBrokenFiles: what is no trace, or was changed by hand, is an error that names file and line.
func TestBrokenFiles(t *testing.T) {
	good := string(written(t, web(), tracer.EndTime, call(tracer.V1, 1, "/a", python), call(tracer.V2, 2, "/b", python)))
	lines := strings.SplitAfter(good, "\n")
	edit := func(old, put string) string {
		if !strings.Contains(good, old) {
			t.Fatalf("%s has no %s", good, old)
		}
		return strings.Replace(good, old, put, 1)
	}
	tests := map[string][2]string{
		"empty":                   {"", "is empty"},
		"something else":          {"hello\n", "is no trace file"},
		"findings":                {`{"format":"imdsctl-findings","version":1}`, "is no trace file"},
		"another version":         {edit(`"version":1,"trace"`, `"version":2,"trace"`), "version 2 of imdsctl-trace is not known"},
		"an unknown field":        {edit(`"host"`, `"hots"`), "web.imds.jsonl:1: json: unknown field"},
		"no instance":             {edit("i-0123456789abcdef0", "i-nonsense"), "is no id of an instance"},
		"no account":              {edit("111122223333", "1111"), "is no id of an account"},
		"no region":               {edit("eu-west-1", "../../x"), "is no region"},
		"no tier":                 {edit(`"full"`, `"best"`), "is no tier"},
		"no start":                {edit(`"started":"2026-03-02T12:00:00Z"`, `"started":"0001-01-01T00:00:00Z"`), "does not say when it was started"},
		"a line of nonsense":      {lines[0] + "nonsense\n" + lines[1], "web.imds.jsonl:2: invalid character"},
		"two in a line":           {lines[0] + strings.TrimSpace(lines[1]) + lines[2], "web.imds.jsonl:2: there is more than one JSON document"},
		"an empty object":         {lines[0] + "{}\n", "web.imds.jsonl:2: a line is a call, a loss or the end"},
		"a version that is none":  {edit(`"version":"v1"`, `"version":"v3"`), `"v3" is no version`},
		"a line taken out":        {lines[0] + lines[2] + lines[3], "the end counts 2 lines of calls, and there are 1"},
		"another version put in":  {edit(`"version":"v1"`, `"version":"v2"`), "not of the same versions"},
		"a line behind the end":   {good + lines[1], "web.imds.jsonl:5: there is a line behind the end"},
		"two files in one":        {good + good, "web.imds.jsonl:5: there is a line behind the end"},
		"a reason that is none":   {edit(`"reason":"time"`, `"reason":"why"`), `"why" is no reason`},
		"an end before the start": {edit(`"end":{"time":"2026-03-02T13`, `"end":{"time":"2025-03-02T13`), "it ends before it begins"},
		"a year that is none":     {edit(`"time":"2026-03-02T12:01`, `"time":"1969-03-02T12:01`), "is no time that anything was seen at"},
		"NUL":                     {edit(`"path":"/a"`, `"path":"/\u0000"`), "is no text"},
		"a text that is too long": {edit(`"path":"/a"`, `"path":"`+strings.Repeat("a", 9000)+`"`), "a text is too long"},
		"a line that is too long": {lines[0] + strings.Repeat(" ", 1<<21), "the line is longer than 1048576 bytes"},
		"a loss that is not told of": {lines[0] + `{"loss":{"time":"2026-03-02T12:01:00Z","events":1,"why":"x"}}` + "\n" + strings.Join(lines[1:], ""),
			"the end says that nothing was lost"},
	}
	for name, test := range tests {
		if _, _, err := readAll([]byte(test[0])); err == nil || !strings.Contains(err.Error(), test[1]) {
			t.Errorf("%s: %v, want %q", name, err, test[1])
		}
	}
	if _, err := tracer.NewWriter(full{}, web()); err == nil {
		t.Error("a full disk is no error")
	}
}

type full struct{}

func (full) Write([]byte) (int, error) { return 0, errors.New("the disk is full") }

// FuzzRead reads any text: an error, or what can be summed up and written again.
func FuzzRead(f *testing.F) {
	f.Add(written(f, web(), tracer.EndTime, call(tracer.V1, 1, "/a", python), tracer.Loss{Time: noon, Why: "x"}))
	f.Add(written(f, web(), "", call(tracer.V1, 1, "/a", python, "a", "b", "c")))
	f.Fuzz(func(t *testing.T, data []byte) {
		h, lines, err := readAll(data)
		if err != nil {
			return
		}
		tally, findings := tracer.NewTally(), &tracer.Findings{}
		part := tally.Part(h)
		for _, l := range lines {
			part.Add(l)
			if l.Call != nil {
				findings.Add(l.Call)
			}
		}
		sum := tally.Summary(time.Time{})
		if ended := len(lines) > 0 && lines[len(lines)-1].End != nil; !ended && sum.Verdict == tracer.VerdictClean || sum.Says() == "" {
			t.Fatalf("%s: %+v", data, sum)
		}
		for found := range findings.All(evidence.Subject{Kind: inventory.KindInstance, ID: "i-1"}) {
			if err := found.Check(); err != nil {
				t.Fatalf("%+v: %v", found, err)
			}
		}
	})
}

// summed sums files up.
func summed(t *testing.T, files ...[]byte) *tracer.Summary {
	t.Helper()
	tally := tracer.NewTally()
	for _, f := range files {
		h, lines, err := readAll(f)
		if err != nil {
			t.Fatal(err)
		}
		one := tracer.NewTally() // as the import does it
		p := one.Part(h)
		for _, l := range lines {
			p.Add(l)
		}
		tally.Merge(one)
	}
	return tally.Summary(time.Time{})
}

// TestVerdicts: clean is said only of a trace that saw all that it was to see, and lost nothing.
func TestVerdicts(t *testing.T) {
	v2 := call(tracer.V2, 1, "/a", python)
	header := func(change func(*tracer.Header)) tracer.Header {
		h := web()
		change(&h)
		return h
	}
	part := func(n int) tracer.Header {
		return header(func(h *tracer.Header) { h.Part, h.Started = n, noon.Add(time.Duration(n)*time.Minute) })
	}
	loss := tracer.Loss{Time: noon, Events: 12, Why: "the buffer was full"}
	tests := []struct {
		name  string
		files [][]byte
		want  tracer.Verdict
		says  string
	}{
		{"nothing at all", [][]byte{written(t, web(), tracer.EndTime)}, tracer.VerdictClean, "Clean: no IMDSv1 call from 2026-03-02 12:00 UTC to 2026-03-02 13:00 UTC (1 h), among 0 calls"},
		{"version 2", [][]byte{written(t, web(), tracer.EndTime, v2)}, tracer.VerdictClean, "among 1 call, and nothing was lost"},
		{"version 1", [][]byte{written(t, web(), tracer.EndTime, v2, call(tracer.V1, 2, "/a", python))}, tracer.VerdictCalls, "1 call by 1 caller"},
		{"packets see as much", [][]byte{written(t, header(func(h *tracer.Header) { h.Tier = tracer.TierPackets }), tracer.EndTime, v2)}, tracer.VerdictClean, "Clean"},
		{"something lost", [][]byte{written(t, web(), tracer.EndTime, v2, loss)}, tracer.VerdictOpen, "12 events were lost: the buffer was full"},
		{"uncounted loss", [][]byte{written(t, web(), tracer.EndTime, tracer.Loss{Time: noon, Why: "x"})}, tracer.VerdictOpen, "events were lost: x"},
		{"a version that is not known", [][]byte{written(t, web(), tracer.EndTime, call(tracer.Unknown, 1, "/a", python))}, tracer.VerdictOpen, "of 1 calls the version is not known"},
		{"no HTTP", [][]byte{written(t, web(), tracer.EndTime, call(tracer.NotHTTP, 1, "", python))}, tracer.VerdictClean, "Clean"},
		{"cut off", [][]byte{written(t, web(), "", v2)}, tracer.VerdictOpen, "part 1 was cut off"},
		{"stopped early", [][]byte{written(t, header(func(h *tracer.Header) { h.Seconds = 86400 }), tracer.EndAsked, v2)}, tracer.VerdictOpen, "it was stopped after 1 h of 24 h"},
		{"stopped, without an end in view", [][]byte{written(t, header(func(h *tracer.Header) { h.Seconds = 0 }), tracer.EndAsked, v2)}, tracer.VerdictClean, "Clean"},
		{"broken off", [][]byte{written(t, web(), tracer.EndFailed, v2)}, tracer.VerdictOpen, "the capture broke off"},
		{"a part of the host", [][]byte{written(t, header(func(h *tracer.Header) { h.Partial = []string{"a private cgroup namespace"} }), tracer.EndTime)},
			tracer.VerdictOpen, "a private cgroup namespace"},
		{"two parts", [][]byte{written(t, part(2), tracer.EndTime), written(t, part(1), tracer.EndNextPart, v2)}, tracer.VerdictClean, "Clean"},
		{"a part missing at the end", [][]byte{written(t, part(1), tracer.EndNextPart, v2)}, tracer.VerdictOpen, "the part behind part 1 is missing"},
		{"a part missing at the beginning", [][]byte{written(t, part(2), tracer.EndTime, v2)}, tracer.VerdictOpen, "the part before part 2 is missing"},
		{"a part missing in between", [][]byte{written(t, part(1), tracer.EndNextPart), written(t, part(3), tracer.EndTime)}, tracer.VerdictOpen, "before part 3"},
		{"one host of two", [][]byte{written(t, web(), tracer.EndTime, v2), written(t, header(func(h *tracer.Header) { h.Trace, h.InstanceID = "T2", "" }), "")},
			tracer.VerdictOpen, "cut off"},
		{"v1 calls and losses", [][]byte{written(t, web(), "", loss, call(tracer.V1, 1, "/a", python))}, tracer.VerdictCalls, "1 call by 1 caller"},
		{"nothing read", nil, tracer.VerdictOpen, "Nothing was watched"},
	}
	for _, test := range tests {
		s := summed(t, test.files...)
		if s.Verdict != test.want || !strings.Contains(s.Says(), test.says) {
			t.Errorf("%s: %s: %s", test.name, s.Verdict, s.Says())
		}
		if s.Verdict == tracer.VerdictOpen && len(test.files) > 0 && len(s.Doubts) == 0 {
			t.Errorf("%s: no doubts", test.name)
		}
	}
	late := summed(t, written(t, header(func(h *tracer.Header) { h.Booted = noon.Add(-72 * time.Hour) }), tracer.EndTime))
	if late.Verdict != tracer.VerdictClean || !strings.Contains(fmt.Sprint(late.Notes), "the host was started 3 days before the trace") {
		t.Errorf("late: %+v", late)
	}
	tally := tracer.NewTally()
	tally.Part(web()).Add(tracer.Line{Call: v2})
	if s := tally.Summary(noon.Add(time.Minute)); s.Verdict != tracer.VerdictClean || !s.To.Equal(noon.Add(time.Minute)) {
		t.Errorf("under way: %+v", s)
	}
}

// TestCallersToFix: calls are put together by program, place and software, those of version 1 first.
func TestCallersToFix(t *testing.T) {
	curl := tracer.Process{PID: 5, Exe: "/usr/bin/curl", Comm: "curl", Parents: []tracer.Parent{{PID: 4, Comm: "backup.sh"}, {PID: 3, Comm: "cron"}}, UID: new(0)}
	other := curl
	other.PID, other.UID, other.Parents = 6, new(33), []tracer.Parent{{PID: 9, Comm: "nightly.sh"}}
	s := summed(t, written(t, web(), tracer.EndTime,
		call(tracer.V2, 1, "/v2", python, "Boto3/1.40.0", "boto3", "1.40.0"),
		call(tracer.V1, 2, "/iam/a", curl, "curl/8", "curl", "8"), call(tracer.V1, 9, "/iam/a", curl, "curl/8", "curl", "8"),
		call(tracer.V2, 30, "/x", curl, "curl/8", "curl", "8"), call(tracer.V1, 3, "/id", curl, "curl/8", "curl", "8"),
		call(tracer.V1, 4, "/id", other, "curl/8", "curl", "8"), call(tracer.Unknown, 5, "/u", tracer.Process{PID: 99})))
	if len(s.Callers) != 4 {
		t.Fatalf("%+v", s.Callers)
	}
	c := s.Callers[0]
	if c.Program != "/usr/bin/curl from backup.sh" || c.V1 != 3 || c.V2 != 1 || !c.First.Equal(noon.Add(2*time.Minute)) || !c.Last.Equal(noon.Add(9*time.Minute)) ||
		!slices.Equal(c.Paths, []tracer.PathCount{{Method: "GET", Path: "/iam/a", Count: 2}, {Method: "GET", Path: "/id", Count: 1}}) || !slices.Equal(c.Users, []int{0}) {
		t.Errorf("%+v", c)
	}
	var order []string
	for _, c := range s.Callers {
		order = append(order, c.Program)
	}
	if want := []string{"/usr/bin/curl from backup.sh", "/usr/bin/curl from nightly.sh", "process 99", "/usr/bin/python3 billing.py"}; !slices.Equal(order, want) {
		t.Errorf("%q", order)
	}
	if s.V1 != 4 || s.V2 != 2 || s.Unknown != 1 || s.Callers[3].Fix() || !s.Callers[2].Fix() {
		t.Errorf("%+v", s)
	}
}

// TestManyCallers: what is too much to tell apart is counted together, and memory stays bounded.
func TestManyCallers(t *testing.T) {
	tally := tracer.NewTally()
	p := tally.Part(web())
	for i := range 10_000 {
		p.Add(tracer.Line{Call: call(tracer.V1, 1, fmt.Sprint("/", i%300), tracer.Process{Exe: fmt.Sprint("/", i)})})
	}
	for i := range 1000 {
		p.Add(tracer.Line{Call: call(tracer.V1, 1, fmt.Sprint("/x", i), tracer.Process{Exe: "/0"})})
	}
	s := tally.Summary(noon)
	if s.V1 != 11_000 || len(s.Callers) > 4100 {
		t.Fatalf("%d callers of %d calls", len(s.Callers), s.V1)
	}
	var n int64
	for _, c := range s.Callers {
		n += c.V1
		if len(c.Paths) > 201 {
			t.Errorf("%s has %d paths", c.Program, len(c.Paths))
		}
	}
	if n != s.V1 {
		t.Errorf("the callers make %d of %d calls", n, s.V1)
	}
}

func TestPrograms(t *testing.T) {
	tests := map[string]tracer.Process{
		"/usr/bin/python3.11 /opt/billing.py": {Exe: "/usr/bin/python3.11 (deleted)", Args: []string{"python3", "-u", "/opt/billing.py", "x"}},
		"/usr/bin/python3 -m billing":         {Exe: "/usr/bin/python3", Args: []string{"python3", "-m", "billing", "x"}},
		"/usr/bin/python3":                    {Exe: "/usr/bin/python3", Args: []string{"python3", "-c", "print(1)"}},
		"/usr/bin/java -jar app.jar":          {Exe: "/usr/bin/java", Args: []string{"java", "-Xmx1g", "-jar", "app.jar"}},
		"/usr/bin/java com.example.Main":      {Exe: "/usr/bin/java", Args: []string{"java", "-cp", "a.jar:b.jar", "com.example.Main"}},
		"/usr/bin/node server.js":             {Exe: "/usr/bin/node", Args: []string{"node", "server.js"}},
		"/usr/bin/curl from backup.sh":        {Exe: "/usr/bin/curl", Parents: []tracer.Parent{{PID: 1, Comm: "backup.sh"}}},
		"/opt/app/billing":                    {Exe: "/opt/app/billing", Args: []string{"billing", "serve"}},
		"short":                               {Comm: "short"},
		"/opt/x (guessed)":                    {Exe: "/opt/x", Guessed: true},
		"process 7":                           {PID: 7},
		"a process that was not seen":         {},
	}
	for want, p := range tests {
		if got := p.Program(); got != want {
			t.Errorf("%+v is %q, want %q", p, got, want)
		}
	}
}

// TestFindings: calls of version 1 become evidence by day and caller.
func TestFindings(t *testing.T) {
	f, more := &tracer.Findings{}, &tracer.Findings{}
	f.Add(call(tracer.V2, 1, "/latest/meta-data/", python))
	f.Add(call(tracer.Unknown, 1, "/latest/meta-data/", python))
	for i, path := range []string{"/latest/meta-data/iam/security-credentials/", "/latest/meta-data/iam/info", "/latest/meta-data/iam/security-credentials/web"} {
		f.Add(call(tracer.V1, i, path, python, "Boto3/1.9.2 Botocore/1.12.2", "boto3", "1.9.2"))
	}
	more.Add(call(tracer.V1, 60*24, "/latest/meta-data/iam/info", python, "Boto3/1.9.2 Botocore/1.12.2", "boto3", "1.9.2"))
	more.Add(call(tracer.V1, 10, "/latest/user-data", python, "Boto3/1.9.2 Botocore/1.12.2", "boto3", "1.9.2"))
	more.Add(call(tracer.V1, 3, "/latest/user-data", tracer.Process{Exe: "/opt/x"}))
	f.Merge(more)
	var got []string
	for finding := range f.All(web().Subject()) {
		if err := finding.Check(); err != nil {
			t.Error(err)
		}
		got = append(got, fmt.Sprintf("%s %s %s %s %d %s: %s", finding.Subject, finding.Source, finding.What, finding.First.Format("02"), finding.Count,
			finding.Product+" "+finding.Version, finding.Detail))
	}
	want := []string{
		"ec2-instance/i-0123456789abcdef0 trace v1-call 02 1  : /opt/x: GET /latest/user-data",
		"ec2-instance/i-0123456789abcdef0 trace v1-call 02 4 boto3 1.9.2: /usr/bin/python3 billing.py (billing.service): boto3 1.9.2, GET /latest/…",
		"ec2-instance/i-0123456789abcdef0 trace v1-call 03 1 boto3 1.9.2: /usr/bin/python3 billing.py (billing.service): boto3 1.9.2, GET /latest/meta-data/iam/info",
	}
	if !slices.Equal(got, want) || f.Len() != 3 {
		t.Errorf("got  %s\nwant %s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	if s := (tracer.Header{}).Subject(); s != (evidence.Subject{}) {
		t.Errorf("of nobody: %v", s)
	}
}
