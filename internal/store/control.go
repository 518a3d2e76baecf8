package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/imdsctl/imdsctl/internal/engine"
	"github.com/imdsctl/imdsctl/internal/fleet"
	"github.com/imdsctl/imdsctl/internal/rollout"
)

// Control implements engine.Journal.
func (s *Store) Control(ctx context.Context, id string) (engine.Control, error) {
	var c engine.Control
	err := s.view(ctx, "read control of rollout "+id, func(tx *sql.Tx) error {
		var digest, created, updated, approved string
		err := found(id, tx.QueryRowContext(ctx, sqlRollout, id).Scan(&digest, &c.Status, &c.Reason, &created, &updated, &approved,
			&c.FailuresForgiven, &c.Version))
		if err != nil {
			return err
		}
		c.Undo, err = readUndos(ctx, tx, id)
		return err
	})
	return c, err
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
	err := s.journal(ctx, verb+" rollout "+r.Rollout, "control", func(tx *sql.Tx) (err error) {
		next, err = s.applyEvent(ctx, tx, r, e, verb)
		return err
	})
	return next, err
}

// applyEvent takes the rollout's machine one event further, on a person's word.
func (s *Store) applyEvent(ctx context.Context, tx *sql.Tx, r Request, e rollout.Event, verb string) (rollout.Status, error) {
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
	err := s.journal(ctx, "ask for a rollback in rollout "+r.Rollout, "control", func(tx *sql.Tx) (err error) {
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
func undoable(ctx context.Context, tx *sql.Tx, id, stack string) ([]string, error) {
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

func askUndo(ctx context.Context, tx *sql.Tx, r Request, stack string) error {
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
	err := s.view(ctx, "list rollouts", func(tx *sql.Tx) error {
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

func countPhases[P ~string](ctx context.Context, tx *sql.Tx, statement, id string, into map[P]int) error {
	return query(ctx, tx, statement, []any{id}, func(rows *sql.Rows) error {
		var phase string
		var n int
		err := rows.Scan(&phase, &n)
		into[P(phase)] = n
		return err
	})
}
