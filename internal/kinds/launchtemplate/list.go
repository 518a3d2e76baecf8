package launchtemplate

import (
	"context"
	"fmt"
	"strconv"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"

	"github.com/imdsctl/imdsctl/internal/awsx"
	"github.com/imdsctl/imdsctl/internal/fleet"
	"github.com/imdsctl/imdsctl/internal/inventory"
	"github.com/imdsctl/imdsctl/internal/kind"
)

// mostResults is the largest page of DescribeLaunchTemplates and DescribeLaunchTemplateVersions.
const mostResults = 200

// List reads two listings and joins them: the templates, which have names, tags and pointers, and the default and
// latest version of all of them, which have the options. A template that was changed between the two is read again by
// itself.
func (d *driver) List(ctx context.Context, emit func(inventory.Resource) error) error {
	var templates []inventory.Resource
	err := d.eachTemplate(ctx, &ec2.DescribeLaunchTemplatesInput{
		IncludeManagedResources: aws.Bool(true), MaxResults: aws.Int32(kind.PageSize(ctx, mostResults)),
	}, func(t *types.LaunchTemplate) {
		templates = append(templates, d.resource(t))
	})
	if err != nil {
		return fmt.Errorf("list launch templates: %w", err)
	}
	contents := contentMap{}
	err = d.eachVersion(ctx, &ec2.DescribeLaunchTemplateVersionsInput{
		Versions:                []string{inventory.SelectLatest, inventory.SelectDefault},
		IncludeManagedResources: aws.Bool(true),
		MaxResults:              aws.Int32(kind.PageSize(ctx, mostResults)),
	}, contents.add)
	if err != nil {
		return fmt.Errorf("list launch template versions: %w", err)
	}
	for _, r := range templates {
		if !contents.fill(&r) {
			again, err := d.Read(ctx, r.Ref.ID)
			if fleet.ClassOf(err) == fleet.ErrGone {
				continue // deleted since the first listing
			}
			if err != nil {
				return err
			}
			r = again
		}
		if err := emit(r); err != nil {
			return err
		}
	}
	return nil
}

// Read reads the template, and then the versions it points to.
func (d *driver) Read(ctx context.Context, id string) (inventory.Resource, error) {
	var found *inventory.Resource
	err := d.eachTemplate(ctx, &ec2.DescribeLaunchTemplatesInput{
		LaunchTemplateIds: []string{id}, IncludeManagedResources: aws.Bool(true),
	}, func(t *types.LaunchTemplate) {
		if r := d.resource(t); r.Ref.ID == id {
			found = &r
		}
	})
	if err != nil {
		return inventory.Resource{}, fmt.Errorf("read launch template %s: %w", id, err)
	}
	if found == nil {
		return inventory.Resource{}, kind.Errorf(fleet.ErrGone, d.place, actionTemplates,
			"launch template %s does not exist", id)
	}
	contents := contentMap{}
	err = d.eachVersion(ctx, &ec2.DescribeLaunchTemplateVersionsInput{
		LaunchTemplateId: aws.String(id), Versions: []string{inventory.SelectLatest, inventory.SelectDefault},
		IncludeManagedResources: aws.Bool(true),
	}, contents.add)
	if err != nil {
		return inventory.Resource{}, fmt.Errorf("read the versions of launch template %s: %w", id, err)
	}
	contents.fill(found) // what a lagging answer leaves out is not known, and is not in Launch
	return *found, nil
}

func (d *driver) eachTemplate(
	ctx context.Context, in *ec2.DescribeLaunchTemplatesInput, visit func(*types.LaunchTemplate),
) error {
	for {
		out, err := d.client.DescribeLaunchTemplates(ctx, in)
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

// resource turns EC2's words into ours, without the versions' content.
func (d *driver) resource(t *types.LaunchTemplate) inventory.Resource {
	r := inventory.Resource{
		Ref:  fleet.Ref{Place: d.place, Kind: inventory.KindLaunchTemplate, ID: aws.ToString(t.LaunchTemplateId)},
		Name: aws.ToString(t.LaunchTemplateName),
		State: fleet.State{
			inventory.FieldDefaultVersion: strconv.FormatInt(aws.ToInt64(t.DefaultVersionNumber), 10),
			inventory.FieldLatestVersion:  strconv.FormatInt(aws.ToInt64(t.LatestVersionNumber), 10),
		},
		Launch: map[string]fleet.Options{},
		Attrs:  map[string]string{},
	}
	for _, tag := range t.Tags {
		if r.Tags == nil {
			r.Tags = make(map[string]string, len(t.Tags))
		}
		r.Tags[aws.ToString(tag.Key)] = aws.ToString(tag.Value)
	}
	r.Owner = owner(t.Operator, r.Tags)
	return r
}

// owner tells who operates the template. The one that EKS makes for a node group carries the node group's tags, and
// changing it marks the node group as degraded.
func owner(operator *types.OperatorResponse, tags map[string]string) fleet.Owner {
	if operator != nil && aws.ToBool(operator.Managed) {
		return fleet.Owner{Type: fleet.OwnerService, Name: aws.ToString(operator.Principal), Managed: true}
	}
	o := kind.OwnerByTags(tags)
	if o.Type == fleet.OwnerEKS {
		o.Managed = true
	}
	return o
}

// content is what imdsctl keeps of a version.
type content struct {
	options fleet.Options
	image   string
}

// contentMap has the contents of versions by template id and number.
type contentMap map[string]map[string]content

func (m contentMap) add(v *types.LaunchTemplateVersion) error {
	id := aws.ToString(v.LaunchTemplateId)
	if m[id] == nil {
		m[id] = make(map[string]content, 2)
	}
	m[id][strconv.FormatInt(aws.ToInt64(v.VersionNumber), 10)] = content{
		options: optionsOf(v.LaunchTemplateData), image: imageOf(v.LaunchTemplateData),
	}
	return nil
}

// fill puts the contents of the default and the latest version into the resource and tells whether both were there.
func (m contentMap) fill(r *inventory.Resource) bool {
	whole := true
	for _, field := range []string{inventory.FieldLatestVersion, inventory.FieldDefaultVersion} {
		n := r.State[field]
		c, ok := m[r.Ref.ID][n]
		if !ok {
			whole = false
			continue
		}
		r.Launch[n] = c.options
		if c.image != "" {
			r.Attrs[inventory.AttrImage+"/"+n] = c.image
		}
		if field == inventory.FieldDefaultVersion && c.image != "" {
			r.Attrs[inventory.AttrImage] = c.image
		}
	}
	return whole
}
