// Package fleets lets imdsctl migrate random fleets, from scan to rollback, and judges it by the simulator's own stores and
// log of calls. Who calls v1, what a group would launch and whether a program works on it is asked of the simulator, never
// of imdsctl.
package fleets

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/imdsctl/imdsctl/internal/app"
	"github.com/imdsctl/imdsctl/internal/awssim/core"
	"github.com/imdsctl/imdsctl/internal/fleet"
	"github.com/imdsctl/imdsctl/internal/inventory"
	"github.com/imdsctl/imdsctl/internal/plan"
	"github.com/imdsctl/imdsctl/internal/rollout"
)

var (
	count = flag.Int("fleets", 40, "how many fleets to draw")
	first = flag.Uint64("seed", 1, "the first fleet's seed; the others follow")
)

func TestMain(m *testing.M) {
	flag.Parse()
	// A fleet mostly waits for simulated time, so that more than there are processors can be under way.
	if err := flag.Set("test.parallel", "6"); err != nil {
		panic(err)
	}
	os.Exit(m.Run())
}

func TestRandomFleets(t *testing.T) {
	n := *count
	if testing.Short() {
		n = min(n, 5)
	}
	for i := range n {
		seed := *first + uint64(i)
		t.Run(strconv.FormatUint(seed, 10), func(t *testing.T) {
			t.Parallel()
			journey(t, seed)
		})
	}
}

// journey is all that happens to one fleet.
func journey(t *testing.T, seed uint64) {
	w := newWorld(t, seed)
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("again: go test ./test/fleets -run 'TestRandomFleets/%d$' -seed %d -fleets 1\n%s", seed, seed,
				strings.Join(w.words, "\n"))
		}
	})
	f, before := w.facts(t), w.see(t)
	p := w.plan(t)
	eye := w.watch(t, f, before)
	done := w.apply(t, p)
	if done.Record.Status != rollout.Done || done.Counts.Verified != len(p.Changes) {
		t.Fatalf("the rollout is %s (%s): %+v\n%s", done.Record.Status, done.Record.Reason, done.Counts, story(done))
	}
	eye.close(t)
	after := w.see(t)
	report(t, "writes", f.wrongWrites(before, w.Calls()))
	report(t, "after the apply", f.wrongAfter(before, after))
	once := w.effects()
	// An account default may have had to wait for the templates: until they were changed, someone would have inherited it who
	// needs more hops than it gives.
	if again := w.plan(t); slices.ContainsFunc(again.Changes, func(c plan.Change) bool {
		return c.Ref.Kind != inventory.KindAccountDefaults
	}) {
		t.Errorf("a second plan has %d changes:\n%s", len(again.Changes), changes(again))
	}
	if t.Failed() {
		return
	}
	w.rollBackOne(t, p, done.Record.ID, before, after)
	w.rollBack(t, done.Record.ID, nil)
	report(t, "after the rollback", differ(w.see(t).lines(), before.lines()))

	disturbed(t, seed, after, once)
	t.Logf("%d changes in %d stacks, %d manual steps", len(p.Changes), len(p.Stacks), len(p.Manuals))
}

func report(t *testing.T, what string, wrong []string) {
	t.Helper()
	const most = 12
	for i, s := range wrong {
		if i == most {
			t.Errorf("%s: and %d more", what, len(wrong)-most)
			return
		}
		t.Errorf("%s: %s", what, s)
	}
}

func (w *world) apply(t *testing.T, p *plan.Plan) *app.ApplyResult {
	t.Helper()
	result, err := w.app.Apply(t.Context(), p, app.ApplyOptions{Yes: true, Reason: "test"})
	if err != nil {
		t.Fatal(err)
	}
	return result
}

// story tells what became of every stack and change.
func story(r *app.ApplyResult) string {
	var out strings.Builder
	for _, s := range r.Plan.Stacks {
		fmt.Fprintf(&out, "%s %s: %+v\n", s.ID, s.Name, r.Record.Stacks[s.ID])
	}
	for _, c := range r.Plan.Changes {
		fmt.Fprintf(&out, "  %s %s %s %s: %s %s\n", c.Stack, c.ID, c.Action, c.Ref, r.Record.Changes[c.ID].Phase,
			r.Record.Changes[c.ID].Reason)
	}
	return out.String()
}

func changes(p *plan.Plan) string {
	var out strings.Builder
	for _, c := range p.Changes {
		fmt.Fprintf(&out, "  %s %s %s of %s: %s (%s)\n", c.Stack, c.ID, c.Action, c.Ref, fleet.DescribeDiff(c.Before, c.After), c.Why)
	}
	return out.String()
}

// eye looks at a place after every call that may have changed it.
type eye struct {
	w     *world
	fault int
	mu    sync.Mutex
	looks int
	wrong []string
}

func (w *world) watch(t *testing.T, f *facts, before *picture) *eye {
	t.Helper()
	e := &eye{w: w}
	writing := []string{"Modify", "Create", "Delete", "Update"}
	var err error
	e.fault, err = w.AddFault(core.Fault{After: func(c *core.Call) {
		if !slices.ContainsFunc(writing, func(s string) bool { return strings.HasPrefix(c.Action, s) }) {
			return
		}
		now := newPicture()
		var err error
		c.Place.View(func(time.Time) { err = w.look(c.Place, now) })
		e.mu.Lock()
		defer e.mu.Unlock()
		e.looks++
		if err != nil {
			e.wrong = append(e.wrong, fmt.Sprintf("after %s: %v", c.Action, err))
			return
		}
		for _, s := range f.wrongAtOnce(c.Place.Place, before, now) {
			e.wrong = append(e.wrong, fmt.Sprintf("after %s (%s): %s", c.Action, strings.Join(c.In.Flat(), " "), s))
		}
	}})
	if err != nil {
		t.Fatal(err)
	}
	return e
}

func (e *eye) close(t *testing.T) {
	t.Helper()
	e.w.RemoveFault(e.fault)
	e.mu.Lock()
	defer e.mu.Unlock()
	report(t, "at a moment of the apply", e.wrong)
	if writes := len(e.w.effects()); e.looks < writes {
		t.Errorf("%d looks at %d writes", e.looks, writes)
	}
}

// rollBack puts stacks back, all for none, and lets the rollout come to its end.
func (w *world) rollBack(t *testing.T, id string, stacks []string) *app.ApplyResult {
	t.Helper()
	if err := w.app.RollbackRollout(t.Context(), id, stacks, "test"); err != nil {
		t.Fatal(err)
	}
	result, err := w.app.ResumeRun(t.Context(), id, app.ApplyOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if result.Counts.Stuck+result.Counts.Conflict+result.Counts.Failed > 0 {
		t.Errorf("rolled back: %+v\n%s", result.Counts, story(result))
	}
	return result
}

// rollBackOne puts one stack back: what it changed is as before, all else as after the apply.
func (w *world) rollBackOne(t *testing.T, p *plan.Plan, id string, before, after *picture) {
	t.Helper()
	if len(p.Stacks) == 0 {
		return
	}
	stack := p.Stacks[rand.New(rand.NewPCG(w.seed, 2)).IntN(len(p.Stacks))]
	touched := map[string]bool{} // ids
	defaults := false
	back := map[string]bool{stack.ID: true} // and the account default that came after it
	for _, s := range p.Stacks {
		back[s.ID] = back[s.ID] || slices.Contains(s.After, stack.ID)
	}
	for _, c := range p.Changes {
		if back[c.Stack] {
			touched[c.Ref.ID] = true
			defaults = defaults || c.Ref.Kind == inventory.KindAccountDefaults
		}
	}
	w.rollBack(t, id, []string{stack.ID})
	now := w.see(t)
	report(t, "after the rollback of stack "+stack.Name, oneBack(stack.Place, touched, defaults, before, after, now))
}

// oneBack compares each resource with what it was before, if the stack touched it, else with what it was after. Where the
// account's default went back as well, the launches of others are judged by what their own sources say.
func oneBack(place fleet.Place, touched map[string]bool, defaults bool, before, after, now *picture) []string {
	want := newPicture()
	was := func(s subject, ids ...string) *picture {
		if s.place == place && slices.ContainsFunc(ids, func(id string) bool { return touched[id] }) {
			return before
		}
		return after
	}
	for s := range after.instances {
		want.instances[s] = was(s, s.id).instances[s]
	}
	for s := range after.launches {
		want.sources[s] = was(s, s.id).sources[s]
		for i, l := range after.launches[s] {
			from := was(s, s.id, l.Template)
			want.launches[s] = append(want.launches[s], from.launches[s][i])
			if defaults && s.place == place && from == after {
				want.launches[s][i].Options, now.launches[s][i].Options = fleet.Options{}, fleet.Options{}
			}
		}
	}
	for s := range after.pointers {
		from := was(s, s.id)
		want.pointers[s], want.bare[s] = from.pointers[s], from.bare[s]
		if defaults && s.place == place && from == after {
			l, m := want.bare[s], now.bare[s]
			l.Options, m.Options = fleet.Options{}, fleet.Options{}
			want.bare[s], now.bare[s] = l, m
		}
	}
	for p := range after.defaults {
		want.defaults[p] = after.defaults[p]
		if defaults && p == place {
			want.defaults[p] = before.defaults[p]
		}
	}
	return differ(now.lines(), want.lines())
}

// disturbed applies to the same fleet again while calls go wrong: the end and the effects are those of the first time.
func disturbed(t *testing.T, seed uint64, after *picture, once map[string]int) {
	t.Helper()
	w := newWorld(t, seed)
	p := w.plan(t)
	for _, f := range trouble(seed) {
		if _, err := w.AddFault(f); err != nil {
			t.Fatal(err)
		}
	}
	result := w.apply(t, p)
	if result.Record.Status != rollout.Done || result.Counts.Verified != len(p.Changes) {
		t.Fatalf("disturbed, the rollout is %s (%s): %+v\n%s", result.Record.Status, result.Record.Reason, result.Counts,
			story(result))
	}
	w.RemoveFault(0)
	report(t, "disturbed", differ(w.see(t).lines(), after.lines()))
	report(t, "effects when disturbed", differ(w.effects(), once))
}

// trouble draws what goes wrong: throttles, internal errors and lost connections, each at some of the calls.
func trouble(seed uint64) []core.Fault {
	rng := rand.New(rand.NewPCG(seed, 3))
	var out []core.Fault
	for range 3 + rng.IntN(4) { // fewer than the attempts of a call, so that none of them can spend them all
		f := core.Fault{Service: []string{"", "ec2", "autoscaling"}[rng.IntN(3)], Nth: 1 + rng.IntN(12), Count: 1,
			Probability: 0.3 + rng.Float64()/2}
		if rng.IntN(2) == 0 {
			f.Action = []string{"Modify*", "Create*", "Update*", "Describe*"}[rng.IntN(4)]
		}
		switch rng.IntN(4) {
		case 0:
			f.Throttle = true
		case 1:
			f.Status = 503
		case 2:
			f.DropBefore = true
		default:
			f.DropAfter = true
		}
		out = append(out, f)
	}
	return out
}
