package spotfleet

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

// Sizes from the EC2 API reference: a page of DescribeSpotFleetRequests and of DescribeLaunchTemplates; the values of a
// filter.
const (
	mostResults   = 1000
	mostTemplates = 200
)

// Open makes the driver for one place. cfg decides endpoint, credentials, limits and retries.
func Open(cfg aws.Config, place fleet.Place, _ clock.Clock) kind.Driver {
	return &driver{client: ec2.NewFromConfig(cfg), place: place}
}

// driver has no UndoChecker and no DryRunner: ModifySpotFleetRequest knows no dry run.
type driver struct {
	client *ec2.Client
	place  fleet.Place
}

func (d *driver) List(ctx context.Context, emit func(inventory.Resource) error) error {
	in := &ec2.DescribeSpotFleetRequestsInput{MaxResults: aws.Int32(kind.PageSize(ctx, mostResults))}
	for {
		out, err := d.client.DescribeSpotFleetRequests(ctx, in)
		if err != nil {
			return fmt.Errorf("list Spot Fleet requests: %w", awsx.Plain(err))
		}
		found := slices.DeleteFunc(out.SpotFleetRequestConfigs,
			func(f types.SpotFleetRequestConfig) bool { return !launches(&f) })
		names, err := d.templates(ctx, found)
		if err != nil {
			return fmt.Errorf("list Spot Fleet requests: %w", err)
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

// templates finds the ids of the launch templates that requests name by name. One that is not there is left out.
func (d *driver) templates(ctx context.Context, from []types.SpotFleetRequestConfig) (map[string]string, error) {
	wanted := map[string]bool{}
	for i := range from {
		for _, c := range configOf(&from[i]).LaunchTemplateConfigs {
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
	f, names, err := d.request(ctx, id)
	if err != nil {
		return inventory.Resource{}, err
	}
	return d.resource(f, names), nil
}

// request reads one request, with the ids of the templates that it names by name.
func (d *driver) request(ctx context.Context, id string) (*types.SpotFleetRequestConfig, map[string]string, error) {
	out, err := d.client.DescribeSpotFleetRequests(ctx,
		&ec2.DescribeSpotFleetRequestsInput{SpotFleetRequestIds: []string{id}})
	if err != nil {
		return nil, nil, fmt.Errorf("read Spot Fleet request %s: %w", id, awsx.Plain(err))
	}
	for i := range out.SpotFleetRequestConfigs {
		f := &out.SpotFleetRequestConfigs[i]
		if aws.ToString(f.SpotFleetRequestId) != id || !launches(f) {
			continue
		}
		names, err := d.templates(ctx, out.SpotFleetRequestConfigs[i:i+1])
		if err != nil {
			return nil, nil, fmt.Errorf("read Spot Fleet request %s: %w", id, err)
		}
		return f, names, nil
	}
	return nil, nil, kind.Errorf(fleet.ErrGone, d.place, actionDescribe,
		"Spot Fleet request %s does not exist, or launches nothing any more", id)
}

// Write reads the request once more, since it holds more than the state does, and sends its configurations back with
// nothing but the versions changed. The capacity, which scaling policies move, is not sent and stays.
func (d *driver) Write(ctx context.Context, w kind.Write) (kind.Result, error) {
	if w.Verb != VerbSetLaunchVersion || len(changedVersions(w)) == 0 {
		return kind.Result{}, kind.Errorf(fleet.ErrInvalid, d.place, actionModify,
			"Spot Fleet request %s: %s cannot write %s", w.ID, w.Verb, fleet.DescribeDiff(w.Before, w.After))
	}
	f, names, err := d.request(ctx, w.ID)
	if err != nil {
		return kind.Result{}, err
	}
	config := configOf(f)
	if found := state(config, names); !found.Equal(w.Before) {
		return kind.Result{}, kind.Errorf(fleet.ErrConflict, d.place, actionModify,
			"Spot Fleet request %s changed while it was being written: %s", w.ID, fleet.DescribeDiff(w.Before, found))
	}
	if typeOf(config) != typeMaintain {
		return kind.Result{}, kind.Errorf(fleet.ErrConflict, d.place, actionModify,
			"Spot Fleet request %s is of type %s, and cannot be modified", w.ID, typeOf(config))
	}
	out, err := d.client.ModifySpotFleetRequest(ctx, &ec2.ModifySpotFleetRequestInput{
		SpotFleetRequestId: aws.String(w.ID), LaunchTemplateConfigs: sendable(config.LaunchTemplateConfigs, w.After),
	})
	if err != nil {
		return kind.Result{}, fmt.Errorf("set the launch template version of Spot Fleet request %s: %w", w.ID,
			awsx.Plain(err))
	}
	id, _ := awsmiddleware.GetRequestIDMetadata(out.ResultMetadata)
	return kind.Result{RequestID: id}, nil
}

// sendable are the configurations as a modification may carry them, with the versions of a state: a template is named by
// its id or its name, not both.
func sendable(configs []types.LaunchTemplateConfig, to fleet.State) []types.LaunchTemplateConfig {
	out := slices.Clone(configs)
	for n := range out {
		t := out[n].LaunchTemplateSpecification
		if t == nil {
			continue
		}
		spec := *t
		spec.Version = aws.String(to[versionField(n)])
		if aws.ToString(spec.LaunchTemplateId) != "" {
			spec.LaunchTemplateName = nil
		}
		out[n].LaunchTemplateSpecification = &spec
	}
	return out
}

// Find has nothing to look for: no verb creates.
func (d *driver) Find(context.Context, kind.Write) (kind.Result, error) {
	return kind.Result{}, kind.ErrNotFound
}
