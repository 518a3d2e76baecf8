// Package cloudformation reads the CloudFormation stacks of a place and what they manage.
//
// It owns which stacks count and the paging of both lists. It gives claims of package owners and decides nothing about them.
// Reading changes nothing in AWS.
package cloudformation

import (
	"context"
	"fmt"

	"github.com/aws/aws-sdk-go-v2/aws"
	sdk "github.com/aws/aws-sdk-go-v2/service/cloudformation"
	"github.com/aws/aws-sdk-go-v2/service/cloudformation/types"

	"github.com/imdsctl/imdsctl/internal/awsx"
	"github.com/imdsctl/imdsctl/internal/fleet"
	"github.com/imdsctl/imdsctl/internal/owners"
)

// Reader reads the stacks of one place, as one caller. It is safe for several goroutines.
type Reader struct {
	client *sdk.Client
	place  fleet.Place
}

// New makes a reader. It makes no call.
func New(cfg aws.Config, place fleet.Place) *Reader {
	return &Reader{client: sdk.NewFromConfig(cfg), place: place}
}

// Claims gives the claims of all stacks of the place that are there. With an error what came before it was given, and more is
// unknown; the error is a *fleet.CallError.
func (r *Reader) Claims(ctx context.Context, yield func(owners.Claim)) error {
	stacks, err := r.stacks(ctx)
	if err != nil {
		return err
	}
	book := owners.NewStacks(r.place, stacks)
	for _, st := range stacks {
		if err := r.resources(ctx, book, st, yield); err != nil && fleet.ClassOf(err) != fleet.ErrGone {
			return err
		}
	}
	return nil
}

// stacks lists the stacks that are not deleted. One that is being deleted, or whose creation failed, may still have resources.
func (r *Reader) stacks(ctx context.Context) ([]owners.Stack, error) {
	in := &sdk.ListStacksInput{StackStatusFilter: there()}
	var out []owners.Stack
	for {
		page, err := r.client.ListStacks(ctx, in)
		if err != nil {
			return nil, fmt.Errorf("list CloudFormation stacks: %w", awsx.Plain(err))
		}
		for _, s := range page.StackSummaries {
			out = append(out, owners.Stack{ID: aws.ToString(s.StackId), Name: aws.ToString(s.StackName), Root: aws.ToString(s.RootId)})
		}
		if in.NextToken = page.NextToken; aws.ToString(in.NextToken) == "" {
			return out, nil
		}
	}
}

// there are all statuses but that of a stack that was deleted, which ListStacks tells of for 90 days, and that of one that was
// never begun.
func there() []types.StackStatus {
	var out []types.StackStatus
	for _, s := range types.StackStatus("").Values() {
		if s != types.StackStatusDeleteComplete && s != types.StackStatusReviewInProgress {
			out = append(out, s)
		}
	}
	return out
}

func (r *Reader) resources(ctx context.Context, book *owners.Stacks, st owners.Stack, yield func(owners.Claim)) error {
	in := &sdk.ListStackResourcesInput{StackName: aws.String(st.ID)}
	for {
		page, err := r.client.ListStackResources(ctx, in)
		if err != nil {
			return fmt.Errorf("list the resources of CloudFormation stack %s: %w", st.Name, awsx.Plain(err))
		}
		for _, s := range page.StackResourceSummaries {
			if s.ResourceStatus == types.ResourceStatusDeleteComplete || s.ResourceStatus == types.ResourceStatusDeleteSkipped {
				continue
			}
			c, ok := book.Claim(st, owners.StackResource{Logical: aws.ToString(s.LogicalResourceId),
				Physical: aws.ToString(s.PhysicalResourceId), Type: aws.ToString(s.ResourceType)})
			if ok {
				yield(c)
			}
		}
		if in.NextToken = page.NextToken; aws.ToString(in.NextToken) == "" {
			return nil
		}
	}
}
