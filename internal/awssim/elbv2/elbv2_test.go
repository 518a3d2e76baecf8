package elbv2_test

import (
	"encoding/json"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	ec2types "github.com/aws/aws-sdk-go-v2/service/ec2/types"
	elb "github.com/aws/aws-sdk-go-v2/service/elasticloadbalancingv2"
	"github.com/aws/aws-sdk-go-v2/service/elasticloadbalancingv2/types"

	"github.com/imdsctl/imdsctl/internal/awssim"
	"github.com/imdsctl/imdsctl/internal/awssim/core"
	"github.com/imdsctl/imdsctl/internal/awssim/elbv2"
	"github.com/imdsctl/imdsctl/internal/clock"
	"github.com/imdsctl/imdsctl/internal/fleet"
)

const (
	account = "111122223333"
	old     = "i-0123456789abcdef0"
	modern  = "i-0123456789abcdef1"
	stopped = "i-0123456789abcdef2"
)

const seed = `{
	"accounts": [{"id": "111122223333", "regions": {"eu-west-1": {
		"ec2": {
			"images": [{"id": "ami-0123456789abcdef0"}],
			"templates": [{"name": "web", "versions": [{"data": {"ImageId": "ami-0123456789abcdef0"}}]}],
			"instances": [
				{"id": "i-0123456789abcdef0", "image": "ami-0123456789abcdef0", "tags": {"app": "old"}},
				{"id": "i-0123456789abcdef1", "image": "ami-0123456789abcdef0", "tags": {"app": "new"}},
				{"id": "i-0123456789abcdef2", "image": "ami-0123456789abcdef0", "state": "stopped"}]},
		"autoscaling": {"groups": [{"name": "web", "template": "web", "max": 5, "desired": 2}]},
		"elasticloadbalancing": {"target_groups": [
			{"name": "bare", "port": 8080, "instances": ["i-0123456789abcdef0", "i-0123456789abcdef1", "i-0123456789abcdef2"]},
			{"name": "lambdas", "type": "lambda"},
			{"name": "web", "groups": ["web"]}]}}}}],
	"services": {"workload": {"programs": [
		{"name": "billing", "speaks": "v1-only", "every": "1m", "essential": true, "where": {"tags": ["app=old"]}},
		{"name": "agent", "speaks": "v1-only", "every": "1m", "where": {"tags": ["app=new"]}}]}}}`

type stage struct {
	*core.World
	t     *testing.T
	clock *clock.Manual
	elb   *elb.Client
	ec2   *ec2.Client
}

func newStage(t *testing.T) *stage {
	t.Helper()
	c := clock.NewManual(time.Date(2026, 3, 2, 12, 0, 0, 0, time.UTC))
	w := awssim.New(awssim.Options{Clock: c, Unthrottled: true})
	if err := w.Load([]byte(seed)); err != nil {
		t.Fatal(err)
	}
	c.Advance(time.Minute)
	creds := credentials.NewStaticCredentialsProvider(account, "dummy", "")
	return &stage{
		World: w, t: t, clock: c,
		elb: elb.New(elb.Options{Region: "eu-west-1", BaseEndpoint: aws.String(awssim.BaseURL), HTTPClient: w.Client(),
			RetryMaxAttempts: 1, Credentials: creds}),
		ec2: ec2.New(ec2.Options{Region: "eu-west-1", BaseEndpoint: aws.String(awssim.BaseURL), HTTPClient: w.Client(),
			RetryMaxAttempts: 1, Credentials: creds}),
	}
}

func (s *stage) arn(name string) string {
	s.t.Helper()
	out, err := s.elb.DescribeTargetGroups(s.t.Context(), &elb.DescribeTargetGroupsInput{Names: []string{name}})
	if err != nil || len(out.TargetGroups) != 1 {
		s.t.Fatalf("%+v, %v", out, err)
	}
	return *out.TargetGroups[0].TargetGroupArn
}

// health gives the states in a target group by instance.
func (s *stage) health(name string, ids ...string) map[string]types.TargetHealthStateEnum {
	s.t.Helper()
	in := &elb.DescribeTargetHealthInput{TargetGroupArn: aws.String(s.arn(name))}
	for _, id := range ids {
		in.Targets = append(in.Targets, types.TargetDescription{Id: &id})
	}
	out, err := s.elb.DescribeTargetHealth(s.t.Context(), in)
	if err != nil {
		s.t.Fatal(err)
	}
	states := map[string]types.TargetHealthStateEnum{}
	for _, d := range out.TargetHealthDescriptions {
		states[*d.Target.Id] = d.TargetHealth.State
	}
	return states
}

func TestGroupsArePaged(t *testing.T) {
	s := newStage(t)
	for size := int32(1); size <= 4; size++ {
		var names []string
		for p := elb.NewDescribeTargetGroupsPaginator(s.elb, &elb.DescribeTargetGroupsInput{PageSize: &size}); p.HasMorePages(); {
			page, err := p.NextPage(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			for _, g := range page.TargetGroups {
				names = append(names, *g.TargetGroupName)
			}
		}
		if got := strings.Join(names, " "); got != "bare lambdas web" {
			t.Errorf("pages of %d: %s", size, got)
		}
	}
	arn := s.arn("bare")
	if !strings.HasPrefix(arn, "arn:aws:elasticloadbalancing:eu-west-1:111122223333:targetgroup/bare/") {
		t.Errorf("ARN %s", arn)
	}
	for _, in := range []*elb.DescribeTargetGroupsInput{
		{Names: []string{"nobody"}}, {TargetGroupArns: []string{arn + "0"}}, {PageSize: aws.Int32(401)}, {Marker: aws.String("!")},
		{LoadBalancerArn: aws.String("arn")}, // the simulator has none
	} {
		if out, err := s.elb.DescribeTargetGroups(t.Context(), in); err == nil {
			t.Errorf("%+v was answered: %+v", in, out.TargetGroups)
		}
	}
}

// Health follows what runs on the instance: only a broken essential program shows, and a change taken back heals it.
func TestHealthFollowsTheWorkload(t *testing.T) {
	s := newStage(t)
	require := func(id string, tokens ec2types.HttpTokensState) {
		t.Helper()
		if _, err := s.ec2.ModifyInstanceMetadataOptions(t.Context(), &ec2.ModifyInstanceMetadataOptionsInput{
			InstanceId: &id, HttpTokens: tokens, HttpEndpoint: ec2types.InstanceMetadataEndpointStateEnabled,
		}); err != nil {
			t.Fatal(err)
		}
		s.clock.Advance(5 * time.Minute)
	}
	want := func(what string, id string, state types.TargetHealthStateEnum) {
		t.Helper()
		if got := s.health("bare")[id]; got != state {
			t.Errorf("%s: %s is %s, want %s", what, id, got, state)
		}
	}
	want("at first", old, types.TargetHealthStateEnumHealthy)
	want("at first", stopped, types.TargetHealthStateEnumUnused)
	require(old, ec2types.HttpTokensStateRequired)
	require(modern, ec2types.HttpTokensStateRequired)
	want("tokens required", old, types.TargetHealthStateEnumUnhealthy)
	want("tokens required", modern, types.TargetHealthStateEnumHealthy)
	require(old, ec2types.HttpTokensStateOptional)
	want("taken back", old, types.TargetHealthStateEnumHealthy)
	if _, err := s.ec2.TerminateInstances(t.Context(), &ec2.TerminateInstancesInput{InstanceIds: []string{modern}}); err != nil {
		t.Fatal(err)
	}
	want("terminated", modern, types.TargetHealthStateEnumDraining)
}

func TestMembersOfAGroupAreRegistered(t *testing.T) {
	s := newStage(t)
	members := s.health("web")
	if len(members) != 2 {
		t.Fatalf("%v registered, want the group's two", members)
	}
	for id, state := range members {
		if state != types.TargetHealthStateEnumHealthy {
			t.Errorf("%s is %s", id, state)
		}
	}
	if got := s.health("web", old); got[old] != types.TargetHealthStateEnumUnused {
		t.Errorf("an instance that is not registered is %s", got[old])
	}
	if got := s.health("bare", old); len(got) != 1 || got[old] != types.TargetHealthStateEnumHealthy {
		t.Errorf("asked for one target: %v", got)
	}
	for _, arn := range []string{"web", s.arn("web") + "0"} {
		if _, err := s.elb.DescribeTargetHealth(t.Context(), &elb.DescribeTargetHealthInput{TargetGroupArn: &arn}); err == nil {
			t.Errorf("target group %q was found", arn)
		}
	}
}

func TestControl(t *testing.T) {
	s := newStage(t)
	post := func(body string) (int, string) {
		t.Helper()
		r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, awssim.BaseURL+"/_sim/targets", strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		resp, err := s.Client().Do(r)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		out, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		return resp.StatusCode, string(out)
	}
	place := `"account": "111122223333", "region": "eu-west-1"`
	if code, out := post(`{` + place + `, "target_group": {"name": "more", "instances": ["` + old + `", "` + modern + `"]},
		"health": {"` + old + `": "unhealthy"}}`); code != http.StatusOK || !strings.Contains(out, "targetgroup/more/") {
		t.Fatalf("%d %s", code, out)
	}
	if got := s.health("more"); got[old] != types.TargetHealthStateEnumUnhealthy || got[modern] != types.TargetHealthStateEnumHealthy {
		t.Errorf("%v", got)
	}
	post(`{` + place + `, "target_group": {"name": "more"}, "health": {"` + old + `": ""}, "deregister": ["` + modern + `"]}`)
	if got := s.health("more"); len(got) != 1 || got[old] != types.TargetHealthStateEnumHealthy {
		t.Errorf("%v", got)
	}
	for _, bad := range []string{
		`x`, `{` + place + `}`, `{` + place + `, "target_group": {"name": "x", "instances": ["i-none"]}}`,
		`{` + place + `, "target_group": {"name": "x", "groups": ["none"]}}`, `{` + place + `, "target_group": {"name": "x", "type": "y"}}`,
		`{` + place + `, "target_group": {"name": "bare"}, "health": {"` + old + `": "poorly"}}`,
		`{"account": "999999999999", "region": "eu-west-1", "target_group": {"name": "x"}}`,
	} {
		if code, out := post(bad); code != http.StatusBadRequest || out == "" {
			t.Errorf("%s: %d %q", bad, code, out)
		}
	}
}

// FuzzSeed feeds the seed's section with any JSON: it must load or explain, never panic.
func FuzzSeed(f *testing.F) {
	f.Add(`{"target_groups": [{"name": "a", "instances": ["i-1"], "groups": ["g"]}]}`)
	f.Add(`{"target_groups": [{"name": "a", "type": "ip", "port": -1}, {"name": "a"}]}`)
	f.Fuzz(func(t *testing.T, section string) {
		w := core.New(core.Options{}, elbv2.Service())
		err := w.LoadSeed(&core.Seed{Accounts: []core.AccountSeed{{
			ID: account, Regions: map[fleet.Region]map[string]json.RawMessage{"eu-west-1": {elbv2.Name: json.RawMessage(section)}},
		}}})
		if err != nil && !strings.Contains(err.Error(), elbv2.Name) {
			t.Errorf("the error does not say where: %v", err)
		}
	})
}

// FuzzRequest sends any form to every action: the answer is a success or a refusal in AWS's words, never a failure.
func FuzzRequest(f *testing.F) {
	f.Add("DescribeTargetGroups", "PageSize=1&Marker=YmFyZQ")
	f.Add("DescribeTargetHealth", "TargetGroupArn=arn:x&Targets.member.1.Id=i-1")
	f.Fuzz(func(t *testing.T, action, form string) {
		w := awssim.New(awssim.Options{Clock: clock.NewManual(time.Date(2026, 3, 2, 12, 0, 0, 0, time.UTC))})
		if err := w.Load([]byte(seed)); err != nil {
			t.Fatal(err)
		}
		body := "Action=" + url.QueryEscape(action) + "&Version=2015-12-01&" + form
		r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, core.BaseURL+"/", strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		r.Header.Set("Authorization", "AWS4-HMAC-SHA256 Credential="+account+"/20260302/eu-west-1/"+elbv2.Name+
			"/aws4_request, SignedHeaders=host, Signature=0")
		resp, err := w.Client().Do(r)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		if resp.StatusCode >= 500 {
			t.Errorf("%s: status %d", body, resp.StatusCode)
		}
	})
}
