// Package ecscapacity is the kind ecs-capacity: the container instances that run ECS tasks on EC2, and the capacity providers
// that decide how many there are.
//
// It owns how both are read and nothing else. Neither carries metadata options: a container instance is an EC2 instance, changed
// as one, and a capacity provider scales an Auto Scaling group, whose template is changed as one. What ECS knows and EC2 does
// not is which instances run containers, of which networks, and whether those have roles of their own; that decides how many
// hops a token must travel. ECS has no call that writes a metadata option, so this kind writes nothing.
package ecscapacity

import (
	"strings"

	"github.com/imdsctl/imdsctl/internal/assess"
	"github.com/imdsctl/imdsctl/internal/inventory"
	"github.com/imdsctl/imdsctl/internal/kind"
	"github.com/imdsctl/imdsctl/internal/plan"
)

const (
	actionClusters         = "ecs:ListClusters"
	actionDescribeClusters = "ecs:DescribeClusters"
	actionInstances        = "ecs:ListContainerInstances"
	actionDescribe         = "ecs:DescribeContainerInstances"
	actionProviders        = "ecs:DescribeCapacityProviders"
	actionTasks            = "ecs:ListTasks"
	actionDescribeTasks    = "ecs:DescribeTasks"
	actionDefinition       = "ecs:DescribeTaskDefinition"
)

// Fields of the state: what ECS says of a container instance and of a capacity provider, in its own words.
const (
	FieldStatus             = "status"
	FieldInstance           = "ec2InstanceId"
	FieldGroup              = "autoScalingGroupProvider.autoScalingGroupArn"
	FieldInfrastructureRole = "managedInstancesProvider.infrastructureRoleArn"
	FieldInstanceProfile    = "managedInstancesProvider.instanceLaunchTemplate.ec2InstanceProfileArn"
)

// Attributes besides those of package inventory.
const (
	// AttrTasks is how many tasks run on a container instance, and AttrTaskRoles how many of them have a role of their own,
	// which they get from the agent and not from the metadata service.
	AttrTasks     = "tasks"
	AttrTaskRoles = "task-roles"
	// AttrProvider is the capacity provider that a container instance belongs to.
	AttrProvider = "capacity-provider"
)

// Kind describes the EC2 capacity of ECS.
func Kind() kind.Kind {
	return kind.Kind{
		Name: inventory.KindECSCapacity,
		Doc: "ECS container instances and capacity providers: on which EC2 instances tasks run, in which network modes " +
			"(a task in bridge mode is one hop further away than one in host or awsvpc mode), how many have a task role, and " +
			"which Auto Scaling groups are scaled for a cluster. Whether an instance's agent keeps tasks away from the metadata " +
			"service (ECS_AWSVPC_BLOCK_IMDS for awsvpc, firewall rules for bridge) stands in a file on the instance and cannot " +
			"be read. Nothing is written here: instances and launch templates are changed as such, and what ECS launches " +
			"itself (managed instances) is ECS's.",
		Manner: assess.Manner{Role: assess.RoleFact},
		// The resources that ECS can limit an action to: Service Authorization Reference, "Amazon Elastic Container Service".
		Reads: []kind.Action{
			{Name: actionClusters, Resource: "*"},
			{Name: actionDescribeClusters, Resource: "arn:{partition}:ecs:{region}:{account}:cluster/*"},
			{Name: actionInstances, Resource: "arn:{partition}:ecs:{region}:{account}:cluster/*"},
			{Name: actionDescribe, Resource: "arn:{partition}:ecs:{region}:{account}:container-instance/*"},
			{Name: actionProviders, Resource: "*"},
			{Name: actionTasks, Resource: "*"},
			{Name: actionDescribeTasks, Resource: "arn:{partition}:ecs:{region}:{account}:task/*"},
			{Name: actionDefinition, Resource: "*"},
		},
		Propose: propose,
	}
}

// propose says where a person must look: ECS chooses the metadata options of the instances that it manages, and its API has no
// parameter for them.
func propose(c kind.Case) ([]plan.Need, []plan.Manual) {
	if _, managed := c.Resource.State[FieldInfrastructureRole]; !managed {
		return nil, nil
	}
	if c.Verdict != nil && (c.Verdict.Status == assess.Done || c.Verdict.Status == assess.Exempt) {
		return nil, nil
	}
	name, cluster := c.Resource.Name, c.Resource.Attrs[inventory.AttrCluster]
	return nil, []plan.Manual{{
		Ref: c.Resource.Ref, Name: name,
		Reason: "ECS launches and replaces the instances of this managed instances provider itself, and its API has no parameter " +
			"for their metadata options",
		Remedy: "See what its instances run with: " + managedInstances(c) + " . Where tokens are not required there, give the tasks " +
			"of cluster " + cluster + " task roles, so that none needs the metadata service, or move them to a capacity provider " +
			"of an Auto Scaling group of your own.",
	}}
}

// managedInstances is the command that shows the metadata options of a managed provider's instances.
func managedInstances(c kind.Case) string {
	list := kind.Command(c.Resource.Ref.Place, "ecs", "list-container-instances", "--cluster", c.Resource.Attrs[inventory.AttrCluster],
		"--query", "containerInstanceArns[]", "--output", "text")
	describe := kind.Command(c.Resource.Ref.Place, "ecs", "describe-container-instances", "--cluster",
		c.Resource.Attrs[inventory.AttrCluster], "--query",
		"containerInstances[?capacityProviderName=='"+c.Resource.Name+"'].ec2InstanceId", "--output", "text",
		"--container-instances")
	show := kind.Command(c.Resource.Ref.Place, "ec2", "describe-instances", "--include-managed-resources", "--query",
		"Reservations[].Instances[].[InstanceId,MetadataOptions]", "--instance-ids")
	return show + " $(" + describe + " $(" + list + "))"
}

// Ids name the sort of resource first: "container-instance/CLUSTER/ID", "capacity-provider/NAME", and
// "capacity-provider/CLUSTER/NAME" for a managed instances provider, whose name only its cluster knows.
const (
	prefixInstance = "container-instance"
	prefixProvider = "capacity-provider"
)

func instanceID(cluster, id string) string { return prefixInstance + "/" + cluster + "/" + id }

func providerID(cluster, name string) string {
	if cluster == "" {
		return prefixProvider + "/" + name
	}
	return prefixProvider + "/" + cluster + "/" + name
}

// identity is an id taken apart.
type identity struct{ sort, cluster, name string }

// parseID takes an id apart; ok is false for what is none.
func parseID(id string) (parsed identity, ok bool) {
	parts := strings.Split(id, "/")
	for _, p := range parts {
		if p == "" {
			return identity{}, false
		}
	}
	switch {
	case len(parts) == 3 && (parts[0] == prefixInstance || parts[0] == prefixProvider):
		return identity{parts[0], parts[1], parts[2]}, true
	case len(parts) == 2 && parts[0] == prefixProvider:
		return identity{sort: parts[0], name: parts[1]}, true
	}
	return identity{}, false
}

// lastOf is what follows the last slash of an ARN, or the whole of a plain name.
func lastOf(arn string) string { return arn[strings.LastIndexByte(arn, '/')+1:] }

// groupOf is the name of the Auto Scaling group in an ARN. A capacity provider may also have been given the plain name
// (API reference, AutoScalingGroupProvider). Names of groups may hold slashes.
func groupOf(arn string) string {
	if !strings.HasPrefix(arn, "arn:") {
		return arn
	}
	_, name, _ := strings.Cut(arn, ":autoScalingGroupName/")
	return name
}
