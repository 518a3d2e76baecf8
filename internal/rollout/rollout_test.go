package rollout

import (
	"testing"
	"time"

	"pgregory.net/rapid"
)

var start = time.Date(2026, 3, 1, 9, 0, 0, 0, time.UTC)

// Every phase is tried with every event: what the table lists happens, what it does not list changes nothing.
func TestEveryPhaseWithEveryEvent(t *testing.T) {
	table := StackTable()
	for _, phase := range StackPhases() {
		if table[phase] == nil {
			t.Errorf("phase %s has no row", phase)
		}
		for _, event := range StackEvents() {
			before := Stack{Phase: phase, Step: 1, Reason: "earlier"}
			after, ok := Next(before, event, "", Wait{Bake: time.Hour}, start)
			want, listed := table[phase][event]
			switch {
			case ok != listed:
				t.Errorf("%s × %s: moved = %v, listed = %v", phase, event, ok, listed)
			case !listed && after != before:
				t.Errorf("%s × %s: changed to %+v though it is not listed", phase, event, after)
			case listed && after.Phase != want:
				t.Errorf("%s × %s: %s, want %s", phase, event, after.Phase, want)
			}
		}
	}
}

func TestEveryStatusWithEveryEvent(t *testing.T) {
	table := RolloutTable()
	for _, status := range Statuses() {
		if table[status] == nil {
			t.Errorf("status %s has no row", status)
		}
		for _, event := range Events() {
			after, ok := NextStatus(status, event)
			want, listed := table[status][event]
			if ok != listed || after != want {
				t.Errorf("%s × %s: %s, %v; the table says %s, %v", status, event, after, ok, want, listed)
			}
		}
	}
}

// The tables hold no phase that cannot be reached, and no event that nothing listens to.
func TestTablesAreConnected(t *testing.T) {
	seen, heard := map[StackPhase]bool{StackWaiting: true}, map[StackEvent]bool{}
	for range StackPhases() {
		for from, row := range StackTable() {
			for event, to := range row {
				heard[event] = true
				if seen[from] {
					seen[to] = true
				}
			}
		}
	}
	for _, p := range StackPhases() {
		if !seen[p] {
			t.Errorf("phase %s cannot be reached", p)
		}
	}
	for _, e := range StackEvents() {
		if !heard[e] {
			t.Errorf("event %s changes nothing anywhere", e)
		}
	}
	statuses := map[Status]bool{Planned: true}
	for range Statuses() {
		for from, row := range RolloutTable() {
			for _, to := range row {
				if statuses[from] {
					statuses[to] = true
				}
			}
		}
	}
	for _, s := range Statuses() {
		if !statuses[s] {
			t.Errorf("status %s cannot be reached", s)
		}
	}
}

func TestNothingGoesForwardUnlessRunning(t *testing.T) {
	for _, s := range Statuses() {
		if want := s == Running || s == Halting; s.MayWrite() != want {
			t.Errorf("%s.MayWrite() = %v", s, !want)
		}
		if s == Paused || s == RollbackPaused || s == Planned {
			if s.MayRevert() {
				t.Errorf("%s lets something be put back", s)
			}
		}
	}
}

// model is one stack with made-up changes, stepped the way the engine steps it.
type model struct {
	s     Stack
	steps []Counts
	now   time.Time
	start bool // it was allowed to start
	open  bool // its calendar lets writes start
	undo  bool
	wrote []bool // by step: something was ever written
}

func (m *model) facts(gate Gate, budget int) StackFacts {
	var all Counts
	for _, c := range m.steps {
		all.Open += c.Open
		all.Revert += c.Revert
		all.Stuck += c.Stuck
	}
	return StackFacts{Open: m.start, Window: m.open, Free: true, PredecessorsDone: true, Undo: m.undo, Step: m.steps[m.s.Step], All: all,
		Steps: len(m.steps), Budget: budget, Gate: gate, GateReason: "refused v1 calls"}
}

// Whatever happens to the changes and the gates of a stack, it never opens a step before the one before has passed, never
// calls itself failed or rolled back while something of it stands, and comes to an end.
func TestStacksKeepTheirPromises(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		m := &model{s: Stack{Phase: StackWaiting}, now: start}
		for range rapid.IntRange(1, 4).Draw(t, "steps") {
			n := rapid.IntRange(1, 5).Draw(t, "changes")
			m.steps = append(m.steps, Counts{Pending: n})
			m.wrote = append(m.wrote, false)
		}
		budget := rapid.IntRange(0, 2).Draw(t, "budget")
		bake := time.Duration(rapid.IntRange(0, 600).Draw(t, "bake")) * time.Minute
		patience := time.Duration(rapid.IntRange(0, 90).Draw(t, "patience")) * time.Minute
		for round := 0; ; round++ {
			if round > 2000 {
				t.Fatalf("no end in sight: %+v %+v", m.s, m.steps)
			}
			m.start = round > 500 || rapid.Bool().Draw(t, "start")
			m.open = round > 500 || rapid.Bool().Draw(t, "window")
			if round < 200 && rapid.IntRange(0, 60).Draw(t, "ask") == 0 {
				m.undo = true
			}
			gate := GateUnread
			if m.s.Phase == StackBaking || m.s.Phase == StackApplying || m.s.Phase == StackChecking {
				gate = rapid.SampledFrom([]Gate{GateUnread, GatePass, GatePass, GatePass, GateFail}).Draw(t, "gate")
			}
			before := m.s
			f := m.facts(gate, budget)
			event := Observe(m.s, f, m.now)
			next, ok := Next(m.s, event, "", Wait{Bake: bake, Patience: patience}, m.now)
			if event != StackNothing && !ok {
				t.Fatalf("%s observed %s, which its row does not list", m.s.Phase, event)
			}
			m.s = next
			check(t, before, m, event, gate, budget)
			if event == StackUndo || m.s.Phase == StackRolledBack || m.s.Phase == StackSkipped {
				m.undo = false // begun, or refused: there is nothing to put back
			}
			if m.s.Phase.Final() && !m.undo {
				return
			}
			m.work(t, round)
			m.now = m.now.Add(time.Duration(rapid.IntRange(0, 120).Draw(t, "minutes")) * time.Minute)
		}
	})
}

func check(t *rapid.T, before Stack, m *model, event StackEvent, gate Gate, budget int) {
	switch event {
	case StackStart, StackClear, StackStepPassed:
		if !m.open {
			t.Fatalf("%s though the calendar is closed", event)
		}
	case StackNotClear:
		if gate != GateFail || m.now.Before(before.Due) || m.wrote[0] {
			t.Fatalf("given up before the patience was over: gate %q, due %v, now %v", gate, before.Due, m.now)
		}
	}
	if event == StackClear && (gate != GatePass || !m.start) {
		t.Fatalf("writing began with gate %q, started %v", gate, m.start)
	}
	switch event {
	case StackStepPassed, StackPassed:
		if gate != GatePass || m.now.Before(before.Due) {
			t.Fatalf("step %d passed with gate %q, due %v, now %v", before.Step, gate, before.Due, m.now)
		}
		if c := m.steps[before.Step]; c.Pending+c.Open > 0 || c.Failures() > budget {
			t.Fatalf("step %d passed with %+v", before.Step, c)
		}
	case StackReverted:
		for i, c := range m.steps {
			if (before.Phase == StackReverting || i == before.Step) && (c.Revert > 0 || c.Open > 0 || c.Stuck > 0) {
				t.Fatalf("%s though step %d has %+v", m.s.Phase, i, c)
			}
		}
	case StackRevertFailed:
		if m.s.Phase != StackStuck {
			t.Fatalf("what could not be put back ended as %s", m.s.Phase)
		}
	}
	if m.s.Step > 0 && m.s.Phase == StackApplying && m.steps[m.s.Step-1].Pending > 0 {
		t.Fatalf("step %d opened before step %d was over", m.s.Step, m.s.Step-1)
	}
}

// work lets a few changes of the current step go on, as the phase allows.
func (m *model) work(t *rapid.T, round int) {
	hopeful := round > 300 // what is open comes back at last
	for i := range m.steps {
		c := &m.steps[i]
		switch {
		case c.Open > 0 && (hopeful || rapid.Bool().Draw(t, "settles")):
			c.Open--
			switch rapid.IntRange(0, 9).Draw(t, "outcome") {
			case 0:
				c.Conflict++
			case 1:
				c.Failed++
			default:
				c.Written++
				c.Revert++
			}
		case m.s.Phase == StackApplying && i == m.s.Step && c.Pending > 0:
			c.Pending--
			c.Open++
			m.wrote[i] = true
		case c.Revert > 0 && (m.s.Phase == StackReverting || m.s.Phase == StackRevertingStep && i == m.s.Step):
			c.Revert--
			if c.Written > 0 {
				c.Written--
			}
			if rapid.IntRange(0, 9).Draw(t, "stuck") == 0 {
				c.Stuck++
			} else {
				c.Reverted++
			}
		}
	}
}

func TestRolloutEndsWhenItsStacksDo(t *testing.T) {
	finals := []StackPhase{StackDone, StackFailed, StackSkipped, StackStuck, StackRolledBack}
	rapid.Check(t, func(t *rapid.T) {
		f := Facts{Stacks: map[StackPhase]int{}, Budget: rapid.IntRange(0, 3).Draw(t, "budget")}
		for range rapid.IntRange(1, 6).Draw(t, "stacks") {
			f.Stacks[rapid.SampledFrom(finals).Draw(t, "phase")]++
		}
		status := rapid.SampledFrom([]Status{Running, Halting, RollingBack}).Draw(t, "status")
		event := ObserveAll(status, f)
		next, ok := NextStatus(status, event)
		if !ok || !next.Final() {
			t.Fatalf("%s with %v: %s leads to %s", status, f.Stacks, event, next)
		}
		allDone := len(f.Stacks) == 1 && f.Stacks[StackDone] > 0
		f.Undo = 1
		if e := ObserveAll(RollingBack, f); e != Nothing {
			t.Fatalf("a rollback ended by %s before it began", e)
		}
		if (next == Done) != (allDone && status != RollingBack) {
			t.Fatalf("%s with %v ends as %s", status, f.Stacks, next)
		}
	})
}

func TestAFailureBeyondTheBudgetHalts(t *testing.T) {
	f := Facts{Stacks: map[StackPhase]int{StackFailed: 2, StackBaking: 1, StackWaiting: 4}, Failed: 2, Budget: 1}
	if e := ObserveAll(Running, f); e != StackFailure {
		t.Errorf("event = %q", e)
	}
	if e := ObserveAll(Halting, f); e != Nothing {
		t.Errorf("halting goes on while a stack bakes, got %q", e)
	}
	f.Stacks[StackBaking], f.Stacks[StackDone] = 0, 1
	if e := ObserveAll(Halting, f); e != Quiet {
		t.Errorf("event = %q", e)
	}
	f.Failed = 1
	if e := ObserveAll(Running, f); e != Nothing {
		t.Errorf("a failure within the budget gave %q", e)
	}
}

func TestBakeIsCountedFromTheLastVerifiedChange(t *testing.T) {
	s, _ := Next(Stack{Phase: StackApplying, Since: start}, StackStepWritten, "", Wait{Bake: 2 * time.Hour}, start.Add(time.Minute))
	if !s.Due.Equal(start.Add(2*time.Hour+time.Minute)) || !s.Since.Equal(start) {
		t.Errorf("state %+v", s)
	}
	f := StackFacts{Steps: 1, Gate: GatePass, Window: true}
	if e := Observe(s, f, s.Due.Add(-1)); e != StackNothing {
		t.Errorf("passed before its time: %s", e)
	}
	if e := Observe(s, f, s.Due); e != StackPassed {
		t.Errorf("event at its time: %q", e)
	}
	f.Gate = GateFail
	if e := Observe(s, f, start); e != StackGateFailed {
		t.Errorf("a failed gate waits: %q", e)
	}
}

func TestNothingWrittenIsNotSuccess(t *testing.T) {
	for _, c := range []Counts{{Conflict: 1}, {Skipped: 3}, {Failed: 1}} {
		if e := Observe(Stack{Phase: StackApplying}, StackFacts{Step: c, Steps: 2, Budget: 5}, start); e != StackStepEmpty {
			t.Errorf("%+v: %q", c, e)
		}
	}
}

func TestAStackThatCannotBeginIsHeldBackFirst(t *testing.T) {
	s := Stack{Phase: StackChecking, Due: start.Add(30 * time.Minute)}
	ready := StackFacts{Open: true, Window: true, Steps: 1}
	with := func(change func(f *StackFacts)) StackFacts {
		f := ready
		change(&f)
		return f
	}
	for _, c := range []struct {
		name  string
		facts StackFacts
		after time.Duration
		want  StackEvent
	}{
		{"nothing read yet", ready, time.Hour, StackNothing},
		{"gates pass", with(func(f *StackFacts) { f.Gate = GatePass }), 0, StackClear},
		{"gates pass, calendar closed", with(func(f *StackFacts) { f.Gate, f.Window = GatePass, false }), time.Hour, StackNothing},
		{"gates fail for a while", with(func(f *StackFacts) { f.Gate = GateFail }), 29 * time.Minute, StackNothing},
		{"gates go on failing", with(func(f *StackFacts) { f.Gate = GateFail }), 30 * time.Minute, StackNotClear},
		{"the rollout halts", with(func(f *StackFacts) { f.Gate, f.Open = GatePass, false }), 0, StackHeld},
		{"put back", with(func(f *StackFacts) { f.Undo = true }), 0, StackUndo},
	} {
		if got := Observe(s, c.facts, start.Add(c.after)); got != c.want {
			t.Errorf("%s: %q, want %q", c.name, got, c.want)
		}
	}
}

func TestAnAccountThatFailedTooOftenStartsNothing(t *testing.T) {
	f := StackFacts{Open: true, Window: true, Free: true, PredecessorsDone: true, AccountSpent: true}
	if e := Observe(Stack{Phase: StackWaiting}, f, start); e != StackAccountSpent {
		t.Errorf("event %q", e)
	}
	if e := Observe(Stack{Phase: StackApplying}, StackFacts{AccountSpent: true, Step: Counts{Pending: 1}}, start); e != StackNothing {
		t.Errorf("one that runs is not broken off, got %q", e)
	}
}

func TestASpentRolloutHaltsWhateverItsWaveTolerates(t *testing.T) {
	f := Facts{Stacks: map[StackPhase]int{StackFailed: 2, StackWaiting: 1}, Budget: 10, Spent: true}
	if e := ObserveAll(Running, f); e != StackFailure {
		t.Errorf("event %q", e)
	}
}

// What was written and could not be verified is put back, be it the only change of its step.
func TestUnverifiedChangesArePutBack(t *testing.T) {
	for _, budget := range []int{0, 1} {
		f := StackFacts{Step: Counts{Failed: 1, Revert: 1}, All: Counts{Failed: 1, Revert: 1}, Steps: 2, Budget: budget}
		if e := Observe(Stack{Phase: StackApplying}, f, start); e != StackOverBudget {
			t.Errorf("with a budget of %d: %q", budget, e)
		}
	}
}
