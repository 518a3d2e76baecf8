package engine

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/imdsctl/imdsctl/internal/fleet"
	"github.com/imdsctl/imdsctl/internal/inventory"
	"github.com/imdsctl/imdsctl/internal/kind"
	"github.com/imdsctl/imdsctl/internal/plan"
)

// lane executes tasks in one place under the place's lease. It decides nothing about the rollout.
type lane struct {
	opt   Options
	place fleet.Place
	reads reads

	mu      sync.Mutex
	lease   Lease
	held    bool
	expires time.Time
	ends    atomic.Pointer[time.Time] // expires, for those who cannot wait for a renewal
	late    atomic.Int64              // how often somebody who asked for the end found it past, and so made no call
}

// hold makes sure that the lane's lease is ours and fresh.
func (l *lane) hold(ctx context.Context) (Lease, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := l.opt.Clock.Now()
	ttl := l.opt.LeaseTTL
	if l.held && now.Before(l.expires.Add(-ttl/2)) {
		return l.lease, nil
	}
	if l.held {
		if err := l.opt.Journal.Renew(ctx, l.lease, now, ttl); err != nil {
			return Lease{}, fmt.Errorf("renew the lane of %s: %w", l.place, err)
		}
		l.expire(now.Add(ttl))
		return l.lease, nil
	}
	lease, err := l.opt.Journal.Acquire(ctx, LaneKey(l.place), l.opt.Holder, now, ttl)
	if err != nil {
		return Lease{}, fmt.Errorf("take the lane of %s: %w", l.place, err)
	}
	l.lease, l.held = lease, true
	l.expire(now.Add(ttl))
	return lease, nil
}

func (l *lane) expire(at time.Time) {
	l.expires = at
	l.ends.Store(&at)
}

// until is when the lease runs out, as it was renewed last. Whoever asks makes no call once that is past.
func (l *lane) until() time.Time {
	end := *l.ends.Load()
	if !l.opt.Clock.Now().Before(end) {
		l.late.Add(1)
	}
	return end
}

// release gives the lease back, and tells whether somebody has been waiting for it.
func (l *lane) release(ctx context.Context) (wanted bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.held {
		return false
	}
	l.held = false
	wanted, err := l.opt.Journal.Release(ctx, l.lease, l.opt.Clock.Now())
	if err != nil {
		l.opt.Logger.Warn("could not release a lane", "place", l.place, "error", err)
	}
	return wanted
}

// carryOut does one task from its beginning to a report.
func (l *lane) carryOut(ctx context.Context, t Task) result {
	out := result{Report: Report{Rollout: t.Rollout, Subject: t.Subject, State: t.State}}
	lease, err := l.hold(ctx)
	if err != nil {
		out.fatal = err
		return out
	}
	if t.Act == ActGate {
		return l.readGate(ctx, t.Order)
	}
	x := &execution{lane: l, lease: lease, task: t, state: t.State}
	err = x.do(ctx)
	out.State = x.state
	soon := l.opt.Clock.Now().Add(l.opt.PollInterval)
	switch {
	case errors.Is(err, ErrNotAdmitted), errors.Is(err, errAgain):
		out.NotBefore = soon
	case errors.Is(err, errRunning):
		now := l.opt.Clock.Now()
		out.NotBefore = now.Add(interval(t.Change, now.Sub(x.state.Updated)))
	case errors.Is(err, errThrottled):
		out.Throttled = true
	case errors.Is(err, errUnread):
		out.NotBefore, out.Unread = soon, true
	case err != nil:
		out.fatal = err
	}
	return out
}

var (
	// errAgain: AWS certainly did not take the write, and the change is pending again.
	errAgain = errors.New("try again")
	// errThrottled: as errAgain, because of the rate of calls.
	errThrottled = errors.New("try again later")
	// errUnread: AWS did not answer a read, and nothing was recorded.
	errUnread = errors.New("read again")
	// errRunning: what was started has not ended yet.
	errRunning = errors.New("ask again later")
)

// execution is one act on one change. state is what the journal has of the change; it is only moved after the journal was.
type execution struct {
	lane  *lane
	lease Lease
	task  Task
	state ChangeState
	drv   kind.Driver
}

func (x *execution) change() *plan.Change { return x.task.Change }

// act is what is to be done by the change's state, which may have gone on since the order was given: a lane that died
// between the journal and its report leaves such orders behind. "" is nothing.
func (x *execution) act() Act {
	switch act := x.task.Act; act {
	case ActForward:
		switch x.state.Phase {
		case ChangePending:
			return act
		case ChangeOpen:
			return ActSettle
		case ChangeApplied:
			return ActVerify
		}
	case ActVerify:
		if x.state.Phase == ChangeApplied {
			return act
		}
	case ActSettle:
		switch x.state.Phase {
		case ChangeOpen:
			return act
		case ChangeApplied:
			return ActVerify
		}
	case ActBackward:
		if x.state.Phase == ChangeOpen {
			return ActSettle
		}
		if revertible(x.change(), x.state) {
			return act
		}
	case ActStuck:
		if revertible(x.change(), x.state) {
			return act
		}
	case ActSkip, ActFail:
		if x.state.Phase == ChangePending || revertible(x.change(), x.state) {
			return act
		}
	}
	return ""
}

func (x *execution) do(ctx context.Context) error {
	act := x.act()
	switch act {
	case "":
		return nil
	case ActSkip:
		return x.settle(ctx, Settlement{Phase: ChangeSkipped, Reason: x.task.Reason})
	case ActFail:
		return x.settle(ctx, Settlement{Phase: x.given(ChangeFailed), Reason: x.task.Reason})
	case ActStuck:
		return x.settle(ctx, Settlement{Phase: ChangeStuck, Reason: x.task.Reason})
	}
	c := x.change()
	drv, err := x.lane.opt.Drivers.Driver(c.Ref.Place, c.Ref.Kind)
	if err != nil {
		return x.settle(ctx, Settlement{Phase: x.given(ChangeFailed), Reason: err.Error()})
	}
	x.drv = drv
	switch act {
	case ActForward:
		return x.forward(ctx)
	case ActVerify:
		return x.verify(ctx)
	case ActSettle:
		return x.settleOpen(ctx)
	default:
		return x.backward(ctx)
	}
}

// given is the phase of a change that cannot be carried out: stuck, where it was on its way back.
func (x *execution) given(forward ChangePhase) ChangePhase {
	if x.state.Phase != ChangePending {
		return ChangeStuck
	}
	return forward
}

// forward makes the change: read again, compare, commit the intent, write, commit the outcome, verify.
func (x *execution) forward(ctx context.Context) error {
	c, w := x.change(), x.task.Write
	r, err := x.read(ctx, func(r inventory.Resource) bool { return r.State.Equal(w.Before) || r.State.Equal(w.After) }, x.patience())
	switch {
	case err != nil:
		return x.unread(ctx, err)
	case switchedOff(c, &r):
		return x.settle(ctx, Settlement{Phase: ChangeConflict, Found: r.State,
			Reason: "its metadata endpoint is disabled; it is never written"})
	case c.Class != plan.ClassCreate && r.State.Equal(w.After):
		return x.settle(ctx, Settlement{Phase: ChangeVerified, Found: r.State,
			Reason: "found as wanted; nothing was written"})
	case !r.State.Equal(w.Before):
		return x.settle(ctx, Settlement{Phase: ChangeConflict, Found: r.State,
			Reason: "it changed since the plan: " + fleet.DescribeDiff(w.Before, r.State)})
	}
	for _, probe := range x.task.Probes {
		if done, err := x.undoable(ctx, &probe); done || err != nil {
			return err
		}
	}
	intent, err := x.admit(ctx, Forward)
	if err != nil {
		return err
	}
	return x.send(ctx, intent)
}

// switchedOff tells a host whose metadata endpoint is disabled. What does not run has no status: an account's default that
// disables the endpoint of launches is a setting like any other.
func switchedOff(c *plan.Change, r *inventory.Resource) bool {
	return (c.Ref.Kind == inventory.KindInstance || r.Status != "") && r.Options().Endpoint == fleet.Disabled
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
	case x.later(class) != nil:
		return true, x.later(class)
	case (class == fleet.ErrDenied || class == fleet.ErrConflict) && x.task.Irreversible:
		return false, x.lane.opt.Journal.Note(ctx, x.task.Rollout, x.change().Stack, "irreversible",
			map[string]string{"change": probe.ID, "reason": err.Error()}, x.lane.opt.Clock.Now())
	case class == fleet.ErrDenied || class == fleet.ErrConflict:
		return true, x.settle(ctx, Settlement{Phase: ChangeFailed, Class: class,
			Reason: "it was not written, because AWS would not let it be undone: " + err.Error() +
				"; or plan it with rollout.irreversible: allow"})
	default:
		return true, x.settle(ctx, Settlement{Phase: ChangeFailed, Class: class,
			Reason: "it was not written, because AWS could not be asked whether it could be undone: " + err.Error()})
	}
}

// maxThrottled is how often in a row a change is put off because AWS throttles it: with the longest backoff between, more than
// six hours. It says nothing about the change, only about the account's other callers.
const maxThrottled = 200

// PutOff lists the classes of errors that say nothing about a change: AWS throttled the call and did not make it, its time was over
// before it was sent, or the process that should have sent it was stopped.
func PutOff() []fleet.ErrorClass {
	return []fleet.ErrorClass{fleet.ErrThrottled, fleet.ErrLate, fleet.ErrInterrupted}
}

func putOff(class fleet.ErrorClass) bool { return slices.Contains(PutOff(), class) }

// send makes the write of an open forward intent and records what became of it.
func (x *execution) send(ctx context.Context, intent Intent) error {
	res, err := x.call(ctx, intent, false, intent.LeaseUntil)
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
	case ctx.Err() != nil || class.Unanswered() || errors.Is(err, context.DeadlineExceeded):
		if ctx.Err() != nil {
			return nil // the intent stays open; the next run settles it
		}
		return x.find(ctx, intent, "")
	case class == fleet.ErrExpired:
		return errors.Join(x.settle(ctx, Settlement{Intent: intent.ID, Phase: ChangePending, Class: class,
			Reason: reason}), err)
	case putOff(class) && x.task.Throttled < maxThrottled:
		return errors.Join(x.settle(ctx, Settlement{Intent: intent.ID, Phase: ChangePending, Class: class,
			Reason: reason}), errThrottled)
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
	if x.starts() {
		return x.started(ctx, w)
	}
	// Counted from when AWS accepted it: a lane that is broken off and taken up again does not begin anew.
	since := x.lane.opt.Clock.Now().Sub(x.state.Updated)
	// AWS seldom shows a write at once: a read right after it would be one more for nothing, out of the limit that gates share.
	if early := x.pace() - since; early > 0 && x.lane.opt.Clock.Sleep(ctx, early) != nil {
		return nil // applied is in the journal; the next run verifies
	}
	patience := max(x.lane.opt.Consistency, x.lane.opt.VerifyTimeout-since)
	r, err := x.read(ctx, func(r inventory.Resource) bool { return r.State.Equal(w.After) }, patience)
	switch class := fleet.ClassOf(err); {
	case ctx.Err() != nil:
		return nil // applied is in the journal; the next run verifies
	case class == fleet.ErrExpired:
		return err
	case x.later(class) != nil:
		return x.later(class)
	case err != nil:
		return x.settle(ctx, Settlement{Phase: ChangeFailed, Wrote: true, Class: class,
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
	if x.change().Undo == plan.UndoNone && !x.cancels() {
		return x.settle(ctx, Settlement{Phase: ChangeStuck, Wrote: true, Reason: "AWS does not let it be undone"})
	}
	r, err := x.readBack(ctx, w)
	switch {
	case err == nil && r.Settling && x.cancels(): // it still runs, and is stopped
	case errors.Is(err, errRunning):
		return err
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
	res, err := x.call(ctx, intent, true, intent.LeaseUntil)
	class := fleet.ClassOf(err)
	switch {
	case err == nil && x.starts():
		return x.takenBack(ctx, intent, res.RequestID)
	case err == nil:
		return x.restored(ctx, intent, res.RequestID)
	case ctx.Err() != nil:
		return nil
	case class.Unanswered() || errors.Is(err, context.DeadlineExceeded):
		return x.find(ctx, intent, "")
	case class == fleet.ErrExpired:
		return errors.Join(x.settle(ctx, Settlement{Intent: intent.ID, Phase: ChangeVerified, Wrote: true, Class: class,
			Reason: err.Error()}), err)
	case putOff(class) && x.task.Throttled < maxThrottled:
		return errors.Join(x.settle(ctx, Settlement{Intent: intent.ID, Phase: ChangeVerified, Wrote: true, Class: class,
			Reason: err.Error()}), errThrottled)
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
	switch class := fleet.ClassOf(err); {
	case ctx.Err() != nil:
		return nil
	case class == fleet.ErrExpired:
		return err
	case x.later(class) != nil:
		return x.later(class) // the intent stays open, and is settled by what is there
	case err != nil:
		return x.settle(ctx, Settlement{Intent: intent.ID, Phase: ChangeStuck, Wrote: true, Class: class, RequestID: request,
			Reason: "the rollback could not be verified: " + err.Error()})
	case !r.State.Equal(w.Before):
		return x.settle(ctx, Settlement{Intent: intent.ID, Phase: ChangeStuck, Wrote: true, RequestID: request, Found: r.State,
			Reason: "reads otherwise after the rollback: " + fleet.DescribeDiff(w.Before, r.State)})
	}
	return x.settle(ctx, Settlement{Intent: intent.ID, Phase: ChangeReverted, Wrote: true, RequestID: request})
}
