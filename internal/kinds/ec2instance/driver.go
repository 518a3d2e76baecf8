package ec2instance

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strconv"

	"github.com/aws/aws-sdk-go-v2/aws"
	awsmiddleware "github.com/aws/aws-sdk-go-v2/aws/middleware"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"
	"github.com/aws/smithy-go"

	"github.com/imdsctl/imdsctl/internal/awsx"
	"github.com/imdsctl/imdsctl/internal/clock"
	"github.com/imdsctl/imdsctl/internal/fleet"
	"github.com/imdsctl/imdsctl/internal/inventory"
	"github.com/imdsctl/imdsctl/internal/kind"
)

// Page sizes from the EC2 API reference, DescribeInstances: 5 to 1000 results; a filter takes 200 values.
const (
	mostResults  = 1000
	leastResults = 5
	mostValues   = 200
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
	_ kind.BatchReader = (*driver)(nil)
	_ kind.UndoChecker = (*driver)(nil)
	_ kind.DryRunner   = (*driver)(nil)
)

func (d *driver) List(ctx context.Context, emit func(inventory.Resource) error) error {
	err := d.describe(ctx, &ec2.DescribeInstancesInput{
		IncludeManagedResources: aws.Bool(true),
		MaxResults:              aws.Int32(max(leastResults, kind.PageSize(ctx, mostResults))),
	}, emit)
	if err != nil {
		return fmt.Errorf("list instances: %w", err)
	}
	return nil
}

// describe reads all pages of the input.
func (d *driver) describe(
	ctx context.Context, in *ec2.DescribeInstancesInput, emit func(inventory.Resource) error,
) error {
	for {
		out, err := d.client.DescribeInstances(ctx, in)
		if err != nil {
			return awsx.Plain(err)
		}
		for _, reservation := range out.Reservations {
			for i := range reservation.Instances {
				if err := emit(d.resource(&reservation.Instances[i])); err != nil {
					return err
				}
			}
		}
		if aws.ToString(out.NextToken) == "" {
			return nil
		}
		in.NextToken = out.NextToken
	}
}

func (d *driver) Read(ctx context.Context, id string) (inventory.Resource, error) {
	found, err := d.byID(ctx, []string{id})
	if err != nil {
		return inventory.Resource{}, fmt.Errorf("read instance %s: %w", id, err)
	}
	r, ok := found[id]
	if !ok || r.Status == inventory.StatusTerminated {
		return inventory.Resource{}, kind.Errorf(fleet.ErrGone, d.place, actionDescribe,
			"instance %s is terminated or does not exist", id)
	}
	return r, nil
}

// ReadMany asks for a thousand ids a call. EC2 fails the whole call if one of them has vanished, and names it: those
// are left out and the rest is asked for again. Should it name none, a filter is used, which vanished ids do not
// disturb but which takes fewer values.
func (d *driver) ReadMany(ctx context.Context, ids []string) (map[string]inventory.Resource, error) {
	out := make(map[string]inventory.Resource, len(ids))
	for batch := range slices.Chunk(ids, mostResults) {
		if err := d.readBatch(ctx, batch, out); err != nil {
			return nil, fmt.Errorf("read %d instances: %w", len(batch), err)
		}
	}
	return out, nil
}

func (d *driver) readBatch(ctx context.Context, ids []string, out map[string]inventory.Resource) error {
	found, err := d.byID(ctx, ids)
	if fleet.ClassOf(err) == fleet.ErrGone {
		missing := namedMissing(err, ids)
		rest := slices.DeleteFunc(slices.Clone(ids), func(id string) bool { return missing[id] })
		if len(rest) == 0 {
			return nil
		}
		if len(missing) > 0 {
			found, err = d.byID(ctx, rest)
		}
		if fleet.ClassOf(err) == fleet.ErrGone {
			found, err = d.byFilter(ctx, rest)
		}
	}
	if err != nil {
		return err
	}
	for id, r := range found {
		if r.Status != inventory.StatusTerminated {
			out[id] = r
		}
	}
	return nil
}

func (d *driver) byID(ctx context.Context, ids []string) (map[string]inventory.Resource, error) {
	return d.collect(ctx, &ec2.DescribeInstancesInput{InstanceIds: ids, IncludeManagedResources: aws.Bool(true)})
}

func (d *driver) byFilter(ctx context.Context, ids []string) (map[string]inventory.Resource, error) {
	out := make(map[string]inventory.Resource, len(ids))
	for values := range slices.Chunk(ids, mostValues) {
		found, err := d.collect(ctx, &ec2.DescribeInstancesInput{
			IncludeManagedResources: aws.Bool(true),
			MaxResults:              aws.Int32(mostResults),
			Filters:                 []types.Filter{{Name: aws.String("instance-id"), Values: values}},
		})
		if err != nil {
			return nil, err
		}
		for id, r := range found {
			out[id] = r
		}
	}
	return out, nil
}

func (d *driver) collect(
	ctx context.Context, in *ec2.DescribeInstancesInput,
) (map[string]inventory.Resource, error) {
	out := map[string]inventory.Resource{}
	err := d.describe(ctx, in, func(r inventory.Resource) error {
		out[r.Ref.ID] = r
		return nil
	})
	return out, err
}

var anyInstanceID = regexp.MustCompile(`\bi-[0-9a-f]{8,17}\b`)

// namedMissing reads, from EC2's message ("The instance IDs 'i-a, i-b' do not exist"), which of the ids have vanished.
func namedMissing(err error, asked []string) map[string]bool {
	out := map[string]bool{}
	api, ok := errors.AsType[smithy.APIError](err)
	if !ok {
		return out
	}
	for _, id := range anyInstanceID.FindAllString(api.ErrorMessage(), -1) {
		if slices.Contains(asked, id) {
			out[id] = true
		}
	}
	return out
}

func (d *driver) Write(ctx context.Context, w kind.Write) (kind.Result, error) {
	in, err := d.input(w)
	if err != nil {
		return kind.Result{}, err
	}
	out, err := d.client.ModifyInstanceMetadataOptions(ctx, in)
	if err != nil {
		return kind.Result{}, fmt.Errorf("set the metadata options of instance %s: %w", w.ID, awsx.Plain(err))
	}
	id, _ := awsmiddleware.GetRequestIDMetadata(out.ResultMetadata)
	return kind.Result{RequestID: id}, nil
}

// input is the request that makes w.
func (d *driver) input(w kind.Write) (*ec2.ModifyInstanceMetadataOptionsInput, error) {
	if w.Verb != VerbSetOptions {
		return nil, kind.Errorf(fleet.ErrInvalid, d.place, actionModify, "instances have no verb %q", w.Verb)
	}
	if err := writable(w); err != nil {
		return nil, kind.Errorf(fleet.ErrConflict, d.place, actionModify, "write instance %s: %w", w.ID, err)
	}
	in, err := request(w.ID, w.After)
	if err != nil {
		return nil, kind.Errorf(fleet.ErrInvalid, d.place, actionModify, "write instance %s: %w", w.ID, err)
	}
	return in, nil
}

// request asks for the whole of a state, with the endpoint enabled: EC2 takes the other options only together with
// that.
func request(id string, s fleet.State) (*ec2.ModifyInstanceMetadataOptionsInput, error) {
	in := &ec2.ModifyInstanceMetadataOptionsInput{
		InstanceId:           aws.String(id),
		HttpEndpoint:         types.InstanceMetadataEndpointStateEnabled,
		HttpTokens:           types.HttpTokensState(s[fleet.FieldTokens]),
		HttpProtocolIpv6:     types.InstanceMetadataProtocolState(s[fleet.FieldIPv6]),
		InstanceMetadataTags: types.InstanceMetadataTagsState(s[fleet.FieldTags]),
	}
	if hop, ok := s[fleet.FieldHopLimit]; ok {
		n, err := hopLimit(hop)
		if err != nil {
			return nil, err
		}
		in.HttpPutResponseHopLimit = aws.Int32(n)
	}
	return in, nil
}

// writable refuses what would switch a disabled endpoint on, or one off.
func writable(w kind.Write) error {
	if w.Before[fleet.FieldEndpoint] != fleet.Enabled || w.After[fleet.FieldEndpoint] != fleet.Enabled {
		return errors.New("its metadata endpoint is not enabled before and after the change; it is left alone")
	}
	return nil
}

func hopLimit(s string) (int32, error) {
	n, err := strconv.Atoi(s)
	if err != nil {
		return 0, fmt.Errorf("hop limit %q is not a number", s)
	}
	return int32(n), fleet.ValidHopLimit(n) //nolint:gosec // ValidHopLimit bounds it to 1…64
}

// Find has nothing to look for: no verb creates.
func (d *driver) Find(context.Context, kind.Write) (kind.Result, error) {
	return kind.Result{}, kind.ErrNotFound
}
