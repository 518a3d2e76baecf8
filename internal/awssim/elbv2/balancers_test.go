package elbv2_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	elb "github.com/aws/aws-sdk-go-v2/service/elasticloadbalancingv2"

	"github.com/imdsctl/imdsctl/internal/awssim"
	"github.com/imdsctl/imdsctl/internal/clock"
)

const balanced = `{"accounts": [{"id": "111122223333", "regions": {"eu-west-1": {"elasticloadbalancing": {
	"target_groups": [{"name": "a", "type": "ip", "addresses": ["10.0.0.7"]}, {"name": "b", "type": "alb", "arns": ["arn:x"]}, {"name": "c"}],
	"load_balancers": [{"name": "one", "scheme": "internet-facing", "target_groups": ["a", "c"], "security_groups": ["sg-1"]},
		{"name": "three", "type": "network", "target_groups": ["a"]}, {"name": "two", "id": "00000000000000aa"}],
	"classic": [{"name": "old", "scheme": "internet-facing", "instances": ["i-1"]}]}}}}]}`

func balancers(t *testing.T) *elb.Client {
	t.Helper()
	w := awssim.New(awssim.Options{Clock: clock.NewManual(time.Date(2026, 3, 2, 12, 0, 0, 0, time.UTC)), Unthrottled: true})
	if err := w.Load([]byte(balanced)); err != nil {
		t.Fatal(err)
	}
	return elb.New(elb.Options{Region: "eu-west-1", BaseEndpoint: aws.String(awssim.BaseURL), HTTPClient: w.Client(), RetryMaxAttempts: 1,
		Credentials: credentials.NewStaticCredentialsProvider(account, "dummy", "")})
}

func TestBalancers(t *testing.T) {
	c := balancers(t)
	arns := map[string]string{}
	for size := int32(1); size <= 3; size++ {
		var names []string
		for p := elb.NewDescribeLoadBalancersPaginator(c, &elb.DescribeLoadBalancersInput{PageSize: &size}); p.HasMorePages(); {
			page, err := p.NextPage(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			for _, b := range page.LoadBalancers {
				names, arns[*b.LoadBalancerName] = append(names, *b.LoadBalancerName), *b.LoadBalancerArn
			}
		}
		if got := strings.Join(names, " "); got != "one three two" {
			t.Errorf("pages of %d: %s", size, got)
		}
	}
	if !strings.HasSuffix(arns["two"], ":loadbalancer/app/two/00000000000000aa") || !strings.Contains(arns["three"], ":loadbalancer/net/three/") {
		t.Errorf("ARNs %v", arns)
	}
	groups, err := c.DescribeTargetGroups(t.Context(), &elb.DescribeTargetGroupsInput{LoadBalancerArn: aws.String(arns["one"])})
	if err != nil || len(groups.TargetGroups) != 2 || *groups.TargetGroups[1].TargetGroupName != "c" {
		t.Fatalf("%+v, %v", groups, err)
	}
	if got := groups.TargetGroups[0].LoadBalancerArns; !slices.Equal(got, []string{arns["one"], arns["three"]}) {
		t.Errorf("in front of a: %q", got)
	}
	health, err := c.DescribeTargetHealth(t.Context(), &elb.DescribeTargetHealthInput{TargetGroupArn: groups.TargetGroups[0].TargetGroupArn})
	if err != nil || len(health.TargetHealthDescriptions) != 1 || *health.TargetHealthDescriptions[0].Target.Id != "10.0.0.7" {
		t.Errorf("%+v, %v", health, err)
	}
	one, err := c.DescribeLoadBalancers(t.Context(), &elb.DescribeLoadBalancersInput{LoadBalancerArns: []string{arns["one"]}})
	if err != nil || len(one.LoadBalancers) != 1 || one.LoadBalancers[0].SecurityGroups[0] != "sg-1" || one.LoadBalancers[0].Scheme != "internet-facing" {
		t.Errorf("%+v, %v", one, err)
	}
	for _, in := range []*elb.DescribeLoadBalancersInput{
		{Names: []string{"nobody"}}, {Names: []string{"old"}}, {LoadBalancerArns: []string{"arn:x"}}, {PageSize: aws.Int32(0)}, {Marker: aws.String("!")},
	} {
		if out, err := c.DescribeLoadBalancers(t.Context(), in); err == nil {
			t.Errorf("%+v was answered with %d", in, len(out.LoadBalancers))
		}
	}
}
