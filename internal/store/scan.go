package store

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/imdsctl/imdsctl/internal/fleet"
	"github.com/imdsctl/imdsctl/internal/inventory"
)

// ScanStatus is how a scan ended.
type ScanStatus string

// Scan statuses.
const (
	// ScanRunning: under way, or killed and not noticed yet.
	ScanRunning ScanStatus = "running"
	// ScanComplete: every scope was read completely.
	ScanComplete ScanStatus = "complete"
	// ScanPartial: it went to its end and left gaps.
	ScanPartial ScanStatus = "partial"
	// ScanInterrupted: stopped or killed before its end. What it had stored counts.
	ScanInterrupted ScanStatus = "interrupted"
)

// ScanInfo describes a scan that begins.
type ScanInfo struct {
	Started time.Time
	Tool    string // version of imdsctl
	Config  string // digest of the configuration
	// Window is the length of the evidence the scan asks for.
	Window time.Duration
}

// Scan is a scan as it is on record.
type Scan struct {
	ID int64
	ScanInfo
	Finished time.Time // zero while it runs, and for a killed one
	Status   ScanStatus
	Stats    json.RawMessage
}

// BeginScan records a scan and gives its id; ids grow. With the process lock held, scans that are still on record as running
// are known to be dead and become interrupted.
func (s *Store) BeginScan(ctx context.Context, info ScanInfo) (int64, error) {
	var id int64
	err := s.update(ctx, "begin a scan", func(tx *txn) error {
		if s.processNonce() != "" {
			if _, err := tx.ExecContext(ctx, sqlInterruptScans); err != nil {
				return err
			}
		}
		return tx.QueryRowContext(ctx, sqlBeginScan, stamp(info.Started), info.Tool, info.Config,
			int64(info.Window/time.Second)).Scan(&id)
	})
	return id, err
}

// FinishScan records how a scan ended, with counters as a JSON document (nil for none).
func (s *Store) FinishScan(ctx context.Context, scan int64, status ScanStatus, stats json.RawMessage, now time.Time) error {
	if len(stats) == 0 {
		stats = json.RawMessage("{}")
	}
	return s.update(ctx, fmt.Sprintf("finish scan %d", scan), func(tx *txn) error {
		return one(tx.ExecContext(ctx, sqlFinishScan, scan, stamp(now), string(status), string(stats)))
	})
}

// errNoRow is a statement that was to write one row and found none.
var errNoRow = errors.New("there is no such row")

func one(result sql.Result, err error) error {
	if err != nil {
		return err
	}
	if n, err := result.RowsAffected(); err != nil || n != 1 {
		return errors.Join(errNoRow, err)
	}
	return nil
}

// PutAccounts records what is known of accounts. An account that is not among them stays as it was.
func (s *Store) PutAccounts(ctx context.Context, scan int64, accounts []inventory.Account) error {
	return s.update(ctx, "store accounts", func(tx *txn) error {
		for _, a := range accounts {
			tags, err := json.Marshal(a.Tags)
			if err != nil {
				return fmt.Errorf("tags of account %s: %w", a.ID, err)
			}
			_, err = tx.ExecContext(ctx, sqlPutAccount, string(a.Partition), string(a.ID), a.Name, a.OU,
				strings.Join(a.OUIDs, "/"), a.Status, string(tags), scan)
			if err != nil {
				return err
			}
		}
		return nil
	})
}

// PutResources records a page of resources of one kind in one place as the scan saw them; one transaction. What did not
// change is marked as seen and takes no further space. What a later scan has seen already is left as that scan saw it.
func (s *Store) PutResources(ctx context.Context, scan int64, place fleet.Place, kind string, page []inventory.Resource) error {
	if len(page) == 0 {
		return nil
	}
	sightings, err := sightingsOf(place, kind, page)
	if err != nil {
		return err
	}
	var w *pageWriter
	err = s.update(ctx, fmt.Sprintf("store %d resources of %s in %s", len(page), kind, place), func(tx *txn) error {
		w = &pageWriter{store: s, tx: tx, scan: scan, interned: map[documentKey]int64{}}
		return w.write(ctx, place, kind, sightings)
	})
	if err == nil {
		s.docs.add(w.interned)
	}
	return err
}

// sighting is one resource of a page, ready to be stored.
type sighting struct {
	name      string
	status    string
	launched  int64
	canonical []byte
	hash      documentHash

	id        int64 // of the resource, 0 while new
	validFrom int64 // of its current version, 0 where there is none
	same      bool  // the current version says the same
	skip      bool  // a later scan has seen it
	document  int64
}

// sightingsOf prepares a page outside the transaction. Of a resource that a page has twice, the last counts.
func sightingsOf(place fleet.Place, kind string, page []inventory.Resource) ([]*sighting, error) {
	byName := make(map[string]int, len(page))
	out := make([]*sighting, 0, len(page))
	for i := range page {
		r := &page[i]
		if r.Ref.Place != place || r.Ref.Kind != kind {
			return nil, fmt.Errorf("%s is not a resource of %s in %s", r.Ref, kind, place)
		}
		canonical, err := json.Marshal(documentOf(r))
		if err != nil {
			return nil, fmt.Errorf("document of %s: %w", r.Ref, err)
		}
		sg := &sighting{name: r.Ref.ID, status: string(r.Status), launched: milliseconds(r.Launched),
			canonical: canonical, hash: hashDocument(canonical)}
		if at, twice := byName[sg.name]; twice {
			out[at] = sg
			continue
		}
		byName[sg.name] = len(out)
		out = append(out, sg)
	}
	return out, nil
}

// milliseconds keeps launches short; AWS gives them in whole seconds or milliseconds.
func milliseconds(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixMilli()
}

func fromMilliseconds(ms int64) time.Time {
	if ms == 0 {
		return time.Time{}
	}
	return time.UnixMilli(ms).UTC()
}

// pageWriter writes one page within one transaction.
type pageWriter struct {
	store *Store
	tx    *txn
	scan  int64
	place int64
	kind  int64

	interned map[documentKey]int64
	find     *sql.Stmt
	insert   *sql.Stmt
}

func (w *pageWriter) write(ctx context.Context, place fleet.Place, kind string, page []*sighting) (err error) {
	if w.place, err = placeID(ctx, w.tx, place); err != nil {
		return err
	}
	if w.kind, err = kindID(ctx, w.tx, kind); err != nil {
		return err
	}
	if w.find, err = w.tx.PrepareContext(ctx, sqlDocumentID); err != nil {
		return err
	}
	defer w.find.Close()
	if w.insert, err = w.tx.PrepareContext(ctx, sqlAddDocument); err != nil {
		return err
	}
	defer w.insert.Close()
	for chunk := range slices.Chunk(page, batch) {
		if err := w.chunk(ctx, chunk); err != nil {
			return err
		}
	}
	return nil
}

func (w *pageWriter) chunk(ctx context.Context, chunk []*sighting) error {
	for _, sg := range chunk {
		sg.id, sg.validFrom, sg.same, sg.skip = 0, 0, false, false // an attempt that was rolled back may have set them
		var err error
		if sg.document, err = w.intern(ctx, sg); err != nil {
			return err
		}
	}
	if err := w.lookUp(ctx, chunk); err != nil {
		return err
	}
	if err := addResources(ctx, w.tx, w.place, w.kind, w.scan, chunk); err != nil {
		return err
	}
	if err := w.markSeen(ctx, chunk); err != nil {
		return err
	}
	return w.versions(ctx, chunk)
}

// intern gives the id of the sighting's document, storing it where the place does not have it yet.
func (w *pageWriter) intern(ctx context.Context, sg *sighting) (int64, error) {
	key := documentKey{w.place, sg.hash}
	if id, ok := w.interned[key]; ok {
		return id, nil
	}
	if id, ok := w.store.docs.get(key); ok {
		return id, nil
	}
	var id int64
	err := w.find.QueryRowContext(ctx, w.place, sg.hash[:]).Scan(&id)
	if errors.Is(err, sql.ErrNoRows) {
		var enc *encoder
		if enc, err = w.store.docs.encoder(); err != nil {
			return 0, err
		}
		var body []byte
		if body, err = enc.pack(sg.canonical); err != nil {
			return 0, err
		}
		err = w.insert.QueryRowContext(ctx, w.place, sg.hash[:], body).Scan(&id)
	}
	if err != nil {
		return 0, err
	}
	w.interned[key] = id
	return id, nil
}

// lookUp finds what is known of the chunk's resources and compares.
func (w *pageWriter) lookUp(ctx context.Context, chunk []*sighting) error {
	byName := make(map[string]*sighting, len(chunk))
	args := []any{w.place, w.kind}
	for _, sg := range chunk {
		byName[sg.name] = sg
		args = append(args, sg.name)
	}
	return query(ctx, w.tx, sqlCurrent+list(len(chunk)), args, func(rows *sql.Rows) error {
		var name string
		var id, seen int64
		var from, document, launched sql.NullInt64
		var status sql.NullString
		if err := rows.Scan(&name, &id, &seen, &from, &document, &status, &launched); err != nil {
			return err
		}
		sg := byName[name]
		sg.id, sg.skip, sg.validFrom = id, seen > w.scan, from.Int64
		sg.same = from.Valid && document.Int64 == sg.document && status.String == sg.status && launched.Int64 == sg.launched
		return nil
	})
}

// addResources gives ids to the resources of the chunk that have none.
func addResources(ctx context.Context, tx *txn, place, kind, scan int64, chunk []*sighting) error {
	byName := map[string]*sighting{}
	var args []any
	for _, sg := range chunk {
		if sg.id == 0 {
			byName[sg.name] = sg
			args = append(args, place, kind, sg.name, scan)
		}
	}
	if len(byName) == 0 {
		return nil
	}
	return query(ctx, tx, sqlAddResources+tuples(len(byName), 4)+` RETURNING name, id`, args, func(rows *sql.Rows) error {
		var name string
		var id int64
		if err := rows.Scan(&name, &id); err != nil {
			return err
		}
		byName[name].id = id
		return nil
	})
}

func (w *pageWriter) markSeen(ctx context.Context, chunk []*sighting) error {
	args := []any{w.scan}
	for _, sg := range chunk {
		if !sg.skip {
			args = append(args, sg.id)
		}
	}
	if len(args) == 1 {
		return nil
	}
	_, err := w.tx.ExecContext(ctx, sqlSeen+list(len(args)-1), args...)
	return err
}

// versions closes the versions that no longer hold and opens new ones. Within one scan the last sighting counts.
func (w *pageWriter) versions(ctx context.Context, chunk []*sighting) error {
	var fresh []any
	for _, sg := range chunk {
		switch {
		case sg.skip || sg.same:
			continue
		case sg.validFrom == w.scan:
			if err := one(w.tx.ExecContext(ctx, sqlCorrectVersion, sg.id, w.scan, sg.document, sg.status, sg.launched)); err != nil {
				return err
			}
			continue
		case sg.validFrom != 0:
			if err := one(w.tx.ExecContext(ctx, sqlCloseVersion, sg.id, sg.validFrom, w.scan)); err != nil {
				return err
			}
		}
		fresh = append(fresh, sg.id, w.scan, sg.document, sg.status, sg.launched)
	}
	if len(fresh) == 0 {
		return nil
	}
	_, err := w.tx.ExecContext(ctx, sqlAddVersions+tuples(len(fresh)/5, 5), fresh...)
	return err
}

// CloseScope records how the reading of a scope ended. Only a complete scope tells that resources are gone: those of its kind
// in its place that the scan did not see. After a gap, what was known stays, and Stale tells its age. For an evidence source
// (a scope whose kind is the source's name), a complete scope drops the windows of earlier scans.
func (s *Store) CloseScope(ctx context.Context, scan int64, scope inventory.Scope) error {
	return s.update(ctx, fmt.Sprintf("close %s in %s", scope.Kind, scope.Place), func(tx *txn) error {
		place, err := placeID(ctx, tx, scope.Place)
		if err != nil {
			return err
		}
		_, err = tx.ExecContext(ctx, sqlPutScope, place, scope.Kind, scan, string(scope.Status), string(scope.Class), scope.Detail,
			scope.Resources, stamp(scope.At))
		if err != nil || scope.Status != inventory.ScopeComplete || scope.Kind == "" {
			return err
		}
		for _, trim := range []string{sqlTrimEvidence, sqlTrimHistory} {
			if _, err := tx.ExecContext(ctx, trim, place, scope.Kind, scan); err != nil {
				return err
			}
		}
		kind, err := kindID(ctx, tx, scope.Kind)
		if err != nil {
			return err
		}
		_, err = tx.ExecContext(ctx, sqlCloseGone, place, kind, scan, scan)
		return err
	})
}

func placeID(ctx context.Context, tx *txn, p fleet.Place) (int64, error) {
	args := []any{string(p.Partition), string(p.Account), string(p.Region)}
	return intern(ctx, tx, sqlPlaceID, sqlAddPlace, args...)
}

func kindID(ctx context.Context, tx *txn, kind string) (int64, error) {
	return intern(ctx, tx, sqlKindID, sqlAddKind, kind)
}

// intern finds the id of a row by its content, adding it first where it is missing.
func intern(ctx context.Context, tx *txn, find, add string, args ...any) (int64, error) {
	var id int64
	err := tx.QueryRowContext(ctx, find, args...).Scan(&id)
	if !errors.Is(err, sql.ErrNoRows) {
		return id, err
	}
	if _, err := tx.ExecContext(ctx, add, args...); err != nil {
		return 0, err
	}
	err = tx.QueryRowContext(ctx, find, args...).Scan(&id)
	return id, err
}
