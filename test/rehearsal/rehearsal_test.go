// Package rehearsal holds a rehearsal against the run that it predicts: the same plan, carried out by the same engine, once in
// the copy that `imdsctl rehearse` makes from a scan, and once in the simulated organization that was scanned. Both are in
// simulated time, which leaps, so that how fast the machine is has no part in the comparison.
package rehearsal

import (
	"bytes"
	"context"
	"encoding/json"
	"maps"
	"math"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"

	"github.com/imdsctl/imdsctl/internal/app"
	"github.com/imdsctl/imdsctl/internal/awssim"
	"github.com/imdsctl/imdsctl/internal/awssim/core"
	"github.com/imdsctl/imdsctl/internal/awssim/scenario"
	"github.com/imdsctl/imdsctl/internal/clock"
	"github.com/imdsctl/imdsctl/internal/plan"
	"github.com/imdsctl/imdsctl/internal/policy"
	"github.com/imdsctl/imdsctl/internal/rollout"
)

var start = time.Date(2026, 3, 2, 9, 0, 0, 0, time.UTC)

// world is a simulated organization, and the imdsctl that looks at it.
type world struct {
	*awssim.World
	summary scenario.Summary
	app     *app.App
}

// exempt leaves the one service out that nobody could see coming, neither a scan nor a rehearsal.
const exempt = "exceptions: [{match: {tag: {app: \"report-archiver*\"}}, owner: ann, reason: test, expires: 2027-01-01}]\n"

// newWorld makes the organization.
func newWorld(t *testing.T, config string) *world {
	t.Helper()
	c := clock.NewLeaping(t.Context(), start, 0)
	w := &world{World: awssim.New(awssim.Options{Clock: c, Seed: 3})}
	var err error
	w.summary, err = scenario.Organization(w.World, scenario.Options{Seed: 3, Accounts: 12, Instances: 120})
	if err != nil {
		t.Fatal(err)
	}
	for _, account := range w.summary.Accounts {
		for _, name := range []string{policy.DefaultReadRole, policy.DefaultWriteRole} {
			if err := w.PutRole(account, name, core.TrustAccount(w.summary.Management, ""), core.AllowActions("*")); err != nil {
				t.Fatal(err)
			}
		}
	}
	regions, err := json.Marshal(w.summary.Regions)
	if err != nil {
		t.Fatal(err)
	}
	text := "version: 1\norganization: {discover: organizations, regions: " + string(regions) + "}\n" + exempt + config
	cfg, problems := policy.Parse([]byte(text), "imdsctl.yaml", app.KindNames())
	if cfg == nil {
		t.Fatalf("configuration: %v\n%s", problems, text)
	}
	creds := aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) {
		return aws.Credentials{AccessKeyID: string(w.summary.Management), SecretAccessKey: "secret"}, nil
	})
	w.app, err = app.New(app.Options{Config: cfg, DBPath: filepath.Join(t.TempDir(), "imdsctl.db"), Clock: c, Version: "test", Actor: "tester",
		Engine: app.EngineOptions{PollInterval: time.Minute},
		AWS: func(context.Context) (aws.Config, error) {
			return aws.Config{Region: string(w.summary.Regions[0]), Credentials: creds, HTTPClient: w.Client(),
				BaseEndpoint: aws.String(awssim.BaseURL)}, nil
		}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := w.app.Close(); err != nil {
			t.Error(err)
		}
	})
	return w
}

// planned scans and plans.
func (w *world) planned(t *testing.T) *plan.Plan {
	t.Helper()
	sum, err := w.app.Scan(t.Context(), app.ScanOptions{})
	if err != nil || len(sum.Gaps) > 0 {
		t.Fatalf("scan: %v, gaps %v", err, sum.Gaps)
	}
	made, err := w.app.Plan(t.Context(), app.PlanOptions{})
	if err != nil {
		t.Fatal(err)
	}
	var file bytes.Buffer
	if err := w.app.WritePlan(t.Context(), &file, "plan.json", made.Plan); err != nil {
		t.Fatal(err)
	}
	p, err := plan.Read(&file, "plan.json")
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// within tells whether two numbers are no further apart than the share.
func within(a, b, share float64) bool {
	return math.Abs(a-b) <= share*math.Max(math.Abs(a), math.Abs(b))
}

// paces wait in different ways: for bakes, for the limits of the API, and for windows.
func paces() map[string]string {
	return map[string]string{
		"bakes": "",
		"limits": "bake: {low: 0s, medium: 0s, high: 0s, critical: 0s}\ngates: {heartbeat: none, delay: 0s, interval: 1m}\n" +
			"limits: {actions: {\"ec2:ModifyInstanceMetadataOptions\": {burst: 1, refill: 0.05}}}\n",
		"windows": "windows: [{name: nights, from: \"22:00\", to: \"08:00\", timezone: Europe/Berlin}]\n",
	}
}

// A rehearsal says how long the rollout takes and how it ends, and so, roughly, does the plan's own estimate.
func TestARehearsalPredictsTheRun(t *testing.T) {
	for name, config := range paces() {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, config)
			p := w.planned(t)
			before := w.CallCount()
			said, err := w.app.Rehearse(t.Context(), p, app.RehearseOptions{})
			if err != nil {
				t.Fatal(err)
			}
			if n := w.CallCount() - before; n != 0 {
				t.Fatalf("the rehearsal made %d calls in the organization itself", n)
			}
			got, err := w.app.Apply(t.Context(), p, app.ApplyOptions{Yes: true, Reason: "test", RollbackFile: filepath.Join(t.TempDir(), "undo.sh")})
			if err != nil {
				t.Fatal(err)
			}
			took := got.Record.Updated.Sub(got.Record.Created)
			t.Logf("%d changes in %d stacks: estimated %s, rehearsed %s, took %s", len(p.Changes), len(p.Stacks),
				p.Header.Estimate.Duration(), said.Duration(), took)
			if !within(said.Duration().Seconds(), took.Seconds(), 0.1) {
				t.Errorf("the rehearsal says %s, and it took %s", said.Duration(), took)
			}
			if e := p.Header.Estimate.Duration(); !within(e.Seconds(), took.Seconds(), 0.25) {
				t.Errorf("the plan estimates %s, and it took %s", e, took)
			}
			if said.Status != got.Record.Status {
				t.Errorf("rehearsed: %s (%s), run: %s (%s)", said.Status, said.Reason, got.Record.Status, got.Record.Reason)
			}
			ends := map[rollout.StackPhase]int{}
			for _, s := range got.Record.Stacks {
				ends[s.Phase]++
			}
			if !maps.Equal(said.Stacks, ends) {
				t.Errorf("stacks, rehearsed: %v, run: %v", said.Stacks, ends)
			}
			w.compareCalls(t, said, before)
		})
	}
}

// compareCalls holds the calls that the rehearsal counted against those of the run.
func (w *world) compareCalls(t *testing.T, said *app.Rehearsal, before int64) {
	t.Helper()
	made := map[string]int64{}
	for _, c := range w.CallsSince(before) {
		made[c.Service+":"+c.Action]++
	}
	for _, action := range slices.Sorted(maps.Keys(made)) {
		if strings.HasPrefix(action, "sts:") || strings.HasPrefix(action, "elasticloadbalancing:") || made[action] < 20 {
			continue // sessions and target groups are remembered for a while; and of few calls a few more are many
		}
		if n := said.Calls[action].Calls; !within(float64(n), float64(made[action]), 0.25) {
			t.Errorf("%s: rehearsed %d, made %d", action, n, made[action])
		}
	}
}

// What calls IMDSv1 and is changed all the same, because a person said so, breaks in the rehearsal as it would in earnest.
func TestARehearsalShowsWhatBreaks(t *testing.T) {
	w := newWorld(t, "overrides: [{match: {kind: [ec2-instance, auto-scaling-group]}, owner: ann, reason: it will be fine}]\n")
	p := w.planned(t)
	overridden := map[string]bool{}
	for i := range p.Changes {
		if p.Changes[i].Override != "" {
			overridden[p.Changes[i].Ref.ID] = true
		}
	}
	said, err := w.app.Rehearse(t.Context(), p, app.RehearseOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if said.Callers == 0 || len(overridden) == 0 || len(said.Broken) == 0 {
		t.Fatalf("%d callers, %d changes overridden: nothing broke", said.Callers, len(overridden))
	}
	for _, b := range said.Broken {
		if !overridden[b.Instance] || b.Why == "" {
			t.Errorf("%s is broken (%s), and nobody said that it may be", b.Instance, b.Why)
		}
	}
}
