package store

import (
	"context"
	"errors"
	"fmt"

	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"

	"github.com/imdsctl/imdsctl/internal/fleet"
)

// failure turns what the engine says into what a person can act on. The original error stays within reach of errors.As.
func (s *Store) failure(what string, err error) error {
	if err == nil {
		return nil
	}
	if s.pg != nil {
		return s.failurePostgres(what, err)
	}
	if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return fmt.Errorf("%s %s: %w", what, s.path, err)
	}
	if _, ok := errors.AsType[fleet.Diagnostic](err); ok {
		return err
	}
	broken, ok := errors.AsType[*sqlite.Error](err)
	if !ok {
		return fmt.Errorf("%s: %w", what, err)
	}
	d := fleet.Diagnostic{Severity: fleet.SeverityError, Where: s.path}
	switch broken.Code() & 0xff {
	case sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB:
		return failed{s.damaged(broken.Error()), what, err}
	case sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED:
		d.Summary = "another process is writing to the database and did not finish in time"
		d.Remedy = "Wait until it is done, or look for a program that keeps the file open in a transaction" + s.holderHint() + "."
	case sqlite3.SQLITE_FULL:
		d.Summary = "the disk is full, or the file has reached its limit: nothing of this step was stored"
		d.Remedy = "Make room and run the command again: it goes on from what was stored before."
	case sqlite3.SQLITE_READONLY, sqlite3.SQLITE_PERM, sqlite3.SQLITE_AUTH:
		d.Summary = "the database, or its directory, may not be written"
		d.Remedy = "Give the user that runs imdsctl the right to write both, or name another file with --db."
	case sqlite3.SQLITE_CANTOPEN:
		d.Summary = "the database cannot be opened: no right to read it, or not a plain file"
		d.Remedy = "Check the permissions of the file and its directory, or name another file with --db."
	case sqlite3.SQLITE_IOERR:
		d.Summary = "the disk failed to read or write: " + broken.Error()
		d.Remedy = "Check the disk and the system's log; nothing of this step was stored."
	case sqlite3.SQLITE_INTERRUPT:
		return fmt.Errorf("%s %s: %w", what, s.path, context.Canceled)
	default:
		return fmt.Errorf("%s in %s: %w", what, s.path, err)
	}
	return failed{d, what, err}
}

// failed is a diagnostic with the error behind it, for programs; people see the diagnostic.
type failed struct {
	fleet.Diagnostic
	what  string
	cause error
}

func (f failed) Error() string { return f.what + ": " + f.Diagnostic.Error() }

func (f failed) Unwrap() []error { return []error{f.Diagnostic, f.cause} }

func (s *Store) damaged(how string) fleet.Diagnostic {
	return fleet.Diagnostic{Severity: fleet.SeverityError, Where: s.path,
		Summary: fmt.Sprintf("file %s is not an imdsctl database or is damaged: %s", s.path, how),
		Remedy:  "Restore a copy or start a new file with --db."}
}

// holderHint names the process that holds the process lock, where one is known.
func (s *Store) holderHint() string {
	if h, ok := s.readHolder(); ok {
		return " (" + h.String() + " works with it)"
	}
	return ""
}
