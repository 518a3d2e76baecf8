package ecscapacity

import (
	"maps"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ecs/types"

	"github.com/imdsctl/imdsctl/internal/assess"
	"github.com/imdsctl/imdsctl/internal/fleet"
	"github.com/imdsctl/imdsctl/internal/inventory"
	"github.com/imdsctl/imdsctl/internal/kind"
)

var place = fleet.Place{Partition: "aws", Account: "111122223333", Region: "eu-west-1"}

func TestOnlyManagedInstancesTakeAPerson(t *testing.T) {
	managed := fleet.State{FieldStatus: "ACTIVE", FieldInfrastructureRole: "arn:aws:iam::111122223333:role/infra"}
	for _, tt := range []struct {
		name    string
		state   fleet.State
		verdict *assess.Verdict
		manuals int
	}{
		{"a group's provider", fleet.State{FieldGroup: "arn"}, nil, 0},
		{"a container instance", fleet.State{FieldInstance: "i-0123456789abcdef0"}, nil, 0},
		{"a managed instances provider", managed, nil, 1},
		{"an exempt one", managed, &assess.Verdict{Status: assess.Exempt}, 0},
	} {
		r := &inventory.Resource{
			Ref: fleet.Ref{Place: place, Kind: inventory.KindECSCapacity, ID: "capacity-provider/shop/own"}, Name: "own", State: tt.state,
			Attrs: map[string]string{inventory.AttrCluster: "shop"},
		}
		needs, manuals := propose(kind.Case{Resource: r, Verdict: tt.verdict})
		if len(needs) != 0 || len(manuals) != tt.manuals {
			t.Errorf("%s: %v and %v", tt.name, needs, manuals)
		}
		for _, m := range manuals {
			for _, part := range []string{
				"--cluster shop", `'containerInstances[?capacityProviderName=='\''own'\''].ec2InstanceId'`, "--include-managed-resources",
			} {
				if !strings.Contains(m.Remedy, part) {
					t.Errorf("%s: the remedy %q does not say %q", tt.name, m.Remedy, part)
				}
			}
		}
	}
}

func TestWhatAnInstanceIsToldBy(t *testing.T) {
	d := &driver{place: place}
	known := &definitions{driver: d, seen: map[string]definition{
		"web": {mode: "awsvpc", role: true}, "worker": {mode: "bridge"}, "lost": {mode: modeUnknown},
	}}
	task := func(definition, role string) types.Task {
		return types.Task{TaskDefinitionArn: aws.String(definition), Overrides: &types.TaskOverride{TaskRoleArn: aws.String(role)}}
	}
	for _, tt := range []struct {
		name, cluster, host string
		tasks               []types.Task
		want                map[string]string
		link                bool
	}{
		{"idle", "shop", "i-0123456789abcdef0", nil, map[string]string{
			"containers": "ecs", "cluster": "shop", "tasks": "0", "task-roles": "0"}, true},
		{"busy", "shop", "i-0123456789abcdef0", []types.Task{task("worker", ""), task("web", ""), task("worker", "arn"), task("lost", "")},
			map[string]string{"containers": "ecs", "cluster": "shop", "tasks": "4", "task-roles": "2",
				"network-modes": "awsvpc,bridge,unknown"}, true},
		{"of Batch", "AWSBatch-queue-1", "i-0123456789abcdef0", nil, map[string]string{
			"containers": "batch", "cluster": "AWSBatch-queue-1", "tasks": "0", "task-roles": "0"}, true},
		{"elsewhere", "shop", "mi-0123456789abcdef0", nil, map[string]string{
			"containers": "ecs", "cluster": "shop", "tasks": "0", "task-roles": "0"}, false},
	} {
		r, err := d.instance(t.Context(), tt.cluster, &types.ContainerInstance{
			ContainerInstanceArn: aws.String("arn:aws:ecs:eu-west-1:111122223333:container-instance/" + tt.cluster + "/0123"),
			Ec2InstanceId:        aws.String(tt.host), Status: aws.String("ACTIVE"),
		}, tt.tasks, known)
		if err != nil || !maps.Equal(r.Attrs, tt.want) || r.Ref.ID != "container-instance/"+tt.cluster+"/0123" {
			t.Errorf("%s: %s, %v, %v", tt.name, r.Ref.ID, r.Attrs, err)
		}
		link, ok := r.Link(inventory.RunsOn)
		if ok != tt.link || ok && link.To != (fleet.Ref{Place: place, Kind: inventory.KindInstance, ID: tt.host}) {
			t.Errorf("%s: runs on %v", tt.name, link)
		}
	}
}

func TestGroupOf(t *testing.T) {
	for arn, want := range map[string]string{
		"arn:aws:autoscaling:eu-west-1:111122223333:autoScalingGroup:uuid:autoScalingGroupName/shop":  "shop",
		"arn:aws:autoscaling:eu-west-1:111122223333:autoScalingGroup:uuid:autoScalingGroupName/a/b@2": "a/b@2",
		"plain": "plain", "arn:aws:sqs:eu-west-1:111122223333:q": "", "": "",
	} {
		if got := groupOf(arn); got != want {
			t.Errorf("%q: got %q, want %q", arn, got, want)
		}
	}
}

func FuzzIDs(f *testing.F) {
	f.Add("container-instance/shop/0123456789abcdef0123456789abcdef")
	f.Add("capacity-provider/own")
	f.Add("capacity-provider/shop/own")
	f.Add("capacity-provider//own")
	f.Fuzz(func(t *testing.T, id string) {
		p, ok := parseID(id)
		if !ok {
			if p != (identity{}) {
				t.Errorf("%q is none and gave %+v", id, p)
			}
			return
		}
		back := instanceID(p.cluster, p.name)
		if p.sort == prefixProvider {
			back = providerID(p.cluster, p.name)
		}
		if back != id || p.name == "" {
			t.Errorf("%q became %+v and %q", id, p, back)
		}
	})
}

func FuzzGroupOf(f *testing.F) {
	f.Add("arn:aws:autoscaling:eu-west-1:111122223333:autoScalingGroup:uuid:autoScalingGroupName/shop")
	f.Add("shop")
	f.Fuzz(func(t *testing.T, arn string) {
		if got := groupOf(arn); !strings.HasSuffix(arn, got) {
			t.Errorf("%q gave %q", arn, got)
		}
		if got := lastOf(arn); strings.Contains(got, "/") || !strings.HasSuffix(arn, got) {
			t.Errorf("the last of %q is %q", arn, got)
		}
	})
}
