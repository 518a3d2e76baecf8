package spotfleet

import (
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"

	"github.com/imdsctl/imdsctl/internal/assess"
	"github.com/imdsctl/imdsctl/internal/fleet"
	"github.com/imdsctl/imdsctl/internal/inventory"
	"github.com/imdsctl/imdsctl/internal/kind"
)

var place = fleet.Place{Partition: "aws", Account: "111122223333", Region: "eu-west-1"}

const id = "sfr-00000001-0000-4000-8000-000000000001"

func config(of types.FleetType, version string) *types.SpotFleetRequestConfig {
	return &types.SpotFleetRequestConfig{
		SpotFleetRequestId: aws.String(id), SpotFleetRequestState: types.BatchStateActive,
		SpotFleetRequestConfig: &types.SpotFleetRequestConfigData{
			Type: of, LaunchTemplateConfigs: []types.LaunchTemplateConfig{{
				LaunchTemplateSpecification: &types.FleetLaunchTemplateSpecification{
					LaunchTemplateId: aws.String("lt-00000000000000001"), Version: aws.String(version),
				},
				Overrides: []types.LaunchTemplateOverrides{{InstanceType: types.InstanceTypeC5Large}},
			}},
		},
	}
}

func specified() *types.SpotFleetRequestConfig {
	f := config(types.FleetTypeMaintain, "1")
	f.SpotFleetRequestConfig.LaunchTemplateConfigs = nil
	f.SpotFleetRequestConfig.LaunchSpecifications = []types.SpotFleetLaunchSpecification{
		{ImageId: aws.String("ami-0123456789abcdef0")}, {ImageId: aws.String("ami-0123456789abcdef1")},
	}
	return f
}

func TestLaunchSpecificationsSayNothing(t *testing.T) {
	d := &driver{place: place}
	r := d.resource(specified(), nil)
	if r.Says == nil || *r.Says != (fleet.Options{}) || len(r.Links) > 0 ||
		r.Attrs[inventory.AttrImage] != "ami-0123456789abcdef0" || r.Attrs[inventory.AttrImage+"/1"] != "ami-0123456789abcdef1" {
		t.Errorf("got %+v", r)
	}
	if r := d.resource(config(types.FleetTypeMaintain, "1"), nil); r.Says != nil || len(r.Links) != 1 {
		t.Errorf("a request with a template: %+v", r)
	}
}

func TestPropose(t *testing.T) {
	template := inventory.Resource{
		Ref: fleet.Ref{Place: place, Kind: inventory.KindLaunchTemplate, ID: "lt-00000000000000001"}, Name: "web",
		Launch: map[string]fleet.Options{"1": {}, "2": {Tokens: fleet.TokensRequired}},
	}
	index := inventory.NewIndex(&inventory.Snapshot{Resources: []inventory.Resource{template}})
	d := &driver{place: place}
	for _, tt := range []struct {
		name   string
		fleet  *types.SpotFleetRequestConfig
		status assess.Status
		remedy string // "" for none
	}{
		{"inline, ready", specified(), assess.Ready, `create-launch-template`},
		{"inline, blocked", specified(), assess.Blocked, `"ImageId":"ami-0123456789abcdef0"`},
		{"inline, done by the account", specified(), assess.Done, ""},
		{"inline, exempt", specified(), assess.Exempt, ""},
		{"an open number", config(types.FleetTypeRequest, "1"), assess.Ready, "cancel-spot-fleet-requests"},
		{"a closed number", config(types.FleetTypeRequest, "2"), assess.Ready, ""},
		{"moves with its template", config(types.FleetTypeRequest, "$Default"), assess.Ready, ""},
		{"can be written", config(types.FleetTypeMaintain, "1"), assess.Ready, ""},
		{"not ready", config(types.FleetTypeRequest, "1"), assess.Unknown, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := d.resource(tt.fleet, nil)
			needs, manuals := propose(kind.Case{Resource: &r, Verdict: &assess.Verdict{Status: tt.status}, Index: index})
			if len(needs) > 0 || len(manuals) > 0 != (tt.remedy != "") {
				t.Fatalf("got %v and %v", needs, manuals)
			}
			if tt.remedy != "" && !strings.Contains(manuals[0].Remedy, tt.remedy) {
				t.Errorf("remedy: %s", manuals[0].Remedy)
			}
		})
	}
}

func TestConfigurationsAreSentWhole(t *testing.T) {
	from := config(types.FleetTypeMaintain, "1").SpotFleetRequestConfig.LaunchTemplateConfigs
	from[0].LaunchTemplateSpecification.LaunchTemplateName = aws.String("web")
	got := sendable(from, fleet.State{versionField(0): "3"})
	spec := got[0].LaunchTemplateSpecification
	if aws.ToString(spec.Version) != "3" || spec.LaunchTemplateName != nil || len(got[0].Overrides) != 1 {
		t.Errorf("got %+v", got)
	}
	if aws.ToString(from[0].LaunchTemplateSpecification.Version) != "1" {
		t.Error("what was read was changed")
	}
}

func TestCommands(t *testing.T) {
	before := fleet.State{"LaunchTemplateConfigs.0.LaunchTemplateId": "lt-00000000000000001", "LaunchTemplateConfigs.0.Version": "$Default"}
	w := kind.Write{Place: place, ID: id, Verb: VerbSetLaunchVersion, Before: before,
		After: before.With(fleet.State{"LaunchTemplateConfigs.0.Version": "7"})}
	got := commands(w)
	if len(got) != 1 || !strings.HasPrefix(got[0], "aws ec2 modify-spot-fleet-request --region eu-west-1 --spot-fleet-request-id "+id) ||
		!strings.Contains(got[0], `.[0].LaunchTemplateSpecification.Version="7"`) {
		t.Errorf("got %q", got)
	}
	for name, bad := range map[string]kind.Write{
		"an id that is none":     {ID: "sfr-1; reboot", Before: w.Before, After: w.After},
		"a version that is none": {ID: id, Before: before, After: before.With(fleet.State{"LaunchTemplateConfigs.0.Version": `1"; x`})},
		"an image": {ID: id, Before: fleet.State{"LaunchSpecifications.0.ImageId": "ami-1"},
			After: fleet.State{"LaunchSpecifications.0.ImageId": "ami-2"}},
	} {
		if got := commands(bad); got != nil {
			t.Errorf("%s gave %q", name, got)
		}
	}
}

func FuzzConfigIndex(f *testing.F) {
	f.Add("LaunchTemplateConfigs.0.Version")
	f.Add("LaunchTemplateConfigs.12.Version")
	f.Add("LaunchTemplateConfigs.+1.Version")
	f.Add("LaunchTemplateConfigs..Version")
	f.Fuzz(func(t *testing.T, field string) {
		if n, ok := configIndex(field); ok && versionField(n) != field {
			t.Errorf("%q was read as %d", field, n)
		}
	})
}
