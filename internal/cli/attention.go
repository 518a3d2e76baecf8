package cli

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/imdsctl/imdsctl/internal/app"
	"github.com/imdsctl/imdsctl/internal/assess"
	worklist "github.com/imdsctl/imdsctl/internal/attention"
	"github.com/imdsctl/imdsctl/internal/inventory"
	"github.com/imdsctl/imdsctl/internal/policy"
)

type attentionOptions struct {
	causes, owners, accounts, statuses, failOn []string
	limit                                      int
	send, dryRun                               bool
}

func (s *session) attentionCommand() *cobra.Command {
	var o attentionOptions
	cmd := &cobra.Command{
		Use: "attention", Short: "List the workloads that need work: the cause, the owner and the fix", GroupID: groupSee, Args: cobra.NoArgs,
		Long: `Lists, from the database, what keeps workloads from requiring IMDSv2 and what fails where they do: who
calls IMDSv1 and how sure that is, who answers for it, and what to do. ` + "`attention show ID`" + ` tells all of one item.
With --send each owner is told by the routes of the configuration (attention.routes), once for each item in
attention.repeat. No AWS call is made. What could not be read is an item as well, and makes the exit code 3.

Causes:
` + causeLines(),
		Example: `  imdsctl attention --status blocked
  imdsctl attention --owner payments --format markdown
  imdsctl attention --send --dry-run                  # what would be sent, and to whom
  imdsctl attention --fail-on any --format json       # for CI`,
		Annotations: formats("table json csv markdown"),
		RunE: func(cmd *cobra.Command, _ []string) error {
			f, err := o.filter()
			if err != nil {
				return err
			}
			limits, err := attentionThresholds(o.failOn)
			if err != nil {
				return err
			}
			return s.with(cmd.Context(), func(ctx context.Context, a *app.App) error { return s.attention(ctx, a, o, f, limits) })
		},
	}
	f := cmd.Flags()
	f.StringSliceVar(&o.causes, "cause", nil, "causes, by their `codes`")
	f.StringSliceVar(&o.owners, "owner", nil, "`patterns` of owners")
	f.StringSliceVar(&o.accounts, "account", nil, "account `ids`")
	f.StringSliceVar(&o.statuses, "status", nil, "blocked, unknown, done (refused calls), exempt or ready")
	f.IntVar(&o.limit, "limit", 0, "show the first `N` items; 0 for all")
	f.StringSliceVar(&o.failOn, "fail-on", nil, "end with 3 if there are more than N items of `CAUSE[=N]`, or any[=N]")
	f.BoolVar(&o.send, "send", false, "tell the owners")
	f.BoolVar(&o.dryRun, "dry-run", false, "with --send: show the messages and send none")
	cmd.AddCommand(s.attentionShowCommand())
	return cmd
}

// causeLines explain the causes, a line each.
func causeLines() string {
	var b strings.Builder
	for _, c := range worklist.Causes() {
		fmt.Fprintf(&b, "  %-19s %s\n", c.Cause, c.Meaning)
	}
	return b.String()
}

func (s *session) attentionShowCommand() *cobra.Command {
	return &cobra.Command{
		Use: "show ID", Short: "Tell everything of one item", Args: cobra.ExactArgs(1),
		Long: `Tells everything of one item: the cause and why not another, the evidence, the owner, and each step of
the fix. The beginning of an id is enough where no other item begins alike.`,
		Example:     "  imdsctl attention show a-3f9c",
		Annotations: formats("table json"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return s.with(cmd.Context(), func(ctx context.Context, a *app.App) error { return s.attentionShow(ctx, a, args[0]) })
		},
	}
}

func (o *attentionOptions) filter() (app.AttentionFilter, error) {
	accounts, err := accountIDs(o.accounts)
	if err != nil {
		return app.AttentionFilter{}, err
	}
	f := app.AttentionFilter{Accounts: accounts}
	for _, c := range o.causes {
		cause, ok := worklist.ParseCause(c)
		if !ok {
			return f, misuse("--cause", "`imdsctl attention --help` lists them.", "%q is no cause", c)
		}
		f.Causes = append(f.Causes, cause)
	}
	for _, name := range o.owners {
		f.Owners = append(f.Owners, policy.Glob(name))
	}
	for _, v := range o.statuses {
		if !slices.Contains(assess.Statuses(), assess.Status(v)) {
			return f, misuse("--status", "Give blocked, unknown, done, exempt or ready.", "%q is no verdict", v)
		}
		f.Statuses = append(f.Statuses, assess.Status(v))
	}
	switch {
	case o.limit < 0:
		return f, misuse("--limit", "Give a number that is not negative.", "%d is no number of items", o.limit)
	case o.dryRun && !o.send:
		return f, misuse("--dry-run", "Add --send, or leave it out.", "nothing is sent anyway")
	}
	return f, nil
}

// attentionThresholds reads --fail-on.
func attentionThresholds(given []string) (map[string]int, error) {
	return thresholds(given, "old-sdk=5", func(name string) error {
		if _, ok := worklist.ParseCause(name); !ok && name != "any" {
			return misuse("--fail-on", "Give any, or a cause; `imdsctl attention --help` lists them.", "%q is no cause", name)
		}
		return nil
	})
}

func (s *session) attention(ctx context.Context, a *app.App, o attentionOptions, f app.AttentionFilter, limits map[string]int) error {
	r, err := a.Attention(ctx, f)
	if err != nil {
		return err
	}
	shown := r.Items
	if o.limit > 0 {
		shown = shown[:min(o.limit, len(shown))]
	}
	if o.send {
		return s.attentionSend(ctx, a, o, shown)
	}
	switch s.format {
	case "json":
		err = s.attentionJSON(r, shown)
	case "csv":
		err = writeCSV(s.env.Out, attentionColumns(), attentionRecords(shown))
	case "markdown":
		s.attentionMarkdown(shown)
	default:
		s.attentionTable(r, shown)
	}
	if err != nil {
		return err
	}
	return attentionExceeded(r, limits)
}

// attentionExceeded tells whether the list ends with exit code 3: nothing was scanned, something could not be read, or a threshold
// was passed.
func attentionExceeded(r *app.AttentionReport, limits map[string]int) error {
	if r.Places == 0 || len(r.Gaps) > limits[string(worklist.Gap)] {
		return attention{"gaps"}
	}
	counts := map[string]int{"any": len(r.Items)}
	for _, i := range r.Items {
		counts[string(i.Cause)]++
	}
	for name, n := range limits {
		if counts[name] > n {
			return attention{name}
		}
	}
	return nil
}

func (s *session) attentionJSON(r *app.AttentionReport, items []worklist.Item) error {
	l := newList(s.env.Out, "attention")
	for _, i := range items {
		if err := l.add(i); err != nil {
			return err
		}
	}
	counts := map[worklist.Cause]int{}
	for _, i := range r.Items {
		counts[i.Cause]++
	}
	return l.endWith("counts", counts, "total", len(r.Items), "gaps", len(r.Gaps))
}

func attentionColumns() []string {
	return []string{"id", "owner", "owner_by", "status", "cause", "confidence", "kind", "name", "account", "account_name", "region", "instances",
		"title", "fix", "product", "versions", "first_good_version", "v1_calls", "v1_calls_rejected", "first_seen", "last_seen", "risk", "code",
		"because", "links"}
}

func attentionRecords(items []worklist.Item) func(func([]string, error) bool) {
	day := func(t time.Time) string {
		if t.IsZero() {
			return ""
		}
		return t.UTC().Format(time.RFC3339)
	}
	return func(yield func([]string, error) bool) {
		for _, i := range items {
			w := i.Workload
			if !yield([]string{i.ID, i.Owner.Name, i.Owner.By, string(i.Status), string(i.Cause), string(i.Confidence), w.Kind, w.Name,
				string(w.Account), w.AccountName, string(w.Region), strconv.Itoa(w.Instances), i.Title, i.Fix, string(i.Product),
				strings.Join(i.Versions, " "), i.First, strconv.FormatInt(i.Calls, 10), strconv.FormatInt(i.Refused, 10), day(i.Since), day(i.Last),
				riskWord(&i), i.Code.String(), strings.Join(i.Because, "; "), strings.Join(i.Links, " ")}, nil) {
				return
			}
		}
	}
}

// riskWord is an item's risk in a word, or nothing.
func riskWord(i *worklist.Item) string {
	if i.Risk == nil {
		return ""
	}
	return string(i.Risk.Level)
}

// attentionTable prints the items under their owners: what and where in a line, the fix below it.
func (s *session) attentionTable(r *app.AttentionReport, items []worklist.Item) {
	switch {
	case r.Places == 0:
		fmt.Fprintln(s.env.Out, "No place that was scanned matches. Run `imdsctl scan`.")
		return
	case len(r.Items) == 0:
		fmt.Fprintln(s.env.Out, "Nothing needs attention.")
		return
	}
	for n, group := range byOwner(items) {
		if n > 0 {
			fmt.Fprintln(s.env.Out)
		}
		fmt.Fprintf(s.env.Out, "%s%s\n", s.out.paint(bold, visible(group[0].Owner.Name)), s.out.paint(dim, ", by "+group[0].Owner.By))
		for i := range group {
			s.attentionLine(&group[i])
		}
	}
	fmt.Fprintf(s.env.Out, "\n%s\n", s.out.wrap(attentionSummary(r, len(items)), ""))
	s.hint("`imdsctl attention show ID` tells all of one; --send tells the owners.")
}

// byOwner cuts a sorted list at each new owner.
func byOwner(items []worklist.Item) [][]worklist.Item {
	var out [][]worklist.Item
	for _, i := range items {
		if n := len(out); n == 0 || out[n-1][0].Owner.Name != i.Owner.Name {
			out = append(out, nil)
		}
		out[len(out)-1] = append(out[len(out)-1], i)
	}
	return out
}

func (s *session) attentionLine(i *worklist.Item) {
	w := i.Workload
	head := fmt.Sprintf("  %s  %s  %s", s.out.paint(dim, i.ID), s.verdict(i.Status), s.out.paint(bold, oneLine(w.Name)))
	fmt.Fprintln(s.env.Out, s.out.block(head+" ", s.out.paint(dim, oneLine(attentionWhere(i))), attentionIndent))
	fmt.Fprintln(s.env.Out, s.out.block(attentionIndent, oneLine(i.Title)+s.out.paint(dim, fmt.Sprintf(" (%s, %s)", i.Cause, i.Confidence)),
		attentionIndent))
	fmt.Fprintln(s.env.Out, s.out.block(attentionIndent, "→ "+oneLine(i.Fix), attentionIndent+"  "))
}

const attentionIndent = "      "

// attentionWhere says what a workload is, where, how many and how much it calls.
func attentionWhere(i *worklist.Item) string {
	w := i.Workload
	kind := w.Kind
	switch kind {
	case inventory.KindInstance:
		kind = "instance"
	case inventory.KindAutoScaling:
		kind = "group"
	case inventory.KindLaunchTemplate:
		kind = "template"
	}
	parts := []string{kind, cmp.Or(w.AccountName, string(w.Account))}
	if w.Region != "" {
		parts = append(parts, string(w.Region))
	}
	if w.Instances > 1 || w.Instances == 1 && kind != "instance" {
		parts = append(parts, plural(w.Instances, "instance"))
	}
	if i.Calls > 0 {
		parts = append(parts, count(i.Calls)+" v1 calls")
	}
	if i.Refused > 0 {
		parts = append(parts, count(i.Refused)+" refused")
	}
	if risk := riskWord(i); risk != "" && risk != string(assess.RiskUnknown) {
		parts = append(parts, "risk "+risk)
	}
	return strings.Join(parts, " · ")
}

// attentionSummary counts the items by cause.
func attentionSummary(r *app.AttentionReport, shown int) string {
	counts := map[worklist.Cause]int{}
	owners := map[string]bool{}
	for _, i := range r.Items {
		counts[i.Cause]++
		owners[i.Owner.Name] = true
	}
	var parts []string
	for _, c := range worklist.Causes() {
		if n := counts[c.Cause]; n > 0 {
			parts = append(parts, fmt.Sprintf("%s %s", count(int64(n)), c.Cause))
		}
	}
	out := fmt.Sprintf("%s of %s: %s.", plural(len(r.Items), "item"), plural(len(owners), "owner"), strings.Join(parts, " · "))
	if shown < len(r.Items) {
		out = fmt.Sprintf("The first %d of ", shown) + out
	}
	return out
}

// attentionMarkdown prints a document that can be pasted into an issue.
func (s *session) attentionMarkdown(items []worklist.Item) {
	fmt.Fprintf(s.env.Out, "# IMDSv2: what needs attention\n")
	if len(items) == 0 {
		fmt.Fprintf(s.env.Out, "\nNothing.\n")
	}
	for _, group := range byOwner(items) {
		fmt.Fprintf(s.env.Out, "\n## %s\n", plainMarkdown(group[0].Owner.Name))
		for _, i := range group {
			fmt.Fprintf(s.env.Out, "\n### %s: %s\n\n%s. Cause `%s` (%s), %s, `%s`.\n\n**%s**\n", plainMarkdown(i.Workload.Name),
				plainMarkdown(i.Title), plainMarkdown(attentionWhere(&i)), i.Cause, i.Confidence, i.Status, i.ID, plainMarkdown(i.Fix))
			if len(i.Steps)+len(i.Because) > 0 {
				fmt.Fprintln(s.env.Out)
			}
			for _, step := range i.Steps {
				fmt.Fprintf(s.env.Out, "- %s\n", plainMarkdown(step))
			}
			for _, why := range i.Because {
				fmt.Fprintf(s.env.Out, "- why: %s\n", plainMarkdown(why))
			}
			for _, link := range i.Links {
				fmt.Fprintf(s.env.Out, "- <%s>\n", link)
			}
		}
	}
}

// plainMarkdown keeps names from being read as markup.
func plainMarkdown(text string) string {
	return strings.NewReplacer("*", `\*`, "_", `\_`, "<", "&lt;", "|", `\|`, "#", `\#`, "[", `\[`).Replace(oneLine(text))
}

func (s *session) attentionShow(ctx context.Context, a *app.App, id string) error {
	r, err := a.Attention(ctx, app.AttentionFilter{})
	if err != nil {
		return err
	}
	var found []worklist.Item
	for _, i := range r.Items {
		if i.ID == id || strings.HasPrefix(i.ID, id) && strings.TrimPrefix(id, "a-") != "" {
			found = append(found, i)
		}
	}
	switch {
	case len(found) == 0:
		return misuse("", "`imdsctl attention` lists them; one that is remedied is there no more.", "there is no item %q", id)
	case len(found) > 1:
		return misuse("", "Give more of the id.", "%d items begin with %q", len(found), id)
	}
	if s.format == "json" {
		return writeJSON(s.env.Out, struct {
			Format int `json:"imdsctl_attention_item"`
			worklist.Item
		}{jsonVersion, found[0]})
	}
	s.attentionDetail(&found[0])
	return nil
}

func (s *session) attentionDetail(i *worklist.Item) {
	w := i.Workload
	fmt.Fprintf(s.env.Out, "%s is %s\n\n", s.out.paint(bold, oneLine(w.Name)), s.verdict(i.Status))
	fmt.Fprintln(s.env.Out, s.out.wrap("  "+oneLine(i.Title)+".", "  "))
	fmt.Fprintln(s.env.Out)
	label := func(name, text string) {
		if text != "" {
			fmt.Fprintln(s.env.Out, s.out.labelled(fmt.Sprintf("  %-11s", name), oneLine(text)))
		}
	}
	label("id", i.ID)
	label("cause", fmt.Sprintf("%s: %s", i.Cause, causeMeaning(i.Cause)))
	label("confidence", string(i.Confidence))
	label("where", fmt.Sprintf("account %s%s, %s", w.Account, parenthesised(w.AccountName), cmp.Or(string(w.Region), "several regions")))
	label("what", attentionWhere(i))
	label("owner", i.Owner.Name+", by "+i.Owner.By)
	if i.Route != nil && !i.Route.Silent() {
		label("told by", i.Route.Target())
	}
	label("code", i.Code.String())
	if !i.Last.IsZero() {
		label("seen", fmt.Sprintf("from %s to %s", i.Since.UTC().Format("2006-01-02 15:04"), i.Last.UTC().Format("2006-01-02 15:04 MST")))
	}
	s.attentionRisk(i)
	s.attentionParts(i)
}

func causeMeaning(c worklist.Cause) string {
	for _, i := range worklist.Causes() {
		if i.Cause == c {
			return i.Meaning
		}
	}
	return ""
}

func parenthesised(text string) string {
	if text == "" {
		return ""
	}
	return " (" + text + ")"
}

// attentionRisk shows the parts of a score, never the number alone.
func (s *session) attentionRisk(i *worklist.Item) {
	if i.Risk == nil {
		return
	}
	fmt.Fprintln(s.env.Out, s.out.labelled("  risk       ", fmt.Sprintf("%s (%d): %s", i.Risk.Level, i.Risk.Score, riskParts(i.Risk))))
}

// riskParts are the reasons of a risk, each with its points.
func riskParts(r *assess.Risk) string {
	var out []string
	for _, p := range r.Parts {
		out = append(out, fmt.Sprintf("%s (+%d)", oneLine(p.Text), p.Points))
	}
	if r.Cap != "" {
		out = append(out, oneLine(r.Cap))
	}
	return strings.Join(out, "; ")
}

func (s *session) attentionParts(i *worklist.Item) {
	lines := func(title, mark string, texts []string) {
		if len(texts) == 0 {
			return
		}
		fmt.Fprintf(s.env.Out, "\n%s\n", title)
		for _, t := range texts {
			fmt.Fprintln(s.env.Out, s.out.block("  "+mark+" ", oneLine(t), "    "))
		}
	}
	lines("What to do:", "→", append([]string{i.Fix}, i.Steps...))
	lines("Why this, and nothing else:", "•", i.Because)
	var seen []string
	for _, e := range i.Evidence {
		text := e.Source.Title() + ": " + e.Text
		switch {
		case e.AgeSeconds > 0:
			text += fmt.Sprintf(" (%s ago)", brief(time.Duration(e.AgeSeconds)*time.Second))
		}
		seen = append(seen, text)
	}
	lines("What it rests on:", "•", seen)
	const most = 12
	var refs []string
	for _, r := range i.Workload.Resources[:min(most, len(i.Workload.Resources))] {
		refs = append(refs, r.Kind+" "+r.ID)
	}
	if more := len(i.Workload.Resources) - most; more > 0 {
		refs = append(refs, fmt.Sprintf("and %d more", more))
	}
	lines("Resources:", "•", refs)
	lines("Read more:", "•", i.Links)
}

// attentionSend tells the owners, or shows what they would be told.
func (s *session) attentionSend(ctx context.Context, a *app.App, o attentionOptions, items []worklist.Item) error {
	out, err := a.SendAttention(ctx, items, o.dryRun)
	if s.format == "json" {
		if writing := s.deliveriesJSON(out); writing != nil && err == nil {
			err = writing
		}
	} else {
		s.deliveriesTable(out, o.dryRun)
	}
	if err != nil {
		return err
	}
	failed, unrouted := 0, 0
	for _, d := range out {
		switch {
		case d.Problem == "":
		case d.Target == "":
			unrouted++
		default:
			failed++
		}
	}
	switch {
	case failed > 0:
		return shown{fmt.Errorf("%s could not be told", plural(failed, "owner"))}
	case unrouted > 0:
		return attention{"owners without a route"}
	}
	return nil
}

func (s *session) deliveriesJSON(out []app.Delivery) error {
	l := newList(s.env.Out, "deliveries")
	for _, d := range out {
		if err := l.add(struct {
			app.Delivery
			Message json.RawMessage `json:"message,omitempty"`
		}{d, json.RawMessage(d.Body)}); err != nil {
			return err
		}
	}
	return l.end()
}

func (s *session) deliveriesTable(out []app.Delivery, dry bool) {
	if len(out) == 0 {
		fmt.Fprintln(s.env.Out, "Nothing needs attention, so nobody is told anything.")
	}
	for _, d := range out {
		said := "told of"
		if dry {
			said = "would be told of"
		}
		line := fmt.Sprintf("%s: %s %s by %s", d.Owner, said, plural(len(d.Items), "item"), d.Target)
		switch {
		case d.Target == "":
			line = s.out.paint(yellow, fmt.Sprintf("%s: not told of %s: %s", d.Owner, plural(d.Left, "item"), d.Problem))
		case d.Problem != "":
			line = s.out.paint(red, fmt.Sprintf("%s: not told: %s", d.Owner, d.Problem))
		case len(d.Items) == 0:
			line = fmt.Sprintf("%s: nothing new for %s", d.Owner, d.Target)
		}
		if d.Known > 0 {
			line += fmt.Sprintf("; %s sent before and unchanged", plural(d.Known, "item"))
		}
		if d.Left > 0 && d.Target != "" && d.Problem == "" {
			line += fmt.Sprintf("; %d did not fit and come next time", d.Left)
		}
		fmt.Fprintln(s.env.Out, s.out.wrap(oneLine(line), "  "))
		if dry && len(d.Body) > 0 {
			fmt.Fprintf(s.env.Out, "  %s\n", d.Body)
		}
	}
}
