package report_test

import (
	"bytes"
	"encoding/hex"
	"flag"
	"fmt"
	"os"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/imdsctl/imdsctl/internal/assess"
	"github.com/imdsctl/imdsctl/internal/fleet"
	"github.com/imdsctl/imdsctl/internal/inventory"
	"github.com/imdsctl/imdsctl/internal/plan"
	"github.com/imdsctl/imdsctl/internal/policy"
	"github.com/imdsctl/imdsctl/internal/report"
)

var update = flag.Bool("update", false, "write the golden files anew")

var (
	made  = time.Date(2026, 11, 20, 12, 30, 0, 0, time.UTC)
	place = fleet.Place{Partition: "aws", Account: "111122223333", Region: "eu-west-1"}
)

func ref(kind, id string) fleet.Ref { return fleet.Ref{Place: place, Kind: kind, ID: id} }

// board is a plan with something of everything that a page shows.
// risk is one with a part that could not be read and a level below its score.
func risk() *assess.Risk {
	return &assess.Risk{Level: assess.RiskMedium, Score: 55, Cap: "what refuses IMDSv1 is never above medium", Parts: []assess.RiskPart{
		{Points: 35, Code: assess.RiskRole, Text: "its role web administers the account: <AdministratorAccess>: #1"},
		{Points: 20, Code: assess.RiskExposure, Text: "everyone reaches its address 192.0.2.1"},
		{Code: assess.RiskUnread, Text: "whether a load balancer forwards to it is not known", Most: 10},
	}}
}

// TestRiskParts: each part says its points, and the last line why the level is not what the score says.
func TestRiskParts(t *testing.T) {
	want := []string{"+35 its role web administers the account: <AdministratorAccess>: #1", "+20 everyone reaches its address 192.0.2.1",
		"up to +10 whether a load balancer forwards to it is not known", "what refuses IMDSv1 is never above medium"}
	if got := report.RiskParts(risk()); !slices.Equal(got, want) {
		t.Errorf("%q", got)
	}
	page := render(t, board(), options())
	for _, line := range append(want[1:], "&lt;AdministratorAccess&gt;", "Risk medium, 55 of 100 points") {
		if !strings.Contains(page, strings.ReplaceAll(line, "+", "&#43;")) {
			t.Errorf("the page does not say %q", line)
		}
	}
}

func board() *plan.Plan {
	seen := plan.Evidence{
		Verdict: "ready", Reason: "no v1 call in 336 of 336 periods", Source: "cloudwatch", Lineage: "web", Start: made.Add(-14 * 24 * time.Hour),
		End: made, Covered: 336, Periods: 336, Boots: 3, Members: 4,
	}
	date, err := policy.ParseDate("2026-12-20")
	if err != nil {
		panic(err)
	}
	p := &plan.Plan{
		Digest: strings.Repeat("0123456789abcdef", 4),
		Header: plan.Header{
			Format: 1, Created: made, Tool: "1.4.0", Config: strings.Repeat("c", 64), Database: "imdsctl.db", Taken: made.Add(-3 * time.Hour),
			Waves: []plan.Wave{
				{Name: "pilot", Accounts: []fleet.AccountID{"111122223333"}}, {Name: "production", Accounts: []fleet.AccountID{"111122223333", "444455556666"}, Approval: true},
			},
			Calendars: []policy.Calendar{{
				Windows: []policy.Window{{Name: "nights", From: "22:00", To: "04:00", Zone: "UTC"}},
				Freezes: []policy.Freeze{{Name: "end of the year", From: date, To: date, Zone: "UTC"}},
			}},
			Rules: plan.Rules{
				MaxInFlight: 100, MaxStacks: 40, MaxStacksAccount: 5, HaltOnFailure: true, StatusChecks: true, Heartbeat: true, MetricDelay: 5 * time.Minute,
				GateInterval: 5 * time.Minute, Gates: []plan.Gate{{Type: plan.GateCommand, Name: "smoke", Run: []string{"/bin/check", "--all"}}},
			},
			Summary: plan.Summary{
				Changes: 4, FollowUps: 2, Stacks: 2, Verdicts: map[string]int{"ready": 3, "blocked": 2, "unknown": 1, "exempt": 1}, Manuals: 2, Exempt: 1,
				Gaps: 1, Calls: map[string]int{"ec2:ModifyInstanceMetadataOptions": 3, "ec2:DescribeInstances": 6},
			},
			Estimate: &plan.Estimate{
				Begin: made, End: made.Add(30 * time.Hour), Limit: "ec2:ModifyInstanceMetadataOptions in " + place.String(), Metrics: 1200, Dollars: 0.012,
				GateCalls: map[string]int{"cloudwatch:GetMetricData": 12},
				Waves:     []plan.WaveEstimate{{Name: "pilot", Begin: made, End: made.Add(6 * time.Hour)}, {Name: "production", Begin: made.Add(6 * time.Hour), End: made.Add(30 * time.Hour)}},
			},
		},
		Stacks: []plan.Stack{
			{ID: "s-0000000001", Name: "web", Place: place, Criticality: policy.Medium, Gates: []int{0}, Risk: risk(), RiskOf: fleet.Ref{
				Place: place, Kind: "ec2-instance", ID: "i-0000000000000000a"}, Steps: []plan.Step{
				{Name: "canary", Stage: plan.StageFleet, Changes: 1, Bake: 6 * time.Hour, Share: "1"},
				{Name: "fleet", Stage: plan.StageFleet, Changes: 1, Bake: 6 * time.Hour, Share: "100%"},
				{Name: "launch", Stage: plan.StageLaunch, Changes: 2, Bake: 6 * time.Hour},
			}},
			{ID: "s-0000000002", Name: "ledger", Wave: 1, Ring: 1, Place: place, Calendar: 1, Criticality: policy.Critical, After: []string{"s-0000000001"},
				Last: true, Steps: []plan.Step{{Name: "fleet", Stage: plan.StageFleet, Changes: 2, Bake: 24 * time.Hour}}},
		},
		Manuals: []plan.Manual{
			{Ref: ref("ami", "ami-1"), Name: "golden", Reason: "AWS does not let it be undone", Remedy: "Set targets.images, or run the command.",
				Commands: []string{"aws ec2 modify-image-attribute --image-id ami-1 --imds-support v2.0"}},
			{Ref: ref("eks-nodegroup", "n/1"), Reason: "operated by eks-nodegroup n", Remedy: "Change it there."},
		},
		Exempt: []plan.Exempt{{Ref: ref("ec2-instance", "i-9"), Name: "vendor", Owner: "team-a", Reason: "no new agent yet", Expires: "2027-01-31"}},
	}
	options := func(tokens string) fleet.State {
		return fleet.State{"HttpTokens": tokens, "HttpPutResponseHopLimit": "1"}
	}
	change := func(n int, id, stack string, step int) plan.Change {
		return plan.Change{
			ID: fmt.Sprintf("c-%012d", n), Ref: ref("ec2-instance", id), Name: "web", Action: "set-options", Class: plan.ClassSet, Stack: stack, Step: step,
			Before: options("optional"), After: options("required"), Undo: "full", Disruption: "none", Why: "it allows IMDSv1", Evidence: seen,
			Calls:   map[string]int{"ec2:ModifyInstanceMetadataOptions": 1, "ec2:DescribeInstances": 2},
			Inverse: []string{"aws ec2 modify-instance-metadata-options --instance-id " + id + " --http-tokens optional"},
		}
	}
	canary := change(1, "i-1", "s-0000000001", 0)
	canary.Canary = true
	version := change(3, "lt-1", "s-0000000001", 2)
	version.Ref.Kind, version.Action, version.Class, version.Outputs = "launch-template", "create-version", plan.ClassCreate, []string{"Version"}
	version.Before, version.After = fleet.State{"LatestVersion": "5"}, fleet.State{"LatestVersion": "${c-000000000003.Version}", "Note": ""}
	version.Undo, version.Residue = "behaviour", "the version stays, and nothing points to it"
	launched := plan.Change{
		ID: "c-000000000004", Ref: ref(plan.KindFollowUp, "auto-scaling-group/web/launched/1795177800"), Action: plan.ActionLaunched, Stack: "s-0000000001",
		Step: 2, Undo: "none", Disruption: "none", Params: map[string]string{"instance": "web", "name": "launched", "timeout": "30m"},
	}
	ledger := change(5, "i-5", "s-0000000002", 0)
	ledger.Override, ledger.Disruption, ledger.Undo, ledger.Inverse = "dana: calls are of a health check", "restart", "none", nil
	ledger.Evidence.Verdict, ledger.Evidence.Calls, ledger.Evidence.Reason = "ready", 12, "overridden"
	restart := plan.Change{
		ID: "c-000000000006", Ref: ref(plan.KindFollowUp, "i-5/restart/1795177800"), Action: plan.ActionCommand, Stack: "s-0000000002", Undo: "none",
		Disruption: "restart", Params: map[string]string{"instance": "i-5", "name": "restart", "command": `["/bin/restart","ledger"]`, "timeout": "1m"},
	}
	p.Changes = []plan.Change{canary, change(2, "i-2", "s-0000000001", 1), version, launched, ledger, restart}
	return p
}

func options() report.Options {
	return report.Options{Now: made.Add(time.Hour), File: "plan.json", Gaps: []inventory.Scope{
		{Place: place, Kind: "launch-template", Status: inventory.ScopeGap, Class: fleet.ErrDenied, Detail: "not authorized"},
	}}
}

func render(t testing.TB, p *plan.Plan, o report.Options) string {
	t.Helper()
	var out bytes.Buffer
	if err := report.Plan(&out, p, o); err != nil {
		t.Fatal(err)
	}
	return out.String()
}

func TestPlanPage(t *testing.T) {
	got := render(t, board(), options())
	if *update {
		if err := os.WriteFile("testdata/plan.html", []byte(got), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile("testdata/plan.html")
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Error("the page differs from testdata/plan.html; look at it, and run the test with -update")
	}
	for _, words := range []string{
		"‹Version that change c-000000000003 makes›", "dana: calls are of a health check", "approved but for the waves",
		"1 change cannot be undone.", "Restarts what runs: 1 change.", "rollout approve 0123456789ab --wave", "not authorized",
		"aws ec2 modify-image-attribute", "0 v1 calls; 336 of 336 periods covered", "source cloudwatch", "(empty)",
	} {
		if !strings.Contains(got, words) {
			t.Errorf("the page does not say %q", words)
		}
	}
	if n := strings.Count(got, board().Digest); n != 2 {
		t.Errorf("the digest stands %d times on the page, want it at the top and in the box for signatures", n)
	}
}

var tag = regexp.MustCompile(`<[^>]*>`)

// A page is whole: what is opened is closed, and nothing is fetched or run.
func TestPageStandsAlone(t *testing.T) {
	got := render(t, board(), options())
	var open []string
	for _, m := range regexp.MustCompile(`<(/?)([a-z0-9]+)[^>]*>`).FindAllStringSubmatch(got, -1) {
		switch {
		case slices.Contains([]string{"meta", "br"}, m[2]):
		case m[1] == "":
			open = append(open, m[2])
		case len(open) == 0 || open[len(open)-1] != m[2]:
			t.Fatalf("</%s> closes %v", m[2], open)
		default:
			open = open[:len(open)-1]
		}
	}
	if len(open) > 0 {
		t.Errorf("never closed: %v", open)
	}
	for _, bad := range []string{"<script", "<img", "<link", "<iframe", "http://", "https://", "url(", "@import", " src=", " href=", " on"} {
		for _, m := range tag.FindAllString(got, -1) {
			if strings.Contains(m, bad) {
				t.Errorf("the page has %q", m)
			}
		}
	}
	if strings.Contains(got, "url(") || strings.Contains(got, "@import") {
		t.Error("the style fetches something")
	}
}

func TestPreviewHasNothingToSign(t *testing.T) {
	p := board()
	p.Digest = ""
	if got := render(t, p, options()); strings.Contains(got, "Signature") || strings.Contains(got, "rollout approve ") || !strings.Contains(got, "Preview.") {
		t.Error("a plan that nobody can carry out can be signed")
	}
}

func TestNothingToChange(t *testing.T) {
	p := &plan.Plan{Digest: strings.Repeat("a", 64), Header: plan.Header{Created: made, Taken: made}}
	if got := render(t, p, report.Options{Now: made}); !strings.Contains(got, "no resource is ready that is not done already") || strings.Contains(got, "Every change") {
		t.Error("an empty plan is shown as if it did something")
	}
}

// FuzzPlanText: whatever text stands in a plan, the page has the tags that it has with harmless text, and no other.
func FuzzPlanText(f *testing.F) {
	for _, s := range []string{
		"<script>alert(1)</script>", `"><img src=x onerror=alert(1)>`, "</style><script>", "'--><svg/onload=1>", "{{.Digest}}", "javascript:alert(1)",
		"\x00<b>", "\xff<i>", "&lt;b&gt;<b>", "<!--", "-->", "]]>", "</td></tr></table>", "</title><b>", "\u2028<b>",
	} {
		f.Add(s)
	}
	harmless := board()
	spread(reflect.ValueOf(harmless).Elem(), "", "x")
	want := tag.FindAllString(render(f, harmless, options()), -1)
	f.Fuzz(func(t *testing.T, text string) {
		p, o := board(), options()
		spread(reflect.ValueOf(p).Elem(), "", text+"x")
		spread(reflect.ValueOf(&o.Gaps).Elem(), "", text+"x")
		got := tag.FindAllString(render(t, p, o), -1)
		if !slices.Equal(got, want) {
			for i := range min(len(got), len(want)) {
				if got[i] != want[i] {
					t.Fatalf("with %q in the plan, tag %d is %q, not %q", text, i, got[i], want[i])
				}
			}
			t.Fatalf("with %q in the plan there are %d tags, not %d", text, len(got), len(want))
		}
	})
}

// spread puts text at the end of every text below v, but for times of day, which a plan that is read has right.
func spread(v reflect.Value, name, text string) {
	switch v.Kind() {
	case reflect.Pointer:
		if !v.IsNil() {
			spread(v.Elem(), name, text)
		}
	case reflect.Struct:
		for i := range v.NumField() {
			if field := v.Type().Field(i); field.IsExported() && !slices.Contains([]string{"From", "To", "Zone", "Days", "Undo", "Disruption"}, field.Name) {
				spread(v.Field(i), field.Name, text)
			}
		}
	case reflect.Slice:
		for i := range v.Len() {
			spread(v.Index(i), name, text)
		}
	case reflect.Map:
		if v.Type().Elem().Kind() != reflect.String {
			return
		}
		for _, k := range v.MapKeys() {
			v.SetMapIndex(k, reflect.ValueOf(v.MapIndex(k).String()+text))
		}
	case reflect.String:
		if name == "ID" && strings.HasPrefix(v.String(), "s-") || name == "Stack" || name == "After" {
			text = "-" + hex.EncodeToString([]byte(text)) // what refers to each other stays so
		}
		v.SetString(v.String() + text)
	}
}

// large is a plan of stacks with so many changes each.
func large(stacks, each int) *plan.Plan {
	base := board()
	p := &plan.Plan{Header: base.Header, Digest: base.Digest}
	for i := range stacks {
		s := base.Stacks[0]
		s.ID, s.Name, s.Gates = fmt.Sprintf("s-%010d", i), fmt.Sprintf("service-%d", i), nil
		s.Steps = []plan.Step{{Name: "fleet", Stage: plan.StageFleet, Changes: each, Bake: time.Hour}}
		p.Stacks = append(p.Stacks, s)
		for j := range each {
			c := base.Changes[1]
			c.ID, c.Ref.ID, c.Stack, c.Step = fmt.Sprintf("c-%06d%06d", i, j), fmt.Sprintf("i-%08d%08d", i, j), s.ID, 0
			p.Changes = append(p.Changes, c)
		}
	}
	return p
}

// A page of 100,000 changes can be opened, and says what it leaves out; what a board must look at is on it all the same.
func TestLargePlansMakeSmallPages(t *testing.T) {
	for _, shape := range [][2]int{{1000, 100}, {50000, 2}, {10, 10000}} {
		p := large(shape[0], shape[1])
		grave := &p.Changes[len(p.Changes)-1]
		grave.Override = "dana: knows"
		got := render(t, p, options())
		t.Logf("%d stacks of %d changes: %d bytes", shape[0], shape[1], len(got))
		if len(got) > 4<<20 {
			t.Errorf("%d stacks of %d changes: %d bytes", shape[0], shape[1], len(got))
		}
		m := regexp.MustCompile(`This page lists ([0-9,]+) changes and follow-ups one by one and leaves ([0-9,]+) out`).FindStringSubmatch(got)
		if m == nil {
			t.Fatalf("%v: the page does not say what it leaves out", shape)
		}
		var listed, out int
		for i, to := range []*int{&listed, &out} {
			if _, err := fmt.Sscan(strings.ReplaceAll(m[i+1], ",", ""), to); err != nil {
				t.Fatal(err)
			}
		}
		if listed+out != len(p.Changes) || listed != strings.Count(got, "undone by") {
			t.Errorf("%v: %d listed (%d found) and %d left out of %d", shape, listed, strings.Count(got, "undone by"), out, len(p.Changes))
		}
		if !strings.Contains(got, "<strong>dana: knows</strong>") {
			t.Errorf("%v: the stack with the override is not printed", shape)
		}
	}
}

func TestUnlimited(t *testing.T) {
	o := options()
	o.Limits = report.Unlimited()
	p := large(500, 10)
	if got := render(t, p, o); strings.Count(got, "undone by") != len(p.Changes) || strings.Contains(got, "Not everything is printed") {
		t.Error("something is left out")
	}
}
