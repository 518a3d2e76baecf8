package bench

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strconv"
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

// The engine's benchmarks: places, and how many changes a large stack has, of which there are ten at least.
const (
	lanes      = 20
	largeStack = 1000
)

// Journals that the engine is measured with.
const (
	inMemory   = "memory"
	onSQLite   = "sqlite"
	onPostgres = "postgres"
)

// engineResult is what the engine's process tells, with the time that recording the plan took before.
type engineResult struct {
	Begin time.Duration
	usage
}

// passing is a gate that always passes.
type passing struct{}

func (passing) ReadGates(context.Context, engine.GateQuery) (engine.GateResult, error) {
	return engine.GateResult{Pass: true}, nil
}

// enginePlan is a plan of n changes in stacks of a size, spread over the lanes. Nothing in it has to be waited for.
func enginePlan(n, size int) (*plan.Plan, *enginetest.World, error) {
	now := time.Now().UTC().Truncate(time.Second)
	p := &plan.Plan{Header: plan.Header{Format: plan.FormatVersion, Created: now, Tool: "bench", Taken: now, Waves: []plan.Wave{{Name: "all"}},
		Rules: plan.Rules{MaxInFlight: 1000, MaxStacks: 1000, MaxFailures: 1, GateInterval: time.Minute}}}
	world := enginetest.NewWorld()
	before := fleet.State{fleet.FieldTokens: "optional", fleet.FieldEndpoint: "enabled", fleet.FieldHopLimit: "2"}
	after := before.With(fleet.State{fleet.FieldTokens: "required"})
	for at := 0; at < n; at += size {
		number := at / size
		place := fleet.Place{Partition: fleet.PartitionAWS, Account: fleet.AccountID(fmt.Sprintf("%012d", number%lanes+1)), Region: "eu-west-1"}
		s := plan.Stack{ID: fmt.Sprintf("s-%d", number), Name: fmt.Sprintf("stack %d", number), Place: place}
		for i := at; i < min(n, at+size); i++ {
			step := min(i-at, 1)
			if step == len(s.Steps) {
				s.Steps = append(s.Steps, plan.Step{Name: "fleet", Stage: plan.StageFleet})
			}
			s.Steps[step].Changes++
			c := plan.Change{ID: fmt.Sprintf("c-%012x", i), Ref: fleet.Ref{Place: place, Kind: inventory.KindInstance, ID: fmt.Sprintf("i-%017x", i)},
				Action: "set-options", Class: plan.ClassSet, Stack: s.ID, Step: step, Before: before, After: after, Undo: "full", Disruption: "none",
				Why: "nothing calls v1", Evidence: plan.Evidence{Verdict: "ready", Reason: "no call in 14 days", Covered: 336, Periods: 336, Boots: 1},
				Calls: map[string]int{"ec2:DescribeInstances": 2, "ec2:ModifyInstanceMetadataOptions": 1}}
			world.Put(c.Ref.ID, before)
			p.Changes = append(p.Changes, c)
		}
		p.Stacks = append(p.Stacks, s)
	}
	return p, world, plan.Write(io.Discard, p)
}

// ledger is a fresh journal with a plan's rollout begun in it.
type ledger struct {
	engine.Journal
	db      *store.Store // nil in memory
	rollout string
	begin   time.Duration
}

// openLedger opens the journal that the job names, approves the plan and begins its rollout.
func openLedger(ctx context.Context, j job, p *plan.Plan) (*ledger, error) {
	l := &ledger{}
	if err := l.open(ctx, j, p); err != nil {
		return nil, err
	}
	begun := time.Now()
	record, err := l.Begin(ctx, p, begun)
	if err != nil {
		return nil, err
	}
	l.rollout, l.begin = record.ID, time.Since(begun)
	return l, nil
}

func (l *ledger) open(ctx context.Context, j job, p *plan.Plan) (err error) {
	switch j.Store {
	case inMemory:
		memory := enginetest.NewJournal()
		memory.Approve(p.Digest, "bench")
		l.Journal = memory
		return nil
	case onSQLite:
		l.db, err = store.Open(j.Database, store.Options{})
		l.Journal = l.db
	default:
		var caller *worker.Dispatcher
		if caller, err = worker.NewDispatcher(slog.New(slog.DiscardHandler)); err != nil {
			return err
		}
		if l.db, err = store.OpenPostgres(ctx, j.Database, store.Options{Dispatch: caller.Dispatch}); err == nil {
			l.Journal = l.db.Queue()
		}
	}
	if err == nil {
		err = l.db.PutPlan(ctx, p.Digest, p.Header, "", p.Header.Created)
	}
	if err == nil {
		_, err = l.db.Approve(ctx, p.Digest, "bench", "", p.Header.Created)
	}
	return err
}

func (l *ledger) close() error {
	if l.db == nil {
		return nil
	}
	return l.db.Close()
}

// runEngine is the process of a whole rollout with AWS taken away: what is left is the engine and its journal, and on
// PostgreSQL the worker that brings the two together.
func runEngine(j job) (any, error) {
	p, world, err := enginePlan(j.Changes, j.StackSize)
	if err != nil {
		return nil, err
	}
	ctx := context.Background()
	l, err := openLedger(ctx, j, p)
	if err != nil {
		return nil, err
	}
	log := slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn}))
	e := engine.New(engine.Options{Journal: l, Drivers: world, Gates: passing{}, Clock: clock.System(), Logger: log, Holder: "bench"})
	before, begun := usageOf("self"), time.Now()
	var record *engine.Record
	if j.Store == onPostgres {
		e = engine.New(engine.Options{Journal: l.db.Queue(), Drivers: world, Gates: passing{}, Clock: clock.System(), Logger: log, Holder: "bench"})
		record, err = l.work(ctx, e, log)
	} else {
		record, err = e.Run(ctx, l.rollout)
	}
	if err != nil {
		return nil, err
	}
	out := engineResult{usage: measured(begun), Begin: l.begin}
	out.CPU -= before.CPU
	for _, c := range record.Changes {
		if c.Phase != engine.ChangeVerified || !c.Wrote {
			return nil, fmt.Errorf("change %s is %s: %s", c.ID, c.Phase, c.Reason)
		}
	}
	if record.Status != rollout.Done || len(world.Effects) != j.Changes {
		return nil, fmt.Errorf("the rollout is %s after %d effects: %s", record.Status, len(world.Effects), record.Reason)
	}
	return out, l.close()
}

// work has one worker carry the rollout out, and gives its record when it has ended.
func (l *ledger) work(ctx context.Context, e *engine.Engine, log *slog.Logger) (*engine.Record, error) {
	working, stop := context.WithCancel(ctx)
	w := worker.New(worker.Options{Engine: e, Pool: l.db.Pool(), Unfinished: l.db.Unfinished, Logger: log, Clock: clock.System(),
		Look: 100 * time.Millisecond})
	ended := make(chan error, 1)
	go func() { ended <- w.Run(working) }()
	for {
		control, err := l.Control(ctx, l.rollout)
		if err != nil || control.Status.Final() {
			stop()
			record, loadErr := l.Load(ctx, l.rollout)
			return record, errors.Join(err, loadErr, <-ended)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// floorResult is what the floor's process tells.
type floorResult struct {
	usage
	// Changes is how many changes had their transactions within Wall.
	Changes int
	// Alone is the time of one transaction while there is no other, Sync that of writing a page to the same disk and waiting for it.
	Alone, Sync time.Duration
}

// runFloor is the process that makes the transactions that no change can do without, and nothing else: an intent, what became
// of it, and that it was verified.
func runFloor(j job) (any, error) {
	p, _, err := enginePlan(j.Changes, j.Changes/lanes)
	if err != nil {
		return nil, err
	}
	ctx := context.Background()
	l, err := openLedger(ctx, j, p)
	if err != nil {
		return nil, err
	}
	held, byLane, err := l.prepare(ctx, p)
	if err != nil {
		return nil, err
	}
	var out floorResult
	first := byLane[0][:min(200, len(byLane[0])/2)]
	byLane[0] = byLane[0][len(first):]
	begun := time.Now()
	for _, c := range first {
		if err := l.three(ctx, c, held[c.Ref.Place]); err != nil {
			return nil, err
		}
	}
	out.Alone = time.Since(begun) / time.Duration(3*len(first))
	before, begun := usageOf("self"), time.Now()
	if err := l.together(ctx, held, byLane); err != nil {
		return nil, err
	}
	out.usage = measured(begun)
	out.CPU -= before.CPU
	out.Changes = len(p.Changes) - len(p.Stacks) - len(first)
	if out.Sync, err = syncTime(j.Scratch); err != nil {
		return nil, err
	}
	return out, l.close()
}

// prepare takes all lanes and brings each stack to its second step; it gives the changes of that, by lane.
func (l *ledger) prepare(ctx context.Context, p *plan.Plan) (map[fleet.Place]engine.Lease, [][]*plan.Change, error) {
	now := time.Now()
	held, changes := map[fleet.Place]engine.Lease{}, map[string][]*plan.Change{}
	seat, err := l.Acquire(ctx, engine.SeatKey(l.rollout), "bench", now, time.Hour)
	if err != nil {
		return nil, nil, err
	}
	for i := range p.Changes {
		if c := &p.Changes[i]; c.Step == 1 {
			changes[c.Stack] = append(changes[c.Stack], c)
		}
	}
	var byLane [][]*plan.Change
	for i := range p.Stacks {
		s := &p.Stacks[i]
		byLane = append(byLane, changes[s.ID])
		if held[s.Place], err = l.Acquire(ctx, engine.LaneKey(s.Place), "bench", now, time.Hour); err != nil {
			return nil, nil, err
		}
		from := rollout.Stack{Phase: rollout.StackWaiting}
		for _, e := range []rollout.StackEvent{rollout.StackStart, rollout.StackClear, rollout.StackStepWritten, rollout.StackStepPassed} {
			to, _ := rollout.Next(from, e, "", rollout.Wait{}, now)
			if err := l.Move(ctx, l.rollout, seat, []engine.Move{{Stack: s.ID, From: from, To: to, Event: string(e)}}, now); err != nil {
				return nil, nil, err
			}
			from = to
		}
	}
	return held, byLane, nil
}

// together makes the transactions of all changes, as many at a time as the engine does.
func (l *ledger) together(ctx context.Context, held map[fleet.Place]engine.Lease, byLane [][]*plan.Change) error {
	const width = 8 // of a lane
	var group sync.WaitGroup
	failed := make(chan error, width*len(byLane))
	for _, changes := range byLane {
		next := make(chan *plan.Change, len(changes))
		for _, c := range changes {
			next <- c
		}
		close(next)
		for range width {
			group.Go(func() {
				for c := range next {
					if err := l.three(ctx, c, held[c.Ref.Place]); err != nil {
						failed <- err
						return
					}
				}
			})
		}
	}
	group.Wait()
	close(failed)
	return <-failed
}

// three makes the transactions of one change.
func (l *ledger) three(ctx context.Context, c *plan.Change, lane engine.Lease) error {
	now := time.Now()
	intent, err := l.Admit(ctx, engine.Admission{Rollout: l.rollout, Change: c, Direction: engine.Forward, Lane: lane,
		Token: engine.Token(l.rollout, c.ID, engine.Forward, 1), Now: now, Lease: time.Minute})
	if err != nil {
		return err
	}
	done := engine.Settlement{Rollout: l.rollout, Change: c.ID, Intent: intent.ID, Lane: lane, Phase: engine.ChangeApplied, Wrote: true, Now: now}
	if err := l.Settle(ctx, done); err != nil {
		return err
	}
	done.Intent, done.Phase = 0, engine.ChangeVerified
	return l.Settle(ctx, done)
}

// syncTime is how long the disk takes for a page.
func syncTime(dir string) (time.Duration, error) {
	f, err := os.Create(filepath.Join(dir, "sync"))
	if err != nil {
		return 0, err
	}
	defer f.Close()
	const times = 200
	page := make([]byte, 4096)
	begun := time.Now()
	for range times {
		if _, err := f.Write(page); err != nil {
			return 0, err
		}
		if err := f.Sync(); err != nil {
			return 0, err
		}
	}
	return time.Since(begun) / times, nil
}

// engineSizes are the numbers of changes for a journal: some for every run, and the one that is asked for.
func engineSizes(tb testing.TB, on string) []int {
	tb.Helper()
	sizes := map[string][]int{inMemory: {10_000, 100_000}, onSQLite: {4000}, onPostgres: {2000}}[on]
	if n := changesAsked(tb); n > 0 && !slices.Contains(sizes, n) {
		sizes = append(sizes, n)
	}
	return sizes
}

// changesAsked is the number of changes that the environment asks for; 0 for none.
func changesAsked(tb testing.TB) int {
	tb.Helper()
	text := os.Getenv(envChanges)
	if text == "" {
		return 0
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 10*lanes {
		tb.Fatalf("%s=%q: want a number of at least %d", envChanges, text, 10*lanes)
	}
	return n
}

// BenchmarkStatements counts what a rollout asks PostgreSQL for.
func BenchmarkStatements(b *testing.B) {
	if testing.Short() {
		b.Skip("left out with -short")
	}
	const n = 1000
	db := postgres.Start(b)
	for _, shape := range []struct {
		name string
		size int
	}{{"bare", 1}, {"stacks", n / 10}} {
		b.Run(shape.name, func(b *testing.B) {
			for b.Loop() {
				m := newMeter(b, db.Database(b))
				perform[engineResult](b, "engine", job{Changes: n, StackSize: shape.size, Store: onPostgres, Database: m.url})
				said, turns := m.take()
				table, all, commits := statements(said, n)
				b.Logf("statements for a change:%s", table)
				b.ReportMetric(float64(all)/n, "statements/change")
				b.ReportMetric(float64(commits)/n, "commits/change")
				b.ReportMetric(float64(turns)/n, "round-trips/change")
			}
			b.ReportMetric(0, "ns/op")
		})
	}
}

// BenchmarkEngine carries rollouts out with AWS taken away, as many bare instances and as few large stacks, beside the
// transactions that their changes need in any case, in a journal of the same kind.
func BenchmarkEngine(b *testing.B) {
	for _, on := range []string{inMemory, onSQLite, onPostgres} {
		for _, n := range engineSizes(b, on) {
			b.Run(fmt.Sprintf("%s/changes=%d", on, n), func(b *testing.B) { benchmarkEngine(b, on, n) })
		}
	}
}

func benchmarkEngine(b *testing.B, on string, n int) {
	if on == onPostgres && testing.Short() {
		b.Skip("left out with -short")
	}
	var db *postgres.Server
	if on == onPostgres {
		db = postgres.Start(b)
	}
	fresh := func(size int) job {
		j := job{Changes: n, StackSize: size, Store: on, Scratch: b.TempDir()}
		j.Database = filepath.Join(j.Scratch, "imdsctl.db")
		if db != nil {
			j.Database = db.Database(b)
		}
		return j
	}
	per := func(d time.Duration, n int) float64 { return float64(d.Nanoseconds()) / 1e3 / float64(n) }
	for b.Loop() {
		// The machine may have other things to do: the floor is measured before and after, and the better one counts.
		floor, _ := perform[floorResult](b, "floor", fresh(n))
		bare, _ := perform[engineResult](b, "engine", fresh(1))
		stacks, _ := perform[engineResult](b, "engine", fresh(min(largeStack, n/10)))
		if again, _ := perform[floorResult](b, "floor", fresh(n)); again.Wall < floor.Wall {
			floor = again
		}
		b.Logf("%s; the floor took %.0f MiB", machine(), floor.Peak)
		b.ReportMetric(per(floor.Wall, floor.Changes), "floor-µs/change")
		b.ReportMetric(per(floor.CPU, floor.Changes), "floor-cpu-µs/change")
		b.ReportMetric(per(floor.Alone, 1), "µs/transaction-alone")
		b.ReportMetric(per(floor.Sync, 1), "µs/fsync")
		for name, got := range map[string]engineResult{"bare": bare, "stacks": stacks} {
			b.ReportMetric(per(got.Wall, n), name+"-µs/change")
			b.ReportMetric(per(got.CPU, n), name+"-cpu-µs/change")
			b.ReportMetric(per(got.Wall, n)/per(floor.Wall, floor.Changes), name+"-time/floor")
			b.ReportMetric(got.Peak, name+"-MiB-peak")
		}
	}
	b.ReportMetric(0, "ns/op")
}
