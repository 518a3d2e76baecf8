package ec2_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	api "github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"
	"github.com/aws/smithy-go"

	"github.com/imdsctl/imdsctl/internal/awssim/authz"
	"github.com/imdsctl/imdsctl/internal/awssim/core"
	"github.com/imdsctl/imdsctl/internal/awssim/ec2"
	"github.com/imdsctl/imdsctl/internal/awssim/sts"
	"github.com/imdsctl/imdsctl/internal/clock"
	"github.com/imdsctl/imdsctl/internal/fleet"
)

const (
	account = "111122223333"
	region  = "eu-west-1"
	image1  = "ami-0000000000000001a" // of this account
	image2  = "ami-0000000000000002a" // ImdsSupport v2.0
)

var start = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

// world is a small world on a manual clock; calls come in over a real HTTP server.
type world struct {
	*core.World
	clock *clock.Manual
	url   string
	http  *http.Client
	*api.Client
}

func newWorld(t *testing.T, opts core.Options) *world {
	t.Helper()
	c := clock.NewManual(start)
	opts.Clock = c
	w := &world{World: core.New(opts, ec2.Service(), sts.Service()), clock: c}
	seed := fmt.Sprintf(`{"accounts":[
		{"id":%q,"name":"shop","regions":{%q:{"ec2":{"images":[{"id":%q,"name":"base"},{"id":%q,"name":"base-v2","imds_v2":true}]}}}},
		{"id":"444455556666","name":"tools"}]}`, account, region, image1, image2)
	if err := w.Load([]byte(seed)); err != nil {
		t.Fatal(err)
	}
	srv := httptest.NewServer(w.Handler())
	t.Cleanup(srv.Close)
	w.url, w.http = srv.URL, &http.Client{Transport: steady{srv.Client().Transport}}
	w.Client = w.as(account, region, "")
	return w
}

// steady keeps the request's body out of the SDK's hands: the SDK closes it once the response has begun, and when the
// answer is that fast, the transport may still be looking at it, and then drops the connection.
type steady struct{ http.RoundTripper }

func (s steady) RoundTrip(r *http.Request) (*http.Response, error) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return nil, err
	}
	r = r.Clone(r.Context())
	r.Body = io.NopCloser(bytes.NewReader(body))
	return s.RoundTripper.RoundTrip(r)
}

// calm is a world without delays, where what was written is there.
func calm(t *testing.T) *world { return newWorld(t, core.Options{Consistency: -1, Settle: -1}) }

func (w *world) as(key, region, token string) *api.Client {
	return api.New(api.Options{
		Region: region, BaseEndpoint: aws.String(w.url), Credentials: credentials.NewStaticCredentialsProvider(key,
			"secret", token),
		RetryMaxAttempts: 1, HTTPClient: w.http,
	})
}

func (w *world) place(t *testing.T) *core.Place {
	t.Helper()
	p, err := w.Place(account, region)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// add puts instances into the world.
func (w *world) add(t *testing.T, seeds ...ec2.InstanceSeed) []string {
	t.Helper()
	var ids []string
	w.place(t).With(func(now time.Time) {
		for _, s := range seeds {
			if s.ImageID == "" {
				s.ImageID = image1
			}
			i, err := ec2.StoreOf(w.place(t)).AddInstance(now, s)
			if err != nil {
				t.Fatal(err)
			}
			ids = append(ids, i.ID())
		}
	})
	return ids
}

func wantCode(t *testing.T, err error, code string) {
	t.Helper()
	e, ok := errors.AsType[smithy.APIError](err)
	if !ok || e.ErrorCode() != code {
		t.Fatalf("got %v, want %s", err, code)
	}
}

func must[T any](t *testing.T) func(T, error) T {
	return func(v T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

func (w *world) instance(t *testing.T, id string) types.Instance {
	t.Helper()
	out := must[*api.DescribeInstancesOutput](t)(w.DescribeInstances(t.Context(),
		&api.DescribeInstancesInput{InstanceIds: []string{id}}))
	return out.Reservations[0].Instances[0]
}

func optionsOf(i types.Instance) fleet.Options {
	m := i.MetadataOptions
	return fleet.Options{
		Tokens: string(m.HttpTokens), Endpoint: string(m.HttpEndpoint), HopLimit: int(aws.ToInt32(m.HttpPutResponseHopLimit)),
		IPv6: string(m.HttpProtocolIpv6), Tags: string(m.InstanceMetadataTags),
	}
}

func (w *world) lastCall() core.CallRecord {
	calls := w.Calls()
	return calls[len(calls)-1]
}

func TestDescribeInstancesPagesWithoutLossOrRepetition(t *testing.T) {
	w := calm(t)
	want := w.add(t, make([]ec2.InstanceSeed, 23)...)
	var got []string
	p := api.NewDescribeInstancesPaginator(w.Client, &api.DescribeInstancesInput{MaxResults: aws.Int32(5)})
	pages := 0
	for p.HasMorePages() {
		out := must[*api.DescribeInstancesOutput](t)(p.NextPage(t.Context()))
		pages++
		for _, r := range out.Reservations {
			for _, i := range r.Instances {
				got = append(got, *i.InstanceId)
			}
		}
	}
	if !slices.Equal(got, want) || pages != 5 {
		t.Fatalf("%d pages, got %v, want %v", pages, got, want)
	}
}

// TestPagesSurviveChange: what is there throughout is listed once, whatever else comes and goes meanwhile.
func TestPagesSurviveChange(t *testing.T) {
	w := calm(t)
	want := w.add(t, make([]ec2.InstanceSeed, 12)...)
	first := must[*api.DescribeInstancesOutput](t)(w.DescribeInstances(t.Context(),
		&api.DescribeInstancesInput{MaxResults: aws.Int32(5)}))
	must[*api.TerminateInstancesOutput](t)(w.TerminateInstances(t.Context(),
		&api.TerminateInstancesInput{InstanceIds: want[3:5]}))
	w.clock.Advance(2 * time.Hour) // forgotten
	w.add(t, ec2.InstanceSeed{})
	rest := must[*api.DescribeInstancesOutput](t)(w.DescribeInstances(t.Context(),
		&api.DescribeInstancesInput{MaxResults: aws.Int32(1000), NextToken: first.NextToken}))
	if len(rest.Reservations) != 8 || *rest.Reservations[0].Instances[0].InstanceId != want[5] {
		t.Fatalf("%d on the second page, first %s", len(rest.Reservations), *rest.Reservations[0].Instances[0].InstanceId)
	}
}

func TestDescribeInstancesRefusals(t *testing.T) {
	w := calm(t)
	ids := w.add(t, make([]ec2.InstanceSeed, 6)...)
	page := must[*api.DescribeInstancesOutput](t)(w.DescribeInstances(t.Context(),
		&api.DescribeInstancesInput{MaxResults: aws.Int32(5)}))
	filter := []types.Filter{{Name: aws.String("image-id"), Values: []string{"x"}}}
	for name, tc := range map[string]struct {
		in   api.DescribeInstancesInput
		code string
	}{
		"ids with page size": {api.DescribeInstancesInput{InstanceIds: ids[:1], MaxResults: aws.Int32(5)},
			"InvalidParameterCombination"},
		"page too small": {api.DescribeInstancesInput{MaxResults: aws.Int32(4)}, "InvalidParameterValue"},
		"page too large": {api.DescribeInstancesInput{MaxResults: aws.Int32(1001)}, "InvalidParameterValue"},
		"garbled token": {api.DescribeInstancesInput{MaxResults: aws.Int32(5), NextToken: aws.String("x")},
			"InvalidNextToken"},
		"token of another call": {api.DescribeInstancesInput{MaxResults: aws.Int32(5), NextToken: page.NextToken,
			Filters: filter}, "InvalidNextToken"},
		"malformed id": {api.DescribeInstancesInput{InstanceIds: []string{"i-xyz"}}, "InvalidInstanceID.Malformed"},
		"unknown id": {api.DescribeInstancesInput{InstanceIds: []string{ids[0], "i-00000000000000abc"}},
			"InvalidInstanceID.NotFound"},
		"unknown filter": {api.DescribeInstancesInput{Filters: []types.Filter{{Name: aws.String("colour"),
			Values: []string{"red"}}}}, "InvalidParameterValue"},
		"filter without values": {api.DescribeInstancesInput{Filters: []types.Filter{{Name: aws.String("image-id")}}},
			"InvalidParameterValue"},
		"dry run": {api.DescribeInstancesInput{DryRun: aws.Bool(true)}, "DryRunOperation"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := w.DescribeInstances(t.Context(), &tc.in)
			wantCode(t, err, tc.code)
		})
	}
}

func TestInstanceFilters(t *testing.T) {
	w := calm(t)
	launched := start.Add(-48 * time.Hour)
	ids := w.add(t,
		ec2.InstanceSeed{
			Tags: map[string]string{"Env": "prod", "Team": "web"}, SubnetID: "subnet-1", VPCID: "vpc-1",
			InstanceType: "c7g.large",
			Options:      fleet.Options{Tokens: "required", HopLimit: 2},
			ProfileARN:   "arn:aws:iam::111122223333:instance-profile/app",
			PrivateIP:    "10.0.0.7", Launched: launched,
		},
		ec2.InstanceSeed{Tags: map[string]string{"Env": "dev"}, State: ec2.StateStopped, ImageID: image2,
			Options: fleet.Options{Endpoint: "disabled"}})
	for _, tc := range []struct {
		name   string
		values []string
		want   []string
	}{
		{"instance-state-name", []string{"running"}, ids[:1]},
		{"instance-state-name", []string{"running", "stopped"}, ids},
		{"tag:Env", []string{"pr*"}, ids[:1]},
		{"tag:Env", []string{"d?v"}, ids[1:]},
		{"tag:Nothing", []string{"*"}, nil},
		{"tag-key", []string{"Team"}, ids[:1]},
		{"instance-id", ids[1:], ids[1:]},
		{"image-id", []string{image2}, ids[1:]},
		{"vpc-id", []string{"vpc-1"}, ids[:1]},
		{"subnet-id", []string{"subnet-1"}, ids[:1]},
		{"instance-type", []string{"c7g.*"}, ids[:1]},
		{"private-ip-address", []string{"10.0.0.7"}, ids[:1]},
		{"iam-instance-profile.arn", []string{"*profile/app"}, ids[:1]},
		{"metadata-options.http-tokens", []string{"optional"}, ids[1:]},
		{"metadata-options.http-endpoint", []string{"disabled"}, ids[1:]},
		{"metadata-options.http-put-response-hop-limit", []string{"2"}, ids[:1]},
		{"launch-time", []string{"2026-02-27T*"}, ids[:1]},
	} {
		t.Run(tc.name+strings.Join(tc.values, ","), func(t *testing.T) {
			out := must[*api.DescribeInstancesOutput](t)(w.DescribeInstances(t.Context(), &api.DescribeInstancesInput{
				Filters: []types.Filter{{Name: aws.String(tc.name), Values: tc.values}},
			}))
			var got []string
			for _, r := range out.Reservations {
				got = append(got, *r.Instances[0].InstanceId)
			}
			if !slices.Equal(got, tc.want) {
				t.Fatalf("got %v, want %v", got, tc.want)
			}
		})
	}
}

// TestFiltersHaveSoManyValues: two hundred in a call, whichever filters they are of.
func TestFiltersHaveSoManyValues(t *testing.T) {
	w := calm(t)
	ids := w.add(t, ec2.InstanceSeed{})
	values := slices.Repeat(ids, 200)
	ask := func(filters ...types.Filter) error {
		_, err := w.DescribeInstances(t.Context(), &api.DescribeInstancesInput{Filters: filters})
		return err
	}
	if err := ask(types.Filter{Name: aws.String("instance-id"), Values: values}); err != nil {
		t.Error(err)
	}
	wantCode(t, ask(types.Filter{Name: aws.String("instance-id"), Values: values},
		types.Filter{Name: aws.String("instance-state-name"), Values: []string{"running"}}), "FilterLimitExceeded")
}

func TestManagedInstancesAreHidden(t *testing.T) {
	w := calm(t)
	ids := w.add(t, ec2.InstanceSeed{}, ec2.InstanceSeed{
		Operator: &ec2.Operator{Managed: true, Principal: "eks.amazonaws.com", Hidden: true}})
	plain := must[*api.DescribeInstancesOutput](t)(w.DescribeInstances(t.Context(), &api.DescribeInstancesInput{}))
	all := must[*api.DescribeInstancesOutput](t)(w.DescribeInstances(t.Context(),
		&api.DescribeInstancesInput{IncludeManagedResources: aws.Bool(true)}))
	if len(plain.Reservations) != 1 || len(all.Reservations) != 2 {
		t.Fatalf("%d and %d", len(plain.Reservations), len(all.Reservations))
	}
	op := all.Reservations[1].Instances[0].Operator
	if !aws.ToBool(op.Managed) || aws.ToString(op.Principal) != "eks.amazonaws.com" {
		t.Fatalf("operator %+v", op)
	}
	_, err := w.ModifyInstanceMetadataOptions(t.Context(), &api.ModifyInstanceMetadataOptionsInput{
		InstanceId: &ids[1], HttpTokens: types.HttpTokensStateRequired,
		HttpEndpoint: types.InstanceMetadataEndpointStateEnabled})
	wantCode(t, err, "OperationNotPermitted")
}

func TestModifyKeepsWhatIsNotSent(t *testing.T) {
	w := newWorld(t, core.Options{Consistency: -1, Settle: 2 * time.Second})
	id := w.add(t, ec2.InstanceSeed{Options: fleet.Options{Tokens: "optional", HopLimit: 3, Tags: "enabled",
		IPv6: "enabled"}})[0]
	out := must[*api.ModifyInstanceMetadataOptionsOutput](t)(w.ModifyInstanceMetadataOptions(t.Context(),
		&api.ModifyInstanceMetadataOptionsInput{InstanceId: &id, HttpTokens: types.HttpTokensStateRequired}))
	if out.InstanceMetadataOptions.State != types.InstanceMetadataOptionsStatePending {
		t.Errorf("state %s", out.InstanceMetadataOptions.State)
	}
	want := fleet.Options{Tokens: "required", Endpoint: "enabled", HopLimit: 3, Tags: "enabled", IPv6: "enabled"}
	if got := optionsOf(w.instance(t, id)); got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
	w.clock.Advance(3 * time.Second)
	if s := w.instance(t, id).MetadataOptions.State; s != types.InstanceMetadataOptionsStateApplied {
		t.Errorf("state %s after the settling time", s)
	}
	w.place(t).View(func(time.Time) {
		h := ec2.StoreOf(w.place(t)).Instance(id).History()
		if len(h) != 2 || h[0].Options.Tokens != "optional" || h[1].Options != want ||
			!h[1].At.Equal(start.Add(2*time.Second)) {
			t.Errorf("history %+v", h)
		}
	})
	for _, c := range w.Calls() {
		if c.Action == "ModifyInstanceMetadataOptions" && (!c.Mutated || !slices.Equal(c.Resources, []string{id})) {
			t.Errorf("call log: %+v", c)
		}
	}
}

// A dry run of what undoes a change is answered with yes, or with the refusal that the call itself would meet, and
// changes nothing either way.
func TestDryRuns(t *testing.T) {
	w := calm(t)
	id := w.add(t, ec2.InstanceSeed{})[0]
	template := w.template(t, "web", &templateData{ImageId: aws.String(image1)})
	w.version(t, template, "1", &templateData{InstanceType: types.InstanceTypeM5Large})
	state := func() (types.Instance, []string, ec2.Defaults) {
		return w.instance(t, id), w.versions(t, api.DescribeLaunchTemplateVersionsInput{LaunchTemplateId: &template}),
			ec2.StoreOf(w.place(t)).Defaults()
	}
	dry := aws.Bool(true)
	calls := map[string]func() error{
		"ModifyInstanceMetadataOptions": func() error {
			_, err := w.ModifyInstanceMetadataOptions(t.Context(), &api.ModifyInstanceMetadataOptionsInput{
				DryRun: dry, InstanceId: &id, HttpTokens: "required"})
			return err
		},
		"ModifyInstanceMetadataDefaults": func() error {
			_, err := w.ModifyInstanceMetadataDefaults(t.Context(), &api.ModifyInstanceMetadataDefaultsInput{
				DryRun: dry, HttpTokens: "required"})
			return err
		},
		"ModifyLaunchTemplate": func() error {
			_, err := w.ModifyLaunchTemplate(t.Context(), &api.ModifyLaunchTemplateInput{
				DryRun: dry, LaunchTemplateId: &template, DefaultVersion: aws.String("2")})
			return err
		},
		"DeleteLaunchTemplateVersions": func() error {
			_, err := w.DeleteLaunchTemplateVersions(t.Context(), &api.DeleteLaunchTemplateVersionsInput{
				DryRun: dry, LaunchTemplateId: &template, Versions: []string{"2", "999999999"}})
			return err
		},
	}
	instance, versions, defaults := state()
	deny, err := authz.Parse(`{"Version": "2012-10-17", "Statement": [{"Effect": "Deny", "Resource": "*",
		"Action": ["ec2:Modify*", "ec2:Delete*"]}, {"Effect": "Allow", "Action": "*", "Resource": "*"}]}`)
	if err != nil {
		t.Fatal(err)
	}
	for code, guards := range map[string][][]*authz.Policy{
		"DryRunOperation": nil, "UnauthorizedOperation": {{deny}},
	} {
		w.SetGuardrails(func(fleet.AccountID) [][]*authz.Policy { return guards })
		for name, call := range calls {
			wantCode(t, call(), code)
			if c := w.lastCall(); c.Action != name || !c.DryRun || c.Mutated {
				t.Errorf("%s: the log has %+v", name, c)
			}
		}
		w.SetGuardrails(nil)
		i, v, d := state()
		if !reflect.DeepEqual(i, instance) || !slices.Equal(v, versions) || d != defaults {
			t.Errorf("%s: the dry runs left %+v, versions %q and %+v", code, i.MetadataOptions, v, d)
		}
	}
}

func TestModifyRefusals(t *testing.T) {
	w := calm(t)
	ids := w.add(t, ec2.InstanceSeed{}, ec2.InstanceSeed{State: ec2.StateTerminated},
		ec2.InstanceSeed{Options: fleet.Options{Endpoint: "disabled"}})
	before := w.instance(t, ids[0])
	for name, tc := range map[string]struct {
		in   api.ModifyInstanceMetadataOptionsInput
		code string
	}{
		"nothing to do": {api.ModifyInstanceMetadataOptionsInput{InstanceId: &ids[0]}, "MissingParameter"},
		"unknown instance": {api.ModifyInstanceMetadataOptionsInput{InstanceId: aws.String("i-00000000000000abc"),
			HttpTokens: "required"}, "InvalidInstanceID.NotFound"},
		"malformed id": {api.ModifyInstanceMetadataOptionsInput{InstanceId: aws.String("web-1"),
			HttpTokens: "required"}, "InvalidInstanceID.Malformed"},
		"bad tokens": {api.ModifyInstanceMetadataOptionsInput{InstanceId: &ids[0], HttpTokens: "maybe"},
			"InvalidParameterValue"},
		"bad hop limit": {api.ModifyInstanceMetadataOptionsInput{InstanceId: &ids[0],
			HttpPutResponseHopLimit: aws.Int32(65)}, "InvalidParameterValue"},
		"zero hop limit": {api.ModifyInstanceMetadataOptionsInput{InstanceId: &ids[0],
			HttpPutResponseHopLimit: aws.Int32(0)}, "InvalidParameterValue"},
		"terminated": {api.ModifyInstanceMetadataOptionsInput{InstanceId: &ids[1], HttpTokens: "required"},
			"IncorrectState"},
		"endpoint disabled": {api.ModifyInstanceMetadataOptionsInput{InstanceId: &ids[2], HttpTokens: "required"},
			"InvalidParameterCombination"},
		"disable and more": {api.ModifyInstanceMetadataOptionsInput{InstanceId: &ids[0], HttpTokens: "required",
			HttpEndpoint: "disabled"},
			"InvalidParameterCombination"},
		"dry run": {api.ModifyInstanceMetadataOptionsInput{InstanceId: &ids[0], HttpTokens: "required",
			DryRun: aws.Bool(true)}, "DryRunOperation"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := w.ModifyInstanceMetadataOptions(t.Context(), &tc.in)
			wantCode(t, err, tc.code)
			if w.lastCall().Mutated {
				t.Error("the log says that state was changed")
			}
		})
	}
	if after := w.instance(t, ids[0]); optionsOf(after) != optionsOf(before) {
		t.Errorf("a refused call changed %+v to %+v", optionsOf(before), optionsOf(after))
	}
}

func TestStoppedInstanceGetsItsOptionsWhenItStarts(t *testing.T) {
	w := newWorld(t, core.Options{Consistency: -1})
	id := w.add(t, ec2.InstanceSeed{State: ec2.StateStopped})[0]
	must[*api.ModifyInstanceMetadataOptionsOutput](t)(w.ModifyInstanceMetadataOptions(t.Context(),
		&api.ModifyInstanceMetadataOptionsInput{InstanceId: &id, HttpTokens: "required"}))
	w.clock.Advance(time.Minute)
	if i := w.instance(t, id); i.MetadataOptions.State != "pending" || i.MetadataOptions.HttpTokens != "required" {
		t.Errorf("while stopped: %+v", i.MetadataOptions)
	}
	must[*api.StartInstancesOutput](t)(w.StartInstances(t.Context(), &api.StartInstancesInput{InstanceIds: []string{id}}))
	w.clock.Advance(time.Minute)
	i := w.instance(t, id)
	if i.MetadataOptions.State != "applied" || i.State.Name != "running" || !i.LaunchTime.Equal(start.Add(time.Minute)) {
		t.Errorf("after the start: %+v %s %s", i.MetadataOptions, i.State.Name, i.LaunchTime)
	}
}

func TestLifecycle(t *testing.T) {
	w := newWorld(t, core.Options{Consistency: -1, Settle: 2 * time.Second})
	run := must[*api.RunInstancesOutput](t)(w.RunInstances(t.Context(), &api.RunInstancesInput{
		ImageId: aws.String(image1), MinCount: aws.Int32(2), MaxCount: aws.Int32(2)}))
	if len(run.Instances) != 2 || run.Instances[0].State.Name != "pending" || *run.Instances[1].AmiLaunchIndex != 1 {
		t.Fatalf("%+v", run.Instances)
	}
	id := *run.Instances[0].InstanceId
	states := func(want string) {
		t.Helper()
		if got := w.instance(t, id).State.Name; string(got) != want {
			t.Fatalf("state %s, want %s", got, want)
		}
	}
	status := func() string {
		out := must[*api.DescribeInstanceStatusOutput](t)(w.DescribeInstanceStatus(t.Context(),
			&api.DescribeInstanceStatusInput{
				InstanceIds: []string{id}, IncludeAllInstances: aws.Bool(true)}))
		return string(out.InstanceStatuses[0].InstanceStatus.Status)
	}
	w.clock.Advance(2 * time.Second)
	states("running")
	if s := status(); s != "initializing" {
		t.Errorf("status %s after the boot", s)
	}
	w.clock.Advance(10 * time.Second)
	if s := status(); s != "ok" {
		t.Errorf("status %s", s)
	}
	must[*api.RebootInstancesOutput](t)(w.RebootInstances(t.Context(),
		&api.RebootInstancesInput{InstanceIds: []string{id}}))
	stop := must[*api.StopInstancesOutput](t)(w.StopInstances(t.Context(),
		&api.StopInstancesInput{InstanceIds: []string{id}}))
	if stop.StoppingInstances[0].CurrentState.Name != "stopping" ||
		stop.StoppingInstances[0].PreviousState.Name != "running" {
		t.Errorf("%+v", stop.StoppingInstances[0])
	}
	_, err := w.StartInstances(t.Context(), &api.StartInstancesInput{InstanceIds: []string{id}})
	wantCode(t, err, "IncorrectInstanceState")
	w.clock.Advance(3 * time.Second)
	states("stopped")
	if s := status(); s != "not-applicable" {
		t.Errorf("status %s while stopped", s)
	}
	_, err = w.RebootInstances(t.Context(), &api.RebootInstancesInput{InstanceIds: []string{id}})
	wantCode(t, err, "IncorrectInstanceState")
	must[*api.StartInstancesOutput](t)(w.StartInstances(t.Context(), &api.StartInstancesInput{InstanceIds: []string{id}}))
	w.clock.Advance(3 * time.Second)
	states("running")
	must[*api.TerminateInstancesOutput](t)(w.TerminateInstances(t.Context(),
		&api.TerminateInstancesInput{InstanceIds: []string{id}}))
	states("shutting-down")
	w.clock.Advance(3 * time.Second)
	states("terminated")
	w.place(t).View(func(time.Time) {
		if lives := ec2.StoreOf(w.place(t)).Instance(id).Lives(); len(lives) != 3 || lives[2].To.IsZero() {
			t.Errorf("lives %+v", lives)
		}
	})
	w.clock.Advance(time.Hour)
	_, err = w.DescribeInstances(t.Context(), &api.DescribeInstancesInput{InstanceIds: []string{id}})
	wantCode(t, err, "InvalidInstanceID.NotFound")
}

func TestRunInstancesIsIdempotentByToken(t *testing.T) {
	w := calm(t)
	in := &api.RunInstancesInput{ImageId: aws.String(image1), MinCount: aws.Int32(1), MaxCount: aws.Int32(1),
		ClientToken: aws.String("once")}
	a := must[*api.RunInstancesOutput](t)(w.RunInstances(t.Context(), in))
	b := must[*api.RunInstancesOutput](t)(w.RunInstances(t.Context(), in))
	if *a.Instances[0].InstanceId != *b.Instances[0].InstanceId {
		t.Fatal("the token started two instances")
	}
	if calls := w.Calls(); !calls[0].Mutated || calls[1].Mutated || calls[1].Token != "once" {
		t.Fatalf("call log %+v", calls)
	}
	in.InstanceType = "m5.large"
	_, err := w.RunInstances(t.Context(), in)
	wantCode(t, err, "IdempotentParameterMismatch")
}

func TestUnknownParametersAndActionsAreRefused(t *testing.T) {
	w := calm(t)
	_, err := w.RunInstances(t.Context(), &api.RunInstancesInput{ImageId: aws.String(image1), MinCount: aws.Int32(1),
		MaxCount:       aws.Int32(1),
		EnclaveOptions: &types.EnclaveOptionsRequest{Enabled: aws.Bool(true)}})
	wantCode(t, err, "UnknownParameter")
	_, err = w.DescribeVpcs(t.Context(), &api.DescribeVpcsInput{})
	wantCode(t, err, "InvalidAction")
}

func TestEventualConsistency(t *testing.T) {
	w := newWorld(t, core.Options{Settle: -1}) // the default delay
	id := w.add(t, ec2.InstanceSeed{Options: fleet.Options{Tokens: "optional", HopLimit: 1}})[0]
	modify := func(hop int32) {
		must[*api.ModifyInstanceMetadataOptionsOutput](t)(w.ModifyInstanceMetadataOptions(t.Context(),
			&api.ModifyInstanceMetadataOptionsInput{InstanceId: &id, HttpPutResponseHopLimit: aws.Int32(hop)}))
	}
	hop := func() int32 { return *w.instance(t, id).MetadataOptions.HttpPutResponseHopLimit }
	modify(2)
	if hop() != 1 {
		t.Error("the write is visible at once")
	}
	w.clock.Advance(300 * time.Millisecond)
	modify(3)
	w.clock.Advance(450 * time.Millisecond) // 750 ms after the first, 450 after the second
	if h := hop(); h != 2 {
		t.Errorf("hop limit %d, want the first write's", h)
	}
	// A modification acts on the newest, not on what is seen.
	out := must[*api.ModifyInstanceMetadataOptionsOutput](t)(w.ModifyInstanceMetadataOptions(t.Context(),
		&api.ModifyInstanceMetadataOptionsInput{InstanceId: &id, HttpTokens: "required"}))
	if *out.InstanceMetadataOptions.HttpPutResponseHopLimit != 3 {
		t.Errorf("the modification worked on an old version: %+v", out.InstanceMetadataOptions)
	}
	w.clock.Advance(time.Second)
	if h := hop(); h != 3 {
		t.Errorf("hop limit %d after all delays", h)
	}
	run := must[*api.RunInstancesOutput](t)(w.RunInstances(t.Context(),
		&api.RunInstancesInput{ImageId: aws.String(image1), MinCount: aws.Int32(1), MaxCount: aws.Int32(1)}))
	_, err := w.DescribeInstances(t.Context(),
		&api.DescribeInstancesInput{InstanceIds: []string{*run.Instances[0].InstanceId}})
	wantCode(t, err, "InvalidInstanceID.NotFound")
	w.clock.Advance(time.Second)
	w.instance(t, *run.Instances[0].InstanceId)
}

func TestRegions(t *testing.T) {
	w := calm(t)
	on := must[*api.DescribeRegionsOutput](t)(w.DescribeRegions(t.Context(), &api.DescribeRegionsInput{}))
	all := must[*api.DescribeRegionsOutput](t)(w.DescribeRegions(t.Context(),
		&api.DescribeRegionsInput{AllRegions: aws.Bool(true)}))
	if len(on.Regions) != 17 || len(all.Regions) <= 17 {
		t.Fatalf("%d enabled of %d", len(on.Regions), len(all.Regions))
	}
	status := func(out *api.DescribeRegionsOutput, name string) string {
		for _, r := range out.Regions {
			if *r.RegionName == name {
				return *r.OptInStatus
			}
		}
		return ""
	}
	if s := status(all, "af-south-1"); s != "not-opted-in" {
		t.Errorf("af-south-1 %s", s)
	}
	_, err := w.as(account, "af-south-1", "").DescribeInstances(t.Context(), &api.DescribeInstancesInput{})
	wantCode(t, err, "AuthFailure")
	if err := w.UpdateAccount(account, func(a *core.Account) { a.OptedIn = []fleet.Region{"af-south-1"} }); err != nil {
		t.Fatal(err)
	}
	must[*api.DescribeInstancesOutput](t)(w.as(account, "af-south-1", "").DescribeInstances(t.Context(),
		&api.DescribeInstancesInput{}))
	on = must[*api.DescribeRegionsOutput](t)(w.DescribeRegions(t.Context(), &api.DescribeRegionsInput{}))
	if s := status(on, "af-south-1"); s != "opted-in" {
		t.Errorf("af-south-1 %q after opting in", s)
	}
	_, err = w.DescribeRegions(t.Context(), &api.DescribeRegionsInput{RegionNames: []string{"mars-1"}})
	wantCode(t, err, "InvalidParameterValue")
}

func TestDefaults(t *testing.T) {
	w := newWorld(t, core.Options{Consistency: -1, Unthrottled: true})
	get := func() *types.InstanceMetadataDefaultsResponse {
		return must[*api.GetInstanceMetadataDefaultsOutput](t)(w.GetInstanceMetadataDefaults(t.Context(),
			&api.GetInstanceMetadataDefaultsInput{})).AccountLevel
	}
	set := func(in api.ModifyInstanceMetadataDefaultsInput) error {
		_, err := w.ModifyInstanceMetadataDefaults(t.Context(), &in)
		return err
	}
	if d := get(); d.HttpTokens != "" || d.HttpPutResponseHopLimit != nil || d.ManagedBy != "account" {
		t.Fatalf("fresh account: %+v", d)
	}
	if err := set(api.ModifyInstanceMetadataDefaultsInput{HttpTokens: "required", HttpPutResponseHopLimit: aws.Int32(2),
		InstanceMetadataTags: "enabled"}); err != nil {
		t.Fatal(err)
	}
	if err := set(api.ModifyInstanceMetadataDefaultsInput{HttpPutResponseHopLimit: aws.Int32(-1),
		InstanceMetadataTags: "no-preference"}); err != nil {
		t.Fatal(err)
	}
	if d := get(); d.HttpTokens != "required" || d.HttpPutResponseHopLimit != nil || d.InstanceMetadataTags != "" {
		t.Fatalf("after no-preference: %+v", d)
	}
	wantCode(t, set(api.ModifyInstanceMetadataDefaultsInput{HttpTokens: "sometimes"}), "InvalidParameterValue")
	wantCode(t, set(api.ModifyInstanceMetadataDefaultsInput{HttpPutResponseHopLimit: aws.Int32(65)}),
		"InvalidParameterValue")
	wantCode(t, set(api.ModifyInstanceMetadataDefaultsInput{HttpTokens: "optional", DryRun: aws.Bool(true)}),
		"DryRunOperation")

	id := w.add(t, ec2.InstanceSeed{Options: fleet.Options{Tokens: "required"}})[0]
	if err := set(api.ModifyInstanceMetadataDefaultsInput{HttpTokensEnforced: "enabled"}); err != nil {
		t.Fatal(err)
	}
	if d := get(); d.HttpTokensEnforced != "enabled" {
		t.Fatalf("%+v", d)
	}
	_, err := w.ModifyInstanceMetadataOptions(t.Context(), &api.ModifyInstanceMetadataOptionsInput{InstanceId: &id,
		HttpTokens: "optional"})
	wantCode(t, err, "UnsupportedOperation")
	_, err = w.RunInstances(t.Context(), &api.RunInstancesInput{ImageId: aws.String(image1), MinCount: aws.Int32(1),
		MaxCount:        aws.Int32(1),
		MetadataOptions: &types.InstanceMetadataOptionsRequest{HttpTokens: "optional"}})
	wantCode(t, err, "UnsupportedOperation")

	w.place(t).With(func(now time.Time) {
		s := ec2.StoreOf(w.place(t))
		d := s.Defaults()
		d.ManagedBy, d.Message = ec2.ManagedByPolicy, "Ask the platform team."
		s.SetDefaults(now, d)
	})
	err = set(api.ModifyInstanceMetadataDefaultsInput{HttpTokens: "optional"})
	if err == nil || !strings.Contains(err.Error(), "Ask the platform team.") {
		t.Fatalf("under a declarative policy: %v", err)
	}
	if d := get(); d.ManagedBy != "declarative-policy" || d.HttpTokens != "required" || *d.ManagedExceptionMessage == "" {
		t.Fatalf("%+v", d)
	}
}

// TestLaunchResolution is the User Guide's "Order of precedence for instance metadata options" as a truth table.
func TestLaunchResolution(t *testing.T) {
	o := func(tokens string, hop int) fleet.Options { return fleet.Options{Tokens: tokens, HopLimit: hop} }
	full := func(tokens string, hop int) fleet.Options {
		return fleet.Options{Tokens: tokens, Endpoint: "enabled", HopLimit: hop, IPv6: "disabled", Tags: "disabled"}
	}
	for _, tc := range []struct {
		name            string
		launch, account fleet.Options
		image           string
		want            fleet.Options
	}{
		{"nothing says anything", o("", 0), o("", 0), image1, full("optional", 1)},
		{"the image", o("", 0), o("", 0), image2, full("required", 2)},
		{"the account", o("", 0), o("required", 3), image1, full("required", 3)},
		{"the account over the image", o("", 0), o("optional", 0), image2, full("optional", 2)},
		{"the account's hop over the image's", o("", 0), o("", 1), image2, full("required", 1)},
		{"the launch over the account", o("optional", 0), o("required", 3), image1, full("optional", 3)},
		{"the launch over the image", o("optional", 1), o("", 0), image2, full("optional", 1)},
		{"each field from its own", o("", 5), o("required", 3), image2, full("required", 5)},
	} {
		for _, by := range []string{"parameters", "template"} {
			t.Run(tc.name+" by "+by, func(t *testing.T) {
				w := calm(t)
				w.place(t).With(func(now time.Time) {
					ec2.StoreOf(w.place(t)).SetDefaults(now, ec2.Defaults{Options: tc.account, ManagedBy: ec2.ManagedByAccount})
				})
				in := &api.RunInstancesInput{MinCount: aws.Int32(1), MaxCount: aws.Int32(1), ImageId: aws.String(tc.image)}
				var hop *int32
				if tc.launch.HopLimit > 0 {
					hop = aws.Int32(int32(tc.launch.HopLimit))
				}
				if by == "parameters" {
					in.MetadataOptions = &types.InstanceMetadataOptionsRequest{
						HttpTokens: types.HttpTokensState(tc.launch.Tokens), HttpPutResponseHopLimit: hop}
				} else {
					lt := must[*api.CreateLaunchTemplateOutput](t)(w.CreateLaunchTemplate(t.Context(), &api.CreateLaunchTemplateInput{
						LaunchTemplateName: aws.String("web"), LaunchTemplateData: &types.RequestLaunchTemplateData{
							ImageId: aws.String(tc.image), InstanceType: "t3.micro",
							MetadataOptions: &types.LaunchTemplateInstanceMetadataOptionsRequest{
								HttpTokens: types.LaunchTemplateHttpTokensState(tc.launch.Tokens), HttpPutResponseHopLimit: hop}}}))
					in.ImageId = nil
					in.LaunchTemplate = &types.LaunchTemplateSpecification{LaunchTemplateId: lt.LaunchTemplate.LaunchTemplateId}
				}
				run := must[*api.RunInstancesOutput](t)(w.RunInstances(t.Context(), in))
				if got := optionsOf(run.Instances[0]); got != tc.want {
					t.Fatalf("got %+v, want %+v", got, tc.want)
				}
			})
		}
	}
}

func TestImages(t *testing.T) {
	w := calm(t)
	out := must[*api.DescribeImagesOutput](t)(w.DescribeImages(t.Context(),
		&api.DescribeImagesInput{Owners: []string{"self"}}))
	if len(out.Images) != 2 || out.Images[0].ImdsSupport != "" || out.Images[1].ImdsSupport != "v2.0" {
		t.Fatalf("%+v", out.Images)
	}
	_, err := w.ModifyImageAttribute(t.Context(), &api.ModifyImageAttributeInput{ImageId: aws.String(image1),
		ImdsSupport: &types.AttributeValue{Value: aws.String("v1.0")}})
	wantCode(t, err, "InvalidParameterValue")
	must[*api.ModifyImageAttributeOutput](t)(w.ModifyImageAttribute(t.Context(), &api.ModifyImageAttributeInput{
		ImageId: aws.String(image1), ImdsSupport: &types.AttributeValue{Value: aws.String("v2.0")}}))
	out = must[*api.DescribeImagesOutput](t)(w.DescribeImages(t.Context(),
		&api.DescribeImagesInput{ImageIds: []string{image1}}))
	if out.Images[0].ImdsSupport != "v2.0" {
		t.Fatalf("%+v", out.Images[0])
	}
	reg := must[*api.RegisterImageOutput](t)(w.RegisterImage(t.Context(),
		&api.RegisterImageInput{Name: aws.String("new"), ImdsSupport: "v2.0"}))
	out = must[*api.DescribeImagesOutput](t)(w.DescribeImages(t.Context(), &api.DescribeImagesInput{
		Filters: []types.Filter{{Name: aws.String("imds-support"), Values: []string{"v2.0"}}}, MaxResults: aws.Int32(1)}))
	if len(out.Images) != 1 || out.NextToken == nil {
		t.Fatalf("a page of one: %+v", out)
	}
	_, err = w.DescribeImages(t.Context(), &api.DescribeImagesInput{ImageIds: []string{"ami-00000000000000bad"}})
	wantCode(t, err, "InvalidAMIID.NotFound")
	_, err = w.as("444455556666", region, "").ModifyImageAttribute(t.Context(), &api.ModifyImageAttributeInput{
		ImageId: reg.ImageId, ImdsSupport: &types.AttributeValue{Value: aws.String("v2.0")}})
	wantCode(t, err, "InvalidAMIID.NotFound") // another account's images are not shared
}

func TestTags(t *testing.T) {
	w := calm(t)
	id := w.add(t, ec2.InstanceSeed{Tags: map[string]string{"a": "1", "b": "2"}})[0]
	must[*api.CreateTagsOutput](t)(w.CreateTags(t.Context(), &api.CreateTagsInput{Resources: []string{id, image1},
		Tags: []types.Tag{{Key: aws.String("b"), Value: aws.String("3")}}}))
	must[*api.DeleteTagsOutput](t)(w.DeleteTags(t.Context(), &api.DeleteTagsInput{Resources: []string{id},
		Tags: []types.Tag{{Key: aws.String("a"), Value: aws.String("other")}}}))
	out := must[*api.DescribeTagsOutput](t)(w.DescribeTags(t.Context(), &api.DescribeTagsInput{}))
	var got []string
	for _, tag := range out.Tags {
		got = append(got, fmt.Sprintf("%s %s=%s", tag.ResourceType, *tag.Key, *tag.Value))
	}
	if !slices.Equal(got, []string{"instance a=1", "instance b=3", "image b=3"}) {
		t.Fatalf("%v", got)
	}
	_, err := w.CreateTags(t.Context(), &api.CreateTagsInput{Resources: []string{id},
		Tags: []types.Tag{{Key: aws.String("aws:x"), Value: aws.String("")}}})
	wantCode(t, err, "InvalidParameterValue")
	_, err = w.CreateTags(t.Context(), &api.CreateTagsInput{Resources: []string{"i-00000000000000abc"},
		Tags: []types.Tag{{Key: aws.String("x"), Value: aws.String("")}}})
	wantCode(t, err, "InvalidInstanceID.NotFound")
}

func TestBuckets(t *testing.T) {
	w := newWorld(t, core.Options{Consistency: -1})
	id := w.add(t, make([]ec2.InstanceSeed, 6)...)[0]
	burst := func(call func() error) int {
		for n := range 1000 {
			if err := call(); err != nil {
				wantCode(t, err, "RequestLimitExceeded")
				return n
			}
		}
		return -1
	}
	paged := func() error {
		_, err := w.DescribeInstances(t.Context(), &api.DescribeInstancesInput{MaxResults: aws.Int32(5)})
		return err
	}
	whole := func() error {
		_, err := w.DescribeInstances(t.Context(), &api.DescribeInstancesInput{})
		return err
	}
	modify := func() error {
		_, err := w.ModifyInstanceMetadataOptions(t.Context(), &api.ModifyInstanceMetadataOptionsInput{InstanceId: &id,
			HttpTokens: "required"})
		return err
	}
	defaults := func() error {
		_, err := w.ModifyInstanceMetadataDefaults(t.Context(),
			&api.ModifyInstanceMetadataDefaultsInput{HttpTokens: "required"})
		return err
	}
	for name, tc := range map[string]struct {
		call          func() error
		burst, refill int
	}{"paged": {paged, 100, 20}, "unfiltered": {whole, 50, 10}, "modify": {modify, 100, 5}, "defaults": {defaults, 2, 2}} {
		if n := burst(tc.call); n != tc.burst {
			t.Errorf("%s: %d calls at once, want %d", name, n, tc.burst)
		}
		w.clock.Advance(time.Second)
		if n := burst(tc.call); n != tc.refill {
			t.Errorf("%s: %d calls a second later, want %d", name, n, tc.refill)
		}
	}
	// Another region and another account have their own.
	if _, err := w.as(account, "eu-central-1", "").DescribeInstances(t.Context(),
		&api.DescribeInstancesInput{}); err != nil {
		t.Error(err)
	}
	if _, err := w.as("444455556666", region, "").DescribeInstances(t.Context(),
		&api.DescribeInstancesInput{}); err != nil {
		t.Error(err)
	}
}

func TestFaults(t *testing.T) {
	w := calm(t)
	id := w.add(t, ec2.InstanceSeed{})[0]
	modify := func(hop int32) error {
		_, err := w.ModifyInstanceMetadataOptions(t.Context(), &api.ModifyInstanceMetadataOptionsInput{InstanceId: &id,
			HttpPutResponseHopLimit: aws.Int32(hop)})
		return err
	}
	hop := func() int32 { return *w.instance(t, id).MetadataOptions.HttpPutResponseHopLimit }
	add := func(f core.Fault) {
		t.Helper()
		w.RemoveFault(0)
		f.Action = "Modify*"
		if _, err := w.AddFault(f); err != nil {
			t.Fatal(err)
		}
	}
	last := func() core.CallRecord {
		calls := w.Calls()
		return calls[slices.IndexFunc(calls, func(c core.CallRecord) bool { return c.Seq == w.CallCount() })]
	}

	add(core.Fault{Nth: 2, Count: 1, Throttle: true})
	if err := modify(2); err != nil {
		t.Fatal(err)
	}
	wantCode(t, modify(3), "RequestLimitExceeded")
	if err := modify(4); err != nil {
		t.Fatal(err)
	}

	add(core.Fault{Deny: true})
	wantCode(t, modify(5), "UnauthorizedOperation")
	add(core.Fault{Code: "InternalError", Status: 500})
	wantCode(t, modify(5), "InternalError")
	add(core.Fault{Param: "InstanceId=i-nothing*", Deny: true})
	if err := modify(5); err != nil {
		t.Fatal(err)
	}

	add(core.Fault{DropBefore: true})
	if err := modify(6); err == nil || hop() != 5 {
		t.Errorf("dropped before: %v, hop limit %d", err, hop())
	}
	w.RemoveFault(0)
	add(core.Fault{DropAfter: true})
	err := modify(7)
	if c := last(); err == nil || !c.Mutated || c.Dropped != "after" || c.Status != 0 {
		t.Errorf("dropped after: %v, %+v", err, c)
	}
	if hop() != 7 {
		t.Errorf("a call dropped after its effect had none")
	}

	before := w.Now()
	add(core.Fault{DelayMS: 1500})
	if err := modify(8); err != nil || w.Now().Sub(before) != 1500*time.Millisecond {
		t.Errorf("delay %v %v", w.Now().Sub(before), err)
	}
	hooked := 0
	add(core.Fault{Hook: func(c *core.Call) error { hooked++; return nil }, After: func(*core.Call) { hooked += 10 }})
	if err := modify(9); err != nil || hooked != 11 {
		t.Errorf("hooks %d %v", hooked, err)
	}
	add(core.Fault{Probability: 0.5, Throttle: true})
	failed := 0
	for range 60 {
		if modify(9) != nil {
			failed++
		}
		w.clock.Advance(time.Second)
	}
	if failed < 10 || failed > 50 {
		t.Errorf("%d of 60 with probability one half", failed)
	}
}

// TestCallLogIsExact: as many records as calls, numbered without holes, Mutated exactly where state changed.
func TestCallLogIsExact(t *testing.T) {
	w := calm(t)
	id := w.add(t, ec2.InstanceSeed{})[0]
	_, _ = w.DescribeInstances(t.Context(), &api.DescribeInstancesInput{})
	_, _ = w.CreateTags(t.Context(), &api.CreateTagsInput{Resources: []string{id},
		Tags: []types.Tag{{Key: aws.String("k"), Value: aws.String("v")}}})
	_, _ = w.CreateTags(t.Context(), &api.CreateTagsInput{Resources: []string{id}, DryRun: aws.Bool(true),
		Tags: []types.Tag{{Key: aws.String("k"), Value: aws.String("v")}}})
	_, _ = w.as("999999999999", region, "").DescribeInstances(t.Context(), &api.DescribeInstancesInput{})
	calls := w.Calls()
	type brief struct {
		Seq     int64
		Action  string
		Status  int
		Mutated bool
	}
	var got []brief
	for _, c := range calls {
		got = append(got, brief{c.Seq, c.Action, c.Status, c.Mutated})
	}
	want := []brief{{1, "DescribeInstances", 200, false}, {2, "CreateTags", 200, true}, {3, "CreateTags", 412, false},
		{4, "DescribeInstances", 401, false}}
	if !slices.Equal(got, want) {
		t.Fatalf("got %v", got)
	}
	if c := calls[1]; c.Account != account || c.Region != region || c.Principal != "arn:aws:iam::111122223333:root" ||
		c.RequestID == "" || !c.Time.Equal(start) {
		t.Errorf("%+v", c)
	}
	resp, err := w.World.Client().Get(core.BaseURL + "/_sim/calls?since=2")
	if err != nil {
		t.Fatal(err)
	}
	body, _ := io.ReadAll(resp.Body)
	lines := strings.Split(strings.TrimSpace(string(body)), "\n")
	var c core.CallRecord
	if len(lines) != 2 || json.Unmarshal([]byte(lines[0]), &c) != nil || c.Seq != 3 || !c.DryRun {
		t.Errorf("/_sim/calls: %s", body)
	}
}

// TestInProcessClient: the same requests without sockets.
func TestInProcessClient(t *testing.T) {
	w := calm(t)
	id := w.add(t, ec2.InstanceSeed{})[0]
	client := api.New(api.Options{Region: region, BaseEndpoint: aws.String(core.BaseURL), HTTPClient: w.World.Client(),
		Credentials: credentials.NewStaticCredentialsProvider(account, "x", ""), RetryMaxAttempts: 1})
	out := must[*api.DescribeInstancesOutput](t)(client.DescribeInstances(t.Context(),
		&api.DescribeInstancesInput{InstanceIds: []string{id}}))
	if *out.Reservations[0].Instances[0].InstanceId != id {
		t.Fatal("wrong instance")
	}
	if _, err := w.AddFault(core.Fault{DropBefore: true}); err != nil {
		t.Fatal(err)
	}
	if _, err := client.DescribeInstances(t.Context(), &api.DescribeInstancesInput{}); !errors.Is(err,
		io.ErrUnexpectedEOF) {
		t.Fatalf("a dropped connection gives %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := client.DescribeInstances(ctx, &api.DescribeInstancesInput{}); !errors.Is(err, context.Canceled) {
		t.Fatalf("a cancelled call gives %v", err)
	}
}
