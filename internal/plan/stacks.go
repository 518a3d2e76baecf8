package plan

import (
	"cmp"
	"slices"
	"strings"
	"time"

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
	first := len(b.plan.Stacks)
	keysOf := joined.sets()
	var ids, defaults []string
	for root, members := range groups {
		s := Stack{Wave: placement.Index, Place: p.Report.Place, Criticality: placement.Criticality}
		s.ID, s.Name = stackID(s.Place, keysOf[root]), stackName(keysOf[root])
		s.Last = slices.ContainsFunc(members, func(i int) bool { return b.config.OwnHost(changes[i].Ref.ID) })
		slices.Sort(members)
		b.steps(&s, p, placement, changes, needs, members)
		if needs[members[0]].Stage == StageDefaults {
			defaults = append(defaults, s.ID)
		} else {
			ids = append(ids, s.ID)
		}
		b.plan.Stacks = append(b.plan.Stacks, s)
	}
	slices.Sort(ids)
	for i := first; i < len(b.plan.Stacks); i++ {
		if slices.Contains(defaults, b.plan.Stacks[i].ID) {
			b.plan.Stacks[i].After = ids
		}
	}
	for _, c := range changes {
		b.plan.Changes = append(b.plan.Changes, *c)
	}
	return nil
}

// home is the stack key a change belongs to by itself.
func (b *Builder) home(ix *inventory.Index, ref fleet.Ref, n *Need) string {
	if n.Stage == StageDefaults {
		return "defaults/" + string(ref.Region)
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
	key, _ := b.config.Stack.KeyOf(policy.ResourceFacts{Ref: r.Ref, Name: r.Name, Tags: r.Tags})
	return key
}

// steps cuts a stack's changes into steps: hop limits, the canary, the rest of the fleet, what future launches are told.
func (b *Builder) steps(s *Stack, p Proposal, placement policy.Placement, changes []*Change, needs []*Need, members []int) {
	canaries := b.canaries(p.Report.Index, changes, needs, members)
	for _, stage := range Stages() {
		var canary, rest []int
		for _, i := range members {
			switch {
			case needs[i].Stage != stage:
			case canaries[i]:
				canary = append(canary, i)
			default:
				rest = append(rest, i)
			}
		}
		for _, step := range []struct {
			name    string
			members []int
		}{{"canary", canary}, {string(stage), rest}} {
			if len(step.members) == 0 {
				continue
			}
			for _, i := range step.members {
				changes[i].Stack, changes[i].Step, changes[i].Canary = s.ID, len(s.Steps), step.name == "canary"
			}
			s.Steps = append(s.Steps, Step{Name: step.name, Stage: stage, Changes: len(step.members),
				Bake: b.bake(stage, p, placement)})
		}
	}
}

// bake is how long a step is watched: as the account's criticality asks, but a default in a place where nothing runs, and so
// nothing can show anything, only as long as a gate needs to see a first launch.
func (b *Builder) bake(stage Stage, p Proposal, placement policy.Placement) time.Duration {
	shortest := shortestBake(b.plan.Header.Rules)
	if stage == StageDefaults && !p.Report.Index.Any(inventory.StatusRunning) {
		return shortest
	}
	return max(b.config.Bake.For(placement.Criticality), shortest)
}

// shortestBake is the least time in which a gate can tell anything: one reading after the metric's delay, and where a
// heartbeat is asked for, a whole period of basic monitoring (five minutes) that began after the change.
// https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/manage-detailed-monitoring.html
func shortestBake(r Rules) time.Duration {
	if r.Heartbeat {
		return r.MetricDelay + max(r.GateInterval, 2*5*time.Minute)
	}
	return r.MetricDelay + r.GateInterval
}

// canaries picks the first running instances of the stack, by id, but never a host of imdsctl's own while there is another.
func (b *Builder) canaries(ix *inventory.Index, changes []*Change, needs []*Need, members []int) map[int]bool {
	var candidates []int
	for _, i := range members {
		r := ix.Resource(changes[i].Ref)
		if needs[i].Stage == StageFleet && r.Ref.Kind == inventory.KindInstance && r.Status == inventory.StatusRunning {
			candidates = append(candidates, i)
		}
	}
	slices.SortFunc(candidates, func(x, y int) int {
		own := func(i int) int {
			if b.config.OwnHost(changes[i].Ref.ID) {
				return 1
			}
			return 0
		}
		return cmp.Or(cmp.Compare(own(x), own(y)), changes[x].Ref.Compare(changes[y].Ref))
	})
	out := map[int]bool{}
	for _, i := range candidates[:min(len(candidates), max(1, b.config.Rollout.Canary))] {
		out[i] = true
	}
	return out
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
