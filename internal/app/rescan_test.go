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
	"github.com/imdsctl/imdsctl/internal/fleet"
	"github.com/imdsctl/imdsctl/internal/inventory"
	"github.com/imdsctl/imdsctl/internal/store"
)

func TestRescanRecordsChanges(t *testing.T) {
	t.Parallel()
	w := newWorld(t, webFleet(), baseConfig)
	mustScan(t, w.app)
	place, err := w.Place(shop, ireland)
	if err != nil {
		t.Fatal(err)
	}
	place.With(func(now time.Time) {
		required := ec2.LaunchSpec{Count: 1, ImageID: image, InstanceType: "m5.large"}
		if _, err := ec2.StoreOf(place).Launch(now, required); err != nil {
			t.Error(err)
		}
	})
	if _, err := w.app.Apply(t.Context(), mustPlan(t, w.app), app.ApplyOptions{Yes: true}); err != nil {
		t.Fatal(err)
	}
	mustScan(t, w.app)
	if err := w.app.Close(); err != nil {
		t.Fatal(err)
	}
	db, err := store.Open(w.db, store.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	appeared, tokens := 0, 0
	for c, err := range db.Changes(t.Context(), store.ChangeFilter{Place: place.Place, Since: 2}) {
		if err != nil {
			t.Fatal(err)
		}
		if c.Kind == store.Appeared && c.Ref.Kind == inventory.KindInstance {
			appeared++
		}
		for _, f := range c.Fields {
			if c.Ref.Kind == inventory.KindInstance && f.Field == fleet.FieldTokens && f.After == fleet.TokensRequired &&
				c.Kind == store.Changed {
				tokens++
			}
		}
	}
	if appeared != 1 || tokens != 4 {
		t.Errorf("%d instances appeared and %d changed to required, want 1 and 4", appeared, tokens)
	}
}

// TestTerminatedInstancesSpeakForTheirGroup has members that are no more: one whose v1 calls block the group, or one
// whose boot is the only one inside the window.
func TestTerminatedInstancesSpeakForTheirGroup(t *testing.T) {
	t.Parallel()
	bootConfig := strings.Replace(baseConfig, "require_boot: false", "require_boot: true", 1)
	for name, want := range map[string]assess.Status{"modern": assess.Ready, "legacy": assess.Blocked,
		"none": assess.Unknown} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			seed := webFleet()
			if name == "legacy" {
				runs(modern(`{"groups": ["web"]}`), legacy(`{"instances": ["`+id(99)+`"]}`))(seed)
			}
			w := newWorld(t, seed, bootConfig)
			place, err := w.Place(shop, ireland)
			if err != nil {
				t.Fatal(err)
			}
			place.With(func(now time.Time) {
				if name == "none" {
					return
				}
				gone, err := ec2.StoreOf(place).AddPast(now, ec2.InstanceSeed{ID: id(99), ImageID: image, Launched: now.AddDate(0,
					0, -6),
					Stopped: now.AddDate(0, 0, -5), Tags: map[string]string{"aws:autoscaling:groupName": "web"},
					Options: fleet.Options{Tokens: "optional", Endpoint: "enabled", HopLimit: 1}})
				if err == nil {
					err = autoscaling.StoreOf(place).Succeed("web", gone, now.AddDate(0, 0, -5))
				}
				if err != nil {
					t.Error(err)
				}
			})
			sum := mustScan(t, w.app)
			if name != "none" && sum.Terminated != 1 {
				t.Errorf("%d terminated instances were found, want 1", sum.Terminated)
			}
			if got := verdicts(t, w.app, inventory.KindAutoScaling)["web"]; got != want {
				t.Errorf("the group is %s, want %s", got, want)
			}
			report, err := w.app.Why(t.Context(), app.WhyOptions{Instance: id(11), Account: shop})
			if err != nil {
				t.Fatal(err)
			}
			if report.Verdict.Status != want || len(report.Gaps) > 0 || len(report.Next) == 0 {
				t.Errorf("why says %s with gaps %v and advice %v, want %s", report.Verdict.Status, report.Gaps, report.Next, want)
			}
		})
	}
}

func TestWhyExplains(t *testing.T) {
	t.Parallel()
	w := newWorld(t, webFleet(), baseConfig, func(o *app.Options) { o.DBPath = "" })
	t.Run("blocked", func(t *testing.T) {
		report, err := w.app.Why(t.Context(), app.WhyOptions{Instance: id(15), Region: ireland, Account: shop})
		if err != nil {
			t.Fatal(err)
		}
		if report.Verdict.Status != assess.Blocked || !report.Verdict.Has(assess.CodeV1Calls) ||
			report.Windows[0].Total == 0 {
			t.Errorf("%s: %s, %d calls", report.Verdict.Status, report.Verdict.Why(), report.Windows[0].Total)
		}
	})
	t.Run("with its group and template", func(t *testing.T) {
		report, err := w.app.Why(t.Context(), app.WhyOptions{Instance: id(12), Account: shop})
		if err != nil {
			t.Fatal(err)
		}
		if report.Group == nil || report.Group.Ref.ID != "web" || report.Template == nil || report.TemplateVersion != "1" ||
			report.Effective.Tokens != fleet.TokensOptional || report.Effective.HopLimit != 2 {
			t.Errorf("group %v, template %v version %q, effective %+v", report.Group, report.Template, report.TemplateVersion,
				report.Effective)
		}
	})
	t.Run("not there", func(t *testing.T) {
		_, err := w.app.Why(t.Context(), app.WhyOptions{Instance: id(404), Account: shop})
		if fleet.ClassOf(err) != fleet.ErrGone || !strings.Contains(fmt.Sprint(err), "--region") {
			t.Errorf("error %v", err)
		}
	})
}

// fleetsOfCallers has a Spot Fleet and a fleet that launched once, both from one template, each with a quiet instance and one that
// calls v1, which only its lineage tells of.
func fleetsOfCallers() *core.Seed {
	const request, once = "sfr-00000001-1111-2222-3333-444444444444", "fleet-00000001-1111-2222-3333-444444444444"
	member := func(n int, tag, name string) string {
		return instance(id(n), "optional", fmt.Sprintf(`, "template": %q, "version": 1, "tags": {%q: %q}`, template, tag, name))
	}
	return organization(
		in(shop, ireland, map[string]string{
			"ec2": strings.TrimSuffix(ec2Section(fmt.Sprintf(`{"id": %q, "name": "web", "versions": [{"data": {"ImageId": %q, "InstanceType": "m5.large",
				"MetadataOptions": {"HttpTokens": "optional"}}}]}`, template, image),
				member(1, "aws:ec2spot:fleet-request-id", request), member(2, "aws:ec2spot:fleet-request-id", request),
				member(3, "aws:ec2:fleet-id", once), instance(id(4), "optional", fmt.Sprintf(`, "template": %q, "version": 1`, template))), "}") +
				fmt.Sprintf(`, "spot_fleets": [{"id": %q, "settled": true, "config": {"Type": "maintain", "TargetCapacity": 2, "LaunchTemplateConfigs":
				[{"LaunchTemplateSpecification": {"LaunchTemplateId": %q, "Version": "1"}}]}}]}`, request, template),
		}),
		runs(modern(`{"instances": ["`+id(1)+`", "`+id(3)+`"]}`), legacy(`{"instances": ["`+id(2)+`", "`+id(4)+`"]}`)),
	)
}

// TestWhyKnowsFleets: the verdict from live calls is that of a scan, for members of a fleet that is there and of one that is not, and
// neither is ready while it cannot be read which of the two holds.
func TestWhyKnowsFleets(t *testing.T) {
	t.Parallel()
	w := newWorld(t, fleetsOfCallers(), baseConfig)
	judge := func(want assess.Status, code assess.Code) {
		t.Helper()
		mustScan(t, w.app)
		scanned := verdicts(t, w.app, inventory.KindInstance)
		for _, i := range []string{id(1), id(3)} {
			report, err := w.app.Why(t.Context(), app.WhyOptions{Instance: i, Account: shop, Region: ireland})
			if err != nil {
				t.Fatal(err)
			}
			if report.Verdict.Status != want || !report.Verdict.Has(code) || scanned[i] != want {
				t.Errorf("%s is %s (%s), and %s to a scan, want %s", i, report.Verdict.Status, report.Verdict.Why(), scanned[i], want)
			}
		}
	}
	judge(assess.Blocked, assess.CodeLineageV1Calls)
	for _, action := range []string{"DescribeFleets", "DescribeSpotFleetRequests"} {
		if _, err := w.AddFault(core.Fault{Service: "ec2", Action: action, Deny: true}); err != nil {
			t.Fatal(err)
		}
	}
	mustScan(t, w.app)
	scanned := verdicts(t, w.app, inventory.KindInstance)
	if scanned[id(1)] == assess.Ready || scanned[id(3)] != assess.Unknown {
		t.Errorf("without the fleets %s is %s and %s is %s", id(1), scanned[id(1)], id(3), scanned[id(3)])
	}
	report, err := w.app.Why(t.Context(), app.WhyOptions{Instance: id(3), Account: shop, Region: ireland})
	if err != nil {
		t.Fatal(err)
	}
	if report.Verdict.Status != assess.Unknown || len(report.Gaps) != 1 {
		t.Errorf("without the fleets %s is %s (%s), gaps %v", id(3), report.Verdict.Status, report.Verdict.Why(), report.Gaps)
	}
}

func TestDoctor(t *testing.T) {
	t.Parallel()
	w := newWorld(t, webFleet(), baseConfig)
	status := func(a *app.App, o app.DoctorOptions) map[string]app.CheckStatus {
		checks, err := a.Doctor(t.Context(), o)
		if err != nil {
			t.Fatal(err)
		}
		out := map[string]app.CheckStatus{}
		for _, c := range checks {
			if c.Status == app.CheckFailed && c.Remedy == "" {
				t.Errorf("no remedy for %+v", c)
			}
			if was := out[c.Area]; was == "" || was == app.CheckOK {
				out[c.Area] = c.Status
			}
		}
		return out
	}
	all := status(w.app, app.DoctorOptions{Accounts: []fleet.AccountID{shop}, Write: true})
	for _, area := range []string{"config", "database", "credentials", "organization", "role", "regions", "service",
		"dry-run"} {
		if all[area] != app.CheckOK {
			t.Errorf("%s is %q", area, all[area])
		}
	}
	for _, c := range w.Calls() {
		if c.Mutated && c.Service != "sts" {
			t.Errorf("doctor called %s, which changed something", c.Action)
		}
	}
	seed := webFleet()
	seed.Accounts[2].Roles = seed.Accounts[2].Roles[:1] // no role that writes
	broken := newWorld(t, seed, baseConfig)
	if got := status(broken.app, app.DoctorOptions{Accounts: []fleet.AccountID{shop},
		Write: true}); got["role"] != app.CheckFailed {
		t.Errorf("the missing role is %q", got["role"])
	}
}
