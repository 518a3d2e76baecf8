package certify_test

import (
	"strings"
	"testing"
	"time"

	"github.com/imdsctl/imdsctl/internal/certify"
	"github.com/imdsctl/imdsctl/internal/imds"
	"github.com/imdsctl/imdsctl/internal/product"
	"github.com/imdsctl/imdsctl/internal/tracer"
)

// began is when the runs of these tests begin.
var began = time.Date(2026, 3, 2, 10, 0, 0, 0, time.UTC)

const (
	tokenPath = "/latest/api/token"
	idPath    = "/latest/meta-data/instance-id"
	rolesPath = "/latest/meta-data/iam/security-credentials/"
	rolePath  = "/latest/meta-data/iam/security-credentials/web"

	botocore    = "Boto3/1.40.1 md/Botocore#1.40.1 ua/2.0 os/linux#6.1 md/arch#x86_64 lang/python#3.12 Botocore/1.40.1"
	botocoreOld = "Boto3/1.9.2 Python/3.7.3 Linux/4.14 Botocore/1.12.2"
	curlAgent   = "curl/8.5.0"
)

// script is a run as it happens: each step is a call some time after the one before.
type script struct {
	run certify.Run
	at  time.Time
	who tracer.Process
	ua  string
}

func scene(hops, limit int) *script {
	return &script{run: certify.Run{HopLimit: limit, Hops: hops, Started: began, Ended: began}, at: began}
}

func process(pid int, exe string, parents ...tracer.Parent) tracer.Process {
	return tracer.Process{PID: pid, Comm: exe[strings.LastIndex(exe, "/")+1:], Exe: exe, Args: []string{exe}, Parents: parents}
}

func (s *script) by(p tracer.Process, ua string) *script { s.who, s.ua = p, ua; return s }

func (s *script) wait(d time.Duration) *script { s.at = s.at.Add(d); return s }

func (s *script) call(c imds.Call) *script {
	s.at = s.at.Add(time.Millisecond)
	c.Time, c.UserAgent = s.at, s.ua
	s.run.Calls = append(s.run.Calls, certify.Call{Call: c, Who: s.who})
	s.run.Ended = s.at.Add(time.Millisecond)
	return s
}

// token is a token request that is answered.
func (s *script) token(id string) *script {
	return s.call(imds.Call{Version: imds.V2, Method: "PUT", Path: tokenPath, Status: 200, TokenID: id, TTL: 21600, HopLimit: s.run.HopLimit})
}

// v2 is a GET with a token, v1 one without.
func (s *script) v2(path, id string) *script {
	return s.call(imds.Call{Version: imds.V2, Method: "GET", Path: path, Status: 200, TokenID: id, Credentials: path == rolePath})
}

func (s *script) v1(path string) *script {
	status, why := 401, "tokens are required"
	if s.run.V1Allowed {
		status, why = 200, ""
	}
	return s.call(imds.Call{Version: imds.V1, Method: "GET", Path: path, Status: status, Why: why, Credentials: s.run.V1Allowed && path == rolePath})
}

func (s *script) allowed() *script { s.run.V1Allowed = true; return s }

// ends ends the run.
func (s *script) ends(e certify.End) certify.Run {
	s.run.End, s.run.Ended = e, s.at.Add(10*time.Millisecond)
	return s.run
}

func (s *script) exit(code int) certify.Run { return s.ends(certify.End{ExitCode: code}) }

var (
	shell  = tracer.Parent{PID: 10, Comm: "sh"}
	python = process(20, "/usr/bin/python3")
	curl   = process(30, "/usr/bin/curl", shell)
	again  = process(31, "/usr/bin/curl", shell)
	piped  = process(33, "/usr/bin/curl", tracer.Parent{PID: 34, Comm: "sh"}, shell)
	other  = process(40, "/usr/bin/curl", tracer.Parent{PID: 11, Comm: "sh"})
)

// nested is curl in a script that another one started.
func nested(pid int, script string, at int) tracer.Process {
	return process(pid, "/usr/bin/curl", tracer.Parent{PID: at, Comm: script}, tracer.Parent{PID: 9, Comm: "all.sh"})
}

// boto is what boto3 does: a token, and then what it wants.
func boto(hops, limit int) *script {
	return scene(hops, limit).by(python, botocore).token("aa").v2(rolesPath, "aa").v2(rolePath, "aa")
}

// fallen is what boto3 does where its token does not arrive.
func fallen(limit int) *script {
	return scene(1, limit).by(python, botocore).token("aa").wait(time.Second).v1(rolesPath)
}

func judge(in certify.Input, runs ...certify.Run) *certify.Report {
	in.Runs = runs
	if in.Command == nil {
		in.Command = []string{"./app"}
	}
	return certify.Judge(in)
}

// TestVerdict is the table of verdicts.
func TestVerdict(t *testing.T) {
	never := scene(0, 1)
	trust := certify.Input{TrustSuccess: true}
	credentials := certify.Input{Success: certify.SuccessCredentials}
	running := certify.Input{Success: certify.SuccessRunning}
	control := func(r certify.Run) certify.Run { r.Control, r.V1Allowed, r.HopLimit = true, true, 64; return r }
	failed401 := imds.Call{Version: imds.V2, Method: "GET", Path: idPath, Status: 401, TokenID: "ff", Why: "the token has expired"}
	forwarded := imds.Call{Version: imds.V2, Method: "PUT", Path: tokenPath, Status: 403, Forwarded: true, Why: "the request was forwarded"}
	for _, c := range []struct {
		name   string
		in     certify.Input
		runs   []certify.Run
		want   certify.Verdict
		limit  int
		reason string // part of it
	}{
		{"all by v2", certify.Input{}, []certify.Run{boto(0, 1).exit(0)}, certify.Passes, 1, "3 calls, all by IMDSv2"},
		{"all by v2, at limit 2", certify.Input{}, []certify.Run{boto(0, 2).exit(0)}, certify.Passes, 1, "all by IMDSv2"},
		{"all by v2, v1 allowed", certify.Input{}, []certify.Run{boto(0, 1).allowed().exit(0)}, certify.Passes, 1, "all by IMDSv2"},
		{"never called", certify.Input{}, []certify.Run{never.exit(0)}, certify.Inconclusive, 0, "never called"},
		{"never called, trusted", trust, []certify.Run{never.exit(0)}, certify.Inconclusive, 0, "never called"},
		{"never called, failed", certify.Input{}, []certify.Run{never.exit(1)}, certify.Inconclusive, 0, "never called"},
		{"never called, still runs", running, []certify.Run{never.ends(certify.End{Stopped: certify.StoppedTimeout})}, certify.Inconclusive, 0, "never called"},

		{"v1 refused, failed", certify.Input{}, []certify.Run{scene(0, 1).by(curl, curlAgent).v1(idPath).exit(22)}, certify.Fails, 0,
			"/usr/bin/curl asked by IMDSv1 for " + idPath + " and was refused"},
		{"v1 refused, ended with 0", certify.Input{}, []certify.Run{scene(0, 1).by(curl, curlAgent).v1(idPath).exit(0)}, certify.Fails, 0,
			"nothing tells whether it did without"},
		{"v1 refused, trusted", trust, []certify.Run{scene(0, 1).by(curl, curlAgent).v1(idPath).exit(0)}, certify.Passes, 1, "succeeded without"},
		{"v1 refused, trusted and failed", trust, []certify.Run{scene(0, 1).by(curl, curlAgent).v1(idPath).exit(1)}, certify.Fails, 0, "was refused"},
		{"v1 first, then v2", certify.Input{}, []certify.Run{scene(0, 1).by(curl, curlAgent).v1(idPath).by(again, curlAgent).token("aa").v2(idPath, "aa").exit(0)},
			certify.Passes, 1, "1 by IMDSv1, which it does without"},
		{"v1, and somebody else by v2", certify.Input{},
			[]certify.Run{scene(0, 1).by(curl, curlAgent).v1(idPath).by(other, curlAgent).token("aa").v2(idPath, "aa").exit(0)}, certify.Fails, 0,
			"was refused"},
		{"v1, and another program of the same script by v2", certify.Input{},
			[]certify.Run{scene(0, 1).by(curl, curlAgent).v1(idPath).by(process(50, "/usr/bin/wget", shell), "Wget/1.21").token("aa").v2(idPath, "aa").exit(0)},
			certify.Fails, 0, "was refused"},
		{"v1, and by v2 in a pipe of the same script", certify.Input{},
			[]certify.Run{scene(0, 1).by(curl, curlAgent).v1(idPath).by(piped, curlAgent).token("aa").v2(idPath, "aa").exit(0)}, certify.Passes, 1, ""},
		{"v1, and by v2 in another script of the same parent", certify.Input{},
			[]certify.Run{scene(0, 1).by(nested(51, "a.sh", 12), curlAgent).v1(idPath).by(nested(52, "b.sh", 13), curlAgent).token("aa").v2(idPath, "aa").exit(0)},
			certify.Fails, 0, "was refused"},
		{"v1 of what is not there, as v2 tells", certify.Input{}, []certify.Run{scene(0, 1).by(curl, curlAgent).v1("/latest/user-data").token("aa").call(
			imds.Call{Version: imds.V2, Method: "GET", Path: "/latest/user-data", Status: 404, TokenID: "aa"}).exit(0)}, certify.Passes, 1, ""},
		{"v1 of a folder, and v2 of what is not in it", certify.Input{}, []certify.Run{scene(0, 1).by(curl, curlAgent).v1("/latest/meta-data/").token("aa").call(
			imds.Call{Version: imds.V2, Method: "GET", Path: "/latest/meta-data/none", Status: 404, TokenID: "aa"}).exit(0)}, certify.Fails, 0, ""},
		{"v1 of another path", certify.Input{},
			[]certify.Run{scene(0, 1).by(curl, curlAgent).v1("/latest/meta-data/ami-id").token("aa").v2(idPath, "aa").exit(0)}, certify.Fails, 0, "ami-id"},
		{"a look whether the service is there", certify.Input{},
			[]certify.Run{scene(0, 1).by(curl, curlAgent).v1("/latest/").token("aa").v2(idPath, "aa").exit(0)}, certify.Passes, 1, "which it does without"},
		{"an old build by v1, the same by v2", certify.Input{},
			[]certify.Run{scene(0, 1).by(curl, curlAgent).v1("/2009-04-04/meta-data/instance-id").token("aa").v2(idPath, "aa").exit(0)}, certify.Passes, 1, ""},
		{"v1 allowed and used", certify.Input{}, []certify.Run{scene(0, 1).allowed().by(curl, curlAgent).v1(idPath).exit(0)}, certify.Fails, 0,
			"IMDSv1 was allowed, and used"},
		{"v1 allowed and used, trusted", trust, []certify.Run{scene(0, 1).allowed().by(curl, curlAgent).v1(idPath).exit(0)}, certify.Fails, 0, "used"},
		{"v1 allowed, used, and v2", certify.Input{}, []certify.Run{scene(0, 1).allowed().by(curl, curlAgent).v1(idPath).token("aa").v2(idPath, "aa").exit(0)},
			certify.Fails, 0, "used"},

		{"behind a hop, limit 1", certify.Input{}, []certify.Run{fallen(1).exit(1)}, certify.Fails, 0, "did not arrive: the hop limit is 1"},
		{"behind a hop, limit 2", certify.Input{}, []certify.Run{boto(1, 2).exit(0)}, certify.PassesWithHops, 2, "all by IMDSv2"},
		{"behind a hop, limit 3", certify.Input{}, []certify.Run{boto(1, 3).exit(0)}, certify.PassesWithHops, 2, "all by IMDSv2"},
		{"behind a hop, 1 then 2", certify.Input{}, []certify.Run{fallen(1).exit(1), boto(1, 2).exit(0)}, certify.PassesWithHops, 2, "all by IMDSv2"},
		{"behind a hop, neither", certify.Input{},
			[]certify.Run{fallen(1).exit(1), scene(1, 2).by(curl, curlAgent).v1(idPath).exit(22)}, certify.Fails, 0, "asked by IMDSv1"},
		{"behind a hop, v1 allowed", certify.Input{}, []certify.Run{scene(1, 1).allowed().by(python, botocore).token("aa").wait(time.Second).v1(rolePath).exit(0)},
			certify.Fails, 0, "asked by IMDSv1"},
		{"behind a hop, ended with 0 and without a token", certify.Input{}, []certify.Run{scene(1, 1).by(python, botocore).token("aa").exit(0)},
			certify.Fails, 0, "did not arrive"},

		{"a token that is none", certify.Input{}, []certify.Run{scene(0, 1).by(curl, curlAgent).call(failed401).exit(1)}, certify.Fails, 0, "the token has expired"},
		{"a token that is none, and then one", certify.Input{},
			[]certify.Run{scene(0, 1).by(curl, curlAgent).call(failed401).token("aa").v2(idPath, "aa").exit(0)}, certify.Passes, 1, ""},
		{"a token that expired, and no other one", certify.Input{},
			[]certify.Run{scene(0, 1).by(curl, curlAgent).token("ff").v2(idPath, "ff").call(failed401).exit(0)}, certify.Fails, 0, "the token has expired"},
		{"an old SDK by v1, and another one of the same process by v2", certify.Input{},
			[]certify.Run{scene(0, 1).by(python, "Boto3/1.9.2 Python/3.7.2 Botocore/1.12.2").v1(rolePath).by(python, botocore).token("aa").v2(rolePath, "aa").exit(0)},
			certify.Fails, 0, "was refused"},
		{"an SDK by v2 that once calls without its name", certify.Input{},
			[]certify.Run{scene(0, 1).by(python, "").v1(rolePath).by(python, botocore).token("aa").v2(rolePath, "aa").exit(0)}, certify.Passes, 1, ""},
		{"a forwarded token request", certify.Input{}, []certify.Run{scene(0, 1).by(curl, curlAgent).call(forwarded).exit(1)}, certify.Fails, 0,
			"refused with 403: the request was forwarded"},
		{"failed, nothing refused", certify.Input{}, []certify.Run{boto(0, 1).exit(255)}, certify.Inconclusive, 0, "the service refused it nothing"},
		{"failed, nothing refused, trusted", trust, []certify.Run{boto(0, 1).exit(255)}, certify.Inconclusive, 0, "the service refused it nothing"},
		{"only a token", certify.Input{}, []certify.Run{scene(0, 1).by(curl, curlAgent).token("aa").exit(0)}, certify.Inconclusive, 0, "got nothing"},

		{"credentials, failed at AWS", credentials, []certify.Run{boto(0, 1).exit(255)}, certify.Passes, 1, "all by IMDSv2"},
		{"credentials, none", credentials, []certify.Run{fallen(1).exit(0)}, certify.Fails, 0, "did not arrive"},
		{"credentials, an id alone", credentials, []certify.Run{scene(0, 1).by(curl, curlAgent).token("aa").v2(idPath, "aa").exit(0)}, certify.Inconclusive, 0,
			"did not succeed"},
		{"still running", running, []certify.Run{boto(0, 1).ends(certify.End{Stopped: certify.StoppedTimeout})}, certify.Passes, 1, "all by IMDSv2"},
		{"still running, without credentials", running, []certify.Run{fallen(1).ends(certify.End{Stopped: certify.StoppedTimeout})}, certify.Fails, 0,
			"did not arrive"},
		{"should be running, and was killed", running, []certify.Run{boto(0, 1).ends(certify.End{ExitCode: 137, Signal: "killed"})}, certify.Inconclusive, 0,
			"ended by signal: killed"},
		{"should be running, and is not", running, []certify.Run{boto(0, 1).exit(0)}, certify.Inconclusive, 0, "ended by itself (exit code 0)"},
		{"its time was over", certify.Input{}, []certify.Run{boto(0, 1).ends(certify.End{Stopped: certify.StoppedTimeout})}, certify.Inconclusive, 0,
			"still running when its time was over"},
		{"interrupted", certify.Input{}, []certify.Run{boto(0, 1).ends(certify.End{Stopped: certify.StoppedInterrupt})}, certify.Inconclusive, 0, "interrupted"},
		{"interrupted, v1 refused", certify.Input{}, []certify.Run{fallen(1).ends(certify.End{Stopped: certify.StoppedInterrupt})}, certify.Inconclusive, 0,
			"interrupted, after 2 calls"},
		{"interrupted, with credentials", credentials, []certify.Run{boto(0, 1).ends(certify.End{Stopped: certify.StoppedInterrupt})}, certify.Inconclusive, 0,
			"interrupted"},
		{"its time was over, v1 refused", certify.Input{}, []certify.Run{fallen(1).ends(certify.End{Stopped: certify.StoppedTimeout})}, certify.Fails, 0,
			"did not arrive"},
		{"killed", certify.Input{}, []certify.Run{fallen(1).ends(certify.End{ExitCode: 137, Signal: "killed"})}, certify.Fails, 0, "did not arrive"},

		{"compared: fails as well", certify.Input{}, []certify.Run{fallen(1).exit(1), control(boto(1, 64).exit(1))}, certify.Inconclusive, 0,
			"does not succeed with IMDSv1 allowed and hop limit 64 either"},
		{"compared: succeeds", certify.Input{}, []certify.Run{fallen(1).exit(1), control(boto(1, 64).exit(0))}, certify.Fails, 0,
			"with IMDSv1 allowed and hop limit 64 it succeeds"},
		{"compared: nothing refused, succeeds", certify.Input{}, []certify.Run{boto(0, 1).exit(3), control(boto(0, 64).exit(0))}, certify.Inconclusive, 0,
			"refused it nothing"},
		{"compared alone", certify.Input{}, []certify.Run{control(boto(0, 64).exit(0))}, certify.Inconclusive, 0, "not run where it would count"},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := judge(c.in, c.runs...)
			if r.Verdict != c.want || r.HopLimit != c.limit || !strings.Contains(r.Reason, c.reason) {
				t.Errorf("%s with %d: %s; want %s with %d: … %s …", r.Verdict, r.HopLimit, r.Reason, c.want, c.limit, c.reason)
			}
			if strings.HasSuffix(r.Reason, ".") || r.Fix != "" && !strings.HasSuffix(r.Fix, ".") {
				t.Errorf("the reason %q is to have no full stop, and the fix %q one", r.Reason, r.Fix)
			}
		})
	}
}

// TestFix holds what is advised to the table of products.
func TestFix(t *testing.T) {
	own, err := product.Default().With([]byte("products:\n  - {id: ours, name: Ours, class: sdk, agents: [ours], "+
		"lines: [{able: \"1.0\", first: \"2.0\"}], fix: Set ours.v2., source: https://example.com/}\n"), "own.yaml")
	if err != nil {
		t.Fatal(err)
	}
	for agent, want := range map[string]string{
		botocoreOld:            "1.13.25 is the first version that asks for tokens by itself. Upgrade botocore to 1.13.25 or later.",
		"Boto/2.49.0":          "No version of boto (the SDK for Python before boto3) asks for tokens. No version of boto asks for tokens, and it is not maintained.",
		curlAgent:              "have it ask for a token first",
		"":                     "Have it ask for a token first",
		"something/1.0":        "Have it ask for a token first",
		botocore:               "falls back to IMDSv1 where it gets none",
		"ours/1.5":             "Ours 1.5 can ask for tokens, and has to be told; 2.0 is the first version that asks for tokens by itself. Set ours.v2.",
		"ours":                 "Set ours.v2.",
		"aws-sdk-go/1.25.37 (": "is the first version that asks for tokens by itself",
	} {
		r := judge(certify.Input{Products: own}, scene(0, 1).by(python, agent).v1(idPath).exit(1))
		if r.Verdict != certify.Fails || !strings.Contains(r.Fix, want) {
			t.Errorf("%q: %s, %q; want … %s …", agent, r.Verdict, r.Fix, want)
		}
	}
}

// TestRemarks holds what is said besides the verdict, by rule and severity.
func TestRemarks(t *testing.T) {
	short := imds.Call{Version: imds.V2, Method: "PUT", Path: tokenPath, Status: 200, TokenID: "aa", TTL: 1, HopLimit: 1}
	odd := imds.Call{Version: imds.V2, Method: "PUT", Path: tokenPath, Status: 400, Why: "the TTL is not from 1 to 21600 seconds"}
	absent := imds.Call{Version: imds.V2, Method: "GET", Path: rolesPath, Status: 404, TokenID: "aa"}
	closed := imds.Call{Version: imds.V2, Method: "PUT", Path: tokenPath, Why: "the IPv6 endpoint is disabled"}
	for name, c := range map[string]struct {
		run  certify.Run
		want string // "rule severity" of all, in order
	}{
		"nothing":            {boto(0, 1).exit(0), ""},
		"two tokens, reused": {boto(0, 1).token("bb").v2(idPath, "bb").exit(0), ""},
		"a token for each request": {scene(0, 1).by(curl, curlAgent).token("aa").v2(idPath, "aa").by(again, curlAgent).token("bb").v2(rolePath, "bb").exit(0),
			"token-per-request warning"},
		"a short life":                 {scene(0, 1).by(curl, curlAgent).call(short).v2(idPath, "aa").exit(0), "token-ttl warning"},
		"an odd life":                  {scene(0, 1).by(curl, curlAgent).call(odd).exit(1), "token-refused problem"},
		"an odd life, then a good one": {scene(0, 1).by(curl, curlAgent).call(odd).token("aa").v2(idPath, "aa").exit(0), "token-refused warning"},
		"a fallback":                   {fallen(1).exit(1), "token-lost problem; v1-refused problem; fallback warning; time-lost warning"},
		"a fallback after an error":    {scene(0, 1).by(curl, curlAgent).call(odd).v1(idPath).exit(1), "token-refused problem; v1-refused problem; fallback warning"},
		"no fallback of another":       {scene(0, 1).by(curl, curlAgent).call(odd).by(other, curlAgent).v1(idPath).exit(1), "token-refused problem; v1-refused problem"},
		"not there":                    {scene(0, 1).by(python, botocore).token("aa").call(absent).exit(1), "missing note"},
		"closed":                       {scene(0, 1).by(python, botocore).call(closed).exit(1), "closed problem"},
		"closed, then another way":     {scene(0, 1).by(python, botocore).call(closed).token("aa").v2(idPath, "aa").exit(0), "closed warning"},
		"nobody":                       {scene(0, 1).by(tracer.Process{}, botocore).token("aa").v2(idPath, "aa").exit(0), "unnamed note"},
		"retries":                      {scene(1, 1).by(python, botocore).token("aa").wait(time.Second).token("bb").wait(time.Second).exit(1), "token-lost problem; time-lost warning"},
	} {
		r := judge(certify.Input{}, c.run)
		var got []string
		for _, remark := range r.Runs[0].Remarks {
			got = append(got, string(remark.Rule)+" "+string(remark.Severity))
			if strings.HasSuffix(remark.Text, ".") {
				t.Errorf("%s: %q ends in a full stop", name, remark.Text)
			}
		}
		if text := strings.Join(got, "; "); text != c.want {
			t.Errorf("%s: %s; want %s", name, text, c.want)
		}
	}
}

// TestTiming measures what lost tokens cost, and that two who wait at once lose the time once.
func TestTiming(t *testing.T) {
	r := judge(certify.Input{}, scene(1, 1).wait(100*time.Millisecond).by(python, botocore).token("aa").wait(time.Second).token("bb").
		wait(2*time.Second).v1(rolePath).exit(1))
	timing := r.Runs[0].Timing
	if timing.First == nil || *timing.First != 101*time.Millisecond || timing.Credentials != nil {
		t.Errorf("first after %v, credentials after %v", timing.First, timing.Credentials)
	}
	if timing.Waited != 3002*time.Millisecond || timing.Retries != 1 {
		t.Errorf("%v lost, %d retries", timing.Waited, timing.Retries)
	}
	both := scene(1, 1).by(python, botocore).token("aa").by(other, curlAgent).token("bb").wait(time.Second).exit(1)
	if got := judge(certify.Input{}, both).Runs[0].Timing.Waited; got != 1011*time.Millisecond {
		t.Errorf("two who wait at once lose %v", got)
	}
	if got := judge(certify.Input{}, boto(0, 1).exit(0)).Runs[0].Timing; got.Waited != 0 || got.Credentials == nil || *got.Credentials != 2*time.Millisecond {
		t.Errorf("a run without loss: %+v", got)
	}
}

// TestPrograms tells programs apart, and keeps together what one process does under two names.
func TestPrograms(t *testing.T) {
	r := judge(certify.Input{}, scene(0, 1).by(python, "python-urllib3/2.0").token("aa").by(python, botocore).v2(rolesPath, "aa").v2(rolePath, "aa").
		by(curl, curlAgent).v1(idPath).by(again, curlAgent).v1(idPath).by(tracer.Process{}, "thing/1").v1(idPath).exit(1))
	var got []string
	for _, p := range r.Runs[0].Programs {
		got = append(got, p.Title)
	}
	want := "AWS SDK for Python (boto3) 1.40.1 in /usr/bin/python3|/usr/bin/curl|thing/1 (a process that could not be told)"
	if text := strings.Join(got, "|"); text != want {
		t.Errorf("%s\nwant %s", text, want)
	}
	if p := r.Runs[0].Programs[1]; p.Processes != 2 || p.V1 != 2 || p.V1Refused != 2 || p.V2 != 0 {
		t.Errorf("curl: %+v", p)
	}
	if p := r.Runs[0].Programs[0]; p.Tokens != 1 || p.With != 2 || !p.Credentials || p.Decides.Product != "botocore" || p.Table.Judgement != product.Speaks {
		t.Errorf("boto3: %+v", p)
	}
}

// TestWaiting: a client waits where its last request was for a token that did not arrive, and no longer once it asked for something else.
func TestWaiting(t *testing.T) {
	at := func(seconds int) time.Time { return time.Date(2026, 11, 1, 12, 0, seconds, 0, time.UTC) }
	call := func(seconds int, method string, limit int) certify.Call {
		c := certify.Call{Call: imds.Call{Time: at(seconds), Method: method, Path: imds.TokenPath, Status: 200, HopLimit: limit}}
		if method == "PUT" {
			c.TokenID = "aa"
		}
		return c
	}
	for name, tc := range map[string]struct {
		calls []certify.Call
		hops  int
		want  bool
	}{
		"no call":            {nil, 1, false},
		"lost":               {[]certify.Call{call(1, "PUT", 1)}, 1, true},
		"arrived":            {[]certify.Call{call(1, "PUT", 2)}, 1, false},
		"nothing in between": {[]certify.Call{call(1, "PUT", 1)}, 0, false},
		"fell back":          {[]certify.Call{call(2, "GET", 0), call(1, "PUT", 1)}, 1, false},
		"lost again":         {[]certify.Call{call(1, "PUT", 1), call(2, "GET", 0), call(3, "PUT", 1)}, 1, true},
	} {
		if since, waiting := certify.Waiting(tc.calls, tc.hops); waiting != tc.want || waiting && since.Before(at(1)) {
			t.Errorf("%s: waits %t, since %s", name, waiting, since)
		}
	}
}

// TestNeverCalled: of a command that never called, what keeps programs from asking is named where it was left, and nothing that we did.
func TestNeverCalled(t *testing.T) {
	quiet := scene(0, 1).exit(0)
	for what, want := range map[string]bool{
		"kept, though programs that have it may not ask the service": true, "removed": false, "hidden": false, "set": false,
	} {
		r := judge(certify.Input{Environment: []certify.Change{{Name: "SOME_VARIABLE", What: what}}}, quiet)
		if strings.Contains(r.Fix, "SOME_VARIABLE") != want {
			t.Errorf("%s: %s", what, r.Fix)
		}
	}
}
