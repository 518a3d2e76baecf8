package store

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"time"

	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"

	"github.com/imdsctl/imdsctl/internal/fleet"
)

// Holder is the process that works with a database.
type Holder struct {
	PID     int       `json:"pid"`
	Host    string    `json:"host"`
	Command string    `json:"command"`
	Since   time.Time `json:"since"`
}

func (h Holder) String() string {
	return fmt.Sprintf("`%s`, process %d on %s, since %s", h.Command, h.PID, h.Host, h.Since.UTC().Format(time.RFC3339))
}

// LockProcess makes this store the only one that coordinates on this file: it fails with a fleet.Diagnostic that names the
// other process while there is one. The lock is a transaction held open in a second database, "<file>.lock", which the
// operating system ends when the process does, however it does. command and now are what the others are told.
//
// While it is held, whoever took a lane under an earlier process lock is known to be dead, so Acquire need not wait for that
// lease to run out. A store is locked once; release gives the lock up and may be called again.
//
// On PostgreSQL many processes work with one database, and leases alone keep them apart: there is nothing to lock.
func (s *Store) LockProcess(ctx context.Context, command string, now time.Time) (release func() error, err error) {
	if s.pg != nil {
		return func() error { return nil }, nil
	}
	if s.processNonce() != "" {
		return nil, errors.New("this store holds the process lock already")
	}
	path := s.path + ".lock"
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_RDWR, 0o600)
	if err == nil {
		err = f.Close()
	}
	if err != nil && !errors.Is(err, fs.ErrExist) {
		return nil, fleet.Diagnostic{Severity: fleet.SeverityError, Where: path, Summary: "cannot create the lock: " + err.Error(),
			Remedy: "Give the user that runs imdsctl the right to write the database's directory."}
	}
	db, err := sql.Open("sqlite", fileURI(path)+"?_busy_timeout=0")
	if err != nil {
		return nil, s.failure("lock", err)
	}
	db.SetMaxOpenConns(1)
	conn, err := db.Conn(ctx)
	if err != nil {
		return nil, errors.Join(s.lockFailure(err), db.Close())
	}
	if _, err := conn.ExecContext(ctx, `BEGIN EXCLUSIVE`); err != nil {
		return nil, errors.Join(s.lockFailure(err), conn.Close(), db.Close())
	}
	s.writeHolder(command, now)
	s.setProcessNonce(nonce())
	return func() error {
		if s.processNonce() == "" {
			return nil
		}
		s.setProcessNonce("")
		removed := os.Remove(s.holderPath())
		if errors.Is(removed, fs.ErrNotExist) {
			removed = nil
		}
		return errors.Join(removed, conn.Close(), db.Close())
	}, nil
}

func (s *Store) lockFailure(err error) error {
	broken, ok := errors.AsType[*sqlite.Error](err)
	if !ok || (broken.Code()&0xff != sqlite3.SQLITE_BUSY && broken.Code()&0xff != sqlite3.SQLITE_LOCKED) {
		return s.failure("lock", err)
	}
	d := fleet.Diagnostic{Severity: fleet.SeverityError, Where: s.path,
		Summary: "another imdsctl works with this database",
		Remedy:  "Wait until it is done. To control a rollout while it runs, use imdsctl rollout; to work apart, use --db."}
	if h, ok := s.readHolder(); ok {
		d.Summary += ": " + h.String()
	}
	return d
}

func (s *Store) holderPath() string { return s.path + ".holder" }

// writeHolder leaves a note for people. The lock does not depend on it.
func (s *Store) writeHolder(command string, now time.Time) {
	host, err := os.Hostname()
	if err != nil {
		host = "an unknown host"
	}
	note, err := json.Marshal(Holder{PID: os.Getpid(), Host: host, Command: command, Since: now.UTC()})
	if err == nil {
		err = os.WriteFile(s.holderPath(), note, 0o600)
	}
	if err != nil {
		s.log.Warn("cannot leave a note of who works with the database", "file", s.holderPath(), "error", err)
	}
}

func (s *Store) readHolder() (Holder, bool) {
	var h Holder
	note, err := os.ReadFile(s.holderPath())
	if err != nil || json.Unmarshal(note, &h) != nil {
		return Holder{}, false
	}
	return h, true
}

func (s *Store) processNonce() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.process
}

func (s *Store) setProcessNonce(n string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.process = n
}
