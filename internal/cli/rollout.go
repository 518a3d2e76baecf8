package cli

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/imdsctl/imdsctl/internal/app"
	"github.com/imdsctl/imdsctl/internal/plan"
	"github.com/imdsctl/imdsctl/internal/rollout"
)

func (s *session) rolloutCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use: "rollout", Short: "Approve, list, show, pause, resume, roll back, stop and verify rollouts", GroupID: groupDo,
		Long: `Controls rollouts from any terminal, also while another one runs them. A rollout is named by its id or
by the first characters of its plan's digest.`,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(s.approveCommand(), s.listCommand(), s.rolloutShowCommand(), s.pauseCommand(), s.resumeCommand(),
		s.rollbackCommand(), s.stopCommand(), s.allowCommand(), s.doneCommand(), s.verifyCommand(), s.exportCommand())
	return cmd
}

func reasonFlag(cmd *cobra.Command, reason *string) {
	cmd.Flags().StringVar(reason, "reason", "", "why, for the journal")
}

func (s *session) approveCommand() *cobra.Command {
	var wave, reason string
	cmd := &cobra.Command{
		Use: "approve DIGEST|ROLLOUT", Short: "Approve a plan, or with --wave a wave that asks for it", Args: cobra.ExactArgs(1),
		Long: `Records that you, the user of this machine, approve exactly the plan of this digest. Its first 12 characters
or more will do. With --wave it is a wave of a rollout that has begun: waves that ask for approval stay closed
until somebody gives it, and may be approved before their turn has come.`,
		Example: `  imdsctl rollout approve 3f9a2c1b7e55 --reason "change 4711"
  imdsctl rollout approve 3f9a2c1b7e55 --wave production`,
		RunE: func(cmd *cobra.Command, args []string) error {
			return s.with(cmd.Context(), func(ctx context.Context, a *app.App) error {
				if wave != "" {
					return s.approveWave(ctx, a, args[0], wave, reason)
				}
				return s.approvePlan(ctx, a, args[0], reason)
			})
		},
	}
	reasonFlag(cmd, &reason)
	cmd.Flags().StringVar(&wave, "wave", "", "approve the wave of this `name`")
	return cmd
}

func (s *session) approvePlan(ctx context.Context, a *app.App, name, reason string) error {
	if strings.HasPrefix(name, "r-") {
		view, err := a.Standing(ctx, name)
		if err != nil {
			return err
		}
		name = view.Record.Digest
	}
	approval, err := a.Approve(ctx, name, reason)
	if err != nil {
		return err
	}
	fmt.Fprintf(s.env.Out, "Plan %s approved by %s.\n", s.out.paint(bold, short(approval.Digest)), approval.Actor)
	if view, err := a.Standing(ctx, approval.Digest); err == nil { // it has begun
		for _, w := range view.Plan.Header.Waves {
			if w.Approval && view.Record.Waves[w.Name] == "" {
				s.hint("Wave %q asks for an approval of its own: `%s`.", w.Name, approveCommand(approval.Digest, w.Name))
			}
		}
	}
	return nil
}

func (s *session) approveWave(ctx context.Context, a *app.App, name, wave, reason string) error {
	view, err := a.Standing(ctx, name)
	if err != nil {
		return err
	}
	if who := view.Record.Waves[wave]; who != "" {
		fmt.Fprintf(s.env.Out, "Wave %q was approved before, by %s.\n", wave, oneLine(who))
		return nil
	}
	if err := a.ApproveWave(ctx, view.Record.ID, wave, reason); err != nil {
		return err
	}
	fmt.Fprintf(s.env.Out, "Wave %q of rollout %s approved by %s.\n", wave, s.out.paint(bold, short(view.Record.Digest)), a.Actor())
	if i := slices.IndexFunc(view.Plan.Header.Waves, func(w plan.Wave) bool { return w.Name == wave }); i >= 0 &&
		!view.Plan.Header.Waves[i].Approval {
		s.hint("It did not ask for it: it starts when the waves before it have ended.")
	}
	return nil
}

func (s *session) pauseCommand() *cobra.Command {
	var reason string
	var all bool
	cmd := &cobra.Command{
		Use: "pause ROLLOUT", Short: "Let no further change start", Args: oneOrAll(&all),
		Long: `What is under way goes to its end; nothing else starts until ` + "`imdsctl rollout resume`" + `. With --all every
rollout is paused that has not ended. To stop all at once, rollbacks and later rollouts included, see
` + "`imdsctl rollout stop`.",
		RunE: func(cmd *cobra.Command, args []string) error {
			return s.with(cmd.Context(), func(ctx context.Context, a *app.App) error {
				if all {
					ids, err := a.PauseAll(ctx, reason)
					s.each("Paused", ids)
					return err
				}
				if err := a.PauseRollout(ctx, args[0], reason); err != nil {
					return err
				}
				fmt.Fprintln(s.env.Out, "Paused: no further change starts.")
				return nil
			})
		},
	}
	reasonFlag(cmd, &reason)
	cmd.Flags().BoolVar(&all, "all", false, "every rollout that has not ended")
	return cmd
}

// oneOrAll takes one rollout, or none with --all.
func oneOrAll(all *bool) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if *all {
			return cobra.NoArgs(cmd, args)
		}
		return cobra.ExactArgs(1)(cmd, args)
	}
}

// each says what was done to which rollouts.
func (s *session) each(did string, ids []string) {
	for _, id := range ids {
		fmt.Fprintf(s.env.Out, "%s %s.\n", did, id)
	}
	if len(ids) == 0 {
		fmt.Fprintln(s.env.Out, "There was nothing to do: see `imdsctl rollout list`.")
	}
}

func (s *session) resumeCommand() *cobra.Command {
	var o runOptions
	var all bool
	cmd := &cobra.Command{
		Use: "resume ROLLOUT", Short: "Let a paused or halted rollout go on, and carry it on here", Args: oneOrAll(&all),
		Long: `Takes back a pause or a halt; where there is none, as after an interrupt, the rollout is only carried on. If no
other process works on the rollout, that is done in this terminal; with --no-run it is only allowed to go on.
With --all every paused rollout may go on, and none is carried on here; those that have halted are resumed by
name.`,
		RunE: func(cmd *cobra.Command, args []string) error {
			return s.with(cmd.Context(), func(ctx context.Context, a *app.App) error {
				if all {
					ids, err := a.ResumeAll(ctx, o.reason)
					s.each("Resumed", ids)
					return err
				}
				return s.resume(ctx, a, args[0], o)
			})
		},
	}
	o.flags(cmd)
	cmd.Flags().BoolVar(&all, "all", false, "every paused rollout")
	return cmd
}

// resume takes back what holds a rollout; where nothing does, as after an interrupt, it is only carried on.
func (s *session) resume(ctx context.Context, a *app.App, id string, o runOptions) error {
	view, err := a.Standing(ctx, id)
	if err != nil {
		return err
	}
	switch view.Record.Status {
	case rollout.Running, rollout.Halting, rollout.RollingBack:
		if !o.noRun {
			fmt.Fprintf(s.env.Out, "It is %s, nothing has to be taken back.\n", view.Record.Status)
			return s.carryOn(ctx, a, id, o)
		}
	}
	if err := a.ResumeRollout(ctx, id, o.reason); err != nil {
		return err
	}
	fmt.Fprintln(s.env.Out, "Resumed.")
	return s.carryOn(ctx, a, id, o)
}

func (s *session) rollbackCommand() *cobra.Command {
	var o runOptions
	var stacks, waves []string
	cmd := &cobra.Command{
		Use: "rollback ROLLOUT", Short: "Put back what a rollout changed, whole, by wave or by stack", Args: cobra.ExactArgs(1),
		Long: `Puts every change of the rollout, or of the named waves or stacks, back to what was found, field by field. A
resource that someone else has changed since is left alone and reported. Follow-ups, such as restarts, are not
put back. With a stack go those that came after it: the account's default of its region, which was written
because everything that launches by it was ready. If no other process works on the rollout, it is done in this
terminal; with --no-run it is only asked for. Windows and freezes do not hold a rollback up.`,
		Example: `  imdsctl rollout rollback 3f9a2c1b --stack s-0a1b2c3d4e5f --reason "the batch jobs fail"
  imdsctl rollout rollback 3f9a2c1b --wave production`,
		RunE: func(cmd *cobra.Command, args []string) error {
			return s.with(cmd.Context(), func(ctx context.Context, a *app.App) error {
				var ids []string
				if len(stacks)+len(waves) > 0 {
					var err error
					if ids, err = a.FindStacks(ctx, args[0], stacks, waves); err != nil {
						return err
					}
				}
				if err := a.RollbackRollout(ctx, args[0], ids, o.reason); err != nil {
					return err
				}
				what := "of everything"
				if len(ids) > 0 {
					what = "of " + plural(len(ids), "stack")
				}
				fmt.Fprintf(s.env.Out, "Rollback asked for, %s.\n", what)
				return s.carryOn(ctx, a, args[0], o)
			})
		},
	}
	o.flags(cmd)
	cmd.Flags().StringSliceVar(&stacks, "stack", nil, "only these stacks, by `id` or name")
	cmd.Flags().StringSliceVar(&waves, "wave", nil, "only the stacks of these waves, by `name`")
	return cmd
}

// runOptions are those of commands that carry a rollout on.
type runOptions struct {
	viewOptions
	reason string
	noRun  bool
}

func (o *runOptions) flags(cmd *cobra.Command) {
	reasonFlag(cmd, &o.reason)
	cmd.Flags().BoolVar(&o.noRun, "no-run", false, "leave the work to the process that runs the rollout")
	o.viewOptions.flags(cmd.Flags())
}

// carryOn runs a rollout that is recorded, in the foreground.
func (s *session) carryOn(ctx context.Context, a *app.App, id string, o runOptions) error {
	if o.noRun {
		return nil
	}
	view, err := a.Standing(ctx, id)
	if err != nil {
		return err
	}
	c := newCourse(view.Plan, s.now)
	c.restore(view.Record)
	again := "imdsctl rollout resume " + short(view.Record.Digest)
	return s.run(ctx, a, c, o.viewOptions, again, func(ctx context.Context) (*app.ApplyResult, error) {
		return a.ResumeRun(ctx, view.Record.ID, app.ApplyOptions{Reason: o.reason, Progress: c.observe})
	})
}
