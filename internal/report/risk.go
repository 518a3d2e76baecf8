package report

import (
	"fmt"

	"github.com/imdsctl/imdsctl/internal/assess"
)

// RiskParts are the parts of a risk in words, each with its points, and at the end what keeps the level below the score.
func RiskParts(r *assess.Risk) []string {
	var out []string
	for _, p := range r.Parts {
		points := fmt.Sprintf("+%d", p.Points)
		if p.Most > 0 {
			points = fmt.Sprintf("up to +%d", p.Most)
		}
		out = append(out, points+" "+p.Text)
	}
	if r.Cap != "" {
		out = append(out, r.Cap)
	}
	return out
}
