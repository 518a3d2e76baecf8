package bench

import (
	"bytes"
	"context"
	"path/filepath"
	"testing"
	"time"

	"github.com/imdsctl/imdsctl/internal/app"
	"github.com/imdsctl/imdsctl/internal/plan"
)

// rehearsed is what the process of `imdsctl rehearse` tells. Simulated is how long the rollout takes by the rehearsal, Estimated
// by the plan.
type rehearsed struct {
	usage
	Simulated, Estimated time.Duration
	Status               string
	Changes, Stacks      int
	Calls, Throttled     int64
}

// rehearsePlan is the process of `imdsctl rehearse`, of the plan in j.Plan, or else of one that is made from the database.
func rehearsePlan(j job) (any, error) {
	ctx := context.Background()
	config := rolloutConfig(j.Fleet.Regions)
	if j.Plan == "" {
		config = configuration(j.Fleet.Regions, true)
	}
	a, err := app.New(app.Options{Config: config, DBPath: j.Database, Version: "bench", Actor: "bench"})
	if err != nil {
		return nil, err
	}
	p, err := planOf(ctx, a, j)
	if err != nil {
		return nil, err
	}
	begun := time.Now()
	r, err := a.Rehearse(ctx, p, app.RehearseOptions{})
	if err != nil {
		return nil, err
	}
	out := rehearsed{usage: measured(begun), Simulated: r.Duration(), Status: string(r.Status), Changes: len(p.Changes), Stacks: len(p.Stacks)}
	if p.Header.Estimate != nil {
		out.Estimated = p.Header.Estimate.Duration()
	}
	for _, n := range r.Calls {
		out.Calls += n.Calls
		out.Throttled += n.Throttles
	}
	return out, a.Close()
}

func planOf(ctx context.Context, a *app.App, j job) (*plan.Plan, error) {
	if j.Plan != "" {
		return app.ReadPlan(j.Plan)
	}
	made, err := a.Plan(ctx, app.PlanOptions{})
	if err != nil {
		return nil, err
	}
	var file bytes.Buffer
	if err := a.WritePlan(ctx, &file, "plan.json", made.Plan); err != nil {
		return nil, err
	}
	return plan.Read(&file, "plan.json")
}

// BenchmarkRehearse rehearses a plan for the scanned fleet, under AWS's limits and the default bakes.
func BenchmarkRehearse(b *testing.B) {
	j := scanned.database(b, size(b))
	for b.Loop() {
		r, _ := perform[rehearsed](b, "rehearse", j)
		if r.Status != "done" {
			b.Fatalf("the rehearsal ended as %s: %+v", r.Status, r)
		}
		b.Logf("%s; %d changes in %d stacks, %d calls; the rollout takes %s, by the plan's estimate %s", machine(), r.Changes, r.Stacks,
			r.Calls, r.Simulated.Round(time.Minute), r.Estimated.Round(time.Minute))
		b.ReportMetric(r.Wall.Seconds(), "s")
		b.ReportMetric(r.CPU.Seconds(), "cpu-s")
		b.ReportMetric(1e6*r.CPU.Seconds()/float64(r.Calls), "cpu-µs/call")
		b.ReportMetric(r.Peak, "MiB")
		b.ReportMetric(r.Estimated.Seconds()/r.Simulated.Seconds(), "estimate/rehearsal")
		b.ReportMetric(float64(r.Throttled), "throttled")
	}
	b.ReportMetric(0, "ns/op")
}

// predictedWithin is how far a rehearsal may be from the run that it predicts.
const predictedWithin = 0.1

// BenchmarkPrediction carries a small plan out in real time, against a simulated AWS with its limits, and compares what that took
// with what a rehearsal of the same plan says.
func BenchmarkPrediction(b *testing.B) {
	if testing.Short() {
		b.Skip("left out with -short")
	}
	for b.Loop() {
		sim := simulate(b, job{Instances: rolloutPerPlace * rolloutAccounts * regions, Accounts: rolloutAccounts, Limited: true})
		j := job{Fleet: sim.fleetShape, Scratch: b.TempDir()}
		j.Database, j.Plan = filepath.Join(j.Scratch, "imdsctl.db"), filepath.Join(j.Scratch, "plan.json")
		todo, _ := perform[planned](b, "prepare", j, sim.environment()...)
		said, _ := perform[rehearsed](b, "rehearse", j)
		got, _ := perform[applied](b, "apply", j, sim.environment()...)
		sim.stop(b)
		ratio := said.Simulated.Seconds() / got.Took.Seconds()
		b.Logf("%s; %d changes: rehearsed %s in %s, took %s, estimated %s", machine(), todo.Changes, said.Simulated.Round(time.Second),
			said.Wall.Round(time.Second), got.Took.Round(time.Second), said.Estimated.Round(time.Second))
		b.ReportMetric(got.Took.Seconds(), "s")
		b.ReportMetric(said.Simulated.Seconds(), "rehearsed-s")
		b.ReportMetric(ratio, "rehearsed/took")
		b.ReportMetric(said.Estimated.Seconds()/got.Took.Seconds(), "estimated/took")
		if ratio < 1-predictedWithin || ratio > 1+predictedWithin {
			b.Errorf("the rehearsal is off by %.0f %%", 100*(ratio-1))
		}
	}
	b.ReportMetric(0, "ns/op")
}
