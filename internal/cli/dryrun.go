package cli

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/schollz/progressbar/v3"

	"github.com/imdsctl/imdsctl/internal/app"
	"github.com/imdsctl/imdsctl/internal/fleet"
	"github.com/imdsctl/imdsctl/internal/plan"
)

// dryRun says what apply would do with a plan now, and writes nothing.
func (s *session) dryRun(ctx context.Context, a *app.App, p *plan.Plan, o applyOptions) error {
	progress, stop := s.dryProgress()
	result, err := a.DryRun(ctx, p, app.DryRunOptions{MaxScanAge: o.maxAge, AllowStale: o.allowStale, Progress: progress})
	stop()
	if result == nil || result.Report == nil {
		return err
	}
	for _, d := range result.Notes {
		s.diagnose(d)
	}
	report := result.Report
	if s.format == "json" {
		if e := writeJSON(s.env.Out, dryDocument(p, result, err)); e != nil {
			return errors.Join(err, e)
		}
	} else {
		s.showDry(report)
		s.showDryTotals(report)
	}
	if err != nil {
		return err
	}
	if changes, stacks := dryTrouble(report); changes+stacks > 0 {
		return attention{plural(changes, "change") + " would not be made"}
	}
	return nil
}

// dryTrouble counts the changes that would not be made, as far as can be told, and the stacks that would not get done.
func dryTrouble(r *app.DryRunReport) (changes, stacks int) {
	for i := range r.Changes {
		if !r.Changes[i].Outcome.Fine() {
			changes++
		}
	}
	for i := range r.Stacks {
		if r.Stacks[i].Fails {
			stacks++
		}
	}
	return changes, stacks
}

// dryProgress draws a dry run's progress on standard error while a person looks at it. stop takes it away.
func (s *session) dryProgress() (show func(app.DryRunProgress), stop func()) {
	if s.quiet || !s.err.terminal {
		return nil, func() {}
	}
	bar := progressbar.NewOptions(1,
		progressbar.OptionSetWriter(s.env.Err), progressbar.OptionClearOnFinish(), progressbar.OptionSetWidth(16),
		progressbar.OptionSetPredictTime(false), progressbar.OptionSetElapsedTime(false),
		progressbar.OptionThrottle(50*time.Millisecond),
		progressbar.OptionSetTheme(progressbar.Theme{Saucer: "█", SaucerPadding: "░", BarStart: "", BarEnd: ""}),
		progressbar.OptionEnableColorCodes(false),
	)
	return func(p app.DryRunProgress) {
		bar.ChangeMax(max(p.Changes, 1) + 1) // never full, so that the bar is not taken away before the end
		bar.Describe(dryLine(p))
		_ = bar.Set(p.Done) // a bar that cannot be drawn is no failure
	}, func() { _ = bar.Clear() }
}

func dryLine(p app.DryRunProgress) string {
	line := fmt.Sprintf("dry run %s/%s changes, %d/%d places", count(p.Done), count(p.Changes), p.PlacesDone, p.Places)
	if p.Attention > 0 {
		line += fmt.Sprintf(", %s would not be made", count(p.Attention))
	}
	return line
}

// dryWords are the outcomes in a person's words, with their colours.
func dryWords(o app.DryRunOutcome) (string, style) {
	switch o {
	case "would-write":
		return "would be written", green
	case "compared":
		return "would be written, unasked", green
	case "found-as-wanted":
		return "found as wanted", green
	case "by-hand":
		return "by hand", cyan
	case "made-already":
		return "made already", green
	case "not-asked":
		return "could not be asked", yellow
	case "endpoint-disabled":
		return "endpoint disabled", yellow
	case "no-undo":
		return "could not be undone", red
	case "conflict", "skipped", "ended":
		return string(o), yellow
	}
	return string(o), red
}

// showDry lists every change, by stack and step, with what is to be said of it below.
func (s *session) showDry(r *app.DryRunReport) {
	byStack := map[string][]*app.DryRunChange{}
	for i := range r.Changes {
		id := r.Changes[i].Change.Stack
		byStack[id] = append(byStack[id], &r.Changes[i])
	}
	for i := range r.Stacks {
		st := &r.Stacks[i]
		fmt.Fprintf(s.env.Out, "%s %s  wave %d, account %s, %s\n", s.out.paint(bold, st.Stack.ID),
			s.out.paint(bold, st.Stack.Name), st.Stack.Wave+1, st.Stack.Place.Account, st.Stack.Place.Region)
		step, said := -1, ""
		for _, c := range byStack[st.Stack.ID] {
			if c.Change.Step != step {
				step, said = c.Change.Step, ""
				fmt.Fprintf(s.env.Out, "  %s\n", s.out.paint(cyan, st.Stack.Steps[step].Name))
			}
			said = s.showDryChange(c, said)
		}
		if st.Fails {
			fmt.Fprintln(s.env.Out, s.out.labelled("  "+s.out.paint(red, "✗")+" ", "this stack would not get done: "+st.Reason))
		}
		fmt.Fprintln(s.env.Out)
	}
}

// showDryChange shows a change. A reason that was said of the change before it is not said again.
func (s *session) showDryChange(c *app.DryRunChange, said string) string {
	words, colour := dryWords(c.Outcome)
	name := ""
	if c.Change.Name != "" && c.Change.Name != c.Change.Ref.ID {
		name = " " + visible(c.Change.Name)
	}
	fmt.Fprintf(s.env.Out, "    %s  %s%s  %s\n", s.out.paint(colour, fmt.Sprintf("%-25s", words)),
		s.out.paint(bold, c.Change.Ref.ID), name, s.out.paint(dim, c.Change.Action))
	reason := oneLine(c.Reason)
	if reason != "" && reason != said {
		fmt.Fprintln(s.env.Out, s.out.labelled("      ", reason))
	}
	for _, u := range c.Unasked {
		fmt.Fprintln(s.env.Out, s.out.labelled("      ", "not asked: "+oneLine(u)))
	}
	return reason
}

// showDryTotals counts outcomes by kind.
func (s *session) showDryTotals(r *app.DryRunReport) {
	totals := dryTotals(r)
	columns := []column{{title: "OUTCOME"}}
	kinds := slices.Sorted(maps.Keys(totals))
	for _, k := range kinds {
		columns = append(columns, column{title: strings.ToUpper(k), right: true})
	}
	var rows [][]string
	for _, o := range app.DryRunOutcomes() {
		words, _ := dryWords(o)
		row, sum := []string{words}, 0
		for _, k := range kinds {
			row = append(row, some(totals[k][o]))
			sum += totals[k][o]
		}
		if sum > 0 {
			rows = append(rows, row)
		}
	}
	if len(rows) > 0 {
		fmt.Fprintln(s.env.Out, s.out.table(columns, rows))
	}
	bad, stacks := dryTrouble(r)
	if bad+stacks == 0 {
		fmt.Fprintf(s.env.Out, "Nothing was written. As far as can be told, %s would be made.\n",
			plural(len(r.Changes), "change"))
		return
	}
	line := fmt.Sprintf("Nothing was written. %s of %s would not be made or could not be asked about", count(bad),
		plural(len(r.Changes), "change"))
	if stacks > 0 {
		line += ", and " + plural(stacks, "stack") + " would not get done"
	}
	fmt.Fprintln(s.env.Out, line+".")
	if r.Halt != "" {
		fmt.Fprintln(s.env.Out, s.out.wrap(r.Halt+".", ""))
	}
}

// dryTotals counts changes by kind and outcome.
func dryTotals(r *app.DryRunReport) map[string]map[app.DryRunOutcome]int {
	out := map[string]map[app.DryRunOutcome]int{}
	for i := range r.Changes {
		c := &r.Changes[i]
		if out[c.Change.Ref.Kind] == nil {
			out[c.Change.Ref.Kind] = map[app.DryRunOutcome]int{}
		}
		out[c.Change.Ref.Kind][c.Outcome]++
	}
	return out
}

type dryRunJSON struct {
	Format  int                                  `json:"imdsctl_dry_run"`
	Digest  string                               `json:"digest"`
	Error   string                               `json:"error,omitempty"`
	Halt    string                               `json:"halt,omitempty"`
	Notes   []fleet.Diagnostic                   `json:"notes"`
	Summary map[string]map[app.DryRunOutcome]int `json:"summary"` // by kind and outcome
	Stacks  []dryStackJSON                       `json:"stacks"`
	Changes []dryChangeJSON                      `json:"changes"`
}

type dryStackJSON struct {
	ID    string      `json:"id"`
	Name  string      `json:"name"`
	Wave  int         `json:"wave"`
	Place fleet.Place `json:"place"`
	// Done tells whether it would get done, as far as can be told; FailsAt is the step that would fail.
	Done    bool   `json:"would_get_done"`
	FailsAt string `json:"fails_at,omitempty"`
	Reason  string `json:"reason,omitempty"`
}

type dryChangeJSON struct {
	ID      string            `json:"id"`
	Ref     fleet.Ref         `json:"ref"`
	Name    string            `json:"name,omitempty"`
	Action  string            `json:"action"`
	Stack   string            `json:"stack"`
	Step    int               `json:"step"`
	Outcome app.DryRunOutcome `json:"outcome"`
	// Fine tells whether it would be made, as far as can be told.
	Fine    bool     `json:"fine"`
	Reason  string   `json:"reason,omitempty"`
	Unasked []string `json:"not_asked,omitempty"`
}

func dryDocument(p *plan.Plan, result *app.DryRunResult, err error) dryRunJSON {
	d := dryRunJSON{Format: jsonVersion, Digest: p.Digest, Halt: result.Report.Halt, Notes: append([]fleet.Diagnostic{}, result.Notes...),
		Summary: dryTotals(result.Report), Stacks: []dryStackJSON{}, Changes: []dryChangeJSON{}}
	if err != nil {
		d.Error = err.Error()
	}
	for _, st := range result.Report.Stacks {
		j := dryStackJSON{ID: st.Stack.ID, Name: st.Stack.Name, Wave: st.Stack.Wave, Place: st.Stack.Place, Done: !st.Fails,
			Reason: st.Reason}
		if st.Step >= 0 {
			j.FailsAt = st.Stack.Steps[st.Step].Name
		}
		d.Stacks = append(d.Stacks, j)
	}
	for _, c := range result.Report.Changes {
		d.Changes = append(d.Changes, dryChangeJSON{c.Change.ID, c.Change.Ref, c.Change.Name, c.Change.Action, c.Change.Stack,
			c.Change.Step, c.Outcome, c.Outcome.Fine(), c.Reason, c.Unasked})
	}
	return d
}
