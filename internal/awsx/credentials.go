package awsx

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/arn"
	"github.com/aws/aws-sdk-go-v2/service/sts"

	"github.com/imdsctl/imdsctl/internal/clock"
	"github.com/imdsctl/imdsctl/internal/fleet"
)

// Identity is who a set of credentials belongs to.
type Identity struct {
	Account   fleet.AccountID `json:"account"`
	Partition fleet.Partition `json:"partition"`
	ARN       string          `json:"arn"`
}

const (
	// refreshEarly is how long before their end assumed credentials are replaced: longer than any one call may take.
	refreshEarly = 5 * time.Minute
	// refusalHolds is how long a refusal to assume a role is believed, so that each kind of each region of a closed
	// account does not ask again.
	refusalHolds = time.Minute
)

// credentialCache is an aws.CredentialsProvider that fetches at most once at a time and keeps what it got by the Edge's
// clock. (The SDK's own cache goes by the machine's clock, which means nothing in a rehearsal.)
type credentialCache struct {
	clock clock.Clock // nil: what fetch gives is cached by fetch itself
	fetch func(context.Context) (aws.Credentials, error)
	drop  func() // makes fetch forget

	turn    chan struct{} // guards the rest; a channel, so that waiting for it can be cancelled
	current aws.Credentials
	refused error
	until   time.Time // of refused
}

// ownCredentials wraps the caller's own provider, which caches by itself.
func ownCredentials(provider aws.CredentialsProvider) *credentialCache {
	c := &credentialCache{turn: make(chan struct{}, 1), drop: func() {}}
	c.fetch = func(ctx context.Context) (aws.Credentials, error) {
		if provider == nil {
			return aws.Credentials{}, errors.New("no AWS credentials are configured: set AWS_PROFILE, or log in")
		}
		creds, err := provider.Retrieve(ctx)
		if err != nil {
			return creds, fmt.Errorf("no usable AWS credentials (set AWS_PROFILE, or log in again): %w", err)
		}
		return creds, nil
	}
	if cache, ok := provider.(interface{ Invalidate() }); ok {
		c.drop = cache.Invalidate
	}
	return c
}

// Retrieve gives credentials that are good for some minutes more, or for as long as their issuer makes them.
func (c *credentialCache) Retrieve(ctx context.Context) (aws.Credentials, error) {
	if err := c.lock(ctx); err != nil {
		return aws.Credentials{}, err
	}
	defer c.unlock()
	return c.retrieve(ctx)
}

// refresh replaces the credentials that AWS just refused, and tells whether there are others now.
func (c *credentialCache) refresh(ctx context.Context, refused aws.Credentials) (changed bool, err error) {
	if err := c.lock(ctx); err != nil {
		return false, err
	}
	defer c.unlock()
	if same(c.current, refused) {
		c.drop()
		c.current = aws.Credentials{}
	}
	now, err := c.retrieve(ctx)
	if err != nil {
		return false, err
	}
	return !same(now, refused), nil
}

func (c *credentialCache) retrieve(ctx context.Context) (aws.Credentials, error) {
	if c.clock != nil {
		now := c.clock.Now()
		if c.refused != nil && now.Before(c.until) {
			return aws.Credentials{}, c.refused
		}
		if c.current.AccessKeyID != "" && (!c.current.CanExpire || now.Before(c.current.Expires.Add(-refreshEarly))) {
			return c.current, nil
		}
	}
	creds, err := c.fetch(ctx)
	if err != nil {
		if c.clock != nil && fleet.ClassOf(err) == fleet.ErrDenied {
			c.refused, c.until = err, c.clock.Now().Add(refusalHolds)
		}
		return aws.Credentials{}, err
	}
	c.current, c.refused = creds, nil
	return creds, nil
}

func (c *credentialCache) lock(ctx context.Context) error {
	select {
	case c.turn <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (c *credentialCache) unlock() { <-c.turn }

// renewable tells whether the credentials are a role's, which are fetched anew whenever they are refused.
func (c *credentialCache) renewable() bool { return c.clock != nil }

func same(a, b aws.Credentials) bool {
	return a.AccessKeyID == b.AccessKeyID && a.SecretAccessKey == b.SecretAccessKey && a.SessionToken == b.SessionToken
}

// caller is the identity of the base credentials, asked for once.
type caller struct {
	turn  chan struct{}
	known *Identity
}

// Caller tells whose credentials the caller has, by one call of sts:GetCallerIdentity, which needs no permission.
func (e *Edge) Caller(ctx context.Context) (Identity, error) {
	select {
	case e.identity.turn <- struct{}{}:
		defer func() { <-e.identity.turn }()
	case <-ctx.Done():
		return Identity{}, ctx.Err()
	}
	if e.identity.known != nil {
		return *e.identity.known, nil
	}
	partition := fleet.PartitionOf(e.Region())
	s := e.session(fleet.Place{Partition: partition, Region: e.stsRegion(partition)}, e.own)
	id, err := s.Identity(ctx)
	if err != nil {
		return Identity{}, err
	}
	e.identity.known = &id
	return id, nil
}

// stsRegion is where STS is called: the caller's region if it is of the partition, else the partition's home. Tokens of
// a regional endpoint hold in all regions; those of the global one do not in opt-in regions.
func (e *Edge) stsRegion(p fleet.Partition) fleet.Region {
	if r := e.Region(); r != "" && fleet.PartitionOf(r) == p {
		return r
	}
	return p.HomeRegion()
}

// callersOwn gives the base credentials for a place without a role, after making sure that they are of its account:
// without that, everything found would be filed under the wrong account.
func (e *Edge) callersOwn(place fleet.Place) *credentialCache {
	c := &credentialCache{turn: make(chan struct{}, 1), drop: e.own.drop}
	c.fetch = func(ctx context.Context) (aws.Credentials, error) {
		id, err := e.Caller(ctx)
		if err != nil {
			return aws.Credentials{}, err
		}
		if id.Account != place.Account || id.Partition != place.Partition {
			return aws.Credentials{}, &fleet.CallError{
				Class: fleet.ErrInvalid, Place: place, Action: "sts:AssumeRole",
				Err: fmt.Errorf("no role is configured for account %s, and the caller's own account is %s: configure a role "+
					"to assume, or use that account's credentials", place.Account, id.Account),
			}
		}
		return e.own.Retrieve(ctx)
	}
	return c
}

// assumed gives the cache of a role's credentials in an account, one for all its regions.
func (e *Edge) assumed(partition fleet.Partition, account fleet.AccountID, role Role) *credentialCache {
	key := string(partition) + "/" + string(account) + "/" + role.key()
	e.mu.Lock()
	defer e.mu.Unlock()
	if c, ok := e.roles[key]; ok {
		return c
	}
	c := &credentialCache{clock: e.clock, turn: make(chan struct{}, 1), drop: func() {}}
	c.fetch = func(ctx context.Context) (aws.Credentials, error) { return e.assume(ctx, partition, account, role) }
	e.roles[key] = c
	return c
}

func (e *Edge) assume(
	ctx context.Context, partition fleet.Partition, account fleet.AccountID, role Role,
) (aws.Credentials, error) {
	ctx = withoutHints(ctx)
	if err := role.Validate(); err != nil {
		return aws.Credentials{}, invalidRole(partition, account, err)
	}
	from, err := e.assumer(ctx, partition, role)
	if err != nil {
		return aws.Credentials{}, err
	}
	roleARN := role.ARNIn(partition, account)
	input := &sts.AssumeRoleInput{
		RoleArn: &roleARN, RoleSessionName: aws.String(role.session()),
		DurationSeconds: aws.Int32(int32(role.duration() / time.Second)),
	}
	if role.ExternalID != "" {
		input.ExternalId = &role.ExternalID
	}
	out, err := sts.NewFromConfig(from.Config()).AssumeRole(ctx, input)
	if err != nil {
		return aws.Credentials{}, fmt.Errorf("assume role %s: %w", roleARN, Plain(err))
	}
	if out.Credentials == nil || out.AssumedRoleUser == nil {
		err := fmt.Errorf("assume role %s: the answer has no credentials", roleARN)
		return aws.Credentials{}, invalidRole(partition, account, err)
	}
	got, err := arn.Parse(aws.ToString(out.AssumedRoleUser.Arn))
	if err != nil || fleet.AccountID(got.AccountID) != account {
		return aws.Credentials{}, invalidRole(partition, account, fmt.Errorf(
			"role %s gave credentials of account %q: let its ARN contain {account}", roleARN, got.AccountID))
	}
	return aws.Credentials{
		AccessKeyID:     aws.ToString(out.Credentials.AccessKeyId),
		SecretAccessKey: aws.ToString(out.Credentials.SecretAccessKey),
		SessionToken:    aws.ToString(out.Credentials.SessionToken),
		CanExpire:       out.Credentials.Expiration != nil,
		Expires:         aws.ToTime(out.Credentials.Expiration),
		AccountID:       string(account),
		Source:          "imdsctl",
	}, nil
}

// assumer is the session that calls AssumeRole: the caller's own, or that of the role before in the chain.
func (e *Edge) assumer(ctx context.Context, partition fleet.Partition, role Role) (*Session, error) {
	id, err := e.Caller(ctx)
	if err != nil {
		return nil, err
	}
	if id.Partition != partition {
		return nil, invalidRole(partition, "", fmt.Errorf(
			"credentials of partition %s cannot assume a role in %s: use credentials of that partition",
			id.Partition, partition))
	}
	region := e.stsRegion(partition)
	if role.Via == nil {
		return e.session(fleet.Place{Partition: partition, Account: id.Account, Region: region}, e.own), nil
	}
	hub := role.Via.home(id.Account)
	place := fleet.Place{Partition: partition, Account: hub, Region: region}
	return e.session(place, e.assumed(partition, hub, *role.Via)), nil
}

func invalidRole(p fleet.Partition, account fleet.AccountID, err error) error {
	return &fleet.CallError{
		Class: fleet.ErrInvalid, Place: fleet.Place{Partition: p, Account: account}, Action: "sts:AssumeRole", Err: err,
	}
}
