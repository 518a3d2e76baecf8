package autoscalinggroup

import (
	"context"
	"fmt"

	"github.com/aws/aws-sdk-go-v2/aws"
	awsmiddleware "github.com/aws/aws-sdk-go-v2/aws/middleware"
	"github.com/aws/aws-sdk-go-v2/service/autoscaling"
	"github.com/aws/aws-sdk-go-v2/service/autoscaling/types"

	"github.com/imdsctl/imdsctl/internal/awsx"
	"github.com/imdsctl/imdsctl/internal/clock"
	"github.com/imdsctl/imdsctl/internal/fleet"
	"github.com/imdsctl/imdsctl/internal/inventory"
	"github.com/imdsctl/imdsctl/internal/kind"
)

// mostRecords is the largest page of DescribeAutoScalingGroups and DescribeScalingActivities.
const mostRecords = 100

// Open makes the driver for one place. cfg decides endpoint, credentials, limits and retries; c tells how old a refresh is.
func Open(cfg aws.Config, place fleet.Place, c clock.Clock) kind.Driver {
	return &driver{client: autoscaling.NewFromConfig(cfg), place: place, clock: c}
}

type driver struct {
	client *autoscaling.Client
	place  fleet.Place
	clock  clock.Clock
}

var (
	_ kind.HistoryReader = (*driver)(nil)
	_ kind.WriteReader   = (*driver)(nil)
	_ kind.Canceller     = (*driver)(nil)
)

func (d *driver) List(ctx context.Context, emit func(inventory.Resource) error) error {
	in := &autoscaling.DescribeAutoScalingGroupsInput{MaxRecords: aws.Int32(kind.PageSize(ctx, mostRecords))}
	for {
		out, err := d.client.DescribeAutoScalingGroups(ctx, in)
		if err != nil {
			return fmt.Errorf("list Auto Scaling groups: %w", awsx.Plain(err))
		}
		for i := range out.AutoScalingGroups {
			if err := emit(d.resource(&out.AutoScalingGroups[i])); err != nil {
				return err
			}
		}
		if aws.ToString(out.NextToken) == "" {
			return nil
		}
		in.NextToken = out.NextToken
	}
}

func (d *driver) Read(ctx context.Context, id string) (inventory.Resource, error) {
	g, err := d.group(ctx, id)
	if err != nil {
		return inventory.Resource{}, err
	}
	return d.resource(g), nil
}

func (d *driver) group(ctx context.Context, id string) (*types.AutoScalingGroup, error) {
	out, err := d.client.DescribeAutoScalingGroups(ctx, &autoscaling.DescribeAutoScalingGroupsInput{
		AutoScalingGroupNames: []string{id},
	})
	if err != nil {
		return nil, fmt.Errorf("read Auto Scaling group %s: %w", id, awsx.Plain(err))
	}
	for i := range out.AutoScalingGroups {
		if aws.ToString(out.AutoScalingGroups[i].AutoScalingGroupName) == id {
			return &out.AutoScalingGroups[i], nil
		}
	}
	return nil, kind.Errorf(fleet.ErrGone, d.place, actionDescribe, "Auto Scaling group %s does not exist", id)
}

func (d *driver) Write(ctx context.Context, w kind.Write) (kind.Result, error) {
	switch {
	case w.Verb == VerbRefresh && w.Revert:
		return kind.Result{}, d.stopRefresh(ctx, w)
	case w.Verb == VerbRefresh:
		return d.startRefresh(ctx, w)
	default:
		return d.update(ctx, w)
	}
}

// update reads the group once more, because a mixed instances policy can only be sent whole and holds more than the state
// does, and sends back what it read with nothing but the versions changed, or with another source.
func (d *driver) update(ctx context.Context, w kind.Write) (kind.Result, error) {
	fields := changedVersions(w)
	other, exchange := exchanged(w)
	if !(w.Verb == VerbSetLaunchVersion && len(fields) > 0) && !(w.Verb == VerbSetLaunchTemplate && exchange) {
		return kind.Result{}, kind.Errorf(fleet.ErrInvalid, d.place, actionUpdate,
			"Auto Scaling group %s: %s cannot write %s", w.ID, w.Verb, fleet.DescribeDiff(w.Before, w.After))
	}
	g, err := d.unchanged(ctx, w.ID, w.Before, actionUpdate)
	if err != nil {
		return kind.Result{}, err
	}
	in := &autoscaling.UpdateAutoScalingGroupInput{AutoScalingGroupName: aws.String(w.ID)}
	switch {
	case exchange && other.configuration != "":
		in.LaunchConfigurationName = aws.String(other.configuration)
	case exchange:
		in.LaunchTemplate = &types.LaunchTemplateSpecification{
			LaunchTemplateId: aws.String(other.template), Version: aws.String(other.version),
		}
	default:
		if err := d.putVersions(in, g, w, fields); err != nil {
			return kind.Result{}, err
		}
	}
	out, err := d.client.UpdateAutoScalingGroup(ctx, in)
	if err != nil {
		return kind.Result{}, fmt.Errorf("%s of Auto Scaling group %s: %w", w.Verb, w.ID, awsx.Plain(err))
	}
	id, _ := awsmiddleware.GetRequestIDMetadata(out.ResultMetadata)
	return kind.Result{RequestID: id}, nil
}

// unchanged reads the group as long as its state is the one that the write is made for.
func (d *driver) unchanged(ctx context.Context, id string, before fleet.State, action string) (*types.AutoScalingGroup, error) {
	g, err := d.group(ctx, id)
	if err != nil {
		return nil, err
	}
	if found := state(g); !found.Equal(before) {
		return nil, kind.Errorf(fleet.ErrConflict, d.place, action,
			"Auto Scaling group %s changed while it was being written: %s", id, fleet.DescribeDiff(before, found))
	}
	return g, nil
}

// putVersions puts what the group launches from into the request, with other versions.
func (d *driver) putVersions(
	in *autoscaling.UpdateAutoScalingGroupInput, g *types.AutoScalingGroup, w kind.Write, fields []string,
) error {
	for _, field := range fields {
		spec := specification(g, field)
		if spec == nil {
			return kind.Errorf(fleet.ErrInvalid, d.place, actionUpdate, "Auto Scaling group %s has no %s", w.ID, field)
		}
		spec.Version = aws.String(w.After[field])
	}
	if g.MixedInstancesPolicy != nil {
		in.MixedInstancesPolicy = sendable(g.MixedInstancesPolicy)
	} else {
		in.LaunchTemplate = byID(g.LaunchTemplate)
	}
	return nil
}

// specification finds the place in the group that a version field of the state stands for.
func specification(g *types.AutoScalingGroup, field string) *types.LaunchTemplateSpecification {
	if field == prefixPlain+suffixVersion {
		return g.LaunchTemplate
	}
	if g.MixedInstancesPolicy == nil || g.MixedInstancesPolicy.LaunchTemplate == nil {
		return nil
	}
	mixed := g.MixedInstancesPolicy.LaunchTemplate
	if field == prefixMixed+suffixVersion {
		return mixed.LaunchTemplateSpecification
	}
	if n, ok := overrideIndex(field); ok && n < len(mixed.Overrides) {
		return mixed.Overrides[n].LaunchTemplateSpecification
	}
	return nil
}

// sendable is the policy as a request may carry it: a template is named by its id or its name, not both.
func sendable(p *types.MixedInstancesPolicy) *types.MixedInstancesPolicy {
	if p.LaunchTemplate == nil {
		return p
	}
	p.LaunchTemplate.LaunchTemplateSpecification = byID(p.LaunchTemplate.LaunchTemplateSpecification)
	for i := range p.LaunchTemplate.Overrides {
		o := &p.LaunchTemplate.Overrides[i]
		o.LaunchTemplateSpecification = byID(o.LaunchTemplateSpecification)
	}
	return p
}

func byID(t *types.LaunchTemplateSpecification) *types.LaunchTemplateSpecification {
	if t == nil || aws.ToString(t.LaunchTemplateId) == "" {
		return t
	}
	return &types.LaunchTemplateSpecification{LaunchTemplateId: t.LaunchTemplateId, Version: t.Version}
}
