package app_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

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
	if result.Record.Status != rollout.RolledBack || result.Counts.Reverted != p.Header.Summary.Changes {
		t.Fatalf("rollout %s: %+v\n%s", result.Record.Status, result.Counts, stacksOf(result))
	}
	mustScan(t, w.app)
	again := mustPlan(t, w.app)
	if len(again.Changes) != len(p.Changes) {
		t.Errorf("after the rollback the plan has %d changes, before it had %d", len(again.Changes), len(p.Changes))
	}
	for i := range again.Changes {
		c := &again.Changes[i]
		if c.Ref.Kind == plan.KindFollowUp {
			continue // named after the plan it is of
		}
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

// delivery is a configuration with two waves, of which the second asks for approval and may start at night only, and with a
// task for a person.
const delivery = baseConfig + `
stack: {tag: app}
waves:
  - {name: pilot, accounts: ["111111111111", "333333333333"]}
  - {name: production, criticality: [low, medium, high, critical], approval: true}
windows:
  - {name: nights, match: {account: "222222222222"}, from: "22:00", to: "04:00", timezone: UTC}
follow_ups:
  - {name: look, match: {account: "222222222222"}, manual: look at it}
`

// deliveryFleet is an instance in payments, besides the account defaults.
func deliveryFleet() *core.Seed {
	return organization(in(payments, ireland, map[string]string{"ec2": ec2Section("", instance(id(1), "optional", ""))}),
		runs(modern(`{"instances": ["`+id(1)+`"]}`)))
}

// TestDelivery goes through a rollout that a person, a window and a task hold up in turn: nothing of the second wave is written
// before each of them allows it, and one who comes from another terminal ends the waiting.
func TestDelivery(t *testing.T) {
	t.Parallel()
	w := newWorld(t, deliveryFleet(), delivery)
	mustScan(t, w.app)
	p := mustPlan(t, w.app)
	other := w.open(t, delivery)
	var holds []string
	var begun time.Time
	task := ""
	result, err := w.app.Apply(t.Context(), p, app.ApplyOptions{Yes: true, Progress: func(pr app.Progress) {
		switch {
		case pr.Event == "hold":
			holds = append(holds, pr.Reason)
			if strings.Contains(pr.Reason, "waits for a person") {
				if n := paymentsWrites(w); n > 0 {
					t.Errorf("%d writes before the approval", n)
				}
				if err := other.ApproveWave(t.Context(), p.Digest, "production", "looks good"); err != nil {
					t.Error(err)
				}
			}
		case pr.Event == string(rollout.StackClear) && begun.IsZero() && placeOf(p, pr.Stack).Account == payments:
			begun = pr.At
		case pr.Phase == app.ChangeVerified && task == "" && strings.Contains(pr.Change, "c-"):
			view, err := other.Standing(t.Context(), p.Digest)
			if err != nil {
				t.Error(err)
				return
			}
			if tasks := app.ManualTasks(view.Plan, view.Record); len(tasks) == 1 {
				done, err := other.CompleteManual(t.Context(), p.Digest, id(1), true, "it runs")
				if err != nil || done.Text() != "look at it" {
					t.Errorf("task %+v, %v", done, err)
				}
				task = done.Change.ID
			}
		}
	}})
	if err != nil || result.Record.Status != rollout.Done {
		t.Fatalf("%+v, %v\n%s", result.Record.Status, err, stacksOf(result))
	}
	if len(holds) != 2 || !strings.Contains(holds[0], `wave "production" waits for a person`) ||
		!strings.Contains(holds[1], `outside the window "nights"; opens 2026-03-02 22:00 UTC`) {
		t.Errorf("holds %q", holds)
	}
	if hour := begun.UTC().Hour(); hour < 22 && hour >= 4 {
		t.Errorf("payments began at %s", begun)
	}
	if done := result.Record.Changes[task]; done.Phase != app.ChangeVerified || done.Reason != "tester: it runs" {
		t.Errorf("the task %q is %+v", task, done)
	}
	if result.Record.Waves["production"] != "tester: looks good" {
		t.Errorf("approved waves %v", result.Record.Waves)
	}
	if _, err := other.CompleteManual(t.Context(), p.Digest, task, true, ""); err == nil {
		t.Error("a task was done twice")
	}
}

func placeOf(p *plan.Plan, stack string) fleet.Place {
	i := slices.IndexFunc(p.Stacks, func(s plan.Stack) bool { return s.ID == stack })
	return p.Stacks[i].Place
}

// paymentsWrites counts the writes in the account payments.
func paymentsWrites(w *world) int {
	n := 0
	for write := range w.writes() {
		if strings.Contains(write, string(payments)) {
			n++
		}
	}
	return n
}

// TestStopAll stops everything from another terminal: no write starts, back or forward, until it is allowed.
func TestStopAll(t *testing.T) {
	t.Parallel()
	w := newWorld(t, webFleet(), baseConfig)
	mustScan(t, w.app)
	p := mustPlan(t, w.app)
	other := w.open(t, baseConfig)
	var stopped, before int
	result, err := w.app.Apply(t.Context(), p, app.ApplyOptions{Yes: true, Progress: func(pr app.Progress) {
		switch {
		case pr.Phase == app.ChangeVerified && stopped == 0:
			stopped = 1
			if err := other.StopAll(t.Context(), "incident 99"); err != nil {
				t.Error(err)
			}
			if who, err := other.Stopped(t.Context()); err != nil || who != "tester: incident 99" {
				t.Errorf("stopped by %q, %v", who, err)
			}
		case pr.Event == "control" && stopped == 1:
			if pr.Reason != "everything is stopped: tester: incident 99" {
				t.Errorf("control says %q", pr.Reason) // what the live view looks for
			}
			stopped = 2
			go func() {
				if err := w.clock.Sleep(context.Background(), 3*time.Hour); err != nil { // what is under way goes to its end
					t.Error(err)
				}
				before = len(w.writes())
				if err := w.clock.Sleep(context.Background(), 24*time.Hour); err != nil {
					t.Error(err)
				}
				if n := len(w.writes()); n != before {
					t.Errorf("%d writes while everything was stopped", n-before)
				}
				if err := other.AllowAll(context.Background(), "it was something else"); err != nil {
					t.Error(err)
				}
			}()
		}
	}})
	if err != nil || result.Record.Status != rollout.Done || stopped != 2 || before >= len(w.writes()) {
		t.Fatalf("%+v, %v; stopped %d, %d writes of %d", result, err, stopped, before, len(w.writes()))
	}
}

// TestPauseAndResumeAll leaves alone what has ended, and what has halted.
func TestPauseAndResumeAll(t *testing.T) {
	t.Parallel()
	w := newWorld(t, webFleet(), baseConfig)
	mustScan(t, w.app)
	p := mustPlan(t, w.app)
	ctx, cancel := context.WithCancel(t.Context())
	if _, err := w.app.Apply(ctx, p, app.ApplyOptions{Yes: true, Progress: func(app.Progress) { cancel() }}); err == nil {
		t.Fatal("it was not interrupted")
	}
	for _, c := range []struct {
		name string
		do   func(context.Context, string) ([]string, error)
		want int
	}{{"pause", w.app.PauseAll, 1}, {"pause again", w.app.PauseAll, 0}, {"resume", w.app.ResumeAll, 1}, {"resume again", w.app.ResumeAll, 0}} {
		if ids, err := c.do(t.Context(), "test"); err != nil || len(ids) != c.want {
			t.Errorf("%s: %v, %v; want %d", c.name, ids, err, c.want)
		}
	}
}

// TestRollbackOfAWave puts one wave back and leaves the other as it is, and the journal holds from end to end.
func TestRollbackOfAWave(t *testing.T) {
	t.Parallel()
	w := newWorld(t, deliveryFleet(), strings.Replace(delivery, "approval: true", "approval: false", 1))
	mustScan(t, w.app)
	p := mustPlan(t, w.app)
	other := w.open(t, delivery)
	o := app.ApplyOptions{Yes: true, Progress: func(pr app.Progress) {
		if pr.Phase == app.ChangeVerified && placeOf(p, pr.Stack).Account == payments {
			_, err := other.CompleteManual(t.Context(), p.Digest, id(1), true, "")
			if d, ok := errors.AsType[fleet.Diagnostic](err); err != nil && (!ok || !strings.Contains(d.Summary, "no task")) {
				t.Error(err)
			}
		}
	}}
	result, err := w.app.Apply(t.Context(), p, o)
	if err != nil || result.Record.Status != rollout.Done {
		t.Fatalf("%+v, %v", result, err)
	}
	if _, err := w.app.FindStacks(t.Context(), p.Digest, nil, []string{"nothing"}); err == nil {
		t.Error("a wave that is not there was found")
	}
	stacks, err := w.app.FindStacks(t.Context(), p.Digest, nil, []string{"production"})
	if err != nil || len(stacks) == 0 {
		t.Fatalf("stacks %v, %v", stacks, err)
	}
	if byID, err := w.app.FindStacks(t.Context(), p.Digest, []string{stacks[0][:6]}, []string{"production"}); err != nil ||
		!slices.Equal(byID, stacks) {
		t.Errorf("with a stack of the wave: %v, %v; want %v", byID, err, stacks)
	}
	if err := w.app.RollbackRollout(t.Context(), p.Digest, stacks, "second thoughts"); err != nil {
		t.Fatal(err)
	}
	if result, err = w.app.ResumeRun(t.Context(), result.Record.ID, app.ApplyOptions{}); err != nil {
		t.Fatal(err)
	}
	for _, s := range p.Stacks {
		want := rollout.StackDone
		if p.Header.Waves[s.Wave].Name == "production" {
			want = rollout.StackRolledBack
		}
		if got := result.Record.Stacks[s.ID].Phase; got != want {
			t.Errorf("stack %s is %s, want %s", s.Name, got, want)
		}
	}
	journalHolds(t, w.app, result.Record.ID)
}

// journalHolds follows the journal in the database and in an export of it, and finds what is altered in the latter.
func journalHolds(t *testing.T, a *app.App, id string) {
	t.Helper()
	followed, broken, err := a.VerifyJournal(t.Context(), id)
	if err != nil || broken != nil || followed.Events == 0 || followed.Chains < 2 {
		t.Fatalf("followed %+v, broken %v, %v", followed, broken, err)
	}
	var exported bytes.Buffer
	if err := a.ExportJournal(t.Context(), &exported, id); err != nil {
		t.Fatal(err)
	}
	n, broken, err := app.VerifyExported(bytes.NewReader(exported.Bytes()), "a file")
	if err != nil || broken != nil || n != followed.Events {
		t.Errorf("%d events, broken %v, %v; want %d", n, broken, err, followed.Events)
	}
	followedByHand(t, exported.Bytes(), fmt.Sprintf("%d events in %d chains", followed.Events, followed.Chains))
	altered := strings.Replace(exported.String(), "second thoughts", "third thoughts", 1)
	if _, broken, err = app.VerifyExported(strings.NewReader(altered), "a file"); err != nil || broken == nil {
		t.Errorf("what was altered is not found: %v", err)
	}
}

// followedByHand runs the program that docs/rollouts.md gives for following the chains without imdsctl, where there is Python.
func followedByHand(t *testing.T, exported []byte, want string) {
	t.Helper()
	python, err := exec.LookPath("python3")
	if err != nil {
		t.Log("the documented program was not run:", err)
		return
	}
	page, err := os.ReadFile("../../docs/rollouts.md")
	if err != nil {
		t.Fatal(err)
	}
	_, program, _ := strings.Cut(string(page), "```python\n")
	program, _, found := strings.Cut(program, "```")
	if !found {
		t.Fatal("docs/rollouts.md has no program")
	}
	file := filepath.Join(t.TempDir(), "journal.jsonl")
	if err := os.WriteFile(file, exported, 0o600); err != nil {
		t.Fatal(err)
	}
	run := func() (string, error) {
		out, err := exec.CommandContext(t.Context(), python, "-c", program, file).CombinedOutput()
		return strings.TrimSpace(string(out)), err
	}
	if got, err := run(); err != nil || got != want {
		t.Errorf("the documented program says %q, %v; want %q", got, err, want)
	}
	if err := os.WriteFile(file, bytes.Replace(exported, []byte("second thoughts"), []byte("third thoughts"), 1), 0o600); err != nil {
		t.Fatal(err)
	}
	if got, err := run(); err == nil || !strings.Contains(got, "does not follow") {
		t.Errorf("of an altered journal the documented program says %q, %v", got, err)
	}
}
