package engine_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/imdsctl/imdsctl/internal/clock"
	"github.com/imdsctl/imdsctl/internal/engine"
	"github.com/imdsctl/imdsctl/internal/engine/enginetest"
	"github.com/imdsctl/imdsctl/internal/fleet"
	"github.com/imdsctl/imdsctl/internal/inventory"
	"github.com/imdsctl/imdsctl/internal/plan"
	"github.com/imdsctl/imdsctl/internal/policy"
	"github.com/imdsctl/imdsctl/internal/rollout"
)

var place = fleet.Place{Partition: "aws", Account: "111122223333", Region: "eu-west-1"}

// gates is a GateReader whose answers a test sets by stack member.
type gates struct {
	mu     sync.Mutex
	fail   map[string]string // instance id → reason
	err    error
	before string // a reason to fail before anything is written
	late   string // a reason to fail, from the end of a bake on
	asked  int
}

func (g *gates) ReadGates(_ context.Context, q engine.GateQuery) (engine.GateResult, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.asked++
	if q.Moment == engine.Before {
		return engine.GateResult{Pass: g.before == "", Reason: g.before}, nil
	}
	if g.err != nil {
		return engine.GateResult{}, g.err
	}
	if g.late != "" && q.Now.Sub(q.Since) >= 30*time.Minute {
		return engine.GateResult{Reason: g.late}, nil
	}
	for _, i := range q.Instances {
		if why := g.fail[i.ID]; why != "" {
			return engine.GateResult{Reason: why}, nil
		}
	}
	return engine.GateResult{Pass: true}, nil
}

// site is one rollout under test with its world, its journal and its gates.
type site struct {
	plan    *plan.Plan
	world   *enginetest.World
	journal *enginetest.Journal
	gates   *gates
	before  map[string]fleet.State
	id      string
	began   time.Time
}

func optional() fleet.State {
	return fleet.Options{Tokens: "optional", Endpoint: "enabled", HopLimit: 2}.State()
}

// newSite plans stacks of instances, each with a canary, and for the first stack a template that its group takes by default.
func newSite(t *testing.T, sizes ...int) *site {
	t.Helper()
	s := &site{world: enginetest.NewWorld(), gates: &gates{fail: map[string]string{}}, before: map[string]fleet.State{}}
	p := &plan.Plan{Header: plan.Header{Format: 1, Waves: []plan.Wave{{Name: "all"}},
		Rules: plan.Rules{MaxInFlight: 4, MaxStacks: 2, GateInterval: 5 * time.Minute}}}
	step := func(name string, stage plan.Stage, n int) plan.Step {
		return plan.Step{Name: name, Stage: stage, Changes: n, Bake: 30 * time.Minute}
	}
	for n, size := range sizes {
		id := fmt.Sprintf("s-%d", n)
		st := plan.Stack{ID: id, Name: id, Place: place, Steps: []plan.Step{step("canary", plan.StageFleet, 1)}}
		if size > 1 {
			st.Steps = append(st.Steps, step("fleet", plan.StageFleet, size-1))
		}
		for i := range size {
			iid := fmt.Sprintf("i-%d-%d", n, i)
			before := optional()
			s.put(iid, before)
			p.Changes = append(p.Changes, plan.Change{ID: fmt.Sprintf("c-%012x", n*1000+i), Ref: fleet.Ref{Place: place, Kind: inventory.KindInstance, ID: iid},
				Action: "set-options", Class: plan.ClassSet, Stack: id, Step: min(i, 1), Before: before, After: before.With(fleet.State{"HttpTokens": "required"})})
		}
		if n == 0 {
			st.Steps = append(st.Steps, step("launch", plan.StageLaunch, 3))
			p.Changes = append(p.Changes, s.launchChanges(id, len(st.Steps)-1)...)
		}
		p.Stacks = append(p.Stacks, st)
	}
	var file bytes.Buffer
	if err := plan.Write(&file, p); err != nil {
		t.Fatal(err)
	}
	read, err := plan.Read(&file, "plan.json")
	if err != nil {
		t.Fatal(err)
	}
	s.plan = read
	s.begin(t)
	return s
}

// begin starts the plan's rollout in a journal of its own.
func (s *site) begin(t *testing.T) {
	t.Helper()
	s.journal = enginetest.NewJournal()
	s.journal.Approve(s.plan.Digest, "ana")
	r, err := s.journal.Begin(t.Context(), s.plan, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	s.id, s.began = r.ID, time.Now()
}

func (s *site) put(id string, st fleet.State) {
	s.world.Put(id, st)
	s.before[id] = st
}

// launchChanges copy version 3 of a template, make the copy the default and re-pin a group that named version 3.
func (s *site) launchChanges(stack string, step int) []plan.Change {
	tmpl, group := fleet.State{"DefaultVersion": "3", "LatestVersion": "5"}, fleet.State{"LaunchTemplate.Version": "3"}
	s.put("lt-1", tmpl)
	s.put("asg-1", group)
	const made = "${c-aaaaaaaaaaaa.Version}"
	lt := fleet.Ref{Place: place, Kind: inventory.KindLaunchTemplate, ID: "lt-1"}
	created := fleet.State{"DefaultVersion": "3", "LatestVersion": made}
	return []plan.Change{
		{ID: "c-aaaaaaaaaaaa", Ref: lt, Action: "create-version", Class: plan.ClassCreate, Stack: stack, Step: step, Before: tmpl, After: created,
			Params: map[string]string{"SourceVersion": "3"}, Outputs: []string{"Version"}},
		{ID: "c-bbbbbbbbbbbb", Ref: lt, Action: "set-default", Class: plan.ClassSet, Stack: stack, Step: step, Before: created,
			After: fleet.State{"DefaultVersion": made, "LatestVersion": made}, Needs: []string{"c-aaaaaaaaaaaa"}},
		{ID: "c-cccccccccccc", Ref: fleet.Ref{Place: place, Kind: inventory.KindAutoScaling, ID: "asg-1"}, Action: "set-launch-version", Class: plan.ClassSet,
			Stack: stack, Step: step, Before: group, After: fleet.State{"LaunchTemplate.Version": made}, Needs: []string{"c-aaaaaaaaaaaa"}},
	}
}

func (s *site) run(ctx context.Context) (*engine.Record, error) {
	e := engine.New(engine.Options{Journal: s.journal, Drivers: s.world, Gates: s.gates, Clock: clock.System(),
		Logger: slog.New(slog.DiscardHandler), Holder: "test/1", PollInterval: time.Minute})
	return e.Run(ctx, s.id)
}

func (s *site) must(t *testing.T) *engine.Record {
	t.Helper()
	r, err := s.run(t.Context())
	if err != nil {
		t.Fatalf("%v\n%s", err, strings.Join(s.journal.Events, "\n"))
	}
	return r
}

// want checks every resource: migrated or as before.
func (s *site) want(t *testing.T, migrated func(id string) bool) {
	t.Helper()
	after := map[string]fleet.State{"lt-1": {"DefaultVersion": "6", "LatestVersion": "6"}, "asg-1": {"LaunchTemplate.Version": "6"}}
	for id, before := range s.before {
		want := before
		if migrated(id) {
			want = before.With(fleet.State{"HttpTokens": "required"})
			if after[id] != nil {
				want = after[id]
			}
		}
		if got := s.world.Get(id); !got.Equal(want) {
			t.Errorf("%s is %v, want %v\n%s", id, got, want, strings.Join(s.journal.Events, "\n"))
		}
	}
}

func all(string) bool { return true }

func TestARolloutFromEndToEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSite(t, 4, 1, 3)
		began := time.Now()
		r := s.must(t)
		if r.Status != rollout.Done {
			t.Fatalf("status %s: %s", r.Status, strings.Join(s.journal.Events, "\n"))
		}
		s.want(t, all)
		if n := len(s.world.Effects); n != 11 {
			t.Errorf("%d writes for 11 changes", n)
		}
		if took := time.Since(began); took < 90*time.Minute {
			t.Errorf("three steps that bake 30 minutes each took %s", took)
		}
		if s.gates.asked == 0 {
			t.Error("no gate was read")
		}
	})
}

func TestCanaryComesFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSite(t, 4)
		s.gates.fail["i-0-0"] = "3 refused v1 calls by i-0-0"
		r := s.must(t)
		if r.Status != rollout.Incomplete || r.Stacks["s-0"].Phase != rollout.StackFailed || r.Stacks["s-0"].Reason != "3 refused v1 calls by i-0-0" {
			t.Errorf("record %+v", r)
		}
		s.want(t, func(string) bool { return false })
		if n := len(s.world.Effects); n != 2 || !s.world.Effects[1].Revert {
			t.Errorf("effects %+v: want the canary's change and its undoing", s.world.Effects)
		}
	})
}

func TestAFailedStackLeavesTheOthers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSite(t, 2, 3, 2)
		s.gates.fail["i-1-2"] = "i-1-2 is impaired" // in the step after the canary
		r := s.must(t)
		if r.Stacks["s-1"].Phase != rollout.StackFailed || r.Stacks["s-0"].Phase != rollout.StackDone || r.Stacks["s-2"].Phase != rollout.StackDone {
			t.Errorf("stacks %+v", r.Stacks)
		}
		s.want(t, func(id string) bool { return id != "i-1-1" && id != "i-1-2" })
	})
}

func TestHaltStartsNoOtherStack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSite(t, 2, 2, 2, 2)
		s.plan.Header.Rules.HaltOnFailure, s.plan.Header.Rules.MaxStacks = true, 1
		s.gates.fail["i-0-0"] = "refused calls"
		r := s.must(t)
		if r.Status != rollout.Halted || r.Stacks["s-1"].Phase != rollout.StackWaiting {
			t.Errorf("status %s, stacks %+v", r.Status, r.Stacks)
		}
		s.want(t, func(string) bool { return false })

		if !s.journal.Ask(s.id, "", rollout.Resume, "looked into it") {
			t.Fatal("a halted rollout could not be resumed")
		}
		r = s.must(t)
		if r.Status != rollout.Incomplete || r.Stacks["s-3"].Phase != rollout.StackDone {
			t.Errorf("resumed: status %s, stacks %+v", r.Status, r.Stacks)
		}
		s.want(t, func(id string) bool { return strings.HasPrefix(id, "i-") && !strings.HasPrefix(id, "i-0") })
	})
}

func TestAGateThatCannotBeReadIsAFailedGate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSite(t, 2)
		s.gates.err = errors.New("access denied")
		r := s.must(t)
		if got := r.Stacks["s-0"]; got.Phase != rollout.StackFailed || !strings.Contains(got.Reason, "could not be read") {
			t.Errorf("stack %+v", got)
		}
		s.want(t, func(string) bool { return false })
	})
}

func TestWhatChangedSinceThePlanIsLeftAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSite(t, 4)
		s.plan.Header.Rules.MaxFailures = 2
		mine := optional().With(fleet.State{"HttpPutResponseHopLimit": "3"})
		s.put("i-0-2", mine)
		s.world.Remove("i-0-3")
		delete(s.before, "i-0-3")
		r := s.must(t)
		if r.Status != rollout.Done {
			t.Errorf("status %s", r.Status)
		}
		c := r.Changes["c-000000000002"]
		if c.Phase != engine.ChangeConflict || !strings.Contains(c.Reason, "HttpPutResponseHopLimit: 2 → 3") || c.Wrote {
			t.Errorf("change %+v", c)
		}
		if c := r.Changes["c-000000000003"]; c.Phase != engine.ChangeConflict || !strings.Contains(c.Reason, "no longer exists") {
			t.Errorf("vanished: %+v", c)
		}
		s.want(t, func(id string) bool { return id != "i-0-2" })
	})
}

func TestADisabledEndpointIsNeverWritten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSite(t, 1)
		s.put("i-0-0", optional().With(fleet.State{"HttpEndpoint": "disabled"}))
		r := s.must(t)
		if c := r.Changes["c-000000000000"]; c.Phase != engine.ChangeConflict {
			t.Errorf("change %+v", c)
		}
		if len(s.world.Effects) != 0 {
			t.Errorf("effects %+v", s.world.Effects)
		}
	})
}

func TestRollbackLeavesWhatOthersChanged(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSite(t, 3, 1)
		s.must(t)
		s.world.Put("asg-1", fleet.State{"LaunchTemplate.Version": "9"}) // another operator moved on
		s.before["asg-1"] = fleet.State{"LaunchTemplate.Version": "9"}
		s.journal.Ask(s.id, "", rollout.RollbackAsked, "ana: take it all back")
		r := s.must(t)
		if r.Status != rollout.Incomplete || r.Stacks["s-0"].Phase != rollout.StackStuck || r.Stacks["s-1"].Phase != rollout.StackRolledBack {
			t.Errorf("status %s, stacks %+v", r.Status, r.Stacks)
		}
		// The version the group was given is not taken away from under it, but the default goes back.
		if got := s.world.Get("lt-1"); got["DefaultVersion"] != "3" || got["LatestVersion"] != "6" {
			t.Errorf("template %v", got)
		}
		s.before["lt-1"] = s.world.Get("lt-1")
		s.want(t, func(string) bool { return false })
	})
}

func TestARolloutIsRolledBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSite(t, 3, 2)
		s.must(t)
		s.journal.Ask(s.id, "", rollout.RollbackAsked, "ana: it looks odd")
		r := s.must(t)
		if r.Status != rollout.RolledBack {
			t.Errorf("status %s %+v", r.Status, r.Stacks)
		}
		s.want(t, func(string) bool { return false })
	})
}

func TestOneStackIsRolledBackAndTheOthersStand(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSite(t, 3, 2)
		s.must(t)
		s.journal.Ask(s.id, "s-0", "", "ana: it looks odd")
		r := s.must(t)
		if r.Status != rollout.Incomplete || r.Stacks["s-0"].Phase != rollout.StackRolledBack || r.Stacks["s-1"].Phase != rollout.StackDone {
			t.Errorf("status %s %+v", r.Status, r.Stacks)
		}
		s.want(t, func(id string) bool { return strings.HasPrefix(id, "i-1") })
	})
}

func TestPauseStartsNoIntent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSite(t, 6)
		writes := 0
		s.world.Fault = func(call, _ string) enginetest.Fault {
			if call == "write" {
				writes++
				if writes == 2 {
					s.journal.Ask(s.id, "", rollout.Pause, "ana: lunch")
				}
			}
			return enginetest.Fine
		}
		ctx, cancel := context.WithTimeout(t.Context(), 12*time.Hour)
		defer cancel()
		if _, err := s.run(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Fatalf("a paused rollout ended: %v", err)
		}
		after := false
		for _, e := range s.journal.Events {
			after = after || e == "asked pause"
			if after && strings.HasPrefix(e, "intent") {
				t.Errorf("after the pause: %s", e)
			}
		}
		s.journal.Ask(s.id, "", rollout.Resume, "")
		if r := s.must(t); r.Status != rollout.Done {
			t.Errorf("status %s", r.Status)
		}
		s.want(t, all)
	})
}

func TestAWaveWaitsForItsApproval(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSite(t, 1)
		s.plan.Header.Waves[0].Approval = true
		ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
		defer cancel()
		r, err := s.run(ctx)
		if !errors.Is(err, context.DeadlineExceeded) || r.Status != rollout.Running || len(s.world.Effects) != 0 {
			t.Fatalf("status %s, error %v, effects %v", r.Status, err, s.world.Effects)
		}
		if story := strings.Join(s.journal.Events, "\n"); strings.Count(story, "imdsctl rollout approve") != 1 {
			t.Errorf("how to go on is to be said once:\n%s", story)
		}
		s.journal.ApproveWave(s.id, "all", "ana")
		if r := s.must(t); r.Status != rollout.Done {
			t.Errorf("approved: status %s", r.Status)
		}
	})
}

func TestExpiredCredentialsEndTheRunAndLoseNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSite(t, 4, 2)
		writes := 0
		s.world.Fault = func(call, _ string) enginetest.Fault {
			if call == "write" {
				writes++
			}
			if writes >= 3 {
				return enginetest.Expired
			}
			return enginetest.Fine
		}
		if _, err := s.run(t.Context()); fleet.ClassOf(err) != fleet.ErrExpired {
			t.Fatalf("error %v", err)
		}
		s.world.Fault = nil
		if r := s.must(t); r.Status != rollout.Done {
			t.Errorf("status %s", r.Status)
		}
		s.want(t, all)
		if n := len(s.world.Effects); n != 9 {
			t.Errorf("%d effects for 9 changes", n)
		}
	})
}

func TestWhatCouldNotBeUndoneIsNotBegun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSite(t, 3, 2)
		for i := range s.plan.Changes { // without a canary: all instances of a stack in its first step
			if c := &s.plan.Changes[i]; c.Ref.Kind == inventory.KindInstance {
				c.Step = 0
			}
		}
		asked := map[string]int{}
		s.world.Fault = func(call, id string) enginetest.Fault {
			if call != "undo" {
				return enginetest.Fine
			}
			asked[id]++
			if strings.HasPrefix(id, "i-0") {
				return enginetest.Denied
			}
			return enginetest.Fine
		}
		r := s.must(t)
		st := r.Stacks["s-0"]
		if st.Phase != rollout.StackFailed || !strings.Contains(st.Reason, "would not let it be undone") {
			t.Errorf("stack %+v", st)
		}
		s.want(t, func(id string) bool { return strings.HasPrefix(id, "i-1") })
		if asked["i-0-0"] != 1 || asked["i-1-0"] != 1 || len(asked) != 2 {
			t.Errorf("asked %v, want once for each stack, and no further after the first no", asked)
		}
	})
}

func TestWhatCannotBeUndoneIsMadeWhereThePlanSaysSo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSite(t, 2)
		s.plan.Header.Rules.Irreversible = true
		s.world.Fault = func(call, _ string) enginetest.Fault {
			if call == "undo" {
				return enginetest.Denied
			}
			return enginetest.Fine
		}
		if r := s.must(t); r.Status != rollout.Done {
			t.Errorf("status %s\n%s", r.Status, strings.Join(s.journal.Events, "\n"))
		}
		s.want(t, all)
		if !strings.Contains(strings.Join(s.journal.Events, "\n"), "irreversible") {
			t.Error("the journal does not say that there is no way back")
		}
	})
}

func TestEveryVerbOfAStackIsAskedAboutBeforeItsFirstWrite(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSite(t, 2)
		asked := map[string]int{}
		s.world.Fault = func(call, id string) enginetest.Fault {
			if call == "undo" {
				asked[id]++
				if id == "lt-1" {
					return enginetest.Denied
				}
			}
			return enginetest.Fine
		}
		if r := s.must(t); r.Stacks["s-0"].Phase != rollout.StackFailed {
			t.Errorf("stacks %+v", r.Stacks)
		}
		if len(s.world.Effects) != 0 {
			t.Errorf("its last step could not be undone, and yet it was begun: %+v", s.world.Effects)
		}
		if asked["i-0-0"] != 1 || asked["lt-1"] != 1 {
			t.Errorf("asked %v", asked)
		}
	})
}

func TestTheEndOfABakeIsReadAtItsEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSite(t, 1)
		s.gates.late = "a call was refused at the end"
		if r := s.must(t); r.Stacks["s-0"].Phase != rollout.StackFailed {
			t.Errorf("stacks %+v", r.Stacks)
		}
	})
}

func TestAWriteThatIsStillOnItsWayIsWaitedFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSite(t, 1, 2)
		first := map[string]bool{}
		s.world.Fault = func(call, id string) enginetest.Fault {
			if call == "write" && !first[id] {
				first[id] = true
				return enginetest.Late
			}
			return enginetest.Fine
		}
		r := s.must(t)
		if r.Status != rollout.Done {
			t.Errorf("status %s\n%s", r.Status, strings.Join(s.journal.Events, "\n"))
		}
		s.want(t, all)
		if n := len(s.world.Effects); n != 6 {
			t.Errorf("%d effects for 6 changes: %+v", n, s.world.Effects)
		}
		for id, c := range r.Changes {
			if !c.Wrote {
				t.Errorf("%s is not known to be imdsctl's own work: a rollback would leave it", id)
			}
		}
	})
}

func TestWhatIsBackAlreadyIsNotWritten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSite(t, 2)
		s.must(t)
		s.world.Put("i-0-1", optional())
		n := len(s.world.Effects)
		s.journal.Ask(s.id, "", rollout.RollbackAsked, "ana")
		if r := s.must(t); r.Status != rollout.RolledBack {
			t.Errorf("status %s %+v", r.Status, r.Stacks)
		}
		for _, e := range s.world.Effects[n:] {
			if e.ID == "i-0-1" {
				t.Errorf("wrote %+v", e)
			}
		}
	})
}

func TestAnOutageIsWaitedForBeforeAWriteAndBeforeARollback(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSite(t, 2)
		reads := 0
		s.world.Fault = func(call, _ string) enginetest.Fault {
			if call != "read" {
				return enginetest.Fine
			}
			if reads++; reads%4 != 0 {
				return enginetest.Throttled
			}
			return enginetest.Fine
		}
		if r := s.must(t); r.Status != rollout.Done {
			t.Errorf("status %s\n%s", r.Status, strings.Join(s.journal.Events, "\n"))
		}
		s.want(t, all)
		s.journal.Ask(s.id, "", rollout.RollbackAsked, "ana")
		if r := s.must(t); r.Status != rollout.RolledBack {
			t.Errorf("status %s\n%s", r.Status, strings.Join(s.journal.Events, "\n"))
		}
	})
}

func TestAnOutageThatLastsFailsTheStack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSite(t, 2)
		s.world.Fault = func(string, string) enginetest.Fault { return enginetest.Throttled }
		r := s.must(t)
		if st := r.Stacks["s-0"]; st.Phase != rollout.StackFailed || !strings.Contains(st.Reason, "could not be read") {
			t.Errorf("stack %+v", st)
		}
	})
}

func TestApplyRefusesAPlanNobodyApproved(t *testing.T) {
	j := enginetest.NewJournal()
	if _, err := j.Begin(t.Context(), &plan.Plan{Digest: strings.Repeat("a", 64)}, time.Now()); !errors.Is(err, engine.ErrNotApproved) {
		t.Errorf("error %v", err)
	}
}

// errDead is what everything answers after a simulated kill.
var errDead = errors.New("killed")

// Killed at every commit of the journal, right before and right after it, a rollout resumes and ends as if nothing had been: at
// once, or after a weekend, when the tokens of what was on its way have expired.
func TestKilledAtEveryCommit(t *testing.T) {
	for _, away := range []time.Duration{0, 60 * time.Hour} {
		for _, before := range []bool{true, false} {
			for n := 1; ; n++ {
				var count int
				synctest.Test(t, func(t *testing.T) { count = killAt(t, newSite(t, 3, 1), n, before, away) })
				if count < n {
					t.Logf("%d commits, killed at each (before: %v, away for %s)", count, before, away)
					break
				}
			}
		}
	}
}

// A follow-up that is a program is begun anew as well, however long ago it was cut off.
func TestKilledAtEveryCommitOfFollowUps(t *testing.T) {
	for _, before := range []bool{true, false} {
		for n := 1; ; n++ {
			var count int
			synctest.Test(t, func(t *testing.T) {
				s := newSite(t, 2)
				s.follow(t, plan.ClassStart)
				for i := range s.plan.Changes {
					if c := &s.plan.Changes[i]; c.Ref.Kind == plan.KindFollowUp {
						c.Action = plan.ActionCommand
					}
				}
				count = killAt(t, s, n, before, 60*time.Hour)
			})
			if count < n {
				break
			}
		}
	}
}

// killAt kills the engine at the nth commit, before or after it, and carries the rollout on when it was away for so long.
func killAt(t *testing.T, s *site, n int, before bool, away time.Duration) (count int) {
	var dead atomic.Bool
	s.journal.Commit = func(_ string, b bool) error {
		if dead.Load() {
			return errDead
		}
		if b {
			count++
		}
		if count == n && b == before {
			dead.Store(true)
			return errDead
		}
		return nil
	}
	s.world.Fault = func(string, string) enginetest.Fault {
		if dead.Load() {
			return enginetest.Unsent
		}
		return enginetest.Fine
	}
	_, err := s.run(t.Context())
	if count >= n && !errors.Is(err, errDead) {
		t.Fatalf("kill %d: the run went on: %v", n, err)
	}
	dead.Store(false)
	s.journal.Commit = nil
	time.Sleep(away)
	if r := s.must(t); r.Status != rollout.Done {
		t.Fatalf("kill %d: status %s\n%s", n, r.Status, strings.Join(s.journal.Events, "\n"))
	}
	s.want(t, all)
	if got, want := len(s.world.Effects), len(s.plan.Changes); got != want {
		t.Fatalf("kill %d: %d effects for %d changes: %+v\n%s", n, got, want, s.world.Effects, strings.Join(s.journal.Events, "\n"))
	}
	return count
}

// Under random faults, kills, pauses, rollbacks and failing gates every rollout comes to an end, writes nothing that is not
// planned, does nothing twice, and what the journal says of each change is what the world shows.
func TestNoFaultBreaksThePromises(t *testing.T) {
	n := sequences(t, 3000, 60)
	ends := map[rollout.Status]int{}
	for seed := range n {
		synctest.Test(t, func(t *testing.T) { ends[campaign(t, uint64(seed))]++ })
		if t.Failed() {
			return
		}
	}
	t.Logf("%d rollouts under random faults, kills, pauses and rollbacks ended as %v", n, ends)
}

// sequences is how many random courses a test takes: normally, under -short, or as IMDSCTL_SEQUENCES says for a long run.
func sequences(t *testing.T, normally, short int) int {
	t.Helper()
	if text := os.Getenv("IMDSCTL_SEQUENCES"); text != "" {
		n, err := strconv.Atoi(text)
		if err != nil || n <= 0 {
			t.Fatalf("IMDSCTL_SEQUENCES is %q: give a number", text)
		}
		return n
	}
	if testing.Short() {
		return short
	}
	return normally
}

func campaign(t *testing.T, seed uint64) rollout.Status {
	rng := rand.New(rand.NewPCG(seed, 7))
	var mu sync.Mutex
	chance := func(n int) bool {
		mu.Lock()
		defer mu.Unlock()
		return rng.IntN(n) == 0
	}
	sizes := make([]int, 1+rng.IntN(4))
	for i := range sizes {
		sizes[i] = 1 + rng.IntN(5)
	}
	s := newSite(t, sizes...)
	s.plan.Header.Rules.MaxFailures = rng.IntN(2)
	s.plan.Header.Rules.HaltOnFailure = chance(2)
	for id := range s.before {
		if strings.HasPrefix(id, "i-") && chance(12) {
			s.gates.fail[id] = id + " made refused v1 calls"
		}
	}
	s.vary(t, chance)
	over := make(chan struct{})
	defer close(over)
	go s.attend(chance, over)
	var dead, calm atomic.Bool
	s.world.Fault = func(call, _ string) enginetest.Fault {
		switch {
		case dead.Load():
			return enginetest.Unsent
		case calm.Load() || !chance(8):
			return enginetest.Fine
		case call == "write" && chance(4): // killed right after the effect
			dead.Store(true)
			return enginetest.Lost
		}
		mu.Lock()
		defer mu.Unlock()
		return []enginetest.Fault{enginetest.Lost, enginetest.Unsent, enginetest.Throttled, enginetest.Denied, enginetest.Expired}[rng.IntN(5)]
	}
	s.journal.Commit = func(string, bool) error {
		if !dead.Load() && !calm.Load() && chance(40) {
			dead.Store(true)
		}
		if dead.Load() {
			return errDead
		}
		return nil
	}
	for round := 0; ; round++ {
		calm.Store(round > 40)
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Hour)
		r, err := s.run(ctx)
		cancel()
		if dead.Load() || err != nil {
			dead.Store(false)
			if round > 60 {
				t.Fatalf("seed %d: no end in sight: %v", seed, err)
			}
			switch {
			case chance(10):
				s.journal.Ask(s.id, "", rollout.RollbackAsked, "ana: back")
			case chance(10):
				s.journal.Ask(s.id, "", rollout.Pause, "ana: wait")
			}
			s.journal.Ask(s.id, "", rollout.Resume, "ana: on")
			continue
		}
		if r.Status == rollout.Halted {
			s.journal.Ask(s.id, "", rollout.Resume, "ana: on")
			continue
		}
		s.promises(t, seed, r)
		return r.Status
	}
}

// vary draws what a plan may have besides: waves that are approved one by one, rings, windows, accounts with budgets of their
// own, and follow-ups.
func (s *site) vary(t *testing.T, chance func(int) bool) {
	t.Helper()
	rules := &s.plan.Header.Rules
	if chance(3) {
		s.spread(func(stack int) int { return stack % 2 })
		rules.MaxInFlightAccount, rules.MaxStacksAccount = 2, 1
		if chance(2) {
			rules.AccountFailures = 1
		}
	}
	if chance(4) {
		rules.TotalFailures = 2
	}
	if chance(3) {
		rules.GatePatience = 20 * time.Minute
	}
	if chance(3) && len(s.plan.Stacks) > 1 {
		s.plan.Header.Waves = append(s.plan.Header.Waves, plan.Wave{Name: "later", Approval: true})
		s.plan.Stacks[len(s.plan.Stacks)-1].Wave = 1
	}
	s.plan.Header.Calendars = []policy.Calendar{{Windows: []policy.Window{{Name: "nights", From: "22:00", To: "05:00", Zone: "Europe/Berlin"}}}}
	for i := range s.plan.Stacks {
		if chance(4) {
			s.plan.Stacks[i].Calendar = 1
		}
		if chance(4) {
			s.plan.Stacks[i].Ring = 1
		}
	}
	if chance(4) {
		class := plan.ClassStart
		if chance(3) {
			class = plan.ClassManual
		}
		s.world.RunTime = 11 * time.Minute
		s.follow(t, class)
	}
}

// attend is the people about a rollout: every half hour someone approves what waits, does what is to be done by hand, and now
// and then stops everything for a while.
func (s *site) attend(chance func(int) bool, over <-chan struct{}) {
	for {
		select {
		case <-over:
			return
		case <-time.After(30 * time.Minute):
		}
		s.journal.StopAll("")
		if chance(20) {
			s.journal.StopAll("ben: wait a moment")
		}
		if chance(2) {
			s.journal.ApproveWave(s.id, "later", "ben")
		}
		for _, c := range s.plan.Changes {
			if c.Class == plan.ClassManual && chance(2) {
				s.journal.CompleteManual(s.id, c.ID, time.Now())
			}
		}
	}
}

// promises checks the end of a campaign.
func (s *site) promises(t *testing.T, seed uint64, r *engine.Record) {
	t.Helper()
	story := func() string {
		return fmt.Sprintf("seed %d\n%s\n%+v", seed, strings.Join(s.journal.Events, "\n"), s.world.Effects)
	}
	planned := map[string]bool{}
	outputs := plan.Outputs{}
	for _, c := range s.plan.Changes {
		planned[c.Ref.ID+"#"+c.Action] = true
		if o := r.Changes[c.ID].Outputs; o != nil {
			outputs[c.ID] = o
		}
	}
	net := map[string]int{}
	for _, e := range s.world.Effects {
		if !planned[e.ID+"#"+e.Verb] {
			t.Errorf("wrote %s of %s, which no plan holds\n%s", e.Verb, e.ID, story())
		}
		if k := e.ID + "#" + e.Verb; e.Revert {
			net[k]--
		} else {
			net[k]++
		}
		if n := net[e.ID+"#"+e.Verb]; n < 0 || n > 1 {
			t.Errorf("%s of %s was done %d times in a row\n%s", e.Verb, e.ID, n, story())
		}
	}
	for id, st := range r.Stacks {
		if !st.Phase.Final() && (r.Status != rollout.Halted || st.Phase != rollout.StackWaiting) {
			t.Errorf("stack %s ends as %s\n%s", id, st.Phase, story())
		}
	}
	for _, c := range s.plan.Changes {
		state := r.Changes[c.ID]
		if c.Class == plan.ClassManual {
			if net[c.Ref.ID+"#"+c.Action] != 0 {
				t.Errorf("%s is a person's to do, and was done\n%s", c.ID, story())
			}
			continue
		}
		done := net[c.Ref.ID+"#"+c.Action] == 1
		switch state.Phase {
		case engine.ChangeVerified:
			if !done {
				t.Errorf("%s is called verified and was not made\n%s", c.ID, story())
			}
		case engine.ChangePending, engine.ChangeReverted, engine.ChangeSkipped:
			if done {
				t.Errorf("%s is called %s and stands\n%s", c.ID, state.Phase, story())
			}
		case engine.ChangeOpen, engine.ChangeApplied:
			t.Errorf("%s ends as %s\n%s", c.ID, state.Phase, story())
		case engine.ChangeConflict:
			if done {
				t.Errorf("%s is called a conflict and stands\n%s", c.ID, story())
			}
		case engine.ChangeFailed:
			if st := r.Stacks[c.Stack]; done && c.Ref.Kind != plan.KindFollowUp && st.Phase == rollout.StackFailed && st.Step == c.Step {
				t.Errorf("%s failed, and stands though its step was given up\n%s", c.ID, story())
			}
		}
	}
}
