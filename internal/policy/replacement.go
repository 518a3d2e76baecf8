package policy

import (
	"fmt"
	"slices"
	"time"
)

// Replacement is how the running instances of a stack's groups come to require tokens.
type Replacement string

// Replacements.
const (
	// ReplaceInPlace changes running instances as they are.
	ReplaceInPlace Replacement = "in-place"
	// ReplaceNaturally leaves them, and waits until the group has replaced them for reasons of its own.
	ReplaceNaturally Replacement = "natural"
	// ReplaceByRefresh leaves them, and has an instance refresh replace them once the group launches from something new.
	ReplaceByRefresh Replacement = "refresh"
)

// Replacements say which stacks' instances are replaced, and how: the first rule that matches, then Default.
type Replacements struct {
	Default Replacement
	Rules   []ReplacementRule
}

// ReplacementRule chooses for the stacks it matches.
type ReplacementRule struct {
	Match StackMatch
	Value Replacement
	Where string
}

// ReplacementOf chooses for a stack, and says what decided.
func (c *Config) ReplacementOf(s StackFacts) (Replacement, Reason) {
	r := c.Rollout.Replacement
	i := slices.IndexFunc(r.Rules, func(rule ReplacementRule) bool { return rule.Match.Matches(s) })
	if i < 0 {
		return r.Default, Reason{Rule: "default"}
	}
	return r.Rules[i].Value, Reason{fmt.Sprintf("rule %d (%s)", i+1, r.Rules[i].Match), r.Rules[i].Where}
}

// DefaultLaunchProof is how long a step waits for a first launch from what it changed, where the file does not say and the
// launcher keeps instances at all.
const DefaultLaunchProof = 30 * time.Minute

// launchProofUnsaid is the patience of a file that says nothing of it.
const launchProofUnsaid = -1

// LaunchPatience is how long a step waits for a launch. idle is a launcher that keeps no instance at the moment.
func (g Gates) LaunchPatience(idle bool) time.Duration {
	switch {
	case g.LaunchProof != launchProofUnsaid:
		return g.LaunchProof
	case idle:
		return 0
	default:
		return DefaultLaunchProof
	}
}

func replacementFields(r *Replacements) []field {
	value := func(target *Replacement) value {
		return one(target, enum(ReplaceInPlace, ReplaceNaturally, ReplaceByRefresh))
	}
	return []field{
		{key: "default", value: value(&r.Default), doc: "Where no rule matches."},
		{key: "rules",
			value: objects[ReplacementRule]{&r.Rules, func(rule *ReplacementRule) []field {
				return []field{
					stackMatchField(&rule.Match, true),
					{key: "value", value: value(&rule.Value), doc: "As `default`.", required: true},
				}
			}, func(rule *ReplacementRule) *string { return &rule.Where }},
			doc: "Tried in order."},
	}
}

// unsaid is a duration, zero included, that stands for another default where the file does not say it.
func unsaid(e element[time.Duration]) element[time.Duration] {
	e.show = func(v time.Duration) any {
		if v < 0 {
			return nil
		}
		return showDuration(v)
	}
	return e
}
