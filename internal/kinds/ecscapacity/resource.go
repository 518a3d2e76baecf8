package ecscapacity

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ecs"
	"github.com/aws/aws-sdk-go-v2/service/ecs/types"

	"github.com/imdsctl/imdsctl/internal/awsx"
	"github.com/imdsctl/imdsctl/internal/fleet"
	"github.com/imdsctl/imdsctl/internal/inventory"
	"github.com/imdsctl/imdsctl/internal/kind"
)

// instance turns a container instance and its tasks into ours.
func (d *driver) instance(
	ctx context.Context, cluster string, i *types.ContainerInstance, tasks []types.Task, known *definitions,
) (inventory.Resource, error) {
	ref := fleet.Ref{Place: d.place, Kind: inventory.KindECSCapacity, ID: instanceID(cluster, lastOf(aws.ToString(i.ContainerInstanceArn)))}
	host := aws.ToString(i.Ec2InstanceId)
	r := inventory.Resource{
		Ref: ref, Name: cluster,
		State: fleet.State{FieldInstance: host, FieldStatus: aws.ToString(i.Status)},
		Tags:  tagMap(i.Tags),
		Attrs: map[string]string{inventory.AttrContainers: runtime(cluster), inventory.AttrCluster: cluster},
	}
	r.Owner = kind.OwnerByTags(r.Tags)
	if strings.HasPrefix(host, "i-") { // an external instance (ECS Anywhere) is none of EC2's
		r.Links = []inventory.Link{{Relation: inventory.RunsOn, To: ref.Sibling(inventory.KindInstance, host)}}
	}
	if p := aws.ToString(i.CapacityProviderName); p != "" {
		r.Attrs[AttrProvider] = p
	}
	modes, roles := map[string]bool{}, 0
	for t := range tasks {
		def, err := known.read(ctx, aws.ToString(tasks[t].TaskDefinitionArn))
		if err != nil {
			return inventory.Resource{}, err
		}
		modes[def.mode] = true
		if def.role || tasks[t].Overrides != nil && aws.ToString(tasks[t].Overrides.TaskRoleArn) != "" {
			roles++
		}
	}
	r.Attrs[AttrTasks], r.Attrs[AttrTaskRoles] = strconv.Itoa(len(tasks)), strconv.Itoa(roles)
	if len(modes) > 0 {
		r.Attrs[inventory.AttrNetworkModes] = strings.Join(slices.Sorted(maps.Keys(modes)), ",")
	}
	return r, nil
}

// runtime is what starts the containers in a cluster: Batch in those that it makes, whose names are the only ones that its
// service-linked role lets it use (AWS managed policy reference, BatchServiceRolePolicy).
func runtime(cluster string) string {
	if strings.HasPrefix(cluster, "AWSBatch") {
		return "batch"
	}
	return "ecs"
}

// provider turns a capacity provider into ours.
func (d *driver) provider(p *types.CapacityProvider) inventory.Resource {
	cluster, name := "", aws.ToString(p.Name)
	if p.ManagedInstancesProvider != nil {
		cluster = lastOf(aws.ToString(p.Cluster))
	}
	r := inventory.Resource{
		Ref:   fleet.Ref{Place: d.place, Kind: inventory.KindECSCapacity, ID: providerID(cluster, name)},
		Name:  name,
		State: fleet.State{FieldStatus: string(p.Status)},
		Tags:  tagMap(p.Tags),
		Attrs: map[string]string{inventory.AttrContainers: "ecs"},
	}
	r.Owner = kind.OwnerByTags(r.Tags)
	if cluster != "" {
		r.Attrs[inventory.AttrCluster] = cluster
	}
	if g := p.AutoScalingGroupProvider; g != nil {
		r.State[FieldGroup] = aws.ToString(g.AutoScalingGroupArn)
		r.Links = []inventory.Link{{
			Relation: inventory.Scales, To: r.Ref.Sibling(inventory.KindAutoScaling, groupOf(aws.ToString(g.AutoScalingGroupArn))),
		}}
	}
	if m := p.ManagedInstancesProvider; m != nil {
		r.State[FieldInfrastructureRole] = aws.ToString(m.InfrastructureRoleArn)
		if t := m.InstanceLaunchTemplate; t != nil {
			r.State[FieldInstanceProfile] = aws.ToString(t.Ec2InstanceProfileArn)
		}
	}
	return r
}

func tagMap(tags []types.Tag) map[string]string {
	if len(tags) == 0 {
		return nil
	}
	m := make(map[string]string, len(tags))
	for _, t := range tags {
		m[aws.ToString(t.Key)] = aws.ToString(t.Value)
	}
	return m
}

// definition is what matters of a task definition.
type definition struct {
	mode string
	role bool
}

// definitions reads each task definition once. It belongs to one goroutine.
type definitions struct {
	driver *driver
	seen   map[string]definition
}

func newDefinitions(d *driver) *definitions {
	return &definitions{driver: d, seen: map[string]definition{}}
}

// modeUnknown is the network mode of a task whose definition was deleted while the task still runs.
const modeUnknown = "unknown"

// read gives a task definition. Where nobody chose a network mode it is bridge on Linux, and nat on Windows (API reference,
// TaskDefinition).
func (k *definitions) read(ctx context.Context, arn string) (definition, error) {
	if d, ok := k.seen[arn]; ok {
		return d, nil
	}
	out, err := k.driver.client.DescribeTaskDefinition(ctx, &ecs.DescribeTaskDefinitionInput{TaskDefinition: aws.String(arn)})
	var d definition
	switch {
	case awsx.Code(err) == "ClientException": // ECS has no code of its own for one that is gone
		d.mode = modeUnknown
	case err != nil:
		return d, fmt.Errorf("read task definition %s: %w", arn, awsx.Plain(err))
	case out.TaskDefinition != nil:
		t := out.TaskDefinition
		usual := string(types.NetworkModeBridge)
		if t.RuntimePlatform != nil && strings.HasPrefix(string(t.RuntimePlatform.OperatingSystemFamily), "WINDOWS") {
			usual = "nat"
		}
		d = definition{mode: cmp.Or(string(t.NetworkMode), usual), role: aws.ToString(t.TaskRoleArn) != ""}
	default:
		d.mode = modeUnknown
	}
	k.seen[arn] = d
	return d, nil
}
