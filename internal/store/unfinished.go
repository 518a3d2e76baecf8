package store

import (
	"context"
	"database/sql"

	"github.com/imdsctl/imdsctl/internal/rollout"
)

// Unfinished lists the rollouts that go on by themselves, or would but for a pause: those that need a coordinator.
func (s *Store) Unfinished(ctx context.Context) ([]string, error) {
	var out []string
	err := s.view(ctx, "look for rollouts", func(tx *txn) error {
		out = nil
		return query(ctx, tx, sqlRolloutStatuses, nil, func(rows *sql.Rows) error {
			var id string
			var status rollout.Status
			if err := rows.Scan(&id, &status); err != nil {
				return err
			}
			if !status.Final() && status != rollout.Planned {
				out = append(out, id)
			}
			return nil
		})
	})
	return out, err
}

const sqlRolloutStatuses = `SELECT id, status FROM rollout ORDER BY created, id`

// Redacted is the address of a PostgreSQL database as it may be shown: without password.
func Redacted(address string) string { return redacted(address) }
