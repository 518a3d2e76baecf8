package cli

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/imdsctl/imdsctl/internal/app"
	"github.com/imdsctl/imdsctl/internal/fleet"
	"github.com/imdsctl/imdsctl/internal/kind"
	"github.com/imdsctl/imdsctl/internal/plan"
	"github.com/imdsctl/imdsctl/internal/rollout"
)

type applyOptions struct {
	viewOptions
	yes, allowStale, dryRun, watch bool
	reason, rollbackFile           string
	maxAge                         time.Duration
}

// viewOptions say how a run is shown, and whether it waits.
type viewOptions struct {
	noLive, verbose, noWait bool
}

func (o *viewOptions) flags(f *pflag.FlagSet) {
	f.BoolVar(&o.noLive, "no-live", false, "one line an event instead of a live picture")
	f.BoolVarP(&o.verbose, "verbose", "v", false, "a line for every change as well")
	f.BoolVar(&o.noWait, "no-wait", false, "return with exit code 3 as soon as only a person or a window can let it go on")
}

func (s *session) applyCommand() *cobra.Command {
	var o applyOptions
	cmd := &cobra.Command{
		Use: "apply PLAN", Short: "Carry out an approved plan in waves, or carry it on", GroupID: groupDo,
		Args: cobra.ExactArgs(1),
		Long: `Carries out a plan: reads each resource again, writes it, verifies it, watches the gates, goes on to the
next step, and puts a step back by itself when a gate fails. Only changes of the approved plan are made; what
has changed since the plan is a conflict and is left alone. A file of AWS CLI commands that undo everything is
written before the first change.

It may be interrupted or killed at any time: running it again carries on from the journal, and nothing is done
twice. What waits for a person or for a maintenance window is waited for; with --no-wait, for pipelines, it says
what is awaited and ends with exit code 3, and the next run goes on.

With --dry-run nothing is written, neither to AWS nor to the database, and no approval is needed: each
resource is read again and compared, AWS is asked by its own DryRun where it offers one, and for every change
it is said what apply would do now. Windows and gates are not looked at.`,
		Example: `  imdsctl apply plan.json                 # approved with imdsctl rollout approve
  imdsctl apply plan.json --yes --reason "change 4711"
  imdsctl apply plan.json --no-wait       # in a pipeline, again and again until it is done
  imdsctl apply plan.json --dry-run       # exit code 3 if something would not be made`,
		Annotations: formats("table json"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if o.dryRun && (o.yes || o.rollbackFile != "") {
				return misuse("--dry-run", "Leave out --yes and --rollback-file.", "a dry run approves and writes nothing")
			}
			p, err := readPlan(args[0])
			if err != nil {
				return err
			}
			if o.dryRun {
				return s.with(cmd.Context(), func(ctx context.Context, a *app.App) error { return s.dryRun(ctx, a, p, o) })
			}
			return s.with(cmd.Context(), func(ctx context.Context, a *app.App) error { return s.apply(ctx, a, p, args[0], o) })
		},
	}
	f := cmd.Flags()
	f.BoolVar(&o.yes, "yes", false, "approve the plan as well, as the user of this machine")
	f.StringVar(&o.reason, "reason", "", "why, for the journal")
	f.BoolVar(&o.watch, "watch", false, "leave the work to imdsctl worker, and show how it goes (PostgreSQL)")
	o.viewOptions.flags(f)
	f.BoolVar(&o.noLive, "headless", false, "the same as --no-live")
	f.DurationVar(&o.maxAge, "max-scan-age", 0, "refuse a plan that rests on an older scan (7 days if not given)")
	f.BoolVar(&o.allowStale, "allow-stale", false, "take a plan however old its scan is")
	f.BoolVar(&o.dryRun, "dry-run", false, "write nothing, and say of every change what would be done with it now")
	f.StringVar(&o.rollbackFile, "rollback-file", "",
		"write the undo commands to this `file`; rollback-DIGEST.sh beside the database if not given")
	return cmd
}

func (s *session) apply(ctx context.Context, a *app.App, p *plan.Plan, path string, o applyOptions) error {
	if len(p.Changes) == 0 {
		fmt.Fprintln(s.env.Out, "The plan has no changes: nothing to do.")
		return nil
	}
	c := newCourse(p, s.now)
	if view, err := a.Standing(ctx, p.Digest); err == nil {
		c.restore(view.Record)
	} else if c.stop, err = a.Stopped(ctx); err != nil {
		return err
	}
	var result *app.ApplyResult
	err := s.run(ctx, a, c, o.viewOptions, "imdsctl apply "+kind.Quote(path), func(ctx context.Context) (_ *app.ApplyResult, err error) {
		result, err = a.Apply(ctx, p, app.ApplyOptions{
			Yes: o.yes, Reason: o.reason, MaxScanAge: o.maxAge, AllowStale: o.allowStale, RollbackFile: o.rollbackFile,
			Progress: c.observe, Watch: o.watch,
		})
		return result, err
	})
	if err == nil && result.Record.Status == rollout.RolledBack { // done for who asked for that, not for who applies
		s.hint("What was put back is not made again by the same plan: scan and plan again.")
		return attention{string(rollout.RolledBack)}
	}
	return err
}

// settled is how long a rollout must have only waited for --no-wait to end it.
const settled = 3 * time.Second

// run carries a rollout out in the foreground and shows its course. again is the command that goes on with it.
func (s *session) run(ctx context.Context, a *app.App, c *course, o viewOptions, again string,
	carry func(context.Context) (*app.ApplyResult, error),
) error {
	c.verbose = o.verbose
	inner, end := ctx, func() {}
	if o.noWait {
		inner, end = unwaiting(ctx, c, settled)
	}
	defer end()
	stop := s.follow(ctx, a, c, o.noLive)
	result, err := carry(inner)
	stop()
	var awaited []string
	if errors.Is(err, context.Canceled) && ctx.Err() == nil && errors.Is(context.Cause(inner), errAwaits) {
		awaited, _ = c.awaited()
		err = nil
	}
	return s.applied(ctx, result, err, awaited, again)
}

// follow shows a rollout's course: live on a terminal, else as lines on standard error.
func (s *session) follow(ctx context.Context, a *app.App, c *course, lines bool) (stop func()) {
	if s.quiet || s.format == "json" {
		return func() {}
	}
	if s.err.terminal && !lines && s.env.Getenv("TERM") != "dumb" {
		c.standing()
		return s.watch(ctx, s.err, c, s.accountNames(ctx, a), a.Stats)
	}
	return newLogLines(s.env.Err, c).follow()
}

// accountNames maps ids to names, for screens. Without them the ids do.
func (s *session) accountNames(ctx context.Context, a *app.App) map[fleet.AccountID]string {
	out := map[fleet.AccountID]string{}
	st, err := a.Status(ctx)
	if err != nil {
		return out
	}
	for _, acc := range st.Accounts {
		out[acc.Account.ID] = acc.Account.Name
	}
	return out
}

// applied says what a run came to, and how to go on.
func (s *session) applied(ctx context.Context, result *app.ApplyResult, err error, awaited []string, again string) error {
	if result == nil || result.Record == nil {
		return err
	}
	if s.format == "json" {
		if e := writeJSON(s.env.Out, applyDocument(result, err, awaited)); e != nil {
			return errors.Join(err, e)
		}
	} else {
		s.showApplied(result, err)
		s.showAwaited(awaited, again)
	}
	if err != nil {
		if errors.Is(err, context.Canceled) && ctx.Err() != nil {
			s.diagnose(fleet.Diagnostic{Severity: fleet.SeverityError, Where: "rollout " + result.Record.ID,
				Summary: "interrupted; everything that was under way is in the journal",
				Remedy: "Run `" + again + "` again to carry on, or `imdsctl rollout rollback " + short(result.Record.Digest) +
					"` to undo it."})
			return shown{err}
		}
		return err
	}
	if len(awaited) > 0 {
		return attention{"waiting"}
	}
	if result.Record.Status == rollout.Done || result.Record.Status == rollout.RolledBack && result.Counts.Stuck == 0 {
		if result.Counts.Conflict+result.Counts.Failed+result.Counts.Stuck == 0 {
			return nil
		}
	}
	return attention{string(result.Record.Status)}
}

// showAwaited says what a run would only have waited for.
func (s *session) showAwaited(awaited []string, again string) {
	if len(awaited) == 0 {
		return
	}
	const most = 10
	fmt.Fprintln(s.env.Out, "Nothing can go on by itself:")
	for i, w := range awaited {
		if i == most {
			fmt.Fprintf(s.env.Out, "  … and %s\n", plural(len(awaited)-most, "other thing"))
			break
		}
		s.showAwaits(w)
	}
	fmt.Fprintf(s.env.Out, "After that, go on with `%s`.\n", again)
}

// showAwaits says one thing that is waited for, with its command below.
func (s *session) showAwaits(why string) {
	words, command := splitCommand(why)
	fmt.Fprintln(s.env.Out, s.out.labelled("  "+s.out.paint(yellow, "‖")+" ", words))
	if command != "" {
		fmt.Fprintln(s.env.Out, "    "+s.out.paint(bold, command))
	}
}

func short(digest string) string { return digest[:min(12, len(digest))] }

type applyJSON struct {
	Format  int            `json:"imdsctl_apply"`
	Rollout string         `json:"rollout"`
	Digest  string         `json:"digest"`
	Status  rollout.Status `json:"status"`
	Reason  string         `json:"reason,omitempty"`
	Error   string         `json:"error,omitempty"`
	// Waiting is what only a person or a window can let go on, where the run ended for that.
	Waiting      []string    `json:"waiting,omitempty"`
	Stopped      string      `json:"stopped,omitempty"`
	Changes      countsJSON  `json:"changes"`
	Stacks       []stackJSON `json:"stacks"`
	RollbackFile string      `json:"rollback_file,omitempty"`
}

type countsJSON struct {
	Total    int `json:"total"`
	Verified int `json:"verified"`
	Written  int `json:"written"`
	Conflict int `json:"conflict"`
	Failed   int `json:"failed"`
	Skipped  int `json:"skipped"`
	Reverted int `json:"reverted"`
	Stuck    int `json:"stuck"`
	Pending  int `json:"pending"`
	Open     int `json:"open"`
}

type stackJSON struct {
	ID    string             `json:"id"`
	Name  string             `json:"name"`
	Wave  int                `json:"wave"`
	Ring  int                `json:"ring"`
	Place fleet.Place        `json:"place"`
	Phase rollout.StackPhase `json:"phase"`
	Step  int                `json:"step"`
	Due   time.Time          `json:"due,omitzero"`
	Why   string             `json:"reason,omitempty"`
}

func countsDocument(c app.ChangeCounts) countsJSON {
	return countsJSON{c.Total, c.Verified, c.Written, c.Conflict, c.Failed, c.Skipped, c.Reverted, c.Stuck, c.Pending,
		c.Open}
}

func stacksDocument(p *plan.Plan, r *app.Record) []stackJSON {
	out := []stackJSON{}
	for _, st := range p.Stacks {
		state := r.Stacks[st.ID]
		out = append(out, stackJSON{st.ID, st.Name, st.Wave, st.Ring, st.Place, state.Phase, state.Step, state.Due, state.Reason})
	}
	return out
}

func applyDocument(r *app.ApplyResult, err error, awaited []string) applyJSON {
	d := applyJSON{
		Format: jsonVersion, Rollout: r.Record.ID, Digest: r.Record.Digest, Status: r.Record.Status, Reason: r.Record.Reason,
		Changes: countsDocument(r.Counts), Stacks: stacksDocument(r.Plan, r.Record), RollbackFile: r.RollbackFile,
		Waiting: awaited, Stopped: r.Record.Stop,
	}
	if err != nil {
		d.Error = err.Error()
	}
	return d
}

func (s *session) showApplied(r *app.ApplyResult, err error) {
	s.alarm(r.Record.Stop)
	status := s.statusWord(r.Record.Status)
	if err != nil && !r.Record.Status.Final() {
		status = s.out.paint(yellow+bold, "not finished")
	}
	fmt.Fprintf(s.env.Out, "\nRollout %s is %s: %s.\n", s.out.paint(bold, short(r.Record.Digest)), status,
		countsText(r.Counts))
	if r.Record.Reason != "" && r.Record.Status != rollout.Done {
		fmt.Fprintln(s.env.Out, s.out.wrap("  "+oneLine(r.Record.Reason), "  "))
	}
	s.showTrouble(r.Plan, r.Record)
	if r.RollbackFile != "" {
		s.hint("Undo by hand, without imdsctl: %s", r.RollbackFile)
	}
}

// alarm says that everything is stopped, where it is.
func (s *session) alarm(stop string) {
	if stop == "" {
		return
	}
	words, command := splitCommand(stoppedText(stop))
	fmt.Fprintln(s.env.Err, s.err.paint(red+bold, s.err.wrap("■ "+words, "  ")))
	fmt.Fprintln(s.env.Err, "  "+s.err.paint(bold, command))
}

func (s *session) statusWord(st rollout.Status) string {
	switch st {
	case rollout.Done:
		return s.out.paint(green+bold, string(st))
	case rollout.Running, rollout.RollingBack:
		return s.out.paint(cyan, string(st))
	}
	return s.out.paint(yellow+bold, string(st))
}

func countsText(c app.ChangeCounts) string {
	parts := []string{fmt.Sprintf("%s of %s made", count(c.Verified), plural(c.Total, "change"))}
	for _, p := range []struct {
		n    int
		word string
	}{
		{c.Reverted, "put back"}, {c.Conflict, "in conflict"}, {c.Failed, "failed"}, {c.Skipped, "skipped"}, {c.Stuck,
			"stuck"},
		{c.Open, "under way"}, {c.Pending, "not begun"},
	} {
		if p.n > 0 {
			parts = append(parts, count(p.n)+" "+p.word)
		}
	}
	return strings.Join(parts, ", ")
}

// showTrouble lists the stacks that did not get done, with why.
func (s *session) showTrouble(p *plan.Plan, r *app.Record) {
	trouble := false
	for _, st := range p.Stacks {
		state := r.Stacks[st.ID]
		if state.Phase != rollout.StackFailed && state.Phase != rollout.StackStuck && state.Phase != rollout.StackSkipped {
			continue
		}
		if !trouble {
			fmt.Fprintln(s.env.Out)
			trouble = true
		}
		colour := red
		if state.Phase == rollout.StackSkipped {
			colour = yellow
		}
		step := ""
		if state.Step < len(st.Steps) && state.Phase != rollout.StackSkipped {
			step = " at " + st.Steps[state.Step].Name
		}
		fmt.Fprintf(s.env.Out, "%s %s (%s, %s) %s\n", s.out.paint(colour, "✗ "+string(state.Phase)+step+":"),
			s.out.paint(bold, visible(st.Name)),
			st.Place.Account, st.Place.Region, s.out.paint(dim, st.ID))
		if state.Reason != "" {
			fmt.Fprintln(s.env.Out, s.out.wrap("    "+oneLine(state.Reason), "    "))
		}
	}
	var conflicts []string
	for _, id := range slices.Sorted(maps.Keys(r.Changes)) {
		if ch := r.Changes[id]; ch.Phase == app.ChangeConflict {
			conflicts = append(conflicts, id)
		}
	}
	for i, id := range conflicts {
		if i == 10 {
			fmt.Fprintf(s.env.Out, "  … and %s\n", plural(len(conflicts)-10, "other conflict"))
			break
		}
		j := slices.IndexFunc(p.Changes, func(c plan.Change) bool { return c.ID == id })
		if j < 0 {
			continue
		}
		fmt.Fprintf(s.env.Out, "%s %s\n", s.out.paint(yellow, "! conflict:"), p.Changes[j].Ref)
		why := oneLine(r.Changes[id].Reason) + "; it was left alone. Scan and plan again to include it."
		fmt.Fprintln(s.env.Out, s.out.labelled("    ", why))
	}
}
