package scan_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/imdsctl/imdsctl/internal/clock"
	"github.com/imdsctl/imdsctl/internal/evidence"
	"github.com/imdsctl/imdsctl/internal/fleet"
	"github.com/imdsctl/imdsctl/internal/inventory"
	"github.com/imdsctl/imdsctl/internal/kind"
	"github.com/imdsctl/imdsctl/internal/policy"
	"github.com/imdsctl/imdsctl/internal/scan"
)

var start = time.Date(2026, 3, 2, 9, 0, 0, 0, time.UTC)

// memory is a store that keeps everything in maps.
type memory struct {
	mu        sync.Mutex
	known     []fleet.Place
	accounts  []inventory.Account
	resources map[fleet.Ref]inventory.Resource
	windows   map[fleet.Ref]int
	history   map[fleet.Ref]int
	scopes    map[string]inventory.Scope // "place kind"
	pages     []int
	fail      func(what string) error
}

func newMemory() *memory {
	return &memory{resources: map[fleet.Ref]inventory.Resource{}, windows: map[fleet.Ref]int{}, history: map[fleet.Ref]int{},
		scopes: map[string]inventory.Scope{},
		fail:   func(string) error { return nil }}
}

func (m *memory) Places(context.Context) ([]fleet.Place, error) { return m.known, m.fail("places") }

func (m *memory) PutAccounts(_ context.Context, _ int64, a []inventory.Account) error {
	m.accounts = a
	return m.fail("accounts")
}

func (m *memory) PutResources(ctx context.Context, _ int64, p fleet.Place, _ string, page []inventory.Resource) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.pages = append(m.pages, len(page))
	for _, r := range page {
		m.resources[r.Ref] = r
	}
	return errors.Join(ctx.Err(), m.fail("resources "+p.String()))
}

func (m *memory) PutEvidence(ctx context.Context, _ int64, windows []*evidence.Window) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, w := range windows {
		m.windows[w.Subject]++
	}
	return errors.Join(ctx.Err(), m.fail("evidence"))
}

func (m *memory) PutHistory(ctx context.Context, _ int64, windows []*evidence.Window) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, w := range windows {
		m.history[w.Subject]++
	}
	return errors.Join(ctx.Err(), m.fail("history"))
}

func (m *memory) CloseScope(ctx context.Context, _ int64, sc inventory.Scope) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.scopes[sc.Place.String()+" "+sc.Kind] = sc
	return errors.Join(ctx.Err(), m.fail("scope"))
}

// accounts is a fleet of plain accounts with one region and what the test opens there.
type accounts struct {
	ids  []fleet.AccountID
	open func(fleet.Place) scan.Place
	// manager manages the organization; asking fails with unknown.
	manager fleet.AccountID
	unknown error
	// global: open is asked for the global places of accounts too.
	global bool
}

func (a *accounts) Accounts(context.Context) ([]inventory.Account, []fleet.Diagnostic, error) {
	var out []inventory.Account
	for _, id := range a.ids {
		out = append(out, inventory.Account{Partition: fleet.PartitionAWS, ID: id, Status: "ACTIVE"})
	}
	return out, nil, nil
}

func (a *accounts) Regions(context.Context, inventory.Account) (scan.Regions, error) {
	return scan.Regions{Enabled: []fleet.Region{"eu-west-1", "us-east-1"}}, nil
}

func (a *accounts) Management(context.Context) (fleet.Place, bool, error) {
	return fleet.Place{Partition: fleet.PartitionAWS, Account: a.manager}, a.manager != "" && a.unknown == nil, a.unknown
}

func (a *accounts) Open(p fleet.Place) scan.Place {
	if p.Region == "" && a.manager == "" && !a.global {
		return scan.Place{}
	}
	return a.open(p)
}

// lister emits resources, and then fails with err.
type lister struct {
	resources []inventory.Resource
	err       error
	before    func(context.Context) error
}

func (l *lister) List(ctx context.Context, emit func(inventory.Resource) error) error {
	if l.before != nil {
		if err := l.before(ctx); err != nil {
			return err
		}
	}
	for _, r := range l.resources {
		if err := emit(r); err != nil {
			return err
		}
	}
	return l.err
}

// history makes one window of each metric for every subject.
type history struct {
	gap   map[string]error
	err   error
	asked *[]string
}

func (h *history) History(_ context.Context, subjects []fleet.Ref, span evidence.Span,
	yield func(scan.Observation) error) error {
	for _, s := range subjects {
		if h.asked != nil {
			*h.asked = append(*h.asked, s.ID)
		}
		w := evidence.NewWindow(s, evidence.SourceCloudWatch, evidence.MetricNoToken, span)
		empty := evidence.NewWindow(s, evidence.SourceCloudWatch, evidence.MetricRejected, span)
		if err := w.Add(span.Start, 0); err != nil {
			return err
		}
		if err := yield(scan.Observation{Windows: []*evidence.Window{w, empty}, Gap: h.gap[s.ID]}); err != nil {
			return err
		}
	}
	return h.err
}

func instances(p fleet.Place, n int) []inventory.Resource {
	out := make([]inventory.Resource, n)
	for i := range out {
		out[i] = inventory.Resource{Ref: fleet.Ref{Place: p, Kind: inventory.KindInstance, ID: fmt.Sprintf("i-%017x", i)}}
	}
	return out
}

func options(f scan.Fleet, m *memory) scan.Options {
	return scan.Options{Scan: 1, Config: policy.Default(), Store: m, Fleet: f, Clock: clock.NewManual(start),
		Source: evidence.SourceCloudWatch, Span: evidence.NewSpan(start, 24*time.Hour, time.Hour),
		Estimate: func(n []int) scan.Cost {
			sum := 0
			for _, x := range n {
				sum += x
			}
			return scan.Cost{Instances: int64(sum), Metrics: 2 * int64(sum), Dollars: float64(sum)}
		}}
}

func mustRun(t *testing.T, o scan.Options) *scan.Summary {
	t.Helper()
	sum, err := scan.Run(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	return sum
}

func TestPagesAndWindows(t *testing.T) {
	m := newMemory()
	f := &accounts{ids: []fleet.AccountID{"111111111111"}, open: func(p fleet.Place) scan.Place {
		return scan.Place{Kinds: []scan.Reader{{Kind: inventory.KindInstance, Driver: &lister{resources: instances(p,
			2500)}}}, Evidence: &history{}}
	}}
	sum := mustRun(t, options(f, m))
	slices.Sort(m.pages)
	if !slices.Equal(m.pages, []int{500, 500, 1000, 1000, 1000, 1000}) {
		t.Errorf("pages of %v", m.pages)
	}
	if len(m.resources) != 5000 || len(m.windows) != 5000 {
		t.Errorf("%d resources, %d subjects with windows", len(m.resources), len(m.windows))
	}
	for ref, n := range m.windows {
		if n != 1 {
			t.Fatalf("%s has %d windows; one without a datapoint is not to be stored", ref, n)
		}
	}
	if sum.Asked.Instances != 5000 || sum.Resources[inventory.KindInstance] != 5000 || sum.Places != 2 {
		t.Errorf("summary %+v", sum)
	}
}

// TestGapsInEvidence: one instance of which CloudWatch did not tell everything makes the place's evidence a gap.
func TestGapsInEvidence(t *testing.T) {
	m := newMemory()
	f := &accounts{ids: []fleet.AccountID{"111111111111"}, open: func(p fleet.Place) scan.Place {
		h := &history{}
		if p.Region == "us-east-1" {
			h.gap = map[string]error{instances(p, 2)[1].Ref.ID: errors.New("partial data")}
		}
		return scan.Place{Kinds: []scan.Reader{{Kind: inventory.KindInstance, Driver: &lister{resources: instances(p, 2)}}},
			Evidence: h}
	}}
	sum := mustRun(t, options(f, m))
	if len(sum.Gaps) != 1 || sum.Gaps[0].Kind != "cloudwatch" || !strings.Contains(sum.Gaps[0].Detail,
		"1 of 2 instances") ||
		!strings.Contains(sum.Gaps[0].Detail, "partial data") {
		t.Errorf("gaps %+v", sum.Gaps)
	}
	if sc := m.scopes["aws/111111111111/eu-west-1 cloudwatch"]; sc.Status != inventory.ScopeComplete {
		t.Errorf("the other place's scope is %+v", sc)
	}
}

func TestCeiling(t *testing.T) {
	m := newMemory()
	var asked []string
	f := &accounts{ids: []fleet.AccountID{"111111111111"}, open: func(p fleet.Place) scan.Place {
		return scan.Place{Kinds: []scan.Reader{{Kind: inventory.KindInstance, Driver: &lister{resources: instances(p, 2)}}},
			Evidence: &history{asked: &asked}}
	}}
	o := options(f, m)
	o.Ceiling = 3.5
	sum := mustRun(t, o)
	if len(asked) > 0 || len(sum.Notes) != 1 || sum.Notes[0].Severity != fleet.SeverityWarning {
		t.Errorf("asked %v, notes %v", asked, sum.Notes)
	}
}

// templates is a lister of templates whose versions are asked for.
type templates struct {
	lister
	asked map[string][]string
	err   error
}

func (l *templates) ReadVersions(_ context.Context, id string, numbers []string) (kind.Versions, error) {
	l.asked[id] = numbers
	out := kind.Versions{Launch: map[string]fleet.Options{}}
	for _, n := range numbers {
		out.Launch[n] = fleet.Options{Tokens: "optional", HopLimit: len(n)}
	}
	return out, l.err
}

// TestPinnedVersions lists templates before groups: what the groups pin must be read all the same, and no more.
func TestPinnedVersions(t *testing.T) {
	for name, broken := range map[string]error{"readable": nil, "denied": &fleet.CallError{Class: fleet.ErrDenied,
		Action: "ec2:DescribeLaunchTemplateVersions", Err: errors.New("no")}} {
		t.Run(name, func(t *testing.T) {
			m := newMemory()
			asked := map[string][]string{}
			f := &accounts{ids: []fleet.AccountID{"111111111111"}, open: func(p fleet.Place) scan.Place {
				if p.Region != "eu-west-1" {
					return scan.Place{}
				}
				lt := func(id string) fleet.Ref { return fleet.Ref{Place: p, Kind: inventory.KindLaunchTemplate, ID: id} }
				group := func(name, template, selector string) inventory.Resource {
					return inventory.Resource{Ref: fleet.Ref{Place: p, Kind: inventory.KindAutoScaling, ID: name},
						Links: []inventory.Link{{Relation: inventory.LaunchesFrom, To: lt(template), Selector: selector}}}
				}
				two := map[string]fleet.Options{"3": {}, "5": {}}
				drv := &templates{asked: asked, err: broken}
				drv.resources = []inventory.Resource{{Ref: lt("lt-a"), Launch: two}, {Ref: lt("lt-b"), Launch: two}}
				return scan.Place{Kinds: []scan.Reader{
					{Kind: inventory.KindLaunchTemplate, Driver: drv},
					{Kind: inventory.KindAutoScaling, Driver: &lister{resources: []inventory.Resource{
						group("one", "lt-a", "4"), group("two", "lt-a", "2"), group("three", "lt-a", "3"), group("four", "lt-b",
							"$Latest"),
					}}},
				}}
			}}
			sum := mustRun(t, options(f, m))
			if len(asked) != 1 || !slices.Equal(asked["lt-a"], []string{"2", "4"}) {
				t.Errorf("asked for %v, want 2 and 4 of lt-a", asked)
			}
			p := fleet.Place{Partition: fleet.PartitionAWS, Account: "111111111111", Region: "eu-west-1"}
			stored := m.resources[fleet.Ref{Place: p, Kind: inventory.KindLaunchTemplate, ID: "lt-a"}]
			if broken == nil && (len(stored.Launch) != 4 || len(sum.Gaps) != 0) {
				t.Errorf("stored versions %v, gaps %v", stored.Launch, sum.Gaps)
			}
			if broken != nil && (len(stored.Launch) != 2 || len(sum.Gaps) != 1 || sum.Gaps[0].Class != fleet.ErrDenied) {
				t.Errorf("stored versions %v, gaps %v", stored.Launch, sum.Gaps)
			}
		})
	}
}

// TestSlowAccountLeavesWorkersToOthers blocks every place of the first account until all other places have been read.
func TestSlowAccountLeavesWorkersToOthers(t *testing.T) {
	m := newMemory()
	var others sync.WaitGroup
	others.Add(6)
	done := make(chan struct{})
	go func() { others.Wait(); close(done) }()
	f := &accounts{ids: []fleet.AccountID{"111111111111", "222222222222", "333333333333", "444444444444"}}
	f.open = func(p fleet.Place) scan.Place {
		l := &lister{resources: instances(p, 1)}
		if p.Account == "111111111111" {
			l.before = func(ctx context.Context) error {
				select {
				case <-done:
					return nil
				case <-ctx.Done():
					return ctx.Err()
				}
			}
		} else {
			l.before = func(context.Context) error { others.Done(); return nil }
		}
		return scan.Place{Kinds: []scan.Reader{{Kind: inventory.KindInstance, Driver: l}}}
	}
	o := options(f, m)
	o.Concurrency = 2
	if sum := mustRun(t, o); sum.Places != 8 {
		t.Errorf("%d places were read, want 8", sum.Places)
	}
}

// TestStoreThatFailsStopsTheScan: a full disk must end it at once, with the store's own words.
func TestStoreThatFailsStopsTheScan(t *testing.T) {
	m := newMemory()
	full := errors.New("the disk is full")
	m.fail = func(what string) error {
		if strings.HasPrefix(what, "resources") {
			return full
		}
		return nil
	}
	f := &accounts{ids: []fleet.AccountID{"111111111111", "222222222222"}, open: func(p fleet.Place) scan.Place {
		return scan.Place{Kinds: []scan.Reader{{Kind: inventory.KindInstance, Driver: &lister{resources: instances(p, 1)}}},
			Evidence: &history{}}
	}}
	o := options(f, m)
	o.Concurrency = 1
	sum, err := scan.Run(t.Context(), o)
	if !errors.Is(err, full) || len(m.pages) != 1 {
		t.Errorf("error %v after %d pages", err, len(m.pages))
	}
	if len(sum.Gaps) > 0 {
		t.Errorf("gaps were recorded: %v", sum.Gaps)
	}
}

func TestSkippedAccounts(t *testing.T) {
	m := newMemory()
	f := &accounts{ids: []fleet.AccountID{"111111111111", "222222222222"}, open: func(p fleet.Place) scan.Place {
		if p.Account == "222222222222" {
			t.Errorf("%s was opened", p)
		}
		return scan.Place{}
	}}
	o := options(f, m)
	config := *policy.Default()
	config.Accounts = []policy.Account{{ID: "222222222222", Skip: "belongs to a partner"}}
	o.Config = &config
	sum := mustRun(t, o)
	if len(sum.Skipped) != 1 || !strings.Contains(sum.Skipped[0].Reason, "partner") || len(m.accounts) != 2 {
		t.Errorf("skipped %v, recorded %v", sum.Skipped, m.accounts)
	}
	o.Accounts = []fleet.AccountID{"999999999999"}
	if _, err := scan.Run(t.Context(), o); err == nil || !strings.Contains(err.Error(), "999999999999") {
		t.Errorf("an unknown account gave %v", err)
	}
}

// farHistory looks back as well, and keeps who was asked for which span.
type farHistory struct {
	history
	far []string
	err error
}

func (h *farHistory) LookBack(ctx context.Context, subjects []fleet.Ref, span evidence.Span, yield func(scan.Observation) error) error {
	if span.Period != 24*time.Hour {
		return fmt.Errorf("asked in periods of %s", span.Period)
	}
	if h.err != nil {
		return h.err
	}
	for _, s := range subjects {
		h.far = append(h.far, s.ID)
		w := evidence.NewWindow(s, evidence.SourceCloudWatch, evidence.MetricNoToken, span)
		if err := w.Add(span.Start, 3); err != nil {
			return err
		}
		if err := yield(scan.Observation{Windows: []*evidence.Window{w}}); err != nil {
			return err
		}
	}
	return nil
}

// activities is a group that knows of instances that are no more.
type activities struct {
	lister
	since *time.Time
	ended map[string]string // by id, the day
}

func (a *activities) History(_ context.Context, since time.Time, emit func(inventory.Resource) error) error {
	*a.since = since
	for _, id := range slices.Sorted(maps.Keys(a.ended)) {
		err := emit(inventory.Resource{Ref: fleet.Ref{Place: place, Kind: inventory.KindInstance, ID: id}, Status: inventory.StatusTerminated,
			Attrs: map[string]string{inventory.AttrEnded: a.ended[id]}})
		if err != nil {
			return err
		}
	}
	return nil
}

var place = fleet.Place{Partition: fleet.PartitionAWS, Account: "111111111111", Region: "eu-west-1"}

// TestLookBack: the long window is read of everybody, also of those that ended before the window, who are in nothing else; it is paid
// for, estimated before, and a gap of its own.
func TestLookBack(t *testing.T) {
	var since time.Time
	h := &farHistory{}
	var asked []string
	h.asked = &asked
	f := &accounts{ids: []fleet.AccountID{place.Account}, open: func(p fleet.Place) scan.Place {
		if p != place {
			return scan.Place{}
		}
		return scan.Place{Evidence: h, Kinds: []scan.Reader{
			{Kind: inventory.KindInstance, Driver: &lister{resources: instances(place, 2)}},
			{Kind: inventory.KindAutoScaling, Driver: &activities{since: &since, ended: map[string]string{"i-new": "2026-02-20", "i-old": "2026-01-05"}}},
		}}
	}}
	m := newMemory()
	o := options(f, m)
	o.Source, o.Span = evidence.SourceCloudWatch, evidence.NewSpan(start, 14*24*time.Hour, time.Hour)
	o.History = evidence.NewSpan(start, 200*24*time.Hour, 24*time.Hour)
	o.Estimate = func(n []int) scan.Cost {
		return scan.Cost{Instances: int64(n[0]), Metrics: int64(2 * n[0]), Dollars: 2}
	}
	o.EstimateLookBack = func(n []int) scan.Cost { return scan.Cost{Instances: int64(n[0]), Metrics: int64(n[0]), Dollars: 1} }
	sum, err := scan.Run(t.Context(), o)
	if err != nil || len(sum.Gaps) != 0 {
		t.Fatalf("%v, gaps %+v", err, sum.Gaps)
	}
	if !since.Equal(o.History.Start) {
		t.Errorf("the group was asked since %s", since)
	}
	if len(asked) != 3 || slices.Contains(asked, "i-old") || len(h.far) != 4 || !slices.Contains(h.far, "i-old") {
		t.Errorf("asked for the window %v, for the long one %v", asked, h.far)
	}
	if len(m.windows) != 3 || len(m.history) != 4 {
		t.Errorf("%d windows and %d of the long ones are stored", len(m.windows), len(m.history))
	}
	if want := (scan.Cost{Instances: 4, Metrics: 10, Dollars: 3, LookBack: 4}); sum.Cost != want {
		t.Errorf("estimated %+v", sum.Cost)
	}
	if want := (scan.Cost{Instances: 3, Metrics: 10, LookBack: 4}); sum.Asked != want {
		t.Errorf("asked %+v", sum.Asked)
	}
	h.err = errors.New("no")
	sum, err = scan.Run(t.Context(), options2(o, newMemory()))
	if err != nil || len(sum.Gaps) != 1 || sum.Gaps[0].Kind != "cloudwatch-history" {
		t.Errorf("denied: %v, gaps %+v", err, sum.Gaps)
	}
	o.History = evidence.Span{}
	h.far, h.err = nil, nil
	m = newMemory()
	if sum, err = scan.Run(t.Context(), options2(o, m)); err != nil || len(h.far) != 0 || sum.Asked.LookBack != 0 || !since.Equal(o.Span.Start) {
		t.Errorf("without: %v, asked %v since %s", err, h.far, since)
	}
	if _, ok := m.scopes[place.String()+" cloudwatch-history"]; ok {
		t.Error("a scope that was not read is on record")
	}
}

func options2(o scan.Options, m *memory) scan.Options {
	o.Store = m
	return o
}
