package ssmagent

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ssm"
	"github.com/aws/aws-sdk-go-v2/service/ssm/types"

	"github.com/imdsctl/imdsctl/internal/awsx"
	"github.com/imdsctl/imdsctl/internal/clock"
	"github.com/imdsctl/imdsctl/internal/fleet"
	"github.com/imdsctl/imdsctl/internal/inventory"
	"github.com/imdsctl/imdsctl/internal/kind"
)

// The bounds of a page from the Systems Manager API reference, DescribeInstanceInformation.
const (
	leastResults = 5
	mostResults  = 50
)

// Open makes the driver for one place. cfg decides endpoint, credentials, limits and retries.
func Open(cfg aws.Config, place fleet.Place, _ clock.Clock) kind.Driver {
	return &driver{client: ssm.NewFromConfig(cfg), place: place}
}

type driver struct {
	client *ssm.Client
	place  fleet.Place
}

// List reads all agents that report themselves.
func (d *driver) List(ctx context.Context, emit func(inventory.Resource) error) error {
	in := &ssm.DescribeInstanceInformationInput{MaxResults: aws.Int32(max(leastResults, kind.PageSize(ctx, mostResults)))}
	for {
		page, err := d.client.DescribeInstanceInformation(ctx, in)
		if err != nil {
			return fmt.Errorf("list SSM agents: %w", awsx.Plain(err))
		}
		for i := range page.InstanceInformationList {
			if err := emit(d.resource(&page.InstanceInformationList[i])); err != nil {
				return err
			}
		}
		if aws.ToString(page.NextToken) == "" {
			return nil
		}
		in.NextToken = page.NextToken
	}
}

// Read gives one agent. Systems Manager answers for an instance that it does not know with nothing, or with an error of its own.
func (d *driver) Read(ctx context.Context, id string) (inventory.Resource, error) {
	out, err := d.client.DescribeInstanceInformation(ctx, &ssm.DescribeInstanceInformationInput{
		Filters: []types.InstanceInformationStringFilter{{Key: aws.String("InstanceIds"), Values: []string{id}}},
	})
	if unknown, ok := errors.AsType[*types.InvalidInstanceId](err); ok {
		return inventory.Resource{}, kind.Errorf(fleet.ErrGone, d.place, actionDescribe, "no SSM agent on %s: %s", id, unknown.ErrorMessage())
	}
	if err != nil {
		return inventory.Resource{}, fmt.Errorf("read the SSM agent of %s: %w", id, awsx.Plain(err))
	}
	for i := range out.InstanceInformationList {
		if aws.ToString(out.InstanceInformationList[i].InstanceId) == id {
			return d.resource(&out.InstanceInformationList[i]), nil
		}
	}
	return inventory.Resource{}, kind.Errorf(fleet.ErrGone, d.place, actionDescribe, "no SSM agent reports from %s", id)
}

// resource turns Systems Manager's words into ours. When the agent was last heard of is left out: it changes all the time.
func (d *driver) resource(in *types.InstanceInformation) inventory.Resource {
	id := aws.ToString(in.InstanceId)
	r := inventory.Resource{
		Ref:   fleet.Ref{Place: d.place, Kind: inventory.KindSSMAgent, ID: id},
		Name:  cmp.Or(aws.ToString(in.Name), id), // only machines outside of EC2 have a name here
		State: fleet.State{},
		Attrs: map[string]string{},
	}
	for field, value := range map[string]string{
		FieldVersion: aws.ToString(in.AgentVersion), FieldPing: string(in.PingStatus), FieldPlatformType: string(in.PlatformType),
		FieldPlatform: aws.ToString(in.PlatformName), FieldPlatformVersion: aws.ToString(in.PlatformVersion),
	} {
		if value != "" {
			r.State[field] = value
		}
	}
	if v := r.State[FieldVersion]; v != "" {
		r.Attrs[inventory.AttrAgentVersion] = v
	}
	if p := strings.TrimSpace(r.State[FieldPlatform] + " " + r.State[FieldPlatformVersion]); p != "" {
		r.Attrs[inventory.AttrPlatform] = p
	}
	if strings.HasPrefix(id, "i-") {
		r.Links = []inventory.Link{{Relation: inventory.RunsOn, To: r.Ref.Sibling(inventory.KindInstance, id)}}
	}
	return r
}

// Write refuses: nothing of an agent is written.
func (d *driver) Write(_ context.Context, w kind.Write) (kind.Result, error) {
	return kind.Result{}, kind.Errorf(fleet.ErrInvalid, d.place, w.Verb, "SSM agents have no verb %q", w.Verb)
}

// Find has nothing to look for: no verb creates.
func (d *driver) Find(context.Context, kind.Write) (kind.Result, error) {
	return kind.Result{}, kind.ErrNotFound
}
