package imagebuilder

import (
	"context"
	"fmt"
	"strconv"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	awsmiddleware "github.com/aws/aws-sdk-go-v2/aws/middleware"
	sdk "github.com/aws/aws-sdk-go-v2/service/imagebuilder"
	"github.com/aws/aws-sdk-go-v2/service/imagebuilder/types"

	"github.com/imdsctl/imdsctl/internal/awsx"
	"github.com/imdsctl/imdsctl/internal/clock"
	"github.com/imdsctl/imdsctl/internal/fleet"
	"github.com/imdsctl/imdsctl/internal/inventory"
	"github.com/imdsctl/imdsctl/internal/kind"
)

// mostResults is the largest page of ListInfrastructureConfigurations.
const mostResults = 100

// Open makes the driver for one place. cfg decides endpoint, credentials, limits and retries.
func Open(cfg aws.Config, place fleet.Place, _ clock.Clock) kind.Driver {
	return &driver{client: sdk.NewFromConfig(cfg), place: place}
}

type driver struct {
	client *sdk.Client
	place  fleet.Place
}

// List reads each configuration by itself: the list leaves the options out. What is deleted in between is left out.
func (d *driver) List(ctx context.Context, emit func(inventory.Resource) error) error {
	in := &sdk.ListInfrastructureConfigurationsInput{MaxResults: aws.Int32(kind.PageSize(ctx, mostResults))}
	for {
		out, err := d.client.ListInfrastructureConfigurations(ctx, in)
		if err != nil {
			return fmt.Errorf("list Image Builder infrastructure configurations: %w", awsx.Plain(err))
		}
		for _, s := range out.InfrastructureConfigurationSummaryList {
			r, err := d.Read(ctx, aws.ToString(s.Arn))
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
	c, err := d.get(ctx, id)
	if err != nil {
		return inventory.Resource{}, err
	}
	return d.resource(c), nil
}

func (d *driver) get(ctx context.Context, id string, options ...func(*sdk.Options)) (*types.InfrastructureConfiguration, error) {
	out, err := d.client.GetInfrastructureConfiguration(ctx,
		&sdk.GetInfrastructureConfigurationInput{InfrastructureConfigurationArn: aws.String(id)}, options...)
	if err != nil {
		return nil, fmt.Errorf("read Image Builder infrastructure configuration %s: %w", id, awsx.Plain(err))
	}
	if out.InfrastructureConfiguration == nil {
		return nil, kind.Errorf(fleet.ErrGone, d.place, actionGet, "there is no Image Builder infrastructure configuration %s", id)
	}
	return out.InfrastructureConfiguration, nil
}

// Write reads the configuration once more, and sends back what it read with nothing but the options changed.
func (d *driver) Write(ctx context.Context, w kind.Write) (kind.Result, error) {
	if w.Verb != VerbSetOptions || !writes(w) {
		return kind.Result{}, kind.Errorf(fleet.ErrInvalid, d.place, actionUpdate,
			"Image Builder infrastructure configuration %s: %s cannot write %s", w.ID, w.Verb, fleet.DescribeDiff(w.Before, w.After))
	}
	var answer []byte
	found, err := d.get(ctx, w.ID, keepAnswer(&answer))
	if err != nil {
		return kind.Result{}, err
	}
	if now := state(found); !now.Equal(w.Before) {
		return kind.Result{}, kind.Errorf(fleet.ErrConflict, d.place, actionUpdate,
			"Image Builder infrastructure configuration %s changed while it was being written: %s", w.ID,
			fleet.DescribeDiff(w.Before, now))
	}
	body, err := whole(answer, w)
	if err != nil {
		return kind.Result{}, kind.Errorf(fleet.ErrInvalid, d.place, actionUpdate,
			"Image Builder infrastructure configuration %s: %w", w.ID, err)
	}
	out, err := d.client.UpdateInfrastructureConfiguration(ctx, &sdk.UpdateInfrastructureConfigurationInput{
		InfrastructureConfigurationArn: aws.String(w.ID), InstanceProfileName: found.InstanceProfileName,
		ClientToken: aws.String(w.Token),
	}, sendBody(body))
	if err != nil {
		return kind.Result{}, fmt.Errorf("set the metadata options of Image Builder infrastructure configuration %s: %w", w.ID,
			awsx.Plain(err))
	}
	id, _ := awsmiddleware.GetRequestIDMetadata(out.ResultMetadata)
	return kind.Result{RequestID: id}, nil
}

// Find has nothing to look for: no verb creates.
func (d *driver) Find(context.Context, kind.Write) (kind.Result, error) {
	return kind.Result{}, kind.ErrNotFound
}

// resource turns Image Builder's words into ours.
func (d *driver) resource(c *types.InfrastructureConfiguration) inventory.Resource {
	r := inventory.Resource{
		Ref:   fleet.Ref{Place: d.place, Kind: inventory.KindImageBuilder, ID: aws.ToString(c.Arn)},
		Name:  aws.ToString(c.Name),
		State: state(c),
		Attrs: map[string]string{attrProfile: aws.ToString(c.InstanceProfileName)},
	}
	if len(c.Tags) > 0 {
		r.Tags = c.Tags
	}
	if len(c.InstanceTypes) > 0 {
		r.Attrs[inventory.AttrInstanceType] = strings.Join(c.InstanceTypes, ",")
	}
	r.Owner = kind.OwnerByTags(r.Tags)
	return r
}

func state(c *types.InfrastructureConfiguration) fleet.State {
	s := fleet.State{}
	if o := c.InstanceMetadataOptions; o != nil {
		if tokens := aws.ToString(o.HttpTokens); tokens != "" {
			s[fleet.FieldTokens] = tokens
		}
		if o.HttpPutResponseHopLimit != nil {
			s[fleet.FieldHopLimit] = strconv.Itoa(int(*o.HttpPutResponseHopLimit))
		}
	}
	return s
}
