package store

import (
	"context"
	"errors"
	"strconv"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// borrowed is the store's own transaction, lent as pgx knows one. Whoever borrows it cannot end it: what it begins within is
// a savepoint.
type borrowed struct {
	conn  *pgx.Conn
	depth int // of savepoints; 0 is the transaction itself
	ended bool
}

var _ pgx.Tx = (*borrowed)(nil)

var errLent = errors.New("the transaction is lent: it is ended by whoever began it")

func (b *borrowed) savepoint() string { return "imdsctl_" + strconv.Itoa(b.depth) }

// Begin implements pgx.Tx.
func (b *borrowed) Begin(ctx context.Context) (pgx.Tx, error) {
	inner := &borrowed{conn: b.conn, depth: b.depth + 1}
	if _, err := b.conn.Exec(ctx, "SAVEPOINT "+inner.savepoint()); err != nil {
		return nil, err
	}
	return inner, nil
}

// Commit implements pgx.Tx.
func (b *borrowed) Commit(ctx context.Context) error { return b.end(ctx, "RELEASE SAVEPOINT ") }

// Rollback implements pgx.Tx.
func (b *borrowed) Rollback(ctx context.Context) error { return b.end(ctx, "ROLLBACK TO SAVEPOINT ") }

func (b *borrowed) end(ctx context.Context, how string) error {
	switch {
	case b.depth == 0:
		return errLent
	case b.ended:
		return pgx.ErrTxClosed
	}
	b.ended = true
	_, err := b.conn.Exec(ctx, how+b.savepoint())
	return err
}

// CopyFrom implements pgx.Tx.
func (b *borrowed) CopyFrom(ctx context.Context, table pgx.Identifier, columns []string, rows pgx.CopyFromSource) (int64, error) {
	return b.conn.CopyFrom(ctx, table, columns, rows)
}

// SendBatch implements pgx.Tx.
func (b *borrowed) SendBatch(ctx context.Context, batch *pgx.Batch) pgx.BatchResults {
	return b.conn.SendBatch(ctx, batch)
}

// LargeObjects implements pgx.Tx. There are none.
func (b *borrowed) LargeObjects() pgx.LargeObjects { return pgx.LargeObjects{} }

// Prepare implements pgx.Tx.
func (b *borrowed) Prepare(ctx context.Context, name, statement string) (*pgconn.StatementDescription, error) {
	return b.conn.Prepare(ctx, name, statement)
}

// Exec implements pgx.Tx.
func (b *borrowed) Exec(ctx context.Context, statement string, args ...any) (pgconn.CommandTag, error) {
	return b.conn.Exec(ctx, statement, args...)
}

// Query implements pgx.Tx.
func (b *borrowed) Query(ctx context.Context, statement string, args ...any) (pgx.Rows, error) {
	return b.conn.Query(ctx, statement, args...)
}

// QueryRow implements pgx.Tx.
func (b *borrowed) QueryRow(ctx context.Context, statement string, args ...any) pgx.Row {
	return b.conn.QueryRow(ctx, statement, args...)
}

// Conn implements pgx.Tx.
func (b *borrowed) Conn() *pgx.Conn { return b.conn }
