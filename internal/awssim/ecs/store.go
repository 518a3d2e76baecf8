package ecs

import (
	"cmp"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"hash/fnv"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/imdsctl/imdsctl/internal/awssim/core"
	"github.com/imdsctl/imdsctl/internal/awssim/ec2"
)

// Seed is ECS's section of a seed, in one region of one account.
type Seed struct {
	TaskDefinitions   []DefinitionSeed `json:"task_definitions,omitempty"`
	CapacityProviders []ProviderSeed   `json:"capacity_providers,omitempty"`
	Clusters          []ClusterSeed    `json:"clusters,omitempty"`
}

// DefinitionSeed is one revision of a task definition.
type DefinitionSeed struct {
	Family   string `json:"family"`
	Revision int    `json:"revision,omitempty"` // 1 when 0
	// NetworkMode is bridge, host, awsvpc or none; left out as ECS leaves it out where nobody said.
	NetworkMode string `json:"network_mode,omitempty"`
	TaskRoleARN string `json:"task_role_arn,omitempty"`
	// OperatingSystem is the family of the runtime platform: WINDOWS_SERVER_2022_CORE, say.
	OperatingSystem string `json:"operating_system,omitempty"`
}

// ProviderSeed is a capacity provider: of an Auto Scaling group or, in a cluster, of instances that ECS manages itself.
type ProviderSeed struct {
	Name   string `json:"name"`
	Status string `json:"status,omitempty"` // ACTIVE when empty
	// AutoScalingGroup is the group's ARN.
	AutoScalingGroup string `json:"auto_scaling_group,omitempty"`
	// Cluster and the roles are those of a managed instances provider.
	Cluster            string            `json:"cluster,omitempty"`
	InfrastructureRole string            `json:"infrastructure_role,omitempty"`
	InstanceProfile    string            `json:"instance_profile,omitempty"`
	Tags               map[string]string `json:"tags,omitempty"`
}

// ClusterSeed is a cluster with what runs in it.
type ClusterSeed struct {
	Name string `json:"name"`
	// CapacityProviders are the names of those it may use, FARGATE and FARGATE_SPOT among them.
	CapacityProviders []string          `json:"capacity_providers,omitempty"`
	Instances         []InstanceSeed    `json:"container_instances,omitempty"`
	Tasks             []TaskSeed        `json:"tasks,omitempty"`
	Tags              map[string]string `json:"tags,omitempty"`
}

// InstanceSeed is a container instance.
type InstanceSeed struct {
	ID string `json:"id,omitempty"` // 32 hexadecimal digits; made when empty
	// Instance is the EC2 instance, or the id of an external one ("mi-…").
	Instance         string            `json:"instance"`
	Status           string            `json:"status,omitempty"` // ACTIVE when empty
	CapacityProvider string            `json:"capacity_provider,omitempty"`
	Tags             map[string]string `json:"tags,omitempty"`
}

// TaskSeed is a running task.
type TaskSeed struct {
	ID string `json:"id,omitempty"` // 32 hexadecimal digits; made when empty
	// Definition is "family:revision".
	Definition string `json:"definition"`
	// Instance is the EC2 instance it runs on; empty on Fargate.
	Instance string `json:"instance,omitempty"`
	// LaunchType is EC2 by default where there is an instance, else FARGATE.
	LaunchType string `json:"launch_type,omitempty"`
	// TaskRoleARN overrides the definition's.
	TaskRoleARN string `json:"task_role_arn,omitempty"`
}

// defaultCluster is the one that is meant where none is named.
const defaultCluster = "default"

type cluster struct {
	ClusterSeed
	instances []*instance // by id
	tasks     []*task     // by id
}

type instance struct {
	InstanceSeed
	tasks []*task
}

type task struct {
	TaskSeed
	on *instance // nil on Fargate
}

// Store is the ECS of one place. The place's lock guards it.
type Store struct {
	place       *core.Place
	clusters    map[string]*cluster
	definitions map[string]DefinitionSeed // by "family:revision"
	latest      map[string]int            // by family
	providers   []ProviderSeed            // by cluster and name
}

// StoreOf is the ECS of a place, whose lock the caller holds.
func StoreOf(p *core.Place) *Store {
	return p.Store(Name, func() any {
		return &Store{place: p, clusters: map[string]*cluster{}, definitions: map[string]DefinitionSeed{}, latest: map[string]int{}}
	}).(*Store)
}

func seedPlace(p *core.Place, section json.RawMessage, path string) error {
	var in Seed
	if err := core.DecodeStrict(path, section, &in); err != nil {
		return err
	}
	s := StoreOf(p)
	for n, d := range in.TaskDefinitions {
		if err := s.addDefinition(d); err != nil {
			return fmt.Errorf("%s.task_definitions[%d]: %w", path, n, err)
		}
	}
	for n, c := range in.Clusters {
		if err := s.addCluster(c); err != nil {
			return fmt.Errorf("%s.clusters[%d]: %w", path, n, err)
		}
	}
	for n, v := range in.CapacityProviders {
		if err := s.addProvider(v); err != nil {
			return fmt.Errorf("%s.capacity_providers[%d]: %w", path, n, err)
		}
	}
	return nil
}

var (
	// The patterns of the ECS API reference: names of clusters, families and capacity providers.
	validName  = regexp.MustCompile(`^[A-Za-z0-9_-]{1,255}$`)
	validID    = regexp.MustCompile(`^[0-9a-f]{32}$`)
	validOn    = regexp.MustCompile(`^(i-([0-9a-f]{8}|[0-9a-f]{17})|mi-[0-9a-f]{17})$`)
	validGroup = regexp.MustCompile(`^arn:[a-z-]+:autoscaling:[a-z0-9-]+:[0-9]{12}:autoScalingGroup:.+:autoScalingGroupName/.+$`)
)

func (s *Store) addDefinition(d DefinitionSeed) error {
	d.Revision = cmp.Or(d.Revision, 1)
	key := d.Family + ":" + strconv.Itoa(d.Revision)
	if _, there := s.definitions[key]; there || !validName.MatchString(d.Family) || d.Revision < 1 {
		return fmt.Errorf("%s is not a task definition's name, or is there already", key)
	}
	if !slices.Contains([]string{"", "bridge", "host", "awsvpc", "none"}, d.NetworkMode) {
		return fmt.Errorf("task definition %s: network mode %q is not known", key, d.NetworkMode)
	}
	s.definitions[key] = d
	s.latest[d.Family] = max(s.latest[d.Family], d.Revision)
	return nil
}

func (s *Store) addProvider(v ProviderSeed) error {
	v.Status = cmp.Or(v.Status, "ACTIVE")
	managed := v.Cluster != ""
	switch {
	case !validName.MatchString(v.Name):
		return fmt.Errorf("%q is not a capacity provider's name", v.Name)
	case managed && (s.clusters[v.Cluster] == nil || v.AutoScalingGroup != "" || v.InfrastructureRole == ""):
		return fmt.Errorf("capacity provider %s: one of a cluster needs the cluster and an infrastructure role, and has no group", v.Name)
	case !managed && !validGroup.MatchString(v.AutoScalingGroup):
		return fmt.Errorf("capacity provider %s: %q is not an Auto Scaling group's ARN", v.Name, v.AutoScalingGroup)
	}
	if slices.ContainsFunc(s.providers, func(o ProviderSeed) bool { return o.Name == v.Name && o.Cluster == v.Cluster }) {
		return fmt.Errorf("capacity provider %s is there already", v.Name)
	}
	s.providers = append(s.providers, v)
	slices.SortFunc(s.providers, func(a, b ProviderSeed) int {
		return cmp.Or(cmp.Compare(a.Cluster, b.Cluster), cmp.Compare(a.Name, b.Name))
	})
	return nil
}

func (s *Store) addCluster(in ClusterSeed) error {
	if !validName.MatchString(in.Name) || s.clusters[in.Name] != nil {
		return fmt.Errorf("%q is not a cluster's name, or is there already", in.Name)
	}
	c := &cluster{ClusterSeed: in}
	hosts := map[string]*instance{}
	for _, v := range in.Instances {
		v.ID, v.Status = cmp.Or(v.ID, madeID(in.Name, v.Instance)), cmp.Or(v.Status, "ACTIVE")
		if !validID.MatchString(v.ID) || !validOn.MatchString(v.Instance) || hosts[v.Instance] != nil {
			return fmt.Errorf("container instance %s: want an id of 32 hexadecimal digits, and an instance each once, not %q",
				v.ID, v.Instance)
		}
		hosts[v.Instance] = &instance{InstanceSeed: v}
		c.instances = append(c.instances, hosts[v.Instance])
	}
	for n, v := range in.Tasks {
		v.ID = cmp.Or(v.ID, madeID(in.Name, v.Definition, strconv.Itoa(n)))
		t := &task{TaskSeed: v, on: hosts[v.Instance]}
		if _, there := s.definitions[v.Definition]; !there || !validID.MatchString(v.ID) || v.Instance != "" && t.on == nil {
			return fmt.Errorf("task %s: its definition %q or its container instance %q is not there", v.ID, v.Definition, v.Instance)
		}
		t.LaunchType = cmp.Or(v.LaunchType, "FARGATE")
		if t.on != nil {
			t.LaunchType = cmp.Or(v.LaunchType, "EC2")
			t.on.tasks = append(t.on.tasks, t)
		}
		c.tasks = append(c.tasks, t)
	}
	slices.SortFunc(c.instances, func(a, b *instance) int { return cmp.Compare(a.ID, b.ID) })
	slices.SortFunc(c.tasks, func(a, b *task) int { return cmp.Compare(a.ID, b.ID) })
	s.clusters[in.Name] = c
	return nil
}

// madeID is an id in ECS's form, the same in every run.
func madeID(parts ...string) string {
	h := fnv.New128a()
	h.Write([]byte(strings.Join(parts, "\n")))
	return hex.EncodeToString(h.Sum(nil))
}

// gone tells whether a container instance's EC2 instance has ended, which deregisters it.
func (s *Store) gone(i *instance) bool {
	host := ec2.StoreOf(s.place).Instance(i.Instance)
	return host != nil && (host.Newest().State == ec2.StateTerminated || host.Newest().State == ec2.StateShuttingDown)
}

// registered are the container instances of a cluster, by id.
func (s *Store) registered(c *cluster) []*instance {
	return slices.DeleteFunc(slices.Clone(c.instances), s.gone)
}

// running are the tasks of a cluster, by id.
func (s *Store) running(c *cluster) []*task {
	return slices.DeleteFunc(slices.Clone(c.tasks), func(t *task) bool { return t.on != nil && s.gone(t.on) })
}

func (s *Store) clusterNames() []string { return slices.Sorted(maps.Keys(s.clusters)) }

func (s *Store) arn(kind, name string) string {
	return "arn:" + string(s.place.Partition) + ":" + Name + ":" + string(s.place.Region) + ":" + string(s.place.Account) + ":" +
		kind + "/" + name
}

func sortedKeys(m map[string]string) []string { return slices.Sorted(maps.Keys(m)) }
