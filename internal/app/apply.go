package app

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"sync"
	"time"

	"github.com/imdsctl/imdsctl/internal/app/discovery"
	"github.com/imdsctl/imdsctl/internal/clock"
	"github.com/imdsctl/imdsctl/internal/engine"
	"github.com/imdsctl/imdsctl/internal/fleet"
	"github.com/imdsctl/imdsctl/internal/followup"
	"github.com/imdsctl/imdsctl/internal/gates"
	"github.com/imdsctl/imdsctl/internal/kind"
	"github.com/imdsctl/imdsctl/internal/kinds/all"
	"github.com/imdsctl/imdsctl/internal/plan"
	"github.com/imdsctl/imdsctl/internal/store"
)

// DefaultMaxScanAge is how old the readings may be that a plan rests on when its rollout begins.
const DefaultMaxScanAge = 7 * 24 * time.Hour

// ApplyOptions say how a plan is carried out.
type ApplyOptions struct {
	// Yes approves the plan, with Reason, as this App's actor, if nobody has yet.
	Yes    bool
	Reason string
	// MaxScanAge is DefaultMaxScanAge when 0. AllowStale lets an older plan begin all the same. A rollout that has begun
	// is never refused: each change is compared with what is there anyway.
	MaxScanAge time.Duration
	AllowStale bool
	// Progress is told of everything that happens, in order, from one goroutine.
	Progress func(Progress)
	// RollbackFile is where the commands of a rollback by hand are written: empty means next to the database, or in the current
	// directory where that is on a server.
	RollbackFile string
	// Watch leaves the work to other processes, where the database is one that several work on.
	Watch bool
}

// ApplyResult is where a rollout stands at the end of a run.
type ApplyResult struct {
	Record       *Record
	Plan         *plan.Plan
	RollbackFile string
	Counts       ChangeCounts
}

// ChangeCounts are the changes of a rollout by what became of them.
type ChangeCounts struct {
	Total    int `json:"total"`
	Pending  int `json:"pending"`
	Open     int `json:"open"` // accepted and not verified included
	Verified int `json:"verified"`
	// Written are the verified ones that imdsctl wrote; the others were found as wanted.
	Written  int `json:"written"`
	Conflict int `json:"conflict"`
	Failed   int `json:"failed"`
	Skipped  int `json:"skipped"`
	Reverted int `json:"reverted"`
	Stuck    int `json:"stuck"`
}

func countChanges(r *Record) ChangeCounts {
	var n ChangeCounts
	for _, c := range r.Changes {
		n.Total++
		switch c.Phase {
		case engine.ChangePending:
			n.Pending++
		case engine.ChangeOpen, engine.ChangeApplied:
			n.Open++
		case engine.ChangeVerified:
			n.Verified++
			if c.Wrote {
				n.Written++
			}
		case engine.ChangeConflict:
			n.Conflict++
		case engine.ChangeFailed:
			n.Failed++
		case engine.ChangeSkipped:
			n.Skipped++
		case engine.ChangeReverted:
			n.Reverted++
		case engine.ChangeStuck:
			n.Stuck++
		}
	}
	return n
}

// Apply carries out an approved plan, or goes on with its rollout where one began, until it comes to its end or ctx
// ends.
func (a *App) Apply(ctx context.Context, p *plan.Plan, o ApplyOptions) (*ApplyResult, error) {
	db, err := a.database()
	if err != nil {
		return nil, err
	}
	if o.Watch && a.follows == nil {
		return nil, errShared
	}
	release, err := db.LockProcess(ctx, "imdsctl apply", a.clock.Now())
	if err != nil {
		return nil, err
	}
	defer a.release(release)
	begun, err := rolloutOf(ctx, db, p.Digest)
	if err != nil {
		return nil, err
	}
	if begun == "" {
		if err := a.admissible(p, o); err != nil {
			return nil, err
		}
		if err := a.unexempted(ctx, db, p); err != nil {
			return nil, err
		}
		if err := a.approved(ctx, db, p, o); err != nil {
			return nil, err
		}
	}
	record, err := db.Begin(ctx, p, a.clock.Now())
	if err != nil {
		return nil, explainBegin(err, p)
	}
	out := &ApplyResult{Plan: p, Record: record, Counts: countChanges(record)}
	if out.RollbackFile, err = a.writeRollbackFile(p, record.ID, o.RollbackFile); err != nil {
		return out, err
	}
	return out, a.run(ctx, db, record.ID, o, out)
}

// ResumeRun goes on with a rollout that began, without its plan's file.
func (a *App) ResumeRun(ctx context.Context, id string, o ApplyOptions) (*ApplyResult, error) {
	db, err := a.database()
	if err != nil {
		return nil, err
	}
	if id, err = wholeRollout(ctx, db, id); err != nil {
		return nil, err
	}
	p, err := db.Plan(ctx, id)
	if err != nil {
		return nil, err
	}
	return a.Apply(ctx, p, o)
}

// run lets the engine work on a rollout.
func (a *App) run(ctx context.Context, db *store.Store, id string, o ApplyOptions, out *ApplyResult) error {
	_, finder, err := a.cloud(ctx)
	if err != nil {
		return err
	}
	var record *Record
	if a.follows != nil {
		record, err = a.join(ctx, db, id, o)
	} else {
		for _, place := range accountsOf(out.Plan) {
			if err := enter(ctx, finder, place); err != nil {
				return err
			}
		}
		opt := a.engineOptions(db, finder)
		opt.Progress = o.Progress
		record, err = engine.New(opt).Run(ctx, id)
	}
	if record != nil {
		out.Record, out.Counts = record, countChanges(record)
	}
	if fleet.ClassOf(err) == fleet.ErrExpired {
		err = fmt.Errorf("%w: %w", fleet.Diagnostic{Severity: fleet.SeverityError,
			Summary: "the AWS credentials ran out; the rollout stands where it is and nothing is lost",
			Remedy:  "Log in again, and go on with `imdsctl apply` of the same plan."}, err)
	}
	return err
}

// enter decides how an account is entered: the caller's own may have no role to write, or to read gates.
func enter(ctx context.Context, finder *discovery.Finder, place fleet.Place) error {
	for _, write := range []bool{false, true} {
		if err := finder.Enter(ctx, place, write); err != nil {
			return fmt.Errorf("enter account %s: %w", place.Account, err)
		}
	}
	return nil
}

// engineOptions are what every engine of this process works with.
func (a *App) engineOptions(db *store.Store, finder *discovery.Finder) engine.Options {
	e := a.opt.Engine
	return engine.Options{
		Journal: db, Clock: a.clock, Logger: a.log, Holder: holder(),
		Drivers:     &drivers{finder: finder, clock: a.clock, runner: a.runner, open: map[driverKey]kind.Driver{}},
		Gates:       gates.New(gates.Options{Session: finder.Session, Protocol: a.protocol(), Logger: a.log}),
		CallTimeout: e.CallTimeout, Consistency: e.Consistency, VerifyTimeout: e.VerifyTimeout, PollInterval: e.PollInterval,
		LaneWidth: e.LaneWidth, LeaseTTL: e.LeaseTTL,
	}
}

func (a *App) release(release func() error) {
	if err := release(); err != nil {
		a.log.Warn("could not release the process lock", "error", err)
	}
}

// accountsOf lists one place of each account of a plan, in the account's first region there.
func accountsOf(p *plan.Plan) []fleet.Place {
	seen := map[fleet.AccountID]bool{}
	var out []fleet.Place
	for i := range p.Stacks {
		if place := p.Stacks[i].Place; !seen[place.Account] {
			seen[place.Account] = true
			out = append(out, place)
		}
	}
	return out
}

// admissible refuses a plan that rests on readings too old to act on.
func (a *App) admissible(p *plan.Plan, o ApplyOptions) error {
	limit := o.MaxScanAge
	if limit <= 0 {
		limit = DefaultMaxScanAge
	}
	age := a.clock.Now().Sub(p.Header.Taken)
	if age <= limit || o.AllowStale {
		return nil
	}
	return fleet.Diagnostic{Severity: fleet.SeverityError, Where: "plan " + short(p.Digest),
		Summary: fmt.Sprintf("the plan is stale: it rests on a scan of %s, %.1f days ago, and %.1f days are the limit",
			p.Header.Taken.Format(time.RFC3339), age.Hours()/24, limit.Hours()/24),
		Remedy: "Run `imdsctl scan` and `imdsctl plan` again; or apply it all the same with --allow-stale."}
}

// approved makes sure that somebody approved the plan, or does so where the caller said yes.
func (a *App) approved(ctx context.Context, db *store.Store, p *plan.Plan, o ApplyOptions) error {
	have, err := db.Approvals(ctx, p.Digest)
	if err != nil {
		return err
	}
	if len(have) > 0 {
		return nil
	}
	if !o.Yes {
		return explainBegin(engine.ErrNotApproved, p)
	}
	if err := db.PutPlan(ctx, p.Digest, p.Header, "", a.clock.Now()); err != nil {
		return err
	}
	_, err = db.Approve(ctx, p.Digest, a.opt.Actor, o.Reason, a.clock.Now())
	return err
}

func explainBegin(err error, p *plan.Plan) error {
	if !errors.Is(err, engine.ErrNotApproved) {
		return err
	}
	return fmt.Errorf("%w: %w", fleet.Diagnostic{Severity: fleet.SeverityError, Where: "plan " + short(p.Digest),
		Summary: "nobody has approved this plan, so nothing was written",
		Remedy:  "Look at it with `imdsctl show`, then `imdsctl rollout approve " + short(p.Digest) + "`; or apply it with --yes."}, err)
}

// short is as much of a digest as names a plan.
func short(digest string) string { return digest[:min(12, len(digest))] }

func (a *App) rollbackPath(p *plan.Plan, asked string) string {
	if asked != "" {
		return asked
	}
	dir := "." // of a database elsewhere
	if a.follows == nil {
		dir = filepath.Dir(a.opt.DBPath)
	}
	return filepath.Join(dir, "rollback-"+short(p.Digest)+".sh")
}

// drivers opens kinds as the role that may write, once for each place.
type drivers struct {
	finder *discovery.Finder
	clock  clock.Clock
	runner *followup.Runner

	mu   sync.Mutex
	open map[driverKey]kind.Driver
}

type driverKey struct {
	place fleet.Place
	kind  string
}

// Driver implements engine.Drivers.
func (d *drivers) Driver(place fleet.Place, kindName string) (kind.Driver, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	key := driverKey{place, kindName}
	if have := d.open[key]; have != nil {
		return have, nil
	}
	open := d.runner.Open
	if kindName != plan.KindFollowUp {
		e, ok := all.Find(kindName)
		if !ok {
			return nil, fmt.Errorf("kind %q is not known to this imdsctl", kindName)
		}
		open = e.Open
	}
	d.open[key] = open(d.finder.Session(place, true).Config(), place, d.clock)
	return d.open[key], nil
}

// Kind implements engine.Drivers.
func (d *drivers) Kind(name string) (kind.Kind, bool) {
	if name == plan.KindFollowUp {
		return followup.Kind(), true
	}
	e, ok := all.Find(name)
	return e.Kind, ok
}
