package core

import (
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/imdsctl/imdsctl/internal/awssim/authz"
	"github.com/imdsctl/imdsctl/internal/awssim/wire"
	"github.com/imdsctl/imdsctl/internal/fleet"
)

// authorize checks that the caller may do all that the call needs: service control policies first, then the role's
// identity policies and the session's. The account's administrator needs no identity policy.
func (w *World) authorize(c *Call) error {
	if c.spec.IAM == "-" {
		return nil
	}
	needs := []Access{{}}
	if c.spec.Access != nil {
		needs = c.spec.Access(c)
	}
	for _, need := range needs {
		if need.Action == "" {
			need.Action = c.iamAction()
		}
		if need.Resource == "" {
			need.Resource = "*"
		}
		if err := w.permit(c, need); err != nil {
			return err
		}
	}
	return nil
}

func (w *World) permit(c *Call, need Access) error {
	req := authz.Request{Action: need.Action, Resource: need.Resource, Context: w.context(c, need.Condition)}
	for _, level := range w.guardrailsOf(c.Principal.Account) {
		switch authz.Evaluate(level, req) {
		case authz.ExplicitDeny:
			return denied(c, need.Action, need.Resource, "with an explicit deny in a service control policy")
		case authz.ImplicitDeny:
			return denied(c, need.Action, need.Resource,
				"because no service control policy allows the "+need.Action+" action")
		}
	}
	if c.Principal.Root() || w.opts.Unenforced {
		return nil
	}
	var policies []*authz.Policy
	if role, ok := w.Role(c.Principal.Account, c.Principal.Role); ok {
		policies = slices.Collect(maps.Values(role.Policies))
	}
	sets := [][]*authz.Policy{policies}
	kinds := []string{"identity-based"}
	if c.Principal.Policies != nil {
		sets, kinds = append(sets, c.Principal.Policies), append(kinds, "session")
	}
	for i, set := range sets {
		switch authz.Evaluate(set, req) {
		case authz.ExplicitDeny:
			return denied(c, need.Action, need.Resource, "with an explicit deny in "+article(kinds[i])+" policy")
		case authz.ImplicitDeny:
			return denied(c, need.Action, need.Resource,
				"because no "+kinds[i]+" policy allows the "+need.Action+" action")
		}
	}
	return nil
}

func article(kind string) string {
	if kind == "identity-based" {
		return "an " + kind
	}
	return "a " + kind
}

func (w *World) guardrailsOf(account fleet.AccountID) [][]*authz.Policy {
	w.mu.RLock()
	f := w.guardrails
	w.mu.RUnlock()
	if f == nil {
		return nil
	}
	return f(account)
}

// context adds the global condition keys to the call's own.
func (w *World) context(c *Call, own map[string][]string) map[string][]string {
	m := map[string][]string{
		"aws:requestedregion":  {string(c.region)},
		"aws:principalaccount": {string(c.Principal.Account)},
		"aws:principalarn":     {principalARN(w, c.Principal)},
		"aws:principaltype":    {map[bool]string{true: "Account", false: "AssumedRole"}[c.Principal.Root()]},
		"aws:userid":           {c.Principal.UserID},
		"aws:currenttime":      {c.Now.UTC().Format(time.RFC3339)},
		"aws:epochtime":        {strconv.FormatInt(c.Now.Unix(), 10)},
		"aws:securetransport":  {"true"},
	}
	if id := w.Organization().ID; id != "" {
		m["aws:principalorgid"] = []string{id}
	}
	for k, v := range own {
		m[strings.ToLower(k)] = v
	}
	return m
}

// principalARN is aws:PrincipalArn: a session's is its role's.
func principalARN(w *World, p *Principal) string {
	if role, ok := w.Role(p.Account, p.Role); ok {
		a, _ := w.Account(p.Account)
		return role.ARN(a.Partition)
	}
	return p.ARN
}

// denied is the refusal in the service's own words.
func denied(c *Call, action, resource, why string) error {
	message := "User: " + c.Principal.ARN + " is not authorized to perform: " + action
	if resource != "" && resource != "*" {
		message += " on resource: " + resource
	}
	message += " " + why
	switch c.Out.Protocol() {
	case wire.EC2Query:
		return &wire.Error{
			Code: "UnauthorizedOperation", Status: http.StatusForbidden,
			Message: "You are not authorized to perform this operation. " + message,
		}
	case wire.JSON11:
		return &wire.Error{Code: "AccessDeniedException", Message: message}
	case wire.RESTJSON:
		return &wire.Error{Code: "AccessDeniedException", Message: message, Status: http.StatusForbidden}
	case wire.JSON10, wire.CBOR:
		if !c.Service.offers(wire.Query) {
			return &wire.Error{Code: "AccessDeniedException", Message: message}
		}
		return &wire.Error{Code: "AccessDenied", Shape: "AccessDeniedException", Message: message,
			Status: http.StatusForbidden} // it was Query before
	default:
		return &wire.Error{Code: "AccessDenied", Message: message, Status: http.StatusForbidden}
	}
}

// Denied is a refusal for lack of permission, in the service's own words, for handlers that decide themselves.
func (c *Call) Denied(action, resource, why string) error { return denied(c, action, resource, why) }
