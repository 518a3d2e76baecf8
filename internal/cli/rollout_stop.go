package cli

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/imdsctl/imdsctl/internal/app"
)

func (s *session) stopCommand() *cobra.Command {
	var reason string
	cmd := &cobra.Command{
		Use: "stop", Short: "Stop everything: no write of any rollout starts, forward or back", Args: cobra.NoArgs,
		Long: `The switch for emergencies. From the moment it returns no write starts in any rollout of this database, on any
machine, rollbacks and rollouts that begin later included. Calls that were under way go to their end. It holds
until ` + "`imdsctl rollout allow`" + `. Both ask for a reason, which stands in the journal.`,
		Example: `  imdsctl rollout stop --reason "the payment API is down, incident 99"`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if reason == "" {
				return misuse("--reason", "Give --reason; whoever finds everything stopped must know why.", "stopping needs a reason")
			}
			return s.with(cmd.Context(), func(ctx context.Context, a *app.App) error {
				if err := a.StopAll(ctx, reason); err != nil {
					return err
				}
				fmt.Fprintln(s.env.Out, "Everything is stopped: no write starts, forward or back, until `imdsctl rollout allow --reason WHY`.")
				return s.underWay(ctx, a)
			})
		},
	}
	reasonFlag(cmd, &reason)
	return cmd
}

// underWay says how many rollouts are meant. Where it is none, the database may be the wrong one.
func (s *session) underWay(ctx context.Context, a *app.App) error {
	list, err := a.Rollouts(ctx)
	if err != nil {
		return err
	}
	n := 0
	for _, r := range list {
		if !r.Status.Final() {
			n++
		}
	}
	switch n {
	case 0:
		fmt.Fprintln(s.env.Out, "No rollout of this database is under way. If there should be one, look at --db.")
	case 1:
		fmt.Fprintln(s.env.Out, "1 rollout of this database is under way.")
	default:
		fmt.Fprintf(s.env.Out, "%s of this database are under way.\n", plural(n, "rollout"))
	}
	return nil
}

func (s *session) allowCommand() *cobra.Command {
	var reason string
	cmd := &cobra.Command{
		Use: "allow", Short: "Let everything go on that `imdsctl rollout stop` has stopped", Args: cobra.NoArgs,
		Long: `Takes back ` + "`imdsctl rollout stop`" + `. Rollouts that a process works on go on at once; the others when
` + "`imdsctl apply`" + ` or ` + "`imdsctl rollout resume`" + ` carries them on. What was paused stays paused.`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if reason == "" {
				return misuse("--reason", "Give --reason: it stands in the journal beside that of the stop.", "allowing needs a reason")
			}
			return s.with(cmd.Context(), func(ctx context.Context, a *app.App) error {
				if err := a.AllowAll(ctx, reason); err != nil {
					return err
				}
				fmt.Fprintln(s.env.Out, "Allowed: what was stopped may go on.")
				return s.underWay(ctx, a)
			})
		},
	}
	reasonFlag(cmd, &reason)
	return cmd
}

func (s *session) doneCommand() *cobra.Command {
	var reason string
	var failed bool
	cmd := &cobra.Command{
		Use: "done ROLLOUT CHANGE", Short: "Say that a task that only a person can do is done", Args: cobra.ExactArgs(2),
		Long: `Some changes are followed up by a person: their step stays open until somebody says that it is done.
` + "`imdsctl rollout show`" + ` lists what waits. A task is named by its change's id, the beginning of it, or the
resource. With --failed it could not be done: that counts as a failed change of the step.`,
		Example: `  imdsctl rollout done 3f9a2c1b c-0a1b2c3d4e5f
  imdsctl rollout done 3f9a2c1b i-0123456789abcdef0 --failed --reason "it does not come up again"`,
		RunE: func(cmd *cobra.Command, args []string) error {
			return s.with(cmd.Context(), func(ctx context.Context, a *app.App) error {
				task, err := a.CompleteManual(ctx, args[0], args[1], !failed, reason)
				if err != nil {
					return err
				}
				how := "done"
				if failed {
					how = "failed"
				}
				fmt.Fprintf(s.env.Out, "%q of %s is %s, says %s.\n", task.Name(), task.Resource(), how, a.Actor())
				return nil
			})
		},
	}
	reasonFlag(cmd, &reason)
	cmd.Flags().BoolVar(&failed, "failed", false, "it could not be done")
	return cmd
}
