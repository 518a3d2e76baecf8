package cli

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/imdsctl/imdsctl/internal/app"
	"github.com/imdsctl/imdsctl/internal/fleet"
	"github.com/imdsctl/imdsctl/internal/tracer"
)

type traceOptions struct {
	length, out, size, every  string
	keep                      int
	tier                      string
	v1Only, ecsAgent, offline bool
	instance, account, region string
}

func (s *session) traceCommand() *cobra.Command {
	var o traceOptions
	cmd := &cobra.Command{
		Use: "trace", Short: "See which programs of this host call the metadata service, by v1 or v2 (Linux)", GroupID: groupSee, Args: cobra.NoArgs,
		Long: `Watches every call to the instance metadata service that is made on this host, from any container or network namespace,
until it is interrupted or --for is over: version 1 or 2, method and path, user agent and the SDK that it names, and the
process with its command line, parents, unit, container, pod or task. At the end it names the callers to fix. Nothing on
the host is changed, no call is delayed, and tokens, keys and passwords are never written.

It shows a live table in a terminal. Elsewhere, or with --format json, each call is a JSON line; what is written to
standard output then is a trace file, as --out makes it. "imdsctl evidence import" takes trace files in, from here or from S3.

How much can be seen depends on the kernel and on what this process may do; the best of three tiers is taken, and
"imdsctl trace check" says which work: full (needs eBPF and BTF; every caller is named), no-probe (eBPF; callers that end at
once may lack details) and packets (callers are guessed). It takes root, or the capabilities that docs/trace.md lists. Exit
code 3: version 1 was called, or something was lost, so that nobody can say that it was not.`,
		Example: `  sudo imdsctl trace --for 24h --out trace.imds.jsonl
  sudo imdsctl trace --format json | jq -c 'select(.call.version == "v1") | .call.process.args'
  imdsctl trace read trace.imds.jsonl
  imdsctl trace deploy kubernetes --s3 s3://example-bucket/traces`,
		Annotations: formats("table json"),
		RunE: func(cmd *cobra.Command, _ []string) error {
			in, err := o.options(s)
			if err != nil {
				return err
			}
			return s.with(cmd.Context(), func(ctx context.Context, a *app.App) error {
				return s.trace(ctx, a, in, cmd.Flags().Changed("format"))
			})
		},
	}
	f := cmd.Flags()
	f.StringVar(&o.length, "for", "", "how `long`: 90s, 30m, 24h, 7d; until it is interrupted, if it is not given")
	f.StringVar(&o.out, "out", "", "keep the trace in this `file`, which only its owner can read; best named *"+tracer.Suffix)
	f.StringVar(&o.size, "max-size", "", "end a file at this `size`, such as 64MB, and begin another: FILE-TIME-PART")
	f.StringVar(&o.every, "every", "", "end a file after this `time`, such as 1h, and begin another")
	f.IntVar(&o.keep, "keep", 0, "how many finished files to keep, with --max-size or --every; all, if it is not given")
	f.StringVar(&o.tier, "tier", "", "take this `tier` and no other: "+strings.Join(app.TraceTiers(), ", "))
	f.BoolVar(&o.v1Only, "v1-only", false, "count calls of version 2, and write no lines of them")
	f.StringVar(&o.instance, "instance-id", "", "`id` of this instance; otherwise it is found out")
	f.StringVar(&o.account, "account", "", "its account `id`")
	f.StringVar(&o.region, "region", "", "its `region`")
	f.BoolVar(&o.offline, "no-identity", false, "do not ask the metadata service (by version 2, before the trace) whose this host is")
	f.BoolVar(&o.ecsAgent, "ecs-agent", false, "ask the ECS agent on 127.0.0.1:51678 for the names of tasks")
	cmd.AddCommand(s.traceCheckCommand(), s.traceReadCommand(), s.traceDeployCommand())
	return cmd
}

// options checks the flags.
func (o traceOptions) options(s *session) (in app.TraceOptions, err error) {
	in = app.TraceOptions{Tier: tracer.Tier(o.tier), V1Only: o.v1Only, File: app.TraceFile{Path: o.out, Keep: o.keep},
		Host: app.TraceHost{InstanceID: o.instance, Account: fleet.AccountID(o.account), Region: fleet.Region(o.region)}}
	if o.tier != "" && !in.Tier.Known() {
		return in, misuse("--tier", "Give one of: "+strings.Join(app.TraceTiers(), ", ")+".", "%q is no tier", o.tier)
	}
	if in.For, err = lasting("--for", o.length); err != nil {
		return in, err
	}
	if in.File.Every, err = lasting("--every", o.every); err != nil {
		return in, err
	}
	if o.size != "" {
		if in.File.MaxSize, err = sizeOf(o.size); err != nil {
			return in, misuse("--max-size", "Give a size such as 64MB.", "%v", err)
		}
	}
	parts := in.File.MaxSize > 0 || in.File.Every > 0
	switch {
	case o.out == "" && (parts || o.keep != 0):
		return in, misuse("--out", "Name the file.", "there is no file to end")
	case o.keep < 0 || o.keep > 0 && !parts:
		return in, misuse("--keep", "Give --max-size or --every as well, and a number above 0.", "there is but one file")
	case o.instance != "" && !tracer.ValidInstanceID(o.instance):
		return in, misuse("--instance-id", "Give i- and 8 or 17 hexadecimal digits.", "%q is no id of an instance", o.instance)
	case o.account != "" && !in.Host.Account.Valid():
		return in, misuse("--account", "Give twelve digits.", "%q is no account id", o.account)
	case o.region != "" && !tracer.ValidRegion(in.Host.Region):
		return in, misuse("--region", "Give a name such as eu-west-1.", "%q is no region", o.region)
	}
	if disabled, _ := strconv.ParseBool(s.env.Getenv("AWS_EC2_METADATA_DISABLED")); !o.offline && !disabled {
		in.Host.Metadata = "http://169.254.169.254"
		if at := s.env.Getenv("AWS_EC2_METADATA_SERVICE_ENDPOINT"); at != "" {
			in.Host.Metadata = at
		}
	}
	if o.ecsAgent {
		in.Host.ECSAgent = "http://127.0.0.1:51678"
	}
	return in, nil
}

// lasting reads a length of time: Go's durations, and days.
func lasting(flag, text string) (time.Duration, error) {
	if text == "" {
		return 0, nil
	}
	if days, ok := strings.CutSuffix(text, "d"); ok {
		if n, err := strconv.Atoi(days); err == nil && n > 0 && n < 10_000 {
			return time.Duration(n) * 24 * time.Hour, nil
		}
	}
	if d, err := time.ParseDuration(text); err == nil && d >= time.Second {
		return d, nil
	}
	return 0, misuse(flag, "Give a time such as 90s, 30m, 24h or 7d.", "%q is no length of time, or less than a second", text)
}

// sizeOf reads "64MB".
func sizeOf(text string) (int64, error) {
	digits := strings.TrimRight(text, "kKMGBb")
	n, err := strconv.ParseInt(strings.TrimSpace(digits), 10, 40)
	unit, known := map[string]int64{"": 1, "b": 1, "k": 1e3, "kb": 1e3, "m": 1e6, "mb": 1e6, "g": 1e9, "gb": 1e9}[strings.ToLower(text[len(digits):])]
	if err != nil || !known || n < 1 || n > 1e6 && unit > 1 {
		return 0, fmt.Errorf("%q is no size", text)
	}
	return n * unit, nil
}

// trace traces, shows what it sees, and sums up.
func (s *session) trace(ctx context.Context, a *app.App, in app.TraceOptions, chosen bool) error {
	lines := s.format == "json" || !chosen && !s.out.terminal && in.File.Path == ""
	stop := func() {}
	switch {
	case lines:
		in.Lines = s.env.Out
	case s.out.terminal && !s.quiet:
		var l *liveTrace
		l, stop = s.watchTrace(ctx, in.For)
		in.Begun, in.Seen = l.begun, l.seen
	}
	if lines && !s.quiet {
		in.Begun = func(h tracer.Header) { fmt.Fprintln(s.env.Err, s.err.wrap(traceBanner(h), "")) }
	}
	summary, err := a.Trace(ctx, in)
	stop()
	if summary == nil {
		return err
	}
	out := s.out
	if lines {
		out = s.err
	}
	if !lines || !s.quiet {
		s.showTrace(out, summary)
	}
	if err != nil {
		return err
	}
	return traceAttention(summary)
}

// traceAttention ends a command with 3 where somebody has to do something: calls of version 1, or not knowing.
func traceAttention(sum *tracer.Summary) error {
	if sum.Verdict == tracer.VerdictClean {
		return nil
	}
	return attention{string(sum.Verdict)}
}

// traceBanner says what is being traced, and how.
func traceBanner(h tracer.Header) string {
	out := "Tracing " + plainly(h.Name()) + " (tier " + string(h.Tier) + ")"
	if h.Seconds > 0 {
		out += " for " + (time.Duration(h.Seconds) * time.Second).String()
	}
	for _, n := range append(h.Partial, h.Notices...) {
		out += ". " + strings.TrimSuffix(plainly(n), ".")
	}
	return out + "."
}

func (s *session) traceCheckCommand() *cobra.Command {
	return &cobra.Command{
		Use: "check", Short: "Say which tiers of tracing work on this host, and why the others do not", Args: cobra.NoArgs,
		Long: `Tries each tier, the best first: sets it up as for a trace, and takes it down again. Exit code 0: the best tier works.
3: a lesser one does. 1: none does.`,
		Annotations: formats("table json"),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return s.with(cmd.Context(), func(_ context.Context, a *app.App) error { return s.traceCheck(a.ProbeTrace()) })
		},
	}
}

func (s *session) traceCheck(tiers []app.TraceTier) error {
	if s.format == "json" {
		err := writeJSON(s.env.Out, struct {
			Format int             `json:"imdsctl_trace_check"`
			Tiers  []app.TraceTier `json:"tiers"`
		}{jsonVersion, tiers})
		if err != nil {
			return err
		}
	}
	works := ""
	for i, t := range tiers {
		said := s.out.paint(green, "works")
		if !t.Works {
			said = s.out.paint(red, "no") + "     "
		}
		if t.Works && works == "" {
			works = "a lesser tier"
			if i == 0 {
				works = "the best"
			}
		}
		if s.format != "json" {
			fmt.Fprintln(s.env.Out, s.out.labelled(fmt.Sprintf("%-9s %s  ", t.Tier, said), tierWords(t)))
		}
	}
	switch works {
	case "the best":
		return nil
	case "":
		return shown{errors.New("nothing can be traced here")}
	}
	return attention{works}
}

// tierWords says what a tier sees, or why it does not work.
func tierWords(t app.TraceTier) string {
	if !t.Works {
		return plainly(t.Why)
	}
	switch t.Tier {
	case tracer.TierFull:
		return "every call, and every caller by what the kernel knows of it as it connects"
	case tracer.TierNoProbe:
		return "every call, and callers by their process id; of one that ends at once little more is known"
	}
	return "every call; callers are looked for afterwards, and may be missing or wrong"
}

func (s *session) traceReadCommand() *cobra.Command {
	return &cobra.Command{
		Use: "read FILE...", Short: "Sum up trace files, of one host or of many", Args: cobra.MinimumNArgs(1),
		Long: `Reads trace files, compressed or not, and folders of them, on any system, and names the callers to fix as the trace itself
does. Parts of one trace belong together, whatever their names; a part that is missing or cut off is told, and then
nothing is called clean. Exit code 3: version 1 was called, or nobody can say that it was not.`,
		Example:     `  imdsctl trace read /var/lib/imdsctl-trace`,
		Annotations: formats("table json"),
		RunE: func(cmd *cobra.Command, paths []string) error {
			return s.with(cmd.Context(), func(ctx context.Context, a *app.App) error {
				sum, err := a.TraceSummary(ctx, paths)
				if err != nil {
					return err
				}
				if s.format == "json" {
					err = writeJSON(s.env.Out, struct {
						Format int    `json:"imdsctl_trace_summary"`
						Says   string `json:"says"`
						*tracer.Summary
					}{jsonVersion, sum.Says(), sum})
				} else {
					s.showTrace(s.out, sum)
				}
				return errors.Join(err, traceAttention(sum))
			})
		},
	}
}
