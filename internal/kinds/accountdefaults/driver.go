package accountdefaults

import (
	"context"
	"fmt"
	"strconv"

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

// Open makes the driver for one place. cfg decides endpoint, credentials, limits and retries.
func Open(cfg aws.Config, place fleet.Place, _ clock.Clock) kind.Driver {
	return &driver{client: ec2.NewFromConfig(cfg), place: place}
}

type driver struct {
	client *ec2.Client
	place  fleet.Place
}

var (
	_ kind.UndoChecker = (*driver)(nil)
	_ kind.DryRunner   = (*driver)(nil)
)

func (d *driver) List(ctx context.Context, emit func(inventory.Resource) error) error {
	r, err := d.Read(ctx, ID)
	if err != nil {
		return err
	}
	return emit(r)
}

func (d *driver) Read(ctx context.Context, id string) (inventory.Resource, error) {
	if id != ID {
		return inventory.Resource{}, kind.Errorf(fleet.ErrGone, d.place, actionGet,
			"account defaults have no resource %q", id)
	}
	out, err := d.client.GetInstanceMetadataDefaults(ctx, &ec2.GetInstanceMetadataDefaultsInput{})
	if err != nil {
		return inventory.Resource{}, fmt.Errorf("read the account's metadata defaults: %w", awsx.Plain(err))
	}
	r := inventory.Resource{
		Ref:   fleet.Ref{Place: d.place, Kind: inventory.KindAccountDefaults, ID: ID},
		Name:  "metadata defaults",
		State: state(out.AccountLevel),
	}
	if out.AccountLevel != nil && out.AccountLevel.ManagedBy != "" {
		r.Attrs = map[string]string{inventory.AttrManagedBy: string(out.AccountLevel.ManagedBy)}
	}
	return r, nil
}

// state leaves out what nobody chose, in whichever of its ways EC2 says so: no element, an empty one, "no-preference",
// or -1 for the hop limit.
func state(o *types.InstanceMetadataDefaultsResponse) fleet.State {
	s := fleet.State{}
	if o == nil {
		return s
	}
	put := func(field, value string) {
		if value != "" && value != fleet.NoPreference {
			s[field] = value
		}
	}
	put(fleet.FieldTokens, string(o.HttpTokens))
	put(fleet.FieldEndpoint, string(o.HttpEndpoint))
	put(fleet.FieldTags, string(o.InstanceMetadataTags))
	put(FieldEnforced, string(o.HttpTokensEnforced))
	if n := aws.ToInt32(o.HttpPutResponseHopLimit); n > 0 {
		s[fleet.FieldHopLimit] = strconv.Itoa(int(n))
	}
	return s
}

func (d *driver) Write(ctx context.Context, w kind.Write) (kind.Result, error) {
	in, err := d.input(w)
	if err != nil {
		return kind.Result{}, err
	}
	out, err := d.client.ModifyInstanceMetadataDefaults(ctx, in)
	if err != nil {
		return kind.Result{}, fmt.Errorf("set the account's metadata defaults: %w", awsx.Plain(err))
	}
	id, _ := awsmiddleware.GetRequestIDMetadata(out.ResultMetadata)
	return kind.Result{RequestID: id}, nil
}

// CheckUndo asks EC2 by a dry run whether the caller may set the defaults as they are now, so that even a stand-in that
// takes it for real changes nothing.
func (d *driver) CheckUndo(ctx context.Context, w kind.Write) error {
	w.Before, w.After = w.After, w.Before
	in, err := request(w)
	if err != nil {
		return kind.Errorf(fleet.ErrInvalid, d.place, actionModify,
			"undo the change of the account's metadata defaults: %w", err)
	}
	in.DryRun = aws.Bool(true)
	if _, err := d.client.ModifyInstanceMetadataDefaults(ctx, in); err != nil && !awsx.DryRunOK(err) {
		return kind.DryRunError(awsx.Plain(err), "set back the account's metadata defaults")
	}
	return nil
}

// DryRun asks EC2 whether the caller may set what w changes. That an organization's declarative policy manages the
// defaults is a rule of the service's own, which a dry run does not promise to tell.
func (d *driver) DryRun(ctx context.Context, w kind.Write) error {
	in, err := d.input(w)
	if err != nil {
		return err
	}
	r, err := d.Read(ctx, w.ID)
	if err != nil {
		return err
	}
	if r.Attrs[inventory.AttrManagedBy] == managedByPolicy {
		return kind.Errorf(fleet.ErrConflict, d.place, actionModify, "set the account's metadata defaults: a declarative "+
			"policy of the organization manages them, and only the organization can change them; set http_tokens to "+
			"required in that policy")
	}
	in.DryRun = aws.Bool(true)
	if _, err := d.client.ModifyInstanceMetadataDefaults(ctx, in); err != nil && !awsx.DryRunOK(err) {
		return kind.DryRunError(awsx.Plain(err), "set the account's metadata defaults")
	}
	return nil
}

// input is the request that makes w.
func (d *driver) input(w kind.Write) (*ec2.ModifyInstanceMetadataDefaultsInput, error) {
	if w.Verb != VerbSetDefaults || w.ID != ID {
		return nil, kind.Errorf(fleet.ErrInvalid, d.place, actionModify,
			"account defaults have no verb %q for %q", w.Verb, w.ID)
	}
	in, err := request(w)
	if err != nil {
		return nil, kind.Errorf(fleet.ErrInvalid, d.place, actionModify, "set the account's metadata defaults: %w", err)
	}
	return in, nil
}

// request asks for what the write changes and for nothing else.
func request(w kind.Write) (*ec2.ModifyInstanceMetadataDefaultsInput, error) {
	in := &ec2.ModifyInstanceMetadataDefaultsInput{}
	if v, ok := change(w, fleet.FieldTokens); ok {
		in.HttpTokens = types.MetadataDefaultHttpTokensState(v)
	}
	if v, ok := change(w, fleet.FieldEndpoint); ok {
		in.HttpEndpoint = types.DefaultInstanceMetadataEndpointState(v)
	}
	if v, ok := change(w, fleet.FieldTags); ok {
		in.InstanceMetadataTags = types.DefaultInstanceMetadataTagsState(v)
	}
	if v, ok := change(w, FieldEnforced); ok {
		in.HttpTokensEnforced = types.DefaultHttpTokensEnforcedState(v)
	}
	if v, ok := change(w, fleet.FieldHopLimit); ok {
		n, err := strconv.ParseInt(v, 10, 32)
		if err != nil {
			return nil, fmt.Errorf("hop limit %q is not a number", v)
		}
		in.HttpPutResponseHopLimit = aws.Int32(int32(n))
	}
	return in, nil
}

// Find has nothing to look for: no verb creates.
func (d *driver) Find(context.Context, kind.Write) (kind.Result, error) {
	return kind.Result{}, kind.ErrNotFound
}
