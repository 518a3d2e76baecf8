// Package lightsailinstance is the kind lightsail-instance: the metadata options of Amazon Lightsail instances, which EC2 does
// not show.
//
// It owns how an instance is read, what its options become, how they are written, and how its v1 calls are counted, which
// Lightsail does in a metric of its own. A change takes effect without a restart. A disabled metadata endpoint is never
// written.
package lightsailinstance

import (
	"regexp"
	"strconv"

	"github.com/imdsctl/imdsctl/internal/assess"
	"github.com/imdsctl/imdsctl/internal/evidence"
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
	actionList    = "lightsail:GetInstances"
	actionGet     = "lightsail:GetInstance"
	actionMetrics = "lightsail:GetInstanceMetricData"
	actionUpdate  = "lightsail:UpdateInstanceMetadataOptions"
)

// instances are all instances of a place. Their ARNs end in ids of their own, which nothing but the ARN says.
const instances = "arn:{partition}:lightsail:{region}:{account}:Instance/*"

// Kind describes Lightsail instances.
func Kind() kind.Kind {
	return kind.Kind{
		Name: inventory.KindLightsail,
		Doc: "Amazon Lightsail instances, by name. Metadata options belong to the instance; changing them needs no restart and " +
			"works on stopped instances too. Lightsail counts v1 calls in a metric of its own, MetadataNoToken, and, unlike " +
			"EC2, does not count those that are refused once tokens are required. It tells when an instance was made and not when " +
			"it last started, so only one that was made inside the evidence window counts as booted. Not all blueprints support " +
			"IMDSv2.",
		Manner: assess.Manner{Role: assess.RoleHost, Metric: true, Source: evidence.SourceLightsail},
		Reads: []kind.Action{
			{Name: actionList, Resource: "*"}, {Name: actionGet, Resource: "*"}, {Name: actionMetrics, Resource: "*"},
		},
		Writes: []kind.Action{{Name: actionUpdate, Resource: instances}},
		Verbs: []kind.Verb{{
			Name: VerbSetOptions, Class: plan.ClassSet, Disruption: kind.DisruptsNothing, Undo: kind.UndoFull,
			Calls: map[string]int{actionGet: 2, actionUpdate: 1},
		}},
		Propose:  propose,
		Commands: commands,
	}
}

// propose asks for the hop limit and for required tokens as two changes, the hop limit first: while v1 still works, a
// hop limit that is too low shows as v1 calls and not as an outage.
func propose(c kind.Case) ([]plan.Need, []plan.Manual) {
	r, v := c.Resource, c.Verdict
	if r.Status == inventory.StatusTerminated || v.Status != assess.Ready || r.State[fleet.FieldEndpoint] != fleet.Enabled {
		return nil, nil
	}
	var needs []plan.Need
	have := r.Options()
	if v.Want.HopLimit != 0 && v.Want.HopLimit != have.HopLimit {
		needs = append(needs, need(r, VariantHopLimit, plan.StageHopLimit,
			fleet.State{fleet.FieldHopLimit: strconv.Itoa(v.Want.HopLimit)},
			"tokens should travel "+strconv.Itoa(v.Want.HopLimit)+" hops, not "+strconv.Itoa(have.HopLimit)))
	}
	if v.Want.Tokens != "" && v.Want.Tokens != have.Tokens {
		n := need(r, VariantTokens, plan.StageFleet, fleet.State{fleet.FieldTokens: v.Want.Tokens},
			"the instance still answers IMDSv1, and nothing was seen to use it")
		if len(needs) > 0 {
			n.After = []plan.Key{needs[0].Key()}
		}
		needs = append(needs, n)
	}
	return needs, nil
}

func need(r *inventory.Resource, variant string, stage plan.Stage, patch fleet.State, why string) plan.Need {
	return plan.Need{
		Ref: r.Ref, Action: VerbSetOptions, Class: plan.ClassSet, Stage: stage, Variant: variant,
		Patch: patch, For: []fleet.Ref{r.Ref}, Why: why,
	}
}

// instanceName is the API's pattern of a resource's name. One that begins with a hyphen would be an option.
var instanceName = regexp.MustCompile(`^\w[\w\-]*\w$`)

// optionFlags are the CLI's names of the options, in the order in which a command shows them.
func optionFlags() [][2]string {
	return [][2]string{
		{fleet.FieldTokens, "--http-tokens"},
		{fleet.FieldHopLimit, "--http-put-response-hop-limit"},
		{fleet.FieldEndpoint, "--http-endpoint"},
		{fleet.FieldIPv6, "--http-protocol-ipv6"},
	}
}

func commands(w kind.Write) []string {
	if !instanceName.MatchString(w.ID) || writable(w) != nil {
		return nil
	}
	args := []string{"--instance-name", w.ID}
	for _, f := range optionFlags() {
		if value, ok := w.After[f[0]]; ok && (f[0] != fleet.FieldIPv6 || sendsIPv6(w)) {
			args = append(args, f[1], value)
		}
	}
	return []string{kind.Command(w.Place, "lightsail", "update-instance-metadata-options", args...)}
}

// ipv6Region is the only region in which the IPv6 endpoint can be set (API reference, UpdateInstanceMetadataOptions).
const ipv6Region = "eu-north-1"

// sendsIPv6 tells whether a write names the IPv6 endpoint: where it can be set at all, and where it is to change.
func sendsIPv6(w kind.Write) bool {
	return w.Place.Region == ipv6Region || w.Before[fleet.FieldIPv6] != w.After[fleet.FieldIPv6]
}
