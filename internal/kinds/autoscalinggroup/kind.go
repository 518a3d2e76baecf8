// Package autoscalinggroup is the kind auto-scaling-group: from which launch template, and which version of it, a group
// will launch.
//
// It owns how a group is read and how one of its version selectors is written. A group has no metadata options of its
// own: what its future launches get is in the template (kind launch-template, which proposes the pins written here),
// and what runs is changed instance by instance. Scaling activities tie instances that are no more to the group they
// were in.
package autoscalinggroup

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"

	"github.com/imdsctl/imdsctl/internal/assess"
	"github.com/imdsctl/imdsctl/internal/fleet"
	"github.com/imdsctl/imdsctl/internal/inventory"
	"github.com/imdsctl/imdsctl/internal/kind"
	"github.com/imdsctl/imdsctl/internal/plan"
)

// VerbSetLaunchVersion makes one of a group's selectors name another version of the template it names already.
const VerbSetLaunchVersion = "set-launch-version"

const (
	actionDescribe   = "autoscaling:DescribeAutoScalingGroups"
	actionActivities = "autoscaling:DescribeScalingActivities"
	actionUpdate     = "autoscaling:UpdateAutoScalingGroup"
)

// Fields of a group's state. A launch template stands in one of three places, each with an id and a version.
const (
	FieldLaunchConfiguration = "LaunchConfigurationName"

	prefixPlain    = "LaunchTemplate."
	prefixMixed    = "MixedInstancesPolicy.LaunchTemplate."
	prefixOverride = "MixedInstancesPolicy.Overrides." // followed by the index and prefixPlain
	suffixID       = "Id"
	suffixVersion  = "Version"
)

// Kind describes Auto Scaling groups.
func Kind() kind.Kind {
	return kind.Kind{
		Name: inventory.KindAutoScaling,
		Doc: "EC2 Auto Scaling groups: the launch templates that they launch from, in their mixed instances policy and its " +
			"overrides too, by $Default, $Latest or number. A group of a launch configuration has to be moved to a template " +
			"by hand. Changing what a group launches from does not touch the instances that run.",
		Manner: assess.Manner{Role: assess.RoleLauncher, Metric: true},
		Reads: []kind.Action{
			{Name: actionDescribe, Resource: "*"},
			{Name: actionActivities, Resource: "*"},
		},
		Writes: []kind.Action{{
			// EC2 Auto Scaling user guide, "Control Amazon EC2 launch template usage in Auto Scaling groups": who updates a
			// group with a template must be able to launch from it, which takes its tags and its instance profile.
			Name: actionUpdate, With: []string{"ec2:RunInstances", "ec2:CreateTags", "iam:PassRole"},
			Resource: "arn:{partition}:autoscaling:{region}:{account}:autoScalingGroup:*:autoScalingGroupName/*",
		}},
		Verbs: []kind.Verb{{
			Name: VerbSetLaunchVersion, Class: plan.ClassSet, Disruption: kind.DisruptsNothing, Undo: kind.UndoFull,
			Calls: map[string]int{actionDescribe: 3, actionUpdate: 1},
		}},
		Propose:  propose,
		Commands: commands,
	}
}

// propose has manual steps only: what a group launches is changed in its template, by that kind.
func propose(c kind.Case) ([]plan.Need, []plan.Manual) {
	name, old := c.Resource.State[FieldLaunchConfiguration]
	if !old || c.Verdict.Status == assess.Done || c.Verdict.Status == assess.Exempt {
		return nil, nil
	}
	m := plan.Manual{
		Ref: c.Resource.Ref, Name: c.Resource.Name,
		Reason: "the group launches from the launch configuration " + name + ", which cannot be changed",
		Remedy: "Move the group to a launch template that requires tokens.",
	}
	if c.Resource.Owner.Managed {
		m.Remedy = "Change the setting in " + c.Resource.Owner.String() + ", which operates the group."
	}
	return nil, []plan.Manual{m}
}

var (
	templateID = regexp.MustCompile(`^lt-[0-9a-f]{8,17}$`)
	// selector is a version as a group may name it; in a plan also a reference to a version that is not made yet.
	selector = regexp.MustCompile(`^(\$Default|\$Latest|[1-9][0-9]{0,18}|\$\{c-[0-9a-f]{12}\.Version\})$`)
)

// commands can say a plain group's change whole. A mixed instances policy has more in it than the state, and the CLI
// replaces it as a whole: the command edits the policy as it is at that moment.
func commands(w kind.Write) []string {
	fields := changedVersions(w)
	if len(fields) == 0 || w.ID == "" {
		return nil
	}
	var edits []string
	for _, field := range fields {
		version := w.After[field]
		id := w.After[strings.TrimSuffix(field, suffixVersion)+suffixID]
		if !selector.MatchString(version) || !templateID.MatchString(id) {
			return nil
		}
		if field == prefixPlain+suffixVersion {
			return []string{kind.Command(w.Place, "autoscaling", "update-auto-scaling-group",
				"--auto-scaling-group-name", w.ID, "--launch-template", "LaunchTemplateId="+id+",Version="+version)}
		}
		edits = append(edits, policyPath(field)+"="+fmt.Sprintf("%q", version))
	}
	return []string{mixedCommand(w, edits)}
}

// mixedCommand reads the policy, edits it with jq and sends it back. A template is named by its id or its name, not
// both.
func mixedCommand(w kind.Write, edits []string) string {
	program := "del(..|.LaunchTemplateName?)|" + strings.Join(edits, "|")
	read := kind.Command(w.Place, "autoscaling", "describe-auto-scaling-groups", "--auto-scaling-group-names", w.ID,
		"--query", "AutoScalingGroups[0].MixedInstancesPolicy", "--output", "json")
	return kind.Command(w.Place, "autoscaling", "update-auto-scaling-group", "--auto-scaling-group-name", w.ID,
		"--mixed-instances-policy") + ` "$(` + read + " | jq -c " + kind.Quote(program) + `)"`
}

// policyPath is the path of a version field within a mixed instances policy, in jq's words.
func policyPath(field string) string {
	if n, ok := overrideIndex(field); ok {
		return fmt.Sprintf(".LaunchTemplate.Overrides[%d].LaunchTemplateSpecification.Version", n)
	}
	return ".LaunchTemplate.LaunchTemplateSpecification.Version"
}

// changedVersions lists the version fields that the write changes. Anything else that differs is not for this verb.
func changedVersions(w kind.Write) []string {
	var out []string
	for _, c := range fleet.Diff(w.Before, w.After) {
		if !strings.HasSuffix(c.Field, prefixPlain+suffixVersion) || !c.HadBefore || !c.HasAfter {
			return nil
		}
		out = append(out, c.Field)
	}
	return out
}

// sortedFields is the state's fields in order.
func sortedFields(s fleet.State) []string { return slices.Sorted(maps.Keys(s)) }
