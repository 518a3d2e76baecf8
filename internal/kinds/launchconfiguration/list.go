package launchconfiguration

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/autoscaling"
	astypes "github.com/aws/aws-sdk-go-v2/service/autoscaling/types"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"

	"github.com/imdsctl/imdsctl/internal/awsx"
	"github.com/imdsctl/imdsctl/internal/fleet"
	"github.com/imdsctl/imdsctl/internal/inventory"
	"github.com/imdsctl/imdsctl/internal/kind"
)

// Largest pages of DescribeLaunchConfigurations and DescribeAutoScalingGroups, and of DescribeLaunchTemplates.
const (
	mostRecords = 100
	mostResults = 200
)

// List reads the launch configurations, and with the first page of them the templates that replace some: most places have
// neither.
func (d *driver) List(ctx context.Context, emit func(inventory.Resource) error) error {
	var replaced map[string][]string
	in := &autoscaling.DescribeLaunchConfigurationsInput{MaxRecords: aws.Int32(kind.PageSize(ctx, mostRecords))}
	for {
		out, err := d.autoscaling.DescribeLaunchConfigurations(ctx, in)
		if err != nil {
			return fmt.Errorf("list launch configurations: %w", awsx.Plain(err))
		}
		if replaced == nil && len(out.LaunchConfigurations) > 0 {
			replaced, err = d.replacements(ctx, types.Filter{Name: aws.String("tag-key"), Values: []string{tagReplaces}})
			if err != nil {
				return fmt.Errorf("list the launch templates that replace launch configurations: %w", err)
			}
		}
		for i := range out.LaunchConfigurations {
			c := &out.LaunchConfigurations[i]
			if err := emit(d.resource(c, replaced[aws.ToString(c.LaunchConfigurationName)])); err != nil {
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
	c, err := d.configuration(ctx, id)
	if err != nil {
		return inventory.Resource{}, err
	}
	replaced, err := d.replacements(ctx, ofConfiguration(id))
	if err != nil {
		return inventory.Resource{}, fmt.Errorf("read the launch template that replaces launch configuration %s: %w", id, err)
	}
	return d.resource(c, replaced[id]), nil
}

func (d *driver) configuration(ctx context.Context, id string) (*astypes.LaunchConfiguration, error) {
	out, err := d.autoscaling.DescribeLaunchConfigurations(ctx, &autoscaling.DescribeLaunchConfigurationsInput{
		LaunchConfigurationNames: []string{id},
	})
	if err != nil {
		return nil, fmt.Errorf("read launch configuration %s: %w", id, awsx.Plain(err))
	}
	for i := range out.LaunchConfigurations {
		if aws.ToString(out.LaunchConfigurations[i].LaunchConfigurationName) == id {
			return &out.LaunchConfigurations[i], nil
		}
	}
	return nil, kind.Errorf(fleet.ErrGone, d.place, actionConfigurations, "launch configuration %s does not exist", id)
}

// ofConfiguration chooses the templates that replace one launch configuration. In a filter's value a star and a question mark
// stand for other text (EC2 user guide, "Filter your resources").
func ofConfiguration(name string) types.Filter {
	value := strings.NewReplacer(`\`, `\\`, `*`, `\*`, `?`, `\?`).Replace(name)
	return types.Filter{Name: aws.String("tag:" + tagReplaces), Values: []string{value}}
}

// replacements gives the ids of the templates that the filter chooses, by the launch configuration they replace.
func (d *driver) replacements(ctx context.Context, f types.Filter) (map[string][]string, error) {
	out := map[string][]string{}
	err := d.eachTemplate(ctx, f, func(t *types.LaunchTemplate) {
		if name := tagOf(t, tagReplaces); name != "" {
			out[name] = append(out[name], aws.ToString(t.LaunchTemplateId))
		}
	})
	return out, err
}

func (d *driver) eachTemplate(ctx context.Context, f types.Filter, visit func(*types.LaunchTemplate)) error {
	in := &ec2.DescribeLaunchTemplatesInput{Filters: []types.Filter{f}, MaxResults: aws.Int32(kind.PageSize(ctx, mostResults))}
	for {
		out, err := d.ec2.DescribeLaunchTemplates(ctx, in)
		if err != nil {
			return awsx.Plain(err)
		}
		for i := range out.LaunchTemplates {
			visit(&out.LaunchTemplates[i])
		}
		if aws.ToString(out.NextToken) == "" {
			return nil
		}
		in.NextToken = out.NextToken
	}
}

func tagOf(t *types.LaunchTemplate, key string) string {
	for _, tag := range t.Tags {
		if aws.ToString(tag.Key) == key {
			return aws.ToString(tag.Value)
		}
	}
	return ""
}

// resource turns AWS's words into ours. Launch configurations have no tags, so nothing tells their owner.
func (d *driver) resource(c *astypes.LaunchConfiguration, replaced []string) inventory.Resource {
	name, options := aws.ToString(c.LaunchConfigurationName), optionsOf(c)
	r := inventory.Resource{
		Ref:    fleet.Ref{Place: d.place, Kind: inventory.KindLaunchConfiguration, ID: name},
		Name:   name,
		State:  options.State(),
		Launch: map[string]fleet.Options{"": options},
		Attrs:  map[string]string{},
	}
	if len(replaced) > 0 {
		slices.Sort(replaced)
		r.State[FieldTemplate] = strings.Join(replaced, ",")
	}
	for attr, value := range map[string]string{
		inventory.AttrImage: aws.ToString(c.ImageId), inventory.AttrInstanceType: aws.ToString(c.InstanceType),
		attrHindrance: hindrance(c),
	} {
		if value != "" {
			r.Attrs[attr] = value
		}
	}
	return r
}
