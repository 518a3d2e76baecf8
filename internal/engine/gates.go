package engine

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/imdsctl/imdsctl/internal/inventory"
	"github.com/imdsctl/imdsctl/internal/rollout"
)

// gateRead is a gate reading that has come back.
type gateRead struct {
	stack  *stackRun
	step   int
	phase  rollout.StackPhase
	at     time.Time
	result GateResult
}

func (r *run) nextReading(s *stackRun) time.Time {
	if s.gate.asked.IsZero() {
		first := s.state.Due.Add(-s.Steps[s.state.Step].Bake).Add(r.plan.Header.Rules.GateInterval)
		if first.After(s.state.Due) {
			return s.state.Due
		}
		return first
	}
	next := s.gate.asked.Add(r.plan.Header.Rules.GateInterval)
	if s.gate.asked.Before(s.state.Due) && next.After(s.state.Due) {
		next = s.state.Due
	}
	return next
}

// readGates starts a reading where one is due. The coordinator never waits for it.
func (r *run) readGates(ctx context.Context, s *stackRun, now time.Time) {
	if s.gate.reading || now.Before(r.nextReading(s)) {
		return
	}
	s.gate.reading, s.gate.asked = true, now
	q := GateQuery{Place: s.Place, Stage: s.Steps[s.state.Step].Stage, Since: s.state.Since, Now: now, Rules: r.plan.Header.Rules}
	for _, c := range s.changes {
		switch {
		case !c.state.Wrote || c.state.Phase != ChangeVerified:
		case c.Ref.Kind == inventory.KindInstance:
			q.Instances = append(q.Instances, c.Ref)
		}
		switch {
		case c.Step != s.state.Step || !c.state.Wrote:
		case c.Ref.Kind == inventory.KindAutoScaling:
			q.Groups = append(q.Groups, c.Ref)
		case c.Ref.Kind == inventory.KindLaunchTemplate && !slices.Contains(q.Templates, c.Ref):
			q.Templates = append(q.Templates, c.Ref)
		}
	}
	r.underway++
	step, phase, out := s.state.Step, s.state.Phase, r.gates
	go func() {
		res, err := r.opt.Gates.ReadGates(ctx, q)
		if err != nil {
			res = GateResult{Reason: "a gate could not be read, which counts as failed: " + err.Error()}
		}
		_ = r.opt.Journal.Note(context.WithoutCancel(ctx), r.id, s.ID, "gate", gateDetail(res), r.opt.Clock.Now())
		if ctx.Err() != nil {
			phase = "" // interrupted, not failed: the reading is not used
		}
		out <- gateRead{stack: s, step: step, phase: phase, at: now, result: res}
	}()
}

func gateDetail(res GateResult) map[string]string {
	d := map[string]string{"pass": fmt.Sprint(res.Pass), "reason": res.Reason}
	for _, reading := range res.Readings {
		if !reading.Pass || len(res.Readings) <= 10 {
			d[reading.Gate+" "+reading.Subject.ID] = reading.Value
		}
	}
	return d
}

func (r *run) takeGate(g gateRead) {
	r.underway--
	s := g.stack
	if g.step != s.state.Step || g.phase != s.state.Phase {
		return // the stack has gone on since; the reading is about another step
	}
	s.gate.reading, s.gate.read = false, g.at
	s.gate.result, s.gate.reason = rollout.GateFail, g.result.Reason
	if g.result.Pass {
		s.gate.result, s.gate.reason = rollout.GatePass, ""
	}
	r.tell(Progress{Stack: s.ID, State: s.state, Event: "gate", Gate: &g.result, Reason: g.result.Reason})
}
