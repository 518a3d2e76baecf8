package beanstalkenvironment

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"regexp"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/elasticbeanstalk"
	"github.com/aws/aws-sdk-go-v2/service/elasticbeanstalk/types"

	"github.com/imdsctl/imdsctl/internal/awsx"
	"github.com/imdsctl/imdsctl/internal/fleet"
	"github.com/imdsctl/imdsctl/internal/inventory"
	"github.com/imdsctl/imdsctl/internal/kind"
)

// ended tells whether an environment is, or will in a moment be, no more.
func ended(e *types.EnvironmentDescription) bool {
	return e.Status == types.EnvironmentStatusTerminated || e.Status == types.EnvironmentStatusTerminating
}

// resource reads what the description of an environment leaves out, and puts everything into our words.
func (d *driver) resource(ctx context.Context, e *types.EnvironmentDescription) (inventory.Resource, error) {
	id, name := aws.ToString(e.EnvironmentId), aws.ToString(e.EnvironmentName)
	failed := func(what string, err error) (inventory.Resource, error) {
		return inventory.Resource{}, fmt.Errorf("read the %s of Elastic Beanstalk environment %s: %w", what, id, d.classed(err))
	}
	sets, err := d.settings(ctx, e)
	if err != nil {
		return inventory.Resource{}, err
	}
	resources, err := d.client.DescribeEnvironmentResources(ctx, &elasticbeanstalk.DescribeEnvironmentResourcesInput{
		EnvironmentId: e.EnvironmentId,
	})
	if err != nil {
		return failed("resources", err)
	}
	tags, err := d.tags(ctx, e)
	if err != nil {
		return failed("tags", err)
	}
	platform := cmp.Or(aws.ToString(e.SolutionStackName), aws.ToString(e.PlatformArn))
	r := inventory.Resource{
		Ref: fleet.Ref{Place: d.place, Kind: inventory.KindBeanstalk, ID: id}, Name: name,
		State: state(sets), Tags: tags, Owner: owner(tags),
		Settling: e.Status != types.EnvironmentStatusReady,
		Attrs:    map[string]string{inventory.AttrPlatform: platform, AttrApplication: aws.ToString(e.ApplicationName)},
	}
	if arn := aws.ToString(e.PlatformArn); arn != "" {
		r.Attrs[AttrPlatformARN] = arn
	}
	if dockerStack.MatchString(platform) {
		r.Attrs[inventory.AttrContainers] = "docker"
	}
	r.Says = new(says(r.State, platform))
	if resources.EnvironmentResources != nil {
		for _, g := range resources.EnvironmentResources.AutoScalingGroups {
			to := r.Ref.Sibling(inventory.KindAutoScaling, aws.ToString(g.Name))
			r.Links = append(r.Links, inventory.Link{Relation: inventory.Operates, To: to})
		}
	}
	return r, nil
}

// settings are the sets of settings of an environment: the deployed ones, and beside them what is being deployed or failed
// to be.
func (d *driver) settings(
	ctx context.Context, e *types.EnvironmentDescription,
) ([]types.ConfigurationSettingsDescription, error) {
	out, err := d.client.DescribeConfigurationSettings(ctx, &elasticbeanstalk.DescribeConfigurationSettingsInput{
		ApplicationName: e.ApplicationName, EnvironmentName: e.EnvironmentName,
	})
	if err != nil {
		return nil, fmt.Errorf("read the settings of Elastic Beanstalk environment %s: %w", aws.ToString(e.EnvironmentId),
			d.classed(err))
	}
	return out.ConfigurationSettings, nil
}

// tags are those of the environment itself, nil for none.
func (d *driver) tags(ctx context.Context, e *types.EnvironmentDescription) (map[string]string, error) {
	out, err := d.client.ListTagsForResource(ctx, &elasticbeanstalk.ListTagsForResourceInput{ResourceArn: e.EnvironmentArn})
	if err != nil {
		return nil, awsx.Plain(err)
	}
	var tags map[string]string
	for _, t := range out.ResourceTags {
		if tags == nil {
			tags = map[string]string{}
		}
		tags[aws.ToString(t.Key)] = aws.ToString(t.Value)
	}
	return tags, nil
}

// owner tells who made the environment. Beanstalk's own tags name the environment itself.
func owner(tags map[string]string) fleet.Owner {
	others := maps.Clone(tags)
	maps.DeleteFunc(others, func(key, _ string) bool { return strings.HasPrefix(key, "elasticbeanstalk:") })
	return kind.OwnerByTags(others)
}

// state reads the option from the deployed settings. Beside them there may be a draft that is being deployed, or that
// failed to be (DescribeConfigurationSettings); while an environment is launching there is only that.
func state(sets []types.ConfigurationSettingsDescription) fleet.State {
	for _, set := range sets {
		if len(sets) == 1 || set.DeploymentStatus == types.ConfigurationDeploymentStatusDeployed {
			return option(set.OptionSettings)
		}
	}
	return fleet.State{}
}

// drafted reads the option from the settings that are being deployed, if there are any.
func drafted(sets []types.ConfigurationSettingsDescription) (s fleet.State, pending bool) {
	for _, set := range sets {
		if set.DeploymentStatus == types.ConfigurationDeploymentStatusPending {
			return option(set.OptionSettings), true
		}
	}
	return nil, false
}

func option(settings []types.ConfigurationOptionSetting) fleet.State {
	s := fleet.State{}
	for _, o := range settings {
		named := aws.ToString(o.Namespace) == namespace && aws.ToString(o.OptionName) == FieldDisableV1
		if value := aws.ToString(o.Value); named && value != "" {
			s[FieldDisableV1] = value
		}
	}
	return s
}

var (
	// dockerStack tells the platforms that run an application in containers: "64bit Amazon Linux 2023 v4.3.0 running Docker",
	// "64bit Amazon Linux 2 v3.4.9 running ECS", "… Multi-container Docker 2.11.0 (Generic)".
	dockerStack = regexp.MustCompile(`(?i)\b(docker|ecs)\b`)
	// tokensByDefault tells the platforms on which the option is true unless it is set (developer guide, "General options for
	// all environments": Amazon Linux 2023 enables only IMDSv2; Windows Server, Amazon Linux 2 and earlier both).
	tokensByDefault = regexp.MustCompile(`(?i)\bAmazon Linux 2023\b`)
)

// says is what an environment's launches are told.
func says(s fleet.State, platform string) fleet.Options {
	value, set := s[FieldDisableV1]
	if strings.EqualFold(value, "true") || !set && tokensByDefault.MatchString(platform) {
		return fleet.Options{Tokens: fleet.TokensRequired}
	}
	return fleet.Options{Tokens: fleet.TokensOptional}
}
