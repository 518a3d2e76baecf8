package kindtest

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"testing"

	"github.com/imdsctl/imdsctl/internal/awssim/core"
	"github.com/imdsctl/imdsctl/internal/awsx"
	"github.com/imdsctl/imdsctl/internal/fleet"
	"github.com/imdsctl/imdsctl/internal/kind"
	"github.com/imdsctl/imdsctl/internal/kinds/all"
	"github.com/imdsctl/imdsctl/internal/plan"
)

// Policies are what the roles that a kind is tried as are allowed: IAM policy documents.
type Policies struct{ Read, Write string }

const (
	readRole  = "kindtest-read"
	writeRole = "kindtest-write"
)

// Place is where the fixture of a kind is; folders is as in Run.
func Place(t *testing.T, e all.Entry, folders fs.FS) fleet.Place {
	t.Helper()
	return load(t, e, folders).fixture.Place
}

// Uncalled are the actions that a kind declares and its fixture does not come to, with the reasons.
func Uncalled(t *testing.T, e all.Entry, folders fs.FS) map[string]string {
	t.Helper()
	return load(t, e, folders).fixture.Uncalled
}

func load(t *testing.T, e all.Entry, folders fs.FS) *bench {
	t.Helper()
	f, err := readFixture(folders, path.Join(e.Kind.Folder(), "testdata", "fixture.json"))
	if err != nil {
		t.Fatalf("kind %s: %v", e.Kind.Name, err)
	}
	return &bench{suite: &suite{entries: []all.Entry{e}, folders: folders, applier: Reference()}, entry: e, fixture: f}
}

// Enforced does all that a kind does where the policies are enforced: what looks as the one role, what an apply calls as the
// other. It gives the errors that come of it, which are none where the policies suffice.
func Enforced(t *testing.T, e all.Entry, folders fs.FS, p Policies) []error {
	t.Helper()
	b := load(t, e, folders)
	var problems []error
	for _, r := range b.readings(reality{t}) {
		s := b.enforced(t, p)
		if _, err := r.do(t.Context(), s); err != nil {
			problems = append(problems, fmt.Errorf("%s: %w", r.name, err))
		}
	}
	for i := range b.fixture.Writes {
		w := &b.fixture.Writes[i]
		if err := b.enforcedWrite(t.Context(), b.enforced(t, p), w); err != nil {
			problems = append(problems, fmt.Errorf("%s of %s: %w", w.Verb, w.ID, err))
		}
	}
	return problems
}

// enforced is a site with both roles, and the driver of the one that looks.
func (b *bench) enforced(t *testing.T, p Policies) *site {
	t.Helper()
	s := b.site(reality{t})
	account := b.fixture.Place.Account
	for name, policy := range map[string]string{readRole: p.Read, writeRole: p.Write} {
		if err := s.world.PutRole(account, name, core.TrustAccount(account, ""), policy); err != nil {
			t.Fatalf("role %s: %v", name, err)
		}
	}
	s.driver = b.entry.Open(s.config(reality{t}, awsx.Role{Name: readRole}), b.fixture.Place, s.clock)
	s.writer = b.entry.Open(s.config(reality{t}, awsx.Role{Name: writeRole}), b.fixture.Place, s.clock)
	return s
}

// enforcedWrite makes a write and takes it back: asked, dry, in earnest, looked for as after a crash.
func (b *bench) enforcedWrite(ctx context.Context, s *site, w *writeCase) error {
	v := b.verb(w)
	s.settle()
	was, err := s.driver.Read(ctx, w.ID)
	if err != nil {
		return err
	}
	write := s.prepare(w, was)
	if checker, ok := s.writer.(kind.UndoChecker); ok && v.Undo == kind.UndoFull {
		if err := checker.CheckUndo(ctx, write); err != nil {
			return fmt.Errorf("whether it could be undone: %w", err)
		}
	}
	if runner, ok := s.writer.(kind.DryRunner); ok && len(v.DryRun) > 0 {
		if err := runner.DryRun(ctx, write); err != nil {
			return fmt.Errorf("dry run: %w", err)
		}
	}
	made, err := b.suite.applier.Apply(ctx, s.clock, s.writer, v, write)
	if err != nil {
		return err
	}
	s.settle()
	if v.Class != plan.ClassSet {
		if _, err := s.writer.Find(ctx, write); err != nil && !errors.Is(err, kind.ErrNotFound) {
			return fmt.Errorf("look for what was made: %w", err)
		}
	}
	if v.Undo != kind.UndoFull {
		return nil
	}
	if _, err := b.suite.applier.Apply(ctx, s.clock, s.writer, v, undo(write, made)); err != nil {
		return fmt.Errorf("take it back: %w", err)
	}
	return nil
}
