// Package accountdefaults is the kind account-defaults: what an account in a region gives to launches that do not say
// themselves which metadata options they want.
//
// It owns one resource per place. A field that nobody chose is absent from the state, and absent differs from every
// value; taking a choice back is written as "no-preference" (a hop limit as -1). HttpTokensEnforced is read, compared
// and restored but never proposed here: it blocks every rollback.
package accountdefaults

import (
	"strconv"

	"github.com/imdsctl/imdsctl/internal/assess"
	"github.com/imdsctl/imdsctl/internal/fleet"
	"github.com/imdsctl/imdsctl/internal/inventory"
	"github.com/imdsctl/imdsctl/internal/kind"
	"github.com/imdsctl/imdsctl/internal/plan"
)

// ID is the one resource's id.
const ID = "metadata-defaults"

// FieldEnforced is the field that only account defaults have: launches whose resolved value is optional fail.
const FieldEnforced = "HttpTokensEnforced"

// VerbSetDefaults sets the account's defaults in the region.
const VerbSetDefaults = "set-defaults"

// managedByPolicy is the value of AttrManagedBy where only the organization can change the defaults.
const managedByPolicy = "declarative-policy"

const (
	actionGet    = "ec2:GetInstanceMetadataDefaults"
	actionModify = "ec2:ModifyInstanceMetadataDefaults"
)

// Kind describes account defaults.
func Kind() kind.Kind {
	return kind.Kind{
		Name: inventory.KindAccountDefaults,
		Doc: "The account's default metadata options in a region. A launch takes from them, field by field, what neither " +
			"its parameters nor its launch template say. Running instances do not change. A declarative policy of the " +
			"organization takes them out of the account's hands.",
		Manner: assess.Manner{Role: assess.RoleDefault, Metric: true},
		Reads:  []kind.Action{{Name: actionGet, Resource: "*"}},
		Writes: []kind.Action{{Name: actionModify, Resource: "*"}},
		Verbs: []kind.Verb{{
			Name: VerbSetDefaults, Class: plan.ClassSet, Disruption: kind.DisruptsNothing, Undo: kind.UndoFull,
			Calls:  map[string]int{actionGet: 2, actionModify: 1},
			Checks: map[string]int{actionModify: 1},
			DryRun: map[string]int{actionGet: 1, actionModify: 1},
		}},
		Propose:  propose,
		Commands: commands,
	}
}

func propose(c kind.Case) ([]plan.Need, []plan.Manual) {
	r, v := c.Resource, c.Verdict
	open := v.Status == assess.Ready || v.Status == assess.Blocked
	if open && (r.Attrs[inventory.AttrManagedBy] == managedByPolicy || v.Has(assess.CodeDeclarative)) {
		return nil, []plan.Manual{{
			Ref: r.Ref, Name: r.Name, Reason: "a declarative policy of the organization sets the account's metadata defaults",
			Remedy: "Set http_tokens to required in the declarative policy (DECLARATIVE_POLICY_EC2).",
		}}
	}
	if v.Status != assess.Ready {
		return nil, nil
	}
	patch := fleet.State{}
	if v.Want.Tokens == fleet.TokensRequired && r.State[fleet.FieldTokens] != fleet.TokensRequired {
		patch[fleet.FieldTokens] = fleet.TokensRequired
	}
	if hop := strconv.Itoa(v.Want.HopLimit); v.Want.HopLimit != 0 && r.State[fleet.FieldHopLimit] != hop {
		patch[fleet.FieldHopLimit] = hop
	}
	if len(patch) == 0 {
		return nil, nil
	}
	return []plan.Need{{
		Ref: r.Ref, Action: VerbSetDefaults, Class: plan.ClassSet, Stage: plan.StageDefaults, Patch: patch,
		Why: "launches that do not choose for themselves would allow IMDSv1",
	}}, nil
}

// fieldFlags are the fields with the CLI's names, in the order in which a command shows them.
func fieldFlags() [][2]string {
	return [][2]string{
		{fleet.FieldTokens, "--http-tokens"},
		{fleet.FieldHopLimit, "--http-put-response-hop-limit"},
		{fleet.FieldEndpoint, "--http-endpoint"},
		{fleet.FieldTags, "--instance-metadata-tags"},
		{FieldEnforced, "--http-tokens-enforced"},
	}
}

func commands(w kind.Write) []string {
	var args []string
	for _, f := range fieldFlags() {
		if value, ok := change(w, f[0]); ok {
			args = append(args, f[1], value)
		}
	}
	if len(args) == 0 {
		return nil
	}
	return []string{kind.Command(w.Place, "ec2", "modify-instance-metadata-defaults", args...)}
}

// change tells what to send for a field, and whether it changes at all.
func change(w kind.Write, field string) (string, bool) {
	before, had := w.Before[field]
	after, has := w.After[field]
	switch {
	case has && (!had || before != after):
		return after, true
	case had && !has && field == fleet.FieldHopLimit:
		return strconv.Itoa(noHopLimit), true
	case had && !has:
		return fleet.NoPreference, true
	default:
		return "", false
	}
}

// noHopLimit is EC2's "no preference" for the one field that is a number.
const noHopLimit = -1
