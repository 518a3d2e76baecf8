package cli

import (
	"context"
	"fmt"
	"iter"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/imdsctl/imdsctl/internal/app"
	"github.com/imdsctl/imdsctl/internal/assess"
	"github.com/imdsctl/imdsctl/internal/fleet"
	"github.com/imdsctl/imdsctl/internal/inventory"
	"github.com/imdsctl/imdsctl/internal/policy"
)

type resourceOptions struct {
	verdicts, risks, accounts, regions, kinds, tags []string
	name                                            string
	terminated                                      bool
}

func (s *session) resourcesCommand() *cobra.Command {
	var o resourceOptions
	cmd := &cobra.Command{
		Use: "resources", Short: "List the fleet, filtered, each with its verdict and why", GroupID: groupSee,
		Args: cobra.NoArgs,
		Long: `Lists what the last scan found. Filters add up; values of one filter are alternatives. No AWS call is
made.`,
		Example: `  imdsctl resources --verdict blocked
  imdsctl resources --kind launch-template --region eu-west-1 --format csv
  imdsctl resources --risk critical,high --verdict ready,blocked
  imdsctl resources --tag app=payments --tag env='prod*'`,
		Annotations: formats("table json csv"),
		RunE: func(cmd *cobra.Command, _ []string) error {
			filter, err := o.filter()
			if err != nil {
				return err
			}
			return s.with(cmd.Context(), func(ctx context.Context,
				a *app.App) error {
				return s.resources(a.Resources(ctx, filter))
			})
		},
	}
	f := cmd.Flags()
	f.StringSliceVar(&o.verdicts, "verdict", nil, "ready, blocked, unknown, done or exempt")
	f.StringSliceVar(&o.risks, "risk", nil, "critical, high, medium, low or unknown")
	f.StringSliceVar(&o.accounts, "account", nil, "account `ids`")
	f.StringSliceVar(&o.regions, "region", nil, "region `names`")
	f.StringSliceVar(&o.kinds, "kind", nil, "kinds: "+strings.Join(app.KindNames(), ", "))
	f.StringArrayVar(&o.tags, "tag", nil, "a tag, `KEY=PATTERN` or KEY alone; all must match")
	f.StringVar(&o.name, "name", "", "a `pattern` of names")
	f.BoolVar(&o.terminated, "terminated", false, "terminated instances too, which are kept as evidence")
	return cmd
}

func (o resourceOptions) filter() (app.ResourceFilter, error) {
	accounts, err := accountIDs(o.accounts)
	if err != nil {
		return app.ResourceFilter{}, err
	}
	f := app.ResourceFilter{
		Accounts: accounts, Regions: regionNames(o.regions), Kinds: o.kinds, Name: policy.Glob(o.name),
		Tags: map[string]policy.Glob{}, Terminated: o.terminated,
	}
	for _, k := range o.kinds {
		if !slices.Contains(app.KindNames(), k) {
			return f, misuse("--kind", "Give one of: "+strings.Join(app.KindNames(), ", ")+".", "%q is no kind", k)
		}
	}
	for _, v := range o.verdicts {
		if !slices.Contains(assess.Statuses(), assess.Status(v)) {
			return f, misuse("--verdict", "Give ready, blocked, unknown, done or exempt.", "%q is no verdict", v)
		}
		f.Statuses = append(f.Statuses, assess.Status(v))
	}
	for _, r := range o.risks {
		if !slices.Contains(assess.RiskLevels(), assess.RiskLevel(r)) {
			return f, misuse("--risk", "Give critical, high, medium, low or unknown.", "%q is no level of risk", r)
		}
		f.Risks = append(f.Risks, assess.RiskLevel(r))
	}
	for _, t := range o.tags {
		key, pattern, has := strings.Cut(t, "=")
		if !has {
			pattern = "*"
		}
		f.Tags[key] = policy.Glob(pattern)
	}
	return f, nil
}

type resourceJSON struct {
	Ref      fleet.Ref                `json:"ref"`
	Account  string                   `json:"account_name,omitempty"`
	Name     string                   `json:"name,omitempty"`
	Status   inventory.Status         `json:"status,omitempty"`
	State    fleet.State              `json:"state"`
	Launch   map[string]fleet.Options `json:"launch,omitempty"`
	Tags     map[string]string        `json:"tags,omitempty"`
	Owner    fleet.Owner              `json:"owner,omitzero"`
	Claims   []fleet.Owner            `json:"claims,omitempty"`
	Code     fleet.Owner              `json:"code,omitzero"`
	Links    []inventory.Link         `json:"links,omitempty"`
	Attrs    map[string]string        `json:"attrs,omitempty"`
	Verdict  *assess.Verdict          `json:"verdict,omitempty"`
	Launched string                   `json:"launched,omitempty"`
}

func (s *session) resources(rows iter.Seq2[app.ResourceRow, error]) error {
	switch s.format {
	case "json":
		return s.resourcesJSON(rows)
	case "csv":
		return writeCSV(s.env.Out, []string{
			"verdict", "kind", "account", "account_name", "region", "id", "name", "status", "tokens", "hop_limit", "endpoint",
			"owner", "v1_calls", "last_v1_call", "why", "risk", "risk_score", "risk_parts",
		}, resourceRecords(rows))
	}
	return s.resourcesTable(rows)
}

func (s *session) resourcesJSON(rows iter.Seq2[app.ResourceRow, error]) error {
	l := newList(s.env.Out, "resources")
	for row, err := range rows {
		if err != nil {
			return err
		}
		r := row.Resource
		d := resourceJSON{
			Ref: r.Ref, Account: row.Account.Name, Name: r.Name, Status: r.Status, State: r.State, Launch: r.Launch,
			Tags:  r.Tags,
			Owner: row.Owner, Claims: r.Claims, Code: row.Code, Links: r.Links, Attrs: r.Attrs, Verdict: row.Verdict,
		}
		if !r.Launched.IsZero() {
			d.Launched = r.Launched.UTC().Format("2006-01-02T15:04:05Z")
		}
		if err := l.add(d); err != nil {
			return err
		}
	}
	return l.end()
}

func resourceRecords(rows iter.Seq2[app.ResourceRow, error]) iter.Seq2[[]string, error] {
	return func(yield func([]string, error) bool) {
		for row, err := range rows {
			if err != nil {
				yield(nil, err)
				return
			}
			r, o := row.Resource, shownOptions(row)
			record := []string{
				"", r.Ref.Kind, string(r.Ref.Account), row.Account.Name, string(r.Ref.Region), r.Ref.ID, r.Name, string(r.Status),
				o.Tokens, hopLimit(o.HopLimit, ""), o.Endpoint, row.Owner.String(), "", "", "", "", "", "",
			}
			if v := row.Verdict; v != nil {
				record[0], record[12], record[14] = string(v.Status), fmt.Sprint(v.Basis.Calls), v.Why()
				if !v.Basis.LastCall.IsZero() {
					record[13] = v.Basis.LastCall.UTC().Format("2006-01-02T15:04:05Z")
				}
			}
			if v := row.Verdict; v != nil && v.Risk != nil {
				record[15], record[16], record[17] = string(v.Risk.Level), fmt.Sprint(v.Risk.Score), riskLine(v.Risk)
			}
			if !yield(record, nil) {
				return
			}
		}
	}
}

// shownOptions are what a resource says itself, or, for what only launches others, what a launch would get.
func shownOptions(row app.ResourceRow) fleet.Options {
	o := row.Resource.State.Options()
	if row.Verdict != nil && row.Resource.Ref.Kind != inventory.KindInstance {
		o = o.Over(row.Verdict.Effective)
	}
	return o
}

func hopLimit(n int, unset string) string {
	if n == 0 {
		return unset
	}
	return fmt.Sprint(n)
}

// resourcesTable prints a table. A table needs all its rows to know its widths: it goes out in pages of a few thousand.
func (s *session) resourcesTable(rows iter.Seq2[app.ResourceRow, error]) error {
	const page = 5000
	columns := []column{
		{title: "VERDICT"}, {title: "RISK"}, {title: "ACCOUNT"}, {title: "REGION"}, {title: "ID", flexible: true, floor: 19},
		{title: "NAME", flexible: true, floor: 12}, {title: "TOKENS"}, {title: "HOPS", right: true},
		{title: "WHY", flexible: true, floor: 16},
	}
	var lines [][]string
	total := 0
	for row, err := range rows {
		if err != nil {
			return err
		}
		total++
		lines = append(lines, s.resourceLine(row))
		if len(lines) == page {
			fmt.Fprint(s.env.Out, s.out.table(columns, lines))
			lines = lines[:0]
		}
	}
	if len(lines) > 0 {
		fmt.Fprint(s.env.Out, s.out.table(columns, lines))
	}
	if total == 0 {
		fmt.Fprintln(s.env.Out, "Nothing matches.")
		return nil
	}
	s.hint("%s. `imdsctl why INSTANCE` explains one; --format csv or json has everything.", plural(total, "resource"))
	return nil
}

func (s *session) resourceLine(row app.ResourceRow) []string {
	r, o := row.Resource, shownOptions(row)
	verdict, why := s.out.paint(dim, "-"), ""
	if v := row.Verdict; v != nil {
		verdict, why = s.verdict(v.Status), v.Why()
	}
	tokens := o.Tokens
	switch {
	case o.Endpoint == fleet.Disabled:
		tokens = "endpoint off"
	case tokens == "":
		tokens = s.out.paint(dim, "(unset)")
	}
	name := r.Name
	if name == "" || name == r.Ref.ID {
		name = s.out.paint(dim, r.Ref.Kind)
	}
	return []string{verdict, s.riskWord(row.Verdict), string(r.Ref.Account), string(r.Ref.Region), r.Ref.ID, name, tokens,
		hopLimit(o.HopLimit, "·"), oneLine(why)}
}
