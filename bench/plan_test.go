package bench

import (
	"context"
	"io"
	"testing"
	"time"

	"github.com/imdsctl/imdsctl/internal/app"
	"github.com/imdsctl/imdsctl/internal/assess"
	"github.com/imdsctl/imdsctl/internal/evidence"
	"github.com/imdsctl/imdsctl/internal/fleet"
	"github.com/imdsctl/imdsctl/internal/inventory"
	"github.com/imdsctl/imdsctl/internal/kind"
	"github.com/imdsctl/imdsctl/internal/kinds/all"
	"github.com/imdsctl/imdsctl/internal/plan"
	"github.com/imdsctl/imdsctl/internal/policy"
	"github.com/imdsctl/imdsctl/internal/store"
)

// planResult is what the planning processes tell.
type planResult struct {
	usage
	// Read is the time of reading alone, Written of writing the plan.
	Read, Written time.Duration
	Resources     int
	Changes       int
	Stacks        int
	Verdicts      map[string]int
}

// planFleet is the process of `imdsctl plan` without its face: from the database to the plan's file, which is thrown away.
func planFleet(j job) (any, error) {
	a, err := app.New(app.Options{Config: configuration(j.Fleet.Regions, false), DBPath: j.Database, Version: "bench", Actor: "bench"})
	if err != nil {
		return nil, err
	}
	begun := time.Now()
	p, err := a.Plan(context.Background(), app.PlanOptions{})
	if err != nil {
		return nil, err
	}
	out := planResult{usage: measured(begun), Changes: len(p.Plan.Changes), Stacks: len(p.Plan.Stacks), Verdicts: p.Plan.Header.Summary.Verdicts}
	begun = time.Now()
	if err := a.WritePlan(context.Background(), io.Discard, "plan.json", p.Plan); err != nil {
		return nil, err
	}
	out.Written = time.Since(begun)
	return out, a.Close()
}

// found is one place as the database has it.
type found struct {
	snapshot *inventory.Snapshot
	windows  map[fleet.Ref][]*evidence.Window
}

// judgeFleet is the process that judges and plans what is in memory already.
func judgeFleet(j job) (any, error) {
	begun := time.Now()
	fleetFound, err := readAll(j.Database)
	if err != nil {
		return nil, err
	}
	out := planResult{Read: time.Since(begun)}
	config := configuration(j.Fleet.Regions, false)
	now := fleetFound[0].snapshot.Taken
	kinds := all.List()
	begun = time.Now()
	b := plan.NewBuilder(config, plan.Header{Created: now, Tool: "bench"}, func(*plan.Change) error { return nil })
	for _, f := range fleetFound {
		in := assess.Input{Manners: manners(), Snapshot: f.snapshot, Evidence: f.windows, Policy: config, Now: now}
		for _, ws := range f.windows {
			in.Span = ws[0].Span
			break
		}
		out.Resources += len(f.snapshot.Resources)
		report := assess.Place(in)
		if err := b.Add(proposal(kinds, f.snapshot, report)); err != nil {
			return nil, err
		}
	}
	p := b.Finish()
	out.usage = measured(begun)
	out.Changes, out.Stacks, out.Verdicts = len(p.Changes), len(p.Stacks), p.Header.Summary.Verdicts
	return out, nil
}

// proposal asks every kind what it needs.
func proposal(kinds []all.Entry, snap *inventory.Snapshot, report *assess.Report) plan.Proposal {
	out := plan.Proposal{Account: policy.AccountFacts{ID: snap.Account.ID, Name: snap.Account.Name}, Report: report}
	byName := map[string]kind.Kind{}
	for _, e := range kinds {
		byName[e.Kind.Name] = e.Kind
	}
	for _, v := range report.All() {
		k := byName[v.Ref.Kind]
		if k.Propose == nil {
			continue
		}
		needs, manuals := k.Propose(kind.Case{Resource: report.Index.Resource(v.Ref), Verdict: v, Index: report.Index, Judge: report.Verdict})
		out.Needs, out.Manuals = append(out.Needs, needs...), append(out.Manuals, manuals...)
	}
	return out
}

func readAll(path string) ([]found, error) {
	db, err := store.Open(path, store.Options{})
	if err != nil {
		return nil, err
	}
	defer db.Close()
	ctx := context.Background()
	list, err := db.Places(ctx)
	if err != nil {
		return nil, err
	}
	var out []found
	for _, p := range list {
		snap, err := db.Snapshot(ctx, p)
		if err != nil {
			return nil, err
		}
		windows, err := db.EvidenceOf(ctx, p)
		if err != nil {
			return nil, err
		}
		out = append(out, found{snap, windows})
	}
	return out, nil
}

// BenchmarkPlan judges and plans the scanned fleet: in memory, and from the database as `imdsctl plan` does.
func BenchmarkPlan(b *testing.B) {
	j := scanned.database(b, size(b))
	for b.Loop() {
		pure, _ := perform[planResult](b, "judge", j)
		whole, cpu := perform[planResult](b, "plan", j)
		if pure.Changes == 0 || whole.Changes != pure.Changes || whole.Stacks != pure.Stacks {
			b.Fatalf("%d changes in %d stacks from memory, %d in %d from the database", pure.Changes, pure.Stacks, whole.Changes, whole.Stacks)
		}
		b.Logf("%s; %d resources, verdicts %v, %d changes in %d stacks", machine(), pure.Resources, whole.Verdicts, whole.Changes, whole.Stacks)
		b.ReportMetric(pure.Wall.Seconds(), "s-judge-and-plan")
		b.ReportMetric(whole.Wall.Seconds(), "s-from-database")
		b.ReportMetric(whole.Written.Seconds(), "s-writing")
		b.ReportMetric(cpu.Seconds(), "cpu-s")
		b.ReportMetric(whole.Wall.Seconds()/pure.Read.Seconds(), "time/reading")
		b.ReportMetric(pure.Wall.Seconds()/pure.Read.Seconds(), "judge/reading")
		b.ReportMetric(whole.Peak, "MiB-peak")
	}
	b.ReportMetric(0, "ns/op")
}

// manners are those of the kinds that the tests have.
func manners() map[string]assess.Manner {
	return map[string]assess.Manner{
		inventory.KindInstance:        {Role: assess.RoleHost, Metric: true},
		inventory.KindAutoScaling:     {Role: assess.RoleLauncher, Metric: true},
		inventory.KindLaunchTemplate:  {Role: assess.RoleSource, Metric: true},
		inventory.KindAccountDefaults: {Role: assess.RoleDefault, Metric: true},
	}
}
