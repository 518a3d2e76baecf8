package app

import (
	"context"
	"fmt"
	"iter"
	"slices"
	"strings"

	"github.com/imdsctl/imdsctl/internal/fleet"
	"github.com/imdsctl/imdsctl/internal/plan"
	"github.com/imdsctl/imdsctl/internal/rollout"
	"github.com/imdsctl/imdsctl/internal/store"
)

// Rollouts lists the rollouts, the latest first.
func (a *App) Rollouts(ctx context.Context) ([]RolloutInfo, error) {
	db, err := a.database()
	if err != nil {
		return nil, err
	}
	return db.List(ctx)
}

// RolloutView is a rollout with everything that is on record about it.
type RolloutView struct {
	Record    *Record
	Plan      *plan.Plan
	Counts    ChangeCounts
	Approvals []Approval
	// Events is the journal, oldest first; nil where it was not asked for.
	Events []JournalEvent
}

// Rollout reads one rollout, named by its id, its plan's digest or the beginning of either.
func (a *App) Rollout(ctx context.Context, id string) (*RolloutView, error) {
	out, err := a.Standing(ctx, id)
	if err != nil {
		return nil, err
	}
	for e, err := range a.Events(ctx, out.Record.ID, 0) {
		if err != nil {
			return nil, err
		}
		out.Events = append(out.Events, e)
	}
	return out, nil
}

// Standing reads where a rollout stands, without its journal, which may be long.
func (a *App) Standing(ctx context.Context, id string) (*RolloutView, error) {
	db, err := a.database()
	if err != nil {
		return nil, err
	}
	if id, err = wholeRollout(ctx, db, id); err != nil {
		return nil, err
	}
	out := &RolloutView{}
	if out.Record, err = db.Load(ctx, id); err != nil {
		return nil, err
	}
	if out.Plan, err = db.Plan(ctx, id); err != nil {
		return nil, err
	}
	if out.Approvals, err = db.Approvals(ctx, out.Record.Digest); err != nil {
		return nil, err
	}
	out.Counts = countChanges(out.Record)
	return out, nil
}

// Events lists the journal of a rollout from the event after since on, oldest first; that of all rollouts for "".
func (a *App) Events(ctx context.Context, id string, since int64) iter.Seq2[JournalEvent, error] {
	return func(yield func(JournalEvent, error) bool) {
		db, err := a.database()
		if err == nil && id != "" {
			id, err = wholeRollout(ctx, db, id)
		}
		if err != nil {
			yield(JournalEvent{}, err)
			return
		}
		for e, err := range db.Events(ctx, id, since) {
			if !yield(e, err) || err != nil {
				return
			}
		}
	}
}

// PauseRollout keeps further writes of a rollout from starting.
func (a *App) PauseRollout(ctx context.Context, id, reason string) error {
	return a.ask(ctx, id, reason, func(db *store.Store, r store.Request) error {
		_, err := db.Pause(ctx, r)
		return err
	})
}

// ResumeRollout lets a paused or halted rollout go on. The process that runs it does; where there is none, ResumeRun.
func (a *App) ResumeRollout(ctx context.Context, id, reason string) error {
	return a.ask(ctx, id, reason, func(db *store.Store, r store.Request) error {
		_, err := db.Resume(ctx, r)
		return err
	})
}

// ApproveWave opens a wave that waits for a person's approval.
func (a *App) ApproveWave(ctx context.Context, id, wave, reason string) error {
	return a.ask(ctx, id, reason, func(db *store.Store, r store.Request) error { return db.ApproveWave(ctx, r, wave) })
}

// RollbackRollout asks for stacks to be put back, for all where none is named. With a stack go those that come after it and
// have begun: an account default was written because everything that launches by it was ready, and what is put back no longer
// is. The process that runs the rollout does it; where there is none, ResumeRun.
func (a *App) RollbackRollout(ctx context.Context, id string, stacks []string, reason string) error {
	return a.ask(ctx, id, reason, func(db *store.Store, r store.Request) error {
		if len(stacks) == 0 {
			_, err := db.RequestUndo(ctx, r, "")
			return err
		}
		for _, s := range stacks {
			if _, err := db.RequestUndo(ctx, r, s); err != nil {
				return err
			}
		}
		return undoFollowers(ctx, db, r, stacks)
	})
}

// undoFollowers asks for the rollback of the stacks that come after others, where they have begun. One that waits is skipped
// by itself.
func undoFollowers(ctx context.Context, db *store.Store, r store.Request, stacks []string) error {
	p, err := db.Plan(ctx, r.Rollout)
	if err != nil {
		return err
	}
	record, err := db.Load(ctx, r.Rollout)
	if err != nil {
		return err
	}
	for i := range p.Stacks {
		s := &p.Stacks[i]
		first := slices.IndexFunc(s.After, func(id string) bool { return slices.Contains(stacks, id) })
		if first < 0 || slices.Contains(stacks, s.ID) {
			continue
		}
		switch record.Stacks[s.ID].Phase {
		case rollout.StackWaiting, rollout.StackReverting, rollout.StackRolledBack, rollout.StackSkipped:
			continue
		}
		follower := r
		follower.Reason = fmt.Sprintf("it comes after %s, which is put back: %s", s.After[first], r.Reason)
		if _, err := db.RequestUndo(ctx, follower, s.ID); err != nil {
			return err
		}
	}
	return nil
}

// FindStacks gives the ids of the stacks that people mean: by id, the beginning of one, or a name that only one has; and those
// of whole waves, by name, that have not been put back or skipped yet. What nothing or several can be meant by is an error.
func (a *App) FindStacks(ctx context.Context, id string, stacks, waves []string) ([]string, error) {
	view, err := a.Standing(ctx, id)
	if err != nil {
		return nil, err
	}
	var out []string
	for _, name := range stacks {
		found, err := findStack(view, name)
		if err != nil {
			return nil, err
		}
		out = append(out, found)
	}
	for _, name := range waves {
		found, err := undoableOf(view, name)
		if err != nil {
			return nil, err
		}
		out = append(out, found...)
	}
	slices.Sort(out)
	return slices.Compact(out), nil
}

func findStack(v *RolloutView, name string) (string, error) {
	var found []string
	for i := range v.Plan.Stacks {
		s := &v.Plan.Stacks[i]
		if s.ID == name {
			return s.ID, nil
		}
		if s.Name == name || len(name) >= 4 && strings.HasPrefix(s.ID, name) {
			found = append(found, s.ID)
		}
	}
	if len(found) == 1 {
		return found[0], nil
	}
	d := fleet.Diagnostic{Severity: fleet.SeverityError, Where: "rollout " + v.Record.ID,
		Summary: fmt.Sprintf("its plan has no stack %q", name),
		Remedy:  "`imdsctl rollout show " + short(v.Record.Digest) + "` lists its stacks."}
	if len(found) > 1 {
		d.Summary = fmt.Sprintf("%d stacks can be meant by %q", len(found), name)
		d.Remedy = "Name one of these: " + strings.Join(found[:min(10, len(found))], ", ") + "."
	}
	return "", d
}

// undoableOf lists the stacks of a wave that have a way back, those included that have not begun: they will not.
func undoableOf(v *RolloutView, name string) ([]string, error) {
	d := fleet.Diagnostic{Severity: fleet.SeverityError, Where: "rollout " + v.Record.ID}
	var names []string
	for _, w := range v.Plan.Header.Waves {
		names = append(names, w.Name)
	}
	wave := slices.Index(names, name)
	if wave < 0 {
		d.Summary = fmt.Sprintf("its plan has no wave %q", name)
		d.Remedy = "Name one of its waves: " + strings.Join(names, ", ") + "."
		return nil, d
	}
	var out []string
	for i := range v.Plan.Stacks {
		s := &v.Plan.Stacks[i]
		if _, ok := rollout.StackTable()[v.Record.Stacks[s.ID].Phase][rollout.StackUndo]; ok && s.Wave == wave {
			out = append(out, s.ID)
		}
	}
	if len(out) == 0 {
		d.Summary = fmt.Sprintf("everything of wave %q has been put back or skipped already", name)
		d.Remedy = "`imdsctl rollout show " + short(v.Record.Digest) + "` tells how it stands."
		return nil, d
	}
	return out, nil
}

func (a *App) ask(ctx context.Context, id, reason string, do func(*store.Store, store.Request) error) error {
	db, err := a.database()
	if err != nil {
		return err
	}
	if id, err = wholeRollout(ctx, db, id); err != nil {
		return err
	}
	return do(db, store.Request{Rollout: id, Actor: a.opt.Actor, Reason: reason, Now: a.clock.Now()})
}

// rolloutOf finds the rollout of a plan; "" where it has none.
func rolloutOf(ctx context.Context, db *store.Store, digest string) (string, error) {
	rollouts, err := db.List(ctx)
	if err != nil {
		return "", err
	}
	for _, r := range rollouts {
		if r.Digest == digest {
			return r.ID, nil
		}
	}
	return "", nil
}

// wholeRollout finds the one rollout that a name, as a person types it, can mean.
func wholeRollout(ctx context.Context, db *store.Store, name string) (string, error) {
	rollouts, err := db.List(ctx)
	if err != nil {
		return "", err
	}
	var found, ids []string
	for _, r := range rollouts {
		ids = append(ids, r.ID)
		if r.ID == name {
			return r.ID, nil
		}
		if len(name) >= 4 && (strings.HasPrefix(r.ID, name) || strings.HasPrefix(r.Digest, name)) {
			found = append(found, r.ID)
		}
	}
	if len(found) == 1 {
		return found[0], nil
	}
	d := fleet.Diagnostic{Severity: fleet.SeverityError, Where: db.Path(), Summary: fmt.Sprintf("no rollout is named %q",
		name),
		Remedy: "Name one of these: " + strings.Join(ids, ", ") + "."}
	switch {
	case len(found) > 1:
		d.Summary, d.Remedy = fmt.Sprintf("%d rollouts can be meant by %q", len(found),
			name), "Name one of these: "+strings.Join(found, ", ")+"."
	case len(ids) == 0:
		d.Remedy = "Begin one with `imdsctl apply`; none is on record in this database."
	}
	return "", d
}
