package app

import (
	"cmp"
	"context"
	"slices"

	"github.com/imdsctl/imdsctl/internal/assess"
	"github.com/imdsctl/imdsctl/internal/fleet"
	"github.com/imdsctl/imdsctl/internal/inventory"
	"github.com/imdsctl/imdsctl/internal/policy"
)

// AccountCriticality is what the configuration says of one account, and what is proposed for it.
type AccountCriticality struct {
	Account inventory.Account
	// Decided is the configuration's word and By the rule that gave it; ByDefault where nobody has decided.
	Decided   policy.Criticality
	By        policy.Reason
	ByDefault bool
	// Wave is empty where no wave takes the account; WaveBy says which rule put it there.
	Wave   string
	WaveBy policy.Reason
	// Skipped is why the configuration leaves the account out; empty where it does not.
	Skipped   string
	Footprint *assess.Footprint
	Proposal  assess.CriticalityProposal
}

// Criticality lists the accounts that were scanned, with what is decided and proposed for each. It changes nothing.
func (a *App) Criticality(ctx context.Context) ([]AccountCriticality, error) {
	db, err := a.database()
	if err != nil {
		return nil, err
	}
	if _, ok, err := db.LastScan(ctx); err != nil {
		return nil, err
	} else if !ok {
		return nil, fleet.Diagnostic{Severity: fleet.SeverityError, Where: db.Path(), Summary: "the database has no scan yet",
			Remedy: "Run `imdsctl scan` first."}
	}
	known, err := db.Accounts(ctx)
	if err != nil {
		return nil, err
	}
	byID := map[fleet.AccountID]*AccountCriticality{}
	of := func(account inventory.Account) *AccountCriticality {
		if byID[account.ID] == nil {
			byID[account.ID] = &AccountCriticality{Account: account, Footprint: &assess.Footprint{}}
		}
		return byID[account.ID]
	}
	for _, account := range known {
		of(account)
	}
	for report, err := range a.Assess(ctx) {
		if err != nil {
			return nil, err
		}
		of(report.Snapshot.Account).Footprint.Note(report.Report, report.weighty())
	}
	out := make([]AccountCriticality, 0, len(byID))
	for _, c := range byID {
		a.decide(c)
		out = append(out, *c)
	}
	slices.SortFunc(out, func(x, y AccountCriticality) int { return cmp.Compare(x.Account.ID, y.Account.ID) })
	return out, nil
}

func (a *App) decide(c *AccountCriticality) {
	facts := factsOf(c.Account)
	c.Decided, c.By = a.config.Resolve(facts)
	c.ByDefault = c.By == policy.Reason{Rule: "default"}
	if w, err := a.config.WaveOf(facts); err == nil {
		c.Wave, c.WaveBy = a.config.Waves[w.Index].Name, w.Reason
	}
	if why, ok := a.config.Skipped(c.Account.ID); ok {
		c.Skipped = why.Rule
	}
	facts = a.config.Known(facts)
	c.Account.Name = facts.Name
	c.Proposal = assess.ProposeCriticality(facts, c.Footprint)
}
