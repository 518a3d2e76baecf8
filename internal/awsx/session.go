package awsx

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/arn"
	"github.com/aws/aws-sdk-go-v2/service/sts"

	"github.com/imdsctl/imdsctl/internal/fleet"
)

// Role says which role to assume in an account. The zero Role means the caller's own credentials.
type Role struct {
	// Name is the role's name, with its path if it has one ("imdsctl/read").
	Name string
	// ARN is used instead of Name: a template in which {partition} and {account} are filled in.
	ARN string
	// Account is where a Via role lives, if its ARN does not tell; empty means the caller's own account. It does not
	// count for the role at the end of the chain, which is in the session's account.
	Account fleet.AccountID
	// ExternalID is what the role's trust policy asks for, if it does.
	ExternalID string
	// SessionName is what CloudTrail shows; "imdsctl" if empty.
	SessionName string
	// Duration of the credentials: 15 minutes to 12 hours, and to one hour with Via; one hour if zero.
	Duration time.Duration
	// Via is a role to assume first and to assume this one with.
	Via *Role
}

// IsZero tells whether no role is named.
func (r Role) IsZero() bool { return r.Name == "" && r.ARN == "" }

// ARNIn gives the role's ARN in an account: "arn:aws-cn:iam::111122223333:role/imdsctl-read".
func (r Role) ARNIn(p fleet.Partition, account fleet.AccountID) string {
	template := r.ARN
	if template == "" {
		template = "arn:{partition}:iam::{account}:role/" + strings.TrimPrefix(r.Name, "/")
	}
	return strings.NewReplacer("{partition}", string(p), "{account}", string(account)).Replace(template)
}

var (
	// The patterns of the STS API reference, AssumeRole.
	sessionNamePattern = regexp.MustCompile(`^[\w+=,.@-]{2,64}$`)
	externalIDPattern  = regexp.MustCompile(`^[\w+=,.@:/-]+$`)
)

// Validate reports what STS would refuse.
func (r Role) Validate() error {
	if r.IsZero() {
		return errors.New("role: neither a name nor an ARN is given")
	}
	parsed, err := arn.Parse(r.ARNIn(fleet.PartitionAWS, "000000000000"))
	name, isRole := strings.CutPrefix(parsed.Resource, "role/")
	if err != nil || parsed.Service != "iam" || !isRole || name == "" {
		return fmt.Errorf("role %q: want a name, or an ARN such as arn:{partition}:iam::{account}:role/imdsctl-read",
			r.Name+r.ARN)
	}
	if !sessionNamePattern.MatchString(r.session()) {
		return fmt.Errorf("role session name %q: want 2 to 64 letters, digits and +=,.@-_", r.SessionName)
	}
	if n := len(r.ExternalID); n > 0 && (n < 2 || n > 1224 || !externalIDPattern.MatchString(r.ExternalID)) {
		return errors.New("role external id: want 2 to 1224 letters, digits and +=,.@:/-_")
	}
	longest := 12 * time.Hour
	if r.Via != nil {
		longest = time.Hour // "role chaining" in the IAM User Guide
	}
	if d := r.duration(); d < 15*time.Minute || d > longest {
		return fmt.Errorf("role session duration %s: want 15m to %s", d, longest)
	}
	if r.Via != nil {
		return r.Via.Validate()
	}
	return nil
}

func (r Role) session() string {
	if r.SessionName == "" {
		return "imdsctl"
	}
	return r.SessionName
}

func (r Role) duration() time.Duration {
	if r.Duration == 0 {
		return time.Hour
	}
	return r.Duration
}

// home is the account of a role within a chain.
func (r Role) home(callers fleet.AccountID) fleet.AccountID {
	if r.Account != "" {
		return r.Account
	}
	if parsed, err := arn.Parse(r.ARN); err == nil && fleet.AccountID(parsed.AccountID).Valid() {
		return fleet.AccountID(parsed.AccountID)
	}
	return callers
}

// key tells roles apart in the cache of their credentials.
func (r Role) key() string {
	s := fmt.Sprintf("%q %q %q %q %q %s", r.Name, r.ARN, r.Account, r.ExternalID, r.SessionName, r.Duration)
	if r.Via != nil {
		s += " via " + r.Via.key()
	}
	return s
}

// Session is the way to one place: an account's region, or its global services. It is safe for many goroutines, costs
// little to make, and makes no call before its clients do.
type Session struct {
	edge  *Edge
	place fleet.Place
	creds *credentialCache
	cfg   aws.Config
	skew  atomic.Pointer[time.Duration]
}

// Session gives the way to a place through a role. Credentials of the same account and role are shared by all regions.
// Without a role, the place must be in the caller's own account; in another, its calls fail before they are sent.
func (e *Edge) Session(place fleet.Place, role Role) *Session {
	if role.IsZero() {
		return e.session(place, e.callersOwn(place))
	}
	return e.session(place, e.assumed(place.Partition, place.Account, role))
}

func (e *Edge) session(place fleet.Place, creds *credentialCache) *Session {
	s := &Session{edge: e, place: place, creds: creds, cfg: e.base.Copy()}
	s.cfg.Region = string(place.Region)
	if place.Region == "" {
		s.cfg.Region = string(place.Partition.HomeRegion())
	}
	s.cfg.Credentials = creds
	s.cfg.APIOptions = append(slices.Clone(e.base.APIOptions), s.install)
	return s
}

// Place tells where the session's calls are made.
func (s *Session) Place() fleet.Place { return s.place }

// Config is ready for any service client: NewFromConfig(session.Config()). Do not change the region of a client or of a
// call: the limits and records go by the session's place.
func (s *Session) Config() aws.Config {
	cfg := s.cfg.Copy()
	cfg.APIOptions = slices.Clone(s.cfg.APIOptions)
	return cfg
}

// Identity asks STS whose credentials the session has, which proves that they work.
func (s *Session) Identity(ctx context.Context) (Identity, error) {
	return s.identityAt(ctx, s.edge.stsRegion(s.place.Partition))
}

func (s *Session) identityAt(ctx context.Context, region fleet.Region) (Identity, error) {
	place := s.place
	place.Region = region
	at := s.edge.session(place, s.creds)
	out, err := sts.NewFromConfig(at.Config()).GetCallerIdentity(ctx, &sts.GetCallerIdentityInput{})
	if err != nil {
		return Identity{}, Plain(err)
	}
	parsed, err := arn.Parse(aws.ToString(out.Arn))
	if err != nil {
		return Identity{}, &fleet.CallError{
			Class: fleet.ErrOther, Place: place, Action: "sts:GetCallerIdentity",
			Err: fmt.Errorf("the answer names no one: %w", err),
		}
	}
	return Identity{
		Account:   fleet.AccountID(aws.ToString(out.Account)),
		Partition: fleet.Partition(parsed.Partition),
		ARN:       aws.ToString(out.Arn),
	}, nil
}

// Skew is Edge.Skew for the session's own answers.
func (s *Session) Skew() (time.Duration, bool) {
	if d := s.skew.Load(); d != nil {
		return *d, true
	}
	return 0, false
}
