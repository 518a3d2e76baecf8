package policy

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/imdsctl/imdsctl/internal/fleet"
	"pgregory.net/rapid"
)

func TestResolveAndWaveOf(t *testing.T) {
	c := parse(t, `organization: {discover: organizations}
accounts:
  - {id: 111122223333, criticality: critical, name: sandbox-root}
  - {id: 444455556666, tags: {tier: "0"}}
criticality:
  default: high
  rules:
    - match: {ou: "*/Prod", tag: {tier: ["0", "1"]}}
      value: critical
    - match: {ou: [Sandbox, ou-ab12-cdefghij]}
      value: low
    - match: {name: "*-dev"}
      value: medium
waves:
  - {name: first, criticality: low, accounts: [777788889999]}
  - {name: second, criticality: [medium, high]}
  - {name: last, criticality: critical}
`)
	for _, test := range []struct {
		name    string
		account AccountFacts
		want    Criticality
		rule    string
		wave    int
	}{
		{"its own entry wins", AccountFacts{ID: "111122223333", OUs: []string{"Sandbox"}}, Critical,
			"account 111122223333 says so at imdsctl.yaml:3:5", 2},
		{"the first rule wins, and the file's tags count", AccountFacts{ID: "444455556666", Name: "x-dev",
			OUs: []string{"Workloads", "Prod", "EU"}, Tags: map[string]string{"tier": "9"}}, Critical,
			"rule 1 (OU */Prod, tag tier=0|1) at imdsctl.yaml:8:7", 2},
		{"every part of a match must hold", AccountFacts{ID: "000000000001", OUs: []string{"Workloads", "Prod"}},
			High, "default", 1},
		{"an OU holds for what is below it", AccountFacts{ID: "000000000001", OUs: []string{"Sandbox", "a", "b"}}, Low,
			"rule 2 (OU Sandbox|ou-ab12-cdefghij) at imdsctl.yaml:10:7", 0},
		{"an OU is found by id", AccountFacts{ID: "000000000001", OUIDs: []string{"ou-ab12-cdefghij"}}, Low,
			"rule 2 (OU Sandbox|ou-ab12-cdefghij) at imdsctl.yaml:10:7", 0},
		{"an OU is not found at another depth", AccountFacts{ID: "000000000001", OUs: []string{"a", "Sandbox"}},
			High, "default", 1},
		{"by name", AccountFacts{ID: "000000000001", Name: "shop-dev"}, Medium,
			"rule 3 (name *-dev) at imdsctl.yaml:12:7", 1},
		{"a listed account goes in its wave", AccountFacts{ID: "777788889999"}, High, "default", 0},
	} {
		t.Run(test.name, func(t *testing.T) {
			got, why := c.Resolve(test.account)
			if got != test.want || why.String() != test.rule {
				t.Errorf("%s because of %s, want %s because of %s", got, why, test.want, test.rule)
			}
			place, err := c.WaveOf(test.account)
			if err != nil || place.Index != test.wave || place.Criticality != test.want || place.Reason.Where == "" {
				t.Errorf("wave %+v, error %v, want wave %d", place, err, test.wave)
			}
		})
	}
}

func TestKnownDoesNotChangeItsArgument(t *testing.T) {
	c := parse(t, "accounts: [{id: 111122223333, tags: {a: new}}]")
	tags := map[string]string{"a": "old", "b": "kept"}
	known := c.Known(AccountFacts{ID: "111122223333", Tags: tags})
	if tags["a"] != "old" || known.Tags["a"] != "new" || known.Tags["b"] != "kept" {
		t.Errorf("argument %v, result %v", tags, known.Tags)
	}
}

func TestWaveOfWithoutAWave(t *testing.T) {
	c := Default()
	c.Waves = []Wave{{Name: "low only", Criticality: []Criticality{Low}}}
	if _, err := c.WaveOf(AccountFacts{ID: "111122223333"}); err == nil || !strings.Contains(err.Error(), "111122223333") {
		t.Errorf("error = %v", err)
	}
}

// TestEveryAccountHasOneWave puts the criticalities in waves at random and asks of each account that exactly one wave
// takes it.
func TestEveryAccountHasOneWave(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(1, 4).Draw(t, "waves")
		waves := make([][]string, n)
		grade := map[Criticality]int{}
		for i, k := range Criticalities() {
			w := i
			if i >= n {
				w = rapid.IntRange(0, n-1).Draw(t, "wave")
			}
			waves[w], grade[k] = append(waves[w], string(k)), w
		}
		text := "waves:\n"
		for i, w := range waves {
			text += fmt.Sprintf("- {name: w%d, criticality: [%s]}\n", i, strings.Join(w, ", "))
		}
		def := rapid.SampledFrom(Criticalities()).Draw(t, "default")
		c, problems := Parse([]byte(text+"criticality: {default: "+string(def)+"}"), "f", nil)
		if len(problems) > 0 {
			t.Fatal(problems)
		}
		if p, err := c.WaveOf(AccountFacts{ID: "111122223333"}); err != nil || p.Index != grade[def] {
			t.Fatalf("%s goes in %+v (%v), want wave %d", def, p, err, grade[def])
		}
	})
}

func TestExceptionsHoldThroughTheirLastDay(t *testing.T) {
	c := parse(t, `
exceptions:
  - {match: {tag: {app: legacy}}, owner: old, reason: r, expires: 2026-03-01}
  - {match: {account: 111122223333, tag: {app: leg*}}, owner: new, reason: r, expires: 2026-03-31}
`)
	r := ResourceFacts{Ref: ref("111122223333", "eu-west-1", "ec2-instance", "i-1"),
		Tags: map[string]string{"app": "legacy"}}
	other := r
	other.Ref.Account = "444455556666"
	for _, test := range []struct {
		resource ResourceFacts
		now      string
		owner    string
		state    ExceptionState
		expired  int
	}{
		{r, "2026-03-01T23:59:59.999999999Z", "old", ExceptionActive, 0},
		{r, "2026-03-02T00:00:00Z", "new", ExceptionActive, 1},
		{r, "2026-03-31T23:59:59Z", "new", ExceptionActive, 1},
		{r, "2026-04-01T00:30:00+01:00", "new", ExceptionActive, 1},
		{r, "2026-04-01T00:00:00Z", "old", ExceptionExpired, 2},
		{other, "2026-03-01T12:00:00Z", "old", ExceptionActive, 0},
		{other, "2026-03-02T00:00:00Z", "old", ExceptionExpired, 1},
	} {
		now, err := time.Parse(time.RFC3339, test.now)
		if err != nil {
			t.Fatal(err)
		}
		e, state, ok := c.Exempt(test.resource, now)
		if !ok || e.Owner != test.owner || state != test.state {
			t.Errorf("%s in %s: %v %s %s", test.now, test.resource.Ref.Account, ok, e.Owner, state)
		}
		if have := c.Expired(now); len(have) != test.expired {
			t.Errorf("%s: %v", test.now, have)
		}
	}
	if _, _, ok := c.Exempt(ResourceFacts{Ref: r.Ref}, time.Time{}); ok {
		t.Error("a resource without the tag is exempt")
	}
	warning := c.Expired(time.Date(2026, 3, 2, 0, 0, 0, 0, time.UTC))[0]
	want := fleet.Diagnostic{Severity: fleet.SeverityWarning, Where: "imdsctl.yaml:3:67",
		Summary: "the exception of old for tag app=legacy expired at the end of 2026-03-01 (UTC)",
		Remedy:  "Set a later date in `expires`, or remove the exception; until then its resources are blocked."}
	if warning != want {
		t.Errorf("have %+v\nwant %+v", warning, want)
	}
}

func TestHopLimitFor(t *testing.T) {
	c := parse(t, `
hop_limit:
  default: 1
  rules:
    - match: {tag: {"eks:cluster-name": "*"}}
      value: 2
    - match: {kind: [launch-*, ec2-*], name: [a?c, web]}
      value: keep
`)
	for _, test := range []struct {
		r    ResourceFacts
		want int
		rule string
	}{
		{ResourceFacts{Ref: fleet.Ref{Kind: "ec2-instance"}, Name: "abc",
			Tags: map[string]string{"eks:cluster-name": "c"}}, 2,
			"rule 1 (tag eks:cluster-name=*) at imdsctl.yaml:5:7"},
		{ResourceFacts{Ref: fleet.Ref{Kind: "launch-template"}, Name: "abc"}, KeepHopLimit,
			"rule 2 (kind launch-*|ec2-*, name a?c|web) at imdsctl.yaml:7:7"},
		{ResourceFacts{Ref: fleet.Ref{Kind: "auto-scaling-group"}, Name: "abc"}, 1, "default"},
	} {
		if have, why := c.HopLimitFor(test.r); have != test.want || why.String() != test.rule {
			t.Errorf("%+v gets %d because of %s, want %d because of %s", test.r, have, why, test.want, test.rule)
		}
	}
}

func TestOverridesSkipsOwnHostsAndRoles(t *testing.T) {
	c := parse(t, `
organization: {discover: list, role: {read: "arn:aws-cn:iam::{account}:role/ops/r", write: ops/w}}
accounts: [{id: 111122223333, skip: closing}, {id: 444455556666}]
own_hosts: [i-0123456789abcdef0]
overrides:
  - {match: {resource: [i-1, aws/111122223333/eu-west-1/ec2-instance/i-2]}, owner: alice, reason: r}
`)
	for id, want := range map[string]bool{"i-1": true, "i-2": true, "i-3": false} {
		o, ok := c.OverrideFor(ResourceFacts{Ref: ref("111122223333", "eu-west-1", "ec2-instance", id)})
		if ok != want || ok && (o.Owner != "alice" || o.Where == "") {
			t.Errorf("%s: %v %+v", id, ok, o)
		}
	}
	if _, ok := c.OverrideFor(ResourceFacts{Ref: ref("111122223333", "us-east-1", "ec2-instance", "i-2")}); ok {
		t.Error("a whole reference matches in another region")
	}
	if why, ok := c.Skipped("111122223333"); !ok || why.Rule != "closing" || why.Where == "" {
		t.Errorf("skipped = %v %v", why, ok)
	}
	if _, ok := c.Skipped("444455556666"); ok {
		t.Error("an account without skip is skipped")
	}
	if !c.OwnHost("i-0123456789abcdef0") || c.OwnHost("i-1") {
		t.Error("own hosts are not told apart")
	}
	o := c.Organization
	if have := o.ReadARN("aws-cn", "444455556666"); have != "arn:aws-cn:iam::444455556666:role/ops/r" {
		t.Error(have)
	}
	if have := o.WriteARN("aws-us-gov", "444455556666"); have != "arn:aws-us-gov:iam::444455556666:role/ops/w" {
		t.Error(have)
	}
	if have := Default().Organization.ReadARN("aws", "444455556666"); have != "" {
		t.Errorf("the default assumes %s", have)
	}
}

func TestSelectRegions(t *testing.T) {
	enabled := []fleet.Region{"us-east-1", "eu-west-1", "eu-north-1"}
	for text, want := range map[string]string{
		"": "[us-east-1 eu-west-1 eu-north-1] []",
		"organization: {exclude_regions: [us-east-1, ap-east-1]}":                       "[eu-west-1 eu-north-1] []",
		"organization: {regions: [eu-west-1, ap-east-1], exclude_regions: [us-west-2]}": "[eu-west-1] [ap-east-1]",
	} {
		if use, disabled := parse(t, text).SelectRegions(enabled); fmt.Sprint(use, disabled) != want {
			t.Errorf("%s: %v %v, want %s", text, use, disabled, want)
		}
	}
}

func TestStackKeyOf(t *testing.T) {
	tags := map[string]string{TagCloudFormationStack: "shop", "app": "web"}
	r := ResourceFacts{Ref: fleet.Ref{ID: "i-1"}, Tags: tags}
	for _, test := range []struct {
		stack Stack
		r     ResourceFacts
		want  string
	}{
		{Stack{CloudFormation: true, Tag: "app"}, r, "cloudformation/shop"},
		{Stack{CloudFormation: false, Tag: "app"}, r, "tag/app=web"},
		{Stack{CloudFormation: false}, r, "instance/i-1"},
		{Stack{CloudFormation: true, Tag: "app"}, ResourceFacts{Ref: r.Ref}, "instance/i-1"},
	} {
		if have, why := test.stack.KeyOf(test.r); have != test.want || why.Rule == "" {
			t.Errorf("%+v: %s (%s), want %s", test.stack, have, why, test.want)
		}
	}
}

func TestBakeFor(t *testing.T) {
	b := Bake{1, 2, 3, 4}
	var have []time.Duration
	for _, k := range append(Criticalities(), "unknown") {
		have = append(have, b.For(k))
	}
	if !slices.Equal(have, []time.Duration{1, 2, 3, 4, 4}) {
		t.Error(have)
	}
}

// TestMatchNeedsEveryPart takes a match of all parts and breaks one fact at a time.
func TestMatchNeedsEveryPart(t *testing.T) {
	m := Match{Resource: []string{"i-1"}, Account: []fleet.AccountID{"111122223333"}, Region: []Glob{"eu-*"},
		Kind: []Glob{"ec2-instance"}, Name: []Glob{"web-?"}, Tag: map[string][]Glob{"a": {"x", "y"}, "b": {"*"}}}
	fits := func() ResourceFacts {
		return ResourceFacts{Ref: ref("111122223333", "eu-west-1", "ec2-instance", "i-1"), Name: "web-1",
			Tags: map[string]string{"a": "y", "b": "", "c": "z"}}
	}
	if !m.Matches(fits()) {
		t.Fatal("the match does not select what it names")
	}
	for name, spoil := range map[string]func(*ResourceFacts){
		"resource": func(r *ResourceFacts) { r.Ref.ID = "i-11" },
		"account":  func(r *ResourceFacts) { r.Ref.Account = "111122223334" },
		"region":   func(r *ResourceFacts) { r.Ref.Region = "us-east-1" },
		"kind":     func(r *ResourceFacts) { r.Ref.Kind = "ec2-instances" },
		"name":     func(r *ResourceFacts) { r.Name = "web-11" },
		"tag":      func(r *ResourceFacts) { r.Tags["a"] = "X" },
		"no tag":   func(r *ResourceFacts) { delete(r.Tags, "b") },
	} {
		r := fits()
		spoil(&r)
		if m.Matches(r) {
			t.Errorf("another %s matches", name)
		}
	}
	if (Match{}).Matches(fits()) || (AccountMatch{}).Matches(AccountFacts{}) {
		t.Error("an empty match selects something")
	}
}

// TestGlob compares patterns with the regular expressions they stand for.
func TestGlob(t *testing.T) {
	alphabet := rapid.SampledFrom([]rune("ab*?/é\n"))
	rapid.Check(t, func(t *rapid.T) {
		pattern := rapid.StringOfN(alphabet, 0, 8, -1).Draw(t, "pattern")
		text := rapid.StringOfN(alphabet, 0, 12, -1).Draw(t, "text")
		expr := strings.NewReplacer(`\*`, ".*", `\?`, ".").Replace(regexp.QuoteMeta(pattern))
		want := regexp.MustCompile(`(?s)^` + expr + `$`).MatchString(text)
		if have := Glob(pattern).Match(text); have != want {
			t.Fatalf("%q on %q: %v, want %v", pattern, text, have, want)
		}
	})
}

func TestDurationsAreReadAsShown(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		v := time.Duration(rapid.Int64Range(0, 40_000_000).Draw(t, "seconds")) * time.Second
		if have, ok := parseDuration(showDuration(v)); !ok || have != v {
			t.Fatalf("%s reads as %s", showDuration(v), have)
		}
	})
}

func ref(account fleet.AccountID, region fleet.Region, kind, id string) fleet.Ref {
	return fleet.Ref{Place: fleet.Place{Partition: "aws", Account: account, Region: region}, Kind: kind, ID: id}
}
