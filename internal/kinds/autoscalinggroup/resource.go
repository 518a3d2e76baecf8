package autoscalinggroup

import (
	"cmp"
	"fmt"
	"strconv"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/autoscaling/types"

	"github.com/imdsctl/imdsctl/internal/fleet"
	"github.com/imdsctl/imdsctl/internal/inventory"
	"github.com/imdsctl/imdsctl/internal/kind"
)

// resource turns Auto Scaling's words into ours.
func (d *driver) resource(g *types.AutoScalingGroup) inventory.Resource {
	name := aws.ToString(g.AutoScalingGroupName)
	r := inventory.Resource{
		Ref:   fleet.Ref{Place: d.place, Kind: inventory.KindAutoScaling, ID: name},
		Name:  name,
		State: state(g),
		Tags:  tagMap(g.Tags),
		// Status is only there while the group is being deleted.
		Settling: aws.ToString(g.Status) != "",
		Attrs:    map[string]string{inventory.AttrDesired: strconv.Itoa(int(aws.ToInt32(g.DesiredCapacity)))},
	}
	r.Owner = owner(g, r.Tags)
	if name := r.State[FieldLaunchConfiguration]; name != "" {
		r.Links = append(r.Links, inventory.Link{
			Relation: inventory.LaunchesFrom, To: r.Ref.Sibling(inventory.KindLaunchConfiguration, name),
		})
	}
	for _, field := range sortedFields(r.State) {
		prefix, ok := strings.CutSuffix(field, suffixVersion)
		id := r.State[prefix+suffixID]
		if !ok || id == "" {
			continue
		}
		r.Links = append(r.Links, inventory.Link{
			Relation: inventory.LaunchesFrom, To: r.Ref.Sibling(inventory.KindLaunchTemplate, id),
			Selector: r.State[field], Field: field,
		})
	}
	putImages(&r, g.MixedInstancesPolicy)
	return r
}

// putImages notes the images that overrides name: under the field of the override's own template, which it replaces the image
// of, or else under the override.
func putImages(r *inventory.Resource, mixed *types.MixedInstancesPolicy) {
	if mixed == nil || mixed.LaunchTemplate == nil {
		return
	}
	for i, o := range mixed.LaunchTemplate.Overrides {
		image := aws.ToString(o.ImageId)
		if image == "" {
			continue
		}
		key := fmt.Sprintf("%s%d", prefixOverride, i)
		if o.LaunchTemplateSpecification != nil {
			key = overridePrefix(i) + suffixVersion
		}
		r.Attrs[inventory.AttrImage+"/"+key] = image
	}
}

func state(g *types.AutoScalingGroup) fleet.State {
	s := fleet.State{}
	if name := aws.ToString(g.LaunchConfigurationName); name != "" {
		s[FieldLaunchConfiguration] = name
	}
	putTemplates(s, g.LaunchTemplate, g.MixedInstancesPolicy)
	return s
}

// putTemplates writes every template that is named.
func putTemplates(s fleet.State, plain *types.LaunchTemplateSpecification, mixed *types.MixedInstancesPolicy) {
	putTemplate(s, prefixPlain, plain)
	if mixed == nil || mixed.LaunchTemplate == nil {
		return
	}
	putTemplate(s, prefixMixed, mixed.LaunchTemplate.LaunchTemplateSpecification)
	for i, o := range mixed.LaunchTemplate.Overrides {
		putTemplate(s, overridePrefix(i), o.LaunchTemplateSpecification)
	}
}

// putTemplate writes a template's id and selector. A selector that was never given means $Default.
func putTemplate(s fleet.State, prefix string, t *types.LaunchTemplateSpecification) {
	if t == nil {
		return
	}
	s[prefix+suffixID] = aws.ToString(t.LaunchTemplateId)
	s[prefix+suffixVersion] = cmp.Or(aws.ToString(t.Version), inventory.SelectDefault)
}

func overridePrefix(i int) string { return fmt.Sprintf("%s%d.%s", prefixOverride, i, prefixPlain) }

// overrideIndex reads the index from an override's version field.
func overrideIndex(field string) (int, bool) {
	rest, ok := strings.CutPrefix(field, prefixOverride)
	if !ok {
		return 0, false
	}
	number, ok := strings.CutSuffix(rest, "."+prefixPlain+suffixVersion)
	if !ok {
		return 0, false
	}
	n, err := strconv.Atoi(number)
	return n, err == nil && n >= 0
}

func tagMap(tags []types.TagDescription) map[string]string {
	if len(tags) == 0 {
		return nil
	}
	m := make(map[string]string, len(tags))
	for _, t := range tags {
		m[aws.ToString(t.Key)] = aws.ToString(t.Value)
	}
	return m
}

// owner tells who operates the group. The group of an EKS node group belongs to EKS whatever template it was given: a
// change of its template marks the node group as degraded (EKS user guide, "Ec2LaunchTemplateVersionMismatch").
func owner(g *types.AutoScalingGroup, tags map[string]string) fleet.Owner {
	if g.Operator != nil {
		return fleet.Owner{Type: fleet.OwnerService, Name: aws.ToString(g.Operator.Principal), Managed: true}
	}
	o := kind.OwnerByTags(tags)
	if o.Type == fleet.OwnerEKS {
		o.Managed = true
	}
	return o
}
