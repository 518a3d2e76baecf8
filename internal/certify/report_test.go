package certify_test

import (
	"bytes"
	"encoding/json"
	"encoding/xml"
	"errors"
	"flag"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"pgregory.net/rapid"

	"github.com/imdsctl/imdsctl/internal/certify"
	"github.com/imdsctl/imdsctl/internal/evidence"
	"github.com/imdsctl/imdsctl/internal/tracer"
)

var update = flag.Bool("update", false, "write the golden files anew")

// golden compares a report with what was approved.
func golden(t *testing.T, name string, got []byte) {
	t.Helper()
	file := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(file, got, 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("%s is\n%s\nwant\n%s\n(write it anew with -update)", name, got, want)
	}
}

// reports are those that the golden files show.
func reports() map[string]*certify.Report {
	app := process(21, "/usr/bin/python3", shell)
	app.Args = []string{"/usr/bin/python3", "/srv/app.py", "--once"}
	mixed := scene(0, 1).by(app, botocore).token("aabbccddeeff0011").v2(rolesPath, "aabbccddeeff0011").v2(rolePath, "aabbccddeeff0011").
		by(curl, curlAgent).v1(idPath).by(again, curlAgent).token("1100ffeeddccbbaa").v2(idPath, "1100ffeeddccbbaa").
		by(process(32, "/usr/bin/curl", shell), curlAgent).token("2200ffeeddccbbaa").v2("/latest/meta-data/ami-id", "2200ffeeddccbbaa").exit(0)
	mixed.Notes = []string{"without root: the command ran in a user namespace"}
	removed := []certify.Change{{Name: "AWS_PROFILE", What: "removed"}, {Name: "AWS_ACCESS_KEY_ID", What: "removed"}, {Name: "/home/a/.aws/config", What: "hidden"}}
	first, second := scene(1, 1).by(app, botocore).token("aabbccddeeff0011").wait(time.Second).token("1100ffeeddccbbaa").wait(time.Second).v1(rolesPath).exit(1),
		scene(1, 2).by(app, botocore).token("aabbccddeeff0011").v2(rolesPath, "aabbccddeeff0011").v2(rolePath, "aabbccddeeff0011").exit(0)
	endpoint := boto(0, 1).exit(0)
	endpoint.Endpoint = true
	hostile := scene(0, 1).by(process(66, "/tmp/\x1b[2Jx", tracer.Parent{PID: 1, Comm: "a\nb"}), "evil\x1b[31m/1\x00").v1("/latest/\x1b]0;x\x07").exit(3)
	old := scene(0, 1).by(app, botocoreOld)
	for range 45 {
		old.v1(rolesPath)
	}
	return map[string]*certify.Report{
		"passes":    judge(certify.Input{Command: []string{"sh", "run.sh"}, Environment: removed}, mixed),
		"hop-limit": judge(certify.Input{Command: []string{"python3", "/srv/app.py", "--once"}, Name: "billing"}, first, second),
		"fails":     judge(certify.Input{Command: []string{"python3", "/srv/app.py", "--once"}}, old.exit(1)),
		"never":     judge(certify.Input{Command: []string{"true"}}, scene(0, 1).exit(0)),
		"endpoint":  judge(certify.Input{Command: []string{"./app"}}, endpoint),
		"hostile":   judge(certify.Input{Command: []string{"./\x1b[2J"}}, hostile),
	}
}

// TestText holds the reports for people to files that were read and approved.
func TestText(t *testing.T) {
	for name, r := range reports() {
		var b bytes.Buffer
		if err := r.Text(&b, certify.TextOptions{}); err != nil {
			t.Fatal(err)
		}
		golden(t, name+".txt", b.Bytes())
		for line := range strings.SplitSeq(b.String(), "\n") {
			if strings.ContainsFunc(line, func(r rune) bool { return r < ' ' }) {
				t.Errorf("%s: a terminal would obey %q", name, line)
			}
			if strings.HasSuffix(line, " ") {
				t.Errorf("%s: %q ends in a blank", name, line)
			}
		}
	}
}

// TestTextWidth: prose keeps to the screen, whatever its width, and paint adds nothing else.
func TestTextWidth(t *testing.T) {
	for name, r := range reports() {
		for _, width := range []int{50, 80, 160} {
			var plain, painted bytes.Buffer
			if err := r.Text(&plain, certify.TextOptions{Width: width, Calls: 1}); err != nil {
				t.Fatal(err)
			}
			if err := r.Text(&painted, certify.TextOptions{Width: width, Calls: 1, Paint: func(tone certify.Tone, s string) string {
				if tone == certify.Plain {
					return s
				}
				return "<" + s + ">"
			}}); err != nil {
				t.Fatal(err)
			}
			if stripped := strings.NewReplacer("<", "", ">", "").Replace(painted.String()); strings.Join(strings.Fields(stripped), " ") !=
				strings.Join(strings.Fields(strings.NewReplacer("<", "", ">", "").Replace(plain.String())), " ") {
				t.Errorf("%s at %d: painted\n%s\nplain\n%s", name, width, stripped, &plain)
			}
			for line := range strings.SplitSeq(plain.String(), "\n") {
				row := strings.HasPrefix(line, "  TIME") || strings.HasPrefix(line, "  +") // a table's
				word := !strings.Contains(strings.TrimSpace(line), " ")                    // longer than the screen by itself
				if utf8.RuneCountInString(line) > width && !row && !word && !strings.Contains(line, "/latest/") && !strings.Contains(line, "AWS_EC2") {
					t.Errorf("%s at %d: %q has %d columns", name, width, line, utf8.RuneCountInString(line))
				}
			}
		}
	}
}

type broken struct{}

func (broken) Write([]byte) (int, error) { return 0, errors.New("no room") }

// TestWriteErrors: what cannot be written is told.
func TestWriteErrors(t *testing.T) {
	r := reports()["passes"]
	if err := r.Text(broken{}, certify.TextOptions{}); err == nil {
		t.Error("a report that could not be written")
	}
	if err := r.JUnit(broken{}, 1); err == nil {
		t.Error("a test report that could not be written")
	}
}

// junit is what a CI system reads.
type junit struct {
	Tests    int `xml:"tests,attr"`
	Failures int `xml:"failures,attr"`
	Errors   int `xml:"errors,attr"`
	Suites   []struct {
		Name  string `xml:"name,attr"`
		Tests int    `xml:"tests,attr"`
		Cases []struct {
			Class   string `xml:"classname,attr"`
			Name    string `xml:"name,attr"`
			Failure *struct {
				Message string `xml:"message,attr"`
				Type    string `xml:"type,attr"`
			} `xml:"failure"`
			Error *struct {
				Message string `xml:"message,attr"`
			} `xml:"error"`
		} `xml:"testcase"`
	} `xml:"testsuite"`
}

// TestJUnit holds the test reports to what CI systems make of them, and one to a golden file.
func TestJUnit(t *testing.T) {
	all := reports()
	for name, want := range map[string]struct{ tests, failures, errors, allowed int }{
		"passes": {3, 0, 0, 1}, "hop-limit": {2, 1, 0, 1}, "fails": {2, 2, 0, 1}, "never": {1, 0, 1, 1}, "endpoint": {2, 0, 0, 1}, "hostile": {2, 2, 0, 1},
	} {
		var b bytes.Buffer
		if err := all[name].JUnit(&b, want.allowed); err != nil {
			t.Fatal(err)
		}
		var got junit
		if err := xml.Unmarshal(b.Bytes(), &got); err != nil {
			t.Fatalf("%s: %v\n%s", name, err, &b)
		}
		failures, mistakes := 0, 0
		for _, c := range got.Suites[0].Cases {
			if c.Failure != nil {
				failures++
				if c.Failure.Message == "" || c.Failure.Type == "" {
					t.Errorf("%s: %s fails without saying why", name, c.Name)
				}
			}
			if c.Error != nil {
				mistakes++
			}
			if c.Class == "" || c.Name == "" {
				t.Errorf("%s: a case without a name: %+v", name, c)
			}
		}
		if got.Tests != want.tests || got.Failures != want.failures || got.Errors != want.errors || len(got.Suites[0].Cases) != want.tests ||
			failures != want.failures || mistakes != want.errors {
			t.Errorf("%s: %d tests, %d failures, %d errors (%d and %d counted); want %+v", name, got.Tests, got.Failures, got.Errors, failures, mistakes, want)
		}
	}
	var b bytes.Buffer
	if err := all["hop-limit"].JUnit(&b, 2); err != nil {
		t.Fatal(err)
	}
	golden(t, "hop-limit.xml", b.Bytes())
	if bytes.Contains(b.Bytes(), []byte("<failure")) {
		t.Error("a pass within the hop limit that is allowed fails")
	}
}

// TestJSON: a report is read back as it was written, and what users look for is where the documentation says.
func TestJSON(t *testing.T) {
	data, err := json.MarshalIndent(reports()["hop-limit"], "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	golden(t, "hop-limit.json", append(data, '\n'))
	var again certify.Report
	if err := json.Unmarshal(data, &again); err != nil {
		t.Fatal(err)
	}
	if again.Verdict != certify.PassesWithHops || again.HopLimit != 2 || again.Decides != 1 || again.Runs[0].Verdict != certify.Fails ||
		again.Runs[0].Calls[0].Who.Args[1] != "/srv/app.py" || again.Runs[1].End != (certify.End{}) {
		t.Errorf("read back: %+v", again)
	}
}

// TestFindings holds what is written as evidence to what the rest of imdsctl reads of it.
func TestFindings(t *testing.T) {
	subject, err := evidence.ParseSubject("group/web")
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{
		"passes":    "imdsctl certify -- sh run.sh: certified boto3 1.40.1 hop 1 (AWS SDK for Python (boto3) 1.40.1 in python3 /srv/app.py); certified curl 8.5.0 hop 1 (/usr/bin/curl)",
		"hop-limit": "imdsctl certify --container billing: certified boto3 1.40.1 hop 2 (AWS SDK for Python (boto3) 1.40.1 in python3 /srv/app.py)",
		"fails": "imdsctl certify -- python3 /srv/app.py --once: not-certified boto3 1.9.2 hop 0 (AWS SDK for Python (boto3) 1.9.2 in python3 /srv/app.py " +
			"asked by IMDSv1 for " + rolesPath + " (45 calls) and was refused)",
		"never":    "",
		"endpoint": "sample imdsctl certify -- ./app: certified boto3 1.40.1 hop 1 (AWS SDK for Python (boto3) 1.40.1 in /usr/bin/python3)",
	} {
		var b bytes.Buffer
		var got []string
		h, findings, ok := reports()[name].Findings(subject)
		if ok {
			if err := evidence.WriteFindings(&b, h, func(yield func(evidence.Finding) bool) {
				for _, f := range findings {
					if !yield(f) {
						return
					}
				}
			}); err != nil {
				t.Fatal(err)
			}
			read, all, err := evidence.ReadFindings(io.Reader(&b), name)
			if err != nil {
				t.Fatal(err)
			}
			for f, err := range all {
				if err != nil {
					t.Fatal(err)
				}
				got = append(got, string(f.What)+" "+f.Product+" "+f.Version+" hop "+string(rune('0'+f.HopLimit))+" ("+f.Detail+")")
			}
			lead := read.Origin + ": "
			if read.Sample {
				lead = "sample " + lead
			}
			got[0] = lead + got[0]
		}
		if text := strings.Join(got, "; "); text != want {
			t.Errorf("%s: %s\nwant %s", name, text, want)
		}
	}
}

// FuzzReports: whatever programs call themselves, reports can be written, and XML stays XML.
func FuzzReports(f *testing.F) {
	f.Add("curl/8.5.0", "/usr/bin/curl", "/latest/meta-data/", "-x")
	f.Add("\x1b[2J", "\xff\xfe", "/\x00", "]]>")
	f.Fuzz(func(t *testing.T, agent, exe, path, arg string) {
		who := tracer.Process{PID: 5, Exe: exe, Comm: exe, Args: []string{exe, arg}, Parents: []tracer.Parent{{PID: 4, Comm: arg}}}
		r := judge(certify.Input{Command: []string{exe, arg}, Name: arg}, scene(0, 1).by(who, agent).v1(path).token("aa").v2(path, "aa").exit(1))
		var text, tests bytes.Buffer
		if err := errors.Join(r.Text(&text, certify.TextOptions{Width: 40}), r.JUnit(&tests, 1)); err != nil {
			t.Fatal(err)
		}
		if strings.ContainsFunc(strings.ReplaceAll(text.String(), "\n", ""), func(r rune) bool { return r < ' ' || r == 0x7f || r == 0x9b }) {
			t.Errorf("a terminal would obey %q", text.String())
		}
		if err := xml.Unmarshal(tests.Bytes(), new(junit)); err != nil {
			t.Errorf("%v\n%s", err, &tests)
		}
		if _, findings, ok := r.Findings(evidence.Subject{Kind: "role", ID: "x"}); ok {
			for _, finding := range findings {
				finding.Subject, finding.Source = evidence.Subject{Kind: "role", ID: "x"}, evidence.SourceCertify
				if err := finding.Check(); err != nil {
					t.Error(err)
				}
			}
		}
	})
}

// keep the generator of random runs from going stale: a report of any run can be written.
func TestAnyRunIsReported(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		r := judge(drawInput(t), drawRun(t), drawRun(t))
		if err := errors.Join(r.Text(io.Discard, certify.TextOptions{}), r.JUnit(io.Discard, 1)); err != nil {
			t.Fatal(err)
		}
	})
}
