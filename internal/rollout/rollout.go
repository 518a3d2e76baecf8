// Package rollout holds the state machines of a rollout and of its stacks: which phase follows which event, and nothing
// else. It decides, the engine acts.
//
// Both machines are tables (StackTable, RolloutTable). Observe turns what is known at an instant into one event, Next looks
// up what follows. The package is pure: time, counters and gate readings come in as arguments, so that every state can be
// tested with every event. A machine never skips the table: an event that a phase does not list leaves it as it is.
package rollout

import (
	"time"
)

// StackPhase is where a stack stands.
type StackPhase string

// Stack phases.
const (
	// StackWaiting: nothing was written yet; its wave, a stack before it or a free place is awaited.
	StackWaiting StackPhase = "waiting"
	// StackChecking: its turn has come, nothing was written yet, and its gates are read until they pass.
	StackChecking StackPhase = "checking"
	// StackApplying: the changes of the current step are being written.
	StackApplying StackPhase = "applying"
	// StackBaking: all changes of the current step are verified; gates are watched until the bake is over.
	StackBaking StackPhase = "baking"
	// StackRevertingStep: the current step failed, and what it changed is being put back.
	StackRevertingStep StackPhase = "reverting-step"
	// StackReverting: a person asked for all steps to be put back.
	StackReverting StackPhase = "reverting"
	// StackDone: all steps passed their gates.
	StackDone StackPhase = "done"
	// StackFailed: a step failed and was put back, or could not begin; the steps before it stand.
	StackFailed StackPhase = "failed"
	// StackRolledBack: all that was changed was put back, as a person asked.
	StackRolledBack StackPhase = "rolled-back"
	// StackStuck: something could not be put back, because AWS refused it or someone else had changed it since.
	StackStuck StackPhase = "stuck"
	// StackSkipped: never started, because a stack it comes after did not get done, or its account had failed too often.
	StackSkipped StackPhase = "skipped"
)

// StackPhases lists all phases.
func StackPhases() []StackPhase {
	return []StackPhase{StackWaiting, StackChecking, StackApplying, StackBaking, StackRevertingStep, StackReverting, StackDone, StackFailed,
		StackRolledBack, StackStuck, StackSkipped}
}

// Final tells whether nothing further happens to the stack by itself.
func (p StackPhase) Final() bool {
	switch p {
	case StackDone, StackFailed, StackRolledBack, StackStuck, StackSkipped:
		return true
	}
	return false
}

// Active tells whether the stack may have writes under way.
func (p StackPhase) Active() bool { return !p.Final() && p != StackWaiting }

// StackEvent is what happened to a stack.
type StackEvent string

// Stack events.
const (
	StackNothing      StackEvent = ""
	StackStart        StackEvent = "start"         // its turn has come
	StackPredecessor  StackEvent = "predecessor"   // a stack it comes after did not get done
	StackAccountSpent StackEvent = "account-spent" // its account has used up its budget of failed stacks
	StackHeld         StackEvent = "held"          // the rollout no longer lets stacks start, and nothing was written yet
	StackClear        StackEvent = "clear"         // the gates pass, and writing may begin
	StackNotClear     StackEvent = "not-clear"     // the gates went on failing before anything was written
	StackStepWritten  StackEvent = "step-written"  // all changes of the step are verified, or few enough failed
	StackStepEmpty    StackEvent = "step-empty"    // no change of the step could be made
	StackOverBudget   StackEvent = "over-budget"   // too many changes of the step failed
	StackGateFailed   StackEvent = "gate-failed"   // a gate failed or could not be read
	StackStepPassed   StackEvent = "step-passed"   // the bake is over and gates pass; another step follows
	StackPassed       StackEvent = "passed"        // the bake of the last step is over and gates pass
	StackReverted     StackEvent = "reverted"      // all that was to be put back was
	StackRevertFailed StackEvent = "revert-failed" // something could not be put back
	StackUndo         StackEvent = "undo"          // a person asked for a rollback
)

// StackEvents lists all events.
func StackEvents() []StackEvent {
	return []StackEvent{StackStart, StackPredecessor, StackAccountSpent, StackHeld, StackClear, StackNotClear, StackStepWritten,
		StackStepEmpty, StackOverBudget, StackGateFailed, StackStepPassed, StackPassed, StackReverted, StackRevertFailed, StackUndo}
}

// StackTable is the whole machine: phase × event → phase. What is not listed does not happen.
func StackTable() map[StackPhase]map[StackEvent]StackPhase {
	return map[StackPhase]map[StackEvent]StackPhase{
		StackWaiting: {
			StackStart:        StackChecking,
			StackPredecessor:  StackSkipped,
			StackAccountSpent: StackSkipped,
			StackUndo:         StackSkipped,
		},
		StackChecking: {
			StackHeld:     StackWaiting,
			StackClear:    StackApplying,
			StackNotClear: StackFailed,
			StackUndo:     StackSkipped,
		},
		StackApplying: {
			StackStepWritten: StackBaking,
			StackStepEmpty:   StackFailed,
			StackOverBudget:  StackRevertingStep,
			StackGateFailed:  StackRevertingStep,
			StackUndo:        StackReverting,
		},
		StackBaking: {
			StackGateFailed: StackRevertingStep,
			StackStepPassed: StackApplying,
			StackPassed:     StackDone,
			StackUndo:       StackReverting,
		},
		StackRevertingStep: {
			StackReverted:     StackFailed,
			StackRevertFailed: StackStuck,
			StackUndo:         StackReverting,
		},
		StackReverting: {
			StackReverted:     StackRolledBack,
			StackRevertFailed: StackStuck,
		},
		StackDone:       {StackUndo: StackReverting},
		StackFailed:     {StackUndo: StackReverting},
		StackStuck:      {StackUndo: StackReverting},
		StackRolledBack: {},
		StackSkipped:    {},
	}
}

// stackTable is the machine that Next goes by. Nobody writes to it.
var stackTable = StackTable()

// Stack is the state of one stack.
type Stack struct {
	Phase StackPhase `json:"phase"`
	// Step is the index of the current step.
	Step int `json:"step"`
	// Due is when the bake ends, or until when failing gates may hold the stack back that has not begun; zero in other phases.
	Due time.Time `json:"due,omitzero"`
	// Since is when the current step began to be written: gates look at what happened from then on.
	Since time.Time `json:"since,omitzero"`
	// Reason says why it failed, was skipped or is stuck.
	Reason string `json:"reason,omitempty"`
}

// Counts are the changes of a step, or of a stack, by what became of them.
type Counts struct {
	Pending  int // not begun
	Open     int // intent without outcome
	Written  int // written and verified, or found as wanted
	Conflict int // found different from the plan and left alone
	Failed   int // refused by AWS, or could not be verified
	Skipped  int // a change it needs was not made
	Reverted int // put back
	Stuck    int // could not be put back
	Revert   int // to be put back: written, not yet reverted or stuck
}

// Failures counts what did not get done.
func (c Counts) Failures() int { return c.Conflict + c.Failed + c.Skipped }

// Gate is what the gates of a step say.
type Gate string

// Gate readings.
const (
	GateUnread Gate = ""     // not read at this instant
	GatePass   Gate = "pass" // all passed
	GateFail   Gate = "fail" // one failed, or could not be read
)

// StackFacts is what is known of a stack at an instant.
type StackFacts struct {
	// Open: the stack's wave has begun, and no halt keeps new stacks from starting.
	Open bool
	// Free: a place among the stacks that may run at the same time.
	Free bool
	// Window: the stack's calendar lets changes start at this instant.
	Window bool
	// AccountSpent: its account has used up its budget of failed stacks.
	AccountSpent bool
	// PredecessorsDone and PredecessorsFailed speak of the stacks it comes after.
	PredecessorsDone, PredecessorsFailed bool
	// Undo: a person asked for a rollback of it, and it was not begun yet.
	Undo bool
	// Step counts the changes of the current step, All those of the stack.
	Step, All Counts
	// Steps is the number of steps, Budget the failures that a step tolerates.
	Steps, Budget int
	Gate          Gate
	GateReason    string
}

// Observe names the one event that the facts amount to at the instant now.
func Observe(s Stack, f StackFacts, now time.Time) StackEvent {
	if f.Undo && s.Phase != StackReverting && s.Phase != StackRolledBack && s.Phase != StackSkipped {
		return StackUndo
	}
	switch s.Phase {
	case StackWaiting:
		switch {
		case f.PredecessorsFailed:
			return StackPredecessor
		case f.AccountSpent:
			return StackAccountSpent
		case f.Open && f.Free && f.PredecessorsDone && f.Window:
			return StackStart
		}
	case StackChecking:
		switch {
		case !f.Open:
			return StackHeld
		case f.Gate == GatePass && f.Window:
			return StackClear
		case f.Gate == GateFail && !now.Before(s.Due):
			return StackNotClear
		}
	case StackApplying:
		switch {
		case f.Step.Failures() > f.Budget && f.Step.Written+f.Step.Revert > 0:
			return StackOverBudget
		case f.Gate == GateFail:
			return StackGateFailed
		case f.Step.Pending+f.Step.Open > 0:
			return StackNothing
		case f.Step.Written == 0 && f.Step.Revert > 0: // what was written could not be verified
			return StackOverBudget
		case f.Step.Written == 0:
			return StackStepEmpty
		default:
			return StackStepWritten
		}
	case StackBaking:
		switch {
		case f.Gate == GateFail:
			return StackGateFailed
		case f.Gate != GatePass || now.Before(s.Due):
			return StackNothing
		case s.Step+1 == f.Steps:
			return StackPassed
		case f.Window:
			return StackStepPassed
		}
	case StackRevertingStep:
		return reverted(f.Step)
	case StackReverting:
		return reverted(f.All)
	}
	return StackNothing
}

func reverted(c Counts) StackEvent {
	switch {
	case c.Open > 0 || c.Revert > 0:
		return StackNothing
	case c.Stuck > 0:
		return StackRevertFailed
	default:
		return StackReverted
	}
}

// Wait is how long phases last that end by the clock.
type Wait struct {
	Bake     time.Duration // of the current step
	Patience time.Duration // with gates that fail before anything was written
}

// Next is the state that follows an event, and whether there is one.
func Next(s Stack, e StackEvent, reason string, wait Wait, now time.Time) (Stack, bool) {
	phase, ok := stackTable[s.Phase][e]
	if !ok {
		return s, false
	}
	next := Stack{Phase: phase, Step: s.Step, Since: s.Since, Reason: s.Reason}
	switch e {
	case StackStart:
		next.Due = now.Add(wait.Patience)
	case StackClear:
		next.Since = now
	case StackStepPassed:
		next.Step++
		next.Since = now
	case StackStepWritten:
		next.Due = now.Add(wait.Bake)
	}
	if reason != "" {
		next.Reason = reason
	}
	return next, true
}

// Status is where a whole rollout stands.
type Status string

// Rollout statuses.
const (
	// Planned: recorded, and no write is allowed before an approval of the plan's digest.
	Planned Status = "planned"
	Running Status = "running"
	// Paused: no intent starts until a person resumes.
	Paused Status = "paused"
	// Halting: a stack failed; those that run go to their end, no other starts.
	Halting Status = "halting"
	// Halted: like Halting, when nothing runs any more. A person decides how to go on.
	Halted Status = "halted"
	// RollingBack: a person asked for stacks to be put back, and nothing else goes on meanwhile.
	RollingBack Status = "rolling-back"
	// RollbackPaused: as Paused, on the way back.
	RollbackPaused Status = "rollback-paused"
	// Done: every stack is done.
	Done Status = "done"
	// Incomplete: every stack has come to its end, some of them not done.
	Incomplete Status = "incomplete"
	// RolledBack: everything that had been changed was put back.
	RolledBack Status = "rolled-back"
)

// Statuses lists all statuses.
func Statuses() []Status {
	return []Status{Planned, Running, Paused, Halting, Halted, RollingBack, RollbackPaused, Done, Incomplete, RolledBack}
}

// Final tells whether nothing further happens by itself.
func (s Status) Final() bool {
	switch s {
	case Halted, Done, Incomplete, RolledBack:
		return true
	}
	return false
}

// MayWrite tells whether an intent may start that goes forward.
func (s Status) MayWrite() bool { return s == Running || s == Halting }

// MayRevert tells whether an intent may start that puts something back.
func (s Status) MayRevert() bool { return s == Running || s == Halting || s == RollingBack }

// Event is what happened to a rollout.
type Event string

// Rollout events.
const (
	Nothing        Event = ""
	Approve        Event = "approve"
	Pause          Event = "pause"
	Resume         Event = "resume"
	StackFailure   Event = "stack-failure"
	Quiet          Event = "quiet"           // no stack is active any more, and some have not started
	AllDone        Event = "all-done"        // every stack is done
	AllEnded       Event = "all-ended"       // every stack has ended, not all are done
	RollbackAsked  Event = "rollback"        // a person asked for a rollback, of everything or of some stacks
	RollbackEnded  Event = "rollback-ended"  // all stacks are rolled back or skipped
	RollbackPartly Event = "rollback-partly" // what was asked for has ended; other stacks stand, or some are stuck
)

// Events lists all events.
func Events() []Event {
	return []Event{Approve, Pause, Resume, StackFailure, Quiet, AllDone, AllEnded, RollbackAsked, RollbackEnded, RollbackPartly}
}

// RolloutTable is the machine of the whole rollout: status × event → status.
func RolloutTable() map[Status]map[Event]Status {
	return map[Status]map[Event]Status{
		Planned:        {Approve: Running},
		Running:        {Pause: Paused, StackFailure: Halting, AllDone: Done, AllEnded: Incomplete, RollbackAsked: RollingBack},
		Paused:         {Resume: Running, RollbackAsked: RollingBack},
		Halting:        {Pause: Paused, Quiet: Halted, AllDone: Done, AllEnded: Incomplete, RollbackAsked: RollingBack},
		Halted:         {Resume: Running, RollbackAsked: RollingBack},
		RollingBack:    {Pause: RollbackPaused, RollbackEnded: RolledBack, RollbackPartly: Incomplete, Quiet: Halted},
		RollbackPaused: {Resume: RollingBack},
		Done:           {RollbackAsked: RollingBack},
		Incomplete:     {RollbackAsked: RollingBack},
		RolledBack:     {},
	}
}

// NextStatus is the status that follows an event, and whether there is one.
func NextStatus(s Status, e Event) (Status, bool) {
	next, ok := RolloutTable()[s][e]
	return next, ok
}

// Facts is what is known of the whole rollout at an instant.
type Facts struct {
	Stacks map[StackPhase]int
	// Failed is the number of stacks that failed since a person last resumed; Budget how many of them are tolerated.
	Failed, Budget int
	// Spent: more stacks have failed since then than the whole rollout tolerates.
	Spent bool
	// Undo is the number of stacks whose rollback was asked for and has not begun.
	Undo int
}

// ObserveAll names the one event that the facts amount to.
func ObserveAll(s Status, f Facts) Event {
	total, ended, active := 0, 0, 0
	for phase, n := range f.Stacks {
		total += n
		if phase.Final() {
			ended += n
		}
		if phase.Active() {
			active += n
		}
	}
	switch s {
	case Running, Halting:
		switch {
		case ended == total && f.Stacks[StackDone] == total:
			return AllDone
		case ended == total:
			return AllEnded
		case s == Running && (f.Spent || f.Failed > f.Budget):
			return StackFailure
		case s == Halting && active == 0:
			return Quiet
		}
	case RollingBack:
		switch {
		case f.Undo > 0 || active > 0:
		case f.Stacks[StackRolledBack]+f.Stacks[StackSkipped] == total:
			return RollbackEnded
		case ended < total:
			return Quiet
		default:
			return RollbackPartly
		}
	}
	return Nothing
}
