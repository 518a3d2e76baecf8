package store

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"net"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/pressly/goose/v3"
	"github.com/riverqueue/river/riverdriver/riverpgxv5"
	"github.com/riverqueue/river/rivermigrate"

	"github.com/imdsctl/imdsctl/internal/fleet"
)

// postgres is what a store on PostgreSQL has besides.
type postgres struct {
	pool     *pgxpool.Pool
	patience time.Duration
	marks    marks
	spoken   sync.Map   // statements with ? → with $n
	writing  sync.Mutex // held by the one update of this process: the database has one at a time in any case
}

const (
	// connections is how many a process has at most, where the URL does not say (pool_max_conns).
	connections = 16
	// idleTransaction is after how long PostgreSQL ends a transaction whose process has been stopped, and its locks with it.
	idleTransaction = 5 * time.Second
	// lockPatience is how long a statement waits for a lock, where Options.BusyTimeout does not say. It outlasts
	// idleTransaction.
	lockPatience = 30 * time.Second
	// reconnect is how long a lost connection is tried again, where Options.Patience does not say.
	reconnect = time.Minute
	// greeting is how long the first connection is tried.
	greeting = 5 * time.Second
	// attemptTime bounds one attempt at a transaction: a connection that died without a word is given up then.
	attemptTime = 2 * time.Minute
	// commitTime bounds a commit, which does not end with the caller's context: its outcome is to be known.
	commitTime = 30 * time.Second
	// schemaTable is where goose keeps the version of the tables.
	schemaTable = "imdsctl_schema"
)

// IsPostgres tells whether a database's name is that of a PostgreSQL database, rather than a file.
func IsPostgres(database string) bool {
	return strings.HasPrefix(database, "postgres://") || strings.HasPrefix(database, "postgresql://")
}

// OpenPostgres opens a PostgreSQL database, or starts a new one in it: an empty schema, made with River's tables beside the
// store's own. url is "postgres://user@host:5432/database"; all that libpq knows may be set in it and in the environment. An
// error is a fleet.Diagnostic; the password is in none.
func OpenPostgres(ctx context.Context, url string, o Options) (*Store, error) {
	s := newStore(redacted(url), o)
	config, err := pgxpool.ParseConfig(url)
	if err != nil { // which quotes the URL, and with a misplaced character the password
		return nil, fleet.Diagnostic{Severity: fleet.SeverityError, Where: "--db",
			Summary: "the address of the database is no PostgreSQL URL, or a parameter in it is unknown",
			Remedy:  "Write it as postgres://user@host:5432/database, with characters such as @ and / in a password as %40 and %2F."}
	}
	if !strings.Contains(url, "pool_max_conns") {
		config.MaxConns = connections
	}
	if config.ConnConfig.RuntimeParams["application_name"] == "" {
		config.ConnConfig.RuntimeParams["application_name"] = "imdsctl"
	}
	config.ConnConfig.DialFunc = (&net.Dialer{KeepAliveConfig: net.KeepAliveConfig{Enable: true, Idle: 15 * time.Second,
		Interval: 5 * time.Second, Count: 3}}).DialContext
	busy := lockPatience
	if o.BusyTimeout > 0 {
		busy = o.BusyTimeout
	}
	config.AfterConnect = func(ctx context.Context, conn *pgx.Conn) error { return prepareSession(ctx, conn, busy) }
	later := o.Patience
	if later == 0 {
		later = reconnect
	}
	// A server that is not there at first has a wrong address more often than a bad moment.
	s.pg = &postgres{patience: min(later, greeting), marks: marks{process: nonce()}}
	if s.pg.pool, err = pgxpool.NewWithConfig(ctx, config); err != nil {
		return nil, s.failure("open", err)
	}
	db := stdlib.OpenDBFromPool(s.pg.pool)
	s.write, s.read = db, db
	if err := s.migratePostgres(ctx); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	s.pg.patience = later
	return s, nil
}

// redacted is a URL that may be shown: without password and parameters.
func redacted(text string) string {
	u, err := url.Parse(text)
	if err != nil || u.Host == "" {
		return "the PostgreSQL database"
	}
	out := url.URL{Scheme: u.Scheme, Host: u.Host, Path: u.Path}
	if name := u.User.Username(); name != "" {
		out.User = url.User(name)
	}
	return out.String()
}

// prepareSession sets what the store rests on, whatever the server's defaults are: a transaction that hangs ends by itself, a
// lock is not waited for without end, and a commit is on disk when it returns.
func prepareSession(ctx context.Context, conn *pgx.Conn, busy time.Duration) error {
	milliseconds := func(d time.Duration) string { return strconv.FormatInt(d.Milliseconds(), 10) }
	if _, err := conn.Exec(ctx, pgSessions, milliseconds(idleTransaction), milliseconds(busy)); err != nil {
		return err
	}
	_, err := conn.Exec(ctx, pgDurable)
	return err
}

// Pool is the pool of connections, for those who put more into the database, such as River; nil on SQLite. It ends with the
// store.
func (s *Store) Pool() *pgxpool.Pool {
	if s.pg == nil {
		return nil
	}
	return s.pg.pool
}

func (s *Store) closePostgres() error {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	if _, err := s.write.ExecContext(ctx, pgUnmark, s.pg.marks.process); err != nil {
		s.log.Debug("this process's commit marks stay for a week", "error", err)
	}
	err := s.write.Close()
	s.pg.pool.Close()
	return err
}

// migratePostgres brings the schema to this binary's. Of several processes that start at once one does it, the others wait.
func (s *Store) migratePostgres(ctx context.Context) error {
	return s.failure("prepare the tables of", s.pg.retry(ctx, func() error {
		conn, err := s.pg.pool.Acquire(ctx)
		if err != nil {
			return err
		}
		defer conn.Release()
		if _, err := conn.Exec(ctx, pgMakeOrder, int64(lockSchema)); err != nil {
			return err
		}
		defer func() {
			if _, err := conn.Exec(context.WithoutCancel(ctx), pgMadeOrder, int64(lockSchema)); err != nil {
				s.log.Debug("the lock ends with the connection", "error", err)
			}
		}()
		return s.makeTables(ctx)
	}))
}

func (s *Store) makeTables(ctx context.Context) error {
	var ours, tables int
	err := s.write.QueryRowContext(ctx, pgOurs, schemaTable).Scan(&ours)
	if err == nil {
		err = s.write.QueryRowContext(ctx, pgTables).Scan(&tables)
	}
	if err != nil {
		return err
	}
	if ours == 0 && tables > 0 {
		return fleet.Diagnostic{Severity: fleet.SeverityError, Where: s.path,
			Summary: fmt.Sprintf("there are %d tables of another program in this database", tables),
			Remedy:  "Give imdsctl a database of its own, or a schema of its own with ?search_path=imdsctl in the URL."}
	}
	files, err := fs.Sub(migrations, "migrations/postgres")
	if err != nil {
		return fmt.Errorf("read migrations: %w", err)
	}
	provider, err := goose.NewProvider(goose.DialectPostgres, s.write, files, goose.WithTableName(schemaTable))
	if err != nil {
		return fmt.Errorf("read migrations: %w", err)
	}
	if err := s.bringUp(ctx, provider); err != nil {
		return err
	}
	river, err := rivermigrate.New(riverpgxv5.New(s.pg.pool), &rivermigrate.Config{Logger: s.log})
	if err != nil {
		return fmt.Errorf("read River's migrations: %w", err)
	}
	if _, err := river.Migrate(ctx, rivermigrate.DirectionUp, nil); err != nil {
		return fmt.Errorf("make River's tables: %w", err)
	}
	_, err = s.write.ExecContext(ctx, pgOldMarks)
	return err
}

// marks numbers the transactions of a process, so that a second attempt at one whose commit was not answered knows whether
// the first was committed. A mark is the row of one transaction at a time.
type marks struct {
	process string
	mu      sync.Mutex
	made    int
	free    []mark
}

type mark struct {
	writer string
	n      int64
}

// take gives a mark with a number that it never had.
func (m *marks) take() mark {
	m.mu.Lock()
	defer m.mu.Unlock()
	if last := len(m.free) - 1; last >= 0 {
		out := m.free[last]
		m.free = m.free[:last]
		out.n++
		return out
	}
	m.made++
	return mark{writer: m.process + "/" + strconv.Itoa(m.made), n: 1}
}

// giveBack lets the mark be used again. One whose last transaction may still be under way is never given back.
func (m *marks) giveBack(k mark) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.free = append(m.free, k)
}

// commitPostgres carries a transaction to a known end: committed once, or not at all. It is tried again where it was lost to a
// deadlock or with the connection.
//
// Each transaction first writes its number into its mark. When a commit is not answered, the next attempt finds the number
// there if it was committed after all, waiting for the first attempt where that is still under way, and what fn gathered then
// is the result. Otherwise fn runs again.
func (s *Store) commitPostgres(ctx context.Context, point string, fn func(tx *txn) error) error {
	k := s.pg.marks.take()
	err := s.pg.retry(ctx, func() error { return s.attempt(ctx, k, point, fn) })
	if err == nil || !uncertain(err) {
		s.pg.marks.giveBack(k)
	}
	return err
}

// attempt is one try at a transaction.
func (s *Store) attempt(ctx context.Context, k mark, point string, fn func(tx *txn) error) error {
	// The transaction outlives the caller's context, lest the commit end with it half-way. Statements do not.
	whole, cancel := context.WithTimeout(context.WithoutCancel(ctx), attemptTime+commitTime)
	defer cancel()
	statements, cancel := context.WithTimeout(ctx, attemptTime)
	defer cancel()
	conn, err := s.write.Conn(statements)
	if err != nil {
		return err
	}
	defer conn.Close()
	tx, err := conn.BeginTx(whole, nil)
	if err != nil {
		return err
	}
	t := &txn{tx: tx, pg: s.pg, ctx: statements}
	if t.conn, err = bare(conn); err != nil {
		return errors.Join(err, tx.Rollback())
	}
	marked, err := t.ExecContext(ctx, pgMark, k.writer, k.n)
	if err == nil {
		var n int64
		if n, err = marked.RowsAffected(); err == nil && n == 0 {
			_ = tx.Rollback() // nothing was done in it
			return nil
		}
	}
	if err == nil {
		err = fn(t)
	}
	if err != nil {
		if rollback := tx.Rollback(); rollback != nil && !errors.Is(rollback, sql.ErrTxDone) {
			s.log.Debug("rollback failed; the server rolls back what has no connection", "error", rollback)
		}
		return err
	}
	return s.commit(ctx, tx, point)
}

func (s *Store) commit(ctx context.Context, tx *sql.Tx, point string) error {
	if point != "" {
		s.boundary(point + ":before-commit")
	}
	if err := ctx.Err(); err != nil {
		return errors.Join(err, tx.Rollback())
	}
	if err := tx.Commit(); err != nil {
		return unanswered{err}
	}
	if point != "" {
		s.boundary(point + ":after-commit")
	}
	return nil
}

// unanswered is a commit that failed: it may have been carried out all the same.
type unanswered struct{ error }

func (u unanswered) Unwrap() error { return u.error }

// uncertain tells whether the transaction that failed so may still come to be.
func uncertain(err error) bool {
	_, ok := errors.AsType[unanswered](err)
	return ok
}

// bare is PostgreSQL's connection below one of database/sql.
func bare(conn *sql.Conn) (out *pgx.Conn, err error) {
	err = conn.Raw(func(c any) error {
		std, ok := c.(*stdlib.Conn)
		if !ok {
			return fmt.Errorf("the connection is a %T", c)
		}
		out = std.Conn()
		return nil
	})
	return out, err
}

// viewPostgres is view: one snapshot, read as often as it takes.
func (s *Store) viewPostgres(ctx context.Context, fn func(tx *txn) error) error {
	return s.pg.retry(ctx, func() error {
		ctx, cancel := context.WithTimeout(ctx, attemptTime)
		defer cancel()
		tx, err := s.read.BeginTx(ctx, &sql.TxOptions{Isolation: sql.LevelRepeatableRead, ReadOnly: true})
		if err != nil {
			return err
		}
		err = fn(&txn{tx: tx, pg: s.pg, ctx: ctx})
		_ = tx.Rollback() // nothing was written, and a connection that is lost by now has said all it was asked
		return err
	})
}

// streamPostgres is stream: what has been read once is not read again, and whoever takes it may take long.
func (s *Store) streamPostgres(ctx context.Context, fn func(tx *txn) error) error {
	var tx *sql.Tx
	err := s.pg.retry(ctx, func() (err error) {
		if tx, err = s.read.BeginTx(ctx, &sql.TxOptions{Isolation: sql.LevelRepeatableRead, ReadOnly: true}); err != nil {
			return err
		}
		if _, err = tx.ExecContext(ctx, pgPatient); err != nil {
			_ = tx.Rollback() // the connection is of no use any more
		}
		return err
	})
	if err != nil {
		return err
	}
	err = fn(&txn{tx: tx, pg: s.pg})
	_ = tx.Rollback() // as in viewPostgres
	return err
}

// retry tries again what was lost to a deadlock or with a connection, for as long as the store is patient.
func (p *postgres) retry(ctx context.Context, try func() error) error {
	began := time.Now()
	pause := 20 * time.Millisecond
	for {
		err := try()
		cause := classify(ctx, err)
		if cause == lasting || time.Since(began) > p.patience {
			return err
		}
		if cause == disconnected {
			p.pool.Reset() // after a restart the other idle connections are dead too
		}
		select {
		case <-ctx.Done():
			return errors.Join(ctx.Err(), err)
		case <-time.After(pause/2 + rand.N(pause)):
		}
		pause = min(2*pause, 2*time.Second)
	}
}

// cause is what may be done about an error.
type cause int

const (
	lasting      cause = iota // nothing; or there is none
	contended                 // try again: another transaction was in the way
	disconnected              // try again on another connection
)

// classify tells what may be done about an error. See https://www.postgresql.org/docs/current/errcodes-appendix.html.
func classify(ctx context.Context, err error) cause {
	if err == nil || ctx.Err() != nil {
		return lasting
	}
	if broken, ok := errors.AsType[*pgconn.PgError](err); ok {
		switch {
		case broken.Code == "40001", broken.Code == "40P01", broken.Code == "55P03": // serialization, deadlock, lock timeout
			return contended
		case strings.HasPrefix(broken.Code, "08"), // connection exceptions
			broken.Code == "57P01", broken.Code == "57P02", broken.Code == "57P03", broken.Code == "57P05", // shutdown, start-up, idle
			broken.Code == "25P03", // the transaction was idle for too long: this process was stopped
			broken.Code == "25006", // read-only: a standby, until it has taken over
			broken.Code == "53300": // too many connections
			return disconnected
		}
		return lasting
	}
	if _, ok := errors.AsType[net.Error](err); ok {
		return disconnected
	}
	if errors.Is(err, driver.ErrBadConn) || errors.Is(err, sql.ErrConnDone) || errors.Is(err, sql.ErrTxDone) || errors.Is(err, io.EOF) ||
		errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, net.ErrClosed) || errors.Is(err, context.DeadlineExceeded) ||
		pgconn.SafeToRetry(err) || strings.Contains(err.Error(), "conn closed") {
		return disconnected
	}
	if _, ok := errors.AsType[*pgconn.ConnectError](err); ok {
		return disconnected
	}
	if _, ok := errors.AsType[unanswered](err); ok {
		return disconnected
	}
	return lasting
}

// failurePostgres turns what PostgreSQL says into what a person can act on.
func (s *Store) failurePostgres(what string, err error) error {
	if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return fmt.Errorf("%s %s: %w", what, s.path, err)
	}
	if _, ok := errors.AsType[fleet.Diagnostic](err); ok {
		return err
	}
	d := fleet.Diagnostic{Severity: fleet.SeverityError, Where: s.path}
	broken, said := errors.AsType[*pgconn.PgError](err)
	switch {
	case said && (strings.HasPrefix(broken.Code, "28") || broken.Code == "3D000" || broken.Code == "42501"):
		d.Summary = "PostgreSQL refuses: " + broken.Message
		d.Remedy = "Check the user, the password (PGPASSWORD or ~/.pgpass) and the database in the URL, and that the user may make " +
			"tables in it."
	case said && broken.Code == "55P03":
		d.Summary = "another process holds what is to be written, and did not let go in time"
		d.Remedy = "Look at pg_stat_activity for a session that keeps a transaction open, and run the command again."
	case said && strings.HasPrefix(broken.Code, "53"):
		d.Summary = "PostgreSQL lacks room: " + broken.Message + ". Nothing of this step was stored"
		d.Remedy = "Make room (disk, memory or connections) and run the command again: it goes on from what was stored before."
	case said && (broken.Code == "XX001" || broken.Code == "XX002"):
		d.Summary = "the database is damaged: " + broken.Message
		d.Remedy = "Restore a copy."
	case said && broken.Code == "25006":
		d.Summary = "this PostgreSQL takes no writes: it is a standby, or set to be read-only"
		d.Remedy = "Name the primary in the URL, or all servers with target_session_attrs=read-write."
	case classify(context.Background(), err) == disconnected:
		d.Summary = "the connection to PostgreSQL was lost, or could not be made: " + err.Error()
		d.Remedy = "Check that the server runs and can be reached, and run the command again: it goes on from what was stored before."
	default:
		return fmt.Errorf("%s: %w", what, err)
	}
	return failed{d, what, err}
}
