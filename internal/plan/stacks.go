package plan

import (
	"slices"
	"strings"

	"github.com/imdsctl/imdsctl/internal/assess"
	"github.com/imdsctl/imdsctl/internal/fleet"
	"github.com/imdsctl/imdsctl/internal/inventory"
	"github.com/imdsctl/imdsctl/internal/policy"
)

// stack groups the changes of one place. Whatever shares a change, or waits for another's change, is one stack; the
// account's default is a stack of its own that follows all others of its place.
func (b *Builder) stack(p Proposal, placement policy.Placement, changes []*Change, needs []*Need) error {
	joined := newUnion()
	keyOf := make([]string, len(changes))
	byID := make(map[string]int, len(changes))
	for i, c := range changes {
		byID[c.ID] = i
		keyOf[i] = b.home(p.Report.Index, c.Ref, needs[i])
		if needs[i].Stage.late() {
			continue // it follows those it is for, and is none of them
		}
		for _, ref := range needs[i].For {
			joined.join(keyOf[i], b.groupKey(p.Report.Index, ref))
		}
		for _, id := range c.Needs {
			joined.join(keyOf[i], keyOf[byID[id]])
		}
	}
	groups := map[string][]int{}
	for i := range changes {
		root := joined.find(keyOf[i])
		groups[root] = append(groups[root], i)
	}
	calendar, err := b.calendar(p, placement)
	if err != nil {
		return err
	}
	first := len(b.plan.Stacks)
	keysOf := joined.sets()
	var ids, defaults []string
	var followUps []*Change
	for root, members := range groups {
		s := Stack{Wave: b.waveOf(placement, needs[members[0]].Stage), Place: p.Report.Place, Criticality: placement.Criticality, Calendar: calendar}
		s.ID, s.Name = stackID(s.Place, keysOf[root]), stackName(keysOf[root])
		s.Risk, s.RiskOf = riskOf(p.Report, changes, needs, members)
		s.Last = slices.ContainsFunc(members, func(i int) bool { return b.config.OwnHost(changes[i].Ref.ID) })
		slices.Sort(members)
		facts := stackFacts(p.Report.Index, placement.Criticality, changes, needs, members)
		s.Gates = b.gates(facts)
		b.steps(&s, p, b.config.PaceOf(facts), changes, needs, members)
		more, err := b.followUps(&s, p.Report.Index, changes, needs, members)
		if err != nil {
			return err
		}
		followUps = append(append(followUps, more...), b.proofs(&s, p.Report.Index, changes, needs, members)...)
		switch stage := needs[members[0]].Stage; {
		case stage == StageDefaults:
			defaults = append(defaults, s.ID)
		case !stage.late():
			ids = append(ids, s.ID)
		}
		b.plan.Stacks = append(b.plan.Stacks, s)
	}
	slices.Sort(ids)
	for i := first; i < len(b.plan.Stacks); i++ {
		if slices.Contains(defaults, b.plan.Stacks[i].ID) {
			b.plan.Stacks[i].After = ids
			// What follows one of imdsctl's own hosts comes as late as that does.
			b.plan.Stacks[i].Last = slices.ContainsFunc(b.plan.Stacks[first:], func(s Stack) bool { return s.Last })
		}
	}
	for _, c := range changes {
		b.plan.Changes = append(b.plan.Changes, *c)
	}
	for _, c := range followUps {
		b.plan.Changes = append(b.plan.Changes, *c)
	}
	return nil
}

// waveOf is the wave of a stack: its account's, unless its stage has one of its own after all others.
func (b *Builder) waveOf(placement policy.Placement, stage Stage) int {
	if i := slices.Index(lateStages(), stage); i >= 0 {
		return len(b.config.Waves) + i
	}
	return placement.Index
}

// riskOf is the worst risk of what a stack's changes write and are for, and whose it is.
func riskOf(r *assess.Report, changes []*Change, needs []*Need, members []int) (worst *assess.Risk, of fleet.Ref) {
	for _, i := range members {
		for _, ref := range append([]fleet.Ref{changes[i].Ref}, needs[i].For...) {
			v := r.Verdict(ref)
			if v == nil || v.Risk == nil {
				continue
			}
			if c := v.Risk.Compare(worst); c < 0 || c == 0 && ref.Compare(of) < 0 {
				worst, of = v.Risk, ref
			}
		}
	}
	return worst, of
}

// stackFacts is what the configuration looks at of a stack: the resources its changes write and those they are for.
func stackFacts(ix *inventory.Index, c policy.Criticality, changes []*Change, needs []*Need, members []int) policy.StackFacts {
	out := policy.StackFacts{Criticality: c}
	seen := map[fleet.Ref]bool{}
	for _, i := range members {
		for _, ref := range append([]fleet.Ref{changes[i].Ref}, needs[i].For...) {
			if r := ix.Resource(ref); r != nil && !seen[ref] {
				seen[ref] = true
				out.Resources = append(out.Resources, assess.Facts(ix, r))
			}
		}
	}
	return out
}

// home is the stack key a change belongs to by itself.
func (b *Builder) home(ix *inventory.Index, ref fleet.Ref, n *Need) string {
	switch {
	case n.Stage == StageDefaults:
		return "defaults/" + string(ref.Region)
	case n.Stage.late():
		return string(n.Stage) + "/" + ref.ID // a stack of its own, which shares a wave with its like
	}
	return b.groupKey(ix, ref)
}

// groupKey is a group's own name, or the group of an instance, or what the configuration groups a bare instance by.
func (b *Builder) groupKey(ix *inventory.Index, ref fleet.Ref) string {
	r := ix.Resource(ref)
	if r == nil || ref.Kind != inventory.KindInstance {
		return ref.Kind + "/" + ref.ID
	}
	if l, ok := r.Link(inventory.MemberOf); ok {
		return l.To.Kind + "/" + l.To.ID
	}
	key, _ := b.config.Stack.KeyOf(assess.Facts(ix, r))
	return key
}

// stackName is what people read: the names of what the stack holds, groups first.
func stackName(keys []string) string {
	var groups, others []string
	for _, k := range keys {
		kind, name, _ := strings.Cut(k, "/")
		switch kind {
		case inventory.KindAutoScaling:
			groups = append(groups, name)
		case "cloudformation", "tag":
			groups = append(groups, name)
		case "defaults":
			return "account default " + name
		case "instance":
			others = append(others, name)
		default:
			others = append(others, name)
		}
	}
	names := groups
	if len(names) == 0 {
		names = others
	}
	if len(names) > 3 {
		return strings.Join(names[:3], ", ") + ", …"
	}
	return strings.Join(names, ", ")
}

// union is a disjoint-set forest over stack keys.
type union struct{ parent map[string]string }

func newUnion() *union { return &union{parent: map[string]string{}} }

func (u *union) find(k string) string {
	p, ok := u.parent[k]
	if !ok {
		u.parent[k] = k
		return k
	}
	if p == k {
		return k
	}
	root := u.find(p)
	u.parent[k] = root
	return root
}

func (u *union) join(a, b string) {
	ra, rb := u.find(a), u.find(b)
	if ra == rb {
		return
	}
	if rb < ra { // the smaller key is the root, so that the result does not depend on the order of joins
		ra, rb = rb, ra
	}
	u.parent[rb] = ra
}

// sets lists the keys of each set, sorted, by root.
func (u *union) sets() map[string][]string {
	out := map[string][]string{}
	for k := range u.parent {
		root := u.find(k)
		out[root] = append(out[root], k)
	}
	for _, keys := range out {
		slices.Sort(keys)
	}
	return out
}
