package plan

import (
	"fmt"
	"maps"
	"slices"
	"strconv"

	"github.com/imdsctl/imdsctl/internal/assess"
	"github.com/imdsctl/imdsctl/internal/fleet"
	"github.com/imdsctl/imdsctl/internal/inventory"
	"github.com/imdsctl/imdsctl/internal/policy"
)

// The verb by which a launcher replaces what it has launched, and what the state of its change says: FieldRefresh is absent
// before, and RefreshSuccessful at the end.
const (
	ActionRefresh     = "refresh"
	FieldRefresh      = "InstanceRefresh"
	RefreshSuccessful = "Successful"
	outputRefresh     = "InstanceRefreshId"
	// ParamPlanned is when the plan was made, in seconds since 1970: what was started before is not the plan's.
	ParamPlanned = "planned"
)

// replace leaves out the changes of running instances that their groups are to replace, as the configuration chooses for each
// stack, and adds the refreshes by which they do. Who would not be replaced by something that requires tokens is named among
// the steps for people, and not changed either.
func (b *Builder) replace(p Proposal, placement policy.Placement, needs []*Need) []*Need {
	if r := b.config.Rollout.Replacement; r.Default == policy.ReplaceInPlace && len(r.Rules) == 0 {
		return needs
	}
	left := map[Key]bool{}
	groups := map[fleet.Ref]policy.Replacement{}
	for _, members := range b.partition(p, needs) {
		how, _ := b.config.ReplacementOf(needFacts(p.Report.Index, placement.Criticality, members))
		if how == policy.ReplaceInPlace {
			continue
		}
		for _, n := range members {
			if group, ok := b.replaceable(p, n); ok {
				left[n.Key()], groups[group] = true, how
			}
		}
	}
	kept := without(needs, left)
	for _, group := range slices.SortedFunc(maps.Keys(groups), fleet.Ref.Compare) {
		launches := launchesOf(kept, group)
		if why := b.unreplaced(p, group, groups[group], launches); why != nil {
			b.leave(*why)
			continue
		}
		b.replaced[group] = true
		if groups[group] == policy.ReplaceByRefresh {
			kept = append(kept, b.refresh(group, launches))
		}
	}
	return kept
}

// partition divides the needs of a place into those that will share a stack.
func (b *Builder) partition(p Proposal, needs []*Need) map[string][]*Need {
	joined := newUnion()
	keys := make(map[Key]string, len(needs))
	for _, n := range needs {
		keys[n.Key()] = b.home(p.Report.Index, n.Ref, n)
	}
	for _, n := range needs {
		for _, a := range n.After {
			if other, ok := keys[a]; ok {
				joined.join(keys[n.Key()], other)
			}
		}
		if n.Stage.late() {
			continue
		}
		for _, ref := range n.For {
			joined.join(keys[n.Key()], b.groupKey(p.Report.Index, ref))
		}
	}
	out := map[string][]*Need{}
	for _, n := range needs {
		root := joined.find(keys[n.Key()])
		out[root] = append(out[root], n)
	}
	return out
}

// needFacts is what the configuration looks at of a stack that is not made yet.
func needFacts(ix *inventory.Index, c policy.Criticality, needs []*Need) policy.StackFacts {
	out := policy.StackFacts{Criticality: c}
	seen := map[fleet.Ref]bool{}
	for _, n := range needs {
		for _, ref := range append([]fleet.Ref{n.Ref}, n.For...) {
			if r := ix.Resource(ref); r != nil && !seen[ref] {
				seen[ref] = true
				out.Resources = append(out.Resources, assess.Facts(ix, r))
			}
		}
	}
	return out
}

// replaceable gives the group that would replace the running instance which a need changes. A host of imdsctl's own is not
// replaced by imdsctl, and what is not running is not replaced by anybody.
func (b *Builder) replaceable(p Proposal, n *Need) (fleet.Ref, bool) {
	r := p.Report.Index.Resource(n.Ref)
	if r == nil || n.Ref.Kind != inventory.KindInstance || n.Stage != StageHopLimit && n.Stage != StageFleet ||
		r.Status != inventory.StatusRunning && r.Status != inventory.StatusPending {
		return fleet.Ref{}, false
	}
	l, ok := r.Link(inventory.MemberOf)
	if !ok || l.To.Kind != inventory.KindAutoScaling {
		return fleet.Ref{}, false
	}
	own := func(m *inventory.Resource) bool { return b.config.OwnHost(m.Ref.ID) }
	return l.To, !slices.ContainsFunc(p.Report.Index.Members(l.To), own)
}

// without drops the needs that are left, and what others say of coming after them.
func without(needs []*Need, left map[Key]bool) []*Need {
	var out []*Need
	for _, n := range needs {
		if left[n.Key()] {
			continue
		}
		n.After = slices.DeleteFunc(n.After, func(k Key) bool { return left[k] })
		out = append(out, n)
	}
	return out
}

// launchesOf lists the needs that change what a launcher launches.
func launchesOf(needs []*Need, launcher fleet.Ref) []Key {
	var out []Key
	for _, n := range needs {
		if n.Stage == StageLaunch && (n.Ref == launcher || slices.Contains(n.For, launcher)) {
			out = append(out, n.Key())
		}
	}
	return out
}

// unreplaced says why the instances of a group are neither changed nor replaced by this plan; nil where they are replaced.
func (b *Builder) unreplaced(p Proposal, group fleet.Ref, how policy.Replacement, launches []Key) *Manual {
	ix := p.Report.Index
	m := &Manual{Ref: group, Name: name(p, group)}
	v, r := p.Report.Verdict(group), ix.Resource(group)
	word := "`rollout.replacement` is " + string(how) + " for it"
	switch {
	case r == nil || v == nil || v.Status != assess.Done && (v.Status != assess.Ready || len(launches) == 0):
		m.Reason = "its running instances are left until they are replaced (" + word + "), and this plan does not change what it launches"
		m.Remedy = "See to what keeps its launches as they are, or let its instances be changed in place."
		return m
	case ix.Owner(r).Managed:
		m.Reason = "it is operated by " + ix.Owner(r).String() + ", and its instances are not changed in place (" + word + ")"
		m.Remedy = "Replace them in " + ix.Owner(r).String() + ", or let them be changed in place."
		return m
	case how == policy.ReplaceNaturally && len(launches) == 0:
		m.Reason = "it launches instances that require tokens, and those that run since before are left until they are replaced (" + word + ")"
		m.Remedy = "Wait until it has replaced them, and see `imdsctl status`; or let them be refreshed or changed in place."
		return m
	}
	for _, host := range ix.Members(group) {
		hv := p.Report.Verdict(host.Ref)
		if host.Status == inventory.StatusRunning && how == policy.ReplaceByRefresh &&
			(hv == nil || hv.Status != assess.Ready && hv.Status != assess.Done) {
			m.Reason = fmt.Sprintf("it is not refreshed (%s), because its instance %s is not ready", word, host.Ref.ID)
			m.Remedy = "Make the instance ready, or let the others be changed in place."
			return m
		}
	}
	return nil
}

// refresh asks for the replacement of a group's instances once it launches what it is to launch.
func (b *Builder) refresh(group fleet.Ref, launches []Key) *Need {
	return &Need{
		Ref: group, Action: ActionRefresh, Class: ClassStart, Stage: StageLaunch, For: []fleet.Ref{group}, After: launches,
		Patch:   fleet.State{FieldRefresh: RefreshSuccessful},
		Params:  map[string]string{ParamPlanned: strconv.FormatInt(b.plan.Header.Created.Unix(), 10)},
		Outputs: []string{outputRefresh},
		Why:     "its running instances allow IMDSv1 and are replaced, as `rollout.replacement` has it",
	}
}
