// Package autoscalinggroup is the kind auto-scaling-group: from which launch template, and which version of it, a group
// will launch, or from which launch configuration.
//
// It owns how a group is read, how one of its version selectors is written, how its launch configuration is exchanged for a
// launch template, and how its instances are replaced (refresh.go). A group has no metadata options of its own: what its
// future launches get is in the template or launch configuration (kinds launch-template and launch-configuration, which
// propose what is written here), and what runs is changed instance by instance, or replaced where the configuration asks for
// that. Scaling activities tie instances that are no more to the group they were in.
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

// Verbs of a group.
const (
	// VerbSetLaunchVersion makes one of a group's selectors name another version of the template it names already.
	VerbSetLaunchVersion = "set-launch-version"
	// VerbSetLaunchTemplate makes a group launch from a launch template instead of its launch configuration.
	VerbSetLaunchTemplate = "set-launch-template"
	// VerbRefresh replaces, one after the other, the instances that were launched from something else than what the group
	// launches from now.
	VerbRefresh = plan.ActionRefresh
)

const (
	actionDescribe   = "autoscaling:DescribeAutoScalingGroups"
	actionActivities = "autoscaling:DescribeScalingActivities"
	actionRefreshes  = "autoscaling:DescribeInstanceRefreshes"
	actionUpdate     = "autoscaling:UpdateAutoScalingGroup"
	actionStart      = "autoscaling:StartInstanceRefresh"
	actionCancel     = "autoscaling:CancelInstanceRefresh"
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
	const arn = "arn:{partition}:autoscaling:{region}:{account}:autoScalingGroup:*:autoScalingGroupName/*"
	// EC2 Auto Scaling user guide, "Control Amazon EC2 launch template usage in Auto Scaling groups": who updates a group with a
	// template, or refreshes it with one, must be able to launch from it, which takes its tags and its instance profile.
	launch := []string{"ec2:RunInstances", "ec2:CreateTags", "iam:PassRole"}
	return kind.Kind{
		Name: inventory.KindAutoScaling,
		Doc: "EC2 Auto Scaling groups: the launch templates that they launch from, in their mixed instances policy and its " +
			"overrides too, by $Default, $Latest or number, or their launch configuration, for which they can be given a launch " +
			"template. Changing what a group launches from does not touch the instances that run; an instance refresh replaces " +
			"them, where the configuration asks for it.",
		Manner: assess.Manner{Role: assess.RoleLauncher, Metric: true},
		Reads: []kind.Action{
			{Name: actionDescribe, Resource: "*"},
			{Name: actionActivities, Resource: "*"},
			{Name: actionRefreshes, Resource: "*", ToWrite: true},
		},
		Writes: []kind.Action{
			{Name: actionUpdate, With: launch, Resource: arn},
			{Name: actionStart, With: launch, Resource: arn},
			{Name: actionCancel, Resource: arn},
		},
		Verbs: []kind.Verb{
			{
				Name: VerbSetLaunchVersion, Class: plan.ClassSet, Disruption: kind.DisruptsNothing, Undo: kind.UndoFull,
				Calls: map[string]int{actionDescribe: 3, actionUpdate: 1},
			},
			{
				Name: VerbSetLaunchTemplate, Class: plan.ClassSet, Disruption: kind.DisruptsNothing, Undo: kind.UndoFull,
				Calls: map[string]int{actionDescribe: 3, actionUpdate: 1},
			},
			{
				Name: VerbRefresh, Class: plan.ClassStart, Disruption: kind.DisruptsReplace, Undo: kind.UndoNone,
				Residue: "the instances that were replaced are gone; on the way back, a refresh that still runs is cancelled",
				Outputs: []string{OutputRefresh},
				Calls:   map[string]int{actionDescribe: 3, actionRefreshes: 2, actionStart: 1},
			},
		},
		Propose:  propose,
		Commands: commands,
	}
}

// propose has manual steps only: what a group launches is changed in its template, or replaced by one, by those kinds.
func propose(c kind.Case) ([]plan.Need, []plan.Manual) {
	name, old := c.Resource.State[FieldLaunchConfiguration]
	if !old || c.Verdict.Status == assess.Done || c.Verdict.Status == assess.Exempt {
		return nil, nil
	}
	m := plan.Manual{
		Ref: c.Resource.Ref, Name: c.Resource.Name,
		Reason: "the group launches from the launch configuration " + name + ", which cannot be changed",
	}
	switch owner := c.Index.Owner(c.Resource); {
	case owner.Managed:
		m.Remedy = "Change the setting in " + owner.String() + ", which operates the group."
	case c.Index.Resource(c.Resource.Ref.Sibling(inventory.KindLaunchConfiguration, name)) == nil:
		m.Reason = "the group launches from the launch configuration " + name + ", which was not found"
		m.Remedy = "Let the group launch from a launch template that requires tokens."
	default:
		return nil, nil // its launch configuration is replaced as soon as the group is ready
	}
	return nil, []plan.Manual{m}
}

var (
	templateID = regexp.MustCompile(`^lt-[0-9a-f]{8,17}$`)
	// idOrOutput is a template as a plan may have it: known, or made by an earlier change.
	idOrOutput = regexp.MustCompile(`^(lt-[0-9a-f]{8,17}|\$\{c-[0-9a-f]{12}\.TemplateId\})$`)
	// selector is a version as a group may name it; in a plan also a reference to a version that is not made yet.
	selector = regexp.MustCompile(`^(\$Default|\$Latest|[1-9][0-9]{0,18}|\$\{c-[0-9a-f]{12}\.Version\})$`)
)

func commands(w kind.Write) []string {
	switch {
	case w.ID == "":
		return nil
	case w.Verb == VerbSetLaunchVersion:
		return versionCommands(w)
	case w.Verb == VerbSetLaunchTemplate:
		return templateCommands(w)
	case w.Verb == VerbRefresh && w.Revert:
		return []string{kind.Command(w.Place, "autoscaling", "cancel-instance-refresh", "--auto-scaling-group-name", w.ID)}
	case w.Verb == VerbRefresh:
		return []string{kind.Command(w.Place, "autoscaling", "start-instance-refresh", "--auto-scaling-group-name", w.ID,
			"--preferences", `{"SkipMatching":true}`)}
	}
	return nil
}

// templateCommands names a template, or the launch configuration again.
func templateCommands(w kind.Write) []string {
	source, ok := exchanged(w)
	if !ok {
		return nil
	}
	args := []string{"--auto-scaling-group-name", w.ID, "--launch-configuration-name", source.configuration}
	if source.configuration == "" {
		if !idOrOutput.MatchString(source.template) || !selector.MatchString(source.version) {
			return nil
		}
		args = []string{"--auto-scaling-group-name", w.ID,
			"--launch-template", "LaunchTemplateId=" + source.template + ",Version=" + source.version}
	}
	return []string{kind.Command(w.Place, "autoscaling", "update-auto-scaling-group", args...)}
}

// source is what a group is to launch from: a launch configuration, or a template and a version.
type source struct{ configuration, template, version string }

// exchanged reads from a write what is exchanged for what: a launch configuration for a template, or on the way back the
// template for the launch configuration. Anything else that differs is not for this verb.
func exchanged(w kind.Write) (source, bool) {
	const id, version = prefixPlain + suffixID, prefixPlain + suffixVersion
	from := func(s fleet.State) source { return source{s[FieldLaunchConfiguration], s[id], s[version]} }
	before, after := from(w.Before), from(w.After)
	rest := fleet.State{FieldLaunchConfiguration: fleet.Absent, id: fleet.Absent, version: fleet.Absent}
	whole := func(s source) bool {
		return s.configuration != "" && s.template == "" && s.version == "" ||
			s.configuration == "" && s.template != "" && s.version != ""
	}
	return after, whole(before) && whole(after) && (before.configuration == "") != (after.configuration == "") &&
		w.Before.With(rest).Equal(w.After.With(rest))
}

// versionCommands can say a plain group's change whole. A mixed instances policy has more in it than the state, and the CLI
// replaces it as a whole: the command edits the policy as it is at that moment.
func versionCommands(w kind.Write) []string {
	fields := changedVersions(w)
	if len(fields) == 0 {
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
