package lightsailinstance

import (
	"math"
	"slices"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/lightsail/types"

	"github.com/imdsctl/imdsctl/internal/assess"
	"github.com/imdsctl/imdsctl/internal/evidence"
	"github.com/imdsctl/imdsctl/internal/fleet"
	"github.com/imdsctl/imdsctl/internal/inventory"
	"github.com/imdsctl/imdsctl/internal/kind"
	"github.com/imdsctl/imdsctl/internal/plan"
)

var place = fleet.Place{Partition: "aws", Account: "111122223333", Region: "eu-west-1"}

func open(hop string) fleet.State {
	return fleet.State{fleet.FieldTokens: "optional", fleet.FieldEndpoint: "enabled", fleet.FieldHopLimit: hop, fleet.FieldIPv6: "disabled"}
}

func TestPropose(t *testing.T) {
	disabled := open("1").With(fleet.State{fleet.FieldEndpoint: "disabled"})
	want := fleet.Options{Tokens: fleet.TokensRequired}
	both := fleet.Options{Tokens: fleet.TokensRequired, HopLimit: 2}
	for name, tt := range map[string]struct {
		state  fleet.State
		status assess.Status
		want   fleet.Options
		stages []plan.Stage
	}{
		"ready":             {open("1"), assess.Ready, want, []plan.Stage{plan.StageFleet}},
		"hop limit first":   {open("1"), assess.Ready, both, []plan.Stage{plan.StageHopLimit, plan.StageFleet}},
		"not ready":         {open("1"), assess.Unknown, both, nil},
		"disabled endpoint": {disabled, assess.Ready, both, nil},
	} {
		t.Run(name, func(t *testing.T) {
			r := &inventory.Resource{Ref: fleet.Ref{Place: place, Kind: inventory.KindLightsail, ID: "shop"},
				Status: inventory.StatusRunning, State: tt.state}
			needs, manuals := propose(kind.Case{Resource: r, Verdict: &assess.Verdict{Status: tt.status, Want: tt.want}})
			var stages []plan.Stage
			for _, n := range needs {
				stages = append(stages, n.Stage)
			}
			if !slices.Equal(stages, tt.stages) || len(manuals) > 0 {
				t.Errorf("got %v and %v, want %v", needs, manuals, tt.stages)
			}
			if len(needs) == 2 && !slices.Equal(needs[1].After, []plan.Key{needs[0].Key()}) {
				t.Errorf("tokens come after %v", needs[1].After)
			}
		})
	}
}

func TestCommandsSendTheWholeStateAndIPv6OnlyWhereItCanBe(t *testing.T) {
	after := open("2").With(fleet.State{fleet.FieldTokens: "required"})
	w := kind.Write{Place: place, ID: "shop", Verb: VerbSetOptions, Before: open("2"), After: after}
	want := []string{"aws lightsail update-instance-metadata-options --region eu-west-1 --instance-name shop --http-tokens required " +
		"--http-put-response-hop-limit 2 --http-endpoint enabled"}
	if got := commands(w); !slices.Equal(got, want) {
		t.Errorf("got %q", got)
	}
	in, err := request(w)
	if err != nil || in.HttpProtocolIpv6 != "" || in.HttpTokens != types.HttpTokensRequired || aws.ToInt32(in.HttpPutResponseHopLimit) != 2 {
		t.Errorf("got %+v, %v", in, err)
	}
	w.Place.Region = ipv6Region
	if in, _ := request(w); in.HttpProtocolIpv6 != types.HttpProtocolIpv6Disabled || len(commands(w)) != 1 {
		t.Errorf("in %s: %+v", ipv6Region, in)
	}
	for name, bad := range map[string]kind.Write{
		"an option for a name": {Place: place, ID: "--region", Before: w.Before, After: after},
		"disabled before":      {Place: place, ID: "shop", Before: w.Before.With(fleet.State{fleet.FieldEndpoint: "disabled"}), After: after},
	} {
		if got := commands(bad); got != nil {
			t.Errorf("%s: %q", name, got)
		}
	}
}

func TestStatusAndSettling(t *testing.T) {
	d := &driver{place: place}
	for _, tt := range []struct {
		name, options string
		status        inventory.Status
		settling      bool
	}{
		{"running", "pending", inventory.StatusRunning, true}, {"running", "applied", inventory.StatusRunning, false},
		{"stopped", "pending", inventory.StatusStopped, false}, {"stopping", "applied", inventory.StatusStopped, false},
		{"terminated", "applied", inventory.StatusTerminated, false}, {"pending", "pending", inventory.StatusPending, true},
		{"something new", "applied", inventory.StatusPending, false},
	} {
		r := d.resource(&types.Instance{Name: aws.String("shop"), State: &types.InstanceState{Name: aws.String(tt.name)},
			MetadataOptions: &types.InstanceMetadataOptions{State: types.InstanceMetadataState(tt.options)}})
		if r.Status != tt.status || r.Settling != tt.settling {
			t.Errorf("%s, %s: got %s, settling %t", tt.name, tt.options, r.Status, r.Settling)
		}
	}
}

func TestDatapointsAreCountsOrErrors(t *testing.T) {
	at := time.Date(2026, 3, 2, 9, 0, 0, 0, time.UTC)
	span := evidence.NewSpan(at, 24*time.Hour, time.Hour)
	window := func() *evidence.Window {
		return evidence.NewWindow(fleet.Ref{}, evidence.SourceLightsail, evidence.MetricNoToken, span)
	}
	w := window()
	err := fill(w, []types.MetricDatapoint{{Timestamp: aws.Time(at), Sum: aws.Float64(0)},
		{Timestamp: aws.Time(at.Add(-3 * time.Hour)), Sum: aws.Float64(2.5)}})
	if err != nil || w.Total != 3 || w.Covered.Count() != 2 {
		t.Errorf("total %d of %d points, %v", w.Total, w.Covered.Count(), err)
	}
	for name, p := range map[string]types.MetricDatapoint{
		"no time": {Sum: aws.Float64(1)}, "no sum": {Timestamp: aws.Time(at)},
		"negative": {Timestamp: aws.Time(at), Sum: aws.Float64(-1)}, "nothing": {Timestamp: aws.Time(at), Sum: aws.Float64(math.NaN())},
		"outside": {Timestamp: aws.Time(at.Add(48 * time.Hour)), Sum: aws.Float64(1)},
	} {
		w := window()
		if err := fill(w, []types.MetricDatapoint{p}); err == nil || w.Covered.Count() > 0 {
			t.Errorf("%s: %d points, %v", name, w.Covered.Count(), err)
		}
	}
}
