package engine

import (
	"time"

	"github.com/imdsctl/imdsctl/internal/kind"
	"github.com/imdsctl/imdsctl/internal/plan"
)

// cancels tells whether the revert of the change stops it while it still runs.
func (x *execution) cancels() bool {
	c, ok := x.drv.(kind.Canceller)
	return ok && x.starts() && c.Cancels(x.change().Action)
}

// undoable tells whether the driver may be asked to put the change back: by its verb, or because it still runs and is stopped.
func undoable(c *plan.Change, s ChangeState) bool {
	return c.Undo != plan.UndoNone || c.Class == plan.ClassStart && s.Phase == ChangeApplied
}

// proves tells a follow-up that only watches what is launched: nothing of it needs an end.
func proves(c *plan.Change) bool {
	return c.Ref.Kind == plan.KindFollowUp && (c.Action == plan.ActionLaunched || c.Action == plan.ActionReplaced)
}

// abandoned is why a follow-up that only watches ends before it has seen anything.
const abandoned = "not awaited any longer: its stack is put back"

// How often it is asked whether something has ended: what was started, at first and at most; a first launch at first; and the
// replacement of all instances, which may take weeks.
const (
	startedInterval  = 5 * time.Second
	longestInterval  = time.Minute
	launchedInterval = 30 * time.Second
	replacedInterval = 5 * time.Minute
)

// interval is how long to wait before the change is looked at again, that has been under way for so long: what has taken long
// will not be over in a moment, and each look is a call out of the limits that everything shares.
func interval(c *plan.Change, underway time.Duration) time.Duration {
	grown := min(underway/12, longestInterval)
	switch {
	case c == nil || !proves(c):
		return max(startedInterval, grown)
	case c.Action == plan.ActionReplaced:
		return replacedInterval
	default:
		return max(launchedInterval, grown)
	}
}
