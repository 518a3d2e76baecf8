package store

import (
	"bytes"
	"context"
	"crypto/sha256"
	"database/sql"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
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
	// Name is the machine's event ("start", "gate-failed", "pause", …), "begin", "approve", "intent", "outcome",
	// "undo-asked", or what was noted.
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
func appendEvent(ctx context.Context, tx *sql.Tx, e Event) error {
	var prev []byte
	err := tx.QueryRowContext(ctx, sqlHead, e.Rollout, e.Chain).Scan(&e.Seq, &prev)
	if err != nil && !errors.Is(err, sql.ErrNoRows) {
		return err
	}
	e.Seq++
	e.Prev = hex.EncodeToString(prev)
	if len(e.Detail) == 0 {
		e.Detail = nil
	}
	hash, err := e.link()
	if err != nil {
		return err
	}
	detail, err := jsonOrEmpty(e.Detail)
	if err != nil {
		return err
	}
	if prev == nil {
		prev = []byte{}
	}
	_, err = tx.ExecContext(ctx, sqlAddEvent, e.Rollout, e.Chain, e.Seq, stamp(e.At), e.Name, e.Stack, e.Change, e.Actor, e.Reason,
		detail, prev, hash)
	if err != nil {
		return err
	}
	_, err = tx.ExecContext(ctx, sqlSetHead, e.Rollout, e.Chain, e.Seq, hash)
	return err
}

// eventsAtOnce bounds how long a reader of events keeps the database's log from being folded in.
const eventsAtOnce = 1000

// Events reads the events of a rollout ("" for all) whose id is above since, oldest first. Breaking off is fine; after an
// error there is nothing more.
func (s *Store) Events(ctx context.Context, rollout string, since int64) iter.Seq2[Event, error] {
	return func(yield func(Event, error) bool) {
		for {
			var page []Event
			err := s.view(ctx, "read events", func(tx *sql.Tx) error {
				return query(ctx, tx, sqlEvents, []any{rollout, since, eventsAtOnce}, func(rows *sql.Rows) error {
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

// Break is the first place where a chain of events does not hold.
type Break struct {
	Rollout string
	Chain   string
	Seq     int64
	Problem string
}

func (b *Break) String() string {
	chain := b.Chain
	if chain == "" {
		chain = "the rollout itself"
	}
	return fmt.Sprintf("the journal of rollout %s was altered: event %d of %s %s", b.Rollout, b.Seq, chain, b.Problem)
}

// VerifyChain follows all chains from their first event to their last and reports the first link that is broken: altered,
// left out, added or cut off; nil where all hold.
func (s *Store) VerifyChain(ctx context.Context) (*Break, error) {
	var broken *Break
	err := s.view(ctx, "verify the journal", func(tx *sql.Tx) error {
		type chain struct{ rollout, chain string }
		type head struct {
			seq  int64
			hash []byte
		}
		heads := map[chain]head{}
		err := query(ctx, tx, sqlHeads, nil, func(rows *sql.Rows) error {
			var c chain
			var h head
			err := rows.Scan(&c.rollout, &c.chain, &h.seq, &h.hash)
			heads[c] = h
			return err
		})
		if err != nil {
			return err
		}
		ends := map[chain]head{}
		err = query(ctx, tx, sqlChained, nil, func(rows *sql.Rows) error {
			if broken != nil {
				return nil
			}
			e, err := scanEvent(rows)
			if err != nil {
				return err
			}
			c := chain{e.Rollout, e.Chain}
			last := ends[c]
			hash, err := e.link()
			if err != nil {
				return err
			}
			fail := func(problem string) { broken = &Break{e.Rollout, e.Chain, e.Seq, problem} }
			switch {
			case e.Seq != last.seq+1:
				fail(fmt.Sprintf("follows event %d: what was between is missing", last.seq))
			case e.Prev != hex.EncodeToString(last.hash):
				fail("does not carry the hash of the event before it")
			case e.Hash != hex.EncodeToString(hash):
				fail("does not have the hash of its content")
			}
			ends[c] = head{e.Seq, hash}
			return nil
		})
		if err != nil || broken != nil {
			return err
		}
		for c, h := range heads {
			if end := ends[c]; end.seq != h.seq || !bytes.Equal(end.hash, h.hash) {
				broken = &Break{c.rollout, c.chain, end.seq + 1, "is missing: the end was cut off"}
				return nil
			}
		}
		for c, end := range ends {
			if _, ok := heads[c]; !ok {
				broken = &Break{c.rollout, c.chain, end.seq, "belongs to a chain without a recorded end"}
				return nil
			}
		}
		return nil
	})
	return broken, err
}
