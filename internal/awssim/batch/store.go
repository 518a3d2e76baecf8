package batch

import (
	"cmp"
	"encoding/json"
	"fmt"
	"hash/fnv"
	"maps"
	"regexp"
	"slices"

	"github.com/imdsctl/imdsctl/internal/awssim/core"
	"github.com/imdsctl/imdsctl/internal/awssim/ec2"
)

// Statuses of an environment.
const (
	StatusValid    = "VALID"
	StatusInvalid  = "INVALID"
	StatusUpdating = "UPDATING"
	StatusDeleting = "DELETING"
)

// Seed is Batch's section of a seed, in one region of one account.
type Seed struct {
	ComputeEnvironments []EnvironmentSeed `json:"compute_environments,omitempty"`
}

// EnvironmentSeed is a compute environment that is there already.
type EnvironmentSeed struct {
	Name string `json:"name"`
	Environment
	// Launches are the template versions that Batch resolved when it last built the infrastructure, by instance type, "" for
	// all that no override names; those of now when nil.
	Launches map[string]int64 `json:"launches,omitempty"`
}

// Environment is a compute environment as it is described. It must not be changed once it was given to a store.
type Environment struct {
	Type          string            `json:"type,omitempty"`   // MANAGED when empty
	State         string            `json:"state,omitempty"`  // ENABLED when empty
	Status        string            `json:"status,omitempty"` // VALID when empty
	StatusReason  string            `json:"status_reason,omitempty"`
	Orchestration string            `json:"orchestration,omitempty"` // ECS when empty
	EKSCluster    string            `json:"eks_cluster,omitempty"`
	Cluster       string            `json:"cluster,omitempty"`      // the ECS cluster's ARN; made when empty and not on EKS
	ServiceRole   string            `json:"service_role,omitempty"` // the service-linked role when empty
	Resources     *Resources        `json:"compute_resources,omitempty"`
	UpdatePolicy  *UpdatePolicy     `json:"update_policy,omitempty"`
	Tags          map[string]string `json:"tags,omitempty"`
}

// Resources are the computeResources of a managed environment.
type Resources struct {
	Type               string     `json:"type,omitempty"` // EC2 when empty
	AllocationStrategy string     `json:"allocation_strategy,omitempty"`
	InstanceTypes      []string   `json:"instance_types,omitempty"`
	InstanceRole       string     `json:"instance_role,omitempty"`
	MinVCPUs           int        `json:"min_vcpus,omitempty"`
	MaxVCPUs           int        `json:"max_vcpus,omitempty"`
	LaunchTemplate     *Templates `json:"launch_template,omitempty"`
}

// Templates are what instances are launched from.
type Templates struct {
	TemplateRef
	Overrides []Override `json:"overrides,omitempty"`
}

// TemplateRef names a launch template by id or name, and a version; an empty version means $Default.
type TemplateRef struct {
	ID           string `json:"id,omitempty"`
	Name         string `json:"name,omitempty"`
	Version      string `json:"version,omitempty"`
	UserdataType string `json:"userdata_type,omitempty"`
}

// Override names another template for some instance types.
type Override struct {
	TemplateRef
	InstanceTypes []string `json:"instance_types"`
}

// UpdatePolicy is what an infrastructure update does with the jobs that run.
type UpdatePolicy struct {
	TerminateJobs  bool `json:"terminate_jobs,omitempty"`
	TimeoutMinutes int  `json:"timeout_minutes,omitempty"`
}

type environment struct {
	state    core.Versioned[*Environment]
	launches map[string]int64
}

// Store is the Batch of one place. The place's lock guards it.
type Store struct {
	place        *core.Place
	environments map[string]*environment
}

// StoreOf is the Batch of a place, whose lock the caller holds.
func StoreOf(p *core.Place) *Store {
	return p.Store(Name, func() any { return &Store{place: p, environments: map[string]*environment{}} }).(*Store)
}

// Launches is the template version that the next instance of a type would be launched from, as Batch resolved it when it last
// built the environment's infrastructure; 0 where there is no template.
func (s *Store) Launches(name, instanceType string) int64 {
	e := s.environments[name]
	if e == nil {
		return 0
	}
	if n, ok := e.launches[instanceType]; ok {
		return n
	}
	return e.launches[""]
}

// validName is the pattern of the API reference, CreateComputeEnvironment: up to 128 letters, digits, hyphens and underscores.
var validName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_-]{0,127}$`)

func seedPlace(p *core.Place, section json.RawMessage, path string) error {
	var in Seed
	if err := core.DecodeStrict(path, section, &in); err != nil {
		return err
	}
	s := StoreOf(p)
	for n := range in.ComputeEnvironments {
		if err := s.add(&in.ComputeEnvironments[n]); err != nil {
			return fmt.Errorf("%s.compute_environments[%d]: %w", path, n, err)
		}
	}
	return nil
}

func (s *Store) add(in *EnvironmentSeed) error {
	made := in.Environment
	made.Type, made.State = cmp.Or(made.Type, "MANAGED"), cmp.Or(made.State, "ENABLED")
	made.Status, made.Orchestration = cmp.Or(made.Status, StatusValid), cmp.Or(made.Orchestration, "ECS")
	made.ServiceRole = cmp.Or(made.ServiceRole, s.serviceLinkedRole())
	if made.Cluster == "" && made.Orchestration == "ECS" {
		made.Cluster = s.clusterARN(in.Name)
	}
	switch {
	case !validName.MatchString(in.Name) || s.environments[in.Name] != nil:
		return fmt.Errorf("%q is not a compute environment's name, or is there already", in.Name)
	case !slices.Contains([]string{"MANAGED", "UNMANAGED"}, made.Type) || (made.Type == "MANAGED") != (made.Resources != nil):
		return fmt.Errorf("compute environment %s: a managed one has compute resources, an unmanaged one has none", in.Name)
	}
	e := &environment{launches: in.Launches}
	if r := made.Resources; r != nil {
		r.Type = cmp.Or(r.Type, "EC2")
		if r.LaunchTemplate != nil && !takesTemplate(r.Type) {
			return fmt.Errorf("compute environment %s: %s resources have no launch template", in.Name, r.Type)
		}
	}
	if e.launches == nil {
		// A template that is not in the seed leaves nothing to launch from, as in a copy of this service alone.
		_ = s.resolve(e, &made)
	}
	e.state = core.Always(&made)
	s.environments[in.Name] = e
	return nil
}

func takesTemplate(resources string) bool { return resources == "EC2" || resources == "SPOT" }

// resolve reads which versions the environment's templates mean now. On an error the environment launches nothing.
func (s *Store) resolve(e *environment, of *Environment) error {
	e.launches = map[string]int64{}
	if of.Resources == nil || of.Resources.LaunchTemplate == nil {
		return nil
	}
	t := of.Resources.LaunchTemplate
	n, err := s.version(t.TemplateRef)
	if err != nil {
		return err
	}
	e.launches[""] = n
	for _, o := range t.Overrides {
		n, err := s.version(o.TemplateRef)
		if err != nil {
			return err
		}
		for _, typ := range o.InstanceTypes {
			e.launches[typ] = n
		}
	}
	return nil
}

func (s *Store) version(t TemplateRef) (int64, error) {
	store := ec2.StoreOf(s.place)
	found, ok := store.Template(cmp.Or(t.ID, t.Name))
	if !ok {
		return 0, fmt.Errorf("the launch template %s does not exist", cmp.Or(t.ID, t.Name))
	}
	return store.ResolveVersion(found.ID(), cmp.Or(t.Version, "$Default"))
}

func (s *Store) names() []string { return slices.Sorted(maps.Keys(s.environments)) }

func (s *Store) arn(name string) string {
	return "arn:" + string(s.place.Partition) + ":" + Name + ":" + string(s.place.Region) + ":" + string(s.place.Account) +
		":compute-environment/" + name
}

func (s *Store) serviceLinkedRole() string {
	return "arn:" + string(s.place.Partition) + ":iam::" + string(s.place.Account) +
		":role/aws-service-role/batch.amazonaws.com/" + serviceLinkedRole
}

// serviceLinkedRole is the one that infrastructure updates need.
const serviceLinkedRole = "AWSServiceRoleForBatch"

func (s *Store) clusterARN(name string) string {
	return "arn:" + string(s.place.Partition) + ":ecs:" + string(s.place.Region) + ":" + string(s.place.Account) +
		":cluster/AWSBatch-" + name + "-" + uuidOf(s.arn(name))
}

// uuidOf is an id in the form that Batch uses, the same in every run.
func uuidOf(text string) string {
	h := fnv.New128a()
	h.Write([]byte(text))
	b := h.Sum(nil)
	return fmt.Sprintf("%x-%x-3%03x-8%03x-%x", b[:4], b[4:6], (int(b[6])<<8|int(b[7]))&0xfff, (int(b[8])<<8|int(b[9]))&0xfff, b[10:])
}

func sortedKeys(m map[string]string) []string { return slices.Sorted(maps.Keys(m)) }
