package app

import (
	"cmp"
	"context"
	"fmt"
	"iter"
	"slices"
	"strings"
	"time"

	"github.com/imdsctl/imdsctl/internal/assess"
	"github.com/imdsctl/imdsctl/internal/evidence"
	"github.com/imdsctl/imdsctl/internal/fleet"
	"github.com/imdsctl/imdsctl/internal/inventory"
	"github.com/imdsctl/imdsctl/internal/kinds/all"
	"github.com/imdsctl/imdsctl/internal/policy"
	"github.com/imdsctl/imdsctl/internal/store"
)

// PlaceReport is one judged place.
type PlaceReport struct {
	Report   *assess.Report
	Snapshot *inventory.Snapshot
	// Span is the window the evidence covers.
	Span evidence.Span
	// Windows are the evidence of each subject.
	Windows map[fleet.Ref][]*evidence.Window
	// Gaps are the scopes that could not be read.
	Gaps  []inventory.Scope
	Facts policy.AccountFacts
	// Taken is when the oldest part of it was read; zero where nothing ever was.
	Taken time.Time
}

// Assess judges the scanned fleet, place by place in order, so that only one is held in memory. A place with policies of the
// organization comes after all others, because what they bind must be judged before them.
func (a *App) Assess(ctx context.Context) iter.Seq2[*PlaceReport, error] {
	return func(yield func(*PlaceReport, error) bool) {
		db, err := a.database()
		if err != nil {
			yield(nil, err)
			return
		}
		places, err := db.Places(ctx)
		if err != nil {
			yield(nil, err)
			return
		}
		below, last := below{}, []fleet.Place(nil)
		w := &witness{db: db}
		for _, p := range places {
			report, err := a.assess(ctx, w, p)
			if err == nil && report.governs() {
				last = append(last, p)
				continue
			}
			below.note(report)
			if !yield(report, err) || err != nil {
				return
			}
		}
		for _, p := range last {
			report, err := a.assessOver(ctx, w, p, below)
			if !yield(report, err) || err != nil {
				return
			}
		}
	}
}

// below is what was judged of each account.
type below map[fleet.AccountID]*assess.Below

func (b below) note(r *PlaceReport) {
	if r == nil {
		return
	}
	account := r.Snapshot.Place.Account
	if b[account] == nil {
		b[account] = &assess.Below{}
	}
	b[account].Note(r.Report, r.weighty())
}

// governs tells whether policies of the organization are in the place.
func (r *PlaceReport) governs() bool {
	return r.Snapshot.Place.Region == "" && slices.ContainsFunc(r.Snapshot.Resources, func(res inventory.Resource) bool {
		return res.Ref.Kind == inventory.KindOrganizationPolicy
	})
}

// assess judges one place from what the database knows of it.
func (a *App) assess(ctx context.Context, w *witness, place fleet.Place) (*PlaceReport, error) {
	return a.assessOver(ctx, w, place, nil)
}

// assessOver is assess for a place with policies of the organization: over what was judged of the accounts that they bind.
func (a *App) assessOver(ctx context.Context, w *witness, place fleet.Place, accounts below) (*PlaceReport, error) {
	db := w.db
	snap, err := db.Snapshot(ctx, place)
	if err != nil {
		return nil, err
	}
	if err := a.beside(ctx, db, snap); err != nil {
		return nil, err
	}
	seen, err := w.knownOf(ctx, place)
	if err != nil {
		return nil, err
	}
	return a.judgeOver(snap, seen, accounts), nil
}

// judge is assess for a place that is at hand.
func (a *App) judge(snap *inventory.Snapshot, seen known) *PlaceReport {
	return a.judgeOver(snap, seen, nil)
}

func (a *App) judgeOver(snap *inventory.Snapshot, seen known, accounts below) *PlaceReport {
	windows := seen.windows
	out := &PlaceReport{Snapshot: snap, Windows: windows, Facts: factsOf(snap.Account), Span: a.settings().Span(snap.Taken)}
	for _, ws := range windows { // those of one place are all of one span
		if len(ws) > 0 {
			out.Span = ws[0].Span
			break
		}
	}
	in := assess.Input{Snapshot: snap, Manners: manners(), Evidence: windows, Span: out.Span, Policy: a.config, Products: a.products, Now: a.clock.Now(),
		Below: accounts, History: seen.history, Findings: seen.findings, Imports: seen.imports, Roles: assess.NewRoleBook(snap.Global)}
	for i := range snap.Scopes {
		sc := &snap.Scopes[i]
		if sc.Kind == inventory.ScopeStacks && !a.config.Owners.CloudFormation {
			continue // an earlier configuration had them read
		}
		if sc.Status == inventory.ScopeGap {
			out.Gaps = append(out.Gaps, *sc)
			evidenceGap(&in, sc)
		}
		if sc.Status != inventory.ScopeDisabled && (out.Taken.IsZero() || sc.At.Before(out.Taken)) {
			out.Taken = sc.At
		}
	}
	out.Report = assess.Place(in)
	return out
}

// evidenceGap notes the gap of an evidence source, or of a place as a whole, which is one of all sources.
func evidenceGap(in *assess.Input, sc *inventory.Scope) {
	if sc.Kind == "" || sc.Kind == string(evidence.SourceCloudWatch) {
		in.EvidenceGap = sc
	}
	if sc.Kind == string(evidence.SourceCloudWatch.History()) && in.Policy.Evidence.LookBack() > 0 {
		in.HistoryGap = sc
	}
	for _, m := range in.Manners {
		if m.Source == "" || sc.Kind != "" && sc.Kind != string(m.Source) {
			continue
		}
		if in.SourceGaps == nil {
			in.SourceGaps = map[evidence.Source]*inventory.Scope{}
		}
		in.SourceGaps[m.Source] = sc
	}
}

// manners say how each kind is judged.
func manners() map[string]assess.Manner {
	out := map[string]assess.Manner{}
	for _, e := range all.List() {
		out[e.Kind.Name] = e.Kind.Manner
	}
	return out
}

// factsOf is an account as the configuration's rules see it.
func factsOf(a inventory.Account) policy.AccountFacts {
	f := policy.AccountFacts{ID: a.ID, Name: a.Name, OUIDs: a.OUIDs, Tags: a.Tags}
	if a.OU != "" {
		f.OUs = strings.Split(a.OU, "/")
	}
	return f
}

// recordPosture judges the fleet and keeps the day's counts. It adds the verdicts on instances up.
func (a *App) recordPosture(ctx context.Context, db *store.Store, total map[assess.Status]int) error {
	now := a.clock.Now()
	var days []store.PostureDay
	for report, err := range a.Assess(ctx) {
		if err != nil {
			return err
		}
		counts := instanceCounts(report)
		if len(counts) == 0 {
			continue
		}
		days = append(days, store.PostureDay{Day: now, Place: report.Snapshot.Place, Counts: counts})
		for status, n := range counts {
			total[status] += n
		}
	}
	return db.PutPosture(ctx, days)
}

// Counts are instances by verdict.
type Counts = map[assess.Status]int

func instanceCounts(p *PlaceReport) Counts {
	out := Counts{}
	for _, v := range p.Report.All() {
		if v.Ref.Kind == inventory.KindInstance {
			out[v.Status]++
		}
	}
	return out
}

// Status is where the migration stands.
type Status struct {
	// Scan is the last one; nil where there was none.
	Scan *ScanInfo `json:"scan,omitempty"`
	// Age is the time since the last scan ended, or began where it never did.
	Age time.Duration `json:"age"`
	// Total counts instances.
	Total    Counts            `json:"total"`
	Accounts []AccountStatus   `json:"accounts"`
	Gaps     []inventory.Scope `json:"gaps,omitempty"`
	// Disabled counts the regions that accounts have not enabled.
	Disabled int `json:"regions_disabled"`
	// NotOffered counts by kind the regions, account by account, in which AWS does not offer the service; Excluded those in
	// which the configuration leaves the kind out.
	NotOffered map[string]int     `json:"not_offered,omitempty"`
	Excluded   map[string]int     `json:"excluded,omitempty"`
	Expired    []fleet.Diagnostic `json:"expired_exceptions,omitempty"`
	// Trend has one entry for each day with a scan, the latest last, of the last 30 days.
	Trend    []TrendDay    `json:"trend,omitempty"`
	Rollouts []RolloutInfo `json:"rollouts,omitempty"`
	// Evidence are the sources that were read or taken in, by name.
	Evidence []SourceStatus `json:"evidence,omitempty"`
	Database string         `json:"database"`
	Bytes    int64          `json:"bytes"`
}

// AccountStatus is where one account stands.
type AccountStatus struct {
	Account     inventory.Account  `json:"account"`
	Criticality policy.Criticality `json:"criticality"`
	Wave        string             `json:"wave,omitempty"`
	Instances   Counts             `json:"instances"`
	// Resources counts all that are not terminated, of every kind.
	Resources int `json:"resources"`
	Gaps      int `json:"gaps"`
}

// TrendDay counts instances on one day.
type TrendDay struct {
	Day    time.Time `json:"day"`
	Counts Counts    `json:"counts"`
}

// trendDays is how far back Status shows the posture.
const trendDays = 30

// Status tells where the migration stands, from the database alone.
func (a *App) Status(ctx context.Context) (*Status, error) {
	db, err := a.database()
	if err != nil {
		return nil, err
	}
	out := &Status{Total: Counts{}, NotOffered: map[string]int{}, Excluded: map[string]int{}, Expired: a.ExpiredExceptions(), Database: db.Path()}
	if last, ok, err := db.LastScan(ctx); err != nil {
		return nil, err
	} else if ok {
		out.Scan = &last
		at := last.Finished
		if at.IsZero() {
			at = last.Started
		}
		out.Age = a.clock.Now().Sub(at)
	}
	if err := a.accountStatus(ctx, db, out); err != nil {
		return nil, err
	}
	if out.Evidence, err = a.sourceStatus(ctx, db, out.Scan); err != nil {
		return nil, err
	}
	if out.Rollouts, err = db.List(ctx); err != nil {
		return nil, err
	}
	if out.Bytes, err = db.Size(ctx); err != nil {
		return nil, err
	}
	return out, a.trend(ctx, db, out)
}

func (a *App) accountStatus(ctx context.Context, db *store.Store, out *Status) error {
	byID := map[fleet.AccountID]*AccountStatus{}
	of := func(account inventory.Account) *AccountStatus {
		if byID[account.ID] == nil {
			s := &AccountStatus{Account: account, Instances: Counts{}}
			facts := factsOf(account)
			s.Criticality, _ = a.config.Resolve(facts)
			if w, err := a.config.WaveOf(facts); err == nil {
				s.Wave = a.config.Waves[w.Index].Name
			}
			byID[account.ID] = s
		}
		return byID[account.ID]
	}
	known, err := db.Accounts(ctx)
	if err != nil {
		return err
	}
	for _, account := range known {
		of(account)
	}
	for report, err := range a.Assess(ctx) {
		if err != nil {
			return err
		}
		s := of(report.Snapshot.Account)
		for status, n := range instanceCounts(report) {
			s.Instances[status] += n
			out.Total[status] += n
		}
		for i := range report.Snapshot.Resources {
			if report.Snapshot.Resources[i].Status != inventory.StatusTerminated {
				s.Resources++
			}
		}
		for _, sc := range report.Snapshot.Scopes {
			switch sc.Status {
			case inventory.ScopeDisabled:
				out.Disabled++
			case inventory.ScopeNotOffered:
				out.NotOffered[sc.Kind]++
			case inventory.ScopeExcluded:
				out.Excluded[sc.Kind]++
			}
		}
		s.Gaps += len(report.Gaps)
		out.Gaps = append(out.Gaps, report.Gaps...)
	}
	for _, s := range byID {
		out.Accounts = append(out.Accounts, *s)
	}
	slices.SortFunc(out.Accounts, func(x, y AccountStatus) int { return cmp.Compare(x.Account.ID, y.Account.ID) })
	return nil
}

func (a *App) trend(ctx context.Context, db *store.Store, out *Status) error {
	now := a.clock.Now()
	days, err := db.Posture(ctx, now.AddDate(0, 0, -trendDays), now)
	if err != nil {
		return err
	}
	for _, d := range days { // in order of days
		if n := len(out.Trend); n == 0 || !out.Trend[n-1].Day.Equal(d.Day) {
			out.Trend = append(out.Trend, TrendDay{Day: d.Day, Counts: Counts{}})
		}
		for status, n := range d.Counts {
			out.Trend[len(out.Trend)-1].Counts[status] += n
		}
	}
	return nil
}

// ResourceFilter chooses resources: every part that is set must hold.
type ResourceFilter struct {
	Accounts []fleet.AccountID
	Regions  []fleet.Region
	Kinds    []string
	Statuses []assess.Status
	Risks    []assess.RiskLevel
	// Name matches the resource's name or its id.
	Name policy.Glob
	Tags map[string]policy.Glob
	// Terminated also lists instances that are no more, which have no verdict.
	Terminated bool
}

// ResourceRow is one resource with what was judged of it.
type ResourceRow struct {
	Resource inventory.Resource
	Account  inventory.Account
	// Verdict is nil for what is not judged.
	Verdict *assess.Verdict
	// Owner is who would change it back; Code the infrastructure as code that has to be changed for a change to last.
	Owner, Code fleet.Owner
}

// Resources lists the scanned resources that a filter chooses, by place, kind and id.
func (a *App) Resources(ctx context.Context, f ResourceFilter) iter.Seq2[ResourceRow, error] {
	return func(yield func(ResourceRow, error) bool) {
		db, err := a.database()
		if err != nil {
			yield(ResourceRow{}, err)
			return
		}
		places, err := db.Places(ctx)
		if err != nil {
			yield(ResourceRow{}, err)
			return
		}
		w := &witness{db: db}
		for _, p := range places {
			if !f.place(p) {
				continue
			}
			report, err := a.assess(ctx, w, p)
			if err == nil && report.governs() && f.kind(inventory.KindOrganizationPolicy) {
				report, err = a.governing(ctx, p)
			}
			if err != nil {
				yield(ResourceRow{}, err)
				return
			}
			for i := range report.Snapshot.Resources {
				r := &report.Snapshot.Resources[i]
				v := report.Report.Verdict(r.Ref)
				index := report.Report.Index
				row := ResourceRow{Resource: *r, Account: report.Snapshot.Account, Verdict: v, Owner: index.Owner(r), Code: index.Code(r)}
				if f.resource(r, v) && !yield(row, nil) {
					return
				}
			}
		}
	}
}

// governing judges a place with policies of the organization, which takes the judgement of all others.
func (a *App) governing(ctx context.Context, place fleet.Place) (*PlaceReport, error) {
	for report, err := range a.Assess(ctx) {
		if err != nil {
			return nil, err
		}
		if report.Snapshot.Place == place {
			return report, nil
		}
	}
	return nil, fmt.Errorf("judge the organization's policies: nothing is known of %s any more", place)
}

func (f *ResourceFilter) kind(name string) bool {
	return len(f.Kinds) == 0 || slices.Contains(f.Kinds, name)
}

func (f *ResourceFilter) place(p fleet.Place) bool {
	return (len(f.Accounts) == 0 || slices.Contains(f.Accounts, p.Account)) && (len(f.Regions) == 0 ||
		slices.Contains(f.Regions, p.Region))
}

func (f *ResourceFilter) resource(r *inventory.Resource, v *assess.Verdict) bool {
	switch {
	case r.Status == inventory.StatusTerminated && !f.Terminated:
		return false
	case !f.kind(r.Ref.Kind):
		return false
	case len(f.Statuses) > 0 && (v == nil || !slices.Contains(f.Statuses, v.Status)):
		return false
	case len(f.Risks) > 0 && (v == nil || v.Risk == nil || !slices.Contains(f.Risks, v.Risk.Level)):
		return false
	case f.Name != "" && !f.Name.Match(r.Name) && !f.Name.Match(r.Ref.ID):
		return false
	}
	for key, glob := range f.Tags {
		if value, ok := r.Tags[key]; !ok || !glob.Match(value) {
			return false
		}
	}
	return true
}
