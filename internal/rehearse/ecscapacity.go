package rehearse

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/imdsctl/imdsctl/internal/awssim/ecs"
	"github.com/imdsctl/imdsctl/internal/inventory"
)

// seedECSCapacity puts container instances into clusters and makes as many tasks as there were, in the same network modes.
func seedECSCapacity(s *Sections, resources []inventory.Resource) error {
	seed := &ecsCopy{Seed: Section[ecs.Seed](s, ecs.Name)}
	for i := range resources {
		r := &resources[i]
		sort, rest, ok := strings.Cut(r.Ref.ID, "/")
		switch {
		case sort == "container-instance" && ok:
			if err := seed.instance(r, rest); err != nil {
				return err
			}
		case sort == "capacity-provider" && ok:
			seed.provider(r)
		default:
			return fmt.Errorf("%s is neither a container instance nor a capacity provider", r.Ref)
		}
	}
	return nil
}

type ecsCopy struct{ *ecs.Seed }

func (c *ecsCopy) cluster(name string) *ecs.ClusterSeed {
	at := slices.IndexFunc(c.Clusters, func(o ecs.ClusterSeed) bool { return o.Name == name })
	if at < 0 {
		c.Clusters = append(c.Clusters, ecs.ClusterSeed{Name: name})
		at = len(c.Clusters) - 1
	}
	return &c.Clusters[at]
}

func (c *ecsCopy) provider(r *inventory.Resource) {
	v := ecs.ProviderSeed{
		Name: r.Name, Status: r.State[ecsStatus], AutoScalingGroup: r.State[ecsGroup], Tags: r.Tags,
		InfrastructureRole: r.State[ecsRole], InstanceProfile: r.State[ecsProfile],
	}
	if v.InfrastructureRole != "" {
		v.Cluster = r.Attrs[inventory.AttrCluster]
		home := c.cluster(v.Cluster)
		home.CapacityProviders = append(home.CapacityProviders, v.Name)
	}
	c.CapacityProviders = append(c.CapacityProviders, v)
}

func (c *ecsCopy) instance(r *inventory.Resource, rest string) error {
	name, id, _ := strings.Cut(rest, "/")
	host := r.State[ecsInstance]
	tasks, err := strconv.Atoi(r.Attrs[ecsTasks])
	if err != nil {
		return fmt.Errorf("tasks of %s: %w", r.Ref, err)
	}
	roles, err := strconv.Atoi(r.Attrs[ecsTaskRoles])
	if err != nil {
		return fmt.Errorf("task roles of %s: %w", r.Ref, err)
	}
	var modes []string
	if m := r.Attrs[inventory.AttrNetworkModes]; m != "" {
		modes = strings.Split(m, ",")
	} else if tasks > 0 {
		return fmt.Errorf("%s has %d tasks and no network mode", r.Ref, tasks)
	}
	definitions := make([]string, tasks)
	for n := range tasks {
		definitions[n] = c.definition(modes[n%len(modes)], n < roles)
	}
	home := c.cluster(name)
	home.Instances = append(home.Instances, ecs.InstanceSeed{
		ID: id, Instance: host, Status: r.State[ecsStatus], CapacityProvider: r.Attrs[ecsProvider], Tags: r.Tags,
	})
	for _, d := range definitions {
		home.Tasks = append(home.Tasks, ecs.TaskSeed{Definition: d, Instance: host})
	}
	return nil
}

// definition is a task definition of the mode, made when it is first asked for. A task whose own definition is gone is taken to
// be in bridge mode, from where a token has most hops to travel.
func (c *ecsCopy) definition(mode string, role bool) string {
	d := ecs.DefinitionSeed{Family: "rehearsed-" + mode, NetworkMode: mode}
	switch mode {
	case "unknown":
		d.NetworkMode = "bridge"
	case "nat":
		d.NetworkMode, d.OperatingSystem = "", "WINDOWS_SERVER_2022_CORE"
	}
	if role {
		d.Family += "-role"
		d.TaskRoleARN = "arn:aws:iam::000000000000:role/rehearsed"
	}
	if !slices.ContainsFunc(c.TaskDefinitions, func(o ecs.DefinitionSeed) bool { return o.Family == d.Family }) {
		c.TaskDefinitions = append(c.TaskDefinitions, d)
	}
	return d.Family + ":1"
}

// Fields and attributes of the kind.
const (
	ecsStatus    = "status"
	ecsInstance  = "ec2InstanceId"
	ecsGroup     = "autoScalingGroupProvider.autoScalingGroupArn"
	ecsRole      = "managedInstancesProvider.infrastructureRoleArn"
	ecsProfile   = "managedInstancesProvider.instanceLaunchTemplate.ec2InstanceProfileArn"
	ecsTasks     = "tasks"
	ecsTaskRoles = "task-roles"
	ecsProvider  = "capacity-provider"
)
