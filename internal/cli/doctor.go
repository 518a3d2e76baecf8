package cli

import (
	"context"
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/imdsctl/imdsctl/internal/app"
)

type doctorOptions struct {
	accounts []string
	write    bool
}

func (s *session) doctorCommand() *cobra.Command {
	var o doctorOptions
	cmd := &cobra.Command{
		Use: "doctor", Short: "Check credentials, roles, regions, clock and database, each with its remedy",
		GroupID: groupSetup,
		Args:    cobra.NoArgs,
		Long: `Checks everything that a scan, and with --write an apply, depends on, and says what to do about each
thing that is wrong. Nothing is changed: writes are only asked about (DryRun).`,
		Annotations: formats("table json"),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return s.with(cmd.Context(), func(ctx context.Context, a *app.App) error { return s.doctor(ctx, a, o) })
		},
	}
	cmd.Flags().StringSliceVar(&o.accounts, "account", nil, "check only these account `ids`")
	cmd.Flags().BoolVar(&o.write, "write", false, "check the write roles too")
	return cmd
}

type doctorJSON struct {
	Format int         `json:"imdsctl_doctor"`
	Checks []checkJSON `json:"checks"`
	Failed int         `json:"failed"`
	Warned int         `json:"warnings"`
}

type checkJSON struct {
	Area    string `json:"area"`
	Subject string `json:"subject,omitempty"`
	Status  string `json:"status"`
	Detail  string `json:"detail,omitempty"`
	Remedy  string `json:"remedy,omitempty"`
}

func (s *session) doctor(ctx context.Context, a *app.App, o doctorOptions) error {
	accounts, err := accountIDs(o.accounts)
	if err != nil {
		return err
	}
	options := app.DoctorOptions{Accounts: accounts, Write: o.write}
	if s.format != "json" {
		area := ""
		options.Progress = func(c app.Check) {
			if c.Area != area {
				area = c.Area
				fmt.Fprintln(s.env.Out, s.out.paint(bold, area))
			}
			s.showCheck(c)
		}
	}
	checks, err := a.Doctor(ctx, options)
	d := doctorJSON{Format: jsonVersion, Checks: []checkJSON{}}
	for _, c := range checks {
		d.Checks = append(d.Checks, checkJSON{c.Area, c.Subject, string(c.Status), c.Detail, c.Remedy})
		switch c.Status {
		case "failed":
			d.Failed++
		case "warning":
			d.Warned++
		}
	}
	if s.format == "json" {
		err = errors.Join(err, writeJSON(s.env.Out, d))
	} else if err == nil {
		fmt.Fprintf(s.env.Out, "\n%s, %s, %s\n", plural(len(checks), "check"), plural(d.Failed, "failure"),
			plural(d.Warned, "warning"))
	}
	switch {
	case err != nil:
		return err
	case d.Failed > 0:
		return shown{fmt.Errorf("%s failed", plural(d.Failed, "check"))}
	case d.Warned > 0:
		return attention{"warnings"}
	}
	return nil
}

func (s *session) showCheck(c app.Check) {
	mark := map[string]string{
		"ok": s.out.paint(green, "✓"), "warning": s.out.paint(yellow, "!"), "failed": s.out.paint(red,
			"✗"), "skipped": s.out.paint(dim, "-"),
	}[string(c.Status)]
	line := "  " + mark + " "
	if c.Subject != "" {
		line += c.Subject + ": "
	}
	fmt.Fprintln(s.env.Out, s.out.wrap(line+c.Detail, "    "))
	if c.Remedy != "" && c.Status != "ok" {
		fmt.Fprintln(s.env.Out, s.out.wrap("    → "+c.Remedy, "      "))
	}
}
