// Package organizationpolicy is the kind organization-policy: the policies of an organization that decide on metadata
// options in the accounts they are attached to.
//
// It owns two types of them. A declarative policy for EC2 is the metadata defaults of every account it binds, in every
// region, and takes them out of the accounts' hands. A service control policy allows and denies; those that name a metadata
// option are listed, because they decide which launches and changes can be made at all. Policies that mention neither are
// not ours. Only a document is ever written, whole, and only of a policy that exists: nothing is attached or detached here.
package organizationpolicy

import (
	"encoding/json"
	"fmt"
	"regexp"

	"github.com/aws/aws-sdk-go-v2/service/organizations/types"

	"github.com/imdsctl/imdsctl/internal/assess"
	"github.com/imdsctl/imdsctl/internal/fleet"
	"github.com/imdsctl/imdsctl/internal/inventory"
	"github.com/imdsctl/imdsctl/internal/kind"
	"github.com/imdsctl/imdsctl/internal/plan"
)

// Fields of the state.
const (
	// FieldContent is the document, character by character as Organizations gives it, so that a revert restores it so.
	FieldContent = "Content"
	// FieldType is Organizations' word for the type.
	FieldType = "Type"
	// FieldTargets are the ids of roots, units and accounts it is attached to, sorted and joined by commas; absent where it
	// is attached to none.
	FieldTargets = "Targets"
)

// AttrMentions are the words by which a policy concerns metadata options, sorted and joined by commas.
const AttrMentions = "mentions"

// VerbSetContent replaces the document of a policy.
const VerbSetContent = "set-content"

// The types that are read.
const (
	typeControl     = string(types.PolicyTypeServiceControlPolicy)
	typeDeclarative = string(types.PolicyTypeDeclarativePolicyEc2)
)

const (
	actionList     = "organizations:ListPolicies"
	actionDescribe = "organizations:DescribePolicy"
	actionTargets  = "organizations:ListTargetsForPolicy"
	actionAccounts = "organizations:ListAccounts"
	actionUpdate   = "organizations:UpdatePolicy"
	// ownPolicies are the organization's own policies; those of AWS cannot be written.
	ownPolicies = "arn:{partition}:organizations::{account}:policy/*"
)

// Kind describes the organization's policies.
func Kind() kind.Kind {
	return kind.Kind{
		Name: inventory.KindOrganizationPolicy,
		Doc: "A policy of the organization that mentions instance metadata options: a declarative policy for EC2, which sets the " +
			"metadata defaults of every account below its targets, or a service control policy, which decides what can be " +
			"launched and changed there. It lives once, in the management account. Only the document of a declarative policy " +
			"is ever changed. Service control policies are recognised where they deny launches without required tokens in the " +
			"documented way, and otherwise only shown.",
		Manner: assess.Manner{Role: assess.RolePolicy, Metric: true},
		Lives:  kind.Organization,
		Reads: []kind.Action{
			{Name: actionList, Resource: "*"}, {Name: actionDescribe, Resource: "*"}, {Name: actionTargets, Resource: "*"},
			{Name: actionAccounts, Resource: "*"},
		},
		Writes: []kind.Action{{Name: actionUpdate, Resource: ownPolicies}},
		Verbs: []kind.Verb{{
			Name: VerbSetContent, Class: plan.ClassSet, Disruption: kind.DisruptsNothing, Undo: kind.UndoFull,
			Calls: map[string]int{actionDescribe: 2, actionTargets: 2, actionAccounts: 1, actionUpdate: 1},
		}},
		Propose:  propose,
		Commands: commands,
	}
}

// propose asks for required tokens in a declarative policy that says something else of them.
func propose(c kind.Case) ([]plan.Need, []plan.Manual) {
	r, v := c.Resource, c.Verdict
	if v.Status != assess.Ready || r.State[FieldType] != typeDeclarative || r.Options().Tokens == fleet.TokensRequired {
		return nil, nil
	}
	content, err := requireTokens(r.State[FieldContent])
	if err != nil {
		return nil, []plan.Manual{{
			Ref: r.Ref, Name: r.Name, Reason: "the declarative policy cannot be changed by itself: " + err.Error(),
			Remedy: fmt.Sprintf("Set ec2_attributes.instance_metadata_defaults.http_tokens to {\"@@assign\": \"required\"} in the "+
				"policy: `%s > policy.json`, edit it, then `%s`.",
				kind.Command(r.Ref.Place, "organizations", "describe-policy", "--policy-id", r.Ref.ID, "--query", "Policy.Content",
					"--output", "text"),
				kind.Command(r.Ref.Place, "organizations", "update-policy", "--policy-id", r.Ref.ID, "--content",
					"file://policy.json")),
		}}
	}
	return []plan.Need{{
		Ref: r.Ref, Action: VerbSetContent, Class: plan.ClassSet, Stage: plan.StagePolicies,
		Patch: fleet.State{FieldContent: content},
		Why: "the policy holds the defaults of the accounts that it binds, and launches there that do not choose for " +
			"themselves would allow IMDSv1",
	}}, nil
}

var policyID = regexp.MustCompile(`^p-[0-9a-zA-Z_]{8,128}$`)

func commands(w kind.Write) []string {
	content := w.After[FieldContent]
	if !policyID.MatchString(w.ID) || !json.Valid([]byte(content)) || content == w.Before[FieldContent] {
		return nil
	}
	return []string{kind.Command(w.Place, "organizations", "update-policy", "--policy-id", w.ID, "--content", content)}
}
