// Package kindtest is the suite that every kind must pass: it drives a kind's driver against the simulated AWS and
// checks that the contract in package kind holds, whatever goes wrong at whichever call.
//
// It runs over the list of kinds, not over what an author remembers to call. What it needs to know of a kind is data in
// the kind's own folder, testdata/fixture.json: a seed of the simulator and the writes to try. The package is for tests
// only. Its own tests plant a fault of each sort and expect the suite to fail.
//
// The simulator's reads lag behind its writes, as AWS's do. Time stands still until somebody sleeps, so that waiting
// costs nothing and every run is the same.
package kindtest

import (
	"context"
	"fmt"
	"io/fs"
	"maps"
	"path"
	"slices"
	"testing"

	"github.com/imdsctl/imdsctl/internal/kinds/all"
)

// Run puts every kind of the list through the suite. folders is the directory that holds the kinds' folders; one that
// is not listed, or a listed kind without a fixture, fails.
func Run(t *testing.T, entries []all.Entry, folders fs.FS) {
	s := suite{entries: entries, folders: folders, applier: Reference()}
	s.run(reality{t})
}

// T is what the suite needs of a test. The suite's own tests give it one that only takes notes.
type T interface {
	Helper()
	Errorf(format string, args ...any)
	// Fatalf does not return.
	Fatalf(format string, args ...any)
	Context() context.Context
	Run(name string, f func(T))
}

// reality is a real test as a T.
type reality struct{ *testing.T }

func (r reality) Run(name string, f func(T)) {
	r.Helper()
	r.T.Run(name, func(t *testing.T) { f(reality{t}) })
}

// suite is one run over a list.
type suite struct {
	entries []all.Entry
	folders fs.FS
	applier Applier
}

func (s *suite) run(t T) {
	t.Run("list", func(t T) {
		if err := all.Check(s.folders, s.entries); err != nil {
			t.Errorf("%v", err)
		}
	})
	for _, e := range s.entries {
		t.Run(e.Kind.Name, func(t T) { s.kind(t, e) })
	}
}

func (s *suite) kind(t T, e all.Entry) {
	name := path.Join(e.Kind.Folder(), "testdata", "fixture.json")
	f, err := readFixture(s.folders, name)
	if err != nil {
		t.Fatalf("kind %s: %v", e.Kind.Name, err)
	}
	b := &bench{suite: s, entry: e, fixture: f}
	b.describes(t)
	for _, c := range []struct {
		name  string
		check func(T)
	}{
		{"reads every page", b.everyPage},
		{"stops when cancelled", b.cancellation},
		{"reads one", b.readsOne},
		{"never gives a shorter list", b.faultsWhileReading},
		{"proposes without writing", b.proposes},
		{"writes and reverts", b.roundTrips},
		{"knows what can be undone", b.checksUndo},
		{"asks before it writes", b.dryRuns},
		{"leaves what drifted alone", b.drifts},
		{"tells the truth about failed writes", b.faultsWhileWriting},
		{"survives a crash at every call", b.crashes},
		{"makes the calls it declares", b.calls},
		{"can be rehearsed", b.rehearses},
	} {
		t.Run(c.name, c.check)
	}
}

// bench is one kind under test.
type bench struct {
	suite   *suite
	entry   all.Entry
	fixture *fixture
}

// describes checks the description by itself, and that the fixture tries every verb.
func (b *bench) describes(t T) {
	k := &b.entry.Kind
	if k.Name == "" || k.Doc == "" || len(k.Reads) == 0 {
		t.Errorf("kind %s: name, doc and reads must be there", k.Name)
	}
	tried := map[string]bool{}
	for _, w := range b.fixture.Writes {
		if _, ok := k.Verb(w.Verb); !ok {
			t.Fatalf("fixture of %s: there is no verb %q", k.Name, w.Verb)
		}
		tried[w.Verb] = true
	}
	for _, v := range k.Verbs {
		if !tried[v.Name] {
			t.Errorf("verb %s of %s is not tried: add a write to testdata/fixture.json", v.Name, k.Name)
		}
		if v.Class == "" || v.Disruption == "" || v.Undo == "" || len(v.Calls) == 0 {
			t.Errorf("verb %s of %s: class, disruption, undo and calls must be said", v.Name, k.Name)
		}
		counted := slices.Concat(slices.Collect(maps.Keys(v.Calls)), slices.Collect(maps.Keys(v.Checks)),
			slices.Collect(maps.Keys(v.DryRun)))
		for _, action := range counted {
			if !declared(k, action) {
				t.Errorf("verb %s of %s counts calls of %s, which the kind does not declare", v.Name, k.Name, action)
			}
		}
	}
}

// each runs a check for every write of the fixture.
func (b *bench) each(t T, check func(T, *writeCase)) {
	for i := range b.fixture.Writes {
		w := &b.fixture.Writes[i]
		name := w.Name
		if name == "" {
			name = fmt.Sprintf("%s of %s", w.Verb, w.ID)
		}
		t.Run(name, func(t T) { check(t, w) })
	}
}
