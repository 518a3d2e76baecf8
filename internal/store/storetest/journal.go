package storetest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/imdsctl/imdsctl/internal/engine"
	"github.com/imdsctl/imdsctl/internal/fleet"
	"github.com/imdsctl/imdsctl/internal/inventory"
	"github.com/imdsctl/imdsctl/internal/plan"
	"github.com/imdsctl/imdsctl/internal/rollout"
	"github.com/imdsctl/imdsctl/internal/store"
)

// Plan makes a plan of stacks "s-0", "s-1", … in places of their own, each with a canary step of one change and a fleet step
// of the rest. Changes are "c-<stack>-<n>".
func Plan(t testing.TB, stacks, changes, maxInFlight int) *plan.Plan {
	t.Helper()
	p := &plan.Plan{Header: plan.Header{Format: plan.FormatVersion, Created: at(0), Tool: "test", Taken: at(-1),
		Waves: []plan.Wave{{Name: "first", Accounts: []fleet.AccountID{"000000000001"}}, {Name: "second", Approval: true}},
		Rules: plan.Rules{MaxInFlight: maxInFlight, MaxFailures: 1, MetricDelay: time.Minute}}}
	for i := range stacks {
		place := placeOf(i+1, "eu-west-1")
		id := fmt.Sprintf("s-%d", i)
		p.Stacks = append(p.Stacks, plan.Stack{ID: id, Name: "web & co", Place: place, Steps: []plan.Step{
			{Name: "canary", Stage: plan.StageFleet, Changes: 1, Bake: time.Hour},
			{Name: "fleet", Stage: plan.StageFleet, Changes: changes - 1, Bake: time.Hour}}})
		for n := range changes {
			p.Changes = append(p.Changes, plan.Change{ID: fmt.Sprintf("c-%d-%d", i, n),
				Ref:    fleet.Ref{Place: place, Kind: inventory.KindInstance, ID: fmt.Sprintf("i-%d", n)},
				Action: "set-options", Class: plan.ClassSet, Stack: id, Step: min(n, 1), Canary: n == 0,
				Before: fleet.State{fleet.FieldTokens: "optional"}, After: fleet.State{fleet.FieldTokens: "required"},
				Undo: "full", Disruption: "none", Why: "v1 is not called", Calls: map[string]int{"ec2:ModifyInstanceMetadataOptions": 1}})
		}
	}
	p.Manuals = []plan.Manual{{Ref: p.Changes[0].Ref, Reason: "by hand", Remedy: "do it"}}
	p.Exempt = []plan.Exempt{{Ref: p.Changes[0].Ref, Owner: "ann", Reason: "vendor", Expires: "2026-12-31"}}
	check(t, plan.Write(io.Discard, p))
	return p
}

// Approved makes a plan known and approved.
func Approved(t testing.TB, s *store.Store, p *plan.Plan) {
	t.Helper()
	check(t, s.PutPlan(t.Context(), p.Digest, p.Header, "plan.json", at(0)))
	_, err := s.Approve(t.Context(), p.Digest, "ann", "reviewed", at(0))
	check(t, err)
}

func runPlans(t *testing.T, open Open) {
	t.Run("approval", func(t *testing.T) {
		s, p := open(t, store.Options{}), Plan(t, 1, 2, 5)
		_, err := s.Approve(t.Context(), p.Digest, "ann", "", at(0))
		mustSay(t, err, "no plan with the digest", "Make a plan first")
		_, err = s.Begin(t.Context(), p, at(0))
		if !errors.Is(err, engine.ErrNotApproved) {
			t.Fatalf("an unapproved plan: %v", err)
		}
		check(t, s.PutPlan(t.Context(), p.Digest, p.Header, "old.json", at(0)))
		check(t, s.PutPlan(t.Context(), p.Digest, p.Header, "new.json", at(1)))
		other := Plan(t, 2, 2, 5)
		_, err = s.Approve(t.Context(), other.Digest, "ann", "", at(0))
		mustSay(t, err, other.Digest, p.Digest, "new.json")
		_, err = s.Approve(t.Context(), p.Digest[:8], "ann", "", at(0))
		mustSay(t, err, "too short")
		if list, err := s.Approvals(t.Context(), ""); err != nil || len(list) != 0 {
			t.Fatalf("refused approvals are on record: %v %v", list, err)
		}
		whole, err := s.Approve(t.Context(), p.Digest[:12], "ann", "looks right", at(2))
		check(t, err)
		if whole != p.Digest {
			t.Errorf("approved %s", whole)
		}
		list, err := s.Approvals(t.Context(), p.Digest)
		check(t, err)
		same(t, "approvals", list, []store.Approval{{Digest: p.Digest, Actor: "ann", Reason: "looks right", At: at(2)}})
		plans, err := s.Plans(t.Context())
		check(t, err)
		if len(plans) != 1 || plans[0].Path != "new.json" || plans[0].Header.Rules.MaxInFlight != 5 {
			t.Errorf("plans: %+v", plans)
		}
	})
	t.Run("an edited plan", func(t *testing.T) {
		s, p := open(t, store.Options{}), Plan(t, 1, 2, 5)
		Approved(t, s, p)
		p.Changes[0].After = fleet.State{fleet.FieldEndpoint: "disabled"}
		if _, err := s.Begin(t.Context(), p, at(0)); !errors.Is(err, plan.ErrEdited) {
			t.Errorf("an edited plan began: %v", err)
		}
		if list, err := s.List(t.Context()); err != nil || len(list) != 0 {
			t.Errorf("a refused plan left %v %v", list, err)
		}
	})
}

func mustSay(t testing.TB, err error, words ...string) {
	t.Helper()
	if _, ok := errors.AsType[fleet.Diagnostic](err); !ok {
		t.Fatalf("%v is no diagnostic", err)
	}
	for _, w := range words {
		if !strings.Contains(err.Error(), w) {
			t.Errorf("the message does not say %q: %v", w, err)
		}
	}
}

// fixture is a rollout whose stack s-0 applies its canary step.
type fixture struct {
	*store.Store
	t    testing.TB
	plan *plan.Plan
	id   string
	lane engine.Lease
	seat engine.Lease
}

func begun(t testing.TB, open Open, stacks, changes, budget int) *fixture {
	t.Helper()
	return begunWith(t, open, Plan(t, stacks, changes, budget))
}

// edited is a plan with something else in it, and its digest.
func edited(t testing.TB, p *plan.Plan, edit func(p *plan.Plan)) *plan.Plan {
	t.Helper()
	edit(p)
	check(t, plan.Write(io.Discard, p))
	return p
}

func begunWith(t testing.TB, open Open, p *plan.Plan) *fixture {
	t.Helper()
	s := open(t, store.Options{})
	Approved(t, s, p)
	r, err := s.Begin(t.Context(), p, at(0))
	check(t, err)
	f := &fixture{Store: s, t: t, plan: p, id: r.ID}
	f.lane = f.acquire(engine.LaneKey(p.Stacks[0].Place), "worker", 0)
	f.seat = f.acquire(engine.SeatKey(f.id), "coordinator", 0)
	f.step("s-0", rollout.StackStart)
	f.step("s-0", rollout.StackClear)
	return f
}

func (f *fixture) acquire(key, holder string, hour int) engine.Lease {
	f.t.Helper()
	lease, err := f.Acquire(f.t.Context(), key, holder, at(hour), time.Hour)
	check(f.t, err)
	return lease
}

func (f *fixture) load() *engine.Record {
	f.t.Helper()
	r, err := f.Load(f.t.Context(), f.id)
	check(f.t, err)
	return r
}

// step takes a stack one event further.
func (f *fixture) step(stack string, e rollout.StackEvent) {
	f.t.Helper()
	from := f.load().Stacks[stack]
	to, ok := rollout.Next(from, e, "", rollout.Wait{Bake: time.Hour}, at(1))
	if !ok {
		f.t.Fatalf("%s has no %s", from.Phase, e)
	}
	check(f.t, f.Move(f.t.Context(), f.id, f.seat, []engine.Move{{Stack: stack, From: from, To: to, Event: string(e)}}, at(1)))
}

func (f *fixture) admission(change int, d engine.Direction) engine.Admission {
	return engine.Admission{Rollout: f.id, Change: &f.plan.Changes[change], Direction: d, Lane: f.lane, Token: "tok", Now: at(2),
		Lease: time.Minute}
}

func (f *fixture) settle(change int, intent int64, phase engine.ChangePhase, wrote bool) {
	f.t.Helper()
	check(f.t, f.Settle(f.t.Context(), engine.Settlement{Rollout: f.id, Change: f.plan.Changes[change].ID, Intent: intent, Lane: f.lane,
		Phase: phase, Wrote: wrote, Outputs: map[string]string{"Version": "4"}, RequestID: "req", Now: at(3)}))
}

// write carries a change from admission to outcome.
func (f *fixture) write(change int, phase engine.ChangePhase) {
	f.t.Helper()
	in, err := f.Admit(f.t.Context(), f.admission(change, engine.Forward))
	check(f.t, err)
	f.settle(change, in.ID, phase, true)
}

func runJournal(t *testing.T, open Open) {
	t.Run("begin and load", func(t *testing.T) { beginAndLoad(t, open) })
	t.Run("admit", func(t *testing.T) { admit(t, open) })
	t.Run("refusals of admit", func(t *testing.T) { refusals(t, open) })
	t.Run("settle", func(t *testing.T) { settle(t, open) })
	t.Run("move", func(t *testing.T) { move(t, open) })
	t.Run("undo makes stuck changes due again", func(t *testing.T) { unstick(t, open) })
	t.Run("events", func(t *testing.T) { events(t, open) })
	t.Run("budget of an account", func(t *testing.T) { accountBudget(t, open) })
	t.Run("what an intent says", func(t *testing.T) { said(t, open) })
	t.Run("export", func(t *testing.T) { export(t, open) })
	t.Run("many goroutines keep the budget", func(t *testing.T) { crowd(t, open) })
}

func beginAndLoad(t *testing.T, open Open) {
	s, p := open(t, store.Options{}), Plan(t, 2, 3, 5)
	Approved(t, s, p)
	first, err := s.Begin(t.Context(), p, at(1))
	check(t, err)
	if first.Status != rollout.Running || first.Digest != p.Digest || first.Approved != "ann" || !first.Created.Equal(at(1)) {
		t.Errorf("record: %+v", first)
	}
	if len(first.Stacks) != 2 || first.Stacks["s-0"].Phase != rollout.StackWaiting || len(first.Changes) != 6 ||
		first.Changes["c-1-2"].Phase != engine.ChangePending {
		t.Errorf("stacks and changes: %+v", first)
	}
	again, err := s.Begin(t.Context(), p, at(9))
	check(t, err)
	same(t, "begun again", again, first)
	got, err := s.Plan(t.Context(), first.ID)
	check(t, err)
	same(t, "plan", got, p)
	check(t, plan.Write(io.Discard, got))
	if got.Digest != p.Digest {
		t.Error("the plan that comes back has another digest")
	}
	if _, err := s.Load(t.Context(), "r-none"); !errors.Is(err, store.ErrUnknownRollout) {
		t.Errorf("an unknown rollout: %v", err)
	}
	list, err := s.List(t.Context())
	check(t, err)
	if len(list) != 1 || list[0].Stacks[rollout.StackWaiting] != 2 || list[0].Changes[engine.ChangePending] != 6 {
		t.Errorf("list: %+v", list)
	}
}

func admit(t *testing.T, open Open) {
	f := begun(t, open, 1, 3, 5)
	in, err := f.Admit(t.Context(), f.admission(0, engine.Forward))
	check(t, err)
	want := engine.Intent{ID: in.ID, Rollout: f.id, Change: "c-0-0", Place: f.plan.Stacks[0].Place, Direction: engine.Forward, Attempt: 1,
		Token: "tok", Epoch: f.lane.Epoch, Opened: at(2), LeaseUntil: at(2).Add(time.Minute)}
	same(t, "intent", in, want)
	opened, ok, err := f.OpenIntent(t.Context(), f.id, "c-0-0")
	check(t, err)
	same(t, "open intent", []any{opened, ok}, []any{want, true})
	if in, ok, err := f.OpenIntent(t.Context(), f.id, "c-0-1"); ok || err != nil {
		t.Errorf("an intent that is not: %+v %v", in, err)
	}
	if c := f.load().Changes["c-0-0"]; c.Phase != engine.ChangeOpen || c.Attempt != 1 || !c.Updated.Equal(at(2)) {
		t.Errorf("change: %+v", c)
	}
	f.settle(0, in.ID, engine.ChangePending, false) // to be tried again
	tries := func(want int) {
		t.Helper()
		if n, err := f.Tries(t.Context(), f.id, "c-0-0"); n != want || err != nil {
			t.Errorf("%d tries, not %d: %v", n, want, err)
		}
	}
	tries(1)
	for _, class := range engine.PutOff() {
		in, err = f.Admit(t.Context(), f.admission(0, engine.Forward))
		check(t, err)
		tries(1)
		check(t, f.Settle(t.Context(), engine.Settlement{Rollout: f.id, Intent: in.ID, Change: "c-0-0", Lane: f.lane,
			Phase: engine.ChangePending, Class: class, Now: at(3)}))
	}
	tries(1) // the others say nothing of the change
	in, err = f.Admit(t.Context(), f.admission(0, engine.Forward))
	check(t, err)
	if want := 2 + len(engine.PutOff()); in.Attempt != want {
		t.Errorf("attempt %d has number %d", want, in.Attempt)
	}
}

// refusals goes through every reason for which no intent may start, and checks that nothing was recorded.
func refusals(t *testing.T, open Open) {
	tests := []struct {
		name   string
		change int
		dir    engine.Direction
		setUp  func(f *fixture, a *engine.Admission)
		want   error // nil: any other error
	}{
		{"paused", 0, engine.Forward, func(f *fixture, _ *engine.Admission) { f.pause() }, engine.ErrNotAdmitted},
		{"paused, backward", 0, engine.Backward, func(f *fixture, _ *engine.Admission) {
			f.write(0, engine.ChangeVerified)
			f.step("s-0", rollout.StackUndo)
			f.pause()
		}, engine.ErrNotAdmitted},
		{"rolling back, forward", 0, engine.Forward, func(f *fixture, _ *engine.Admission) {
			_, err := f.RequestUndo(f.t.Context(), f.request(), "")
			check(f.t, err)
		}, engine.ErrNotAdmitted},
		{"stack baking", 0, engine.Forward, func(f *fixture, _ *engine.Admission) { f.step("s-0", rollout.StackStepWritten) },
			engine.ErrNotAdmitted},
		{"stack reverting, forward", 0, engine.Forward, func(f *fixture, _ *engine.Admission) { f.step("s-0", rollout.StackUndo) },
			engine.ErrNotAdmitted},
		{"a later step", 1, engine.Forward, func(*fixture, *engine.Admission) {}, engine.ErrNotAdmitted},
		{"a waiting stack", 3, engine.Forward, func(f *fixture, a *engine.Admission) {
			a.Lane = f.acquire(engine.LaneKey(f.plan.Stacks[1].Place), "worker", 0)
		}, engine.ErrNotAdmitted},
		{"a checking stack", 3, engine.Forward, func(f *fixture, a *engine.Admission) {
			f.step("s-1", rollout.StackStart)
			a.Lane = f.acquire(engine.LaneKey(f.plan.Stacks[1].Place), "worker", 0)
		}, engine.ErrNotAdmitted},
		{"everything stopped", 0, engine.Forward, func(f *fixture, _ *engine.Admission) {
			check(f.t, f.StopAll(f.t.Context(), "bob", "fire", at(2)))
		}, engine.ErrNotAdmitted},
		{"everything stopped, backward", 0, engine.Backward, func(f *fixture, _ *engine.Admission) {
			f.write(0, engine.ChangeVerified)
			f.step("s-0", rollout.StackUndo)
			check(f.t, f.StopAll(f.t.Context(), "bob", "fire", at(2)))
		}, engine.ErrNotAdmitted},
		{"backward while applying", 0, engine.Backward, func(f *fixture, _ *engine.Admission) { f.write(0, engine.ChangeVerified) },
			engine.ErrNotAdmitted},
		{"reverting a step, another step's change", 0, engine.Backward, func(f *fixture, _ *engine.Admission) {
			f.write(0, engine.ChangeVerified)
			f.step("s-0", rollout.StackStepWritten)
			f.step("s-0", rollout.StackStepPassed)
			f.step("s-0", rollout.StackGateFailed)
		}, engine.ErrNotAdmitted},
		{"nothing written to put back", 0, engine.Backward, func(f *fixture, _ *engine.Admission) {
			f.settle(0, 0, engine.ChangeVerified, false)
			f.step("s-0", rollout.StackUndo)
		}, engine.ErrNotAdmitted},
		{"put back already", 0, engine.Backward, func(f *fixture, _ *engine.Admission) {
			f.write(0, engine.ChangeReverted)
			f.step("s-0", rollout.StackUndo)
		}, engine.ErrNotAdmitted},
		{"verified already", 0, engine.Forward, func(f *fixture, _ *engine.Admission) { f.write(0, engine.ChangeVerified) },
			engine.ErrNotAdmitted},
		{"in conflict", 0, engine.Forward, func(f *fixture, _ *engine.Admission) { f.settle(0, 0, engine.ChangeConflict, false) },
			engine.ErrNotAdmitted},
		{"open already", 0, engine.Forward, func(f *fixture, _ *engine.Admission) {
			_, err := f.Admit(f.t.Context(), f.admission(0, engine.Forward))
			check(f.t, err)
		}, engine.ErrNotAdmitted},
		{"budget used up", 2, engine.Forward, func(f *fixture, _ *engine.Admission) {
			f.write(0, engine.ChangeVerified)
			f.step("s-0", rollout.StackStepWritten)
			f.step("s-0", rollout.StackStepPassed)
			_, err := f.Admit(f.t.Context(), f.admission(1, engine.Forward))
			check(f.t, err)
		}, engine.ErrNotAdmitted},
		{"lane taken over", 0, engine.Forward, func(f *fixture, _ *engine.Admission) {
			f.acquire(f.lane.Key, "other", 5)
		}, engine.ErrFenced},
		{"lane given up", 0, engine.Forward, func(f *fixture, _ *engine.Admission) {
			_, err := f.Release(f.t.Context(), f.lane, at(2))
			check(f.t, err)
		}, engine.ErrFenced},
		{"lane of another place", 0, engine.Forward, func(f *fixture, a *engine.Admission) {
			a.Lane.Key = engine.LaneKey(placeOf(2, "eu-west-1"))
		}, nil},
		{"the seat instead of the lane", 0, engine.Forward, func(f *fixture, a *engine.Admission) { a.Lane = f.seat }, nil},
		{"another change under an approved id", 0, engine.Forward, func(f *fixture, a *engine.Admission) {
			forged := *a.Change
			forged.Ref.ID = "i-other"
			a.Change = &forged
		}, nil},
		{"no such change", 0, engine.Forward, func(f *fixture, a *engine.Admission) {
			forged := *a.Change
			forged.ID = "c-none"
			a.Change = &forged
		}, nil},
		{"no such rollout", 0, engine.Forward, func(f *fixture, a *engine.Admission) { a.Rollout = "r-none" }, nil},
		{"no lease", 0, engine.Forward, func(f *fixture, a *engine.Admission) { a.Lease = 0 }, nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			f := begun(t, open, 2, 3, 1)
			a := f.admission(tt.change, tt.dir)
			tt.setUp(f, &a)
			before, events := f.load(), f.count()
			_, err := f.Admit(t.Context(), a)
			if err == nil || (tt.want != nil && !errors.Is(err, tt.want)) ||
				(tt.want == nil && (errors.Is(err, engine.ErrNotAdmitted) || errors.Is(err, engine.ErrFenced))) {
				t.Fatalf("want %v, got %v", tt.want, err)
			}
			same(t, "the record after a refusal", f.load(), before)
			if n := f.count(); n != events {
				t.Errorf("a refusal left %d events", n-events)
			}
		})
	}
}

func (f *fixture) request() store.Request {
	return store.Request{Rollout: f.id, Actor: "bob", Reason: "lunch", Now: at(4)}
}

func (f *fixture) pause() {
	f.t.Helper()
	_, err := f.Pause(f.t.Context(), f.request())
	check(f.t, err)
}

func (f *fixture) count() int {
	f.t.Helper()
	n := 0
	for _, err := range f.Events(f.t.Context(), f.id, 0) {
		check(f.t, err)
		n++
	}
	return n
}

func settle(t *testing.T, open Open) {
	f := begun(t, open, 1, 3, 5)
	in, err := f.Admit(t.Context(), f.admission(0, engine.Forward))
	check(t, err)
	s := engine.Settlement{Rollout: f.id, Change: "c-0-0", Intent: in.ID, Lane: f.lane, Phase: engine.ChangeVerified, Wrote: true,
		Outputs: map[string]string{"Version": "4"}, Reason: "read back", Found: fleet.State{"a": "b"}, Now: at(3)}
	refused := func(name string, edit func(s *engine.Settlement), want error) {
		t.Helper()
		bad := s
		edit(&bad)
		if err := f.Settle(t.Context(), bad); err == nil || (want != nil && !errors.Is(err, want)) {
			t.Errorf("%s: %v", name, err)
		}
		if c := f.load().Changes["c-0-0"]; c.Phase != engine.ChangeOpen {
			t.Errorf("%s changed the phase to %s", name, c.Phase)
		}
	}
	refused("without its intent", func(s *engine.Settlement) { s.Intent = 0 }, nil)
	refused("another change's intent", func(s *engine.Settlement) { s.Change = "c-0-1" }, nil)
	refused("an intent that is not", func(s *engine.Settlement) { s.Intent += 100 }, nil)
	refused("a fenced lane", func(s *engine.Settlement) { s.Lane.Epoch-- }, engine.ErrFenced)
	refused("no outcome", func(s *engine.Settlement) { s.Phase = engine.ChangeOpen }, nil)

	// Who resumes after a crash settles under a new epoch.
	f.lane = f.acquire(f.lane.Key, "worker", 3)
	refused("the epoch of the intent", func(*engine.Settlement) {}, engine.ErrFenced)
	s.Lane = f.lane
	check(t, f.Settle(t.Context(), s))
	if err := f.Settle(t.Context(), s); !errors.Is(err, store.ErrSettled) {
		t.Errorf("settled twice: %v", err)
	}
	same(t, "change", f.load().Changes["c-0-0"], engine.ChangeState{ID: "c-0-0", Phase: engine.ChangeVerified, Wrote: true,
		Outputs: map[string]string{"Version": "4"}, Attempt: 1, Reason: "read back", Updated: at(3)})
	if in, open, err := f.OpenIntent(t.Context(), f.id, "c-0-0"); err != nil || open {
		t.Errorf("open after settling: %v %v", in, err)
	}
	check(t, f.Settle(t.Context(), engine.Settlement{Rollout: f.id, Change: "c-0-1", Lane: f.lane, Phase: engine.ChangeConflict,
		Reason: "hop limit 3", Now: at(3)}))
	if c := f.load().Changes["c-0-1"]; c.Phase != engine.ChangeConflict || c.Wrote || c.Attempt != 0 {
		t.Errorf("a change that needed no intent: %+v", c)
	}

	// The way back keeps the outputs, which undoing may need.
	f.step("s-0", rollout.StackUndo)
	back, err := f.Admit(t.Context(), f.admission(0, engine.Backward))
	check(t, err)
	check(t, f.Settle(t.Context(), engine.Settlement{Rollout: f.id, Change: "c-0-0", Intent: back.ID, Lane: f.lane,
		Phase: engine.ChangeReverted, Wrote: true, Now: at(4)}))
	if c := f.load().Changes["c-0-0"]; c.Phase != engine.ChangeReverted || c.Outputs["Version"] != "4" || c.Attempt != 2 {
		t.Errorf("reverted: %+v", c)
	}
}

func move(t *testing.T, open Open) {
	f := begun(t, open, 2, 3, 5)
	applying := f.load().Stacks["s-0"]
	waiting := f.load().Stacks["s-1"]
	baking, _ := rollout.Next(applying, rollout.StackStepWritten, "", rollout.Wait{Bake: time.Hour}, at(2))
	skipped, _ := rollout.Next(waiting, rollout.StackPredecessor, "s-0 failed", rollout.Wait{}, at(2))
	good := []engine.Move{
		{Stack: "s-0", From: applying, To: baking, Event: string(rollout.StackStepWritten)},
		{Stack: "s-1", From: waiting, To: skipped, Event: string(rollout.StackPredecessor)},
		{Status: [2]rollout.Status{rollout.Running, rollout.Halting}, Event: string(rollout.StackFailure), Reason: "s-1"},
	}
	before, control := f.load(), f.control()
	refused := func(name string, want error, edit func(m []engine.Move)) {
		t.Helper()
		moves := slices.Clone(good)
		edit(moves)
		if err := f.Move(t.Context(), f.id, f.seat, moves, at(2)); err == nil || (want != nil && !errors.Is(err, want)) {
			t.Errorf("%s: %v", name, err)
		}
		same(t, name+" left something", f.load(), before)
	}
	refused("stale phase", engine.ErrMoved, func(m []engine.Move) { m[1].From.Phase, m[1].Event = rollout.StackApplying, "undo" })
	refused("stale step", engine.ErrMoved, func(m []engine.Move) { m[0].From.Step = 1 })
	refused("stale due time", engine.ErrMoved, func(m []engine.Move) { m[0].From.Since = at(99) })
	refused("stale status", engine.ErrMoved, func(m []engine.Move) { m[2].Status[0] = rollout.Paused })
	refused("not in the stack's table", nil, func(m []engine.Move) { m[0].To.Phase = rollout.StackDone })
	refused("not in the rollout's table", nil, func(m []engine.Move) { m[2].Status[1] = rollout.Done })
	refused("no such stack", nil, func(m []engine.Move) { m[0].Stack = "s-9" })

	seat := f.seat
	f.seat.Epoch++
	refused("an epoch that is not", engine.ErrFenced, func([]engine.Move) {})
	f.seat = f.lane
	refused("a lane instead of the seat", nil, func([]engine.Move) {})
	f.seat = f.acquire(seat.Key, "another", 9)
	if err := f.Move(t.Context(), f.id, seat, good, at(2)); !errors.Is(err, engine.ErrFenced) {
		t.Errorf("who has lost the seat: %v", err)
	}
	check(t, f.Move(t.Context(), f.id, f.seat, good, at(2)))
	after := f.load()
	same(t, "s-0", after.Stacks["s-0"], baking)
	same(t, "s-1", after.Stacks["s-1"], skipped)
	if after.Status != rollout.Halting || after.Reason != "s-1" || !after.Updated.Equal(at(2)) {
		t.Errorf("rollout: %s %q", after.Status, after.Reason)
	}
	if c := f.control(); c.Version <= control.Version || c.Status != rollout.Halting {
		t.Errorf("control: %+v after %+v", c, control)
	}
}

func (f *fixture) control() engine.Control {
	f.t.Helper()
	c, err := f.Control(f.t.Context(), f.id)
	check(f.t, err)
	return c
}

func unstick(t *testing.T, open Open) {
	f := begun(t, open, 1, 3, 5)
	f.write(0, engine.ChangeStuck)
	f.step("s-0", rollout.StackUndo)
	if p := f.load().Changes["c-0-0"].Phase; p != engine.ChangeVerified {
		t.Errorf("a stuck change is %s after undo", p)
	}
	in, err := f.Admit(t.Context(), f.admission(0, engine.Backward))
	check(t, err)
	f.settle(0, in.ID, engine.ChangeReverted, true)
	f.settle(0, 0, engine.ChangeStuck, false)
	if c := f.load().Changes["c-0-0"]; !c.Wrote {
		t.Error("that the change was written is forgotten")
	}
}

func events(t *testing.T, open Open) {
	f := begun(t, open, 2, 3, 5)
	f.write(0, engine.ChangeVerified)
	check(t, f.Note(t.Context(), f.id, "s-0", "gate", map[string]string{"reading": "0"}, at(3)))
	check(t, f.Note(t.Context(), f.id, "", "remark", nil, at(3)))
	if err := f.Note(t.Context(), f.id, "s-9", "gate", nil, at(3)); err == nil {
		t.Error("a note on a stack that is not")
	}
	f.pause()
	var names []string
	seq := map[string]int64{}
	var last store.Event
	for e, err := range f.Events(t.Context(), f.id, 0) {
		check(t, err)
		names = append(names, e.Name)
		if seq[e.Chain]++; e.Seq != seq[e.Chain] {
			t.Errorf("event %s has number %d in chain %q", e.Name, e.Seq, e.Chain)
		}
		last = e
	}
	same(t, "events", names, []string{"begin", "approve", "start", "clear", "intent", "outcome", "gate", "remark", "pause"})
	if last.Actor != "bob" || last.Reason != "lunch" || last.Detail["to"] != "paused" {
		t.Errorf("the pause: %+v", last)
	}
	for e, err := range f.Events(t.Context(), f.id, last.ID-1) {
		check(t, err)
		if e.ID != last.ID {
			t.Errorf("event %d after %d", e.ID, last.ID-1)
		}
	}
	for _, id := range []string{"", f.id} {
		followed, broken, err := f.VerifyChain(t.Context(), id)
		check(t, err)
		if broken != nil || followed != (store.Followed{Events: 9, Chains: 2}) {
			t.Errorf("an honest journal: %+v %v", followed, broken)
		}
	}
	if _, _, err := f.VerifyChain(t.Context(), "r-none"); !errors.Is(err, store.ErrUnknownRollout) {
		t.Errorf("a rollout that is not: %v", err)
	}
}

// lastEvents are the last n of the rollout.
func (f *fixture) lastEvents(n int) []store.Event {
	f.t.Helper()
	var all []store.Event
	for e, err := range f.Events(f.t.Context(), f.id, 0) {
		check(f.t, err)
		all = append(all, e)
	}
	return all[len(all)-n:]
}

// said: the journal tells of each write what, from what to what, on which evidence and on whose word.
func said(t *testing.T, open Open) {
	p := edited(t, Plan(t, 1, 2, 5), func(p *plan.Plan) {
		p.Changes[0].Override = "ann: vendor"
		p.Changes[0].Evidence = plan.Evidence{Verdict: "blocked", Calls: 3, Source: "cloudwatch"}
	})
	f := begunWith(t, open, p)
	in, err := f.Admit(t.Context(), f.admission(0, engine.Forward))
	check(t, err)
	e := f.lastEvents(1)[0]
	for k, want := range map[string]string{"resource": p.Changes[0].Ref.String(), "action": "set-options",
		"before": `{"HttpTokens":"optional"}`, "after": `{"HttpTokens":"required"}`, "override": "ann: vendor", "digest": p.Digest,
		"approved_by": "ann", "direction": "forward", "attempt": "1", "token": "tok"} {
		if e.Detail[k] != want {
			t.Errorf("%s is %q, not %q", k, e.Detail[k], want)
		}
	}
	if ev := e.Detail["evidence"]; !strings.Contains(ev, `"verdict":"blocked"`) || !strings.Contains(ev, `"v1_calls":3`) {
		t.Errorf("evidence: %s", ev)
	}
	f.settle(0, in.ID, engine.ChangeVerified, true)
	if e := f.lastEvents(1)[0]; e.Detail["request_id"] != "req" || e.Detail["phase"] != "verified" {
		t.Errorf("outcome: %+v", e)
	}
	f.step("s-0", rollout.StackUndo)
	_, err = f.Admit(t.Context(), f.admission(0, engine.Backward))
	check(t, err)
	if e := f.lastEvents(1)[0]; e.Detail["before"] != `{"HttpTokens":"required"}` || e.Detail["after"] != `{"HttpTokens":"optional"}` {
		t.Errorf("the way back: %+v", e.Detail)
	}
}

// export: what is written out can be followed without the database, and shows every edit.
func export(t *testing.T, open Open) {
	f := begun(t, open, 2, 3, 5)
	f.write(0, engine.ChangeVerified)
	check(t, f.Note(t.Context(), f.id, "", "odd", map[string]string{"bytes": "a\x00\xff<&>", "empty": ""}, at(3)))
	_, err := f.Pause(t.Context(), store.Request{Rollout: f.id, Actor: "b\x00b", Reason: "l\xff<nch>", Now: at(4)})
	check(t, err)
	if _, broken, err := f.VerifyChain(t.Context(), ""); err != nil || broken != nil {
		t.Fatalf("odd characters: %v %v", broken, err)
	}
	for _, id := range []string{"", f.id} {
		var out strings.Builder
		check(t, f.ExportEvents(t.Context(), &out, id))
		count, broken, err := store.VerifyEvents(strings.NewReader(out.String()), "events.jsonl")
		check(t, err)
		if count != f.count() || broken != nil {
			t.Fatalf("%d events, broken: %v", count, broken)
		}
		lines := strings.SplitAfter(strings.TrimSuffix(out.String(), "\n"), "\n")
		if len(lines) != count {
			t.Errorf("%d lines for %d events", len(lines), count)
		}
		tampered := func(name string, line int, edit func(lines []string) []string) {
			t.Helper()
			text := strings.Join(edit(slices.Clone(lines)), "")
			if _, broken, err := store.VerifyEvents(strings.NewReader(text), "events.jsonl"); err != nil || broken == nil || broken.Line != line {
				t.Errorf("%s: %v %v", name, broken, err)
			}
		}
		tampered("an edit", 2, func(l []string) []string { l[1] = strings.Replace(l[1], "ann", "eve", 1); return l })
		// Line 6 is where the next of its chain was.
		tampered("a line left out", 6, func(l []string) []string { return slices.Delete(l, 1, 2) })
		tampered("a line twice", 3, func(l []string) []string { return slices.Insert(l, 1, l[1]) })
		tampered("another order", 1, func(l []string) []string { l[0], l[1] = l[1], l[0]; return l })
		_, _, err = store.VerifyEvents(strings.NewReader(lines[0]+"nonsense\n"), "events.jsonl")
		mustSay(t, err, "events.jsonl:2", "no event that imdsctl exported")
		// What one reader takes for the event and another does not: a second name, in our spelling or another, before the true one.
		acted := lines[slices.IndexFunc(lines, func(l string) bool { return strings.Contains(l, `"actor"`) && strings.Contains(l, `"detail"`) })]
		for added, say := range map[string]string{`"actor":"eve",`: `"actor" is given twice`, `"Actor":"eve",`: `"Actor" is not how`,
			`"ACTOR":"eve",`: `"ACTOR" is not how`, `"detail":{"n":"1"},`: `"detail" is given twice`} {
			_, _, err = store.VerifyEvents(strings.NewReader(strings.Replace(acted, "{", "{"+added, 1)), "events.jsonl")
			mustSay(t, err, "events.jsonl:1", say)
		}
		_, _, err = store.VerifyEvents(strings.NewReader(strings.Replace(acted, `"detail":{`, `"detail":{"n":"1","n":"2",`, 1)), "events.jsonl")
		mustSay(t, err, "events.jsonl:1", `"n" is given twice`)
	}
	if err := f.ExportEvents(t.Context(), io.Discard, "r-none"); !errors.Is(err, store.ErrUnknownRollout) {
		t.Errorf("a rollout that is not: %v", err)
	}
}

// crowd has many goroutines admit and settle; at no time are more intents open than the budget, and each change has one.
func crowd(t *testing.T, open Open) {
	const changes, budget, workers = 60, 3, 12
	f := begun(t, open, 1, changes+1, budget)
	f.write(0, engine.ChangeVerified)
	f.step("s-0", rollout.StackStepWritten)
	f.step("s-0", rollout.StackStepPassed)
	var flying, most atomic.Int64
	admitted := make([]atomic.Int64, changes+1)
	var group sync.WaitGroup
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	for range workers {
		group.Go(func() {
			for n := 1; n <= changes; {
				in, err := f.Admit(ctx, f.admission(n, engine.Forward))
				switch {
				case err == nil:
				case errors.Is(err, engine.ErrNotAdmitted) && strings.Contains(err.Error(), "plan allows"):
					continue
				case errors.Is(err, engine.ErrNotAdmitted):
					n++
					continue
				default:
					t.Error(err)
					return
				}
				admitted[n].Add(1)
				now := flying.Add(1)
				for m := most.Load(); now > m && !most.CompareAndSwap(m, now); m = most.Load() {
				}
				if _, open, err := f.OpenIntent(ctx, f.id, in.Change); err != nil || !open {
					t.Errorf("the intent of %s is not open: %v", in.Change, err)
				}
				flying.Add(-1)
				if err := f.Settle(ctx, engine.Settlement{Rollout: f.id, Change: in.Change, Intent: in.ID, Lane: f.lane,
					Phase: engine.ChangeVerified, Wrote: true, Now: at(3)}); err != nil {
					t.Error(err)
				}
				n++
			}
		})
	}
	group.Wait()
	if most.Load() > budget {
		t.Errorf("%d at once, the budget is %d", most.Load(), budget)
	}
	for n := 1; n <= changes; n++ {
		if admitted[n].Load() != 1 {
			t.Errorf("change %d was admitted %d times", n, admitted[n].Load())
		}
	}
	if _, broken, err := f.VerifyChain(t.Context(), ""); err != nil || broken != nil {
		t.Errorf("the chain of a crowd: %v %v", broken, err)
	}
}

func runControl(t *testing.T, open Open) {
	t.Run("waves", func(t *testing.T) { waves(t, open) })
	t.Run("stop", func(t *testing.T) { stopping(t, open) })
	t.Run("manual changes", func(t *testing.T) { manual(t, open) })
	t.Run("time", func(t *testing.T) { clockOf(t, open) })
	t.Run("pause and resume", func(t *testing.T) {
		f := begun(t, open, 2, 3, 5)
		version := f.control().Version
		f.pause()
		if c := f.control(); c.Status != rollout.Paused || c.Reason != "lunch" || c.Version <= version {
			t.Errorf("paused: %+v", c)
		}
		_, err := f.Pause(t.Context(), f.request())
		mustSay(t, err, "cannot pause a rollout that is paused")
		f.step("s-0", rollout.StackUndo)
		f.step("s-0", rollout.StackRevertFailed)
		status, err := f.Resume(t.Context(), f.request())
		check(t, err)
		if c := f.control(); status != rollout.Running || c.Status != rollout.Running || c.FailuresForgiven != 1 {
			t.Errorf("resumed: %+v", c)
		}
		_, err = f.Admit(t.Context(), f.admission(0, engine.Backward))
		if !errors.Is(err, engine.ErrNotAdmitted) {
			t.Errorf("after resuming: %v", err)
		}
	})
	t.Run("undo of one stack", func(t *testing.T) {
		f := begun(t, open, 2, 3, 5)
		version := f.control().Version
		status, err := f.RequestUndo(t.Context(), f.request(), "s-0")
		check(t, err)
		c := f.control()
		if status != rollout.Running || c.Version <= version || !maps.Equal(c.Undo, map[string]string{"s-0": "bob: lunch"}) {
			t.Errorf("%s %+v", status, c)
		}
		same(t, "record", f.load().Undo, c.Undo)
		f.step("s-0", rollout.StackUndo)
		if after := f.control(); len(after.Undo) != 0 || after.Version <= c.Version {
			t.Errorf("begun: %+v", after)
		}
		_, err = f.RequestUndo(t.Context(), f.request(), "s-0")
		mustSay(t, err, "s-0 is reverting")
		_, err = f.RequestUndo(t.Context(), f.request(), "s-9")
		mustSay(t, err, "no stack s-9")
	})
	t.Run("undo of everything", func(t *testing.T) {
		f := begun(t, open, 3, 3, 5)
		f.step("s-2", rollout.StackPredecessor)
		status, err := f.RequestUndo(t.Context(), f.request(), "")
		check(t, err)
		if c := f.control(); status != rollout.RollingBack || len(c.Undo) != 2 || c.Status != status {
			t.Errorf("%s %+v", status, c)
		}
		_, err = f.RequestUndo(t.Context(), f.request(), "")
		mustSay(t, err, "cannot roll back a rollout that is rolling-back")
	})
	t.Run("a request that came too late", func(t *testing.T) {
		f := begun(t, open, 2, 3, 5)
		_, err := f.RequestUndo(t.Context(), f.request(), "s-1")
		check(t, err)
		before := f.control()
		f.step("s-1", rollout.StackPredecessor)
		if c := f.control(); len(c.Undo) != 0 || c.Version <= before.Version {
			t.Errorf("the rollback of a skipped stack is still asked for: %+v", c)
		}
	})
	t.Run("undo of one stack while paused waits", func(t *testing.T) {
		f := begun(t, open, 2, 3, 5)
		f.pause()
		status, err := f.RequestUndo(t.Context(), f.request(), "s-0")
		check(t, err)
		if c := f.control(); status != rollout.Paused || len(c.Undo) != 1 {
			t.Errorf("%s %+v", status, c)
		}
	})
	t.Run("undo of one stack of a halted rollout", func(t *testing.T) {
		f := begun(t, open, 2, 3, 5)
		f.step("s-0", rollout.StackStepEmpty)
		for _, m := range []engine.Move{
			{Status: [2]rollout.Status{rollout.Running, rollout.Halting}, Event: string(rollout.StackFailure)},
			{Status: [2]rollout.Status{rollout.Halting, rollout.Halted}, Event: string(rollout.Quiet)},
		} {
			check(t, f.Move(t.Context(), f.id, f.seat, []engine.Move{m}, at(3)))
		}
		status, err := f.RequestUndo(t.Context(), f.request(), "s-0")
		check(t, err)
		if c := f.control(); status != rollout.RollingBack || len(c.Undo) != 1 {
			t.Errorf("%s %+v", status, c)
		}
	})
	t.Run("undo of one stack of an ended rollout", func(t *testing.T) {
		f := begun(t, open, 1, 3, 5)
		for _, e := range []rollout.StackEvent{rollout.StackStepWritten, rollout.StackPassed} {
			f.step("s-0", e)
		}
		check(t, f.Move(t.Context(), f.id, f.seat, []engine.Move{{Status: [2]rollout.Status{rollout.Running, rollout.Done},
			Event: string(rollout.AllDone)}}, at(3)))
		status, err := f.RequestUndo(t.Context(), f.request(), "s-0")
		check(t, err)
		if status != rollout.RollingBack || len(f.control().Undo) != 1 {
			t.Errorf("%s %+v", status, f.control())
		}
	})
	t.Run("unknown", func(t *testing.T) {
		f := begun(t, open, 1, 3, 5)
		_, err := f.Pause(t.Context(), store.Request{Rollout: "r-none"})
		if !errors.Is(err, store.ErrUnknownRollout) {
			t.Error(err)
		}
		if _, err := f.Control(t.Context(), "r-none"); !errors.Is(err, store.ErrUnknownRollout) {
			t.Error(err)
		}
	})
}
