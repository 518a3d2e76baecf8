package engine

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/imdsctl/imdsctl/internal/fleet"
	"github.com/imdsctl/imdsctl/internal/inventory"
	"github.com/imdsctl/imdsctl/internal/kind"
	"github.com/imdsctl/imdsctl/internal/plan"
)

// act says what a lane is to do with a change.
type act int

const (
	actForward  act = iota // read, admit, write, verify
	actVerify              // accepted before an interruption: verify only
	actSettle              // an intent was left open: find out what became of it
	actBackward            // read, admit, put back, verify
	actSkip                // record that it will not be made
	actStuck               // record that it cannot be put back
	actFail                // record that it cannot even be asked for
)

// task is one act on one change, with a copy of all it needs, so that a lane shares nothing with the coordinator.
type task struct {
	change *changeRun
	state  ChangeState
	act    act
	write  resolved
	reason string
	// unread is how often in a row its resource could not be read.
	unread int
	// probes are set for the first write of a stack: changes of it that AWS must be willing to see undone.
	probes []*plan.Change
}

// lane executes tasks in one place under the place's lease. It decides nothing about the rollout.
type lane struct {
	opt     Options
	rollout string
	place   fleet.Place
	results chan<- result
	slots   chan struct{}
	width   chan struct{}

	mu      sync.Mutex
	lease   Lane
	held    bool
	expires time.Time
	intents map[string]Intent // left open by an earlier holder, by change
}

func newLane(opt Options, rolloutID string, place fleet.Place, results chan<- result, slots chan struct{}) *lane {
	return &lane{opt: opt, rollout: rolloutID, place: place, results: results, slots: slots, width: make(chan struct{}, opt.LaneWidth)}
}

// laneTTL is how long a lane's lease lasts; it is renewed at half of that by whoever works in it.
const laneTTL = 5 * time.Minute

// hold makes sure that the lane's lease is ours and fresh. At first it learns which intents an earlier holder left open.
func (l *lane) hold(ctx context.Context) (Lane, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := l.opt.Clock.Now()
	if l.held && now.Before(l.expires.Add(-laneTTL/2)) {
		return l.lease, nil
	}
	if l.held {
		if err := l.opt.Journal.Renew(ctx, l.lease, now, laneTTL); err != nil {
			return Lane{}, fmt.Errorf("renew the lane of %s: %w", l.place, err)
		}
		l.expires = now.Add(laneTTL)
		return l.lease, nil
	}
	lease, err := l.opt.Journal.Acquire(ctx, l.place, l.opt.Holder, now, laneTTL)
	if err != nil {
		return Lane{}, fmt.Errorf("take the lane of %s: %w", l.place, err)
	}
	open, err := l.opt.Journal.OpenIntents(ctx, l.rollout)
	if err != nil {
		return Lane{}, fmt.Errorf("read open intents: %w", err)
	}
	l.intents = map[string]Intent{}
	for _, in := range open {
		if in.Place == l.place {
			l.intents[in.Change] = in
		}
	}
	l.lease, l.held, l.expires = lease, true, now.Add(laneTTL)
	return lease, nil
}

// closeLanes gives the leases back. Nothing is under way any more.
func (r *run) closeLanes(ctx context.Context) {
	for _, l := range r.lanes {
		if !l.held {
			continue
		}
		if err := r.opt.Journal.Release(ctx, l.lease); err != nil {
			r.opt.Logger.Warn("could not release a lane", "place", l.place, "error", err)
		}
	}
}

// start runs the task when a place in the lane and, for a write, one among the open intents is free.
func (l *lane) start(ctx context.Context, t task) {
	go func() {
		res := result{change: t.change, state: t.state}
		defer func() { l.results <- res }()
		for _, gate := range []chan struct{}{l.width, l.slots} {
			select {
			case gate <- struct{}{}:
				defer func() { <-gate }()
			case <-ctx.Done():
				return
			}
		}
		lease, err := l.hold(ctx)
		if err != nil {
			res.fatal = err
			return
		}
		x := &execution{lane: l, lease: lease, task: t, state: t.state}
		err = x.do(ctx)
		res.state = x.state
		switch {
		case errors.Is(err, ErrNotAdmitted), errors.Is(err, errAgain):
			res.notBefore = l.opt.Clock.Now().Add(l.opt.PollInterval)
		case errors.Is(err, errUnread):
			res.notBefore, res.unread = l.opt.Clock.Now().Add(l.opt.PollInterval), true
		case err != nil:
			res.fatal = err
		}
	}()
}

// errAgain: AWS certainly did not take the write, and the change is pending again.
var errAgain = errors.New("try again")

// errUnread: AWS did not answer a read, and nothing was recorded.
var errUnread = errors.New("read again")

// execution is one act on one change. state is what the journal has of the change; it is only moved after the journal was.
type execution struct {
	lane  *lane
	lease Lane
	task  task
	state ChangeState
	drv   kind.Driver
}

func (x *execution) change() *plan.Change { return x.task.change.Change }

func (x *execution) do(ctx context.Context) error {
	switch x.task.act {
	case actSkip:
		return x.settle(ctx, Settlement{Phase: ChangeSkipped, Reason: x.task.reason})
	case actFail:
		return x.settle(ctx, Settlement{Phase: ChangeFailed, Reason: x.task.reason})
	case actStuck:
		return x.settle(ctx, Settlement{Phase: ChangeStuck, Reason: x.task.reason})
	}
	c := x.change()
	drv, err := x.lane.opt.Drivers.Driver(c.Ref.Place, c.Ref.Kind)
	if err != nil {
		return x.settle(ctx, Settlement{Phase: ChangeFailed, Reason: err.Error()})
	}
	x.drv = drv
	switch x.task.act {
	case actForward:
		return x.forward(ctx)
	case actVerify:
		return x.verify(ctx)
	case actSettle:
		return x.settleOpen(ctx)
	default:
		return x.backward(ctx)
	}
}

// forward makes the change: read again, compare, commit the intent, write, commit the outcome, verify.
func (x *execution) forward(ctx context.Context) error {
	c, w := x.change(), x.task.write
	r, err := x.read(ctx, func(r inventory.Resource) bool { return r.State.Equal(w.Before) || r.State.Equal(w.After) }, x.patience())
	switch {
	case err != nil:
		return x.unread(ctx, err)
	case r.State[fleet.FieldEndpoint] == fleet.Disabled && c.Ref.Kind == inventory.KindInstance:
		return x.settle(ctx, Settlement{Phase: ChangeConflict, Found: r.State,
			Reason: "its metadata endpoint is disabled; it is never written"})
	case c.Class == plan.ClassSet && r.State.Equal(w.After):
		return x.settle(ctx, Settlement{Phase: ChangeVerified, Found: r.State,
			Reason: "found as wanted; nothing was written"})
	case !r.State.Equal(w.Before):
		return x.settle(ctx, Settlement{Phase: ChangeConflict, Found: r.State,
			Reason: "it changed since the plan: " + fleet.DescribeDiff(w.Before, r.State)})
	}
	for _, probe := range x.task.probes {
		if done, err := x.undoable(ctx, probe); done || err != nil {
			return err
		}
	}
	intent, err := x.admit(ctx, Forward)
	if err != nil {
		return err
	}
	return x.send(ctx, intent)
}

// undoable asks AWS, before the first write of a stack, whether it would let a change of the stack be undone. What it would
// refuse counts as irreversible, which this plan was not approved for: the first change fails (done), and nothing of the
// stack is written.
func (x *execution) undoable(ctx context.Context, probe *plan.Change) (done bool, err error) {
	drv, err := x.lane.opt.Drivers.Driver(probe.Ref.Place, probe.Ref.Kind)
	if err != nil {
		return true, x.settle(ctx, Settlement{Phase: ChangeFailed, Reason: err.Error()})
	}
	checker, ok := drv.(kind.UndoChecker)
	if !ok {
		return false, nil // AWS offers no way to ask
	}
	err = checker.CheckUndo(ctx, kind.Write{Place: probe.Ref.Place, ID: probe.Ref.ID, Verb: probe.Action,
		Before: probe.Before, After: probe.After, Params: probe.Params})
	switch class := fleet.ClassOf(err); {
	case err == nil:
		return false, nil
	case ctx.Err() != nil:
		return true, ctx.Err()
	case class == fleet.ErrExpired:
		return true, err
	case x.passing(class):
		return true, errUnread
	case class == fleet.ErrDenied || class == fleet.ErrConflict:
		return true, x.settle(ctx, Settlement{Phase: ChangeFailed, Class: class,
			Reason: "it was not written, because AWS would not let it be undone: " + err.Error()})
	default:
		return true, x.settle(ctx, Settlement{Phase: ChangeFailed, Class: class,
			Reason: "it was not written, because AWS could not be asked whether it could be undone: " + err.Error()})
	}
}

// send makes the write of an open forward intent and records what became of it.
func (x *execution) send(ctx context.Context, intent Intent) error {
	res, err := x.call(ctx, intent, false)
	if err == nil {
		if err := x.settle(ctx, Settlement{Intent: intent.ID, Phase: ChangeApplied, Wrote: true,
			Outputs: res.Outputs, RequestID: res.RequestID}); err != nil {
			return err
		}
		return x.verify(ctx)
	}
	class := fleet.ClassOf(err)
	reason := err.Error()
	switch {
	case ctx.Err() != nil || class == fleet.ErrTransient || errors.Is(err, context.DeadlineExceeded):
		if ctx.Err() != nil {
			return nil // the intent stays open; the next run settles it
		}
		return x.find(ctx, intent)
	case class == fleet.ErrExpired:
		return errors.Join(x.settle(ctx, Settlement{Intent: intent.ID, Phase: ChangePending, Class: class,
			Reason: reason}), err)
	case class == fleet.ErrThrottled && x.state.Attempt < x.lane.opt.MaxAttempts:
		return errors.Join(x.settle(ctx, Settlement{Intent: intent.ID, Phase: ChangePending, Class: class,
			Reason: reason}), errAgain)
	case class == fleet.ErrConflict || class == fleet.ErrGone:
		return x.settle(ctx, Settlement{Intent: intent.ID, Phase: ChangeConflict, Class: class, Reason: reason})
	default:
		return x.settle(ctx, Settlement{Intent: intent.ID, Phase: ChangeFailed, Class: class, Reason: reason})
	}
}

// verify waits until the resource reads as planned. What never does is a failure that a rollback will look at.
func (x *execution) verify(ctx context.Context) error {
	w, err := x.again()
	if err != nil {
		return x.settle(ctx, Settlement{Phase: ChangeFailed, Wrote: true, Reason: err.Error()})
	}
	r, err := x.read(ctx, func(r inventory.Resource) bool { return r.State.Equal(w.After) }, x.lane.opt.VerifyTimeout)
	switch {
	case ctx.Err() != nil:
		return nil // applied is in the journal; the next run verifies
	case fleet.ClassOf(err) == fleet.ErrExpired:
		return err
	case err != nil:
		return x.settle(ctx, Settlement{Phase: ChangeFailed, Wrote: true, Class: fleet.ClassOf(err),
			Reason: "could not be verified: " + err.Error()})
	case !r.State.Equal(w.After):
		return x.settle(ctx, Settlement{Phase: ChangeFailed, Wrote: true, Found: r.State,
			Reason: "reads otherwise after the write: " + fleet.DescribeDiff(w.After, r.State)})
	}
	return x.settle(ctx, Settlement{Phase: ChangeVerified, Wrote: true})
}

// backward puts the change back: only where the resource is exactly as it was left.
func (x *execution) backward(ctx context.Context) error {
	w, err := x.again()
	if err != nil {
		return x.settle(ctx, Settlement{Phase: ChangeStuck, Wrote: true, Reason: err.Error()})
	}
	r, err := x.read(ctx, func(r inventory.Resource) bool { return r.State.Equal(w.After) || r.State.Equal(w.Before) },
		x.lane.opt.Consistency)
	switch {
	case fleet.ClassOf(err) == fleet.ErrGone:
		return x.settle(ctx, Settlement{Phase: ChangeReverted, Wrote: true, Reason: "it no longer exists"})
	case err != nil:
		return x.unreadBack(ctx, err)
	case r.State.Equal(w.Before):
		return x.settle(ctx, Settlement{Phase: ChangeReverted, Wrote: true, Reason: "found as it was before"})
	case !r.State.Equal(w.After):
		return x.settle(ctx, Settlement{Phase: ChangeStuck, Wrote: true, Found: r.State,
			Reason: "someone changed it since: " + fleet.DescribeDiff(w.After, r.State)})
	}
	intent, err := x.admit(ctx, Backward)
	if err != nil {
		return err
	}
	return x.sendBack(ctx, intent)
}

// sendBack makes the write of an open backward intent and records what became of it.
func (x *execution) sendBack(ctx context.Context, intent Intent) error {
	res, err := x.call(ctx, intent, true)
	class := fleet.ClassOf(err)
	switch {
	case err == nil:
		return x.restored(ctx, intent, res.RequestID)
	case ctx.Err() != nil:
		return nil
	case class == fleet.ErrTransient || errors.Is(err, context.DeadlineExceeded):
		return x.find(ctx, intent)
	case class == fleet.ErrExpired:
		return errors.Join(x.settle(ctx, Settlement{Intent: intent.ID, Phase: ChangeVerified, Wrote: true, Class: class,
			Reason: err.Error()}), err)
	case class == fleet.ErrThrottled && x.state.Attempt < 2*x.lane.opt.MaxAttempts:
		return errors.Join(x.settle(ctx, Settlement{Intent: intent.ID, Phase: ChangeVerified, Wrote: true, Class: class,
			Reason: err.Error()}), errAgain)
	default:
		return x.settle(ctx, Settlement{Intent: intent.ID, Phase: ChangeStuck, Wrote: true, Class: class,
			Reason: err.Error()})
	}
}

// restored waits until the resource reads as before, and closes the backward intent.
func (x *execution) restored(ctx context.Context, intent Intent, request string) error {
	w, err := x.again()
	if err != nil {
		return x.settle(ctx, Settlement{Intent: intent.ID, Phase: ChangeStuck, Wrote: true, Reason: err.Error()})
	}
	r, err := x.read(ctx, func(r inventory.Resource) bool { return r.State.Equal(w.Before) }, x.lane.opt.VerifyTimeout)
	switch {
	case ctx.Err() != nil:
		return nil
	case fleet.ClassOf(err) == fleet.ErrExpired:
		return err
	case err != nil:
		return x.settle(ctx, Settlement{Intent: intent.ID, Phase: ChangeStuck, Wrote: true, RequestID: request,
			Reason: "the rollback could not be verified: " + err.Error()})
	case !r.State.Equal(w.Before):
		return x.settle(ctx, Settlement{Intent: intent.ID, Phase: ChangeStuck, Wrote: true, RequestID: request, Found: r.State,
			Reason: "reads otherwise after the rollback: " + fleet.DescribeDiff(w.Before, r.State)})
	}
	return x.settle(ctx, Settlement{Intent: intent.ID, Phase: ChangeReverted, Wrote: true, RequestID: request})
}
