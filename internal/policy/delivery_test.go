package policy

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

func TestSharesAreReadAndRoundedUp(t *testing.T) {
	for text, want := range map[string]int{"1": 1, "7": 7, "200": 19, "1%": 1, "10%": 2, "50%": 10, "99%": 19, "100%": 19} {
		s, err := ParseShare(text)
		if err != nil || s.String() != text || s.Of(19) != want {
			t.Errorf("%s of 19 is %d (%v), want %d", s, s.Of(19), err, want)
		}
	}
	for _, text := range []string{"", "%", "0", "0%", "101%", "-1", "01", "1.5%", "1 %", "ten", "99999999999999999999"} {
		if s, err := ParseShare(text); err == nil {
			t.Errorf("%q is read as %s", text, s)
		}
	}
}

func TestSharesNeverExceedTheWhole(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(1, 10000).Draw(t, "n")
		s := Share{Count: rapid.IntRange(1, 20000).Draw(t, "count")}
		if rapid.Bool().Draw(t, "percent") {
			s = Share{Percent: rapid.IntRange(1, 100).Draw(t, "percents")}
		}
		k := s.Of(n)
		if k < 1 || k > n || s.All() && k != n {
			t.Fatalf("%s of %d is %d", s, n, k)
		}
		if s.Percent > 0 && (k*100 < n*s.Percent || (k-1)*100 >= n*s.Percent) {
			t.Fatalf("%s of %d is %d, which is not rounded up", s, n, k)
		}
	})
}

func TestPaceOfAStack(t *testing.T) {
	c := parse(t, `
rollout:
  steps: [2, 100%]
  stages:
    fleet: {steps: [3, 100%]}
    launch: {steps: [4, 100%]}
  overrides:
    - match: {tag: {app: pay}, criticality: critical}
      steps: [1, 5%, 100%]
      bake: 2d
    - match: {tag: {app: pay}, kind: ec2-instance}
      stages: {hop_limit: {steps: [100%]}}
    - match: {criticality: high}
      bake: 7h
`)
	pay := ResourceFacts{Ref: ref("111122223333", "eu-west-1", "ec2-instance", "i-1"), Tags: map[string]string{"app": "pay"}}
	group := ResourceFacts{Ref: ref("111122223333", "eu-west-1", "auto-scaling-group", "g"), Tags: map[string]string{"app": "pay"}}
	other := ResourceFacts{Ref: ref("111122223333", "eu-west-1", "ec2-instance", "i-2")}
	for _, test := range []struct {
		name  string
		stack StackFacts
		want  string
		bake  time.Duration
		rule  string
	}{
		{"no override", StackFacts{[]ResourceFacts{other}, Medium}, "[2 100%] [3 100%] [4 100%] [100%]", 2 * time.Hour, "default"},
		{"its steps go before those of stages", StackFacts{[]ResourceFacts{other, pay}, Critical},
			"[1 5% 100%] [1 5% 100%] [4 100%] [100%]", 48 * time.Hour, "override 1 (tag app=pay, criticality critical) at imdsctl.yaml:8:7"},
		{"one resource must match whole", StackFacts{[]ResourceFacts{other, group}, Low}, "[2 100%] [3 100%] [4 100%] [100%]",
			30 * time.Minute, "default"},
		{"a stage of its own", StackFacts{[]ResourceFacts{pay}, High}, "[100%] [3 100%] [4 100%] [100%]", 6 * time.Hour,
			"override 2 (kind ec2-instance, tag app=pay) at imdsctl.yaml:11:7"},
		{"by criticality", StackFacts{nil, High}, "[2 100%] [3 100%] [4 100%] [100%]", 7 * time.Hour,
			"override 3 (criticality high) at imdsctl.yaml:13:7"},
	} {
		t.Run(test.name, func(t *testing.T) {
			p := c.PaceOf(test.stack)
			if have := fmt.Sprint(p.HopLimit, p.Fleet, p.Launch, p.Defaults); have != test.want || p.Bake != test.bake ||
				p.Reason.String() != test.rule {
				t.Errorf("%s, %s because of %s", have, p.Bake, p.Reason)
			}
		})
	}
	if p := Default().PaceOf(StackFacts{}); fmt.Sprint(p.HopLimit, p.Fleet, p.Launch, p.Defaults) != "[1 100%] [1 100%] [100%] [100%]" {
		t.Errorf("by default %+v", p)
	}
	if p := new(Config).PaceOf(StackFacts{}); fmt.Sprint(p.Fleet) != "[100%]" {
		t.Errorf("a configuration without steps has %v", p.Fleet)
	}
}

func TestRampOfAWave(t *testing.T) {
	c := parse(t, "rollout: {ramp: [10%, 100%]}\nwaves: [{name: a, criticality: [low, medium]}, "+
		"{name: b, criticality: [high, critical], ramp: [1, 100%]}]")
	if have := fmt.Sprint(c.RampOf(0), c.RampOf(1)); have != "[10% 100%] [1 100%]" {
		t.Error(have)
	}
}

func TestFollowUpsForAResource(t *testing.T) {
	c := parse(t, `
follow_ups:
  - {name: instances, match: {tag: {app: "*"}}, ssm: {document: AWS-RunShellScript, parameters: {commands: [a, a, ""]}}}
  - {name: templates, match: {tag: {app: "*"}}, kinds: [launch-template], manual: roll it out}
  - {name: web, match: {tag: {app: web}}, command: [restart, -x, -x], timeout: 1m}
`)
	names := func(kind string) string {
		var out []string
		for _, f := range c.FollowUpsFor(ResourceFacts{Ref: ref("111122223333", "eu-west-1", kind, "x"), Tags: map[string]string{"app": "web"}}) {
			out = append(out, f.Name)
		}
		return strings.Join(out, " ")
	}
	if names("ec2-instance") != "instances web" || names("launch-template") != "templates" || names("ami") != "" {
		t.Errorf("%q, %q, %q", names("ec2-instance"), names("launch-template"), names("ami"))
	}
	if f := c.FollowUps[2]; len(f.Command) != 3 || f.Timeout != time.Minute || len(c.FollowUps[0].SSM.Parameters["commands"]) != 3 {
		t.Errorf("%+v", c.FollowUps)
	}
}

// A secret that someone wrote into a URL is not repeated on the screen or in a log.
func TestASecretIsNotRepeated(t *testing.T) {
	for _, u := range []string{"https://bob:hunter2@gates.example.com/", "https://bob:hunter2@[::1/"} {
		_, problems := Parse([]byte("gates: {webhooks: [{name: a, secret_env: KEY, url: \""+u+"\"}]}"), "f", nil)
		if len(problems) != 1 || strings.Contains(fmt.Sprint(problems), "hunter2") {
			t.Errorf("%v", problems)
		}
	}
}
