package organizationpolicy

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awsmiddleware "github.com/aws/aws-sdk-go-v2/aws/middleware"
	"github.com/aws/aws-sdk-go-v2/service/organizations"
	"github.com/aws/aws-sdk-go-v2/service/organizations/types"

	"github.com/imdsctl/imdsctl/internal/assess"
	"github.com/imdsctl/imdsctl/internal/awsx"
	"github.com/imdsctl/imdsctl/internal/clock"
	"github.com/imdsctl/imdsctl/internal/fleet"
	"github.com/imdsctl/imdsctl/internal/inventory"
	"github.com/imdsctl/imdsctl/internal/kind"
)

// mostResults is the largest page that Organizations gives.
const mostResults = 20

// Open makes the driver for the global place of a management account. cfg decides endpoint, credentials, limits and retries.
func Open(cfg aws.Config, place fleet.Place, c clock.Clock) kind.Driver {
	return &driver{client: organizations.NewFromConfig(cfg), place: place, clock: c}
}

type driver struct {
	client *organizations.Client
	place  fleet.Place
	clock  clock.Clock

	mu       sync.Mutex
	accounts []types.Account
	listed   time.Time
}

// List reads the service control policies and then the declarative ones: the documents of all but AWS's own, and the
// targets of those that concern metadata options.
func (d *driver) List(ctx context.Context, emit func(inventory.Resource) error) error {
	d.forget()
	for _, t := range []types.PolicyType{types.PolicyTypeServiceControlPolicy, types.PolicyTypeDeclarativePolicyEc2} {
		pages := organizations.NewListPoliciesPaginator(d.client, &organizations.ListPoliciesInput{
			Filter: t, MaxResults: aws.Int32(kind.PageSize(ctx, mostResults)),
		})
		for pages.HasMorePages() {
			page, err := pages.NextPage(ctx)
			if err != nil {
				return fmt.Errorf("list the organization's policies of type %s: %w", t, awsx.Plain(err))
			}
			for i := range page.Policies {
				if err := d.listedPolicy(ctx, &page.Policies[i], emit); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// listedPolicy emits a listed policy if it is ours.
func (d *driver) listedPolicy(ctx context.Context, s *types.PolicySummary, emit func(inventory.Resource) error) error {
	if s.AwsManaged {
		return nil
	}
	p, err := d.describe(ctx, aws.ToString(s.Id))
	switch {
	case fleet.ClassOf(err) == fleet.ErrGone: // deleted since it was listed
		return nil
	case err != nil:
		return err
	case len(mentioned(string(p.PolicySummary.Type), aws.ToString(p.Content))) == 0:
		return nil
	}
	r, err := d.resource(ctx, p)
	if err != nil {
		return err
	}
	return emit(r)
}

// Read gives a policy as it is now, also one that has ceased to mention metadata options.
func (d *driver) Read(ctx context.Context, id string) (inventory.Resource, error) {
	p, err := d.describe(ctx, id)
	if err != nil {
		return inventory.Resource{}, err
	}
	if t := string(p.PolicySummary.Type); t != typeControl && t != typeDeclarative || p.PolicySummary.AwsManaged {
		return inventory.Resource{}, kind.Errorf(fleet.ErrGone, d.place, actionDescribe,
			"policy %s is of type %s and not one that decides on metadata options here", id, t)
	}
	return d.resource(ctx, p)
}

func (d *driver) describe(ctx context.Context, id string) (*types.Policy, error) {
	if !policyID.MatchString(id) {
		return nil, kind.Errorf(fleet.ErrGone, d.place, actionDescribe, "%q is no id of a policy", id)
	}
	out, err := d.client.DescribePolicy(ctx, &organizations.DescribePolicyInput{PolicyId: &id})
	if err != nil {
		return nil, fmt.Errorf("read the organization's policy %s: %w", id, awsx.Plain(err))
	}
	if out.Policy == nil || out.Policy.PolicySummary == nil {
		return nil, kind.Errorf(fleet.ErrOther, d.place, actionDescribe, "the answer about policy %s has no policy in it", id)
	}
	return out.Policy, nil
}

// resource completes a policy with its targets and the accounts below them.
func (d *driver) resource(ctx context.Context, p *types.Policy) (inventory.Resource, error) {
	id, t, content := aws.ToString(p.PolicySummary.Id), string(p.PolicySummary.Type), aws.ToString(p.Content)
	targets, err := d.targets(ctx, id)
	if err != nil {
		return inventory.Resource{}, err
	}
	bound, err := d.bound(ctx, t, targets)
	if err != nil {
		return inventory.Resource{}, err
	}
	r := inventory.Resource{
		Ref:   fleet.Ref{Place: d.place, Kind: inventory.KindOrganizationPolicy, ID: id},
		Name:  aws.ToString(p.PolicySummary.Name),
		State: fleet.State{FieldContent: content, FieldType: t},
		Says:  says(t, content), Attrs: map[string]string{},
	}
	if len(targets) > 0 {
		r.State[FieldTargets] = strings.Join(targets, ",")
	}
	if len(bound) > 0 {
		r.Attrs[assess.AttrAccounts] = strings.Join(bound, ",")
	}
	if m := mentioned(t, content); len(m) > 0 {
		r.Attrs[AttrMentions] = strings.Join(m, ",")
	}
	return r, nil
}

// targets lists what a policy is attached to, by id.
func (d *driver) targets(ctx context.Context, id string) ([]string, error) {
	var out []string
	pages := organizations.NewListTargetsForPolicyPaginator(d.client, &organizations.ListTargetsForPolicyInput{
		PolicyId: &id, MaxResults: aws.Int32(kind.PageSize(ctx, mostResults)),
	})
	for pages.HasMorePages() {
		page, err := pages.NextPage(ctx)
		if err != nil {
			return nil, fmt.Errorf("list what policy %s is attached to: %w", id, awsx.Plain(err))
		}
		for i := range page.Targets {
			out = append(out, aws.ToString(page.Targets[i].TargetId))
		}
	}
	slices.Sort(out)
	return out, nil
}

// bound lists the accounts at or below the targets, by id. Those that are suspended or closed are not among them: nothing
// can be launched there. A service control policy does not bind the management account.
func (d *driver) bound(ctx context.Context, policyType string, targets []string) ([]string, error) {
	if len(targets) == 0 {
		return nil, nil
	}
	accounts, err := d.all(ctx)
	if err != nil {
		return nil, err
	}
	var out []string
	for i := range accounts {
		a := &accounts[i]
		id := aws.ToString(a.Id)
		if !active(a) || policyType == typeControl && id == string(d.place.Account) {
			continue
		}
		if slices.ContainsFunc(targets, func(t string) bool { return t == id || below(a.Paths, t) }) {
			out = append(out, id)
		}
	}
	slices.Sort(out)
	return out, nil
}

// active tells whether an account can be used. Answers from before State was introduced have a Status.
func active(a *types.Account) bool {
	if a.State != "" {
		return a.State == types.AccountStateActive
	}
	return a.Status == types.AccountStatusActive
}

// below tells whether one of an account's paths ("o-…/r-…/ou-…/123456789012/") leads through the target.
func below(paths []string, target string) bool {
	return slices.ContainsFunc(paths, func(p string) bool { return slices.Contains(strings.Split(p, "/"), target) })
}

// accountsLife is how long the list of accounts is good for: they only tell whom a policy binds, and are hundreds of calls
// in a large organization.
const accountsLife = 10 * time.Minute

// forget has the accounts listed anew when they are needed next.
func (d *driver) forget() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.accounts = nil
}

// all lists the accounts of the organization.
func (d *driver) all(ctx context.Context) ([]types.Account, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if now := d.clock.Now(); d.accounts != nil && now.Sub(d.listed) < accountsLife {
		return d.accounts, nil
	}
	var out []types.Account
	pages := organizations.NewListAccountsPaginator(d.client, &organizations.ListAccountsInput{
		MaxResults: aws.Int32(kind.PageSize(ctx, mostResults)),
	})
	for pages.HasMorePages() {
		page, err := pages.NextPage(ctx)
		if err != nil {
			return nil, fmt.Errorf("list the accounts of the organization: %w", awsx.Plain(err))
		}
		out = append(out, page.Accounts...)
	}
	d.accounts, d.listed = out, d.clock.Now()
	return out, nil
}

// Write replaces the document.
func (d *driver) Write(ctx context.Context, w kind.Write) (kind.Result, error) {
	want := w.Before.With(fleet.State{FieldContent: w.After[FieldContent]})
	if w.Verb != VerbSetContent || w.After[FieldContent] == "" || !want.Equal(w.After) {
		return kind.Result{}, kind.Errorf(fleet.ErrInvalid, d.place, actionUpdate,
			"%s of policy %s: only the content of a policy is ever changed, and not to nothing", w.Verb, w.ID)
	}
	out, err := d.client.UpdatePolicy(ctx, &organizations.UpdatePolicyInput{
		PolicyId: &w.ID, Content: aws.String(w.After[FieldContent]),
	})
	if err != nil {
		return kind.Result{}, fmt.Errorf("set the content of the organization's policy %s: %w", w.ID, awsx.Plain(err))
	}
	id, _ := awsmiddleware.GetRequestIDMetadata(out.ResultMetadata)
	return kind.Result{RequestID: id}, nil
}

// Find has nothing to look for: no verb creates.
func (d *driver) Find(context.Context, kind.Write) (kind.Result, error) {
	return kind.Result{}, kind.ErrNotFound
}
