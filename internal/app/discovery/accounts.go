package discovery

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/arn"
	"github.com/aws/aws-sdk-go-v2/service/organizations"
	"github.com/aws/aws-sdk-go-v2/service/organizations/types"

	"github.com/imdsctl/imdsctl/internal/awsx"
	"github.com/imdsctl/imdsctl/internal/fleet"
	"github.com/imdsctl/imdsctl/internal/inventory"
	"github.com/imdsctl/imdsctl/internal/policy"
)

// Accounts lists the accounts in the way the configuration chooses, by number, with what is known of them. What about
// them could not be read (their organizational units, their tags) is a note; an error means that the list is not known.
func (f *Finder) Accounts(ctx context.Context) ([]inventory.Account, []fleet.Diagnostic, error) {
	caller, err := f.edge.Caller(ctx)
	if err != nil {
		return nil, nil, err
	}
	partition := f.config.Organization.Partition
	if partition == "" {
		partition = caller.Partition
	}
	if partition != caller.Partition {
		return nil, nil, fleet.Diagnostic{Severity: fleet.SeverityError, Where: "organization.partition",
			Summary: fmt.Sprintf("the configuration is for partition %s, and the credentials are of %s", partition,
				caller.Partition),
			Remedy: "Use credentials of that partition, or correct `organization.partition`."}
	}
	var out []inventory.Account
	var notes []fleet.Diagnostic
	switch f.config.Organization.Discover {
	case policy.DiscoverSelf:
		out = []inventory.Account{{Partition: partition, ID: caller.Account}}
	case policy.DiscoverList:
		for _, a := range f.config.Accounts {
			out = append(out, inventory.Account{Partition: partition, ID: a.ID})
		}
	default:
		out, notes, err = f.organization(ctx, partition, caller)
		if err != nil {
			return nil, notes, err
		}
	}
	for i := range out {
		f.complete(&out[i])
	}
	slices.SortFunc(out, func(a, b inventory.Account) int { return strings.Compare(string(a.ID), string(b.ID)) })
	return out, notes, nil
}

// complete lays what the configuration says of an account over what AWS says.
func (f *Finder) complete(a *inventory.Account) {
	known := f.config.Known(policy.AccountFacts{ID: a.ID, Name: a.Name, Tags: a.Tags})
	a.Name, a.Tags = known.Name, known.Tags
}

// organization lists the accounts of the caller's organization. Walking down its tree tells each account's
// organizational unit in fewer calls than asking for the parents of each; where the tree may not be read, the plain
// list has to do.
func (f *Finder) organization(
	ctx context.Context, partition fleet.Partition, caller awsx.Identity,
) ([]inventory.Account, []fleet.Diagnostic, error) {
	session, err := f.management(partition, caller)
	if err != nil {
		return nil, nil, err
	}
	t := &tree{client: organizations.NewFromConfig(session.Config()), partition: partition}
	var notes []fleet.Diagnostic
	err = t.walk(ctx)
	if fleet.ClassOf(err) == fleet.ErrDenied {
		notes = append(notes, fleet.Diagnostic{Severity: fleet.SeverityWarning, Where: "organization",
			Summary: "the organizational units could not be read, so no rule that names one applies: " + err.Error(),
			Remedy:  "Allow organizations:ListRoots, ListOrganizationalUnitsForParent and ListAccountsForParent, or run `imdsctl roles`."})
		err = t.list(ctx)
	}
	if err != nil {
		return nil, notes, f.explain(err)
	}
	if f.needsTags() {
		notes = append(notes, t.tags(ctx)...)
	}
	return t.accounts, notes, ctx.Err()
}

// explain says what to do about an organization that cannot be listed.
func (f *Finder) explain(err error) error {
	if c := fleet.ClassOf(err); c != fleet.ErrDenied && !strings.Contains(err.Error(), "AWSOrganizationsNotInUse") {
		return err
	}
	return fmt.Errorf("%w: %w", fleet.Diagnostic{Severity: fleet.SeverityError, Where: "organization",
		Summary: "the accounts of the organization could not be listed",
		Remedy: "Use credentials of the management account or of a delegated administrator, set `organization.management_role`, or " +
			"list the `accounts` in the configuration."}, err)
}

// management is the session that may list the accounts: the caller's own, or that of the management role.
func (f *Finder) management(partition fleet.Partition, caller awsx.Identity) (*awsx.Session, error) {
	o := f.config.Organization
	place := fleet.Place{Partition: partition, Account: caller.Account, Region: partition.HomeRegion()}
	if o.ManagementRole == "" {
		return f.edge.Session(place, awsx.Role{}), nil
	}
	parsed, err := arn.Parse(o.ManagementRole)
	if err != nil {
		return nil, fmt.Errorf("organization.management_role %q: %w", o.ManagementRole, err)
	}
	place.Account = fleet.AccountID(parsed.AccountID)
	return f.edge.Session(place, awsx.Role{ARN: o.ManagementRole, ExternalID: o.Role.ExternalID,
		SessionName: o.Role.SessionName,
		Duration:    o.Role.Duration}), nil
}

// needsTags tells whether any rule looks at the tags of accounts; they cost a call for each account.
func (f *Finder) needsTags() bool {
	return slices.ContainsFunc(f.config.Criticality.Rules,
		func(r policy.CriticalityRule) bool { return len(r.Match.Tag) > 0 })
}

// tree is an organization as it is read.
type tree struct {
	client    *organizations.Client
	partition fleet.Partition
	accounts  []inventory.Account
}

func (t *tree) walk(ctx context.Context) error {
	t.accounts = nil
	roots := organizations.NewListRootsPaginator(t.client, &organizations.ListRootsInput{})
	for roots.HasMorePages() {
		out, err := roots.NextPage(ctx)
		if err != nil {
			return fmt.Errorf("list the roots of the organization: %w", awsx.Plain(err))
		}
		for _, r := range out.Roots {
			if err := t.below(ctx, aws.ToString(r.Id), nil, nil); err != nil {
				return err
			}
		}
	}
	return nil
}

// below reads what is under a root or an organizational unit.
func (t *tree) below(ctx context.Context, parent string, path, ids []string) error {
	accounts := organizations.NewListAccountsForParentPaginator(t.client,
		&organizations.ListAccountsForParentInput{ParentId: &parent})
	for accounts.HasMorePages() {
		out, err := accounts.NextPage(ctx)
		if err != nil {
			return fmt.Errorf("list the accounts under %s: %w", parent, awsx.Plain(err))
		}
		t.add(out.Accounts, path, ids)
	}
	units := organizations.NewListOrganizationalUnitsForParentPaginator(t.client,
		&organizations.ListOrganizationalUnitsForParentInput{ParentId: &parent})
	for units.HasMorePages() {
		out, err := units.NextPage(ctx)
		if err != nil {
			return fmt.Errorf("list the organizational units under %s: %w", parent, awsx.Plain(err))
		}
		for _, u := range out.OrganizationalUnits {
			id := aws.ToString(u.Id)
			if err := t.below(ctx, id, append(slices.Clone(path), aws.ToString(u.Name)), append(slices.Clone(ids),
				id)); err != nil {
				return err
			}
		}
	}
	return nil
}

// list reads the accounts without their places in the tree.
func (t *tree) list(ctx context.Context) error {
	t.accounts = nil
	pages := organizations.NewListAccountsPaginator(t.client, &organizations.ListAccountsInput{})
	for pages.HasMorePages() {
		out, err := pages.NextPage(ctx)
		if err != nil {
			return fmt.Errorf("list the accounts of the organization: %w", awsx.Plain(err))
		}
		t.add(out.Accounts, nil, nil)
	}
	return nil
}

func (t *tree) add(found []types.Account, path, ids []string) {
	for _, a := range found {
		status := string(a.State)
		if status == "" {
			status = string(a.Status) // answers from before State was introduced
		}
		t.accounts = append(t.accounts, inventory.Account{Partition: t.partition, ID: fleet.AccountID(aws.ToString(a.Id)),
			Name: aws.ToString(a.Name), OU: strings.Join(path, "/"), OUIDs: ids, Status: status})
	}
}

// tags reads the tags of each account. Those that cannot be read are one note.
func (t *tree) tags(ctx context.Context) []fleet.Diagnostic {
	var failed []fleet.AccountID
	var last error
	for i := range t.accounts {
		if err := t.tagsOf(ctx, &t.accounts[i]); err != nil {
			failed, last = append(failed, t.accounts[i].ID), err
			if c := fleet.ClassOf(err); c == fleet.ErrDenied || c == fleet.ErrExpired || errors.Is(err, context.Canceled) {
				break
			}
		}
	}
	if last == nil {
		return nil
	}
	return []fleet.Diagnostic{{Severity: fleet.SeverityWarning, Where: "organization",
		Summary: fmt.Sprintf("the tags of accounts could not be read (account %s and perhaps others), so no criticality rule by tag "+
			"applies to them: %v", failed[0], last),
		Remedy: "Allow organizations:ListTagsForResource, or name the accounts' criticality in the configuration."}}
}

func (t *tree) tagsOf(ctx context.Context, a *inventory.Account) error {
	pages := organizations.NewListTagsForResourcePaginator(t.client,
		&organizations.ListTagsForResourceInput{ResourceId: aws.String(string(a.ID))})
	tags := map[string]string{}
	for pages.HasMorePages() {
		out, err := pages.NextPage(ctx)
		if err != nil {
			return fmt.Errorf("list the tags of account %s: %w", a.ID, awsx.Plain(err))
		}
		for _, tag := range out.Tags {
			tags[aws.ToString(tag.Key)] = aws.ToString(tag.Value)
		}
	}
	a.Tags = tags
	return nil
}
