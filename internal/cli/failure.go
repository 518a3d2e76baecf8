package cli

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/imdsctl/imdsctl/internal/fleet"
	"github.com/imdsctl/imdsctl/internal/plan"
)

// usageError is a command line or configuration that cannot be carried out.
type usageError struct{ error }

func (e usageError) Unwrap() error { return e.error }

// attention ends a command that has finished with exit code 3. What needs attention is on the screen already.
type attention struct{ why string }

func (a attention) Error() string { return a.why }

// shown is an error whose message is on the screen already.
type shown struct{ error }

func (e shown) Unwrap() error { return e.error }

// misuse makes a usage error with its remedy.
func misuse(where, remedy, format string, args ...any) error {
	return usageError{fleet.Diagnostic{
		Severity: fleet.SeverityError, Where: where, Summary: fmt.Sprintf(format, args...), Remedy: remedy,
	}}
}

// finish prints an error and turns it into the exit code.
func (s *session) finish(ctx context.Context, err error) int {
	if _, ok := errors.AsType[attention](err); err == nil || ok {
		if lost := s.results.lost(); lost != nil {
			err = fleet.Diagnostic{Severity: fleet.SeverityError, Where: "standard output", Summary: lost.Error(),
				Remedy: "What was printed is cut short; what the command does besides was done. Make room, or print to another place."}
		}
	}
	if err == nil {
		if s.warnings > 0 {
			return ExitAttention
		}
		return ExitDone
	}
	if _, ok := errors.AsType[attention](err); ok {
		return ExitAttention
	}
	if _, ok := errors.AsType[shown](err); !ok {
		if errors.Is(err, context.Canceled) && ctx.Err() != nil {
			fmt.Fprintln(s.env.Err, s.err.paint(red, "interrupted"))
		} else {
			s.report(err)
		}
	}
	if _, ok := errors.AsType[usageError](err); ok {
		return ExitUsage
	}
	return ExitFailed
}

// report prints each problem within an error in the form "error: where: summary" and, below it, the remedy.
func (s *session) report(err error) {
	for _, e := range branches(err) {
		d, ok := errors.AsType[fleet.Diagnostic](e)
		if !ok {
			d = fleet.Diagnostic{Severity: fleet.SeverityError, Summary: e.Error(), Remedy: remedyFor(e)}
		} else if rest := strings.TrimSuffix(strings.TrimSuffix(e.Error(),
			d.Error()), ": "); rest != e.Error() && rest != "" {
			d.Summary = rest + ": " + d.Summary
		}
		if d.Severity == "" {
			d.Severity = fleet.SeverityError
		}
		s.diagnose(d)
	}
}

// branches takes joined errors apart: those whose text is that of their parts, a line each, as errors.Join writes it. An
// error that says something of its own about several causes stays whole.
func branches(err error) []error {
	if e, ok := errors.AsType[usageError](err); ok {
		return branches(e.error)
	}
	joined, ok := err.(interface{ Unwrap() []error })
	if !ok {
		return []error{err}
	}
	var texts []string
	var out []error
	for _, e := range joined.Unwrap() {
		texts = append(texts, e.Error())
		out = append(out, branches(e)...)
	}
	if strings.Join(texts, "\n") != err.Error() {
		return []error{err}
	}
	return out
}

// remedyFor knows what to do about errors that carry no remedy of their own.
func remedyFor(err error) string {
	switch {
	case errors.Is(err, plan.ErrEdited):
		return "Make the plan again and have it approved; an approval is for one content only."
	}
	switch fleet.ClassOf(err) {
	case fleet.ErrDenied:
		return "Give the credentials that permission; `imdsctl roles` prints the roles, `imdsctl doctor` checks them."
	case fleet.ErrExpired:
		return "Get new credentials (for example with `aws sso login`) and run the command again; it goes on from here."
	case fleet.ErrThrottled:
		return "Run the command again later, or lower limits.safety in imdsctl.yaml."
	case fleet.ErrTransient, fleet.ErrNotOffered:
		return "Check the network and run the command again; it goes on from here."
	}
	return ""
}

// diagnose prints one diagnostic. A warning makes the command end with exit code 3.
func (s *session) diagnose(d fleet.Diagnostic) {
	colour := red
	switch d.Severity {
	case fleet.SeverityWarning:
		colour = yellow
		s.warnings++
	case fleet.SeverityNote:
		colour = cyan
		if s.quiet {
			return
		}
	}
	line := s.err.paint(colour+bold, string(d.Severity)+":") + " "
	if d.Where != "" {
		line += s.err.paint(bold, d.Where+":") + " "
	}
	fmt.Fprintln(s.env.Err, line+d.Summary)
	if d.Remedy != "" {
		fmt.Fprintln(s.env.Err, s.err.paint(dim, "  → ")+d.Remedy)
	}
}
