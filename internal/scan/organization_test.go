package scan_test

import (
	"context"
	"testing"

	"github.com/imdsctl/imdsctl/internal/fleet"
	"github.com/imdsctl/imdsctl/internal/inventory"
	"github.com/imdsctl/imdsctl/internal/kind"
	"github.com/imdsctl/imdsctl/internal/scan"
)

// governed is a fleet of two accounts, the second of which manages the organization. order notes the places as they are read.
func governed(order *[]fleet.Place, policies *lister) *accounts {
	return &accounts{ids: []fleet.AccountID{"111111111111", "222222222222"}, manager: "222222222222",
		open: func(p fleet.Place) scan.Place {
			if p.Region == "" {
				return scan.Place{Kinds: []scan.Reader{{Kind: inventory.KindOrganizationPolicy, Once: true, Driver: &lister{
					resources: policies.resources, err: policies.err,
					before: func(context.Context) error { *order = append(*order, p); return nil },
				}}}}
			}
			return scan.Place{Kinds: []scan.Reader{{Kind: inventory.KindInstance, Driver: &lister{
				before: func(context.Context) error { *order = append(*order, p); return nil },
			}}}}
		}}
}

func TestTheOrganizationIsReadOnceAndLast(t *testing.T) {
	global := fleet.Place{Partition: fleet.PartitionAWS, Account: "222222222222"}
	policies := &lister{resources: []inventory.Resource{
		{Ref: fleet.Ref{Place: global, Kind: inventory.KindOrganizationPolicy, ID: "p-0123456789"}},
	}}
	var order []fleet.Place
	m := newMemory()
	o := options(governed(&order, policies), m)
	o.Concurrency = 1
	sum, err := scan.Run(t.Context(), o)
	if err != nil || len(order) != 5 || order[4] != global || sum.Places != 5 {
		t.Errorf("read %v, %d places: %v", order, sum.Places, err)
	}
	if sc := m.scopes[global.String()+" "+inventory.KindOrganizationPolicy]; sc.Status != inventory.ScopeComplete || sc.Resources != 1 {
		t.Errorf("the scope of the policies is %+v", sc)
	}
	if _, ok := m.resources[policies.resources[0].Ref]; !ok {
		t.Errorf("the policy is not stored")
	}
}

func TestWhenTheOrganizationIsNotRead(t *testing.T) {
	denied := kind.Errorf(fleet.ErrDenied, fleet.Place{}, "organizations:DescribeOrganization", "no")
	for name, tt := range map[string]struct {
		change func(*scan.Options, *accounts)
		gap    fleet.ErrorClass
	}{
		"no organization":            {func(_ *scan.Options, a *accounts) { a.manager = "" }, ""},
		"a manager nobody asked for": {func(o *scan.Options, _ *accounts) { o.Accounts = []fleet.AccountID{"111111111111"} }, ""},
		"only a region":              {func(o *scan.Options, _ *accounts) { o.Regions = []fleet.Region{"eu-west-1"} }, ""},
		"not told":                   {func(_ *scan.Options, a *accounts) { a.unknown = denied }, fleet.ErrDenied},
	} {
		t.Run(name, func(t *testing.T) {
			var order []fleet.Place
			m := newMemory()
			f := governed(&order, &lister{})
			o := options(f, m)
			o.Concurrency = 1
			tt.change(&o, f)
			sum, err := scan.Run(t.Context(), o)
			if err != nil {
				t.Fatal(err)
			}
			for _, p := range order {
				if p.Region == "" {
					t.Errorf("%s was read", p)
				}
			}
			if len(sum.Gaps) > 0 != (tt.gap != "") {
				t.Fatalf("gaps %+v", sum.Gaps)
			}
			if tt.gap != "" && (sum.Gaps[0].Class != tt.gap || sum.Gaps[0].Kind != inventory.KindOrganizationPolicy ||
				sum.Gaps[0].Place.Region != "") {
				t.Errorf("gap %+v", sum.Gaps[0])
			}
		})
	}
}

func TestAnOrganizationThatCannotBeReadIsAGap(t *testing.T) {
	var order []fleet.Place
	m := newMemory()
	err := kind.Errorf(fleet.ErrDenied, fleet.Place{}, "organizations:ListPolicies", "no")
	o := options(governed(&order, &lister{err: err}), m)
	o.Concurrency = 1
	sum, ran := scan.Run(t.Context(), o)
	if ran != nil || len(sum.Gaps) != 1 || sum.Gaps[0].Kind != inventory.KindOrganizationPolicy ||
		sum.Gaps[0].Class != fleet.ErrDenied {
		t.Errorf("gaps %+v: %v", sum.Gaps, ran)
	}
}

// TestGlobalPlaces: what every account has once is read in each account, and what the organization has in one, after all else. A
// place that has both counts once. Denied in one account, it is a gap of that kind there and of nothing else.
func TestGlobalPlaces(t *testing.T) {
	denied := kind.Errorf(fleet.ErrDenied, fleet.Place{}, "iam:GetAccountAuthorizationDetails", "no")
	var order []fleet.Place
	f := governed(&order, &lister{})
	regional := f.open
	read := map[fleet.AccountID]int{}
	f.open = func(p fleet.Place) scan.Place {
		out := regional(p)
		if p.Region != "" {
			return out
		}
		if p.Account != f.manager {
			out.Kinds = nil // the organization's are there as well, and never read elsewhere
		}
		roles := &lister{before: func(context.Context) error { read[p.Account]++; return nil },
			resources: []inventory.Resource{{Ref: fleet.Ref{Place: p, Kind: inventory.KindRole, ID: "web"}}}}
		if p.Account == "111111111111" {
			roles.resources, roles.err = nil, denied
		}
		out.Kinds = append(out.Kinds, scan.Reader{Kind: inventory.KindRole, Driver: roles})
		return out
	}
	m := newMemory()
	o := options(f, m)
	o.Concurrency = 1
	sum, err := scan.Run(t.Context(), o)
	if err != nil || sum.Places != 6 || len(order) != 5 || order[4].Region != "" || read["111111111111"] != 1 || read["222222222222"] != 1 {
		t.Errorf("%d places, organization and regions in the order %v, roles %v: %v", sum.Places, order, read, err)
	}
	if len(sum.Gaps) != 1 || sum.Gaps[0].Kind != inventory.KindRole || sum.Gaps[0].Place.Account != "111111111111" ||
		sum.Gaps[0].Class != fleet.ErrDenied {
		t.Errorf("gaps %+v", sum.Gaps)
	}
	if sum.Resources[inventory.KindRole] != 1 {
		t.Errorf("resources %v", sum.Resources)
	}
}
