package beanstalkenvironment

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	awsmiddleware "github.com/aws/aws-sdk-go-v2/aws/middleware"
	"github.com/aws/aws-sdk-go-v2/service/elasticbeanstalk"
	"github.com/aws/aws-sdk-go-v2/service/elasticbeanstalk/types"

	"github.com/imdsctl/imdsctl/internal/awsx"
	"github.com/imdsctl/imdsctl/internal/clock"
	"github.com/imdsctl/imdsctl/internal/fleet"
	"github.com/imdsctl/imdsctl/internal/inventory"
	"github.com/imdsctl/imdsctl/internal/kind"
)

// mostRecords is the largest page of DescribeEnvironments.
const mostRecords = 1000

// Open makes the driver for one place. cfg decides endpoint, credentials, limits and retries.
func Open(cfg aws.Config, place fleet.Place, _ clock.Clock) kind.Driver {
	return &driver{client: elasticbeanstalk.NewFromConfig(cfg), place: place}
}

type driver struct {
	client *elasticbeanstalk.Client
	place  fleet.Place
}

// List leaves out an environment that ends between the page and the reading of its settings.
func (d *driver) List(ctx context.Context, emit func(inventory.Resource) error) error {
	in := &elasticbeanstalk.DescribeEnvironmentsInput{
		IncludeDeleted: aws.Bool(false), MaxRecords: aws.Int32(kind.PageSize(ctx, mostRecords)),
	}
	for {
		out, err := d.client.DescribeEnvironments(ctx, in)
		if err != nil {
			return fmt.Errorf("list Elastic Beanstalk environments: %w", awsx.Plain(err))
		}
		for i := range out.Environments {
			e := &out.Environments[i]
			if ended(e) {
				continue
			}
			r, err := d.resource(ctx, e)
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
	e, err := d.environment(ctx, id)
	if err != nil {
		return inventory.Resource{}, err
	}
	return d.resource(ctx, e)
}

func (d *driver) environment(ctx context.Context, id string) (*types.EnvironmentDescription, error) {
	out, err := d.client.DescribeEnvironments(ctx, &elasticbeanstalk.DescribeEnvironmentsInput{
		EnvironmentIds: []string{id}, IncludeDeleted: aws.Bool(false),
	})
	if err != nil {
		return nil, fmt.Errorf("read Elastic Beanstalk environment %s: %w", id, awsx.Plain(err))
	}
	for i := range out.Environments {
		if e := &out.Environments[i]; aws.ToString(e.EnvironmentId) == id && !ended(e) {
			return e, nil
		}
	}
	return nil, kind.Errorf(fleet.ErrGone, d.place, actionDescribe,
		"Elastic Beanstalk environment %s does not exist", id)
}

// Write sends the option alone: Beanstalk keeps all settings that are not sent.
func (d *driver) Write(ctx context.Context, w kind.Write) (kind.Result, error) {
	value, set, ok := change(w)
	if !ok {
		return kind.Result{}, kind.Errorf(fleet.ErrInvalid, d.place, actionUpdate,
			"Elastic Beanstalk environment %s: %s cannot write %s", w.ID, w.Verb, fleet.DescribeDiff(w.Before, w.After))
	}
	in := &elasticbeanstalk.UpdateEnvironmentInput{EnvironmentId: aws.String(w.ID)}
	if set {
		in.OptionSettings = []types.ConfigurationOptionSetting{{
			Namespace: aws.String(namespace), OptionName: aws.String(FieldDisableV1), Value: aws.String(value),
		}}
	} else {
		in.OptionsToRemove = []types.OptionSpecification{{
			Namespace: aws.String(namespace), OptionName: aws.String(FieldDisableV1),
		}}
	}
	out, err := d.client.UpdateEnvironment(ctx, in)
	if err != nil {
		return kind.Result{}, fmt.Errorf("set %s of Elastic Beanstalk environment %s: %w", FieldDisableV1, w.ID, d.classed(err))
	}
	id, _ := awsmiddleware.GetRequestIDMetadata(out.ResultMetadata)
	return kind.Result{RequestID: id}, nil
}

// Find tells whether an update was accepted: Beanstalk shows what it is deploying from then on. It takes no token and no
// marker, and needs none: it carries out one update at a time, and refuses another meanwhile.
func (d *driver) Find(ctx context.Context, w kind.Write) (kind.Result, error) {
	if _, _, ok := change(w); !ok {
		return kind.Result{}, kind.ErrNotFound
	}
	e, err := d.environment(ctx, w.ID)
	if err != nil {
		return kind.Result{}, err
	}
	sets, err := d.settings(ctx, e)
	if err != nil {
		return kind.Result{}, err
	}
	draft, pending := drafted(sets)
	if state(sets).Equal(w.After) || pending && draft.Equal(w.After) {
		return kind.Result{}, nil
	}
	return kind.Result{}, kind.ErrNotFound
}

// classed gives Beanstalk's InvalidParameterValue the class of what it means, which only its message tells.
func (d *driver) classed(err error) error {
	err = awsx.Plain(err)
	told, ok := errors.AsType[*fleet.CallError](err)
	if !ok || told.Code != "InvalidParameterValue" {
		return err
	}
	call := *told
	switch text := call.Err.Error(); {
	case strings.Contains(text, "No Environment found"):
		call.Class = fleet.ErrGone
	case strings.Contains(text, "invalid state"):
		call.Class = fleet.ErrConflict
	}
	return &call
}
