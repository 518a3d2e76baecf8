package gates

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/autoscaling"
	"github.com/aws/aws-sdk-go-v2/service/autoscaling/types"

	"github.com/imdsctl/imdsctl/internal/awsx"
	"github.com/imdsctl/imdsctl/internal/fleet"
	"github.com/imdsctl/imdsctl/internal/inventory"
)

// group is an Auto Scaling group that a gate looks at.
type group struct {
	ref  fleet.Ref
	gone bool
	// least and desired are the capacity the owner asks for, in the group's own unit: instances, or their weights.
	least, desired int
	// unit is not empty where desired counts something that members do not tell of: "vcpu", "memory-mib".
	unit    string
	members []member
	// targets are the ARNs of the target groups that its instances are registered with.
	targets []string
}

// member is an instance of a group, in Auto Scaling's words.
type member struct {
	id, lifecycle string
	healthy       bool
	weight        int
}

// capacity adds up the members in service, and those on their way there.
func (g *group) capacity() (serving, starting int) {
	for _, m := range g.members {
		switch {
		case m.lifecycle == string(types.LifecycleStateInService) && m.healthy:
			serving += m.weight
		case strings.HasPrefix(m.lifecycle, string(types.LifecycleStatePending)):
			starting += m.weight
		}
	}
	return serving, starting
}

// groups looks Auto Scaling groups up.
type groups struct {
	place  fleet.Place
	groups func(context.Context, *autoscaling.DescribeAutoScalingGroupsInput) (
		*autoscaling.DescribeAutoScalingGroupsOutput, error)
}

func newGroups(s *awsx.Session) *groups {
	client := autoscaling.NewFromConfig(s.Config())
	return &groups{
		place: s.Place(),
		groups: func(ctx context.Context, in *autoscaling.DescribeAutoScalingGroupsInput) (
			*autoscaling.DescribeAutoScalingGroupsOutput, error) {
			return client.DescribeAutoScalingGroups(ctx, in)
		},
	}
}

// namesPerCall is how many groups one call of Auto Scaling names, and describes.
const namesPerCall = 50

// find describes, by name, the groups whose launches changed and those that running hosts are members of. Auto Scaling tags its
// members, which saves asking for each instance's group; the group itself has the last word.
func (g *groups) find(ctx context.Context, seen []*host, changed []fleet.Ref) ([]*group, error) {
	asked := idsOf(changed)
	names := slices.Clone(asked)
	for _, h := range seen {
		if h.running && h.group != "" {
			names = append(names, h.group)
		}
	}
	slices.Sort(names)
	names = slices.Compact(names)
	found := map[string]*group{}
	for _, name := range names {
		ref := fleet.Ref{Place: g.place, Kind: inventory.KindAutoScaling, ID: name}
		found[name] = &group{ref: ref, gone: true}
	}
	for chunk := range slices.Chunk(names, namesPerCall) {
		in := &autoscaling.DescribeAutoScalingGroupsInput{AutoScalingGroupNames: chunk, MaxRecords: aws.Int32(namesPerCall)}
		for {
			page, err := g.groups(ctx, in)
			if err != nil {
				return nil, fmt.Errorf("look up groups in %s for a gate: %w", g.place, awsx.Plain(err))
			}
			for i := range page.AutoScalingGroups {
				if one := found[aws.ToString(page.AutoScalingGroups[i].AutoScalingGroupName)]; one != nil {
					one.fill(&page.AutoScalingGroups[i])
				}
			}
			if aws.ToString(page.NextToken) == "" {
				break
			}
			in.NextToken = page.NextToken
		}
	}
	out := make([]*group, 0, len(names))
	for _, name := range names {
		if one := found[name]; slices.Contains(asked, name) || one.concerns(seen) {
			out = append(out, one)
		}
	}
	return out, nil
}

// concerns tells whether one of the running hosts is a member.
func (g *group) concerns(seen []*host) bool {
	return slices.ContainsFunc(seen, func(h *host) bool {
		return h.running && slices.ContainsFunc(g.members, func(m member) bool { return m.id == h.ref.ID })
	})
}

func (g *group) fill(in *types.AutoScalingGroup) {
	g.gone = false
	g.least, g.desired = int(aws.ToInt32(in.MinSize)), int(aws.ToInt32(in.DesiredCapacity))
	if unit := aws.ToString(in.DesiredCapacityType); unit != "units" {
		g.unit = unit
	}
	g.members = g.members[:0]
	for _, i := range in.Instances {
		weight, err := strconv.Atoi(aws.ToString(i.WeightedCapacity))
		if err != nil { // a group without weights
			weight = 1
		}
		g.members = append(g.members, member{id: aws.ToString(i.InstanceId), lifecycle: string(i.LifecycleState),
			healthy: strings.EqualFold(aws.ToString(i.HealthStatus), "healthy"), weight: weight})
	}
	g.targets = slices.Clone(in.TargetGroupARNs)
	for _, source := range in.TrafficSources { // the newer way to attach the same
		if id := aws.ToString(source.Identifier); strings.Contains(id, ":targetgroup/") && !slices.Contains(g.targets, id) {
			g.targets = append(g.targets, id)
		}
	}
}

// groups judges the health of groups. A host that runs but that its group finds unhealthy fails the step; so does a
// group with less in service than it wants. A group that grows looks so too: its missing instances are starting and it
// is above its minimum, which passes and is noted.
func (x *examination) groups(found []*group, seen []*host) {
	running := map[string]bool{}
	for _, h := range seen {
		running[h.ref.ID] = h.running
	}
	well, reason := 0, ""
	for _, g := range found {
		value, bad := g.judge(running)
		x.single(GateGroup, g.ref, bad == "", value)
		if bad == "" {
			well++
		} else if reason == "" {
			reason = bad
		}
	}
	value := fmt.Sprintf("%d of %d groups have what they want", well, len(found))
	if len(found) == 0 {
		value = "no Auto Scaling group is concerned"
	}
	x.whole(GateGroup, reason == "", value, reason)
}

// belonging tells by instance id which of the groups it is a member of.
func belonging(found []*group) map[string]string {
	out := map[string]string{}
	for _, g := range found {
		for _, m := range g.members {
			out[m.id] = g.ref.ID
		}
	}
	return out
}

// judge tells what to note of a group, and what is wrong with it: "" where nothing is.
func (g *group) judge(running map[string]bool) (value, bad string) {
	if g.gone {
		return "not asked: it is no more", ""
	}
	serving, starting := g.capacity()
	value = fmt.Sprintf("%d of %d in service and healthy", serving, g.desired)
	if starting > 0 {
		value += fmt.Sprintf(", %d starting", starting)
	}
	var ill []string
	for _, m := range g.members {
		if !m.healthy && running[m.id] {
			ill = append(ill, m.id)
		}
	}
	switch {
	case len(ill) > 0:
		return value + ", unhealthy: " + some(ill), fmt.Sprintf("group %s finds %s unhealthy", g.ref.ID, some(ill))
	case g.unit != "":
		return fmt.Sprintf("its capacity is wanted in %s and not compared", g.unit), ""
	case serving >= g.desired:
		return value, ""
	case serving < g.least:
		return value, fmt.Sprintf("group %s has %d in service and healthy, fewer than its minimum of %d", g.ref.ID, serving, g.least)
	case serving+starting >= g.desired:
		return value, ""
	default:
		return value, fmt.Sprintf("group %s has %d in service and healthy and %d starting, and wants %d", g.ref.ID, serving,
			starting, g.desired)
	}
}
