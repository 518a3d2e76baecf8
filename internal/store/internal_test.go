package store

import (
	"bytes"
	"context"
	"database/sql"
	"database/sql/driver"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/pressly/goose/v3"

	"github.com/imdsctl/imdsctl/internal/engine"
	"github.com/imdsctl/imdsctl/internal/fleet"
	"github.com/imdsctl/imdsctl/internal/plan"
)

// FuzzDocument feeds the decoder what a damaged file may hold, and whatever documents there may be.
func FuzzDocument(f *testing.F) {
	enc, err := newEncoder()
	if err != nil {
		f.Fatal(err)
	}
	for _, doc := range []string{`{}`, `{"name":"web","state":{"HttpTokens":"optional"},"tags":{"Name":"web"}}`, `nonsense`,
		strings.Repeat(`{"name":"`, 100)} {
		packed, err := enc.pack([]byte(doc))
		if err != nil {
			f.Fatal(err)
		}
		f.Add(packed)
		f.Add([]byte(doc))
	}
	f.Add([]byte{})
	f.Add([]byte{bodyDeflate1})
	f.Add([]byte{9, '{', '}'})
	f.Fuzz(func(t *testing.T, b []byte) {
		var dec decoder
		if doc, err := dec.unpack(b); err == nil {
			if _, err := doc.links(fleet.Place{Partition: "aws", Account: "000000000001"}); err == nil {
				doc.flatten()
			}
		}
		// Whatever is packed is unpacked.
		packed, err := enc.pack(b)
		if err != nil {
			t.Fatal(err)
		}
		plain := packed[1:]
		if packed[0] == bodyDeflate1 {
			if plain, err = dec.inflate(packed[1:]); err != nil {
				t.Fatal(err)
			}
		}
		if !bytes.Equal(plain, b) {
			t.Errorf("%q became %q", b, plain)
		}
	})
}

// TestDictionaryIsForever: documents that are stored can be read only with the dictionary they were written with.
func TestDictionaryIsForever(t *testing.T) {
	const want = "hn1endkKH8UnA0EK/JB6GA=="
	if sum := hashDocument([]byte(dictionary1)); want != encode(sum) {
		t.Errorf("dictionary1 has changed (%s): give the new one another number", encode(sum))
	}
}

func encode(h documentHash) string {
	b, err := json.Marshal(h[:])
	if err != nil {
		return err.Error()
	}
	return strings.Trim(string(b), `"`)
}

// TestReadOnly: what SQLite says of a file that may not be written.
func TestReadOnly(t *testing.T) {
	s, err := Open(filepath.Join(t.TempDir(), "imdsctl.db"), Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	s.write, s.read = s.read, s.write // the readers' connections may not write
	_, err = s.BeginScan(context.Background(), ScanInfo{Started: time.Unix(0, 0)})
	s.write, s.read = s.read, s.write
	if err == nil || !strings.Contains(err.Error(), "may not be written") || !strings.Contains(err.Error(), "--db") {
		t.Errorf("a database that may not be written: %v", err)
	}
}

// TestForgedEvent: who alters an event and computes its hash anew is betrayed by the next one.
func TestForgedEvent(t *testing.T) {
	s, err := Open(filepath.Join(t.TempDir(), "imdsctl.db"), Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	ctx, now := t.Context(), time.Unix(1_700_000_000, 0)
	if err := s.PutPlan(ctx, "d", plan.Header{}, "", now); err != nil {
		t.Fatal(err)
	}
	err = s.update(ctx, "set up", func(tx *txn) error {
		if _, err := tx.ExecContext(ctx, sqlAddRollout, "r", "d", "{}", "running", stamp(now), "ann", 1, 0); err != nil {
			return err
		}
		for _, reason := range []string{"first", "second", "third"} {
			if err := appendEvent(ctx, tx, Event{Rollout: "r", Name: "remark", Reason: reason, At: now}); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for e, err := range s.Events(ctx, "r", 0) {
		if err != nil {
			t.Fatal(err)
		}
		if e.Reason != "second" {
			continue
		}
		e.Reason = "forged"
		hash, err := e.link()
		if err != nil {
			t.Fatal(err)
		}
		err = s.update(ctx, "forge", func(tx *txn) error {
			return one(tx.ExecContext(ctx, `UPDATE event SET reason = $2, hash = $3 WHERE id = $1`, e.ID, e.Reason, hash))
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	_, broken, err := s.VerifyChain(ctx, "r")
	if err != nil || broken == nil || broken.Seq != 3 {
		t.Errorf("a forged event: %v %v", broken, err)
	}
}

// TestConnections: what durability and exclusion rest on.
func TestConnections(t *testing.T) {
	s, err := Open(filepath.Join(t.TempDir(), "imdsctl.db"), Options{BusyTimeout: time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	var mode string
	var synchronous, keys int
	err = s.write.QueryRow(`SELECT j.journal_mode, s.synchronous, f.foreign_keys FROM pragma_journal_mode() j, pragma_synchronous() s,
		pragma_foreign_keys() f`).Scan(&mode, &synchronous, &keys)
	if err != nil || mode != "wal" || synchronous != 2 || keys != 1 {
		t.Errorf("journal mode %s, synchronous %d, foreign keys %d: %v", mode, synchronous, keys, err)
	}
	other, err := Open(s.path, Options{BusyTimeout: time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	err = s.update(t.Context(), "hold", func(*txn) error {
		if err := other.update(t.Context(), "enter", func(*txn) error { return nil }); err == nil {
			t.Error("two transactions that write have begun")
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// FuzzVerifyEvents: no file makes it fail but with a diagnostic, and what passes has chains that hold.
func FuzzVerifyEvents(f *testing.F) {
	var lines []byte
	prev := ""
	for seq := int64(1); seq <= 3; seq++ {
		e := Event{ID: seq, Rollout: "r", Seq: seq, Name: "remark", At: time.Unix(1_700_000_000, 5).UTC(), Prev: prev,
			Detail: map[string]string{"n": "<1>"}}
		hash, err := e.link()
		if err != nil {
			f.Fatal(err)
		}
		e.Hash = hex.EncodeToString(hash)
		prev = e.Hash
		line, err := json.Marshal(e)
		if err != nil {
			f.Fatal(err)
		}
		lines = append(append(lines, line...), '\n')
	}
	f.Add(lines)
	f.Add(lines[:len(lines)/2])
	f.Add([]byte(`{"id":1,"rollout":"r","event":"x","seq":1,"at":"0001-01-01T00:00:00Z","prev_hash":"","hash":""}`))
	f.Add([]byte("{}\n[]\nnull"))
	f.Fuzz(func(t *testing.T, data []byte) {
		count, broken, err := VerifyEvents(bytes.NewReader(data), "file")
		if err != nil {
			if _, ok := errors.AsType[fleet.Diagnostic](err); !ok || broken != nil {
				t.Errorf("%v %v", err, broken)
			}
			return
		}
		if broken != nil && (broken.Line != count+1 || broken.String() == "") {
			t.Errorf("%+v after %d events", broken, count)
		}
		again, second, err := VerifyEvents(bytes.NewReader(append(bytes.Clone(data), "\n"+`{"id":9}`...)), "file")
		if broken == nil && (err == nil || again != count || second != nil) {
			t.Errorf("a line that is no event: %d %v %v", again, second, err)
		}
	})
}

func TestNumber(t *testing.T) {
	for statement, want := range map[string]string{
		"SELECT 1":                                "SELECT 1",
		"UPDATE t SET a = $1 WHERE id IN (?,?)":   "UPDATE t SET a = $1 WHERE id IN ($2,$3)",
		"INSERT INTO t VALUES (?,?),(?,?) a = $9": "INSERT INTO t VALUES ($10,$11),($12,$13) a = $9",
	} {
		if got := number(statement); got != want {
			t.Errorf("%s\n got %s\nwant %s", statement, got, want)
		}
	}
}

// TestClassify: what is worth another attempt, and what is not.
func TestClassify(t *testing.T) {
	ctx := t.Context()
	code := func(c string) error { return fmt.Errorf("wrapped: %w", &pgconn.PgError{Code: c}) }
	for _, tt := range []struct {
		err  error
		want cause
	}{
		{nil, lasting}, {engine.ErrNotAdmitted, lasting}, {engine.ErrFenced, lasting}, {sql.ErrNoRows, lasting},
		{code("23505"), lasting}, {code("28P01"), lasting}, {code("3D000"), lasting}, {code("53100"), lasting},
		{code("40001"), contended}, {code("40P01"), contended}, {code("55P03"), contended},
		{code("57P01"), disconnected}, {code("57P03"), disconnected}, {code("25P03"), disconnected}, {code("25006"), disconnected},
		{code("08006"), disconnected}, {code("53300"), disconnected},
		{io.ErrUnexpectedEOF, disconnected}, {driver.ErrBadConn, disconnected}, {unanswered{errors.New("odd")}, disconnected},
	} {
		if got := classify(ctx, tt.err); got != tt.want {
			t.Errorf("%v is %d, not %d", tt.err, got, tt.want)
		}
	}
	ended, cancel := context.WithCancel(ctx)
	cancel()
	if classify(ended, io.EOF) != lasting {
		t.Error("a caller who has given up is kept waiting")
	}
}

func TestRedacted(t *testing.T) {
	for url, want := range map[string]string{
		"postgres://ann:secret@db.example.com:5432/imds?sslmode=require&password=secret": "postgres://ann@db.example.com:5432/imds",
		"postgres://db.example.com/imds":                                                 "postgres://db.example.com/imds",
		"postgres:///imds?host=/run&password=secret":                                     "the PostgreSQL database",
		"postgres://ann:sec%zzret@x/y":                                                   "the PostgreSQL database",
	} {
		if got := redacted(url); got != want {
			t.Errorf("%s, not %s", got, want)
		}
	}
}

// TestUpgrade: a file of the first schema, with an intent open in it, is brought up to this one's.
func TestUpgrade(t *testing.T) {
	path := filepath.Join(t.TempDir(), "imdsctl.db")
	db, err := sql.Open("sqlite", fileURI(path))
	if err != nil {
		t.Fatal(err)
	}
	provider, err := goose.NewProvider(goose.DialectSQLite3, db, os.DirFS("migrations/sqlite"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := provider.UpTo(t.Context(), 1); err != nil {
		t.Fatal(err)
	}
	for _, statement := range []string{
		fmt.Sprintf(`PRAGMA application_id(%d)`, applicationID),
		`INSERT INTO plan VALUES ('d', '{}', '', '')`,
		`INSERT INTO rollout VALUES ('r', 'd', '{}', 'running', '', '', '', 'ann', 5, 0, 1)`,
		`INSERT INTO change VALUES ('r', 'c', 0, 's', 0, 'x', 'set', '{}')`,
		`INSERT INTO intent (rollout, change, place, direction, attempt, token, epoch, opened, lease_until, open)
			VALUES ('r', 'c', 'aws/000000000007/eu-west-1', 'forward', 1, 't', 3, '', '', 1)`,
		`INSERT INTO lease VALUES ('aws/000000000007/eu-west-1', 'w', 3, '', '')`,
	} {
		if _, err := db.Exec(statement); err != nil {
			t.Fatalf("%s: %v", statement, err)
		}
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	s, err := Open(path, Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	in, ok, err := s.OpenIntent(t.Context(), "r", "c")
	if err != nil || !ok || in.Epoch != 3 {
		t.Errorf("the open intent: %+v %v", in, err)
	}
	var account string
	if err := s.read.QueryRow(`SELECT account FROM intent`).Scan(&account); err != nil || account != "000000000007" {
		t.Errorf("its account: %q %v", account, err)
	}
	lane := engine.Lease{Key: "aws/000000000007/eu-west-1", Holder: "w", Epoch: 3}
	if err := s.Renew(t.Context(), lane, time.Unix(0, 0), time.Hour); err != nil {
		t.Errorf("the lane of before: %v", err)
	}
}
