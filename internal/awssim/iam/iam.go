// Package iam simulates the few calls of AWS IAM with which a client looks at roles and asks what they may do. The
// roles are the core's, and so is their enforcement, which knows no permissions boundaries. What the package keeps besides is
// what roles are shown with: instance profiles, managed policies and boundaries.
package iam

import (
	"maps"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"

	"github.com/imdsctl/imdsctl/internal/awssim/authz"
	"github.com/imdsctl/imdsctl/internal/awssim/core"
	"github.com/imdsctl/imdsctl/internal/awssim/wire"
)

// Service is IAM.
func Service() *core.Service {
	role := func(c *core.Call) []core.Access {
		arn := "arn:" + string(c.Place.Partition) + ":iam::" + string(c.Account()) + ":role/" + c.In.Str("RoleName")
		return []core.Access{{Resource: arn}}
	}
	return &core.Service{
		Name: "iam", Protocols: []wire.Protocol{wire.Query}, Namespace: "https://iam.amazonaws.com/doc/2010-05-08/",
		Global: true,
		Actions: map[string]core.Action{
			"GetRole":                        {Params: []string{"RoleName"}, Access: role, Handle: getRole},
			"ListRoles":                      {Params: []string{"PathPrefix", "Marker", "MaxItems"}, Handle: listRoles},
			"ListRolePolicies":               {Params: []string{"RoleName", "Marker", "MaxItems"}, Access: role, Handle: listRolePolicies},
			"GetRolePolicy":                  {Params: []string{"RoleName", "PolicyName"}, Access: role, Handle: getRolePolicy},
			"GetAccountAuthorizationDetails": {Params: []string{"Filter", "MaxItems", "Marker"}, Handle: authorizationDetails},
			"SimulatePrincipalPolicy": {
				Params: []string{"PolicySourceArn", "ActionNames", "ResourceArns", "ContextEntries"}, Handle: simulate,
			},
		},
		SeedPlace: seedPlace,
	}
}

// escape encodes a policy document as IAM does, by RFC 3986: a space is %20, never "+".
func escape(document string) string { return strings.ReplaceAll(url.QueryEscape(document), "+", "%20") }

func find(c *core.Call, name string) (*core.Role, error) {
	if r, ok := c.World.Role(c.Account(), name); ok {
		c.Touch(name)
		return r, nil
	}
	return nil, &wire.Error{
		Code: "NoSuchEntity", Message: "The role with name " + name + " cannot be found.", Status: http.StatusNotFound,
	}
}

func writeRole(c *core.Call, name string, r *core.Role) {
	w := c.Out
	w.Struct(name, func() {
		w.Str("Path", r.Path)
		w.Str("RoleName", r.Name)
		w.Str("RoleId", r.ID)
		w.Str("Arn", r.ARN(c.Place.Partition))
		w.Time("CreateDate", r.Created)
		w.Str("AssumeRolePolicyDocument", escape(r.Trust.Source()))
		w.Opt("Description", r.Description)
		w.Int("MaxSessionDuration", int64(r.MaxSession.Seconds()))
	})
}

func getRole(c *core.Call) error {
	r, err := find(c, c.In.Str("RoleName"))
	if err != nil {
		return err
	}
	writeRole(c, "Role", r)
	return nil
}

// listRoles gives all in one page; an account of the simulator has few.
func listRoles(c *core.Call) error {
	c.Out.List("Roles", func() {
		for _, r := range c.World.Roles(c.Account()) {
			if prefix := c.In.Str("PathPrefix"); prefix == "" || len(r.Path) >= len(prefix) && r.Path[:len(prefix)] == prefix {
				writeRole(c, "", r)
			}
		}
	})
	c.Out.Bool("IsTruncated", false)
	return nil
}

func listRolePolicies(c *core.Call) error {
	r, err := find(c, c.In.Str("RoleName"))
	if err != nil {
		return err
	}
	c.Out.Strings("PolicyNames", slices.Sorted(maps.Keys(r.Policies)))
	c.Out.Bool("IsTruncated", false)
	return nil
}

func getRolePolicy(c *core.Call) error {
	r, err := find(c, c.In.Str("RoleName"))
	if err != nil {
		return err
	}
	name := c.In.Str("PolicyName")
	p, ok := r.Policies[name]
	if !ok {
		return &wire.Error{
			Code: "NoSuchEntity", Status: http.StatusNotFound,
			Message: "The role policy with name " + name + " cannot be found.",
		}
	}
	c.Out.Str("RoleName", r.Name)
	c.Out.Str("PolicyName", name)
	c.Out.Str("PolicyDocument", escape(p.Source()))
	return nil
}

var roleARN = regexp.MustCompile(`^arn:[a-z-]+:iam::\d{12}:role/(?:.*/)?([^/]+)$`)

func simulate(c *core.Call) error {
	m := roleARN.FindStringSubmatch(c.In.Str("PolicySourceArn"))
	actions := c.In.Strings("ActionNames")
	if m == nil || len(actions) == 0 {
		return wire.Errorf("InvalidInput", "The request needs the ARN of a role of this account and the names of actions.")
	}
	r, err := find(c, m[1])
	if err != nil {
		return err
	}
	own := map[string][]string{}
	for _, e := range c.In.Items("ContextEntries") {
		own[e.Str("ContextKeyName")] = e.Strings("ContextKeyValues")
	}
	resources := c.In.Strings("ResourceArns")
	if len(resources) == 0 {
		resources = []string{"*"}
	}
	policies := slices.Collect(maps.Values(r.Policies))
	c.Out.List("EvaluationResults", func() {
		for _, action := range actions {
			for _, resource := range resources {
				d := authz.Evaluate(policies, authz.Request{Action: action, Resource: resource, Context: c.Context(own)})
				c.Out.Struct("", func() {
					c.Out.Str("EvalActionName", action)
					c.Out.Str("EvalResourceName", resource)
					c.Out.Str("EvalDecision", map[authz.Decision]string{
						authz.Allow: "allowed", authz.ExplicitDeny: "explicitDeny", authz.ImplicitDeny: "implicitDeny",
					}[d])
				})
			}
		}
	})
	c.Out.Bool("IsTruncated", false)
	return nil
}
