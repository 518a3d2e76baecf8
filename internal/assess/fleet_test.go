package assess_test

import (
	"testing"

	"github.com/imdsctl/imdsctl/internal/assess"
	"github.com/imdsctl/imdsctl/internal/fleet"
	"github.com/imdsctl/imdsctl/internal/inventory"
)

// inFleet makes an instance a member of an EC2 Fleet.
func inFleet(id string) func(*inventory.Resource) {
	return func(r *inventory.Resource) {
		r.Links = append(r.Links, inventory.Link{Relation: inventory.MemberOf, To: ref(inventory.KindFleet, id)})
	}
}

// TestInstancesOfAFleetThatLaunchesNoMore: a fleet of type instant is not listed, and no launcher stands for its instances:
// they speak for the template that they came from, and for the account's default, as bare instances do.
func TestInstancesOfAFleetThatLaunchesNoMore(t *testing.T) {
	for _, tt := range []struct {
		name    string
		listed  bool
		lineage fleet.Ref
	}{
		{"instant or deleted", false, ref(inventory.KindLaunchTemplate, "lt-1")},
		{"one that maintains its capacity", true, ref(inventory.KindFleet, "fleet-1")},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld()
			w.template("lt-1", map[string]fleet.Options{"1": {}}, "1", "1")
			d := w.defaults(fleet.Options{})
			i := w.instance("i-1", 3, inFleet("fleet-1"), launchedFrom("lt-1"))
			if tt.listed {
				w.resources = append(w.resources, inventory.Resource{
					Ref: ref(inventory.KindFleet, "fleet-1"), State: fleet.State{},
					Links: []inventory.Link{{Relation: inventory.LaunchesFrom, To: ref(inventory.KindLaunchTemplate, "lt-1"), Selector: "1"}},
				})
			}
			w.covers(i, 14, 0, 3)
			report := w.judge(t)
			if got := report.Verdict(i); got.Basis.Lineage != tt.lineage || got.Status != assess.Blocked {
				t.Errorf("the instance is %s by %s, not by %s", got.Status, got.Basis.Lineage, tt.lineage)
			}
			if got := report.Verdict(ref(inventory.KindLaunchTemplate, "lt-1")); got.Status != assess.Blocked {
				t.Errorf("the template is %s: %s", got.Status, got.Why())
			}
			if got := report.Verdict(d); got.Status != assess.Blocked {
				t.Errorf("the account's default is %s: %s", got.Status, got.Why())
			}
		})
	}
}

// TestAFleetThatWasNotRead: an instance of a fleet is not ready while it is not known whether the fleet will replace it, or whether
// the other instances of its template speak for it.
func TestAFleetThatWasNotRead(t *testing.T) {
	scope := func(kind string, s inventory.ScopeStatus) inventory.Scope {
		return inventory.Scope{Place: place, Kind: kind, Status: s, At: now}
	}
	for name, c := range map[string]struct {
		fleets []inventory.Scope
		want   assess.Status
	}{
		"read":     {[]inventory.Scope{scope(inventory.KindFleet, inventory.ScopeComplete)}, assess.Ready},
		"a gap":    {[]inventory.Scope{scope(inventory.KindFleet, inventory.ScopeGap)}, assess.Unknown},
		"excluded": {[]inventory.Scope{scope(inventory.KindFleet, inventory.ScopeExcluded)}, assess.Unknown},
		"not yet":  {nil, assess.Unknown},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld()
			w.scopes = append(c.fleets, scope(inventory.KindInstance, inventory.ScopeComplete))
			i := w.instance("i-1", 13.9, inFleet("fleet-1"), launchedFrom("lt-1"))
			w.covers(i, 14, 0, 0)
			if got := w.judge(t).Verdict(i); got.Status != c.want {
				t.Errorf("it is %s (%s), want %s", got.Status, got.Why(), c.want)
			}
		})
	}
}
