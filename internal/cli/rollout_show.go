package cli

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/imdsctl/imdsctl/internal/app"
	"github.com/imdsctl/imdsctl/internal/plan"
	"github.com/imdsctl/imdsctl/internal/rollout"
)

func (s *session) listCommand() *cobra.Command {
	return &cobra.Command{
		Use: "list", Short: "List the rollouts, the latest first", Args: cobra.NoArgs, Annotations: formats("table json csv"),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return s.with(cmd.Context(), s.listRollouts)
		},
	}
}

func (s *session) listRollouts(ctx context.Context, a *app.App) error {
	list, err := a.Rollouts(ctx)
	if err != nil {
		return err
	}
	stop, err := a.Stopped(ctx)
	if err != nil {
		return err
	}
	s.alarm(stop)
	switch s.format {
	case "json":
		l := newList(s.env.Out, "rollouts")
		for _, r := range list {
			if err := l.add(r); err != nil {
				return err
			}
		}
		return l.end()
	case "csv":
		return writeCSV(s.env.Out, []string{"id", "digest", "status", "created", "updated", "approved_by", "reason"},
			func(yield func([]string, error) bool) {
				for _, r := range list {
					row := []string{
						r.ID, r.Digest, string(r.Status), r.Created.Format(time.RFC3339), r.Updated.Format(time.RFC3339), r.Approved,
						r.Reason,
					}
					if !yield(row, nil) {
						return
					}
				}
			})
	}
	if len(list) == 0 {
		fmt.Fprintln(s.env.Out, "There are no rollouts. `imdsctl plan` makes a plan, `imdsctl apply` carries it out.")
		return nil
	}
	s.showRollouts(list)
	return nil
}

func (s *session) showRollouts(list []app.RolloutInfo) {
	var rows [][]string
	for _, r := range list {
		total, made := 0, r.Changes[app.ChangeVerified]
		for _, n := range r.Changes {
			total += n
		}
		failed := r.Stacks[rollout.StackFailed] + r.Stacks[rollout.StackStuck]
		trouble := some(failed)
		if failed > 0 {
			trouble = s.out.paint(red, trouble)
		}
		rows = append(rows, []string{
			short(r.Digest), s.statusWord(r.Status), count(made) + "/" + count(total), trouble,
			r.Updated.UTC().Format("2006-01-02 15:04"), r.Approved, oneLine(r.Reason),
		})
	}
	fmt.Fprint(s.env.Out, s.out.table([]column{
		{title: "ROLLOUT"}, {title: "STATUS"}, {title: "CHANGES", right: true}, {title: "FAILED",
			right: true}, {title: "UPDATED"},
		{title: "APPROVED BY", flexible: true, floor: 11}, {title: "REASON", flexible: true, floor: 12},
	}, rows))
}

func (s *session) rolloutShowCommand() *cobra.Command {
	var events int
	cmd := &cobra.Command{
		Use: "show ROLLOUT", Short: "Show where a rollout stands, stack by stack, and its latest events",
		Args:        cobra.ExactArgs(1),
		Annotations: formats("table json"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return s.with(cmd.Context(), func(ctx context.Context,
				a *app.App) error {
				return s.showRollout(ctx, a, args[0], events)
			})
		},
	}
	cmd.Flags().IntVar(&events, "events", 20, "how many of the latest events")
	return cmd
}

type rolloutJSON struct {
	Format    int             `json:"imdsctl_rollout"`
	ID        string          `json:"id"`
	Digest    string          `json:"digest"`
	Status    rollout.Status  `json:"status"`
	Reason    string          `json:"reason,omitempty"`
	Created   time.Time       `json:"created"`
	Updated   time.Time       `json:"updated"`
	Changes   countsJSON      `json:"changes"`
	Stacks    []stackJSON     `json:"stacks"`
	Approvals []app.Approval  `json:"approvals"`
	Waves     []waveStateJSON `json:"waves"`
	// Stopped is who stopped everything, and why; Waits what only a person or a window can let go on.
	Stopped string             `json:"stopped,omitempty"`
	Waits   []string           `json:"waits_for"`
	Tasks   []taskJSON         `json:"tasks"`
	Events  []app.JournalEvent `json:"events"`
}

type waveStateJSON struct {
	Name     string `json:"name"`
	Approval bool   `json:"asks_for_approval"`
	Approved string `json:"approved_by,omitempty"`
	Stacks   int    `json:"stacks"`
	Done     int    `json:"done"`
	NotDone  int    `json:"not_done"`
}

// taskJSON is something that waits for a person.
type taskJSON struct {
	Change   string `json:"change"`
	Name     string `json:"name"`
	Resource string `json:"resource"`
	Stack    string `json:"stack"`
	Text     string `json:"text"`
}

func rolloutDocument(v *app.RolloutView, c *course, latest []app.JournalEvent) rolloutJSON {
	d := rolloutJSON{
		Format: jsonVersion, ID: v.Record.ID, Digest: v.Record.Digest, Status: v.Record.Status, Reason: v.Record.Reason,
		Created: v.Record.Created, Updated: v.Record.Updated, Changes: countsDocument(v.Counts),
		Stacks: stacksDocument(v.Plan, v.Record), Approvals: append([]app.Approval{}, v.Approvals...), Waves: []waveStateJSON{},
		Stopped: v.Record.Stop, Waits: append([]string{}, c.standstill()...), Tasks: []taskJSON{},
		Events: append([]app.JournalEvent{}, latest...),
	}
	for _, w := range c.waveViews() {
		wave := v.Plan.Header.Waves[w.index]
		d.Waves = append(d.Waves, waveStateJSON{wave.Name, wave.Approval, v.Record.Waves[wave.Name], w.total, w.done, w.bad})
	}
	for _, t := range app.ManualTasks(v.Plan, v.Record) {
		d.Tasks = append(d.Tasks, taskJSON{t.Change.ID, t.Name(), t.Resource(), t.Stack.ID, t.Text()})
	}
	return d
}

func (s *session) showRollout(ctx context.Context, a *app.App, id string, events int) error {
	v, err := a.Rollout(ctx, id)
	if err != nil {
		return err
	}
	c := newCourse(v.Plan, s.now)
	c.restore(v.Record)
	latest := v.Events[max(0, len(v.Events)-max(0, events)):]
	if s.format == "json" {
		return writeJSON(s.env.Out, rolloutDocument(v, c, latest))
	}
	s.alarm(v.Record.Stop)
	fmt.Fprintf(s.env.Out, "Rollout %s is %s: %s.\n", s.out.paint(bold, short(v.Record.Digest)),
		s.statusWord(v.Record.Status),
		countsText(v.Counts))
	if v.Record.Reason != "" {
		fmt.Fprintln(s.env.Out, s.out.wrap("  "+oneLine(v.Record.Reason), "  "))
	}
	for _, ap := range v.Approvals {
		line := fmt.Sprintf("  approved by %s, %s", ap.Actor, ap.At.UTC().Format("2006-01-02 15:04 UTC"))
		if ap.Reason != "" {
			line += ": " + ap.Reason
		}
		fmt.Fprintln(s.env.Out, s.out.wrap(line, "    "))
	}
	s.showWaiting(v, c)
	fmt.Fprintln(s.env.Out)
	s.showStackStates(v)
	s.showUnproven(v)
	if len(latest) > 0 {
		fmt.Fprintln(s.env.Out)
		s.showEvents(v, latest)
	}
	return nil
}

// showWaiting says who approved which wave, and what the rollout waits for.
func (s *session) showWaiting(v *app.RolloutView, c *course) {
	for _, w := range v.Plan.Header.Waves {
		if who := v.Record.Waves[w.Name]; who != "" {
			fmt.Fprintln(s.env.Out, s.out.wrap(fmt.Sprintf("  wave %q approved by %s", w.Name, oneLine(who)), "    "))
		} else if w.Approval {
			fmt.Fprintln(s.env.Out, s.out.wrap(fmt.Sprintf("  wave %q asks for approval: %s", w.Name,
				approveCommand(v.Record.Digest, w.Name)), "    "))
		}
	}
	tasks := app.ManualTasks(v.Plan, v.Record)
	for _, why := range c.standstill() {
		if !strings.Contains(why, "imdsctl rollout done") && !strings.Contains(why, "imdsctl rollout approve") && v.Record.Stop == "" {
			s.showAwaits(why)
		}
	}
	if len(tasks) == 0 {
		return
	}
	const most = 20
	fmt.Fprintf(s.env.Out, "\n%s\n", s.out.paint(yellow+bold, fmt.Sprintf("A person is needed (%s):", plural(len(tasks), "task"))))
	for i, t := range tasks {
		if i == most {
			fmt.Fprintf(s.env.Out, "  … and %s; --format json lists them all.\n", plural(len(tasks)-most, "other task"))
			break
		}
		fmt.Fprintln(s.env.Out, s.out.labelled("  ☐ ", fmt.Sprintf("%s (%s, account %s, %s): %s", t.Resource(), t.Stack.Name,
			t.Stack.Place.Account, t.Stack.Place.Region, oneLine(t.Text()))))
		fmt.Fprintln(s.env.Out, "    "+s.out.paint(bold, c.doneCommand(t)))
	}
}

func (s *session) showStackStates(v *app.RolloutView) {
	var rows [][]string
	for _, st := range v.Plan.Stacks {
		state := v.Record.Stacks[st.ID]
		step := ""
		if state.Step < len(st.Steps) && state.Phase.Active() {
			step = st.Steps[state.Step].Name
		}
		if !state.Due.IsZero() && (state.Phase == rollout.StackBaking || state.Phase == rollout.StackChecking) {
			step += " until " + state.Due.UTC().Format("Jan _2 15:04")
		}
		rows = append(rows, []string{
			turnOf(&st), st.ID, st.Name, string(st.Place.Account), string(st.Place.Region), s.phase(state.Phase),
			step,
			oneLine(state.Reason),
		})
	}
	fmt.Fprint(s.env.Out, s.out.table([]column{
		{title: "WAVE"}, {title: "STACK", flexible: true, floor: 14}, {title: "NAME", flexible: true,
			floor: 14}, {title: "ACCOUNT"},
		{title: "REGION"}, {title: "PHASE"}, {title: "STEP", flexible: true, floor: 6}, {title: "WHY", flexible: true,
			floor: 8},
	}, rows))
}

// turnOf is a stack's wave, and its ring where it is not the first: "2", "2 ring 3".
func turnOf(st *plan.Stack) string {
	if st.Ring == 0 {
		return fmt.Sprint(st.Wave + 1)
	}
	return fmt.Sprintf("%d ring %d", st.Wave+1, st.Ring+1)
}

func (s *session) phase(p rollout.StackPhase) string {
	switch p {
	case rollout.StackDone:
		return s.out.paint(green, string(p))
	case rollout.StackFailed, rollout.StackStuck:
		return s.out.paint(red, string(p))
	case rollout.StackWaiting:
		return s.out.paint(dim, string(p))
	case rollout.StackSkipped, rollout.StackRolledBack, rollout.StackReverting, rollout.StackRevertingStep:
		return s.out.paint(yellow, string(p))
	}
	return s.out.paint(cyan, string(p))
}

// readingsOf puts the data of a gate's event into a line; what was read of single resources is left out.
func readingsOf(detail map[string]string) string {
	g := &app.GateResult{Pass: true}
	for _, k := range slices.Sorted(maps.Keys(detail)) {
		word, _, many := strings.Cut(k, " ")
		ofOne := many && word != string(plan.GateAlarm) && word != string(plan.GateCommand) && word != string(plan.GateWebhook)
		if k != "pass" && k != "reason" && k != "moment" && !ofOne {
			g.Readings = append(g.Readings, app.Reading{Gate: k, Value: detail[k]})
		}
	}
	return gateWords(g)
}

func (s *session) showEvents(v *app.RolloutView, events []app.JournalEvent) {
	names := map[string]string{}
	for _, st := range v.Plan.Stacks {
		names[st.ID] = st.Name
	}
	var rows [][]string
	for _, e := range events {
		what := strings.TrimSpace(names[e.Stack] + " " + e.Change)
		detail := e.Reason
		if detail == "" {
			detail = e.Detail["reason"]
		}
		if detail == "" && e.Name == "gate" {
			detail = readingsOf(e.Detail)
		}
		rows = append(rows, []string{s.out.paint(dim, e.At.UTC().Format("Jan _2 15:04:05")), e.Name, what, e.Actor,
			oneLine(detail)})
	}
	fmt.Fprint(s.env.Out, s.out.table([]column{
		{title: "AT"}, {title: "EVENT"}, {title: "WHAT", flexible: true, floor: 12}, {title: "WHO", flexible: true, floor: 6},
		{title: "WHY", flexible: true, floor: 12},
	}, rows))
}
