// Package discovery finds out which accounts there are, how to enter each of them, and which regions it has.
//
// It owns the choice of role for an account and the calls of Organizations, STS and EC2 that the questions take; what
// is done with the answers is the scan's matter. It keeps nothing on disk.
//
// Accounts are entered through the roles that the configuration names. The one exception is the caller's own account:
// where such a role cannot be assumed there, the caller's own credentials are used, because whoever deploys roles by
// StackSet leaves the management account out. (StackSets with service-managed permissions do not reach it.)
package discovery

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"

	"github.com/imdsctl/imdsctl/internal/awsx"
	"github.com/imdsctl/imdsctl/internal/fleet"
	"github.com/imdsctl/imdsctl/internal/inventory"
	"github.com/imdsctl/imdsctl/internal/policy"
)

// Finder answers the questions of one configuration and one caller. It is safe for many goroutines.
type Finder struct {
	edge   *awsx.Edge
	config *policy.Config

	mu sync.Mutex
	// own tells of the accounts that were tried whether they are entered with the caller's own credentials.
	own map[entry]bool
}

// entry is a way into an account: to read or to write.
type entry struct {
	account fleet.AccountID
	write   bool
}

// New makes a finder. It makes no call.
func New(edge *awsx.Edge, config *policy.Config) *Finder {
	return &Finder{edge: edge, config: config, own: map[entry]bool{}}
}

// Partition is the configured one, else that of the caller's credentials.
func (f *Finder) Partition(ctx context.Context) (fleet.Partition, error) {
	if p := f.config.Organization.Partition; p != "" {
		return p, nil
	}
	id, err := f.edge.Caller(ctx)
	return id.Partition, err
}

// Role is the role that reads, or writes, in an account. The zero Role is the caller's own credentials.
func (f *Finder) Role(place fleet.Place, write bool) awsx.Role {
	o := f.config.Organization
	name := o.ReadARN(place.Partition, place.Account)
	if write {
		name = o.WriteARN(place.Partition, place.Account)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if name == "" || f.own[entry{place.Account, write}] {
		return awsx.Role{}
	}
	return awsx.Role{ARN: name, ExternalID: o.Role.ExternalID, SessionName: o.Role.SessionName, Duration: o.Role.Duration}
}

// Enter decides how an account is entered: through its role, or, in the caller's own account where that role cannot be
// assumed, with the caller's own credentials. Other accounts cost no call.
func (f *Finder) Enter(ctx context.Context, place fleet.Place, write bool) error {
	key := entry{place.Account, write}
	f.mu.Lock()
	_, decided := f.own[key]
	f.mu.Unlock()
	if decided || f.Role(place, write).IsZero() {
		return nil
	}
	caller, err := f.edge.Caller(ctx)
	if err != nil {
		return err
	}
	refused := false
	if caller.Account == place.Account {
		_, err := f.Session(place, write).Identity(ctx)
		if refused = fleet.ClassOf(err) == fleet.ErrDenied; err != nil && !refused {
			return err
		}
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.own[key] = refused
	return nil
}

// Session is the way to a place, to read or to write there. Call Enter first where the account may be the caller's own.
func (f *Finder) Session(place fleet.Place, write bool) *awsx.Session {
	return f.edge.Session(place, f.Role(place, write))
}

// Regions tells the regions of an account: those it has enabled, and those it would have to opt in to.
func (f *Finder) Regions(ctx context.Context, account inventory.Account) (enabled, disabled []fleet.Region, err error) {
	place := fleet.Place{Partition: account.Partition, Account: account.ID}
	if err := f.Enter(ctx, place, false); err != nil {
		return nil, nil, err
	}
	for _, region := range f.askRegions(account.Partition) {
		place.Region = region
		enabled, disabled, err = f.regionsFrom(ctx, place)
		// A policy of the organization may close the home region to everything but global services.
		if fleet.ClassOf(err) != fleet.ErrDenied || isAssume(err) {
			break
		}
	}
	return enabled, disabled, err
}

// askRegions are the regions whose endpoint may be asked, in order.
func (f *Finder) askRegions(p fleet.Partition) []fleet.Region {
	out := []fleet.Region{p.HomeRegion()}
	candidates := append([]fleet.Region{f.edge.Region()}, f.config.Organization.Regions...)
	for _, r := range candidates {
		if r != "" && fleet.PartitionOf(r) == p && !slices.Contains(out, r) && len(out) < 3 {
			out = append(out, r)
		}
	}
	return out
}

func (f *Finder) regionsFrom(ctx context.Context, place fleet.Place) (enabled, disabled []fleet.Region, err error) {
	client := ec2.NewFromConfig(f.Session(place, false).Config())
	out, err := client.DescribeRegions(ctx, &ec2.DescribeRegionsInput{AllRegions: aws.Bool(true)})
	if err != nil {
		return nil, nil, fmt.Errorf("list the regions of account %s: %w", place.Account, awsx.Plain(err))
	}
	for _, r := range out.Regions {
		name := fleet.Region(aws.ToString(r.RegionName))
		if aws.ToString(r.OptInStatus) == "not-opted-in" {
			disabled = append(disabled, name)
			continue
		}
		enabled = append(enabled, name)
	}
	slices.Sort(enabled)
	slices.Sort(disabled)
	return enabled, disabled, nil
}

// isAssume tells an error of entering the account from one of being there.
func isAssume(err error) bool {
	call, ok := errors.AsType[*fleet.CallError](err)
	return ok && call.Action == "sts:AssumeRole"
}
