package batchenvironment

import (
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/batch/types"

	"github.com/imdsctl/imdsctl/internal/assess"
	"github.com/imdsctl/imdsctl/internal/fleet"
	"github.com/imdsctl/imdsctl/internal/inventory"
	"github.com/imdsctl/imdsctl/internal/kind"
)

const template = "lt-0123456789abcdef0"

var place = fleet.Place{Partition: "aws", Account: "111122223333", Region: "eu-west-1"}

func environment(change func(*types.ComputeEnvironmentDetail)) *inventory.Resource {
	e := &types.ComputeEnvironmentDetail{
		ComputeEnvironmentName: aws.String("queue"), Type: types.CETypeManaged, State: types.CEStateEnabled, Status: types.CEStatusValid,
		ServiceRole:                aws.String("arn:aws:iam::111122223333:role/aws-service-role/batch.amazonaws.com/AWSServiceRoleForBatch"),
		ContainerOrchestrationType: types.OrchestrationTypeEcs,
		EcsClusterArn:              aws.String("arn:aws:ecs:eu-west-1:111122223333:cluster/AWSBatch-queue-1"),
		ComputeResources: &types.ComputeResource{
			Type: types.CRTypeEc2, AllocationStrategy: types.CRAllocationStrategyBestFitProgressive,
			LaunchTemplate: &types.LaunchTemplateSpecification{LaunchTemplateId: aws.String(template), Version: aws.String("3")},
		},
	}
	change(e)
	d := &driver{place: place}
	r := d.resource(e)
	d.link(&r, map[string]string{"workers": template})
	return &r
}

func TestWhatIsListed(t *testing.T) {
	for _, tt := range []struct {
		name string
		e    types.ComputeEnvironmentDetail
		want bool
	}{
		{"EC2", types.ComputeEnvironmentDetail{Type: "MANAGED", ComputeResources: &types.ComputeResource{Type: "EC2"}}, true},
		{"Spot", types.ComputeEnvironmentDetail{Type: "MANAGED", ComputeResources: &types.ComputeResource{Type: "SPOT"}}, true},
		{"ECS managed", types.ComputeEnvironmentDetail{Type: "MANAGED", ComputeResources: &types.ComputeResource{Type: resourcesManaged}}, true},
		{"Fargate", types.ComputeEnvironmentDetail{Type: "MANAGED", ComputeResources: &types.ComputeResource{Type: "FARGATE"}}, false},
		{"Fargate Spot", types.ComputeEnvironmentDetail{Type: "MANAGED", ComputeResources: &types.ComputeResource{Type: "FARGATE_SPOT"}}, false},
		{"unmanaged", types.ComputeEnvironmentDetail{Type: "UNMANAGED"}, false},
		{"deleted", types.ComputeEnvironmentDetail{Type: "MANAGED", Status: "DELETED",
			ComputeResources: &types.ComputeResource{Type: "EC2"}}, false},
	} {
		if got := launches(&tt.e); got != tt.want {
			t.Errorf("%s: listed %t", tt.name, got)
		}
	}
}

func TestResource(t *testing.T) {
	r := environment(func(e *types.ComputeEnvironmentDetail) {
		e.Status = types.CEStatusUpdating
		e.ComputeResources.LaunchTemplate = &types.LaunchTemplateSpecification{
			LaunchTemplateName: aws.String("workers"),
			Overrides: []types.LaunchTemplateSpecificationOverride{{
				LaunchTemplateId: aws.String("lt-01234567"), Version: aws.String("$Latest"), TargetInstanceTypes: []string{"g5", "p5"},
			}, {LaunchTemplateName: aws.String("nowhere"), Version: aws.String("1"), TargetInstanceTypes: []string{"c5"}}},
		}
		e.UpdatePolicy = &types.UpdatePolicy{TerminateJobsOnUpdate: aws.Bool(true), JobExecutionTimeoutMinutes: aws.Int64(45)}
	})
	want := fleet.State{
		"computeResources.launchTemplate.launchTemplateName":              "workers",
		"computeResources.launchTemplate.version":                         "$Default",
		"computeResources.launchTemplate.overrides.0.launchTemplateId":    "lt-01234567",
		"computeResources.launchTemplate.overrides.0.version":             "$Latest",
		"computeResources.launchTemplate.overrides.0.targetInstanceTypes": "g5,p5",
		"computeResources.launchTemplate.overrides.1.launchTemplateName":  "nowhere",
		"computeResources.launchTemplate.overrides.1.version":             "1",
		"computeResources.launchTemplate.overrides.1.targetInstanceTypes": "c5",
		FieldTerminate: "true", FieldTimeout: "45",
	}
	if !r.State.Equal(want) || !r.Settling || r.Says != nil {
		t.Errorf("state: %s, settling %t", fleet.DescribeDiff(want, r.State), r.Settling)
	}
	var got []string
	for _, l := range r.Links {
		if l.Relation != inventory.LaunchesFrom || !l.Starts || (l.Field == "") != moves(l.Selector) ||
			l.Field != "" && r.State[l.Field] != l.Selector {
			t.Errorf("link %+v", l)
		}
		got = append(got, l.To.ID+" "+l.Selector)
	}
	if !slices.Equal(got, []string{template + " $Default", "lt-01234567 $Latest", "nowhere 1"}) {
		t.Errorf("links to %q", got)
	}
	if r.Attrs[inventory.AttrCluster] != "AWSBatch-queue-1" || r.Attrs[inventory.AttrContainers] != "batch" {
		t.Errorf("attributes %v", r.Attrs)
	}
	spec := specification(r.State)
	again := fleet.State{FieldTerminate: "true", FieldTimeout: "45"}
	putTemplates(again, spec)
	if !again.Equal(want) || checked(r.State) != nil {
		t.Errorf("sent as %s (%v)", fleet.DescribeDiff(want, again), checked(r.State))
	}
}

func TestPropose(t *testing.T) {
	strategy := func(s types.CRAllocationStrategy) func(*types.ComputeEnvironmentDetail) {
		return func(e *types.ComputeEnvironmentDetail) { e.ComputeResources.AllocationStrategy = s }
	}
	for _, tt := range []struct {
		name     string
		change   func(*types.ComputeEnvironmentDetail)
		status   assess.Status
		writable bool
		want     []string // parts of the one manual step; none for no step
	}{
		{"a number", func(*types.ComputeEnvironmentDetail) {}, assess.Ready, true, nil},
		{"no template", func(e *types.ComputeEnvironmentDetail) { e.ComputeResources.LaunchTemplate = nil }, assess.Unknown, false, []string{
			"no launch template", "create-launch-template", "--launch-template-name imdsv2-queue",
			`{"launchTemplate":{"launchTemplateName":"imdsv2-queue","version":"1"}}`}},
		{"no template under a default that requires tokens", func(e *types.ComputeEnvironmentDetail) { e.ComputeResources.LaunchTemplate = nil },
			assess.Done, false, nil},
		{"$Default", func(e *types.ComputeEnvironmentDetail) { e.ComputeResources.LaunchTemplate.Version = nil }, assess.Done, false, []string{
			"$Default, which Batch reads only at an infrastructure update", "cannot be read from Batch",
			`"version":"'"$(aws ec2 describe-launch-templates --region eu-west-1 --launch-template-ids ` + template,
			"DefaultVersionNumber"}},
		{"$Latest", func(e *types.ComputeEnvironmentDetail) {
			e.ComputeResources.LaunchTemplate.Version = aws.String("$Latest")
		}, assess.Ready,
			false, []string{"LatestVersionNumber"}},
		{"$Latest of an exempt one", func(e *types.ComputeEnvironmentDetail) {
			e.ComputeResources.LaunchTemplate.Version = aws.String("$Latest")
		},
			assess.Exempt, false, nil},
		{"BEST_FIT", strategy("BEST_FIT"), assess.Ready, false, []string{"BEST_FIT", "another environment", "describe-compute-environments"}},
		{"no strategy", strategy(""), assess.Blocked, false, []string{"BEST_FIT"}},
		{"a role of its own", func(e *types.ComputeEnvironmentDetail) {
			e.ServiceRole = aws.String("arn:aws:iam::111122223333:role/Batch")
		},
			assess.Ready, false, []string{"AWSServiceRoleForBatch"}},
		{"invalid", func(e *types.ComputeEnvironmentDetail) {
			e.Status, e.StatusReason = types.CEStatusInvalid, aws.String("CLIENT_ERROR")
		}, assess.Ready, false, []string{"INVALID (CLIENT_ERROR)", "Make it VALID"}},
		{"ECS managed", func(e *types.ComputeEnvironmentDetail) {
			e.ComputeResources = &types.ComputeResource{Type: resourcesManaged}
		}, assess.Unknown, false, []string{"managed by ECS"}},
		{"of a Beanstalk environment", func(e *types.ComputeEnvironmentDetail) {
			e.Tags = map[string]string{"elasticbeanstalk:environment-name": "shop"}
		}, assess.Blocked, true, []string{"operated by elastic-beanstalk shop"}},
	} {
		r := environment(tt.change)
		writable := len(r.Links) > 0 && r.Links[0].Field != ""
		if writable != tt.writable {
			t.Errorf("%s: writable %t", tt.name, writable)
		}
		needs, manuals := propose(kind.Case{Resource: r, Verdict: &assess.Verdict{Status: tt.status}})
		if len(needs) != 0 || (len(manuals) == 1) != (len(tt.want) > 0) || len(manuals) > 1 {
			t.Errorf("%s: %v and %v", tt.name, needs, manuals)
			continue
		}
		for _, part := range tt.want {
			if text := manuals[0].Reason + " " + manuals[0].Remedy; !strings.Contains(text, part) {
				t.Errorf("%s: %q does not say %q", tt.name, text, part)
			}
		}
	}
}

func TestCommands(t *testing.T) {
	plain := fleet.State{prefixTemplate + suffixID: template, prefixTemplate + suffixVersion: "$Default"}
	with := plain.With(fleet.State{
		overridePrefix(0) + suffixName: "gpu", overridePrefix(0) + suffixVersion: "1", overridePrefix(0) + suffixTypes: "g5,p5",
	})
	for _, tt := range []struct {
		name, id      string
		before, patch fleet.State
		want          string // the JSON; empty for no command
	}{
		{"a number", "queue", plain, fleet.State{prefixTemplate + suffixVersion: "4"},
			`'{"launchTemplate":{"launchTemplateId":"` + template + `","version":"4"}}'`},
		{"an output of the plan", "queue", plain, fleet.State{prefixTemplate + suffixVersion: "${c-0123456789ab.Version}"},
			`"version":"${c-0123456789ab.Version}"`},
		{"overrides are sent again", "queue", with, fleet.State{prefixTemplate + suffixVersion: "4"},
			`"overrides":[{"launchTemplateName":"gpu","version":"1","targetInstanceTypes":["g5","p5"]}]`},
		{"an override", "queue", with, fleet.State{overridePrefix(0) + suffixVersion: "2"}, `"launchTemplateName":"gpu","version":"2"`},
		{"no version", "queue", plain, fleet.State{prefixTemplate + suffixVersion: "4; reboot"}, ""},
		{"another template", "queue", plain, fleet.State{prefixTemplate + suffixID: "lt-01234567"}, ""},
		{"the update policy", "queue", plain, fleet.State{FieldTimeout: "5"}, ""},
		{"no name", "queue; reboot", plain, fleet.State{prefixTemplate + suffixVersion: "4"}, ""},
		{"nothing", "queue", plain, nil, ""},
	} {
		got := commands(kind.Write{Place: place, ID: tt.id, Verb: VerbSetLaunchVersion, Before: tt.before, After: tt.before.With(tt.patch)})
		if (len(got) == 1) != (tt.want != "") {
			t.Errorf("%s: got %q", tt.name, got)
			continue
		}
		if tt.want != "" && (!strings.Contains(got[0], tt.want) ||
			!strings.HasPrefix(got[0], "aws batch update-compute-environment --region eu-west-1 --compute-environment queue ")) {
			t.Errorf("%s: got %s\nwithout %s", tt.name, got[0], tt.want)
		}
	}
}

// FuzzTemplates checks that what Batch says of templates comes back as it was said, and that no text of AWS's gets into a command
// unless it looks like what it should be.
func FuzzTemplates(f *testing.F) {
	f.Add(template, "", "3", "", "gpu", "$Latest", "g5")
	f.Add("", "workers", "", "lt-01234567", "", "1", "m5.large")
	f.Add("lt-' ; reboot", "a", "4", "b", "", "", ",")
	f.Fuzz(func(t *testing.T, id, name, version, otherID, otherName, otherVersion, joined string) {
		spec := &types.LaunchTemplateSpecification{
			LaunchTemplateId: aws.String(id), LaunchTemplateName: aws.String(name), Version: aws.String(version),
			Overrides: []types.LaunchTemplateSpecificationOverride{{
				LaunchTemplateId: aws.String(otherID), LaunchTemplateName: aws.String(otherName), Version: aws.String(otherVersion),
				TargetInstanceTypes: split(joined),
			}},
		}
		s := fleet.State{}
		putTemplates(s, spec)
		again := fleet.State{}
		putTemplates(again, specification(s))
		if !reflect.DeepEqual(s, again) {
			t.Errorf("%v became %v", s, again)
		}
		if len(versionFields(s)) != 2 {
			t.Errorf("%v has the versions %q", s, versionFields(s))
		}
		if checked(s) != nil {
			return
		}
		if strings.Contains(update(place, "queue", s), `'\''`) {
			t.Errorf("%v is sent as %s", s, update(place, "queue", s))
		}
	})
}
