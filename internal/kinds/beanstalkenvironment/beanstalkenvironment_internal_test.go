package beanstalkenvironment

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/elasticbeanstalk/types"

	"github.com/imdsctl/imdsctl/internal/assess"
	"github.com/imdsctl/imdsctl/internal/fleet"
	"github.com/imdsctl/imdsctl/internal/inventory"
	"github.com/imdsctl/imdsctl/internal/kind"
	"github.com/imdsctl/imdsctl/internal/plan"
)

var place = fleet.Place{Partition: "aws", Account: "111122223333", Region: "eu-west-1"}

func TestPropose(t *testing.T) {
	required := fleet.Options{Tokens: fleet.TokensRequired}
	twoHops := fleet.Options{Tokens: fleet.TokensRequired, HopLimit: 2}
	for name, tt := range map[string]struct {
		says           fleet.Options
		verdict        assess.Verdict
		needs, manuals int
	}{
		"ready":         {fleet.Options{Tokens: fleet.TokensOptional}, assess.Verdict{Status: assess.Ready, Want: required}, 1, 0},
		"unknown":       {fleet.Options{Tokens: fleet.TokensOptional}, assess.Verdict{Status: assess.Unknown, Want: required}, 0, 0},
		"blocked":       {fleet.Options{Tokens: fleet.TokensOptional}, assess.Verdict{Status: assess.Blocked, Want: required}, 0, 0},
		"done":          {required, assess.Verdict{Status: assess.Done}, 0, 0},
		"a hop limit":   {fleet.Options{Tokens: fleet.TokensOptional}, assess.Verdict{Status: assess.Ready, Want: twoHops}, 1, 1},
		"only hops":     {required, assess.Verdict{Status: assess.Ready, Want: twoHops}, 0, 1},
		"nothing wants": {fleet.Options{Tokens: fleet.TokensOptional}, assess.Verdict{Status: assess.Ready}, 0, 0},
	} {
		r := &inventory.Resource{
			Ref:   fleet.Ref{Place: place, Kind: inventory.KindBeanstalk, ID: "e-aaaaaaaaa1"},
			State: fleet.State{FieldDisableV1: "false"}, Says: &tt.says,
		}
		needs, manuals := propose(kind.Case{Resource: r, Verdict: &tt.verdict})
		if len(needs) != tt.needs || len(manuals) != tt.manuals {
			t.Errorf("%s: got %+v and %+v", name, needs, manuals)
		}
		for _, n := range needs {
			if n.Class != plan.ClassStart || n.Patch[FieldDisableV1] != "true" || !slices.Contains(n.For, r.Ref) {
				t.Errorf("%s: got %+v", name, n)
			}
		}
		for _, m := range manuals {
			if !strings.Contains(m.Reason, "hop limit 2") || !strings.Contains(m.Remedy, "HttpPutResponseHopLimit: 2") {
				t.Errorf("%s: got %+v", name, m)
			}
		}
	}
}

func TestCommands(t *testing.T) {
	off, on := fleet.State{FieldDisableV1: "false"}, fleet.State{FieldDisableV1: "true"}
	const begin = "aws elasticbeanstalk update-environment --region eu-west-1 --environment-id e-aaaaaaaaa1 "
	for name, tt := range map[string]struct {
		id            string
		before, after fleet.State
		want          string
	}{
		"set": {"e-aaaaaaaaa1", off, on, begin +
			"--option-settings Namespace=aws:autoscaling:launchconfiguration,OptionName=DisableIMDSv1,Value=true"},
		"remove": {"e-aaaaaaaaa1", on, fleet.State{}, begin +
			"--options-to-remove Namespace=aws:autoscaling:launchconfiguration,OptionName=DisableIMDSv1"},
		"nothing":    {"e-aaaaaaaaa1", on, on, ""},
		"a bad id":   {"e-1; reboot", off, on, ""},
		"no value":   {"e-aaaaaaaaa1", off, fleet.State{FieldDisableV1: "perhaps"}, ""},
		"more of it": {"e-aaaaaaaaa1", off, fleet.State{FieldDisableV1: "true", "Other": "1"}, ""},
	} {
		got := commands(kind.Write{Place: place, ID: tt.id, Verb: VerbSetOption, Before: tt.before, After: tt.after})
		if strings.Join(got, "\n") != tt.want {
			t.Errorf("%s: got %q", name, got)
		}
	}
}

func TestWhatAPlatformSaysByItself(t *testing.T) {
	for _, tt := range []struct {
		value    string
		platform string
		want     string
		docker   bool
	}{
		{"", "64bit Amazon Linux 2023 v4.3.0 running Docker", fleet.TokensRequired, true},
		{"false", "64bit Amazon Linux 2023 v4.3.0 running ECS", fleet.TokensOptional, true},
		{"", "64bit Amazon Linux 2 v3.5.10 running Python 3.8", fleet.TokensOptional, false},
		{"True", "64bit Windows Server 2022 v2.15.1 running IIS 10.0", fleet.TokensRequired, false},
		{"", "arn:aws:elasticbeanstalk:eu-west-1::platform/Docker running on 64bit Amazon Linux 2/3.4.9", fleet.TokensOptional, true},
		{"", "arn:aws:elasticbeanstalk:eu-west-1:111122223333:platform/mine/1.0.0", fleet.TokensOptional, false},
		{"", "64bit Amazon Linux 2018.03 v2.26.0 running Multi-container Docker 19.03.13-ce (Generic)", fleet.TokensOptional, true},
	} {
		s := fleet.State{}
		if tt.value != "" {
			s[FieldDisableV1] = tt.value
		}
		if got := says(s, tt.platform).Tokens; got != tt.want {
			t.Errorf("%q on %s says %s", tt.value, tt.platform, got)
		}
		if dockerStack.MatchString(tt.platform) != tt.docker {
			t.Errorf("%s: containers %t", tt.platform, !tt.docker)
		}
	}
}

func TestTheDeployedSettingsCount(t *testing.T) {
	set := func(status types.ConfigurationDeploymentStatus, value *string) types.ConfigurationSettingsDescription {
		return types.ConfigurationSettingsDescription{DeploymentStatus: status, OptionSettings: []types.ConfigurationOptionSetting{
			{Namespace: aws.String("aws:autoscaling:asg"), OptionName: aws.String(FieldDisableV1), Value: aws.String("wrong")},
			{Namespace: aws.String(namespace), OptionName: aws.String(FieldDisableV1), Value: value},
		}}
	}
	type sets = []types.ConfigurationSettingsDescription
	deployed, pending := types.ConfigurationDeploymentStatusDeployed, types.ConfigurationDeploymentStatusPending
	for name, tt := range map[string]struct {
		sets sets
		want fleet.State
	}{
		"deployed":        {sets{set(deployed, aws.String("true"))}, fleet.State{FieldDisableV1: "true"}},
		"beside a draft":  {sets{set(pending, aws.String("true")), set(deployed, aws.String("false"))}, fleet.State{FieldDisableV1: "false"}},
		"only a draft":    {sets{set(pending, aws.String("true"))}, fleet.State{FieldDisableV1: "true"}},
		"without a value": {sets{set(deployed, nil)}, fleet.State{}},
		"none":            {nil, fleet.State{}},
	} {
		if got := state(tt.sets); !got.Equal(tt.want) {
			t.Errorf("%s: got %v", name, got)
		}
	}
	failed := set(types.ConfigurationDeploymentStatusFailed, aws.String("true"))
	if got, ok := drafted(sets{failed, set(deployed, nil)}); ok {
		t.Errorf("a draft that failed is still being deployed: %v", got)
	}
	being := sets{set(deployed, aws.String("false")), set(pending, aws.String("true"))}
	if got, ok := drafted(being); !ok || got[FieldDisableV1] != "true" {
		t.Errorf("what is being deployed: %v, %t", got, ok)
	}
}

// An environment's own tags name itself, and must not make it look operated by somebody else.
func TestTheOwnerOfAnEnvironment(t *testing.T) {
	own := map[string]string{"elasticbeanstalk:environment-name": "web", "elasticbeanstalk:environment-id": "e-1"}
	if o := owner(own); o != (fleet.Owner{}) {
		t.Errorf("got %+v", o)
	}
	own["terraform"] = "true"
	if o := owner(own); o.Type != fleet.OwnerTerraform || o.Managed {
		t.Errorf("got %+v", o)
	}
}

func TestErrorsOfOneCodeAndManyMeanings(t *testing.T) {
	d := &driver{place: place}
	for text, want := range map[string]fleet.ErrorClass{
		"No Environment found for EnvironmentName = 'web'.":                                    fleet.ErrGone,
		"Environment named web is in an invalid state for this operation. Must be Ready.":      fleet.ErrConflict,
		"Configuration validation exception: Invalid option specification (Namespace: 'x'): .": fleet.ErrInvalid,
	} {
		err := kind.Errorf(fleet.ErrInvalid, place, actionUpdate, "%s", text)
		if call, ok := errors.AsType[*fleet.CallError](err); ok {
			call.Code = "InvalidParameterValue"
		}
		if got := fleet.ClassOf(d.classed(err)); got != want {
			t.Errorf("%q is %s", text, got)
		}
		if fleet.ClassOf(err) != fleet.ErrInvalid {
			t.Errorf("the original of %q was changed", text)
		}
	}
	if err := d.classed(kind.Errorf(fleet.ErrDenied, place, actionUpdate, "no")); fleet.ClassOf(err) != fleet.ErrDenied {
		t.Errorf("a denial became %v", err)
	}
}
