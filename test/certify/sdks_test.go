//go:build linux

package certify

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/imdsctl/imdsctl/internal/certify"
	"github.com/imdsctl/imdsctl/internal/product"
	"github.com/imdsctl/imdsctl/test/sdks"
)

// place is where a program is certified, and with which hop limit.
type place struct {
	name  string
	args  []string
	want  func(sdks.Program) want
	waits bool // it waits for tokens that never come
}

// places are direct and behind a hop, with hop limit 1 and 2. Who asks for tokens passes everywhere but behind a hop with limit 1; who
// knows v1 alone passes nowhere.
func places() []place {
	judged := func(verdict certify.Verdict, limit int) func(sdks.Program) want {
		return func(p sdks.Program) want {
			if !p.V2 {
				return want{certify.Fails, 0, 3, "any"}
			}
			if verdict.Passed() {
				return want{verdict, limit, 0, "any"}
			}
			return want{verdict, 0, 3, "any"}
		}
	}
	return []place{
		{"behind a hop, limit 1", []string{"--container", "--hop-limit", "1"}, judged(certify.Fails, 0), true},
		{"direct, limit 1", []string{"--hop-limit", "1"}, judged(certify.Passes, 1), false},
		{"direct, limit 2", []string{"--hop-limit", "2"}, judged(certify.Passes, 1), false},
		{"behind a hop, limit 2", []string{"--container", "--hop-limit", "2"}, judged(certify.PassesWithHops, 2), false},
		{"v1 allowed", []string{"--v1", "allowed"}, func(p sdks.Program) want {
			if !p.V2 {
				return want{certify.Fails, 0, 3, "any"}
			}
			return want{certify.Passes, 1, 0, "any"}
		}, false},
	}
}

// TestSDKs certifies every program of test/sdks in every place, and holds who is blamed, and what is advised, to what the program is.
func TestSDKs(t *testing.T) {
	needLab(t)
	for _, p := range sdks.Programs(t) {
		t.Run(p.Name, func(t *testing.T) {
			t.Parallel()
			// Who waits for lost tokens takes no processor: that goes on beside the rest.
			var all sync.WaitGroup
			for _, at := range places() {
				try := func() {
					r, err := trial{args: at.args, command: p.Argv, env: p.Env}.do(t.Context(), t.TempDir())
					if err != nil {
						t.Errorf("%s: %v", at.name, err)
						return
					}
					at.judge(t, p, r)
				}
				if at.waits {
					all.Go(try)
				} else {
					try()
				}
			}
			all.Wait()
		})
	}
}

// judge holds a certification to the program.
func (at place) judge(t *testing.T, p sdks.Program, r result) {
	w := at.want(p)
	if r.Verdict != w.verdict || r.HopLimit != w.limit || r.code != w.code {
		t.Errorf("%s: %s with hop limit %d, exit code %d; want %s with %d, %d\n%s", at.name, r.Verdict, r.HopLimit, r.code, w.verdict, w.limit, w.code, r.err)
	}
	if len(r.Runs) != 1 {
		t.Errorf("%s: %d runs\n%s", at.name, len(r.Runs), r.err)
		return
	}
	if key := p.Key([]byte(r.out)); (key != "") != (r.Verdict.Passed() || at.name == "v1 allowed") {
		t.Errorf("%s: it printed the key %q, and %s\n%s", at.name, key, r.Verdict, r.err)
	}
	blames(t, p, at, r)
}

// blames holds the remarks to the program: who asks for tokens loses them behind a hop, and who does not is sent away.
func blames(t *testing.T, p sdks.Program, at place, r result) {
	t.Helper()
	has := func(rule certify.Rule) bool {
		return slices.ContainsFunc(r.Runs[0].Remarks, func(x certify.Remark) bool { return x.Rule == rule })
	}
	if lost := p.V2 && at.name == "behind a hop, limit 1"; has(certify.RuleTokenLost) != lost || has(certify.RuleTimeLost) != lost {
		t.Errorf("%s: tokens are told to be lost: %v, want %v\n%s", at.name, !lost, lost, r.err)
	}
	if refused := !p.V2 && at.name != "v1 allowed"; refused && !has(certify.RuleV1Refused) {
		t.Errorf("%s: nobody was sent away\n%s", at.name, r.err)
	}
	if !p.Agent {
		return
	}
	sdk := product.Mention{Product: p.Product, Version: p.Version}
	named := func(x certify.Program) bool {
		x.Decides.Token = ""
		return x.Decides == sdk || x.Product == p.Product && x.Version == p.Version
	}
	if !slices.ContainsFunc(r.Runs[0].Programs, named) {
		t.Errorf("%s %s is not told: %+v", p.Product, p.Version, r.Runs[0].Programs)
	}
	if first := product.Default().Judge(p.Product, p.Version).First; r.Verdict == certify.Fails && !p.V2 && (first == "" || !strings.Contains(r.Fix, first)) {
		t.Errorf("the fix %q does not say that %s is the first good version", r.Fix, first)
	}
}

// TestTried: behind a hop without a limit, 1 is tried first and then 2, once each; what cannot pass with more is not tried again.
func TestTried(t *testing.T) {
	needLab(t)
	for _, p := range sdks.Programs(t) {
		if p.Product != "botocore" {
			continue
		}
		r := trial{args: []string{"--container"}, command: p.Argv, env: p.Env}.run(t)
		runs, verdict, code := 1, certify.Fails, 3
		if p.V2 {
			runs, verdict, code = 2, certify.PassesWithHops, 0
		}
		if len(r.Runs) != runs || r.Verdict != verdict || r.code != code || strings.Contains(r.err, "runs the command again") != p.V2 {
			t.Errorf("%s: %s after %d runs, exit code %d\n%s", p.Name, r.Verdict, len(r.Runs), r.code, r.err)
		}
	}
}

// TestEndpoint: without namespaces the SDKs that read the variable are certified in part, and their evidence is marked so. Only the
// newest of two are run: whoever does not read it would look for the real address.
func TestEndpoint(t *testing.T) {
	newest := map[product.ID]sdks.Program{}
	for _, p := range sdks.Programs(t) { // the oldest first
		newest[p.Product] = p
	}
	for _, id := range []product.ID{"botocore", "aws-sdk-go-v2"} {
		p := newest[id]
		findings := filepath.Join(t.TempDir(), "findings.jsonl")
		r := trial{args: []string{"--endpoint", "--out", findings, "--for", "group/web"}, command: p.Argv, env: p.Env}.run(t)
		if r.Verdict != certify.Passes || r.code != 0 || !r.Partial || !strings.Contains(r.err, "AS FAR AS A VARIABLE SHOWS") || p.Key([]byte(r.out)) == "" {
			t.Errorf("%s: %s, partial %v, exit code %d\n%s", p.Name, r.Verdict, r.Partial, r.code, r.err)
		}
		if data, err := os.ReadFile(findings); err != nil || !strings.Contains(string(data), `"sample":true`) {
			t.Errorf("%s: its findings are no sample: %v\n%s", p.Name, err, data)
		}
	}
}
