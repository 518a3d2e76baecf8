package policy

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/imdsctl/imdsctl/internal/fleet"
)

var kinds = []string{"account-defaults", "auto-scaling-group", "ec2-instance", "launch-template"}

// parse reads a configuration that must be good.
func parse(t testing.TB, text string) *Config {
	t.Helper()
	c, problems := Parse([]byte(text), "imdsctl.yaml", kinds)
	if len(problems) > 0 {
		t.Fatalf("Parse: %v", problems)
	}
	return c
}

func TestNothingIsTheDefault(t *testing.T) {
	want := Default().Digest()
	for _, text := range []string{
		"", "\n", "# only a comment\n", "---\n", "null\n", "{}", "version: 1\n", "\ufeffversion: 1\n",
		"gates:\naccounts:\nwaves: []\nexceptions: # - match: …\n",
	} {
		if have := parse(t, text).Digest(); have != want {
			t.Errorf("%q has another digest than the default:\n%s", text, parse(t, text).JSON())
		}
	}
}

func TestDefaultIsSafe(t *testing.T) {
	c := Default()
	if c.Organization.Discover != DiscoverSelf || c.Organization.Role.Read != "" || c.Organization.Role.Write != "" {
		t.Errorf("organization = %+v", c.Organization)
	}
	if c.Evidence != (Evidence{14 * day, time.Hour, 0.95, true, 200 * day, OldSoftwareShow, ""}) {
		t.Errorf("evidence = %+v", c.Evidence)
	}
	if g := c.Gates; g.MaxRejected != 0 || !g.StatusChecks || g.Heartbeat != HeartbeatCPU || !g.GroupHealth || !g.TargetHealth ||
		g.Every() != 5*time.Minute || g.Patience != 30*time.Minute {
		t.Errorf("gates = %+v", g)
	}
	if fmt.Sprint(c.Rollout.Steps, c.Rollout.Ramp) != "[1 100%] [100%]" || c.Rollout.MaxFailures != (FailureBudget{}) || c.Rollout.OnFailure != Halt {
		t.Errorf("rollout = %+v", c.Rollout)
	}
	if c.HopLimit.Default != KeepHopLimit || len(c.Waves) != 4 {
		t.Errorf("hop limit %+v, waves %+v", c.HopLimit, c.Waves)
	}
}

func TestParseReadsTheExample(t *testing.T) {
	data, err := os.ReadFile(exampleFile)
	if err != nil {
		t.Fatal(err)
	}
	c := parse(t, string(data))
	if a := c.Accounts[1]; a.ID != "012345678901" || a.Skip == "" || a.Where != "imdsctl.yaml:20:5" {
		t.Errorf("account = %+v", a)
	}
	if e := c.Exceptions[0]; e.Owner != "network@example.com" || e.Expires.String() != "2027-06-30" ||
		e.Where != "imdsctl.yaml:60:5" || e.ExpiresAt != "imdsctl.yaml:63:14" {
		t.Errorf("exception = %+v", e)
	}
	if c.Bake.Critical != day || c.HopLimit.Rules[0].Value != 2 ||
		c.Limits.Actions["ec2:DescribeInstances"] != (Bucket{200, 40}) {
		t.Errorf("bake %+v, hop limit %+v, limits %+v", c.Bake, c.HopLimit, c.Limits)
	}
}

func TestAccountIDsKeepTheirZeros(t *testing.T) {
	for _, id := range []string{"012345678901", "011122223333", `"012345678901"`, "'000000000000'", "111122223333"} {
		if have := parse(t, "accounts: [{id: "+id+"}]").Accounts[0].ID; string(have) != strings.Trim(id, `"'`) {
			t.Errorf("%s is read as %s", id, have)
		}
	}
}

func TestDigestIsOfTheMeaning(t *testing.T) {
	same := []string{
		"bake: {low: 1h}\nevidence: {window: 2d}\n",
		"# comment\nevidence:\n  window: 48h\nbake:\n  low: 60m\n",
		`{"evidence": {"window": "1d24h"}, "bake": {"low": "3600s", "medium": "2h"}}`,
	}
	for _, text := range same[1:] {
		if parse(t, text).Digest() != parse(t, same[0]).Digest() {
			t.Errorf("%q and %q have different digests", same[0], text)
		}
	}
	if parse(t, same[0]).Digest() == Default().Digest() {
		t.Error("the digest does not see the values")
	}
}

func TestDiscoverDependsOnWhatIsGiven(t *testing.T) {
	const org, list = "arn:aws:iam::111122223333:role/org", "\naccounts: [{id: 111122223333}]"
	for text, want := range map[string]Discovery{
		list: DiscoverList,
		"organization: {management_role: '" + org + "'}":              DiscoverOrganizations,
		"organization: {management_role: '" + org + "'}" + list:       DiscoverOrganizations,
		"organization: {role: {read: auditor}}":                       DiscoverOrganizations,
		"organization: {regions: [eu-west-1]}":                        DiscoverSelf,
		"organization: {discover: self, role: {read: '" + org + "'}}": DiscoverSelf,
		"organization: {role: {read: '" + org + "'}}" + list:          DiscoverList,
	} {
		if have := parse(t, text).Organization.Discover; have != want {
			t.Errorf("%s: discover %s, want %s", text, have, want)
		}
	}
}

// bad is a configuration with mistakes. The schema finds those that lie in single keys.
type bad struct {
	name string
	text []byte
	// want holds "line:column: summary" of each problem, in order, with a line "  → remedy" below it where that matters.
	want []string
	// schema tells whether the published schema refuses the file too.
	schema bool
}

// badFiles reads testdata/bad, one case a file, and adds those that no text file can hold.
func badFiles(t testing.TB) []bad {
	t.Helper()
	files, err := filepath.Glob("testdata/bad/*.txtar")
	if err != nil || len(files) == 0 {
		t.Fatalf("no cases in testdata/bad (%v)", err)
	}
	out := []bad{
		{"control-character", []byte("gates:\n  delay: \x015m\n"),
			[]string{"2:10: this is not valid YAML: control characters are not allowed (value: 1)"}, false},
		{"broken-utf-8", []byte("gates: \xc3(\n"),
			[]string{"1:8: this is not valid YAML: invalid trailing UTF-8 octet (value: 40)"}, false},
	}
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		comment, rest, hasText := strings.Cut(string(data), "-- imdsctl.yaml --\n")
		text, want, hasProblems := strings.Cut(rest, "-- problems --\n")
		if !hasText || !hasProblems {
			t.Fatalf("%s: want the parts imdsctl.yaml and problems", file)
		}
		out = append(out, bad{strings.TrimSuffix(filepath.Base(file), ".txtar"), []byte(text),
			strings.Split(strings.TrimRight(want, "\n"), "\n"), strings.Contains(comment, "refuses it: yes")})
	}
	return out
}

func TestParseReportsEveryProblem(t *testing.T) {
	schema := compileSchema(t)
	for _, b := range badFiles(t) {
		t.Run(b.name, func(t *testing.T) {
			c, problems := Parse(b.text, "imdsctl.yaml", kinds)
			if c != nil {
				t.Error("a configuration with problems was returned")
			}
			want := b.want
			for _, p := range problems {
				if p.Severity != fleet.SeverityError || p.Remedy == "" || strings.Contains(p.Summary, "\n") {
					t.Errorf("not whole: %+v", p)
				}
				have := strings.TrimPrefix(p.Where, "imdsctl.yaml:") + ": " + p.Summary
				if len(want) == 0 || have != want[0] {
					t.Fatalf("have %s\n  → %s\nwant %s", have, p.Remedy, strings.Join(want, "\n"))
				}
				want = want[1:]
				if len(want) == 0 || !strings.HasPrefix(want[0], "  → ") {
					continue
				}
				if have := "  → " + p.Remedy; have != want[0] {
					t.Errorf("%s\nhave%s\nwant%s", p.Summary, have, want[0])
				}
				want = want[1:]
			}
			if len(want) > 0 {
				t.Errorf("not found: %s", strings.Join(want, "\n"))
			}
			if b.schema && schema.Validate(asJSON(t, b.text)) == nil {
				t.Error("the schema accepts it")
			}
		})
	}
}

func TestNearest(t *testing.T) {
	words := []string{"exceptions", "organization", "low"}
	for s, want := range map[string]string{
		"excepsions": "exceptions", "Exceptions": "exceptions", "organisation": "organization", "lwo": "low",
		"something": "", "": "", strings.Repeat("x", 1000): "",
	} {
		if have := nearest(s, words); have != want {
			t.Errorf("nearest(%q) = %q, want %q", s, have, want)
		}
	}
}

// FuzzParse holds Parse to its contract on any input: it gives a configuration or problems at places in the file; a
// configuration survives being written and read again; the schema accepts what Parse accepts.
func FuzzParse(f *testing.F) {
	example, err := os.ReadFile(exampleFile)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(example)
	for _, b := range badFiles(f) {
		f.Add(b.text)
	}
	schema := compileSchema(f)
	f.Fuzz(func(t *testing.T, data []byte) {
		c, problems := Parse(data, "f", kinds)
		if (c == nil) != (len(problems) > 0) {
			t.Fatalf("configuration %v, problems %v", c, problems)
		}
		lines := bytes.Count(data, []byte("\n")) + bytes.Count(data, []byte("\r")) + 3*len(data)
		for _, p := range problems {
			var line, column int
			if _, err := fmt.Sscanf(p.Where, "f:%d:%d", &line, &column); err != nil || line < 1 || column < 1 || line > lines+1 {
				t.Errorf("no such place: %+v", p)
			}
		}
		if c == nil {
			return
		}
		if !json.Valid(c.JSON()) {
			t.Fatalf("not JSON: %s", c.JSON())
		}
		again, problems := Parse(c.JSON(), "f", kinds)
		if len(problems) > 0 || !slices.Equal(again.JSON(), c.JSON()) {
			t.Fatalf("%s\nreads back with %v as another configuration", c.JSON(), problems)
		}
		if err := schema.Validate(asJSON(t, data)); err != nil && asJSON(t, data) != nil {
			t.Errorf("Parse accepts what the schema refuses: %v", err)
		}
	})
}

// TestHistory: the look back is longer than the window or none at all, and the default gives way to a long window.
func TestHistory(t *testing.T) {
	for _, tc := range []struct {
		text string
		want time.Duration
	}{
		{"", 200 * day}, {"history: 455d", 455 * day}, {"history: 0s", 0}, {"window: 63d, period: 5m", 200 * day}, {"window: 200d", 0},
		{"window: 455d", 0}, {"window: 30d, history: 31d", 31 * day},
	} {
		if got := parse(t, "evidence: {"+tc.text+"}\n").Evidence.LookBack(); got != tc.want {
			t.Errorf("%s: looks back %s, want %s", tc.text, got, tc.want)
		}
	}
	for text, want := range map[string]string{
		"history: 10d": "is not longer than the window of 14d", "history: 14d": "is not longer than the window", "history: 200d1h": "whole days",
		"window: 300d, history: 200d": "is not longer than the window of 300d", "history: 456d": "evidence.history", "old_software: warn": "old_software",
	} {
		_, problems := Parse([]byte("evidence: {"+text+"}\n"), "imdsctl.yaml", kinds)
		if len(problems) != 1 || !strings.Contains(problems[0].Summary, want) {
			t.Errorf("%s: %v", text, problems)
		}
	}
}
