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
	mu   sync.Mutex
	plan *plan.Plan
	// now is the rollout's clock, wall the machine's: they differ where a rollout runs against a simulator.
	now, wall func() time.Time
	started   time.Time
	status    rollout.Status
	reason    string
	stop      string // who stopped everything, and why
	held      string // what keeps the rollout from going on by itself
	approved  map[string]string
	stacks    map[string]*stackView
	order     []*stackView
	changes   map[string]app.ChangePhase
	planned   map[string]*plan.Change
	events    []courseEvent
	written   int // changes verified since the process began
	meter     meter
	writing   stopwatch
	left      estimate
	applying  int // stacks that are being written
	// verbose has every change told, not only those that did not go as planned.
	verbose bool
	// tell, where set, gets every event as it happens.
	tell func(courseEvent)
}

// stackView is one stack as it stands.
type stackView struct {
	*plan.Stack
	state   rollout.Stack
	planned []*plan.Change
	changes int
	made    int   // verified
	bySteps []int // verified, by step
	undone  int
	watched int             // follow-ups that only watch what is launched, and have begun to
	gate    *app.GateResult // the last reading, nil before the first of this phase
	read    time.Time
	asked   map[string]bool // the tasks for people that were told of
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
		plan: p, now: now, wall: time.Now, started: now(), status: rollout.Running, stacks: map[string]*stackView{},
		changes: make(map[string]app.ChangePhase, len(p.Changes)), planned: make(map[string]*plan.Change, len(p.Changes)),
	}
	for i := range p.Stacks {
		v := &stackView{Stack: &p.Stacks[i], state: rollout.Stack{Phase: rollout.StackWaiting}, asked: map[string]bool{}}
		v.bySteps = make([]int, len(v.Steps))
		for _, st := range v.Steps {
			v.changes += st.Changes
		}
		c.stacks[v.ID] = v
		c.order = append(c.order, v)
	}
	for i := range p.Changes {
		ch := &p.Changes[i]
		c.planned[ch.ID] = ch
		if v := c.stacks[ch.Stack]; v != nil {
			v.planned = append(v.planned, ch)
		}
	}
	slices.SortStableFunc(c.order, func(a, b *stackView) int { return cmp.Compare(a.Wave, b.Wave) })
	return c
}

// restore takes in where an earlier run had come to.
func (c *course) restore(r *app.Record) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.status, c.reason, c.stop, c.approved = r.Status, r.Reason, r.Stop, r.Waves
	for id, st := range r.Stacks {
		if v := c.stacks[id]; v != nil && st.Phase != "" {
			c.enter(v, st)
		}
	}
	for i := range c.plan.Changes {
		ch := &c.plan.Changes[i]
		if s, ok := r.Changes[ch.ID]; ok {
			c.count(ch.Stack, ch.ID, s.Phase)
		}
	}
	c.written, c.meter = 0, meter{}
}

// standing gives what is to be told at the beginning: what keeps the rollout from going on, as far as it is known.
func (c *course) standing() []courseEvent {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := c.now()
	var out []courseEvent
	if c.stop != "" {
		out = append(out, courseEvent{at: now, name: "stop", text: stoppedText(c.stop), mood: moodBad})
	}
	for _, v := range c.order {
		out = append(out, c.tasks(v, now)...)
	}
	c.events = append(c.events, out...)
	return out
}

func (c *course) count(stack, change string, phase app.ChangePhase) {
	v, ch := c.stacks[stack], c.planned[change]
	if v == nil || ch == nil {
		return
	}
	before := c.changes[change]
	c.changes[change] = phase
	for _, step := range []struct {
		phase app.ChangePhase
		by    int
	}{{before, -1}, {phase, 1}} {
		switch step.phase {
		case app.ChangeApplied:
			if watches(ch) {
				v.watched += step.by
			}
		case app.ChangeVerified:
			v.made += step.by
			v.bySteps[ch.Step] += step.by
			if step.by > 0 {
				c.written++
				c.meter.add(c.wall())
			}
		case app.ChangeReverted:
			v.undone += step.by
		}
	}
}

// watches tells a follow-up that only watches what is launched.
func watches(ch *plan.Change) bool {
	return ch.Ref.Kind == plan.KindFollowUp && (ch.Action == plan.ActionLaunched || ch.Action == plan.ActionReplaced)
}

// onlyWatches tells whether all that the step of a stack still waits for is to see what is launched.
func (v *stackView) onlyWatches() bool {
	step := v.state.Step
	return v.watched > 0 && step >= 0 && step < len(v.Steps) && v.bySteps[step]+v.watched >= v.Steps[step].Changes
}

// observe takes in one thing that happened.
func (c *course) observe(p app.Progress) {
	c.mu.Lock()
	c.status = p.Status
	var said []courseEvent
	v := c.stacks[p.Stack]
	c.writing.look(p.At, c.applying > 0)
	switch {
	case p.Stack == "":
		said = c.rolloutEvent(p)
	case v == nil:
	case p.Change != "":
		c.count(p.Stack, p.Change, p.Phase)
		c.enter(v, p.State)
		said = append(c.changeEvent(v, p), c.tasks(v, p.At)...)
	case p.Event == "gate":
		said = gateEvent(v, p)
	default:
		said = append(c.stackEvent(v, p), c.tasks(v, p.At)...)
	}
	c.events = append(c.events, said...)
	tell := c.tell
	c.mu.Unlock()
	if tell != nil {
		for _, e := range said {
			tell(e)
		}
	}
}

// enter takes over the state of a stack.
func (c *course) enter(v *stackView, state rollout.Stack) {
	if v.state.Phase == rollout.StackApplying {
		c.applying--
	}
	if state.Phase == rollout.StackApplying {
		c.applying++
	}
	v.state = state
}

// stoppedPrefix is what the engine's reason begins with while everything is stopped.
const stoppedPrefix = "everything is stopped: "

// stoppedText is said wherever the switch is found on.
func stoppedText(who string) string {
	return "EVERYTHING IS STOPPED by " + oneLine(who) + "; nothing is written, forward or back; to go on: imdsctl rollout allow " +
		"--reason WHY"
}

// rolloutEvent takes in what happened to the rollout as a whole.
func (c *course) rolloutEvent(p app.Progress) []courseEvent {
	e := courseEvent{at: p.At, name: p.Event, mood: rolloutMood(p.Status)}
	if p.Event == "hold" {
		c.held = oneLine(p.Reason)
		e.text, e.mood = "waiting: "+c.held, moodWarn
		return []courseEvent{e}
	}
	stop, stopped := strings.CutPrefix(p.Reason, stoppedPrefix)
	switch {
	case stopped:
		c.stop = stop
		e.text, e.mood = stoppedText(stop), moodBad
		return []courseEvent{e}
	case c.stop != "":
		c.stop = ""
		e.text = "allowed again: the rollout is " + string(p.Status)
	default:
		e.text = "the rollout is " + string(p.Status)
	}
	c.held, c.reason = "", p.Reason
	if p.Reason != "" {
		e.text += ": " + oneLine(p.Reason)
	}
	return []courseEvent{e}
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

// changeEvent tells of changes that did not go as planned; of the others only where every change is asked for. They are
// counted.
func (c *course) changeEvent(v *stackView, p app.Progress) []courseEvent {
	e := courseEvent{at: p.At, stack: v, name: string(p.Phase), state: p.State}
	switch p.Phase {
	case app.ChangeConflict, app.ChangeFailed, app.ChangeStuck, app.ChangeSkipped:
		e.mood = moodBad
	default:
		if !c.verbose {
			return nil
		}
	}
	resource := p.Change
	if ch := c.planned[p.Change]; ch != nil {
		resource = resourceOf(ch)
	}
	e.text = resource + " " + string(p.Phase)
	if p.Reason != "" {
		e.text += ": " + oneLine(p.Reason)
	}
	return []courseEvent{e}
}

// resourceOf names what a change touches, as people know it.
func resourceOf(c *plan.Change) string {
	if c.Ref.Kind == plan.KindFollowUp {
		return fmt.Sprintf("%s (%s)", c.Params[plan.ParamName], c.Params[plan.ParamInstance])
	}
	return c.Ref.ID
}

// gateEvent takes in a reading. It is told of where it holds a stack back that has not begun: there, nothing else tells.
func gateEvent(v *stackView, p app.Progress) []courseEvent {
	before := v.gate
	v.read, v.gate = p.At, p.Gate
	if p.Gate == nil || p.Gate.Pass || p.State.Phase != rollout.StackChecking {
		return nil
	}
	if before != nil && before.Reason == p.Gate.Reason {
		return nil
	}
	return []courseEvent{{at: p.At, stack: v, name: p.Event, state: p.State, mood: moodWarn,
		text: fmt.Sprintf("held back until %s, nothing is written: %s", clockWords(p.State.Due, p.At), oneLine(p.Gate.Reason))}}
}

// tasks tells of what waits for a person, once each.
func (c *course) tasks(v *stackView, at time.Time) []courseEvent {
	var out []courseEvent
	for _, t := range c.open(v) {
		if !v.asked[t.Change.ID] {
			v.asked[t.Change.ID] = true
			out = append(out, courseEvent{at: at, stack: v, name: "task", state: v.state, mood: moodWarn,
				text: fmt.Sprintf("a person is needed for %s: %s; then: %s", t.Resource(), oneLine(t.Text()), c.doneCommand(t))})
		}
	}
	return out
}

// open lists the tasks of a stack that wait for a person.
func (c *course) open(v *stackView) []app.ManualTask {
	if v.state.Phase != rollout.StackApplying || c.status.Final() {
		return nil
	}
	var out []app.ManualTask
	for _, ch := range v.planned {
		if app.ManualWaits(ch, v.state, func(id string) app.ChangePhase { return c.changes[id] }) {
			out = append(out, app.ManualTask{Change: ch, Stack: v.Stack})
		}
	}
	return out
}

func (c *course) doneCommand(t app.ManualTask) string {
	return "imdsctl rollout done " + short(c.plan.Digest) + " " + t.Change.ID
}

func (c *course) stackEvent(v *stackView, p app.Progress) []courseEvent {
	before, gate := v.state, v.gate
	c.enter(v, p.State)
	v.gate, c.held = nil, ""
	e := courseEvent{at: p.At, stack: v, name: p.Event, state: p.State}
	step := v.stepName(before.Step)
	switch rollout.StackEvent(p.Event) {
	case rollout.StackStart, "resync":
		return nil // what follows it is told
	case rollout.StackClear:
		e.text = v.stepName(p.State.Step) + " begins"
	case rollout.StackHeld:
		e.text = "waits again, nothing was written"
	case rollout.StackStepWritten:
		e.text = step + " is written, watched for " + brief(v.Steps[before.Step].Bake)
	case rollout.StackStepPassed:
		e.text, e.mood = step+" passed its gates"+dataOf(gate)+"; "+v.stepName(p.State.Step)+" begins", moodGood
	case rollout.StackPassed:
		e.text, e.mood = "done"+dataOf(gate), moodGood
	case rollout.StackGateFailed, rollout.StackOverBudget:
		e.text, e.mood = step+" broke, rolling back: "+oneLine(p.Reason), moodBad
	case rollout.StackStepEmpty, rollout.StackNotClear:
		e.text, e.mood = "failed: "+oneLine(p.Reason), moodBad
	case rollout.StackReverted:
		e.text, e.mood = step+" was put back to what it was", moodWarn
		if before.Phase == rollout.StackReverting {
			e.text = "everything was put back to what it was"
		}
	case rollout.StackRevertFailed:
		e.text, e.mood = "stuck: "+oneLine(p.Reason), moodBad
	case rollout.StackPredecessor, rollout.StackAccountSpent:
		e.text, e.mood = "skipped: "+oneLine(p.Reason), moodWarn
	case rollout.StackUndo:
		e.text, e.mood = "rolling back: "+oneLine(p.Reason), moodWarn
		if p.State.Phase == rollout.StackSkipped {
			e.text = "will not begin, its rollback was asked for: " + oneLine(p.Reason)
		}
	default:
		e.text = p.Event
	}
	return []courseEvent{e}
}

// dataOf puts what the gates read into brackets.
func dataOf(g *app.GateResult) string {
	if g == nil {
		return ""
	}
	return " (" + gateWords(g) + ")"
}

// gateWords is a reading in a few words: why it fails, or the sums of what was read, the metric's first. What had nothing to
// look at is left out.
func gateWords(g *app.GateResult) string {
	if !g.Pass {
		return oneLine(g.Reason)
	}
	var out []string
	for _, r := range g.Readings {
		value, _, _ := strings.Cut(oneLine(r.Value), " since ")
		if r.Subject.ID != "" || value == "" || strings.HasPrefix(value, "0 of 0") {
			continue
		}
		counted := value[0] >= '0' && value[0] <= '9'
		switch {
		case r.Gate == "MetadataNoTokenRejected":
			out = slices.Insert(out, 0, strings.Replace(value, " in ", " refused in ", 1))
		case r.Gate == "MetadataNoToken":
			out = slices.Insert(out, 0, "v1 calls: "+value)
		case !counted && strings.HasSuffix(r.Gate, "-health"):
		case r.Gate == "status-check":
			out = append(out, strings.Replace(value, "running instances pass", "status checks pass", 1))
		case counted && !strings.Contains(r.Gate, " "):
			out = append(out, strings.Replace(value, "running instances report", "report", 1))
		default:
			out = append(out, r.Gate+": "+value)
		}
	}
	if len(out) == 0 {
		return "nothing to look at"
	}
	return strings.Join(out, ", ")
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
		return visible(at + "  " + e.text)
	}
	return visible(at + "  " + e.stack.label() + ": " + e.text)
}

// clockWords is a time as people say it: without the day where that is today's.
func clockWords(t, now time.Time) string {
	t, now = t.UTC(), now.UTC()
	if t.Format(time.DateOnly) == now.Format(time.DateOnly) {
		return t.Format("15:04 UTC")
	}
	if t.After(now) && t.Sub(now) < 6*24*time.Hour {
		return t.Format("Mon 15:04 UTC")
	}
	return t.Format("Mon Jan _2 2006 15:04 UTC")
}
