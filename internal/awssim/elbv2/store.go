package elbv2

import (
	"cmp"
	"fmt"
	"hash/fnv"
	"maps"
	"slices"
	"strconv"
	"time"

	"github.com/imdsctl/imdsctl/internal/awssim/autoscaling"
	"github.com/imdsctl/imdsctl/internal/awssim/core"
	"github.com/imdsctl/imdsctl/internal/awssim/ec2"
	"github.com/imdsctl/imdsctl/internal/awssim/programs"
	"github.com/imdsctl/imdsctl/internal/awssim/workload"
)

// TargetGroup is a target group with what is registered by hand.
type TargetGroup struct {
	Name string `json:"name"`
	// Type is instance, ip, lambda or alb; instance when empty. Only instances are looked at.
	Type     string `json:"type,omitempty"`
	Protocol string `json:"protocol,omitempty"` // HTTP when empty
	Port     int    `json:"port,omitempty"`     // 80 when zero
	// Instances are registered one by one; Groups are Auto Scaling groups that are attached, so that their members are.
	Instances []string `json:"instances,omitempty"`
	Groups    []string `json:"groups,omitempty"`
	// Addresses are targets of the type ip, ARNs of load balancers or functions those of the types alb and lambda.
	Addresses []string `json:"addresses,omitempty"`
	ARNs      []string `json:"arns,omitempty"`
	// Unchecked: instances need not exist, as in AWS, where a registration outlives what it is of.
	Unchecked bool `json:"unchecked,omitempty"`
}

type targetGroup struct {
	TargetGroup
	arn string
	// forced are states set by hand, by instance.
	forced map[string]string
}

// target is one registered instance as the load balancer sees it.
type target struct {
	id                         string
	port                       int
	state, reason, description string
}

// Store is the load balancing of one place. The place's lock guards it.
type Store struct {
	place  *core.Place
	groups map[string]*targetGroup // by name

	balancers map[string]*balancer // of the second generation, by name
	classic   map[string]*Classic  // by name
}

// StoreOf is the load balancing of a place, whose lock the caller holds.
func StoreOf(p *core.Place) *Store {
	return p.Store(Name, func() any { return &Store{place: p, groups: map[string]*targetGroup{}} }).(*Store)
}

// Put makes a target group, or registers more with the one of that name, and returns its ARN. The instances and groups
// must exist.
func (s *Store) Put(in TargetGroup) (arn string, err error) {
	if in.Name == "" || len(in.Name) > 32 {
		return "", fmt.Errorf("target group %q: want a name of up to 32 characters", in.Name)
	}
	in.Type, in.Protocol, in.Port = cmp.Or(in.Type, "instance"), cmp.Or(in.Protocol, "HTTP"), cmp.Or(in.Port, 80)
	if !slices.Contains([]string{"instance", "ip", "lambda", "alb"}, in.Type) {
		return "", fmt.Errorf("target group %s: type %q is not known", in.Name, in.Type)
	}
	for _, id := range in.Instances {
		if !in.Unchecked && ec2.StoreOf(s.place).Instance(id) == nil {
			return "", fmt.Errorf("target group %s: there is no instance %s", in.Name, id)
		}
	}
	g := s.groups[in.Name]
	if g == nil {
		g = &targetGroup{TargetGroup: in, arn: s.arn(in.Name), forced: map[string]string{}}
		g.Instances, g.Groups, g.Addresses, g.ARNs = nil, nil, nil, nil
	}
	g.Addresses, g.ARNs = append(g.Addresses, in.Addresses...), append(g.ARNs, in.ARNs...)
	for _, name := range in.Groups {
		if err := autoscaling.StoreOf(s.place).AttachTargetGroup(name, g.arn); err != nil {
			return "", fmt.Errorf("target group %s: %w", in.Name, err)
		}
	}
	s.groups[in.Name] = g
	for _, id := range in.Instances {
		if !slices.Contains(g.Instances, id) {
			g.Instances = append(g.Instances, id)
		}
	}
	slices.Sort(g.Instances)
	return g.arn, nil
}

// Deregister takes an instance that was registered by hand out of a target group.
func (s *Store) Deregister(name, instance string) {
	if g := s.groups[name]; g != nil {
		g.Instances = slices.DeleteFunc(g.Instances, func(id string) bool { return id == instance })
	}
}

// Force decides the health of an instance in a target group whatever runs on it, until it is called with "".
func (s *Store) Force(name, instance, state string) error {
	g := s.groups[name]
	known := []string{"", "initial", "healthy", "unhealthy", "unused", "draining", "unavailable"}
	switch {
	case g == nil:
		return fmt.Errorf("there is no target group %q", name)
	case !slices.Contains(known, state):
		return fmt.Errorf("target group %s: state %q is not known", name, state)
	}
	g.forced[instance] = state
	return nil
}

func (s *Store) arn(name string) string {
	h := fnv.New64a()
	fmt.Fprintf(h, "%s %s", s.place.Place, name)
	return fmt.Sprintf("arn:%s:elasticloadbalancing:%s:%s:targetgroup/%s/%016x", s.place.Partition, s.place.Region, s.place.Account,
		name, h.Sum64())
}

func (s *Store) byARN(arn string) *targetGroup {
	for _, g := range s.groups {
		if g.arn == arn {
			return g
		}
	}
	return nil
}

// selected gives the groups of the ARNs and names, all where there are none, by name.
func (s *Store) selected(arns, names []string) ([]*targetGroup, error) {
	if len(arns) == 0 && len(names) == 0 {
		var out []*targetGroup
		for _, name := range slices.Sorted(maps.Keys(s.groups)) {
			out = append(out, s.groups[name])
		}
		return out, nil
	}
	found := map[string]*targetGroup{}
	for _, arn := range arns {
		g := s.byARN(arn)
		if g == nil {
			return nil, notFound()
		}
		found[g.Name] = g
	}
	for _, name := range names {
		g := s.groups[name]
		if g == nil {
			return nil, notFound()
		}
		found[name] = g
	}
	var out []*targetGroup
	for _, name := range slices.Sorted(maps.Keys(found)) {
		out = append(out, found[name])
	}
	return out, nil
}

// targets lists what is registered: by hand, and by the groups that the target group is attached to.
func (s *Store) targets(g *targetGroup, now time.Time) []target {
	ids := map[string]bool{}
	for _, id := range g.Instances {
		ids[id] = true
	}
	for _, id := range autoscaling.StoreOf(s.place).Behind(g.arn) {
		ids[id] = true
	}
	var out []target
	for _, id := range slices.Sorted(maps.Keys(ids)) {
		t := target{id: id, port: g.Port}
		t.state, t.reason, t.description = s.health(g, id, now)
		out = append(out, t)
	}
	for _, id := range slices.Concat(g.Addresses, g.ARNs) { // nobody looks at what runs there
		out = append(out, target{id: id, port: g.Port, state: "healthy"})
	}
	return out
}

// health is what the load balancer finds when it looks at an instance. The reasons are those of the API reference,
// TargetHealth.
func (s *Store) health(g *targetGroup, id string, now time.Time) (state, reason, description string) {
	i := ec2.StoreOf(s.place).Instance(id)
	switch forced := g.forced[id]; {
	case forced != "":
		return explained(forced)
	case i == nil || i.Newest().State == ec2.StateTerminated:
		return "unused", "Target.InvalidState", "Target is in the terminated state"
	case i.Newest().State == ec2.StateShuttingDown:
		return explained("draining")
	case i.Newest().State == ec2.StateStopped || i.Newest().State == ec2.StateStopping:
		return "unused", "Target.InvalidState", "Target is in the stopped state"
	case i.Newest().State == ec2.StatePending || i.Status() == ec2.StatusInitializing:
		return explained("initial")
	}
	broken := slices.ContainsFunc(programs.HostOf(s.place, i).Faults(now.Unix()), func(f workload.Fault) bool {
		return f.Program.Essential
	})
	if broken {
		return explained("unhealthy")
	}
	return explained("healthy")
}

func explained(state string) (s, reason, description string) {
	switch state {
	case "initial":
		return state, "Elb.RegistrationInProgress", "Target registration is in progress"
	case "unhealthy":
		return state, "Target.ResponseCodeMismatch", "Health checks failed with these codes: [503]"
	case "draining":
		return state, "Target.DeregistrationInProgress", "Target deregistration is in progress"
	case "unused":
		return state, "Target.NotInUse", "Target group is not configured to receive traffic from the load balancer"
	case "unavailable":
		return state, "Target.HealthCheckDisabled", "Health checks are disabled for this target"
	}
	return state, "", ""
}

func wirePort(port int) string { return strconv.Itoa(port) }
