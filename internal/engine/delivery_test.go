package engine_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/imdsctl/imdsctl/internal/engine"
	"github.com/imdsctl/imdsctl/internal/engine/enginetest"
	"github.com/imdsctl/imdsctl/internal/fleet"
	"github.com/imdsctl/imdsctl/internal/plan"
	"github.com/imdsctl/imdsctl/internal/policy"
	"github.com/imdsctl/imdsctl/internal/rollout"
)

// spread puts each stack into an account of its own, or into the one that of names.
func (s *site) spread(of func(stack int) int) {
	at := map[string]fleet.Place{}
	for i := range s.plan.Stacks {
		p := place
		p.Account = fleet.AccountID(fmt.Sprintf("%012d", 100000000000+of(i)))
		s.plan.Stacks[i].Place = p
		at[s.plan.Stacks[i].ID] = p
	}
	for i := range s.plan.Changes {
		c := &s.plan.Changes[i]
		c.Ref.Place = at[c.Stack]
	}
}

// follow adds a follow-up to every instance's change.
func (s *site) follow(t *testing.T, class plan.Class) {
	t.Helper()
	n := len(s.plan.Changes)
	for i := range n {
		c := s.plan.Changes[i]
		if !strings.HasPrefix(c.Ref.ID, "i-") {
			continue
		}
		id := c.Ref.ID + "/restart/1"
		f := plan.Change{ID: fmt.Sprintf("c-f%011x", i), Ref: fleet.Ref{Place: c.Ref.Place, Kind: plan.KindFollowUp, ID: id},
			Action: enginetest.StartVerb, Class: class, Stack: c.Stack, Step: c.Step, Before: fleet.State{}, After: fleet.State{"status": "done"},
			Needs: []string{c.ID}}
		s.plan.Changes = append(s.plan.Changes, f)
		s.world.Put(id, fleet.State{})
	}
	s.begin(t)
}

func (s *site) story() string { return strings.Join(s.journal.Events, "\n") }

func TestWritesStartOnlyInTheirWindows(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSite(t, 5, 2)
		s.plan.Header.Calendars = []policy.Calendar{{
			Windows: []policy.Window{{Name: "nights", From: "22:00", To: "23:30", Zone: "UTC"}},
			Freezes: []policy.Freeze{{Name: "year's end", From: day(t, "2000-01-01"), To: day(t, "2000-01-02"), Zone: "UTC"}},
		}}
		s.plan.Stacks[0].Calendar = 1
		s.world.Fault = func(call, id string) enginetest.Fault {
			now := time.Now().UTC()
			inside := now.Hour() == 22 || now.Hour() == 23 && now.Minute() < 30
			if call == "write" && !strings.HasPrefix(id, "i-1") && (!inside || now.Day() < 3) {
				t.Errorf("%s was written at %s", id, now)
			}
			return enginetest.Fine
		}
		if r := s.must(t); r.Status != rollout.Done {
			t.Errorf("status %s\n%s", r.Status, s.story())
		}
		s.want(t, all)
		if !strings.Contains(s.story(), "hold") || !strings.Contains(s.story(), "year's end") {
			t.Errorf("what it waited for is not told:\n%s", s.story())
		}
	})
}

func day(t *testing.T, s string) policy.Date {
	t.Helper()
	d, err := policy.ParseDate(s)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func TestARollbackDoesNotWaitForAWindow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSite(t, 2)
		s.plan.Header.Calendars = []policy.Calendar{{Windows: []policy.Window{{Name: "first", From: "00:00", To: "01:00", Zone: "UTC"}}}}
		s.plan.Stacks[0].Calendar = 1
		s.gates.late = "refused at the end of the bake"
		s.plan.Stacks[0].Steps[0].Bake = 5 * time.Hour // far outside the window
		r := s.must(t)
		if r.Stacks["s-0"].Phase != rollout.StackFailed || r.Updated.Sub(r.Created) > 6*time.Hour {
			t.Errorf("%+v after %s", r.Stacks, r.Updated.Sub(r.Created))
		}
		s.want(t, func(string) bool { return false })
	})
}

func TestRingsFollowEachOther(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSite(t, 2, 2, 2, 2)
		s.plan.Header.Rules.MaxStacks = 10
		for i, ring := range []int{2, 0, 1, 1} {
			s.plan.Stacks[i].Ring = ring
		}
		if r := s.must(t); r.Status != rollout.Done {
			t.Fatalf("status %s", r.Status)
		}
		order := []int{}
		for _, e := range s.journal.Events {
			for i := range 4 {
				if strings.HasPrefix(e, fmt.Sprintf("s-%d start ", i)) || strings.HasPrefix(e, fmt.Sprintf("s-%d passed ", i)) {
					order = append(order, i)
				}
			}
		}
		if got := fmt.Sprint(order); got != "[1 1 2 3 2 3 0 0]" && got != "[1 1 2 3 3 2 0 0]" && got != "[1 1 3 2 2 3 0 0]" && got != "[1 1 3 2 3 2 0 0]" {
			t.Errorf("starts and ends in the order %s", got)
		}
	})
}

func TestAnAccountThatFailsTooOftenIsLeftAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSite(t, 1, 1, 1, 1, 1, 1)
		s.spread(func(stack int) int { return stack % 2 })
		s.plan.Header.Rules.AccountFailures, s.plan.Header.Rules.MaxStacks = 1, 1
		s.gates.fail["i-1-0"] = "refused calls"
		r := s.must(t)
		if r.Status != rollout.Incomplete || r.Stacks["s-1"].Phase != rollout.StackFailed {
			t.Errorf("status %s %+v", r.Status, r.Stacks)
		}
		for i, want := range []rollout.StackPhase{rollout.StackDone, rollout.StackFailed, rollout.StackDone, rollout.StackSkipped, rollout.StackDone, rollout.StackSkipped} {
			if got := r.Stacks[fmt.Sprintf("s-%d", i)].Phase; got != want {
				t.Errorf("s-%d is %s, want %s", i, got, want)
			}
		}
	})
}

func TestTooManyFailuresInAllHaltTheRollout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSite(t, 1, 1, 1, 1, 1)
		s.plan.Header.Rules.TotalFailures, s.plan.Header.Rules.MaxStacks, s.plan.Header.Rules.MaxFailedStacks = 2, 1, 9
		s.gates.fail["i-1-0"], s.gates.fail["i-2-0"] = "refused", "refused"
		r := s.must(t)
		if r.Status != rollout.Halted || r.Stacks["s-3"].Phase != rollout.StackWaiting {
			t.Errorf("status %s %+v", r.Status, r.Stacks)
		}
	})
}

func TestTheKillSwitchStopsBothDirections(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSite(t, 6)
		writes := 0
		s.world.Fault = func(call, _ string) enginetest.Fault {
			if call == "write" {
				if writes++; writes == 3 || writes == 8 {
					s.journal.StopAll("ana: something is wrong in the whole region")
				}
			}
			return enginetest.Fine
		}
		stopped := func() {
			ctx, cancel := context.WithTimeout(t.Context(), 24*time.Hour)
			defer cancel()
			if _, err := s.run(ctx); !errors.Is(err, context.DeadlineExceeded) {
				t.Fatalf("it went on to its end: %v", err)
			}
			after := false
			for _, e := range s.journal.Events {
				switch {
				case strings.HasPrefix(e, "stop ana"):
					after = true
				case e == "stop ":
					after = false
				case after && strings.HasPrefix(e, "intent"):
					t.Errorf("while everything is stopped: %s", e)
				}
			}
		}
		stopped()
		s.journal.StopAll("")
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
		_, _ = s.run(ctx)
		cancel()
		s.journal.Ask(s.id, "", rollout.RollbackAsked, "ana: back")
		stopped()
		s.journal.StopAll("")
		if r := s.must(t); r.Status != rollout.RolledBack {
			t.Errorf("status %s\n%s", r.Status, s.story())
		}
		s.want(t, func(string) bool { return false })
	})
}

func TestAStepStaysOpenUntilAPersonSaysItIsDone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSite(t, 2)
		s.follow(t, plan.ClassManual)
		for _, step := range []string{"c-f00000000000", "c-f00000000001"} {
			ctx, cancel := context.WithTimeout(t.Context(), 100*time.Hour)
			r, err := s.run(ctx)
			cancel()
			if !errors.Is(err, context.DeadlineExceeded) || r.Stacks["s-0"].Phase != rollout.StackApplying || r.Changes[step].Phase != engine.ChangePending {
				t.Fatalf("%v: %+v %+v", err, r.Stacks, r.Changes)
			}
			s.journal.CompleteManual(s.id, step, time.Now())
		}
		if r := s.must(t); r.Status != rollout.Done {
			t.Errorf("status %s\n%s", r.Status, s.story())
		}
		s.want(t, all)
	})
}

func TestAFollowUpIsStartedOnceAndWaitedFor(t *testing.T) {
	for _, fault := range []enginetest.Fault{enginetest.Fine, enginetest.Lost, enginetest.Unsent, enginetest.Throttled} {
		synctest.Test(t, func(t *testing.T) {
			s := newSite(t, 3)
			s.follow(t, plan.ClassStart)
			s.world.RunTime = 17 * time.Minute
			first := map[string]bool{}
			s.world.Fault = func(call, id string) enginetest.Fault {
				if call == "write" && strings.Contains(id, "/") && !first[id] {
					first[id] = true
					return fault
				}
				return enginetest.Fine
			}
			began := time.Now()
			if r := s.must(t); r.Status != rollout.Done {
				t.Errorf("%s: status %s\n%s", fault, r.Status, s.story())
			}
			if took := time.Since(began); took < 90*time.Minute+2*17*time.Minute {
				t.Errorf("%s: steps closed before their follow-ups ended: %s", fault, took)
			}
			runs := map[string]int{}
			for _, e := range s.world.Effects {
				runs[e.ID]++
			}
			for id, n := range runs {
				if strings.Contains(id, "/") && n != 1 {
					t.Errorf("%s: %s ran %d times", fault, id, n)
				}
			}
			s.want(t, all)

			s.journal.Ask(s.id, "", rollout.RollbackAsked, "ana")
			if r := s.must(t); r.Status != rollout.RolledBack {
				t.Errorf("%s: status %s\n%s", fault, r.Status, s.story())
			}
			s.want(t, func(string) bool { return false })
		})
	}
}

func TestARollbackWaitsForWhatWasStarted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSite(t, 1)
		s.follow(t, plan.ClassStart)
		s.world.RunTime = 40 * time.Minute
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
		_, _ = s.run(ctx)
		cancel()
		s.journal.Ask(s.id, "", rollout.RollbackAsked, "ana")
		r := s.must(t)
		if r.Status != rollout.RolledBack || r.Changes["c-f00000000000"].Phase != engine.ChangeVerified {
			t.Errorf("status %s, follow-up %+v\n%s", r.Status, r.Changes["c-f00000000000"], s.story())
		}
		s.want(t, func(string) bool { return false })
	})
}

func TestAStackThatIsIllBeforehandIsNotBegun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSite(t, 2)
		s.plan.Header.Rules.GatePatience = time.Hour
		s.gates.before = "i-0-0 is impaired"
		time.AfterFunc(30*time.Minute, func() {
			s.gates.mu.Lock()
			defer s.gates.mu.Unlock()
			s.gates.before = "" // it recovers
		})
		s.world.Fault = func(call, _ string) enginetest.Fault {
			if call == "write" && time.Since(s.began) < 30*time.Minute {
				t.Error("written while its gate failed")
			}
			return enginetest.Fine
		}
		if r := s.must(t); r.Status != rollout.Done {
			t.Errorf("status %s\n%s", r.Status, s.story())
		}
	})
	synctest.Test(t, func(t *testing.T) {
		s := newSite(t, 2)
		s.plan.Header.Rules.GatePatience = time.Hour
		s.gates.before = "i-0-0 is impaired"
		r := s.must(t)
		if st := r.Stacks["s-0"]; st.Phase != rollout.StackFailed || !strings.Contains(st.Reason, "nothing was written") || !strings.Contains(st.Reason, "i-0-0 is impaired") {
			t.Errorf("stack %+v", st)
		}
		if len(s.world.Effects) != 0 {
			t.Errorf("effects %+v", s.world.Effects)
		}
	})
}

func TestAGateThatFailsDuringAStepEndsItThere(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSite(t, 9)
		s.gates.fail["i-0-1"] = "i-0-1 went down"
		s.plan.Header.Rules.MaxInFlight = 1
		s.world.Fault = func(call, _ string) enginetest.Fault {
			if call == "write" {
				time.Sleep(3 * time.Minute / 4) // slow: the step takes longer than gates are read apart
			}
			return enginetest.Fine
		}
		s.plan.Header.Rules.GateInterval = time.Minute
		r := s.must(t)
		if r.Stacks["s-0"].Phase != rollout.StackFailed {
			t.Errorf("stacks %+v", r.Stacks)
		}
		if n := len(s.world.Effects); n >= 2*8 {
			t.Errorf("all of the step was written before its gate was read: %d effects", n)
		}
		s.want(t, func(id string) bool { return id == "i-0-0" })
	})
}

// One account that AWS throttles for hours costs the others nothing: they end as early as if it were not there.
func TestANoisyAccountCostsTheOthersNothing(t *testing.T) {
	ends := func(throttled bool) (others, noisy time.Duration) {
		synctest.Test(t, func(t *testing.T) {
			const accounts, each = 200, 3
			sizes := make([]int, accounts*each)
			for i := range sizes {
				sizes[i] = 2
			}
			s := newSite(t, sizes...)
			s.spread(func(stack int) int { return stack / each }) // all of the noisy one's stacks come first
			rules := &s.plan.Header.Rules
			rules.MaxInFlight, rules.MaxInFlightAccount, rules.MaxStacks, rules.MaxStacksAccount = 250, 5, 2*accounts, 2
			s.world.Fault = func(call, id string) enginetest.Fault {
				if own := strings.HasPrefix(id, "i-0-") || strings.HasPrefix(id, "i-1-") || strings.HasPrefix(id, "i-2-"); throttled && own && call == "write" && time.Since(s.began) < 3*time.Hour {
					return enginetest.Throttled
				}
				return enginetest.Fine
			}
			r := s.must(t)
			if r.Status != rollout.Done {
				t.Fatalf("status %s", r.Status)
			}
			for _, st := range s.plan.Stacks {
				end := time.Duration(0)
				for _, c := range s.plan.Changes {
					if c.Stack == st.ID {
						end = max(end, r.Changes[c.ID].Updated.Sub(r.Created))
					}
				}
				if st.Place == s.plan.Stacks[0].Place {
					noisy = max(noisy, end)
				} else {
					others = max(others, end)
				}
			}
		})
		return others, noisy
	}
	alone, _ := ends(false)
	beside, noisy := ends(true)
	if beside != alone {
		t.Errorf("the others took %s beside the noisy account, %s without", beside, alone)
	}
	if noisy < 3*time.Hour {
		t.Errorf("the noisy account was through after %s: nothing was throttled", noisy)
	}
}
