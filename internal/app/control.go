package app

import (
	"context"
	"fmt"
	"io"
	"strings"

	"github.com/imdsctl/imdsctl/internal/fleet"
	"github.com/imdsctl/imdsctl/internal/plan"
	"github.com/imdsctl/imdsctl/internal/rollout"
	"github.com/imdsctl/imdsctl/internal/store"
)

// What faces need of the journal.
type (
	JournalBreak    = store.Break
	JournalFollowed = store.Followed
)

// StopAll keeps everything of every rollout in the database from starting, forward and back, until AllowAll.
func (a *App) StopAll(ctx context.Context, reason string) error {
	db, err := a.database()
	if err != nil {
		return err
	}
	return db.StopAll(ctx, a.opt.Actor, reason, a.clock.Now())
}

// AllowAll ends what StopAll began.
func (a *App) AllowAll(ctx context.Context, reason string) error {
	db, err := a.database()
	if err != nil {
		return err
	}
	return db.AllowAll(ctx, a.opt.Actor, reason, a.clock.Now())
}

// Stopped says who stopped everything, and why; "" while nothing is stopped.
func (a *App) Stopped(ctx context.Context) (string, error) {
	db, err := a.database()
	if err != nil {
		return "", err
	}
	return db.Stopped(ctx)
}

// PauseAll pauses every rollout that can be, and gives their ids.
func (a *App) PauseAll(ctx context.Context, reason string) ([]string, error) {
	return a.each(ctx, func(s rollout.Status) bool { _, ok := rollout.NextStatus(s, rollout.Pause); return ok },
		func(id string) error { return a.PauseRollout(ctx, id, reason) })
}

// ResumeAll resumes every paused rollout, and gives their ids. One that has halted is resumed by name only: a person has to
// look at why.
func (a *App) ResumeAll(ctx context.Context, reason string) ([]string, error) {
	return a.each(ctx, func(s rollout.Status) bool { return s == rollout.Paused || s == rollout.RollbackPaused },
		func(id string) error { return a.ResumeRollout(ctx, id, reason) })
}

// each does something to the rollouts in a status, and gives the ids of those it was done to.
func (a *App) each(ctx context.Context, in func(rollout.Status) bool, do func(id string) error) ([]string, error) {
	list, err := a.Rollouts(ctx)
	if err != nil {
		return nil, err
	}
	var out []string
	for _, r := range list {
		if !in(r.Status) {
			continue
		}
		if err := do(r.ID); err != nil {
			return out, err
		}
		out = append(out, r.ID)
	}
	return out, nil
}

// ManualTask is a change that a person makes, and whose step waits for it.
type ManualTask struct {
	Change *plan.Change
	Stack  *plan.Stack
}

// Name is what the configuration calls the task.
func (t ManualTask) Name() string { return t.Change.Params[plan.ParamName] }

// Resource is the id of what it is done to.
func (t ManualTask) Resource() string { return t.Change.Params[plan.ParamInstance] }

// Text is what is to be done.
func (t ManualTask) Text() string { return t.Change.Params[plan.ParamText] }

// ManualTasks lists the tasks of a rollout that wait for a person now, in the plan's order.
func ManualTasks(p *plan.Plan, r *Record) []ManualTask {
	if r.Status.Final() {
		return nil
	}
	stacks := map[string]*plan.Stack{}
	for i := range p.Stacks {
		stacks[p.Stacks[i].ID] = &p.Stacks[i]
	}
	phase := func(id string) ChangePhase { return r.Changes[id].Phase }
	var out []ManualTask
	for i := range p.Changes {
		if c := &p.Changes[i]; ManualWaits(c, r.Stacks[c.Stack], phase) {
			out = append(out, ManualTask{c, stacks[c.Stack]})
		}
	}
	return out
}

// ManualWaits tells whether a change waits for a person to make it: it is a manual one of the step that is being written,
// and everything it needs is made.
func ManualWaits(c *plan.Change, stack rollout.Stack, phase func(change string) ChangePhase) bool {
	if c.Class != plan.ClassManual || stack.Phase != rollout.StackApplying || c.Step != stack.Step || !pending(phase(c.ID)) {
		return false
	}
	for _, need := range c.Needs {
		if phase(need) != ChangeVerified {
			return false
		}
	}
	return true
}

// pending: a change of which nothing is on record has not begun.
func pending(p ChangePhase) bool { return p == ChangePending || p == "" }

// CompleteManual records that a person has made a manual change of a rollout, or (done false) that it cannot be made. The
// change is named by its id, the beginning of it, or the resource where only one task of that waits.
func (a *App) CompleteManual(ctx context.Context, id, change string, done bool, reason string) (ManualTask, error) {
	view, err := a.Standing(ctx, id)
	if err != nil {
		return ManualTask{}, err
	}
	task, err := findManual(view, change)
	if err != nil {
		return ManualTask{}, err
	}
	err = a.ask(ctx, view.Record.ID, reason, func(db *store.Store, r store.Request) error {
		return db.CompleteManual(ctx, r, task.Change.ID, done)
	})
	return task, err
}

func findManual(v *RolloutView, name string) (ManualTask, error) {
	var found []ManualTask
	for i := range v.Plan.Changes {
		c := &v.Plan.Changes[i]
		if c.Class != plan.ClassManual {
			continue
		}
		t := ManualTask{Change: c}
		if c.ID == name {
			return t, nil
		}
		if len(name) >= 4 && strings.HasPrefix(c.ID, name) || t.Resource() == name && pending(v.Record.Changes[c.ID].Phase) {
			found = append(found, t)
		}
	}
	if len(found) == 1 {
		return found[0], nil
	}
	d := fleet.Diagnostic{Severity: fleet.SeverityError, Where: "rollout " + v.Record.ID,
		Summary: fmt.Sprintf("no task for a person is named %q", name),
		Remedy:  "`imdsctl rollout show " + short(v.Record.Digest) + "` lists those that wait."}
	if len(found) > 1 {
		d.Summary = fmt.Sprintf("%d tasks for a person can be meant by %q", len(found), name)
	}
	return ManualTask{}, d
}

// VerifyJournal follows the chains of events of a rollout, of all for "", and gives the first link that is broken, nil where
// all hold.
func (a *App) VerifyJournal(ctx context.Context, id string) (JournalFollowed, *JournalBreak, error) {
	db, err := a.database()
	if err != nil {
		return JournalFollowed{}, nil, err
	}
	if id != "" {
		if id, err = wholeRollout(ctx, db, id); err != nil {
			return JournalFollowed{}, nil, err
		}
	}
	return db.VerifyChain(ctx, id)
}

// VerifyExported follows the chains in a file of exported events, and counts the events. It needs no database.
func VerifyExported(r io.Reader, name string) (int, *JournalBreak, error) {
	return store.VerifyEvents(r, name)
}

// ExportJournal writes the events of a rollout, of all for "", as JSON lines.
func (a *App) ExportJournal(ctx context.Context, w io.Writer, id string) error {
	db, err := a.database()
	if err != nil {
		return err
	}
	if id != "" {
		if id, err = wholeRollout(ctx, db, id); err != nil {
			return err
		}
	}
	return db.ExportEvents(ctx, w, id)
}
