package kindtest

import (
	"reflect"

	"github.com/imdsctl/imdsctl/internal/awssim"
	"github.com/imdsctl/imdsctl/internal/awssim/core"
	"github.com/imdsctl/imdsctl/internal/inventory"
	"github.com/imdsctl/imdsctl/internal/rehearse"
)

// rehearses checks that a copy of what was scanned reads as the original does: a rehearsal is run against such a copy.
func (b *bench) rehearses(t T) {
	original := b.site(t)
	found, err := original.list(t.Context(), 0)
	if err != nil {
		t.Fatalf("list: %v", err)
	}
	copied := b.site(t)
	copied.world = awssim.New(awssim.Options{Clock: copied.clock, Seed: 1, Unthrottled: true})
	seed, err := rehearse.Seed(core.AccountSeed{ID: b.fixture.Place.Account, OptIn: nil}, found)
	if err != nil {
		t.Fatalf("seed of the copy: %v", err)
	}
	if err := copied.world.LoadSeed(seed); err != nil {
		t.Fatalf("load the copy: %v", err)
	}
	if err := copied.world.PutRole(b.fixture.Place.Account, roleName, core.TrustAccount(b.fixture.Place.Account, ""),
		core.AllowActions(permissions(&b.entry.Kind)...)); err != nil {
		t.Fatalf("role: %v", err)
	}
	copied.settle()
	copied.restart(t)
	again, err := copied.list(t.Context(), 0)
	if err != nil {
		t.Fatalf("list the copy: %v", err)
	}
	if len(again) != len(found) {
		t.Fatalf("the copy has %d resources, the original %d", len(again), len(found))
	}
	byID := map[string]*inventory.Resource{}
	for i := range again {
		byID[again[i].Ref.ID] = &again[i]
	}
	for i := range found {
		r, c := &found[i], byID[found[i].Ref.ID]
		if c == nil {
			t.Errorf("%s is not in the copy", r.Ref.ID)
			continue
		}
		for _, part := range []struct {
			name      string
			was, read any
		}{
			{"status", r.Status, c.Status}, {"state", r.State, c.State}, {"options", r.Options(), c.Options()},
			{"launch options", r.Launch, c.Launch}, {"links", r.Links, c.Links}, {"owner", r.Owner, c.Owner},
		} {
			if !reflect.DeepEqual(part.was, part.read) {
				t.Errorf("%s of %s in the copy: %+v, in the original %+v", part.name, r.Ref.ID, part.read, part.was)
			}
		}
	}
}
