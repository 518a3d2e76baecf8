package rehearse

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"runtime/debug"
	"slices"
	"time"

	"github.com/imdsctl/imdsctl/internal/awssim"
	"github.com/imdsctl/imdsctl/internal/awsx"
	"github.com/imdsctl/imdsctl/internal/clock"
	"github.com/imdsctl/imdsctl/internal/engine"
	"github.com/imdsctl/imdsctl/internal/engine/inmemory"
	"github.com/imdsctl/imdsctl/internal/evidence"
	"github.com/imdsctl/imdsctl/internal/fleet"
	"github.com/imdsctl/imdsctl/internal/gates"
	"github.com/imdsctl/imdsctl/internal/inventory"
	"github.com/imdsctl/imdsctl/internal/plan"
)

// Options say what is rehearsed and how.
type Options struct {
	Plan *plan.Plan
	// Place gives what was scanned and observed of a place. It is asked for the plan's places, one at a time.
	Place func(ctx context.Context, place fleet.Place) (*inventory.Snapshot, map[fleet.Ref][]*evidence.Window, error)
	// Accounts are those of the organization, with their units: the organization's policies bind them.
	Accounts []inventory.Account
	// Share and Limits are the rollout's own, as awsx takes them.
	Share  float64
	Limits map[string]awsx.Limit
	// Latency is how long AWS takes for each call.
	Latency time.Duration
	// Engine adjusts the engine as the rollout's is; its journal, drivers, gates and clock are the rehearsal's.
	Engine engine.Options
	// Findings gives what was found of an account besides its windows; nil where nothing is known.
	Findings func(ctx context.Context, account fleet.AccountID) ([]evidence.Finding, error)
	// Horizon is how far the rehearsal looks: a rollout that has not ended by then is reported as it stands. DefaultHorizon
	// when 0.
	Horizon  time.Duration
	Progress func(Progress)
	Logger   *slog.Logger // discards when nil
}

// DefaultHorizon is far enough for any plan that opens at all.
const DefaultHorizon = 400 * 24 * time.Hour

// Progress says how far a rehearsal has come.
type Progress struct {
	// Loaded counts places in the simulator; Now is the rehearsal's time.
	Loaded, Places int
	Now            time.Time
	Stacks, Ended  int
}

// How exact a rehearsal is: how far apart moments may be that it takes as one, and how soon, and how late at most, it notices that a
// window opens or something that was started has ended.
const (
	pollRest = time.Minute

	largePlans    = 2_000 // changes, from which on these hold
	largeGrain    = 250 * time.Millisecond
	largePoll     = 5 * time.Second
	largePollRest = 5 * time.Minute
	leaseTTL      = time.Hour // in simulated time: nobody else is there to take a lane over
)

// heap is how much more memory than it needs the process may take for a rehearsal, in percent: what is simulated is made and
// thrown away by the gigabyte, and collecting it takes a third of the time otherwise.
const heap = 400

// Run rehearses a plan. The rollout begins at the time at which the plan was made.
func Run(ctx context.Context, o Options) (*Result, error) {
	defer debug.SetGCPercent(debug.SetGCPercent(heap))
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Horizon == 0 {
		o.Horizon = DefaultHorizon
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	grain := time.Duration(0)
	o.Engine.PollRest, o.Engine.LeaseTTL = pollRest, leaseTTL
	if len(o.Plan.Changes) > largePlans {
		grain, o.Engine.PollInterval, o.Engine.PollRest = largeGrain, largePoll, largePollRest
	}
	c := clock.NewLeaping(ctx, o.Plan.Header.Created, grain)
	st := &stage{opt: o, clock: c, calling: map[fleet.Ref]bool{}, out: &Result{Begun: o.Plan.Header.Created, Calls: map[string]awsx.Counts{}}}
	if err := st.build(ctx); err != nil {
		return nil, err
	}
	return st.play(ctx)
}

// stage is a simulated AWS with a rollout on it.
type stage struct {
	opt   Options
	clock clock.Clock
	world *awssim.World
	edge  *awsx.Edge
	calls tally
	gates *readings
	// calling are the instances on which programs call IMDSv1, with their groups and templates.
	calling map[fleet.Ref]bool
	// lasted is how long each stack that began was at work.
	lasted map[string]time.Duration
	out    *Result
}

// build loads the plan's places into a simulated AWS.
func (s *stage) build(ctx context.Context) error {
	latency := s.opt.Latency
	so := awssim.Options{Clock: s.clock, Seed: 1, Unenforced: true, CallLogLimit: 1}
	if latency > 0 {
		so.Latency = constant(latency)
	}
	s.world = awssim.New(so)
	places := placesOf(s.opt.Plan)
	for i, at := range places {
		snap, windows, err := s.opt.Place(ctx, at)
		if err != nil {
			return fmt.Errorf("load %s: %w", at, err)
		}
		var findings []evidence.Finding
		if s.opt.Findings != nil {
			if findings, err = s.opt.Findings(ctx, at.Account); err != nil {
				return fmt.Errorf("load %s: %w", at, err)
			}
		}
		if err := s.load(snap, windows, findings); err != nil {
			return fmt.Errorf("load %s into the simulator: %w", at, err)
		}
		s.tell(Progress{Loaded: i + 1, Places: len(places), Now: s.clock.Now()})
	}
	var err error
	s.edge, err = awsx.New(ctx, awsx.Options{
		Clock: s.clock, Share: s.opt.Share, Limits: s.opt.Limits, Recorder: &s.calls, Load: s.caller(places), Jitter: func() float64 { return 0.5 },
	})
	return err
}

func (s *stage) tell(p Progress) {
	if s.opt.Progress != nil {
		s.opt.Progress(p)
	}
}

// placesOf lists the places of a plan in order.
func placesOf(p *plan.Plan) []fleet.Place {
	seen := map[fleet.Place]bool{}
	for i := range p.Stacks {
		seen[p.Stacks[i].Place] = true
	}
	return slices.SortedFunc(maps.Keys(seen), func(a, b fleet.Place) int {
		global := func(p fleet.Place) int { return len(p.Region) }
		return cmp.Or(cmp.Compare(min(global(a), 1), min(global(b), 1)), a.Compare(b)) // what is the organization's comes first
	})
}

// play carries the rollout out.
func (s *stage) play(ctx context.Context) (*Result, error) {
	p := s.script()
	journal := inmemory.NewJournal()
	journal.Approve(p.Digest, "rehearsal")
	record, err := journal.Begin(ctx, p, s.clock.Now())
	if err != nil {
		return nil, fmt.Errorf("begin the rehearsal: %w", err)
	}
	for _, w := range p.Header.Waves {
		if w.Approval {
			journal.ApproveWave(record.ID, w.Name, "rehearsal")
			s.out.Assumed = append(s.out.Assumed, fmt.Sprintf("wave %q is approved at once", w.Name))
		}
	}
	e := s.opt.Engine
	e.Journal, e.Logger, e.Holder = journal, s.opt.Logger, "rehearsal"
	e.Drivers = &drivers{session: s.session, clock: s.clock, calls: &s.calls}
	s.gates = &readings{GateReader: gates.New(gates.Options{Session: s.gateSession, Logger: s.opt.Logger}), eventful: s.eventful(),
		passed: map[momentKey]engine.GateResult{}}
	e.Gates = s.gates
	e.Progress = s.watch(p)
	limited, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	e.Clock = &horizon{Clock: s.clock, end: s.clock.Now().Add(s.opt.Horizon), reached: func() { cancel(errHorizon) }}
	record, err = engine.New(e).Run(limited, record.ID)
	if err != nil && !errors.Is(context.Cause(limited), errHorizon) {
		return nil, fmt.Errorf("the rehearsal was broken off: %w", err)
	}
	if errors.Is(context.Cause(limited), errHorizon) {
		s.out.Assumed = append(s.out.Assumed, fmt.Sprintf("the rehearsal looked %s ahead, and the rollout had not ended by then", s.opt.Horizon))
	}
	s.report(p, record)
	return s.out, nil
}

// horizon is a clock that says when its end is reached. Nobody sleeps until then, because a leaping clock would take that for the
// next moment whenever all others seem to wait.
type horizon struct {
	clock.Clock
	end     time.Time
	reached func()
}

// Now implements clock.Clock.
func (h *horizon) Now() time.Time {
	now := h.Clock.Now()
	if !now.Before(h.end) {
		h.reached()
	}
	return now
}

var errHorizon = errors.New("the rehearsal's horizon was reached")

// script is the plan as it is rehearsed: what leaves the simulated AWS, and what people do, is taken to go well at once.
func (s *stage) script() *plan.Plan {
	p := *s.opt.Plan
	p.Header.Rules = restful(p.Header.Rules, p.Stacks)
	p.Stacks = slices.Clone(p.Stacks)
	p.Changes = slices.Clone(p.Changes)
	left := map[string]bool{}
	for _, g := range p.Header.Rules.Gates {
		left[fmt.Sprintf("gate %q (%s) is taken to pass: it asks outside of AWS, or about alarms that are not in the copy", g.Name, g.Type)] = true
	}
	for i := range p.Stacks {
		p.Stacks[i].Gates = nil
	}
	for i := range p.Changes {
		c := &p.Changes[i]
		if c.Ref.Kind == plan.KindFollowUp && (c.Action == plan.ActionLaunched || c.Action == plan.ActionReplaced) {
			left["nothing scales out by itself in the copy: what waits for a first launch waits as long as it may, and looks for one every "+
				launchLook.String()] = true
		}
		if c.Ref.Kind != plan.KindFollowUp || !outside(c.Action) {
			continue
		}
		left[fmt.Sprintf("follow-up %q is taken to be done at once", c.Params[plan.ParamName])] = true
		c.Class = plan.ClassStart
	}
	s.out.Assumed = append(s.out.Assumed, slices.Sorted(maps.Keys(left))...)
	return &p
}

// outside tells follow-ups that the simulated AWS cannot carry out.
func outside(action string) bool {
	return action == plan.ActionManual || action == plan.ActionSSM || action == plan.ActionCommand
}
