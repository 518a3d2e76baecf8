package worker_test

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/imdsctl/imdsctl/internal/clock"
	"github.com/imdsctl/imdsctl/internal/engine"
	"github.com/imdsctl/imdsctl/internal/engine/enginetest"
	"github.com/imdsctl/imdsctl/internal/fleet"
	"github.com/imdsctl/imdsctl/internal/inventory"
	"github.com/imdsctl/imdsctl/internal/plan"
	"github.com/imdsctl/imdsctl/internal/rollout"
	"github.com/imdsctl/imdsctl/internal/store"
	"github.com/imdsctl/imdsctl/internal/worker"
	"github.com/imdsctl/imdsctl/test/postgres"
)

func TestMain(m *testing.M) { os.Exit(postgres.Main(m)) }

// calm is a GateReader that always passes.
type calm struct{}

func (calm) ReadGates(context.Context, engine.GateQuery) (engine.GateResult, error) {
	return engine.GateResult{Pass: true}, nil
}

// site is a rollout in a database of its own, over a world in memory.
type site struct {
	url   string
	world *enginetest.World
	plan  *plan.Plan
	id    string
}

// optional is an instance before, required after.
var (
	optional = fleet.Options{Tokens: "optional", Endpoint: "enabled", HopLimit: 2}.State()
	required = optional.With(fleet.State{"HttpTokens": "required"})
)

// begin plans stacks of instances over some accounts and begins their rollout.
func begin(t *testing.T, accounts, stacks, size int) *site {
	t.Helper()
	s := &site{url: postgres.Shared(t).Database(t), world: enginetest.NewWorld()}
	p := &plan.Plan{Header: plan.Header{Format: plan.FormatVersion, Waves: []plan.Wave{{Name: "all"}},
		Rules: plan.Rules{MaxInFlight: 200, MaxInFlightAccount: 20, MaxStacks: 100, MaxStacksAccount: 10}}}
	for n := range stacks {
		place := fleet.Place{Partition: "aws", Account: fleet.AccountID(fmt.Sprintf("%012d", 100000000000+n%accounts)), Region: "eu-west-1"}
		id := fmt.Sprintf("s-%d", n)
		p.Stacks = append(p.Stacks, plan.Stack{ID: id, Name: id, Place: place, Steps: []plan.Step{{Name: "fleet", Stage: plan.StageFleet, Changes: size}}})
		for i := range size {
			iid := fmt.Sprintf("i-%d-%d", n, i)
			s.world.Put(iid, optional)
			p.Changes = append(p.Changes, plan.Change{ID: fmt.Sprintf("c-%012x", n*1000+i), Action: "set-options", Class: plan.ClassSet, Stack: id,
				Ref: fleet.Ref{Place: place, Kind: inventory.KindInstance, ID: iid}, Before: optional, After: required})
		}
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
	db := s.open(t)
	now := time.Now()
	if err := db.PutPlan(t.Context(), read.Digest, read.Header, "plan.json", now); err != nil {
		t.Fatal(err)
	}
	if _, err := db.Approve(t.Context(), read.Digest, "ana", "", now); err != nil {
		t.Fatal(err)
	}
	record, err := db.Begin(t.Context(), read, now)
	if err != nil {
		t.Fatal(err)
	}
	s.id = record.ID
	return s
}

// open opens the database as a process of its own would.
func (s *site) open(t *testing.T) *store.Store {
	t.Helper()
	d, err := worker.NewDispatcher(slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	db, err := store.OpenPostgres(t.Context(), s.url, store.Options{Dispatch: d.Dispatch})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	})
	return db
}

// work runs a worker until ctx ends.
func (s *site) work(ctx context.Context, t *testing.T, db *store.Store, name string) {
	t.Helper()
	log := slog.New(slog.DiscardHandler)
	e := engine.New(engine.Options{Journal: db.Queue(), Drivers: s.world, Gates: calm{}, Clock: clock.System(), Logger: log, Holder: name,
		PollInterval: 50 * time.Millisecond, LeaseTTL: 3 * time.Second, CallTimeout: 2 * time.Second, Consistency: 50 * time.Millisecond})
	w := worker.New(worker.Options{Engine: e, Pool: db.Pool(), Unfinished: db.Unfinished, Logger: log, Clock: clock.System(),
		Look: 200 * time.Millisecond, Shift: 2 * time.Second})
	if err := w.Run(ctx); err != nil {
		t.Errorf("worker %s: %v", name, err)
	}
}

// await waits for the rollout to reach a status.
func (s *site) await(t *testing.T, db *store.Store, want rollout.Status) {
	t.Helper()
	for {
		c, err := db.Control(t.Context(), s.id)
		if err != nil {
			t.Fatal(err)
		}
		if c.Status == want {
			return
		}
		if c.Status.Final() {
			t.Fatalf("it ended as %s: %s", c.Status, c.Reason)
		}
		if err := clock.System().Sleep(t.Context(), 50*time.Millisecond); err != nil {
			t.Fatal(err)
		}
	}
}

// once checks that every change was made exactly once, and nothing else.
func (s *site) once(t *testing.T) {
	t.Helper()
	times := map[string]int{}
	for _, e := range s.world.Effects {
		times[e.ID]++
	}
	for _, c := range s.plan.Changes {
		if times[c.Ref.ID] != 1 || !s.world.Get(c.Ref.ID).Equal(c.After) {
			t.Errorf("%s was written %d times and is %v", c.Ref.ID, times[c.Ref.ID], s.world.Get(c.Ref.ID))
		}
		delete(times, c.Ref.ID)
	}
	if len(times) > 0 {
		t.Errorf("written besides: %v", times)
	}
}

// Workers come and go while a rollout runs; it ends as one that a single process works on.
func TestWorkersComeAndGo(t *testing.T) {
	s := begin(t, 6, 40, 5)
	watch := s.open(t)
	var all sync.WaitGroup
	ctx, finish := context.WithCancel(t.Context())
	defer all.Wait()
	defer finish()
	first, leave := context.WithCancel(ctx)
	for i, ctx := range []context.Context{first, ctx, ctx} {
		db := s.open(t)
		all.Go(func() { s.work(ctx, t, db, fmt.Sprintf("host-%d", i)) })
	}
	for { // the first leaves in the middle
		record, err := watch.Load(t.Context(), s.id)
		if err != nil {
			t.Fatal(err)
		}
		done := 0
		for _, c := range record.Changes {
			if c.Phase == engine.ChangeVerified {
				done++
			}
		}
		if done > 20 {
			break
		}
		if err := clock.System().Sleep(t.Context(), 20*time.Millisecond); err != nil {
			t.Fatal(err)
		}
	}
	leave()
	s.await(t, watch, rollout.Done)
	s.once(t)
	if followed, broken, err := watch.VerifyChain(t.Context(), s.id); err != nil || broken != nil {
		t.Errorf("journal: %+v %v %v", followed, broken, err)
	}
}

// Paused by one process it is paused in all of them, and goes on when another resumes it.
func TestAPauseHoldsEverywhere(t *testing.T) {
	s := begin(t, 4, 30, 4)
	watch := s.open(t)
	var all sync.WaitGroup
	ctx, finish := context.WithCancel(t.Context())
	defer all.Wait()
	defer finish()
	for i := range 2 {
		db := s.open(t)
		all.Go(func() { s.work(ctx, t, db, fmt.Sprintf("host-%d", i)) })
	}
	request := store.Request{Rollout: s.id, Actor: "ana", Reason: "lunch", Now: time.Now()}
	if _, err := watch.Pause(t.Context(), request); err != nil {
		t.Fatal(err)
	}
	intents := func() (n int) {
		for e, err := range watch.Events(t.Context(), s.id, 0) {
			if err != nil {
				t.Fatal(err)
			}
			if e.Name == "intent" {
				n++
			}
		}
		return n
	}
	before := intents()
	if err := clock.System().Sleep(t.Context(), time.Second); err != nil {
		t.Fatal(err)
	}
	if after := intents(); after != before {
		t.Errorf("%d intents began after the pause", after-before)
	}
	if _, err := watch.Resume(t.Context(), request); err != nil {
		t.Fatal(err)
	}
	s.await(t, watch, rollout.Done)
	s.once(t)
}
