package gates

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	elb "github.com/aws/aws-sdk-go-v2/service/elasticloadbalancingv2"
	"github.com/aws/aws-sdk-go-v2/service/elasticloadbalancingv2/types"

	"github.com/imdsctl/imdsctl/internal/awsx"
	"github.com/imdsctl/imdsctl/internal/fleet"
)

// balancers looks target groups up.
type balancers struct {
	place  fleet.Place
	groups func(context.Context, *elb.DescribeTargetGroupsInput) (*elb.DescribeTargetGroupsOutput, error)
	health func(context.Context, *elb.DescribeTargetHealthInput) (*elb.DescribeTargetHealthOutput, error)
}

func newBalancers(s *awsx.Session) *balancers {
	client := elb.NewFromConfig(s.Config())
	return &balancers{
		place: s.Place(),
		groups: func(ctx context.Context, in *elb.DescribeTargetGroupsInput) (*elb.DescribeTargetGroupsOutput, error) {
			return client.DescribeTargetGroups(ctx, in)
		},
		health: func(ctx context.Context, in *elb.DescribeTargetHealthInput) (*elb.DescribeTargetHealthOutput, error) {
			return client.DescribeTargetHealth(ctx, in)
		},
	}
}

// targets reads the health of the running hosts in the target groups they are registered with: those of its Auto
// Scaling group for a member, any of the region for a bare instance.
func (r *Reader) targets(ctx context.Context, s *awsx.Session, x *examination, found []*group, seen []*host) error {
	b, belong := newBalancers(s), belonging(found)
	ofGroup := map[string][]string{}
	for _, g := range found {
		ofGroup[g.ref.ID] = g.targets
	}
	concerned := map[string]bool{}
	hosts := map[string]*host{}
	bare := false
	for _, h := range seen {
		if !h.running {
			continue
		}
		hosts[h.ref.ID] = h
		name, member := belong[h.ref.ID]
		bare = bare || !member
		for _, arn := range ofGroup[name] {
			concerned[arn] = true
		}
	}
	if bare {
		registered, err := r.registered.of(ctx, b, x.q.Now)
		if err != nil {
			return err
		}
		for id := range hosts {
			if _, member := belong[id]; !member {
				for _, arn := range registered[id] {
					concerned[arn] = true
				}
			}
		}
	}
	var all []registration
	for _, arn := range slices.Sorted(maps.Keys(concerned)) {
		targets, err := b.targets(ctx, arn)
		if err != nil && fleet.ClassOf(err) != fleet.ErrGone { // a target group that is no more has nobody to lose
			return err
		}
		for _, t := range targets {
			if h := hosts[aws.ToString(t.Target.Id)]; h != nil && t.TargetHealth != nil {
				all = append(all, registration{host: h, group: arn, port: aws.ToInt32(t.Target.Port), health: t.TargetHealth})
			}
		}
	}
	x.targets(all)
	return nil
}

// registration is one host in one target group, at one port.
type registration struct {
	host   *host
	group  string
	port   int32
	health *types.TargetHealth
}

// targets judges what load balancers find. Targets that are not known yet, on their way out or in no use are noted.
func (x *examination) targets(all []registration) {
	count := map[types.TargetHealthStateEnum]int{}
	var reason string
	ill := 0
	for _, t := range all {
		count[t.health.State]++
		pass := t.health.State != types.TargetHealthStateEnumUnhealthy && t.health.State != types.TargetHealthStateEnumUnhealthyDraining
		if t.health.State == types.TargetHealthStateEnumHealthy {
			continue
		}
		value := fmt.Sprintf("%s in %s, port %d", t.health.State, targetGroupName(t.group), t.port)
		if why := aws.ToString(t.health.Description); why != "" {
			value += ": " + why
		}
		x.single(GateTarget, t.host.ref, pass, value)
		if !pass {
			ill++
			if reason == "" {
				reason = t.host.ref.ID + " is " + value
			}
		}
	}
	if ill > 1 {
		reason += fmt.Sprintf(" (%d unhealthy targets in all)", ill)
	}
	value := fmt.Sprintf("%d of %d registered targets are healthy", count[types.TargetHealthStateEnumHealthy], len(all))
	if len(all) == 0 {
		value = "none of the instances is registered with a target group"
	}
	for _, state := range slices.Sorted(maps.Keys(count)) {
		if state != types.TargetHealthStateEnumHealthy {
			value += fmt.Sprintf(", %d %s", count[state], state)
		}
	}
	x.whole(GateTarget, ill == 0, value, reason)
}

// targets lists what is registered with a target group; AWS gives all of it at once.
func (b *balancers) targets(ctx context.Context, arn string) ([]types.TargetHealthDescription, error) {
	out, err := b.health(ctx, &elb.DescribeTargetHealthInput{TargetGroupArn: &arn})
	if err != nil {
		return nil, fmt.Errorf("read the target group %s in %s for a gate: %w", targetGroupName(arn), b.place, awsx.Plain(err))
	}
	return slices.DeleteFunc(out.TargetHealthDescriptions,
		func(t types.TargetHealthDescription) bool { return t.Target == nil }), nil
}

// targetGroupName is the name within an ARN: "…:targetgroup/NAME/0123456789abcdef".
func targetGroupName(arn string) string {
	_, rest, ok := strings.Cut(arn, ":targetgroup/")
	if !ok {
		return arn
	}
	name, _, _ := strings.Cut(rest, "/")
	return name
}

// registryLife is how long it is remembered which bare instances are registered where. Their health is never
// remembered.
const registryLife = 5 * time.Minute

// registry remembers, for each place, the target groups of instances: to find those of a bare instance, all target
// groups of the region must be read.
type registry struct {
	mu     sync.Mutex
	places map[fleet.Place]*registrations
}

type registrations struct {
	turn   chan struct{} // holds one token: whoever has it may read and write what follows
	read   time.Time
	groups map[string][]string // ARNs, by instance
}

// of gives the target groups of the place by instance. Only one reader at a time looks them up, and an error is not
// remembered.
func (r *registry) of(ctx context.Context, b *balancers, now time.Time) (map[string][]string, error) {
	r.mu.Lock()
	place := r.places[b.place]
	if place == nil {
		place = &registrations{turn: make(chan struct{}, 1)}
		r.places[b.place] = place
	}
	r.mu.Unlock()
	select {
	case place.turn <- struct{}{}:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	defer func() { <-place.turn }()
	if age := now.Sub(place.read); place.groups != nil && age >= 0 && age < registryLife {
		return place.groups, nil
	}
	found, err := b.registered(ctx)
	if err != nil {
		return nil, err
	}
	place.read, place.groups = now, found
	return found, nil
}

// registered reads all target groups of instances in the place.
func (b *balancers) registered(ctx context.Context) (map[string][]string, error) {
	out := map[string][]string{}
	in := &elb.DescribeTargetGroupsInput{}
	for {
		page, err := b.groups(ctx, in)
		if err != nil {
			return nil, fmt.Errorf("look up target groups in %s for a gate: %w", b.place, awsx.Plain(err))
		}
		for _, g := range page.TargetGroups {
			if g.TargetType != types.TargetTypeEnumInstance {
				continue
			}
			targets, err := b.targets(ctx, aws.ToString(g.TargetGroupArn))
			if fleet.ClassOf(err) == fleet.ErrGone { // since the page was read
				continue
			}
			if err != nil {
				return nil, err
			}
			for _, t := range targets {
				id := aws.ToString(t.Target.Id)
				if arn := aws.ToString(g.TargetGroupArn); !slices.Contains(out[id], arn) {
					out[id] = append(out[id], arn)
				}
			}
		}
		if aws.ToString(page.NextMarker) == "" {
			return out, nil
		}
		in.Marker = page.NextMarker
	}
}
