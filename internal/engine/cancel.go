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

// How often it is asked whether something has ended: what was started, a first launch, and the replacement of all instances,
// which may take weeks.
const (
	startedInterval  = 5 * time.Second
	launchedInterval = 30 * time.Second
	replacedInterval = 5 * time.Minute
)

// interval is how long to wait before the change is looked at again.
func interval(c *plan.Change) time.Duration {
	switch {
	case c == nil || !proves(c):
		return startedInterval
	case c.Action == plan.ActionReplaced:
		return replacedInterval
	default:
		return launchedInterval
	}
}
