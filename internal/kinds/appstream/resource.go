package appstream

import (
	"context"
	"fmt"
	"strconv"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/appstream"
	"github.com/aws/aws-sdk-go-v2/service/appstream/types"

	"github.com/imdsctl/imdsctl/internal/awsx"
	"github.com/imdsctl/imdsctl/internal/fleet"
	"github.com/imdsctl/imdsctl/internal/inventory"
	"github.com/imdsctl/imdsctl/internal/kind"
)

// machine is a fleet or a builder, as far as they are alike.
type machine struct {
	name, state, platform, instanceType string
	arn, imageARN                       *string
	created                             *time.Time
	disableV1                           *bool
	// fleetType is only a fleet's, agent only an image builder's.
	fleetType, agent string
}

func (d *driver) fleets(ctx context.Context, names []string, token *string) (page, error) {
	out, err := d.client.DescribeFleets(ctx, &appstream.DescribeFleetsInput{Names: names, NextToken: token})
	if err != nil {
		return page{}, err
	}
	p := page{next: out.NextToken}
	for _, f := range out.Fleets {
		p.machines = append(p.machines, machine{
			name: aws.ToString(f.Name), arn: f.Arn, state: string(f.State), platform: string(f.Platform),
			instanceType: aws.ToString(f.InstanceType), imageARN: f.ImageArn, created: f.CreatedTime,
			disableV1: f.DisableIMDSV1, fleetType: string(f.FleetType),
		})
	}
	return p, nil
}

func (d *driver) imageBuilders(ctx context.Context, names []string, token *string) (page, error) {
	out, err := d.client.DescribeImageBuilders(ctx, &appstream.DescribeImageBuildersInput{
		Names: names, NextToken: token, MaxResults: aws.Int32(kind.PageSize(ctx, mostResults)),
	})
	if err != nil {
		return page{}, err
	}
	p := page{next: out.NextToken}
	for _, b := range out.ImageBuilders {
		if b.State == types.ImageBuilderStateDeleting {
			continue
		}
		p.machines = append(p.machines, machine{
			name: aws.ToString(b.Name), arn: b.Arn, state: string(b.State), platform: string(b.Platform),
			instanceType: aws.ToString(b.InstanceType), imageARN: b.ImageArn, created: b.CreatedTime,
			disableV1: b.DisableIMDSV1, agent: aws.ToString(b.AppstreamAgentVersion),
		})
	}
	return p, nil
}

func (d *driver) appBuilders(ctx context.Context, names []string, token *string) (page, error) {
	out, err := d.client.DescribeAppBlockBuilders(ctx, &appstream.DescribeAppBlockBuildersInput{
		Names: names, NextToken: token, MaxResults: aws.Int32(kind.PageSize(ctx, mostResults)),
	})
	if err != nil {
		return page{}, err
	}
	p := page{next: out.NextToken}
	for _, b := range out.AppBlockBuilders {
		p.machines = append(p.machines, machine{
			name: aws.ToString(b.Name), arn: b.Arn, state: string(b.State), platform: string(b.Platform),
			instanceType: aws.ToString(b.InstanceType), created: b.CreatedTime, disableV1: b.DisableIMDSV1,
		})
	}
	return p, nil
}

// resource puts a machine into our words, with its tags and what is known of its image. images holds the agents of the
// images that were read before.
func (d *driver) resource(ctx context.Context, prefix string, m machine, images map[string]string) (inventory.Resource, error) {
	r := inventory.Resource{
		Ref: fleet.Ref{Place: d.place, Kind: inventory.KindAppStream, ID: prefix + m.name}, Name: m.name,
		State: fleet.State{FieldDisableV1: strconv.FormatBool(aws.ToBool(m.disableV1))},
		Says:  &fleet.Options{Tokens: fleet.TokensOptional}, Attrs: map[string]string{},
	}
	if aws.ToBool(m.disableV1) {
		r.Says.Tokens = fleet.TokensRequired
	}
	r.State[FieldState], r.Status, r.Settling = settled(m.state)
	for name, value := range map[string]string{
		inventory.AttrPlatform: m.platform, inventory.AttrInstanceType: m.instanceType, AttrFleetType: m.fleetType,
		AttrImage: aws.ToString(m.imageARN),
	} {
		if value != "" {
			r.Attrs[name] = value
		}
	}
	date, err := d.agent(ctx, m, images)
	if err != nil {
		return inventory.Resource{}, fmt.Errorf("read the image of AppStream %s: %w", r.Ref.ID, err)
	}
	if date != "" {
		r.Attrs[AttrAgent] = date
	}
	tags, err := d.client.ListTagsForResource(ctx, &appstream.ListTagsForResourceInput{ResourceArn: m.arn})
	if err != nil {
		return inventory.Resource{}, fmt.Errorf("read the tags of AppStream %s: %w", r.Ref.ID, awsx.Plain(err))
	}
	if len(tags.Tags) > 0 {
		r.Tags = tags.Tags
	}
	r.Owner = kind.OwnerByTags(r.Tags)
	return r, nil
}

// settled gives the state that a machine is in or going to, the word for whether it runs, and whether it is on its way.
func settled(state string) (settled string, status inventory.Status, settling bool) {
	switch state {
	case stateRunning:
		return state, inventory.StatusRunning, false
	case stateStopped:
		return state, inventory.StatusStopped, false
	case "STOPPING":
		return stateStopped, inventory.StatusPending, true
	case string(types.ImageBuilderStateFailed):
		return state, inventory.StatusStopped, false
	default: // starting, and all that an image builder does before it runs again
		return stateRunning, inventory.StatusPending, true
	}
}

// agentLatest says that an image follows the newest agent.
const agentLatest = "latest"

// agent is AttrAgent of a machine. An image that AppStream does not show any more is not known.
func (d *driver) agent(ctx context.Context, m machine, images map[string]string) (string, error) {
	if m.agent != "" {
		return agentDate(m.agent), nil
	}
	arn := aws.ToString(m.imageARN)
	if arn == "" {
		return "", nil
	}
	if date, ok := images[arn]; ok {
		return date, nil
	}
	out, err := d.client.DescribeImages(ctx, &appstream.DescribeImagesInput{Arns: []string{arn}})
	if err = awsx.Plain(err); err != nil && fleet.ClassOf(err) != fleet.ErrGone {
		return "", err
	}
	images[arn] = ""
	if err != nil {
		return "", nil
	}
	for i := range out.Images {
		if aws.ToString(out.Images[i].Arn) == arn {
			images[arn] = imageAgent(&out.Images[i])
		}
	}
	return images[arn], nil
}

func imageAgent(image *types.Image) string {
	if image.LatestAppstreamAgentVersion == types.LatestAppstreamAgentVersionTrue {
		return agentLatest
	}
	if date := agentDate(aws.ToString(image.AppstreamAgentVersion)); date != "" {
		return date
	}
	if released := image.PublicBaseImageReleasedDate; released != nil {
		return released.UTC().Format(time.DateOnly)
	}
	return ""
}

// agentDate reads the version of an agent, which is its date: "06-17-2024" (agent release notes). "LATEST" is what an
// image builder follows. It gives nothing where the version is something else.
func agentDate(version string) string {
	if version == "LATEST" {
		return agentLatest
	}
	for _, layout := range []string{"01-02-2006", time.DateOnly} {
		if t, err := time.Parse(layout, version); err == nil {
			return t.Format(time.DateOnly)
		}
	}
	return ""
}
