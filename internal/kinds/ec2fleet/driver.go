package ec2fleet

import (
	"context"
	"fmt"
	"maps"
	"slices"

	"github.com/aws/aws-sdk-go-v2/aws"
	awsmiddleware "github.com/aws/aws-sdk-go-v2/aws/middleware"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"

	"github.com/imdsctl/imdsctl/internal/awsx"
	"github.com/imdsctl/imdsctl/internal/clock"
	"github.com/imdsctl/imdsctl/internal/fleet"
	"github.com/imdsctl/imdsctl/internal/inventory"
	"github.com/imdsctl/imdsctl/internal/kind"
)

// Sizes from the EC2 API reference: a page of DescribeFleets and of DescribeLaunchTemplates; the values of a filter.
const (
	mostResults   = 1000
	mostTemplates = 200
)

// Open makes the driver for one place. cfg decides endpoint, credentials, limits and retries.
func Open(cfg aws.Config, place fleet.Place, _ clock.Clock) kind.Driver {
	return &driver{client: ec2.NewFromConfig(cfg), place: place}
}

type driver struct {
	client *ec2.Client
	place  fleet.Place
}

var (
	_ kind.UndoChecker = (*driver)(nil)
	_ kind.DryRunner   = (*driver)(nil)
)

func (d *driver) List(ctx context.Context, emit func(inventory.Resource) error) error {
	in := &ec2.DescribeFleetsInput{MaxResults: aws.Int32(kind.PageSize(ctx, mostResults))}
	for {
		out, err := d.client.DescribeFleets(ctx, in)
		if err != nil {
			return fmt.Errorf("list EC2 Fleets: %w", awsx.Plain(err))
		}
		found := slices.DeleteFunc(out.Fleets, func(f types.FleetData) bool { return !launches(&f) })
		names, err := d.templates(ctx, found)
		if err != nil {
			return fmt.Errorf("list EC2 Fleets: %w", err)
		}
		for i := range found {
			if err := emit(d.resource(&found[i], names)); err != nil {
				return err
			}
		}
		if aws.ToString(out.NextToken) == "" {
			return nil
		}
		in.NextToken = out.NextToken
	}
}

// templates finds the ids of the launch templates that fleets name by name. One that is not there is left out.
func (d *driver) templates(ctx context.Context, from []types.FleetData) (map[string]string, error) {
	wanted := map[string]bool{}
	for i := range from {
		for _, c := range from[i].LaunchTemplateConfigs {
			if t := c.LaunchTemplateSpecification; t != nil && aws.ToString(t.LaunchTemplateId) == "" {
				wanted[aws.ToString(t.LaunchTemplateName)] = true
			}
		}
	}
	delete(wanted, "")
	ids := make(map[string]string, len(wanted))
	for names := range slices.Chunk(slices.Sorted(maps.Keys(wanted)), mostTemplates) {
		in := &ec2.DescribeLaunchTemplatesInput{
			Filters:                 []types.Filter{{Name: aws.String("launch-template-name"), Values: names}},
			IncludeManagedResources: aws.Bool(true), MaxResults: aws.Int32(mostTemplates),
		}
		for more := true; more; more = aws.ToString(in.NextToken) != "" {
			out, err := d.client.DescribeLaunchTemplates(ctx, in)
			if err != nil {
				return nil, fmt.Errorf("find the launch templates %q: %w", names, awsx.Plain(err))
			}
			for _, t := range out.LaunchTemplates {
				ids[aws.ToString(t.LaunchTemplateName)] = aws.ToString(t.LaunchTemplateId)
			}
			in.NextToken = out.NextToken
		}
	}
	return ids, nil
}

func (d *driver) Read(ctx context.Context, id string) (inventory.Resource, error) {
	f, names, err := d.fleet(ctx, id)
	if err != nil {
		return inventory.Resource{}, err
	}
	return d.resource(f, names), nil
}

// fleet reads one fleet, with the ids of the templates that it names by name.
func (d *driver) fleet(ctx context.Context, id string) (*types.FleetData, map[string]string, error) {
	out, err := d.client.DescribeFleets(ctx, &ec2.DescribeFleetsInput{FleetIds: []string{id}})
	if err != nil {
		return nil, nil, fmt.Errorf("read EC2 Fleet %s: %w", id, awsx.Plain(err))
	}
	for i := range out.Fleets {
		f := &out.Fleets[i]
		if aws.ToString(f.FleetId) != id || !launches(f) {
			continue
		}
		names, err := d.templates(ctx, out.Fleets[i:i+1])
		if err != nil {
			return nil, nil, fmt.Errorf("read EC2 Fleet %s: %w", id, err)
		}
		return f, names, nil
	}
	return nil, nil, kind.Errorf(fleet.ErrGone, d.place, actionDescribe,
		"EC2 Fleet %s does not exist, or launches nothing any more", id)
}

func (d *driver) Write(ctx context.Context, w kind.Write) (kind.Result, error) {
	if len(changedVersions(w)) == 0 {
		return kind.Result{}, kind.Errorf(fleet.ErrInvalid, d.place, actionModify,
			"EC2 Fleet %s: %s cannot write %s", w.ID, w.Verb, fleet.DescribeDiff(w.Before, w.After))
	}
	in, err := d.input(ctx, w, w.After)
	if err != nil {
		return kind.Result{}, err
	}
	out, err := d.client.ModifyFleet(ctx, in)
	if err != nil {
		return kind.Result{}, fmt.Errorf("set the launch template version of EC2 Fleet %s: %w", w.ID, awsx.Plain(err))
	}
	id, _ := awsmiddleware.GetRequestIDMetadata(out.ResultMetadata)
	return kind.Result{RequestID: id}, nil
}

// input reads the fleet once more, since it holds more than the state does, and asks for it with the versions of to.
func (d *driver) input(ctx context.Context, w kind.Write, to fleet.State) (*ec2.ModifyFleetInput, error) {
	if w.Verb != VerbSetLaunchVersion {
		return nil, kind.Errorf(fleet.ErrInvalid, d.place, actionModify, "EC2 Fleets have no verb %q", w.Verb)
	}
	f, names, err := d.fleet(ctx, w.ID)
	if err != nil {
		return nil, err
	}
	if found := state(f, names); !found.Equal(w.Before) {
		return nil, kind.Errorf(fleet.ErrConflict, d.place, actionModify,
			"EC2 Fleet %s changed while it was being written: %s", w.ID, fleet.DescribeDiff(w.Before, found))
	}
	if why := fixed(f); why != "" {
		return nil, kind.Errorf(fleet.ErrConflict, d.place, actionModify, "EC2 Fleet %s: %s", w.ID, why)
	}
	return request(f, to), nil
}

// CheckUndo asks EC2 by a dry run whether the caller may set the versions that the fleet has now.
func (d *driver) CheckUndo(ctx context.Context, w kind.Write) error {
	return d.ask(ctx, w, w.Before, "set back")
}

// DryRun asks EC2 whether the caller may set the versions of w.
func (d *driver) DryRun(ctx context.Context, w kind.Write) error {
	return d.ask(ctx, w, w.After, "set")
}

func (d *driver) ask(ctx context.Context, w kind.Write, to fleet.State, what string) error {
	in, err := d.input(ctx, w, to)
	if err != nil {
		return err
	}
	in.DryRun = aws.Bool(true)
	if _, err := d.client.ModifyFleet(ctx, in); err != nil && !awsx.DryRunOK(err) {
		return kind.DryRunError(awsx.Plain(err), "%s the launch template version of EC2 Fleet %s", what, w.ID)
	}
	return nil
}

// Find has nothing to look for: no verb creates.
func (d *driver) Find(context.Context, kind.Write) (kind.Result, error) {
	return kind.Result{}, kind.ErrNotFound
}
