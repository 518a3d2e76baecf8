package app

import (
	"context"
	"time"

	"github.com/imdsctl/imdsctl/internal/awssim/programs"
	"github.com/imdsctl/imdsctl/internal/awsx"
	"github.com/imdsctl/imdsctl/internal/engine"
	"github.com/imdsctl/imdsctl/internal/evidence"
	"github.com/imdsctl/imdsctl/internal/fleet"
	"github.com/imdsctl/imdsctl/internal/inventory"
	"github.com/imdsctl/imdsctl/internal/plan"
	"github.com/imdsctl/imdsctl/internal/rehearse"
	"github.com/imdsctl/imdsctl/internal/rollout"
)

// What a rehearsal shows, for those who print it.
type (
	Rehearsal         = rehearse.Result
	RehearsalProgress = rehearse.Progress
	RehearsalFailed   = rehearse.Failed
	RehearsalBroken   = programs.Broken
)

// How a rehearsed rollout may have ended, among others.
const (
	RolloutDone   = rollout.Done
	RolloutHalted = rollout.Halted
)

// RehearseOptions say how a plan is rehearsed.
type RehearseOptions struct {
	// Latency is how long AWS takes for each call.
	Latency time.Duration
	// Horizon is how far the rehearsal looks; rehearse.DefaultHorizon when 0.
	Horizon  time.Duration
	Progress func(RehearsalProgress)
}

// Rehearse carries a plan out in a simulated copy of the scanned fleet. It makes no AWS call, and changes nothing but the
// copy.
func (a *App) Rehearse(ctx context.Context, p *plan.Plan, o RehearseOptions) (*Rehearsal, error) {
	db, err := a.database()
	if err != nil {
		return nil, err
	}
	accounts, err := db.Accounts(ctx)
	if err != nil {
		return nil, err
	}
	e := a.opt.Engine
	return rehearse.Run(ctx, rehearse.Options{
		Plan: p, Accounts: accounts, Share: a.config.Limits.Safety, Limits: a.limits(), Latency: o.Latency, Horizon: o.Horizon, Progress: o.Progress,
		Logger: a.log,
		Engine: engine.Options{CallTimeout: e.CallTimeout, Consistency: e.Consistency, VerifyTimeout: e.VerifyTimeout,
			PollInterval: e.PollInterval, LaneWidth: e.LaneWidth, LeaseTTL: e.LeaseTTL},
		Findings: (&witness{db: db}).findingsOf,
		Place: func(ctx context.Context, place fleet.Place) (*inventory.Snapshot, map[fleet.Ref][]*evidence.Window, error) {
			snap, err := db.Snapshot(ctx, place)
			if err != nil {
				return nil, nil, err
			}
			windows, err := db.EvidenceOf(ctx, place)
			return snap, windows, err
		},
	})
}

// limits are those that the configuration gives in place of AWS's.
func (a *App) limits() map[string]awsx.Limit {
	out := make(map[string]awsx.Limit, len(a.config.Limits.Actions))
	for action, b := range a.config.Limits.Actions {
		out[action] = awsx.Limit{Burst: float64(b.Burst), Refill: b.Refill}
	}
	return out
}

// rates are the limits as this App keeps to them.
func (a *App) rates() plan.Rates {
	used := awsx.Used(a.limits(), a.config.Limits.Safety)
	return func(action string) (burst, refill float64) {
		l := used(action)
		return l.Burst, l.Refill
	}
}
