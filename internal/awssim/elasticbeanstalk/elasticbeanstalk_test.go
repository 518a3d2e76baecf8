package elasticbeanstalk_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	sdkec2 "github.com/aws/aws-sdk-go-v2/service/ec2"
	ec2types "github.com/aws/aws-sdk-go-v2/service/ec2/types"
	sdk "github.com/aws/aws-sdk-go-v2/service/elasticbeanstalk"
	"github.com/aws/aws-sdk-go-v2/service/elasticbeanstalk/types"
	"github.com/aws/smithy-go"

	"github.com/imdsctl/imdsctl/internal/awssim"
	"github.com/imdsctl/imdsctl/internal/awssim/core"
	"github.com/imdsctl/imdsctl/internal/clock"
)

const (
	account   = "111122223333"
	web       = "e-aaaaaaaaa1"
	old       = "e-aaaaaaaaa2"
	launching = "e-aaaaaaaaa3"
	namespace = "aws:autoscaling:launchconfiguration"
	option    = "DisableIMDSv1"
)

const seed = `{"accounts": [{"id": "111122223333", "regions": {"eu-west-1": {
	"ec2": {%s"images": [{"id": "ami-0123456789abcdef0"}], "templates": [{"id": "lt-0123456789abcdef0", "name": "web",
		"versions": [{"data": {"ImageId": "ami-0123456789abcdef0", "InstanceType": "m5.large",
			"MetadataOptions": {"HttpTokens": "optional", "HttpPutResponseHopLimit": 2}}}]}]},
	"autoscaling": {
		"launch_configurations": [{"name": "old", "image_id": "ami-0123456789abcdef0", "instance_type": "t2.micro"}],
		"groups": [{"name": "web", "template": "web", "version": "1", "desired": 2, "max": 3},
			{"name": "old", "launch_configuration": "old", "desired": 1}]},
	"elasticbeanstalk": {"environments": [
		{"id": "e-aaaaaaaaa1", "name": "web-prod", "application": "shop", "groups": ["web"], "tags": {"team": "web"},
			"solution_stack": "64bit Amazon Linux 2 v3.5.10 running Python 3.8",
			"options": {"aws:autoscaling:launchconfiguration/DisableIMDSv1": "false"}},
		{"id": "e-aaaaaaaaa2", "name": "old-worker", "application": "shop", "groups": ["old", "elsewhere"]},
		{"id": "e-aaaaaaaaa3", "name": "launching", "application": "shop", "status": "Launching"},
		{"id": "e-aaaaaaaaa4", "name": "ended", "application": "shop", "status": "Terminated"},
		{"id": "e-aaaaaaaaa5", "name": "fresh", "application": "api",
			"solution_stack": "64bit Amazon Linux 2023 v4.1.0 running Docker"}]}}}}]}`

type stage struct {
	*core.World
	t         *testing.T
	clock     *clock.Manual
	beanstalk *sdk.Client
	ec2       *sdkec2.Client
}

func newStage(t *testing.T, defaults string) *stage {
	t.Helper()
	c := clock.NewManual(time.Date(2026, 3, 2, 12, 0, 0, 0, time.UTC))
	w := awssim.New(core.Options{Clock: c, Consistency: time.Second, Settle: 10 * time.Second})
	if err := w.Load([]byte(fmt.Sprintf(seed, defaults))); err != nil {
		t.Fatal(err)
	}
	c.Advance(time.Minute)
	login := credentials.NewStaticCredentialsProvider(account, "dummy", "")
	cfg := aws.Config{
		Region: "eu-west-1", BaseEndpoint: aws.String(awssim.BaseURL), HTTPClient: w.Client(), Credentials: login,
		RetryMaxAttempts: 1,
	}
	return &stage{w, t, c, sdk.NewFromConfig(cfg), sdkec2.NewFromConfig(cfg)}
}

func (s *stage) update(id, value string) {
	s.t.Helper()
	out, err := s.beanstalk.UpdateEnvironment(s.t.Context(), &sdk.UpdateEnvironmentInput{
		EnvironmentId: aws.String(id), OptionSettings: []types.ConfigurationOptionSetting{
			{Namespace: aws.String(namespace), OptionName: aws.String(option), Value: aws.String(value)},
		},
	})
	if err != nil || out.Status != types.EnvironmentStatusUpdating {
		s.t.Fatalf("update of %s: %v, %+v", id, err, out)
	}
}

// read is an environment in short: its status, and the option in each set of settings.
func (s *stage) read(name string) string {
	s.t.Helper()
	out, err := s.beanstalk.DescribeEnvironments(s.t.Context(), &sdk.DescribeEnvironmentsInput{EnvironmentNames: []string{name}})
	if err != nil || len(out.Environments) != 1 {
		s.t.Fatalf("describe %s: %v, %+v", name, err, out)
	}
	text := string(out.Environments[0].Status)
	settings, err := s.beanstalk.DescribeConfigurationSettings(s.t.Context(), &sdk.DescribeConfigurationSettingsInput{
		ApplicationName: out.Environments[0].ApplicationName, EnvironmentName: aws.String(name),
	})
	if err != nil {
		s.t.Fatal(err)
	}
	for _, set := range settings.ConfigurationSettings {
		text += " " + string(set.DeploymentStatus)
		for _, o := range set.OptionSettings {
			if *o.OptionName == option {
				text += "=" + aws.ToString(o.Value)
			}
		}
	}
	return text
}

// instances are the metadata options of what runs of a group.
func (s *stage) instances(group string) []string {
	s.t.Helper()
	out, err := s.ec2.DescribeInstances(s.t.Context(), &sdkec2.DescribeInstancesInput{Filters: []ec2types.Filter{
		{Name: aws.String("tag:aws:autoscaling:groupName"), Values: []string{group}},
		{Name: aws.String("instance-state-name"), Values: []string{"pending", "running"}},
	}})
	if err != nil {
		s.t.Fatal(err)
	}
	var got []string
	for _, r := range out.Reservations {
		for _, i := range r.Instances {
			got = append(got, fmt.Sprint(i.MetadataOptions.HttpTokens, " ", *i.MetadataOptions.HttpPutResponseHopLimit))
		}
	}
	slices.Sort(got)
	return got
}

func TestAnUpdateReplacesTheInstances(t *testing.T) {
	s := newStage(t, "")
	s.update(web, "true")
	if got := s.read("web-prod"); got != "Ready deployed=false" {
		t.Errorf("at once: %s", got)
	}
	s.clock.Advance(2 * time.Second)
	if got := s.read("web-prod"); got != "Updating pending=true deployed=false" {
		t.Errorf("while updating: %s", got)
	}
	s.clock.Advance(10 * time.Second)
	mixed := []string{"optional 2", "required 2"}
	if got := slices.Compact(s.instances("web")); !slices.Equal(got, mixed) {
		t.Errorf("half-way the group has %q", got)
	}
	s.clock.Advance(time.Minute)
	if got := s.read("web-prod"); got != "Ready deployed=true" {
		t.Errorf("in the end: %s", got)
	}
	if got := s.instances("web"); !slices.Equal(got, []string{"required 2", "required 2"}) {
		t.Errorf("in the end the group has %q", got)
	}
	s.update(web, "false")
	s.clock.Advance(2 * time.Minute)
	if got := s.instances("web"); !slices.Equal(got, []string{"optional 2", "optional 2"}) {
		t.Errorf("taken back, the group has %q", got)
	}
}

func TestALaunchConfigurationBecomesATemplate(t *testing.T) {
	s := newStage(t, "")
	if got := s.read("old-worker"); got != "Ready deployed" {
		t.Errorf("before: %s", got)
	}
	s.update(old, "true")
	s.clock.Advance(time.Minute)
	if got := s.instances("old"); !slices.Equal(got, []string{"required 1"}) {
		t.Errorf("the group has %q", got)
	}
	_, err := s.beanstalk.UpdateEnvironment(t.Context(), &sdk.UpdateEnvironmentInput{
		EnvironmentName: aws.String("old-worker"), OptionsToRemove: []types.OptionSpecification{
			{Namespace: aws.String(namespace), OptionName: aws.String(option)},
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	s.clock.Advance(time.Minute)
	if got := s.read("old-worker"); got != "Ready deployed" {
		t.Errorf("without the option: %s", got)
	}
	if got := s.instances("old"); !slices.Equal(got, []string{"optional 1"}) {
		t.Errorf("without the option the group has %q", got)
	}
}

func TestAFailedUpdateKeepsTheOldSettings(t *testing.T) {
	s := newStage(t, `"defaults": {"http_tokens": "required"}, `)
	s.update(web, "true")
	s.clock.Advance(2 * time.Minute)
	_, err := s.ec2.ModifyInstanceMetadataDefaults(t.Context(), &sdkec2.ModifyInstanceMetadataDefaultsInput{
		HttpTokensEnforced: ec2types.DefaultHttpTokensEnforcedStateEnabled,
	})
	if err != nil {
		t.Fatal(err)
	}
	s.clock.Advance(time.Minute)
	s.update(web, "false")
	s.clock.Advance(2 * time.Minute)
	if got := s.read("web-prod"); got != "Ready failed=false deployed=true" {
		t.Errorf("after a launch that EC2 refused: %s", got)
	}
}

func TestRefusals(t *testing.T) {
	s := newStage(t, "")
	for name, tt := range map[string]struct {
		in         *sdk.UpdateEnvironmentInput
		code, text string
	}{
		"none named": {&sdk.UpdateEnvironmentInput{}, "MissingRequiredParameter", ""},
		"not there":  {&sdk.UpdateEnvironmentInput{EnvironmentName: aws.String("nobody")}, "InvalidParameterValue", "No Environment found"},
		"ended":      {&sdk.UpdateEnvironmentInput{EnvironmentId: aws.String("e-aaaaaaaaa4")}, "InvalidParameterValue", "No Environment found"},
		"not ready":  {&sdk.UpdateEnvironmentInput{EnvironmentId: aws.String(launching)}, "InvalidParameterValue", "Must be Ready"},
		"a version":  {&sdk.UpdateEnvironmentInput{EnvironmentId: aws.String(web), VersionLabel: aws.String("2")}, "UnknownParameter", ""},
		"an option": {&sdk.UpdateEnvironmentInput{EnvironmentId: aws.String(web), OptionSettings: []types.ConfigurationOptionSetting{
			{Namespace: aws.String("aws:colour"), OptionName: aws.String("Red"), Value: aws.String("1")},
		}}, "ConfigurationValidationException", "Unknown configuration setting"},
		"a value": {&sdk.UpdateEnvironmentInput{EnvironmentId: aws.String(web), OptionSettings: []types.ConfigurationOptionSetting{
			{Namespace: aws.String(namespace), OptionName: aws.String(option), Value: aws.String("perhaps")},
		}}, "ConfigurationValidationException", "allowed values"},
	} {
		_, err := s.beanstalk.UpdateEnvironment(t.Context(), tt.in)
		var api smithy.APIError
		if !errors.As(err, &api) || api.ErrorCode() != tt.code || !strings.Contains(api.ErrorMessage(), tt.text) {
			t.Errorf("%s gave %v", name, err)
		}
	}
	s.update(web, "true")
	_, err := s.beanstalk.UpdateEnvironment(t.Context(), &sdk.UpdateEnvironmentInput{EnvironmentId: aws.String(web)})
	if err == nil || !strings.Contains(err.Error(), "Must be Ready") {
		t.Errorf("an update during an update gave %v", err)
	}
}

func TestListsAndResources(t *testing.T) {
	s := newStage(t, "")
	for size := int32(1); size < 6; size++ {
		var got []string
		in := &sdk.DescribeEnvironmentsInput{MaxRecords: aws.Int32(size), IncludeDeleted: aws.Bool(false)}
		for {
			out, err := s.beanstalk.DescribeEnvironments(t.Context(), in)
			if err != nil || len(out.Environments) > int(size) {
				t.Fatalf("pages of %d: %v, %d", size, err, len(out.Environments))
			}
			for _, e := range out.Environments {
				got = append(got, *e.EnvironmentName)
			}
			if in.NextToken = out.NextToken; in.NextToken == nil {
				break
			}
		}
		if want := []string{"web-prod", "old-worker", "launching", "fresh"}; !slices.Equal(got, want) {
			t.Errorf("pages of %d gave %q", size, got)
		}
	}
	deleted, err := s.beanstalk.DescribeEnvironments(t.Context(), &sdk.DescribeEnvironmentsInput{IncludeDeleted: aws.Bool(true)})
	if err != nil || len(deleted.Environments) != 5 {
		t.Errorf("with those that ended: %v, %d", err, len(deleted.Environments))
	}
	r, err := s.beanstalk.DescribeEnvironmentResources(t.Context(), &sdk.DescribeEnvironmentResourcesInput{EnvironmentId: aws.String(web)})
	if err != nil || len(r.EnvironmentResources.AutoScalingGroups) != 1 || len(r.EnvironmentResources.Instances) != 2 {
		t.Errorf("resources: %v, %+v", err, r)
	}
	tags, err := s.beanstalk.ListTagsForResource(t.Context(), &sdk.ListTagsForResourceInput{
		ResourceArn: aws.String("arn:aws:elasticbeanstalk:eu-west-1:111122223333:environment/shop/web-prod"),
	})
	if err != nil || len(tags.ResourceTags) != 1 || *tags.ResourceTags[0].Value != "web" {
		t.Errorf("tags: %v, %+v", err, tags)
	}
}
