package ami

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

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

// Sizes from the EC2 API reference: a page of DescribeImages; the values of a filter.
const (
	mostResults = 1000
	mostValues  = 200
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
	_ kind.ReferenceReader = (*driver)(nil)
	_ kind.DryRunner       = (*driver)(nil)
)

// List reads the images that the account owns, deprecated and disabled ones included.
func (d *driver) List(ctx context.Context, emit func(inventory.Resource) error) error {
	err := d.describe(ctx, &ec2.DescribeImagesInput{
		Owners: []string{"self"}, IncludeDeprecated: aws.Bool(true), IncludeDisabled: aws.Bool(true),
		MaxResults: aws.Int32(kind.PageSize(ctx, mostResults)),
	}, emit)
	if err != nil {
		return fmt.Errorf("list images: %w", err)
	}
	return nil
}

// describe reads all pages of the input, without images that are no more.
func (d *driver) describe(
	ctx context.Context, in *ec2.DescribeImagesInput, emit func(inventory.Resource) error,
) error {
	for {
		out, err := d.client.DescribeImages(ctx, in)
		if err != nil {
			return awsx.Plain(err)
		}
		for i := range out.Images {
			if out.Images[i].State == types.ImageStateDeregistered {
				continue // EC2 shows it for a while
			}
			if err := emit(d.resource(&out.Images[i])); err != nil {
				return err
			}
		}
		if aws.ToString(out.NextToken) == "" {
			return nil
		}
		in.NextToken = out.NextToken
	}
}

// ReadReferenced asks by a filter, since a call by ids fails whole for one that is no more or was never shared. What is
// not an image's id, such as a parameter of Systems Manager, is left out.
func (d *driver) ReadReferenced(ctx context.Context, ids []string, emit func(inventory.Resource) error) error {
	ids = slices.DeleteFunc(slices.Clone(ids), func(id string) bool { return !imageID.MatchString(id) })
	for values := range slices.Chunk(ids, mostValues) {
		err := d.describe(ctx, &ec2.DescribeImagesInput{
			Filters:           []types.Filter{{Name: aws.String("image-id"), Values: values}},
			IncludeDeprecated: aws.Bool(true), IncludeDisabled: aws.Bool(true),
			MaxResults: aws.Int32(kind.PageSize(ctx, mostResults)),
		}, emit)
		if err != nil {
			return fmt.Errorf("read %d images that are referred to: %w", len(values), err)
		}
	}
	return nil
}

func (d *driver) Read(ctx context.Context, id string) (inventory.Resource, error) {
	var found *inventory.Resource
	err := d.describe(ctx, &ec2.DescribeImagesInput{
		ImageIds: []string{id}, IncludeDeprecated: aws.Bool(true), IncludeDisabled: aws.Bool(true),
	}, func(r inventory.Resource) error {
		if r.Ref.ID == id {
			found = &r
		}
		return nil
	})
	if err != nil {
		return inventory.Resource{}, fmt.Errorf("read image %s: %w", id, err)
	}
	if found == nil {
		return inventory.Resource{}, kind.Errorf(fleet.ErrGone, d.place, actionDescribe, "image %s does not exist", id)
	}
	return *found, nil
}

// resource turns EC2's words into ours.
func (d *driver) resource(i *types.Image) inventory.Resource {
	r := inventory.Resource{
		Ref:   fleet.Ref{Place: d.place, Kind: inventory.KindImage, ID: aws.ToString(i.ImageId)},
		State: fleet.State{},
		Says:  &fleet.Options{},
		Attrs: map[string]string{},
		// A pending image cannot be changed yet.
		Settling: i.State == types.ImageStatePending,
	}
	if i.ImdsSupport != "" {
		r.State[FieldSupport] = string(i.ImdsSupport)
	}
	if i.ImdsSupport == types.ImdsSupportValuesV20 {
		// EC2 User Guide, "Configure the AMI".
		r.Says = &fleet.Options{Tokens: fleet.TokensRequired, HopLimit: 2}
	}
	for _, tag := range i.Tags {
		if r.Tags == nil {
			r.Tags = make(map[string]string, len(i.Tags))
		}
		r.Tags[aws.ToString(tag.Key)] = aws.ToString(tag.Value)
	}
	put := func(name, value string) {
		if value != "" {
			r.Attrs[name] = value
		}
	}
	put(attrName, aws.ToString(i.Name))
	put(inventory.AttrImageOwner, aws.ToString(i.OwnerId))
	put(inventory.AttrPlatform, cmp.Or(aws.ToString(i.PlatformDetails), string(i.Platform)))
	put(inventory.AttrCreated, stamp(aws.ToString(i.CreationDate)))
	put(inventory.AttrDeprecated, stamp(aws.ToString(i.DeprecationTime)))
	put(inventory.AttrProductCodes, productCodes(i.ProductCodes))
	r.Name = cmp.Or(r.Tags["Name"], r.Attrs[attrName])
	r.Owner = kind.OwnerByTags(r.Tags)
	return r
}

// productCodes joins the codes of AWS Marketplace, sorted.
func productCodes(of []types.ProductCode) string {
	var out []string
	for _, c := range of {
		if id := aws.ToString(c.ProductCodeId); id != "" {
			out = append(out, id)
		}
	}
	slices.Sort(out)
	return strings.Join(slices.Compact(out), ",")
}

// stamp is an instant as EC2 writes it ("2025-03-01T12:00:00.000Z") in RFC 3339; "" for what is none.
func stamp(s string) string {
	t, err := time.Parse(time.RFC3339, s)
	if err != nil {
		return ""
	}
	return t.UTC().Format(time.RFC3339)
}

func (d *driver) Write(ctx context.Context, w kind.Write) (kind.Result, error) {
	in, err := d.input(w)
	if err != nil {
		return kind.Result{}, err
	}
	if w.After[FieldSupport] != supportV2 {
		return kind.Result{}, kind.Errorf(fleet.ErrInvalid, d.place, actionModify,
			"image %s: ImdsSupport can only be set to v2.0", w.ID)
	}
	out, err := d.client.ModifyImageAttribute(ctx, in)
	if err != nil {
		return kind.Result{}, fmt.Errorf("make image %s require tokens: %w", w.ID, awsx.Plain(err))
	}
	id, _ := awsmiddleware.GetRequestIDMetadata(out.ResultMetadata)
	return kind.Result{RequestID: id}, nil
}

// DryRun asks EC2 whether the caller may make the image require tokens.
func (d *driver) DryRun(ctx context.Context, w kind.Write) error {
	in, err := d.input(w)
	if err != nil {
		return err
	}
	in.DryRun = aws.Bool(true)
	if _, err := d.client.ModifyImageAttribute(ctx, in); err != nil && !awsx.DryRunOK(err) {
		return kind.DryRunError(awsx.Plain(err), "make image %s require tokens", w.ID)
	}
	return nil
}

// input is the request that makes w.
func (d *driver) input(w kind.Write) (*ec2.ModifyImageAttributeInput, error) {
	if w.Verb != VerbRequireTokens || w.Revert {
		return nil, kind.Errorf(fleet.ErrInvalid, d.place, actionModify,
			"image %s: %s cannot write %s, nor be undone", w.ID, w.Verb, fleet.DescribeDiff(w.Before, w.After))
	}
	return &ec2.ModifyImageAttributeInput{
		ImageId: aws.String(w.ID), ImdsSupport: &types.AttributeValue{Value: aws.String(supportV2)},
	}, nil
}

// Find has nothing to look for: no verb creates.
func (d *driver) Find(context.Context, kind.Write) (kind.Result, error) {
	return kind.Result{}, kind.ErrNotFound
}
