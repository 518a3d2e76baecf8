//go:build linux

// Package certify holds `imdsctl certify` to real clients: SDKs of four languages, old and new, the AWS CLI and curl, at hop limit 1
// and 2, beside the service and behind a router, as root and as anybody. The program runs as users run it.
package certify

import (
	"bytes"
	"context"
	"encoding/json"
	"encoding/xml"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/imdsctl/imdsctl/internal/certify"
	"github.com/imdsctl/imdsctl/internal/imds"
)

// folder is where the program is built, for all tests of a run.
var folder string

func TestMain(m *testing.M) {
	os.Exit(func() int {
		var err error
		if folder, err = os.MkdirTemp("", "imdsctl-certify-"); err == nil {
			err = os.Chmod(folder, 0o755) // other users run the program too
		}
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		defer os.RemoveAll(folder)
		return m.Run()
	}())
}

// binary is the program under test, built once. IMDSCTL names one that is built already.
var binary = sync.OnceValues(func() (string, error) {
	if given := os.Getenv("IMDSCTL"); given != "" {
		return given, nil
	}
	path := filepath.Join(folder, "imdsctl")
	build := exec.Command("go", "build", "-buildvcs=false", "-o", path, "../../cmd/imdsctl")
	if out, err := build.CombinedOutput(); err != nil {
		return "", fmt.Errorf("building imdsctl: %w\n%s", err, out)
	}
	return path, nil
})

// result is a certification as its user sees it.
type result struct {
	certify.Report
	code             int
	out, err, report string
}

// trial is one use of the program.
type trial struct {
	args    []string // flags
	command []string
	env     []string // empty is PATH and a home without anything
	user    uint32   // who runs it, as root; 0 is the user of the test
}

// run runs the program.
func (c trial) run(t *testing.T) result {
	t.Helper()
	r, err := c.do(t.Context(), t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// do runs the program in a folder.
func (c trial) do(ctx context.Context, dir string) (result, error) {
	path, err := binary()
	if err != nil {
		return result{}, err
	}
	for d := dir; c.user != 0 && d != os.TempDir() && d != "/"; d = filepath.Dir(d) {
		if err := os.Chmod(d, 0o777); err != nil {
			return result{}, err
		}
	}
	r := result{report: filepath.Join(dir, "report.json")}
	args := slices.Concat([]string{"certify", "--format", "json", "--report", r.report}, c.args, []string{"--"}, c.command)
	cmd := exec.CommandContext(ctx, path, args...)
	cmd.Env, cmd.Dir = c.env, dir
	if cmd.Env == nil {
		cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + dir}
	}
	if c.user != 0 {
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: c.user, Gid: c.user}}
	}
	var out, said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &said
	err = cmd.Run()
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		r.code, err = exit.ExitCode(), nil
	}
	if err != nil {
		return r, err
	}
	r.out, r.err = out.String(), said.String()
	if r.code != 0 && r.code != 3 {
		return r, nil
	}
	data, err := os.ReadFile(r.report)
	if err == nil {
		err = json.Unmarshal(data, &r.Report)
	}
	if err != nil {
		return r, fmt.Errorf("its report: %w\n%s", err, r.err)
	}
	return r, nil
}

// needLab skips a test where there are no network namespaces, and fails it where IMDSCTL_CI_ROOT=1 says that there must be.
func needLab(t *testing.T) {
	t.Helper()
	r := trial{command: []string{"true"}}.run(t)
	if r.code == 3 {
		return
	}
	if r.code != 1 || os.Getenv("IMDSCTL_CI_ROOT") == "1" {
		t.Fatalf("imdsctl runs no command, exit code %d: %s", r.code, r.err)
	}
	t.Skipf("this machine gives no namespaces: %s", r.err)
}

const (
	service = "http://169.254.169.254/latest/"
	askV1   = "curl -sf -m 5 " + service + "meta-data/"
	askPUT  = "curl -sf -m 2 -X PUT -H 'X-aws-ec2-metadata-token-ttl-seconds: 300' " + service + "api/token"
	askV2   = `curl -sf -m 5 -H "X-aws-ec2-metadata-token: $T" ` + service + "meta-data/"
)

// want is what a certification must say.
type want struct {
	verdict certify.Verdict
	limit   int
	code    int
	rules   string // of the remarks in the run that decides, "rule severity", in order
}

func (w want) check(t *testing.T, r result) {
	t.Helper()
	if r.Verdict != w.verdict || r.HopLimit != w.limit || r.code != w.code {
		t.Errorf("%s with hop limit %d, exit code %d; want %s with %d, %d\n%s", r.Verdict, r.HopLimit, r.code, w.verdict, w.limit, w.code, r.err)
	}
	if len(r.Runs) == 0 {
		return
	}
	var rules []string
	for _, remark := range r.Runs[r.Decides].Remarks {
		if remark.Severity != certify.Note {
			rules = append(rules, string(remark.Rule)+" "+string(remark.Severity))
		}
	}
	if got := strings.Join(rules, "; "); w.rules != "any" && got != w.rules {
		t.Errorf("it remarks %q, want %q\n%s", got, w.rules, r.err)
	}
}

// TestScripts certifies shell scripts that call with curl.
func TestScripts(t *testing.T) {
	needLab(t)
	direct, routed1, routed2 := []string{"--hop-limit", "1"}, []string{"--container", "--hop-limit", "1"}, []string{"--container", "--hop-limit", "2"}
	session := "T=$(" + askPUT + ") && " + askV2 + "instance-id && " + askV2 + "ami-id"
	for _, c := range []struct {
		name, script string
		args         []string
		want         want
	}{
		{"v1", askV1 + "instance-id", direct, want{certify.Fails, 0, 3, "v1-refused problem"}},
		{"v1 behind a hop", askV1 + "instance-id", routed2, want{certify.Fails, 0, 3, "v1-refused problem"}},
		{"v1 that does not look at the status", "curl -s " + service + "meta-data/instance-id", direct, want{certify.Fails, 0, 3, "v1-refused problem"}},
		{"v1 that does without", askV1 + "instance-id || true", append(direct, "--trust-success"), want{certify.Passes, 1, 0, "v1-refused problem"}},
		{"v1 allowed", askV1 + "instance-id", append(direct, "--v1", "allowed"), want{certify.Fails, 0, 3, "v1-answered problem"}},
		{"v2", session, direct, want{certify.Passes, 1, 0, ""}},
		{"v2, v1 allowed", session, append(direct, "--v1", "allowed"), want{certify.Passes, 1, 0, ""}},
		{"v2 behind a hop, limit 1", session, routed1, want{certify.Fails, 0, 3, "token-lost problem; time-lost warning"}},
		{"v2 behind a hop, limit 2", session, routed2, want{certify.PassesWithHops, 2, 0, ""}},
		{"v2 behind a hop, tried", session, []string{"--container"}, want{certify.PassesWithHops, 2, 0, ""}},
		{"v2 behind a hop, without a time limit", strings.ReplaceAll(session, "-m 2 ", ""), []string{"--container"}, want{certify.PassesWithHops, 2, 0, ""}},
		{"v2 behind a hop, tried and not allowed", session, []string{"--container", "--allow-hop-limit", "1"}, want{certify.PassesWithHops, 2, 3, ""}},
		{"v2 over IPv6", strings.NewReplacer("169.254.169.254", "[fd00:ec2::254]", "-sf", "-sfg").Replace(session), append(direct, "--ipv6"),
			want{certify.Passes, 1, 0, ""}},
		{"v1 first, then v2", askV1 + "instance-id || " + session, direct, want{certify.Passes, 1, 0, "v1-refused warning"}},
		{"v2 first, then v1", askPUT + " || " + askV1 + "instance-id", routed1,
			want{certify.Fails, 0, 3, "token-lost problem; v1-refused problem; fallback warning; time-lost warning"}},
		{"a token for each request", "T=$(" + askPUT + ") && " + askV2 + "instance-id && T=$(" + askPUT + ") && " + askV2 + "ami-id", direct,
			want{certify.Passes, 1, 0, "token-per-request warning"}},
		{"a life of one second", "T=$(" + strings.Replace(askPUT, ": 300", ": 1", 1) + ") && " + askV2 + "instance-id", direct,
			want{certify.Passes, 1, 0, "token-ttl warning"}},
		{"a life that is none", strings.Replace(askPUT, ": 300", ": 0", 1), direct, want{certify.Fails, 0, 3, "token-refused problem"}},
		{"through a proxy", askPUT + " -H 'X-Forwarded-For: 10.0.0.1'", direct, want{certify.Fails, 0, 3, "token-refused problem"}},
		{"a token that is none", "T=none; " + askV2 + "instance-id", direct, want{certify.Fails, 0, 3, "token-invalid problem"}},
		{"fails by itself", session + "; exit 9", direct, want{certify.Inconclusive, 0, 3, ""}},
		{"never calls", "exit 0", direct, want{certify.Inconclusive, 0, 3, ""}},
		{"compared, fails as well", askV1 + "instance-id; exit 4", append(direct, "--compare"), want{certify.Inconclusive, 0, 3, "v1-refused problem"}},
		{"compared, succeeds", askV1 + "instance-id", append(direct, "--compare"), want{certify.Fails, 0, 3, "v1-refused problem"}},
		{"a service", session + "; sleep 600", append(direct, "--success", "running", "--timeout", "4s"), want{certify.Passes, 1, 0, ""}},
		{"too long", session + "; sleep 600", append(direct, "--timeout", "4s"), want{certify.Inconclusive, 0, 3, ""}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			c.want.check(t, trial{args: c.args, command: []string{"sh", "-c", c.script}}.run(t))
		})
	}
}

// TestWho: each call is told with the process that made it, and those above it within the command, and no secret.
func TestWho(t *testing.T) {
	needLab(t)
	for _, args := range [][]string{nil, {"--container", "--hop-limit", "2"}, {"--endpoint"}} {
		script := "T=$(" + askPUT + "); " + askV2 + "instance-id"
		if slices.Contains(args, "--endpoint") {
			script = strings.ReplaceAll(script, "http://169.254.169.254", "$AWS_EC2_METADATA_SERVICE_ENDPOINT")
		}
		r := trial{args: args, command: []string{"sh", "-c", script}}.run(t)
		if len(r.Runs) == 0 {
			t.Fatalf("%v: %s", args, r.err)
		}
		calls := r.Runs[0].Calls
		if len(calls) != 2 || calls[0].Version != imds.V2 || calls[0].Method != http.MethodPut || calls[0].TokenID != calls[1].TokenID {
			t.Fatalf("%v: %+v\n%s", args, calls, r.err)
		}
		for _, c := range calls {
			who := c.Who
			if filepath.Base(who.Exe) != "curl" || who.PID == 0 || len(who.Args) < 5 || len(who.Parents) != 1 || who.Parents[0].Comm != "sh" {
				t.Errorf("%v: %s %s was made by %+v", args, c.Method, c.Path, who)
			}
			if c.Product != "curl" || c.ProductVersion == "" {
				t.Errorf("%v: by %s %s", args, c.Product, c.ProductVersion)
			}
		}
		data, err := os.ReadFile(r.report)
		if token := strings.Join(calls[1].Who.Args, " "); err != nil || !strings.Contains(token, "[redacted]") || bytes.Contains(data, []byte("==\"")) {
			t.Errorf("%v: the token is in the report: %s", args, token)
		}
	}
}

// TestApart: the command's output and exit code are its own, and the report stands beside them.
func TestApart(t *testing.T) {
	needLab(t)
	junit, findings := filepath.Join(t.TempDir(), "junit.xml"), filepath.Join(t.TempDir(), "findings.jsonl")
	r := trial{args: []string{"--junit", junit, "--out", findings, "--for", "group/web"},
		command: []string{"sh", "-c", "echo out; echo err >&2; cat; " + askV1 + "instance-id; exit 41"}}.run(t)
	want{certify.Fails, 0, 3, "v1-refused problem"}.check(t, r)
	if r.out != "out\n" || !strings.HasPrefix(r.err, "err\n") || r.Runs[0].End.ExitCode != 41 || !strings.Contains(r.err, "exit code 41") {
		t.Errorf("it wrote %q, and %q; its exit code is told as %+v", r.out, r.err, r.Runs[0].End)
	}
	var tests struct {
		Failures int `xml:"failures,attr"`
	}
	if data, err := os.ReadFile(junit); err != nil || xml.Unmarshal(data, &tests) != nil || tests.Failures != 2 {
		t.Errorf("%v: %s", err, data)
	}
	if data, err := os.ReadFile(findings); err != nil || !bytes.Contains(data, []byte(`"what":"not-certified"`)) {
		t.Errorf("%v: %s", err, data)
	}
	// What is inconclusive is no evidence, and leaves what is there.
	again := trial{args: []string{"--out", findings, "--for", "group/web"}, command: []string{"true"}}.run(t)
	if data, err := os.ReadFile(findings); err != nil || again.code != 3 || !bytes.Contains(data, []byte(`"what":"not-certified"`)) {
		t.Errorf("%v: %s", err, data)
	}
}

// TestEnvironment: what would keep a program from asking is taken away and told, or kept and told.
func TestEnvironment(t *testing.T) {
	needLab(t)
	home := t.TempDir()
	if err := os.MkdirAll(filepath.Join(home, ".aws"), 0o755); err != nil {
		t.Fatal(err)
	}
	credentials := filepath.Join(home, ".aws", "credentials")
	if err := os.WriteFile(credentials, []byte("[default]\naws_access_key_id = AKIAIOSFODNN7EXAMPLE\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	env := []string{"PATH=" + os.Getenv("PATH"), "HOME=" + home, "AWS_ACCESS_KEY_ID=AKIAIOSFODNN7EXAMPLE", "AWS_EC2_METADATA_DISABLED=true",
		"AWS_PROFILE=prod", "http_proxy=http://127.0.0.1:9", "AWS_REGION=eu-west-1"}
	shows := `env | grep -E '^(AWS|http)' | sort; T=$(` + askPUT + `) && ` + askV2 + `instance-id >/dev/null`
	clean := trial{env: env, command: []string{"sh", "-c", shows}}.run(t)
	want{certify.Passes, 1, 0, ""}.check(t, clean)
	if wanted := "AWS_CREDENTIAL_PROFILES_FILE=/dev/null\nAWS_REGION=eu-west-1\nAWS_SHARED_CREDENTIALS_FILE=/dev/null\n"; clean.out != wanted {
		t.Errorf("the command had\n%s\nwant\n%s", clean.out, wanted)
	}
	names := func(r result) (out []string) {
		for _, c := range r.Environment {
			word, _, _ := strings.Cut(strings.ReplaceAll(c.What, ",", ""), " ")
			out = append(out, c.Name+" "+word)
		}
		slices.Sort(out)
		return out
	}
	if got := names(clean); !slices.Equal(got, []string{credentials + " hidden", "AWS_ACCESS_KEY_ID removed", "AWS_EC2_METADATA_DISABLED removed",
		"AWS_PROFILE removed", "http_proxy removed"}) {
		t.Errorf("it tells of %q", got)
	}
	kept := trial{env: env, args: []string{"--env", "keep"}, command: []string{"sh", "-c", "env | grep -cE '^(AWS|http)'"}}.run(t)
	if got := names(kept); kept.out != "5\n" || len(got) != 5 || !strings.HasSuffix(got[1], " kept") || !strings.Contains(kept.Fix, "is set") {
		t.Errorf("kept: %q, %q, %q", kept.out, got, kept.Fix)
	}
}

// TestAnybody certifies as a user without any rights.
func TestAnybody(t *testing.T) {
	needLab(t)
	user := uint32(0)
	if os.Geteuid() == 0 {
		user = 65534
	}
	command := []string{"sh", "-c", "id -u; T=$(" + askPUT + ") && " + askV2 + "instance-id >/dev/null"}
	first := trial{user: user, command: []string{"true"}}.run(t)
	if first.code == 1 && strings.Contains(first.err, "not allowed") {
		if os.Getenv("IMDSCTL_CI_ROOT") == "1" {
			t.Fatalf("users make no namespaces here: %s", first.err)
		}
		t.Skipf("users make no namespaces here: %s", first.err)
	}
	for _, c := range []struct {
		args []string
		want want
	}{
		{nil, want{certify.Passes, 1, 0, ""}},
		{[]string{"--container", "--hop-limit", "1"}, want{certify.Fails, 0, 3, "token-lost problem; time-lost warning"}},
		{[]string{"--container", "--hop-limit", "2"}, want{certify.PassesWithHops, 2, 0, ""}},
	} {
		r := trial{user: user, args: c.args, command: command}.run(t)
		c.want.check(t, r)
		if uid := fmt.Sprintln(max(int(user), os.Geteuid())); r.out != uid {
			t.Errorf("%v: it runs as %q, want %q", c.args, r.out, uid)
		}
		if os.Geteuid() == 0 && !slices.ContainsFunc(r.Runs[0].Notes, func(n string) bool { return strings.Contains(n, "without root") }) {
			t.Errorf("%v: the notes do not say that it ran without root: %q", c.args, r.Runs[0].Notes)
		}
	}
}

// TestState: an instance that has hop limit 2, and no role, is played so.
func TestState(t *testing.T) {
	needLab(t)
	state := filepath.Join(t.TempDir(), "state.yaml")
	if err := os.WriteFile(state, []byte("hop_limit: 2\ntokens: optional\ninstance_id: i-00000000000000abc\ntags: {Name: web-1}\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	script := "T=$(" + askPUT + ") && " + askV2 + "instance-id && " + askV2 + "tags/instance/Name; " + askV2 + "iam/security-credentials/; exit 0"
	r := trial{args: []string{"--state", state, "--container", "--instance-tags"}, command: []string{"sh", "-c", script}}.run(t)
	want{certify.PassesWithHops, 2, 0, ""}.check(t, r)
	if r.out != "i-00000000000000abcweb-1" || len(r.Runs) != 1 || !slices.ContainsFunc(r.Runs[0].Remarks, func(x certify.Remark) bool {
		return x.Rule == certify.RuleMissing && strings.Contains(x.Fix, "--role")
	}) {
		t.Errorf("it wrote %q after %d runs\n%s", r.out, len(r.Runs), r.err)
	}
}

// TestNotStarted: what could not be run is no verdict.
func TestNotStarted(t *testing.T) {
	needLab(t)
	for _, args := range [][]string{nil, {"--endpoint"}} {
		r := trial{args: args, command: []string{"no-such-program"}}.run(t)
		if r.code != 1 || !strings.Contains(r.err, "no-such-program") || len(r.Runs) > 0 {
			t.Errorf("%v: exit code %d: %s", args, r.code, r.err)
		}
	}
}
