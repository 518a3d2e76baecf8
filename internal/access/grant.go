package access

import (
	"slices"
	"strings"
)

// Grade is how far something is allowed.
type Grade int

// Grades, the least first.
const (
	None Grade = iota
	// Some: on named resources only, or under a condition.
	Some
	// All: on everything of its kind, unconditionally.
	All
)

// Policy is one policy of a role.
type Policy struct {
	Name     string
	Document *Document
}

// Role is what is known of a role's permissions.
type Role struct {
	Policies []Policy
	// Boundary is the permissions boundary; nil where there is none.
	Boundary *Policy
}

// grant is how far an action is allowed, by which statements, and what narrows it.
type grant struct {
	grade  Grade
	by     []string // "policy: statement"
	limits []string
}

// probe is one action that is asked about.
type probe struct {
	action string // in lower case
	// passedTo is the service that iam:PassRole is to pass a role to.
	passedTo string
}

// granted tells how far a role may do what a probe asks, after all denies and its boundary.
func (r *Role) granted(p probe) grant {
	g := allowed(r.Policies, p)
	if r.Boundary != nil && g.grade > None {
		b := allowed([]Policy{*r.Boundary}, p)
		if b.grade < g.grade {
			g.limits = append(g.limits, "the permissions boundary "+r.Boundary.Name)
		}
		g.grade = min(g.grade, b.grade)
		if g.grade > None {
			g.limits = append(g.limits, b.limits...)
		}
	}
	if g.grade == None {
		return grant{}
	}
	slices.Sort(g.limits)
	g.limits = slices.Compact(g.limits)
	return g
}

// allowed decides by one set of policies: all Allows together, less all Denies.
func allowed(policies []Policy, p probe) grant {
	denies := deniesOf(policies, p)
	var out grant
	for i := range policies {
		for j := range policies[i].Document.statements {
			s := policies[i].Document.statements[j].about(p.action)
			if s == nil || s.deny || !s.passes(p.passedTo) {
				continue
			}
			g := s.grant()
			for _, d := range denies {
				g.less(s, d.statement, d.name)
			}
			if g.grade == None {
				continue
			}
			if g.grade > out.grade {
				out.limits = nil // what narrowed the lesser no longer counts
			}
			if g.grade >= out.grade {
				out.limits = append(out.limits, g.limits...)
			}
			out.grade = max(out.grade, g.grade)
			out.by = append(out.by, policies[i].Name+": "+s.name)
		}
	}
	return out
}

// grant is what an Allow gives by itself.
func (s *statement) grant() grant {
	g := grant{grade: All}
	switch {
	case len(s.conditions) > 0:
		g.grade = Some
		g.limits = append(g.limits, "a condition on "+strings.Join(s.conditions, ", "))
	case len(s.notResources) > 0:
		if slices.ContainsFunc(s.notResources, everything) {
			return grant{}
		}
		g.limits = append(g.limits, "all resources but "+sample(s.notResources))
	}
	if len(s.resources) > 0 && !anyWide(s.resources) {
		g.grade = Some
		g.limits = append(g.limits, "only "+sample(s.resources))
	}
	return g
}

// deny is a Deny that speaks of a probe's action.
type deny struct {
	*statement
	name string
}

func deniesOf(policies []Policy, p probe) []deny {
	var out []deny
	for i := range policies {
		for j := range policies[i].Document.statements {
			if s := policies[i].Document.statements[j].about(p.action); s != nil && s.deny {
				out = append(out, deny{s, policies[i].Name + ": " + s.name})
			}
		}
	}
	return out
}

// less takes a Deny off what an Allow gives. A Deny under a condition, or of some resources only, leaves the rest; one that is
// unconditional and holds all resources of the Allow leaves nothing.
func (g *grant) less(allow, deny *statement, name string) {
	if g.grade == None {
		return
	}
	touches, all := deny.reach(allow)
	switch {
	case !touches:
		return
	case len(deny.conditions) == 0 && all:
		g.grade = None
		return
	case len(deny.conditions) > 0 && all, len(deny.notResources) > 0 && !anyWide(deny.notResources), anyWide(deny.resources):
		g.grade = min(g.grade, Some)
	}
	g.limits = append(g.limits, "the deny "+name)
}

// reach tells whether a Deny's resources have some in common with an Allow's, and whether they hold all of them.
func (s *statement) reach(allow *statement) (touches, all bool) {
	patterns := allow.resources
	if len(patterns) == 0 {
		patterns = []string{"*"} // all but some
	}
	if len(s.notResources) > 0 {
		// All but what s.notResources stands for: an Allow of just that is left alone.
		touches = slices.ContainsFunc(patterns, func(p string) bool { return !covered(p, s.notResources) })
		all = !slices.ContainsFunc(patterns, func(p string) bool {
			return slices.ContainsFunc(s.notResources, func(n string) bool { return overlaps(p, n) })
		})
		return touches, all
	}
	touches = slices.ContainsFunc(patterns, func(p string) bool {
		return slices.ContainsFunc(s.resources, func(d string) bool { return overlaps(p, d) })
	})
	all = !slices.ContainsFunc(patterns, func(p string) bool { return !covered(p, s.resources) })
	return touches, all
}

// sample names a few patterns for people.
func sample(patterns []string) string {
	if len(patterns) <= 2 {
		return strings.Join(patterns, ", ")
	}
	return strings.Join(patterns[:2], ", ") + " and others"
}
