// Package organizations is the simulator's AWS Organizations: the organization, its root, units and accounts, with their
// tags, as the world has them, and its policies. No request changes the former.
//
// Of the policies, service control policies and declarative policies for EC2 can be written, and have their effect: the
// former bind every call of the accounts below, the latter are their metadata defaults in every region.
//
// The management account and delegated administrators may read everything; a member may only describe the organization
// and ask for its own effective policy.
package organizations

import (
	"cmp"
	"encoding/json"
	"fmt"
	"hash/fnv"
	"slices"
	"sync"

	"github.com/imdsctl/imdsctl/internal/awssim/core"
	"github.com/imdsctl/imdsctl/internal/fleet"
)

// Settings are what an organization has beyond its accounts and units.
type Settings struct {
	// DelegatedAdministrators may read the organization as the management account does.
	DelegatedAdministrators []fleet.AccountID `json:"delegated_administrators,omitempty"`
	Suspended               []fleet.AccountID `json:"suspended,omitempty"`
	// PolicyTypes are those enabled in the root: "SERVICE_CONTROL_POLICY", "DECLARATIVE_POLICY_EC2".
	PolicyTypes []string `json:"policy_types,omitempty"`
}

// Seed is the section "organizations" of a seed's services.
type Seed struct {
	Settings
	Policies []PolicySeed `json:"policies,omitempty"`
}

// settings are the state of the service. Its lock may be taken while a place is locked, and no place while it is held.
type settings struct {
	mu sync.RWMutex
	Settings
	policies []*policy // in the order of their creation
	// declared is what was put into effect last, by account.
	declared map[fleet.AccountID]*attributes
}

func settingsOf(w *core.World) *settings {
	return w.Store("organizations", func() any {
		return &settings{
			Settings: Settings{PolicyTypes: []string{TypeSCP}}, policies: []*policy{fullAccessPolicy()},
			declared: map[fleet.AccountID]*attributes{},
		}
	}).(*settings)
}

// Configure replaces the organization's settings.
func Configure(w *core.World, s Settings) {
	kept := settingsOf(w)
	kept.mu.Lock()
	defer kept.mu.Unlock()
	kept.Settings = s
}

func seed(w *core.World, section json.RawMessage, path string) error {
	var s Seed
	if err := core.DecodeStrict(path, section, &s); err != nil {
		return err
	}
	for _, id := range slices.Concat(s.DelegatedAdministrators, s.Suspended) {
		if _, ok := w.Account(id); !ok {
			return fmt.Errorf("%s: account %s is not in the seed", path, id)
		}
	}
	if len(s.PolicyTypes) == 0 {
		s.PolicyTypes = []string{TypeSCP}
	}
	Configure(w, s.Settings)
	if len(s.Policies) == 0 {
		return nil
	}
	kept := settingsOf(w)
	kept.mu.Lock()
	err := kept.seedPolicies(w, s.Policies, path)
	kept.mu.Unlock()
	if err == nil {
		kept.enforce(w, w.Now(), 0)
	}
	return err
}

// organization is the world's organization as one request sees it.
type organization struct {
	id, root    string
	partition   fleet.Partition
	management  fleet.AccountID
	units       []unit
	accounts    []account
	policyTypes []string
	delegated   []fleet.AccountID
}

type unit struct {
	id, name, parent string
	tags             map[string]string
}

type account struct {
	core.Account
	parent string // id of the unit, or the root
	state  string
}

// view builds the organization from the world. A world without a management account has none.
func view(w *core.World) *organization {
	kept := settingsOf(w)
	kept.mu.RLock()
	defer kept.mu.RUnlock()
	return kept.view(w)
}

// view is view for who holds the lock.
func (s *settings) view(w *core.World) *organization {
	shape := w.Organization()
	if shape.ManagementAccount == "" {
		return &organization{}
	}
	manager, _ := w.Account(shape.ManagementAccount)
	token := letters(string(shape.ManagementAccount), 4)
	o := &organization{
		id: cmp.Or(shape.ID, OrganizationID(shape.ManagementAccount)), root: cmp.Or(shape.RootID, "r-"+token), partition: manager.Partition,
		management: manager.ID, policyTypes: s.PolicyTypes, delegated: s.DelegatedAdministrators,
	}
	ids := map[string]string{"": o.root}
	for _, ou := range shape.OUs {
		ids[ou.Name] = cmp.Or(ou.ID, "ou-"+token+"-"+letters(string(manager.ID)+"/"+ou.Name, 8))
		o.units = append(o.units, unit{id: ids[ou.Name], name: ou.Name, parent: ids[ou.Parent]})
	}
	for _, a := range w.Accounts() {
		if a.Partition != manager.Partition {
			continue // an organization does not reach into another partition
		}
		state := "ACTIVE"
		if slices.Contains(s.Suspended, a.ID) {
			state = "SUSPENDED"
		}
		o.accounts = append(o.accounts, account{Account: a, parent: cmp.Or(ids[a.OU], o.root), state: state})
	}
	return o
}

// OrganizationID is the id of an organization that was not given one.
func OrganizationID(management fleet.AccountID) string { return "o-" + letters(string(management), 10) }

// letters derives n lower-case letters and digits from a text.
func letters(of string, n int) string {
	const alphabet = "abcdefghijklmnopqrstuvwxyz0123456789"
	out := make([]byte, n)
	for i := range out {
		h := fnv.New64a()
		fmt.Fprintf(h, "%d %s", i, of)
		out[i] = alphabet[h.Sum64()>>8%uint64(len(alphabet))]
	}
	return string(out)
}

func (o *organization) account(id fleet.AccountID) *account {
	for i := range o.accounts {
		if o.accounts[i].ID == id {
			return &o.accounts[i]
		}
	}
	return nil
}

func (o *organization) unitBy(id string) *unit {
	for i := range o.units {
		if o.units[i].id == id {
			return &o.units[i]
		}
	}
	return nil
}

// isParent tells whether the id names the root or a unit.
func (o *organization) isParent(id string) bool { return id == o.root || o.unitBy(id) != nil }

// path is "o-…/r-…/ou-…/" down to the unit or root.
func (o *organization) path(parent string) string {
	if u := o.unitBy(parent); u != nil {
		return o.path(u.parent) + u.id + "/"
	}
	return o.id + "/" + o.root + "/"
}

// mayRead tells whether an account may list the organization.
func (o *organization) mayRead(id fleet.AccountID) bool {
	return id == o.management || slices.Contains(o.delegated, id)
}

func (o *organization) arn(kind, rest string) string {
	return "arn:" + string(o.partition) + ":organizations::" + string(o.management) + ":" + kind + "/" + o.id + rest
}
