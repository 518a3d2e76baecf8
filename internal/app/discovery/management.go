package discovery

import (
	"context"
	"fmt"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/organizations"

	"github.com/imdsctl/imdsctl/internal/awsx"
	"github.com/imdsctl/imdsctl/internal/fleet"
	"github.com/imdsctl/imdsctl/internal/policy"
)

// Management tells the global place of the account that manages the organization, which is where the organization's own
// policies are read and written; ok tells whether there is one to be looked at. Where the configuration names the accounts
// itself, Organizations need not answer, and there is none if it does not. Where the accounts come from Organizations, an
// error says why it could not be told, and the place is the one that was asked.
func (f *Finder) Management(ctx context.Context) (place fleet.Place, ok bool, err error) {
	caller, err := f.edge.Caller(ctx)
	if err != nil {
		return fleet.Place{}, false, err
	}
	partition, err := f.Partition(ctx)
	if err != nil {
		return fleet.Place{}, false, err
	}
	session, err := f.management(partition, caller)
	if err != nil {
		return fleet.Place{}, false, err
	}
	place = fleet.Place{Partition: partition, Account: session.Place().Account}
	out, err := organizations.NewFromConfig(session.Config()).DescribeOrganization(ctx,
		&organizations.DescribeOrganizationInput{})
	switch {
	case err != nil && f.config.Organization.Discover != policy.DiscoverOrganizations && ctx.Err() == nil:
		return place, false, nil
	case err != nil:
		return place, false, fmt.Errorf("find out which account manages the organization: %w", awsx.Plain(err))
	case out.Organization == nil || !fleet.AccountID(aws.ToString(out.Organization.MasterAccountId)).Valid():
		return place, false, fmt.Errorf("find out which account manages the organization: the answer names none")
	}
	place.Account = fleet.AccountID(aws.ToString(out.Organization.MasterAccountId))
	return place, true, nil
}
