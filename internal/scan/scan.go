// Package scan reads a fleet once: which accounts and regions there are, every resource of every kind in each of them,
// and the CloudWatch history of every instance, the terminated ones that left some included.
//
// It owns the order of reading, how much is read at a time, and what becomes of an error: what could not be read is a
// recorded gap, never silently absent, and one place that is denied or throttled never stops another. It declares what
// it needs of the world (Fleet, Evidence, Store) and knows no SDK and no SQL. Resources go to the store page by page,
// so that memory does not grow with the fleet but for the ids of its instances, eight bytes each.
//
// An interruption leaves a usable database: what was stored counts, and what was never read before says that it was
// not.
package scan

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"github.com/imdsctl/imdsctl/internal/clock"
	"github.com/imdsctl/imdsctl/internal/evidence"
	"github.com/imdsctl/imdsctl/internal/fleet"
	"github.com/imdsctl/imdsctl/internal/inventory"
	"github.com/imdsctl/imdsctl/internal/kind"
	"github.com/imdsctl/imdsctl/internal/owners"
	"github.com/imdsctl/imdsctl/internal/policy"
)

// Store is where a scan puts what it finds. Each method is one transaction, and is called from many goroutines.
type Store interface {
	// Places lists the places that earlier scans recorded.
	Places(ctx context.Context) ([]fleet.Place, error)
	// PutAccounts records what is known of accounts.
	PutAccounts(ctx context.Context, scan int64, accounts []inventory.Account) error
	// PutResources records a page of resources of one kind in one place. Within one scan the last sighting counts.
	PutResources(ctx context.Context, scan int64, place fleet.Place, kind string, page []inventory.Resource) error
	// PutEvidence records windows whose subjects are recorded.
	PutEvidence(ctx context.Context, scan int64, windows []*evidence.Window) error
	// PutHistory records windows of the long look back.
	PutHistory(ctx context.Context, scan int64, windows []*evidence.Window) error
	// CloseScope records how the reading of a scope ended. Only a complete one tells that what was not seen is gone.
	CloseScope(ctx context.Context, scan int64, scope inventory.Scope) error
}

// Fleet is the way to the accounts. It is called from many goroutines.
type Fleet interface {
	// Accounts lists the accounts there are, with notes on what about them could not be read. An error means that the list
	// is not known.
	Accounts(ctx context.Context) ([]inventory.Account, []fleet.Diagnostic, error)
	// Regions tells which regions an account has, by entering it.
	Regions(ctx context.Context, account inventory.Account) (Regions, error)
	// Management tells the global place of the account that manages the organization, where what an organization has once is
	// read; ok tells whether there is one. An error says why that could not be told, and where it was asked.
	Management(ctx context.Context) (place fleet.Place, ok bool, err error)
	// Open gives the readers of a place. It makes no call.
	Open(place fleet.Place) Place
}

// Regions are those of an account.
type Regions struct {
	Enabled []fleet.Region
	// Disabled are the regions the account would have to opt in to.
	Disabled []fleet.Region
}

// Place is a place opened for reading.
type Place struct {
	Kinds []Reader
	// Claims gives what the place's CloudFormation stacks manage; nil where they are not read.
	Claims func(ctx context.Context, yield func(owners.Claim)) error
	// Evidence is nil where none is read.
	Evidence Evidence
}

// holds tells whether there is something to read that an organization has once, or something else.
func (p Place) holds(once bool) bool {
	return slices.ContainsFunc(p.Kinds, func(r Reader) bool { return r.Once == once })
}

// Reader reads one kind in a place. The driver may also be a kind.VersionReader or a kind.HistoryReader.
type Reader struct {
	Kind   string
	Driver Lister
	// Source is where the kind's own metric is read, of a driver that is a kind.MetricReader; empty for all others.
	Source evidence.Source
	// Once: an organization has it once, so that it is read after everything else.
	Once bool
}

// Lister is the part of kind.Driver that a scan uses.
type Lister interface {
	List(ctx context.Context, emit func(inventory.Resource) error) error
}

// Evidence reads what was observed of instances.
type Evidence interface {
	// History yields one observation of each subject, in order. It ends with an error where all further subjects would
	// meet it too; those are then unknown.
	History(ctx context.Context, subjects []fleet.Ref, span evidence.Span, yield func(Observation) error) error
}

// LookBack is the part of an Evidence that reads far back as well, in the manner of History.
type LookBack interface {
	LookBack(ctx context.Context, subjects []fleet.Ref, span evidence.Span, yield func(Observation) error) error
}

// Observation is what was observed of one instance.
type Observation = kind.Observation

// Cost is what the reading of evidence takes.
type Cost struct {
	Instances int64   `json:"instances"`
	Metrics   int64   `json:"metrics"`
	Calls     int64   `json:"calls"`
	Dollars   float64 `json:"dollars"`
	// LookBack is how many of the metrics are of the long look back.
	LookBack int64 `json:"look_back_metrics,omitempty"`
}

// plus is the cost of both; the instances of one are among those of the other.
func (c Cost) plus(lookBack Cost) Cost {
	return Cost{Instances: max(c.Instances, lookBack.Instances), Metrics: c.Metrics + lookBack.Metrics, Calls: c.Calls + lookBack.Calls,
		Dollars: c.Dollars + lookBack.Dollars, LookBack: c.LookBack + lookBack.Metrics}
}

// Options say what is scanned and how.
type Options struct {
	// Scan is the number under which the store knows this scan.
	Scan   int64
	Config *policy.Config
	Store  Store
	Fleet  Fleet
	Clock  clock.Clock
	Logger *slog.Logger
	// Source is the name of the evidence source, for its scopes; "" reads none, and no kind's own metric either.
	Source evidence.Source
	Span   evidence.Span
	// History is the long look back, which begins before Span; without slots there is none.
	History evidence.Span
	// Estimate tells what evidence costs, from the numbers of instances by place, and EstimateLookBack what the long look back costs.
	Estimate         func(instances []int) Cost
	EstimateLookBack func(instances []int) Cost
	// Ceiling keeps evidence from being read where the estimate is above so many dollars; 0 is none. Kinds' own metrics cost
	// nothing and are read all the same.
	Ceiling float64
	// Claims are what the configuration's Terraform states manage; nil for none.
	Claims *owners.Book
	// Accounts and Regions narrow the scan to some; empty means all.
	Accounts []fleet.AccountID
	Regions  []fleet.Region
	// Concurrency is how many places are read at a time. Each holds a page or two of AWS's answers, some ten megabytes.
	Concurrency int
	// Hold, where set, waits until calls may be made in a place, which others may be at work in, and gives what ends that.
	Hold func(ctx context.Context, place fleet.Place) (release func(), err error)
	// Progress is told of every page, from one goroutine at a time. It must not block for long.
	Progress func(Progress)
	// Calls counts the AWS calls made so far, for Progress.
	Calls func() (calls, throttles int64)
}

// Run scans. With an error the summary tells what was read until then: interrupted (the context's error), credentials
// that ran out (fleet.ErrExpired), a store that cannot be written.
func Run(ctx context.Context, o Options) (*Summary, error) {
	s := newRun(o)
	known, err := o.Store.Places(ctx)
	if err != nil {
		return s.finish(), fmt.Errorf("read what earlier scans found: %w", err)
	}
	for _, p := range known {
		s.known[p] = true
	}
	accounts, err := s.accounts(ctx)
	if err != nil {
		return s.finish(), err
	}
	err = s.inventory(ctx, accounts)
	if err == nil {
		err = s.organization(ctx, accounts)
	}
	if err == nil {
		err = s.evidence(ctx)
	}
	if err != nil {
		err = errors.Join(err, s.abandon(ctx, err))
	}
	return s.finish(), err
}

// accounts lists the accounts to scan, and records all there are.
func (s *run) accounts(ctx context.Context) ([]inventory.Account, error) {
	s.phase(PhaseAccounts)
	all, notes, err := s.opt.Fleet.Accounts(ctx)
	if err != nil {
		return nil, fmt.Errorf("list the accounts: %w", err)
	}
	s.sum.Notes = append(s.sum.Notes, notes...)
	if err := s.opt.Store.PutAccounts(context.WithoutCancel(ctx), s.opt.Scan, all); err != nil {
		return nil, err
	}
	for _, id := range s.opt.Accounts {
		if !slices.ContainsFunc(all, func(a inventory.Account) bool { return a.ID == id }) {
			return nil, fleet.Diagnostic{Severity: fleet.SeverityError, Where: string(id),
				Summary: "the account is not among those that were found",
				Remedy:  "Check its number, and `organization.discover` and `accounts` in the configuration."}
		}
	}
	var out []inventory.Account
	for _, a := range all {
		if len(s.opt.Accounts) > 0 && !slices.Contains(s.opt.Accounts, a.ID) {
			continue
		}
		if why := skipped(s.opt.Config, a); why != "" {
			s.sum.Skipped = append(s.sum.Skipped, SkippedAccount{Account: a, Reason: why})
			continue
		}
		out = append(out, a)
	}
	s.update(func(p *Progress) { p.Accounts = len(out) })
	return out, nil
}

// skipped tells why an account is left out; "" where it is not.
func skipped(c *policy.Config, a inventory.Account) string {
	if why, ok := c.Skipped(a.ID); ok {
		return why.String()
	}
	if a.Status != "" && a.Status != statusActive {
		return "Organizations has it as " + a.Status
	}
	return ""
}

// statusActive is Organizations' word for an account that can be entered.
const statusActive = "ACTIVE"

// inventory reads the regions of all accounts and the resources of all places, the account's global one among them where it has
// something to read. Each account becomes a job that adds one for each of its places.
func (s *run) inventory(ctx context.Context, accounts []inventory.Account) error {
	s.phase(PhaseInventory)
	q := newQueue(s.opt.Concurrency)
	for _, a := range accounts {
		global := fleet.Place{Partition: a.Partition, Account: a.ID}
		s.begin(global)
		q.add(a.ID, func(ctx context.Context) error {
			places, err := s.enter(ctx, a)
			if err != nil {
				return err
			}
			s.end(global)
			for _, p := range places {
				s.begin(p)
				q.add(a.ID, func(ctx context.Context) error { return s.holding(ctx, p, s.place) })
			}
			s.update(func(p *Progress) { p.AccountsDone++; p.Places += len(places) })
			return nil
		})
	}
	return q.run(ctx)
}

// organization reads what the organization has once, after all regions: its policies bind the accounts that were read. It is
// left out where the scan is narrowed to regions, or to accounts without the one that manages the organization.
func (s *run) organization(ctx context.Context, accounts []inventory.Account) error {
	if len(s.opt.Regions) > 0 {
		return nil
	}
	place, ok, err := s.opt.Fleet.Management(ctx)
	if fatal := stops(ctx, err); fatal != nil {
		return fatal
	}
	mine := slices.ContainsFunc(accounts, func(a inventory.Account) bool { return a.ID == place.Account })
	switch {
	case !mine || !ok && err == nil:
		return nil
	case err != nil:
		return s.gap(ctx, place, inventory.KindOrganizationPolicy, fleet.ClassOf(err), err.Error())
	}
	s.begin(place)
	if !s.opt.Fleet.Open(place).holds(false) {
		s.update(func(p *Progress) { p.Places++ })
	}
	return s.holding(ctx, place, s.once)
}

// holding does something in a place when its turn has come.
func (s *run) holding(ctx context.Context, p fleet.Place, do func(context.Context, fleet.Place) error) error {
	if s.opt.Hold == nil {
		return do(ctx, p)
	}
	release, err := s.opt.Hold(ctx, p)
	if err != nil {
		return err
	}
	defer release()
	return do(ctx, p)
}

// enter finds the places of an account, the global one where it has something to read. An account that cannot be entered is a gap
// in each of its known places.
func (s *run) enter(ctx context.Context, a inventory.Account) ([]fleet.Place, error) {
	in := func(r fleet.Region) fleet.Place { return fleet.Place{Partition: a.Partition, Account: a.ID, Region: r} }
	regions, err := s.opt.Fleet.Regions(ctx, a)
	if err != nil {
		if fatal := stops(ctx, err); fatal != nil {
			return nil, fatal
		}
		return nil, s.closed(ctx, a, err)
	}
	if s.known[in("")] { // an earlier scan could not enter the account
		if err := s.close(ctx, inventory.Scope{Place: in(""), Status: inventory.ScopeComplete}); err != nil {
			return nil, err
		}
	}
	use, missing := s.opt.Config.SelectRegions(regions.Enabled)
	var places []fleet.Place
	for _, r := range use {
		if len(s.opt.Regions) == 0 || slices.Contains(s.opt.Regions, r) {
			places = append(places, in(r))
		}
	}
	for _, r := range missing {
		if len(s.opt.Regions) > 0 && !slices.Contains(s.opt.Regions, r) {
			continue
		}
		err := s.gap(ctx, in(r), "", fleet.ErrRegionDisabled,
			"the configuration asks for the region, and the account has not enabled it")
		if err != nil {
			return nil, err
		}
	}
	for _, r := range regions.Disabled {
		if len(s.opt.Config.Organization.Regions)+len(s.opt.Regions) > 0 ||
			slices.Contains(s.opt.Config.Organization.ExcludeRegions, r) {
			continue
		}
		err := s.close(ctx, inventory.Scope{Place: in(r), Status: inventory.ScopeDisabled, Class: fleet.ErrRegionDisabled,
			Detail: "the account has not enabled the region"})
		if err != nil {
			return nil, err
		}
		s.update(func(*Progress) { s.sum.Disabled++ })
	}
	if global := in(""); s.opt.Fleet.Open(global).holds(false) {
		places = append(places, global)
	}
	return places, nil
}

// closed records that an account could not be entered, in every place of it that is known; where none is, in its global
// one.
func (s *run) closed(ctx context.Context, a inventory.Account, err error) error {
	places := []fleet.Place{{Partition: a.Partition, Account: a.ID}}
	for p := range s.known {
		if p.Account == a.ID && p.Partition == a.Partition && p.Region != "" &&
			(len(s.opt.Regions) == 0 || slices.Contains(s.opt.Regions, p.Region)) {
			places = append(places, p)
		}
	}
	slices.SortFunc(places, fleet.Place.Compare)
	for _, p := range places {
		if err := s.gap(ctx, p, "", fleet.ClassOf(err), err.Error()); err != nil {
			return err
		}
	}
	s.end(places[0])
	s.update(func(p *Progress) { p.AccountsDone++ })
	return nil
}

// stops gives the error that ends the whole scan, where err is such a one: the scan was cancelled, or nobody's calls
// will succeed any more.
func stops(ctx context.Context, err error) error {
	var broken *storeError
	switch {
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case errors.As(err, &broken), fleet.ClassOf(err) == fleet.ErrExpired:
		return err
	}
	return nil
}

// storeError is a store that cannot be written: there is no point in reading further.
type storeError struct{ err error }

func (e *storeError) Error() string { return e.err.Error() }

func (e *storeError) Unwrap() error { return e.err }

// gap records that a scope could not be read.
func (s *run) gap(ctx context.Context, p fleet.Place, scope string, class fleet.ErrorClass, detail string) error {
	return s.close(ctx, inventory.Scope{Place: p, Kind: scope, Status: inventory.ScopeGap, Class: class, Detail: detail})
}

// close records how a scope ended. It is done even while the scan is being stopped: what is known must not be
// forgotten.
func (s *run) close(ctx context.Context, sc inventory.Scope) error {
	sc.At = s.opt.Clock.Now()
	if err := s.opt.Store.CloseScope(context.WithoutCancel(ctx), s.opt.Scan, sc); err != nil {
		return &storeError{err}
	}
	s.update(func(p *Progress) {
		switch sc.Status {
		case inventory.ScopeGap:
			s.sum.Gaps = append(s.sum.Gaps, sc)
			p.Gaps++
		case inventory.ScopeNotOffered:
			s.sum.NotOffered++
		case inventory.ScopeExcluded:
			s.sum.Excluded++
		}
	})
	if sc.Status == inventory.ScopeGap {
		s.opt.Logger.Debug("could not be read", "place", sc.Place.String(), "kind", sc.Kind, "class", string(sc.Class),
			"detail", sc.Detail)
	}
	return nil
}

// abandon records, after an interruption, what was not read in places that no scan has read before. What earlier scans
// know of the others stands.
func (s *run) abandon(ctx context.Context, why error) error {
	class, detail := fleet.ErrOther, "the scan was interrupted before it was read"
	if c := fleet.ClassOf(why); c == fleet.ErrExpired {
		class, detail = c, "the credentials ran out before it was read"
	}
	if errors.As(why, new(*storeError)) {
		return nil
	}
	for _, p := range s.unread() {
		if err := s.gap(ctx, p, "", class, detail); err != nil {
			return err
		}
	}
	return nil
}

// unread lists the places that were begun or meant to be and did not come to their end, and were not known before. An
// account counts as known where some place of it is.
func (s *run) unread() []fleet.Place {
	s.mu.Lock()
	defer s.mu.Unlock()
	entered := map[fleet.AccountID]bool{}
	for p := range s.known {
		entered[p.Account] = true
	}
	var out []fleet.Place
	for p := range s.open {
		if !s.known[p] && (p.Region != "" || !entered[p.Account]) {
			out = append(out, p)
		}
	}
	slices.SortFunc(out, fleet.Place.Compare)
	return out
}

// finish completes the summary.
func (s *run) finish() *Summary {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.sum.Finished = s.opt.Clock.Now().Round(time.Second)
	slices.SortFunc(s.sum.Gaps, func(a, b inventory.Scope) int {
		return compareScopes(a, b)
	})
	if s.opt.Calls != nil {
		s.sum.Calls, s.sum.Throttles = s.opt.Calls()
	}
	return &s.sum
}
