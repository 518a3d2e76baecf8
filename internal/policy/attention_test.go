package policy

import (
	"strings"
	"testing"
	"time"

	"github.com/imdsctl/imdsctl/internal/fleet"
)

func TestAttentionIsRead(t *testing.T) {
	c, problems := Parse([]byte(`
attention:
  owner_tags: [Team, cost-center]
  repeat: 3d
  routes:
    - match: {tag: {team: payments}}
      slack: {url_env: SLACK_PAYMENTS}
    - match: {account: "444455556666"}
      owner: platform
      webhook: {url: "https://hooks.example.com/imds", key_file: /etc/imdsctl/key}
    - owner: everybody
`), "f.yaml", nil)
	if c == nil {
		t.Fatal(problems)
	}
	a := &c.Attention
	if a.Repeat != 3*24*time.Hour || len(a.Routes) != 3 || a.Routes[1].Webhook.KeyFile != "/etc/imdsctl/key" || a.Routes[0].Where != "f.yaml:6:7" {
		t.Errorf("%+v", a)
	}
	facts := func(account fleet.AccountID, team string) ResourceFacts {
		return ResourceFacts{Ref: fleet.Ref{Place: fleet.Place{Account: account}, Kind: "ec2-instance", ID: "i-1"}, Tags: map[string]string{"team": team}}
	}
	for _, tc := range []struct {
		resources []ResourceFacts
		target    string
	}{
		{[]ResourceFacts{facts("444455556666", "x"), facts("444455556666", "payments")}, "Slack ($SLACK_PAYMENTS)"}, // the first route decides
		{[]ResourceFacts{facts("444455556666", "x")}, "https://hooks.example.com/imds"},
		{nil, ""},
	} {
		r, ok := a.RouteFor(tc.resources...)
		if !ok || r.Target() != tc.target || r.Silent() != (tc.target == "") {
			t.Errorf("%+v leads to %q, %v, want %q", tc.resources, r.Target(), ok, tc.target)
		}
	}
	for _, tc := range []struct {
		tags  map[string]string
		owner string
	}{
		{map[string]string{"TEAM": " search ", "cost-center": "7"}, "search"}, {map[string]string{"Cost-Center": "7"}, "7"},
		{map[string]string{"team": " "}, ""}, {nil, ""},
	} {
		if owner, _ := a.OwnerOf(tc.tags); owner != tc.owner {
			t.Errorf("%v belong to %q, want %q", tc.tags, owner, tc.owner)
		}
	}
	if d := Default().Attention; d.Repeat != 7*24*time.Hour || len(d.OwnerTags) == 0 {
		t.Errorf("by default %+v", d)
	}
	if _, ok := Default().Attention.RouteFor(facts("444455556666", "x")); ok {
		t.Error("without routes one was found")
	}
}

func TestAttentionProblems(t *testing.T) {
	for route, want := range map[string]string{
		`{match: {account: "444455556666"}}`:                                     "says neither who answers nor where",
		`{slack: {url_env: A}, webhook: {url: "https://x.example", key_env: B}}`: "both `slack` and `webhook`",
		`{slack: {}}`:                                                               "needs one of `url_env` and `url_file`",
		`{slack: {url_env: A, url_file: b}}`:                                        "needs one of `url_env` and `url_file`",
		`{webhook: {url: "https://x.example"}}`:                                     "needs one of `key_env` and `key_file`",
		`{webhook: {url: "http://x.example", key_env: A}}`:                          "not encrypted",
		`{webhook: {url: "https://u:p@x.example", key_env: A}}`:                     "a user or a password",
		`{owner: a}` + "\n    - {owner: b}":                                         "never tried",
		`{slack: {url_env: "https://hooks.slack.com/services/T0/B0/secretsecret"}}`: "is not an environment variable's name",
		`{slack: {url: "https://hooks.slack.com/services/T0/B0/secretsecret"}}`:     "url",
		`{match: {}, owner: a}`:                                                     "is empty",
	} {
		c, problems := Parse([]byte("attention:\n  routes:\n    - "+route+"\n"), "f.yaml", nil)
		var said strings.Builder
		for _, p := range problems {
			said.WriteString(p.Error())
		}
		if c != nil || !strings.Contains(said.String(), want) {
			t.Errorf("%s: %q, want %q", route, said.String(), want)
		}
		if strings.Contains(said.String(), "secretsecret") || strings.Contains(said.String(), "u:p@") {
			t.Errorf("%s: the secret is in the message: %s", route, said.String())
		}
	}
}
