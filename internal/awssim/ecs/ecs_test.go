package ecs_test

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
	sdk "github.com/aws/aws-sdk-go-v2/service/ecs"
	"github.com/aws/smithy-go"

	"github.com/imdsctl/imdsctl/internal/awssim"
	"github.com/imdsctl/imdsctl/internal/awssim/core"
	"github.com/imdsctl/imdsctl/internal/clock"
)

const account = "111122223333"

const seed = `{"accounts": [{"id": "111122223333", "regions": {"eu-west-1": {
	"ec2": {"images": [{"id": "ami-0123456789abcdef0"}], "instances": [
		{"id": "i-0123456789abcdef0", "image": "ami-0123456789abcdef0"},
		{"id": "i-0123456789abcdef1", "image": "ami-0123456789abcdef0"}]},
	"ecs": {
		"task_definitions": [{"family": "web", "network_mode": "awsvpc", "task_role_arn": "arn:aws:iam::111122223333:role/web"},
			{"family": "web", "revision": 7, "network_mode": "host"}, {"family": "old"}],
		"capacity_providers": [
			{"name": "group", "auto_scaling_group":
				"arn:aws:autoscaling:eu-west-1:111122223333:autoScalingGroup:uuid:autoScalingGroupName/shop"},
			{"name": "own", "cluster": "shop", "infrastructure_role": "arn:aws:iam::111122223333:role/infra"}],
		"clusters": [{"name": "default"}, {"name": "shop", "capacity_providers": ["own", "FARGATE"],
			"container_instances": [{"instance": "i-0123456789abcdef0"}, {"instance": "i-0123456789abcdef1", "status": "DRAINING"}],
			"tasks": [{"definition": "web:1", "instance": "i-0123456789abcdef0"},
				{"definition": "old:1", "instance": "i-0123456789abcdef1", "task_role_arn": "arn:aws:iam::111122223333:role/old"},
				{"definition": "web:7"}]}]}}}}]}`

type world struct {
	*core.World
	clock *clock.Manual
	ecs   *sdk.Client
	ec2   *sdkec2.Client
}

func enter(t *testing.T, document string, o core.Options) world {
	t.Helper()
	c := clock.NewManual(time.Date(2026, 3, 2, 12, 0, 0, 0, time.UTC))
	o.Clock = c
	w := awssim.New(o)
	if err := w.Load([]byte(document)); err != nil {
		t.Fatal(err)
	}
	cfg := aws.Config{Region: "eu-west-1", BaseEndpoint: aws.String(awssim.BaseURL), HTTPClient: w.Client(), RetryMaxAttempts: 1,
		Credentials: credentials.NewStaticCredentialsProvider(account, "dummy", "")}
	return world{w, c, sdk.NewFromConfig(cfg), sdkec2.NewFromConfig(cfg)}
}

func code(err error) string {
	if e, ok := errors.AsType[smithy.APIError](err); ok {
		return e.ErrorCode()
	}
	return fmt.Sprint(err)
}

func TestATerminatedInstanceLeavesItsClusterWithItsTasks(t *testing.T) {
	w := enter(t, seed, core.Options{})
	counts := func() (registered, running int32, listed int) {
		out, err := w.ecs.DescribeClusters(t.Context(), &sdk.DescribeClustersInput{Clusters: []string{"shop"}})
		if err != nil || len(out.Clusters) != 1 {
			t.Fatalf("%+v, %v", out, err)
		}
		tasks, err := w.ecs.ListTasks(t.Context(), &sdk.ListTasksInput{Cluster: aws.String("shop")})
		if err != nil {
			t.Fatal(err)
		}
		return out.Clusters[0].RegisteredContainerInstancesCount, out.Clusters[0].RunningTasksCount, len(tasks.TaskArns)
	}
	if n, tasks, listed := counts(); n != 2 || tasks != 3 || listed != 3 {
		t.Errorf("%d instances, %d tasks, %d listed", n, tasks, listed)
	}
	_, err := w.ec2.TerminateInstances(t.Context(), &sdkec2.TerminateInstancesInput{InstanceIds: []string{"i-0123456789abcdef1"}})
	if err != nil {
		t.Fatal(err)
	}
	w.clock.Advance(time.Minute)
	if n, tasks, listed := counts(); n != 1 || tasks != 2 || listed != 2 {
		t.Errorf("after the end of one: %d instances, %d tasks, %d listed", n, tasks, listed)
	}
}

func TestProvidersOfAClusterAreSeenThereOnly(t *testing.T) {
	w := enter(t, seed, core.Options{})
	for cluster, want := range map[string][]string{
		"": {"FARGATE", "FARGATE_SPOT", "group"}, "shop": {"FARGATE", "own"}, "default": nil,
	} {
		in := &sdk.DescribeCapacityProvidersInput{MaxResults: aws.Int32(1)}
		if cluster != "" {
			in.Cluster = aws.String(cluster)
		}
		var got []string
		for {
			out, err := w.ecs.DescribeCapacityProviders(t.Context(), in)
			if err != nil {
				t.Fatal(err)
			}
			for _, p := range out.CapacityProviders {
				got = append(got, *p.Name)
			}
			if in.NextToken = out.NextToken; in.NextToken == nil {
				break
			}
		}
		if !slices.Equal(got, want) {
			t.Errorf("providers of %q: %q, want %q", cluster, got, want)
		}
	}
	out, err := w.ecs.DescribeCapacityProviders(t.Context(), &sdk.DescribeCapacityProvidersInput{CapacityProviders: []string{"own"}})
	if err != nil || len(out.CapacityProviders) != 0 || len(out.Failures) != 1 || *out.Failures[0].Reason != "MISSING" {
		t.Errorf("the provider of a cluster without its cluster: %+v, %v", out, err)
	}
}

func TestDefinitionsAndTasks(t *testing.T) {
	w := enter(t, seed, core.Options{})
	for name, want := range map[string]string{"web": "host 7", "web:1": "awsvpc 1", "old": " 1"} {
		out, err := w.ecs.DescribeTaskDefinition(t.Context(), &sdk.DescribeTaskDefinitionInput{TaskDefinition: aws.String(name)})
		if err != nil {
			t.Fatal(err)
		}
		if got := fmt.Sprint(out.TaskDefinition.NetworkMode, " ", out.TaskDefinition.Revision); got != want {
			t.Errorf("%s is %q, want %q", name, got, want)
		}
	}
	listed, err := w.ecs.ListTasks(t.Context(), &sdk.ListTasksInput{Cluster: aws.String("shop"), LaunchType: "EC2"})
	if err != nil || len(listed.TaskArns) != 2 {
		t.Fatalf("%+v, %v", listed, err)
	}
	found, err := w.ecs.DescribeTasks(t.Context(), &sdk.DescribeTasksInput{
		Cluster: aws.String("shop"), Tasks: append(listed.TaskArns, strings.Repeat("0", 32)),
	})
	if err != nil || len(found.Tasks) != 2 || len(found.Failures) != 1 {
		t.Fatalf("%+v, %v", found, err)
	}
	stopped, err := w.ecs.ListTasks(t.Context(), &sdk.ListTasksInput{Cluster: aws.String("shop"), DesiredStatus: "STOPPED"})
	if err != nil || len(stopped.TaskArns) != 0 {
		t.Errorf("stopped tasks: %+v, %v", stopped, err)
	}
}

func TestRefusals(t *testing.T) {
	w := enter(t, seed, core.Options{})
	_, err := w.ecs.ListContainerInstances(t.Context(), &sdk.ListContainerInstancesInput{Cluster: aws.String("nobody")})
	if code(err) != "ClusterNotFoundException" {
		t.Errorf("a cluster that is none: %v", err)
	}
	_, err = w.ecs.ListClusters(t.Context(), &sdk.ListClustersInput{MaxResults: aws.Int32(101)})
	if code(err) != "InvalidParameterException" {
		t.Errorf("a page too large: %v", err)
	}
	_, err = w.ecs.DescribeTaskDefinition(t.Context(), &sdk.DescribeTaskDefinitionInput{TaskDefinition: aws.String("web:2")})
	if code(err) != "ClientException" {
		t.Errorf("a revision that is none: %v", err)
	}
	_, err = w.ecs.DescribeTasks(t.Context(), &sdk.DescribeTasksInput{Cluster: aws.String("shop"), Tasks: make([]string, 101)})
	if code(err) != "InvalidParameterException" {
		t.Errorf("too many tasks: %v", err)
	}
}

func TestCallsAreThrottled(t *testing.T) {
	w := enter(t, seed, core.Options{})
	for n := range 100 {
		if _, err := w.ecs.ListClusters(t.Context(), &sdk.ListClustersInput{}); err != nil {
			if code(err) != "ThrottlingException" || n != 20 {
				t.Errorf("call %d: %v", n, err)
			}
			return
		}
	}
	t.Error("a hundred calls at once were answered")
}

func TestSeedsThatAreWrong(t *testing.T) {
	for _, tt := range []struct{ section, want string }{
		{`{"clusters": [{"name": "a b"}]}`, "not a cluster's name"},
		{`{"clusters": [{"name": "a"}, {"name": "a"}]}`, "there already"},
		{`{"clusters": [{"name": "a", "container_instances": [{"instance": "x-1"}]}]}`, "container instance"},
		{`{"clusters": [{"name": "a", "tasks": [{"definition": "web:1"}]}]}`, "definition"},
		{`{"task_definitions": [{"family": "web", "network_mode": "overlay"}]}`, "network mode"},
		{`{"capacity_providers": [{"name": "p"}]}`, "Auto Scaling group"},
		{`{"capacity_providers": [{"name": "p", "cluster": "nobody", "infrastructure_role": "r"}]}`, "needs the cluster"},
		{`{"colour": "red"}`, "unknown key"},
	} {
		w := awssim.New(core.Options{})
		err := w.Load(fmt.Appendf(nil, `{"accounts": [{"id": "111122223333", "regions": {"eu-west-1": {"ecs": %s}}}]}`, tt.section))
		if err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %v, want %q", tt.section, err, tt.want)
		}
	}
}
