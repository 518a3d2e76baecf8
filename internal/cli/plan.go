package cli

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/imdsctl/imdsctl/internal/app"
	"github.com/imdsctl/imdsctl/internal/assess"
	"github.com/imdsctl/imdsctl/internal/fleet"
	"github.com/imdsctl/imdsctl/internal/kind"
	"github.com/imdsctl/imdsctl/internal/plan"
	"github.com/imdsctl/imdsctl/internal/report"
)

type planOptions struct {
	out      string
	accounts []string
	force    bool
}

func (s *session) planCommand() *cobra.Command {
	var o planOptions
	cmd := &cobra.Command{
		Use: "plan", Short: "Turn what is ready into a plan that people review and approve", GroupID: groupDo,
		Args: cobra.NoArgs,
		Long: `Makes a plan from the last scan: every change with what was found, what will be left, what undoes it and
what it rests on, in stacks, steps and waves. No AWS call is made and nothing is changed. The plan's digest is
what gets approved: apply does this plan and nothing else.`,
		Example: `  imdsctl plan --out plan.json
  imdsctl plan --out plan.json --format html > plan.html   # the plan, and a page that a change board can sign
  imdsctl show plan.json
  imdsctl rollout approve DIGEST && imdsctl apply plan.json`,
		Annotations: formats("table json html"),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return s.with(cmd.Context(), func(ctx context.Context, a *app.App) error { return s.plan(ctx, a, o) })
		},
	}
	f := cmd.Flags()
	f.StringVarP(&o.out, "out", "o", "", "write the plan to this `file`; without it, it is only summed up")
	f.StringSliceVar(&o.accounts, "account", nil, "plan only these account `ids`")
	f.BoolVar(&o.force, "force", false, "overwrite an existing file")
	cmd.AddCommand(s.planDiffCommand())
	return cmd
}

func (s *session) plan(ctx context.Context, a *app.App, o planOptions) error {
	accounts, err := accountIDs(o.accounts)
	if err != nil {
		return err
	}
	if _, err := os.Stat(o.out); err == nil && !o.force && o.out != "" {
		return misuse(o.out, "Give another file, or --force.", "there is a file of that name")
	}
	result, err := a.Plan(ctx, app.PlanOptions{Accounts: accounts, Out: o.out})
	if err != nil {
		return err
	}
	p := result.Plan
	if o.out != "" {
		if err := s.writePlan(ctx, a, o.out, p); err != nil {
			return err
		}
	}
	switch s.format {
	case "json":
		err = writeJSON(s.env.Out, planDocument(p, o.out))
	case "html":
		err = report.Plan(s.env.Out, p, report.Options{Now: s.now(), File: o.out, Gaps: result.Gaps})
	default:
		s.showPlan(p)
		s.showGaps(result.Gaps)
	}
	seen := map[fleet.Diagnostic]bool{}
	for _, d := range append(a.ExpiredExceptions(), fleet.Diagnostic{}) {
		seen[d] = true // was printed when the configuration was opened
	}
	for _, d := range result.Diagnostics {
		if !seen[d] {
			seen[d] = true
			s.diagnose(d)
		}
	}
	if o.out != "" && s.format == "table" && err == nil {
		s.planNext(p, o.out)
	}
	if err == nil && len(result.Gaps) > 0 {
		err = attention{"gaps"}
	}
	return err
}

func (s *session) planNext(p *plan.Plan, path string) {
	fmt.Fprintf(s.env.Out, "\nWritten to %s, digest %s\n", path, s.out.paint(bold, p.Digest[:min(12, len(p.Digest))]))
	if len(p.Changes) > 0 {
		s.hint("Next: `imdsctl show %s`, then `imdsctl rollout approve %s` and `imdsctl apply %s`.", kind.Quote(path), p.Digest[:12],
			kind.Quote(path))
	}
}

// writePlan writes a plan and records it.
func (s *session) writePlan(ctx context.Context, a *app.App, path string, p *plan.Plan) error {
	if err := writeFile(path, true, func(w io.Writer) error { return a.WritePlan(ctx, w, path, p) }); err != nil {
		return fmt.Errorf("write the plan %s: %w", path, err)
	}
	return nil
}

type planJSON struct {
	Format  int          `json:"imdsctl_plan_summary"`
	File    string       `json:"file,omitempty"`
	Digest  string       `json:"digest,omitempty"`
	Created time.Time    `json:"created"`
	Scan    time.Time    `json:"scan_taken"`
	Summary plan.Summary `json:"summary"`
	Waves   []waveJSON   `json:"waves"`
	Rules   plan.Rules   `json:"rules"`
}

type waveJSON struct {
	plan.Wave
	Stacks  int    `json:"stacks"`
	Changes int    `json:"changes"`
	Rings   []int  `json:"stacks_by_ring"`
	Bake    string `json:"longest_bake"`
}

func planDocument(p *plan.Plan, path string) planJSON {
	d := planJSON{
		Format: jsonVersion, File: path, Digest: p.Digest, Created: p.Header.Created, Scan: p.Header.Taken,
		Summary: p.Header.Summary, Waves: []waveJSON{}, Rules: p.Header.Rules,
	}
	for i, w := range wavesOf(p) {
		d.Waves = append(d.Waves, waveJSON{p.Header.Waves[i], w.stacks, w.changes, append([]int{}, w.rings...), w.bake.String()})
	}
	return d
}

// waveFacts sums up one wave.
type waveFacts struct {
	stacks, changes, accounts int
	rings                     []int         // stacks by ring
	bake                      time.Duration // of the stack that bakes longest
}

func wavesOf(p *plan.Plan) []waveFacts {
	out := make([]waveFacts, len(p.Header.Waves))
	for i, w := range p.Header.Waves {
		out[i].accounts = len(w.Accounts)
	}
	for _, st := range p.Stacks {
		w := &out[st.Wave]
		w.stacks++
		for len(w.rings) <= st.Ring {
			w.rings = append(w.rings, 0)
		}
		w.rings[st.Ring]++
		var bake time.Duration
		for _, step := range st.Steps {
			w.changes += step.Changes
			bake += step.Bake
		}
		w.bake = max(w.bake, bake)
	}
	return out
}

// showPlan prints a plan's summary: waves, what changes, what is left out and why.
func (s *session) showPlan(p *plan.Plan) {
	sum := p.Header.Summary
	if len(p.Changes) == 0 {
		fmt.Fprintln(s.env.Out, "Nothing to change: no resource is ready that is not done already.")
	} else {
		what := s.out.paint(bold, plural(sum.Changes, "change"))
		if sum.FollowUps > 0 {
			what += " and " + s.out.paint(bold, plural(sum.FollowUps, "follow-up"))
		}
		fmt.Fprintf(s.env.Out, "%s in %s and %s, from a scan of %s.\n\n", what,
			plural(len(p.Stacks), "stack"), plural(wavesInUse(p), "wave"), p.Header.Taken.UTC().Format("2006-01-02 15:04 UTC"))
		s.showWaves(p)
		fmt.Fprintln(s.env.Out)
		s.showChangeKinds(p)
		s.showDelivery(p)
		s.showEstimate(p)
	}
	left := []string{}
	for _, v := range []assess.Status{assess.Blocked, assess.Unknown, assess.Exempt, assess.Done} {
		if n := sum.Verdicts[string(v)]; n > 0 {
			left = append(left, count(n)+" "+s.verdict(v))
		}
	}
	if len(left) > 0 {
		fmt.Fprintf(s.env.Out, "\nInstances left as they are: %s.\n", strings.Join(left, ", "))
	}
	s.showManuals(p)
	s.showCode(p)
}

// showCode lists the infrastructure as code that says the settings of the plan too.
func (s *session) showCode(p *plan.Plan) {
	counts := map[fleet.Owner]int{}
	for i := range p.Changes {
		if o := p.Changes[i].Owner; o.IsCode() {
			counts[o]++
		}
	}
	for _, m := range p.Manuals {
		if m.Owner.IsCode() {
			counts[m.Owner]++
		}
	}
	if len(counts) == 0 {
		return
	}
	order := slices.SortedFunc(maps.Keys(counts), func(a, b fleet.Owner) int {
		return cmp.Or(counts[b]-counts[a], cmp.Compare(a.String(), b.String()))
	})
	fmt.Fprintln(s.env.Out, "\nTo be set in code as well, which changes it back otherwise:")
	const most = 8
	for i, o := range order {
		if i == most {
			fmt.Fprintf(s.env.Out, "  … and %s; `imdsctl show --all` names each with its change.\n", plural(len(order)-most, "other place"))
			break
		}
		fmt.Fprintln(s.env.Out, s.out.wrap(fmt.Sprintf("  %s× %s", count(counts[o]), o), "    "))
	}
}

// showEstimate says how long the plan will take, as far as AWS's limits, the bakes and the windows tell.
func (s *session) showEstimate(p *plan.Plan) {
	e := p.Header.Estimate
	if e == nil {
		return
	}
	words := fmt.Sprintf("about %s, to %s, if every wave is approved at once and no gate fails", brief(e.Duration()),
		e.End.UTC().Format("2006-01-02 15:04 UTC"))
	if e.Never != "" {
		words = "cannot be told: " + e.Never
	}
	if e.Limit != "" {
		words += "; the calls waited for longest are " + e.Limit
	}
	fmt.Fprintln(s.env.Out, "\n"+s.out.labelled("Takes  ", words))
	if e.Metrics > 0 {
		fmt.Fprintln(s.env.Out, s.out.labelled("Gates  ", fmt.Sprintf("ask CloudWatch for %s metrics, some $%.2f", count(e.Metrics), e.Dollars)))
	}
}

func wavesInUse(p *plan.Plan) int {
	n := 0
	for _, w := range wavesOf(p) {
		if w.stacks > 0 {
			n++
		}
	}
	return n
}

func (s *session) showWaves(p *plan.Plan) {
	var rows [][]string
	for i, w := range wavesOf(p) {
		var notes []string
		if len(w.rings) > 1 {
			sizes := make([]string, len(w.rings))
			for i, n := range w.rings {
				sizes[i] = count(n)
			}
			notes = append(notes, "in rings of "+strings.Join(sizes, ", "))
		}
		if p.Header.Waves[i].Approval {
			notes = append(notes, s.out.paint(yellow, "asks for approval"))
		}
		rows = append(rows, []string{
			fmt.Sprint(i + 1), p.Header.Waves[i].Name, some(w.accounts), some(w.stacks), some(w.changes), brief(w.bake),
			strings.Join(notes, "; "),
		})
	}
	fmt.Fprint(s.env.Out, s.out.table([]column{
		{title: "WAVE", right: true}, {title: "NAME", flexible: true, floor: 10}, {title: "ACCOUNTS", right: true},
		{title: "STACKS", right: true}, {title: "CHANGES", right: true}, {title: "BAKE", right: true}, {title: "",
			flexible: true},
	}, rows))
}

// showChangeKinds counts changes by what they do.
func (s *session) showChangeKinds(p *plan.Plan) {
	type key struct {
		stage plan.Stage
		kind  string
		verb  string
	}
	counts, undo := map[key]int{}, map[key]string{}
	stage := map[string][]plan.Step{}
	for i := range p.Stacks {
		stage[p.Stacks[i].ID] = p.Stacks[i].Steps
	}
	for i := range p.Changes {
		c := &p.Changes[i]
		k := key{stage[c.Stack][c.Step].Stage, c.Ref.Kind, c.Action}
		counts[k]++
		undo[k] = c.Undo
	}
	keys := slices.SortedFunc(maps.Keys(counts), func(a, b key) int {
		return cmp.Or(slices.Index(plan.Stages(), a.stage)-slices.Index(plan.Stages(), b.stage), cmp.Compare(a.kind, b.kind),
			cmp.Compare(a.verb, b.verb))
	})
	var rows [][]string
	for _, k := range keys {
		rows = append(rows, []string{string(k.stage), k.kind, k.verb, count(counts[k]), undo[k]})
	}
	fmt.Fprint(s.env.Out, s.out.table([]column{
		{title: "STAGE"}, {title: "KIND"}, {title: "DOES"}, {title: "CHANGES", right: true}, {title: "UNDO"},
	}, rows))
}

// showManuals sums up what only people can do, by reason.
func (s *session) showManuals(p *plan.Plan) {
	if len(p.Manuals) == 0 {
		return
	}
	type key struct{ reason, remedy string }
	counts := map[key]int{}
	var order []key
	for _, m := range p.Manuals {
		k := key{m.Reason, m.Remedy}
		if counts[k] == 0 {
			order = append(order, k)
		}
		counts[k]++
	}
	slices.SortStableFunc(order, func(a, b key) int { return counts[b] - counts[a] })
	fmt.Fprintf(s.env.Out, "\nFor a person to do (%s):\n", plural(len(p.Manuals), "resource"))
	const most = 8
	for i, k := range order {
		if i == most {
			fmt.Fprintf(s.env.Out, "  … and %s; `imdsctl show` lists them all.\n", plural(len(order)-most, "other reason"))
			break
		}
		fmt.Fprintln(s.env.Out, s.out.wrap(fmt.Sprintf("  %s× %s", count(counts[k]), k.reason), "    "))
		if k.remedy != "" {
			fmt.Fprintln(s.env.Out, s.out.wrap("    → "+k.remedy, "      "))
		}
	}
}
