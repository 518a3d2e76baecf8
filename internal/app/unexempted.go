package app

import (
	"context"
	"fmt"
	"maps"
	"slices"

	"github.com/imdsctl/imdsctl/internal/assess"
	"github.com/imdsctl/imdsctl/internal/fleet"
	"github.com/imdsctl/imdsctl/internal/inventory"
	"github.com/imdsctl/imdsctl/internal/plan"
	"github.com/imdsctl/imdsctl/internal/policy"
	"github.com/imdsctl/imdsctl/internal/store"
)

// unexempted makes sure that no exception names what the plan changes: one may have come into the configuration since the plan was
// made. By the configuration that it was made with, the plan has none.
func (a *App) unexempted(ctx context.Context, db *store.Store, p *plan.Plan) error {
	if a.config.Digest() == p.Header.Config || len(a.config.Exceptions) == 0 {
		return nil
	}
	changed := map[fleet.Place]map[fleet.Ref]bool{}
	for i := range p.Changes {
		ref := p.Changes[i].Ref
		if changed[ref.Place] == nil {
			changed[ref.Place] = map[fleet.Ref]bool{}
		}
		changed[ref.Place][ref] = true
	}
	for _, place := range slices.SortedFunc(maps.Keys(changed), fleet.Place.Compare) {
		snap, err := db.Snapshot(ctx, place)
		if err != nil {
			return err
		}
		index := inventory.NewIndex(snap)
		for i := range snap.Resources {
			r := &snap.Resources[i]
			if !changed[place][r.Ref] {
				continue
			}
			if e, state, found := a.config.Exempt(assess.Facts(index, r), a.clock.Now()); found && state == policy.ExceptionActive {
				return fleet.Diagnostic{Severity: fleet.SeverityError, Where: "plan " + short(p.Digest),
					Summary: fmt.Sprintf("it changes %s, which an exception of %s has named since, until %s: %s", r.Ref, e.Owner, e.Expires, e.Reason),
					Remedy:  "Run `imdsctl plan` again: what is exempt is left out. Nothing was written."}
			}
		}
	}
	return nil
}
