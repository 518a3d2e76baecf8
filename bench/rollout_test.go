package bench

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/imdsctl/imdsctl/internal/app"
	"github.com/imdsctl/imdsctl/internal/awssim/core"
	"github.com/imdsctl/imdsctl/internal/fleet"
	"github.com/imdsctl/imdsctl/internal/policy"
	"github.com/imdsctl/imdsctl/internal/rollout"
	"github.com/imdsctl/imdsctl/internal/store"
	"github.com/imdsctl/imdsctl/test/postgres"
)

// The organization of the rollouts, and how many instances each of its places has: few, unless a larger size is asked for, and
// then so many that the buckets' burst is a small part of it.
const (
	rolloutAccounts = 5
	rolloutPerPlace = 80
	largerPerPlace  = 160
)

// The bucket of the write that nearly all changes make, ModifyInstanceMetadataOptions, in each account and region. See
// https://docs.aws.amazon.com/ec2/latest/devguide/ec2-api-throttling.html.
const (
	writeAction = "ec2:ModifyInstanceMetadataOptions"
	writeBurst  = 100
	writeRefill = 5
)

// rolloutConfig waits for nothing but AWS: no bake, no gate that waits for a datapoint, and room for everything at once.
func rolloutConfig(in []fleet.Region) *policy.Config {
	return parseConfig("version: 1\norganization: {discover: organizations, regions: [" + strings.Join(names(in), ", ") + `]}
evidence: {require_boot: false, min_coverage: 0.5}
bake: {low: 0s, medium: 0s, high: 0s, critical: 0s}
gates: {heartbeat: none, delay: 0s, interval: 2s, target_health: false, launch_proof: 0s}
rollout: {max_in_flight: 10000, max_in_flight_per_account: 0, concurrency: 10000, concurrency_per_account: 0}
`)
}

func openRollout(j job) (*app.App, error) {
	return app.New(app.Options{Config: rolloutConfig(j.Fleet.Regions), DBPath: j.Database, Version: "bench", Actor: "bench",
		Engine: app.EngineOptions{PollInterval: 200 * time.Millisecond}})
}

// planned is what a rollout is to do: the changes, and the writes of the kind that is limited most, by place.
type planned struct {
	Changes, Stacks int
	Writes          map[string]int
}

// prepareRollout is the process that scans, plans, and writes the plan's file.
func prepareRollout(j job) (any, error) {
	ctx := context.Background()
	a, err := openRollout(j)
	if err != nil {
		return nil, err
	}
	sum, err := a.Scan(ctx, app.ScanOptions{})
	if err != nil || len(sum.Gaps) > 0 {
		return nil, fmt.Errorf("scan: %w, gaps %v", err, sum.Gaps)
	}
	p, err := a.Plan(ctx, app.PlanOptions{})
	if err != nil {
		return nil, err
	}
	var file bytes.Buffer
	if err := a.WritePlan(ctx, &file, j.Plan, p.Plan); err != nil {
		return nil, err
	}
	if err := os.WriteFile(j.Plan, file.Bytes(), 0o600); err != nil {
		return nil, err
	}
	out := planned{Changes: len(p.Plan.Changes), Stacks: len(p.Plan.Stacks), Writes: map[string]int{}}
	for i := range p.Plan.Changes {
		c := &p.Plan.Changes[i]
		out.Writes[c.Ref.Place.String()] += c.Calls[writeAction]
	}
	return out, a.Close()
}

// applied is what the process of `imdsctl apply` tells. Took is the journal's time from the beginning of the rollout to its
// end.
type applied struct {
	usage
	Took   time.Duration
	Counts app.ChangeCounts
}

// applyPlan is the process of `imdsctl apply`: with SQLite it does all the work, on PostgreSQL it watches the workers.
func applyPlan(j job) (any, error) {
	a, err := openRollout(j)
	if err != nil {
		return nil, err
	}
	p, err := app.ReadPlan(j.Plan)
	if err != nil {
		return nil, err
	}
	begun := time.Now()
	res, err := a.Apply(context.Background(), p, app.ApplyOptions{Yes: true, Watch: store.IsPostgres(j.Database),
		RollbackFile: filepath.Join(j.Scratch, "rollback.sh")})
	if err != nil {
		return nil, err
	}
	if r := res.Record; r.Status != rollout.Done || res.Counts.Verified != res.Counts.Total {
		return nil, fmt.Errorf("the rollout is %s, %+v: %s", r.Status, res.Counts, r.Reason)
	}
	return applied{usage: measured(begun), Took: res.Record.Updated.Sub(res.Record.Created), Counts: res.Counts}, a.Close()
}

// workOn is the process of `imdsctl worker`. It ends with its standard input.
func workOn(j job) (any, error) {
	a, err := openRollout(j)
	if err != nil {
		return nil, err
	}
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		stop()
	}()
	begun := time.Now()
	if err := a.Work(ctx, app.WorkerOptions{}); err != nil && !errors.Is(err, context.Canceled) {
		return nil, err
	}
	return measured(begun), a.Close()
}

// crew is a number of workers in processes of their own.
type crew struct {
	workers []*exec.Cmd
	stdin   []io.Closer
}

func startCrew(b *testing.B, n int, j job, environment []string) *crew {
	b.Helper()
	c := &crew{}
	for range n {
		cmd := child(b, "work", j, environment...)
		stdin, err := cmd.StdinPipe()
		if err != nil {
			b.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			b.Fatal(err)
		}
		c.workers, c.stdin = append(c.workers, cmd), append(c.stdin, stdin)
	}
	return c
}

// dismiss ends the workers, and gives their processor time.
func (c *crew) dismiss(b *testing.B) (cpu time.Duration) {
	b.Helper()
	for i, cmd := range c.workers {
		if err := errors.Join(c.stdin[i].Close(), cmd.Wait()); err != nil {
			b.Errorf("a worker: %v", err)
		}
		cpu += cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()
	}
	return cpu
}

// pace is how long the writes take at the least, with imdsctl's share of AWS's limit: from full buckets, or from empty ones as
// whoever takes a lane over has.
func (p planned) pace(share float64, full bool) time.Duration {
	most := 0.0
	for _, n := range p.Writes {
		wait := float64(n)
		if full {
			wait -= writeBurst * share
		}
		most = max(most, wait/(writeRefill*share))
	}
	return time.Duration(most * float64(time.Second))
}

func (p planned) writes() int {
	n := 0
	for _, k := range p.Writes {
		n += k
	}
	return n
}

// asked is what AWS was asked for during a rollout.
type asked struct {
	// Calls are those of an action, Throttled those that were refused for their rate, Effects the writes that changed something.
	Calls              map[string]int
	Throttled, Effects int
	// Busiest is how long the calls of one action in one place take at the pace of imdsctl's share, for the worst of them, which
	// Worst names.
	Busiest time.Duration
	Worst   string
}

// refills are the paces of the calls of which a change makes many, calls a second.
var refills = map[string]float64{writeAction: writeRefill, "ec2:DescribeInstances": 20, "ec2:GetInstanceMetadataDefaults": 2}

// callsSince reads the log of the simulator. It gives the log's end too.
func callsSince(b *testing.B, endpoint string, since int64, share float64) (asked, int64) {
	b.Helper()
	resp, err := http.Get(fmt.Sprintf("%s/_sim/calls?since=%d", endpoint, since))
	if err != nil {
		b.Fatal(err)
	}
	defer resp.Body.Close()
	out := asked{Calls: map[string]int{}}
	type bucket struct{ place, action string }
	taken := map[bucket]int{}
	for dec := json.NewDecoder(resp.Body); ; {
		var c core.CallRecord
		if err := dec.Decode(&c); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			b.Fatal(err)
		}
		since = c.Seq
		action := c.Service + ":" + c.Action
		out.Calls[action]++
		taken[bucket{string(c.Account) + " " + string(c.Region), action}]++
		if action == writeAction && c.Mutated {
			out.Effects++
		}
		if c.Code == "RequestLimitExceeded" || strings.HasPrefix(c.Code, "Throttling") {
			out.Throttled++
		}
	}
	for t, n := range taken {
		if refill := refills[t.action]; refill > 0 {
			if d := time.Duration(float64(n) / (refill * share) * float64(time.Second)); d > out.Busiest {
				out.Busiest, out.Worst = d, t.action
			}
		}
	}
	return out, since
}

// BenchmarkRollout carries a plan out while AWS's limits hold on both sides, and compares it with the pace of the buckets.
func BenchmarkRollout(b *testing.B) {
	b.Run("sqlite", func(b *testing.B) { benchmarkRollout(b, 0) })
	for _, n := range []int{1, 3} {
		b.Run(fmt.Sprintf("postgres/workers=%d", n), func(b *testing.B) { benchmarkRollout(b, n) })
	}
}

func benchmarkRollout(b *testing.B, workers int) {
	if testing.Short() {
		b.Skip("left out with -short")
	}
	size := rolloutPerPlace
	if changesAsked(b) > 0 {
		size = largerPerPlace
	}
	for b.Loop() {
		// A bucket that one rollout has emptied is not full for the next: each has an AWS of its own.
		sim := simulate(b, job{Instances: size * rolloutAccounts * regions, Accounts: rolloutAccounts, Limited: true})
		j := job{Fleet: sim.fleetShape, Scratch: b.TempDir()}
		j.Database, j.Plan = filepath.Join(j.Scratch, "imdsctl.db"), filepath.Join(j.Scratch, "plan.json")
		if workers > 0 {
			j.Database = postgres.Start(b).Database(b)
		}
		todo, _ := perform[planned](b, "prepare", j, sim.environment()...)
		share := rolloutConfig(sim.Regions).Limits.Safety
		_, end := callsSince(b, sim.Endpoint, 0, share)
		before := sim.used()
		c := startCrew(b, workers, j, sim.environment())
		got, cpu := perform[applied](b, "apply", j, sim.environment()...)
		cpu += c.dismiss(b)
		after := sim.used()
		made, _ := callsSince(b, sim.Endpoint, end, share)
		if made.Effects != todo.writes() || got.Counts.Written != todo.Changes {
			b.Errorf("%d writes of %d took effect, %d of %d changes were written", made.Effects, todo.writes(), got.Counts.Written, todo.Changes)
		}
		if made.Throttled > 0 {
			b.Errorf("%d calls were throttled: more were made than imdsctl's share of the limits allows", made.Throttled)
		}
		full, empty := todo.pace(share, true), todo.pace(share, false)
		b.Logf("%s; %d changes in %d stacks and %d places; the most waited for is %s; calls: %v", machine(), todo.Changes, todo.Stacks,
			len(todo.Writes), made.Worst, made.Calls)
		b.ReportMetric(got.Took.Seconds(), "s")
		b.ReportMetric(float64(todo.Changes)/got.Took.Seconds(), "changes/s")
		b.ReportMetric(float64(todo.Changes)/full.Seconds(), "limit-changes/s")
		b.ReportMetric(got.Took.Seconds()/full.Seconds(), "time/limit")
		b.ReportMetric(got.Took.Seconds()/empty.Seconds(), "time/limit-from-empty")
		b.ReportMetric(got.Took.Seconds()/made.Busiest.Seconds(), "time/pace-of-calls")
		b.ReportMetric(float64(made.Calls[writeAction])/float64(made.Effects), "asked/write")
		b.ReportMetric(float64(made.Calls["ec2:DescribeInstances"])/float64(todo.Changes), "reads/change")
		b.ReportMetric(1e3*cpu.Seconds()/float64(todo.Changes), "cpu-ms/change")
		b.ReportMetric(1e3*(after.CPU-before.CPU).Seconds()/float64(todo.Changes), "sim-cpu-ms/change")
		sim.stop(b)
	}
	b.ReportMetric(0, "ns/op")
}
