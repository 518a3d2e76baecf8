package engine

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"time"

	"github.com/imdsctl/imdsctl/internal/clock"
	"github.com/imdsctl/imdsctl/internal/fleet"
	"github.com/imdsctl/imdsctl/internal/inventory"
	"github.com/imdsctl/imdsctl/internal/kind"
	"github.com/imdsctl/imdsctl/internal/plan"
)

// admit commits an intent. From here on the call may have happened.
func (x *execution) admit(ctx context.Context, d Direction) (Intent, error) {
	intent, err := x.lane.opt.Journal.Admit(ctx, Admission{Rollout: x.task.Rollout, Change: x.change(), Direction: d, Lane: x.lease,
		Token: Token(x.task.Rollout, x.change().ID, d, x.state.Attempt+1), Now: x.lane.opt.Clock.Now(), Lease: x.callTime()})
	if err != nil {
		return intent, err
	}
	x.state.Phase, x.state.Attempt = ChangeOpen, intent.Attempt
	return intent, nil
}

// callTime is how long the call of a write may take: a program that follows a change up has its own bound.
func (x *execution) callTime() time.Duration {
	c := x.change()
	if c.Ref.Kind == plan.KindFollowUp && c.Action == plan.ActionCommand {
		if d, err := time.ParseDuration(c.Params[plan.ParamTimeout]); err == nil {
			return d + x.lane.opt.CallTimeout
		}
	}
	return x.lane.opt.CallTimeout
}

// Token is what a write is marked with at AWS. It is unique to rollout, change, direction and attempt, and the same
// whenever it is computed again.
func Token(rolloutID, change string, d Direction, attempt int) string {
	sum := sha256.Sum256(fmt.Appendf(nil, "%s\n%s\n%s\n%d", rolloutID, change, d, attempt))
	return "imdsctl-" + hex.EncodeToString(sum[:12])
}

// settle records what became of the change, then takes it over. It is done even while the process is being stopped: an
// outcome that is known must not be forgotten.
func (x *execution) settle(ctx context.Context, s Settlement) error {
	s.Rollout, s.Change, s.Lane, s.Now = x.task.Rollout, x.change().ID, x.lease, x.lane.opt.Clock.Now()
	if err := x.lane.opt.Journal.Settle(context.WithoutCancel(ctx), s); err != nil {
		return fmt.Errorf("record the outcome of %s on %s: %w", x.change().Action, x.change().Ref, err)
	}
	x.state.Phase, x.state.Reason, x.state.Updated = s.Phase, s.Reason, s.Now
	x.state.Wrote = x.state.Wrote || s.Wrote
	if s.Outputs != nil {
		x.state.Outputs = s.Outputs
	}
	return nil
}

// call makes the one AWS change of an intent, which must not begin at end or later.
func (x *execution) call(ctx context.Context, intent Intent, revert bool, end time.Time) (kind.Result, error) {
	w, err := x.again()
	if err != nil {
		return kind.Result{}, err
	}
	c := x.change()
	kw := kind.Write{Place: c.Ref.Place, ID: c.Ref.ID, Verb: c.Action, Before: w.Before, After: w.After, Params: w.Params,
		Token: intent.Token, Marker: intent.Token}
	if revert {
		kw.Revert, kw.Made = true, x.state.Outputs
		kw.Before, kw.After = w.After, w.Before
	}
	ctx, cancel := context.WithCancel(clock.WithEnd(ctx, end))
	defer cancel()
	go func() { // the clock, not the machine's time, bounds the call: a rehearsal's seconds are short
		if x.lane.opt.Clock.Sleep(ctx, x.callTime()) == nil {
			cancel()
		}
	}()
	res, err := x.drv.Write(ctx, kw)
	if err != nil && ctx.Err() != nil {
		err = fmt.Errorf("%w: %w", context.DeadlineExceeded, err)
	}
	return res, err
}

// again resolves the change's references with what it has produced itself since.
func (x *execution) again() (Resolved, error) {
	w := x.task.Write
	own := plan.Outputs{x.change().ID: x.state.Outputs}
	if x.state.Outputs == nil {
		return w, nil
	}
	after, err := plan.Resolve(w.After, own)
	w.After = after
	return w, err
}

// patience is how long a read that shows neither before nor after is repeated: AWS may show an earlier state for a while
// after our own earlier change of the same resource, and of nothing else.
func (x *execution) patience() time.Duration {
	if x.task.Patient {
		return x.lane.opt.Consistency
	}
	return 0
}

// look reads the resource once.
func (x *execution) look(ctx context.Context) (inventory.Resource, error) {
	c := x.change()
	drv, ok := x.drv.(kind.WriteReader)
	if !ok {
		return x.lane.reads.read(ctx, c.Ref.Place, c.Ref.Kind, x.drv, c.Ref.ID)
	}
	w, err := x.again()
	if err != nil {
		return inventory.Resource{}, err
	}
	return drv.ReadFor(ctx, kind.Write{Place: c.Ref.Place, ID: c.Ref.ID, Verb: c.Action, Before: w.Before, After: w.After,
		Params: w.Params, Made: x.state.Outputs})
}

// pace is how long after a write it is read for the first time, and half of how long after that for the second. Each read more
// comes out of the limit that gates and everybody else in the account share.
func (x *execution) pace() time.Duration { return min(time.Second, x.lane.opt.Consistency/10) }

// read reads the resource until it has settled and is as hoped, or patience runs out; then it gives what it read last.
func (x *execution) read(ctx context.Context, hoped func(inventory.Resource) bool, patience time.Duration) (inventory.Resource, error) {
	clk := x.lane.opt.Clock
	until := clk.Now().Add(patience)
	wait := 2 * x.pace()
	for {
		r, err := x.look(ctx)
		if err == nil && !r.Settling && hoped(r) {
			return r, nil
		}
		limit := until
		if err == nil && r.Settling {
			limit = until.Add(x.lane.opt.VerifyTimeout)
		}
		if err != nil && !fleet.ClassOf(err).Unanswered() && fleet.ClassOf(err) != fleet.ErrThrottled || !clk.Now().Before(limit) {
			return r, err
		}
		if err := clk.Sleep(ctx, wait); err != nil {
			return r, err
		}
		wait = min(2*wait, 5*time.Second)
	}
}

// unread records a change whose resource could not be read before the write.
func (x *execution) unread(ctx context.Context, err error) error {
	switch class := fleet.ClassOf(err); {
	case ctx.Err() != nil:
		return nil // still pending
	case class == fleet.ErrExpired:
		return err
	case class == fleet.ErrGone:
		return x.settle(ctx, Settlement{Phase: ChangeConflict, Class: class, Reason: "it no longer exists"})
	case x.later(class) != nil:
		return x.later(class)
	default:
		return x.settle(ctx, Settlement{Phase: ChangeFailed, Class: class,
			Reason: "could not be read before the write: " + err.Error()})
	}
}

// later is how a failed read is tried again: AWS did not answer or throttled, and not too often yet. It says nothing about the
// change, so that waiting costs nothing but time. nil where the failure stands.
func (x *execution) later(class fleet.ErrorClass) error {
	switch {
	case putOff(class) && x.task.Throttled < maxThrottled:
		return errThrottled
	case class.Unanswered() && x.task.Unread < x.lane.opt.MaxAttempts:
		return errUnread
	}
	return nil
}

// unreadBack records a change whose resource could not be read before putting it back.
func (x *execution) unreadBack(ctx context.Context, err error) error {
	switch class := fleet.ClassOf(err); {
	case ctx.Err() != nil:
		return nil
	case class == fleet.ErrExpired:
		return err
	case x.later(class) != nil:
		return x.later(class)
	default:
		return x.settle(ctx, Settlement{Phase: ChangeStuck, Wrote: true, Class: class,
			Reason: "could not be read before the rollback: " + err.Error()})
	}
}

// settleOpen finds out what became of an intent that an earlier run left open.
func (x *execution) settleOpen(ctx context.Context) error {
	intent, ok, err := x.lane.opt.Journal.OpenIntent(ctx, x.task.Rollout, x.change().ID)
	if err != nil {
		return fmt.Errorf("read open intents: %w", err)
	}
	if !ok {
		return fmt.Errorf("change %s of rollout %s is open without an intent: the journal is damaged", x.change().ID, x.task.Rollout)
	}
	return x.find(ctx, intent, fleet.ErrInterrupted)
}

// find settles an intent whose effect is unknown. It waits until the call must have ended and AWS shows its effect, and then
// lets what is there decide: a set by its state; a create by its marker, sent again under the same token if nothing was made. class
// is what a set that has no effect counts as.
func (x *execution) find(ctx context.Context, intent Intent, class fleet.ErrorClass) error {
	clk := x.lane.opt.Clock
	settled := intent.LeaseUntil.Add(x.lane.opt.Consistency)
	if err := clk.Sleep(ctx, settled.Sub(clk.Now())); err != nil {
		return nil // stays open
	}
	switch {
	case x.change().Class != plan.ClassSet && intent.Direction == Forward:
		return x.findMade(ctx, intent)
	case x.starts():
		return x.findBack(ctx, intent)
	}
	w, err := x.again()
	if err != nil {
		return err
	}
	r, err := x.read(ctx, func(r inventory.Resource) bool { return r.State.Equal(w.Before) || r.State.Equal(w.After) },
		x.lane.opt.Consistency)
	switch failed := fleet.ClassOf(err); {
	case ctx.Err() != nil:
		return nil
	case failed == fleet.ErrExpired:
		return err
	case failed == fleet.ErrGone && intent.Direction == Backward:
		return x.settle(ctx, Settlement{Intent: intent.ID, Phase: ChangeReverted, Wrote: true,
			Reason: "it no longer exists"})
	case failed == fleet.ErrGone:
		return x.settle(ctx, Settlement{Intent: intent.ID, Phase: ChangeConflict, Class: failed,
			Reason: "it no longer exists"})
	case x.later(failed) != nil:
		return x.later(failed) // the intent stays open
	case err != nil && intent.Direction == Backward:
		return x.settle(ctx, Settlement{Intent: intent.ID, Phase: ChangeStuck, Wrote: true, Class: failed,
			Reason: err.Error()})
	case err != nil:
		return x.settle(ctx, Settlement{Intent: intent.ID, Phase: ChangeFailed, Wrote: true, Class: failed,
			Reason: "the effect of the write is not known: " + err.Error()})
	}
	return x.decide(ctx, intent, class, w, r)
}

// decide closes an intent by the state that was read.
func (x *execution) decide(ctx context.Context, intent Intent, class fleet.ErrorClass, w Resolved, r inventory.Resource) error {
	back := intent.Direction == Backward
	switch {
	case back && r.State.Equal(w.Before):
		return x.settle(ctx, Settlement{Intent: intent.ID, Phase: ChangeReverted, Wrote: true,
			Reason: "found put back after an interruption"})
	case back && r.State.Equal(w.After):
		return errors.Join(x.settle(ctx, Settlement{Intent: intent.ID, Phase: ChangeVerified, Wrote: true, Class: class,
			Reason: "the rollback had not taken effect"}), errAgain)
	case back:
		return x.settle(ctx, Settlement{Intent: intent.ID, Phase: ChangeStuck, Wrote: true, Found: r.State,
			Reason: "someone changed it since: " + fleet.DescribeDiff(w.After, r.State)})
	case r.State.Equal(w.After):
		if err := x.settle(ctx, Settlement{Intent: intent.ID, Phase: ChangeApplied, Wrote: true,
			Reason: "found made after an interruption"}); err != nil {
			return err
		}
		return x.verify(ctx)
	case r.State.Equal(w.Before):
		return x.untaken(ctx, intent, class)
	default:
		return x.settle(ctx, Settlement{Intent: intent.ID, Phase: ChangeConflict, Found: r.State,
			Reason: "someone else changed it during the write: " + fleet.DescribeDiff(w.After, r.State)})
	}
}

// untaken closes an intent that had no effect. It is tried again, unless that has happened too often. An attempt that says nothing
// about the change counts for little: however slow a worker is, and however often it is killed, the change is not to blame.
func (x *execution) untaken(ctx context.Context, intent Intent, class fleet.ErrorClass) error {
	tries := x.state.Attempt // no fewer than those that count
	if tries >= x.lane.opt.MaxAttempts {
		var err error
		if tries, err = x.lane.opt.Journal.Tries(ctx, x.task.Rollout, x.change().ID); err != nil {
			return fmt.Errorf("count the attempts of change %s: %w", x.change().ID, err)
		}
		if !putOff(class) {
			tries++ // this one
		}
	}
	if tries < x.lane.opt.MaxAttempts && x.state.Attempt < maxThrottled {
		return errors.Join(x.settle(ctx, Settlement{Intent: intent.ID, Phase: ChangePending, Class: class,
			Reason: "the write had not taken effect"}), errAgain)
	}
	return x.settle(ctx, Settlement{Intent: intent.ID, Phase: ChangeFailed, Class: class,
		Reason: fmt.Sprintf("not taken by AWS in %d attempts", x.state.Attempt)})
}

// findMade settles a create or a start: by its marker, or by sending it again under the same token while the token lives. After that
// it begins anew where nothing can have been overlooked, and is a conflict elsewhere.
func (x *execution) findMade(ctx context.Context, intent Intent) error {
	c, w := x.change(), x.task.Write
	res, err := x.drv.Find(ctx, kind.Write{Place: c.Ref.Place, ID: c.Ref.ID, Verb: c.Action, Before: w.Before, After: w.After,
		Params: w.Params, Token: intent.Token, Marker: intent.Token})
	switch class := fleet.ClassOf(err); {
	case err == nil:
		if err := x.settle(ctx, Settlement{Intent: intent.ID, Phase: ChangeApplied, Wrote: true, Outputs: res.Outputs,
			Reason: "found made after an interruption"}); err != nil {
			return err
		}
		return x.verify(ctx)
	case ctx.Err() != nil:
		return nil
	case class == fleet.ErrExpired:
		return err
	case class == fleet.ErrConflict:
		return x.settle(ctx, Settlement{Intent: intent.ID, Phase: ChangeConflict, Class: class, Reason: err.Error()})
	case x.later(class) != nil:
		return x.later(class) // the intent stays open
	case !errors.Is(err, kind.ErrNotFound):
		return x.settle(ctx, Settlement{Intent: intent.ID, Phase: ChangeFailed, Class: class,
			Reason: "what was made could not be looked for: " + err.Error()})
	}
	r, err := x.look(ctx)
	switch class := fleet.ClassOf(err); {
	case ctx.Err() != nil:
		return nil
	case class == fleet.ErrExpired:
		return err
	case x.later(class) != nil:
		return x.later(class)
	case err != nil:
		return x.settle(ctx, Settlement{Intent: intent.ID, Phase: ChangeFailed, Class: class,
			Reason: err.Error()})
	case x.starts() && r.State.Equal(w.After):
		if err := x.settle(ctx, Settlement{Intent: intent.ID, Phase: ChangeApplied, Wrote: true,
			Reason: "found made after an interruption"}); err != nil {
			return err
		}
		return x.verify(ctx)
	case x.starts() && r.Settling && !r.State.Equal(w.Before):
		return errRunning // how it ends will tell
	case !r.State.Equal(w.Before):
		return x.settle(ctx, Settlement{Intent: intent.ID, Phase: ChangeConflict, Found: r.State,
			Reason: "it changed since the plan: " + fleet.DescribeDiff(w.Before, r.State)})
	}
	switch {
	case x.lane.opt.Clock.Now().Sub(intent.Opened) <= kind.TokenLife:
		return x.resend(ctx, intent)
	case anew(c):
		return x.untaken(ctx, intent, fleet.ErrInterrupted)
	}
	return x.settle(ctx, Settlement{Intent: intent.ID, Phase: ChangeConflict,
		Reason: "nothing was found of it, and its client token is too old to be sent again"})
}

// anew tells whether a change may be made under a new intent of whose old one nothing is found and whose token has expired. What a
// create makes bears its marker for good; a program must bear to be run again, and to watch what is launched does nothing. Of
// other starts that have ended nothing may be left, and to start them twice would disrupt twice.
func anew(c *plan.Change) bool {
	return c.Class == plan.ClassCreate || c.Ref.Kind == plan.KindFollowUp && c.Action != plan.ActionSSM
}

// resend makes a create again under its first token, which AWS takes for the same one however late it comes. A second unknown
// outcome leaves the intent open for the next run.
func (x *execution) resend(ctx context.Context, intent Intent) error {
	res, err := x.call(ctx, intent, false, x.lane.opt.Clock.Now().Add(x.callTime()))
	switch class := fleet.ClassOf(err); {
	case err == nil:
		if err := x.settle(ctx, Settlement{Intent: intent.ID, Phase: ChangeApplied, Wrote: true,
			Outputs: res.Outputs, RequestID: res.RequestID}); err != nil {
			return err
		}
		return x.verify(ctx)
	case ctx.Err() != nil:
		return nil
	case class == fleet.ErrExpired:
		return err
	case class.Unanswered() || errors.Is(err, context.DeadlineExceeded) || putOff(class):
		return errAgain // the intent stays open and the coordinator sends it here once more
	case class == fleet.ErrConflict:
		return x.settle(ctx, Settlement{Intent: intent.ID, Phase: ChangeConflict, Class: class, Reason: err.Error()})
	default:
		return x.settle(ctx, Settlement{Intent: intent.ID, Phase: ChangeFailed, Class: class, Reason: err.Error()})
	}
}
