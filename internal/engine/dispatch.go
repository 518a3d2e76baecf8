package engine

import (
	"context"
	"fmt"
	"time"

	"github.com/imdsctl/imdsctl/internal/fleet"
	"github.com/imdsctl/imdsctl/internal/plan"
	"github.com/imdsctl/imdsctl/internal/rollout"
)

// crew carries orders out: lanes in this process, or a queue that others work on. The coordinator is its only user.
type crew interface {
	// give hands orders over. It does not wait for them.
	give(ctx context.Context, orders []Task) error
	// wait gives what has come back, at the latest after d; ctx's error where that ends first.
	wait(ctx context.Context, d time.Duration) ([]result, error)
	// drain has the lanes of this process stop and gives what they still settled, until nothing more comes.
	drain() ([]result, bool)
	// close gives up what the crew holds. Nothing is under way any more.
	close(ctx context.Context)
}

// result is a report, or what kept a lane of this process from giving one: the journal cannot be written, the lane is lost,
// the credentials ran out. fatal ends the whole run.
type result struct {
	Report
	fatal error
}

// dispatch hands out every change that can go on, as far as the budgets allow, and gate readings that are due. Stacks take
// turns, so that a large one leaves room for the others.
func (r *run) dispatch(ctx context.Context) error {
	now := r.opt.Clock.Now()
	b := &batch{run: r, now: now}
	for i := range r.active {
		s := r.active[(r.turn+i)%len(r.active)]
		switch s.state.Phase {
		case rollout.StackChecking, rollout.StackBaking:
			b.readGates(s)
		case rollout.StackApplying:
			b.readGates(s)
			if r.status.MayWrite() && r.opening(s, now).Open {
				b.forward(s)
			}
		case rollout.StackRevertingStep, rollout.StackReverting:
			if r.status.MayRevert() {
				b.backward(s)
			}
		}
	}
	if len(r.active) > 0 {
		r.turn = (r.turn + 1) % len(r.active)
	}
	if len(b.tasks) == 0 {
		return nil
	}
	r.idle = 0
	return r.crew.give(ctx, b.tasks)
}

// batch is what one round hands out.
type batch struct {
	*run
	now   time.Time
	tasks []Task
}

// each offers the idle changes of a stack, as long as there is room, and keeps those that are not taken. What was not looked
// at stays where it is: a large stack costs no more for it.
func (b *batch) each(s *stackRun, offer func(c *changeRun) (taken, stop bool)) {
	idle := s.idle
	kept, at := 0, 0 // idle[:kept] were not taken, idle[at:] were not looked at
	for stop := false; at < len(idle) && !stop; at++ {
		c := idle[at]
		if c.busy || !c.wants(s) {
			continue // it has gone on since it was listed
		}
		if !b.load.room(c.Ref.Place, b.opt.LaneWidth) {
			break
		}
		taken := false
		if !b.now.Before(c.notBefore) {
			taken, stop = offer(c)
		}
		if !taken {
			idle[kept] = c
			kept++
		}
	}
	copy(idle[at-kept:at], idle[:kept])
	clear(idle[:at-kept])
	s.idle = idle[at-kept:]
}

// forward hands out the changes of the current step. One that needs a change which was not made is skipped.
func (b *batch) forward(s *stackRun) {
	over := s.steps[s.state.Step].Failures() > b.plan.Header.Rules.MaxFailures
	first := !s.begun()
	if first && s.busy > 0 {
		return // nothing else of the stack is written before its first change has gone well
	}
	b.each(s, func(c *changeRun) (taken, stop bool) {
		switch c.state.Phase {
		case ChangeApplied:
			b.order(c, Order{Act: ActVerify})
			return true, false
		case ChangeOpen:
			b.order(c, Order{Act: ActSettle})
			return true, false
		}
		ready, missing := c.ready()
		switch {
		case missing != "":
			b.order(c, Order{Act: ActSkip, Reason: missing})
		case !ready:
			return false, false
		case over:
			b.order(c, Order{Act: ActSkip, Reason: "too many changes of this step failed"})
		case first:
			b.order(c, Order{Act: ActForward, Probes: s.probes(), Irreversible: b.plan.Header.Rules.Irreversible})
			return true, true
		default:
			b.order(c, Order{Act: ActForward})
		}
		return true, false
	})
}

// begun tells whether a change of the stack has been made: before the first one it is asked whether AWS would let it be
// undone.
func (s *stackRun) begun() bool {
	if s.all.Written > 0 || s.all.Revert > 0 {
		for _, c := range s.changes {
			if c.state.Wrote {
				return true
			}
		}
	}
	return false
}

// probes are the changes by which AWS is asked: the first of each verb of each kind in the stack.
func (s *stackRun) probes() []plan.Change {
	type verb struct{ kind, action string }
	seen := map[verb]bool{}
	var out []plan.Change
	for _, c := range s.changes {
		if v := (verb{c.Ref.Kind, c.Action}); !seen[v] && c.Ref.Kind != plan.KindFollowUp {
			seen[v] = true
			out = append(out, *c.Change)
		}
	}
	return out
}

// ready tells whether all needed changes are made; missing names one that will not be.
func (c *changeRun) ready() (ready bool, missing string) {
	ready = true
	for _, n := range c.needs {
		switch n.state.Phase {
		case ChangeVerified:
			ready = ready && !n.busy
		case ChangePending, ChangeOpen, ChangeApplied:
			ready = false
		default:
			return false, fmt.Sprintf("%s of %s, which it needs, is %s", n.Action, n.Ref.ID, n.state.Phase)
		}
	}
	return ready, ""
}

// patient tells whether AWS may still show a state from before an earlier change of the same resource.
func (c *changeRun) patient() bool {
	for _, n := range c.needs {
		if n.Ref == c.Ref {
			return true
		}
	}
	return false
}

// backward hands out what is to be put back: a change only when everything that builds on it has been put back, or was never
// made; where that cannot be, it stays.
func (b *batch) backward(s *stackRun) {
	b.each(s, func(c *changeRun) (taken, stop bool) {
		switch {
		case c.state.Phase == ChangeOpen:
			b.order(c, Order{Act: ActSettle})
			return true, false
		case c.unsettled() && proves(c.Change):
			b.order(c, Order{Act: ActVerify, Reason: abandoned})
			return true, false
		case c.unsettled():
			b.order(c, Order{Act: ActVerify})
			return true, false
		}
		stuck := ""
		if !undoable(c.Change, c.state) {
			stuck = "AWS does not let it be undone"
		}
		for _, u := range c.users {
			switch {
			case u.state.Phase == ChangeStuck:
				stuck = u.Ref.ID + " still builds on it"
			case u.busy, u.unsettled(), u.revertible():
				return false, false
			}
		}
		if stuck != "" {
			b.order(c, Order{Act: ActStuck, Reason: stuck})
		} else {
			b.order(c, Order{Act: ActBackward})
		}
		return true, false
	})
}

// order gives a change to the lane of its place.
func (b *batch) order(c *changeRun, o Order) {
	o.Rollout, o.Subject, o.Place, o.Patient, o.Unread, o.Throttled = b.id, c.ID, c.Ref.Place, c.patient(), c.unread, c.throttled
	if o.Act != ActSkip && o.Act != ActStuck {
		w, err := resolve(c.Change, b.outputs)
		if err != nil {
			o.Act, o.Reason = ActFail, err.Error()
		}
		o.Write = w
	}
	b.tasks = append(b.tasks, Task{Order: o, Change: c.Change, State: c.state})
	b.load.add(c.Ref.Place, 1)
	c.set(c.state, true)
}

// Resolved is a change whose references to other changes' outputs are filled in. What refers to its own output stays open
// until it is made.
type Resolved struct {
	Before fleet.State       `json:"before,omitempty"`
	After  fleet.State       `json:"after,omitempty"`
	Params map[string]string `json:"params,omitempty"`
}

func resolve(c *plan.Change, outputs plan.Outputs) (w Resolved, err error) {
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
