package app_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"

	"github.com/imdsctl/imdsctl/internal/app"
	"github.com/imdsctl/imdsctl/internal/engine"
	"github.com/imdsctl/imdsctl/internal/fleet"
	"github.com/imdsctl/imdsctl/internal/rollout"
)

// TestAnExceptionSinceThePlanIsHonoured adds an exception after a plan was approved: apply writes nothing, a dry run says so before, and
// an exception that names nothing of the plan, or has expired, changes nothing.
func TestAnExceptionSinceThePlanIsHonoured(t *testing.T) {
	t.Parallel()
	w := newWorld(t, webFleet(), baseConfig)
	mustScan(t, w.app)
	p := mustPlan(t, w.app)
	with := func(match, expires string) *app.App {
		return w.open(t, baseConfig+"exceptions:\n  - {match: {"+match+"}, owner: ann, reason: vendor, expires: "+expires+"}\n")
	}
	before := w.CallCount()
	late := with("tag: {Name: batch}", "2027-01-01")
	_, err := late.Apply(t.Context(), p, app.ApplyOptions{Yes: true})
	d, ok := errors.AsType[fleet.Diagnostic](err)
	if !ok || !strings.Contains(d.Summary, id(14)) || !strings.Contains(d.Summary, "ann") || !strings.Contains(d.Remedy, "imdsctl plan") {
		t.Fatalf("apply: %v", err)
	}
	if n := w.CallCount() - before; n != 0 {
		t.Errorf("%d calls were made", n)
	}
	dry, err := late.DryRun(t.Context(), p, app.DryRunOptions{})
	if err != nil || len(dry.Notes) != 1 || !strings.Contains(dry.Notes[0].Summary, "apply would refuse it") {
		t.Errorf("dry run: %v, %+v", err, dry.Notes)
	}
	dry, err = with("tag: {Name: batch}", "2026-03-01").DryRun(t.Context(), p, app.DryRunOptions{})
	if err != nil || len(dry.Notes) != 0 {
		t.Errorf("with an expired exception: %v, %+v", err, dry.Notes)
	}
	if result, err := with("resource: "+id(404), "2027-01-01").Apply(t.Context(), p, app.ApplyOptions{Yes: true}); err != nil ||
		result.Record.Status != rollout.Done {
		t.Errorf("with another's exception: %v", err)
	}
}

// TestWhatPeopleDidSinceThePlan changes a fleet by hand between the plan and its apply, and again before it is taken back: what differs
// is left as people made it, each with its reason, and is as they made it in the end.
func TestWhatPeopleDidSinceThePlan(t *testing.T) {
	t.Parallel()
	w := newWorld(t, dryFleet(), baseConfig+"rollout: {max_failures: {stack: 9, wave: 9}}\n")
	mustScan(t, w.app)
	p := mustPlan(t, w.app)
	hops := func(n int, hops int32) {
		w.modify(t, &ec2.ModifyInstanceMetadataOptionsInput{InstanceId: aws.String(id(n)),
			HttpEndpoint: types.InstanceMetadataEndpointStateEnabled, HttpPutResponseHopLimit: aws.Int32(hops)})
	}
	settle := func() {
		if err := w.clock.Sleep(t.Context(), 10*time.Minute); err != nil {
			t.Fatal(err)
		}
	}
	ids := func(n int) []string { return []string{id(n)} }
	hops(21, 5)
	if _, err := w.somebody().TerminateInstances(t.Context(), &ec2.TerminateInstancesInput{InstanceIds: ids(22)}); err != nil {
		t.Fatal(err)
	}
	if _, err := w.somebody().CreateLaunchTemplateVersion(t.Context(), &ec2.CreateLaunchTemplateVersionInput{
		LaunchTemplateId: aws.String(template), SourceVersion: aws.String("1"),
		LaunchTemplateData: &types.RequestLaunchTemplateData{InstanceType: types.InstanceTypeM5Xlarge}}); err != nil {
		t.Fatal(err)
	}
	settle()
	result, err := w.app.Apply(t.Context(), p, app.ApplyOptions{Yes: true})
	if err != nil {
		t.Fatal(err)
	}
	reasons := map[string]string{id(21): "HttpPutResponseHopLimit: 1 → 5", id(22): "no longer exists", template: "LatestVersion: 1 → 2"}
	seen := map[string]bool{}
	for _, c := range p.Changes {
		want, held := reasons[c.Ref.ID]
		state := result.Record.Changes[c.ID]
		if !held {
			continue
		}
		seen[c.Ref.ID] = seen[c.Ref.ID] || state.Phase == engine.ChangeConflict && strings.Contains(state.Reason, want)
		if state.Wrote {
			t.Errorf("%s %s was written", c.Action, c.Ref.ID)
		}
	}
	for of, want := range reasons {
		if !seen[of] {
			t.Errorf("%s is no conflict that says %q\n%s", of, want, stacksOf(result))
		}
	}

	hops(23, 7)
	settle()
	if err := w.app.RollbackRollout(t.Context(), p.Digest[:12], nil, "second thoughts"); err != nil {
		t.Fatal(err)
	}
	if result, err = w.app.ResumeRun(t.Context(), result.Record.ID, app.ApplyOptions{}); err != nil {
		t.Fatal(err)
	}
	if result.Record.Status != rollout.Incomplete {
		t.Errorf("the rollout is %s\n%s", result.Record.Status, stacksOf(result))
	}
	mustScan(t, w.app)
	for n, want := range map[int]fleet.Options{21: {Tokens: "optional", HopLimit: 5}, 23: {Tokens: "required", HopLimit: 7},
		24: {Tokens: "optional", HopLimit: 1}} {
		row := find(t, w.app, id(n))
		if got := row.Resource.Options(); got.Tokens != want.Tokens || got.HopLimit != want.HopLimit {
			t.Errorf("%s has %+v, want %+v", id(n), got, want)
		}
	}
}
