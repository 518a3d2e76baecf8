package app

import (
	"context"
	"iter"
	"slices"

	"github.com/imdsctl/imdsctl/internal/assess"
	"github.com/imdsctl/imdsctl/internal/fleet"
	"github.com/imdsctl/imdsctl/internal/inventory"
)

// LaunchFilter chooses future launches: every part that is set must hold.
type LaunchFilter struct {
	Accounts []fleet.AccountID
	Regions  []fleet.Region
	// Kinds are those of who launches.
	Kinds []string
	// V1 are the answers to whether what is launched would answer IMDSv1.
	V1 []assess.V1
}

// PlaceLaunches are the future launches of one place.
type PlaceLaunches struct {
	Place   fleet.Place
	Account inventory.Account
	// Launches are those that the filter chooses, Counts all of the chosen kinds by their answer.
	Launches []assess.FutureLaunch
	Counts   map[assess.V1]int
	// Gaps are the scopes that could not be read and without which launches are missing, or fields of them unknown.
	Gaps []inventory.Scope
}

// Launches lists what would be launched in the scanned places, place by place.
func (a *App) Launches(ctx context.Context, f LaunchFilter) iter.Seq2[*PlaceLaunches, error] {
	return func(yield func(*PlaceLaunches, error) bool) {
		db, err := a.database()
		if err != nil {
			yield(nil, err)
			return
		}
		places, err := db.Places(ctx)
		if err != nil {
			yield(nil, err)
			return
		}
		where := ResourceFilter{Accounts: f.Accounts, Regions: f.Regions}
		w := &witness{db: db}
		for _, p := range places {
			if !where.place(p) {
				continue
			}
			report, err := a.assess(ctx, w, p)
			if err != nil {
				yield(nil, err)
				return
			}
			if !yield(f.choose(report), nil) {
				return
			}
		}
	}
}

func (f *LaunchFilter) choose(p *PlaceReport) *PlaceLaunches {
	out := &PlaceLaunches{Place: p.Snapshot.Place, Account: p.Snapshot.Account, Counts: map[assess.V1]int{}}
	for _, l := range p.Report.Launches() {
		if len(f.Kinds) > 0 && !slices.Contains(f.Kinds, l.By.Kind) {
			continue
		}
		out.Counts[l.V1]++
		if len(f.V1) == 0 || slices.Contains(f.V1, l.V1) {
			out.Launches = append(out.Launches, l)
		}
	}
	kinds := assess.LaunchKinds(manners())
	for _, g := range p.Gaps {
		if g.Kind == "" || slices.Contains(kinds, g.Kind) {
			out.Gaps = append(out.Gaps, g)
		}
	}
	return out
}
