package cli

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/imdsctl/imdsctl/internal/app"
	"github.com/imdsctl/imdsctl/internal/plan"
)

func (s *session) rehearseCommand() *cobra.Command {
	var latency, horizon time.Duration
	cmd := &cobra.Command{
		Use: "rehearse PLAN", Short: "Try a plan on a simulated copy of the scanned fleet", GroupID: groupDo,
		Args: cobra.ExactArgs(1),
		Long: `Loads what the last scan found, with the callers of IMDSv1 that were observed, into a simulated AWS with AWS's
limits, and carries the plan out there with the real engine, in accelerated time: weeks take seconds. It says how
long the rollout takes, which calls it makes and how many are throttled, which stacks fail and roll back, and
compares that with the plan's own estimate. No AWS call is made, and neither the database nor the fleet is changed.`,
		Example: `  imdsctl rehearse plan.json
  imdsctl rehearse plan.json --latency 150ms --format json`,
		Annotations: formats("table json"),
		RunE: func(cmd *cobra.Command, args []string) error {
			p, err := readPlan(args[0])
			if err != nil {
				return err
			}
			return s.with(cmd.Context(), func(ctx context.Context, a *app.App) error {
				return s.rehearse(ctx, a, p, app.RehearseOptions{Latency: latency, Horizon: horizon})
			})
		},
	}
	cmd.Flags().DurationVar(&latency, "latency", 0, "`time` that AWS takes for each call")
	cmd.Flags().DurationVar(&horizon, "horizon", 0, "how far ahead to look (400 days unless said)")
	return cmd
}

func (s *session) rehearse(ctx context.Context, a *app.App, p *plan.Plan, o app.RehearseOptions) error {
	if len(p.Stacks) == 0 {
		fmt.Fprintln(s.env.Out, "The plan changes nothing, so there is nothing to rehearse.")
		return nil
	}
	show, stop := s.rehearsalProgress()
	o.Progress = show
	began := time.Now()
	r, err := a.Rehearse(ctx, p, o)
	stop()
	if err != nil {
		return err
	}
	if s.format == "json" {
		err = writeJSON(s.env.Out, rehearsalDocument(p, r))
	} else {
		s.showRehearsal(p, r, time.Since(began))
	}
	if err == nil && (len(r.Failed) > 0 || len(r.Broken) > 0 || r.Status != app.RolloutDone) {
		err = attention{"findings"}
	}
	return err
}

// rehearsalJSON is the document of a rehearsal. Durations are in seconds.
type rehearsalJSON struct {
	Format    int                   `json:"imdsctl_rehearsal"`
	Plan      string                `json:"plan"`
	Status    string                `json:"status"`
	Reason    string                `json:"reason,omitempty"`
	Begin     time.Time             `json:"begin"`
	End       time.Time             `json:"end"`
	Seconds   float64               `json:"duration_seconds"`
	Estimated float64               `json:"estimated_seconds,omitempty"`
	Waves     []rehearsedWave       `json:"waves"`
	Stacks    map[string]int        `json:"stacks"`
	Changes   map[string]int        `json:"changes"`
	Calls     map[string]callsJSON  `json:"calls"`
	Failed    []app.RehearsalFailed `json:"failed"`
	Broken    []app.RehearsalBroken `json:"broken"`
	Callers   int                   `json:"v1_callers"`
	Assumed   []string              `json:"assumed"`
}

type rehearsedWave struct {
	Name      string    `json:"name"`
	Stacks    int       `json:"stacks"`
	Begin     time.Time `json:"begin,omitzero"`
	End       time.Time `json:"end,omitzero"`
	Estimated time.Time `json:"estimated_end,omitzero"`
}

type callsJSON struct {
	Made      int64 `json:"made"`
	Throttled int64 `json:"throttled"`
	// Estimated is what the plan says, the gates' calls included.
	Estimated int `json:"estimated,omitempty"`
}

func rehearsalDocument(p *plan.Plan, r *app.Rehearsal) rehearsalJSON {
	out := rehearsalJSON{Format: jsonVersion, Plan: p.Digest, Status: string(r.Status), Reason: r.Reason, Begin: r.Begun, End: r.Ended,
		Seconds: r.Duration().Seconds(), Stacks: map[string]int{}, Changes: map[string]int{}, Calls: map[string]callsJSON{},
		Failed: append([]app.RehearsalFailed{}, r.Failed...), Broken: append([]app.RehearsalBroken{}, r.Broken...), Callers: r.Callers,
		Assumed: append([]string{}, r.Assumed...)}
	e := p.Header.Estimate
	if e != nil {
		out.Estimated = e.Duration().Seconds()
	}
	for i, w := range r.Waves {
		row := rehearsedWave{Name: w.Name, Stacks: w.Stacks, Begin: w.Begun, End: w.Ended}
		if e != nil && i < len(e.Waves) {
			row.Estimated = e.Waves[i].End
		}
		out.Waves = append(out.Waves, row)
	}
	for phase, n := range r.Stacks {
		out.Stacks[string(phase)] = n
	}
	for phase, n := range r.Changes {
		out.Changes[string(phase)] = n
	}
	for action, n := range r.Calls {
		out.Calls[action] = callsJSON{n.Calls, n.Throttles, estimatedCalls(p, action)}
	}
	return out
}

// estimatedCalls is what the plan says of an action: for its changes, and for reading its gates.
func estimatedCalls(p *plan.Plan, action string) int {
	n := p.Header.Summary.Calls[action]
	if p.Header.Estimate != nil {
		n += p.Header.Estimate.GateCalls[action]
	}
	return n
}

func (s *session) showRehearsal(p *plan.Plan, r *app.Rehearsal, took time.Duration) {
	out := s.env.Out
	s.showRehearsedEnd(p, r, took)
	s.showRehearsedWaves(p, r)
	s.showRehearsedCalls(p, r)
	s.showRehearsedFailures(r)
	if len(r.Assumed) > 0 {
		fmt.Fprintln(out, "\nTaken for granted:")
		for _, a := range r.Assumed {
			fmt.Fprintln(out, s.out.block("  - ", a, "    "))
		}
	}
}

// showRehearsedEnd says how the rollout ended, and how long it took.
func (s *session) showRehearsedEnd(p *plan.Plan, r *app.Rehearsal, took time.Duration) {
	out := s.env.Out
	fmt.Fprintf(out, "Rehearsal of plan %s: the rollout %s after %s", s.out.paint(bold, p.Digest[:12]),
		ended(r), s.out.paint(bold, brief(r.Duration())))
	if e := p.Header.Estimate; e != nil {
		fmt.Fprintf(out, " (the plan estimates %s)", brief(e.Duration()))
	}
	fmt.Fprintf(out, ".\nIt took %s here, in a copy of the fleet with %s of IMDSv1 that the scan saw.\n\n", took.Round(100*time.Millisecond),
		plural(r.Callers, "caller"))
}

// ended says how a rehearsed rollout ended.
func ended(r *app.Rehearsal) string {
	switch {
	case r.Status == app.RolloutHalted:
		return "halts"
	case !r.Status.Final():
		return "has not ended"
	default:
		return "is " + string(r.Status)
	}
}

func (s *session) showRehearsedWaves(p *plan.Plan, r *app.Rehearsal) {
	var rows [][]string
	for i, w := range r.Waves {
		row := []string{fmt.Sprint(i + 1), w.Name, some(w.Stacks), "not begun", "", ""}
		if !w.Begun.IsZero() {
			row[3], row[4] = brief(w.Begun.Sub(r.Begun)), brief(w.Ended.Sub(r.Begun))
		}
		if e := p.Header.Estimate; e != nil && i < len(e.Waves) {
			row[5] = brief(e.Waves[i].End.Sub(e.Begin))
		}
		rows = append(rows, row)
	}
	fmt.Fprint(s.env.Out, s.out.table([]column{
		{title: "WAVE", right: true}, {title: "NAME", flexible: true, floor: 10}, {title: "STACKS", right: true},
		{title: "BEGINS AFTER", right: true}, {title: "ENDS AFTER", right: true}, {title: "ESTIMATED", right: true},
	}, rows))
}

func (s *session) showRehearsedCalls(p *plan.Plan, r *app.Rehearsal) {
	actions := slices.SortedFunc(maps.Keys(r.Calls), func(a, b string) int {
		return cmp.Or(cmp.Compare(r.Calls[b].Calls, r.Calls[a].Calls), cmp.Compare(a, b))
	})
	var rows [][]string
	for _, action := range actions {
		n := r.Calls[action]
		throttled := some(n.Throttles)
		if n.Throttles > 0 {
			throttled = s.out.paint(yellow, throttled)
		}
		rows = append(rows, []string{action, count(n.Calls), throttled, some(estimatedCalls(p, action))})
	}
	fmt.Fprintln(s.env.Out)
	fmt.Fprint(s.env.Out, s.out.table([]column{
		{title: "AWS CALL"}, {title: "MADE", right: true}, {title: "THROTTLED", right: true}, {title: "ESTIMATED", right: true},
	}, rows))
}

func (s *session) showRehearsedFailures(r *app.Rehearsal) {
	out := s.env.Out
	if len(r.Failed) == 0 && len(r.Broken) == 0 {
		fmt.Fprintln(out, "\n"+s.out.paint(green, "Nothing failed, and nothing is broken at the end."))
		return
	}
	const most = 12
	if len(r.Failed) > 0 {
		fmt.Fprintf(out, "\nNot done: %s\n", plural(len(r.Failed), "stack"))
		for _, f := range r.Failed[:min(most, len(r.Failed))] {
			fmt.Fprintln(out, s.out.block("  ", fmt.Sprintf("%s in %s (wave %s): %s: %s", f.Stack, f.Place, f.Wave, f.Phase, f.Reason), "      "))
		}
		if n := len(r.Failed) - most; n > 0 {
			fmt.Fprintf(out, "  and %s more; --format json lists them\n", count(n))
		}
	}
	if len(r.Broken) > 0 {
		fmt.Fprintf(out, "\nBroken at the end:\n")
		for _, b := range r.Broken[:min(most, len(r.Broken))] {
			fmt.Fprintln(out, s.out.block("  ", fmt.Sprintf("%s in %s/%s: %s", b.Instance, b.Account, b.Region, b.Why), "      "))
		}
		if n := len(r.Broken) - most; n > 0 {
			fmt.Fprintf(out, "  and %s more; --format json lists them\n", count(n))
		}
	}
}
