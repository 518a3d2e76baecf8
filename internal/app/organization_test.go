package app_test

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"

	"github.com/imdsctl/imdsctl/internal/app"
	"github.com/imdsctl/imdsctl/internal/assess"
	"github.com/imdsctl/imdsctl/internal/awssim/core"
	"github.com/imdsctl/imdsctl/internal/fleet"
	"github.com/imdsctl/imdsctl/internal/inventory"
)

// The policies of these tests, each on one account.
const (
	onPayments = "p-onpayments"
	onShop     = "p-onshop0000"
	onNobody   = "p-onnobody00"
)

// declares adds declarative policies with optional tokens.
func declares(s *core.Seed) {
	policy := func(id string, targets ...string) map[string]any {
		return map[string]any{"id": id, "name": id, "type": "DECLARATIVE_POLICY_EC2", "targets": targets, "content": map[string]any{
			"ec2_attributes": map[string]any{"instance_metadata_defaults": map[string]any{
				"http_tokens": map[string]string{"@@assign": "optional"}}}}}
	}
	section, err := json.Marshal(map[string]any{
		"policy_types": []string{"SERVICE_CONTROL_POLICY", "DECLARATIVE_POLICY_EC2"},
		"policies":     []any{policy(onPayments, "Payments"), policy(onShop, string(shop)), policy(onNobody)},
	})
	if err != nil {
		panic(err) // text always marshals
	}
	if s.Services == nil {
		s.Services = map[string]json.RawMessage{}
	}
	s.Services["organizations"] = section
}

// twoFleets has an instance that calls v1 in payments, and none in shop.
func twoFleets() *core.Seed {
	return organization(
		in(payments, ireland, map[string]string{"ec2": ec2Section("", instance(id(1), "optional", ""))}),
		in(shop, ireland, map[string]string{"ec2": ec2Section("", instance(id(2), "required", ""))}),
		runs(modern(`{"instances": ["`+id(2)+`"]}`), legacy(`{"instances": ["`+id(1)+`"]}`)), declares)
}

func TestPoliciesAreJudgedByTheAccountsTheyBind(t *testing.T) {
	t.Parallel()
	w := newWorld(t, twoFleets(), baseConfig)
	if sum := mustScan(t, w.app); len(sum.Gaps) != 0 || sum.Resources[inventory.KindOrganizationPolicy] != 3 {
		t.Fatalf("gaps %v, resources %v", sum.Gaps, sum.Resources)
	}
	got := verdicts(t, w.app, inventory.KindOrganizationPolicy)
	// Where nothing but the default that the policy itself sets is open, it is ready.
	if got[onPayments] != assess.Blocked || got[onShop] != assess.Ready || got[onNobody] != assess.Ready {
		t.Errorf("verdicts %v", got)
	}
	var last *app.PlaceReport
	for report, err := range w.app.Assess(t.Context()) {
		if err != nil {
			t.Fatal(err)
		}
		last = report
	}
	if last.Snapshot.Place != (fleet.Place{Partition: fleet.PartitionAWS, Account: management}) {
		t.Errorf("the last place judged is %s", last.Snapshot.Place)
	}
	for _, v := range last.Report.All() {
		if got[v.Ref.ID] != v.Status {
			t.Errorf("%s is %s in one list and %s in another", v.Ref.ID, got[v.Ref.ID], v.Status)
		}
	}
}

func TestAPolicyIsPlannedOnlyWhereItIsReadyAndAskedFor(t *testing.T) {
	t.Parallel()
	w := newWorld(t, twoFleets(), baseConfig)
	mustScan(t, w.app)
	for config, want := range map[string][]string{
		baseConfig: nil,
		baseConfig + "targets: {organization_policies: true}\n": {onNobody, onShop},
	} {
		made, err := w.open(t, config).Plan(t.Context(), app.PlanOptions{})
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for i := range made.Plan.Changes {
			if c := &made.Plan.Changes[i]; c.Ref.Kind == inventory.KindOrganizationPolicy {
				got = append(got, c.Ref.ID)
			}
		}
		slices.Sort(got)
		if !slices.Equal(got, want) {
			t.Errorf("planned for %q, not %q", got, want)
		}
	}
}

func TestTheOrganizationIsLeftOutWhereItDoesNotAnswer(t *testing.T) {
	t.Parallel()
	for name, config := range map[string]string{
		"listed, by the management account": "version: 1\norganization: {discover: list, regions: [eu-west-1]}\n" +
			"accounts: [{id: '111111111111'}, {id: '222222222222'}]\n",
		"listed without the management account": "version: 1\norganization: {discover: list, regions: [eu-west-1]}\n" +
			"accounts: [{id: '222222222222'}]\n",
		"self": "version: 1\norganization: {discover: self, regions: [eu-west-1]}\n",
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, twoFleets(), config)
			sum := mustScan(t, w.app)
			policies := 3
			if strings.Contains(name, "without") {
				policies = 0
			}
			if n := sum.Resources[inventory.KindOrganizationPolicy]; n != policies || len(sum.Gaps) > 0 {
				t.Errorf("%d policies, gaps %v", n, sum.Gaps)
			}
		})
	}
	t.Run("an account alone", func(t *testing.T) {
		w := newWorld(t, &core.Seed{Accounts: []core.AccountSeed{{ID: management}}},
			"version: 1\norganization: {discover: self, regions: [eu-west-1]}\n")
		if sum := mustScan(t, w.app); len(sum.Gaps) > 0 || sum.Status != "complete" {
			t.Errorf("status %s, gaps %v", sum.Status, sum.Gaps)
		}
	})
}

func TestPoliciesThatCannotBeReadAreAGap(t *testing.T) {
	t.Parallel()
	w := newWorld(t, twoFleets(), baseConfig)
	if _, err := w.AddFault(core.Fault{Service: "organizations", Action: "ListPolicies", Deny: true}); err != nil {
		t.Fatal(err)
	}
	sum := mustScan(t, w.app)
	if len(sum.Gaps) != 1 || sum.Gaps[0].Kind != inventory.KindOrganizationPolicy || sum.Gaps[0].Class != fleet.ErrDenied ||
		sum.Gaps[0].Place.String() != "aws/"+string(management)+"/global" {
		t.Errorf("gaps %+v", sum.Gaps)
	}
	checks, err := w.app.Doctor(t.Context(), app.DoctorOptions{})
	if err != nil || !slices.ContainsFunc(checks, func(c app.Check) bool {
		return c.Status == app.CheckFailed && strings.Contains(c.Remedy, "--management")
	}) {
		t.Errorf("doctor says %+v: %v", checks, err)
	}
}
