package plan

import (
	"fmt"
	"slices"
	"strings"

	"github.com/imdsctl/imdsctl/internal/fleet"
	"github.com/imdsctl/imdsctl/internal/inventory"
)

// Actions of the follow-ups that keep a step open until it is seen what is launched now.
const (
	// ActionLaunched: one instance was launched from what the launcher launches from now, runs with tokens required and passes
	// its status checks; or nothing was launched within the patience in ParamTimeout.
	ActionLaunched = "launched"
	// ActionReplaced: that holds of all its running instances, or they require tokens as they are.
	ActionReplaced = "replaced"
)

// Parameters of these follow-ups, besides ParamName and, with the launcher's id, ParamInstance.
const (
	// ParamTag is the key of the tag that the launcher's instances carry with ParamInstance as its value.
	ParamTag = "tag"
	// ParamFrom lists the templates and versions, "lt-0abc:5", joined by commas, that it launches from now.
	ParamFrom = "from"
)

// instanceTag is the tag by which the instances of a launcher name it, for the kinds that have one. Only AWS can set it.
// Sources: Auto Scaling user guide, "Tag lifecycle"; EC2 user guide, "Tag an EC2 Fleet", "Tag a Spot Fleet".
func instanceTag(kind string) string {
	switch kind {
	case inventory.KindAutoScaling:
		return "aws:autoscaling:groupName"
	case inventory.KindFleet:
		return "aws:ec2:fleet-id"
	case inventory.KindSpotFleet:
		return "aws:ec2spot:fleet-request-id"
	}
	return ""
}

// proofs are the follow-ups of a stack's launch changes: one a launcher that launches from something new, or whose instances
// are replaced.
func (b *Builder) proofs(s *Stack, ix *inventory.Index, changes []*Change, needs []*Need, members []int) []*Change {
	after := map[fleet.Ref]fleet.State{} // how the plan leaves each resource
	touched := map[fleet.Ref][]int{}
	for _, i := range members {
		after[changes[i].Ref] = changes[i].After
		if needs[i].Stage != StageLaunch {
			continue
		}
		for _, ref := range launchersOf(needs[i]) {
			touched[ref] = append(touched[ref], i)
		}
	}
	var out []*Change
	for _, ref := range sortedRefs(touched) {
		launcher := ix.Resource(ref)
		if launcher == nil {
			continue
		}
		state := func(r *inventory.Resource) fleet.State {
			if left, ok := after[r.Ref]; ok {
				return left
			}
			return r.State
		}
		now := sources(ix, launcher, state)
		was := sources(ix, launcher, func(r *inventory.Resource) fleet.State { return r.State })
		if len(now) == 0 || slices.Equal(now, was) && !b.replaced[ref] {
			continue
		}
		of := make([]*Change, len(touched[ref]))
		for k, i := range touched[ref] {
			of[k] = changes[i]
		}
		c := b.proof(launcher, of, now)
		s.Steps[c.Step].Changes++
		out = append(out, c)
	}
	return out
}

// launchersOf lists the launchers that a need serves.
func launchersOf(n *Need) []fleet.Ref {
	var out []fleet.Ref
	for _, ref := range append([]fleet.Ref{n.Ref}, n.For...) {
		if instanceTag(ref.Kind) != "" && !slices.Contains(out, ref) {
			out = append(out, ref)
		}
	}
	return out
}

func sortedRefs(m map[fleet.Ref][]int) []fleet.Ref {
	out := make([]fleet.Ref, 0, len(m))
	for ref := range m {
		out = append(out, ref)
	}
	slices.SortFunc(out, fleet.Ref.Compare)
	return out
}

// Fields by which a group names a template that it was given instead of its launch configuration.
const (
	fieldTemplateID      = "LaunchTemplate.Id"
	fieldTemplateVersion = "LaunchTemplate.Version"
)

// sources lists the templates and versions that a launcher launches from where resources are as state says. A version may be
// the output of a change.
func sources(ix *inventory.Index, launcher *inventory.Resource, state func(*inventory.Resource) fleet.State) []string {
	var out []string
	own := state(launcher)
	for _, l := range launcher.Links {
		if l.Relation != inventory.LaunchesFrom || l.To.Kind != inventory.KindLaunchTemplate {
			continue
		}
		selector := l.Selector
		if v, ok := own[l.Field]; ok && l.Field != "" {
			selector = v
		}
		out = append(out, l.To.ID+":"+version(ix.Resource(l.To), selector, state))
	}
	if id := own[fieldTemplateID]; id != "" && launcher.State[fieldTemplateID] == "" {
		out = append(out, id+":"+own[fieldTemplateVersion])
	}
	slices.Sort(out)
	return slices.Compact(out)
}

func version(template *inventory.Resource, selector string, state func(*inventory.Resource) fleet.State) string {
	switch {
	case template == nil:
		return selector
	case selector == "" || selector == inventory.SelectDefault:
		return state(template)[inventory.FieldDefaultVersion]
	case selector == inventory.SelectLatest:
		return state(template)[inventory.FieldLatestVersion]
	}
	return selector
}

// proof is the follow-up of the changes of one launcher, in the step of the last of them.
func (b *Builder) proof(launcher *inventory.Resource, of []*Change, from []string) *Change {
	last := of[0]
	var needs []string
	for _, c := range of {
		needs = append(needs, c.ID)
		if c.Step >= last.Step {
			last = c
		}
	}
	slices.Sort(needs)
	c := &Change{
		Name: launcher.Name, Action: ActionLaunched, Class: ClassStart, Stack: last.Stack, Step: last.Step, Canary: last.Canary,
		Before: fleet.State{}, After: fleet.State{FieldStatus: StatusDone}, Needs: slices.Compact(needs),
		Undo: UndoNone, Disruption: undisrupted, Evidence: last.Evidence, Override: last.Override,
		Calls:  map[string]int{"ec2:DescribeInstances": 2, "ec2:DescribeInstanceStatus": 1},
		Params: map[string]string{ParamInstance: launcher.Ref.ID, ParamTag: instanceTag(launcher.Ref.Kind), ParamFrom: strings.Join(from, ",")},
		Why:    "until an instance launched from it is seen to require tokens and to pass its status checks",
	}
	if b.replaced[launcher.Ref] {
		c.Action = ActionReplaced
		c.Why = "until all its running instances were launched from it or require tokens"
	} else {
		c.Params[ParamTimeout] = b.config.Gates.LaunchPatience(launcher.Attrs[inventory.AttrDesired] == "0").String()
	}
	c.Params[ParamName] = c.Action
	c.Ref = launcher.Ref.Sibling(KindFollowUp,
		fmt.Sprintf("%s/%s/%s/%d", launcher.Ref.Kind, launcher.Ref.ID, c.Action, b.plan.Header.Created.Unix()))
	c.ID = changeID(NeedKey(c.Ref, c.Action, ""))
	return c
}
