package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/imdsctl/imdsctl/internal/app"
	"github.com/imdsctl/imdsctl/internal/fleet"
)

func (s *session) verifyCommand() *cobra.Command {
	var file string
	cmd := &cobra.Command{
		Use: "verify [ROLLOUT…]", Short: "Verify that nobody has altered the journal",
		Long: `Follows the chains of hashes in the journal, of all rollouts if none is named: every event carries the hash of
the one before, so that an event that was altered, left out or added shows, and in the database one that was cut
off at the end as well. With --file it follows a file that ` + "`imdsctl rollout export`" + ` wrote, without the database.
Exit code 1 if a link is broken; the first one is named.`,
		Example: `  imdsctl rollout verify
  imdsctl rollout verify --file journal.jsonl`,
		Annotations: formats("table json"),
		Args: func(cmd *cobra.Command, args []string) error {
			if file != "" {
				return cobra.NoArgs(cmd, args)
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			if file != "" {
				return s.verifyFile(file)
			}
			return s.with(cmd.Context(), func(ctx context.Context, a *app.App) error { return s.verify(ctx, a, args) })
		},
	}
	cmd.Flags().StringVar(&file, "file", "", "verify this exported `file`; - is standard input")
	return cmd
}

type verifyJSON struct {
	Format   int            `json:"imdsctl_verify"`
	Verified []verifiedJSON `json:"verified"`
	Broken   *brokenJSON    `json:"broken,omitempty"`
}

type verifiedJSON struct {
	Rollout string `json:"rollout,omitempty"` // empty for all rollouts, or for a file
	File    string `json:"file,omitempty"`
	Events  int    `json:"events"`
	Chains  int    `json:"chains,omitempty"`
}

type brokenJSON struct {
	Rollout string `json:"rollout"`
	Chain   string `json:"chain"`
	Event   int64  `json:"event"`
	Line    int    `json:"line,omitempty"`
	Problem string `json:"problem"`
}

func (s *session) verify(ctx context.Context, a *app.App, ids []string) error {
	if len(ids) == 0 {
		ids = []string{""}
	}
	d := verifyJSON{Format: jsonVersion, Verified: []verifiedJSON{}}
	for _, id := range ids {
		followed, broken, err := a.VerifyJournal(ctx, id)
		if err != nil {
			return err
		}
		if broken != nil {
			return s.verified(d, broken)
		}
		d.Verified = append(d.Verified, verifiedJSON{Rollout: id, Events: followed.Events, Chains: followed.Chains})
	}
	return s.verified(d, nil)
}

func (s *session) verifyFile(path string) error {
	in, name := io.NopCloser(s.env.In), "standard input"
	if path != "-" {
		f, err := os.Open(path)
		if err != nil {
			return fmt.Errorf("verify the journal: %w", err)
		}
		in, name = f, path
	}
	defer in.Close()
	n, broken, err := app.VerifyExported(in, name)
	if err != nil {
		return err
	}
	d := verifyJSON{Format: jsonVersion, Verified: []verifiedJSON{}}
	if broken == nil {
		d.Verified = append(d.Verified, verifiedJSON{File: name, Events: n})
	}
	return s.verified(d, broken)
}

// verified shows what was followed, and makes a broken link an error.
func (s *session) verified(d verifyJSON, broken *app.JournalBreak) error {
	if broken != nil {
		d.Broken = &brokenJSON{broken.Rollout, broken.Chain, broken.Seq, broken.Line, broken.Problem}
	}
	if s.format == "json" {
		if err := writeJSON(s.env.Out, d); err != nil {
			return err
		}
	} else {
		for _, v := range d.Verified {
			s.showVerified(v)
		}
	}
	if broken == nil {
		return nil
	}
	return fleet.Diagnostic{Severity: fleet.SeverityError, Where: "journal", Summary: broken.String(),
		Remedy: "Compare it with an earlier export or a backup of the database. What is true of AWS, `imdsctl scan` reads."}
}

func (s *session) showVerified(v verifiedJSON) {
	switch {
	case v.File != "":
		fmt.Fprintf(s.env.Out, "%s: %s, every link holds.\n", v.File, plural(v.Events, "event"))
		s.hint("A file cannot show that its end was cut off: compare the number with `imdsctl rollout verify`.")
	case v.Rollout != "":
		fmt.Fprintf(s.env.Out, "%s: %s in %s, every link holds.\n", v.Rollout, plural(v.Events, "event"), plural(v.Chains, "chain"))
	default:
		fmt.Fprintf(s.env.Out, "All rollouts: %s in %s, every link holds.\n", plural(v.Events, "event"), plural(v.Chains, "chain"))
	}
}

func (s *session) exportCommand() *cobra.Command {
	var out string
	var force bool
	cmd := &cobra.Command{
		Use: "export [ROLLOUT]", Short: "Write the journal as JSON lines", Args: cobra.MaximumNArgs(1),
		Long: `Writes the events of a rollout, of all if none is named, oldest first, one JSON document a line, each with its
hash and that of the one before in its chain: who, what, when, on which evidence and approval, before and after,
and AWS's request ids. A file is for its owner's eyes only.`,
		Example: `  imdsctl rollout export 3f9a2c1b --out journal.jsonl
  imdsctl rollout export 3f9a2c1b | jq 'select(.event == "outcome")'`,
		RunE: func(cmd *cobra.Command, args []string) error {
			id := ""
			if len(args) > 0 {
				id = args[0]
			}
			if _, err := os.Stat(out); err == nil && !force && out != "" {
				return misuse(out, "Give another file, or --force.", "there is a file of that name")
			}
			return s.with(cmd.Context(), func(ctx context.Context, a *app.App) error {
				if out == "" {
					return a.ExportJournal(ctx, s.env.Out, id)
				}
				return exportTo(ctx, a, out, id)
			})
		},
	}
	cmd.Flags().StringVarP(&out, "out", "o", "", "write to this `file` instead of standard output")
	cmd.Flags().BoolVar(&force, "force", false, "overwrite an existing file")
	return cmd
}

// exportTo writes a file beside its place and then moves it there, so that no half of a journal is ever found.
func exportTo(ctx context.Context, a *app.App, path, id string) (err error) {
	f, err := os.CreateTemp(filepath.Dir(path), ".imdsctl-export-*") // created with mode 0600
	if err != nil {
		return fmt.Errorf("export the journal: %w", err)
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.Remove(f.Name()))
		}
	}()
	if err := a.ExportJournal(ctx, f, id); err != nil {
		return errors.Join(err, f.Close())
	}
	if err := errors.Join(f.Sync(), f.Close()); err != nil {
		return fmt.Errorf("export the journal to %s: %w", path, err)
	}
	if err := os.Rename(f.Name(), path); err != nil {
		return fmt.Errorf("export the journal to %s: %w", path, err)
	}
	return nil
}
