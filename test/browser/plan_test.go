package browser_test

import (
	"bytes"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/chromedp/chromedp"

	"github.com/imdsctl/imdsctl/internal/app"
	"github.com/imdsctl/imdsctl/internal/awssim"
	"github.com/imdsctl/imdsctl/internal/awssim/core"
	"github.com/imdsctl/imdsctl/internal/awssim/scenario"
	"github.com/imdsctl/imdsctl/internal/clock"
	"github.com/imdsctl/imdsctl/internal/inventory"
	"github.com/imdsctl/imdsctl/internal/plan"
	"github.com/imdsctl/imdsctl/internal/policy"
	"github.com/imdsctl/imdsctl/internal/report"
	"github.com/imdsctl/imdsctl/test/browser"
)

var start = time.Date(2026, 11, 20, 9, 0, 0, 0, time.UTC)

// settings make a plan with something of everything that its page shows.
const settings = `
version: 1
organization: {discover: organizations, regions: %s}
criticality: {rules: [{match: {ou: Production}, value: high}, {match: {ou: Sandbox}, value: low}, {match: {ou: Development}, value: low}]}
waves:
  - {name: pilot, criticality: low}
  - {name: internal, criticality: medium}
  - {name: production, criticality: [high, critical], approval: true, ramp: [2, 100%%]}
exceptions: [{match: {tag: {app: "report-archiver*"}}, owner: network@example.com, reason: the vendor's fixed image is announced for the spring, expires: 2027-06-30}]
overrides: [{match: {kind: [ec2-instance], tag: {team: payments}}, owner: alice@example.com, reason: the only caller is an inventory script that is switched off}]
gates:
  alarms: [{name: shop errors, match: {tag: {app: "*"}}, alarms: [shop-5xx, shop-latency]}]
  commands: [{name: smoke test, match: {criticality: [high, critical]}, run: [/opt/checks/smoke, --quick], timeout: 2m}]
windows: [{name: nights, match: {criticality: [high, critical]}, from: "22:00", to: "04:00", timezone: Europe/Berlin}]
freezes: [{name: end of the year, from: 2026-12-18, to: 2027-01-06, timezone: Europe/Berlin}]
follow_ups: [{name: restart, match: {tag: {team: payments}}, ssm: {document: AWS-RunShellScript, parameters: {commands: [systemctl restart app]}}, timeout: 15m}]
targets: {templates: true, account_defaults: true}
`

// planned scans a simulated organization and plans, in the working directory.
func planned(t *testing.T) (*plan.Plan, []inventory.Scope) {
	t.Helper()
	c := clock.NewLeaping(t.Context(), start, 0)
	w := awssim.New(awssim.Options{Clock: c, Seed: 7})
	sum, err := scenario.Organization(w, scenario.Options{Seed: 7, Accounts: 12, Instances: 120})
	if err != nil {
		t.Fatal(err)
	}
	for i, account := range sum.Accounts {
		for _, name := range []string{policy.DefaultReadRole, policy.DefaultWriteRole} {
			may := core.AllowActions("*")
			if i == len(sum.Accounts)-1 {
				may = core.AllowActions("sts:*", "ec2:*", "cloudwatch:*", "organizations:*", "eks:*", "ecs:*") // the rest is a gap
			}
			if err := w.PutRole(account, name, core.TrustAccount(sum.Management, ""), may); err != nil {
				t.Fatal(err)
			}
		}
	}
	regions, err := json.Marshal(sum.Regions)
	if err != nil {
		t.Fatal(err)
	}
	text := fmt.Sprintf(settings, regions)
	config, problems := policy.Parse([]byte(text), "imdsctl.yaml", app.KindNames())
	if config == nil {
		t.Fatalf("configuration: %v\n%s", problems, text)
	}
	creds := aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) {
		return aws.Credentials{AccessKeyID: string(sum.Management), SecretAccessKey: "secret"}, nil
	})
	a, err := app.New(app.Options{Config: config, DBPath: "imdsctl.db", Clock: c, Version: "1.4.0", Actor: "tester",
		AWS: func(context.Context) (aws.Config, error) {
			return aws.Config{Region: string(sum.Regions[0]), Credentials: creds, HTTPClient: w.Client(),
				BaseEndpoint: aws.String(awssim.BaseURL)}, nil
		}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := a.Close(); err != nil {
			t.Error(err)
		}
	})
	if _, err := a.Scan(t.Context(), app.ScanOptions{}); err != nil {
		t.Fatal(err)
	}
	made, err := a.Plan(t.Context(), app.PlanOptions{})
	if err != nil {
		t.Fatal(err)
	}
	var file bytes.Buffer
	if err := a.WritePlan(t.Context(), &file, "plan.json", made.Plan); err != nil {
		t.Fatal(err)
	}
	p, err := plan.Read(&file, "plan.json")
	if err != nil {
		t.Fatal(err)
	}
	return p, made.Gaps
}

// write renders a page into the working directory, and returns its address.
func write(t *testing.T, name string, p *plan.Plan, o report.Options) string {
	t.Helper()
	var page bytes.Buffer
	if err := report.Plan(&page, p, o); err != nil {
		t.Fatal(err)
	}
	path, err := filepath.Abs(name)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, page.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	return (&url.URL{Scheme: "file", Path: filepath.ToSlash(path)}).String()
}

// views are how the page of a plan is looked at. A sheet of A4 leaves 182 mm, which are 688 pixels, and Letter 713.
var views = []browser.View{
	{Name: "wide light", Width: 1440, Height: 900},
	{Name: "wide dark", Width: 1440, Height: 900, Dark: true},
	{Name: "phone light", Width: 360, Height: 740, Mobile: true},
	{Name: "phone dark", Width: 360, Height: 740, Mobile: true, Dark: true},
	{Name: "tablet dark", Width: 820, Height: 1180, Mobile: true, Dark: true},
	{Name: "print", Width: 688, Height: 970, Print: true},
	{Name: "print from dark", Width: 688, Height: 970, Print: true, Dark: true},
}

// A board member can read the page of a real plan in a browser, on a phone and on paper, and all of the plan is on it.
func TestThePageOfAPlan(t *testing.T) {
	page := browser.Start(t)
	t.Chdir(t.TempDir())
	p, gaps := planned(t)
	t.Logf("%d changes in %d stacks, %d gaps", len(p.Changes), len(p.Stacks), len(gaps))
	if len(p.Changes) < 50 || len(gaps) == 0 || len(p.Exempt) == 0 || len(p.Manuals) == 0 {
		t.Fatalf("%d changes, %d gaps, %d exempt, %d for a person: too little to look at", len(p.Changes), len(gaps), len(p.Exempt), len(p.Manuals))
	}
	o := report.Options{Now: start.Add(time.Hour), File: "plan.json", Gaps: gaps, Limits: report.Unlimited()}
	address := write(t, "plan.html", p, o)
	page.Open(t, address, views[0])
	whole(t, page, p)
	for _, v := range views {
		t.Run(v.Name, func(t *testing.T) {
			page.Show(t, v)
			legible(t, page, v)
		})
	}
	t.Run("paper", func(t *testing.T) {
		page.Show(t, browser.View{Name: "screen", Width: 1200, Height: 900, Dark: true})
		for name, paper := range map[string]chromedp.PaperSize{"a4": chromedp.PaperA4, "letter": chromedp.PaperLetter} {
			pdf, sheets := page.Sheets(t, paper)
			t.Logf("%s: %d sheets", name, sheets)
			if sheets < 5 || sheets > 10+len(p.Changes)/3 {
				t.Errorf("%s: %d sheets for %d changes", name, sheets, len(p.Changes))
			}
			browser.Keep(t, name+".pdf", pdf)
		}
	})
	t.Run("preview", func(t *testing.T) {
		preview := *p
		preview.Digest = ""
		page.Open(t, write(t, "preview.html", &preview, o), views[2])
		legible(t, page, views[2])
	})
	t.Run("names as long as they may be", func(t *testing.T) {
		for _, v := range []browser.View{views[0], views[2], views[5]} {
			page.Open(t, write(t, "names.html", longNames(p), o), v)
			legible(t, page, v)
		}
	})
	t.Run("nothing to change", func(t *testing.T) {
		empty := &plan.Plan{Digest: p.Digest, Header: plan.Header{Created: start, Taken: start, Tool: "1.4.0"}}
		page.Open(t, write(t, "empty.html", empty, report.Options{Now: start, File: "plan.json"}), views[2])
		legible(t, page, views[2])
	})
	if said := page.Said(); len(said) > 0 {
		t.Errorf("the browser says: %q", said)
	}
	for _, asked := range page.Fetched() {
		if !strings.HasPrefix(asked, address[:strings.LastIndex(address, "/")]) {
			t.Errorf("the page asks for %s", asked)
		}
	}
	if !slices.Contains(page.Fetched(), address) {
		t.Error("the page's own request was not seen")
	}
}

// longNames is a plan in which everything that people name has a name of 255 letters without a place to break it at, as AWS
// allows.
func longNames(p *plan.Plan) *plan.Plan {
	name := strings.Repeat("x", 255)
	out := *p
	out.Stacks, out.Changes, out.Manuals, out.Exempt = slices.Clone(p.Stacks), slices.Clone(p.Changes), slices.Clone(p.Manuals), slices.Clone(p.Exempt)
	for i := range out.Stacks {
		out.Stacks[i].Name = name
	}
	for i := range out.Changes {
		out.Changes[i].Name = name
	}
	for i := range out.Manuals {
		out.Manuals[i].Name = name
	}
	for i := range out.Exempt {
		out.Exempt[i].Name, out.Exempt[i].Owner, out.Exempt[i].Reason = name, name, name
	}
	return &out
}

// whole checks that all of a plan stands on the page, as text that a person sees.
func whole(t *testing.T, page *browser.Page, p *plan.Plan) {
	t.Helper()
	text := browser.Eval[string](t, page, "document.body.innerText")
	for i := range p.Changes {
		c := &p.Changes[i]
		words := append([]string{c.ID, c.Name, c.Override}, c.Inverse...)
		if c.Ref.Kind != plan.KindFollowUp { // the page says those by what they are and which resource they follow
			words = append(words, c.Ref.ID, c.Why)
		}
		for _, w := range words {
			if !strings.Contains(text, strings.TrimSpace(w)) {
				t.Errorf("change %s of %s: the page does not say %q", c.ID, c.Ref.ID, w)
			}
		}
	}
	for i := range p.Stacks {
		if s := &p.Stacks[i]; !strings.Contains(text, s.ID) || !strings.Contains(text, string(s.Place.Account)) {
			t.Errorf("stack %s of %s is not on the page", s.ID, s.Place)
		}
	}
	for i := range p.Exempt {
		if !strings.Contains(text, p.Exempt[i].Ref.ID) {
			t.Errorf("the exception for %s is not on the page", p.Exempt[i].Ref)
		}
	}
	for i := range p.Manuals {
		if !strings.Contains(text, p.Manuals[i].Ref.ID) {
			t.Errorf("%s, for a person to do, is not on the page", p.Manuals[i].Ref)
		}
	}
	headings := browser.Eval[[]string](t, page, `[...document.querySelectorAll("h1, h2")].map(h => h.innerText)`)
	for _, want := range []string{
		"Plan: from IMDSv1 to IMDSv2", "Who may approve, and how", "What it rests on", "What changes", "Waves", "Duration, calls and cost",
		"Disruption", "Overrides", "Where", "Every change", "For a person to do", "Exceptions", "Gaps, and what is not covered", "Decision",
	} {
		if !slices.Contains(headings, want) {
			t.Errorf("the page has no heading %q, but %q", want, headings)
		}
	}
	if rows := browser.Eval[int](t, page, `document.querySelectorAll("table tbody tr").length`); rows < len(p.Changes) {
		t.Errorf("the tables have %d rows for %d changes", rows, len(p.Changes))
	}
}

// legible checks that nothing reaches over the edge, that no rule of accessibility is broken, and that paper stays white.
func legible(t *testing.T, page *browser.Page, v browser.View) {
	t.Helper()
	for _, over := range page.Wider(t) {
		t.Errorf("reaches over the edge: %s", over)
	}
	for _, narrow := range page.Crushed(t) {
		t.Errorf("cannot be read: %s", narrow)
	}
	if !v.Mobile || !v.Dark { // the colours of a dark screen are looked at where it is wide
		for _, b := range page.Barriers(t, "section:nth-of-type(n+12)") { // a dozen stacks show all that stacks have
			t.Errorf("%s (%s): %s: %.300q", b.Rule, b.Impact, b.Help, b.Where)
		}
	}
	ground := browser.Eval[string](t, page, "getComputedStyle(document.body).backgroundColor")
	if white := ground == "rgb(255, 255, 255)"; white != (!v.Dark || v.Print) {
		t.Errorf("the page's ground is %s", ground)
	}
	if kept := flag.Lookup("test.artifacts"); kept == nil || kept.Value.String() != "true" {
		return
	}
	for _, part := range page.Pictures(t, 7) {
		browser.Keep(t, fmt.Sprintf("%s-%06.0f.png", v.Name, part.Top), part.PNG)
	}
}
