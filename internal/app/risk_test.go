package app_test

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/imdsctl/imdsctl/internal/app"
	"github.com/imdsctl/imdsctl/internal/assess"
	"github.com/imdsctl/imdsctl/internal/awssim/core"
	"github.com/imdsctl/imdsctl/internal/fleet"
	"github.com/imdsctl/imdsctl/internal/inventory"
)

const ec2Trust = `{"Version": "2012-10-17", "Statement": {"Effect": "Allow", "Action": "sts:AssumeRole", "Principal": {"Service": "ec2.amazonaws.com"}}}`

// exposed has four instances in shop that nothing calls as v1: an administrator that everyone reaches, one with data behind a load
// balancer, a narrow one, and one without a role; and an administrator without IMDSv1 in the account of payments.
func exposed() *core.Seed {
	profile := func(account fleet.AccountID, name, more string) string {
		return fmt.Sprintf(`, "profile_arn": "arn:aws:iam::%s:instance-profile/%s"%s`, account, name, more)
	}
	group := func(id, ports string) string { return `, "security_groups": ["` + id + `"]` + ports }
	allow := func(action, resource string) string {
		return `{"Version": "2012-10-17", "Statement": {"Effect": "Allow", "Action": "` + action + `", "Resource": "` + resource + `"}}`
	}
	role := func(name, document string) string {
		return fmt.Sprintf(`{"name": %q, "trust": %s, "profiles": [%q], "inline": {"own": %s}}`, name, ec2Trust, name, document)
	}
	inShop := ec2Section("", instance(id(1), "optional", profile(shop, "admin", group("sg-00000001", `, "public_ip": "198.51.100.7"`))),
		instance(id(2), "optional", profile(shop, "data", group("sg-00000002", ""))),
		instance(id(3), "optional", profile(shop, "narrow", "")), instance(id(4), "optional", ""))
	inShop = strings.TrimSuffix(inShop, "}") + `, "security_groups": [
		{"id": "sg-00000001", "ingress": [{"protocol": "tcp", "from": 22, "to": 22, "cidrs": ["0.0.0.0/0"]}]}, {"id": "sg-00000002"}]}`
	global := func(account fleet.AccountID, roles ...string) func(*core.Seed) {
		return func(s *core.Seed) {
			for i := range s.Accounts {
				if s.Accounts[i].ID == account {
					s.Accounts[i].Global = map[string]json.RawMessage{"iam": json.RawMessage(`{"roles": [` + strings.Join(roles, ",") + `]}`)}
				}
			}
		}
	}
	return organization(
		in(shop, ireland, map[string]string{"ec2": inShop, "elasticloadbalancing": `{"target_groups": [{"name": "web", "instances": ["` + id(2) + `"]}],
			"load_balancers": [{"name": "front", "scheme": "internet-facing", "target_groups": ["web"], "security_groups": ["sg-00000001"]}]}`}),
		in(payments, ireland, map[string]string{"ec2": ec2Section("", instance(id(5), "required", profile(payments, "admin", "")))}),
		global(shop, role("admin", allow("*", "*")), role("data", allow("s3:GetObject", "*")),
			role("narrow", allow("s3:GetObject", "arn:aws:s3:::logs/*"))),
		global(payments, role("admin", allow("*", "*"))),
		runs(modern(`{"instances": ["`+id(1)+`", "`+id(2)+`", "`+id(3)+`", "`+id(4)+`", "`+id(5)+`"]}`)))
}

// risks reads the risk of all instances.
func risks(t *testing.T, a *app.App, f app.ResourceFilter) map[string]string {
	t.Helper()
	f.Kinds = []string{inventory.KindInstance}
	out := map[string]string{}
	for row, err := range a.Resources(t.Context(), f) {
		if err != nil {
			t.Fatal(err)
		}
		out[row.Resource.Ref.ID] = fmt.Sprintf("%s %d", row.Verdict.Risk.Level, row.Verdict.Risk.Score)
	}
	return out
}

func TestRiskFromAScanToThePlan(t *testing.T) {
	t.Parallel()
	w := newWorld(t, exposed(), baseConfig)
	if sum := mustScan(t, w.app); len(sum.Gaps) != 0 {
		t.Fatalf("gaps %v", sum.Gaps)
	}
	want := map[string]string{id(1): "critical 85", id(2): "high 55", id(3): "medium 35", id(4): "low 30", id(5): "medium 35"}
	if got := risks(t, w.app, app.ResourceFilter{}); !equal(got, want) {
		t.Errorf("risks\n got %v\nwant %v", got, want)
	}
	some := risks(t, w.app, app.ResourceFilter{Risks: []assess.RiskLevel{assess.RiskCritical, assess.RiskLow}})
	if len(some) != 2 || some[id(1)] == "" || some[id(4)] == "" {
		t.Errorf("critical and low are %v", some)
	}
	made, err := w.app.Plan(t.Context(), app.PlanOptions{})
	if err != nil {
		t.Fatal(err)
	}
	var order []string
	for _, s := range made.Plan.Stacks {
		if s.Place.Account == shop && s.Risk != nil {
			order = append(order, fmt.Sprintf("%s %s", s.RiskOf.ID, s.Risk.Level))
		}
	}
	if !slices.Equal(order, []string{id(1) + " critical", id(2) + " high", id(3) + " medium", id(4) + " low"}) {
		t.Errorf("the plan's stacks are in the order %q", order)
	}
}

// TestRiskThatCannotBeRead: denied reads are gaps; verdicts, those on policies of the organization among them, are what they were, and
// what was known of risk before is still known.
func TestRiskThatCannotBeRead(t *testing.T) {
	t.Parallel()
	seed := exposed()
	declares(seed)
	w := newWorld(t, seed, baseConfig)
	mustScan(t, w.app)
	before, policies := verdicts(t, w.app, inventory.KindInstance), verdicts(t, w.app, inventory.KindOrganizationPolicy)
	known := risks(t, w.app, app.ResourceFilter{})
	mustFault(t, w, core.Fault{Service: "iam", Action: "GetAccountAuthorizationDetails", Deny: true})
	mustFault(t, w, core.Fault{Service: "elasticloadbalancing", Action: "DescribeLoadBalancers", Deny: true})
	sum := mustScan(t, w.app)
	kinds := map[string]int{}
	for _, g := range sum.Gaps {
		kinds[g.Kind]++
	}
	if kinds[inventory.KindRole] != 3 || kinds[inventory.KindLoadBalancer] != 6 || len(kinds) != 2 {
		t.Errorf("gaps %v", kinds)
	}
	// What an earlier scan knew stands, as it does of everything: the roles, and the load balancer.
	if now := risks(t, w.app, app.ResourceFilter{}); !equal(now, known) {
		t.Errorf("risks\n now %v\nwere %v", now, known)
	}
	if now := verdicts(t, w.app, inventory.KindInstance); !equal(now, before) {
		t.Errorf("verdicts\n now %v\nwere %v", now, before)
	}
	if now := verdicts(t, w.app, inventory.KindOrganizationPolicy); !equal(now, policies) || len(now) == 0 {
		t.Errorf("verdicts on policies\n now %v\nwere %v", now, policies)
	}
}

// TestRiskDeniedFromTheStart: where roles were never read, no risk that rests on one is known.
func TestRiskDeniedFromTheStart(t *testing.T) {
	t.Parallel()
	w := newWorld(t, exposed(), baseConfig)
	mustFault(t, w, core.Fault{Service: "iam", Action: "GetAccountAuthorizationDetails", Deny: true})
	mustFault(t, w, core.Fault{Service: "ec2", Action: "DescribeSecurityGroups", Deny: true})
	mustScan(t, w.app)
	want := map[string]string{id(1): "unknown 35", id(2): "unknown 30", id(3): "unknown 30", id(4): "low 30", id(5): "unknown 0"}
	if got := risks(t, w.app, app.ResourceFilter{}); !equal(got, want) {
		t.Errorf("risks\n got %v\nwant %v", got, want)
	}
}

// TestWhyTellsTheRisk: live calls give the same parts as a scan.
func TestWhyTellsTheRisk(t *testing.T) {
	t.Parallel()
	w := newWorld(t, exposed(), baseConfig)
	why := func(n int) *assess.Risk {
		t.Helper()
		report, err := w.app.Why(t.Context(), app.WhyOptions{Instance: id(n), Account: shop, Region: ireland})
		if err != nil {
			t.Fatal(err)
		}
		return report.Verdict.Risk
	}
	for n, want := range map[int]string{1: "critical 85", 2: "high 55", 4: "low 30"} {
		if got := why(n); fmt.Sprintf("%s %d", got.Level, got.Score) != want {
			t.Errorf("instance %d: %+v, want %s", n, got, want)
		}
	}
	mustFault(t, w, core.Fault{Service: "iam", Action: "GetAccountAuthorizationDetails", Deny: true})
	report, err := w.app.Why(t.Context(), app.WhyOptions{Instance: id(3), Account: shop, Region: ireland})
	if err != nil || report.Verdict.Risk.Level != assess.RiskUnknown || report.Verdict.Status == assess.Unknown ||
		!slices.ContainsFunc(report.Gaps, func(s inventory.Scope) bool { return s.Kind == inventory.KindRole }) {
		t.Errorf("%+v, %v", report, err)
	}
}
