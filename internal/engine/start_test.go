package engine_test

import (
	"bytes"
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/imdsctl/imdsctl/internal/engine"
	"github.com/imdsctl/imdsctl/internal/engine/enginetest"
	"github.com/imdsctl/imdsctl/internal/fleet"
	"github.com/imdsctl/imdsctl/internal/inventory"
	"github.com/imdsctl/imdsctl/internal/kind"
	"github.com/imdsctl/imdsctl/internal/plan"
	"github.com/imdsctl/imdsctl/internal/rollout"
)

const nodegroup = "prod/web"

// newReplacement plans one change that is started, and takes far longer than a change may take to become visible.
func newReplacement(t *testing.T) *site {
	t.Helper()
	s := &site{world: enginetest.NewWorld(), gates: &gates{fail: map[string]string{}}, before: map[string]fleet.State{}}
	s.world.RunTime = 47 * time.Minute
	before := fleet.State{"LaunchTemplate.Version": "3"}
	s.put(nodegroup, before)
	p := &plan.Plan{
		Header: plan.Header{Format: 1, Waves: []plan.Wave{{Name: "all"}},
			Rules: plan.Rules{MaxInFlight: 4, MaxStacks: 2, GateInterval: 5 * time.Minute}},
		Stacks: []plan.Stack{{ID: "s-0", Name: "s-0", Place: place, Steps: []plan.Step{
			{Name: "launch", Stage: plan.StageLaunch, Changes: 1, Bake: 30 * time.Minute},
		}}},
		Changes: []plan.Change{{
			ID: "c-000000000000", Ref: fleet.Ref{Place: place, Kind: inventory.KindNodegroup, ID: nodegroup},
			Action: enginetest.ReplaceVerb, Class: plan.ClassStart, Stack: "s-0", Before: before,
			After: fleet.State{"LaunchTemplate.Version": "6"},
		}},
	}
	var file bytes.Buffer
	if err := plan.Write(&file, p); err != nil {
		t.Fatal(err)
	}
	var err error
	if s.plan, err = plan.Read(&file, "plan.json"); err != nil {
		t.Fatal(err)
	}
	s.begin(t)
	return s
}

// version is what the node group launches now.
func (s *site) version(t *testing.T) string {
	t.Helper()
	d, err := s.world.Driver(place, inventory.KindNodegroup)
	if err != nil {
		t.Fatal(err)
	}
	fault := s.world.Fault
	s.world.Fault = nil
	defer func() { s.world.Fault = fault }()
	r, err := d.Read(context.Background(), nodegroup)
	if err != nil {
		t.Fatal(err)
	}
	if r.Settling {
		return r.State["LaunchTemplate.Version"] + ", under way"
	}
	return r.State["LaunchTemplate.Version"]
}

// writes counts the starts on the way there and back.
func (s *site) writes() (there, back int) {
	for _, e := range s.world.Effects {
		if e.Revert {
			back++
		} else {
			there++
		}
	}
	return there, back
}

func (s *site) rollBack(t *testing.T) *engine.Record {
	t.Helper()
	s.journal.Ask(s.id, "", rollout.RollbackAsked, "ana")
	return s.must(t)
}

func TestASlowStartIsWaitedForBothWays(t *testing.T) {
	for _, fault := range []enginetest.Fault{
		enginetest.Fine, enginetest.Lost, enginetest.Unsent, enginetest.Throttled, enginetest.Late,
	} {
		synctest.Test(t, func(t *testing.T) {
			s := newReplacement(t)
			struck := 0
			s.world.Fault = func(call, _ string) enginetest.Fault {
				if call != "write" || struck != len(s.world.Effects) {
					return enginetest.Fine // the first write on each way meets the fault
				}
				struck++
				return fault
			}
			if r := s.must(t); r.Status != rollout.Done || s.version(t) != "6" {
				t.Errorf("%s: status %s at version %s\n%s", fault, r.Status, s.version(t), s.story())
			}
			began := time.Now()
			if r := s.rollBack(t); r.Status != rollout.RolledBack || s.version(t) != "3" {
				t.Errorf("%s: status %s at version %s\n%s", fault, r.Status, s.version(t), s.story())
			}
			if took := time.Since(began); took < s.world.RunTime {
				t.Errorf("%s: the rollback ended after %s, before what it started", fault, took)
			}
			if there, back := s.writes(); there != 1 || back != 1 {
				t.Errorf("%s: started %d times and back %d times\n%s", fault, there, back, s.story())
			}
		})
	}
}

// TestASlowRollbackSurvivesACrashAnywhere stops the engine at every minute of the way back, and in each transaction of it,
// before and after: the next one takes the same start up again.
func TestASlowRollbackSurvivesACrashAnywhere(t *testing.T) {
	crash := errors.New("crash")
	for at := 1; at < 12; at++ {
		for _, before := range []bool{true, false} {
			synctest.Test(t, func(t *testing.T) {
				s := newReplacement(t)
				s.must(t)
				s.journal.Ask(s.id, "", rollout.RollbackAsked, "ana")
				n := 0
				s.journal.Commit = func(_ string, b bool) error {
					if b == before {
						if n++; n == at {
							return crash
						}
					}
					return nil
				}
				if _, err := s.run(t.Context()); err == nil && n >= at {
					t.Errorf("the crash at transaction %d went unnoticed", at)
				}
				s.journal.Commit = nil
				if r := s.must(t); r.Status != rollout.RolledBack || s.version(t) != "3" {
					t.Errorf("crash at transaction %d (before: %t): status %s at version %s\n%s", at, before, r.Status,
						s.version(t), s.story())
				}
				if there, back := s.writes(); there != 1 || back != 1 {
					t.Errorf("crash at transaction %d (before: %t): started %d times and back %d times\n%s", at, before, there,
						back, s.story())
				}
			})
		}
	}
	for _, minutes := range []int{0, 1, 3, 20, 46, 47, 48, 300} {
		synctest.Test(t, func(t *testing.T) {
			s := newReplacement(t)
			s.must(t)
			s.journal.Ask(s.id, "", rollout.RollbackAsked, "ana")
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			_, _ = s.run(ctx)
			cancel()
			time.Sleep(time.Duration(minutes) * time.Minute)
			if r := s.must(t); r.Status != rollout.RolledBack || s.version(t) != "3" {
				t.Errorf("away for %d minutes: status %s at version %s\n%s", minutes, r.Status, s.version(t), s.story())
			}
			if there, back := s.writes(); there != 1 || back != 1 {
				t.Errorf("away for %d minutes: started %d times and back %d times\n%s", minutes, there, back, s.story())
			}
		})
	}
}

// TestARollbackWaitsForTheStartItTakesBack: until the way there has ended the resource reads as before, which is not yet
// put back.
func TestARollbackWaitsForTheStartItTakesBack(t *testing.T) {
	for _, seconds := range []int{1, 5, 30, 200, 2700} {
		synctest.Test(t, func(t *testing.T) {
			s := newReplacement(t)
			ctx, cancel := context.WithTimeout(t.Context(), time.Duration(seconds)*time.Second)
			_, _ = s.run(ctx)
			cancel()
			if r := s.rollBack(t); r.Status != rollout.RolledBack || s.version(t) != "3" {
				t.Errorf("after %d seconds: status %s at version %s\n%s", seconds, r.Status, s.version(t), s.story())
			}
			if there, back := s.writes(); there != 1 || back != 1 {
				t.Errorf("after %d seconds: started %d times and back %d times\n%s", seconds, there, back, s.story())
			}
		})
	}
}

func TestAStartThatFailsIsToldBothWays(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newReplacement(t)
		s.world.Fails = func(w kind.Write) bool { return !w.Revert }
		r := s.must(t)
		c := r.Changes["c-000000000000"]
		if r.Stacks["s-0"].Phase != rollout.StackFailed || c.Phase != engine.ChangeReverted {
			t.Errorf("there: %s, %+v\n%s", r.Stacks["s-0"].Phase, c, s.story())
		}
	})
	synctest.Test(t, func(t *testing.T) {
		s := newReplacement(t)
		s.world.Fails = func(w kind.Write) bool { return w.Revert }
		s.must(t)
		r := s.rollBack(t)
		c := r.Changes["c-000000000000"]
		if r.Stacks["s-0"].Phase != rollout.StackStuck || c.Phase != engine.ChangeStuck || s.version(t) != "6" {
			t.Errorf("back: %s, %+v at %s\n%s", r.Stacks["s-0"].Phase, c, s.version(t), s.story())
		}
	})
}

// TestASlowRollbackLeavesSomebodyElsesChangeAlone: what ends as something else than was put back is stuck.
func TestASlowRollbackLeavesSomebodyElsesChangeAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newReplacement(t)
		s.must(t)
		s.journal.Ask(s.id, "", rollout.RollbackAsked, "ana")
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
		_, _ = s.run(ctx)
		cancel()
		time.Sleep(time.Hour)
		s.version(t) // it ends
		s.world.Put(nodegroup, fleet.State{"LaunchTemplate.Version": "9"})
		r := s.must(t)
		if c := r.Changes["c-000000000000"]; c.Phase != engine.ChangeStuck || s.version(t) != "9" {
			t.Errorf("%+v at %s\n%s", c, s.version(t), s.story())
		}
		if there, back := s.writes(); there != 1 || back != 1 {
			t.Errorf("started %d times and back %d times", there, back)
		}
	})
}

// TestAStartThatEndedUnseenIsTakenForMade: nothing can be found of it, and the engine was away until long after its end.
func TestAStartThatEndedUnseenIsTakenForMade(t *testing.T) {
	for _, away := range []time.Duration{time.Second, 20 * time.Minute, 2 * time.Hour, 20 * time.Hour} {
		synctest.Test(t, func(t *testing.T) {
			s := newReplacement(t)
			s.world.Fault = func(call, _ string) enginetest.Fault {
				if call == "write" && len(s.world.Effects) == 0 {
					return enginetest.Lost
				}
				return enginetest.Fine
			}
			ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
			_, _ = s.run(ctx)
			cancel()
			time.Sleep(away)
			if r := s.must(t); r.Status != rollout.Done || s.version(t) != "6" {
				t.Errorf("away for %s: status %s at version %s\n%s", away, r.Status, s.version(t), s.story())
			}
			if there, _ := s.writes(); there != 1 {
				t.Errorf("away for %s: started %d times\n%s", away, there, s.story())
			}
		})
	}
}
