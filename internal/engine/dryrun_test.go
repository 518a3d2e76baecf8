package engine_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
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

// dryWorld is a World whose instances and templates can be asked by dry run, and whose instances are read many at once.
type dryWorld struct {
	*enginetest.World
	mu sync.Mutex
	// answers are what a dry run is answered with, by resource; unread what a reading meets.
	answers, unread map[string]error
	settling        map[string]int // how often a resource is read before it has settled
	asked           []kind.Write
	reads           int // calls
	late            func() time.Duration
}

func newDryWorld() *dryWorld {
	return &dryWorld{World: enginetest.NewWorld(), answers: map[string]error{}, unread: map[string]error{},
		settling: map[string]int{}, late: func() time.Duration { return 0 }}
}

// wait makes an answer late. It holds no lock while it waits.
func (w *dryWorld) wait() {
	w.mu.Lock()
	late := w.late()
	w.mu.Unlock()
	time.Sleep(late)
}

func (w *dryWorld) Driver(place fleet.Place, kindName string) (kind.Driver, error) {
	inner, err := w.World.Driver(place, kindName)
	d := dryDriver{Driver: inner, w: w}
	switch kindName {
	case inventory.KindInstance:
		return dryBatch{dryRunner{d}}, err
	case inventory.KindAutoScaling:
		return d, err
	}
	return dryRunner{d}, err
}

func (w *dryWorld) Kind(name string) (kind.Kind, bool) {
	k := kind.Kind{Name: name}
	for _, verb := range []string{"set-options", "create-version", "set-default"} {
		k.Verbs = append(k.Verbs, kind.Verb{Name: verb, DryRun: map[string]int{"ec2:Any": 1}})
	}
	return k, true
}

type dryDriver struct {
	kind.Driver
	w *dryWorld
}

func (d dryDriver) CheckUndo(ctx context.Context, w kind.Write) error {
	return d.Driver.(kind.UndoChecker).CheckUndo(ctx, w)
}

func (d dryDriver) Read(ctx context.Context, id string) (inventory.Resource, error) {
	d.w.wait()
	d.w.mu.Lock()
	d.w.reads++
	err := d.w.unread[id]
	settling := d.w.settling[id] > 0
	d.w.settling[id]--
	d.w.mu.Unlock()
	if err != nil {
		return inventory.Resource{}, err
	}
	r, err := d.Driver.Read(ctx, id)
	r.Settling = settling
	return r, err
}

type dryRunner struct{ dryDriver }

func (d dryRunner) DryRun(ctx context.Context, w kind.Write) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	d.w.wait()
	d.w.mu.Lock()
	defer d.w.mu.Unlock()
	d.w.asked = append(d.w.asked, w)
	return d.w.answers[w.ID]
}

type dryBatch struct{ dryRunner }

func (d dryBatch) ReadMany(ctx context.Context, ids []string) (map[string]inventory.Resource, error) {
	d.w.mu.Lock()
	d.w.reads++
	err := d.w.unread["many"]
	d.w.mu.Unlock()
	out := map[string]inventory.Resource{}
	for _, id := range ids {
		r, e := d.Driver.Read(ctx, id)
		if e == nil {
			d.w.mu.Lock()
			r.Settling = d.w.settling[id] > 0
			d.w.settling[id]--
			d.w.mu.Unlock()
			out[id] = r
		}
	}
	if err != nil {
		return nil, err
	}
	return out, nil
}

var dryPlace = fleet.Place{Partition: "aws", Account: "111122223333", Region: "eu-west-1"}

func dryError(class fleet.ErrorClass, words string) error {
	return &fleet.CallError{Class: class, Place: dryPlace, Action: "ec2:Any", Err: errors.New(words)}
}

// drySite is a plan with its world: a group of n instances whose hop limit and tokens change, a template whose version 3 is
// copied and made the default, and the group that is pinned to the copy.
type drySite struct {
	world *dryWorld
	plan  *plan.Plan
	opt   engine.DryOptions
}

const (
	dryCopy = "c-aaaaaaaaaaaa"
	dryMade = "${" + dryCopy + ".Version}"
)

func newDrySite(n int) *drySite {
	s := &drySite{world: newDryWorld(), plan: &plan.Plan{}}
	s.opt = engine.DryOptions{Drivers: s.world, Clock: clock.System()}
	st := plan.Stack{ID: "s-web", Name: "web", Place: dryPlace, Steps: []plan.Step{
		{Name: "hop limit", Stage: plan.StageHopLimit, Changes: n}, {Name: "fleet", Stage: plan.StageFleet, Changes: n},
		{Name: "launch", Stage: plan.StageLaunch, Changes: 3}}}
	before := fleet.Options{Tokens: "optional", Endpoint: "enabled", HopLimit: 1}.State()
	hops := before.With(fleet.State{fleet.FieldHopLimit: "2"})
	for step := range 2 {
		for i := range n {
			c := plan.Change{ID: fmt.Sprintf("c-%012x", step*1000+i), Stack: st.ID, Step: step, Action: "set-options",
				Class: plan.ClassSet, Ref: fleet.Ref{Place: dryPlace, Kind: inventory.KindInstance, ID: fmt.Sprintf("i-%d", i)},
				Before: before, After: hops}
			if step == 1 {
				c.Before, c.After = hops, hops.With(fleet.State{fleet.FieldTokens: "required"})
				c.Needs = []string{fmt.Sprintf("c-%012x", i)}
			}
			s.plan.Changes = append(s.plan.Changes, c)
			s.world.Put(c.Ref.ID, before)
		}
	}
	s.launch(st.ID)
	s.plan.Stacks = []plan.Stack{st}
	return s
}

func (s *drySite) launch(stack string) {
	tmpl, group := fleet.State{"DefaultVersion": "3", "LatestVersion": "5"}, fleet.State{"LaunchTemplate.Version": "3"}
	s.world.Put("lt-1", tmpl)
	s.world.Put("asg-1", group)
	lt := fleet.Ref{Place: dryPlace, Kind: inventory.KindLaunchTemplate, ID: "lt-1"}
	created := fleet.State{"DefaultVersion": "3", "LatestVersion": dryMade}
	s.plan.Changes = append(s.plan.Changes,
		plan.Change{ID: dryCopy, Ref: lt, Action: "create-version", Class: plan.ClassCreate, Stack: stack, Step: 2, Before: tmpl,
			After: created, Params: map[string]string{"SourceVersion": "3"}, Outputs: []string{"Version"}},
		plan.Change{ID: "c-bbbbbbbbbbbb", Ref: lt, Action: "set-default", Class: plan.ClassSet, Stack: stack, Step: 2,
			Before: created, After: fleet.State{"DefaultVersion": dryMade, "LatestVersion": dryMade}, Needs: []string{dryCopy}},
		plan.Change{ID: "c-cccccccccccc", Ref: fleet.Ref{Place: dryPlace, Kind: inventory.KindAutoScaling, ID: "asg-1"},
			Action: "set-launch-version", Class: plan.ClassSet, Stack: stack, Step: 2, Before: group,
			After: fleet.State{"LaunchTemplate.Version": dryMade}, Needs: []string{dryCopy}})
}

// run makes the dry run and checks what holds of every one: nothing is written, and every change is told of once, in order.
func (s *drySite) run(t *testing.T) map[string]engine.DryChange {
	t.Helper()
	report, err := engine.DryRun(t.Context(), s.plan, s.opt)
	if err != nil {
		t.Fatal(err)
	}
	return s.check(t, report)
}

func (s *drySite) check(t *testing.T, report *engine.DryReport) map[string]engine.DryChange {
	t.Helper()
	if len(s.world.Effects) > 0 {
		t.Errorf("written: %+v", s.world.Effects)
	}
	out := map[string]engine.DryChange{}
	step := 0
	for _, c := range report.Changes {
		if c.Change.Step < step && len(s.plan.Stacks) == 1 {
			t.Errorf("%s of step %d comes after one of step %d", c.Change.ID, c.Change.Step, step)
		}
		step = c.Change.Step
		out[c.Change.ID] = c
		if !slices.Contains(engine.DryOutcomes(), c.Outcome) {
			t.Errorf("%s: outcome %q is not listed", c.Change.ID, c.Outcome)
		}
		if !c.Outcome.Fine() && c.Reason == "" {
			t.Errorf("%s: %s without a reason", c.Change.ID, c.Outcome)
		}
	}
	if len(out) != len(s.plan.Changes) || len(report.Changes) != len(out) {
		t.Errorf("%d changes are told of, and %d planned", len(report.Changes), len(s.plan.Changes))
	}
	return out
}

// outcomes gives the outcomes of changes by id.
func outcomes(m map[string]engine.DryChange) map[string]engine.DryOutcome {
	out := map[string]engine.DryOutcome{}
	for id, c := range m {
		out[id] = c.Outcome
	}
	return out
}

func TestDryRunOfAPlanThatFits(t *testing.T) {
	s := newDrySite(3)
	got := s.run(t)
	for id, c := range got {
		want := engine.DryWrite
		if c.Change.Ref.Kind == inventory.KindAutoScaling {
			want = engine.DryCompared
		}
		if c.Outcome != want {
			t.Errorf("%s of %s is %s (%s), not %s", id, c.Change.Ref.ID, c.Outcome, c.Reason, want)
		}
	}
	if c := got["c-cccccccccccc"]; !strings.Contains(c.Reason, "AWS offers no dry run for this call: only read and compared") {
		t.Errorf("the group's reason is %q", c.Reason)
	}
	if c := got["c-bbbbbbbbbbbb"]; len(c.Unasked) != 1 || !strings.Contains(c.Unasked[0], "create-version of lt-1") {
		t.Errorf("set-default says that it did not ask %q", c.Unasked)
	}
	if c := got[dryCopy]; len(c.Unasked) > 0 {
		t.Errorf("create-version says that it did not ask %q, which is what it makes itself", c.Unasked)
	}
	if s.world.reads != 3 {
		t.Errorf("%d calls were made to read 3 instances, a template and a group, not 3", s.world.reads)
	}
	tokens := map[string]bool{}
	for _, w := range s.world.asked {
		tokens[w.Token] = true
		for _, v := range slices.Concat(slices.Collect(maps.Values(w.Before)), slices.Collect(maps.Values(w.After))) {
			if len(plan.References(v)) > 0 {
				t.Errorf("%s of %s was asked with %s", w.Verb, w.ID, v)
			}
		}
		if w.Verb == "set-default" && (w.After["DefaultVersion"] != "3" || w.Before["LatestVersion"] != "5") {
			t.Errorf("set-default was asked with %v → %v, not with what is there", w.Before, w.After)
		}
		if w.ID == "i-0" && w.After[fleet.FieldTokens] == "required" && w.Before[fleet.FieldHopLimit] != "2" {
			t.Errorf("the tokens of i-0 were asked for before the hop limit: %v", w.Before)
		}
	}
	if len(tokens) != len(s.world.asked) || tokens[""] {
		t.Errorf("%d askings came under %d tokens", len(s.world.asked), len(tokens))
	}
}

// TestDryRunTellsApart gives each outcome its cause.
func TestDryRunTellsApart(t *testing.T) {
	const first, second = "c-000000000000", "c-0000000003e8" // hop limit and tokens of i-0
	for _, tt := range []struct {
		name   string
		change func(*drySite)
		want   map[string]engine.DryOutcome
		reason string // of the first one wanted, by id
	}{
		{"found as wanted, in part", func(s *drySite) {
			s.world.Put("i-0", s.world.Get("i-0").With(fleet.State{fleet.FieldHopLimit: "2"}))
		}, map[string]engine.DryOutcome{first: engine.DryWanted, second: engine.DryWrite}, ""},
		{"changed since", func(s *drySite) {
			s.world.Put("i-0", s.world.Get("i-0").With(fleet.State{fleet.FieldHopLimit: "5"}))
		}, map[string]engine.DryOutcome{first: engine.DryConflict, second: engine.DrySkipped},
			"HttpPutResponseHopLimit: 1 → 5"},
		{"a disabled endpoint", func(s *drySite) {
			s.world.Put("i-0", s.world.Get("i-0").With(fleet.State{fleet.FieldEndpoint: fleet.Disabled}))
		}, map[string]engine.DryOutcome{first: engine.DryDisabled, second: engine.DrySkipped}, "never written"},
		{"gone", func(s *drySite) { s.world.Remove("i-0") },
			map[string]engine.DryOutcome{first: engine.DryGone, second: engine.DrySkipped}, "gone"},
		{"denied", func(s *drySite) { s.world.answers["i-0"] = dryError(fleet.ErrDenied, "UnauthorizedOperation: no") },
			map[string]engine.DryOutcome{first: engine.DryDenied, second: engine.DrySkipped}, "UnauthorizedOperation: no"},
		{"unreadable", func(s *drySite) { s.world.unread["many"] = dryError(fleet.ErrDenied, "may not describe") },
			map[string]engine.DryOutcome{first: engine.DryDenied, "c-000000000001": engine.DryDenied, second: engine.DrySkipped},
			"it could not be read: ec2:Any"},
		{"throttled", func(s *drySite) { s.world.answers["i-0"] = dryError(fleet.ErrThrottled, "RequestLimitExceeded") },
			map[string]engine.DryOutcome{first: engine.DryUnknown, second: engine.DryUnknown}, "AWS could not be asked: "},
		{"no answer", func(s *drySite) { s.world.unread["lt-1"] = dryError(fleet.ErrTransient, "no answer") },
			map[string]engine.DryOutcome{dryCopy: engine.DryUnknown, "c-bbbbbbbbbbbb": engine.DryUnknown,
				"c-cccccccccccc": engine.DryUnknown}, "it could not be read"},
		{"refused", func(s *drySite) { s.world.answers["lt-1"] = dryError(fleet.ErrInvalid, "InvalidParameterValue") },
			map[string]engine.DryOutcome{dryCopy: engine.DryRefused, "c-cccccccccccc": engine.DrySkipped}, "InvalidParameterValue"},
		{"AWS's own conflict", func(s *drySite) { s.world.answers["i-0"] = dryError(fleet.ErrConflict, "IncorrectState") },
			map[string]engine.DryOutcome{first: engine.DryConflict, second: engine.DrySkipped}, "IncorrectState"},
		{"the source is gone", func(s *drySite) { s.world.answers["lt-1"] = dryError(fleet.ErrGone, "no version 3") },
			map[string]engine.DryOutcome{dryCopy: engine.DryGone, "c-bbbbbbbbbbbb": engine.DrySkipped}, "no version 3"},
		{"an unknown kind", func(s *drySite) { s.opt.Drivers = noDriver{s.world} },
			map[string]engine.DryOutcome{first: engine.DryUnknown}, "is not known"},
		{"what to copy is not made yet", func(s *drySite) {
			c := s.of(dryCopy)
			c.Params = map[string]string{"SourceVersion": "${c-dddddddddddd.Version}"}
		}, map[string]engine.DryOutcome{dryCopy: engine.DryCompared, "c-bbbbbbbbbbbb": engine.DryWrite},
			"only be asked once the changes before it are made"},
		{"the undo is refused", func(s *drySite) {
			s.world.Fault = func(call, _ string) enginetest.Fault {
				if call == "undo" {
					return enginetest.Denied
				}
				return enginetest.Fine
			}
		}, map[string]engine.DryOutcome{first: engine.DryNoUndo, second: engine.DryNoUndo, dryCopy: engine.DryNoUndo,
			"c-cccccccccccc": engine.DryNoUndo}, "AWS would not let it be undone: undo"},
		{"follow-ups", func(s *drySite) {
			for i, id := range []string{first, second} {
				c := s.of(id)
				c.Ref.Kind, c.Class, c.Needs = plan.KindFollowUp, []plan.Class{plan.ClassManual, plan.ClassStart}[i], nil
			}
		}, map[string]engine.DryOutcome{first: engine.DryByHand, second: engine.DryCompared}, "until a person says"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := newDrySite(2)
			tt.change(s)
			got := s.run(t)
			ids := slices.Sorted(maps.Keys(tt.want))
			for _, id := range ids {
				if c := got[id]; c.Outcome != tt.want[id] {
					t.Errorf("%s of %s is %s (%s), not %s", c.Change.Action, c.Change.Ref.ID, c.Outcome, c.Reason, tt.want[id])
				}
			}
			if reason := got[ids[0]].Reason; !strings.Contains(reason, tt.reason) {
				t.Errorf("the reason is %q, without %q", reason, tt.reason)
			}
		})
	}
}

func (s *drySite) of(id string) *plan.Change {
	return &s.plan.Changes[slices.IndexFunc(s.plan.Changes, func(c plan.Change) bool { return c.ID == id })]
}

// noDriver knows no kind.
type noDriver struct{ *dryWorld }

func (noDriver) Driver(fleet.Place, string) (kind.Driver, error) {
	return nil, errors.New("kind is not known to this imdsctl")
}

func TestDryRunWaitsUntilAResourceHasSettled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newDrySite(2)
		s.world.settling["i-0"], s.world.settling["lt-1"], s.world.settling["asg-1"] = 3, 3, 1000
		got := s.run(t)
		for id, want := range map[string]engine.DryOutcome{
			"c-000000000000": engine.DryWrite, dryCopy: engine.DryWrite, "c-cccccccccccc": engine.DryUnknown,
		} {
			if got[id].Outcome != want {
				t.Errorf("%s is %s (%s), not %s", id, got[id].Outcome, got[id].Reason, want)
			}
		}
	})
}

func TestDryRunEndsWithTheCredentials(t *testing.T) {
	s := newDrySite(2)
	s.world.unread["lt-1"] = dryError(fleet.ErrExpired, "ExpiredToken")
	report, err := engine.DryRun(t.Context(), s.plan, s.opt)
	if fleet.ClassOf(err) != fleet.ErrExpired {
		t.Errorf("error %v", err)
	}
	if got := s.check(t, report)[dryCopy].Outcome; got != engine.DryUnknown {
		t.Errorf("the copy is %s", got)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	report, err = engine.DryRun(ctx, s.plan, s.opt)
	if !errors.Is(err, context.Canceled) {
		t.Errorf("error %v", err)
	}
	for _, c := range s.check(t, report) {
		if c.Outcome != engine.DryUnknown {
			t.Errorf("%s is %s", c.Change.ID, c.Outcome)
		}
	}
}

// TestDryRunGoesOnFromARollout lets a rollout of the plan be half-way.
func TestDryRunGoesOnFromARollout(t *testing.T) {
	s := newDrySite(2)
	s.world.Put("lt-1", fleet.State{"DefaultVersion": "3", "LatestVersion": "6"})
	s.world.Remove("i-1") // it was changed, and then scaled in
	s.opt.Record = &engine.Record{
		Stacks: map[string]rollout.Stack{"s-web": {Phase: rollout.StackApplying, Step: 2}},
		Changes: map[string]engine.ChangeState{
			"c-000000000000": {Phase: engine.ChangeVerified, Wrote: true},
			"c-000000000001": {Phase: engine.ChangeVerified},
			"c-0000000003e8": {Phase: engine.ChangeConflict, Reason: "someone was faster"},
			"c-0000000003e9": {Phase: engine.ChangeOpen, Wrote: true},
			dryCopy:          {Phase: engine.ChangeVerified, Wrote: true, Outputs: map[string]string{"Version": "6"}},
			"c-bbbbbbbbbbbb": {Phase: engine.ChangePending},
		},
	}
	s.world.Fault = func(call, _ string) enginetest.Fault {
		if call == "undo" {
			t.Error("a stack that has begun is asked whether it could be undone")
		}
		return enginetest.Fine
	}
	got := s.run(t)
	want := map[string]engine.DryOutcome{
		"c-000000000000": engine.DryMade, "c-000000000001": engine.DryMade, "c-0000000003e8": engine.DryEnded,
		"c-0000000003e9": engine.DryUnknown, dryCopy: engine.DryMade, "c-bbbbbbbbbbbb": engine.DryWrite,
		"c-cccccccccccc": engine.DryCompared,
	}
	if o := outcomes(got); !maps.Equal(o, want) {
		t.Errorf("got  %v\nwant %v", o, want)
	}
	if len(s.world.asked) != 1 || s.world.asked[0].After["DefaultVersion"] != "6" || len(got["c-bbbbbbbbbbbb"].Unasked) > 0 {
		t.Errorf("asked %+v, not for the version that was made", s.world.asked)
	}
	s.opt.Record.Stacks["s-web"] = rollout.Stack{Phase: rollout.StackFailed}
	if o := outcomes(s.run(t)); o["c-bbbbbbbbbbbb"] != engine.DryEnded || o[dryCopy] != engine.DryMade {
		t.Errorf("with its stack failed: %v", o)
	}
}

func TestDryRunForeseesStacks(t *testing.T) {
	s := newDrySite(3)
	s.plan.Stacks[0].Wave = 1
	s.plan.Stacks = append(s.plan.Stacks,
		plan.Stack{ID: "s-defaults", Name: "defaults", Place: dryPlace, Wave: 1, After: []string{"s-web"}},
		plan.Stack{ID: "s-last", Name: "last", Place: dryPlace, Wave: 1, After: []string{"s-defaults"}},
		plan.Stack{ID: "s-early", Name: "early", Place: dryPlace})
	s.world.answers["i-1"] = dryError(fleet.ErrDenied, "no")
	for tolerated, want := range map[int]string{
		0: "early false; web true at 0; defaults true; last true; halt",
		1: "early false; web false; defaults false; last false",
	} {
		s.plan.Header.Rules.MaxFailures, s.plan.Header.Rules.HaltOnFailure = tolerated, true
		report, err := engine.DryRun(t.Context(), s.plan, s.opt)
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, st := range report.Stacks {
			line := fmt.Sprintf("%s %t", st.Stack.Name, st.Fails)
			if st.Step >= 0 {
				line += fmt.Sprintf(" at %d", st.Step)
			}
			if st.Fails != (st.Reason != "") {
				t.Errorf("%s fails: %t, reason %q", st.Stack.Name, st.Fails, st.Reason)
			}
			got = append(got, line)
		}
		if report.Halt != "" {
			got = append(got, "halt")
		}
		if g := strings.Join(got, "; "); g != want {
			t.Errorf("with %d tolerated: %s, not %s", tolerated, g, want)
		}
	}
}

// TestDryRunIsTheSameWhateverTheOrder spreads stacks over places and answers after a random while; order and outcomes do not
// depend on it, and progress counts every change once.
func TestDryRunIsTheSameWhateverTheOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var first string
		for seed := range uint64(5) {
			s := newDrySite(40)
			rng := rand.New(rand.NewPCG(seed, 1))
			s.world.late = func() time.Duration { return time.Duration(rng.IntN(1000)) * time.Millisecond }
			for i := range s.plan.Changes {
				c := &s.plan.Changes[i]
				if c.Ref.Kind == inventory.KindInstance && strings.HasSuffix(c.Ref.ID, "7") {
					c.Ref.Place.Region = "us-east-1"
					s.world.answers[c.Ref.ID] = dryError(fleet.ErrDenied, "no")
				}
			}
			var last engine.DryProgress
			s.opt.Progress = func(p engine.DryProgress) {
				if p.Done < last.Done || p.PlacesDone < last.PlacesDone || p.Attention < last.Attention {
					t.Errorf("progress goes from %+v to %+v", last, p)
				}
				last = p
			}
			report, err := engine.DryRun(t.Context(), s.plan, s.opt)
			if err != nil {
				t.Fatal(err)
			}
			if last.Done != len(s.plan.Changes) || last.Places != 2 || last.PlacesDone != 2 {
				t.Errorf("progress ends at %+v", last)
			}
			var b strings.Builder
			for _, c := range report.Changes {
				fmt.Fprintln(&b, c.Change.ID, c.Outcome, c.Reason)
			}
			if first == "" {
				first = b.String()
			} else if b.String() != first {
				t.Errorf("seed %d gives another report:\n%s", seed, b.String())
			}
		}
	})
}
