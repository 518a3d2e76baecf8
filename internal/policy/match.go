package policy

import (
	"maps"
	"slices"
	"strings"

	"github.com/imdsctl/imdsctl/internal/fleet"
)

// ResourceFacts is what a Match looks at.
type ResourceFacts struct {
	Ref fleet.Ref
	// Name is what people call the resource: an instance's tag Name, a template's name.
	Name string
	Tags map[string]string
	// Cluster is the cluster that it belongs to, Containers what runs containers on it ("ecs", "eks", …), and NetworkModes the
	// network modes of those; empty where nothing of it is known.
	Cluster, Containers string
	NetworkModes        []string
}

// Match selects resources. Every part that is set must hold; a part with several values holds if one of them does. A
// Match with no part set selects nothing.
type Match struct {
	// Resource holds ids ("i-0abc") or whole references ("aws/111122223333/eu-west-1/ec2-instance/i-0abc").
	Resource []string
	Account  []fleet.AccountID
	Region   []Glob
	Kind     []Glob
	Name     []Glob
	// Tag asks for every key, with a value that one of its patterns matches.
	Tag map[string][]Glob
	// Cluster, Containers and NetworkMode match what is known of a host of containers; NetworkMode holds if one of those in use
	// does.
	Cluster, Containers, NetworkMode []Glob
}

// Matches tells whether the match selects the resource.
func (m Match) Matches(r ResourceFacts) bool {
	if m.IsZero() {
		return false
	}
	named := func(id string) bool { return id == r.Ref.ID || id == r.Ref.String() }
	return (m.Resource == nil || slices.ContainsFunc(m.Resource, named)) &&
		(m.Account == nil || slices.Contains(m.Account, r.Ref.Account)) &&
		matchesAny(m.Region, string(r.Ref.Region)) &&
		matchesAny(m.Kind, r.Ref.Kind) &&
		matchesAny(m.Name, r.Name) &&
		matchesTags(m.Tag, r.Tags) &&
		matchesAny(m.Cluster, r.Cluster) &&
		matchesAny(m.Containers, r.Containers) &&
		(len(m.NetworkMode) == 0 || slices.ContainsFunc(r.NetworkModes, func(mode string) bool { return matchesAny(m.NetworkMode, mode) }))
}

// IsZero tells whether no part is set.
func (m Match) IsZero() bool {
	return len(m.Resource)+len(m.Account)+len(m.Region)+len(m.Kind)+len(m.Name)+len(m.Tag)+
		len(m.Cluster)+len(m.Containers)+len(m.NetworkMode) == 0
}

// String describes the match for people: "kind ec2-instance, tag app=web*|api".
func (m Match) String() string {
	var parts []string
	parts = describePart(parts, "resource", m.Resource)
	parts = describePart(parts, "account", m.Account)
	parts = describePart(parts, "region", m.Region)
	parts = describePart(parts, "kind", m.Kind)
	parts = describePart(parts, "name", m.Name)
	parts = describePart(parts, "cluster", m.Cluster)
	parts = describePart(parts, "containers", m.Containers)
	parts = describePart(parts, "network mode", m.NetworkMode)
	return strings.Join(describeTags(parts, m.Tag), ", ")
}

// AccountFacts is what is known of an account when it is graded and put into a wave.
type AccountFacts struct {
	ID   fleet.AccountID
	Name string
	// OUs is the path of organizational units from below the root to the account, by name; OUIDs the same by id
	// ("ou-ab12-cdefghij"). Both are empty where Organizations was not asked.
	OUs, OUIDs []string
	Tags       map[string]string
}

// AccountMatch selects accounts, with the same logic as Match.
type AccountMatch struct {
	// OU holds ids of organizational units, or paths such as "Workloads/Prod", of which each segment is a pattern. Both
	// select everything below as well.
	OU   []string
	Name []Glob
	Tag  map[string][]Glob
}

// Matches tells whether the match selects the account.
func (m AccountMatch) Matches(a AccountFacts) bool {
	if m.IsZero() {
		return false
	}
	within := func(ou string) bool { return withinOU(ou, a) }
	return (m.OU == nil || slices.ContainsFunc(m.OU, within)) &&
		matchesAny(m.Name, a.Name) && matchesTags(m.Tag, a.Tags)
}

func withinOU(ou string, a AccountFacts) bool {
	if slices.Contains(a.OUIDs, ou) {
		return true
	}
	segments := strings.Split(strings.Trim(ou, "/"), "/")
	if len(segments) > len(a.OUs) {
		return false
	}
	for i, s := range segments {
		if !Glob(s).Match(a.OUs[i]) {
			return false
		}
	}
	return true
}

// IsZero tells whether no part is set.
func (m AccountMatch) IsZero() bool { return len(m.OU)+len(m.Name)+len(m.Tag) == 0 }

// String describes the match for people.
func (m AccountMatch) String() string {
	var parts []string
	parts = describePart(parts, "OU", m.OU)
	parts = describePart(parts, "name", m.Name)
	return strings.Join(describeTags(parts, m.Tag), ", ")
}

// Glob is a pattern in which * stands for any text, also none and also slashes, and ? for one character. It is compared
// with the whole text, upper and lower case told apart.
type Glob string

// Match tells whether the pattern matches the whole of s, in time proportional to the product of both lengths at most.
func (g Glob) Match(s string) bool {
	pattern, text := []rune(string(g)), []rune(s)
	p, t := 0, 0
	star, resume := -1, 0 // the last * seen, and the text position to go on from if what follows it fails
	for t < len(text) {
		switch {
		case p < len(pattern) && pattern[p] == '*':
			star, resume = p, t
			p++
		case p < len(pattern) && (pattern[p] == '?' || pattern[p] == text[t]):
			p++
			t++
		case star >= 0:
			resume++
			p, t = star+1, resume
		default:
			return false
		}
	}
	for p < len(pattern) && pattern[p] == '*' {
		p++
	}
	return p == len(pattern)
}

// literal tells whether the pattern matches its own text and nothing else.
func (g Glob) literal() bool { return !strings.ContainsAny(string(g), "*?") }

// matchesAny holds for no patterns at all, or if one matches.
func matchesAny(globs []Glob, s string) bool {
	return len(globs) == 0 || slices.ContainsFunc(globs, func(g Glob) bool { return g.Match(s) })
}

func matchesTags(want map[string][]Glob, have map[string]string) bool {
	for key, globs := range want {
		if v, ok := have[key]; !ok || !matchesAny(globs, v) {
			return false
		}
	}
	return true
}

func describePart[T ~string](parts []string, name string, values []T) []string {
	if len(values) == 0 {
		return parts
	}
	return append(parts, name+" "+joinAny(values))
}

func describeTags(parts []string, tags map[string][]Glob) []string {
	for _, k := range slices.Sorted(maps.Keys(tags)) {
		parts = append(parts, "tag "+k+"="+joinAny(tags[k]))
	}
	return parts
}

func joinAny[T ~string](values []T) string {
	out := make([]string, len(values))
	for i, v := range values {
		out[i] = string(v)
	}
	return strings.Join(out, "|")
}
