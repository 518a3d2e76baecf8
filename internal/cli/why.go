package cli

import (
	"cmp"
	"context"
	"fmt"
	"regexp"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/imdsctl/imdsctl/internal/app"
	"github.com/imdsctl/imdsctl/internal/assess"
	"github.com/imdsctl/imdsctl/internal/evidence"
	"github.com/imdsctl/imdsctl/internal/fleet"
	"github.com/imdsctl/imdsctl/internal/inventory"
)

func (s *session) whyCommand() *cobra.Command {
	var region, account, kindName string
	cmd := &cobra.Command{
		Use: "why INSTANCE", Short: "Explain one instance from live calls, with no database", GroupID: groupSee,
		Args: cobra.ExactArgs(1),
		Long: `Reads one instance, its group, its template and their IMDSv1 calls from AWS now, and explains the
verdict: what was seen, what was not, and what to do next. It needs no scan and no database, and changes
nothing. Where there is a database, the evidence that was imported into it is judged by as well.`,
		Example:     "  imdsctl why i-0123456789abcdef0 --region eu-west-1",
		Annotations: formats("table json"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return s.why(cmd.Context(), app.WhyOptions{Instance: args[0], Kind: kindName, Region: fleet.Region(region),
				Account: fleet.AccountID(account)})
		},
	}
	cmd.Flags().StringVar(&region, "region", "", "the instance's region `name`; AWS_REGION if not given")
	cmd.Flags().StringVar(&kindName, "kind", inventory.KindInstance, "what it is: ec2-instance, or lightsail-instance, by its `name`")
	cmd.Flags().StringVar(&account, "account", "", "the instance's account `id`; the caller's own if not given")
	return cmd
}

var instanceID = regexp.MustCompile(`^i-([0-9a-f]{8}|[0-9a-f]{17})$`)

func (s *session) why(ctx context.Context, o app.WhyOptions) error {
	if o.Kind == inventory.KindInstance && !instanceID.MatchString(o.Instance) {
		return misuse("", "Give an id such as i-0123456789abcdef0, or --kind lightsail-instance with a name.", "%q is no instance id",
			o.Instance)
	}
	if o.Account != "" && !o.Account.Valid() {
		return misuse("--account", "Give twelve digits.", "%q is no account id", o.Account)
	}
	if !app.DatabaseExists(s.db) {
		s.db = "" // none is needed, and none is made
	}
	return s.with(ctx, func(ctx context.Context, a *app.App) error {
		w, err := a.Why(ctx, o)
		if err != nil {
			return err
		}
		if s.format == "json" {
			err = writeJSON(s.env.Out, whyDocument(w))
		} else {
			s.showWhy(w)
		}
		if err == nil && len(w.Gaps) > 0 {
			err = attention{"gaps"}
		}
		return err
	})
}

type whyJSON struct {
	Format          int                 `json:"imdsctl_why"`
	Resource        inventory.Resource  `json:"resource"`
	Verdict         *assess.Verdict     `json:"verdict"`
	Owner           fleet.Owner         `json:"owner,omitzero"`
	Code            []fleet.Owner       `json:"code,omitempty"`
	Group           *inventory.Resource `json:"group,omitempty"`
	GroupVerdict    *assess.Verdict     `json:"group_verdict,omitempty"`
	Template        *inventory.Resource `json:"template,omitempty"`
	TemplateVersion string              `json:"template_version,omitempty"`
	Effective       fleet.Options       `json:"next_launch,omitzero"`
	Launch          assess.Launch       `json:"next_launch_by,omitzero"`
	Windows         []windowJSON        `json:"windows"`
	History         []windowJSON        `json:"history,omitempty"`
	Imports         []evidence.Import   `json:"imports,omitempty"`
	Notes           []string            `json:"notes,omitempty"`
	Gaps            []inventory.Scope   `json:"gaps"`
	Next            []string            `json:"next"`
}

type windowJSON struct {
	Subject fleet.Ref       `json:"subject"`
	Metric  evidence.Metric `json:"metric"`
	Start   time.Time       `json:"start"`
	End     time.Time       `json:"end"`
	Periods int             `json:"periods"`
	Covered int             `json:"covered_periods"`
	Calls   int64           `json:"calls"`
	Last    time.Time       `json:"last,omitzero"`
}

func whyDocument(w *app.WhyReport) whyJSON {
	d := whyJSON{
		Format: jsonVersion, Resource: w.Resource, Verdict: w.Verdict, Owner: w.Owner, Code: w.Code, Group: w.Group, GroupVerdict: w.GroupVerdict,
		Template: w.Template, TemplateVersion: w.TemplateVersion, Effective: w.Effective, Launch: w.Launch,
		Windows: []windowJSON{},
		Gaps:    append([]inventory.Scope{}, w.Gaps...), Next: append([]string{}, w.Next...),
	}
	d.Windows = append(d.Windows, windowDocuments(w.Windows)...)
	d.History, d.Imports, d.Notes = windowDocuments(w.History), w.Imports, w.Notes
	return d
}

func windowDocuments(windows []*evidence.Window) []windowJSON {
	var out []windowJSON
	for _, x := range windows {
		out = append(out, windowJSON{
			x.Subject, x.Metric, x.Span.Start, x.Span.End(), x.Span.Slots, x.Covered.Count(), x.Total, x.LastNonZero(),
		})
	}
	return out
}

func (s *session) showWhy(w *app.WhyReport) {
	r := w.Resource
	title := s.out.paint(bold, r.Ref.ID)
	if r.Name != "" {
		title += " " + visible(r.Name)
	}
	verdict := "not judged"
	if w.Verdict != nil {
		verdict = s.out.paint(verdictStyle(w.Verdict.Status)+bold, string(w.Verdict.Status))
	}
	fmt.Fprintf(s.env.Out, "%s is %s\n\n", title, verdict)
	if w.Verdict != nil {
		for _, reason := range w.Verdict.Reasons {
			fmt.Fprintln(s.env.Out, s.out.wrap("  • "+reason.Text, "    "))
		}
		fmt.Fprintln(s.env.Out)
	}
	s.whyFacts(w)
	s.whyRisk(w)
	s.whyCalls(w)
	s.whyEvidence(w)
	s.showGaps(w.Gaps)
	if len(w.Next) > 0 {
		fmt.Fprintln(s.env.Out, "\nNext:")
		for _, n := range w.Next {
			fmt.Fprintln(s.env.Out, s.out.wrap("  → "+n, "    "))
		}
	}
}

func (s *session) whyFacts(w *app.WhyReport) {
	r := w.Resource
	o := r.State.Options()
	var rows [][]string
	row := func(label, value string) {
		if value != "" {
			rows = append(rows, []string{"  " + s.out.paint(dim, label), value})
		}
	}
	row("where", fmt.Sprintf("account %s, %s", r.Ref.Account, r.Ref.Region))
	status := string(r.Status)
	if !r.Launched.IsZero() {
		status += ", since " + r.Launched.UTC().Format("2006-01-02 15:04 UTC")
	}
	row("status", status)
	row("now", fmt.Sprintf("tokens %s, hop limit %s, endpoint %s", o.Tokens, hopLimit(o.HopLimit, "unset"), o.Endpoint))
	row("owner", w.Owner.String())
	for _, code := range w.Code {
		if code != w.Owner {
			row("code", code.String())
		}
	}
	if w.Group != nil {
		group := w.Group.Ref.ID
		if w.GroupVerdict != nil {
			group += " (" + s.verdict(w.GroupVerdict.Status) + ")"
		}
		row("group", group)
	}
	if w.Template != nil {
		row("template", strings.TrimSpace(w.Template.Name+" "+w.Template.Ref.ID)+" version "+w.TemplateVersion)
	}
	if w.Launch != (assess.Launch{}) {
		row("next launch", fmt.Sprintf("tokens %s, hop limit %s", decided(w.Launch.Tokens), decided(w.Launch.HopLimit)))
	}
	fmt.Fprint(s.env.Out, headless(s.out.table([]column{{}, {flexible: true, floor: 20}}, rows)))
	if why := cmp.Or(w.Launch.Refused, w.Launch.Tokens.Unknown); why != "" {
		fmt.Fprintln(s.env.Out, s.out.wrap("  The next launch: "+oneLine(why)+".", "  "))
	}
}

// decided is a field of a launch in words: "optional (template version 3)".
func decided(f assess.Setting) string {
	if f.Unknown != "" {
		return "unknown"
	}
	return f.Value + " (" + f.By() + ")"
}

// headless takes the empty header line off a table.
func headless(table string) string {
	_, rest, _ := strings.Cut(table, "\n")
	return rest
}

// whyCalls draws the IMDSv1 calls of the window, one column for a few periods: a dot is a zero, a blank no datapoint.
func (s *session) whyCalls(w *app.WhyReport) {
	for _, x := range w.Windows {
		if x.Metric != evidence.MetricNoToken || x.Subject != w.Resource.Ref {
			continue
		}
		fmt.Fprintf(s.env.Out, "\n  IMDSv1 calls from %s to %s: %s, %d of %d periods reported\n  %s\n",
			x.Span.Start.Format("Jan 2"), x.Span.End().Format("Jan 2 15:04"), s.out.paint(bold, count(x.Total)),
			x.Covered.Count(), x.Span.Slots, s.out.paint(yellow, spark(x, min(84, x.Span.Slots))))
	}
}

// whyEvidence lists the sources with the time that they speak for, and what they found.
func (s *session) whyEvidence(w *app.WhyReport) {
	v := w.Verdict
	if v == nil {
		return
	}
	if len(v.Sources) > 0 {
		fmt.Fprintln(s.env.Out, "\nEvidence of its lineage:")
		fmt.Fprint(s.env.Out, s.out.table(sourceColumns(), sourceRows(v.Sources)))
	}
	if len(v.Findings) > 0 {
		var rows [][]string
		for _, f := range v.Findings {
			calls := ""
			if f.Count > 0 {
				calls = count(f.Count)
			}
			rows = append(rows, []string{f.Last.UTC().Format(time.DateOnly), string(f.What), strings.TrimSpace(f.Product + " " + f.Version), calls,
				f.Subject.String(), oneLine(f.Detail), f.Origin})
		}
		fmt.Fprintln(s.env.Out)
		fmt.Fprint(s.env.Out, s.out.table([]column{{title: "LAST"}, {title: "FOUND"}, {title: "PRODUCT"}, {title: "CALLS", right: true}, {title: "ABOUT"},
			{title: "DETAIL", flexible: true, floor: 12}, {title: "FROM", flexible: true, floor: 10}}, rows))
		if v.FindingsLeft > 0 {
			fmt.Fprintf(s.env.Out, "  and %s more\n", count(v.FindingsLeft))
		}
	}
	if n := len(w.Imports); n > 0 {
		fmt.Fprintln(s.env.Out, s.out.wrap(fmt.Sprintf("\n  With %s from the database, the last of %s.", plural(n, "import"),
			w.Imports[n-1].At.UTC().Format("2006-01-02 15:04 UTC")), "  "))
	}
	for _, note := range w.Notes {
		fmt.Fprintln(s.env.Out, s.out.wrap("  "+note, "  "))
	}
}

func sourceColumns() []column {
	return []column{{title: "SOURCE"}, {title: "FROM"}, {title: "TO"}, {title: "COVERED", right: true}, {title: "SAW", flexible: true, floor: 20},
		{title: "AGE", right: true}}
}

// oldness is how old something is; what was observed until a moment ago is of now.
func oldness(seconds int64) string {
	if seconds < 60 {
		return "now"
	}
	return brief(time.Duration(seconds) * time.Second)
}

func sourceRows(sources []assess.SourceBasis) [][]string {
	var rows [][]string
	for _, x := range sources {
		covered := ""
		if x.Coverage != nil {
			covered = fmt.Sprintf("%.1f %%", 100**x.Coverage)
		}
		rows = append(rows, []string{x.Source.Title(), x.From.UTC().Format(time.DateOnly), x.To.UTC().Format(time.DateOnly), covered, x.Saw(),
			oldness(x.AgeSeconds)})
	}
	return rows
}

func spark(w *evidence.Window, columns int) string {
	levels := []rune("▁▂▃▄▅▆▇█")
	sums, seen := make([]int64, columns), make([]bool, columns)
	var most int64
	for i := range w.Span.Slots {
		seen[i*columns/w.Span.Slots] = seen[i*columns/w.Span.Slots] || w.Covered.Has(i)
	}
	for _, p := range w.Points {
		c := p.Slot * columns / w.Span.Slots
		sums[c] += p.Count
		most = max(most, sums[c])
	}
	out := make([]rune, columns)
	for i := range out {
		switch {
		case sums[i] > 0:
			out[i] = levels[(sums[i]*int64(len(levels))-1)/most]
		case seen[i]:
			out[i] = '·'
		default:
			out[i] = ' '
		}
	}
	return string(out)
}
