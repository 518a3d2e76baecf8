package plan

import (
	"fmt"
	"slices"
	"strings"

	"github.com/imdsctl/imdsctl/internal/assess"
	"github.com/imdsctl/imdsctl/internal/fleet"
)

// spare drops the needs that the plan may not have: what would write an exempt resource, or one that a service operates; what
// would disrupt where the configuration does not allow it; and whatever comes after one of those. Each is named among the
// steps for people, once for a resource.
func (b *Builder) spare(p Proposal, needs []*Need) ([]*Need, error) {
	dropped := map[Key]Manual{}
	for _, n := range needs {
		m, ok, err := b.forbidden(p, n)
		if err != nil {
			return nil, err
		}
		if ok {
			dropped[n.Key()] = m
		}
	}
	for changed := len(dropped) > 0; changed; {
		changed = false
		for _, n := range needs {
			if _, ok := dropped[n.Key()]; ok {
				continue
			}
			for _, a := range n.After {
				if because, ok := dropped[a]; ok {
					because.Ref, because.Name, because.Commands = n.Ref, name(p, n.Ref), append(because.Commands, b.byHand(p, n)...)
					because.Owner = code(p, n.Ref)
					dropped[n.Key()], changed = because, true
					break
				}
			}
		}
	}
	var kept []*Need
	for _, n := range needs {
		m, ok := dropped[n.Key()]
		if !ok {
			kept = append(kept, n)
			continue
		}
		b.leave(m)
	}
	return kept, nil
}

// leave notes a step for people. The commands of several changes of one resource belong to one step.
func (b *Builder) leave(m Manual) {
	m = spelled(m)
	i := slices.IndexFunc(b.plan.Manuals, func(have Manual) bool { return have.Ref == m.Ref && have.Reason == m.Reason })
	if i < 0 {
		b.plan.Manuals = append(b.plan.Manuals, m)
		return
	}
	have := &b.plan.Manuals[i]
	for _, c := range m.Commands {
		if !slices.Contains(have.Commands, c) {
			have.Commands = append(have.Commands, c)
		}
	}
}

// spelled puts a word for what a change of the plan has yet to make, such as the number of a template's version, into the commands
// of a step for people, and says in its remedy what the word stands for.
func spelled(m Manual) Manual {
	m.Commands = slices.Clone(m.Commands)
	var makers []string
	for i, c := range m.Commands {
		makers = append(makers, References(c)...)
		m.Commands[i] = reference.ReplaceAllString(c, "NEW-$2")
	}
	slices.Sort(makers)
	for _, id := range slices.Compact(makers) {
		m.Remedy = strings.TrimSpace(m.Remedy + " In the commands NEW- and a name stand for what change " + id + " of this plan makes: " +
			"apply the plan first.")
	}
	return m
}

// forbidden tells why a need may not be in the plan. An error is a defect of a kind.
func (b *Builder) forbidden(p Proposal, n *Need) (Manual, bool, error) {
	m := Manual{Ref: n.Ref, Name: name(p, n.Ref), Owner: code(p, n.Ref)}
	r := p.Report.Index.Resource(n.Ref)
	if r == nil {
		return m, false, fmt.Errorf("%s is proposed for %s, which the scan does not know", n.Action, n.Ref)
	}
	if v := p.Report.Verdict(n.Ref); v != nil && v.Status == assess.Exempt {
		m.Reason = fmt.Sprintf("%s is left out because it would need a write to the exempt %s %s", n.Action, n.Ref.Kind, n.Ref.ID)
		m.Remedy = "End the exception, or give its users a launch template of their own."
		return m, true, nil
	}
	if o := p.Report.Index.Owner(r); o.Managed {
		m.Reason = "it is operated by " + o.String() + " and is not changed behind its back"
		m.Remedy = "Change the setting in " + o.String() + "."
		return m, true, nil
	}
	c := &Change{Ref: n.Ref, Action: n.Action, Class: n.Class, Before: r.State, After: r.State.With(n.Patch), Params: n.Params}
	if err := b.describe(c); err != nil {
		return m, false, fmt.Errorf("%s of %s: %w", n.Action, n.Ref, err)
	}
	if d := c.Disruption; d != "" && d != undisrupted && !b.config.MayDisrupt(assess.Facts(p.Report.Index, r), d) {
		m.Reason = disruptions()[d] + ", which the configuration does not allow here"
		m.Remedy = "Allow it with `targets.disruptive` and plan again, or do it by hand when it suits."
		m.Commands = b.byHand(p, n)
		return m, true, nil
	}
	return m, false, nil
}

// undisrupted is a change's word for one that disturbs nothing.
const undisrupted = "none"

// disruptions say what a disruptive change does.
func disruptions() map[string]string {
	return map[string]string{
		"restart": "the change stops it and starts it again",
		"replace": "the change replaces its instances",
	}
}

// byHand are the commands that make what a need asks for.
func (b *Builder) byHand(p Proposal, n *Need) []string {
	if b.ByHand == nil {
		return nil
	}
	r := p.Report.Index.Resource(n.Ref)
	if r == nil {
		return nil
	}
	return b.ByHand(&Change{Ref: n.Ref, Action: n.Action, Class: n.Class, Before: r.State, After: r.State.With(n.Patch), Params: n.Params})
}

// code is the infrastructure as code behind a resource.
func code(p Proposal, ref fleet.Ref) fleet.Owner {
	if r := p.Report.Index.Resource(ref); r != nil {
		return p.Report.Index.Code(r)
	}
	return fleet.Owner{}
}

func name(p Proposal, ref fleet.Ref) string {
	if r := p.Report.Index.Resource(ref); r != nil {
		return r.Name
	}
	return ""
}
