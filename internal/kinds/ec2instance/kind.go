// Package ec2instance is the kind ec2-instance: the metadata options of running and stopped EC2 instances.
//
// It owns how an instance is read, what its options become and how they are written. A change takes effect at once and
// without a restart. A disabled metadata endpoint is never written: tokens and hop limit can only be sent together with
// HttpEndpoint=enabled, so that writing them would switch on what someone had switched off.
package ec2instance

import (
	"regexp"
	"strconv"
	"strings"

	"github.com/imdsctl/imdsctl/internal/assess"
	"github.com/imdsctl/imdsctl/internal/fleet"
	"github.com/imdsctl/imdsctl/internal/inventory"
	"github.com/imdsctl/imdsctl/internal/kind"
	"github.com/imdsctl/imdsctl/internal/plan"
)

// VerbSetOptions sets the metadata options of one instance.
const VerbSetOptions = "set-options"

// Variants of VerbSetOptions: the two are different failures and are watched apart.
const (
	VariantHopLimit = "hop-limit"
	VariantTokens   = "tokens"
)

const (
	actionDescribe = "ec2:DescribeInstances"
	actionModify   = "ec2:ModifyInstanceMetadataOptions"
	actionDefaults = "ec2:GetInstanceMetadataDefaults" // which say whether optional may be written at all
)

// Kind describes EC2 instances.
func Kind() kind.Kind {
	return kind.Kind{
		Name: inventory.KindInstance,
		Doc: "EC2 instances, those that AWS services manage included. Metadata options belong to the instance from its " +
			"launch on; changing them needs no restart and works on stopped instances too. AWS accepts a change first and " +
			"applies it within seconds (state pending, then applied).",
		Manner: assess.Manner{Role: assess.RoleHost, Metric: true},
		Reads:  []kind.Action{{Name: actionDescribe, Resource: "*"}, {Name: actionDefaults, Resource: "*"}},
		Writes: []kind.Action{
			{Name: actionModify, Resource: "arn:{partition}:ec2:{region}:{account}:instance/*"},
		},
		Verbs: []kind.Verb{{
			Name: VerbSetOptions, Class: plan.ClassSet, Disruption: kind.DisruptsNothing, Undo: kind.UndoFull,
			Calls:  map[string]int{actionDescribe: 2, actionModify: 1},
			Checks: map[string]int{actionDefaults: 1, actionModify: 1},
			DryRun: map[string]int{actionDefaults: 1, actionModify: 1},
		}},
		Propose:  propose,
		Commands: commands,
	}
}

// propose asks for the hop limit and for required tokens as two changes, the hop limit first: while v1 still works, a
// hop limit that is too low shows as v1 calls and not as an outage.
func propose(c kind.Case) ([]plan.Need, []plan.Manual) {
	r, v := c.Resource, c.Verdict
	if r.Status == inventory.StatusTerminated {
		return nil, nil
	}
	owner := c.Index.Owner(r)
	if owner.Managed || v.Has(assess.CodeManaged) {
		if v.Status != assess.Blocked || spokenFor(c, owner) {
			return nil, nil
		}
		return nil, []plan.Manual{managed(r, owner)}
	}
	if v.Status == assess.Exempt || r.State[fleet.FieldEndpoint] != fleet.Enabled {
		return nil, nil
	}
	var needs []plan.Need
	have := r.State.Options()
	// Raising the limit breaks nothing, whoever calls what; lowering it takes the same evidence as requiring tokens.
	settled := v.Status == assess.Ready || v.Status == assess.Done
	if v.Want.HopLimit > have.HopLimit || v.Want.HopLimit != 0 && v.Want.HopLimit < have.HopLimit && settled {
		needs = append(needs, need(r, VariantHopLimit, plan.StageHopLimit,
			fleet.State{fleet.FieldHopLimit: strconv.Itoa(v.Want.HopLimit)}, whyHopLimit(have.HopLimit, v.Want.HopLimit)))
	}
	if v.Status == assess.Ready && v.Want.Tokens != "" && v.Want.Tokens != have.Tokens {
		n := need(r, VariantTokens, plan.StageFleet, fleet.State{fleet.FieldTokens: v.Want.Tokens},
			"the instance still answers IMDSv1, and nothing was seen to use it")
		if len(needs) > 0 {
			n.After = []plan.Key{needs[0].Key()}
		}
		needs = append(needs, n)
	}
	return needs, nil
}

// spokenFor tells whether what operates the instance was read itself: its own kind then says what is to be done.
func spokenFor(c kind.Case, owner fleet.Owner) bool {
	if len(c.Index.Operators(c.Resource.Ref)) > 0 {
		return true
	}
	group, ok := c.Resource.Link(inventory.MemberOf)
	if !ok {
		return false
	}
	for _, o := range c.Index.Operators(group.To) {
		if o.Name == owner.Name || o.Ref.ID == owner.Name || strings.HasSuffix(o.Ref.ID, "/"+owner.Name) {
			return true
		}
	}
	return false
}

func need(r *inventory.Resource, variant string, stage plan.Stage, patch fleet.State, why string) plan.Need {
	return plan.Need{
		Ref: r.Ref, Action: VerbSetOptions, Class: plan.ClassSet, Stage: stage, Variant: variant,
		Patch: patch, For: []fleet.Ref{r.Ref}, Why: why,
	}
}

func whyHopLimit(have, want int) string {
	if want > have {
		return "tokens must travel " + strconv.Itoa(want) + " hops to reach the containers on this instance"
	}
	return "tokens need to travel only " + strconv.Itoa(want) + " hops, not " + strconv.Itoa(have)
}

func managed(r *inventory.Resource, owner fleet.Owner) plan.Manual {
	remedy := "Change the setting in the service that operates the instance; it would undo a change made here."
	if owner.Type == fleet.OwnerBeanstalk {
		remedy = "Set DisableIMDSv1 to true (namespace aws:autoscaling:launchconfiguration) on the environment " +
			owner.Name + "; it replaces the instances."
	}
	return plan.Manual{Ref: r.Ref, Name: r.Name, Reason: "the instance is operated by " + owner.String(), Remedy: remedy}
}

var instanceID = regexp.MustCompile(`^i-[0-9a-f]{8,17}$`)

// optionFlags are the CLI's names of the options, in the order in which a command shows them.
func optionFlags() [][2]string {
	return [][2]string{
		{fleet.FieldTokens, "--http-tokens"},
		{fleet.FieldHopLimit, "--http-put-response-hop-limit"},
		{fleet.FieldEndpoint, "--http-endpoint"},
		{fleet.FieldIPv6, "--http-protocol-ipv6"},
		{fleet.FieldTags, "--instance-metadata-tags"},
	}
}

func commands(w kind.Write) []string {
	if !instanceID.MatchString(w.ID) || writable(w) != nil {
		return nil
	}
	args := []string{"--instance-id", w.ID}
	for _, f := range optionFlags() {
		if value, ok := w.After[f[0]]; ok {
			args = append(args, f[1], value)
		}
	}
	return []string{kind.Command(w.Place, "ec2", "modify-instance-metadata-options", args...)}
}
