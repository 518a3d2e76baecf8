package cli

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/imdsctl/imdsctl/internal/app"
	"github.com/imdsctl/imdsctl/internal/rollout"
)

func (s *session) rolloutCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use: "rollout", Short: "Approve plans; list, show, pause, resume and roll back rollouts", GroupID: groupDo,
		Long: `Controls rollouts from any terminal, also while another one runs them. A rollout is named by its id or
by the first characters of its plan's digest.`,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(s.approveCommand(), s.listCommand(), s.rolloutShowCommand(), s.pauseCommand(), s.resumeCommand(),
		s.rollbackCommand())
	return cmd
}

// control makes a subcommand that names one rollout and may give a reason.
func (s *session) control(use, short, long string,
	run func(context.Context, *app.App, string, string) error) *cobra.Command {
	var reason string
	cmd := &cobra.Command{
		Use: use, Short: short, Long: long, Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return s.with(cmd.Context(), func(ctx context.Context, a *app.App) error { return run(ctx, a, args[0], reason) })
		},
	}
	cmd.Flags().StringVar(&reason, "reason", "", "why, for the journal")
	return cmd
}

func (s *session) approveCommand() *cobra.Command {
	return s.control("approve DIGEST", "Approve the plan of a digest, as the user of this machine",
		"Records that you approve exactly the plan of this digest. Its first 8 characters or more will do.",
		func(ctx context.Context, a *app.App, digest, reason string) error {
			approval, err := a.Approve(ctx, digest, reason)
			if err != nil {
				return err
			}
			fmt.Fprintf(s.env.Out, "Plan %s approved by %s.\n", s.out.paint(bold, short(approval.Digest)), approval.Actor)
			return nil
		})
}

func (s *session) pauseCommand() *cobra.Command {
	return s.control("pause ROLLOUT", "Let no further change start",
		"What is under way goes to its end; nothing else starts until `imdsctl rollout resume`.",
		func(ctx context.Context, a *app.App, id, reason string) error {
			if err := a.PauseRollout(ctx, id, reason); err != nil {
				return err
			}
			fmt.Fprintln(s.env.Out, "Paused: no further change starts.")
			return nil
		})
}

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
	Format    int                `json:"imdsctl_rollout"`
	ID        string             `json:"id"`
	Digest    string             `json:"digest"`
	Status    rollout.Status     `json:"status"`
	Reason    string             `json:"reason,omitempty"`
	Created   time.Time          `json:"created"`
	Updated   time.Time          `json:"updated"`
	Changes   countsJSON         `json:"changes"`
	Stacks    []stackJSON        `json:"stacks"`
	Approvals []app.Approval     `json:"approvals"`
	Events    []app.JournalEvent `json:"events"`
}

func (s *session) showRollout(ctx context.Context, a *app.App, id string, events int) error {
	v, err := a.Rollout(ctx, id)
	if err != nil {
		return err
	}
	latest := v.Events[max(0, len(v.Events)-max(0, events)):]
	if s.format == "json" {
		return writeJSON(s.env.Out, rolloutJSON{
			jsonVersion, v.Record.ID, v.Record.Digest, v.Record.Status, v.Record.Reason, v.Record.Created, v.Record.Updated,
			countsDocument(v.Counts), stacksDocument(v.Plan, v.Record), append([]app.Approval{}, v.Approvals...),
			append([]app.JournalEvent{}, latest...),
		})
	}
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
	fmt.Fprintln(s.env.Out)
	s.showStackStates(v)
	if len(latest) > 0 {
		fmt.Fprintln(s.env.Out)
		s.showEvents(v, latest)
	}
	return nil
}

func (s *session) showStackStates(v *app.RolloutView) {
	var rows [][]string
	for _, st := range v.Plan.Stacks {
		state := v.Record.Stacks[st.ID]
		step := ""
		if state.Step < len(st.Steps) && state.Phase.Active() {
			step = st.Steps[state.Step].Name
		}
		if !state.Due.IsZero() && state.Phase == rollout.StackBaking {
			step += " until " + state.Due.UTC().Format("Jan _2 15:04")
		}
		rows = append(rows, []string{
			fmt.Sprint(st.Wave + 1), st.ID, st.Name, string(st.Place.Account), string(st.Place.Region), s.phase(state.Phase),
			step,
			oneLine(state.Reason),
		})
	}
	fmt.Fprint(s.env.Out, s.out.table([]column{
		{title: "WAVE", right: true}, {title: "STACK", flexible: true, floor: 14}, {title: "NAME", flexible: true,
			floor: 14}, {title: "ACCOUNT"},
		{title: "REGION"}, {title: "PHASE"}, {title: "STEP", flexible: true, floor: 6}, {title: "WHY", flexible: true,
			floor: 8},
	}, rows))
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
		rows = append(rows, []string{s.out.paint(dim, e.At.UTC().Format("Jan _2 15:04:05")), e.Name, what, e.Actor,
			oneLine(detail)})
	}
	fmt.Fprint(s.env.Out, s.out.table([]column{
		{title: "AT"}, {title: "EVENT"}, {title: "WHAT", flexible: true, floor: 12}, {title: "WHO", flexible: true, floor: 6},
		{title: "WHY", flexible: true, floor: 12},
	}, rows))
}

func (s *session) resumeCommand() *cobra.Command {
	var o runOptions
	cmd := &cobra.Command{
		Use: "resume ROLLOUT", Short: "Let a paused or halted rollout go on, and carry it on here", Args: cobra.ExactArgs(1),
		Long: `Takes back a pause or a halt. If no other process works on the rollout, it is carried on in this
terminal; with --no-run it is only allowed to go on.`,
		RunE: func(cmd *cobra.Command, args []string) error {
			return s.with(cmd.Context(), func(ctx context.Context, a *app.App) error {
				if err := a.ResumeRollout(ctx, args[0], o.reason); err != nil {
					return err
				}
				fmt.Fprintln(s.env.Out, "Resumed.")
				return s.carryOn(ctx, a, args[0], o)
			})
		},
	}
	o.flags(cmd)
	return cmd
}

func (s *session) rollbackCommand() *cobra.Command {
	var o runOptions
	var stacks []string
	cmd := &cobra.Command{
		Use: "rollback ROLLOUT", Short: "Put back what a rollout changed, whole or by stack", Args: cobra.ExactArgs(1),
		Long: `Puts every change of the rollout, or of the named stacks, back to what was found, field by field. A
resource that someone else has changed since is left alone and reported. With a stack go those that came after it: the
account's default of its region, which was written because everything that launches by it was ready. If no other
process works on the rollout, it is done in this terminal; with --no-run it is only asked for.`,
		Example: `  imdsctl rollout rollback 3f9a2c1b --stack s-0a1b2c3d4e5f --reason "the batch jobs fail"`,
		RunE: func(cmd *cobra.Command, args []string) error {
			return s.with(cmd.Context(), func(ctx context.Context, a *app.App) error {
				if err := a.RollbackRollout(ctx, args[0], stacks, o.reason); err != nil {
					return err
				}
				fmt.Fprintln(s.env.Out, "Rollback asked for.")
				return s.carryOn(ctx, a, args[0], o)
			})
		},
	}
	o.flags(cmd)
	cmd.Flags().StringSliceVar(&stacks, "stack", nil, "only these stacks, by `id`")
	return cmd
}

// runOptions are those of commands that carry a rollout on.
type runOptions struct {
	reason        string
	noRun, noLive bool
}

func (o *runOptions) flags(cmd *cobra.Command) {
	cmd.Flags().StringVar(&o.reason, "reason", "", "why, for the journal")
	cmd.Flags().BoolVar(&o.noRun, "no-run", false, "leave the work to the process that runs the rollout")
	cmd.Flags().BoolVar(&o.noLive, "no-live", false, "one line an event instead of a live picture")
}

// carryOn runs a rollout that is recorded, in the foreground.
func (s *session) carryOn(ctx context.Context, a *app.App, id string, o runOptions) error {
	if o.noRun {
		return nil
	}
	view, err := a.Rollout(ctx, id)
	if err != nil {
		return err
	}
	c := newCourse(view.Plan, s.now)
	c.restore(view.Record)
	stop := s.follow(ctx, a, c, o.noLive)
	result, err := a.ResumeRun(ctx, view.Record.ID, app.ApplyOptions{Reason: o.reason, Progress: c.observe})
	stop()
	return s.applied(ctx, result, err, "imdsctl rollout resume "+short(view.Record.Digest))
}
