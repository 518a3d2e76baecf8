package store

import (
	"bytes"
	"context"
	"database/sql"
	"encoding/json"
	"path/filepath"
	"strings"
	"testing"
	"time"

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
	err = s.update(ctx, "set up", func(tx *sql.Tx) error {
		if _, err := tx.ExecContext(ctx, sqlAddRollout, "r", "d", "{}", "running", stamp(now), "ann", 1); err != nil {
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
		err = s.update(ctx, "forge", func(tx *sql.Tx) error {
			return one(tx.ExecContext(ctx, `UPDATE event SET reason = $2, hash = $3 WHERE id = $1`, e.ID, e.Reason, hash))
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	broken, err := s.VerifyChain(ctx)
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
	err = s.update(t.Context(), "hold", func(*sql.Tx) error {
		if err := other.update(t.Context(), "enter", func(*sql.Tx) error { return nil }); err == nil {
			t.Error("two transactions that write have begun")
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}
