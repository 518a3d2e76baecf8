package engine_test

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/imdsctl/imdsctl/internal/clock"
	"github.com/imdsctl/imdsctl/internal/engine"
	"github.com/imdsctl/imdsctl/internal/engine/enginetest"
	"github.com/imdsctl/imdsctl/internal/fleet"
	"github.com/imdsctl/imdsctl/internal/inventory"
	"github.com/imdsctl/imdsctl/internal/kind"
	"github.com/imdsctl/imdsctl/internal/plan"
	"github.com/imdsctl/imdsctl/internal/rollout"
)

// refreshes are groups that are refreshed in memory. The state of one tells nothing but its refresh.
type refreshes struct {
	mu             sync.Mutex
	ends           time.Time // of the refresh that was started; zero before
	failed         bool      // it ends without success
	cancelled      bool
	takes          time.Duration
	starts, cancel int
	seen           string // what a proof says, once it was begun
	began          time.Time
	looks          []time.Duration // at a refresh that runs, since it began
}

func (r *refreshes) Driver(fleet.Place, string) (kind.Driver, error) { return r, nil }

func (r *refreshes) Kind(name string) (kind.Kind, bool) { return kind.Kind{Name: name}, true }

func (r *refreshes) Cancels(verb string) bool { return verb == plan.ActionRefresh }

func (r *refreshes) List(context.Context, func(inventory.Resource) error) error {
	return errors.New("the engine never lists")
}

func (r *refreshes) Read(context.Context, string) (inventory.Resource, error) {
	return inventory.Resource{}, errors.New("its state cannot be told by its id alone")
}

func (r *refreshes) ReadFor(_ context.Context, w kind.Write) (inventory.Resource, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	out := inventory.Resource{State: fleet.State{}, Attrs: map[string]string{}}
	if w.Verb != plan.ActionRefresh {
		if w.Made["Since"] != "" {
			out.State[plan.FieldStatus], out.Settling = r.seen, r.seen == "running"
			out.Attrs[kind.AttrNote] = "not proven: nothing was launched"
		}
		return out, nil
	}
	switch {
	case r.ends.IsZero():
	case r.cancelled, r.failed && !time.Now().Before(r.ends):
		out.Attrs[kind.AttrNote] = "instance refresh r-1: ended without success"
	case time.Now().Before(r.ends):
		out.State[plan.FieldRefresh], out.Settling = "InProgress", true
		r.looks = append(r.looks, time.Since(r.began))
	default:
		out.State[plan.FieldRefresh] = plan.RefreshSuccessful
	}
	return out, nil
}

func (r *refreshes) Write(_ context.Context, w kind.Write) (kind.Result, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case w.Verb != plan.ActionRefresh:
		return kind.Result{Outputs: map[string]string{"Since": "now"}}, nil
	case !w.Revert:
		r.starts++
		r.began = time.Now()
		r.ends = r.began.Add(r.takes)
		return kind.Result{Outputs: map[string]string{"InstanceRefreshId": "r-1"}}, nil
	case time.Now().Before(r.ends):
		r.cancel++
		r.cancelled = true
		return kind.Result{}, nil
	}
	return kind.Result{}, kind.Errorf(fleet.ErrConflict, place, "cancel", "the instances it replaced are gone")
}

func (r *refreshes) Find(context.Context, kind.Write) (kind.Result, error) {
	return kind.Result{}, kind.ErrNotFound
}

// refreshing is a rollout of one refresh, with the proof that follows it.
type refreshing struct {
	*site
	groups *refreshes
	poll   time.Duration
}

func newRefreshing(t *testing.T, proof string) *refreshing {
	t.Helper()
	s := &refreshing{&site{world: enginetest.NewWorld(), gates: &gates{fail: map[string]string{}}, before: map[string]fleet.State{}},
		&refreshes{takes: 3 * time.Hour, seen: proof}, time.Minute}
	group := fleet.Ref{Place: place, Kind: inventory.KindAutoScaling, ID: "web"}
	const refresh = "c-000000000000"
	p := &plan.Plan{
		Header: plan.Header{Format: 1, Waves: []plan.Wave{{Name: "all"}},
			Rules: plan.Rules{MaxInFlight: 4, MaxStacks: 2, GateInterval: 5 * time.Minute}},
		Stacks: []plan.Stack{{ID: "s-0", Name: "s-0", Place: place, Steps: []plan.Step{
			{Name: "launch", Stage: plan.StageLaunch, Changes: 2, Bake: 30 * time.Minute},
		}}},
		Changes: []plan.Change{
			{ID: refresh, Ref: group, Action: plan.ActionRefresh, Class: plan.ClassStart, Stack: "s-0", Before: fleet.State{},
				After: fleet.State{plan.FieldRefresh: plan.RefreshSuccessful}, Undo: plan.UndoNone, Disruption: "replace"},
			{ID: "c-000000000001", Ref: group.Sibling(plan.KindFollowUp, "web/replaced/1"), Action: plan.ActionReplaced,
				Class: plan.ClassStart, Stack: "s-0", Before: fleet.State{}, After: fleet.State{plan.FieldStatus: plan.StatusDone},
				Undo: plan.UndoNone, Needs: []string{refresh}},
		},
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

// goOn works until the rollout ends, or for a while.
func (s *refreshing) goOn(t *testing.T, d time.Duration) *engine.Record {
	t.Helper()
	ctx := t.Context()
	if d > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, d)
		defer cancel()
	}
	e := engine.New(engine.Options{Journal: s.journal, Drivers: s.groups, Gates: s.gates, Clock: clock.System(),
		Logger: slog.New(slog.DiscardHandler), Holder: "test/1", PollInterval: s.poll})
	r, err := e.Run(ctx, s.id)
	if err != nil && d == 0 {
		t.Fatalf("%v\n%s", err, strings.Join(s.journal.Events, "\n"))
	}
	return r
}

func (s *refreshing) rolledBack(t *testing.T) *engine.Record {
	t.Helper()
	s.journal.Ask(s.id, "", rollout.RollbackAsked, "ana")
	return s.goOn(t, 0)
}

func TestARefreshGoesToItsEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newRefreshing(t, plan.StatusDone)
		r := s.goOn(t, 0)
		if r.Status != rollout.Done || s.groups.starts != 1 {
			t.Errorf("%s after %d starts\n%s", r.Status, s.groups.starts, s.story())
		}
		if c := r.Changes["c-000000000001"]; !strings.Contains(c.Reason, "not proven") {
			t.Errorf("the journal does not say what the proof came to: %+v", c)
		}
	})
}

// What has just been started is looked at every few seconds, what takes hours once a minute.
func TestWhatTakesLongIsAskedForSeldom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newRefreshing(t, plan.StatusDone)
		s.poll = time.Second
		s.goOn(t, 0)
		var last, gap time.Duration
		inFirstMinute := 0
		for _, at := range s.groups.looks {
			if at <= time.Minute {
				inFirstMinute++
			}
			if at-last > 61*time.Second || at > time.Minute && at-last < gap-2*time.Second {
				t.Errorf("looked at after %s, and before that after %s", at, last)
			}
			last, gap = at, at-last
		}
		if n := len(s.groups.looks); inFirstMinute < 10 || n > 230 || s.groups.takes-last > time.Minute {
			t.Errorf("looked %d times in the first minute, %d times in %s, the last after %s", inFirstMinute, n, s.groups.takes, last)
		}
	})
}

func TestARefreshThatRunsIsCancelled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newRefreshing(t, plan.StatusDone)
		s.goOn(t, 20*time.Minute)
		r := s.rolledBack(t)
		if c := r.Changes["c-000000000000"]; c.Phase != engine.ChangeReverted || s.groups.cancel != 1 || r.Status != rollout.RolledBack {
			t.Errorf("%s, %+v, cancelled %d times\n%s", r.Status, c, s.groups.cancel, s.story())
		}
	})
}

func TestARefreshThatHasEndedIsNotTakenBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newRefreshing(t, plan.StatusDone)
		s.goOn(t, 0)
		r := s.rolledBack(t)
		if c := r.Changes["c-000000000000"]; c.Phase != engine.ChangeStuck || s.groups.cancel != 0 {
			t.Errorf("%+v, cancelled %d times\n%s", c, s.groups.cancel, s.story())
		}
	})
}

func TestARefreshThatFailsFailsItsStep(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newRefreshing(t, plan.StatusDone)
		s.groups.failed = true
		r := s.goOn(t, 0)
		if c := r.Changes["c-000000000000"]; r.Stacks["s-0"].Phase != rollout.StackFailed && r.Stacks["s-0"].Phase != rollout.StackStuck ||
			!strings.Contains(s.story(), "ended without success") {
			t.Errorf("%s, %+v\n%s", r.Stacks["s-0"].Phase, c, s.story())
		}
	})
}

// A proof that has seen nothing yet keeps its step open, and does not keep a rollback from ending.
func TestAProofIsNotAwaitedOnTheWayBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newRefreshing(t, "running")
		if r := s.goOn(t, 40*24*time.Hour); r != nil && r.Status == rollout.Done {
			t.Fatalf("the step did not stay open\n%s", s.story())
		}
		began := time.Now()
		r := s.rolledBack(t)
		if c := r.Changes["c-000000000001"]; c.Phase != engine.ChangeVerified || !strings.Contains(c.Reason, "not awaited") {
			t.Errorf("%+v\n%s", c, s.story())
		}
		if took := time.Since(began); took > time.Hour {
			t.Errorf("the rollback took %s", took)
		}
	})
}
