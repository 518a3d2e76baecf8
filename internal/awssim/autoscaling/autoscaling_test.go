package autoscaling_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	as "github.com/aws/aws-sdk-go-v2/service/autoscaling"
	"github.com/aws/aws-sdk-go-v2/service/autoscaling/types"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	ec2types "github.com/aws/aws-sdk-go-v2/service/ec2/types"
	"github.com/aws/smithy-go"

	"github.com/imdsctl/imdsctl/internal/awssim/autoscaling"
	"github.com/imdsctl/imdsctl/internal/awssim/core"
	simec2 "github.com/imdsctl/imdsctl/internal/awssim/ec2"
	"github.com/imdsctl/imdsctl/internal/clock"
)

const (
	account = "111122223333"
	image   = "ami-0123456789abcdef0"
)

var start = time.Date(2026, 3, 2, 12, 0, 0, 0, time.UTC)

// stage is a world with an image and a template of three versions: 1 says nothing, 2 (the default) optional with hop
// limit 2, 3 (the latest) required.
type stage struct {
	t        *testing.T
	world    *core.World
	clock    *clock.Manual
	asg      *as.Client
	ec2      *ec2.Client
	template string
}

func newStage(t *testing.T) *stage {
	t.Helper()
	c := clock.NewManual(start)
	w := core.New(core.Options{Clock: c, Unthrottled: true}, simec2.Service(), autoscaling.Service())
	if err := w.Load([]byte(`{"accounts": [{"id": "` + account + `", "regions": {"eu-west-1": {"ec2": {
		"images": [{"id": "` + image + `"}],
		"templates": [{"id": "lt-0123456789abcdef0", "name": "web", "default": 2, "versions": [
			{"data": {"ImageId": "` + image + `", "InstanceType": "m5.large"}},
			{"data": {"ImageId": "` + image + `", "InstanceType": "m5.large",
				"MetadataOptions": {"HttpTokens": "optional", "HttpPutResponseHopLimit": 2}}},
			{"data": {"ImageId": "` + image + `", "InstanceType": "m5.large", "MetadataOptions": {"HttpTokens": "required"}}}]}]
	}}}}]}`)); err != nil {
		t.Fatal(err)
	}
	creds := credentials.NewStaticCredentialsProvider(account, "dummy", "")
	return &stage{
		t: t, world: w, clock: c, template: "lt-0123456789abcdef0",
		asg: as.New(as.Options{
			Region: "eu-west-1", BaseEndpoint: aws.String(core.BaseURL), HTTPClient: w.Client(), Credentials: creds, RetryMaxAttempts: 1,
		}),
		ec2: ec2.New(ec2.Options{
			Region: "eu-west-1", BaseEndpoint: aws.String(core.BaseURL), HTTPClient: w.Client(), Credentials: creds, RetryMaxAttempts: 1,
		}),
	}
}

// settle lets time pass until everything accepted is done and seen.
func (s *stage) settle() { s.clock.Advance(10 * time.Second) }

func (s *stage) create(name, version string, desired int32, more ...func(*as.CreateAutoScalingGroupInput)) {
	s.t.Helper()
	in := &as.CreateAutoScalingGroupInput{
		AutoScalingGroupName: &name, MinSize: aws.Int32(0), MaxSize: aws.Int32(10), DesiredCapacity: &desired,
		AvailabilityZones: []string{"eu-west-1a", "eu-west-1b"},
		LaunchTemplate:    &types.LaunchTemplateSpecification{LaunchTemplateName: aws.String("web"), Version: &version},
		Tags: []types.Tag{
			{Key: aws.String("app"), Value: &name, PropagateAtLaunch: aws.Bool(true)},
			{Key: aws.String("note"), Value: aws.String("group only"), PropagateAtLaunch: aws.Bool(false)},
		},
	}
	for _, m := range more {
		m(in)
	}
	if _, err := s.asg.CreateAutoScalingGroup(s.t.Context(), in); err != nil {
		s.t.Fatal(err)
	}
	s.settle()
}

func (s *stage) group(name string) types.AutoScalingGroup {
	s.t.Helper()
	out, err := s.asg.DescribeAutoScalingGroups(s.t.Context(), &as.DescribeAutoScalingGroupsInput{AutoScalingGroupNames: []string{name}})
	if err != nil || len(out.AutoScalingGroups) != 1 {
		s.t.Fatalf("group %s: %d found, %v", name, len(out.AutoScalingGroups), err)
	}
	return out.AutoScalingGroups[0]
}

func (s *stage) instance(id string) ec2types.Instance {
	s.t.Helper()
	out, err := s.ec2.DescribeInstances(s.t.Context(), &ec2.DescribeInstancesInput{InstanceIds: []string{id}})
	if err != nil {
		s.t.Fatal(err)
	}
	return out.Reservations[0].Instances[0]
}

func (s *stage) activities(group string) []types.Activity {
	s.t.Helper()
	var out []types.Activity
	in := &as.DescribeScalingActivitiesInput{}
	if group != "" {
		in.AutoScalingGroupName = &group
	}
	for p := as.NewDescribeScalingActivitiesPaginator(s.asg, in); p.HasMorePages(); {
		page, err := p.NextPage(s.t.Context())
		if err != nil {
			s.t.Fatal(err)
		}
		out = append(out, page.Activities...)
	}
	return out
}

func wantCode(t *testing.T, err error, code, part string) {
	t.Helper()
	api, ok := errors.AsType[smithy.APIError](err)
	if !ok || api.ErrorCode() != code || !strings.Contains(api.ErrorMessage(), part) {
		t.Errorf("got %v, want %s with %q", err, code, part)
	}
}

func TestLaunchesFollowTheTemplate(t *testing.T) {
	s := newStage(t)
	for version, want := range map[string]struct {
		number string
		tokens ec2types.HttpTokensState
		hop    int32
	}{
		"$Default": {"2", "optional", 2}, "$Latest": {"3", "required", 1}, "1": {"1", "optional", 1},
	} {
		name := "group-" + strings.TrimPrefix(version, "$")
		s.create(name, version, 2)
		g := s.group(name)
		if len(g.Instances) != 2 || *g.LaunchTemplate.Version != version || *g.LaunchTemplate.LaunchTemplateId != s.template {
			t.Fatalf("%s: %d instances of %+v", name, len(g.Instances), g.LaunchTemplate)
		}
		for _, m := range g.Instances {
			if *m.LaunchTemplate.Version != want.number || m.LifecycleState != types.LifecycleStateInService || *m.HealthStatus != "Healthy" {
				t.Errorf("%s: member %+v, want version %s in service", name, m, want.number)
			}
			i := s.instance(*m.InstanceId)
			if i.MetadataOptions.HttpTokens != want.tokens || *i.MetadataOptions.HttpPutResponseHopLimit != want.hop {
				t.Errorf("%s: options %+v, want %s, hop limit %d", name, i.MetadataOptions, want.tokens, want.hop)
			}
			tags := map[string]string{}
			for _, tag := range i.Tags {
				tags[*tag.Key] = *tag.Value
			}
			if tags["aws:autoscaling:groupName"] != name || tags["app"] != name || tags["aws:ec2launchtemplate:version"] != want.number ||
				tags["note"] != "" {
				t.Errorf("%s: tags %v", name, tags)
			}
		}
		if *g.Instances[0].AvailabilityZone == *g.Instances[1].AvailabilityZone {
			t.Errorf("%s: both instances in one zone", name)
		}
	}
}

func TestScalingAndItsActivities(t *testing.T) {
	s := newStage(t)
	s.create("web", "$Default", 3)
	first := s.group("web").Instances
	if _, err := s.asg.SetDesiredCapacity(t.Context(), &as.SetDesiredCapacityInput{
		AutoScalingGroupName: aws.String("web"), DesiredCapacity: aws.Int32(1),
	}); err != nil {
		t.Fatal(err)
	}
	s.settle()
	left := s.group("web").Instances
	if len(left) != 1 || *left[0].InstanceId != *first[2].InstanceId {
		t.Fatalf("%d instances left; want the youngest", len(left))
	}
	all := s.activities("web")
	if len(all) != 5 {
		t.Fatalf("%d activities, want three launches and two terminations", len(all))
	}
	for n, a := range all {
		verb := "Launching a new EC2 instance: i-"
		if n < 2 { // newest first
			verb = "Terminating EC2 instance: i-"
		}
		if !strings.HasPrefix(*a.Description, verb) || a.StatusCode != types.ScalingActivityStatusCodeSuccessful || *a.Progress != 100 ||
			a.EndTime == nil || !strings.Contains(*a.Details, `"Availability Zone":"eu-west-1`) || a.AutoScalingGroupARN == nil {
			t.Errorf("activity %d: %q %s %s", n, *a.Description, a.StatusCode, *a.Details)
		}
	}
	if !strings.Contains(*all[4].Cause, "increasing the capacity from 0 to 1") {
		t.Errorf("first cause: %s", *all[4].Cause)
	}
	_, err := s.asg.SetDesiredCapacity(t.Context(), &as.SetDesiredCapacityInput{
		AutoScalingGroupName: aws.String("web"), DesiredCapacity: aws.Int32(11),
	})
	wantCode(t, err, "ValidationError", "above max value")
}

func TestFailedLaunchIsAnActivity(t *testing.T) {
	s := newStage(t)
	s.create("web", "$Default", 1)
	if _, err := s.ec2.ModifyInstanceMetadataDefaults(t.Context(), &ec2.ModifyInstanceMetadataDefaultsInput{
		HttpTokensEnforced: ec2types.DefaultHttpTokensEnforcedStateEnabled,
	}); err != nil {
		t.Fatal(err)
	}
	if _, err := s.asg.SetDesiredCapacity(t.Context(), &as.SetDesiredCapacityInput{
		AutoScalingGroupName: aws.String("web"), DesiredCapacity: aws.Int32(2),
	}); err != nil {
		t.Fatal(err)
	}
	s.settle()
	a := s.activities("web")[0]
	if a.StatusCode != types.ScalingActivityStatusCodeFailed || !strings.Contains(*a.StatusMessage, "httpTokensEnforced") ||
		!strings.HasPrefix(*a.Description, "Launching a new EC2 instance.  Status Reason:") {
		t.Fatalf("activity %+v", a)
	}
	// With the template on its required version the next attempt succeeds.
	if _, err := s.ec2.ModifyLaunchTemplate(t.Context(), &ec2.ModifyLaunchTemplateInput{
		LaunchTemplateId: &s.template, DefaultVersion: aws.String("3"),
	}); err != nil {
		t.Fatal(err)
	}
	s.clock.Advance(2 * time.Minute)
	if n := len(s.group("web").Instances); n != 2 {
		t.Errorf("%d instances after the template was changed, want 2", n)
	}
}

func TestReplacesWhatOthersTerminate(t *testing.T) {
	s := newStage(t)
	s.create("web", "$Default", 2)
	gone := *s.group("web").Instances[0].InstanceId
	if _, err := s.ec2.TerminateInstances(t.Context(), &ec2.TerminateInstancesInput{InstanceIds: []string{gone}}); err != nil {
		t.Fatal(err)
	}
	s.clock.Advance(30 * time.Second)
	now := s.group("web").Instances
	if len(now) != 2 || slices.ContainsFunc(now, func(i types.Instance) bool { return *i.InstanceId == gone }) {
		t.Errorf("members %v, want two without %s", now, gone)
	}
	id := *now[0].InstanceId
	out, err := s.asg.TerminateInstanceInAutoScalingGroup(t.Context(), &as.TerminateInstanceInAutoScalingGroupInput{
		InstanceId: &id, ShouldDecrementDesiredCapacity: aws.Bool(true),
	})
	if err != nil || *out.Activity.Description != "Terminating EC2 instance: "+id {
		t.Fatalf("%+v, %v", out, err)
	}
	s.settle()
	if g := s.group("web"); *g.DesiredCapacity != 1 || len(g.Instances) != 1 {
		t.Errorf("desired %d, %d instances; want 1 of both", *g.DesiredCapacity, len(g.Instances))
	}
	_, err = s.asg.TerminateInstanceInAutoScalingGroup(t.Context(), &as.TerminateInstanceInAutoScalingGroupInput{
		InstanceId: aws.String("i-0000000000000dead"), ShouldDecrementDesiredCapacity: aws.Bool(true),
	})
	wantCode(t, err, "ValidationError", "Instance Id not found")
}

func TestMixedInstancesPolicyAndConfig(t *testing.T) {
	s := newStage(t)
	s.create("mixed", "$Default", 2, func(in *as.CreateAutoScalingGroupInput) {
		in.LaunchTemplate = nil
		in.MixedInstancesPolicy = &types.MixedInstancesPolicy{
			LaunchTemplate: &types.LaunchTemplate{
				LaunchTemplateSpecification: &types.LaunchTemplateSpecification{LaunchTemplateId: &s.template, Version: aws.String("1")},
				Overrides: []types.LaunchTemplateOverrides{
					{InstanceType: aws.String("c6i.large"), WeightedCapacity: aws.String("1")},
					{InstanceType: aws.String("c6g.large"), LaunchTemplateSpecification: &types.LaunchTemplateSpecification{
						LaunchTemplateName: aws.String("web"), Version: aws.String("$Latest"),
					}},
				},
			},
			InstancesDistribution: &types.InstancesDistribution{OnDemandPercentageAboveBaseCapacity: aws.Int32(25)},
		}
	})
	g := s.group("mixed")
	if g.LaunchTemplate != nil || len(g.MixedInstancesPolicy.LaunchTemplate.Overrides) != 2 ||
		*g.MixedInstancesPolicy.LaunchTemplate.Overrides[1].LaunchTemplateSpecification.LaunchTemplateId != s.template ||
		*g.MixedInstancesPolicy.InstancesDistribution.OnDemandPercentageAboveBaseCapacity != 25 {
		t.Errorf("group %+v", g.MixedInstancesPolicy)
	}
	var got []string
	for _, m := range g.Instances {
		got = append(got, *m.InstanceType+" "+*m.LaunchTemplate.Version+" "+string(s.instance(*m.InstanceId).MetadataOptions.HttpTokens))
	}
	slices.Sort(got)
	if fmt.Sprint(got) != "[c6g.large 3 required c6i.large 1 optional]" {
		t.Errorf("members %v", got)
	}

	if _, err := s.asg.CreateLaunchConfiguration(t.Context(), &as.CreateLaunchConfigurationInput{
		LaunchConfigurationName: aws.String("legacy"), ImageId: aws.String(image), InstanceType: aws.String("m4.large"),
		MetadataOptions: &types.InstanceMetadataOptions{HttpTokens: types.InstanceMetadataHttpTokensStateRequired},
	}); err != nil {
		t.Fatal(err)
	}
	s.create("old", "", 1, func(in *as.CreateAutoScalingGroupInput) {
		in.LaunchTemplate, in.LaunchConfigurationName = nil, aws.String("legacy")
	})
	m := s.group("old").Instances[0]
	if *m.LaunchConfigurationName != "legacy" || m.LaunchTemplate != nil ||
		s.instance(*m.InstanceId).MetadataOptions.HttpTokens != ec2types.HttpTokensStateRequired {
		t.Errorf("member %+v", m)
	}
	_, err := s.asg.DeleteLaunchConfiguration(t.Context(), &as.DeleteLaunchConfigurationInput{LaunchConfigurationName: aws.String("legacy")})
	wantCode(t, err, "ResourceInUse", "legacy")
	lcs, err := s.asg.DescribeLaunchConfigurations(t.Context(), &as.DescribeLaunchConfigurationsInput{})
	if err != nil || len(lcs.LaunchConfigurations) != 1 || lcs.LaunchConfigurations[0].MetadataOptions.HttpTokens != "required" ||
		lcs.LaunchConfigurations[0].MetadataOptions.HttpPutResponseHopLimit != nil {
		t.Errorf("launch configurations %+v, %v", lcs, err)
	}
}

func TestUpdateIsSeenLater(t *testing.T) {
	s := newStage(t)
	s.create("web", "2", 1)
	if _, err := s.asg.UpdateAutoScalingGroup(t.Context(), &as.UpdateAutoScalingGroupInput{
		AutoScalingGroupName: aws.String("web"),
		LaunchTemplate:       &types.LaunchTemplateSpecification{LaunchTemplateId: &s.template, Version: aws.String("3")},
	}); err != nil {
		t.Fatal(err)
	}
	if got := *s.group("web").LaunchTemplate.Version; got != "2" {
		t.Errorf("version %s at once: describe calls should still see 2", got)
	}
	s.settle()
	g := s.group("web")
	if *g.LaunchTemplate.Version != "3" || *g.DesiredCapacity != 1 || *g.MaxSize != 10 || *g.Instances[0].LaunchTemplate.Version != "2" {
		t.Errorf("group %+v", g)
	}
}

func TestInstanceRefresh(t *testing.T) {
	s := newStage(t)
	s.create("web", "$Default", 3)
	before := s.group("web").Instances
	refresh := func() (string, error) {
		out, err := s.asg.StartInstanceRefresh(t.Context(), &as.StartInstanceRefreshInput{
			AutoScalingGroupName: aws.String("web"), Preferences: &types.RefreshPreferences{InstanceWarmup: aws.Int32(60)},
			DesiredConfiguration: &types.DesiredConfiguration{LaunchTemplate: &types.LaunchTemplateSpecification{
				LaunchTemplateId: &s.template, Version: aws.String("3"),
			}},
		})
		if err != nil {
			return "", err
		}
		return *out.InstanceRefreshId, nil
	}
	id, err := refresh()
	if err != nil {
		t.Fatal(err)
	}
	_, err = refresh()
	wantCode(t, err, "InstanceRefreshInProgress", "already in progress")
	state := func() types.InstanceRefresh {
		out, err := s.asg.DescribeInstanceRefreshes(t.Context(), &as.DescribeInstanceRefreshesInput{AutoScalingGroupName: aws.String("web")})
		if err != nil || len(out.InstanceRefreshes) != 1 || *out.InstanceRefreshes[0].InstanceRefreshId != id {
			t.Fatalf("%+v, %v", out, err)
		}
		return out.InstanceRefreshes[0]
	}
	s.clock.Advance(70 * time.Second)
	if r := state(); r.Status != types.InstanceRefreshStatusInProgress || *r.PercentageComplete != 66 {
		t.Errorf("half-way: %s, %d %%", r.Status, *r.PercentageComplete)
	}
	s.clock.Advance(5 * time.Minute)
	if r := state(); r.Status != types.InstanceRefreshStatusSuccessful || *r.PercentageComplete != 100 || r.EndTime == nil {
		t.Errorf("at the end: %+v", r)
	}
	g := s.group("web")
	if len(g.Instances) != 3 || *g.LaunchTemplate.Version != "3" {
		t.Errorf("%d instances on version %s", len(g.Instances), *g.LaunchTemplate.Version)
	}
	for _, m := range g.Instances {
		if *m.LaunchTemplate.Version != "3" || slices.ContainsFunc(before, func(o types.Instance) bool { return *o.InstanceId == *m.InstanceId }) {
			t.Errorf("member %s on version %s was not replaced", *m.InstanceId, *m.LaunchTemplate.Version)
		}
	}
}

func TestPagesAndFilters(t *testing.T) {
	s := newStage(t)
	for i := range 7 {
		s.create(fmt.Sprintf("group-%d", i), "$Default", 1, func(in *as.CreateAutoScalingGroupInput) {
			if i%2 == 0 {
				in.Tags = append(in.Tags, types.Tag{Key: aws.String("env"), Value: aws.String("prod")})
			}
		})
	}
	count := func(in *as.DescribeAutoScalingGroupsInput) (n, pages int) {
		for p := as.NewDescribeAutoScalingGroupsPaginator(s.asg, in); p.HasMorePages(); pages++ {
			page, err := p.NextPage(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			n += len(page.AutoScalingGroups)
		}
		return n, pages
	}
	if n, pages := count(&as.DescribeAutoScalingGroupsInput{MaxRecords: aws.Int32(3)}); n != 7 || pages != 3 {
		t.Errorf("%d groups on %d pages, want 7 on 3", n, pages)
	}
	if n, _ := count(&as.DescribeAutoScalingGroupsInput{Filters: []types.Filter{{Name: aws.String("tag:env"), Values: []string{"prod"}}}}); n != 4 {
		t.Errorf("%d groups with env=prod, want 4", n)
	}
	n := 0
	for p := as.NewDescribeAutoScalingInstancesPaginator(s.asg, &as.DescribeAutoScalingInstancesInput{MaxRecords: aws.Int32(2)}); p.HasMorePages(); {
		page, err := p.NextPage(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		n += len(page.AutoScalingInstances)
	}
	if n != 7 {
		t.Errorf("%d instances, want 7", n)
	}
	seen := map[string]bool{}
	for p := as.NewDescribeScalingActivitiesPaginator(s.asg, &as.DescribeScalingActivitiesInput{MaxRecords: aws.Int32(2)}); p.HasMorePages(); {
		page, err := p.NextPage(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for _, a := range page.Activities {
			seen[*a.ActivityId] = true
		}
	}
	if len(seen) != 7 {
		t.Errorf("%d activities, want 7", len(seen))
	}
	_, err := s.asg.DescribeAutoScalingGroups(t.Context(), &as.DescribeAutoScalingGroupsInput{MaxRecords: aws.Int32(101)})
	wantCode(t, err, "ValidationError", "100")
	_, err = s.asg.DescribeAutoScalingGroups(t.Context(), &as.DescribeAutoScalingGroupsInput{NextToken: aws.String("junk")})
	wantCode(t, err, "InvalidNextToken", "junk")
	out, err := s.asg.DescribeAutoScalingGroups(t.Context(), &as.DescribeAutoScalingGroupsInput{AutoScalingGroupNames: []string{"none"}})
	if err != nil || len(out.AutoScalingGroups) != 0 {
		t.Errorf("an unknown name gives %v, %v; want an empty list", out, err)
	}
}

func TestDeletedGroups(t *testing.T) {
	s := newStage(t)
	s.create("web", "$Default", 2)
	remove := func(force bool) error {
		_, err := s.asg.DeleteAutoScalingGroup(t.Context(), &as.DeleteAutoScalingGroupInput{AutoScalingGroupName: aws.String("web"), ForceDelete: &force})
		return err
	}
	wantCode(t, remove(false), "ResourceInUse", "instances")
	if err := remove(true); err != nil {
		t.Fatal(err)
	}
	s.clock.Advance(time.Minute)
	wantCode(t, remove(true), "ValidationError", "not found")
	if n := len(s.activities("")); n != 0 {
		t.Errorf("%d activities of deleted groups without asking for them", n)
	}
	out, err := s.asg.DescribeScalingActivities(t.Context(), &as.DescribeScalingActivitiesInput{IncludeDeletedGroups: aws.Bool(true)})
	if err != nil || len(out.Activities) != 4 || *out.Activities[0].AutoScalingGroupState != "Deleted" {
		t.Errorf("%d activities, %v; want 4 of a deleted group", len(out.Activities), err)
	}
}

func TestRefusals(t *testing.T) {
	s := newStage(t)
	s.create("web", "$Default", 0)
	try := func(change func(*as.CreateAutoScalingGroupInput)) error {
		in := &as.CreateAutoScalingGroupInput{
			AutoScalingGroupName: aws.String("other"), MinSize: aws.Int32(0), MaxSize: aws.Int32(1), AvailabilityZones: []string{"eu-west-1a"},
			LaunchTemplate: &types.LaunchTemplateSpecification{LaunchTemplateId: &s.template},
		}
		change(in)
		_, err := s.asg.CreateAutoScalingGroup(t.Context(), in)
		return err
	}
	tests := []struct {
		name, code, part string
		change           func(*as.CreateAutoScalingGroupInput)
	}{
		{"same name", "AlreadyExists", "web", func(in *as.CreateAutoScalingGroupInput) { in.AutoScalingGroupName = aws.String("web") }},
		{"no source", "ValidationError", "LaunchTemplate", func(in *as.CreateAutoScalingGroupInput) { in.LaunchTemplate = nil }},
		{"unknown template", "ValidationError", "does not exist", func(in *as.CreateAutoScalingGroupInput) {
			in.LaunchTemplate.LaunchTemplateId = aws.String("lt-00000000000000000")
		}},
		{"unknown version", "ValidationError", "version", func(in *as.CreateAutoScalingGroupInput) { in.LaunchTemplate.Version = aws.String("9") }},
		{"unknown configuration", "ValidationError", "not found", func(in *as.CreateAutoScalingGroupInput) {
			in.LaunchTemplate, in.LaunchConfigurationName = nil, aws.String("none")
		}},
		{"no zone", "ValidationError", "Availability Zone", func(in *as.CreateAutoScalingGroupInput) { in.AvailabilityZones = nil }},
		{"min above max", "ValidationError", "bound", func(in *as.CreateAutoScalingGroupInput) { in.MinSize = aws.Int32(2) }},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			err := try(tt.change)
			if tt.code == "AlreadyExists" {
				if _, ok := errors.AsType[*types.AlreadyExistsFault](err); !ok {
					t.Errorf("got %v, want AlreadyExistsFault", err)
				}
				return
			}
			wantCode(t, err, tt.code, tt.part)
		})
	}
}

func TestTags(t *testing.T) {
	s := newStage(t)
	s.create("web", "$Default", 0)
	tag := types.Tag{
		ResourceId: aws.String("web"), ResourceType: aws.String("auto-scaling-group"), Key: aws.String("owner"), Value: aws.String("team-a"),
		PropagateAtLaunch: aws.Bool(true),
	}
	if _, err := s.asg.CreateOrUpdateTags(t.Context(), &as.CreateOrUpdateTagsInput{Tags: []types.Tag{tag}}); err != nil {
		t.Fatal(err)
	}
	s.settle()
	out, err := s.asg.DescribeTags(t.Context(), &as.DescribeTagsInput{
		Filters: []types.Filter{{Name: aws.String("key"), Values: []string{"owner"}}},
	})
	if err != nil || len(out.Tags) != 1 || *out.Tags[0].Value != "team-a" || !*out.Tags[0].PropagateAtLaunch {
		t.Errorf("%+v, %v", out, err)
	}
	if _, err := s.asg.DeleteTags(t.Context(), &as.DeleteTagsInput{Tags: []types.Tag{tag}}); err != nil {
		t.Fatal(err)
	}
	s.settle()
	if n := len(s.group("web").Tags); n != 2 {
		t.Errorf("%d tags left, want the two it was made with", n)
	}
}

func TestSeed(t *testing.T) {
	s := newStage(t)
	w := core.New(core.Options{Clock: s.clock}, simec2.Service(), autoscaling.Service())
	doc := `{"accounts": [{"id": "111122223333", "regions": {"eu-west-1": {
		"ec2": {"images": [{"id": "ami-0123456789abcdef0"}],
			"templates": [{"name": "web", "versions": [{"data": {"ImageId": "ami-0123456789abcdef0"}}]}],
			"instances": [{"id": "i-0123456789abcdef0", "image": "ami-0123456789abcdef0", "template": "web",
				"tags": {"zone": "dmz"}}]},
		"autoscaling": {
			"launch_configurations": [{"name": "lc", "image_id": "ami-0123456789abcdef0", "instance_type": "m4.large"}],
			"groups": [{"name": "web", "template": "web", "max": 5, "desired": 3, "instances": ["i-0123456789abcdef0"]},
				{"name": "old", "launch_configuration": "lc", "desired": 1, "tags": {"env": "prod"}}]}}}}]}`
	if err := w.Load([]byte(doc)); err != nil {
		t.Fatal(err)
	}
	p, err := w.Place(account, "eu-west-1")
	if err != nil {
		t.Fatal(err)
	}
	p.View(func(time.Time) {
		if got := autoscaling.StoreOf(p).Members("web"); len(got) != 3 || got[0] != "i-0123456789abcdef0" {
			t.Errorf("members %v, want the seeded one and two more", got)
		}
		for _, id := range autoscaling.StoreOf(p).Members("web") {
			tags := simec2.StoreOf(p).Instance(id).Newest().Tags
			if got, _ := simec2.TagValue(tags, "aws:autoscaling:groupName"); got != "web" {
				t.Errorf("member %s has the tags %v, without its group's name", id, tags)
			}
			if id == "i-0123456789abcdef0" && len(tags) != 4 {
				t.Errorf("the seeded member has the tags %v, want its own, its template's two and its group's", tags)
			}
		}
		if got := autoscaling.StoreOf(p).Members("old"); len(got) != 1 {
			t.Errorf("members %v", got)
		}
	})
	broken := core.New(core.Options{}, simec2.Service(), autoscaling.Service())
	err = broken.Load([]byte(strings.Replace(doc, `"instances": ["i-0123456789abcdef0"]`, `"instances": ["i-none"]`, 1)))
	if err == nil || !strings.Contains(err.Error(), "groups[0]") {
		t.Errorf("a seed with an unknown member: %v", err)
	}
}
