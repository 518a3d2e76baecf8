package ec2fleet

import (
	"reflect"
	"slices"
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

const id = "fleet-00000001-0000-4000-8000-000000000001"

func data(of types.FleetType, versions ...string) *types.FleetData {
	f := &types.FleetData{FleetId: aws.String(id), Type: of, FleetState: types.FleetStateCodeActive}
	for _, v := range versions {
		f.LaunchTemplateConfigs = append(f.LaunchTemplateConfigs, types.FleetLaunchTemplateConfig{
			LaunchTemplateSpecification: &types.FleetLaunchTemplateSpecification{
				LaunchTemplateId: aws.String("lt-00000000000000001"), LaunchTemplateName: aws.String("web"), Version: aws.String(v),
			},
		})
	}
	return f
}

func TestWhichLinksCanBeWritten(t *testing.T) {
	d := &driver{place: place}
	placed := data(types.FleetTypeMaintain, "1")
	placed.LaunchTemplateConfigs[0].Overrides = []types.FleetLaunchTemplateOverrides{
		{Placement: &types.PlacementResponse{GroupName: aws.String("rack")}},
	}
	unnamed := data("", "1")
	for _, tt := range []struct {
		name     string
		fleet    *types.FleetData
		writable bool
	}{
		{"maintain", data(types.FleetTypeMaintain, "1"), true},
		{"maintain, by default", unnamed, true},
		{"request", data(types.FleetTypeRequest, "1"), false},
		{"what could not be set back", data(types.FleetTypeMaintain, "$Latest"), false},
		{"with a placement", placed, false},
	} {
		r := d.resource(tt.fleet, nil)
		if l, ok := r.Link(inventory.LaunchesFrom); !ok || (l.Field != "") != tt.writable {
			t.Errorf("%s: got %+v, %q", tt.name, l, r.Attrs[attrFixed])
		}
	}
}

// fill sets everything that can be set in a value, so that what a copy leaves out can be told.
func fill(v reflect.Value) {
	switch v.Kind() {
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		fill(v.Elem())
	case reflect.Struct:
		for i := range v.NumField() {
			if v.Type().Field(i).IsExported() {
				fill(v.Field(i))
			}
		}
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), 1, 1))
		fill(v.Index(0))
	case reflect.String:
		v.SetString("text of " + v.Type().Name())
	case reflect.Int32:
		v.SetInt(7)
	case reflect.Float64:
		v.SetFloat(1.5)
	case reflect.Bool:
		v.SetBool(true)
	}
}

// lost names the fields that are set in a value and not, under the same name, in its copy.
func lost(path string, from, to reflect.Value) []string {
	switch from.Kind() {
	case reflect.Pointer:
		if to.IsNil() {
			return []string{path}
		}
		return lost(path, from.Elem(), to.Elem())
	case reflect.Slice:
		if to.Len() != from.Len() {
			return []string{path}
		}
		return lost(path+"[0]", from.Index(0), to.Index(0))
	case reflect.Struct:
		var out []string
		for i := range from.NumField() {
			f := from.Type().Field(i)
			if !f.IsExported() {
				continue
			}
			copied := to.FieldByName(f.Name)
			if !copied.IsValid() {
				out = append(out, path+"."+f.Name)
				continue
			}
			out = append(out, lost(path+"."+f.Name, from.Field(i), copied)...)
		}
		return out
	}
	if !reflect.DeepEqual(from.Interface(), to.Interface()) {
		return []string{path}
	}
	return nil
}

// TestNothingIsLost holds the request against everything that EC2 tells of a fleet's configurations: what a modification
// leaves out is gone. A field that a later SDK adds fails here.
func TestNothingIsLost(t *testing.T) {
	var f types.FleetData
	fill(reflect.ValueOf(&f).Elem())
	in := request(&f, state(&f, nil))
	got := append(lost("Configs", reflect.ValueOf(f.LaunchTemplateConfigs), reflect.ValueOf(in.LaunchTemplateConfigs)),
		lost("Capacity", reflect.ValueOf(f.TargetCapacitySpecification), reflect.ValueOf(in.TargetCapacitySpecification))...)
	want := []string{
		"Configs[0].LaunchTemplateSpecification.LaunchTemplateName", // the id names it
		"Configs[0].Overrides[0].Placement",                         // such a fleet is not written
	}
	slices.Sort(got)
	if !slices.Equal(got, want) {
		t.Errorf("left out: %q, not %q", got, want)
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
		fleet  *types.FleetData
		status assess.Status
		manual bool
	}{
		{"an open number", data(types.FleetTypeRequest, "$Default", "1"), assess.Ready, true},
		{"a closed number", data(types.FleetTypeRequest, "2"), assess.Ready, false},
		{"moves with its template", data(types.FleetTypeRequest, "$Latest"), assess.Ready, false},
		{"can be written", data(types.FleetTypeMaintain, "1"), assess.Ready, false},
		{"not ready", data(types.FleetTypeRequest, "1"), assess.Blocked, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := d.resource(tt.fleet, nil)
			needs, manuals := propose(kind.Case{Resource: &r, Verdict: &assess.Verdict{Status: tt.status}, Index: index})
			if len(needs) > 0 || len(manuals) > 0 != tt.manual {
				t.Fatalf("got %v and %v", needs, manuals)
			}
			if tt.manual && !strings.Contains(manuals[0].Remedy, "aws ec2 delete-fleets --region eu-west-1 --fleet-ids "+id) {
				t.Errorf("remedy: %s", manuals[0].Remedy)
			}
		})
	}
}

func TestCommands(t *testing.T) {
	before := fleet.State{"LaunchTemplateConfigs.0.LaunchTemplateId": "lt-00000000000000001", "LaunchTemplateConfigs.0.Version": "$Default"}
	w := kind.Write{Place: place, ID: id, Verb: VerbSetLaunchVersion, Before: before,
		After: before.With(fleet.State{"LaunchTemplateConfigs.0.Version": "${c-0123456789ab.Version}"})}
	got := commands(w)
	if len(got) != 1 || !strings.HasPrefix(got[0], "aws ec2 modify-fleet --region eu-west-1 --fleet-id "+id) ||
		!strings.Contains(got[0], `.[0].LaunchTemplateSpecification.Version="${c-0123456789ab.Version}"`) ||
		!strings.Contains(got[0], "--target-capacity-specification") {
		t.Errorf("got %q", got)
	}
	for name, bad := range map[string]kind.Write{
		"an id that is none": {ID: "fleet-1; reboot", Before: w.Before, After: w.After},
		"a version that is none": {ID: id, Before: before,
			After: before.With(fleet.State{"LaunchTemplateConfigs.0.Version": `1"; reboot`})},
		"another template": {ID: id, Before: before,
			After: before.With(fleet.State{"LaunchTemplateConfigs.0.LaunchTemplateId": "lt-00000000000000002"})},
		"what EC2 would make a number of": {ID: id, Before: before,
			After: before.With(fleet.State{"LaunchTemplateConfigs.0.Version": "$Latest"})},
		"nothing": {ID: id, Before: before, After: before},
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
