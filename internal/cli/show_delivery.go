package cli

import (
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/imdsctl/imdsctl/internal/plan"
	"github.com/imdsctl/imdsctl/internal/policy"
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
		for _, line := range calendarLines(c) {
			fmt.Fprintln(s.env.Out, s.out.wrap("    "+line, "      "))
		}
	}
	if stacks[0] > 0 {
		fmt.Fprintf(s.env.Out, "  %s: at any time\n", plural(stacks[0], "stack"))
	}
}

func calendarLines(c policy.Calendar) []string {
	var out []string
	for _, w := range c.Windows {
		days := "every day"
		if len(w.Days) > 0 {
			days = strings.Join(w.Days, ", ")
		}
		out = append(out, fmt.Sprintf("window %q: %s, %s to %s, %s", w.Name, days, w.From, w.To, w.Zone))
	}
	for _, f := range c.Freezes {
		out = append(out, fmt.Sprintf("freeze %q: %s to %s, %s", f.Name, f.From, f.To, f.Zone))
	}
	return out
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
		fmt.Fprintln(s.env.Out, s.out.wrap(fmt.Sprintf("  %s, for %s: %s", gateName(g), plural(stacks[i], "stack"), gateTarget(g)), "    "))
	}
}

func gateName(g plan.Gate) string { return fmt.Sprintf("%s %q", g.Type, g.Name) }

// gateTarget is what a gate looks at.
func gateTarget(g plan.Gate) string {
	switch g.Type {
	case plan.GateAlarm:
		return strings.Join(g.Alarms, ", ")
	case plan.GateCommand:
		return strings.Join(g.Run, " ")
	}
	return g.URL
}

// showFollowUps sums up what is done after changes.
func (s *session) showFollowUps(p *plan.Plan) {
	type key struct{ name, what string }
	counts := map[key]int{}
	for i := range p.Changes {
		if c := &p.Changes[i]; c.Ref.Kind == plan.KindFollowUp {
			counts[key{c.Params[plan.ParamName], followUpWords(c)}]++
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

// followUpWords says what a follow-up does.
func followUpWords(c *plan.Change) string {
	switch c.Action {
	case plan.ActionLaunched:
		words := "one instance launched from it requires tokens and passes its status checks"
		if wait := waitOf(c); wait > 0 {
			return words + ", or " + brief(wait) + " pass without a launch"
		}
		return words + ", if there is one at once"
	case plan.ActionReplaced:
		return "all its running instances were launched from it or require tokens, however long that takes"
	case plan.ActionManual:
		return "by hand: " + oneLine(c.Params[plan.ParamText])
	case plan.ActionCommand:
		var words []string
		if err := json.Unmarshal([]byte(c.Params[plan.ParamCommand]), &words); err != nil {
			return "runs a command that cannot be read: " + err.Error()
		}
		return "runs " + strings.Join(words, " ") + " here"
	}
	words := "Systems Manager runs " + c.Params[plan.ParamDocument]
	if parameters := c.Params[plan.ParamParameters]; parameters != "" {
		words += " with " + parameters
	}
	return words
}

// waitOf is how long a follow-up may take.
func waitOf(c *plan.Change) time.Duration {
	d, err := time.ParseDuration(c.Params[plan.ParamTimeout])
	if err != nil {
		return 0
	}
	return d
}

// showRules says which rules a plan's approval approves: how much at a time, what must hold, how many failures are borne.
func (s *session) showRules(p *plan.Plan) {
	fmt.Fprintln(s.env.Out, "\nRules that are approved with it:")
	for _, line := range [][2]string{
		{"pace", paceWords(p.Header.Rules)}, {"gates", rulesGates(p.Header.Rules)}, {"failures", failureWords(p.Header.Rules)},
	} {
		fmt.Fprintln(s.env.Out, s.out.labelled("  "+s.out.paint(dim, fmt.Sprintf("%-8s", line[0]))+"  ", line[1]))
	}
}

func paceWords(r plan.Rules) string {
	words := "up to " + plural(r.MaxStacks, "stack") + " at a time"
	if r.MaxStacksAccount > 0 {
		words += fmt.Sprintf(" (%s in one account)", count(r.MaxStacksAccount))
	}
	words += ", up to " + plural(r.MaxInFlight, "change") + " in flight"
	if r.MaxInFlightAccount > 0 {
		words += fmt.Sprintf(" (%s in one account)", count(r.MaxInFlightAccount))
	}
	return words
}

func rulesGates(r plan.Rules) string {
	gates := []string{fmt.Sprintf("at most %s refused v1 calls in a step", count(r.MaxRejected))}
	for _, g := range []struct {
		on   bool
		name string
	}{{r.Heartbeat, "heartbeat"}, {r.StatusChecks, "status checks"}, {r.GroupHealth, "Auto Scaling group health"},
		{r.TargetHealth, "target group health"}} {
		if g.on {
			gates = append(gates, g.name)
		}
	}
	words := strings.Join(gates, ", ") + "; read every " + brief(r.GateInterval)
	if r.GatePatience > 0 {
		words += "; a stack that fails them beforehand waits up to " + brief(r.GatePatience)
	}
	return words
}

func failureWords(r plan.Rules) string {
	words := "a step bears " + plural(r.MaxFailures, "failed change") + "; with more it is put back, and its stack has failed. "
	if r.HaltOnFailure {
		words += fmt.Sprintf("After more than %s no further stack starts", plural(r.MaxFailedStacks, "failed stack"))
	} else {
		words += fmt.Sprintf("The other stacks of the wave go on; after more than %s the next wave does not begin",
			plural(r.MaxFailedStacks, "failed stack"))
	}
	if r.AccountFailures > 0 {
		words += fmt.Sprintf("; after %s of one account its others are skipped", plural(r.AccountFailures, "failed stack"))
	}
	if r.TotalFailures > 0 {
		words += fmt.Sprintf("; after %s in all everything halts", count(r.TotalFailures))
	}
	if r.Irreversible {
		words += ". CHANGES THAT AWS WOULD NOT LET BE UNDONE ARE MADE ALL THE SAME"
	}
	return words + "."
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
		line := "  changes may start: " + openingWords(c.At(now), now) + " (" + strings.Join(calendarLines(c), "; ") + ")"
		fmt.Fprintln(s.env.Out, s.out.wrap(line, "    "))
	}
	for _, i := range st.Gates {
		g := p.Header.Rules.Gates[i]
		fmt.Fprintln(s.env.Out, s.out.wrap("  gate "+gateName(g)+": "+gateTarget(g), "    "))
	}
	if len(st.After) > 0 {
		fmt.Fprintf(s.env.Out, "  comes after %s\n", plural(len(st.After), "other stack"))
	}
	if st.Last {
		fmt.Fprintln(s.env.Out, "  comes last: it holds a host of imdsctl's own")
	}
}
