package engine

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/imdsctl/imdsctl/internal/fleet"
	"github.com/imdsctl/imdsctl/internal/inventory"
	"github.com/imdsctl/imdsctl/internal/kind"
	"github.com/imdsctl/imdsctl/internal/plan"
)

// What is started takes longer than a lane should be held for it: here it is looked at once, and again after a while, both on
// its way and on its way back. The way back keeps its intent open until it has ended: what an interruption leaves is told by
// sending the same token again, which AWS takes for the same start however late it comes.

// starts tells whether the change is accepted at once and completed later.
func (x *execution) starts() bool { return x.change().Class == plan.ClassStart }

// unseen tells whether what AWS accepted may still be about to show.
func (x *execution) unseen() bool {
	return !x.lane.opt.Clock.Now().After(x.state.Updated.Add(x.lane.opt.VerifyTimeout))
}

// started looks at what was started, once.
func (x *execution) started(ctx context.Context, w Resolved) error {
	r, err := x.look(ctx)
	switch class := fleet.ClassOf(err); {
	case ctx.Err() != nil:
		return nil
	case class == fleet.ErrExpired:
		return err
	case x.later(class) != nil:
		return x.later(class)
	case err != nil:
		return x.settle(ctx, Settlement{Phase: ChangeFailed, Wrote: true, Class: class,
			Reason: "it was started, and how it ended could not be read: " + err.Error()})
	case r.Settling && x.task.Reason == abandoned:
		return x.settle(ctx, Settlement{Phase: ChangeVerified, Wrote: true, Reason: abandoned})
	case r.Settling, r.State.Equal(w.Before) && r.Attrs[kind.AttrNote] == "" && x.unseen():
		return errRunning
	case r.State.Equal(w.After):
		return x.settle(ctx, Settlement{Phase: ChangeVerified, Wrote: true, Found: r.State, Reason: r.Attrs[kind.AttrNote]})
	case r.State.Equal(w.Before) && r.Attrs[kind.AttrNote] != "":
		return x.settle(ctx, Settlement{Phase: ChangeFailed, Wrote: true, Reason: "it did not end well: " + r.Attrs[kind.AttrNote]})
	case r.State.Equal(w.Before):
		return x.settle(ctx, Settlement{Phase: ChangeFailed, Wrote: true,
			Reason: fmt.Sprintf("AWS accepted it, and nothing of it was seen within %s", x.lane.opt.VerifyTimeout)})
	default:
		return x.settle(ctx, Settlement{Phase: ChangeFailed, Wrote: true, Found: r.State,
			Reason: "it did not end well: " + fleet.DescribeDiff(w.After, r.State)})
	}
}

// readBack reads what is to be put back. What was started and has not ended cannot be put back yet: errRunning.
func (x *execution) readBack(ctx context.Context, w Resolved) (inventory.Resource, error) {
	known := func(r inventory.Resource) bool { return r.State.Equal(w.After) || r.State.Equal(w.Before) }
	if !x.starts() {
		return x.read(ctx, known, x.lane.opt.Consistency)
	}
	r, err := x.glance(ctx, known)
	if err == nil && r.Settling && x.cancels() {
		return r, nil
	}
	if err == nil && (r.Settling || x.state.Phase == ChangeApplied && r.State.Equal(w.Before) && x.unseen()) {
		return r, errRunning
	}
	return r, err
}

// glance reads the resource until it is as hoped or something is under way with it, but no longer than reads lag behind.
func (x *execution) glance(ctx context.Context, hoped func(inventory.Resource) bool) (inventory.Resource, error) {
	clk := x.lane.opt.Clock
	until := clk.Now().Add(x.lane.opt.Consistency)
	for {
		r, err := x.look(ctx)
		if err != nil || r.Settling || hoped(r) || !clk.Now().Before(until) {
			return r, err
		}
		if err := clk.Sleep(ctx, time.Second); err != nil {
			return r, err
		}
	}
}

// takenBack looks at the way back of a start that AWS has just accepted. Its intent stays open until it has ended.
func (x *execution) takenBack(ctx context.Context, intent Intent, request string) error {
	w, err := x.again()
	if err != nil {
		return x.settle(ctx, Settlement{Intent: intent.ID, Phase: ChangeStuck, Wrote: true, Reason: err.Error()})
	}
	r, err := x.glance(ctx, func(r inventory.Resource) bool { return r.State.Equal(w.Before) })
	if done, err := x.ended(ctx, intent, w, request, r, err); done {
		return err
	}
	if x.lane.opt.Clock.Now().Before(intent.Opened.Add(x.lane.opt.VerifyTimeout)) {
		return errRunning
	}
	return x.settle(ctx, Settlement{Intent: intent.ID, Phase: ChangeStuck, Wrote: true, RequestID: request, Found: r.State,
		Reason: "AWS accepted the rollback, and it ended without effect: " + fleet.DescribeDiff(w.Before, r.State)})
}

// findBack settles the open way back of a start: by what is there once nothing is under way any more, and where that is still
// what was to be put back, by sending it again under the same token while the token lives.
func (x *execution) findBack(ctx context.Context, intent Intent) error {
	w, err := x.again()
	if err != nil {
		return err
	}
	r, err := x.look(ctx)
	if err != nil || !r.Settling || !x.cancels() { // stopping it once more does no harm
		if done, err := x.ended(ctx, intent, w, "", r, err); done {
			return err
		}
	}
	if x.lane.opt.Clock.Now().Sub(intent.Opened) > kind.TokenLife {
		return x.settle(ctx, Settlement{Intent: intent.ID, Phase: ChangeStuck, Wrote: true,
			Reason: "the rollback had no effect, and its client token is too old to be sent again"})
	}
	res, err := x.call(ctx, intent, true, x.lane.opt.Clock.Now().Add(x.callTime()))
	switch class := fleet.ClassOf(err); {
	case err == nil:
		return x.takenBack(ctx, intent, res.RequestID)
	case ctx.Err() != nil:
		return nil
	case class == fleet.ErrExpired:
		return err
	case class.Unanswered() || errors.Is(err, context.DeadlineExceeded) || putOff(class):
		return errAgain // the intent stays open and the coordinator sends it here once more
	default:
		return x.settle(ctx, Settlement{Intent: intent.ID, Phase: ChangeStuck, Wrote: true, Class: class, Reason: err.Error()})
	}
}

// ended closes an open way back by what was read of it. It is not done where the resource is as if nothing had been sent.
func (x *execution) ended(ctx context.Context, intent Intent, w Resolved, request string, r inventory.Resource, err error) (bool, error) {
	switch class := fleet.ClassOf(err); {
	case ctx.Err() != nil:
		return true, nil
	case class == fleet.ErrExpired:
		return true, err
	case class == fleet.ErrGone:
		return true, x.settle(ctx, Settlement{Intent: intent.ID, Phase: ChangeReverted, Wrote: true, RequestID: request,
			Reason: "it no longer exists"})
	case x.later(class) != nil:
		return true, x.later(class) // the intent stays open
	case err != nil:
		return true, x.settle(ctx, Settlement{Intent: intent.ID, Phase: ChangeStuck, Wrote: true, Class: class, RequestID: request,
			Reason: "how the rollback ended could not be read: " + err.Error()})
	case r.Settling:
		return true, errRunning
	case r.State.Equal(w.Before):
		return true, x.settle(ctx, Settlement{Intent: intent.ID, Phase: ChangeReverted, Wrote: true, RequestID: request})
	case !r.State.Equal(w.After):
		return true, x.settle(ctx, Settlement{Intent: intent.ID, Phase: ChangeStuck, Wrote: true, RequestID: request,
			Found: r.State, Reason: "reads otherwise after the rollback: " + fleet.DescribeDiff(w.Before, r.State)})
	}
	return false, nil
}
