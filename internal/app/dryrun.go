package app

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"time"

	"github.com/imdsctl/imdsctl/internal/engine"
	"github.com/imdsctl/imdsctl/internal/fleet"
	"github.com/imdsctl/imdsctl/internal/kind"
	"github.com/imdsctl/imdsctl/internal/plan"
	"github.com/imdsctl/imdsctl/internal/rollout"
	"github.com/imdsctl/imdsctl/internal/store"
)

// What faces need of a dry run.
type (
	DryRunReport   = engine.DryReport
	DryRunChange   = engine.DryChange
	DryRunStack    = engine.DryStack
	DryRunOutcome  = engine.DryOutcome
	DryRunProgress = engine.DryProgress
)

// DryRunOutcomes lists all outcomes of a dry run, those that are as they should be first.
func DryRunOutcomes() []DryRunOutcome { return engine.DryOutcomes() }

// DryRunOptions say how a dry run is made.
type DryRunOptions struct {
	// MaxScanAge and AllowStale are as in ApplyOptions: a plan that apply would refuse for its age is asked about all the
	// same, and that is noted.
	MaxScanAge time.Duration
	AllowStale bool
	// Progress is told how far it is, one call at a time.
	Progress func(DryRunProgress)
}

// DryRunResult is what apply would do with a plan now.
type DryRunResult struct {
	Report *DryRunReport
	// Notes say what would keep apply from beginning, or from going on, with any of it.
	Notes []fleet.Diagnostic
}

// DryRun tells what Apply would do with a plan now. It writes nothing, neither to AWS nor to the database, and needs no
// approval; without a database it makes none. Where a rollout of the plan began, it is gone on from in thought. With an
// error, the report, if there is one, holds what was found until then.
func (a *App) DryRun(ctx context.Context, p *plan.Plan, o DryRunOptions) (*DryRunResult, error) {
	out := &DryRunResult{}
	record, err := a.begun(ctx, p.Digest)
	if err != nil {
		return nil, err
	}
	if record == nil {
		for _, err := range []error{a.admissible(p, ApplyOptions{MaxScanAge: o.MaxScanAge, AllowStale: o.AllowStale}),
			a.foreseeExemption(ctx, p)} {
			if d, refused := errors.AsType[fleet.Diagnostic](err); refused {
				d.Severity, d.Summary = fleet.SeverityWarning, "apply would refuse it: "+d.Summary
				out.Notes = append(out.Notes, d)
			} else if err != nil {
				return nil, err
			}
		}
	} else {
		out.Notes = append(out.Notes, standing(record)...)
	}
	_, finder, err := a.cloud(ctx)
	if err != nil {
		return nil, err
	}
	for _, place := range accountsOf(p) {
		if err := finder.Enter(ctx, place, true); err != nil {
			return nil, fmt.Errorf("enter account %s: %w", place.Account, err)
		}
	}
	out.Report, err = engine.DryRun(ctx, p, engine.DryOptions{
		Drivers: &drivers{finder: finder, clock: a.clock, open: map[driverKey]kind.Driver{}}, Clock: a.clock, Record: record,
		LaneWidth: a.opt.Engine.LaneWidth, Progress: o.Progress,
	})
	if fleet.ClassOf(err) == fleet.ErrExpired {
		err = fmt.Errorf("%w: %w", fleet.Diagnostic{Severity: fleet.SeverityError,
			Summary: "the AWS credentials ran out before the dry run was through",
			Remedy:  "Log in again, and run the command again."}, err)
	}
	return out, err
}

// begun reads the rollout of a plan; nil where none began. A database that is not there is not made for it.
func (a *App) begun(ctx context.Context, digest string) (*Record, error) {
	db, err := a.existing()
	if err != nil || db == nil {
		return nil, err
	}
	id, err := rolloutOf(ctx, db, digest)
	if err != nil || id == "" {
		return nil, err
	}
	return db.Load(ctx, id)
}

// existing is the database, or nil where there is none yet: a dry run makes none.
func (a *App) existing() (*store.Store, error) {
	if a.opt.DBPath == "" {
		return nil, nil
	}
	if !store.IsPostgres(a.opt.DBPath) {
		if _, err := os.Stat(a.opt.DBPath); errors.Is(err, fs.ErrNotExist) {
			return nil, nil
		}
	}
	return a.database()
}

// foreseeExemption is unexempted where there is a database.
func (a *App) foreseeExemption(ctx context.Context, p *plan.Plan) error {
	db, err := a.existing()
	if err != nil || db == nil {
		return err
	}
	return a.unexempted(ctx, db, p)
}

// standing notes what keeps a rollout that began from going on.
func standing(r *Record) []fleet.Diagnostic {
	note := fleet.Diagnostic{Severity: fleet.SeverityNote, Where: "rollout " + short(r.Digest)}
	switch {
	case r.Status.Final() && r.Status != rollout.Halted:
		note.Summary = fmt.Sprintf("the rollout of this plan is %s: apply would do nothing more", r.Status)
	case r.Status == rollout.Running:
		note.Summary = "the rollout of this plan has begun: apply would carry it on"
	default:
		note.Summary = fmt.Sprintf("the rollout of this plan is %s", r.Status)
		if r.Reason != "" {
			note.Summary += ": " + r.Reason
		}
		note.Remedy = "`imdsctl rollout show " + short(r.Digest) + "` tells how it stands."
	}
	return []fleet.Diagnostic{note}
}
