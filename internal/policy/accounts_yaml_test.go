package policy_test

import (
	"maps"
	"strings"
	"testing"

	"github.com/imdsctl/imdsctl/internal/policy"
)

func TestAccountsSection(t *testing.T) {
	lines := []policy.AccountLine{
		{Account: policy.Account{ID: "012345678901", Name: `a "b": #c`, Criticality: policy.High, Tags: map[string]string{"k:1": "v"}},
			Comments: []string{"score 40\n- id: evil"}},
		{Account: policy.Account{ID: "111122223333", Criticality: policy.Low}, Suggest: policy.High},
		{Account: policy.Account{ID: "222222222222", Skip: "closes"}},
		{Account: policy.Account{ID: "333333333333", Criticality: policy.Medium}, Off: true},
	}
	got := policy.AccountsSection(lines)
	want := `accounts:
  # score 40 - id: evil
  - id: "012345678901"
    name: "a \"b\": #c"
    criticality: high
    tags:
      "k:1": "v"
  - id: "111122223333"
    criticality: low
    # criticality: high
  - id: "222222222222"
    skip: "closes"
  # - id: "333333333333"
  #   criticality: medium
`
	if got != want {
		t.Errorf("%s", got)
	}
	c, diags := policy.Parse([]byte("version: 1\n"+got), "imdsctl.yaml", nil)
	if len(diags) > 0 || len(c.Accounts) != 3 || c.Accounts[0].Name != lines[0].Name || !maps.Equal(c.Accounts[0].Tags, lines[0].Tags) {
		t.Errorf("%v: %+v", diags, c)
	}
	none := policy.AccountsSection([]policy.AccountLine{{Account: policy.Account{ID: "333333333333", Criticality: policy.Medium}, Off: true}})
	if c, diags := policy.Parse([]byte("version: 1\n"+none), "imdsctl.yaml", nil); len(diags) > 0 || len(c.Accounts) != 0 {
		t.Errorf("%s: %v", none, diags)
	}
}

// FuzzAccountsSection: names and comments come from AWS, and what is printed is what was meant, whatever they hold.
func FuzzAccountsSection(f *testing.F) {
	for _, s := range []string{"", "plain", "a\nb: c", "# x", "\u2028- id: 1", "\x00\x7f\u0085", "'\"\\", "{{}}", "é ß 漢"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		text = strings.ToValidUTF8(text, "")
		got := policy.AccountsSection([]policy.AccountLine{
			{Account: policy.Account{ID: "111122223333", Name: text, Criticality: policy.High}, Comments: []string{text}},
			{Account: policy.Account{ID: "222222222222", Name: text, Criticality: policy.Low}, Comments: []string{text}, Off: true},
		})
		c, diags := policy.Parse([]byte("version: 1\n"+got), "imdsctl.yaml", nil)
		if len(diags) > 0 { // a name that no configuration may have is refused, never misread
			for _, d := range diags {
				if !strings.Contains(d.Error(), "name") {
					t.Fatalf("%v\n%s", d, got)
				}
			}
			return
		}
		if len(c.Accounts) != 1 || c.Accounts[0].Criticality != policy.High || c.Accounts[0].Name != text {
			t.Fatalf("%+v\n%s", c.Accounts, got)
		}
	})
}
