package store

import (
	"context"
	"database/sql"
	"fmt"
	"iter"
	"maps"
	"slices"
	"strconv"
	"time"

	"github.com/imdsctl/imdsctl/internal/assess"
	"github.com/imdsctl/imdsctl/internal/fleet"
)

// ChangeKind tells what happened to a resource between two scans.
type ChangeKind string

// Kinds of change.
const (
	Appeared ChangeKind = "appeared"
	Changed  ChangeKind = "changed"
	Gone     ChangeKind = "gone"
)

// Change is what one scan found different of one resource.
type Change struct {
	Ref  fleet.Ref
	Scan int64
	At   time.Time // when that scan began
	Kind ChangeKind
	// Fields are the differences. A field of the state has its own name; "status", "launched", "name", "owner" and "settling"
	// are the resource's, "tag:X", "attr:X", "link:…" and "launch:…" what the name says.
	Fields []fleet.FieldChange
}

// ChangeFilter chooses changes of one place.
type ChangeFilter struct {
	Place fleet.Place
	// Ref chooses one resource (of the place); zero is all.
	Ref fleet.Ref
	// Since is the first scan to look at; 0 is all.
	Since int64
}

// Changes reads the history of a place or of one resource, resource by resource and in time within each. Breaking off is
// fine; after an error there is nothing more.
func (s *Store) Changes(ctx context.Context, f ChangeFilter) iter.Seq2[Change, error] {
	place := f.Place
	if !f.Ref.IsZero() {
		place = f.Ref.Place
	}
	return func(yield func(Change, error) bool) {
		stopped := false
		err := s.stream(ctx, "read the history of "+place.String(), func(tx *txn) error {
			id, ok, err := findPlace(ctx, tx, place)
			if err != nil || !ok {
				return err
			}
			at, err := scanTimes(ctx, tx)
			if err != nil {
				return err
			}
			rows, err := tx.QueryContext(ctx, sqlHistory, id, f.Ref.ID, f.Ref.Kind)
			if err != nil {
				return err
			}
			defer rows.Close()
			h := historian{since: f.Since, at: at, emit: func(c Change) bool { stopped = !yield(c, nil); return !stopped }}
			for !stopped && rows.Next() {
				v, err := scanVersion(rows, place, &h.dec)
				if err != nil {
					return err
				}
				h.next(v)
			}
			if !stopped {
				h.next(nil)
			}
			return rows.Err()
		})
		if err != nil && !stopped {
			yield(Change{}, err)
		}
	}
}

func scanTimes(ctx context.Context, tx *txn) (map[int64]time.Time, error) {
	at := map[int64]time.Time{}
	err := query(ctx, tx, sqlScans, []any{0}, func(rows *sql.Rows) error {
		sc, err := scanScan(rows)
		at[sc.ID] = sc.Started
		return err
	})
	return at, err
}

// version is one row of a resource's history.
type version struct {
	ref      fleet.Ref
	resource int64
	from, to int64 // scans; to is 0 while it lasts
	fields   fleet.State
}

func scanVersion(rows *sql.Rows, place fleet.Place, dec *decoder) (*version, error) {
	v := &version{ref: fleet.Ref{Place: place}}
	var status string
	var launched int64
	var body sql.RawBytes
	if err := rows.Scan(&v.ref.Kind, &v.ref.ID, &v.resource, &v.from, &v.to, &status, &launched, &body); err != nil {
		return nil, err
	}
	doc, err := dec.unpack(body)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", v.ref, err)
	}
	v.fields = doc.flatten()
	if status != "" {
		v.fields["status"] = status
	}
	if launched != 0 {
		v.fields["launched"] = fromMilliseconds(launched).Format(time.RFC3339)
	}
	return v, nil
}

// flatten names every part of a document, so that two can be compared field by field.
func (d *document) flatten() fleet.State {
	out := d.State.Clone()
	put := func(field, value string) {
		if value != "" {
			out[field] = value
		}
	}
	put("name", d.Name)
	put("owner", d.Owner.String())
	if d.Owner.Managed {
		out["owner-managed"] = "true"
	}
	for _, c := range d.Claims {
		out["claim:"+c.String()] = "true"
	}
	if d.Settling {
		out["settling"] = "true"
	}
	for k, v := range d.Tags {
		out["tag:"+k] = v
	}
	for k, v := range d.Attrs {
		out["attr:"+k] = v
	}
	for i, l := range d.Links {
		out["link:"+strconv.Itoa(i)] = string(l.Relation) + " " + l.To + " " + l.Selector + " " + l.Field
	}
	for selector, options := range d.Launch {
		for k, v := range options.State() {
			out["launch:"+selector+"."+k] = v
		}
	}
	return out
}

// historian turns consecutive versions into changes.
type historian struct {
	since int64
	at    map[int64]time.Time
	dec   decoder
	emit  func(Change) bool
	prev  *version
}

// next takes the following version, or nil at the end.
func (h *historian) next(v *version) {
	prev := h.prev
	h.prev = v
	follows := prev != nil && v != nil && prev.resource == v.resource && prev.to == v.from
	if prev != nil && !follows && prev.to != 0 && !h.send(prev.ref, prev.to, Gone, prev.fields, nil) {
		return
	}
	switch {
	case v == nil:
	case follows:
		h.send(v.ref, v.from, Changed, prev.fields, v.fields)
	default:
		h.send(v.ref, v.from, Appeared, nil, v.fields)
	}
}

func (h *historian) send(ref fleet.Ref, scan int64, kind ChangeKind, before, after fleet.State) bool {
	fields := fleet.Diff(before, after)
	if scan < h.since || (kind == Changed && len(fields) == 0) {
		return true
	}
	return h.emit(Change{Ref: ref, Scan: scan, At: h.at[scan], Kind: kind, Fields: fields})
}

// PostureDay counts the verdicts of one place on one day.
type PostureDay struct {
	Day    time.Time // midnight, UTC
	Place  fleet.Place
	Counts map[assess.Status]int
}

const dayLayout = "2006-01-02"

// PutPosture records the verdicts of a place on a day; the last of a day counts.
func (s *Store) PutPosture(ctx context.Context, days []PostureDay) error {
	return s.update(ctx, "store posture", func(tx *txn) error {
		for _, d := range days {
			place, err := placeID(ctx, tx, d.Place)
			if err != nil {
				return err
			}
			day := d.Day.UTC().Format(dayLayout)
			if _, err := tx.ExecContext(ctx, sqlDropPosture, day, place); err != nil {
				return err
			}
			for _, verdict := range slices.Sorted(maps.Keys(d.Counts)) {
				if _, err := tx.ExecContext(ctx, sqlPutPosture, day, place, string(verdict), d.Counts[verdict]); err != nil {
					return err
				}
			}
		}
		return nil
	})
}

// Posture reads the days from from to to, both included, by day and place. A day without a scan is not there.
func (s *Store) Posture(ctx context.Context, from, to time.Time) ([]PostureDay, error) {
	var out []PostureDay
	args := []any{from.UTC().Format(dayLayout), to.UTC().Format(dayLayout)}
	err := s.view(ctx, "read posture", func(tx *txn) error {
		out = nil
		return query(ctx, tx, sqlPosture, args, func(rows *sql.Rows) error {
			var day string
			var place fleet.Place
			var verdict assess.Status
			var n int
			if err := rows.Scan(&day, &place.Partition, &place.Account, &place.Region, &verdict, &n); err != nil {
				return err
			}
			at, err := time.Parse(dayLayout, day)
			if err != nil {
				return fmt.Errorf("day of posture: %w", err)
			}
			if last := len(out) - 1; last < 0 || !out[last].Day.Equal(at) || out[last].Place != place {
				out = append(out, PostureDay{Day: at, Place: place, Counts: map[assess.Status]int{}})
			}
			out[len(out)-1].Counts[verdict] = n
			return nil
		})
	})
	return out, err
}
