package storetest

import (
	"errors"
	"testing"
	"time"

	"github.com/imdsctl/imdsctl/internal/engine"
	"github.com/imdsctl/imdsctl/internal/fleet"
	"github.com/imdsctl/imdsctl/internal/plan"
	"github.com/imdsctl/imdsctl/internal/rollout"
)

func runQueue(t *testing.T, open Open) {
	t.Run("an order's life", func(t *testing.T) { orders(t, open) })
	t.Run("a lane that is lost", func(t *testing.T) { lostLane(t, open) })
	t.Run("a seat that is lost", func(t *testing.T) { lostSeat(t, open) })
}

// order is one for change n of stack 0.
func (f *fixture) order(n int, act engine.Act) engine.Order {
	c := f.plan.Changes[n]
	return engine.Order{Rollout: f.id, Subject: c.ID, Place: c.Ref.Place, Act: act, Reason: "because", Patient: true, Unread: 2,
		Probes: []plan.Change{c}}
}

func (f *fixture) post(orders ...engine.Order) {
	f.t.Helper()
	check(f.t, f.Queue().Post(f.t.Context(), f.id, f.seat, orders, at(2)))
}

func (f *fixture) take(n int) []engine.Task {
	f.t.Helper()
	tasks, err := f.Queue().Take(f.t.Context(), f.lane, f.plan.Stacks[0].Place, n, at(2))
	check(f.t, err)
	return tasks
}

func (f *fixture) close(reports ...engine.Report) {
	f.t.Helper()
	check(f.t, f.Queue().Close(f.t.Context(), f.lane, f.plan.Stacks[0].Place, reports, at(2)))
}

func (f *fixture) collect() []engine.Report {
	f.t.Helper()
	reports, err := f.Queue().Collect(f.t.Context(), f.id, f.seat, at(2))
	check(f.t, err)
	return reports
}

func (f *fixture) outstanding() []engine.Order {
	f.t.Helper()
	out, err := f.Queue().Outstanding(f.t.Context(), f.id, at(2))
	check(f.t, err)
	return out
}

func subjects(tasks []engine.Task) []string {
	out := []string{}
	for _, t := range tasks {
		out = append(out, t.Subject)
	}
	return out
}

func orders(t *testing.T, open Open) {
	f := begun(t, open, 2, 4, 5)
	place := f.plan.Stacks[0].Place
	gate := engine.Order{Rollout: f.id, Subject: engine.GateSubject("s-0"), Place: place, Act: engine.ActGate,
		Gate: &engine.GateQuery{Stack: "web", Place: place, Moment: engine.During, Now: at(2), Rules: f.plan.Header.Rules}}
	elsewhere := engine.Order{Rollout: f.id, Subject: "c-1-0", Place: f.plan.Stacks[1].Place, Act: engine.ActForward}
	f.post(f.order(0, engine.ActForward), gate, elsewhere)
	f.post(f.order(0, engine.ActStuck), f.order(1, engine.ActSkip), f.order(1, engine.ActStuck)) // the first order of each stays
	same(t, "outstanding", f.outstanding(), []engine.Order{f.order(0, engine.ActForward), gate, elsewhere, f.order(1, engine.ActSkip)})

	tasks := f.take(2)
	same(t, "the oldest two", subjects(tasks), []string{"c-0-0", gate.Subject})
	same(t, "a task", tasks[0], engine.Task{Order: f.order(0, engine.ActForward), Change: &f.plan.Changes[0],
		State: f.load().Changes["c-0-0"]})
	same(t, "a gate's task", tasks[1], engine.Task{Order: gate})
	same(t, "the rest", subjects(f.take(9)), []string{"c-0-1"})
	same(t, "nothing twice", subjects(f.take(9)), []string{})

	f.write(0, engine.ChangeVerified)
	result := engine.GateResult{Pass: true, Readings: []engine.Reading{{Gate: "status-check", Value: "ok", Pass: true, At: at(2)}}}
	reports := []engine.Report{{Rollout: f.id, Subject: gate.Subject, Gate: &result},
		{Rollout: f.id, Subject: "c-0-0", NotBefore: at(3), Unread: true, Throttled: true}}
	f.close(reports...)
	f.close(engine.Report{Rollout: f.id, Subject: "c-0-0"}) // closed already, and stays so
	if err := f.Queue().Close(t.Context(), f.lane, place, []engine.Report{{Rollout: f.id, Subject: "c-0-3"}}, at(2)); err == nil {
		t.Error("an order that is not was closed")
	}
	if err := f.Queue().Close(t.Context(), f.lane, place, []engine.Report{{Rollout: f.id, Subject: "c-1-0"}}, at(2)); err == nil {
		t.Error("another place's order was closed")
	}
	if n := len(f.outstanding()); n != 4 {
		t.Errorf("%d outstanding after closing", n)
	}
	f.post(f.order(0, engine.ActBackward)) // a subject that has an uncollected order keeps it
	got := f.collect()
	same(t, "reports", got, []engine.Report{reports[1], reports[0]})
	if got[0].State.Phase != engine.ChangeVerified || !got[0].State.Wrote || got[1].State.ID != "" {
		t.Errorf("states: %+v", got)
	}
	if again := f.collect(); len(again) != 0 {
		t.Errorf("collected twice: %+v", again)
	}
	same(t, "left", f.outstanding(), []engine.Order{elsewhere, f.order(1, engine.ActSkip)})
	f.post(f.order(0, engine.ActBackward))
	same(t, "a new order for the subject", subjects(f.take(9)), []string{"c-0-0"})
	bad := f.order(2, engine.ActForward)
	bad.Rollout = "r-other"
	if err := f.Queue().Post(t.Context(), f.id, f.seat, []engine.Order{bad}, at(2)); err == nil {
		t.Error("another rollout's order was posted")
	}
}

// lostLane: what a lane took and did not close comes to its next holder, and the old one can do no more.
func lostLane(t *testing.T, open Open) {
	f := begun(t, open, 1, 400, 5)
	place := f.plan.Stacks[0].Place
	var many []engine.Order
	for n := range 300 {
		many = append(many, f.order(n, engine.ActForward))
	}
	f.post(many...)
	if n := len(f.take(250)); n != 250 {
		t.Fatalf("%d taken", n)
	}
	f.close(engine.Report{Rollout: f.id, Subject: "c-0-0"})
	old := f.lane
	f.lane = f.acquire(old.Key, "another", 5)
	q := f.Queue()
	if _, err := q.Take(t.Context(), old, place, 9, at(2)); !errors.Is(err, engine.ErrFenced) {
		t.Errorf("the old holder took: %v", err)
	}
	report := []engine.Report{{Rollout: f.id, Subject: "c-0-1"}}
	if err := q.Close(t.Context(), old, place, report, at(2)); !errors.Is(err, engine.ErrFenced) {
		t.Errorf("the old holder closed: %v", err)
	}
	wrong := placeOf(2, "eu-west-1")
	if _, err := q.Take(t.Context(), f.lane, wrong, 9, at(2)); err == nil {
		t.Error("a lane took another place's orders")
	}
	if err := q.Close(t.Context(), f.lane, wrong, report, at(2)); err == nil {
		t.Error("a lane closed another place's orders")
	}
	if n := len(f.take(1000)); n != 299 {
		t.Errorf("%d come to the next holder", n)
	}
}

func lostSeat(t *testing.T, open Open) {
	f := begun(t, open, 1, 3, 5)
	f.post(f.order(0, engine.ActForward))
	f.take(9)
	f.close(engine.Report{Rollout: f.id, Subject: "c-0-0"})
	old := f.seat
	f.seat = f.acquire(old.Key, "another", 5)
	q := f.Queue()
	if err := q.Post(t.Context(), f.id, old, []engine.Order{f.order(1, engine.ActForward)}, at(2)); !errors.Is(err, engine.ErrFenced) {
		t.Errorf("posted: %v", err)
	}
	if _, err := q.Collect(t.Context(), f.id, old, at(2)); !errors.Is(err, engine.ErrFenced) {
		t.Errorf("collected: %v", err)
	}
	if err := q.Post(t.Context(), f.id, f.lane, []engine.Order{f.order(1, engine.ActForward)}, at(2)); err == nil {
		t.Error("posted by a lane")
	}
	if n := len(f.outstanding()); n != 1 {
		t.Errorf("%d orders", n)
	}
	if reports := f.collect(); len(reports) != 1 {
		t.Errorf("reports: %+v", reports)
	}
}

// person is a plan with a follow-up and two manual changes after the canary's change.
func person(t testing.TB) *plan.Plan {
	return edited(t, Plan(t, 2, 4, 5), func(p *plan.Plan) {
		for n, class := range map[int]plan.Class{1: plan.ClassManual, 2: plan.ClassManual, 3: plan.ClassStart} {
			c := &p.Changes[n]
			c.Class, c.Ref.Kind, c.Ref.ID, c.Needs, c.Before, c.After = class, plan.KindFollowUp, c.ID, []string{"c-0-0"}, nil, nil
			c.Step, c.Action = 0, "restart"
		}
		p.Stacks[0].Steps[0].Changes, p.Stacks[0].Steps[1].Changes = 4, 0
	})
}

func manual(t *testing.T, open Open) {
	f := begunWith(t, open, person(t))
	if _, err := f.Admit(t.Context(), f.admission(1, engine.Forward)); !errors.Is(err, engine.ErrNotAdmitted) {
		t.Errorf("a manual change was admitted: %v", err)
	}
	f.write(3, engine.ChangeVerified) // the other follow-up is written
	if m := f.control().Manual; m != nil {
		t.Errorf("nobody has spoken: %+v", m)
	}
	version := f.control().Version
	complete := func(change string, done bool) error {
		return f.CompleteManual(t.Context(), f.request(), change, done)
	}
	mustSay(t, complete("c-0-0", true), "not a manual one", "c-0-1, c-0-2")
	mustSay(t, complete("c-9-9", true), "no change c-9-9", "c-0-1, c-0-2")
	check(t, complete("c-0-1", true))
	mustSay(t, complete("c-0-1", false), "is verified already", "to be made: c-0-2.")
	check(t, complete("c-0-2", false))
	mustSay(t, complete("c-0-2", true), "is failed already", "No manual change")
	c := f.control()
	same(t, "manual", c.Manual, map[string]engine.ChangeState{
		"c-0-1": {ID: "c-0-1", Phase: engine.ChangeVerified, Reason: "bob: lunch", Updated: at(4)},
		"c-0-2": {ID: "c-0-2", Phase: engine.ChangeFailed, Reason: "bob: lunch", Updated: at(4)}})
	if c.Version <= version {
		t.Error("the control's version stays")
	}
	same(t, "the record", f.load().Changes["c-0-1"], c.Manual["c-0-1"])
	last := f.lastEvents(2)
	if last[0].Name != "manual-done" || last[1].Name != "manual-failed" || last[1].Actor != "bob" || last[1].Stack != "s-0" ||
		last[1].Chain != engine.LaneKey(f.plan.Stacks[0].Place) {
		t.Errorf("events: %+v", last)
	}
	f.step("s-0", rollout.StackUndo)
	if _, err := f.Admit(t.Context(), f.admission(3, engine.Backward)); !errors.Is(err, engine.ErrNotAdmitted) {
		t.Errorf("a follow-up is put back: %v", err)
	}
	err := f.CompleteManual(t.Context(), f.request(), "c-9-9", true)
	mustSay(t, err, "c-9-9")
}

func accountBudget(t *testing.T, open Open) {
	// Two places of one account, one of another; two intents in all but one for an account.
	p := edited(t, Plan(t, 3, 3, 2), func(p *plan.Plan) {
		p.Header.Rules.MaxInFlightAccount = 1
		other := fleet.Place{Partition: fleet.PartitionAWS, Account: p.Stacks[0].Place.Account, Region: "us-east-1"}
		p.Stacks[1].Place = other
		for i := range p.Changes {
			if p.Changes[i].Stack == "s-1" {
				p.Changes[i].Ref.Place = other
			}
		}
	})
	f := begunWith(t, open, p)
	for _, s := range []string{"s-1", "s-2"} {
		f.step(s, rollout.StackStart)
		f.step(s, rollout.StackClear)
	}
	ask := func(change int) error {
		t.Helper()
		a := f.admission(change, engine.Forward)
		a.Lane = f.acquire(engine.LaneKey(a.Change.Ref.Place), "worker", 0)
		if change == 0 {
			f.lane = a.Lane
		}
		_, err := f.Admit(t.Context(), a)
		return err
	}
	check(t, ask(0))
	if err := ask(3); !errors.Is(err, engine.ErrNotAdmitted) {
		t.Errorf("a second intent in the account: %v", err)
	}
	check(t, ask(6)) // another account
	in, open0, err := f.OpenIntent(t.Context(), f.id, "c-0-0")
	if err != nil || !open0 {
		t.Fatal("the first intent is not open")
	}
	f.settle(0, in.ID, engine.ChangeVerified, true)
	check(t, ask(3))

	// No bounds at all.
	f = begunWith(t, open, Plan(t, 1, 3, 0))
	_, err = f.Admit(t.Context(), f.admission(0, engine.Forward))
	check(t, err)
}

func waves(t *testing.T, open Open) {
	f := begun(t, open, 2, 3, 5)
	version := f.control().Version
	mustSay(t, f.ApproveWave(t.Context(), f.request(), "third"), `no wave "third"`, "first", "second (waits for approval)")
	check(t, f.ApproveWave(t.Context(), f.request(), "second"))
	c := f.control()
	same(t, "waves", c.Waves, map[string]string{"second": "bob: lunch"})
	same(t, "record", f.load().Waves, c.Waves)
	if c.Version <= version {
		t.Error("the control's version stays")
	}
	again := f.request()
	again.Actor = "eve"
	check(t, f.ApproveWave(t.Context(), again, "second"))
	same(t, "approved again", f.control(), c)
	if e := f.lastEvents(1)[0]; e.Name != "approve-wave" || e.Actor != "bob" || e.Detail["wave"] != "second" || e.Chain != "" {
		t.Errorf("event: %+v", e)
	}
	f.id = "r-none"
	if err := f.ApproveWave(t.Context(), f.request(), "second"); err == nil {
		t.Error("a wave of a rollout that is not")
	}
}

func stopping(t *testing.T, open Open) {
	f := begun(t, open, 1, 3, 5)
	version := f.control().Version
	mustSay(t, f.AllowAll(t.Context(), "bob", "", at(2)), "nothing is stopped")
	check(t, f.StopAll(t.Context(), "bob", "fire", at(2)))
	c := f.control()
	if c.Stop != "bob: fire" || f.load().Stop != c.Stop || c.Version <= version || c.Status != rollout.Running {
		t.Errorf("stopped: %+v", c)
	}
	if who, err := f.Stopped(t.Context()); err != nil || who != c.Stop {
		t.Errorf("stopped by %q: %v", who, err)
	}
	later := Plan(t, 2, 2, 5)
	Approved(t, f.Store, later)
	r, err := f.Begin(t.Context(), later, at(3))
	check(t, err)
	if r.Stop != c.Stop {
		t.Errorf("a rollout that begins later: %+v", r)
	}
	unfinished, err := f.Unfinished(t.Context())
	check(t, err)
	same(t, "unfinished", unfinished, []string{f.id, r.ID})
	check(t, f.StopAll(t.Context(), "ann", "", at(4)))
	check(t, f.AllowAll(t.Context(), "bob", "out", at(5)))
	if after := f.control(); after.Stop != "" || after.Version <= c.Version {
		t.Errorf("allowed: %+v", after)
	}
	_, err = f.Admit(t.Context(), f.admission(0, engine.Forward))
	check(t, err)
	count := map[string]int{}
	for e, err := range f.Events(t.Context(), "", 0) {
		check(t, err)
		if e.Name == "stop" || e.Name == "allow" {
			count[e.Rollout+" "+e.Name+" "+e.Actor+" "+e.Reason]++
		}
	}
	same(t, "events", count, map[string]int{f.id + " stop bob fire": 1, f.id + " stop ann ": 1, f.id + " allow bob out": 1,
		r.ID + " stop ann ": 1, r.ID + " allow bob out": 1})
}

// clockOf: the database knows the time.
func clockOf(t *testing.T, open Open) {
	f := begun(t, open, 1, 2, 5)
	first, err := f.Now(t.Context())
	check(t, err)
	second, err := f.Now(t.Context())
	check(t, err)
	if first.IsZero() || second.Before(first) || first.Location() != time.UTC {
		t.Errorf("%s, then %s", first, second)
	}
}
