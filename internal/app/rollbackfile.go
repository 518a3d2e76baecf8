package app

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"

	"github.com/imdsctl/imdsctl/internal/engine"
	"github.com/imdsctl/imdsctl/internal/fleet"
	"github.com/imdsctl/imdsctl/internal/inventory"
	"github.com/imdsctl/imdsctl/internal/kind"
	"github.com/imdsctl/imdsctl/internal/plan"
)

// writeRollbackFile writes, before the first write to AWS, what would undo the plan by hand, for the day on which
// neither imdsctl nor its database is there. A file that is there already is the same plan's, and is kept; one that the caller names
// and that does not name the plan is refused, for it would undo something else.
func (a *App) writeRollbackFile(p *plan.Plan, rollout, asked string) (string, error) {
	path := a.rollbackPath(p, asked)
	there, err := os.ReadFile(path)
	switch {
	case err == nil && asked != "" && !bytes.Contains(there, []byte(p.Digest)):
		return "", fleet.Diagnostic{Severity: fleet.SeverityError, Where: path,
			Summary: "this file is there already, and does not undo plan " + short(p.Digest) + "; nothing was written",
			Remedy:  "Move it away, or name another with --rollback-file."}
	case err == nil:
		return path, nil
	case !errors.Is(err, fs.ErrNotExist):
		return "", fmt.Errorf("write the rollback file: %w", err)
	}
	if err := writeDurably(path, rollbackScript(p, rollout)); err != nil {
		return "", fmt.Errorf("write the rollback file, without which no change is made: %w", err)
	}
	return path, nil
}

// writeDurably leaves either the whole file or none, for its owner's eyes only.
func writeDurably(path string, content []byte) error {
	f, err := os.CreateTemp(filepath.Dir(path), ".rollback-*") // created with mode 0600
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	if _, err := f.Write(content); err != nil {
		return errors.Join(err, f.Close())
	}
	if err := errors.Join(f.Sync(), f.Close()); err != nil {
		return err
	}
	return os.Rename(f.Name(), path)
}

const rollbackHead = `#!/bin/sh
# Undoes plan %s of %s by hand, in reverse order, with plain AWS CLI commands.
# It was written before the first change was made, so it also names changes that never were; undoing those changes nothing.
# Look at each command before you run it. Where somebody changed a resource since, it overwrites that.
# Run it once with the credentials of each account: commands for other accounts are skipped.

here="$(aws sts get-caller-identity --query Account --output text)" || exit 1
`

// rollbackScript puts the inverse of every change in reverse order, account by account in the order of the waves, the
// last wave first.
func rollbackScript(p *plan.Plan, rollout string) []byte {
	var out bytes.Buffer
	fmt.Fprintf(&out, rollbackHead, p.Digest, p.Header.Created.UTC().Format("2006-01-02 15:04 MST"))
	names := map[string]string{}
	for _, s := range p.Stacks {
		names[s.ID] = s.Name
	}
	account, stack := fleet.AccountID(""), ""
	for i := len(p.Changes) - 1; i >= 0; i-- {
		c := &p.Changes[i]
		if c.Ref.Account != account {
			if account != "" {
				out.WriteString("fi\n")
			}
			account = c.Ref.Account
			fmt.Fprintf(&out, "\nif [ \"$here\" = %s ]; then\n:\n", kind.Quote(string(account)))
		}
		if c.Stack != stack {
			stack = c.Stack
			fmt.Fprintf(&out, "\n# stack %s (%s)\n", comment(names[stack]), stack)
		}
		undoByHand(&out, rollout, c)
	}
	if account != "" {
		out.WriteString("fi\n")
	}
	return out.Bytes()
}

func undoByHand(out *bytes.Buffer, rollout string, c *plan.Change) {
	if c.Ref.Kind == plan.KindFollowUp {
		fmt.Fprintf(out, "\n# %s: nothing to undo. Where it restarted something, that may have to be restarted again.\n", comment(c.Why))
		return
	}
	fmt.Fprintf(out, "\n# %s %s: %s\n", c.Ref.Kind, comment(c.Ref.ID), comment(fleet.DescribeDiff(c.After, c.Before)))
	if len(c.Inverse) == 0 {
		fmt.Fprintf(out, "# %s of it cannot be undone by a command.\n", c.Action)
		return
	}
	made := c.Class == plan.ClassCreate && c.Ref.Kind == inventory.KindLaunchTemplate
	if made {
		fmt.Fprintf(out, "%s=\"$(%s)\"\n", variable(c.ID), findVersion(rollout, c))
		fmt.Fprintf(out, "if [ -n \"$%[1]s\" ] && [ \"$%[1]s\" != null ]; then\n", variable(c.ID))
	}
	for _, command := range c.Inverse {
		out.WriteString(withVariables(command) + "\n")
	}
	if made {
		out.WriteString("fi\n")
	}
}

// findVersion is the command that finds the number of the version a change made, by the marker in its description.
func findVersion(rollout string, c *plan.Change) string {
	var by []string
	for attempt := 1; attempt <= engine.DefaultMaxAttempts; attempt++ {
		token := engine.Token(rollout, c.ID, engine.Forward, attempt)
		by = append(by, fmt.Sprintf("contains(VersionDescription || '', '%s')", token))
	}
	return kind.Command(c.Ref.Place, "ec2", "describe-launch-template-versions", "--launch-template-id", c.Ref.ID,
		"--query", "LaunchTemplateVersions[?"+strings.Join(by, " || ")+"].VersionNumber | [0]", "--output", "json")
}

var outputReference = regexp.MustCompile(`\$\{(c-[0-9a-f]{12})\.[A-Za-z]+\}`)

// withVariables makes the references in a command, which stand within single quotes, variables of the shell.
func withVariables(command string) string {
	return outputReference.ReplaceAllStringFunc(command, func(ref string) string {
		return `'"$` + variable(outputReference.FindStringSubmatch(ref)[1]) + `"'`
	})
}

func variable(change string) string { return strings.ReplaceAll(change, "-", "_") }

// comment keeps a name on its line.
func comment(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return ' '
		}
		return r
	}, s)
}
