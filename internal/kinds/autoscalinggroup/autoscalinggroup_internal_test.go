package autoscalinggroup

import (
	"slices"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/autoscaling/types"

	"github.com/imdsctl/imdsctl/internal/assess"
	"github.com/imdsctl/imdsctl/internal/fleet"
	"github.com/imdsctl/imdsctl/internal/inventory"
	"github.com/imdsctl/imdsctl/internal/kind"
)

var place = fleet.Place{Partition: "aws", Account: "111122223333", Region: "eu-west-1"}

func TestProposeIsManualWhereNoOtherKindDoesIt(t *testing.T) {
	old := fleet.State{FieldLaunchConfiguration: "old"}
	managed := fleet.Owner{Type: fleet.OwnerBeanstalk, Name: "shop", Managed: true}
	for name, tt := range map[string]struct {
		state  fleet.State
		owner  fleet.Owner
		status assess.Status
		known  bool // the launch configuration was read
		want   string
	}{
		"its launch configuration is replaced":  {old, fleet.Owner{}, assess.Ready, true, ""},
		"and will be once it is ready":          {old, fleet.Owner{}, assess.Unknown, true, ""},
		"its launch configuration is not there": {old, fleet.Owner{}, assess.Ready, false, "was not found"},
		"a service operates it":                 {old, managed, assess.Blocked, true, "cannot be changed"},
		"done":                                  {old, managed, assess.Done, false, ""},
		"exempt":                                {old, fleet.Owner{}, assess.Exempt, false, ""},
		"a template": {fleet.State{"LaunchTemplate.Id": "lt-01234567", "LaunchTemplate.Version": "1"}, managed, assess.Ready,
			false, ""},
	} {
		t.Run(name, func(t *testing.T) {
			group := fleet.Ref{Place: place, Kind: inventory.KindAutoScaling, ID: "g"}
			snapshot := &inventory.Snapshot{Place: place, Resources: []inventory.Resource{{Ref: group, State: tt.state, Owner: tt.owner}}}
			if tt.known {
				snapshot.Resources = append(snapshot.Resources, inventory.Resource{Ref: group.Sibling(inventory.KindLaunchConfiguration, "old")})
			}
			needs, manuals := propose(kind.Case{
				Resource: &snapshot.Resources[0], Verdict: &assess.Verdict{Status: tt.status}, Index: inventory.NewIndex(snapshot),
			})
			if len(needs) != 0 || (len(manuals) > 0) != (tt.want != "") || len(manuals) > 0 && !strings.Contains(manuals[0].Reason, tt.want) {
				t.Errorf("got %v and %v", needs, manuals)
			}
		})
	}
}

func TestTemplateCommands(t *testing.T) {
	old := fleet.State{FieldLaunchConfiguration: "it's old"}
	patch := func(id, version string) fleet.State {
		return fleet.State{FieldLaunchConfiguration: fleet.Absent, "LaunchTemplate.Id": id, "LaunchTemplate.Version": version}
	}
	write := func(before, after fleet.State) kind.Write {
		return kind.Write{Place: place, ID: "g", Verb: VerbSetLaunchTemplate, Before: before, After: after}
	}
	moved := old.With(patch("lt-01234567", "1"))
	for name, tt := range map[string]struct {
		w    kind.Write
		want string
	}{
		"to a template": {write(old, moved), "--launch-template LaunchTemplateId=lt-01234567,Version=1"},
		"to one that the plan makes": {write(old, old.With(patch("${c-0123456789ab.TemplateId}", "1"))),
			"'LaunchTemplateId=${c-0123456789ab.TemplateId},Version=1'"},
		"and back":                    {write(moved, old), `--launch-configuration-name 'it'\''s old'`},
		"no template":                 {write(old, old.With(patch("lt-0; reboot", "1"))), ""},
		"no version":                  {write(old, old.With(patch("lt-01234567", ""))), ""},
		"a template for another":      {write(moved, moved.With(fleet.State{"LaunchTemplate.Id": "lt-89abcdef"})), ""},
		"something else changes, too": {write(old, moved.With(fleet.State{"MixedInstancesPolicy.LaunchTemplate.Id": "lt-01234567"})), ""},
		"nothing":                     {write(old, old), ""},
	} {
		got := commands(tt.w)
		if len(got) > 1 || (len(got) > 0) != (tt.want != "") || len(got) > 0 && !strings.Contains(got[0], tt.want) {
			t.Errorf("%s: got %q", name, got)
		}
	}
}

func TestOneRefreshIsToldFromAnother(t *testing.T) {
	spec := func(version string) *types.LaunchTemplateSpecification {
		return &types.LaunchTemplateSpecification{LaunchTemplateId: aws.String("lt-01234567"), Version: aws.String(version)}
	}
	group := &types.AutoScalingGroup{LaunchTemplate: spec("3")}
	for name, tt := range map[string]struct {
		desired *types.DesiredConfiguration
		want    bool
	}{
		"the same":        {&types.DesiredConfiguration{LaunchTemplate: spec("3")}, true},
		"another version": {&types.DesiredConfiguration{LaunchTemplate: spec("2")}, false},
		"none":            {nil, false},
		"a mixed policy": {&types.DesiredConfiguration{MixedInstancesPolicy: &types.MixedInstancesPolicy{
			LaunchTemplate: &types.LaunchTemplate{LaunchTemplateSpecification: spec("3")}}}, false},
	} {
		if got := sameSource(tt.desired, group); got != tt.want {
			t.Errorf("%s: %t", name, got)
		}
	}
	if !sameSource(nil, &types.AutoScalingGroup{LaunchConfigurationName: aws.String("old")}) {
		t.Error("of a launch configuration nothing can be named")
	}
	for _, s := range types.InstanceRefreshStatus("").Values() {
		ended := slices.Contains([]types.InstanceRefreshStatus{"Successful", "Failed", "Cancelled", "RollbackFailed", "RollbackSuccessful"}, s)
		if running(s) == ended {
			t.Errorf("%s runs: %t", s, running(s))
		}
	}
}

func TestCommands(t *testing.T) {
	plain := fleet.State{"LaunchTemplate.Id": "lt-0123456789abcdef0", "LaunchTemplate.Version": "$Latest"}
	mixed := fleet.State{
		"MixedInstancesPolicy.LaunchTemplate.Id": "lt-0123456789abcdef0", "MixedInstancesPolicy.LaunchTemplate.Version": "3",
		"MixedInstancesPolicy.Overrides.1.LaunchTemplate.Id":      "lt-01234567",
		"MixedInstancesPolicy.Overrides.1.LaunchTemplate.Version": "$Default",
	}
	tests := []struct {
		name          string
		before, patch fleet.State
		want          []string // parts of the one command; none for no command
	}{
		{"plain", plain, fleet.State{"LaunchTemplate.Version": "5"}, []string{
			"--auto-scaling-group-name 'it'\\''s' --launch-template LaunchTemplateId=lt-0123456789abcdef0,Version=5",
		}},
		{"back to $Latest", plain.With(fleet.State{"LaunchTemplate.Version": "5"}),
			fleet.State{"LaunchTemplate.Version": "$Latest"},
			[]string{"'LaunchTemplateId=lt-0123456789abcdef0,Version=$Latest'"}},
		{"an output of the plan", plain, fleet.State{"LaunchTemplate.Version": "${c-0123456789ab.Version}"},
			[]string{"Version=${c-0123456789ab.Version}'"}},
		{"mixed", mixed, fleet.State{"MixedInstancesPolicy.Overrides.1.LaunchTemplate.Version": "7"}, []string{
			"--mixed-instances-policy \"$(aws autoscaling describe-auto-scaling-groups",
			"'del(..|.LaunchTemplateName?)|.LaunchTemplate.Overrides[1].LaunchTemplateSpecification.Version=\"7\"'",
		}},
		{"no version", plain, fleet.State{"LaunchTemplate.Version": "5; reboot"}, nil},
		{"another template", plain, fleet.State{"LaunchTemplate.Id": "lt-01234567"}, nil},
		{"nothing", plain, nil, nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got := commands(kind.Write{
				Place: place, ID: "it's", Verb: VerbSetLaunchVersion, Before: tt.before, After: tt.before.With(tt.patch),
			})
			if len(tt.want) == 0 && len(got) != 0 || len(tt.want) > 0 && len(got) != 1 {
				t.Fatalf("got %q", got)
			}
			for _, part := range tt.want {
				if !strings.Contains(got[0], part) {
					t.Errorf("got %s\nwithout %s", got[0], part)
				}
			}
		})
	}
}

func TestParseActivity(t *testing.T) {
	tests := []struct {
		description, id string
		launched, ok    bool
	}{
		{"Launching a new EC2 instance: i-0123456789abcdef0", "i-0123456789abcdef0", true, true},
		{"Terminating EC2 instance: i-01234567", "i-01234567", false, true},
		{"Terminating EC2 instance: i-01234567 - Termination of a warm instance", "i-01234567", false, true},
		{"Launching a new EC2 instance.  Status Reason: no capacity", "", false, false},
		{"Attaching an existing EC2 instance: i-01234567", "", false, false},
		{"", "", false, false},
	}
	for _, tt := range tests {
		id, launched, ok := parseActivity(tt.description)
		if id != tt.id || launched != tt.launched || ok != tt.ok {
			t.Errorf("%q: got %q, %t, %t", tt.description, id, launched, ok)
		}
	}
}

func FuzzParseActivity(f *testing.F) {
	f.Add("Launching a new EC2 instance: i-0123456789abcdef0")
	f.Add("Terminating EC2 instance: i-01234567, because")
	f.Fuzz(func(t *testing.T, s string) {
		id, launched, ok := parseActivity(s)
		if ok && (!strings.HasPrefix(id, "i-") || !strings.Contains(s, id)) {
			t.Errorf("%q gave %q", s, id)
		}
		if !ok && (id != "" || launched) {
			t.Errorf("%q gave %q without ok", s, id)
		}
	})
}

func FuzzOverrideIndex(f *testing.F) {
	f.Add("MixedInstancesPolicy.Overrides.12.LaunchTemplate.Version")
	f.Add("MixedInstancesPolicy.Overrides.-1.LaunchTemplate.Version")
	f.Add("LaunchTemplate.Version")
	f.Fuzz(func(t *testing.T, field string) {
		n, ok := overrideIndex(field)
		if ok && n < 0 {
			t.Errorf("%q gave %d", field, n)
		}
	})
	for _, n := range []int{0, 7, 19} {
		if got, ok := overrideIndex(overridePrefix(n) + suffixVersion); !ok || got != n {
			f.Errorf("%d came back as %d, %t", n, got, ok)
		}
	}
}

func TestChangedVersions(t *testing.T) {
	s := fleet.State{"LaunchTemplate.Id": "lt-01234567", "LaunchTemplate.Version": "1"}
	got := changedVersions(kind.Write{Before: s, After: s.With(fleet.State{"LaunchTemplate.Version": "2"})})
	if !slices.Equal(got, []string{"LaunchTemplate.Version"}) {
		t.Errorf("got %q", got)
	}
	gone := s.With(fleet.State{"LaunchTemplate.Version": fleet.Absent})
	if got := changedVersions(kind.Write{Before: s, After: gone}); got != nil {
		t.Errorf("a removed version gave %q", got)
	}
}
