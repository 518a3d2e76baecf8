package cli

import (
	"fmt"
	"strings"

	"github.com/imdsctl/imdsctl/internal/app"
	"github.com/imdsctl/imdsctl/internal/plan"
)

// notProven begins the reason of a follow-up that ended without having seen a launch.
const notProven = "not proven"

// unproven tells whether a change is a follow-up that ended without having seen what it waited for.
func unproven(c *plan.Change, s app.ChangeState) bool {
	return c != nil && c.Ref.Kind == plan.KindFollowUp && s.Phase == app.ChangeVerified && strings.HasPrefix(s.Reason, notProven)
}

// showUnproven names the launchers of which no launch was seen, so that somebody may look at their next one.
func (s *session) showUnproven(v *app.RolloutView) {
	const most = 20
	var lines []string
	for i := range v.Plan.Changes {
		c := &v.Plan.Changes[i]
		if state := v.Record.Changes[c.ID]; unproven(c, state) {
			lines = append(lines, fmt.Sprintf("%s (account %s, %s): %s", c.Params[plan.ParamInstance], c.Ref.Account, c.Ref.Region,
				oneLine(state.Reason)))
		}
	}
	if len(lines) == 0 {
		return
	}
	fmt.Fprintf(s.env.Out, "\nNo launch was seen of %s whose launches were changed; look at the next one:\n", plural(len(lines), "launcher"))
	for _, line := range lines[:min(len(lines), most)] {
		fmt.Fprintln(s.env.Out, s.out.labelled("  ○ ", line))
	}
	if len(lines) > most {
		fmt.Fprintf(s.env.Out, "  … and %s more\n", count(len(lines)-most))
	}
}
