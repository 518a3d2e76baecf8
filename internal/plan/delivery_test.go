package plan_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/imdsctl/imdsctl/internal/assess"
	"github.com/imdsctl/imdsctl/internal/fleet"
	"github.com/imdsctl/imdsctl/internal/inventory"
	"github.com/imdsctl/imdsctl/internal/plan"
	"github.com/imdsctl/imdsctl/internal/policy"
)

// stop makes an instance of the scene one that does not run.
func (s *scene) stop(r fleet.Ref) {
	i := slices.IndexFunc(s.resources, func(x inventory.Resource) bool { return x.Ref == r })
	s.resources[i].Status = inventory.StatusStopped
}

func (s *scene) hopLimit(r fleet.Ref) {
	s.needs = append(s.needs, plan.Need{Ref: r, Action: "set-options", Class: plan.ClassSet, Stage: plan.StageHopLimit, Variant: "hop-limit",
		Patch: fleet.State{fleet.FieldHopLimit: "2"}})
}

// describeSteps is what the steps of a stack are, in short: "canary 1 (1)".
func describeSteps(st plan.Stack) string {
	var out []string
	for _, s := range st.Steps {
		out = append(out, fmt.Sprintf("%s %d (%s)", s.Name, s.Changes, s.Share))
	}
	return strings.Join(out, ", ")
}

func TestStepsByShares(t *testing.T) {
	for _, test := range []struct {
		name, config     string
		running, stopped int
		hops             bool
		want             string
	}{
		{"by default", "", 10, 0, false, "canary 1 (1), fleet 9 (100%)"},
		{"one instance needs no canary", "", 1, 0, false, "fleet 1 (100%)"},
		{"growing", "rollout: {steps: [1, 10%, 50%, 100%]}", 40, 0, false, "canary 1 (1), fleet 10% 3 (10%), fleet 50% 16 (50%), fleet 20 (100%)"},
		{"rounded up, empty steps fall away", "rollout: {steps: [1, 10%, 50%, 100%]}", 3, 0, false, "canary 1 (1), fleet 50% 1 (50%), fleet 1 (100%)"},
		{"numbers past the end", "rollout: {steps: [1, 5, 50, 100%]}", 7, 0, false, "canary 1 (1), fleet 5 4 (5), fleet 2 (100%)"},
		{"all at once", "rollout: {steps: [100%]}", 7, 0, false, "fleet 7 (100%)"},
		{"the stopped show nothing", "rollout: {steps: [1, 10%, 50%, 100%]}", 2, 18, false, "canary 1 (1), fleet 10% 1 (10%), fleet 18 (100%)"},
		{"nothing runs", "", 0, 5, false, "fleet 5 (100%)"},
		{"hop limits have a canary of their own", "", 4, 0, true, "hop-limit canary 1 (1), hop-limit 3 (100%), canary 1 (1), fleet 3 (100%)"},
		{"a stage of its own", "rollout: {stages: {hop_limit: {steps: [100%]}}}", 4, 0, true, "hop-limit 4 (100%), canary 1 (1), fleet 3 (100%)"},
		{"an override", "rollout: {overrides: [{match: {tag: {app: web}}, steps: [2, 100%]}]}", 4, 0, false, "canary 2 (2), fleet 2 (100%)"},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := newScene()
			s.config = test.config
			s.group("web", "lt-1", "3")
			for i := range test.running + test.stopped {
				r := s.instance(fmt.Sprintf("i-%02d", i), "web", map[string]string{"app": "web"})
				if i < test.stopped { // those with the lowest ids, so that their place is not by chance
					s.stop(r)
				}
				s.tokens(r)
				if test.hops {
					s.hopLimit(r)
				}
			}
			p := s.must(t)
			if have := describeSteps(p.Stacks[0]); have != test.want {
				t.Errorf("have %s\nwant %s", have, test.want)
			}
			if first := p.Changes[0]; test.running > 1 && strings.Contains(p.Stacks[0].Steps[0].Name, "canary") != first.Canary ||
				test.running > 0 && first.Ref.ID != fmt.Sprintf("i-%02d", test.stopped) && p.Stacks[0].Steps[0].Changes < test.running {
				t.Errorf("first %+v", first)
			}
		})
	}
}

// A launch stage that is cut keeps the changes of one resource, and what they need, together.
func TestCutsKeepWhatBelongsTogether(t *testing.T) {
	s := newScene()
	s.config = "rollout: {stages: {launch: {steps: [1, 100%]}}}"
	lt, g := s.template("lt-1"), s.group("a", "lt-1", "$Default")
	s.instance("i-1", "a", nil)
	create := plan.Need{Ref: lt, Action: "create-version", Class: plan.ClassCreate, Stage: plan.StageLaunch, For: []fleet.Ref{g}, Outputs: []string{"Version"}}
	create.Patch = fleet.State{"LatestVersion": plan.OutputOf(create.Key(), "Version")}
	set := plan.Need{Ref: lt, Action: "set-default", Class: plan.ClassSet, Stage: plan.StageLaunch, After: []plan.Key{create.Key()},
		Patch: fleet.State{"DefaultVersion": plan.OutputOf(create.Key(), "Version")}, For: []fleet.Ref{g}}
	pin := plan.Need{Ref: g, Action: "set-launch-version", Class: plan.ClassSet, Stage: plan.StageLaunch, After: []plan.Key{set.Key()},
		Patch: fleet.State{"LaunchTemplate.Version": plan.OutputOf(create.Key(), "Version")}, For: []fleet.Ref{g}}
	s.needs = []plan.Need{pin, set, create}
	p := s.must(t)
	// The group sorts first, but needs both changes of the template; its proof of launch follows it.
	if have := describeSteps(p.Stacks[0]); have != "launch canary 2 (1), launch 2 (100%)" || p.Changes[2].Ref != g {
		t.Errorf("%s, last %s", have, p.Changes[2].Ref)
	}
}

func TestRulesAreThoseOfTheConfiguration(t *testing.T) {
	s := newScene()
	s.config = `
rollout: {max_in_flight: 7, max_in_flight_per_account: 3, concurrency: 5, concurrency_per_account: 2, on_failure: continue,
  max_failures: {stack: 1, wave: 2, account: 3, total: 4}}
gates:
  delay: 2m
  target_health: false
  patience: 45m
  alarms: [{name: errors, match: {tag: {app: web}}, alarms: [a, b]}, {name: other, match: {tag: {app: crm}}, alarms: [c]}]
  commands: [{name: smoke, run: [check, -v, -v]}]
  webhooks: [{name: board, match: {criticality: critical}, url: "https://example.com/", secret_env: KEY, timeout: 5s}]
`
	s.tokens(s.instance("i-1", "", map[string]string{"app": "web"}))
	p := s.must(t)
	have, want := p.Header.Rules, plan.Rules{MaxInFlight: 7, MaxInFlightAccount: 3, MaxStacks: 5, MaxStacksAccount: 2, MaxFailures: 1,
		MaxFailedStacks: 2, AccountFailures: 3, TotalFailures: 4, StatusChecks: true, Heartbeat: true, MetricDelay: 2 * time.Minute,
		GateInterval: 2 * time.Minute, GatePatience: 45 * time.Minute, GroupHealth: true, Gates: []plan.Gate{
			{Type: plan.GateAlarm, Name: "errors", Alarms: []string{"a", "b"}}, {Type: plan.GateAlarm, Name: "other", Alarms: []string{"c"}},
			{Type: plan.GateCommand, Name: "smoke", Run: []string{"check", "-v", "-v"}, Timeout: time.Minute},
			{Type: plan.GateWebhook, Name: "board", URL: "https://example.com/", SecretEnv: "KEY", Timeout: 5 * time.Second},
		}}
	if fmt.Sprintf("%+v", have) != fmt.Sprintf("%+v", want) {
		t.Errorf("have %+v\nwant %+v", have, want)
	}
	if g := p.Stacks[0].Gates; !slices.Equal(g, []int{0, 2}) {
		t.Errorf("the stack's gates are %v", g)
	}
}

func TestFollowUps(t *testing.T) {
	s := newScene()
	s.config = `
follow_ups:
  - {name: restart, match: {tag: {app: web}}, ssm: {document: AWS-RunShellScript, parameters: {commands: [systemctl restart web]}}}
  - {name: drain, match: {resource: i-2}, command: [drain, -x, -x], timeout: 90s}
  - {name: tell, match: {resource: i-2}, manual: call the vendor}
  - {name: templates, match: {tag: {app: web}}, kinds: [launch-template], manual: never}
`
	s.group("web", "lt-1", "3")
	for i := range 3 {
		r := s.instance(fmt.Sprintf("i-%d", i), "web", map[string]string{"app": "web"})
		s.tokens(r)
		s.hopLimit(r)
		if i == 0 {
			s.stop(r)
		}
	}
	p := s.must(t)
	if have := describeSteps(p.Stacks[0]); have != "hop-limit canary 1 (1), hop-limit 2 (100%), canary 2 (1), fleet 5 (100%)" {
		t.Error(have)
	}
	sum := p.Header.Summary
	if sum.Changes != 6 || sum.FollowUps != 4 || sum.Calls["ssm:SendCommand"] != 2 || sum.Calls["ssm:ListCommands"] != 4 {
		t.Errorf("summary %+v", sum)
	}
	byID := map[string]plan.Change{}
	have := map[string]plan.Change{}
	for _, c := range p.Changes {
		byID[c.ID] = c
		if c.Ref.Kind == plan.KindFollowUp {
			have[c.Ref.ID] = c
			after := byID[c.Needs[0]] // it stands before
			if len(c.Needs) != 1 || after.Ref.ID != c.Params[plan.ParamInstance] || after.After[fleet.FieldTokens] != "required" ||
				after.Step != c.Step || after.Stack != c.Stack || c.Undo != "none" || c.After[plan.FieldStatus] != plan.StatusDone || len(c.Before) > 0 {
				t.Errorf("%+v follows %+v", c, after)
			}
		}
	}
	at := fmt.Sprint(now.Unix())
	if ids := slices.Sorted(maps.Keys(have)); !slices.Equal(ids, []string{"i-1/restart/" + at, "i-2/drain/" + at, "i-2/restart/" + at, "i-2/tell/" + at}) {
		t.Errorf("follow-ups %v", ids)
	}
	for id, want := range map[string]string{
		"i-1/restart/": `ssm start {"document":"AWS-RunShellScript","instance":"i-1","name":"restart","parameters":"{\"commands\":[\"systemctl restart web\"]}","timeout":"10m0s"}`,
		"i-2/drain/":   `command start {"command":"[\"drain\",\"-x\",\"-x\"]","instance":"i-2","name":"drain","timeout":"1m30s"}`,
		"i-2/tell/":    `manual manual {"instance":"i-2","name":"tell","text":"call the vendor"}`,
	} {
		c := have[id+at]
		params, err := json.Marshal(c.Params)
		if got := fmt.Sprintf("%s %s %s", c.Action, c.Class, params); err != nil || got != want {
			t.Errorf("%s: %s", id, got)
		}
	}
	var file bytes.Buffer
	if err := plan.Write(&file, p); err != nil {
		t.Fatal(err)
	}
	if _, err := plan.Read(&file, "plan.json"); err != nil {
		t.Error(err)
	}
}

// places builds a plan over several accounts, each with its own name in the configuration.
func places(t interface{ Fatal(...any) }, text string, made map[fleet.AccountID]*scene) (*plan.Builder, error) {
	config, diags := policy.Parse([]byte("evidence: {window: 1d}\norganization: {discover: organizations}\n"+text), "imdsctl.yaml", nil)
	if len(diags) > 0 {
		t.Fatal(diags)
	}
	b := plan.NewBuilder(config, plan.Header{Created: now, Tool: "test", Taken: now}, func(c *plan.Change) error { c.Undo = "full"; return nil })
	for id, s := range made { // in any order: the plan must not depend on it
		at := place
		at.Account = id
		move := func(r fleet.Ref) fleet.Ref { r.Place = at; return r }
		in := assess.Input{Manners: manners(), Snapshot: &inventory.Snapshot{Place: at, Resources: slices.Clone(s.resources)}, Span: span, Policy: config, Now: now}
		in.Evidence = maps.Clone(s.evidence)
		clear(in.Evidence)
		for i := range in.Snapshot.Resources {
			r := &in.Snapshot.Resources[i]
			if windows, ok := s.evidence[r.Ref]; ok {
				in.Evidence[move(r.Ref)] = windows
			}
			r.Ref = move(r.Ref)
		}
		needs := slices.Clone(s.needs)
		for i := range needs {
			needs[i].Ref = move(needs[i].Ref)
		}
		if err := b.Add(plan.Proposal{Account: policy.AccountFacts{ID: id}, Report: assess.Place(in), Needs: needs}); err != nil {
			return nil, err
		}
	}
	return b, nil
}

// bare is a scene with instances that belong to nothing, so that each is a stack, and the account's default.
func bare(n int, defaults bool) *scene {
	s := newScene()
	for i := range n {
		s.tokens(s.instance(fmt.Sprintf("i-0000000%d", i), "", nil))
	}
	if d := ref(inventory.KindAccountDefaults, "d"); defaults {
		s.resources = append(s.resources, inventory.Resource{Ref: d, State: fleet.State{}})
		s.needs = append(s.needs, plan.Need{Ref: d, Action: "set-defaults", Class: plan.ClassSet, Stage: plan.StageDefaults,
			Patch: fleet.State{fleet.FieldTokens: "required"}})
	}
	return s
}

func TestCalendarsAreNumberedOnce(t *testing.T) {
	b, err := places(t, `
windows:
  - {name: nights, match: {account: [222222222222, 444444444444]}, from: 22:00, to: 04:00, timezone: Europe/Berlin}
freezes:
  - {name: now, match: {account: 333333333333}, from: 2026-11-01, to: 2026-12-01}
`, map[fleet.AccountID]*scene{"111111111111": bare(1, false), "222222222222": bare(2, false), "333333333333": bare(1, false), "444444444444": bare(1, false)})
	if err != nil {
		t.Fatal(err)
	}
	p := b.Finish()
	var have []int
	for _, s := range p.Stacks {
		have = append(have, s.Calendar)
	}
	if !slices.Equal(have, []int{0, 1, 1, 2, 1}) || len(p.Header.Calendars) != 2 || p.Header.Calendars[0].Windows[0].Name != "nights" ||
		p.Header.Calendars[1].Freezes[0].Name != "now" {
		t.Errorf("%v of %+v", have, p.Header.Calendars)
	}
	_, err = places(t, `
freezes:
  - {name: one, from: 2026-11-01, to: 2027-11-30}
  - {name: two, from: 2027-12-01, to: 2028-12-31}
`, map[fleet.AccountID]*scene{"111111111111": bare(1, false)})
	if err == nil || !strings.Contains(err.Error(), `freeze "one"`) || !strings.Contains(err.Error(), "111111111111") {
		t.Errorf("a calendar that does not open: %v", err)
	}
}

func TestShortBakesAreWarnedAbout(t *testing.T) {
	for config, want := range map[string]string{
		"":                          "",
		"bake: {high: 1h, low: 1m}": "1 of the stacks in accounts of high criticality are watched for only 1h5m0s",
		"bake: {critical: 1h}":      "",
		"rollout: {overrides: [{match: {resource: i-00000000}, bake: 30m}]}": "1 of the stacks in accounts of high criticality are watched for only 35m0s",
	} {
		b, err := places(t, "accounts: [{id: 111111111111, criticality: high}]\n"+config, map[fleet.AccountID]*scene{"111111111111": bare(1, true), "222222222222": bare(1, true)})
		if err != nil {
			t.Fatal(err)
		}
		b.Finish()
		have := b.Warnings()
		if len(have) > 1 || want == "" != (len(have) == 0) || want != "" && (!strings.Contains(have[0].Summary, want) || have[0].Severity != fleet.SeverityWarning) {
			t.Errorf("%s: %v", config, have)
		}
	}
}

// Whatever the fleet and the shares, the steps of a stage divide its changes as the shares say.
func TestStepsDivideTheChanges(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := newScene()
		shares := drawShares(t)
		own := ""
		if rapid.Bool().Draw(t, "an own host") {
			own = "i-00000003"
			s.config = "own_hosts: [i-00000003]\n"
		}
		s.config += "rollout: {steps: [" + shares + "], stages: {launch: {steps: [" + shares + "]}}}\nfollow_ups: [{name: f, match: {tag: {follow: y}}, manual: x}]"
		s.group("web", "lt-1", "3")
		running := map[string]bool{}
		n := rapid.IntRange(1, 30).Draw(t, "instances")
		for i := range n {
			r := s.instance(fmt.Sprintf("i-%08d", i), "web", map[string]string{"follow": rapid.SampledFrom([]string{"y", "n"}).Draw(t, "follow")})
			if running[r.ID] = rapid.IntRange(0, 3).Draw(t, "stopped") > 0; !running[r.ID] {
				s.stop(r)
			}
			if rapid.Bool().Draw(t, "hop limit") {
				s.hopLimit(r)
			}
			s.tokens(r)
		}
		p, err := s.build(t)
		if err != nil {
			t.Fatal(err)
		}
		checkSteps(t, p, running, own, n)
		var file bytes.Buffer
		if err := plan.Write(&file, p); err != nil {
			t.Fatal(err)
		}
		if _, err := plan.Read(&file, "plan"); err != nil {
			t.Fatal(err)
		}
	})
}

func drawShares(t *rapid.T) string {
	var out []string
	for _, n := range slices.Sorted(maps.Keys(asSet(rapid.SliceOfN(rapid.IntRange(1, 12), 0, 3).Draw(t, "counts")))) {
		out = append(out, fmt.Sprint(n))
	}
	for _, n := range slices.Sorted(maps.Keys(asSet(rapid.SliceOfN(rapid.IntRange(1, 99), 0, 3).Draw(t, "percents")))) {
		out = append(out, fmt.Sprint(n, "%"))
	}
	return strings.Join(append(out, "100%"), ", ")
}

func asSet(of []int) map[int]bool {
	out := map[int]bool{}
	for _, n := range of {
		out[n] = true
	}
	return out
}

// checkSteps holds the one stack of a plan to what steps promise.
func checkSteps(t *rapid.T, p *plan.Plan, running map[string]bool, own string, n int) {
	stack := p.Stacks[0]
	made := make([]int, len(stack.Steps)) // without follow-ups
	all := make([]int, len(stack.Steps))
	shows := make([]bool, len(stack.Steps))
	step := map[string]int{}
	totals := map[plan.Stage]int{}
	for _, c := range p.Changes {
		if _, twice := step[c.ID]; twice || c.Stack != stack.ID {
			t.Fatalf("%s twice, or in another stack", c.ID)
		}
		step[c.ID] = c.Step
		all[c.Step]++
		for _, id := range c.Needs {
			if before, ok := step[id]; !ok || before > c.Step {
				t.Fatalf("%s of %s in step %d needs %s", c.ID, c.Ref, c.Step, id)
			}
		}
		if c.Ref.Kind == plan.KindFollowUp {
			if step[c.Needs[0]] != c.Step || !running[c.Params[plan.ParamInstance]] {
				t.Fatalf("%s follows in step %d", c.Ref, c.Step)
			}
			continue
		}
		made[c.Step]++
		totals[stack.Steps[c.Step].Stage]++
		shows[c.Step] = shows[c.Step] || running[c.Ref.ID]
	}
	if totals[plan.StageFleet] != n {
		t.Fatalf("%d changes of %d instances", totals[plan.StageFleet], n)
	}
	sum := map[plan.Stage]int{}
	for i, s := range stack.Steps {
		sum[s.Stage] += made[i]
		share, err := policy.ParseShare(s.Share)
		last := i == len(stack.Steps)-1 || stack.Steps[i+1].Stage != s.Stage
		switch {
		case err != nil || made[i] == 0 || all[i] != s.Changes:
			t.Fatalf("step %d of %+v makes %d", i, stack.Steps, made[i])
		case sum[s.Stage] != share.Of(totals[s.Stage]):
			t.Fatalf("step %d of %+v: %d of %d is not %s", i, stack.Steps, sum[s.Stage], totals[s.Stage], s.Share)
		case last != share.All() || last != (s.Name == string(s.Stage)):
			t.Fatalf("step %d of %+v: last is %v", i, stack.Steps, last)
		case !last && !shows[i]:
			t.Fatalf("step %d of %+v shows nothing", i, stack.Steps)
		}
	}
	for _, c := range p.Changes {
		later := func(o plan.Change) bool {
			return o.Ref.Kind == inventory.KindInstance && stack.Steps[o.Step].Stage == stack.Steps[c.Step].Stage && o.Step > c.Step
		}
		for _, o := range p.Changes {
			if c.Ref.Kind == inventory.KindInstance && later(o) && (c.Ref.ID == own || running[o.Ref.ID] && o.Ref.ID != own && !running[c.Ref.ID]) {
				t.Fatalf("%s in step %d goes before %s in step %d", c.Ref, c.Step, o.Ref, o.Step)
			}
		}
	}
}

// Whatever the accounts and the ramp, rings divide a wave as the shares say, and nobody waits for what waits for him.
func TestRingsDivideAWave(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		shares := drawShares(t)
		text := "rollout: {ramp: [" + shares + "]}\nwaves:\n  - {name: a, criticality: [low, medium]}\n  - {name: b, criticality: [high, critical]}\n"
		if rapid.Bool().Draw(t, "own host") {
			text += "own_hosts: [i-00000001]\n" // in every account that has two
		}
		text += "accounts:\n"
		made := map[fleet.AccountID]*scene{}
		for i := range rapid.IntRange(1, 5).Draw(t, "accounts") {
			id := fleet.AccountID(fmt.Sprintf("00000000000%d", i))
			made[id] = bare(rapid.IntRange(1, 4).Draw(t, "instances"), rapid.Bool().Draw(t, "defaults"))
			text += fmt.Sprintf("  - {id: %q, criticality: %s}\n", id, rapid.SampledFrom(policy.Criticalities()).Draw(t, "criticality"))
		}
		b, err := places(t, text, made)
		if err != nil {
			t.Fatal(err)
		}
		p := b.Finish()
		again, err := places(t, text, made)
		if err != nil {
			t.Fatal(err)
		}
		var x, y bytes.Buffer
		if plan.Write(&x, p) != nil || plan.Write(&y, again.Finish()) != nil || x.String() != y.String() {
			t.Fatalf("two plans of the same:\n%s\n%s", x.String(), y.String())
		}
		checkRings(t, p, shares)
		checkOrderOfStacks(t, p)
	})
}

func checkRings(t *rapid.T, p *plan.Plan, shares string) {
	byWave := map[int][]plan.Stack{}
	for _, s := range p.Stacks {
		byWave[s.Wave] = append(byWave[s.Wave], s)
		if !slices.Contains(p.Header.Waves[s.Wave].Accounts, s.Place.Account) {
			t.Fatalf("wave %+v does not list the account of %s", p.Header.Waves[s.Wave], s.Place)
		}
	}
	for wave, stacks := range byWave {
		var want []int // how many have started by the end of each ring
		for text := range strings.SplitSeq(shares, ", ") {
			share, err := policy.ParseShare(text)
			if err != nil {
				t.Fatal(err)
			}
			if n := share.Of(len(stacks)); len(want) == 0 || n > want[len(want)-1] {
				want = append(want, n)
			}
		}
		started, lasts := make([]int, len(want)), 0
		for _, s := range stacks {
			if s.Last {
				lasts++
			}
			for r := s.Ring; r < len(want); r++ {
				started[r]++
			}
		}
		for r := range want {
			if started[r] != want[r] && (lasts == 0 || started[r] != len(stacks)) {
				t.Fatalf("wave %d with %d stacks (%d last), ramp %s: by ring %d start %d, want %d", wave, len(stacks), lasts, shares, r, started[r], want[r])
			}
		}
	}
}

// checkOrderOfStacks starts stacks as a rollout would, until none is left.
func checkOrderOfStacks(t *rapid.T, p *plan.Plan) {
	ended := map[string]bool{}
	left := slices.Clone(p.Stacks)
	for len(left) > 0 {
		wave, ring := left[0].Wave, 0
		for _, s := range left {
			wave = min(wave, s.Wave)
		}
		ring = 1 << 30
		early := 0
		for _, s := range left {
			if s.Wave == wave {
				ring = min(ring, s.Ring)
			}
			if !s.Last {
				early++
			}
		}
		before := len(left)
		left = slices.DeleteFunc(left, func(s plan.Stack) bool {
			waits := slices.ContainsFunc(s.After, func(id string) bool { return !ended[id] })
			if s.Wave != wave || s.Ring != ring || s.Last && early > 0 || waits {
				return false
			}
			ended[s.ID] = true
			return true
		})
		if len(left) == before {
			t.Fatalf("these wait for each other: %+v", left)
		}
	}
}

// A plan that was made before rings, calendars and further gates is read as one without them.
func TestAnOlderPlanIsReadAsItWas(t *testing.T) {
	s := newScene()
	s.tokens(s.instance("i-1", "", nil))
	p := s.must(t)
	p.Header.Rules = plan.Rules{MaxInFlight: 20, MaxStacks: 2, StatusChecks: true, Heartbeat: true, GateInterval: time.Minute}
	p.Stacks[0].Steps[0].Share = ""
	var file bytes.Buffer
	if err := plan.Write(&file, p); err != nil {
		t.Fatal(err)
	}
	for _, key := range []string{"ring", "calendar", "gates", "share", "per_account", "group_health", "follow_ups", "patience", "total_failures"} {
		if strings.Contains(file.String(), `"`+key) || strings.Contains(file.String(), key+`":`) {
			t.Errorf("a plan that does not need %s writes it: %s", key, file.String())
		}
	}
	got, err := plan.Read(&file, "plan.json")
	if err != nil {
		t.Fatal(err)
	}
	if r := got.Header.Rules; got.Stacks[0].Ring != 0 || got.Stacks[0].Calendar != 0 || r.MaxInFlightAccount != 0 || r.GroupHealth || r.Gates != nil {
		t.Errorf("%+v", got)
	}
}

func TestReadRefusesWhatIsNotThere(t *testing.T) {
	for want, change := range map[string]func(*plan.Plan){
		"calendar 1 of 0": func(p *plan.Plan) { p.Stacks[0].Calendar = 1 },
		"gate 0 of 0":     func(p *plan.Plan) { p.Stacks[0].Gates = []int{0} },
		"ring 1 of 1":     func(p *plan.Plan) { p.Stacks[0].Ring = 1 },
		`"Mars" is no time zone`: func(p *plan.Plan) {
			p.Header.Calendars = []policy.Calendar{{Windows: []policy.Window{{From: "01:00", To: "02:00", Zone: "Mars"}}}}
		},
	} {
		s := newScene()
		s.tokens(s.instance("i-1", "", nil))
		p := s.must(t)
		change(p)
		var file bytes.Buffer
		if err := plan.Write(&file, p); err != nil {
			t.Fatal(err)
		}
		if _, err := plan.Read(&file, "plan.json"); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %s", err, want)
		}
	}
}
