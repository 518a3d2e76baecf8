package cli

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/imdsctl/imdsctl/internal/app"
	"github.com/imdsctl/imdsctl/internal/evidence"
	"github.com/imdsctl/imdsctl/internal/fleet"
)

func (s *session) evidenceCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use: "evidence", Short: "Take in what CloudTrail and other tools saw, list it, forget it", GroupID: groupSee, Args: cobra.NoArgs,
		Long: `Takes into the database what the metrics do not tell: by which software credentials were used that IMDSv1
delivered (CloudTrail), which programs call on a host (trace files), and the findings files of other commands.
"imdsctl why", "resources" and "plan" then show it.`,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(s.evidenceImportCommand(), s.evidenceListCommand(), s.evidenceForgetCommand())
	return cmd
}

type importOptions struct {
	since, until, subject, role, region  string
	athena, workgroup, output, partition string
	lookup                               bool
	lookupEvents                         int
	instances, accounts, regions         []string
}

func (s *session) evidenceImportCommand() *cobra.Command {
	var o importOptions
	cmd := &cobra.Command{
		Use: "import [PATH|s3://BUCKET/PREFIX]...", Short: "Take in CloudTrail's log files, traces, Athena's answer or findings files",
		Args: cobra.ArbitraryArgs,
		Long: `Reads CloudTrail's log files and the files of "imdsctl trace" from folders, files and S3 prefixes, and findings files
of other commands. What each path is, is found out (in a bucket, traces by names that end in .imds.jsonl or
.imds.jsonl.gz). Of each call made with credentials that the metadata service delivered it keeps the
day, the instance or role, by which version they were delivered, and the user agent; not the caller's address.

A trace tells of the instance that it was made on; what traces tell of one instance is one import. A file is taken in
once, wherever it lies. What cannot be understood is counted and passed, and what cannot be
read, or is missing of a whole account by AWS's naming of the files, is a gap: the exit code is then 3.

--athena asks one question of a table of the logs instead, about whole days that are over (fourteen, if --since
does not say), and prints what the question cost. --lookup asks LookupEvents, two calls a second in each place:
a sample, which never shows that nothing was there.`,
		Example: `  imdsctl evidence import s3://org-trail/AWSLogs/o-exampleorg/ --since 2026-11-01
  imdsctl evidence import ./logs findings.jsonl
  imdsctl evidence import findings.jsonl --for image/ami-0123456789abcdef0
  imdsctl evidence import s3://example-bucket/traces/
  imdsctl evidence import --athena audit.cloudtrail_logs --partition timestamp --workgroup audit
  imdsctl evidence import --lookup --account 111122223333 --instance i-0123456789abcdef0`,
		Annotations: formats("table json"),
		RunE: func(cmd *cobra.Command, paths []string) error {
			in, err := o.options(paths, s.now())
			if err != nil {
				return err
			}
			return s.with(cmd.Context(), func(ctx context.Context, a *app.App) error { return s.evidenceImport(ctx, a, in) })
		},
	}
	f := cmd.Flags()
	f.StringVar(&o.since, "since", "", "only calls from this `time` on: a date, a time of RFC 3339, or an age such as 14d")
	f.StringVar(&o.until, "until", "", "only calls before this `time`; of a date, the whole day counts")
	f.StringVar(&o.subject, "for", "", "what findings files and traces are about, in place of what they say: `KIND/ID`")
	f.StringVar(&o.role, "role", "", "the `ARN` of a role to read the bucket, or to ask Athena, with")
	f.StringVar(&o.athena, "athena", "", "ask Athena about `DATABASE.TABLE`")
	f.StringVar(&o.workgroup, "workgroup", "", "Athena's `workgroup`")
	f.StringVar(&o.output, "output", "", "where Athena leaves results, `s3://…`, if its workgroup does not say")
	f.StringVar(&o.partition, "partition", "", "the table's `column` of days as 2006/01/02, so that Athena reads less")
	f.StringVar(&o.region, "athena-region", "", "the `region` of the table, if it is not the caller's")
	f.BoolVar(&o.lookup, "lookup", false, "ask LookupEvents for a sample")
	f.IntVar(&o.lookupEvents, "lookup-events", 0, "how many events of each account and region to look at (1000)")
	f.StringSliceVar(&o.instances, "instance", nil, "with --lookup, only the events of these instances, by `id`")
	f.StringSliceVar(&o.accounts, "account", nil, "with --lookup, only these `ids`")
	f.StringSliceVar(&o.regions, "region", nil, "with --lookup, only these `names`")
	return cmd
}

// options checks the flags.
func (o importOptions) options(paths []string, now time.Time) (in app.ImportOptions, err error) {
	in = app.ImportOptions{Paths: paths, Role: o.role, Region: fleet.Region(o.region), Athena: o.athena, Workgroup: o.workgroup,
		Output: o.output, Partition: o.partition, Lookup: o.lookup, LookupEvents: o.lookupEvents, Instances: o.instances,
		Regions: regionNames(o.regions)}
	if len(paths) == 0 && o.athena == "" && !o.lookup {
		return in, misuse("", "Give files, folders or s3://bucket/prefix, or --athena or --lookup.", "there is nothing to import")
	}
	if o.athena == "" && (o.workgroup != "" || o.output != "" || o.partition != "" || o.region != "") {
		return in, misuse("--athena", "Name the table as well.", "there are settings for Athena, and no table")
	}
	if !o.lookup && (len(o.instances) > 0 || len(o.accounts) > 0 || len(o.regions) > 0 || o.lookupEvents != 0) {
		return in, misuse("--lookup", "Give --lookup as well, or leave the others out.",
			"--account, --region, --instance and --lookup-events say what LookupEvents is asked for")
	}
	if o.lookupEvents < 0 {
		return in, misuse("--lookup-events", "Give a number above 0.", "%d is no number of events", o.lookupEvents)
	}
	if in.Accounts, err = accountIDs(o.accounts); err != nil {
		return in, err
	}
	if in.Since, err = moment("--since", o.since, now, false); err != nil {
		return in, err
	}
	if in.Until, err = moment("--until", o.until, now, true); err != nil {
		return in, err
	}
	if !in.Until.IsZero() && !in.Since.Before(in.Until) {
		return in, misuse("--until", "Give a time after --since.", "nothing is between %s and %s", o.since, o.until)
	}
	if o.subject != "" {
		if in.For, err = evidence.ParseSubject(o.subject); err != nil {
			return in, misuse("--for", "", "%v", err)
		}
	}
	return in, nil
}

// moment reads a date, a time, or an age in days or hours. A date that ends something counts whole.
func moment(flag, text string, now time.Time, end bool) (time.Time, error) {
	if text == "" {
		return time.Time{}, nil
	}
	if at, err := time.Parse(time.RFC3339, text); err == nil {
		return at.UTC(), nil
	}
	if at, err := time.Parse(time.DateOnly, text); err == nil {
		if end {
			at = at.AddDate(0, 0, 1)
		}
		return at, nil
	}
	if days, ok := strings.CutSuffix(text, "d"); ok {
		if n, err := strconv.Atoi(days); err == nil && n > 0 && n < 10_000 {
			return now.UTC().AddDate(0, 0, -n), nil
		}
	}
	if age, err := time.ParseDuration(text); err == nil && age > 0 {
		return now.UTC().Add(-age), nil
	}
	return time.Time{}, misuse(flag, "Give a date such as 2026-11-01, a time such as 2026-11-01T12:00:00Z, or an age such as 14d.",
		"%q is no time", text)
}

type importJSON struct {
	Format  int             `json:"imdsctl_evidence_import"`
	Imports []*app.Imported `json:"imports"`
	Error   string          `json:"error,omitempty"`
}

func (s *session) evidenceImport(ctx context.Context, a *app.App, in app.ImportOptions) error {
	progress, stop := s.importProgress()
	in.Progress = progress
	done, err := a.ImportEvidence(ctx, in)
	stop()
	if s.format == "json" {
		d := importJSON{Format: jsonVersion, Imports: append([]*app.Imported{}, done...)}
		if err != nil {
			d.Error = err.Error()
		}
		if e := writeJSON(s.env.Out, d); e != nil {
			return errors.Join(err, e)
		}
	} else {
		for n, i := range done {
			if n > 0 {
				fmt.Fprintln(s.env.Out)
			}
			s.showImport(i)
		}
	}
	if err != nil {
		return err
	}
	for _, i := range done {
		if i.Attention() {
			return attention{"gaps"}
		}
	}
	return nil
}

// importProgress shows how far an import is on standard error while a person looks at it.
func (s *session) importProgress() (show func(app.TrailProgress), stop func()) {
	if s.quiet || !s.err.terminal {
		return nil, func() {}
	}
	last := time.Time{}
	return func(p app.TrailProgress) {
		if time.Since(last) < 100*time.Millisecond {
			return
		}
		last = time.Now()
		fmt.Fprintf(s.env.Err, "\r\x1b[K%s, %s, %s", plural(p.Files, "file"), plural(p.Records, "record"), bytesOf(p.Bytes))
	}, func() { fmt.Fprint(s.env.Err, "\r\x1b[K") }
}

// showImport prints one import.
func (s *session) showImport(i *app.Imported) {
	out := s.env.Out
	m := i.Import
	title := s.out.paint(bold, sourceTitle(m.Source)) + " " + m.Origin
	if m.ID != 0 {
		title += fmt.Sprintf(" → import %d", m.ID)
	}
	fmt.Fprintln(out, title)
	for _, line := range s.importFacts(i) {
		fmt.Fprintln(out, s.out.labelled(s.out.paint(dim, fmt.Sprintf("  %-8s ", line[0])), line[1]))
	}
	if i.Calls != nil {
		s.showCalls(i.Calls)
	}
	if i.Trace != nil && len(i.Trace.Callers) > 0 {
		fmt.Fprintln(out)
		s.callerTable(s.out, i.Trace.Callers)
		fmt.Fprintln(out)
	}
	for _, g := range i.Gaps[:min(len(i.Gaps), longestList)] {
		fmt.Fprintln(out, s.out.paint(yellow, "gap")+"  "+g.Where+": "+g.Reason)
	}
	s.andMore(len(i.Gaps), "gaps")
	for _, g := range i.Missing[:min(len(i.Missing), longestList)] {
		fmt.Fprintln(out, s.out.paint(yellow, "no file")+"  "+missing(g))
	}
	s.andMore(len(i.Missing), "stretches of days without files")
	if m.ID == 0 && len(i.Gaps) == 0 {
		fmt.Fprintln(out, "Nothing new: all of it was taken in before.")
	}
}

// longestList is how many gaps are printed one by one.
const longestList = 20

func (s *session) andMore(n int, noun string) {
	if n > longestList {
		fmt.Fprintf(s.env.Out, "… and %s more %s (--format json lists them all)\n", count(n-longestList), noun)
	}
}

func missing(g app.TrailMissing) string {
	days := g.From.Format(time.DateOnly)
	if !g.To.Equal(g.From) {
		days += " to " + g.To.Format(time.DateOnly)
	}
	why := "other regions of the account have files: the region may have been quiet"
	if g.Whole {
		why = "nor in any other region of the account"
	}
	return fmt.Sprintf("%s %s %s (%s)", g.Account, g.Region, days, why)
}

// importFacts are the lines above the tables, as labels and words.
func (s *session) importFacts(i *app.Imported) [][2]string {
	m := i.Import
	var out [][2]string
	add := func(label, format string, args ...any) {
		out = append(out, [2]string{label, fmt.Sprintf(format, args...)})
	}
	switch {
	case i.Query != "":
		add("days", "%s, %s known before", plural(m.Files, "day"), count(m.Known))
		add("query", "%s read %s, about $%.2f", i.Query, bytesOf(i.ScannedBytes), i.Dollars)
	case m.Source == evidence.SourceLookup:
		add("places", "%s", plural(i.Places, "place"))
	default:
		files := fmt.Sprintf("%s, %s", plural(m.Files, "file"), bytesOf(i.Stored))
		for _, more := range []struct {
			n    int64
			what string
		}{{m.Known, "known before"}, {i.Pruned, "of another time"}} {
			if more.n > 0 {
				files += fmt.Sprintf(", %s %s", count(more.n), more.what)
			}
		}
		if i.Digests > 0 {
			files += ", " + plural(i.Digests, "digest")
		}
		add("files", "%s", files)
	}
	records := plural(m.Records, "record")
	if i.Calls != nil {
		records += fmt.Sprintf(", %s with credentials of the metadata service", count(i.Delivered))
	}
	if i.Outside > 0 {
		records += fmt.Sprintf(", %s of them of another time", count(i.Outside))
	}
	add("records", "%s", records)
	if m.Skipped > 0 {
		add("skipped", "%s", strings.Join(i.Skipped, "; "))
	}
	if !m.From.IsZero() {
		add("span", "%s to %s (%s)", m.From.UTC().Format("2006-01-02 15:04"), m.To.UTC().Format("2006-01-02 15:04"), length(m.To.Sub(m.From)))
	}
	if m.Sample {
		add("sample", "what it does not show means nothing")
	}
	if m.Lost != "" {
		add("lost", "%s", m.Lost)
	}
	for _, n := range m.Notes {
		if !strings.HasPrefix(n, "no file of ") && !slices.Contains(i.Skipped, n) {
			add("note", "%s", n)
		}
	}
	if m.ID != 0 {
		add("kept", "%s", plural(m.Findings, "finding"))
	}
	return out
}

// bytesOf writes a size: "3.2 MB".
func bytesOf(n int64) string {
	units := []string{"B", "kB", "MB", "GB", "TB"}
	f, u := float64(n), 0
	for f >= 1000 && u < len(units)-1 {
		f, u = f/1000, u+1
	}
	if u == 0 {
		return fmt.Sprintf("%d B", n)
	}
	return fmt.Sprintf("%.1f %s", f, units[u])
}

// length says how long a span is, in days and hours.
func length(d time.Duration) string {
	d = d.Round(time.Hour)
	days, hours := int(d/(24*time.Hour)), int(d%(24*time.Hour)/time.Hour)
	switch {
	case days == 0:
		return plural(hours, "hour")
	case hours == 0:
		return plural(days, "day")
	}
	return plural(days, "day") + " " + plural(hours, "hour")
}

// showCalls prints who calls with credentials that v1 delivered, and with which software.
func (s *session) showCalls(c *app.TrailSummary) {
	out := s.env.Out
	if c.V1Calls+c.V2Calls == 0 {
		return
	}
	fmt.Fprintf(out, "\n%s with v1-delivered credentials, by %s and %s; %s with v2-delivered\n", plural(c.V1Calls, "call"),
		plural(c.InstancesV1, "instance"), plural(c.RolesV1, "role"), count(c.V2Calls))
	const most = 15
	if len(c.Callers) > 0 {
		rows := [][]string{}
		for _, who := range c.Callers[:min(most, len(c.Callers))] {
			rows = append(rows, []string{string(who.Subject.Account), who.Subject.String(), strings.Join(who.Roles, ", "), count(who.V1),
				some(who.V2), who.Last.Format("2006-01-02 15:04")})
		}
		fmt.Fprint(out, "\n"+s.out.table([]column{{title: "account"}, {title: "who"}, {title: "role", flexible: true, floor: 10},
			{title: "v1 calls", right: true}, {title: "v2", right: true}, {title: "last v1 call"}}, rows))
		if n := len(c.Callers); n > most {
			fmt.Fprintf(out, "… and %d more (--format json lists them all)\n", n-most)
		}
	}
	rows := [][]string{}
	for _, w := range c.Software[:min(most, len(c.Software))] {
		name := string(w.Product)
		if w.Version != "" {
			name += " " + w.Version
		}
		if name == "" {
			name = "?"
		}
		rows = append(rows, []string{name, some(w.V1), some(w.V2), some(w.Instances), w.Agent})
	}
	fmt.Fprint(out, "\n"+s.out.table([]column{{title: "software"}, {title: "v1 calls", right: true}, {title: "v2", right: true},
		{title: "instances on v1", right: true}, {title: "user agent", flexible: true, floor: 20}}, rows))
	if n := len(c.Software); n > most {
		fmt.Fprintf(out, "… and %d more (--format json lists them all)\n", n-most)
	}
	fmt.Fprintln(out)
}

// sourceTitle is a source in words, with a capital.
func sourceTitle(source evidence.Source) string {
	title := source.Title()
	return strings.ToUpper(title[:1]) + title[1:]
}

func (s *session) evidenceListCommand() *cobra.Command {
	return &cobra.Command{
		Use: "list", Short: "List what was taken in, the newest first", Args: cobra.NoArgs, Annotations: formats("table json"),
		Example: `  imdsctl evidence list`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return s.with(cmd.Context(), s.evidenceList)
		},
	}
}

func (s *session) evidenceList(ctx context.Context, a *app.App) error {
	imports, err := a.Imports(ctx)
	if err != nil {
		return err
	}
	if s.format == "json" {
		l := newList(s.env.Out, "evidence")
		for _, i := range imports {
			if err := l.add(i); err != nil {
				return err
			}
		}
		return l.end()
	}
	if len(imports) == 0 {
		fmt.Fprintln(s.env.Out, "Nothing was taken in yet.")
		s.hint("`imdsctl evidence import PATH` takes in CloudTrail's logs and findings files.")
		return nil
	}
	rows := make([][]string, 0, len(imports))
	for _, i := range imports {
		rows = append(rows, []string{strconv.FormatInt(i.ID, 10), string(i.Source), age(s.now(), i.At), spanOf(i), count(i.Files),
			count(i.Records), some(i.Skipped), count(i.Findings), i.Origin + remark(i)})
	}
	fmt.Fprint(s.env.Out, s.out.table([]column{{title: "id", right: true}, {title: "source"}, {title: "age"}, {title: "span"},
		{title: "files", right: true}, {title: "records", right: true}, {title: "skipped", right: true}, {title: "findings", right: true},
		{title: "origin", flexible: true, floor: 20}}, rows))
	return nil
}

func remark(i evidence.Import) string {
	switch {
	case i.ReplacedBy != 0:
		return fmt.Sprintf(" (import %d holds in its place)", i.ReplacedBy)
	case i.Lost != "":
		return " (with gaps)"
	case i.Sample:
		return " (a sample)"
	}
	return ""
}

// spanOf is the time that an import tells of: from when until when, or the moment; empty where its source says neither.
func spanOf(i evidence.Import) string {
	switch {
	case !i.From.IsZero() && !i.To.IsZero():
		return i.From.UTC().Format(time.DateOnly) + "…" + i.To.UTC().Format(time.DateOnly)
	case !i.From.IsZero():
		return i.From.UTC().Format(time.DateOnly) + "…"
	case !i.Made.IsZero():
		return i.Made.UTC().Format(time.DateOnly)
	}
	return ""
}

// age says how long ago something was.
func age(now, at time.Time) string {
	d := now.Sub(at)
	switch {
	case d < time.Minute:
		return "now"
	case d < time.Hour:
		return fmt.Sprintf("%d min", int(d/time.Minute))
	case d < 48*time.Hour:
		return fmt.Sprintf("%d h", int(d/time.Hour))
	}
	return plural(int(d/(24*time.Hour)), "day")
}

func (s *session) evidenceForgetCommand() *cobra.Command {
	return &cobra.Command{
		Use: "forget ID", Short: "Drop an import with all its findings", Args: cobra.ExactArgs(1),
		Long: `Drops an import with all its findings. Its files can then be taken in again. What it had replaced (an earlier
scan of the same software) does not come back.`,
		Example: `  imdsctl evidence forget 3`,
		RunE: func(cmd *cobra.Command, args []string) error {
			id, err := strconv.ParseInt(args[0], 10, 64)
			if err != nil || id < 1 {
				return misuse("", "See `imdsctl evidence list`.", "%q is no import's number", args[0])
			}
			return s.with(cmd.Context(), func(ctx context.Context, a *app.App) error {
				if err := a.ForgetImport(ctx, id); err != nil {
					return err
				}
				fmt.Fprintf(s.env.Out, "Import %d is forgotten.\n", id)
				return nil
			})
		},
	}
}
