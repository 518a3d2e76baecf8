package app_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/imdsctl/imdsctl/internal/app"
	"github.com/imdsctl/imdsctl/internal/assess"
	"github.com/imdsctl/imdsctl/internal/awssim/core"
	"github.com/imdsctl/imdsctl/internal/fleet"
	"github.com/imdsctl/imdsctl/internal/inventory"
	"github.com/imdsctl/imdsctl/internal/plan"
	"github.com/imdsctl/imdsctl/internal/policy"
	"github.com/imdsctl/imdsctl/internal/rollout"
	"github.com/imdsctl/imdsctl/internal/store"
)

// writes counts the calls that changed something, by action and resource.
func (w *world) writes() map[string]int {
	out := map[string]int{}
	for _, c := range w.Calls() {
		if c.Mutated && c.Service != "sts" {
			out[strings.Join([]string{c.Action, string(c.Account), string(c.Region), strings.Join(c.Resources, ",")}, " ")]++
		}
	}
	return out
}

// TestInterruptedApplyGoesOn cancels after some changes, again and again, and goes on with another App each time.
func TestInterruptedApplyGoesOn(t *testing.T) {
	t.Parallel()
	w := newWorld(t, webFleet(), baseConfig)
	mustScan(t, w.app)
	p := mustPlan(t, w.app)
	o := app.ApplyOptions{Yes: true}
	var result *app.ApplyResult
	for run := range 20 {
		ctx, cancel := context.WithCancel(t.Context())
		seen := 0
		o.Progress = func(app.Progress) {
			if seen++; seen == 3+run {
				cancel()
			}
		}
		a := w.open(t, baseConfig)
		var err error
		result, err = a.Apply(ctx, p, o)
		cancel()
		if err == nil {
			break
		}
		if !errors.Is(err, context.Canceled) {
			t.Fatalf("run %d: %v", run, err)
		}
	}
	if result == nil || result.Record.Status != rollout.Done {
		t.Fatalf("the rollout did not get done: %+v", result)
	}
	for write, n := range w.writes() {
		if n > 1 {
			t.Errorf("%s was done %d times", write, n)
		}
	}
}

func TestRollbackOfEverything(t *testing.T) {
	t.Parallel()
	w := newWorld(t, webFleet(), baseConfig)
	mustScan(t, w.app)
	p := mustPlan(t, w.app)
	result, err := w.app.Apply(t.Context(), p, app.ApplyOptions{Yes: true})
	if err != nil || result.Record.Status != rollout.Done {
		t.Fatalf("%+v, %v", result, err)
	}
	if err := w.app.RollbackRollout(t.Context(), p.Digest[:12], nil, "changed our minds"); err != nil {
		t.Fatal(err)
	}
	result, err = w.app.ResumeRun(t.Context(), result.Record.ID, app.ApplyOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if result.Record.Status != rollout.RolledBack || result.Counts.Reverted != len(p.Changes) {
		t.Fatalf("rollout %s: %+v\n%s", result.Record.Status, result.Counts, stacksOf(result))
	}
	mustScan(t, w.app)
	again := mustPlan(t, w.app)
	if len(again.Changes) != len(p.Changes) {
		t.Errorf("after the rollback the plan has %d changes, before it had %d", len(again.Changes), len(p.Changes))
	}
	for i := range again.Changes {
		c := &again.Changes[i]
		at := slices.IndexFunc(p.Changes, func(was plan.Change) bool { return was.ID == c.ID })
		if at < 0 || !p.Changes[at].Before.Equal(c.Before) {
			t.Errorf("%s of %s starts from %v", c.Action, c.Ref, c.Before)
		}
	}
	view, err := w.app.Rollout(t.Context(), p.Digest[:12])
	if err != nil || len(view.Events) == 0 || len(view.Approvals) != 1 || view.Approvals[0].Actor != "tester" {
		t.Errorf("view %+v, %v", view, err)
	}
}

// TestRollbackOfAStackTakesTheDefaultAlong: the account default was written because all stacks of the place were ready; with
// one of them put back, its launches would still require tokens by the default.
func TestRollbackOfAStackTakesTheDefaultAlong(t *testing.T) {
	t.Parallel()
	seed := organization(in(shop, ireland, map[string]string{"ec2": ec2Section("", instance(id(1), "optional", ""),
		instance(id(2), "optional", ""))}), runs(modern(`{"instances": ["`+id(1)+`", "`+id(2)+`"]}`)))
	w := newWorld(t, seed, baseConfig)
	mustScan(t, w.app)
	p := mustPlan(t, w.app)
	result, err := w.app.Apply(t.Context(), p, app.ApplyOptions{Yes: true})
	if err != nil || result.Record.Status != rollout.Done {
		t.Fatalf("%+v, %v", result, err)
	}
	stack := func(resource string, region fleet.Region) string {
		at := slices.IndexFunc(p.Changes, func(c plan.Change) bool {
			return c.Ref.Account == shop && c.Ref.Region == region && (c.Ref.ID == resource || c.Ref.Kind == resource)
		})
		if at < 0 {
			t.Fatalf("no change of %s", resource)
		}
		return p.Changes[at].Stack
	}
	if err := w.app.RollbackRollout(t.Context(), p.Digest[:12], []string{stack(id(1), ireland)}, "it fails"); err != nil {
		t.Fatal(err)
	}
	if result, err = w.app.ResumeRun(t.Context(), result.Record.ID, app.ApplyOptions{}); err != nil {
		t.Fatal(err)
	}
	for s, want := range map[string]rollout.StackPhase{
		stack(id(1), ireland): rollout.StackRolledBack, stack(id(2), ireland): rollout.StackDone,
		stack(inventory.KindAccountDefaults, ireland):  rollout.StackRolledBack,
		stack(inventory.KindAccountDefaults, virginia): rollout.StackDone,
	} {
		if got := result.Record.Stacks[s].Phase; got != want {
			t.Errorf("stack %s is %s, want %s\n%s", s, got, want, stacksOf(result))
		}
	}
}

func TestPausedFromAnotherTerminal(t *testing.T) {
	t.Parallel()
	w := newWorld(t, webFleet(), baseConfig)
	mustScan(t, w.app)
	p := mustPlan(t, w.app)
	other := w.open(t, baseConfig)
	paused, resumed, during := false, false, 0
	result, err := w.app.Apply(t.Context(), p, app.ApplyOptions{Yes: true, Progress: func(pr app.Progress) {
		switch {
		case pr.Phase == app.ChangeVerified && !paused:
			paused = true
			if err := other.PauseRollout(t.Context(), p.Digest, "lunch"); err != nil {
				t.Error(err)
			}
		case pr.Status == rollout.Paused && !resumed:
			resumed, during = true, len(w.writes())
			go func() {
				if err := other.ResumeRollout(context.Background(), p.Digest, "back"); err != nil {
					t.Error(err)
				}
			}()
		}
	}})
	if err != nil || result.Record.Status != rollout.Done {
		t.Fatalf("%+v, %v", result, err)
	}
	if during == 0 || during >= len(w.writes()) {
		t.Errorf("%d writes when it paused, %d in all", during, len(w.writes()))
	}
}

func TestOneApplyAtATime(t *testing.T) {
	t.Parallel()
	w := newWorld(t, webFleet(), baseConfig)
	mustScan(t, w.app)
	p := mustPlan(t, w.app)
	db, err := store.Open(w.db, store.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	release, err := db.LockProcess(t.Context(), "imdsctl apply", start)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.app.Apply(t.Context(), p, app.ApplyOptions{Yes: true}); err == nil {
		t.Error("two applies at a time")
	} else if d, ok := errors.AsType[fleet.Diagnostic](err); !ok || d.Remedy == "" {
		t.Errorf("error %v", err)
	}
	if _, err := w.app.Scan(t.Context(), app.ScanOptions{}); err != nil {
		t.Errorf("a scan beside an apply: %v", err)
	}
	if err := release(); err != nil {
		t.Fatal(err)
	}
	if len(w.writes()) > 0 {
		t.Errorf("writes: %v", w.writes())
	}
}

func TestCriticalityFromTheOrganization(t *testing.T) {
	t.Parallel()
	for name, rule := range map[string]string{
		"by unit":      `{match: {ou: Production/Payments}, value: critical}`,
		"by unit's id": `{match: {ou: OUID}, value: critical}`,
		"by tag":       `{match: {tag: {tier: "1"}}, value: critical}`,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			config := baseConfig + "criticality:\n  default: low\n  rules: [" + rule + "]\n"
			w := newWorld(t, smallFleet(), strings.Replace(config, "OUID", "ou-none-00000000", 1))
			mustScan(t, w.app)
			if strings.Contains(rule, "OUID") {
				status, err := w.app.Status(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				for _, a := range status.Accounts {
					if a.Account.ID == payments {
						config = strings.Replace(config, "OUID", a.Account.OUIDs[len(a.Account.OUIDs)-1], 1)
					}
				}
			}
			a := w.open(t, config)
			status, err := a.Status(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			for _, got := range status.Accounts {
				want := policy.Low
				if got.Account.ID == payments {
					want = policy.Critical
				}
				if got.Criticality != want {
					t.Errorf("account %s is %s, want %s", got.Account.ID, got.Criticality, want)
				}
			}
		})
	}
}

func TestOrganizationTreeDenied(t *testing.T) {
	t.Parallel()
	w := newWorld(t, smallFleet(), baseConfig)
	mustFault(t, w, core.Fault{Service: "organizations", Action: "ListRoots", Deny: true})
	sum := mustScan(t, w.app)
	if sum.Accounts != 3 || len(sum.Notes) != 1 || !strings.Contains(sum.Notes[0].Remedy, "organizations:ListRoots") {
		t.Errorf("%d accounts, notes %v", sum.Accounts, sum.Notes)
	}
	mustFault(t, w, core.Fault{Service: "organizations", Action: "ListAccounts", Deny: true})
	_, err := w.open(t, baseConfig).Scan(t.Context(), app.ScanOptions{})
	if d, ok := errors.AsType[fleet.Diagnostic](err); !ok || !strings.Contains(d.Remedy, "management_role") {
		t.Errorf("error %v", err)
	}
}

// TestExemptAndExpired: an exception that holds keeps a resource out of the plan; one that does not is a warning.
func TestExemptAndExpired(t *testing.T) {
	t.Parallel()
	exceptions := `
exceptions:
  - {match: {resource: ` + id(14) + `}, owner: ann, reason: vendor, expires: 2026-03-02}
  - {match: {resource: ` + id(404) + `}, owner: bob, reason: old, expires: 2026-03-01}
`
	w := newWorld(t, webFleet(), baseConfig+exceptions)
	mustScan(t, w.app)
	result, err := w.app.Plan(t.Context(), app.PlanOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if len(result.Plan.Exempt) != 1 || result.Plan.Exempt[0].Ref.ID != id(14) || result.Plan.Exempt[0].Owner != "ann" {
		t.Errorf("exempt %+v", result.Plan.Exempt)
	}
	for _, c := range result.Plan.Changes {
		if c.Ref.ID == id(14) {
			t.Error("an exempt instance is in the plan")
		}
	}
	if len(result.Diagnostics) != 1 || !strings.Contains(result.Diagnostics[0].Summary, "bob") {
		t.Errorf("diagnostics %v", result.Diagnostics)
	}
}

// TestOwnAccountAlone is what an empty configuration does on a laptop: no organization, no role; and the other protocol.
func TestOwnAccountAlone(t *testing.T) {
	t.Parallel()
	seed := organization(in(management, ireland, map[string]string{"ec2": ec2Section("", instance(id(1), "optional", ""))}),
		runs(modern(`{"instances": ["`+id(1)+`"]}`)))
	w := newWorld(t, seed, "version: 1\nevidence: {require_boot: false}\nbake: {medium: 20m}\n",
		func(o *app.Options) { o.CloudWatchProtocol = "json" })
	if sum := mustScan(t, w.app); sum.Accounts != 1 || len(sum.Gaps) != 0 {
		t.Fatalf("%d accounts, gaps %v", sum.Accounts, sum.Gaps)
	}
	result, err := w.app.Apply(t.Context(), mustPlan(t, w.app), app.ApplyOptions{Yes: true})
	if err != nil || result.Record.Status != rollout.Done {
		t.Fatalf("%+v, %v", result, err)
	}
	mustScan(t, w.app)
	if got := verdicts(t, w.app, inventory.KindInstance)[id(1)]; got != assess.Done {
		t.Errorf("the instance is %s", got)
	}
	if n := w.counts()["sts:AssumeRole"] + w.counts()["organizations:ListRoots"]; n > 0 {
		t.Errorf("%d calls for other accounts", n)
	}
	if _, err := app.New(app.Options{CloudWatchProtocol: "xml"}); err == nil {
		t.Error("an unknown protocol was taken")
	}
}
