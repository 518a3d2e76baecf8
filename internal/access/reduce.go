package access

import (
	"cmp"
	"slices"
)

// Level is what a role may do, in one word.
type Level string

// Levels, the worst first.
const (
	// Admin: everything, IAM included.
	Admin Level = "admin"
	// Escalation: it can give itself, or take over, what it was not given.
	Escalation Level = "escalation"
	// Data: it reads or changes all data of some service.
	Data Level = "data"
	// Narrow: none of these, but on named resources or under conditions.
	Narrow Level = "narrow"
)

// Levels lists all levels, the worst first.
func Levels() []Level { return []Level{Admin, Escalation, Data, Narrow} }

// Finding is one thing that a role may do.
type Finding struct {
	// Name is a path of escalation ("iam:PassRole + ec2:RunInstances") or a sort of data ("objects in S3").
	Name  string
	Grade Grade
	// By are the statements that allow it, as "policy: statement", sorted.
	By []string
	// Limits say what narrows it, for people.
	Limits []string
}

// Reduction is what matters of a role's permissions.
type Reduction struct {
	Level Level
	// Admin is set where the role administers the account; of the grade Some where that is narrowed.
	Admin *Finding
	// Escalations and Data are in the order of the tables below, those of the grade All first.
	Escalations []Finding
	Data        []Finding
}

// anything is an action of a service that nobody has heard of: only what allows all services allows it.
const anything = "any-service-at-all:anyaction"

// Reduce says what matters of a role's permissions.
func Reduce(r *Role) Reduction {
	out := Reduction{Level: Narrow}
	if f := r.find(way{name: "everything", steps: administers}); f.Grade > None {
		out.Admin = &f
	}
	for _, w := range escalations {
		if f := r.find(w); f.Grade > None {
			out.Escalations = append(out.Escalations, f)
		}
	}
	for _, w := range data {
		if f := r.find(w); f.Grade > None {
			out.Data = append(out.Data, f)
		}
	}
	for _, list := range [][]Finding{out.Escalations, out.Data} {
		slices.SortStableFunc(list, func(a, b Finding) int { return cmp.Compare(b.Grade, a.Grade) })
	}
	switch {
	case out.Admin != nil && out.Admin.Grade == All:
		out.Level = Admin
	case len(out.Escalations) > 0 && out.Escalations[0].Grade == All:
		out.Level = Escalation
	case len(out.Data) > 0 && out.Data[0].Grade == All:
		out.Level = Data
	}
	return out
}

// way is what a finding takes: each step must be allowed, by one of its actions.
type way struct {
	name string
	// service is whom iam:PassRole passes a role to.
	service string
	steps   [][]string
}

// find tells how far a role may go a way: as far as its least step.
func (r *Role) find(w way) Finding {
	f := Finding{Name: w.name, Grade: All}
	for _, step := range w.steps {
		var best grant
		for _, action := range step {
			if g := r.granted(probe{action: action, passedTo: w.service}); g.grade > best.grade {
				best = g
			}
		}
		f.Grade = min(f.Grade, best.grade)
		if f.Grade == None {
			return Finding{Name: w.name}
		}
		f.By = append(f.By, best.by...)
		if best.grade == Some {
			f.Limits = append(f.Limits, best.limits...)
		}
	}
	slices.Sort(f.By)
	slices.Sort(f.Limits)
	f.By, f.Limits = slices.Compact(f.By), slices.Compact(f.Limits)
	return f
}
