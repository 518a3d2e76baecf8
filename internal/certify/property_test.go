package certify_test

import (
	"fmt"
	"net/http"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/imdsctl/imdsctl/internal/certify"
	"github.com/imdsctl/imdsctl/internal/evidence"
	"github.com/imdsctl/imdsctl/internal/imds"
	"github.com/imdsctl/imdsctl/internal/tracer"
)

// drawCall draws a call that a service could have answered so, at a time of its own.
func drawCall(t *rapid.T, at int, v1Allowed bool, limit int) certify.Call {
	c := certify.Call{Call: imds.Call{
		Time: began.Add(time.Duration(at) * time.Millisecond), UserAgent: rapid.SampledFrom([]string{"", botocore, botocoreOld, curlAgent}).Draw(t, "agent"),
		Path: rapid.SampledFrom([]string{idPath, rolePath, rolesPath, "/", "/latest/", "/latest/user-data"}).Draw(t, "path"),
	}}
	if pid := rapid.IntRange(0, 6).Draw(t, "pid"); pid > 0 {
		c.Who = process(pid, rapid.SampledFrom([]string{"/usr/bin/curl", "/usr/bin/python3"}).Draw(t, "exe"),
			tracer.Parent{PID: rapid.IntRange(100, 102).Draw(t, "parent"), Comm: "sh"})
	}
	token := rapid.SampledFrom([]string{"aa", "bb", "cc"}).Draw(t, "token")
	switch rapid.IntRange(0, 2).Draw(t, "sort") {
	case 0:
		c.Version, c.Method, c.Path, c.HopLimit = imds.V2, "PUT", tokenPath, limit
		if c.Status = rapid.SampledFrom([]int{200, 200, 400, 403, 0}).Draw(t, "status"); c.Status == 200 {
			c.TokenID, c.TTL = token, rapid.SampledFrom([]int{1, 300, 21600}).Draw(t, "ttl")
		}
	case 1:
		c.Version, c.Method, c.TokenID = imds.V2, "GET", token
		c.Status = rapid.SampledFrom([]int{200, 200, 401, 404, 0}).Draw(t, "status")
		c.Credentials = c.Status == 200 && c.Path == rolePath
	default:
		c.Version, c.Method, c.Status = imds.V1, "GET", 401
		if v1Allowed {
			c.Status = rapid.SampledFrom([]int{200, 404}).Draw(t, "status")
			c.Credentials = c.Status == 200 && c.Path == rolePath
		}
	}
	return c
}

func drawRun(t *rapid.T) certify.Run {
	run := certify.Run{
		V1Allowed: rapid.Bool().Draw(t, "v1 allowed"), HopLimit: rapid.IntRange(1, 3).Draw(t, "limit"), Hops: rapid.IntRange(0, 1).Draw(t, "hops"),
		Started: began, Ended: began.Add(time.Second),
	}
	for i := range rapid.IntRange(0, 12).Draw(t, "calls") {
		run.Calls = append(run.Calls, drawCall(t, i+1, run.V1Allowed, run.HopLimit))
	}
	run.End = certify.End{ExitCode: rapid.SampledFrom([]int{0, 0, 1}).Draw(t, "exit")}
	run.End.Stopped = rapid.SampledFrom([]string{"", "", "", certify.StoppedTimeout, certify.StoppedInterrupt}).Draw(t, "stopped")
	return run
}

func drawInput(t *rapid.T) certify.Input {
	return certify.Input{
		Command: []string{"./app"}, Success: rapid.SampledFrom(certify.Successes()).Draw(t, "success"), TrustSuccess: rapid.Bool().Draw(t, "trust"),
	}
}

// TestNeverAPass holds every verdict to what no pass may rest on.
func TestNeverAPass(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		in, run := drawInput(t), drawRun(t)
		r := judge(in, run)
		if !r.Verdict.Passed() {
			return
		}
		v1 := func(c certify.Call) bool { return c.Version == imds.V1 && (c.Status == 200 || c.Status == 404) }
		arrived := func(c certify.Call) bool {
			return c.Method == http.MethodPut && c.Status == 200 && (run.Hops == 0 || c.HopLimit > run.Hops)
		}
		used := func(c certify.Call) bool {
			return c.Method == http.MethodGet && c.Version == imds.V2 && (c.Status == 200 || c.Status == 404)
		}
		switch {
		case len(run.Calls) == 0:
			t.Fatal("passes without a call")
		case slices.ContainsFunc(run.Calls, v1):
			t.Fatal("passes though a call by version 1 was answered")
		case !r.Runs[0].Succeeded:
			t.Fatal("passes though the command did not succeed")
		case !slices.ContainsFunc(run.Calls, used) && !in.TrustSuccess:
			t.Fatal("passes though no token was used")
		case run.Hops == 1 && slices.ContainsFunc(run.Calls, arrived) && r.HopLimit < 2:
			t.Fatalf("passes with hop limit %d though its tokens crossed a hop", r.HopLimit)
		case (r.Verdict == certify.Passes) != (r.HopLimit == 1):
			t.Fatalf("%s with hop limit %d", r.Verdict, r.HopLimit)
		}
	})
}

// TestMoreCalls: calls that are added take a pass away or leave the verdict as it is; a command that failed stays failed, and a caller
// that is sent away keeps what nobody trusts from passing.
func TestMoreCalls(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		in, run := drawInput(t), drawRun(t)
		before := judge(in, run)
		more := run
		more.Calls = slices.Clone(run.Calls)
		for i := range rapid.IntRange(1, 6).Draw(t, "more") {
			more.Calls = append(more.Calls, drawCall(t, 100+i, run.V1Allowed, run.HopLimit))
		}
		after := judge(in, more)
		if in.Success != certify.SuccessCredentials && !before.Runs[0].Succeeded && after.Verdict.Passed() {
			t.Fatal("a command that did not succeed passes by more calls")
		}
		// A refused caller that nobody has heard of before or after.
		sent := run
		stranger := certify.Call{Call: imds.Call{Version: imds.V1, Method: "GET", Path: idPath, Status: 401, Time: began.Add(500 * time.Millisecond)},
			Who: process(900, "/opt/stranger")}
		sent.V1Allowed, sent.Calls = false, append(slices.Clone(run.Calls), stranger)
		in.TrustSuccess = false
		if judge(in, sent).Verdict.Passed() {
			t.Fatal("passes though a caller was sent away and never got what it wanted")
		}
	})
}

// TestOrder: a verdict does not depend on the order in which calls are handed in, and the runs stay as they are.
func TestOrder(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		in, run := drawInput(t), drawRun(t)
		mixed := run
		mixed.Calls = rapid.Permutation(run.Calls).Draw(t, "order")
		given := slices.Clone(mixed.Calls)
		a, b := judge(in, run), judge(in, mixed)
		if a.Verdict != b.Verdict || a.Reason != b.Reason || len(a.Runs[0].Remarks) != len(b.Runs[0].Remarks) {
			t.Fatalf("%s: %s; in another order %s: %s", a.Verdict, a.Reason, b.Verdict, b.Reason)
		}
		for i := range given {
			if fmt.Sprint(given[i]) != fmt.Sprint(mixed.Calls[i]) {
				t.Fatal("judging changed the calls")
			}
		}
	})
}

// TestControl: a run to compare with never makes a pass, and never takes one away.
func TestControl(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		in, run, control := drawInput(t), drawRun(t), drawRun(t)
		control.Control, control.V1Allowed, control.HopLimit = true, true, 64
		alone, compared := judge(in, run), judge(in, run, control)
		if alone.Verdict.Passed() != compared.Verdict.Passed() {
			t.Fatalf("%s alone, %s compared", alone.Verdict, compared.Verdict)
		}
		if compared.Verdict == certify.Fails && alone.Verdict != certify.Fails {
			t.Fatalf("%s alone, %s compared", alone.Verdict, compared.Verdict)
		}
	})
}

// TestFindingsHold: what becomes evidence says what the verdict says, and can be written and read.
func TestFindingsHold(t *testing.T) {
	subject, err := evidence.ParseSubject("group/web")
	if err != nil {
		t.Fatal(err)
	}
	rapid.Check(t, func(t *rapid.T) {
		in, run := drawInput(t), drawRun(t)
		run.Endpoint = run.Hops == 0 && rapid.Bool().Draw(t, "endpoint")
		r := judge(in, run)
		h, findings, ok := r.Findings(subject)
		if ok != (r.Verdict != certify.Inconclusive) || ok && len(findings) == 0 {
			t.Fatalf("%s gives %d findings, %v", r.Verdict, len(findings), ok)
		}
		if h.Sample != run.Endpoint {
			t.Fatal("what a variable shows is a sample, and nothing else is")
		}
		for _, f := range findings {
			f.Subject, f.Source = subject, h.Source
			if err := f.Check(); err != nil {
				t.Fatal(err)
			}
			if (f.What == evidence.WhatCertified) != r.Verdict.Passed() || f.HopLimit != r.HopLimit {
				t.Fatalf("%s with %d becomes %s with %d", r.Verdict, r.HopLimit, f.What, f.HopLimit)
			}
		}
	})
}
