package engine

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/imdsctl/imdsctl/internal/clock"
	"github.com/imdsctl/imdsctl/internal/fleet"
	"github.com/imdsctl/imdsctl/internal/rollout"
)

// Options are what an engine works with. All fields without a default in their comment are required.
type Options struct {
	Journal Journal
	Drivers Drivers
	Gates   GateReader
	Clock   clock.Clock
	Logger  *slog.Logger
	// Holder names this process in leases and events: "host/pid".
	Holder string
	// CallTimeout bounds one write, its retries included; an open intent is not touched before it has passed. Default 60 s.
	CallTimeout time.Duration
	// Consistency is how long AWS may show an earlier state after a write. Default 10 s.
	Consistency time.Duration
	// VerifyTimeout is how long a change may take to become visible. Default 2 min.
	VerifyTimeout time.Duration
	// PollInterval is how often control changes from other terminals are looked for. Default 1 s.
	PollInterval time.Duration
	// PollRest is how far apart these looks may come to be while nothing at all happens; PollInterval unless it is longer. A
	// rehearsal, which nobody controls, skips its quiet days with it.
	PollRest time.Duration
	// LeaseTTL is how long a lease lasts that is not renewed: after that time another process takes over from one that died.
	// Default 1 min.
	LeaseTTL time.Duration
	// LaneWidth is how many changes of one place are under way at a time. Default 8.
	LaneWidth int
	// MaxAttempts is how often a change is tried again when AWS certainly did not take it. Default DefaultMaxAttempts.
	MaxAttempts int
	// OnLane, where set, prepares a place whose lane this process takes from the queue, and that another may have held since it
	// last did: its token buckets must start empty.
	OnLane func(ctx context.Context, place fleet.Place) error
	// Progress, where set, is told of everything that happens, in order, from one goroutine; it must not block for long.
	Progress func(Progress)
}

// DefaultMaxAttempts is how often a change is tried unless Options say otherwise.
const DefaultMaxAttempts = 5

func (o *Options) complete() {
	def := func(d *time.Duration, v time.Duration) {
		if *d <= 0 {
			*d = v
		}
	}
	def(&o.CallTimeout, time.Minute)
	def(&o.Consistency, 10*time.Second)
	def(&o.VerifyTimeout, 2*time.Minute)
	def(&o.PollInterval, time.Second)
	def(&o.LeaseTTL, time.Minute)
	if o.LaneWidth <= 0 {
		o.LaneWidth = 8
	}
	if o.MaxAttempts <= 0 {
		o.MaxAttempts = DefaultMaxAttempts
	}
}

// Progress is one thing that happened, for a screen. The journal has the same, durably.
type Progress struct {
	At     time.Time
	Status rollout.Status
	// Stack and Change name what it happened to; both empty for the rollout itself.
	Stack  string
	State  rollout.Stack
	Change string
	Phase  ChangePhase
	// Gate is set for a gate reading.
	Gate   *GateResult
	Event  string
	Reason string
}

// Engine carries out rollouts.
type Engine struct {
	opt  Options
	held holdings
}

// New makes an engine.
func New(opt Options) *Engine {
	opt.complete()
	return &Engine{opt: opt, held: holdings{last: map[string]int64{}}}
}

// Run carries a rollout on from wherever the journal says it stands, until it is final or ctx ends. It may be called again
// after any interruption. It returns the record as it stands at the end; with ctx's error where it was interrupted, when
// what was under way has been settled or left as an open intent that the next Run settles.
func (e *Engine) Run(ctx context.Context, id string) (*Record, error) {
	seat, err := e.opt.Journal.Acquire(ctx, SeatKey(id), e.opt.Holder, e.opt.Clock.Now(), e.opt.LeaseTTL)
	if err != nil {
		return nil, fmt.Errorf("coordinate rollout %s: %w", id, err)
	}
	return e.coordinate(ctx, id, seat, newLanes(ctx, e.opt))
}

// coordinate carries a rollout on, with a crew, from the seat of its coordinator.
func (e *Engine) coordinate(ctx context.Context, id string, seat Lease, c crew) (*Record, error) {
	err := e.loop(ctx, id, seat, c)
	after := context.WithoutCancel(ctx)
	c.close(after)
	if _, err := e.opt.Journal.Release(after, seat, e.opt.Clock.Now()); err != nil {
		e.opt.Logger.Warn("could not give up the coordination of a rollout", "rollout", id, "error", err)
	}
	record, loadErr := e.opt.Journal.Load(after, id)
	return record, errors.Join(err, loadErr)
}

func (e *Engine) loop(ctx context.Context, id string, seat Lease, c crew) error {
	p, err := e.opt.Journal.Plan(ctx, id)
	if err != nil {
		return fmt.Errorf("read the plan of rollout %s: %w", id, err)
	}
	record, err := e.opt.Journal.Load(ctx, id)
	if err != nil {
		return fmt.Errorf("read rollout %s: %w", id, err)
	}
	r := newRun(e.opt, p, record, seat)
	r.crew = c
	if q, ok := c.(*queued); ok {
		if err := r.adopt(ctx, q); err != nil {
			return err
		}
	}
	return r.loop(ctx)
}
