package cli

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/spf13/cobra"

	"github.com/imdsctl/imdsctl/internal/app"
	"github.com/imdsctl/imdsctl/internal/clock"
	"github.com/imdsctl/imdsctl/internal/fleet"
	"github.com/imdsctl/imdsctl/internal/policy"
)

// session is one command while it runs: its environment, the flags all commands have, and what it has complained about.
type session struct {
	env      Env
	out, err *screen
	results  *results // what env.Out is
	warnings int

	config, db, format, logLevel, cloudwatch string
	quiet, noHints                           bool
	configGiven                              bool
	// drawing tells that a live picture is on the screen, which says by itself that the command is stopping.
	drawing atomic.Bool
}

func newSession(env Env) *session {
	s := &session{out: newScreen(env, env.Out), err: newScreen(env, env.Err), results: &results{w: env.Out}}
	env.Out = s.results
	s.env = env
	return s
}

// results is standard output. It remembers the first write that failed: what is printed for people goes out in many pieces, whose
// errors nobody looks at, and a list that a full disk cut off must not pass for the whole.
type results struct {
	w      io.Writer
	mu     sync.Mutex
	failed error
}

// Write writes to standard output.
func (r *results) Write(b []byte) (int, error) {
	n, err := r.w.Write(b)
	if err != nil {
		r.mu.Lock()
		if r.failed == nil {
			r.failed = err
		}
		r.mu.Unlock()
	}
	return n, err
}

// lost is the first write that failed.
func (r *results) lost() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.failed
}

// stopNotice is said when a command is interrupted.
const stopNotice = "Stopping: what is under way is being finished. Press Ctrl-C again to stop at once."

func (s *session) stopping() {
	if !s.drawing.Load() {
		fmt.Fprintln(s.env.Err, "\n"+stopNotice)
	}
}

// The groups that `imdsctl help` shows.
const (
	groupSee   = "see"
	groupDo    = "do"
	groupSetup = "setup"
)

func newRoot(s *session) *cobra.Command {
	root := &cobra.Command{
		Use:   "imdsctl",
		Short: "Takes an AWS organization from IMDSv1 to IMDSv2 and keeps it there",
		Long: `imdsctl finds what still allows IMDSv1 in an AWS organization, proves who uses it, and turns it off
in waves: canary first, watched, and rolled back by itself where something breaks.

  imdsctl demo                                        the whole journey, with no AWS account
  imdsctl doctor; imdsctl scan; imdsctl status        your own account; nothing is changed

The standard AWS variables (AWS_PROFILE, AWS_REGION, AWS_ENDPOINT_URL…) work as in any AWS tool;
IMDSCTL_CONFIG, IMDSCTL_DB and IMDSCTL_CLOUDWATCH_PROTOCOL stand for the flags of these names.
Exit codes: 0 done, 1 failed, 2 used wrongly, 3 finished but something needs attention.`,
		SilenceErrors: true, SilenceUsage: true, Args: cobra.NoArgs,
		PersistentPreRunE: func(cmd *cobra.Command, _ []string) error { return s.begin(cmd) },
		RunE:              func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	root.AddGroup(&cobra.Group{ID: groupSee, Title: "See:"}, &cobra.Group{ID: groupDo, Title: "Plan and do:"},
		&cobra.Group{ID: groupSetup, Title: "Set up and try:"})
	root.SetHelpCommandGroupID(groupSetup)
	root.SetCompletionCommandGroupID(groupSetup)
	f := root.PersistentFlags()
	f.StringVar(&s.config, "config", "imdsctl.yaml", "configuration `file`, if there is one")
	f.StringVar(&s.db, "db", "imdsctl.db", "database `file`, or a postgres:// address")
	f.StringVar(&s.format, "format", "table", "`table`, json, csv, or what the command offers")
	f.StringVar(&s.logLevel, "log-level", "error", "`debug`, info, warn or error")
	f.BoolVarP(&s.quiet, "quiet", "q", false, "no progress and no hints")
	f.StringVar(&s.cloudwatch, "cloudwatch-protocol", "", "`cbor` or json, for stand-ins for AWS")
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		return misuse("", "See `"+cmd.CommandPath()+" --help`.", "%v", err)
	})
	root.AddCommand(s.scanCommand(), s.statusCommand(), s.resourcesCommand(), s.launchesCommand(), s.criticalityCommand(), s.whyCommand(), s.attentionCommand(),
		s.evidenceCommand(), s.softwareCommand(), s.traceCommand(), s.planCommand(),
		s.showCommand(), s.rehearseCommand(),
		s.applyCommand(), s.rolloutCommand(), s.workerCommand(), s.rolesCommand(), s.doctorCommand(), s.simCommand(), s.imdsCommand(),
		s.certifyCommand(), s.demoCommand(),
		s.versionCommand())
	walk(root, func(c *cobra.Command) {
		c.Args, c.SuggestionsMinimumDistance, c.Long = counted(c.Args), 2, reflow(c.Long)
	})
	return root
}

// reflow fits a help text to a screen of 100 columns: paragraphs are wrapped, lines that begin with a blank stay.
func reflow(long string) string {
	page := &screen{width: 100}
	var out, open []string
	end := func() {
		if len(open) > 0 {
			out = append(out, page.wrap(strings.Join(open, " "), ""))
		}
		open = nil
	}
	for line := range strings.SplitSeq(long, "\n") {
		if line == "" || line[0] == ' ' {
			end()
			out = append(out, line)
			continue
		}
		open = append(open, line)
	}
	end()
	return strings.Join(out, "\n")
}

func walk(c *cobra.Command, visit func(*cobra.Command)) {
	visit(c)
	for _, sub := range c.Commands() {
		walk(sub, visit)
	}
}

// counted makes a wrong number of arguments a usage error.
func counted(check cobra.PositionalArgs) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if check == nil {
			check = cobra.ArbitraryArgs
		}
		if cmd.HasSubCommands() && len(args) > 0 {
			summary := fmt.Sprintf("unknown command %q for %q", args[0], cmd.CommandPath())
			remedy := "See `" + cmd.CommandPath() + " --help`."
			if near := cmd.SuggestionsFor(args[0]); len(near) > 0 {
				remedy = "Did you mean " + strings.Join(near, ", ") + "?"
			}
			return misuse("", remedy, "%s", summary)
		}
		if err := check(cmd, args); err != nil {
			return misuse("", "Usage: "+cmd.UseLine(), "%v", err)
		}
		return nil
	}
}

// begin reads what environment variables say where flags do not, and checks what all commands share.
func (s *session) begin(cmd *cobra.Command) error {
	given := func(name string) bool { f := cmd.Flags().Lookup(name); return f != nil && f.Changed }
	s.configGiven = given("config")
	if v := s.env.Getenv("IMDSCTL_CONFIG"); v != "" && !s.configGiven {
		s.config, s.configGiven = v, true
	}
	if v := s.env.Getenv("IMDSCTL_DB"); v != "" && !given("db") {
		s.db = v
	}
	if v := s.env.Getenv("IMDSCTL_CLOUDWATCH_PROTOCOL"); v != "" && s.cloudwatch == "" {
		s.cloudwatch = v
	}
	if !slices.Contains([]string{"", "cbor", "json"}, s.cloudwatch) {
		return misuse("--cloudwatch-protocol", "Give cbor or json.", "%q is no protocol", s.cloudwatch)
	}
	if _, err := level(s.logLevel); err != nil {
		return err
	}
	formats := cmd.Annotations[annotationFormats]
	if given("format") && formats == "" {
		return misuse("--format", "Leave it out.", "%s has one format only", cmd.CommandPath())
	}
	if formats != "" && !given("format") {
		s.format = strings.Fields(formats)[0]
	}
	if formats != "" && !slices.Contains(strings.Fields(formats), s.format) {
		return misuse("--format", "Give one of: "+strings.Join(strings.Fields(formats), ", ")+".",
			"%s has no format %q", cmd.CommandPath(), s.format)
	}
	return nil
}

// annotationFormats lists a command's formats, the default first.
const annotationFormats = "formats"

func formats(names string) map[string]string { return map[string]string{annotationFormats: names} }

func level(name string) (slog.Level, error) {
	var l slog.Level
	if err := l.UnmarshalText([]byte(name)); err != nil {
		return l, misuse("--log-level", "Give debug, info, warn or error.", "%q is no level", name)
	}
	return l, nil
}

// settings reads the configuration. Its warnings are printed, its errors end the command as wrong usage.
func (s *session) settings() (*policy.Config, error) {
	config, problems, err := app.LoadConfig(s.config, s.configGiven)
	if err != nil {
		return nil, usageError{err}
	}
	for _, d := range problems {
		if config != nil && d.Severity == fleet.SeverityError {
			d.Severity = fleet.SeverityWarning
		}
		s.diagnose(d)
	}
	if config == nil {
		return nil, usageError{shown{fmt.Errorf("%s cannot be used", s.config)}}
	}
	return config, nil
}

// open makes the App of a command, and says what of the configuration has expired.
func (s *session) open() (*app.App, error) {
	config, err := s.settings()
	if err != nil {
		return nil, err
	}
	o := s.env.Base
	l, err := level(s.logLevel)
	if err != nil {
		return nil, err
	}
	o.Config, o.ConfigPath, o.DBPath = config, s.config, s.db
	o.Logger = slog.New(slog.NewTextHandler(s.env.Err, &slog.HandlerOptions{Level: l}))
	o.Version, o.CloudWatchProtocol = Version(), s.cloudwatch
	a, err := app.New(o)
	if err != nil {
		return nil, err
	}
	for _, d := range a.ExpiredExceptions() {
		s.diagnose(d)
	}
	return a, nil
}

// with opens the App for a command and closes it afterwards.
func (s *session) with(ctx context.Context, run func(context.Context, *app.App) error) (err error) {
	a, err := s.open()
	if err != nil {
		return err
	}
	defer func() {
		if closing := a.Close(); err == nil {
			err = closing
		}
	}()
	return run(ctx, a)
}

// now is the time of the command's clock.
func (s *session) now() time.Time { return s.clock().Now() }

func (s *session) clock() clock.Clock {
	if s.env.Base.Clock != nil {
		return s.env.Base.Clock
	}
	return clock.System()
}

// hint is a line of advice for people, on standard error.
func (s *session) hint(format string, args ...any) {
	if !s.quiet && !s.noHints && (s.err.terminal || s.out.terminal) {
		fmt.Fprintln(s.env.Err, s.err.paint(dim, s.err.wrap(fmt.Sprintf(format, args...), "")))
	}
}

// accountIDs checks --account.
func accountIDs(given []string) ([]fleet.AccountID, error) {
	var out []fleet.AccountID
	for _, a := range given {
		id := fleet.AccountID(a)
		if !id.Valid() {
			return nil, misuse("--account", "Give twelve digits.", "%q is no account id", a)
		}
		out = append(out, id)
	}
	return out, nil
}

func regionNames(given []string) []fleet.Region {
	var out []fleet.Region
	for _, r := range given {
		out = append(out, fleet.Region(r))
	}
	return out
}
