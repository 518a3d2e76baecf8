package cli

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/imdsctl/imdsctl/internal/fleet"
	"github.com/imdsctl/imdsctl/internal/plan"
)

func (s *session) planDiffCommand() *cobra.Command {
	var all bool
	cmd := &cobra.Command{
		Use: "diff OLD NEW", Short: "Say how a plan differs from an older one",
		Args: cobra.ExactArgs(2),
		Long: `Compares two plan files: which changes came, went or differ, field by field; which stacks go in another wave or
otherwise; what gates, budgets, windows and waves say differently; which manual steps and exemptions came or went.
When a plan was made, and evidence of a later window with the same verdict, is no difference. Duration, calls and
cost are shown but follow from the rest. It needs neither AWS nor the database. The exit code is 0 where both plans
do the same and 3 where they differ.`,
		Example: `  imdsctl plan diff approved.json plan.json
  imdsctl plan diff old.json new.json --format json | jq '.changes.came[].ref'`,
		Annotations: formats("table json"),
		RunE: func(_ *cobra.Command, args []string) error {
			before, err := readPlan(args[0])
			if err != nil {
				return err
			}
			after, err := readPlan(args[1])
			if err != nil {
				return err
			}
			return s.planDiff(before, after, all)
		},
	}
	cmd.Flags().BoolVar(&all, "all", false, "list every difference, however many there are")
	return cmd
}

// planDiffJSON is the document of a comparison.
type planDiffJSON struct {
	Format int          `json:"imdsctl_plan_diff"`
	Equal  bool         `json:"equal"`
	Old    planSideJSON `json:"old"`
	New    planSideJSON `json:"new"`
	*plan.Difference
}

type planSideJSON struct {
	Digest  string    `json:"digest"`
	Created time.Time `json:"created"`
	Scan    time.Time `json:"scan_taken"`
	Tool    string    `json:"tool"`
	Config  string    `json:"config_digest"`
	Stacks  int       `json:"stacks"`
	Changes int       `json:"changes"`
}

func sideOf(p *plan.Plan) planSideJSON {
	return planSideJSON{p.Digest, p.Header.Created, p.Header.Taken, p.Header.Tool, p.Header.Config, len(p.Stacks), len(p.Changes)}
}

func (s *session) planDiff(before, after *plan.Plan, all bool) error {
	d := plan.Compare(before, after)
	if s.format == "json" {
		if err := writeJSON(s.env.Out, planDiffJSON{jsonVersion, d.Equal(), sideOf(before), sideOf(after), d}); err != nil {
			return err
		}
	} else {
		s.showPlanDiff(before, after, d, all)
	}
	if !d.Equal() {
		return attention{"the plans differ"}
	}
	return nil
}

// differenceLines is how many differences of one sort are listed unless all are asked for.
const differenceLines = 20

func (s *session) showPlanDiff(before, after *plan.Plan, d *plan.Difference, all bool) {
	most := differenceLines
	if all {
		most = len(before.Changes) + len(after.Changes) + len(d.Stacks) + d.Manuals.Len() + d.Exempt.Len()
	}
	if before.Digest == after.Digest {
		fmt.Fprintf(s.env.Out, "The same plan: %s.\n", s.out.paint(bold, after.Digest[:12]))
		return
	}
	for _, p := range []struct {
		sign string
		*plan.Plan
	}{{"−", before}, {"+", after}} {
		fmt.Fprintf(s.env.Out, "%s %s  made %s, scan of %s: %s in %s\n", p.sign, s.out.paint(bold, p.Digest[:12]),
			p.Header.Created.UTC().Format("2006-01-02 15:04 UTC"), p.Header.Taken.UTC().Format("2006-01-02 15:04 UTC"),
			plural(len(p.Changes), "change"), plural(len(p.Stacks), "stack"))
	}
	if d.Equal() {
		fmt.Fprintln(s.env.Out, "\nBoth do the same, in the same order and under the same rules.")
	}
	s.showFields("Rules", d.Rules, len(d.Rules))
	s.showStackDifferences(d.Stacks, most)
	s.showDifferences("change", &d.Changes, most)
	s.showDifferences("manual step", &d.Manuals, most)
	s.showDifferences("exempt resource", &d.Exempt, most)
	s.showFields("Left as they are", d.Left, len(d.Left))
	s.showFields("Course", d.Course, most)
	if d.Same > 0 {
		renewed := ""
		if d.Renewed > 0 {
			renewed = fmt.Sprintf("; the evidence of %s is of another window or has other numbers", plural(d.Renewed, "change"))
		}
		fmt.Fprintf(s.env.Out, "\n%s in both as they are%s.\n", plural(d.Same, "change"), renewed)
	}
}

func (s *session) showFields(title string, fields []plan.Field, most int) {
	if len(fields) == 0 {
		return
	}
	fmt.Fprintf(s.env.Out, "\n%s:\n", title)
	for _, f := range fields[:min(most, len(fields))] {
		s.showField("  ", f)
	}
	s.left(len(fields) - most)
}

// showField shows what a field was and is, in a line, or below each other where they are long.
func (s *session) showField(indent string, f plan.Field) {
	old, now := cmp.Or(oneLine(f.Old), `""`), cmp.Or(oneLine(f.New), `""`)
	if len(f.Field)+len(old)+len(now) <= 80 {
		fmt.Fprintf(s.env.Out, "%s%s: %s → %s\n", indent, f.Field, s.out.paint(red, old), s.out.paint(green, now))
		return
	}
	fmt.Fprintf(s.env.Out, "%s%s:\n", indent, f.Field)
	fmt.Fprintln(s.env.Out, s.out.labelled(indent+"  "+s.out.paint(red, "− "), old))
	fmt.Fprintln(s.env.Out, s.out.labelled(indent+"  "+s.out.paint(green, "+ "), now))
}

// left says how much is not listed.
func (s *session) left(n int) {
	if n > 0 {
		fmt.Fprintf(s.env.Out, "  … and %s more; --all lists them, --format json is for programs\n", count(n))
	}
}

func (s *session) showStackDifferences(stacks []plan.StackDifference, most int) {
	if len(stacks) == 0 {
		return
	}
	counts := map[string]int{}
	for i := range stacks {
		counts[stackWord(&stacks[i])]++
	}
	var parts []string
	for _, word := range []string{"moved to another wave", "came", "went", "differ otherwise"} {
		if counts[word] > 0 {
			parts = append(parts, count(counts[word])+" "+word)
		}
	}
	// What moved comes first: it is what people look for.
	sorted := slices.Clone(stacks)
	slices.SortStableFunc(sorted, func(a, b plan.StackDifference) int { return rankOf(&a) - rankOf(&b) })
	fmt.Fprintf(s.env.Out, "\nStacks: %s\n", strings.Join(parts, ", "))
	for i := range sorted[:min(most, len(sorted))] {
		st := &sorted[i]
		where := placeWords(st.Place)
		switch st.Only {
		case plan.OnlyNew:
			fmt.Fprintf(s.env.Out, "  %s %s  %s, wave %s\n", s.out.paint(green, "+"), s.out.paint(bold, visible(st.Name)), where, st.To)
		case plan.OnlyOld:
			fmt.Fprintf(s.env.Out, "  %s %s  %s, was in wave %s\n", s.out.paint(red, "−"), s.out.paint(bold, visible(st.Name)), where, st.From)
		default:
			fmt.Fprintf(s.env.Out, "  %s %s  %s\n", s.out.paint(yellow, "~"), s.out.paint(bold, visible(st.Name)), where)
			for _, f := range st.Fields {
				s.showField("      ", f)
			}
		}
	}
	s.left(len(sorted) - most)
}

func stackWord(st *plan.StackDifference) string {
	switch {
	case st.Only == plan.OnlyNew:
		return "came"
	case st.Only == plan.OnlyOld:
		return "went"
	case st.Moved():
		return "moved to another wave"
	}
	return "differ otherwise"
}

func rankOf(st *plan.StackDifference) int {
	if st.Moved() {
		return 0
	}
	return 1
}

func placeWords(p fleet.Place) string {
	if p.Region == "" {
		return string(p.Account)
	}
	return string(p.Account) + " " + string(p.Region)
}

// showDifferences lists entries of one sort. Those that differ in the same way are listed under it once.
func (s *session) showDifferences(noun string, d *plan.Differences, most int) {
	if d.Len() == 0 {
		return
	}
	title := strings.ToUpper(noun[:1]) + noun[1:]
	fmt.Fprintf(s.env.Out, "\n%ss: %s came, %s went, %s differ\n", title, count(len(d.Came)), count(len(d.Went)), count(len(d.Differ)))
	for _, side := range []struct {
		sign    string
		entries []plan.Entry
	}{{s.out.paint(green, "+"), d.Came}, {s.out.paint(red, "−"), d.Went}} {
		for _, e := range side.entries[:min(most, len(side.entries))] {
			fmt.Fprintln(s.env.Out, s.out.block("  "+side.sign+" ", s.entryWords(&e), "      "))
		}
		s.left(len(side.entries) - most)
	}
	groups := alike(d.Differ)
	for _, g := range groups[:min(most, len(groups))] {
		e := &g[0]
		more := ""
		if len(g) > 1 {
			more = " and " + count(len(g)-1) + " more alike"
		}
		fmt.Fprintln(s.env.Out, s.out.block("  "+s.out.paint(yellow, "~")+" ", s.entryWords(e)+more, "      "))
		for _, f := range e.Fields {
			s.showField("      ", f)
		}
	}
	s.left(len(groups) - most)
}

// alike groups entries that differ in the same fields, from the same to the same.
func alike(entries []plan.Entry) [][]plan.Entry {
	at := map[string]int{}
	var out [][]plan.Entry
	for _, e := range entries {
		e.Fields = withoutEchoes(e.Fields)
		k := fmt.Sprint(e.Ref.Kind, e.Action, e.Fields)
		i, ok := at[k]
		if !ok {
			i = len(out)
			at[k], out = i, append(out, nil)
		}
		out[i] = append(out[i], e)
	}
	return out
}

// withoutEchoes leaves out the commands that undo a change where they only say again how its state before differs.
func withoutEchoes(fields []plan.Field) []plan.Field {
	if !slices.ContainsFunc(fields, func(f plan.Field) bool { return strings.HasPrefix(f.Field, "before ") }) {
		return fields
	}
	return slices.DeleteFunc(slices.Clone(fields), func(f plan.Field) bool { return f.Field == "undo by hand" })
}

func (s *session) entryWords(e *plan.Entry) string {
	words := s.out.paint(bold, e.Ref.ID)
	if e.Name != "" && e.Name != e.Ref.ID {
		words += " " + visible(e.Name)
	}
	words += " (" + e.Ref.Kind + ")"
	if e.Action != "" {
		words += " " + e.Action
	}
	words += ", " + placeWords(e.Ref.Place)
	if e.Stack != "" {
		words += ", stack " + e.Stack + ", wave " + e.Wave
	}
	if e.Why != "" {
		words += ": " + e.Why
	}
	return oneLine(words)
}
