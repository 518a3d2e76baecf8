package autoscalinggroup

import (
	"slices"
	"strings"
	"testing"

	"github.com/imdsctl/imdsctl/internal/assess"
	"github.com/imdsctl/imdsctl/internal/fleet"
	"github.com/imdsctl/imdsctl/internal/inventory"
	"github.com/imdsctl/imdsctl/internal/kind"
)

var place = fleet.Place{Partition: "aws", Account: "111122223333", Region: "eu-west-1"}

func TestProposeIsManualForLaunchConfigurations(t *testing.T) {
	for _, tt := range []struct {
		state  fleet.State
		status assess.Status
		want   int
	}{
		{fleet.State{FieldLaunchConfiguration: "old"}, assess.Ready, 1},
		{fleet.State{FieldLaunchConfiguration: "old"}, assess.Unknown, 1},
		{fleet.State{FieldLaunchConfiguration: "old"}, assess.Done, 0},
		{fleet.State{FieldLaunchConfiguration: "old"}, assess.Exempt, 0},
		{fleet.State{"LaunchTemplate.Id": "lt-01234567", "LaunchTemplate.Version": "1"}, assess.Ready, 0},
	} {
		r := &inventory.Resource{Ref: fleet.Ref{Place: place, Kind: inventory.KindAutoScaling, ID: "g"}, State: tt.state}
		needs, manuals := propose(kind.Case{Resource: r, Verdict: &assess.Verdict{Status: tt.status}})
		if len(needs) != 0 || len(manuals) != tt.want {
			t.Errorf("%v, %s: got %v and %v", tt.state, tt.status, needs, manuals)
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
