package launchconfiguration

import (
	"cmp"
	"slices"
	"strings"

	"github.com/imdsctl/imdsctl/internal/assess"
	"github.com/imdsctl/imdsctl/internal/fleet"
	"github.com/imdsctl/imdsctl/internal/inventory"
	"github.com/imdsctl/imdsctl/internal/kind"
	"github.com/imdsctl/imdsctl/internal/plan"
)

// verbSetLaunchTemplate is the verb by which a group lets its launch configuration be exchanged for a launch template.
const verbSetLaunchTemplate = "set-launch-template"

// Fields of a group's state that the verb writes.
const (
	fieldConfiguration   = "LaunchConfigurationName"
	fieldTemplateID      = "LaunchTemplate.Id"
	fieldTemplateVersion = "LaunchTemplate.Version"
)

// onlyVersion is the version of a template that was made of a launch configuration. Groups name it by its number, so that what
// others add to the template later changes nothing for them.
const onlyVersion = "1"

// propose replaces a launch configuration for the groups that are ready: one template, and each group moved to it. The groups
// that are not stay with the launch configuration, which nobody changes.
func propose(c kind.Case) ([]plan.Need, []plan.Manual) {
	source := c.Resource
	said := source.Launch[""]
	if c.Verdict.Status == assess.Exempt || said.Tokens == fleet.TokensRequired || said.Endpoint == fleet.Disabled {
		return nil, nil
	}
	groups := ready(c)
	if len(groups) == 0 {
		return nil, nil
	}
	if why := source.Attrs[attrHindrance]; why != "" {
		return nil, manual(c, why, "Make a launch template that requires tokens and does without it, and let "+list(groups)+
			" launch from that.")
	}
	if made := source.State[FieldTemplate]; made != "" {
		if !sound(c, made) {
			return nil, manual(c, "launch template "+made+" says by its tag "+tagReplaces+" that it replaces the launch "+
				"configuration, and is not one template whose version 1 requires tokens",
				"Delete what is not needed, or remove its tag; then scan and plan again.")
		}
		return moves(groups, made, nil, c), nil
	}
	create := creation(c, groups)
	key := create.Key()
	return append([]plan.Need{create}, moves(groups, plan.OutputOf(key, OutputTemplate), []plan.Key{key}, c)...), nil
}

// ready lists the groups that launch from it and are ready, but for those that a service operates.
func ready(c kind.Case) []*inventory.Resource {
	var out []*inventory.Resource
	for _, user := range c.Index.Consumers(c.Resource.Ref) {
		v := c.Judge(user.Resource.Ref)
		if user.Resource.Ref.Kind == inventory.KindAutoScaling && v != nil && v.Status == assess.Ready &&
			!c.Index.Owner(user.Resource).Managed {
			out = append(out, user.Resource)
		}
	}
	return out
}

// sound tells whether a template that is there already may be launched from.
func sound(c kind.Case, id string) bool {
	t := c.Index.Resource(c.Resource.Ref.Sibling(inventory.KindLaunchTemplate, id))
	return t != nil && t.Launch[onlyVersion].Tokens == fleet.TokensRequired
}

func creation(c kind.Case, groups []*inventory.Resource) plan.Need {
	options := c.Resource.Launch[""]
	options.Tokens = fleet.TokensRequired
	options.HopLimit = cmp.Or(hopLimit(c, groups), options.HopLimit)
	n := plan.Need{
		Ref: c.Resource.Ref, Action: VerbCreateTemplate, Class: plan.ClassCreate, Stage: plan.StageLaunch, For: refs(groups),
		Params: options.State(), Outputs: []string{OutputTemplate},
		Why: "it lets what it launches answer IMDSv1, and cannot be changed",
	}
	n.Patch = fleet.State{FieldTemplate: plan.OutputOf(n.Key(), OutputTemplate)}
	return n
}

func moves(groups []*inventory.Resource, template string, after []plan.Key, c kind.Case) []plan.Need {
	var out []plan.Need
	for _, g := range groups {
		out = append(out, plan.Need{
			Ref: g.Ref, Action: verbSetLaunchTemplate, Class: plan.ClassSet, Stage: plan.StageLaunch, For: refs(groups), After: after,
			Patch: fleet.State{fieldConfiguration: fleet.Absent, fieldTemplateID: template, fieldTemplateVersion: onlyVersion},
			Why:   "it launches from launch configuration " + c.Resource.Ref.ID + ", which allows IMDSv1",
		})
	}
	return out
}

// hopLimit is the largest that a group wants, has or runs with: what was launched with more hops has shown nothing of how it
// would do with fewer. 0 keeps what the launch configuration says.
func hopLimit(c kind.Case, groups []*inventory.Resource) int {
	said := c.Resource.Launch[""].HopLimit
	most, ran, wanted := 0, 0, false
	for _, g := range groups {
		if v := c.Judge(g.Ref); v != nil {
			wanted = wanted || v.Want.HopLimit != 0
			most = max(most, cmp.Or(v.Want.HopLimit, v.Effective.HopLimit, said))
		}
		for _, m := range c.Index.Members(g.Ref) {
			ran = max(ran, proven(c, m))
		}
	}
	if own := cmp.Or(said, most, 1); !wanted && ran <= own { // 1 is what EC2 gives where nobody says anything
		return 0
	}
	return max(most, ran)
}

// proven is the hop limit that an instance has or will be given; 0 for one that is no more, or answers nobody.
func proven(c kind.Case, instance *inventory.Resource) int {
	if instance.Status == inventory.StatusTerminated || instance.State[fleet.FieldEndpoint] == fleet.Disabled {
		return 0
	}
	if v := c.Judge(instance.Ref); v != nil && v.Want.HopLimit != 0 {
		return v.Want.HopLimit
	}
	return instance.State.Options().HopLimit
}

func refs(groups []*inventory.Resource) []fleet.Ref {
	out := make([]fleet.Ref, len(groups))
	for i, g := range groups {
		out[i] = g.Ref
	}
	slices.SortFunc(out, fleet.Ref.Compare)
	return slices.Compact(out)
}

func list(groups []*inventory.Resource) string {
	names := make([]string, len(groups))
	for i, g := range groups {
		names[i] = g.Ref.ID
	}
	return strings.Join(names, ", ")
}

func manual(c kind.Case, reason, remedy string) []plan.Manual {
	return []plan.Manual{{Ref: c.Resource.Ref, Name: c.Resource.Name, Reason: reason, Remedy: remedy}}
}
