// Package core is the ground on which the simulated AWS services stand: accounts and regions, identity and enforcement,
// token buckets, faults, eventual consistency, scheduled events, the log of all calls, and the way of one request
// through them. It knows no service; a service is a value of type Service that is given to New.
//
// Everything that a handler changes lives in a Place (one account in one region) and is guarded by that place's lock,
// which the core takes: exclusively for actions declared Mutating, shared for the others. A request therefore either
// has
// its whole effect and its record in the call log, or neither.
//
// Signatures are not verified: the access key and the credential scope of the Authorization header are believed.
package core

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/imdsctl/imdsctl/internal/awssim/authz"
	"github.com/imdsctl/imdsctl/internal/clock"
	"github.com/imdsctl/imdsctl/internal/fleet"
)

// Options say how the world behaves. The zero value is a world like AWS, on the system's clock, with no latency.
type Options struct {
	Clock clock.Clock  // the machine's clock when nil
	Log   *slog.Logger // discards when nil
	// Seed makes ids, probabilities and jitter repeatable.
	Seed uint64
	// Consistency is how long a write stays invisible to describe calls; 0 means DefaultConsistency, negative none.
	Consistency time.Duration
	// Latency is slept on the clock before a call has its effect; nil means none.
	Latency func(*Call) time.Duration
	// Unthrottled turns the token buckets off.
	Unthrottled bool
	// Unenforced lets role sessions do anything; their policies are then not looked at.
	Unenforced bool
	// CallLogLimit keeps only the newest calls; 0 keeps all.
	CallLogLimit int
	// Settle is how long AWS takes to carry out what it has accepted (an instance starting, options being applied);
	// 0 means DefaultSettle, negative at once.
	Settle time.Duration
}

// DefaultConsistency is a common replication delay of EC2's describe calls; AWS documents no number ("a few seconds").
const DefaultConsistency = 700 * time.Millisecond

// DefaultSettle is how long accepted work takes to be carried out.
const DefaultSettle = 2 * time.Second

// World is a simulated AWS: all accounts, all regions. It is safe for many goroutines.
type World struct {
	opts     Options
	clock    clock.Clock
	log      *slog.Logger
	services map[string]*Service // by Name
	signing  map[string]*Service // by signing name
	targets  map[string]*Service // by JSON target prefix or CBOR service
	ids      atomic.Uint64
	calls    callLog
	buckets  buckets
	faults   faults
	offers   offers

	mu           sync.RWMutex
	organization Organization
	accounts     map[fleet.AccountID]*Account
	places       map[fleet.Place]*Place
	keys         map[string]*Principal // by access key id
	guardrails   func(fleet.AccountID) [][]*authz.Policy
	stores       map[string]any // world-wide stores, by service
}

// Account is one AWS account. Its fields are fixed once added, but for its roles, OU and regions, which are guarded
// by the
// world.
type Account struct {
	ID        fleet.AccountID
	Name      string
	Email     string
	OU        string // name of its organizational unit, "" for the root
	Partition fleet.Partition
	Tags      map[string]string
	OptedIn   []fleet.Region // regions beyond those enabled by default
	Joined    time.Time

	roles map[string]*Role
}

// Organization is the shape of the organization; which account is where, is in the accounts.
type Organization struct {
	ID string `json:"id,omitempty"`
	// RootID is the root's id; made when empty.
	RootID            string          `json:"root_id,omitempty"`
	ManagementAccount fleet.AccountID `json:"management_account,omitempty"`
	OUs               []OU            `json:"ous,omitempty"`
}

// OU is an organizational unit, named uniquely; an empty parent is the root.
type OU struct {
	// ID is "ou-<root>-<letters>"; made when empty.
	ID     string `json:"id,omitempty"`
	Name   string `json:"name"`
	Parent string `json:"parent,omitempty"`
}

// New makes an empty world that offers the given services. A service that is wrongly declared is an error of the
// program,
// so New panics.
func New(opts Options, services ...*Service) *World {
	if opts.Clock == nil {
		opts.Clock = clock.System()
	}
	if opts.Log == nil {
		opts.Log = slog.New(slog.DiscardHandler)
	}
	w := &World{
		opts: opts, clock: opts.Clock, log: opts.Log,
		services: map[string]*Service{}, signing: map[string]*Service{}, targets: map[string]*Service{},
		accounts: map[fleet.AccountID]*Account{}, places: map[fleet.Place]*Place{}, keys: map[string]*Principal{},
		stores: map[string]any{},
	}
	w.calls.limit = opts.CallLogLimit
	w.buckets.levels = map[bucketKey]*level{}
	w.faults.rng = rand.New(rand.NewPCG(opts.Seed, 0x66617573))
	for _, s := range services {
		if err := w.register(s); err != nil {
			panic(fmt.Sprintf("awssim: %v", err))
		}
	}
	return w
}

// Clock is the world's clock.
func (w *World) Clock() clock.Clock { return w.clock }

// Now is the world's time.
func (w *World) Now() time.Time { return w.clock.Now() }

// Consistency is how long writes stay invisible.
func (w *World) Consistency() time.Duration {
	if w.opts.Consistency < 0 {
		return 0
	}
	return cmp.Or(w.opts.Consistency, DefaultConsistency)
}

// Settle is how long accepted work takes to be carried out.
func (w *World) Settle() time.Duration {
	if w.opts.Settle < 0 {
		return 0
	}
	return cmp.Or(w.opts.Settle, DefaultSettle)
}

// NewID makes an id such as "i-0123456789abcdef0": unique, and the same in every run with the same order of calls.
func (w *World) NewID(prefix string) string {
	return fmt.Sprintf("%s0%016x", prefix, mix(w.opts.Seed, w.ids.Add(1)))
}

func (w *World) newRequestID() string {
	n := w.ids.Add(1)
	a, b := mix(w.opts.Seed^1, n), mix(w.opts.Seed^2, n)
	return fmt.Sprintf("%08x-%04x-4%03x-8%03x-%012x", a>>32, a>>16&0xffff, a&0xfff, b>>48&0xfff, b&0xffffffffffff)
}

// mix is splitmix64, a bijection for every seed: ids never repeat.
func mix(seed, n uint64) uint64 {
	z := seed*0xd1342543de82ef95 + n*0x9e3779b97f4a7c15
	z = (z ^ z>>30) * 0xbf58476d1ce4e5b9
	z = (z ^ z>>27) * 0x94d049bb133111eb
	return z ^ z>>31
}

// AddAccount adds an account; partition defaults to "aws".
func (w *World) AddAccount(a Account) error {
	if !a.ID.Valid() {
		return fmt.Errorf("account id %q: want twelve digits", a.ID)
	}
	a.Partition = cmp.Or(a.Partition, fleet.PartitionAWS)
	a.Name = cmp.Or(a.Name, "account-"+string(a.ID))
	a.Email = cmp.Or(a.Email, string(a.ID)+"@accounts.example.com")
	if a.Joined.IsZero() {
		a.Joined = w.Now().AddDate(-2, 0, 0)
	}
	for _, r := range a.OptedIn {
		if !slices.ContainsFunc(Regions(a.Partition), func(i RegionInfo) bool { return i.Name == r }) {
			return fmt.Errorf("account %s: region %q is not in partition %s", a.ID, r, a.Partition)
		}
	}
	a.roles = map[string]*Role{}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.accounts[a.ID] != nil {
		return fmt.Errorf("account %s is there already", a.ID)
	}
	w.accounts[a.ID] = &a
	return nil
}

// Account finds an account, as a copy; ok tells whether it exists.
func (w *World) Account(id fleet.AccountID) (a Account, ok bool) {
	w.mu.RLock()
	defer w.mu.RUnlock()
	found := w.accounts[id]
	if found == nil {
		return Account{}, false
	}
	return *found, true
}

// Accounts lists all accounts by id, as copies.
func (w *World) Accounts() []Account {
	w.mu.RLock()
	defer w.mu.RUnlock()
	out := make([]Account, 0, len(w.accounts))
	for _, a := range w.accounts {
		out = append(out, *a)
	}
	slices.SortFunc(out, func(a, b Account) int { return cmp.Compare(a.ID, b.ID) })
	return out
}

// UpdateAccount changes an account: its OU, tags, name or regions. Tags and OptedIn must be replaced, not written into.
func (w *World) UpdateAccount(id fleet.AccountID, change func(*Account)) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	a := w.accounts[id]
	if a == nil {
		return fmt.Errorf("account %s does not exist", id)
	}
	change(a)
	return nil
}

// Organization is the organization's shape.
func (w *World) Organization() Organization {
	w.mu.RLock()
	defer w.mu.RUnlock()
	return w.organization
}

// SetOrganization replaces the organization's shape.
func (w *World) SetOrganization(o Organization) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.organization = o
}

// SetGuardrails says which service control policies bind an account: one list for each level from the root down, and
// each level must allow a call. They bind all principals of the account. The function is called with the caller's place
// locked and must not lock a place.
func (w *World) SetGuardrails(f func(fleet.AccountID) [][]*authz.Policy) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.guardrails = f
}

// Store is a service's world-wide state (an organization's policies, say), made on first use. It is not guarded by any
// place: it brings its own lock.
func (w *World) Store(service string, make func() any) any {
	w.mu.RLock()
	s, ok := w.stores[service]
	w.mu.RUnlock()
	if ok {
		return s
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	s, ok = w.stores[service]
	if !ok {
		s = make()
		w.stores[service] = s
	}
	return s
}

// Place is one account in one region ("" for global services), made on first use. The account must exist.
func (w *World) Place(account fleet.AccountID, region fleet.Region) (*Place, error) {
	w.mu.RLock()
	a := w.accounts[account]
	var p *Place
	if a != nil {
		p = w.places[fleet.Place{Partition: a.Partition, Account: account, Region: region}]
	}
	w.mu.RUnlock()
	if a == nil {
		return nil, fmt.Errorf("account %s does not exist", account)
	}
	if p != nil {
		return p, nil
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	key := fleet.Place{Partition: a.Partition, Account: account, Region: region}
	if p = w.places[key]; p == nil {
		p = &Place{Place: key, world: w, stores: map[string]any{}}
		w.places[key] = p
	}
	return p, nil
}

// Places lists the places used so far, in order.
func (w *World) Places() []*Place {
	w.mu.RLock()
	defer w.mu.RUnlock()
	out := make([]*Place, 0, len(w.places))
	for _, p := range w.places {
		out = append(out, p)
	}
	slices.SortFunc(out, func(a, b *Place) int { return a.Place.Compare(b.Place) })
	return out
}

// RegionEnabled tells whether an account has a region switched on.
func (w *World) RegionEnabled(account fleet.AccountID, region fleet.Region) bool {
	w.mu.RLock()
	defer w.mu.RUnlock()
	a := w.accounts[account]
	if a == nil {
		return false
	}
	for _, r := range Regions(a.Partition) {
		if r.Name == region {
			return !r.OptIn || slices.Contains(a.OptedIn, region)
		}
	}
	return false
}

// sleep waits on the world's clock.
func (w *World) sleep(ctx context.Context, d time.Duration) error { return w.clock.Sleep(ctx, d) }
