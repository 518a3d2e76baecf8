package engine

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/imdsctl/imdsctl/internal/clock"
	"github.com/imdsctl/imdsctl/internal/fleet"
	"github.com/imdsctl/imdsctl/internal/inventory"
	"github.com/imdsctl/imdsctl/internal/kind"
	"github.com/imdsctl/imdsctl/internal/plan"
	"github.com/imdsctl/imdsctl/internal/rollout"
)

// DryOutcome is what apply would do with one change now.
type DryOutcome string

// Outcomes of a dry run.
const (
	// DryWrite: it is as planned, and AWS said by its own dry run that it would take the write.
	DryWrite DryOutcome = "would-write"
	// DryCompared: it is as planned, and AWS was not asked; the reason says why it could not be.
	DryCompared DryOutcome = "compared"
	// DryWanted: it is as it should be already, and nothing would be written.
	DryWanted DryOutcome = "found-as-wanted"
	// DryByHand: a person would be waited for.
	DryByHand DryOutcome = "by-hand"
	// DryMade: the rollout of this plan has made it.
	DryMade DryOutcome = "made-already"
	// DryEnded: the rollout of this plan is through with it, and it was not made or does not stand.
	DryEnded DryOutcome = "ended"
	// DryConflict: it changed since the plan, or is in a state in which AWS refuses the write.
	DryConflict DryOutcome = "conflict"
	// DryDisabled: the instance's metadata endpoint is disabled. It is never written.
	DryDisabled DryOutcome = "endpoint-disabled"
	// DryGone: the resource, or what the write would copy, is no more.
	DryGone DryOutcome = "gone"
	// DryDenied: the role that writes may not.
	DryDenied DryOutcome = "denied"
	// DryRefused: AWS would refuse the request itself.
	DryRefused DryOutcome = "refused"
	// DryNoUndo: AWS would not let it be undone, so that nothing of its stack would be written.
	DryNoUndo DryOutcome = "no-undo"
	// DrySkipped: a change it needs would not be made.
	DrySkipped DryOutcome = "skipped"
	// DryUnknown: it could not be read, or AWS could not be asked.
	DryUnknown DryOutcome = "not-asked"
)

// DryOutcomes lists all outcomes, those that are as they should be first.
func DryOutcomes() []DryOutcome {
	return []DryOutcome{DryWrite, DryCompared, DryWanted, DryByHand, DryMade, DryEnded, DryConflict, DryDisabled, DryGone,
		DryDenied, DryRefused, DryNoUndo, DrySkipped, DryUnknown}
}

// Fine tells whether the change would be made, as far as can be told, or is made already.
func (o DryOutcome) Fine() bool {
	switch o {
	case DryWrite, DryCompared, DryWanted, DryByHand, DryMade:
		return true
	}
	return false
}

// DryChange is one change with what apply would do with it.
type DryChange struct {
	Change  *plan.Change
	Outcome DryOutcome
	// Reason says why, with AWS's own words where there are any. Empty where the outcome says it all.
	Reason string
	// Unasked names what of the write AWS could not be asked, because it is the output of a change that is not made yet.
	Unasked []string
}

// DryStack is one stack with how far it would come.
type DryStack struct {
	Stack *plan.Stack
	// Fails tells that it would not get done; Step is the one that would fail, or -1 where the stack would not begin.
	Fails  bool
	Step   int
	Reason string
}

// DryReport is what a dry run found: changes by stack and step, stacks by wave, ring and the plan's order.
type DryReport struct {
	Changes []DryChange
	Stacks  []DryStack
	// Halt says that so many stacks would fail that the rollout would halt before others begin. Empty where it would not.
	Halt string
}

// DryProgress is how far a dry run is.
type DryProgress struct {
	Done, Changes      int
	PlacesDone, Places int
	Attention          int // changes so far that would not be made
}

// DryOptions are what a dry run works with. Drivers and Clock are required.
type DryOptions struct {
	Drivers Drivers
	Clock   clock.Clock
	// Record is the plan's rollout as the journal has it; nil where none began.
	Record *Record
	// LaneWidth is how many resources of one place are looked at, at a time. Default 8.
	LaneWidth int
	// Settle is how long a resource may take to finish a change that AWS has accepted from somebody. Default 30 s.
	Settle time.Duration
	// Progress, where set, is told of each change, one call at a time.
	Progress func(DryProgress)
}

// inAll is how many resources of all places together are looked at, at a time.
const inAll = 512

// DryRun tells of each change of a plan what apply would do with it now, and writes nothing: each resource is read and
// compared, AWS is asked by its own dry run where there is one, and, as before the first write of a stack, whether it
// would let the changes be undone. Approval, windows and gates are not looked at, and of the budgets only the failures
// that a step tolerates.
//
// It needs no journal and leaves nothing behind. With an error, because ctx ended or the credentials ran out, the
// report holds what was found until then.
func DryRun(ctx context.Context, p *plan.Plan, o DryOptions) (*DryReport, error) {
	if o.LaneWidth <= 0 {
		o.LaneWidth = 8
	}
	if o.Settle <= 0 {
		o.Settle = 30 * time.Second
	}
	d := newDryRun(p, o)
	err := d.run(ctx)
	return d.report(), err
}

// dryRun is one dry run. A result belongs to the goroutine that looks at its resource until all of them have ended.
type dryRun struct {
	opt     DryOptions
	plan    *plan.Plan
	outputs plan.Outputs     // of changes that the rollout has made
	results []DryChange      // as plan.Changes
	at      map[string]int   // index of a change
	of      map[string][]int // changes of a stack
	slots   chan struct{}

	mu       sync.Mutex
	progress DryProgress
}

// dryChain is the changes of one resource, in the plan's order.
type dryChain struct {
	ref     fleet.Ref
	changes []int
}

func newDryRun(p *plan.Plan, o DryOptions) *dryRun {
	d := &dryRun{opt: o, plan: p, outputs: plan.Outputs{}, results: make([]DryChange, len(p.Changes)),
		at: make(map[string]int, len(p.Changes)), of: map[string][]int{}, slots: make(chan struct{}, inAll)}
	for i := range p.Changes {
		c := &p.Changes[i]
		d.at[c.ID] = i
		d.of[c.Stack] = append(d.of[c.Stack], i)
		d.results[i] = DryChange{Change: c, Outcome: DryUnknown, Reason: "the dry run did not get to it"}
		if o.Record != nil && o.Record.Changes[c.ID].Outputs != nil {
			d.outputs[c.ID] = o.Record.Changes[c.ID].Outputs
		}
	}
	d.progress.Changes = len(p.Changes)
	return d
}

func (d *dryRun) run(ctx context.Context) error {
	chains := d.chains()
	d.progress.Places = len(chains)
	err := inPlaces(ctx, slices.Collect(maps.Keys(chains)), func(ctx context.Context, place fleet.Place) error {
		err := d.place(ctx, chains[place])
		if err == nil {
			d.tell(func(p *DryProgress) { p.PlacesDone++ })
		}
		return err
	})
	d.skip()
	if err != nil {
		return err
	}
	stacks := d.unbegun()
	return inPlaces(ctx, slices.Collect(maps.Keys(stacks)), func(ctx context.Context, place fleet.Place) error {
		return d.abreast(ctx, len(stacks[place]), func(ctx context.Context, i int) error {
			return d.undoable(ctx, stacks[place][i])
		})
	})
}

// inPlaces does something in all places at once, and stops at the first error.
func inPlaces(
	ctx context.Context, places []fleet.Place, do func(context.Context, fleet.Place) error,
) error {
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	var group sync.WaitGroup
	for _, place := range places {
		group.Go(func() {
			if err := do(ctx, place); err != nil {
				stop(err)
			}
		})
	}
	group.Wait()
	return context.Cause(ctx)
}

// abreast does n things of one place, a lane's width of them at a time.
func (d *dryRun) abreast(ctx context.Context, n int, do func(context.Context, int) error) error {
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	var next atomic.Int64
	var group sync.WaitGroup
	for range min(n, d.opt.LaneWidth) {
		group.Go(func() {
			for ctx.Err() == nil {
				i := int(next.Add(1)) - 1
				if i >= n {
					return
				}
				if err := d.slot(ctx, func() error { return do(ctx, i) }); err != nil {
					stop(err)
				}
			}
		})
	}
	group.Wait()
	return context.Cause(ctx)
}

// slot does something while it holds one of the places that all lanes share.
func (d *dryRun) slot(ctx context.Context, do func() error) error {
	select {
	case d.slots <- struct{}{}:
		defer func() { <-d.slots }()
		return do()
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func (d *dryRun) chains() map[fleet.Place][]dryChain {
	out := map[fleet.Place][]dryChain{}
	at := map[fleet.Ref]int{}
	for i := range d.plan.Changes {
		ref := d.plan.Changes[i].Ref
		n, ok := at[ref]
		if !ok {
			n = len(out[ref.Place])
			at[ref] = n
			out[ref.Place] = append(out[ref.Place], dryChain{ref: ref})
		}
		out[ref.Place][n].changes = append(out[ref.Place][n].changes, i)
	}
	return out
}

// dryReading is what a reading of a resource gave.
type dryReading struct {
	resource inventory.Resource
	err      error
}

// place looks at the resources of one place.
func (d *dryRun) place(ctx context.Context, chains []dryChain) error {
	var read map[fleet.Ref]dryReading
	err := d.slot(ctx, func() error {
		read = d.readMany(ctx, chains)
		return nil
	})
	if err != nil {
		return err
	}
	return d.abreast(ctx, len(chains), func(ctx context.Context, i int) error {
		before, have := read[chains[i].ref]
		return d.look(ctx, chains[i], func() (inventory.Resource, error) {
			if have && (before.err != nil || !before.resource.Settling) {
				return before.resource, before.err
			}
			return d.read(ctx, chains[i].ref)
		})
	})
}

// readMany reads what can be read in few calls.
func (d *dryRun) readMany(ctx context.Context, chains []dryChain) map[fleet.Ref]dryReading {
	ids := map[string][]string{}
	for _, c := range chains {
		if slices.ContainsFunc(c.changes, func(i int) bool { return d.untouched(&d.plan.Changes[i]) }) {
			ids[c.ref.Kind] = append(ids[c.ref.Kind], c.ref.ID)
		}
	}
	out := map[fleet.Ref]dryReading{}
	for kindName, of := range ids {
		place := chains[0].ref.Place
		drv, err := d.opt.Drivers.Driver(place, kindName)
		reader, ok := drv.(kind.BatchReader)
		if err != nil || !ok || len(of) == 1 {
			continue
		}
		resources, err := reader.ReadMany(ctx, of)
		for _, id := range of {
			ref := fleet.Ref{Place: place, Kind: kindName, ID: id}
			r, there := resources[id]
			switch {
			case err != nil:
				out[ref] = dryReading{err: err}
			case there:
				out[ref] = dryReading{resource: r}
			} // one that is missing is read by itself, for the error that says so
		}
	}
	return out
}

// read reads one resource until it has settled.
func (d *dryRun) read(ctx context.Context, ref fleet.Ref) (inventory.Resource, error) {
	drv, err := d.opt.Drivers.Driver(ref.Place, ref.Kind)
	if err != nil {
		return inventory.Resource{}, err
	}
	until := d.opt.Clock.Now().Add(d.opt.Settle)
	for {
		r, err := drv.Read(ctx, ref.ID)
		if err != nil || !r.Settling || !d.opt.Clock.Now().Before(until) {
			return r, err
		}
		if err := d.opt.Clock.Sleep(ctx, time.Second); err != nil {
			return r, err
		}
	}
}

// look goes through the changes of one resource, each from what the one before would leave. Outputs that are not known
// yet stay as the plan names them, in what is compared as in what it is compared with.
func (d *dryRun) look(ctx context.Context, c dryChain, read func() (inventory.Resource, error)) error {
	var now inventory.Resource // as AWS has it
	var state fleet.State      // as the changes before leave it
	var unread error
	for _, i := range c.changes {
		r := &d.results[i]
		if !d.untouched(r.Change) {
			d.settled(r)
			d.count(r)
			continue
		}
		if r.Change.Ref.Kind == plan.KindFollowUp || r.Change.Class == plan.ClassManual {
			r.follow()
			d.count(r)
			continue
		}
		if state == nil && unread == nil {
			now, unread = read()
			state = now.State
		}
		w, err := d.known(r.Change), unread
		if err != nil {
			err = d.failed(ctx, r, err, DryUnknown, "it could not be read: ")
		} else if err = d.compare(ctx, r, w, state, now); r.Outcome.Fine() {
			state = w.after
		}
		if err != nil {
			return err
		}
		d.count(r)
	}
	return nil
}

// untouched tells whether apply has yet to come to the change.
func (d *dryRun) untouched(c *plan.Change) bool {
	if d.opt.Record == nil {
		return true
	}
	s, ok := d.opt.Record.Changes[c.ID]
	if ok && s.Phase != ChangePending {
		return false
	}
	phase := d.opt.Record.Stacks[c.Stack].Phase
	return !phase.Final() && phase != rollout.StackReverting && phase != rollout.StackRevertingStep
}

// settled is the outcome of a change that the rollout of the plan has dealt with.
func (d *dryRun) settled(r *DryChange) {
	s := d.opt.Record.Changes[r.Change.ID]
	switch s.Phase {
	case ChangeVerified, ChangeApplied:
		r.Outcome, r.Reason = DryMade, ""
		if s.Phase == ChangeVerified && !s.Wrote {
			r.Reason = "it was found as wanted"
		}
	case ChangeOpen:
		r.Outcome, r.Reason = DryUnknown, "an interrupted run may have written it; apply would find out what became of it"
	case ChangePending, "":
		r.Outcome = DryEnded
		r.Reason = fmt.Sprintf("its stack is %s in the rollout of this plan", d.opt.Record.Stacks[r.Change.Stack].Phase)
	default:
		r.Outcome, r.Reason = DryEnded, fmt.Sprintf("it is %s in the rollout of this plan", s.Phase)
		if s.Reason != "" {
			r.Reason += ": " + s.Reason
		}
	}
}

// follow is the outcome of a follow-up.
func (r *DryChange) follow() {
	if r.Change.Class == plan.ClassManual {
		r.Outcome, r.Reason = DryByHand, "apply would wait until a person says that it is done"
		return
	}
	r.Outcome, r.Reason = DryCompared, "it is started after the change it follows, and there is nothing to ask before"
}

// dryWrite is a change with the outputs of others filled in, as far as they are known. References to the others stay.
type dryWrite struct {
	before, after fleet.State
	params        map[string]string
}

func (d *dryRun) known(c *plan.Change) dryWrite {
	return dryWrite{fillKnown(c.Before, d.outputs), fillKnown(c.After, d.outputs), fillKnown(c.Params, d.outputs)}
}

func fillKnown[M ~map[string]string](m M, outputs plan.Outputs) M {
	out := make(M, len(m))
	for k, v := range m {
		out[k] = v
		if one, err := plan.Resolve(map[string]string{k: v}, outputs); err == nil {
			out[k] = one[k]
		}
	}
	return out
}

// compare does what apply does just before a write, and then asks instead of writing.
func (d *dryRun) compare(
	ctx context.Context, r *DryChange, w dryWrite, state fleet.State, now inventory.Resource,
) error {
	c := r.Change
	switch {
	case switchedOff(c, &inventory.Resource{Status: now.Status, State: state, Says: now.Says}):
		r.Outcome, r.Reason = DryDisabled, "its metadata endpoint is disabled; it is never written"
	case c.Class == plan.ClassSet && state.Equal(w.after):
		r.Outcome, r.Reason = DryWanted, ""
	case !state.Equal(w.before):
		r.Outcome, r.Reason = DryConflict, "it changed since the plan: "+fleet.DescribeDiff(w.before, state)
	case now.Settling:
		r.Outcome, r.Reason = DryUnknown, "AWS has not finished an earlier change of it"
	default:
		return d.ask(ctx, r, w, now.State)
	}
	return nil
}

// ask has AWS say whether it would take the write. What the write would name and nobody knows yet is asked for with what
// is there now: permissions are by resource, and say as much.
func (d *dryRun) ask(ctx context.Context, r *DryChange, w dryWrite, now fleet.State) error {
	c := r.Change
	drv, err := d.opt.Drivers.Driver(c.Ref.Place, c.Ref.Kind)
	if err != nil {
		r.Outcome, r.Reason = DryRefused, err.Error()
		return nil
	}
	runner, ok := drv.(kind.DryRunner)
	if !ok || !d.offered(c) {
		r.Outcome, r.Reason = DryCompared, "AWS offers no dry run for this call: only read and compared"
		return nil
	}
	if missing := d.missing(w.params); len(missing) > 0 {
		r.Outcome, r.Unasked = DryCompared, missing
		r.Reason = "AWS can only be asked once the changes before it are made: only read and compared"
		return nil
	}
	token := Token("dry-run", c.ID, Forward, 1)
	err = runner.DryRun(ctx, kind.Write{Place: c.Ref.Place, ID: c.Ref.ID, Verb: c.Action, Before: presentOf(w.before, now),
		After: presentOf(w.after, now), Params: w.params, Token: token, Marker: token})
	if err != nil {
		return d.failed(ctx, r, err, DryRefused, "")
	}
	r.Outcome, r.Reason = DryWrite, ""
	changed := map[string]string{}
	for _, f := range fleet.Diff(w.before, w.after) {
		changed[f.Field] = strings.ReplaceAll(f.After, "${"+c.ID+".", "${own.") // its own output is nothing it asks for
	}
	for _, m := range d.missing(changed) {
		r.Unasked = append(r.Unasked, m+"; asked with what is there now")
	}
	return nil
}

// offered tells whether AWS has a dry run for the change's verb.
func (d *dryRun) offered(c *plan.Change) bool {
	k, ok := d.opt.Drivers.Kind(c.Ref.Kind)
	if !ok {
		return false
	}
	v, ok := k.Verb(c.Action)
	return ok && len(v.DryRun) > 0
}

// missing says which values name outputs that are not known yet, and of which changes.
func (d *dryRun) missing(values map[string]string) []string {
	var out []string
	for _, field := range slices.Sorted(maps.Keys(values)) {
		for _, id := range plan.References(values[field]) {
			what := "change " + id
			if i, ok := d.at[id]; ok {
				what = d.plan.Changes[i].Action + " of " + d.plan.Changes[i].Ref.ID
			}
			out = append(out, field+" is what "+what+" will give")
		}
	}
	return out
}

// presentOf puts what a field is now where its value is not known yet.
func presentOf(s, now fleet.State) fleet.State {
	out := s.Clone()
	for field, v := range s {
		if len(plan.References(v)) == 0 {
			continue
		}
		if have, ok := now[field]; ok {
			out[field] = have
		} else {
			delete(out, field)
		}
	}
	return out
}

// failed gives an outcome to an error of a call: the one of its class, or other, with words before it.
func (d *dryRun) failed(ctx context.Context, r *DryChange, err error, other DryOutcome, words string) error {
	class := fleet.ClassOf(err)
	switch {
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case class == fleet.ErrExpired:
		return err
	case class == fleet.ErrGone:
		r.Outcome, r.Reason = DryGone, err.Error()
	case class == fleet.ErrDenied:
		r.Outcome, r.Reason = DryDenied, words+err.Error()
	case class == fleet.ErrConflict:
		r.Outcome, r.Reason = DryConflict, err.Error()
	case class == fleet.ErrThrottled, class.Unanswered(), errors.Is(err, context.DeadlineExceeded):
		r.Outcome, r.Reason = DryUnknown, cmp.Or(words, "AWS could not be asked: ")+err.Error()
	default:
		r.Outcome, r.Reason = other, words+err.Error()
	}
	return nil
}

// skip gives an outcome to the changes that need others which would not be made. In the plan's order a change comes after
// all it needs.
func (d *dryRun) skip() {
	for i := range d.results {
		r := &d.results[i]
		if r.Outcome == DryMade || r.Outcome == DryEnded {
			continue
		}
		for _, id := range r.Change.Needs {
			at, ok := d.at[id]
			if !ok || d.results[at].Outcome.Fine() {
				continue
			}
			n := &d.results[at]
			r.Outcome, r.Unasked = DrySkipped, nil
			what := n.Change.Action + " of " + n.Change.Ref.ID
			r.Reason = fmt.Sprintf("%s, which it needs, would not be made (%s)", what, n.Outcome)
			if n.Outcome == DryUnknown {
				r.Outcome, r.Reason = DryUnknown, "nothing is known of "+what+", which it needs"
			}
			break
		}
	}
}

// unbegun are the stacks, by place, that apply would begin to write: those are asked first whether they could be undone.
func (d *dryRun) unbegun() map[fleet.Place][]string {
	wrote, would := map[string]bool{}, map[string]bool{}
	for i := range d.results {
		r := &d.results[i]
		if d.opt.Record != nil && d.opt.Record.Changes[r.Change.ID].Wrote {
			wrote[r.Change.Stack] = true
		}
		if r.writes() {
			would[r.Change.Stack] = true
		}
	}
	out := map[fleet.Place][]string{}
	for i := range d.plan.Stacks {
		if s := &d.plan.Stacks[i]; would[s.ID] && !wrote[s.ID] {
			out[s.Place] = append(out[s.Place], s.ID)
		}
	}
	return out
}

// writes tells whether a resource would be written.
func (r *DryChange) writes() bool {
	return (r.Outcome == DryWrite || r.Outcome == DryCompared) && r.Change.Ref.Kind != plan.KindFollowUp
}

// undoable asks, as apply does before the first write of a stack, whether AWS would let its changes be undone: the first
// of each verb of each kind.
func (d *dryRun) undoable(ctx context.Context, stack string) error {
	type verb struct{ kind, action string }
	seen := map[verb]bool{}
	for _, i := range d.of[stack] {
		c := &d.plan.Changes[i]
		v := verb{c.Ref.Kind, c.Action}
		if seen[v] || c.Class == plan.ClassManual || c.Ref.Kind == plan.KindFollowUp {
			continue
		}
		seen[v] = true
		drv, err := d.opt.Drivers.Driver(c.Ref.Place, c.Ref.Kind)
		if err != nil {
			continue // told of the change already
		}
		checker, ok := drv.(kind.UndoChecker)
		if !ok {
			continue
		}
		err = checker.CheckUndo(ctx, kind.Write{Place: c.Ref.Place, ID: c.Ref.ID, Verb: c.Action,
			Before: c.Before, After: c.After, Params: c.Params})
		if err != nil {
			return d.noUndo(ctx, stack, err)
		}
	}
	return nil
}

// noUndo gives an outcome to what a stack would write, where AWS would not let it be undone or could not be asked.
func (d *dryRun) noUndo(ctx context.Context, stack string, err error) error {
	class := fleet.ClassOf(err)
	switch {
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case class == fleet.ErrExpired:
		return err
	}
	outcome, reason := DryUnknown, "AWS could not be asked whether it could be undone: "+err.Error()
	if class == fleet.ErrDenied || class == fleet.ErrConflict {
		outcome, reason = DryNoUndo, "AWS would not let it be undone: "+err.Error()
	}
	accepted := outcome == DryNoUndo && d.plan.Header.Rules.Irreversible
	for _, i := range d.of[stack] {
		switch r := &d.results[i]; {
		case !r.writes():
		case accepted:
			r.Reason = reason + "; the plan accepts that"
		default:
			r.Outcome, r.Reason, r.Unasked = outcome, reason, nil
		}
	}
	return nil
}

func (d *dryRun) count(r *DryChange) {
	d.tell(func(p *DryProgress) {
		p.Done++
		if !r.Outcome.Fine() {
			p.Attention++
		}
	})
}

func (d *dryRun) tell(change func(*DryProgress)) {
	d.mu.Lock()
	defer d.mu.Unlock()
	change(&d.progress)
	if d.opt.Progress != nil {
		d.opt.Progress(d.progress)
	}
}

// report puts everything in order.
func (d *dryRun) report() *DryReport {
	out := &DryReport{Stacks: d.forecast()}
	out.Halt = d.halt(out.Stacks)
	turn := map[string]int{}
	for i, s := range out.Stacks {
		turn[s.Stack.ID] = i
	}
	out.Changes = slices.Clone(d.results)
	slices.SortStableFunc(out.Changes, func(a, b DryChange) int {
		return cmp.Or(cmp.Compare(turn[a.Change.Stack], turn[b.Change.Stack]), cmp.Compare(a.Change.Step, b.Change.Step))
	})
	return out
}

// forecast tells how far each stack would come: a step fails where more of its changes fail than the plan tolerates, or
// none can be made, and a stack does not begin where one it comes after fails.
func (d *dryRun) forecast() []DryStack {
	out := make([]DryStack, len(d.plan.Stacks))
	at := make(map[string]int, len(out))
	for i := range d.plan.Stacks {
		out[i] = d.foresee(&d.plan.Stacks[i])
		at[out[i].Stack.ID] = i
	}
	for again := true; again; {
		again = false
		for i := range out {
			for _, id := range out[i].Stack.After {
				if n, ok := at[id]; ok && out[n].Fails && !out[i].Fails {
					out[i].Fails, again = true, true
					out[i].Reason = "it comes after " + out[n].Stack.Name + ", which would not get done"
				}
			}
		}
	}
	slices.SortStableFunc(out, func(a, b DryStack) int {
		return cmp.Or(cmp.Compare(a.Stack.Wave, b.Stack.Wave), cmp.Compare(a.Stack.Ring, b.Stack.Ring))
	})
	return out
}

// halt tells whether the rollout would halt for the stacks that would fail at a step. Which others have begun by then
// depends on what takes how long.
func (d *dryRun) halt(stacks []DryStack) string {
	failed := 0
	for i := range stacks {
		if stacks[i].Fails && stacks[i].Step >= 0 {
			failed++
		}
	}
	rules := d.plan.Header.Rules
	if rules.HaltOnFailure && failed > rules.MaxFailedStacks || rules.TotalFailures > 0 && failed >= rules.TotalFailures {
		return fmt.Sprintf("the rollout would halt for its failed stacks (%d); those that have not begun by then would wait "+
			"until it is resumed", failed)
	}
	return ""
}

// foresee tells how far a stack would come by itself.
func (d *dryRun) foresee(s *plan.Stack) DryStack {
	out := DryStack{Stack: s, Step: -1}
	if d.opt.Record != nil {
		if phase := d.opt.Record.Stacks[s.ID].Phase; phase.Final() {
			out.Fails = phase != rollout.StackDone
			out.Reason = fmt.Sprintf("it is %s in the rollout of this plan", phase)
			return out
		}
	}
	all, failed := make([]int, len(s.Steps)), make([]int, len(s.Steps))
	for _, i := range d.of[s.ID] {
		r := &d.results[i]
		all[r.Change.Step]++
		if !r.Outcome.Fine() && r.Outcome != DryUnknown {
			failed[r.Change.Step]++
		}
	}
	tolerated := d.plan.Header.Rules.MaxFailures
	for n := range s.Steps {
		if failed[n] > tolerated || failed[n] > 0 && failed[n] == all[n] {
			out.Fails, out.Step = true, n
			out.Reason = fmt.Sprintf("%d of the %d changes of its step %s would not be made, and %d may fail", failed[n], all[n],
				s.Steps[n].Name, tolerated)
			break
		}
	}
	return out
}
