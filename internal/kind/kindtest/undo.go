package kindtest

import (
	"encoding/json"
	"maps"
	"reflect"
	"slices"
	"strings"

	"github.com/aws/aws-sdk-go-v2/service/ec2"
	ec2types "github.com/aws/aws-sdk-go-v2/service/ec2/types"

	"github.com/imdsctl/imdsctl/internal/awssim/authz"
	"github.com/imdsctl/imdsctl/internal/awssim/core"
	"github.com/imdsctl/imdsctl/internal/awsx"
	"github.com/imdsctl/imdsctl/internal/fleet"
	"github.com/imdsctl/imdsctl/internal/kind"
	"github.com/imdsctl/imdsctl/internal/plan"
)

// checksUndo checks that a driver which can ask beforehand whether AWS would let a write be undone gets the answer that
// the undo itself would get, and changes nothing by asking. A kind whose AWS cannot be asked declares no checks.
func (b *bench) checksUndo(t T) {
	_, can := b.site(t).driver.(kind.UndoChecker)
	for _, v := range b.entry.Kind.Verbs {
		if v.Undo == kind.UndoFull && can != (len(v.Checks) > 0) {
			t.Errorf("verb %s counts the calls of CheckUndo as %v, and that the driver has one is %t", v.Name, v.Checks, can)
		}
	}
	if !can {
		return
	}
	b.each(t, func(t T, w *writeCase) {
		if b.verb(w).Undo != kind.UndoFull {
			return
		}
		back := b.undoing(t, w)
		b.undoAllowed(t, w, back)
		b.undoDenied(t, w, back)
		b.undoUnasked(t, w)
		b.undoEnforced(t, w)
	})
}

// undoing are the calls by which a write is really undone.
func (b *bench) undoing(t T, w *writeCase) []core.CallRecord {
	s := b.site(t)
	back := b.stage(t, s, w, true)
	s.mark()
	s.mustApply(t, back)
	return slices.DeleteFunc(s.made(), func(c core.CallRecord) bool { return !c.Mutated })
}

// undoAllowed checks that asking is answered with yes where nothing forbids, changes nothing, and asks for what the
// undo does.
func (b *bench) undoAllowed(t T, w *writeCase, back []core.CallRecord) {
	s := b.site(t)
	was := s.read(t, w.ID)
	write := s.prepare(w, was)
	s.mark()
	if err := s.checkUndo(t, write); err != nil {
		t.Errorf("whether %s could be undone: %v, though nothing forbids it", what(write), err)
	}
	if changed := s.changed(); len(changed) > 0 {
		t.Errorf("asking whether %s could be undone wrote: %v", what(write), changed)
	}
	asked := s.made()
	counts := map[string]int{}
	for _, c := range asked {
		counts[iamName(c)]++
		if counts[iamName(c)] > b.verb(w).Checks[iamName(c)] {
			t.Errorf("asking whether %s could be undone called %s %d times, more often than the verb's Checks say", what(write),
				iamName(c), counts[iamName(c)])
		}
		if b.writes(iamName(c)) && !c.DryRun {
			t.Errorf("asking whether %s could be undone called %s without DryRun", what(write), iamName(c))
		}
	}
	for _, c := range back {
		at := slices.IndexFunc(asked, func(a core.CallRecord) bool { return a.DryRun && a.Action == c.Action })
		if at < 0 {
			t.Errorf("whether %s could be undone was not asked of %s, which undoes it", what(write), iamName(c))
		} else if b.verb(w).Class == plan.ClassSet && !slices.Equal(parameters(asked[at]), parameters(c)) {
			t.Errorf("whether %s could be undone was asked with\n  %q, and the undo sends\n  %q", what(write),
				parameters(asked[at]), parameters(c))
		}
	}
	if now := s.read(t, w.ID); !reflect.DeepEqual(now, was) {
		t.Errorf("asking whether %s could be undone left %s", what(write), fleet.DescribeDiff(was.State, now.State))
	}
}

func (b *bench) writes(action string) bool {
	return slices.ContainsFunc(b.entry.Kind.Writes, func(a kind.Action) bool { return a.Name == action })
}

// parameters are a call's, in order, without what makes it a dry run and the token that the SDK makes up.
func parameters(c core.CallRecord) []string {
	p := slices.DeleteFunc(slices.Clone(c.Params), func(p string) bool {
		return strings.HasPrefix(p, "DryRun=") || strings.HasPrefix(p, "ClientToken=")
	})
	slices.Sort(p)
	return p
}

// undoDenied checks that the answer is no where the organization denies the undo to the account, and where the role may
// not do it.
func (b *bench) undoDenied(t T, w *writeCase, back []core.CallRecord) {
	actions := map[string]bool{}
	for _, c := range back {
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
		err := s.checkUndo(t, write)
		if fleet.ClassOf(err) != fleet.ErrDenied {
			t.Errorf("whether %s could be undone: %v, though %s does not allow %q", what(write), err, name, denied)
		} else if !slices.ContainsFunc(denied, func(a string) bool { return strings.Contains(err.Error(), a) }) {
			t.Errorf("whether %s could be undone: %v, which does not name what is denied, %q", what(write), err, denied)
		}
		if changed := s.changed(); len(changed) > 0 {
			t.Errorf("asking in vain whether %s could be undone wrote: %v", what(write), changed)
		}
	}
}

// guard puts a service control policy over all accounts that denies the actions.
func (s *site) guard(t T, actions []string) {
	t.Helper()
	doc, err := json.Marshal(map[string]any{"Version": "2012-10-17", "Statement": []any{
		map[string]any{"Effect": "Allow", "Action": "*", "Resource": "*"},
		map[string]any{"Effect": "Deny", "Action": actions, "Resource": "*"},
	}})
	if err != nil {
		t.Fatalf("service control policy: %v", err)
	}
	policy, err := authz.Parse(string(doc))
	if err != nil {
		t.Fatalf("service control policy: %v", err)
	}
	s.world.SetGuardrails(func(fleet.AccountID) [][]*authz.Policy { return [][]*authz.Policy{{policy}} })
}

// undoUnasked checks that the answer is an error wherever one of the calls that ask goes wrong.
func (b *bench) undoUnasked(t T, w *writeCase) {
	clean := b.site(t)
	write := clean.prepare(w, clean.read(t, w.ID))
	clean.mark()
	if err := clean.checkUndo(t, write); err != nil {
		return // told already
	}
	for n := 1; n <= len(clean.made()); n++ {
		for _, ill := range illnesses() {
			s := b.site(t)
			write := s.prepare(w, s.read(t, w.ID))
			s.mark()
			s.fault(t, n, ill.fault)
			if err := s.checkUndo(t, write); fleet.ClassOf(err) != ill.class {
				t.Errorf("whether %s could be undone, with %s at call %d: %v, not an error of class %s", what(write), ill.name, n,
					err, ill.class)
			}
			if changed := s.changed(); len(changed) > 0 {
				t.Errorf("asking whether %s could be undone, with %s at call %d, wrote: %v", what(write), ill.name, n, changed)
			}
		}
	}
}

// undoEnforced checks that where the account has enforced tokens, the answer is what the undo would meet.
func (b *bench) undoEnforced(t T, w *writeCase) {
	s := b.site(t)
	write := s.prepare(w, s.read(t, w.ID))
	back := undo(write, s.mustApply(t, write))
	s.enforce(t)
	_, met := s.driver.Write(t.Context(), back)
	s = b.site(t)
	write = s.prepare(w, s.read(t, w.ID))
	s.enforce(t)
	s.mark()
	err := s.checkUndo(t, write)
	if fleet.ClassOf(err) != fleet.ClassOf(met) {
		t.Errorf("whether %s could be undone under HttpTokensEnforced: %v; the undo meets: %v", what(write), err, met)
	} else if err != nil && !strings.Contains(err.Error(), "disable HttpTokensEnforced") {
		t.Errorf("whether %s could be undone under HttpTokensEnforced: %v, which does not tell the way out", what(write), err)
	}
	if changed := s.changed(); len(changed) > 0 {
		t.Errorf("asking under HttpTokensEnforced whether %s could be undone wrote: %v", what(write), changed)
	}
}

// enforce enables HttpTokensEnforced in the place, as somebody else.
func (s *site) enforce(t T) {
	t.Helper()
	_, err := ec2.NewFromConfig(s.config(t, awsx.Role{})).ModifyInstanceMetadataDefaults(t.Context(),
		&ec2.ModifyInstanceMetadataDefaultsInput{
			HttpTokens:         ec2types.MetadataDefaultHttpTokensStateRequired,
			HttpTokensEnforced: ec2types.DefaultHttpTokensEnforcedStateEnabled,
		})
	if err != nil {
		t.Fatalf("enable HttpTokensEnforced: %v", err)
	}
	s.settle()
}

func (s *site) checkUndo(t T, w kind.Write) error {
	return s.driver.(kind.UndoChecker).CheckUndo(t.Context(), w)
}
