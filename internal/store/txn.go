package store

import (
	"context"
	"database/sql"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/jackc/pgx/v5"
)

// txn is one transaction on either engine. Statements are those of queries.go; what the engines do not share, locks and the
// numbering of lists, is here.
type txn struct {
	tx *sql.Tx
	pg *postgres // nil on SQLite

	// ctx bounds the attempt on PostgreSQL; it ends with the caller's.
	ctx context.Context
	// conn is PostgreSQL's connection, with the transaction open on it.
	conn *pgx.Conn
	// counted: the transaction holds the lock of those who write events.
	counted bool
}

func (t *txn) context(ctx context.Context) context.Context {
	if t.ctx != nil {
		return t.ctx
	}
	return ctx
}

// ExecContext runs a statement of queries.go.
func (t *txn) ExecContext(ctx context.Context, statement string, args ...any) (sql.Result, error) {
	return t.tx.ExecContext(t.context(ctx), t.speak(statement), t.clean(args)...)
}

// QueryContext runs a query of queries.go.
func (t *txn) QueryContext(ctx context.Context, statement string, args ...any) (*sql.Rows, error) {
	return t.tx.QueryContext(t.context(ctx), t.speak(statement), t.clean(args)...)
}

// QueryRowContext runs a query of queries.go for one row.
func (t *txn) QueryRowContext(ctx context.Context, statement string, args ...any) *sql.Row {
	return t.tx.QueryRowContext(t.context(ctx), t.speak(statement), t.clean(args)...)
}

// PrepareContext prepares a statement of queries.go.
func (t *txn) PrepareContext(ctx context.Context, statement string) (*sql.Stmt, error) {
	return t.tx.PrepareContext(t.context(ctx), t.speak(statement))
}

// speak puts a statement into the engine's words.
func (t *txn) speak(statement string) string {
	if t.pg == nil || !strings.Contains(statement, "?") {
		return statement
	}
	return t.pg.numbered(statement)
}

// forUpdate is appended to the query of a row that nobody else may lock until the transaction ends. SQLite has one writer,
// and nothing to lock.
func (t *txn) forUpdate() string {
	if t.pg == nil {
		return ""
	}
	// Not FOR UPDATE, which would stand in the way of foreign keys.
	return " FOR NO KEY UPDATE"
}

// lockRollout makes the transaction the only one that admits, moves or controls the rollout. Locks are always taken in this
// order: single, the right to write events, the rollout, a lease, the head of a chain.
func (t *txn) lockRollout(ctx context.Context, id string) error {
	if t.pg == nil {
		return nil
	}
	_, err := t.ExecContext(ctx, sqlLockRollout+t.forUpdate(), id)
	return err
}

// Keys of PostgreSQL's advisory locks, which a database has for itself.
const (
	// lockSingle is held through transactions that must be alone among their like, as all are on SQLite.
	lockSingle = 0x494D4453_0001
	// lockEvents is shared by those who write events, and taken alone by who must know that no event with a lower number is
	// still to come, or that no intent is being admitted.
	lockEvents = 0x494D4453_0002
	// lockSchema is held while tables are made.
	lockSchema = 0x494D4453_0003
)

// single makes the transaction wait for all others of its kind.
func (t *txn) single(ctx context.Context) error {
	if t.pg == nil {
		return nil
	}
	_, err := t.ExecContext(ctx, pgLock, int64(lockSingle))
	return err
}

// writesEvents announces that the transaction will number events. It comes before any other lock.
func (t *txn) writesEvents(ctx context.Context) error {
	if t.pg == nil || t.counted {
		return nil
	}
	t.counted = true
	_, err := t.ExecContext(ctx, pgLockShared, int64(lockEvents))
	return err
}

// alone waits until no other transaction writes events or admits anything, and keeps it so.
func (t *txn) alone(ctx context.Context) error {
	if t.pg == nil {
		return nil
	}
	t.counted = true
	_, err := t.ExecContext(ctx, pgLock, int64(lockEvents))
	return err
}

// clean replaces what PostgreSQL cannot store in text: NUL, and bytes that are no UTF-8.
func (t *txn) clean(args []any) []any {
	if t.pg == nil {
		return args
	}
	for i, a := range args {
		if s, ok := a.(string); ok {
			args[i] = words(s)
		}
	}
	return args
}

// words replaces NUL and every byte that is no UTF-8 by U+FFFD, as JSON does with the latter.
func words(s string) string {
	if utf8.ValidString(s) && strings.IndexByte(s, 0) < 0 {
		return s
	}
	var b strings.Builder
	for _, r := range s {
		if r == 0 {
			r = utf8.RuneError
		}
		b.WriteRune(r)
	}
	return b.String()
}

// numbered gives the statement with every ? numbered, on from the highest $n in it.
func (p *postgres) numbered(statement string) string {
	if have, ok := p.spoken.Load(statement); ok {
		return have.(string)
	}
	out := number(statement)
	p.spoken.Store(statement, out)
	return out
}

func number(statement string) string {
	next := 0
	for i := 0; i < len(statement); i++ {
		if statement[i] != '$' {
			continue
		}
		end := i + 1
		for end < len(statement) && statement[end] >= '0' && statement[end] <= '9' {
			end++
		}
		if n, err := strconv.Atoi(statement[i+1 : end]); err == nil {
			next = max(next, n)
		}
	}
	var b strings.Builder
	for i := range len(statement) {
		if statement[i] != '?' {
			b.WriteByte(statement[i])
			continue
		}
		next++
		b.WriteByte('$')
		b.WriteString(strconv.Itoa(next))
	}
	return b.String()
}
