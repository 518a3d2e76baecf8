package app_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"

	"github.com/imdsctl/imdsctl/internal/app"
	"github.com/imdsctl/imdsctl/internal/awssim"
	"github.com/imdsctl/imdsctl/internal/awssim/core"
	simec2 "github.com/imdsctl/imdsctl/internal/awssim/ec2"
	"github.com/imdsctl/imdsctl/internal/fleet"
	"github.com/imdsctl/imdsctl/internal/inventory"
	"github.com/imdsctl/imdsctl/internal/plan"
	"github.com/imdsctl/imdsctl/internal/rollout"
)

// bare are the instances of dryFleet without a group.
var bare = []int{21, 22, 23, 24, 25, 26}

// dryFleet is a group pinned to version 1 of its template, and six instances by themselves.
func dryFleet() *core.Seed {
	instances := []string{instance(id(11), "optional", inWeb), instance(id(12), "optional", inWeb)}
	var ids []string
	for _, n := range bare {
		instances = append(instances, instance(id(n), "optional", fmt.Sprintf(`, "tags": {"Name": "bare-%d"}`, n)))
		ids = append(ids, fmt.Sprintf("%q", id(n)))
	}
	seed := organization(
		in(shop, ireland, map[string]string{
			"ec2": ec2Section(fmt.Sprintf(`{"id": %q, "name": "web", "versions": [{"data": {"ImageId": %q, "InstanceType": "m5.large",
				"MetadataOptions": {"HttpTokens": "optional", "HttpPutResponseHopLimit": 2}}}]}`, template, image), instances...),
			"autoscaling": fmt.Sprintf(`{"groups": [{"name": "web", "template": %q, "version": "1", "min": 1, "max": 6,
				"instances": [%q, %q]}]}`, template, id(11), id(12)),
		}),
		runs(modern(`{"groups": ["web"]}`), modern(`{"instances": [`+strings.Join(ids, ",")+`]}`)),
	)
	for i := range seed.Accounts {
		for _, r := range seed.Accounts[i].Roles { // what all the gates read, too
			r.Policies["gates"] = json.RawMessage(core.AllowActions("elasticloadbalancing:*"))
		}
	}
	return seed
}

// somebody is the client of somebody else in shop.
func (w *world) somebody() *ec2.Client {
	return ec2.NewFromConfig(aws.Config{Region: string(ireland), HTTPClient: w.Client(), BaseEndpoint: aws.String(awssim.BaseURL),
		Credentials: credentials.NewStaticCredentialsProvider(string(shop), "secret", "")})
}

func (w *world) modify(t *testing.T, in *ec2.ModifyInstanceMetadataOptionsInput) {
	t.Helper()
	if _, err := w.somebody().ModifyInstanceMetadataOptions(t.Context(), in); err != nil {
		t.Fatal(err)
	}
}

// mustDryRun makes a dry run, and fails if it changed anything or called a write in earnest.
func mustDryRun(t *testing.T, w *world, a *app.App, p *plan.Plan) *app.DryRunResult {
	t.Helper()
	before := w.CallCount()
	result, err := a.DryRun(t.Context(), p, app.DryRunOptions{})
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range w.CallsSince(before) {
		reads := strings.HasPrefix(c.Action, "Describe") || strings.HasPrefix(c.Action, "Get") || c.Service == "sts"
		if c.Mutated && c.Service != "sts" || !reads && !c.DryRun {
			t.Errorf("%s:%s was called without DryRun, and changed something: %t", c.Service, c.Action, c.Mutated)
		}
	}
	return result
}

func dryOutcomes(r *app.DryRunResult) map[string]app.DryRunOutcome {
	out := map[string]app.DryRunOutcome{}
	for _, c := range r.Report.Changes {
		out[c.Change.Action+" "+c.Change.Ref.ID] = c.Outcome
	}
	return out
}

func TestDryRunTellsEachOutcome(t *testing.T) {
	t.Parallel()
	w := newWorld(t, dryFleet(), baseConfig)
	mustScan(t, w.app)
	p := mustPlan(t, w.app)
	place, err := w.Place(shop, ireland)
	if err != nil {
		t.Fatal(err)
	}
	w.modify(t, &ec2.ModifyInstanceMetadataOptionsInput{InstanceId: aws.String(id(21)),
		HttpEndpoint: types.InstanceMetadataEndpointStateEnabled, HttpTokens: types.HttpTokensStateRequired})
	w.modify(t, &ec2.ModifyInstanceMetadataOptionsInput{InstanceId: aws.String(id(22)),
		HttpEndpoint: types.InstanceMetadataEndpointStateEnabled, HttpPutResponseHopLimit: aws.Int32(9)})
	w.modify(t, &ec2.ModifyInstanceMetadataOptionsInput{InstanceId: aws.String(id(23)),
		HttpEndpoint: types.InstanceMetadataEndpointStateDisabled})
	_, err = w.somebody().TerminateInstances(t.Context(), &ec2.TerminateInstancesInput{InstanceIds: []string{id(24)}})
	if err != nil {
		t.Fatal(err)
	}
	mustFault(t, w, core.Fault{Action: "ModifyInstanceMetadataOptions", Param: "InstanceId=" + id(25), Deny: true})
	store := simec2.StoreOf(place)
	managed := store.Defaults()
	managed.ManagedBy = simec2.ManagedByPolicy
	store.SetDefaults(w.clock.Now(), managed)
	if err := w.clock.Sleep(t.Context(), 10*time.Minute); err != nil { // until all of it shows
		t.Fatal(err)
	}

	result := mustDryRun(t, w, w.app, p)
	got := dryOutcomes(result)
	for what, want := range map[string]app.DryRunOutcome{
		"set-options " + id(11): "would-write", "set-options " + id(12): "would-write",
		"set-options " + id(21): "found-as-wanted", "set-options " + id(22): "conflict",
		"set-options " + id(23): "endpoint-disabled", "set-options " + id(24): "gone", "set-options " + id(25): "denied",
		"set-options " + id(26): "would-write", "create-version " + template: "would-write",
		"set-launch-version web": "compared",
	} {
		if got[what] != want {
			t.Errorf("%s is %q, not %q", what, got[what], want)
		}
	}
	for _, c := range result.Report.Changes {
		switch {
		case c.Change.Ref.ID == id(22) && !strings.Contains(c.Reason, "HttpPutResponseHopLimit: 1 → 9"),
			c.Change.Ref.ID == id(25) && !strings.Contains(c.Reason, "UnauthorizedOperation"),
			c.Change.Ref.ID == "web" && !strings.Contains(c.Reason, "AWS offers no dry run for this call"):
			t.Errorf("%s: %s", c.Change.Ref.ID, c.Reason)
		case c.Change.Ref.Kind == inventory.KindAccountDefaults && c.Change.Ref.Place == inIreland(shop):
			if c.Outcome != "conflict" || !strings.Contains(c.Reason, "declarative policy") {
				t.Errorf("the defaults of shop are %s: %s", c.Outcome, c.Reason)
			}
		}
	}
	if len(result.Notes) > 0 {
		t.Errorf("notes %v", result.Notes)
	}
}

func inIreland(account fleet.AccountID) fleet.Place {
	return fleet.Place{Partition: "aws", Account: account, Region: ireland}
}

func TestDryRunUnderEnforcement(t *testing.T) {
	t.Parallel()
	w := newWorld(t, dryFleet(), baseConfig)
	mustScan(t, w.app)
	p := mustPlan(t, w.app)
	_, err := w.somebody().ModifyInstanceMetadataDefaults(t.Context(), &ec2.ModifyInstanceMetadataDefaultsInput{
		HttpTokens:         types.MetadataDefaultHttpTokensStateRequired,
		HttpTokensEnforced: types.DefaultHttpTokensEnforcedStateEnabled})
	if err != nil {
		t.Fatal(err)
	}
	if err := w.clock.Sleep(t.Context(), 10*time.Minute); err != nil {
		t.Fatal(err)
	}
	for _, c := range mustDryRun(t, w, w.app, p).Report.Changes {
		if c.Change.Ref.Kind == inventory.KindInstance &&
			(c.Outcome != "no-undo" || !strings.Contains(c.Reason, "disable HttpTokensEnforced")) {
			t.Errorf("%s is %s: %s", c.Change.Ref.ID, c.Outcome, c.Reason)
		}
	}
}

// TestDryRunForetellsApply compares what a dry run says of a plan with what apply then does.
func TestDryRunForetellsApply(t *testing.T) {
	t.Parallel()
	w := newWorld(t, dryFleet(), baseConfig)
	mustScan(t, w.app)
	p := mustPlan(t, w.app)
	w.modify(t, &ec2.ModifyInstanceMetadataOptionsInput{InstanceId: aws.String(id(22)),
		HttpEndpoint: types.InstanceMetadataEndpointStateEnabled, HttpPutResponseHopLimit: aws.Int32(9)})
	if err := w.clock.Sleep(t.Context(), 10*time.Minute); err != nil {
		t.Fatal(err)
	}
	said := mustDryRun(t, w, w.app, p)
	if again := mustDryRun(t, w, w.app, p); !maps.Equal(dryOutcomes(again), dryOutcomes(said)) {
		t.Errorf("a second dry run says %v, the first %v", dryOutcomes(again), dryOutcomes(said))
	}
	if list, err := w.app.Rollouts(t.Context()); err != nil || len(list) > 0 {
		t.Errorf("rollouts %v, error %v", list, err)
	}
	result, err := w.app.Apply(t.Context(), p, app.ApplyOptions{Yes: true})
	if err != nil {
		t.Fatal(err)
	}
	for _, st := range said.Report.Stacks {
		if phase := result.Record.Stacks[st.Stack.ID].Phase; st.Fails == (phase == rollout.StackDone) &&
			(phase != rollout.StackWaiting || said.Report.Halt == "") {
			t.Errorf("%s was said to fail: %t (%s), and is %s: %s", st.Stack.Name, st.Fails, st.Reason, phase,
				result.Record.Stacks[st.Stack.ID].Reason)
		}
	}
	for _, c := range said.Report.Changes {
		if c.Outcome == "conflict" != (result.Record.Changes[c.Change.ID].Phase == app.ChangeConflict) {
			t.Errorf("%s was said to be %s, and is %s", c.Change.Ref.ID, c.Outcome, result.Record.Changes[c.Change.ID].Phase)
		}
	}
	after := mustDryRun(t, w, w.app, p)
	for _, c := range after.Report.Changes {
		made := result.Record.Changes[c.Change.ID].Phase == app.ChangeVerified
		if result.Record.Stacks[c.Change.Stack].Phase == rollout.StackWaiting {
			continue // it is asked about as before
		}
		if made != (c.Outcome == "made-already") || !made && c.Outcome != "ended" {
			t.Errorf("afterwards %s is %s", c.Change.Ref.ID, c.Outcome)
		}
	}
	if result.Counts.Verified == 0 || result.Counts.Conflict != 1 {
		t.Errorf("counts %+v", result.Counts)
	}
	if len(after.Notes) != 1 {
		t.Errorf("notes %v", after.Notes)
	}
}

func TestDryRunNotesAStalePlan(t *testing.T) {
	t.Parallel()
	w := newWorld(t, dryFleet(), baseConfig)
	mustScan(t, w.app)
	p := mustPlan(t, w.app)
	p.Header.Taken = p.Header.Taken.AddDate(0, 0, -8)
	result := mustDryRun(t, w, w.app, p)
	if len(result.Notes) != 1 || result.Notes[0].Severity != fleet.SeverityWarning ||
		!strings.Contains(result.Notes[0].Summary, "apply would refuse it: the plan is stale") {
		t.Errorf("notes %v", result.Notes)
	}
	w.key = "AKIAUNKNOWN"
	if _, err := w.open(t, baseConfig).DryRun(t.Context(), p, app.DryRunOptions{AllowStale: true}); err == nil {
		t.Error("no error under keys that nobody knows")
	}
}
