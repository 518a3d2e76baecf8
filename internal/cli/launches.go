package cli

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"iter"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/imdsctl/imdsctl/internal/app"
	"github.com/imdsctl/imdsctl/internal/assess"
	"github.com/imdsctl/imdsctl/internal/fleet"
	"github.com/imdsctl/imdsctl/internal/inventory"
)

type launchOptions struct {
	accounts, regions, kinds, failOn []string
	v1                               bool
}

func (s *session) launchesCommand() *cobra.Command {
	var o launchOptions
	cmd := &cobra.Command{
		Use: "launches", Short: "List what would be launched tomorrow, on which settings, and who decides them", GroupID: groupSee,
		Args: cobra.NoArgs,
		Long: `Lists, from what the last scan found, every future launch: of each group, fleet and service by each
template or configuration that it names, of templates that nothing names, and of a plain RunInstances call in
each account and region. Each field is shown with who decides it: launch parameters, template, account default,
image, or EC2 itself. "refused" are launches that fail because HttpTokensEnforced is enabled. What could not be
read is a gap: it is listed, what depends on it is unknown, and the exit code is 3. No AWS call is made.`,
		Example: `  imdsctl launches --v1                            # what would be launched tomorrow on IMDSv1
  imdsctl launches --kind auto-scaling-group --region eu-west-1 --format csv
  imdsctl launches --fail-on v1 --fail-on unknown=10 --format json   # for CI`,
		Annotations: formats("table json csv"),
		RunE: func(cmd *cobra.Command, _ []string) error {
			filter, err := o.filter()
			if err != nil {
				return err
			}
			limits, err := launchThresholds(o.failOn)
			if err != nil {
				return err
			}
			return s.with(cmd.Context(), func(ctx context.Context, a *app.App) error { return s.launches(ctx, a, filter, limits) })
		},
	}
	f := cmd.Flags()
	f.BoolVar(&o.v1, "v1", false, "only what would allow IMDSv1")
	f.StringSliceVar(&o.accounts, "account", nil, "account `ids`")
	f.StringSliceVar(&o.regions, "region", nil, "region `names`")
	f.StringSliceVar(&o.kinds, "kind", nil, "kinds of who launches: "+strings.Join(app.KindNames(), ", "))
	f.StringSliceVar(&o.failOn, "fail-on", nil, "end with 3 if more than N launches are `WORD[=N]`: v1, unknown, refused; or gap")
	return cmd
}

func (o launchOptions) filter() (app.LaunchFilter, error) {
	accounts, err := accountIDs(o.accounts)
	if err != nil {
		return app.LaunchFilter{}, err
	}
	f := app.LaunchFilter{Accounts: accounts, Regions: regionNames(o.regions), Kinds: o.kinds}
	for _, k := range o.kinds {
		if !slices.Contains(app.KindNames(), k) {
			return f, misuse("--kind", "Give one of: "+strings.Join(app.KindNames(), ", ")+".", "%q is no kind", k)
		}
	}
	if o.v1 {
		f.V1 = []assess.V1{assess.V1Open}
	}
	return f, nil
}

// launchWords are what --fail-on may name; "gap" is apart.
func launchWords() map[string]assess.V1 {
	return map[string]assess.V1{"v1": assess.V1Open, "unknown": assess.V1Unknown, "refused": assess.V1Refused, "gap": ""}
}

// launchThresholds reads --fail-on.
func launchThresholds(given []string) (map[string]int, error) {
	return thresholds(given, "unknown=10", func(name string) error {
		if _, ok := launchWords()[name]; !ok {
			return misuse("--fail-on", "Give v1, unknown, refused or gap.", "%q is no answer", name)
		}
		return nil
	})
}

// launchTally adds up what was listed.
type launchTally struct {
	counts map[assess.V1]int
	gaps   []inventory.Scope
	places int
}

// exceeded tells whether the list needs attention: a gap always does, unless --fail-on gap=N allows some.
func (t *launchTally) exceeded(limits map[string]int) error {
	if len(t.gaps) > limits["gap"] || t.places == 0 {
		return attention{"gaps"}
	}
	for name, n := range limits {
		if name != "gap" && t.counts[launchWords()[name]] > n {
			return attention{name}
		}
	}
	return nil
}

// launchRow is one launch, and the account it happens in.
type launchRow struct {
	assess.FutureLaunch
	account inventory.Account
}

// launches lists the launches as they come, and ends with what was counted on the way.
func (s *session) launches(ctx context.Context, a *app.App, f app.LaunchFilter, limits map[string]int) error {
	tally := &launchTally{counts: map[assess.V1]int{}}
	rows := func(yield func(launchRow, error) bool) {
		for p, err := range a.Launches(ctx, f) {
			if err != nil {
				yield(launchRow{}, err)
				return
			}
			tally.places++
			tally.gaps = append(tally.gaps, p.Gaps...)
			for answer, n := range p.Counts {
				tally.counts[answer] += n
			}
			for _, l := range p.Launches {
				if !yield(launchRow{l, p.Account}, nil) {
					return
				}
			}
		}
	}
	var err error
	switch s.format {
	case "json":
		err = s.launchesJSON(rows, tally)
	case "csv":
		err = writeCSV(s.env.Out, launchColumns(), launchRecords(rows))
	default:
		err = s.launchesTable(rows, tally, len(f.V1) > 0)
	}
	if err != nil {
		return err
	}
	return tally.exceeded(limits)
}

type launchJSON struct {
	By       fleet.Ref     `json:"by"`
	Account  string        `json:"account_name,omitempty"`
	Name     string        `json:"name,omitempty"`
	Field    string        `json:"field,omitempty"`
	From     fleet.Ref     `json:"from,omitzero"`
	FromName string        `json:"from_name,omitempty"`
	Selector string        `json:"selector,omitempty"`
	Version  string        `json:"version,omitempty"`
	Image    string        `json:"image,omitempty"`
	V1       assess.V1     `json:"v1"`
	Launch   assess.Launch `json:"launch"`
	Verdict  assess.Status `json:"verdict,omitempty"`
	Why      string        `json:"why,omitempty"`
}

// launchesJSON prints the launches one a line, then what was counted and what could not be read.
func (s *session) launchesJSON(rows iter.Seq2[launchRow, error], tally *launchTally) error {
	l := newList(s.env.Out, "launches")
	for r, err := range rows {
		if err != nil {
			return err
		}
		d := launchJSON{
			By: r.By, Account: r.account.Name, Name: r.Name, Field: r.Field, From: r.From, FromName: r.FromName, Selector: r.Selector,
			Version: r.Version, Image: r.Image, V1: r.V1, Launch: r.Launch,
		}
		if r.Verdict != nil {
			d.Verdict, d.Why = r.Verdict.Status, r.Verdict.Why()
		}
		if err := l.add(d); err != nil {
			return err
		}
	}
	return l.endWith("counts", tally.counts, "gaps", append([]inventory.Scope{}, tally.gaps...))
}

// endWith ends the list and puts further fields behind it: names and values in turn.
func (l *list) endWith(fields ...any) error {
	if l.n == 0 {
		if _, err := io.WriteString(l.w, l.first); err != nil {
			return fmt.Errorf("write JSON: %w", err)
		}
	}
	lead := "]"
	for i := 0; i+1 < len(fields); i += 2 {
		if _, err := fmt.Fprintf(l.w, "%s,%q:", lead, fields[i]); err != nil {
			return fmt.Errorf("write JSON: %w", err)
		}
		if err := l.enc.Encode(fields[i+1]); err != nil {
			return fmt.Errorf("write JSON: %w", err)
		}
		lead = ""
	}
	_, err := io.WriteString(l.w, lead+"}\n")
	return err
}

func launchColumns() []string {
	return []string{
		"v1", "kind", "account", "account_name", "region", "id", "name", "field", "from_kind", "from", "from_name", "selector", "version",
		"image", "tokens", "tokens_by", "hop_limit", "hop_limit_by", "endpoint", "endpoint_by", "ipv6", "ipv6_by", "instance_tags",
		"instance_tags_by", "refused", "unknown", "verdict", "why",
	}
}

func launchRecords(rows iter.Seq2[launchRow, error]) iter.Seq2[[]string, error] {
	return func(yield func([]string, error) bool) {
		for r, err := range rows {
			if err != nil {
				yield(nil, err)
				return
			}
			record := []string{
				string(r.V1), r.By.Kind, string(r.By.Account), r.account.Name, string(r.By.Region), r.By.ID, r.Name, r.Field, r.From.Kind,
				r.From.ID, r.FromName, r.Selector, r.Version, r.Image,
			}
			for _, f := range launchFields(r.Launch) {
				record = append(record, f.Value, f.By())
			}
			record = append(record, r.Launch.Refused, unknownOf(r.Launch), "", "")
			if v := r.Verdict; v != nil {
				record[len(record)-2], record[len(record)-1] = string(v.Status), v.Why()
			}
			if !yield(record, nil) {
				return
			}
		}
	}
}

// launchFields are the fields of a launch in the order in which they are shown.
func launchFields(l assess.Launch) []assess.Setting {
	return []assess.Setting{l.Tokens, l.HopLimit, l.Endpoint, l.IPv6, l.Tags}
}

// unknownOf is why something of a launch is not known: each reason once, the one for the tokens first.
func unknownOf(l assess.Launch) string {
	var out []string
	for _, f := range launchFields(l) {
		if f.Unknown != "" && !slices.Contains(out, f.Unknown) {
			out = append(out, f.Unknown)
		}
	}
	return strings.Join(out, "; ")
}

// launchesTable prints pages of a few thousand rows, as resourcesTable does, and then what the letters mean.
func (s *session) launchesTable(rows iter.Seq2[launchRow, error], tally *launchTally, v1Only bool) error {
	const page = 5000
	columns := []column{
		{title: "V1"}, {title: "ACCOUNT"}, {title: "REGION"}, {title: "LAUNCHED BY", flexible: true, floor: 14},
		{title: "FROM", flexible: true, floor: 10}, {title: "TOKENS"}, {title: "HOPS"}, {title: "ENDPOINT"}, {title: "IPV6"}, {title: "TAGS"},
		{title: "VERDICT"}, {title: "WHY", flexible: true, floor: 8},
	}
	var lines [][]string
	total := 0
	for r, err := range rows {
		if err != nil {
			return err
		}
		total++
		lines = append(lines, s.launchLine(r))
		if len(lines) == page {
			fmt.Fprint(s.env.Out, s.out.table(columns, lines))
			lines = lines[:0]
		}
	}
	if len(lines) > 0 {
		fmt.Fprint(s.env.Out, s.out.table(columns, lines))
	}
	switch {
	case tally.places == 0:
		fmt.Fprintln(s.env.Out, "No place that was scanned matches. Run `imdsctl scan`.")
	case total == 0 && v1Only:
		fmt.Fprintln(s.env.Out, "No launch that is known would allow IMDSv1.")
	case total == 0:
		fmt.Fprintln(s.env.Out, "Nothing matches.")
	default:
		fmt.Fprintln(s.env.Out, "\n"+s.out.wrap("Who decides: P launch parameters · T3 version 3 of the template · C launch configuration · "+
			"A account default · I image · E EC2's own default · ? unknown.", ""))
	}
	if tally.places > 0 {
		s.launchCounts(tally)
	}
	s.showGaps(tally.gaps)
	return nil
}

// launchCounts says how many launches there are of each answer.
func (s *session) launchCounts(t *launchTally) {
	var parts []string
	for _, p := range []struct {
		answer assess.V1
		words  string
	}{
		{assess.V1Open, "would allow IMDSv1"}, {assess.V1Unknown, "unknown, and may allow it"}, {assess.V1Refused, "refused by EC2"},
		{assess.V1Closed, "would not allow it"},
	} {
		if n := t.counts[p.answer]; n > 0 {
			parts = append(parts, count(int64(n))+" "+p.words)
		}
	}
	if len(parts) > 0 {
		fmt.Fprintln(s.env.Out, s.out.wrap("Launches: "+strings.Join(parts, " · ")+".", ""))
	}
}

func (s *session) launchLine(r launchRow) []string {
	colour := map[assess.V1]style{assess.V1Open: red, assess.V1Unknown: yellow, assess.V1Refused: yellow, assess.V1Closed: green}
	by := cmp.Or(r.Name, r.By.ID)
	if r.By != r.From && r.By.Kind != inventory.KindAccountDefaults {
		by += s.out.paint(dim, " "+r.By.Kind)
	}
	verdict, why := s.out.paint(dim, "-"), r.Launch.Refused
	if r.Verdict != nil {
		verdict = s.verdict(r.Verdict.Status)
	}
	if why == "" {
		why = unknownOf(r.Launch)
	}
	line := []string{s.out.paint(colour[r.V1], string(r.V1)), string(r.By.Account), string(r.By.Region), by, s.launchSource(r)}
	for _, f := range launchFields(r.Launch) {
		line = append(line, s.setting(f))
	}
	return append(line, verdict, oneLine(why))
}

// launchSource is what a launch is from: "web:3 $Default", or the image where nothing else is named.
func (s *session) launchSource(r launchRow) string {
	if r.From.IsZero() {
		return cmp.Or(r.Image, s.out.paint(dim, "·"))
	}
	from := cmp.Or(r.FromName, r.From.ID)
	if r.Version != "" {
		from += ":" + r.Version
	}
	if r.Selector != "" && r.Selector != r.Version && r.From.Kind != inventory.KindLaunchConfiguration {
		from += s.out.paint(dim, " "+r.Selector)
	}
	return from
}

// setting is a field with the letter of who decides it.
func (s *session) setting(f assess.Setting) string {
	if f.Unknown != "" {
		return s.out.paint(yellow, "?")
	}
	value := f.Value
	switch value {
	case fleet.Enabled:
		value = "on"
	case fleet.Disabled:
		value = "off"
	}
	letter := map[assess.Origin]string{
		assess.OriginParameters: "P", assess.OriginTemplate: "T" + f.Version, assess.OriginConfiguration: "C", assess.OriginDefault: "A",
		assess.OriginImage: "I", assess.OriginEC2: "E",
	}[f.Source]
	return value + s.out.paint(dim, " "+letter)
}
