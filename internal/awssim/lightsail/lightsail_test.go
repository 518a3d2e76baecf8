package lightsail_test

import (
	"errors"
	"net"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	sdk "github.com/aws/aws-sdk-go-v2/service/lightsail"
	"github.com/aws/aws-sdk-go-v2/service/lightsail/types"
	"github.com/aws/smithy-go"

	"github.com/imdsctl/imdsctl/internal/awssim"
	"github.com/imdsctl/imdsctl/internal/awssim/core"
	"github.com/imdsctl/imdsctl/internal/clock"
)

const seed = `{"accounts": [{"id": "111122223333", "regions": {"eu-west-1": {"lightsail": {"page_size": 2, "instances": [
	{"name": "shop", "tags": {"app": "shop"}},
	{"name": "blog", "options": {"tokens": "required", "hop_limit": 2}},
	{"name": "cold", "state": "stopped"}]}}}}],
	"services": {"workload": {"programs": [{"name": "shop", "speaks": "v1-only", "every": "10m", "calls": 3, "essential": true,
		"where": {"tags": ["app=shop"]}}]}}}`

type world struct {
	*core.World
	clock  *clock.Manual
	client *sdk.Client
}

func enter(t *testing.T, o core.Options) *world {
	t.Helper()
	c := clock.NewManual(time.Date(2026, 3, 2, 12, 0, 0, 0, time.UTC))
	o.Clock = c
	w := awssim.New(o)
	if err := w.Load([]byte(seed)); err != nil {
		t.Fatal(err)
	}
	return &world{w, c, sdk.NewFromConfig(aws.Config{Region: "eu-west-1", HTTPClient: w.Client(),
		BaseEndpoint: aws.String(awssim.BaseURL), RetryMaxAttempts: 1,
		Credentials: credentials.NewStaticCredentialsProvider("111122223333", "secret", "")})}
}

func (w *world) instance(t *testing.T, name string) *types.Instance {
	t.Helper()
	out, err := w.client.GetInstance(t.Context(), &sdk.GetInstanceInput{InstanceName: &name, IncludeHealthStatus: aws.Bool(true)})
	if err != nil {
		t.Fatal(err)
	}
	return out.Instance
}

func (w *world) update(t *testing.T, in *sdk.UpdateInstanceMetadataOptionsInput) {
	t.Helper()
	if _, err := w.client.UpdateInstanceMetadataOptions(t.Context(), in); err != nil {
		t.Fatal(err)
	}
}

func mustRefuse(t *testing.T, err error, code, words string) {
	t.Helper()
	api, ok := errors.AsType[smithy.APIError](err)
	if !ok || api.ErrorCode() != code || !strings.Contains(api.ErrorMessage(), words) {
		t.Errorf("got %v, want %s with %q", err, code, words)
	}
}

func TestChangeIsPendingAndThenApplied(t *testing.T) {
	w := enter(t, core.Options{})
	w.update(t, &sdk.UpdateInstanceMetadataOptionsInput{InstanceName: aws.String("shop"), HttpTokens: types.HttpTokensRequired})
	if o := w.instance(t, "shop").MetadataOptions; o.HttpTokens != types.HttpTokensOptional {
		t.Errorf("a read after the write sees %s at once", o.HttpTokens)
	}
	w.clock.Advance(time.Second)
	if o := w.instance(t, "shop").MetadataOptions; o.State != types.InstanceMetadataStatePending {
		t.Errorf("state %s", o.State)
	}
	w.clock.Advance(10 * time.Second)
	o := w.instance(t, "shop").MetadataOptions
	if o.State != types.InstanceMetadataStateApplied || o.HttpTokens != types.HttpTokensRequired || *o.HttpPutResponseHopLimit != 1 {
		t.Errorf("got %+v", o)
	}
}

// TestTokensLeftOutBecomeOptional is the API reference's word on HttpTokens; what else is left out stays.
func TestTokensLeftOutBecomeOptional(t *testing.T) {
	w := enter(t, core.Options{Consistency: -1, Settle: -1})
	w.update(t, &sdk.UpdateInstanceMetadataOptionsInput{InstanceName: aws.String("blog"), HttpPutResponseHopLimit: aws.Int32(4)})
	o := w.instance(t, "blog").MetadataOptions
	if o.HttpTokens != types.HttpTokensOptional || *o.HttpPutResponseHopLimit != 4 || o.HttpEndpoint != types.HttpEndpointEnabled {
		t.Errorf("got %+v", o)
	}
}

func TestRefusals(t *testing.T) {
	w := enter(t, core.Options{})
	update := func(in sdk.UpdateInstanceMetadataOptionsInput) error {
		_, err := w.client.UpdateInstanceMetadataOptions(t.Context(), &in)
		return err
	}
	mustRefuse(t, update(sdk.UpdateInstanceMetadataOptionsInput{InstanceName: aws.String("none")}), "NotFoundException", "none")
	mustRefuse(t, update(sdk.UpdateInstanceMetadataOptionsInput{InstanceName: aws.String("shop"), HttpTokens: "maybe"}),
		"InvalidInputException", "httpTokens")
	mustRefuse(t, update(sdk.UpdateInstanceMetadataOptionsInput{InstanceName: aws.String("shop"),
		HttpPutResponseHopLimit: aws.Int32(65)}), "InvalidInputException", "64")
	mustRefuse(t, update(sdk.UpdateInstanceMetadataOptionsInput{InstanceName: aws.String("shop"),
		HttpProtocolIpv6: types.HttpProtocolIpv6Enabled}), "InvalidInputException", "eu-north-1")
	_, err := w.client.GetInstances(t.Context(), &sdk.GetInstancesInput{PageToken: aws.String("x")})
	mustRefuse(t, err, "InvalidInputException", "page token")
	if n := len(w.Calls()); n != 5 || w.Calls()[0].Mutated {
		t.Errorf("%d calls, %+v", n, w.Calls()[0])
	}
}

// TestMetricAndHealthFollowTheProgram has v1 calls counted while they are answered. Refused ones are not counted, and the
// status check fails.
func TestMetricAndHealthFollowTheProgram(t *testing.T) {
	w := enter(t, core.Options{Consistency: -1, Settle: -1})
	sum := func(name string) (points int, calls float64) {
		out, err := w.client.GetInstanceMetricData(t.Context(), &sdk.GetInstanceMetricDataInput{
			InstanceName: &name, MetricName: types.InstanceMetricNameMetadataNoToken, Period: aws.Int32(3600),
			StartTime: aws.Time(w.Now().Truncate(time.Hour).Add(-3 * time.Hour)), EndTime: aws.Time(w.Now().Truncate(time.Hour)),
			Unit: types.MetricUnitCount, Statistics: []types.MetricStatistic{types.MetricStatisticSum},
		})
		if err != nil {
			t.Fatal(err)
		}
		for _, p := range out.MetricData {
			calls += *p.Sum
		}
		return len(out.MetricData), calls
	}
	w.clock.Advance(4 * time.Minute) // the last period is published
	if points, calls := sum("shop"); points != 3 || calls != 3*6*3 {
		t.Errorf("%d points and %v calls in three hours, want 3 and 54", points, calls)
	}
	if points, calls := sum("blog"); points != 0 || calls != 0 {
		t.Errorf("where tokens are required: %d points and %v calls", points, calls)
	}
	if points, _ := sum("cold"); points != 0 {
		t.Errorf("a stopped instance has %d points", points)
	}
	if s := w.instance(t, "shop").InstanceStatus; s.Status != types.InstanceHealthStatusValueOk {
		t.Errorf("status %+v", s)
	}
	w.update(t, &sdk.UpdateInstanceMetadataOptionsInput{InstanceName: aws.String("shop"), HttpTokens: types.HttpTokensRequired})
	w.clock.Advance(4 * time.Hour)
	if points, calls := sum("shop"); points != 0 || calls != 0 {
		t.Errorf("after enforcement: %d points and %v calls", points, calls)
	}
	if s := w.instance(t, "shop").InstanceStatus; s.Status != types.InstanceHealthStatusValueImpaired {
		t.Errorf("status %+v, and its program cannot start", s)
	}
}

func TestSeedRefusesWhatCannotBe(t *testing.T) {
	for _, section := range []string{
		`{"instances": [{"name": "-x"}]}`, `{"instances": [{"name": "aa"}, {"name": "aa"}]}`,
		`{"instances": [{"name": "aa", "state": "asleep"}]}`, `{"instances": [{"name": "aa", "options": {"instance_tags": "enabled"}}]}`,
		`{"instances": [{"name": "aa", "options": {"tokens": "some"}}]}`, `{"page_size": -1}`, `{"pages": 1}`,
	} {
		w := awssim.New(core.Options{})
		err := w.Load([]byte(`{"accounts": [{"id": "111122223333", "regions": {"eu-west-1": {"lightsail": ` + section + `}}}]}`))
		if err == nil {
			t.Errorf("%s was taken", section)
		}
	}
}

func FuzzPageToken(f *testing.F) {
	f.Add("c2hvcA")
	f.Add("")
	f.Fuzz(func(t *testing.T, token string) {
		w := enter(t, core.Options{})
		out, err := w.client.GetInstances(t.Context(), &sdk.GetInstancesInput{PageToken: &token})
		if err == nil && len(out.Instances) > 2 {
			t.Errorf("%q gave %d instances", token, len(out.Instances))
		}
		if err != nil {
			mustRefuse(t, err, "InvalidInputException", "")
		}
	})
}

// TestNotOffered has the name of the endpoint fail to resolve for in-memory clients, and an error over a socket, where no
// name is looked up.
func TestNotOffered(t *testing.T) {
	w := enter(t, core.Options{})
	if err := w.Load([]byte(`{"accounts": [], "not_offered": {"lightsail": ["eu-west-1"]}}`)); err != nil {
		t.Fatal(err)
	}
	_, err := w.client.GetInstances(t.Context(), &sdk.GetInstancesInput{})
	if dns, ok := errors.AsType[*net.DNSError](err); !ok || !dns.IsNotFound || dns.Name != "lightsail.eu-west-1.amazonaws.com" {
		t.Errorf("got %v", err)
	}
	server := httptest.NewServer(w.Handler())
	defer server.Close()
	socket := sdk.New(w.client.Options(), func(o *sdk.Options) {
		o.BaseEndpoint, o.HTTPClient = &server.URL, server.Client()
	})
	_, err = socket.GetInstances(t.Context(), &sdk.GetInstancesInput{})
	mustRefuse(t, err, "UnknownEndpoint", "not offered in eu-west-1")
	_, err = sdk.New(w.client.Options(), func(o *sdk.Options) { o.Region = "eu-west-2" }).GetInstances(t.Context(), &sdk.GetInstancesInput{})
	if err != nil {
		t.Errorf("another region: %v", err)
	}
	if err := w.Load([]byte(`{"accounts": [], "not_offered": {"lightsale": ["eu-west-1"]}}`)); err == nil {
		t.Error("a service that is not simulated was taken")
	}
}
