package imagebuilder_test

import (
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	sdk "github.com/aws/aws-sdk-go-v2/service/imagebuilder"
	"github.com/aws/aws-sdk-go-v2/service/imagebuilder/types"
	"github.com/aws/smithy-go"

	"github.com/imdsctl/imdsctl/internal/awssim"
	"github.com/imdsctl/imdsctl/internal/awssim/core"
	"github.com/imdsctl/imdsctl/internal/clock"
)

const (
	account = "111122223333"
	prefix  = "arn:aws:imagebuilder:eu-west-1:111122223333:infrastructure-configuration/"
)

const seed = `{"accounts": [{"id": "111122223333", "regions": {"eu-west-1": {"imagebuilder": {"infrastructure": [
	{"name": "Full One", "description": "everything", "instance_types": ["m5.large", "m5.xlarge"], "instance_profile": "builder",
		"security_groups": ["sg-1"], "subnet": "subnet-1", "key_pair": "key", "sns_topic": "arn:aws:sns:eu-west-1:111122223333:t",
		"log_bucket": "logs", "log_prefix": "ib/", "terminate_instance_on_failure": false,
		"terminate_instance_on_completion": true, "resource_tags": {"a": "b"}, "tags": {"c": "d"},
		"http_tokens": "optional", "hop_limit": 3, "placement": {"tenancy": "dedicated", "availabilityZone": "eu-west-1a"},
		"parent_group": "builders", "parent_wait": 0},
	{"name": "bare", "instance_profile": "builder"},
	{"name": "third", "instance_profile": "builder"}]}}}}]}`

func enter(t *testing.T) (*core.World, *sdk.Client) {
	t.Helper()
	w := awssim.New(core.Options{Clock: clock.NewManual(time.Date(2026, 3, 2, 12, 0, 0, 0, time.UTC))})
	if err := w.Load([]byte(seed)); err != nil {
		t.Fatal(err)
	}
	return w, sdk.New(sdk.Options{
		Region: "eu-west-1", BaseEndpoint: aws.String(awssim.BaseURL), HTTPClient: w.Client(), RetryMaxAttempts: 1,
		Credentials: credentials.NewStaticCredentialsProvider(account, "dummy", ""),
	})
}

func read(t *testing.T, c *sdk.Client, name string) *types.InfrastructureConfiguration {
	t.Helper()
	out, err := c.GetInfrastructureConfiguration(t.Context(),
		&sdk.GetInfrastructureConfigurationInput{InfrastructureConfigurationArn: aws.String(prefix + name)})
	if err != nil {
		t.Fatal(err)
	}
	return out.InfrastructureConfiguration
}

// whole is an update that keeps everything.
func whole(c *types.InfrastructureConfiguration, token string) *sdk.UpdateInfrastructureConfigurationInput {
	return &sdk.UpdateInfrastructureConfigurationInput{
		InfrastructureConfigurationArn: c.Arn, Description: c.Description, InstanceTypes: c.InstanceTypes,
		InstanceProfileName: c.InstanceProfileName, SecurityGroupIds: c.SecurityGroupIds, SubnetId: c.SubnetId,
		Logging: c.Logging, KeyPair: c.KeyPair, TerminateInstanceOnFailure: c.TerminateInstanceOnFailure,
		SnsTopicArn: c.SnsTopicArn, ResourceTags: c.ResourceTags,
		InstanceMetadataOptions: c.InstanceMetadataOptions, Placement: c.Placement,
		ClientToken: aws.String(token),
	}
}

func code(err error) string {
	if e, ok := errors.AsType[smithy.APIError](err); ok {
		return e.ErrorCode()
	}
	return fmt.Sprint(err)
}

func TestAConfigurationComesBackWhole(t *testing.T) {
	w, c := enter(t)
	was := read(t, c, "full-one")
	if aws.ToString(was.Description) != "everything" || was.InstanceMetadataOptions.HttpTokens == nil ||
		aws.ToInt32(was.InstanceMetadataOptions.HttpPutResponseHopLimit) != 3 || was.Tags["c"] != "d" ||
		was.Placement.Tenancy != types.TenancyTypeDedicated || aws.ToString(was.Logging.S3Logs.S3KeyPrefix) != "ib/" {
		t.Errorf("%+v", was)
	}
	if _, err := c.UpdateInfrastructureConfiguration(t.Context(), whole(was, "t-1")); err != nil {
		t.Fatal(err)
	}
	now := read(t, c, "full-one")
	if now.DateUpdated == nil {
		t.Error("the update left no date")
	}
	now.DateUpdated = was.DateUpdated
	if !reflect.DeepEqual(now, was) {
		t.Errorf("%+v\n%+v", now, was)
	}
	if calls := w.Calls(); calls[1].Token != "t-1" || !calls[1].Mutated {
		t.Errorf("%+v", calls[1])
	}
}

// TestWhatIsNotSentIsReset: an update is the whole configuration.
func TestWhatIsNotSentIsReset(t *testing.T) {
	_, c := enter(t)
	_, err := c.UpdateInfrastructureConfiguration(t.Context(), &sdk.UpdateInfrastructureConfigurationInput{
		InfrastructureConfigurationArn: aws.String(prefix + "full-one"), InstanceProfileName: aws.String("other"),
		ClientToken: aws.String("t"),
	})
	if err != nil {
		t.Fatal(err)
	}
	now := read(t, c, "full-one")
	if now.InstanceMetadataOptions != nil || now.Description != nil || now.Logging != nil || len(now.InstanceTypes) > 0 ||
		aws.ToString(now.InstanceProfileName) != "other" || aws.ToString(now.Name) != "Full One" || now.Tags["c"] != "d" {
		t.Errorf("%+v", now)
	}
}

func TestListsArePaged(t *testing.T) {
	_, c := enter(t)
	first, err := c.ListInfrastructureConfigurations(t.Context(), &sdk.ListInfrastructureConfigurationsInput{MaxResults: aws.Int32(2)})
	if err != nil || len(first.InfrastructureConfigurationSummaryList) != 2 || first.NextToken == nil {
		t.Fatalf("%+v %v", first, err)
	}
	second, err := c.ListInfrastructureConfigurations(t.Context(),
		&sdk.ListInfrastructureConfigurationsInput{MaxResults: aws.Int32(2), NextToken: first.NextToken})
	if err != nil || len(second.InfrastructureConfigurationSummaryList) != 1 || second.NextToken != nil {
		t.Errorf("%+v %v", second, err)
	}
	named, err := c.ListInfrastructureConfigurations(t.Context(), &sdk.ListInfrastructureConfigurationsInput{
		Filters: []types.Filter{{Name: aws.String("name"), Values: []string{"bare"}}},
	})
	if err != nil || len(named.InfrastructureConfigurationSummaryList) != 1 {
		t.Errorf("%+v %v", named, err)
	}
	_, err = c.ListInfrastructureConfigurations(t.Context(), &sdk.ListInfrastructureConfigurationsInput{NextToken: aws.String("x")})
	if code(err) != "InvalidPaginationTokenException" {
		t.Error(err)
	}
}

func TestRefusals(t *testing.T) {
	w, c := enter(t)
	bare := read(t, c, "bare")
	change := func(do func(*sdk.UpdateInfrastructureConfigurationInput)) error {
		in := whole(bare, "t-7")
		do(in)
		_, err := c.UpdateInfrastructureConfiguration(t.Context(), in)
		return err
	}
	// In this order: a request that succeeds remembers its client token, and the service looks at the token first.
	for _, c := range []struct {
		want string
		do   func(*sdk.UpdateInfrastructureConfigurationInput)
	}{
		{"ResourceNotFoundException", func(in *sdk.UpdateInfrastructureConfigurationInput) {
			in.InfrastructureConfigurationArn = aws.String(prefix + "none")
		}},
		{"InvalidRequestException", func(in *sdk.UpdateInfrastructureConfigurationInput) {
			in.InstanceMetadataOptions = &types.InstanceMetadataOptions{HttpPutResponseHopLimit: aws.Int32(65)}
		}},
		{"<nil>", func(*sdk.UpdateInfrastructureConfigurationInput) {}},
	} {
		if err := change(c.do); code(err) != c.want {
			t.Errorf("got %v, want %s", err, c.want)
		}
	}
	err := change(func(in *sdk.UpdateInfrastructureConfigurationInput) { in.Description = aws.String("other") })
	if code(err) != "IdempotentParameterMismatchException" {
		t.Error(err)
	}
	if _, err := w.AddFault(core.Fault{Action: "Get*", Throttle: true}); err != nil {
		t.Fatal(err)
	}
	_, err = c.GetInfrastructureConfiguration(t.Context(),
		&sdk.GetInfrastructureConfigurationInput{InfrastructureConfigurationArn: bare.Arn})
	if code(err) != "CallRateLimitExceededException" {
		t.Error(err)
	}
}

func TestSeedsThatCannotBe(t *testing.T) {
	for config, want := range map[string]string{
		`{"name": "x", "instance_profile": "p"}`: "not a configuration's name",
		`{"name": "xyz"}`:                        "instanceProfileName",
		`{"name": "xyz", "instance_profile": "p", "http_tokens": "never"}`: "neither optional nor required",
		`{"name": "xyz", "instance_profile": "p", "hop_limit": 99}`:        "99 is not 1 to 64",
	} {
		w := awssim.New(core.Options{Clock: clock.NewManual(time.Date(2026, 3, 2, 12, 0, 0, 0, time.UTC))})
		err := w.Load([]byte(`{"accounts": [{"id": "` + account + `", "regions": {"eu-west-1": {"imagebuilder": {"infrastructure": [` +
			config + `]}}}}]}`))
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", config, err)
		}
	}
}
