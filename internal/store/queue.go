package store

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/imdsctl/imdsctl/internal/engine"
	"github.com/imdsctl/imdsctl/internal/fleet"
	"github.com/imdsctl/imdsctl/internal/plan"
)

var _ engine.Queue = queue{}

// Queue is the store as a queue of orders.
func (s *Store) Queue() engine.Queue { return queue{s} }

// queue is apart from the store because both can be closed.
type queue struct{ *Store }

// Close implements engine.Queue.
func (q queue) Close(ctx context.Context, lane engine.Lease, place fleet.Place, reports []engine.Report, _ time.Time) error {
	if len(reports) == 0 {
		return nil
	}
	return q.closeOrders(ctx, lane, place, reports)
}

// Post implements engine.Queue. Somebody comes to work through Options.Dispatch.
func (s *Store) Post(ctx context.Context, id string, seat engine.Lease, orders []engine.Order, _ time.Time) error {
	if len(orders) == 0 {
		return nil
	}
	return s.journal(ctx, fmt.Sprintf("post %d orders of rollout %s", len(orders), id), "post", func(tx *txn) error {
		if err := holdsLease(ctx, tx, seat, engine.SeatKey(id)); err != nil {
			return err
		}
		var places []fleet.Place
		for chunk := range slices.Chunk(orders, batch) {
			posted, err := post(ctx, tx, id, chunk)
			if err != nil {
				return err
			}
			places = append(places, posted...)
		}
		return s.dispatch(ctx, tx, places)
	})
}

// post adds orders and gives the places of those that were added.
func post(ctx context.Context, tx *txn, id string, orders []engine.Order) ([]fleet.Place, error) {
	bySubject := map[string]fleet.Place{}
	var args []any
	for i := range orders {
		o := &orders[i]
		if o.Rollout != id || o.Subject == "" {
			return nil, fmt.Errorf("order %q is of rollout %q, not of %s", o.Subject, o.Rollout, id)
		}
		if _, twice := bySubject[o.Subject]; twice {
			continue
		}
		body, err := json.Marshal(o)
		if err != nil {
			return nil, fmt.Errorf("order %s: %w", o.Subject, err)
		}
		bySubject[o.Subject] = o.Place
		args = append(args, id, o.Subject, o.Place.String(), string(body), 0, 0, "")
	}
	var out []fleet.Place
	statement := sqlPost + tuples(len(bySubject), 7) + ` ON CONFLICT (rollout, subject) DO NOTHING RETURNING subject`
	err := query(ctx, tx, statement, args, func(rows *sql.Rows) error {
		var subject string
		err := rows.Scan(&subject)
		out = append(out, bySubject[subject])
		return err
	})
	return out, err
}

// dispatch has somebody come to work in the places, if the store knows how.
func (s *Store) dispatch(ctx context.Context, tx *txn, places []fleet.Place) error {
	slices.SortFunc(places, fleet.Place.Compare)
	places = slices.Compact(places)
	if s.call == nil || tx.conn == nil || len(places) == 0 {
		return nil
	}
	if err := s.call(tx.context(ctx), &borrowed{conn: tx.conn}, places); err != nil {
		return fmt.Errorf("have somebody come to work in %d places: %w", len(places), err)
	}
	return nil
}

// Outstanding implements engine.Queue.
func (s *Store) Outstanding(ctx context.Context, id string, _ time.Time) ([]engine.Order, error) {
	var out []engine.Order
	read := func(tx *txn) error {
		out = nil
		var waiting []fleet.Place
		err := query(ctx, tx, sqlOutstanding, []any{id}, func(rows *sql.Rows) error {
			var body []byte
			var closed bool
			if err := rows.Scan(&body, &closed); err != nil {
				return err
			}
			var o engine.Order
			if err := json.Unmarshal(body, &o); err != nil {
				return fmt.Errorf("an order: %w", err)
			}
			out = append(out, o)
			if !closed {
				waiting = append(waiting, o.Place)
			}
			return nil
		})
		if err != nil {
			return err
		}
		return s.dispatch(ctx, tx, waiting)
	}
	what := "read the orders of rollout " + id
	var err error
	if s.call == nil {
		err = s.view(ctx, what, read)
	} else {
		err = s.journal(ctx, what, "outstanding", read)
	}
	if err != nil {
		return nil, err
	}
	return out, nil
}

// Take implements engine.Queue.
func (s *Store) Take(ctx context.Context, lane engine.Lease, place fleet.Place, n int, _ time.Time) ([]engine.Task, error) {
	var out []engine.Task
	err := s.journal(ctx, "take orders for "+place.String(), "take", func(tx *txn) error {
		out = nil
		if err := holdsLease(ctx, tx, lane, engine.LaneKey(place)); err != nil {
			return err
		}
		var ids []any
		err := query(ctx, tx, sqlTake, []any{place.String(), lane.Epoch, n}, func(rows *sql.Rows) error {
			id, task, err := scanTask(rows)
			ids, out = append(ids, id), append(out, task)
			return err
		})
		if err != nil {
			return err
		}
		for chunk := range slices.Chunk(ids, batch) {
			if _, err := tx.ExecContext(ctx, sqlTaken+list(len(chunk)), append([]any{lane.Epoch}, chunk...)...); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return out, nil
}

func scanTask(rows *sql.Rows) (id int64, t engine.Task, err error) {
	var order, change []byte
	var st stateRow
	if err := rows.Scan(append([]any{&id, &order, &change}, st.columns()...)...); err != nil {
		return 0, t, err
	}
	if err := json.Unmarshal(order, &t.Order); err != nil {
		return 0, t, fmt.Errorf("order %d: %w", id, err)
	}
	if change != nil {
		t.Change = &plan.Change{}
		if err := json.Unmarshal(change, t.Change); err != nil {
			return 0, t, fmt.Errorf("change %s: %w", t.Subject, err)
		}
	}
	t.State, err = st.state()
	return id, t, err
}

// closeOrders closes orders; one that is closed already stays as it was closed.
func (s *Store) closeOrders(ctx context.Context, lane engine.Lease, place fleet.Place, reports []engine.Report) error {
	return s.journal(ctx, fmt.Sprintf("close %d orders of %s", len(reports), place), "close", func(tx *txn) error {
		if err := holdsLease(ctx, tx, lane, engine.LaneKey(place)); err != nil {
			return err
		}
		for _, r := range reports {
			body, err := json.Marshal(r)
			if err != nil {
				return fmt.Errorf("report of %s: %w", r.Subject, err)
			}
			err = one(tx.ExecContext(ctx, sqlClose, r.Rollout, r.Subject, place.String(), string(body)))
			if errors.Is(err, errNoRow) {
				err = isOrdered(ctx, tx, r, place)
			}
			if err != nil {
				return err
			}
		}
		return nil
	})
}

func isOrdered(ctx context.Context, tx *txn, r engine.Report, place fleet.Place) error {
	var n int
	if err := tx.QueryRowContext(ctx, sqlOrdered, r.Rollout, r.Subject, place.String()).Scan(&n); err != nil {
		return err
	}
	if n == 0 {
		return fmt.Errorf("there is no order %s of rollout %s in %s to close", r.Subject, r.Rollout, place)
	}
	return nil
}

// Collect implements engine.Queue. Reports that were taken out and got lost with the process are made up for by whoever
// coordinates next: what became of changes is in their states, and a gate's reading is asked for again.
func (s *Store) Collect(ctx context.Context, id string, seat engine.Lease, _ time.Time) ([]engine.Report, error) {
	var out []engine.Report
	err := s.journal(ctx, "collect the reports of rollout "+id, "collect", func(tx *txn) error {
		out = nil
		if err := holdsLease(ctx, tx, seat, engine.SeatKey(id)); err != nil {
			return err
		}
		var ids []any
		err := query(ctx, tx, sqlClosed, []any{id}, func(rows *sql.Rows) error {
			var order int64
			var body []byte
			var st stateRow
			if err := rows.Scan(append([]any{&order, &body}, st.columns()...)...); err != nil {
				return err
			}
			var r engine.Report
			if err := json.Unmarshal(body, &r); err != nil {
				return fmt.Errorf("report %d: %w", order, err)
			}
			var err error
			r.State, err = st.state()
			ids, out = append(ids, order), append(out, r)
			return err
		})
		if err != nil {
			return err
		}
		for chunk := range slices.Chunk(ids, batch) {
			if _, err := tx.ExecContext(ctx, sqlCollected+list(len(chunk)), chunk...); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return out, nil
}
