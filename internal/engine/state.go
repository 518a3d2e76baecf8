package engine

import (
	"slices"
	"time"

	"github.com/imdsctl/imdsctl/internal/fleet"
	"github.com/imdsctl/imdsctl/internal/plan"
	"github.com/imdsctl/imdsctl/internal/rollout"
)

// run is one process's coordination of one rollout. Everything it holds can be rebuilt from the journal; it is kept to avoid
// reading the journal for each decision. One goroutine uses it.
type run struct {
	// idle counts the rounds in a row in which nothing happened.
	idle   int
	opt    Options
	plan   *plan.Plan
	id     string
	seat   Lease
	kept   time.Time // when the seat was taken or renewed last
	looked time.Time // when the control record was looked at last
	crew   crew
	status rollout.Status
	reason string
	stop   string
	held   string // what was last said to keep the rollout from going on

	stacks   []*stackRun // in the plan's order
	byID     map[string]*stackRun
	changes  map[string]*changeRun
	outputs  plan.Outputs
	undo     map[string]string
	forgiven int
	approved map[string]string // waves, with who approved them
	turns    *turns
	load     load
	// active are the stacks that are being worked on, poked those others that a machine must look at.
	active, poked []*stackRun
	turn          int // where in active the next round of handing out begins
	lastFailure   string
	calendars     []calendar
	fatal         error
}

// stackRun is a stack with its counters.
type stackRun struct {
	*plan.Stack
	state   rollout.Stack
	changes []*changeRun
	steps   []rollout.Counts
	all     rollout.Counts
	gate    gateState
	// idle are changes that are in no lane's hands and may need an act in the stack's phase.
	idle []*changeRun
	busy int // changes in a lane's hands
	// before counts the stacks that this one comes after and that have not ended; lost tells that one of them did not get
	// done. followers are those that come after this one.
	before    int
	lost      bool
	followers []*stackRun
	poked     bool
	queued    bool // it is in the queue of its account
}

// gateState is the latest reading of a stack's gates.
type gateState struct {
	query  *GateQuery // what is being read now; nil for nothing
	asked  time.Time  // when the latest reading was asked for
	read   time.Time  // when the reading that gave result was asked for
	result rollout.Gate
	reason string
}

// changeRun is a change with its state.
type changeRun struct {
	*plan.Change
	state ChangeState
	busy  bool // given to a lane
	// notBefore holds the change back for a while after it was not admitted.
	notBefore time.Time
	unread    int // how often in a row its resource could not be read
	throttled int // how often in a row AWS refused its call for the rate
	users     []*changeRun
	needs     []*changeRun
	origin    *stackRun
}

func newRun(opt Options, p *plan.Plan, record *Record, seat Lease) *run {
	r := &run{opt: opt, plan: p, id: record.ID, seat: seat, kept: opt.Clock.Now(), status: record.Status, reason: record.Reason,
		stop: record.Stop, byID: make(map[string]*stackRun, len(p.Stacks)), changes: make(map[string]*changeRun, len(p.Changes)),
		outputs: plan.Outputs{}, undo: record.Undo, forgiven: record.FailuresForgiven, approved: record.Waves, load: newLoad(p.Header.Rules)}
	for i := range p.Header.Calendars {
		r.calendars = append(r.calendars, calendar{Calendar: p.Header.Calendars[i]})
	}
	for i := range p.Stacks {
		s := &stackRun{Stack: &p.Stacks[i], state: record.Stacks[p.Stacks[i].ID], steps: make([]rollout.Counts, len(p.Stacks[i].Steps))}
		if s.state.Phase == "" {
			s.state.Phase = rollout.StackWaiting
		}
		r.stacks = append(r.stacks, s)
		r.byID[s.ID] = s
	}
	for i := range p.Changes {
		r.addChange(&p.Changes[i], record.Changes[p.Changes[i].ID])
	}
	for _, s := range r.stacks {
		for _, id := range s.After {
			before := r.byID[id]
			before.followers = append(before.followers, s)
			if !before.state.Phase.Final() {
				s.before++
			} else if before.state.Phase != rollout.StackDone {
				s.lost = true
			}
		}
		if s.state.Phase.Active() {
			r.active = append(r.active, s)
		}
		if s.state.Phase == rollout.StackFailed || s.state.Phase == rollout.StackStuck {
			r.lastFailure = s.Name + ": " + s.state.Reason
		}
		s.refill()
	}
	r.turns = newTurns(p, r.stacks)
	for _, s := range r.stacks {
		if s.lost || r.undo[s.ID] != "" || r.spent(s) {
			r.poke(s)
		}
	}
	return r
}

func (r *run) addChange(pc *plan.Change, state ChangeState) {
	c := &changeRun{Change: pc, state: state, origin: r.byID[pc.Stack]}
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

// poke has the machine of a stack looked at that is not being worked on.
func (r *run) poke(s *stackRun) {
	if !s.poked {
		s.poked = true
		r.poked = append(r.poked, s)
	}
}

// tally adds (by = 1) or takes away (by = -1) the change from the counters of its step and stack. One that a lane has in hand
// counts as open, whatever the journal last said of it: its write may be under way.
func (c *changeRun) tally(by int) {
	for _, n := range []*rollout.Counts{&c.origin.steps[c.Step], &c.origin.all} {
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
		if c.revertible() {
			n.Revert += by
		}
	}
}

// revertible tells whether something of imdsctl's is there to be put back. What a change was followed up with is not.
func (c *changeRun) revertible() bool { return revertible(c.Change, c.state) }

func revertible(c *plan.Change, s ChangeState) bool {
	return s.Wrote && c.Ref.Kind != plan.KindFollowUp &&
		(s.Phase == ChangeVerified || s.Phase == ChangeApplied || s.Phase == ChangeFailed)
}

// set moves a change to a new state, in a lane's hands or not, and keeps the counters true.
func (c *changeRun) set(s ChangeState, busy bool) {
	c.tally(-1)
	switch {
	case busy && !c.busy:
		c.origin.busy++
	case !busy && c.busy:
		c.origin.busy--
	}
	c.state, c.busy = s, busy
	c.tally(1)
	if !busy && c.wants(c.origin) {
		c.origin.idle = append(c.origin.idle, c)
	}
}

// wants tells whether the change may need an act in the stack's phase.
func (c *changeRun) wants(s *stackRun) bool {
	switch s.state.Phase {
	case rollout.StackApplying:
		return c.Step == s.state.Step && c.Class != plan.ClassManual &&
			(c.state.Phase == ChangePending || c.state.Phase == ChangeOpen || c.state.Phase == ChangeApplied)
	case rollout.StackRevertingStep:
		return c.Step == s.state.Step && (c.unsettled() || c.revertible())
	case rollout.StackReverting:
		return c.unsettled() || c.revertible()
	}
	return false
}

// unsettled: what was begun and cannot be put back before it is known how it ended.
func (c *changeRun) unsettled() bool {
	return c.state.Phase == ChangeOpen || c.state.Phase == ChangeApplied && c.Ref.Kind == plan.KindFollowUp
}

// refill lists anew what may need an act, when the stack's phase or step is a new one: on the way back the latest first.
func (s *stackRun) refill() {
	s.idle = s.idle[:0]
	for _, c := range s.changes {
		if !c.busy && c.wants(s) {
			s.idle = append(s.idle, c)
		}
	}
	if s.state.Phase == rollout.StackRevertingStep || s.state.Phase == rollout.StackReverting {
		slices.Reverse(s.idle)
	}
}

// load counts what lanes have in hand, so that no more is handed out than the plan's budgets allow.
type load struct {
	total, most int
	account     map[fleet.AccountID]int
	mostAccount int
	place       map[fleet.Place]int
}

func newLoad(rules plan.Rules) load {
	return load{most: max(1, rules.MaxInFlight), mostAccount: rules.MaxInFlightAccount,
		account: map[fleet.AccountID]int{}, place: map[fleet.Place]int{}}
}

func (l *load) full() bool { return l.total >= l.most }

// room tells whether one more may be handed out in the place.
func (l *load) room(p fleet.Place, width int) bool {
	return !l.full() && l.place[p] < width && (l.mostAccount <= 0 || l.account[p.Account] < l.mostAccount)
}

func (l *load) add(p fleet.Place, by int) {
	l.total += by
	l.account[p.Account] += by
	l.place[p] += by
}

func (r *run) tell(p Progress) {
	if r.opt.Progress == nil {
		return
	}
	p.At, p.Status = r.opt.Clock.Now(), r.status
	r.opt.Progress(p)
}
