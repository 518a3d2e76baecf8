package ecscapacity

import (
	"context"
	"fmt"
	"slices"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ecs"
	"github.com/aws/aws-sdk-go-v2/service/ecs/types"

	"github.com/imdsctl/imdsctl/internal/awsx"
	"github.com/imdsctl/imdsctl/internal/clock"
	"github.com/imdsctl/imdsctl/internal/fleet"
	"github.com/imdsctl/imdsctl/internal/inventory"
	"github.com/imdsctl/imdsctl/internal/kind"
)

// The largest pages of ECS's lists, and the most that its Describe calls take.
const (
	mostListed    = 100
	mostDescribed = 100
	mostProviders = 10
)

// Open makes the driver for one place. cfg decides endpoint, credentials, limits and retries.
func Open(cfg aws.Config, place fleet.Place, _ clock.Clock) kind.Driver {
	return &driver{client: ecs.NewFromConfig(cfg), place: place}
}

type driver struct {
	client *ecs.Client
	place  fleet.Place
}

// List reads the clusters, then the container instances of those that have any, with their tasks, then the capacity providers
// of the account and those of clusters. Clusters without container instances, which is most where Fargate is used, cost no call
// of their own, and each task definition is read once.
func (d *driver) List(ctx context.Context, emit func(inventory.Resource) error) error {
	clusters, err := d.clusters(ctx)
	if err != nil {
		return err
	}
	modes := newDefinitions(d)
	for i := range clusters {
		if clusters[i].RegisteredContainerInstancesCount == 0 {
			continue
		}
		err := d.instancesOf(ctx, aws.ToString(clusters[i].ClusterName), modes, emit)
		if err != nil && fleet.ClassOf(err) != fleet.ErrGone { // a cluster that was deleted since has none
			return err
		}
	}
	known := map[string]bool{}
	err = d.eachProvider(ctx, &ecs.DescribeCapacityProvidersInput{}, func(p *types.CapacityProvider) error {
		known[aws.ToString(p.Name)] = true
		return d.emitProvider(p, emit)
	})
	if err != nil {
		return err
	}
	for i := range clusters {
		if err := d.providersOf(ctx, &clusters[i], known, emit); err != nil {
			return err
		}
	}
	return nil
}

// clusters lists all clusters with their counts.
func (d *driver) clusters(ctx context.Context) ([]types.Cluster, error) {
	in := &ecs.ListClustersInput{MaxResults: aws.Int32(kind.PageSize(ctx, mostListed))}
	var out []types.Cluster
	for {
		page, err := d.client.ListClusters(ctx, in)
		if err != nil {
			return nil, fmt.Errorf("list ECS clusters: %w", awsx.Plain(err))
		}
		if len(page.ClusterArns) > 0 {
			found, err := d.client.DescribeClusters(ctx, &ecs.DescribeClustersInput{Clusters: page.ClusterArns})
			if err != nil {
				return nil, fmt.Errorf("describe ECS clusters: %w", awsx.Plain(err))
			}
			out = append(out, found.Clusters...) // what is missing was deleted since it was listed
		}
		if aws.ToString(page.NextToken) == "" {
			return out, nil
		}
		in.NextToken = page.NextToken
	}
}

// instancesOf emits the container instances of a cluster with what runs on them.
func (d *driver) instancesOf(ctx context.Context, cluster string, modes *definitions, emit func(inventory.Resource) error) error {
	var arns []string
	in := &ecs.ListContainerInstancesInput{Cluster: aws.String(cluster), MaxResults: aws.Int32(kind.PageSize(ctx, mostListed))}
	for {
		page, err := d.client.ListContainerInstances(ctx, in)
		if err != nil {
			return fmt.Errorf("list container instances of ECS cluster %s: %w", cluster, awsx.Plain(err))
		}
		arns = append(arns, page.ContainerInstanceArns...)
		if aws.ToString(page.NextToken) == "" {
			break
		}
		in.NextToken = page.NextToken
	}
	var tasks map[string][]types.Task // by container instance; read when the first is found that has any
	for chunk := range slices.Chunk(arns, int(kind.PageSize(ctx, mostDescribed))) {
		found, err := d.describe(ctx, cluster, chunk)
		if err != nil {
			return err
		}
		for i := range found {
			if tasks == nil && busy(&found[i]) {
				if tasks, err = d.tasks(ctx, cluster, ""); err != nil {
					return err
				}
			}
			r, err := d.instance(ctx, cluster, &found[i], tasks[aws.ToString(found[i].ContainerInstanceArn)], modes)
			if err != nil {
				return err
			}
			if err := emit(r); err != nil {
				return err
			}
		}
	}
	return nil
}

func busy(i *types.ContainerInstance) bool { return i.RunningTasksCount+i.PendingTasksCount > 0 }

// describe reads container instances; those that were deregistered meanwhile are left out.
func (d *driver) describe(ctx context.Context, cluster string, arns []string) ([]types.ContainerInstance, error) {
	out, err := d.client.DescribeContainerInstances(ctx, &ecs.DescribeContainerInstancesInput{
		Cluster: aws.String(cluster), ContainerInstances: arns,
		Include: []types.ContainerInstanceField{types.ContainerInstanceFieldTags},
	})
	if err != nil {
		return nil, fmt.Errorf("describe container instances of ECS cluster %s: %w", cluster, awsx.Plain(err))
	}
	return out.ContainerInstances, nil
}

// tasks reads the tasks of a cluster, of one container instance where it is named, by container instance.
func (d *driver) tasks(ctx context.Context, cluster, instance string) (map[string][]types.Task, error) {
	in := &ecs.ListTasksInput{Cluster: aws.String(cluster), MaxResults: aws.Int32(kind.PageSize(ctx, mostListed))}
	if instance != "" {
		in.ContainerInstance = aws.String(instance)
	}
	out := map[string][]types.Task{}
	for {
		page, err := d.client.ListTasks(ctx, in)
		if err != nil {
			return nil, fmt.Errorf("list tasks of ECS cluster %s: %w", cluster, awsx.Plain(err))
		}
		if len(page.TaskArns) > 0 {
			found, err := d.client.DescribeTasks(ctx, &ecs.DescribeTasksInput{Cluster: aws.String(cluster), Tasks: page.TaskArns})
			if err != nil {
				return nil, fmt.Errorf("describe tasks of ECS cluster %s: %w", cluster, awsx.Plain(err))
			}
			for _, t := range found.Tasks {
				if on := aws.ToString(t.ContainerInstanceArn); on != "" {
					out[on] = append(out[on], t)
				}
			}
		}
		if aws.ToString(page.NextToken) == "" {
			return out, nil
		}
		in.NextToken = page.NextToken
	}
}

// providersOf emits the capacity providers of a cluster that the account's list does not have: managed instances providers
// belong to their cluster, which names them.
func (d *driver) providersOf(
	ctx context.Context, c *types.Cluster, known map[string]bool, emit func(inventory.Resource) error,
) error {
	name := aws.ToString(c.ClusterName)
	foreign := func(p string) bool { return !known[p] && !fargate(p) }
	if !slices.ContainsFunc(c.CapacityProviders, foreign) {
		return nil
	}
	err := d.eachProvider(ctx, &ecs.DescribeCapacityProvidersInput{Cluster: aws.String(name)}, func(p *types.CapacityProvider) error {
		if !foreign(aws.ToString(p.Name)) {
			return nil
		}
		return d.emitProvider(p, emit)
	})
	if fleet.ClassOf(err) == fleet.ErrGone {
		return nil // deleted since it was listed
	}
	return err
}

// eachProvider goes through all pages of a list of capacity providers.
func (d *driver) eachProvider(
	ctx context.Context, in *ecs.DescribeCapacityProvidersInput, do func(*types.CapacityProvider) error,
) error {
	in.MaxResults = aws.Int32(kind.PageSize(ctx, mostProviders))
	in.Include = []types.CapacityProviderField{types.CapacityProviderFieldTags}
	for {
		page, err := d.client.DescribeCapacityProviders(ctx, in)
		if err != nil {
			return fmt.Errorf("list ECS capacity providers: %w", awsx.Plain(err))
		}
		for i := range page.CapacityProviders {
			if err := do(&page.CapacityProviders[i]); err != nil {
				return err
			}
		}
		if aws.ToString(page.NextToken) == "" {
			return nil
		}
		in.NextToken = page.NextToken
	}
}

// emitProvider leaves out what has no EC2 instances, and what is deleted: ECS shows it for a while as INACTIVE.
func (d *driver) emitProvider(p *types.CapacityProvider, emit func(inventory.Resource) error) error {
	if !hasInstances(p) {
		return nil
	}
	return emit(d.provider(p))
}

func hasInstances(p *types.CapacityProvider) bool {
	return p.Status != types.CapacityProviderStatusInactive && (p.AutoScalingGroupProvider != nil || p.ManagedInstancesProvider != nil)
}

// fargate tells the providers that every account has and that have no instances.
func fargate(name string) bool { return name == "FARGATE" || name == "FARGATE_SPOT" }

// Read gives one container instance or capacity provider.
func (d *driver) Read(ctx context.Context, id string) (inventory.Resource, error) {
	parsed, ok := parseID(id)
	switch {
	case !ok:
		return inventory.Resource{}, kind.Errorf(fleet.ErrGone, d.place, actionDescribe, "%q names no ECS capacity", id)
	case parsed.sort == prefixProvider:
		return d.readProvider(ctx, parsed)
	}
	found, err := d.describe(ctx, parsed.cluster, []string{parsed.name})
	if err != nil {
		return inventory.Resource{}, err
	}
	if len(found) != 1 {
		return inventory.Resource{}, kind.Errorf(fleet.ErrGone, d.place, actionDescribe,
			"container instance %s of ECS cluster %s does not exist", parsed.name, parsed.cluster)
	}
	var tasks []types.Task
	if busy(&found[0]) {
		byInstance, err := d.tasks(ctx, parsed.cluster, parsed.name)
		if err != nil {
			return inventory.Resource{}, err
		}
		tasks = byInstance[aws.ToString(found[0].ContainerInstanceArn)]
	}
	return d.instance(ctx, parsed.cluster, &found[0], tasks, newDefinitions(d))
}

func (d *driver) readProvider(ctx context.Context, id identity) (inventory.Resource, error) {
	in := &ecs.DescribeCapacityProvidersInput{
		CapacityProviders: []string{id.name}, Include: []types.CapacityProviderField{types.CapacityProviderFieldTags},
	}
	if id.cluster != "" {
		in.Cluster = aws.String(id.cluster)
	}
	out, err := d.client.DescribeCapacityProviders(ctx, in)
	if err != nil {
		return inventory.Resource{}, fmt.Errorf("read ECS capacity provider %s: %w", id.name, awsx.Plain(err))
	}
	for i := range out.CapacityProviders {
		if p := &out.CapacityProviders[i]; aws.ToString(p.Name) == id.name && hasInstances(p) {
			return d.provider(p), nil
		}
	}
	return inventory.Resource{}, kind.Errorf(fleet.ErrGone, d.place, actionProviders, "ECS capacity provider %s does not exist", id.name)
}

// Write refuses: ECS has nothing to write.
func (d *driver) Write(_ context.Context, w kind.Write) (kind.Result, error) {
	return kind.Result{}, kind.Errorf(fleet.ErrInvalid, d.place, w.Verb, "ECS capacity has no verb %q", w.Verb)
}

// Find has nothing to look for: no verb creates.
func (d *driver) Find(context.Context, kind.Write) (kind.Result, error) {
	return kind.Result{}, kind.ErrNotFound
}
