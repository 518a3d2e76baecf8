package policy

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/imdsctl/imdsctl/internal/fleet"
)

// Share is a part of some things: a number of them, or a percentage. Exactly one of the two is set.
type Share struct{ Count, Percent int }

// ParseShare reads "5" or "10%".
func ParseShare(s string) (Share, error) {
	digits, percent := strings.CutSuffix(s, "%")
	n, err := strconv.Atoi(digits)
	switch {
	case err != nil || !decimal.MatchString(digits) || n < 1 || n > 1_000_000 || percent && n > 100:
		return Share{}, fmt.Errorf("%q is neither a number, 1 or more, nor a percentage from 1%% to 100%%", s)
	case percent:
		return Share{Percent: n}, nil
	}
	return Share{Count: n}, nil
}

// String gives "5" or "10%".
func (s Share) String() string {
	if s.Percent > 0 {
		return strconv.Itoa(s.Percent) + "%"
	}
	return strconv.Itoa(s.Count)
}

// All tells whether it is everything.
func (s Share) All() bool { return s.Percent == 100 }

// Of is how many of n the share is: rounded up, and never more than n.
func (s Share) Of(n int) int {
	if s.Percent > 0 {
		return (n*s.Percent + 99) / 100
	}
	return min(s.Count, n)
}

// above tells whether a share must be more than another, however much it is of: a percentage is taken to be more than any
// number.
func (s Share) above(o Share) bool {
	if s.Percent > 0 && o.Percent == 0 {
		return true
	}
	return s.Percent > o.Percent || s.Percent == 0 && o.Percent == 0 && s.Count > o.Count
}

// everything is all at once.
func everything() []Share { return []Share{{Percent: 100}} }

// StackFacts is what the configuration looks at of a stack.
type StackFacts struct {
	// Resources are those its changes write, and the groups and instances they are for.
	Resources   []ResourceFacts
	Criticality Criticality
}

// StackMatch selects stacks: by one of their resources, by criticality, or both.
type StackMatch struct {
	Match       Match
	Criticality []Criticality
}

// Matches tells whether the match selects the stack. A match with no part set selects every stack.
func (m StackMatch) Matches(s StackFacts) bool {
	return (len(m.Criticality) == 0 || slices.Contains(m.Criticality, s.Criticality)) &&
		(m.Match.IsZero() || slices.ContainsFunc(s.Resources, m.Match.Matches))
}

// String describes the match for people.
func (m StackMatch) String() string {
	var parts []string
	if !m.Match.IsZero() {
		parts = append(parts, m.Match.String())
	}
	return strings.Join(describePart(parts, "criticality", m.Criticality), ", ")
}

// PlaceFacts is what the configuration looks at of an account in a region.
type PlaceFacts struct {
	Account     AccountFacts
	Criticality Criticality
	Region      fleet.Region
}

// PlaceMatch selects places. Every part that is set must hold.
type PlaceMatch struct {
	Account     []fleet.AccountID
	Criticality []Criticality
	Region      []Glob
	// OU, Name and Tag are as in AccountMatch.
	OU   []string
	Name []Glob
	Tag  map[string][]Glob
}

// Matches tells whether the match selects the place. A match with no part set selects every place.
func (m PlaceMatch) Matches(p PlaceFacts) bool {
	account := AccountMatch{m.OU, m.Name, m.Tag}
	return (len(m.Account) == 0 || slices.Contains(m.Account, p.Account.ID)) &&
		(len(m.Criticality) == 0 || slices.Contains(m.Criticality, p.Criticality)) &&
		matchesAny(m.Region, string(p.Region)) &&
		(account.IsZero() || account.Matches(p.Account))
}

// Pace is how a stack is changed.
type Pace struct {
	// HopLimit, Fleet, Launch and Defaults are the shares of each stage's changes after which a step ends; the last is all.
	HopLimit, Fleet, Launch, Defaults []Share
	// Bake is how long each step is watched.
	Bake time.Duration
	// Reason says what decided.
	Reason Reason
}

// PaceOf chooses a stack's pace: that of the first override that matches, and where it says nothing, the rollout's own.
func (c *Config) PaceOf(s StackFacts) Pace {
	general := c.Rollout.Stages
	own := Stages{}
	steps := c.Rollout.Steps
	out := Pace{Bake: c.Bake.For(s.Criticality), Reason: Reason{Rule: "default"}}
	i := slices.IndexFunc(c.Rollout.Overrides, func(r PaceRule) bool { return r.Match.Matches(s) })
	if i >= 0 {
		rule := c.Rollout.Overrides[i]
		own = rule.Stages
		if len(rule.Steps) > 0 { // what is said of these stacks goes before what is said of the stages of all
			steps, general.HopLimit, general.Fleet = rule.Steps, StageSteps{}, StageSteps{}
		}
		if rule.Bake > 0 {
			out.Bake = rule.Bake
		}
		out.Reason = Reason{fmt.Sprintf("override %d (%s)", i+1, rule.Match), rule.Where}
	}
	out.HopLimit = firstShares(own.HopLimit.Steps, general.HopLimit.Steps, steps)
	out.Fleet = firstShares(own.Fleet.Steps, general.Fleet.Steps, steps)
	out.Launch = firstShares(own.Launch.Steps, general.Launch.Steps, everything())
	out.Defaults = firstShares(own.Defaults.Steps, general.Defaults.Steps, everything())
	return out
}

func firstShares(lists ...[]Share) []Share {
	for _, l := range lists {
		if len(l) > 0 {
			return l
		}
	}
	return everything()
}

// RampOf gives the shares of a wave's stacks that form its rings; the last is all. wave is an index into Waves.
func (c *Config) RampOf(wave int) []Share {
	return firstShares(c.Waves[wave].Ramp, c.Rollout.Ramp)
}

// CalendarFor gathers the windows and freezes that match a place. It is zero where changes may start at any time.
func (c *Config) CalendarFor(p PlaceFacts) Calendar {
	p.Account = c.Known(p.Account)
	var out Calendar
	for _, r := range c.Windows {
		if r.Match.Matches(p) {
			out.Windows = append(out.Windows, r.Window)
		}
	}
	for _, r := range c.Freezes {
		if r.Match.Matches(p) {
			out.Freezes = append(out.Freezes, r.Freeze)
		}
	}
	return out
}

// FollowUpsFor lists the follow-ups of a resource whose setting has been changed.
func (c *Config) FollowUpsFor(r ResourceFacts) []FollowUp {
	var out []FollowUp
	for _, f := range c.FollowUps {
		if matchesAny(f.Kinds, r.Ref.Kind) && f.Match.Matches(r) {
			out = append(out, f)
		}
	}
	return out
}
