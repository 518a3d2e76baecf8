package kindtest

import (
	"maps"
	"reflect"
	"slices"
	"strings"

	"github.com/imdsctl/imdsctl/internal/awssim/core"
	"github.com/imdsctl/imdsctl/internal/fleet"
	"github.com/imdsctl/imdsctl/internal/kind"
	"github.com/imdsctl/imdsctl/internal/plan"
)

// dryRuns checks that a driver which can ask AWS beforehand whether it would take a write gets the answer that the write
// itself would get, by asking for what the write sends, and changes nothing by it.
func (b *bench) dryRuns(t T) {
	_, can := b.site(t).driver.(kind.DryRunner)
	promised := false
	for _, v := range b.entry.Kind.Verbs {
		promised = promised || len(v.DryRun) > 0
		for action := range v.DryRun {
			if v.Calls[action] == 0 && v.Checks[action] == 0 {
				t.Errorf("verb %s counts %s in a dry run and neither in Calls nor in Checks: the role that writes need not have it",
					v.Name, action)
			}
		}
	}
	if can != promised {
		t.Errorf("a verb counts the calls of a dry run: %t; that the driver has one is %t", promised, can)
	}
	if !can || !promised {
		return
	}
	b.each(t, func(t T, w *writeCase) {
		if len(b.verb(w).DryRun) == 0 {
			return
		}
		writing := b.writing(t, w)
		b.dryAllowed(t, w, writing)
		b.dryDenied(t, w, writing)
		b.dryUnasked(t, w)
		b.dryEnforced(t, w)
		b.dryGone(t, w)
		b.dryNow(t, w)
	})
}

// writing are the calls by which a write is really made.
func (b *bench) writing(t T, w *writeCase) []core.CallRecord {
	s := b.site(t)
	write := s.prepare(w, s.read(t, w.ID))
	s.mark()
	s.mustApply(t, write)
	return slices.DeleteFunc(s.made(), func(c core.CallRecord) bool { return !c.Mutated })
}

// dryAllowed checks that asking is answered with yes where nothing forbids, asks for what the write sends, changes nothing,
// and leaves the write itself to be made as if nobody had asked.
func (b *bench) dryAllowed(t T, w *writeCase, writing []core.CallRecord) {
	s := b.site(t)
	was := s.read(t, w.ID)
	write := s.prepare(w, was)
	s.mark()
	if err := s.dryRun(t, write); err != nil {
		t.Errorf("dry run of %s: %v, though nothing forbids it", what(write), err)
	}
	b.wroteNothing(t, s, write, "")
	b.asksFor(t, write, s.made(), writing)
	if now := s.read(t, w.ID); !reflect.DeepEqual(now, was) {
		t.Errorf("dry run of %s left %s", what(write), fleet.DescribeDiff(was.State, now.State))
	}
	s.mark()
	if _, err := s.apply(t, write); err != nil {
		t.Errorf("%s after its dry run: %v", what(write), err)
	}
	b.counted(t, s, b.verb(w))
}

// wroteNothing checks the simulator's call log: no effect, and no call of a write without DryRun.
func (b *bench) wroteNothing(t T, s *site, w kind.Write, when string) {
	t.Helper()
	if changed := s.changed(); len(changed) > 0 {
		t.Errorf("dry run of %s%s wrote: %v", what(w), when, changed)
	}
	for _, c := range s.made() {
		if b.writes(iamName(c)) && !c.DryRun {
			t.Errorf("dry run of %s%s called %s without DryRun", what(w), when, iamName(c))
		}
	}
}

// asksFor compares the calls that asked with those that write: each of these asked for, with the same parameters, and none
// more often than the verb says.
func (b *bench) asksFor(t T, w kind.Write, asked, writing []core.CallRecord) {
	t.Helper()
	v, _ := b.entry.Kind.Verb(w.Verb)
	counts := map[string]int{}
	for _, c := range asked {
		if counts[iamName(c)]++; counts[iamName(c)] > v.DryRun[iamName(c)] {
			t.Errorf("dry run of %s called %s %d times, more often than the verb's DryRun says", what(w), iamName(c),
				counts[iamName(c)])
		}
	}
	for _, c := range writing {
		at := slices.IndexFunc(asked, func(a core.CallRecord) bool { return a.DryRun && a.Action == c.Action })
		if at < 0 {
			t.Errorf("dry run of %s did not ask %s, which makes it", what(w), iamName(c))
		} else if got, want := parameters(asked[at]), parameters(c); !slices.Equal(got, want) {
			t.Errorf("dry run of %s asks for\n  %q, and the write sends\n  %q", what(w), got, want)
		}
	}
}

// dryDenied checks that the answer is a denial where the organization denies the write to the account, and where the role
// may not make it, and that the write meets the same.
func (b *bench) dryDenied(t T, w *writeCase, writing []core.CallRecord) {
	actions := map[string]bool{}
	for _, c := range writing {
		actions[iamName(c)] = true
	}
	denied := slices.Sorted(maps.Keys(actions))
	account := b.fixture.Place.Account
	for name, deny := range map[string]func(*site){
		"a service control policy": func(s *site) { s.guard(t, denied) },
		"the role": func(s *site) {
			left := slices.DeleteFunc(permissions(&b.entry.Kind), func(a string) bool { return actions[a] })
			err := s.world.PutRole(account, roleName, core.TrustAccount(account, ""), core.AllowActions(left...))
			if err != nil {
				t.Fatalf("role: %v", err)
			}
		},
	} {
		s := b.site(t)
		write := s.prepare(w, s.read(t, w.ID))
		deny(s)
		s.restart(t)
		err := s.dryRun(t, write)
		if fleet.ClassOf(err) != fleet.ErrDenied {
			t.Errorf("dry run of %s: %v, though %s does not allow %q", what(write), err, name, denied)
		} else if !slices.ContainsFunc(denied, func(a string) bool { return strings.Contains(err.Error(), a) }) {
			t.Errorf("dry run of %s: %v, which does not name what is denied, %q", what(write), err, denied)
		}
		b.wroteNothing(t, s, write, ", which is denied,")
		b.agrees(t, s, write, err, "where "+name+" denies it")
	}
}

// agrees makes the write in earnest and compares what it meets with the answer of its dry run.
func (b *bench) agrees(t T, s *site, w kind.Write, answer error, when string) {
	t.Helper()
	_, met := s.driver.Write(t.Context(), w)
	if fleet.ClassOf(answer) != fleet.ClassOf(met) {
		t.Errorf("dry run of %s %s: %v; the write meets: %v", what(w), when, answer, met)
	}
}

// dryUnasked checks that the answer is an error wherever one of the calls that ask goes wrong.
func (b *bench) dryUnasked(t T, w *writeCase) {
	clean := b.site(t)
	write := clean.prepare(w, clean.read(t, w.ID))
	clean.mark()
	if err := clean.dryRun(t, write); err != nil {
		return // told already
	}
	for n := 1; n <= len(clean.made()); n++ {
		for _, ill := range illnesses() {
			s := b.site(t)
			write := s.prepare(w, s.read(t, w.ID))
			s.mark()
			s.fault(t, n, ill.fault)
			if err := s.dryRun(t, write); fleet.ClassOf(err) != ill.class {
				t.Errorf("dry run of %s, with %s at call %d: %v, not an error of class %s", what(write), ill.name, n, err, ill.class)
			}
			b.wroteNothing(t, s, write, ", with "+ill.name+",")
		}
	}
}

// dryEnforced checks that where the account has enforced tokens, the answer is what the write would meet.
func (b *bench) dryEnforced(t T, w *writeCase) {
	s := b.site(t)
	s.enforce(t)
	write := s.prepare(w, s.read(t, w.ID))
	s.mark()
	err := s.dryRun(t, write)
	b.wroteNothing(t, s, write, ", under HttpTokensEnforced,")
	b.agrees(t, s, write, err, "under HttpTokensEnforced")
}

// dryGone checks that the answer about a resource that is no more is what the write would meet, and no yes.
func (b *bench) dryGone(t T, w *writeCase) {
	s := b.site(t)
	write := s.prepare(w, s.read(t, w.ID))
	write.ID = b.fixture.Missing
	err := s.dryRun(t, write)
	if err == nil {
		t.Errorf("dry run of %s, which does not exist, says yes", what(write))
	}
	b.agrees(t, s, write, err, "which does not exist")
}

// dryNow checks that a write which must name the output of a change that is not made yet, and is asked for with what its
// fields are now, is answered all the same.
func (b *bench) dryNow(t T, w *writeCase) {
	if b.verb(w).Class != plan.ClassSet {
		return
	}
	s := b.site(t)
	write := s.prepare(w, s.read(t, w.ID))
	write.After = write.Before.Clone()
	s.mark()
	if err := s.dryRun(t, write); err != nil {
		t.Errorf("dry run of %s with what its fields are now: %v", what(write), err)
	}
	b.wroteNothing(t, s, write, ", with what its fields are now,")
}

func (s *site) dryRun(t T, w kind.Write) error {
	return s.driver.(kind.DryRunner).DryRun(t.Context(), w)
}
