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

	"github.com/imdsctl/imdsctl/internal/app"
	"github.com/imdsctl/imdsctl/internal/assess"
	"github.com/imdsctl/imdsctl/internal/fleet"
	"github.com/imdsctl/imdsctl/internal/inventory"
	"github.com/imdsctl/imdsctl/internal/report"
)

type scanOptions struct {
	accounts, regions, failOn []string
	noEvidence                bool
	maxDollars                float64
}

func (s *session) scanCommand() *cobra.Command {
	var o scanOptions
	cmd := &cobra.Command{
		Use: "scan", Short: "Read the fleet and its IMDSv1 calls into the database", GroupID: groupSee, Args: cobra.NoArgs,
		Long: `Reads all that sets metadata options (instances, launch templates, Auto Scaling groups, account defaults and
every other kind) in all accounts and regions, and from CloudWatch who called IMDSv1, into the database. Nothing
is changed in AWS. What cannot be read is a gap: it is listed, and the exit code is 3. Ctrl-C leaves a usable
database, and scanning again goes on from there.

CloudWatch charges about $0.01 for a thousand metrics, of which an instance has three: two of the window and one
of daily counts before it, ` + "`evidence.history`" + `. --max-dollars sets a limit, --no-evidence leaves it out.`,
		Example: `  imdsctl scan
  imdsctl scan --account 111122223333 --region eu-west-1
  imdsctl scan --fail-on blocked --fail-on unknown=10 --format json   # for CI`,
		Annotations: formats("table json"),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return s.with(cmd.Context(), func(ctx context.Context, a *app.App) error { return s.scan(ctx, a, o) })
		},
	}
	f := cmd.Flags()
	f.StringSliceVar(&o.accounts, "account", nil, "only these `ids`")
	f.StringSliceVar(&o.regions, "region", nil, "only these `names`")
	f.StringSliceVar(&o.failOn, "fail-on", nil,
		"end with 3 if more than N instances are `VERDICT[=N]`: ready, blocked, unknown; or gap")
	f.BoolVar(&o.noEvidence, "no-evidence", false, "inventory only: CloudWatch is not asked, and nothing can be ready")
	f.Float64Var(&o.maxDollars, "max-dollars", 0, "do not ask CloudWatch if it would cost more")
	return cmd
}

func (s *session) scan(ctx context.Context, a *app.App, o scanOptions) error {
	limits, err := verdictThresholds(o.failOn)
	if err != nil {
		return err
	}
	accounts, err := accountIDs(o.accounts)
	if err != nil {
		return err
	}
	progress, stop := s.scanProgress()
	sum, err := a.Scan(ctx, app.ScanOptions{
		Accounts: accounts, Regions: regionNames(o.regions), NoEvidence: o.noEvidence, MaxDollars: o.maxDollars,
		Progress: progress,
	})
	stop()
	if sum == nil {
		return err
	}
	if s.format == "json" {
		if e := writeJSON(s.env.Out, scanDocument(sum, err)); e != nil {
			return errors.Join(err, e)
		}
	} else {
		s.showScan(sum, err)
	}
	if err != nil {
		return err
	}
	for _, d := range sum.Notes {
		s.diagnose(d)
	}
	return exceeded(sum, limits)
}

// verdictThresholds reads --fail-on.
func verdictThresholds(given []string) (map[string]int, error) {
	return thresholds(given, "unknown=10", func(name string) error {
		if name != "gap" && !slices.Contains(assess.Statuses(), assess.Status(name)) {
			return misuse("--fail-on", "Give ready, blocked, unknown, done, exempt or gap.", "%q is no verdict", name)
		}
		return nil
	})
}

// exceeded tells whether a scan needs attention: a gap always does, unless --fail-on gap=N allows some.
func exceeded(sum *app.ScanSummary, limits map[string]int) error {
	if len(sum.Gaps) > limits["gap"] {
		return attention{"gaps"}
	}
	for name, n := range limits {
		if name != "gap" && sum.Verdicts[assess.Status(name)] > n {
			return attention{name}
		}
	}
	return nil
}

type scanJSON struct {
	Format      int                   `json:"imdsctl_scan"`
	Scan        int64                 `json:"scan"`
	Status      string                `json:"status"`
	Error       string                `json:"error,omitempty"`
	Started     time.Time             `json:"started"`
	Finished    time.Time             `json:"finished,omitzero"`
	Accounts    int                   `json:"accounts"`
	Places      int                   `json:"places"`
	Disabled    int                   `json:"regions_disabled"`
	NotOffered  int                   `json:"not_offered"`
	Excluded    int                   `json:"excluded"`
	Resources   map[string]int        `json:"resources"`
	Terminated  int                   `json:"terminated"`
	Verdicts    map[assess.Status]int `json:"verdicts"`
	Calls       int64                 `json:"calls"`
	Throttles   int64                 `json:"throttles"`
	Dollars     float64               `json:"cloudwatch_dollars_asked"`
	DollarsPlan float64               `json:"cloudwatch_dollars_estimated"`
	// Metrics were asked of CloudWatch, LookBack of them for the daily counts before the window; the estimate of both was made before.
	Metrics     int64                `json:"cloudwatch_metrics_asked"`
	MetricsPlan int64                `json:"cloudwatch_metrics_estimated"`
	LookBack    int64                `json:"look_back_metrics_asked,omitempty"`
	OwnMetrics  map[string]int64     `json:"own_metrics,omitempty"`
	Gaps        []inventory.Scope    `json:"gaps"`
	Skipped     []app.SkippedAccount `json:"skipped,omitempty"`
}

func scanDocument(sum *app.ScanSummary, err error) scanJSON {
	d := scanJSON{
		Format: jsonVersion, Scan: sum.Scan, Status: sum.Status, Started: sum.Started, Finished: sum.Finished,
		Accounts: sum.Accounts, Places: sum.Places, Disabled: sum.Disabled, NotOffered: sum.NotOffered,
		Excluded: sum.Excluded, Resources: sum.Resources,
		Terminated: sum.Terminated, Verdicts: sum.Verdicts, Calls: sum.Calls, Throttles: sum.Throttles,
		Metrics: sum.Asked.Metrics, MetricsPlan: sum.Cost.Metrics, LookBack: sum.Asked.LookBack,
		Dollars: sum.Asked.Dollars, DollarsPlan: sum.Cost.Dollars, Gaps: append([]inventory.Scope{},
			sum.Gaps...), Skipped: sum.Skipped,
	}
	for source, n := range sum.OwnMetrics {
		if d.OwnMetrics == nil {
			d.OwnMetrics = map[string]int64{}
		}
		d.OwnMetrics[string(source)] = n
	}
	if err != nil {
		d.Error = err.Error()
	}
	return d
}

func (s *session) showScan(sum *app.ScanSummary, err error) {
	total := 0
	for _, n := range sum.Resources {
		total += n
	}
	verb := "Scanned"
	if err != nil {
		verb = s.out.paint(yellow, "Incomplete:") + " scanned"
	}
	line := fmt.Sprintf("%s %s in %s of %s", verb, plural(total, "resource"), plural(sum.Places, "region"),
		plural(sum.Accounts, "account"))
	if d := sum.Finished.Sub(sum.Started); !sum.Finished.IsZero() && d > 0 {
		line += " in " + brief(d)
	}
	line += fmt.Sprintf(": %s, %s throttled", plural(sum.Calls, "AWS call"), count(sum.Throttles))
	if sum.Asked.Dollars > 0 {
		line += fmt.Sprintf(", about $%.2f of CloudWatch (%s, estimated $%.2f)", sum.Asked.Dollars, plural(sum.Asked.Metrics, "metric"),
			sum.Cost.Dollars)
	}
	fmt.Fprintln(s.env.Out, s.out.wrap(line+".", ""))
	var kinds []string
	for _, k := range slices.Sorted(maps.Keys(sum.Resources)) {
		kinds = append(kinds, count(sum.Resources[k])+" "+k)
	}
	if len(kinds) > 0 {
		fmt.Fprintln(s.env.Out, s.out.wrap("  "+strings.Join(kinds, " · "), "  "))
	}
	if len(sum.Verdicts) > 0 {
		fmt.Fprintln(s.env.Out)
		s.showVerdicts(sum.Verdicts)
	}
	var absent []string
	if sum.NotOffered > 0 {
		absent = append(absent, plural(sum.NotOffered, "scope")+" of services that AWS does not offer there")
	}
	if sum.Excluded > 0 {
		absent = append(absent, plural(sum.Excluded, "scope")+" that the configuration excludes")
	}
	if len(absent) > 0 {
		fmt.Fprintln(s.env.Out, "\n"+s.out.wrap("Not read: "+strings.Join(absent, ", and ")+". See `imdsctl status`.", ""))
	}
	for _, sk := range sum.Skipped {
		fmt.Fprintf(s.env.Out, "\nSkipped account %s: %s", sk.Account.ID, sk.Reason)
	}
	if len(sum.Skipped) > 0 {
		fmt.Fprintln(s.env.Out)
	}
	s.showGaps(sum.Gaps)
}

// showVerdicts prints instances by verdict, with what each means.
func (s *session) showVerdicts(counts map[assess.Status]int) {
	total := 0
	for _, n := range counts {
		total += n
	}
	var rows [][]string
	for _, v := range assess.Statuses() {
		rows = append(rows, []string{
			s.verdict(v), some(counts[v]), s.out.paint(verdictStyle(v), bar(24, counts[v], total)), s.out.paint(dim, meaning(v)),
		})
	}
	fmt.Fprint(s.env.Out, s.out.table([]column{
		{title: "VERDICT"}, {title: "INSTANCES", right: true}, {title: ""}, {title: "", flexible: true},
	}, rows))
}

func (s *session) verdict(v assess.Status) string { return s.out.paint(verdictStyle(v), string(v)) }

func verdictStyle(v assess.Status) style {
	switch v {
	case assess.Ready:
		return green
	case assess.Blocked:
		return red
	case assess.Unknown:
		return yellow
	case assess.Exempt:
		return magenta
	default:
		return blue
	}
}

func meaning(v assess.Status) string {
	switch v {
	case assess.Ready:
		return "no IMDSv1 call in the whole window: can be migrated"
	case assess.Blocked:
		return "someone calls IMDSv1, or a service owns the setting"
	case assess.Unknown:
		return "too little was observed to tell"
	case assess.Done:
		return "IMDSv1 is off already"
	default:
		return "an exception is in force"
	}
}

// showGaps prints what could not be read, places that failed alike together.
func (s *session) showGaps(gaps []inventory.Scope) {
	if len(gaps) == 0 {
		return
	}
	type key struct {
		account fleet.AccountID
		class   fleet.ErrorClass
		kind    string
	}
	regions, details := map[key][]string{}, map[key]string{}
	var order []key
	for _, g := range gaps {
		k := key{g.Place.Account, g.Class, g.Kind}
		if regions[k] == nil {
			order = append(order, k)
			details[k] = g.Detail
		}
		regions[k] = append(regions[k], string(g.Place.Region))
	}
	fmt.Fprintf(s.env.Out, "\n%s could not be read; what is there is %s, not absent:\n",
		s.out.paint(yellow+bold, plural(len(gaps), "scope")), s.out.paint(bold, "unknown"))
	var rows [][]string
	for _, k := range order {
		where := strings.Join(regions[k], " ")
		if len(regions[k]) > 3 {
			where = plural(len(regions[k]), "region")
		}
		what := k.kind
		if what == "" {
			what = "everything"
		}
		rows = append(rows, []string{string(k.account), where, what, s.out.paint(yellow, string(k.class)),
			oneLine(details[k])})
	}
	fmt.Fprint(s.env.Out, s.out.table([]column{
		{title: "ACCOUNT"}, {title: "REGION", flexible: true, floor: 12}, {title: "WHAT"}, {title: "WHY"},
		{title: "DETAIL", flexible: true, floor: 20},
	}, rows))
	s.hint("`imdsctl doctor` says what is missing in each account.")
}

func oneLine(text string) string { return visible(strings.Join(strings.Fields(text), " ")) }

// brief writes a duration with the two units that matter.
func brief(d time.Duration) string { return report.Brief(d) }
