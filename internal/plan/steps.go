package plan

import (
	"cmp"
	"slices"
	"time"

	"github.com/imdsctl/imdsctl/internal/inventory"
	"github.com/imdsctl/imdsctl/internal/policy"
)

// steps cuts a stack's changes into steps: those of each stage by the shares the configuration gives, so that each step is
// watched before the next.
func (b *Builder) steps(s *Stack, p Proposal, pace policy.Pace, changes []*Change, needs []*Need, members []int) {
	for _, stage := range Stages() {
		of := slices.Collect(func(yield func(int) bool) {
			for _, i := range members {
				if needs[i].Stage == stage && !yield(i) {
					return
				}
			}
		})
		if len(of) == 0 {
			continue
		}
		ordered := b.order(p.Report.Index, changes, of)
		done := 0
		for k, c := range cuts(ordered, changes, sharesOf(pace, stage), seen(p.Report.Index, changes)) {
			canary := k == 0 && c.end < len(ordered)
			for _, i := range ordered[done:c.end] {
				changes[i].Stack, changes[i].Step, changes[i].Canary = s.ID, len(s.Steps), canary
			}
			s.Steps = append(s.Steps, Step{Name: stepName(stage, c, canary, c.end == len(ordered)), Stage: stage, Changes: c.end - done,
				Bake: b.bake(stage, p, pace.Bake), Share: c.share.String()})
			done = c.end
		}
	}
}

func sharesOf(p policy.Pace, stage Stage) []policy.Share {
	switch stage {
	case StageHopLimit:
		return p.HopLimit
	case StageFleet:
		return p.Fleet
	case StageLaunch:
		return p.Launch
	default:
		return p.Defaults
	}
}

// stepName is what people read: "canary", then "fleet 10%", then "fleet". The canary of another stage is called by it.
func stepName(stage Stage, c cut, canary, last bool) string {
	switch {
	case canary && stage == StageFleet:
		return "canary"
	case canary:
		return string(stage) + " canary"
	case last:
		return string(stage)
	}
	return string(stage) + " " + c.share.String()
}

// order puts the changes of a stage in the order in which they are made: running instances first, imdsctl's own hosts last,
// and whatever a change needs before it.
func (b *Builder) order(ix *inventory.Index, changes []*Change, of []int) []int {
	late := func(i int) int {
		rank := 0
		if !observable(ix, changes[i]) || changes[i].Ref.Kind != inventory.KindInstance {
			rank = 1 // what is told to future launches follows what runs
		}
		if b.config.OwnHost(changes[i].Ref.ID) {
			rank += 2
		}
		return rank
	}
	sorted := slices.SortedStableFunc(slices.Values(of), func(x, y int) int {
		return cmp.Or(cmp.Compare(late(x), late(y)), changes[x].Ref.Compare(changes[y].Ref))
	})
	byID := make(map[string]int, len(of))
	for _, i := range of {
		byID[changes[i].ID] = i
	}
	out, placed := make([]int, 0, len(of)), make(map[int]bool, len(of))
	var place func(i int)
	place = func(i int) {
		if placed[i] {
			return
		}
		placed[i] = true
		for _, id := range changes[i].Needs {
			if n, ok := byID[id]; ok {
				place(n)
			}
		}
		out = append(out, i)
	}
	for _, i := range sorted {
		place(i)
	}
	return out
}

// observable tells whether a change can show anything: one of an instance that does not run cannot.
func observable(ix *inventory.Index, c *Change) bool {
	r := ix.Resource(c.Ref)
	return c.Ref.Kind != inventory.KindInstance || r != nil && r.Status == inventory.StatusRunning
}

func seen(ix *inventory.Index, changes []*Change) func(i int) bool {
	return func(i int) bool { return observable(ix, changes[i]) }
}

// cut is where a step ends: after so many of a stage's changes.
type cut struct {
	end   int
	share policy.Share
}

// cuts divides a stage's changes by shares of their number. A step with nothing in it falls away, and so does one with
// nothing in it that could show anything, unless it is the last. The changes of one resource that follow each other are
// kept together.
func cuts(ordered []int, changes []*Change, shares []policy.Share, observable func(i int) bool) []cut {
	var out []cut
	done, n := 0, len(ordered)
	for _, s := range shares {
		end := s.Of(n)
		for end > done && end < n && changes[ordered[end]].Ref == changes[ordered[end-1]].Ref {
			end++
		}
		if end <= done || end < n && !slices.ContainsFunc(ordered[done:end], observable) {
			continue
		}
		if end == n {
			s = policy.Share{Percent: 100}
		}
		out = append(out, cut{end, s})
		done = end
	}
	return out
}

// bake is how long a step is watched. To watch what happens for as long as the configuration asks takes the metric's delay
// more. A default in a place where nothing runs, and so nothing can show anything, is watched only as long as a gate needs to
// see a first launch.
func (b *Builder) bake(stage Stage, p Proposal, wanted time.Duration) time.Duration {
	r := b.plan.Header.Rules
	if stage == StageDefaults && !p.Report.Index.Any(inventory.StatusRunning) {
		return shortestBake(r)
	}
	return max(wanted+r.MetricDelay, shortestBake(r))
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

// rings gives each stack its turn within its wave, by the wave's shares of its stacks: those of less critical accounts
// first, account defaults late, because they wait for others, and what waits for the whole rollout last. It needs the
// stacks in the plan's order.
func (b *Builder) rings() {
	waves := make([][]*Stack, len(b.plan.Header.Waves))
	for i := range b.plan.Stacks {
		s := &b.plan.Stacks[i]
		waves[s.Wave] = append(waves[s.Wave], s)
	}
	late := func(s *Stack) int {
		switch {
		case s.Last:
			return 2
		case len(s.After) > 0:
			return 1
		}
		return 0
	}
	for w, stacks := range waves {
		slices.SortStableFunc(stacks, func(x, y *Stack) int {
			return cmp.Or(cmp.Compare(late(x), late(y)), cmp.Compare(x.Criticality.Rank(), y.Criticality.Rank()))
		})
		ring, done := 0, 0
		for _, share := range b.ramps[w] {
			end := share.Of(len(stacks))
			if end <= done {
				continue
			}
			for _, s := range stacks[done:end] {
				s.Ring = ring
			}
			ring, done = ring+1, end
		}
		if first := slices.IndexFunc(stacks, func(s *Stack) bool { return s.Last }); first >= 0 {
			for _, s := range stacks[first:] { // these wait for each other, so no ring may part them
				s.Ring = stacks[first].Ring
			}
		}
	}
}
