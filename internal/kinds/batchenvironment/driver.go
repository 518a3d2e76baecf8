package batchenvironment

import (
	"context"
	"fmt"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	awsmiddleware "github.com/aws/aws-sdk-go-v2/aws/middleware"
	"github.com/aws/aws-sdk-go-v2/service/batch"
	"github.com/aws/aws-sdk-go-v2/service/batch/types"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	ec2types "github.com/aws/aws-sdk-go-v2/service/ec2/types"

	"github.com/imdsctl/imdsctl/internal/awsx"
	"github.com/imdsctl/imdsctl/internal/clock"
	"github.com/imdsctl/imdsctl/internal/fleet"
	"github.com/imdsctl/imdsctl/internal/inventory"
	"github.com/imdsctl/imdsctl/internal/kind"
)

// The largest pages of DescribeComputeEnvironments and DescribeLaunchTemplates.
const (
	mostListed    = 100
	mostTemplates = 200
)

// Open makes the driver for one place. cfg decides endpoint, credentials, limits and retries.
func Open(cfg aws.Config, place fleet.Place, _ clock.Clock) kind.Driver {
	return &driver{batch: batch.NewFromConfig(cfg), ec2: ec2.NewFromConfig(cfg), place: place}
}

type driver struct {
	batch *batch.Client
	ec2   *ec2.Client
	place fleet.Place
}

func (d *driver) List(ctx context.Context, emit func(inventory.Resource) error) error {
	in := &batch.DescribeComputeEnvironmentsInput{MaxResults: aws.Int32(kind.PageSize(ctx, mostListed))}
	for {
		page, err := d.batch.DescribeComputeEnvironments(ctx, in)
		if err != nil {
			return fmt.Errorf("list Batch compute environments: %w", awsx.Plain(err))
		}
		resources, err := d.resources(ctx, page.ComputeEnvironments)
		if err != nil {
			return err
		}
		for i := range resources {
			if err := emit(resources[i]); err != nil {
				return err
			}
		}
		if aws.ToString(page.NextToken) == "" {
			return nil
		}
		in.NextToken = page.NextToken
	}
}

func (d *driver) Read(ctx context.Context, id string) (inventory.Resource, error) {
	out, err := d.batch.DescribeComputeEnvironments(ctx, &batch.DescribeComputeEnvironmentsInput{ComputeEnvironments: []string{id}})
	if err != nil {
		return inventory.Resource{}, fmt.Errorf("read Batch compute environment %s: %w", id, awsx.Plain(err))
	}
	resources, err := d.resources(ctx, out.ComputeEnvironments)
	if err != nil {
		return inventory.Resource{}, err
	}
	for i := range resources {
		if resources[i].Ref.ID == id {
			return resources[i], nil
		}
	}
	return inventory.Resource{}, kind.Errorf(fleet.ErrGone, d.place, actionDescribe,
		"Batch compute environment %s does not exist, or launches no instances itself", id)
}

// resources turns environments into ours, those that launch instances, and finds the templates that they call by name.
func (d *driver) resources(ctx context.Context, all []types.ComputeEnvironmentDetail) ([]inventory.Resource, error) {
	var out []inventory.Resource
	var names []string
	for i := range all {
		if !launches(&all[i]) {
			continue
		}
		r := d.resource(&all[i])
		for _, field := range versionFields(r.State) {
			if _, name := namedBy(field); r.State[name] != "" {
				names = append(names, r.State[name])
			}
		}
		out = append(out, r)
	}
	ids, err := d.templateIDs(ctx, names)
	if err != nil {
		return nil, err
	}
	for i := range out {
		d.link(&out[i], ids)
	}
	return out, nil
}

// templateIDs finds launch templates by name. One that does not exist is missing from the map.
func (d *driver) templateIDs(ctx context.Context, names []string) (map[string]string, error) {
	ids := map[string]string{}
	for len(names) > 0 {
		n := min(len(names), mostTemplates)
		in := &ec2.DescribeLaunchTemplatesInput{
			Filters:    []ec2types.Filter{{Name: aws.String("launch-template-name"), Values: names[:n]}},
			MaxResults: aws.Int32(mostTemplates),
		}
		for {
			page, err := d.ec2.DescribeLaunchTemplates(ctx, in)
			if err != nil {
				return nil, fmt.Errorf("find the launch templates of Batch compute environments by name: %w", awsx.Plain(err))
			}
			for _, t := range page.LaunchTemplates {
				ids[aws.ToString(t.LaunchTemplateName)] = aws.ToString(t.LaunchTemplateId)
			}
			if aws.ToString(page.NextToken) == "" {
				break
			}
			in.NextToken = page.NextToken
		}
		names = names[n:]
	}
	return ids, nil
}

// Write starts the infrastructure update that sets the versions. Batch takes no client token; the same request again asks for
// what is there already, which changes nothing.
func (d *driver) Write(ctx context.Context, w kind.Write) (kind.Result, error) {
	_, versions := changedVersions(w.Before, w.After)
	if w.Verb != VerbSetLaunchVersion || !versions {
		return kind.Result{}, kind.Errorf(fleet.ErrInvalid, d.place, actionUpdate,
			"Batch compute environment %s: %s cannot write %s", w.ID, w.Verb, fleet.DescribeDiff(w.Before, w.After))
	}
	if err := checked(w.After); err != nil {
		return kind.Result{}, kind.Errorf(fleet.ErrInvalid, d.place, actionUpdate, "Batch compute environment %s: %w", w.ID, err)
	}
	out, err := d.batch.UpdateComputeEnvironment(ctx, &batch.UpdateComputeEnvironmentInput{
		ComputeEnvironment: aws.String(w.ID),
		ComputeResources:   &types.ComputeResourceUpdate{LaunchTemplate: specification(w.After)},
	})
	if err != nil {
		return kind.Result{}, d.refused(w.ID, err)
	}
	id, _ := awsmiddleware.GetRequestIDMetadata(out.ResultMetadata)
	return kind.Result{RequestID: id}, nil
}

// refused tells apart what Batch calls by one name, ClientException, by its message.
func (d *driver) refused(id string, err error) error {
	const what = "update the launch template of Batch compute environment %s: %w"
	if awsx.Code(err) == "ClientException" {
		switch text := err.Error(); {
		case strings.Contains(text, "being modified"):
			return kind.Errorf(fleet.ErrConflict, d.place, actionUpdate, what, id, awsx.Plain(err))
		case strings.Contains(text, "does not exist"):
			return kind.Errorf(fleet.ErrGone, d.place, actionUpdate, what, id, awsx.Plain(err))
		}
	}
	return fmt.Errorf(what, id, awsx.Plain(err))
}

// Find tells whether a start took effect: Batch shows the new versions from then on. It takes no marker, and needs none: an
// environment is one thing, and what it names was named by this write or by one that wanted the same.
func (d *driver) Find(ctx context.Context, w kind.Write) (kind.Result, error) {
	if w.Verb != VerbSetLaunchVersion {
		return kind.Result{}, kind.ErrNotFound
	}
	r, err := d.Read(ctx, w.ID)
	if err != nil {
		return kind.Result{}, err
	}
	for _, field := range versionFields(w.After) {
		if r.State[field] != w.After[field] {
			return kind.Result{}, kind.ErrNotFound
		}
	}
	return kind.Result{}, nil
}
