// Package report writes documents for people who decide and keep records: so far, a plan as a page that a change board can
// read, print and sign.
//
// It owns their words, shape and limits of size. A page stands alone: it needs no script, no picture and nothing from a
// network, and it holds text from AWS as text only, because html/template writes every value of it. It decides nothing and
// reads no clock. What it leaves out, because no browser opens a page of 100,000 changes, it counts and names the command that
// shows it.
package report

import (
	_ "embed" // the page's template
	"fmt"
	"html/template"
	"io"
	"strings"
	"time"

	"github.com/imdsctl/imdsctl/internal/inventory"
	"github.com/imdsctl/imdsctl/internal/plan"
)

// Options say what a page is written with.
type Options struct {
	// Now is the time on the page.
	Now time.Time
	// File is the plan's file, for the commands on the page.
	File string
	// Gaps are the scopes that could not be read, where they are at hand; a plan only counts them.
	Gaps []inventory.Scope
	// Limits bound the page; the zero value is DefaultLimits.
	Limits Limits
}

// Limits bound how much a page lists one by one. What is over a limit is counted.
type Limits struct {
	// Stacks have each of their changes on the page; Rows are further stacks in a line each.
	Stacks, Rows int
	// Changes are listed in all, PerForm of those in one step that do the same.
	Changes, PerForm int
	// List bounds every other list.
	List int
}

// DefaultLimits keep a page below about 4 MB, which every browser opens at once.
func DefaultLimits() Limits {
	return Limits{Stacks: 800, Rows: 5000, Changes: 6000, PerForm: 25, List: 300}
}

// Unlimited lists everything, for plans of some thousand changes.
func Unlimited() Limits {
	const all = 1 << 40
	return Limits{Stacks: all, Rows: all, Changes: all, PerForm: all, List: all}
}

//go:embed plan.html
var planPage string

// Plan writes a plan as one HTML page. A plan without a digest, which was not written to a file, gets no box for signatures: nobody
// can carry it out. An error is the writer's.
func Plan(w io.Writer, p *plan.Plan, o Options) error {
	if o.Limits == (Limits{}) {
		o.Limits = DefaultLimits()
	}
	page, err := template.New("plan").Funcs(template.FuncMap{
		"count": func(n int) string { return Count(n) }, "plural": func(n int, noun string) string { return Plural(n, noun) },
		"plural64": func(n int64, noun string) string { return Plural(n, noun) },
		"noun":     func(n int, noun string) string { return strings.TrimPrefix(Plural(n, noun), Count(n)+" ") },
		"brief":    Brief, "time": stamp, "ahead": ahead, "riskParts": RiskParts,
	}).Parse(planPage)
	if err != nil {
		return fmt.Errorf("the page of a plan: %w", err)
	}
	if err := page.Execute(w, newView(p, o)); err != nil {
		return fmt.Errorf("write the page of the plan: %w", err)
	}
	return nil
}

func stamp(t time.Time) string {
	if t.IsZero() {
		return "unknown"
	}
	return t.UTC().Format("2006-01-02 15:04 UTC")
}

// ahead says how long one time lies before another: "3h00m before".
func ahead(first, then time.Time) string {
	if d := then.Sub(first); d >= time.Minute {
		return Brief(d) + " before"
	}
	return "just before"
}
