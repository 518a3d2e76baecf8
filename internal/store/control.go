package store

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/imdsctl/imdsctl/internal/engine"
	"github.com/imdsctl/imdsctl/internal/fleet"
	"github.com/imdsctl/imdsctl/internal/plan"
	"github.com/imdsctl/imdsctl/internal/rollout"
)

// Control implements engine.Journal.
func (s *Store) Control(ctx context.Context, id string) (engine.Control, error) {
	var c engine.Control
	err := s.view(ctx, "read control of rollout "+id, func(tx *txn) error {
		c = engine.Control{}
		var digest, created, updated, approved string
		err := found(id, tx.QueryRowContext(ctx, sqlRollout, id).Scan(&digest, &c.Status, &c.Reason, &created, &updated, &approved,
			&c.FailuresForgiven, &c.Version))
		if err != nil {
			return err
		}
		if c.Undo, err = pairs(ctx, tx, sqlUndos, id); err != nil {
			return err
		}
		if c.Waves, err = pairs(ctx, tx, sqlWaves, id); err != nil {
			return err
		}
		if c.Stop, err = readStop(ctx, tx); err != nil {
			return err
		}
		c.Manual, err = readManualsDone(ctx, tx, id)
		return err
	})
	return c, err
}

func readManualsDone(ctx context.Context, tx *txn, id string) (map[string]engine.ChangeState, error) {
	var out map[string]engine.ChangeState
	err := query(ctx, tx, sqlManualsDone, []any{id}, func(rows *sql.Rows) error {
		var st stateRow
		if err := rows.Scan(st.columns()...); err != nil {
			return err
		}
		c, err := st.state()
		if out == nil {
			out = map[string]engine.ChangeState{}
		}
		out[c.ID] = c
		return err
	})
	return out, err
}

// Request is what a person asks of a rollout from any terminal.
type Request struct {
	Rollout string
	Actor   string
	Reason  string
	Now     time.Time
}

func (r Request) who() string {
	if r.Reason == "" {
		return r.Actor
	}
	return r.Actor + ": " + r.Reason
}

// lock has the transaction wait for whoever else moves, controls or admits in the rollout.
func (r Request) lock(ctx context.Context, tx *txn) error {
	if err := tx.writesEvents(ctx); err != nil {
		return err
	}
	return tx.lockRollout(ctx, r.Rollout)
}

// Pause keeps further intents from starting, and gives the status that follows. Calls under way go to their end.
func (s *Store) Pause(ctx context.Context, r Request) (rollout.Status, error) {
	return s.ask(ctx, r, rollout.Pause, "pause")
}

// Resume lets a paused or halted rollout go on, and forgives the failures so far.
func (s *Store) Resume(ctx context.Context, r Request) (rollout.Status, error) {
	return s.ask(ctx, r, rollout.Resume, "resume")
}

func (s *Store) ask(ctx context.Context, r Request, e rollout.Event, verb string) (rollout.Status, error) {
	var next rollout.Status
	err := s.journal(ctx, verb+" rollout "+r.Rollout, "control", func(tx *txn) (err error) {
		if err := r.lock(ctx, tx); err != nil {
			return err
		}
		next, err = s.applyEvent(ctx, tx, r, e, verb)
		return err
	})
	return next, err
}

// applyEvent takes the rollout's machine one event further, on a person's word.
func (s *Store) applyEvent(ctx context.Context, tx *txn, r Request, e rollout.Event, verb string) (rollout.Status, error) {
	status, err := readStatus(ctx, tx, r.Rollout)
	if err != nil {
		return "", err
	}
	next, ok := rollout.NextStatus(status, e)
	if !ok {
		return status, fleet.Diagnostic{Severity: fleet.SeverityError, Where: "rollout " + r.Rollout,
			Summary: fmt.Sprintf("cannot %s a rollout that is %s", verb, status),
			Remedy:  "See where it stands: imdsctl rollout show " + r.Rollout + "."}
	}
	if e == rollout.Resume {
		if _, err := tx.ExecContext(ctx, sqlForgive, r.Rollout); err != nil {
			return status, err
		}
	}
	move := engine.Move{Status: [2]rollout.Status{status, next}, Event: string(e), Reason: r.Reason, Actor: r.Actor}
	return next, moveStatus(ctx, tx, r.Rollout, move, r.Now)
}

// RequestUndo asks for the rollback of one stack, or of everything with stack "", and gives the status that follows.
//
// For everything, the rollout goes to its way back, and every stack that has one is asked for. One stack of a rollout that
// runs is put back while the others go on; of a paused one, when it is resumed; of one that has halted or ended, at once.
func (s *Store) RequestUndo(ctx context.Context, r Request, stack string) (rollout.Status, error) {
	var status rollout.Status
	err := s.journal(ctx, "ask for a rollback in rollout "+r.Rollout, "control", func(tx *txn) (err error) {
		if err := r.lock(ctx, tx); err != nil {
			return err
		}
		if status, err = readStatus(ctx, tx, r.Rollout); err != nil {
			return err
		}
		stacks, err := undoable(ctx, tx, r.Rollout, stack)
		if err != nil {
			return err
		}
		if stack == "" || status.Final() {
			if status, err = s.applyEvent(ctx, tx, r, rollout.RollbackAsked, "roll back"); err != nil {
				return err
			}
		} else if status == rollout.Planned {
			return fleet.Diagnostic{Severity: fleet.SeverityError, Where: "rollout " + r.Rollout,
				Summary: fmt.Sprintf("cannot roll back a stack of a rollout that is %s", status),
				Remedy:  "There is nothing of it to put back."}
		}
		for _, id := range stacks {
			if err := askUndo(ctx, tx, r, id); err != nil {
				return err
			}
		}
		_, err = tx.ExecContext(ctx, sqlBumpControl, r.Rollout, stamp(r.Now))
		return err
	})
	return status, err
}

// undoable lists the stacks that can be asked for: the one named, which must be, or all that have a way back.
func undoable(ctx context.Context, tx *txn, id, stack string) ([]string, error) {
	var out, all []string
	var refused rollout.StackPhase
	err := query(ctx, tx, sqlStackList, []any{id}, func(rows *sql.Rows) error {
		var st string
		var phase rollout.StackPhase
		if err := rows.Scan(&st, &phase); err != nil {
			return err
		}
		all = append(all, st)
		_, ok := rollout.StackTable()[phase][rollout.StackUndo]
		switch {
		case ok && (stack == "" || st == stack):
			out = append(out, st)
		case st == stack:
			refused = phase
		}
		return nil
	})
	if err != nil || stack == "" || len(out) > 0 {
		return out, err
	}
	if !slices.Contains(all, stack) {
		return nil, fleet.Diagnostic{Severity: fleet.SeverityError, Where: "rollout " + id, Summary: "it has no stack " + stack,
			Remedy: "List its stacks: imdsctl rollout show " + id + "."}
	}
	return nil, fleet.Diagnostic{Severity: fleet.SeverityError, Where: "rollout " + id,
		Summary: fmt.Sprintf("stack %s is %s: there is nothing left to ask for", stack, refused),
		Remedy:  "See where it stands: imdsctl rollout show " + id + "."}
}

func askUndo(ctx context.Context, tx *txn, r Request, stack string) error {
	if _, err := tx.ExecContext(ctx, sqlAddUndo, r.Rollout, stack, r.who()); err != nil {
		return err
	}
	_, place, err := readStack(ctx, tx, r.Rollout, stack)
	if err != nil {
		return err
	}
	return appendEvent(ctx, tx, Event{Rollout: r.Rollout, Chain: place, Name: "undo-asked", Stack: stack, At: r.Now, Actor: r.Actor,
		Reason: r.Reason})
}

// ApproveWave opens a wave of the plan that waits for a person's approval. Approving it again changes nothing.
func (s *Store) ApproveWave(ctx context.Context, r Request, wave string) error {
	return s.journal(ctx, "approve a wave of rollout "+r.Rollout, "control", func(tx *txn) error {
		if err := r.lock(ctx, tx); err != nil {
			return err
		}
		var header []byte
		var digest string
		if err := found(r.Rollout, tx.QueryRowContext(ctx, sqlHeader, r.Rollout).Scan(&header, &digest)); err != nil {
			return err
		}
		if err := hasWave(r.Rollout, header, wave); err != nil {
			return err
		}
		added, err := tx.ExecContext(ctx, sqlAddWave, r.Rollout, wave, r.who())
		if err != nil {
			return err
		}
		if n, err := added.RowsAffected(); err != nil || n == 0 {
			return err
		}
		if _, err := tx.ExecContext(ctx, sqlBumpControl, r.Rollout, stamp(r.Now)); err != nil {
			return err
		}
		return appendEvent(ctx, tx, Event{Rollout: r.Rollout, Name: "approve-wave", At: r.Now, Actor: r.Actor, Reason: r.Reason,
			Detail: map[string]string{"wave": wave, "digest": digest}})
	})
}

// hasWave refuses a wave that the plan does not have, and names those it has.
func hasWave(id string, header []byte, wave string) error {
	var h plan.Header
	if err := json.Unmarshal(header, &h); err != nil {
		return fmt.Errorf("header of the plan: %w", err)
	}
	var names []string
	for _, w := range h.Waves {
		if w.Name == wave {
			return nil
		}
		name := w.Name
		if w.Approval {
			name += " (waits for approval)"
		}
		names = append(names, name)
	}
	return fleet.Diagnostic{Severity: fleet.SeverityError, Where: "rollout " + id, Summary: fmt.Sprintf("its plan has no wave %q", wave),
		Remedy: "Name one of its waves: " + strings.Join(names, ", ") + "."}
}

// CompleteManual records that a person has made a manual change, or (done false) cannot make it.
func (s *Store) CompleteManual(ctx context.Context, r Request, change string, done bool) error {
	return s.journal(ctx, "complete manual change "+change, "control", func(tx *txn) error {
		if err := r.lock(ctx, tx); err != nil {
			return err
		}
		if _, err := readStatus(ctx, tx, r.Rollout); err != nil {
			return err
		}
		var class plan.Class
		var stack, text, action string
		var phase engine.ChangePhase
		err := tx.QueryRowContext(ctx, sqlManual, r.Rollout, change).Scan(&class, &stack, &text, &action, &phase)
		if err != nil && !errors.Is(err, sql.ErrNoRows) {
			return err
		}
		if err != nil || class != plan.ClassManual || phase != engine.ChangePending {
			return notManual(ctx, tx, r.Rollout, change, err == nil, class, phase)
		}
		ref, err := fleet.ParseRef(text)
		if err != nil {
			return err
		}
		to, event := engine.ChangeVerified, "manual-done"
		if !done {
			to, event = engine.ChangeFailed, "manual-failed"
		}
		err = one(tx.ExecContext(ctx, sqlSetState, r.Rollout, change, string(to), 0, "", r.who(), stamp(r.Now)))
		if err != nil {
			return err
		}
		if _, err := tx.ExecContext(ctx, sqlBumpControl, r.Rollout, stamp(r.Now)); err != nil {
			return err
		}
		return appendEvent(ctx, tx, Event{Rollout: r.Rollout, Chain: ref.Place.String(), Name: event, Stack: stack, Change: change,
			At: r.Now, Actor: r.Actor, Reason: r.Reason, Detail: map[string]string{"phase": string(to), "resource": text, "action": action}})
	})
}

// notManual says why a change cannot be completed, and which can.
func notManual(ctx context.Context, tx *txn, id, change string, known bool, class plan.Class, phase engine.ChangePhase) error {
	d := fleet.Diagnostic{Severity: fleet.SeverityError, Where: "rollout " + id, Summary: "it has no change " + change}
	switch {
	case known && class != plan.ClassManual:
		d.Summary = fmt.Sprintf("change %s is not a manual one: imdsctl makes it", change)
	case known:
		d.Summary = fmt.Sprintf("change %s is %s already", change, phase)
	}
	var open []string
	err := query(ctx, tx, sqlManuals, []any{id}, func(rows *sql.Rows) error {
		var c string
		var p engine.ChangePhase
		err := rows.Scan(&c, &p)
		if p == engine.ChangePending {
			open = append(open, c)
		}
		return err
	})
	if err != nil {
		return err
	}
	d.Remedy = "These manual changes wait to be made: " + strings.Join(open, ", ") + "."
	if len(open) == 0 {
		d.Remedy = "No manual change of this rollout waits to be made."
	}
	return d
}

// RolloutSummary is a rollout in numbers.
type RolloutSummary struct {
	ID       string                     `json:"id"`
	Digest   string                     `json:"digest"`
	Status   rollout.Status             `json:"status"`
	Reason   string                     `json:"reason,omitempty"`
	Created  time.Time                  `json:"created"`
	Updated  time.Time                  `json:"updated"`
	Approved string                     `json:"approved_by,omitempty"`
	Stacks   map[rollout.StackPhase]int `json:"stacks"`
	Changes  map[engine.ChangePhase]int `json:"changes"`
}

// List lists the rollouts, the latest first.
func (s *Store) List(ctx context.Context) ([]RolloutSummary, error) {
	var out []RolloutSummary
	err := s.view(ctx, "list rollouts", func(tx *txn) error {
		out = nil
		err := query(ctx, tx, sqlRollouts, nil, func(rows *sql.Rows) error {
			r := RolloutSummary{Stacks: map[rollout.StackPhase]int{}, Changes: map[engine.ChangePhase]int{}}
			var created, updated string
			if err := rows.Scan(&r.ID, &r.Digest, &r.Status, &r.Reason, &created, &updated, &r.Approved); err != nil {
				return err
			}
			var err1, err2 error
			r.Created, err1 = unstamp(created)
			r.Updated, err2 = unstamp(updated)
			out = append(out, r)
			return errors.Join(err1, err2)
		})
		if err != nil {
			return err
		}
		for _, r := range out {
			if err := countPhases(ctx, tx, sqlStackPhases, r.ID, r.Stacks); err != nil {
				return err
			}
			if err := countPhases(ctx, tx, sqlChangePhases, r.ID, r.Changes); err != nil {
				return err
			}
		}
		return nil
	})
	return out, err
}

func countPhases[P ~string](ctx context.Context, tx *txn, statement, id string, into map[P]int) error {
	return query(ctx, tx, statement, []any{id}, func(rows *sql.Rows) error {
		var phase string
		var n int
		err := rows.Scan(&phase, &n)
		into[P(phase)] = n
		return err
	})
}
