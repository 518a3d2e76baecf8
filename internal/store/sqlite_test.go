package store_test

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/imdsctl/imdsctl/internal/engine"
	"github.com/imdsctl/imdsctl/internal/fleet"
	"github.com/imdsctl/imdsctl/internal/inventory"
	"github.com/imdsctl/imdsctl/internal/store"
	"github.com/imdsctl/imdsctl/internal/store/storetest"
)

func TestSQLite(t *testing.T) { storetest.Run(t, openFresh) }

func openFresh(t testing.TB, o store.Options) *store.Store {
	t.Helper()
	return openAt(t, filepath.Join(t.TempDir(), "imdsctl.db"), o)
}

func openAt(t testing.TB, path string, o store.Options) *store.Store {
	t.Helper()
	s, err := store.Open(path, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

// says checks that the error is a diagnostic for a person, with the words in it and with something to do.
func says(t *testing.T, err error, words ...string) {
	t.Helper()
	d, ok := errors.AsType[fleet.Diagnostic](err)
	if !ok {
		t.Fatalf("%v is no diagnostic", err)
	}
	if d.Remedy == "" || d.Where == "" {
		t.Errorf("it does not say where, or what to do: %+v", d)
	}
	for _, w := range words {
		if !strings.Contains(err.Error(), w) {
			t.Errorf("it does not say %q: %v", w, err)
		}
	}
}

func raw(t *testing.T, path string) *sql.DB {
	t.Helper()
	db, err := sql.Open("sqlite", path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	})
	return db
}

func run(t *testing.T, db *sql.DB, statement string, args ...any) {
	t.Helper()
	if _, err := db.Exec(statement, args...); err != nil {
		t.Fatalf("%s: %v", statement, err)
	}
}

func TestFilesAreTheOwnersAlone(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("Windows has no modes; the directory's access list rules")
	}
	path := filepath.Join(t.TempDir(), "a b?c#d%20.db")
	s := openAt(t, path, store.Options{})
	if _, err := s.BeginScan(t.Context(), store.ScanInfo{Started: noon}); err != nil {
		t.Fatal(err)
	}
	release, err := s.LockProcess(t.Context(), "test", noon)
	if err != nil {
		t.Fatal(err)
	}
	for _, suffix := range []string{"", "-wal", "-shm", ".lock", ".holder"} {
		info, err := os.Stat(path + suffix)
		if err != nil {
			t.Error(err)
		} else if info.Mode().Perm() != 0o600 {
			t.Errorf("%s has mode %s", info.Name(), info.Mode())
		}
	}
	if err := release(); err != nil {
		t.Fatal(err)
	}
	entries, err := os.ReadDir(filepath.Dir(path))
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if !strings.HasPrefix(e.Name(), filepath.Base(path)) {
			t.Errorf("a file of another name: %s", e.Name())
		}
	}
}

func TestOpenRefuses(t *testing.T) {
	tests := []struct {
		name  string
		make  func(t *testing.T, path string)
		words []string
	}{
		{"no directory", func(t *testing.T, path string) {
			if err := os.Remove(filepath.Dir(path)); err != nil {
				t.Fatal(err)
			}
		}, []string{"does not exist"}},
		{"a directory", func(t *testing.T, path string) {
			if err := os.Mkdir(path, 0o700); err != nil {
				t.Fatal(err)
			}
		}, []string{"directory"}},
		{"not a database", func(t *testing.T, path string) {
			write(t, path, []byte(strings.Repeat("version: 1\naccounts: []\n", 400)))
		}, []string{"is not an imdsctl database or is damaged", "Restore a copy"}},
		{"another program's database", func(t *testing.T, path string) {
			run(t, raw(t, path), `CREATE TABLE bookmarks (url TEXT)`)
		}, []string{"is not an imdsctl database", "another program"}},
		{"a damaged database", func(t *testing.T, path string) {
			s, err := store.Open(path, store.Options{})
			if err != nil {
				t.Fatal(err)
			}
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
			b, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			for i := 100; i < len(b); i++ {
				b[i] = 0xA5
			}
			write(t, path, b)
		}, []string{"is not an imdsctl database or is damaged", "Restore a copy"}},
		{"a newer schema", func(t *testing.T, path string) {
			s, err := store.Open(path, store.Options{})
			if err != nil {
				t.Fatal(err)
			}
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
			run(t, raw(t, path), `INSERT INTO goose_db_version (version_id, is_applied) VALUES (4711, 1)`)
		}, []string{"schema 4711", "newer imdsctl"}},
		{"a locked database", func(t *testing.T, path string) {
			s, err := store.Open(path, store.Options{})
			if err != nil {
				t.Fatal(err)
			}
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
			db := raw(t, path+"")
			db.SetMaxOpenConns(1)
			run(t, db, `PRAGMA locking_mode(EXCLUSIVE)`)
			run(t, db, `BEGIN EXCLUSIVE`)
			run(t, db, `UPDATE scan SET tool = ''`)
		}, []string{"another process"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "sub", "imdsctl.db")
			if err := os.Mkdir(filepath.Dir(path), 0o700); err != nil {
				t.Fatal(err)
			}
			tt.make(t, path)
			before, _ := os.ReadFile(path) // a directory has no content
			s, err := store.Open(path, store.Options{BusyTimeout: 50 * time.Millisecond})
			if err == nil {
				t.Fatal(errors.Join(errors.New("it opened"), s.Close()))
			}
			says(t, err, tt.words...)
			if after, _ := os.ReadFile(path); !bytes.Equal(before, after) {
				t.Error("the refused file was written to")
			}
		})
	}
}

func write(t *testing.T, path string, b []byte) {
	t.Helper()
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestDamageInsideIsFound(t *testing.T) {
	path := filepath.Join(t.TempDir(), "imdsctl.db")
	s, err := store.Open(path, store.Options{})
	if err != nil {
		t.Fatal(err)
	}
	var page []inventory.Resource
	for i := range 2000 {
		page = append(page, benchInstance(benchPlace(0), i))
	}
	if err := s.PutResources(t.Context(), 1, benchPlace(0), inventory.KindInstance, page); err != nil {
		t.Fatal(err)
	}
	if err := s.Check(t.Context()); err != nil {
		t.Fatalf("an honest file: %v", err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for i := len(b) / 2; i < len(b); i++ {
		b[i] = 0xA5
	}
	write(t, path, b)
	s = openAt(t, path, store.Options{})
	says(t, s.Check(t.Context()), "damaged")
	_, err = s.Snapshot(t.Context(), benchPlace(0))
	says(t, err, "damaged", "Restore a copy")
}

func TestBusy(t *testing.T) {
	path := filepath.Join(t.TempDir(), "imdsctl.db")
	s := openAt(t, path, store.Options{BusyTimeout: 20 * time.Millisecond})
	other := raw(t, path)
	other.SetMaxOpenConns(1)
	run(t, other, `BEGIN IMMEDIATE`)
	_, err := s.BeginScan(t.Context(), store.ScanInfo{Started: noon})
	says(t, err, "another process is writing")
	if _, err := s.Places(t.Context()); err != nil {
		t.Errorf("reading beside a writer: %v", err)
	}
	run(t, other, `ROLLBACK`)
	if _, err := s.BeginScan(t.Context(), store.ScanInfo{Started: noon}); err != nil {
		t.Errorf("after the other is done: %v", err)
	}
}

func TestFullDisk(t *testing.T) {
	path := filepath.Join(t.TempDir(), "imdsctl.db")
	s := openAt(t, path, store.Options{MaxPages: 100})
	p := storetest.Plan(t, 1, 20, 5)
	storetest.Approved(t, s, p)
	r, err := s.Begin(t.Context(), p, noon)
	if err != nil {
		t.Fatal(err)
	}
	lane, err := s.Acquire(t.Context(), engine.LaneKey(benchPlace(0)), "w", noon, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	stored := 0
	for {
		var page []inventory.Resource
		for i := range 100 {
			page = append(page, benchInstance(benchPlace(0), stored+i))
		}
		if err = s.PutResources(t.Context(), 1, benchPlace(0), inventory.KindInstance, page); err != nil {
			break
		}
		if stored += len(page); stored > 100_000 {
			t.Fatal("the disk never filled")
		}
	}
	says(t, err, "the disk is full", "nothing of this step was stored", "Make room")
	notes := 0
	for err = nil; err == nil; notes++ {
		if notes > 1000 {
			t.Fatal("the disk never filled")
		}
		err = s.Note(t.Context(), r.ID, "", "remark", map[string]string{"text": strings.Repeat("x", 1000)}, noon)
	}
	says(t, err, "the disk is full")
	events := 0
	for e, err := range s.Events(t.Context(), r.ID, 0) {
		if err != nil {
			t.Fatal(err)
		}
		if e.Name == "remark" {
			events++
		}
	}
	if events != notes-1 {
		t.Errorf("%d notes were taken, %d are there", notes-1, events)
	}
	count := func(s *store.Store) {
		t.Helper()
		snap, err := s.Snapshot(t.Context(), benchPlace(0))
		if err != nil || len(snap.Resources) != stored {
			t.Fatalf("%d of %d are there: %v", len(snap.Resources), stored, err)
		}
		if err := s.Check(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	count(s)
	roomy := openAt(t, path, store.Options{})
	count(roomy)
	if err := roomy.Renew(t.Context(), lane, noon, time.Hour); err != nil {
		t.Errorf("with room again: %v", err)
	}
}

// TestTampering alters the journal behind the store's back in every way there is.
func TestTampering(t *testing.T) {
	tests := []struct{ name, statement string }{
		{"a reason", `UPDATE event SET reason = 'I was never here' WHERE id = 4`},
		{"an actor", `UPDATE event SET actor = 'eve' WHERE name = 'approve'`},
		{"a time", `UPDATE event SET at = '2020-01-01T00:00:00.000000000Z' WHERE id = 4`},
		{"a detail", `UPDATE event SET detail = '{"digest":"other"}' WHERE name = 'begin'`},
		{"the chain of an event", `UPDATE event SET chain = 'aws/000000000009/eu-west-1', seq = 1 WHERE id = 7`},
		{"one from the middle", `DELETE FROM event WHERE id = 4`},
		{"the first", `DELETE FROM event WHERE id = 1`},
		{"the last", `DELETE FROM event WHERE id = (SELECT max(id) FROM event)`},
		{"a whole chain's events", `DELETE FROM event WHERE chain <> ''`},
		{"the recorded end", `DELETE FROM event_head WHERE chain = ''`},
		{"the recorded end's hash", `UPDATE event_head SET hash = zeroblob(32)`},
		{"a hash with its content", `UPDATE event SET hash = zeroblob(32) WHERE id = 4`},
		{"an event too many", `INSERT INTO event (rollout, chain, seq, at, name, stack, change, actor, reason, detail, prev_hash, hash)
			SELECT rollout, chain, seq + 1, at, name, stack, change, actor, reason, detail, hash, hash FROM event
			WHERE id = (SELECT max(id) FROM event)`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "imdsctl.db")
			s := openAt(t, path, store.Options{})
			p := storetest.Plan(t, 2, 3, 5)
			for _, a := range life(p) {
				if err := a.do(t.Context(), s); err != nil {
					t.Fatal(err)
				}
			}
			if err := s.Check(t.Context()); err != nil {
				t.Fatalf("an honest journal: %v", err)
			}
			run(t, raw(t, path), tt.statement)
			_, broken, err := s.VerifyChain(t.Context(), "")
			if err != nil {
				t.Fatal(err)
			}
			if broken == nil {
				t.Fatal("nobody noticed")
			}
			if cut := strings.Contains(broken.Problem, "cut off"); cut != (tt.name == "the last" || tt.name == "a whole chain's events") {
				t.Errorf("it is said that %s", broken)
			}
			says(t, s.Check(t.Context()), "was altered", "r-"+p.Digest[:12])
		})
	}
}

func TestManyStartOneFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "imdsctl.db")
	var group sync.WaitGroup
	for range 8 {
		group.Go(func() {
			s, err := store.Open(path, store.Options{})
			if err != nil {
				t.Error(err)
				return
			}
			if _, err := s.BeginScan(t.Context(), store.ScanInfo{Started: noon}); err != nil {
				t.Error(err)
			}
			if err := s.Close(); err != nil {
				t.Error(err)
			}
		})
	}
	group.Wait()
	scans, err := openAt(t, path, store.Options{}).Scans(t.Context(), 0)
	if err != nil || len(scans) != 8 {
		t.Errorf("%d scans: %v", len(scans), err)
	}
}

func TestCancelledWritesNothing(t *testing.T) {
	s := openFresh(t, store.Options{})
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := s.BeginScan(ctx, store.ScanInfo{Started: noon}); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
	if _, ok, err := s.LastScan(t.Context()); ok || err != nil {
		t.Errorf("a cancelled scan is on record: %v", err)
	}
}
