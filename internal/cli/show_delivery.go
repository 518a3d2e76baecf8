package cli

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/imdsctl/imdsctl/internal/plan"
	"github.com/imdsctl/imdsctl/internal/report"
)

// showDelivery says when a plan's stacks may start, what is asked besides the usual gates, and what follows changes.
func (s *session) showDelivery(p *plan.Plan) {
	s.showCalendars(p)
	s.showFurtherGates(p)
	s.showFollowUps(p)
}

// showCalendars lists windows and freezes, with when they let something start next.
func (s *session) showCalendars(p *plan.Plan) {
	if len(p.Header.Calendars) == 0 {
		return
	}
	stacks := make([]int, len(p.Header.Calendars)+1)
	for _, st := range p.Stacks {
		stacks[st.Calendar]++
	}
	fmt.Fprintln(s.env.Out, "\nWhen changes may start (a rollback never waits):")
	now := s.now()
	for i, c := range p.Header.Calendars {
		o := c.At(now)
		state := s.out.paint(green, openingWords(o, now))
		if !o.Open {
			state = s.out.paint(yellow, openingWords(o, now))
		}
		fmt.Fprintln(s.env.Out, s.out.wrap(fmt.Sprintf("  %s: %s", plural(stacks[i+1], "stack"), state), "    "))
		for _, line := range report.CalendarLines(c) {
			fmt.Fprintln(s.env.Out, s.out.wrap("    "+line, "      "))
		}
	}
	if stacks[0] > 0 {
		fmt.Fprintf(s.env.Out, "  %s: at any time\n", plural(stacks[0], "stack"))
	}
}

// showFurtherGates lists the gates of the configuration.
func (s *session) showFurtherGates(p *plan.Plan) {
	gates := p.Header.Rules.Gates
	if len(gates) == 0 {
		return
	}
	stacks := make([]int, len(gates))
	for _, st := range p.Stacks {
		for _, i := range st.Gates {
			stacks[i]++
		}
	}
	fmt.Fprintln(s.env.Out, "\nGates besides those of AWS:")
	for i, g := range gates {
		fmt.Fprintln(s.env.Out, s.out.wrap(fmt.Sprintf("  %s, for %s: %s", report.GateName(g), plural(stacks[i], "stack"), report.GateTarget(g)), "    "))
	}
}

// showFollowUps sums up what is done after changes.
func (s *session) showFollowUps(p *plan.Plan) {
	type key struct{ name, what string }
	counts := map[key]int{}
	for i := range p.Changes {
		if c := &p.Changes[i]; c.Ref.Kind == plan.KindFollowUp {
			counts[key{c.Params[plan.ParamName], report.FollowUp(c)}]++
		}
	}
	if len(counts) == 0 {
		return
	}
	fmt.Fprintln(s.env.Out, "\nFollow-ups, each after the change of its instance or group; the step stays open until they are done:")
	for _, k := range slices.SortedFunc(maps.Keys(counts), func(a, b key) int {
		return cmp.Or(cmp.Compare(a.name, b.name), cmp.Compare(a.what, b.what))
	}) {
		fmt.Fprintln(s.env.Out, s.out.wrap(fmt.Sprintf("  %s× %s: %s", count(counts[k]), k.name, k.what), "    "))
	}
}

// showRules says which rules a plan's approval approves: how much at a time, what must hold, how many failures are borne.
func (s *session) showRules(p *plan.Plan) {
	fmt.Fprintln(s.env.Out, "\nRules that are approved with it:")
	for _, line := range [][2]string{
		{"pace", report.Pace(p.Header.Rules)}, {"gates", report.Gates(p.Header.Rules)}, {"failures", report.Failures(p.Header.Rules)},
	} {
		fmt.Fprintln(s.env.Out, s.out.labelled("  "+s.out.paint(dim, fmt.Sprintf("%-8s", line[0]))+"  ", line[1]))
	}
}

// stepWords lists a stack's steps with how many changes each makes: "canary (1), fleet 10% (3), fleet (26)".
func stepWords(st *plan.Stack) string {
	var out []string
	for _, step := range st.Steps {
		out = append(out, fmt.Sprintf("%s (%s)", step.Name, count(step.Changes)))
	}
	return strings.Join(out, ", ")
}

// showStackHead says of a stack, in detail, when it may start and what it waits for.
func (s *session) showStackHead(p *plan.Plan, st *plan.Stack) {
	if st.Calendar > 0 && st.Calendar <= len(p.Header.Calendars) {
		c, now := p.Header.Calendars[st.Calendar-1], s.now()
		line := "  changes may start: " + openingWords(c.At(now), now) + " (" + strings.Join(report.CalendarLines(c), "; ") + ")"
		fmt.Fprintln(s.env.Out, s.out.wrap(line, "    "))
	}
	for _, i := range st.Gates {
		g := p.Header.Rules.Gates[i]
		fmt.Fprintln(s.env.Out, s.out.wrap("  gate "+report.GateName(g)+": "+report.GateTarget(g), "    "))
	}
	if len(st.After) > 0 {
		fmt.Fprintf(s.env.Out, "  comes after %s\n", plural(len(st.After), "other stack"))
	}
	if st.Last {
		fmt.Fprintln(s.env.Out, "  comes last: it holds a host of imdsctl's own")
	}
}
