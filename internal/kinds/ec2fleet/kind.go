// Package ec2fleet is the kind ec2-fleet: from which launch templates, and which versions of them, an EC2 Fleet will
// launch.
//
// It owns how a fleet is read and how one of its version selectors is written. A fleet has no metadata options of its
// own: what its future launches get is in the templates (kind launch-template, which proposes the pins written here), and
// what runs is changed instance by instance. EC2 replaces a fleet's launch template configurations as a whole, so that a
// write sends back what it has just read, with nothing but versions changed.
package ec2fleet

import (
	"cmp"
	"fmt"
	"regexp"
	"strings"

	"github.com/imdsctl/imdsctl/internal/assess"
	"github.com/imdsctl/imdsctl/internal/fleet"
	"github.com/imdsctl/imdsctl/internal/inventory"
	"github.com/imdsctl/imdsctl/internal/kind"
	"github.com/imdsctl/imdsctl/internal/plan"
)

// VerbSetLaunchVersion makes one of a fleet's selectors name another version of the template it names already.
const VerbSetLaunchVersion = "set-launch-version"

const (
	actionDescribe  = "ec2:DescribeFleets"
	actionTemplates = "ec2:DescribeLaunchTemplates" // of fleets that name theirs by name
	actionModify    = "ec2:ModifyFleet"
)

// Fields of a fleet's state: one template for each launch template configuration, by its place in the list.
const (
	prefixConfig  = "LaunchTemplateConfigs." // followed by the index
	suffixID      = ".LaunchTemplateId"
	suffixName    = ".LaunchTemplateName" // only where no template of the name is there
	suffixVersion = ".Version"
)

// attrFixed says why a fleet's versions cannot be written; it is absent where they can.
const attrFixed = "not-writable"

// Kind describes EC2 Fleets.
func Kind() kind.Kind {
	return kind.Kind{
		Name: inventory.KindFleet,
		Doc: "EC2 Fleets of the types maintain and request: the launch templates that they launch from, each by $Default, " +
			"$Latest or number. EC2 makes a number of $Default and $Latest when a fleet is made or modified, so that it does not move " +
			"with its template, and only numbers are written here. Only a fleet of type maintain can be modified; what runs is not " +
			"touched by that. A fleet of type instant launches once, when it is made, and nothing again, and EC2 does not list it: it is left out, and so are " +
			"fleets that were deleted. Their instances are judged by the template they came from.",
		Manner: assess.Manner{Role: assess.RoleLauncher, Metric: true},
		Reads: []kind.Action{
			{Name: actionDescribe, Resource: "*"},
			{Name: actionTemplates, Resource: "*"},
		},
		Writes: []kind.Action{{
			// Service Authorization Reference, ModifyFleet: who lets a fleet launch from a template must be able to.
			Name: actionModify, With: []string{"ec2:RunInstances", "ec2:CreateTags", "iam:PassRole"},
			Resource: "arn:{partition}:ec2:{region}:{account}:fleet/*",
		}},
		Verbs: []kind.Verb{{
			Name: VerbSetLaunchVersion, Class: plan.ClassSet, Disruption: kind.DisruptsNothing, Undo: kind.UndoFull,
			Calls:  map[string]int{actionDescribe: 3, actionTemplates: 3, actionModify: 1},
			Checks: map[string]int{actionDescribe: 1, actionTemplates: 1, actionModify: 1},
			DryRun: map[string]int{actionDescribe: 1, actionTemplates: 1, actionModify: 1},
		}},
		Propose:  propose,
		Commands: commands,
	}
}

// propose has manual steps only: what a fleet launches is changed in its template, by that kind, which also says which
// selectors stand in the way. What it cannot say is how a fleet is replaced.
func propose(c kind.Case) ([]plan.Need, []plan.Manual) {
	r := c.Resource
	why := r.Attrs[attrFixed]
	if why == "" || c.Verdict.Status != assess.Ready {
		return nil, nil
	}
	for _, l := range r.Links {
		if l.Relation != inventory.LaunchesFrom || l.Selector == inventory.SelectDefault || l.Selector == inventory.SelectLatest {
			continue
		}
		template := c.Index.Resource(l.To)
		if template == nil {
			continue
		}
		if o, read := template.Launch[l.Selector]; read && o.Tokens != fleet.TokensRequired && o.Endpoint != fleet.Disabled {
			return nil, []plan.Manual{{
				Ref: r.Ref, Name: r.Name, Remedy: remedy(r.Ref),
				Reason: fmt.Sprintf("the fleet launches from version %s of %s, which still allows IMDSv1, and %s", l.Selector,
					cmp.Or(template.Name, l.To.ID), why),
			}}
		}
	}
	return nil, nil
}

// remedy tells how a fleet is replaced by one of another version; its instances run on.
func remedy(ref fleet.Ref) string {
	const fields = "LaunchTemplateConfigs:LaunchTemplateConfigs,TargetCapacitySpecification:TargetCapacitySpecification," +
		"SpotOptions:SpotOptions,OnDemandOptions:OnDemandOptions,Type:Type"
	return "Make another fleet from a version that requires tokens, and delete this one: " +
		kind.Command(ref.Place, "ec2", "describe-fleets", "--fleet-ids", ref.ID, "--output", "json", "--query",
			"Fleets[0].{"+fields+"}") + " > fleet.json; set the new Version in fleet.json; " +
		kind.Command(ref.Place, "ec2", "create-fleet", "--cli-input-json", "file://fleet.json") + "; " +
		kind.Command(ref.Place, "ec2", "delete-fleets", "--fleet-ids", ref.ID, "--no-terminate-instances")
}

var (
	fleetID = regexp.MustCompile(`^fleet-[0-9a-f-]{36}$`)
	// number is a version as it is written; in a plan also a reference to a version that is not made yet.
	number = regexp.MustCompile(`^([1-9][0-9]{0,18}|\$\{c-[0-9a-f]{12}\.Version\})$`)
)

// commands read the configurations, edit them with jq and send them back with the target capacity, since both are replaced
// as a whole and hold more than the state does. A template is named by its id or its name, not both.
func commands(w kind.Write) []string {
	fields := changedVersions(w)
	if len(fields) == 0 || !fleetID.MatchString(w.ID) {
		return nil
	}
	edits := []string{"map(if .LaunchTemplateSpecification.LaunchTemplateId then del(.LaunchTemplateSpecification." +
		"LaunchTemplateName) else . end)"}
	for _, field := range fields {
		n, ok := configIndex(field)
		if !ok || !number.MatchString(w.After[field]) {
			return nil
		}
		edits = append(edits, fmt.Sprintf(".[%d].LaunchTemplateSpecification.Version=%q", n, w.After[field]))
	}
	read := func(query string) string {
		return kind.Command(w.Place, "ec2", "describe-fleets", "--fleet-ids", w.ID, "--output", "json", "--query",
			"Fleets[0]."+query)
	}
	return []string{kind.Command(w.Place, "ec2", "modify-fleet", "--fleet-id", w.ID, "--target-capacity-specification") +
		` "$(` + read("TargetCapacitySpecification") + `)" --launch-template-configs "$(` + read("LaunchTemplateConfigs") +
		" | jq -c " + kind.Quote(strings.Join(edits, "|")) + `)"`}
}

// changedVersions lists the version fields that the write changes, to numbers. Anything else that differs is not for this verb.
func changedVersions(w kind.Write) []string {
	var out []string
	for _, c := range fleet.Diff(w.Before, w.After) {
		if !strings.HasSuffix(c.Field, suffixVersion) || !c.HadBefore || !c.HasAfter || !number.MatchString(c.After) {
			return nil
		}
		out = append(out, c.Field)
	}
	return out
}
