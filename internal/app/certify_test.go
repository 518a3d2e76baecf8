package app_test

import (
	"bytes"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/imdsctl/imdsctl/internal/app"
	"github.com/imdsctl/imdsctl/internal/assess"
	"github.com/imdsctl/imdsctl/internal/certify"
	"github.com/imdsctl/imdsctl/internal/evidence"
	"github.com/imdsctl/imdsctl/internal/imds"
	"github.com/imdsctl/imdsctl/internal/tracer"
)

// certifiedAs is a certification of a program by its calls.
func certifiedAs(at time.Time, code, hops int, calls ...imds.Call) *certify.Report {
	run := certify.Run{HopLimit: hops + 1, Hops: hops, Started: at, Ended: at.Add(time.Second), End: certify.End{ExitCode: code}}
	for i, c := range calls {
		c.Time, c.UserAgent = at.Add(time.Duration(i)*time.Millisecond), "curl/8.5.0"
		run.Calls = append(run.Calls, certify.Call{Call: c, Who: tracer.Process{PID: 7, Exe: "/usr/bin/curl"}})
	}
	return certify.Judge(certify.Input{Command: []string{"./billing", "--once"}, Runs: []certify.Run{run}})
}

// take writes a certification's findings about an instance and takes them in.
func take(t *testing.T, w *world, r *certify.Report, id string) {
	t.Helper()
	subject, err := evidence.ParseSubject(id)
	if err != nil {
		t.Fatal(err)
	}
	h, findings, ok := r.Findings(subject)
	if !ok {
		t.Fatalf("%s is no evidence", r.Verdict)
	}
	var b bytes.Buffer
	if err := evidence.WriteFindings(&b, h, slices.Values(findings)); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "certified.jsonl")
	if err := os.WriteFile(file, b.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := w.app.ImportEvidence(t.Context(), app.ImportOptions{Paths: []string{file}}); err != nil {
		t.Fatal(err)
	}
}

// TestCertificationIsEvidence takes certifications in as users do: one that passes stands for the boot that nobody saw and says which
// hop limit it takes, one that fails blocks, and certifying again takes that back. why shows each.
func TestCertificationIsEvidence(t *testing.T) {
	t.Parallel()
	seed := organization(in(payments, ireland, map[string]string{"ec2": ec2Section("", aged(id(1), 190))}), runs(modern(`{"instances": ["`+id(1)+`"]}`)))
	w := newWorld(t, seed, strings.Replace(baseConfig, "require_boot: false", "require_boot: true", 1))
	mustScan(t, w.app)
	if v := find(t, w.app, id(1)).Verdict; v.Status != assess.Unknown || !v.Has(assess.CodeNoBoot) {
		t.Fatalf("before: %s: %s", v.Status, v.Why())
	}
	token := imds.Call{Version: imds.V2, Method: "PUT", Path: imds.TokenPath, Status: 200, TokenID: "aa", TTL: 300, HopLimit: 2}
	get := imds.Call{Version: imds.V2, Method: "GET", Path: "/latest/meta-data/instance-id", Status: 200, TokenID: "aa"}
	v1 := imds.Call{Version: imds.V1, Method: "GET", Path: "/latest/meta-data/instance-id", Status: 401}
	at := w.clock.Now().Add(-time.Hour)

	take(t, w, certifiedAs(at, 0, 1, token, get), id(1))
	v := find(t, w.app, id(1)).Verdict
	if v.Status != assess.Ready || !v.Has(assess.CodeCertified) || v.Want.HopLimit != 2 ||
		!strings.Contains(v.Why(), "/usr/bin/curl was certified on") || !strings.Contains(v.Why(), "imdsctl certify --container -- ./billing --once") {
		t.Errorf("passed: %s: %s; hop limit %d", v.Status, v.Why(), v.Want.HopLimit)
	}
	take(t, w, certifiedAs(at.Add(time.Minute), 22, 1, v1), id(1))
	why, err := w.app.Why(t.Context(), app.WhyOptions{Instance: id(1), Region: ireland, Account: payments})
	if err != nil {
		t.Fatal(err)
	}
	v = why.Verdict
	if v.Status != assess.Blocked || !v.Has(assess.CodeNotCertified) ||
		!strings.Contains(v.Why(), ": /usr/bin/curl asked by IMDSv1 for /latest/meta-data/instance-id and was refused (imdsctl certify") {
		t.Errorf("failed: %s: %s", v.Status, v.Why())
	}
	if len(v.Findings) != 1 {
		t.Errorf("the one before is not replaced: %+v", v.Findings)
	}
	take(t, w, certifiedAs(at.Add(2*time.Minute), 0, 1, token, get), id(1))
	if v := find(t, w.app, id(1)).Verdict; v.Status != assess.Ready || !v.Has(assess.CodeCertified) {
		t.Errorf("passed again: %s: %s", v.Status, v.Why())
	}
}

// TestCertifyWithoutNamespaces runs real commands that a variable sends to the service: who calls is told, and what ended how.
func TestCertifyWithoutNamespaces(t *testing.T) {
	t.Parallel()
	if _, err := exec.LookPath("curl"); err != nil {
		if os.Getenv("IMDSCTL_CI_ROOT") == "1" {
			t.Fatalf("everything must run, and it calls with curl: %v", err)
		}
		t.Skipf("it calls with curl: %v", err)
	}
	const token = `T=$(curl -sf --noproxy '*' -X PUT -H 'X-aws-ec2-metadata-token-ttl-seconds: 60' $AWS_EC2_METADATA_SERVICE_ENDPOINT/latest/api/token); `
	const with, without = `curl -sf --noproxy '*' -H "X-aws-ec2-metadata-token: $T" $AWS_EC2_METADATA_SERVICE_ENDPOINT/latest/meta-data/`,
		`curl -sf --noproxy '*' $AWS_EC2_METADATA_SERVICE_ENDPOINT/latest/meta-data/`
	for _, c := range []struct {
		name, script string
		want         certify.Verdict
		exit, calls  int
	}{
		{"v2", token + with + "instance-id", certify.Passes, 0, 2},
		{"v1", without + "instance-id", certify.Fails, 22, 1},
		{"credentials", token + with + "iam/security-credentials/web", certify.Passes, 0, 2},
		{"nothing", "exit 5", certify.Inconclusive, 5, 0},
	} {
		var out bytes.Buffer
		r, err := app.Certify(t.Context(), app.CertifyOptions{
			Command: []string{"sh", "-c", c.script}, State: imds.State{Role: "web"}, HopLimits: []int{1}, Endpoint: true, Stdout: &out,
			Environment: append(os.Environ(), "AWS_PROFILE=prod"),
		})
		if err != nil {
			t.Fatal(err)
		}
		run := r.Runs[0]
		if r.Verdict != c.want || run.End.ExitCode != c.exit || len(run.Calls) != c.calls || r.Partial != (c.want == certify.Passes) {
			t.Errorf("%s: %s, %+v, %d calls", c.name, r.Verdict, run.End, len(run.Calls))
		}
		if !slices.Contains(r.Environment, certify.Change{Name: "AWS_PROFILE", What: "removed"}) {
			t.Errorf("%s: of the environment it says %v", c.name, r.Environment)
		}
		for _, call := range run.Calls {
			if call.Who.PID != 0 && (filepath.Base(call.Who.Exe) != "curl" || len(call.Who.Parents) > 1) {
				t.Errorf("%s: called by %+v", c.name, call.Who)
			}
		}
	}
}

// TestCertifyInterrupted: what was seen until then is reported, and is no pass.
func TestCertifyInterrupted(t *testing.T) {
	t.Parallel()
	if runtime.GOOS == "windows" {
		t.Skip("it runs sh")
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	r, err := app.Certify(ctx, app.CertifyOptions{
		Command: []string{"sh", "-c", "echo started; exec sleep 600"}, HopLimits: []int{1, 2}, Compare: true, Endpoint: true, Stdout: first(cancel),
	})
	if err != nil || len(r.Runs) != 1 || r.Runs[0].End.Stopped != certify.StoppedInterrupt || r.Verdict.Passed() {
		t.Fatalf("%v: %+v", err, r)
	}
}

// first calls a function at the first thing that is written.
type first func()

// Write implements io.Writer.
func (f first) Write(b []byte) (int, error) { f(); return len(b), nil }
