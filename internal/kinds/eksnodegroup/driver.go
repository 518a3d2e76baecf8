package eksnodegroup

import (
	"context"
	"fmt"
	"strconv"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	awsmiddleware "github.com/aws/aws-sdk-go-v2/aws/middleware"
	"github.com/aws/aws-sdk-go-v2/service/eks"
	"github.com/aws/aws-sdk-go-v2/service/eks/types"

	"github.com/imdsctl/imdsctl/internal/awsx"
	"github.com/imdsctl/imdsctl/internal/clock"
	"github.com/imdsctl/imdsctl/internal/fleet"
	"github.com/imdsctl/imdsctl/internal/inventory"
	"github.com/imdsctl/imdsctl/internal/kind"
)

// mostResults is the largest page of ListClusters and ListNodegroups.
const mostResults = 100

// Open makes the driver for one place. cfg decides endpoint, credentials, limits and retries.
func Open(cfg aws.Config, place fleet.Place, _ clock.Clock) kind.Driver {
	return &driver{client: eks.NewFromConfig(cfg), place: place}
}

type driver struct {
	client *eks.Client
	place  fleet.Place
}

// List reads clusters, the node groups of each, and each of these: EKS describes one at a time. What is deleted in between is
// left out.
func (d *driver) List(ctx context.Context, emit func(inventory.Resource) error) error {
	in := &eks.ListClustersInput{MaxResults: aws.Int32(kind.PageSize(ctx, mostResults))}
	for {
		out, err := d.client.ListClusters(ctx, in)
		if err != nil {
			return fmt.Errorf("list EKS clusters: %w", awsx.Plain(err))
		}
		for _, cluster := range out.Clusters {
			if err := d.listCluster(ctx, cluster, emit); err != nil {
				return err
			}
		}
		if aws.ToString(out.NextToken) == "" {
			return nil
		}
		in.NextToken = out.NextToken
	}
}

func (d *driver) listCluster(ctx context.Context, cluster string, emit func(inventory.Resource) error) error {
	in := &eks.ListNodegroupsInput{ClusterName: aws.String(cluster), MaxResults: aws.Int32(kind.PageSize(ctx, mostResults))}
	for {
		out, err := d.client.ListNodegroups(ctx, in)
		if fleet.ClassOf(err) == fleet.ErrGone {
			return nil
		}
		if err != nil {
			return fmt.Errorf("list the node groups of EKS cluster %s: %w", cluster, awsx.Plain(err))
		}
		for _, name := range out.Nodegroups {
			r, err := d.Read(ctx, cluster+"/"+name)
			if fleet.ClassOf(err) == fleet.ErrGone {
				continue
			}
			if err != nil {
				return err
			}
			if err := emit(r); err != nil {
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
	cluster, name, ok := split(id)
	if !ok {
		return inventory.Resource{}, kind.Errorf(fleet.ErrGone, d.place, actionDescribe,
			"there is no EKS node group %q: want CLUSTER/NODEGROUP", id)
	}
	out, err := d.client.DescribeNodegroup(ctx,
		&eks.DescribeNodegroupInput{ClusterName: aws.String(cluster), NodegroupName: aws.String(name)})
	if err != nil {
		return inventory.Resource{}, fmt.Errorf("read EKS node group %s: %w", id, awsx.Plain(err))
	}
	return d.resource(id, out.Nodegroup), nil
}

// Write starts the move. The token makes a repeated one the same one, also while it is under way.
func (d *driver) Write(ctx context.Context, w kind.Write) (kind.Result, error) {
	cluster, name, ok := split(w.ID)
	if w.Verb != VerbSetLaunchVersion || !ok || !moves(w) {
		return kind.Result{}, kind.Errorf(fleet.ErrInvalid, d.place, actionUpdate,
			"EKS node group %s: %s cannot write %s", w.ID, w.Verb, fleet.DescribeDiff(w.Before, w.After))
	}
	in := &eks.UpdateNodegroupVersionInput{
		ClusterName: aws.String(cluster), NodegroupName: aws.String(name), ClientRequestToken: aws.String(w.Token),
		LaunchTemplate: &types.LaunchTemplateSpecification{
			Id: aws.String(w.After[FieldTemplate]), Version: aws.String(w.After[FieldTemplateVersion]),
		},
	}
	if !custom(w.After) {
		in.Version, in.ReleaseVersion = aws.String(w.After[FieldVersion]), aws.String(w.After[FieldReleaseVersion])
	}
	out, err := d.client.UpdateNodegroupVersion(ctx, in)
	if err != nil {
		return kind.Result{}, fmt.Errorf("move EKS node group %s to version %s of its launch template: %w", w.ID,
			w.After[FieldTemplateVersion], awsx.Plain(err))
	}
	id, _ := awsmiddleware.GetRequestIDMetadata(out.ResultMetadata)
	return kind.Result{RequestID: id}, nil
}

// Find tells whether a move has ended, which the node group shows. One that is under way leaves no mark of ours: its token
// makes it the same one when it is sent again.
func (d *driver) Find(ctx context.Context, w kind.Write) (kind.Result, error) {
	r, err := d.Read(ctx, w.ID)
	if err != nil {
		return kind.Result{}, err
	}
	if r.Settling || r.State[FieldTemplateVersion] != w.After[FieldTemplateVersion] {
		return kind.Result{}, kind.ErrNotFound
	}
	return kind.Result{}, nil
}

// resource turns EKS's words into ours.
func (d *driver) resource(id string, g *types.Nodegroup) inventory.Resource {
	r := inventory.Resource{
		Ref:   fleet.Ref{Place: d.place, Kind: inventory.KindNodegroup, ID: id},
		Name:  id,
		State: state(g),
		Tags:  g.Tags,
		Attrs: map[string]string{
			inventory.AttrCluster: aws.ToString(g.ClusterName), inventory.AttrContainers: "eks",
			attrAMIType: string(g.AmiType),
		},
		Settling: g.Status == types.NodegroupStatusUpdating || g.Status == types.NodegroupStatusCreating ||
			g.Status == types.NodegroupStatusDeleting,
	}
	if len(r.Tags) == 0 {
		r.Tags = nil
	}
	if !writable(g.Status) {
		r.Attrs[attrStatus] = string(g.Status)
	}
	r.Owner = kind.OwnerByTags(r.Tags)
	if custom(r.State) {
		r.Attrs[inventory.AttrImage] = r.State[FieldReleaseVersion]
	}
	if len(g.InstanceTypes) > 0 {
		r.Attrs[inventory.AttrInstanceType] = strings.Join(g.InstanceTypes, ",")
	}
	if g.ScalingConfig != nil {
		r.Attrs[inventory.AttrDesired] = strconv.Itoa(int(aws.ToInt32(g.ScalingConfig.DesiredSize)))
	}
	if g.Resources != nil {
		for _, a := range g.Resources.AutoScalingGroups {
			r.Links = append(r.Links, inventory.Link{
				Relation: inventory.Operates, To: r.Ref.Sibling(inventory.KindAutoScaling, aws.ToString(a.Name)),
			})
		}
	}
	if template := r.State[FieldTemplate]; template != "" {
		l := inventory.Link{
			Relation: inventory.LaunchesFrom, To: r.Ref.Sibling(inventory.KindLaunchTemplate, template),
			Selector: r.State[FieldTemplateVersion], Starts: true,
		}
		if writable(g.Status) {
			l.Field = FieldTemplateVersion
		}
		r.Links = append(r.Links, l)
	}
	return r
}

// writable tells whether EKS updates a node group of the status, now or once what is under way has ended.
func writable(s types.NodegroupStatus) bool {
	switch s {
	case types.NodegroupStatusDeleting, types.NodegroupStatusCreateFailed, types.NodegroupStatusDeleteFailed:
		return false
	}
	return true
}

func state(g *types.Nodegroup) fleet.State {
	s := fleet.State{}
	put := func(field string, value *string) {
		if aws.ToString(value) != "" {
			s[field] = *value
		}
	}
	put(FieldVersion, g.Version)
	put(FieldReleaseVersion, g.ReleaseVersion)
	if g.LaunchTemplate != nil {
		put(FieldTemplate, g.LaunchTemplate.Id)
		put(FieldTemplateVersion, g.LaunchTemplate.Version)
	}
	return s
}
