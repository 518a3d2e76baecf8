package cli

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/imdsctl/imdsctl/internal/app"
	"github.com/imdsctl/imdsctl/internal/assess"
	"github.com/imdsctl/imdsctl/internal/inventory"
)

func (s *session) statusCommand() *cobra.Command {
	return &cobra.Command{
		Use: "status", Short: "Show the posture: how far each account is", GroupID: groupSee, Args: cobra.NoArgs,
		Long: `Shows, from the database, how many instances of each account are ready, blocked, unknown, done or
exempt, what could not be read, how that has changed over the days, and which rollouts there are. No AWS call is
made.`,
		Annotations: formats("table json csv"),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return s.with(cmd.Context(), s.status)
		},
	}
}

func (s *session) status(ctx context.Context, a *app.App) error {
	st, err := a.Status(ctx)
	if err != nil {
		return err
	}
	switch s.format {
	case "json":
		err = writeJSON(s.env.Out, statusDocument(st))
	case "csv":
		err = s.statusCSV(st)
	default:
		s.showStatus(st)
	}
	if err == nil && (len(st.Gaps) > 0 || st.Scan == nil) {
		err = attention{"gaps"}
	}
	return err
}

type statusJSON struct {
	Format     int               `json:"imdsctl_status"`
	Scan       *app.ScanInfo     `json:"scan"`
	AgeSeconds int64             `json:"age_seconds"`
	Instances  app.Counts        `json:"instances"`
	Accounts   []accountJSON     `json:"accounts"`
	Gaps       []inventory.Scope `json:"gaps"`
	Disabled   int               `json:"regions_disabled"`
	NotOffered map[string]int    `json:"not_offered,omitempty"`
	Excluded   map[string]int    `json:"excluded,omitempty"`
	Rollouts   []app.RolloutInfo `json:"rollouts"`
	// Evidence are the sources that were read or taken in.
	Evidence []app.SourceStatus `json:"evidence,omitempty"`
	Trend    []app.TrendDay     `json:"trend"`
	Bytes    int64              `json:"database_bytes"`
}

type accountJSON struct {
	inventory.Account
	Criticality string     `json:"criticality"`
	Wave        string     `json:"wave"`
	Instances   app.Counts `json:"instances"`
	Resources   int        `json:"resources"`
	Gaps        int        `json:"gaps"`
}

func statusDocument(st *app.Status) statusJSON {
	d := statusJSON{
		Format: jsonVersion, Scan: st.Scan, AgeSeconds: int64(st.Age.Seconds()), Instances: st.Total,
		Accounts: []accountJSON{},
		Gaps:     append([]inventory.Scope{}, st.Gaps...), Disabled: st.Disabled, NotOffered: st.NotOffered,
		Excluded: st.Excluded, Rollouts: append([]app.RolloutInfo{},
			st.Rollouts...),
		Evidence: st.Evidence, Trend: append([]app.TrendDay{}, st.Trend...), Bytes: st.Bytes,
	}
	for _, a := range st.Accounts {
		d.Accounts = append(d.Accounts, accountJSON{a.Account, string(a.Criticality), a.Wave, a.Instances, a.Resources,
			a.Gaps})
	}
	return d
}

func (s *session) statusCSV(st *app.Status) error {
	columns := []string{"account", "name", "ou", "criticality", "wave"}
	for _, v := range assess.Statuses() {
		columns = append(columns, string(v))
	}
	return writeCSV(s.env.Out, append(columns, "resources", "gaps"), func(yield func([]string, error) bool) {
		for _, a := range st.Accounts {
			row := []string{string(a.Account.ID), a.Account.Name, a.Account.OU, string(a.Criticality), a.Wave}
			for _, v := range assess.Statuses() {
				row = append(row, fmt.Sprint(a.Instances[v]))
			}
			if !yield(append(row, fmt.Sprint(a.Resources), fmt.Sprint(a.Gaps)), nil) {
				return
			}
		}
	})
}

func (s *session) showStatus(st *app.Status) {
	if st.Scan == nil {
		fmt.Fprintln(s.env.Out, "The database holds no scan yet. Run `imdsctl scan`.")
		return
	}
	fmt.Fprintf(s.env.Out, "Scan %d, %s ago. %s\n\n", st.Scan.ID, brief(st.Age), s.migrated(st.Total))
	var rows [][]string
	for _, a := range st.Accounts {
		rows = append(rows, s.postureRow(a))
	}
	if len(st.Accounts) > 1 {
		total := s.postureRow(app.AccountStatus{Instances: st.Total, Gaps: len(st.Gaps)})
		total[1] = "total"
		for i := range total {
			total[i] = s.out.paint(bold, total[i])
		}
		rows = append(rows, total)
	}
	fmt.Fprint(s.env.Out, s.out.table(postureColumns(), rows))
	s.showTrend(st.Trend)
	s.showSources(st.Evidence)
	s.showAbsent(st)
	s.showGaps(st.Gaps)
	if len(st.Rollouts) > 0 {
		fmt.Fprintln(s.env.Out)
		s.showRollouts(st.Rollouts)
	}
}

// showSources tells what of evidence is at hand besides the metric, which every scan reads.
func (s *session) showSources(sources []app.SourceStatus) {
	if !slices.ContainsFunc(sources, func(x app.SourceStatus) bool { return x.Imports > 0 }) {
		return
	}
	day := func(t time.Time) string {
		if t.IsZero() {
			return ""
		}
		return t.UTC().Format(time.DateOnly)
	}
	var rows [][]string
	for _, x := range sources {
		what := "read by the scan"
		if x.Imports > 0 {
			what = plural(x.Findings, "finding") + " of " + plural(x.Imports, "import")
		}
		if x.Lost > 0 {
			what += ", " + count(x.Lost) + " incomplete"
		}
		rows = append(rows, []string{x.Source.Title(), day(x.From), day(x.To), what, oldness(x.AgeSeconds)})
	}
	fmt.Fprintln(s.env.Out, "\nEvidence:")
	fmt.Fprint(s.env.Out, s.out.table([]column{{title: "SOURCE"}, {title: "FROM"}, {title: "TO"}, {title: "HOLDS", flexible: true, floor: 16},
		{title: "AGE", right: true}}, rows))
}

// showAbsent tells what was not read on purpose: a line for the services that AWS does not offer everywhere, and one for the
// kinds that the configuration leaves out.
func (s *session) showAbsent(st *app.Status) {
	list := func(kinds map[string]int, unit string) string {
		var out []string
		for _, k := range slices.Sorted(maps.Keys(kinds)) {
			out = append(out, k+" in "+plural(kinds[k], unit))
		}
		return strings.Join(out, ", ")
	}
	for _, line := range []struct {
		what  string
		kinds map[string]int
	}{{"Not offered by AWS: ", st.NotOffered}, {"Excluded by the configuration, so unknown: ", st.Excluded}} {
		if len(line.kinds) > 0 {
			fmt.Fprintln(s.env.Out, "\n"+s.out.wrap(line.what+list(line.kinds, "region")+".", ""))
		}
	}
}

func postureColumns() []column {
	out := []column{{title: "ACCOUNT"}, {title: "NAME", flexible: true, floor: 10},
		{title: "WAVE", flexible: true, floor: 6}}
	for _, v := range assess.Statuses() {
		out = append(out, column{title: strings.ToUpper(string(v)), right: true})
	}
	return append(out, column{title: "GAPS", right: true}, column{title: ""})
}

func (s *session) postureRow(a app.AccountStatus) []string {
	row := []string{string(a.Account.ID), a.Account.Name, a.Wave}
	total := 0
	for _, v := range assess.Statuses() {
		n := a.Instances[v]
		total += n
		cell := some(n)
		if n > 0 {
			cell = s.out.paint(verdictStyle(v), cell)
		}
		row = append(row, cell)
	}
	gaps := some(a.Gaps)
	if a.Gaps > 0 {
		gaps = s.out.paint(yellow, gaps)
	}
	share := ""
	if total > 0 {
		share = s.out.paint(blue, bar(6, a.Instances[assess.Done], total))
	}
	return append(row, gaps, share)
}

// migrated says in a sentence how many of the instances refuse IMDSv1.
func (s *session) migrated(c app.Counts) string {
	total := 0
	for _, n := range c {
		total += n
	}
	if total == 0 {
		return "There are no instances."
	}
	done := c[assess.Done]
	return fmt.Sprintf("%s of %s (%d %%) refuse IMDSv1.", s.out.paint(bold, count(done)), plural(total, "instance"),
		100*done/total)
}

// showTrend draws the days as one line: the share of instances that refuse IMDSv1.
func (s *session) showTrend(days []app.TrendDay) {
	if len(days) < 2 {
		return
	}
	const most = 60
	days = days[max(0, len(days)-most):]
	levels := []rune("▁▂▃▄▅▆▇█")
	var line strings.Builder
	share := 0
	for _, d := range days {
		total := 0
		for _, n := range d.Counts {
			total += n
		}
		share = 0
		if total > 0 {
			share = 100 * d.Counts[assess.Done] / total
		}
		line.WriteRune(levels[min(len(levels)-1, share*len(levels)/100)])
	}
	fmt.Fprintf(s.env.Out, "\nDone since %s: %s %d %%\n", dayOf(days[0]), s.out.paint(blue, line.String()), share)
}

func dayOf(d app.TrendDay) string { return d.Day.Format(time.DateOnly) }
