package plan_test

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/imdsctl/imdsctl/internal/assess"
	"github.com/imdsctl/imdsctl/internal/evidence"
	"github.com/imdsctl/imdsctl/internal/fleet"
	"github.com/imdsctl/imdsctl/internal/inventory"
	"github.com/imdsctl/imdsctl/internal/plan"
	"github.com/imdsctl/imdsctl/internal/policy"
)

var (
	now   = time.Date(2026, 11, 20, 12, 30, 0, 0, time.UTC)
	place = fleet.Place{Partition: "aws", Account: "111122223333", Region: "eu-west-1"}
	span  = evidence.NewSpan(now, 24*time.Hour, time.Hour)
)

func ref(kind, id string) fleet.Ref { return fleet.Ref{Place: place, Kind: kind, ID: id} }

// scene is a place whose instances are all quiet, covered and booted: ready.
type scene struct {
	resources []inventory.Resource
	evidence  map[fleet.Ref][]*evidence.Window
	needs     []plan.Need
	config    string
	disrupts  map[string]string // what actions do to what runs; others disturb nothing
}

func newScene() *scene { return &scene{evidence: map[fleet.Ref][]*evidence.Window{}} }

func (s *scene) instance(id, group string, tags map[string]string) fleet.Ref {
	r := inventory.Resource{Ref: ref(inventory.KindInstance, id), Name: id, Status: inventory.StatusRunning, Launched: span.Start, Tags: tags,
		State: fleet.Options{Tokens: "optional", Endpoint: "enabled", HopLimit: 1}.State()}
	if group != "" {
		r.Links = []inventory.Link{{Relation: inventory.MemberOf, To: ref(inventory.KindAutoScaling, group)}}
	}
	w := evidence.NewWindow(r.Ref, evidence.SourceCloudWatch, evidence.MetricNoToken, span)
	for i := range span.Slots {
		if err := w.Add(span.Start.Add(time.Duration(i)*time.Hour), 0); err != nil {
			panic(err)
		}
	}
	s.resources = append(s.resources, r)
	s.evidence[r.Ref] = []*evidence.Window{w}
	return r.Ref
}

func (s *scene) group(name, template, selector string) fleet.Ref {
	r := inventory.Resource{Ref: ref(inventory.KindAutoScaling, name), Name: name, State: fleet.State{"LaunchTemplate.Version": selector},
		Links: []inventory.Link{{Relation: inventory.LaunchesFrom, To: ref(inventory.KindLaunchTemplate, template), Selector: selector, Field: "LaunchTemplate.Version"}}}
	s.resources = append(s.resources, r)
	return r.Ref
}

func (s *scene) template(id string) fleet.Ref {
	r := inventory.Resource{Ref: ref(inventory.KindLaunchTemplate, id), Name: id, State: fleet.State{"DefaultVersion": "3", "LatestVersion": "5"},
		Launch: map[string]fleet.Options{"3": {Tokens: "optional"}, "5": {Tokens: "optional"}}}
	s.resources = append(s.resources, r)
	return r.Ref
}

func (s *scene) tokens(r fleet.Ref) {
	s.needs = append(s.needs, plan.Need{Ref: r, Action: "set-options", Class: plan.ClassSet, Stage: plan.StageFleet, Variant: "tokens",
		Patch: fleet.State{fleet.FieldTokens: "required"}})
}

func (s *scene) build(t interface{ Fatal(...any) }) (*plan.Plan, error) {
	b, err := s.builder(t)
	if err != nil {
		return nil, err
	}
	return b.Finish(), nil
}

// builder has taken in the scene's place.
func (s *scene) builder(t interface{ Fatal(...any) }) (*plan.Builder, error) {
	config, diags := policy.Parse([]byte("version: 1\nevidence: {window: 1d}\n"+s.config), "imdsctl.yaml", nil)
	if len(diags) > 0 {
		t.Fatal(diags)
	}
	b := plan.NewBuilder(config, plan.Header{Created: now, Tool: "test", Taken: now}, func(c *plan.Change) error {
		c.Undo, c.Disruption, c.Calls = "full", cmp.Or(s.disrupts[c.Action], "none"), map[string]int{"ec2:Test": 3}
		return nil
	})
	b.ByHand = func(c *plan.Change) []string { return []string{"aws " + c.Action + " " + c.Ref.ID} }
	report := assess.Place(assess.Input{Manners: manners(), Snapshot: &inventory.Snapshot{Place: place, Resources: s.resources}, Evidence: s.evidence, Span: span, Policy: config, Now: now})
	if err := b.Add(plan.Proposal{Account: policy.AccountFacts{ID: place.Account}, Report: report, Needs: s.needs}); err != nil {
		return nil, err
	}
	return b, nil
}

func (s *scene) must(t *testing.T) *plan.Plan {
	t.Helper()
	p, err := s.build(t)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestCanaryThenTheRest(t *testing.T) {
	s := newScene()
	s.group("web", "lt-1", "3")
	for i := range 4 {
		s.tokens(s.instance(fmt.Sprintf("i-%d", i), "web", nil))
	}
	p := s.must(t)
	if len(p.Stacks) != 1 || p.Stacks[0].Name != "web" {
		t.Fatalf("stacks %+v", p.Stacks)
	}
	steps := p.Stacks[0].Steps
	if len(steps) != 2 || steps[0].Name != "canary" || steps[0].Changes != 1 || steps[1].Changes != 3 {
		t.Errorf("steps %+v", steps)
	}
	if c := p.Changes[0]; !c.Canary || c.Ref.ID != "i-0" || c.Before["HttpTokens"] != "optional" || c.After["HttpTokens"] != "required" || c.After["HttpPutResponseHopLimit"] != "1" {
		t.Errorf("canary %+v", c)
	}
	if p.Header.Summary.Calls["ec2:Test"] != 12 || p.Header.Summary.Verdicts["ready"] != 4 {
		t.Errorf("summary %+v", p.Header.Summary)
	}
	if e := p.Changes[0].Evidence; e.Periods != 24 || e.Covered != 24 || e.Verdict != "ready" || e.Lineage != "web" {
		t.Errorf("evidence %+v", e)
	}
}

func TestEqualNeedsAreOneChange(t *testing.T) {
	s := newScene()
	i := s.instance("i-1", "", nil)
	s.tokens(i)
	s.tokens(i)
	if p := s.must(t); len(p.Changes) != 1 {
		t.Errorf("%d changes", len(p.Changes))
	}
	s.needs[1].Patch = fleet.State{fleet.FieldTokens: "optional"}
	if _, err := s.build(t); err == nil || !strings.Contains(err.Error(), "disagree") {
		t.Errorf("two that disagree: %v", err)
	}
}

// A chain on one resource: each change starts from what the one before will leave, outputs included.
func TestChangesOfOneResourceFollowEachOther(t *testing.T) {
	s := newScene()
	lt := s.template("lt-1")
	a, b := s.group("a", "lt-1", "$Default"), s.group("b", "lt-1", "$Latest")
	s.instance("i-1", "a", nil)
	s.instance("i-2", "b", nil)
	create := plan.Need{Ref: lt, Action: "create-version", Class: plan.ClassCreate, Stage: plan.StageLaunch, Variant: "copy-of-3", For: []fleet.Ref{a, b}, Outputs: []string{"Version"}}
	create.Patch = fleet.State{"LatestVersion": plan.OutputOf(create.Key(), "Version")}
	pin := plan.Need{Ref: b, Action: "set-launch-version", Class: plan.ClassSet, Stage: plan.StageLaunch, Variant: "pin", Patch: fleet.State{"LaunchTemplate.Version": "5"}, For: []fleet.Ref{b}}
	create.After = []plan.Key{pin.Key()}
	move := plan.Need{Ref: lt, Action: "set-default", Class: plan.ClassSet, Stage: plan.StageLaunch, Patch: fleet.State{"DefaultVersion": plan.OutputOf(create.Key(), "Version")},
		After: []plan.Key{create.Key()}, For: []fleet.Ref{a}}
	s.needs = []plan.Need{move, create, pin}
	p := s.must(t)
	if len(p.Stacks) != 1 || len(p.Changes) != 4 || p.Stacks[0].Name != "a, b" {
		t.Fatalf("stacks %+v changes %d", p.Stacks, len(p.Changes))
	}
	var actions []string
	for _, c := range p.Changes {
		actions = append(actions, c.Action)
	}
	if want := []string{"set-launch-version", "create-version", "set-default", plan.ActionLaunched}; !slices.Equal(actions, want) {
		t.Errorf("order %v, want %v", actions, want)
	}
	made, moved := p.Changes[1], p.Changes[2]
	if moved.Before["LatestVersion"] != made.After["LatestVersion"] || moved.Before["DefaultVersion"] != "3" {
		t.Errorf("set-default starts from %v after %v", moved.Before, made.After)
	}
	got, err := plan.Resolve(moved.After, plan.Outputs{made.ID: {"Version": "6"}})
	if err != nil || got["DefaultVersion"] != "6" || got["LatestVersion"] != "6" {
		t.Errorf("resolved %v, %v", got, err)
	}
	if _, err := plan.Resolve(moved.After, nil); err == nil {
		t.Error("an output that is not known was resolved")
	}
}

func TestNothingIsPlannedForWhoIsNotReady(t *testing.T) {
	s := newScene()
	i := s.instance("i-1", "", nil)
	delete(s.evidence, i)
	s.tokens(i)
	if _, err := s.build(t); err == nil || !strings.Contains(err.Error(), "not ready") {
		t.Errorf("an unknown instance was planned: %v", err)
	}
	s = newScene()
	lt, g := s.template("lt-1"), s.group("web", "lt-1", "$Default")
	s.needs = []plan.Need{{Ref: lt, Action: "set-default", Class: plan.ClassSet, Stage: plan.StageLaunch, Patch: fleet.State{"DefaultVersion": "5"}, For: []fleet.Ref{g}}}
	if _, err := s.build(t); err == nil || !strings.Contains(err.Error(), "not ready") {
		t.Errorf("a template of an unknown group was planned: %v", err)
	}
}

func TestExemptIsNeverWrittenNorWhatNeedsIt(t *testing.T) {
	s := newScene()
	s.config = "exceptions: [{match: {name: b}, owner: team, reason: vendor, expires: 2027-01-31}]\n"
	lt := s.template("lt-1")
	a, b := s.group("a", "lt-1", "$Default"), s.group("b", "lt-1", "$Latest")
	s.instance("i-1", "a", nil)
	pin := plan.Need{Ref: b, Action: "set-launch-version", Class: plan.ClassSet, Stage: plan.StageLaunch, Patch: fleet.State{"LaunchTemplate.Version": "5"}}
	move := plan.Need{Ref: lt, Action: "set-default", Class: plan.ClassSet, Stage: plan.StageLaunch, Patch: fleet.State{"DefaultVersion": "5"}, After: []plan.Key{pin.Key()}, For: []fleet.Ref{a}}
	s.needs = []plan.Need{move, pin}
	p := s.must(t)
	if len(p.Changes) != 0 || len(p.Manuals) != 2 || len(p.Exempt) != 1 {
		t.Errorf("changes %v, manuals %v, exempt %v", p.Changes, p.Manuals, p.Exempt)
	}
}

func TestStacksOfBareInstances(t *testing.T) {
	s := newScene()
	s.config = "stack: {tag: app}\nown_hosts: [i-0123456789abcdef0]\n"
	s.tokens(s.instance("i-1", "", map[string]string{"aws:cloudformation:stack-name": "shop"}))
	s.tokens(s.instance("i-2", "", map[string]string{"aws:cloudformation:stack-name": "shop"}))
	s.tokens(s.instance("i-3", "", map[string]string{"app": "crm"}))
	s.tokens(s.instance("i-4", "", nil))
	s.tokens(s.instance("i-0123456789abcdef0", "", nil))
	s.resources = append(s.resources, inventory.Resource{Ref: ref(inventory.KindAccountDefaults, "d"), State: fleet.State{}})
	s.needs = append(s.needs, plan.Need{Ref: ref(inventory.KindAccountDefaults, "d"), Action: "set-defaults", Class: plan.ClassSet,
		Stage: plan.StageDefaults, Patch: fleet.State{fleet.FieldTokens: "required"}})
	p := s.must(t)
	names := map[string]plan.Stack{}
	for _, st := range p.Stacks {
		names[st.Name] = st
	}
	if len(p.Stacks) != 5 || names["shop"].Steps[1].Changes != 1 || !names["i-0123456789abcdef0"].Last || names["i-4"].Last {
		t.Errorf("stacks %+v", p.Stacks)
	}
	if d := names["account default eu-west-1"]; len(d.After) != 4 || d.Steps[0].Stage != plan.StageDefaults {
		t.Errorf("the default comes after all stacks of its region: %+v", d)
	}
}

func TestADefaultWhereNothingRunsBakesNoLongerThanAGateNeeds(t *testing.T) {
	bakes := map[bool]time.Duration{}
	for _, runs := range []bool{true, false} {
		s := newScene()
		if runs {
			s.instance("i-1", "", nil)
		}
		d := ref(inventory.KindAccountDefaults, "d")
		s.resources = append(s.resources, inventory.Resource{Ref: d, State: fleet.State{}})
		s.needs = []plan.Need{{Ref: d, Action: "set-defaults", Class: plan.ClassSet, Stage: plan.StageDefaults,
			Patch: fleet.State{fleet.FieldTokens: "required"}}}
		bakes[runs] = s.must(t).Stacks[0].Steps[0].Bake
	}
	if bakes[true] != 2*time.Hour+5*time.Minute || // the metric comes five minutes late
		bakes[false] != 15*time.Minute {
		t.Errorf("bakes %v", bakes)
	}
}

func TestFileRoundTripAndEdits(t *testing.T) {
	s := newScene()
	s.group("web", "lt-1", "3")
	for i := range 3 {
		s.tokens(s.instance(fmt.Sprintf("i-%d", i), "web", nil))
	}
	p := s.must(t)
	var file bytes.Buffer
	if err := plan.Write(&file, p); err != nil {
		t.Fatal(err)
	}
	got, err := plan.Read(bytes.NewReader(file.Bytes()), "plan.json")
	if err != nil {
		t.Fatal(err)
	}
	var again bytes.Buffer
	if err := plan.Write(&again, got); err != nil || !bytes.Equal(again.Bytes(), file.Bytes()) {
		t.Errorf("written again it differs: %v", err)
	}

	lines := strings.SplitAfter(file.String(), "\n")
	for name, tc := range map[string]struct{ file, want string }{
		"a value edited":     {strings.Replace(file.String(), `"required"`, `"optional"`, 1), "its digest says"},
		"a change removed":   {strings.Join(slices.Delete(slices.Clone(lines), 3, 4), ""), "its digest says"},
		"cut off":            {strings.Join(lines[:3], ""), "no digest"},
		"text after the end": {file.String() + "{}\n", "after the plan's digest"},
		"an unknown field":   {strings.Replace(file.String(), `"stack":`, `"stuck":`, 1), "unknown field"},
		"another format":     {strings.Replace(file.String(), `"imdsctl_plan":1`, `"imdsctl_plan":9`, 1), "format 9"},
		"something else":     {"hello\n", "not an imdsctl plan"},
		"empty":              {"", "no digest"},
	} {
		_, err := plan.Read(strings.NewReader(tc.file), "plan.json")
		if err == nil || !strings.Contains(err.Error(), tc.want) || !strings.Contains(err.Error(), "plan.json") {
			t.Errorf("%s: %v, want %q", name, err, tc.want)
		}
		if edited := strings.Contains(tc.want, "digest says"); edited != errors.Is(err, plan.ErrEdited) {
			t.Errorf("%s: ErrEdited = %v", name, !edited)
		}
	}
}

// Whatever the needs, a plan is the same in whatever order they are proposed, and its graph holds together.
func TestPlanDoesNotDependOnOrder(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := newScene()
		s.group("web", "lt-1", "3")
		n := rapid.IntRange(1, 12).Draw(t, "instances")
		for i := range n {
			group := rapid.SampledFrom([]string{"web", ""}).Draw(t, "group")
			tags := map[string]string{}
			if rapid.Bool().Draw(t, "stack") {
				tags["aws:cloudformation:stack-name"] = rapid.SampledFrom([]string{"x", "y"}).Draw(t, "name")
			}
			s.tokens(s.instance(fmt.Sprintf("i-%02d", i), group, tags))
		}
		first, err := s.build(t)
		if err != nil {
			t.Fatal(err)
		}
		s.needs = rapid.Permutation(s.needs).Draw(t, "order")
		second, err := s.build(t)
		if err != nil {
			t.Fatal(err)
		}
		var a, b bytes.Buffer
		if plan.Write(&a, first) != nil || plan.Write(&b, second) != nil {
			t.Fatal("cannot write")
		}
		if first.Digest != second.Digest {
			t.Fatalf("digests differ:\n%s\n%s", a.String(), b.String())
		}
		if _, err := plan.Read(&a, "plan"); err != nil {
			t.Fatal(err)
		}
	})
}

func FuzzRead(f *testing.F) {
	f.Add("{\"imdsctl_plan\":1}\n{\"digest\":\"00\"}\n")
	f.Add("{\"imdsctl_plan\":1,\"waves\":[]}\n{\"stack\":{\"id\":\"s\"}}\n")
	f.Fuzz(func(t *testing.T, s string) {
		p, err := plan.Read(strings.NewReader(s), "plan.json")
		if (p == nil) == (err == nil) {
			t.Fatalf("plan %v, error %v", p, err)
		}
	})
}

// manners are those of the kinds that the tests have.
func manners() map[string]assess.Manner {
	return map[string]assess.Manner{
		inventory.KindInstance:        {Role: assess.RoleHost, Metric: true},
		inventory.KindAutoScaling:     {Role: assess.RoleLauncher, Metric: true},
		inventory.KindLaunchTemplate:  {Role: assess.RoleSource, Metric: true},
		inventory.KindAccountDefaults: {Role: assess.RoleDefault, Metric: true},
	}
}
