package app

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/imdsctl/imdsctl/internal/app/discovery"
	"github.com/imdsctl/imdsctl/internal/assess"
	"github.com/imdsctl/imdsctl/internal/awsx"
	"github.com/imdsctl/imdsctl/internal/clock"
	"github.com/imdsctl/imdsctl/internal/cloudformation"
	"github.com/imdsctl/imdsctl/internal/cloudwatch"
	"github.com/imdsctl/imdsctl/internal/evidence"
	"github.com/imdsctl/imdsctl/internal/fleet"
	"github.com/imdsctl/imdsctl/internal/inventory"
	"github.com/imdsctl/imdsctl/internal/kind"
	"github.com/imdsctl/imdsctl/internal/kinds/all"
	"github.com/imdsctl/imdsctl/internal/scan"
	"github.com/imdsctl/imdsctl/internal/store"
)

// ScanOptions narrow a scan.
type ScanOptions struct {
	// Accounts and Regions choose some; empty means all.
	Accounts []fleet.AccountID
	Regions  []fleet.Region
	// NoEvidence leaves CloudWatch out, which is the only part that costs money.
	NoEvidence bool
	// MaxDollars keeps CloudWatch from being asked where the estimate is higher; 0 is no ceiling.
	MaxDollars float64
	// Progress is told of every page that was stored, from one goroutine at a time.
	Progress func(ScanProgress)
}

// ScanSummary is what a scan came to.
type ScanSummary struct {
	scan.Summary
	// Status is "complete", "partial" (there are gaps) or "interrupted".
	Status string `json:"status"`
	// Instances counts those that were listed, and those that only history told of.
	Instances int `json:"instances"`
	// Verdicts counts the instances of the scanned fleet, places that were not part of this scan included.
	Verdicts map[assess.Status]int `json:"verdicts"`
}

// Scan reads the fleet into the database. With an error and a summary the scan began: what it stored can be used.
func (a *App) Scan(ctx context.Context, o ScanOptions) (*ScanSummary, error) {
	if err := a.settings().Validate(); err != nil {
		return nil, err
	}
	db, err := a.database()
	if err != nil {
		return nil, err
	}
	edge, finder, err := a.cloud(ctx)
	if err != nil {
		return nil, err
	}
	before := edge.Stats()                      // an App may scan more than once
	if _, err := edge.Caller(ctx); err != nil { // before anything is recorded: without credentials there is no scan
		return nil, fmt.Errorf("find out whose credentials these are: %w", err)
	}
	// A rollout that runs holds the lock, and a scan may go on beside it; only, it then cannot tell dead scans from live
	// ones.
	if release, err := db.LockProcess(ctx, "imdsctl scan", a.clock.Now()); err != nil {
		a.log.Info("scanning beside another process", "reason", err.Error())
	} else {
		defer func() {
			if err := release(); err != nil {
				a.log.Warn("could not release the process lock", "error", err)
			}
		}()
	}
	return a.scan(ctx, db, edge, finder, before, o)
}

func (a *App) scan(ctx context.Context, db *store.Store, edge *awsx.Edge, finder *discovery.Finder,
	before awsx.Stats, o ScanOptions) (*ScanSummary, error) {
	claims, notes, err := a.claims()
	if err != nil {
		return nil, err
	}
	started := a.clock.Now()
	id, err := db.BeginScan(ctx, store.ScanInfo{Started: started, Tool: a.opt.Version, Config: a.config.Digest(),
		Window: a.config.Evidence.Window})
	if err != nil {
		return nil, err
	}
	opt := scan.Options{
		Scan: id, Config: a.config, Store: db, Fleet: &surveyed{app: a, edge: edge,
			finder: finder}, Clock: a.clock, Logger: a.log,
		Source: evidence.SourceCloudWatch, Span: a.settings().Span(started), Ceiling: o.MaxDollars,
		Claims:   claims,
		Accounts: o.Accounts, Regions: o.Regions, Concurrency: a.opt.Concurrency, Progress: o.Progress,
		Calls: func() (int64, int64) {
			s := edge.Stats()
			return s.Calls - before.Calls, s.Throttles - before.Throttles
		},
	}
	if a.follows != nil {
		opt.Hold = (&laneHolder{journal: db, clock: a.clock, log: a.log, ttl: laneTTL, drain: edge.Drain}).hold
	}
	opt.Estimate = func(instances []int) scan.Cost { return costOf(cloudwatch.Estimate(opt.Span, instances...)) }
	if far, ok := a.settings().LookBack(started); ok {
		opt.History = far
		opt.EstimateLookBack = func(instances []int) scan.Cost { return costOf(cloudwatch.EstimateLookBack(far, instances...)) }
	}
	if o.NoEvidence {
		opt.Source = ""
	}
	sum, err := scan.Run(ctx, opt)
	sum.Notes = append(sum.Notes, notes...)
	out := &ScanSummary{Summary: *sum, Status: string(statusOf(sum, err)), Verdicts: map[assess.Status]int{}}
	out.Asked, out.Instances = costOfAsked(out.Asked), out.Resources[inventory.KindInstance]
	if posture := a.recordPosture(context.WithoutCancel(ctx), db, out.Verdicts); posture != nil && err == nil {
		err = posture
	}
	stats, marshal := json.Marshal(out)
	finish := db.FinishScan(context.WithoutCancel(ctx), id, store.ScanStatus(out.Status), stats, a.clock.Now())
	return out, errors.Join(explainScan(err), marshal, finish)
}

// statusOf tells how a scan ended.
func statusOf(sum *scan.Summary, err error) store.ScanStatus {
	switch {
	case err != nil:
		return store.ScanInterrupted
	case len(sum.Gaps) > 0:
		return store.ScanPartial
	}
	return store.ScanComplete
}

// explainScan says what to do about an error that ended a scan.
func explainScan(err error) error {
	if fleet.ClassOf(err) != fleet.ErrExpired {
		return err
	}
	return fmt.Errorf("%w: %w", fleet.Diagnostic{Severity: fleet.SeverityError,
		Summary: "the AWS credentials ran out before the scan was done; what it had read is stored",
		Remedy:  "Log in again and run the same scan once more."}, err)
}

func costOf(c cloudwatch.Cost) scan.Cost {
	return scan.Cost{Instances: c.Instances, Metrics: c.Metrics, Calls: c.Calls, Dollars: c.Dollars}
}

// costOfAsked puts a price on what was asked for.
func costOfAsked(c scan.Cost) scan.Cost {
	c.Dollars = float64(c.Metrics*cloudwatch.MicrodollarsPerMetric) / 1e6
	return c
}

// surveyed is the fleet as a scan sees it.
type surveyed struct {
	app    *App
	edge   *awsx.Edge
	finder *discovery.Finder
}

// Accounts lists the accounts.
func (s *surveyed) Accounts(ctx context.Context) ([]inventory.Account, []fleet.Diagnostic, error) {
	return s.finder.Accounts(ctx)
}

// Regions tells the regions of an account.
func (s *surveyed) Regions(ctx context.Context, account inventory.Account) (scan.Regions, error) {
	enabled, disabled, err := s.finder.Regions(ctx, account)
	return scan.Regions{Enabled: enabled, Disabled: disabled}, err
}

// Management tells the global place of the account that manages the organization.
func (s *surveyed) Management(ctx context.Context) (fleet.Place, bool, error) {
	place, ok, err := s.finder.Management(ctx)
	if err == nil && ok {
		err = s.finder.Enter(ctx, place, false)
	}
	return place, ok, err
}

// Open gives the readers of a place.
func (s *surveyed) Open(place fleet.Place) scan.Place {
	session := s.finder.Session(place, false)
	out := openPlace(session, s.app.clock, s.app.protocol())
	if s.app.config.Owners.CloudFormation && place.Region != "" {
		out.Claims = cloudformation.New(session.Config(), place).Claims
	}
	return out
}

// openPlace gives the kinds at work in the session's place: in the global one those that live once in an account or in an
// organization, in a region all others, with their evidence.
func openPlace(session *awsx.Session, c clock.Clock, p cloudwatch.Protocol) scan.Place {
	out := scan.Place{}
	if session.Place().Region != "" {
		out.Evidence = &observed{client: cloudwatch.New(session, p)}
	}
	for _, e := range all.List() {
		if !e.Kind.Lives.In(session.Place()) {
			continue
		}
		out.Kinds = append(out.Kinds, scan.Reader{Kind: e.Kind.Name, Driver: e.Open(session.Config(), session.Place(), c),
			Source: e.Kind.Manner.Source, Once: e.Kind.Lives == kind.Organization})
	}
	return out
}

// observed is CloudWatch as a scan sees it.
type observed struct{ client *cloudwatch.Client }

// History reads both metrics of the subjects.
func (o *observed) History(ctx context.Context, subjects []fleet.Ref, span evidence.Span,
	yield func(scan.Observation) error) error {
	return o.client.History(ctx, subjects, span, func(seen cloudwatch.Observation) error { return yield(observation(seen)) })
}

// LookBack reads the calls of the subjects day by day.
func (o *observed) LookBack(ctx context.Context, subjects []fleet.Ref, span evidence.Span,
	yield func(scan.Observation) error) error {
	return o.client.LookBack(ctx, subjects, span, func(seen cloudwatch.Observation) error { return yield(observation(seen)) })
}

func observation(seen cloudwatch.Observation) scan.Observation {
	out := scan.Observation{Gap: seen.Gap}
	for _, w := range []*evidence.Window{seen.NoToken, seen.Rejected} {
		if w != nil {
			out.Windows = append(out.Windows, w)
		}
	}
	return out
}
