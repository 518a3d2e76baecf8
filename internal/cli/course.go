package cli

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/imdsctl/imdsctl/internal/app"
	"github.com/imdsctl/imdsctl/internal/plan"
	"github.com/imdsctl/imdsctl/internal/rollout"
)

// course is what is known of a rollout while it runs: the state of every stack and the latest events. It is fed from
// the engine's goroutine and read from the screen's.
type course struct {
	mu      sync.Mutex
	plan    *plan.Plan
	now     func() time.Time
	started time.Time
	status  rollout.Status
	reason  string
	stacks  map[string]*stackView
	order   []*stackView
	changes map[string]app.ChangePhase
	events  []courseEvent
	written int // changes verified since the process began, for the rate
	// tell, where set, gets every event as it happens.
	tell func(courseEvent)
}

// stackView is one stack as it stands.
type stackView struct {
	*plan.Stack
	state   rollout.Stack
	changes int
	made    int // verified
	undone  int
	gates   string // the last reading: "pass", or why not
	read    time.Time
	touched int // order of the last event
}

// courseEvent is one line of what happened.
type courseEvent struct {
	at    time.Time
	stack *stackView // nil for the rollout itself
	name  string
	state rollout.Stack
	text  string
	mood  mood
}

// mood colours an event.
type mood int

const (
	moodPlain mood = iota
	moodGood
	moodBad
	moodWarn
)

func newCourse(p *plan.Plan, now func() time.Time) *course {
	c := &course{
		plan: p, now: now, started: now(), status: rollout.Running, stacks: map[string]*stackView{},
		changes: make(map[string]app.ChangePhase, len(p.Changes)),
	}
	for i := range p.Stacks {
		v := &stackView{Stack: &p.Stacks[i], state: rollout.Stack{Phase: rollout.StackWaiting}}
		for _, st := range v.Steps {
			v.changes += st.Changes
		}
		c.stacks[v.ID] = v
		c.order = append(c.order, v)
	}
	slices.SortStableFunc(c.order, func(a, b *stackView) int { return cmp.Compare(a.Wave, b.Wave) })
	return c
}

// restore takes in where an earlier run had come to.
func (c *course) restore(r *app.Record) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.status, c.reason = r.Status, r.Reason
	for id, st := range r.Stacks {
		if v := c.stacks[id]; v != nil && st.Phase != "" {
			v.state = st
		}
	}
	for i := range c.plan.Changes {
		ch := &c.plan.Changes[i]
		if s, ok := r.Changes[ch.ID]; ok {
			c.count(ch.Stack, ch.ID, s.Phase)
		}
	}
	c.written = 0
}

func (c *course) count(stack, change string, phase app.ChangePhase) {
	v := c.stacks[stack]
	if v == nil {
		return
	}
	before := c.changes[change]
	c.changes[change] = phase
	for _, step := range []struct {
		phase app.ChangePhase
		by    int
	}{{before, -1}, {phase, 1}} {
		switch step.phase {
		case app.ChangeVerified:
			v.made += step.by
			if step.by > 0 {
				c.written++
			}
		case app.ChangeReverted:
			v.undone += step.by
		}
	}
}

// observe takes in one thing that happened.
func (c *course) observe(p app.Progress) {
	c.mu.Lock()
	c.status = p.Status
	var e courseEvent
	said := false
	switch {
	case p.Stack == "":
		c.reason = p.Reason
		e, said = courseEvent{at: p.At, name: p.Event, text: rolloutText(p), mood: rolloutMood(p.Status)}, true
	case p.Change != "":
		c.count(p.Stack, p.Change, p.Phase)
		if v := c.stacks[p.Stack]; v != nil {
			v.state = p.State
			e, said = c.changeEvent(v, p)
		}
	default:
		if v := c.stacks[p.Stack]; v != nil {
			e, said = c.stackEvent(v, p)
		}
	}
	if said {
		c.events = append(c.events, e)
		if e.stack != nil {
			e.stack.touched = len(c.events)
		}
	}
	tell := c.tell
	c.mu.Unlock()
	if said && tell != nil {
		tell(e)
	}
}

func rolloutText(p app.Progress) string {
	text := "the rollout is " + string(p.Status)
	if p.Reason != "" {
		text += ": " + oneLine(p.Reason)
	}
	return text
}

func rolloutMood(s rollout.Status) mood {
	switch s {
	case rollout.Done, rollout.RolledBack:
		return moodGood
	case rollout.Halting, rollout.Halted, rollout.Incomplete, rollout.Paused, rollout.RollbackPaused:
		return moodWarn
	}
	return moodPlain
}

// changeEvent tells only of changes that did not go as planned: the others are counted.
func (c *course) changeEvent(v *stackView, p app.Progress) (courseEvent, bool) {
	switch p.Phase {
	case app.ChangeConflict, app.ChangeFailed, app.ChangeStuck, app.ChangeSkipped:
	default:
		return courseEvent{}, false
	}
	resource := p.Change
	for i := range c.plan.Changes {
		if c.plan.Changes[i].ID == p.Change {
			resource = c.plan.Changes[i].Ref.ID
		}
	}
	return courseEvent{at: p.At, stack: v, name: string(p.Phase), state: p.State, mood: moodBad,
		text: resource + " " + string(p.Phase) + ": " + oneLine(p.Reason)}, true
}

func (c *course) stackEvent(v *stackView, p app.Progress) (courseEvent, bool) {
	before := v.state
	v.state = p.State
	e := courseEvent{at: p.At, stack: v, name: p.Event, state: p.State}
	if p.Event == "gate" {
		v.read, v.gates = p.At, "pass"
		if p.Gate != nil && !p.Gate.Pass {
			v.gates = oneLine(p.Gate.Reason)
		}
		return e, false
	}
	step := v.stepName(before.Step)
	switch rollout.StackEvent(p.Event) {
	case rollout.StackStart:
		e.text = v.stepName(p.State.Step) + " begins"
	case rollout.StackStepWritten:
		e.text = step + " is written, watched for " + brief(v.Steps[before.Step].Bake)
	case rollout.StackStepPassed:
		e.text, e.mood = step+" passed its gates; "+v.stepName(p.State.Step)+" begins", moodGood
	case rollout.StackPassed:
		e.text, e.mood = "done", moodGood
	case rollout.StackGateFailed, rollout.StackOverBudget:
		e.text, e.mood = step+" broke, rolling back: "+oneLine(p.Reason), moodBad
	case rollout.StackStepEmpty:
		e.text, e.mood = "failed: "+oneLine(p.Reason), moodBad
	case rollout.StackReverted:
		e.text, e.mood = step+" was put back to what it was", moodWarn
	case rollout.StackRevertFailed:
		e.text, e.mood = "stuck: "+oneLine(p.Reason), moodBad
	case rollout.StackPredecessor:
		e.text, e.mood = "skipped: "+oneLine(p.Reason), moodWarn
	case rollout.StackUndo:
		e.text, e.mood = "rolling back: "+oneLine(p.Reason), moodWarn
	default:
		e.text = p.Event
	}
	return e, true
}

func (v *stackView) stepName(i int) string {
	if i < 0 || i >= len(v.Steps) {
		return "step"
	}
	return v.Steps[i].Name
}

// label names a stack for people: its name and where it is.
func (v *stackView) label() string {
	return fmt.Sprintf("%s (%s, %s)", v.title(), v.Place.Account, v.Place.Region)
}

// title is the stack's name, without the region that an account default's name ends in: it is shown beside it.
func (v *stackView) title() string {
	return strings.TrimSuffix(v.Name, " "+string(v.Place.Region))
}

// line writes an event without colours: "Mar 12 14:05  report-archiver (…): canary broke …".
func (e courseEvent) line() string {
	at := e.at.UTC().Format("Jan _2 15:04:05")
	if e.stack == nil {
		return at + "  " + e.text
	}
	return at + "  " + e.stack.label() + ": " + e.text
}
