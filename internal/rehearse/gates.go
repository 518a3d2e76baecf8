package rehearse

import (
	"context"
	"maps"
	"sync"
	"time"

	"github.com/imdsctl/imdsctl/internal/awsx"
	"github.com/imdsctl/imdsctl/internal/engine"
	"github.com/imdsctl/imdsctl/internal/fleet"
	"github.com/imdsctl/imdsctl/internal/plan"
)

// A rehearsal reads gates less often than the rollout will: what they see changes when programs break, and a day that is looked
// at every five minutes costs as much to rehearse as all the changes made before it. The reading at the end of each bake, which
// decides, is made wherever anything can happen. The calls of those left out are added in the report.

// readingsABake is how often gates are read in the longest bake.
const readingsABake = 1

// purpose marks the calls that read gates.
const purpose = "gates"

// restful gives rules under which gates are read no more often than that.
func restful(rules plan.Rules, stacks []plan.Stack) plan.Rules {
	longest := time.Duration(0)
	for i := range stacks {
		for _, step := range stacks[i].Steps {
			longest = max(longest, step.Bake)
		}
	}
	rules.GateInterval = max(rules.GateInterval, longest/readingsABake)
	return rules
}

// readings is a reader of gates that counts.
type readings struct {
	engine.GateReader
	// eventful tells stacks in which something may happen besides the rollout's own writes; the others are calm.
	eventful map[stackKey]bool

	mu     sync.Mutex
	made   int
	passed map[momentKey]engine.GateResult
}

type stackKey struct {
	place fleet.Place
	name  string
}

type momentKey struct {
	stackKey
	stage  plan.Stage
	moment engine.Moment
}

// ReadGates implements engine.GateReader. In a calm stack, the gates that passed once pass again at the like moment of later steps.
func (r *readings) ReadGates(ctx context.Context, q engine.GateQuery) (engine.GateResult, error) {
	key := momentKey{stackKey{q.Place, q.Stack}, q.Stage, q.Moment}
	r.mu.Lock()
	res, again := r.passed[key]
	if !again {
		r.made++
	}
	r.mu.Unlock()
	if again {
		return res, nil
	}
	res, err := r.GateReader.ReadGates(awsx.For(ctx, purpose), q)
	if err == nil && res.Pass && !r.eventful[key.stackKey] {
		r.mu.Lock()
		r.passed[key] = res
		r.mu.Unlock()
	}
	return res, err
}

// eventful lists the stacks of a plan in which something may happen besides the writes themselves: programs call IMDSv1 on what they
// change, or hosts are started or replaced.
func (s *stage) eventful() map[stackKey]bool {
	byID, out := map[string]stackKey{}, map[stackKey]bool{}
	for i := range s.opt.Plan.Stacks {
		st := &s.opt.Plan.Stacks[i]
		byID[st.ID] = stackKey{st.Place, st.Name}
	}
	for i := range s.opt.Plan.Changes {
		c := &s.opt.Plan.Changes[i]
		if s.calling[c.Ref] || c.Class == plan.ClassStart && c.Ref.Kind != plan.KindFollowUp {
			out[byID[c.Stack]] = true
		}
	}
	return out
}

// tally counts calls by action, those for gates apart.
type tally struct {
	mu         sync.Mutex
	all, gates map[string]awsx.Counts
}

// Call implements awsx.Recorder.
func (t *tally) Call(c awsx.CallRecord) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.all == nil {
		t.all, t.gates = map[string]awsx.Counts{}, map[string]awsx.Counts{}
	}
	into := t.all
	if c.Purpose == purpose {
		into = t.gates
	}
	n := into[c.Action]
	n.Calls++
	switch {
	case c.Throttled:
		n.Throttles++
	case c.Class != "":
		n.Errors++
	}
	into[c.Action] = n
}

// total adds the calls for gates as they would be with so many times the readings.
func (t *tally) total(times float64) map[string]awsx.Counts {
	t.mu.Lock()
	defer t.mu.Unlock()
	out := maps.Clone(t.all)
	if out == nil {
		out = map[string]awsx.Counts{}
	}
	for action, n := range t.gates {
		sum := out[action]
		sum.Calls += int64(float64(n.Calls)*times + 0.5)
		sum.Throttles += n.Throttles
		sum.Errors += n.Errors
		out[action] = sum
	}
	return out
}

// expected is how many readings the rollout makes of the gates of stacks that were at work for so long: one before, one at the
// end of each step, and one at each interval meanwhile.
func expected(p *plan.Plan, lasted map[string]time.Duration) int {
	n := 0
	for i := range p.Stacks {
		s := &p.Stacks[i]
		active, began := lasted[s.ID]
		if !began {
			continue
		}
		readings := len(s.Steps)
		if every := p.Header.Rules.GateInterval; every > 0 {
			readings = max(readings, int(active/every))
		}
		n += 1 + readings
	}
	return n
}
