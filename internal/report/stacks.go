package report

import (
	"cmp"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/imdsctl/imdsctl/internal/assess"
	"github.com/imdsctl/imdsctl/internal/fleet"
	"github.com/imdsctl/imdsctl/internal/plan"
	"github.com/imdsctl/imdsctl/internal/policy"
)

// stackRow is a stack in one line.
type stackRow struct {
	*plan.Stack
	Number, WaveName, Steps string
	Changes                 int
	Bake                    time.Duration
	MayStart                string
}

// stackView is a stack with its changes.
type stackView struct {
	stackRow
	Gates []string
	After int
	Parts []stepView
}

type stepView struct {
	plan.Step
	Partly bool // the step makes a share of the stage's changes
	Forms  []form
}

// form is what several changes of a step have in common; it stands on the page once.
type form struct {
	Sample    *plan.Change
	FollowUp  string // what a follow-up does; "" for a change
	Fields    []fieldRow
	Evidence  string
	Reads     string // AWS calls of one of them
	Count     int
	Resources list[*plan.Change]
}

type fieldRow struct{ Field, Before, After string }

// stacks puts each stack on the page in one of three ways: with its changes, in a line, or counted with its place. Those that a
// board must look at (overrides, disruption, no way back) come first into the limits; the page keeps the plan's order.
func (v *view) stacks(p *plan.Plan, limits Limits) {
	of := make(map[string][]*plan.Change, len(p.Stacks))
	grave := map[string]bool{}
	for i := range p.Changes {
		c := &p.Changes[i]
		of[c.Stack] = append(of[c.Stack], c)
		if c.Ref.Kind != plan.KindFollowUp && (c.Override != "" || c.Undo == plan.UndoNone || c.Disruption != undisrupted) {
			grave[c.Stack] = true
		}
	}
	detailed := map[string]*stackView{}
	for _, first := range []bool{true, false} {
		for i := range p.Stacks {
			s := &p.Stacks[i]
			if grave[s.ID] == first && len(detailed) < limits.Stacks && v.Listed < limits.Changes {
				detailed[s.ID] = v.detail(p, rowOf(p, s), of[s.ID], limits)
			}
		}
	}
	var brief []stackRow
	for i := range p.Stacks {
		s := &p.Stacks[i]
		if d := detailed[s.ID]; d != nil {
			v.Detailed = append(v.Detailed, d)
			continue
		}
		brief = append(brief, rowOf(p, s))
		v.Unlisted += len(of[s.ID])
	}
	v.Brief = clip(brief, limits.Rows)
}

func rowOf(p *plan.Plan, s *plan.Stack) stackRow {
	r := stackRow{Stack: s, Number: fmt.Sprint(s.Wave + 1), WaveName: p.Header.Waves[s.Wave].Name, MayStart: "at any time"}
	if s.Ring > 0 {
		r.Number += fmt.Sprintf(".%d", s.Ring+1)
	}
	if s.Calendar > 0 {
		r.MayStart = mayStart(p.Header.Calendars[s.Calendar-1])
	}
	var steps []string
	for _, step := range s.Steps {
		r.Changes, r.Bake = r.Changes+step.Changes, r.Bake+step.Bake
		steps = append(steps, fmt.Sprintf("%s (%s)", step.Name, Count(step.Changes)))
	}
	r.Steps = strings.Join(steps, ", ")
	return r
}

// mayStart says when a calendar lets changes start, within a sentence.
func mayStart(c policy.Calendar) string {
	windows, freezes := CalendarLines(policy.Calendar{Windows: c.Windows}), CalendarLines(policy.Calendar{Freezes: c.Freezes})
	words := "at any time"
	if len(windows) > 0 {
		words = "in " + strings.Join(windows, " or ")
	}
	if len(freezes) > 0 {
		words += ", but not in " + strings.Join(freezes, " or ")
	}
	return words
}

func (v *view) detail(p *plan.Plan, row stackRow, changes []*plan.Change, limits Limits) *stackView {
	out := &stackView{stackRow: row, After: len(row.After)}
	for _, g := range row.Stack.Gates {
		out.Gates = append(out.Gates, GateName(p.Header.Rules.Gates[g])+": "+GateTarget(p.Header.Rules.Gates[g]))
	}
	for i, step := range row.Stack.Steps {
		part := stepView{Step: step, Partly: step.Share != "" && step.Share != "100%"}
		part.Forms = v.forms(slices.DeleteFunc(slices.Clone(changes), func(c *plan.Change) bool { return c.Step != i }), limits)
		out.Parts = append(out.Parts, part)
	}
	return out
}

// forms groups the changes of a step that say the same, in the order in which they are made.
func (v *view) forms(changes []*plan.Change, limits Limits) []form {
	var out []form
	at := map[string]int{}
	for _, c := range changes {
		f := formOf(c)
		k := f.key()
		i, ok := at[k]
		if !ok {
			i = len(out)
			at[k], out = i, append(out, f)
		}
		out[i].Count++
		if r := &out[i].Resources; len(r.Rows) < limits.PerForm {
			r.Rows = append(r.Rows, c)
			v.Listed++
		} else {
			r.Left++
			v.Unlisted++
		}
	}
	return out
}

func formOf(c *plan.Change) form {
	f := form{Sample: c}
	if c.Ref.Kind == plan.KindFollowUp {
		f.FollowUp = FollowUp(c)
		return f
	}
	for _, d := range fleet.Diff(c.Before, c.After) {
		row := fieldRow{d.Field, "unset", "unset"}
		if d.HadBefore {
			row.Before = output(d.Before)
		}
		if d.HasAfter {
			row.After = output(d.After)
		}
		f.Fields = append(f.Fields, row)
	}
	f.Evidence = evidenceWords(c.Evidence)
	f.Reads = callWords(c.Calls)
	return f
}

// key is equal for changes that differ in their resource only.
func (f *form) key() string {
	c := f.Sample
	return strings.Join([]string{c.Ref.Kind, c.Action, fmt.Sprint(f.Fields), f.Evidence, f.FollowUp, c.Why, c.Undo, c.Disruption,
		c.Residue, c.Override, f.Reads, string(c.Class)}, "\x00")
}

// reference is how a value names what an earlier change will have made.
var reference = regexp.MustCompile(`\$\{(c-[0-9a-f]{12})\.([A-Za-z]+)\}`)

// output puts a name that people read in the place of what is not known yet.
func output(value string) string {
	return cmp.Or(reference.ReplaceAllString(value, "‹$2 that change $1 makes›"), "(empty)")
}

// evidenceWords is what a change rests on, in one line with its numbers.
func evidenceWords(e plan.Evidence) string {
	if e.Periods == 0 {
		return e.Reason
	}
	words := fmt.Sprintf("%s: %s v1 calls; %s of %s periods covered from %s to %s; %s; %s reported", e.Verdict, Count(e.Calls), Count(e.Covered),
		Count(e.Periods), stamp(e.Start), stamp(e.End), Plural(e.Boots, "boot"), Plural(e.Members, "instance"))
	if e.Source != "" {
		words += "; source " + e.Source
	}
	if e.Lineage != "" {
		words += "; of " + e.Lineage
	}
	if e.Sources != "" {
		words += "; all sources: " + e.Sources
	}
	if e.Reason != "" && (e.Verdict != string(assess.Ready) || e.Calls > 0) { // else it says the numbers again
		words += ". " + e.Reason
	}
	return words
}

func callWords(calls map[string]int) string {
	var out []string
	for _, t := range tallies(calls) {
		out = append(out, fmt.Sprintf("%s × %s", Count(t.Count), t.Name))
	}
	return strings.Join(out, ", ")
}
