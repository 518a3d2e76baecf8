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
	// Events is the journal, oldest first.
	Events []JournalEvent
}

// Rollout reads one rollout, named by its id, its plan's digest or the beginning of either.
func (a *App) Rollout(ctx context.Context, id string) (*RolloutView, error) {
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
	for e, err := range db.Events(ctx, id, 0) {
		if err != nil {
			return nil, err
		}
		out.Events = append(out.Events, e)
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
