package app_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/imdsctl/imdsctl/internal/app"
	"github.com/imdsctl/imdsctl/internal/assess"
	"github.com/imdsctl/imdsctl/internal/awssim/core"
	"github.com/imdsctl/imdsctl/internal/fleet"
	"github.com/imdsctl/imdsctl/internal/inventory"
	"github.com/imdsctl/imdsctl/internal/plan"
)

func mustScan(t *testing.T, a *app.App) *app.ScanSummary {
	t.Helper()
	sum, err := a.Scan(t.Context(), app.ScanOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return sum
}

// smallFleet has one instance of each sort in payments, and one in shop.
func smallFleet() *core.Seed {
	return organization(
		in(payments, ireland, map[string]string{"ec2": ec2Section("",
			instance(id(1), "optional", ""),
			instance(id(2), "optional", ""),
			instance(id(3), "required", ""),
			strings.Replace(instance(id(4), "optional", ""), `"endpoint": "enabled"`, `"endpoint": "disabled"`, 1))}),
		in(shop, virginia, map[string]string{"ec2": ec2Section("", instance(id(5), "optional", ""))}),
		runs(modern(`{"instances": ["`+id(1)+`", "`+id(5)+`"]}`), legacy(`{"instances": ["`+id(2)+`"]}`)),
	)
}

func TestScanJudgesWhatItFinds(t *testing.T) {
	t.Parallel()
	w := newWorld(t, smallFleet(), baseConfig)
	sum := mustScan(t, w.app)
	if len(sum.Gaps) != 0 || sum.Status != "complete" {
		t.Fatalf("status %s, gaps %v", sum.Status, sum.Gaps)
	}
	want := map[string]assess.Status{id(1): assess.Ready, id(2): assess.Blocked, id(3): assess.Done, id(4): assess.Done,
		id(5): assess.Ready}
	if got := verdicts(t, w.app, inventory.KindInstance); !equal(got, want) {
		t.Errorf("verdicts\n got %v\nwant %v", got, want)
	}
	if sum.Accounts != 3 || sum.Places != 9 { // two regions of each, and the global place of each
		t.Errorf("%d accounts and %d places, want 3 and 9", sum.Accounts, sum.Places)
	}
	if sum.Cost.Instances != 5 || sum.Asked.Metrics != 15 || sum.Asked.LookBack != 5 || sum.Cost.Metrics != 15 {
		t.Errorf("estimated %+v, asked %+v", sum.Cost, sum.Asked)
	}
	status, err := w.app.Status(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if status.Total[assess.Ready] != 2 || len(status.Trend) != 1 || status.Trend[0].Counts[assess.Ready] != 2 {
		t.Errorf("status %+v, trend %+v", status.Total, status.Trend)
	}
	at := slices.IndexFunc(status.Accounts, func(a app.AccountStatus) bool { return a.Account.ID == payments })
	if at < 0 || status.Accounts[at].Account.OU != "Production/Payments" {
		t.Errorf("accounts %+v", status.Accounts)
	}
}

func equal[K comparable, V comparable](a, b map[K]V) bool {
	if len(a) != len(b) {
		return false
	}
	for k, v := range a {
		if b[k] != v {
			return false
		}
	}
	return true
}

// TestScanMakesNoSuperfluousCalls counts against what page sizes require: for each place one call of each list that a
// kind is made of, and none about what is not there; two of CloudWatch where there are instances; for each account its
// role and its regions.
func TestScanMakesNoSuperfluousCalls(t *testing.T) {
	t.Parallel()
	w := newPacedWorld(t, 60, smallFleet(), baseConfig) // no session is to expire meanwhile
	sum := mustScan(t, w.app)
	got := w.counts()
	most := map[string]int{
		"ec2:DescribeRegions": 3, "cloudwatch:GetMetricData": 4, // the window and the look back
		"sts:AssumeRole": 3, "sts:GetCallerIdentity": 1, // the management account has no role, which takes one try
		"organizations:DescribeOrganization": 1, "organizations:ListPolicies": 2, // one for each type
		"iam:GetAccountAuthorizationDetails": 3,
		"organizations:ListRoots":            1, "organizations:ListAccountsForParent": 3, "organizations:ListOrganizationalUnitsForParent": 3,
	}
	for _, list := range lists() {
		most[list] = sum.Places - 3 // nothing of it in the global places
	}
	most["elasticloadbalancing:DescribeLoadBalancers"] *= 2 // one for each generation
	for action, n := range most {
		if got[action] > n {
			t.Errorf("%s was called %d times, want at most %d", action, got[action], n)
		}
		delete(got, action)
	}
	if len(got) > 0 {
		t.Errorf("further calls: %v", got)
	}
	if int64(len(w.Calls())) != sum.Calls {
		t.Errorf("the summary has %d calls, the log %d", sum.Calls, len(w.Calls()))
	}
}

// lists are the calls by which kinds find their resources in a place. Some take several: the versions of templates and the
// history of groups are lists of their own, ECS tells clusters and capacity providers apart, EMR security configurations
// and clusters, AppStream fleets and both sorts of builders.
func lists() []string {
	return []string{
		"ec2:DescribeInstances", "ec2:GetInstanceMetadataDefaults", "ec2:DescribeImages", "ec2:DescribeFleets",
		"ec2:DescribeSpotFleetRequests", "ec2:DescribeLaunchTemplates", "ec2:DescribeLaunchTemplateVersions",
		"autoscaling:DescribeAutoScalingGroups", "autoscaling:DescribeScalingActivities",
		"autoscaling:DescribeLaunchConfigurations", "eks:ListClusters", "batch:DescribeComputeEnvironments",
		"ecs:ListClusters", "ecs:DescribeCapacityProviders", "elasticbeanstalk:DescribeEnvironments",
		"elasticmapreduce:ListSecurityConfigurations", "elasticmapreduce:ListClusters", "lightsail:GetInstances",
		"sagemaker:ListNotebookInstances", "appstream:DescribeFleets", "appstream:DescribeImageBuilders",
		"appstream:DescribeAppBlockBuilders", "imagebuilder:ListInfrastructureConfigurations",
		"workspaces-instances:ListWorkspaceInstances", "ssm:DescribeInstanceInformation", "ec2:DescribeSecurityGroups",
		"elasticloadbalancing:DescribeLoadBalancers",
	}
}

func TestDeniedAccountIsAGap(t *testing.T) {
	t.Parallel()
	w := newWorld(t, smallFleet(), baseConfig)
	mustFault(t, w, core.Fault{Service: "sts", Action: "AssumeRole", Param: "RoleArn=*" + string(shop) + "*", Deny: true})
	sum := mustScan(t, w.app)
	if sum.Status != "partial" || len(sum.Gaps) != 1 {
		t.Fatalf("status %s, gaps %v", sum.Status, sum.Gaps)
	}
	if g := sum.Gaps[0]; g.Place.Account != shop || g.Class != fleet.ErrDenied || !strings.Contains(g.Detail,
		"imdsctl-read") {
		t.Errorf("gap %+v", g)
	}
	if got := verdicts(t, w.app, inventory.KindInstance); got[id(1)] != assess.Ready || got[id(5)] != "" {
		t.Errorf("verdicts %v", got)
	}
}

// TestDeniedLaterKeepsWhatWasKnown scans twice; what the second may not see must not vanish, and is not ready any more.
func TestDeniedLaterKeepsWhatWasKnown(t *testing.T) {
	t.Parallel()
	w := newWorld(t, smallFleet(), baseConfig)
	mustScan(t, w.app)
	mustFault(t, w, core.Fault{Service: "sts", Action: "AssumeRole", Param: "RoleArn=*" + string(shop) + "*", Deny: true})
	again := w.open(t, baseConfig)
	if sum := mustScan(t, again); len(sum.Gaps) != 3 { // the account, and its two regions
		t.Errorf("gaps %v", sum.Gaps)
	}
	if got := verdicts(t, again, inventory.KindInstance); got[id(5)] != assess.Unknown {
		t.Errorf("the instance in the closed account is %q", got[id(5)])
	}
}

func TestThrottledAccountStopsNobodyElse(t *testing.T) {
	t.Parallel()
	w := newWorld(t, smallFleet(), baseConfig)
	mustFault(t, w, core.Fault{Service: "ec2", Action: "DescribeInstances", Account: string(shop), Throttle: true})
	sum := mustScan(t, w.app)
	if len(sum.Gaps) != 2 || sum.Throttles == 0 {
		t.Fatalf("gaps %v, %d throttles", sum.Gaps, sum.Throttles)
	}
	for _, g := range sum.Gaps {
		if g.Place.Account != shop || g.Kind != inventory.KindInstance || g.Class != fleet.ErrThrottled {
			t.Errorf("gap %+v", g)
		}
	}
	if got := verdicts(t, w.app, inventory.KindInstance); got[id(1)] != assess.Ready {
		t.Errorf("verdicts %v", got)
	}
}

func TestOptInRegion(t *testing.T) {
	t.Parallel()
	t.Run("asked for by name", func(t *testing.T) {
		w := newWorld(t, smallFleet(), strings.Replace(baseConfig, "us-east-1]", "us-east-1, af-south-1]", 1))
		sum := mustScan(t, w.app)
		if len(sum.Gaps) != 3 || sum.Gaps[0].Class != fleet.ErrRegionDisabled || sum.Gaps[0].Place.Region != "af-south-1" {
			t.Errorf("gaps %v", sum.Gaps)
		}
	})
	t.Run("not asked for", func(t *testing.T) {
		w := newWorld(t, smallFleet(), strings.Replace(baseConfig, "  regions: [eu-west-1, us-east-1]\n", "", 1))
		sum := mustScan(t, w.app)
		if len(sum.Gaps) != 0 || sum.Disabled == 0 {
			t.Errorf("gaps %v, %d disabled", sum.Gaps, sum.Disabled)
		}
		status, err := w.app.Status(t.Context())
		if err != nil || status.Disabled != sum.Disabled {
			t.Errorf("status has %d disabled regions, the scan %d (%v)", status.Disabled, sum.Disabled, err)
		}
	})
}

func TestDeniedPartsAreGaps(t *testing.T) {
	t.Parallel()
	for action, kind := range map[string]string{
		"ec2:DescribeInstances":                 inventory.KindInstance,
		"ec2:DescribeLaunchTemplates":           inventory.KindLaunchTemplate,
		"autoscaling:DescribeAutoScalingGroups": inventory.KindAutoScaling,
		"autoscaling:DescribeScalingActivities": inventory.KindAutoScaling,
		"ec2:GetInstanceMetadataDefaults":       inventory.KindAccountDefaults,
		"cloudwatch:GetMetricData":              "cloudwatch",
	} {
		t.Run(action, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, smallFleet(), baseConfig)
			service, name, _ := strings.Cut(action, ":")
			mustFault(t, w, core.Fault{Service: service, Action: name, Account: string(payments), Region: string(ireland),
				Deny: true})
			sum := mustScan(t, w.app)
			if len(sum.Gaps) != 1 || sum.Gaps[0].Kind != kind || sum.Gaps[0].Class != fleet.ErrDenied ||
				!strings.Contains(sum.Gaps[0].Detail, action) {
				t.Errorf("gaps %+v", sum.Gaps)
			}
			if action == "cloudwatch:GetMetricData" && verdicts(t, w.app, inventory.KindInstance)[id(1)] != assess.Unknown {
				t.Error("ready without evidence")
			}
		})
	}
}

// TestNothingIsReadyWhereMembersMayBeMissing denies one call at a time: a member that nobody saw may have called v1.
func TestNothingIsReadyWhereMembersMayBeMissing(t *testing.T) {
	t.Parallel()
	for _, action := range []string{
		"ec2:DescribeInstances", "autoscaling:DescribeAutoScalingGroups", "autoscaling:DescribeScalingActivities", "cloudwatch:GetMetricData",
	} {
		t.Run(action, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, webFleet(), baseConfig)
			service, name, _ := strings.Cut(action, ":")
			mustScan(t, w.app) // so that the resources are known from before
			mustFault(t, w, core.Fault{Service: service, Action: name, Account: string(shop), Deny: true})
			again := w.open(t, baseConfig)
			mustScan(t, again)
			for row, err := range again.Resources(t.Context(), app.ResourceFilter{Accounts: []fleet.AccountID{shop},
				Regions: []fleet.Region{ireland}}) {
				if err != nil {
					t.Fatal(err)
				}
				alone := row.Resource.Ref.ID == id(14) && service == "autoscaling" // no group of its own
				if row.Verdict != nil && row.Verdict.Status == assess.Ready && !alone {
					t.Errorf("%s is ready: %s", row.Resource.Ref, row.Verdict.Why())
				}
			}
			if p := mustPlan(t, again); slices.ContainsFunc(p.Changes, func(c plan.Change) bool {
				return c.Ref.Account == shop && c.Ref.Region == ireland && c.Ref.ID != id(14)
			}) {
				t.Errorf("changes are planned: %+v", p.Changes[0])
			}
		})
	}
}

func TestExpiredCredentialsHalfWay(t *testing.T) {
	t.Parallel()
	w := newWorld(t, smallFleet(), baseConfig, func(o *app.Options) { o.Concurrency = 1 })
	mustFault(t, w, core.Fault{Service: "cloudwatch", Code: "ExpiredToken", Status: 403})
	mustFault(t, w, core.Fault{Service: "sts", Nth: 8, Code: "ExpiredToken", Status: 403})
	sum, err := w.app.Scan(t.Context(), app.ScanOptions{})
	if fleet.ClassOf(err) != fleet.ErrExpired {
		t.Fatalf("error %v", err)
	}
	d, ok := errors.AsType[fleet.Diagnostic](err)
	if !ok || !strings.Contains(d.Remedy, "Log in again") {
		t.Errorf("diagnostic %+v", d)
	}
	if sum.Status != "interrupted" || sum.Resources[inventory.KindInstance] != 5 {
		t.Errorf("status %s, resources %v", sum.Status, sum.Resources)
	}
	again := w.open(t, baseConfig)
	if got := verdicts(t, again, inventory.KindInstance); got[id(1)] != assess.Unknown || got[id(3)] != assess.Done {
		t.Errorf("verdicts %v", got)
	}
}

// TestInterruptedScan cancels at every page in turn: whatever was stored must be usable, nothing may be ready for lack
// of knowledge, and the next scan must come to the same as one that was never interrupted.
func TestInterruptedScan(t *testing.T) {
	t.Parallel()
	var interrupted atomic.Int32 // how far a scan has got by then is a matter of scheduling, but some must be cut off
	t.Cleanup(func() {
		if n := interrupted.Load(); n < 3 {
			t.Errorf("only %d scans were interrupted", n)
		}
	})
	want := map[string]assess.Status{id(1): assess.Ready, id(2): assess.Blocked, id(3): assess.Done, id(4): assess.Done,
		id(5): assess.Ready}
	for at := 1; at <= 30; at += 3 {
		t.Run(fmt.Sprint(at), func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, smallFleet(), baseConfig)
			ctx, cancel := context.WithCancel(t.Context())
			n := 0
			sum, err := w.app.Scan(ctx, app.ScanOptions{Progress: func(app.ScanProgress) {
				if n++; n == at {
					cancel()
				}
			}})
			if err != nil { // without one it was over before, and must be as good as any
				interrupted.Add(1)
				if !errors.Is(err, context.Canceled) || sum == nil || sum.Status != "interrupted" {
					t.Fatalf("summary %+v, error %v", sum, err)
				}
			}
			for id, status := range verdicts(t, w.app, inventory.KindInstance) {
				if status != want[id] && status != assess.Unknown {
					t.Errorf("%s is %s after the interruption", id, status)
				}
			}
			again := w.open(t, baseConfig)
			if sum := mustScan(t, again); len(sum.Gaps) > 0 {
				t.Errorf("gaps of the next scan: %v", sum.Gaps)
			}
			if got := verdicts(t, again, inventory.KindInstance); !equal(got, want) {
				t.Errorf("verdicts\n got %v\nwant %v", got, want)
			}
		})
	}
}

func mustFault(t *testing.T, w *world, f core.Fault) int {
	t.Helper()
	id, err := w.AddFault(f)
	if err != nil {
		t.Fatal(err)
	}
	return id
}
