package store

import (
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/imdsctl/imdsctl/internal/fleet"
	"github.com/imdsctl/imdsctl/internal/plan"
)

// PlanRecord is a plan the database knows of. The plan itself is in its file, and with the journal once a rollout began.
type PlanRecord struct {
	Digest   string
	Header   plan.Header
	Path     string // where its file was written last
	Recorded time.Time
}

// Approval is a person's word that a plan may be carried out.
type Approval struct {
	Digest string    `json:"digest"`
	Actor  string    `json:"actor"`
	Reason string    `json:"reason,omitempty"`
	At     time.Time `json:"at"`
}

// PutPlan records that a plan was made, so that it can be approved. Recording it again only changes its path.
func (s *Store) PutPlan(ctx context.Context, digest string, header plan.Header, path string, now time.Time) error {
	body, err := json.Marshal(header)
	if err != nil {
		return fmt.Errorf("header of plan %s: %w", digest, err)
	}
	return s.update(ctx, "record plan "+digest, func(tx *txn) error {
		_, err := tx.ExecContext(ctx, sqlPutPlan, digest, string(body), path, stamp(now))
		return err
	})
}

// Plans lists the plans on record, the latest first.
func (s *Store) Plans(ctx context.Context) ([]PlanRecord, error) {
	var out []PlanRecord
	err := s.view(ctx, "list plans", func(tx *txn) (err error) {
		out, err = readPlans(ctx, tx)
		return err
	})
	return out, err
}

func readPlans(ctx context.Context, tx *txn) ([]PlanRecord, error) {
	var out []PlanRecord
	err := query(ctx, tx, sqlPlans, nil, func(rows *sql.Rows) error {
		var p PlanRecord
		var header []byte
		var recorded string
		if err := rows.Scan(&p.Digest, &header, &p.Path, &recorded); err != nil {
			return err
		}
		if err := json.Unmarshal(header, &p.Header); err != nil {
			return fmt.Errorf("header of plan %s: %w", p.Digest, err)
		}
		var err error
		p.Recorded, err = unstamp(recorded)
		out = append(out, p)
		return err
	})
	return out, err
}

// shortestDigest is how many characters of a digest name a plan. Twelve hexadecimal digits are 48 bits: enough against
// mistakes, and an approval is then recorded for the whole digest.
const shortestDigest = 12

// Approve records an approval and gives the whole digest it is for. digest may be shortened to its first 12 characters or
// more. A digest that no recorded plan has is refused, and the message lists those there are.
func (s *Store) Approve(ctx context.Context, digest, actor, reason string, now time.Time) (string, error) {
	var whole string
	err := s.journal(ctx, "approve plan "+digest, "approve", func(tx *txn) (err error) {
		if err := tx.single(ctx); err != nil { // lest the rollout begin meanwhile, without the approval in its chain
			return err
		}
		if whole, err = s.wholeDigest(ctx, tx, digest); err != nil {
			return err
		}
		if _, err := tx.ExecContext(ctx, sqlApprove, whole, actor, reason, stamp(now)); err != nil {
			return err
		}
		var rollout string
		switch err := tx.QueryRowContext(ctx, sqlRolloutOf, whole).Scan(&rollout); err {
		case nil:
			return appendEvent(ctx, tx, approvalEvent(rollout, Approval{whole, actor, reason, now}))
		case sql.ErrNoRows:
			return nil
		default:
			return err
		}
	})
	return whole, err
}

func approvalEvent(rollout string, a Approval) Event {
	return Event{Rollout: rollout, Name: "approve", Actor: a.Actor, Reason: a.Reason, At: a.At,
		Detail: map[string]string{"digest": a.Digest}}
}

func (s *Store) wholeDigest(ctx context.Context, tx *txn, digest string) (string, error) {
	var found []string
	if len(digest) >= shortestDigest {
		err := query(ctx, tx, sqlPlanDigests, []any{digest, len(digest)}, func(rows *sql.Rows) error {
			var d string
			err := rows.Scan(&d)
			found = append(found, d)
			return err
		})
		if err != nil {
			return "", err
		}
	}
	if len(found) == 1 {
		return found[0], nil
	}
	d := fleet.Diagnostic{Severity: fleet.SeverityError, Where: s.path}
	switch {
	case len(digest) < shortestDigest:
		d.Summary = fmt.Sprintf("the digest %q is too short to name a plan", digest)
	case len(found) > 1:
		d.Summary = fmt.Sprintf("%d plans have digests that begin with %s", len(found), digest)
	default:
		d.Summary = fmt.Sprintf("no plan with the digest %s is on record here", digest)
	}
	known, err := readPlans(ctx, tx)
	if err != nil {
		return "", err
	}
	d.Remedy = "Give at least 12 characters of one of these digests: " + describe(known) + "."
	if len(known) == 0 {
		d.Remedy = "Make a plan first: imdsctl plan --out plan.json. No plan is on record in this database."
	}
	return "", d
}

// describe names the ten latest plans.
func describe(plans []PlanRecord) string {
	const most = 10
	names := []string{}
	for i, p := range plans {
		if i == most {
			names = append(names, fmt.Sprintf("and %d older ones", len(plans)-most))
			break
		}
		names = append(names, fmt.Sprintf("%s (%s, made %s)", p.Digest, p.Path, p.Header.Created.UTC().Format(time.RFC3339)))
	}
	return strings.Join(names, ", ")
}

// Approvals lists the approvals of a digest, oldest first; those of all plans for "".
func (s *Store) Approvals(ctx context.Context, digest string) ([]Approval, error) {
	var out []Approval
	err := s.view(ctx, "list approvals", func(tx *txn) (err error) {
		out, err = readApprovals(ctx, tx, digest)
		return err
	})
	return out, err
}

func readApprovals(ctx context.Context, tx *txn, digest string) ([]Approval, error) {
	var out []Approval
	err := query(ctx, tx, sqlApprovals, []any{digest}, func(rows *sql.Rows) error {
		var a Approval
		var at string
		if err := rows.Scan(&a.Digest, &a.Actor, &a.Reason, &at); err != nil {
			return err
		}
		var err error
		a.At, err = unstamp(at)
		out = append(out, a)
		return err
	})
	return out, err
}
