package app

import (
	"context"
	"maps"
	"slices"
	"strings"
	"sync"

	"github.com/imdsctl/imdsctl/internal/fleet"
	"github.com/imdsctl/imdsctl/internal/inventory"
	"github.com/imdsctl/imdsctl/internal/kinds/all"
	"github.com/imdsctl/imdsctl/internal/store"
)

// globals keeps the global place of the account that was judged last: its regions are judged one after the other.
type globals struct {
	mu   sync.Mutex
	scan int64 // of the region that it was read for
	snap *inventory.Snapshot
}

// beside puts the account's global place, where its roles are, beside the snapshot of a region.
func (a *App) beside(ctx context.Context, db *store.Store, snap *inventory.Snapshot) error {
	if snap.Place.Region == "" {
		return nil
	}
	global := fleet.Place{Partition: snap.Place.Partition, Account: snap.Place.Account}
	a.globals.mu.Lock()
	defer a.globals.mu.Unlock()
	if g := &a.globals; g.snap == nil || g.snap.Place != global || g.scan != snap.Scan {
		found, err := db.Snapshot(ctx, global)
		if err != nil {
			return err
		}
		g.snap, g.scan = found, snap.Scan
	}
	snap.Global = a.globals.snap
	return nil
}

// weighty counts the gaps that may keep something from being judged. What only tells how much is at stake is none of these: the
// risk is then unknown, and the verdict what it was.
func (r *PlaceReport) weighty() int {
	known := manners()
	return len(slices.DeleteFunc(slices.Clone(r.Gaps), func(s inventory.Scope) bool { return known[s.Kind].Risk }))
}

// stakes reads what the risk of the instance rests on: the account's roles, the security groups before the instance, and the load
// balancers of the place. What cannot be read is a gap, and the risk unknown.
func (q *inquiry) stakes(ctx context.Context, subject *inventory.Resource) {
	global := fleet.Place{Partition: q.place.Partition, Account: q.place.Account}
	q.snap.Global = &inventory.Snapshot{Place: global, Account: q.snap.Account, Taken: q.snap.Taken}
	roles := inventory.Scope{Place: global, Kind: inventory.KindRole, Status: inventory.ScopeComplete, At: q.snap.Taken}
	if e, ok := all.Find(inventory.KindRole); ok && subject.Attrs[inventory.AttrProfile] != "" {
		driver := e.Open(q.account.Config(), global, q.app.clock)
		if err := driver.List(ctx, func(r inventory.Resource) error {
			q.snap.Global.Resources = append(q.snap.Global.Resources, r)
			return nil
		}); err != nil {
			roles.Status, roles.Class, roles.Detail = inventory.ScopeGap, fleet.ClassOf(err), err.Error()
			q.snap.Scopes = append(q.snap.Scopes, roles)
		}
	}
	q.snap.Global.Scopes = []inventory.Scope{roles}
	q.part(inventory.KindLoadBalancer, q.read(ctx, inventory.KindLoadBalancer, ""))
	q.part(inventory.KindSecurityGroup, q.guards(ctx))
}

// guards adds the security groups before the instances and load balancers that were found.
func (q *inquiry) guards(ctx context.Context) error {
	ids := map[string]bool{}
	for i := range q.snap.Resources {
		for id := range strings.SplitSeq(q.snap.Resources[i].Attrs[inventory.AttrSecurityGroups], ",") {
			if id != "" {
				ids[id] = true
			}
		}
	}
	for _, id := range slices.Sorted(maps.Keys(ids)) {
		if err := q.read(ctx, inventory.KindSecurityGroup, id); err != nil && fleet.ClassOf(err) != fleet.ErrGone {
			return err
		}
	}
	return nil
}
