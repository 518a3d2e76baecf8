package app_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/imdsctl/imdsctl/internal/app"
	"github.com/imdsctl/imdsctl/internal/assess"
	"github.com/imdsctl/imdsctl/internal/awssim/autoscaling"
	"github.com/imdsctl/imdsctl/internal/awssim/core"
	"github.com/imdsctl/imdsctl/internal/awssim/ec2"
	"github.com/imdsctl/imdsctl/internal/inventory"
	"github.com/imdsctl/imdsctl/internal/plan"
	"github.com/imdsctl/imdsctl/internal/rollout"
)

// configurationFleet is a group of three that launches from a launch configuration.
func configurationFleet() *core.Seed {
	member := `, "tags": {"aws:autoscaling:groupName": "web"}`
	return organization(
		in(shop, ireland, map[string]string{
			"ec2": ec2Section("", instance(id(11), "optional", member), instance(id(12), "optional", member), instance(id(13), "optional", member)),
			"autoscaling": fmt.Sprintf(`{"launch_configurations": [{"name": "old", "image_id": %q, "instance_type": "m5.large",
				"key_name": "ops", "security_groups": ["sg-01234567"], "metadata_options": {"tokens": "optional", "hop_limit": 2}}],
				"groups": [{"name": "web", "launch_configuration": "old", "min": 1, "max": 6, "instances": [%q, %q, %q]}]}`,
				image, id(11), id(12), id(13)),
		}),
		runs(modern(`{"groups": ["web"]}`)),
	)
}

// actionsOf lists the actions of a plan on what is no instance, in order.
func actionsOf(p *plan.Plan) string {
	var out []string
	for _, c := range p.Changes {
		if c.Ref.Kind != inventory.KindInstance && c.Ref.Kind != inventory.KindAccountDefaults {
			out = append(out, c.Action)
		}
	}
	return strings.Join(out, " ")
}

// carriedOut applies a plan, which must get done, and scans again.
func carriedOut(t *testing.T, w *world, p *plan.Plan) *app.ApplyResult {
	t.Helper()
	result, err := w.app.Apply(t.Context(), p, app.ApplyOptions{Yes: true, Reason: "test"})
	if err != nil {
		t.Fatal(err)
	}
	if result.Record.Status != rollout.Done {
		t.Fatalf("rollout %s (%s)\n%s", result.Record.Status, result.Record.Reason, stacksOf(result))
	}
	mustScan(t, w.app)
	return result
}

func TestALaunchConfigurationIsReplacedByATemplate(t *testing.T) {
	t.Parallel()
	w := newWorld(t, configurationFleet(), baseConfig)
	mustScan(t, w.app)
	if got := verdicts(t, w.app, inventory.KindAutoScaling)["web"]; got != assess.Ready {
		t.Fatalf("the group is %s", got)
	}
	p := mustPlan(t, w.app)
	if got := actionsOf(p); got != "create-template set-launch-template launched" {
		t.Fatalf("the plan has %s", got)
	}
	result := carriedOut(t, w, p)
	for _, c := range p.Changes {
		if c.Action != plan.ActionLaunched {
			continue
		}
		if why := result.Record.Changes[c.ID].Reason; !strings.Contains(why, "not proven") {
			t.Errorf("nothing was launched, and the journal says %q", why)
		}
	}
	if got := verdicts(t, w.app, inventory.KindAutoScaling)["web"]; got != assess.Done {
		t.Errorf("the group is %s", got)
	}
	if again := mustPlan(t, w.app); len(again.Changes) > 0 {
		t.Errorf("the second plan has %s", actionsOf(again))
	}
}

// The way back names the launch configuration again, and then removes the template that was made of it.
func TestALaunchConfigurationComesBack(t *testing.T) {
	t.Parallel()
	w := newWorld(t, configurationFleet(), baseConfig)
	mustScan(t, w.app)
	p := mustPlan(t, w.app)
	result := carriedOut(t, w, p)
	if err := w.app.RollbackRollout(t.Context(), p.Digest[:12], nil, "changed our minds"); err != nil {
		t.Fatal(err)
	}
	before := w.CallCount()
	result, err := w.app.ResumeRun(t.Context(), result.Record.ID, app.ApplyOptions{})
	if err != nil || result.Record.Status != rollout.RolledBack || result.Counts.Reverted != p.Header.Summary.Changes {
		t.Fatalf("%v, rollout %s: %+v\n%s", err, result.Record.Status, result.Counts, stacksOf(result))
	}
	var calls []string
	for _, c := range w.CallsSince(before) {
		if c.Mutated && (c.Action == "UpdateAutoScalingGroup" || c.Action == "DeleteLaunchTemplate") {
			calls = append(calls, c.Action)
		}
	}
	if got := strings.Join(calls, " "); got != "UpdateAutoScalingGroup DeleteLaunchTemplate" {
		t.Errorf("the way back was %s", got)
	}
	mustScan(t, w.app)
	if got := actionsOf(mustPlan(t, w.app)); got != actionsOf(p) {
		t.Errorf("after it the plan has %s", got)
	}
}

func TestARefreshReplacesWhatRuns(t *testing.T) {
	t.Parallel()
	w := newWorld(t, webFleet(), baseConfig+"\nrollout: {replacement: {rules: [{match: {name: web}, value: refresh}]}}\n")
	mustScan(t, w.app)
	p := mustPlan(t, w.app)
	if got := actionsOf(p); got != "create-version set-default refresh replaced" {
		t.Fatalf("the plan has %s", got)
	}
	before := w.CallCount()
	carriedOut(t, w, p)
	for _, c := range w.CallsSince(before) {
		if c.Action == "ModifyInstanceMetadataOptions" && c.Code == "" && len(c.Resources) > 0 && c.Resources[0] != id(14) {
			t.Errorf("%v was changed in place", c.Resources)
		}
	}
	done := 0
	for instance, status := range verdicts(t, w.app, inventory.KindInstance) {
		switch {
		case instance == id(11) || instance == id(12) || instance == id(13):
			t.Errorf("%s still runs", instance)
		case status == assess.Done:
			done++
		}
	}
	if done != 4 {
		t.Errorf("%d instances require tokens, not the three new ones and the one without a group", done)
	}
}

// A stack that is left to replace its instances by itself stays open until the last one from before is gone.
func TestNaturalReplacementIsFollowedToItsEnd(t *testing.T) {
	t.Parallel()
	w := newWorld(t, webFleet(), baseConfig+"\nrollout: {replacement: {default: natural}}\n")
	mustScan(t, w.app)
	p := mustPlan(t, w.app)
	if got := actionsOf(p); got != "create-version set-default replaced" {
		t.Fatalf("the plan has %s", got)
	}
	place, err := w.Place(shop, ireland)
	if err != nil {
		t.Fatal(err)
	}
	moved := func() (yes bool) {
		place.With(func(time.Time) {
			n, err := ec2.StoreOf(place).ResolveVersion(template, "$Default")
			yes = err == nil && n == 2
		})
		return yes
	}
	scale := func(desired int) {
		place.With(func(now time.Time) {
			if err := autoscaling.StoreOf(place).SetDesired("web", now, desired); err != nil {
				t.Error(err)
			}
		})
	}
	scaled := make(chan struct{})
	go func() {
		defer close(scaled)
		for !moved() && t.Context().Err() == nil {
			_ = w.clock.Sleep(t.Context(), time.Minute)
		}
		_ = w.clock.Sleep(t.Context(), 10*time.Hour)
		scale(6) // three new ones, and then the three oldest go
		_ = w.clock.Sleep(t.Context(), time.Hour)
		scale(3)
	}()
	began := w.clock.Now()
	result := carriedOut(t, w, p)
	<-scaled
	if took := w.clock.Now().Sub(began); took < 11*time.Hour {
		t.Errorf("the stack was done after %s, before its instances were replaced", took)
	}
	for _, c := range p.Changes {
		if why := result.Record.Changes[c.ID].Reason; c.Action == plan.ActionReplaced && !strings.HasPrefix(why, "3 launched from") {
			t.Errorf("the journal says %q", why)
		}
	}
	for instance, status := range verdicts(t, w.app, inventory.KindInstance) {
		if instance == id(11) || instance == id(12) || instance == id(13) || status != assess.Done && instance != id(15) {
			t.Errorf("%s is %s", instance, status)
		}
	}
}
