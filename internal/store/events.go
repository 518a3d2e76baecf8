package store

import (
	"context"
	"crypto/sha256"
	"database/sql"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"math"
	"time"
)

// Event is one entry of the journal: what happened, to what, when, on whose word. The events of a lane, and those of the
// rollout itself, form chains: each carries the hash of the one before.
type Event struct {
	ID      int64  `json:"id"` // grows through all events of the database
	Rollout string `json:"rollout"`
	// Chain is the lane's place, or "" for the rollout itself; Seq counts from 1 within it.
	Chain string    `json:"chain"`
	Seq   int64     `json:"seq"`
	At    time.Time `json:"at"`
	// Name is the machine's event ("start", "gate-failed", "pause", …), "begin", "approve", "approve-wave", "intent",
	// "outcome", "undo-asked", "stop", "allow", "manual-done", "manual-failed", or what was noted.
	Name   string            `json:"event"`
	Stack  string            `json:"stack,omitempty"`
	Change string            `json:"change,omitempty"`
	Actor  string            `json:"actor,omitempty"` // "" is imdsctl itself
	Reason string            `json:"reason,omitempty"`
	Detail map[string]string `json:"detail,omitempty"`
	Prev   string            `json:"prev_hash"` // hexadecimal; of the chain's first event ""
	Hash   string            `json:"hash"`
}

// link computes the hash of the event: SHA-256 over the canonical JSON of everything but its id and the hash itself, the
// hash before it included. Whoever has exported events can compute it again.
func (e Event) link() ([]byte, error) {
	b, err := json.Marshal(struct {
		Prev    string            `json:"prev_hash"`
		Rollout string            `json:"rollout"`
		Chain   string            `json:"chain"`
		Seq     int64             `json:"seq"`
		At      string            `json:"at"`
		Name    string            `json:"event"`
		Stack   string            `json:"stack"`
		Change  string            `json:"change"`
		Actor   string            `json:"actor"`
		Reason  string            `json:"reason"`
		Detail  map[string]string `json:"detail"`
	}{e.Prev, e.Rollout, e.Chain, e.Seq, stamp(e.At), e.Name, e.Stack, e.Change, e.Actor, e.Reason, e.Detail})
	if err != nil {
		return nil, fmt.Errorf("event %s: %w", e.Name, err)
	}
	sum := sha256.Sum256(b)
	return sum[:], nil
}

// appendEvent adds an event to its chain, within the transaction of what it tells of.
func appendEvent(ctx context.Context, tx *txn, e Event) error {
	if err := tx.writesEvents(ctx); err != nil {
		return err
	}
	prev, err := e.follow(ctx, tx)
	if err != nil {
		return err
	}
	e.tidy()
	hash, err := e.link()
	if err != nil {
		return err
	}
	detail, err := jsonOrEmpty(e.Detail)
	if err != nil {
		return err
	}
	_, err = tx.ExecContext(ctx, sqlAddEvent, e.Rollout, e.Chain, e.Seq, stamp(e.At), e.Name, e.Stack, e.Change, e.Actor, e.Reason,
		detail, prev, hash)
	if err != nil {
		return err
	}
	return one(tx.ExecContext(ctx, sqlSetHead, e.Rollout, e.Chain, e.Seq, hash))
}

// tidy leaves only what comes back from the database, and from a file of exported events, as it went in: the hash is over it.
func (e *Event) tidy() {
	e.Name, e.Actor, e.Reason = words(e.Name), words(e.Actor), words(e.Reason)
	var detail map[string]string
	for k, v := range e.Detail {
		if detail == nil {
			detail = make(map[string]string, len(e.Detail))
		}
		detail[words(k)] = words(v)
	}
	e.Detail = detail
}

// follow takes hold of the end of the event's chain, and makes the event the next of it.
func (e *Event) follow(ctx context.Context, tx *txn) (prev []byte, err error) {
	read := func() error {
		return tx.QueryRowContext(ctx, sqlHead+tx.forUpdate(), e.Rollout, e.Chain).Scan(&e.Seq, &prev)
	}
	if err = read(); errors.Is(err, sql.ErrNoRows) {
		if _, err = tx.ExecContext(ctx, sqlAddHead, e.Rollout, e.Chain, []byte{}); err == nil {
			err = read()
		}
	}
	if prev == nil {
		prev = []byte{} // which SQLite gives as nil
	}
	e.Seq++
	e.Prev = hex.EncodeToString(prev)
	return prev, err
}

// eventsAtOnce bounds how long a reader of events keeps the database's log from being folded in.
const eventsAtOnce = 1000

// Events reads the events of a rollout ("" for all) whose id is above since, oldest first. Breaking off is fine; after an
// error there is nothing more.
func (s *Store) Events(ctx context.Context, rollout string, since int64) iter.Seq2[Event, error] {
	return func(yield func(Event, error) bool) {
		last, err := s.lastEvent(ctx)
		if err != nil {
			yield(Event{}, err)
			return
		}
		for {
			var page []Event
			err := s.view(ctx, "read events", func(tx *txn) error {
				page = nil
				return query(ctx, tx, sqlEvents, []any{rollout, since, last, eventsAtOnce}, func(rows *sql.Rows) error {
					e, err := scanEvent(rows)
					page = append(page, e)
					return err
				})
			})
			if err != nil {
				yield(Event{}, err)
				return
			}
			for _, e := range page {
				if !yield(e, nil) {
					return
				}
				since = e.ID
			}
			if len(page) < eventsAtOnce {
				return
			}
		}
	}
}

// lastEvent gives the number up to which all events are there to be read. On PostgreSQL an event may be committed before
// one with a lower number; who goes on from the last event seen would never see that one.
func (s *Store) lastEvent(ctx context.Context) (int64, error) {
	if s.pg == nil {
		return math.MaxInt64, nil
	}
	var last int64
	err := s.journal(ctx, "count events", "", func(tx *txn) error {
		if err := tx.alone(ctx); err != nil {
			return err
		}
		return tx.QueryRowContext(ctx, sqlLastEvent).Scan(&last)
	})
	return last, err
}

func scanEvent(rows *sql.Rows) (Event, error) {
	var e Event
	var at string
	var detail, prev, hash sql.RawBytes
	err := rows.Scan(&e.ID, &e.Rollout, &e.Chain, &e.Seq, &at, &e.Name, &e.Stack, &e.Change, &e.Actor, &e.Reason, &detail, &prev, &hash)
	if err != nil {
		return e, err
	}
	e.Prev, e.Hash = hex.EncodeToString(prev), hex.EncodeToString(hash)
	if len(detail) > 0 {
		if err := json.Unmarshal(detail, &e.Detail); err != nil {
			return e, fmt.Errorf("detail of event %d: %w", e.ID, err)
		}
	}
	e.At, err = unstamp(at)
	return e, err
}
