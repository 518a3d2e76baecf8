package engine

import (
	"context"
	"fmt"

	"github.com/imdsctl/imdsctl/internal/fleet"
	"github.com/imdsctl/imdsctl/internal/plan"
	"github.com/imdsctl/imdsctl/internal/rollout"
)

// dispatch hands every change that can go on to the lane of its place, and starts gate readings that are due.
func (r *run) dispatch(ctx context.Context) {
	now := r.opt.Clock.Now()
	for _, s := range r.stacks {
		switch s.state.Phase {
		case rollout.StackApplying:
			if r.status.MayWrite() {
				r.forward(ctx, s)
			}
		case rollout.StackBaking:
			r.readGates(ctx, s, now)
		case rollout.StackRevertingStep, rollout.StackReverting:
			if r.status.MayRevert() {
				r.backward(ctx, s)
			}
		}
	}
}

// forward hands out the changes of the current step. One that needs a change which was not made is skipped.
func (r *run) forward(ctx context.Context, s *stackRun) {
	over := s.steps[s.state.Step].Failures() > r.plan.Header.Rules.MaxFailures
	first := !s.begun()
	if first && s.busy() {
		return // nothing else of the stack is written before its first change has gone well
	}
	for _, c := range s.changes {
		if c.busy || c.Step != s.state.Step || r.opt.Clock.Now().Before(c.notBefore) {
			continue
		}
		switch c.state.Phase {
		case ChangePending:
			if ready, missing := c.ready(); missing != "" {
				r.send(ctx, task{change: c, act: actSkip, reason: missing})
			} else if ready && !over {
				t := task{change: c, act: actForward}
				if first {
					t.probes = s.probes()
				}
				r.send(ctx, t)
				if first {
					return
				}
			} else if ready {
				r.send(ctx, task{change: c, act: actSkip, reason: "too many changes of this step failed"})
			}
		case ChangeApplied:
			r.send(ctx, task{change: c, act: actVerify})
		case ChangeOpen:
			r.send(ctx, task{change: c, act: actSettle})
		}
	}
}

// begun tells whether a change of the stack has been made: before the first one it is asked whether AWS would let it be
// undone.
func (s *stackRun) begun() bool {
	for _, c := range s.changes {
		if c.state.Wrote {
			return true
		}
	}
	return false
}

// probes are the changes by which AWS is asked: the first of each verb of each kind in the stack.
func (s *stackRun) probes() []*plan.Change {
	type verb struct{ kind, action string }
	seen := map[verb]bool{}
	var out []*plan.Change
	for _, c := range s.changes {
		if v := (verb{c.Ref.Kind, c.Action}); !seen[v] {
			seen[v] = true
			out = append(out, c.Change)
		}
	}
	return out
}

func (s *stackRun) busy() bool {
	for _, c := range s.changes {
		if c.busy {
			return true
		}
	}
	return false
}

// ready tells whether all needed changes are made; missing names one that will not be.
func (c *changeRun) ready() (ready bool, missing string) {
	ready = true
	for _, n := range c.needs {
		switch n.state.Phase {
		case ChangeVerified:
		case ChangePending, ChangeOpen, ChangeApplied:
			ready = false
		default:
			return false, fmt.Sprintf("%s of %s, which it needs, is %s", n.Action, n.Ref.ID, n.state.Phase)
		}
	}
	return ready, ""
}

// backward hands out what is to be put back: a change only when everything that builds on it has been put back, or was never
// made; where that cannot be, it stays.
func (r *run) backward(ctx context.Context, s *stackRun) {
	for i := len(s.changes) - 1; i >= 0; i-- {
		c := s.changes[i]
		if c.busy || s.state.Phase == rollout.StackRevertingStep && c.Step != s.state.Step ||
			r.opt.Clock.Now().Before(c.notBefore) {
			continue
		}
		if c.state.Phase == ChangeOpen {
			r.send(ctx, task{change: c, act: actSettle})
			continue
		}
		if !revertible(c.state) {
			continue
		}
		wait, stuck := false, ""
		for _, u := range c.users {
			switch {
			case u.state.Phase == ChangeStuck:
				stuck = u.Ref.ID
			case u.state.Phase == ChangeOpen, revertible(u.state):
				wait = true
			}
		}
		switch {
		case wait:
		case stuck != "":
			r.send(ctx, task{change: c, act: actStuck, reason: stuck + " still builds on it"})
		default:
			r.send(ctx, task{change: c, act: actBackward})
		}
	}
}

// send gives a task to the lane of its place, which is opened at first use.
func (r *run) send(ctx context.Context, t task) {
	l := r.lanes[t.change.Ref.Place]
	if l == nil {
		l = newLane(r.opt, r.id, t.change.Ref.Place, r.results, r.slots)
		r.lanes[t.change.Ref.Place] = l
	}
	if t.act != actSkip && t.act != actStuck {
		w, err := resolve(t.change.Change, r.outputs)
		if err != nil {
			t.act, t.reason = actFail, err.Error()
		}
		t.write = w
	}
	t.state, t.unread = t.change.state, t.change.unread
	t.change.set(t.state, true)
	r.underway++
	l.start(ctx, t)
}

// resolved is a change whose references to other changes' outputs are filled in. What refers to its own output stays open
// until it is made.
type resolved struct {
	Before, After fleet.State
	Params        map[string]string
}

func resolve(c *plan.Change, outputs plan.Outputs) (w resolved, err error) {
	if w.Before, err = plan.Resolve(c.Before, outputs); err != nil {
		return w, err
	}
	if w.Params, err = plan.Resolve(c.Params, outputs); err != nil {
		return w, err
	}
	w.After = make(fleet.State, len(c.After))
	for k, v := range c.After {
		one, err := plan.Resolve(fleet.State{k: v}, outputs)
		if err != nil {
			if refs := plan.References(v); len(refs) != 1 || refs[0] != c.ID {
				return w, err
			}
			one = fleet.State{k: v} // its own output
		}
		w.After[k] = one[k]
	}
	return w, nil
}
