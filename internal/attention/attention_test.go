package attention_test

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/imdsctl/imdsctl/internal/assess"
	"github.com/imdsctl/imdsctl/internal/attention"
	"github.com/imdsctl/imdsctl/internal/evidence"
	"github.com/imdsctl/imdsctl/internal/fleet"
	"github.com/imdsctl/imdsctl/internal/inventory"
	"github.com/imdsctl/imdsctl/internal/policy"
	"github.com/imdsctl/imdsctl/internal/product"
)

var (
	now   = time.Date(2026, 11, 20, 12, 30, 0, 0, time.UTC)
	place = fleet.Place{Partition: fleet.PartitionAWS, Account: "111122223333", Region: "eu-west-1"}
)

func manners() map[string]assess.Manner {
	return map[string]assess.Manner{
		inventory.KindInstance:        {Role: assess.RoleHost, Metric: true},
		inventory.KindNotebook:        {Role: assess.RoleHost},
		inventory.KindAutoScaling:     {Role: assess.RoleLauncher, Metric: true},
		inventory.KindLaunchTemplate:  {Role: assess.RoleSource, Metric: true},
		inventory.KindImage:           {Role: assess.RoleSource},
		inventory.KindAccountDefaults: {Role: assess.RoleDefault},
		inventory.KindSSMAgent:        {Role: assess.RoleFact},
	}
}

// fleetOf is a fleet in the making.
type fleetOf struct {
	snap     inventory.Snapshot
	windows  map[fleet.Ref][]*evidence.Window
	findings []evidence.Finding
	imports  []evidence.Import
	span     evidence.Span
	config   string
}

func newFleet() *fleetOf {
	f := &fleetOf{windows: map[fleet.Ref][]*evidence.Window{}, span: evidence.NewSpan(now, 14*24*time.Hour, time.Hour),
		snap: inventory.Snapshot{Place: place, Account: inventory.Account{ID: place.Account, Name: "shop"}, Taken: now}}
	for kind := range manners() {
		f.snap.Scopes = append(f.snap.Scopes, inventory.Scope{Place: place, Kind: kind, Status: inventory.ScopeComplete, At: now})
	}
	slices.SortFunc(f.snap.Scopes, func(a, b inventory.Scope) int { return strings.Compare(a.Kind, b.Kind) })
	f.add(inventory.Resource{Ref: ref(inventory.KindAccountDefaults, "metadata-defaults"), State: fleet.State{}})
	return f
}

func ref(kind, id string) fleet.Ref { return fleet.Ref{Place: place, Kind: kind, ID: id} }

func (f *fleetOf) add(r inventory.Resource) *inventory.Resource {
	f.snap.Resources = append(f.snap.Resources, r)
	return &f.snap.Resources[len(f.snap.Resources)-1]
}

// host adds an instance, which calls so many times an hour in the whole window.
func (f *fleetOf) host(id string, calls int64, change ...func(*inventory.Resource)) {
	r := inventory.Resource{Ref: ref(inventory.KindInstance, id), Name: id, Status: inventory.StatusRunning, Launched: now.Add(-13 * 24 * time.Hour),
		State: fleet.Options{Tokens: fleet.TokensOptional, Endpoint: fleet.Enabled, HopLimit: 1}.State(), Attrs: map[string]string{}}
	for _, c := range change {
		c(&r)
	}
	f.add(r)
	metric := evidence.MetricNoToken
	if r.State[fleet.FieldTokens] == fleet.TokensRequired {
		metric = evidence.MetricRejected
	}
	w := evidence.NewWindow(r.Ref, evidence.SourceCloudWatch, metric, f.span)
	for slot := range f.span.Slots {
		if err := w.Add(f.span.Start.Add(time.Duration(slot)*f.span.Period), calls); err != nil {
			panic(err)
		}
	}
	f.windows[r.Ref] = append(f.windows[r.Ref], w)
}

func tagged(key, value string) func(*inventory.Resource) {
	return func(r *inventory.Resource) {
		if r.Tags == nil {
			r.Tags = map[string]string{}
		}
		r.Tags[key] = value
	}
}

func member(group string) func(*inventory.Resource) {
	return func(r *inventory.Resource) {
		r.Links = append(r.Links, inventory.Link{Relation: inventory.MemberOf, To: ref(inventory.KindAutoScaling, group)})
	}
}

func required(r *inventory.Resource) { r.State[fleet.FieldTokens] = fleet.TokensRequired }

// group adds a group that launches from a template.
func (f *fleetOf) group(name, template, tokens string) {
	f.add(inventory.Resource{Ref: ref(inventory.KindAutoScaling, name), Name: name, State: fleet.State{"LaunchTemplate.Version": "1"},
		Links: []inventory.Link{{Relation: inventory.LaunchesFrom, To: ref(inventory.KindLaunchTemplate, template), Selector: "1", Field: "LaunchTemplate.Version"}}})
	if tokens != "gone" {
		f.add(inventory.Resource{Ref: ref(inventory.KindLaunchTemplate, template), Name: template,
			State: fleet.State{inventory.FieldDefaultVersion: "1", inventory.FieldLatestVersion: "1"}, Launch: map[string]fleet.Options{"1": {Tokens: tokens}}})
	}
}

func (f *fleetOf) agent(id, version string) {
	f.add(inventory.Resource{Ref: ref(inventory.KindSSMAgent, id), State: fleet.State{}, Attrs: map[string]string{inventory.AttrAgentVersion: version},
		Links: []inventory.Link{{Relation: inventory.RunsOn, To: ref(inventory.KindInstance, id)}}})
}

func (f *fleetOf) found(id string, what evidence.What, source evidence.Source, of product.ID, version, detail string) {
	f.findings = append(f.findings, evidence.Finding{Subject: evidence.Subject{Kind: inventory.KindInstance, ID: id}, Source: source, What: what,
		Product: string(of), Version: version, Detail: detail, Count: 7, First: now.Add(-30 * time.Hour), Last: now.Add(-29 * time.Hour)})
}

// fataler is a test, or a case of rapid.
type fataler interface{ Fatal(args ...any) }

// find judges the fleet and lists its work.
func (f *fleetOf) find(t fataler) ([]attention.Item, *assess.Report) {
	config, problems := policy.Parse([]byte(f.config), "imdsctl.yaml", nil)
	if config == nil {
		t.Fatal(problems)
	}
	slices.SortFunc(f.snap.Resources, func(a, b inventory.Resource) int { return a.Ref.Compare(b.Ref) })
	in := assess.Input{Snapshot: &f.snap, Manners: manners(), Evidence: f.windows, Span: f.span, Findings: f.findings, Imports: f.imports,
		Policy: config, Now: now}
	p := attention.Place{Snapshot: &f.snap, Evidence: f.windows, Span: f.span, Account: policy.AccountFacts{ID: place.Account, Name: "shop"}, Imports: f.imports}
	for _, sc := range f.snap.Scopes {
		if sc.Status == inventory.ScopeGap {
			p.Gaps = append(p.Gaps, sc)
		}
	}
	p.Report = assess.Place(in)
	return attention.Find(p, attention.Settings{Policy: config, Products: product.Default(), Manners: manners(), Now: now}), p.Report
}

// only finds the one item.
func only(t *testing.T, f *fleetOf) attention.Item {
	t.Helper()
	items, _ := f.find(t)
	if len(items) != 1 {
		t.Fatalf("%d items: %s", len(items), short(items))
	}
	return items[0]
}

func short(items []attention.Item) string {
	var out []string
	for _, i := range items {
		out = append(out, fmt.Sprintf("%s %s %s", i.Workload.Name, i.Cause, i.Confidence))
	}
	return strings.Join(out, "; ")
}

func TestOwners(t *testing.T) {
	for _, tc := range []struct {
		name, config string
		change       func(*inventory.Resource)
		owner, by    string
	}{
		{"the account", "", func(*inventory.Resource) {}, "shop", "the account"},
		{"a tag", "", tagged("Team", "search"), "search", "the tag Team"},
		{"the first of two tags", "attention: {owner_tags: [squad, team]}", func(r *inventory.Resource) {
			tagged("team", "a")(r)
			tagged("Squad", "b")(r)
		}, "b", "the tag Squad"},
		{"code", "", func(r *inventory.Resource) { r.Claims = []fleet.Owner{{Type: fleet.OwnerTerraform, Name: "net"}} }, "terraform net", "what made it"},
		{"a route", `attention: {routes: [{match: {name: i-*}, owner: ops}]}`, tagged("team", "a"), "ops", "the route at imdsctl.yaml:1:22"},
		{"a route that leaves it to the tags", `attention: {routes: [{match: {name: i-*}, slack: {url_env: A}}]}`, tagged("team", "a"), "a", "the tag team"},
	} {
		f := newFleet()
		f.config = tc.config
		f.host("i-1", 3, tc.change)
		i := only(t, f)
		if i.Owner.Name != tc.owner || i.Owner.By != tc.by {
			t.Errorf("%s: %+v", tc.name, i.Owner)
		}
	}
}

func TestLaunchSourceThatIsGone(t *testing.T) {
	f := newFleet()
	f.group("web", "lt-1", "gone")
	i := only(t, f)
	if i.Cause != attention.Unresolved || i.Workload.Name != "web" || i.Status != assess.Unknown {
		t.Errorf("%+v", i)
	}
}

// Who calls may call himself what he likes: nothing of it reaches a terminal as a command.
func TestNamesOfOthersAreHarmless(t *testing.T) {
	f := newFleet()
	evil := "evil\x1b[2J\r\nowner: me\u202e"
	f.host("i-1", 3, tagged("team", evil), func(r *inventory.Resource) { r.Name = evil })
	f.found("i-1", evidence.WhatV1Credentials, evidence.SourceCloudTrail, "", evil, evil)
	f.found("i-1", evidence.WhatV1Call, evidence.SourceTrace, "boto3", "1.9.2"+evil, evil)
	f.found("i-1", evidence.WhatRawCall, evidence.SourceSoftware, "", "", evil)
	items, _ := f.find(t)
	if len(items) == 0 {
		t.Fatal("nothing is listed")
	}
	for _, i := range items {
		b, err := json.Marshal(i)
		if err != nil || strings.Contains(string(b), `\u001b`) || strings.Contains(string(b), `\r`) || strings.Contains(string(b), `\n`) ||
			strings.ContainsRune(string(b), '\u202e') {
			t.Errorf("%v: %s", err, b)
		}
	}
}

// Thousands of machines of one application are one item, and are put together in a time that nobody notices.
func TestManyInstancesOfOneApplication(t *testing.T) {
	f := newFleet()
	for n := range 5000 {
		f.host(fmt.Sprintf("i-%05d", n), 1, tagged("app", "legion"))
	}
	i := only(t, f)
	if i.Workload.Instances != 5000 || len(i.Workload.Resources) != 5000 || i.Calls != int64(5000*f.span.Slots) || len(i.Evidence) > 12 {
		t.Errorf("%d instances, %d calls, %d lines of evidence", i.Workload.Instances, i.Calls, len(i.Evidence))
	}
}

// What was seen longer ago than the window says nothing.
func TestFindingsBeforeTheWindow(t *testing.T) {
	f := newFleet()
	f.host("i-1", 0)
	f.found("i-1", evidence.WhatV1Credentials, evidence.SourceCloudTrail, "boto3", "1.9.2", "Boto3/1.9.2 Botocore/1.12.2")
	f.findings[0].First, f.findings[0].Last = now.AddDate(0, -2, 0), now.AddDate(0, -2, 0)
	if items, _ := f.find(t); len(items) != 0 {
		t.Errorf("%s", short(items))
	}
}

// Of what calls there is one item a caller, however many findings tell of it.
func TestOneItemForACaller(t *testing.T) {
	f := newFleet()
	f.host("i-1", 3)
	for _, agent := range []string{"Boto3/1.9.2 Python/2.7.16 Botocore/1.12.2", "Boto3/1.9.2 Python/3.6 Botocore/1.12.2 Resource",
		"Boto3/1.10.0 Botocore/1.13.0"} {
		f.found("i-1", evidence.WhatV1Credentials, evidence.SourceCloudTrail, "botocore", "1.12.2", agent)
	}
	f.found("i-1", evidence.WhatV1Call, evidence.SourceTrace, "boto3", "1.9.2", "python billing.py (pid 7)")
	f.found("i-1", evidence.WhatSoftware, evidence.SourceSoftware, "boto3", "1.9.2", "/usr/lib/python2.7/site-packages/boto3")
	i := only(t, f)
	if i.Cause != attention.OldSDK || i.Product != "boto3" || i.Confidence != attention.Certain || fmt.Sprint(i.Versions) != "[1.10.0 1.9.2]" &&
		fmt.Sprint(i.Versions) != "[1.9.2 1.10.0]" || i.First != "1.12.6" || !strings.Contains(i.Fix, "boto3") {
		t.Errorf("%+v", i)
	}
	if len(i.Because) < 2 || !strings.Contains(strings.Join(i.Because, ";"), "a tracer saw it make 7 IMDSv1 calls") {
		t.Errorf("because: %q", i.Because)
	}
}

// An SDK that speaks v2 is no candidate because it is installed.
func TestInstalledSoftwareThatIsNew(t *testing.T) {
	f := newFleet()
	f.host("i-1", 3)
	f.found("i-1", evidence.WhatSoftware, evidence.SourceSoftware, "boto3", "1.34.0", "/usr/lib")
	i := only(t, f)
	said := i.Fix + strings.Join(i.Steps, ";")
	if i.Cause != attention.UnknownCaller || strings.Contains(said, "software scan") || !strings.Contains(said, "run `imdsctl trace --for 24h` (Linux) on i-1") {
		t.Errorf("%+v", i)
	}
}

func TestSeveralCandidatesAreOnlyPossible(t *testing.T) {
	f := newFleet()
	f.host("i-1", 3)
	f.found("i-1", evidence.WhatSoftware, evidence.SourceSoftware, "boto3", "1.9.2", "/usr/lib")
	f.found("i-1", evidence.WhatSoftware, evidence.SourceSoftware, "botocore", "1.12.2", "/usr/lib") // boto3's own
	f.found("i-1", evidence.WhatRawCall, evidence.SourceSoftware, "", "", "/opt/a.sh:3")
	items, _ := f.find(t)
	if len(items) != 2 || items[0].Cause != attention.OldSDK || items[1].Cause != attention.RawCall || items[0].Confidence != attention.Possible ||
		items[1].Confidence != attention.Possible || !strings.Contains(items[0].Title, "botocore 1.12.2") {
		t.Errorf("%s: %+v", short(items), items)
	}
}

// A person's word ends the matter, and what is exempt is left alone until shortly before its end.
func TestWhatIsNotListed(t *testing.T) {
	f := newFleet()
	f.config = `
exceptions: [{match: {name: i-exempt}, owner: a, reason: b, expires: 2027-06-01}]
overrides: [{match: {name: i-accepted}, owner: a, reason: b}]`
	f.host("i-exempt", 9)
	f.host("i-accepted", 9)
	f.host("i-ready", 0)
	f.host("i-done", 0, required)
	if items, _ := f.find(t); len(items) != 0 {
		t.Errorf("%s", short(items))
	}
}

func TestGapsOfManyRegionsAreOne(t *testing.T) {
	var items []attention.Item
	for _, region := range []fleet.Region{"eu-west-1", "us-east-1", "ap-south-1"} {
		f := newFleet()
		at := place
		at.Region = region
		for i := range f.snap.Scopes {
			f.snap.Scopes[i].Place = at
		}
		f.snap.Place = at
		f.snap.Resources = nil
		f.snap.Scopes[0].Status, f.snap.Scopes[0].Class = inventory.ScopeGap, fleet.ErrDenied
		f.snap.Scopes[0].Detail = "ec2:DescribeImages in " + at.String() + ": not authorized"
		found, _ := f.find(t)
		items = append(items, found...)
	}
	items = attention.Merge(items)
	if len(items) != 1 || items[0].Workload.Region != "" || len(items[0].Evidence) != 3 || !strings.Contains(items[0].Fix, "Allow ec2:DescribeImages") {
		t.Errorf("%s: %+v", short(items), items)
	}
	before := items[0].Digest
	if again := attention.Merge(items); again[0].Digest != before {
		t.Error("merging again changes the digest")
	}
}

// The same caller counted anew is the same item saying the same.
func TestDigestsLeaveCountsOut(t *testing.T) {
	item := func(calls int64) attention.Item {
		f := newFleet()
		f.host("i-1", calls)
		return only(t, f)
	}
	if a, b := item(3), item(400); a.ID != b.ID || a.Digest != b.Digest || a.Calls == b.Calls {
		t.Errorf("%+v and %+v", a, b)
	}
}

func TestCausesAreExplainedAndParsed(t *testing.T) {
	seen := map[attention.Cause]bool{}
	for _, c := range attention.Causes() {
		if parsed, ok := attention.ParseCause(string(c.Cause)); !ok || parsed != c.Cause || c.Meaning == "" || seen[c.Cause] {
			t.Errorf("%+v", c)
		}
		seen[c.Cause] = true
	}
	if _, ok := attention.ParseCause("sunspots"); ok {
		t.Error("a cause that is none was parsed")
	}
}

// Whatever a fleet looks like: what is blocked or unknown has an item, what is well has none, nothing is there twice, every item says
// why and what to do, and an agent never hides a caller that has none.
func TestFindProperties(t *testing.T) {
	products := []product.ID{"boto3", "botocore", "amazon-ssm-agent", "datadog-agent", "kiam", "curl", "nothing-known", ""}
	rapid.Check(t, func(t *rapid.T) {
		f := newFleet()
		f.config = `{exceptions: [{match: {tag: {x: "1"}}, owner: a, reason: b, expires: 2026-11-25}, {match: {tag: {x: "2"}}, owner: a, reason: b,
  expires: 2026-01-01}], overrides: [{match: {tag: {x: "3"}}, owner: a, reason: b}]}`
		for g := range rapid.IntRange(0, 2).Draw(t, "groups") {
			f.group(fmt.Sprint("g-", g), fmt.Sprint("lt-", g), rapid.SampledFrom([]string{"", "optional", "required", "gone"}).Draw(t, "template"))
		}
		for n := range rapid.IntRange(0, 6).Draw(t, "hosts") {
			id := fmt.Sprint("i-", n)
			f.host(id, rapid.SampledFrom([]int64{0, 0, 3}).Draw(t, "calls"), func(r *inventory.Resource) {
				if g := rapid.IntRange(-1, 1).Draw(t, "group"); g >= 0 {
					member(fmt.Sprint("g-", g))(r)
				}
				tagged("x", rapid.SampledFrom([]string{"0", "0", "1", "2", "3"}).Draw(t, "exception"))(r)
				tagged("app", rapid.SampledFrom([]string{"", "a", "b"}).Draw(t, "app"))(r)
				if rapid.Bool().Draw(t, "required") {
					required(r)
				}
				if rapid.IntRange(0, 5).Draw(t, "old") == 0 {
					r.Launched = now.AddDate(0, -2, 0)
				}
				if rapid.IntRange(0, 5).Draw(t, "managed") == 0 {
					r.Owner = fleet.Owner{Type: fleet.OwnerKarpenter, Name: "pool", Managed: true}
				}
			})
			if rapid.Bool().Draw(t, "agent") {
				f.agent(id, rapid.SampledFrom([]string{"2.3.1319.0", "3.3.1611.0", "x"}).Draw(t, "version"))
			}
			for range rapid.IntRange(0, 2).Draw(t, "findings") {
				what := rapid.SampledFrom([]evidence.What{evidence.WhatV1Call, evidence.WhatV1Credentials, evidence.WhatV2Credentials, evidence.WhatSoftware,
					evidence.WhatRawCall, evidence.WhatRefused}).Draw(t, "what")
				source := map[evidence.What]evidence.Source{evidence.WhatV1Call: evidence.SourceTrace, evidence.WhatV1Credentials: evidence.SourceCloudTrail,
					evidence.WhatV2Credentials: evidence.SourceCloudTrail, evidence.WhatRefused: evidence.SourceCertify}[what]
				if source == "" {
					source = evidence.SourceSoftware
				}
				f.found(id, what, source, rapid.SampledFrom(products).Draw(t, "product"),
					rapid.SampledFrom([]string{"1.9.2", "2.0.0", "99", ""}).Draw(t, "version"),
					rapid.SampledFrom([]string{"", "Boto3/1.9.2 Botocore/1.12.2", "kiam/3.0", "x"}).Draw(t, "detail"))
			}
		}
		items, report := f.find(t)
		again, _ := f.find(t)
		a, _ := json.Marshal(items)
		b, _ := json.Marshal(again)
		if string(a) != string(b) {
			t.Fatalf("the same fleet says another thing:\n%s\n%s", a, b)
		}
		checkItems(t, items, report)
	})
}

func checkItems(t *rapid.T, items []attention.Item, report *assess.Report) {
	ids := map[string]bool{}
	of := map[fleet.Ref][]attention.Item{}
	for _, i := range items {
		if ids[i.ID] {
			t.Fatalf("%s is there twice: %s", i.ID, short(items))
		}
		ids[i.ID] = true
		if _, ok := attention.ParseCause(string(i.Cause)); !ok || i.Title == "" || i.Fix == "" || len(i.Because) == 0 || i.Owner.Name == "" ||
			i.Confidence == "" || i.Digest == "" || i.Status == "" || i.Workload.Name == "" {
			t.Fatalf("an item lacks something: %+v", i)
		}
		for _, r := range i.Workload.Resources {
			of[r] = append(of[r], i)
		}
	}
	for _, v := range report.All() {
		if v.Ref.Kind != inventory.KindInstance {
			continue
		}
		about := of[v.Ref]
		settled := v.Status == assess.Ready || v.Status == assess.Exempt || v.Override != "" || v.Status == assess.Done && !v.Has(assess.CodeRejected)
		if !settled && len(about) == 0 {
			t.Fatalf("%s is %s (%s) and has no item: %s", v.Ref.ID, v.Status, v.Why(), short(items))
		}
		for _, i := range about {
			if i.Workload.Kind == inventory.KindInstance && settled && v.Status != assess.Exempt && i.Cause != attention.HopLimitHigh {
				t.Fatalf("%s is %s and listed for %s", v.Ref.ID, v.Status, i.Cause)
			}
		}
	}
}
