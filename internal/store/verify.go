package store

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"database/sql"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"

	"github.com/imdsctl/imdsctl/internal/fleet"
)

// Break is the first place where a chain of events does not hold.
type Break struct {
	Rollout string
	Chain   string
	Seq     int64
	Problem string
	// Line is where it is in a file of exported events, from 1; 0 in the database.
	Line int
}

func (b *Break) String() string {
	chain, line := b.Chain, ""
	if chain == "" {
		chain = "the rollout itself"
	}
	if b.Line != 0 {
		line = fmt.Sprintf("line %d: ", b.Line)
	}
	return fmt.Sprintf("%sthe journal of rollout %s was altered: event %d of %s %s", line, b.Rollout, b.Seq, chain, b.Problem)
}

// Followed counts what was verified.
type Followed struct {
	Events int
	Chains int
}

// chainID names a chain of events.
type chainID struct{ rollout, chain string }

// chainEnd is the last link of a chain.
type chainEnd struct {
	seq  int64
	hash string
}

// chains follows chains link by link.
type chains map[chainID]chainEnd

// add follows one event further; the problem is "" where it holds.
func (c chains) add(e Event) (problem string, err error) {
	id := chainID{e.Rollout, e.Chain}
	last := c[id]
	sum, err := e.link()
	if err != nil {
		return "", err
	}
	hash := hex.EncodeToString(sum)
	c[id] = chainEnd{e.Seq, hash}
	switch {
	case e.Seq <= last.seq:
		return fmt.Sprintf("comes after event %d: it is there twice, or out of its place", last.seq), nil
	case e.Seq != last.seq+1:
		return fmt.Sprintf("follows event %d: what was between is missing", last.seq), nil
	case e.Prev != last.hash:
		return "does not carry the hash of the event before it", nil
	case e.Hash != hash:
		return "does not have the hash of its content", nil
	}
	return "", nil
}

// VerifyChain follows all chains of a rollout ("" for those of all) from their first event to their last. It gives the first
// link that is broken (altered, left out, added or cut off), nil where all hold, and how much was followed.
func (s *Store) VerifyChain(ctx context.Context, rollout string) (followed Followed, broken *Break, err error) {
	err = s.stream(ctx, "verify the journal", func(tx *txn) error {
		if rollout != "" {
			if _, err := readStatus(ctx, tx, rollout); err != nil {
				return err
			}
		}
		heads := chains{}
		err := query(ctx, tx, sqlHeads, []any{rollout}, func(rows *sql.Rows) error {
			var id chainID
			var end chainEnd
			var hash []byte
			err := rows.Scan(&id.rollout, &id.chain, &end.seq, &hash)
			end.hash = hex.EncodeToString(hash)
			heads[id] = end
			return err
		})
		if err != nil {
			return err
		}
		ends := chains{}
		err = query(ctx, tx, sqlChained, []any{rollout}, func(rows *sql.Rows) error {
			if broken != nil {
				return nil
			}
			e, err := scanEvent(rows)
			if err != nil {
				return err
			}
			followed.Events++
			problem, err := ends.add(e)
			if problem != "" {
				broken = &Break{Rollout: e.Rollout, Chain: e.Chain, Seq: e.Seq, Problem: problem}
			}
			return err
		})
		followed.Chains = len(ends)
		if err == nil && broken == nil {
			broken = ends.against(heads)
		}
		return err
	})
	return followed, broken, err
}

// against compares where chains end with where they are recorded to end.
func (c chains) against(heads chains) *Break {
	for _, id := range heads.ids() {
		switch end, head := c[id], heads[id]; {
		case end.seq < head.seq:
			return &Break{Rollout: id.rollout, Chain: id.chain, Seq: end.seq + 1, Problem: "is missing: the end was cut off"}
		case end != head:
			return &Break{Rollout: id.rollout, Chain: id.chain, Seq: end.seq, Problem: "is not the one that is recorded as the end of its chain"}
		}
	}
	for _, id := range c.ids() {
		if _, ok := heads[id]; !ok {
			return &Break{Rollout: id.rollout, Chain: id.chain, Seq: c[id].seq, Problem: "belongs to a chain without a recorded end"}
		}
	}
	return nil
}

// ids are the chains in a fixed order, so that the first break is always the same one.
func (c chains) ids() []chainID {
	return slices.SortedFunc(maps.Keys(c), func(a, b chainID) int {
		return cmp.Or(cmp.Compare(a.rollout, b.rollout), cmp.Compare(a.chain, b.chain))
	})
}

// ExportEvents writes the events of a rollout ("" for all) as JSON lines, oldest first, with their hashes, so that
// VerifyEvents can follow the chains without the database.
func (s *Store) ExportEvents(ctx context.Context, w io.Writer, rollout string) error {
	if rollout != "" {
		err := s.view(ctx, "export events", func(tx *txn) error {
			_, err := readStatus(ctx, tx, rollout)
			return err
		})
		if err != nil {
			return err
		}
	}
	buffered := bufio.NewWriter(w)
	enc := json.NewEncoder(buffered)
	enc.SetEscapeHTML(false)
	for e, err := range s.Events(ctx, rollout, 0) {
		if err == nil {
			err = enc.Encode(e)
		}
		if err != nil {
			return fmt.Errorf("export events: %w", err)
		}
	}
	if err := buffered.Flush(); err != nil {
		return fmt.Errorf("export events: %w", err)
	}
	return nil
}

// longestEvent bounds a line of exported events, in bytes.
const longestEvent = 64 << 20

// VerifyEvents follows the chains in a file of exported events, named name in messages. It counts the events, and gives the
// first one that is broken: altered, left out or added; nil where all hold. A file cannot show that its end was cut off:
// compare the count. A line that is no event is an error.
func VerifyEvents(r io.Reader, name string) (count int, broken *Break, err error) {
	lines := bufio.NewScanner(r)
	lines.Buffer(nil, longestEvent)
	ends := chains{}
	last := int64(0)
	for line := 1; lines.Scan(); line++ {
		e, err := readEvent(lines.Bytes())
		if err != nil {
			return count, nil, notEvents(fmt.Sprintf("%s:%d", name, line), err)
		}
		problem, err := ends.add(e)
		if err != nil {
			return count, nil, notEvents(fmt.Sprintf("%s:%d", name, line), err)
		}
		if problem == "" && e.ID <= last {
			problem = fmt.Sprintf("has the number %d, and comes after %d", e.ID, last)
		}
		if problem != "" {
			return count, &Break{Rollout: e.Rollout, Chain: e.Chain, Seq: e.Seq, Problem: problem, Line: line}, nil
		}
		last = e.ID
		count++
	}
	if err := lines.Err(); err != nil {
		return count, nil, notEvents(fmt.Sprintf("%s:%d", name, count+1), err)
	}
	return count, nil, nil
}

// readEvent reads a line, with nothing in it that the hash does not cover.
func readEvent(line []byte) (Event, error) {
	var e Event
	dec := json.NewDecoder(bytes.NewReader(line))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&e); err != nil {
		return e, err
	}
	if dec.More() {
		return e, errors.New("there is more than one value in the line")
	}
	if e.Rollout == "" || e.Name == "" {
		return e, errors.New("it has no rollout, or no event")
	}
	return e, unambiguous(line, eventKeys())
}

// eventKeys are the names that an exported event has.
func eventKeys() []string {
	return []string{"id", "rollout", "chain", "seq", "at", "event", "stack", "change", "actor", "reason", "detail", "prev_hash", "hash"}
}

// unambiguous refuses an object that readers of JSON read differently: the hash would be of what one of them sees and another does
// not. That is a name given twice, or in another spelling than ours, which this decoder takes for ours. keys are the names that may
// be there; any for nil.
func unambiguous(object []byte, keys []string) error {
	dec := json.NewDecoder(bytes.NewReader(object))
	if _, err := dec.Token(); err != nil {
		return err
	}
	seen := map[string]bool{}
	for dec.More() {
		token, err := dec.Token()
		if err != nil {
			return err
		}
		key, _ := token.(string)
		var value json.RawMessage
		if err := dec.Decode(&value); err != nil {
			return err
		}
		switch {
		case seen[key]:
			return fmt.Errorf("%q is given twice", key)
		case keys != nil && !slices.Contains(keys, key):
			return fmt.Errorf("%q is not how imdsctl writes it", key)
		case key == "detail" && keys != nil && value[0] == '{':
			if err := unambiguous(value, nil); err != nil {
				return err
			}
		}
		seen[key] = true
	}
	return nil
}

func notEvents(where string, cause error) error {
	return failed{fleet.Diagnostic{Severity: fleet.SeverityError, Where: where,
		Summary: "this is no event that imdsctl exported: " + cause.Error(),
		Remedy:  "Export the events again: imdsctl rollout export ROLLOUT."}, "verify events", cause}
}
