package bench

import (
	"context"
	"database/sql"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/imdsctl/imdsctl/internal/evidence"
	"github.com/imdsctl/imdsctl/internal/inventory"
	"github.com/imdsctl/imdsctl/internal/scan"
	"github.com/imdsctl/imdsctl/internal/store"
)

// storeResult is what the storing process tells.
type storeResult struct {
	usage
	// Known is the time of storing the same once more, Raw of inserting rows of the same number and size.
	First, Known, Raw time.Duration
	Rows              int
}

// storeFleet is the process that stores a scanned fleet in a fresh database as a scan does, a thousand a transaction, once
// more as a scan that finds nothing changed, and then as many bytes in as many plain rows in as many transactions.
func storeFleet(j job) (any, error) {
	begun := time.Now()
	all, err := readAll(j.Database)
	if err != nil {
		return nil, err
	}
	dir := filepath.Dir(j.Database)
	db, err := store.Open(filepath.Join(dir, "again.db"), store.Options{})
	if err != nil {
		return nil, err
	}
	defer db.Close()
	var out storeResult
	for _, took := range []*time.Duration{&out.First, &out.Known} {
		start := time.Now()
		if err := storeAll(db, all); err != nil {
			return nil, err
		}
		*took = time.Since(start)
	}
	if out.Raw, out.Rows, err = insertAll(filepath.Join(dir, "raw.db"), all); err != nil {
		return nil, err
	}
	out.usage = measured(begun)
	return out, nil
}

const aTransaction = 1000

var _ scan.Store = (*store.Store)(nil)

func storeAll(db *store.Store, all []found) error {
	ctx := context.Background()
	id, err := db.BeginScan(ctx, store.ScanInfo{Started: all[0].snapshot.Taken})
	if err != nil {
		return err
	}
	for _, f := range all {
		place := f.snapshot.Place
		byKind := map[string][]inventory.Resource{}
		var windows []*evidence.Window
		for _, r := range f.snapshot.Resources {
			byKind[r.Ref.Kind] = append(byKind[r.Ref.Kind], r)
			windows = append(windows, f.windows[r.Ref]...)
		}
		for kind, resources := range byKind {
			for page := range slices.Chunk(resources, aTransaction) {
				if err := db.PutResources(ctx, id, place, kind, page); err != nil {
					return err
				}
			}
			scope := inventory.Scope{Place: place, Kind: kind, Status: inventory.ScopeComplete, At: f.snapshot.Taken}
			if err := db.CloseScope(ctx, id, scope); err != nil {
				return err
			}
		}
		for page := range slices.Chunk(windows, aTransaction) {
			if err := db.PutEvidence(ctx, id, page); err != nil {
				return err
			}
		}
		scope := inventory.Scope{Place: place, Kind: string(evidence.SourceCloudWatch), Status: inventory.ScopeComplete, At: f.snapshot.Taken}
		if err := db.CloseScope(ctx, id, scope); err != nil {
			return err
		}
	}
	return db.FinishScan(ctx, id, store.ScanComplete, nil, all[0].snapshot.Taken)
}

// insertAll puts one row for each resource and each window into a table with nothing but them, with the same journal.
func insertAll(path string, all []found) (time.Duration, int, error) {
	db, err := sql.Open("sqlite", "file:"+path+"?_txlock=immediate&_synchronous=FULL")
	if err != nil {
		return 0, 0, err
	}
	defer db.Close()
	db.SetMaxOpenConns(1)
	for _, statement := range []string{`PRAGMA journal_mode(WAL)`, `CREATE TABLE thing (id INTEGER PRIMARY KEY, name TEXT, data BLOB)`} {
		if _, err := db.Exec(statement); err != nil {
			return 0, 0, err
		}
	}
	var names []string
	var data [][]byte
	for _, f := range all {
		for _, r := range f.snapshot.Resources {
			names, data = append(names, r.Ref.ID), append(data, nil)
			for _, w := range f.windows[r.Ref] {
				names, data = append(names, ""), append(data, w.Pack())
			}
		}
	}
	const batch = 200
	begun := time.Now()
	for from := 0; from < len(names); from += aTransaction {
		tx, err := db.Begin()
		if err != nil {
			return 0, 0, err
		}
		for at := from; at < min(from+aTransaction, len(names)); at += batch {
			n := min(batch, len(names)-at)
			args := make([]any, 0, 2*n)
			for i := at; i < at+n; i++ {
				args = append(args, names[i], data[i])
			}
			if _, err := tx.Exec(`INSERT INTO thing (name, data) VALUES `+strings.Repeat("(?,?),", n-1)+"(?,?)", args...); err != nil {
				return 0, 0, err
			}
		}
		if err := tx.Commit(); err != nil {
			return 0, 0, err
		}
	}
	return time.Since(begun), len(names), nil
}

// BenchmarkStore stores the scanned fleet again, beside plain rows of the same number and size.
func BenchmarkStore(b *testing.B) {
	j := scanned.database(b, size(b))
	for b.Loop() {
		got, _ := perform[storeResult](b, "store", j)
		b.Logf("%s; %d rows; plain rows took %s", machine(), got.Rows, got.Raw.Round(time.Millisecond))
		b.ReportMetric(got.First.Seconds(), "s")
		b.ReportMetric(got.Known.Seconds(), "s-unchanged")
		b.ReportMetric(got.First.Seconds()/got.Raw.Seconds(), "time/plain-rows")
		b.ReportMetric(got.Known.Seconds()/got.Raw.Seconds(), "unchanged/plain-rows")
	}
	b.ReportMetric(0, "ns/op")
}
