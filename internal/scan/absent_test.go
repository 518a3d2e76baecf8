package scan_test

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/imdsctl/imdsctl/internal/evidence"
	"github.com/imdsctl/imdsctl/internal/fleet"
	"github.com/imdsctl/imdsctl/internal/inventory"
	"github.com/imdsctl/imdsctl/internal/policy"
	"github.com/imdsctl/imdsctl/internal/scan"
)

// counted is a lister of a kind whose service counts v1 calls itself.
type counted struct {
	lister
	history
}

func nameless(p fleet.Place) error {
	return &fleet.CallError{Class: fleet.ErrNotOffered, Place: p, Action: "lightsail:GetInstances", Err: errors.New("no such host")}
}

func lightsail(p fleet.Place, ids ...string) []inventory.Resource {
	var out []inventory.Resource
	for _, id := range ids {
		out = append(out, inventory.Resource{Ref: fleet.Ref{Place: p, Kind: inventory.KindLightsail, ID: id}})
	}
	return out
}

func TestServiceWithoutEndpointIsNoGapWhereAWSAnswers(t *testing.T) {
	for name, tt := range map[string]struct {
		instances error
		before    int // resources that the service itself has told of
		want      inventory.ScopeStatus
		gaps      int
	}{
		"AWS answers":  {nil, 0, inventory.ScopeNotOffered, 0},
		"no network":   {nameless(fleet.Place{}), 0, inventory.ScopeGap, 4},
		"AWS does not": {&fleet.CallError{Class: fleet.ErrTransient, Err: errors.New("timeout")}, 0, inventory.ScopeGap, 4},
		"it was there": {nil, 1, inventory.ScopeGap, 2},
	} {
		t.Run(name, func(t *testing.T) {
			m := newMemory()
			f := &accounts{ids: []fleet.AccountID{"111111111111"}, open: func(p fleet.Place) scan.Place {
				return scan.Place{Kinds: []scan.Reader{
					{Kind: inventory.KindLightsail, Driver: &lister{resources: lightsail(p, "shop")[:tt.before], err: nameless(p)}},
					{Kind: inventory.KindInstance, Driver: &lister{resources: instances(p, 1), err: tt.instances}},
				}}
			}}
			o := options(f, m)
			o.Source = ""
			sum := mustRun(t, o)
			if len(sum.Gaps) != tt.gaps || (tt.want == inventory.ScopeNotOffered) != (sum.NotOffered == 2) {
				t.Errorf("%d gaps and %d not offered: %+v", len(sum.Gaps), sum.NotOffered, sum.Gaps)
			}
			sc := m.scopes["aws/111111111111/eu-west-1 "+inventory.KindLightsail]
			if sc.Status != tt.want || sc.Class != fleet.ErrNotOffered {
				t.Errorf("scope %+v, want %s", sc, tt.want)
			}
		})
	}
}

func TestExcludedKindIsNotReadAndSaysSo(t *testing.T) {
	m := newMemory()
	f := &accounts{ids: []fleet.AccountID{"111111111111"}, open: func(p fleet.Place) scan.Place {
		return scan.Place{Kinds: []scan.Reader{
			{Kind: inventory.KindLightsail, Driver: &lister{before: func(context.Context) error {
				t.Error("an excluded kind was read")
				return nil
			}}},
			{Kind: inventory.KindInstance, Driver: &lister{resources: instances(p, 1)}},
		}}
	}}
	o := options(f, m)
	config, problems := policy.Parse([]byte("inventory: {exclude_kinds: [lightsail-instance]}"), "test", nil)
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	o.Config, o.Source = config, ""
	sum := mustRun(t, o)
	sc := m.scopes["aws/111111111111/eu-west-1 "+inventory.KindLightsail]
	if sc.Status != inventory.ScopeExcluded || len(sum.Gaps) > 0 || sum.Excluded != 2 {
		t.Errorf("scope %+v, summary %+v", sc, sum)
	}
	snap := inventory.Snapshot{Scopes: []inventory.Scope{sc}}
	if _, gap := snap.Gap(inventory.KindLightsail); gap || snap.Read(inventory.KindLightsail) {
		t.Error("an excluded kind must be neither a gap nor read")
	}
}

// TestOwnMetricIsItsOwnScope reads a kind's own metric beside CloudWatch's: each that fails is a gap of its own, and neither
// the ceiling nor the cost of CloudWatch knows of the other.
func TestOwnMetricIsItsOwnScope(t *testing.T) {
	denied := &fleet.CallError{Class: fleet.ErrDenied, Action: "lightsail:GetInstanceMetricData", Err: errors.New("no")}
	for name, tt := range map[string]struct {
		ceiling            float64
		own, cloudWatch    error
		gaps               string
		asked, askedMetric int64
	}{
		"both":              {asked: 4, askedMetric: 4},
		"denied":            {own: denied, gaps: "lightsail lightsail", asked: 4, askedMetric: 4},
		"CloudWatch denied": {cloudWatch: denied, gaps: "cloudwatch cloudwatch", asked: 4, askedMetric: 4},
		"too expensive":     {ceiling: 1, asked: 0, askedMetric: 4},
	} {
		t.Run(name, func(t *testing.T) {
			m := newMemory()
			f := &accounts{ids: []fleet.AccountID{"111111111111"}, open: func(p fleet.Place) scan.Place {
				return scan.Place{Evidence: &history{err: tt.cloudWatch}, Kinds: []scan.Reader{
					{Kind: inventory.KindInstance, Driver: &lister{resources: instances(p, 2)}},
					{Kind: inventory.KindLightsail, Source: evidence.SourceLightsail,
						Driver: &counted{lister{resources: lightsail(p, "shop", "blog")}, history{err: tt.own}}},
				}}
			}}
			o := options(f, m)
			o.Ceiling = tt.ceiling
			sum := mustRun(t, o)
			var gaps []string
			for _, g := range sum.Gaps {
				gaps = append(gaps, g.Kind)
			}
			if got := strings.Join(gaps, " "); got != tt.gaps {
				t.Errorf("gaps of %q, want %q", got, tt.gaps)
			}
			if sum.Cost.Instances != 4 || sum.Asked.Instances != tt.asked || sum.OwnMetrics[evidence.SourceLightsail] != tt.askedMetric {
				t.Errorf("estimated %+v, asked %+v and %v", sum.Cost, sum.Asked, sum.OwnMetrics)
			}
			if tt.own == nil && m.scopes["aws/111111111111/us-east-1 lightsail"].Status != inventory.ScopeComplete {
				t.Errorf("scopes %+v", m.scopes)
			}
		})
	}
}
