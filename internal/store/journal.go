package store

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"strconv"
	"strings"
	"time"

	"github.com/imdsctl/imdsctl/internal/engine"
	"github.com/imdsctl/imdsctl/internal/fleet"
	"github.com/imdsctl/imdsctl/internal/plan"
	"github.com/imdsctl/imdsctl/internal/rollout"
)

// ErrUnknownRollout is a rollout the journal does not have.
var ErrUnknownRollout = errors.New("no such rollout")

// ErrSettled is a second outcome for one intent.
var ErrSettled = errors.New("the intent is settled already")

// Begin implements engine.Journal. The plan's content must have the digest it claims.
func (s *Store) Begin(ctx context.Context, p *plan.Plan, now time.Time) (*engine.Record, error) {
	copied := *p
	if err := plan.Write(io.Discard, &copied); err != nil {
		return nil, err
	}
	if copied.Digest != p.Digest {
		return nil, fmt.Errorf("begin plan %s: its content has the digest %s: %w", p.Digest, copied.Digest, plan.ErrEdited)
	}
	id := rolloutID(p.Digest)
	err := s.journal(ctx, "begin the rollout of plan "+p.Digest, "begin", func(tx *txn) error {
		if err := tx.single(ctx); err != nil {
			return err
		}
		approvals, err := readApprovals(ctx, tx, p.Digest)
		if err != nil {
			return err
		}
		if len(approvals) == 0 {
			return engine.ErrNotApproved
		}
		var have string
		err = tx.QueryRowContext(ctx, sqlRolloutOf, p.Digest).Scan(&have)
		if !errors.Is(err, sql.ErrNoRows) {
			return err
		}
		return addRollout(ctx, tx, id, p, approvals, now)
	})
	if err != nil {
		return nil, err
	}
	return s.Load(ctx, id)
}

// rolloutID names the rollout of a plan: there is one.
func rolloutID(digest string) string { return "r-" + digest[:min(shortestDigest, len(digest))] }

func addRollout(ctx context.Context, tx *txn, id string, p *plan.Plan, approvals []Approval, now time.Time) error {
	header, err := json.Marshal(p.Header)
	if err != nil {
		return fmt.Errorf("header of the plan: %w", err)
	}
	status, ok := rollout.NextStatus(rollout.Planned, rollout.Approve)
	if !ok {
		return errors.New("the machine of rollouts has no way from planned to approved")
	}
	var actors []string
	for _, a := range approvals {
		actors = append(actors, a.Actor)
	}
	_, err = tx.ExecContext(ctx, sqlAddRollout, id, p.Digest, string(header), string(status), stamp(now),
		strings.Join(actors, ", "), p.Header.Rules.MaxInFlight, p.Header.Rules.MaxInFlightAccount)
	if err != nil {
		return err
	}
	if err := addPlan(ctx, tx, id, p, now); err != nil {
		return err
	}
	begun := Event{Rollout: id, Name: "begin", At: now, Detail: map[string]string{
		"digest": p.Digest, "stacks": strconv.Itoa(len(p.Stacks)), "changes": strconv.Itoa(len(p.Changes))}}
	if err := appendEvent(ctx, tx, begun); err != nil {
		return err
	}
	for _, a := range approvals {
		if err := appendEvent(ctx, tx, approvalEvent(id, a)); err != nil {
			return err
		}
	}
	return nil
}

// addPlan stores the plan item by item.
func addPlan(ctx context.Context, tx *txn, id string, p *plan.Plan, now time.Time) error {
	if err := addStacks(ctx, tx, id, p.Stacks); err != nil {
		return err
	}
	if err := addChanges(ctx, tx, id, p.Changes, now); err != nil {
		return err
	}
	if err := addItems(ctx, tx, id, itemManual, p.Manuals); err != nil {
		return err
	}
	return addItems(ctx, tx, id, itemExempt, p.Exempt)
}

func addStacks(ctx context.Context, tx *txn, id string, stacks []plan.Stack) error {
	put := inserter{tx: tx, statement: sqlAddStacks, width: 10}
	for i := range stacks {
		st := &stacks[i]
		body, err := json.Marshal(st)
		if err == nil {
			err = put.row(ctx, id, st.ID, i, st.Place.String(), string(body), string(rollout.StackWaiting), 0, "", "", "")
		}
		if err != nil {
			return fmt.Errorf("stack %s: %w", st.ID, err)
		}
	}
	return put.flush(ctx)
}

func addChanges(ctx context.Context, tx *txn, id string, changes []plan.Change, now time.Time) error {
	put := inserter{tx: tx, statement: sqlAddChanges, width: 9}
	states := inserter{tx: tx, statement: sqlAddStates, width: 8}
	at := stamp(now)
	for i := range changes {
		c := &changes[i]
		body, err := json.Marshal(c)
		if err == nil {
			err = put.row(ctx, id, c.ID, i, c.Stack, c.Step, c.Ref.String(), c.Action, string(c.Class), string(body))
		}
		if err != nil {
			return fmt.Errorf("change %s of %s: %w", c.ID, c.Ref, err)
		}
	}
	if err := put.flush(ctx); err != nil {
		return err
	}
	for i := range changes {
		if err := states.row(ctx, id, changes[i].ID, string(engine.ChangePending), 0, "", 0, "", at); err != nil {
			return fmt.Errorf("change %s of %s: %w", changes[i].ID, changes[i].Ref, err)
		}
	}
	return states.flush(ctx)
}

// Types of plan_item.
const (
	itemManual = "manual"
	itemExempt = "exempt"
)

func addItems[T any](ctx context.Context, tx *txn, id, kind string, items []T) error {
	put := inserter{tx: tx, statement: sqlAddItems, width: 4}
	for i := range items {
		body, err := json.Marshal(items[i])
		if err == nil {
			err = put.row(ctx, id, kind, i, string(body))
		}
		if err != nil {
			return fmt.Errorf("%s item %d: %w", kind, i, err)
		}
	}
	return put.flush(ctx)
}

// inserter writes rows, many to a statement.
type inserter struct {
	tx        *txn
	statement string // ends with VALUES
	width     int    // columns
	args      []any
}

func (in *inserter) row(ctx context.Context, values ...any) error {
	in.args = append(in.args, values...)
	if len(in.args) < batch*in.width {
		return nil
	}
	return in.flush(ctx)
}

func (in *inserter) flush(ctx context.Context) error {
	if len(in.args) == 0 {
		return nil
	}
	_, err := in.tx.ExecContext(ctx, in.statement+tuples(len(in.args)/in.width, in.width), in.args...)
	in.args = in.args[:0]
	return err
}

// Plan implements engine.Journal.
func (s *Store) Plan(ctx context.Context, id string) (*plan.Plan, error) {
	var p *plan.Plan
	err := s.view(ctx, "read the plan of rollout "+id, func(tx *txn) error {
		p = &plan.Plan{}
		var header []byte
		if err := found(id, tx.QueryRowContext(ctx, sqlHeader, id).Scan(&header, &p.Digest)); err != nil {
			return err
		}
		if err := json.Unmarshal(header, &p.Header); err != nil {
			return fmt.Errorf("header: %w", err)
		}
		var err error
		if p.Stacks, err = bodies[plan.Stack](ctx, tx, sqlStackBodies, id); err != nil {
			return err
		}
		if p.Changes, err = bodies[plan.Change](ctx, tx, sqlChangeBodies, id); err != nil {
			return err
		}
		if p.Manuals, err = bodies[plan.Manual](ctx, tx, sqlItemBodies, id, itemManual); err != nil {
			return err
		}
		p.Exempt, err = bodies[plan.Exempt](ctx, tx, sqlItemBodies, id, itemExempt)
		return err
	})
	if err != nil {
		return nil, err
	}
	return p, nil
}

// found names the rollout that is not there.
func found(id string, err error) error {
	if errors.Is(err, sql.ErrNoRows) {
		return fmt.Errorf("rollout %s: %w", id, ErrUnknownRollout)
	}
	return err
}

func bodies[T any](ctx context.Context, tx *txn, statement string, args ...any) ([]T, error) {
	var out []T
	err := query(ctx, tx, statement, args, func(rows *sql.Rows) error {
		var body sql.RawBytes
		if err := rows.Scan(&body); err != nil {
			return err
		}
		var v T
		err := json.Unmarshal(body, &v)
		out = append(out, v)
		return err
	})
	return out, err
}

// Load implements engine.Journal.
func (s *Store) Load(ctx context.Context, id string) (*engine.Record, error) {
	var r *engine.Record
	err := s.view(ctx, "read rollout "+id, func(tx *txn) error {
		r = &engine.Record{ID: id, Stacks: map[string]rollout.Stack{}, Changes: map[string]engine.ChangeState{}}
		var created, updated string
		var version int64
		if err := found(id, tx.QueryRowContext(ctx, sqlRollout, id).Scan(&r.Digest, &r.Status, &r.Reason, &created, &updated,
			&r.Approved, &r.FailuresForgiven, &version)); err != nil {
			return err
		}
		var err1, err2 error
		r.Created, err1 = unstamp(created)
		r.Updated, err2 = unstamp(updated)
		if err := errors.Join(err1, err2); err != nil {
			return err
		}
		if err := readStacks(ctx, tx, r); err != nil {
			return err
		}
		if err := readStates(ctx, tx, r); err != nil {
			return err
		}
		var err error
		if r.Undo, err = pairs(ctx, tx, sqlUndos, id); err != nil {
			return err
		}
		if r.Waves, err = pairs(ctx, tx, sqlWaves, id); err != nil {
			return err
		}
		r.Stop, err = readStop(ctx, tx)
		return err
	})
	if err != nil {
		return nil, err
	}
	return r, nil
}

func readStacks(ctx context.Context, tx *txn, r *engine.Record) error {
	return query(ctx, tx, sqlStacks, []any{r.ID}, func(rows *sql.Rows) error {
		var id string
		var t stackTimes
		if err := rows.Scan(&id, &t.Phase, &t.Step, &t.due, &t.since, &t.Reason); err != nil {
			return err
		}
		st, err := t.stack()
		r.Stacks[id] = st
		return err
	})
}

// stackTimes is a stack as its row has it.
type stackTimes struct {
	rollout.Stack
	due, since string
}

func (t stackTimes) stack() (rollout.Stack, error) {
	var err1, err2 error
	t.Due, err1 = unstamp(t.due)
	t.Since, err2 = unstamp(t.since)
	return t.Stack, errors.Join(err1, err2)
}

func readStates(ctx context.Context, tx *txn, r *engine.Record) error {
	return query(ctx, tx, sqlStates, []any{r.ID}, func(rows *sql.Rows) error {
		var st stateRow
		if err := rows.Scan(st.columns()...); err != nil {
			return err
		}
		c, err := st.state()
		r.Changes[c.ID] = c
		return err
	})
}

// stateRow is a row of change_state. Where it comes from a join that may find none, it is empty.
type stateRow struct {
	id, phase, outputs, reason, updated sql.NullString
	wrote, attempt                      sql.NullInt64
}

// columns are where id, phase, wrote, outputs, attempt, reason and updated go.
func (r *stateRow) columns() []any {
	return []any{&r.id, &r.phase, &r.wrote, &r.outputs, &r.attempt, &r.reason, &r.updated}
}

func (r *stateRow) state() (engine.ChangeState, error) {
	c := engine.ChangeState{ID: r.id.String, Phase: engine.ChangePhase(r.phase.String), Wrote: r.wrote.Int64 != 0,
		Attempt: int(r.attempt.Int64), Reason: r.reason.String}
	if r.outputs.String != "" {
		if err := json.Unmarshal([]byte(r.outputs.String), &c.Outputs); err != nil {
			return c, fmt.Errorf("outputs of change %s: %w", c.ID, err)
		}
	}
	var err error
	c.Updated, err = unstamp(r.updated.String)
	return c, err
}

// pairs reads two columns of text as a map; nil where there are no rows.
func pairs(ctx context.Context, tx *txn, statement, id string) (map[string]string, error) {
	var out map[string]string
	err := query(ctx, tx, statement, []any{id}, func(rows *sql.Rows) error {
		var key, value string
		if err := rows.Scan(&key, &value); err != nil {
			return err
		}
		if out == nil {
			out = map[string]string{}
		}
		out[key] = value
		return nil
	})
	return out, err
}

// readStop says who stopped everything; "" while nothing is stopped.
func readStop(ctx context.Context, tx *txn) (string, error) {
	var who string
	err := tx.QueryRowContext(ctx, sqlStopped).Scan(&who)
	if errors.Is(err, sql.ErrNoRows) {
		return "", nil
	}
	return who, err
}

// Move implements engine.Journal. A move that the machines' tables do not have is refused.
func (s *Store) Move(ctx context.Context, id string, seat engine.Lease, moves []engine.Move, now time.Time) error {
	if len(moves) == 0 {
		return nil
	}
	return s.journal(ctx, "move rollout "+id, "move", func(tx *txn) error {
		if err := tx.writesEvents(ctx); err != nil {
			return err
		}
		if err := tx.lockRollout(ctx, id); err != nil {
			return err
		}
		if err := holdsLease(ctx, tx, seat, engine.SeatKey(id)); err != nil {
			return err
		}
		for _, m := range moves {
			var err error
			if m.Stack == "" {
				err = moveStatus(ctx, tx, id, m, now)
			} else {
				err = moveStack(ctx, tx, id, m, now)
			}
			if err != nil {
				return err
			}
		}
		_, err := tx.ExecContext(ctx, sqlTouch, id, stamp(now))
		return err
	})
}

func moveStatus(ctx context.Context, tx *txn, id string, m engine.Move, now time.Time) error {
	status, err := readStatus(ctx, tx, id)
	if err != nil {
		return err
	}
	if status != m.Status[0] {
		return fmt.Errorf("%w: it is %s, not %s", engine.ErrMoved, status, m.Status[0])
	}
	if next, ok := rollout.NextStatus(status, rollout.Event(m.Event)); !ok || next != m.Status[1] {
		return fmt.Errorf("a rollout does not go from %s to %s on %q", status, m.Status[1], m.Event)
	}
	if _, err := tx.ExecContext(ctx, sqlMoveStatus, id, string(m.Status[1]), m.Reason, stamp(now)); err != nil {
		return err
	}
	return appendEvent(ctx, tx, Event{Rollout: id, Name: m.Event, At: now, Actor: m.Actor, Reason: m.Reason,
		Detail: moved(m, "from", string(m.Status[0]), "to", string(m.Status[1]))})
}

// moved is the detail of a move with what it went from and to.
func moved(m engine.Move, pairs ...string) map[string]string {
	detail := map[string]string{}
	for i := 0; i+1 < len(pairs); i += 2 {
		detail[pairs[i]] = pairs[i+1]
	}
	maps.Copy(detail, m.Detail)
	return detail
}

func readStatus(ctx context.Context, tx *txn, id string) (rollout.Status, error) {
	var r struct {
		digest, reason, created, updated, approved string
		status                                     rollout.Status
		forgiven                                   int
		control                                    int64
	}
	err := tx.QueryRowContext(ctx, sqlRollout, id).Scan(&r.digest, &r.status, &r.reason, &r.created, &r.updated, &r.approved,
		&r.forgiven, &r.control)
	return r.status, found(id, err)
}

func moveStack(ctx context.Context, tx *txn, id string, m engine.Move, now time.Time) error {
	have, place, err := readStack(ctx, tx, id, m.Stack)
	if err != nil {
		return err
	}
	if !sameStack(have, m.From) {
		return fmt.Errorf("%w: stack %s is %s at step %d, not %s at step %d", engine.ErrMoved, m.Stack, have.Phase, have.Step,
			m.From.Phase, m.From.Step)
	}
	if rollout.StackTable()[have.Phase][rollout.StackEvent(m.Event)] != m.To.Phase {
		return fmt.Errorf("stack %s does not go from %s to %s on %q", m.Stack, have.Phase, m.To.Phase, m.Event)
	}
	_, err = tx.ExecContext(ctx, sqlMoveStack, id, m.Stack, string(m.To.Phase), m.To.Step, stamp(m.To.Due), stamp(m.To.Since),
		m.To.Reason)
	if err != nil {
		return err
	}
	if err := forgetUndo(ctx, tx, id, m, now); err != nil {
		return err
	}
	return appendEvent(ctx, tx, Event{Rollout: id, Chain: place, Name: m.Event, Stack: m.Stack, At: now, Actor: m.Actor,
		Reason: m.Reason, Detail: moved(m, "from", string(m.From.Phase), "to", string(m.To.Phase), "step", strconv.Itoa(m.To.Step))})
}

func readStack(ctx context.Context, tx *txn, id, stack string) (rollout.Stack, string, error) {
	var t stackTimes
	var place string
	err := tx.QueryRowContext(ctx, sqlStack, id, stack).Scan(&t.Phase, &t.Step, &t.due, &t.since, &t.Reason, &place)
	if errors.Is(err, sql.ErrNoRows) {
		return rollout.Stack{}, "", fmt.Errorf("rollout %s has no stack %s", id, stack)
	}
	if err != nil {
		return rollout.Stack{}, "", err
	}
	st, err := t.stack()
	return st, place, err
}

// sameStack compares all that the machine looks at; a reason is words.
func sameStack(a, b rollout.Stack) bool {
	return a.Phase == b.Phase && a.Step == b.Step && a.Due.Equal(b.Due) && a.Since.Equal(b.Since)
}

// forgetUndo forgets the request for a stack's rollback when it begins, and makes what is stuck due for another try. It is
// forgotten as well when the stack comes to where there is nothing to put back, lest the rollout wait for it for ever.
func forgetUndo(ctx context.Context, tx *txn, id string, m engine.Move, now time.Time) error {
	begins := rollout.StackEvent(m.Event) == rollout.StackUndo
	_, open := rollout.StackTable()[m.To.Phase][rollout.StackUndo]
	if open && !begins {
		return nil
	}
	forgotten, err := tx.ExecContext(ctx, sqlForgetUndo, id, m.Stack)
	if err != nil {
		return err
	}
	if n, err := forgotten.RowsAffected(); err != nil || n > 0 {
		if _, bump := tx.ExecContext(ctx, sqlBumpControl, id, stamp(now)); err != nil || bump != nil {
			return errors.Join(err, bump)
		}
	}
	if !begins {
		return nil
	}
	_, err = tx.ExecContext(ctx, sqlUnstick, id, m.Stack, stamp(now))
	return err
}

// admissible is what Admit looks at.
type admissible struct {
	stack, ref, action string
	class              plan.Class
	step               int
	phase              engine.ChangePhase
	wrote              bool
	attempt            int
	stackPhase         rollout.StackPhase
	stackStep          int
	status             rollout.Status
	digest, approved   string
	stop               string
	followUp           bool
	account            fleet.AccountID
	// Intents that are open: in all, of the change itself, and in the account; and how many may be.
	open, openHere, openAccount int
	budget, budgetAccount       int
}

// Admit implements engine.Journal.
func (s *Store) Admit(ctx context.Context, a engine.Admission) (engine.Intent, error) {
	var in engine.Intent
	if a.Change == nil || a.Lease <= 0 || (a.Direction != engine.Forward && a.Direction != engine.Backward) {
		return in, errors.New("an admission names a change, a direction and the time its call may take")
	}
	what := fmt.Sprintf("admit change %s of %s", a.Change.ID, a.Change.Ref)
	err := s.journal(ctx, what, "admit", func(tx *txn) error {
		if err := tx.writesEvents(ctx); err != nil {
			return err
		}
		if err := tx.lockRollout(ctx, a.Rollout); err != nil {
			return err
		}
		if err := holdsLease(ctx, tx, a.Lane, engine.LaneKey(a.Change.Ref.Place)); err != nil {
			return err
		}
		have, err := readAdmissible(ctx, tx, a)
		if err != nil {
			return err
		}
		if refusal := have.refuse(a.Direction); refusal != "" {
			return fmt.Errorf("%w: %s", engine.ErrNotAdmitted, refusal)
		}
		in = engine.Intent{Rollout: a.Rollout, Change: a.Change.ID, Place: a.Change.Ref.Place, Direction: a.Direction,
			Attempt: have.attempt + 1, Token: a.Token, Epoch: a.Lane.Epoch, Opened: a.Now.UTC(), LeaseUntil: a.Now.Add(a.Lease).UTC()}
		return addIntent(ctx, tx, have, a.Change, &in)
	})
	if err != nil {
		return engine.Intent{}, err
	}
	return in, nil
}

func readAdmissible(ctx context.Context, tx *txn, a engine.Admission) (*admissible, error) {
	h := admissible{account: a.Change.Ref.Account, followUp: a.Change.Ref.Kind == plan.KindFollowUp}
	err := tx.QueryRowContext(ctx, sqlAdmissible, a.Rollout, a.Change.ID).Scan(&h.stack, &h.step, &h.ref, &h.action, &h.class, &h.phase,
		&h.wrote, &h.attempt, &h.stackPhase, &h.stackStep, &h.status, &h.budget, &h.budgetAccount, &h.digest, &h.approved)
	if errors.Is(err, sql.ErrNoRows) {
		return nil, fmt.Errorf("rollout %s has no change %s: %w", a.Rollout, a.Change.ID, ErrUnknownRollout)
	}
	if err != nil {
		return nil, err
	}
	if h.ref != a.Change.Ref.String() || h.action != a.Change.Action || h.stack != a.Change.Stack || h.step != a.Change.Step {
		return nil, fmt.Errorf("change %s is not the one that was approved: that is %s of %s", a.Change.ID, h.action, h.ref)
	}
	if h.stop, err = readStop(ctx, tx); err != nil {
		return nil, err
	}
	return &h, tx.QueryRowContext(ctx, sqlOpenCount, a.Rollout, a.Change.ID, string(h.account)).
		Scan(&h.open, &h.openHere, &h.openAccount)
}

// refuse says why no intent may start now, or "".
func (h *admissible) refuse(d engine.Direction) string {
	switch {
	case h.stop != "":
		return "everything is stopped by " + h.stop
	case h.openHere > 0:
		return "the change has an open intent"
	case h.class == plan.ClassManual:
		return "the change is made by a person"
	case d == engine.Backward && h.followUp:
		return "a follow-up is never put back"
	case d == engine.Forward && !h.status.MayWrite(), d == engine.Backward && !h.status.MayRevert():
		return "the rollout is " + string(h.status)
	case d == engine.Forward && (h.stackPhase != rollout.StackApplying || h.step != h.stackStep),
		d == engine.Backward && !h.reverts():
		return fmt.Sprintf("the change is of step %d, and its stack %s is %s at step %d", h.step, h.stack, h.stackPhase, h.stackStep)
	case d == engine.Forward && h.phase != engine.ChangePending:
		return "the change is " + string(h.phase) + " already"
	case d == engine.Backward && !h.revertible():
		return "the change is " + string(h.phase) + ", and there is nothing of ours to put back"
	case h.budget > 0 && h.open >= h.budget:
		return fmt.Sprintf("%d intents are open, and the plan allows %d", h.open, h.budget)
	case h.budgetAccount > 0 && h.openAccount >= h.budgetAccount:
		return fmt.Sprintf("%d intents are open in account %s, and the plan allows %d", h.openAccount, h.account, h.budgetAccount)
	}
	return ""
}

// reverts tells whether the stack's phase has this change put back.
func (h *admissible) reverts() bool {
	return h.stackPhase == rollout.StackReverting || (h.stackPhase == rollout.StackRevertingStep && h.step == h.stackStep)
}

// revertible: what we wrote and AWS took, whether it was verified, became visible too late, or not yet looked at.
func (h *admissible) revertible() bool {
	switch h.phase {
	case engine.ChangeVerified, engine.ChangeApplied, engine.ChangeFailed:
		return h.wrote
	}
	return false
}

func addIntent(ctx context.Context, tx *txn, have *admissible, c *plan.Change, in *engine.Intent) error {
	err := tx.QueryRowContext(ctx, sqlAddIntent, in.Rollout, in.Change, in.Place.String(), string(in.Place.Account),
		string(in.Direction), in.Attempt, in.Token, in.Epoch, stamp(in.Opened), stamp(in.LeaseUntil)).Scan(&in.ID)
	if err != nil {
		return err
	}
	if err := one(tx.ExecContext(ctx, sqlOpenState, in.Rollout, in.Change, in.Attempt, stamp(in.Opened))); err != nil {
		return err
	}
	detail, err := intentDetail(have, c, in)
	if err != nil {
		return err
	}
	return appendEvent(ctx, tx, Event{Rollout: in.Rollout, Chain: in.Place.String(), Name: "intent", Stack: have.stack,
		Change: in.Change, At: in.Opened, Reason: c.Why, Detail: detail})
}

// intentDetail is what the journal says of a write: what, from what to what, on which evidence, on whose word. On the way
// back, before and after change places.
func intentDetail(have *admissible, c *plan.Change, in *engine.Intent) (map[string]string, error) {
	detail := map[string]string{"intent": strconv.FormatInt(in.ID, 10), "direction": string(in.Direction),
		"attempt": strconv.Itoa(in.Attempt), "token": in.Token, "epoch": strconv.FormatInt(in.Epoch, 10),
		"resource": c.Ref.String(), "action": c.Action, "digest": have.digest, "approved_by": have.approved}
	before, after := c.Before, c.After
	if in.Direction == engine.Backward {
		before, after = after, before
	}
	var err1, err2 error
	detail["before"], err1 = jsonOrEmpty(before)
	detail["after"], err2 = jsonOrEmpty(after)
	evidence, err3 := json.Marshal(c.Evidence)
	detail["evidence"], detail["override"] = string(evidence), c.Override
	maps.DeleteFunc(detail, func(_, v string) bool { return v == "" })
	return detail, errors.Join(err1, err2, err3)
}

// Settle implements engine.Journal. That imdsctl wrote a change is never unlearned.
func (s *Store) Settle(ctx context.Context, st engine.Settlement) error {
	if st.Phase == engine.ChangeOpen || st.Phase == "" {
		return fmt.Errorf("settle change %s: %q is no outcome", st.Change, st.Phase)
	}
	return s.journal(ctx, "settle change "+st.Change, "settle", func(tx *txn) error {
		if err := tx.writesEvents(ctx); err != nil {
			return err
		}
		ref, stack, err := changeRef(ctx, tx, st.Rollout, st.Change)
		if err != nil {
			return err
		}
		if err := holdsLease(ctx, tx, st.Lane, engine.LaneKey(ref.Place)); err != nil {
			return err
		}
		if err := closeIntent(ctx, tx, st); err != nil {
			return err
		}
		outputs, err := jsonOrEmpty(st.Outputs)
		if err != nil {
			return err
		}
		err = one(tx.ExecContext(ctx, sqlSetState, st.Rollout, st.Change, string(st.Phase), flag(st.Wrote), outputs, st.Reason,
			stamp(st.Now)))
		if err != nil {
			return err
		}
		detail := map[string]string{"phase": string(st.Phase), "wrote": strconv.FormatBool(st.Wrote)}
		put := func(k, v string) {
			if v != "" {
				detail[k] = v
			}
		}
		if st.Intent != 0 {
			detail["intent"] = strconv.FormatInt(st.Intent, 10)
		}
		put("request_id", st.RequestID)
		put("class", string(st.Class))
		put("outputs", outputs)
		foundState, err := jsonOrEmpty(st.Found)
		if err != nil {
			return err
		}
		put("found", foundState)
		return appendEvent(ctx, tx, Event{Rollout: st.Rollout, Chain: ref.Place.String(), Name: "outcome", Stack: stack,
			Change: st.Change, At: st.Now, Reason: st.Reason, Detail: detail})
	})
}

func changeRef(ctx context.Context, tx *txn, id, change string) (fleet.Ref, string, error) {
	var text, stack string
	err := tx.QueryRowContext(ctx, sqlChangeRef, id, change).Scan(&text, &stack)
	if errors.Is(err, sql.ErrNoRows) {
		return fleet.Ref{}, "", fmt.Errorf("rollout %s has no change %s: %w", id, change, ErrUnknownRollout)
	}
	if err != nil {
		return fleet.Ref{}, "", err
	}
	ref, err := fleet.ParseRef(text)
	return ref, stack, err
}

// closeIntent gives the settlement's intent its outcome. A settlement without intent finds none open.
func closeIntent(ctx context.Context, tx *txn, st engine.Settlement) error {
	if st.Intent == 0 {
		var here int
		if err := tx.QueryRowContext(ctx, sqlOpenHere, st.Rollout, st.Change).Scan(&here); err != nil {
			return err
		}
		if here > 0 {
			return errors.New("the change has an open intent, and the settlement does not name it")
		}
		return nil
	}
	var id, change string
	var open bool
	err := tx.QueryRowContext(ctx, sqlIntent, st.Intent).Scan(&id, &change, &open)
	switch {
	case errors.Is(err, sql.ErrNoRows) || (err == nil && (id != st.Rollout || change != st.Change)):
		return fmt.Errorf("intent %d is not one of the change", st.Intent)
	case err != nil:
		return err
	case !open:
		return fmt.Errorf("intent %d: %w", st.Intent, ErrSettled)
	}
	if err := one(tx.ExecContext(ctx, sqlSettle, st.Intent)); err != nil {
		return err
	}
	outputs, err1 := jsonOrEmpty(st.Outputs)
	foundState, err2 := jsonOrEmpty(st.Found)
	if err := errors.Join(err1, err2); err != nil {
		return err
	}
	_, err = tx.ExecContext(ctx, sqlAddOutcome, st.Intent, string(st.Phase), flag(st.Wrote), outputs, st.RequestID, string(st.Class),
		st.Reason, foundState, st.Lane.Epoch, stamp(st.Now))
	return err
}

// jsonOrEmpty writes a map as JSON with sorted keys; "" for nil, which says nothing.
func jsonOrEmpty[M ~map[string]string](m M) (string, error) {
	if m == nil {
		return "", nil
	}
	b, err := json.Marshal(m)
	return string(b), err
}

// flag is a truth as both engines store it.
func flag(b bool) int {
	if b {
		return 1
	}
	return 0
}

// OpenIntent implements engine.Journal.
func (s *Store) OpenIntent(ctx context.Context, id, change string) (engine.Intent, bool, error) {
	var in engine.Intent
	found := false
	err := s.view(ctx, "read the open intent of change "+change, func(tx *txn) error {
		in, found = engine.Intent{Rollout: id}, false
		return query(ctx, tx, sqlOpenIntent, []any{id, change}, func(rows *sql.Rows) error {
			var place, opened, until string
			if err := rows.Scan(&in.ID, &in.Change, &place, &in.Direction, &in.Attempt, &in.Token, &in.Epoch, &opened, &until); err != nil {
				return err
			}
			found = true
			var err1, err2, err3 error
			in.Place, err1 = fleet.ParsePlace(place)
			in.Opened, err2 = unstamp(opened)
			in.LeaseUntil, err3 = unstamp(until)
			return errors.Join(err1, err2, err3)
		})
	})
	if err != nil || !found {
		return engine.Intent{}, false, err
	}
	return in, true, nil
}

// Note implements engine.Journal.
func (s *Store) Note(ctx context.Context, id, stack, event string, detail map[string]string, now time.Time) error {
	return s.journal(ctx, "note "+event+" in rollout "+id, "note", func(tx *txn) error {
		if err := tx.writesEvents(ctx); err != nil {
			return err
		}
		if _, err := readStatus(ctx, tx, id); err != nil {
			return err
		}
		chain := ""
		if stack != "" {
			_, place, err := readStack(ctx, tx, id, stack)
			if err != nil {
				return err
			}
			chain = place
		}
		return appendEvent(ctx, tx, Event{Rollout: id, Chain: chain, Name: event, Stack: stack, At: now, Detail: detail})
	})
}

// Tries implements engine.Journal.
func (s *Store) Tries(ctx context.Context, id, change string) (n int, err error) {
	args := []any{id, change, string(engine.Forward)}
	for _, class := range engine.PutOff() {
		args = append(args, string(class))
	}
	err = s.view(ctx, "count the attempts of change "+change, func(tx *txn) error {
		return query(ctx, tx, sqlTries+list(len(args)-3), args, func(rows *sql.Rows) error { return rows.Scan(&n) })
	})
	return n, err
}
