package cli

import (
	"fmt"
	"strings"

	"github.com/imdsctl/imdsctl/internal/app"
	"github.com/imdsctl/imdsctl/internal/assess"
	"github.com/imdsctl/imdsctl/internal/plan"
	"github.com/imdsctl/imdsctl/internal/report"
)

// riskLevel is a level in its colour.
func (s *session) riskLevel(l assess.RiskLevel) string {
	style := dim
	switch l {
	case assess.RiskCritical:
		style = red + bold
	case assess.RiskHigh:
		style = red
	case assess.RiskMedium, assess.RiskUnknown:
		style = yellow
	}
	return s.out.paint(style, string(l))
}

// riskWord is the risk of what was judged in a word; a dash for what has none.
func (s *session) riskWord(v *assess.Verdict) string {
	if v == nil || v.Risk == nil {
		return s.out.paint(dim, "-")
	}
	return s.riskLevel(v.Risk.Level)
}

// riskLine is a risk's parts in one line.
func riskLine(r *assess.Risk) string { return strings.Join(report.RiskParts(r), "; ") }

// whyRisk prints the parts of an instance's risk.
func (s *session) whyRisk(w *app.WhyReport) {
	if w.Verdict == nil || w.Verdict.Risk == nil {
		return
	}
	fmt.Fprintf(s.env.Out, "\n  Risk: %s, %d of 100 points\n", s.riskLevel(w.Verdict.Risk.Level), w.Verdict.Risk.Score)
	for _, part := range report.RiskParts(w.Verdict.Risk) {
		fmt.Fprintln(s.env.Out, s.out.wrap("  • "+part, "      "))
	}
}

// stackRisk is the risk of a stack in a word; a dash where the plan does not say it.
func (s *session) stackRisk(st *plan.Stack) string {
	if st.Risk == nil {
		return s.out.paint(dim, "-")
	}
	return s.riskLevel(st.Risk.Level)
}

// showStackRisk prints the parts of a stack's risk, and whose it is.
func (s *session) showStackRisk(st *plan.Stack) {
	if st.Risk == nil {
		return
	}
	fmt.Fprintf(s.env.Out, "  risk %s, %d of 100 points, of %s\n", s.riskLevel(st.Risk.Level), st.Risk.Score, st.RiskOf.ID)
	for _, part := range report.RiskParts(st.Risk) {
		fmt.Fprintln(s.env.Out, s.out.wrap("  • "+part, "      "))
	}
}
