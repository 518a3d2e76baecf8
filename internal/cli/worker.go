package cli

import (
	"context"
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/imdsctl/imdsctl/internal/app"
)

func (s *session) workerCommand() *cobra.Command {
	var o app.WorkerOptions
	cmd := &cobra.Command{
		Use: "worker", Short: "Carry out rollouts beside other workers, on a PostgreSQL database",
		GroupID: groupDo,
		Args:    cobra.NoArgs,
		Long: `Works on every rollout that the database holds, until it is interrupted. Any number of workers on any number
of machines share the work: each account and region is one worker's at a time, for a few seconds, and one that dies loses
nothing. They need the same configuration file, AWS credentials of their own, and clocks that are roughly right.

Begin rollouts with "imdsctl apply --watch", or with "imdsctl apply", which works as well while it shows how it goes.`,
		Example: `  imdsctl worker --db postgres://imdsctl@db.internal/imdsctl`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return s.with(cmd.Context(), func(ctx context.Context, a *app.App) error {
				fmt.Fprintf(s.env.Err, "working on %s as %s; interrupt to stop\n", a.Database(), app.Holder())
				err := a.Work(ctx, o)
				if errors.Is(err, context.Canceled) {
					err = nil
				}
				return err
			})
		},
	}
	cmd.Flags().IntVar(&o.Lanes, "lanes", 0, "accounts and regions to work in at a time, at most (0: 100)")
	return cmd
}
