package cli

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jedib0t/go-pretty/v6/text"
	"pgregory.net/rapid"

	"github.com/imdsctl/imdsctl/internal/app"
	"github.com/imdsctl/imdsctl/internal/fleet"
	"github.com/imdsctl/imdsctl/internal/plan"
	"github.com/imdsctl/imdsctl/internal/policy"
	"github.com/imdsctl/imdsctl/internal/rollout"
)

// monday is when the rollouts of these tests begin: a Monday, at nine.
var monday = time.Date(2026, 3, 9, 9, 0, 0, 0, time.UTC)

// nights is the calendar of the second wave.
var nights = policy.Calendar{Windows: []policy.Window{{Name: "nights", From: "22:00", To: "04:00", Zone: "UTC"}}}

// delivery is a plan with everything that delivery knows: two waves, the second with an approval, rings and a window; and a
// task for a person after the canary of web.
func delivery() *plan.Plan {
	place := fleet.Place{Partition: "aws", Account: "111122223333", Region: "eu-west-1"}
	p := &plan.Plan{Digest: strings.Repeat("ab", 32), Header: plan.Header{
		Waves:     []plan.Wave{{Name: "pilot"}, {Name: "production", Approval: true}},
		Calendars: []policy.Calendar{nights},
		Rules:     plan.Rules{MaxStacks: 2, MaxInFlight: 10},
	}}
	stack := func(id, name string, wave, ring, calendar, size int) {
		p.Stacks = append(p.Stacks, plan.Stack{ID: id, Name: name, Wave: wave, Ring: ring, Calendar: calendar, Place: place,
			Steps: []plan.Step{
				{Name: "canary", Stage: plan.StageFleet, Changes: 1, Bake: time.Hour, Share: "1"},
				{Name: "fleet", Stage: plan.StageFleet, Changes: size, Bake: time.Hour, Share: "100%"},
			}})
		for i := range 1 + size {
			p.Changes = append(p.Changes, plan.Change{ID: fmt.Sprintf("c-%s-%d", id, i), Stack: id, Step: min(i, 1),
				Ref: fleet.Ref{Place: place, Kind: "ec2-instance", ID: fmt.Sprintf("i-%s%d", id, i)}})
		}
	}
	stack("web", "web", 0, 0, 0, 2)
	stack("api", "api", 0, 0, 0, 1)
	stack("pay", "payments", 1, 0, 1, 3)
	stack("led", "ledger", 1, 1, 1, 1)
	p.Stacks[0].Steps[0].Changes++
	p.Changes = append(p.Changes, plan.Change{ID: "c-web-task", Stack: "web", Step: 0, Class: plan.ClassManual,
		Ref: fleet.Ref{Place: place, Kind: plan.KindFollowUp, ID: "i-web0/restart/1"}, Needs: []string{"c-web-0"}, Action: plan.ActionManual,
		Params: map[string]string{plan.ParamName: "restart", plan.ParamInstance: "i-web0", plan.ParamText: "restart it in its console"}})
	return p
}

// watched is a course with clocks that a test moves.
type watched struct {
	*course
	at, wall time.Time
}

func watch(p *plan.Plan) *watched {
	w := &watched{at: monday, wall: time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC)}
	w.course = newCourse(p, func() time.Time { return w.at })
	w.course.wall = func() time.Time { return w.wall }
	w.course.started = monday
	return w
}

func (w *watched) stack(id string, e rollout.StackEvent, state rollout.Stack, reason string) {
	w.observe(app.Progress{At: w.at, Status: rollout.Running, Stack: id, Event: string(e), State: state, Reason: reason})
}

func (w *watched) change(id string, phase app.ChangePhase, reason string) {
	stack := w.planned[id].Stack
	w.observe(app.Progress{At: w.at, Status: rollout.Running, Stack: stack, State: w.stacks[stack].state, Change: id, Phase: phase,
		Event: string(phase), Reason: reason})
}

func (w *watched) gate(id string, pass bool, reason string, readings ...app.Reading) {
	w.observe(app.Progress{At: w.at, Status: rollout.Running, Stack: id, State: w.stacks[id].state, Event: "gate",
		Gate: &app.GateResult{Pass: pass, Reason: reason, Readings: readings}})
}

func (w *watched) all(status rollout.Status, event, reason string) {
	w.observe(app.Progress{At: w.at, Status: status, Event: event, Reason: reason})
}

// canary brings a stack to where its canary is being written.
func (w *watched) canary(id string) {
	w.stack(id, rollout.StackStart, rollout.Stack{Phase: rollout.StackChecking, Due: w.at.Add(30 * time.Minute)}, "")
	w.gate(id, true, "")
	w.stack(id, rollout.StackClear, rollout.Stack{Phase: rollout.StackApplying, Since: w.at}, "")
}

// bakes brings a stack that is written to its bake.
func (w *watched) bakes(id string, step int) {
	w.stack(id, rollout.StackStepWritten, rollout.Stack{Phase: rollout.StackBaking, Step: step, Since: w.at, Due: w.at.Add(time.Hour)}, "")
}

var refused = app.Reading{Gate: "MetadataNoTokenRejected", Value: "0 in 1 instance since 2026-03-09 09:00 UTC", Pass: true}

// A rollout awaits something only when nothing of it can go on without a person or a window.
func TestAwaited(t *testing.T) {
	for _, c := range []struct {
		name string
		do   func(*watched)
		want []string // what each reason holds
	}{
		{"it begins", func(*watched) {}, nil},
		{"a hold", func(w *watched) { w.all(rollout.Running, "hold", "wave \"production\" waits for a person: imdsctl x") },
			[]string{`wave "production" waits`}},
		{"a hold that is over", func(w *watched) { w.all(rollout.Running, "hold", "x"); w.canary("api") }, nil},
		{"stopped", func(w *watched) {
			w.canary("web")
			w.all(rollout.Running, "control", "everything is stopped: bob: incident")
		},
			[]string{"EVERYTHING IS STOPPED by bob: incident"}},
		{"allowed again", func(w *watched) {
			w.all(rollout.Running, "control", "everything is stopped: bob: incident")
			w.all(rollout.Running, "control", "")
		}, nil},
		{"paused", func(w *watched) { w.canary("web"); w.all(rollout.Paused, "control", "lunch") },
			[]string{"paused: lunch; to go on: imdsctl rollout resume abababababab"}},
		{"halted is an end", func(w *watched) { w.all(rollout.Halted, "control", "") }, nil},
		{"a step is written", func(w *watched) { w.canary("web") }, nil},
		{"a task", func(w *watched) { w.canary("web"); w.change("c-web-0", app.ChangeVerified, "") },
			[]string{"a person is needed for i-web0: restart it in its console; then: imdsctl rollout done abababababab c-web-task"}},
		{"a task while something else goes on", func(w *watched) {
			w.canary("web")
			w.change("c-web-0", app.ChangeVerified, "")
			w.canary("api")
		}, nil},
		{"a task that is done", func(w *watched) {
			w.canary("web")
			w.change("c-web-0", app.ChangeVerified, "")
			w.change("c-web-task", app.ChangeVerified, "")
		}, nil},
		{"a bake", func(w *watched) { w.canary("api"); w.change("c-api-0", app.ChangeVerified, ""); w.bakes("api", 0) }, nil},
		{"the window has closed", func(w *watched) { w.canary("pay") },
			[]string{`payments (111122223333, eu-west-1): outside the window "nights", opens 22:00 UTC`}},
		{"the window is open", func(w *watched) { w.at = monday.Add(14 * time.Hour); w.canary("pay") }, nil},
		{"a bake that ends outside the window", func(w *watched) {
			w.canary("pay")
			w.bakes("pay", 0)
			w.at = w.at.Add(2 * time.Hour)
			w.gate("pay", true, "", refused)
		}, []string{`outside the window "nights", opens 22:00 UTC`}},
		{"a last bake that ends outside the window", func(w *watched) {
			w.canary("pay")
			w.bakes("pay", 1)
			w.at = w.at.Add(2 * time.Hour)
			w.gate("pay", true, "", refused)
		}, nil},
		{"a rollback outside the window", func(w *watched) {
			w.stack("pay", rollout.StackUndo, rollout.Stack{Phase: rollout.StackReverting}, "bob")
		}, nil},
		{"a failing gate holds it back", func(w *watched) {
			w.stack("api", rollout.StackStart, rollout.Stack{Phase: rollout.StackChecking, Due: w.at.Add(30 * time.Minute)}, "")
			w.gate("api", false, "status checks fail")
		}, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := watch(delivery())
			c.do(w)
			got, _ := w.awaited()
			if len(got) != len(c.want) {
				t.Fatalf("awaits %q, want %q", got, c.want)
			}
			for i, want := range c.want {
				if !strings.Contains(got[i], want) {
					t.Errorf("awaits %q, want %q", got[i], want)
				}
			}
		})
	}
}

// What show says of a rollout that nobody works on comes from the record alone.
func TestStandstill(t *testing.T) {
	record := func(phases map[string]rollout.StackPhase) *app.Record {
		r := &app.Record{Status: rollout.Running, Stacks: map[string]rollout.Stack{}, Changes: map[string]app.ChangeState{}}
		for id, p := range phases {
			r.Stacks[id] = rollout.Stack{Phase: p}
		}
		return r
	}
	pilot := map[string]rollout.StackPhase{"web": rollout.StackDone, "api": rollout.StackDone}
	w := watch(delivery())
	w.restore(record(pilot))
	if got := w.standstill(); len(got) != 1 || got[0] != `wave "production" waits for a person: imdsctl rollout approve abababababab --wave production` {
		t.Errorf("before the approval: %q", got)
	}
	approved := record(pilot)
	approved.Waves = map[string]string{"production": "bob"}
	w = watch(delivery())
	w.restore(approved)
	if got := w.standstill(); len(got) != 1 || got[0] != `outside the window "nights", opens 22:00 UTC` {
		t.Errorf("outside the window: %q", got)
	}
	w.at = monday.Add(13 * time.Hour)
	if got := w.standstill(); len(got) != 0 {
		t.Errorf("within the window: %q", got)
	}
}

// frames are pictures at two widths of a rollout at a busy moment.
func TestPictures(t *testing.T) {
	w := watch(delivery())
	w.canary("api")
	w.change("c-api-0", app.ChangeVerified, "")
	w.bakes("api", 0)
	w.wall = w.wall.Add(4 * time.Second)
	w.canary("web")
	w.change("c-web-0", app.ChangeVerified, "")
	w.at = w.at.Add(20 * time.Minute)
	w.gate("api", true, "", refused, app.Reading{Gate: "status-check", Value: "1 of 1 running instances pass", Pass: true},
		app.Reading{Gate: "target-health", Value: "none of the instances is registered with a target group", Pass: true})
	for _, size := range []struct{ width, height int }{{100, 24}, {160, 24}, {60, 20}} {
		t.Run(fmt.Sprint(size.width), func(t *testing.T) {
			golden(t, fmt.Sprintf("picture-%d.txt", size.width), frame(w, size.width, size.height))
		})
	}
	w.all(rollout.Running, "control", "everything is stopped: bob: incident 99")
	t.Run("stopped", func(t *testing.T) { golden(t, "picture-stopped.txt", frame(w, 80, 16)) })
}

// frame is a picture as a terminal without colours shows it.
func frame(w *watched, width, height int) string {
	l := &live{ctx: context.Background(), screen: &screen{}, course: w.course, began: w.wall.Add(-time.Minute),
		names: map[fleet.AccountID]string{"111122223333": "shop-prod"},
		stats: func() app.CallStats { return app.CallStats{Counts: app.CallCounts{Calls: 1234, Throttles: 5}} }}
	var out strings.Builder
	for _, line := range l.picture(width, height) {
		out.WriteString(strings.TrimRight(text.Trim(line, width-1), " ") + "\n")
	}
	return out.String()
}

func golden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", "live", name)
	if os.Getenv("UPDATE_GOLDEN") != "" {
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("%s:\n%s\nwant:\n%s\n(UPDATE_GOLDEN=1 writes it anew)", path, got, want)
	}
}

// Whatever happens to a rollout, the live picture fits the terminal, and what broke stays on it.
func TestPictureFitsAndKeepsWhatBroke(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p := testPlan()
		if rapid.Bool().Draw(t, "delivery") {
			p = delivery()
		}
		w := watch(p)
		w.stack(p.Stacks[0].ID, rollout.StackGateFailed, rollout.Stack{Phase: rollout.StackRevertingStep}, "status checks fail")
		for range rapid.IntRange(0, 80).Draw(t, "events") {
			st := rapid.SampledFrom(p.Stacks[1:]).Draw(t, "stack")
			w.at = w.at.Add(time.Minute)
			w.stack(st.ID, rapid.SampledFrom([]rollout.StackEvent{rollout.StackStart, rollout.StackClear, rollout.StackStepWritten,
				rollout.StackStepPassed, rollout.StackPassed}).Draw(t, "event"),
				rollout.Stack{Phase: rapid.SampledFrom(rollout.StackPhases()).Draw(t, "phase"),
					Step: rapid.IntRange(0, 1).Draw(t, "step"), Due: w.at.Add(time.Hour)}, "")
			switch rapid.IntRange(0, 9).Draw(t, "more") {
			case 0:
				w.all(rollout.Running, "hold", "wave \"x\" waits for a person: imdsctl rollout approve x --wave x")
			case 1:
				w.all(rollout.Paused, "control", strings.Repeat("a long reason ", 20))
			case 2:
				w.all(rollout.Running, "control", stoppedPrefix+"bob: "+strings.Repeat("a long reason ", 20))
			case 3:
				w.gate(st.ID, rapid.Bool().Draw(t, "pass"), "a reason", refused)
			case 4:
				w.change(rapid.SampledFrom(p.Changes).Draw(t, "change").ID, rapid.SampledFrom([]app.ChangePhase{app.ChangeVerified,
					app.ChangeConflict, app.ChangePending, app.ChangeReverted}).Draw(t, "becomes"), "why")
			}
		}
		width, height := rapid.IntRange(40, 200).Draw(t, "width"), rapid.IntRange(16, 60).Draw(t, "height")
		l := &live{ctx: context.Background(), screen: &screen{colour: true}, course: w.course, began: w.wall}
		lines := l.picture(width, height)
		if len(lines) > height {
			t.Fatalf("%d lines on %d", len(lines), height)
		}
		broke := ""
		for _, e := range w.events {
			if e.mood == moodBad {
				broke = e.text
			}
		}
		if whole := strings.Join(lines, "\n"); !strings.Contains(whole, broke) {
			t.Fatalf("what broke last is gone, %q:\n%s", broke, whole)
		}
		if len(w.awaits(w.at)) > 0 && w.status.Final() {
			t.Fatalf("it has ended and awaits %q", w.awaits(w.at))
		}
	})
}

// The rate is that of the last minute; before a minute has passed, that of the time since the first.
func TestMeter(t *testing.T) {
	var m meter
	at := monday
	if got := m.rate(at); got != 0 {
		t.Errorf("nothing happened, at %v a second", got)
	}
	for range 20 {
		m.add(at)
		m.add(at)
		at = at.Add(time.Second)
	}
	if got := m.rate(at.Add(-time.Second)); got != 2 {
		t.Errorf("after 20 seconds %v, want 2", got)
	}
	if got := m.rate(at.Add(39 * time.Second)); got != 40.0/60 {
		t.Errorf("after a minute %v, want 40 in 60 seconds", got)
	}
	if got := m.rate(at.Add(2 * time.Minute)); got != 0 {
		t.Errorf("after two minutes %v, want 0", got)
	}
	m.add(at.Add(2 * time.Minute))
	if got := m.rate(at.Add(2 * time.Minute)); got != 1.0/60 {
		t.Errorf("one after a silence: %v, want 1 in 60 seconds", got)
	}
}

// The guess of the time left counts bakes, side by side as far as the plan lets them, rings one after the other, and the
// waiting for windows.
func TestTimeLeft(t *testing.T) {
	w := watch(delivery())
	// Pilot: two stacks side by side, two bakes of an hour each: 11:00. The window opens at 22:00; two rings of two hours: 02:00.
	if got, want := w.guess(), 17*time.Hour; got != want {
		t.Errorf("at the beginning %v, want %v", got, want)
	}
	// One at a time, from 23:00 on: the pilot until 03:00, the first ring until 05:00, the second from 22:00 to midnight.
	w.plan.Header.Rules.MaxStacks = 1
	w.at = monday.Add(14 * time.Hour)
	if got, want := w.guess(), 25*time.Hour; got != want {
		t.Errorf("one at a time, within the window: %v, want %v", got, want)
	}
	w.canary("web")
	w.bakes("web", 0)
	w.at = w.at.Add(45 * time.Minute)
	if got, want := w.stacks["web"].bakesLeft(w.at), 75*time.Minute; got != want {
		t.Errorf("in the middle of a bake %v, want %v", got, want)
	}
	for _, s := range w.order {
		w.stack(s.ID, rollout.StackPassed, rollout.Stack{Phase: rollout.StackDone}, "")
	}
	if got := w.guess(); got != 0 {
		t.Errorf("at the end %v, want 0", got)
	}
}

// A log has a line for each event of a stack, in words that need no colour, and a task with its command.
func TestLogLines(t *testing.T) {
	w := watch(delivery())
	var out bytes.Buffer
	l := newLogLines(&out, w.course)
	w.tell = l.tell
	w.canary("web")
	w.change("c-web-0", app.ChangeVerified, "")
	w.change("c-web-task", app.ChangeVerified, "bob: it came up")
	w.bakes("web", 0)
	w.at = w.at.Add(61 * time.Minute)
	w.gate("web", true, "", refused)
	w.stack("web", rollout.StackStepPassed, rollout.Stack{Phase: rollout.StackApplying, Step: 1, Since: w.at}, "")
	w.change("c-web-1", app.ChangeConflict, "it changed since the plan")
	w.all(rollout.Running, "hold", `wave "production" waits for a person: imdsctl rollout approve r-ab --wave production`)
	w.wall = w.wall.Add(longestSilence)
	l.tick()
	l.tick()
	golden(t, "log.txt", out.String())
	if strings.ContainsRune(out.String(), '\x1b') {
		t.Error("an escape sequence in a log")
	}
}

// Every change has a line where somebody asks for it.
func TestVerboseLines(t *testing.T) {
	w := watch(delivery())
	var got []string
	w.verbose = true
	w.tell = func(e courseEvent) { got = append(got, e.text) }
	w.canary("web")
	w.change("c-web-0", app.ChangeVerified, "")
	w.change("c-web-task", app.ChangeVerified, "bob")
	for _, want := range []string{"i-web0 verified", "restart (i-web0) verified: bob"} {
		if !slices.Contains(got, want) {
			t.Errorf("%q does not say %q", got, want)
		}
	}
}

// What had not begun when its rollback was asked for is not said to be rolled back.
func TestLogOfWhatNeverBegan(t *testing.T) {
	w := watch(delivery())
	var out bytes.Buffer
	w.tell = newLogLines(&out, w.course).tell
	w.canary("pay")
	w.stack("pay", rollout.StackUndo, rollout.Stack{Phase: rollout.StackReverting}, "bob")
	w.stack("web", rollout.StackUndo, rollout.Stack{Phase: rollout.StackSkipped}, "bob")
	for _, want := range []string{"payments (111122223333, eu-west-1): rolling back: bob",
		"web (111122223333, eu-west-1): will not begin, its rollback was asked for: bob"} {
		if got := out.String(); !strings.Contains(got, want) {
			t.Errorf("%q does not say %q", got, want)
		}
	}
}

// A log of a huge rollout tells of single stacks only where something is wrong, and sums up the others now and then.
func TestLogOfManyStacks(t *testing.T) {
	p := delivery()
	for i := range manyStacks {
		st := p.Stacks[1]
		st.ID = fmt.Sprintf("s%d", i)
		p.Stacks = append(p.Stacks, st)
	}
	w := watch(p)
	var out bytes.Buffer
	l := newLogLines(&out, w.course)
	w.tell = l.tell
	for i := range manyStacks {
		w.canary(fmt.Sprintf("s%d", i))
		w.wall = w.wall.Add(time.Second)
		l.tick()
	}
	w.stack("s7", rollout.StackGateFailed, rollout.Stack{Phase: rollout.StackRevertingStep}, "status checks fail")
	lines := strings.Split(strings.TrimSpace(out.String()), "\n")
	if got, want := len(lines), manyStacks/int(logInterval/time.Second)+1; got != want {
		t.Errorf("%d lines, want %d:\n%s", got, want, out.String())
	}
	if last := lines[len(lines)-1]; !strings.Contains(last, "canary broke, rolling back: status checks fail") {
		t.Errorf("the last line is %q", last)
	}
	if !strings.Contains(lines[0], "of 204 stacks done, 30 writing") {
		t.Errorf("the first line is %q", lines[0])
	}
	w.wall = w.wall.Add(time.Hour)
	l.tick()
	before := out.Len()
	w.wall = w.wall.Add(logInterval)
	l.tick()
	if out.Len() != before {
		t.Errorf("nothing has changed, but it says %q", out.String()[before:])
	}
}

// --no-wait ends a run only when nothing has gone on for a while.
func TestUnwaiting(t *testing.T) {
	w := watch(delivery())
	ctx, end := unwaiting(t.Context(), w.course, 20*time.Millisecond)
	defer end()
	w.all(rollout.Running, "hold", "x")
	<-ctx.Done()
	if !errors.Is(context.Cause(ctx), errAwaits) {
		t.Errorf("it ended for %v", context.Cause(ctx))
	}
	w = watch(delivery())
	outer, cancel := context.WithCancel(t.Context())
	ctx, end = unwaiting(outer, w.course, 20*time.Millisecond)
	defer end()
	cancel()
	<-ctx.Done()
	if errors.Is(context.Cause(ctx), errAwaits) {
		t.Error("an interrupt is taken for waiting")
	}
}

func TestGateWords(t *testing.T) {
	at := func(gate, value string) app.Reading { return app.Reading{Gate: gate, Value: value, Pass: true} }
	for _, c := range []struct {
		result app.GateResult
		want   string
	}{
		{app.GateResult{Pass: false, Reason: "status checks\n of i-1 fail"}, "status checks of i-1 fail"},
		{app.GateResult{Pass: true}, "nothing to look at"},
		{app.GateResult{Pass: true, Readings: []app.Reading{at("status-check", "0 of 0 running instances pass"),
			at("group-health", "no Auto Scaling group is concerned")}}, "nothing to look at"},
		{app.GateResult{Pass: true, Readings: []app.Reading{at("status-check", "3 of 3 running instances pass"), refused,
			at("heartbeat", "3 of 3 running instances report"), at("command smoke test", "exit 0: fine"),
			{Gate: "status-check", Value: "one of them", Subject: fleet.Ref{ID: "i-1"}, Pass: true}}},
			"0 refused in 1 instance, 3 of 3 status checks pass, 3 of 3 report, command smoke test: exit 0: fine"},
	} {
		if got := gateWords(&c.result); got != c.want {
			t.Errorf("%q, want %q", got, c.want)
		}
	}
}

func TestSplitCommand(t *testing.T) {
	for _, c := range [][3]string{
		{"wave \"x\" waits for a person: imdsctl rollout approve r --wave x", "wave \"x\" waits for a person", "imdsctl rollout approve r --wave x"},
		{"web: a person is needed for i: do it; then: imdsctl rollout done r c", "web: a person is needed for i: do it", "imdsctl rollout done r c"},
		{"outside the window: opens 22:00", "outside the window: opens 22:00", ""},
	} {
		if words, command := splitCommand(c[0]); words != c[1] || command != c[2] {
			t.Errorf("%q: %q and %q", c[0], words, command)
		}
	}
}
