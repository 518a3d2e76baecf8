package sagemakernotebook

import (
	"context"
	"fmt"

	"github.com/aws/aws-sdk-go-v2/aws"
	awsmiddleware "github.com/aws/aws-sdk-go-v2/aws/middleware"
	"github.com/aws/aws-sdk-go-v2/service/sagemaker"
	"github.com/aws/aws-sdk-go-v2/service/sagemaker/types"
	"github.com/aws/smithy-go/middleware"

	"github.com/imdsctl/imdsctl/internal/awsx"
	"github.com/imdsctl/imdsctl/internal/clock"
	"github.com/imdsctl/imdsctl/internal/fleet"
	"github.com/imdsctl/imdsctl/internal/inventory"
	"github.com/imdsctl/imdsctl/internal/kind"
)

// mostResults is the largest page (API reference, ListNotebookInstances).
const mostResults = 100

// Open makes the driver for one place. cfg decides endpoint, credentials, limits and retries.
func Open(cfg aws.Config, place fleet.Place, _ clock.Clock) kind.Driver {
	return &driver{client: sagemaker.NewFromConfig(cfg), place: place}
}

type driver struct {
	client *sagemaker.Client
	place  fleet.Place
}

// List describes each notebook instance by itself: the list does not say the minimum version. One that is deleted meanwhile
// is left out.
func (d *driver) List(ctx context.Context, emit func(inventory.Resource) error) error {
	in := &sagemaker.ListNotebookInstancesInput{
		MaxResults: aws.Int32(kind.PageSize(ctx, mostResults)),
		SortBy:     types.NotebookInstanceSortKeyName, SortOrder: types.NotebookInstanceSortOrderAscending,
	}
	for {
		out, err := d.client.ListNotebookInstances(ctx, in)
		if err != nil {
			return fmt.Errorf("list notebook instances: %w", awsx.Plain(err))
		}
		for i := range out.NotebookInstances {
			r, err := d.describe(ctx, aws.ToString(out.NotebookInstances[i].NotebookInstanceName))
			if fleet.ClassOf(err) == fleet.ErrGone {
				continue
			}
			if err != nil {
				return fmt.Errorf("list notebook instances: %w", err)
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
	r, err := d.describe(ctx, id)
	if err != nil {
		return inventory.Resource{}, err
	}
	if r.Status == inventory.StatusTerminated {
		return inventory.Resource{}, kind.Errorf(fleet.ErrGone, d.place, actionDescribe, "notebook instance %s is being deleted", id)
	}
	return r, nil
}

// describe reads one notebook instance with its tags.
func (d *driver) describe(ctx context.Context, id string) (inventory.Resource, error) {
	out, err := d.client.DescribeNotebookInstance(ctx, &sagemaker.DescribeNotebookInstanceInput{NotebookInstanceName: aws.String(id)})
	if err != nil {
		return inventory.Resource{}, fmt.Errorf("read notebook instance %s: %w", id, awsx.Plain(err))
	}
	r := inventory.Resource{
		Ref:   fleet.Ref{Place: d.place, Kind: inventory.KindNotebook, ID: aws.ToString(out.NotebookInstanceName)},
		Name:  aws.ToString(out.NotebookInstanceName),
		State: fleet.State{},
		Attrs: map[string]string{inventory.AttrInstanceType: string(out.InstanceType)},
	}
	if c := out.InstanceMetadataServiceConfiguration; c != nil && aws.ToString(c.MinimumInstanceMetadataServiceVersion) != "" {
		r.State[FieldMinimum] = *c.MinimumInstanceMetadataServiceVersion
	}
	r.Says = says(r.State)
	stand := standing(out.NotebookInstanceStatus)
	r.State[FieldStatus], r.Status, r.Settling = stand.settled, stand.status, stand.settling
	if r.Tags, err = d.tags(ctx, id, aws.ToString(out.NotebookInstanceArn)); err != nil {
		return inventory.Resource{}, err
	}
	r.Owner = kind.OwnerByTags(r.Tags)
	return r, nil
}

func (d *driver) tags(ctx context.Context, id, arn string) (map[string]string, error) {
	var out map[string]string
	in := &sagemaker.ListTagsInput{ResourceArn: aws.String(arn)}
	for {
		page, err := d.client.ListTags(ctx, in)
		if err != nil {
			return nil, fmt.Errorf("read the tags of notebook instance %s: %w", id, awsx.Plain(err))
		}
		for _, t := range page.Tags {
			if out == nil {
				out = map[string]string{}
			}
			out[aws.ToString(t.Key)] = aws.ToString(t.Value)
		}
		if aws.ToString(page.NextToken) == "" {
			return out, nil
		}
		in.NextToken = page.NextToken
	}
}

// says puts the minimum version into the words of the other kinds. Where the API does not say it, both versions are
// answered (API reference, InstanceMetadataServiceConfiguration).
func says(s fleet.State) *fleet.Options {
	if s[FieldMinimum] == minimumV2 {
		return &fleet.Options{Tokens: fleet.TokensRequired}
	}
	return &fleet.Options{Tokens: fleet.TokensOptional}
}

// stand is what a status means: the status at which it settles, and whether it is still on its way there.
type stand struct {
	settled  string
	status   inventory.Status
	settling bool
}

func standing(s types.NotebookInstanceStatus) stand {
	switch s {
	case types.NotebookInstanceStatusInService:
		return stand{statusInService, inventory.StatusRunning, false}
	case types.NotebookInstanceStatusPendingMaintenance, types.NotebookInstanceStatusInMaintenance:
		return stand{statusInService, inventory.StatusRunning, true}
	case types.NotebookInstanceStatusPending:
		return stand{statusInService, inventory.StatusPending, true}
	case types.NotebookInstanceStatusStopped:
		return stand{statusStopped, inventory.StatusStopped, false}
	case types.NotebookInstanceStatusStopping, types.NotebookInstanceStatusUpdating:
		return stand{statusStopped, inventory.StatusStopped, true}
	case types.NotebookInstanceStatusDeleting:
		return stand{string(s), inventory.StatusTerminated, false}
	case types.NotebookInstanceStatusFailed:
		return stand{statusFailed, inventory.StatusStopped, false}
	default: // a status that came after this was written: it is shown, and nothing is proposed for it
		return stand{string(s), inventory.StatusPending, false}
	}
}

// Write makes the one call that takes the resource to w.After; a revert is the same the other way round.
func (d *driver) Write(ctx context.Context, w kind.Write) (kind.Result, error) {
	switch to := w.After[FieldStatus]; {
	case w.Verb == VerbSetMinimum:
		return d.setMinimum(ctx, w)
	case (w.Verb == VerbStop || w.Verb == VerbStart) && w.After[FieldMinimum] == w.Before[FieldMinimum] && to == statusStopped:
		out, err := d.client.StopNotebookInstance(ctx, &sagemaker.StopNotebookInstanceInput{NotebookInstanceName: aws.String(w.ID)})
		if err != nil {
			return kind.Result{}, fmt.Errorf("stop notebook instance %s: %w", w.ID, awsx.Plain(err))
		}
		return done(out.ResultMetadata), nil
	case (w.Verb == VerbStop || w.Verb == VerbStart) && w.After[FieldMinimum] == w.Before[FieldMinimum] && to == statusInService:
		out, err := d.client.StartNotebookInstance(ctx, &sagemaker.StartNotebookInstanceInput{NotebookInstanceName: aws.String(w.ID)})
		if err != nil {
			return kind.Result{}, fmt.Errorf("start notebook instance %s: %w", w.ID, awsx.Plain(err))
		}
		return done(out.ResultMetadata), nil
	}
	return kind.Result{}, kind.Errorf(fleet.ErrInvalid, d.place, actionUpdate, "notebook instance %s: verb %q cannot make %s", w.ID,
		w.Verb, fleet.DescribeDiff(w.Before, w.After))
}

func (d *driver) setMinimum(ctx context.Context, w kind.Write) (kind.Result, error) {
	minimum, said := w.After[FieldMinimum]
	switch {
	case !said:
		return kind.Result{}, kind.Errorf(fleet.ErrConflict, d.place, actionUpdate, "set the minimum version of notebook instance %s: "+
			"SageMaker cannot be told to leave it unsaid; set it to 1 by hand, which is what it means", w.ID)
	case w.Before[FieldStatus] != statusStopped || w.After[FieldStatus] != statusStopped:
		return kind.Result{}, kind.Errorf(fleet.ErrConflict, d.place, actionUpdate, "set the minimum version of notebook instance %s: "+
			"it must be stopped before and after, and is %s", w.ID, w.Before[FieldStatus])
	}
	out, err := d.client.UpdateNotebookInstance(ctx, &sagemaker.UpdateNotebookInstanceInput{
		NotebookInstanceName: aws.String(w.ID),
		InstanceMetadataServiceConfiguration: &types.InstanceMetadataServiceConfiguration{
			MinimumInstanceMetadataServiceVersion: aws.String(minimum),
		},
	})
	if err != nil {
		return kind.Result{}, fmt.Errorf("set the minimum version of notebook instance %s: %w", w.ID, awsx.Plain(err))
	}
	return done(out.ResultMetadata), nil
}

func done(metadata middleware.Metadata) kind.Result {
	id, _ := awsmiddleware.GetRequestIDMetadata(metadata)
	return kind.Result{RequestID: id}
}

// Find has nothing to look for: no verb creates.
func (d *driver) Find(context.Context, kind.Write) (kind.Result, error) {
	return kind.Result{}, kind.ErrNotFound
}
