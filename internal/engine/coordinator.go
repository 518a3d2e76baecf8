package engine

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/imdsctl/imdsctl/internal/rollout"
)

// loop is the coordinator: it steps the machines, hands work to lanes and waits for whichever comes first of a result, a due
// time or a look at the control record. There is one for a rollout.
func (r *run) loop(ctx context.Context) error {
	work, stop := context.WithCancel(ctx)
	defer stop()
	defer r.closeLanes(context.WithoutCancel(ctx))
	for {
		if err := r.control(ctx); err != nil {
			return r.drain(stop, err)
		}
		if err := r.step(ctx); err != nil {
			return r.drain(stop, err)
		}
		if r.fatal != nil {
			return r.drain(stop, r.fatal)
		}
		if r.status.Final() && r.underway == 0 {
			return nil
		}
		r.dispatch(work)
		if err := r.wait(ctx); err != nil {
			return r.drain(stop, err)
		}
	}
}

// drain ends the lanes' work and takes in what they still settled, so that the journal and the outcome agree.
func (r *run) drain(stop context.CancelFunc, err error) error {
	stop()
	for r.underway > 0 {
		select {
		case res := <-r.results:
			r.take(res)
		case g := <-r.gates:
			r.takeGate(g)
		}
	}
	return err
}

// control takes in what other terminals asked for.
func (r *run) control(ctx context.Context) error {
	c, err := r.opt.Journal.Control(ctx, r.id)
	if err != nil {
		return fmt.Errorf("read the control record of rollout %s: %w", r.id, err)
	}
	if c.Status != r.status {
		r.status, r.reason = c.Status, c.Reason
		r.tell(Progress{Event: "control", Reason: c.Reason})
	}
	r.undo, r.forgiven = c.Undo, c.FailuresForgiven
	return nil
}

// step lets the machines take every step that the facts allow, and records each round before the next one builds on it.
func (r *run) step(ctx context.Context) error {
	for {
		now := r.opt.Clock.Now()
		// The rollout steps first: a halt must hold before another stack starts.
		var moves []Move
		if move, ok := r.rolloutMove(); ok {
			moves = append(moves, move)
		} else if moves = r.stackMoves(now); len(moves) == 0 {
			return nil
		}
		err := r.opt.Journal.Move(ctx, r.id, moves, now)
		if errors.Is(err, ErrMoved) {
			return r.control(ctx) // another terminal was faster; look again on the next round
		}
		if err != nil {
			return fmt.Errorf("record the course of rollout %s: %w", r.id, err)
		}
		for _, m := range moves {
			r.moved(m)
		}
	}
}

func (r *run) moved(m Move) {
	if m.Stack == "" {
		r.status, r.reason = m.Status[1], m.Reason
		r.tell(Progress{Event: m.Event, Reason: m.Reason})
		return
	}
	s := r.byID[m.Stack]
	r.counts[s.state.Phase]--
	s.state = m.To
	r.counts[s.state.Phase]++
	s.gate = gateState{}
	if m.Event == string(rollout.StackUndo) {
		delete(r.undo, s.ID)
		for _, c := range s.changes {
			if c.state.Phase == ChangeStuck {
				state := c.state
				state.Phase = ChangeVerified
				c.set(state, c.busy)
			}
		}
	}
	r.tell(Progress{Stack: s.ID, State: s.state, Event: m.Event, Reason: m.Reason})
}

// stackMoves collects the next step of every stack.
func (r *run) stackMoves(now time.Time) []Move {
	if !r.status.MayWrite() && !r.status.MayRevert() {
		return nil
	}
	wave, open := r.wave()
	active := 0
	for phase, n := range r.counts {
		if phase.Active() {
			active += n
		}
	}
	var moves []Move
	for _, s := range r.stacks {
		if s.state.Phase.Final() && r.undo[s.ID] == "" {
			continue
		}
		f := r.facts(s, wave, open)
		f.Free = active < max(1, r.plan.Header.Rules.MaxStacks)
		event := rollout.Observe(s.state, f, now)
		reason := f.GateReason
		switch event {
		case rollout.StackNothing:
			continue
		case rollout.StackOverBudget, rollout.StackStepEmpty:
			reason = r.whyFailed(s)
		case rollout.StackPredecessor:
			reason = "a stack it comes after did not get done"
		case rollout.StackUndo:
			reason = r.undo[s.ID]
		case rollout.StackRevertFailed:
			reason = r.whyStuck(s)
		case rollout.StackReverted, rollout.StackStepPassed, rollout.StackPassed, rollout.StackStart, rollout.StackStepWritten:
			reason = ""
		}
		next, ok := rollout.Next(s.state, event, reason, s.Steps[s.state.Step].Bake, now)
		if !ok {
			continue
		}
		if !s.state.Phase.Active() && next.Phase.Active() {
			active++
		}
		moves = append(moves, Move{Stack: s.ID, From: s.state, To: next, Event: string(event), Reason: reason})
	}
	return moves
}

// facts states what is known of a stack.
func (r *run) facts(s *stackRun, wave int, open bool) rollout.StackFacts {
	f := rollout.StackFacts{
		Open:  open && r.status == rollout.Running && s.Wave == wave && (!s.Last || r.onlyLastLeft()),
		Undo:  r.undo[s.ID] != "",
		Step:  s.steps[s.state.Step],
		All:   s.all(),
		Steps: len(s.Steps), Budget: r.plan.Header.Rules.MaxFailures,
		Gate: s.gate.result, GateReason: s.gate.reason,
		PredecessorsDone: true,
	}
	if f.Gate == rollout.GatePass && s.gate.read.Before(s.state.Due) {
		f.Gate = rollout.GateUnread // a reading taken during the bake does not speak for its end
	}
	for _, id := range s.After {
		switch phase := r.byID[id].state.Phase; {
		case phase == rollout.StackDone:
		case phase.Final():
			f.PredecessorsFailed, f.PredecessorsDone = true, false
		default:
			f.PredecessorsDone = false
		}
	}
	return f
}

// wave is the first wave with a stack that has not ended; open is false while its approval is awaited.
func (r *run) wave() (wave int, open bool) {
	wave = -1
	for _, s := range r.stacks {
		if !s.state.Phase.Final() && (wave < 0 || s.Wave < wave) {
			wave = s.Wave
		}
	}
	if wave < 0 {
		return wave, false
	}
	begun := false
	for _, s := range r.stacks {
		begun = begun || s.Wave == wave && s.state.Phase != rollout.StackWaiting
	}
	return wave, begun || !r.plan.Header.Waves[wave].Approval || r.asked[wave]
}

func (r *run) onlyLastLeft() bool {
	for _, s := range r.stacks {
		if !s.Last && !s.state.Phase.Final() {
			return false
		}
	}
	return true
}

// rolloutMove is the next step of the rollout as a whole.
func (r *run) rolloutMove() (Move, bool) {
	wave, open := r.wave()
	if r.status == rollout.Running && wave >= 0 && !open {
		r.asked[wave] = true
		return Move{Status: [2]rollout.Status{r.status, rollout.Paused}, Event: string(rollout.Pause),
			Reason: fmt.Sprintf("wave %q waits for a person: resume the rollout to let it start", r.plan.Header.Waves[wave].Name)}, true
	}
	f := rollout.Facts{Stacks: r.counts, Budget: r.plan.Header.Rules.MaxFailedStacks, Undo: len(r.undo)}
	failed, inWave := 0, false
	last := ""
	for _, s := range r.stacks {
		switch s.state.Phase {
		case rollout.StackFailed, rollout.StackStuck, rollout.StackRevertingStep:
			failed++
			last = s.Name + ": " + s.state.Reason
		}
		inWave = inWave || s.Wave == wave && s.state.Phase != rollout.StackWaiting && wave >= 0
	}
	if r.plan.Header.Rules.HaltOnFailure || !inWave {
		f.Failed = failed - r.forgiven
	}
	event := rollout.ObserveAll(r.status, f)
	next, ok := rollout.NextStatus(r.status, event)
	if event == rollout.Nothing || !ok {
		return Move{}, false
	}
	reason := r.reason
	if event == rollout.StackFailure {
		reason = last
	}
	return Move{Status: [2]rollout.Status{r.status, next}, Event: string(event), Reason: reason}, true
}

func (r *run) whyFailed(s *stackRun) string {
	for _, c := range s.changes {
		if c.Step == s.state.Step && (c.state.Phase == ChangeFailed || c.state.Phase == ChangeConflict || c.state.Phase == ChangeSkipped) {
			return fmt.Sprintf("%s %s: %s", c.Ref.ID, c.state.Phase, c.state.Reason)
		}
	}
	return "no change of the step could be made"
}

func (r *run) whyStuck(s *stackRun) string {
	for _, c := range s.changes {
		if c.state.Phase == ChangeStuck {
			return fmt.Sprintf("%s could not be put back: %s", c.Ref.ID, c.state.Reason)
		}
	}
	return "a change could not be put back"
}

// set moves a change to a new state, in a lane's hands or not, and keeps the counters true.
func (c *changeRun) set(s ChangeState, busy bool) {
	c.tally(-1)
	c.state, c.busy = s, busy
	c.tally(1)
}

// result is what a lane says when a task is over.
type result struct {
	change *changeRun
	state  ChangeState
	// notBefore holds the change back: it was not admitted, or AWS throttled it.
	notBefore time.Time
	// unread: its resource could not be read.
	unread bool
	// fatal ends the whole run: the journal cannot be written, the lane is lost, the credentials ran out.
	fatal error
}

func (r *run) take(res result) {
	r.underway--
	c := res.change
	c.notBefore = res.notBefore
	if res.unread {
		c.unread++
	} else {
		c.unread = 0
	}
	if res.fatal != nil && r.fatal == nil && !errors.Is(res.fatal, context.Canceled) {
		r.fatal = res.fatal
	}
	if res.state.Outputs != nil {
		r.outputs[c.ID] = res.state.Outputs
	}
	before := c.state.Phase
	c.set(res.state, false)
	if c.state.Phase == before {
		return
	}
	r.tell(Progress{Stack: c.Stack, State: c.origin.state, Change: c.ID,
		Phase: c.state.Phase, Event: string(c.state.Phase), Reason: c.state.Reason})
}

// wait sleeps until something comes back, a bake is due, or it is time to look at the control record.
func (r *run) wait(ctx context.Context) error {
	now := r.opt.Clock.Now()
	d := r.opt.PollInterval
	for _, s := range r.stacks {
		if s.state.Phase == rollout.StackBaking && !s.gate.reading {
			d = min(d, max(time.Millisecond, r.nextReading(s).Sub(now)))
		}
	}
	sleep, cancel := context.WithCancel(ctx)
	defer cancel()
	woken := make(chan error, 1)
	go func() { woken <- r.opt.Clock.Sleep(sleep, d) }()
	select {
	case res := <-r.results:
		r.take(res)
	case g := <-r.gates:
		r.takeGate(g)
	case err := <-woken:
		return err
	}
	for { // take whatever else is there, so that one round serves many results
		select {
		case res := <-r.results:
			r.take(res)
		case g := <-r.gates:
			r.takeGate(g)
		default:
			return ctx.Err()
		}
	}
}
