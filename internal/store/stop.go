package store

import (
	"context"
	"database/sql"
	"time"

	"github.com/imdsctl/imdsctl/internal/fleet"
	"github.com/imdsctl/imdsctl/internal/rollout"
)

// StopAll keeps every further intent of every rollout from starting, forward and back, those of rollouts that begin later
// included, until AllowAll. When it returns, none starts. Stopping again replaces the name and the reason.
func (s *Store) StopAll(ctx context.Context, actor, reason string, now time.Time) error {
	return s.journal(ctx, "stop everything", "control", func(tx *txn) error {
		if err := tx.alone(ctx); err != nil {
			return err
		}
		who := Request{Actor: actor, Reason: reason}.who()
		if _, err := tx.ExecContext(ctx, sqlStop, who); err != nil {
			return err
		}
		return tellAll(ctx, tx, "stop", actor, reason, now)
	})
}

// AllowAll ends what StopAll began. It is an error where nothing is stopped.
func (s *Store) AllowAll(ctx context.Context, actor, reason string, now time.Time) error {
	return s.journal(ctx, "allow everything again", "control", func(tx *txn) error {
		if err := tx.alone(ctx); err != nil {
			return err
		}
		allowed, err := tx.ExecContext(ctx, sqlAllow)
		if err != nil {
			return err
		}
		if n, err := allowed.RowsAffected(); err != nil {
			return err
		} else if n == 0 {
			return fleet.Diagnostic{Severity: fleet.SeverityError, Where: s.path, Summary: "nothing is stopped",
				Remedy: "See what goes on: imdsctl rollout list."}
		}
		return tellAll(ctx, tx, "allow", actor, reason, now)
	})
}

// Stopped says who stopped everything, and why; "" while nothing is stopped.
func (s *Store) Stopped(ctx context.Context) (who string, err error) {
	err = s.view(ctx, "read whether everything is stopped", func(tx *txn) (err error) {
		who, err = readStop(ctx, tx)
		return err
	})
	return who, err
}

// tellAll writes the event into the chain of every rollout that has not ended, and has all coordinators look.
func tellAll(ctx context.Context, tx *txn, event, actor, reason string, now time.Time) error {
	var unfinished []string
	err := query(ctx, tx, sqlStatuses, nil, func(rows *sql.Rows) error {
		var id string
		var status rollout.Status
		err := rows.Scan(&id, &status)
		if !status.Final() {
			unfinished = append(unfinished, id)
		}
		return err
	})
	if err != nil {
		return err
	}
	if _, err := tx.ExecContext(ctx, sqlBumpAll); err != nil {
		return err
	}
	for _, id := range unfinished {
		if err := appendEvent(ctx, tx, Event{Rollout: id, Name: event, At: now, Actor: actor, Reason: reason}); err != nil {
			return err
		}
	}
	return nil
}
