package engine

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/imdsctl/imdsctl/internal/clock"
	"github.com/imdsctl/imdsctl/internal/fleet"
	"github.com/imdsctl/imdsctl/internal/plan"
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
	// LaneWidth is how many changes of one place are under way at a time. Default 8.
	LaneWidth int
	// MaxAttempts is how often a change is tried again when AWS certainly did not take it. Default DefaultMaxAttempts.
	MaxAttempts int
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
type Engine struct{ opt Options }

// New makes an engine.
func New(opt Options) *Engine {
	opt.complete()
	return &Engine{opt: opt}
}

// Run carries a rollout on from wherever the journal says it stands, until it is final or ctx ends. It may be called again
// after any interruption. It returns the record as it stands at the end; with ctx's error where it was interrupted, when
// what was under way has been settled or left as an open intent that the next Run settles.
func (e *Engine) Run(ctx context.Context, id string) (*Record, error) {
	p, err := e.opt.Journal.Plan(ctx, id)
	if err != nil {
		return nil, fmt.Errorf("read the plan of rollout %s: %w", id, err)
	}
	record, err := e.opt.Journal.Load(ctx, id)
	if err != nil {
		return nil, fmt.Errorf("read rollout %s: %w", id, err)
	}
	r := newRun(e.opt, p, record)
	err = r.loop(ctx)
	after, loadErr := e.opt.Journal.Load(context.WithoutCancel(ctx), id)
	return after, errors.Join(err, loadErr)
}

// run is one process's work on one rollout: the coordinator and its lanes. Everything it holds can be rebuilt from the
// journal; it is kept to avoid reading the journal for each decision.
type run struct {
	opt    Options
	plan   *plan.Plan
	id     string
	status rollout.Status
	reason string

	stacks   []*stackRun // in the plan's order
	byID     map[string]*stackRun
	changes  map[string]*changeRun
	outputs  plan.Outputs
	undo     map[string]string
	forgiven int
	asked    map[int]bool // waves for whose approval the rollout was paused

	lanes    map[fleet.Place]*lane
	slots    chan struct{} // one for each intent that may be open at a time
	results  chan result
	gates    chan gateRead
	underway int // tasks and gate readings that have not come back
	fatal    error
	counts   map[rollout.StackPhase]int
}

// stackRun is a stack with its counters.
type stackRun struct {
	*plan.Stack
	state   rollout.Stack
	changes []*changeRun
	steps   []rollout.Counts
	gate    gateState
}

// gateState is the latest reading of a stack's gates.
type gateState struct {
	reading bool
	asked   time.Time // when the latest reading was asked for
	read    time.Time // when the reading that gave result was asked for
	result  rollout.Gate
	reason  string
}

// changeRun is a change with its state.
type changeRun struct {
	*plan.Change
	state ChangeState
	busy  bool // given to a lane
	// notBefore holds the change back for a while after it was not admitted.
	notBefore time.Time
	unread    int // how often in a row its resource could not be read
	users     []*changeRun
	needs     []*changeRun
	origin    *stackRun
}

func newRun(opt Options, p *plan.Plan, record *Record) *run {
	r := &run{opt: opt, plan: p, id: record.ID, status: record.Status, reason: record.Reason, byID: map[string]*stackRun{},
		changes: make(map[string]*changeRun, len(p.Changes)), outputs: plan.Outputs{}, undo: record.Undo, forgiven: record.FailuresForgiven,
		asked: map[int]bool{}, lanes: map[fleet.Place]*lane{}, results: make(chan result), gates: make(chan gateRead),
		slots:  make(chan struct{}, max(1, p.Header.Rules.MaxInFlight)),
		counts: map[rollout.StackPhase]int{}}
	for i := range p.Stacks {
		s := &stackRun{Stack: &p.Stacks[i], state: record.Stacks[p.Stacks[i].ID], steps: make([]rollout.Counts, len(p.Stacks[i].Steps))}
		if s.state.Phase == "" {
			s.state.Phase = rollout.StackWaiting
		}
		r.counts[s.state.Phase]++
		r.stacks = append(r.stacks, s)
		r.byID[s.ID] = s
	}
	for i := range p.Changes {
		c := &changeRun{Change: &p.Changes[i], state: record.Changes[p.Changes[i].ID], origin: r.byID[p.Changes[i].Stack]}
		if c.state.Phase == "" {
			c.state = ChangeState{ID: c.ID, Phase: ChangePending}
		}
		r.changes[c.ID] = c
		if c.state.Outputs != nil {
			r.outputs[c.ID] = c.state.Outputs
		}
		for _, id := range c.Needs {
			n := r.changes[id]
			c.needs = append(c.needs, n)
			n.users = append(n.users, c)
		}
		c.origin.changes = append(c.origin.changes, c)
		c.tally(1)
	}
	return r
}

// tally adds (by = 1) or takes away (by = -1) the change from the counters of its step. One that a lane has in hand counts
// as open, whatever the journal last said of it: its write may be under way.
func (c *changeRun) tally(by int) {
	n := &c.origin.steps[c.Step]
	phase := c.state.Phase
	if c.busy {
		phase = ChangeOpen
	}
	switch phase {
	case ChangePending:
		n.Pending += by
	case ChangeOpen, ChangeApplied: // applied is not verified yet: the step is not settled
		n.Open += by
	case ChangeVerified:
		n.Written += by
	case ChangeConflict:
		n.Conflict += by
	case ChangeFailed:
		n.Failed += by
	case ChangeSkipped:
		n.Skipped += by
	case ChangeReverted:
		n.Reverted += by
	case ChangeStuck:
		n.Stuck += by
	}
	if revertible(c.state) {
		n.Revert += by
	}
}

// revertible tells whether something of imdsctl's is there to be put back.
func revertible(s ChangeState) bool {
	return s.Wrote && (s.Phase == ChangeVerified || s.Phase == ChangeApplied || s.Phase == ChangeFailed)
}

func (s *stackRun) all() rollout.Counts {
	var sum rollout.Counts
	for _, c := range s.steps {
		sum.Pending += c.Pending
		sum.Open += c.Open
		sum.Written += c.Written
		sum.Conflict += c.Conflict
		sum.Failed += c.Failed
		sum.Skipped += c.Skipped
		sum.Reverted += c.Reverted
		sum.Stuck += c.Stuck
		sum.Revert += c.Revert
	}
	return sum
}

func (r *run) tell(p Progress) {
	if r.opt.Progress == nil {
		return
	}
	p.At, p.Status = r.opt.Clock.Now(), r.status
	r.opt.Progress(p)
}
