package store

import (
	"context"
	"database/sql"
	"time"
)

// Sent is one item that somebody was told of.
type Sent struct {
	// Item is the item's id, and Digest that of what it said.
	Item   string `json:"item"`
	Digest string `json:"digest"`
	// Owner was told, at the place that Target names without its secrets.
	Owner  string    `json:"owner"`
	Target string    `json:"target"`
	At     time.Time `json:"at"`
}

// Statements about what was sent.
const (
	sqlPutSent = `INSERT INTO attention_sent (item, target, at, owner, digest) VALUES `
	sqlSaid    = ` ON CONFLICT (item, target, at) DO UPDATE SET owner = excluded.owner, digest = excluded.digest`
	sqlSent    = `SELECT item, target, at, owner, digest FROM attention_sent WHERE at >= $1 ORDER BY at, target, item`
)

// PutSent records what was sent, in one transaction. Of one item, target and time there may be one only.
func (s *Store) PutSent(ctx context.Context, sent []Sent) error {
	return s.update(ctx, "record what was sent", func(tx *txn) error {
		for start := 0; start < len(sent); start += batch {
			part := sent[start:min(start+batch, len(sent))]
			args := make([]any, 0, 5*len(part))
			for _, one := range part {
				args = append(args, one.Item, one.Target, milliseconds(one.At), one.Owner, one.Digest)
			}
			if _, err := tx.ExecContext(ctx, sqlPutSent+tuples(len(part), 5)+sqlSaid, args...); err != nil {
				return err
			}
		}
		return nil
	})
}

// SentSince lists what was sent at a time or later, the earliest first.
func (s *Store) SentSince(ctx context.Context, since time.Time) ([]Sent, error) {
	var out []Sent
	err := s.view(ctx, "read what was sent", func(tx *txn) error {
		out = nil
		return query(ctx, tx, sqlSent, []any{milliseconds(since)}, func(rows *sql.Rows) error {
			var one Sent
			var at int64
			if err := rows.Scan(&one.Item, &one.Target, &at, &one.Owner, &one.Digest); err != nil {
				return err
			}
			one.At = fromMilliseconds(at)
			out = append(out, one)
			return nil
		})
	})
	return out, err
}
