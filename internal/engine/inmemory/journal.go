// Package inmemory is an engine.Journal, and an engine.Queue, that is held in memory: for rehearsals, whose rollouts nobody
// resumes, and for tests. The suite in store/storetest holds it and the SQL journal to the same contract.
package inmemory

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/imdsctl/imdsctl/internal/engine"
	"github.com/imdsctl/imdsctl/internal/plan"
	"github.com/imdsctl/imdsctl/internal/rollout"
)

// Journal is an engine.Journal in memory. What it holds survives the engine, as a database would.
type Journal struct {
	mu       sync.Mutex
	approved map[string]string
	plans    map[string]*plan.Plan
	records  map[string]*engine.Record
	intents  map[int64]*engine.Intent // those without an outcome
	tries    map[[2]string]int        // by rollout and change
	opened   int64                    // intents so far
	manuals  map[string][]string      // by rollout, the changes that people make
	leases   map[string]held
	orders   map[string]map[string]*posted // by rollout and subject
	posts    int64
	version  int64
	stop     string
	// Shared says that several processes work on it: a lease lasts until it runs out or is given up. Otherwise there is one,
	// and a holder is known to be dead as soon as another asks.
	Shared bool
	// Events tells the story in order, one line an event.
	Events []string
	// Commit, where set, is called under the lock right before and right after each transaction that writes; an error before
	// it undoes nothing and records nothing.
	Commit func(point string, before bool) error
}

var _ engine.Queue = (*Journal)(nil)

// held is a lease with its end.
type held struct {
	engine.Lease
	until, wanted time.Time
}

// NewJournal is an empty journal.
func NewJournal() *Journal {
	return &Journal{approved: map[string]string{}, plans: map[string]*plan.Plan{}, records: map[string]*engine.Record{},
		intents: map[int64]*engine.Intent{}, tries: map[[2]string]int{}, manuals: map[string][]string{}, leases: map[string]held{},
		orders: map[string]map[string]*posted{}}
}

// Approve records an approval.
func (j *Journal) Approve(digest, actor string) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.approved[digest] = actor
}

// transaction runs one writing transaction under the lock.
func (j *Journal) transaction(point string, do func() error) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.Commit != nil {
		if err := j.Commit(point, true); err != nil {
			return err
		}
	}
	if err := do(); err != nil {
		return err
	}
	if j.Commit != nil {
		return j.Commit(point, false)
	}
	return nil
}

// Begin implements engine.Journal.
func (j *Journal) Begin(_ context.Context, p *plan.Plan, now time.Time) (*engine.Record, error) {
	id := "r-" + p.Digest[:12]
	err := j.transaction("begin", func() error {
		if j.records[id] != nil {
			return nil
		}
		actor, ok := j.approved[p.Digest]
		if !ok {
			return engine.ErrNotApproved
		}
		r := &engine.Record{ID: id, Digest: p.Digest, Status: rollout.Running, Created: now, Updated: now, Approved: actor,
			Stacks: map[string]rollout.Stack{}, Changes: map[string]engine.ChangeState{}, Undo: map[string]string{}, Waves: map[string]string{}}
		for _, s := range p.Stacks {
			r.Stacks[s.ID] = rollout.Stack{Phase: rollout.StackWaiting}
		}
		for _, c := range p.Changes {
			r.Changes[c.ID] = engine.ChangeState{ID: c.ID, Phase: engine.ChangePending}
			if c.Class == plan.ClassManual {
				j.manuals[id] = append(j.manuals[id], c.ID)
			}
		}
		j.records[id], j.plans[id] = r, p
		return nil
	})
	if err != nil {
		return nil, err
	}
	return j.Load(context.Background(), id)
}

// Plan implements engine.Journal.
func (j *Journal) Plan(_ context.Context, id string) (*plan.Plan, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if p := j.plans[id]; p != nil {
		return p, nil
	}
	return nil, fmt.Errorf("no rollout %s", id)
}

// Load implements engine.Journal.
func (j *Journal) Load(_ context.Context, id string) (*engine.Record, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	r := j.records[id]
	if r == nil {
		return nil, fmt.Errorf("no rollout %s", id)
	}
	c := *r
	c.Stacks, c.Changes, c.Undo, c.Waves = maps.Clone(r.Stacks), maps.Clone(r.Changes), maps.Clone(r.Undo), maps.Clone(r.Waves)
	c.Stop = j.stop
	return &c, nil
}

// Control implements engine.Journal.
func (j *Journal) Control(_ context.Context, id string) (engine.Control, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	r := j.records[id]
	c := engine.Control{Status: r.Status, Reason: r.Reason, Undo: maps.Clone(r.Undo), FailuresForgiven: r.FailuresForgiven,
		Waves: maps.Clone(r.Waves), Stop: j.stop, Manual: map[string]engine.ChangeState{}, Version: j.version}
	for _, change := range j.manuals[id] {
		if s := r.Changes[change]; s.Phase != engine.ChangePending {
			c.Manual[change] = s
		}
	}
	return c, nil
}

// ApproveWave is what another terminal does: a person lets a wave begin.
func (j *Journal) ApproveWave(id, wave, who string) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.records[id].Waves[wave] = who
	j.version++
	j.Events = append(j.Events, "approved wave "+wave)
}

// StopAll is the kill switch; "" turns it off.
func (j *Journal) StopAll(why string) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.stop = why
	j.version++
	j.Events = append(j.Events, "stop "+why)
}

// CompleteManual is a person's word that a manual change is done.
func (j *Journal) CompleteManual(id, change string, now time.Time) {
	j.mu.Lock()
	defer j.mu.Unlock()
	s, c := j.records[id].Changes[change], j.plans[id]
	i := slices.IndexFunc(c.Changes, func(c plan.Change) bool { return c.ID == change })
	st := j.records[id].Stacks[c.Changes[i].Stack]
	if s.Phase != engine.ChangePending || st.Phase != rollout.StackApplying || st.Step != c.Changes[i].Step {
		return // it is not its turn
	}
	s.Phase, s.Updated = engine.ChangeVerified, now
	j.records[id].Changes[change] = s
	j.version++
}

// Ask is what another terminal does: an event on the rollout, or, with a stack, a request to roll it back.
func (j *Journal) Ask(id, stack string, e rollout.Event, reason string) bool {
	j.mu.Lock()
	defer j.mu.Unlock()
	r := j.records[id]
	j.version++
	if stack != "" {
		if r.Stacks[stack].Phase != rollout.StackRolledBack && r.Stacks[stack].Phase != rollout.StackSkipped {
			r.Undo[stack] = reason
			if next, ok := rollout.NextStatus(r.Status, rollout.RollbackAsked); ok && r.Status.Final() {
				r.Status, r.Reason = next, reason
			}
		}
		return true
	}
	next, ok := rollout.NextStatus(r.Status, e)
	if !ok {
		return false
	}
	if e == rollout.Resume {
		r.FailuresForgiven = 0
		for _, s := range r.Stacks {
			if s.Phase == rollout.StackFailed || s.Phase == rollout.StackStuck {
				r.FailuresForgiven++
			}
		}
	}
	if e == rollout.RollbackAsked {
		for id, s := range r.Stacks {
			if s.Phase != rollout.StackRolledBack && s.Phase != rollout.StackSkipped {
				r.Undo[id] = reason
			}
		}
	}
	r.Status, r.Reason = next, reason
	j.Events = append(j.Events, fmt.Sprintf("asked %s", e))
	return true
}

// Move implements engine.Journal.
func (j *Journal) Move(_ context.Context, id string, seat engine.Lease, moves []engine.Move, now time.Time) error {
	return j.transaction("move", func() error {
		if j.leases[engine.SeatKey(id)].Lease != seat {
			return engine.ErrFenced
		}
		r := j.records[id]
		for _, m := range moves {
			if m.Stack == "" && r.Status != m.Status[0] || m.Stack != "" && r.Stacks[m.Stack] != m.From {
				return engine.ErrMoved
			}
		}
		for _, m := range moves {
			if m.Stack == "" {
				r.Status, r.Reason = m.Status[1], m.Reason
				j.Events = append(j.Events, fmt.Sprintf("rollout %s → %s", m.Event, m.Status[1]))
				continue
			}
			r.Stacks[m.Stack] = m.To
			j.Events = append(j.Events, fmt.Sprintf("%s %s → %s", m.Stack, m.Event, m.To.Phase))
			if m.Event == string(rollout.StackUndo) {
				delete(r.Undo, m.Stack)
				for _, c := range j.plans[id].Changes {
					if s := r.Changes[c.ID]; c.Stack == m.Stack && s.Phase == engine.ChangeStuck {
						s.Phase = engine.ChangeVerified
						r.Changes[c.ID] = s
					}
				}
			}
		}
		r.Updated = now
		return nil
	})
}

// Admit implements engine.Journal.
func (j *Journal) Admit(_ context.Context, a engine.Admission) (engine.Intent, error) {
	var intent engine.Intent
	err := j.transaction("admit", func() error {
		r, p := j.records[a.Rollout], j.plans[a.Rollout]
		if j.leases[engine.LaneKey(a.Change.Ref.Place)].Lease != a.Lane {
			return engine.ErrFenced
		}
		s, c := r.Stacks[a.Change.Stack], r.Changes[a.Change.ID]
		open, inAccount := 0, 0
		for _, in := range j.intents {
			if in.Rollout == a.Rollout {
				open++
				if in.Place.Account == a.Change.Ref.Place.Account {
					inAccount++
				}
			}
		}
		wrote := c.Wrote && (c.Phase == engine.ChangeVerified || c.Phase == engine.ChangeApplied || c.Phase == engine.ChangeFailed)
		here := s.Step == a.Change.Step
		rules := p.Header.Rules
		ok := j.stop == "" && open < max(1, rules.MaxInFlight) && (rules.MaxInFlightAccount == 0 || inAccount < rules.MaxInFlightAccount)
		if a.Direction == engine.Forward {
			ok = ok && r.Status.MayWrite() && s.Phase == rollout.StackApplying && here && c.Phase == engine.ChangePending
		} else {
			ok = ok && r.Status.MayRevert() && wrote && (s.Phase == rollout.StackReverting || s.Phase == rollout.StackRevertingStep && here)
		}
		if !ok {
			return engine.ErrNotAdmitted
		}
		c.Phase, c.Attempt = engine.ChangeOpen, c.Attempt+1
		r.Changes[a.Change.ID] = c
		j.opened++
		intent = engine.Intent{ID: j.opened, Rollout: a.Rollout, Change: a.Change.ID, Place: a.Change.Ref.Place,
			Direction: a.Direction, Attempt: c.Attempt, Token: a.Token, Epoch: a.Lane.Epoch, Opened: a.Now, LeaseUntil: a.Now.Add(a.Lease)}
		stored := intent
		j.intents[intent.ID] = &stored
		j.Events = append(j.Events, fmt.Sprintf("intent %s %s", a.Direction, a.Change.ID))
		return nil
	})
	return intent, err
}

// Settle implements engine.Journal.
func (j *Journal) Settle(_ context.Context, s engine.Settlement) error {
	return j.transaction("settle", func() error {
		if s.Lane.Key == "" || j.leases[s.Lane.Key].Lease != s.Lane {
			return engine.ErrFenced
		}
		if s.Intent != 0 {
			if j.intents[s.Intent] == nil {
				return fmt.Errorf("intent %d is not open", s.Intent)
			}
			if j.intents[s.Intent].Direction == engine.Forward && !slices.Contains(engine.PutOff(), s.Class) {
				j.tries[[2]string{s.Rollout, s.Change}]++
			}
			delete(j.intents, s.Intent)
		}
		r := j.records[s.Rollout]
		c := r.Changes[s.Change]
		c.Phase, c.Reason, c.Updated, c.Wrote = s.Phase, s.Reason, s.Now, c.Wrote || s.Wrote
		if s.Outputs != nil {
			c.Outputs = s.Outputs
		}
		r.Changes[s.Change] = c
		j.Events = append(j.Events, fmt.Sprintf("%s %s: %s", s.Change, s.Phase, s.Reason))
		return nil
	})
}

// OpenIntent implements engine.Journal.
func (j *Journal) OpenIntent(_ context.Context, id, change string) (engine.Intent, bool, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	for _, n := range slices.Sorted(maps.Keys(j.intents)) {
		if in := j.intents[n]; in.Rollout == id && in.Change == change {
			return *in, true, nil
		}
	}
	return engine.Intent{}, false, nil
}

// Tries implements engine.Journal.
func (j *Journal) Tries(_ context.Context, id, change string) (int, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.tries[[2]string{id, change}], nil
}

// OpenIntents lists the intents of a rollout that have no outcome.
func (j *Journal) OpenIntents(id string) []engine.Intent {
	j.mu.Lock()
	defer j.mu.Unlock()
	var out []engine.Intent
	for _, n := range slices.Sorted(maps.Keys(j.intents)) {
		if in := j.intents[n]; in.Rollout == id {
			out = append(out, *in)
		}
	}
	return out
}

// Acquire implements engine.Journal.
func (j *Journal) Acquire(_ context.Context, key, holder string, now time.Time, ttl time.Duration) (lease engine.Lease, err error) {
	err = j.transaction("acquire", func() error {
		have := j.leases[key]
		if j.Shared && have.Holder != "" && have.Holder != holder && now.Before(have.until) {
			have.wanted = now.Add(time.Minute)
			j.leases[key] = have
			return fmt.Errorf("%w: %s holds %s", engine.ErrFenced, have.Holder, key)
		}
		lease = engine.Lease{Key: key, Holder: holder, Epoch: have.Epoch + 1}
		j.leases[key] = held{Lease: lease, until: now.Add(ttl)}
		return nil
	})
	return lease, err
}

// Holder is who holds a lease; "" for nobody.
func (j *Journal) Holder(key string) string {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.leases[key].Holder
}

// Renew implements engine.Journal.
func (j *Journal) Renew(_ context.Context, lease engine.Lease, now time.Time, ttl time.Duration) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	have := j.leases[lease.Key]
	if have.Lease != lease {
		return engine.ErrFenced
	}
	have.until = now.Add(ttl)
	j.leases[lease.Key] = have
	return nil
}

// Release implements engine.Journal. The epoch stays, for the next holder to go beyond.
func (j *Journal) Release(_ context.Context, lease engine.Lease, now time.Time) (wanted bool, err error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	have := j.leases[lease.Key]
	if have.Lease != lease {
		return false, nil
	}
	wanted = now.Before(have.wanted)
	j.leases[lease.Key] = held{Lease: engine.Lease{Key: lease.Key, Epoch: lease.Epoch}}
	return wanted, nil
}

// Note implements engine.Journal.
func (j *Journal) Note(_ context.Context, _, stack, event string, detail map[string]string, _ time.Time) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.Events = append(j.Events, fmt.Sprintf("%s %s %s", stack, event, detail["reason"]))
	return nil
}
