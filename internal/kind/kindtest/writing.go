package kindtest

import (
	"maps"
	"reflect"
	"slices"

	"github.com/imdsctl/imdsctl/internal/awssim/core"
	"github.com/imdsctl/imdsctl/internal/fleet"
	"github.com/imdsctl/imdsctl/internal/inventory"
	"github.com/imdsctl/imdsctl/internal/kind"
	"github.com/imdsctl/imdsctl/internal/plan"
)

func (b *bench) verb(w *writeCase) kind.Verb {
	v, _ := b.entry.Kind.Verb(w.Verb)
	return v
}

func (s *site) apply(t T, w kind.Write) (kind.Result, error) {
	v, _ := s.bench.entry.Kind.Verb(w.Verb)
	return s.bench.suite.applier.Apply(t.Context(), s.clock, s.driver, v, w)
}

func (s *site) resume(t T, w kind.Write) (kind.Result, error) {
	v, _ := s.bench.entry.Kind.Verb(w.Verb)
	return s.bench.suite.applier.Resume(t.Context(), s.clock, s.driver, v, w)
}

// mustApply applies a write that is expected to succeed.
func (s *site) mustApply(t T, w kind.Write) kind.Result {
	t.Helper()
	made, err := s.apply(t, w)
	if err != nil {
		t.Fatalf("%s: %v", what(w), err)
	}
	return made
}

func what(w kind.Write) string {
	if w.Revert {
		return "revert of " + w.Verb + " of " + w.ID
	}
	return w.Verb + " of " + w.ID
}

// roundTrips checks that each write reaches its target, that nothing is left to write then, and that its revert
// restores everything that can be read and every launch.
func (b *bench) roundTrips(t T) { b.each(t, b.roundTrip) }

func (b *bench) roundTrip(t T, w *writeCase) {
	s := b.site(t)
	launched := s.launches(t)
	was := s.read(t, w.ID)
	apply := s.prepare(w, was)
	if apply.After.Equal(was.State) {
		t.Fatalf("the fixture's patch changes nothing of %s", w.ID)
	}
	s.mark()
	made := s.mustApply(t, apply)
	b.carried(t, s, apply)
	b.counted(t, s, b.verb(w))
	want := withOutputs(apply.After, made.Outputs)
	seen := apply
	seen.Made = made.Outputs
	if now, err := look(t.Context(), s.driver, seen); err != nil || !now.State.Equal(want) {
		t.Errorf("%s left %s (%v)", what(apply), fleet.DescribeDiff(want, now.State), err)
	}
	for _, name := range b.verb(w).Outputs {
		if made.Outputs[name] == "" {
			t.Errorf("%s gave no %s", what(apply), name)
		}
	}
	if b.verb(w).Undo != kind.UndoFull {
		return
	}
	back := undo(apply, made)
	b.commands(t, apply, back)
	s.mustApply(t, back)
	now := s.read(t, w.ID)
	if !now.State.Equal(was.State) {
		t.Errorf("%s left %s", what(back), fleet.DescribeDiff(was.State, now.State))
	}
	if !reflect.DeepEqual(now, was) {
		t.Errorf("%s left\n  %+v, not\n  %+v", what(back), now, was)
	}
	if after := s.launches(t); !slices.Equal(after, launched) {
		t.Errorf("launches after %s give\n  %q, not\n  %q", what(back), after, launched)
	}
}

// carried checks that a create was made under the token and the marker it was given, and a start under the token where its
// API takes one: what was started is found again by what it leads to.
func (b *bench) carried(t T, s *site, w kind.Write) {
	v, _ := b.entry.Kind.Verb(w.Verb)
	if v.Class == plan.ClassSet {
		return
	}
	for _, c := range s.made() {
		if c.Mutated && c.Token != w.Token && (c.Token != "" || v.Class == plan.ClassCreate) {
			t.Errorf("%s made %s under the token %q, not %q: an attempt that is repeated would make a second",
				what(w), iamName(c), c.Token, w.Token)
		}
	}
	s.settle()
	if _, err := s.driver.Find(t.Context(), w); err != nil {
		t.Errorf("%s made something that cannot be found again: %v", what(w), err)
	}
	if v.Class == plan.ClassStart {
		return
	}
	w.Marker = "kindtest-marker-other"
	if _, err := s.driver.Find(t.Context(), w); err == nil {
		t.Errorf("%s: something was found under a marker that was never used", what(w))
	}
}

// counted checks that a write makes as many writing calls as its verb says.
func (b *bench) counted(t T, s *site, v kind.Verb) {
	got := map[string]int{}
	for _, c := range s.made() {
		for _, a := range b.entry.Kind.Writes {
			if a.Name == iamName(c) {
				got[a.Name]++
			}
		}
	}
	want := maps.Clone(v.Calls)
	maps.DeleteFunc(want, func(name string, _ int) bool {
		return !slices.ContainsFunc(b.entry.Kind.Writes, func(a kind.Action) bool { return a.Name == name })
	})
	if !maps.Equal(got, want) {
		t.Errorf("%s made the writing calls %v, not %v", v.Name, got, want)
	}
}

// commands checks that there is a command line for the write and for its revert.
func (b *bench) commands(t T, writes ...kind.Write) {
	for _, w := range writes {
		if b.entry.Kind.Commands == nil || len(b.entry.Kind.Commands(w)) == 0 {
			t.Errorf("%s: there are no commands to do it by hand", what(w))
		}
	}
}

// drift writes what somebody else writes.
func (s *site) drift(t T, w *writeCase, by drift) {
	t.Helper()
	d := s.another(t)
	s.settle()
	r, err := d.Read(t.Context(), w.ID)
	if err != nil {
		t.Fatalf("drift: %v", err)
	}
	after := r.State.With(state(by.Patch))
	if after.Equal(r.State) {
		t.Fatalf("the fixture's drift changes nothing of %s", w.ID)
	}
	_, err = d.Write(t.Context(), kind.Write{
		Place: s.bench.fixture.Place, ID: w.ID, Verb: by.Verb, Before: r.State, After: after,
		Token: "somebody-else", Marker: "somebody-else",
	})
	if err != nil {
		t.Fatalf("drift: %v", err)
	}
	s.await(t, d, w.ID)
}

// drifts checks that what somebody else has changed in between is a conflict and is not written.
func (b *bench) drifts(t T) { b.each(t, b.drifted) }

func (b *bench) drifted(t T, w *writeCase) {
	s := b.site(t)
	apply := s.prepare(w, s.read(t, w.ID))
	s.drift(t, w, w.Drift)
	b.refuses(t, s, apply)
	if b.verb(w).Undo != kind.UndoFull {
		return
	}
	s = b.site(t)
	apply = s.prepare(w, s.read(t, w.ID))
	made := s.mustApply(t, apply)
	after := w.DriftAfter
	if after.Verb == "" {
		after = w.Drift
	}
	s.drift(t, w, after)
	b.refuses(t, s, undo(apply, made))
}

func (b *bench) refuses(t T, s *site, w kind.Write) {
	was := s.read(t, w.ID)
	s.mark()
	_, err := s.apply(t, w)
	if fleet.ClassOf(err) != fleet.ErrConflict {
		t.Errorf("%s after somebody else's change gave %v, not a conflict", what(w), err)
	}
	if changed := s.changed(); len(changed) > 0 {
		t.Errorf("%s after somebody else's change wrote: %v", what(w), changed)
	}
	if now := s.read(t, w.ID); !now.State.Equal(was.State) {
		t.Errorf("%s after somebody else's change left %s", what(w), fleet.DescribeDiff(was.State, now.State))
	}
}

// faultsWhileWriting makes each call of each write go wrong: unless the error leaves the effect unknown, there must be
// none.
func (b *bench) faultsWhileWriting(t T) { b.each(t, b.failedWrite) }

func (b *bench) failedWrite(t T, w *writeCase) {
	clean := b.site(t)
	apply := clean.prepare(w, clean.read(t, w.ID))
	clean.mark()
	if _, err := clean.driver.Write(t.Context(), apply); err != nil {
		t.Fatalf("%s: %v", what(apply), err)
	}
	for n := 1; n <= len(clean.made()); n++ {
		for _, ill := range illnesses() {
			s := b.site(t)
			was := s.read(t, w.ID)
			s.fault(t, n, ill.fault)
			_, err := s.driver.Write(t.Context(), s.prepare(w, was))
			s.heal()
			if err == nil {
				t.Errorf("%s with %s at call %d succeeded", what(apply), ill.name, n)
				continue
			}
			now := s.read(t, w.ID)
			if fleet.ClassOf(err) != fleet.ErrTransient && !reflect.DeepEqual(now, was) {
				t.Errorf("%s with %s at call %d says that nothing was changed (%v), and left %s", what(apply), ill.name, n, err,
					fleet.DescribeDiff(was.State, now.State))
			}
		}
	}
}

// crashes kills each write and each revert before and after the effect of each of its calls, and resumes it in a new
// process: the end must be the same as without the crash, and nothing done twice.
func (b *bench) crashes(t T) { b.each(t, b.crash) }

func (b *bench) crash(t T, w *writeCase) {
	for _, revert := range []bool{false, true} {
		if revert && b.verb(w).Undo != kind.UndoFull {
			continue
		}
		clean := b.site(t)
		write := b.stage(t, clean, w, revert)
		clean.mark()
		made := clean.mustApply(t, write)
		calls, changed := len(clean.made()), clean.changed()
		end := clean.read(t, w.ID)
		for n := 1; n <= calls; n++ {
			for _, f := range []core.Fault{{DropBefore: true}, {DropAfter: true}} {
				b.crashAt(t, w, revert, n, f, made, changed, end)
			}
		}
	}
}

// stage makes everything ready for the write, or for its revert.
func (b *bench) stage(t T, s *site, w *writeCase, revert bool) kind.Write {
	write := s.prepare(w, s.read(t, w.ID))
	if !revert {
		return write
	}
	back := undo(write, s.mustApply(t, write))
	s.settle()
	return back
}

func (b *bench) crashAt(
	t T, w *writeCase, revert bool, n int, f core.Fault, made kind.Result, changed map[string]int, end inventory.Resource,
) {
	t.Helper()
	s := b.site(t)
	write := b.stage(t, s, w, revert)
	s.mark()
	from := s.log
	s.fault(t, n, f)
	if _, err := s.apply(t, write); err == nil {
		t.Errorf("%s went on after a crash at call %d", what(write), n)
	}
	s.heal()
	s.restart(t)
	got, err := s.resume(t, write)
	when := "before"
	if f.DropAfter {
		when = "after"
	}
	if err != nil {
		t.Errorf("%s, crashed %s the effect of call %d, resumed with: %v", what(write), when, n, err)
		return
	}
	if w.MadeUp && !revert {
		end.State = renamed(end.State, made.Outputs, got.Outputs)
		made.Outputs = renamed(made.Outputs, made.Outputs, got.Outputs)
	}
	if !revert && !maps.Equal(got.Outputs, made.Outputs) {
		t.Errorf("%s, crashed %s the effect of call %d, gave %v, not %v", what(write), when, n, got.Outputs, made.Outputs)
	}
	s.log = from
	if again := s.changed(); !maps.Equal(again, changed) {
		t.Errorf("%s, crashed %s the effect of call %d, had effects %v, not %v", what(write), when, n, again, changed)
	}
	if now := s.read(t, w.ID); !reflect.DeepEqual(now, end) {
		t.Errorf("%s, crashed %s the effect of call %d, ended at %s", what(write), when, n,
			fleet.DescribeDiff(end.State, now.State))
	}
}

// renamed gives a copy in which what one run called its outputs is called as in another run.
func renamed[M ~map[string]string](in M, one, other map[string]string) M {
	out := maps.Clone(in)
	for k, v := range out {
		for name, id := range one {
			if v == id && other[name] != "" {
				out[k] = other[name]
			}
		}
	}
	return out
}

// calls compares the calls seen, over everything a kind does, with those it declares.
func (b *bench) calls(t T) {
	seen := map[string]bool{}
	note := func(s *site) {
		for _, c := range s.made() {
			seen[iamName(c)] = true
		}
	}
	for _, r := range b.readings(t) {
		s := b.site(t)
		if _, err := r.do(t.Context(), s); err != nil {
			t.Errorf("%s: %v", r.name, err)
		}
		note(s)
	}
	for i := range b.fixture.Writes {
		w := &b.fixture.Writes[i]
		s := b.site(t)
		write := s.prepare(w, s.read(t, w.ID))
		if checker, ok := s.driver.(kind.UndoChecker); ok && b.verb(w).Undo == kind.UndoFull {
			if err := checker.CheckUndo(t.Context(), write); err != nil {
				t.Errorf("whether %s could be undone: %v", what(write), err)
			}
		}
		if runner, ok := s.driver.(kind.DryRunner); ok && len(b.verb(w).DryRun) > 0 {
			if err := runner.DryRun(t.Context(), write); err != nil {
				t.Errorf("dry run of %s: %v", what(write), err)
			}
		}
		if made := s.mustApply(t, write); b.verb(w).Undo == kind.UndoFull {
			s.mustApply(t, undo(write, made))
		}
		note(s)
	}
	for name := range seen {
		if !declared(&b.entry.Kind, name) {
			t.Errorf("%s is called and not declared", name)
		}
	}
	for _, a := range slices.Concat(b.entry.Kind.Reads, b.entry.Kind.Writes) {
		if !seen[a.Name] && b.fixture.Uncalled[a.Name] == "" {
			t.Errorf("%s is declared and never called", a.Name)
		}
	}
}
