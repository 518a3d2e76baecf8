package engine

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/imdsctl/imdsctl/internal/plan"
	"github.com/imdsctl/imdsctl/internal/rollout"
)

// loop is the coordinator: it steps the machines, hands work to lanes and waits for whichever comes first of a report, a due
// time or a look at the control record. There is one for a rollout.
func (r *run) loop(ctx context.Context) error {
	for {
		err := r.round(ctx)
		if err == nil {
			err = r.fatal
		}
		if err == nil && r.status.Final() && r.load.total == 0 && !r.reading() {
			return nil
		}
		if err == nil {
			err = r.wait(ctx)
		}
		if err != nil {
			for reports, more := r.crew.drain(); more; reports, more = r.crew.drain() {
				r.takeAll(reports)
			}
			return err
		}
	}
}

// round looks at what others asked for, lets the machines step, and hands out what can be done.
func (r *run) round(ctx context.Context) error {
	if err := r.keepSeat(ctx); err != nil {
		return err
	}
	if now := r.opt.Clock.Now(); r.looked.IsZero() || now.Sub(r.looked) >= r.opt.PollInterval/2 {
		if err := r.control(ctx); err != nil {
			return err
		}
	}
	if err := r.step(ctx); err != nil {
		return err
	}
	if r.fatal != nil || r.stop != "" {
		return nil
	}
	return r.dispatch(ctx)
}

// keepSeat renews the right to coordinate in good time.
func (r *run) keepSeat(ctx context.Context) error {
	now := r.opt.Clock.Now()
	if now.Before(r.kept.Add(r.opt.LeaseTTL / 3)) {
		return nil
	}
	if err := r.opt.Journal.Renew(ctx, r.seat, now, r.opt.LeaseTTL); err != nil {
		return fmt.Errorf("go on coordinating rollout %s: %w", r.id, err)
	}
	r.kept = now
	return nil
}

// control takes in what other terminals asked for. That nothing starts after a pause does not depend on it: the journal admits
// nothing then.
func (r *run) control(ctx context.Context) error {
	r.looked = r.opt.Clock.Now()
	c, err := r.opt.Journal.Control(ctx, r.id)
	if err != nil {
		return fmt.Errorf("read the control record of rollout %s: %w", r.id, err)
	}
	if c.Status != r.status || c.Stop != r.stop {
		r.status, r.reason, r.stop = c.Status, c.Reason, c.Stop
		reason := c.Reason
		if c.Stop != "" {
			reason = "everything is stopped: " + c.Stop
		}
		r.tell(Progress{Event: "control", Reason: reason})
	}
	r.undo, r.forgiven, r.approved = c.Undo, c.FailuresForgiven, c.Waves
	for id := range r.undo {
		if s := r.byID[id]; s != nil && !s.state.Phase.Active() {
			r.poke(s)
		}
	}
	for id, state := range c.Manual {
		if c := r.changes[id]; c != nil && !c.busy && c.state.Phase == ChangePending {
			c.set(state, false)
			r.tell(Progress{Stack: c.Stack, State: c.origin.state, Change: c.ID, Phase: state.Phase, Event: string(state.Phase), Reason: state.Reason})
		}
	}
	return nil
}

// step lets the machines take every step that the facts allow, and records each round before the next one builds on it.
func (r *run) step(ctx context.Context) error {
	for r.stop == "" {
		now := r.opt.Clock.Now()
		// The rollout steps first: a halt must hold before another stack starts.
		var moves []Move
		if move, ok := r.rolloutMove(); ok {
			moves = append(moves, move)
		} else if moves = r.stackMoves(now); len(moves) == 0 {
			return r.hold(ctx, now)
		}
		err := r.opt.Journal.Move(ctx, r.id, r.seat, moves, now)
		if errors.Is(err, ErrMoved) {
			return r.resync(ctx) // another terminal was faster; look again on the next round
		}
		if err != nil {
			return fmt.Errorf("record the course of rollout %s: %w", r.id, err)
		}
		for _, m := range moves {
			r.moved(m)
		}
	}
	return nil
}

// resync takes over what the journal has of machines, where it differs from what is remembered.
func (r *run) resync(ctx context.Context) error {
	record, err := r.opt.Journal.Load(ctx, r.id)
	if err != nil {
		return fmt.Errorf("read rollout %s: %w", r.id, err)
	}
	for id, state := range record.Stacks {
		if s := r.byID[id]; s != nil && s.state != state {
			r.moved(Move{Stack: id, To: state, Event: "resync", Reason: state.Reason})
		}
	}
	return r.control(ctx)
}

// moved takes over a step that the journal has.
func (r *run) moved(m Move) {
	r.idle = 0
	if m.Stack == "" {
		r.status, r.reason = m.Status[1], m.Reason
		r.tell(Progress{Event: m.Event, Reason: m.Reason})
		return
	}
	s := r.byID[m.Stack]
	from := s.state.Phase
	s.state = m.To
	r.turns.moved(s, from, m.To.Phase)
	s.gate = gateState{query: s.gate.query}
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
	s.refill()
	switch {
	case m.To.Phase.Active() && !from.Active():
		r.active = append(r.active, s)
	case from.Active() && !m.To.Phase.Active():
		r.active = slices.DeleteFunc(r.active, func(a *stackRun) bool { return a == s })
	}
	if m.To.Phase.Final() != from.Final() {
		r.ended(s, m.To.Phase)
	}
	r.tell(Progress{Stack: s.ID, State: s.state, Event: m.Event, Reason: m.Reason})
}

// ended tells those that come after a stack that it has ended, or that it goes on after all.
func (r *run) ended(s *stackRun, phase rollout.StackPhase) {
	by := -1
	if !phase.Final() {
		by = 1
	}
	for _, f := range s.followers {
		f.before += by
		if phase.Final() && phase != rollout.StackDone {
			f.lost = true
			r.poke(f)
		}
	}
	if phase == rollout.StackFailed || phase == rollout.StackStuck {
		r.lastFailure = s.Name + ": " + s.state.Reason
		if r.spent(s) {
			for _, waiting := range r.turns.waves[s.Wave].queues[s.Place.Account] {
				r.poke(waiting)
			}
		}
	}
}

// stackMoves collects the next step of every stack whose machine may have one.
func (r *run) stackMoves(now time.Time) []Move {
	if !r.status.MayWrite() && !r.status.MayRevert() {
		return nil
	}
	var moves []Move
	for _, s := range r.active {
		if move, ok := r.stackMove(s, now, false); ok {
			moves = append(moves, move)
		}
	}
	chosen := map[*stackRun]bool{}
	poked := r.poked
	r.poked = nil
	for _, s := range poked {
		s.poked = false
		if s.state.Phase.Active() {
			continue
		}
		if move, ok := r.stackMove(s, now, false); ok {
			moves, chosen[s] = append(moves, move), true
		}
	}
	wave := r.turns.wave()
	if r.status != rollout.Running || wave < 0 || !r.open(wave) {
		return moves
	}
	free := max(1, r.plan.Header.Rules.MaxStacks) - r.turns.running
	r.turns.candidates(wave, r.plan.Header.Rules, func(s *stackRun) (taken, stop bool) {
		if free <= 0 {
			return false, true
		}
		if chosen[s] {
			return false, false
		}
		move, ok := r.stackMove(s, now, true)
		if ok {
			moves = append(moves, move)
			free--
		}
		return ok, free <= 0
	})
	return moves
}

// stackMove is the next step of a stack, if it has one. free: it may be started.
func (r *run) stackMove(s *stackRun, now time.Time, free bool) (Move, bool) {
	f := r.facts(s, now)
	f.Free = free
	event := rollout.Observe(s.state, f, now)
	reason := f.GateReason
	switch event {
	case rollout.StackNothing:
		return Move{}, false
	case rollout.StackOverBudget, rollout.StackStepEmpty:
		reason = r.whyFailed(s)
	case rollout.StackPredecessor:
		reason = "a stack it comes after did not get done"
	case rollout.StackAccountSpent:
		reason = fmt.Sprintf("%d stacks of its account failed, and the plan allows no more", r.turns.failed[s.Place.Account])
	case rollout.StackUndo:
		reason = r.undo[s.ID]
	case rollout.StackRevertFailed:
		reason = r.whyStuck(s)
	case rollout.StackNotClear:
		reason = "nothing was written, because a gate failed beforehand: " + f.GateReason
	case rollout.StackReverted, rollout.StackStepPassed, rollout.StackPassed, rollout.StackStart, rollout.StackStepWritten,
		rollout.StackClear, rollout.StackHeld:
		reason = ""
	}
	wait := rollout.Wait{Bake: s.Steps[s.state.Step].Bake, Patience: r.plan.Header.Rules.GatePatience}
	next, ok := rollout.Next(s.state, event, reason, wait, now)
	return Move{Stack: s.ID, From: s.state, To: next, Event: string(event), Reason: reason}, ok
}

// facts states what is known of a stack.
func (r *run) facts(s *stackRun, now time.Time) rollout.StackFacts {
	f := rollout.StackFacts{
		Open:               r.status == rollout.Running,
		Window:             r.opening(s, now).Open,
		AccountSpent:       r.spent(s),
		Undo:               r.undo[s.ID] != "",
		Step:               s.steps[s.state.Step],
		All:                s.all,
		Steps:              len(s.Steps),
		Budget:             r.plan.Header.Rules.MaxFailures,
		Gate:               s.gate.result,
		GateReason:         s.gate.reason,
		PredecessorsDone:   s.before == 0 && !s.lost,
		PredecessorsFailed: s.lost,
	}
	if f.Gate == rollout.GatePass && s.state.Phase == rollout.StackBaking && s.gate.read.Before(s.state.Due) {
		f.Gate = rollout.GateUnread // a reading taken during the bake does not speak for its end
	}
	return f
}

// open tells whether stacks of the wave may start: it needs no approval, has one, or has begun.
func (r *run) open(wave int) bool {
	w := r.plan.Header.Waves[wave]
	return !w.Approval || r.approved[w.Name] != "" || r.turns.begun(wave)
}

// hold says what keeps a rollout from going on that is not paused and has nothing to do.
func (r *run) hold(ctx context.Context, now time.Time) error {
	why := r.holding(now)
	if why == r.held {
		return nil
	}
	r.held = why
	if why == "" {
		return nil
	}
	r.tell(Progress{Event: "hold", Reason: why})
	if err := r.opt.Journal.Note(ctx, r.id, "", "hold", map[string]string{"reason": why}, now); err != nil {
		return fmt.Errorf("record the course of rollout %s: %w", r.id, err)
	}
	return nil
}

func (r *run) holding(now time.Time) string {
	wave := r.turns.wave()
	if r.status != rollout.Running || wave < 0 || len(r.active) > 0 || r.turns.waves[wave].waiting == 0 {
		return ""
	}
	if !r.open(wave) {
		name := r.plan.Header.Waves[wave].Name
		argument := name
		if strings.ContainsAny(name, " \t'\"\\$&;|<>*?()") {
			argument = strconv.Quote(name)
		}
		return fmt.Sprintf("wave %q waits for a person: imdsctl rollout approve %s --wave %s", name, r.id, argument)
	}
	why := ""
	var opens time.Time
	r.turns.candidates(wave, plan.Rules{MaxStacks: len(r.stacks)}, func(s *stackRun) (taken, stop bool) {
		o := r.opening(s, now)
		if !o.Open && (why == "" || !o.Until.IsZero() && o.Until.Before(opens)) {
			why, opens = o.Why, o.Until
		}
		return false, o.Open
	})
	if why == "" || opens.IsZero() {
		return why
	}
	return fmt.Sprintf("%s; opens %s", why, opens.UTC().Format("2006-01-02 15:04 MST"))
}

// rolloutMove is the next step of the rollout as a whole.
func (r *run) rolloutMove() (Move, bool) {
	rules := r.plan.Header.Rules
	f := rollout.Facts{Stacks: r.turns.counts, Budget: rules.MaxFailedStacks, Undo: len(r.undo)}
	failed := r.turns.failures - r.forgiven
	f.Spent = rules.TotalFailures > 0 && failed >= rules.TotalFailures
	if wave := r.turns.wave(); rules.HaltOnFailure || wave < 0 || !r.turns.begun(wave) {
		f.Failed = failed
	}
	event := rollout.ObserveAll(r.status, f)
	next, ok := rollout.NextStatus(r.status, event)
	if event == rollout.Nothing || !ok {
		return Move{}, false
	}
	reason := r.reason
	if event == rollout.StackFailure {
		reason = r.lastFailure
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

// wait sleeps until something comes back, a bake is due, or it is time to look at the control record.
func (r *run) wait(ctx context.Context) error {
	now := r.opt.Clock.Now()
	d := max(r.opt.PollInterval, min(r.opt.PollRest, r.opt.PollInterval<<min(r.idle, 20)))
	for _, s := range r.active {
		if s.gate.query != nil || r.stop != "" {
			continue
		}
		if at, ok := r.nextReading(s); ok {
			d = min(d, max(time.Millisecond, at.Sub(now)))
		}
	}
	reports, err := r.crew.wait(ctx, d)
	if r.idle++; len(reports) > 0 {
		r.idle = 0
	}
	r.takeAll(reports)
	return err
}

func (r *run) takeAll(reports []result) {
	for _, res := range reports {
		if res.fatal != nil && r.fatal == nil && !errors.Is(res.fatal, context.Canceled) {
			r.fatal = res.fatal
		}
		if stack, ok := gateStack(res.Subject); ok {
			r.takeGate(r.byID[stack], res)
		} else if c := r.changes[res.Subject]; c != nil && c.busy {
			r.take(c, res)
		}
	}
}

// take takes in what became of a change in a lane's hands.
func (r *run) take(c *changeRun, res result) {
	r.load.add(c.Ref.Place, -1)
	c.notBefore = res.NotBefore
	c.unread, c.throttled = again(c.unread, res.Unread), again(c.throttled, res.Throttled)
	if res.Throttled {
		c.notBefore = r.opt.Clock.Now().Add(backoff(r.opt.PollInterval, c.throttled))
	}
	if res.State.Outputs != nil {
		r.outputs[c.ID] = res.State.Outputs
	}
	before := c.state.Phase
	c.set(res.State, false)
	if c.state.Phase == before {
		r.looked = time.Time{} // it was not admitted, perhaps because of what somebody asked for
		return
	}
	r.tell(Progress{Stack: c.Stack, State: c.origin.state, Change: c.ID, Phase: c.state.Phase, Event: string(c.state.Phase),
		Reason: c.state.Reason})
}

func again(n int, once bool) int {
	if once {
		return n + 1
	}
	return 0
}

// longestBackoff bounds how long a throttled change waits for another try.
const longestBackoff = 2 * time.Minute

// backoff is how long a change is left alone that AWS has throttled n times in a row.
func backoff(first time.Duration, n int) time.Duration {
	return min(longestBackoff, first<<min(n, 10))
}
