package rehearse

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"github.com/imdsctl/imdsctl/internal/awssim/ec2"
	"github.com/imdsctl/imdsctl/internal/awssim/programs"
	"github.com/imdsctl/imdsctl/internal/awssim/workload"
	"github.com/imdsctl/imdsctl/internal/awsx"
	"github.com/imdsctl/imdsctl/internal/engine"
	"github.com/imdsctl/imdsctl/internal/fleet"
	"github.com/imdsctl/imdsctl/internal/plan"
	"github.com/imdsctl/imdsctl/internal/rollout"
)

// Result is what a rehearsal showed.
type Result struct {
	// Begun and Ended are by the rehearsal's clock.
	Begun, Ended time.Time
	Status       rollout.Status
	Reason       string
	Stacks       map[rollout.StackPhase]int
	Changes      map[engine.ChangePhase]int
	// Calls are AWS's attempts by action.
	Calls map[string]awsx.Counts
	// Waves are in order.
	Waves []Wave
	// Failed are the stacks that did not get done.
	Failed []Failed
	// Broken are the programs that are broken at the end.
	Broken []programs.Broken
	// Callers is how many callers of IMDSv1 were put into the copy, by what was observed.
	Callers int
	// Assumed says what the rehearsal took for granted.
	Assumed []string
}

// Duration is how long the rollout takes.
func (r *Result) Duration() time.Duration { return r.Ended.Sub(r.Begun) }

// Wave is how long a wave takes, from its first stack's start to its last one's end.
type Wave struct {
	Name         string
	Begun, Ended time.Time
	Stacks       int
}

// Failed is a stack that did not get done, with the first reason given.
type Failed struct {
	Stack  string             `json:"stack"`
	Place  string             `json:"place"`
	Wave   string             `json:"wave"`
	Phase  rollout.StackPhase `json:"phase"`
	Reason string             `json:"reason"`
}

// watch follows the engine: when each wave began and ended, and why stacks failed.
func (s *stage) watch(p *plan.Plan) func(engine.Progress) {
	byID := make(map[string]*plan.Stack, len(p.Stacks))
	for i := range p.Stacks {
		byID[p.Stacks[i].ID] = &p.Stacks[i]
	}
	s.out.Waves = make([]Wave, len(p.Header.Waves))
	for i, w := range p.Header.Waves {
		s.out.Waves[i].Name = w.Name
	}
	for i := range p.Stacks {
		s.out.Waves[p.Stacks[i].Wave].Stacks++
	}
	failed := map[string]bool{}
	ended := 0
	began := map[string]time.Time{}
	s.lasted = map[string]time.Duration{}
	return func(e engine.Progress) {
		st := byID[e.Stack]
		if st == nil || e.Change != "" {
			return
		}
		w := &s.out.Waves[st.Wave]
		if w.Begun.IsZero() && e.State.Phase.Active() {
			w.Begun = e.At
		}
		if _, known := began[e.Stack]; !known && e.State.Phase.Active() {
			began[e.Stack] = e.At
		}
		if at, known := began[e.Stack]; known {
			s.lasted[e.Stack] = e.At.Sub(at)
		}
		switch {
		case !e.State.Phase.Final():
			return
		case e.State.Phase != rollout.StackDone && !failed[e.Stack]:
			failed[e.Stack] = true
			s.out.Failed = append(s.out.Failed, Failed{Stack: st.Name, Place: st.Place.String(), Wave: w.Name, Phase: e.State.Phase,
				Reason: cmp.Or(e.State.Reason, e.Reason)})
		}
		w.Ended = e.At
		ended++
		s.tell(Progress{Loaded: len(placesOf(s.opt.Plan)), Places: len(placesOf(s.opt.Plan)), Now: e.At, Stacks: len(p.Stacks), Ended: ended})
	}
}

// report sums up.
func (s *stage) report(p *plan.Plan, r *engine.Record) {
	out := s.out
	out.Ended, out.Status, out.Reason = r.Updated, r.Status, r.Reason
	out.Stacks, out.Changes = map[rollout.StackPhase]int{}, map[engine.ChangePhase]int{}
	for _, st := range r.Stacks {
		out.Stacks[st.Phase]++
	}
	for i := range p.Changes {
		out.Changes[r.Changes[p.Changes[i].ID].Phase]++
	}
	times := 1.0
	if s.gates.made > 0 {
		times = max(1, float64(expected(s.opt.Plan, s.lasted))/float64(s.gates.made))
	}
	out.Calls = s.calls.total(times)
	if times > 1 {
		out.Assumed = append(out.Assumed, fmt.Sprintf("gates were read %d times, at least at the end of each bake; the calls shown are those of "+
			"the rollout's some %d readings", s.gates.made, int(times*float64(s.gates.made))))
	}
	out.Broken = s.broken()
	slices.Sort(out.Assumed)
	out.Assumed = slices.Compact(out.Assumed)
	slices.SortFunc(out.Failed, func(a, b Failed) int {
		return cmp.Or(cmp.Compare(a.Wave, b.Wave), cmp.Compare(a.Place, b.Place), cmp.Compare(a.Stack, b.Stack))
	})
}

// broken lists the programs that are broken at the end. One whose instance was put back knows that only when it calls again,
// which the rehearsal does not wait for: it is not among them.
func (s *stage) broken() []programs.Broken {
	return slices.DeleteFunc(programs.Health(s.world).Broken, func(b programs.Broken) bool {
		p, err := s.world.Place(b.Account, b.Region)
		if err != nil {
			return false
		}
		open := false
		p.View(func(time.Time) {
			if i := ec2.StoreOf(p).Instance(b.Instance); i != nil {
				o := i.Newest().Options
				open = o.Tokens != fleet.TokensRequired && o.Endpoint != fleet.Disabled
			}
		})
		return open && b.Reason == workload.V1Refused
	})
}
