package app_test

import (
	"testing"

	"github.com/imdsctl/imdsctl/internal/app"
	"github.com/imdsctl/imdsctl/internal/assess"
	"github.com/imdsctl/imdsctl/internal/awssim/core"
	"github.com/imdsctl/imdsctl/internal/evidence"
	"github.com/imdsctl/imdsctl/internal/fleet"
	"github.com/imdsctl/imdsctl/internal/inventory"
)

// lightsailFleet has three Lightsail instances beside one of EC2: quiet and made inside the window, calling, done.
func lightsailFleet() *core.Seed {
	section := `{"instances": [
		{"name": "quiet", "created": "` + start.AddDate(0, 0, -14).Format("2006-01-02T15:04:05Z") + `"},
		{"name": "busy"}, {"name": "done", "options": {"tokens": "required"}}]}`
	s := organization(
		in(payments, ireland, map[string]string{"ec2": ec2Section("", instance(id(1), "optional", "")), "lightsail": section}),
		runs(modern(`{"instances": ["`+id(1)+`", "quiet"]}`), legacy(`{"instances": ["busy"]}`)),
	)
	return s
}

// TestLightsailIsJudgedByItsOwnMetric scans a fleet with Lightsail instances, whose metric costs nothing, denies it once, and
// takes the service away from a region.
func TestLightsailIsJudgedByItsOwnMetric(t *testing.T) {
	t.Parallel()
	w := newWorld(t, lightsailFleet(), baseConfig)
	if err := w.SetNotOffered("lightsail", virginia); err != nil {
		t.Fatal(err)
	}
	sum := mustScan(t, w.app)
	if len(sum.Gaps) > 0 || sum.NotOffered == 0 {
		t.Fatalf("gaps %+v, not offered %d", sum.Gaps, sum.NotOffered)
	}
	if sum.Asked.Instances != 1 || sum.OwnMetrics[evidence.SourceLightsail] != 3 {
		t.Errorf("asked CloudWatch of %d and Lightsail of %d", sum.Asked.Instances, sum.OwnMetrics[evidence.SourceLightsail])
	}
	want := map[string]assess.Status{"quiet": assess.Ready, "busy": assess.Blocked, "done": assess.Done}
	if got := verdicts(t, w.app, inventory.KindLightsail); !equal(got, want) {
		t.Errorf("verdicts\n got %v\nwant %v", got, want)
	}
	status, err := w.app.Status(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if status.NotOffered[inventory.KindLightsail] != sum.NotOffered || len(status.Gaps) > 0 {
		t.Errorf("status says %v, gaps %v", status.NotOffered, status.Gaps)
	}
	if _, err := w.AddFault(core.Fault{Service: "lightsail", Action: "GetInstanceMetricData", Deny: true}); err != nil {
		t.Fatal(err)
	}
	sum = mustScan(t, w.app)
	if len(sum.Gaps) != 1 || sum.Gaps[0].Kind != string(evidence.SourceLightsail) || sum.Gaps[0].Class != fleet.ErrDenied {
		t.Errorf("gaps %+v", sum.Gaps)
	}
	if got := verdicts(t, w.app, inventory.KindLightsail)["quiet"]; got != assess.Unknown {
		t.Errorf("without its metric the quiet one is %s", got)
	}
	if got := verdicts(t, w.app, inventory.KindInstance)[id(1)]; got != assess.Ready {
		t.Errorf("the EC2 instance is %s", got)
	}
}

func TestWhyExplainsALightsailInstance(t *testing.T) {
	t.Parallel()
	w := newWorld(t, lightsailFleet(), baseConfig)
	for name, want := range map[string]assess.Status{"quiet": assess.Ready, "busy": assess.Blocked} {
		report, err := w.app.Why(t.Context(), app.WhyOptions{Instance: name, Kind: inventory.KindLightsail, Account: payments,
			Region: ireland})
		if err != nil {
			t.Fatal(err)
		}
		if report.Verdict.Status != want || len(report.Gaps) > 0 || len(report.Windows) != 1 {
			t.Errorf("%s is %s (%s), gaps %v", name, report.Verdict.Status, report.Verdict.Why(), report.Gaps)
		}
	}
	_, err := w.app.Why(t.Context(), app.WhyOptions{Instance: "lab", Kind: inventory.KindNotebook, Account: payments, Region: ireland})
	if err == nil {
		t.Error("a notebook instance was explained")
	}
}
