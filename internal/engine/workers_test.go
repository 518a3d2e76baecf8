package engine_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"slices"
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
	"github.com/imdsctl/imdsctl/internal/kind"
	"github.com/imdsctl/imdsctl/internal/plan"
	"github.com/imdsctl/imdsctl/internal/rollout"
)

// process is one of several that work on a rollout. It can be killed, after which nothing of it reaches the journal or AWS,
// and it can be stopped for a while, unaware of it.
type process struct {
	*enginetest.Journal
	site *site
	name string
	// alone: all resources are in one place, whose lane the process must hold for every call.
	alone bool
	dead  atomic.Bool
	mu    sync.Mutex
	// asleep is until when the process stands still.
	asleep time.Time
	// beside counts the calls it made beside those of another holder of the lane.
	beside atomic.Int64
	// hesitates, where set, comes before each call.
	hesitates func()
}

func (p *process) stopFor(d time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.asleep = time.Now().Add(d)
}

// live waits while the process is stopped, and fails when it was killed.
func (p *process) live() error {
	p.mu.Lock()
	d := time.Until(p.asleep)
	p.mu.Unlock()
	if d > 0 {
		time.Sleep(d)
	}
	if p.dead.Load() {
		return errDead
	}
	return nil
}

func (p *process) Move(ctx context.Context, id string, seat engine.Lease, m []engine.Move, now time.Time) error {
	if err := p.live(); err != nil {
		return err
	}
	return p.Journal.Move(ctx, id, seat, m, now)
}

func (p *process) Control(ctx context.Context, id string) (engine.Control, error) {
	if err := p.live(); err != nil {
		return engine.Control{}, err
	}
	return p.Journal.Control(ctx, id)
}

func (p *process) Admit(ctx context.Context, a engine.Admission) (engine.Intent, error) {
	if err := p.live(); err != nil {
		return engine.Intent{}, err
	}
	return p.Journal.Admit(ctx, a)
}

func (p *process) Settle(ctx context.Context, s engine.Settlement) error {
	if err := p.live(); err != nil {
		return err
	}
	return p.Journal.Settle(ctx, s)
}

func (p *process) Acquire(ctx context.Context, key, holder string, now time.Time, ttl time.Duration) (engine.Lease, error) {
	if err := p.live(); err != nil {
		return engine.Lease{}, err
	}
	return p.Journal.Acquire(ctx, key, holder, now, ttl)
}

func (p *process) Renew(ctx context.Context, l engine.Lease, now time.Time, ttl time.Duration) error {
	if err := p.live(); err != nil {
		return err
	}
	return p.Journal.Renew(ctx, l, now, ttl)
}

func (p *process) Release(ctx context.Context, l engine.Lease, now time.Time) (bool, error) {
	if err := p.live(); err != nil {
		return false, err
	}
	return p.Journal.Release(ctx, l, now)
}

func (p *process) Post(ctx context.Context, id string, seat engine.Lease, o []engine.Order, now time.Time) error {
	if err := p.live(); err != nil {
		return err
	}
	return p.Journal.Post(ctx, id, seat, o, now)
}

func (p *process) Take(ctx context.Context, l engine.Lease, at fleet.Place, n int, now time.Time) ([]engine.Task, error) {
	if err := p.live(); err != nil {
		return nil, err
	}
	return p.Journal.Take(ctx, l, at, n, now)
}

func (p *process) Close(ctx context.Context, l engine.Lease, at fleet.Place, r []engine.Report, now time.Time) error {
	if err := p.live(); err != nil {
		return err
	}
	return p.Journal.Close(ctx, l, at, r, now)
}

func (p *process) Collect(ctx context.Context, id string, seat engine.Lease, now time.Time) ([]engine.Report, error) {
	if err := p.live(); err != nil {
		return nil, err
	}
	return p.Journal.Collect(ctx, id, seat, now)
}

// Driver gives the world's, as this process reaches it.
func (p *process) Driver(at fleet.Place, name string) (kind.Driver, error) {
	d, err := p.site.world.Driver(at, name)
	return reach{d, p}, err
}

// Kind is the world's.
func (p *process) Kind(name string) (kind.Kind, bool) { return p.site.world.Kind(name) }

// reach is a driver of a process. What was held up until its caller had given it up is not sent.
type reach struct {
	kind.Driver
	p *process
}

func (r reach) Write(ctx context.Context, w kind.Write) (kind.Result, error) {
	if err := r.send(ctx, w.Place); err != nil {
		return kind.Result{}, &fleet.CallError{Class: classOf(err), Place: w.Place, Action: w.Verb, Err: err}
	}
	return r.Driver.Write(ctx, w)
}

func (r reach) Read(ctx context.Context, id string) (inventory.Resource, error) {
	if err := r.send(ctx, place); err != nil {
		return inventory.Resource{}, &fleet.CallError{Class: classOf(err), Place: place, Action: "read", Err: err}
	}
	return r.Driver.Read(ctx, id)
}

var errTooLate = errors.New("too late")

// classOf is awsx's class of what was not sent.
func classOf(err error) fleet.ErrorClass {
	if errors.Is(err, errTooLate) {
		return fleet.ErrLate
	}
	return fleet.ErrTransient
}

// send is the last moment before a call leaves the process: what awsx looks at then.
func (r reach) send(ctx context.Context, at fleet.Place) error {
	if r.p.hesitates != nil {
		r.p.hesitates()
	}
	if err := r.p.live(); err != nil {
		return err
	}
	if end, ok := clock.End(ctx); ok && !time.Now().Before(end) {
		return errTooLate
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if holder := r.p.Holder(engine.LaneKey(at)); r.p.alone && holder != r.p.name {
		r.p.beside.Add(1)
	}
	return nil
}

func (r reach) CheckUndo(ctx context.Context, w kind.Write) error {
	return r.Driver.(kind.UndoChecker).CheckUndo(ctx, w)
}

// run works until the rollout is over or the process is killed: it coordinates whatever nobody coordinates, and takes whatever
// lane is free.
func (p *process) run(ctx context.Context) {
	e := engine.New(engine.Options{Journal: p, Drivers: p, Gates: p.site.gates, Clock: clock.System(),
		Logger: slog.New(slog.DiscardHandler), Holder: p.name, PollInterval: 20 * time.Second, LaneWidth: 3})
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var all sync.WaitGroup
	all.Go(func() {
		defer cancel()
		for ctx.Err() == nil && !p.dead.Load() {
			if r, err := e.Coordinate(ctx, p.site.id); err == nil && r.Status.Final() {
				return
			}
			if clock.System().Sleep(ctx, 10*time.Second) != nil {
				return
			}
		}
	})
	all.Go(func() {
		for ctx.Err() == nil && !p.dead.Load() {
			var shifts sync.WaitGroup
			for _, at := range p.Places() {
				shifts.Go(func() { _, _ = e.Work(ctx, at, 30*time.Second) })
			}
			shifts.Wait()
			if clock.System().Sleep(ctx, time.Second) != nil {
				return
			}
		}
	})
	all.Wait()
}

// Three processes that are killed, replaced, stopped and woken at random, under faults of AWS, end a rollout as one that was
// never disturbed does, or as its gates ask.
func TestManyWorkersKeepThePromises(t *testing.T) {
	rounds := sequences(t, 400, 20)
	var kills, stops int
	for seed := range rounds {
		synctest.Test(t, func(t *testing.T) {
			k, s := workersCampaign(t, uint64(seed))
			kills, stops = kills+k, stops+s
		})
		if t.Failed() {
			return
		}
	}
	t.Logf("%d rollouts by three processes, %d of them killed, %d stopped past their leases", rounds, kills, stops)
	if kills == 0 || stops == 0 {
		t.Error("nothing was disturbed")
	}
}

func workersCampaign(t *testing.T, seed uint64) (kills, stops int) {
	rng := rand.New(rand.NewPCG(seed, 11))
	var mu sync.Mutex
	intn := func(n int) int {
		mu.Lock()
		defer mu.Unlock()
		return rng.IntN(n)
	}
	sizes := make([]int, 2+intn(4))
	for i := range sizes {
		sizes[i] = 1 + intn(6)
	}
	s := newSite(t, sizes...)
	s.plan.Header.Rules.MaxFailures = intn(2)
	for id := range s.before {
		if strings.HasPrefix(id, "i-") && intn(15) == 0 {
			s.gates.fail[id] = id + " made refused v1 calls"
		}
	}
	s.vary(t, func(n int) bool { return intn(n) == 0 })
	s.journal.Shared = true
	over := make(chan struct{})
	defer close(over)
	go s.attend(func(n int) bool { return intn(n) == 0 }, over)
	var calm atomic.Bool
	s.world.Fault = func(call, _ string) enginetest.Fault {
		if calm.Load() || intn(10) > 0 {
			return enginetest.Fine
		}
		return []enginetest.Fault{enginetest.Lost, enginetest.Unsent, enginetest.Throttled}[intn(3)]
	}
	ctx, cancel := context.WithTimeout(t.Context(), 1000*time.Hour)
	defer cancel()
	var all sync.WaitGroup
	procs := make([]*process, 3)
	var everybody []*process
	onePlace := !slices.ContainsFunc(s.plan.Stacks, func(st plan.Stack) bool { return st.Place != place })
	born := 0
	spawn := func(i int) {
		born++
		p := &process{Journal: s.journal, site: s, name: fmt.Sprintf("host-%d", born), alone: onePlace}
		procs[i] = p
		everybody = append(everybody, p)
		all.Go(func() { p.run(ctx) })
	}
	for i := range procs {
		spawn(i)
	}
	for range 3 + intn(10) {
		time.Sleep(time.Duration(intn(1200)) * time.Second / 4)
		i := intn(len(procs))
		if intn(2) == 0 {
			procs[i].dead.Store(true)
			kills++
			spawn(i)
		} else {
			procs[i].stopFor(time.Duration(70+intn(600)) * time.Second)
			stops++
		}
	}
	calm.Store(true)
	finished := make(chan struct{})
	go func() { all.Wait(); close(finished) }()
	select {
	case <-finished:
	case <-ctx.Done():
	}
	r, err := s.journal.Load(t.Context(), s.id)
	if err != nil || errors.Is(ctx.Err(), context.DeadlineExceeded) || !r.Status.Final() {
		t.Fatalf("seed %d: no end in sight: %v, status %s\n%s", seed, err, r.Status, strings.Join(s.journal.Events, "\n"))
	}
	s.promises(t, seed, r)
	for _, p := range everybody {
		if n := p.beside.Load(); n > 0 {
			t.Errorf("seed %d: %s made %d calls beside the holder of the lane", seed, p.name, n)
		}
	}
	return kills, stops
}

func TestWorkersShareARollout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSite(t, 4, 1, 3)
		s.journal.Shared = true
		var all sync.WaitGroup
		for i := range 3 {
			p := &process{Journal: s.journal, site: s, name: fmt.Sprintf("host-%d", i)}
			all.Go(func() { p.run(t.Context()) })
		}
		all.Wait()
		r, err := s.journal.Load(t.Context(), s.id)
		if err != nil || r.Status != rollout.Done {
			t.Fatalf("%v, status %s\n%s", err, r.Status, strings.Join(s.journal.Events, "\n"))
		}
		s.want(t, func(string) bool { return true })
		if n := len(s.world.Effects); n != 11 {
			t.Errorf("%d writes for 11 changes", n)
		}
	})
}

// A worker that is too slow to renew its lease makes no call, time and again, and no change fails by that: it says nothing of
// AWS.
func TestSlownessFailsNoChange(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSite(t, 1)
		s.journal.Shared = true
		p := &process{Journal: s.journal, site: s, name: "slow"}
		var mu sync.Mutex
		left, late := 40, 0
		p.hesitates = func() {
			mu.Lock()
			defer mu.Unlock()
			if left > 0 {
				left--
				late++
				p.stopFor(5 * time.Minute)
			}
		}
		p.run(t.Context())
		s.want(t, func(string) bool { return true })
		if n := len(s.world.Effects); n != 4 || late < 40 {
			t.Errorf("%d writes for 4 changes, held up %d times: %+v", n, late, s.world.Effects)
		}
	})
}

// However often workers are killed between their intent and its call, no change is to blame for it.
func TestKillsFailNoChange(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSite(t, 1)
		s.journal.Shared = true
		var at atomic.Pointer[process]
		kills, victim := 12, ""
		s.world.Fault = func(call, id string) enginetest.Fault {
			if call != "write" || kills == 0 || victim != "" && id != victim {
				return enginetest.Fine
			}
			victim = id
			kills--
			at.Load().dead.Store(true)
			return enginetest.Unsent
		}
		for n := 0; ; n++ {
			p := &process{Journal: s.journal, site: s, name: fmt.Sprintf("worker %d", n)}
			at.Store(p)
			if p.run(t.Context()); !p.dead.Load() {
				break
			}
		}
		s.want(t, func(string) bool { return true })
		if n := len(s.world.Effects); n != 4 || kills > 0 {
			t.Errorf("%d writes for 4 changes, %d kills left: %+v", n, kills, s.world.Effects)
		}
	})
}

// A worker that was stopped past its lease writes nothing when it wakes.
func TestAFencedWorkerWritesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSite(t, 1)
		s.journal.Shared = true
		slow := &process{Journal: s.journal, site: s, name: "slow"}
		began := make(chan struct{}, 1)
		s.world.Fault = func(call, _ string) enginetest.Fault {
			if call == "read" {
				select {
				case began <- struct{}{}:
					slow.stopFor(10 * time.Minute)
				default:
				}
			}
			return enginetest.Fine
		}
		var all sync.WaitGroup
		all.Go(func() { slow.run(t.Context()) })
		<-began
		quick := &process{Journal: s.journal, site: s, name: "quick"}
		all.Go(func() { quick.run(t.Context()) })
		all.Wait()
		s.want(t, func(string) bool { return true })
		if n := len(s.world.Effects); n != 4 {
			t.Errorf("%d writes for 4 changes: %+v", n, s.world.Effects)
		}
	})
}
