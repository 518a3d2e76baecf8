package cli

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/imdsctl/imdsctl/internal/app"
	"github.com/imdsctl/imdsctl/internal/fleet"
	"github.com/imdsctl/imdsctl/internal/plan"
	"github.com/imdsctl/imdsctl/internal/report"
)

func (s *session) showCommand() *cobra.Command {
	var o showOptions
	cmd := &cobra.Command{
		Use: "show PLAN", Short: "Show a plan: its waves and stacks, or every change of a stack", GroupID: groupDo,
		Args: cobra.ExactArgs(1),
		Long: `Shows a plan file and checks it: a file that was edited is refused, because its digest no longer fits.
It needs neither AWS nor the database. --format html writes one page, without scripts or anything from a network,
that a change board can read, print and sign; of a large plan it lists a part one by one, and says what it leaves
out.`,
		Example: `  imdsctl show plan.json
  imdsctl show plan.json --stack s-0a1b2c3d4e5f      # before, after, evidence and undo of each change
  imdsctl show plan.json --format json | jq '.changes[].ref'
  imdsctl show plan.json --format html --out plan.html   # for a change board`,
		Annotations: formats("table json html"),
		RunE: func(_ *cobra.Command, args []string) error {
			p, err := readPlan(args[0])
			if err != nil {
				return err
			}
			if s.format == "html" {
				return s.showPage(p, args[0], o)
			}
			if o.out != "" {
				return misuse("--out", "Give --format html, or direct the output into a file.", "only a page is written to a file")
			}
			return s.show(p, o.stack, o.all)
		},
	}
	f := cmd.Flags()
	f.StringVar(&o.stack, "stack", "", "only the stack of this `id` or name, in detail")
	f.BoolVar(&o.all, "all", false, "every stack in detail")
	f.StringVarP(&o.out, "out", "o", "", "write the page of --format html to this `file`")
	f.BoolVar(&o.force, "force", false, "overwrite an existing file")
	return cmd
}

type showOptions struct {
	stack, out string
	all, force bool
}

// readPlan reads a plan file. A file that is not there is wrong usage.
func readPlan(path string) (*plan.Plan, error) {
	p, err := app.ReadPlan(path)
	if err != nil {
		return nil, err
	}
	return p, nil
}

type showJSON struct {
	Format  int           `json:"imdsctl_show"`
	Digest  string        `json:"digest"`
	Header  plan.Header   `json:"header"`
	Stacks  []plan.Stack  `json:"stacks"`
	Changes []plan.Change `json:"changes"`
	Manuals []plan.Manual `json:"manual_steps"`
	Exempt  []plan.Exempt `json:"exempt"`
}

func (s *session) show(p *plan.Plan, stack string, all bool) error {
	stacks := p.Stacks
	if stack != "" {
		stacks = nil
		for _, st := range p.Stacks {
			if st.ID == stack || st.Name == stack {
				stacks = append(stacks, st)
			}
		}
		if len(stacks) == 0 {
			return misuse("--stack", "`imdsctl show` lists the stacks with their ids.", "the plan has no stack %q", stack)
		}
	}
	if s.format == "json" {
		d := showJSON{jsonVersion, p.Digest, p.Header, stacks, []plan.Change{}, p.Manuals, p.Exempt}
		for _, c := range p.Changes {
			if stack == "" || slices.ContainsFunc(stacks, func(st plan.Stack) bool { return st.ID == c.Stack }) {
				d.Changes = append(d.Changes, c)
			}
		}
		d.Manuals, d.Exempt = append([]plan.Manual{}, d.Manuals...), append([]plan.Exempt{}, d.Exempt...)
		return writeJSON(s.env.Out, d)
	}
	if stack != "" || all {
		for i := range stacks {
			s.showStack(p, &stacks[i])
		}
		return nil
	}
	fmt.Fprintf(s.env.Out, "Plan %s, made %s by imdsctl %s\n", s.out.paint(bold, p.Digest[:12]),
		p.Header.Created.UTC().Format("2006-01-02 15:04 UTC"), p.Header.Tool)
	s.showPlan(p)
	if len(p.Stacks) > 0 {
		s.showRules(p)
		fmt.Fprintln(s.env.Out)
		s.showStacks(p)
	}
	s.showExempt(p)
	s.showCallTotals(p)
	return nil
}

func (s *session) showStacks(p *plan.Plan) {
	stacks := slices.Clone(p.Stacks)
	slices.SortStableFunc(stacks, func(a, b plan.Stack) int { return cmp.Compare(a.Wave, b.Wave) })
	now := s.now()
	var rows [][]string
	for i := range stacks {
		st := &stacks[i]
		changes, bake := 0, time.Duration(0)
		for _, step := range st.Steps {
			changes, bake = changes+step.Changes, bake+step.Bake
		}
		rows = append(rows, []string{turnOf(st), st.ID, st.Name, s.stackRisk(st), string(st.Place.Account), string(st.Place.Region), stepWords(st),
			brief(bake), count(changes), s.startWords(p, st, now)})
	}
	columns := []column{
		{title: "WAVE"}, {title: "STACK"}, {title: "NAME", flexible: true, floor: 14}, {title: "RISK"}, {title: "ACCOUNT"}, {title: "REGION"},
		{title: "STEPS", flexible: true, floor: 12}, {title: "BAKE", right: true}, {title: "CHANGES", right: true},
		{title: "MAY START", flexible: true, floor: 10},
	}
	keep := len(columns)
	if len(p.Header.Calendars) == 0 {
		keep--
	}
	if s.out.width > 0 && s.out.width < 130 { // the steps have the changes, and the calendars are listed above
		keep = len(columns) - 2
	}
	for i := range rows {
		rows[i] = rows[i][:keep]
	}
	fmt.Fprint(s.env.Out, s.out.table(columns[:keep], rows))
}

// startWords says when changes of a stack may start next.
func (s *session) startWords(p *plan.Plan, st *plan.Stack, now time.Time) string {
	if st.Calendar <= 0 || st.Calendar > len(p.Header.Calendars) {
		return "any time"
	}
	o := p.Header.Calendars[st.Calendar-1].At(now)
	switch {
	case o.Open:
		return "now"
	case o.Until.IsZero():
		return "never"
	}
	return s.out.paint(yellow, clockWords(o.Until, now))
}

func (s *session) showStack(p *plan.Plan, st *plan.Stack) {
	ring := ""
	if st.Ring > 0 {
		ring = fmt.Sprintf(", ring %d", st.Ring+1)
	}
	fmt.Fprintf(s.env.Out, "%s %s  wave %d (%s)%s, account %s, %s, %s criticality\n", s.out.paint(bold, st.ID),
		s.out.paint(bold, visible(st.Name)), st.Wave+1, p.Header.Waves[st.Wave].Name, ring, st.Place.Account, st.Place.Region, st.Criticality)
	s.showStackRisk(st)
	s.showStackHead(p, st)
	for i, step := range st.Steps {
		share := ""
		if step.Share != "" && step.Share != "100%" {
			share = " (" + step.Share + " of the stage)"
		}
		fmt.Fprintf(s.env.Out, "\n  %s: %s%s, then watched for %s\n", s.out.paint(cyan, step.Name),
			plural(step.Changes, "change"), share, brief(step.Bake))
		for j := range p.Changes {
			if c := &p.Changes[j]; c.Stack == st.ID && c.Step == i {
				s.showChange(c)
			}
		}
	}
	fmt.Fprintln(s.env.Out)
}

func (s *session) showChange(c *plan.Change) {
	if c.Ref.Kind == plan.KindFollowUp {
		fmt.Fprintln(s.env.Out, s.out.labelled(fmt.Sprintf("    %s  %s ", s.out.paint(bold, resourceOf(c)), s.out.paint(dim, c.ID)),
			report.FollowUp(c)))
		return
	}
	name := c.Name
	if name != "" && name != c.Ref.ID {
		name = " " + visible(name)
	} else {
		name = ""
	}
	fmt.Fprintf(s.env.Out, "    %s%s  %s %s\n", s.out.paint(bold, c.Ref.ID), name, c.Ref.Kind, s.out.paint(dim, c.Action))
	for _, d := range fleet.Diff(c.Before, c.After) {
		before, after := d.Before, d.After
		if !d.HadBefore {
			before = "(unset)"
		}
		if !d.HasAfter {
			after = "(unset)"
		}
		fmt.Fprintf(s.env.Out, "      %s: %s → %s\n", d.Field, s.out.paint(red, before), s.out.paint(green, after))
	}
	fmt.Fprintln(s.env.Out, s.out.labelled("      "+s.out.paint(dim, "why  "), c.Why))
	e := c.Evidence
	if e.Periods > 0 {
		fmt.Fprintf(s.env.Out, "      %s%s v1 calls, %d of %d periods, %s, %s\n", s.out.paint(dim, "saw  "), count(e.Calls),
			e.Covered,
			e.Periods, plural(e.Boots, "boot"), plural(e.Members, "member"))
	}
	if e.Sources != "" {
		fmt.Fprintln(s.env.Out, s.out.labelled("      "+s.out.paint(dim, "from "), e.Sources))
	}
	if c.Owner.IsCode() {
		fmt.Fprintln(s.env.Out, s.out.labelled("      "+s.out.paint(yellow, "code "), codeWords(c.Owner)))
	}
	if c.Override != "" {
		fmt.Fprintln(s.env.Out, s.out.labelled("      "+s.out.paint(yellow, "override  "), c.Override))
	}
	for _, command := range c.Inverse {
		fmt.Fprintf(s.env.Out, "      %s%s\n", s.out.paint(dim, "undo "), command)
	}
	if c.Residue != "" {
		fmt.Fprintln(s.env.Out, s.out.labelled("      "+s.out.paint(dim, "left "), c.Residue))
	}
}

// codeWords say what is to be done about the code that says a setting too.
func codeWords(o fleet.Owner) string {
	name := o.String()
	if o.Name == "" {
		name += " (its tags do not tell which)"
	}
	return "also to be set in " + name + ", which changes it back otherwise"
}

func (s *session) showExempt(p *plan.Plan) {
	if len(p.Exempt) == 0 {
		return
	}
	fmt.Fprintf(s.env.Out, "\nExempt, never touched (%s):\n", plural(len(p.Exempt), "resource"))
	var rows [][]string
	for _, e := range p.Exempt {
		rows = append(rows, []string{"  " + e.Ref.ID, e.Name, e.Expires, e.Owner, e.Reason})
	}
	fmt.Fprint(s.env.Out, s.out.table([]column{
		{title: "  RESOURCE", flexible: true, floor: 20}, {title: "NAME", flexible: true, floor: 10}, {title: "UNTIL"},
		{title: "OWNER", flexible: true, floor: 10}, {title: "REASON", flexible: true, floor: 16},
	}, rows))
}

func (s *session) showCallTotals(p *plan.Plan) {
	total := 0
	for _, n := range p.Header.Summary.Calls {
		total += n
	}
	if total > 0 {
		fmt.Fprintf(s.env.Out, "\nIt takes about %s besides the gates.\n", plural(total, "AWS call"))
	}
}
