// Package store keeps what must outlive the process: what scans found, what was planned and approved, and the journal of
// what was done. It is SQL: in one SQLite file by default, in PostgreSQL where several machines work together.
//
// It owns tables, transactions and durability. It judges nothing and calls nothing: which phase follows which is rollout's,
// what a plan holds is plan's; times are arguments. Every exported method that writes is one transaction, on disk before it
// returns, so that a process killed anywhere leaves either all of it or nothing. Statements are in queries.go, in the SQL
// that SQLite and PostgreSQL share; what the two do not share is in txn.go and postgres.go.
package store

import (
	"context"
	"crypto/rand"
	"database/sql"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/pressly/goose/v3"
	_ "modernc.org/sqlite" // the driver "sqlite"

	"github.com/imdsctl/imdsctl/internal/engine"
	"github.com/imdsctl/imdsctl/internal/fleet"
)

// Options adjust a store. The zero value is what commands use.
type Options struct {
	// Logger hears of what is odd and harmless, such as a file that others may read. nil discards.
	Logger *slog.Logger
	// BusyTimeout is how long a write waits for another process's transaction; 0 means ten seconds on SQLite, and thirty on
	// PostgreSQL.
	BusyTimeout time.Duration
	// Patience is how long a lost connection to PostgreSQL is tried again; 0 means a minute.
	Patience time.Duration
	// Dispatch, if set, has somebody come to work on orders in the places, as part of the transaction that posts them: what it
	// writes through tx is committed with it, or not at all. It must neither commit nor roll back, and may be called again
	// where the transaction is tried again. Only a store on PostgreSQL calls it.
	Dispatch func(ctx context.Context, tx pgx.Tx, places []fleet.Place) error
	// MaxPages bounds SQLite's file, in pages of 4 KiB; 0 is no bound. Tests fill a disk with it.
	MaxPages int
	// Boundary, if set, is called right before and right after each commit of the journal with a name such as
	// "admit:before-commit". Tests kill the process in it.
	Boundary func(point string)
}

// Store is an open database. It is safe for many goroutines.
type Store struct {
	path     string
	log      *slog.Logger
	boundary func(string)
	write    *sql.DB // of SQLite, one connection: it has one writer
	read     *sql.DB
	docs     *documentCache
	pg       *postgres // nil on SQLite
	call     func(ctx context.Context, tx pgx.Tx, places []fleet.Place) error

	mu      sync.Mutex
	process string // the nonce of the process lock; "" without it
}

var _ engine.Journal = (*Store)(nil)

// Times in text sort as they pass.
const timeLayout = "2006-01-02T15:04:05.000000000Z"

// applicationID marks the file as imdsctl's own ("IMDS"), so that somebody else's database is never written to.
const applicationID = 0x494D4453

const (
	readers = 4
	// writerCache and readerCache bound SQLite's page caches, in KiB.
	writerCache = 16 << 10
	readerCache = 4 << 10
)

//go:embed migrations/*/*.sql
var migrations embed.FS

// Open opens the database at path, or starts a new one there, readable by its owner alone. The directory must exist. An
// error is a fleet.Diagnostic that says what is wrong with the file and what to do.
func Open(path string, o Options) (*Store, error) {
	ctx := context.Background()
	s := newStore(path, o)
	if err := s.prepareFile(); err != nil {
		return nil, err
	}
	var err error
	if s.write, err = sql.Open("sqlite", dataSource(path, o, true)); err != nil {
		return nil, s.failure("open", err)
	}
	if s.read, err = sql.Open("sqlite", dataSource(path, o, false)); err != nil {
		return nil, errors.Join(s.failure("open", err), s.write.Close())
	}
	s.write.SetMaxOpenConns(1)
	s.read.SetMaxOpenConns(readers)
	s.read.SetMaxIdleConns(readers)
	if err := s.migrate(ctx); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return s, nil
}

func newStore(path string, o Options) *Store {
	s := &Store{path: path, log: o.Logger, boundary: o.Boundary, docs: newDocumentCache(), call: o.Dispatch}
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	if s.boundary == nil {
		s.boundary = func(string) {}
	}
	return s
}

// Path is the file the store was opened from, or PostgreSQL's URL without its password and parameters.
func (s *Store) Path() string { return s.path }

// Now is the time of the clock by which the database's users go: that of PostgreSQL's machine, whatever their own clocks
// say; with SQLite that of this machine.
func (s *Store) Now(ctx context.Context) (time.Time, error) {
	if s.pg == nil {
		return time.Now().UTC(), nil
	}
	var now time.Time
	err := s.view(ctx, "read the time", func(tx *txn) error { return tx.QueryRowContext(ctx, pgNow).Scan(&now) })
	return now.UTC(), err
}

// Close gives the connections back. A store is closed once.
func (s *Store) Close() error {
	if s.pg != nil {
		return s.closePostgres()
	}
	return errors.Join(s.read.Close(), s.write.Close())
}

// Check reads the whole file and reports damage (on PostgreSQL that is the server's to find), and then the first broken link
// of the journal's hash chains. It takes time in proportion to the file.
func (s *Store) Check(ctx context.Context) error {
	if s.pg == nil {
		var result string
		if err := s.read.QueryRowContext(ctx, `PRAGMA quick_check(1)`).Scan(&result); err != nil {
			return s.failure("check", err)
		}
		if result != "ok" {
			return s.damaged(result)
		}
	}
	_, broken, err := s.VerifyChain(ctx, "")
	if err != nil {
		return err
	}
	if broken != nil {
		return fleet.Diagnostic{Severity: fleet.SeverityError, Where: s.path, Summary: broken.String(),
			Remedy: "Somebody wrote to the journal besides imdsctl. Keep the database as it is, and compare it with a copy or with the " +
				"events exported earlier."}
	}
	return nil
}

// Size is the number of bytes the database takes, free pages included, without the write-ahead log.
func (s *Store) Size(ctx context.Context) (int64, error) {
	var pages, size int64
	if s.pg != nil {
		err := s.view(ctx, "measure", func(tx *txn) error { return tx.QueryRowContext(ctx, pgSize).Scan(&size) })
		return size, err
	}
	err := s.read.QueryRowContext(ctx, `SELECT c.page_count, s.page_size FROM pragma_page_count() c, pragma_page_size() s`).
		Scan(&pages, &size)
	if err != nil {
		return 0, s.failure("measure", err)
	}
	return pages * size, nil
}

// dataSource writes SQLite's URI of the file with the settings of one kind of connection. Every write is synced to disk.
func dataSource(path string, o Options, writer bool) string {
	busy := o.BusyTimeout
	if busy == 0 {
		busy = 10 * time.Second
	}
	q := url.Values{}
	q.Set("_busy_timeout", strconv.FormatInt(busy.Milliseconds(), 10))
	q.Set("_dqs", "0")
	q.Set("_error_rc", "1")
	q.Set("_foreign_keys", "1")
	pragma := func(format string, args ...any) { q.Add("_pragma", fmt.Sprintf(format, args...)) }
	if writer {
		q.Set("_txlock", "immediate")
		q.Set("_synchronous", "FULL")
		pragma("cache_size(-%d)", writerCache)
		pragma("wal_autocheckpoint(4000)")
		pragma("journal_size_limit(%d)", 64<<20)
		if o.MaxPages > 0 {
			pragma("max_page_count(%d)", o.MaxPages)
		}
	} else {
		q.Set("_query_only", "1")
		pragma("cache_size(-%d)", readerCache)
	}
	return fileURI(path) + "?" + q.Encode()
}

// fileURI keeps a path with '?', '#' or '%' in it from being read as something else.
func fileURI(path string) string {
	path = filepath.ToSlash(path)
	if filepath.VolumeName(path) != "" && !strings.HasPrefix(path, "/") {
		path = "/" + path
	}
	return "file:" + (&url.URL{Path: path}).EscapedPath()
}

// prepareFile makes a new file with mode 0600; SQLite gives its companions (-wal, -shm) the same. An existing file is not
// opened here: closing it would drop the locks that this process may hold on it.
func (s *Store) prepareFile() error {
	dir := filepath.Dir(s.path)
	if info, err := os.Stat(dir); err != nil || !info.IsDir() {
		return fleet.Diagnostic{Severity: fleet.SeverityError, Where: s.path,
			Summary: "the directory " + dir + " does not exist",
			Remedy:  "Create it, or name another file with --db."}
	}
	f, err := os.OpenFile(s.path, os.O_CREATE|os.O_EXCL|os.O_RDWR, 0o600)
	switch {
	case err == nil:
		return f.Close()
	case !errors.Is(err, fs.ErrExist):
		return fleet.Diagnostic{Severity: fleet.SeverityError, Where: s.path, Summary: "cannot create the database: " + err.Error(),
			Remedy: "Name a file in a directory you may write to with --db."}
	}
	info, err := os.Stat(s.path)
	if err != nil {
		return fmt.Errorf("open database %s: %w", s.path, err)
	}
	if info.IsDir() {
		return fleet.Diagnostic{Severity: fleet.SeverityError, Where: s.path, Summary: "this is a directory, not a database file",
			Remedy: "Name a file with --db."}
	}
	if mode := info.Mode().Perm(); mode&0o077 != 0 && filepath.Separator == '/' {
		s.log.Warn("others may read the database", "file", s.path, "mode", mode.String())
	}
	return nil
}

// migrate brings the file to this binary's schema. It refuses a file that is not ours and one from a newer imdsctl.
func (s *Store) migrate(ctx context.Context) error {
	if err := s.identify(ctx); err != nil {
		return err
	}
	if _, err := s.write.ExecContext(ctx, `PRAGMA journal_mode(WAL)`); err != nil {
		return s.failure("open", err)
	}
	files, err := fs.Sub(migrations, "migrations/sqlite")
	if err != nil {
		return fmt.Errorf("read migrations: %w", err)
	}
	provider, err := goose.NewProvider(goose.DialectSQLite3, s.write, files)
	if err != nil {
		return fmt.Errorf("read migrations: %w", err)
	}
	// Two processes may start the same new file at once: the loser's migration fails, and finds the work done when it
	// looks again.
	for attempt := range 5 {
		if err = s.bringUp(ctx, provider); err == nil {
			return nil
		}
		if _, refused := errors.AsType[fleet.Diagnostic](err); refused {
			return err
		}
		time.Sleep(time.Duration(attempt+1) * 20 * time.Millisecond)
	}
	return s.failure("prepare the tables of", err)
}

// bringUp applies the migrations that are missing, and refuses a schema from the future.
func (s *Store) bringUp(ctx context.Context, provider *goose.Provider) error {
	current, target, err := provider.GetVersions(ctx)
	if err != nil || current == target {
		return err
	}
	if current > target {
		return fleet.Diagnostic{Severity: fleet.SeverityError, Where: s.path,
			Summary: fmt.Sprintf("the database has schema %d, made by a newer imdsctl; this one knows %d", current, target),
			Remedy:  "Use the newer imdsctl, or start a new database with --db."}
	}
	_, err = provider.Up(ctx)
	return err
}

// identify tells a new file, a file of ours and anything else apart.
func (s *Store) identify(ctx context.Context) error {
	var id, tables int64
	err := s.write.QueryRowContext(ctx, `SELECT application_id, (SELECT count(*) FROM sqlite_master) FROM pragma_application_id`).
		Scan(&id, &tables)
	if err != nil {
		return s.failure("open", err)
	}
	if id == applicationID {
		return nil
	}
	if id != 0 || tables > 0 {
		return s.damaged("it is a database of another program")
	}
	if _, err := s.write.ExecContext(ctx, fmt.Sprintf(`PRAGMA application_id(%d)`, applicationID)); err != nil {
		return s.failure("start", err)
	}
	return nil
}

// update runs fn in one transaction that is alone among its like. Whatever goes wrong, nothing of it stays. On PostgreSQL fn
// is called again where its transaction was lost: it begins by forgetting what it has gathered.
func (s *Store) update(ctx context.Context, what string, fn func(tx *txn) error) error {
	return s.updateAt(ctx, what, "", fn)
}

// updateAt is update that passes the boundary hook before and after the commit.
func (s *Store) updateAt(ctx context.Context, what, point string, fn func(tx *txn) error) error {
	if s.pg != nil {
		s.pg.writing.Lock()
		defer s.pg.writing.Unlock()
	}
	return s.transaction(ctx, what, point, func(tx *txn) error {
		if err := tx.single(ctx); err != nil {
			return err
		}
		return fn(tx)
	})
}

// journal runs fn in one transaction as update does, beside others on PostgreSQL: what fn needs to itself it locks. It passes
// the boundary hook before and after the commit.
func (s *Store) journal(ctx context.Context, what, point string, fn func(tx *txn) error) error {
	return s.transaction(ctx, what, point, fn)
}

func (s *Store) transaction(ctx context.Context, what, point string, fn func(tx *txn) error) error {
	if s.pg != nil {
		return s.failure(what, s.commitPostgres(ctx, point, fn))
	}
	tx, err := s.write.BeginTx(ctx, nil)
	if err != nil {
		return s.failure(what, err)
	}
	if err := fn(&txn{tx: tx}); err != nil {
		if rollback := tx.Rollback(); rollback != nil && !errors.Is(rollback, sql.ErrTxDone) {
			s.log.Debug("rollback failed; closing the connection undoes the transaction too", "error", rollback)
		}
		return s.failure(what, err)
	}
	if point != "" {
		s.boundary(point + ":before-commit")
	}
	if err := tx.Commit(); err != nil {
		return s.failure(what, err)
	}
	if point != "" {
		s.boundary(point + ":after-commit")
	}
	return nil
}

// view runs fn on one consistent state of the database. On PostgreSQL fn is called again where the connection was lost: it
// begins by forgetting what it has gathered.
func (s *Store) view(ctx context.Context, what string, fn func(tx *txn) error) error {
	if s.pg != nil {
		return s.failure(what, s.viewPostgres(ctx, fn))
	}
	return s.viewSQLite(ctx, what, fn)
}

// stream is view for an fn that hands on what it reads at once, may take its time, and is called once.
func (s *Store) stream(ctx context.Context, what string, fn func(tx *txn) error) error {
	if s.pg != nil {
		return s.failure(what, s.streamPostgres(ctx, fn))
	}
	return s.viewSQLite(ctx, what, fn)
}

func (s *Store) viewSQLite(ctx context.Context, what string, fn func(tx *txn) error) error {
	tx, err := s.read.BeginTx(ctx, nil)
	if err != nil {
		return s.failure(what, err)
	}
	err = fn(&txn{tx: tx})
	if rollback := tx.Rollback(); rollback != nil && !errors.Is(rollback, sql.ErrTxDone) && err == nil {
		err = rollback
	}
	return s.failure(what, err)
}

// query calls row for each row of the answer. row scans it.
func query(ctx context.Context, tx *txn, statement string, args []any, row func(rows *sql.Rows) error) error {
	rows, err := tx.QueryContext(ctx, statement, args...)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		if err := row(rows); err != nil {
			return err
		}
	}
	return rows.Err()
}

func stamp(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.UTC().Format(timeLayout)
}

func unstamp(s string) (time.Time, error) {
	if s == "" {
		return time.Time{}, nil
	}
	t, err := time.Parse(time.RFC3339Nano, s)
	if err != nil {
		return time.Time{}, fmt.Errorf("time %q in the database: %w", s, err)
	}
	return t.UTC(), nil
}

// nonce is a random word that no other process has.
func nonce() string { return rand.Text() }
