package assess_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/imdsctl/imdsctl/internal/assess"
	"github.com/imdsctl/imdsctl/internal/evidence"
	"github.com/imdsctl/imdsctl/internal/fleet"
	"github.com/imdsctl/imdsctl/internal/inventory"
	"github.com/imdsctl/imdsctl/internal/policy"
)

var (
	now   = time.Date(2026, 11, 20, 12, 30, 0, 0, time.UTC)
	place = fleet.Place{Partition: "aws", Account: "111122223333", Region: "eu-west-1"}
	span  = evidence.NewSpan(now, 14*24*time.Hour, time.Hour)
)

// world is one place under test, with defaults that a test changes.
type world struct {
	resources []inventory.Resource
	evidence  map[fleet.Ref][]*evidence.Window
	config    string
	gap       *inventory.Scope
	farGap    *inventory.Scope // of the long look back
	scopes    []inventory.Scope
	findings  []evidence.Finding
	imports   []evidence.Import
	history   map[fleet.Ref][]*evidence.Window
	now       time.Time // zero: the usual
}

func newWorld() *world { return &world{evidence: map[fleet.Ref][]*evidence.Window{}} }

func ref(kind, id string) fleet.Ref { return fleet.Ref{Place: place, Kind: kind, ID: id} }

// instance adds a running instance on optional tokens, launched days ago.
func (w *world) instance(id string, daysAgo float64, change ...func(*inventory.Resource)) fleet.Ref {
	r := inventory.Resource{Ref: ref(inventory.KindInstance, id), Name: id, Status: inventory.StatusRunning,
		Launched: now.Add(-time.Duration(daysAgo * 24 * float64(time.Hour))),
		State:    fleet.Options{Tokens: "optional", Endpoint: "enabled", HopLimit: 1, IPv6: "disabled", Tags: "disabled"}.State()}
	for _, c := range change {
		c(&r)
	}
	w.resources = append(w.resources, r)
	return r.Ref
}

func (w *world) group(name, template, selector string) fleet.Ref {
	r := inventory.Resource{Ref: ref(inventory.KindAutoScaling, name), Name: name,
		State: fleet.State{"LaunchTemplate.Id": template, "LaunchTemplate.Version": selector},
		Links: []inventory.Link{{Relation: inventory.LaunchesFrom, To: ref(inventory.KindLaunchTemplate, template), Selector: selector, Field: "LaunchTemplate.Version"}}}
	w.resources = append(w.resources, r)
	return r.Ref
}

func (w *world) template(id string, versions map[string]fleet.Options, def, latest string) fleet.Ref {
	r := inventory.Resource{Ref: ref(inventory.KindLaunchTemplate, id), Name: id, Launch: versions,
		State: fleet.State{inventory.FieldDefaultVersion: def, inventory.FieldLatestVersion: latest}}
	w.resources = append(w.resources, r)
	return r.Ref
}

func (w *world) defaults(o fleet.Options) fleet.Ref {
	r := inventory.Resource{Ref: ref(inventory.KindAccountDefaults, "metadata-defaults"), State: o.State()}
	w.resources = append(w.resources, r)
	return r.Ref
}

func memberOf(group string) func(*inventory.Resource) {
	return func(r *inventory.Resource) {
		r.Links = append(r.Links, inventory.Link{Relation: inventory.MemberOf, To: ref(inventory.KindAutoScaling, group)})
	}
}

func launchedFrom(template string) func(*inventory.Resource) {
	return func(r *inventory.Resource) {
		r.Links = append(r.Links, inventory.Link{Relation: inventory.LaunchedFrom, To: ref(inventory.KindLaunchTemplate, template), Selector: "1"})
	}
}

func status(s inventory.Status) func(*inventory.Resource) {
	return func(r *inventory.Resource) { r.Status = s }
}

func set(field, value string) func(*inventory.Resource) {
	return func(r *inventory.Resource) { r.State[field] = value }
}

// covers reports zeros for the hours from (days ago) until to (days ago), and calls v1 calls in the last of them.
func (w *world) covers(subject fleet.Ref, from, to float64, calls int64) {
	win := evidence.NewWindow(subject, evidence.SourceCloudWatch, evidence.MetricNoToken, span)
	first := max(0, span.Slot(now.Add(-time.Duration(from*24*float64(time.Hour)))))
	last := min(span.Slots-1, span.Slot(now.Add(-time.Duration(to*24*float64(time.Hour)))))
	for i := first; i <= last; i++ {
		n := int64(0)
		if i == last {
			n = calls
		}
		if err := win.Add(span.Start.Add(time.Duration(i)*time.Hour), n); err != nil {
			panic(err)
		}
	}
	w.evidence[subject] = append(w.evidence[subject], win)
}

func (w *world) judge(t interface{ Fatalf(string, ...any) }) *assess.Report {
	config, diags := policy.Parse([]byte("version: 1\n"+w.config), "imdsctl.yaml", nil)
	if len(diags) > 0 {
		t.Fatalf("config: %v", diags)
	}
	at := now
	if !w.now.IsZero() {
		at = w.now
	}
	return assess.Place(assess.Input{Findings: w.findings, Imports: w.imports, History: w.history, Manners: manners(), Snapshot: &inventory.Snapshot{Place: place, Resources: w.resources, Scopes: w.scopes},
		Evidence: w.evidence, EvidenceGap: w.gap, HistoryGap: w.farGap, Span: span, Policy: config, Now: at})
}

func TestInstance(t *testing.T) {
	for _, tc := range []struct {
		name  string
		build func(w *world) fleet.Ref
		want  assess.Status
		code  assess.Code
	}{
		{"covered, quiet, booted inside", func(w *world) fleet.Ref {
			i := w.instance("i-1", 13.9)
			w.covers(i, 14, 0, 0)
			return i
		}, assess.Ready, assess.CodeCovered},
		{"a v1 call", func(w *world) fleet.Ref {
			i := w.instance("i-1", 13.9)
			w.covers(i, 14, 0, 7)
			return i
		}, assess.Blocked, assess.CodeV1Calls},
		{"no datapoint at all", func(w *world) fleet.Ref { return w.instance("i-1", 5) }, assess.Unknown, assess.CodeNoEvidence},
		{"young", func(w *world) fleet.Ref {
			i := w.instance("i-1", 3)
			w.covers(i, 3, 0, 0)
			return i
		}, assess.Unknown, assess.CodeNotCovered},
		{"young, and already calling", func(w *world) fleet.Ref {
			i := w.instance("i-1", 3)
			w.covers(i, 3, 0, 1)
			return i
		}, assess.Blocked, assess.CodeV1Calls},
		{"was stopped in between", func(w *world) fleet.Ref {
			i := w.instance("i-1", 2)
			w.covers(i, 14, 9, 0)
			w.covers(i, 2, 0, 0)
			return i
		}, assess.Unknown, assess.CodeNotCovered},
		{"never booted inside the evidence", func(w *world) fleet.Ref {
			i := w.instance("i-1", 200)
			w.covers(i, 14, 0, 0)
			return i
		}, assess.Unknown, assess.CodeNoBoot},
		{"booted after its last datapoint", func(w *world) fleet.Ref {
			i := w.instance("i-1", 0.1)
			w.covers(i, 14, 0.3, 0)
			return i
		}, assess.Unknown, assess.CodeNoBoot},
		{"launched just now with a full history, as a stand-in has it", func(w *world) fleet.Ref {
			i := w.instance("i-1", 0)
			w.covers(i, 14, 0, 0)
			return i
		}, assess.Ready, assess.CodeCovered},
		{"tokens required", func(w *world) fleet.Ref { return w.instance("i-1", 1, set(fleet.FieldTokens, "required")) },
			assess.Done, assess.CodeRequired},
		{"endpoint disabled", func(w *world) fleet.Ref { return w.instance("i-1", 1, set(fleet.FieldEndpoint, "disabled")) },
			assess.Done, assess.CodeEndpointDisabled},
		{"exempt", func(w *world) fleet.Ref {
			w.config = "exceptions: [{match: {resource: i-1}, owner: team, reason: vendor, expires: 2027-01-31}]\n"
			i := w.instance("i-1", 13.9)
			w.covers(i, 14, 0, 9)
			return i
		}, assess.Exempt, assess.CodeException},
		{"exception expired", func(w *world) fleet.Ref {
			w.config = "exceptions: [{match: {resource: i-1}, owner: team, reason: vendor, expires: 2026-11-19}]\n"
			i := w.instance("i-1", 13.9)
			w.covers(i, 14, 0, 0)
			return i
		}, assess.Blocked, assess.CodeExceptionExpired},
		{"exception on its last day", func(w *world) fleet.Ref {
			w.config = "exceptions: [{match: {resource: i-1}, owner: team, reason: vendor, expires: 2026-11-20}]\n"
			return w.instance("i-1", 1)
		}, assess.Exempt, assess.CodeException},
		{"v1 calls that a person accepts", func(w *world) fleet.Ref {
			w.config = "overrides: [{match: {resource: i-1}, owner: ana, reason: known noise of the agent}]\n"
			i := w.instance("i-1", 13.9)
			w.covers(i, 14, 0, 9)
			return i
		}, assess.Ready, assess.CodeOverride},
		{"operated by a service", func(w *world) fleet.Ref {
			i := w.instance("i-1", 13.9, func(r *inventory.Resource) { r.Owner = fleet.Owner{Type: fleet.OwnerService, Name: "x", Managed: true} })
			w.covers(i, 14, 0, 0)
			return i
		}, assess.Blocked, assess.CodeManaged},
		{"CloudWatch denied", func(w *world) fleet.Ref {
			w.gap = &inventory.Scope{Status: inventory.ScopeGap, Class: fleet.ErrDenied, Detail: "no permission"}
			return w.instance("i-1", 13.9)
		}, assess.Unknown, assess.CodeGap},
		{"a stopped one with nothing to show", func(w *world) fleet.Ref {
			return w.instance("i-1", 40, status(inventory.StatusStopped))
		}, assess.Unknown, assess.CodeNoEvidence},
	} {
		t.Run(tc.name, func(t *testing.T) {
			w := newWorld()
			i := tc.build(w)
			v := w.judge(t).Verdict(i)
			if v.Status != tc.want || !v.Has(tc.code) {
				t.Errorf("got %s (%s), want %s with %s", v.Status, v.Why(), tc.want, tc.code)
			}
		})
	}
}

// A group replaces its instances: what is known of those that are gone counts for those that came.
func TestEvidenceFollowsLineage(t *testing.T) {
	w := newWorld()
	gone := w.instance("i-gone", 30, memberOf("web"), status(inventory.StatusTerminated))
	young := w.instance("i-young", 2, memberOf("web"))
	w.covers(gone, 14, 2, 0)
	w.covers(young, 2, 0, 0)
	v := w.judge(t).Verdict(young)
	if v.Status != assess.Ready || v.Basis.Members != 2 || v.Basis.Boots != 1 {
		t.Errorf("got %s (%s), basis %+v", v.Status, v.Why(), v.Basis)
	}
	if w.judge(t).Verdict(gone) != nil {
		t.Error("a terminated instance was judged")
	}

	w = newWorld()
	gone = w.instance("i-gone", 30, memberOf("web"), status(inventory.StatusTerminated))
	young = w.instance("i-young", 2, memberOf("web"))
	w.covers(gone, 14, 2, 5)
	w.covers(young, 2, 0, 0)
	if v := w.judge(t).Verdict(young); v.Status != assess.Blocked || !v.Has(assess.CodeLineageV1Calls) {
		t.Errorf("a v1 call of its predecessor: got %s (%s)", v.Status, v.Why())
	}
}

// TestARefusedCallIsACall: what is refused on one member, where tokens are required already, would be answered on the others.
func TestARefusedCallIsACall(t *testing.T) {
	w := newWorld()
	w.template("lt-1", map[string]fleet.Options{"1": optional()}, "1", "1")
	group := w.group("web", "lt-1", "$Default")
	a := w.instance("i-a", 3, memberOf("web"))
	b := w.instance("i-b", 3, memberOf("web"), set(fleet.FieldTokens, fleet.TokensRequired))
	w.covers(a, 14, 0, 0)
	win := evidence.NewWindow(b, evidence.SourceCloudWatch, evidence.MetricRejected, span)
	if err := win.Add(span.Start.Add(5*time.Hour), 7); err != nil {
		t.Fatal(err)
	}
	w.evidence[b] = append(w.evidence[b], win)
	report := w.judge(t)
	for _, r := range []fleet.Ref{a, group} {
		if v := report.Verdict(r); v.Status != assess.Blocked || !v.Has(assess.CodeRejected) {
			t.Errorf("%s is %s: %s", r.ID, v.Status, v.Why())
		}
	}
	if v := report.Verdict(b); v.Status != assess.Done {
		t.Errorf("%s is %s: %s", b.ID, v.Status, v.Why())
	}
}

// TestDefaultWaitsForHops: who inherits tokens from the default, and would get fewer hops than it runs with, is in the way
// unless its template is about to be changed.
func TestDefaultWaitsForHops(t *testing.T) {
	for name, c := range map[string]struct {
		ran     int
		managed bool
		want    assess.Status
	}{
		"as many":                          {1, true, assess.Ready},
		"more, from a template that stays": {2, true, assess.Blocked},
		"more, from one that is changed":   {2, false, assess.Ready},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld()
			w.template("lt-1", map[string]fleet.Options{"1": {HopLimit: 1}}, "1", "1")
			w.resources[0].Owner = fleet.Owner{Type: fleet.OwnerService, Name: "a service", Managed: c.managed}
			w.group("web", "lt-1", "$Default")
			w.covers(w.instance("i-a", 3, memberOf("web"), set(fleet.FieldHopLimit, fmt.Sprint(c.ran))), 14, 0, 0)
			defaults := w.defaults(fleet.Options{})
			if v := w.judge(t).Verdict(defaults); v.Status != c.want {
				t.Errorf("the default is %s: %s", v.Status, v.Why())
			}
		})
	}
}

func optional() fleet.Options {
	return fleet.Options{Tokens: "optional", Endpoint: "enabled", HopLimit: 1}
}
func required() fleet.Options {
	return fleet.Options{Tokens: "required", Endpoint: "enabled", HopLimit: 1}
}

func TestGroupAndTemplate(t *testing.T) {
	w := newWorld()
	lt := w.template("lt-1", map[string]fleet.Options{"3": optional(), "5": required()}, "3", "5")
	old := w.group("old", "lt-1", "$Default")
	neu := w.group("new", "lt-1", "$Latest")
	i := w.instance("i-1", 13.9, memberOf("old"), launchedFrom("lt-1"))
	w.covers(i, 14, 0, 0)
	r := w.judge(t)
	if v := r.Verdict(old); v.Status != assess.Ready {
		t.Errorf("old: %s (%s)", v.Status, v.Why())
	}
	if v := r.Verdict(neu); v.Status != assess.Done {
		t.Errorf("new: %s (%s)", v.Status, v.Why())
	}
	if v := r.Verdict(lt); v.Status != assess.Ready {
		t.Errorf("template: %s (%s)", v.Status, v.Why())
	}

	w.evidence = map[fleet.Ref][]*evidence.Window{}
	r = w.judge(t)
	if v := r.Verdict(lt); v.Status != assess.Blocked || !strings.Contains(v.Why(), "old is unknown") {
		t.Errorf("template with an unknown user: %s (%s)", v.Status, v.Why())
	}
}

func TestTemplateThatSaysNothingTakesTheDefault(t *testing.T) {
	w := newWorld()
	w.template("lt-1", map[string]fleet.Options{"1": {}}, "1", "1")
	g := w.group("web", "lt-1", "$Default")
	d := w.defaults(fleet.Options{})
	i := w.instance("i-1", 13.9, memberOf("web"), launchedFrom("lt-1"))
	w.covers(i, 14, 0, 3)
	r := w.judge(t)
	if v := r.Verdict(g); v.Status != assess.Blocked {
		t.Errorf("group: %s (%s)", v.Status, v.Why())
	}
	if v := r.Verdict(d); v.Status != assess.Blocked || !v.Has(assess.CodeConsumers) {
		t.Errorf("default that a blocked group would inherit: %s (%s)", v.Status, v.Why())
	}

	w.resources[0].Launch["1"] = optional() // pinned: the default does not reach it
	if v := w.judge(t).Verdict(d); v.Status != assess.Ready {
		t.Errorf("default beside a pinned group: %s (%s)", v.Status, v.Why())
	}

	w.resources[0].Launch["1"] = fleet.Options{}
	w.resources[2].State = required().State()
	if v := w.judge(t).Verdict(g); v.Status != assess.Done {
		t.Errorf("group under a default that requires tokens: %s (%s)", v.Status, v.Why())
	}
}

func TestAnExemptMemberKeepsItsGroupAsItIs(t *testing.T) {
	w := newWorld()
	w.config = "exceptions: [{match: {resource: i-2}, owner: team, reason: vendor, expires: 2027-01-31}]\n"
	w.template("lt-1", map[string]fleet.Options{"1": optional()}, "1", "1")
	g := w.group("web", "lt-1", "$Default")
	for _, id := range []string{"i-1", "i-2"} {
		w.covers(w.instance(id, 13.9, memberOf("web"), launchedFrom("lt-1")), 14, 0, 0)
	}
	if v := w.judge(t).Verdict(g); v.Status != assess.Blocked {
		t.Errorf("group: %s (%s)", v.Status, v.Why())
	}
}

func TestUnreadKindKeepsTheDefault(t *testing.T) {
	w := newWorld()
	d := w.defaults(fleet.Options{})
	w.scopes = []inventory.Scope{{Place: place, Kind: inventory.KindInstance, Status: inventory.ScopeGap, Class: fleet.ErrDenied, Detail: "no"}}
	if v := w.judge(t).Verdict(d); v.Status != assess.Unknown || !v.Has(assess.CodeGap) {
		t.Errorf("got %s (%s)", v.Status, v.Why())
	}
}

func TestUnreadConsumersKeepATemplateAndItsGroupAsTheyAre(t *testing.T) {
	for _, kind := range []string{inventory.KindAutoScaling, inventory.KindInstance} {
		w := newWorld()
		lt := w.template("lt-1", map[string]fleet.Options{"1": optional()}, "1", "1")
		g := w.group("web", "lt-1", "$Default")
		i := w.instance("i-1", 13.9, memberOf("web"), launchedFrom("lt-1"))
		w.covers(i, 14, 0, 0)
		w.scopes = []inventory.Scope{{Place: place, Kind: kind, Status: inventory.ScopeGap, Class: fleet.ErrDenied, Detail: "no"}}
		r := w.judge(t)
		if v := r.Verdict(lt); v.Status != assess.Unknown || !v.Has(assess.CodeGap) {
			t.Errorf("%s unread: template %s (%s)", kind, v.Status, v.Why())
		}
		if v := r.Verdict(g); kind == inventory.KindInstance && v.Status != assess.Unknown {
			t.Errorf("%s unread: group %s (%s)", kind, v.Status, v.Why())
		}
	}
}

func TestHopLimitRule(t *testing.T) {
	w := newWorld()
	w.config = "hop_limit: {rules: [{match: {name: \"node-*\"}, value: 2}]}\n"
	node := w.instance("node-1", 13.9)
	other := w.instance("web-1", 13.9)
	w.covers(node, 14, 0, 0)
	w.covers(other, 14, 0, 0)
	r := w.judge(t)
	if got := r.Verdict(node).Want.HopLimit; got != 2 {
		t.Errorf("node: hop limit %d, want 2", got)
	}
	if got := r.Verdict(other).Want.HopLimit; got != 0 {
		t.Errorf("other: hop limit %d, want it kept", got)
	}
}

// TestHopsAreKeptWhereTheLineageCalls: an instance that requires tokens is given fewer hops only while nothing of its lineage calls
// v1, for the callers may be containers that no token reaches; more hops break nobody.
func TestHopsAreKeptWhereTheLineageCalls(t *testing.T) {
	for name, c := range map[string]struct {
		has    string
		calls  int64
		config string
		want   int
	}{
		"quiet, fewer":              {"3", 0, "", 2},
		"calling, fewer":            {"3", 5, "", 0},
		"calling, more":             {"1", 5, "", 2},
		"calling, as it is":         {"2", 5, "", 0},
		"calling, and accepted":     {"3", 5, "overrides: [{match: {name: \"*\"}, owner: bob, reason: it is a test}]\n", 2},
		"calling, other's accepted": {"3", 5, "overrides: [{match: {name: other}, owner: bob, reason: it is a test}]\n", 0},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld()
			w.config = "hop_limit: {default: 2}\n" + c.config
			w.group("web", "lt-1", "$Default")
			w.template("lt-1", map[string]fleet.Options{"1": optional()}, "1", "1")
			closed := w.instance("i-closed", 10, memberOf("web"), set(fleet.FieldTokens, "required"), set(fleet.FieldHopLimit, c.has))
			w.covers(w.instance("i-open", 13.9, memberOf("web")), 14, 0, c.calls)
			v := w.judge(t).Verdict(closed)
			if v.Status != assess.Done || v.Want.HopLimit != c.want || v.Want.Tokens != "" {
				t.Errorf("%s, wants %+v, want done and a hop limit of %d", v.Status, v.Want, c.want)
			}
		})
	}
}

// More evidence never makes a blocked lineage ready, a v1 call anywhere blocks it, and ready always rests on coverage.
func TestEvidenceIsMonotonous(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := newWorld()
		var refs []fleet.Ref
		for n := range rapid.IntRange(1, 4).Draw(t, "members") {
			s := rapid.SampledFrom([]inventory.Status{inventory.StatusRunning, inventory.StatusTerminated}).Draw(t, "status")
			r := w.instance(fmt.Sprintf("i-%d", n), rapid.Float64Range(0, 20).Draw(t, "launched"), memberOf("web"), status(s))
			refs = append(refs, r)
		}
		subject := w.instance("i-subject", rapid.Float64Range(0, 20).Draw(t, "launched"), memberOf("web"))
		refs = append(refs, subject)
		before, calls := assess.Status(""), false
		for range rapid.IntRange(1, 8).Draw(t, "reports") {
			from := rapid.Float64Range(0, 13.9).Draw(t, "from")
			n := rapid.SampledFrom([]int64{0, 0, 0, 4}).Draw(t, "calls")
			w.covers(rapid.SampledFrom(refs).Draw(t, "reporter"), from, rapid.Float64Range(0, from).Draw(t, "to"), n)
			calls = calls || n > 0
			v := w.judge(t).Verdict(subject)
			if calls != (v.Status == assess.Blocked) {
				t.Fatalf("calls %v, verdict %s (%s)", calls, v.Status, v.Why())
			}
			if before == assess.Blocked && v.Status != assess.Blocked {
				t.Fatalf("more evidence turned blocked into %s", v.Status)
			}
			if v.Status == assess.Ready && (v.Basis.Coverage() < 0.95 || v.Basis.Boots == 0) {
				t.Fatalf("ready on %+v", v.Basis)
			}
			before = v.Status
		}
	})
}

// manners are those of the kinds that the tests have.
func manners() map[string]assess.Manner {
	return map[string]assess.Manner{
		inventory.KindInstance:            {Role: assess.RoleHost, Metric: true},
		inventory.KindAutoScaling:         {Role: assess.RoleLauncher, Metric: true},
		inventory.KindFleet:               {Role: assess.RoleLauncher, Metric: true},
		inventory.KindSpotFleet:           {Role: assess.RoleLauncher, Metric: true},
		inventory.KindNodegroup:           {Role: assess.RoleLauncher, Metric: true},
		inventory.KindBatch:               {Role: assess.RoleLauncher, Metric: true},
		inventory.KindImageBuilder:        {Role: assess.RoleLauncher, Metric: true},
		inventory.KindEMR:                 {Role: assess.RoleLauncher},
		inventory.KindNotebook:            {Role: assess.RoleHost},
		inventory.KindLaunchTemplate:      {Role: assess.RoleSource, Metric: true},
		inventory.KindLaunchConfiguration: {Role: assess.RoleSource, Metric: true},
		inventory.KindImage:               {Role: assess.RoleSource, Metric: true},
		inventory.KindAccountDefaults:     {Role: assess.RoleDefault, Metric: true},
	}
}
