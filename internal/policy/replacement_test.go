package policy

import (
	"strings"
	"testing"
	"time"
)

func TestReplacementOfAStack(t *testing.T) {
	c := parse(t, `
rollout:
  replacement:
    default: natural
    rules:
      - match: {tag: {app: pay}, criticality: critical}
        value: in-place
      - match: {kind: auto-scaling-group, tag: {app: pay}}
        value: refresh
`)
	group := ResourceFacts{Ref: ref("111122223333", "eu-west-1", "auto-scaling-group", "g"), Tags: map[string]string{"app": "pay"}}
	other := ResourceFacts{Ref: ref("111122223333", "eu-west-1", "auto-scaling-group", "h")}
	for _, x := range []struct {
		stack StackFacts
		want  Replacement
		rule  string
	}{
		{StackFacts{Resources: []ResourceFacts{group}, Criticality: Critical}, ReplaceInPlace, "rule 1"},
		{StackFacts{Resources: []ResourceFacts{other, group}, Criticality: Low}, ReplaceByRefresh, "rule 2"},
		{StackFacts{Resources: []ResourceFacts{other}, Criticality: Critical}, ReplaceNaturally, "default"},
	} {
		have, why := c.ReplacementOf(x.stack)
		if have != x.want || !strings.HasPrefix(why.Rule, x.rule) {
			t.Errorf("%+v: %s by %s", x.stack, have, why.Rule)
		}
	}
	if have, _ := Default().ReplacementOf(StackFacts{}); have != ReplaceInPlace {
		t.Errorf("an empty file: %s", have)
	}
}

func TestLaunchPatience(t *testing.T) {
	for text, want := range map[string][2]time.Duration{
		"":                           {DefaultLaunchProof, 0},
		"gates: {launch_proof: 0s}":  {0, 0},
		"gates: {launch_proof: 90m}": {90 * time.Minute, 90 * time.Minute},
	} {
		c := Default()
		if text != "" {
			c = parse(t, text)
		}
		if have := [2]time.Duration{c.Gates.LaunchPatience(false), c.Gates.LaunchPatience(true)}; have != want {
			t.Errorf("%q: %v, want %v", text, have, want)
		}
		again, diags := Parse(c.JSON(), "again", nil)
		if len(diags) > 0 || again.Gates.LaunchProof != c.Gates.LaunchProof {
			t.Errorf("%q comes back as %v, %v", text, again.Gates.LaunchProof, diags)
		}
	}
}
