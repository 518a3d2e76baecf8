package store

import (
	"context"
	"database/sql"
	"fmt"
	"iter"
	"slices"
	"time"

	"github.com/imdsctl/imdsctl/internal/evidence"
	"github.com/imdsctl/imdsctl/internal/fleet"
)

// PutEvidence records windows that the scan read, in one transaction. Windows of one subject, source and metric replace each
// other within a scan. A subject need not be in the inventory.
func (s *Store) PutEvidence(ctx context.Context, scan int64, windows []*evidence.Window) error {
	return s.putWindows(ctx, scan, windows, false)
}

// PutHistory records windows of the long look back, as PutEvidence does those that verdicts rest on; the two never meet. Their
// scope is that of evidence.Source.History.
func (s *Store) PutHistory(ctx context.Context, scan int64, windows []*evidence.Window) error {
	return s.putWindows(ctx, scan, windows, true)
}

func (s *Store) putWindows(ctx context.Context, scan int64, windows []*evidence.Window, history bool) error {
	if len(windows) == 0 {
		return nil
	}
	return s.update(ctx, fmt.Sprintf("store %d evidence windows", len(windows)), func(tx *txn) error {
		w := &windowWriter{tx: tx, scan: scan, history: history, spans: map[evidence.Span]int64{}, metrics: map[evidence.Metric]int64{}}
		for _, group := range groupBySubjects(windows) {
			for chunk := range slices.Chunk(group, batch) {
				if err := w.chunk(ctx, chunk); err != nil {
					return err
				}
			}
		}
		return nil
	})
}

// groupBySubjects brings windows of one place and kind together. Of two for the same thing, the last counts.
func groupBySubjects(windows []*evidence.Window) [][]*evidence.Window {
	type home struct {
		place fleet.Place
		kind  string
	}
	type key struct {
		subject fleet.Ref
		source  evidence.Source
		metric  evidence.Metric
	}
	at := map[home]int{}
	where := make(map[key][2]int, len(windows))
	var out [][]*evidence.Window
	for _, w := range windows {
		h := home{w.Subject.Place, w.Subject.Kind}
		g, ok := at[h]
		if !ok {
			g = len(out)
			at[h] = g
			out = append(out, nil)
		}
		k := key{w.Subject, w.Source, w.Metric}
		if i, twice := where[k]; twice {
			out[i[0]][i[1]] = w
			continue
		}
		where[k] = [2]int{g, len(out[g])}
		out[g] = append(out[g], w)
	}
	return out
}

type windowWriter struct {
	tx      *txn
	scan    int64
	history bool
	spans   map[evidence.Span]int64
	metrics map[evidence.Metric]int64
}

// chunk writes windows whose subjects share a place and a kind.
func (w *windowWriter) chunk(ctx context.Context, chunk []*evidence.Window) error {
	subject := chunk[0].Subject
	place, err := placeID(ctx, w.tx, subject.Place)
	if err != nil {
		return err
	}
	kind, err := kindID(ctx, w.tx, subject.Kind)
	if err != nil {
		return err
	}
	ids, err := w.subjects(ctx, place, kind, chunk)
	if err != nil {
		return err
	}
	into := sqlPutEvidence
	if w.history {
		into = sqlPutHistory
	}
	args := make([]any, 0, len(chunk)*9)
	for _, win := range chunk {
		metric, err := w.metric(ctx, win.Metric)
		if err != nil {
			return err
		}
		span, err := w.span(ctx, win.Span)
		if err != nil {
			return err
		}
		last, data := -1, []byte{}
		if n := len(win.Points); n > 0 {
			last = win.Points[n-1].Slot
		}
		if win.Covered.Count() > 0 {
			data = win.Pack()
		}
		source := win.Source
		if w.history {
			source = source.History()
		}
		args = append(args, place, string(source), w.scan, ids[win.Subject.ID], metric, span, win.Total, last, data)
	}
	_, err = w.tx.ExecContext(ctx, into+tuples(len(chunk), 9)+
		` ON CONFLICT (place, source, scan, resource, metric) DO UPDATE SET span = excluded.span, total = excluded.total,
		last = excluded.last, data = excluded.data`, args...)
	return err
}

// subjects gives the ids of the chunk's subjects; one that no scan has listed gets an id and no version.
func (w *windowWriter) subjects(ctx context.Context, place, kind int64, chunk []*evidence.Window) (map[string]int64, error) {
	args := []any{place, kind}
	ids := map[string]int64{}
	for _, win := range chunk {
		if _, ok := ids[win.Subject.ID]; !ok {
			ids[win.Subject.ID] = 0
			args = append(args, win.Subject.ID)
		}
	}
	err := query(ctx, w.tx, sqlResourceIDs+list(len(args)-2), args, func(rows *sql.Rows) error {
		var name string
		var id int64
		if err := rows.Scan(&name, &id); err != nil {
			return err
		}
		ids[name] = id
		return nil
	})
	if err != nil {
		return nil, err
	}
	var missing []*sighting
	for name, id := range ids {
		if id == 0 {
			missing = append(missing, &sighting{name: name})
		}
	}
	// Seen by scan 0: evidence of it is not a sighting.
	if err := addResources(ctx, w.tx, place, kind, 0, missing); err != nil {
		return nil, err
	}
	for _, m := range missing {
		ids[m.name] = m.id
	}
	return ids, nil
}

func (w *windowWriter) span(ctx context.Context, sp evidence.Span) (id int64, err error) {
	sp.Start = sp.Start.UTC()
	if id, ok := w.spans[sp]; ok {
		return id, nil
	}
	id, err = intern(ctx, w.tx, sqlSpanID, sqlAddSpan, sp.Start.Unix(), int64(sp.Period), sp.Slots)
	w.spans[sp] = id
	return id, err
}

func (w *windowWriter) metric(ctx context.Context, m evidence.Metric) (id int64, err error) {
	if id, ok := w.metrics[m]; ok {
		return id, nil
	}
	id, err = intern(ctx, w.tx, sqlMetricID, sqlAddMetric, string(m))
	w.metrics[m] = id
	return id, err
}

// Evidence reads the windows of a place, each source's from one scan: the last that closed the source's scope, or the last
// with windows of it where none did. Older windows are never mixed in. Each window is the caller's own. Breaking off is fine;
// after an error there is nothing more.
func (s *Store) Evidence(ctx context.Context, place fleet.Place) iter.Seq2[*evidence.Window, error] {
	return s.windows(ctx, place, sqlEvidence)
}

func (s *Store) windows(ctx context.Context, place fleet.Place, statement string) iter.Seq2[*evidence.Window, error] {
	return func(yield func(*evidence.Window, error) bool) {
		stopped := false
		err := s.stream(ctx, "read evidence of "+place.String(), func(tx *txn) error {
			id, ok, err := findPlace(ctx, tx, place)
			if err != nil || !ok {
				return err
			}
			rows, err := tx.QueryContext(ctx, statement, id)
			if err != nil {
				return err
			}
			defer rows.Close()
			for !stopped && rows.Next() {
				w, err := scanWindow(rows, place)
				if err != nil {
					return err
				}
				stopped = !yield(w, nil)
			}
			return rows.Err()
		})
		if err != nil && !stopped {
			yield(nil, err)
		}
	}
}

func scanWindow(rows *sql.Rows, place fleet.Place) (*evidence.Window, error) {
	subject := fleet.Ref{Place: place}
	var source evidence.Source
	var metric evidence.Metric
	var start, period int64
	var slots int
	var data sql.RawBytes
	if err := rows.Scan(&subject.Kind, &subject.ID, &source, &metric, &start, &period, &slots, &data); err != nil {
		return nil, err
	}
	source = source.Present()
	span := evidence.Span{Start: time.Unix(start, 0).UTC(), Period: time.Duration(period), Slots: slots}
	w := evidence.NewWindow(subject, source, metric, span)
	if len(data) == 0 {
		return w, nil
	}
	return w, w.Unpack(data)
}

// EvidenceOf gathers the windows of a place by subject, in the order of Evidence.
func (s *Store) EvidenceOf(ctx context.Context, place fleet.Place) (map[fleet.Ref][]*evidence.Window, error) {
	return gather(s.Evidence(ctx, place))
}

// HistoryOf gathers the windows of the long look back in the same way.
func (s *Store) HistoryOf(ctx context.Context, place fleet.Place) (map[fleet.Ref][]*evidence.Window, error) {
	return gather(s.windows(ctx, place, sqlLookBack))
}

func gather(windows iter.Seq2[*evidence.Window, error]) (map[fleet.Ref][]*evidence.Window, error) {
	out := map[fleet.Ref][]*evidence.Window{}
	for w, err := range windows {
		if err != nil {
			return nil, err
		}
		out[w.Subject] = append(out[w.Subject], w)
	}
	return out, nil
}
