package core

import (
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/imdsctl/imdsctl/internal/awssim/authz"
	"github.com/imdsctl/imdsctl/internal/awssim/wire"
	"github.com/imdsctl/imdsctl/internal/fleet"
)

// Principal is who calls.
type Principal struct {
	Account fleet.AccountID
	// ARN is the caller's as GetCallerIdentity shows it: arn:aws:sts::…:assumed-role/Role/Session, or the account's root.
	ARN    string
	UserID string
	// Role and Session are set for role sessions only.
	Role    string
	Session string
	// Expires is zero for lasting keys.
	Expires time.Time
	// Chained tells that a role session assumed this role.
	Chained bool
	// Policies narrow the session (the session policies of AssumeRole); nil narrows nothing.
	Policies []*authz.Policy

	token string
}

// Root tells that the principal is the account's administrator, who may do everything in it.
func (p *Principal) Root() bool { return p.Role == "" }

// Role is an IAM role. It is replaced, never changed.
type Role struct {
	Account     fleet.AccountID
	Name        string
	Path        string // "/" by default
	ID          string
	Description string
	Created     time.Time
	MaxSession  time.Duration
	Trust       *authz.Policy
	Policies    map[string]*authz.Policy // by name
}

// ARN is the role's.
func (r *Role) ARN(partition fleet.Partition) string {
	return "arn:" + string(partition) + ":iam::" + string(r.Account) + ":role" + r.Path + r.Name
}

// PutRole adds or replaces a role from policy documents in JSON; the identity policies are named by their place.
func (w *World) PutRole(account fleet.AccountID, name, trust string, policies ...string) error {
	named := map[string]string{}
	for i, p := range policies {
		named[fmt.Sprintf("policy-%d", i+1)] = p
	}
	return w.putRole(account, RoleSeed{Name: name}, trust, named)
}

func (w *World) putRole(account fleet.AccountID, seed RoleSeed, trust string, policies map[string]string) error {
	r := &Role{
		Account: account, Name: seed.Name, Path: seed.Path, Description: seed.Description, ID: w.NewID("AROA"),
		Created: w.Now(), MaxSession: time.Duration(seed.MaxSessionSeconds) * time.Second,
		Policies: map[string]*authz.Policy{},
	}
	if r.Path == "" {
		r.Path = "/"
	}
	if r.MaxSession == 0 {
		r.MaxSession = time.Hour
	}
	r.ID = strings.ToUpper(r.ID)
	var err error
	if r.Trust, err = authz.Parse(trust); err != nil {
		return fmt.Errorf("role %s of %s: trust policy: %w", seed.Name, account, err)
	}
	for _, n := range slices.Sorted(maps.Keys(policies)) {
		if r.Policies[n], err = authz.Parse(policies[n]); err != nil {
			return fmt.Errorf("role %s of %s: %s: %w", seed.Name, account, n, err)
		}
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	a := w.accounts[account]
	if a == nil {
		return fmt.Errorf("role %s: account %s does not exist", seed.Name, account)
	}
	if old := a.roles[seed.Name]; old != nil {
		r.ID, r.Created = old.ID, old.Created
	}
	a.roles[seed.Name] = r
	return nil
}

// SeedRole adds or replaces a role that a seed describes, without managed policies.
func (w *World) SeedRole(account fleet.AccountID, r RoleSeed) error {
	if r.Name == "" || len(r.Managed) > 0 {
		return fmt.Errorf("role %q of %s: want a name, and no managed policies", r.Name, account)
	}
	policies := map[string]string{}
	for name, doc := range r.Policies {
		policies[name] = string(doc)
	}
	return w.putRole(account, r, string(r.Trust), policies)
}

// DeleteRole removes a role; its sessions lose all permissions.
func (w *World) DeleteRole(account fleet.AccountID, name string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if a := w.accounts[account]; a != nil {
		delete(a.roles, name)
	}
}

// Role finds a role.
func (w *World) Role(account fleet.AccountID, name string) (*Role, bool) {
	w.mu.RLock()
	defer w.mu.RUnlock()
	if a := w.accounts[account]; a != nil {
		r, ok := a.roles[name]
		return r, ok
	}
	return nil, false
}

// Roles lists an account's roles by name.
func (w *World) Roles(account fleet.AccountID) []*Role {
	w.mu.RLock()
	defer w.mu.RUnlock()
	a := w.accounts[account]
	if a == nil {
		return nil
	}
	return slices.SortedFunc(maps.Values(a.roles), func(a, b *Role) int { return strings.Compare(a.Name, b.Name) })
}

// PutAccessKey makes a lasting access key of the account's administrator. An account's number is such a key by itself.
func (w *World) PutAccessKey(account fleet.AccountID, accessKeyID string) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	a := w.accounts[account]
	if a == nil {
		return fmt.Errorf("access key %s: account %s does not exist", accessKeyID, account)
	}
	if p := w.keys[accessKeyID]; p != nil && p.Account != account {
		return fmt.Errorf("access key %s is account %s's already", accessKeyID, p.Account)
	}
	w.keys[accessKeyID] = rootOf(a)
	return nil
}

func rootOf(a *Account) *Principal {
	return &Principal{
		Account: a.ID, UserID: string(a.ID),
		ARN: "arn:" + string(a.Partition) + ":iam::" + string(a.ID) + ":root",
	}
}

// Credentials are temporary keys.
type Credentials struct {
	AccessKeyID, SecretAccessKey, SessionToken string
	Expires                                    time.Time
}

// MintSession makes temporary keys for a session of a role. Whether the caller may is the caller's business.
func (w *World) MintSession(role *Role, session string, life time.Duration, chained bool,
	policies []*authz.Policy,
) (Credentials, *Principal, error) {
	creds := Credentials{
		AccessKeyID:     strings.ToUpper(w.NewID("ASIA"))[:20],
		SecretAccessKey: w.NewID("secret") + w.NewID(""), SessionToken: w.NewID("token") + w.NewID(""),
		Expires: w.Now().Add(life),
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	a := w.accounts[role.Account]
	if a == nil {
		return creds, nil, fmt.Errorf("account %s does not exist", role.Account)
	}
	p := &Principal{
		Account: role.Account, Role: role.Name, Session: session, Expires: creds.Expires, Chained: chained,
		ARN:    "arn:" + string(a.Partition) + ":sts::" + string(role.Account) + ":assumed-role/" + role.Name + "/" + session,
		UserID: role.ID + ":" + session, Policies: policies, token: creds.SessionToken,
	}
	w.keys[creds.AccessKeyID] = p
	w.forgetOldSessions(creds.Expires)
	return creds, p, nil
}

// forgetOldSessions keeps the table of keys from growing for ever: a day after its end a key is unknown, not expired.
func (w *World) forgetOldSessions(now time.Time) {
	const many = 4096
	if len(w.keys) < many || len(w.keys)%many != 0 {
		return
	}
	maps.DeleteFunc(w.keys, func(_ string, p *Principal) bool {
		return !p.Expires.IsZero() && now.Sub(p.Expires) > 36*time.Hour
	})
}

// scope is what an Authorization header says.
type scope struct {
	key     string
	region  fleet.Region
	service string
}

var (
	errNoAuthorization = errors.New("no Authorization")
	errBadScope        = errors.New("garbled Authorization")
)

// scopeOf reads the SigV4 credential scope: KEY/20260102/eu-west-1/ec2/aws4_request. The signature is not verified.
func scopeOf(r *http.Request) (scope, error) {
	var credential string
	header := r.Header.Get("Authorization")
	switch {
	case header != "":
		rest, ok := strings.CutPrefix(header, "AWS4-HMAC-SHA256 ")
		if !ok {
			return scope{}, errBadScope
		}
		parts := map[string]string{}
		for field := range strings.SplitSeq(rest, ",") {
			k, v, _ := strings.Cut(strings.TrimSpace(field), "=")
			parts[k] = v
		}
		if parts["SignedHeaders"] == "" || parts["Signature"] == "" {
			return scope{}, errBadScope
		}
		credential = parts["Credential"]
	case r.URL.Query().Get("X-Amz-Credential") != "":
		credential = r.URL.Query().Get("X-Amz-Credential")
	default:
		return scope{}, errNoAuthorization
	}
	f := strings.Split(credential, "/")
	if len(f) != 5 || f[0] == "" || len(f[1]) != 8 || f[2] == "" || f[3] == "" || f[4] != "aws4_request" {
		return scope{}, errBadScope
	}
	return scope{key: f[0], region: fleet.Region(f[2]), service: f[3]}, nil
}

// principal finds who an access key belongs to; the error is in the protocol's words.
func (w *World) principal(p wire.Protocol, key, token string) (*Principal, error) {
	w.mu.RLock()
	defer w.mu.RUnlock()
	who := w.keys[key]
	if who == nil {
		if a := w.accounts[fleet.AccountID(key)]; a != nil {
			return rootOf(a), nil
		}
		return nil, badKey(p)
	}
	if who.token != "" && who.token != token {
		return nil, badKey(p)
	}
	if !who.Expires.IsZero() && !w.clock.Now().Before(who.Expires) {
		return who, expired(p)
	}
	return who, nil
}

func badKey(p wire.Protocol) error {
	const invalid = "The security token included in the request is invalid."
	switch p {
	case wire.EC2Query:
		return authFailure()
	case wire.Query:
		return &wire.Error{Code: "InvalidClientTokenId", Message: invalid, Status: http.StatusForbidden}
	case wire.RESTJSON:
		return &wire.Error{Code: "UnrecognizedClientException", Message: invalid, Status: http.StatusForbidden}
	case wire.RESTXML:
		return &wire.Error{Code: "InvalidAccessKeyId", Status: http.StatusForbidden,
			Message: "The AWS Access Key Id you provided does not exist in our records."}
	default:
		return &wire.Error{Code: "UnrecognizedClientException", Message: invalid, Status: http.StatusBadRequest}
	}
}

func expired(p wire.Protocol) error {
	const message = "The security token included in the request is expired"
	switch p {
	case wire.EC2Query:
		return &wire.Error{Code: "RequestExpired", Message: "Request has expired.", Status: http.StatusBadRequest}
	case wire.Query:
		return &wire.Error{Code: "ExpiredToken", Message: message, Status: http.StatusForbidden}
	case wire.RESTJSON:
		return &wire.Error{Code: "ExpiredTokenException", Message: message, Status: http.StatusForbidden}
	case wire.RESTXML:
		return &wire.Error{Code: "ExpiredToken", Message: "The provided token has expired.", Status: http.StatusBadRequest}
	default:
		return &wire.Error{Code: "ExpiredTokenException", Message: message, Status: http.StatusBadRequest}
	}
}

func authFailure() error {
	return &wire.Error{
		Code: "AuthFailure", Status: http.StatusUnauthorized,
		Message: "AWS was not able to validate the provided access credentials",
	}
}

func unauthenticated(p wire.Protocol, cause error) error {
	missing := errors.Is(cause, errNoAuthorization)
	switch {
	case p == wire.EC2Query && missing:
		return wire.Errorf("MissingParameter", "The request must contain the parameter AWSAccessKeyId")
	case p == wire.EC2Query:
		return authFailure()
	case p == wire.Query && missing:
		return &wire.Error{
			Code: "MissingAuthenticationToken", Message: "Request is missing Authentication Token", Status: http.StatusForbidden,
		}
	case p == wire.Query:
		return &wire.Error{
			Code: "IncompleteSignature", Status: http.StatusForbidden,
			Message: "Authorization header requires 'Credential', 'Signature' and 'SignedHeaders' parameters.",
		}
	case p == wire.RESTXML:
		return &wire.Error{Code: "AccessDenied", Message: "Access Denied", Status: http.StatusForbidden}
	case p == wire.RESTJSON && missing:
		return &wire.Error{
			Code: "MissingAuthenticationTokenException", Message: "Missing Authentication Token",
			Status: http.StatusForbidden,
		}
	case p == wire.RESTJSON:
		return &wire.Error{
			Code: "IncompleteSignatureException", Message: "Authorization header is incomplete.",
			Status: http.StatusForbidden,
		}
	case missing:
		return &wire.Error{Code: "MissingAuthenticationTokenException", Message: "Missing Authentication Token"}
	default:
		return &wire.Error{Code: "IncompleteSignatureException", Message: "Authorization header is incomplete."}
	}
}

// notSubscribed is how a service answers in a region that the account has not enabled: its credentials are not known
// there.
func notSubscribed(p wire.Protocol, region fleet.Region) error {
	if p == wire.EC2Query {
		return authFailure()
	}
	return &wire.Error{
		Code: "OptInRequired", Status: http.StatusForbidden,
		Message: "The AWS Access Key Id needs a subscription for the service in " + string(region),
	}
}
