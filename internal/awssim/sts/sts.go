// Package sts simulates the AWS Security Token Service: who is calling, and temporary keys of roles, in this account or
// another, as the role's trust policy allows. The keys and roles themselves are the core's.
package sts

import (
	"net/http"
	"regexp"
	"slices"
	"time"

	"github.com/imdsctl/imdsctl/internal/awssim/authz"
	"github.com/imdsctl/imdsctl/internal/awssim/core"
	"github.com/imdsctl/imdsctl/internal/awssim/wire"
	"github.com/imdsctl/imdsctl/internal/fleet"
)

// Service is STS.
func Service() *core.Service {
	return &core.Service{
		Name: "sts", Protocols: []wire.Protocol{wire.Query}, Namespace: "https://sts.amazonaws.com/doc/2011-06-15/",
		Actions: map[string]core.Action{
			// GetCallerIdentity needs no permission, and a deny does not bind it (STS API Reference).
			"GetCallerIdentity": {IAM: "-", Params: []string{}, Handle: getCallerIdentity, Bucket: bucket},
			"AssumeRole": {
				Params: []string{"RoleArn", "RoleSessionName", "ExternalId", "DurationSeconds", "Policy"},
				Access: func(c *core.Call) []core.Access { return []core.Access{{Resource: c.In.Str("RoleArn")}} },
				Handle: assumeRole, Bucket: bucket,
			},
		},
	}
}

// bucket follows the default of 600 requests a second for STS.
var bucket = core.Bucket{Name: "all", Burst: 600, Refill: 600}

func getCallerIdentity(c *core.Call) error {
	c.Out.Str("UserId", c.Principal.UserID)
	c.Out.Str("Account", string(c.Principal.Account))
	c.Out.Str("Arn", c.Principal.ARN)
	return nil
}

var (
	roleARN     = regexp.MustCompile(`^arn:[a-z-]+:iam::(\d{12}):role(/(?:[\w+=,.@-]+/)*)([\w+=,.@-]+)$`)
	sessionName = regexp.MustCompile(`^[\w+=,.@-]{2,64}$`)
)

func assumeRole(c *core.Call) error {
	arn, session := c.In.Str("RoleArn"), c.In.Str("RoleSessionName")
	m := roleARN.FindStringSubmatch(arn)
	switch {
	case m == nil:
		return wire.Errorf("ValidationError", "%s is invalid", arn)
	case !sessionName.MatchString(session):
		return wire.Errorf("ValidationError",
			"1 validation error detected: Value '%s' at 'roleSessionName' failed to satisfy constraint: "+
				"Member must satisfy regular expression pattern: [\\w+=,.@-]{2,64}", session)
	}
	c.Touch(arn)
	role, ok := c.World.Role(fleet.AccountID(m[1]), m[3])
	if !ok || role.ARN(c.Place.Partition) != arn || !trusted(c, role, arn) {
		// AWS does not tell a role that is not there from one that does not trust the caller.
		return &wire.Error{
			Code: "AccessDenied", Status: http.StatusForbidden,
			Message: "User: " + c.Principal.ARN + " is not authorized to perform: sts:AssumeRole on resource: " + arn,
		}
	}
	life, err := duration(c, role)
	if err != nil {
		return err
	}
	var policies []*authz.Policy
	if doc := c.In.Str("Policy"); doc != "" {
		p, err := authz.Parse(doc)
		if err != nil {
			return wire.Errorf("MalformedPolicyDocument", "%v", err)
		}
		policies = []*authz.Policy{p}
	}
	creds, who, err := c.World.MintSession(role, session, life, !c.Principal.Root(), policies)
	if err != nil {
		return err
	}
	c.Out.Struct("Credentials", func() {
		c.Out.Str("AccessKeyId", creds.AccessKeyID)
		c.Out.Str("SecretAccessKey", creds.SecretAccessKey)
		c.Out.Str("SessionToken", creds.SessionToken)
		c.Out.Time("Expiration", creds.Expires)
	})
	c.Out.Struct("AssumedRoleUser", func() {
		c.Out.Str("AssumedRoleId", who.UserID)
		c.Out.Str("Arn", who.ARN)
	})
	return nil
}

// trusted asks the role's trust policy.
func trusted(c *core.Call, role *core.Role, arn string) bool {
	own := map[string][]string{"sts:rolesessionname": {c.In.Str("RoleSessionName")}}
	if id := c.In.Str("ExternalId"); id != "" {
		own["sts:externalid"] = []string{id}
	}
	caller := authz.Caller{Account: string(c.Principal.Account), ARNs: []string{c.Principal.ARN}}
	if from, ok := c.World.Role(c.Principal.Account, c.Principal.Role); ok {
		caller.ARNs = append(caller.ARNs, from.ARN(c.Place.Partition))
	}
	caller.ARNs = slices.Compact(caller.ARNs)
	return authz.Evaluate([]*authz.Policy{role.Trust}, authz.Request{
		Action: "sts:AssumeRole", Resource: arn, Context: c.Context(own), Principal: caller,
	}) == authz.Allow
}

// duration is how long the session lives: an hour by default, at most the role's maximum, and at most an hour when a
// role session assumes the role (STS API Reference, AssumeRole, DurationSeconds).
func duration(c *core.Call, role *core.Role) (time.Duration, error) {
	seconds, set, err := c.In.Int("DurationSeconds")
	if err != nil {
		return 0, err
	}
	if !set {
		return time.Hour, nil
	}
	d := time.Duration(seconds) * time.Second
	switch {
	case seconds < 900:
		return 0, wire.Errorf("ValidationError",
			"1 validation error detected: Value '%d' at 'durationSeconds' failed to satisfy constraint: "+
				"Member must have value greater than or equal to 900", seconds)
	case !c.Principal.Root() && d > time.Hour:
		return 0, wire.Errorf("ValidationError",
			"The requested DurationSeconds exceeds the 1 hour session limit for roles assumed by role chaining")
	case d > role.MaxSession:
		return 0, wire.Errorf("ValidationError",
			"The requested DurationSeconds exceeds the MaxSessionDuration set for this role.")
	}
	return d, nil
}
