package report

import (
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/imdsctl/imdsctl/internal/plan"
	"github.com/imdsctl/imdsctl/internal/policy"
)

// Brief writes a duration as people say it: "24h20m".
func Brief(d time.Duration) string {
	switch {
	case d < 0:
		return "0s"
	case d < 10*time.Second:
		return fmt.Sprintf("%.1fs", d.Seconds())
	case d < time.Minute:
		return fmt.Sprintf("%ds", int(d.Seconds()))
	case d < time.Hour:
		return fmt.Sprintf("%dm%02ds", int(d.Minutes()), int(d.Seconds())%60)
	case d < 48*time.Hour:
		return fmt.Sprintf("%dh%02dm", int(d.Hours()), int(d.Minutes())%60)
	default:
		return fmt.Sprintf("%dd%dh", int(d.Hours())/24, int(d.Hours())%24)
	}
}

// Count writes a number with its thousands apart: "3,812".
func Count[N int | int64](n N) string {
	s := strconv.FormatInt(int64(n), 10)
	for i := len(s) - 3; i > 0 && s[i-1] != '-'; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}

// Plural gives "1 stack", "3 stacks".
func Plural[N int | int64](n N, noun string) string {
	switch {
	case n == 1:
		return "1 " + noun
	case strings.HasSuffix(noun, "y") && !strings.HasSuffix(noun, "ay"):
		return Count(n) + " " + noun[:len(noun)-1] + "ies"
	}
	return Count(n) + " " + noun + "s"
}

// CalendarLines lists the windows and freezes of a calendar.
func CalendarLines(c policy.Calendar) []string {
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

// GateName names a gate of the configuration.
func GateName(g plan.Gate) string { return fmt.Sprintf("%s %q", g.Type, g.Name) }

// GateTarget is what a gate looks at.
func GateTarget(g plan.Gate) string {
	switch g.Type {
	case plan.GateAlarm:
		return strings.Join(g.Alarms, ", ")
	case plan.GateCommand:
		return strings.Join(g.Run, " ")
	}
	return g.URL
}

// FollowUp says what a follow-up does.
func FollowUp(c *plan.Change) string {
	switch c.Action {
	case plan.ActionLaunched:
		words := "one instance launched from it requires tokens and passes its status checks"
		if wait := waitOf(c); wait > 0 {
			return words + ", or " + Brief(wait) + " pass without a launch"
		}
		return words + ", if there is one at once"
	case plan.ActionReplaced:
		return "all its running instances were launched from it or require tokens, however long that takes"
	case plan.ActionManual:
		return "by hand: " + strings.Join(strings.Fields(c.Params[plan.ParamText]), " ")
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

// Pace says how much a rollout does at a time.
func Pace(r plan.Rules) string {
	words := "up to " + Plural(r.MaxStacks, "stack") + " at a time"
	if r.MaxStacksAccount > 0 {
		words += fmt.Sprintf(" (%s in one account)", Count(r.MaxStacksAccount))
	}
	words += ", up to " + Plural(r.MaxInFlight, "change") + " in flight"
	if r.MaxInFlightAccount > 0 {
		words += fmt.Sprintf(" (%s in one account)", Count(r.MaxInFlightAccount))
	}
	return words
}

// Gates says what must hold during and after each step.
func Gates(r plan.Rules) string {
	gates := []string{fmt.Sprintf("at most %s refused v1 calls in a step", Count(r.MaxRejected))}
	for _, g := range []struct {
		on   bool
		name string
	}{
		{r.Heartbeat, "heartbeat"}, {r.StatusChecks, "status checks"}, {r.GroupHealth, "Auto Scaling group health"},
		{r.TargetHealth, "target group health"},
	} {
		if g.on {
			gates = append(gates, g.name)
		}
	}
	words := strings.Join(gates, ", ") + "; read every " + Brief(r.GateInterval)
	if r.GatePatience > 0 {
		words += "; a stack that fails them beforehand waits up to " + Brief(r.GatePatience)
	}
	return words
}

// Failures says how many failures are borne, and what happens after more.
func Failures(r plan.Rules) string {
	words := "a step bears " + Plural(r.MaxFailures, "failed change") + "; with more it is put back, and its stack has failed. "
	if r.HaltOnFailure {
		words += fmt.Sprintf("After more than %s no further stack starts", Plural(r.MaxFailedStacks, "failed stack"))
	} else {
		words += fmt.Sprintf("The other stacks of the wave go on; after more than %s the next wave does not begin",
			Plural(r.MaxFailedStacks, "failed stack"))
	}
	if r.AccountFailures > 0 {
		words += fmt.Sprintf("; after %s of one account its others are skipped", Plural(r.AccountFailures, "failed stack"))
	}
	if r.TotalFailures > 0 {
		words += fmt.Sprintf("; after %s in all everything halts", Count(r.TotalFailures))
	}
	if r.Irreversible {
		words += ". CHANGES THAT AWS WOULD NOT LET BE UNDONE ARE MADE ALL THE SAME"
	}
	return words + "."
}
