package cli

import (
	"bytes"
	"fmt"
	"strings"
	"testing"

	"github.com/imdsctl/imdsctl/internal/fleet"
	"github.com/imdsctl/imdsctl/internal/plan"
)

// A thousand changes that differ in the same way are told once, and what is not listed is counted.
func TestAlikeDifferencesAreToldOnce(t *testing.T) {
	d := &plan.Differences{}
	for i := range 1000 {
		e := plan.Entry{Ref: fleet.Ref{Kind: "ec2-instance", ID: fmt.Sprintf("i-%d", i)}, Action: "set-options", Fields: []plan.Field{
			{Field: "before HttpTokens", Old: "optional", New: "required"}, {Field: "undo by hand", Old: fmt.Sprint(i), New: "x"},
		}}
		if i%2 == 0 {
			d.Differ = append(d.Differ, e)
			continue
		}
		e.Fields = nil
		d.Came = append(d.Came, e)
	}
	var out bytes.Buffer
	s := newSession(Env{Out: &out, Err: &out, Getenv: func(string) string { return "" }})
	s.showDifferences("change", d, 20)
	text := out.String()
	if !strings.Contains(text, "Changes: 500 came, 0 went, 500 differ") || !strings.Contains(text, "i-0 (ec2-instance) set-options, and 499 more alike") ||
		!strings.Contains(text, "… and 480 more") || strings.Contains(text, "undo by hand") || strings.Count(text, "\n") > 26 {
		t.Error(text)
	}
}
