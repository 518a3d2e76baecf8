package assess_test

import (
	"fmt"
	"testing"

	"github.com/imdsctl/imdsctl/internal/assess"
	"github.com/imdsctl/imdsctl/internal/evidence"
	"github.com/imdsctl/imdsctl/internal/fleet"
	"github.com/imdsctl/imdsctl/internal/inventory"
	"github.com/imdsctl/imdsctl/internal/policy"
)

// BenchmarkPlace judges 10,000 instances of 500 groups in one place, alone and with 50,000 findings of calls and daily counts.
func BenchmarkPlace(b *testing.B) {
	w := newWorld()
	for g := range 500 {
		w.template(fmt.Sprintf("lt-%d", g), map[string]fleet.Options{"1": {Tokens: "optional"}}, "1", "1")
		w.group(fmt.Sprintf("asg-%d", g), fmt.Sprintf("lt-%d", g), "1")
		for i := range 20 {
			ref := w.instance(fmt.Sprintf("i-%d-%d", g, i), 3, memberOf(fmt.Sprintf("asg-%d", g)), launchedFrom(fmt.Sprintf("lt-%d", g)))
			w.covers(ref, 14, 0, 0)
		}
	}
	in := assess.Input{Manners: manners(), Snapshot: &inventory.Snapshot{Place: place, Resources: w.resources}, Evidence: w.evidence, Span: span,
		Policy: policy.Default(), Now: now}
	run := func(b *testing.B) {
		for b.Loop() {
			assess.Place(in)
		}
		b.ReportMetric(float64(b.N)*10_000/b.Elapsed().Seconds(), "instances/s")
	}
	b.Run("metric", run)
	for g := range 500 {
		for i := range 20 {
			ref := fleet.Ref{Place: place, Kind: inventory.KindInstance, ID: fmt.Sprintf("i-%d-%d", g, i)}
			w.looksBack(ref, 200, 20, 50, 81)
			for d := range 5 {
				in.Findings = append(in.Findings, called(evidence.Subject{Account: place.Account, Kind: ref.Kind, ID: ref.ID}, float64(15+9*d), 7))
			}
		}
	}
	in.History = w.history
	b.Run("all", run)
}
