package assess_test

import (
	"encoding/json"
	"flag"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/imdsctl/imdsctl/internal/assess"
	"github.com/imdsctl/imdsctl/internal/fleet"
)

var update = flag.Bool("update", false, "write testdata/effective.json anew")

// launchCase is one row of the truth table. test/launches reads the same files and launches each row in the simulator.
type launchCase struct {
	// Doc and Says are the address of a documented case and what it says.
	Doc      string         `json:"doc,omitempty"`
	Says     string         `json:"says,omitempty"`
	Launch   fleet.Options  `json:"launch,omitzero"`
	Template *fleet.Options `json:"template,omitempty"` // nil: the launch names none
	Account  fleet.Options  `json:"account,omitzero"`
	Enforced string         `json:"enforced,omitempty"`
	Image    string         `json:"image,omitempty"` // ImdsSupport
	// Want are values by field, of a documented case only those that the documentation speaks of; By who decides them, where it is
	// not EC2 itself.
	Want    map[string]string `json:"want"`
	By      map[string]string `json:"by,omitempty"`
	Refused bool              `json:"refused,omitempty"`
}

func (c launchCase) input() assess.LaunchInput {
	in := assess.LaunchInput{
		Parameters: assess.Level{Origin: assess.OriginParameters, Where: "the call", Says: c.Launch},
		Default:    assess.Level{Origin: assess.OriginDefault, Where: "metadata-defaults", Says: c.Account},
		Enforced:   c.Enforced,
		Image:      assess.Image{ID: "ami-1", V2: c.Image == "v2.0"},
	}
	if c.Template != nil {
		in.Source = assess.Level{Origin: assess.OriginTemplate, Version: "3", Where: "lt-1", Says: *c.Template}
	}
	return in
}

func settings(l assess.Launch) map[string]assess.Setting {
	return map[string]assess.Setting{"tokens": l.Tokens, "endpoint": l.Endpoint, "hop_limit": l.HopLimit, "ipv6": l.IPv6,
		"instance_tags": l.Tags}
}

func readCases(t *testing.T, file string) []launchCase {
	t.Helper()
	b, err := os.ReadFile("testdata/" + file)
	if err != nil {
		t.Fatal(err)
	}
	var cases []launchCase
	if err := json.Unmarshal(b, &cases); err != nil {
		t.Fatalf("%s: %v", file, err)
	}
	return cases
}

// TestDocumentedLaunches holds the resolver to the cases that AWS's documentation spells out; see each one's address.
func TestDocumentedLaunches(t *testing.T) {
	for _, c := range readCases(t, "documented.json") {
		if c.Doc == "" || c.Says == "" || len(c.Want) == 0 {
			t.Errorf("a documented case has an address, what it says there, and what follows: %+v", c)
		}
		l := assess.Effective(c.input())
		for field, want := range c.Want {
			if got := settings(l)[field]; got.Value != want {
				t.Errorf("%s is %q by %s, want %q: %s\n%s", field, got.Value, got.By(), want, c.Says, c.Doc)
			}
		}
		if got := l.Refused != ""; got != c.Refused {
			t.Errorf("refused %v (%s), want %v: %s\n%s", got, l.Refused, c.Refused, c.Says, c.Doc)
		}
	}
}

// TestTruthTable compares the resolver with the golden table of launch × template × account × AMI × enforced.
func TestTruthTable(t *testing.T) {
	got := product()
	for i := range got {
		c := &got[i]
		l := assess.Effective(c.input())
		c.Want, c.By, c.Refused = map[string]string{}, map[string]string{}, l.Refused != ""
		for field, s := range settings(l) {
			c.Want[field] = s.Value
			if s.Source != assess.OriginEC2 {
				c.By[field] = string(s.Source)
			}
		}
	}
	var b strings.Builder
	b.WriteString("[\n")
	for i, c := range got {
		line, err := json.Marshal(c)
		if err != nil {
			t.Fatal(err)
		}
		b.Write(line)
		if i < len(got)-1 {
			b.WriteByte(',')
		}
		b.WriteByte('\n')
	}
	b.WriteString("]\n")
	if *update {
		if err := os.WriteFile("testdata/effective.json", []byte(b.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	golden, err := os.ReadFile("testdata/effective.json")
	if err != nil {
		t.Fatal(err)
	}
	want, lines := strings.Split(string(golden), "\n"), strings.Split(b.String(), "\n")
	if len(lines) != len(want) {
		t.Fatalf("the table has %d lines, the golden file %d: run the test with -update and review what changed", len(lines), len(want))
	}
	for i := range want {
		if lines[i] != want[i] {
			t.Errorf("line %d is\n%s\nwant\n%s", i+1, lines[i], want[i])
		}
	}
}

// product lists the rows of the table: for each field all that the levels which have a word on it may say.
func product() []launchCase {
	var out []launchCase
	type setter func(*fleet.Options)
	nothing := func(*fleet.Options) {}
	add := func(values []setter, account, images, enforcement bool) {
		templates := slices.Concat([]setter{nil}, values) // nil: no template
		accounts, amis, enforced := []setter{nothing}, []string{""}, []string{""}
		if account {
			accounts = values
		}
		if images {
			amis = append(amis, "v2.0")
		}
		if enforcement {
			enforced = append(enforced, fleet.Enabled)
		}
		for _, launch := range values {
			for _, template := range templates {
				for _, account := range accounts {
					for _, ami := range amis {
						for _, e := range enforced {
							c := launchCase{Image: ami, Enforced: e}
							launch(&c.Launch)
							account(&c.Account)
							if template != nil {
								c.Template = &fleet.Options{}
								template(c.Template)
							}
							out = append(out, c)
						}
					}
				}
			}
		}
	}
	words := func(set func(*fleet.Options, string), values ...string) []setter {
		out := []setter{nothing}
		for _, v := range values {
			out = append(out, func(o *fleet.Options) { set(o, v) })
		}
		return out
	}
	hop := func(n int) setter { return func(o *fleet.Options) { o.HopLimit = n } }
	add(words(func(o *fleet.Options, v string) { o.Tokens = v }, fleet.TokensOptional, fleet.TokensRequired), true, true, true)
	add([]setter{nothing, hop(1), hop(3)}, true, true, false)
	add(words(func(o *fleet.Options, v string) { o.Endpoint = v }, fleet.Enabled, fleet.Disabled), true, true, true)
	add(words(func(o *fleet.Options, v string) { o.IPv6 = v }, fleet.Enabled, fleet.Disabled), false, true, false)
	add(words(func(o *fleet.Options, v string) { o.Tags = v }, fleet.Enabled, fleet.Disabled), true, true, false)
	return out
}

// TestSourcesAreNamed: each field tells who decides it, and where that stands.
func TestSourcesAreNamed(t *testing.T) {
	l := assess.Effective(launchCase{Launch: fleet.Options{Tags: "enabled"}, Template: &fleet.Options{IPv6: "enabled"},
		Account: fleet.Options{HopLimit: 3}, Image: "v2.0"}.input())
	for field, want := range map[string]string{
		"instance_tags": "enabled by launch parameters at the call", "ipv6": "enabled by template version 3 at lt-1",
		"hop_limit": "3 by account default at metadata-defaults", "tokens": "required by image at ami-1",
		"endpoint": "enabled by EC2's own default at ",
	} {
		s := settings(l)[field]
		if got := s.Value + " by " + s.By() + " at " + s.Where; got != want {
			t.Errorf("%s is %q, want %q", field, got, want)
		}
	}
	if want := (fleet.Options{Tokens: "required", Endpoint: "enabled", HopLimit: 3, IPv6: "enabled", Tags: "enabled"}); l.Options() != want {
		t.Errorf("options %+v, want %+v", l.Options(), want)
	}
}

// TestWhatWasNotRead: exactly the fields that depend on what was not read are unknown, each with the reason.
func TestWhatWasNotRead(t *testing.T) {
	const template, image, defaults = "version 9 was not read", "the image was not read", "the defaults were not read"
	for _, c := range []struct {
		name    string
		in      func(in *assess.LaunchInput)
		unknown map[string]string // field → reason
		v1      assess.V1
		may     bool // whether a refusal is possible
	}{
		{"nothing is missing", func(*assess.LaunchInput) {}, nil, assess.V1Open, false},
		{"template", func(in *assess.LaunchInput) { in.Source = assess.Level{Unread: template} },
			map[string]string{"tokens": template, "endpoint": template, "hop_limit": template, "ipv6": template, "instance_tags": template},
			assess.V1Unknown, false},
		{"template, and the call requires tokens", func(in *assess.LaunchInput) {
			in.Source, in.Parameters.Says.Tokens = assess.Level{Unread: template}, fleet.TokensRequired
		}, map[string]string{"endpoint": template, "hop_limit": template, "ipv6": template, "instance_tags": template}, assess.V1Closed, false},
		{"image", func(in *assess.LaunchInput) { in.Image.Unread = image },
			map[string]string{"tokens": image, "hop_limit": image}, assess.V1Unknown, false},
		{"image, and the default decides", func(in *assess.LaunchInput) {
			in.Image.Unread, in.Default.Says = image, fleet.Options{Tokens: fleet.TokensRequired, HopLimit: 2}
		}, nil, assess.V1Closed, false},
		{"image, and the default decides tokens only", func(in *assess.LaunchInput) {
			in.Image.Unread, in.Default.Says.Tokens = image, fleet.TokensOptional
		}, map[string]string{"hop_limit": image}, assess.V1Open, false},
		{"image, and the default has no preference", func(in *assess.LaunchInput) {
			in.Image.Unread, in.Default.Says = image, fleet.Options{Tokens: fleet.NoPreference, HopLimit: -1}
		}, map[string]string{"tokens": image, "hop_limit": image}, assess.V1Unknown, false},
		{"image, under enforcement", func(in *assess.LaunchInput) { in.Image.Unread, in.Enforced = image, fleet.Enabled },
			map[string]string{"tokens": image, "hop_limit": image}, assess.V1Closed, true},
		{"defaults", func(in *assess.LaunchInput) { in.Default = assess.Level{Unread: defaults} },
			map[string]string{"tokens": defaults, "endpoint": defaults, "hop_limit": defaults, "instance_tags": defaults}, assess.V1Unknown, true},
		{"defaults and image", func(in *assess.LaunchInput) { in.Default, in.Image.Unread = assess.Level{Unread: defaults}, image },
			map[string]string{"tokens": defaults, "endpoint": defaults, "hop_limit": defaults, "instance_tags": defaults}, assess.V1Unknown, true},
		{"defaults, and the template is optional", func(in *assess.LaunchInput) {
			in.Default, in.Source.Says.Tokens = assess.Level{Unread: defaults}, fleet.TokensOptional
		}, map[string]string{"endpoint": defaults, "hop_limit": defaults, "instance_tags": defaults}, assess.V1Open, true},
		{"defaults, and the template requires tokens", func(in *assess.LaunchInput) {
			in.Default, in.Source.Says.Tokens = assess.Level{Unread: defaults}, fleet.TokensRequired
		}, map[string]string{"endpoint": defaults, "hop_limit": defaults, "instance_tags": defaults}, assess.V1Closed, false},
		{"a service's own launch", func(in *assess.LaunchInput) { in.Service, in.Parameters.Says.Tokens = "its own", fleet.TokensRequired },
			map[string]string{"endpoint": "its own", "hop_limit": "its own", "ipv6": "its own", "instance_tags": "its own"}, assess.V1Closed, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			in := launchCase{Template: &fleet.Options{}}.input()
			c.in(&in)
			l := assess.Effective(in)
			got := map[string]string{}
			for field, s := range settings(l) {
				if s.Unknown != "" {
					got[field] = s.Unknown
				}
				if (s.Unknown == "") == (s.Value == "") || (s.Unknown == "") == (s.Source == "") {
					t.Errorf("%s is %+v: a value has a source, and what has none a reason", field, s)
				}
			}
			if !maps.Equal(got, c.unknown) {
				t.Errorf("unknown: %v, want %v", got, c.unknown)
			}
			if l.V1() != c.v1 || (l.MayRefuse != "") != c.may || l.Refused != "" {
				t.Errorf("v1 %s, may be refused %q, refused %q; want %s, %v", l.V1(), l.MayRefuse, l.Refused, c.v1, c.may)
			}
		})
	}
}

func drawOptions(t *rapid.T, label string, account bool) fleet.Options {
	word := func(name string, values ...string) string {
		values = append(values, "")
		if account {
			values = append(values, fleet.NoPreference)
		}
		return rapid.SampledFrom(values).Draw(t, label+" "+name)
	}
	o := fleet.Options{Tokens: word("tokens", "optional", "required"), Endpoint: word("endpoint", "enabled", "disabled"),
		Tags: word("tags", "enabled", "disabled"), HopLimit: rapid.SampledFrom([]int{0, 1, 2, 64}).Draw(t, label+" hops")}
	if account && o.HopLimit == 0 {
		o.HopLimit = -rapid.IntRange(0, 1).Draw(t, label+" no hops")
	}
	if !account {
		o.IPv6 = word("ipv6", "enabled", "disabled")
	}
	return o
}

func drawInput(t *rapid.T) assess.LaunchInput {
	c := launchCase{Launch: drawOptions(t, "launch", false), Account: drawOptions(t, "account", true),
		Enforced: rapid.SampledFrom([]string{"", fleet.NoPreference, fleet.Enabled, fleet.Disabled}).Draw(t, "enforced"),
		Image:    rapid.SampledFrom([]string{"", "v2.0"}).Draw(t, "image")}
	if rapid.Bool().Draw(t, "by template") {
		o := drawOptions(t, "template", false)
		c.Template = &o
	}
	return c.input()
}

// parts are what may be missing of a launch.
func parts() []string { return []string{"source", "default", "image"} }

func without(in assess.LaunchInput, part string) assess.LaunchInput {
	switch part {
	case "source":
		in.Source = assess.Level{Unread: "no source"}
	case "default":
		in.Default, in.Enforced = assess.Level{Unread: "no default"}, ""
	case "image":
		in.Image = assess.Image{Unread: "no image"}
	}
	return in
}

// TestStrengtheningNeverOpens: requiring tokens, or turning the endpoint off, at any level, in the image or by enforcement never
// makes a launch answer v1 that did not, and never makes one unknown that was known not to.
func TestStrengtheningNeverOpens(t *testing.T) {
	weak := map[assess.V1]int{assess.V1Open: 2, assess.V1Unknown: 1}
	rapid.Check(t, func(t *rapid.T) {
		in := drawInput(t)
		for _, p := range parts() {
			if rapid.IntRange(0, 3).Draw(t, p+" missing") == 0 {
				in = without(in, p)
			}
		}
		before := assess.Effective(in)
		at := map[string]*assess.Level{"launch": &in.Parameters, "source": &in.Source, "default": &in.Default}
		name := rapid.SampledFrom([]string{"launch", "source", "default", "image", "enforced"}).Draw(t, "strengthen")
		switch l := at[name]; {
		case name == "image":
			in.Image.V2 = true
		case name == "enforced":
			in.Enforced = fleet.Enabled
		case l.Unread != "": // what it says changes behind a curtain
		case rapid.Bool().Draw(t, "by endpoint"):
			l.Says.Endpoint = fleet.Disabled
		default:
			l.Says.Tokens = fleet.TokensRequired
		}
		if after := assess.Effective(in); weak[after.V1()] > weak[before.V1()] {
			t.Fatalf("%s → %s by strengthening %s: %+v → %+v", before.V1(), after.V1(), name, before, after)
		}
	})
}

// TestUnknownIsExact: with something unread, a field is known exactly if it has the same value and source whatever the missing
// part says, and no launch counts as closed that might answer v1.
func TestUnknownIsExact(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		in := drawInput(t)
		part := rapid.SampledFrom(parts()).Draw(t, "missing")
		missing := assess.Effective(without(in, part))
		seen := map[string]map[string]bool{}
		for _, full := range completions(in, part) {
			l := assess.Effective(full)
			for field, s := range settings(l) {
				if seen[field] == nil {
					seen[field] = map[string]bool{}
				}
				seen[field][fmt.Sprint(s)] = true
			}
			if v := missing.V1(); v == assess.V1Closed && l.V1() == assess.V1Open || v == assess.V1Refused && l.V1() != assess.V1Refused {
				t.Fatalf("%s without the %s, and %s with it: %+v", v, part, l.V1(), l)
			}
			if l.Refused != "" && missing.Refused == "" && missing.MayRefuse == "" && missing.Tokens.Unknown == "" {
				t.Fatalf("with the %s the launch is refused, without it nothing was said of that: %+v", part, missing)
			}
		}
		for field, s := range settings(missing) {
			if (s.Unknown != "") != (len(seen[field]) > 1) {
				t.Fatalf("without the %s, %s is %+v; with it one of %v", part, field, s, slices.Sorted(maps.Keys(seen[field])))
			}
		}
	})
}

// completions are the launches that a missing part could have made it.
func completions(in assess.LaunchInput, part string) []assess.LaunchInput {
	out := []assess.LaunchInput{}
	add := func(change func(*assess.LaunchInput)) {
		next := in
		change(&next)
		out = append(out, next)
	}
	all := func(o fleet.Options) []fleet.Options {
		return []fleet.Options{{}, o, {Tokens: "optional", Endpoint: "enabled", HopLimit: 7, Tags: "enabled", IPv6: o.IPv6},
			{Tokens: "required", Endpoint: "disabled", HopLimit: 9, Tags: "disabled", IPv6: o.IPv6}}
	}
	switch part {
	case "source":
		for _, ip6 := range []string{"enabled", "disabled"} {
			for _, o := range all(fleet.Options{IPv6: ip6}) {
				add(func(in *assess.LaunchInput) {
					in.Source = assess.Level{Origin: assess.OriginTemplate, Version: "3", Where: "lt-1", Says: o}
				})
			}
		}
	case "default":
		for _, o := range all(fleet.Options{}) {
			for _, e := range []string{"", fleet.Enabled} {
				add(func(in *assess.LaunchInput) { in.Default.Says, in.Enforced = o, e })
			}
		}
	case "image":
		for _, v2 := range []bool{false, true} {
			add(func(in *assess.LaunchInput) { in.Image.V2 = v2 })
		}
	}
	return out
}
