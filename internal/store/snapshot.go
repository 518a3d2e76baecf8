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

// Places lists the places that were scanned, in order.
func (s *Store) Places(ctx context.Context) ([]fleet.Place, error) {
	var out []fleet.Place
	err := s.view(ctx, "list places", func(tx *txn) error {
		out = nil
		return query(ctx, tx, sqlPlaces, nil, func(rows *sql.Rows) error {
			var p fleet.Place
			if err := rows.Scan(&p.Partition, &p.Account, &p.Region); err != nil {
				return err
			}
			out = append(out, p)
			return nil
		})
	})
	return out, err
}

// Accounts lists the accounts, in order.
func (s *Store) Accounts(ctx context.Context) ([]inventory.Account, error) {
	var out []inventory.Account
	err := s.view(ctx, "list accounts", func(tx *txn) error {
		out = nil
		return query(ctx, tx, sqlAccounts, nil, func(rows *sql.Rows) error {
			a, err := scanAccount(rows)
			out = append(out, a)
			return err
		})
	})
	return out, err
}

func scanAccount(row interface{ Scan(...any) error }) (inventory.Account, error) {
	var a inventory.Account
	var tags []byte
	var units string
	if err := row.Scan(&a.Partition, &a.ID, &a.Name, &a.OU, &units, &a.Status, &tags); err != nil {
		return a, err
	}
	if units != "" {
		a.OUIDs = strings.Split(units, "/")
	}
	if err := json.Unmarshal(tags, &a.Tags); err != nil {
		return a, fmt.Errorf("tags of account %s: %w", a.ID, err)
	}
	return a, nil
}

// LastScan gives the scan that began last; false where there is none.
func (s *Store) LastScan(ctx context.Context) (Scan, bool, error) {
	var out Scan
	found := false
	err := s.view(ctx, "read the last scan", func(tx *txn) error {
		found = false
		return query(ctx, tx, sqlLastScan, nil, func(rows *sql.Rows) (err error) {
			out, err = scanScan(rows)
			found = true
			return err
		})
	})
	return out, found, err
}

// Scans lists the scans from the id since on, oldest first.
func (s *Store) Scans(ctx context.Context, since int64) ([]Scan, error) {
	var out []Scan
	err := s.view(ctx, "list scans", func(tx *txn) error {
		out = nil
		return query(ctx, tx, sqlScans, []any{since}, func(rows *sql.Rows) error {
			sc, err := scanScan(rows)
			out = append(out, sc)
			return err
		})
	})
	return out, err
}

func scanScan(rows *sql.Rows) (Scan, error) {
	var sc Scan
	var started, finished string
	var window int64
	var stats []byte
	if err := rows.Scan(&sc.ID, &started, &finished, &sc.Status, &sc.Tool, &sc.Config, &window, &stats); err != nil {
		return sc, err
	}
	sc.Window, sc.Stats = time.Duration(window)*time.Second, stats
	var err1, err2 error
	sc.Started, err1 = unstamp(started)
	sc.Finished, err2 = unstamp(finished)
	return sc, errors.Join(err1, err2)
}

// Snapshot reads everything that is known of a place now, in one consistent state: resources that were seen and not found
// gone, the last scope of each kind, and the account. Resources with equal documents share their maps: they are for reading.
// A place that was never scanned gives an empty snapshot.
func (s *Store) Snapshot(ctx context.Context, place fleet.Place) (*inventory.Snapshot, error) {
	var snap *inventory.Snapshot
	err := s.view(ctx, "read "+place.String(), func(tx *txn) error {
		snap = &inventory.Snapshot{Place: place, Account: inventory.Account{Partition: place.Partition, ID: place.Account}}
		id, ok, err := findPlace(ctx, tx, place)
		if err != nil || !ok {
			return err
		}
		account, err := scanAccount(tx.QueryRowContext(ctx, sqlAccount, string(place.Partition), string(place.Account)))
		switch {
		case err == nil:
			snap.Account = account
		case !errors.Is(err, sql.ErrNoRows):
			return err
		}
		if err := readScopes(ctx, tx, id, snap); err != nil {
			return err
		}
		return readResources(ctx, tx, id, snap)
	})
	if err != nil {
		return nil, err
	}
	slices.SortFunc(snap.Resources, func(a, b inventory.Resource) int { return a.Ref.Compare(b.Ref) })
	return snap, nil
}

func findPlace(ctx context.Context, tx *txn, p fleet.Place) (int64, bool, error) {
	var id int64
	err := tx.QueryRowContext(ctx, sqlPlaceID, string(p.Partition), string(p.Account), string(p.Region)).Scan(&id)
	if errors.Is(err, sql.ErrNoRows) {
		return 0, false, nil
	}
	return id, err == nil, err
}

func readScopes(ctx context.Context, tx *txn, place int64, snap *inventory.Snapshot) error {
	return query(ctx, tx, sqlScopes, []any{place}, func(rows *sql.Rows) error {
		sc := inventory.Scope{Place: snap.Place}
		var at string
		var scan int64
		if err := rows.Scan(&sc.Kind, &sc.Status, &sc.Class, &sc.Detail, &sc.Resources, &at, &scan); err != nil {
			return err
		}
		var err error
		if sc.At, err = unstamp(at); err != nil {
			return err
		}
		snap.Scopes = append(snap.Scopes, sc)
		snap.Scan = max(snap.Scan, scan)
		if sc.At.After(snap.Taken) {
			snap.Taken = sc.At
		}
		return nil
	})
}

func readResources(ctx context.Context, tx *txn, place int64, snap *inventory.Snapshot) error {
	type parts struct {
		doc   *document
		links []inventory.Link
	}
	known := map[int64]parts{}
	var dec decoder
	return query(ctx, tx, sqlSnapshot, []any{place}, func(rows *sql.Rows) error {
		r := inventory.Resource{Ref: fleet.Ref{Place: snap.Place}}
		var seen, launched, id int64
		var body sql.RawBytes
		if err := rows.Scan(&r.Ref.Kind, &r.Ref.ID, &seen, &r.Status, &launched, &id, &body); err != nil {
			return err
		}
		p, ok := known[id]
		if !ok {
			var err error
			if p.doc, err = dec.unpack(body); err != nil {
				return fmt.Errorf("%s: %w", r.Ref, err)
			}
			if p.links, err = p.doc.links(snap.Place); err != nil {
				return fmt.Errorf("%s: %w", r.Ref, err)
			}
			if p.doc.State == nil {
				p.doc.State = fleet.State{}
			}
			known[id] = p
		}
		r.Launched = fromMilliseconds(launched)
		p.doc.fill(&r, p.links)
		snap.Resources = append(snap.Resources, r)
		return nil
	})
}

func (d *document) fill(r *inventory.Resource, links []inventory.Link) {
	r.Name, r.State, r.Launch, r.Tags = d.Name, d.State, d.Launch, d.Tags
	r.Claims = d.Claims
	r.Owner, r.Links, r.Attrs, r.Settling, r.Says = d.Owner, links, d.Attrs, d.Settling, d.Says
}

// Stale is a resource that is still taken to exist although the last reading of its kind did not see it, because that
// reading was not complete.
type Stale struct {
	Ref  fleet.Ref
	Seen time.Time // when the scan began that saw it last
}

// Stale lists what a snapshot of the place knows only from an earlier scan, in order.
func (s *Store) Stale(ctx context.Context, place fleet.Place) ([]Stale, error) {
	var out []Stale
	err := s.view(ctx, "read "+place.String(), func(tx *txn) error {
		out = nil
		id, ok, err := findPlace(ctx, tx, place)
		if err != nil || !ok {
			return err
		}
		return query(ctx, tx, sqlStale, []any{id}, func(rows *sql.Rows) error {
			st := Stale{Ref: fleet.Ref{Place: place}}
			var seen string
			if err := rows.Scan(&st.Ref.Kind, &st.Ref.ID, &seen); err != nil {
				return err
			}
			var err error
			st.Seen, err = unstamp(seen)
			out = append(out, st)
			return err
		})
	})
	return out, err
}
