package batch_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	sdk "github.com/aws/aws-sdk-go-v2/service/batch"
	"github.com/aws/aws-sdk-go-v2/service/batch/types"
	sdkec2 "github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/smithy-go"

	"github.com/imdsctl/imdsctl/internal/awssim"
	"github.com/imdsctl/imdsctl/internal/awssim/batch"
	"github.com/imdsctl/imdsctl/internal/awssim/core"
	"github.com/imdsctl/imdsctl/internal/clock"
)

const (
	account  = "111122223333"
	template = "lt-0123456789abcdef0"
)

const seed = `{"accounts": [{"id": "111122223333", "regions": {"eu-west-1": {
	"ec2": {"templates": [{"id": "lt-0123456789abcdef0", "name": "workers", "versions": [
		{"data": {"InstanceType": "m5.large"}}, {"data": {"InstanceType": "m5.large"}}, {"data": {"InstanceType": "m5.large"}}]}]},
	"batch": {"compute_environments": [
		{"name": "default", "compute_resources": {"allocation_strategy": "BEST_FIT_PROGRESSIVE",
			"launch_template": {"id": "lt-0123456789abcdef0"}}},
		{"name": "stale", "launches": {"": 1}, "compute_resources": {"allocation_strategy": "BEST_FIT_PROGRESSIVE",
			"launch_template": {"name": "workers", "version": "$Latest",
				"overrides": [{"id": "lt-0123456789abcdef0", "version": "2", "instance_types": ["g5"]}]}}},
		{"name": "best-fit", "compute_resources": {"launch_template": {"id": "lt-0123456789abcdef0", "version": "1"}}},
		{"name": "own-role", "service_role": "arn:aws:iam::111122223333:role/Batch", "compute_resources": {
			"allocation_strategy": "BEST_FIT_PROGRESSIVE", "launch_template": {"id": "lt-0123456789abcdef0", "version": "1"}}},
		{"name": "fargate", "compute_resources": {"type": "FARGATE"}},
		{"name": "unmanaged", "type": "UNMANAGED"}]}}}}]}`

type world struct {
	*core.World
	clock *clock.Manual
	place *core.Place
	batch *sdk.Client
	ec2   *sdkec2.Client
}

func enter(t *testing.T, o core.Options) world {
	t.Helper()
	c := clock.NewManual(time.Date(2026, 3, 2, 12, 0, 0, 0, time.UTC))
	o.Clock = c
	w := awssim.New(o)
	if err := w.Load([]byte(seed)); err != nil {
		t.Fatal(err)
	}
	p, err := w.Place(account, "eu-west-1")
	if err != nil {
		t.Fatal(err)
	}
	cfg := aws.Config{Region: "eu-west-1", BaseEndpoint: aws.String(awssim.BaseURL), HTTPClient: w.Client(), RetryMaxAttempts: 1,
		Credentials: credentials.NewStaticCredentialsProvider(account, "dummy", "")}
	return world{w, c, p, sdk.NewFromConfig(cfg), sdkec2.NewFromConfig(cfg)}
}

func code(err error) string {
	if e, ok := errors.AsType[smithy.APIError](err); ok {
		return e.ErrorCode()
	}
	return fmt.Sprint(err)
}

func (w world) read(t *testing.T, name string) types.ComputeEnvironmentDetail {
	t.Helper()
	out, err := w.batch.DescribeComputeEnvironments(t.Context(), &sdk.DescribeComputeEnvironmentsInput{ComputeEnvironments: []string{name}})
	if err != nil || len(out.ComputeEnvironments) != 1 {
		t.Fatalf("%s: %+v, %v", name, out, err)
	}
	return out.ComputeEnvironments[0]
}

func (w world) set(t *testing.T, name, version string) error {
	t.Helper()
	_, err := w.batch.UpdateComputeEnvironment(t.Context(), &sdk.UpdateComputeEnvironmentInput{
		ComputeEnvironment: aws.String(name), ComputeResources: &types.ComputeResourceUpdate{
			LaunchTemplate: &types.LaunchTemplateSpecification{LaunchTemplateId: aws.String(template), Version: aws.String(version)},
		},
	})
	return err
}

func (w world) launches(name, instanceType string) (n int64) {
	w.place.View(func(time.Time) { n = batch.StoreOf(w.place).Launches(name, instanceType) })
	return n
}

func TestAnInfrastructureUpdateTakesItsTime(t *testing.T) {
	w := enter(t, core.Options{Consistency: time.Second, Settle: 10 * time.Second})
	if err := w.set(t, "default", "3"); err != nil {
		t.Fatal(err)
	}
	for _, step := range []struct {
		after    time.Duration
		status   types.CEStatus
		version  string
		launches int64
	}{
		{0, "VALID", "", 1}, {time.Second, "UPDATING", "3", 1}, {9 * time.Second, "UPDATING", "3", 3}, {time.Second, "VALID", "3", 3},
	} {
		w.clock.Advance(step.after)
		e := w.read(t, "default")
		version := aws.ToString(e.ComputeResources.LaunchTemplate.Version)
		if e.Status != step.status || version != step.version || w.launches("default", "m5.large") != step.launches {
			t.Errorf("after %s more: %s, version %q, launches %d; want %+v", step.after, e.Status, version,
				w.launches("default", "m5.large"), step)
		}
		if step.status == "UPDATING" && step.launches == 1 {
			if err := w.set(t, "default", "2"); code(err) != "ClientException" {
				t.Errorf("an update during an update: %v", err)
			}
		}
	}
}

func TestMovingVersionsAreReadAtInfrastructureUpdatesOnly(t *testing.T) {
	w := enter(t, core.Options{Consistency: -1, Settle: -1})
	if n, g := w.launches("stale", "m5.large"), w.launches("stale", "g5"); n != 1 || g != 1 {
		t.Errorf("a seed that says what was resolved: %d and %d", n, g)
	}
	_, err := w.ec2.ModifyLaunchTemplate(t.Context(), &sdkec2.ModifyLaunchTemplateInput{
		LaunchTemplateId: aws.String(template), DefaultVersion: aws.String("2"),
	})
	if err != nil {
		t.Fatal(err)
	}
	w.clock.Advance(time.Minute)
	if n := w.launches("default", "m5.large"); n != 1 {
		t.Errorf("the template's new default is launched without an update: %d", n)
	}
	_, err = w.batch.UpdateComputeEnvironment(t.Context(), &sdk.UpdateComputeEnvironmentInput{
		ComputeEnvironment: aws.String("default"), State: "DISABLED",
		ComputeResources: &types.ComputeResourceUpdate{MaxvCpus: aws.Int32(64)},
	})
	if err != nil || w.launches("default", "m5.large") != 1 || w.read(t, "default").Status != "VALID" {
		t.Errorf("a scaling update: %v, launches %d", err, w.launches("default", "m5.large"))
	}
	if err := w.set(t, "default", "$Default"); err != nil {
		t.Fatal(err)
	}
	w.clock.Advance(time.Minute)
	if n := w.launches("default", "m5.large"); n != 2 {
		t.Errorf("after an infrastructure update %d is launched", n)
	}
	if err := w.set(t, "stale", "3"); err != nil {
		t.Fatal(err)
	}
	w.clock.Advance(time.Minute)
	if e := w.read(t, "stale"); len(e.ComputeResources.LaunchTemplate.Overrides) != 0 || w.launches("stale", "g5") != 3 {
		t.Errorf("overrides that were left out are still there: %+v", e.ComputeResources.LaunchTemplate)
	}
}

func TestAMissingTemplateMakesAnEnvironmentInvalid(t *testing.T) {
	w := enter(t, core.Options{})
	_, err := w.batch.UpdateComputeEnvironment(t.Context(), &sdk.UpdateComputeEnvironmentInput{
		ComputeEnvironment: aws.String("default"), ComputeResources: &types.ComputeResourceUpdate{
			LaunchTemplate: &types.LaunchTemplateSpecification{LaunchTemplateName: aws.String("nowhere"), Version: aws.String("1")},
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	w.clock.Advance(time.Minute)
	if e := w.read(t, "default"); e.Status != "INVALID" || !strings.Contains(aws.ToString(e.StatusReason), "nowhere") {
		t.Errorf("%s: %s", e.Status, aws.ToString(e.StatusReason))
	}
}

func TestRefusals(t *testing.T) {
	w := enter(t, core.Options{})
	for name, want := range map[string]string{
		"best-fit": "BEST_FIT", "own-role": "Service Linked Role", "fargate": "FARGATE", "unmanaged": "UNMANAGED", "nobody": "does not exist",
	} {
		if err := w.set(t, name, "2"); code(err) != "ClientException" || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", name, err, want)
		}
	}
	for what, in := range map[string]*types.ComputeResourceUpdate{
		"both": {LaunchTemplate: &types.LaunchTemplateSpecification{
			LaunchTemplateId: aws.String(template), LaunchTemplateName: aws.String("workers")}},
		"an override without types": {LaunchTemplate: &types.LaunchTemplateSpecification{LaunchTemplateId: aws.String(template),
			Overrides: []types.LaunchTemplateSpecificationOverride{{LaunchTemplateId: aws.String(template)}}}},
		"what is not carried out": {Subnets: []string{"subnet-1"}},
	} {
		_, err := w.batch.UpdateComputeEnvironment(t.Context(), &sdk.UpdateComputeEnvironmentInput{
			ComputeEnvironment: aws.String("default"), ComputeResources: in,
		})
		if code(err) != "ClientException" {
			t.Errorf("%s: %v", what, err)
		}
	}
	for n := range w.CallsSince(0) {
		if c := w.CallsSince(0)[n]; c.Mutated {
			t.Errorf("a refused call changed something: %+v", c)
		}
	}
}

func TestPages(t *testing.T) {
	w := enter(t, core.Options{})
	want := []string{"best-fit", "default", "fargate", "own-role", "stale", "unmanaged"}
	for size := int32(1); size <= 7; size++ {
		var got []string
		in := &sdk.DescribeComputeEnvironmentsInput{MaxResults: aws.Int32(size)}
		for {
			out, err := w.batch.DescribeComputeEnvironments(t.Context(), in)
			if err != nil {
				t.Fatal(err)
			}
			for _, e := range out.ComputeEnvironments {
				got = append(got, *e.ComputeEnvironmentName)
			}
			if in.NextToken = out.NextToken; in.NextToken == nil {
				break
			}
		}
		if !slices.Equal(got, want) {
			t.Errorf("pages of %d: %q", size, got)
		}
	}
	_, err := w.batch.DescribeComputeEnvironments(t.Context(), &sdk.DescribeComputeEnvironmentsInput{NextToken: aws.String("!")})
	if code(err) != "ClientException" {
		t.Errorf("a token that is none: %v", err)
	}
}

func TestSeedsThatAreWrong(t *testing.T) {
	for _, tt := range []struct{ environment, want string }{
		{`{"name": "a b", "type": "UNMANAGED"}`, "not a compute environment's name"},
		{`{"name": "a"}`, "has compute resources"},
		{`{"name": "a", "type": "UNMANAGED", "compute_resources": {}}`, "has none"},
		{`{"name": "a", "compute_resources": {"type": "FARGATE", "launch_template": {"name": "workers"}}}`, "have no launch template"},
		{`{"name": "a", "colour": "red"}`, "unknown key"},
	} {
		w := awssim.New(core.Options{})
		err := w.Load(fmt.Appendf(nil, `{"accounts": [{"id": "111122223333", "regions": {"eu-west-1": {"batch": {
			"compute_environments": [%s]}}}}]}`, tt.environment))
		if err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %v, want %q", tt.environment, err, tt.want)
		}
	}
}
