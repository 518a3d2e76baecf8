package assess_test

import (
	"strings"
	"testing"
	"time"

	"github.com/imdsctl/imdsctl/internal/assess"
	"github.com/imdsctl/imdsctl/internal/evidence"
	"github.com/imdsctl/imdsctl/internal/fleet"
	"github.com/imdsctl/imdsctl/internal/inventory"
	"github.com/imdsctl/imdsctl/internal/policy"
)

// TestGapOfOneSourceIsNotThatOfAnother has an EC2 and a Lightsail instance, both quiet and covered: what keeps one source
// from being read says nothing about the other's hosts, and neither does the listing of the other kind.
func TestGapOfOneSourceIsNotThatOfAnother(t *testing.T) {
	gap := &inventory.Scope{Place: place, Status: inventory.ScopeGap, Class: fleet.ErrDenied, Detail: "no permission"}
	unlisted := func(kind string) []inventory.Scope {
		return []inventory.Scope{{Place: place, Kind: kind, Status: inventory.ScopeGap, Class: fleet.ErrThrottled, Detail: "slow"}}
	}
	for name, tt := range map[string]struct {
		cloudWatch, lightsail *inventory.Scope
		scopes                []inventory.Scope
		instance, virtual     assess.Status
		says                  string
	}{
		"both read":         {instance: assess.Ready, virtual: assess.Ready},
		"CloudWatch denied": {cloudWatch: gap, instance: assess.Unknown, virtual: assess.Ready, says: "CloudWatch could not be read"},
		"Lightsail denied":  {lightsail: gap, instance: assess.Ready, virtual: assess.Unknown, says: "Lightsail's metric could not be read"},
		"instances not listed": {scopes: append(unlisted(inventory.KindInstance), read(inventory.KindLightsail)),
			instance: assess.Unknown, virtual: assess.Ready, says: "ec2-instance could not be read"},
		"excluded": {scopes: []inventory.Scope{read(inventory.KindInstance), {Kind: inventory.KindLightsail, Status: inventory.ScopeExcluded}},
			instance: assess.Ready, virtual: assess.Unknown, says: "lightsail-instance was not read"},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld()
			i := w.instance("i-1", 13.9)
			v := ref(inventory.KindLightsail, "shop")
			w.resources = append(w.resources, inventory.Resource{Ref: v, Status: inventory.StatusRunning, Launched: now.Add(-13 * 24 * time.Hour),
				State: fleet.Options{Tokens: "optional", Endpoint: "enabled", HopLimit: 1}.State()})
			w.covers(i, 14, 0, 0)
			w.covers(v, 14, 0, 0)
			config, _ := policy.Parse([]byte("version: 1"), "imdsctl.yaml", nil)
			in := assess.Input{Manners: manners(), Snapshot: &inventory.Snapshot{Place: place, Resources: w.resources, Scopes: tt.scopes},
				Evidence: w.evidence, EvidenceGap: tt.cloudWatch, Span: span, Policy: config, Now: now,
				SourceGaps: map[evidence.Source]*inventory.Scope{}}
			in.Manners[inventory.KindLightsail] = assess.Manner{Role: assess.RoleHost, Metric: true, Source: evidence.SourceLightsail}
			if tt.lightsail != nil {
				in.SourceGaps[evidence.SourceLightsail] = tt.lightsail
			}
			report := assess.Place(in)
			for ref, want := range map[fleet.Ref]assess.Status{i: tt.instance, v: tt.virtual} {
				verdict := report.Verdict(ref)
				if verdict.Status != want || want == assess.Unknown && !strings.Contains(verdict.Why(), tt.says) {
					t.Errorf("%s is %s (%s), want %s", ref.ID, verdict.Status, verdict.Why(), want)
				}
			}
			if b := report.Verdict(v).Basis; b.Source != evidence.SourceLightsail {
				t.Errorf("its basis is of %s", b.Source)
			}
		})
	}
}

func read(kind string) inventory.Scope {
	return inventory.Scope{Place: place, Kind: kind, Status: inventory.ScopeComplete}
}
