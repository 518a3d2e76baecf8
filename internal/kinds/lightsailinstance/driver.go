package lightsailinstance

import (
	"context"
	"errors"
	"fmt"
	"strconv"

	"github.com/aws/aws-sdk-go-v2/aws"
	awsmiddleware "github.com/aws/aws-sdk-go-v2/aws/middleware"
	"github.com/aws/aws-sdk-go-v2/service/lightsail"
	"github.com/aws/aws-sdk-go-v2/service/lightsail/types"

	"github.com/imdsctl/imdsctl/internal/awsx"
	"github.com/imdsctl/imdsctl/internal/clock"
	"github.com/imdsctl/imdsctl/internal/fleet"
	"github.com/imdsctl/imdsctl/internal/inventory"
	"github.com/imdsctl/imdsctl/internal/kind"
)

// Open makes the driver for one place. cfg decides endpoint, credentials, limits and retries.
func Open(cfg aws.Config, place fleet.Place, _ clock.Clock) kind.Driver {
	return &driver{client: lightsail.NewFromConfig(cfg), place: place}
}

type driver struct {
	client *lightsail.Client
	place  fleet.Place
}

var _ kind.MetricReader = (*driver)(nil)

// List reads all pages; Lightsail decides their size.
func (d *driver) List(ctx context.Context, emit func(inventory.Resource) error) error {
	in := &lightsail.GetInstancesInput{}
	for {
		out, err := d.client.GetInstances(ctx, in)
		if err != nil {
			return fmt.Errorf("list Lightsail instances: %w", awsx.Plain(err))
		}
		for i := range out.Instances {
			if err := emit(d.resource(&out.Instances[i])); err != nil {
				return err
			}
		}
		if aws.ToString(out.NextPageToken) == "" {
			return nil
		}
		in.PageToken = out.NextPageToken
	}
}

func (d *driver) Read(ctx context.Context, id string) (inventory.Resource, error) {
	out, err := d.client.GetInstance(ctx, &lightsail.GetInstanceInput{InstanceName: aws.String(id)})
	if err != nil {
		return inventory.Resource{}, fmt.Errorf("read Lightsail instance %s: %w", id, awsx.Plain(err))
	}
	if out.Instance == nil {
		return inventory.Resource{}, kind.Errorf(fleet.ErrTransient, d.place, actionGet,
			"read Lightsail instance %s: the answer has no instance", id)
	}
	r := d.resource(out.Instance)
	if r.Status == inventory.StatusTerminated {
		return inventory.Resource{}, kind.Errorf(fleet.ErrGone, d.place, actionGet, "Lightsail instance %s is terminated", id)
	}
	return r, nil
}

// resource turns Lightsail's words into ours.
func (d *driver) resource(in *types.Instance) inventory.Resource {
	r := inventory.Resource{
		Ref:      fleet.Ref{Place: d.place, Kind: inventory.KindLightsail, ID: aws.ToString(in.Name)},
		Name:     aws.ToString(in.Name),
		Status:   status(in.State),
		Launched: aws.ToTime(in.CreatedAt),
		State:    state(in.MetadataOptions),
		Tags:     tagMap(in.Tags),
		Attrs:    map[string]string{},
	}
	r.Owner = kind.OwnerByTags(r.Tags)
	// What was changed on a stopped instance has nothing to wait for before it starts.
	r.Settling = r.Status != inventory.StatusStopped && in.MetadataOptions != nil &&
		in.MetadataOptions.State == types.InstanceMetadataStatePending
	for name, v := range map[string]*string{
		inventory.AttrImage: in.BlueprintId, inventory.AttrInstanceType: in.BundleId, inventory.AttrPublicIP: in.PublicIpAddress,
	} {
		if aws.ToString(v) != "" {
			r.Attrs[name] = *v
		}
	}
	return r
}

// state has the options in the canonical names, which are Lightsail's with a capital.
func state(o *types.InstanceMetadataOptions) fleet.State {
	s := fleet.State{}
	if o == nil {
		return s
	}
	put := func(field, value string) {
		if value != "" {
			s[field] = value
		}
	}
	put(fleet.FieldTokens, string(o.HttpTokens))
	put(fleet.FieldEndpoint, string(o.HttpEndpoint))
	put(fleet.FieldIPv6, string(o.HttpProtocolIpv6))
	if o.HttpPutResponseHopLimit != nil {
		s[fleet.FieldHopLimit] = strconv.Itoa(int(*o.HttpPutResponseHopLimit))
	}
	return s
}

// status reads the state's name, which is EC2's; the API has no list of them.
func status(s *types.InstanceState) inventory.Status {
	if s == nil {
		return inventory.StatusPending
	}
	switch aws.ToString(s.Name) {
	case "running":
		return inventory.StatusRunning
	case "stopped", "stopping":
		return inventory.StatusStopped
	case "terminated", "shutting-down":
		return inventory.StatusTerminated
	default:
		return inventory.StatusPending
	}
}

func tagMap(tags []types.Tag) map[string]string {
	if len(tags) == 0 {
		return nil
	}
	m := make(map[string]string, len(tags))
	for _, t := range tags {
		m[aws.ToString(t.Key)] = aws.ToString(t.Value)
	}
	return m
}

func (d *driver) Write(ctx context.Context, w kind.Write) (kind.Result, error) {
	if w.Verb != VerbSetOptions {
		return kind.Result{}, kind.Errorf(fleet.ErrInvalid, d.place, actionUpdate, "Lightsail instances have no verb %q", w.Verb)
	}
	if err := writable(w); err != nil {
		return kind.Result{}, kind.Errorf(fleet.ErrConflict, d.place, actionUpdate, "write Lightsail instance %s: %w", w.ID, err)
	}
	in, err := request(w)
	if err != nil {
		return kind.Result{}, kind.Errorf(fleet.ErrInvalid, d.place, actionUpdate, "write Lightsail instance %s: %w", w.ID, err)
	}
	out, err := d.client.UpdateInstanceMetadataOptions(ctx, in)
	if err != nil {
		return kind.Result{}, fmt.Errorf("set the metadata options of Lightsail instance %s: %w", w.ID, awsx.Plain(err))
	}
	id, _ := awsmiddleware.GetRequestIDMetadata(out.ResultMetadata)
	return kind.Result{RequestID: id}, nil
}

// request asks for the whole of a state: tokens that are left out become optional.
func request(w kind.Write) (*lightsail.UpdateInstanceMetadataOptionsInput, error) {
	in := &lightsail.UpdateInstanceMetadataOptionsInput{
		InstanceName: aws.String(w.ID),
		HttpEndpoint: types.HttpEndpoint(w.After[fleet.FieldEndpoint]),
		HttpTokens:   types.HttpTokens(w.After[fleet.FieldTokens]),
	}
	if sendsIPv6(w) {
		in.HttpProtocolIpv6 = types.HttpProtocolIpv6(w.After[fleet.FieldIPv6])
	}
	if hop, ok := w.After[fleet.FieldHopLimit]; ok {
		n, err := strconv.Atoi(hop)
		if err != nil {
			return nil, fmt.Errorf("hop limit %q is not a number", hop)
		}
		if err := fleet.ValidHopLimit(n); err != nil {
			return nil, err
		}
		in.HttpPutResponseHopLimit = aws.Int32(int32(n)) //nolint:gosec // ValidHopLimit bounds it to 1…64
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

// Find has nothing to look for: no verb creates.
func (d *driver) Find(context.Context, kind.Write) (kind.Result, error) {
	return kind.Result{}, kind.ErrNotFound
}
