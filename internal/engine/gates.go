package engine

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/imdsctl/imdsctl/internal/fleet"
	"github.com/imdsctl/imdsctl/internal/inventory"
	"github.com/imdsctl/imdsctl/internal/plan"
	"github.com/imdsctl/imdsctl/internal/rollout"
)

// gateStack is the stack of a gate's order.
func gateStack(subject string) (string, bool) { return strings.CutPrefix(subject, GateSubject("")) }

// reading tells whether a gate is being read.
func (r *run) reading() bool {
	return slices.ContainsFunc(r.stacks, func(s *stackRun) bool { return s.gate.query != nil })
}

// moment is when in its course a stack is, for those who read its gates; false where they are not read.
func (s *stackRun) moment() (Moment, bool) {
	switch s.state.Phase {
	case rollout.StackChecking:
		return Before, true
	case rollout.StackApplying:
		return During, true
	case rollout.StackBaking:
		return After, true
	}
	return "", false
}

// nextReading is when the gates of a stack are to be read next: before anything is written at once; while a step is written
// and during its bake from time to time; and in any case when the waiting is over.
func (r *run) nextReading(s *stackRun) (time.Time, bool) {
	moment, ok := s.moment()
	interval := r.plan.Header.Rules.GateInterval
	if !ok || moment == During && interval <= 0 {
		return time.Time{}, false
	}
	var next time.Time
	switch {
	case !s.gate.asked.IsZero():
		next = s.gate.asked.Add(max(interval, time.Millisecond))
	case moment == Before:
		return time.Time{}, true
	case moment == During:
		return s.state.Since.Add(interval), true
	default:
		next = s.state.Due.Add(-s.Steps[s.state.Step].Bake).Add(interval)
	}
	if moment != During && s.gate.asked.Before(s.state.Due) && next.After(s.state.Due) {
		next = s.state.Due
	}
	return next, true
}

// readGates orders a reading where one is due.
func (b *batch) readGates(s *stackRun) {
	next, ok := b.nextReading(s)
	if !ok || s.gate.query != nil || b.now.Before(next) {
		return
	}
	q := b.gateQuery(s)
	s.gate.asked = b.now
	if q.Moment == During && len(q.Instances)+len(q.Groups)+len(q.Templates) == 0 {
		return // nothing to look at yet
	}
	s.gate.query = q
	b.tasks = append(b.tasks, Task{Order: Order{Rollout: b.id, Subject: GateSubject(s.ID), Place: s.Place, Act: ActGate, Gate: q}})
}

// gateQuery asks about what was changed; before the first write, about what will be.
func (b *batch) gateQuery(s *stackRun) *GateQuery {
	moment, _ := s.moment()
	rules := b.plan.Header.Rules
	q := &GateQuery{Stack: s.Name, Place: s.Place, Moment: moment, Stage: s.Steps[s.state.Step].Stage, Since: s.state.Since, Now: b.now,
		Rules: rules}
	q.Rules.Gates = nil
	for _, i := range s.Gates {
		q.Gates = append(q.Gates, rules.Gates[i])
	}
	if moment == Before {
		q.Since = b.plan.Header.Taken
	}
	seen := map[fleet.Ref]bool{}
	for _, c := range s.changes {
		touched := c.state.Wrote && c.state.Phase == ChangeVerified
		if moment == Before {
			touched = c.state.Phase == ChangePending
		}
		thisStep := c.Step == s.state.Step && c.state.Wrote
		switch {
		case watched(c.Ref.Kind) && touched && !seen[c.Ref]:
			seen[c.Ref] = true
			q.Instances = append(q.Instances, c.Ref)
			if c.Override != "" {
				q.Excused = append(q.Excused, c.Ref)
			}
		case c.Ref.Kind == inventory.KindAutoScaling && (thisStep || moment == Before && touched):
			q.Groups = append(q.Groups, c.Ref)
		case c.Ref.Kind == inventory.KindLaunchTemplate && thisStep && !slices.Contains(q.Templates, c.Ref):
			q.Templates = append(q.Templates, c.Ref)
		}
	}
	if moment == Before && stageOf(s) != "" {
		q.Stage = stageOf(s)
	}
	return q
}

// watched tells the kinds of hosts that gates look at: those of which AWS counts v1 calls and has status checks.
func watched(kind string) bool {
	return kind == inventory.KindInstance || kind == inventory.KindLightsail
}

// stageOf is the stage that a stack's gates are read for before anything is written: the one that requires tokens of what
// runs, where there is one among its steps.
func stageOf(s *stackRun) plan.Stage {
	for _, step := range s.Steps {
		if step.Stage == plan.StageFleet {
			return step.Stage
		}
	}
	return ""
}

func gateDetail(q *GateQuery, res GateResult) map[string]string {
	d := map[string]string{"pass": fmt.Sprint(res.Pass), "reason": res.Reason, "moment": string(q.Moment)}
	for _, reading := range res.Readings {
		if !reading.Pass || len(res.Readings) <= 10 {
			d[strings.TrimSpace(reading.Gate+" "+reading.Subject.ID)] = reading.Value
		}
	}
	return d
}

// takeGate takes in a reading. One that was asked for at another point of the stack's course says nothing.
func (r *run) takeGate(s *stackRun, res result) {
	if s == nil || s.gate.query == nil {
		return
	}
	q := s.gate.query
	s.gate.query = nil
	since := s.state.Since
	if q.Moment == Before {
		since = r.plan.Header.Taken
	}
	if moment, ok := s.moment(); !ok || moment != q.Moment || !q.Since.Equal(since) || res.Gate == nil {
		return
	}
	s.gate.read, s.gate.result, s.gate.reason = q.Now, rollout.GateFail, res.Gate.Reason
	if res.Gate.Pass {
		s.gate.result, s.gate.reason = rollout.GatePass, ""
	}
	r.tell(Progress{Stack: s.ID, State: s.state, Event: "gate", Gate: res.Gate, Reason: res.Gate.Reason})
}

// readGate is a lane's part: it reads, and notes what it read.
func (l *lane) readGate(ctx context.Context, o Order) result {
	out := result{Report: Report{Rollout: o.Rollout, Subject: o.Subject}}
	q := *o.Gate
	refused := l.late.Load()
	res, err := l.opt.Gates.ReadGates(ctx, q)
	if l.late.Load() != refused {
		out.fatal = fmt.Errorf("read the gates in %s: the lane's lease was over meanwhile", l.place)
		return out
	}
	if ctx.Err() != nil {
		out.fatal = ctx.Err() // interrupted, not failed
		return out
	}
	if fleet.ClassOf(err) == fleet.ErrExpired {
		out.fatal = err // the caller's credentials, and no gate's; the rollout stands where it is
		return out
	}
	if err != nil {
		res = GateResult{Reason: "a gate could not be read, which counts as failed: " + err.Error()}
	}
	stack, _ := gateStack(o.Subject)
	if err := l.opt.Journal.Note(ctx, o.Rollout, stack, "gate", gateDetail(&q, res), l.opt.Clock.Now()); err != nil {
		out.fatal = err
		return out
	}
	out.Gate = &res
	return out
}
