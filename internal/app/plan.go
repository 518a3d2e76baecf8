package app

import (
	"context"
	"fmt"
	"io"
	"os"
	"slices"
	"time"

	"github.com/imdsctl/imdsctl/internal/assess"
	"github.com/imdsctl/imdsctl/internal/fleet"
	"github.com/imdsctl/imdsctl/internal/inventory"
	"github.com/imdsctl/imdsctl/internal/kind"
	"github.com/imdsctl/imdsctl/internal/kinds/all"
	"github.com/imdsctl/imdsctl/internal/plan"
	"github.com/imdsctl/imdsctl/internal/policy"
)

// PlanOptions narrow a plan.
type PlanOptions struct {
	// Accounts chooses some; empty means all.
	Accounts []fleet.AccountID
	// Out is where the plan will be written; WritePlan records it.
	Out string
}

// PlanResult is a plan that is not written yet, with what a reader should know of it.
type PlanResult struct {
	Plan *plan.Plan
	// Diagnostics are warnings: expired exceptions, places left out, bakes too short for what is at stake.
	Diagnostics []fleet.Diagnostic
	// Gaps are the scopes that could not be read; nothing is planned that would rest on them.
	Gaps []inventory.Scope
	// ScanAge is the age of the oldest reading the plan rests on.
	ScanAge time.Duration
}

// Plan judges the scanned fleet and plans what is ready.
func (a *App) Plan(ctx context.Context, o PlanOptions) (*PlanResult, error) {
	db, err := a.database()
	if err != nil {
		return nil, err
	}
	scan, ok, err := db.LastScan(ctx)
	if err != nil {
		return nil, err
	}
	if !ok {
		return nil, fleet.Diagnostic{Severity: fleet.SeverityError, Where: db.Path(), Summary: "the database has no scan yet",
			Remedy: "Run `imdsctl scan` first."}
	}
	now := a.clock.Now()
	out := &PlanResult{Diagnostics: a.ExpiredExceptions()}
	taken := now
	kinds := all.List()
	b := plan.NewBuilder(a.config, plan.Header{Created: now, Tool: a.opt.Version, Database: db.Path()}, describer(kinds))
	b.ByHand, b.Rates = Commands, a.rates()
	for report, err := range a.Assess(ctx) {
		if err != nil {
			return nil, err
		}
		place := report.Snapshot.Place
		if !a.planned(place, o) {
			continue
		}
		out.Gaps = append(out.Gaps, report.Gaps...)
		proposal := propose(kinds, a.config.Targets, report)
		if len(proposal.Needs) > 0 && report.Taken.Before(taken) {
			taken = report.Taken
		}
		if err := b.Add(proposal); err != nil {
			return nil, fmt.Errorf("plan %s: %w", place, err)
		}
	}
	out.Plan = b.Finish()
	out.Diagnostics = append(out.Diagnostics, b.Warnings()...)
	if len(out.Plan.Changes) == 0 {
		taken = scan.Started
	}
	out.Plan.Header.Taken, out.ScanAge = taken, now.Sub(taken)
	return out, nil
}

// planned tells whether anything may be planned in a place. The configuration may leave out what an earlier scan has
// read.
func (a *App) planned(place fleet.Place, o PlanOptions) bool {
	if _, skipped := a.config.Skipped(place.Account); skipped {
		return false
	}
	if len(o.Accounts) > 0 && !slices.Contains(o.Accounts, place.Account) {
		return false
	}
	use, _ := a.config.SelectRegions([]fleet.Region{place.Region})
	return place.Region == "" || len(use) > 0
}

// propose asks every kind what it needs.
func propose(kinds []all.Entry, targets policy.Targets, report *PlaceReport) plan.Proposal {
	out := plan.Proposal{Account: report.Facts, Report: report.Report, Gaps: len(report.Gaps)}
	byName := map[string]kind.Kind{}
	for _, e := range kinds {
		if e.Kind.Propose != nil && targeted(targets, e.Kind.Name) {
			byName[e.Kind.Name] = e.Kind
		}
	}
	for i := range report.Snapshot.Resources {
		r := &report.Snapshot.Resources[i]
		v := report.Report.Verdict(r.Ref)
		k, ok := byName[r.Ref.Kind]
		if !ok || v == nil && k.Manner.Role != assess.RoleFact {
			continue // what is no more is not judged
		}
		needs, manuals := k.Propose(kind.Case{Resource: r, Verdict: v, Index: report.Report.Index, Judge: report.Report.Verdict})
		out.Needs = append(out.Needs, needs...)
		out.Manuals = append(out.Manuals, manuals...)
	}
	return out
}

// targeted tells whether the configuration lets a plan change a kind.
func targeted(t policy.Targets, kindName string) bool {
	switch kindName {
	case inventory.KindInstance:
		return t.Instances
	case inventory.KindLaunchTemplate, inventory.KindLaunchConfiguration, inventory.KindAutoScaling, inventory.KindFleet,
		inventory.KindSpotFleet:
		return t.Templates
	case inventory.KindAccountDefaults:
		return t.AccountDefaults
	case inventory.KindImage:
		return t.Images
	case inventory.KindOrganizationPolicy:
		return t.Policies
	}
	return t.Services
}

// undoBehaviour is the plan's word for a change whose effect can be taken back, but which leaves something behind.
const undoBehaviour = "behaviour"

// describer completes changes with what their kinds know of the verb. It holds the kinds, so that all changes share what
// they say.
func describer(kinds []all.Entry) plan.Describe {
	byName := make(map[string]kind.Kind, len(kinds))
	for _, e := range kinds {
		byName[e.Kind.Name] = e.Kind
	}
	return func(c *plan.Change) error {
		k, ok := byName[c.Ref.Kind]
		if !ok {
			return fmt.Errorf("kind %q is not known", c.Ref.Kind)
		}
		return describe(&k, c)
	}
}

func describe(k *kind.Kind, c *plan.Change) error {
	v, ok := k.Verb(c.Action)
	if !ok {
		return fmt.Errorf("kind %s has no verb %q", c.Ref.Kind, c.Action)
	}
	if v.Class != c.Class {
		return fmt.Errorf("verb %s of kind %s is of class %s, not %s", v.Name, c.Ref.Kind, v.Class, c.Class)
	}
	c.Disruption, c.Undo, c.Residue, c.Calls = string(v.Disruption), string(v.Undo), v.Residue, v.Calls
	if v.Undo == kind.UndoFull && v.Residue != "" {
		c.Undo = undoBehaviour
	}
	if v.Undo == kind.UndoNone || k.Commands == nil {
		return nil
	}
	c.Inverse = k.Commands(kind.Write{Place: c.Ref.Place, ID: c.Ref.ID, Verb: c.Action, Revert: true,
		Before: c.After, After: c.Before, Params: c.Params})
	return nil
}

// Commands gives the AWS CLI commands that would make a change of a plan by hand.
func Commands(c *plan.Change) []string {
	e, ok := all.Find(c.Ref.Kind)
	if !ok || e.Kind.Commands == nil {
		return nil
	}
	return e.Kind.Commands(kind.Write{Place: c.Ref.Place, ID: c.Ref.ID, Verb: c.Action, Before: c.Before, After: c.After,
		Params: c.Params})
}

// WritePlan writes a plan, which sets its digest, and records it in the database so that it can be approved. path is
// what the record says of where it was written.
func (a *App) WritePlan(ctx context.Context, w io.Writer, path string, p *plan.Plan) error {
	db, err := a.database()
	if err != nil {
		return err
	}
	if err := plan.Write(w, p); err != nil {
		return err
	}
	return db.PutPlan(ctx, p.Digest, p.Header, path, a.clock.Now())
}

// ReadPlan reads a plan's file and checks that nobody changed it.
func ReadPlan(path string) (*plan.Plan, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("read the plan: %w", err)
	}
	defer f.Close()
	return plan.Read(f, path)
}

// Plans lists the plans on record, the latest first.
func (a *App) Plans(ctx context.Context) ([]PlanInfo, error) {
	db, err := a.database()
	if err != nil {
		return nil, err
	}
	return db.Plans(ctx)
}

// Approve records this App's actor's approval of a plan, named by its digest or the beginning of it.
func (a *App) Approve(ctx context.Context, digest, reason string) (Approval, error) {
	db, err := a.database()
	if err != nil {
		return Approval{}, err
	}
	now := a.clock.Now()
	whole, err := db.Approve(ctx, digest, a.opt.Actor, reason, now)
	return Approval{Digest: whole, Actor: a.opt.Actor, Reason: reason, At: now}, err
}
