package scan

import (
	"log/slog"
	"sync"
	"time"

	"github.com/imdsctl/imdsctl/internal/evidence"
	"github.com/imdsctl/imdsctl/internal/fleet"
	"github.com/imdsctl/imdsctl/internal/inventory"
)

// Phase is what a scan is at.
type Phase = string

// Phases, in order.
const (
	PhaseAccounts  Phase = "accounts"
	PhaseInventory Phase = "inventory"
	PhaseEvidence  Phase = "evidence"
	// PhasePosture is reported by whoever judges what was found.
	PhasePosture Phase = "posture"
)

// Progress is where a scan stands. All numbers grow; the totals (Accounts, Places) too, as accounts are entered.
type Progress struct {
	Phase                  Phase
	Accounts, AccountsDone int
	Places, PlacesDone     int
	Resources              int
	// Instances are those whose history is read, InstancesDone those whose history is there.
	Instances, InstancesDone int
	Calls, Throttles         int64
	Gaps                     int
	// Estimate is known from the evidence phase on.
	Estimate Cost
	// Place is the one a page was stored of last.
	Place fleet.Place
}

// Summary is what a scan came to.
type Summary struct {
	Scan     int64     `json:"scan"`
	Started  time.Time `json:"started"`
	Finished time.Time `json:"finished"`
	Accounts int       `json:"accounts"`
	Places   int       `json:"places"`
	// Disabled counts the regions that accounts have not enabled and nobody asked for.
	Disabled int `json:"regions_disabled"`
	// NotOffered counts the kinds, by place, whose service AWS does not offer there; Excluded those that the configuration
	// leaves out.
	NotOffered int            `json:"not_offered"`
	Excluded   int            `json:"excluded"`
	Resources  map[string]int `json:"resources"` // by kind, as listed and as told by history
	// Terminated counts the instances that only the scaling history told of.
	Terminated int   `json:"terminated"`
	Calls      int64 `json:"calls"`
	Throttles  int64 `json:"throttles"`
	// Cost is the estimate made before evidence was read, Asked what was really asked for.
	Cost  Cost `json:"cost_estimate"`
	Asked Cost `json:"cost"`
	// OwnMetrics counts the resources whose v1 calls were read in their service's own metric, by source. They cost nothing.
	OwnMetrics map[evidence.Source]int64 `json:"own_metrics,omitempty"`
	Gaps       []inventory.Scope         `json:"gaps,omitempty"`
	Skipped    []SkippedAccount          `json:"skipped,omitempty"`
	Notes      []fleet.Diagnostic        `json:"notes,omitempty"`
}

// SkippedAccount is an account that was left out on purpose.
type SkippedAccount struct {
	Account inventory.Account `json:"account"`
	Reason  string            `json:"reason"`
}

// run is one scan under way.
type run struct {
	opt   Options
	known map[fleet.Place]bool // before this scan

	mu       sync.Mutex
	progress Progress
	sum      Summary
	open     map[fleet.Place]bool // meant to be read, not at its end yet
	subjects map[fleet.Place]packed
	older    map[fleet.Place]packed // ended before the window: the long look back alone may know of them
	metered  map[fleet.Place][]metered
}

// metered are the resources of a kind in one place whose metric is their service's own.
type metered struct {
	reader Reader
	ids    []string
}

func newRun(o Options) *run {
	if o.Concurrency <= 0 {
		o.Concurrency = DefaultConcurrency
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Estimate == nil {
		o.Estimate = func([]int) Cost { return Cost{} }
	}
	if o.EstimateLookBack == nil {
		o.EstimateLookBack = func([]int) Cost { return Cost{} }
	}
	s := &run{opt: o, known: map[fleet.Place]bool{}, open: map[fleet.Place]bool{}, subjects: map[fleet.Place]packed{}, older: map[fleet.Place]packed{},
		metered: map[fleet.Place][]metered{}}
	s.sum = Summary{Scan: o.Scan, Started: o.Clock.Now(), Resources: map[string]int{}, OwnMetrics: map[evidence.Source]int64{}}
	return s
}

// DefaultConcurrency is how many places are read at a time unless Options say otherwise.
const DefaultConcurrency = 8

func (s *run) phase(p Phase) { s.update(func(pr *Progress) { pr.Phase = p }) }

// update changes progress and summary and tells of it.
func (s *run) update(change func(*Progress)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	change(&s.progress)
	s.sum.Accounts = s.progress.Accounts
	if s.opt.Progress == nil {
		return
	}
	if s.opt.Calls != nil {
		s.progress.Calls, s.progress.Throttles = s.opt.Calls()
	}
	s.opt.Progress(s.progress)
}

func (s *run) begin(p fleet.Place) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.open[p] = true
}

func (s *run) end(p fleet.Place) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.open, p)
}
